//! Which object a segment belongs to: connections, requests and TIME_WAITs by 4-tuple, else listeners
//! (Linux: `__inet_lookup_established`, `__inet_lookup_listener`).
//!
//! The peer picks the keys, so the hashes are keyed. An entry is a handle of 4 bytes: the tuple stands in the object.

use crate::env::Env;
use crate::sock::bind::BindAddr;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use hashbrown::HashTable;

/// A connection's two ends, without padding.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Tuple {
    pub(crate) local_ip: IpAddr,
    pub(crate) remote_ip: IpAddr,
    pub(crate) local_port: u16,
    pub(crate) remote_port: u16,
}

impl Tuple {
    pub(crate) fn new(local: SocketAddr, remote: SocketAddr) -> Tuple {
        Tuple {
            local_ip: local.ip(),
            remote_ip: remote.ip(),
            local_port: local.port(),
            remote_port: remote.port(),
        }
    }

    pub(crate) fn local(&self) -> SocketAddr {
        SocketAddr::new(self.local_ip, self.local_port)
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        SocketAddr::new(self.remote_ip, self.remote_port)
    }
}

/// What a 4-tuple leads to: an index into that kind's table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Object {
    Conn(u32),
    Request(u32),
    TimeWait4(u32),
    TimeWait6(u32),
}

/// An [`Object`] in 32 bits: two for the kind, 30 for the index.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Handle(u32);

impl Handle {
    fn new(object: Object) -> Handle {
        Handle(match object {
            Object::Conn(i) => i,
            Object::Request(i) => i | 1 << 30,
            Object::TimeWait4(i) => i | 2 << 30,
            Object::TimeWait6(i) => i | 3 << 30,
        })
    }

    fn object(self) -> Object {
        let index = self.0 & 0x3fff_ffff;
        match self.0 >> 30 {
            0 => Object::Conn(index),
            1 => Object::Request(index),
            2 => Object::TimeWait4(index),
            _ => Object::TimeWait6(index),
        }
    }
}

fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// Listeners that share an address and port; more than one only with SO_REUSEPORT.
type Group = Vec<u32>;

/// The listeners of one address and port.
#[derive(Clone)]
struct Listening {
    addr: BindAddr,
    port: u16,
    group: Group,
}

/// Only the application chooses what is listened on: a plain hash does.
fn spread_listener(addr: BindAddr, port: u16) -> u64 {
    let addr = match addr {
        BindAddr::AnyV4 => 1 << 32,
        BindAddr::AnyV6 => 2 << 32,
        BindAddr::AnyDual => 3 << 32,
        BindAddr::Ip(IpAddr::V4(ip)) => ip.to_bits().into(),
        BindAddr::Ip(IpAddr::V6(ip)) => {
            let bits = ip.to_bits();
            (bits >> 64) as u64 ^ (bits as u64).rotate_left(24)
        }
    };
    (addr ^ u64::from(port) << 40)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(32)
}

/// All of TCP's lookups.
#[derive(Clone, Default)]
pub(crate) struct Demux {
    table: HashTable<Handle>,
    listeners: HashTable<Listening>,
    /// Listeners on every address and port of transparent interfaces.
    transparent: Group,
}

impl Demux {
    /// The keyed hash of a tuple.
    #[inline]
    pub(crate) fn hash(env: &Env, tuple: &Tuple) -> u32 {
        env.rng.hash_demux(tuple) as u32
    }

    /// The object of a tuple; `is` tells whether an object's tuple is the one wanted.
    #[inline]
    pub(crate) fn find(&self, hash: u32, is: impl Fn(Object) -> bool) -> Option<Object> {
        self.table
            .find(spread(hash), |handle| is(handle.object()))
            .map(|handle| handle.object())
    }

    /// Adds an object, whose tuple must not be in the table yet; `hash_of` tells the hashes of those that are.
    pub(crate) fn insert(&mut self, hash: u32, object: Object, hash_of: impl Fn(Object) -> u32) {
        let hash_of = |handle: &Handle| spread(hash_of(handle.object()));
        self.table.insert_unique(spread(hash), Handle::new(object), hash_of);
    }

    /// Puts another object of the same tuple in the place of `old`.
    pub(crate) fn replace(&mut self, hash: u32, old: Object, new: Object) {
        let old = Handle::new(old);
        if let Some(handle) = self.table.find_mut(spread(hash), |handle| *handle == old) {
            *handle = Handle::new(new);
        }
    }

    /// Removes an object.
    pub(crate) fn remove(&mut self, hash: u32, object: Object) {
        let old = Handle::new(object);
        if let Ok(entry) = self.table.find_entry(spread(hash), |handle| *handle == old) {
            entry.remove();
        }
        if self.table.is_empty() && self.table.capacity() > 1024 {
            self.table = HashTable::with_capacity(64);
        }
    }

    /// Adds a listener.
    pub(crate) fn listen(&mut self, addr: BindAddr, port: u16, listener: u32, transparent: bool) {
        match transparent {
            true => self.transparent.push(listener),
            false => {
                let is = |l: &Listening| l.port == port && l.addr == addr;
                let entry = self
                    .listeners
                    .entry(spread_listener(addr, port), is, |l| spread_listener(l.addr, l.port));
                let group = Group::new();
                let mut entry = entry.or_insert_with(|| Listening { addr, port, group });
                entry.get_mut().group.push(listener);
            }
        }
    }

    fn group(&self, addr: BindAddr, port: u16) -> Option<&Group> {
        self.listeners
            .find(spread_listener(addr, port), |l| l.port == port && l.addr == addr)
            .map(|listening| &listening.group)
    }

    /// Removes a listener.
    pub(crate) fn unlisten(&mut self, addr: BindAddr, port: u16, listener: u32) {
        self.transparent.retain(|l| *l != listener);
        let is = |l: &Listening| l.port == port && l.addr == addr;
        if let Ok(mut entry) = self.listeners.find_entry(spread_listener(addr, port), is) {
            entry.get_mut().group.retain(|l| *l != listener);
            if entry.get().group.is_empty() {
                entry.remove();
            }
        }
    }

    /// The listener for a segment to `ip` and `port`: its own address before the wildcard, IPv4's wildcard before the
    /// dual one (Linux: `compute_score`); among SO_REUSEPORT's equals the tuple's hash decides.
    pub(crate) fn listener(&self, ip: IpAddr, port: u16, hash: u32) -> Option<u32> {
        let wildcard = if ip.is_ipv4() { BindAddr::AnyV4 } else { BindAddr::AnyV6 };
        [BindAddr::Ip(ip), wildcard, BindAddr::AnyDual]
            .into_iter()
            .find_map(|addr| self.group(addr, port))
            .and_then(|group| pick(group, hash))
    }

    /// Another listener of the group at just this address and port, for what one of it leaves behind.
    pub(crate) fn heir(&self, addr: BindAddr, port: u16, hash: u32) -> Option<u32> {
        self.group(addr, port).and_then(|group| pick(group, hash))
    }

    /// The transparent listener for a tuple.
    pub(crate) fn transparent(&self, hash: u32) -> Option<u32> {
        pick(&self.transparent, hash)
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> u64 {
        self.table.allocation_size() as u64
    }
}

/// `reciprocal_scale(hash, len)`: spreads evenly without a division.
fn pick(group: &Group, hash: u32) -> Option<u32> {
    group
        .get(((u64::from(hash) * group.len() as u64) >> 32) as usize)
        .copied()
}
