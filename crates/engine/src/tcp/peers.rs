//! What is remembered of hosts beyond their connections (Linux: net/ipv4/tcp_metrics.c): who has proved to exist, and, for
//! `tcp_tw_recycle`, whose timestamps went how far.

use crate::env::Env;
use crate::rng::Keyed;
use core::net::IpAddr;
use estab_proto::SeqNum;
use hashbrown::HashMap;

/// Hosts remembered; an arbitrary one makes way.
const MAX_PEERS: usize = 4096;
/// TCP_PAWS_MSL: how long a host's timestamp counts for `tcp_tw_recycle`, in milliseconds.
const PAWS_MSL_MS: u32 = 60_000;
/// TCP_PAWS_WINDOW: how much older a timestamp may be.
const PAWS_WINDOW: i32 = 1;

#[derive(Clone, Copy, Default)]
struct Peer {
    /// A connection with it ended after a round trip was measured.
    proven: bool,
    /// Its last timestamp, and when it came.
    ts: Option<(u32, u32)>,
}

/// The hosts remembered.
#[derive(Clone)]
pub(crate) struct Peers {
    map: HashMap<IpAddr, Peer, Keyed>,
}

impl Peers {
    pub(crate) fn new(keyed: Keyed) -> Peers {
        Peers {
            map: HashMap::with_hasher(keyed),
        }
    }

    fn entry(&mut self, ip: IpAddr) -> &mut Peer {
        if self.map.len() >= MAX_PEERS
            && !self.map.contains_key(&ip)
            && let Some(other) = self.map.keys().next().copied()
        {
            self.map.remove(&other);
        }
        self.map.entry(ip).or_default()
    }

    /// A connection with `ip` that was open has ended (Linux: `tcp_update_metrics`).
    pub(crate) fn prove(&mut self, ip: IpAddr) {
        self.entry(ip).proven = true;
    }

    /// The host is known to exist (Linux: `tcp_peer_is_proven`).
    pub(crate) fn is_proven(&self, ip: IpAddr) -> bool {
        self.map.get(&ip).is_some_and(|peer| peer.proven)
    }

    /// For `tcp_tw_recycle`: a connection's last timestamp (Linux before 4.12: `tcp_remember_stamp`).
    pub(crate) fn remember(&mut self, ip: IpAddr, ts: u32, stamp: u32) {
        let peer = self.entry(ip);
        if peer.ts.is_none_or(|(old, _)| !SeqNum(old).after(SeqNum(ts))) {
            peer.ts = Some((ts, stamp));
        }
    }

    /// `tcp_tw_recycle` takes a SYN with timestamp `ts` for an old one: the host, or another one behind the same NAT, was
    /// further within the last minute (Linux before 4.12: `tcp_peer_is_proven` with PAWS).
    pub(crate) fn recycle_rejects(&self, env: &Env, ip: IpAddr, ts: u32) -> bool {
        let Some((last, stamp)) = self.map.get(&ip).and_then(|peer| peer.ts) else {
            return false;
        };
        super::clock_ms(env).wrapping_sub(stamp) < PAWS_MSL_MS && SeqNum(last) - SeqNum(ts) > PAWS_WINDOW
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> u64 {
        (self.map.capacity() * (size_of::<(IpAddr, Peer)>() + 1)) as u64
    }
}
