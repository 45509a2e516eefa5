//! The counters' names and order against themselves and, on Linux, against the running kernel's.

use estab_proto::mib::{Counter, Group};
use std::collections::HashSet;

#[test]
fn names_round_trip_and_are_unique() {
    let mut seen = HashSet::new();
    for (i, counter) in Counter::ALL.iter().enumerate() {
        assert_eq!(counter.index(), i);
        assert!(seen.insert(counter.name()), "{counter} twice");
        assert_eq!(counter.name().parse(), Ok(*counter));
        assert_eq!(counter.name().to_lowercase().parse(), Ok(*counter));
        assert_eq!(
            format!("{}{}", counter.group().name(), counter.short_name()),
            counter.name()
        );
        assert!(counter.about().ends_with('.'), "{counter} lacks its sentence");
    }
    assert_eq!(Counter::COUNT, seen.len());
    assert!("TcpExtNoSuchThing".parse::<Counter>().is_err());
}

#[test]
fn short_names_are_procs() {
    assert_eq!(Counter::TcpExtListenOverflows.short_name(), "ListenOverflows");
    assert_eq!(Counter::TcpExtTcpTimeoutRehash.short_name(), "TcpTimeoutRehash");
    assert_eq!(Counter::Icmp6InEchos.short_name(), "InEchos");
    assert_eq!(Counter::TcpExtListenOverflows.group(), Group::TcpExt);
    assert_eq!(Group::TcpExt.file(), "netstat");
}

/// Every counter that this kernel shows under a name of ours stands in the kernel's order, and a kernel
/// no newer than the table's (6.18) shows none that the table lacks.
#[cfg(target_os = "linux")]
#[test]
fn the_running_kernels_counters_are_known() {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut version = release.split('.').map(|n| n.parse::<u32>().unwrap_or(u32::MAX));
    let newer = (version.next().unwrap_or(u32::MAX), version.next().unwrap_or(u32::MAX)) > (6, 18);
    let mut live = Vec::new();
    for file in ["snmp", "netstat"] {
        let Ok(text) = std::fs::read_to_string(format!("/proc/net/{file}")) else {
            continue;
        };
        for header in text.lines().step_by(2) {
            let Some((group, names)) = header.split_once(": ") else {
                continue;
            };
            if ["Ip", "Icmp", "Tcp", "Udp", "TcpExt", "IpExt"].contains(&group) {
                live.extend(names.split(' ').map(|name| format!("{group}{name}")));
            }
        }
    }
    if let Ok(text) = std::fs::read_to_string("/proc/net/snmp6") {
        live.extend(
            text.lines()
                .filter_map(|line| line.split_whitespace().next())
                .map(str::to_owned),
        );
    }
    // Constants, ICMP types by number, and UDP-Lite, which estab does not speak.
    let left_out = |name: &str| {
        [
            "IpForwarding",
            "IpDefaultTTL",
            "TcpRtoAlgorithm",
            "TcpRtoMin",
            "TcpRtoMax",
            "TcpMaxConn",
        ]
        .contains(&name)
            || name.starts_with("UdpLite")
            || name.starts_with("Icmp6InType")
            || name.starts_with("Icmp6OutType")
    };
    let mut last = None;
    for name in live.iter().filter(|name| !left_out(name)) {
        match name.parse::<Counter>() {
            Ok(counter) => {
                assert_eq!(counter.name(), name);
                if let Some(last) = last.filter(|last: &Counter| last.group() == counter.group()) {
                    assert!(last < counter, "the kernel prints {counter} after {last}");
                }
                last = Some(counter);
            }
            Err(_) => assert!(newer, "{name} is missing from the table"),
        }
    }
}
