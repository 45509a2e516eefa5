//! Proportional rate reduction: during recovery the window follows what is delivered, down to the threshold
//! (RFC 9937; Linux: `tcp_cwnd_reduction`).

use super::{AckFlags, CaState};
use crate::env::Env;
use crate::tcp::cc::CcEvent;
use crate::tcp::snd::{Sender, cwnd};

/// Packets delivered and sent since the reduction began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Prr {
    delivered: u32,
    pub(crate) out: u32,
}

impl Sender {
    /// A reduction begins (Linux: `tcp_init_cwnd_reduction`).
    pub(crate) fn init_cwnd_reduction(&mut self, env: &Env) {
        self.high_seq = self.nxt;
        self.tlp_high = None;
        self.cwnd.count = 0;
        self.cwnd.prior = self.cwnd.window;
        self.prr = Prr::default();
        self.cwnd.ssthresh = self.cc_ssthresh(env);
        self.ecn.queue_cwr();
    }

    /// Sets the window to what is in flight and what may be sent for this ACK (RFC 9937 §6).
    #[cold]
    pub(crate) fn cwnd_reduction(&mut self, delivered: u32, newly_lost: u32, flags: AckFlags) {
        if delivered == 0 || self.cwnd.prior == 0 {
            return;
        }
        let in_flight = self.in_flight();
        let prr = &mut self.prr;
        prr.delivered = prr.delivered.saturating_add(delivered);
        let count = if in_flight > self.cwnd.ssthresh {
            let proportional =
                (u64::from(self.cwnd.ssthresh) * u64::from(prr.delivered)).div_ceil(u64::from(self.cwnd.prior)) as u32;
            proportional.saturating_sub(prr.out)
        } else {
            let mut limit = prr.delivered.saturating_sub(prr.out).max(delivered);
            if flags.any(AckFlags::UNA_ADVANCED) && newly_lost == 0 {
                limit += 1;
            }
            limit.min(self.cwnd.ssthresh - in_flight)
        };
        // The first retransmission goes at once.
        let count = count.max(u32::from(prr.out == 0));
        self.cwnd.window = (in_flight + count).max(1);
    }

    /// The reduction is done: the window is the threshold, unless it was undone (Linux: `tcp_end_cwnd_reduction`).
    pub(crate) fn end_cwnd_reduction(&mut self, env: &mut Env) {
        if self.cc.has_cong_control() {
            return;
        }
        let stands = self.state == CaState::Cwr || self.undo.marker.is_some();
        if self.cwnd.ssthresh < cwnd::INFINITE && stands {
            self.cwnd.window = self.cwnd.ssthresh;
            self.cwnd.stamp = env.now_ms();
        }
        self.cc_event(env, CcEvent::CompleteCwr);
    }

    /// ECN or the local device says congestion (Linux: `tcp_enter_cwr`). It is certain: nothing undoes it.
    pub(crate) fn enter_cwr(&mut self, env: &mut Env) {
        self.cwnd.prior_ssthresh = 0;
        if self.state < CaState::Cwr {
            self.undo.marker = None;
            self.init_cwnd_reduction(env);
            self.set_ca_state(env, CaState::Cwr);
        }
    }
}
