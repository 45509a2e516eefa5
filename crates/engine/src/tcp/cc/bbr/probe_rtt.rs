//! The least RTT, and ProbeRTT, which empties the queue for a moment to see it (draft-ietf-ccwg-bbr §5.3.4).

use super::{Bbr, MIN_WINDOW, State, UNIT, passed};
use crate::Instant;
use crate::tcp::cc::Cx;
use crate::tcp::snd::rate::Sample;
use core::time::Duration;

/// How long a least RTT counts.
const FILTER: Duration = Duration::from_secs(10);
/// After so long without a lower one, it is looked for.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long little is in flight then, at least.
const DURATION: Duration = Duration::from_millis(200);

#[derive(Clone, Debug)]
pub(super) struct MinRtt {
    /// The least of [`FILTER`], and when it was seen; `u32::MAX`: none yet.
    us: u32,
    stamp: Instant,
    /// The least since the last search.
    probe_us: u32,
    probe_stamp: Instant,
    /// When ProbeRTT may end, once little is in flight.
    done: Option<Instant>,
    round_done: bool,
}

impl MinRtt {
    pub(super) fn new() -> MinRtt {
        MinRtt {
            us: u32::MAX,
            stamp: Instant::ZERO,
            probe_us: u32::MAX,
            probe_stamp: Instant::ZERO,
            done: None,
            round_done: false,
        }
    }

    pub(super) fn init(&mut self, cx: &Cx<'_>) {
        let us = match cx.srtt_us {
            0 => u32::MAX,
            us => us,
        };
        (self.us, self.probe_us) = (us, us);
        (self.stamp, self.probe_stamp) = (cx.now, cx.now);
    }

    /// In microseconds.
    pub(super) fn us(&self) -> Option<u32> {
        (self.us != u32::MAX).then_some(self.us)
    }
}

impl Bbr {
    /// Draft: BBRUpdateMinRTT, BBRCheckProbeRTT.
    pub(super) fn update_min_rtt(&mut self, cx: &mut Cx<'_>, sample: &Sample) {
        let min = &mut self.min_rtt;
        let expired = passed(cx.now, min.probe_stamp, INTERVAL);
        if let Some(us) = sample
            .rtt_us
            .filter(|us| *us < min.probe_us || expired && !sample.ack_delayed)
        {
            (min.probe_us, min.probe_stamp) = (us.max(1), cx.now);
        }
        if min.probe_us < min.us || passed(cx.now, min.stamp, FILTER) {
            (min.us, min.stamp) = (min.probe_us, min.probe_stamp);
        }
        if expired && !self.idle_restart && self.state != State::ProbeRtt {
            self.save_window(cx);
            self.state = State::ProbeRtt;
            self.min_rtt.done = None;
            self.cycle.probe_stops();
            self.model.start_round(cx);
        }
        if self.state == State::ProbeRtt {
            self.handle_probe_rtt(cx);
        }
        if sample.delivered.is_some_and(|n| n > 0) {
            self.idle_restart = false;
        }
    }

    /// Draft: BBRHandleProbeRTT.
    fn handle_probe_rtt(&mut self, cx: &mut Cx<'_>) {
        // Samples of this time say nothing of the rate.
        cx.rate.mark_app_limited(cx.in_flight);
        match self.min_rtt.done {
            None if cx.in_flight <= self.probe_rtt_window(cx) => {
                self.min_rtt.done = Some(cx.now + DURATION);
                self.min_rtt.round_done = false;
                self.model.start_round(cx);
            }
            None => {}
            Some(_) => {
                self.min_rtt.round_done |= self.model.round_start;
                if self.min_rtt.round_done {
                    self.check_probe_rtt_done(cx);
                }
            }
        }
    }

    /// Draft: BBRCheckProbeRTTDone, BBRExitProbeRTT.
    pub(super) fn check_probe_rtt_done(&mut self, cx: &mut Cx<'_>) {
        if self.min_rtt.done.is_none_or(|done| cx.now <= done) {
            return;
        }
        self.min_rtt.probe_stamp = cx.now;
        self.restore_window(cx);
        self.model.forget_lower_bounds();
        if self.full.reached {
            self.start_down(cx);
            self.start_cruise();
        } else {
            self.state = State::Startup;
        }
    }

    /// Draft: BBRProbeRTTCwnd.
    pub(super) fn probe_rtt_window(&self, cx: &Cx<'_>) -> u32 {
        self.bdp(cx, self.model.bw(), UNIT / 2).max(MIN_WINDOW)
    }
}
