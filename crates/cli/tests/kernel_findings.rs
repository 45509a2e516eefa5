//! Each finding provoked for real on the kernel, in a namespace, and named by `estab doctor` with the right evidence.

mod common;

use common::{Conn, Diagnosis, KERNEL, PEER, Peer, connecting, in_own_network, listener, run, sysctl};
use estab_wire::tcp::flags;
use serde_json::Value;
use socket2::Socket;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn a_client_that_exhausts_its_ports_is_told_from_one_that_may_reuse_them() {
    in_own_network(
        "a_client_that_exhausts_its_ports_is_told_from_one_that_may_reuse_them",
        || {
            sysctl("net.ipv4.ip_local_port_range", "40000 40104");
            sysctl("net.ipv4.ip_local_reserved_ports", "40010-40014");
            sysctl("net.ipv4.tcp_tw_reuse", "0");
            let server = listener((Ipv4Addr::LOCALHOST, 8000), 128);
            for _ in 0..98 {
                let client = TcpStream::connect("127.0.0.1:8000").expect("a port is left");
                let (mut accepted, _) = server.accept().expect("a connection");
                drop(client);
                assert_eq!(accepted.read(&mut [0]).expect("the end"), 0);
            }
            Diagnosis::now().has(
                "ephemeral-ports",
                "critical",
                &[
                    "98 of 100 local ports from 127.0.0.1 to 127.0.0.1:8000",
                    "98 in TIME_WAIT, 0 not",
                    "40000 40104",
                ],
            );
            // 2, the default: a connect over loopback may take over a TIME_WAIT, so nothing is short.
            sysctl("net.ipv4.tcp_tw_reuse", "2");
            Diagnosis::now().has_not("ephemeral-ports");
        },
    );
}

#[test]
fn time_waits_of_a_server_do_no_harm() {
    in_own_network("time_waits_of_a_server_do_no_harm", || {
        let server = listener((Ipv4Addr::LOCALHOST, 8000), 128);
        let close_one = || {
            let mut client = TcpStream::connect("127.0.0.1:8000").expect("a connection");
            drop(server.accept().expect("a connection"));
            assert_eq!(client.read(&mut [0]).expect("the end"), 0);
        };
        (0..1_000).for_each(|_| close_one());
        let diagnosis = Diagnosis::during("1s", close_one);
        diagnosis.has(
            "time-wait",
            "info",
            &["0 of connections opened from here", "closes/s × 60 s"],
        );
        diagnosis.has_not("ephemeral-ports");
    });
}

#[test]
fn time_waits_past_their_limit_are_told() {
    in_own_network("time_waits_past_their_limit_are_told", || {
        sysctl("net.ipv4.tcp_max_tw_buckets", "5");
        let server = listener((Ipv4Addr::LOCALHOST, 8000), 128);
        let diagnosis = Diagnosis::during("500ms", || {
            let mut client = TcpStream::connect("127.0.0.1:8000").expect("a connection");
            drop(server.accept().expect("a connection"));
            assert_eq!(client.read(&mut [0]).expect("the end"), 0);
        });
        diagnosis.has(
            "time-wait-overflow",
            "warning",
            &["TCPTimeWaitOverflow +", "tcp_max_tw_buckets is 5"],
        );
    });
}

#[test]
fn a_server_that_forgets_to_close_is_named_with_its_descriptors() {
    in_own_network("a_server_that_forgets_to_close_is_named_with_its_descriptors", || {
        let server = listener((Ipv4Addr::LOCALHOST, 8000), 128);
        let mut forgotten = Vec::new();
        let leak = |forgotten: &mut Vec<TcpStream>| {
            drop(TcpStream::connect("127.0.0.1:8000").expect("a connection"));
            let (mut accepted, _) = server.accept().expect("a connection");
            assert_eq!(accepted.read(&mut [0]).expect("the end"), 0);
            forgotten.push(accepted);
        };
        (0..30).for_each(|_| leak(&mut forgotten));
        let mut turns = 0;
        let diagnosis = Diagnosis::during("1500ms", || {
            turns += 1;
            if turns % 64 == 0 && forgotten.len() < 200 {
                leak(&mut forgotten);
            }
            std::thread::yield_now();
        });
        let me = format!("(pid {})", std::process::id());
        let said = [
            "with the end read (0), 0 with only the FIN unread (1), 0 with 0 bytes unread",
            "file descriptors: ",
            "8000 (",
        ];
        diagnosis.has("close-wait-leak", "warning", &said);
        diagnosis.has("close-wait-leak", "warning", &[&me, "has not called close()"]);
    });
}

#[test]
fn an_application_that_does_not_read_is_told_from_one_that_does_not_close() {
    in_own_network(
        "an_application_that_does_not_read_is_told_from_one_that_does_not_close",
        || {
            let server = listener((Ipv4Addr::LOCALHOST, 8000), 128);
            let mut held = Vec::new();
            let mut leak = |bytes: &[u8]| {
                let mut client = TcpStream::connect("127.0.0.1:8000").expect("a connection");
                client.write_all(bytes).expect("room");
                held.push(server.accept().expect("a connection").0);
            };
            (0..20).for_each(|_| leak(b"hello"));
            leak(b"");
            let diagnosis = Diagnosis::during("1500ms", std::thread::yield_now);
            let said = [
                "0 with the end read (0), 1 with only the FIN unread (1), 20 with 100 bytes unread",
                "does not read",
            ];
            diagnosis.has("close-wait-leak", "notice", &said);
        },
    );
}

#[test]
fn a_process_near_its_descriptor_limit_is_told() {
    in_own_network("a_process_near_its_descriptor_limit_is_told", || {
        let limit = rustix::process::Rlimit {
            current: Some(256),
            maximum: Some(256),
        };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).expect("a lower limit");
        let _held: Vec<TcpListener> = (0..225).map(|i| listener((Ipv4Addr::LOCALHOST, 9000 + i), 1)).collect();
        Diagnosis::now().has(
            "fd-limit",
            "warning",
            &["of 256 file descriptors open", &format!("(pid {})", std::process::id())],
        );
    });
}

#[test]
fn a_listener_that_never_accepts_is_no_flood() {
    in_own_network("a_listener_that_never_accepts_is_no_flood", || {
        let _stalled = listener((Ipv4Addr::LOCALHOST, 8000), 5);
        // As many as fit, one more than the backlog, and some that don't.
        let _clients: Vec<Socket> = (0..20).map(|_| connecting((Ipv4Addr::LOCALHOST, 8000))).collect();
        // The SYNs are repeated after a second.
        let diagnosis = Diagnosis::during("1500ms", std::thread::yield_now);
        let me = format!("127.0.0.1:8000, kernel_findings (pid {})", std::process::id());
        let me = me.replace("kernel_findings", &comm());
        diagnosis.has(
            "accept-queue",
            "critical",
            &[
                "6 wait (Recv-Q), backlog 5 (Send-Q)",
                "the application's own listen() backlog",
                "stopped accepting",
                &me,
            ],
        );
        diagnosis.has("syn-sent", "warning", &["14 connects to 127.0.0.1:8000"]);
        diagnosis.has_not("syn-flood");
    });
}

fn comm() -> String {
    std::fs::read_to_string("/proc/self/comm")
        .expect("a name")
        .trim()
        .to_owned()
}

#[test]
fn a_flood_of_syns_is_no_stalled_application() {
    in_own_network("a_flood_of_syns_is_no_stalled_application", || {
        let mut peer = Peer::new();
        let _server = listener((KERNEL, 80), 128);
        let mut forged = 0u32;
        let diagnosis = Diagnosis::during("1s", || {
            for _ in 0..50 {
                forged += 1;
                let host = Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(10, 20, 0, 0)) + forged % 60_000 + 1);
                peer.syn(host, 1_024 + (forged % 50_000) as u16, 80);
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        });
        let said = [
            "10.7.0.1:80",
            "probably forged",
            "so the application keeps up",
            "SyncookiesSent +",
            "SYN cookies are answering",
        ];
        diagnosis.has("syn-flood", "warning", &said);
        diagnosis.has_not("accept-queue");
    });
}

#[test]
fn unanswered_connects_are_told_by_destination() {
    in_own_network("unanswered_connects_are_told_by_destination", || {
        let _peer = Peer::new();
        let _clients: Vec<Socket> = (0..8).map(|_| connecting((PEER, 443))).collect();
        // The SYNs are repeated after a second.
        let diagnosis = Diagnosis::during("1500ms", std::thread::yield_now);
        diagnosis.has("syn-sent", "warning", &["8 connects to 10.7.0.2:443 have no answer"]);
    });
}

#[test]
fn hosts_behind_a_nat_with_older_timestamps_are_told() {
    in_own_network("hosts_behind_a_nat_with_older_timestamps_are_told", || {
        let mut peer = Peer::new();
        let server = listener((KERNEL, 80), 128);
        let mut closed: Vec<Conn> = Vec::new();
        for port in 2_000..2_010 {
            let mut conn = peer.syn_with(PEER, port, 80, 65535, Some(1_000_000));
            peer.establish(&mut conn);
            drop(server.accept().expect("a connection"));
            peer.take_fin(&mut conn);
            peer.fin(&mut conn);
            closed.push(conn);
        }
        assert!(run("ss -tn state time-wait").lines().count() >= 10);
        // Another host of the NAT, the same ports, its clock behind.
        let mut sent = false;
        let diagnosis = Diagnosis::during("1s", || {
            std::thread::sleep(std::time::Duration::from_millis(300));
            if !std::mem::replace(&mut sent, true) {
                for conn in &closed {
                    let other = Conn {
                        seq: 500,
                        stamps: Some((10, 0)),
                        ..*conn
                    };
                    peer.send(&other, flags::SYN);
                }
            }
        });
        diagnosis.has("paws-drops", "warning", &["10 segments were dropped", "NAT"]);
    });
}

#[test]
fn peers_that_take_nothing_are_told() {
    in_own_network("peers_that_take_nothing_are_told", || {
        let mut peer = Peer::new();
        let server = listener((KERNEL, 80), 128);
        let mut conn = peer.syn_with(PEER, 2_000, 80, 0, None);
        peer.establish(&mut conn);
        let (mut accepted, _) = server.accept().expect("a connection");
        accepted.write_all(b"hello").expect("room");
        // The first probe.
        conn.seq += 0;
        peer.wait(&conn, flags::ACK);
        Diagnosis::now().has("zero-window", "notice", &["1 connections wait", "10.7.0.2 (1)"]);
    });
}

#[test]
fn a_healthy_server_under_load_raises_nothing() {
    in_own_network("a_healthy_server_under_load_raises_nothing", || {
        let server = listener((Ipv4Addr::LOCALHOST, 8000), 128);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let (mut accepted, _) = server.accept().expect("a connection");
                    let mut byte = [0];
                    while accepted.read(&mut byte).is_ok_and(|n| n > 0) {
                        let _ = accepted.write_all(&byte);
                    }
                }
            });
            let diagnosis = Diagnosis::during("1s", || {
                let mut client = TcpStream::connect("127.0.0.1:8000").expect("a connection");
                for _ in 0..5 {
                    client.write_all(b"x").expect("room");
                    client.read_exact(&mut [0]).expect("an echo");
                }
            });
            stop.store(true, Ordering::Relaxed);
            drop(TcpStream::connect("127.0.0.1:8000"));
            let grave = |finding: &&Value| finding["severity"] == "warning" || finding["severity"] == "critical";
            assert_eq!(diagnosis.findings().find(grave), None);
        });
    });
}

#[test]
fn a_bad_sysctl_conf_is_told_line_by_line_and_corrected() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let text =
        "net.ipv4.tcp_tw_recycle = 1\nnet.ipv4.ip_local_port_range = 1024-65000\nnet.ipv4.tcp_fin_timeout = 30\n";
    std::fs::write(file.path(), text).expect("to write");
    let path = file.path().to_str().expect("a path");
    let sysctl = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_estab"))
            .args(["sysctl", "check"])
            .args(arguments)
            .output()
            .expect("estab")
    };
    let checked = sysctl(&["--json", path]);
    assert_eq!(checked.status.code(), Some(1), "there are warnings");
    let json: Value = serde_json::from_slice(&checked.stdout).expect("JSON");
    let findings = json["findings"].as_array().expect("a list");
    for (id, line) in [("sysctl-removed", 1), ("sysctl-bad-value", 2), ("tcp-fin-timeout", 3)] {
        let here = |finding: &&Value| finding["id"] == id && finding["evidence"][0]["place"]["line"] == line;
        assert!(
            findings.iter().any(|finding| here(&finding)),
            "{id} in line {line}: {json:#}"
        );
    }
    let fixed = String::from_utf8(sysctl(&["--fix", path]).stdout).expect("text");
    assert!(fixed.contains("\n#net.ipv4.tcp_tw_recycle = 1\n"), "{fixed}");
    assert!(
        fixed.contains("\nnet.ipv4.ip_local_port_range = 1024 65000\n"),
        "{fixed}"
    );
    assert_eq!(
        std::fs::read_to_string(file.path()).expect("it is there"),
        text,
        "never in place"
    );
}
