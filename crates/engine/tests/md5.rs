//! MD5 signatures (RFC 2385) as Linux has them: who is believed, what is signed, and what yields to the signature.

mod common;

use common::script::{REMOTE, Script};
use common::*;
use estab_engine::proto::State;
use estab_engine::*;

const KEY: &str = "open sesame";

fn remote() -> Md5Peer {
    Md5Peer::host(REMOTE.parse().unwrap())
}

/// A listener whose peer must sign, and does.
fn guarded() -> (Script, SocketId) {
    let mut s = Script::new();
    s.key = Some(KEY);
    let listener = s.listen(16);
    s.sock(listener).set_md5_key(remote(), KEY.as_bytes()).unwrap();
    (s, listener)
}

/// An accepted connection over signed segments.
fn accepted() -> (Script, SocketId, SocketId) {
    let (mut s, listener) = guarded();
    s.inject("S 0:0(0) win 65535 <mss 1460>");
    s.expect("S. 0:0(0) ack 1 <nop,nop,md5,mss 1460>");
    s.inject(". 1:1(0) ack 1 win 65535");
    let (id, _) = s.sock(listener).accept().unwrap();
    (s, id, listener)
}

/// Counters: signature missing, unexpected, wrong.
fn counted(s: &Script) -> [u64; 3] {
    ["TCPMD5NotFound", "TCPMD5Unexpected", "TCPMD5Failure"].map(|name| s.host.counter(&format!("TcpExt{name}")))
}

#[test]
fn every_segment_of_an_accepted_connection_is_signed() {
    let (mut s, id, _) = accepted();
    s.inject("P. 1:101(100) ack 1 win 65535");
    s.expect(". 1:1(0) ack 101 <nop,nop,md5>");
    s.sock(id).send(&[7; 2000], SendFlags::default()).unwrap();
    // The signature takes 20 bytes of each segment, and no device may cut what is signed as one.
    s.expect(". 1:1441(1440) ack 101 <nop,nop,md5>");
    s.expect("P. 1441:2001(560) ack 101 <nop,nop,md5>");
    s.inject(". 101:101(0) ack 2001 win 65535");
    s.sock(id).close();
    // Data was not read.
    s.expect("R. 2001:2001(0) ack 101 <nop,nop,md5>");
    assert_eq!(counted(&s), [0, 0, 0]);
}

#[test]
fn a_syn_without_signature_gets_nothing() {
    let (mut s, _) = guarded();
    s.key = None;
    s.inject("S 0:0(0) win 65535 <mss 1460>");
    s.quiet(10_000);
    assert_eq!(s.host.dropped().as_deref(), Some("TCP_MD5NOTFOUND"));
    assert_eq!(counted(&s), [1, 0, 0]);
}

#[test]
fn a_wrong_key_gets_nothing() {
    let (mut s, _) = guarded();
    s.key = Some("guess");
    s.inject("S 0:0(0) win 65535 <mss 1460>");
    s.quiet(10_000);
    assert_eq!(s.host.dropped().as_deref(), Some("TCP_MD5FAILURE"));
    assert_eq!(counted(&s), [0, 0, 1]);
}

#[test]
fn an_unexpected_signature_is_dropped_and_the_handshake_goes_on_without() {
    let mut s = Script::new();
    let listener = s.listen(16);
    s.inject("S 0:0(0) win 65535 <mss 1460>");
    s.expect("S. 0:0(0) ack 1");
    s.key = Some(KEY);
    s.inject(". 1:1(0) ack 1 win 65535");
    s.inject(". 1:1(0) ack 1 win 65535");
    assert_eq!(s.host.dropped().as_deref(), Some("TCP_MD5UNEXPECTED"));
    assert_eq!(s.sock(listener).accept(), Err(SockError::EAGAIN));
    s.key = None;
    s.inject(". 1:1(0) ack 1 win 65535");
    s.sock(listener).accept().unwrap();
    assert_eq!(counted(&s), [0, 2, 0]);
}

#[test]
fn an_established_connection_obeys_only_its_peer() {
    let (mut s, id, _) = accepted();
    s.key = None;
    s.inject("R. 1:1(0) ack 1 win 0");
    s.inject("P. 1:101(100) ack 1 win 65535");
    s.key = Some("guess");
    s.inject("R. 1:1(0) ack 1 win 0");
    assert_eq!(counted(&s), [2, 0, 1]);
    assert_eq!((s.sock(id).state(), s.sock(id).recv_queued()), (State::Established, 0));
    s.key = Some(KEY);
    s.inject("R. 1:1(0) ack 1 win 0");
    assert_eq!(s.sock(id).take_error(), Some(SockError::ECONNRESET));
}

#[test]
fn timestamps_yield_where_sack_is_wanted() {
    // Ours offers none: the signature leaves no room for SACK blocks beside them (Linux: `tcp_syn_options`).
    let mut s = Script::new();
    s.key = Some(KEY);
    let id = s.socket();
    s.sock(id).set_md5_key(remote(), KEY.as_bytes()).unwrap();
    let to = s.remote;
    s.sock(id).connect(to).unwrap();
    s.local = s.sock(id).local_addr().unwrap();
    s.expect("S 0:0(0) <nop,nop,md5,mss 1460,nop,nop,sackOK,nop,wscale 10>");
    s.inject("S. 0:0(0) ack 1 win 65535 <mss 1460,sackOK>");
    s.expect(". 1:1(0) ack 1 <nop,nop,md5>");
    // Two blocks fit beside it.
    for n in [2, 4, 6] {
        s.inject(&format!("P. {n}001:{}001(1000) ack 1 win 65535", n + 1));
        s.skip();
    }
    s.inject(". 8001:9001(1000) ack 1 win 65535");
    s.expect(". 1:1(0) ack 1 <nop,nop,md5,nop,nop,sack 8001:9001 6001:7001>");

    let (mut s, _) = guarded();
    s.inject("S 0:0(0) win 65535 <mss 1460,sackOK,TS val 100 ecr 0>");
    s.expect("S. 0:0(0) ack 1 <nop,nop,md5,mss 1460,nop,nop,sackOK>");
    let (mut s, _) = guarded();
    s.inject("S 0:0(0) win 65535 <mss 1460,TS val 100 ecr 0>");
    s.expect("S. 0:0(0) ack 1 <nop,nop,md5,mss 1460,nop,nop,TS val 1000 ecr 100>");
}

#[test]
fn a_cookie_keeps_its_timestamp_beside_the_signature() {
    let (mut s, listener) = guarded();
    s.host.sysctl("net.ipv4.tcp_syncookies", "2");
    s.inject("S 0:0(0) win 65535 <mss 1460,sackOK,TS val 100 ecr 0,wscale 7>");
    let (_, text) = s.next("<");
    assert!(text.contains("<nop,nop,md5,mss 1460,sackOK,TS val "), "{text}");
    let val: u32 = text
        .split("TS val ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    s.inject(&format!(". 1:1(0) ack 1 win 65535 <nop,nop,TS val 101 ecr {val}>"));
    let (id, _) = s.sock(listener).accept().unwrap();
    // The accepted connection has the key.
    s.sock(id).send(b"hello", SendFlags::default()).unwrap();
    s.expect("P. 1:6(5) ack 1");
    s.key = None;
    s.inject(". 1:1(0) ack 6 win 65535 <nop,nop,TS val 102 ecr 0>");
    assert_eq!(counted(&s), [1, 0, 0]);
}

#[test]
fn a_fast_open_cookie_yields_when_there_is_no_room_for_it() {
    let (mut s, listener) = guarded();
    s.host.sysctl("net.ipv4.tcp_fastopen", "3");
    s.sock(listener).set_option(SockOption::FastOpen(5)).unwrap();
    s.inject("S 0:0(0) win 65535 <mss 1460,sackOK,nop,wscale 7,FO>");
    s.expect("S. 0:0(0) ack 1 <nop,nop,md5,mss 1460,nop,nop,sackOK,nop,wscale 10>");
    let (mut s, listener) = guarded();
    s.host.sysctl("net.ipv4.tcp_fastopen", "3");
    s.sock(listener).set_option(SockOption::FastOpen(5)).unwrap();
    s.inject("S 0:0(0) win 65535 <mss 1460,FO>");
    let (_, text) = s.next("<");
    assert!(
        text.starts_with("S. 0:0(0) ack 1 ") && text.contains("<nop,nop,md5,mss 1460,FO "),
        "{text}"
    );
}

#[test]
fn time_wait_signs_its_acks() {
    let (mut s, id, _) = accepted();
    s.sock(id).close();
    s.expect("F. 1:1(0) ack 1 <nop,nop,md5>");
    s.inject("F. 1:1(0) ack 2 win 65535");
    s.expect(". 2:2(0) ack 2 <nop,nop,md5>");
    s.run_ms(1000);
    s.inject("F. 1:1(0) ack 2 win 65535");
    s.expect(". 2:2(0) ack 2 <nop,nop,md5>");
    assert_eq!(s.host.states(s.now), [State::TimeWait]);
    s.run_ms(60_000);
    assert_eq!(s.host.states(s.now), []);
}

/// What no connection sends any more, or yet, has its timestamps first, as Linux's tcp_v4_send_ack writes it.
#[test]
fn timestamps_stand_before_a_signature_where_no_connection_sends() {
    let (mut s, _) = guarded();
    s.inject("S 0:0(0) win 65535 <mss 1460,TS val 100 ecr 0>");
    s.expect("S. 0:0(0) ack 1");
    // Out of the request's window.
    s.inject(". 90001:90001(0) ack 1 win 65535 <nop,nop,TS val 101 ecr 1000>");
    s.expect(". 1:1(0) ack 1 <nop,nop,TS val 1000 ecr 100,nop,nop,md5>");
}

#[test]
fn resets_are_signed_where_a_key_is_found() {
    // A listener's.
    let (mut s, _) = guarded();
    s.inject(". 1:1(0) ack 500 win 65535");
    s.expect("R 500:500(0) <nop,nop,md5>");
    // Nobody's: signed segments are not answered, for the answer could not be signed.
    s.local.set_port(4444);
    s.inject(". 1:1(0) ack 500 win 65535");
    s.quiet(1000);
    s.key = None;
    s.inject(". 1:1(0) ack 500 win 65535");
    s.expect("R 500:500(0)");
    // A listener at the port that the peer comes from proves it: so both ends of a BGP session have one.
    s.remote.set_port(8080);
    s.key = Some(KEY);
    s.inject(". 1:1(0) ack 500 win 65535");
    s.expect("R 500:500(0) <nop,nop,md5>");
    s.key = Some("guess");
    s.inject(". 1:1(0) ack 500 win 65535");
    s.quiet(1000);
}

#[test]
fn keys_are_set_replaced_and_taken_away() {
    let (mut s, id, listener) = accepted();
    assert_eq!(s.sock(listener).set_md5_key(remote(), &[]), Ok(()));
    assert_eq!(s.sock(listener).set_md5_key(remote(), &[]), Err(SockError::ENOENT));
    // The accepted connection keeps its own, as that of one host.
    let net = Md5Peer { prefix: 24, ..remote() };
    assert_eq!(s.sock(id).set_md5_key(net, &[]), Err(SockError::ENOENT));
    s.inject("P. 1:2(1) ack 1 win 65535");
    s.expect(". 1:1(0) ack 2 <nop,nop,md5>");
    s.sock(id).set_md5_key(remote(), b"another").unwrap();
    s.inject("P. 2:3(1) ack 1 win 65535");
    assert_eq!(counted(&s), [0, 0, 1]);
    s.key = Some("another");
    s.inject("P. 2:3(1) ack 1 win 65535");
    s.expect(". 1:1(0) ack 3 <nop,nop,md5>");
    s.sock(id).set_md5_key(remote(), &[]).unwrap();
    s.inject("P. 3:4(1) ack 1 win 65535");
    assert_eq!(counted(&s), [0, 1, 1]);
    s.key = None;
    s.inject("P. 3:4(1) ack 1 win 65535");
    s.expect(". 1:1(0) ack 4");
}

#[test]
fn the_longest_prefix_wins() {
    let mut s = Script::new();
    let listener = s.listen(16);
    let net = |prefix| Md5Peer { prefix, ..remote() };
    s.sock(listener).set_md5_key(remote(), b"host").unwrap();
    s.sock(listener).set_md5_key(net(24), b"net").unwrap();
    s.sock(listener).set_md5_key(net(0), b"all").unwrap();
    for (from, key) in [(REMOTE, "host"), ("192.0.2.77", "net"), ("198.51.100.1", "all")] {
        s.remote.set_ip(from.parse().unwrap());
        s.key = Some(key);
        s.inject("S 0:0(0) win 65535 <mss 1460>");
        s.expect("S. 0:0(0) ack 1 <nop,nop,md5,mss 1460>");
    }
}

#[test]
fn keys_are_bounded_and_checked() {
    let mut s = Script::new();
    let id = s.socket();
    let set = |s: &mut Script, peer, key: &[u8]| s.sock(id).set_md5_key(peer, key);
    assert_eq!(set(&mut s, remote(), &[1; 80]), Ok(()));
    assert_eq!(set(&mut s, remote(), &[1; 81]), Err(SockError::EINVAL));
    assert_eq!(
        set(&mut s, Md5Peer { prefix: 33, ..remote() }, b"k"),
        Err(SockError::EINVAL)
    );
    // net.core.optmem_max bounds what one socket may keep.
    s.host.sysctl("net.core.optmem_max", "1000");
    let of = |n: u8| Md5Peer::host([10, 0, 0, n].into());
    let taken = (0..20).filter(|n| set(&mut s, of(*n), b"k").is_ok()).count();
    assert_eq!(taken, 6, "with the first, seven of 136 bytes");
    assert_eq!(set(&mut s, of(19), b"k"), Err(SockError::ENOMEM));
}

#[test]
fn options_that_contradict_themselves_are_refused() {
    let mut s = Script::new();
    s.listen(16);
    s.key = Some(KEY);
    let mut packet = s.packet("S 0:0(0) win 65535 <mss 1460>");
    // The signature's length is off.
    packet[20 + 23] = 17;
    packet[20 + 16..20 + 18].fill(0);
    let iface = s.host.iface;
    let meta = RxMeta {
        csum: RxCsum::Verified,
        ..RxMeta::default()
    };
    s.host.stack.handle_packet(s.now, iface, &packet, meta);
    s.drain();
    s.quiet(1000);
    assert_eq!(s.host.dropped().as_deref(), Some("TCP_AUTH_HDR"));
}

#[test]
fn two_stacks_speak_over_ipv6() {
    let mut p = Pair::new();
    let listener = p.hosts[B].stack.socket(Family::V6, Kind::Stream).unwrap();
    p.sock(B, listener).bind(addr("::", 179)).unwrap();
    p.sock(B, listener).listen(8).unwrap();
    let peer = |ip: &str| Md5Peer::host(ip.parse().unwrap());
    p.sock(B, listener).set_md5_key(peer("fd00::1"), b"bgp").unwrap();
    let a = p.hosts[A].stack.socket(Family::V6, Kind::Stream).unwrap();
    p.sock(A, a).set_md5_key(peer("fd00::2"), b"bgp").unwrap();
    p.sock(A, a).connect(addr("fd00::2", 179)).unwrap();
    p.run_ms(100);
    let (b, _) = p.sock(B, listener).accept().unwrap();
    p.send(A, a, &[5; 50_000]).unwrap();
    p.run_ms(1000);
    assert_eq!(p.recv(B, b).unwrap(), [5; 50_000]);
    // Mapped addresses are IPv4's: the same listener over IPv4.
    p.sock(B, listener)
        .set_md5_key(peer("::ffff:10.0.0.1"), b"bgp4")
        .unwrap();
    let a = p.hosts[A].stack.socket(Family::V4, Kind::Stream).unwrap();
    p.sock(A, a).set_md5_key(peer(B_ADDR), b"bgp4").unwrap();
    p.sock(A, a).connect(addr(B_ADDR, 179)).unwrap();
    p.run_ms(100);
    assert_eq!(p.state(A, a), State::Established);
}
