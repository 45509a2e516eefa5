//! CUBIC: the window follows a cubic curve around where the last loss was (RFC 9438), with HyStart to leave slow start in
//! time (Ha and Rhee, 2011). Constants, units and rounding are those of Linux's tcp_cubic.c.

use super::{AckSample, CcEvent, CongestionControl, Cx, Hystart};
use crate::tcp::loss::CaState;
use crate::tcp::snd::output::GSO_MAX;
use estab_proto::SeqNum;

/// The window after a loss, in 1024ths (RFC 9438 §4.6: 0.7).
const BETA: u32 = 717;
const BETA_UNIT: u32 = 1024;
/// C = 0.4, in 1024ths (RFC 9438 §4.1).
const C: u64 = 410;
/// Times are in 1024ths of a second.
const TIME_SHIFT: u32 = 10;
/// (1024 + β) / (1024 − β) · 8/3: ACKs per step of the Reno-friendly window, times 8 (RFC 9438 §4.3).
const FRIENDLY: u32 = 8 * (BETA_UNIT + BETA) / 3 / (BETA_UNIT - BETA);
/// A jiffy is a millisecond; the window is computed anew after a 32nd of a second.
const RECOMPUTE_MS: i32 = 1000 / 32;

/// HyStart begins at this window.
const HYSTART_LOW_WINDOW: u32 = 16;
/// ACKs closer than this are a train, in microseconds.
const HYSTART_ACK_DELTA_US: i32 = 2000;
/// RTT samples before delay is judged.
const HYSTART_MIN_SAMPLES: u8 = 8;
/// Bounds of the delay increase that ends slow start, in microseconds.
const HYSTART_DELAY_US: (u32, u32) = (4_000, 16_000);

/// The state; times in milliseconds unless named otherwise.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cubic {
    /// ACKs per step of the window.
    cnt: u32,
    /// The window before the last loss.
    last_max: u32,
    last_cwnd: u32,
    last_time: u32,
    /// The curve's middle, and when it is reached after the epoch's start, in 1024ths of a second.
    origin: u32,
    k: u32,
    /// Least RTT in microseconds; 0: unknown.
    delay_min: u32,
    /// When the curve began; 0: it has not.
    epoch: u32,
    /// ACKs counted towards the Reno-friendly window, and that window.
    ack_cnt: u32,
    friendly: u32,
    // HyStart, in microseconds.
    round_start: u32,
    round_end: SeqNum,
    last_ack: u32,
    curr_rtt: u32,
    samples: u8,
    found: bool,
}

fn now_us(cx: &Cx<'_>) -> u32 {
    cx.now.micros() as u32
}

/// The time as `epoch` keeps it, where 0 means something else.
fn stamp(cx: &Cx<'_>) -> u32 {
    cx.now_ms().max(1)
}

/// ∛x, rounded down.
fn cube_root(x: u64) -> u32 {
    let mut root: u64 = 0;
    let mut rest = x;
    // Digit by digit in base 2: 3 bits of x give one of the root.
    for shift in (0..22).rev().map(|digit| 3 * digit) {
        root <<= 1;
        let step = 3 * root * (root + 1) + 1;
        if rest >> shift >= step {
            rest -= step << shift;
            root += 1;
        }
    }
    root as u32
}

impl Cubic {
    fn reset(&mut self) {
        *self = Cubic {
            round_start: self.round_start,
            round_end: self.round_end,
            last_ack: self.last_ack,
            curr_rtt: self.curr_rtt,
            samples: self.samples,
            ..Cubic::default()
        };
    }

    fn hystart_reset(&mut self, cx: &Cx<'_>) {
        self.round_start = now_us(cx);
        self.last_ack = self.round_start;
        self.round_end = cx.nxt;
        self.curr_rtt = u32::MAX;
        self.samples = 0;
    }

    /// ACKs per step of the window, now (Linux: `bictcp_update`).
    fn update(&mut self, cx: &Cx<'_>, acked: u32) {
        let (cwnd, now) = (cx.cwnd.window, stamp(cx));
        self.ack_cnt = self.ack_cnt.saturating_add(acked);
        let age = now.wrapping_sub(self.last_time) as i32;
        if self.last_cwnd == cwnd && age <= RECOMPUTE_MS {
            return;
        }
        // The curve is looked up once per millisecond.
        if self.epoch == 0 || now != self.last_time {
            (self.last_cwnd, self.last_time) = (cwnd, now);
            self.curve(cx, cwnd, now, acked);
        }
        self.reno_friendly(cwnd);
        // At most half a window per round trip.
        self.cnt = self.cnt.max(2);
    }

    /// RFC 9438 §4.2: W(t) = C·(t − K)³ + Wmax
    fn curve(&mut self, _cx: &Cx<'_>, cwnd: u32, now: u32, acked: u32) {
        if self.epoch == 0 {
            self.epoch = now;
            self.ack_cnt = acked;
            self.friendly = cwnd;
            if self.last_max <= cwnd {
                (self.k, self.origin) = (0, cwnd);
            } else {
                let factor = (1u64 << (10 + 3 * TIME_SHIFT)) / C;
                self.k = cube_root(factor * u64::from(self.last_max - cwnd));
                self.origin = self.last_max;
            }
        }
        // One RTT ahead: where the window should be when these ACKs' packets are acknowledged.
        let ms = u64::from(now.wrapping_sub(self.epoch)) + u64::from(self.delay_min.div_ceil(1000));
        let t = (ms << TIME_SHIFT) / 1000;
        let k = u64::from(self.k);
        let offset = t.abs_diff(k);
        let delta = (u128::from(C) * u128::from(offset).pow(3)) >> (10 + 3 * TIME_SHIFT);
        let delta = u32::try_from(delta).unwrap_or(u32::MAX);
        let target = if t < k {
            self.origin.saturating_sub(delta)
        } else {
            self.origin.saturating_add(delta)
        };
        self.cnt = if target > cwnd {
            cwnd / (target - cwnd)
        } else {
            cwnd.saturating_mul(100)
        };
        // Before any loss: at least 5 % per round trip.
        if self.last_max == 0 {
            self.cnt = self.cnt.min(20);
        }
    }

    /// Not slower than Reno would be (RFC 9438 §4.3).
    fn reno_friendly(&mut self, cwnd: u32) {
        let step = ((u64::from(cwnd) * u64::from(FRIENDLY)) >> 3).max(1) as u32;
        if self.ack_cnt > step {
            let steps = (self.ack_cnt - 1) / step;
            self.ack_cnt -= steps * step;
            self.friendly = self.friendly.saturating_add(steps);
        }
        if self.friendly > cwnd {
            self.cnt = self.cnt.min(cwnd / (self.friendly - cwnd));
        }
    }

    /// Whether slow start should end: ACKs in a train for half the least RTT, or RTTs that rise
    /// (Linux: `hystart_update`).
    fn hystart(&mut self, cx: &mut Cx<'_>, delay: u32) -> Option<Hystart> {
        if cx.una.after(self.round_end) {
            self.hystart_reset(cx);
        }
        if cx.cwnd.window < HYSTART_LOW_WINDOW {
            return None;
        }
        let mut found = None;
        let now = now_us(cx);
        if now.wrapping_sub(self.last_ack) as i32 <= HYSTART_ACK_DELTA_US {
            self.last_ack = now;
            // Pacing and super-packets spread ACKs by themselves.
            let burst = (u64::from(GSO_MAX) * 4_000_000)
                .checked_div(cx.pacing.rate)
                .unwrap_or(0)
                .min(1000);
            let mut threshold = self.delay_min + burst as u32;
            if !cx.paced {
                threshold >>= 1;
            }
            if now.wrapping_sub(self.round_start) as i32 > threshold as i32 {
                found = Some(Hystart::AckTrain);
            }
        }
        self.curr_rtt = self.curr_rtt.min(delay);
        if self.samples < HYSTART_MIN_SAMPLES {
            self.samples += 1;
        } else {
            let rise = (self.delay_min >> 3).clamp(HYSTART_DELAY_US.0, HYSTART_DELAY_US.1);
            if self.curr_rtt > self.delay_min.saturating_add(rise) {
                found = found.or(Some(Hystart::Delay));
            }
        }
        if found.is_some() {
            self.found = true;
            cx.cwnd.ssthresh = cx.cwnd.window;
        }
        found
    }
}

impl CongestionControl for Cubic {
    fn init(&mut self, cx: &mut Cx<'_>) {
        self.reset();
        self.hystart_reset(cx);
    }

    /// With fast convergence: a loss before the last maximum was reached gives way to others
    /// (RFC 9438 §4.6, §4.7).
    fn ssthresh(&mut self, cx: &mut Cx<'_>) -> u32 {
        self.epoch = 0;
        let cwnd = cx.cwnd.window;
        self.last_max = if cwnd < self.last_max {
            (u64::from(cwnd) * u64::from(BETA_UNIT + BETA) / u64::from(2 * BETA_UNIT)) as u32
        } else {
            cwnd
        };
        ((u64::from(cwnd) * u64::from(BETA) / u64::from(BETA_UNIT)) as u32).max(2)
    }

    fn cong_avoid(&mut self, cx: &mut Cx<'_>, acked: u32) {
        let mut left = acked;
        if cx.cwnd.in_slow_start() {
            left = cx.cwnd.slow_start(acked);
            if left == 0 {
                return;
            }
        }
        self.update(cx, left);
        cx.cwnd.additive_increase(self.cnt, left);
    }

    fn set_state(&mut self, cx: &mut Cx<'_>, state: CaState) {
        if state == CaState::Loss {
            self.reset();
            self.hystart_reset(cx);
        }
    }

    /// Time without data in flight doesn't count on the curve.
    fn event(&mut self, cx: &mut Cx<'_>, event: CcEvent) {
        if event != CcEvent::TxStart {
            return;
        }
        let now = stamp(cx);
        let idle = now.wrapping_sub(cx.last_data) as i32;
        if self.epoch != 0 && idle > 0 {
            self.epoch = self.epoch.wrapping_add(idle as u32);
            if (self.epoch.wrapping_sub(now) as i32) > 0 {
                self.epoch = now;
            }
        }
    }

    fn pkts_acked(&mut self, cx: &mut Cx<'_>, sample: &AckSample) -> Option<Hystart> {
        let delay = sample.rtt_us?.max(1);
        // Right after a recovery RTTs tell nothing.
        if self.epoch != 0 && (stamp(cx).wrapping_sub(self.epoch) as i32) < 1000 {
            return None;
        }
        if self.delay_min == 0 || self.delay_min > delay {
            self.delay_min = delay;
        }
        if self.found || !cx.cwnd.in_slow_start() {
            return None;
        }
        self.hystart(cx, delay)
    }
}
