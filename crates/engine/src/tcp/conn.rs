//! A connection, from SYN_SENT (or SYN_RCVD of a simultaneous or transparent open) to CLOSED, and "segment arrives"
//! (RFC 9293 §3.10.7.4) as a pipeline of steps, each of which may discard the segment for a named reason
//! (Linux: `tcp_rcv_established`, `tcp_rcv_state_process`).

use super::accecn::{AccEcn, EcnMode};
use super::close::Fate;
use super::connect::Opening;
use super::demux::Tuple;
use super::fastopen::FastOpen;
use super::keepalive::Keepalive;
use super::rcv::{DataIn, DataOut, Path, RcvSetup, Receiver};
use super::segment::Segment;
use super::snd::{AckIn, Sender};
use super::timers::NEVER;
use crate::drop::DropReason;
use crate::env::{Env, Lending};
use crate::event::SocketId;
use crate::iface::IfaceId;
use crate::ip::Way;
use crate::sock::SockOpts;
use crate::sock::bind::{Binding, PackedBinding};
use crate::timer::TimerHandle;
use crate::{Family, Instant, SockError};
use alloc::boxed::Box;
use alloc::sync::Arc;
use estab_proto::state::Trigger;
use estab_proto::{Counter, SeqNum, State, TcpFlags, WindowScale};

/// A segment was discarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reject {
    pub(crate) reason: DropReason,
    /// Answer it with an RST made from its own numbers.
    pub(crate) reset: bool,
}

impl From<DropReason> for Reject {
    fn from(reason: DropReason) -> Reject {
        Reject { reason, reset: false }
    }
}

impl Reject {
    /// Discarded and answered with RST.
    pub(crate) fn reset(reason: DropReason) -> Reject {
        Reject { reason, reset: true }
    }
}

/// RFC 7323's state of one connection.
#[derive(Clone, Copy, Default)]
pub(crate) struct TsState {
    /// Negotiated.
    pub(crate) ok: bool,
    /// Added to our clock in TSval.
    pub(crate) offset: u32,
    /// The peer's last TSval.
    pub(crate) recent: u32,
    /// When it came, in milliseconds of our clock.
    pub(crate) stamp: u32,
}

impl TsState {
    /// TCP_PAWS_24DAYS: after so long a silence the peer's clock may have wrapped.
    const STALE_MS: u32 = 60 * 60 * 24 * 24 * 1000;

    /// PAWS rejects `val`.
    pub(crate) fn rejects(&self, env: &Env, val: u32) -> bool {
        super::validate::paws_rejects(self.recent, val)
            && super::clock_ms(env).wrapping_sub(self.stamp) < Self::STALE_MS
    }

    pub(crate) fn store(&mut self, env: &Env, val: u32) {
        self.recent = val;
        self.stamp = super::clock_ms(env);
    }
}

/// A connection.
#[derive(Clone)]
pub(crate) struct Conn {
    pub(crate) tuple: Tuple,
    pub(crate) state: State,
    pub(crate) family: Family,
    /// A keepalive probe is due at the next poll.
    pub(crate) probe_now: bool,
    /// It stands in the list of those with something to transmit.
    pub(crate) in_ready: bool,
    /// shutdown(2)'s bits, or what came to the same (Linux: `sk_shutdown`).
    pub(crate) rcv_shutdown: bool,
    pub(crate) snd_shutdown: bool,
    /// No application will ever hold it again (Linux: SOCK_DEAD).
    pub(crate) orphan: bool,
    /// It was established once.
    pub(crate) was_open: bool,
    pub(crate) error: Option<SockError>,
    pub(crate) soft_error: Option<SockError>,
    /// What becomes of it when the call being served is over.
    pub(crate) fate: Fate,
    /// SACK was negotiated.
    pub(crate) sack_ok: bool,
    /// The ECN that was negotiated.
    pub(crate) ecn: EcnMode,
    /// It counts against `tcp_max_orphans`.
    pub(crate) counted_orphan: bool,
    /// The shifts of the peer's window field and of ours.
    pub(crate) snd_scale: WindowScale,
    pub(crate) rcv_scale: WindowScale,
    /// The peer's MSS option or the default (Linux: `rx_opt.mss_clamp`).
    pub(crate) mss_clamp: u16,
    /// The path's MTU as last applied.
    pub(crate) pmtu: u32,
    /// Its route as last found.
    pub(super) way: Way,
    pub(crate) snd: Sender,
    pub(crate) rcv: Receiver,
    pub(crate) ts: TsState,
    /// The handshake's state, while our SYN is not acknowledged.
    pub(crate) opening: Option<Box<Opening>>,
    /// Accurate ECN's state, where that was negotiated.
    pub(crate) accecn: Option<Box<AccEcn>>,
    /// Fast Open's state, where it plays a part.
    pub(crate) fast_open: Option<Box<FastOpen>>,
    /// connect(2) has not said yet that it succeeded (Linux: SS_CONNECTING).
    pub(crate) connecting: bool,
    /// The handle; before accept and after close none (then `closed` may hold the old one).
    pub(crate) sock: Option<SocketId>,
    pub(crate) closed: Option<SocketId>,
    /// It stands in its listener's accept queue.
    pub(crate) in_accept_queue: bool,
    /// The interface it is tied to: a transparent open's.
    pub(crate) iface: Option<IfaceId>,
    /// Its hold on its port: see [`PackedBinding`].
    pub(crate) binding: PackedBinding,
    /// Shared by the children of one listener, until one is set.
    pub(crate) opts: Arc<SockOpts>,
    pub(crate) keepalive: Keepalive,
    /// Orphaned FIN_WAIT_2's end.
    pub(crate) fin_wait2_until: Instant,
    /// When the last segment came.
    pub(crate) last_rcv: Instant,
    pub(crate) last_oow_ack: u32,
    pub(crate) generation: u32,
    pub(crate) hash: u32,
    pub(crate) timer: TimerHandle,
    /// When that fires.
    pub(super) armed: Instant,
    /// What its buffers were charged when last looked at.
    pub(crate) last_charged: u32,
    pub(crate) segs_in: u32,
    pub(crate) segs_out: u32,
}

impl Conn {
    /// The shift of the peer's window field.
    pub(crate) fn peer_scale(&self) -> WindowScale {
        self.snd_scale
    }

    /// The one place where a connection changes state: checks the table, tells the trace, keeps the gauges
    /// (Linux: `tcp_set_state`).
    pub(crate) fn move_to(&mut self, env: &mut Env, to: State, on: Trigger) {
        let from = self.state;
        super::trace_move(env, &self.tuple, from, to, on);
        let counted = |state| matches!(state, State::Established | State::CloseWait);
        match (counted(from), counted(to)) {
            (false, true) => env.mib.inc(Counter::TcpCurrEstab),
            (true, false) => env.mib.dec(Counter::TcpCurrEstab),
            _ => {}
        }
        if to == State::Closed && counted(from) {
            env.mib.inc(Counter::TcpEstabResets);
        }
        self.state = to;
        self.was_open |= to == State::Established;
    }

    /// The socket's readiness may have changed.
    pub(crate) fn notify(&self, env: &mut Env) {
        if let Some(sock) = self.sock {
            env.events.ready(sock);
        }
    }

    /// What its buffers are charged (Linux: `sk_rmem_alloc`, `sk_wmem_queued`).
    pub(crate) fn charged(&self) -> u32 {
        self.rcv.rmem().0.saturating_add(self.snd.charged())
    }

    /// Tells the sender how much a signature, the receiver's SACK blocks and Accurate ECN take from each segment.
    pub(crate) fn make_room_for_options(&mut self, env: &Env) {
        self.snd.set_extra_options(self.extra_options(env) as u8);
    }

    /// "Segment arrives".
    pub(crate) fn segment_arrives(&mut self, env: &mut Env, segment: &Segment<'_>) -> Result<(), Reject> {
        self.segs_in = self.segs_in.saturating_add(1);
        match self.state {
            State::Closed | State::Listen | State::TimeWait => Err(Reject::reset(DropReason::TcpClose)),
            State::SynSent => self.syn_sent_arrives(env, segment),
            _ => self.synchronized_arrives(env, segment),
        }
    }

    fn synchronized_arrives(&mut self, env: &mut Env, segment: &Segment<'_>) -> Result<(), Reject> {
        if self.is_fast_open_child() && !self.fast_open_check(env, segment)? {
            return Ok(());
        }
        if self.is_repeated_syn(segment) {
            // Our SYN-ACK was lost, or the peer is impatient (Linux: `tcp_check_req`).
            let answer = super::validate::oow_allows(env, &mut self.last_oow_ack, Counter::TcpExtTCPACKSkippedSynRecv);
            if let Some(opening) = self.opening.as_mut().filter(|_| answer) {
                opening.retries = opening.retries.saturating_add(1);
                opening.due = true;
            }
            return Ok(());
        }
        let predicted = self.is_predicted(env, segment);
        if predicted {
            match segment.payload.is_empty() {
                true => env.mib.inc(Counter::TcpExtTCPPureAcks),
                false => env.mib.inc(Counter::TcpExtTCPHPHits),
            }
        } else {
            if !segment.flags.intersects(TcpFlags::ACK | TcpFlags::RST | TcpFlags::SYN) {
                return Err(DropReason::TcpFlags.into());
            }
            self.validate(env, segment)?;
            if !segment.ack_set() {
                return Err(DropReason::TcpFlags.into());
            }
        }
        self.last_rcv = env.now;
        self.keepalive.on_segment();
        self.count_ecn(segment);
        if predicted && self.acknowledges_nothing(segment) {
            self.snd.update_wl(segment.seq);
            self.keep_timestamp(env, segment);
            let text = self.take_text(env, segment);
            self.make_room_for_options(env);
            return text.drop.map_or(Ok(()), |reason| Err(reason.into()));
        }
        self.ack_arrives(env, segment)?;
        if self.fate != Fate::Stay {
            return Ok(());
        }
        self.fin_wait2_begins(env)?;
        self.urgent_arrives(env, segment);
        let text = self.data_arrives(env, segment);
        self.leave_fin_wait1(env);
        if self.fate == Fate::Stay {
            self.make_room_for_options(env);
            self.snd.push(env);
        }
        text
    }

    /// The SYN that made this connection, again, before its handshake is done.
    fn is_repeated_syn(&self, segment: &Segment<'_>) -> bool {
        self.state == State::SynRcvd
            && segment.flags.without(TcpFlags::ACE) == TcpFlags::SYN
            && segment.seq + 1 == self.rcv.rcv_nxt()
    }

    /// Header prediction (RFC 1144's idea): the next segment in order, with nothing unusual about it: it needs no validation.
    fn is_predicted(&self, env: &Env, segment: &Segment<'_>) -> bool {
        self.state == State::Established
            && segment.flags.without(TcpFlags::PSH) == self.usual_flags()
            && segment.seq == self.rcv.rcv_nxt()
            && segment.ack.between(self.snd.una(), self.snd.nxt())
            && segment.payload.len() as u32 <= self.rcv.receive_window()
            && segment
                .options
                .timestamps
                .is_none_or(|ts| !self.ts.ok || !self.ts.rejects(env, ts.val))
    }

    /// A predicted segment of data whose ACK and window are what we know: the sender has no use for it
    /// (Linux: `tcp_rcv_established`, which then skips `tcp_ack`).
    fn acknowledges_nothing(&self, segment: &Segment<'_>) -> bool {
        !segment.payload.is_empty()
            && segment.ack == self.snd.una()
            && segment.window.bytes(self.peer_scale()) == self.snd.window()
            && segment.options.sack.is_empty()
            && segment.options.accecn.is_none()
            && !self.rcv.awaits_urgent()
    }

    /// TS.Recent follows the segments that are acceptable and in order (RFC 7323 §4.3; Linux: `tcp_replace_ts_recent`).
    fn keep_timestamp(&mut self, env: &Env, segment: &Segment<'_>) {
        if let Some(ts) = segment.options.timestamps.filter(|_| self.ts.ok)
            && !segment.seq.after(self.rcv.rcv_wup())
            && !super::validate::paws_rejects(self.ts.recent, ts.val)
        {
            self.ts.store(env, ts.val);
        }
    }

    /// Step five: the ACK field (Linux: `tcp_ack` and the switch behind it).
    fn ack_arrives(&mut self, env: &mut Env, segment: &Segment<'_>) -> Result<(), Reject> {
        let child = self.is_fast_open_child();
        let feedback = match self.accecn {
            None => None,
            Some(_) => self.accurate_feedback(segment),
        };
        if child {
            // The sender is at work already.
        } else if self.state == State::SynRcvd {
            self.syn_acked(env, segment)?;
        } else if self.opening.as_ref().is_some_and(|o| segment.ack.after(o.iss)) {
            // Closed before the peer's ACK: our SYN is acknowledged in FIN_WAIT_1.
            self.end_opening(env);
        }
        let ts = segment.options.timestamps.filter(|_| self.ts.ok);
        let out = self.snd.on_ack(
            env,
            &AckIn {
                seq: segment.seq,
                ack: segment.ack,
                window: segment.window.bytes(self.peer_scale()),
                sack: &sack_blocks(segment),
                ts_ecr: ts
                    .filter(|ts| ts.ecr != 0)
                    .map(|ts| ts.ecr.wrapping_sub(self.ts.offset)),
                ece: self.ecn == EcnMode::Classic && segment.has(TcpFlags::ECE) && !segment.syn(),
                has_data: segment.len() > 0,
            },
            self.accecn.as_deref_mut().zip(feedback.as_ref()),
        );
        if child && self.state == State::SynRcvd && (out.drop.is_some() || out.old_ack) {
            return Err(Reject::reset(out.drop.unwrap_or(DropReason::TcpOldAck)));
        }
        if let Some(reason) = out.drop {
            if out.challenge || self.state != State::Established {
                self.challenge_ack(env);
            }
            return Err(reason.into());
        }
        self.keep_timestamp(env, segment);
        if child && !out.old_ack {
            let echo = ts
                .filter(|ts| ts.ecr != 0)
                .map(|ts| ts.ecr.wrapping_sub(self.ts.offset));
            self.fast_open_established(env, echo);
            self.third_ack(env, segment);
        }
        if out.progress {
            self.soft_error = None;
        }
        if out.fin_acked {
            self.fin_acked(env);
        }
        Ok(())
    }

    /// Step seven and eight: text and FIN (Linux: `tcp_data_queue`, `tcp_fin`).
    fn data_arrives(&mut self, env: &mut Env, segment: &Segment<'_>) -> Result<(), Reject> {
        let end = segment.end();
        self.data_came_again(segment);
        match self.state {
            State::CloseWait | State::Closing | State::LastAck if !segment.seq.before(self.rcv.rcv_nxt()) => {
                // Nothing can come after a FIN; a bare ACK needs no more.
                return Ok(());
            }
            State::FinWait1 | State::FinWait2 | State::CloseWait | State::Closing | State::LastAck
                if self.rcv_shutdown && end != segment.seq =>
            {
                let data_end = end - u32::from(segment.fin());
                if data_end.after(self.rcv.rcv_nxt()) {
                    // Data nobody will ever read (RFC 1122 §4.2.2.13).
                    env.mib.inc(Counter::TcpExtTCPAbortOnData);
                    self.abort_on_data(env);
                    return Err(Reject::reset(DropReason::TcpAbortOnData));
                }
            }
            _ => {}
        }
        if segment.syn() {
            // The SYN-ACK of a simultaneous open repeats the SYN: a duplicate.
            self.rcv.dupack(&mut env.rcv(), segment.seq, segment.data_seq());
        }
        if segment.payload.is_empty() && !segment.fin() {
            return Ok(());
        }
        let out = self.take_text(env, segment);
        match out.drop {
            Some(reason) => Err(reason.into()),
            None => Ok(()),
        }
    }

    /// The handshake is over.
    pub(super) fn end_opening(&mut self, env: &mut Env) {
        if let Some(opening) = self.opening.take() {
            env.openings.give(opening);
        }
    }

    /// Hands a segment's text and FIN to the receiver.
    pub(super) fn take_text(&mut self, env: &mut Env, segment: &Segment<'_>) -> DataOut {
        let ts_ecr = segment
            .options
            .timestamps
            .filter(|ts| self.ts.ok && ts.ecr != 0)
            .map(|ts| ts.ecr.wrapping_sub(self.ts.offset));
        let rto = self.snd.rto();
        let lends = env.lending == Lending::Wanted && self.state == State::Established && self.sock.is_some();
        let out = self.rcv.data(
            &mut env.rcv(),
            &DataIn {
                seq: segment.data_seq(),
                payload: segment.payload,
                flags: segment.flags,
                header_len: segment.header_len,
                gso_size: segment.gso_size,
                ecn: segment.ecn,
                ts_ecr,
                rto,
                held: self.sock.is_some(),
                lends,
            },
        );
        match self.sock {
            Some(sock) if out.lent => env.lending = Lending::Lent(sock, out.readable as usize),
            _ if out.readable > 0 => self.notify(env),
            _ => {}
        }
        if out.fin {
            self.fin_arrives(env);
        }
        out
    }

    /// Step six: the urgent pointer.
    fn urgent_arrives(&mut self, env: &mut Env, segment: &Segment<'_>) {
        let pointer = segment.has(TcpFlags::URG).then_some(segment.urgent);
        let (seq, payload) = (segment.data_seq(), segment.payload);
        if (pointer.is_some() || !payload.is_empty()) && self.rcv.urg(&mut env.rcv(), seq, payload, pointer) {
            self.notify(env);
        }
    }

    /// What the receiver must know of the path.
    pub(super) fn path(&self) -> Path {
        Path {
            srtt: self.snd.srtt(),
            rto: self.snd.rto(),
            delack_max: self.opts.delack_max(),
        }
    }

    /// A connection at its beginning; sender and receiver begin when the handshake has settled what they need.
    pub(crate) fn new(env: &mut Env, new: NewConn) -> Box<Conn> {
        let opening = new.opening;
        let sndbuf = (new.opts.sndbuf > 0).then_some(new.opts.sndbuf);
        let snd = Sender::new(env, opening.iss, sndbuf, new.opts.cc);
        let rcv = new_receiver(
            env,
            new.irs,
            &opening,
            &new.opts,
            snd.mss(),
            opening.ecn == EcnMode::Classic,
        );
        let now = env.now;
        let opening = env.openings.fill(opening);
        env.conns.fill(Conn {
            tuple: new.tuple,
            state: new.state,
            family: new.family,
            probe_now: false,
            in_ready: false,
            rcv_shutdown: false,
            snd_shutdown: false,
            orphan: false,
            was_open: false,
            error: None,
            soft_error: None,
            fate: Fate::Stay,
            sack_ok: false,
            ecn: EcnMode::Off,
            counted_orphan: false,
            snd_scale: WindowScale::default(),
            rcv_scale: WindowScale::default(),
            mss_clamp: 536,
            pmtu: 0,
            way: Way::default(),
            snd,
            rcv,
            ts: TsState {
                offset: new.ts_offset,
                ..TsState::default()
            },
            opening: Some(opening),
            accecn: None,
            fast_open: None,
            connecting: false,
            sock: None,
            closed: None,
            in_accept_queue: false,
            iface: new.iface,
            binding: PackedBinding::pack(new.binding.as_ref()),
            opts: new.opts,
            keepalive: Keepalive::OFF,
            fin_wait2_until: NEVER,
            last_rcv: now,
            last_oow_ack: 0,
            generation: new.generation,
            hash: new.hash,
            timer: TimerHandle::NONE,
            armed: NEVER,
            last_charged: 0,
            segs_in: 0,
            segs_out: 0,
        })
    }
}

/// What a connection begins with.
pub(crate) struct NewConn {
    pub(crate) tuple: Tuple,
    pub(crate) state: State,
    pub(crate) family: Family,
    pub(crate) opts: Arc<SockOpts>,
    pub(crate) binding: Option<Binding>,
    pub(crate) iface: Option<IfaceId>,
    pub(crate) generation: u32,
    pub(crate) hash: u32,
    pub(crate) opening: Opening,
    /// The peer's initial sequence number, if its SYN came.
    pub(crate) irs: SeqNum,
    pub(crate) ts_offset: u32,
}

/// A receiver as the handshake has settled it, or will; `mss`: our own sending MSS as it stands.
pub(super) fn new_receiver(
    env: &mut Env,
    irs: SeqNum,
    opening: &Opening,
    opts: &SockOpts,
    mss: u16,
    ecn_ok: bool,
) -> Receiver {
    let (rcvbuf, rcvbuf_locked) = super::passive::rcvbuf(env, opts);
    let setup = RcvSetup {
        irs,
        window: opening.window,
        wscale_ok: opening.scale.is_some(),
        advmss: opening.mss,
        mss,
        sack_ok: opening.sack,
        ts_ok: opening.ts,
        ecn_ok,
        rcvbuf,
        rcvbuf_locked,
        oob_inline: opts.oob_inline,
    };
    let mut rcv = Receiver::new(&mut env.rcv(), &setup);
    if opts.quickack == Some(false) {
        rcv.enter_pingpong(&env.sysctl);
    }
    rcv
}

/// A segment's SACK blocks as sequence numbers.
fn sack_blocks(segment: &Segment<'_>) -> SackList {
    if segment.options.sack.is_empty() {
        return SackList::default();
    }
    SackList {
        blocks: core::array::from_fn(|i| match segment.options.sack.get(i) {
            Some((left, right)) => (SeqNum(*left), SeqNum(*right)),
            None => (SeqNum(0), SeqNum(0)),
        }),
        len: segment.options.sack.len(),
    }
}

#[derive(Default)]
struct SackList {
    blocks: [(SeqNum, SeqNum); 4],
    len: usize,
}

impl core::ops::Deref for SackList {
    type Target = [(SeqNum, SeqNum)];
    fn deref(&self) -> &[(SeqNum, SeqNum)] {
        &self.blocks[..self.len]
    }
}

// With its slots in the tables of handles, lookups, ports and timers an idle connection stays within 1 KiB.
const _: () = assert!(size_of::<Conn>() <= 912);
