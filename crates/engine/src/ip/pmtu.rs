//! What packets fit on the way to a destination, learned from ICMP errors (RFC 1191, RFC 8201) that a socket
//! found to be about its own packets (RFC 5927).

use super::{Ip, MISC_PMTU};
use crate::Instant;
use crate::env::Env;
use crate::rng::Rng;
use crate::timer::{TimerHandle, TimerKey};
use alloc::collections::VecDeque;
use core::net::IpAddr;
use core::time::Duration;
use hashbrown::HashMap;

/// IPv6's least MTU (RFC 8200 §5).
pub(crate) const MIN_MTU_V6: u32 = 1280;
/// Destinations remembered; the oldest goes first.
const MAX_ENTRIES: usize = 4096;

#[derive(Clone, Copy)]
struct Entry {
    mtu: u32,
    locked: bool,
    expires: Instant,
}

/// Path MTUs below the interface's, by destination.
#[derive(Clone)]
pub(super) struct Pmtu {
    entries: HashMap<IpAddr, Entry, crate::rng::Keyed>,
    /// Destinations by when they were learned; a destination learned again stands in it twice.
    order: VecDeque<(Instant, IpAddr)>,
    timer: TimerHandle,
}

impl Pmtu {
    pub(super) fn new(rng: &Rng) -> Pmtu {
        Pmtu {
            entries: HashMap::with_hasher(rng.keyed()),
            order: VecDeque::new(),
            timer: TimerHandle::NONE,
        }
    }

    /// The MTU learned and whether DF must stay off.
    pub(super) fn get(&self, dst: IpAddr) -> Option<(u32, bool)> {
        // Nearly every stack has learned nothing: no hash then.
        if self.entries.is_empty() {
            return None;
        }
        self.entries.get(&dst).map(|e| (e.mtu, e.locked))
    }

    /// Forgets what is due at `now`, and one more if `full`.
    fn forget(&mut self, now: Instant, full: bool) {
        let mut room = !full;
        while let Some((expires, dst)) = self.order.front().copied() {
            if expires > now && room {
                break;
            }
            self.order.pop_front();
            if self.entries.get(&dst).is_some_and(|e| e.expires == expires) {
                self.entries.remove(&dst);
                room = true;
            }
        }
    }
}

impl Ip {
    /// The path MTU known for `dst`, whatever the interface's is.
    pub(crate) fn pmtu(&self, dst: IpAddr) -> Option<u32> {
        self.pmtu.get(dst).map(|(mtu, _)| mtu)
    }

    /// A checked error says that packets to `dst` must be at most `mtu` bytes. Returns the MTU that holds from now
    /// on, or `None` if nothing changed (Linux: `__ip_rt_update_pmtu`, `__ip6_rt_update_pmtu`).
    pub(crate) fn update_pmtu(env: &mut Env, dst: IpAddr, mtu: u32) -> Option<u32> {
        if env.ip.is_mtu_locked(dst) {
            return None;
        }
        let old = env.ip.route(dst, None).map_or(u32::MAX, |route| route.mtu);
        let floor = if dst.is_ipv4() { env.sysctl.min_pmtu } else { MIN_MTU_V6 };
        let locked = dst.is_ipv4() && mtu < floor;
        let mtu = mtu.max(floor);
        if mtu > old || mtu == old && env.ip.pmtu(dst).is_none() {
            return None;
        }
        let expires = env.now + Duration::from_secs(env.sysctl.mtu_expires.into());
        let pmtu = &mut env.ip.pmtu;
        let full = pmtu.entries.len() >= MAX_ENTRIES || pmtu.order.len() >= 2 * MAX_ENTRIES;
        pmtu.forget(env.now, full);
        pmtu.entries.insert(dst, Entry { mtu, locked, expires });
        pmtu.order.push_back((expires, dst));
        env.ip.changed();
        Ip::arm_pmtu(env);
        // Told again: it holds for longer.
        (mtu < old).then_some(mtu)
    }

    pub(super) fn expire_pmtu(env: &mut Env) {
        env.ip.pmtu.forget(env.now, false);
        env.ip.changed();
        Ip::arm_pmtu(env);
    }

    fn arm_pmtu(env: &mut Env) {
        let pmtu = &mut env.ip.pmtu;
        if let Some((expires, _)) = pmtu.order.front() {
            env.timers
                .set(&mut pmtu.timer, *expires, TimerKey::Misc(MISC_PMTU).pack());
        }
    }
}
