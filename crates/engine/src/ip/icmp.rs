//! ICMP as it arrives: errors become [`IcmpError`]s for the transports, echo requests are answered
//! (Linux: `icmp_rcv`, `icmpv6_rcv`).

use super::{Delivery, HeaderSpec, Ip, Packet, neigh};
use crate::env::Env;
use crate::{DropReason, SockError};
use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use estab_proto::{Counter, SeqNum};
use estab_wire::icmpv4::{self, Quote, unreachable as code4};
use estab_wire::icmpv6::{self, unreachable as code6};
use estab_wire::ip::protocol;
use estab_wire::{Malformed, ndp};

/// What an ICMP error says, whatever its version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum IcmpKind {
    /// No route to the network.
    NetUnreach,
    /// The host does not answer its neighbour.
    HostUnreach,
    /// The host doesn't speak the protocol.
    ProtoUnreach,
    /// Nobody is at the port.
    PortUnreach,
    /// A packet was larger than `mtu` and could not be cut.
    FragNeeded {
        /// The largest that would have passed; 0 from routers older than RFC 1191.
        mtu: u32,
    },
    /// Somebody forbids it.
    AdminProhib,
    /// The hop limit ran out, or fragments did not come in time.
    TimeExceeded,
    /// The header was not understood.
    ParamProblem,
    /// Something else; see `error`.
    Other,
}

/// An ICMP error about a packet of ours, unproven: the transport looks whether it could have sent that packet
/// (RFC 5927 §4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct IcmpError {
    pub(crate) kind: IcmpKind,
    /// What a socket would report (Linux: `icmp_err_convert`, `icmpv6_err_convert`).
    pub(crate) error: SockError,
    /// Repeating won't help: it ends a connection attempt, and UDP reports it unasked.
    pub(crate) fatal: bool,
    /// TCP, UDP or ICMP.
    pub(crate) protocol: u8,
    /// The quoted packet's source: us. ICMP: the port is the echo identifier.
    pub(crate) local: SocketAddr,
    /// The quoted packet's destination. ICMP: the port is the echo sequence number.
    pub(crate) remote: SocketAddr,
    /// The quoted segment's sequence number (TCP).
    pub(crate) seq: SeqNum,
}

type Verdict = (IcmpKind, SockError, bool);

fn verdict_v4(code: u8, mtu: u16) -> Option<Verdict> {
    use IcmpKind::*;
    use SockError::*;
    Some(match code {
        code4::NET => (NetUnreach, ENETUNREACH, false),
        code4::HOST => (HostUnreach, EHOSTUNREACH, false),
        code4::PROTOCOL => (ProtoUnreach, ENOPROTOOPT, true),
        code4::PORT => (PortUnreach, ECONNREFUSED, true),
        code4::FRAG_NEEDED => (FragNeeded { mtu: mtu.into() }, EMSGSIZE, false),
        code4::SOURCE_ROUTE => (Other, EOPNOTSUPP, false),
        code4::NET_UNKNOWN => (NetUnreach, ENETUNREACH, true),
        code4::HOST_UNKNOWN => (HostUnreach, EHOSTDOWN, true),
        // Linux says ENONET here, which nobody expects from a socket.
        code4::ISOLATED => (HostUnreach, EHOSTUNREACH, true),
        code4::NET_PROHIBITED => (AdminProhib, ENETUNREACH, true),
        code4::HOST_PROHIBITED => (AdminProhib, EHOSTUNREACH, true),
        code4::NET_TOS => (NetUnreach, ENETUNREACH, false),
        code4::HOST_TOS => (HostUnreach, EHOSTUNREACH, false),
        code4::PROHIBITED | 14 | 15 => (AdminProhib, EHOSTUNREACH, true),
        _ => return None,
    })
}

fn verdict_v6(code: u8) -> Verdict {
    use IcmpKind::*;
    use SockError::*;
    match code {
        code6::NO_ROUTE => (NetUnreach, ENETUNREACH, false),
        code6::PROHIBITED => (AdminProhib, EACCES, true),
        code6::BEYOND_SCOPE | code6::ADDRESS => (HostUnreach, EHOSTUNREACH, false),
        code6::PORT => (PortUnreach, ECONNREFUSED, true),
        code6::POLICY | code6::REJECT_ROUTE => (AdminProhib, EACCES, true),
        _ => (Other, EPROTO, false),
    }
}

/// An ICMP message that is for us, or went to an address we answer for.
pub(super) fn input_v4<'a>(env: &mut Env, packet: Packet<'a>) -> Option<Delivery<'a>> {
    use IcmpKind::*;
    env.mib.inc(Counter::IcmpInMsgs);
    let message = match icmpv4::Message::parse(packet.payload) {
        Ok(message) => message,
        Err(what) => return refuse(env, true, what),
    };
    let (verdict, quote, counter) = match message {
        icmpv4::Message::EchoRequest { .. } => {
            env.mib.inc(Counter::IcmpInEchos);
            return echo_request(env, packet);
        }
        icmpv4::Message::EchoReply { .. } => {
            env.mib.inc(Counter::IcmpInEchoReps);
            return Some(Delivery::Echo(packet));
        }
        icmpv4::Message::Unreachable { code, mtu, quote } => {
            let verdict = match (code, env.sysctl.ip_no_pmtu_disc) {
                // What routers say is not believed: the least MTU serves (1), or nothing changes (2, 3).
                (code4::FRAG_NEEDED, 1) => verdict_v4(code, 0),
                (code4::FRAG_NEEDED, 2..) => None,
                _ => verdict_v4(code, mtu),
            };
            (verdict, quote, Counter::IcmpInDestUnreachs)
        }
        icmpv4::Message::TimeExceeded { quote, .. } => (
            Some((TimeExceeded, SockError::EHOSTUNREACH, false)),
            quote,
            Counter::IcmpInTimeExcds,
        ),
        icmpv4::Message::ParameterProblem { quote, .. } => (
            Some((ParamProblem, SockError::EPROTO, true)),
            quote,
            Counter::IcmpInParmProbs,
        ),
        icmpv4::Message::Other { kind, .. } => {
            let counter = match kind {
                icmpv4::kind::REDIRECT => Some(Counter::IcmpInRedirects),
                13 => Some(Counter::IcmpInTimestamps),
                14 => Some(Counter::IcmpInTimestampReps),
                _ => None,
            };
            counter.into_iter().for_each(|counter| env.mib.inc(counter));
            env.mib.drop(DropReason::IcmpIgnored);
            return None;
        }
    };
    env.mib.inc(counter);
    error(env, &packet, verdict, quote)
}

/// An ICMPv6 message that is for us, or went to an address we answer for.
pub(super) fn input_v6<'a>(env: &mut Env, packet: Packet<'a>, src: Ipv6Addr, dst: Ipv6Addr) -> Option<Delivery<'a>> {
    use IcmpKind::*;
    env.mib.inc(Counter::Icmp6InMsgs);
    let message = match icmpv6::Message::parse(src, dst, packet.payload) {
        Ok(message) => message,
        Err(what) => return refuse(env, false, what),
    };
    let (verdict, quote, counter) = match message {
        icmpv6::Message::EchoRequest { .. } => {
            env.mib.inc(Counter::Icmp6InEchos);
            return echo_request(env, packet);
        }
        icmpv6::Message::EchoReply { .. } => {
            env.mib.inc(Counter::Icmp6InEchoReplies);
            return Some(Delivery::Echo(packet));
        }
        icmpv6::Message::Unreachable { code, quote } => (verdict_v6(code), quote, Counter::Icmp6InDestUnreachs),
        icmpv6::Message::PacketTooBig { mtu, quote } => (
            (FragNeeded { mtu }, SockError::EMSGSIZE, false),
            quote,
            Counter::Icmp6InPktTooBigs,
        ),
        icmpv6::Message::TimeExceeded { quote, .. } => (
            (TimeExceeded, SockError::EHOSTUNREACH, false),
            quote,
            Counter::Icmp6InTimeExcds,
        ),
        icmpv6::Message::ParameterProblem { quote, .. } => (
            (ParamProblem, SockError::EPROTO, true),
            quote,
            Counter::Icmp6InParmProblems,
        ),
        icmpv6::Message::Other { kind, .. } => {
            other_v6(env, &packet, kind);
            return None;
        }
    };
    env.mib.inc(counter);
    error(env, &packet, Some(verdict), quote)
}

/// Neighbour discovery, and what only routers and multicast listeners care for.
fn other_v6(env: &mut Env, packet: &Packet<'_>, kind: u8) {
    use icmpv6::kind::*;
    let counter = match kind {
        MLD_QUERY => Counter::Icmp6InGroupMembQueries,
        MLD_REPORT => Counter::Icmp6InGroupMembResponses,
        MLD_DONE => Counter::Icmp6InGroupMembReductions,
        ROUTER_SOLICITATION => Counter::Icmp6InRouterSolicits,
        ROUTER_ADVERTISEMENT => Counter::Icmp6InRouterAdvertisements,
        NEIGHBOR_SOLICITATION => Counter::Icmp6InNeighborSolicits,
        NEIGHBOR_ADVERTISEMENT => Counter::Icmp6InNeighborAdvertisements,
        REDIRECT => Counter::Icmp6InRedirects,
        MLD2_REPORT => Counter::Icmp6InMLDv2Reports,
        _ => return env.mib.drop(DropReason::IcmpIgnored),
    };
    env.mib.inc(counter);
    if !matches!(kind, NEIGHBOR_SOLICITATION | NEIGHBOR_ADVERTISEMENT) {
        return env.mib.drop(DropReason::IcmpIgnored);
    }
    let view = estab_wire::ip::Packet::parse(packet.bytes);
    match view.ok().and_then(|view| ndp::Message::parse(&view)) {
        Some(Ok(message)) => neigh::ndp_input(env, packet, message),
        Some(Err(what)) => {
            env.mib.inc(Counter::Icmp6InErrors);
            env.mib.drop(match what {
                Malformed::NdpHopLimitNot255 => DropReason::Ipv6NdiscHopLimit,
                Malformed::NdpCodeNotZero => DropReason::Ipv6NdiscBadCode,
                _ => DropReason::Ipv6NdiscBadOptions,
            });
        }
        None => env.mib.drop(DropReason::IcmpIgnored),
    }
}

fn refuse<'a>(env: &mut Env, v4: bool, what: Malformed) -> Option<Delivery<'a>> {
    env.mib.inc(if v4 {
        Counter::IcmpInErrors
    } else {
        Counter::Icmp6InErrors
    });
    if what == Malformed::IcmpChecksumWrong {
        env.mib.inc(if v4 {
            Counter::IcmpInCsumErrors
        } else {
            Counter::Icmp6InCsumErrors
        });
        env.mib.drop(DropReason::IcmpCsum);
    } else {
        env.mib.drop(DropReason::IcmpMalformed);
    }
    None
}

/// Reads the quote and makes the error of it.
fn error<'a>(env: &mut Env, packet: &Packet<'_>, verdict: Option<Verdict>, quote: &[u8]) -> Option<Delivery<'a>> {
    let v4 = packet.src.is_ipv4();
    let Some((kind, error, fatal)) = verdict else {
        env.mib.drop(DropReason::IcmpIgnored);
        return None;
    };
    // An error to many is nobody's (RFC 1122 §3.2.2), nor is a quote of the other version.
    let quote = Quote::parse(quote)
        .ok()
        .filter(|q| q.src.is_ipv4() == v4 && !packet.multicast);
    let Some(quote) = quote else {
        return refuse(env, v4, Malformed::IcmpQuoteTruncated);
    };
    let (local_port, remote_port) = match quote.protocol {
        protocol::TCP | protocol::UDP => quote.ports(),
        protocol::ICMP | protocol::ICMPV6 => quote.echo(),
        _ => {
            env.mib.drop(DropReason::IcmpIgnored);
            return None;
        }
    };
    Some(Delivery::Error(IcmpError {
        kind,
        error,
        fatal,
        protocol: quote.protocol,
        local: SocketAddr::new(quote.src, local_port),
        remote: SocketAddr::new(quote.dst, remote_port),
        seq: SeqNum(quote.tcp_seq()),
    }))
}

/// Answers an echo request to one of our addresses; others are for a transparent socket (Linux: `icmp_echo`).
fn echo_request<'a>(env: &mut Env, packet: Packet<'a>) -> Option<Delivery<'a>> {
    if !packet.local && !packet.multicast {
        return Some(Delivery::Echo(packet));
    }
    let v4 = packet.src.is_ipv4();
    let ignored = match v4 {
        true => env.sysctl.icmp_echo_ignore_all,
        false => env.sysctl.icmpv6_echo_ignore_all,
    };
    let to_many = v4 && packet.multicast && env.sysctl.icmp_echo_ignore_broadcasts != 0;
    if ignored != 0 || to_many || packet.src.is_unspecified() {
        env.mib.drop(DropReason::IcmpIgnored);
        return None;
    }
    let src = match packet.multicast {
        true => env.ip.source_for(packet.iface, packet.src),
        false => Some(packet.dst),
    };
    if let (Some(src), [_, _, _, _, ident_hi, ident_lo, seq_hi, seq_lo, data @ ..]) = (src, packet.payload) {
        let (ident, seq) = (
            u16::from_be_bytes([*ident_hi, *ident_lo]),
            u16::from_be_bytes([*seq_hi, *seq_lo]),
        );
        send_echo(env, &packet, src, ident, seq, data);
    }
    None
}

fn send_echo(env: &mut Env, packet: &Packet<'_>, src: IpAddr, ident: u16, seq: u16, data: &[u8]) {
    let Ok(route) = env.ip.route_on(packet.iface, packet.src, src) else {
        return env.mib.drop(DropReason::NoRoute);
    };
    let _ = queue_echo(env, &route, src, packet.src, packet.tos, true, (ident, seq), data);
}

/// Queues an echo request or reply.
#[allow(clippy::too_many_arguments)] // One message's parts.
pub(crate) fn queue_echo(
    env: &mut Env,
    route: &super::Route,
    src: IpAddr,
    dst: IpAddr,
    tos: u8,
    reply: bool,
    (ident, seq): (u16, u16),
    data: &[u8],
) -> crate::Result<()> {
    let mut message = alloc::vec![0; icmpv4::HEADER_LEN + data.len()];
    let (written, protocol, counters) = match (src, dst) {
        (IpAddr::V4(_), IpAddr::V4(_)) => (
            icmpv4::write_echo(&mut message, reply, ident, seq, data),
            protocol::ICMP,
            (Counter::IcmpOutMsgs, Counter::IcmpOutEchoReps, Counter::IcmpOutEchos),
        ),
        (IpAddr::V6(src), IpAddr::V6(dst)) => (
            icmpv6::write_echo(&mut message, (src, dst), reply, ident, seq, data),
            protocol::ICMPV6,
            (
                Counter::Icmp6OutMsgs,
                Counter::Icmp6OutEchoReplies,
                Counter::Icmp6OutEchos,
            ),
        ),
        _ => return Err(SockError::EAFNOSUPPORT),
    };
    written.ok_or(SockError::EMSGSIZE)?;
    let spec = HeaderSpec {
        src,
        dst,
        protocol,
        ttl: 0,
        tos,
        dont_fragment: false,
    };
    Ip::queue_datagram(env, route, &spec, &[&message], true)?;
    env.mib.inc(counters.0);
    env.mib.inc(if reply { counters.1 } else { counters.2 });
    Ok(())
}
