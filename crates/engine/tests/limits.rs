//! Limits, switches and what guards against the blind: challenge ACKs, PAWS, path MTU, memory, quiet time, tw_recycle.

mod common;

use common::script::*;
use common::*;
use estab_engine::proto::State;
use estab_engine::*;

#[test]
fn challenge_acks_are_limited_per_connection_and_per_second() {
    let mut s = Script::new();
    s.accepted();
    s.inject("R 2:2(0) win 9");
    s.expect(". 1:1(0) ack 1");
    s.inject("R 2:2(0) win 9");
    s.quiet(499);
    assert_eq!(s.host.counter("TcpExtTCPACKSkippedChallenge"), 1);
    s.run_ms(1);
    s.inject("R 2:2(0) win 9");
    s.expect(". 1:1(0) ack 1");
    assert_eq!(s.host.counter("TcpExtTCPChallengeACK"), 2);

    let mut s = Script::new();
    s.host.sysctl("net.ipv4.tcp_challenge_ack_limit", "1");
    s.host.sysctl("net.ipv4.tcp_invalid_ratelimit", "0");
    s.accepted();
    for _ in 0..5 {
        s.inject("R 2:2(0) win 9");
    }
    assert_eq!(s.host.counter("TcpExtTCPChallengeACK"), 1);
    s.run_ms(1000);
    s.inject("R 2:2(0) win 9");
    assert_eq!(s.host.counter("TcpExtTCPChallengeACK"), 2);
}

/// An established connection with timestamps; the peer's last was 101.
fn with_timestamps(s: &mut Script) -> SocketId {
    let listener = s.listen(16);
    s.inject("S 0:0(0) win 1000 <mss 1460,sackOK,TS val 100 ecr 0>");
    s.expect("S. 0:0(0) ack 1");
    s.inject(". 1:1(0) ack 1 win 1000 <nop,nop,TS val 101 ecr 1000>");
    s.sock(listener).accept().unwrap().0
}

#[test]
fn an_older_timestamp_is_refused_for_24_days() {
    let mut s = Script::new();
    let id = with_timestamps(&mut s);
    s.inject("P. 1:11(10) ack 1 win 1000 <nop,nop,TS val 99 ecr 1000>");
    s.expect(". 1:1(0) ack 1");
    assert_eq!(s.host.counter("TcpExtPAWSEstab"), 1);
    assert_eq!(s.sock(id).recv_queued(), 0);
    // A millisecond of disorder is forgiven.
    s.inject("P. 1:11(10) ack 1 win 1000 <nop,nop,TS val 100 ecr 1000>");
    assert_eq!(s.sock(id).recv_queued(), 10);
    // An RST need not pass.
    s.inject("R. 11:11(0) ack 1 win 1000 <nop,nop,TS val 5 ecr 1000>");
    assert_eq!(s.sock(id).take_error(), Some(SockError::ECONNRESET));

    let mut s = Script::new();
    let id = with_timestamps(&mut s);
    s.run_ms(25 * 24 * 3600 * 1000);
    s.inject("P. 1:11(10) ack 1 win 1000 <nop,nop,TS val 99 ecr 1000>");
    assert_eq!(s.sock(id).recv_queued(), 10);
}

#[test]
fn a_router_with_a_smaller_mtu_is_believed_if_it_quotes_what_is_in_flight() {
    let mut s = Script::new();
    let (id, _) = s.accepted();
    s.sock(id).send(&[0; 1460], SendFlags::default()).unwrap();
    s.expect("P. 1:1461(1460) ack 1");
    s.icmp("too big 1400");
    s.expect(". 1:1361(1360) ack 1");
    s.expect("P. 1361:1461(100) ack 1");
    assert_eq!(s.sock(id).info().unwrap().snd_mss, 1360);
    // The next connection to that host knows from the start.
    s.remote.set_port(40001);
    s.inject("S 0:0(0) win 1000 <mss 1460>");
    s.expect("S. 0:0(0) ack 1 <mss 1360>");

    let mut s = Script::new();
    let (id, _) = s.accepted();
    s.sock(id).send(&[0; 1460], SendFlags::default()).unwrap();
    s.expect("P. 1:1461(1460) ack 1");
    s.inject(". 1:1(0) ack 1461 win 1000");
    s.icmp("too big 1400");
    assert_eq!(s.host.counter("TcpExtOutOfWindowIcmps"), 1);
    assert_eq!(s.sock(id).info().unwrap().snd_mss, 1460);
}

#[test]
fn maxseg_bounds_what_is_announced_and_sent() {
    let mut s = Script::new();
    let id = s.socket();
    s.sock(id).set_option(SockOption::MaxSeg(1000)).unwrap();
    let remote = s.remote;
    s.sock(id).connect(remote).unwrap();
    s.local = s.sock(id).local_addr().unwrap();
    s.expect("S 0:0(0) <mss 1000,sackOK,TS val 1000 ecr 0,nop,wscale 10>");
    s.inject("S. 0:0(0) ack 1 win 65535 <mss 1460>");
    s.expect(". 1:1(0) ack 1");
    assert_eq!(s.sock(id).info().unwrap().snd_mss, 1000);
    assert_eq!(s.sock(id).set_option(SockOption::MaxSeg(10)), Err(SockError::EINVAL));
}

#[test]
fn memory_past_tcp_mem_is_pressure() {
    let mut p = Pair::new();
    p.hosts[B].sysctl("net.ipv4.tcp_mem", "10 20 100000");
    let (a, b, _) = p.open();
    let mut sent = 0;
    for _ in 0..100 {
        sent += p.send(A, a, &[0; 10_000]).unwrap_or(0);
        p.run_ms(20);
    }
    assert_eq!(p.hosts[B].counter("TcpExtTCPMemoryPressures"), 1);
    let mut got = 0;
    while let Ok(bytes) = p.recv(B, b) {
        got += bytes.len();
        p.run_ms(500);
    }
    assert_eq!(got, sent);
}

#[test]
fn tw_recycle_refuses_the_second_client_behind_a_nat() {
    for recycle in [false, true] {
        let mut s = Script::new();
        if recycle {
            s.host.sysctl("net.ipv4.tcp_tw_recycle", "1");
        }
        let id = with_timestamps(&mut s);
        s.sock(id).close();
        s.expect("F. 1:1(0) ack 1");
        s.inject("F. 1:1(0) ack 2 win 1000 <nop,nop,TS val 102 ecr 1000>");
        s.expect(". 2:2(0) ack 2");
        s.run_ms(5000);
        // The wait is over after 3.5 RTOs.
        let states: &[State] = if recycle { &[] } else { &[State::TimeWait] };
        assert_eq!(s.host.states(s.now), states);
        // Another host behind the same address, whose clock is behind.
        s.remote.set_port(40001);
        s.inject("S 0:0(0) win 1000 <mss 1460,sackOK,TS val 50 ecr 0>");
        match recycle {
            true => s.quiet(10),
            false => assert_eq!(s.expect("S. 0:0(0) ack 1"), 5000),
        }
        assert_eq!(s.host.counter("TcpExtPAWSPassive"), u64::from(recycle));
        // A minute later the address is clean again.
        if recycle {
            s.run_ms(60_000);
            s.inject("S 0:0(0) win 1000 <mss 1460,sackOK,TS val 50 ecr 0>");
            s.expect("S. 0:0(0) ack 1");
        }
    }
}

#[test]
fn a_proven_peer_gets_the_last_quarter_of_the_syn_backlog() {
    let mut s = Script::new();
    s.host.sysctl("net.ipv4.tcp_syncookies", "0");
    s.host.sysctl("net.ipv4.tcp_max_syn_backlog", "4");
    let id = with_timestamps(&mut s);
    s.sock(id).close();
    s.expect("F. 1:1(0) ack 1");
    s.inject("F. 1:1(0) ack 2 win 1000 <nop,nop,TS val 102 ecr 1000>");
    s.expect(". 2:2(0) ack 2");
    let proven = s.remote;
    for n in 0..10 {
        s.remote = addr("203.0.113.7", 1000 + n);
        s.inject("S 0:0(0) win 1000 <mss 1460>");
        s.skip();
    }
    assert_eq!(s.host.states(s.now).iter().filter(|s| **s == State::SynRcvd).count(), 4);
    s.remote = addr(&proven.ip().to_string(), 50_000);
    s.inject("S 0:0(0) win 1000 <mss 1460>");
    s.expect("S. 0:0(0) ack 1");
}

#[test]
fn quiet_time_holds_everything_back_for_one_msl() {
    let mut s = Script::new();
    s.host.sysctl("estab.tcp_quiet_time", "1");
    s.listen(5);
    s.inject("S 0:0(0) win 1000 <mss 1460>");
    s.inject(". 5:5(0) ack 5 win 1000");
    let id = s.socket();
    let remote = s.remote;
    s.sock(id).connect(remote).unwrap();
    // The stack is a second older than the script.
    s.expect_at(29_000, "S 0:0(0)");
    s.expect_at(30_000, "S 0:0(0)");
    s.inject("S 0:0(0) win 1000 <mss 1460>");
    s.expect("S. 0:0(0) ack 1");
}

#[test]
fn time_waits_outlive_the_stack_they_are_saved_from() {
    let mut s = Script::new();
    let id = with_timestamps(&mut s);
    s.sock(id).close();
    s.expect("F. 1:1(0) ack 1");
    s.inject("F. 1:1(0) ack 2 win 1000 <nop,nop,TS val 102 ecr 1000>");
    s.expect(". 2:2(0) ack 2 <nop,nop,TS val 1000 ecr 102>");
    s.run_ms(10_000);
    let text = s.host.stack.save_timewaits(s.now);
    let mut t = Script::new();
    (t.iss, t.remote) = (s.iss, s.remote);
    // The successor's clock stands where the saver's stood; it has been away for 20 s.
    t.run_ms(30_000);
    assert_eq!(t.host.stack.restore_timewaits(t.now, &text), Ok(1));
    assert_eq!(t.host.states(t.now), [State::TimeWait]);
    t.inject("F. 1:1(0) ack 2 win 1000 <nop,nop,TS val 103 ecr 1000>");
    t.expect(". 2:2(0) ack 2 <nop,nop,TS val 31000 ecr 102>");
    t.run_ms(60_000);
    assert_eq!(t.host.states(t.now), []);
    assert_eq!(t.host.stack.restore_timewaits(t.now, &text), Ok(0), "it has run out");
}

/// A restored TIME_WAIT holds its port as it did before.
#[test]
fn a_restored_time_wait_needs_reuseaddr_of_a_listener() {
    for reuse in [false, true] {
        let mut s = Script::new();
        let listener = s.socket();
        s.sock(listener).set_option(SockOption::ReuseAddr(reuse)).unwrap();
        s.sock(listener).bind(addr("0.0.0.0", 8080)).unwrap();
        s.sock(listener).listen(5).unwrap();
        s.inject("S 0:0(0) win 1000 <mss 1460>");
        s.expect("S. 0:0(0) ack 1");
        s.inject(". 1:1(0) ack 1 win 1000");
        let (id, _) = s.sock(listener).accept().unwrap();
        s.sock(id).close();
        s.expect("F. 1:1(0) ack 1");
        s.inject("F. 1:1(0) ack 2 win 1000");
        let text = s.host.stack.save_timewaits(s.now);
        let mut t = Script::new();
        assert_eq!(t.host.stack.restore_timewaits(t.now, &text), Ok(1));
        let mut bind = |reuse| {
            let id = t.socket();
            t.sock(id).set_option(SockOption::ReuseAddr(reuse)).unwrap();
            t.sock(id).bind(addr("0.0.0.0", 8080))
        };
        assert_eq!(bind(false), Err(SockError::EADDRINUSE));
        assert_eq!(bind(true).is_ok(), reuse);
    }
}

#[test]
fn time_waits_that_cannot_be_read_say_why_and_change_nothing() {
    let good = "10.0.0.1:80 10.0.0.2:5000 60000 1 2 3 4 0 0 5 6 7 0\n";
    let file = |lines: &str| format!("estab timewaits 2 at 1700000000000\n{lines}");
    for (text, wrong) in [
        (String::new(), TimewaitsError::Foreign),
        ("nginx.conf".into(), TimewaitsError::Foreign),
        ("estab timewaits two at 5\n".into(), TimewaitsError::Foreign),
        ("estab timewaits 1 at 5\n".into(), TimewaitsError::Version(1)),
        (file("10.0.0.1:80 10.0.0.2:5000 60000\n"), TimewaitsError::Line(2)),
        (
            file(&(good.to_string() + "::1 10.0.0.2:5000\n")),
            TimewaitsError::Line(3),
        ),
        (file(&good.replace("10.0.0.2", "[fd00::2]")), TimewaitsError::Line(2)),
        (file(&good.replace('\n', " 9\n")), TimewaitsError::Line(2)),
    ] {
        let mut s = Script::new();
        assert_eq!(s.host.stack.restore_timewaits(s.now, &text), Err(wrong), "{text:?}");
        assert_eq!(s.host.states(s.now), []);
    }
    assert!(TimewaitsError::Version(1).to_string().contains("version 1"));
    assert!(TimewaitsError::Line(7).to_string().contains("line 7"));
}

#[test]
fn a_listener_can_open_actively_by_the_engines_own_call() {
    let mut s = Script::new();
    let listener = s.listen(5);
    let remote = s.remote;
    assert_eq!(s.sock(listener).connect(remote), Err(SockError::EISCONN));
    s.sock(listener).connect_listener(remote).unwrap();
    s.expect("S 0:0(0)");
    assert_eq!(s.sock(listener).local_addr().unwrap().port(), 8080);
    assert_eq!(s.host.moves(), ["LISTEN>SYN-SENT"]);
    s.inject("S. 0:0(0) ack 1 win 1000 <mss 1460>");
    s.expect(". 1:1(0) ack 1");
    assert_eq!(s.sock(listener).state(), State::Established);
}

#[test]
fn a_stack_knows_its_own_packets() {
    let mut s = Script::new();
    let packet = s.packet("S 0:0(0) win 1000");
    assert!(!s.host.stack.owns(&packet));
    let (id, listener) = s.accepted();
    s.sock(listener).close();
    let packet = s.packet(". 1:1(0) ack 1 win 1000");
    assert!(s.host.stack.owns(&packet));
    s.sock(id).abort();
    assert!(!s.host.stack.owns(&packet));
    assert!(!s.host.stack.owns(&[]));
}

#[test]
fn diag_tells_queues_timers_and_handles() {
    let mut s = Script::new();
    let (id, listener) = s.accepted();
    s.sock(id).send(b"hello", SendFlags::default()).unwrap();
    s.expect("P. 1:6(5) ack 1");
    s.inject("P. 1:4(3) ack 1 win 1000");
    s.run_ms(50);
    let all: Vec<_> = s.host.stack.diag(s.now).collect();
    let of = |state: State| all.iter().find(|d| d.state == state).unwrap();
    let conn = of(State::Established);
    assert_eq!((conn.recv_q, conn.send_q, conn.id), (3, 5, id.as_u64()));
    assert_eq!((conn.local, conn.remote), (s.local, s.remote));
    let timer = conn.timer.unwrap();
    assert_eq!(timer.kind.ss(), "on");
    assert!(timer.expires_in_ns <= 1_000_000_000);
    let l = of(State::Listen);
    assert_eq!((l.recv_q, l.send_q, l.id), (0, 16, listener.as_u64()));
    assert_eq!(l.remote.port(), 0);
}
