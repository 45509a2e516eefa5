//! A connection's deadlines. One timer of the wheel stands at the earliest; it is moved earlier at once and later only when
//! it fires (Linux: `tcp_write_timer`, `tcp_delack_timer`, `tcp_keepalive_timer`).

use super::Tcp;
use super::conn::Conn;
use super::snd::{TimerCx, TimerOut};
use super::timewait;
use crate::Instant;
use crate::buf::Memory;
use crate::env::Env;
use crate::timer::TimerKey;
use estab_proto::state::Trigger;
use estab_proto::{Counter, State, TimerInfo, TimerKind, TraceKind};

/// No deadline.
pub(crate) const NEVER: Instant = Instant::NEVER;

fn at(deadline: Instant, kind: TimerKind) -> Option<(Instant, TimerKind)> {
    (deadline != NEVER).then_some((deadline, kind))
}

/// Whose deadline it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Deadline {
    Opening,
    Sender,
    DelayedAck,
    Keepalive,
    FinWait2,
}

impl Conn {
    fn deadlines(&self) -> [(Deadline, Option<(Instant, TimerKind)>); 5] {
        let syn = match self.state {
            State::SynSent => TimerKind::Retransmit,
            _ => TimerKind::SynAck,
        };
        let opening = self.opening.as_ref().and_then(|o| o.deadline).map(|at| (at, syn));
        let open = self.state != State::Closed && self.state != State::SynSent;
        [
            (Deadline::Opening, opening),
            (Deadline::Sender, if open { self.snd.deadline() } else { None }),
            (Deadline::DelayedAck, if open { self.rcv.deadline() } else { None }),
            (
                Deadline::Keepalive,
                if open {
                    at(self.keepalive.deadline(), TimerKind::Keepalive)
                } else {
                    None
                },
            ),
            (Deadline::FinWait2, at(self.fin_wait2_until, TimerKind::FinWait2)),
        ]
    }

    /// Moves the wheel's timer if the earliest deadline is earlier than it. One that is later, or gone, waits for the timer
    /// to fire: with nearly every segment some deadline moves, and nearly none passes.
    pub(super) fn rearm(&mut self, env: &mut Env, index: u32) {
        let first = self.first_deadline();
        if first < self.armed {
            env.timers.set(&mut self.timer, first, TimerKey::Conn(index).pack());
            self.armed = first;
        }
    }

    /// The earliest of [`Self::deadlines`].
    fn first_deadline(&self) -> Instant {
        let mut first = self.fin_wait2_until;
        if let Some(at) = self.opening.as_ref().and_then(|o| o.deadline) {
            first = first.min(at);
        }
        if self.state != State::Closed && self.state != State::SynSent {
            first = first.min(self.keepalive.deadline());
            first = first.min(self.snd.deadline_at()).min(self.rcv.deadline_at());
        }
        first
    }

    /// The timer that `ss -o` shows: retransmission and its kin before keepalive, delayed ACKs not at all.
    pub(crate) fn timer_info(&self, now: Instant) -> Option<TimerInfo> {
        let retries = |deadline| match deadline {
            Deadline::Opening => self.opening.as_ref().map_or(0, |o| o.retries),
            Deadline::Sender => self.snd.retries(),
            Deadline::Keepalive => self.keepalive.probes(),
            _ => 0,
        };
        self.deadlines()
            .into_iter()
            .filter(|(which, _)| *which != Deadline::DelayedAck)
            .find_map(|(which, d)| d.map(|(at, kind)| (which, at, kind)))
            .map(|(which, at, kind)| TimerInfo {
                kind,
                expires_in_ns: at.since(now).as_nanos() as u64,
                retries: retries(which),
            })
    }

    /// Acts on every deadline that has passed.
    fn on_timer(&mut self, env: &mut Env) {
        self.armed = NEVER;
        for (which, deadline) in self.deadlines() {
            if deadline.is_none_or(|(at, _)| at > env.now) || self.state == State::Closed {
                continue;
            }
            match which {
                Deadline::Opening => self.syn_timeout(env),
                Deadline::Sender => self.sender_timeout(env),
                Deadline::DelayedAck => {
                    let path = self.path();
                    self.rcv.on_timer(&mut env.rcv(), &path);
                }
                Deadline::Keepalive => self.keepalive_timeout(env),
                Deadline::FinWait2 => self.fin_wait2_timeout(env),
            }
        }
    }

    fn sender_timeout(&mut self, env: &mut Env) {
        let cx = TimerCx {
            orphan: self.orphan,
            orphans: env.orphans,
            out_of_memory: env.memory == Memory::Exhausted,
            soft_error: self.soft_error,
        };
        if let Some((_, kind)) = self.snd.deadline() {
            let retries = self.snd.retries();
            env.trace(&self.tuple, || TraceKind::Timer { kind, retries });
        }
        let retries = self.snd.retries();
        let rto = self
            .snd
            .deadline()
            .is_some_and(|(_, kind)| kind == TimerKind::Retransmit);
        let out = self.snd.on_timer(env, &cx);
        if rto && out != TimerOut::Nothing {
            self.fast_open_timeout(env, retries, matches!(out, TimerOut::Fail(_)));
        }
        match out {
            TimerOut::Nothing | TimerOut::Send => {}
            TimerOut::Fail(error) => {
                env.mib.inc(Counter::TcpExtTCPAbortOnTimeout);
                self.fail(env, error);
            }
            TimerOut::Abort { reset } => {
                if reset {
                    self.send_active_reset(env);
                }
                env.mib.inc(Counter::TcpExtTCPAbortOnMemory);
                self.finish(env, Trigger::Timeout);
            }
        }
    }
}

impl Tcp {
    /// One of TCP's timers has fired.
    pub(crate) fn on_timer(&mut self, env: &mut Env, key: TimerKey) {
        match key {
            TimerKey::Conn(index) => {
                if let Some(conn) = self.conns.get_mut(index as usize) {
                    conn.on_timer(env);
                    self.settle(env, index);
                }
            }
            TimerKey::Requests(row) => {
                while let Some(index) = self.syn_timers.pop(&mut self.requests, row, env.now) {
                    self.request_timeout(env, index);
                }
                self.syn_timers.arm(&mut env.timers, row.into());
            }
            TimerKey::Request(index) => self.request_timeout(env, index),
            TimerKey::TimeWaits(row) => {
                while let Some(object) = self.timewaits.pop(row, env.now) {
                    self.end_timewait(env, object, Some(Trigger::Timeout));
                }
                self.timewaits.arm(env, row);
            }
            TimerKey::TimeWait(index) => {
                self.end_timewait(env, timewait::object(index), Some(Trigger::Timeout));
            }
            _ => {}
        }
    }
}
