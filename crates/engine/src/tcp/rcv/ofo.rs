//! Data that came too early, and the SACK and DSACK blocks that tell of it (RFC 2018, RFC 2883).
//!
//! The bytes stand in the byte queue at their final place; here are only the ranges they cover. A FIN counts as a byte.

use super::*;
use alloc::collections::VecDeque;
use estab_proto::SeqNum;

/// More ranges than a window of losses makes; a peer that makes more is playing.
const MAX_RANGES: usize = 4096;
/// Blocks remembered (Linux: TCP_NUM_SACKS).
const MAX_SACKS: usize = 4;
/// Blocks that merged ACKs may leave unsaid (Linux: TCP_SACK_BLOCKS_EXPECTED).
const SACKS_EXPECTED: usize = 2;

/// A range of sequence numbers: first, and one after the last.
type Block = (SeqNum, SeqNum);

/// SACK blocks for one segment, as they go into the option: a DSACK first, then the most recent first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Sacks {
    blocks: [Block; MAX_SACKS],
    len: u8,
}

impl Sacks {
    pub(crate) fn as_slice(&self) -> &[(SeqNum, SeqNum)] {
        &self.blocks[..self.len as usize]
    }
}

/// What a receiver keeps only while data is out of order or a DSACK waits.
#[derive(Clone, Default)]
pub(super) struct Ofo {
    /// Disjoint, not adjacent, ascending, all beyond RCV.NXT.
    ranges: VecDeque<Block>,
    /// Sequence numbers in the ranges.
    covered: u32,
    /// The FIN's sequence number, the last of some range.
    fin: Option<SeqNum>,
    dsack: Option<Block>,
    /// The most recent first.
    sacks: [Block; MAX_SACKS],
    sack_count: u8,
}

impl Ofo {
    fn sacks(&self) -> &[Block] {
        &self.sacks[..self.sack_count as usize]
    }

    pub(super) fn highest_sack(&self) -> Option<SeqNum> {
        self.sacks().iter().map(|block| block.1).reduce(SeqNum::max)
    }

    /// A FIN and nothing else.
    pub(super) fn is_bare_fin(&self) -> bool {
        self.fin.is_some() && self.covered == 1
    }

    /// The end of the last range.
    pub(super) fn end(&self) -> Option<SeqNum> {
        self.ranges.back().map(|range| range.1)
    }

    /// Payload bytes in the ranges.
    pub(super) fn bytes(&self) -> usize {
        self.covered.saturating_sub(self.fin.is_some() as u32) as usize
    }

    pub(super) fn truesize(&self) -> usize {
        size_of::<Ofo>() + self.ranges.capacity() * size_of::<Block>()
    }

    /// The ranges that touch or overlap the block, as indices.
    fn touching(&self, (start, end): Block) -> core::ops::Range<usize> {
        // Nearly always the block goes to the end.
        let from = match self.ranges.back() {
            Some(last) if last.1.before(start) => self.ranges.len(),
            _ => self.ranges.partition_point(|range| range.1.before(start)),
        };
        let beyond = self
            .ranges
            .range(from..)
            .take_while(|range| range.0.at_or_before(end))
            .count();
        from..from + beyond
    }

    /// Linux: `tcp_sack_new_ofo_skb`; true if the block is so far back in the list that merged ACKs must leave now.
    fn add_sack(&mut self, block: Block) -> bool {
        let count = self.sack_count as usize;
        let at = self.sacks[..count]
            .iter_mut()
            .position(|sack| extend(sack, block))
            .unwrap_or_else(|| {
                let at = count.min(MAX_SACKS - 1);
                self.sacks[at] = block;
                self.sack_count = at as u8 + 1;
                // Far back in Linux's count even where it takes the last one's place.
                if count == MAX_SACKS { MAX_SACKS } else { at }
            });
        let urgent = at >= SACKS_EXPECTED;
        self.sacks[..=at.min(MAX_SACKS - 1)].rotate_right(1);
        let (first, others) = self.sacks[..self.sack_count as usize].split_at_mut(1);
        let mut kept = 0;
        for i in 0..others.len() {
            if !extend(&mut first[0], others[i]) {
                others[kept] = others[i];
                kept += 1;
            }
        }
        self.sack_count = kept as u8 + 1;
        urgent
    }

    /// Blocks that RCV.NXT has passed are said (Linux: `tcp_sack_remove`).
    fn drop_sacks(&mut self, rcv_nxt: SeqNum) {
        let mut kept = 0;
        if !self.ranges.is_empty() {
            for i in 0..self.sack_count as usize {
                if rcv_nxt.before(self.sacks[i].0) {
                    self.sacks[kept] = self.sacks[i];
                    kept += 1;
                }
            }
        }
        self.sack_count = kept as u8;
    }
}

/// Widens `block` by one that touches it (Linux: `tcp_sack_extend`).
fn extend(block: &mut Block, by: Block) -> bool {
    let touches = by.0.at_or_before(block.1) && block.0.at_or_before(by.1);
    if touches {
        *block = (block.0.min(by.0), block.1.max(by.1));
    }
    touches
}

impl Receiver {
    pub(super) fn ofo_is_empty(&self) -> bool {
        self.ofo.as_ref().is_none_or(|ofo| ofo.ranges.is_empty())
    }

    /// A block for the next ACK's DSACK (Linux: `tcp_dsack_set`).
    #[cold]
    pub(super) fn dsack_set(&mut self, cx: &mut Cx, seq: SeqNum, end_seq: SeqNum) {
        if !self.flags.has(Flags::SACK) || cx.sysctl.tcp_dsack == 0 {
            return;
        }
        cx.mib.inc(if seq.before(self.rcv_nxt) {
            Counter::TcpExtTCPDSACKOldSent
        } else {
            Counter::TcpExtTCPDSACKOfoSent
        });
        self.ofo.get_or_insert_default().dsack = Some((seq, end_seq));
    }

    /// Linux: `tcp_dsack_extend`.
    fn dsack_extend(&mut self, cx: &mut Cx, seq: SeqNum, end_seq: SeqNum) {
        match self.ofo.as_mut().and_then(|ofo| ofo.dsack.as_mut()) {
            Some(dsack) => _ = extend(dsack, (seq, end_seq)),
            None => self.dsack_set(cx, seq, end_seq),
        }
    }

    pub(super) fn clear_dsack(&mut self) {
        if let Some(ofo) = &mut self.ofo {
            ofo.dsack = None;
            self.forget_idle_ofo();
        }
    }

    #[inline(never)]
    fn forget_idle_ofo(&mut self) {
        if self
            .ofo
            .as_ref()
            .is_some_and(|ofo| ofo.ranges.is_empty() && ofo.dsack.is_none())
        {
            self.ofo = None;
        }
    }

    /// The blocks for a segment that leaves now, at most `room` of them; a DSACK is said once.
    #[inline(never)]
    pub(crate) fn take_sacks(&mut self, room: usize) -> Sacks {
        let mut sacks = Sacks::default();
        if let Some(ofo) = self.ofo.as_mut().filter(|_| room > 0) {
            let dsack = ofo.dsack.take();
            let blocks = dsack.iter().chain(ofo.sacks()).take(room.min(MAX_SACKS));
            for (slot, block) in sacks.blocks.iter_mut().zip(blocks) {
                *slot = *block;
                sacks.len += 1;
            }
            self.forget_idle_ofo();
        }
        sacks
    }

    /// [`take_sacks`](Self::take_sacks) may have something to give.
    #[inline]
    pub(crate) fn may_sack(&self) -> bool {
        self.ofo.is_some()
    }

    /// How many blocks [`take_sacks`](Self::take_sacks) would give, for sizing a segment that carries data too.
    pub(crate) fn sack_count(&self) -> usize {
        self.ofo.as_ref().map_or(0, |ofo| {
            (ofo.sack_count as usize + ofo.dsack.is_some() as usize).min(MAX_SACKS)
        })
    }

    /// Data beyond RCV.NXT (Linux: `tcp_data_queue_ofo`).
    #[cold]
    pub(super) fn queue_out_of_order(&mut self, cx: &mut Cx, seg: &DataIn) -> DataOut {
        let drop = |reason| DataOut {
            drop: Some(reason),
            ..DataOut::default()
        };
        self.check_ce(seg.ecn);
        let fits = self.make_room(cx, seg.seq);
        let sack_ok = self.flags.has(Flags::SACK);
        let block = (seg.seq, seg.end_seq());
        let ofo = self.ofo.get_or_insert_default();
        let at = ofo.touching(block);
        let full = ofo.ranges.len() >= MAX_RANGES && at.is_empty();
        if !fits || full {
            cx.mib.inc(Counter::TcpExtTCPOFODrop);
            self.forget_idle_ofo();
            return drop(DropReason::ProtoMem);
        }
        self.schedule_ack();
        self.measure_mss(seg);
        self.ooo_packets += seg
            .gso_size
            .map_or(1, |size| seg.payload.len().div_ceil(usize::from(size.max(1))) as u32);
        cx.mib.inc(Counter::TcpExtTCPOFOQueue);

        // What of it was here already.
        let mut merged = block;
        let (mut covered, mut replaced) = (false, 0);
        for i in at.clone() {
            let Some(range) = self.ofo.as_ref().map(|ofo| ofo.ranges[i]) else {
                break;
            };
            let overlap = (range.0.max(block.0), range.1.min(block.1));
            covered = overlap == block;
            if overlap.0.before(overlap.1) {
                self.dsack_extend(cx, overlap.0, overlap.1);
                if !covered {
                    self.uncharge_twice(overlap.1.since(overlap.0), overlap == range, self.held());
                }
            }
            merged = (merged.0.min(range.0), merged.1.max(range.1));
            replaced += range.1.since(range.0);
        }
        let held = self.held();
        if !covered {
            let offset = self.queue.len() + block.0.since(self.rcv_nxt) as usize;
            self.queue.write_at(cx.pool, offset, seg.payload);
        }
        let ofo = self.ofo.get_or_insert_default();
        if !covered {
            let fin_seq = block.1 - 1;
            let taken = at.clone().any(|i| ofo.ranges[i].1.after(fin_seq));
            if seg.flags.contains(TcpFlags::FIN) && ofo.fin.is_none() && !taken {
                ofo.fin = Some(fin_seq);
            }
            ofo.ranges.drain(at.clone());
            ofo.ranges.insert(at.start, merged);
            ofo.covered += merged.1.since(merged.0) - replaced;
        }
        let urgent = sack_ok && ofo.add_sack(block);
        if urgent {
            self.send_compressed(cx);
        }
        if covered {
            cx.mib.inc(Counter::TcpExtTCPOFOMerge);
            return drop(DropReason::TcpOfomerge);
        }
        if sack_ok {
            // Without SACK the window stays, so that duplicate ACKs are seen as such.
            self.grow_window(cx, seg.payload.len());
        }
        if self.held() > held {
            self.charge(seg.payload.len());
        }
        if seg.held {
            self.rcvbuf_grow(cx, self.space);
        }
        DataOut::default()
    }

    /// Of `overlap` bytes that came again, older packets are freed where all of them came again: of `whole` ranges, or as
    /// many full segments as fit.
    fn uncharge_twice(&mut self, overlap: u32, whole: bool, held: usize) {
        let partial = if whole {
            0
        } else {
            overlap % u32::from(self.rcv_mss).max(1)
        };
        self.uncharge((overlap - partial) as usize, held);
    }

    /// RCV.NXT has moved: what is now in order becomes readable (Linux: `tcp_ofo_queue`). Gives the bytes, and whether
    /// the FIN was reached.
    #[cold]
    pub(super) fn drain_ofo(&mut self, cx: &mut Cx) -> (u32, bool) {
        let (mut readable, mut fin) = (0, false);
        let (gap, passed) = (!self.ofo_is_empty(), self.rcv_nxt);
        while let Some(ofo) = self.ofo.as_mut() {
            let Some((start, end)) = ofo
                .ranges
                .front()
                .copied()
                .filter(|range| range.0.at_or_before(self.rcv_nxt))
            else {
                break;
            };
            self.tailroom = 0;
            ofo.ranges.pop_front();
            ofo.covered -= end.since(start);
            let fin_seq = ofo.fin.filter(|fin| fin.at_or_after(start) && fin.before(end));
            if fin_seq.is_some() {
                ofo.fin = None;
            }
            if start.before(passed) {
                let overlap = end.min(passed).since(start);
                self.uncharge_twice(
                    overlap,
                    end.at_or_before(passed),
                    self.held() + end.since(start) as usize,
                );
                self.dsack_extend(cx, start, end.min(passed));
            }
            let data_end = fin_seq.unwrap_or(end);
            let new = data_end.since(self.rcv_nxt);
            self.queue.advance(new as usize);
            self.rcv_nxt += new;
            readable += new;
            if fin_seq == Some(self.rcv_nxt) {
                fin = true;
                self.take_fin(cx);
                break;
            }
        }
        if gap && self.ofo_is_empty() {
            // RFC 5681 §4.2: an ACK at once when the gap is filled.
            self.pending |= delack::ACK_NOW;
        }
        if let Some(ofo) = &mut self.ofo {
            ofo.drop_sacks(self.rcv_nxt);
            self.forget_idle_ofo();
        }
        (readable, fin)
    }

    /// Nothing follows a FIN.
    pub(super) fn purge_ofo(&mut self, cx: &mut Cx) {
        if let Some(ofo) = &mut self.ofo {
            let bytes = ofo.bytes();
            ofo.ranges.clear();
            ofo.covered = 0;
            ofo.sack_count = 0;
            ofo.fin = None;
            self.forget_idle_ofo();
            let held = self.queue.len() + bytes;
            self.uncharge(bytes, held);
            self.queue.forget_early(cx.pool, self.queue.len());
        }
    }

    /// Throws away the highest ranges, but none before `seq`, until the rest fits; the peer must send them again, so
    /// the SACK blocks go too (Linux: `tcp_prune_ofo_queue`).
    pub(super) fn prune_ofo(&mut self, cx: &mut Cx, seq: SeqNum) {
        let mut pruned = false;
        while self.charged > self.rcvbuf {
            let held = self.held();
            let Some(ofo) = self.ofo.as_mut() else { break };
            let Some(range) = ofo.ranges.pop_back_if(|range| seq.at_or_before(range.0)) else {
                break;
            };
            if ofo.fin.is_some_and(|fin| fin.at_or_after(range.0)) {
                ofo.fin = None;
            }
            cx.mib.drop(DropReason::TcpOfoQueuePrune);
            pruned = true;
            let left = self.held();
            self.uncharge(held - left, held);
            self.queue
                .forget_early(cx.pool, self.queue.len() + range.0.since(self.rcv_nxt) as usize);
        }
        if pruned {
            cx.mib.inc(Counter::TcpExtOfoPruned);
            if let Some(ofo) = &mut self.ofo {
                ofo.sack_count = 0;
            }
            self.forget_idle_ofo();
        }
    }
}
