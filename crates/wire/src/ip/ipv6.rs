//! IPv6 (RFC 8200) and its extension headers.
use core::net::{IpAddr, Ipv6Addr};

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Fragment, Packet, protocol};
use crate::Malformed;

/// Bytes of a header without extensions.
pub const HEADER_LEN: usize = 40;
/// Bytes of a fragment header.
pub const FRAGMENT_HEADER_LEN: usize = 8;

/// Extension headers walked at most: each kind once, destination options twice (RFC 8200 §4.1), and room to spare.
const MAX_EXTENSIONS: usize = 16;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    version_class_flow: U32,
    payload_len: U16,
    next_header: u8,
    hop_limit: u8,
    src: [u8; 16],
    dst: [u8; 16],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawFragment {
    next_header: u8,
    reserved: u8,
    offset_more: U16,
    id: U32,
}

/// A header to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
    /// What follows: see [`protocol`].
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Traffic class, ECN bits included.
    pub tos: u8,
    /// Flow label: 20 bits.
    pub flow_label: u32,
}

impl Header {
    /// A header with hop limit 64, traffic class 0 and no flow label.
    pub fn new(src: Ipv6Addr, dst: Ipv6Addr, next_header: u8) -> Header {
        Header {
            src,
            dst,
            next_header,
            hop_limit: 64,
            tos: 0,
            flow_label: 0,
        }
    }

    /// Writes it to the front of `buf` for `payload_len` bytes of extension headers and payload; returns its length,
    /// or `None` when it doesn't fit or the payload is longer than 65,535 bytes.
    pub fn write(&self, buf: &mut [u8], payload_len: usize) -> Option<usize> {
        let raw = Raw {
            version_class_flow: U32::new(6 << 28 | u32::from(self.tos) << 20 | self.flow_label & 0xf_ffff),
            payload_len: U16::new(u16::try_from(payload_len).ok()?),
            next_header: self.next_header,
            hop_limit: self.hop_limit,
            src: self.src.octets(),
            dst: self.dst.octets(),
        };
        buf.get_mut(..HEADER_LEN)?.copy_from_slice(raw.as_bytes());
        Some(HEADER_LEN)
    }
}

/// Writes a fragment header to the front of `buf`; returns its length, or `None` when it doesn't fit. The offset is
/// in bytes, a multiple of 8.
pub fn write_fragment(buf: &mut [u8], next_header: u8, fragment: Fragment) -> Option<usize> {
    let raw = RawFragment {
        next_header,
        reserved: 0,
        offset_more: U16::new(fragment.offset as u16 & !7 | u16::from(fragment.more)),
        id: U32::new(fragment.id),
    };
    buf.get_mut(..FRAGMENT_HEADER_LEN)?.copy_from_slice(raw.as_bytes());
    Some(FRAGMENT_HEADER_LEN)
}

/// Reads an IPv6 packet, over its extension headers, as Linux's ip6_rcv_core and ipv6_skip_exthdr do. Bytes beyond
/// the payload length are padding and cut off.
pub fn parse(bytes: &[u8]) -> Result<Packet<'_>, Malformed> {
    let (raw, _) = Raw::ref_from_prefix(bytes).map_err(|_| Malformed::Ipv6HeaderTruncated)?;
    let first = raw.version_class_flow.get();
    if first >> 28 != 6 {
        return Err(Malformed::IpVersionUnknown);
    }
    let len = HEADER_LEN + usize::from(raw.payload_len.get());
    let bytes = bytes.get(..len).ok_or(Malformed::Ipv6PayloadLengthTooLarge)?;
    let body = &bytes[HEADER_LEN..];
    let ext = skip_extensions(raw.next_header, body)?;
    Ok(Packet {
        src: IpAddr::V6(raw.src.into()),
        dst: IpAddr::V6(raw.dst.into()),
        protocol: ext.protocol,
        hop_limit: raw.hop_limit,
        tos: (first >> 20) as u8,
        fragment: ext.fragment,
        dont_fragment: true,
        source_routed: ext.source_routed,
        header_len: HEADER_LEN + ext.len,
        options: &body[..ext.len],
        payload: &body[ext.len..],
        bytes,
    })
}

/// What stands between an IPv6 header and its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extensions {
    /// What the payload is.
    pub protocol: u8,
    /// Bytes of extension headers.
    pub len: usize,
    /// Set when the payload is a piece of another packet's: the walk ends there, since what comes next belongs to
    /// the whole.
    pub fragment: Option<Fragment>,
    /// Whether a routing header has segments left.
    pub source_routed: bool,
}

/// Walks the extension headers at the front of `body`, the first of kind `next_header`. What a reassembled packet
/// starts with is walked by it too.
pub fn skip_extensions(next_header: u8, body: &[u8]) -> Result<Extensions, Malformed> {
    let mut ext = Extensions {
        protocol: next_header,
        len: 0,
        fragment: None,
        source_routed: false,
    };
    for walked in 0..=MAX_EXTENSIONS {
        let rest = &body[ext.len..];
        let truncated = Malformed::Ipv6ExtensionTruncated;
        let len = match ext.protocol {
            protocol::HOP_BY_HOP if walked > 0 => return Err(Malformed::Ipv6HopByHopNotFirst),
            protocol::HOP_BY_HOP | protocol::DESTINATION | protocol::ROUTING => {
                8 * (usize::from(*rest.get(1).ok_or(truncated)?) + 1)
            }
            protocol::FRAGMENT => FRAGMENT_HEADER_LEN,
            protocol::AH => 4 * (usize::from(*rest.get(1).ok_or(truncated)?) + 2),
            _ => return Ok(ext),
        };
        let header = rest.get(..len).ok_or(truncated)?;
        match ext.protocol {
            protocol::ROUTING => ext.source_routed |= header[3] > 0,
            protocol::HOP_BY_HOP | protocol::DESTINATION => check_options(&header[2..])?,
            protocol::FRAGMENT => ext.fragment = read_fragment(header, &rest[len..])?,
            _ => {}
        }
        ext.protocol = header[0];
        ext.len += len;
        if ext.fragment.is_some() {
            return Ok(ext);
        }
    }
    Err(Malformed::Ipv6TooManyExtensions)
}

fn read_fragment(header: &[u8], data: &[u8]) -> Result<Option<Fragment>, Malformed> {
    let (raw, _) = RawFragment::ref_from_prefix(header).map_err(|_| Malformed::Ipv6ExtensionTruncated)?;
    let (offset, more) = (raw.offset_more.get() & !7, raw.offset_more.get() & 1 != 0);
    if more && !data.len().is_multiple_of(8) {
        return Err(Malformed::Ipv6FragmentUnaligned);
    }
    if usize::from(offset) + data.len() > usize::from(u16::MAX) {
        return Err(Malformed::Ipv6FragmentTooLong);
    }
    Ok((more || offset > 0).then_some(Fragment {
        id: raw.id.get(),
        offset: offset.into(),
        more,
    }))
}

/// Options of a hop-by-hop or destination header: type, length, value. The type's upper two bits say what becomes of
/// a packet when the type is not known: 0 has it passed over, all else discards the packet (RFC 8200 §4.2).
fn check_options(mut options: &[u8]) -> Result<(), Malformed> {
    const PAD1: u8 = 0;
    const JUMBO: u8 = 0xc2;
    const HOME_ADDRESS: u8 = 0xc9;
    loop {
        match options {
            [] => return Ok(()),
            [PAD1, rest @ ..] => options = rest,
            [JUMBO, ..] => return Err(Malformed::Ipv6JumboPayload),
            [kind, len, rest @ ..] => {
                options = rest.get(usize::from(*len)..).ok_or(Malformed::Ipv6OptionLengthWrong)?;
                if kind >> 6 != 0 && *kind != HOME_ADDRESS {
                    return Err(Malformed::Ipv6OptionUnknown);
                }
            }
            [_] => return Err(Malformed::Ipv6OptionLengthWrong),
        }
    }
}

/// Reads as much of a quoted packet as is there: addresses, protocol, total length and the start of its payload.
pub(crate) fn parse_quoted(bytes: &[u8]) -> Result<(IpAddr, IpAddr, u8, usize, &[u8]), Malformed> {
    let (raw, body) = Raw::ref_from_prefix(bytes).map_err(|_| Malformed::IcmpQuoteTruncated)?;
    let (mut next, mut rest) = (raw.next_header, body);
    for _ in 0..MAX_EXTENSIONS {
        let ext_len = match (next, rest) {
            (protocol::HOP_BY_HOP | protocol::DESTINATION | protocol::ROUTING, [_, len, ..]) => {
                8 * (usize::from(*len) + 1)
            }
            (protocol::AH, [_, len, ..]) => 4 * (usize::from(*len) + 2),
            // A later fragment has no transport header to know the connection by.
            (protocol::FRAGMENT, [_, _, hi, lo, ..]) if u16::from_be_bytes([*hi, *lo]) & !7 == 0 => FRAGMENT_HEADER_LEN,
            (protocol::FRAGMENT, _) => return Err(Malformed::IcmpQuoteTruncated),
            _ => break,
        };
        next = *rest.first().ok_or(Malformed::IcmpQuoteTruncated)?;
        rest = rest.get(ext_len..).ok_or(Malformed::IcmpQuoteTruncated)?;
    }
    let len = HEADER_LEN + usize::from(raw.payload_len.get());
    Ok((IpAddr::V6(raw.src.into()), IpAddr::V6(raw.dst.into()), next, len, rest))
}
