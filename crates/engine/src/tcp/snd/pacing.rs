//! The pacing rate, which also sizes super-packets, and holding data back by it where SO_MAX_PACING_RATE or the congestion
//! control asks for it (Linux: `tcp_update_pacing_rate`, `tcp_pacing_check`, `tcp_update_skb_after_send`).

use super::{Sender, cwnd};
use crate::Instant;
use crate::env::Env;
use core::time::Duration;

/// When the next record may leave, and at what rate.
#[derive(Clone, Debug)]
pub(crate) struct Pacing {
    /// When the last record left, or the next one may (Linux: `tcp_wstamp_ns`).
    pub(crate) next: Instant,
    /// Bytes per second; `u64::MAX`: unlimited.
    pub(crate) rate: u64,
    /// SO_MAX_PACING_RATE.
    pub(crate) max_rate: u64,
}

impl Default for Pacing {
    fn default() -> Pacing {
        Pacing {
            next: Instant::ZERO,
            rate: u64::MAX,
            max_rate: u64::MAX,
        }
    }
}

impl Pacing {
    /// Marks the time of a record that leaves at `now`; returns what `next` was. No two records leave at the same
    /// nanosecond, so that RACK can tell which was first, however coarse the caller's clock is.
    pub(super) fn send_time(&mut self, now: Instant) -> Instant {
        let before = self.next;
        self.next = now.max(before + Duration::from_nanos(1));
        before
    }

    /// A record of `len` bytes left: the next one waits for as long as those take at the rate. The first packets of a
    /// connection don't count, and half of a delay can be made up for.
    pub(super) fn sent(&mut self, len: u32, before: Instant, segs_out: u32) {
        if self.rate == u64::MAX || self.rate == 0 || segs_out < cwnd::INITIAL {
            return;
        }
        let mut ns = u64::from(len) * 1_000_000_000 / self.rate;
        let credit = self.next.nanos().saturating_sub(before.nanos());
        ns -= credit.min(ns / 2);
        self.next += Duration::from_nanos(ns);
    }

    /// How long nothing left.
    pub(super) fn idle_for(&self, now: Instant) -> Duration {
        now.since(self.next)
    }
}

impl Sender {
    /// Data must wait now; notes that it does (Linux: `tcp_pacing_check`).
    pub(super) fn pacing_holds(&mut self, env: &Env) -> bool {
        self.flags.pacing_waits = self.flags.paced && self.pacing.next > env.now;
        self.flags.pacing_waits
    }

    /// When what waits may leave.
    pub(super) fn pacing_deadline(&self) -> Option<Instant> {
        self.flags.pacing_waits.then_some(self.pacing.next)
    }

    /// What held data back is over: retransmissions first, then new data (Linux: `tcp_tsq_write`).
    pub(super) fn pacing_timer(&mut self, env: &mut Env) {
        self.flags.pacing_waits = false;
        if self.board.lost_out > self.board.retrans_out && self.cwnd.window > self.in_flight() {
            self.xmit_retransmit_queue(env);
        }
        self.push_pending(env);
    }

    /// How long a timer should allow for data that pacing sent into the future (Linux: `tcp_pacing_delay`).
    pub(super) fn pacing_delay(&self, env: &Env) -> Duration {
        if self.flags.paced {
            self.pacing.next.since(env.now)
        } else {
            Duration::ZERO
        }
    }

    /// Twice the window per RTT in slow start, 1.2 times afterwards (`tcp_pacing_ss_ratio`, `tcp_pacing_ca_ratio`).
    pub(crate) fn update_pacing_rate(&mut self, env: &Env) {
        let ratio = if self.cwnd.window < self.cwnd.ssthresh / 2 {
            env.sysctl.tcp_pacing_ss_ratio
        } else {
            env.sysctl.tcp_pacing_ca_ratio
        };
        let window = u64::from(self.cwnd.window.max(self.packets_out)) * u64::from(self.mss);
        let srtt8 = u64::from(self.rtt.srtt8().max(1));
        // Bytes per window × 8 × 10⁶ µs × percent / (8 × srtt in µs × 100).
        let rate = window.saturating_mul(80_000 * u64::from(ratio)) / srtt8;
        self.pacing.rate = rate.min(self.pacing.max_rate);
    }

    /// SO_MAX_PACING_RATE in bytes per second; `u64::MAX` is none.
    pub(crate) fn set_max_pacing_rate(&mut self, bytes_per_second: u64) {
        self.flags.paced |= bytes_per_second != u64::MAX;
        self.pacing.max_rate = bytes_per_second;
        self.pacing.rate = self.pacing.rate.min(bytes_per_second);
    }
}
