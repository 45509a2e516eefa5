//! The table of sysctls: its names, what its keys take and refuse, and the running kernel's opinion.

use estab_proto::sysctl::{Kind, Reason, Value, all, lookup, suggestions};
use std::collections::HashSet;

fn parse<'a>(name: &str, value: &'a str) -> Result<Value<'a>, Reason> {
    lookup(name).expect(name).parse(value).map_err(|bad| bad.reason)
}

fn complaint(name: &str, value: &str) -> String {
    lookup(name).expect(name).parse(value).expect_err(value).to_string()
}

#[test]
fn every_key_is_well_formed() {
    let mut seen = HashSet::new();
    for key in all() {
        assert!(seen.insert(key.name), "{key} twice");
        assert!(key.about.ends_with('.'), "{key} lacks its sentence");
        assert_eq!(lookup(key.name), Some(key), "{key} is hidden by another");
        if let (true, Some(default)) = (key.writable, key.default.fixed()) {
            assert!(key.parse(default).is_ok(), "{key} refuses its own default {default}");
        }
        if let (true, Some(former)) = (key.writable, key.former) {
            assert!(
                key.parse(former.value).is_ok(),
                "{key} refuses its old default {}",
                former.value
            );
        }
        if let Kind::Int { min, max } | Kind::Ints { min, max, .. } = key.kind {
            assert!(min < max, "{key}");
        }
        if key.removed.is_some() {
            assert!(!key.effect, "{key} is gone and can have no effect");
        }
    }
}

#[test]
fn names_are_found_in_every_spelling() {
    for name in [
        "net.ipv4.tcp_sack",
        "net/ipv4/tcp_sack",
        "/proc/sys/net/ipv4/tcp_sack",
        "/net/ipv4/tcp_sack",
        " net.ipv4.tcp_sack ",
    ] {
        assert_eq!(lookup(name).map(|key| key.name), Some("net.ipv4.tcp_sack"), "{name}");
    }
    for name in [
        "net.ipv4.conf.all.rp_filter",
        "net/ipv4/conf/eth0.100/rp_filter",
        "net.ipv4.conf.eth0.100.rp_filter",
    ] {
        assert_eq!(
            lookup(name).map(|key| key.name),
            Some("net.ipv4.conf.*.rp_filter"),
            "{name}"
        );
    }
    assert_eq!(lookup("net.ipv4.conf.rp_filter"), None);
    assert_eq!(lookup("net.ipv4.tcp_sac"), None);
    assert_eq!(lookup("tcp_sack"), None);
    assert_eq!(lookup(""), None);
}

#[test]
fn a_misspelt_name_finds_its_neighbours() {
    let first = |name| suggestions(name)[0].map(|key| key.name);
    assert_eq!(first("net.ipv4.tcp_tw_resue"), Some("net.ipv4.tcp_tw_reuse"));
    assert_eq!(first("tcp_fin_timeout"), Some("net.ipv4.tcp_fin_timeout"));
    assert_eq!(first("net.core.tcp_rmem"), Some("net.ipv4.tcp_rmem"));
    assert_eq!(first("net.ipv4.tcp_syncookie"), Some("net.ipv4.tcp_syncookies"));
    assert_eq!(
        first("net.ipv4.tcp_keepalive_interval"),
        Some("net.ipv4.tcp_keepalive_intvl")
    );
    assert_eq!(first("net.ipv4.something_else_altogether"), None);
    assert_eq!(first(""), None);
    assert_eq!(first(&"x".repeat(500)), None);
}

// Each of these was tried on Linux 6.18 in a network namespace of its own.
#[test]
fn numbers_are_taken_as_the_kernel_takes_them() {
    let sack = |value| parse("net.ipv4.tcp_sack", value);
    assert_eq!(sack("1"), Ok(Value::Int(1)));
    assert_eq!(sack("  1"), Ok(Value::Int(1)));
    assert_eq!(sack("1 # on"), Ok(Value::Int(1)));
    assert_eq!(sack("0x1"), Ok(Value::Int(1)));
    assert_eq!(sack("010"), Ok(Value::Int(8)));
    assert_eq!(sack("08"), Err(Reason::Suffix('8')));
    assert_eq!(sack("256"), Err(Reason::OutOfRange(256)));
    assert_eq!(sack("-1"), Err(Reason::OutOfRange(-1)));
    for text in ["yes", "+1", "\"1\"", "#1"] {
        assert_eq!(sack(text), Err(Reason::NotANumber), "{text}");
    }
    for (text, found) in [("1x", 'x'), ("1;", ';'), ("1.0", '.'), ("1#", '#'), ("1,0", ',')] {
        assert_eq!(sack(text), Err(Reason::Suffix(found)), "{text}");
    }
    assert_eq!(parse("net.ipv4.tcp_fin_timeout", "30s"), Err(Reason::Suffix('s')));
    assert_eq!(parse("net.ipv4.tcp_syn_retries", "0"), Err(Reason::OutOfRange(0)));
    assert_eq!(parse("net.ipv4.tcp_tw_reuse", "3"), Err(Reason::OutOfRange(3)));
    assert_eq!(parse("net.ipv4.tcp_notsent_lowat", "-1"), Err(Reason::OutOfRange(-1)));
    assert_eq!(
        parse("net.ipv4.tcp_notsent_lowat", "4294967295"),
        Ok(Value::Int(4294967295))
    );
    assert_eq!(
        parse("net.ipv4.tcp_retries2", "99999999999999999999999"),
        Err(Reason::OutOfRange(i64::MAX))
    );
}

#[test]
fn triples_may_be_short_and_must_be_blank_separated() {
    let rmem = |value| match parse("net.ipv4.tcp_rmem", value) {
        Ok(Value::Ints(ints)) => Ok(ints.as_slice().to_vec()),
        Ok(other) => panic!("{other:?}"),
        Err(reason) => Err(reason),
    };
    assert_eq!(rmem("4096 87380 16777216"), Ok(vec![4096, 87380, 16777216]));
    assert_eq!(rmem("4096\t87380\t16777216 # comment"), Ok(vec![4096, 87380, 16777216]));
    assert_eq!(rmem("4096"), Ok(vec![4096]));
    assert_eq!(
        rmem("9000 5000 100"),
        Ok(vec![9000, 5000, 100]),
        "the kernel does not compare them"
    );
    assert_eq!(rmem("0 1 2"), Err(Reason::OutOfRange(0)));
    assert_eq!(rmem("4096 87380 2147483648"), Err(Reason::OutOfRange(2147483648)));
    assert_eq!(rmem("4096 87380 16M"), Err(Reason::Suffix('M')));
    assert_eq!(rmem("4096 87380 # x"), Err(Reason::NotANumber));
    assert_eq!(
        rmem("4096,87380,16777216"),
        Err(Reason::Separator {
            found: ',',
            before: 4096,
            after: 87380
        })
    );
}

#[test]
fn ports_are_ranges_and_lists() {
    let range = |value| parse("net.ipv4.ip_local_port_range", value);
    assert_eq!(
        range("1024 65000"),
        Ok(Value::PortRange {
            low: 1024,
            high: Some(65000)
        })
    );
    assert_eq!(range("1024"), Ok(Value::PortRange { low: 1024, high: None }));
    assert_eq!(
        range("1024 65000 3"),
        Ok(Value::PortRange {
            low: 1024,
            high: Some(65000)
        })
    );
    assert_eq!(range("65000 1024"), Err(Reason::Reversed { low: 65000, high: 1024 }));
    assert_eq!(range("0 65535"), Err(Reason::OutOfRange(0)));
    assert_eq!(range("1024 70000"), Err(Reason::OutOfRange(70000)));
    for (text, found) in [("1024-65000", '-'), ("1024,65000", ','), ("1024:65000", ':')] {
        assert_eq!(
            range(text),
            Err(Reason::Separator {
                found,
                before: 1024,
                after: 65000
            }),
            "{text}"
        );
    }
    let list = |value| match parse("net.ipv4.ip_local_reserved_ports", value) {
        Ok(Value::Ports(ports)) => Ok(ports
            .ranges()
            .map(|range| (*range.start(), *range.end()))
            .collect::<Vec<_>>()),
        Ok(other) => panic!("{other:?}"),
        Err(reason) => Err(reason),
    };
    assert_eq!(list("8080,9000-9010"), Ok(vec![(8080, 8080), (9000, 9010)]));
    assert_eq!(list("80,"), Ok(vec![(80, 80)]));
    assert_eq!(list(""), Ok(vec![]));
    for text in ["8080 9000", "8080, 9000", "80,,90", "http"] {
        assert_eq!(list(text), Err(Reason::NotPorts), "{text}");
    }
    assert_eq!(list("9010-9000"), Err(Reason::Reversed { low: 9010, high: 9000 }));
    assert_eq!(list("70000"), Err(Reason::OutOfRange(70000)));
}

#[test]
fn complaints_say_what_to_write() {
    assert_eq!(
        complaint("net.ipv4.ip_local_port_range", "1024-65000"),
        "net.ipv4.ip_local_port_range: '-' between the numbers, where a blank belongs; write \"1024 65000\""
    );
    assert_eq!(
        complaint("net.ipv4.tcp_syn_retries", "200"),
        "net.ipv4.tcp_syn_retries: 200 is out of range; write a number from 1 to 127"
    );
    assert_eq!(
        complaint("net.ipv4.tcp_fin_timeout", "30s"),
        "net.ipv4.tcp_fin_timeout: 's' after the number; write a number (seconds), digits only"
    );
    assert_eq!(
        complaint("net.ipv4.tcp_sack", "on"),
        "net.ipv4.tcp_sack: not a number; write 0 or 1"
    );
    assert_eq!(
        complaint("net.ipv4.tcp_available_congestion_control", "bbr"),
        "net.ipv4.tcp_available_congestion_control: can't be set, only read"
    );
}

/// Every tcp_* of this kernel is in the table (if the kernel is not newer than the table's, 6.18), and each
/// value it shows is one its key takes.
#[cfg(target_os = "linux")]
#[test]
fn the_running_kernels_keys_are_known() {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut version = release.split('.').map(|n| n.parse::<u32>().unwrap_or(u32::MAX));
    let newer = (version.next().unwrap_or(u32::MAX), version.next().unwrap_or(u32::MAX)) > (6, 18);
    let mut folders = vec![std::path::PathBuf::from("/proc/sys/net")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let path = path.to_str().expect("the kernel's names are ASCII");
            let Some(key) = lookup(path) else {
                let ours = path.starts_with("/proc/sys/net/ipv4/tcp_");
                assert!(newer || !ours, "{path} is missing from the table");
                continue;
            };
            assert!(key.removed.is_none(), "{key} is called removed, and this kernel has it");
            let Ok(value) = std::fs::read_to_string(path) else {
                continue;
            };
            if let (true, Err(bad)) = (key.writable, key.parse(&value)) {
                assert!(newer, "{path} shows {value:?}: {bad}");
            }
        }
    }
}
