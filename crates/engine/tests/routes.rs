//! What routes and devices say beside where packets go: MTU, MSS, the first window, a full queue; and disconnecting.

mod common;

use common::script::*;
use estab_engine::proto::State;
use estab_engine::*;

fn host_route(s: &mut Script, metrics: RouteMetrics) {
    let (to, iface) = (REMOTE.parse().unwrap(), s.host.iface);
    s.host.stack.add_route(to, 32, None, iface).unwrap();
    s.host.stack.set_route_metrics(to, 32, metrics).unwrap();
}

#[test]
fn a_route_s_mss_mtu_and_first_window_hold_for_connections_over_it() {
    let mut s = Script::new();
    let metrics = RouteMetrics {
        mtu: 940,
        advmss: 700,
        initcwnd: 3,
        ..RouteMetrics::default()
    };
    host_route(&mut s, metrics);
    let listener = s.listen(1);
    s.inject("S 0:0(0) win 60000 <mss 1460>");
    s.expect("S. 0:0(0) ack 1 <mss 700>");
    s.inject(". 1:1(0) ack 1 win 60000");
    let (id, _) = s.sock(listener).accept().unwrap();
    s.sock(id).send(&[1; 9000], SendFlags::default()).unwrap();
    s.drain();
    for at in [1, 901, 1801] {
        s.expect(&format!(". {at}:{}(900) ack 1", at + 900));
    }
    assert_eq!(s.pending(), 0, "three segments and no more");
    assert_eq!(
        s.host
            .stack
            .set_route_metrics("203.0.113.1".parse().unwrap(), 32, metrics),
        Err(SockError::ENETUNREACH)
    );
}

#[test]
fn a_locked_mtu_heeds_no_icmp() {
    let mut s = Script::new();
    let metrics = RouteMetrics {
        mtu: 1240,
        mtu_lock: true,
        ..RouteMetrics::default()
    };
    host_route(&mut s, metrics);
    let (id, _) = s.accepted();
    s.sock(id).send(&[1; 1200], SendFlags::default()).unwrap();
    s.drain();
    s.expect("P. 1:1201(1200) ack 1");
    s.icmp("too big 600");
    s.inject(". 1:1(0) ack 1201 win 60000");
    s.sock(id).send(&[1; 1200], SendFlags::default()).unwrap();
    s.drain();
    s.expect("P. 1201:2401(1200) ack 1");
}

#[test]
fn a_server_searches_the_path_s_mtu_from_what_its_route_allows() {
    let mut s = Script::new();
    s.host.sysctl("net.ipv4.tcp_mtu_probing", "2");
    s.host.sysctl("net.ipv4.tcp_base_mss", "500");
    let first = RouteMetrics {
        mtu: 840,
        initcwnd: 12,
        ..RouteMetrics::default()
    };
    host_route(&mut s, first);
    let (id, _) = s.accepted();
    // The path is found to be wider: the first probe goes half way, the rest of that write is cut as before.
    host_route(&mut s, RouteMetrics::default());
    s.sock(id).send(&[1; 5000], SendFlags::default()).unwrap();
    s.drain();
    s.expect(". 1:981(980) ack 1");
    s.expect(". 981:1781(800) ack 1");
}

#[test]
fn a_full_device_is_tried_again_every_half_second_until_the_user_timeout() {
    let mut s = Script::new();
    let (id, _) = s.accepted();
    let timeout = SockOption::UserTimeout(std::time::Duration::from_millis(2000));
    s.sock(id).set_option(timeout).unwrap();
    s.host.stack.set_output_full(true);
    s.sock(id).send(&[1; 50], SendFlags::default()).unwrap();
    s.quiet(2400);
    assert_eq!(s.sock(id).state(), State::Closed);
    assert_eq!(s.sock(id).take_error(), Some(SockError::ETIMEDOUT));
    assert_eq!(s.sock(id).info().unwrap().probes, 4);
}

#[test]
fn a_device_that_has_room_again_gets_what_waited() {
    let mut s = Script::new();
    let (id, _) = s.accepted();
    s.host.stack.set_output_full(true);
    s.sock(id).send(&[1; 50], SendFlags::default()).unwrap();
    s.quiet(600);
    s.host.stack.set_output_full(false);
    s.expect("P. 1:51(50) ack 1");
}

/// As measured on Linux 6.18: what bind(2) named outlives the connection, what was chosen does not.
#[test]
fn a_disconnected_socket_keeps_what_bind_named() {
    for (bound, address, port) in [
        (Some("0.0.0.0:5555"), false, true),
        (Some("192.168.0.1:5556"), true, true),
        (Some("192.168.0.1:0"), true, false),
        (Some("0.0.0.0:0"), false, false),
        (None, false, false),
    ] {
        for refused in [false, true] {
            let mut s = Script::new();
            let id = s.socket();
            if let Some(bound) = bound {
                s.sock(id).bind(bound.parse().unwrap()).unwrap();
            }
            let remote = s.remote;
            s.sock(id).connect(remote).unwrap();
            let first = s.sock(id).local_addr().unwrap();
            s.local = first;
            s.expect("S 0:0(0)");
            if refused {
                s.inject("R. 0:0(0) ack 1 win 0");
                assert_eq!(s.sock(id).take_error(), Some(SockError::ECONNREFUSED));
            } else {
                s.sock(id).disconnect().unwrap();
                let shown = s.sock(id).local_addr().unwrap();
                assert_eq!(shown.ip() == first.ip(), address, "{bound:?}");
            }
            let other = s.socket();
            let taken = s.sock(other).bind(first) == Err(SockError::EADDRINUSE);
            assert_eq!(taken, port, "{bound:?}, refused {refused}");
            s.sock(other).close();
            s.sock(id).connect(remote).unwrap();
            let second = s.sock(id).local_addr().unwrap();
            assert_eq!(second.port() == first.port(), port, "{bound:?}, refused {refused}");
            s.sock(id).close();
            s.drain();
            let other = s.socket();
            assert_eq!(s.sock(other).bind(first), Ok(()), "nobody holds it any more");
        }
    }
}

#[test]
fn a_disconnected_socket_resets_its_peer_and_opens_anew() {
    let mut s = Script::new();
    let (id, _) = s.accepted();
    s.sock(id).disconnect().unwrap();
    s.drain();
    s.expect("R. 1:1(0) ack 1");
    assert_eq!(s.sock(id).state(), State::Closed);
    let remote = s.remote;
    s.sock(id).connect(remote).unwrap();
    assert_eq!(s.sock(id).state(), State::SynSent);
    s.drain();
    s.iss = None;
    s.local = s.sock(id).local_addr().unwrap();
    s.next("S");
}
