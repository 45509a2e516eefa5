//! Who holds which local address and port, and who may join them
//! (Linux: `inet_csk_get_port`, `inet_csk_bind_conflict`, `ipv6_rcv_saddr_equal`).
//!
//! Per port and address only counts are kept, by what decides a conflict: SO_REUSEADDR, SO_REUSEPORT, LISTEN.
//! Connections and TIME_WAITs hold their port too, with the flags of the socket they came from.

use crate::{Family, Result, SockError};
use alloc::vec::Vec;
use core::hash::BuildHasherDefault;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use hashbrown::HashMap;

/// The address part of a binding.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) enum BindAddr {
    /// 0.0.0.0
    AnyV4,
    /// `::` with IPV6_V6ONLY.
    AnyV6,
    /// `::`, IPv4 included.
    AnyDual,
    /// One address; IPv4-mapped ones count as IPv4.
    Ip(IpAddr),
}

impl BindAddr {
    /// What a socket of `family` binds with `ip`.
    pub(crate) fn new(family: Family, ip: IpAddr, v6only: bool) -> Result<BindAddr> {
        match (family, ip) {
            (Family::V4, IpAddr::V4(a)) if a.is_unspecified() => Ok(BindAddr::AnyV4),
            (Family::V4, IpAddr::V4(_)) => Ok(BindAddr::Ip(ip)),
            (Family::V4, IpAddr::V6(_)) | (Family::V6, IpAddr::V4(_)) => Err(SockError::EAFNOSUPPORT),
            (Family::V6, IpAddr::V6(a)) if a.is_unspecified() => {
                Ok(if v6only { BindAddr::AnyV6 } else { BindAddr::AnyDual })
            }
            (Family::V6, IpAddr::V6(a)) => match a.to_ipv4_mapped() {
                Some(_) if v6only => Err(SockError::EADDRNOTAVAIL),
                Some(v4) if v4.is_unspecified() => Ok(BindAddr::AnyV4),
                Some(v4) => Ok(BindAddr::Ip(v4.into())),
                None => Ok(BindAddr::Ip(ip)),
            },
        }
    }

    /// The address, if it is one.
    pub(crate) fn ip(self) -> Option<IpAddr> {
        match self {
            BindAddr::Ip(ip) => Some(ip),
            _ => None,
        }
    }

    /// The address getsockname(2) shows.
    pub(crate) fn shown(self, family: Family) -> IpAddr {
        match (self, family) {
            (BindAddr::Ip(IpAddr::V4(a)), Family::V6) => a.to_ipv6_mapped().into(),
            (BindAddr::Ip(ip), _) => ip,
            (_, Family::V4) => Ipv4Addr::UNSPECIFIED.into(),
            (_, Family::V6) => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// A packet to `ip` may be for it.
    pub(crate) fn takes(self, ip: IpAddr) -> bool {
        match self {
            BindAddr::AnyV4 => ip.is_ipv4(),
            BindAddr::AnyV6 => ip.is_ipv6(),
            BindAddr::AnyDual => true,
            BindAddr::Ip(mine) => mine == ip,
        }
    }

    fn overlaps(self, other: BindAddr) -> bool {
        match (self, other) {
            (BindAddr::Ip(a), b) => b.takes(a),
            (a, BindAddr::Ip(b)) => a.takes(b),
            (BindAddr::AnyDual, _) | (_, BindAddr::AnyDual) => true,
            (a, b) => a == b,
        }
    }
}

/// A socket's hold on a local address and port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Binding {
    pub(crate) addr: BindAddr,
    pub(crate) port: u16,
    /// The port was asked for by bind(2) (or chosen by it), not by connect(2): connect leaves it to its owner.
    pub(crate) explicit: bool,
    /// bind(2) named the port: it outlives connections (Linux: SOCK_BINDPORT_LOCK).
    pub(crate) port_fixed: bool,
    /// bind(2) named an address: the same (SOCK_BINDADDR_LOCK).
    pub(crate) addr_fixed: bool,
    pub(crate) class: BindClass,
}

impl Binding {
    /// The address as getsockname(2) shows it.
    pub(crate) fn shown(&self, family: Family) -> SocketAddr {
        SocketAddr::new(self.addr.shown(family), self.port)
    }
}

/// The hold of a connection or a TIME_WAIT in one byte: the address and the port are its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct PackedBinding(u8);

impl PackedBinding {
    const HELD: u8 = 1;
    const EXPLICIT: u8 = 2;
    const REUSE_ADDR: u8 = 4;
    const REUSE_PORT: u8 = 8;
    const PORT_FIXED: u8 = 16;
    const ADDR_FIXED: u8 = 32;

    pub(crate) fn pack(binding: Option<&Binding>) -> PackedBinding {
        let bit = |on, bit| if on { bit } else { 0 };
        PackedBinding(binding.map_or(0, |b| {
            Self::HELD
                | bit(b.explicit, Self::EXPLICIT)
                | bit(b.class.reuse_addr, Self::REUSE_ADDR)
                | bit(b.class.reuse_port, Self::REUSE_PORT)
                | bit(b.port_fixed, Self::PORT_FIXED)
                | bit(b.addr_fixed, Self::ADDR_FIXED)
        }))
    }

    /// As it is written to a file, by [`Self::from_bits`] to be read.
    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    pub(crate) fn from_bits(bits: u8) -> PackedBinding {
        PackedBinding(bits)
    }

    /// The hold as the table knows it; `None`: there is none.
    pub(crate) fn unpack(self, local: SocketAddr) -> Option<Binding> {
        let has = |bit| self.0 & bit != 0;
        has(Self::HELD).then_some(Binding {
            addr: BindAddr::Ip(local.ip()),
            port: local.port(),
            explicit: has(Self::EXPLICIT),
            port_fixed: has(Self::PORT_FIXED),
            addr_fixed: has(Self::ADDR_FIXED),
            class: BindClass {
                reuse_addr: has(Self::REUSE_ADDR),
                reuse_port: has(Self::REUSE_PORT),
                listen: false,
            },
        })
    }
}

/// What decides whether two sockets may share a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct BindClass {
    pub(crate) reuse_addr: bool,
    pub(crate) reuse_port: bool,
    pub(crate) listen: bool,
}

const CLASSES: [BindClass; 8] = {
    let mut all = [BindClass {
        reuse_addr: false,
        reuse_port: false,
        listen: false,
    }; 8];
    let mut i = 0;
    while i < 8 {
        all[i] = BindClass {
            reuse_addr: i & 1 != 0,
            reuse_port: i & 2 != 0,
            listen: i & 4 != 0,
        };
        i += 1;
    }
    all
};

impl BindClass {
    fn index(self) -> usize {
        usize::from(self.reuse_addr) | usize::from(self.reuse_port) << 1 | usize::from(self.listen) << 2
    }

    /// Two sockets of these classes may hold the same address and port (Linux: `inet_bind_conflict`).
    fn tolerates(self, other: BindClass) -> bool {
        (self.reuse_addr && other.reuse_addr && !other.listen) || (self.reuse_port && other.reuse_port)
    }
}

/// How many spare rows are kept.
const KEEP_ROWS: usize = 64;

#[derive(Clone, Default)]
struct PortUse {
    /// Holds by bind(2).
    explicit: u32,
    addrs: Vec<(BindAddr, [u32; 8])>,
}

/// Ports are ours or were chosen by us: a plain hash does.
#[derive(Default)]
pub(crate) struct PortHasher(u64);

impl core::hash::Hasher for PortHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.0 = (self.0 << 8 | u64::from(*b)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }
    fn write_u16(&mut self, n: u16) {
        self.0 = (self.0 << 16 ^ (u64::from(n) + 1))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(32);
    }
}

/// All holds of one protocol.
#[derive(Clone, Default)]
pub(crate) struct BindTable {
    ports: HashMap<u16, PortUse, BuildHasherDefault<PortHasher>>,
    /// Rows of ports that nobody holds any more, for those that somebody will.
    spare: Vec<Vec<(BindAddr, [u32; 8])>>,
}

impl BindTable {
    /// A socket of `class` may not hold `addr` and `port` now. `except`: a hold of its own that doesn't count.
    pub(crate) fn conflict(&self, addr: BindAddr, port: u16, class: BindClass, except: Option<&Binding>) -> bool {
        self.conflicts(addr, port, except, |other| class.tolerates(other))
    }

    /// [`Self::conflict`] where `tolerates` tells which other holds may stay.
    fn conflicts(
        &self,
        addr: BindAddr,
        port: u16,
        except: Option<&Binding>,
        tolerates: impl Fn(BindClass) -> bool,
    ) -> bool {
        let Some(used) = self.ports.get(&port) else {
            return false;
        };
        used.addrs
            .iter()
            .filter(|(other, _)| addr.overlaps(*other))
            .any(|(other, counts)| {
                CLASSES.iter().any(|c| {
                    let mut count = counts[c.index()];
                    if except.is_some_and(|own| own.addr == *other && own.class == *c) {
                        count -= 1;
                    }
                    count > 0 && !tolerates(*c)
                })
            })
    }

    /// Some socket holds the port by bind(2): connect(2) doesn't choose it (Linux: `tb->fastreuse >= 0`).
    pub(crate) fn taken_by_bind(&self, port: u16) -> bool {
        self.ports.get(&port).is_some_and(|used| used.explicit > 0)
    }

    /// Adds a hold.
    pub(crate) fn hold(&mut self, binding: &Binding) {
        let used = self.ports.entry(binding.port).or_insert_with(|| PortUse {
            explicit: 0,
            addrs: self.spare.pop().unwrap_or_default(),
        });
        used.explicit += u32::from(binding.explicit);
        let class = binding.class.index();
        match used.addrs.iter_mut().find(|(addr, _)| *addr == binding.addr) {
            Some((_, counts)) => counts[class] += 1,
            None => {
                let mut counts = [0; 8];
                counts[class] = 1;
                // One address a port is the rule: no room for more, of which a TIME_WAIT would carry four.
                used.addrs.reserve_exact(1);
                used.addrs.push((binding.addr, counts));
            }
        }
    }

    /// Gives a hold back.
    pub(crate) fn release(&mut self, binding: &Binding) {
        let Some(used) = self.ports.get_mut(&binding.port) else {
            return;
        };
        used.explicit = used.explicit.saturating_sub(u32::from(binding.explicit));
        if let Some(at) = used.addrs.iter().position(|(addr, _)| *addr == binding.addr) {
            let count = &mut used.addrs[at].1[binding.class.index()];
            *count = count.saturating_sub(1);
            if used.addrs[at].1 == [0; 8] {
                used.addrs.swap_remove(at);
            }
        }
        if used.addrs.is_empty() {
            if let Some(used) = self.ports.remove(&binding.port)
                && self.spare.len() < KEEP_ROWS
            {
                self.spare.push(used.addrs);
            }
            if self.ports.is_empty() {
                self.ports.shrink_to(64);
            }
        }
    }

    /// Replaces a hold by another (bound to listening, listening to closed).
    pub(crate) fn change(&mut self, binding: &mut Binding, class: BindClass) {
        self.release(binding);
        binding.class = class;
        self.hold(binding);
    }

    /// A port for bind(2) with port 0: searched from a random place, odd ones first, so that connect(2), which prefers
    /// even ones, meets few (Linux: `inet_csk_find_open_port`).
    pub(crate) fn choose(
        &self,
        addr: BindAddr,
        class: BindClass,
        range: (u16, u16),
        reserved: impl Fn(u16) -> bool,
        random: u32,
        share: bool,
    ) -> Result<u16> {
        let (low, high) = (u32::from(range.0), u32::from(range.1));
        let remaining = (high + 1).saturating_sub(low);
        if remaining == 0 {
            return Err(SockError::EADDRINUSE);
        }
        // Port 0 shares none; with `ip_autobind_reuse`, when none is free, one of SO_REUSEADDR's that nobody listens on and
        // that SO_REUSEPORT's group does not hold (Linux: `inet_bind_conflict`).
        let tolerates = |other: BindClass| {
            let group = class.reuse_port && other.reuse_port;
            share && class.reuse_addr && other.reuse_addr && !other.listen && !group
        };
        let start = random % remaining;
        for parity in [1, 0] {
            for i in 0..remaining {
                let port = (low + (start + i) % remaining) as u16;
                if u32::from(port) % 2 != parity || reserved(port) {
                    continue;
                }
                if !self.conflicts(addr, port, None, tolerates) {
                    return Ok(port);
                }
            }
        }
        Err(SockError::EADDRINUSE)
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> u64 {
        let entry = core::mem::size_of::<(u16, PortUse)>() + core::mem::size_of::<(BindAddr, [u32; 8])>();
        (self.ports.len() * entry) as u64
    }
}
