//! Connections that can't end, and connections that can't begin.

use super::{Case, IP_SYSCTL, peers, percent, total};
use crate::finding::{Confidence, Finding, Severity};
use estab_proto::State;

pub(super) fn judge(case: Case<'_>) -> Vec<Finding> {
    [fin_wait2(case), closing(case), orphans(case), syn_sent(case)]
        .into_iter()
        .flatten()
        .collect()
}

fn fin_wait2(case: Case<'_>) -> Option<Finding> {
    let sockets = &case.now.sockets;
    let held = total(&sockets.fin_wait2_held);
    let before = total(&case.before.sockets.fin_wait2_held);
    (held >= 100 && before * 2 >= held).then(|| {
        Finding::new(
            "fin-wait-2",
            Severity::Notice,
            format!("{held} connections were half-closed here and their peers don't close"),
        )
        .confidence(Confidence::Likely)
        .seen(format!("by peer: {}", peers(&sockets.fin_wait2_held)))
        .seen(format!("besides, {} orphaned ones that end by themselves within 60 s", sockets.fin_wait2_entries))
        .cause(
            "The application called shutdown() and keeps the descriptor, so the kernel waits for the peer's FIN without a \
             limit: tcp_fin_timeout counts only once no process holds the socket. The peer has a CLOSE_WAIT each: it has \
             forgotten to close, or it is gone.",
        )
        .fix("Close the descriptor after a while instead of waiting, and look for the leak on the peer.")
        .dont("A lower tcp_fin_timeout does nothing for these.")
        .source(IP_SYSCTL)
    })
}

fn closing(case: Case<'_>) -> Option<Finding> {
    let sockets = &case.now.sockets;
    let count = [State::LastAck, State::FinWait1, State::Closing].map(|state| (state, sockets.states.count(state)));
    let now = total(&sockets.closing);
    (now >= 50).then(|| {
        Finding::new("last-ack", Severity::Notice, format!("{now} connections wait for the ACK of their FIN and repeat it"))
            .confidence(Confidence::Likely)
            .seen(format!("in all: {}", count.map(|(state, n)| format!("{state} {n}")).join(", ")))
            .seen(format!("repeated, by peer: {}", peers(&sockets.closing)))
            .cause(
                "The FIN, or data before it, is not acknowledged: peers that vanished (mobile clients, a firewall that \
                 forgot the connection), or that take nothing (zero window). The kernel repeats it tcp_orphan_retries \
                 times (0 means 8), backing off, and then gives up.",
            )
            .fix("Usually nothing: they end by themselves in one or two minutes. If they pile up, see whether that peer's network lost its way back.")
            .source("https://docs.kernel.org/networking/ip-sysctl.html (tcp_orphan_retries)")
    })
}

/// As many orphans of this namespace are worth a word where the limit does not show.
const MANY_ORPHANS: u64 = 256;

fn orphans(case: Case<'_>) -> Option<Finding> {
    let limit = case.now.int("net.ipv4.tcp_max_orphans");
    let limit = limit.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
    let own = case.now.sockets.orphans;
    let host = case.now.sockstat.map(|stat| stat.orphan);
    let killed = case.delta("TcpExtTCPAbortOnMemory");
    let (severity, title) = match limit {
        Some(limit) => {
            // sockstat's is the whole host's, as the limit is.
            let count = host.unwrap_or(own);
            let share = percent(count, limit);
            let severity = match () {
                () if share >= 90 || (killed > 0 && share >= 25) => Severity::Critical,
                () if share >= 50 => Severity::Warning,
                () => return None,
            };
            (
                severity,
                format!("{count} orphaned connections, of at most {limit} ({share} %)"),
            )
        }
        // Only this namespace's are its doing.
        None if own >= MANY_ORPHANS => {
            let severity = if killed > 0 {
                Severity::Critical
            } else {
                Severity::Notice
            };
            (
                severity,
                format!("{own} orphaned connections in this network namespace"),
            )
        }
        None => return None,
    };
    let mut finding = Finding::new("orphans", severity, title).seen(case.counted("TcpExtTCPAbortOnMemory"));
    if limit.is_none() {
        finding = finding
            .confidence(Confidence::Possible)
            .seen("tcp_max_orphans does not show in a network namespace: ask on the host how near it is");
        if let Some(host) = host {
            finding = finding.seen(format!("sockstat's orphan is the whole host's: {host}"));
        }
    }
    finding
        .cause(
            "Closed connections that still have data or a FIN to deliver belong to the kernel alone. Past \
             tcp_max_orphans (or half of it, for connections that retransmit) they are reset, and their data is lost.",
        )
        .fix("Find the peers that don't acknowledge: estab ss --kernel -o state last-ack state fin-wait-1.")
        .dont("Raising tcp_max_orphans: each may pin 64 KiB that can't be swapped.")
        .source(IP_SYSCTL)
        .into()
}

fn syn_sent(case: Case<'_>) -> Option<Finding> {
    let sockets = &case.now.sockets;
    let (now, before) = (&sockets.syn_sent, &case.before.sockets.syn_sent);
    let worst = now.first()?;
    let already = before.iter().find(|at| at.peer == worst.peer).map_or(0, |at| at.count);
    (worst.count >= 5).then(|| {
        Finding::new(
            "syn-sent",
            Severity::Warning,
            format!("{} connects to {} have no answer", worst.count, worst.peer),
        )
        .confidence(Confidence::Likely)
        .seen(format!("SYN_SENT with repeated SYNs, by destination: {}", peers(now)))
        .seen(format!("to {}: {already} before, {} now", worst.peer, worst.count))
        .seen(case.counted("TcpExtTCPSynRetrans"))
        .cause(
            "The SYNs are dropped on the way (a firewall, a wrong route, a host that is down) or by the peer's listener, \
             whose accept queue is full. A closed port would have answered with RST at once.",
        )
        .fix(
            "See how far they get: tcpdump -n 'tcp[tcpflags] & tcp-syn != 0' here and there, or nft's counters. If the \
             peer gets them and stays silent, look at its accept queue (estab doctor there).",
        )
        .dont("Fewer tcp_syn_retries only make the failure come sooner: give connect() a timeout in the application.")
        .source("RFC 9293 section 3.5; https://docs.kernel.org/networking/ip-sysctl.html (tcp_syn_retries)")
    })
}
