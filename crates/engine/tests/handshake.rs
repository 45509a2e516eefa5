//! Three segments, data, and the ways to say goodbye, between two stacks.

mod common;

use common::*;
use estab_engine::proto::State;
use estab_engine::*;

#[test]
fn a_connection_opens_carries_data_both_ways_and_closes() {
    let mut p = Pair::new();
    let listener = p.listen(B, 80, 10);
    let a = p.connect(A, addr(B_ADDR, 80));
    assert_eq!(p.state(A, a), State::SynSent);
    p.run_ms(30);
    assert_eq!(p.state(A, a), State::Established);
    assert!(p.hosts[A].events.contains(&Event::Ready(a, Readiness::WRITABLE)));
    assert!(p.hosts[B].events.contains(&Event::Ready(listener, Readiness::READABLE)));
    let (b, from) = p.sock(B, listener).accept().unwrap();
    assert_eq!(from, p.sock(A, a).local_addr().unwrap());
    assert_eq!(p.sock(B, listener).accept(), Err(SockError::EAGAIN));

    assert_eq!(p.send(A, a, b"ping"), Ok(4));
    p.run_ms(15);
    assert_eq!(p.recv(B, b).unwrap(), b"ping");
    assert_eq!(p.send(B, b, b"pong!"), Ok(5));
    p.run_ms(15);
    assert_eq!(p.recv(A, a).unwrap(), b"pong!");
    assert_eq!(p.recv(A, a), Err(SockError::EAGAIN));

    p.close(A, a);
    // The ACK of a FIN waits for a reply to ride on: a delayed ACK's 40 ms.
    p.run_ms(100);
    assert_eq!(p.recv(B, b).unwrap(), b"");
    assert_eq!(p.state(B, b), State::CloseWait);
    assert_eq!(p.hosts[A].states(p.now), [State::FinWait2]);
    p.close(B, b);
    p.run_ms(50);
    assert_eq!(p.hosts[A].states(p.now), [State::TimeWait]);
    assert_eq!(p.hosts[B].states(p.now), []);
    p.run_s(60);
    assert_eq!(p.hosts[A].states(p.now), []);
    assert!(p.hosts[A].events.contains(&Event::Closed(a)));
    assert_eq!(
        p.hosts[A].moves(),
        [
            "CLOSED>SYN-SENT",
            "SYN-SENT>ESTABLISHED",
            "ESTABLISHED>FIN-WAIT-1",
            "FIN-WAIT-1>FIN-WAIT-2",
            "FIN-WAIT-2>TIME-WAIT",
            "TIME-WAIT>CLOSED",
        ]
    );
    assert_eq!(
        p.hosts[B].moves(),
        [
            "LISTEN>SYN-RECEIVED",
            "SYN-RECEIVED>ESTABLISHED",
            "ESTABLISHED>CLOSE-WAIT",
            "CLOSE-WAIT>LAST-ACK",
            "LAST-ACK>CLOSED",
        ]
    );
}
