//! Passive opens: LISTEN and the SYN queue at work (RFC 9293 §3.10.7.2; Linux: `tcp_conn_request`, `tcp_check_req`,
//! `reqsk_timer_handler`).

use super::accecn::{AccEcn, EcnMode, SynEcn};
use super::auth::Key;
use super::conn::{Conn, NewConn, Reject};
use super::connect::Opening;
use super::cookie::{self, CookieOptions};
use super::demux::{Demux, Object};
use super::emit::fixed_headers;
use super::fastopen::Answer;
use super::listen::Listener;
use super::rcv::InitialWindow;
use super::segment::Segment;
use super::synq::{Check, Kind, NO_SCALE, Request};
use super::{Tcp, isn, reset, trace_move};
use crate::drop::DropReason;
use crate::env::Env;
use crate::ip::{Route, Way};
use crate::rows::Place;
use crate::sock::SockOpts;
use crate::sock::bind::{BindAddr, BindClass, Binding};
use crate::sysctl::Sysctls;
use crate::timer::TimerKey;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::time::Duration;
use estab_proto::state::Trigger;
use estab_proto::{Counter, SeqNum, State, WindowScale};

/// How long after the last need for one a cookie may come back (Linux: TCP_SYNCOOKIE_VALID).
const COOKIE_VALID: Duration = Duration::from_secs(120);

/// The MSS we announce: MTU less headers, clamped by TCP_MAXSEG (Linux: `tcp_advertise_mss`).
pub(super) fn own_mss(env: &Env, route: &Route, maxseg: u16) -> u16 {
    let by_mtu = route.mtu.saturating_sub(fixed_headers(route.src.is_ipv4()));
    let mss = match route.advmss {
        0 => by_mtu.max(env.sysctl.min_adv_mss).min(65495) as u16,
        mss => mss,
    };
    if maxseg > 0 { mss.min(maxseg) } else { mss }
}

/// What a SYN-ACK takes from the route back.
#[derive(Clone, Copy)]
pub(super) struct Back {
    pub(super) mss: u16,
    pub(super) way: Way,
}

impl Back {
    fn by(env: &Env, route: &Route, maxseg: u16) -> Back {
        Back {
            mss: own_mss(env, route, maxseg),
            way: env.ip.remember(route),
        }
    }
}

/// The receive buffer a socket begins with, and whether SO_RCVBUF set it.
pub(super) fn rcvbuf(env: &Env, opts: &SockOpts) -> (u32, bool) {
    match opts.rcvbuf {
        0 => (env.sysctl.tcp_rmem[1].min(u64::from(u32::MAX)) as u32, false),
        n => (n, true),
    }
}

impl Tcp {
    /// "Segment arrives" in LISTEN. `isn`: the number to answer with, when a TIME_WAIT made room.
    pub(super) fn listen_arrives(
        &mut self,
        env: &mut Env,
        listener: u32,
        segment: &Segment<'_>,
        hash: u32,
        isn: Option<SeqNum>,
    ) -> Result<(), Reject> {
        self.check_for_listener(env, listener, segment)?;
        if segment.rst() {
            return Err(DropReason::TcpReset.into());
        }
        if segment.ack_set() {
            if !segment.syn() && self.cookie_arrives(env, listener, segment, hash)? {
                return Ok(());
            }
            return Err(Reject::reset(DropReason::TcpFlags));
        }
        if !segment.syn() || segment.fin() {
            return Err(DropReason::TcpFlags.into());
        }
        if self.listeners[listener as usize].opts.transparent {
            return self.hold_open(env, listener, segment, hash);
        }
        self.syn_arrives(env, listener, segment, hash, isn)
    }

    /// An ACK for a listener: perhaps it completes a cookie's handshake (Linux: `cookie_v4_check`). `false`: it does not.
    fn cookie_arrives(&mut self, env: &mut Env, index: u32, segment: &Segment<'_>, hash: u32) -> Result<bool, Reject> {
        let listener = &mut self.listeners[index as usize];
        let recent = listener
            .last_overflow
            .is_some_and(|at| env.now.since(at) <= COOKIE_VALID);
        if env.sysctl.tcp_syncookies == 0 || !recent {
            return Ok(false);
        }
        let Some(mss) = cookie::check(env, &segment.tuple, segment.seq - 1, segment.ack - 1) else {
            env.mib.inc(Counter::TcpExtSyncookiesFailed);
            return Ok(false);
        };
        env.mib.inc(Counter::TcpExtSyncookiesRecv);
        let ts_offset = isn::numbers(env, &segment.tuple).ts_offset;
        let options = match segment.options.timestamps {
            None => CookieOptions::default(),
            Some(ts) => match cookie::from_timestamp(&env.sysctl, ts.ecr.wrapping_sub(ts_offset)) {
                Some(options) => options,
                None => return Ok(false),
            },
        };
        if listener.accept_full() {
            env.mib.inc(Counter::TcpExtListenOverflows);
            env.mib.inc(Counter::TcpExtListenDrops);
            return Err(DropReason::TcpListenOverflow.into());
        }
        let ts = segment.options.timestamps;
        let asked = Asked {
            mss: Some(mss),
            scale: options.window_scale,
            sack: options.sack_ok,
            ts: ts.map(|ts| ts.val),
            ecn: match options.ecn_ok {
                true => EcnMode::from_cookie(&env.sysctl, segment.flags),
                false => EcnMode::Off,
            },
        };
        let generation = self.next_generation();
        let listener = &mut self.listeners[index as usize];
        let Some((mut request, _)) = make_request(env, listener, index, generation, segment, &asked) else {
            return Err(DropReason::NoRoute.into());
        };
        (request.irs, request.rcv_nxt, request.iss) = (segment.seq - 1, segment.seq, segment.ack - 1);
        let child = self.spawn(env, request, hash, false, None);
        self.enqueue(env, index, child, segment)?;
        Ok(true)
    }

    /// A SYN for a listener (Linux: `tcp_conn_request`).
    fn syn_arrives(
        &mut self,
        env: &mut Env,
        index: u32,
        segment: &Segment<'_>,
        hash: u32,
        isn: Option<SeqNum>,
    ) -> Result<(), Reject> {
        let listener = &self.listeners[index as usize];
        let cookies = env.sysctl.tcp_syncookies;
        let mut want_cookie = false;
        // A SYN that took over a TIME_WAIT is let in without limits.
        if isn.is_none() && (cookies == 2 || listener.requests_full()) {
            if cookies == 0 {
                env.mib.inc(Counter::TcpExtTCPReqQFullDrop);
                env.mib.inc(Counter::TcpExtListenDrops);
                return Err(DropReason::TcpReqQueueFull.into());
            }
            env.mib.inc(Counter::TcpExtTCPReqQFullDoCookies);
            want_cookie = true;
        }
        if listener.accept_full() {
            env.mib.inc(Counter::TcpExtListenOverflows);
            env.mib.inc(Counter::TcpExtListenDrops);
            return Err(DropReason::TcpListenOverflow.into());
        }
        if let Some(ts) = segment.options.timestamps
            && env.sysctl.tcp_tw_recycle != 0
            && isn.is_none()
            && env
                .metrics
                .get(segment.tuple.remote_ip)
                .recycle_rejects(super::clock_ms(env), ts.val)
        {
            env.mib.inc(Counter::TcpExtPAWSPassive);
            env.mib.inc(Counter::TcpExtListenDrops);
            return Err(DropReason::TcpTwRecycle.into());
        }
        if !want_cookie && isn.is_none() && cookies == 0 {
            // The last quarter is for peers that proved themselves before.
            let most = env.sysctl.tcp_max_syn_backlog;
            if most.saturating_sub(listener.requests) < most >> 2 && !env.metrics.get(segment.tuple.remote_ip).proven {
                env.mib.inc(Counter::TcpExtListenDrops);
                return Err(DropReason::TcpReqQueueFull.into());
            }
        }
        let generation = self.next_generation();
        let listener = &mut self.listeners[index as usize];
        let mut asked = Asked::by(&env.sysctl, segment);
        if want_cookie && (asked.ts.is_none() || env.sysctl.tcp_timestamps == 0) {
            // Without a timestamp a cookie keeps nothing but the MSS.
            asked = Asked {
                mss: asked.mss,
                ..Asked::default()
            };
        }
        let Some((mut request, back)) = make_request(env, listener, index, generation, segment, &asked) else {
            env.mib.inc(Counter::TcpExtListenDrops);
            return Err(DropReason::NoRoute.into());
        };
        request.iss = isn.unwrap_or(request.iss);
        let from = if isn.is_some() { State::TimeWait } else { State::Listen };
        trace_move(env, &request.tuple, from, State::SynRcvd, Trigger::RcvSyn);
        if want_cookie {
            listener.last_overflow = Some(env.now);
            let key = listener.opts.keys.find(request.tuple.remote_ip);
            send_cookie(env, &mut request, back, key);
            return Ok(());
        }
        if listener.opts.keys.find(request.tuple.remote_ip).is_some() {
            // A signature and timestamps leave no room for SACK blocks (Linux: `tcp_synack_options`).
            request.ts_ok &= !request.sack_ok;
        }
        let cookie = match self.fast_open_syn(env, index, segment) {
            Answer::Request(cookie) => cookie,
            Answer::Child(cookie) => {
                self.fast_open_child(env, index, request, segment, hash, cookie);
                return Ok(());
            }
        };
        let key = self.listeners[index as usize].opts.keys.find(request.tuple.remote_ip);
        reset::send_synack_with(env, &mut request, back, key, cookie);
        let timeout = request.timeout(env);
        self.listeners[index as usize].join(&request);
        let slot = self.requests.insert(request) as u32;
        self.enter(env, hash, Object::Request(slot));
        self.request_deadline(env, slot, timeout);
        Ok(())
    }

    /// A segment for a request.
    pub(super) fn request_arrives(
        &mut self,
        env: &mut Env,
        index: u32,
        segment: &Segment<'_>,
        hash: u32,
    ) -> Result<(), Reject> {
        if self.requests[index as usize].is_held() {
            return self.held_arrives(env, index, segment, hash);
        }
        let listener = self.requests[index as usize].listener;
        let defer = self.listeners[listener as usize].opts.defer_accept;
        let request = &mut self.requests[index as usize];
        match request.check(env, segment, defer) {
            Check::Drop(reason) => Err(reason.into()),
            Check::Resend => {
                self.resend_synack(env, index);
                let timeout = self.requests[index as usize].timeout(env);
                self.request_deadline(env, index, timeout);
                Ok(())
            }
            Check::Ack(reason) => {
                let keys = &self.listeners[listener as usize].opts.keys;
                reset::ack_for_request(env, request, keys.find(request.tuple.remote_ip));
                Err(reason.into())
            }
            Check::Reset(reason) => Err(Reject::reset(reason)),
            Check::Abort => {
                env.mib.inc(Counter::TcpExtEmbryonicRsts);
                let (to, on) = match segment.rst() {
                    true => (State::Listen, Trigger::RcvRst),
                    false => (State::Closed, Trigger::Abort),
                };
                self.drop_request(env, index, to, on);
                Err(Reject::reset(DropReason::TcpReset))
            }
            Check::Complete => self.complete(env, index, segment, hash),
        }
    }

    /// The final ACK: the request becomes a connection (Linux: `tcp_v4_syn_recv_sock`).
    fn complete(&mut self, env: &mut Env, index: u32, segment: &Segment<'_>, hash: u32) -> Result<(), Reject> {
        let listener_index = self.requests[index as usize].listener;
        if self.listeners[listener_index as usize].accept_full() {
            env.mib.inc(Counter::TcpExtListenOverflows);
            env.mib.inc(Counter::TcpExtListenDrops);
            if env.sysctl.tcp_abort_on_overflow == 0 {
                self.requests[index as usize].acked = true;
                return Err(DropReason::TcpListenOverflow.into());
            }
            env.mib.inc(Counter::TcpExtEmbryonicRsts);
            self.drop_request(env, index, State::Closed, Trigger::Abort);
            return Err(Reject::reset(DropReason::TcpListenOverflow));
        }
        let Some(request) = self.withdraw_request(env, index) else {
            return Err(DropReason::NoSocket.into());
        };
        let child = self.spawn(env, request, hash, true, Some(index));
        // What a client says comes close behind.
        self.last = child;
        self.enqueue(env, listener_index, child, segment)
    }

    /// A new connection joins the accept queue and takes the segment that made it (Linux: `inet_csk_reqsk_queue_add`,
    /// `tcp_child_process`).
    fn enqueue(&mut self, env: &mut Env, listener: u32, child: u32, segment: &Segment<'_>) -> Result<(), Reject> {
        self.conns[child as usize].in_accept_queue = true;
        let listener = &mut self.listeners[listener as usize];
        listener.accept.push_back(child);
        env.events.ready(listener.sock);
        let result = self.conns[child as usize].segment_arrives(env, segment);
        self.settle(env, child);
        result
    }

    /// A connection in SYN_RCVD from a request that was taken out of its tables; `measured`: it knows when its SYN-ACK left.
    /// `old`: where it stood, if the connection is to take its place among the lookups.
    pub(super) fn spawn(
        &mut self,
        env: &mut Env,
        request: Request,
        hash: u32,
        measured: bool,
        old: Option<u32>,
    ) -> u32 {
        env.mib.inc(Counter::TcpPassiveOpens);
        let generation = self.next_generation();
        let listener = &self.listeners[request.listener as usize];
        let mut opts = listener.opts.clone();
        if opts.tos != request.tos {
            Arc::make_mut(&mut opts).tos = request.tos;
        }
        if !opts.keys.is_empty() {
            Arc::make_mut(&mut opts).keys = listener.opts.keys.inherited(request.tuple.remote_ip);
        }
        // Opens of a transparent listener stand on foreign addresses, which nobody binds.
        let binding = (!request.is_held()).then_some(Binding {
            addr: BindAddr::Ip(request.tuple.local_ip),
            port: request.tuple.local_port,
            explicit: listener.binding.explicit,
            port_fixed: false,
            addr_fixed: listener.binding.addr_fixed,
            class: BindClass {
                listen: false,
                ..listener.binding.class
            },
        });
        let (buf, locked) = rcvbuf(env, &opts);
        let v4 = request.tuple.local_ip.is_ipv4();
        let route = env
            .ip
            .route_on(request.iface, request.tuple.remote_ip, request.tuple.local_ip)
            .ok();
        let mss = route.map_or(if v4 { 1460 } else { 1440 }, |route| own_mss(env, &route, opts.maxseg));
        let announced = if request.ts_ok { mss.saturating_sub(12) } else { mss };
        let wscale_ok = request.peer_scale != NO_SCALE;
        let mut window = InitialWindow::select(&env.sysctl, buf, locked, announced, opts.window_clamp, wscale_ok);
        window.rcv_wnd = request.window;
        let opening = Opening {
            iss: request.iss,
            mss,
            scale: wscale_ok.then_some(WindowScale::new(request.own_scale)),
            sack: request.sack_ok,
            ts: request.ts_ok,
            offered: None,
            ecn: request.ecn.mode(),
            syn_ecn: request.ecn.codepoint(),
            window,
            initcwnd: route.map_or(0, |route| route.initcwnd),
            fast_open: None,
            data: 0,
            write_pending: false,
            due: false,
            retries: request.retrans,
            backoff: request.timeouts,
            first_sent: measured.then_some(request.sent_at),
            last_sent: measured.then_some(request.sent_at),
            deadline: None,
            passive: true,
        };
        let family = listener.family;
        let mut conn = Conn::new(
            env,
            NewConn {
                tuple: request.tuple,
                state: State::SynRcvd,
                family,
                opts,
                binding,
                iface: request.is_held().then_some(request.iface),
                generation,
                hash,
                opening,
                irs: request.irs,
                ts_offset: request.ts_offset,
            },
        );
        conn.way = route.map_or(Way::default(), |route| env.ip.remember(&route));
        conn.ts.ok = request.ts_ok;
        if request.ts_ok {
            conn.ts.store(env, request.ts_recent);
        }
        conn.mss_clamp = request.mss;
        conn.snd_scale = WindowScale::new(if wscale_ok { request.peer_scale } else { 0 });
        conn.rcv_scale = WindowScale::new(if wscale_ok { request.own_scale } else { 0 });
        conn.ecn = request.ecn.mode();
        conn.accecn = (conn.ecn == EcnMode::Accurate).then(|| Box::new(AccEcn::of_server(request.ecn)));
        if let Some(binding) = &binding {
            self.binds.hold(binding);
        }
        let index = self.conns.insert(conn);
        match old {
            Some(old) => self.demux.replace(hash, Object::Request(old), Object::Conn(index)),
            None => self.enter(env, hash, Object::Conn(index)),
        }
        index
    }

    /// (Re)starts a request's timer.
    pub(super) fn request_deadline(&mut self, env: &mut Env, index: u32, timeout: Duration) {
        let row = usize::from(self.requests[index as usize].timeouts).min(7);
        let how = (row, TimerKey::Request(index));
        let at = env.now + timeout;
        self.syn_timers.set(&mut env.timers, &mut self.requests, index, at, how);
    }

    /// Takes a request out of all tables.
    pub(super) fn take_request(&mut self, env: &mut Env, index: u32) -> Option<Request> {
        let request = self.withdraw_request(env, index)?;
        self.demux
            .remove(Demux::hash(env, &request.tuple), Object::Request(index));
        Some(request)
    }

    /// Takes a request out of all tables but that of lookups.
    fn withdraw_request(&mut self, env: &mut Env, index: u32) -> Option<Request> {
        let request = self.requests.get(index as usize)?;
        if let Some(listener) = self.listeners.get_mut(request.listener as usize) {
            listener.leave(request);
        }
        self.syn_timers.cancel(&mut env.timers, &mut self.requests, index);
        let request = self.requests.try_remove(index as usize)?;
        if request.is_held() {
            self.held -= 1;
        }
        if self.requests.is_empty() && self.requests.capacity() > 64 {
            self.requests = slab::Slab::new();
        }
        Some(request)
    }

    pub(super) fn drop_request(&mut self, env: &mut Env, index: u32, to: State, on: Trigger) {
        if let Some(request) = self.take_request(env, index) {
            trace_move(env, &request.tuple, State::SynRcvd, to, on);
        }
    }

    fn resend_synack(&mut self, env: &mut Env, index: u32) {
        let request = &mut self.requests[index as usize];
        let opts = &self.listeners[request.listener as usize].opts;
        let (maxseg, key) = (opts.maxseg, opts.keys.find(request.tuple.remote_ip));
        let Ok(route) = env
            .ip
            .route_on(request.iface, request.tuple.remote_ip, request.tuple.local_ip)
        else {
            return;
        };
        let back = Back::by(env, &route, maxseg);
        request.retrans = request.retrans.saturating_add(1);
        env.mib.inc(Counter::TcpRetransSegs);
        env.mib.inc(Counter::TcpExtTCPSynRetrans);
        reset::send_synack(env, request, back, key);
    }

    /// A request's timer has fired.
    pub(super) fn request_timeout(&mut self, env: &mut Env, index: u32) {
        if self.requests[index as usize].is_held() {
            return self.held_timeout(env, index);
        }
        let request = &self.requests[index as usize];
        let listener_index = request.listener as usize;
        let listener = &self.listeners[listener_index];
        let normal = match listener.opts.syncnt {
            0 => env.sysctl.tcp_synack_retries.min(255) as u8,
            n => n,
        };
        let most = listener.synack_retries(normal);
        env.mib.inc(Counter::TcpExtTCPTimeouts);
        let (tuple, timeouts) = (request.tuple, request.timeouts);
        let (expire, resend) = request.on_timeout(most, listener.opts.defer_accept);
        env.trace(&tuple, || estab_proto::TraceKind::Timer {
            kind: estab_proto::TimerKind::SynAck,
            retries: timeouts,
        });
        if expire {
            return self.drop_request(env, index, State::Closed, Trigger::Timeout);
        }
        if resend {
            self.resend_synack(env, index);
        }
        let request = &mut self.requests[index as usize];
        if request.timeouts == 0 {
            self.listeners[listener_index].young -= 1;
        }
        request.timeouts += 1;
        let timeout = request.timeout(env);
        self.request_deadline(env, index, timeout);
    }
}

/// A SYN-ACK that keeps the request in its own numbers (Linux: `cookie_init_sequence`, `cookie_init_timestamp`).
fn send_cookie(env: &mut Env, request: &mut Request, back: Back, key: Option<&Key>) {
    (request.iss, _) = cookie::make(env, &request.tuple, request.irs, request.mss);
    env.mib.inc(Counter::TcpExtSyncookiesSent);
    let options = CookieOptions {
        window_scale: (request.peer_scale != NO_SCALE).then_some(request.peer_scale),
        sack_ok: request.sack_ok,
        ecn_ok: request.ecn.mode() != EcnMode::Off,
    };
    // The clock of this one SYN-ACK: the difference to ours goes into the offset.
    let now = super::clock_ms(env);
    let ts = cookie::to_timestamp(options, now);
    request.ts_offset = request.ts_offset.wrapping_add(ts.wrapping_sub(now));
    reset::send_synack(env, request, back, key);
}

/// What a SYN, or the cookie it left, asks for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    mss: Option<u16>,
    scale: Option<u8>,
    sack: bool,
    /// TSval.
    ts: Option<u32>,
    ecn: EcnMode,
}

impl Asked {
    pub(super) fn by(sysctl: &Sysctls, segment: &Segment<'_>) -> Asked {
        let options = &segment.options;
        Asked {
            mss: options.mss,
            scale: options.window_scale,
            sack: options.sack_permitted,
            ts: options.timestamps.map(|ts| ts.val),
            ecn: EcnMode::granted(sysctl, segment.flags),
        }
    }
}

/// A request for a SYN, and what its SYN-ACK takes from the route; `None` without a way back.
pub(super) fn make_request(
    env: &mut Env,
    listener: &Listener,
    index: u32,
    generation: u32,
    segment: &Segment<'_>,
    asked: &Asked,
) -> Option<(Request, Back)> {
    let opts = &listener.opts;
    let tuple = segment.tuple;
    let route = env.ip.route_on(segment.iface, tuple.remote_ip, tuple.local_ip).ok()?;
    let ts_ok = asked.ts.is_some() && env.sysctl.tcp_timestamps != 0;
    let wscale_ok = asked.scale.is_some() && env.sysctl.tcp_window_scaling != 0;
    let back = Back::by(env, &route, opts.maxseg);
    let (buf, locked) = rcvbuf(env, opts);
    let announced = if ts_ok { back.mss.saturating_sub(12) } else { back.mss };
    let window = InitialWindow::select(&env.sysctl, buf, locked, announced, opts.window_clamp, wscale_ok);
    let numbers = isn::numbers(env, &tuple);
    let request = Request {
        tuple,
        peer_scale: if wscale_ok {
            asked.scale.unwrap_or(0).min(14)
        } else {
            NO_SCALE
        },
        own_scale: window.scale.bits(),
        irs: segment.seq,
        rcv_nxt: segment.seq + 1,
        iss: numbers.isn,
        mss: super::peer_mss(asked.mss, tuple.remote_ip, opts.maxseg),
        window: window.rcv_wnd,
        sack_ok: asked.sack && env.sysctl.tcp_sack != 0,
        ts_ok,
        ecn: SynEcn::new(asked.ecn, segment.ecn),
        acked: false,
        kind: Kind::Plain,
        tos: match env.sysctl.tcp_reflect_tos {
            0 => opts.tos,
            // The SYN's, but for the ECN bits (Linux: `tcp_v4_send_synack`).
            _ => segment.tos & !3,
        },
        timeouts: 0,
        retrans: 0,
        ts_recent: asked.ts.unwrap_or(0),
        ts_offset: numbers.ts_offset,
        first_sent_ms: super::clock_ms(env),
        sent_at: env.now,
        last_oow_ack: 0,
        iface: segment.iface,
        generation,
        listener: index,
        ends: Place::NONE,
    };
    Some((request, back))
}
