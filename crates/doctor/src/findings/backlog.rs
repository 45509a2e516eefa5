//! The accept queue's size against the bursts that meet it: the application's backlog and somaxconn.

use super::{Case, who};
use crate::finding::{Confidence, Finding, Severity};
use crate::sample::Listener;

/// A queue that overflows although connections are accepted is too short for the bursts, and something bounds it.
pub(super) fn judge(case: Case<'_>) -> Vec<Finding> {
    small(case).into_iter().collect()
}

fn small(case: Case<'_>) -> Option<Finding> {
    let overflows = case.delta("TcpExtListenOverflows");
    let opened = case.delta("TcpPassiveOpens");
    let known = case.now.sockets.listeners.iter().filter(|l| l.backlog != u64::MAX);
    let (waited, others): (Vec<&Listener>, Vec<&Listener>) = known.partition(|listener| listener.queue > 0);
    // Nothing waits any more: the only listener it was, or any.
    let certain = !waited.is_empty() || others.len() == 1;
    let suspects = if waited.is_empty() { others } else { waited };
    let shortest = suspects.into_iter().min_by_key(|listener| listener.backlog)?;
    // More have come in between than a queue holds that nobody empties; else a larger one would only fill later.
    if overflows == 0 || opened <= shortest.backlog + 1 {
        return None;
    }
    let somaxconn = u64::try_from(case.now.int("net.core.somaxconn")?).ok()?;
    let backlog = shortest.backlog;
    let (bound, fix) = match backlog.cmp(&somaxconn) {
        std::cmp::Ordering::Equal => (
            format!(
                "the listener has just net.core.somaxconn ({somaxconn}): the application asked for that or for more, which \
                 the kernel cut down in silence and does not tell"
            ),
            "Raise net.core.somaxconn, and let the application listen() again with a backlog as large (restart or reload \
             it): running listeners keep theirs.",
        ),
        std::cmp::Ordering::Less => (
            format!(
                "below net.core.somaxconn ({somaxconn}): the application asked for just {backlog}, or listened while \
                 somaxconn was {backlog}; which one can't be told"
            ),
            "Restart the application: if Send-Q (estab ss --kernel -l) then stays, its own backlog is the limit (nginx: \
             listen … backlog=, 511 unless set; many programs have 128), and raising somaxconn alone does nothing.",
        ),
        std::cmp::Ordering::Greater => (
            format!(
                "above net.core.somaxconn ({somaxconn}), which was lowered since: the next listen() gets no more than that"
            ),
            "Raise net.core.somaxconn before the application restarts, and its backlog if bursts are larger still.",
        ),
    };
    let rate = case.rate("TcpPassiveOpens");
    let mut finding = Finding::new(
        "listen-backlog-capped",
        Severity::Notice,
        format!(
            "The backlog of {}, {}, {backlog}, is too short for its bursts",
            shortest.address,
            who(shortest.owners.first())
        ),
    )
    .confidence(if certain {
        Confidence::Likely
    } else {
        Confidence::Possible
    })
    .seen(format!("effective backlog (Send-Q) {backlog}: {bound}"))
    .seen(case.counted("TcpExtListenOverflows"))
    .seen(case.counted("TcpPassiveOpens"));
    if rate > 0.0 {
        finding = finding.seen(format!(
            "{rate:.0} connections/s: {} of them fit, the pause of {:.0} ms",
            backlog + 1,
            (backlog + 1) as f64 * 1_000.0 / rate
        ));
    }
    finding
        .cause(
            "The accept queue's limit is the smaller of listen()'s backlog and net.core.somaxconn at that moment. The \
             application does accept, but a burst, or a pause of its own, is longer than the queue.",
        )
        .fix(fix)
        .dont(
            "A huge backlog hides an application that is too slow: clients then wait in the queue until they give up.",
        )
        .since("5.4 for somaxconn's default of 4096 (before: 128)")
        .source("https://man7.org/linux/man-pages/man2/listen.2.html")
        .into()
}
