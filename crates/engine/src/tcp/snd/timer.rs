//! The one timer of a sender: retransmission, loss probe, reordering or zero-window probe, whichever applies
//! (Linux: `tcp_write_timer_handler`, `tcp_retransmit_timer`, `tcp_write_timeout`).

use super::{Sender, TimerCx, TimerOut};
use crate::env::Env;
use crate::tcp::loss::{CaState, rto};
use crate::{Instant, SockError};
use core::time::Duration;
use estab_proto::{Counter, TimerKind};

/// Retransmissions of a thin stream without backoff (Linux: `TCP_THIN_LINEAR_RETRIES`).
const THIN_LINEAR_RETRIES: u8 = 6;
/// `tcp_orphan_retries` 0 means this.
const ORPHAN_RETRIES: u32 = 8;
/// How long a TIME_WAIT lasts, in milliseconds: what "sent recently" means to an orphan (Linux: `TCP_TIMEWAIT_LEN`).
const TIMEWAIT_MS: u32 = 60_000;

/// What the timer is set for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pending {
    Rto,
    LossProbe,
    Reorder,
    Probe0,
}

/// The timer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timer(Option<(Pending, Instant)>);

impl Timer {
    pub(crate) fn is_loss_probe(&self) -> bool {
        matches!(self.0, Some((Pending::LossProbe, _)))
    }

    pub(crate) fn is_reorder(&self) -> bool {
        matches!(self.0, Some((Pending::Reorder, _)))
    }

    pub(crate) fn is_rto(&self) -> bool {
        matches!(self.0, Some((Pending::Rto, _)))
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }
}

impl Sender {
    fn set_timer(&mut self, env: &Env, pending: Pending, us: u32, paced: bool) {
        let mut wait = Duration::from_micros(u64::from(us.min(rto::max_us(&env.sysctl))));
        if paced {
            wait += self.pacing_delay(env);
        }
        self.timer.0 = Some((pending, env.now + wait));
    }

    /// The timer fires after a full timeout.
    pub(crate) fn set_timer_rto(&mut self, env: &Env) {
        self.set_timer(env, Pending::Rto, self.rtt.rto(), true);
    }

    /// The retransmission timer fires in `us`.
    pub(crate) fn set_timer_rto_in(&mut self, env: &Env, us: u32) {
        self.set_timer(env, Pending::Rto, us, false);
    }

    pub(crate) fn set_timer_reorder(&mut self, env: &Env, us: u32) {
        self.set_timer(env, Pending::Reorder, us, false);
    }

    pub(crate) fn set_timer_loss_probe(&mut self, env: &Env, us: u32) {
        self.set_timer(env, Pending::LossProbe, us, true);
    }

    pub(super) fn set_timer_probe0(&mut self, env: &Env, us: u32) {
        self.set_timer(env, Pending::Probe0, us, true);
    }

    /// Restarts the retransmission timer after progress; what passed since the first record was sent counts where another
    /// timer stood in for it (RFC 6298 §5.3; Linux: `tcp_rearm_rto`).
    pub(crate) fn rearm_rto(&mut self, env: &Env) {
        if self.flags.handshake {
            return;
        }
        if self.packets_out == 0 {
            self.timer.clear();
        } else if self.timer.is_reorder() || self.timer.is_loss_probe() {
            let left = self.rto_left_us(env).max(1);
            self.set_timer(env, Pending::Rto, u32::try_from(left).unwrap_or(u32::MAX), true);
        } else {
            self.set_timer_rto(env);
        }
    }

    /// Microseconds until a full timeout after the first record was sent (Linux: `tcp_rto_delta_us`).
    pub(crate) fn rto_left_us(&self, env: &Env) -> i64 {
        let Some(head) = self.queue.head() else {
            return i64::from(self.rtt.rto());
        };
        let end = head.sent + self.rto();
        (end.micros() as i64) - (env.now.micros() as i64)
    }

    /// When to call [`Self::on_timer`] next, and why.
    pub(crate) fn deadline(&self) -> Option<(Instant, TimerKind)> {
        let pacing = self.pacing_deadline().map(|at| (at, TimerKind::Pacing));
        let timer = self.timer.0.map(|(pending, at)| {
            let kind = match pending {
                Pending::Rto => TimerKind::Retransmit,
                Pending::LossProbe => TimerKind::LossProbe,
                Pending::Reorder => TimerKind::Reorder,
                Pending::Probe0 => TimerKind::Persist,
            };
            (at, kind)
        });
        match (pacing, timer) {
            (Some(a), Some(b)) => Some(if b.0 <= a.0 { b } else { a }),
            (one, other) => one.or(other),
        }
    }

    /// When to call [`Self::on_timer`] next; the end of time: not.
    pub(crate) fn deadline_at(&self) -> Instant {
        let timer = self.timer.0.map_or(Instant::NEVER, |(_, at)| at);
        self.pacing_deadline().map_or(timer, |at| at.min(timer))
    }

    /// How often in a row the timer has fired without an answer, for diagnoses.
    pub(crate) fn retries(&self) -> u8 {
        match self.timer.0 {
            Some((Pending::Probe0, _)) => self.probes_out,
            _ => self.retransmits,
        }
    }

    /// Acts on the deadline if it has passed.
    pub(crate) fn on_timer(&mut self, env: &mut Env, cx: &TimerCx) -> TimerOut {
        let mut out = TimerOut::Nothing;
        if self.pacing_deadline().is_some_and(|at| at <= env.now) {
            self.pacing_timer(env);
            out = TimerOut::Send;
        }
        let Some((pending, _)) = self.timer.0.filter(|(_, at)| *at <= env.now) else {
            return out;
        };
        match pending {
            Pending::Reorder => {
                self.rack_timeout(env);
                TimerOut::Send
            }
            Pending::LossProbe => {
                self.send_loss_probe(env);
                TimerOut::Send
            }
            Pending::Rto => {
                self.timer.clear();
                self.retransmit_timeout(env, cx)
            }
            Pending::Probe0 => {
                self.timer.clear();
                self.probe_timeout(env, cx)
            }
        }
    }

    /// RFC 6298 §5.4 to §5.7.
    fn retransmit_timeout(&mut self, env: &mut Env, cx: &TimerCx) -> TimerOut {
        let Some(head) = self.queue.head() else {
            return TimerOut::Nothing;
        };
        let head_sent = head.sent;
        self.tlp_high = None;
        if self.wnd == 0 && !cx.orphan {
            // The peer took its window back: retransmissions become probes and don't count against a peer that answers.
            let since = match self.undo.retrans_stamp {
                0 => head_sent.millis() as u32,
                stamp => stamp,
            };
            if self.closed_window_timed_out(env, env.now_ms().wrapping_sub(since)) {
                return self.give_up(cx);
            }
            self.enter_loss(env);
            self.retransmit(env, 0, 1);
        } else {
            env.mib.inc(Counter::TcpExtTCPTimeouts);
            if let Some(out) = self.write_timeout(env, cx) {
                return out;
            }
            if self.retransmits == 0 {
                self.count_timeout_reason(env);
                self.troubles.rto_recoveries = self.troubles.rto_recoveries.saturating_add(1);
                self.troubles.rto_stamp = env.now_ms().max(1);
            }
            self.enter_loss(env);
            self.retransmits = self.retransmits.saturating_add(1);
            self.troubles.rtos = self.troubles.rtos.saturating_add(1);
            if !self.retransmit(env, 0, 1) && env.output_full {
                self.set_timer(env, Pending::Rto, rto::RESOURCE_US, false);
                return TimerOut::Nothing;
            }
            self.rtt.backoff = self.rtt.backoff.saturating_add(1);
        }
        let thin = env.sysctl.tcp_thin_linear_timeouts != 0
            && !self.flags.fin_queued
            && self.packets_out < 4
            && !self.in_initial_slow_start();
        if thin && self.retransmits <= THIN_LINEAR_RETRIES {
            self.rtt.backoff = 0;
            self.rtt.set_rto(self.rtt.base(&env.sysctl));
        } else {
            self.rtt.double(&env.sysctl);
        }
        let us = self.clamp_to_user_timeout(env, self.rtt.rto());
        self.set_timer(env, Pending::Rto, us, false);
        TimerOut::Send
    }

    /// Linux: `tcp_in_initial_slowstart`.
    pub(super) fn in_initial_slow_start(&self) -> bool {
        self.cwnd.ssthresh >= super::cwnd::INFINITE
    }

    /// What recovery the timeout cuts short.
    fn count_timeout_reason(&mut self, env: &mut Env) {
        let sack = self.flags.sack_ok;
        let counter = match self.state {
            CaState::Recovery if sack => Counter::TcpExtTCPSackRecoveryFail,
            CaState::Recovery => Counter::TcpExtTCPRenoRecoveryFail,
            CaState::Loss => Counter::TcpExtTCPLossFailures,
            _ if self.state != CaState::Disorder && self.board.sacked_out == 0 => return,
            _ if sack => Counter::TcpExtTCPSackFailures,
            _ => Counter::TcpExtTCPRenoFailures,
        };
        env.mib.inc(counter);
    }

    /// Whether this timeout is one too many (Linux: `tcp_write_timeout`).
    fn write_timeout(&mut self, env: &mut Env, cx: &TimerCx) -> Option<TimerOut> {
        if self.timed_out(env, env.sysctl.tcp_retries1, 0) {
            self.mtu_black_hole(env);
        }
        let mut retries = env.sysctl.tcp_retries2;
        if cx.orphan {
            let alive = self.rtt.rto() < rto::max_us(&env.sysctl);
            retries = orphan_retries(env, cx, alive);
            let reset = alive || !self.timed_out(env, retries, 0);
            if let Some(out) = self.out_of_resources(env, cx, reset) {
                return Some(out);
            }
        }
        self.timed_out(env, retries, self.user_timeout)
            .then(|| self.give_up(cx))
    }

    /// Retransmitting has lasted for as long as `boundary` retransmissions take, or for `timeout` ms if
    /// that is not 0 (Linux: `retransmits_timed_out`).
    pub(super) fn timed_out(&self, env: &Env, boundary: u32, timeout: u32) -> bool {
        if self.retransmits == 0 {
            return false;
        }
        let timeout = match timeout {
            0 => rto::model_timeout_ms(boundary, rto::BASE_US, rto::max_us(&env.sysctl)),
            ms => ms,
        };
        let spent = env.now_ms().wrapping_sub(self.undo.retrans_stamp);
        (spent.wrapping_sub(timeout) as i32) >= 0
    }

    /// A closed window lasts too long: nothing was heard for twice the largest timeout
    /// (Linux: `tcp_rtx_probe0_timed_out`).
    fn closed_window_timed_out(&self, env: &Env, spent_ms: u32) -> bool {
        let mut timeout = rto::max_us(&env.sysctl) / 1000 * 2;
        if self.user_timeout != 0 {
            if spent_ms > self.user_timeout {
                return true;
            }
            timeout = timeout.min(self.user_timeout);
        }
        self.last_ack_ms(env) > timeout && spent_ms > timeout
    }

    /// The timer must not pass TCP_USER_TIMEOUT (Linux: `tcp_clamp_rto_to_user_timeout`).
    fn clamp_to_user_timeout(&self, env: &Env, us: u32) -> u32 {
        if self.user_timeout == 0 {
            return us;
        }
        let spent = env.now_ms().wrapping_sub(self.undo.retrans_stamp);
        match self.user_timeout.saturating_sub(spent) {
            0 => 1000,
            left => us.min(left.saturating_mul(1000)),
        }
    }

    /// An orphan may be given up earlier, for want of memory or because there are too many
    /// (Linux: `tcp_out_of_resources`).
    pub(super) fn out_of_resources(&mut self, env: &mut Env, cx: &TimerCx, reset: bool) -> Option<TimerOut> {
        let mut shift = 0;
        if self.last_sent_ms(env) > rto::max_us(&env.sysctl) / 1000 * 2 || !reset {
            shift += 1;
        }
        if cx.soft_error.is_some() {
            shift += 1;
        }
        if !cx.out_of_memory && u64::from(cx.orphans) << shift <= u64::from(env.sysctl.tcp_max_orphans) {
            return None;
        }
        let recent = self.last_sent_ms(env) <= TIMEWAIT_MS || self.wnd == 0 && self.packets_out == 0;
        Some(TimerOut::Abort { reset: reset || recent })
    }

    /// The end: the application learns what is known of the reason (Linux: `tcp_write_err`, whose counter is the
    /// caller's).
    pub(super) fn give_up(&mut self, cx: &TimerCx) -> TimerOut {
        self.timer.clear();
        TimerOut::Fail(cx.soft_error.unwrap_or(SockError::ETIMEDOUT))
    }

    /// A checked ICMP unreachable came for the first byte in flight: the network is reachable up to its
    /// sender, so one backoff step is taken back (RFC 6069; Linux: `tcp_ld_RTO_revert`).
    pub(crate) fn on_unreachable(&mut self, env: &mut Env, seq: estab_proto::SeqNum) {
        if self.retransmits == 0 || self.rtt.backoff == 0 || self.flags.handshake || seq != self.una {
            return;
        }
        let Some(head) = self.queue.head() else { return };
        let sent = head.sent;
        self.rtt.backoff -= 1;
        let base = if self.rtt.srtt8() == 0 {
            1_000_000
        } else {
            self.rtt.base(&env.sysctl)
        };
        let max = rto::max_us(&env.sysctl);
        let us = base
            .checked_shl(u32::from(self.rtt.backoff))
            .unwrap_or(max)
            .clamp(base, max.max(base));
        self.rtt.set_rto(us);
        let passed = super::rate::micros(env.now, sent);
        // Where that time has passed, the timer fires at once.
        self.set_timer(env, Pending::Rto, us.saturating_sub(passed), false);
    }
}

/// How many timeouts an orphan may have (Linux: `tcp_orphan_retries`).
pub(super) fn orphan_retries(env: &Env, cx: &TimerCx, alive: bool) -> u32 {
    let mut retries = env.sysctl.tcp_orphan_retries;
    if cx.soft_error.is_some() && !alive {
        retries = 0;
    }
    if retries == 0 && alive {
        retries = ORPHAN_RETRIES;
    }
    retries
}
