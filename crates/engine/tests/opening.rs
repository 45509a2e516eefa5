//! Opens: how often a SYN and a SYN-ACK are repeated, what they carry, what answers they take.

mod common;

use common::script::*;
use estab_engine::proto::State;
use estab_engine::*;
use std::time::Duration;

#[test]
fn a_syn_that_nobody_answers_is_repeated_as_linux_does_and_fails_at_131_s() {
    let mut s = Script::new();
    let id = s.connect();
    for at in [0, 1, 2, 3, 4, 5, 7, 11, 19, 35, 67] {
        s.expect_at(at * 1000, "S 0:0(0)");
    }
    s.quiet(131_000 - s.ms() - 1);
    assert_eq!(s.sock(id).take_error(), None);
    s.run_ms(1);
    assert_eq!(s.sock(id).take_error(), Some(SockError::ETIMEDOUT));
    assert_eq!(s.sock(id).state(), State::Closed);
    assert_eq!(s.host.counter("TcpExtTCPSynRetrans"), 10);
    assert_eq!(s.host.counter("TcpAttemptFails"), 1);
}

#[test]
fn without_linear_timeouts_a_syn_is_repeated_seven_times_in_127_s() {
    let mut s = Script::new();
    s.host.sysctl("net.ipv4.tcp_syn_linear_timeouts", "0");
    let id = s.connect();
    for at in [0, 1, 3, 7, 15, 31, 63] {
        s.expect_at(at * 1000, "S 0:0(0)");
    }
    s.quiet(127_000 - s.ms());
    assert_eq!(s.sock(id).take_error(), Some(SockError::ETIMEDOUT));
}

#[test]
fn syn_retries_and_tcp_syncnt_bound_the_repeats() {
    let mut s = Script::new();
    s.host.sysctl("net.ipv4.tcp_syn_linear_timeouts", "0");
    s.host.sysctl("net.ipv4.tcp_syn_retries", "2");
    let id = s.connect();
    for at in [0, 1, 3] {
        s.expect_at(at * 1000, "S 0:0(0)");
    }
    s.quiet(4000);
    assert_eq!(s.sock(id).take_error(), Some(SockError::ETIMEDOUT));
    s.sock(id).close();
    let id = s.socket();
    s.sock(id).set_option(SockOption::SynCnt(1)).unwrap();
    let remote = s.remote;
    s.sock(id).connect(remote).unwrap();
    let first = s.expect("S 0:0(0)");
    s.expect_at(first + 1000, "S 0:0(0)");
    s.quiet(2000);
    assert_eq!(s.sock(id).take_error(), Some(SockError::ETIMEDOUT));
}

#[test]
fn a_user_timeout_ends_an_open_when_it_says() {
    let mut s = Script::new();
    let id = s.socket();
    s.sock(id)
        .set_option(SockOption::UserTimeout(Duration::from_millis(2500)))
        .unwrap();
    let remote = s.remote;
    s.sock(id).connect(remote).unwrap();
    for at in [0, 1, 2] {
        s.expect_at(at * 1000, "S 0:0(0)");
    }
    s.quiet(500);
    assert_eq!(s.sock(id).take_error(), Some(SockError::ETIMEDOUT));
}

#[test]
fn a_syn_offers_every_option_in_linuxs_order_and_the_answer_settles_them() {
    let mut s = Script::new();
    let id = s.connect();
    s.expect("S 0:0(0) win 64240 <mss 1460,sackOK,TS val 1000 ecr 0,nop,wscale 10>");
    s.run_ms(10);
    s.inject("S. 0:0(0) ack 1 win 5792 <mss 1400,sackOK,TS val 700 ecr 1000,nop,wscale 7>");
    s.expect(". 1:1(0) ack 1 win 63 <nop,nop,TS val 1010 ecr 700>");
    let info = s.sock(id).info().unwrap();
    assert_eq!((info.snd_mss, info.snd_wscale, info.rcv_wscale), (1388, 7, 10));
    assert_eq!(info.options, 7);
}

#[test]
fn options_that_are_switched_off_are_not_offered() {
    for (knob, value, expected) in [
        (
            "net.ipv4.tcp_timestamps",
            "0",
            "<mss 1460,nop,nop,sackOK,nop,wscale 10>",
        ),
        (
            "net.ipv4.tcp_sack",
            "0",
            "<mss 1460,nop,nop,TS val 1000 ecr 0,nop,wscale 10>",
        ),
        (
            "net.ipv4.tcp_window_scaling",
            "0",
            "<mss 1460,sackOK,TS val 1000 ecr 0>",
        ),
    ] {
        let mut s = Script::new();
        s.host.sysctl(knob, value);
        s.connect();
        s.expect(&format!("S 0:0(0) {expected}"));
    }
    let mut s = Script::new();
    s.host.sysctl("net.ipv4.tcp_ecn", "1");
    s.connect();
    s.expect("SEW 0:0(0)");
    s.expect_at(1000, "S 0:0(0)");
}

#[test]
fn a_peer_without_mss_option_gets_536() {
    let mut s = Script::new();
    let id = s.connect();
    s.expect("S 0:0(0)");
    s.inject("S. 0:0(0) ack 1 win 5792");
    s.expect(". 1:1(0) ack 1");
    assert_eq!(s.sock(id).info().unwrap().snd_mss, 536);
}

#[test]
fn syns_that_cross_open_one_connection() {
    let mut s = Script::new();
    let id = s.connect();
    s.expect("S 0:0(0) <mss 1460,sackOK,TS val 1000 ecr 0,nop,wscale 10>");
    s.run_ms(10);
    s.inject("S 0:0(0) win 5792 <mss 1000,sackOK,TS val 700 ecr 0,nop,wscale 7>");
    s.expect("S. 0:0(0) ack 1 <mss 1460,sackOK,TS val 1010 ecr 700,nop,wscale 10>");
    assert_eq!(s.sock(id).state(), State::SynRcvd);
    // The peer's SYN-ACK repeats its SYN.
    s.inject("S. 0:0(0) ack 1 win 5792 <mss 1000,sackOK,TS val 710 ecr 1010,nop,wscale 7>");
    assert_eq!(s.sock(id).state(), State::Established);
    assert_eq!(
        s.host.moves(),
        ["CLOSED>SYN-SENT", "SYN-SENT>SYN-RECEIVED", "SYN-RECEIVED>ESTABLISHED"]
    );
}

#[test]
fn a_reset_refuses_and_wrong_acks_are_reset_in_syn_sent() {
    let mut s = Script::new();
    let id = s.connect();
    s.expect("S 0:0(0)");
    s.inject(". 5:5(0) ack 77 win 100");
    s.expect("R 77:77(0)");
    s.inject("R 0:0(0) win 0");
    s.inject("R. 0:0(0) ack 5 win 0");
    assert_eq!(s.sock(id).state(), State::SynSent);
    s.inject("R. 0:0(0) ack 1 win 0");
    assert_eq!(s.sock(id).take_error(), Some(SockError::ECONNREFUSED));
    s.quiet(200_000);
}

#[test]
fn icmp_errors_end_an_open_but_only_dampen_a_connection() {
    for (error, errno) in [
        ("unreachable host", SockError::EHOSTUNREACH),
        ("unreachable net", SockError::ENETUNREACH),
        ("unreachable port", SockError::ECONNREFUSED),
        ("unreachable prohibited", SockError::EHOSTUNREACH),
    ] {
        let mut s = Script::new();
        let id = s.connect();
        s.expect("S 0:0(0)");
        s.icmp(error);
        assert_eq!(s.sock(id).take_error(), Some(errno), "{error}");
        let mut s = Script::new();
        let id = s.connected();
        s.sock(id).send(b"x", SendFlags::default()).unwrap();
        s.expect("P. 1:2(1) ack 1");
        s.icmp(error);
        assert_eq!(s.sock(id).state(), State::Established);
        assert_eq!(s.sock(id).take_error(), None);
    }
}

#[test]
fn a_failed_socket_can_connect_again() {
    let mut s = Script::new();
    let id = s.connect();
    s.expect("S 0:0(0)");
    s.inject("R. 0:0(0) ack 1 win 0");
    let remote = s.remote;
    assert_eq!(s.sock(id).connect(remote), Err(SockError::ECONNREFUSED));
    s.sock(id).connect(remote).unwrap();
    s.local = s.sock(id).local_addr().unwrap();
    s.expect("S 0:0(0)");
    assert_eq!(s.sock(id).connect(remote), Err(SockError::EALREADY));
    s.inject("S. 0:0(0) ack 1 win 5792 <mss 1000>");
    // The first call after that tells of the success.
    assert_eq!(s.sock(id).connect(remote), Ok(()));
    assert_eq!(s.sock(id).connect(remote), Err(SockError::EISCONN));
}

// --- passive

#[test]
fn a_syn_ack_is_repeated_five_times_and_the_request_is_gone_at_63_s() {
    let mut s = Script::new();
    s.listen(16);
    s.inject("S 0:0(0) win 1000 <mss 1000>");
    for at in [0, 1, 3, 7, 15, 31] {
        s.expect_at(at * 1000, "S. 0:0(0) ack 1 <mss 1460>");
    }
    s.quiet(63_000 - s.ms() - 1);
    assert_eq!(s.host.states(s.now), [State::SynRcvd]);
    s.run_ms(1);
    assert_eq!(s.host.states(s.now), []);
    s.inject(". 1:1(0) ack 1 win 1000");
    s.expect("R 1:1(0)");
}

#[test]
fn synack_retries_bounds_them_and_a_repeated_syn_is_answered() {
    let mut s = Script::new();
    s.host.sysctl("net.ipv4.tcp_synack_retries", "1");
    s.listen(16);
    s.inject("S 0:0(0) win 1000 <mss 1000>");
    s.expect_at(0, "S. 0:0(0) ack 1");
    s.run_ms(600);
    s.inject("S 0:0(0) win 1000 <mss 1000>");
    s.expect_at(600, "S. 0:0(0) ack 1");
    s.expect_at(1600, "S. 0:0(0) ack 1");
    s.quiet(2000);
    assert_eq!(s.host.states(s.now), []);
}

#[test]
fn a_syn_ack_grants_what_was_asked() {
    let mut s = Script::new();
    s.listen(16);
    s.inject("S 0:0(0) win 1000 <mss 1000,sackOK,TS val 55 ecr 0,nop,wscale 3>");
    s.expect("S. 0:0(0) ack 1 win 65160 <mss 1460,sackOK,TS val 1000 ecr 55,nop,wscale 10>");
    s.remote.set_port(40001);
    s.inject("S 0:0(0) win 1000 <mss 1000>");
    s.expect("S. 0:0(0) ack 1 win 64240 <mss 1460>");
    s.remote.set_port(40002);
    s.inject("SEW 0:0(0) win 1000 <mss 1000>");
    s.expect("S.E 0:0(0) ack 1");
    s.host.sysctl("net.ipv4.tcp_ecn", "0");
    s.remote.set_port(40003);
    s.inject("SEW 0:0(0) win 1000 <mss 1000>");
    s.expect("S. 0:0(0) ack 1");
}

#[test]
fn the_third_segment_may_carry_data() {
    let mut s = Script::new();
    let listener = s.listen(16);
    s.inject("S 0:0(0) win 1000 <mss 1000>");
    s.expect("S. 0:0(0) ack 1");
    s.inject("P. 1:6(5) ack 1 win 1000");
    let (id, _) = s.sock(listener).accept().unwrap();
    let mut buf = [0; 10];
    assert_eq!(s.sock(id).recv(&mut buf, RecvFlags::default()), Ok(5));
}

#[test]
fn a_lost_final_ack_is_healed_by_the_first_data() {
    let mut s = Script::new();
    let listener = s.listen(16);
    s.inject("S 0:0(0) win 1000 <mss 1000>");
    s.expect("S. 0:0(0) ack 1");
    s.expect_at(1000, "S. 0:0(0) ack 1");
    s.inject("P. 1:6(5) ack 1 win 1000");
    assert!(s.sock(listener).accept().is_ok());
}

#[test]
fn a_request_ends_by_reset_and_answers_the_rest() {
    let mut s = Script::new();
    let listener = s.listen(16);
    s.inject("S 0:0(0) win 1000 <mss 1000>");
    s.expect("S. 0:0(0) ack 1");
    // An ACK of something else: RST, and the request stays.
    s.inject(". 1:1(0) ack 50 win 1000");
    s.expect("R 50:50(0)");
    // Far out of window: an ACK.
    s.inject(". 500000:500000(0) ack 1 win 1000");
    s.expect(". 1:1(0) ack 1");
    s.inject("R 1:1(0) win 0");
    assert_eq!(s.host.states(s.now), []);
    assert_eq!(s.host.counter("TcpExtEmbryonicRsts"), 1);
    assert_eq!(s.host.moves(), ["LISTEN>SYN-RECEIVED", "SYN-RECEIVED>LISTEN"]);
    assert_eq!(s.sock(listener).accept(), Err(SockError::EAGAIN));
}

#[test]
fn defer_accept_waits_for_data_but_not_for_ever() {
    let mut s = Script::new();
    let listener = s.listen(16);
    s.sock(listener).set_option(SockOption::DeferAccept(1)).unwrap();
    s.inject("S 0:0(0) win 1000 <mss 1000>");
    s.expect("S. 0:0(0) ack 1");
    s.inject(". 1:1(0) ack 1 win 1000");
    assert_eq!(s.sock(listener).accept(), Err(SockError::EAGAIN));
    assert_eq!(s.host.counter("TcpExtTCPDeferAcceptDrop"), 1);
    s.inject("P. 1:6(5) ack 1 win 1000");
    assert!(s.sock(listener).accept().is_ok());
}

#[test]
fn segments_for_nobody_are_reset_from_their_own_numbers() {
    let mut s = Script::new();
    s.inject(". 5:5(0) ack 9 win 100");
    s.expect("R 9:9(0)");
    s.inject("S 5:5(0) win 100");
    s.expect("R. 0:0(0) ack 6");
    s.inject("FP 5:15(10) win 100");
    s.expect("R. 0:0(0) ack 16");
    s.inject("R 5:5(0) win 100");
    s.quiet(1000);
    assert_eq!(s.host.counter("TcpOutRsts"), 3);
}

#[test]
fn closing_a_listener_resets_who_was_not_accepted_and_forgets_who_was_halfway() {
    let mut s = Script::new();
    let (_, listener) = s.accepted();
    s.remote.set_port(40001);
    s.inject("S 0:0(0) win 1000 <mss 1000>");
    s.expect("S. 0:0(0) ack 1");
    s.inject(". 1:1(0) ack 1 win 1000");
    s.sock(listener).close();
    s.expect("R. 1:1(0) ack 1");
    s.quiet(100);
    assert_eq!(s.host.states(s.now), [State::Established]);
    s.inject("S 9:9(0) win 1000");
    s.expect("R. 0:0(0) ack 10");
}

#[test]
fn a_crossed_syn_again_gets_the_syn_ack_again() {
    let mut s = Script::new();
    s.connect();
    s.expect("S 0:0(0)");
    s.inject("S 0:0(0) win 5792 <mss 1000>");
    // As measured on 6.18: it offers what our SYN did, and nothing of that is granted.
    s.expect("S. 0:0(0) ack 1 <mss 1460,sackOK,TS val 1000 ecr 0,nop,wscale 10>");
    s.run_ms(600);
    s.inject("S 0:0(0) win 5792 <mss 1000>");
    s.expect_at(600, "S. 0:0(0) ack 1");
    s.inject(". 1:1(0) ack 1 win 5792");
    s.inject("P. 1:11(10) ack 1 win 5792");
    s.expect(". 1:1(0) ack 11 win 64230");
}
