//! Byte queues: a stream's bytes between the packets and the application.
//!
//! A queue is a row of chunks. All but the first hold [`LARGE`] bytes, so any offset is found at once; the first is
//! [`SMALL`] where little was written, now and the time before. An empty queue holds no memory: its chunks go back to the stack's [`Pool`], from
//! which the next queue takes them, so that a stack at work allocates nothing per packet.
//!
//! Beyond its readable bytes a queue may hold bytes that came early, already at their final place
//! ([`ByteQueue::write_at`]): when the gap closes they become readable without another copy.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use estab_wire::checksum::{self, Sum};

/// The first chunk's size where the first write is no longer than it.
pub(crate) const SMALL: usize = 2 * 1024;
/// The size of all other chunks.
pub(crate) const LARGE: usize = 16 * 1024;

/// The most slices that [`ByteQueue::fill`] shows.
const PARTS: usize = 17;

/// How many free chunks a pool keeps: 1 MiB of each size.
const KEEP_SMALL: usize = (1 << 20) / SMALL;
const KEEP_LARGE: usize = (1 << 20) / LARGE;
const KEEP_ROWS: usize = 64;

/// How a protocol stands with its memory, of which `tcp_mem` sets the marks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) enum Memory {
    /// Buffers may grow.
    #[default]
    Plenty,
    /// Above the second mark: no buffer grows (Linux: `tcp_under_memory_pressure`).
    Pressure,
    /// Above the third: nothing new is queued where something is queued already.
    Exhausted,
}

type Chunk = Option<Box<[u8]>>;

/// Free chunks, the last one freed on top.
#[derive(Clone, Default)]
pub(crate) struct Pool {
    small: Vec<Box<[u8]>>,
    large: Vec<Box<[u8]>>,
    /// Room for rows of chunks.
    rows: Vec<VecDeque<Chunk>>,
}

impl Pool {
    fn take(&mut self, size: usize) -> Box<[u8]> {
        let free = if size == SMALL {
            &mut self.small
        } else {
            &mut self.large
        };
        free.pop().unwrap_or_else(|| vec![0; size].into_boxed_slice())
    }

    fn give(&mut self, chunk: Chunk) {
        let Some(chunk) = chunk else { return };
        let (free, keep) = if chunk.len() == SMALL {
            (&mut self.small, KEEP_SMALL)
        } else {
            (&mut self.large, KEEP_LARGE)
        };
        if free.len() < keep {
            free.push(chunk);
        }
    }
}

/// A queue of bytes. Dropping it frees its chunks; [`clear`](Self::clear) keeps them in the pool.
#[derive(Clone, Default)]
pub(crate) struct ByteQueue {
    /// `None` in a queue that isn't empty: nothing has been written there yet.
    first: Chunk,
    rest: VecDeque<Chunk>,
    /// Of an empty queue: `LARGE` if it held more than `SMALL` before.
    first_size: u32,
    /// The first readable byte's place in the first chunk.
    head: u32,
    len: u32,
    /// How far from the first readable byte anything was written; `len` where nothing came early.
    extent: u32,
}

impl ByteQueue {
    pub(crate) const fn new() -> Self {
        ByteQueue {
            first: None,
            rest: VecDeque::new(),
            first_size: 0,
            head: 0,
            len: 0,
            extent: 0,
        }
    }

    /// Readable bytes.
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// Nothing is readable (bytes that came early may be there).
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory the queue holds.
    pub(crate) fn truesize(&self) -> usize {
        let first = self.first.as_ref().map_or(0, |chunk| chunk.len());
        first + self.rest.iter().flatten().count() * LARGE
    }

    /// Appends `data`.
    pub(crate) fn push(&mut self, pool: &mut Pool, data: &[u8]) {
        self.write(pool, self.len as usize, data, |to, from| to.copy_from_slice(from));
        self.advance(data.len());
    }

    /// Counts `n` bytes readable that are not here: whoever has them says by [`keep`](Self::keep) which of them are to be, before
    /// anything is read. Of an empty queue in which nothing came early.
    pub(crate) fn lend(&mut self, n: usize) {
        debug_assert_eq!(self.extent, 0);
        self.begin(0, n);
        (self.len, self.extent) = (n as u32, n as u32);
    }

    /// Of the bytes that were lent, those from `offset` on.
    pub(crate) fn keep(&mut self, pool: &mut Pool, offset: usize, data: &[u8]) {
        self.write(pool, offset, data, |to, from| to.copy_from_slice(from));
    }

    /// Has `fill` put bytes after the last readable one, into as much of `n` bytes of room as [`PARTS`] slices hold; it returns
    /// how many it put there. They stay unreadable until [`advance`](Self::advance). Nothing may have come early.
    pub(crate) fn fill(&mut self, pool: &mut Pool, n: usize, fill: impl FnOnce(&mut [&mut [u8]]) -> usize) -> usize {
        debug_assert_eq!(self.extent, self.len);
        if n == 0 {
            return 0;
        }
        self.begin(self.len(), n);
        let (first, start) = self.locate((self.head + self.len) as usize);
        let (mut index, mut from, mut left) = (first, start, n);
        while left > 0 && index < first + PARTS {
            left -= left.min(self.chunk(pool, index).len() - from);
            (index, from) = (index + 1, 0);
        }
        let room = n - left;
        let mut parts: [&mut [u8]; PARTS] = core::array::from_fn(|_| &mut [][..]);
        let chunks = core::iter::once(&mut self.first)
            .chain(&mut self.rest)
            .skip(first)
            .flatten();
        let (mut from, mut left, mut count) = (start, room, 0);
        for (part, chunk) in parts.iter_mut().zip(chunks) {
            let n = left.min(chunk.len() - from);
            *part = &mut chunk[from..from + n];
            (left, from, count) = (left - n, 0, count + 1);
            if left == 0 {
                break;
            }
        }
        let filled = fill(&mut parts[..count]).min(room);
        self.extent += filled as u32;
        self.trim(pool);
        filled
    }

    /// Writes bytes that belong `offset` bytes after the first readable one, at or beyond the end of the readable ones.
    /// They stay unreadable until [`advance`](Self::advance).
    pub(crate) fn write_at(&mut self, pool: &mut Pool, offset: usize, data: &[u8]) {
        debug_assert!(offset >= self.len());
        self.write(pool, offset, data, |to, from| to.copy_from_slice(from));
    }

    /// Forgets what came early at `offset` and beyond.
    pub(crate) fn forget_early(&mut self, pool: &mut Pool, offset: usize) {
        self.extent = self.extent.min(offset as u32).max(self.len);
        self.trim(pool);
    }

    /// Makes the next `n` bytes, which were written by [`write_at`](Self::write_at), readable.
    pub(crate) fn advance(&mut self, n: usize) {
        self.len = (self.len + n as u32).min(self.extent);
    }

    /// Gives back the chunks beyond the extent.
    fn trim(&mut self, pool: &mut Pool) {
        if self.extent == 0 {
            return self.clear(pool);
        }
        let (last, _) = self.locate((self.head + self.extent) as usize - 1);
        while self.rest.len() > last {
            pool.give(self.rest.pop_back().flatten());
        }
    }

    /// Removes the first `n` readable bytes.
    pub(crate) fn consume(&mut self, pool: &mut Pool, n: usize) {
        let n = n.min(self.len()) as u32;
        self.len -= n;
        self.extent -= n;
        self.head += n;
        if self.extent == 0 {
            let much = self.head as usize > SMALL;
            self.clear(pool);
            self.first_size = if much { LARGE } else { SMALL } as u32;
            return;
        }
        while self.head >= self.first_size {
            pool.give(self.first.take());
            self.head -= self.first_size;
            self.first = self.rest.pop_front().flatten();
            self.first_size = LARGE as u32;
        }
    }

    /// Removes everything.
    pub(crate) fn clear(&mut self, pool: &mut Pool) {
        pool.give(self.first.take());
        if self.rest.capacity() > 0 {
            let mut row = core::mem::take(&mut self.rest);
            row.drain(..).for_each(|chunk| pool.give(chunk));
            if pool.rows.len() < KEEP_ROWS && row.capacity() <= KEEP_LARGE {
                pool.rows.push(row);
            }
        }
        (self.first_size, self.head, self.len, self.extent) = (0, 0, 0, 0);
    }

    /// Copies readable bytes from `offset` on into `out`; how many there were.
    pub(crate) fn copy_out(&self, offset: usize, out: &mut [u8]) -> usize {
        self.read(offset, out, |to, from| to.copy_from_slice(from))
    }

    /// Copies readable bytes from `offset` on into `out`: how many there were, and their checksum, made in the same pass.
    pub(crate) fn copy_out_sum(&self, offset: usize, out: &mut [u8]) -> (usize, Sum) {
        let mut sum = Sum::new();
        let n = self.read(offset, out, |to, from| sum.add(checksum::copy_and_sum(to, from)));
        (n, sum)
    }

    /// The readable bytes in place, in order, as up to `out.len()` slices; how many were filled.
    pub(crate) fn slices<'a>(&'a self, out: &mut [&'a [u8]]) -> usize {
        self.slices_of(0, self.len(), out)
    }

    /// [`slices`](Self::slices) of up to `n` readable bytes from `offset` on.
    pub(crate) fn slices_of<'a>(&'a self, offset: usize, n: usize, out: &mut [&'a [u8]]) -> usize {
        let mut left = n.min(self.len().saturating_sub(offset));
        let (index, mut from) = self.locate(self.head as usize + offset);
        let chunks = core::iter::once(&self.first).chain(&self.rest).skip(index).flatten();
        let mut filled = 0;
        for (chunk, slot) in chunks.zip(out) {
            let n = left.min(chunk.len() - from);
            if n == 0 {
                break;
            }
            *slot = &chunk[from..from + n];
            (left, from, filled) = (left - n, 0, filled + 1);
        }
        filled
    }

    /// The chunk at a distance from the start of the first one, and the place within it.
    fn locate(&self, place: usize) -> (usize, usize) {
        match place.checked_sub(self.first_size as usize) {
            None => (0, place),
            Some(beyond) => (1 + beyond / LARGE, beyond % LARGE),
        }
    }

    /// Before `n` bytes are written at `offset`: an empty queue chooses the size of its first chunk.
    fn begin(&mut self, offset: usize, n: usize) {
        if self.extent == 0 {
            let small = offset + n <= SMALL && self.first_size != LARGE as u32;
            self.first_size = if small { SMALL } else { LARGE } as u32;
        }
    }

    /// The chunk at a place in the row, taken from the pool if there was none.
    fn chunk(&mut self, pool: &mut Pool, index: usize) -> &mut [u8] {
        let (chunk, size) = match index {
            0 => (&mut self.first, self.first_size as usize),
            _ => {
                if self.rest.capacity() == 0 {
                    self.rest = pool.rows.pop().unwrap_or_default();
                }
                if self.rest.len() < index {
                    self.rest.resize_with(index, || None);
                }
                (&mut self.rest[index - 1], LARGE)
            }
        };
        chunk.get_or_insert_with(|| pool.take(size))
    }

    fn write(&mut self, pool: &mut Pool, offset: usize, mut data: &[u8], mut copy: impl FnMut(&mut [u8], &[u8])) {
        if data.is_empty() {
            return;
        }
        self.begin(offset, data.len());
        self.extent = self.extent.max((offset + data.len()) as u32);
        let (mut index, mut from) = self.locate(self.head as usize + offset);
        while !data.is_empty() {
            let chunk = &mut self.chunk(pool, index)[from..];
            let (now, later) = data.split_at(data.len().min(chunk.len()));
            copy(&mut chunk[..now.len()], now);
            (data, index, from) = (later, index + 1, 0);
        }
    }

    fn read(&self, offset: usize, out: &mut [u8], mut copy: impl FnMut(&mut [u8], &[u8])) -> usize {
        let total = out.len().min(self.len().saturating_sub(offset));
        let (mut index, mut from) = self.locate(self.head as usize + offset);
        let mut done = 0;
        while done < total {
            let chunk = if index == 0 { &self.first } else { &self.rest[index - 1] };
            let Some(chunk) = chunk else { break };
            let n = (total - done).min(chunk.len() - from);
            copy(&mut out[done..done + n], &chunk[from..from + n]);
            (done, index, from) = (done + n, index + 1, 0);
        }
        done
    }
}

#[cfg(test)]
mod tests;
