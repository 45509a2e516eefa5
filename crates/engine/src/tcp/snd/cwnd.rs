//! The congestion window and whether it is used (RFC 5681 §4.1, RFC 7661; Linux: `tcp_cwnd_validate`,
//! `tcp_cwnd_restart`, and the window arithmetic congestion controls share).

use super::Sender;
use crate::env::Env;
use crate::tcp::cc::CcEvent;
use crate::tcp::loss::CaState;
use estab_proto::SeqNum;

/// The initial window in segments (RFC 6928; Linux: `TCP_INIT_CWND`).
pub(crate) const INITIAL: u32 = 10;
/// "No threshold yet" (Linux: `TCP_INFINITE_SSTHRESH`).
pub(crate) const INFINITE: u32 = 0x7fff_ffff;

/// The congestion window, in segments.
#[derive(Clone, Debug)]
pub(crate) struct Cwnd {
    pub(crate) window: u32,
    pub(crate) ssthresh: u32,
    /// Acknowledged segments counted towards the next step in congestion avoidance.
    pub(crate) count: u32,
    /// The window and threshold before the last reduction; threshold 0: that reduction stands.
    pub(crate) prior: u32,
    pub(crate) prior_ssthresh: u32,
    /// The most packets in flight while the window was not used up, since `stamp`.
    used: u32,
    /// Milliseconds when the window was last used up, or changed.
    pub(crate) stamp: u32,
    /// The most packets out in the round trip that ends at `usage_seq`.
    pub(crate) max_packets_out: u32,
    usage_seq: SeqNum,
}

impl Cwnd {
    pub(crate) fn new(now_ms: u32) -> Cwnd {
        Cwnd {
            window: INITIAL,
            ssthresh: INFINITE,
            count: 0,
            prior: 0,
            prior_ssthresh: 0,
            used: 0,
            stamp: now_ms,
            max_packets_out: 0,
            usage_seq: SeqNum(0),
        }
    }

    pub(crate) fn in_slow_start(&self) -> bool {
        self.window < self.ssthresh
    }

    /// Grows the window by `acked` segments, at most to the threshold; returns what is left of them
    /// (RFC 5681 §3.1, RFC 3465; Linux: `tcp_slow_start`).
    pub(crate) fn slow_start(&mut self, acked: u32) -> u32 {
        let grown = self.window.saturating_add(acked).min(self.ssthresh);
        let left = acked - (grown - self.window);
        self.window = grown;
        left
    }

    /// Grows the window by one segment per `per` acknowledged ones (Linux: `tcp_cong_avoid_ai`).
    pub(crate) fn additive_increase(&mut self, per: u32, acked: u32) {
        let per = per.max(1);
        // What was counted towards a slower pace is worth one step.
        if self.count >= per {
            self.count = 0;
            self.window += 1;
        }
        self.count += acked;
        if self.count >= per {
            let steps = self.count / per;
            self.count -= steps * per;
            self.window += steps;
        }
    }
}

impl Sender {
    /// The threshold as it would be after a reduction that is not the network's fault (Linux: `tcp_current_ssthresh`).
    pub(crate) fn current_ssthresh(&self) -> u32 {
        if self.in_cwnd_reduction() {
            self.cwnd.ssthresh
        } else {
            self.cwnd
                .ssthresh
                .max((self.cwnd.window >> 1) + (self.cwnd.window >> 2))
        }
    }

    /// PRR governs the window (Linux: `tcp_in_cwnd_reduction`).
    pub(crate) fn in_cwnd_reduction(&self) -> bool {
        matches!(self.state, CaState::Cwr | CaState::Recovery)
    }

    /// The window, not the application, bounds what is sent (Linux: `tcp_is_cwnd_limited`).
    pub(crate) fn is_cwnd_limited(&self) -> bool {
        self.flags.cwnd_limited || self.cwnd.in_slow_start() && self.cwnd.window < 2 * self.cwnd.max_packets_out
    }

    /// Notes how far the window is used, after something was sent or could not be (Linux: `tcp_cwnd_validate`).
    pub(super) fn cwnd_validate(&mut self, env: &Env, limited: bool) {
        if self.una.at_or_after(self.cwnd.usage_seq)
            || limited
            || !self.flags.cwnd_limited && self.packets_out > self.cwnd.max_packets_out
        {
            self.flags.cwnd_limited = limited;
            self.cwnd.max_packets_out = self.packets_out;
            self.cwnd.usage_seq = self.nxt;
        }
        let now = env.now_ms();
        if self.is_cwnd_limited() {
            self.cwnd.used = 0;
            self.cwnd.stamp = now;
            return;
        }
        self.cwnd.used = self.cwnd.used.max(self.packets_out);
        if env.sysctl.tcp_slow_start_after_idle != 0
            && !self.cc.has_cong_control()
            && now.wrapping_sub(self.cwnd.stamp) >= self.rtt.rto() / 1000
        {
            self.application_limited(now);
        }
        if !self.queue.has_unsent() && self.flags.no_space && !self.flags.fin_queued {
            self.chrono.start(now, super::chrono::Why::SndbufLimited);
        }
    }

    /// The window was not full for a whole timeout: half of what was unused goes (RFC 2861;
    /// Linux: `tcp_cwnd_application_limited`).
    fn application_limited(&mut self, now_ms: u32) {
        if self.state == CaState::Open && !self.flags.no_space {
            let used = self.cwnd.used.max(INITIAL);
            if used < self.cwnd.window {
                self.cwnd.ssthresh = self.current_ssthresh();
                self.cwnd.window = (self.cwnd.window + used) >> 1;
            }
            self.cwnd.used = 0;
        }
        self.cwnd.stamp = now_ms;
    }

    /// New data after an idle time: the window is halved for each timeout that passed
    /// (RFC 2861, `tcp_slow_start_after_idle`; Linux: `tcp_slow_start_after_idle_check`, `tcp_cwnd_restart`).
    pub(super) fn idle_check(&mut self, env: &Env) {
        if env.sysctl.tcp_slow_start_after_idle == 0 || self.packets_out > 0 || self.cc.has_cong_control() {
            return;
        }
        let now = env.now_ms();
        let rto_ms = (self.rtt.rto() / 1000).max(1);
        let mut idle = now.wrapping_sub(self.last_data);
        if idle <= rto_ms || idle > i32::MAX as u32 {
            return;
        }
        self.cc_event(env, CcEvent::CwndRestart);
        self.cwnd.ssthresh = self.current_ssthresh();
        let restart = INITIAL.min(self.cwnd.window);
        while idle > rto_ms && self.cwnd.window > restart {
            idle -= rto_ms;
            self.cwnd.window >>= 1;
        }
        self.cwnd.window = self.cwnd.window.max(restart);
        self.cwnd.stamp = now;
        self.cwnd.used = 0;
    }
}
