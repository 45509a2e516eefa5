//! The congestion controls, behind one narrow trait (Linux: `struct tcp_congestion_ops`); a connection has one of
//! them in place, without an allocation.

mod bbr;
mod cubic;
mod reno;

use super::loss::CaState;
use super::snd::Sender;
use super::snd::cwnd::Cwnd;
use super::snd::pacing::Pacing;
use crate::Instant;
use crate::env::Env;
use crate::tcp::snd::rate::{Rate, Sample};
use alloc::boxed::Box;
use bbr::Bbr;
use cubic::Cubic;
use estab_proto::diag::{BbrInfo, CcName};
use estab_proto::{Counter, SeqNum};
use reno::Reno;

/// What happened to a connection (Linux: `enum tcp_ca_event`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CcEvent {
    /// Data leaves while nothing is in flight.
    TxStart,
    /// The window restarts after an idle time.
    CwndRestart,
    /// A window reduction is complete.
    CompleteCwr,
    /// A timeout.
    Loss,
    /// The tail loss probe repaired a loss.
    TlpRecovery,
}

/// What an ACK acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AckSample {
    /// RTT of the last record (selectively) acknowledged.
    pub(crate) rtt_us: Option<u32>,
}

/// Packets that were marked lost just now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lost {
    pub(crate) packets: u32,
    /// Packets in flight when they left, themselves included.
    pub(crate) tx_in_flight: u32,
    /// Packets marked lost since they left, themselves included.
    pub(crate) since: u32,
    /// The application limited what was in flight then.
    pub(crate) app_limited: bool,
}

/// What a congestion control sees of its connection. The window is its to set.
pub(crate) struct Cx<'a> {
    pub(crate) cwnd: &'a mut Cwnd,
    pub(crate) pacing: &'a mut Pacing,
    pub(crate) rate: &'a mut Rate,
    /// The state before the change that is being told, if one is.
    pub(crate) state: CaState,
    pub(crate) in_flight: u32,
    /// Payload bytes of a segment.
    pub(crate) mss: u32,
    /// The smoothed RTT in microseconds; 0: unknown.
    pub(crate) srtt_us: u32,
    pub(crate) now: Instant,
    pub(crate) una: SeqNum,
    pub(crate) nxt: SeqNum,
    /// The window is full: it, not the application, bounds what is sent, whatever slow start allows.
    pub(crate) window_full: bool,
    /// Data is held back by the pacing rate.
    pub(crate) paced: bool,
    /// Milliseconds when data was last sent.
    pub(crate) last_data: u32,
}

impl Cx<'_> {
    pub(crate) fn now_ms(&self) -> u32 {
        self.now.millis() as u32
    }
}

/// How HyStart found the end of slow start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hystart {
    AckTrain,
    Delay,
}

/// A congestion control. The defaults are Reno's.
pub(crate) trait CongestionControl {
    /// The connection begins to use it.
    fn init(&mut self, _cx: &mut Cx<'_>) {}
    /// The threshold after a loss.
    fn ssthresh(&mut self, cx: &mut Cx<'_>) -> u32 {
        (cx.cwnd.window >> 1).max(2)
    }
    /// `acked` segments were delivered in good order, and the window bounds what is sent: let it grow.
    fn cong_avoid(&mut self, cx: &mut Cx<'_>, acked: u32);
    /// After each ACK, for those that set window and pacing rate themselves, in every state
    /// (see [`Cc::has_cong_control`]).
    fn cong_control(&mut self, _cx: &mut Cx<'_>, _sample: &Sample) {}
    /// Packets were marked lost, for the same.
    fn lost(&mut self, _cx: &mut Cx<'_>, _lost: &Lost) {}
    /// The window after a reduction proved needless.
    fn undo_cwnd(&mut self, cx: &mut Cx<'_>) -> u32 {
        cx.cwnd.window.max(cx.cwnd.prior)
    }
    /// The state changes to `state`.
    fn set_state(&mut self, _cx: &mut Cx<'_>, _state: CaState) {}
    fn event(&mut self, _cx: &mut Cx<'_>, _event: CcEvent) {}
    /// Segments were acknowledged, with an RTT sample.
    fn pkts_acked(&mut self, _cx: &mut Cx<'_>, _sample: &AckSample) -> Option<Hystart> {
        None
    }
}

/// A connection's congestion control.
#[derive(Clone)]
pub(crate) enum Cc {
    Reno(Reno),
    Cubic(Cubic),
    Bbr(Box<Bbr>),
}

impl Cc {
    /// The names there are (`net.ipv4.tcp_available_congestion_control`).
    pub(crate) const NAMES: &[&str] = &["reno", "cubic", "bbr"];

    pub(crate) fn exists(name: CcName) -> bool {
        Self::NAMES.contains(&name.as_str())
    }

    /// The congestion control `name`; Reno if there is none of that name.
    pub(crate) fn new(name: CcName) -> Cc {
        if name == const { CcName::new("cubic") } {
            Cc::Cubic(Cubic::default())
        } else if name == const { CcName::new("bbr") } {
            Cc::Bbr(Box::new(Bbr::new()))
        } else {
            Cc::Reno(Reno)
        }
    }

    pub(crate) fn name(&self) -> CcName {
        CcName::new(match self {
            Cc::Reno(_) => "reno",
            Cc::Cubic(_) => "cubic",
            Cc::Bbr(_) => "bbr",
        })
    }

    fn get(&mut self) -> &mut dyn CongestionControl {
        match self {
            Cc::Reno(cc) => cc,
            Cc::Cubic(cc) => cc,
            Cc::Bbr(cc) => &mut **cc,
        }
    }

    /// It sets window and pacing rate itself on every ACK (Linux: `cong_control`).
    pub(crate) fn has_cong_control(&self) -> bool {
        matches!(self, Cc::Bbr(_))
    }

    /// The send buffer in windows (Linux: `sndbuf_expand`).
    pub(crate) fn sndbuf_factor(&self) -> u32 {
        match self {
            Cc::Bbr(_) => 3,
            _ => 2,
        }
    }

    /// Bytes of memory held beyond the enum itself.
    pub(crate) fn heap(&self) -> usize {
        match self {
            Cc::Bbr(cc) => size_of_val(&**cc),
            _ => 0,
        }
    }

    /// What BBR knows of its path.
    pub(crate) fn bbr_info(&self) -> Option<BbrInfo> {
        match self {
            Cc::Bbr(cc) => Some(cc.info()),
            _ => None,
        }
    }

    /// The least segments of a super-packet, where it has an opinion.
    pub(crate) fn min_tso_segs(&self, pacing: &Pacing) -> Option<u32> {
        match self {
            Cc::Bbr(_) => Some(Bbr::min_tso_segs(pacing.rate)),
            _ => None,
        }
    }
}

impl Sender {
    /// The congestion control and what it may see.
    fn cc_parts(&mut self, now: Instant) -> (&mut dyn CongestionControl, Cx<'_>) {
        let in_flight = self.in_flight();
        let cx = Cx {
            cwnd: &mut self.cwnd,
            pacing: &mut self.pacing,
            rate: &mut self.rate,
            state: self.state,
            in_flight,
            mss: u32::from(self.mss).max(1),
            srtt_us: self.rtt.srtt(),
            window_full: self.flags.cwnd_limited,
            now,
            una: self.una,
            nxt: self.nxt,
            paced: self.flags.paced,
            last_data: self.last_data,
        };
        (self.cc.get(), cx)
    }

    pub(crate) fn cc_init(&mut self, env: &Env) {
        self.flags.paced |= self.cc.has_cong_control();
        let (cc, mut cx) = self.cc_parts(env.now);
        cc.init(&mut cx);
    }

    pub(crate) fn cc_ssthresh(&mut self, env: &Env) -> u32 {
        let (cc, mut cx) = self.cc_parts(env.now);
        cc.ssthresh(&mut cx)
    }

    pub(crate) fn cc_undo_cwnd(&mut self, env: &Env) -> u32 {
        let (cc, mut cx) = self.cc_parts(env.now);
        cc.undo_cwnd(&mut cx)
    }

    /// A window that is not used up has no reason to grow.
    pub(crate) fn cc_cong_avoid(&mut self, env: &Env, acked: u32) {
        if !self.is_cwnd_limited() {
            return;
        }
        let (cc, mut cx) = self.cc_parts(env.now);
        cc.cong_avoid(&mut cx, acked);
    }

    pub(crate) fn cc_cong_control(&mut self, env: &Env, sample: &Sample) {
        let (cc, mut cx) = self.cc_parts(env.now);
        cc.cong_control(&mut cx, sample);
    }

    pub(crate) fn cc_lost(&mut self, env: &Env, lost: &Lost) {
        let (cc, mut cx) = self.cc_parts(env.now);
        cc.lost(&mut cx, lost);
    }

    pub(crate) fn cc_state(&mut self, env: &Env, state: CaState) {
        let (cc, mut cx) = self.cc_parts(env.now);
        cc.set_state(&mut cx, state);
    }

    pub(crate) fn cc_event(&mut self, env: &Env, event: CcEvent) {
        let (cc, mut cx) = self.cc_parts(env.now);
        cc.event(&mut cx, event);
    }

    pub(crate) fn cc_pkts_acked(&mut self, env: &mut Env, sample: &AckSample) {
        let (cc, mut cx) = self.cc_parts(env.now);
        let Some(found) = cc.pkts_acked(&mut cx, sample) else {
            return;
        };
        let (detect, cwnd) = match found {
            Hystart::AckTrain => (Counter::TcpExtTCPHystartTrainDetect, Counter::TcpExtTCPHystartTrainCwnd),
            Hystart::Delay => (Counter::TcpExtTCPHystartDelayDetect, Counter::TcpExtTCPHystartDelayCwnd),
        };
        env.mib.inc(detect);
        env.mib.add(cwnd, u64::from(self.cwnd.window));
    }
}
