//! IPv6 neighbour discovery (RFC 4861): solicitations and advertisements with their link-layer address.
use core::net::{IpAddr, Ipv6Addr};
use core::time::Duration;

use crate::Malformed;
use crate::ethernet::MacAddr;
use crate::icmpv6::{self, kind};
use crate::ip;

const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;
const MTU: u8 = 5;

/// Bytes of the longest message written here.
pub const MAX_LEN: usize = 32;

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Is there a router?
    RouterSolicitation {
        /// The sender's link-layer address.
        source: Option<MacAddr>,
    },
    /// There is one: the sender.
    RouterAdvertisement {
        /// Hop limit that hosts are to use; 0 if it doesn't say.
        hop_limit: u8,
        /// How long it may be used as default router; 0 if not at all.
        lifetime: Duration,
        /// The router's link-layer address.
        source: Option<MacAddr>,
        /// The link's MTU.
        mtu: Option<u32>,
    },
    /// Who has the address `target`?
    NeighborSolicitation {
        /// The address asked for.
        target: Ipv6Addr,
        /// The sender's link-layer address.
        source: Option<MacAddr>,
    },
    /// The sender has it.
    NeighborAdvertisement {
        /// The address asked for.
        target: Ipv6Addr,
        /// Whether it is a router.
        router: bool,
        /// Whether it answers a solicitation.
        solicited: bool,
        /// Whether it replaces what is known.
        override_: bool,
        /// The link-layer address of `target`.
        link_layer: Option<MacAddr>,
    },
}

impl Message {
    /// Reads a message out of an ICMPv6 packet whose checksum is right. `None` when it is another kind of ICMPv6.
    pub fn parse(packet: &ip::Packet<'_>) -> Option<Result<Message, Malformed>> {
        let kind = *packet.payload.first()?;
        (kind::ROUTER_SOLICITATION..=kind::NEIGHBOR_ADVERTISEMENT)
            .contains(&kind)
            .then(|| parse(kind, packet))
    }

    /// Writes it as an ICMPv6 message from `src` to `dst`, checksum included; returns its length, or `None` when it
    /// doesn't fit. It must leave with a hop limit of 255.
    pub fn write(&self, buf: &mut [u8], addrs: (Ipv6Addr, Ipv6Addr)) -> Option<usize> {
        let mut body = [0; MAX_LEN];
        let (kind, rest, len) = match *self {
            Message::RouterSolicitation { source } => (
                kind::ROUTER_SOLICITATION,
                [0; 4],
                put_link_layer(&mut body, 0, SOURCE_LINK_LAYER, source),
            ),
            Message::RouterAdvertisement {
                hop_limit,
                lifetime,
                source,
                mtu,
            } => {
                let [a, b] = u16::try_from(lifetime.as_secs()).unwrap_or(u16::MAX).to_be_bytes();
                let mut len = put_link_layer(&mut body, 8, SOURCE_LINK_LAYER, source);
                if let Some(mtu) = mtu {
                    body[len..len + 2].copy_from_slice(&[MTU, 1]);
                    body[len + 4..len + 8].copy_from_slice(&mtu.to_be_bytes());
                    len += 8;
                }
                (kind::ROUTER_ADVERTISEMENT, [hop_limit, 0, a, b], len)
            }
            Message::NeighborSolicitation { target, source } => {
                body[..16].copy_from_slice(&target.octets());
                (
                    kind::NEIGHBOR_SOLICITATION,
                    [0; 4],
                    put_link_layer(&mut body, 16, SOURCE_LINK_LAYER, source),
                )
            }
            Message::NeighborAdvertisement {
                target,
                router,
                solicited,
                override_,
                link_layer,
            } => {
                body[..16].copy_from_slice(&target.octets());
                let flags = u8::from(router) << 7 | u8::from(solicited) << 6 | u8::from(override_) << 5;
                let len = put_link_layer(&mut body, 16, TARGET_LINK_LAYER, link_layer);
                (kind::NEIGHBOR_ADVERTISEMENT, [flags, 0, 0, 0], len)
            }
        };
        icmpv6::write(buf, addrs, kind, 0, rest, &body[..len])
    }
}

/// The multicast address that who has `addr` listens to (RFC 4291 §2.7.1).
pub fn solicited_node(addr: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = addr.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

fn parse(kind: u8, packet: &ip::Packet<'_>) -> Result<Message, Malformed> {
    // RFC 4861 §6.1 and §7.1: what came through a router is somebody else's.
    if packet.hop_limit != 255 {
        return Err(Malformed::NdpHopLimitNot255);
    }
    let (&[_, code, _, _, a, _, c, d], body) = packet.payload.split_first_chunk().ok_or(Malformed::NdpTruncated)?;
    if code != 0 {
        return Err(Malformed::NdpCodeNotZero);
    }
    match kind {
        kind::ROUTER_SOLICITATION => {
            let found = read_options(body)?;
            Ok(Message::RouterSolicitation { source: found.source })
        }
        kind::ROUTER_ADVERTISEMENT => {
            let found = read_options(body.get(8..).ok_or(Malformed::NdpTruncated)?)?;
            Ok(Message::RouterAdvertisement {
                hop_limit: a,
                lifetime: Duration::from_secs(u16::from_be_bytes([c, d]).into()),
                source: found.source,
                mtu: found.mtu,
            })
        }
        _ => {
            let (target, options) = body.split_first_chunk::<16>().ok_or(Malformed::NdpTruncated)?;
            let target = Ipv6Addr::from(*target);
            if target.is_multicast() {
                return Err(Malformed::NdpTargetMulticast);
            }
            let found = read_options(options)?;
            if kind == kind::NEIGHBOR_SOLICITATION {
                return Ok(Message::NeighborSolicitation {
                    target,
                    source: found.source,
                });
            }
            let solicited = a & 0x40 != 0;
            if solicited && matches!(packet.dst, IpAddr::V6(dst) if dst.is_multicast()) {
                return Err(Malformed::NdpSolicitedToMulticast);
            }
            Ok(Message::NeighborAdvertisement {
                target,
                router: a & 0x80 != 0,
                solicited,
                override_: a & 0x20 != 0,
                link_layer: found.target,
            })
        }
    }
}

#[derive(Default)]
struct Found {
    source: Option<MacAddr>,
    target: Option<MacAddr>,
    mtu: Option<u32>,
}

fn read_options(mut options: &[u8]) -> Result<Found, Malformed> {
    let mut found = Found::default();
    while let [kind, rest @ ..] = options {
        let len = match rest.first() {
            None => return Err(Malformed::NdpOptionTruncated),
            Some(0) => return Err(Malformed::NdpOptionLengthZero),
            Some(units) => usize::from(*units) * 8,
        };
        let option = options.get(..len).ok_or(Malformed::NdpOptionTruncated)?;
        match (*kind, option) {
            (SOURCE_LINK_LAYER, &[_, 1, a, b, c, d, e, f]) => found.source = Some(MacAddr([a, b, c, d, e, f])),
            (TARGET_LINK_LAYER, &[_, 1, a, b, c, d, e, f]) => found.target = Some(MacAddr([a, b, c, d, e, f])),
            (MTU, &[_, 1, _, _, a, b, c, d]) => found.mtu = Some(u32::from_be_bytes([a, b, c, d])),
            _ => {}
        }
        options = &options[len..];
    }
    Ok(found)
}

fn put_link_layer(body: &mut [u8; MAX_LEN], at: usize, kind: u8, addr: Option<MacAddr>) -> usize {
    let Some(addr) = addr else { return at };
    body[at..at + 2].copy_from_slice(&[kind, 1]);
    body[at + 2..at + 8].copy_from_slice(&addr.0);
    at + 8
}
