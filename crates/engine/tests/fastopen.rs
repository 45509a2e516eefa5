//! Fast Open (RFC 7413), packet by packet: cookies, data in the SYN, what becomes of it, and who is believed.

mod common;

use common::script::{REMOTE, Script};
use common::*;
use estab_engine::proto::State;
use estab_engine::*;
use std::time::Duration;

const COOKIE: &str = "aabbccddeeff0011";

fn client() -> Script {
    let mut s = Script::new();
    s.host.sysctl("net.ipv4.tcp_timestamps", "0");
    s.host.sysctl("net.ipv4.tcp_fastopen", "1");
    s
}

/// Sends to the peer with MSG_FASTOPEN on a new socket.
fn send(s: &mut Script, len: usize) -> (SocketId, Result<usize>) {
    let id = s.socket();
    let remote = s.remote;
    let sent = s
        .sock(id)
        .send_fast_open(Some(remote), &vec![7; len], SendFlags::default());
    s.local = s.sock(id).local_addr().unwrap();
    s.drain();
    (id, sent)
}

/// Asks for a cookie and gets it.
fn warm_up(s: &mut Script, mss: u16) {
    let (id, sent) = send(s, 100);
    assert_eq!(sent, Err(SockError::EINPROGRESS));
    s.expect("S 0:0(0) <mss 1460,nop,nop,sackOK,nop,wscale 10,FO,nop,nop>");
    s.inject(&format!("S. 0:0(0) ack 1 win 60000 <mss {mss},sackOK,FO {COOKIE}>"));
    s.expect(". 1:1(0) ack 1");
    assert_eq!(s.sock(id).info().unwrap().fastopen_client_fail, 1);
    s.sock(id).abort();
    s.expect("R. 1:1(0) ack 1");
}

fn syn_with(data: usize) -> String {
    format!("S 0:{data}({data}) <mss 1460,nop,nop,sackOK,nop,wscale 10,FO {COOKIE},nop,nop>")
}

fn syn_data(s: &mut Script, id: SocketId) -> bool {
    s.sock(id).info().unwrap().options & 32 != 0
}

#[test]
fn a_cookie_is_asked_for_and_the_next_syn_carries_it_with_data() {
    let mut s = client();
    warm_up(&mut s, 940);
    // As much as the MSS of the last SYN-ACK lets, less room for options.
    let (id, sent) = send(&mut s, 2000);
    assert_eq!(sent, Ok(900));
    s.expect(&syn_with(900));
    s.inject("S. 0:0(0) ack 901 win 60000 <mss 1460,sackOK>");
    s.expect(". 901:901(0) ack 1");
    assert_eq!(s.sock(id).state(), State::Established);
    assert_eq!(s.sock(id).send_queued(), 0);
    assert!(syn_data(&mut s, id));
    assert_eq!(s.host.counter("TcpExtTCPFastOpenActive"), 1);
    // Told of its success, the socket is connected like any other.
    let remote = s.remote;
    assert_eq!(
        s.sock(id).send_fast_open(Some(remote), b"more", SendFlags::default()),
        Ok(4)
    );
    s.expect("P. 901:905(4) ack 1");
    assert_eq!(s.sock(id).connect(remote), Err(SockError::EISCONN));
}

#[test]
fn what_did_not_fit_into_the_syn_follows_in_whole_super_packets() {
    let mut s = client();
    warm_up(&mut s, 1460);
    let (id, sent) = send(&mut s, 5000);
    assert_eq!(sent, Ok(1420));
    s.expect(&syn_with(1420));
    s.run_ms(20);
    s.inject("S. 0:0(0) ack 1421 win 5840 <mss 1460,sackOK,wscale 6>");
    s.expect(". 1421:1421(0) ack 1");
    s.sock(id).send(&[1; 3580], SendFlags::default()).unwrap();
    s.drain();
    // Half the window is one super-packet, which ends with PSH.
    s.expect(". 1421:2881(1460) ack 1");
    s.expect("P. 2881:4341(1460) ack 1");
    s.expect("P. 4341:5001(660) ack 1");
}

#[test]
fn a_server_that_takes_only_the_syn_gets_the_data_at_once_again() {
    let mut s = client();
    warm_up(&mut s, 1460);
    let (id, sent) = send(&mut s, 700);
    assert_eq!(sent, Ok(700));
    s.expect(&syn_with(700));
    s.run_ms(30);
    s.inject("S. 0:0(0) ack 1 win 60000 <mss 1460,sackOK>");
    s.expect("P. 1:701(700) ack 1");
    assert!(!syn_data(&mut s, id));
    assert_eq!(s.sock(id).info().unwrap().fastopen_client_fail, 2);
    assert_eq!(s.sock(id).info().unwrap().snd_cwnd, 10);
    assert_eq!(s.host.counter("TcpExtTCPFastOpenActiveFail"), 1);
    s.inject(". 1:1(0) ack 701 win 60000");
    assert_eq!(s.sock(id).send_queued(), 0);
}

#[test]
fn part_of_the_data_acknowledged_is_not_sent_again() {
    let mut s = client();
    warm_up(&mut s, 1460);
    let (id, _) = send(&mut s, 700);
    s.expect(&syn_with(700));
    s.inject("S. 0:0(0) ack 301 win 60000 <mss 1460,sackOK>");
    s.expect("P. 301:701(400) ack 1");
    assert!(!syn_data(&mut s, id));
}

#[test]
fn a_lost_syn_is_repeated_bare() {
    let mut s = client();
    warm_up(&mut s, 1460);
    let (id, _) = send(&mut s, 700);
    let first = s.expect(&syn_with(700));
    s.expect_at(first + 1000, "S 0:0(0) <mss 1460,nop,nop,sackOK,nop,wscale 10>");
    s.inject("S. 0:0(0) ack 1 win 60000 <mss 1460,sackOK>");
    s.expect("P. 1:701(700) ack 1");
    assert_eq!(s.sock(id).info().unwrap().fastopen_client_fail, 3);
}

#[test]
fn connect_succeeds_at_once_and_the_syn_leaves_with_the_first_write() {
    let mut s = client();
    warm_up(&mut s, 1460);
    let id = s.socket();
    let remote = s.remote;
    s.sock(id).set_option(SockOption::FastOpenConnect(true)).unwrap();
    s.sock(id).connect(remote).unwrap();
    s.local = s.sock(id).local_addr().unwrap();
    s.quiet(5000);
    assert_eq!(s.sock(id).readiness(), Readiness::WRITABLE);
    assert_eq!(s.sock(id).connect(remote), Err(SockError::EISCONN));
    assert_eq!(s.sock(id).send(&[1; 50], SendFlags::default()), Ok(50));
    s.expect(&syn_with(50));
    assert_eq!(s.sock(id).readiness(), Readiness::default());
    assert_eq!(s.sock(id).send(&[1; 50], SendFlags::default()), Err(SockError::EAGAIN));
}

#[test]
fn a_server_that_ignores_the_option_is_asked_once_in_its_old_form() {
    let mut s = client();
    for form in ["FO,nop,nop>", "unknown 254>", "FO,nop,nop>", "FO,nop,nop>"] {
        let (id, _) = send(&mut s, 1);
        s.expect(&format!("S 0:0(0) <mss 1460,nop,nop,sackOK,nop,wscale 10,{form}"));
        s.inject("S. 0:0(0) ack 1 win 60000 <mss 1460,sackOK>");
        s.expect(". 1:1(0) ack 1");
        s.sock(id).abort();
        s.expect("R. 1:1(0) ack 1");
    }
}

#[test]
fn three_timeouts_in_a_row_turn_it_off_for_a_while_and_longer_each_time() {
    let mut s = client();
    s.host.sysctl("net.ipv4.tcp_fastopen_blackhole_timeout_sec", "100");
    warm_up(&mut s, 1460);
    let bare = "S 0:0(0) <mss 1460,nop,nop,sackOK,nop,wscale 10>";
    for rest in [100, 200] {
        let (id, _) = send(&mut s, 10);
        s.expect(&syn_with(10));
        for _ in 0..3 {
            s.expect(bare);
        }
        s.sock(id).abort();
        let (id, sent) = send(&mut s, 10);
        assert_eq!(sent, Err(SockError::EINPROGRESS));
        s.expect(bare);
        s.sock(id).abort();
        s.run_ms(rest * 1000);
    }
    assert_eq!(s.host.counter("TcpExtTCPFastOpenBlackhole"), 2);
    // One that works ends the suspicion: the next black hole counts as the first again.
    let (id, _) = send(&mut s, 10);
    s.expect(&syn_with(10));
    s.inject("S. 0:0(0) ack 11 win 60000 <mss 1460,sackOK>");
    s.expect(". 11:11(0) ack 1");
    s.inject("P. 1:2(1) ack 11 win 60000");
    s.sock(id).abort();
    s.expect(". 11:11(0) ack 2");
    s.expect("R. 11:11(0) ack 2");
    let (id, _) = send(&mut s, 10);
    s.expect(&syn_with(10));
    for _ in 0..3 {
        s.expect(bare);
    }
    s.sock(id).abort();
    s.run_ms(100_000);
    assert_eq!(send(&mut s, 10).1, Ok(10));
}

#[test]
fn forgetting_the_metrics_forgets_cookies() {
    let mut s = client();
    warm_up(&mut s, 1460);
    s.host.stack.flush_tcp_metrics();
    let (_, sent) = send(&mut s, 10);
    assert_eq!(sent, Err(SockError::EINPROGRESS));
}

#[test]
fn without_permission_nothing_is_sent() {
    let mut s = client();
    s.host.sysctl("net.ipv4.tcp_fastopen", "0");
    let id = s.socket();
    let remote = s.remote;
    let mut sock = s.sock(id);
    assert_eq!(
        sock.send_fast_open(Some(remote), b"x", SendFlags::default()),
        Err(SockError::EOPNOTSUPP)
    );
    assert_eq!(
        sock.set_option(SockOption::FastOpenConnect(true)),
        Err(SockError::EOPNOTSUPP)
    );
}

// --- the server

/// What Linux 6.18 gives 192.0.2.1 at 192.168.0.1 under the key that packetdrill's scripts set.
const GOOD: &str = "3021b9d889017eeb";

fn server(queue: u32) -> (Script, SocketId) {
    let mut s = Script::new();
    s.host.sysctl("net.ipv4.tcp_fastopen", "2");
    s.host
        .sysctl("net.ipv4.tcp_fastopen_key", "a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4");
    let listener = s.listen(16);
    s.sock(listener).set_option(SockOption::FastOpen(queue)).unwrap();
    (s, listener)
}

fn syn(s: &mut Script, len: usize, option: &str) {
    s.inject(&format!("S 0:{len}({len}) win 60000 <mss 1460,sackOK,{option}>"));
}

#[test]
fn a_cookie_is_given_and_believed() {
    let (mut s, listener) = server(4);
    syn(&mut s, 0, "FO");
    s.expect(&format!("S. 0:0(0) ack 1 <mss 1460,nop,nop,sackOK,FO {GOOD},nop,nop>"));
    assert_eq!(s.host.counter("TcpExtTCPFastOpenCookieReqd"), 1);
    s.inject("R 1:1(0) win 0");

    syn(&mut s, 100, &format!("FO {GOOD}"));
    s.expect("S. 0:0(0) ack 101 <mss 1460,nop,nop,sackOK>");
    let (child, _) = s.sock(listener).accept().unwrap();
    assert_eq!(s.sock(child).state(), State::SynRcvd);
    assert_eq!(
        s.sock(child).readiness(),
        Readiness::READABLE.union(Readiness::WRITABLE)
    );
    let mut buf = [0; 200];
    assert_eq!(s.sock(child).recv(&mut buf, RecvFlags::default()), Ok(100));
    assert_eq!(buf[99], 99);
    // It answers before its peer has proved anything.
    assert_eq!(s.sock(child).send(&[1; 300], SendFlags::default()), Ok(300));
    s.expect("P. 1:301(300) ack 101");
    s.inject(". 101:101(0) ack 301 win 60000");
    assert_eq!(s.sock(child).state(), State::Established);
    assert!(syn_data(&mut s, child));
    assert_eq!(s.host.counter("TcpExtTCPFastOpenPassive"), 1);
}

#[test]
fn a_wrong_cookie_gets_the_right_one_and_its_data_is_not_taken() {
    let (mut s, listener) = server(4);
    syn(&mut s, 100, "FO 0011223344556677");
    s.expect(&format!("S. 0:0(0) ack 1 <mss 1460,nop,nop,sackOK,FO {GOOD},nop,nop>"));
    // Repeated, the SYN-ACK is bare.
    s.expect_at(1000, "S. 0:0(0) ack 1 <mss 1460,nop,nop,sackOK>");
    assert_eq!(s.sock(listener).accept(), Err(SockError::EAGAIN));
    assert_eq!(s.host.counter("TcpExtTCPFastOpenPassiveFail"), 1);
}

#[test]
fn a_backup_key_proves_cookies_but_makes_none() {
    let (mut s, listener) = server(4);
    let key = |s: &mut Script, primary, backup| {
        let keys = FastOpenKeys { primary, backup };
        s.sock(listener).set_option(SockOption::FastOpenKey(keys)).unwrap();
    };
    let old: [u8; 16] = *b"\xa1\xa1\xa1\xa1\xb2\xb2\xb2\xb2\xc3\xc3\xc3\xc3\xd4\xd4\xd4\xd4";
    key(&mut s, Some([9; 16]), Some(old));
    syn(&mut s, 10, &format!("FO {GOOD}"));
    let (_, found) = s.next("<");
    assert!(
        found.starts_with("S. 0:0(0) ack 11 <mss 1460,nop,nop,sackOK,FO "),
        "{found}"
    );
    assert!(!found.contains(GOOD));
    assert_eq!(s.host.counter("TcpExtTCPFastOpenPassiveAltKey"), 1);
}

#[test]
fn a_listener_that_did_not_ask_takes_no_data() {
    let (mut s, _) = server(0);
    syn(&mut s, 100, &format!("FO {GOOD}"));
    s.expect("S. 0:0(0) ack 1 <mss 1460,nop,nop,sackOK>");
}

#[test]
fn any_data_is_taken_where_no_cookie_is_required() {
    let (mut s, listener) = server(4);
    s.sock(listener).set_option(SockOption::FastOpenNoCookie(true)).unwrap();
    s.inject("S 0:100(100) win 60000 <mss 1460>");
    s.expect("S. 0:0(0) ack 101");
    assert!(s.sock(listener).accept().is_ok());
}

/// Another peer's SYN with a cookie of its own.
fn next_peer(s: &mut Script) {
    s.remote = addr(REMOTE, s.remote.port() + 1);
    s.iss = None;
}

#[test]
fn unproven_children_are_bounded_and_those_reset_count_on() {
    let (mut s, listener) = server(1);
    syn(&mut s, 10, &format!("FO {GOOD}"));
    s.expect("S. 0:0(0) ack 11");
    let (child, _) = s.sock(listener).accept().unwrap();
    s.inject("R. 11:11(0) ack 1 win 0");
    assert_eq!(s.sock(child).state(), State::Closed);
    s.run_ms(59_000);
    next_peer(&mut s);
    syn(&mut s, 10, &format!("FO {GOOD}"));
    s.expect("S. 0:0(0) ack 1");
    assert_eq!(s.host.counter("TcpExtTCPFastOpenListenOverflow"), 1);
    s.inject("R 1:1(0) win 0");
    s.run_ms(2_000);
    next_peer(&mut s);
    syn(&mut s, 10, &format!("FO {GOOD}"));
    s.expect("S. 0:0(0) ack 11");
    // Its final ACK makes room at once.
    s.inject(". 11:11(0) ack 1 win 60000");
    next_peer(&mut s);
    syn(&mut s, 10, &format!("FO {GOOD}"));
    s.expect("S. 0:0(0) ack 11");
}

#[test]
fn a_childs_syn_ack_is_repeated_once_more_than_a_requests_and_then_it_fails() {
    let (mut s, listener) = server(4);
    syn(&mut s, 10, &format!("FO {GOOD}"));
    s.expect_at(0, "S. 0:0(0) ack 11");
    let (child, _) = s.sock(listener).accept().unwrap();
    for at in [1, 3, 7, 15, 31, 63] {
        s.expect_at(at * 1000, "S. 0:0(0) ack 11");
    }
    s.run_ms(63_000);
    assert_eq!(s.sock(child).state(), State::SynRcvd);
    s.run_ms(2_000);
    assert_eq!(s.sock(child).state(), State::Closed);
    let mut buf = [0; 16];
    assert_eq!(s.sock(child).recv(&mut buf, RecvFlags::default()), Ok(10));
    assert_eq!(s.sock(child).take_error(), Some(SockError::ETIMEDOUT));
}

#[test]
fn a_child_closed_before_its_final_ack_sends_fin_and_ends_in_order() {
    let (mut s, listener) = server(4);
    syn(&mut s, 10, &format!("FO {GOOD}"));
    s.expect("S. 0:0(0) ack 11");
    let (child, _) = s.sock(listener).accept().unwrap();
    let mut buf = [0; 16];
    s.sock(child).recv(&mut buf, RecvFlags::default()).unwrap();
    s.sock(child).close();
    s.expect("F. 1:1(0) ack 11");
    assert_eq!(s.host.states(s.now), [State::FinWait1]);
    // Until the handshake is done, its timer is the SYN-ACK's.
    s.expect_at(1000, "S. 0:0(0) ack 11");
    s.inject(". 11:11(0) ack 2 win 60000");
    assert_eq!(s.host.states(s.now), [State::FinWait2]);
    s.inject("F. 11:11(0) ack 2 win 60000");
    s.expect(". 2:2(0) ack 12");
    assert_eq!(s.host.states(s.now), [State::TimeWait]);
}

#[test]
fn a_foreign_syn_or_ack_does_not_end_a_child() {
    let (mut s, listener) = server(4);
    syn(&mut s, 10, &format!("FO {GOOD}"));
    s.expect("S. 0:0(0) ack 11");
    // The SYN again: its SYN-ACK again.
    s.run_ms(600);
    syn(&mut s, 10, &format!("FO {GOOD}"));
    s.expect("S. 0:0(0) ack 11");
    // An ACK of what was not sent: RST, and the child stays.
    s.inject(". 11:11(0) ack 5000 win 60000");
    s.expect("R 5000:5000(0)");
    let (child, _) = s.sock(listener).accept().unwrap();
    assert_eq!(s.sock(child).state(), State::SynRcvd);
    s.inject(". 11:11(0) ack 1 win 60000");
    assert_eq!(s.sock(child).state(), State::Established);
}

#[test]
fn two_stacks_open_fast() {
    let mut p = Pair::new();
    for host in &mut p.hosts {
        host.sysctl("net.ipv4.tcp_fastopen", "0x403");
    }
    let listener = p.listen(B, 80, 10);
    let to = addr(B_ADDR, 80);
    for (round, first) in [Err(SockError::EINPROGRESS), Ok(5)].into_iter().enumerate() {
        let a = p.hosts[A].stack.socket(Family::V4, Kind::Stream).unwrap();
        let sent = p.sock(A, a).send_fast_open(Some(to), b"hello", SendFlags::default());
        assert_eq!(sent, first);
        if sent.is_err() {
            p.run_ms(25);
            p.send(A, a, b"hello").unwrap();
        }
        // With a cookie half a round trip brings the data; without, one more.
        p.run(Duration::from_millis(11));
        let (b, _) = p.sock(B, listener).accept().unwrap();
        assert_eq!(p.recv(B, b).unwrap(), b"hello", "round {round}");
        p.send(B, b, b"world").unwrap();
        p.run_ms(11);
        assert_eq!(p.recv(A, a).unwrap(), b"world");
        p.close(A, a);
        p.close(B, b);
        p.run_ms(100);
    }
}
