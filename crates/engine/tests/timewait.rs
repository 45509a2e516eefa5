//! TIME_WAIT: how long, what it answers, who may take its place.

mod common;

use common::script::*;
use common::*;
use estab_engine::proto::trace::OptionTrace;
use estab_engine::proto::{State, TraceKind};
use estab_engine::*;
use std::time::Duration;

/// A connection with timestamps that we closed first; in TIME_WAIT at the script's 20 ms, RCV.NXT 2, SND.NXT 2.
fn timewait(s: &mut Script) -> SocketId {
    let listener = s.listen(16);
    s.inject("S 0:0(0) win 1000 <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 7>");
    s.expect("S. 0:0(0) ack 1");
    s.run_ms(20);
    s.inject(". 1:1(0) ack 1 win 1000 <nop,nop,TS val 101 ecr 1000>");
    let (id, _) = s.sock(listener).accept().unwrap();
    s.sock(id).close();
    s.expect("F. 1:1(0) ack 1");
    s.inject("F. 1:1(0) ack 2 win 1000 <nop,nop,TS val 102 ecr 1020>");
    s.expect(". 2:2(0) ack 2");
    assert_eq!(s.host.states(s.now), [State::TimeWait]);
    s.host.take_trace();
    listener
}

#[track_caller]
fn still(s: &mut Script, states: &[State]) {
    assert_eq!(s.host.states(s.now), states);
}

#[test]
fn it_lasts_60_s_or_twice_the_msl_that_is_set() {
    let mut s = Script::new();
    timewait(&mut s);
    s.run_ms(59_999);
    still(&mut s, &[State::TimeWait]);
    s.run_ms(1);
    still(&mut s, &[]);
    let mut s = Script::new();
    s.host.sysctl("estab.tcp_msl_ms", "500");
    timewait(&mut s);
    s.run_ms(999);
    still(&mut s, &[State::TimeWait]);
    s.run_ms(1);
    still(&mut s, &[]);
}

#[test]
fn a_repeated_fin_is_acknowledged_again_and_begins_the_wait_anew() {
    let mut s = Script::new();
    timewait(&mut s);
    s.run_ms(50_000);
    s.inject("F. 1:1(0) ack 2 win 1000 <nop,nop,TS val 103 ecr 1020>");
    s.expect(". 2:2(0) ack 2 win 64 <nop,nop,TS val 51020 ecr 102>");
    s.run_ms(59_999);
    still(&mut s, &[State::TimeWait]);
    s.run_ms(1);
    still(&mut s, &[]);
}

#[test]
fn answers_to_repeats_are_rate_limited() {
    let mut s = Script::new();
    timewait(&mut s);
    s.inject(". 1:1(0) ack 2 win 1000 <nop,nop,TS val 103 ecr 1020>");
    s.expect(". 2:2(0) ack 2");
    s.inject(". 1:1(0) ack 2 win 1000 <nop,nop,TS val 103 ecr 1020>");
    s.quiet(400);
    assert_eq!(s.host.counter("TcpExtTCPACKSkippedTimeWait"), 1);
    s.run_ms(101);
    s.inject(". 1:1(0) ack 2 win 1000 <nop,nop,TS val 103 ecr 1020>");
    s.expect(". 2:2(0) ack 2");
}

#[test]
fn an_exact_ack_is_silent_and_begins_the_wait_anew() {
    let mut s = Script::new();
    timewait(&mut s);
    s.run_ms(50_000);
    s.inject(". 2:2(0) ack 2 win 1000 <nop,nop,TS val 103 ecr 1020>");
    s.quiet(59_999);
    still(&mut s, &[State::TimeWait]);
}

#[test]
fn an_exact_reset_ends_it_unless_rfc1337_says_no() {
    let mut s = Script::new();
    timewait(&mut s);
    s.inject("R 9:9(0) win 0");
    still(&mut s, &[State::TimeWait]);
    s.inject("R 2:2(0) win 0");
    still(&mut s, &[]);
    let mut s = Script::new();
    s.host.sysctl("net.ipv4.tcp_rfc1337", "1");
    timewait(&mut s);
    s.inject("R 2:2(0) win 0");
    still(&mut s, &[State::TimeWait]);
}

#[test]
fn a_syn_with_a_newer_number_or_timestamp_opens_a_new_connection() {
    // The old one's SND.NXT was 2.
    for syn in [
        "S 500:500(0) win 1000 <mss 1460,sackOK,TS val 103 ecr 0>",
        "S 500:500(0) win 1000 <mss 1460>",
    ] {
        let mut s = Script::new();
        timewait(&mut s);
        let old = s.iss.unwrap();
        s.inject(syn);
        let ack = s.expect("S. 0:0(0) ack 501");
        assert_eq!(ack, 20);
        assert_eq!(s.iss.unwrap().wrapping_sub(old), 2 + 65537);
        still(&mut s, &[State::SynRcvd]);
        assert_eq!(s.host.moves(), ["TIME-WAIT>SYN-RECEIVED"]);
        assert_eq!(s.host.counter("TcpExtTWRecycled"), 0);
    }
}

#[test]
fn an_old_syn_is_acknowledged_as_a_repeat() {
    let mut s = Script::new();
    timewait(&mut s);
    s.inject("S 0:0(0) win 1000 <mss 1460,sackOK,TS val 90 ecr 0>");
    s.expect(". 2:2(0) ack 2");
    still(&mut s, &[State::TimeWait]);
    assert_eq!(s.host.counter("TcpExtPAWSTimewait"), 1);
}

#[test]
fn past_max_tw_buckets_connections_just_end() {
    let mut s = Script::new();
    s.host.sysctl("net.ipv4.tcp_max_tw_buckets", "0");
    let (id, _) = s.accepted();
    s.sock(id).close();
    s.expect("F. 1:1(0) ack 1");
    s.inject("F. 1:1(0) ack 2 win 1000");
    s.expect(". 2:2(0) ack 2");
    still(&mut s, &[]);
    assert_eq!(s.host.counter("TcpExtTCPTimeWaitOverflow"), 1);
    assert!(s.host.events.contains(&Event::Closed(id)));
}

// --- who may reuse it

/// A connection of ours from port 5000 that we closed; in TIME_WAIT.
fn outgoing(p: &mut Pair, bind: bool) -> SocketId {
    let listener = p.listen(B, 80, 10);
    let a = p.hosts[A].stack.socket(Family::V4, Kind::Stream).unwrap();
    if bind {
        p.sock(A, a).bind(addr(A_ADDR, 5000)).unwrap();
    }
    p.sock(A, a).connect(addr(B_ADDR, 80)).unwrap();
    p.run_ms(50);
    let (b, _) = p.sock(B, listener).accept().unwrap();
    p.close(A, a);
    p.run_ms(60);
    p.close(B, b);
    p.run_ms(60);
    assert_eq!(p.hosts[A].states(p.now), [State::TimeWait]);
    listener
}

#[test]
fn tw_reuse_lets_an_outgoing_connection_take_its_place_after_a_second() {
    for (knob, waited, opens) in [
        ("1", 1500, true),
        ("1", 500, false),
        ("0", 1500, false),
        ("2", 1500, false),
    ] {
        let mut p = Pair::new();
        p.hosts[A].sysctl("net.ipv4.ip_local_port_range", "5000 5000");
        p.hosts[A].sysctl("net.ipv4.tcp_tw_reuse", knob);
        let listener = outgoing(&mut p, false);
        p.run_ms(waited);
        let a = p.hosts[A].stack.socket(Family::V4, Kind::Stream).unwrap();
        let result = p.sock(A, a).connect(addr(B_ADDR, 80));
        assert_eq!(
            result.is_ok(),
            opens,
            "tcp_tw_reuse {knob} after {waited} ms: {result:?}"
        );
        assert_eq!(p.hosts[A].counter("TcpExtTWRecycled"), u64::from(opens));
        if opens {
            p.run_ms(50);
            assert!(p.sock(B, listener).accept().is_ok());
        }
    }
}

#[test]
fn tw_reuse_delay_is_what_it_must_rest() {
    let mut p = Pair::new();
    p.hosts[A].sysctl("net.ipv4.ip_local_port_range", "5000 5000");
    p.hosts[A].sysctl("net.ipv4.tcp_tw_reuse", "1");
    p.hosts[A].sysctl("net.ipv4.tcp_tw_reuse_delay", "100");
    outgoing(&mut p, false);
    p.run_ms(150);
    p.connect(A, addr(B_ADDR, 80));
}

#[test]
fn a_bound_port_in_time_wait_needs_reuseaddr() {
    let mut p = Pair::new();
    outgoing(&mut p, true);
    let a = p.hosts[A].stack.socket(Family::V4, Kind::Stream).unwrap();
    assert_eq!(p.sock(A, a).bind(addr(A_ADDR, 5000)), Err(SockError::EADDRINUSE));
    p.run_s(60);
    assert_eq!(p.sock(A, a).bind(addr(A_ADDR, 5000)), Ok(()));
}

#[test]
fn a_listener_restarts_over_its_own_time_waits_with_reuseaddr_only() {
    for reuse in [false, true] {
        let mut s = Script::new();
        let first = s.socket();
        s.sock(first).set_option(SockOption::ReuseAddr(reuse)).unwrap();
        s.sock(first).bind(addr("0.0.0.0", 8080)).unwrap();
        s.sock(first).listen(5).unwrap();
        s.inject("S 0:0(0) win 1000 <mss 1460>");
        s.expect("S. 0:0(0) ack 1");
        s.inject(". 1:1(0) ack 1 win 1000");
        let (id, _) = s.sock(first).accept().unwrap();
        s.sock(id).close();
        s.expect("F. 1:1(0) ack 1");
        s.inject("F. 1:1(0) ack 2 win 1000");
        s.sock(first).close();
        still(&mut s, &[State::TimeWait]);
        let second = s.socket();
        s.sock(second).set_option(SockOption::ReuseAddr(true)).unwrap();
        let bound = s.sock(second).bind(addr("0.0.0.0", 8080));
        assert_eq!(bound.is_ok(), reuse, "{bound:?}");
        if reuse {
            s.sock(second).listen(5).unwrap();
        }
    }
}

/// The time and the TSval of the last segment that a host sent.
fn last_timestamp(host: &Host) -> (u64, u32) {
    let sent = host.take_trace().into_iter().rev().find_map(|event| match event.kind {
        TraceKind::Sent(segment) => segment.options.iter().find_map(|option| match option {
            OptionTrace::Timestamps { val, .. } => Some((event.at_ns / 1_000_000, *val)),
            _ => None,
        }),
        _ => None,
    });
    sent.expect("a segment with timestamps")
}

#[test]
fn its_timestamps_go_on_from_its_connections() {
    for knob in ["1", "2"] {
        let mut p = Pair::new();
        p.hosts[A].sysctl("net.ipv4.tcp_timestamps", knob);
        let (a, b, _) = p.open();
        let (began, first) = last_timestamp(&p.hosts[A]);
        p.close(A, a);
        p.run_ms(50);
        // The ACK of B's FIN is lost: B repeats it, and what is left of A answers.
        p.links[A] = Box::new(|_| None);
        p.close(B, b);
        p.run_ms(50);
        assert_eq!(p.hosts[A].states(p.now), [State::TimeWait]);
        p.hosts[A].take_trace();
        p.links[A] = Box::new(|_| Some(Duration::from_millis(10)));
        p.run_s(2);
        assert_eq!(p.hosts[B].states(p.now), [], "its FIN was acknowledged");
        let (at, last) = last_timestamp(&p.hosts[A]);
        assert_eq!(u64::from(last.wrapping_sub(first)), at - began);
    }
}
