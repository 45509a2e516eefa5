//! Deadlines of many small objects, in rows: what is given the same time from its start on ends in the order of the starts, so a
//! row is a list in the objects themselves, and only its first deadline stands in the wheel. A deadline that would break
//! its row's order goes to the wheel alone.
//!
//! Deadlines are kept in microseconds, rounded up.

use crate::Instant;
use crate::timer::{NIL, PackedKey, TimerHandle, TimerKey, Wheel};

/// From here on a [`Place`]'s neighbours are no indices: the first and the last of row `n` have `EDGE + n` beside them.
const EDGE: u32 = 0xffff_ff00;
/// It stands in the wheel.
const WHEEL: u32 = u32::MAX - 1;
/// A row is no longer than this, in microseconds: 32 bits tell its deadlines apart.
const SPAN: u64 = 1 << 31;

/// Where an object's deadline stands: kept by the object, written by [`Rows`]. One that has none may be dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// The deadline's low 32 bits; in the wheel the timer's stamp.
    at: u32,
    /// In the wheel the timer's index.
    next: u32,
    prev: u32,
}

impl Place {
    /// No deadline.
    pub(crate) const NONE: Place = Place {
        at: 0,
        next: NIL,
        prev: NIL,
    };

    /// When the deadline is.
    pub(crate) fn deadline(self, wheel: &Wheel<PackedKey>, now: Instant) -> Option<Instant> {
        if let Some(timer) = self.timer() {
            return wheel.deadline(timer);
        }
        let from_now = self.at.wrapping_sub(now.micros() as u32) as i32;
        let at = now.micros().saturating_add_signed(from_now.into());
        (self.prev != NIL).then_some(Instant::from_micros(at))
    }

    fn timer(self) -> Option<TimerHandle> {
        (self.prev == WHEEL).then_some(TimerHandle {
            index: self.next,
            stamp: self.at,
        })
    }
}

impl Default for Place {
    fn default() -> Self {
        Place::NONE
    }
}

/// The table the objects stand in.
pub(crate) trait Places {
    /// Where the deadline of an object that is there stands.
    fn place(&mut self, index: u32) -> &mut Place;
}

#[derive(Clone, Copy)]
struct Row {
    first: u32,
    last: u32,
    /// Their deadlines, in microseconds.
    first_at: u64,
    last_at: u64,
    /// Fires at the first deadline, or earlier: it stays when the first goes.
    timer: TimerHandle,
}

/// `N` rows, one for each time that objects are given.
#[derive(Clone)]
pub(crate) struct Rows<const N: usize> {
    rows: [Row; N],
    /// The wheel's key of a row.
    key: fn(u8) -> TimerKey,
}

impl<const N: usize> Rows<N> {
    pub(crate) fn new(key: fn(u8) -> TimerKey) -> Rows<N> {
        let row = Row {
            first: NIL,
            last: NIL,
            first_at: 0,
            last_at: 0,
            timer: TimerHandle::NONE,
        };
        Rows { rows: [row; N], key }
    }

    /// Gives an object a deadline, or another one, at the end of row `row` if it fits there. `own`: what fires if it
    /// doesn't.
    pub(crate) fn set(
        &mut self,
        wheel: &mut Wheel<PackedKey>,
        places: &mut impl Places,
        index: u32,
        at: Instant,
        (row, own): (usize, TimerKey),
    ) {
        self.cancel(wheel, places, index);
        let us = at.nanos().div_ceil(1000);
        let line = &mut self.rows[row];
        let edge = EDGE + row as u32;
        let empty = line.first == NIL;
        if !empty && (us < line.last_at || us - line.first_at >= SPAN) {
            let mut timer = TimerHandle::NONE;
            wheel.set(&mut timer, at, own.pack());
            *places.place(index) = Place {
                at: timer.stamp,
                next: timer.index,
                prev: WHEEL,
            };
            return;
        }
        let prev = if empty { edge } else { line.last };
        *places.place(index) = Place {
            at: us as u32,
            next: edge,
            prev,
        };
        (line.last, line.last_at) = (index, us);
        if empty {
            (line.first, line.first_at) = (index, us);
            self.arm(wheel, row);
        } else {
            places.place(prev).next = index;
        }
    }

    /// Takes an object's deadline away, if it has one.
    pub(crate) fn cancel(&mut self, wheel: &mut Wheel<PackedKey>, places: &mut impl Places, index: u32) {
        let place = core::mem::take(places.place(index));
        match place.timer() {
            Some(mut timer) => wheel.cancel(&mut timer),
            None if place.prev != NIL => self.unlink(places, place),
            None => {}
        }
    }

    /// Takes the next object of row `row` whose deadline has passed.
    pub(crate) fn pop(&mut self, places: &mut impl Places, row: u8, now: Instant) -> Option<u32> {
        let line = self.rows.get(usize::from(row))?;
        let (index, due) = (line.first, line.first_at * 1000 <= now.nanos());
        if index == NIL || !due {
            return None;
        }
        let place = core::mem::take(places.place(index));
        self.unlink(places, place);
        Some(index)
    }

    /// Sets the wheel's timer for the row's first deadline, unless one fires earlier anyway: after each time it has fired.
    pub(crate) fn arm(&mut self, wheel: &mut Wheel<PackedKey>, row: usize) {
        let line = &mut self.rows[row];
        let at = Instant::from_micros(line.first_at);
        if line.first != NIL && wheel.deadline(line.timer).is_none_or(|armed| armed > at) {
            wheel.set(&mut line.timer, at, (self.key)(row as u8).pack());
        }
    }

    /// Takes the object that stood at `place` out of its row.
    fn unlink(&mut self, places: &mut impl Places, place: Place) {
        let (first, last) = (place.prev >= EDGE, place.next >= EDGE);
        if !first {
            places.place(place.prev).next = place.next;
        }
        if !last {
            places.place(place.next).prev = place.prev;
        }
        let after = |earlier: u32, later: u32| u64::from(later.wrapping_sub(earlier));
        if first && last {
            self.rows[(place.prev - EDGE) as usize].first = NIL;
        } else if first {
            let line = &mut self.rows[(place.prev - EDGE) as usize];
            line.first_at += after(place.at, places.place(place.next).at);
            line.first = place.next;
        } else if last {
            let line = &mut self.rows[(place.next - EDGE) as usize];
            line.last_at -= after(places.place(place.prev).at, place.at);
            line.last = place.prev;
        }
    }
}

#[cfg(test)]
mod tests;
