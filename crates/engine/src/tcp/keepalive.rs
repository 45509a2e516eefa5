//! Keepalive (RFC 9293 §3.8.4, RFC 1122 §4.2.3.6; Linux: `tcp_keepalive_timer`).

use super::conn::Conn;
use super::timers::NEVER;
use crate::env::Env;
use crate::sock::SockOpts;
use crate::{Instant, SockError};
use core::time::Duration;
use estab_proto::{Counter, State, TimerKind, TraceKind};

/// The timer of one connection.
#[derive(Clone, Copy)]
pub(crate) struct Keepalive {
    /// [`NEVER`] while it rests.
    deadline: Instant,
    /// Probes without an answer.
    probes: u8,
}

/// The knobs in force for one socket.
fn idle(env: &Env, opts: &SockOpts) -> Duration {
    Duration::from_secs(match opts.keepidle {
        0 => env.sysctl.tcp_keepalive_time.into(),
        s => s.into(),
    })
}

fn interval(env: &Env, opts: &SockOpts) -> Duration {
    Duration::from_secs(match opts.keepintvl {
        0 => env.sysctl.tcp_keepalive_intvl.into(),
        s => s.into(),
    })
}

impl Keepalive {
    /// At rest.
    pub(crate) const OFF: Keepalive = Keepalive {
        deadline: NEVER,
        probes: 0,
    };

    /// The connection is open, or the option was set or changed: counts from now on.
    pub(crate) fn start(&mut self, env: &Env, opts: &SockOpts) {
        self.probes = 0;
        self.deadline = if opts.keepalive {
            env.now + idle(env, opts)
        } else {
            NEVER
        };
    }

    /// The peer lives; the timer finds out when it fires.
    pub(crate) fn on_segment(&mut self) {
        self.probes = 0;
    }

    /// When the timer fires.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Probes sent in vain.
    pub(crate) fn probes(&self) -> u8 {
        self.probes
    }

    pub(crate) fn stop(&mut self) {
        self.deadline = NEVER;
    }
}

impl Conn {
    /// SO_KEEPALIVE or TCP_KEEPIDLE was set: the time of silence so far counts (Linux: `tcp_sock_set_keepidle_locked`).
    pub(crate) fn keepalive_changed(&mut self, env: &Env) {
        if matches!(self.state, State::Closed | State::SynSent | State::SynRcvd) {
            return;
        }
        self.keepalive.probes = 0;
        let due = (self.last_rcv + idle(env, &self.opts)).max(env.now);
        self.keepalive.deadline = if self.opts.keepalive { due } else { NEVER };
    }

    /// The keepalive timer has fired.
    pub(super) fn keepalive_timeout(&mut self, env: &mut Env) {
        if !self.opts.keepalive || matches!(self.state, State::Closed | State::SynSent | State::SynRcvd) {
            return self.keepalive.stop();
        }
        let idle_time = idle(env, &self.opts);
        // Data in flight or waiting: its own timers watch the peer.
        if self.snd.packets_out() > 0 || self.snd.unsent() > 0 {
            self.keepalive.deadline = env.now + idle_time;
            return;
        }
        let quiet = env.now.since(self.last_rcv);
        if quiet < idle_time {
            self.keepalive.deadline = self.last_rcv + idle_time;
            return;
        }
        let probes = self.keepalive.probes;
        env.trace(&self.tuple, || TraceKind::Timer {
            kind: TimerKind::Keepalive,
            retries: probes,
        });
        let most = match self.opts.keepcnt {
            0 => env.sysctl.tcp_keepalive_probes,
            n => n.into(),
        };
        // TCP_USER_TIMEOUT replaces the number of probes (Linux since 4.x).
        let user = Duration::from_millis(self.opts.user_timeout.into());
        let gone = match user.is_zero() {
            false => quiet >= user && probes > 0,
            true => u32::from(probes) >= most,
        };
        if gone {
            self.send_active_reset(env);
            env.mib.inc(Counter::TcpExtTCPAbortOnTimeout);
            let error = self.soft_error.unwrap_or(SockError::ETIMEDOUT);
            return self.fail(env, error);
        }
        self.keepalive.probes += 1;
        env.mib.inc(Counter::TcpExtTCPKeepAlive);
        self.probe_now = true;
        self.keepalive.deadline = env.now + interval(env, &self.opts);
    }
}
