//! Where a packet leaves: own addresses, then the longest prefix (Linux: `fib_lookup`, `ip6_route_output`), and
//! which of our addresses it leaves from (RFC 6724 as far as one address per prefix needs it).

use super::{Ip, LOOPBACK};
use crate::{IfaceId, Medium, Result, SockError};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use estab_wire::ethernet;

/// Largest packet on the loopback: Linux's `lo` has 65536, and IPv4 can't say more than 65535.
const LOOPBACK_MTU: u32 = 65536;
/// Routes there may be: they are scanned.
const MAX_ROUTES: usize = 1024;

/// The way to one destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Route {
    /// The interface to leave on; [`LOOPBACK`] for our own addresses.
    pub(crate) iface: IfaceId,
    /// The source address: the one asked for, else the best of ours.
    pub(crate) src: IpAddr,
    /// Who takes the packet on the link: a gateway, or the destination itself.
    pub(crate) next_hop: IpAddr,
    /// The largest packet the path is known to carry, IP header included.
    pub(crate) mtu: u32,
    /// The largest super-packet the interface takes, IP header included; 0: none.
    pub(crate) gso_max_size: u32,
    /// Bytes of link header in front of packets.
    pub(crate) link_len: u8,
    /// The interface finishes checksums.
    pub(crate) csum_offload: bool,
    /// DF may be set: false on a path whose reported MTU was below `min_pmtu` (Linux: RTAX_MTU locked).
    pub(crate) dont_fragment: bool,
    /// The MSS to announce, whatever the MTU is; 0: by the MTU.
    pub(crate) advmss: u16,
    /// Segments a connection begins with; 0: as usual.
    pub(crate) initcwnd: u16,
}

impl Route {
    /// The packets come back to this stack.
    pub(crate) fn is_loopback(&self) -> bool {
        self.iface == LOOPBACK
    }
}

/// A [`Route`] as a connection remembers it, good until anything changes that routes are made of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Way {
    /// 0: nothing is remembered.
    epoch: u32,
    mtu: u32,
    iface: IfaceId,
    dont_fragment: bool,
}

/// What a route says beside where it leads (Linux: RTAX_*); 0: nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RouteMetrics {
    /// The largest packet, IP header included.
    pub mtu: u32,
    /// `mtu` holds whatever ICMP says, and DF stays off.
    pub mtu_lock: bool,
    /// The MSS that connections announce.
    pub advmss: u16,
    /// Segments that connections begin with.
    pub initcwnd: u16,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    dst: IpAddr,
    prefix: u8,
    via: Option<IpAddr>,
    iface: IfaceId,
    metrics: RouteMetrics,
}

/// `addr` begins with the first `prefix` bits of `net`, of the same family.
pub(crate) fn in_prefix(addr: IpAddr, net: IpAddr, prefix: u8) -> bool {
    match (addr, net) {
        (IpAddr::V4(a), IpAddr::V4(n)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            (a.to_bits() ^ n.to_bits()) & mask == 0
        }
        (IpAddr::V6(a), IpAddr::V6(n)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            (a.to_bits() ^ n.to_bits()) & mask == 0
        }
        _ => false,
    }
}

fn bits(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

fn is_link_local(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(a) => a.is_link_local(),
        IpAddr::V6(a) => a.is_unicast_link_local(),
    }
}

impl Ip {
    /// What a [`Way`] or the last packet's check remembers may be wrong from now on.
    pub(crate) fn changed(&mut self) {
        self.epoch = self.epoch.checked_add(1).unwrap_or(1);
    }

    /// The route in few words. On Ethernet the next hop would be one more: it is looked up each time.
    pub(crate) fn remember(&self, route: &Route) -> Way {
        match self.iface(route.iface).map(|config| config.medium) {
            Some(Medium::Ethernet(_)) => Way::default(),
            _ => Way {
                epoch: self.epoch,
                mtu: route.mtu,
                iface: route.iface,
                dont_fragment: route.dont_fragment,
            },
        }
    }

    /// The route remembered, between the addresses it was found for.
    #[inline]
    pub(crate) fn recall(&self, way: Way, dst: IpAddr, src: IpAddr) -> Option<Route> {
        if way.epoch != self.epoch {
            return None;
        }
        let config = self.iface(way.iface);
        Some(Route {
            iface: way.iface,
            src,
            next_hop: dst,
            mtu: way.mtu,
            gso_max_size: config.map_or(0, |config| config.gso_max_size),
            link_len: 0,
            csum_offload: config.is_none_or(|config| config.csum_offload),
            dont_fragment: way.dont_fragment,
            // Asked for while connections begin, from the route itself.
            advmss: 0,
            initcwnd: 0,
        })
    }

    /// Gives the interface an address, and the route to its prefix.
    pub(crate) fn add_addr(&mut self, iface: IfaceId, addr: IpAddr, prefix: u8) -> Result<()> {
        let known = self.ifaces.get_mut(usize::from(iface.0)).ok_or(SockError::EINVAL)?;
        if prefix > bits(addr) || addr.is_multicast() || addr.is_unspecified() || addr.is_loopback() {
            return Err(SockError::EINVAL);
        }
        if !known.addrs.contains(&(addr, prefix)) {
            known.addrs.push((addr, prefix));
        }
        if let Err(at) = self.own.binary_search(&addr) {
            self.own.insert(at, addr);
        }
        self.add_route(addr, prefix, None, iface)
    }

    /// Adds a route, or replaces the one to the same prefix.
    pub(crate) fn add_route(&mut self, dst: IpAddr, prefix: u8, via: Option<IpAddr>, iface: IfaceId) -> Result<()> {
        let family_differs = via.is_some_and(|via| via.is_ipv4() != dst.is_ipv4());
        if usize::from(iface.0) >= self.ifaces.len() || prefix > bits(dst) || family_differs {
            return Err(SockError::EINVAL);
        }
        self.changed();
        let same = |e: &Entry| e.prefix == prefix && in_prefix(dst, e.dst, prefix);
        if let Some(entry) = self.routes.iter_mut().find(|e| same(e)) {
            (entry.via, entry.iface, entry.metrics) = (via, iface, RouteMetrics::default());
            return Ok(());
        }
        if self.routes.len() >= MAX_ROUTES {
            return Err(SockError::ENOBUFS);
        }
        // Longest prefix first: the first match is the best.
        let at = self.routes.partition_point(|e| e.prefix >= prefix);
        let entry = Entry {
            dst,
            prefix,
            via,
            iface,
            metrics: RouteMetrics::default(),
        };
        self.routes.insert(at, entry);
        Ok(())
    }

    /// What the route to exactly that prefix says from now on; ENETUNREACH where there is none.
    pub(crate) fn set_route_metrics(&mut self, dst: IpAddr, prefix: u8, metrics: RouteMetrics) -> Result<()> {
        self.changed();
        let same = |e: &&mut Entry| e.prefix == prefix && in_prefix(dst, e.dst, prefix);
        let entry = self.routes.iter_mut().find(same).ok_or(SockError::ENETUNREACH)?;
        entry.metrics = metrics;
        Ok(())
    }

    /// `addr` is one of ours: packets to it end here.
    pub(crate) fn is_local(&self, addr: IpAddr) -> bool {
        addr.is_loopback() || self.is_own(addr)
    }

    /// `addr` is an address of one of our interfaces.
    pub(super) fn is_own(&self, addr: IpAddr) -> bool {
        match self.own.as_slice() {
            few @ ([] | [_] | [_, _] | [_, _, _] | [_, _, _, _]) => few.contains(&addr),
            many => many.binary_search(&addr).is_ok(),
        }
    }

    /// `addr` is the broadcast address of one of our networks, or of all.
    pub(crate) fn is_broadcast(&self, addr: IpAddr) -> bool {
        let IpAddr::V4(v4) = addr else { return false };
        v4.is_broadcast()
            || self.ifaces.iter().flat_map(|iface| &iface.addrs).any(|(own, prefix)| {
                *prefix < 31 && in_prefix(addr, *own, *prefix) && v4.to_bits() | u32::MAX << (32 - prefix) == u32::MAX
            })
    }

    /// The way to `dst`, from `src` if that is given (a transparent socket may claim any).
    ///
    /// Fails with ENETUNREACH when no route matches, EADDRNOTAVAIL when no address of ours fits.
    pub(crate) fn route(&self, dst: IpAddr, src: Option<IpAddr>) -> Result<Route> {
        if self.is_local(dst) || dst.is_unspecified() {
            return Ok(self.loopback_route(dst, src));
        }
        let found = self.lookup(dst).ok_or(SockError::ENETUNREACH)?;
        let next_hop = found.via.unwrap_or(dst);
        let src = match src.filter(|src| !src.is_unspecified()) {
            Some(src) => src,
            None => self.source_for(found.iface, next_hop).ok_or(SockError::EADDRNOTAVAIL)?,
        };
        Ok(self.leave(found.iface, dst, src, next_hop, &found.metrics))
    }

    /// The way to `dst` out of `iface` without a look at the routes: an answer goes back where the question
    /// came from when nothing better is known.
    pub(crate) fn route_on(&self, iface: IfaceId, dst: IpAddr, src: IpAddr) -> Result<Route> {
        match self.route(dst, Some(src)) {
            Err(_) if usize::from(iface.0) < self.ifaces.len() => {
                Ok(self.leave(iface, dst, src, dst, &RouteMetrics::default()))
            }
            found => found,
        }
    }

    fn leave(&self, iface: IfaceId, dst: IpAddr, src: IpAddr, next_hop: IpAddr, metrics: &RouteMetrics) -> Route {
        let config = &self.ifaces[usize::from(iface.0)].config;
        let learned = self.pmtu.get(dst).filter(|_| !metrics.mtu_lock);
        let mtu = match metrics.mtu {
            0 => config.mtu,
            mtu => mtu.min(config.mtu),
        };
        let (next_hop, link_len) = match config.medium {
            Medium::Ip => (dst, 0),
            Medium::Ethernet(_) => (next_hop, ethernet::HEADER_LEN as u8),
        };
        Route {
            iface,
            src,
            next_hop,
            mtu: learned.map_or(mtu, |(learned, _)| learned.min(mtu)),
            gso_max_size: config.gso_max_size,
            link_len,
            csum_offload: config.csum_offload,
            dont_fragment: !metrics.mtu_lock && !learned.is_some_and(|(_, locked)| locked),
            advmss: metrics.advmss,
            initcwnd: metrics.initcwnd,
        }
    }

    fn loopback_route(&self, dst: IpAddr, src: Option<IpAddr>) -> Route {
        let dst = match dst {
            IpAddr::V4(a) if a.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(a) if a.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            dst => dst,
        };
        let own = match dst {
            IpAddr::V4(a) if a.is_loopback() => Ipv4Addr::LOCALHOST.into(),
            dst => dst,
        };
        Route {
            iface: LOOPBACK,
            src: src.filter(|src| !src.is_unspecified()).unwrap_or(own),
            next_hop: dst,
            mtu: if dst.is_ipv4() { LOOPBACK_MTU - 1 } else { LOOPBACK_MTU },
            gso_max_size: 0,
            link_len: 0,
            csum_offload: true,
            dont_fragment: true,
            advmss: 0,
            initcwnd: 0,
        }
    }

    fn lookup(&self, dst: IpAddr) -> Option<&Entry> {
        self.routes.iter().find(|e| in_prefix(dst, e.dst, e.prefix))
    }

    /// The route to `dst` has an MTU that no ICMP error changes (Linux: `ip_mtu_locked`).
    pub(super) fn is_mtu_locked(&self, dst: IpAddr) -> bool {
        self.lookup(dst).is_some_and(|found| found.metrics.mtu_lock)
    }

    /// The interface an answer to `addr` would leave on (rp_filter).
    pub(super) fn iface_towards(&self, addr: IpAddr) -> Option<IfaceId> {
        self.lookup(addr).map(|found| found.iface)
    }

    /// The best of our addresses to speak to `next_hop` from `iface`: one of its subnet, else one of its scope,
    /// else the interface's first, else any (Linux: `inet_select_addr`, `ipv6_dev_get_saddr`).
    pub(super) fn source_for(&self, iface: IfaceId, next_hop: IpAddr) -> Option<IpAddr> {
        let fits = |(addr, _): &&(IpAddr, u8)| addr.is_ipv4() == next_hop.is_ipv4();
        let here = &self.ifaces.get(usize::from(iface.0))?.addrs;
        let scope = is_link_local(next_hop);
        let in_subnet = |(addr, prefix): &&(IpAddr, u8)| in_prefix(next_hop, *addr, *prefix);
        here.iter()
            .filter(fits)
            .find(in_subnet)
            .or_else(|| here.iter().filter(fits).find(|(addr, _)| is_link_local(*addr) == scope))
            .or_else(|| here.iter().find(fits))
            .or_else(|| {
                let all = || self.ifaces.iter().flat_map(|iface| &iface.addrs);
                all().filter(fits).find(|(addr, _)| !is_link_local(*addr))
            })
            .map(|(addr, _)| *addr)
    }
}
