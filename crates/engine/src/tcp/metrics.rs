//! What is remembered of the path to a host from one connection to the next: RTT, slow start threshold, reordering (Linux:
//! `tcp_update_metrics`, `tcp_init_metrics` of net/ipv4/tcp_metrics.c).

use crate::rng::{Keyed, Rng};
use core::net::IpAddr;
use hashbrown::HashMap;

/// Hosts remembered; an arbitrary one makes way.
const MAX_HOSTS: usize = 4096;

/// What is known of a path; 0: nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Path {
    /// Smoothed RTT in microseconds, times 8.
    pub(crate) srtt8: u32,
    pub(crate) ssthresh: u32,
    pub(crate) reordering: u32,
}

/// The paths remembered.
#[derive(Clone)]
pub(crate) struct Metrics {
    map: HashMap<IpAddr, Path, Keyed>,
}

impl Metrics {
    pub(crate) fn new(rng: &Rng) -> Metrics {
        Metrics {
            map: HashMap::with_hasher(rng.keyed()),
        }
    }

    /// What is known of the path to `ip`.
    pub(crate) fn get(&self, ip: IpAddr) -> Path {
        self.map.get(&ip).copied().unwrap_or_default()
    }

    /// What is known, to be changed.
    pub(crate) fn entry(&mut self, ip: IpAddr) -> &mut Path {
        if self.map.len() >= MAX_HOSTS
            && !self.map.contains_key(&ip)
            && let Some(other) = self.map.keys().next().copied()
        {
            self.map.remove(&other);
        }
        self.map.entry(ip).or_default()
    }

    /// Forgets everything (`ip tcp_metrics flush`).
    pub(crate) fn flush(&mut self) {
        self.map.clear();
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> u64 {
        (self.map.capacity() * (size_of::<(IpAddr, Path)>() + 1)) as u64
    }
}
