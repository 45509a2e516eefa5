//! The round-trip time and the retransmission timeout (RFC 6298; Linux: `tcp_rtt_estimator`, `tcp_set_rto`).

use super::min_filter::MinFilter;
use crate::sysctl::Sysctls;
use estab_proto::SeqNum;

/// The timeout before any sample, in microseconds (RFC 6298 §2.1).
const INITIAL_US: u32 = 1_000_000;
/// The timeout after a handshake that gave no sample (RFC 6298 §5.7; Linux: `tcp_init_metrics`).
const FALLBACK_US: u32 = 3_000_000;
/// The timeout that limits of retransmission count with (Linux: `TCP_RTO_MIN`).
pub(crate) const BASE_US: u32 = 200_000;

/// The clock tick that timers are rounded up to, in microseconds: Linux's jiffy with the usual CONFIG_HZ 250, so that
/// `ss` shows the same timeouts (204 ms, not 200).
const TICK_US: u32 = 4_000;
/// The shortest timer that makes sense (Linux: `TCP_TIMEOUT_MIN_US`).
pub(crate) const TIMEOUT_MIN_US: u32 = 2_000;

/// When to try again what the device did not take (Linux: `TCP_RESOURCE_PROBE_INTERVAL`).
pub(crate) const RESOURCE_US: u32 = 500_000;

/// Rounds up to whole ticks (Linux: `usecs_to_jiffies`).
pub(crate) fn ticks(us: u32) -> u32 {
    us.div_ceil(TICK_US).saturating_mul(TICK_US)
}

/// Estimates the round-trip time. All in microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Rtt {
    /// Smoothed RTT, times 8; 0: no sample yet.
    srtt: u32,
    /// Mean deviation, times 4.
    mdev: u32,
    /// The largest mean deviation of this round trip.
    mdev_max: u32,
    /// The deviation that counts (times 4), which falls slowly.
    var: u32,
    /// Where this round trip ends.
    round_end: SeqNum,
    /// The timeout, its backoff included.
    rto: u32,
    /// How often it was doubled.
    pub(crate) backoff: u8,
    /// The least RTT of the last minutes.
    min: MinFilter,
}

impl Rtt {
    pub(crate) fn new() -> Rtt {
        Rtt {
            srtt: 0,
            mdev: INITIAL_US,
            mdev_max: 0,
            var: 0,
            round_end: SeqNum(0),
            rto: INITIAL_US,
            backoff: 0,
            min: MinFilter::new(),
        }
    }

    /// The handshake gave no sample.
    pub(crate) fn no_handshake_sample(&mut self) {
        (self.mdev, self.mdev_max, self.var) = (FALLBACK_US, FALLBACK_US, FALLBACK_US);
        self.rto = FALLBACK_US;
    }

    /// Takes a sample of `us`, sets the timeout by it and ends the backoff (RFC 6298 §2.2, §2.3).
    pub(crate) fn sample(&mut self, us: u32, una: SeqNum, nxt: SeqNum, sysctl: &Sysctls) {
        let least = sysctl.tcp_rto_min_us;
        // Samples beyond a minute are noise, and must not overflow what is kept times 8.
        let sample = us.min(1 << 27) as i32;
        if self.srtt == 0 {
            self.srtt = (sample as u32) << 3;
            self.mdev = (sample as u32) << 1;
            self.var = self.mdev.max(least);
            self.mdev_max = self.var;
            self.round_end = nxt;
        } else {
            let mut error = sample - (self.srtt >> 3) as i32;
            self.srtt = self.srtt.saturating_add_signed(error);
            if error < 0 {
                error = -error - (self.mdev >> 2) as i32;
                // A falling RTT must not look like a varying one.
                if error > 0 {
                    error >>= 3;
                }
            } else {
                error -= (self.mdev >> 2) as i32;
            }
            self.mdev = self.mdev.saturating_add_signed(error);
            if self.mdev > self.mdev_max {
                self.mdev_max = self.mdev;
                self.var = self.var.max(self.mdev_max);
            }
            if una.after(self.round_end) {
                if self.mdev_max < self.var {
                    self.var -= (self.var - self.mdev_max) >> 2;
                }
                self.round_end = nxt;
                self.mdev_max = least;
            }
        }
        self.srtt = self.srtt.max(1);
        self.rto = self.base(sysctl);
        self.backoff = 0;
    }

    /// The timeout without backoff (Linux: `__tcp_set_rto`).
    pub(crate) fn base(&self, sysctl: &Sysctls) -> u32 {
        ticks((self.srtt >> 3).saturating_add(self.var)).min(max_us(sysctl))
    }

    /// The timeout now.
    pub(crate) fn rto(&self) -> u32 {
        self.rto
    }

    /// Sets the timeout (thin streams, ICMP).
    pub(crate) fn set_rto(&mut self, us: u32) {
        self.rto = us;
    }

    /// Doubles the timeout (RFC 6298 §5.5).
    pub(crate) fn double(&mut self, sysctl: &Sysctls) {
        self.rto = self.rto.saturating_mul(2).min(max_us(sysctl));
    }

    /// The smoothed RTT; 0: unknown.
    pub(crate) fn srtt(&self) -> u32 {
        self.srtt >> 3
    }

    /// The smoothed RTT times 8.
    pub(crate) fn srtt8(&self) -> u32 {
        self.srtt
    }

    /// The mean deviation, as `tcpi_rttvar` shows it.
    pub(crate) fn deviation(&self) -> u32 {
        self.mdev >> 2
    }

    /// The least RTT of the last `tcp_min_rtt_wlen` seconds; `u32::MAX`: unknown (Linux: `tcp_min_rtt`).
    pub(crate) fn min(&self) -> u32 {
        self.min.get()
    }

    /// Takes a sample for the least RTT (Linux: `tcp_update_rtt_min`).
    pub(crate) fn min_sample(&mut self, us: u32, now_ms: u32, sysctl: &Sysctls) {
        let window = sysctl.tcp_min_rtt_wlen.saturating_mul(1000);
        // What took no time took less than the clock's tick.
        let us = if us == 0 { 1000 } else { us };
        self.min.sample(window, now_ms, us);
    }
}

/// `tcp_rto_max_ms` in microseconds.
pub(crate) fn max_us(sysctl: &Sysctls) -> u32 {
    sysctl.tcp_rto_max_ms.clamp(1000, 120_000) * 1000
}

/// How long `boundary` retransmissions with backoff from `base_us` take, in milliseconds
/// (Linux: `tcp_model_timeout`).
pub(crate) fn model_timeout_ms(boundary: u32, base_us: u32, max_us: u32) -> u32 {
    let doublings = (max_us / base_us).max(1).ilog2();
    let us = if boundary <= doublings {
        ((2u64 << boundary) - 1) * u64::from(base_us)
    } else {
        ((2u64 << doublings) - 1) * u64::from(base_us) + u64::from(boundary - doublings) * u64::from(max_us)
    };
    u32::try_from(us / 1000).unwrap_or(u32::MAX)
}
