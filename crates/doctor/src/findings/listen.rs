//! Listeners: an application that does not accept told from a flood of SYNs.

use super::{Case, IP_SYSCTL, percent, who};
use crate::finding::{Confidence, Finding, Severity};
use crate::sample::Listener;

/// So few half-open connections are no flood.
const FEW: u64 = 64;

pub(super) fn judge(case: Case<'_>) -> Vec<Finding> {
    let overflowing = overflow(case);
    let mut findings: Vec<Finding> = overflowing.into_iter().collect();
    findings.extend(
        case.now
            .sockets
            .listeners
            .iter()
            .filter_map(|listener| flood(case, listener)),
    );
    findings.extend(other_drops(case));
    findings
}

fn full(listener: &Listener) -> bool {
    // It holds backlog + 1 (sk_acceptq_is_full).
    listener.queue > listener.backlog
}

fn named(listener: &Listener) -> String {
    format!("{}, {}", listener.address, who(listener.owners.first()))
}

fn overflow(case: Case<'_>) -> Option<Finding> {
    let listeners = &case.now.sockets.listeners;
    let mut worst: Vec<&Listener> = listeners.iter().filter(|listener| full(listener)).collect();
    let overflows = case.delta("TcpExtListenOverflows");
    let reset = case.now.int("net.ipv4.tcp_abort_on_overflow").unwrap_or(0) != 0;
    let title = match worst[..] {
        [] if overflows == 0 => return None,
        [] => "A listener's accept queue has overflowed, and is not full now".to_owned(),
        [one] => format!("The accept queue of {} is full", named(one)),
        [one, ..] => format!(
            "The accept queues of {} and {} more are full",
            named(one),
            worst.len() - 1
        ),
    };
    let stalled = worst.iter().any(|listener| {
        let before = case
            .before
            .sockets
            .listeners
            .iter()
            .find(|l| l.address == listener.address);
        case.seconds() > 0.0 && before.is_some_and(full)
    });
    let severity = if overflows > 0 && !worst.is_empty() {
        Severity::Critical
    } else {
        Severity::Warning
    };
    let mut finding = Finding::new("accept-queue", severity, title).seen(case.counted("TcpExtListenOverflows"));
    if worst.is_empty() {
        worst = listeners.iter().filter(|listener| listener.queue > 0).take(3).collect();
        finding = finding.confidence(Confidence::Likely);
    }
    let somaxconn = case
        .now
        .int("net.core.somaxconn")
        .and_then(|n| u64::try_from(n).ok())
        .unwrap_or(4096);
    for listener in worst.iter().take(5) {
        let bound = match listener.backlog == somaxconn {
            true => format!("net.core.somaxconn ({somaxconn}), or the application's own"),
            false => format!("the application's own listen() backlog; net.core.somaxconn is {somaxconn}"),
        };
        finding = finding.seen(format!(
            "{}: {} wait (Recv-Q), backlog {} (Send-Q) and one more fits: bound by {bound}",
            named(listener),
            listener.queue,
            listener.backlog
        ));
    }
    finding = finding.cause(format!(
        "The application accepts more slowly than connections come{}. With a full queue the kernel drops the handshake's \
         last ACK and every new SYN, before any SYN cookie{}: clients hang in SYN_SENT and retry after 1 s, or believe \
         they are connected and wait.",
        if stalled { "; its queue was full in both samples, so it has probably stopped accepting" } else { "" },
        if reset { " (tcp_abort_on_overflow 1 resets them)" } else { "" }
    ));
    finding
        .fix(
            "See why the application does not accept: all threads busy, EMFILE, a lock (strace -p, a thread dump). If it \
             only lags in bursts, give listen() a larger backlog and raise net.core.somaxconn to match; running \
             listeners keep theirs until they listen again.",
        )
        .dont(
            "Not tcp_max_syn_backlog: it bounds half-open connections, and only without SYN cookies. Not \
             tcp_abort_on_overflow: it turns a delay into failures.",
        )
        .since("5.4 for somaxconn's default of 4096 (before: 128)")
        .source("https://elixir.bootlin.com/linux/v6.18/source/net/ipv4/tcp_input.c (tcp_conn_request)")
        .into()
}

fn flood(case: Case<'_>, listener: &Listener) -> Option<Finding> {
    // A full accept queue makes SYN_RECVs by itself: their ACKs are dropped.
    let crowded = listener.half_open >= FEW.max(listener.backlog.min(1024) / 2);
    if full(listener) || !crowded || percent(listener.unanswered, listener.half_open) < 30 {
        return flood_by_counters(case, listener);
    }
    Some(flood_finding(case, listener, Confidence::Likely))
}

/// With cookies nothing is kept of a SYN past the queue's limit: only the counters tell.
fn flood_by_counters(case: Case<'_>, listener: &Listener) -> Option<Finding> {
    let sent = case.delta("TcpExtSyncookiesSent");
    let returned = case.delta("TcpExtSyncookiesRecv");
    let dropped = case.delta("TcpExtTCPReqQFullDrop");
    let busiest = case.now.sockets.listeners.iter().max_by_key(|l| l.half_open)?;
    let this = busiest.address == listener.address && !full(listener);
    let unanswered = sent >= FEW && percent(returned, sent) < 50;
    (this && (unanswered || dropped >= FEW)).then(|| flood_finding(case, listener, Confidence::Likely))
}

fn flood_finding(case: Case<'_>, listener: &Listener, confidence: Confidence) -> Finding {
    let dropped = case.delta("TcpExtTCPReqQFullDrop");
    let cookies = case.delta("TcpExtSyncookiesSent");
    let severity = if dropped > 0 {
        Severity::Critical
    } else {
        Severity::Warning
    };
    let spread = listener.sources * 2 >= listener.half_open;
    let examples: Vec<String> = listener.examples.iter().take(4).map(ToString::to_string).collect();
    let mut finding = Finding::new(
        "syn-flood",
        severity,
        format!("{} gets SYNs whose handshakes are never finished", named(listener)),
    )
    .confidence(confidence)
    .seen(format!(
        "{} in SYN_RECV from {} addresses ({}); {} had their SYN-ACK repeated",
        listener.half_open,
        listener.sources,
        examples.join(", "),
        listener.unanswered
    ))
    .seen(format!(
        "accept queue: {} of {}, so the application keeps up",
        listener.queue, listener.backlog
    ))
    .seen(case.counted("TcpExtSyncookiesSent"))
    .seen(case.counted("TcpExtSyncookiesRecv"));
    if dropped > 0 {
        finding = finding.seen(case.counted("TcpExtTCPReqQFullDrop"));
    }
    let from = if spread {
        "from addresses that mostly differ, probably forged"
    } else {
        "from few addresses: broken clients, a load balancer's probes, or SYN-ACKs that a firewall or route loses"
    };
    finding
        .cause(format!(
            "SYNs come {from}, and the ACK of the SYN-ACK does not. Each holds a place in the SYN queue (the listen \
             backlog) until its SYN-ACK was sent {} more times.",
            case.now.int("net.ipv4.tcp_synack_retries").unwrap_or(5)
        ))
        .fix(if cookies > 0 {
            "SYN cookies are answering, so real clients still get in. If the addresses are few, filter them (nft, ct \
             state, or upstream); if they are many, ask your provider. nft's synproxy takes the load off the listener."
        } else {
            "Keep net.ipv4.tcp_syncookies at 1: past the queue's limit the kernel then answers without keeping anything. \
             If the addresses are few, see whether the SYN-ACKs reach them (tcpdump on both sides) or filter them."
        })
        .dont(
            "Not tcp_syncookies 2 for good: cookies lose options where timestamps are off. Not tcp_synack_retries 0: one \
             lost SYN-ACK then loses the client.",
        )
        .source("RFC 4987; https://docs.kernel.org/networking/ip-sysctl.html")
}

fn other_drops(case: Case<'_>) -> Option<Finding> {
    let (drops, overflows) = (case.delta("TcpExtListenDrops"), case.delta("TcpExtListenOverflows"));
    let full = case.delta("TcpExtTCPReqQFullDrop");
    let other = drops.saturating_sub(overflows).saturating_sub(full);
    (other >= 10).then(|| {
        Finding::new(
            "listen-drops",
            Severity::Notice,
            "Connections are dropped at a listener though no accept queue overflows",
        )
        .confidence(Confidence::Likely)
        .seen(case.counted("TcpExtListenDrops"))
        .seen(case.counted("TcpExtListenOverflows"))
        .seen(case.counted("TcpExtTCPReqQFullDrop"))
        .cause(
            "ListenDrops counts every SYN and final ACK that a listener drops: a full accept queue, a full SYN queue, \
                 without SYN cookies also the last quarter of tcp_max_syn_backlog, kept for known peers, and memory that is short, a route that fails, and a security module that says no.",
        )
        .fix("See which: dropwatch, or the tracepoint skb:kfree_skb with its reason; memory in /proc/net/sockstat.")
        .source(IP_SYSCTL)
    })
}
