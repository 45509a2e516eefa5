//! Headers in front of what a transport writes (Linux: `ip_queue_xmit`, `ip6_xmit`), and datagrams cut to fit the
//! path (Linux: `ip_do_fragment`, `ip6_fragment`).

use super::reply::Queued;
use super::{Ip, Route, neigh};
use crate::env::Env;
use crate::rng::{HashKey, Rng};
use crate::{CsumTx, DropReason, Medium, Result, SockError, Transmit};
use alloc::vec::Vec;
use core::net::IpAddr;
use estab_proto::Counter;
use estab_wire::checksum::Sum;
use estab_wire::ip::{Fragment, ipv4, ipv6, protocol};
use estab_wire::{ethernet, tcp};

/// What a transport wants to stand in its IP header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeaderSpec {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) protocol: u8,
    /// 0: the sysctl's default.
    pub(crate) ttl: u8,
    /// ECN bits included.
    pub(crate) tos: u8,
    /// Routers may not cut it; on IPv6 they never do.
    pub(crate) dont_fragment: bool,
}

/// What the device is to do with a packet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Offload {
    /// A checksum to finish: where the transport header starts in the IP packet, where the field is in that.
    pub(super) csum: Option<(u16, u16)>,
    /// Bytes of payload per segment of a super-packet.
    pub(super) gso: Option<u16>,
}

/// Bytes of an IP header without options or extensions.
pub(crate) fn header_len(v4: bool) -> usize {
    if v4 { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN }
}

/// The counter of the packet's IP version.
pub(super) fn version(v4: bool, four: Counter, six: Counter) -> Counter {
    if v4 { four } else { six }
}

/// IPv4's identification for packets that may be cut: a counter per keyed hash of the two addresses
/// (Linux: `__ip_select_ident`). It must not tell one destination how much another gets.
#[derive(Clone)]
pub(super) struct Idents {
    counters: [u16; Idents::SIZE],
}

impl Idents {
    const SIZE: usize = 1024;

    pub(super) fn new(rng: &mut Rng) -> Idents {
        Idents {
            counters: core::array::from_fn(|_| rng.u32() as u16),
        }
    }

    fn next(&mut self, rng: &Rng, src: IpAddr, dst: IpAddr) -> u16 {
        let hash = rng.hash_pair(HashKey::IpId, src, dst);
        let counter = &mut self.counters[hash as usize % Idents::SIZE];
        *counter = counter.wrapping_add(1);
        counter.wrapping_add((hash >> 32) as u16)
    }
}

impl Ip {
    /// Writes one TCP packet to `buf`: the link's header if it has one, the IP header, and the segment, whose checksum is
    /// finished here (or left to the device, if it takes them). `write` writes the segment without it: TCP header and
    /// payload; it returns the header's length, and the sum of both, which is only looked at when its last argument says
    /// so. `gso`: the payload is to be cut into segments of that many bytes. `left_out`: bytes of payload that `write` left
    /// where they are, as [`takes_parts`](Self::takes_parts) allows.
    ///
    /// `None`: nothing to send now. The packet waits for its neighbour's address, or was dropped and counted.
    #[allow(clippy::too_many_arguments)] // One packet's parts; a struct of them would be built for every packet.
    #[inline]
    pub(crate) fn emit_tcp(
        env: &mut Env,
        buf: &mut [u8],
        route: &Route,
        spec: &HeaderSpec,
        payload_len: usize,
        gso: Option<u16>,
        left_out: usize,
        write: impl FnOnce(&mut [u8], bool) -> Option<(usize, Sum)>,
    ) -> Option<Transmit> {
        let v4 = spec.dst.is_ipv4();
        let link = usize::from(route.link_len);
        let partial = route.csum_offload;
        let write = |area: &mut [u8]| {
            let (header_len, sum) = write(area, !partial)?;
            let (head, len) = (&mut area[..header_len], header_len + payload_len);
            if partial {
                tcp::set_partial_checksum(head, spec.src, spec.dst, len);
            } else {
                tcp::finish_checksum(head, spec.src, spec.dst, sum, len);
            }
            Some(len)
        };
        let written = buf
            .get_mut(link + header_len(v4)..)
            .and_then(write)
            .and_then(|len| Ip::write_header(env, &mut buf[link..], route, spec, len).map(|header| header + len));
        let Some(len) = written else {
            env.mib.drop(DropReason::NoBuffer);
            env.mib
                .inc(version(v4, Counter::IpOutDiscards, Counter::Ip6OutDiscards));
            return None;
        };
        count_out(env, v4, len);
        let offload = Offload {
            csum: partial.then_some((header_len(v4) as u16, tcp::CHECKSUM_OFFSET as u16)),
            gso,
        };
        let mut transmit = Ip::to_link(env, buf, route, len, offload)?;
        transmit.len -= left_out;
        Some(transmit)
    }

    /// Whether a packet on the route may be handed on in parts: nobody here sums it, keeps it or reads it again.
    pub(crate) fn takes_parts(env: &Env, route: &Route) -> bool {
        let medium = env.ip.iface(route.iface).map(|config| config.medium);
        route.csum_offload && route.iface != super::LOOPBACK && matches!(medium, Some(Medium::Ip))
    }

    /// Queues a datagram of `spec.protocol` whose payload is `parts` one after the other, cut to the path's MTU if
    /// need be. `local_cut`: we may cut it; otherwise too much is EMSGSIZE.
    pub(crate) fn queue_datagram(
        env: &mut Env,
        route: &Route,
        spec: &HeaderSpec,
        parts: &[&[u8]],
        local_cut: bool,
    ) -> Result<()> {
        let v4 = spec.dst.is_ipv4();
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len + if v4 { header_len(v4) } else { 0 } > usize::from(u16::MAX) {
            return Err(SockError::EMSGSIZE);
        }
        if header_len(v4) + len <= route.mtu as usize {
            let mut bytes = Vec::with_capacity(header_len(v4) + len);
            bytes.resize(header_len(v4), 0);
            parts.iter().for_each(|part| bytes.extend_from_slice(part));
            // It fits in 65535 bytes: looked at above.
            Ip::write_header(env, &mut bytes, route, spec, len).ok_or(SockError::EMSGSIZE)?;
            count_out(env, v4, bytes.len());
            return Ip::push_reply(env, Queued::packet(route, bytes));
        }
        if !local_cut {
            env.mib.inc(version(v4, Counter::IpFragFails, Counter::Ip6FragFails));
            return Err(SockError::EMSGSIZE);
        }
        let whole = Fragment {
            id: Ip::fragment_id(env, spec),
            offset: 0,
            more: false,
        };
        Ip::queue_fragments(env, route, spec, whole, &parts.concat())
    }

    /// Cuts `payload`, which is `whole` of its datagram or a piece that was cut before, into fragments that fit the path.
    pub(super) fn queue_fragments(
        env: &mut Env,
        route: &Route,
        spec: &HeaderSpec,
        whole: Fragment,
        payload: &[u8],
    ) -> Result<()> {
        let v4 = spec.dst.is_ipv4();
        let extra = if v4 { 0 } else { ipv6::FRAGMENT_HEADER_LEN };
        let room = (route.mtu as usize).saturating_sub(header_len(v4) + extra) & !7;
        if room == 0 {
            env.mib.inc(version(v4, Counter::IpFragFails, Counter::Ip6FragFails));
            return Err(SockError::EMSGSIZE);
        }
        let count = payload.len().div_ceil(room);
        for (n, piece) in payload.chunks(room).enumerate() {
            let fragment = Fragment {
                id: whole.id,
                offset: whole.offset + (n * room) as u32,
                more: n + 1 < count || whole.more,
            };
            let mut bytes = alloc::vec![0; header_len(v4) + extra];
            bytes.extend_from_slice(piece);
            Ip::write_fragment_header(env, &mut bytes, spec, fragment, piece.len()).ok_or(SockError::EMSGSIZE)?;
            count_out(env, v4, bytes.len());
            env.mib
                .inc(version(v4, Counter::IpFragCreates, Counter::Ip6FragCreates));
            Ip::push_reply(env, Queued::packet(route, bytes))?;
        }
        env.mib.inc(version(v4, Counter::IpFragOKs, Counter::Ip6FragOKs));
        Ok(())
    }

    /// An identification for fragments: IPv4's by the counter of the addresses, IPv6's at random, never 0
    /// (Linux: `ipv6_select_ident`; RFC 7739).
    fn fragment_id(env: &mut Env, spec: &HeaderSpec) -> u32 {
        if spec.dst.is_ipv4() {
            return env.ip.idents.next(&env.rng, spec.src, spec.dst).into();
        }
        env.rng.u32().max(1)
    }

    fn write_fragment_header(
        env: &Env,
        bytes: &mut [u8],
        spec: &HeaderSpec,
        fragment: Fragment,
        len: usize,
    ) -> Option<()> {
        match (spec.src, spec.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let header = ipv4::Header {
                    ttl: ttl(env, spec),
                    tos: spec.tos,
                    id: fragment.id as u16,
                    dont_fragment: false,
                    fragment_offset: fragment.offset,
                    more_fragments: fragment.more,
                    ..ipv4::Header::new(src, dst, spec.protocol)
                };
                header.write(bytes, len)?;
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let header = ipv6::Header {
                    hop_limit: ttl(env, spec),
                    tos: spec.tos,
                    ..ipv6::Header::new(src, dst, protocol::FRAGMENT)
                };
                let at = header.write(bytes, len + ipv6::FRAGMENT_HEADER_LEN)?;
                ipv6::write_fragment(&mut bytes[at..], spec.protocol, fragment)?;
            }
            _ => return None,
        }
        Some(())
    }

    /// Writes the IP header of a whole packet with `len` bytes of payload; returns the header's length.
    fn write_header(env: &mut Env, buf: &mut [u8], route: &Route, spec: &HeaderSpec, len: usize) -> Option<usize> {
        match (spec.src, spec.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let dont_fragment = spec.dont_fragment && route.dont_fragment;
                let header = ipv4::Header {
                    ttl: ttl(env, spec),
                    tos: spec.tos,
                    // What is never cut needs no identification (RFC 6864 §4.1).
                    id: match dont_fragment {
                        true => 0,
                        false => env.ip.idents.next(&env.rng, spec.src, spec.dst),
                    },
                    dont_fragment,
                    ..ipv4::Header::new(src, dst, spec.protocol)
                };
                header.write(buf, len)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let header = ipv6::Header {
                    hop_limit: ttl(env, spec),
                    tos: spec.tos,
                    ..ipv6::Header::new(src, dst, spec.protocol)
                };
                header.write(buf, len)
            }
            _ => None,
        }
    }

    /// An IP packet of `len` bytes stands in `buf` behind room for the link's header: addresses it to the next hop, or
    /// keeps a copy until that one's address is known.
    pub(super) fn to_link(
        env: &mut Env,
        buf: &mut [u8],
        route: &Route,
        len: usize,
        offload: Offload,
    ) -> Option<Transmit> {
        let mut link = 0;
        if route.link_len > 0
            && let Some(Medium::Ethernet(mac)) = env.ip.iface(route.iface).map(|config| config.medium)
        {
            let packet = buf.get(ethernet::HEADER_LEN..ethernet::HEADER_LEN + len)?;
            let to = neigh::resolve(env, route, packet, offload)?;
            let kind = if route.next_hop.is_ipv4() {
                ethernet::ethertype::IPV4
            } else {
                ethernet::ethertype::IPV6
            };
            link = ethernet::write(buf, to, ethernet::MacAddr(mac), kind)?;
        }
        Some(Transmit {
            iface: route.iface,
            len: link + len,
            gso: offload.gso,
            csum: match offload.csum {
                Some((start, offset)) => CsumTx::Partial {
                    start: link as u16 + start,
                    offset,
                },
                None => CsumTx::Full,
            },
        })
    }
}

fn ttl(env: &Env, spec: &HeaderSpec) -> u8 {
    let default = match spec.dst {
        IpAddr::V4(_) => env.sysctl.ip_default_ttl,
        IpAddr::V6(_) => env.sysctl.ipv6_hop_limit,
    };
    match spec.ttl {
        // 0 means the default in both places.
        0 => u8::try_from(default).unwrap_or(u8::MAX).max(1),
        ttl => ttl,
    }
}

fn count_out(env: &mut Env, v4: bool, len: usize) {
    env.mib
        .inc(version(v4, Counter::IpOutRequests, Counter::Ip6OutRequests));
    env.mib
        .inc(version(v4, Counter::IpOutTransmits, Counter::Ip6OutTransmits));
    env.mib
        .add(version(v4, Counter::IpExtOutOctets, Counter::Ip6OutOctets), len as u64);
}
