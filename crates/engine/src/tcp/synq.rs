//! Half-open requests: a SYN was answered, the final ACK is missing (Linux: `struct request_sock`,
//! `tcp_check_req`, `reqsk_timer_handler`). No buffers, at most 128 bytes.
//!
//! An open that a transparent listener holds for the application is a request too, one that was not answered yet.

use super::accecn::{EcnMode, SynEcn};
use super::demux::Tuple;
use super::segment::Segment;
use crate::Instant;
use crate::drop::DropReason;
use crate::env::Env;
use crate::iface::IfaceId;
use crate::rows::{Place, Places, Rows};
use core::time::Duration;
use estab_proto::{Counter, SeqNum, TcpFlags};
use slab::Slab;

/// TCP_TIMEOUT_INIT: the first SYN-ACK timeout (RFC 6298 §2.1).
pub(crate) const TIMEOUT_INIT: Duration = Duration::from_secs(1);

/// No window scale.
pub(crate) const NO_SCALE: u8 = u8::MAX;

/// What is special about a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Nothing.
    Plain,
    /// It waits for the application of a transparent listener; nothing was sent.
    Held,
    /// Its connection exists already (Fast Open).
    FastOpen,
}

/// A request.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) tuple: Tuple,
    /// The peer's window scale, or [`NO_SCALE`].
    pub(crate) peer_scale: u8,
    /// Ours.
    pub(crate) own_scale: u8,
    pub(crate) irs: SeqNum,
    /// What the SYN-ACK acknowledges: the SYN, and its text if Fast Open took that.
    pub(crate) rcv_nxt: SeqNum,
    pub(crate) iss: SeqNum,
    /// The peer's MSS option, or the default without one.
    pub(crate) mss: u16,
    /// The window our SYN-ACK offers.
    pub(crate) window: u32,
    pub(crate) sack_ok: bool,
    pub(crate) ts_ok: bool,
    pub(crate) ecn: SynEcn,
    /// The final ACK came, but nothing could be made of it yet (a full queue, TCP_DEFER_ACCEPT).
    pub(crate) acked: bool,
    pub(crate) kind: Kind,
    /// TOS of what it is answered with.
    pub(crate) tos: u8,
    /// Timeouts so far (Linux: `num_timeout`).
    pub(crate) timeouts: u8,
    /// SYN-ACKs repeated (Linux: `num_retrans`). Held: SYNs seen.
    pub(crate) retrans: u8,
    pub(crate) ts_recent: u32,
    pub(crate) ts_offset: u32,
    /// Our clock, in milliseconds, at the first SYN-ACK (Linux: `snt_tsval_first`).
    pub(crate) first_sent_ms: u32,
    /// When the last SYN-ACK left (Linux: `snt_synack`). Held: when the last SYN came.
    pub(crate) sent_at: Instant,
    /// When an invalid segment was last answered, in milliseconds.
    pub(crate) last_oow_ack: u32,
    pub(crate) iface: IfaceId,
    pub(crate) generation: u32,
    pub(crate) listener: u32,
    /// When its timer fires.
    pub(crate) ends: Place,
}

const _: () = assert!(size_of::<Request>() <= 112);

/// The deadlines of requests: a row for each length of timeout, the last one for all that are longer.
pub(super) type Timers = Rows<8>;

impl Places for Slab<Request> {
    fn place(&mut self, index: u32) -> &mut Place {
        &mut self[index as usize].ends
    }
}

/// What a segment means for a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Check {
    /// It is done with; for this reason.
    Drop(DropReason),
    /// The SYN again: repeat the SYN-ACK.
    Resend,
    /// Out of window: answer with an ACK.
    Ack(DropReason),
    /// Not an ACK this request can get: RST, the request stays.
    Reset(DropReason),
    /// The request ends; with an RST, unless it was one.
    Abort,
    /// The handshake is complete.
    Complete,
}

impl Request {
    /// It waits for the application of a transparent listener.
    pub(crate) fn is_held(&self) -> bool {
        self.kind == Kind::Held
    }

    /// The timeout after `timeouts` of them (Linux: `tcp_reqsk_timeout`).
    pub(crate) fn timeout(&self, env: &Env) -> Duration {
        let max = Duration::from_millis(env.sysctl.tcp_rto_max_ms.into());
        TIMEOUT_INIT.saturating_mul(1 << self.timeouts.min(16)).min(max)
    }

    /// The SYN-ACK's control bits.
    pub(crate) fn flags(&self) -> TcpFlags {
        let flags = TcpFlags::SYN | TcpFlags::ACK;
        match self.ecn.mode() {
            // Repeated twice without an answer: perhaps ECN is what the path dislikes (RFC 9768 §3.1.4.2).
            EcnMode::Accurate if self.timeouts > 0 => flags,
            ecn => flags | ecn.synack_flags(self.ecn.codepoint()),
        }
    }

    /// Whether an invalid segment may be answered now; counts what is held back (Linux: `tcp_oow_rate_limited`).
    fn may_answer(&mut self, env: &mut Env, segment: &Segment<'_>, skipped: Counter) -> bool {
        super::validate::may_answer(env, segment, &mut self.last_oow_ack, skipped)
    }

    /// RFC 9293 §3.10.7.4 for SYN_RCVD, as Linux's `tcp_check_req` has it. `defer`: TCP_DEFER_ACCEPT's timeouts.
    pub(crate) fn check(&mut self, env: &mut Env, segment: &Segment<'_>, defer: u8) -> Check {
        let mut paws_reject = false;
        let mut tsecr_reject = false;
        if self.ts_ok
            && let Some(ts) = segment.options.timestamps
        {
            paws_reject = super::validate::paws_rejects(self.ts_recent, ts.val);
            if ts.ecr != 0 {
                let echoed = SeqNum(ts.ecr.wrapping_sub(self.ts_offset));
                let last = SeqNum(self.sent_at.millis() as u32);
                tsecr_reject = !echoed.between(SeqNum(self.first_sent_ms), last);
            }
        }
        let mask = TcpFlags::RST | TcpFlags::SYN | TcpFlags::ACK;
        let mut flags = segment.flags & mask;
        if segment.seq == self.irs && flags == TcpFlags::SYN && !paws_reject {
            self.ecn.again(segment.flags, segment.ecn);
            return match self.may_answer(env, segment, Counter::TcpExtTCPACKSkippedSynRecv) {
                true => Check::Resend,
                false => Check::Drop(DropReason::TcpInvalidSyn),
            };
        }
        if flags.contains(TcpFlags::ACK) && self.kind != Kind::FastOpen && segment.ack != self.iss + 1 {
            return Check::Reset(DropReason::TcpInvalidAckSequence);
        }
        let next = self.rcv_nxt;
        if paws_reject || tsecr_reject || !super::validate::in_window(segment, next, next + self.window) {
            let reason = if paws_reject {
                env.mib.inc(Counter::TcpExtPAWSEstab);
                DropReason::TcpRfc7323Paws
            } else if tsecr_reject {
                env.mib.inc(Counter::TcpExtTSEcrRejected);
                DropReason::TcpRfc7323Tsecr
            } else {
                DropReason::TcpOverwindow
            };
            let answer =
                !flags.contains(TcpFlags::RST) && self.may_answer(env, segment, Counter::TcpExtTCPACKSkippedSynRecv);
            return if answer {
                Check::Ack(reason)
            } else {
                Check::Drop(reason)
            };
        }
        if self.ts_ok
            && let Some(ts) = segment.options.timestamps
            && !segment.seq.after(next)
        {
            self.ts_recent = ts.val;
        }
        if segment.seq == self.irs {
            // The SYN itself lies before the window.
            flags = flags.without(TcpFlags::SYN);
        }
        if flags.intersects(TcpFlags::RST | TcpFlags::SYN) {
            env.mib.inc(Counter::TcpAttemptFails);
            return Check::Abort;
        }
        if !flags.contains(TcpFlags::ACK) {
            return Check::Drop(DropReason::TcpFlags);
        }
        if self.kind == Kind::FastOpen {
            return Check::Complete;
        }
        if self.timeouts < defer && segment.end() == next {
            self.acked = true;
            env.mib.inc(Counter::TcpExtTCPDeferAcceptDrop);
            return Check::Drop(DropReason::SocketFilter);
        }
        Check::Complete
    }

    /// Whether a timeout ends the request and whether it repeats the SYN-ACK (Linux: `syn_ack_recalc`).
    pub(crate) fn on_timeout(&self, max_retries: u8, defer: u8) -> (bool, bool) {
        if defer == 0 {
            return (self.timeouts >= max_retries, true);
        }
        let expire = self.timeouts >= max_retries && (!self.acked || self.timeouts >= defer);
        let resend = !self.acked || self.timeouts >= defer - 1;
        (expire, resend)
    }
}
