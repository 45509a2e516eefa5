//! Knobs that no other file of tests is about: each is set, and something a user sees is different.

mod common;

use common::script::*;
use common::*;
use estab_engine::proto::State;
use estab_engine::proto::diag::CcName;
use estab_engine::*;
use std::path::Path;
use std::time::Duration;

fn set(s: &mut Script, knobs: &[(&str, &str)]) {
    for (name, value) in knobs {
        s.host.sysctl(name, value);
    }
}

/// The MSS our next SYN offers.
fn offered(s: &mut Script) -> String {
    s.connect();
    let (_, text) = s.next("<");
    text.split("<mss ")
        .nth(1)
        .unwrap()
        .split(',')
        .next()
        .unwrap()
        .to_string()
}

#[test]
fn buffers_begin_and_end_where_net_core_says() {
    let mut s = Script::new();
    set(
        &mut s,
        &[("net.core.rmem_max", "10000"), ("net.core.wmem_max", "20000")],
    );
    let id = s.socket();
    s.sock(id).set_option(SockOption::RcvBuf(1 << 20)).unwrap();
    s.sock(id).set_option(SockOption::SndBuf(1 << 20)).unwrap();
    // The option reads as twice what was granted.
    assert_eq!(s.sock(id).option(SockOption::RcvBuf(0)), Ok(SockOption::RcvBuf(20_000)));
    assert_eq!(s.sock(id).option(SockOption::SndBuf(0)), Ok(SockOption::SndBuf(40_000)));

    set(
        &mut s,
        &[("net.core.rmem_default", "5000"), ("net.core.wmem_default", "6000")],
    );
    let id = s.host.stack.socket(Family::V4, Kind::Datagram).unwrap();
    assert_eq!(s.sock(id).option(SockOption::RcvBuf(0)), Ok(SockOption::RcvBuf(5000)));
    assert_eq!(s.sock(id).option(SockOption::SndBuf(0)), Ok(SockOption::SndBuf(6000)));
}

#[test]
fn min_adv_mss_is_offered_on_the_narrowest_link() {
    let narrow = || IfaceConfig { mtu: 200, ..wire() };
    assert_eq!(offered(&mut Script::with(narrow())), "256");
    let mut s = Script::with(narrow());
    set(&mut s, &[("net.ipv4.route.min_adv_mss", "100")]);
    assert_eq!(offered(&mut s), "160");
}

#[test]
fn min_pmtu_and_mtu_expires_bound_what_a_router_says() {
    for (min, mss) in [("552", 512), ("1000", 960)] {
        let mut s = Script::new();
        set(
            &mut s,
            &[("net.ipv4.route.min_pmtu", min), ("net.ipv4.route.mtu_expires", "5")],
        );
        let (id, _) = s.accepted();
        s.sock(id).send(&[0; 1460], SendFlags::default()).unwrap();
        s.expect("P. 1:1461(1460) ack 1");
        s.icmp("too big 300");
        assert_eq!(s.sock(id).info().unwrap().snd_mss, mss);
        s.run_ms(4000);
        let mut t = s;
        assert_ne!(offered_to_the_same(&mut t), "1460");
        t.run_ms(2000);
        assert_eq!(offered_to_the_same(&mut t), "1460");
    }
}

/// The MSS of a SYN to the host of the script, other segments passed over.
fn offered_to_the_same(s: &mut Script) -> String {
    while s.pending() > 0 {
        s.skip();
    }
    let id = s.socket();
    let remote = s.remote;
    s.sock(id).connect(remote).unwrap();
    s.drain();
    while s.pending() > 0 {
        let (_, text) = s.next("<");
        if let Some(rest) = text.split("<mss ").nth(1) {
            return rest.split(',').next().unwrap().to_string();
        }
    }
    "none".to_string()
}

#[test]
fn min_snd_mss_is_sent_whatever_the_peer_offers() {
    for (least, mss) in [("48", 48), ("100", 100)] {
        let mut s = Script::new();
        set(&mut s, &[("net.ipv4.tcp_min_snd_mss", least)]);
        let listener = s.listen(5);
        s.inject("S 0:0(0) win 1000 <mss 10>");
        s.expect("S. 0:0(0) ack 1");
        s.inject(". 1:1(0) ack 1 win 1000");
        let (id, _) = s.sock(listener).accept().unwrap();
        assert_eq!(s.sock(id).info().unwrap().snd_mss, mss);
    }
}

/// After retries1 timeouts the path is doubted: with MTU probing on black holes, segments shrink.
#[test]
fn retries1_is_when_a_path_is_doubted() {
    let whole = |retries1: &str| {
        let mut s = Script::new();
        set(
            &mut s,
            &[("net.ipv4.tcp_mtu_probing", "1"), ("net.ipv4.tcp_retries1", retries1)],
        );
        let (id, _) = s.accepted();
        s.sock(id).send(&[0; 1460], SendFlags::default()).unwrap();
        (0..10).take_while(|_| s.next("").1 == "P. 1:1461(1460) ack 1").count()
    };
    let (early, normal) = (whole("1"), whole("3"));
    assert!(
        early < normal && normal < 10,
        "{early} and {normal} segments before smaller ones"
    );
}

#[test]
fn ecn_fallback_repeats_a_syn_without_ecn() {
    for (fallback, ecn) in [("1", false), ("0", true)] {
        let mut s = Script::new();
        set(
            &mut s,
            &[("net.ipv4.tcp_ecn", "1"), ("net.ipv4.tcp_ecn_fallback", fallback)],
        );
        s.connect();
        let flags = |text: String| text.split(' ').next().unwrap().to_string();
        assert!(flags(s.next("").1).contains('E'), "the first asks");
        assert_eq!(flags(s.next("").1).contains('E'), ecn, "tcp_ecn_fallback {fallback}");
    }
}

#[test]
fn reflect_tos_answers_with_the_syns() {
    for (reflect, tos) in [("0", 0), ("1", 0x48)] {
        let mut s = Script::new();
        set(&mut s, &[("net.ipv4.tcp_reflect_tos", reflect)]);
        s.listen(5);
        let mut syn = s.packet("S 0:0(0) win 1000 <mss 1460>");
        syn[1] = 0x48;
        syn[10..12].fill(0);
        let sum = estab_wire::checksum::checksum(&syn[..20]);
        syn[10..12].copy_from_slice(&sum.to_be_bytes());
        let iface = s.host.iface;
        s.host.stack.handle_packet(s.now, iface, &syn, RxMeta::default());
        let mut buf = [0; 2000];
        let sent = s.host.stack.poll_transmit(s.now, &mut buf).unwrap();
        assert_eq!(estab_wire::ip::Packet::parse(&buf[..sent.len]).unwrap().tos, tos);
    }
}

#[test]
fn notsent_lowat_is_when_a_socket_is_writable() {
    for (lowat, writable) in [("4294967295", true), ("1000", false)] {
        let mut s = Script::new();
        set(&mut s, &[("net.ipv4.tcp_notsent_lowat", lowat)]);
        let listener = s.listen(5);
        s.inject("S 0:0(0) win 1000 <mss 1000>");
        s.expect("S. 0:0(0) ack 1");
        s.inject(". 1:1(0) ack 1 win 1000");
        let (id, _) = s.sock(listener).accept().unwrap();
        s.sock(id).send(&[0; 5000], SendFlags::default()).unwrap();
        let ready = s.sock(id).readiness().contains(Readiness::WRITABLE);
        assert_eq!(ready, writable, "tcp_notsent_lowat {lowat}, 4000 bytes not sent");
    }
}

#[test]
fn the_congestion_control_of_new_sockets_is_the_sysctls() {
    let mut s = Script::new();
    set(&mut s, &[("net.ipv4.tcp_congestion_control", "reno")]);
    let (id, _) = s.accepted();
    let like = SockOption::Congestion(CcName::default());
    assert_eq!(s.sock(id).option(like), Ok(SockOption::Congestion(CcName::new("reno"))));
}

#[test]
fn rto_min_and_rto_max_bound_the_timeout() {
    let first = |us: &str| {
        let mut s = Script::new();
        set(&mut s, &[("net.ipv4.tcp_rto_min_us", us)]);
        let (id, _) = s.accepted();
        s.sock(id).send(&[0; 100], SendFlags::default()).unwrap();
        let sent = s.expect("P. 1:101(100) ack 1");
        s.expect("P. 1:101(100) ack 1") - sent
    };
    assert_eq!((first("200000"), first("700000")), (200, 700));
    let mut s = Script::new();
    set(
        &mut s,
        &[
            ("net.ipv4.tcp_rto_max_ms", "2000"),
            ("net.ipv4.tcp_syn_linear_timeouts", "0"),
        ],
    );
    s.connect();
    for at in [0, 1000, 3000, 5000, 7000] {
        s.expect_at(at, "S 0:0(0)");
    }
}

/// A peer whose connections went well is let in when the queue is short (`tcp_max_syn_backlog`), if that is remembered.
#[test]
fn no_metrics_save_forgets_who_proved_himself() {
    for (forget, remembered) in [("0", true), ("1", false)] {
        let mut s = Script::new();
        set(
            &mut s,
            &[
                ("net.ipv4.tcp_syncookies", "0"),
                ("net.ipv4.tcp_max_syn_backlog", "0"),
                ("net.ipv4.tcp_no_metrics_save", forget),
            ],
        );
        let id = s.connected();
        s.sock(id).send(&[0; 10], SendFlags::default()).unwrap();
        s.expect("P. 1:11(10) ack 1");
        s.inject(". 1:1(0) ack 11 win 1000");
        s.sock(id).close();
        s.expect("F. 11:11(0) ack 1");
        s.inject("F. 1:1(0) ack 12 win 1000");
        s.expect(". 12:12(0) ack 2");
        set(&mut s, &[("net.ipv4.tcp_max_syn_backlog", "4")]);
        s.local.set_port(8080);
        s.listen(16);
        let proven = s.remote.ip();
        for n in 0..4 {
            s.remote = addr("203.0.113.7", 1000 + n);
            s.inject("S 0:0(0) win 1000 <mss 1460>");
        }
        while s.pending() > 0 {
            s.skip();
        }
        s.remote = addr(&proven.to_string(), 50_000);
        s.inject("S 0:0(0) win 1000 <mss 1460>");
        assert_eq!(s.pending() == 1, remembered, "tcp_no_metrics_save {forget}");
    }
}

#[test]
fn bindv6only_leaves_ipv4_to_others() {
    for (only, free) in [("0", false), ("1", true)] {
        let mut s = Script::new();
        set(&mut s, &[("net.ipv6.bindv6only", only)]);
        let six = s.host.stack.socket(Family::V6, Kind::Stream).unwrap();
        s.sock(six).bind(addr("::", 8080)).unwrap();
        let four = s.socket();
        assert_eq!(
            s.sock(four).bind(addr("0.0.0.0", 8080)).is_ok(),
            free,
            "bindv6only {only}"
        );
    }
}

#[test]
fn route_localnet_takes_loopback_addresses_off_a_wire() {
    for (localnet, dropped) in [("0", 1), ("1", 0)] {
        let mut s = Script::new();
        set(&mut s, &[("net.ipv4.conf.all.route_localnet", localnet)]);
        s.local = addr("127.0.0.1", 8080);
        let packet = s.packet("S 0:0(0) win 1000 <mss 1460>");
        let iface = s.host.iface;
        s.host.stack.handle_packet(s.now, iface, &packet, RxMeta::default());
        assert_eq!(s.host.stack.counters().dropped(DropReason::IpLocalnet), dropped);
    }
}

#[test]
fn the_hop_limit_of_ipv6_is_the_sysctls() {
    let mut p = Pair::new();
    p.hosts[A].sysctl("net.ipv6.conf.all.hop_limit", "17");
    let seen = std::rc::Rc::new(std::cell::Cell::new(0));
    let hops = seen.clone();
    p.links[A] = Box::new(move |packet| {
        hops.set(packet[7]);
        Some(Duration::from_millis(1))
    });
    p.connect(A, addr("fd00::2", 80));
    p.run_ms(1);
    assert_eq!(seen.get(), 17);
}

/// Memory pressure begins at tcp_mem's middle number and ends at its first; how long it lasted is counted.
#[test]
fn tcp_mem_says_when_memory_is_short_and_how_long_it_was() {
    let mut p = Pair::new();
    p.hosts[B].sysctl("net.ipv4.tcp_mem", "10 20 100000");
    let (a, b, _) = p.open();
    let chrono = |p: &Pair| p.hosts[B].counter("TcpExtTCPMemoryPressuresChrono");
    for _ in 0..100 {
        let _ = p.send(A, a, &[0; 10_000]);
        p.run_ms(20);
    }
    assert_eq!((p.hosts[B].counter("TcpExtTCPMemoryPressures"), chrono(&p)), (1, 0));
    while p.recv(B, b).is_ok() {
        p.run_ms(50);
    }
    let lasted = chrono(&p);
    assert!((1000..10_000).contains(&lasted), "{lasted} ms");
    assert_eq!(p.state(B, b), State::Established);
}

#[test]
fn every_knob_is_set_by_a_test() {
    fn read(dir: &Path, tests: bool, text: &mut String) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let inside = tests || path.file_stem().is_some_and(|name| name == "tests");
            if path.is_dir() {
                read(&path, inside, text);
            } else if inside {
                let source = std::fs::read_to_string(&path).unwrap();
                text.push_str(&source);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    read(&root.join("tests"), true, &mut text);
    read(&root.join("src"), false, &mut text);
    // By its name, or by its field.
    let set = |name: &str| {
        let field = match name {
            "net.ipv6.icmp.ratelimit" => "icmpv6_ratelimit",
            "net.ipv6.conf.all.forwarding" => "ipv6_forwarding",
            "net.ipv6.icmp.echo_ignore_all" => "icmpv6_echo_ignore_all",
            name => name.rsplit('.').next().unwrap(),
        };
        text.contains(&format!("\"{name}\""))
            || text.contains(&format!("sysctl.{field}"))
            || text.contains(&format!("s.{field} = "))
    };
    let missing: Vec<&&str> = Sysctls::NAMES.iter().filter(|name| !set(name)).collect();
    assert!(missing.is_empty(), "no test sets {missing:?}");
}
