//! ProbeBW, where a connection spends its life: it leaves some room to others, and every few seconds tries whether there is
//! more (draft-ietf-ccwg-bbr §5.3.3).

use super::model::too_many_lost;
use super::{AckPhase, Bbr, MIN_WINDOW, State, UNIT, passed};
use crate::Instant;
use crate::tcp::cc::Cx;
use crate::tcp::snd::rate::Sample;
use core::time::Duration;

/// The room left to others below the long-term bound, in percent.
const HEADROOM_PERCENT: u32 = 15;
/// At least every so many round trips there is a probe, as often as Reno would find a loss.
const MAX_ROUNDS: u32 = 63;
/// The time between two probes, and how far it varies.
const WAIT_BASE_MS: u32 = 2000;
const WAIT_RANDOM_MS: u32 = 1000;

#[derive(Clone, Debug)]
pub(super) struct Cycle {
    phase: AckPhase,
    /// When the phase of the cycle began, and how long until the next probe.
    stamp: Instant,
    wait: Duration,
    /// Round trips since the last probe.
    pub(super) rounds_since: u8,
    /// The samples come from a probe: what is lost now was too much.
    pub(super) samples_probe: bool,
    /// How the long-term bound rises: its steps double each round trip.
    up_rounds: u8,
    up_per_step: u32,
    up_acks: u32,
}

impl Cycle {
    pub(super) fn new() -> Cycle {
        Cycle {
            phase: AckPhase::Init,
            stamp: Instant::ZERO,
            wait: Duration::ZERO,
            rounds_since: 0,
            samples_probe: false,
            up_rounds: 0,
            up_per_step: u32::MAX,
            up_acks: 0,
        }
    }

    pub(super) fn probe_stops(&mut self) {
        self.phase = AckPhase::ProbeStopping;
    }
}

impl Bbr {
    /// Draft: BBRStartProbeBW_DOWN.
    pub(super) fn start_down(&mut self, cx: &Cx<'_>) {
        self.model.clear_loss_signals();
        self.cycle.up_per_step = u32::MAX;
        self.cycle.rounds_since = self.random_below(2) as u8;
        let ms = WAIT_BASE_MS + self.random_below(WAIT_RANDOM_MS);
        self.cycle.wait = Duration::from_millis(ms.into());
        self.cycle.stamp = cx.now;
        self.cycle.probe_stops();
        self.model.start_round(cx);
        self.state = State::Down;
    }

    /// Draft: BBRStartProbeBW_CRUISE.
    pub(super) fn start_cruise(&mut self) {
        self.model.inflight_lo = self.model.inflight_lo.min(self.model.inflight_hi);
        self.state = State::Cruise;
    }

    /// Draft: BBRStartProbeBW_REFILL.
    fn start_refill(&mut self, cx: &Cx<'_>) {
        self.model.forget_lower_bounds();
        (self.cycle.up_rounds, self.cycle.up_acks) = (0, 0);
        self.cycle.phase = AckPhase::Refilling;
        self.cycle.stamp = cx.now;
        self.model.start_round(cx);
        self.state = State::Refill;
    }

    /// Draft: BBRStartProbeBW_UP.
    fn start_up(&mut self, cx: &Cx<'_>, sample: &Sample) {
        self.cycle.phase = AckPhase::ProbeStarting;
        self.cycle.samples_probe = true;
        self.cycle.stamp = cx.now;
        self.model.start_round(cx);
        self.full.restart(cx, sample);
        self.state = State::Up;
        self.raise_slope(cx);
    }

    /// Draft: BBRUpdateProbeBWCyclePhase.
    pub(super) fn update_cycle(&mut self, cx: &mut Cx<'_>, sample: &Sample) {
        if !self.full.reached {
            return;
        }
        self.adapt_upper_bounds(cx, sample);
        let down = self.state == State::Up && self.is_time_to_go_down(cx, sample);
        match self.state {
            State::Down if self.is_time_to_probe(cx) => self.start_refill(cx),
            State::Down if self.is_time_to_cruise(cx) => self.start_cruise(),
            State::Cruise if self.is_time_to_probe(cx) => self.start_refill(cx),
            State::Refill if self.model.round_start => self.start_up(cx, sample),
            State::Up if down => self.start_down(cx),
            _ => {}
        }
    }

    /// Draft: BBRAdaptLongTermModel.
    fn adapt_upper_bounds(&mut self, cx: &mut Cx<'_>, sample: &Sample) {
        if self.model.round_start {
            match self.cycle.phase {
                AckPhase::ProbeStarting => self.cycle.phase = AckPhase::ProbeFeedback,
                AckPhase::ProbeStopping => {
                    self.cycle.samples_probe = false;
                    self.cycle.phase = AckPhase::Init;
                    if self.state.is_probe_bw() && !sample.app_limited {
                        self.model.advance_max_bw();
                    }
                }
                _ => {}
            }
        }
        if too_many_lost(sample.lost, sample.tx_in_flight) {
            if self.cycle.samples_probe {
                self.inflight_too_high(cx, sample.tx_in_flight, sample.app_limited);
            }
            return;
        }
        if self.model.inflight_hi == u32::MAX {
            return;
        }
        self.model.inflight_hi = self.model.inflight_hi.max(sample.tx_in_flight);
        if self.state == State::Up {
            self.probe_upward(cx, sample);
        }
    }

    /// Draft: BBRRaiseInflightLongtermSlope.
    fn raise_slope(&mut self, cx: &Cx<'_>) {
        let growth = 1u32 << self.cycle.up_rounds;
        self.cycle.up_rounds = (self.cycle.up_rounds + 1).min(30);
        self.cycle.up_per_step = (cx.cwnd.window / growth).max(1);
    }

    /// Draft: BBRProbeInflightLongtermUpward.
    fn probe_upward(&mut self, cx: &Cx<'_>, sample: &Sample) {
        if !cx.window_full || cx.cwnd.window < self.model.inflight_hi {
            return;
        }
        self.cycle.up_acks += sample.acked_sacked;
        let steps = self.cycle.up_acks / self.cycle.up_per_step;
        self.cycle.up_acks -= steps * self.cycle.up_per_step;
        self.model.inflight_hi = self.model.inflight_hi.saturating_add(steps);
        if self.model.round_start {
            self.raise_slope(cx);
        }
    }

    /// Draft: BBRIsTimeToProbeBW; a probe comes as often as Reno's sawtooth, at least.
    fn is_time_to_probe(&self, cx: &Cx<'_>) -> bool {
        passed(cx.now, self.cycle.stamp, self.cycle.wait)
            || u32::from(self.cycle.rounds_since) >= self.target_inflight(cx).min(MAX_ROUNDS)
    }

    /// Draft: BBRIsTimeToCruise.
    fn is_time_to_cruise(&self, cx: &Cx<'_>) -> bool {
        let most = self.inflight(cx, UNIT).min(self.inflight_with_headroom());
        cx.in_flight <= most
    }

    /// Draft: BBRIsTimeToGoDown.
    fn is_time_to_go_down(&mut self, cx: &Cx<'_>, sample: &Sample) -> bool {
        if cx.window_full && cx.cwnd.window >= self.model.inflight_hi {
            // The bound, not the path, limits the rate.
            self.full.restart(cx, sample);
            return false;
        }
        self.full.now
    }

    /// Draft: BBRInflightWithHeadroom.
    pub(super) fn inflight_with_headroom(&self) -> u32 {
        match self.model.inflight_hi {
            u32::MAX => u32::MAX,
            hi => {
                let headroom = (u64::from(hi) * u64::from(HEADROOM_PERCENT) / 100).max(1) as u32;
                hi.saturating_sub(headroom).max(MIN_WINDOW)
            }
        }
    }
}
