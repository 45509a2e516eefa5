//! RFC 9293 §3.5, establishing a connection: why three segments, and what they recover from. Two stacks, one wire,
//! and packets of the past that come again.

mod common;

use common::*;
use estab_engine::proto::State;
use estab_engine::*;
use estab_wire::tcp::{self, flags};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

type Kept = Rc<RefCell<Vec<Vec<u8>>>>;

/// Keeps a copy of everything that `host` sends.
fn tap(p: &mut Pair, host: usize) -> Kept {
    let kept = Kept::default();
    let copies = kept.clone();
    p.links[host] = Box::new(move |packet| {
        copies.borrow_mut().push(packet.to_vec());
        Some(Duration::from_millis(10))
    });
    kept
}

/// A packet of the past arrives at `host`.
fn again(p: &mut Pair, host: usize, packet: &[u8]) {
    let to = &mut p.hosts[host];
    to.stack.handle_packet(p.now, to.iface, packet, RxMeta::default());
}

/// A connects from port 5000, so that the next connection has the same tuple.
fn connect(p: &mut Pair) -> SocketId {
    let id = p.hosts[A].stack.socket(Family::V4, Kind::Stream).unwrap();
    p.sock(A, id).bind(addr(A_ADDR, 5000)).unwrap();
    p.sock(A, id).connect(addr(B_ADDR, 80)).unwrap();
    id
}

/// A first connection lived and ended; what A sent in it: its SYN first, its data among the rest.
fn past() -> (Pair, SocketId, Kept) {
    let mut p = Pair::new();
    let listener = p.listen(B, 80, 8);
    let kept = tap(&mut p, A);
    let a = connect(&mut p);
    p.run_ms(100);
    p.send(A, a, b"of the past").unwrap();
    p.run_ms(100);
    let (b, _) = p.sock(B, listener).accept().unwrap();
    p.close(B, b);
    p.sock(A, a).abort();
    p.run_s(200);
    assert_eq!((p.hosts[A].states(p.now), p.hosts[B].states(p.now)), (vec![], vec![]));
    let sent = Rc::new(RefCell::new(kept.take()));
    (p, listener, sent)
}

fn segment(packet: &[u8]) -> tcp::Segment<'_> {
    tcp::Segment::parse(estab_wire::ip::Packet::parse(packet).unwrap().payload).unwrap()
}

fn find(sent: &Kept, is: impl Fn(&tcp::Segment<'_>) -> bool) -> Option<Vec<u8>> {
    sent.borrow().iter().find(|packet| is(&segment(packet))).cloned()
}

/// Figure 8: the old SYN comes first; the SYN-ACK for it is reset by who never sent that SYN, and the new one opens.
#[test]
fn an_old_duplicate_syn_is_recovered_from() {
    let (mut p, listener, sent) = past();
    let old = find(&sent, |s| s.flags & flags::SYN != 0).unwrap();
    let now = tap(&mut p, A);
    let a = connect(&mut p);
    // The new SYN is on its way when the old one arrives.
    p.drain();
    again(&mut p, B, &old);
    assert_eq!(p.hosts[B].states(p.now), [State::SynRcvd]);
    p.run_ms(5000);
    assert!(
        find(&now, |s| s.flags & flags::RST != 0).is_some(),
        "the SYN-ACK for the old SYN was reset"
    );
    assert_eq!(p.state(A, a), State::Established);
    let (b, _) = p.sock(B, listener).accept().unwrap();
    assert_eq!(
        p.sock(B, listener).accept(),
        Err(SockError::EAGAIN),
        "one connection, not two"
    );
    p.send(A, a, b"of today").unwrap();
    p.run_ms(100);
    assert_eq!(p.recv(B, b).unwrap(), b"of today");
}

/// Were the second segment enough, B would take the old SYN for a connection and what follows it for its data. It takes
/// the third to say that the SYN was meant: until then the application is told nothing, and an old third acknowledges
/// a number that B has not sent this time.
#[test]
fn two_segments_would_let_the_past_in() {
    let (mut p, listener, sent) = past();
    let syn = find(&sent, |s| s.flags & flags::SYN != 0).unwrap();
    let data = find(&sent, |s| !s.payload.is_empty()).unwrap();
    let answers = tap(&mut p, B);
    // What B says does not reach A, which could reset it.
    p.links[B] = {
        let copies = answers.clone();
        Box::new(move |packet| {
            copies.borrow_mut().push(packet.to_vec());
            None
        })
    };
    again(&mut p, B, &syn);
    p.drain();
    let first = find(&answers, |s| s.flags & flags::SYN != 0).unwrap();
    assert_eq!(segment(&first).ack, segment(&syn).seq.wrapping_add(1));
    assert_eq!(p.sock(B, listener).accept(), Err(SockError::EAGAIN));
    again(&mut p, B, &data);
    p.drain();
    assert_eq!(p.sock(B, listener).accept(), Err(SockError::EAGAIN));
    let reset = find(&answers, |s| s.flags & flags::RST != 0).unwrap();
    assert_eq!(
        segment(&reset).seq,
        segment(&data).ack,
        "RST for an ACK of another time"
    );
    p.run_s(70);
    assert_eq!(p.hosts[B].states(p.now), [], "nobody meant it: it is forgotten");
}

/// A host reboots: it knows nothing of its connections.
fn reboot(p: &mut Pair, host: usize) {
    let ip = [A_ADDR, B_ADDR][host];
    p.hosts[host] = Host::new(99, &[(ip, 24)], wire());
}

/// Figure 9: A crashed and connects again from the same port. B's ACK of the old connection tells A that B still has it;
/// A resets it, and its next SYN opens.
#[test]
fn a_half_open_connection_is_found_by_who_comes_back() {
    let mut p = Pair::new();
    let listener = p.listen(B, 80, 8);
    let kept = tap(&mut p, A);
    connect(&mut p);
    p.run_ms(100);
    let (old, _) = p.sock(B, listener).accept().unwrap();
    reboot(&mut p, A);
    kept.take();
    let a = connect(&mut p);
    p.run_ms(500);
    assert_eq!(p.hosts[B].counter("TcpExtTCPChallengeACK"), 1, "B says what it has");
    assert!(find(&kept, |s| s.flags & flags::RST != 0).is_some());
    assert_eq!(p.sock(B, old).take_error(), Some(SockError::ECONNRESET));
    p.run_ms(1000);
    assert_eq!(p.state(A, a), State::Established, "the SYN was repeated after a second");
    assert!(p.sock(B, listener).accept().is_ok());
}

/// Figure 10: A crashed, and B sends first: A has no such connection and says so.
#[test]
fn a_half_open_connection_is_found_by_who_sends() {
    let (mut p, (_, b, _)) = {
        let mut p = Pair::new();
        let ids = p.open();
        (p, ids)
    };
    reboot(&mut p, A);
    p.send(B, b, b"are you there?").unwrap();
    p.run_ms(100);
    assert_eq!(p.sock(B, b).take_error(), Some(SockError::ECONNRESET));
    assert_eq!(p.hosts[A].counter("TcpOutRsts"), 1);
    assert_eq!(p.state(B, b), State::Closed);
}

/// Figure 11: an old duplicate SYN wakes a listener; the other end, which listens too, resets the answer.
#[test]
fn an_old_duplicate_syn_between_two_listeners_ends_where_it_began() {
    let (mut p, listener, sent) = past();
    p.listen(A, 5000, 8);
    let old = find(&sent, |s| s.flags & flags::SYN != 0).unwrap();
    let before = p.hosts[A].counter("TcpOutRsts");
    again(&mut p, B, &old);
    assert_eq!(p.hosts[B].states(p.now), [State::SynRcvd]);
    p.run_ms(100);
    assert_eq!(p.hosts[A].counter("TcpOutRsts") - before, 1);
    assert_eq!(p.hosts[B].states(p.now), []);
    assert_eq!(p.hosts[B].counter("TcpExtEmbryonicRsts"), 1);
    assert_eq!(p.sock(B, listener).accept(), Err(SockError::EAGAIN));
}
