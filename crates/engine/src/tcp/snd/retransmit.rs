//! Sending again (Linux: `tcp_retransmit_skb`, `tcp_xmit_retransmit_queue`, `tcp_retrans_try_collapse`).

use super::Sender;
use super::queue::{Kind, Tags};
use crate::env::Env;
use crate::tcp::loss::CaState;
use estab_proto::Counter;

impl Sender {
    /// Retransmits what is marked lost, as far as the congestion window allows (Linux: `tcp_xmit_retransmit_queue`).
    #[cold]
    pub(crate) fn xmit_retransmit_queue(&mut self, env: &mut Env) {
        if self.packets_out == 0 {
            return;
        }
        let max_segs = self.tso_segs(env, self.current_mss());
        let mut hole = false;
        let mut rearm = false;
        let mut position = self.board.retransmit_hint.map_or(0, |seq| self.queue.find_sent(seq));
        while position < self.queue.sent() {
            if self.pacing_holds(env) || self.small_queue_is_full(env) {
                break;
            }
            let seg = self.queue.at(position);
            let tags = seg.tags;
            if !hole {
                self.board.retransmit_hint = Some(seg.seq);
            }
            let quota = self.cwnd.window.saturating_sub(self.in_flight()).min(max_segs);
            if quota == 0 || self.board.retrans_out >= self.board.lost_out {
                break;
            }
            if !tags.any(Tags::LOST) {
                hole |= !tags.any(Tags::RETRANS.union(Tags::SACKED));
            } else if !tags.any(Tags::SACKED.union(Tags::RETRANS)) {
                let counter = if self.state == CaState::Loss {
                    Counter::TcpExtTCPSlowStartRetrans
                } else {
                    Counter::TcpExtTCPFastRetrans
                };
                if !self.retransmit(env, position, quota) {
                    break;
                }
                let packets = self.queue.at(position).packets();
                env.mib.add(counter, u64::from(packets));
                if self.in_cwnd_reduction() {
                    self.prr.out += packets;
                }
                rearm |= position == 0 && !self.timer.is_reorder();
            }
            position += 1;
        }
        if rearm {
            self.set_timer_rto(env);
        }
    }

    /// Sends the record at `position` again, at most `segs` segments of it, and counts it as a retransmission under
    /// way (Linux: `tcp_retransmit_skb`). False if the window does not let it.
    pub(crate) fn retransmit(&mut self, env: &mut Env, position: usize, segs: u32) -> bool {
        let sent = self.retransmit_again(env, position, segs);
        let seg = self.queue.at_mut(position);
        let packets = seg.packets();
        // After an undo and a timeout it may count as retransmitted already.
        if sent && !seg.tags.any(Tags::RETRANS) {
            seg.tags.set(Tags::RETRANS);
            self.board.retrans_out += packets;
        }
        self.undo.on_retransmit(env, packets);
        sent
    }

    /// Sends the record at `position` again (Linux: `__tcp_retransmit_skb`).
    pub(crate) fn retransmit_again(&mut self, env: &mut Env, position: usize, segs: u32) -> bool {
        self.mtu_inconclusive();
        self.trim_head(position);
        let mss = self.current_mss();
        let seg = *self.queue.at(position);
        let mut room = self.window_end().since(seg.seq);
        if room == 0 {
            // The window shrank: only the first segment goes, as a probe.
            if seg.seq != self.una {
                return false;
            }
            room = mss;
        }
        let mut len = mss.saturating_mul(segs);
        if len > room {
            len = match room / mss * mss {
                0 => room,
                whole => whole,
            };
        }
        if seg.len > len {
            self.fragment(position, len, mss);
        } else {
            let before = seg.packets();
            let seg = self.queue.at_mut(position);
            seg.set_segs(mss);
            let (after, len) = (seg.packets(), seg.len);
            self.adjust_packets(position, before, after);
            let room = room.min(mss);
            if len < room && env.sysctl.tcp_retrans_collapse != 0 {
                self.collapse(position, room);
            }
        }
        let seg = self.queue.at(position);
        let (packets, len) = (seg.packets(), seg.len);
        env.mib.add(Counter::TcpRetransSegs, u64::from(packets));
        self.troubles.retrans = self.troubles.retrans.wrapping_add(packets);
        self.troubles.bytes_retrans += u64::from(len);
        let sent = self.send_record(env, position, Kind::Retransmit);
        if !sent {
            env.mib.add(Counter::TcpExtTCPRetransFail, u64::from(packets));
        }
        self.queue.at_mut(position).tags.set(Tags::EVER_RETRANS);
        sent
    }

    /// What was acknowledged of the record at `position` is left out (Linux: `tcp_trim_head`).
    pub(super) fn trim_head(&mut self, position: usize) {
        let una = self.una;
        let seg = self.queue.at_mut(position);
        let n = una.since(seg.seq).min(seg.len);
        if n == 0 {
            return;
        }
        let before = seg.packets();
        seg.seq += n;
        seg.len -= n;
        if seg.segs > 1 {
            seg.set_segs(u32::from(seg.mss));
        }
        let after = seg.packets();
        self.adjust_packets(position, before, after);
    }

    /// Splits a sent record and keeps the packet counters right (Linux: `tcp_fragment`).
    pub(crate) fn fragment(&mut self, position: usize, len: u32, mss: u32) {
        let seg = self.queue.at(position);
        if len == 0 || len > seg.len || len == seg.len && !seg.fin {
            return;
        }
        let before = seg.packets();
        self.queue.split(position, len, mss.max(1));
        self.charge_record();
        let after = self.queue.at(position).packets() + self.queue.at(position + 1).packets();
        self.adjust_packets(position, before, after);
    }

    /// The record at `position` counts as `after` packets now, not `before` (Linux: `tcp_adjust_pcount`).
    fn adjust_packets(&mut self, position: usize, before: u32, after: u32) {
        if before == after {
            return;
        }
        let tags = self.queue.at(position).tags;
        let change = |count: &mut u32| *count = (*count + after).saturating_sub(before);
        change(&mut self.packets_out);
        if tags.any(Tags::SACKED) {
            change(&mut self.board.sacked_out);
        }
        if tags.any(Tags::RETRANS) {
            change(&mut self.board.retrans_out);
        }
        if tags.any(Tags::LOST) {
            change(&mut self.board.lost_out);
        }
        if !self.flags.sack_ok && before > after {
            self.board.sacked_out = self.board.sacked_out.saturating_sub(before - after);
        }
    }

    /// A short record takes in the short ones after it, as far as `room` bytes: fewer packets
    /// (Linux: `tcp_retrans_try_collapse`, `tcp_collapse_retrans`).
    fn collapse(&mut self, position: usize, mut room: u32) {
        let end = self.window_end();
        let first = self.queue.at(position);
        if first.segs > 1 || first.tags.any(Tags::SACKED) {
            return;
        }
        room -= first.len;
        while position + 1 < self.queue.sent() {
            let (seg, next) = (self.queue.at(position), *self.queue.at(position + 1));
            if seg.eor || next.segs > 1 || next.tags.any(Tags::SACKED) || next.len > room || next.end().after(end) {
                break;
            }
            room -= next.len;
            self.adjust_packets(position + 1, next.packets(), 0);
            self.queue.take_from_next(position, next.len);
            self.uncharge_record();
        }
    }
}
