//! What an application's bytes become on the wire, and what a user sees of it: whole stacks in packet scripts.

mod common;

use common::script::*;
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
