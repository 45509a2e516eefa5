//! What can be said of each socket, request and TIME_WAIT (Linux: net/ipv4/inet_diag.c, `tcp_get_info`).

use super::id::Body;
use crate::Instant;
use crate::env::Env;
use crate::rows::Place;
use crate::stack::Stack;
use crate::tcp::accecn::EcnMode;
use crate::tcp::conn::Conn;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use estab_proto::{SockDiag, State, TcpInfo, TimerInfo, TimerKind};

const TCP: u8 = 6;

/// TCPI_OPT_… (include/uapi/linux/tcp.h).
const OPT_TIMESTAMPS: u8 = 1;
const OPT_SACK: u8 = 2;
const OPT_WSCALE: u8 = 4;
const OPT_ECN: u8 = 8;
const OPT_ECN_SEEN: u8 = 16;

impl Conn {
    /// `struct tcp_info`.
    pub(crate) fn info(&self, env: &Env) -> TcpInfo {
        let mut info = TcpInfo::default();
        self.snd.info(env, &mut info);
        self.rcv.info(env.now, &mut info);
        let opening = self.opening.as_deref();
        let scaled = self.rcv_scale.bits() > 0 || self.snd_scale.bits() > 0;
        info.options = if self.ts.ok { OPT_TIMESTAMPS } else { 0 }
            | if self.sack_ok { OPT_SACK } else { 0 }
            | if scaled { OPT_WSCALE } else { 0 }
            | if self.ecn != EcnMode::Off { OPT_ECN } else { 0 }
            | if self.has_seen_ect() { OPT_ECN_SEEN } else { 0 };
        self.fast_open_info(&mut info);
        if let Some(accecn) = &self.accecn {
            accecn.info(&mut info);
        }
        info.snd_wscale = self.snd_scale.bits();
        info.rcv_wscale = self.rcv_scale.bits();
        info.pmtu = self.pmtu;
        info.segs_in = self.segs_in;
        info.segs_out = self.segs_out;
        if let Some(opening) = opening.filter(|_| !self.is_fast_open_child()) {
            info.retransmits = opening.retries;
            info.unacked = u32::from(opening.first_sent.is_some());
        }
        if self.keepalive.probes() > 0 {
            info.probes = self.keepalive.probes();
        }
        info
    }
}

fn unspecified(like: SocketAddr) -> SocketAddr {
    let ip: IpAddr = match like {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(ip, 0)
}

fn timer(env: &Env, now: Instant, place: Place, kind: TimerKind, retries: u8) -> Option<TimerInfo> {
    place.deadline(&env.timers, now).map(|at| TimerInfo {
        kind,
        expires_in_ns: at.since(now).as_nanos() as u64,
        retries,
    })
}

impl Stack {
    /// Every TCP socket, connection, request and TIME_WAIT.
    pub(crate) fn tcp_diag(&self, now: Instant) -> impl Iterator<Item = SockDiag> + '_ {
        let idle = self.socks.iter().filter_map(|(id, slot)| match &slot.body {
            Body::Idle(idle) => {
                let binding = idle.binding?;
                let local = binding.shown(slot.family);
                Some(diag(State::Closed, local, unspecified(local), id.as_u64()))
            }
            _ => None,
        });
        let listeners = self.tcp.listeners.iter().map(|(_, l)| {
            let local = l.binding.shown(l.family);
            SockDiag {
                recv_q: l.accept.len() as u32,
                send_q: l.backlog,
                ..diag(State::Listen, local, unspecified(local), l.sock.as_u64())
            }
        });
        let conns = self
            .tcp
            .conns
            .iter()
            .filter(|c| c.state != State::Closed)
            .map(move |c| SockDiag {
                recv_q: c.rcv.readable() as u32,
                send_q: c.snd.queued() + u32::from(c.opening.is_some()),
                timer: c.timer_info(now),
                orphan: c.orphan,
                info: Some(c.info(&self.env)),
                ..diag(
                    c.state,
                    c.tuple.local(),
                    c.tuple.remote(),
                    c.sock.map_or(0, |s| s.as_u64()),
                )
            });
        let requests = self.tcp.requests.iter().map(move |(_, r)| SockDiag {
            timer: match r.is_held() {
                true => timer(&self.env, now, r.ends, TimerKind::Open, r.retrans),
                false => timer(&self.env, now, r.ends, TimerKind::SynAck, r.timeouts),
            },
            ..diag(State::SynRcvd, r.tuple.local(), r.tuple.remote(), 0)
        });
        let timewaits = self.tcp.timewaits.iter().map(move |(tuple, rest, ends)| {
            let kind = if rest.fin_wait2 {
                TimerKind::FinWait2
            } else {
                TimerKind::TimeWait
            };
            SockDiag {
                timer: timer(&self.env, now, ends, kind, 0),
                orphan: true,
                ..diag(rest.state(), tuple.local(), tuple.remote(), 0)
            }
        });
        idle.chain(listeners).chain(conns).chain(requests).chain(timewaits)
    }
}

fn diag(state: State, local: SocketAddr, remote: SocketAddr, id: u64) -> SockDiag {
    SockDiag {
        protocol: TCP,
        state,
        local,
        remote,
        recv_q: 0,
        send_q: 0,
        timer: None,
        id,
        orphan: false,
        info: None,
    }
}
