//! The host's own limits: which one was met, said once in a while and not for each connection.

use crate::sys;
use estab_engine::{Instant, Unreachable};
use rustix::io::Errno;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// One line per limit and this long; what happened in between is counted.
const EVERY: Duration = Duration::from_secs(5);

/// A limit of the host that stops a connection from being carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Limit {
    /// EMFILE: this process's descriptors.
    Descriptors,
    /// ENFILE: the system's descriptors.
    SystemDescriptors,
    /// EADDRNOTAVAIL: no local port is left for the destination.
    Ports,
    /// ENOBUFS, ENOMEM.
    Memory,
    /// ENOSPC: `fs.epoll.max_user_watches`.
    Watches,
}

impl Limit {
    /// The limit an error of a system call tells of, if it does.
    pub(crate) fn met(err: Errno) -> Option<Limit> {
        Some(match err {
            Errno::MFILE => Limit::Descriptors,
            Errno::NFILE => Limit::SystemDescriptors,
            Errno::ADDRNOTAVAIL => Limit::Ports,
            Errno::NOBUFS | Errno::NOMEM => Limit::Memory,
            Errno::NOSPC => Limit::Watches,
            _ => return None,
        })
    }

    fn describe(self, descriptors: u64) -> String {
        match self {
            Limit::Descriptors => {
                format!("the gateway's {descriptors} file descriptors are in use (RLIMIT_NOFILE, see ulimit -Hn)")
            }
            Limit::SystemDescriptors => "the host's file descriptors are in use (sysctl fs.file-max)".into(),
            Limit::Ports => {
                "the host has no local port left for the destination (sysctl net.ipv4.ip_local_port_range; \
                 see TIME-WAIT in ss -s)"
                    .into()
            }
            Limit::Memory => "the host's socket memory is in use (sysctl net.ipv4.tcp_mem, net.ipv4.udp_mem)".into(),
            Limit::Watches => "the user's epoll watches are in use (sysctl fs.epoll.max_user_watches)".into(),
        }
    }
}

/// Tells of limits, each at most once in [`EVERY`], whichever worker meets it.
pub(crate) struct Limits {
    descriptors: u64,
    /// Per limit: when it was last told of, and how often it was met since.
    told: Mutex<[(Option<Instant>, u64); 5]>,
}

impl Limits {
    /// Raises what the process may raise by itself.
    pub(crate) fn new() -> Limits {
        Limits {
            descriptors: sys::raise_descriptor_limit(),
            told: Mutex::new([(None, 0); 5]),
        }
    }

    pub(crate) fn tell(&self, now: Instant, limit: Limit, whom: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, missed) = &mut told[limit as usize];
        if last.is_some_and(|last| now.since(last) < EVERY) {
            *missed += 1;
            return;
        }
        let since = if *missed > 0 {
            format!(" ({missed} more like it since the last line)")
        } else {
            String::new()
        };
        *last = Some(now);
        *missed = 0;
        tracing::warn!("{whom} refused: {}{since}", limit.describe(self.descriptors));
    }
}

/// How the guest is told that the host can't reach a destination; `None`: not at all, as in a black hole.
pub(crate) enum Answer {
    /// RST: nobody listens, or the gateway has no room for the connection.
    Refuse,
    /// An ICMP error.
    Unreachable(Unreachable),
    /// Silence.
    Ignore,
}

impl Answer {
    /// What a failed connect or send of the host becomes.
    pub(crate) fn to(err: Errno) -> Answer {
        match err {
            Errno::HOSTUNREACH | Errno::HOSTDOWN => Answer::Unreachable(Unreachable::Host),
            // EINVAL and EAFNOSUPPORT: a family that the host has switched off.
            Errno::NETUNREACH | Errno::NETDOWN | Errno::AFNOSUPPORT | Errno::INVAL => {
                Answer::Unreachable(Unreachable::Network)
            }
            Errno::ACCESS | Errno::PERM => Answer::Unreachable(Unreachable::Prohibited),
            Errno::TIMEDOUT => Answer::Ignore,
            _ => Answer::Refuse,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_names_what_to_raise() {
        let limit = Limit::met(Errno::MFILE).expect("EMFILE is a limit");
        assert!(limit.describe(20_000).contains("20000 file descriptors"));
        let limit = Limit::met(Errno::ADDRNOTAVAIL).expect("EADDRNOTAVAIL is a limit");
        assert!(limit.describe(0).contains("net.ipv4.ip_local_port_range"));
        assert_eq!(Limit::met(Errno::CONNREFUSED), None);
    }
}
