//! UDP datagrams (RFC 768).
use core::net::IpAddr;

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Malformed;
use crate::checksum::Sum;
use crate::ip::protocol;

/// Bytes of a header.
pub const HEADER_LEN: usize = 8;
/// Where the checksum stands in the header.
pub const CHECKSUM_OFFSET: usize = 6;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    src_port: U16,
    dst_port: U16,
    len: U16,
    checksum: U16,
}

/// A datagram as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Source port; 0 when no answer is expected.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Checksum as sent; 0 when there is none.
    pub checksum: u16,
    /// Data.
    pub payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Reads a datagram. Its checksum is looked at by [`check`], not here: a device may have done that.
    pub fn parse(bytes: &'a [u8]) -> Result<Datagram<'a>, Malformed> {
        let (raw, _) = Raw::ref_from_prefix(bytes).map_err(|_| Malformed::UdpHeaderTruncated)?;
        let len = usize::from(raw.len.get());
        if len < HEADER_LEN {
            return Err(Malformed::UdpLengthTooSmall);
        }
        Ok(Datagram {
            src_port: raw.src_port.get(),
            dst_port: raw.dst_port.get(),
            checksum: raw.checksum.get(),
            payload: bytes.get(HEADER_LEN..len).ok_or(Malformed::UdpLengthTooLarge)?,
        })
    }
}

/// Checks the checksum of a datagram: none will do over IPv4, but not over IPv6 (RFC 8200 §8.1).
pub fn check(src: IpAddr, dst: IpAddr, bytes: &[u8]) -> Result<(), Malformed> {
    let (raw, _) = Raw::ref_from_prefix(bytes).map_err(|_| Malformed::UdpHeaderTruncated)?;
    if raw.checksum.get() == 0 {
        return if src.is_ipv4() {
            Ok(())
        } else {
            Err(Malformed::UdpChecksumMissing)
        };
    }
    let datagram = bytes
        .get(..usize::from(raw.len.get()))
        .ok_or(Malformed::UdpLengthTooLarge)?;
    let mut sum = Sum::pseudo(src, dst, protocol::UDP, datagram.len());
    sum.add_bytes(datagram);
    if sum.is_right() {
        Ok(())
    } else {
        Err(Malformed::UdpChecksumWrong)
    }
}

/// Writes a header to the front of `buf` for the `payload_len` bytes whose sum is `payload`; returns its length, or
/// `None` when it doesn't fit or the datagram would be longer than 65,535 bytes.
pub fn write(
    buf: &mut [u8],
    src: (IpAddr, u16),
    dst: (IpAddr, u16),
    payload: Sum,
    payload_len: usize,
) -> Option<usize> {
    let len = write_partial(buf, src, dst, payload_len)?;
    // The pseudo-header's sum stands in the checksum's place already.
    let mut sum = Sum::of(&buf[..len]);
    sum.add(payload);
    put_checksum(buf, sum.finish_udp());
    Some(len)
}

/// As [`write()`], for a device that completes the checksum itself (NEEDS_CSUM) and wants to find the pseudo-header's
/// sum in its place.
pub fn write_partial(
    buf: &mut [u8],
    (src, src_port): (IpAddr, u16),
    (dst, dst_port): (IpAddr, u16),
    payload_len: usize,
) -> Option<usize> {
    let len = u16::try_from(HEADER_LEN + payload_len).ok()?;
    let raw = Raw {
        src_port: U16::new(src_port),
        dst_port: U16::new(dst_port),
        len: U16::new(len),
        checksum: U16::new(Sum::pseudo(src, dst, protocol::UDP, len.into()).fold()),
    };
    buf.get_mut(..HEADER_LEN)?.copy_from_slice(raw.as_bytes());
    Some(HEADER_LEN)
}

fn put_checksum(header: &mut [u8], value: u16) {
    if let Some(field) = header.get_mut(CHECKSUM_OFFSET..HEADER_LEN) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}
