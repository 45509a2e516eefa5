//! /proc/net/snmp, netstat and sockstat: what the kernel counts.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The counters of `proc`/net, by nstat's names (`TcpExtListenOverflows`), those that are zero included. Empty where
/// there are none.
pub fn counters(proc: &Path) -> BTreeMap<String, u64> {
    let mut counters = BTreeMap::new();
    for file in ["net/snmp", "net/netstat"] {
        let text = fs::read_to_string(proc.join(file)).unwrap_or_default();
        pairs(&text, &mut counters);
    }
    counters
}

/// Two lines each: `TcpExt: NAME NAME …`, then `TcpExt: VALUE VALUE …`.
fn pairs(text: &str, counters: &mut BTreeMap<String, u64>) {
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let Some((group, names)) = names.split_once(':') else {
            continue;
        };
        let values = values.split_once(':').map_or("", |(_, values)| values);
        for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
            // TcpMaxConn is -1.
            if let Ok(value) = value.parse() {
                counters.insert(format!("{group}{name}"), value);
            }
        }
    }
}

/// /proc/net/sockstat and sockstat6. In a network namespace `inuse` and `tw` are the namespace's, while
/// `orphan`, `alloc` and `mem` are the whole host's (net/ipv4/proc.c sockstat_seq_show).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SockStat {
    /// TCP sockets over IPv4 that are hashed: neither closed nor TIME_WAIT.
    pub tcp_inuse: u64,
    /// Those over IPv6.
    pub tcp6_inuse: u64,
    /// Sockets that no process holds, of the host.
    pub orphan: u64,
    /// Time-wait entries: TIME_WAIT, and orphaned FIN_WAIT_2 in its last 60 s.
    pub tw: u64,
    /// TCP sockets allocated, of the host.
    pub alloc: u64,
    /// Pages of TCP's buffers, of the host.
    pub mem: u64,
}

impl SockStat {
    /// Reads `proc`/net; `None` where it is not there.
    pub fn read(proc: &Path) -> Option<SockStat> {
        let text = fs::read_to_string(proc.join("net/sockstat")).ok()?;
        let text6 = fs::read_to_string(proc.join("net/sockstat6")).unwrap_or_default();
        Some(SockStat {
            tcp_inuse: number(&text, "TCP:", "inuse"),
            tcp6_inuse: number(&text6, "TCP6:", "inuse"),
            orphan: number(&text, "TCP:", "orphan"),
            tw: number(&text, "TCP:", "tw"),
            alloc: number(&text, "TCP:", "alloc"),
            mem: number(&text, "TCP:", "mem"),
        })
    }
}

fn number(text: &str, group: &str, name: &str) -> u64 {
    let words = text.lines().find_map(|line| line.strip_prefix(group)).unwrap_or("");
    let mut words = words.split_whitespace().skip_while(|word| *word != name);
    words.nth(1).and_then(|value| value.parse().ok()).unwrap_or(0)
}
