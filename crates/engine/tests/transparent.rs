//! Transparent listeners: the application decides what becomes of each SYN.

mod common;

use common::*;
use estab_engine::proto::State;
use estab_engine::*;
use std::net::SocketAddr;

/// A, a guest, and B, a gateway that stands in for every address.
fn gateway() -> (Pair, SocketId) {
    let transparent = IfaceConfig {
        transparent: true,
        ..wire()
    };
    let mut p = Pair::with(wire(), transparent);
    let iface = p.hosts[A].iface;
    let zero = "0.0.0.0".parse().unwrap();
    p.hosts[A]
        .stack
        .add_route(zero, 0, Some(B_ADDR.parse().unwrap()), iface)
        .unwrap();
    let listener = p.hosts[B].stack.socket(Family::V4, Kind::Stream).unwrap();
    p.sock(B, listener).set_option(SockOption::Transparent(true)).unwrap();
    p.sock(B, listener).listen(128).unwrap();
    (p, listener)
}

fn incoming(p: &mut Pair) -> Incoming {
    let events = std::mem::take(&mut p.hosts[B].events);
    let found: Vec<Incoming> = events
        .iter()
        .filter_map(|event| match event {
            Event::Incoming(incoming) => Some(*incoming),
            _ => None,
        })
        .collect();
    assert_eq!(found.len(), 1, "{events:?}");
    found[0]
}

fn far() -> SocketAddr {
    addr("203.0.113.9", 443)
}

#[test]
fn an_open_is_answered_only_when_accepted_and_speaks_as_the_destination() {
    let (mut p, listener) = gateway();
    let a = p.connect(A, far());
    p.run_ms(500);
    assert_eq!(p.state(A, a), State::SynSent);
    let open = incoming(&mut p);
    assert_eq!((open.listener, open.local), (listener, far()));
    assert_eq!(open.remote, p.sock(A, a).local_addr().unwrap());
    let b = p.hosts[B].stack.open_accept(p.now, open.open).unwrap();
    assert_eq!(p.state(B, b), State::SynRcvd);
    assert_eq!(p.send(B, b, b"early"), Err(SockError::EAGAIN));
    p.run_ms(30);
    assert_eq!((p.state(A, a), p.state(B, b)), (State::Established, State::Established));
    assert!(p.hosts[B].events.contains(&Event::Ready(b, Readiness::WRITABLE)));
    assert_eq!(p.sock(A, a).peer_addr().unwrap(), far());
    assert_eq!(p.sock(B, b).local_addr().unwrap(), far());
    p.send(B, b, b"hello").unwrap();
    p.run_ms(30);
    assert_eq!(p.recv(A, a).unwrap(), b"hello");
    p.close(A, a);
    p.run_ms(60);
    assert_eq!(p.recv(B, b).unwrap(), b"");
    p.close(B, b);
    p.run_s(61);
    assert_eq!(p.hosts[B].states(p.now), []);
}

#[test]
fn an_open_that_is_refused_fails_at_once() {
    let (mut p, _) = gateway();
    let a = p.connect(A, far());
    p.run_ms(15);
    let open = incoming(&mut p);
    p.hosts[B].stack.open_reset(p.now, open.open);
    p.run_ms(15);
    assert_eq!(p.sock(A, a).take_error(), Some(SockError::ECONNREFUSED));
    assert_eq!(p.hosts[B].states(p.now), []);
}

#[test]
fn an_unreachable_destination_is_reported_as_such() {
    for (why, error) in [
        (Unreachable::Host, SockError::EHOSTUNREACH),
        (Unreachable::Network, SockError::ENETUNREACH),
        (Unreachable::Port, SockError::ECONNREFUSED),
    ] {
        let (mut p, _) = gateway();
        let a = p.connect(A, far());
        p.run_ms(15);
        let open = incoming(&mut p);
        p.hosts[B].stack.open_unreachable(p.now, open.open, why);
        p.run_ms(15);
        assert_eq!(p.sock(A, a).take_error(), Some(error), "{why:?}");
    }
}

#[test]
fn repeated_syns_are_one_open_and_silence_ends_it() {
    let (mut p, _) = gateway();
    let a = p.connect(A, far());
    // SYNs at 0, 1, 2, 3, 4, 5, 7, 11, 19, 35 s.
    p.run_s(60);
    let open = incoming(&mut p);
    assert_eq!(p.hosts[B].states(p.now), [State::SynRcvd]);
    p.sock(A, a).abort();
    p.run_s(200);
    assert!(p.hosts[B].events.contains(&Event::OpenGone(open.open)));
    assert_eq!(p.hosts[B].states(p.now), []);
    assert_eq!(p.hosts[B].stack.open_accept(p.now, open.open), Err(SockError::EBADF));
}

#[test]
fn a_new_connection_from_the_same_port_replaces_the_old_open() {
    let (mut p, _) = gateway();
    let bind = addr(A_ADDR, 5555);
    let open = |p: &mut Pair| {
        let id = p.hosts[A].stack.socket(Family::V4, Kind::Stream).unwrap();
        p.sock(A, id).bind(bind).unwrap();
        p.sock(A, id).connect(far()).unwrap();
        p.run_ms(50);
        id
    };
    let first = open(&mut p);
    let old = incoming(&mut p);
    p.sock(A, first).abort();
    open(&mut p);
    assert!(p.hosts[B].events.contains(&Event::OpenGone(old.open)));
    let new = incoming(&mut p);
    assert_eq!(new.remote, old.remote);
    p.hosts[B].stack.open_ignore(p.now, new.open);
    assert_eq!(p.hosts[B].states(p.now), []);
}

#[test]
fn the_gateways_own_addresses_are_not_stood_in_for() {
    let (mut p, _) = gateway();
    let a = p.connect(A, addr(B_ADDR, 9));
    p.run_ms(30);
    assert_eq!(p.sock(A, a).take_error(), Some(SockError::ECONNREFUSED));
    let status = p.listen(B, 80, 8);
    p.connect(A, addr(B_ADDR, 80));
    p.run_ms(50);
    assert!(p.sock(B, status).accept().is_ok());
}

#[test]
fn opens_are_bounded() {
    let (mut p, _) = gateway();
    p.hosts[B].sysctl("net.ipv4.tcp_max_syn_backlog", "64");
    for n in 0..5000u32 {
        p.connect(A, SocketAddr::new(std::net::Ipv4Addr::from(0xcb00_7100 + n).into(), 80));
    }
    p.run_ms(50);
    assert_eq!(p.hosts[B].states(p.now).len(), 4096);
}
