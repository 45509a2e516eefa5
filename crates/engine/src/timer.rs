//! Every deadline of a stack: a hierarchical timing wheel with exact deadlines and O(1) set, re-arm and cancel.
//!
//! Eleven levels of 64 slots cover all 64 bits of nanoseconds. A timer lives on the level of the highest base-64 digit in
//! which its deadline differs from `elapsed`, in the slot of that digit; so the lowest occupied slot of the lowest occupied
//! level always holds the earliest deadline, and no slot ever wraps. Each slot knows a lower bound of its deadlines, and
//! when time reaches it `elapsed` jumps there and the slot's timers move down. Timers that are re-armed before they fire
//! (nearly all of TCP's) never move.
//!
//! Equal deadlines fire in the order they were set, so the same calls always give the same order.

use crate::Instant;
use alloc::vec;
use alloc::vec::Vec;

const LEVELS: usize = 11;
const SLOTS: usize = 64;
pub(crate) const NIL: u32 = u32::MAX;

/// Whose deadline it is: an index into the owner's table. Who leaves that table stops the timer first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TimerKey {
    /// A connection: it looks which of its deadlines have passed.
    Conn(u32),
    /// A row of half-open requests: see [`crate::rows`].
    Requests(u8),
    /// A half-open request that fits in no row.
    Request(u32),
    /// A row of TIME_WAIT entries.
    TimeWaits(u8),
    /// A TIME_WAIT entry that fits in no row.
    TimeWait(u32),
    /// An IP datagram that lacks fragments.
    Reassembly(u32),
    /// A neighbour entry.
    Neigh(u32),
    /// Something of which there are few; the number is its owner's.
    Misc(u8),
}

/// A [`TimerKey`] in 32 bits: three for the kind, 29 for the index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PackedKey(u32);

impl TimerKey {
    pub(crate) fn pack(self) -> PackedKey {
        let (kind, index) = match self {
            TimerKey::Conn(i) => (0, i),
            TimerKey::Requests(row) => (1, row.into()),
            TimerKey::Request(i) => (2, i),
            TimerKey::TimeWaits(row) => (3, row.into()),
            TimerKey::TimeWait(i) => (4, i),
            TimerKey::Reassembly(i) => (5, i),
            TimerKey::Neigh(i) => (6, i),
            TimerKey::Misc(n) => (7, n.into()),
        };
        debug_assert!(index < 1 << 29, "a table of half a billion");
        PackedKey(kind << 29 | index)
    }
}

impl PackedKey {
    pub(crate) fn unpack(self) -> TimerKey {
        let index = self.0 & 0x1fff_ffff;
        match self.0 >> 29 {
            0 => TimerKey::Conn(index),
            1 => TimerKey::Requests(index as u8),
            2 => TimerKey::Request(index),
            3 => TimerKey::TimeWaits(index as u8),
            4 => TimerKey::TimeWait(index),
            5 => TimerKey::Reassembly(index),
            6 => TimerKey::Neigh(index),
            _ => TimerKey::Misc(index as u8),
        }
    }
}

/// A place for one timer, kept by whoever owns the timer. It may be set, cancelled and set again at will; once the timer
/// has fired the handle is as good as new. Dropping it does not cancel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TimerHandle {
    pub(crate) index: u32,
    pub(crate) stamp: u32,
}

impl TimerHandle {
    /// A handle with no timer running.
    pub(crate) const NONE: TimerHandle = TimerHandle { index: NIL, stamp: 0 };
}

impl Default for TimerHandle {
    fn default() -> Self {
        TimerHandle::NONE
    }
}

/// One running timer; `stamp` 0 marks a free entry, whose `next` is the next free one. 24 bytes for [`PackedKey`].
#[derive(Clone)]
struct Entry<K> {
    at: u64,
    key: K,
    stamp: u32,
    next: u32,
    prev: u32,
}

const _: () = assert!(size_of::<Entry<PackedKey>>() == 24);

#[derive(Clone, Copy)]
struct Slot {
    head: u32,
    tail: u32,
    /// No deadline of the slot is earlier; exact until the earliest one is cancelled.
    min: u64,
}

const EMPTY: Slot = Slot {
    head: NIL,
    tail: NIL,
    min: u64::MAX,
};

/// The timing wheel. Times must not run backwards between calls of [`pop`](Self::pop).
#[derive(Clone)]
pub(crate) struct Wheel<K> {
    /// No timer set in the future of this moment lies before it.
    elapsed: u64,
    /// Bit n: level n has an occupied slot.
    levels: u16,
    occupied: [u64; LEVELS],
    slots: Vec<Slot>,
    entries: Vec<Entry<K>>,
    free: u32,
    running: u32,
    /// The last stamp given; stamps tell a running timer from an earlier one in the same entry.
    stamp: u32,
}

impl<K: Copy> Wheel<K> {
    pub(crate) fn new(now: Instant) -> Self {
        Wheel {
            elapsed: now.nanos(),
            levels: 0,
            occupied: [0; LEVELS],
            slots: vec![EMPTY; LEVELS * SLOTS],
            entries: Vec::new(),
            free: NIL,
            running: 0,
            stamp: 0,
        }
    }

    /// Starts the handle's timer, or moves it to a new deadline. A deadline in the past is due at once.
    pub(crate) fn set(&mut self, handle: &mut TimerHandle, at: Instant, key: K) {
        let at = at.nanos();
        if !self.is_set(*handle) {
            *handle = self.allocate(at, key);
            self.link(handle.index);
            return;
        }
        let (old, new) = (self.place(self.entries[handle.index as usize].at), self.place(at));
        // On level 0 the order within a slot is the order of firing.
        if old == new && old >= SLOTS {
            let entry = &mut self.entries[handle.index as usize];
            (entry.at, entry.key) = (at, key);
            let slot = &mut self.slots[old];
            slot.min = if slot.head == slot.tail { at } else { slot.min.min(at) };
        } else {
            self.unlink(handle.index);
            let entry = &mut self.entries[handle.index as usize];
            (entry.at, entry.key) = (at, key);
            self.link(handle.index);
        }
    }

    /// Stops the handle's timer, if it runs.
    pub(crate) fn cancel(&mut self, handle: &mut TimerHandle) {
        if self.is_set(*handle) {
            self.unlink(handle.index);
            self.release(handle.index);
        }
        *handle = TimerHandle::NONE;
    }

    /// The handle's timer runs: it was set and has neither fired nor been cancelled.
    pub(crate) fn is_set(&self, handle: TimerHandle) -> bool {
        handle.stamp != 0
            && self
                .entries
                .get(handle.index as usize)
                .is_some_and(|entry| entry.stamp == handle.stamp)
    }

    /// When the handle's timer fires.
    pub(crate) fn deadline(&self, handle: TimerHandle) -> Option<Instant> {
        self.is_set(handle)
            .then(|| Instant::from_nanos(self.entries[handle.index as usize].at))
    }

    /// A moment not later than the first deadline, nearly always equal to it: it is earlier only while a timer that was
    /// cancelled or re-armed shared a slot with later ones, and the `pop` at that moment repairs it.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.first().map(|slot| Instant::from_nanos(self.slots[slot].min))
    }

    /// Takes the next timer whose deadline is at or before `now`, in order of deadline, then of setting.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<K> {
        let now = now.nanos();
        while let Some(first) = self.first() {
            let Slot { mut head, min, .. } = self.slots[first];
            if min > now {
                // As far as `elapsed` can go without entering the slot: new timers then start on low levels.
                let (level, digit) = (first / SLOTS, (first % SLOTS) as u64);
                let above = if level + 1 < LEVELS {
                    u64::MAX << (6 * (level + 1))
                } else {
                    0
                };
                let start = (self.elapsed & above) | digit << (6 * level);
                self.elapsed = self.elapsed.max(now.min(start.saturating_sub(1)));
                return None;
            }
            self.elapsed = self.elapsed.max(min);
            if first < SLOTS {
                let key = self.entries[head as usize].key;
                self.unlink(head);
                self.release(head);
                return Some(key);
            }
            self.clear(first);
            while head != NIL {
                let next = self.entries[head as usize].next;
                self.link(head);
                head = next;
            }
        }
        self.elapsed = self.elapsed.max(now);
        None
    }

    /// The earliest occupied slot.
    fn first(&self) -> Option<usize> {
        let level = self.levels.trailing_zeros() as usize;
        (level < LEVELS).then(|| level * SLOTS + self.occupied[level].trailing_zeros() as usize)
    }

    /// The slot of a deadline, as long as `elapsed` stays.
    fn place(&self, at: u64) -> usize {
        let at = at.max(self.elapsed);
        let level = (63 - ((at ^ self.elapsed) | 1).leading_zeros() as usize) / 6;
        level * SLOTS + (at >> (6 * level)) as usize % SLOTS
    }

    fn link(&mut self, index: u32) {
        let at = self.entries[index as usize].at;
        let place = self.place(at);
        let slot = &mut self.slots[place];
        let tail = slot.tail;
        slot.tail = index;
        slot.min = slot.min.min(at);
        if tail == NIL {
            slot.head = index;
            self.occupied[place / SLOTS] |= 1 << (place % SLOTS);
            self.levels |= 1 << (place / SLOTS);
        } else {
            self.entries[tail as usize].next = index;
        }
        let entry = &mut self.entries[index as usize];
        (entry.prev, entry.next) = (tail, NIL);
    }

    fn unlink(&mut self, index: u32) {
        let Entry { at, prev, next, .. } = self.entries[index as usize];
        let place = self.place(at);
        if prev == NIL && next == NIL {
            self.clear(place);
            return;
        }
        match prev {
            NIL => self.slots[place].head = next,
            _ => self.entries[prev as usize].next = next,
        }
        match next {
            NIL => self.slots[place].tail = prev,
            _ => self.entries[next as usize].prev = prev,
        }
    }

    fn clear(&mut self, place: usize) {
        self.slots[place] = EMPTY;
        let level = place / SLOTS;
        self.occupied[level] &= !(1 << (place % SLOTS));
        if self.occupied[level] == 0 {
            self.levels &= !(1 << level);
        }
    }

    fn allocate(&mut self, at: u64, key: K) -> TimerHandle {
        self.stamp = self.stamp.checked_add(1).unwrap_or(1);
        self.running += 1;
        let entry = Entry {
            at,
            key,
            stamp: self.stamp,
            next: NIL,
            prev: NIL,
        };
        let index = self.free;
        if index == NIL {
            self.entries.push(entry);
            return TimerHandle {
                index: self.entries.len() as u32 - 1,
                stamp: self.stamp,
            };
        }
        self.free = self.entries[index as usize].next;
        self.entries[index as usize] = entry;
        TimerHandle {
            index,
            stamp: self.stamp,
        }
    }

    fn release(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        entry.stamp = 0;
        entry.next = self.free;
        self.free = index;
        self.running -= 1;
        // A burst's memory goes back once its last timer is gone.
        if self.running == 0 && self.entries.len() > 4096 {
            self.entries = Vec::new();
            self.free = NIL;
        }
    }
}

#[cfg(test)]
#[path = "timer/tests.rs"]
mod tests;
