//! TCP's memory against its bounds.

use super::{Case, IP_SYSCTL, percent};
use crate::finding::{Finding, Severity};

const PAGE: u64 = 4096;

pub(super) fn judge(case: Case<'_>) -> Vec<Finding> {
    [bound(case), pressed(case)].into_iter().flatten().collect()
}

fn bound(case: Case<'_>) -> Option<Finding> {
    let &[_, pressure, most] = case.now.ints("net.ipv4.tcp_mem").as_slice() else {
        return None;
    };
    let (pressure, most) = (u64::try_from(pressure).ok()?, u64::try_from(most).ok()?);
    let used = case.now.sockstat?.mem;
    let severity = match used {
        n if n >= most / 100 * 95 => Severity::Critical,
        n if n >= pressure => Severity::Warning,
        _ => return None,
    };
    Finding::new(
        "tcp-mem",
        severity,
        format!("TCP's buffers take {} MiB, {} % of their bound", (used * PAGE) >> 20, percent(used, most)),
    )
    .seen(format!("{used} pages of 4 KiB; tcp_mem: pressure from {pressure}, at most {most}"))
    .cause(
        "Above tcp_mem's second number buffers stop growing and windows shrink; at the third, segments are dropped and \
         orphans are reset.",
    )
    .fix("Find who holds it: estab ss --kernel -tm, and look for large Recv-Q (an application that does not read) and Send-Q (a peer that does not).")
    .dont("tcp_mem counts pages, not bytes, and is for all sockets of the host together: the kernel's own value is a share of memory.")
    .source(IP_SYSCTL)
    .into()
}

fn pressed(case: Case<'_>) -> Option<Finding> {
    let names = [
        "TcpExtTCPMemoryPressures",
        "TcpExtTCPRcvQDrop",
        "TcpExtTCPAbortOnMemory",
        "TcpExtRcvPruned",
        "TcpExtPFMemallocDrop",
    ];
    let seen: Vec<&str> = names.into_iter().filter(|name| case.delta(name) > 0).collect();
    (!seen.is_empty()).then(|| {
        let finding = Finding::new("memory-pressure", Severity::Warning, "Segments or connections were lost for want of memory");
        let finding = seen.iter().fold(finding, |finding, name| finding.seen(case.counted(name)));
        finding
            .cause("A receive buffer or TCP as a whole has met its bound, so what came was dropped and must be sent again.")
            .fix("RcvPruned, RcvQDrop: the application reads too slowly, or net.ipv4.tcp_rmem's third number is too small for its rate. MemoryPressures: see tcp_mem.")
            .source("https://docs.kernel.org/networking/snmp_counter.html")
    })
}
