//! Who holds which local address and port, and who may join them
//! (Linux: `inet_csk_get_port`, `inet_csk_bind_conflict`, `ipv6_rcv_saddr_equal`).
//!
//! Per port and address only counts are kept, by what decides a conflict: SO_REUSEADDR, SO_REUSEPORT, LISTEN.
//! Connections and TIME_WAITs hold their port too, with the flags of the socket they came from.

use crate::{Family, Result, SockError};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use hashbrown::HashTable;

/// The address part of a binding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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

impl BindClass {
    /// Two sockets of these classes may hold the same address and port (Linux: `inet_bind_conflict`).
    fn tolerates(self, other: BindClass) -> bool {
        (self.reuse_addr && other.reuse_addr && !other.listen) || (self.reuse_port && other.reuse_port)
    }
}

/// What tells the holds of one address and port apart: the bits of a [`BindClass`], and whether bind(2) asked for them.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mark(u8);

impl Mark {
    const REUSE_ADDR: u8 = 1;
    const REUSE_PORT: u8 = 2;
    const LISTEN: u8 = 4;
    const EXPLICIT: u8 = 8;

    fn of(binding: &Binding) -> Mark {
        let bit = |on, bit| if on { bit } else { 0 };
        let class = binding.class;
        Mark(
            bit(class.reuse_addr, Self::REUSE_ADDR)
                | bit(class.reuse_port, Self::REUSE_PORT)
                | bit(class.listen, Self::LISTEN)
                | bit(binding.explicit, Self::EXPLICIT),
        )
    }

    fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    fn class(self) -> BindClass {
        BindClass {
            reuse_addr: self.has(Self::REUSE_ADDR),
            reuse_port: self.has(Self::REUSE_PORT),
            listen: self.has(Self::LISTEN),
        }
    }
}

/// How many hold an address and port with one mark. Packed: each port that a TIME_WAIT keeps has one.
#[derive(Clone, Copy)]
#[repr(Rust, packed)]
struct Hold<A> {
    addr: A,
    port: u16,
    mark: Mark,
    count: u32,
}

const _: () = assert!(size_of::<Hold<Ipv4Addr>>() == 11);

/// Ports are ours or were chosen by us: a plain hash does.
fn hash(port: u16) -> u64 {
    (u64::from(port) + 1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(32)
}

/// The holds of one kind of address, by port.
#[derive(Clone)]
struct Holds<A: Copy>(HashTable<Hold<A>>);

impl<A: Copy> Default for Holds<A> {
    fn default() -> Holds<A> {
        Holds(HashTable::new())
    }
}

impl<A: Copy + PartialEq> Holds<A> {
    fn at(&self, port: u16) -> impl Iterator<Item = Hold<A>> {
        self.0.iter_hash(hash(port)).copied().filter(move |h| h.port == port)
    }

    fn is(addr: A, port: u16, mark: Mark) -> impl Fn(&Hold<A>) -> bool {
        move |h| ({ h.port }, { h.mark }) == (port, mark) && { h.addr } == addr
    }

    fn hold(&mut self, addr: A, port: u16, mark: Mark) {
        match self.0.find_mut(hash(port), Self::is(addr, port, mark)) {
            Some(hold) => hold.count += 1,
            None => {
                let hold = Hold {
                    addr,
                    port,
                    mark,
                    count: 1,
                };
                self.0.insert_unique(hash(port), hold, |h| hash(h.port));
            }
        }
    }

    fn release(&mut self, addr: A, port: u16, mark: Mark) {
        let Ok(mut entry) = self.0.find_entry(hash(port), Self::is(addr, port, mark)) else {
            return;
        };
        entry.get_mut().count -= 1;
        if entry.get().count == 0 {
            entry.remove();
            if self.0.is_empty() {
                self.0.shrink_to(64, |h| hash(h.port));
            }
        }
    }

    fn memory(&self) -> usize {
        self.0.allocation_size()
    }
}

/// All holds of one protocol.
#[derive(Clone, Default)]
pub(crate) struct BindTable {
    /// On one IPv4 address.
    v4: Holds<Ipv4Addr>,
    /// On any other.
    rest: Holds<BindAddr>,
}

impl BindTable {
    fn at(&self, port: u16) -> impl Iterator<Item = Hold<BindAddr>> {
        let v4 = self.v4.at(port).map(move |h| Hold {
            addr: BindAddr::Ip(IpAddr::V4(h.addr)),
            port,
            mark: h.mark,
            count: h.count,
        });
        v4.chain(self.rest.at(port))
    }

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
        self.at(port).any(|hold| {
            let other = hold.addr;
            let own = except.is_some_and(|own| own.addr == other && Mark::of(own) == { hold.mark });
            let count = hold.count - u32::from(own);
            count > 0 && addr.overlaps(other) && !tolerates({ hold.mark }.class())
        })
    }

    /// Some socket holds the port by bind(2): connect(2) doesn't choose it (Linux: `tb->fastreuse >= 0`).
    pub(crate) fn taken_by_bind(&self, port: u16) -> bool {
        let explicit = |mark: Mark| mark.has(Mark::EXPLICIT);
        self.v4.at(port).any(|hold| explicit(hold.mark)) || self.rest.at(port).any(|hold| explicit(hold.mark))
    }

    /// Adds a hold.
    pub(crate) fn hold(&mut self, binding: &Binding) {
        let mark = Mark::of(binding);
        match binding.addr {
            BindAddr::Ip(IpAddr::V4(addr)) => self.v4.hold(addr, binding.port, mark),
            addr => self.rest.hold(addr, binding.port, mark),
        }
    }

    /// Gives a hold back.
    pub(crate) fn release(&mut self, binding: &Binding) {
        let mark = Mark::of(binding);
        match binding.addr {
            BindAddr::Ip(IpAddr::V4(addr)) => self.v4.release(addr, binding.port, mark),
            addr => self.rest.release(addr, binding.port, mark),
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
        (self.v4.memory() + self.rest.memory()) as u64
    }
}
