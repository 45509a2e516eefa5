//! ICMP for IPv6 (RFC 4443). Neighbour discovery is in [`ndp`](crate::ndp).
use core::net::Ipv6Addr;

use zerocopy::FromBytes;
use zerocopy::IntoBytes;
use zerocopy::byteorder::network_endian::U16;

use crate::Malformed;
use crate::checksum::Sum;
use crate::icmpv4::{Raw, echo_rest};
use crate::ip::protocol;

pub use crate::icmpv4::{HEADER_LEN, Quote};

/// Message types.
pub mod kind {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Packet too big.
    pub const PACKET_TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Multicast listener query.
    pub const MLD_QUERY: u8 = 130;
    /// Multicast listener report, version 1.
    pub const MLD_REPORT: u8 = 131;
    /// Multicast listener done.
    pub const MLD_DONE: u8 = 132;
    /// Router solicitation.
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// Router advertisement.
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    /// Neighbour solicitation.
    pub const NEIGHBOR_SOLICITATION: u8 = 135;
    /// Neighbour advertisement.
    pub const NEIGHBOR_ADVERTISEMENT: u8 = 136;
    /// Redirect.
    pub const REDIRECT: u8 = 137;
    /// Multicast listener report, version 2.
    pub const MLD2_REPORT: u8 = 143;
}

/// Codes of destination unreachable.
pub mod unreachable {
    /// No route.
    pub const NO_ROUTE: u8 = 0;
    /// Administratively prohibited.
    pub const PROHIBITED: u8 = 1;
    /// Beyond scope of the source address.
    pub const BEYOND_SCOPE: u8 = 2;
    /// Address unreachable.
    pub const ADDRESS: u8 = 3;
    /// Port unreachable.
    pub const PORT: u8 = 4;
    /// Source address failed a policy.
    pub const POLICY: u8 = 5;
    /// Route is to reject.
    pub const REJECT_ROUTE: u8 = 6;
}

/// Codes of parameter problem.
pub mod parameter_problem {
    /// Erroneous header field.
    pub const HEADER_FIELD: u8 = 0;
    /// Unknown next header.
    pub const NEXT_HEADER: u8 = 1;
    /// Unknown option.
    pub const OPTION: u8 = 2;
}

/// A message as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the fields' names say it
pub enum Message<'a> {
    /// Somebody asks whether we are there.
    EchoRequest { ident: u16, seq: u16, data: &'a [u8] },
    /// Somebody answers that.
    EchoReply { ident: u16, seq: u16, data: &'a [u8] },
    /// See [`mod@unreachable`].
    Unreachable { code: u8, quote: &'a [u8] },
    /// `mtu` is the next hop's.
    PacketTooBig { mtu: u32, quote: &'a [u8] },
    /// Code 0: in transit; 1: while it was put together.
    TimeExceeded { code: u8, quote: &'a [u8] },
    /// See [`parameter_problem`]; `pointer` is the offset of what is wrong.
    ParameterProblem { code: u8, pointer: u32, quote: &'a [u8] },
    /// Anything else; neighbour discovery is read by [`ndp`](crate::ndp).
    Other {
        kind: u8,
        code: u8,
        rest: [u8; 4],
        data: &'a [u8],
    },
}

impl<'a> Message<'a> {
    /// Reads a message and checks its checksum, which the addresses are part of.
    pub fn parse(src: Ipv6Addr, dst: Ipv6Addr, bytes: &'a [u8]) -> Result<Message<'a>, Malformed> {
        let (raw, data) = Raw::ref_from_prefix(bytes).map_err(|_| Malformed::IcmpHeaderTruncated)?;
        let mut sum = Sum::pseudo_v6(src, dst, protocol::ICMPV6, bytes.len());
        sum.add_bytes(bytes);
        if !sum.is_right() {
            return Err(Malformed::IcmpChecksumWrong);
        }
        let [a, b, c, d] = raw.rest;
        let (first, second) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let code = raw.code;
        Ok(match raw.kind {
            kind::ECHO_REQUEST => Message::EchoRequest {
                ident: first,
                seq: second,
                data,
            },
            kind::ECHO_REPLY => Message::EchoReply {
                ident: first,
                seq: second,
                data,
            },
            kind::UNREACHABLE => Message::Unreachable { code, quote: data },
            kind::PACKET_TOO_BIG => Message::PacketTooBig {
                mtu: u32::from_be_bytes(raw.rest),
                quote: data,
            },
            kind::TIME_EXCEEDED => Message::TimeExceeded { code, quote: data },
            kind::PARAMETER_PROBLEM => Message::ParameterProblem {
                code,
                pointer: u32::from_be_bytes(raw.rest),
                quote: data,
            },
            kind => Message::Other {
                kind,
                code,
                rest: raw.rest,
                data,
            },
        })
    }
}

/// Writes a message, checksum included; returns its length, or `None` when it doesn't fit. `rest` is the header's
/// second half.
pub fn write(
    buf: &mut [u8],
    (src, dst): (Ipv6Addr, Ipv6Addr),
    kind: u8,
    code: u8,
    rest: [u8; 4],
    data: &[u8],
) -> Option<usize> {
    let len = HEADER_LEN + data.len();
    let message = buf.get_mut(..len)?;
    let raw = Raw {
        kind,
        code,
        checksum: U16::ZERO,
        rest,
    };
    message[..HEADER_LEN].copy_from_slice(raw.as_bytes());
    message[HEADER_LEN..].copy_from_slice(data);
    let mut sum = Sum::pseudo_v6(src, dst, protocol::ICMPV6, len);
    sum.add_bytes(message);
    message[2..4].copy_from_slice(&sum.finish().to_be_bytes());
    Some(len)
}

/// Writes an echo request or reply; returns its length, or `None` when it doesn't fit.
pub fn write_echo(
    buf: &mut [u8],
    addrs: (Ipv6Addr, Ipv6Addr),
    reply: bool,
    ident: u16,
    seq: u16,
    data: &[u8],
) -> Option<usize> {
    let kind = if reply { kind::ECHO_REPLY } else { kind::ECHO_REQUEST };
    write(buf, addrs, kind, 0, echo_rest(ident, seq), data)
}

/// Writes destination unreachable, quoting `quote`; returns its length, or `None` when it doesn't fit.
pub fn write_unreachable(buf: &mut [u8], addrs: (Ipv6Addr, Ipv6Addr), code: u8, quote: &[u8]) -> Option<usize> {
    write(buf, addrs, kind::UNREACHABLE, code, [0; 4], quote)
}

/// Writes packet too big, quoting `quote`; returns its length, or `None` when it doesn't fit.
pub fn write_packet_too_big(buf: &mut [u8], addrs: (Ipv6Addr, Ipv6Addr), mtu: u32, quote: &[u8]) -> Option<usize> {
    write(buf, addrs, kind::PACKET_TOO_BIG, 0, mtu.to_be_bytes(), quote)
}
