//! A listener's two queues, and what happens when they are full.

mod common;

use common::script::*;
use common::*;
use estab_engine::proto::State;
use estab_engine::*;

/// A SYN from `port`: whether it is answered.
fn syn(s: &mut Script, port: u16) -> bool {
    s.remote.set_port(port);
    s.iss = None;
    s.inject("S 0:0(0) win 1000 <mss 1460>");
    s.skip();
    s.iss.is_some()
}

/// A whole handshake from `port`, as the peer sees it.
fn open(s: &mut Script, port: u16) {
    s.remote.set_port(port);
    s.inject("S 0:0(0) win 1000 <mss 1460>");
    s.expect("S. 0:0(0) ack 1");
    s.inject(". 1:1(0) ack 1 win 1000");
}

#[test]
fn the_accept_queue_holds_backlog_and_one_more() {
    let mut s = Script::new();
    let listener = s.listen(2);
    for port in 1..=3 {
        open(&mut s, port);
    }
    // Full: every new SYN is dropped.
    assert!(!syn(&mut s, 4));
    assert_eq!(s.host.counter("TcpExtListenOverflows"), 1);
    assert_eq!(s.host.counter("TcpExtListenDrops"), 1);
    s.sock(listener).accept().unwrap();
    assert!(syn(&mut s, 4));
}

#[test]
fn somaxconn_bounds_the_backlog() {
    let mut s = Script::new();
    s.host.sysctl("net.core.somaxconn", "1");
    s.listen(100);
    open(&mut s, 1);
    open(&mut s, 2);
    assert!(!syn(&mut s, 3));
}

#[test]
fn an_overflow_drops_the_final_ack_until_there_is_room() {
    let mut s = Script::new();
    let listener = s.listen(1);
    s.remote.set_port(1);
    s.inject("S 0:0(0) win 1000 <mss 1460>");
    s.expect("S. 0:0(0) ack 1");
    let late = s.iss;
    open(&mut s, 2);
    open(&mut s, 3);
    (s.iss, s.remote) = (late, addr(REMOTE, 1));
    s.inject(". 1:1(0) ack 1 win 1000");
    assert_eq!(s.host.counter("TcpExtListenOverflows"), 1);
    assert_eq!(s.host.counter("TcpExtListenDrops"), 1);
    s.expect_at(1000, "S. 0:0(0) ack 1");
    s.sock(listener).accept().unwrap();
    s.inject(". 1:1(0) ack 1 win 1000");
    s.sock(listener).accept().unwrap();
    s.sock(listener).accept().unwrap();
}

#[test]
fn abort_on_overflow_answers_the_final_ack_with_reset() {
    let mut s = Script::new();
    s.host.sysctl("net.ipv4.tcp_abort_on_overflow", "1");
    s.listen(0);
    s.remote.set_port(1);
    s.inject("S 0:0(0) win 1000 <mss 1460>");
    s.expect("S. 0:0(0) ack 1");
    let late = s.iss;
    open(&mut s, 2);
    (s.iss, s.remote) = (late, addr(REMOTE, 1));
    s.inject(". 1:1(0) ack 1 win 1000");
    s.expect("R 1:1(0)");
    assert_eq!(s.host.counter("TcpExtEmbryonicRsts"), 1);
}

#[test]
fn a_crowded_syn_queue_cuts_the_repeats() {
    let mut s = Script::new();
    s.listen(10);
    for port in 1..=11 {
        assert!(syn(&mut s, port));
    }
    // While more than five of ten are half-open, and old, a SYN-ACK is repeated only twice.
    s.run_ms(6_900);
    assert_eq!(s.host.states(s.now).len(), 11);
    s.run_ms(200);
    assert_eq!(s.host.states(s.now).len(), 5);
    let mut s = Script::new();
    s.listen(10);
    assert!(syn(&mut s, 1));
    s.run_ms(30_000);
    assert_eq!(s.host.states(s.now), [State::SynRcvd]);
}

// --- SYN cookies

#[test]
fn with_cookies_off_the_queue_is_bounded_and_the_last_quarter_is_kept() {
    let mut s = Script::new();
    s.host.sysctl("net.ipv4.tcp_syncookies", "0");
    s.host.sysctl("net.ipv4.tcp_max_syn_backlog", "16");
    s.listen(100);
    let answered = (1..=50).filter(|port| syn(&mut s, *port)).count();
    // 16 - n < 4 ends it.
    assert_eq!(answered, 13);
    assert_eq!(s.host.counter("TcpExtListenDrops"), 37);
    let mut s = Script::new();
    s.host.sysctl("net.ipv4.tcp_syncookies", "0");
    s.listen(4);
    let answered = (1..=50).filter(|port| syn(&mut s, *port)).count();
    assert_eq!(answered, 5);
    assert_eq!(s.host.counter("TcpExtTCPReqQFullDrop"), 45);
}

#[test]
fn a_full_queue_answers_with_cookies_that_open_connections() {
    let mut s = Script::new();
    let listener = s.listen(1);
    assert!(syn(&mut s, 1) && syn(&mut s, 2));
    assert_eq!(s.host.counter("TcpExtTCPReqQFullDoCookies"), 0);
    s.remote.set_port(3);
    s.inject("S 0:0(0) win 1000 <mss 1400,sackOK,nop,wscale 7>");
    // Without a timestamp there is room for the MSS only.
    s.expect("S. 0:0(0) ack 1 <mss 1460>");
    assert_eq!(s.host.counter("TcpExtSyncookiesSent"), 1);
    assert_eq!(s.host.states(s.now).len(), 2, "a cookie costs nothing");
    s.inject(". 1:1(0) ack 1 win 1000");
    assert_eq!(s.host.counter("TcpExtSyncookiesRecv"), 1);
    let (id, _) = s.sock(listener).accept().unwrap();
    assert_eq!(s.sock(id).info().unwrap().snd_mss, 500, "half of the largest window");
    assert_eq!(s.sock(id).state(), State::Established);
}

#[test]
fn with_timestamps_a_cookie_keeps_every_option() {
    let mut s = Script::new();
    s.host.sysctl("net.ipv4.tcp_syncookies", "2");
    let listener = s.listen(16);
    s.inject("SEW 0:0(0) win 65535 <mss 1460,sackOK,TS val 9 ecr 0,nop,wscale 7>");
    // 1000 ms, with the options in the low six bits: 960 + wscale 7 + SACK 16; 32 for ECN would make it 1015, ahead of us.
    s.expect("S.E 0:0(0) ack 1 <mss 1460,sackOK,TS val 951 ecr 9,nop,wscale 10>");
    s.inject(". 1:1(0) ack 1 win 512 <nop,nop,TS val 20 ecr 951>");
    let (id, _) = s.sock(listener).accept().unwrap();
    let info = s.sock(id).info().unwrap();
    assert_eq!((info.snd_wscale, info.options & 15, info.snd_mss), (7, 15, 1448));
    assert_eq!(info.snd_wnd, 512 << 7);
}

#[test]
fn a_cookie_is_believed_only_after_an_overflow_and_only_if_it_is_ours() {
    let mut s = Script::new();
    s.listen(16);
    s.inject(". 1:1(0) ack 1 win 1000");
    s.expect("R 1:1(0)");
    assert_eq!(s.host.counter("TcpExtSyncookiesFailed"), 0, "nobody looked");
    s.host.sysctl("net.ipv4.tcp_syncookies", "2");
    s.inject("S 0:0(0) win 65535 <mss 1460>");
    s.expect("S. 0:0(0) ack 1");
    s.inject(". 1:1(0) ack 99 win 1000");
    s.expect("R 99:99(0)");
    assert_eq!(s.host.counter("TcpExtSyncookiesFailed"), 1);
    // Two minutes later it has gone stale.
    s.run_ms(120_001);
    s.inject(". 1:1(0) ack 1 win 1000");
    s.expect("R 1:1(0)");
    assert_eq!(s.host.counter("TcpExtSyncookiesRecv"), 0);
}

#[test]
fn a_flood_takes_no_memory_and_honest_clients_get_in() {
    let mut s = Script::new();
    let listener = s.listen(64);
    for n in 0..20_000u32 {
        s.remote = std::net::SocketAddr::new(std::net::Ipv4Addr::from(0x0a00_0000 + n).into(), 1000);
        s.flood("S 0:0(0) win 1000 <mss 1460>");
    }
    let memory = s.host.stack.memory_used();
    for n in 20_000..60_000u32 {
        s.remote = std::net::SocketAddr::new(std::net::Ipv4Addr::from(0x0a00_0000 + n).into(), 1000);
        s.flood("S 0:0(0) win 1000 <mss 1460>");
    }
    assert_eq!(s.host.stack.memory_used(), memory);
    assert_eq!(s.host.states(s.now).len(), 65);
    for port in 1..=64 {
        s.remote = addr(REMOTE, port);
        open(&mut s, port);
        s.sock(listener).accept().unwrap();
    }
}

// --- binding

fn bound(s: &mut Script, ip: &str, port: u16, options: &[SockOption]) -> Result<SocketId> {
    let id = s.socket();
    for option in options {
        s.sock(id).set_option(*option).unwrap();
    }
    let result = s.sock(id).bind(addr(ip, port));
    if result.is_err() {
        s.sock(id).close();
    }
    result.map(|()| id)
}

#[test]
fn a_port_is_held_by_one_socket_unless_both_agree() {
    use SockOption::{ReuseAddr, ReusePort};
    let mut s = Script::new();
    let in_use = Err(SockError::EADDRINUSE);
    let first = bound(&mut s, "0.0.0.0", 80, &[]).unwrap();
    assert_eq!(bound(&mut s, "0.0.0.0", 80, &[]), in_use);
    assert_eq!(bound(&mut s, LOCAL, 80, &[ReuseAddr(true)]), in_use);
    s.sock(first).close();

    // SO_REUSEADDR on both: bound twice, but only one may listen.
    let a = bound(&mut s, "0.0.0.0", 80, &[ReuseAddr(true)]).unwrap();
    let b = bound(&mut s, LOCAL, 80, &[ReuseAddr(true)]).unwrap();
    s.sock(a).listen(1).unwrap();
    assert_eq!(s.sock(b).listen(1), Err(SockError::EADDRINUSE));
    assert_eq!(bound(&mut s, LOCAL, 80, &[ReuseAddr(true)]), in_use);
    s.sock(a).close();
    s.sock(b).listen(1).unwrap();
    s.sock(b).close();

    // SO_REUSEPORT on both: both listen.
    let a = bound(&mut s, "0.0.0.0", 80, &[ReusePort(true)]).unwrap();
    let b = bound(&mut s, "0.0.0.0", 80, &[ReusePort(true)]).unwrap();
    s.sock(a).listen(1).unwrap();
    s.sock(b).listen(1).unwrap();
    assert_eq!(bound(&mut s, "0.0.0.0", 80, &[ReuseAddr(true)]), in_use);
}

#[test]
fn different_addresses_do_not_collide_and_foreign_ones_cannot_be_bound() {
    let mut s = Script::new();
    bound(&mut s, LOCAL, 80, &[]).unwrap();
    bound(&mut s, "127.0.0.1", 80, &[]).unwrap();
    assert_eq!(bound(&mut s, REMOTE, 80, &[]), Err(SockError::EADDRNOTAVAIL));
    s.host.sysctl("net.ipv4.ip_nonlocal_bind", "1");
    assert!(bound(&mut s, REMOTE, 80, &[]).is_ok());
}

#[test]
fn reuseport_spreads_connections_evenly() {
    let mut s = Script::new();
    let listeners: Vec<SocketId> = (0..4)
        .map(|_| {
            let id = bound(&mut s, "0.0.0.0", 8080, &[SockOption::ReusePort(true)]).unwrap();
            s.sock(id).listen(1000).unwrap();
            id
        })
        .collect();
    for port in 1..=400 {
        open(&mut s, port);
    }
    for id in listeners {
        let mut n = 0;
        while s.sock(id).accept().is_ok() {
            n += 1;
        }
        assert!((60..=140).contains(&n), "{n} of 400");
    }
}

#[test]
fn port_0_chooses_a_free_port_of_the_range() {
    let mut s = Script::new();
    s.host.sysctl("net.ipv4.ip_local_port_range", "40000 40003");
    s.host.sysctl("net.ipv4.ip_local_reserved_ports", "40001");
    let mut ports: Vec<u16> = (0..3)
        .map(|_| {
            let id = bound(&mut s, "0.0.0.0", 0, &[]).unwrap();
            s.sock(id).local_addr().unwrap().port()
        })
        .collect();
    ports.sort();
    assert_eq!(ports, [40000, 40002, 40003]);
    assert_eq!(bound(&mut s, "0.0.0.0", 0, &[]), Err(SockError::EADDRINUSE));
    let id = s.socket();
    let remote = s.remote;
    assert_eq!(s.sock(id).connect(remote), Err(SockError::EADDRNOTAVAIL));
}

#[test]
fn connections_to_different_destinations_share_a_port() {
    let mut s = Script::new();
    s.host.sysctl("net.ipv4.ip_local_port_range", "40000 40000");
    let mut to = |ip: &str| {
        let id = s.socket();
        s.sock(id).connect(addr(ip, 80))
    };
    assert_eq!(to("192.0.2.1"), Ok(()));
    assert_eq!(to("192.0.2.2"), Ok(()));
    assert_eq!(to("192.0.2.1"), Err(SockError::EADDRNOTAVAIL));
}

#[test]
fn an_ipv6_listener_takes_ipv4_unless_told_not_to() {
    for v6only in [false, true] {
        let mut p = Pair::new();
        let id = p.hosts[B].stack.socket(Family::V6, Kind::Stream).unwrap();
        p.sock(B, id).set_option(SockOption::V6Only(v6only)).unwrap();
        p.sock(B, id).bind(addr("::", 80)).unwrap();
        p.sock(B, id).listen(8).unwrap();
        let a = p.connect(A, addr(B_ADDR, 80));
        let a6 = p.connect(A, addr("fd00::2", 80));
        p.run_ms(50);
        assert_eq!(p.state(A, a6), State::Established);
        match v6only {
            true => assert_eq!(p.sock(A, a).take_error(), Some(SockError::ECONNREFUSED)),
            false => {
                let (_, from) = p.sock(B, id).accept().unwrap();
                assert_eq!(from.ip().to_string(), "::ffff:10.0.0.1");
            }
        }
    }
}

#[test]
fn a_connection_to_oneself_works_over_the_loopback() {
    let mut p = Pair::new();
    let listener = p.listen(A, 80, 8);
    let a = p.connect(A, addr("127.0.0.1", 80));
    p.run_ms(1);
    let (b, _) = p.sock(A, listener).accept().unwrap();
    let data = vec![7; 100_000];
    assert_eq!(p.send(A, a, &data), Ok(data.len()));
    p.run_ms(50);
    let mut got = 0;
    while let Ok(bytes) = p.recv(A, b) {
        got += bytes.len();
        p.run_ms(1);
    }
    assert_eq!(got, data.len());
}

/// The table as measured on Linux 6.18, where the range holds a single port.
#[test]
fn autobind_reuse_lets_port_0_share_when_none_is_free() {
    for (addr, group, listens, shares) in [
        (false, false, false, false),
        (true, false, false, true),
        (true, false, true, false),
        (false, true, false, false),
        (true, true, false, false),
    ] {
        for autobind in [false, true] {
            let mut s = Script::new();
            s.host.sysctl("net.ipv4.ip_local_port_range", "40000 40000");
            s.host
                .sysctl("net.ipv4.ip_autobind_reuse", if autobind { "1" } else { "0" });
            let opts = [SockOption::ReuseAddr(addr), SockOption::ReusePort(group)];
            let first = bound(&mut s, "0.0.0.0", 0, &opts).unwrap();
            if listens {
                s.sock(first).listen(1).unwrap();
            }
            let second = bound(&mut s, "0.0.0.0", 0, &opts);
            assert_eq!(
                second.is_ok(),
                autobind && shares,
                "SO_REUSEADDR {addr}, SO_REUSEPORT {group}, listening {listens}, ip_autobind_reuse {autobind}"
            );
        }
    }
}

/// A group of two listeners at port 8080.
fn group(s: &mut Script) -> [SocketId; 2] {
    [(); 2].map(|()| {
        let id = bound(s, "0.0.0.0", 8080, &[SockOption::ReusePort(true)]).unwrap();
        s.sock(id).listen(100).unwrap();
        id
    })
}

#[test]
fn migrate_req_moves_what_a_closing_listener_leaves_to_its_group() {
    let mut s = Script::new();
    s.host.sysctl("net.ipv4.tcp_migrate_req", "1");
    let [first, second] = group(&mut s);
    for port in 1..=20 {
        open(&mut s, port);
    }
    // Some halfway through the handshake, too.
    let halfway: Vec<Option<u32>> = (21..=40)
        .map(|port| {
            s.remote.set_port(port);
            s.inject("S 0:0(0) win 65535 <mss 1460>");
            s.expect("S. 0:0(0) ack 1");
            s.iss
        })
        .collect();
    s.sock(first).close();
    s.drain();
    assert_eq!(s.pending(), 0, "nobody is reset");
    for (port, iss) in (21..=40).zip(halfway) {
        s.remote.set_port(port);
        s.iss = iss;
        s.inject(". 1:1(0) ack 1 win 65535");
    }
    let accepted = std::iter::from_fn(|| s.sock(second).accept().ok()).count();
    assert_eq!(accepted, 40);
    assert!(s.host.counter("TcpExtTCPMigrateReqSuccess") > 0);
    assert_eq!(s.host.counter("TcpExtTCPMigrateReqFailure"), 0);
    // The last of its group has no heir.
    open(&mut s, 41);
    s.sock(second).close();
    s.expect("R. 1:1(0) ack 1");
    assert_eq!(s.host.counter("TcpExtTCPMigrateReqFailure"), 1);
}

#[test]
fn without_migrate_req_the_group_inherits_nothing() {
    let mut s = Script::new();
    let [first, second] = group(&mut s);
    for port in 1..=20 {
        open(&mut s, port);
    }
    s.sock(first).close();
    s.drain();
    let reset = s.pending();
    let accepted = std::iter::from_fn(|| s.sock(second).accept().ok()).count();
    assert!(
        reset > 0 && reset + accepted == 20,
        "{reset} reset, {accepted} accepted"
    );
    assert_eq!(s.host.counter("TcpExtTCPMigrateReqFailure"), 0);
}
