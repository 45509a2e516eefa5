//! The send queue: the stream's unacknowledged bytes, and the records they are cut into (Linux: the skbs of
//! `sk_write_queue` and `tcp_rtx_queue`).
//!
//! A record is what was or will be sent as one unit: up to a super-packet of many segments. Its boundaries decide where
//! PSH stands, what is retransmitted together and what a SACK can mark, so they are those Linux would choose.
//! Records lie in an arena and are found by position (binary search by sequence number); a doubly linked list through
//! them keeps the order in which they were last sent, which RACK walks (Linux: `tsorted_sent_queue`).

use super::lazy::Blank;
use super::write::RECORD_COST;
use crate::Instant;
use crate::buf::{ByteQueue, Pool};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use estab_proto::{SeqNum, TcpFlags};
use estab_wire::checksum::Sum;

/// No record.
const NIL: u32 = u32::MAX;

/// The state of a sent record (Linux: `TCPCB_…`, the table above `tcp_sacktag_write_queue`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tags(u8);

impl Tags {
    /// The receiver has it, out of order.
    pub(crate) const SACKED: Tags = Tags(1);
    /// Sent again, and that copy is believed to be under way.
    pub(crate) const RETRANS: Tags = Tags(2);
    /// Believed lost; with RETRANS: the original is.
    pub(crate) const LOST: Tags = Tags(4);
    /// Sent again at least once.
    pub(crate) const EVER_RETRANS: Tags = Tags(8);
    /// RETRANS or EVER_RETRANS (Linux: `TCPCB_RETRANS`).
    pub(crate) const ANY_RETRANS: Tags = Tags(2 | 8);

    /// At least one bit of `other` is set.
    pub(crate) const fn any(self, other: Tags) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn set(&mut self, other: Tags) {
        self.0 |= other.0;
    }

    pub(crate) fn clear(&mut self, other: Tags) {
        self.0 &= !other.0;
    }

    pub(crate) const fn union(self, other: Tags) -> Tags {
        Tags(self.0 | other.0)
    }
}

/// One record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seg {
    /// When it was last sent.
    pub(crate) sent: Instant,
    /// The delivery-rate snapshot of that moment: see `rate.rs`. `Instant::ZERO` in `delivered_at`: used up.
    pub(crate) first_tx: Instant,
    pub(crate) delivered_at: Instant,
    pub(crate) delivered: u32,
    /// Packets marked lost until then, and in flight with this one.
    pub(crate) lost: u32,
    pub(crate) tx_in_flight: u32,
    /// Sequence number of the first byte.
    pub(crate) seq: SeqNum,
    /// Bytes of payload.
    pub(crate) len: u32,
    next: u32,
    prev: u32,
    /// Payload bytes of each segment it is cut into.
    pub(crate) mss: u16,
    /// Segments it is cut into; 0: not decided yet.
    pub(crate) segs: u16,
    pub(crate) tags: Tags,
    pub(crate) fin: bool,
    pub(crate) psh: bool,
    /// Nothing may be appended (MSG_EOR).
    pub(crate) eor: bool,
    pub(crate) app_limited: bool,
    in_time: bool,
}

impl Seg {
    fn new(seq: SeqNum) -> Seg {
        Seg {
            sent: Instant::ZERO,
            first_tx: Instant::ZERO,
            delivered_at: Instant::ZERO,
            delivered: 0,
            lost: 0,
            tx_in_flight: 0,
            seq,
            len: 0,
            next: NIL,
            prev: NIL,
            mss: 0,
            segs: 0,
            tags: Tags::default(),
            fin: false,
            psh: false,
            eor: false,
            app_limited: false,
            in_time: false,
        }
    }

    /// The sequence number after its last byte (and FIN).
    pub(crate) fn end(&self) -> SeqNum {
        self.seq + self.len + u32::from(self.fin)
    }

    /// Cuts it into segments of `mss` bytes (Linux: `tcp_set_skb_tso_segs`).
    pub(crate) fn set_segs(&mut self, mss: u32) {
        self.mss = mss as u16;
        self.segs = if self.len <= mss {
            1
        } else {
            self.len.div_ceil(mss) as u16
        };
    }

    /// Bytes of its segments: all of one, or the MSS of many (Linux: `tcp_skb_seglen`).
    pub(crate) fn seg_len(&self) -> u32 {
        if self.segs <= 1 { self.len } else { u32::from(self.mss) }
    }

    /// Packets it counts as in flight.
    pub(crate) fn packets(&self) -> u32 {
        u32::from(self.segs)
    }
}

/// A record's name, which stays while records around it come and go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegId(u32);

/// The queue. While it is empty it holds no memory.
#[derive(Clone)]
pub(crate) struct SendQueue {
    bytes: ByteQueue,
    arena: Vec<Seg>,
    /// Names of the records in sequence order: the sent ones, then the others.
    order: VecDeque<u32>,
    /// How many of them were sent.
    sent: u32,
    /// The first of the free arena slots, linked by `next`, plus one; 0: none.
    free: u32,
    /// Ends of the list in order of sending, plus one; 0: empty.
    oldest: u32,
    newest: u32,
    /// What was decided to leave and waits for `Sender::poll`.
    pub(super) departures: VecDeque<Departure>,
    /// What those cost, bytes and records.
    waiting: u32,
}

impl Blank for SendQueue {
    fn blank() -> &'static SendQueue {
        static BLANK: SendQueue = SendQueue::new();
        &BLANK
    }
    fn fresh() -> SendQueue {
        SendQueue::new()
    }
}

/// A transmission that was decided on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Departure {
    pub(super) seq: SeqNum,
    pub(super) len: u32,
    pub(super) mss: u16,
    pub(super) urg_ptr: u16,
    pub(super) flags: TcpFlags,
    pub(super) kind: Kind,
    pub(super) ect: bool,
}

/// Why something leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Data,
    Retransmit,
    /// To provoke an ACK.
    Probe,
}

impl SendQueue {
    /// Records a queue kept for later may have room for.
    const SPARE_RECORDS: usize = 64;

    const fn new() -> SendQueue {
        SendQueue {
            bytes: ByteQueue::new(),
            arena: Vec::new(),
            order: VecDeque::new(),
            sent: 0,
            free: 0,
            oldest: 0,
            newest: 0,
            departures: VecDeque::new(),
            waiting: 0,
        }
    }

    /// An empty queue's beginnings again, with the room it had for records; false if that is much.
    pub(super) fn reset(&mut self) -> bool {
        self.arena.clear();
        (self.free, self.oldest, self.newest) = (0, 0, 0);
        self.arena.capacity() <= SendQueue::SPARE_RECORDS
    }

    /// Forgets everything, whether it was sent or not.
    pub(super) fn clear(&mut self, pool: &mut Pool) {
        self.bytes.clear(pool);
        self.order.clear();
        self.departures.clear();
        (self.sent, self.waiting) = (0, 0);
    }

    // --- the way out

    pub(super) fn depart(&mut self, departure: Departure) {
        self.waiting = self.waiting.saturating_add(departure.len + RECORD_COST);
        self.departures.push_back(departure);
    }

    pub(super) fn departed(&mut self) {
        self.departures.pop_front();
        if self.departures.is_empty() {
            self.waiting = 0;
        }
    }

    /// Bytes and records that were decided to leave since nothing waited.
    pub(super) fn waiting(&self) -> u32 {
        self.waiting
    }

    // --- the bytes

    /// Bytes not acknowledged.
    pub(crate) fn byte_len(&self) -> u32 {
        self.bytes.len() as u32
    }

    /// Copies bytes from `offset` after SND.UNA on; how many there were.
    pub(crate) fn copy_out(&self, offset: usize, out: &mut [u8]) -> usize {
        self.bytes.copy_out(offset, out)
    }

    /// [`Self::copy_out`] with the bytes' checksum.
    pub(crate) fn copy_out_sum(&self, offset: usize, out: &mut [u8]) -> (usize, Sum) {
        self.bytes.copy_out_sum(offset, out)
    }

    /// Has `fill` put up to `n` bytes behind the others, for [`Self::append_placed`]; how many it put there.
    pub(crate) fn place(&mut self, pool: &mut Pool, n: usize, fill: impl FnOnce(&mut [&mut [u8]]) -> usize) -> usize {
        self.bytes.fill(pool, n, fill)
    }

    /// Appends the next `n` bytes that [`Self::place`] took to the last record.
    pub(crate) fn append_placed(&mut self, n: usize) {
        self.bytes.advance(n);
        self.grow_tail(n);
    }

    /// `n` bytes from `offset` on, in place, as up to `out.len()` slices; how many were filled.
    pub(crate) fn slices<'a>(&'a self, offset: usize, n: usize, out: &mut [&'a [u8]]) -> usize {
        self.bytes.slices_of(offset, n, out)
    }

    /// Appends `data` to the last record.
    pub(crate) fn append(&mut self, pool: &mut Pool, data: &[u8]) {
        self.bytes.push(pool, data);
        self.grow_tail(data.len());
    }

    fn grow_tail(&mut self, n: usize) {
        if let Some(tail) = self.tail_mut() {
            tail.len += n as u32;
            tail.segs = 0;
        }
    }

    /// Forgets the first `n` bytes.
    pub(crate) fn consume(&mut self, pool: &mut Pool, n: usize) {
        self.bytes.consume(pool, n);
    }

    // --- the records by position

    /// Records in all.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Records sent and not acknowledged: positions `0..sent()`.
    pub(crate) fn sent(&self) -> usize {
        self.sent as usize
    }

    /// Some record was not sent yet.
    pub(crate) fn has_unsent(&self) -> bool {
        self.sent() < self.len()
    }

    /// The record at `position`, which must be less than `len()`.
    pub(crate) fn at(&self, position: usize) -> &Seg {
        &self.arena[self.order[position] as usize]
    }

    pub(crate) fn at_mut(&mut self, position: usize) -> &mut Seg {
        &mut self.arena[self.order[position] as usize]
    }

    /// The name of the record at `position`.
    pub(crate) fn id(&self, position: usize) -> SegId {
        SegId(self.order[position])
    }

    pub(crate) fn by_id(&self, id: SegId) -> &Seg {
        &self.arena[id.0 as usize]
    }

    pub(crate) fn by_id_mut(&mut self, id: SegId) -> &mut Seg {
        &mut self.arena[id.0 as usize]
    }

    /// The first sent record: what SND.UNA points into.
    pub(crate) fn head(&self) -> Option<&Seg> {
        (self.sent > 0).then(|| self.at(0))
    }

    /// The next record to send (Linux: `tcp_send_head`).
    pub(crate) fn send_head(&self) -> Option<&Seg> {
        self.has_unsent().then(|| self.at(self.sent()))
    }

    /// The last record, if it was not sent (Linux: `tcp_write_queue_tail`).
    pub(crate) fn tail(&self) -> Option<&Seg> {
        self.has_unsent().then(|| self.at(self.len() - 1))
    }

    pub(crate) fn tail_mut(&mut self) -> Option<&mut Seg> {
        if !self.has_unsent() {
            return None;
        }
        let position = self.len() - 1;
        Some(self.at_mut(position))
    }

    /// The position of the sent record that holds `seq`, or of the first one after it
    /// (Linux: `tcp_sacktag_bsearch`).
    pub(crate) fn find_sent(&self, seq: SeqNum) -> usize {
        let (mut low, mut high) = (0, self.sent());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.at(middle).end().at_or_before(seq) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    // --- changes

    fn alloc(&mut self, seg: Seg) -> u32 {
        match self.free {
            0 => {
                self.arena.push(seg);
                (self.arena.len() - 1) as u32
            }
            slot => {
                let id = slot - 1;
                self.free = self.arena[id as usize].next.wrapping_add(1);
                self.arena[id as usize] = seg;
                id
            }
        }
    }

    fn release(&mut self, id: u32) {
        self.unlink(SegId(id));
        self.arena[id as usize].next = self.free.wrapping_sub(1);
        self.free = id + 1;
    }

    /// A new, empty record at the end.
    pub(crate) fn push(&mut self, seq: SeqNum) -> &mut Seg {
        let id = self.alloc(Seg::new(seq));
        self.order.push_back(id);
        &mut self.arena[id as usize]
    }

    /// Removes the first record, which was acknowledged.
    pub(crate) fn pop_head(&mut self) {
        if let Some(id) = self.order.pop_front() {
            self.release(id);
            self.sent = self.sent.saturating_sub(1);
        }
    }

    /// Removes the record at `position`.
    pub(crate) fn remove(&mut self, position: usize) {
        if let Some(id) = self.order.remove(position) {
            self.release(id);
            if position < self.sent() {
                self.sent -= 1;
            }
        }
    }

    /// The send head becomes a sent record.
    pub(crate) fn advance(&mut self) {
        self.sent = (self.sent + 1).min(self.order.len() as u32);
    }

    /// Splits the record at `position` after `len` bytes of payload; both are cut into segments of `mss`
    /// bytes. PSH, FIN and EOR stay with the second (Linux: `tcp_fragment`, `tso_fragment`). The
    /// counters of packets are the caller's matter.
    #[inline(never)]
    pub(crate) fn split(&mut self, position: usize, len: u32, mss: u32) {
        let first_id = self.id(position);
        let first = self.by_id_mut(first_id);
        let mut second = *first;
        first.len = len;
        (first.psh, first.fin, first.eor) = (false, false, false);
        first.set_segs(mss);
        second.seq = first.end();
        second.len -= len;
        second.set_segs(mss);
        let linked = second.in_time;
        second.in_time = false;
        let id = self.alloc(second);
        self.order.insert(position + 1, id);
        if position < self.sent() {
            self.sent += 1;
            if linked {
                self.link_after(SegId(id), first_id);
            }
        }
    }

    /// Moves `n` bytes of payload from the record after `position` to the one there, all of it with its flags.
    /// The counters of packets are the caller's matter (Linux: `tcp_grow_skb`, `tcp_collapse_retrans`).
    #[inline(never)]
    pub(crate) fn take_from_next(&mut self, position: usize, n: u32) {
        let next = self.at_mut(position + 1);
        if n < next.len {
            next.seq += n;
            next.len -= n;
            self.at_mut(position).len += n;
            return;
        }
        let next = *next;
        let seg = self.at_mut(position);
        seg.len += next.len;
        seg.psh |= next.psh;
        seg.fin |= next.fin;
        seg.eor = next.eor;
        if next.tags.any(Tags::EVER_RETRANS) {
            seg.tags.set(Tags::EVER_RETRANS);
        }
        self.remove(position + 1);
    }

    // --- the order of sending

    /// The record that was sent longest ago.
    pub(crate) fn oldest(&self) -> Option<SegId> {
        self.oldest.checked_sub(1).map(SegId)
    }

    /// The record sent next after `id`.
    pub(crate) fn sent_after(&self, id: SegId) -> Option<SegId> {
        let next = self.by_id(id).next;
        (next != NIL).then_some(SegId(next))
    }

    /// `id` was sent just now.
    pub(crate) fn touch(&mut self, id: SegId) {
        self.unlink(id);
        let newest = self.newest;
        let seg = &mut self.arena[id.0 as usize];
        (seg.in_time, seg.next, seg.prev) = (true, NIL, newest.wrapping_sub(1));
        self.newest = id.0 + 1;
        match newest {
            0 => self.oldest = id.0 + 1,
            slot => self.arena[slot as usize - 1].next = id.0,
        }
    }

    fn link_after(&mut self, id: SegId, before: SegId) {
        let next = self.by_id(before).next;
        let seg = self.by_id_mut(id);
        (seg.in_time, seg.next, seg.prev) = (true, next, before.0);
        self.by_id_mut(before).next = id.0;
        if next == NIL {
            self.newest = id.0 + 1;
        } else {
            self.arena[next as usize].prev = id.0;
        }
    }

    /// Takes `id` out of the order of sending: it no longer matters when it was sent.
    pub(crate) fn unlink(&mut self, id: SegId) {
        let seg = self.by_id_mut(id);
        if !seg.in_time {
            return;
        }
        seg.in_time = false;
        let (prev, next) = (seg.prev, seg.next);
        if prev == NIL {
            self.oldest = next.wrapping_add(1);
        } else {
            self.arena[prev as usize].next = next;
        }
        if next == NIL {
            self.newest = prev.wrapping_add(1);
        } else {
            self.arena[next as usize].prev = prev;
        }
    }

    /// Bytes of memory held beside the struct.
    pub(crate) fn heap(&self) -> usize {
        self.bytes.truesize()
            + self.arena.capacity() * size_of::<Seg>()
            + self.order.capacity() * 4
            + self.departures.capacity() * size_of::<Departure>()
    }
}
