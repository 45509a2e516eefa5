//! Active opens: SYN_SENT, its retries, simultaneous opens, and the handshake's half of SYN_RCVD
//! (RFC 9293 §3.10.7.3; Linux: `tcp_v4_connect`, `tcp_rcv_synsent_state_process`, `tcp_retransmit_timer`).

use super::accecn::{self, AccEcn, EcnMode, SynEcn};
use super::conn::{Conn, NewConn, Reject, new_receiver};
use super::demux::{Object, Tuple};
use super::passive::{own_mss, rcvbuf};
use super::rcv::InitialWindow;
use super::segment::Segment;
use super::snd::SndSetup;
use super::{Tcp, isn};
use crate::drop::DropReason;
use crate::env::Env;
use crate::sock::SockOpts;
use crate::sock::bind::{BindAddr, BindClass, Binding};
use crate::{Family, Instant, SockError};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::net::SocketAddr;
use core::time::Duration;
use estab_proto::state::Trigger;
use estab_proto::{Counter, SeqNum, State, TcpFlags, TimerKind, TraceKind, WindowScale};
use estab_wire::tcp::{FastOpen, Options, Timestamps};

/// What the handshake needs while our SYN is not acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub(crate) iss: SeqNum,
    /// What our SYN offers or our SYN-ACK grants.
    pub(crate) mss: u16,
    pub(crate) scale: Option<WindowScale>,
    pub(crate) sack: bool,
    pub(crate) ts: bool,
    /// What our SYN offered, if a SYN of the peer's has crossed it: the SYN-ACK offers it again, whatever the peer's does.
    pub(crate) offered: Option<Offer>,
    /// What our SYN asks for or our SYN-ACK grants.
    pub(crate) ecn: EcnMode,
    /// The ECN field of the SYN that our SYN-ACK answers.
    pub(crate) syn_ecn: u8,
    /// The window our SYN shows.
    pub(crate) window: InitialWindow,
    /// Segments to begin with, as the route has it; 0: as usual (Linux: RTAX_INITCWND).
    pub(crate) initcwnd: u16,
    /// Fast Open: the option that the first SYN or SYN-ACK carries, and the bytes of data in the SYN.
    pub(crate) fast_open: Option<FastOpen>,
    pub(crate) data: u16,
    /// A writer waits for the handshake (Linux: `sk_write_pending`).
    pub(crate) write_pending: bool,
    /// It goes out at the next poll.
    pub(crate) due: bool,
    /// SYNs or SYN-ACKs repeated.
    pub(crate) retries: u8,
    /// The backoff's exponent, from 1 s.
    pub(crate) backoff: u8,
    pub(crate) first_sent: Option<Instant>,
    pub(crate) last_sent: Option<Instant>,
    pub(crate) deadline: Option<Instant>,
    /// The SYN of a passive open: `tcp_synack_retries` bound it.
    pub(crate) passive: bool,
}

/// The options of a SYN that a peer has a say in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    scale: Option<WindowScale>,
    sack: bool,
    ts: bool,
}

/// What a handshake settled.
pub(crate) struct Settled {
    pub(crate) window: u32,
    pub(crate) wl1: SeqNum,
    pub(crate) rtt: Option<Duration>,
    pub(crate) syn_lost: bool,
}

impl Opening {
    fn timeout(&self, env: &Env) -> Duration {
        let max = Duration::from_millis(env.sysctl.tcp_rto_max_ms.into());
        Duration::from_secs(1)
            .saturating_mul(1 << self.backoff.min(16))
            .min(max)
    }

    /// The SYN's control bits. Accurate ECN is asked for, and granted, twice: then perhaps it is what the path dislikes
    /// (RFC 9768 §3.1.4; a SYN of RFC 3168 asks once, see [`syn_timeout`](Conn::syn_timeout)).
    pub(crate) fn flags(&self, env: &Env, state: State) -> TcpFlags {
        let fallback = self.passive || env.sysctl.tcp_ecn_fallback != 0;
        let ecn = match self.ecn {
            EcnMode::Accurate if self.retries > 1 && fallback => EcnMode::Off,
            ecn => ecn,
        };
        match state {
            State::SynSent => TcpFlags::SYN | ecn.syn_flags(),
            _ => TcpFlags::SYN | TcpFlags::ACK | ecn.synack_flags(self.syn_ecn),
        }
    }

    /// The SYN's options.
    pub(crate) fn options(&self, env: &Env, state: State, offset: u32, recent: u32) -> Options {
        let Offer { scale, sack, ts } = self.offered.unwrap_or(self.offer());
        let mut options = Options {
            mss: Some(self.mss),
            window_scale: scale.map(WindowScale::bits),
            sack_permitted: sack,
            timestamps: ts.then(|| Timestamps {
                val: super::clock_ms(env).wrapping_add(offset),
                ecr: recent,
            }),
            fast_open: self.fast_open,
            ..Options::default()
        };
        let again = if self.passive {
            self.retries > 0
        } else {
            self.retries > 1
        };
        if state != State::SynSent && self.ecn == EcnMode::Accurate && !again && env.sysctl.tcp_ecn_option > 0 {
            accecn::add_first_option(&mut options);
        }
        options
    }

    fn offer(&self) -> Offer {
        Offer {
            scale: self.scale,
            sack: self.sack,
            ts: self.ts,
        }
    }

    /// It left: starts the retransmission timer.
    pub(crate) fn on_sent(&mut self, env: &mut Env, user_timeout: u32) {
        self.due = false;
        (self.fast_open, self.data) = (None, 0);
        if self.first_sent.is_some() {
            env.mib.inc(Counter::TcpRetransSegs);
            env.mib.inc(Counter::TcpExtTCPSynRetrans);
        } else if !self.passive {
            env.mib.inc(Counter::TcpActiveOpens);
        }
        self.first_sent.get_or_insert(env.now);
        self.last_sent = Some(env.now);
        let deadline = env.now + self.timeout(env);
        let user = self.first_sent.filter(|_| user_timeout > 0);
        self.deadline = Some(
            match user.map(|first| first + Duration::from_millis(user_timeout.into())) {
                Some(user) if user > env.now => user.min(deadline),
                _ => deadline,
            },
        );
    }

    /// The handshake's round trip, if the SYN was sent once or the timestamp tells which one was answered.
    pub(crate) fn rtt(&self, env: &Env, echo: Option<u32>) -> Option<Duration> {
        let first = self.first_sent?;
        match echo {
            _ if self.retries == 0 => Some(env.now.since(first)),
            Some(ms) => Some(Duration::from_millis(super::clock_ms(env).wrapping_sub(ms).into())),
            None => None,
        }
    }
}

/// The time `retries` doublings from 1 s take, each at most `max` seconds (Linux: `tcp_model_timeout`).
fn model_timeout(retries: u32, max: u32) -> Duration {
    let doublings = max.max(1).ilog2();
    let seconds = match retries <= doublings {
        true => (2u64 << retries) - 1,
        false => (2u64 << doublings) - 1 + u64::from(retries - doublings) * u64::from(max),
    };
    Duration::from_secs(seconds)
}

impl Conn {
    /// The SYN's timer has fired: repeat it or give up (Linux: `tcp_write_timeout`, `tcp_retransmit_timer`).
    pub(super) fn syn_timeout(&mut self, env: &mut Env) {
        let state = self.state;
        let user = self.opts.user_timeout;
        let Some(opening) = self.opening.as_mut() else {
            return;
        };
        if opening.first_sent.is_none() {
            // The quiet time is over.
            opening.due = true;
            opening.deadline = None;
            return;
        }
        let retries = opening.retries;
        let linear = match opening.passive {
            true => 0,
            false => env.sysctl.tcp_syn_linear_timeouts,
        };
        let child = self.fast_open.as_ref().is_some_and(|_| opening.passive);
        let limit = match (opening.passive, self.opts.syncnt) {
            (true, n) if child && n > 0 => n.into(),
            (true, _) => env.sysctl.tcp_synack_retries + u32::from(child),
            (false, 0) => env.sysctl.tcp_syn_retries + linear,
            (false, n) => u32::from(n) + linear,
        };
        env.trace(&self.tuple, || TraceKind::Timer {
            kind: match state {
                State::SynSent => TimerKind::Retransmit,
                _ => TimerKind::SynAck,
            },
            retries,
        });
        env.mib.inc(Counter::TcpExtTCPTimeouts);
        let waited = opening.first_sent.map_or(Duration::ZERO, |t| env.now.since(t));
        let patience = match user {
            0 => model_timeout(limit - linear, env.sysctl.tcp_rto_max_ms / 1000),
            ms => Duration::from_millis(ms.into()),
        };
        let expired = u32::from(retries) >= limit || waited >= patience;
        self.fast_open_timeout(env, retries, expired);
        if expired {
            if state == State::SynSent || state == State::SynRcvd {
                env.mib.inc(Counter::TcpAttemptFails);
            }
            env.mib.inc(Counter::TcpExtTCPAbortOnTimeout);
            return self.fail(env, self.soft_error.unwrap_or(SockError::ETIMEDOUT));
        }
        let Some(opening) = self.opening.as_mut() else {
            return;
        };
        if child && retries == 1 {
            self.snd.enter_loss(env);
        }
        opening.retries += 1;
        // RFC 3168 §6.1.1.1: perhaps ECN is what the path dislikes (`tcp_ecn_fallback`).
        if env.sysctl.tcp_ecn_fallback != 0 && !opening.passive && opening.ecn == EcnMode::Classic {
            opening.ecn = EcnMode::Off;
        }
        opening.backoff = u32::from(opening.retries).saturating_sub(linear).min(16) as u8;
        opening.due = true;
        opening.deadline = None;
    }

    /// "Segment arrives" in SYN_SENT.
    #[inline(never)]
    pub(super) fn syn_sent_arrives(&mut self, env: &mut Env, segment: &Segment<'_>) -> Result<(), Reject> {
        let Some(opening) = self.opening.as_deref() else {
            return Err(DropReason::TcpClose.into());
        };
        let echo = segment
            .options
            .timestamps
            .filter(|ts| opening.ts && ts.ecr != 0)
            .map(|ts| ts.ecr.wrapping_sub(self.ts.offset));
        if segment.ack_set() {
            if !segment.ack.after(opening.iss) || segment.ack.after(self.snd.nxt()) {
                return Err(Reject::reset(DropReason::TcpInvalidAckSequence));
            }
            let (first, last) = (opening.first_sent, env.now);
            if let (Some(echo), Some(first)) = (echo, first)
                && !SeqNum(echo).between(SeqNum(first.millis() as u32), SeqNum(last.millis() as u32))
            {
                env.mib.inc(Counter::TcpExtPAWSActive);
                return Err(Reject::reset(DropReason::TcpRfc7323Tsecr));
            }
            if segment.rst() {
                self.on_reset(env);
                return Err(DropReason::TcpReset.into());
            }
            if !segment.syn() {
                return Err(DropReason::TcpFlags.into());
            }
            return self.syn_ack_arrives(env, segment, echo);
        }
        if segment.rst() {
            return Err(DropReason::TcpReset.into());
        }
        if let Some(ts) = segment.options.timestamps
            && self.ts.recent != 0
            && self.ts.rejects(env, ts.val)
        {
            return Err(DropReason::TcpRfc7323Paws.into());
        }
        match segment.syn() {
            true => self.syn_crosses(env, segment),
            false => Err(DropReason::TcpFlags.into()),
        }
    }

    /// Takes the peer's SYN options against what ours offered.
    fn negotiate(&mut self, env: &mut Env, segment: &Segment<'_>) {
        let Some(opening) = self.opening.as_deref_mut() else {
            return;
        };
        let options = &segment.options;
        opening.scale = opening.scale.filter(|_| options.window_scale.is_some());
        opening.sack &= options.sack_permitted;
        opening.ts &= options.timestamps.is_some();
        if let Some(ours) = opening.scale {
            self.rcv_scale = ours;
            self.snd_scale = WindowScale::new(options.window_scale.unwrap_or(0));
        } else {
            self.rcv_scale = WindowScale::default();
            self.snd_scale = WindowScale::default();
        }
        self.ts.ok = opening.ts;
        if let Some(ts) = options.timestamps.filter(|_| opening.ts) {
            self.ts.store(env, ts.val);
        }
        self.mss_clamp = super::peer_mss(options.mss, self.tuple.remote_ip, self.opts.maxseg);
    }

    /// Gives the sender what the handshake settled.
    pub(super) fn settle_sender(&mut self, env: &mut Env, settled: &Settled) {
        self.pmtu = self.path_mtu(env);
        let Some(opening) = self.opening.as_deref() else {
            return;
        };
        let setup = SndSetup {
            mss: self.mss_within(env, self.pmtu),
            mss_clamp: self.mss_clamp,
            window: settled.window,
            wl1: settled.wl1,
            sack_ok: opening.sack,
            ts_ok: opening.ts,
            ecn_ok: self.ecn == EcnMode::Classic,
            syn_lost: settled.syn_lost,
            rtt: settled.rtt,
        };
        self.sack_ok = setup.sack_ok;
        let (active, initcwnd) = (!opening.passive, opening.initcwnd);
        self.snd.begin(env, &setup);
        if active {
            // A server's search for the path MTU counts only when its MSS is next looked at.
            self.snd.sync_mss();
        }
        if initcwnd > 0 && !settled.syn_lost {
            self.snd.begin_with(env, initcwnd.into());
        }
        self.snd.recall(env, &env.metrics.get(self.tuple.remote_ip));
        self.apply_options(env);
    }

    /// Makes the receiver that the handshake settled.
    pub(super) fn settle_receiver(&mut self, env: &mut Env, irs: SeqNum) {
        if let Some(opening) = self.opening.as_deref() {
            self.rcv = new_receiver(
                env,
                irs,
                opening,
                &self.opts,
                self.snd.mss(),
                self.ecn == EcnMode::Classic,
            );
        }
    }

    fn syn_ack_arrives(&mut self, env: &mut Env, segment: &Segment<'_>, echo: Option<u32>) -> Result<(), Reject> {
        self.negotiate(env, segment);
        let asked = self.opening.as_deref().map_or(EcnMode::Off, |o| o.ecn);
        self.ecn = asked.settled_by_synack(segment.flags);
        if self.ecn == EcnMode::Accurate {
            let option = segment.options.accecn;
            let state = AccEcn::of_client(&env.sysctl, segment.flags, segment.ecn, option);
            self.accecn = Some(Box::new(state));
        }
        let (rtt, syn_lost) = match self.opening.as_deref() {
            Some(o) => (o.rtt(env, echo), o.retries > 1 && echo.is_none()),
            None => (None, false),
        };
        let settled = Settled {
            // The window of a SYN is never scaled (RFC 7323 §2.2).
            window: u32::from(segment.window.0),
            wl1: segment.seq,
            rtt,
            syn_lost,
        };
        self.settle_sender(env, &settled);
        self.settle_receiver(env, segment.seq);
        let (repeated, write_pending) = self
            .opening
            .as_deref()
            .map_or((false, false), |o| (o.retries > 0, o.write_pending));
        self.end_opening(env);
        self.last_rcv = env.now;
        self.soft_error = None;
        self.move_to(env, State::Established, Trigger::RcvSynAck);
        self.keepalive.start(env, &self.opts);
        self.notify(env);
        if self.fast_open_synack(env, segment, repeated) {
            return Ok(());
        }
        if write_pending {
            self.rcv.ack_with_first_write(&env.rcv());
        } else {
            self.rcv.ack_now();
        }
        self.syn_text(env, segment)
    }

    /// Text that came with the peer's SYN.
    fn syn_text(&mut self, env: &mut Env, segment: &Segment<'_>) -> Result<(), Reject> {
        if segment.payload.is_empty() && !segment.fin() {
            return Ok(());
        }
        match self.take_text(env, segment).drop {
            Some(reason) => Err(reason.into()),
            None => Ok(()),
        }
    }

    /// SYNs crossed: SYN_RCVD (RFC 9293 §3.5, figure 8).
    fn syn_crosses(&mut self, env: &mut Env, segment: &Segment<'_>) -> Result<(), Reject> {
        if let Some(opening) = self.opening.as_deref_mut() {
            // Linux writes SYN-ACKs of active opens by `tcp_syn_options` too.
            opening.offered = Some(opening.offer());
        }
        self.negotiate(env, segment);
        let asked = self.opening.as_deref().map_or(EcnMode::Off, |o| o.ecn);
        self.ecn = asked.settled_by_syn(segment.flags);
        if self.ecn == EcnMode::Accurate {
            self.accecn = Some(Box::new(AccEcn::of_server(SynEcn::new(self.ecn, segment.ecn))));
        }
        self.move_to(env, State::SynRcvd, Trigger::RcvSyn);
        let settled = Settled {
            window: u32::from(segment.window.0),
            wl1: segment.seq,
            rtt: None,
            syn_lost: false,
        };
        self.settle_sender(env, &settled);
        self.settle_receiver(env, segment.seq);
        if let Some(opening) = self.opening.as_deref_mut() {
            opening.due = true;
            (opening.ecn, opening.syn_ecn) = (self.ecn, segment.ecn);
        }
        Ok(())
    }

    /// The ACK field in SYN_RCVD: it must acknowledge our SYN (RFC 9293 §3.10.7.4, fifth; Linux: TCP_SYN_RECV).
    #[inline(never)]
    pub(super) fn syn_acked(&mut self, env: &mut Env, segment: &Segment<'_>) -> Result<(), Reject> {
        let Some(opening) = self.opening.as_deref() else {
            return Ok(());
        };
        if !segment.ack.after(opening.iss) || segment.ack.after(self.snd.nxt()) {
            return Err(Reject::reset(DropReason::TcpInvalidAckSequence));
        }
        let echo = segment
            .options
            .timestamps
            .filter(|ts| opening.ts && ts.ecr != 0)
            .map(|ts| ts.ecr.wrapping_sub(self.ts.offset));
        let settled = Settled {
            window: segment.window.bytes(self.snd_scale),
            wl1: segment.seq,
            rtt: opening.rtt(env, echo),
            syn_lost: opening.retries > 1 && echo.is_none(),
        };
        self.settle_sender(env, &settled);
        self.third_ack(env, segment);
        self.snd.watch_syn_data(env);
        self.end_opening(env);
        self.move_to(env, State::Established, Trigger::RcvAckOfSyn);
        self.keepalive.start(env, &self.opts);
        self.notify(env);
        if self.snd_shutdown {
            self.close_after_open(env);
        }
        Ok(())
    }
}

impl Tcp {
    /// Starts an active open from what a socket was bound to (Linux: `tcp_v4_connect`): the new connection's index.
    /// `from`: CLOSED, or LISTEN where RFC 9293 §3.10.1 lets a listener open.
    pub(crate) fn connect(
        &mut self,
        env: &mut Env,
        family: Family,
        opts: Arc<SockOpts>,
        bound: Option<Binding>,
        remote: SocketAddr,
        from: State,
    ) -> crate::Result<u32> {
        if remote.ip().is_multicast() || env.ip.is_broadcast(remote.ip()) {
            return Err(SockError::ENETUNREACH);
        }
        let asked = bound.and_then(|b| b.addr.ip());
        let route = env.ip.route(remote.ip(), asked)?;
        // The unspecified address is this machine (Linux: `ip_route_connect`).
        let remote = match remote.ip().is_unspecified() {
            true => SocketAddr::new(route.next_hop, remote.port()),
            false => remote,
        };
        let local = route.src;
        if local.is_ipv4() != remote.is_ipv4() {
            return Err(SockError::EINVAL);
        }
        let chosen = match bound {
            Some(binding) => self.claim_bound(env, SocketAddr::new(local, binding.port), remote)?,
            None => self.choose_port(env, local, remote)?,
        };
        let binding = Binding {
            addr: BindAddr::Ip(local),
            port: chosen.port,
            explicit: bound.is_some_and(|b| b.explicit),
            port_fixed: bound.is_some_and(|b| b.port_fixed),
            addr_fixed: bound.is_some_and(|b| b.addr_fixed),
            class: bound.map_or(
                BindClass {
                    reuse_addr: opts.reuse_addr,
                    reuse_port: opts.reuse_port,
                    listen: false,
                },
                |b| b.class,
            ),
        };
        if let Some(old) = bound {
            self.binds.release(&old);
        }
        self.binds.hold(&binding);
        let tuple = Tuple::new(SocketAddr::new(local, chosen.port), remote);
        let numbers = isn::numbers(env, &tuple);
        let iss = chosen.legacy.map_or(numbers.isn, |legacy| legacy.iss);
        let mss = own_mss(env, &route, opts.maxseg);
        let (buf, locked) = rcvbuf(env, &opts);
        let scaling = env.sysctl.tcp_window_scaling != 0;
        let window = InitialWindow::select(&env.sysctl, buf, locked, mss, opts.window_clamp, scaling);
        let quiet = super::quiet::quiet_until(env);
        let opening = Opening {
            iss,
            mss,
            scale: scaling.then_some(window.scale),
            sack: env.sysctl.tcp_sack != 0,
            // A signature leaves a SYN no room for them (Linux: `tcp_syn_options`).
            ts: env.sysctl.tcp_timestamps != 0 && opts.keys.find(remote.ip()).is_none(),
            offered: None,
            ecn: EcnMode::asked(&env.sysctl),
            syn_ecn: 0,
            window,
            initcwnd: route.initcwnd,
            fast_open: None,
            data: 0,
            write_pending: false,
            due: quiet.is_none(),
            retries: 0,
            backoff: 0,
            first_sent: None,
            last_sent: None,
            deadline: quiet,
            passive: false,
        };
        let generation = self.next_generation();
        let hash = chosen.hash;
        let mut conn = Conn::new(
            env,
            NewConn {
                tuple,
                state: from,
                family,
                opts,
                binding: Some(binding),
                iface: None,
                generation,
                hash,
                opening,
                irs: SeqNum(0),
                ts_offset: numbers.ts_offset,
            },
        );
        (conn.way, conn.pmtu) = (env.ip.remember(&route), route.mtu);
        if let Some(legacy) = chosen.legacy {
            conn.ts.recent = legacy.ts_recent;
            conn.ts.stamp = legacy.ts_stamp;
        }
        let on = if from == State::Listen {
            Trigger::Send
        } else {
            Trigger::ActiveOpen
        };
        conn.move_to(env, State::SynSent, on);
        let index = self.conns.insert(conn);
        self.enter(env, hash, Object::Conn(index));
        Ok(index)
    }
}
