//! The table of TIME_WAITs: 52 bytes an entry over IPv4, 76 over IPv6. What few of them have stands beside it.

use super::super::auth::Key;
use super::super::demux::{Object, Tuple};
use super::{Rest, TsOffset, two_msl};
use crate::Instant;
use crate::env::Env;
use crate::event::SocketId;
use crate::rows::{Place, Places, Rows};
use crate::sock::bind::PackedBinding;
use crate::timer::TimerKey;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::num::NonZeroU8;
use core::time::Duration;
use estab_proto::{ScaledWindow, SeqNum, WindowScale};

/// A [`Rest`] and its addresses, packed.
#[derive(Clone, Copy)]
struct Entry<A> {
    local: A,
    remote: A,
    local_port: u16,
    remote_port: u16,
    snd_nxt: SeqNum,
    rcv_nxt: SeqNum,
    ts_recent: u32,
    ts_stamp: u32,
    /// When it ends.
    ends: Place,
    sock: Option<SocketId>,
    window: ScaledWindow,
    facts: Facts,
    bind: PackedBinding,
}

const _: () = assert!(size_of::<Option<Entry<Ipv4Addr>>>() == 52);
const _: () = assert!(size_of::<Option<Entry<Ipv6Addr>>>() == 76);

/// The window's shift, two facts, and which of [`TsOffset`] it is; never 0, so that a vacant place takes no more room.
#[derive(Clone, Copy)]
struct Facts(NonZeroU8);

impl Facts {
    const SCALE: u8 = 0xf;
    const TS_OK: u8 = 1 << 4;
    const FIN_WAIT2: u8 = 1 << 5;
    const ZERO: NonZeroU8 = NonZeroU8::new(1 << 6).unwrap();
    const KEYED: NonZeroU8 = NonZeroU8::new(2 << 6).unwrap();
    const OTHER: NonZeroU8 = NonZeroU8::new(3 << 6).unwrap();

    fn of(rest: &Rest) -> Facts {
        let offset = match rest.ts_offset {
            TsOffset::Zero => Self::ZERO,
            TsOffset::Keyed => Self::KEYED,
            TsOffset::Other(_) => Self::OTHER,
        };
        let bit = |on, bit| if on { bit } else { 0 };
        let facts = bit(rest.ts_ok, Self::TS_OK) | bit(rest.fin_wait2, Self::FIN_WAIT2);
        Facts(offset | facts | rest.rcv_scale.bits() & Self::SCALE)
    }

    fn has(self, bit: u8) -> bool {
        self.0.get() & bit != 0
    }
}

impl<A: Into<IpAddr> + Copy> Entry<A> {
    fn new((local, remote): (A, A), tuple: &Tuple, rest: &Rest) -> Entry<A> {
        Entry {
            local,
            remote,
            local_port: tuple.local_port,
            remote_port: tuple.remote_port,
            snd_nxt: rest.snd_nxt,
            rcv_nxt: rest.rcv_nxt,
            ts_recent: rest.ts_recent,
            ts_stamp: rest.ts_stamp,
            ends: Place::NONE,
            sock: rest.sock,
            window: rest.window,
            facts: Facts::of(rest),
            bind: rest.bind,
        }
    }

    fn tuple(&self) -> Tuple {
        Tuple {
            local_ip: self.local.into(),
            remote_ip: self.remote.into(),
            local_port: self.local_port,
            remote_port: self.remote_port,
        }
    }
}

/// Entries by index; the place freed last is filled first.
#[derive(Clone)]
struct Table<A> {
    places: Vec<Option<Entry<A>>>,
    free: Vec<u32>,
}

impl<A: Copy> Table<A> {
    const fn new() -> Table<A> {
        Table {
            places: Vec::new(),
            free: Vec::new(),
        }
    }

    fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    fn get(&self, index: u32) -> Option<&Entry<A>> {
        self.places.get(index as usize)?.as_ref()
    }

    fn get_mut(&mut self, index: u32) -> Option<&mut Entry<A>> {
        self.places.get_mut(index as usize)?.as_mut()
    }

    fn insert(&mut self, entry: Entry<A>) -> u32 {
        if let Some(index) = self.free.pop() {
            self.places[index as usize] = Some(entry);
            return index;
        }
        self.places.push(Some(entry));
        self.places.len() as u32 - 1
    }

    /// Takes out what stands at `index`. Once nothing stands anywhere, a burst's memory goes back.
    fn remove(&mut self, index: u32) -> Option<Entry<A>> {
        let entry = self.places.get_mut(index as usize)?.take()?;
        self.free.push(index);
        if self.len() == 0 && self.places.len() > 64 {
            *self = Table::new();
        }
        Some(entry)
    }

    fn iter(&self) -> impl Iterator<Item = (u32, &Entry<A>)> {
        (0..)
            .zip(&self.places)
            .filter_map(|(i, place)| Some((i, place.as_ref()?)))
    }

    fn memory(&self) -> usize {
        self.places.capacity() * size_of::<Option<Entry<A>>>() + self.free.capacity() * size_of::<u32>()
    }
}

/// All TIME_WAITs of a stack.
#[derive(Clone)]
pub(crate) struct TimeWaits {
    v4: Table<Ipv4Addr>,
    v6: Table<Ipv6Addr>,
    /// Their ends: those of 2·MSL in one row, others in another.
    ends: Rows<2>,
    // What few of them have, by [`key_index`].
    /// What signs their ACKs.
    keys: BTreeMap<u32, Key>,
    /// [`TsOffset::Other`].
    offsets: BTreeMap<u32, u32>,
    /// [`Rest::last_oow_ack`], unless it is 0.
    answered: BTreeMap<u32, u32>,
}

impl Default for TimeWaits {
    fn default() -> TimeWaits {
        TimeWaits {
            v4: Table::new(),
            v6: Table::new(),
            ends: Rows::new(TimerKey::TimeWaits),
            keys: BTreeMap::new(),
            offsets: BTreeMap::new(),
            answered: BTreeMap::new(),
        }
    }
}

/// The two tables as one, by [`key_index`].
struct Both<'a>(&'a mut Table<Ipv4Addr>, &'a mut Table<Ipv6Addr>);

impl Places for Both<'_> {
    fn place(&mut self, index: u32) -> &mut Place {
        let place = match object(index) {
            Object::TimeWait6(i) => self.1.get_mut(i).map(|e| &mut e.ends),
            _ => self.0.get_mut(index).map(|e| &mut e.ends),
        };
        place.expect("the index of an entry that is there")
    }
}

impl TimeWaits {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Adds one and starts its timer.
    pub(crate) fn insert(&mut self, env: &mut Env, tuple: &Tuple, rest: Rest, life: Duration) -> Object {
        let object = match (tuple.local_ip, tuple.remote_ip) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                Object::TimeWait4(self.v4.insert(Entry::new((local, remote), tuple, &rest)))
            }
            (local, remote) => {
                let ends = (v6(local), v6(remote));
                Object::TimeWait6(self.v6.insert(Entry::new(ends, tuple, &rest)))
            }
        };
        if let TsOffset::Other(offset) = rest.ts_offset {
            self.offsets.insert(key_index(object), offset);
        }
        self.schedule(env, object, life);
        object
    }

    /// Its ACKs are signed with `key`.
    pub(crate) fn sign(&mut self, object: Object, key: Key) {
        self.keys.insert(key_index(object), key);
    }

    /// What its ACKs are signed with.
    pub(crate) fn key(&self, object: Object) -> Option<&Key> {
        self.keys.get(&key_index(object))
    }

    /// (Re)starts its timer.
    pub(crate) fn schedule(&mut self, env: &mut Env, object: Object, life: Duration) {
        if self.tuple(object).is_some() {
            let (index, row) = (key_index(object), usize::from(life != two_msl(env)));
            let mut both = Both(&mut self.v4, &mut self.v6);
            let how = (row, TimerKey::TimeWait(index));
            self.ends.set(&mut env.timers, &mut both, index, env.now + life, how);
        }
    }

    /// Takes the next of a row whose time is over out of it.
    pub(crate) fn pop(&mut self, row: u8, now: Instant) -> Option<Object> {
        let mut both = Both(&mut self.v4, &mut self.v6);
        self.ends.pop(&mut both, row, now).map(object)
    }

    /// Waits for the row's next.
    pub(crate) fn arm(&mut self, env: &mut Env, row: u8) {
        self.ends.arm(&mut env.timers, row.into());
    }

    /// What is kept of one; what a segment changes in it goes back by [`update`](Self::update).
    pub(crate) fn rest(&self, object: Object) -> Option<Rest> {
        let index = key_index(object);
        match object {
            Object::TimeWait4(i) => self.v4.get(i).map(|e| self.unpack(e, index)),
            Object::TimeWait6(i) => self.v6.get(i).map(|e| self.unpack(e, index)),
            _ => None,
        }
    }

    fn unpack<A>(&self, e: &Entry<A>, index: u32) -> Rest {
        Rest {
            snd_nxt: e.snd_nxt,
            rcv_nxt: e.rcv_nxt,
            window: e.window,
            rcv_scale: WindowScale::new(e.facts.0.get() & Facts::SCALE),
            ts_recent: e.ts_recent,
            ts_stamp: e.ts_stamp,
            ts_offset: match self.offsets.get(&index) {
                Some(offset) => TsOffset::Other(*offset),
                None if e.facts.has(Facts::KEYED.get()) => TsOffset::Keyed,
                None => TsOffset::Zero,
            },
            last_oow_ack: self.answered.get(&index).copied().unwrap_or(0),
            sock: e.sock,
            ts_ok: e.facts.has(Facts::TS_OK),
            fin_wait2: e.facts.has(Facts::FIN_WAIT2),
            bind: e.bind,
        }
    }

    /// Keeps what a segment has changed.
    pub(crate) fn update(&mut self, object: Object, rest: &Rest) {
        match object {
            Object::TimeWait4(i) => set(self.v4.get_mut(i), rest),
            Object::TimeWait6(i) => set(self.v6.get_mut(i), rest),
            _ => return,
        }
        if rest.last_oow_ack != 0 {
            self.answered.insert(key_index(object), rest.last_oow_ack);
        }
    }

    pub(crate) fn tuple(&self, object: Object) -> Option<Tuple> {
        match object {
            Object::TimeWait4(i) => self.v4.get(i).map(Entry::tuple),
            Object::TimeWait6(i) => self.v6.get(i).map(Entry::tuple),
            _ => None,
        }
    }

    /// Removes one; its hold on the port is the caller's to release.
    pub(crate) fn remove(&mut self, env: &mut Env, object: Object) -> Option<(Tuple, Rest)> {
        let removed = (self.tuple(object)?, self.rest(object)?);
        let index = key_index(object);
        let mut both = Both(&mut self.v4, &mut self.v6);
        self.ends.cancel(&mut env.timers, &mut both, index);
        match object {
            Object::TimeWait4(i) => drop(self.v4.remove(i)),
            Object::TimeWait6(i) => drop(self.v6.remove(i)),
            _ => {}
        }
        self.keys.remove(&index);
        self.offsets.remove(&index);
        self.answered.remove(&index);
        Some(removed)
    }

    /// All of them, with when they end.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Tuple, Rest, Place)> + '_ {
        let v4 = self.v4.iter().map(|(i, e)| (e.tuple(), self.unpack(e, i), e.ends));
        let v6 = self
            .v6
            .iter()
            .map(|(i, e)| (e.tuple(), self.unpack(e, i | V6_KEY), e.ends));
        v4.chain(v6)
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> u64 {
        let beside = self.keys.len() * size_of::<(u32, Key)>() + (self.offsets.len() + self.answered.len()) * 8;
        (self.v4.memory() + self.v6.memory() + beside) as u64
    }
}

/// What a segment may change.
fn set<A>(entry: Option<&mut Entry<A>>, rest: &Rest) {
    if let Some(entry) = entry {
        (entry.rcv_nxt, entry.facts) = (rest.rcv_nxt, Facts::of(rest));
        (entry.ts_recent, entry.ts_stamp) = (rest.ts_recent, rest.ts_stamp);
    }
}

/// Above every index, and within a timer's key.
const V6_KEY: u32 = 1 << 28;

/// The entry of a [`key_index`].
pub(crate) fn object(index: u32) -> Object {
    match index & V6_KEY {
        0 => Object::TimeWait4(index),
        _ => Object::TimeWait6(index & !V6_KEY),
    }
}

fn key_index(object: Object) -> u32 {
    match object {
        Object::TimeWait6(i) => i | V6_KEY,
        Object::TimeWait4(i) | Object::Conn(i) | Object::Request(i) => i,
    }
}

fn v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(a) => a.to_ipv6_mapped(),
        IpAddr::V6(a) => a,
    }
}
