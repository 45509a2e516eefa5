//! The server: a SYN with a good cookie makes the connection at once. Its child stands in the accept queue, reads, writes and
//! closes in SYN_RCVD; its SYN-ACK is repeated until the final ACK comes (RFC 7413 §4.1, §4.2.1; Linux: `tcp_try_fastopen`,
//! `tcp_fastopen_create_child`, `tcp_rcv_synrecv_state_fastopen`, `reqsk_fastopen_remove`).

use super::cookie::{self, MadeWith};
use super::{FastOpen, mode};
use crate::Instant;
use crate::drop::DropReason;
use crate::env::Env;
use crate::tcp::Tcp;
use crate::tcp::conn::{Conn, Reject};
use crate::tcp::connect::Settled;
use crate::tcp::listen::Listener;
use crate::tcp::segment::Segment;
use crate::tcp::synq::{Check, Kind, Request};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::time::Duration;
use estab_proto::state::Trigger;
use estab_proto::{Counter, State};
use estab_wire::tcp::FastOpen as Cookie;

/// How long a child that was reset after accept(2) counts: who forges addresses fills the queue and so ends Fast Open
/// (RFC 7413 §5.1; Linux: `reqsk_fastopen_remove`).
const RESET_COUNTS: Duration = Duration::from_secs(60);

/// A listener's children that have not proved their address yet, bounded by TCP_FASTOPEN (Linux: `struct fastopen_queue`).
#[derive(Clone, Default)]
pub(crate) struct Queue {
    len: u32,
    /// When those that were reset cease to count.
    resets: VecDeque<Instant>,
}

impl Queue {
    /// Whether one more child may be (Linux: `tcp_fastopen_queue_check`).
    fn admits(&mut self, env: &mut Env, most: u32) -> bool {
        if most == 0 {
            return false;
        }
        if self.len >= most {
            if self.resets.front().is_none_or(|until| *until > env.now) {
                env.mib.inc(Counter::TcpExtTCPFastOpenListenOverflow);
                return false;
            }
            self.resets.pop_front();
            self.len -= 1;
        }
        true
    }

    fn leave(&mut self, now: Instant, reset: bool) {
        if reset {
            self.resets.push_back(now + RESET_COUNTS);
        } else {
            self.len = self.len.saturating_sub(1);
        }
    }
}

/// What a listener makes of a SYN.
pub(crate) enum Answer {
    /// A request as any other, with a cookie in the SYN-ACK or not.
    Request(Option<Cookie>),
    /// A child at once; with a new cookie, where the old one was made with the backup key.
    Child(Option<Cookie>),
}

impl Tcp {
    /// Whether a SYN is believed (Linux: `tcp_try_fastopen`).
    pub(crate) fn fast_open_syn(&mut self, env: &mut Env, listener: u32, segment: &Segment<'_>) -> Answer {
        let option = segment.options.fast_open;
        if option.is_some_and(|o| o.is_request()) {
            env.mib.inc(Counter::TcpExtTCPFastOpenCookieReqd);
        }
        let listener = &mut self.listeners[listener as usize];
        let opts = &listener.opts;
        if env.sysctl.tcp_fastopen & mode::SERVER == 0
            || (segment.payload.is_empty() && option.is_none())
            || !listener.fast_open.admits(env, opts.fastopen)
        {
            return Answer::Request(None);
        }
        if env.sysctl.tcp_fastopen & mode::SERVER_NO_COOKIE != 0 || opts.fastopen_no_cookie {
            env.mib.inc(Counter::TcpExtTCPFastOpenPassive);
            return Answer::Child(None);
        }
        let Some(option) = option else {
            return Answer::Request(None);
        };
        let keys = opts.fastopen_keys.unwrap_or(env.sysctl.tcp_fastopen_key);
        let (from, to) = (segment.tuple.remote_ip, segment.tuple.local_ip);
        let good = Cookie::with_cookie(&cookie::make(env, &keys, from, to), option.experimental);
        if option.is_request() {
            return Answer::Request(good);
        }
        let Some(made_with) = cookie::check(env, &keys, from, to, option.cookie()) else {
            env.mib.inc(Counter::TcpExtTCPFastOpenPassiveFail);
            return Answer::Request(good);
        };
        env.mib.inc(Counter::TcpExtTCPFastOpenPassive);
        if made_with == MadeWith::Backup {
            env.mib.inc(Counter::TcpExtTCPFastOpenPassiveAltKey);
            return Answer::Child(good);
        }
        Answer::Child(None)
    }

    /// The child that a believed SYN makes: it has the SYN's text and may be accepted (Linux: `tcp_fastopen_create_child`).
    pub(crate) fn fast_open_child(
        &mut self,
        env: &mut Env,
        listener_index: u32,
        mut request: Request,
        segment: &Segment<'_>,
        hash: u32,
        cookie: Option<Cookie>,
    ) {
        request.kind = Kind::FastOpen;
        request.rcv_nxt = segment.end();
        let child = self.spawn(env, request.clone(), hash, false, None);
        let listener = &mut self.listeners[listener_index as usize];
        let conn = &mut self.conns[child as usize];
        let settled = Settled {
            // A SYN's window is never scaled.
            window: segment.window.0.into(),
            wl1: segment.seq,
            rtt: None,
            syn_lost: false,
        };
        conn.settle_sender(env, &settled);
        conn.snd.begin_handshake();
        conn.count_ecn(segment);
        conn.rcv.take_syn_text(&mut env.rcv(), segment.payload);
        if let Some(opening) = conn.opening.as_deref_mut() {
            opening.due = true;
            opening.fast_open = cookie;
        }
        conn.fast_open = Some(Box::new(FastOpen {
            syn_data_acked: !segment.payload.is_empty(),
            request: Some(request),
            listener: Some((listener_index, listener.sock)),
            ..FastOpen::default()
        }));
        conn.in_accept_queue = true;
        listener.fast_open.len += 1;
        listener.accept.push_back(child);
        env.events.ready(listener.sock);
        self.settle(env, child);
    }

    /// A child's request is over: the listener may have another (Linux: `reqsk_fastopen_remove`).
    #[cold]
    pub(crate) fn fast_open_release(&mut self, env: &Env, child: u32) {
        let Some(fast_open) = self.conns.get_mut(child as usize).and_then(|c| c.fast_open.as_mut()) else {
            return;
        };
        let (Some(reset), Some((index, sock))) = (fast_open.released.take(), fast_open.listener) else {
            return;
        };
        if let Some(listener) = self.listeners.get_mut(index as usize).filter(|l| l.sock == sock) {
            listener.fast_open.leave(env.now, reset);
        }
    }
}

impl Conn {
    /// The request is over, by the final ACK, a close or an RST.
    pub(crate) fn end_fast_open_request(&mut self, reset: bool) {
        let accepted = !self.in_accept_queue;
        if let Some(fast_open) = self.fast_open.as_deref_mut()
            && fast_open.request.take().is_some()
        {
            fast_open.released = Some(reset && accepted);
        }
    }

    /// Another listener has it in its queue now.
    pub(crate) fn fast_open_inherited(&mut self, index: u32, heir: &mut Listener) {
        if let Some(fast_open) = self.fast_open.as_deref_mut()
            && fast_open.request.is_some()
        {
            fast_open.listener = Some((index, heir.sock));
            heir.fast_open.len += 1;
        }
    }

    /// A segment for a child before its final ACK: what a request of its kind makes of it. False: it is dealt with
    /// (Linux: `tcp_check_req` with `fastopen`).
    #[cold]
    pub(crate) fn fast_open_check(&mut self, env: &mut Env, segment: &Segment<'_>) -> Result<bool, Reject> {
        let Some(request) = self.fast_open.as_deref_mut().and_then(|f| f.request.as_mut()) else {
            return Ok(true);
        };
        match request.check(env, segment, 0) {
            Check::Complete => Ok(true),
            Check::Drop(reason) => Err(reason.into()),
            Check::Reset(reason) => Err(Reject::reset(reason)),
            Check::Resend => {
                if let Some(opening) = self.opening.as_deref_mut() {
                    opening.due = true;
                }
                Ok(false)
            }
            Check::Ack(reason) => {
                self.rcv.ack_now();
                Err(reason.into())
            }
            Check::Abort if segment.rst() => {
                env.mib.inc(Counter::TcpExtEmbryonicRsts);
                self.end_fast_open_request(true);
                self.on_reset(env);
                Err(DropReason::TcpReset.into())
            }
            // Any SYN would do to reset it: the child stays.
            Check::Abort => {
                env.mib.inc(Counter::TcpExtEmbryonicRsts);
                Err(Reject::reset(DropReason::TcpReset))
            }
        }
    }

    /// The final ACK came, and the sender has seen it (Linux: `tcp_rcv_synrecv_state_fastopen`).
    #[cold]
    pub(crate) fn fast_open_established(&mut self, env: &mut Env, echo: Option<u32>) {
        self.end_fast_open_request(false);
        let rtt = self.opening.take().and_then(|opening| opening.rtt(env, echo));
        self.snd.end_handshake(env, rtt);
        if self.state != State::SynRcvd {
            return;
        }
        self.move_to(env, State::Established, Trigger::RcvAckOfSyn);
        self.keepalive.start(env, &self.opts);
        self.notify(env);
        if self.snd_shutdown {
            self.close_after_open(env);
        }
    }
}
