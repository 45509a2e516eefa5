//! Loss, peers that take nothing, resets, and segments too old.

use super::{Case, peers, total};
use crate::finding::{Confidence, Finding, Severity};
use estab_proto::State;

pub(super) fn judge(case: Case<'_>) -> Vec<Finding> {
    [loss(case), zero_window(case), resets(case), paws(case)]
        .into_iter()
        .flatten()
        .collect()
}

fn loss(case: Case<'_>) -> Option<Finding> {
    // SYNs and SYN-ACKs without an answer are another matter.
    let again = case
        .delta("TcpRetransSegs")
        .saturating_sub(case.delta("TcpExtTCPSynRetrans"));
    // OutSegs leaves out what is sent again (RFC 1213; __tcp_transmit_skb).
    let sent = case.delta("TcpOutSegs") + again;
    let percent = if sent > 0 {
        again as f64 * 100.0 / sent as f64
    } else {
        0.0
    };
    let severity = match percent {
        p if p >= 5.0 && again >= 50 => Severity::Warning,
        p if p >= 1.0 && again >= 20 => Severity::Notice,
        _ => return None,
    };
    Finding::new("retransmissions", severity, format!("{percent:.1} % of segments sent are repeats"))
        .seen(format!("{again} of {sent} segments in {:.0} s, SYNs left out", case.seconds()))
        .seen(case.counted("TcpExtTCPTimeouts"))
        .seen(case.counted("TcpExtTCPLostRetransmit"))
        .seen(format!("{} connections have a backed-off timer now", case.now.sockets.backed_off))
        .cause(
            "Segments or their ACKs are lost: a full queue on the way, a bad link, a path whose MTU is smaller than \
             believed. Timeouts (RTO) mean that not even duplicates came back; many of them point to a path that is \
             dead rather than busy.",
        )
        .fix("Find the path: estab ss --kernel -ti, and compare retrans and rtt by destination; then the interface's drops (ip -s link).")
        .dont("Lower tcp_retries2 gives up sooner; it does not lose less.")
        .source("RFC 6298; RFC 8985")
        .into()
}

fn zero_window(case: Case<'_>) -> Option<Finding> {
    let (now, before) = (&case.now.sockets.zero_window, &case.before.sockets.zero_window);
    let worst = now.first()?;
    let still = before.iter().any(|at| at.peer == worst.peer);
    (still && case.seconds() > 0.0).then(|| {
        Finding::new(
            "zero-window",
            Severity::Notice,
            format!("{} connections wait for peers whose window is zero", total(now)),
        )
        .seen(format!("by peer: {}", peers(now)))
        .cause(
            "The peer's application does not read, so its receive buffer is full and it lets us send nothing. The kernel \
             probes, ever more rarely, as long as the peer answers: such a connection may last for ever.",
        )
        .fix("Look at the peer: its Recv-Q is full. Here, a send timeout in the application or TCP_USER_TIMEOUT gives up on it.")
        .source("RFC 9293 section 3.8.6.1")
    })
}

fn resets(case: Case<'_>) -> Option<Finding> {
    let sent = case.delta("TcpOutRsts");
    let opened = case.delta("TcpActiveOpens") + case.delta("TcpPassiveOpens");
    let established = case.now.sockets.states.count(State::Established);
    let rate = case.rate("TcpOutRsts");
    (rate >= 10.0 && sent >= 50 && sent * 5 >= opened + established).then(|| {
        Finding::new("resets", Severity::Notice, format!("{rate:.0} resets are sent every second"))
            .confidence(Confidence::Likely)
            .seen(case.counted("TcpOutRsts"))
            .seen(case.counted("TcpEstabResets"))
            .seen(case.counted("TcpExtTCPAbortOnData"))
            .seen(case.counted("TcpExtTCPAbortOnClose"))
            .seen(format!("{opened} connections opened meanwhile"))
            .cause(
                "A reset answers a SYN to a port where nobody listens, ends a connection that was closed with data unread \
                 (AbortOnClose) or got data after close (AbortOnData), or answers a segment of a connection long gone.",
            )
            .fix("AbortOnClose: read to the end before close. Neither counter grows: see who knocks at which port (tcpdump 'tcp[tcpflags] & tcp-rst != 0').")
            .source("RFC 9293 section 3.10.7; https://docs.kernel.org/networking/snmp_counter.html")
    })
}

fn paws(case: Case<'_>) -> Option<Finding> {
    let names = [
        "TcpExtPAWSTimewait",
        "TcpExtPAWSPassive",
        "TcpExtPAWSActive",
        "TcpExtPAWSEstab",
    ];
    let seen: Vec<&str> = names.into_iter().filter(|name| case.delta(name) > 0).collect();
    let dropped: u64 = seen.iter().map(|name| case.delta(name)).sum();
    (dropped >= 5).then(|| {
        let mut finding = Finding::new(
            "paws-drops",
            Severity::Warning,
            format!("{dropped} segments were dropped because their timestamp was too old"),
        )
        .confidence(Confidence::Likely);
        for name in seen {
            finding = finding.seen(case.counted(name));
        }
        finding
            .cause(
                "Timestamps must not run backwards within a connection, nor from a TIME_WAIT to the SYN that follows it on \
                 the same ports (PAWS). Several hosts behind one NAT, or one host whose clock was reset, do just that: \
                 their SYNs are refused until the TIME_WAIT is gone.",
            )
            .fix(
                "Let the NAT have more ports and addresses, so that it reuses one later than after 60 s, or strip \
                 timestamps there. Let clients close first, so that the TIME_WAIT is theirs.",
            )
            .dont("Timestamps off here: without them, nothing protects long transfers from old segments, and RTTs are measured worse.")
            .since("4.10, timestamps start at a random offset for each pair of addresses (RFC 7323)")
            .source("RFC 7323 section 5")
    })
}
