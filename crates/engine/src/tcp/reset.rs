//! Segments that answer without a connection's help: resets for what belongs nowhere, SYN-ACKs and ACKs of requests,
//! ACKs of TIME_WAIT (RFC 9293 §3.5.2; Linux: `tcp_v4_send_reset`, `tcp_v4_send_ack`, `tcp_send_active_reset`).

use super::accecn::{self, EcnMode};
use super::auth::{self, Key};
use super::clock_ms;
use super::conn::Conn;
use super::demux::Tuple;
use super::passive::Back;
use super::segment::{Segment, trace_options};
use super::synq::Request;
use super::timewait::Rest;
use crate::env::Env;
use crate::iface::IfaceId;
use crate::ip::{Ip, ReplyOptions, TcpReply, Way};
use estab_proto::{ScaledWindow, SegmentTrace, SeqNum, TcpFlags, TraceKind, WindowScale};
use estab_wire::tcp::FastOpen;

/// What stands in a stateless segment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) seq: SeqNum,
    pub(crate) ack: SeqNum,
    pub(crate) flags: TcpFlags,
    pub(crate) window: u16,
    pub(crate) options: ReplyOptions,
    pub(crate) tos: u8,
    pub(crate) ttl: u8,
    /// The way out, where it is known.
    pub(crate) way: Way,
}

/// Queues a stateless segment from `tuple`'s local to its remote end, signed with `key`.
pub(crate) fn answer(env: &mut Env, tuple: &Tuple, iface: IfaceId, a: Answer, key: Option<&Key>) {
    let mut reply = TcpReply {
        src: tuple.local(),
        dst: tuple.remote(),
        seq: a.seq,
        ack: a.ack,
        flags: a.flags,
        window: a.window,
        options: a.options,
        tos: a.tos,
        ttl: a.ttl,
        iface,
        way: a.way,
        md5: None,
    };
    if let Some(key) = key {
        auth::sign_reply(&mut reply, key);
    }
    env.trace(tuple, || {
        let mut bytes = [0; 40];
        let len = reply.wire_options().write(&mut bytes).unwrap_or(0);
        TraceKind::Sent(SegmentTrace {
            seq: a.seq,
            ack: a.ack,
            flags: a.flags,
            window: ScaledWindow(a.window),
            len: 0,
            options: trace_options(&bytes[..len]),
        })
    });
    Ip::queue_tcp(env, reply);
}

/// RST for a segment that belongs nowhere: from its own numbers (RFC 9293 §3.10.7.1). An RST is never answered.
pub(crate) fn reset_segment(env: &mut Env, segment: &Segment<'_>, key: Option<&Key>) {
    if segment.rst() {
        return;
    }
    let (seq, ack, flags) = match segment.ack_set() {
        true => (segment.ack, SeqNum(0), TcpFlags::RST),
        false => (SeqNum(0), segment.end(), TcpFlags::RST | TcpFlags::ACK),
    };
    let a = Answer {
        seq,
        ack,
        flags,
        ..Answer::default()
    };
    answer(env, &segment.tuple, segment.iface, a, key);
}

/// A request's SYN-ACK; it counts as sent now.
pub(super) fn send_synack(env: &mut Env, request: &mut Request, back: Back, key: Option<&Key>) {
    send_synack_with(env, request, back, key, None);
}

/// [`send_synack`] with a Fast Open cookie, which only the first one carries.
pub(super) fn send_synack_with(
    env: &mut Env,
    request: &mut Request,
    back: Back,
    key: Option<&Key>,
    cookie: Option<FastOpen>,
) {
    let ts = request
        .ts_ok
        .then(|| (clock_ms(env).wrapping_add(request.ts_offset), request.ts_recent));
    request.sent_at = env.now;
    let mut options = ReplyOptions {
        mss: Some(back.mss),
        window_scale: (request.peer_scale != super::synq::NO_SCALE).then_some(request.own_scale),
        sack_permitted: request.sack_ok,
        timestamps: ts,
        fast_open: cookie,
        ..ReplyOptions::default()
    };
    if request.ecn.mode() == EcnMode::Accurate && request.retrans == 0 && env.sysctl.tcp_ecn_option > 0 {
        // Only the first: perhaps the option is what the path dislikes (RFC 9768 §3.2.3.2.2).
        let mut wire = options.to_wire();
        wire.md5 = key.map(|_| [0; 16]);
        accecn::add_first_option(&mut wire);
        options.accecn = wire.accecn;
    }
    let a = Answer {
        seq: request.iss,
        ack: request.rcv_nxt,
        flags: request.flags(),
        window: request.window.min(0xffff) as u16,
        options,
        tos: request.tos,
        way: back.way,
        ..Answer::default()
    };
    answer(env, &request.tuple, request.iface, a, key);
}

/// A request's ACK for a segment out of its window (Linux: `tcp_v4_reqsk_send_ack`).
pub(crate) fn ack_for_request(env: &mut Env, request: &Request, key: Option<&Key>) {
    let ts = request
        .ts_ok
        .then(|| (clock_ms(env).wrapping_add(request.ts_offset), request.ts_recent));
    let a = Answer {
        seq: request.iss + 1,
        ack: request.irs + 1,
        flags: TcpFlags::ACK,
        window: ScaledWindow::of(request.window, WindowScale::new(request.own_scale)).0,
        options: ReplyOptions {
            timestamps: ts,
            md5_last: true,
            ..ReplyOptions::default()
        },
        ..Answer::default()
    };
    answer(env, &request.tuple, request.iface, a, key);
}

/// TIME_WAIT's ACK (Linux: `tcp_v4_timewait_ack`).
pub(crate) fn ack_for_timewait(env: &mut Env, tuple: &Tuple, iface: IfaceId, rest: &Rest, key: Option<&Key>) {
    let ts = rest.ts_ok.then(|| {
        (
            clock_ms(env).wrapping_add(rest.ts_offset.value(env, tuple)),
            rest.ts_recent,
        )
    });
    let a = Answer {
        seq: rest.snd_nxt,
        ack: rest.rcv_nxt,
        flags: TcpFlags::ACK,
        window: rest.window.0,
        options: ReplyOptions {
            timestamps: ts,
            md5_last: true,
            ..ReplyOptions::default()
        },
        ..Answer::default()
    };
    answer(env, tuple, iface, a, key);
}

impl Conn {
    /// What the connection would say now, without data.
    fn bare(&mut self, env: &mut Env, flags: TcpFlags) -> Answer {
        let ts = self
            .ts
            .ok
            .then(|| (clock_ms(env).wrapping_add(self.ts.offset), self.ts.recent));
        let window = self.rcv.select_window(&mut env.rcv());
        Answer {
            seq: self.snd.acceptable_seq(self.rcv.grain()),
            ack: self.rcv.rcv_nxt(),
            flags,
            window,
            options: ReplyOptions {
                timestamps: ts,
                ..ReplyOptions::default()
            },
            tos: self.opts.tos,
            ttl: self.opts.ttl,
            way: self.way,
        }
    }

    fn hint(&self) -> IfaceId {
        self.iface.unwrap_or(crate::ip::LOOPBACK)
    }

    /// RST at our own initiative (Linux: `tcp_send_active_reset`).
    pub(super) fn send_active_reset(&mut self, env: &mut Env) {
        let a = self.bare(env, TcpFlags::RST | TcpFlags::ACK);
        answer(env, &self.tuple, self.hint(), a, self.key());
    }

    /// An ACK that leaves even if the connection is gone when it does.
    pub(super) fn send_ack_stateless(&mut self, env: &mut Env) {
        let a = self.bare(env, TcpFlags::ACK);
        self.rcv.on_ack_sent(&mut env.rcv());
        answer(env, &self.tuple, self.hint(), a, self.key());
    }
}

/// RST for an open's SYN, which nothing has answered yet.
pub(crate) fn refuse(env: &mut Env, request: &Request) {
    let a = Answer {
        ack: request.irs + 1,
        flags: TcpFlags::RST | TcpFlags::ACK,
        ..Answer::default()
    };
    answer(env, &request.tuple, request.iface, a, None);
}
