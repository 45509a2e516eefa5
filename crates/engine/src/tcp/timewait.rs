//! TIME_WAIT, and orphaned FIN_WAIT_2 in its last minute (RFC 9293 §3.10.7.4, §3.6.1; RFC 1337; RFC 6191;
//! Linux: `tcp_timewait_state_process`, `struct tcp_timewait_sock`). Where they stand: `timewait/table.rs`.

mod table;

use super::conn::Conn;
use super::demux::Tuple;
use super::isn;
use super::segment::Segment;
use super::validate::{in_window, may_answer, paws_rejects};
use crate::drop::DropReason;
use crate::env::Env;
use crate::event::SocketId;
use crate::sock::bind::PackedBinding;
use core::time::Duration;
use estab_proto::{Counter, ScaledWindow, SeqNum, State, WindowScale};

pub(crate) use table::{TimeWaits, object};

/// TCP_TIMEWAIT_LEN: 2·MSL (`estab.tcp_msl_ms`).
pub(crate) fn two_msl(env: &Env) -> Duration {
    Duration::from_millis(2 * u64::from(env.sysctl.estab_tcp_msl_ms))
}

/// What is added to our clock in a connection's timestamps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TsOffset {
    /// Nothing: `tcp_timestamps` was 2, or there were none.
    Zero,
    /// What the keyed hash of its tuple gives.
    Keyed,
    /// Another: the connection was a predecessor's.
    Other(u32),
}

impl TsOffset {
    /// It in milliseconds.
    pub(super) fn value(self, env: &Env, tuple: &Tuple) -> u32 {
        match self {
            TsOffset::Zero => 0,
            TsOffset::Keyed => isn::keyed_offset(env, tuple),
            TsOffset::Other(offset) => offset,
        }
    }
}

/// What is kept of a connection, addresses aside.
#[derive(Clone, Copy)]
pub(crate) struct Rest {
    pub(crate) snd_nxt: SeqNum,
    pub(crate) rcv_nxt: SeqNum,
    /// The window that ACKs show, and its shift.
    pub(crate) window: ScaledWindow,
    pub(crate) rcv_scale: WindowScale,
    /// The peer's last timestamp.
    pub(crate) ts_recent: u32,
    /// When it came, in milliseconds of our clock.
    pub(crate) ts_stamp: u32,
    pub(crate) ts_offset: TsOffset,
    pub(crate) last_oow_ack: u32,
    /// The handle it had, if the application closed it.
    pub(crate) sock: Option<SocketId>,
    pub(crate) ts_ok: bool,
    /// FIN_WAIT_2: the peer's FIN is missing still.
    pub(crate) fin_wait2: bool,
    /// The hold on the port, and its flags (Linux: `tw_reuse`, `tw_bind_node`).
    pub(crate) bind: PackedBinding,
}

impl Conn {
    /// What is kept of the connection; neither its handle nor its hold on the port.
    pub(crate) fn rest(&self, fin_wait2: bool) -> Rest {
        Rest {
            snd_nxt: self.snd.nxt(),
            rcv_nxt: self.rcv.rcv_nxt(),
            window: ScaledWindow::of(self.rcv.receive_window(), self.rcv_scale),
            rcv_scale: self.rcv_scale,
            ts_recent: self.ts.recent,
            ts_stamp: self.ts.stamp,
            ts_offset: match self.ts.offset {
                0 => TsOffset::Zero,
                _ => TsOffset::Keyed,
            },
            last_oow_ack: 0,
            sock: None,
            ts_ok: self.ts.ok,
            fin_wait2,
            bind: PackedBinding::default(),
        }
    }
}

/// What a segment means for a TIME_WAIT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Nothing, or an ACK that needs no answer.
    Quiet(DropReason),
    /// Answer with an ACK.
    Ack(DropReason),
    /// Answer with an RST and end it.
    Reset(DropReason),
    /// End it without a word.
    Kill(DropReason),
    /// A new connection may take its place, with this ISN.
    Reopen(SeqNum),
}

impl Rest {
    pub(crate) fn state(&self) -> State {
        if self.fin_wait2 {
            State::FinWait2
        } else {
            State::TimeWait
        }
    }

    /// The ISN of a connection that takes this one's place: past anything the old one sent
    /// (Linux: `tcp_timewait_state_process`, `tcp_twsk_unique`).
    pub(crate) fn next_isn(&self) -> SeqNum {
        match self.snd_nxt + 65537 {
            SeqNum(0) => SeqNum(1),
            isn => isn,
        }
    }

    /// What `segment` means; `true`: the 2·MSL begin again.
    pub(crate) fn check(&mut self, env: &mut Env, segment: &Segment<'_>) -> (Verdict, bool) {
        let ts = segment.options.timestamps.filter(|_| self.ts_ok);
        let paws_reject = ts.is_some_and(|ts| !segment.rst() && paws_rejects(self.ts_recent, ts.val));
        if self.fin_wait2 {
            return self.check_fin_wait2(env, segment, paws_reject);
        }
        // An RST or a bare ACK exactly where it should be.
        if !paws_reject && segment.seq == self.rcv_nxt && (segment.len() == 0 || segment.rst()) {
            if segment.rst() {
                if env.sysctl.tcp_rfc1337 == 0 {
                    return (Verdict::Kill(DropReason::TcpReset), false);
                }
                self.store_ts(env, ts.map(|ts| ts.val));
                return (Verdict::Quiet(DropReason::TcpReset), false);
            }
            self.store_ts(env, ts.map(|ts| ts.val));
            return (Verdict::Quiet(DropReason::TcpOldAck), true);
        }
        let newer =
            segment.seq.after(self.rcv_nxt) || ts.is_some_and(|ts| SeqNum(ts.val).after(SeqNum(self.ts_recent)));
        if segment.syn() && !segment.rst() && !segment.ack_set() && !paws_reject && newer {
            return (Verdict::Reopen(self.next_isn()), false);
        }
        let reason = if paws_reject {
            env.mib.inc(Counter::TcpExtPAWSTimewait);
            DropReason::TcpRfc7323TwPaws
        } else {
            DropReason::TcpOldSequence
        };
        if segment.rst() {
            return (Verdict::Quiet(reason), false);
        }
        // A SYN without ACK may be a new connection whose ISN is lower: it must not hold this one up.
        let restart = paws_reject || segment.ack_set();
        (
            self.limited_ack(env, segment, Counter::TcpExtTCPACKSkippedTimeWait, reason),
            restart,
        )
    }

    fn check_fin_wait2(&mut self, env: &mut Env, segment: &Segment<'_>, paws_reject: bool) -> (Verdict, bool) {
        if paws_reject || !in_window(segment, self.rcv_nxt, self.rcv_nxt + self.window.bytes(self.rcv_scale)) {
            let reason = match paws_reject {
                true => DropReason::TcpRfc7323TwPaws,
                false => DropReason::TcpOverwindow,
            };
            return (
                self.limited_ack(env, segment, Counter::TcpExtTCPACKSkippedFinWait2, reason),
                false,
            );
        }
        if segment.rst() {
            return (Verdict::Kill(DropReason::TcpReset), false);
        }
        if segment.syn() && !segment.seq.before(self.rcv_nxt) {
            return (Verdict::Reset(DropReason::TcpInvalidSyn), false);
        }
        if !segment.ack_set() || !segment.end().after(self.rcv_nxt) || segment.len() == 0 {
            return (Verdict::Quiet(DropReason::TcpOldAck), false);
        }
        // New data after a half-duplex close, or a FIN behind some.
        if !segment.fin() || segment.end() != self.rcv_nxt + 1 {
            return (Verdict::Reset(DropReason::TcpAbortOnData), false);
        }
        self.fin_wait2 = false;
        self.rcv_nxt = segment.end();
        self.store_ts(env, segment.options.timestamps.filter(|_| self.ts_ok).map(|ts| ts.val));
        (Verdict::Ack(DropReason::TcpOldSequence), true)
    }

    fn store_ts(&mut self, env: &Env, val: Option<u32>) {
        if let Some(val) = val {
            self.ts_recent = val;
            self.ts_stamp = super::clock_ms(env);
        }
    }

    fn limited_ack(&mut self, env: &mut Env, segment: &Segment<'_>, skipped: Counter, reason: DropReason) -> Verdict {
        match may_answer(env, segment, &mut self.last_oow_ack, skipped) {
            true => Verdict::Ack(reason),
            false => Verdict::Quiet(reason),
        }
    }
}
