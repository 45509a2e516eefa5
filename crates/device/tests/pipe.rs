//! The ends of a pipe behave as those of a veth, with bounds.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use estab_device::{Device, Pipe, RxCsum, Tx, TxCsum};

#[test]
fn packets_arrive_in_order_with_their_offloads() {
    let (mut a, mut b) = Pipe::pair(1500, 8, true);
    let tx = Tx {
        csum: TxCsum::Partial { start: 20, offset: 16 },
        gso_size: Some(1448),
    };
    a.send(b"first", Tx::default()).unwrap();
    a.send(b"second", tx).unwrap();

    let mut buf = [0; 64];
    let rx = b.recv(&mut buf).unwrap().unwrap();
    assert_eq!(
        (&buf[..rx.len], rx.csum, rx.gso_size),
        (&b"first"[..], RxCsum::Unchecked, None)
    );
    let rx = b.recv(&mut buf).unwrap().unwrap();
    assert_eq!(&buf[..rx.len], b"second");
    assert_eq!(
        (rx.csum, rx.gso_size),
        (RxCsum::Partial { start: 20, offset: 16 }, Some(1448))
    );
    assert_eq!(b.recv(&mut buf).unwrap(), None);
    assert_eq!(a.recv(&mut buf).unwrap(), None, "nothing comes back to the sender");
}

#[test]
fn a_full_queue_refuses_and_room_wakes_the_sender() {
    let (mut a, mut b) = Pipe::pair(1500, 2, false);
    let woken = Arc::new(AtomicUsize::new(0));
    let hook = Arc::clone(&woken);
    a.on_ready(move || {
        hook.fetch_add(1, Ordering::Relaxed);
    });
    a.send(&[1], Tx::default()).unwrap();
    a.send(&[2], Tx::default()).unwrap();
    assert_eq!(a.send(&[3], Tx::default()).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(woken.load(Ordering::Relaxed), 0);

    let mut buf = [0; 8];
    b.recv(&mut buf).unwrap().unwrap();
    assert_eq!((buf[0], woken.load(Ordering::Relaxed)), (1, 1));
    a.send(&[3], Tx::default()).unwrap();
}

#[test]
fn a_packet_wakes_the_receiver() {
    let (mut a, b) = Pipe::pair(1500, 2, false);
    let woken = Arc::new(AtomicUsize::new(0));
    let hook = Arc::clone(&woken);
    b.on_ready(move || {
        hook.fetch_add(1, Ordering::Relaxed);
    });
    a.send(&[1], Tx::default()).unwrap();
    assert_eq!(woken.load(Ordering::Relaxed), 1);
}

#[test]
fn a_dropped_end_is_told_after_its_packets() {
    let (mut a, mut b) = Pipe::pair(1500, 2, false);
    let woken = Arc::new(AtomicUsize::new(0));
    let hook = Arc::clone(&woken);
    b.on_ready(move || {
        hook.fetch_add(1, Ordering::Relaxed);
    });
    a.send(&[1], Tx::default()).unwrap();
    drop(a);
    assert_eq!(woken.load(Ordering::Relaxed), 2);
    let mut buf = [0; 8];
    assert!(b.recv(&mut buf).unwrap().is_some());
    assert_eq!(b.recv(&mut buf).unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(b.send(&[1], Tx::default()).unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn without_offloads_none_are_taken() {
    let (mut a, b) = Pipe::pair(1500, 2, false);
    let tx = Tx {
        csum: TxCsum::Partial { start: 20, offset: 16 },
        gso_size: None,
    };
    assert_eq!(a.send(&[0; 60], tx).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(!b.csum_offload());
    assert_eq!(b.gso_max_size(), 0);
}
