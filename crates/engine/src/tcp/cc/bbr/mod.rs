//! BBR, version 3: instead of waiting for loss, it models the path by the rate at which data arrives and by the least RTT, and
//! sends at that rate with about that product in flight (draft-ietf-ccwg-bbr; Linux: google/bbr's branch v3). Where the
//! draft has a function for it, ours has its name.
//!
//! | file | draft |
//! |---|---|
//! | `mod.rs` | §5.2 the states as a whole; §5.6 pacing rate and window |
//! | `model.rs` | §5.5 what the path delivers, and its bounds after losses |
//! | `startup.rs` | §5.3.1, §5.3.2 Startup and Drain |
//! | `probe_bw.rs` | §5.3.3 ProbeBW: down, cruise, refill, up |
//! | `probe_rtt.rs` | §5.3.4 ProbeRTT |
//!
//! The draft leaves ECN out. An ECN-Echo (RFC 3168) counts here as a loss does, once per round trip.

mod model;
mod probe_bw;
mod probe_rtt;
mod startup;

use super::{CcEvent, CongestionControl, Cx, Lost};
use crate::Instant;
use crate::tcp::loss::CaState;
use crate::tcp::snd::cwnd;
use crate::tcp::snd::rate::Sample;
use core::time::Duration;
use estab_proto::diag::BbrInfo;
use model::Model;

/// Gains are in 256ths.
const UNIT: u32 = 256;
/// The window in bandwidth-delay products, but for ProbeBW's UP and ProbeRTT.
const CWND_GAIN: u32 = 2 * UNIT;
/// The window never falls below (draft: BBRMinPipeCwnd).
const MIN_WINDOW: u32 = 4;
/// Pacing stays this much below the estimate, so that queues drain (draft: BBRPacingMarginPercent).
const PACING_MARGIN_PERCENT: u64 = 1;
/// Below this rate a super-packet may be of one segment.
const SLOW_BYTES_PER_SECOND: u64 = 1_200_000 / 8;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The rate doubles each round trip until it stops growing.
    Startup,
    /// The queue that made goes away.
    Drain,
    /// ProbeBW: a little below the rate, to leave room.
    Down,
    /// ProbeBW: at the rate.
    Cruise,
    /// ProbeBW: one round trip without the bounds of earlier losses, before more is tried.
    Refill,
    /// ProbeBW: is there more?
    Up,
    /// A short time with little in flight shows the least RTT.
    ProbeRtt,
}

impl State {
    fn is_probe_bw(self) -> bool {
        matches!(self, State::Down | State::Cruise | State::Refill | State::Up)
    }

    /// More is being sent than the path is known to carry.
    fn is_probing(self) -> bool {
        matches!(self, State::Startup | State::Refill | State::Up)
    }

    fn pacing_gain(self) -> u32 {
        match self {
            // 4·ln 2: the rate doubles each round trip.
            State::Startup => UNIT * 277 / 100,
            State::Drain => UNIT * 35 / 100,
            State::Down => UNIT * 91 / 100,
            State::Up => UNIT * 5 / 4,
            State::Cruise | State::Refill | State::ProbeRtt => UNIT,
        }
    }

    fn cwnd_gain(self) -> u32 {
        match self {
            State::Up => CWND_GAIN + UNIT / 4,
            State::ProbeRtt => UNIT / 2,
            _ => CWND_GAIN,
        }
    }
}

/// What the ACKs that come now answer to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum AckPhase {
    Init,
    Refilling,
    ProbeStarting,
    ProbeFeedback,
    ProbeStopping,
}

/// The state of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Bbr {
    state: State,
    model: Model,
    full: startup::FullPipe,
    cycle: probe_bw::Cycle,
    min_rtt: probe_rtt::MinRtt,
    /// The window before it was reduced.
    prior_window: u32,
    /// Sending restarted after an idle time.
    idle_restart: bool,
    /// A connection's dice; seeded by its sequence numbers, which others can't guess.
    dice: u32,
}

impl Bbr {
    pub(crate) fn new() -> Bbr {
        Bbr {
            state: State::Startup,
            model: Model::new(),
            full: startup::FullPipe::default(),
            cycle: probe_bw::Cycle::new(),
            min_rtt: probe_rtt::MinRtt::new(),
            prior_window: 0,
            idle_restart: false,
            dice: 1,
        }
    }

    /// A number below `n` (Marsaglia's xorshift).
    fn random_below(&mut self, n: u32) -> u32 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 17;
        self.dice ^= self.dice << 5;
        ((u64::from(self.dice) * u64::from(n)) >> 32) as u32
    }

    /// Segments that fill the path `gain` times (draft: BBRBDPMultiple).
    fn bdp(&self, cx: &Cx<'_>, bw: u64, gain: u32) -> u32 {
        let Some(rtt_us) = self.min_rtt.us() else {
            return cwnd::INITIAL;
        };
        let bytes = u128::from(bw) * u128::from(rtt_us) * u128::from(gain) / u128::from(UNIT);
        let segments = bytes.div_ceil(u128::from(cx.mss) * 1_000_000);
        u32::try_from(segments).unwrap_or(u32::MAX)
    }

    /// Room for what leaves and is acknowledged in bursts (draft: BBRQuantizationBudget).
    fn quantized(&self, cx: &Cx<'_>, segments: u32) -> u32 {
        let quantum = ((cx.pacing.rate >> 10).min(u64::from(crate::tcp::snd::output::GSO_MAX)) as u32 / cx.mss).max(2);
        let up = if self.state == State::Up { 2 } else { 0 };
        segments.max(3 * quantum).max(MIN_WINDOW).saturating_add(up)
    }

    /// Draft: BBRInflight.
    fn inflight(&self, cx: &Cx<'_>, gain: u32) -> u32 {
        self.quantized(cx, self.bdp(cx, self.model.bw(), gain))
    }

    /// Draft: BBRUpdateModelAndState.
    fn update_model(&mut self, cx: &mut Cx<'_>, sample: &Sample) {
        self.model.update_round(cx, sample);
        if let Some(bw) = model::delivery_rate(cx, sample) {
            self.model.latest_signals(cx, sample, bw);
            self.model.update_max_bw(sample, bw);
        }
        self.cycle.rounds_since = self.cycle.rounds_since.saturating_add(u8::from(self.model.round_start));
        self.note_echo(cx, sample);
        if self.model.loss_round_start {
            self.adapt_lower_bounds(cx);
        }
        self.model.update_aggregation(cx, sample, self.full.reached);
        self.check_full_bw(cx, sample);
        self.check_startup(cx, sample);
        self.check_drain(cx);
        self.update_cycle(cx, sample);
        self.update_min_rtt(cx, sample);
        if let Some(bw) = model::delivery_rate(cx, sample) {
            self.model.advance_latest(sample, bw);
        }
    }

    /// Draft: BBRSetPacingRateWithGain. Before the path was once full, the rate only grows.
    fn set_pacing_rate(&self, cx: &mut Cx<'_>, gain: u32) {
        let rate = u128::from(self.model.bw()) * u128::from(gain) / u128::from(UNIT);
        let rate = rate * u128::from(100 - PACING_MARGIN_PERCENT) / 100;
        let rate = u64::try_from(rate).unwrap_or(u64::MAX).min(cx.pacing.max_rate);
        if rate > 0 && (self.full.reached || rate > cx.pacing.rate) {
            cx.pacing.rate = rate;
        }
    }

    /// Draft: BBRInitPacingRate.
    fn init_pacing_rate(&self, cx: &mut Cx<'_>) {
        let rtt_us = match cx.srtt_us {
            0 => 1000,
            us => us,
        };
        let bytes = u64::from(cx.cwnd.window) * u64::from(cx.mss);
        let rate = bytes * 1_000_000 / u64::from(rtt_us) * u64::from(State::Startup.pacing_gain()) / u64::from(UNIT);
        cx.pacing.rate = rate.min(cx.pacing.max_rate);
    }

    /// Draft: BBRSetCwnd.
    fn set_window(&mut self, cx: &mut Cx<'_>, acked: u32) {
        if acked > 0 {
            let gained = self.bdp(cx, self.model.bw(), self.state.cwnd_gain());
            let most = self.quantized(cx, gained.saturating_add(self.model.extra_acked()));
            let grown = cx.cwnd.window.saturating_add(acked);
            if self.full.reached {
                cx.cwnd.window = grown.min(most);
            } else if cx.cwnd.window < most || cx.rate.delivered < 2 * cwnd::INITIAL {
                cx.cwnd.window = grown;
            }
            cx.cwnd.window = cx.cwnd.window.max(MIN_WINDOW);
        }
        if self.state == State::ProbeRtt {
            cx.cwnd.window = cx.cwnd.window.min(self.probe_rtt_window(cx));
        }
        self.bound_window(cx);
    }

    /// Draft: BBRBoundCwndForModel.
    fn bound_window(&self, cx: &mut Cx<'_>) {
        let long_term = match self.state {
            State::Down | State::Refill | State::Up => self.model.inflight_hi,
            State::Cruise | State::ProbeRtt => self.inflight_with_headroom(),
            State::Startup | State::Drain => u32::MAX,
        };
        let most = long_term.min(self.model.inflight_lo).max(MIN_WINDOW);
        cx.cwnd.window = cx.cwnd.window.min(most);
    }

    /// Draft: BBRSaveCwnd.
    fn save_window(&mut self, cx: &Cx<'_>) {
        let window = cx.cwnd.window;
        self.prior_window = if cx.state < CaState::Recovery && self.state != State::ProbeRtt {
            window
        } else {
            self.prior_window.max(window)
        };
    }

    /// Draft: BBRRestoreCwnd.
    fn restore_window(&self, cx: &mut Cx<'_>) {
        cx.cwnd.window = cx.cwnd.window.max(self.prior_window);
    }

    /// The least segments of a super-packet at a pacing rate.
    pub(crate) fn min_tso_segs(rate: u64) -> u32 {
        if rate < SLOW_BYTES_PER_SECOND { 1 } else { 2 }
    }

    pub(crate) fn info(&self) -> BbrInfo {
        BbrInfo {
            bw: self.model.bw(),
            min_rtt: self.min_rtt.us().unwrap_or(u32::MAX),
            pacing_gain: self.state.pacing_gain(),
            cwnd_gain: self.state.cwnd_gain(),
        }
    }
}

fn passed(now: Instant, since: Instant, limit: Duration) -> bool {
    now.since(since) > limit
}

impl CongestionControl for Bbr {
    fn init(&mut self, cx: &mut Cx<'_>) {
        *self = Bbr::new();
        self.dice = (cx.nxt.0 ^ cx.now.nanos() as u32).max(1);
        cx.cwnd.ssthresh = cwnd::INFINITE;
        self.min_rtt.init(cx);
        self.model.begin(cx);
        self.init_pacing_rate(cx);
    }

    /// The threshold means nothing to it; what a reduction takes away is kept to be given back.
    fn ssthresh(&mut self, cx: &mut Cx<'_>) -> u32 {
        self.save_window(cx);
        self.model.save_bounds();
        cx.cwnd.ssthresh
    }

    fn cong_avoid(&mut self, _cx: &mut Cx<'_>, _acked: u32) {}

    fn cong_control(&mut self, cx: &mut Cx<'_>, sample: &Sample) {
        self.update_model(cx, sample);
        self.set_pacing_rate(cx, self.state.pacing_gain());
        self.set_window(cx, sample.acked_sacked);
    }

    fn lost(&mut self, cx: &mut Cx<'_>, lost: &Lost) {
        self.handle_lost(cx, lost);
    }

    /// The bounds that a needless reduction left are lifted with it.
    fn undo_cwnd(&mut self, cx: &mut Cx<'_>) -> u32 {
        self.full.reset();
        self.model.undo_bounds();
        cx.cwnd.window.max(self.prior_window)
    }

    fn set_state(&mut self, cx: &mut Cx<'_>, state: CaState) {
        if state == CaState::Loss {
            // The path has changed: measure it anew.
            self.full.reset();
            if !self.state.is_probing() && self.model.inflight_lo == u32::MAX {
                self.model.inflight_lo = self.prior_window.max(cx.cwnd.window);
            }
        } else if cx.state == CaState::Loss {
            self.restore_window(cx);
        }
    }

    fn event(&mut self, cx: &mut Cx<'_>, event: CcEvent) {
        match event {
            // Draft: BBRHandleRestartFromIdle.
            CcEvent::TxStart if cx.rate.app_limited != 0 => {
                self.idle_restart = true;
                self.model.restart_aggregation(cx.now);
                if self.state.is_probe_bw() {
                    self.set_pacing_rate(cx, UNIT);
                } else if self.state == State::ProbeRtt {
                    self.check_probe_rtt_done(cx);
                }
            }
            CcEvent::TlpRecovery => self.model.note_loss(cx),
            _ => {}
        }
    }
}
