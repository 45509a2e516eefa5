use super::*;
use crate::SockError;

fn urgent(host: &mut Host, seq: u32, len: usize, pointer: u16) -> bool {
    let payload = bytes(seq as usize, len);
    let news = host.cx(|rcv, cx| rcv.urg(cx, IRS + seq, &payload, Some(pointer)));
    host.arrive(seq, len, TcpFlags::URG | TcpFlags::PSH);
    news
}

#[test]
fn the_urgent_byte_is_taken_out_of_the_stream_and_reads_stop_there() {
    let mut host = Host::new();
    assert!(urgent(&mut host, 1, 10, 5)); // The fifth byte: as BSD has it, the pointer points past it.
    assert!(host.rcv.urgent());
    assert_eq!(host.rcv.readable(), 4);
    assert_eq!(host.read(100), bytes(1, 4));
    assert!(host.rcv.at_mark());
    assert_eq!(host.rcv.read_urgent(true), Ok(byte(5)));
    assert_eq!(host.rcv.read_urgent(false), Ok(byte(5)));
    assert_eq!(host.rcv.read_urgent(false), Err(SockError::EINVAL));
    assert_eq!(host.rcv.readable(), 5);
    assert_eq!(host.read(100), bytes(6, 5));
    assert!(!host.rcv.at_mark());
    assert_eq!(host.rcv.truesize(), 0);
}

#[test]
fn with_tcp_stdurg_the_pointer_is_the_urgent_byte() {
    let mut host = Host::with(USUAL, |s| s.tcp_stdurg = 1);
    urgent(&mut host, 1, 10, 5);
    assert_eq!(host.rcv.read_urgent(false), Ok(byte(6)));
}

#[test]
fn inline_it_stays_in_the_stream_and_still_stops_reads() {
    let mut host = Host::new();
    host.rcv.set_oob_inline(true);
    urgent(&mut host, 1, 10, 5);
    assert_eq!(host.rcv.read_urgent(false), Err(SockError::EINVAL));
    assert_eq!(host.read(100), bytes(1, 4));
    assert_eq!(host.read(100), bytes(5, 6));
}

#[test]
fn an_announced_byte_that_has_not_come_is_eagain() {
    let mut host = Host::new();
    assert!(urgent(&mut host, 1, 10, 100));
    assert!(!host.rcv.urgent());
    assert_eq!(host.rcv.read_urgent(false), Err(SockError::EAGAIN));
    assert_eq!(host.rcv.readable(), 10);
    let payload = bytes(11, 100);
    assert!(host.cx(|rcv, cx| rcv.urg(cx, IRS + 11, &payload, None)));
    host.data(11, 100);
    assert_eq!(host.rcv.read_urgent(false), Ok(byte(100)));
    assert_eq!(host.read(500), bytes(1, 99));
    assert_eq!(host.read(500), bytes(101, 10));
}

#[test]
fn slices_show_what_a_read_would_give() {
    let mut host = Host::new();
    urgent(&mut host, 1, 40_000, 5);
    for expected in [bytes(1, 4), bytes(6, 39_995)] {
        let mut slices = [&[][..]; 8];
        let n = host.rcv.slices(&mut slices);
        assert_eq!(slices[..n].concat(), expected);
        let n = expected.len();
        host.cx(|rcv, cx| rcv.consume(cx, n));
    }
    assert_eq!(host.rcv.readable(), 0);
}
