//! TIME_WAIT: when it costs ports, and when it costs nothing.

use super::{Case, IP_SYSCTL, percent};
use crate::finding::{Confidence, Finding, Severity};
use crate::sample::{PortUse, Sample};
use estab_proto::State;

/// Seconds a TIME_WAIT lasts on Linux, whatever is set (TCP_TIMEWAIT_LEN).
const LASTS: f64 = 60.0;
/// Fewer TIME_WAITs than this are not worth a word.
const MANY: u64 = 1_000;

pub(super) fn judge(case: Case<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = ephemeral_ports(case).into_iter().collect();
    findings.extend(overflow(case));
    if findings.is_empty() {
        findings.extend(harmless(case));
    }
    findings
}

/// How many ports connect() may choose from: the range less what is reserved and what something listens on.
fn available(sample: &Sample) -> u64 {
    let range = sample.ints("net.ipv4.ip_local_port_range");
    let (low, high) = match range[..] {
        [low, high] => (low.max(1), high.min(65535)),
        _ => (32768, 60999),
    };
    let listening = |port: i64| {
        sample
            .sockets
            .listeners
            .iter()
            .any(|l| i64::from(l.address.port()) == port)
    };
    let reserved = reserved(sample);
    let free = |port: &i64| !reserved.iter().any(|(from, to)| (from..=to).contains(&port)) && !listening(*port);
    (low..=high).filter(free).count() as u64
}

fn reserved(sample: &Sample) -> Vec<(i64, i64)> {
    let text = sample
        .sysctls
        .get("net.ipv4.ip_local_reserved_ports")
        .map_or("", String::as_str);
    text.split(',')
        .filter_map(|part| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            Some((from.trim().parse().ok()?, to.trim().parse().ok()?))
        })
        .collect()
}

/// Whether a TIME_WAIT towards `at` keeps its port from a new connect (tcp_twsk_unique).
fn reusable(sample: &Sample, at: &PortUse) -> bool {
    let timestamps = sample.int("net.ipv4.tcp_timestamps").unwrap_or(1) != 0;
    let loopback = at.destination.ip().is_loopback() || at.source.is_loopback();
    timestamps
        && match sample.int("net.ipv4.tcp_tw_reuse").unwrap_or(2) {
            0 => false,
            1 => true,
            _ => loopback,
        }
}

fn ephemeral_ports(case: Case<'_>) -> Option<Finding> {
    let now = case.now;
    let available = available(now);
    let taken = |at: &PortUse| at.used - if reusable(now, at) { at.time_wait } else { 0 };
    let worst = now.sockets.ports.iter().max_by_key(|at| taken(at))?;
    let share = percent(taken(worst), available);
    let severity = match share {
        97.. => Severity::Critical,
        80.. => Severity::Warning,
        _ => return None,
    };
    let range = now
        .sysctls
        .get("net.ipv4.ip_local_port_range")
        .map_or("32768 60999", String::as_str);
    let also = now
        .sockets
        .ports
        .iter()
        .filter(|at| percent(taken(at), available) >= 80)
        .count()
        - 1;
    let mut finding = Finding::new(
        "ephemeral-ports",
        severity,
        format!(
            "{} of {available} local ports from {} to {} are in use ({share} %)",
            taken(worst),
            worst.source,
            worst.destination
        ),
    )
    .seen(format!(
        "{} in TIME_WAIT, {} not; ip_local_port_range is {}",
        worst.time_wait,
        worst.used - worst.time_wait,
        range.split_whitespace().collect::<Vec<_>>().join(" ")
    ))
    .cause(
        "A connection is its two addresses and two ports. Towards one destination and port, from one source address, \
         only the local port is left to differ, and each stays taken for 60 s after this side has closed first. When \
         none is left, connect() fails with EADDRNOTAVAIL, \"Cannot assign requested address\"; before that it gets \
         slow, searching.",
    )
    .dont(
        "Not tcp_fin_timeout: it does not shorten TIME_WAIT. Not tcp_tw_recycle: gone since Linux 4.12. Not a lower \
         tcp_max_tw_buckets, nor SO_LINGER 0: they drop the protection from old segments.",
    )
    .since("4.19 for tcp_tw_reuse 2, the default: over loopback only")
    .source(IP_SYSCTL);
    if also > 0 {
        finding = finding.seen(format!("{also} more destinations are as full"));
    }
    if worst.time_wait * 2 >= worst.used {
        let rate = case.rate("TcpExtTW");
        if rate > 0.0 {
            finding = finding.seen(format!(
                "{rate:.0} connections/s end in TIME_WAIT here, so {:.0} are to be expected (rate × 60 s)",
                rate * LASTS
            ));
        }
        finding
            .fix(
                "Keep connections open and reuse them: HTTP keep-alive, a pool (for nginx: keepalive in upstream, \
             proxy_http_version 1.1). Or let the server close first. Else sysctl net.ipv4.tcp_tw_reuse=1 on this side: \
             a new connect may take over a TIME_WAIT older than 1 s, if both sides use timestamps; it does nothing for \
             incoming connections. More destinations or source addresses, or a wider ip_local_port_range, only move \
             the limit.",
            )
            .into()
    } else {
        finding
            .fix(
                "These connections are alive: look for a pool without a bound, or a leak (estab states --by process). \
                 More source or destination addresses, or a wider ip_local_port_range, move the limit.",
            )
            .into()
    }
}

fn overflow(case: Case<'_>) -> Option<Finding> {
    let name = "TcpExtTCPTimeWaitOverflow";
    let limit = case.now.int("net.ipv4.tcp_max_tw_buckets");
    (case.delta(name) > 0).then(|| {
        let mut finding = Finding::new(
            "time-wait-overflow",
            Severity::Warning,
            "TIME_WAITs are destroyed at once because their table is full",
        )
        .seen(case.counted(name))
        .cause(
            "Past tcp_max_tw_buckets the kernel closes without TIME_WAIT (tcp_time_wait). A late segment can then meet a \
             new connection with the same ports, and a peer that repeats its FIN is answered by RST. Orphaned \
             FIN_WAIT_2s count against the limit too.",
        )
        .fix("Raise net.ipv4.tcp_max_tw_buckets back to its default or above; each costs about 256 bytes.")
        .dont("Lowering it is advised to \"fix\" TIME_WAIT; it only drops the protection.")
        .source("https://elixir.bootlin.com/linux/v6.18/source/net/ipv4/tcp_minisocks.c");
        if let Some(limit) = limit {
            finding = finding.seen(format!("tcp_max_tw_buckets is {limit}"));
        }
        finding
    })
}

fn harmless(case: Case<'_>) -> Option<Finding> {
    let sockets = &case.now.sockets;
    let count = sockets.states.count(State::TimeWait);
    if count < MANY {
        return None;
    }
    let outgoing = sockets.time_wait_outgoing.min(count);
    let mut finding = Finding::new(
        "time-wait",
        Severity::Info,
        format!("{count} TIME_WAITs, and they do no harm"),
    )
    .confidence(Confidence::Likely)
    .seen(format!(
        "{} of connections accepted here, {outgoing} of connections opened from here; about {} KiB of memory",
        count - outgoing,
        count / 4
    ))
    .cause(
        "The side that closes first keeps a TIME_WAIT for 60 s, so that late segments and a repeated FIN find their \
         match. It has no process and no descriptor. On accepted connections it takes no port; on opened ones it \
         does, and no destination is near its limit now.",
    )
    .fix("Nothing needs to be done. Fewer, longer connections (keep-alive) would save the handshakes too.")
    .dont("Not tcp_tw_recycle (gone since 4.12), tcp_fin_timeout (not for TIME_WAIT) or a lower tcp_max_tw_buckets.")
    .source("RFC 9293 section 3.6.1; https://docs.kernel.org/networking/ip-sysctl.html");
    let rate = case.rate("TcpExtTW");
    if rate > 0.0 {
        finding = finding.seen(format!(
            "{rate:.0} closes/s × 60 s = {:.0} are to be expected",
            rate * LASTS
        ));
    }
    if let Some(busiest) = sockets.ports.first().filter(|at| at.time_wait > 0) {
        finding = finding.seen(format!(
            "busiest: {} of {} ports from {} to {}",
            busiest.used,
            available(case.now),
            busiest.source,
            busiest.destination
        ));
    }
    if sockets.fin_wait2_entries > 0 {
        finding = finding.seen(format!(
            "sockstat's tw also counts {} orphaned FIN_WAIT_2s",
            sockets.fin_wait2_entries
        ));
    }
    Some(finding)
}
