//! The rules: pure functions over two samples of a stack, the kernel's or estab's. One family each file.

mod backlog;
mod closewait;
mod conntrack;
mod finwait;
mod keepalive;
mod listen;
mod memory;
mod retrans;
mod rules;
mod timewait;

pub use rules::RULES;

use crate::finding::Finding;
use crate::sample::{Owner, PeerCount, Sample};
use std::net::SocketAddr;

const IP_SYSCTL: &str = "https://docs.kernel.org/networking/ip-sysctl.html";

/// Two looks at one stack, the second later than the first (or the same, where there was only one).
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The first.
    pub before: &'a Sample,
    /// The second.
    pub now: &'a Sample,
}

impl Case<'_> {
    /// Seconds between the two; 0 where there is only one.
    pub fn seconds(&self) -> f64 {
        (self.now.at - self.before.at).max(0.0)
    }

    /// How much a counter has grown between them.
    fn delta(&self, name: &str) -> u64 {
        self.now.counter(name).saturating_sub(self.before.counter(name))
    }

    /// A counter's growth in a second.
    fn rate(&self, name: &str) -> f64 {
        let seconds = self.seconds();
        if seconds > 0.0 {
            self.delta(name) as f64 / seconds
        } else {
            0.0
        }
    }

    /// Evidence: a counter's growth and its whole.
    fn counted(&self, name: &str) -> String {
        format!(
            "{name} +{} in {:.0} s ({} in all)",
            self.delta(name),
            self.seconds(),
            self.now.counter(name)
        )
    }
}

/// Every finding, the gravest first.
pub fn diagnose(case: Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in [
        timewait::judge,
        closewait::judge,
        listen::judge,
        backlog::judge,
        finwait::judge,
        retrans::judge,
        keepalive::judge,
        memory::judge,
        conntrack::judge,
    ] {
        findings.extend(rule(case));
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// `nginx (pid 7)`, or that nobody could be told.
fn who(owner: Option<&Owner>) -> String {
    match owner {
        Some(owner) => format!("{} (pid {})", owner.name, owner.pid),
        None => "a process that can't be told without root".into(),
    }
}

/// A peer; its port 0 is not told.
fn peer(at: SocketAddr) -> String {
    match (at.port(), at.ip()) {
        (0, ip) => ip.to_string(),
        _ => at.to_string(),
    }
}

/// The first few peers with their counts.
fn peers(list: &[PeerCount]) -> String {
    let told: Vec<String> = list
        .iter()
        .take(3)
        .map(|at| format!("{} ({})", peer(at.peer), at.count))
        .collect();
    let more = list.len().saturating_sub(3);
    match more {
        0 => told.join(", "),
        _ => format!("{} and {more} more", told.join(", ")),
    }
}

fn total(list: &[PeerCount]) -> u64 {
    list.iter().map(|at| at.count).sum()
}

/// A span as people say it: 850 ms, 12 s, 5 min, 3 h.
fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

/// `part` of `whole` in percent.
fn percent(part: u64, whole: u64) -> u64 {
    part.saturating_mul(100).checked_div(whole).unwrap_or(0)
}
