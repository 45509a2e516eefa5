//! Undoing a reduction that was needless: timestamps (Eifel, RFC 3522, RFC 4015) or DSACKs (RFC 3708) show that
//! nothing was lost (Linux: `tcp_may_undo`, `tcp_try_undo_…`).

use super::rack::PERSIST;
use super::{AckFlags, CaState};
use crate::env::Env;
use crate::tcp::snd::Sender;
use crate::tcp::snd::queue::Tags;
use estab_proto::{Counter, SeqNum};

/// What must be shown for a recovery to be undone.
#[derive(Clone, Debug)]
pub(crate) struct Undo {
    /// SND.UNA when the recovery began; `None`: it can't be undone any more.
    pub(crate) marker: Option<SeqNum>,
    /// Retransmissions that no DSACK has proven needless yet; -1: there were none.
    pub(crate) retrans: i32,
    /// Milliseconds of the recovery's first retransmission (the timestamp it carried); 0: none.
    pub(crate) retrans_stamp: u32,
    /// TSecr of the ACK being processed; 0: it has none.
    pub(crate) ts_ecr: u32,
}

impl Default for Undo {
    fn default() -> Undo {
        Undo {
            marker: None,
            retrans: -1,
            retrans_stamp: 0,
            ts_ecr: 0,
        }
    }
}

impl Undo {
    /// A recovery begins at `una` (Linux: `tcp_init_undo`).
    pub(crate) fn begin(&mut self, una: SeqNum, retrans_out: u32) {
        self.marker = Some(una);
        self.retrans = if retrans_out > 0 { retrans_out as i32 } else { -1 };
    }

    /// `packets` were sent again.
    pub(crate) fn on_retransmit(&mut self, env: &Env, packets: u32) {
        if self.retrans_stamp == 0 {
            self.retrans_stamp = env.now_ms().max(1);
        }
        self.retrans = self.retrans.max(0).saturating_add(packets as i32);
    }

    /// A DSACK shows that `packets` that end at `end` were sent again needlessly.
    pub(crate) fn on_dsack(&mut self, packets: u32, end: SeqNum) {
        if self.retrans > 0 && self.marker.is_some_and(|marker| end.after(marker)) {
            self.retrans = self.retrans.saturating_sub(packets as i32).max(0);
        }
    }

    /// The ACK echoes a timestamp from before `stamp` (Linux: `tcp_tsopt_ecr_before`).
    fn echoes_before(&self, stamp: u32) -> bool {
        self.ts_ecr != 0 && (self.ts_ecr.wrapping_sub(stamp) as i32) < 0
    }
}

impl Sender {
    /// The ACK answers an original transmission (Linux: `tcp_packet_delayed`).
    pub(crate) fn packet_delayed(&self) -> bool {
        if self.undo.retrans_stamp != 0 {
            return self.undo.echoes_before(self.undo.retrans_stamp);
        }
        // Nothing was retransmitted yet. Without SACK the stamp may have been cleared: that proves nothing.
        self.flags.sack_ok || self.una.before(self.high_seq)
    }

    /// The record's retransmission was needless: the ACK echoes an earlier timestamp
    /// (Linux: `tcp_skb_spurious_retrans`).
    pub(crate) fn is_spurious(&self, tags: Tags, sent_ms: u32) -> bool {
        tags.any(Tags::ANY_RETRANS) && self.undo.echoes_before(sent_ms)
    }

    fn may_undo(&self) -> bool {
        self.undo.marker.is_some() && (self.undo.retrans == 0 || self.packet_delayed())
    }

    /// Some record in flight was sent again (Linux: `tcp_any_retrans_done`).
    pub(crate) fn any_retrans_done(&self) -> bool {
        self.board.retrans_out > 0 || self.queue.head().is_some_and(|head| head.tags.any(Tags::EVER_RETRANS))
    }

    /// What comes next is timed and undone by its own first retransmission, where none is under way
    /// (Linux: `tcp_retrans_stamp_cleanup`).
    pub(crate) fn forget_old_retransmissions(&mut self) {
        if !self.any_retrans_done() {
            self.undo.retrans_stamp = 0;
        }
    }

    /// The window returns to what it was (Linux: `tcp_undo_cwnd_reduction`).
    fn undo_cwnd_reduction(&mut self, env: &Env, unmark_lost: bool) {
        if unmark_lost {
            for position in 0..self.queue.sent() {
                self.queue.at_mut(position).tags.clear(Tags::LOST);
            }
            self.board.lost_out = 0;
            self.board.retransmit_hint = None;
        }
        if self.cwnd.prior_ssthresh != 0 {
            self.cwnd.window = self.cc_undo_cwnd(env);
            if self.cwnd.prior_ssthresh > self.cwnd.ssthresh {
                self.cwnd.ssthresh = self.cwnd.prior_ssthresh;
                self.ecn.withdraw_cwr();
            }
        }
        self.cwnd.stamp = env.now_ms();
        self.undo.marker = None;
        self.rack.advanced = true;
    }

    /// Without SACK, the old state is held until something above the recovery point is acknowledged: else
    /// late duplicate ACKs would start it again (RFC 6582 §3.2; Linux: `tcp_is_non_sack_preventing_reopen`).
    fn prevents_reopen(&mut self) -> bool {
        if self.una != self.high_seq || self.flags.sack_ok {
            return false;
        }
        self.forget_old_retransmissions();
        true
    }

    /// The recovery point is acknowledged: undo if it was all needless, and open again. True: not yet
    /// (Linux: `tcp_try_undo_recovery`).
    pub(crate) fn try_undo_recovery(&mut self, env: &mut Env) -> bool {
        if self.may_undo() {
            env.mib.inc(if self.state == CaState::Loss {
                Counter::TcpExtTCPLossUndo
            } else {
                Counter::TcpExtTCPFullUndo
            });
            self.undo_cwnd_reduction(env, false);
        } else {
            self.rack.persist = self.rack.persist.saturating_sub(1);
        }
        if self.prevents_reopen() {
            return true;
        }
        self.set_ca_state(env, CaState::Open);
        self.flags.reneged = false;
        false
    }

    /// DSACKs cover every retransmission (Linux: `tcp_try_undo_dsack`).
    pub(crate) fn try_undo_dsack(&mut self, env: &mut Env) -> bool {
        if self.undo.marker.is_none() || self.undo.retrans != 0 {
            return false;
        }
        self.rack.persist = (self.rack.persist + 1).min(PERSIST);
        self.undo_cwnd_reduction(env, false);
        env.mib.inc(Counter::TcpExtTCPDSACKUndo);
        true
    }

    /// A timeout was needless, by F-RTO or by timestamps (Linux: `tcp_try_undo_loss`).
    pub(crate) fn try_undo_loss(&mut self, env: &mut Env, by_frto: bool) -> bool {
        if !by_frto && !self.may_undo() {
            return false;
        }
        self.undo_cwnd_reduction(env, true);
        env.mib.inc(Counter::TcpExtTCPLossUndo);
        if by_frto {
            env.mib.inc(Counter::TcpExtTCPSpuriousRTOs);
        }
        self.retransmits = 0;
        if !self.prevents_reopen() && (by_frto || self.flags.sack_ok) {
            self.set_ca_state(env, CaState::Open);
            self.flags.reneged = false;
        }
        true
    }

    /// A partial ACK in recovery answers an original: what was taken for lost was late. True: wait, retransmissions
    /// are still under way (Linux: `tcp_try_undo_partial`).
    pub(crate) fn try_undo_partial(&mut self, env: &mut Env, prior_una: SeqNum) -> bool {
        if self.undo.marker.is_none() || !self.packet_delayed() {
            return false;
        }
        self.check_sack_reordering(env, prior_una, true);
        if self.board.retrans_out > 0 {
            return true;
        }
        self.forget_old_retransmissions();
        self.undo_cwnd_reduction(env, true);
        env.mib.inc(Counter::TcpExtTCPPartialUndo);
        self.try_keep_open(env);
        false
    }

    /// Open, or Disorder while something is missing (Linux: `tcp_try_keep_open`).
    pub(crate) fn try_keep_open(&mut self, env: &mut Env) {
        let state = if self.left_out() > 0 || self.any_retrans_done() {
            CaState::Disorder
        } else {
            CaState::Open
        };
        if self.state != state {
            self.set_ca_state(env, state);
            self.high_seq = self.nxt;
        }
    }

    /// After an ACK that is no sign of loss (Linux: `tcp_try_to_open`).
    pub(crate) fn try_to_open(&mut self, env: &mut Env, flags: AckFlags) {
        self.forget_old_retransmissions();
        if flags.any(AckFlags::ECE) {
            self.enter_cwr(env);
        }
        if self.state != CaState::Cwr {
            self.try_keep_open(env);
        }
    }
}
