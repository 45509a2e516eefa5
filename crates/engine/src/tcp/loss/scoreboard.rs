//! What the receiver's SACK blocks tell of each record (RFC 2018, RFC 2883, RFC 6675 §3; Linux:
//! `tcp_sacktag_write_queue`), and how far apart the network reorders.

use super::{AckFlags, CaState, SackState};
use crate::env::Env;
use crate::tcp::cc::Lost;
use crate::tcp::snd::lazy::Blank;
use crate::tcp::snd::queue::Tags;
use crate::tcp::snd::{AckIn, Sender};
use estab_proto::{Counter, SeqNum};

/// The most SACK blocks a header holds.
const BLOCKS: usize = 4;

type Block = (SeqNum, SeqNum);

/// Counts of tagged packets, and what was seen of the receiver's queue; blank while nothing is missing.
#[derive(Clone, Debug)]
pub(crate) struct Scoreboard {
    /// Packets at the receiver out of order (without SACK: duplicate ACKs).
    pub(crate) sacked_out: u32,
    /// Packets believed lost.
    pub(crate) lost_out: u32,
    /// Retransmitted packets under way.
    pub(crate) retrans_out: u32,
    /// End of the highest SACKed record; valid while `sacked_out` is not 0.
    fack: SeqNum,
    /// Nothing to retransmit begins before.
    pub(crate) retransmit_hint: Option<SeqNum>,
    /// The blocks of the last ACK, in order: what they cover is tagged already.
    cache: [Block; BLOCKS],
    cached: u8,
}

impl Scoreboard {
    const fn new() -> Scoreboard {
        Scoreboard {
            sacked_out: 0,
            lost_out: 0,
            retrans_out: 0,
            fack: SeqNum(0),
            retransmit_hint: None,
            cache: [(SeqNum(0), SeqNum(0)); BLOCKS],
            cached: 0,
        }
    }
}

impl Blank for Scoreboard {
    fn blank() -> &'static Scoreboard {
        static BLANK: Scoreboard = Scoreboard::new();
        &BLANK
    }
    fn fresh() -> Scoreboard {
        Scoreboard::new()
    }
}

impl Sender {
    /// End of the highest SACKed data, or SND.UNA (Linux: `tcp_highest_sack_seq`).
    pub(crate) fn highest_sack(&self) -> SeqNum {
        if self.board.sacked_out == 0 {
            self.una
        } else {
            self.board.fack.max(self.una)
        }
    }

    /// Tags the records that an ACK's SACK blocks cover.
    #[inline(never)]
    pub(crate) fn sacktag(&mut self, env: &mut Env, ack: &AckIn<'_>, prior_una: SeqNum, st: &mut SackState) {
        st.reord = self.nxt;
        if self.board.sacked_out == 0 {
            self.board.fack = self.una;
        }
        let wire = &ack.sack[..ack.sack.len().min(BLOCKS)];
        let found_dup = self.check_dsack(env, ack.ack, wire, prior_una, st);
        // Far too old to tell anything true.
        if ack.ack.before(prior_una - self.max_wnd) || self.packets_out == 0 {
            return;
        }
        let (mut blocks, mut used, mut dup_at) = ([(self.una, self.una); BLOCKS], 0, None);
        for (i, block) in wire.iter().enumerate() {
            let dup = i == 0 && found_dup;
            if !self.is_block_valid(dup, *block) {
                let counter = match (dup, self.undo.marker) {
                    (true, None) => Counter::TcpExtTCPDSACKIgnoredNoUndo,
                    (true, Some(_)) => Counter::TcpExtTCPDSACKIgnoredOld,
                    // Old blocks of reordered ACKs are nothing to count.
                    (false, _) if ack.ack != self.una && !block.1.after(self.una) => continue,
                    (false, _) => Counter::TcpExtTCPSACKDiscard,
                };
                env.mib.inc(counter);
                continue;
            }
            if !block.1.after(prior_una) {
                continue;
            }
            blocks[used] = *block;
            if dup {
                dup_at = Some(used);
            }
            used += 1;
        }
        // In order, so that one walk does.
        for i in 1..used {
            let mut j = i;
            while j > 0 && blocks[j - 1].0.after(blocks[j].0) {
                blocks.swap(j - 1, j);
                dup_at = match dup_at {
                    Some(at) if at == j => Some(j - 1),
                    Some(at) if at == j - 1 => Some(j),
                    at => at,
                };
                j -= 1;
            }
        }
        self.tag_blocks(&blocks[..used], dup_at, st);
        self.board.cache = blocks;
        self.board.cached = used as u8;
        if self.state != CaState::Loss || self.undo.marker.is_some() {
            self.check_sack_reordering(env, st.reord, false);
        }
    }

    /// Walks the records under each block, leaving out what the last ACK's blocks covered.
    fn tag_blocks(&mut self, blocks: &[Block], dup_at: Option<usize>, st: &mut SackState) {
        let cache = self.board.cache;
        let cached = if self.board.sacked_out == 0 {
            0
        } else {
            self.board.cached as usize
        };
        let mut c = 0;
        for (i, &(start, end)) in blocks.iter().enumerate() {
            let dup = dup_at == Some(i);
            let next_dup = (dup_at == Some(i + 1)).then(|| blocks[i + 1]);
            let mut from = start;
            loop {
                while c < cached && from.at_or_after(cache[c].1) {
                    c += 1;
                }
                if c == cached || dup || !end.after(cache[c].0) {
                    self.tag_walk(from, next_dup, (start, end), dup, st);
                    break;
                }
                let (known_start, known_end) = cache[c];
                if from.before(known_start) {
                    self.tag_walk(from, next_dup, (start, known_start), dup, st);
                }
                if !end.after(known_end) {
                    break;
                }
                if let Some(dup_block) = next_dup.filter(|block| block.0.before(known_end)) {
                    self.tag_walk(dup_block.0, None, dup_block, true, st);
                }
                from = known_end;
                c += 1;
            }
        }
    }

    /// Tags the records from `from` on that lie in `block`; those in `next_dup` were received twice.
    fn tag_walk(&mut self, from: SeqNum, next_dup: Option<Block>, block: Block, dup: bool, st: &mut SackState) {
        let mut position = self.queue.find_sent(from);
        while position < self.queue.sent() && self.queue.at(position).seq.before(block.1) {
            let seq = self.queue.at(position).seq;
            let mut dup = dup;
            let mut covered = match next_dup.filter(|next| seq.before(next.1)) {
                Some(next) => self.match_to_block(position, next),
                None => Some(false),
            };
            if covered == Some(true) {
                dup = true;
            } else {
                covered = self.match_to_block(position, block);
            }
            match covered {
                None => break,
                Some(true) => self.tag_one(position, dup, st),
                Some(false) => {}
            }
            position += 1;
        }
    }

    /// Whether the record at `position` lies in `block`. A record of many segments is split so that its part does;
    /// `None`: the block ends within a segment.
    fn match_to_block(&mut self, position: usize, (start, end): Block) -> Option<bool> {
        let seg = self.queue.at(position);
        let (seq, len) = (seg.seq, seg.len);
        let mut covered = !start.after(seq) && !end.before(seg.end());
        if covered || seg.segs <= 1 || !seg.end().after(start) {
            return Some(covered);
        }
        let mss = u32::from(seg.mss);
        covered = !start.after(seq);
        let cut = if covered {
            let whole = end.since(seq) / mss * mss;
            if whole == 0 {
                return None;
            }
            whole.min(len)
        } else {
            start.since(seq).div_ceil(mss) * mss
        };
        if cut >= len && !covered {
            return Some(false);
        }
        self.fragment(position, cut, mss);
        Some(covered)
    }

    /// Tags one record as received out of order, `dup`: twice (Linux: `tcp_sacktag_one`).
    fn tag_one(&mut self, position: usize, dup: bool, st: &mut SackState) {
        let seg = *self.queue.at(position);
        let (seq, end, packets) = (seg.seq, seg.end(), seg.packets());
        let mut tags = seg.tags;
        if dup && tags.any(Tags::ANY_RETRANS) {
            self.undo.on_dsack(packets, end);
            if tags.any(Tags::SACKED) {
                st.reord = st.reord.min(seq);
            }
        }
        if !end.after(self.una) {
            return;
        }
        let board = &mut self.board;
        if !tags.any(Tags::SACKED) {
            if tags.any(Tags::RETRANS) {
                // Without LOST the retransmission is believed to be still under way.
                if tags.any(Tags::LOST) {
                    tags.clear(Tags::LOST.union(Tags::RETRANS));
                    board.lost_out = board.lost_out.saturating_sub(packets);
                    board.retrans_out = board.retrans_out.saturating_sub(packets);
                }
            } else {
                if !tags.any(Tags::ANY_RETRANS) {
                    let highest = if board.sacked_out == 0 { self.una } else { board.fack };
                    if seq.before(highest) {
                        st.reord = st.reord.min(seq);
                    }
                    if !end.after(self.high_seq) {
                        st.flags.set(AckFlags::ORIG_SACKED);
                    }
                    st.first.get_or_insert(seg.sent);
                    st.last = Some(seg.sent);
                }
                if tags.any(Tags::LOST) {
                    tags.clear(Tags::LOST);
                    board.lost_out = board.lost_out.saturating_sub(packets);
                }
            }
            tags.set(Tags::SACKED);
            st.flags.set(AckFlags::DATA_SACKED);
            board.sacked_out += packets;
            st.delivered += packets;
            st.sacked_bytes = st.sacked_bytes.wrapping_add(seg.len);
            self.rack_advance(st.now, &seg, seg.tags);
        }
        if dup && tags.any(Tags::RETRANS) {
            tags.clear(Tags::RETRANS);
            self.board.retrans_out = self.board.retrans_out.saturating_sub(packets);
        }
        self.queue.at_mut(position).tags = tags;
        let seg = *self.queue.at(position);
        if self.rate_delivered(&seg, &mut st.rate) {
            self.queue.at_mut(position).delivered_at = crate::Instant::ZERO;
        }
        if tags.any(Tags::SACKED) {
            let id = self.queue.id(position);
            self.queue.unlink(id);
        }
        if !seq.before(self.highest_sack()) {
            self.board.fack = end;
        }
    }

    /// Whether a block can be what the receiver holds; a DSACK may lie below SND.UNA, down to where undoing
    /// still matters (Linux: `tcp_is_sackblock_valid`).
    fn is_block_valid(&self, dup: bool, (start, end): Block) -> bool {
        if end.after(self.nxt) || !start.before(end) || !start.before(self.nxt) {
            return false;
        }
        if start.after(self.una) {
            return true;
        }
        let Some(marker) = self.undo.marker.filter(|_| dup) else {
            return false;
        };
        if end.after(self.una) {
            return false;
        }
        if !start.before(marker) {
            return true;
        }
        end.after(marker) && !start.before(end - self.max_wnd)
    }

    /// The first block tells of a duplicate: it lies below the ACK or within the second
    /// (RFC 2883; Linux: `tcp_check_dsack`, `tcp_dsack_seen`).
    fn check_dsack(
        &mut self,
        env: &mut Env,
        ack: SeqNum,
        blocks: &[Block],
        prior_una: SeqNum,
        st: &mut SackState,
    ) -> bool {
        let Some(&(start, end)) = blocks.first() else {
            return false;
        };
        let counter = if start.before(ack) {
            Counter::TcpExtTCPDSACKRecv
        } else {
            match blocks.get(1) {
                Some(second) if !end.after(second.1) && !start.before(second.0) => Counter::TcpExtTCPDSACKOfoRecv,
                _ => return false,
            }
        };
        env.mib.inc(counter);
        let Some(segments) = self.dsack_seen(start, end, st) else {
            env.mib.inc(Counter::TcpExtTCPDSACKIgnoredDubious);
            return false;
        };
        env.mib.add(Counter::TcpExtTCPDSACKRecvSegs, u64::from(segments));
        if !end.after(prior_una) {
            self.undo.on_dsack(segments, end);
        }
        true
    }

    /// How many segments a DSACK is about; `None`: it can't be true.
    fn dsack_seen(&mut self, start: SeqNum, end: SeqNum, st: &mut SackState) -> Option<u32> {
        let len = end.since(start);
        if len == 0 || len > self.max_wnd {
            return None;
        }
        let mss = u32::from(self.mss);
        let mut segments = 1;
        if len > mss {
            segments = len.div_ceil(mss);
        } else if self.tlp_high == Some(end) {
            st.flags.set(AckFlags::DSACK_TLP);
        }
        self.troubles.dsack_dups = self.troubles.dsack_dups.saturating_add(segments);
        if self.troubles.dsack_dups > self.troubles.retrans {
            return None;
        }
        if self.troubles.reord_seen > 0 && !st.flags.any(AckFlags::DSACK_TLP) {
            self.rack.dsack_seen = true;
        }
        st.flags.set(AckFlags::DSACKING);
        st.delivered += segments;
        Some(segments)
    }

    /// Something sent before `low` arrived later than the highest data SACKed: the network reorders by that
    /// distance (Linux: `tcp_check_sack_reordering`).
    pub(crate) fn check_sack_reordering(&mut self, env: &mut Env, low: SeqNum, by_timestamp: bool) {
        let highest = self.highest_sack();
        if !low.before(highest) {
            return;
        }
        let (distance, mss) = (highest.since(low), u32::from(self.mss));
        if u64::from(distance) > u64::from(self.reordering) * u64::from(mss) {
            self.reordering = distance.div_ceil(mss).min(env.sysctl.tcp_max_reordering);
        }
        self.troubles.reord_seen = self.troubles.reord_seen.saturating_add(1);
        env.mib.inc(if by_timestamp {
            Counter::TcpExtTCPTSReorder
        } else {
            Counter::TcpExtTCPSACKReorder
        });
    }

    /// Marks a record lost, and counts a retransmission of it that is lost too (Linux: `tcp_mark_skb_lost`).
    pub(crate) fn mark_lost(&mut self, env: &mut Env, id: crate::tcp::snd::queue::SegId) {
        let seg = self.queue.by_id(id);
        let (tags, packets, seq) = (seg.tags, seg.packets(), seg.seq);
        if tags.any(Tags::SACKED) {
            return;
        }
        let board = &mut self.board;
        let earlier = match board.retransmit_hint {
            None => board.retrans_out >= board.lost_out,
            Some(hint) => seq.before(hint),
        };
        if earlier {
            board.retransmit_hint = Some(seq);
        }
        if !tags.any(Tags::LOST) {
            board.lost_out += packets;
            self.queue.by_id_mut(id).tags.set(Tags::LOST);
        } else if tags.any(Tags::RETRANS) {
            board.retrans_out = board.retrans_out.saturating_sub(packets);
            self.queue.by_id_mut(id).tags.clear(Tags::RETRANS);
            env.mib.add(Counter::TcpExtTCPLostRetransmit, u64::from(packets));
        } else {
            return;
        }
        self.rate.lost = self.rate.lost.wrapping_add(packets);
        if self.cc.has_cong_control() {
            let seg = self.queue.by_id(id);
            let lost = Lost {
                packets,
                tx_in_flight: seg.tx_in_flight,
                since: self.rate.lost.wrapping_sub(seg.lost),
                app_limited: seg.app_limited,
            };
            self.cc_lost(env, &lost);
        }
    }
}
