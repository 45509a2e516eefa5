//! Startup and Drain: find the rate by doubling, then let the queue go that it cost (draft-ietf-ccwg-bbr §5.3.1, §5.3.2).

use super::model::{delivery_rate, too_many_lost};
use super::{Bbr, State, UNIT};
use crate::tcp::cc::Cx;
use crate::tcp::loss::CaState;
use crate::tcp::snd::rate::Sample;

/// Round trips without a quarter more end the search.
const FULL_ROUNDS: u8 = 3;
/// That many ACKs with losses in one round trip of recovery end Startup, and that many round trips with ECN marks.
const FULL_LOSSES: u8 = 6;
const FULL_ECN_ROUNDS: u8 = 2;

/// Whether the path is full: its rate grows no more.
#[derive(Clone, Debug, Default)]
pub(super) struct FullPipe {
    /// It was full once.
    pub(super) reached: bool,
    /// It is, in this search.
    pub(super) now: bool,
    bw: u64,
    rounds: u8,
    ecn_rounds: u8,
    ecn_in_round: bool,
}

impl FullPipe {
    /// A new search begins (draft: BBRResetFullBW).
    pub(super) fn reset(&mut self) {
        (self.bw, self.rounds, self.now) = (0, 0, false);
    }

    /// A new search that begins at the rate of `sample`.
    pub(super) fn restart(&mut self, cx: &Cx<'_>, sample: &Sample) {
        self.reset();
        self.bw = delivery_rate(cx, sample).unwrap_or(0);
    }
}

impl Bbr {
    /// Draft: BBRCheckFullBWReached.
    pub(super) fn check_full_bw(&mut self, cx: &Cx<'_>, sample: &Sample) {
        let Some(bw) = delivery_rate(cx, sample) else { return };
        if self.full.now || sample.app_limited {
            return;
        }
        if bw >= self.full.bw.saturating_mul(5) / 4 {
            self.full.reset();
            self.full.bw = bw;
            return;
        }
        if !self.model.round_start {
            return;
        }
        self.full.rounds += 1;
        self.full.now = self.full.rounds >= FULL_ROUNDS;
        self.full.reached |= self.full.now;
    }

    /// Draft: BBRCheckStartupDone, BBRCheckStartupHighLoss.
    pub(super) fn check_startup(&mut self, cx: &mut Cx<'_>, sample: &Sample) {
        if self.state != State::Startup {
            return;
        }
        self.full.ecn_in_round |= sample.ece;
        self.model.loss_events = self.model.loss_events.saturating_add(u8::from(sample.losses > 0));
        if self.model.loss_round_start {
            let many = cx.state == CaState::Recovery
                && self.model.loss_events >= FULL_LOSSES
                && too_many_lost(sample.lost, sample.tx_in_flight);
            self.model.loss_events = 0;
            let marked = core::mem::take(&mut self.full.ecn_in_round);
            self.full.ecn_rounds = if marked { self.full.ecn_rounds + 1 } else { 0 };
            if many || self.full.ecn_rounds >= FULL_ECN_ROUNDS {
                self.full.reached = true;
                let bdp = self.bdp(cx, self.model.max_bw(), UNIT);
                self.model.inflight_hi = bdp.max(self.model.inflight_latest());
            }
        }
        if self.full.reached {
            self.state = State::Drain;
            self.model.clear_loss_signals();
        }
    }

    /// Draft: BBRCheckDrainDone.
    pub(super) fn check_drain(&mut self, cx: &mut Cx<'_>) {
        if self.state == State::Drain && cx.in_flight <= self.inflight(cx, UNIT) {
            self.start_down(cx);
        }
    }
}
