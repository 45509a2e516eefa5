//! ARP for IPv4 over Ethernet (RFC 826).
use core::net::Ipv4Addr;

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Malformed;
use crate::ethernet::{MacAddr, ethertype};

/// Bytes of a packet.
pub const LEN: usize = 28;

const ETHERNET: u16 = 1;

/// Operations.
pub mod operation {
    /// Who has the target's IP address?
    pub const REQUEST: u16 = 1;
    /// The sender has the sender's IP address.
    pub const REPLY: u16 = 2;
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    hardware: U16,
    protocol: U16,
    hardware_len: u8,
    protocol_len: u8,
    operation: U16,
    sender_mac: [u8; 6],
    sender_ip: [u8; 4],
    target_mac: [u8; 6],
    target_ip: [u8; 4],
}

/// An ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// See [`operation`].
    pub operation: u16,
    /// The sender's link-layer address.
    pub sender_mac: MacAddr,
    /// The sender's IP address; 0.0.0.0 in a probe (RFC 5227).
    pub sender_ip: Ipv4Addr,
    /// The target's link-layer address; nothing in a request.
    pub target_mac: MacAddr,
    /// The target's IP address.
    pub target_ip: Ipv4Addr,
}

impl Packet {
    /// Reads a packet; what follows it is padding.
    pub fn parse(bytes: &[u8]) -> Result<Packet, Malformed> {
        let (raw, _) = Raw::ref_from_prefix(bytes).map_err(|_| Malformed::ArpTruncated)?;
        if raw.hardware.get() != ETHERNET || raw.hardware_len != 6 {
            return Err(Malformed::ArpNotEthernet);
        }
        if raw.protocol.get() != ethertype::IPV4 || raw.protocol_len != 4 {
            return Err(Malformed::ArpNotIpv4);
        }
        Ok(Packet {
            operation: raw.operation.get(),
            sender_mac: MacAddr(raw.sender_mac),
            sender_ip: raw.sender_ip.into(),
            target_mac: MacAddr(raw.target_mac),
            target_ip: raw.target_ip.into(),
        })
    }

    /// Writes it to the front of `buf`; returns its length, or `None` when it doesn't fit.
    pub fn write(&self, buf: &mut [u8]) -> Option<usize> {
        let raw = Raw {
            hardware: U16::new(ETHERNET),
            protocol: U16::new(ethertype::IPV4),
            hardware_len: 6,
            protocol_len: 4,
            operation: U16::new(self.operation),
            sender_mac: self.sender_mac.0,
            sender_ip: self.sender_ip.octets(),
            target_mac: self.target_mac.0,
            target_ip: self.target_ip.octets(),
        };
        buf.get_mut(..LEN)?.copy_from_slice(raw.as_bytes());
        Some(LEN)
    }
}
