//! Connections that pile up in a state, lost segments, resets and drops: provoked on the kernel, in a namespace, and
//! named by `estab doctor`. And what its samples read, line by line against nstat, ss and /proc.

mod common;

use common::{Conn, Diagnosis, KERNEL, PEER, Peer, connecting, estab, in_own_network, listener, run, sysctl};
use estab_wire::tcp::flags;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::process::Command;

/// `count` connections of the peer to `server`, on port 80, and both ends of each.
fn connected(peer: &mut Peer, server: &TcpListener, count: u16) -> Vec<(Conn, TcpStream)> {
    let connect = |port| {
        let conn = peer.connect(port, 80);
        (conn, server.accept().expect("a connection").0)
    };
    (2_000..2_000 + count).map(connect).collect()
}

#[test]
fn orphans_of_the_namespace_are_told_from_the_hosts() {
    in_own_network("orphans_of_the_namespace_are_told_from_the_hosts", || {
        let mut peer = Peer::new();
        let server = listener((KERNEL, 80), 128);
        for (_, mut accepted) in connected(&mut peer, &server, 300) {
            // Closed with data that nobody will acknowledge.
            accepted.write_all(b"hello").expect("room");
        }
        let diagnosis = Diagnosis::during("1s", || peer.ignore());
        let told = [
            "300 orphaned connections in this network namespace",
            "does not show in a network namespace",
            "sockstat's orphan is the whole host's",
        ];
        diagnosis.has("orphans", "notice", &told);
        diagnosis.has("last-ack", "notice", &["FIN_WAIT1 300", "10.7.0.2 (300)"]);
    });
}

#[test]
fn half_closed_connections_whose_peers_do_not_close_are_told() {
    in_own_network("half_closed_connections_whose_peers_do_not_close_are_told", || {
        let mut peer = Peer::new();
        let server = listener((KERNEL, 80), 128);
        let mut held = connected(&mut peer, &server, 120);
        for (conn, accepted) in &mut held {
            accepted.shutdown(Shutdown::Write).expect("it is connected");
            peer.take_fin(conn);
            peer.send(conn, flags::ACK);
        }
        // Those that no process holds end by themselves.
        for (_, accepted) in held.split_off(110) {
            drop(accepted);
        }
        let diagnosis = Diagnosis::now();
        let told = ["110 connections were half-closed", "10.7.0.2 (110)", "10 orphaned ones"];
        diagnosis.has("fin-wait-2", "notice", &told);
        diagnosis.has_not("close-wait-leak");
    });
}

#[test]
fn fins_that_nobody_acknowledges_are_told() {
    in_own_network("fins_that_nobody_acknowledges_are_told", || {
        let mut peer = Peer::new();
        let server = listener((KERNEL, 80), 128);
        for (mut conn, mut accepted) in connected(&mut peer, &server, 60) {
            peer.fin(&mut conn);
            assert_eq!(accepted.read(&mut [0]).expect("the end"), 0);
        }
        let diagnosis = Diagnosis::during("1500ms", || peer.ignore());
        diagnosis.has("last-ack", "notice", &["LAST_ACK 60, FIN_WAIT1 0", "10.7.0.2 (60)"]);
        diagnosis.has_not("orphans");
    });
}

#[test]
fn segments_that_nobody_acknowledges_are_told() {
    in_own_network("segments_that_nobody_acknowledges_are_told", || {
        let mut peer = Peer::new();
        let server = listener((KERNEL, 80), 128);
        let mut held = connected(&mut peer, &server, 60);
        for (_, accepted) in &mut held {
            accepted.write_all(b"hello").expect("room");
        }
        let diagnosis = Diagnosis::during("1500ms", || peer.ignore());
        // All of them: OutSegs does not count what is sent again.
        let told = [
            "100.0 % of segments",
            "TcpExtTCPTimeouts +",
            "60 connections have a backed-off timer now",
        ];
        diagnosis.has("retransmissions", "warning", &told);
        diagnosis.has_not("last-ack");
    });
}

#[test]
fn knocking_at_a_closed_port_is_told_by_its_resets() {
    in_own_network("knocking_at_a_closed_port_is_told_by_its_resets", || {
        let diagnosis = Diagnosis::during("1s", || {
            assert!(TcpStream::connect("127.0.0.1:9").is_err());
        });
        let told = ["TcpOutRsts +", "TcpExtTCPAbortOnClose +0", "RFC 9293"];
        diagnosis.has("resets", "notice", &told);
        diagnosis.has_not("syn-sent");
    });
}

#[test]
fn drops_at_a_listener_without_an_overflow_are_told() {
    in_own_network("drops_at_a_listener_without_an_overflow_are_told", || {
        // Without cookies the last quarter is kept for peers that are known.
        sysctl("net.ipv4.tcp_syncookies", "0");
        sysctl("net.ipv4.tcp_max_syn_backlog", "16");
        let mut peer = Peer::new();
        let _server = listener((KERNEL, 80), 128);
        let mut port = 2_000;
        let diagnosis = Diagnosis::during("500ms", || {
            peer.syn(PEER, port, 80);
            port += 1;
            std::thread::sleep(std::time::Duration::from_millis(10));
        });
        let told = [
            "TcpExtListenOverflows +0",
            "TcpExtTCPReqQFullDrop +0",
            "last quarter of tcp_max_syn_backlog",
        ];
        diagnosis.has("listen-drops", "notice", &told);
        diagnosis.has_not("accept-queue");
    });
}

#[test]
fn young_connections_without_keepalive_are_no_finding() {
    in_own_network("young_connections_without_keepalive_are_no_finding", || {
        let mut peer = Peer::new();
        let server = listener((KERNEL, 80), 128);
        let _held = connected(&mut peer, &server, 20);
        Diagnosis::now().has_not("no-keepalive");
    });
}

/// Connects in bursts of 30 to a listener with this backlog that accepts them all between two bursts.
fn bursts(backlog: i32) -> Diagnosis {
    let server = listener((Ipv4Addr::LOCALHOST, 8000), backlog);
    server.set_nonblocking(true).expect("not to wait");
    Diagnosis::during("1s", || {
        let burst: Vec<_> = (0..30).map(|_| connecting((Ipv4Addr::LOCALHOST, 8000))).collect();
        while server.accept().is_ok() {}
        drop(burst);
    })
}

#[test]
fn a_backlog_cut_down_by_somaxconn_is_told() {
    in_own_network("a_backlog_cut_down_by_somaxconn_is_told", || {
        sysctl("net.core.somaxconn", "8");
        let told = [
            "127.0.0.1:8000",
            "effective backlog (Send-Q) 8",
            "just net.core.somaxconn (8)",
            "for that or for more",
            "9 of them fit",
        ];
        bursts(1_000).has("listen-backlog-capped", "notice", &told);
    });
}

#[test]
fn a_backlog_below_somaxconn_is_the_applications_or_an_older_one() {
    in_own_network("a_backlog_below_somaxconn_is_the_applications_or_an_older_one", || {
        let told = ["effective backlog (Send-Q) 5", "asked for just 5, or listened while"];
        bursts(5).has("listen-backlog-capped", "notice", &told);
    });
}

#[test]
fn a_larger_backlog_is_no_cure_for_an_application_that_never_accepts() {
    in_own_network(
        "a_larger_backlog_is_no_cure_for_an_application_that_never_accepts",
        || {
            let _stalled = listener((Ipv4Addr::LOCALHOST, 8000), 5);
            let mut clients = Vec::new();
            let diagnosis = Diagnosis::during("500ms", || {
                if clients.len() < 500 {
                    clients.push(connecting((Ipv4Addr::LOCALHOST, 8000)));
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            });
            diagnosis.has("accept-queue", "critical", &[]);
            diagnosis.has_not("listen-backlog-capped");
        },
    );
}

#[test]
fn conntrack_that_forgets_idle_connections_is_told() {
    in_own_network("conntrack_that_forgets_idle_connections_is_told", || {
        let nft = |rule: &str| Command::new("nft").arg(rule).output();
        let rules = [
            "add table ip t",
            "add chain ip t c { type filter hook output priority 0; }",
            "add rule ip t c ct state new accept",
        ];
        if !rules
            .iter()
            .all(|rule| nft(rule).is_ok_and(|done| done.status.success()))
        {
            return common::skip("nft does not track connections here");
        }
        let server = listener((Ipv4Addr::LOCALHOST, 8000), 128);
        let _client = TcpStream::connect("127.0.0.1:8000").expect("a connection");
        let _accepted = server.accept().expect("a connection");
        Diagnosis::now().has_not("conntrack-forgets-idle");
        sysctl("net.netfilter.nf_conntrack_tcp_timeout_established", "600");
        let told = ["after 600 s", "tcp_keepalive_time is 7200 s"];
        let diagnosis = Diagnosis::now();
        diagnosis.has("conntrack-forgets-idle", "notice", &told);
        diagnosis.has_not("conntrack-full");
    });
}

/// The second sample of a snapshot.
fn sample() -> Value {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("a path");
    estab(&["doctor", "--kernel", "--sample", "100ms", "--snapshot", path]);
    let text = std::fs::read_to_string(path).expect("it was written");
    let mut snapshot: Value = serde_json::from_str(&text).expect("JSON");
    snapshot[1].take()
}

/// The number after `name` in the line of `text` that begins with `line`.
fn figure(text: &str, line: &str, name: &str) -> u64 {
    let line = text.lines().find(|at| at.starts_with(line)).expect(line);
    let mut words = line.split([' ', '(', ')', ',']).skip_while(|word| *word != name);
    let value = words.nth(1).unwrap_or_else(|| panic!("no {name} in {line}"));
    value.parse().expect("a number")
}

#[test]
fn samples_hold_what_nstat_ss_and_sockstat_tell() {
    in_own_network("samples_hold_what_nstat_ss_and_sockstat_tell", || {
        // Something in each: 5 TIME_WAITs, 1 orphaned FIN_WAIT_2, 3 ESTABLISHED twice, 1 CLOSE_WAIT, a reset.
        let server = listener((Ipv4Addr::LOCALHOST, 8000), 128);
        let pair = || {
            let client = TcpStream::connect("127.0.0.1:8000").expect("a connection");
            (client, server.accept().expect("a connection").0)
        };
        for _ in 0..5 {
            let (client, mut accepted) = pair();
            drop(client);
            assert_eq!(accepted.read(&mut [0]).expect("the end"), 0);
        }
        let (half, _kept) = pair();
        drop(half);
        let _held = [pair(), pair(), pair()];
        assert!(TcpStream::connect("127.0.0.1:9").is_err());

        let sample = sample();
        let nstat = run("nstat -asz");
        let counters = sample["counters"].as_object().expect("counters");
        let mut compared = 0;
        for line in nstat.lines().skip(1) {
            let mut words = line.split_whitespace();
            let (Some(name), Some(value)) = (words.next(), words.next()) else {
                panic!("{line}");
            };
            // /proc/net/snmp6's: the rules ask for none.
            if name.contains('6') {
                continue;
            }
            assert_eq!(
                counters.get(name).map(Value::to_string).as_deref(),
                Some(value),
                "{name}"
            );
            compared += 1;
        }
        assert!(compared > 150, "{compared} of\n{nstat}");
        assert_eq!(counters["TcpPassiveOpens"], 9);
        assert_eq!(counters["TcpOutRsts"], 1);

        let ss = run("ss -s");
        let sockstat = std::fs::read_to_string("/proc/self/net/sockstat").expect("sockstat");
        let read = &sample["sockstat"];
        assert_eq!(read["tcp_inuse"], figure(&sockstat, "TCP:", "inuse"));
        assert_eq!(read["tw"], figure(&sockstat, "TCP:", "tw"));
        assert_eq!(read["tw"], figure(&ss, "TCP:", "timewait"));
        assert_eq!(read["tw"], 6, "5 TIME_WAITs and the orphaned FIN_WAIT_2");
        assert_eq!(
            counters["TcpCurrEstab"],
            figure(&ss, "TCP:", "estab"),
            "CLOSE_WAIT counts as well"
        );
        assert_eq!(counters["TcpCurrEstab"], 7);
    });
}

#[test]
fn the_hosts_figures_in_sockstat_are_read_as_they_are() {
    in_own_network("the_hosts_figures_in_sockstat_are_read_as_they_are", || {
        // Others on this host open and close meanwhile: it is enough that each figure is met once.
        for name in ["orphan", "alloc", "mem"] {
            let met = (0..20).any(|_| {
                let look = || std::fs::read_to_string("/proc/self/net/sockstat").expect("sockstat");
                let (before, sample, after) = (look(), sample(), look());
                let read = sample["sockstat"][name].as_u64().expect(name);
                let figures = [&before, &after].map(|text| figure(text, "TCP:", name));
                (figures[0].min(figures[1])..=figures[0].max(figures[1])).contains(&read)
            });
            assert!(met, "{name}");
        }
    });
}
