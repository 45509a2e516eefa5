//! Whether a segment may belong to a connection at all: PAWS (RFC 7323 §5), sequence numbers (RFC 9293 §3.10.7.4),
//! resets and SYNs from the blind (RFC 5961) (Linux: `tcp_validate_incoming`).

use super::conn::{Conn, Reject};
use super::segment::Segment;
use crate::drop::DropReason;
use crate::env::Env;
use estab_proto::{Counter, SeqNum, State};

/// PAWS: `val` is older than the last timestamp; a millisecond of disorder is forgiven, and so is everything after
/// 24 days of silence, which the caller sees to (Linux: `tcp_paws_check`).
pub(crate) fn paws_rejects(ts_recent: u32, val: u32) -> bool {
    const PAWS_WINDOW: i32 = 1;
    ts_recent != 0 && SeqNum(ts_recent) - SeqNum(val) > PAWS_WINDOW
}

/// Some of the segment lies in `[start, end)` (Linux: `tcp_in_window`).
pub(crate) fn in_window(segment: &Segment<'_>, start: SeqNum, end: SeqNum) -> bool {
    let (seq, seg_end) = (segment.seq, segment.end());
    if seq == start {
        return true;
    }
    if seg_end.after(start) && seq.before(end) {
        return true;
    }
    seq == end && seq == seg_end
}

/// Whether an invalid segment may be answered now; counts what is held back. Data without SYN is always answered: it is
/// no part of an ACK loop (Linux: `tcp_oow_rate_limited`).
pub(crate) fn may_answer(env: &mut Env, segment: &Segment<'_>, last: &mut u32, skipped: Counter) -> bool {
    (segment.len() > 0 && !segment.syn()) || oow_allows(env, last, skipped)
}

/// `tcp_invalid_ratelimit`: one answer per that many milliseconds (Linux: `__tcp_oow_rate_limited`).
pub(crate) fn oow_allows(env: &mut Env, last: &mut u32, skipped: Counter) -> bool {
    let now = super::clock_ms(env);
    // What was answered at 0 ms stands as 1 ms.
    let elapsed = i64::from(now.wrapping_sub(*last) as i32);
    if *last != 0 && (-1..i64::from(env.sysctl.tcp_invalid_ratelimit)).contains(&elapsed) {
        env.mib.inc(skipped);
        return false;
    }
    *last = now.max(1);
    true
}

/// `tcp_challenge_ack_limit`: challenge ACKs per second of the whole stack.
#[derive(Clone, Default)]
pub(crate) struct ChallengeBudget {
    second: Option<u64>,
    left: u32,
}

impl ChallengeBudget {
    /// Whether one more may be sent; the number per second is blurred against probing (Linux: `tcp_send_challenge_ack`).
    fn take(env: &mut Env) -> bool {
        let limit = env.sysctl.tcp_challenge_ack_limit;
        if limit >= i32::MAX as u32 {
            return true;
        }
        let second = env.now.millis() / 1000;
        if env.challenges.second != Some(second) {
            let half = limit.div_ceil(2);
            let left = half + env.rng.below(limit.max(1));
            env.challenges = ChallengeBudget {
                second: Some(second),
                left,
            };
        }
        let allowed = env.challenges.left > 0;
        env.challenges.left = env.challenges.left.saturating_sub(1);
        allowed
    }
}

impl Conn {
    /// Steps one to four of "segment arrives" for a connection past SYN_SENT.
    #[inline(never)]
    pub(super) fn validate(&mut self, env: &mut Env, segment: &Segment<'_>) -> Result<(), Reject> {
        self.check_paws(env, segment)?;
        self.check_sequence(env, segment)?;
        self.check_rst(env, segment)?;
        self.check_syn(env, segment)
    }

    fn check_paws(&mut self, env: &mut Env, segment: &Segment<'_>) -> Result<(), Reject> {
        let Some(ts) = segment.options.timestamps.filter(|_| self.ts.ok) else {
            return Ok(());
        };
        if !self.ts.rejects(env, ts.val) || self.is_disordered_ack(segment, ts.val) || segment.rst() {
            return Ok(());
        }
        if segment.syn() {
            return self.syn_challenge(env, segment);
        }
        env.mib.inc(Counter::TcpExtPAWSEstab);
        if may_answer(env, segment, &mut self.last_oow_ack, Counter::TcpExtTCPACKSkippedPAWS) {
            self.send_dupack(env, segment);
        }
        Err(DropReason::TcpRfc7323Paws.into())
    }

    /// A pure ACK that the network reordered, not one of an old incarnation: without data, ACK or window news, and
    /// younger than an RTO (Linux: `tcp_disordered_ack`).
    fn is_disordered_ack(&self, segment: &Segment<'_>, val: u32) -> bool {
        segment.ack_set()
            && segment.len() == 0
            && segment.seq == self.rcv.rcv_nxt()
            && segment.ack == self.snd.una()
            && segment.window.bytes(self.peer_scale()) == self.snd.window()
            && SeqNum(self.ts.recent) - SeqNum(val) <= self.snd.rto().as_millis().min(i32::MAX as u128) as i32
    }

    fn check_sequence(&mut self, env: &mut Env, segment: &Segment<'_>) -> Result<(), Reject> {
        let Err(reason) = self.rcv.sequence(segment.seq, segment.end(), segment.fin()) else {
            return Ok(());
        };
        if segment.rst() {
            if self.rst_follows_fin(segment) {
                return self.reset_by_peer(env);
            }
            return Err(reason.into());
        }
        if segment.syn() {
            return self.syn_challenge(env, segment);
        }
        if matches!(
            reason,
            DropReason::TcpInvalidSequence | DropReason::TcpInvalidEndSequence
        ) {
            env.mib.inc(Counter::TcpExtBeyondWindow);
        }
        if may_answer(env, segment, &mut self.last_oow_ack, Counter::TcpExtTCPACKSkippedSeq) {
            self.send_dupack(env, segment);
        }
        Err(reason.into())
    }

    /// A peer that closed and then crashed may send RST with its FIN's own number (Linux: `tcp_reset_check`).
    fn rst_follows_fin(&self, segment: &Segment<'_>) -> bool {
        segment.seq == self.rcv.rcv_nxt() - 1
            && matches!(self.state, State::CloseWait | State::LastAck | State::Closing)
    }

    /// RFC 5961 §3.2: an RST counts only exactly at RCV.NXT, or at the right edge of what was SACKed.
    fn check_rst(&mut self, env: &mut Env, segment: &Segment<'_>) -> Result<(), Reject> {
        if !segment.rst() {
            return Ok(());
        }
        if segment.seq == self.rcv.rcv_nxt()
            || self.rst_follows_fin(segment)
            || self.rcv.highest_sack() == Some(segment.seq)
        {
            return self.reset_by_peer(env);
        }
        self.challenge_ack(env);
        Err(DropReason::TcpReset.into())
    }

    /// RFC 5961 §4.2: a SYN in a synchronized state is answered by a challenge ACK, wherever it lies.
    fn check_syn(&mut self, env: &mut Env, segment: &Segment<'_>) -> Result<(), Reject> {
        if !segment.syn() {
            return Ok(());
        }
        // The SYN-ACK of a simultaneous open repeats the SYN.
        let crossed = self.state == State::SynRcvd
            && self.sock.is_some()
            && segment.ack_set()
            && segment.seq + 1 == segment.end()
            && segment.end() == self.rcv.rcv_nxt()
            && segment.ack == self.snd.nxt();
        if crossed {
            Ok(())
        } else {
            self.syn_challenge(env, segment)
        }
    }

    fn syn_challenge(&mut self, env: &mut Env, segment: &Segment<'_>) -> Result<(), Reject> {
        if let Some(accecn) = &mut self.accecn {
            accecn.synack_again(segment.ecn);
        }
        env.mib.inc(Counter::TcpInErrs);
        env.mib.inc(Counter::TcpExtTCPSYNChallenge);
        self.challenge_ack(env);
        Err(DropReason::TcpInvalidSyn.into())
    }

    /// RFC 5961 §7: an ACK that lets an honest peer correct itself, rate-limited per connection and per stack.
    #[cold]
    pub(super) fn challenge_ack(&mut self, env: &mut Env) {
        if oow_allows(env, &mut self.last_oow_ack, Counter::TcpExtTCPACKSkippedChallenge) && ChallengeBudget::take(env)
        {
            env.mib.inc(Counter::TcpExtTCPChallengeACK);
            self.rcv.ack_now();
        }
    }

    /// An ACK for what was received before, or too far ahead: the peer's ACK may have been lost.
    fn send_dupack(&mut self, env: &mut Env, segment: &Segment<'_>) {
        self.data_came_again(segment);
        self.rcv.dupack(&mut env.rcv(), segment.seq, segment.end());
    }

    /// A valid RST (Linux: `tcp_reset`).
    fn reset_by_peer(&mut self, env: &mut Env) -> Result<(), Reject> {
        self.on_reset(env);
        Err(DropReason::TcpReset.into())
    }
}
