//! After a timeout: F-RTO finds out whether it was spurious, before the whole window is sent again (RFC 5682 §3;
//! Linux: `tcp_process_loss`, `tcp_enter_loss`).

use super::{AckFlags, CaState, Rexmit};
use crate::env::Env;
use crate::tcp::cc::CcEvent;
use crate::tcp::snd::Sender;
use crate::tcp::snd::queue::Tags;
use estab_proto::Counter;

impl Sender {
    /// All in flight counts as lost, but what was sent so recently that RACK would not say so yet. Where SND.UNA was
    /// SACKed, the receiver took its SACKs back: they are forgotten (RFC 2018 §8; Linux: `tcp_timeout_mark_lost`).
    fn timeout_mark_lost(&mut self, env: &mut Env) {
        let reneged = self.queue.head().is_some_and(|head| head.tags.any(Tags::SACKED));
        if reneged {
            env.mib.inc(Counter::TcpExtTCPSACKReneging);
            self.clear_sacked();
            self.flags.reneged = true;
        } else if !self.flags.sack_ok {
            self.clear_sacked();
        }
        for position in 0..self.queue.sent() {
            let id = self.queue.id(position);
            if reneged {
                self.queue.by_id_mut(id).tags.clear(Tags::SACKED);
            } else if position > 0 && self.rack_timeout_us(env, self.queue.by_id(id), 0) > 0 {
                continue;
            }
            self.mark_lost(env, id);
        }
        self.board.retransmit_hint = None;
    }

    /// A timeout: slow start from one segment (RFC 5681 §3.1).
    pub(crate) fn enter_loss(&mut self, env: &mut Env) {
        let new_recovery = self.state < CaState::Recovery;
        self.timeout_mark_lost(env);
        if self.state <= CaState::Disorder
            || !self.high_seq.after(self.una)
            || self.state == CaState::Loss && self.retransmits == 0
        {
            self.cwnd.prior_ssthresh = self.current_ssthresh();
            self.cwnd.prior = self.cwnd.window;
            self.cwnd.ssthresh = self.cc_ssthresh(env);
            self.cc_event(env, CcEvent::Loss);
            self.undo.begin(self.una, self.board.retrans_out);
        }
        self.cwnd.window = self.in_flight() + 1;
        self.cwnd.count = 0;
        self.cwnd.stamp = env.now_ms();
        // Many duplicate ACKs and yet a timeout: less is reordered than was thought.
        if self.state <= CaState::Disorder && self.board.sacked_out >= env.sysctl.tcp_reordering {
            self.reordering = self.reordering.min(env.sysctl.tcp_reordering);
        }
        self.set_ca_state(env, CaState::Loss);
        self.high_seq = self.nxt;
        self.ecn.queue_cwr();
        self.flags.frto = env.sysctl.tcp_frto != 0 && (new_recovery || self.retransmits > 0) && !self.mtu_probing();
    }

    /// An ACK in the Loss state.
    pub(crate) fn process_loss(&mut self, env: &mut Env, flags: AckFlags, dupacks: u32) -> Rexmit {
        let recovered = !self.una.before(self.high_seq);
        let advanced = flags.any(AckFlags::UNA_ADVANCED);
        if advanced && self.try_undo_loss(env, false) {
            return Rexmit::None;
        }
        if self.flags.frto {
            // Step 3.b: data sent once arrived: the timeout was spurious.
            if flags.any(AckFlags::ORIG_SACKED) && self.try_undo_loss(env, true) {
                return Rexmit::None;
            }
            if self.nxt.after(self.high_seq) {
                if flags.any(AckFlags::DATA_SACKED) || dupacks > 0 {
                    self.flags.frto = false; // Step 3.a: the loss is real.
                }
            } else if advanced && !recovered {
                self.high_seq = self.nxt;
                // Step 2.b: new data, and wait.
                if self.queue.has_unsent() && self.window_end().after(self.nxt) {
                    return Rexmit::New;
                }
                self.flags.frto = false;
            }
        }
        if recovered {
            // Step 2.a
            self.try_undo_recovery(env);
            return Rexmit::None;
        }
        if !self.flags.sack_ok {
            if self.nxt.after(self.high_seq) && dupacks > 0 {
                self.add_reno_sack(env, dupacks, flags.any(AckFlags::ECE));
            } else if advanced {
                self.clear_sacked();
            }
        }
        Rexmit::Lost
    }
}
