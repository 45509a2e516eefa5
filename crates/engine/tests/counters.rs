//! What is counted when: TCP's counters mean what Linux's mean.

mod common;

use common::script::*;
use estab_engine::*;

#[test]
fn out_segs_leaves_out_what_was_sent_before() {
    let mut s = Script::new();
    let out = |s: &Script| (s.host.counter("TcpOutSegs"), s.host.counter("TcpRetransSegs"));
    let id = s.connect();
    s.expect("S 0:0(0)");
    assert_eq!(out(&s), (1, 0));
    s.expect_at(1000, "S 0:0(0)");
    assert_eq!(out(&s), (1, 1));
    s.inject("S. 0:0(0) ack 1 win 65535 <mss 1460>");
    s.expect(". 1:1(0) ack 1");
    assert_eq!(out(&s), (2, 1));
    s.sock(id).send(&[7; 3000], SendFlags::default()).unwrap();
    for segment in [
        ". 1:1461(1460) ack 1",
        ". 1461:2921(1460) ack 1",
        "P. 2921:3001(80) ack 1",
    ] {
        s.expect(segment);
    }
    assert_eq!(out(&s), (5, 1));
    s.expect(". 1:1461(1460) ack 1");
    assert_eq!(out(&s), (5, 2));
    s.inject(". 1:1(0) ack 3001 win 65535");
    s.sock(id).close();
    s.expect("F. 3001:3001(0) ack 1");
    s.expect("F. 3001:3001(0) ack 1");
    assert_eq!(out(&s), (6, 3));
}

/// A SYN-ACK counts each time it leaves (Linux: `tcp_make_synack`).
#[test]
fn a_repeated_syn_ack_is_in_both_counters() {
    let mut s = Script::new();
    s.listen(5);
    s.inject("S 0:0(0) win 65535 <mss 1460>");
    s.expect("S. 0:0(0) ack 1");
    s.expect_at(1000, "S. 0:0(0) ack 1");
    assert_eq!((s.host.counter("TcpOutSegs"), s.host.counter("TcpRetransSegs")), (2, 1));
}

#[test]
fn a_super_packet_counts_as_its_segments() {
    let mut s = Script::with(IfaceConfig {
        gso_max_size: 65536,
        ..common::wire()
    });
    let id = s.connected();
    let before = s.host.counter("TcpOutSegs");
    s.sock(id).send(&[7; 5840], SendFlags::default()).unwrap();
    s.expect("P. 1:5841(5840) ack 1");
    assert_eq!(s.host.counter("TcpOutSegs") - before, 4);
    assert_eq!(s.sock(id).info().unwrap().segs_out, 2 + 4);
}

#[test]
fn an_active_open_counts_when_its_syn_leaves() {
    let mut s = Script::new();
    let id = s.socket();
    s.sock(id).set_option(SockOption::FastOpenConnect(true)).unwrap();
    let remote = s.remote;
    s.sock(id).connect(remote).unwrap();
    s.local = s.sock(id).local_addr().unwrap();
    s.drain();
    s.expect("S 0:0(0) <mss 1460,sackOK,TS val 1000 ecr 0,nop,wscale 10,FO,nop,nop>");
    s.inject("S. 0:0(0) ack 1 win 65535 <mss 1460,FO 0102030405060708>");
    s.expect(". 1:1(0) ack 1");
    assert_eq!(s.host.counter("TcpActiveOpens"), 1);

    // With a cookie connect waits for the first write.
    let id = s.socket();
    s.sock(id).set_option(SockOption::FastOpenConnect(true)).unwrap();
    s.sock(id).connect(remote).unwrap();
    s.quiet(100);
    assert_eq!(s.host.counter("TcpActiveOpens"), 1, "nothing has left");
    s.sock(id).send(b"hello", SendFlags::default()).unwrap();
    s.local = s.sock(id).local_addr().unwrap();
    s.expect("S 0:5(5)");
    assert_eq!(s.host.counter("TcpActiveOpens"), 2);
}
