//! What a client remembers of its servers: cookie and MSS, and whether the experimental option is worth a try (Linux:
//! `tcp_fastopen_cache_get`, `tcp_fastopen_cache_set`); and the suspicion that some box on the way swallows SYNs with
//! data, which turns Fast Open off for a while (RFC 7413 §7.1 as Linux has it: `tcp_fastopen_active_disable`).

use crate::Instant;
use crate::mib::Mib;
use crate::rng::{Keyed, Rng};
use crate::sysctl::Sysctls;
use alloc::collections::VecDeque;
use core::net::IpAddr;
use core::time::Duration;
use estab_proto::Counter;
use estab_wire::tcp::FastOpen;
use hashbrown::HashMap;

/// Pairs of addresses remembered; the oldest goes first.
const MAX_ENTRIES: usize = 1024;

/// What is known of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The MSS its SYN-ACK announced; 0: not known.
    pub(crate) mss: u16,
    /// Its last cookie.
    pub(crate) cookie: Option<FastOpen>,
    /// It did not answer a request: the experimental form's turn; then for ever the standard one's.
    try_experimental: TryExperimental,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TryExperimental {
    /// Nothing speaks for it.
    #[default]
    No,
    /// The standard request was not answered.
    Now,
    /// Nor was the experimental one.
    Failed,
}

impl Entry {
    /// A request should have the experimental form.
    pub(crate) fn asks_experimental(&self) -> bool {
        self.cookie.is_none() && self.try_experimental == TryExperimental::Now
    }
}

/// How a connection that used Fast Open ended.
pub(crate) struct Outcome {
    /// Data came from the peer.
    pub(crate) received: bool,
    /// Nothing came but a FIN out of order: what was before it is lost.
    pub(crate) fin_alone: bool,
    /// The connection was to find out whether the black hole is still there.
    pub(crate) probing: bool,
    /// Over the loopback nothing is learned.
    pub(crate) loopback: bool,
}

/// A client's memory.
#[derive(Clone)]
pub(crate) struct Client {
    entries: HashMap<(IpAddr, IpAddr), Entry, Keyed>,
    order: VecDeque<(IpAddr, IpAddr)>,
    /// How often in a row black holes were suspected (Linux: `tfo_active_disable_times`), and when last.
    blackholes: u32,
    blackhole_at: Instant,
}

impl Client {
    pub(crate) fn new(rng: &Rng) -> Client {
        Client {
            entries: HashMap::with_hasher(rng.keyed()),
            order: VecDeque::new(),
            blackholes: 0,
            blackhole_at: Instant::ZERO,
        }
    }

    /// What is known of the server at `to`, as seen from `from`.
    pub(crate) fn get(&self, from: IpAddr, to: IpAddr) -> Entry {
        self.entries.get(&(from, to)).copied().unwrap_or_default()
    }

    /// Notes a SYN-ACK (Linux: `tcp_fastopen_cache_set`).
    pub(crate) fn set(&mut self, from: IpAddr, to: IpAddr, mss: u16, cookie: Option<FastOpen>, next: TryExperimental) {
        let key = (from, to);
        if !self.entries.contains_key(&key) {
            if self.entries.len() >= MAX_ENTRIES
                && let Some(oldest) = self.order.pop_front()
            {
                self.entries.remove(&oldest);
            }
            self.order.push_back(key);
        }
        let entry = self.entries.entry(key).or_default();
        if mss > 0 {
            entry.mss = mss;
        }
        if cookie.is_some() {
            entry.cookie = cookie;
        } else if entry.cookie.is_none() {
            entry.try_experimental = entry.try_experimental.max(next);
        }
    }

    /// Forgets all servers (`ip tcp_metrics flush`).
    pub(crate) fn flush(&mut self) {
        self.entries.clear();
        self.order.clear();
    }

    /// Fast Open rests because of a black hole; the second value: it does no more, but the next connection must show that
    /// it works (Linux: `tcp_fastopen_active_should_disable`).
    pub(super) fn is_off(&self, now: Instant, sysctl: &Sysctls) -> (bool, bool) {
        let seconds = sysctl.tcp_fastopen_blackhole_timeout_sec;
        if seconds == 0 || self.blackholes == 0 {
            return (false, false);
        }
        let rest = Duration::from_secs(u64::from(seconds) << (self.blackholes - 1).min(6));
        let off = now < self.blackhole_at + rest;
        (off, !off)
    }

    /// A black hole is suspected: Fast Open rests, twice as long each time.
    pub(super) fn suspect(&mut self, now: Instant, sysctl: &Sysctls, mib: &mut Mib) {
        if sysctl.tcp_fastopen_blackhole_timeout_sec > 0 {
            self.blackhole_at = now;
            self.blackholes = self.blackholes.saturating_add(1);
            mib.inc(Counter::TcpExtTCPFastOpenBlackhole);
        }
    }

    /// What the end of a connection that used Fast Open says (Linux: `tcp_fastopen_active_disable_ofo_check`).
    pub(super) fn judge(&mut self, now: Instant, sysctl: &Sysctls, mib: &mut Mib, outcome: &Outcome) {
        if !outcome.received {
            if outcome.fin_alone {
                self.suspect(now, sysctl, mib);
            }
        } else if outcome.probing && !outcome.loopback {
            self.blackholes = 0;
        }
    }
}
