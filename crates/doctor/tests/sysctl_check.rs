//! Settings as people copy them, held against a kernel: which findings, and what the corrected file says.

use estab_doctor::finding::{Confidence, Finding, Severity};
use estab_doctor::sysctl_check::{ConfFile, Live, RULES, Report, check, conf_files};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn file(text: &str) -> ConfFile {
    ConfFile {
        path: "/etc/sysctl.conf".into(),
        text: text.into(),
    }
}

fn alone(text: &str) -> Report {
    check(vec![file(text)], None)
}

/// A /proc of a 16 GiB machine with Linux 6.18, its values at their defaults but for `set`.
fn machine(release: &str, set: &[(&str, &str)]) -> (TempDir, Live) {
    let folder = tempfile::tempdir().expect("a folder for a /proc");
    let write = |name: &str, value: &str| {
        let path = folder.path().join("sys").join(name);
        fs::create_dir_all(path.parent().expect("it is below sys")).expect("a folder of it");
        fs::write(path, format!("{value}\n")).expect("a file of it");
    };
    write("kernel/osrelease", release);
    for (name, value) in [
        ("net/ipv4/tcp_mem", "188700 251600 377400"),
        ("net/ipv4/tcp_ehash_entries", "131072"),
        ("net/ipv4/tcp_max_tw_buckets", "65536"),
        ("net/ipv4/tcp_max_orphans", "65536"),
        ("net/ipv4/tcp_rmem", "4096\t131072\t33554432"),
        ("net/ipv4/tcp_wmem", "4096\t16384\t4194304"),
        ("net/ipv4/tcp_fin_timeout", "60"),
        ("net/ipv4/tcp_syncookies", "1"),
        ("net/ipv4/tcp_timestamps", "1"),
        ("net/ipv4/tcp_sack", "1"),
        ("net/ipv4/tcp_tw_reuse", "2"),
        ("net/ipv4/tcp_max_syn_backlog", "1024"),
        ("net/ipv4/ip_local_port_range", "32768\t60999"),
        ("net/ipv4/tcp_congestion_control", "cubic"),
        ("net/ipv4/tcp_available_congestion_control", "reno cubic"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/core/somaxconn", "4096"),
        ("net/core/rmem_max", "4194304"),
        ("net/core/netdev_max_backlog", "1000"),
    ] {
        write(name, value);
    }
    for (name, value) in set {
        write(name, value);
    }
    fs::write(
        folder.path().join("meminfo"),
        "MemTotal:       16384000 kB\nMemFree: 1 kB\n",
    )
    .expect("meminfo");
    let live = Live::at(folder.path()).expect("it has sys/");
    (folder, live)
}

fn ids(report: &Report) -> Vec<(&'static str, usize)> {
    let mut ids: Vec<_> = report.findings.iter().map(|f| (f.id, line(f))).collect();
    ids.sort_by_key(|(id, line)| (*line, *id));
    ids
}

fn line(finding: &Finding) -> usize {
    finding
        .evidence
        .iter()
        .find_map(|e| e.place.as_ref())
        .map_or(0, |place| place.line)
}

fn one<'a>(report: &'a Report, id: &str) -> &'a Finding {
    let mut found = report.findings.iter().filter(|finding| finding.id == id);
    let first = found.next().unwrap_or_else(|| panic!("no {id} in {:?}", ids(report)));
    assert!(found.next().is_none(), "{id} twice");
    first
}

/// What a hundred guides for busy web servers say.
const FOLKLORE: &str = "\
# Kernel tuning for high load
net.ipv4.tcp_syncookies = 1
net.ipv4.tcp_tw_reuse = 1
net.ipv4.tcp_tw_recycle = 1
net.ipv4.tcp_fin_timeout = 30
net.ipv4.tcp_keepalive_time = 1200
net.ipv4.ip_local_port_range = 1024-65000
net.ipv4.tcp_max_syn_backlog = 8192
net.ipv4.tcp_max_tw_buckets = 5000
net.ipv4.tcp_mem = 94500000 915000000 927000000
net.ipv4.tcp_rmem = 4096 87380 4194304
net.ipv4.tcp_wmem = 4096 16384 4194304
net.ipv4.tcp_max_orphans = 3276800
net.ipv4.tcp_timestamps = 0
net.ipv4.tcp_synack_retries = 1
net.ipv4.tcp_syn_retries = 1
net.ipv4.tcp_fack = 1
net.ipv4.tcp_low_latency = 1
net.core.somaxconn = 262144
net.core.netdev_max_backlog = 262144
net.ipv4.conf.all.rp_filter = 0
";

#[test]
fn the_folklore_against_a_modern_machine() {
    let (_folder, live) = machine("6.18.0", &[]);
    let report = check(vec![file(FOLKLORE)], Some(&live));
    let without_applied: Vec<_> = ids(&report)
        .into_iter()
        .filter(|(id, _)| *id != "sysctl-not-applied")
        .collect();
    assert_eq!(
        without_applied,
        [
            ("sysctl-default", 2),
            ("tcp-tw-reuse-without-timestamps", 3),
            ("sysctl-removed", 4),
            ("tcp-fin-timeout", 5),
            ("sysctl-absent", 6),
            ("tcp-keepalive", 6),
            ("sysctl-bad-value", 7),
            ("tcp-max-syn-backlog", 8),
            ("tcp-few-tw-buckets", 9),
            ("sysctl-wrong-unit", 10),
            ("sysctl-below-default", 11),
            ("sysctl-default", 12),
            ("tcp-many-orphans", 13),
            ("tcp-timestamps-off", 14),
            ("sysctl-absent", 15),
            ("tcp-few-syn-retries", 15),
            ("sysctl-absent", 16),
            ("tcp-few-syn-retries", 16),
            ("sysctl-no-effect", 17),
            ("sysctl-no-effect", 18),
            ("rp-filter", 21),
        ]
    );
    assert_eq!(report.worst(), Some(Severity::Warning));
    assert!(report.findings.is_sorted_by(|a, b| a.severity >= b.severity));
    assert_eq!(
        report
            .findings
            .iter()
            .filter(|f| f.id == "sysctl-not-applied")
            .map(line)
            .collect::<Vec<_>>(),
        [3, 5, 8, 19, 20]
    );
}

#[test]
fn the_folklores_correction() {
    let (_folder, live) = machine("6.18.0", &[]);
    let report = check(vec![file(FOLKLORE)], Some(&live));
    let fixed = report.fixed_file("/etc/sysctl.conf").expect("it was checked");
    insta::assert_snapshot!(fixed);
    assert_eq!(report.fixed_file("/etc/other.conf"), None);
    // What is corrected once needs no more correction.
    let again = check(vec![file(&fixed)], Some(&live));
    assert_eq!(again.fixed_file("/etc/sysctl.conf").as_deref(), Some(fixed.as_str()));
    assert!(again.worst() < Some(Severity::Warning), "{:?}", ids(&again));
}

#[test]
fn findings_as_text_fit_80_columns() {
    let (_folder, live) = machine("6.18.0", &[]);
    let report = check(vec![file(FOLKLORE)], Some(&live));
    let text: String = report.findings.iter().map(|finding| format!("{finding}\n")).collect();
    for line in text.lines().filter(|line| !line.contains("https://")) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let removed = one(&report, "sysctl-removed");
    insta::assert_snapshot!(removed.to_string());
    insta::assert_snapshot!(one(&report, "sysctl-wrong-unit").to_string());
}

#[test]
fn findings_as_json_have_stable_names() {
    let report = alone("net.ipv4.tcp_tw_recycle=1\n");
    let json = serde_json::to_value(one(&report, "sysctl-removed")).expect("plain data");
    assert_eq!(json["id"], "sysctl-removed");
    assert_eq!(json["severity"], "warning");
    assert_eq!(json["confidence"], "certain");
    assert_eq!(json["since"], "4.12");
    assert_eq!(json["evidence"][0]["place"]["file"], "/etc/sysctl.conf");
    assert_eq!(json["evidence"][0]["place"]["line"], 1);
}

#[test]
fn a_clean_file_has_no_findings() {
    let report = alone(
        "# Ours\n; and a comment\n\nnet.core.somaxconn = 8192\nnet.ipv4.tcp_congestion_control=bbr\nnet.core.default_qdisc=fq\n\
         vm.swappiness = 10\nnet.ipv4.conf.all.rp_filter = 2\n-net.ipv4.conf.eth9.rp_filter = 2\n\
         net/ipv4/conf/eth0.100/arp_ignore = 1\nkernel.something.private = 3\n",
    );
    assert_eq!(ids(&report), []);
}

#[test]
fn tcp_tw_recycle_is_critical_where_the_kernel_still_has_it() {
    let (_folder, live) = machine("3.10.0", &[("net/ipv4/tcp_tw_recycle", "1")]);
    let report = check(vec![file("net.ipv4.tcp_tw_recycle = 1\n")], Some(&live));
    let finding = one(&report, "tcp-tw-recycle");
    assert_eq!(finding.severity, Severity::Critical);
    assert!(finding.cause.contains("NAT"), "{}", finding.cause);
    let fixed = report.fixed_file("/etc/sysctl.conf").expect("it was checked");
    assert!(fixed.ends_with("\nnet.ipv4.tcp_tw_recycle = 0\n"), "{fixed}");
    assert_eq!(
        ids(&check(Vec::new(), Some(&live))),
        [("tcp-tw-recycle", 0)],
        "without a file too"
    );
    let off = check(vec![file("net.ipv4.tcp_tw_recycle = 0\n")], Some(&live));
    assert_eq!(ids(&off), []);
}

#[test]
fn malformed_values_are_put_right_where_they_can_be() {
    for (written, meant) in [
        (
            "net.ipv4.ip_local_port_range = 10240-65000",
            Some("net.ipv4.ip_local_port_range = 10240 65000"),
        ),
        (
            "net.ipv4.ip_local_port_range = \"10240 65000\"",
            Some("net.ipv4.ip_local_port_range = 10240 65000"),
        ),
        (
            "net.ipv4.tcp_rmem = 4096,131072,64M",
            Some("net.ipv4.tcp_rmem = 4096 131072 67108864"),
        ),
        (
            "net.ipv4.tcp_keepalive_intvl = 30s",
            Some("net.ipv4.tcp_keepalive_intvl = 30"),
        ),
        (
            "net.ipv4.tcp_no_metrics_save = yes",
            Some("net.ipv4.tcp_no_metrics_save = 1"),
        ),
        (
            "net.ipv4.ip_local_reserved_ports = 8080 9000",
            Some("net.ipv4.ip_local_reserved_ports = 8080,9000"),
        ),
        ("net.ipv4.tcp_syn_retries = 300", None),
        ("net.ipv4.tcp_reordering = many", None),
    ] {
        let report = alone(written);
        let finding = one(&report, "sysctl-bad-value");
        assert!(finding.cause.contains("EINVAL"));
        let fixed = report.fixed_file("/etc/sysctl.conf").expect("it was checked");
        match meant {
            Some(meant) => assert!(fixed.ends_with(&format!("\n#{written}\n{meant}\n")), "{fixed}"),
            None => assert!(fixed.ends_with(&format!("\n#{written}\n")), "{fixed}"),
        }
        assert!(alone(&fixed).findings.iter().all(|f| f.id != "sysctl-bad-value"));
    }
    // The kernel refuses to let connect() have privileged ports.
    let report = alone("net.ipv4.ip_local_port_range = 1000 65535");
    assert!(one(&report, "sysctl-bad-value").title.contains("1024"));
}

#[test]
fn commands_in_a_file_become_settings() {
    let report = alone(
        "sysctl -w net.ipv4.tcp_sack=1\necho 2 > /proc/sys/net/ipv4/tcp_frto\nnet.ipv4.tcp_reordering 5\nreboot\n",
    );
    assert_eq!(report.findings.iter().filter(|f| f.id == "sysctl-syntax").count(), 4);
    let fixed = report.fixed_file("/etc/sysctl.conf").expect("it was checked");
    for line in [
        "net.ipv4.tcp_sack = 1",
        "net.ipv4.tcp_frto = 2",
        "net.ipv4.tcp_reordering = 5",
        "#reboot",
    ] {
        assert!(fixed.lines().any(|l| l == line), "{line} in {fixed}");
    }
}

#[test]
fn a_misspelt_key_gets_a_suggestion() {
    let report = alone("net.ipv4.tcp_tw_resue = 1\n");
    let finding = one(&report, "sysctl-unknown");
    assert_eq!(finding.confidence, Confidence::Likely);
    assert!(finding.fix.contains("net.ipv4.tcp_tw_reuse"), "{}", finding.fix);
    // A key the kernel has is known to it, whatever the table says.
    let (_folder, live) = machine("7.3.0", &[("net/ipv4/tcp_brand_new", "1")]);
    assert!(ids(&check(vec![file("net.ipv4.tcp_brand_new = 1\n")], Some(&live))).is_empty());
}

#[test]
fn tcp_mem_in_bytes_is_told_from_pages() {
    let (_folder, live) = machine("6.18.0", &[]);
    let unit = |text: &str, live| {
        check(vec![file(text)], live)
            .findings
            .iter()
            .find(|f| f.id == "sysctl-wrong-unit")
            .map(|f| f.confidence)
    };
    assert_eq!(
        unit("net.ipv4.tcp_mem = 8388608 12582912 16777216\n", Some(&live)),
        Some(Confidence::Certain)
    );
    assert_eq!(
        unit("net.ipv4.tcp_mem = 4096 87380 16777216\n", None),
        Some(Confidence::Likely)
    );
    assert_eq!(
        unit("net.ipv4.udp_mem = 94500000 915000000 927000000\n", None),
        Some(Confidence::Likely)
    );
    // 1, 2 and 3 GiB, in pages.
    assert_eq!(unit("net.ipv4.tcp_mem = 262144 524288 786432\n", Some(&live)), None);
    assert_eq!(unit("net.ipv4.tcp_mem = 262144 524288 786432\n", None), None);
}

#[test]
fn triples_out_of_order_are_found() {
    assert_eq!(
        ids(&alone("net.ipv4.tcp_rmem = 8192 16777216 873800\n")),
        [("sysctl-inconsistent", 1)]
    );
    assert_eq!(ids(&alone("net.ipv4.tcp_rmem = 4096 131072 67108864\n")), []);
}

#[test]
fn limits_are_held_against_this_machines_own_defaults() {
    let (_folder, live) = machine("6.18.0", &[]);
    let of = |text: &str| {
        let report = check(vec![file(text)], Some(&live));
        let applied = |id: &&str| *id != "sysctl-not-applied";
        report.findings.iter().map(|f| f.id).filter(applied).collect::<Vec<_>>()
    };
    assert_eq!(of("net.ipv4.tcp_max_tw_buckets = 6000\n"), ["tcp-few-tw-buckets"]);
    assert_eq!(of("net.ipv4.tcp_max_tw_buckets = 262144\n"), [""; 0]);
    assert_eq!(of("net.ipv4.tcp_max_tw_buckets = 65536\n"), ["sysctl-default"]);
    assert_eq!(of("net.ipv4.tcp_max_orphans = 131072\n"), [""; 0]);
    assert_eq!(of("net.ipv4.tcp_max_orphans = 1048576\n"), ["tcp-many-orphans"]);
    assert_eq!(of("net.ipv4.tcp_max_orphans = 8192\n"), ["sysctl-below-default"]);
    assert_eq!(of("net.core.somaxconn = 1024\n"), ["sysctl-below-default"]);
    assert_eq!(of("net.core.rmem_max = 16777216\n"), [""; 0]);
}

#[test]
fn old_kernels_had_other_defaults() {
    let (_folder, live) = machine("4.19.0", &[("net/core/somaxconn", "1024")]);
    assert_eq!(ids(&check(vec![file("net.core.somaxconn = 1024\n")], Some(&live))), []);
    assert_eq!(
        ids(&check(vec![file("net.core.somaxconn = 128\n")], Some(&live))),
        [("sysctl-default", 1), ("sysctl-not-applied", 1)]
    );
}

#[test]
fn keys_absent_in_a_namespace_are_told_from_keys_the_kernel_lacks() {
    let (folder, _) = machine("6.1.0", &[]);
    for hidden in ["tcp_mem", "tcp_max_orphans"] {
        fs::remove_file(folder.path().join("sys/net/ipv4").join(hidden)).expect("it was there");
    }
    let live = Live::at(folder.path()).expect("it has sys/");
    assert!(live.in_namespace());
    let report = check(
        vec![file(
            "net.ipv4.tcp_max_orphans = 100000\nnet.ipv4.tcp_rto_max_ms = 60000\nnet.netfilter.nf_conntrack_tcp_loose = 0\n",
        )],
        Some(&live),
    );
    assert_eq!(
        ids(&report),
        [
            ("sysctl-not-in-namespace", 1),
            ("sysctl-too-new", 2),
            ("sysctl-absent", 3)
        ]
    );
    assert_eq!(one(&report, "sysctl-too-new").since.as_deref(), Some("6.15"));
    assert!(one(&report, "sysctl-absent").fix.contains("nf_conntrack"));
}

#[test]
fn the_last_line_wins_over_files_too() {
    let files = vec![
        ConfFile {
            path: "/etc/sysctl.d/10-a.conf".into(),
            text: "net.core.somaxconn = 8192\nnet/ipv4/tcp_frto = 0\n".into(),
        },
        ConfFile {
            path: "/etc/sysctl.conf".into(),
            text: "net.core.somaxconn = 16384\nnet.ipv4.tcp_frto = 0\n".into(),
        },
    ];
    let report = check(files, None);
    assert_eq!(ids(&report), [("sysctl-overridden", 1), ("sysctl-overridden", 2)]);
    let severities: Vec<_> = report.findings.iter().map(|f| (line(f), f.severity)).collect();
    assert_eq!(severities, [(1, Severity::Notice), (2, Severity::Info)]);
    assert_eq!(
        report.fixed_file("/etc/sysctl.conf").as_deref(),
        Some("net.core.somaxconn = 16384\nnet.ipv4.tcp_frto = 0\n")
    );
    let first = report.fixed_file("/etc/sysctl.d/10-a.conf").expect("it was checked");
    assert!(first.lines().all(|line| line.starts_with('#')), "{first}");
}

#[test]
fn the_running_kernel_is_checked_without_files() {
    let (_folder, live) = machine("6.18.0", &[]);
    assert_eq!(ids(&check(Vec::new(), Some(&live))), [], "defaults are fine");
    let (_folder, live) = machine(
        "6.18.0",
        &[("net/ipv4/tcp_sack", "0"), ("net/ipv4/tcp_abort_on_overflow", "1")],
    );
    let report = check(Vec::new(), Some(&live));
    let mut found: Vec<_> = report.findings.iter().map(|f| f.id).collect();
    found.sort_unstable();
    assert_eq!(found, ["tcp-abort-on-overflow", "tcp-sack-off"]);
    // What a file sets too is told once.
    let report = check(vec![file("net.ipv4.tcp_sack = 0\n")], Some(&live));
    assert_eq!(line(one(&report, "tcp-sack-off")), 1);
}

#[test]
fn advice_depends_on_other_settings() {
    assert_eq!(ids(&alone("net.ipv4.tcp_tw_reuse = 1\n")), [("tcp-tw-reuse", 1)]);
    let backlog = "net.ipv4.tcp_max_syn_backlog = 65536\n";
    assert_eq!(ids(&alone(backlog)), [("tcp-max-syn-backlog", 1)]);
    let without_cookies = alone(&format!("{backlog}net.ipv4.tcp_syncookies = 0\n"));
    assert_eq!(ids(&without_cookies), [("tcp-syncookies", 2)]);
    let idle = "net.netfilter.nf_conntrack_tcp_timeout_established = 1200\n";
    assert_eq!(ids(&alone(idle)), [("conntrack-forgets-idle", 1)]);
    assert_eq!(
        ids(&alone(&format!("net.ipv4.tcp_keepalive_time = 600\n{idle}"))),
        [("tcp-keepalive", 1)]
    );
    assert_eq!(
        ids(&alone("net.ipv4.ip_local_port_range = 1024 65535\n")),
        [("port-range-wide", 1)]
    );
    assert_eq!(
        ids(&alone(
            "net.ipv4.ip_local_port_range = 1024 65535\nnet.ipv4.ip_local_reserved_ports = 3306,8080\n"
        )),
        []
    );
    assert!(
        one(&alone("net.ipv4.tcp_retries2 = 5\n"), "tcp-few-retries")
            .title
            .contains("12.6 s")
    );
}

#[test]
fn files_are_read_in_sysctls_order() {
    let root = tempfile::tempdir().expect("a folder");
    for (path, text) in [
        ("etc/sysctl.d/50-b.conf", ""),
        ("usr/lib/sysctl.d/50-b.conf", ""),
        ("usr/lib/sysctl.d/10-a.conf", ""),
        ("usr/lib/sysctl.d/README", ""),
        ("etc/sysctl.conf", ""),
    ] {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    let files = conf_files(root.path());
    let names: Vec<_> = files
        .iter()
        .map(|p| {
            p.strip_prefix(root.path())
                .expect("below the root")
                .display()
                .to_string()
        })
        .collect();
    assert_eq!(
        names,
        [
            "usr/lib/sysctl.d/10-a.conf",
            "etc/sysctl.d/50-b.conf",
            "etc/sysctl.conf"
        ]
    );
    assert!(ConfFile::read(Path::new("/no/such/file")).is_err());
}

#[test]
fn every_rule_can_be_explained() {
    let sources = ["keys.rs", "values.rs"].map(|name| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("src/sysctl_check")
            .join(name);
        fs::read_to_string(path).expect("the crate's own source")
    });
    for (index, rule) in RULES.iter().enumerate() {
        assert!(
            RULES[..index].iter().all(|other| other.id != rule.id),
            "{} twice",
            rule.id
        );
        assert!(
            sources.iter().any(|text| text.contains(&format!("\"{}\"", rule.id))),
            "nothing finds {}",
            rule.id
        );
    }
    let (_folder, live) = machine("6.18.0", &[]);
    for finding in check(vec![file(FOLKLORE)], Some(&live)).findings {
        assert!(
            RULES.iter().any(|rule| rule.id == finding.id),
            "{} is not explained",
            finding.id
        );
    }
}

#[test]
fn no_text_makes_it_panic() {
    for text in [
        "=",
        "= 1",
        "-",
        "-= 1",
        "net.ipv4.tcp_rmem =",
        "net.ipv4.tcp_rmem = 1 2 3 4 5",
        "\u{feff}net.ipv4.tcp_sack=1",
        "net.ipv4.conf.*.rp_filter = 1",
        "\0\0\0",
        "net.ipv4.tcp_mem = 9223372036854775807 9223372036854775807 9223372036854775807",
        "é = ü",
        "net.ipv4.tcp_sack = \u{1F600}",
        "net.ipv4.ip_local_port_range = 65535 65535",
        "sysctl -w",
        "echo > /proc/sys/",
        "net.ipv4.tcp_fin_timeout = -99999999",
    ] {
        let report = alone(text);
        let _ = report.fixed_file("/etc/sysctl.conf");
        for finding in &report.findings {
            let _ = finding.to_string();
        }
    }
}
