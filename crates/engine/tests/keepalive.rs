//! Keepalive and the other ways to find a dead peer.

mod common;

use common::script::*;
use estab_engine::proto::State;
use estab_engine::*;
use std::time::Duration;

#[test]
fn an_idle_connection_is_probed_after_two_hours_only_if_asked() {
    let mut s = Script::new();
    let (id, _) = s.accepted();
    s.quiet(10 * 3600 * 1000);
    s.sock(id).set_option(SockOption::KeepAlive(true)).unwrap();
    // The silence so far counts.
    s.expect(". 0:0(0) ack 1");
    s.inject(". 1:1(0) ack 1 win 1000");
    s.quiet(7_199_000);
    s.expect(". 0:0(0) ack 1");
}

#[test]
fn nine_unanswered_probes_75_s_apart_end_it() {
    let mut s = Script::new();
    let (id, _) = s.accepted();
    s.sock(id).set_option(SockOption::KeepAlive(true)).unwrap();
    for n in 0..9 {
        s.expect_at(7_200_000 + n * 75_000, ". 0:0(0) ack 1");
    }
    s.expect_at(7_200_000 + 9 * 75_000, "R. 1:1(0) ack 1");
    assert_eq!(s.sock(id).take_error(), Some(SockError::ETIMEDOUT));
    assert_eq!(s.sock(id).state(), State::Closed);
    assert_eq!(s.host.counter("TcpExtTCPKeepAlive"), 9);
    assert_eq!(s.host.counter("TcpExtTCPAbortOnTimeout"), 1);
}

#[test]
fn the_sysctls_and_the_options_set_the_three_numbers() {
    let mut s = Script::new();
    s.host.sysctl("net.ipv4.tcp_keepalive_time", "10");
    s.host.sysctl("net.ipv4.tcp_keepalive_intvl", "3");
    s.host.sysctl("net.ipv4.tcp_keepalive_probes", "2");
    let (id, listener) = s.accepted();
    s.sock(id).set_option(SockOption::KeepAlive(true)).unwrap();
    s.expect_at(10_000, ". 0:0(0) ack 1");
    s.expect_at(13_000, ". 0:0(0) ack 1");
    s.expect_at(16_000, "R. 1:1(0) ack 1");
    s.sock(id).close();
    s.sock(listener).close();

    let mut s = Script::new();
    let (id, _) = s.accepted();
    for option in [
        SockOption::KeepIdle(Duration::from_secs(5)),
        SockOption::KeepIntvl(Duration::from_secs(1)),
        SockOption::KeepCnt(1),
        SockOption::KeepAlive(true),
    ] {
        s.sock(id).set_option(option).unwrap();
    }
    s.expect_at(5_000, ". 0:0(0) ack 1");
    s.expect_at(6_000, "R. 1:1(0) ack 1");
}

#[test]
fn a_listeners_option_is_its_childrens() {
    let mut s = Script::new();
    s.host.sysctl("net.ipv4.tcp_keepalive_time", "10");
    let listener = s.listen(5);
    s.sock(listener).set_option(SockOption::KeepAlive(true)).unwrap();
    s.inject("S 0:0(0) win 1000 <mss 1460>");
    s.expect("S. 0:0(0) ack 1");
    s.inject(". 1:1(0) ack 1 win 1000");
    s.expect_at(10_000, ". 0:0(0) ack 1");
}

#[test]
fn a_probe_that_meets_a_reset_ends_it() {
    let mut s = Script::new();
    s.host.sysctl("net.ipv4.tcp_keepalive_time", "10");
    let (id, _) = s.accepted();
    s.sock(id).set_option(SockOption::KeepAlive(true)).unwrap();
    s.expect(". 0:0(0) ack 1");
    s.inject("R 1:1(0) win 0");
    assert_eq!(s.sock(id).take_error(), Some(SockError::ECONNRESET));
}

#[test]
fn a_peers_probe_is_answered() {
    let mut s = Script::new();
    s.accepted();
    s.inject(". 0:0(0) ack 1 win 1000");
    s.expect(". 1:1(0) ack 1");
}

#[test]
fn a_user_timeout_ends_a_connection_whose_data_is_not_acknowledged() {
    let mut s = Script::new();
    let (id, _) = s.accepted();
    s.sock(id)
        .set_option(SockOption::UserTimeout(Duration::from_secs(3)))
        .unwrap();
    s.sock(id).send(b"x", SendFlags::default()).unwrap();
    s.run_ms(2_900);
    assert_eq!(s.sock(id).state(), State::Established);
    s.run_ms(400);
    assert_eq!(s.sock(id).take_error(), Some(SockError::ETIMEDOUT));
}

#[test]
fn retries2_ends_it_after_a_quarter_of_an_hour_and_tells_what_icmp_said() {
    let mut s = Script::new();
    let (id, _) = s.accepted();
    s.sock(id).send(b"x", SendFlags::default()).unwrap();
    s.expect("P. 1:2(1) ack 1");
    s.icmp("unreachable host");
    let mut alive = 0;
    while s.sock(id).state() == State::Established && alive < 2000 {
        s.run_ms(1000);
        alive += 1;
    }
    // 924.6 s with an RTO of 200 ms; at most a backoff more.
    assert!((900..1100).contains(&alive), "{alive} s");
    assert_eq!(s.sock(id).take_error(), Some(SockError::EHOSTUNREACH));
}
