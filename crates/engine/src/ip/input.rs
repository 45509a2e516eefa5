//! What a packet must be to go further, and where it goes: to a transport, to another interface, or nowhere
//! (Linux: `ip_rcv`, `ip_route_input_slow`, `ip_forward`; `ip6_rcv`, `ip6_route_input`, `ip6_forward`).

use super::output::{Offload, version};
use super::reply::Queued;
use super::{Delivery, HeaderSpec, Ip, LOOPBACK, Packet, Problem, icmp, neigh, reassembly};
use crate::env::Env;
use crate::{DropReason, IfaceId, Medium, RxCsum, RxMeta, Unreachable};
use alloc::vec::Vec;
use core::net::IpAddr;
use estab_proto::Counter;
use estab_wire::checksum::Sum;
use estab_wire::ethernet::{Frame, ethertype};
use estab_wire::ip::{Fragment, ipv4, ipv6, protocol};
use estab_wire::{Malformed, ip, tcp, udp};

/// Opens what an interface received: the IP packet in it, if there is one.
#[inline]
pub(crate) fn open<'a>(env: &mut Env, on: IfaceId, bytes: &'a [u8]) -> Option<&'a [u8]> {
    match env.ip.iface(on).map(|config| config.medium) {
        Some(Medium::Ip) => Some(bytes),
        Some(Medium::Ethernet(mac)) => ethernet(env, on, mac, bytes),
        None if on == LOOPBACK => Some(bytes),
        // No such interface: nothing to count it on.
        None => None,
    }
}

/// Takes an IP packet of an interface that [`plain_tcp`] left. `whole` is empty room for a reassembled packet.
///
/// Returns what a transport has to do; `None` when the packet is done with: dropped and counted, forwarded, kept
/// for reassembly, or answered.
pub(crate) fn input<'a>(
    env: &mut Env,
    on: IfaceId,
    bytes: &'a [u8],
    meta: RxMeta,
    whole: &'a mut Vec<u8>,
) -> Option<Delivery<'a>> {
    let view = match parse(env, bytes) {
        Ok(view) => view,
        Err(what) => return malformed(env, bytes, what),
    };
    let v4 = view.src.is_ipv4();
    env.mib.add(
        version(v4, Counter::IpExtInOctets, Counter::Ip6InOctets),
        bytes.len() as u64,
    );
    count_ecn(env, v4, view.ecn());
    if let Some(reason) = bad_addresses(env, on, &view.src, &view.dst, view.source_routed) {
        return refuse(env, v4, reason);
    }
    let to = classify(env, on, view.dst);
    if to == To::Others {
        other(env, &packet(on, &view, to, meta), &view);
        return None;
    }
    if view.fragment.is_none() {
        return deliver(env, packet(on, &view, to, meta));
    }
    if !reassembly::add(env, &packet(on, &view, to, meta), &view, whole) {
        return None;
    }
    // A device looks at what it sees; nobody has summed the whole.
    let meta = RxMeta::default();
    match ip::Packet::parse(whole) {
        Ok(view) => deliver(env, packet(on, &view, to, meta)),
        Err(what) => malformed(env, whole, what),
    }
}

/// Nearly every packet: TCP, whole, without IP options or padding. Only what needs no second thought is taken here,
/// by the same checks in fewer steps; everything else goes the long way.
#[inline(always)] // What it returns is large, and built where it is used.
pub(crate) fn plain_tcp<'a>(env: &mut Env, on: IfaceId, bytes: &'a [u8], meta: RxMeta) -> Option<Packet<'a>> {
    let (src, dst, header_len, hop_limit, tos) = match bytes {
        [
            0x45,
            tos,
            len_hi,
            len_lo,
            _,
            _,
            fragment,
            offset,
            ttl,
            protocol::TCP,
            ..,
        ] => {
            let header: &[u8; ipv4::HEADER_LEN] = bytes.first_chunk()?;
            let whole = usize::from(u16::from_be_bytes([*len_hi, *len_lo])) == bytes.len();
            // Neither offset nor more fragments; DF may stand.
            if !whole || fragment & 0x3f != 0 || *offset != 0 || !header_sum_is_right(header) {
                return None;
            }
            let [.., a, b, c, d, e, f, g, h] = *header;
            let (src, dst) = (IpAddr::from([a, b, c, d]), IpAddr::from([e, f, g, h]));
            (src, dst, ipv4::HEADER_LEN, *ttl, *tos)
        }
        [first, second, _, _, len_hi, len_lo, protocol::TCP, hop_limit, rest @ ..] if first >> 4 == 6 => {
            let (src, rest) = rest.split_first_chunk::<16>()?;
            let (dst, payload) = rest.split_first_chunk::<16>()?;
            if usize::from(u16::from_be_bytes([*len_hi, *len_lo])) != payload.len() {
                return None;
            }
            let tos = first << 4 | second >> 4;
            (
                IpAddr::from(*src),
                IpAddr::from(*dst),
                ipv6::HEADER_LEN,
                *hop_limit,
                tos,
            )
        }
        _ => return None,
    };
    let to = match env.ip.vetted.recall(env.ip.epoch, on, src, dst) {
        Some(to) => to,
        None => vet(env, on, src, dst)?,
    };
    let v4 = src.is_ipv4();
    env.mib.inc(version(v4, Counter::IpInReceives, Counter::Ip6InReceives));
    env.mib.inc(version(v4, Counter::IpInDelivers, Counter::Ip6InDelivers));
    let octets = version(v4, Counter::IpExtInOctets, Counter::Ip6InOctets);
    env.mib.add(octets, bytes.len() as u64);
    count_ecn(env, v4, tos & 3);
    Some(Packet {
        iface: on,
        src,
        dst,
        protocol: protocol::TCP,
        hop_limit,
        tos,
        local: to == To::Us,
        multicast: false,
        payload: &bytes[header_len..],
        bytes,
        meta,
    })
}

/// Whom a packet with these addresses is for, unless something about them wants a second thought.
#[cold]
fn vet(env: &mut Env, on: IfaceId, src: IpAddr, dst: IpAddr) -> Option<To> {
    if bad_addresses(env, on, &src, &dst, false).is_some() {
        return None;
    }
    let to = Some(classify(env, on, dst)).filter(|to| matches!(to, To::Us | To::Anybody))?;
    env.ip.vetted = Vetted {
        epoch: env.ip.epoch,
        on,
        ends: Some((src, dst, to)),
    };
    Some(to)
}

/// What [`vet`] last found, good until anything changes that it looks at: packets come in trains.
#[derive(Clone, Default)]
pub(super) struct Vetted {
    epoch: u32,
    on: IfaceId,
    ends: Option<(IpAddr, IpAddr, To)>,
}

impl Vetted {
    #[inline]
    fn recall(&self, epoch: u32, on: IfaceId, src: IpAddr, dst: IpAddr) -> Option<To> {
        let (from, towards, to) = self.ends?;
        (from == src && towards == dst && self.on == on && self.epoch == epoch).then_some(to)
    }
}

/// The checksum of an IPv4 header without options.
fn header_sum_is_right(header: &[u8; ipv4::HEADER_LEN]) -> bool {
    let (words, _) = header.as_chunks::<4>();
    let sum: u64 = words.iter().map(|word| u64::from(u32::from_be_bytes(*word))).sum();
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    (sum >> 16) + (sum & 0xffff) == 0xffff
}

/// Whom a packet is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum To {
    Us,
    Many,
    /// Nobody here, but a transparent interface takes it.
    Anybody,
    Others,
}

fn classify(env: &Env, on: IfaceId, dst: IpAddr) -> To {
    if env.ip.is_local(dst) {
        To::Us
    } else if dst.is_multicast() || env.ip.is_broadcast(dst) {
        To::Many
    } else if env.ip.is_transparent(on) {
        To::Anybody
    } else {
        To::Others
    }
}

fn packet<'a>(on: IfaceId, view: &ip::Packet<'a>, to: To, meta: RxMeta) -> Packet<'a> {
    Packet {
        iface: on,
        src: view.src,
        dst: view.dst,
        protocol: view.protocol,
        hop_limit: view.hop_limit,
        tos: view.tos,
        local: to == To::Us,
        multicast: to == To::Many,
        payload: view.payload,
        bytes: view.bytes,
        meta,
    }
}

#[cold]
fn refuse<'a>(env: &mut Env, v4: bool, reason: DropReason) -> Option<Delivery<'a>> {
    env.mib.inc(match reason {
        DropReason::IpRpfilter => Counter::TcpExtIPReversePathFilter,
        DropReason::IpInHdr => version(v4, Counter::IpInHdrErrors, Counter::Ip6InHdrErrors),
        _ => version(v4, Counter::IpInAddrErrors, Counter::Ip6InAddrErrors),
    });
    env.mib.drop(reason);
    None
}

/// Opens a frame; ARP ends here.
fn ethernet<'a>(env: &mut Env, on: IfaceId, mac: [u8; 6], bytes: &'a [u8]) -> Option<&'a [u8]> {
    let Ok(frame) = Frame::parse(bytes) else {
        env.mib.drop(DropReason::PktTooSmall);
        return None;
    };
    if frame.dst.0 != mac && !frame.dst.is_multicast() {
        env.mib.drop(DropReason::OtherHost);
        return None;
    }
    match frame.ethertype {
        ethertype::IPV4 | ethertype::IPV6 => Some(frame.payload),
        ethertype::ARP => {
            neigh::arp_input(env, on, frame.payload);
            None
        }
        _ => {
            env.mib.drop(DropReason::UnhandledProto);
            None
        }
    }
}

fn parse<'a>(env: &mut Env, bytes: &'a [u8]) -> Result<ip::Packet<'a>, Malformed> {
    match bytes.first().map(|byte| byte >> 4) {
        Some(4) => env.mib.inc(Counter::IpInReceives),
        Some(6) => env.mib.inc(Counter::Ip6InReceives),
        _ => {}
    }
    ip::Packet::parse(bytes)
}

#[cold]
fn malformed<'a>(env: &mut Env, bytes: &[u8], what: Malformed) -> Option<Delivery<'a>> {
    use Malformed::*;
    let v4 = matches!(bytes.first(), Some(byte) if byte >> 4 == 4);
    if matches!(what, PacketEmpty | IpVersionUnknown) {
        env.mib.drop(DropReason::UnhandledProto);
        return None;
    }
    let (reason, counter) = match what {
        Ipv4ChecksumWrong => {
            env.mib.inc(Counter::IpExtInCsumErrors);
            (DropReason::IpCsum, Counter::IpInHdrErrors)
        }
        Ipv4HeaderTruncated | Ipv6HeaderTruncated => (
            DropReason::PktTooSmall,
            version(v4, Counter::IpInHdrErrors, Counter::Ip6InHdrErrors),
        ),
        Ipv4TotalLengthTooLarge | Ipv6PayloadLengthTooLarge => (
            DropReason::PktTooSmall,
            version(v4, Counter::IpExtInTruncatedPkts, Counter::Ip6InTruncatedPkts),
        ),
        Ipv6ExtensionTruncated | Ipv6HopByHopNotFirst | Ipv6TooManyExtensions | Ipv6OptionLengthWrong => {
            (DropReason::Ipv6BadExthdr, Counter::Ip6InHdrErrors)
        }
        _ => (
            DropReason::IpInHdr,
            version(v4, Counter::IpInHdrErrors, Counter::Ip6InHdrErrors),
        ),
    };
    env.mib.inc(counter);
    env.mib.drop(reason);
    None
}

fn count_ecn(env: &mut Env, v4: bool, ecn: u8) {
    let (four, six) = match ecn {
        0 => (Counter::IpExtInNoECTPkts, Counter::Ip6InNoECTPkts),
        1 => (Counter::IpExtInECT1Pkts, Counter::Ip6InECT1Pkts),
        2 => (Counter::IpExtInECT0Pkts, Counter::Ip6InECT0Pkts),
        _ => (Counter::IpExtInCEPkts, Counter::Ip6InCEPkts),
    };
    env.mib.inc(version(v4, four, six));
}

/// Addresses that no packet may have on this interface (Linux: the martians of `ip_route_input_slow`,
/// `fib_validate_source`, `ip6_rcv_core`).
fn bad_addresses(env: &Env, on: IfaceId, src: &IpAddr, dst: &IpAddr, source_routed: bool) -> Option<DropReason> {
    let (src, dst) = (*src, *dst);
    if source_routed {
        return Some(DropReason::IpInHdr);
    }
    if src.is_multicast() || matches!(src, IpAddr::V4(a) if a.is_broadcast()) {
        return Some(DropReason::IpInvalidSource);
    }
    // Nobody yet: DHCP's DISCOVER, IPv6's duplicate address detection.
    let nobody_may = dst.is_multicast() || matches!(dst, IpAddr::V4(a) if a.is_broadcast());
    if src.is_unspecified() && !nobody_may {
        return Some(DropReason::IpInvalidSource);
    }
    if dst.is_unspecified() || matches!(dst, IpAddr::V4(a) if a.octets()[0] == 0) {
        return Some(DropReason::IpInvalidDest);
    }
    if on == LOOPBACK {
        return None;
    }
    let localnet = src.is_loopback() || dst.is_loopback();
    if localnet && !(src.is_ipv4() && env.sysctl.route_localnet != 0) {
        return Some(DropReason::IpLocalnet);
    }
    if src.is_ipv4() {
        if env.sysctl.accept_local == 0 && env.ip.is_own(src) {
            return Some(DropReason::IpLocalSource);
        }
        let filter = env.sysctl.rp_filter;
        if filter != 0 && !src.is_unspecified() {
            let back = env.ip.iface_towards(src);
            let fine = if filter == 1 { back == Some(on) } else { back.is_some() };
            if !fine {
                return Some(DropReason::IpRpfilter);
            }
        }
    }
    None
}

/// Somebody else's packet: sent on, or dropped.
#[cold]
fn other(env: &mut Env, packet: &Packet<'_>, view: &ip::Packet<'_>) {
    let v4 = packet.src.is_ipv4();
    let forwards = match v4 {
        true => env.sysctl.ip_forward,
        false => env.sysctl.ipv6_forwarding,
    };
    if forwards == 0 {
        env.mib
            .inc(version(v4, Counter::IpInAddrErrors, Counter::Ip6InAddrErrors));
        return env.mib.drop(DropReason::IpInAddrErrors);
    }
    forward(env, packet, view);
}

/// Hands a whole packet to its transport.
fn deliver<'a>(env: &mut Env, packet: Packet<'a>) -> Option<Delivery<'a>> {
    let v4 = packet.src.is_ipv4();
    env.mib.inc(version(v4, Counter::IpInDelivers, Counter::Ip6InDelivers));
    if packet.multicast {
        count_multicast(env, &packet);
    }
    match (packet.protocol, packet.src, packet.dst) {
        (protocol::TCP, ..) if packet.multicast => {
            env.mib.drop(DropReason::Multicast);
            None
        }
        (protocol::TCP, ..) => Some(Delivery::Tcp(packet)),
        (protocol::UDP, ..) => Some(Delivery::Udp(packet)),
        (protocol::ICMP, IpAddr::V4(_), _) => icmp::input_v4(env, packet),
        (protocol::ICMPV6, IpAddr::V6(src), IpAddr::V6(dst)) => icmp::input_v6(env, packet, src, dst),
        (protocol::NO_NEXT_HEADER, IpAddr::V6(_), _) => None,
        _ => {
            env.mib
                .inc(version(v4, Counter::IpInUnknownProtos, Counter::Ip6InUnknownProtos));
            env.mib.drop(DropReason::IpNoproto);
            Ip::queue_icmp_error(env, Problem::Protocol, &packet);
            None
        }
    }
}

#[cold]
fn count_multicast(env: &mut Env, packet: &Packet<'_>) {
    let v4 = packet.src.is_ipv4();
    env.mib.inc(match packet.dst.is_multicast() {
        true => version(v4, Counter::IpExtInMcastPkts, Counter::Ip6InMcastPkts),
        false => Counter::IpExtInBcastPkts,
    });
}

/// Sends a packet on to where it is going (RFC 1812 §5.2; Linux: `ip_forward`, `ip6_forward`).
fn forward(env: &mut Env, packet: &Packet<'_>, view: &ip::Packet<'_>) {
    let v4 = packet.src.is_ipv4();
    if is_link_local(packet.src) || is_link_local(packet.dst) || packet.src.is_unspecified() {
        env.mib
            .inc(version(v4, Counter::IpInAddrErrors, Counter::Ip6InAddrErrors));
        return env.mib.drop(DropReason::IpInAddrErrors);
    }
    if packet.hop_limit <= 1 {
        env.mib
            .inc(version(v4, Counter::IpInHdrErrors, Counter::Ip6InHdrErrors));
        env.mib.drop(DropReason::TtlExpired);
        return Ip::queue_icmp_error(env, Problem::HopLimit, packet);
    }
    let Ok(route) = env.ip.route(packet.dst, Some(packet.src)) else {
        env.mib
            .inc(version(v4, Counter::IpExtInNoRoutes, Counter::Ip6InNoRoutes));
        env.mib.drop(DropReason::IpInNoroutes);
        return Ip::queue_icmp_error(env, Problem::Unreachable(Unreachable::Network), packet);
    };
    let mut bytes = packet.bytes.to_vec();
    if v4 {
        ipv4::decrement_ttl(&mut bytes);
    } else if let Some(hop_limit) = bytes.get_mut(7) {
        *hop_limit -= 1;
    }
    let mut offload = Offload::default();
    if packet.meta.csum == RxCsum::Partial
        && let Some(field) = checksum_field(packet.protocol)
    {
        match route.csum_offload {
            true => offload.csum = Some((view.header_len as u16, field)),
            false => finish_checksum(&mut bytes[view.header_len..], field),
        }
    }
    let room = route.mtu as usize;
    let fits = match packet.meta.gso_size {
        // The device cuts it again on the way out, if it can.
        Some(size) if bytes.len() > room && bytes.len() <= route.gso_max_size as usize => {
            offload.gso = Some(size);
            true
        }
        _ => bytes.len() <= room,
    };
    env.mib
        .inc(version(v4, Counter::IpForwDatagrams, Counter::Ip6OutForwDatagrams));
    if fits {
        let _ = Ip::push_reply(env, Queued::Packet { route, bytes, offload });
    } else if view.dont_fragment || offload.csum.is_some() {
        env.mib
            .inc(version(v4, Counter::IpFragFails, Counter::Ip6InTooBigErrors));
        env.mib.drop(DropReason::PktTooBig);
        Ip::queue_icmp_error(env, Problem::TooBig(route.mtu), packet);
    } else {
        let spec = HeaderSpec {
            src: packet.src,
            dst: packet.dst,
            protocol: packet.protocol,
            ttl: packet.hop_limit - 1,
            tos: packet.tos,
            dont_fragment: false,
        };
        let id = u16::from_be_bytes([bytes[4], bytes[5]]);
        let whole = view.fragment.unwrap_or(Fragment {
            id: id.into(),
            offset: 0,
            more: false,
        });
        let _ = Ip::queue_fragments(env, &route, &spec, whole, &bytes[view.header_len..]);
    }
}

fn is_link_local(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V6(a) if a.is_unicast_link_local())
}

fn checksum_field(protocol: u8) -> Option<u16> {
    match protocol {
        protocol::TCP => Some(tcp::CHECKSUM_OFFSET as u16),
        protocol::UDP => Some(udp::CHECKSUM_OFFSET as u16),
        _ => None,
    }
}

/// Completes a partial checksum: the field holds the pseudo-header's sum.
fn finish_checksum(transport: &mut [u8], field: u16) {
    let field = usize::from(field);
    let sum = Sum::of(transport).finish_udp();
    if let Some(room) = transport.get_mut(field..field + 2) {
        room.copy_from_slice(&sum.to_be_bytes());
    }
}
