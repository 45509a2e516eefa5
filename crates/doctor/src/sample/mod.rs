//! One look at a stack: what the rules judge. Two of them, some seconds apart, make a diagnosis, for counters since
//! boot mislead. A sample can be saved and judged elsewhere.

mod summary;

pub use summary::{Ages, Builder, CloseWait, Idle, Listener, Owner, PeerCount, PortUse, Summary};

use crate::kernel::counters::{SockStat, counters};
use crate::kernel::owners::{Owners, Process};
use crate::kernel::{self, Ask};
use crate::socket::Socket;
use estab_proto::State;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The version of a sample's and a diagnosis's JSON; it grows when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// Whose sample it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    /// The kernel's sockets, of one network namespace.
    Kernel,
    /// An estab stack's.
    Stack,
}

/// One look at a stack.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// [`SCHEMA`]
    pub schema: u32,
    /// Whose it is.
    pub of: Of,
    /// Seconds, on a clock that only runs forward.
    pub at: f64,
    /// The kernel's version; empty for an estab stack.
    pub release: String,
    /// A network namespace other than the host's first.
    pub namespace: bool,
    /// The machine's memory in bytes.
    pub memory: Option<u64>,
    /// Its sockets.
    pub sockets: Summary,
    /// By nstat's names.
    pub counters: BTreeMap<String, u64>,
    /// The settings that rules ask for, by name; those that are absent are absent.
    pub sysctls: BTreeMap<String, String>,
    /// /proc/net/sockstat.
    pub sockstat: Option<SockStat>,
    /// Processes that hold sockets and many descriptors.
    pub processes: Vec<Process>,
    /// What could not be seen, and why: whole sentences.
    pub unseen: Vec<String>,
}

/// The settings that rules ask for.
#[rustfmt::skip]
const ASKED: &[&str] = &[
    "net.core.somaxconn",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_abort_on_overflow",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_max_orphans",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_max_tw_buckets",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_synack_retries",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_timestamps",
    "net.ipv4.tcp_tw_reuse",
    "net.netfilter.nf_conntrack_count",
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait",
    "net.netfilter.nf_conntrack_tcp_timeout_established",
    "net.netfilter.nf_conntrack_tcp_timeout_time_wait",
];

impl Sample {
    /// Looks at the running kernel; `proc` is "/proc".
    pub fn of_kernel(proc: &Path) -> Sample {
        let read = |file: &str| fs::read_to_string(proc.join(file)).unwrap_or_default();
        let mut sysctls = BTreeMap::new();
        for name in ASKED {
            if let Ok(value) = fs::read_to_string(proc.join("sys").join(name.replace('.', "/"))) {
                sysctls.insert((*name).to_owned(), value.trim().to_owned());
            }
        }
        let mut unseen = Vec::new();
        let owners = Owners::read(proc);
        if owners.hidden > 0 {
            unseen.push(format!(
                "which sockets {} processes of other users hold: that needs root (or CAP_SYS_PTRACE)",
                owners.hidden
            ));
        }
        let mut builder = Builder::new(port_range(&sysctls), Some(&owners));
        match look(&mut builder) {
            Err(err) => unseen.push(err.to_string()),
            Ok(Some(err)) => unseen.push(format!(
                "{err}; /proc/net was read instead, which has no backlogs, no ages and no windows"
            )),
            Ok(None) => {}
        }
        let in_namespace = !proc.join("sys/net/ipv4/tcp_mem").exists();
        if in_namespace {
            unseen.push(
                "tcp_mem and tcp_max_orphans: a network namespace does not show them; ask on the host".to_owned(),
            );
        }
        let uptime = read("uptime");
        let memory = read("meminfo").lines().find_map(|line| {
            let kilobytes = line.strip_prefix("MemTotal:")?.split_whitespace().next()?;
            kilobytes.parse::<u64>().ok()?.checked_mul(1024)
        });
        // Rules about processes ask how many descriptors are left.
        let processes = owners
            .processes()
            .iter()
            .filter(|process| process.fds >= 64)
            .cloned()
            .collect();
        Sample {
            schema: SCHEMA,
            of: Of::Kernel,
            at: uptime
                .split_whitespace()
                .next()
                .and_then(|text| text.parse().ok())
                .unwrap_or(0.0),
            release: read("sys/kernel/osrelease").trim().to_owned(),
            namespace: in_namespace,
            memory,
            sockets: builder.finish(),
            counters: counters(proc),
            sysctls,
            sockstat: SockStat::read(proc),
            processes,
            unseen,
        }
    }

    /// An estab stack, as its control socket tells of it. `sysctl` gives a setting's value, `at` is in seconds.
    pub fn of_stack(
        at: f64,
        sockets: &[Socket],
        counters: BTreeMap<String, u64>,
        sysctl: impl Fn(&str) -> Option<String>,
    ) -> Sample {
        let sysctls: BTreeMap<String, String> = ASKED
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), sysctl(name)?)))
            .collect();
        let mut builder = Builder::new(port_range(&sysctls), None);
        sockets.iter().for_each(|socket| builder.listener(socket));
        for socket in sockets.iter().filter(|socket| socket.diag.state != State::Listen) {
            builder.add(socket);
        }
        Sample {
            schema: SCHEMA,
            of: Of::Stack,
            at,
            release: String::new(),
            namespace: false,
            memory: None,
            sockets: builder.finish(),
            counters,
            sysctls,
            sockstat: None,
            processes: Vec::new(),
            unseen: Vec::new(),
        }
    }

    /// A setting's first number.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.ints(name).first().copied()
    }

    /// A setting's numbers.
    pub fn ints(&self, name: &str) -> Vec<i64> {
        let value = self.sysctls.get(name).map_or("", String::as_str);
        value.split_whitespace().filter_map(|word| word.parse().ok()).collect()
    }

    /// A counter, 0 if it isn't there.
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }
}

/// `ip_local_port_range`, or Linux's default.
fn port_range(sysctls: &BTreeMap<String, String>) -> (u16, u16) {
    let value = sysctls.get("net.ipv4.ip_local_port_range").map_or("", String::as_str);
    let mut numbers = value.split_whitespace().filter_map(|word| word.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(low), Some(high)) => (low, high),
        _ => (32768, 60999),
    }
}

/// Two dumps: which ports listen must be known before the rest is told apart.
fn look(builder: &mut Builder<'_>) -> Result<Option<kernel::Unseen>, kernel::Unseen> {
    let listen = 1 << State::Listen as u32;
    let listeners = Ask {
        states: listen,
        ..Ask::TCP
    };
    let looked = kernel::sockets(listeners, |socket| builder.listener(&socket))?;
    if looked.without_netlink.is_some() {
        builder.forget_backlogs();
    }
    let rest = Ask {
        states: kernel::message::ALL_STATES & !listen,
        info: true,
        ..Ask::TCP
    };
    kernel::sockets(rest, |socket| builder.add(&socket))?;
    Ok(looked.without_netlink)
}
