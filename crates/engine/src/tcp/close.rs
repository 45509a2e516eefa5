//! How connections end: shutdown, close, FIN in both directions, orphans, FIN_WAIT_2, aborts
//! (RFC 9293 §3.10.4–5, §3.6; Linux: `tcp_close`, `tcp_shutdown`, `tcp_fin`, `tcp_time_wait`, `tcp_disconnect`).

use super::conn::{Conn, Reject};
use super::timers::NEVER;
use super::timewait::two_msl;
use crate::buf::Memory;
use crate::drop::DropReason;
use crate::env::Env;
use crate::{Result, Shutdown, SockError};
use core::time::Duration;
use estab_proto::state::Trigger;
use estab_proto::{Counter, State};

/// What becomes of a connection when the call being served is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It stays.
    Stay,
    /// It becomes an entry of the TIME_WAIT table for so many milliseconds; `fin_wait2`: in its substate FIN_WAIT_2.
    TimeWait { fin_wait2: bool, life_ms: u32 },
    /// It is gone.
    Done,
}

/// How an application leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Leave {
    /// close(2)
    Close,
    /// SO_LINGER 0's way, whatever the option says.
    Abort,
}

impl Conn {
    /// How long an orphan stays in FIN_WAIT_2 (Linux: `tcp_fin_time`).
    fn fin_time(&self, env: &Env) -> Duration {
        let fin = match self.opts.linger2 {
            0 => Duration::from_secs(env.sysctl.tcp_fin_timeout.into()),
            n => Duration::from_secs(n.max(0) as u64),
        };
        fin.max(self.three_and_a_half_rto())
    }

    pub(super) fn three_and_a_half_rto(&self) -> Duration {
        self.snd.rto() * 7 / 2
    }

    /// To CLOSED; what was queued to be sent is dropped, what was received can still be read.
    pub(super) fn finish(&mut self, env: &mut Env, on: Trigger) {
        if self.state != State::Closed {
            self.move_to(env, State::Closed, on);
        }
        self.fate = Fate::Done;
        self.end_fast_open_request(false);
        self.rcv_shutdown = true;
        self.snd_shutdown = true;
        self.end_opening(env);
        self.probe_now = false;
        self.snd.purge(env);
        self.notify(env);
    }

    /// To TIME_WAIT, or to the table's FIN_WAIT_2 (Linux: `tcp_time_wait`).
    pub(super) fn retire(&mut self, env: &mut Env, fin_wait2: bool, life: Duration) {
        let life = match fin_wait2 {
            true => life.max(self.three_and_a_half_rto()),
            false => two_msl(env),
        };
        let life_ms = u32::try_from(life.as_millis()).unwrap_or(u32::MAX);
        self.fate = Fate::TimeWait { fin_wait2, life_ms };
        self.rcv_shutdown = true;
        self.snd_shutdown = true;
        self.probe_now = false;
        self.notify(env);
    }

    /// A timeout or an error ends the connection (Linux: `tcp_write_err`, `tcp_v4_err`).
    pub(super) fn fail(&mut self, env: &mut Env, error: SockError) {
        self.error = Some(error);
        self.finish(env, Trigger::Timeout);
    }

    /// A valid RST (Linux: `tcp_reset`).
    pub(super) fn on_reset(&mut self, env: &mut Env) {
        self.error = Some(match self.state {
            State::SynSent => SockError::ECONNREFUSED,
            State::CloseWait => SockError::EPIPE,
            _ => SockError::ECONNRESET,
        });
        if matches!(self.state, State::SynSent | State::SynRcvd) {
            env.mib.inc(Counter::TcpAttemptFails);
        }
        self.finish(env, Trigger::RcvRst);
    }

    /// Data came that nobody can read any more; the RST is the caller's.
    #[cold]
    pub(super) fn abort_on_data(&mut self, env: &mut Env) {
        self.error = Some(match self.state {
            State::CloseWait => SockError::EPIPE,
            _ => SockError::ECONNRESET,
        });
        self.finish(env, abort_trigger(self.state));
    }

    /// RST and CLOSED, if the state calls for an RST (Linux: `tcp_need_reset`, `tcp_send_active_reset`).
    pub(super) fn abort(&mut self, env: &mut Env, on: Trigger) {
        let reset = match self.state {
            State::Established | State::CloseWait | State::FinWait1 | State::FinWait2 | State::SynRcvd => true,
            State::Closing | State::LastAck => self.snd.nxt() != self.snd.write_seq(),
            _ => false,
        };
        if reset {
            self.send_active_reset(env);
        }
        self.finish(env, on);
    }

    /// Our FIN is acknowledged, in the states that end with that (Linux: `tcp_rcv_state_process`).
    #[inline(never)]
    pub(super) fn fin_acked(&mut self, env: &mut Env) {
        match self.state {
            State::Closing => {
                self.move_to(env, State::TimeWait, Trigger::RcvAckOfFin);
                self.retire(env, false, Duration::ZERO);
            }
            State::LastAck => self.finish(env, Trigger::RcvAckOfFin),
            _ => {}
        }
    }

    /// An orphan whom TCP_LINGER2 gives no FIN_WAIT_2 ends with the ACK of its FIN, which is answered by a reset whatever it
    /// brings (Linux: `tcp_rcv_state_process`).
    pub(super) fn fin_wait2_begins(&mut self, env: &mut Env) -> core::result::Result<(), Reject> {
        if self.state != State::FinWait1 || !self.orphan || self.opts.linger2 >= 0 || !self.snd.fin_acked() {
            return Ok(());
        }
        env.mib.inc(Counter::TcpExtTCPAbortOnData);
        self.move_to(env, State::FinWait2, Trigger::RcvAckOfFin);
        self.finish(env, Trigger::Abort);
        Err(Reject::reset(DropReason::TcpAbortOnData))
    }

    /// FIN_WAIT_1 whose FIN is acknowledged becomes FIN_WAIT_2; after the segment's text, so that one segment which
    /// also brings the peer's FIN leads straight to TIME_WAIT.
    pub(super) fn leave_fin_wait1(&mut self, env: &mut Env) {
        if self.state == State::FinWait1 && self.snd.fin_acked() {
            self.move_to(env, State::FinWait2, Trigger::RcvAckOfFin);
            self.snd_shutdown = true;
            self.notify(env);
            if self.orphan {
                self.orphan_in_fin_wait2(env);
            }
        }
    }

    /// An orphan in FIN_WAIT_2 has `tcp_fin_timeout`, of which the last 2·MSL are spent in the TIME_WAIT table
    /// (Linux: `tcp_rcv_state_process`, `__tcp_close`).
    fn orphan_in_fin_wait2(&mut self, env: &mut Env) {
        if self.opts.linger2 < 0 {
            env.mib.inc(Counter::TcpExtTCPAbortOnLinger);
            self.send_active_reset(env);
            return self.finish(env, Trigger::Abort);
        }
        let (time, table) = (self.fin_time(env), two_msl(env));
        if time > table {
            self.fin_wait2_until = env.now + (time - table);
        } else {
            self.retire(env, true, time);
        }
    }

    /// The time as a full socket is over (Linux: `tcp_keepalive_timer` in FIN_WAIT_2).
    pub(super) fn fin_wait2_timeout(&mut self, env: &mut Env) {
        self.fin_wait2_until = NEVER;
        let rest = self.fin_time(env).saturating_sub(two_msl(env));
        if self.opts.linger2 >= 0 && !rest.is_zero() {
            self.retire(env, true, two_msl(env));
            return;
        }
        self.send_active_reset(env);
        self.finish(env, Trigger::Timeout);
    }

    /// The peer's FIN, in order (Linux: `tcp_fin`).
    #[inline(never)]
    pub(super) fn fin_arrives(&mut self, env: &mut Env) {
        self.rcv_shutdown = true;
        match self.state {
            State::SynRcvd | State::Established => {
                self.move_to(env, State::CloseWait, Trigger::RcvFin);
                self.rcv.enter_pingpong(&env.sysctl);
            }
            State::FinWait1 if self.snd.fin_acked() => {
                self.send_ack_stateless(env);
                self.move_to(env, State::TimeWait, Trigger::RcvFinAckOfFin);
                self.retire(env, false, Duration::ZERO);
            }
            State::FinWait1 => {
                self.rcv.ack_now();
                self.move_to(env, State::Closing, Trigger::RcvFin);
            }
            State::FinWait2 => {
                self.send_ack_stateless(env);
                self.move_to(env, State::TimeWait, Trigger::RcvFin);
                self.retire(env, false, Duration::ZERO);
            }
            _ => {}
        }
        self.notify(env);
    }

    /// Queues our FIN if the state has one to send (Linux: `tcp_close_state`, `tcp_send_fin`).
    fn close_sending(&mut self, env: &mut Env) {
        let to = match self.state {
            State::Established | State::SynRcvd => State::FinWait1,
            State::CloseWait => State::LastAck,
            State::SynSent => return self.finish(env, Trigger::Close),
            _ => return,
        };
        self.move_to(env, to, Trigger::Close);
        self.snd.queue_fin(env);
    }

    /// shutdown(2) (Linux: `inet_shutdown`, `tcp_shutdown`).
    pub(crate) fn shutdown(&mut self, env: &mut Env, how: Shutdown) -> Result<()> {
        match self.state {
            State::Closed => {
                self.notify(env);
                return Err(SockError::ENOTCONN);
            }
            State::SynSent => {
                self.error = Some(SockError::ECONNRESET);
                self.finish(env, Trigger::Close);
                return Ok(());
            }
            _ => {}
        }
        if how != Shutdown::Write {
            self.rcv_shutdown = true;
            self.rcv.shutdown();
        }
        if how != Shutdown::Read {
            self.snd_shutdown = true;
            if self.state != State::SynRcvd {
                self.close_sending(env);
            }
        }
        self.notify(env);
        Ok(())
    }

    /// The application lets go of the socket (Linux: `__tcp_close`).
    pub(crate) fn leave(&mut self, env: &mut Env, how: Leave) {
        self.closed = self.sock.take();
        self.rcv_shutdown = true;
        self.snd_shutdown = true;
        let unread = self
            .rcv
            .copied_seq()
            .before(self.rcv.rcv_nxt() - u32::from(self.rcv.fin_received()));
        if self.state != State::Closed {
            if how == Leave::Abort {
                self.abort(env, abort_trigger(self.state));
            } else if unread {
                // RFC 2525 §2.17: the peer must learn that data was lost.
                env.mib.inc(Counter::TcpExtTCPAbortOnClose);
                self.send_active_reset(env);
                self.finish(env, abort_trigger(self.state));
            } else if self.opts.linger == 0 {
                self.abort(env, abort_trigger(self.state));
                env.mib.inc(Counter::TcpExtTCPAbortOnData);
            } else {
                self.close_sending(env);
            }
        }
        self.rcv.shutdown();
        self.rcv.release(&mut env.rcv());
        self.become_orphan(env);
    }

    fn become_orphan(&mut self, env: &mut Env) {
        self.orphan = true;
        if self.state == State::FinWait2 && self.fate == Fate::Stay {
            self.orphan_in_fin_wait2(env);
        }
        if self.state != State::Closed && self.fate == Fate::Stay {
            if env.orphans >= env.sysctl.tcp_max_orphans || env.memory == Memory::Exhausted {
                env.mib.inc(Counter::TcpExtTCPAbortOnMemory);
                self.send_active_reset(env);
                return self.finish(env, abort_trigger(self.state));
            }
            env.orphans += 1;
            self.counted_orphan = true;
        }
    }

    /// The handshake ended after the application had shut down sending.
    pub(super) fn close_after_open(&mut self, env: &mut Env) {
        self.close_sending(env);
    }
}

/// What an abort is called in the table of transitions.
fn abort_trigger(state: State) -> Trigger {
    match state {
        State::SynSent | State::Listen => Trigger::Close,
        _ => Trigger::Abort,
    }
}
