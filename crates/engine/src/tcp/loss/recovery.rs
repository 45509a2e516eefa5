//! The state machine of congestion and recovery: what an ACK that is no plain one means (RFC 5681, RFC 6582,
//! RFC 6675; Linux: `tcp_fastretrans_alert`).

use super::{AckFlags, CaState, Rexmit};
use crate::env::Env;
use crate::tcp::snd::Sender;
use crate::tcp::snd::queue::Tags;
use estab_proto::{Counter, SeqNum};

impl Sender {
    /// Enters a state and tells the congestion control.
    pub(crate) fn set_ca_state(&mut self, env: &Env, state: CaState) {
        self.cc_state(env, state);
        self.state = state;
    }

    /// Works out losses and moves the state; says what to send (the window is set afterwards).
    #[cold]
    pub(crate) fn fastretrans_alert(
        &mut self,
        env: &mut Env,
        prior_una: SeqNum,
        dupacks: u32,
        flags: &mut AckFlags,
    ) -> Rexmit {
        let (ece, advanced) = (flags.any(AckFlags::ECE), flags.any(AckFlags::UNA_ADVANCED));
        if self.packets_out == 0 {
            self.clear_sacked();
        }
        // A. A congestion mark: the reduction stands.
        if ece {
            self.cwnd.prior_ssthresh = 0;
        }
        // B. SND.UNA points to SACKed data: wait a little for ACKs that set that right.
        if flags.any(AckFlags::RENEGING) && advanced {
            let us = (self.rtt.srtt8() >> 4).max(10_000);
            self.set_timer_rto_in(env, us);
            flags.clear(AckFlags::SET_TIMER);
            return Rexmit::None;
        }
        // D. States end when their high_seq is acknowledged.
        if self.state == CaState::Open {
            self.undo.retrans_stamp = 0;
        } else if !self.una.before(self.high_seq) {
            match self.state {
                // Held until something above is acknowledged, so that CWR has reached the receiver.
                CaState::Cwr if self.una != self.high_seq => {
                    self.end_cwnd_reduction(env);
                    self.set_ca_state(env, CaState::Open);
                }
                CaState::Recovery => {
                    if !self.flags.sack_ok {
                        self.clear_sacked();
                    }
                    if self.try_undo_recovery(env) {
                        return Rexmit::None;
                    }
                    self.end_cwnd_reduction(env);
                }
                _ => {}
            }
        }
        // E. The states' work.
        match self.state {
            CaState::Recovery => {
                if !advanced {
                    if !self.flags.sack_ok {
                        self.add_reno_sack(env, dupacks, ece);
                    }
                } else if self.try_undo_partial(env, prior_una) {
                    return Rexmit::None;
                }
                if self.try_undo_dsack(env) {
                    self.try_keep_open(env);
                }
                self.identify_loss(env, flags);
                if self.state != CaState::Recovery {
                    if self.board.lost_out == 0 {
                        return Rexmit::None;
                    }
                    // Undone, and yet there is a loss: a new recovery.
                    self.enter_recovery(env, ece);
                }
                Rexmit::Lost
            }
            CaState::Loss => {
                let rexmit = self.process_loss(env, *flags, dupacks);
                if self.state != CaState::Loss {
                    self.count_rto_time(env);
                }
                self.identify_loss(env, flags);
                if self.state == CaState::Open || flags.any(AckFlags::LOST_RETRANS) {
                    return self.alert_default(env, *flags, dupacks, flags).unwrap_or(rexmit);
                }
                rexmit
            }
            _ => self.alert_default(env, *flags, dupacks, flags).unwrap_or_default(),
        }
    }

    /// Open, Disorder and CWR, and Loss that has ended or goes on with lost retransmissions. `None`: nothing to
    /// send beyond what was decided.
    fn alert_default(&mut self, env: &mut Env, was: AckFlags, dupacks: u32, flags: &mut AckFlags) -> Option<Rexmit> {
        let ece = was.any(AckFlags::ECE);
        if !self.flags.sack_ok {
            if was.any(AckFlags::UNA_ADVANCED) {
                self.clear_sacked();
            }
            self.add_reno_sack(env, dupacks, ece);
        }
        if self.state <= CaState::Disorder {
            self.try_undo_dsack(env);
        }
        self.identify_loss(env, flags);
        if self.board.lost_out == 0 {
            self.try_to_open(env, was);
            return None;
        }
        if self.state < CaState::Cwr && self.mtu_probe_lost(env) {
            return None;
        }
        self.enter_recovery(env, ece);
        Some(Rexmit::Lost)
    }

    /// Marks what is lost: by RACK, or without SACK by duplicate and partial ACKs (Linux: `tcp_identify_packet_loss`).
    fn identify_loss(&mut self, env: &mut Env, flags: &mut AckFlags) {
        if self.queue.sent() == 0 {
            return;
        }
        if !self.flags.sack_ok {
            return self.newreno_mark_lost(env, flags.any(AckFlags::UNA_ADVANCED));
        }
        let before = self.board.retrans_out;
        if self.rack_mark_lost(env) {
            flags.clear(AckFlags::SET_TIMER);
        }
        if before > self.board.retrans_out {
            flags.set(AckFlags::LOST_RETRANS);
        }
    }

    /// The first segment is lost: three duplicate ACKs, or a partial ACK in recovery (RFC 6582 §3.2;
    /// Linux: `tcp_newreno_mark_lost`).
    fn newreno_mark_lost(&mut self, env: &mut Env, advanced: bool) {
        let starts = self.state < CaState::Recovery && self.board.sacked_out >= self.reordering;
        let goes_on = self.state == CaState::Recovery && advanced;
        if !starts && !goes_on {
            return;
        }
        let head = self.queue.at(0);
        if head.tags.any(Tags::LOST) {
            return;
        }
        let mss = u32::from(head.mss);
        if head.segs > 1 && head.len > mss {
            self.fragment(0, mss, mss);
        }
        let id = self.queue.id(0);
        self.mark_lost(env, id);
    }

    /// Fast recovery begins (RFC 6675 §5; Linux: `tcp_enter_recovery`).
    pub(crate) fn enter_recovery(&mut self, env: &mut Env, ece: bool) {
        self.forget_old_retransmissions();
        env.mib.inc(if self.flags.sack_ok {
            Counter::TcpExtTCPSackRecovery
        } else {
            Counter::TcpExtTCPRenoRecovery
        });
        self.cwnd.prior_ssthresh = 0;
        self.undo.begin(self.una, self.board.retrans_out);
        if !self.in_cwnd_reduction() {
            if !ece {
                self.cwnd.prior_ssthresh = self.current_ssthresh();
            }
            self.init_cwnd_reduction(env);
        }
        self.set_ca_state(env, CaState::Recovery);
    }

    /// What is larger than the MSS was lost to a smaller path MTU: send it again in smaller pieces, without
    /// blaming congestion (RFC 1191 §6.4; Linux: `tcp_simple_retransmit`).
    pub(crate) fn simple_retransmit(&mut self, env: &mut Env) {
        let mss = self.current_mss();
        for position in 0..self.queue.sent() {
            if self.queue.at(position).seg_len() > mss {
                let id = self.queue.id(position);
                self.mark_lost(env, id);
            }
        }
        if self.board.lost_out == 0 {
            return;
        }
        if !self.flags.sack_ok {
            self.limit_reno_sacked();
        }
        self.retransmit_without_congestion(env);
    }

    /// Sends again what is marked lost for reasons that are no congestion (Linux: `tcp_non_congestion_loss_retransmit`).
    pub(crate) fn retransmit_without_congestion(&mut self, env: &mut Env) {
        if self.state != CaState::Loss {
            self.high_seq = self.nxt;
            self.cwnd.ssthresh = self.current_ssthresh();
            self.cwnd.prior_ssthresh = 0;
            self.undo.marker = None;
            self.set_ca_state(env, CaState::Loss);
        }
        self.xmit_retransmit_queue(env);
    }

    /// Time spent in recovering from timeouts (Linux: `tcp_update_rto_time`).
    fn count_rto_time(&mut self, env: &Env) {
        if self.troubles.rto_stamp != 0 {
            let spent = env.now_ms().wrapping_sub(self.troubles.rto_stamp);
            self.troubles.rto_time = self.troubles.rto_time.saturating_add(spent);
            self.troubles.rto_stamp = 0;
        }
    }

    // --- without SACK, duplicate ACKs stand for SACKs

    /// Forgets what is counted as received out of order (Linux: `tcp_reset_reno_sack`).
    pub(crate) fn clear_sacked(&mut self) {
        if self.board.sacked_out > 0 {
            self.board.sacked_out = 0;
        }
    }

    /// Bounds the duplicate ACKs counted by what can be out of order (Linux: `tcp_limit_reno_sacked`).
    fn limit_reno_sacked(&mut self) -> bool {
        let holes = self.board.lost_out.max(1).min(self.packets_out);
        let most = self.packets_out - holes;
        let over = self.board.sacked_out > most;
        if over {
            self.board.sacked_out = most;
        }
        over
    }

    /// More duplicate ACKs than packets: reordering (Linux: `tcp_check_reno_reordering`).
    fn check_reno_reordering(&mut self, env: &mut Env, addend: u32) {
        if self.limit_reno_sacked() {
            self.reordering = (self.packets_out + addend).min(env.sysctl.tcp_max_reordering);
            self.troubles.reord_seen = self.troubles.reord_seen.saturating_add(1);
            env.mib.inc(Counter::TcpExtTCPRenoReorder);
        }
    }

    /// Linux: `tcp_add_reno_sack`.
    pub(crate) fn add_reno_sack(&mut self, env: &mut Env, dupacks: u32, ece: bool) {
        if dupacks == 0 {
            return;
        }
        let before = self.board.sacked_out;
        self.board.sacked_out += dupacks;
        self.check_reno_reordering(env, 0);
        let delivered = self.board.sacked_out.saturating_sub(before);
        self.rate.count(delivered, ece);
    }

    /// `acked` packets were acknowledged: one was the hole, the others ate duplicate ACKs
    /// (Linux: `tcp_remove_reno_sacks`).
    pub(crate) fn remove_reno_sacks(&mut self, env: &mut Env, acked: u32, ece: bool) {
        if acked > 0 {
            self.rate.count(acked.saturating_sub(self.board.sacked_out).max(1), ece);
            if self.board.sacked_out > 0 {
                self.board.sacked_out = self.board.sacked_out.saturating_sub(acked - 1);
            }
        }
        self.check_reno_reordering(env, acked);
    }
}
