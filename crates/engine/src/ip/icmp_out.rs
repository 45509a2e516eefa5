//! ICMP errors we send, held back as Linux holds them back (`icmp_send`, `icmp6_send`; RFC 1122 §3.2.2,
//! RFC 1812 §4.3.2.8, RFC 4443 §2.4).

use super::output::header_len;
use super::{HeaderSpec, Ip, Packet, Route};
use crate::env::Env;
use crate::rng::HashKey;
use crate::{DropReason, IfaceId, Instant, Unreachable};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use estab_proto::{Counter, SeqNum};
use estab_wire::checksum::Sum;
use estab_wire::ip::{ipv4, ipv6, protocol};
use estab_wire::{icmpv4, icmpv6, udp};

/// What is wrong with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Problem {
    /// Its destination can't be reached.
    Unreachable(Unreachable),
    /// Its destination doesn't speak its protocol.
    Protocol,
    /// It is larger than this and may not be cut.
    TooBig(u32),
    /// Its hop limit ran out.
    HopLimit,
    /// The rest of its fragments did not come.
    Reassembly,
}

/// A packet that an error is about and that is no longer there: what is known of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject<'a> {
    /// A TCP segment.
    Tcp {
        /// Who sent it and hears of the error.
        from: SocketAddr,
        /// Where it was going.
        to: SocketAddr,
        /// Its sequence number, by which the sender knows it as its own.
        seq: SeqNum,
    },
    /// A UDP datagram.
    Udp {
        /// Who sent it and hears of the error.
        from: SocketAddr,
        /// Where it was going.
        to: SocketAddr,
        /// Its payload, as much as there is.
        payload: &'a [u8],
    },
    /// An echo request.
    Echo {
        /// Who sent it and hears of the error.
        from: IpAddr,
        /// Where it was going.
        to: IpAddr,
        /// The message from its identifier on.
        data: &'a [u8],
    },
}

/// Bytes of an ICMPv4 error (RFC 1812 §4.3.2.3) and of an ICMPv6 error (RFC 4443 §3.1), IP header included.
const MAX_V4: usize = 576;
const MAX_V6: usize = 1280;
/// Tokens a destination may save up (Linux: XRLIM_BURST_FACTOR).
const BURST_FACTOR: u32 = 6;
/// IPTOS_PREC_INTERNETCONTROL
const INTERNETCONTROL: u8 = 0xc0;

#[derive(Clone, Copy)]
struct Bucket {
    whose: u64,
    tokens_ms: u32,
    last: Instant,
}

/// How much may still be said: in all, and to whom.
#[derive(Clone)]
pub(super) struct Limits {
    credit: u32,
    refilled: Option<Instant>,
    /// By keyed hash of the destination; a collision gives a destination a fresh bucket, the total stays bounded.
    hosts: [Bucket; 256],
}

impl Limits {
    pub(super) fn new() -> Limits {
        Limits {
            credit: 0,
            refilled: None,
            hosts: [Bucket {
                whose: 0,
                tokens_ms: 0,
                last: Instant::ZERO,
            }; 256],
        }
    }

    /// Something may still be said (Linux: `icmp_global_allow`); what is said is taken off later.
    fn global(&mut self, now: Instant, per_sec: u32, burst: u32) -> bool {
        let last = *self.refilled.get_or_insert_with(|| {
            self.credit = burst;
            now
        });
        let earned = now.since(last).as_nanos() * u128::from(per_sec) / 1_000_000_000;
        if earned > 0 {
            self.credit = burst.min(self.credit.saturating_add(u32::try_from(earned).unwrap_or(u32::MAX)));
            self.refilled = Some(now);
        }
        self.credit > 0
    }

    /// Linux: `inet_peer_xrlim_allow`.
    fn host(&mut self, now: Instant, whose: u64, interval_ms: u32) -> bool {
        let bucket = &mut self.hosts[whose as usize % 256];
        let most = BURST_FACTOR.saturating_mul(interval_ms);
        if bucket.whose != whose {
            *bucket = Bucket {
                whose,
                tokens_ms: most,
                last: now,
            };
        }
        let elapsed = u32::try_from(now.since(bucket.last).as_millis()).unwrap_or(u32::MAX);
        if elapsed > 0 {
            bucket.last += Duration::from_millis(elapsed.into());
            bucket.tokens_ms = bucket.tokens_ms.saturating_add(elapsed).min(most);
        }
        let allowed = bucket.tokens_ms >= interval_ms;
        if allowed {
            bucket.tokens_ms -= interval_ms;
        }
        allowed
    }
}

impl Problem {
    fn v4(self) -> (u8, u8, [u8; 4]) {
        use icmpv4::{kind, unreachable as code};
        match self {
            Problem::Unreachable(Unreachable::Network) => (kind::UNREACHABLE, code::NET, [0; 4]),
            Problem::Unreachable(Unreachable::Host) => (kind::UNREACHABLE, code::HOST, [0; 4]),
            Problem::Unreachable(Unreachable::Port) => (kind::UNREACHABLE, code::PORT, [0; 4]),
            Problem::Unreachable(Unreachable::Prohibited) => (kind::UNREACHABLE, code::PROHIBITED, [0; 4]),
            Problem::Protocol => (kind::UNREACHABLE, code::PROTOCOL, [0; 4]),
            Problem::TooBig(mtu) => {
                let [a, b] = u16::try_from(mtu).unwrap_or(u16::MAX).to_be_bytes();
                (kind::UNREACHABLE, code::FRAG_NEEDED, [0, 0, a, b])
            }
            Problem::HopLimit => (kind::TIME_EXCEEDED, 0, [0; 4]),
            Problem::Reassembly => (kind::TIME_EXCEEDED, 1, [0; 4]),
        }
    }

    fn v6(self) -> (u8, u8, [u8; 4]) {
        use icmpv6::{kind, parameter_problem, unreachable as code};
        /// Offset of the next header field in an IPv6 header.
        const NEXT_HEADER: u32 = 6;
        match self {
            Problem::Unreachable(Unreachable::Network) => (kind::UNREACHABLE, code::NO_ROUTE, [0; 4]),
            Problem::Unreachable(Unreachable::Host) => (kind::UNREACHABLE, code::ADDRESS, [0; 4]),
            Problem::Unreachable(Unreachable::Port) => (kind::UNREACHABLE, code::PORT, [0; 4]),
            Problem::Unreachable(Unreachable::Prohibited) => (kind::UNREACHABLE, code::PROHIBITED, [0; 4]),
            Problem::Protocol => (
                kind::PARAMETER_PROBLEM,
                parameter_problem::NEXT_HEADER,
                NEXT_HEADER.to_be_bytes(),
            ),
            Problem::TooBig(mtu) => (kind::PACKET_TOO_BIG, 0, mtu.to_be_bytes()),
            Problem::HopLimit => (kind::TIME_EXCEEDED, 0, [0; 4]),
            Problem::Reassembly => (kind::TIME_EXCEEDED, 1, [0; 4]),
        }
    }

    /// The destination itself says so, not a router before it.
    fn is_the_destinations(self) -> bool {
        matches!(
            self,
            Problem::Unreachable(Unreachable::Port) | Problem::Protocol | Problem::Reassembly
        )
    }
}

impl Ip {
    /// Tells the sender of `packet` what is wrong with it, unless the rules forbid an answer.
    pub(crate) fn queue_icmp_error(env: &mut Env, problem: Problem, packet: &Packet<'_>) {
        if packet.multicast || is_icmp_error(packet.protocol, packet.payload) || is_later_fragment(packet.bytes) {
            return;
        }
        let (from, to) = (packet.src, packet.dst);
        Ip::send_error(env, problem, Some(packet.iface), (from, to), packet.tos, packet.bytes);
    }

    /// Tells the sender of a packet that is gone what was wrong with it. The error quotes an IP header and the first
    /// bytes, made from what is known.
    pub(crate) fn queue_icmp_about(env: &mut Env, problem: Problem, subject: Subject<'_>) {
        let (from, to, protocol, transport) = match subject {
            Subject::Tcp { from, to, seq } => {
                let mut bytes = Vec::with_capacity(8);
                bytes.extend_from_slice(&from.port().to_be_bytes());
                bytes.extend_from_slice(&to.port().to_be_bytes());
                bytes.extend_from_slice(&seq.0.to_be_bytes());
                (from.ip(), to.ip(), protocol::TCP, bytes)
            }
            Subject::Udp { from, to, payload } => {
                let mut bytes = alloc::vec![0; udp::HEADER_LEN];
                let (src, dst) = ((from.ip(), from.port()), (to.ip(), to.port()));
                if udp::write(&mut bytes, src, dst, Sum::of(payload), payload.len()).is_none() {
                    return;
                }
                bytes.extend_from_slice(&payload[..payload.len().min(MAX_V6)]);
                (from.ip(), to.ip(), protocol::UDP, bytes)
            }
            Subject::Echo { from, to, data } => {
                let (kind, protocol) = match from {
                    IpAddr::V4(_) => (icmpv4::kind::ECHO_REQUEST, protocol::ICMP),
                    IpAddr::V6(_) => (icmpv6::kind::ECHO_REQUEST, protocol::ICMPV6),
                };
                let mut bytes = alloc::vec![kind, 0, 0, 0];
                bytes.extend_from_slice(&data[..data.len().min(MAX_V6)]);
                (from, to, protocol, bytes)
            }
        };
        let mut quote = alloc::vec![0; header_len(from.is_ipv4())];
        let written = match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                ipv4::Header::new(from, to, protocol).write(&mut quote, transport.len())
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                ipv6::Header::new(from, to, protocol).write(&mut quote, transport.len())
            }
            _ => None,
        };
        if written.is_some() {
            quote.extend_from_slice(&transport);
            Ip::send_error(env, problem, None, (from, to), 0, &quote);
        }
    }

    /// `from` sent `quote` to `to`.
    fn send_error(
        env: &mut Env,
        problem: Problem,
        on: Option<IfaceId>,
        (from, to): (IpAddr, IpAddr),
        tos: u8,
        quote: &[u8],
    ) {
        if from.is_multicast() || from.is_unspecified() || env.ip.is_broadcast(from) {
            return;
        }
        let Some(route) = error_route(env, problem, on, from, to) else {
            return;
        };
        let v4 = from.is_ipv4();
        let (kind, code, rest) = if v4 { problem.v4() } else { problem.v6() };
        if !allowed(env, &route, problem, kind, from) {
            return;
        }
        let room = if v4 { MAX_V4 } else { MAX_V6 } - header_len(v4) - icmpv4::HEADER_LEN;
        let quote = &quote[..quote.len().min(room)];
        let mut message = alloc::vec![0; icmpv4::HEADER_LEN + quote.len()];
        let written = match (route.src, from) {
            (IpAddr::V4(_), _) => icmpv4::write(&mut message, kind, code, rest, quote),
            (IpAddr::V6(src), IpAddr::V6(dst)) => icmpv6::write(&mut message, (src, dst), kind, code, rest, quote),
            _ => None,
        };
        if written.is_none() {
            return;
        }
        let spec = HeaderSpec {
            src: route.src,
            dst: from,
            protocol: if v4 { protocol::ICMP } else { protocol::ICMPV6 },
            ttl: 0,
            tos: if v4 { INTERNETCONTROL | tos & 0x1e } else { 0 },
            dont_fragment: false,
        };
        if Ip::queue_datagram(env, &route, &spec, &[&message], true).is_ok() {
            count(env, v4, kind);
        }
    }
}

/// The way back, and the address the error comes from: the one the packet was sent to if that is ours or would
/// speak for itself, else ours on that interface.
fn error_route(env: &Env, problem: Problem, on: Option<IfaceId>, from: IpAddr, to: IpAddr) -> Option<Route> {
    if env.ip.is_local(to) {
        return match on {
            Some(iface) => env.ip.route_on(iface, from, to).ok(),
            None => env.ip.route(from, Some(to)).ok(),
        };
    }
    let route = match on {
        Some(iface) => env.ip.route_on(iface, from, to).ok()?,
        None => env.ip.route(from, Some(to)).ok()?,
    };
    let src = match problem.is_the_destinations() {
        true => to,
        false => env.ip.source_for(route.iface, from).unwrap_or(to),
    };
    Some(Route { src, ..route })
}

/// Never about an error (RFC 1122 §3.2.2): they would go back and forth.
fn is_icmp_error(protocol: u8, payload: &[u8]) -> bool {
    match (protocol, payload.first()) {
        (protocol::ICMP, Some(kind)) => {
            !matches!(*kind, icmpv4::kind::ECHO_REQUEST | icmpv4::kind::ECHO_REPLY | 13..=18)
        }
        (protocol::ICMPV6, Some(kind)) => *kind < 128 || *kind == icmpv6::kind::REDIRECT,
        (protocol::ICMP | protocol::ICMPV6, None) => true,
        _ => false,
    }
}

/// Only an IPv4 datagram's first fragment is worth an error (RFC 1122 §3.2.2).
fn is_later_fragment(bytes: &[u8]) -> bool {
    matches!(bytes, [version, _, _, _, _, _, hi, lo, ..] if version >> 4 == 4 && u16::from_be_bytes([*hi, *lo]) & 0x1fff != 0)
}

fn allowed(env: &mut Env, route: &Route, problem: Problem, kind: u8, to: IpAddr) -> bool {
    let v4 = to.is_ipv4();
    let masked = match v4 {
        true => kind < 32 && env.sysctl.icmp_ratemask & 1 << kind != 0,
        false => true,
    };
    // The path MTU must get through (Linux: `icmpv4_mask_allow`, `icmpv6_mask_allow`).
    if route.is_loopback() || !masked || matches!(problem, Problem::TooBig(_)) {
        return true;
    }
    let (per_sec, burst) = (env.sysctl.icmp_msgs_per_sec, env.sysctl.icmp_msgs_burst);
    if !env.ip.limits.global(env.now, per_sec, burst) {
        env.mib.drop(DropReason::IcmpRatelimit);
        if v4 {
            env.mib.inc(Counter::IcmpOutRateLimitGlobal);
        }
        return false;
    }
    let interval = if v4 {
        env.sysctl.icmp_ratelimit
    } else {
        env.sysctl.icmpv6_ratelimit
    };
    // A foreign address that speaks through us is a host of its own, with a limit of its own.
    let whose = env.rng.hash_pair(HashKey::Table, route.src, to);
    if interval != 0 && !env.ip.limits.host(env.now, whose, interval) {
        env.mib.drop(DropReason::IcmpRatelimit);
        env.mib.inc(super::output::version(
            v4,
            Counter::IcmpOutRateLimitHost,
            Counter::Icmp6OutRateLimitHost,
        ));
        return false;
    }
    // Only now (Linux: `icmp_global_consume`): else a host could learn from its own errors what others get.
    env.ip.limits.credit -= 1;
    true
}

fn count(env: &mut Env, v4: bool, kind: u8) {
    env.mib.inc(if v4 {
        Counter::IcmpOutMsgs
    } else {
        Counter::Icmp6OutMsgs
    });
    env.mib.inc(match (v4, kind) {
        (true, icmpv4::kind::UNREACHABLE) => Counter::IcmpOutDestUnreachs,
        (true, _) => Counter::IcmpOutTimeExcds,
        (false, icmpv6::kind::UNREACHABLE) => Counter::Icmp6OutDestUnreachs,
        (false, icmpv6::kind::PACKET_TOO_BIG) => Counter::Icmp6OutPktTooBigs,
        (false, icmpv6::kind::PARAMETER_PROBLEM) => Counter::Icmp6OutParmProblems,
        (false, _) => Counter::Icmp6OutTimeExcds,
    });
}
