//! IP packets, whatever their version.
use core::net::IpAddr;

use crate::Malformed;

pub mod ipv4;
pub mod ipv6;

/// Protocol numbers (IANA): an IPv4 header's protocol, an IPv6 header's next header.
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// Transmission Control Protocol.
    pub const TCP: u8 = 6;
    /// User Datagram Protocol.
    pub const UDP: u8 = 17;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// Authentication header.
    pub const AH: u8 = 51;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6: nothing follows.
    pub const NO_NEXT_HEADER: u8 = 59;
    /// IPv6 destination options.
    pub const DESTINATION: u8 = 60;
}

/// Where a packet stands in a larger one that was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Which packet it is a piece of: 16 bits in IPv4, 32 in IPv6.
    pub id: u32,
    /// Where its payload stands in that packet's, in bytes.
    pub offset: u32,
    /// Whether more follows.
    pub more: bool,
}

/// An IP packet that was found sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// What the payload is, after any IPv6 extension headers: see [`protocol`].
    pub protocol: u8,
    /// Hop limit; IPv4's time to live.
    pub hop_limit: u8,
    /// Type of service; IPv6's traffic class.
    pub tos: u8,
    /// Set on a packet that is a piece of another (an IPv6 packet with a fragment header that is all of it counts as
    /// whole: RFC 6946).
    pub fragment: Option<Fragment>,
    /// Whether routers may not cut it: IPv4's bit, always so in IPv6.
    pub dont_fragment: bool,
    /// Whether it asks to be sent on by a route of its own: IPv4 source route options, an IPv6 routing header with
    /// segments left.
    pub source_routed: bool,
    /// Bytes before the payload.
    pub header_len: usize,
    /// IPv4 options, or IPv6 extension headers.
    pub options: &'a [u8],
    /// What it carries, without any padding of the link's.
    pub payload: &'a [u8],
    /// All of it, header and payload, without any padding of the link's: what an ICMP error quotes.
    pub bytes: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a packet of either version.
    pub fn parse(bytes: &'a [u8]) -> Result<Packet<'a>, Malformed> {
        match bytes.first().ok_or(Malformed::PacketEmpty)? >> 4 {
            4 => ipv4::parse(bytes),
            6 => ipv6::parse(bytes),
            _ => Err(Malformed::IpVersionUnknown),
        }
    }

    /// 4 or 6.
    pub fn version(&self) -> u8 {
        if self.src.is_ipv4() { 4 } else { 6 }
    }

    /// The two ECN bits (RFC 3168): 0 not capable, 1 ECT(1), 2 ECT(0), 3 congestion experienced.
    pub fn ecn(&self) -> u8 {
        self.tos & 3
    }

    /// The six bits of the differentiated services code point.
    pub fn dscp(&self) -> u8 {
        self.tos >> 2
    }
}
