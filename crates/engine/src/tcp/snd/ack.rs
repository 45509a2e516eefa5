//! What an acknowledgment does (RFC 9293 §3.10.7.4 "check the ACK field", RFC 5681; Linux: `tcp_ack`,
//! `tcp_clean_rtx_queue`).

use super::queue::Tags;
use super::rate::micros;
use super::{AckIn, AckOut, Nagle, Sender};
use crate::Instant;
use crate::drop::DropReason;
use crate::env::Env;
use crate::tcp::accecn::{AccEcn, Delivery, Feedback};
use crate::tcp::cc::AckSample;
use crate::tcp::loss::{AckFlags, CaState, Rexmit, SackState};
use estab_proto::{Counter, SeqNum};

/// RTTs that an ACK gives, in microseconds: of the first and the last record it acknowledges, and of the first
/// it SACKs.
#[derive(Clone, Copy, Default)]
struct RttSamples {
    seq_us: Option<u32>,
    sack_us: Option<u32>,
    last_us: Option<u32>,
}

impl Sender {
    /// An acceptable segment with ACK arrived: call once per segment, before its data is processed; then, when that is
    /// done, [`Self::push`].
    pub(crate) fn on_ack(
        &mut self,
        env: &mut Env,
        ack: &AckIn<'_>,
        accurate: Option<(&mut AccEcn, &Feedback)>,
    ) -> AckOut {
        let prior_una = self.una;
        let mut st = SackState {
            now: env.now,
            ..SackState::default()
        };
        self.undo.ts_ecr = ack.ts_ecr.unwrap_or(0);
        if ack.ack.before(prior_una) {
            return self.on_old_ack(env, ack, &mut st);
        }
        if ack.ack.after(self.nxt) {
            return AckOut {
                drop: Some(DropReason::TcpAckUnsentData),
                challenge: true,
                ..AckOut::default()
            };
        }
        let mut flags = AckFlags::default();
        let advanced = ack.ack.after(prior_una);
        if advanced {
            flags.set(AckFlags::UNA_ADVANCED);
            self.retransmits = 0;
        }
        if ack.has_data {
            flags.set(AckFlags::DATA);
        } else {
            env.mib.inc(
                if advanced && ack.window == self.wnd && ack.sack.is_empty() && !ack.ece {
                    Counter::TcpExtTCPHPAcks
                } else {
                    Counter::TcpExtTCPPureAcks
                },
            );
        }
        let prior_fack = if self.flags.sack_ok {
            self.highest_sack()
        } else {
            self.una
        };
        st.rate.prior_in_flight = self.in_flight();
        let (prior_packets, prior_delivered, prior_lost) = (self.packets_out, self.rate.delivered, self.rate.lost);
        let reneged = self.flags.reneged;
        if self.update_window(env, ack) {
            flags.set(AckFlags::WIN_UPDATE);
        }
        self.advance_una(env, ack.ack);
        if self.flags.sack_ok && !ack.sack.is_empty() {
            self.sacktag(env, ack, prior_una, &mut st);
            flags.set(st.flags);
        }
        if ack.ece && self.ecn.ok() {
            flags.set(AckFlags::ECE);
        }
        let ece = flags.any(AckFlags::ECE);
        if st.delivered > 0 {
            self.rate.count(st.delivered, ece);
        }
        self.probes_out = 0;
        self.last_ack = env.now_ms();
        let mut out = AckOut {
            fin_acked: self.fin_acked(),
            ..AckOut::default()
        };
        if prior_packets == 0 {
            let marks = accurate.map(|a| self.accurate_ecn(a, prior_delivered, prior_una, &st, &mut flags));
            if flags.any(AckFlags::DSACKING) {
                self.fastretrans_alert(env, prior_una, 0, &mut flags);
                let ece = flags.any(AckFlags::ECE);
                self.newly_delivered(env, prior_delivered, ece, marks);
            }
            self.ack_probe(env);
            self.process_tlp_ack(env, ack.ack, flags);
            self.settle(env);
            return out;
        }
        self.clean_rtx_queue(env, prior_fack, prior_una, ack, &mut flags, &mut st);
        self.rack_update_window(env, &st);
        let marks = accurate.map(|a| self.accurate_ecn(a, prior_delivered, prior_una, &st, &mut flags));
        let ece = flags.any(AckFlags::ECE);
        self.process_tlp_ack(env, ack.ack, flags);
        let dubious = !flags.any(AckFlags::NOT_DUP) || flags.any(AckFlags::ALERT) || self.state != CaState::Open;
        let mut rexmit = Rexmit::None;
        if dubious {
            let news = AckFlags::UNA_ADVANCED
                .union(AckFlags::NOT_DUP)
                .union(AckFlags::DSACKING);
            let dupacks = u32::from(!flags.any(news));
            rexmit = self.fastretrans_alert(env, prior_una, dupacks, &mut flags);
        }
        if flags.any(AckFlags::SET_TIMER) && !self.schedule_loss_probe(env, true) {
            self.rearm_rto(env);
        }
        out.progress = flags.any(AckFlags::PROGRESS) || !flags.any(AckFlags::NOT_DUP);
        let delivered = self.newly_delivered(env, prior_delivered, ece, marks);
        let losses = self.rate.lost.wrapping_sub(prior_lost);
        st.rate.ack_delayed = flags.any(AckFlags::MAYBE_DELAYED);
        st.rate.ece = ece;
        self.rate_gen(env, delivered, losses, reneged, &mut st.rate);
        self.cong_control(env, delivered, flags, &st);
        self.xmit_recovery(env, rexmit);
        self.settle(env);
        out
    }

    /// An ACK below SND.UNA: too old is discarded (RFC 5961 §5), else its SACK blocks still count.
    #[cold]
    fn on_old_ack(&mut self, env: &mut Env, ack: &AckIn<'_>, st: &mut SackState) -> AckOut {
        let old_window = u64::from(self.max_wnd).min(self.totals.bytes_acked) as u32;
        if ack.ack.before(self.una - old_window) {
            return AckOut {
                drop: Some(DropReason::TcpTooOldAck),
                challenge: true,
                ..AckOut::default()
            };
        }
        if self.flags.sack_ok && !ack.sack.is_empty() {
            let (prior_una, prior_delivered) = (self.una, self.rate.delivered);
            self.sacktag(env, ack, prior_una, st);
            let mut flags = st.flags;
            if st.delivered > 0 {
                self.rate.count(st.delivered, false);
            }
            let rexmit = self.fastretrans_alert(env, prior_una, 0, &mut flags);
            self.newly_delivered(env, prior_delivered, false, None);
            self.xmit_recovery(env, rexmit);
        }
        AckOut {
            old_ack: true,
            fin_acked: self.fin_acked(),
            ..AckOut::default()
        }
    }

    /// Takes SEG.WND if the segment is not older than the one that gave SND.WND (RFC 9293 §3.10.7.4;
    /// Linux: `tcp_ack_update_window`).
    fn update_window(&mut self, env: &Env, ack: &AckIn<'_>) -> bool {
        let newer = ack.ack.after(self.una)
            || ack.seq.after(self.wl1)
            || ack.seq == self.wl1 && (ack.window > self.wnd || ack.window == 0);
        if !newer {
            return false;
        }
        self.wl1 = ack.seq;
        if self.wnd != ack.window {
            self.wnd = ack.window;
            if self.queue.has_unsent() {
                self.idle_check(env);
            }
            if self.wnd > self.max_wnd {
                self.max_wnd = self.wnd;
                self.sync_mss();
            }
        }
        true
    }

    /// SND.WL1 follows a segment that changes nothing else here (Linux: `tcp_update_wl`).
    #[inline]
    pub(crate) fn update_wl(&mut self, seq: SeqNum) {
        self.wl1 = seq;
    }

    /// SND.UNA moves; the bytes before it are let go.
    pub(super) fn advance_una(&mut self, env: &mut Env, ack: SeqNum) {
        let covered = ack.since(self.una);
        if covered == 0 {
            return;
        }
        // The FIN has a sequence number but no byte.
        let bytes = covered.min(self.queue.byte_len());
        self.totals.bytes_acked += u64::from(covered);
        self.una = ack;
        self.queue.consume(&mut env.pool, bytes as usize);
        self.uncharge_bytes(bytes);
    }

    /// How many packets this ACK delivered; of which `marks` were marked, or with RFC 3168's `ece` all
    /// (Linux: `tcp_newly_delivered`).
    fn newly_delivered(&mut self, env: &mut Env, prior: u32, ece: bool, marks: Option<u32>) -> u32 {
        let delivered = self.rate.delivered.wrapping_sub(prior);
        env.mib.add(Counter::TcpExtTCPDelivered, u64::from(delivered));
        if ece {
            env.mib
                .add(Counter::TcpExtTCPDeliveredCE, u64::from(marks.unwrap_or(delivered)));
        }
        delivered
    }

    /// How many more packets were marked by what the peer counts; any is congestion (RFC 9768 §3.2;
    /// Linux: `tcp_accecn_process`).
    #[cold]
    fn accurate_ecn(
        &mut self,
        (accecn, feedback): (&mut AccEcn, &Feedback),
        prior_delivered: u32,
        prior_una: SeqNum,
        st: &SackState,
        flags: &mut AckFlags,
    ) -> u32 {
        let delivery = Delivery {
            progress: flags.any(AckFlags::PROGRESS),
            packets: self.rate.delivered.wrapping_sub(prior_delivered),
            bytes: self.una.since(prior_una).wrapping_add(st.sacked_bytes),
            marked: self.rate.delivered_ce,
            bytes_sent: self.totals.bytes_sent,
            mss: u32::from(self.mss),
            exact: self.flags.sack_ok || matches!(self.state, CaState::Open | CaState::Cwr),
        };
        let marks = accecn.new_marks(feedback, &delivery);
        if marks > 0 {
            self.count_marks(marks);
            flags.set(AckFlags::ECE);
        }
        marks
    }

    /// So many of our packets came marked.
    pub(crate) fn count_marks(&mut self, marks: u32) {
        self.rate.delivered_ce = self.rate.delivered_ce.wrapping_add(marks);
    }

    /// Packets of ours that came marked, as far as the peer has told.
    pub(crate) fn marked(&self) -> u32 {
        self.rate.delivered_ce
    }

    /// Removes the records that are acknowledged now, and measures the RTT on them.
    fn clean_rtx_queue(
        &mut self,
        env: &mut Env,
        prior_fack: SeqNum,
        prior_una: SeqNum,
        ack: &AckIn<'_>,
        flags: &mut AckFlags,
        st: &mut SackState,
    ) {
        let (prior_sacked, ece) = (self.board.sacked_out, flags.any(AckFlags::ECE));
        let mut reord = self.nxt;
        let (mut first, mut last): (Option<Instant>, Option<Instant>) = (None, None);
        let (mut packets, mut whole) = (0, true);
        while self.queue.sent() > 0 {
            let seg = *self.queue.at(0);
            let mut acked = seg.packets();
            if seg.end().after(self.una) {
                if seg.segs <= 1 || !self.una.after(seg.seq) {
                    break;
                }
                acked = self.tso_acked();
                if acked == 0 {
                    break;
                }
                whole = false;
            }
            if seg.tags.any(Tags::ANY_RETRANS) {
                if seg.tags.any(Tags::RETRANS) {
                    self.board.retrans_out = self.board.retrans_out.saturating_sub(acked);
                }
                flags.set(AckFlags::RETRANS_DATA_ACKED);
            } else if !seg.tags.any(Tags::SACKED) {
                first.get_or_insert(seg.sent);
                last = Some(seg.sent);
                reord = reord.min(seg.seq);
                if !seg.end().after(self.high_seq) {
                    flags.set(AckFlags::ORIG_SACKED);
                }
            }
            if seg.tags.any(Tags::SACKED) {
                self.board.sacked_out = self.board.sacked_out.saturating_sub(acked);
                st.sacked_bytes = st.sacked_bytes.wrapping_sub(self.una.min(seg.end()).since(seg.seq));
            } else if self.flags.sack_ok {
                self.rate.count(acked, ece);
                if !self.is_spurious(seg.tags, seg.sent.millis() as u32) {
                    self.rack_advance(st.now, &seg, seg.tags);
                }
            }
            if seg.tags.any(Tags::LOST) {
                self.board.lost_out = self.board.lost_out.saturating_sub(acked);
            }
            self.packets_out = self.packets_out.saturating_sub(acked);
            packets += acked;
            self.rate_delivered(&seg, &mut st.rate);
            flags.set(AckFlags::DATA_ACKED);
            if !whole {
                break;
            }
            if self.board.retransmit_hint == Some(seg.seq) {
                self.board.retransmit_hint = None;
            }
            self.queue.pop_head();
            self.uncharge_record();
        }
        self.chrono_if_idle(env);
        if self.urgent.between(prior_una, self.una) {
            self.urgent = self.una;
        }
        if self.queue.head().is_some_and(|head| head.tags.any(Tags::SACKED)) {
            flags.set(AckFlags::RENEGING);
        }
        let mut samples = RttSamples::default();
        if let (Some(first), Some(last)) = (first, last)
            && !flags.any(AckFlags::RETRANS_DATA_ACKED)
        {
            samples.seq_us = Some(micros(env.now, first));
            samples.last_us = Some(micros(env.now, last));
            let lone = packets == 1
                && whole
                && prior_sacked == 0
                && self.una.since(prior_una) < u32::from(self.mss)
                && st.rate.prior_delivered.wrapping_add(1) == self.rate.delivered;
            if lone && !flags.any(AckFlags::ALERT) {
                flags.set(AckFlags::MAYBE_DELAYED);
            }
        }
        if let (Some(first), Some(last)) = (st.first, st.last) {
            samples.sack_us = Some(micros(env.now, first));
            samples.last_us = Some(micros(env.now, last));
        }
        let measured = self.update_rtt(env, ack.ts_ecr, *flags, samples, st);
        if flags.any(AckFlags::DATA_ACKED) {
            flags.set(AckFlags::SET_TIMER);
            self.mtu_acked(env);
            if !self.flags.sack_ok {
                self.remove_reno_sacks(env, packets, ece);
                // Without SACK, what was not retransmitted may still have been acknowledged by a retransmission.
                if flags.any(AckFlags::RETRANS_DATA_ACKED) {
                    flags.clear(AckFlags::ORIG_SACKED);
                }
            } else if reord.before(prior_fack) {
                self.check_sack_reordering(env, reord, false);
            }
        } else if let (Some(head), Some(sack_us), true) = (self.queue.head(), samples.sack_us, measured) {
            // Only if it was measured on data sent after the first record was: else recovery would put the timeout off
            // for ever.
            if sack_us > micros(env.now, head.sent) {
                flags.set(AckFlags::SET_TIMER);
            }
        }
        self.cc_pkts_acked(env, &AckSample { rtt_us: st.rate.rtt_us });
    }

    /// Part of the first record, which is of many segments, was acknowledged: whole segments of it go
    /// (Linux: `tcp_tso_acked`).
    #[cold]
    fn tso_acked(&mut self) -> u32 {
        let seg = self.queue.at_mut(0);
        let before = seg.packets();
        let n = self.una.since(seg.seq).min(seg.len);
        seg.seq += n;
        seg.len -= n;
        seg.set_segs(u32::from(seg.mss));
        before - seg.packets().min(before)
    }

    pub(super) fn chrono_if_idle(&mut self, env: &Env) {
        if self.queue.sent() == 0 {
            self.chrono_stop(env, super::chrono::Why::Busy);
        }
    }

    /// Prefers times of our own to timestamps echoed; what was retransmitted gives none but by timestamps
    /// (Karn; RFC 6298 §3, RFC 7323 §4.1; Linux: `tcp_ack_update_rtt`).
    fn update_rtt(
        &mut self,
        env: &Env,
        ts_ecr: Option<u32>,
        flags: AckFlags,
        samples: RttSamples,
        st: &mut SackState,
    ) -> bool {
        let mut last_us = samples.last_us;
        let mut seq_us = samples.seq_us.or(samples.sack_us);
        if seq_us.is_none()
            && flags.any(AckFlags::DATA_ACKED)
            && let Some(ecr) = ts_ecr.filter(|ecr| *ecr != 0)
        {
            let ms = env.now_ms().wrapping_sub(ecr);
            if ms < i32::MAX as u32 / 1000 {
                seq_us = Some((ms * 1000).max(1000));
                last_us = seq_us;
            }
        }
        st.rate.rtt_us = last_us;
        let (Some(seq_us), Some(last_us)) = (seq_us, last_us) else {
            return false;
        };
        // A lone small segment's ACK was perhaps delayed: it says nothing of the least RTT.
        if !flags.any(AckFlags::MAYBE_DELAYED) || last_us <= self.rtt.min() {
            self.rtt.min_sample(last_us, env.now_ms(), &env.sysctl);
        }
        self.rtt.sample(seq_us, self.una, self.nxt, &env.sysctl);
        true
    }

    /// The window grows, or follows PRR (Linux: `tcp_cong_control`).
    fn cong_control(&mut self, env: &mut Env, delivered: u32, flags: AckFlags, st: &SackState) {
        if self.cc.has_cong_control() {
            return self.cc_cong_control(env, &st.rate);
        }
        if self.in_cwnd_reduction() {
            self.cwnd_reduction(delivered, st.rate.losses, flags);
        } else {
            // Where much is reordered, any delivery counts; else only in order.
            let news = if self.reordering > env.sysctl.tcp_reordering {
                AckFlags::PROGRESS
            } else {
                AckFlags::DATA_ACKED
            };
            if flags.any(news) {
                self.cc_cong_avoid(env, delivered);
                self.cwnd.stamp = env.now_ms();
            }
        }
        self.update_pacing_rate(env);
    }

    /// Sends what recovery decided on (Linux: `tcp_xmit_recovery`).
    #[inline(never)]
    fn xmit_recovery(&mut self, env: &mut Env, rexmit: Rexmit) {
        match rexmit {
            Rexmit::None => return,
            Rexmit::New => {
                self.push_pending_as(env, Nagle::OFF);
                if self.nxt.after(self.high_seq) {
                    return;
                }
                self.flags.frto = false;
            }
            Rexmit::Lost => {}
        }
        self.xmit_retransmit_queue(env);
    }
}
