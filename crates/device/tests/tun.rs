//! A TUN in a network of its own, with the kernel's TCP on the other side.
//!
//! The device is made a mirror: each packet goes back with its addresses exchanged, so the kernel, connecting to
//! 10.9.0.2, talks to its own listener on 10.9.0.1 through it, offloads and all. (Exchanging addresses changes no
//! checksum.)
#![cfg(target_os = "linux")]

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{in_own_network, pattern, run};
use estab_device::{Device, Layer, Offloads, Rx, RxCsum, Tun, TunConfig, Tx, TxCsum};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What the mirror saw.
#[derive(Default, Debug)]
struct Seen {
    super_packets: usize,
    partial: usize,
    longest: usize,
}

fn exchange_addresses(packet: &mut [u8]) {
    let (at, len) = if packet[0] >> 4 == 4 { (12, 4) } else { (8, 16) };
    let (src, dst) = packet[at..at + 2 * len].split_at_mut(len);
    src.swap_with_slice(dst);
}

fn to_tx(rx: Rx) -> Tx {
    let csum = match rx.csum {
        RxCsum::Partial { start, offset } => TxCsum::Partial { start, offset },
        RxCsum::Verified | RxCsum::Unchecked => TxCsum::Full,
    };
    Tx {
        csum,
        gso_size: rx.gso_size,
    }
}

/// Reflects until `stop`.
fn mirror(mut tun: Tun, stop: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let mut buf = vec![0; tun.recv_max()];
    while !stop.load(Ordering::Relaxed) {
        while let Some(rx) = tun.recv(&mut buf).unwrap() {
            seen.super_packets += usize::from(rx.gso_size.is_some());
            seen.partial += usize::from(matches!(rx.csum, RxCsum::Partial { .. }));
            seen.longest = seen.longest.max(rx.len);
            exchange_addresses(&mut buf[..rx.len]);
            tun.send(&buf[..rx.len], to_tx(rx)).unwrap();
        }
        let tick = Timespec {
            tv_sec: 0,
            tv_nsec: 20_000_000,
        };
        poll(&mut [PollFd::new(&tun, PollFlags::IN)], Some(&tick)).unwrap();
    }
    seen
}

/// An interface with a mirror behind it while `body` runs.
fn with_mirrors(offloads: Offloads, queues: usize, body: impl FnOnce()) -> Vec<Seen> {
    let config = TunConfig {
        name: "mirror0".into(),
        layer: Layer::Ip,
        mtu: 1500,
        offloads,
        persist: false,
    };
    let tuns = Tun::open(&config, queues).unwrap();
    assert!(
        tuns.iter()
            .all(|tun| tun.name() == "mirror0" && tun.layer() == Layer::Ip)
    );
    run("ip link set lo up");
    run("ip link set mirror0 up mtu 1500");
    run("ip addr add 10.9.0.1/24 dev mirror0");
    run("ip -6 addr add fd09::1/64 dev mirror0 nodad");
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = tuns
        .into_iter()
        .map(|tun| {
            // As a queue received over a socket would be taken up.
            let tun = Tun::from_fd(tun.into_fd(), 1500).unwrap();
            let stop = Arc::clone(&stop);
            thread::spawn(move || mirror(tun, &stop))
        })
        .collect();
    body();
    stop.store(true, Ordering::Relaxed);
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

/// Sends `len` bytes to ourselves through the mirror and compares them.
fn transfer(to: &str, len: usize) {
    let local: IpAddr = if to.contains(':') { "fd09::1" } else { "10.9.0.1" }.parse().unwrap();
    let remote: IpAddr = to.parse().unwrap();
    let listener = TcpListener::bind((local, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let sent = pattern(len);
    let expected = sent.clone();
    let receiver = thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), remote);
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        received
    });
    let mut stream = TcpStream::connect((remote, port)).unwrap();
    stream.write_all(&sent).unwrap();
    drop(stream);
    assert!(receiver.join().unwrap() == expected, "the bytes differ");
}

fn counter(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/net/snmp").unwrap();
    let mut lines = text
        .lines()
        .filter(|line| line.starts_with(name.split('.').next().unwrap()));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let field = name.split('.').nth(1).unwrap();
    let at = names.split_whitespace().position(|found| found == field).unwrap();
    values.split_whitespace().nth(at).unwrap().parse().unwrap()
}

#[test]
fn kernel_super_packets_pass_whole() {
    in_own_network("kernel_super_packets_pass_whole", || {
        let seen = with_mirrors(Offloads::default(), 1, || {
            transfer("10.9.0.2", 8 << 20);
            transfer("fd09::2", 8 << 20);
        });
        assert!(seen[0].super_packets > 100, "{seen:?}");
        assert!(seen[0].longest > 30_000, "{seen:?}");
        assert!(seen[0].partial >= seen[0].super_packets, "{seen:?}");
        assert_eq!(counter("Tcp.InCsumErrors"), 0);
    });
}

#[test]
fn without_offloads_every_packet_is_whole_and_summed() {
    in_own_network("without_offloads_every_packet_is_whole_and_summed", || {
        let none = Offloads {
            csum: false,
            tso: false,
            uso: false,
        };
        let seen = with_mirrors(none, 1, || transfer("10.9.0.2", 1 << 20));
        assert_eq!((seen[0].super_packets, seen[0].partial, seen[0].longest), (0, 0, 1500));
        assert_eq!(counter("Tcp.InCsumErrors"), 0);
    });
}

#[test]
fn several_queues_carry_one_interface() {
    in_own_network("several_queues_carry_one_interface", || {
        let seen = with_mirrors(Offloads::default(), 4, || {
            let transfers: Vec<_> = (0..16)
                .map(|_| thread::spawn(|| transfer("10.9.0.2", 1 << 20)))
                .collect();
            transfers.into_iter().for_each(|transfer| transfer.join().unwrap());
        });
        let used = seen.iter().filter(|seen| seen.longest > 0).count();
        assert!(used > 1, "{seen:?}");
    });
}

#[test]
fn udp_super_datagrams_pass_when_asked_for() {
    in_own_network("udp_super_datagrams_pass_when_asked_for", || {
        let offloads = Offloads {
            uso: true,
            ..Offloads::default()
        };
        let seen = with_mirrors(offloads, 1, || {
            let receiver = UdpSocket::bind("10.9.0.1:0").unwrap();
            let sender = UdpSocket::bind("10.9.0.1:0").unwrap();
            let size: libc::c_int = 1000;
            // SAFETY: UDP_SEGMENT reads one int.
            let set = unsafe {
                let size = (&raw const size).cast();
                libc::setsockopt(sender.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, size, 4)
            };
            assert_eq!(set, 0);
            sender
                .send_to(&pattern(3500), ("10.9.0.2", receiver.local_addr().unwrap().port()))
                .unwrap();
            let mut buf = [0; 2000];
            let lengths: Vec<usize> = (0..4).map(|_| receiver.recv_from(&mut buf).unwrap().0).collect();
            assert_eq!(lengths, [1000, 1000, 1000, 500]);
        });
        // It came whole, and went back whole. (Linux has this since 6.2.)
        assert_eq!((seen[0].super_packets, seen[0].longest), (1, 3528), "{seen:?}");
    });
}

#[test]
fn a_tap_carries_ethernet() {
    in_own_network("a_tap_carries_ethernet", || {
        let config = TunConfig {
            name: "tap%d".into(),
            layer: Layer::Ethernet,
            ..TunConfig::default()
        };
        let mut tap = Tun::open(&config, 1).unwrap().remove(0);
        assert_eq!((tap.name(), tap.layer()), ("tap0", Layer::Ethernet));
        run("ip link set tap0 up");
        run("ip addr add 10.9.0.1/24 dev tap0");
        UdpSocket::bind("10.9.0.1:0")
            .unwrap()
            .send_to(b"x", "10.9.0.2:9")
            .unwrap();
        let mut buf = vec![0; tap.recv_max()];
        // The kernel asks who has 10.9.0.2; IPv6's chatter may come before.
        loop {
            poll(&mut [PollFd::new(&tap, PollFlags::IN)], None).unwrap();
            let rx = tap.recv(&mut buf).unwrap().unwrap();
            if buf[12..14] == [0x08, 0x06] {
                assert_eq!(buf[rx.len.min(42) - 4..42], [10, 9, 0, 2]);
                break;
            }
        }
    });
}

#[test]
fn offloads_that_do_not_fit_are_refused() {
    in_own_network("offloads_that_do_not_fit_are_refused", || {
        let mut tun = Tun::open(&TunConfig::default(), 1).unwrap().remove(0);
        let whole = Tx {
            csum: TxCsum::Full,
            gso_size: Some(1000),
        };
        let beyond = Tx {
            csum: TxCsum::Partial { start: 60, offset: 16 },
            gso_size: None,
        };
        let neither = Tx {
            csum: TxCsum::Partial { start: 20, offset: 2 },
            gso_size: Some(1000),
        };
        for tx in [whole, beyond, neither] {
            assert_eq!(
                tun.send(&[0x45; 60], tx).unwrap_err().kind(),
                std::io::ErrorKind::InvalidInput,
                "{tx:?}"
            );
        }
    });
}

#[test]
fn what_is_no_tun_is_refused() {
    let file = std::fs::File::open("/dev/null").unwrap();
    assert!(Tun::from_fd(file.into(), 1500).is_err());
}
