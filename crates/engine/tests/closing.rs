//! How connections end: the forms of close, half-close, resets, orphans, and what each costs.

mod common;

use common::script::*;
use common::*;
use estab_engine::proto::State;
use estab_engine::*;
use std::time::Duration;

#[test]
fn we_close_first() {
    let mut s = Script::new();
    let (id, _) = s.accepted();
    s.sock(id).close();
    s.expect("F. 1:1(0) ack 1");
    s.inject(". 1:1(0) ack 2 win 1000");
    s.inject("F. 1:1(0) ack 2 win 1000");
    s.expect(". 2:2(0) ack 2");
    assert_eq!(s.host.states(s.now), [State::TimeWait]);
}

#[test]
fn three_segments_close_when_fin_and_ack_ride_together() {
    let mut s = Script::new();
    let (id, _) = s.accepted();
    s.host.take_trace();
    s.sock(id).close();
    s.expect("F. 1:1(0) ack 1");
    s.inject("F. 1:1(0) ack 2 win 1000");
    s.expect(". 2:2(0) ack 2");
    assert_eq!(s.host.moves(), ["ESTABLISHED>FIN-WAIT-1", "FIN-WAIT-1>TIME-WAIT"]);
}

#[test]
fn fins_that_cross_lead_through_closing() {
    let mut s = Script::new();
    let (id, _) = s.accepted();
    s.host.take_trace();
    s.sock(id).close();
    s.expect("F. 1:1(0) ack 1");
    s.inject("F. 1:1(0) ack 1 win 1000");
    s.expect(". 2:2(0) ack 2");
    assert_eq!(s.host.states(s.now), [State::Closing]);
    s.inject(". 2:2(0) ack 2 win 1000");
    assert_eq!(
        s.host.moves(),
        ["ESTABLISHED>FIN-WAIT-1", "FIN-WAIT-1>CLOSING", "CLOSING>TIME-WAIT"]
    );
}

#[test]
fn the_peer_closes_first_and_we_later() {
    let mut s = Script::new();
    let (id, _) = s.accepted();
    s.inject("F. 1:1(0) ack 1 win 1000");
    s.expect(". 1:1(0) ack 2");
    assert_eq!(s.sock(id).state(), State::CloseWait);
    let mut buf = [0; 8];
    assert_eq!(s.sock(id).recv(&mut buf, RecvFlags::default()), Ok(0));
    assert_eq!(s.sock(id).send(b"bye", SendFlags::default()), Ok(3));
    s.expect("P. 1:4(3) ack 2");
    // CLOSE_WAIT lasts as long as the application keeps it.
    s.inject(". 2:2(0) ack 4 win 1000");
    s.run_ms(3 * 3600 * 1000);
    assert_eq!(s.sock(id).state(), State::CloseWait);
    s.sock(id).close();
    s.expect("F. 4:4(0) ack 2");
    s.inject(". 2:2(0) ack 5 win 1000");
    assert_eq!(s.host.states(s.now), []);
    assert!(s.host.events.contains(&Event::Closed(id)));
}

#[test]
fn a_half_closed_connection_receives_for_hours() {
    let mut s = Script::new();
    let (id, _) = s.accepted();
    s.sock(id).shutdown(Shutdown::Write).unwrap();
    s.expect("F. 1:1(0) ack 1");
    s.inject(". 1:1(0) ack 2 win 1000");
    assert_eq!(s.sock(id).state(), State::FinWait2);
    s.run_ms(5 * 3600 * 1000);
    assert_eq!(s.sock(id).send(b"x", SendFlags::default()), Err(SockError::EPIPE));
    s.inject("P. 1:1001(1000) ack 2 win 1000");
    s.expect(". 2:2(0) ack 1001");
    let mut buf = [0; 2000];
    assert_eq!(s.sock(id).recv(&mut buf, RecvFlags::default()), Ok(1000));
    s.inject("F. 1001:1001(0) ack 2 win 1000");
    s.expect(". 2:2(0) ack 1002");
    assert_eq!(s.sock(id).recv(&mut buf, RecvFlags::default()), Ok(0));
    assert_eq!(s.host.states(s.now), [State::TimeWait]);
}

#[test]
fn shutting_down_reading_sends_nothing_and_reads_nothing() {
    let mut s = Script::new();
    let (id, _) = s.accepted();
    s.sock(id).shutdown(Shutdown::Read).unwrap();
    s.quiet(1000);
    let mut buf = [0; 8];
    assert_eq!(s.sock(id).recv(&mut buf, RecvFlags::default()), Ok(0));
    assert!(s.sock(id).readiness().contains(Readiness::READ_HANGUP));
    assert_eq!(s.sock(id).send(b"x", SendFlags::default()), Ok(1));
    // Linux still takes and delivers what comes.
    s.expect("P. 1:2(1) ack 1");
    s.inject("P. 1:3(2) ack 2 win 1000");
    assert_eq!(s.sock(id).recv(&mut buf, RecvFlags::default()), Ok(2));
}

#[test]
fn shutdown_of_what_is_not_connected_says_so() {
    let mut s = Script::new();
    let id = s.socket();
    assert_eq!(s.sock(id).shutdown(Shutdown::Both), Err(SockError::ENOTCONN));
    let id = s.connect();
    s.expect("S 0:0(0)");
    assert_eq!(s.sock(id).shutdown(Shutdown::Both), Ok(()));
    s.quiet(10_000);
    assert_eq!(s.sock(id).state(), State::Closed);
}

#[test]
fn closing_with_unread_data_resets() {
    let mut s = Script::new();
    let (id, _) = s.accepted();
    s.inject("P. 1:11(10) ack 1 win 1000");
    s.expect(". 1:1(0) ack 11");
    s.sock(id).close();
    s.expect("R. 1:1(0) ack 11");
    assert_eq!(s.host.states(s.now), []);
    assert_eq!(s.host.counter("TcpExtTCPAbortOnClose"), 1);
    assert!(s.host.events.contains(&Event::Closed(id)));
    s.quiet(100_000);
}

#[test]
fn a_fin_alone_is_not_unread_data() {
    let mut s = Script::new();
    let (id, _) = s.accepted();
    s.inject("F. 1:1(0) ack 1 win 1000");
    s.sock(id).close();
    s.expect("F. 1:1(0) ack 2");
    assert_eq!(s.host.states(s.now), [State::LastAck]);
}

#[test]
fn lingering_for_no_time_resets_and_for_some_time_closes_in_order() {
    let mut s = Script::new();
    let (id, _) = s.accepted();
    s.sock(id).set_option(SockOption::Linger(Some(Duration::ZERO))).unwrap();
    s.sock(id).send(b"lost", SendFlags::default()).unwrap();
    s.sock(id).close();
    s.expect("R. 5:5(0) ack 1");
    assert_eq!(s.host.counter("TcpExtTCPAbortOnData"), 1);
    assert_eq!(s.host.states(s.now), []);

    let mut s = Script::new();
    let (id, _) = s.accepted();
    s.sock(id)
        .set_option(SockOption::Linger(Some(Duration::from_secs(5))))
        .unwrap();
    s.sock(id).close();
    s.expect("F. 1:1(0) ack 1");
}

#[test]
fn what_was_written_before_close_arrives_before_the_fin() {
    let mut s = Script::new();
    let (id, _) = s.accepted();
    s.sock(id).send(&[1; 3000], SendFlags::default()).unwrap();
    s.sock(id).close();
    s.expect(". 1:1461(1460) ack 1");
    s.expect(". 1461:2921(1460) ack 1");
    s.expect("P. 2921:3001(80) ack 1");
    s.expect("F. 3001:3001(0) ack 1");
}

#[test]
fn data_for_an_orphan_is_answered_by_reset() {
    let mut s = Script::new();
    let (id, _) = s.accepted();
    s.sock(id).close();
    s.expect("F. 1:1(0) ack 1");
    s.inject("P. 1:11(10) ack 1 win 1000");
    s.expect("R 1:1(0)");
    assert_eq!(s.host.states(s.now), []);
    assert_eq!(s.host.counter("TcpExtTCPAbortOnData"), 1);
}

// --- FIN_WAIT_2

/// We closed, and the peer acknowledged.
fn fin_wait_2(s: &mut Script, linger2: Option<i32>) {
    let (id, listener) = s.accepted();
    if let Some(n) = linger2 {
        s.sock(id).set_option(SockOption::Linger2(n)).unwrap();
    }
    s.sock(listener).close();
    s.sock(id).close();
    s.expect("F. 1:1(0) ack 1");
    s.inject(". 1:1(0) ack 2 win 1000");
}

#[test]
fn an_orphan_leaves_fin_wait_2_after_fin_timeout() {
    for (timeout, seconds) in [("60", 60), ("10", 10), ("100", 100)] {
        let mut s = Script::new();
        s.host.sysctl("net.ipv4.tcp_fin_timeout", timeout);
        fin_wait_2(&mut s, None);
        s.run_ms(seconds * 1000 - 10);
        assert_eq!(s.host.states(s.now), [State::FinWait2], "tcp_fin_timeout {timeout}");
        s.quiet(11);
        assert_eq!(s.host.states(s.now), [], "tcp_fin_timeout {timeout}");
    }
}

#[test]
fn a_fin_in_fin_wait_2_is_answered_wherever_it_is_kept() {
    for timeout in ["60", "100"] {
        let mut s = Script::new();
        s.host.sysctl("net.ipv4.tcp_fin_timeout", timeout);
        fin_wait_2(&mut s, None);
        s.inject("F. 1:1(0) ack 2 win 1000");
        s.expect(". 2:2(0) ack 2");
        assert_eq!(s.host.states(s.now), [State::TimeWait]);
        s.run_ms(59_999);
        assert_eq!(s.host.states(s.now), [State::TimeWait]);
        s.run_ms(1);
        assert_eq!(s.host.states(s.now), []);
    }
}

#[test]
fn data_in_an_orphans_fin_wait_2_is_answered_by_reset() {
    let mut s = Script::new();
    fin_wait_2(&mut s, None);
    s.inject("P. 1:11(10) ack 2 win 1000");
    s.expect("R 2:2(0)");
    assert_eq!(s.host.states(s.now), []);
}

#[test]
fn linger2_of_minus_one_spends_no_time_in_fin_wait_2() {
    let mut s = Script::new();
    fin_wait_2(&mut s, Some(-1));
    // The answer to the ACK, as measured on 6.18.
    s.expect("R 2:2(0)");
    assert_eq!(s.host.states(s.now), []);
    let mut s = Script::new();
    let (id, _) = s.accepted();
    s.sock(id).shutdown(Shutdown::Write).unwrap();
    s.expect("F. 1:1(0) ack 1");
    s.inject(". 1:1(0) ack 2 win 65535");
    s.sock(id).set_option(SockOption::Linger2(-1)).unwrap();
    s.sock(id).close();
    s.expect("R. 2:2(0) ack 1");
    assert_eq!(s.host.states(s.now), []);
    let mut s = Script::new();
    fin_wait_2(&mut s, Some(20));
    s.run_ms(19_000);
    assert_eq!(s.host.states(s.now), [State::FinWait2]);
    s.run_ms(1_100);
    assert_eq!(s.host.states(s.now), []);
}

#[test]
fn too_many_orphans_are_reset() {
    let mut s = Script::new();
    s.host.sysctl("net.ipv4.tcp_max_orphans", "1");
    let (first, listener) = s.accepted();
    s.sock(first).close();
    s.expect("F. 1:1(0) ack 1");
    s.remote.set_port(40001);
    s.inject("S 0:0(0) win 65535 <mss 1460>");
    s.expect("S. 0:0(0) ack 1");
    s.inject(". 1:1(0) ack 1 win 65535");
    let (second, _) = s.sock(listener).accept().unwrap();
    s.sock(second).close();
    s.expect("R. 2:2(0) ack 1");
    assert_eq!(s.host.counter("TcpExtTCPAbortOnMemory"), 1);
    assert_eq!(s.host.states(s.now), [State::FinWait1]);
}

#[test]
fn an_orphans_fin_is_given_up_after_orphan_retries() {
    let mut s = Script::new();
    s.host.sysctl("net.ipv4.tcp_orphan_retries", "2");
    let (id, _) = s.accepted();
    s.sock(id).close();
    s.expect("F. 1:1(0) ack 1");
    s.run_ms(30_000);
    assert_eq!(s.host.states(s.now), []);
    assert!(s.host.events.contains(&Event::Closed(id)));
}

// --- errors as the application sees them

#[test]
fn a_reset_is_reported_once_after_the_data_before_it() {
    let mut s = Script::new();
    let (id, _) = s.accepted();
    s.inject("P. 1:11(10) ack 1 win 1000");
    s.expect(". 1:1(0) ack 11");
    s.inject("R. 11:11(0) ack 1 win 1000");
    let bits = s.sock(id).readiness();
    assert!(bits.contains(Readiness::ERROR.union(Readiness::HANGUP).union(Readiness::READABLE)));
    let mut buf = [0; 20];
    assert_eq!(s.sock(id).recv(&mut buf, RecvFlags::default()), Ok(10));
    assert_eq!(
        s.sock(id).recv(&mut buf, RecvFlags::default()),
        Err(SockError::ECONNRESET)
    );
    assert_eq!(s.sock(id).recv(&mut buf, RecvFlags::default()), Ok(0));
    assert_eq!(s.sock(id).send(b"x", SendFlags::default()), Err(SockError::EPIPE));
    s.sock(id).close();
    s.quiet(1000);
}

#[test]
fn a_reset_after_the_peers_fin_is_a_broken_pipe() {
    let mut s = Script::new();
    let (id, _) = s.accepted();
    s.inject("F. 1:1(0) ack 1 win 1000");
    s.inject("R. 2:2(0) ack 1 win 1000");
    assert_eq!(s.sock(id).send(b"x", SendFlags::default()), Err(SockError::EPIPE));
}

#[test]
fn calls_on_the_wrong_kind_of_socket_fail_as_on_linux() {
    let mut s = Script::new();
    let mut buf = [0; 4];
    let id = s.socket();
    assert_eq!(s.sock(id).accept(), Err(SockError::EINVAL));
    assert_eq!(
        s.sock(id).recv(&mut buf, RecvFlags::default()),
        Err(SockError::ENOTCONN)
    );
    assert_eq!(s.sock(id).send(b"x", SendFlags::default()), Err(SockError::EPIPE));
    assert_eq!(s.sock(id).peer_addr(), Err(SockError::ENOTCONN));
    let listener = s.listen(1);
    let remote = s.remote;
    assert_eq!(s.sock(listener).connect(remote), Err(SockError::EISCONN));
    assert_eq!(
        s.sock(listener).recv(&mut buf, RecvFlags::default()),
        Err(SockError::ENOTCONN)
    );
    s.sock(listener).close();
    assert!(matches!(s.host.stack.sock(s.now, listener), Err(SockError::EBADF)));
}

#[test]
fn nothing_is_left_when_all_is_closed() {
    let mut p = Pair::new();
    let listener = p.listen(B, 80, 1000);
    let before = [p.hosts[A].stack.memory_used(), p.hosts[B].stack.memory_used()];
    for round in 0..3 {
        let clients: Vec<SocketId> = (0..200).map(|_| p.connect(A, addr(B_ADDR, 80))).collect();
        p.run_ms(100);
        for a in clients {
            let (b, _) = p.sock(B, listener).accept().unwrap();
            p.send(A, a, &[round; 5000]).unwrap();
            p.run_ms(20);
            assert_eq!(p.recv(B, b).unwrap().len(), 5000);
            p.close(B, b);
            p.close(A, a);
        }
        p.run_s(70);
    }
    assert_eq!(p.hosts[A].states(p.now), []);
    assert_eq!(p.hosts[B].states(p.now), []);
    // Handles' slots stay, so that generations go on.
    let after = [p.hosts[A].stack.memory_used(), p.hosts[B].stack.memory_used()];
    for (before, after) in before.iter().zip(after) {
        assert!(after < before + 200 * 64, "{before} -> {after}");
    }
}
