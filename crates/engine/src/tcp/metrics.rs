//! What is remembered of hosts, and of the paths to them, from one connection to the next: RTT, slow start threshold, reordering
//! (Linux: `tcp_update_metrics`, `tcp_init_metrics` of net/ipv4/tcp_metrics.c); who has proved to exist; and, for
//! `tcp_tw_recycle`, whose timestamps went how far.

use crate::rng::{Keyed, Rng};
use core::net::IpAddr;
use estab_proto::SeqNum;
use hashbrown::HashTable;

/// Hosts remembered; an arbitrary one makes way.
const MAX_HOSTS: usize = 4096;
/// TCP_PAWS_MSL: how long a host's timestamp counts for `tcp_tw_recycle`, in milliseconds.
const PAWS_MSL_MS: u32 = 60_000;
/// TCP_PAWS_WINDOW: how much older a timestamp may be.
const PAWS_WINDOW: i32 = 1;

/// What is known of a host and the path to it; 0: nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Path {
    /// Smoothed RTT in microseconds, times 8.
    pub(crate) srtt8: u32,
    pub(crate) ssthresh: u32,
    pub(crate) reordering: u32,
    /// A connection that was open ended after a round trip was measured (Linux: `tcp_peer_is_proven`).
    pub(crate) proven: bool,
    /// The host's last timestamp, and when it came.
    ts: Option<(u32, u32)>,
}

impl Path {
    /// For `tcp_tw_recycle`: a connection's last timestamp (Linux before 4.12: `tcp_remember_stamp`).
    pub(crate) fn remember_timestamp(&mut self, ts: u32, stamp: u32) {
        if self.ts.is_none_or(|(old, _)| !SeqNum(old).after(SeqNum(ts))) {
            self.ts = Some((ts, stamp));
        }
    }

    /// `tcp_tw_recycle` takes a SYN with timestamp `ts` for an old one: the host, or another one behind the same NAT, was
    /// further within the last minute (Linux before 4.12: `tcp_peer_is_proven` with PAWS).
    pub(crate) fn recycle_rejects(&self, now_ms: u32, ts: u32) -> bool {
        self.ts.is_some_and(|(last, stamp)| {
            now_ms.wrapping_sub(stamp) < PAWS_MSL_MS && SeqNum(last) - SeqNum(ts) > PAWS_WINDOW
        })
    }
}

#[derive(Clone)]
struct Host {
    ip: IpAddr,
    path: Path,
}

/// The hosts remembered.
#[derive(Clone)]
pub(crate) struct Metrics {
    table: HashTable<Host>,
    keyed: Keyed,
}

impl Metrics {
    pub(crate) fn new(rng: &Rng) -> Metrics {
        Metrics {
            table: HashTable::new(),
            keyed: rng.keyed(),
        }
    }

    /// What is known of `ip`.
    pub(crate) fn get(&self, ip: IpAddr) -> Path {
        self.table
            .find(self.keyed.hash_ip(ip), |host| host.ip == ip)
            .map_or(Path::default(), |host| host.path)
    }

    /// What is known, to be changed.
    pub(crate) fn entry(&mut self, ip: IpAddr) -> &mut Path {
        let (hash, is) = (self.keyed.hash_ip(ip), |host: &Host| host.ip == ip);
        if self.table.len() >= MAX_HOSTS && self.table.find(hash, is).is_none() {
            self.table.extract_if(|_| true).next();
        }
        let path = Path::default();
        let entry = self.table.entry(hash, is, |host| self.keyed.hash_ip(host.ip));
        &mut entry.or_insert(Host { ip, path }).into_mut().path
    }

    /// Forgets everything (`ip tcp_metrics flush`).
    pub(crate) fn flush(&mut self) {
        self.table.clear();
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> u64 {
        self.table.allocation_size() as u64
    }
}
