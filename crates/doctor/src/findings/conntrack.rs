//! Connection tracking's table, where the machine has one.

use super::{Case, percent, span};
use crate::finding::{Confidence, Finding, Severity};

pub(super) fn judge(case: Case<'_>) -> Vec<Finding> {
    [table(case), forgets(case)].into_iter().flatten().collect()
}

fn table(case: Case<'_>) -> Option<Finding> {
    let number = |name: &str| u64::try_from(case.now.int(&format!("net.netfilter.nf_conntrack_{name}"))?).ok();
    let (count, most) = (number("count")?, number("max").filter(|n| *n > 0)?);
    let share = percent(count, most);
    let severity = match share {
        95.. => Severity::Critical,
        80.. => Severity::Warning,
        _ => return None,
    };
    let mut finding = Finding::new(
        "conntrack-full",
        severity,
        format!("Connection tracking holds {count} of at most {most} connections ({share} %)"),
    );
    for name in ["time_wait", "close_wait", "established"] {
        if let Some(seconds) = number(&format!("tcp_timeout_{name}")) {
            finding = finding.seen(format!("nf_conntrack_tcp_timeout_{name}: {}", span(seconds * 1_000)));
        }
    }
    finding
        .cause(
            "A full table drops the first packet of each new connection (\"nf_conntrack: table full, dropping packet\" in \
             the kernel's log), whatever the listeners could take.",
        )
        .fix("Raise net.netfilter.nf_conntrack_max (about 320 bytes each), or take traffic that needs no tracking out: nft … notrack.")
        .dont("nf_conntrack_tcp_timeout_time_wait has nothing to do with the sockets' TIME_WAIT.")
        .source("https://docs.kernel.org/networking/nf_conntrack-sysctl.html")
        .into()
}

fn forgets(case: Case<'_>) -> Option<Finding> {
    let remembered = case.now.int("net.netfilter.nf_conntrack_tcp_timeout_established")?;
    let keepalive = case.now.int("net.ipv4.tcp_keepalive_time").unwrap_or(7200);
    // The table counts only where rules use it.
    let used = case.now.int("net.netfilter.nf_conntrack_count").unwrap_or(0) > 0;
    (used && remembered < keepalive).then(|| {
        Finding::new(
            "conntrack-forgets-idle",
            Severity::Notice,
            format!("Connection tracking forgets idle connections after {remembered} s, before keepalive probes them"),
        )
        .confidence(Confidence::Likely)
        .seen(format!("tcp_keepalive_time is {keepalive} s"))
        .cause("What a firewall rule or NAT has forgotten is dropped or reset when it speaks again.")
        .fix("Let keepalive begin sooner than that, or the table remember longer (its default is 5 days).")
        .source("https://docs.kernel.org/networking/nf_conntrack-sysctl.html")
    })
}
