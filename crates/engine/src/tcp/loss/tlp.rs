//! The tail loss probe: when ACKs stop coming, one segment after two RTTs tells whether the tail was lost, before a
//! timeout must (RFC 8985 §7; Linux: `tcp_schedule_loss_probe`, `tcp_send_loss_probe`, `tcp_process_tlp_ack`).

use super::{AckFlags, CaState, rto};
use crate::env::Env;
use crate::tcp::cc::CcEvent;
use crate::tcp::snd::{Nagle, Sender};
use estab_proto::{Counter, SeqNum};

/// The probe's delay while no RTT is known (Linux: `TCP_TIMEOUT_INIT`).
const INITIAL_US: u32 = 1_000_000;

impl Sender {
    /// Sets the probe's timer, if a probe makes sense now. `advancing`: the timeout would start anew at this moment
    /// (RFC 8985 §7.2).
    pub(crate) fn schedule_loss_probe(&mut self, env: &Env, advancing: bool) -> bool {
        if self.flags.handshake
            || !matches!(env.sysctl.tcp_early_retrans, 3 | 4)
            || self.packets_out == 0
            || !self.flags.sack_ok
            || !matches!(self.state, CaState::Open | CaState::Cwr)
        {
            return false;
        }
        let mut us = match self.rtt.srtt8() {
            0 => INITIAL_US,
            // A lone packet's ACK may be delayed.
            srtt8 if self.packets_out == 1 => (srtt8 >> 2).saturating_add(env.sysctl.tcp_rto_min_us),
            srtt8 => (srtt8 >> 2).saturating_add(rto::TIMEOUT_MIN_US),
        };
        let rto_left = if advancing {
            i64::from(self.rtt.rto())
        } else {
            self.rto_left_us(env)
        };
        if rto_left > 0 {
            us = us.min(u32::try_from(rto_left).unwrap_or(u32::MAX));
        }
        self.set_timer_loss_probe(env, rto::ticks(us));
        true
    }

    /// Sends the probe: new data if the window has room, else the last segment again (RFC 8985 §7.3).
    pub(crate) fn send_loss_probe(&mut self, env: &mut Env) {
        if self.tlp_high.is_none() && self.try_loss_probe(env) {
            self.tlp_high = Some(self.nxt);
            env.mib.inc(Counter::TcpExtTCPLossProbes);
            // The timeout restarts from now.
            self.timer.clear();
        }
        self.rearm_rto(env);
    }

    fn try_loss_probe(&mut self, env: &mut Env) -> bool {
        self.flags.tlp_retrans = false;
        let mss = self.current_mss();
        if let Some(head) = self.queue.send_head().copied()
            && self.window_allows(&head, mss)
        {
            let before = self.packets_out;
            self.transmit(env, Nagle::OFF, true);
            return self.packets_out > before;
        }
        let Some(mut last) = self.queue.sent().checked_sub(1) else {
            return false;
        };
        let seg = self.queue.at(last);
        let whole = seg.packets().saturating_sub(1) * mss;
        if seg.packets() > 1 && seg.len > whole {
            self.fragment(last, whole, mss);
            last += 1;
        }
        if !self.retransmit_again(env, last, 1) {
            return false;
        }
        self.flags.tlp_retrans = true;
        true
    }

    /// An ACK during an episode: ends it, and reduces the window if the probe repaired a loss
    /// (RFC 8985 §7.4).
    pub(crate) fn process_tlp_ack(&mut self, env: &mut Env, ack: SeqNum, flags: AckFlags) {
        let Some(high) = self.tlp_high.filter(|high| !ack.before(*high)) else {
            return;
        };
        let duplicate = !flags.any(
            AckFlags::UNA_ADVANCED
                .union(AckFlags::NOT_DUP)
                .union(AckFlags::DATA_SACKED),
        );
        if !self.flags.tlp_retrans || flags.any(AckFlags::DSACK_TLP) {
            // New data arrived, or both copies did.
            self.tlp_high = None;
        } else if ack.after(high) {
            self.cc_event(env, CcEvent::TlpRecovery);
            self.init_cwnd_reduction(env);
            self.set_ca_state(env, CaState::Cwr);
            self.end_cwnd_reduction(env);
            self.try_keep_open(env);
            env.mib.inc(Counter::TcpExtTCPLossProbeRecovery);
        } else if duplicate {
            self.tlp_high = None;
        }
    }
}
