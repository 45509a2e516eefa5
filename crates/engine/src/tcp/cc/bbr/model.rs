//! What the path delivers, and the bounds that losses set: short-term ones (`_lo`), which hold until the next probe, and a
//! long-term one (`inflight_hi`), which probes move (draft-ietf-ccwg-bbr §5.5).

use super::{Bbr, PACING_MARGIN_PERCENT, State, UNIT};
use crate::Instant;
use crate::tcp::cc::{Cx, Lost};
use crate::tcp::snd::rate::Sample;

/// What is left of the short-term bounds after a round trip with losses (draft: BBRBeta).
const BETA_PERCENT: u64 = 70;
/// More than this part lost is too much, in 256ths (draft: BBRLossThresh, 2 %).
const LOSS_THRESHOLD: u32 = UNIT * 2 / 100;
/// Round trips for which the most of acknowledgments that came at once is remembered, twice.
const EXTRA_ACKED_ROUNDS: u8 = 5;
/// What ACKs may bring at once beyond the rate is bounded by what this time brings, in microseconds.
const EXTRA_ACKED_MAX_US: u64 = 100_000;

/// Bytes per second.
pub(super) fn delivery_rate(cx: &Cx<'_>, sample: &Sample) -> Option<u64> {
    let delivered = sample.delivered.filter(|_| sample.interval_us > 0)?;
    Some(u64::from(delivered) * u64::from(cx.mss) * 1_000_000 / u64::from(sample.interval_us))
}

/// `a` is not before `b`, of counters that wrap.
fn reached(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 >= 0
}

#[derive(Clone, Debug)]
pub(super) struct Model {
    /// A round trip ends when what is delivered now is acknowledged.
    round_end: u32,
    pub(super) round_start: bool,
    /// The greatest rate of the last ProbeBW cycle and of this one.
    max_bw: [u64; 2],
    bw_lo: u64,
    pub(super) inflight_lo: u32,
    pub(super) inflight_hi: u32,
    /// The bounds before the last losses: a needless reduction is undone.
    saved: (u64, u32, u32),
    /// The most of this round trip.
    bw_latest: u64,
    inflight_latest: u32,
    loss_round_end: u32,
    pub(super) loss_round_start: bool,
    loss_in_round: bool,
    /// ACKs with losses in this round trip.
    pub(super) loss_events: u8,
    /// Acknowledgments that come at once: how many above the rate, in the last rounds and in these.
    extra_acked: [u32; 2],
    extra_rounds: u8,
    epoch_start: Instant,
    epoch_acked: u32,
}

impl Model {
    pub(super) fn new() -> Model {
        Model {
            round_end: 0,
            round_start: false,
            max_bw: [0; 2],
            bw_lo: u64::MAX,
            inflight_lo: u32::MAX,
            inflight_hi: u32::MAX,
            saved: (u64::MAX, u32::MAX, u32::MAX),
            bw_latest: 0,
            inflight_latest: 0,
            loss_round_end: 0,
            loss_round_start: false,
            loss_in_round: false,
            loss_events: 0,
            extra_acked: [0; 2],
            extra_rounds: 0,
            epoch_start: Instant::ZERO,
            epoch_acked: 0,
        }
    }

    pub(super) fn begin(&mut self, cx: &Cx<'_>) {
        (self.round_end, self.loss_round_end) = (cx.rate.delivered, cx.rate.delivered);
        self.restart_aggregation(cx.now);
    }

    /// The greatest rate seen lately.
    pub(super) fn max_bw(&self) -> u64 {
        self.max_bw[0].max(self.max_bw[1])
    }

    /// The rate to work with.
    pub(super) fn bw(&self) -> u64 {
        self.max_bw().min(self.bw_lo)
    }

    /// A ProbeBW cycle ends (draft: BBRAdvanceMaxBwFilter).
    pub(super) fn advance_max_bw(&mut self) {
        // A cycle without a sample forgets nothing.
        if self.max_bw[1] > 0 {
            self.max_bw = [self.max_bw[1], 0];
        }
    }

    pub(super) fn start_round(&mut self, cx: &Cx<'_>) {
        self.round_end = cx.rate.delivered;
    }

    pub(super) fn update_round(&mut self, cx: &Cx<'_>, sample: &Sample) {
        self.round_start = sample.prior_delivered != 0 && reached(sample.prior_delivered, self.round_end);
        if self.round_start {
            self.start_round(cx);
        }
    }

    pub(super) fn update_max_bw(&mut self, sample: &Sample, bw: u64) {
        if !sample.app_limited || bw >= self.max_bw() {
            self.max_bw[1] = self.max_bw[1].max(bw);
        }
    }

    /// Draft: BBRUpdateLatestDeliverySignals.
    pub(super) fn latest_signals(&mut self, cx: &Cx<'_>, sample: &Sample, bw: u64) {
        self.bw_latest = self.bw_latest.max(bw);
        self.inflight_latest = self.inflight_latest.max(sample.delivered.unwrap_or(0));
        self.loss_round_start = reached(sample.prior_delivered, self.loss_round_end);
        if self.loss_round_start {
            self.loss_round_end = cx.rate.delivered;
        }
    }

    /// Draft: BBRAdvanceLatestDeliverySignals.
    pub(super) fn advance_latest(&mut self, sample: &Sample, bw: u64) {
        if core::mem::take(&mut self.loss_round_start) {
            self.bw_latest = bw;
            self.inflight_latest = sample.delivered.unwrap_or(0);
        }
    }

    /// Draft: BBRNoteLoss.
    pub(super) fn note_loss(&mut self, cx: &Cx<'_>) {
        if !self.loss_in_round {
            self.loss_round_end = cx.rate.delivered;
        }
        self.loss_in_round = true;
    }

    pub(super) fn inflight_latest(&self) -> u32 {
        self.inflight_latest
    }

    pub(super) fn clear_loss_signals(&mut self) {
        self.loss_in_round = false;
        (self.bw_latest, self.inflight_latest) = (0, 0);
    }

    /// Draft: BBRResetShortTermModel.
    pub(super) fn forget_lower_bounds(&mut self) {
        (self.bw_lo, self.inflight_lo) = (u64::MAX, u32::MAX);
    }

    pub(super) fn save_bounds(&mut self) {
        self.saved = (self.bw_lo, self.inflight_lo, self.inflight_hi);
    }

    pub(super) fn undo_bounds(&mut self) {
        self.loss_in_round = false;
        self.bw_lo = self.bw_lo.max(self.saved.0);
        self.inflight_lo = self.inflight_lo.max(self.saved.1);
        self.inflight_hi = self.inflight_hi.max(self.saved.2);
    }

    pub(super) fn restart_aggregation(&mut self, now: Instant) {
        (self.epoch_start, self.epoch_acked) = (now, 0);
    }

    /// How many segments ACKs bring at once beyond what the rate explains (draft: BBRUpdateACKAggregation).
    pub(super) fn update_aggregation(&mut self, cx: &Cx<'_>, sample: &Sample, full: bool) {
        if sample.acked_sacked == 0 || sample.delivered.is_none() {
            return;
        }
        if self.round_start {
            self.extra_rounds = self.extra_rounds.saturating_add(1);
            let most = if full { EXTRA_ACKED_ROUNDS } else { 1 };
            if self.extra_rounds >= most {
                self.extra_rounds = 0;
                self.extra_acked = [self.extra_acked[1], 0];
            }
        }
        let bw = self.bw();
        let segments = |us: u128| (u128::from(bw) * us / (u128::from(cx.mss) * 1_000_000)).min(1 << 30) as u32;
        let mut expected = segments(cx.now.since(self.epoch_start).as_micros());
        if self.epoch_acked <= expected {
            self.restart_aggregation(cx.now);
            expected = 0;
        }
        self.epoch_acked = self.epoch_acked.saturating_add(sample.acked_sacked).min(1 << 20);
        let extra = self.epoch_acked.saturating_sub(expected).min(cx.cwnd.window);
        let extra = extra.min(segments(EXTRA_ACKED_MAX_US.into()));
        self.extra_acked[1] = self.extra_acked[1].max(extra);
    }

    pub(super) fn extra_acked(&self) -> u32 {
        self.extra_acked[0].max(self.extra_acked[1])
    }
}

/// More of what was in flight was lost than is healthy (draft: IsInflightTooHigh).
pub(super) fn too_many_lost(lost: u32, in_flight: u32) -> bool {
    u64::from(lost) * u64::from(UNIT) > u64::from(in_flight) * u64::from(LOSS_THRESHOLD)
}

impl Bbr {
    /// A round trip with losses is over: the short-term bounds come down, but not while more is tried on purpose
    /// (draft: BBRAdaptLowerBoundsFromCongestion).
    pub(super) fn adapt_lower_bounds(&mut self, cx: &Cx<'_>) {
        let loss = core::mem::take(&mut self.model.loss_in_round);
        if !loss || self.state.is_probing() {
            return;
        }
        let model = &mut self.model;
        if model.bw_lo == u64::MAX {
            model.bw_lo = model.max_bw();
        }
        if model.inflight_lo == u32::MAX {
            model.inflight_lo = cx.cwnd.window;
        }
        // What arrived was sent below the estimate by the margin, which must not add up round trip by round trip; the draft
        // leaves it in, and halves its rate under 1 % of random loss sooner.
        let latest = model.bw_latest * 100 / (100 - PACING_MARGIN_PERCENT);
        model.bw_lo = latest.max(model.bw_lo * BETA_PERCENT / 100);
        let reduced = u64::from(model.inflight_lo) * BETA_PERCENT / 100;
        model.inflight_lo = model.inflight_latest.max(reduced as u32);
    }

    /// An ECN-Echo says that a router would have dropped something.
    pub(super) fn note_echo(&mut self, cx: &mut Cx<'_>, sample: &Sample) {
        if !sample.ece {
            return;
        }
        self.model.note_loss(cx);
        if self.cycle.samples_probe {
            self.inflight_too_high(cx, sample.tx_in_flight, sample.app_limited);
        }
    }

    /// A packet was marked lost (draft: BBRHandleLostPacket).
    pub(super) fn handle_lost(&mut self, cx: &mut Cx<'_>, lost: &Lost) {
        self.model.note_loss(cx);
        if !self.cycle.samples_probe || !too_many_lost(lost.since, lost.tx_in_flight) {
            return;
        }
        // At which packet of the record was it too much? (draft: BBRInflightAtLoss)
        let before = lost.tx_in_flight.saturating_sub(lost.packets);
        let lost_before = lost.since.saturating_sub(lost.packets);
        let allowed = (u64::from(before) * u64::from(LOSS_THRESHOLD)).saturating_sub(u64::from(lost_before * UNIT));
        let prefix = (allowed / u64::from(UNIT - LOSS_THRESHOLD)) as u32;
        self.inflight_too_high(cx, before + prefix, lost.app_limited);
    }

    /// Draft: BBRHandleInflightTooHigh.
    pub(super) fn inflight_too_high(&mut self, cx: &mut Cx<'_>, tx_in_flight: u32, app_limited: bool) {
        self.cycle.samples_probe = false;
        if !app_limited {
            let least = u64::from(self.target_inflight(cx)) * BETA_PERCENT / 100;
            self.model.inflight_hi = tx_in_flight.max(least as u32);
        }
        if self.state == State::Up {
            self.start_down(cx);
        }
    }

    /// Draft: BBRTargetInflight.
    pub(super) fn target_inflight(&self, cx: &Cx<'_>) -> u32 {
        self.bdp(cx, self.model.bw(), UNIT).min(cx.cwnd.window)
    }
}
