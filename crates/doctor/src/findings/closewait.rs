//! CLOSE_WAIT: the peer has closed and the application here has not. And the descriptors that such a leak eats.

use super::{Case, percent, span, who};
use crate::finding::{Confidence, Finding, Severity};
use crate::kernel::owners::Process;
use crate::sample::CloseWait;

/// A healthy application closes within milliseconds; as many as this, for a second or more, are no chance.
const SEVERAL: u64 = 10;

pub(super) fn judge(case: Case<'_>) -> Vec<Finding> {
    let leaks = case.now.sockets.close_wait.iter().filter_map(|group| leak(case, group));
    leaks
        .chain(
            case.now
                .processes
                .iter()
                .filter_map(|process| descriptors(case, process)),
        )
        .collect()
}

fn leak(case: Case<'_>, group: &CloseWait) -> Option<Finding> {
    let [second, ten, minute, _] = group.ages;
    let same = |other: &&CloseWait| other.owner.as_ref().map(|o| o.pid) == group.owner.as_ref().map(|o| o.pid);
    let before = case
        .before
        .sockets
        .close_wait
        .iter()
        .find(same)
        .map_or(0, |group| group.count);
    let growth = group.count.saturating_sub(before);
    let grows = growth > 0 && case.seconds() > 0.0;
    let severity = match () {
        () if ten >= SEVERAL || (second >= SEVERAL && grows) => Severity::Warning,
        () if minute > 0 || second >= SEVERAL => Severity::Notice,
        () => return None,
    };
    let owner = who(group.owner.as_ref());
    let name = group
        .owner
        .as_ref()
        .map_or("the application", |owner| owner.name.as_str());
    let read = group.end_read * 2 >= group.count;
    let mut finding = Finding::new(
        "close-wait-leak",
        severity,
        format!("{owner} holds {} connections that their peers have closed", group.count),
    )
    .confidence(if read || minute > 0 {
        Confidence::Certain
    } else {
        Confidence::Likely
    })
    .seen(format!(
        "Recv-Q: {} with the end read (0), {} with only the FIN unread (1), {} with {} bytes unread",
        group.end_read, group.fin_unread, group.data_unread, group.bytes_unread
    ))
    .seen(format!(
        "silent for at least 1 s: {second}, 10 s: {ten}, 1 min: {minute}; the longest {}",
        span(group.oldest_ms)
    ))
    .seen(format!(
        "local ports: {}",
        group
            .ports
            .iter()
            .map(|(port, n)| format!("{port} ({n})"))
            .collect::<Vec<_>>()
            .join(", ")
    ));
    if !group.fds.is_empty() {
        let fds: Vec<String> = group.fds.iter().map(u32::to_string).collect();
        let more = if group.count > group.fds.len() as u64 {
            ", …"
        } else {
            ""
        };
        finding = finding.seen(format!("file descriptors: {}{more}", fds.join(", ")));
    }
    if case.seconds() > 0.0 {
        finding = finding.seen(format!(
            "{before} before, {} now: {growth} more in {:.0} s",
            group.count,
            case.seconds()
        ));
    }
    let (cause, fix) = if read {
        (
            format!(
                "{name} has read the end of the stream (read returned 0) and has not called close(). The kernel waits for \
                 that without limit: no timer ends a CLOSE_WAIT."
            ),
            format!(
                "In {name}, close the connection when read returns 0, on every path, errors too. Restarting it frees \
                 them for now."
            ),
        )
    } else {
        (
            format!(
                "{name} does not read these connections, so it has not seen that their peers closed: its threads are \
                 busy or stuck, or it has forgotten the descriptors. No timer ends a CLOSE_WAIT."
            ),
            format!(
                "See what {name} waits for (gdb, a thread dump, strace -p); a stuck backend or a full pool is usual. \
                 Restarting it frees them for now."
            ),
        )
    };
    finding
        .cause(cause)
        .fix(fix)
        .dont(
            "No sysctl helps: tcp_fin_timeout and tcp_tw_* are about other states, and keepalive works only where the \
             application asked for it.",
        )
        .source("RFC 9293 section 3.6; https://man7.org/linux/man-pages/man2/close.2.html")
        .into()
}

fn descriptors(case: Case<'_>, process: &Process) -> Option<Finding> {
    let limit = process.fd_limit?;
    let share = percent(process.fds, limit);
    let before = case.before.processes.iter().find(|other| other.pid == process.pid);
    let growth = before.map_or(0, |other| process.fds.saturating_sub(other.fds));
    let seconds = case.seconds();
    let rate = if seconds > 0.0 { growth as f64 / seconds } else { 0.0 };
    let left = limit.saturating_sub(process.fds);
    let time_left = (rate > 0.0).then(|| left as f64 / rate);
    let soon = time_left.is_some_and(|seconds| seconds < 600.0) && share >= 50;
    let severity = match share {
        95.. => Severity::Critical,
        80.. => Severity::Warning,
        _ if soon => Severity::Warning,
        _ => return None,
    };
    let mut finding = Finding::new(
        "fd-limit",
        severity,
        format!(
            "{} (pid {}) has {} of {limit} file descriptors open ({share} %)",
            process.name, process.pid, process.fds
        ),
    )
    .cause(
        "Past RLIMIT_NOFILE accept(), socket() and open() fail with EMFILE, \"Too many open files\"; an accept loop that \
         retries then spins, and its queue overflows.",
    )
    .fix(
        "If connections leak (see close-wait-leak), close them. If the load is real, raise the limit: LimitNOFILE= in \
         its systemd unit, or prlimit --nofile for the running process.",
    )
    .dont("fs.file-max is the whole machine's limit, and hardly ever the one that is met.")
    .source("https://man7.org/linux/man-pages/man2/getrlimit.2.html");
    if let Some(seconds) = time_left {
        finding = finding.seen(format!(
            "{growth} more in {:.0} s: at this rate the limit is met in {}",
            case.seconds(),
            span((seconds * 1_000.0) as u64)
        ));
    }
    Some(finding)
}
