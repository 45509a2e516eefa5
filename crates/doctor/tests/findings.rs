//! The rules over samples made up: those that a test can't well provoke on a kernel, and what holds for all.

use estab_doctor::finding::Finding;
use estab_doctor::findings::{Case, RULES, diagnose};
use estab_doctor::kernel::counters::SockStat;
use estab_doctor::kernel::owners::Process;
use estab_doctor::sample::{CloseWait, Idle, Listener, Owner, PeerCount, Sample};
use estab_doctor::socket::Socket;
use estab_proto::{SockDiag, State};
use std::collections::BTreeMap;

fn sample(at: f64) -> Sample {
    Sample::of_stack(at, &[], BTreeMap::new(), |_| None)
}

/// Two samples ten seconds apart; `change` makes the second of the first.
fn judged(base: impl Fn(&mut Sample), change: impl Fn(&mut Sample)) -> Vec<Finding> {
    let (mut before, mut now) = (sample(100.0), sample(110.0));
    base(&mut before);
    base(&mut now);
    change(&mut now);
    diagnose(Case {
        before: &before,
        now: &now,
    })
}

fn counters(sample: &mut Sample, counters: &[(&str, u64)]) {
    for (name, value) in counters {
        *sample.counters.entry((*name).to_owned()).or_default() += value;
    }
}

fn set(sample: &mut Sample, name: &str, value: &str) {
    sample.sysctls.insert(name.to_owned(), value.to_owned());
}

/// `id severity` of each.
fn told(findings: &[Finding]) -> Vec<String> {
    findings
        .iter()
        .map(|finding| format!("{} {}", finding.id, finding.severity.name()))
        .collect()
}

fn text(findings: &[Finding]) -> String {
    findings.iter().map(ToString::to_string).collect()
}

#[test]
fn counters_since_boot_alone_say_nothing() {
    let boot = |sample: &mut Sample| {
        counters(
            sample,
            &[
                ("TcpOutSegs", 1_000),
                ("TcpRetransSegs", 900),
                ("TcpOutRsts", 100_000),
                ("TcpExtListenOverflows", 5_000),
                ("TcpExtListenDrops", 9_000),
                ("TcpExtTCPTimeWaitOverflow", 70),
                ("TcpExtPAWSTimewait", 500),
                ("TcpExtTCPMemoryPressures", 3),
                ("TcpExtSyncookiesSent", 80_000),
                ("TcpExtTCPReqQFullDrop", 80_000),
            ],
        );
    };
    assert_eq!(told(&judged(boot, |_| {})), [""; 0]);
}

#[test]
fn loss_is_a_share_without_syns() {
    let lost = |again, syns| {
        judged(
            |_| {},
            move |now| {
                counters(
                    now,
                    &[
                        ("TcpOutSegs", 10_000),
                        ("TcpRetransSegs", again),
                        ("TcpExtTCPSynRetrans", syns),
                    ],
                );
            },
        )
    };
    assert_eq!(told(&lost(600, 0)), ["retransmissions warning"]);
    assert_eq!(told(&lost(600, 450)), ["retransmissions notice"]);
    assert_eq!(told(&lost(600, 590)), [""; 0]);
    assert!(
        text(&lost(600, 0)).contains("5.7 % of segments"),
        "600 of 10,600: OutSegs leaves repeats out"
    );
}

#[test]
fn listen_drops_count_more_than_overflows() {
    let dropped = |drops, overflows| {
        judged(
            |_| {},
            move |now| {
                counters(
                    now,
                    &[("TcpExtListenDrops", drops), ("TcpExtListenOverflows", overflows)],
                )
            },
        )
    };
    assert_eq!(
        told(&dropped(40, 40)),
        ["accept-queue warning"],
        "all of them are overflows"
    );
    assert_eq!(told(&dropped(40, 0)), ["listen-drops notice"]);
}

#[test]
fn orphans_and_memory_are_the_hosts() {
    let found = judged(
        |sample| {
            set(sample, "net.ipv4.tcp_max_orphans", "1000");
            set(sample, "net.ipv4.tcp_mem", "18000 24000 36000");
            sample.sockstat = Some(SockStat {
                orphan: 950,
                mem: 25_000,
                ..SockStat::default()
            });
        },
        |_| {},
    );
    assert_eq!(told(&found), ["orphans critical", "tcp-mem warning"]);
    assert!(text(&found).contains("25000 pages of 4 KiB"));
}

#[test]
fn conntrack_s_table_and_its_memory_of_idle_connections() {
    let found = judged(
        |sample| {
            set(sample, "net.netfilter.nf_conntrack_count", "62000");
            set(sample, "net.netfilter.nf_conntrack_max", "65536");
            set(sample, "net.netfilter.nf_conntrack_tcp_timeout_established", "600");
        },
        |_| {},
    );
    assert_eq!(
        told(&found),
        ["conntrack-full warning", "conntrack-forgets-idle notice"]
    );
    let unused = judged(
        |sample| {
            set(sample, "net.netfilter.nf_conntrack_count", "0");
            set(sample, "net.netfilter.nf_conntrack_max", "65536");
            set(sample, "net.netfilter.nf_conntrack_tcp_timeout_established", "600");
        },
        |_| {},
    );
    assert_eq!(told(&unused), [""; 0], "no rule uses it");
}

#[test]
fn what_stays_in_both_samples_is_told_and_what_passes_is_not() {
    let peer = |count| {
        vec![PeerCount {
            peer: "192.0.2.1:443".parse().unwrap(),
            count,
        }]
    };
    let stuck = |sample: &mut Sample| {
        sample.sockets.closing = peer(80);
        sample.sockets.fin_wait2_held = peer(200);
        sample.sockets.syn_sent = peer(30);
        sample.sockets.zero_window = peer(3);
    };
    let ids = [
        "syn-sent warning",
        "fin-wait-2 notice",
        "last-ack notice",
        "zero-window notice",
    ];
    assert_eq!(told(&judged(stuck, |_| {})), ids);
    assert_eq!(
        told(&judged(|_| {}, stuck)),
        ["syn-sent warning", "last-ack notice"],
        "these two have been repeated already"
    );
}

#[test]
fn a_leak_s_descriptors_run_out_in_a_time_that_is_told() {
    let process = |fds| {
        vec![Process {
            pid: 7,
            name: "app".into(),
            fds,
            fd_limit: Some(1_024),
        }]
    };
    let found = judged(
        |before| before.processes = process(600),
        |now| now.processes = process(640),
    );
    assert_eq!(told(&found), ["fd-limit warning"]);
    assert!(text(&found).contains("the limit is met in 96 s"), "{}", text(&found));
    let steady = judged(|sample| sample.processes = process(640), |_| {});
    assert_eq!(told(&steady), [""; 0]);
    let close = judged(|sample| sample.processes = process(1_000), |_| {});
    assert_eq!(told(&close), ["fd-limit critical"]);
}

#[test]
fn close_waits_need_age_to_be_a_leak() {
    let group = |count, ages| {
        vec![CloseWait {
            owner: Some(Owner {
                pid: 7,
                name: "app".into(),
            }),
            count,
            end_read: count,
            ages,
            oldest_ms: 12_000,
            ..CloseWait::default()
        }]
    };
    let with = |count, ages| judged(|_| {}, move |now| now.sockets.close_wait = group(count, ages));
    assert_eq!(told(&with(500, [0, 0, 0, 0])), [""; 0], "they pass");
    assert_eq!(told(&with(500, [12, 0, 0, 0])), ["close-wait-leak warning"]);
    let steady = judged(|sample| sample.sockets.close_wait = group(500, [500, 12, 0, 0]), |_| {});
    assert_eq!(told(&steady), ["close-wait-leak warning"]);
    let few = judged(|sample| sample.sockets.close_wait = group(1, [1, 1, 1, 0]), |_| {});
    assert_eq!(told(&few), ["close-wait-leak notice"]);
}

#[test]
fn a_full_queue_bound_by_somaxconn_is_told_so_and_an_unknown_backlog_is_never_full() {
    let listener = |queue, backlog| {
        vec![Listener {
            address: "0.0.0.0:80".parse().unwrap(),
            queue,
            backlog,
            half_open: 0,
            unanswered: 0,
            sources: 0,
            examples: Vec::new(),
            owners: Vec::new(),
        }]
    };
    let full = judged(
        |sample| {
            set(sample, "net.core.somaxconn", "128");
            sample.sockets.listeners = listener(129, 128);
        },
        |_| {},
    );
    assert_eq!(told(&full), ["accept-queue warning"]);
    assert!(
        text(&full)
            .replace("\n          ", " ")
            .contains("bound by net.core.somaxconn (128)")
    );
    assert_eq!(
        told(&judged(|sample| sample.sockets.listeners = listener(128, 128), |_| {})),
        [""; 0]
    );
    assert_eq!(
        told(&judged(
            |sample| sample.sockets.listeners = listener(9, u64::MAX),
            |_| {}
        )),
        [""; 0]
    );
}

#[test]
fn idle_connections_without_keepalive_are_told() {
    let found = judged(
        |sample| {
            sample.sockets.idle = vec![Idle {
                owner: None,
                count: 40,
                oldest_ms: 10_800_000,
            }];
        },
        |_| {},
    );
    assert_eq!(told(&found), ["no-keepalive notice"]);
    assert!(text(&found).contains("the longest silence: 3 h"));
}

#[test]
fn every_finding_has_a_rule_a_cause_a_fix_a_source_and_fits_80_columns() {
    let peers = |count| {
        vec![PeerCount {
            peer: "[2001:db8:1234:5678:9abc:def0:1234:5678]:65535".parse().unwrap(),
            count,
        }]
    };
    let found = judged(
        |sample| {
            set(sample, "net.ipv4.tcp_max_orphans", "1000");
            set(sample, "net.ipv4.tcp_mem", "18000 24000 36000");
            set(sample, "net.netfilter.nf_conntrack_count", "65000");
            set(sample, "net.netfilter.nf_conntrack_max", "65536");
            set(sample, "net.netfilter.nf_conntrack_tcp_timeout_established", "600");
            sample.sockstat = Some(SockStat {
                orphan: 950,
                mem: 25_000,
                ..SockStat::default()
            });
            sample.sockets.closing = peers(80);
            sample.sockets.fin_wait2_held = peers(200);
            sample.sockets.syn_sent = peers(30);
            sample.sockets.zero_window = peers(3);
        },
        |now| {
            counters(
                now,
                &[
                    ("TcpOutSegs", 1_000),
                    ("TcpRetransSegs", 900),
                    ("TcpOutRsts", 100_000),
                    ("TcpExtListenOverflows", 5_000),
                    ("TcpExtListenDrops", 9_000),
                    ("TcpExtTCPTimeWaitOverflow", 70),
                    ("TcpExtPAWSTimewait", 500),
                    ("TcpExtTCPMemoryPressures", 3),
                ],
            );
        },
    );
    assert!(found.len() >= 12, "{:?}", told(&found));
    assert!(found.is_sorted_by(|a, b| a.severity >= b.severity), "the gravest first");
    for finding in &found {
        assert!(
            RULES.iter().any(|rule| rule.id == finding.id),
            "{} is unexplained",
            finding.id
        );
        assert!(
            !finding.cause.is_empty() && !finding.fix.is_empty() && !finding.source.is_empty(),
            "{finding}"
        );
        for line in finding.to_string().lines() {
            assert!(line.chars().count() <= 80 || !line.trim().contains(' '), "{line}");
        }
    }
    let mut ids: Vec<&str> = RULES.iter().map(|rule| rule.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), RULES.len(), "ids are unique");
}

#[test]
fn an_estab_stack_s_sockets_are_judged_by_the_same_rules() {
    let socket = |state, local: String, remote: String| {
        Socket::from(SockDiag {
            protocol: 6,
            state,
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            recv_q: 0,
            send_q: 0,
            timer: None,
            id: 1,
            orphan: false,
            info: None,
        })
    };
    let mut sockets: Vec<Socket> = (40_000..40_095)
        .map(|port| socket(State::TimeWait, format!("10.0.0.2:{port}"), "192.0.2.1:443".into()))
        .collect();
    let sysctl = |name: &str| match name {
        "net.ipv4.ip_local_port_range" => Some("40000\t40099".to_owned()),
        _ => None,
    };
    let look = |sockets: &[Socket]| Sample::of_stack(1.0, sockets, BTreeMap::new(), sysctl);
    let now = look(&sockets);
    let found = diagnose(Case {
        before: &now,
        now: &now,
    });
    assert_eq!(told(&found), ["ephemeral-ports warning"]);
    // The same ports at a server are no matter: the peers chose theirs.
    sockets
        .iter_mut()
        .for_each(|socket| std::mem::swap(&mut socket.diag.local, &mut socket.diag.remote));
    sockets.push(socket(State::Listen, "192.0.2.1:443".into(), "0.0.0.0:0".into()));
    let now = look(&sockets);
    assert_eq!(
        diagnose(Case {
            before: &now,
            now: &now
        }),
        []
    );
}

#[test]
fn a_sample_goes_through_json_and_is_judged_alike() {
    let mut now = sample(1.0);
    set(&mut now, "net.netfilter.nf_conntrack_count", "65000");
    set(&mut now, "net.netfilter.nf_conntrack_max", "65536");
    let saved: Sample = serde_json::from_str(&serde_json::to_string(&now).unwrap()).unwrap();
    let found = diagnose(Case {
        before: &saved,
        now: &saved,
    });
    assert_eq!(told(&found), ["conntrack-full critical"]);
}
