//! IPv4 (RFC 791).
use core::net::{IpAddr, Ipv4Addr};

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Fragment, Packet};
use crate::Malformed;
use crate::checksum::{self, checksum};

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// Option kinds: loose and strict source route.
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    version_ihl: u8,
    tos: u8,
    total_len: U16,
    id: U16,
    fragment: U16,
    ttl: u8,
    protocol: u8,
    checksum: U16,
    src: [u8; 4],
    dst: [u8; 4],
}

/// A header to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// See [`protocol`](super::protocol).
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// Type of service, ECN bits included.
    pub tos: u8,
    /// Identification.
    pub id: u16,
    /// Whether routers may not cut it.
    pub dont_fragment: bool,
    /// Where the payload stands in the whole packet's, in bytes: a multiple of 8, up to 65,528.
    pub fragment_offset: u32,
    /// Whether more pieces follow.
    pub more_fragments: bool,
}

impl Header {
    /// A header for a packet that isn't cut: `ttl` 64, `tos` 0, DF set.
    pub fn new(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8) -> Header {
        Header {
            src,
            dst,
            protocol,
            ttl: 64,
            tos: 0,
            id: 0,
            dont_fragment: true,
            fragment_offset: 0,
            more_fragments: false,
        }
    }

    /// Writes it to the front of `buf`, checksum included, for a payload of `payload_len` bytes; returns its length,
    /// or `None` when it doesn't fit or the packet would be longer than 65,535 bytes.
    pub fn write(&self, buf: &mut [u8], payload_len: usize) -> Option<usize> {
        let header = buf.first_chunk_mut::<HEADER_LEN>()?;
        let total_len = u16::try_from(HEADER_LEN + payload_len).ok()?;
        let fragment = if self.dont_fragment { DONT_FRAGMENT } else { 0 }
            | if self.more_fragments { MORE_FRAGMENTS } else { 0 }
            | (self.fragment_offset / 8) as u16 & OFFSET;
        let mut words = [
            u32::from_be_bytes([0x45, self.tos, (total_len >> 8) as u8, total_len as u8]),
            u32::from(self.id) << 16 | u32::from(fragment),
            u32::from_be_bytes([self.ttl, self.protocol, 0, 0]),
            self.src.to_bits(),
            self.dst.to_bits(),
        ];
        // Summed before it is stored: reading back what was just written in pieces makes the processor wait.
        words[2] |= u32::from(checksum::of_words(&words));
        for (to, word) in header.as_chunks_mut().0.iter_mut().zip(words) {
            *to = word.to_be_bytes();
        }
        Some(HEADER_LEN)
    }
}

/// Reads an IPv4 packet and checks its header as Linux's ip_rcv_core does. Bytes beyond the total length are padding
/// and cut off.
pub fn parse(bytes: &[u8]) -> Result<Packet<'_>, Malformed> {
    let (raw, _) = Raw::ref_from_prefix(bytes).map_err(|_| Malformed::Ipv4HeaderTruncated)?;
    if raw.version_ihl >> 4 != 4 {
        return Err(Malformed::IpVersionUnknown);
    }
    let header_len = usize::from(raw.version_ihl & 15) * 4;
    if header_len < HEADER_LEN {
        return Err(Malformed::Ipv4HeaderLengthTooSmall);
    }
    let header = bytes.get(..header_len).ok_or(Malformed::Ipv4HeaderLengthTooLarge)?;
    if checksum(header) != 0 {
        return Err(Malformed::Ipv4ChecksumWrong);
    }
    let total_len = usize::from(raw.total_len.get());
    if total_len < header_len {
        return Err(Malformed::Ipv4TotalLengthTooSmall);
    }
    let bytes = bytes.get(..total_len).ok_or(Malformed::Ipv4TotalLengthTooLarge)?;
    let payload = &bytes[header_len..];
    let options = &header[HEADER_LEN..];

    let bits = raw.fragment.get();
    let offset = u32::from(bits & OFFSET) * 8;
    let more = bits & MORE_FRAGMENTS != 0;
    if header_len + offset as usize + payload.len() > usize::from(u16::MAX) {
        return Err(Malformed::Ipv4FragmentTooLong);
    }
    Ok(Packet {
        src: IpAddr::V4(raw.src.into()),
        dst: IpAddr::V4(raw.dst.into()),
        protocol: raw.protocol,
        hop_limit: raw.ttl,
        tos: raw.tos,
        fragment: (more || offset > 0).then_some(Fragment {
            id: raw.id.get().into(),
            offset,
            more,
        }),
        dont_fragment: bits & DONT_FRAGMENT != 0,
        source_routed: has_source_route(options)?,
        header_len,
        options,
        payload,
        bytes,
    })
}

/// Takes one hop off a packet that is being forwarded and puts its checksum right. Returns whether it may go on:
/// `false` (and nothing changed) when its time to live is used up, or it is no IPv4 packet.
pub fn decrement_ttl(packet: &mut [u8]) -> bool {
    let Ok((raw, _)) = Raw::mut_from_prefix(packet) else {
        return false;
    };
    if raw.version_ihl >> 4 != 4 || raw.ttl <= 1 {
        return false;
    }
    let word = |ttl| u16::from_be_bytes([ttl, raw.protocol]);
    let checksum = checksum::update_u16(raw.checksum.get(), word(raw.ttl), word(raw.ttl - 1));
    raw.ttl -= 1;
    raw.checksum.set(checksum);
    true
}

fn has_source_route(mut options: &[u8]) -> Result<bool, Malformed> {
    let mut found = false;
    loop {
        match options {
            [] | [0, ..] => return Ok(found),
            [1, rest @ ..] => options = rest,
            [kind, len, ..] if *len >= 2 && usize::from(*len) <= options.len() => {
                found |= matches!(*kind, LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE);
                options = &options[usize::from(*len)..];
            }
            _ => return Err(Malformed::Ipv4OptionLengthWrong),
        }
    }
}

/// Reads as much of a quoted packet as is there: addresses, protocol, total length and the start of its payload.
pub(crate) fn parse_quoted(bytes: &[u8]) -> Result<(IpAddr, IpAddr, u8, usize, &[u8]), Malformed> {
    let (raw, _) = Raw::ref_from_prefix(bytes).map_err(|_| Malformed::IcmpQuoteTruncated)?;
    let header_len = usize::from(raw.version_ihl & 15) * 4;
    if header_len < HEADER_LEN {
        return Err(Malformed::IcmpQuoteNotIp);
    }
    let transport = bytes.get(header_len..).ok_or(Malformed::IcmpQuoteTruncated)?;
    // A later fragment has no transport header to know the connection by.
    if raw.fragment.get() & OFFSET != 0 {
        return Err(Malformed::IcmpQuoteTruncated);
    }
    Ok((
        IpAddr::V4(raw.src.into()),
        IpAddr::V4(raw.dst.into()),
        raw.protocol,
        raw.total_len.get().into(),
        transport,
    ))
}
