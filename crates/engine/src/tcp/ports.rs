//! The local port of an active open (RFC 6056 §3.3.4, double-hash; Linux: `__inet_hash_connect`, `inet_sk_port_offset`),
//! and TIME_WAITs it may take over (RFC 6191; Linux: `tcp_twsk_unique`).

use super::demux::{Demux, Object, Tuple};
use super::{Tcp, timewait::Rest};
use crate::env::Env;
use crate::rng::HashKey;
use crate::{Result, SockError};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use estab_proto::state::Trigger;
use estab_proto::{Counter, SeqNum};

/// How far each class of destinations has come (Linux: `table_perturb`); allocated at the first connect.
#[derive(Clone, Default)]
pub(crate) struct Perturbation(Vec<u32>);

const PERTURBATIONS: usize = 1024;

/// A TIME_WAIT's legacy to the connection that takes its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Legacy {
    pub(crate) iss: SeqNum,
    pub(crate) ts_recent: u32,
    pub(crate) ts_stamp: u32,
}

/// A local port and what the tuple's last connection left.
pub(crate) struct Chosen {
    pub(crate) port: u16,
    pub(crate) legacy: Option<Legacy>,
    /// The hash of the connection's tuple.
    pub(crate) hash: u32,
}

impl Tcp {
    /// A tuple, if it is free; a TIME_WAIT may make way (Linux: `__inet_check_established`).
    /// `bound`: the port was bound by the application, not chosen here.
    fn tuple_free(&mut self, env: &mut Env, tuple: &Tuple, bound: bool) -> Option<Chosen> {
        let hash = Demux::hash(env, tuple);
        let legacy = match self.find(hash, tuple) {
            None => None,
            Some(Object::Conn(_) | Object::Request(_)) => return None,
            Some(object) => {
                let rest = self.timewaits.rest(object)?;
                let legacy = may_reuse(env, tuple, &rest, bound)?;
                self.end_timewait(env, object, Some(Trigger::Timeout));
                env.mib.inc(Counter::TcpExtTWRecycled);
                Some(legacy)
            }
        };
        Some(Chosen {
            port: tuple.local_port,
            legacy,
            hash,
        })
    }

    /// For a port the application bound (Linux: the `port` branch of `__inet_hash_connect`).
    pub(crate) fn claim_bound(&mut self, env: &mut Env, local: SocketAddr, remote: SocketAddr) -> Result<Chosen> {
        self.tuple_free(env, &Tuple::new(local, remote), true)
            .ok_or(SockError::EADDRNOTAVAIL)
    }

    /// Chooses a port for `local` towards `remote`; EADDRNOTAVAIL when each of the range is taken for this destination.
    pub(crate) fn choose_port(&mut self, env: &mut Env, local: IpAddr, remote: SocketAddr) -> Result<Chosen> {
        let [low, high] = env.sysctl.ip_local_port_range.map(u32::from);
        let mut remaining = (high + 1).saturating_sub(low);
        if remaining > 1 {
            remaining &= !1;
        }
        if remaining == 0 {
            return Err(SockError::EADDRNOTAVAIL);
        }
        if self.ports.0.is_empty() {
            self.ports.0 = (0..PERTURBATIONS).map(|_| env.rng.u32()).collect();
        }
        let offset = env.rng.hash_tuple(HashKey::Port, SocketAddr::new(local, 0), remote);
        let slot = offset as usize % PERTURBATIONS;
        let start = (u64::from(self.ports.0[slot]) + (offset >> 32)) % u64::from(remaining);
        let start = start as u32 & !1;
        // Even distances from the range's start first; bind(2) prefers the others.
        for parity in [0, 1] {
            let mut i = 0;
            while i < remaining {
                let port = (low + (start + parity + i) % remaining) as u16;
                i += 2;
                if env.sysctl.port_is_reserved(port) || self.binds.taken_by_bind(port) {
                    continue;
                }
                let tuple = Tuple::new(SocketAddr::new(local, port), remote);
                if let Some(chosen) = self.tuple_free(env, &tuple, false) {
                    let jump = (i - 2).max(env.rng.below(8) * 2) + 2;
                    self.ports.0[slot] = self.ports.0[slot].wrapping_add(jump);
                    return Ok(chosen);
                }
            }
        }
        Err(SockError::EADDRNOTAVAIL)
    }
}

/// What a TIME_WAIT leaves to a new connection of ours, if `tcp_tw_reuse` lets it go.
fn may_reuse(env: &Env, tuple: &Tuple, rest: &Rest, bound: bool) -> Option<Legacy> {
    if !rest.ts_ok {
        // Without timestamps nothing tells old segments from new.
        return None;
    }
    let loopback = |ip: IpAddr| match ip {
        IpAddr::V4(a) => a.is_loopback(),
        IpAddr::V6(a) => a.is_loopback(),
    };
    let allowed = !rest.fin_wait2
        && match env.sysctl.tcp_tw_reuse {
            0 => false,
            2 => loopback(tuple.local_ip) || loopback(tuple.remote_ip) || env.ip.is_local(tuple.remote_ip),
            _ => true,
        };
    let rested = super::clock_ms(env).wrapping_sub(rest.ts_stamp) > env.sysctl.tcp_tw_reuse_delay;
    (bound || (allowed && rested)).then(|| Legacy {
        iss: rest.next_isn(),
        ts_recent: rest.ts_recent,
        ts_stamp: rest.ts_stamp,
    })
}
