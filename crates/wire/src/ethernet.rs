//! Ethernet frames, for TAP devices.
use core::fmt;

use crate::Malformed;

/// Bytes of a header without VLAN tag.
pub const HEADER_LEN: usize = 14;

/// EtherTypes.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// VLAN tag (802.1Q).
    pub const VLAN: u16 = 0x8100;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// Provider VLAN tag (802.1ad).
    pub const QINQ: u16 = 0x88a8;
}

/// A link-layer address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// Everyone on the link.
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);

    /// Whether it is a group's address, broadcast included.
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// The address that an IP multicast address, or broadcast, maps to (RFC 1112 §6.4, RFC 2464 §7); `None` for a
    /// unicast address, which has to be asked for.
    pub fn of_multicast(addr: core::net::IpAddr) -> Option<MacAddr> {
        match addr {
            core::net::IpAddr::V4(addr) if addr.is_broadcast() => Some(MacAddr::BROADCAST),
            core::net::IpAddr::V4(addr) if addr.is_multicast() => {
                let [_, b, c, d] = addr.octets();
                Some(MacAddr([0x01, 0x00, 0x5e, b & 0x7f, c, d]))
            }
            core::net::IpAddr::V6(addr) if addr.is_multicast() => {
                let [.., a, b, c, d] = addr.octets();
                Some(MacAddr([0x33, 0x33, a, b, c, d]))
            }
            _ => None,
        }
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A frame as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Destination.
    pub dst: MacAddr,
    /// Source.
    pub src: MacAddr,
    /// The outer VLAN tag's 16 bits, if there is one.
    pub vlan: Option<u16>,
    /// What it carries, behind up to two VLAN tags: see [`ethertype`].
    pub ethertype: u16,
    /// What follows the header, padding included.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads a frame.
    pub fn parse(bytes: &'a [u8]) -> Result<Frame<'a>, Malformed> {
        let (header, mut payload) = bytes
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(Malformed::EthernetHeaderTruncated)?;
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *header;
        let mut ethertype = u16::from_be_bytes([t0, t1]);
        let mut vlan = None;
        for _ in 0..2 {
            if !matches!(ethertype, ethertype::VLAN | ethertype::QINQ) {
                break;
            }
            let ([a, b, t0, t1], rest) = payload.split_first_chunk().ok_or(Malformed::EthernetTagTruncated)?;
            vlan = vlan.or(Some(u16::from_be_bytes([*a, *b])));
            ethertype = u16::from_be_bytes([*t0, *t1]);
            payload = rest;
        }
        Ok(Frame {
            dst: MacAddr([d0, d1, d2, d3, d4, d5]),
            src: MacAddr([s0, s1, s2, s3, s4, s5]),
            vlan,
            ethertype,
            payload,
        })
    }
}

/// Writes a header to the front of `buf`; returns its length, or `None` when it doesn't fit.
pub fn write(buf: &mut [u8], dst: MacAddr, src: MacAddr, ethertype: u16) -> Option<usize> {
    let header = buf.get_mut(..HEADER_LEN)?;
    header[..6].copy_from_slice(&dst.0);
    header[6..12].copy_from_slice(&src.0);
    header[12..].copy_from_slice(&ethertype.to_be_bytes());
    Some(HEADER_LEN)
}
