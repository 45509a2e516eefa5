//! Connections that nobody would notice to be dead.

use super::{Case, IP_SYSCTL, span, who};
use crate::finding::{Confidence, Finding, Severity};

pub(super) fn judge(case: Case<'_>) -> Vec<Finding> {
    let idle = &case.now.sockets.idle;
    let count: u64 = idle.iter().map(|idle| idle.count).sum();
    if count < 10 {
        return Vec::new();
    }
    let oldest = idle.iter().map(|idle| idle.oldest_ms).max().unwrap_or(0);
    let mut finding = Finding::new(
        "no-keepalive",
        Severity::Notice,
        format!("{count} connections have been silent for over an hour and have no keepalive"),
    )
    .confidence(Confidence::Possible);
    for idle in idle.iter().take(3) {
        finding = finding.seen(format!("{}: {}", who(idle.owner.as_ref()), idle.count));
    }
    vec![
        finding
            .seen(format!("the longest silence: {}", span(oldest)))
            .cause(
                "A peer that loses power or its network says nothing. Without data to send and without SO_KEEPALIVE the \
                 kernel never finds out, and the connection stays ESTABLISHED for ever; a NAT or firewall between may \
                 have forgotten it long ago.",
            )
            .fix(
                "Set SO_KEEPALIVE in the application, with TCP_KEEPIDLE below what firewalls remember (300 s is common), \
                 or let the protocol ping.",
            )
            .dont("net.ipv4.tcp_keepalive_time alone: it only matters to sockets that have SO_KEEPALIVE.")
            .source(IP_SYSCTL),
    ]
}
