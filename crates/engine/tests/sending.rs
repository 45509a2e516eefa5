//! What an application's bytes become on the wire, and what a user sees of it: whole stacks in packet scripts.

mod common;

use common::script::*;
use common::{A, B_ADDR, Pair, addr};
use estab_engine::*;

fn send(s: &mut Script, id: SocketId, n: usize) -> usize {
    let taken = s.sock(id).send(&vec![7; n], SendFlags::default()).unwrap();
    s.drain();
    taken
}

#[test]
fn a_retransmission_counts_once() {
    let mut s = Script::new();
    let (id, _) = s.accepted();
    send(&mut s, id, 100);
    s.expect("P. 1:101(100) ack 1");
    s.expect("P. 1:101(100) ack 1");
    assert_eq!(s.host.counter("TcpRetransSegs"), 1);
    assert_eq!(s.sock(id).info().unwrap().total_retrans, 1);
}

#[test]
fn a_full_device_is_congestion_and_is_tried_again() {
    let mut s = Script::new();
    let (id, _) = s.accepted();
    s.host.stack.set_output_full(true);
    send(&mut s, id, 1000);
    s.quiet(2000);
    s.host.stack.set_output_full(false);
    s.run_ms(500);
    s.expect("P. 1:1001(1000) ack 1");
    assert!(s.sock(id).info().unwrap().snd_ssthresh < 10);
}

/// How often the turn passes from one of two connections to the other while both send what they wrote.
fn turns(limit: &str) -> usize {
    let mut pair = Pair::new();
    pair.hosts[A].sysctl("net.ipv4.tcp_limit_output_bytes", limit);
    let (first, _, _) = pair.open();
    let second = pair.connect(A, addr(B_ADDR, 80));
    pair.run_ms(100);
    for id in [first, second] {
        pair.send(A, id, &[7; 10_000]).unwrap();
    }
    let mut ports = Vec::new();
    let mut buf = [0; 2000];
    let now = pair.now;
    while pair.hosts[A].stack.poll_transmit(now, &mut buf).is_some() {
        ports.push(u16::from_be_bytes([buf[20], buf[21]]));
    }
    assert_eq!(ports.len(), 14, "both sent all");
    ports.windows(2).filter(|two| two[0] != two[1]).count()
}

#[test]
fn tcp_limit_output_bytes_gives_other_connections_a_turn() {
    assert_eq!(turns("4194304"), 1);
    assert!(turns("3000") > 3, "{}", turns("3000"));
}

/// The timeout of a second connection to a host whose round trip took 150 ms in the first.
fn second_timeout(tune: impl Fn(&mut Script)) -> u32 {
    let mut s = Script::new();
    tune(&mut s);
    let (id, listener) = s.accepted();
    send(&mut s, id, 100);
    s.expect("P. 1:101(100) ack 1");
    s.run_ms(150);
    s.inject(". 1:1(0) ack 101 win 65535");
    s.sock(id).close();
    s.expect("F. 101:101(0) ack 1");
    s.inject("F. 1:1(0) ack 102 win 65535");
    s.expect(". 102:102(0) ack 2");
    s.remote.set_port(40_001);
    s.inject("S 0:0(0) win 65535 <mss 1460>");
    s.expect("S. 0:0(0) ack 1");
    s.inject(". 1:1(0) ack 1 win 65535");
    let (id, _) = s.sock(listener).accept().unwrap();
    s.sock(id).info().unwrap().rto
}

#[test]
fn tcp_no_metrics_save_forgets_how_long_a_path_is() {
    let fresh = second_timeout(|s| s.host.sysctl("net.ipv4.tcp_no_metrics_save", "1"));
    assert!(second_timeout(|_| {}) > fresh, "{fresh}");
}
