//! ICMP for IPv4 (RFC 792), and the quotes in ICMP errors of both versions.
use core::net::IpAddr;

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Malformed;
use crate::checksum::checksum;
use crate::ip::{ipv4, ipv6};

/// Bytes of a header.
pub const HEADER_LEN: usize = 8;

/// Message types.
pub mod kind {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Redirect.
    pub const REDIRECT: u8 = 5;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
}

/// Codes of destination unreachable.
pub mod unreachable {
    /// Network unreachable.
    pub const NET: u8 = 0;
    /// Host unreachable.
    pub const HOST: u8 = 1;
    /// Protocol unreachable.
    pub const PROTOCOL: u8 = 2;
    /// Port unreachable.
    pub const PORT: u8 = 3;
    /// Fragmentation needed, but DF is set.
    pub const FRAG_NEEDED: u8 = 4;
    /// Source route failed.
    pub const SOURCE_ROUTE: u8 = 5;
    /// Destination network unknown.
    pub const NET_UNKNOWN: u8 = 6;
    /// Destination host unknown.
    pub const HOST_UNKNOWN: u8 = 7;
    /// Source host isolated.
    pub const ISOLATED: u8 = 8;
    /// Network administratively prohibited.
    pub const NET_PROHIBITED: u8 = 9;
    /// Host administratively prohibited.
    pub const HOST_PROHIBITED: u8 = 10;
    /// Network unreachable for this type of service.
    pub const NET_TOS: u8 = 11;
    /// Host unreachable for this type of service.
    pub const HOST_TOS: u8 = 12;
    /// Communication administratively prohibited.
    pub const PROHIBITED: u8 = 13;
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Raw {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    pub(crate) checksum: U16,
    pub(crate) rest: [u8; 4],
}

/// A message as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the fields' names say it
pub enum Message<'a> {
    /// Somebody asks whether we are there.
    EchoRequest { ident: u16, seq: u16, data: &'a [u8] },
    /// Somebody answers that.
    EchoReply { ident: u16, seq: u16, data: &'a [u8] },
    /// See [`mod@unreachable`]. `mtu` is the next hop's with code [`unreachable::FRAG_NEEDED`], 0 from old routers and
    /// with other codes.
    Unreachable { code: u8, mtu: u16, quote: &'a [u8] },
    /// Code 0: in transit; 1: while it was put together.
    TimeExceeded { code: u8, quote: &'a [u8] },
    /// `pointer` is the offset of what is wrong.
    ParameterProblem { code: u8, pointer: u8, quote: &'a [u8] },
    /// Anything else.
    Other {
        kind: u8,
        code: u8,
        rest: [u8; 4],
        data: &'a [u8],
    },
}

impl<'a> Message<'a> {
    /// Reads a message and checks its checksum.
    pub fn parse(bytes: &'a [u8]) -> Result<Message<'a>, Malformed> {
        let (raw, data) = Raw::ref_from_prefix(bytes).map_err(|_| Malformed::IcmpHeaderTruncated)?;
        if checksum(bytes) != 0 {
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
            kind::UNREACHABLE => {
                let mtu = if code == unreachable::FRAG_NEEDED { second } else { 0 };
                Message::Unreachable { code, mtu, quote: data }
            }
            kind::TIME_EXCEEDED => Message::TimeExceeded { code, quote: data },
            kind::PARAMETER_PROBLEM => Message::ParameterProblem {
                code,
                pointer: a,
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
pub fn write(buf: &mut [u8], kind: u8, code: u8, rest: [u8; 4], data: &[u8]) -> Option<usize> {
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
    let sum = checksum(message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    Some(len)
}

/// Writes an echo request or reply; returns its length, or `None` when it doesn't fit.
pub fn write_echo(buf: &mut [u8], reply: bool, ident: u16, seq: u16, data: &[u8]) -> Option<usize> {
    let kind = if reply { kind::ECHO_REPLY } else { kind::ECHO_REQUEST };
    write(buf, kind, 0, echo_rest(ident, seq), data)
}

/// Writes destination unreachable, quoting `quote`; `mtu` is 0 but for [`unreachable::FRAG_NEEDED`]. Returns its
/// length, or `None` when it doesn't fit.
pub fn write_unreachable(buf: &mut [u8], code: u8, mtu: u16, quote: &[u8]) -> Option<usize> {
    let [a, b] = mtu.to_be_bytes();
    write(buf, kind::UNREACHABLE, code, [0, 0, a, b], quote)
}

pub(crate) fn echo_rest(ident: u16, seq: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (ident.to_be_bytes(), seq.to_be_bytes());
    [a, b, c, d]
}

/// The packet an ICMP error is about, as far as it is quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote<'a> {
    /// Its source: us, if the error is for us.
    pub src: IpAddr,
    /// Its destination.
    pub dst: IpAddr,
    /// What its payload is.
    pub protocol: u8,
    /// Its total length, as its header had it.
    pub len: usize,
    /// Its payload's first bytes: 8 at least.
    pub transport: &'a [u8],
}

impl<'a> Quote<'a> {
    /// Reads the IP header, of either version, and 8 bytes of what it carried. Neither checksum nor length is held
    /// against it: it is a piece, and routers may have changed it.
    pub fn parse(bytes: &'a [u8]) -> Result<Quote<'a>, Malformed> {
        let (src, dst, protocol, len, transport) = match bytes.first().map(|byte| byte >> 4) {
            Some(4) => ipv4::parse_quoted(bytes)?,
            Some(6) => ipv6::parse_quoted(bytes)?,
            Some(_) => return Err(Malformed::IcmpQuoteNotIp),
            None => return Err(Malformed::IcmpQuoteTruncated),
        };
        if transport.len() < 8 {
            return Err(Malformed::IcmpQuoteTruncated);
        }
        Ok(Quote {
            src,
            dst,
            protocol,
            len,
            transport,
        })
    }

    /// Source and destination port, of TCP and UDP.
    pub fn ports(&self) -> (u16, u16) {
        let t = self.transport;
        (u16::from_be_bytes([t[0], t[1]]), u16::from_be_bytes([t[2], t[3]]))
    }

    /// Sequence number, of TCP.
    pub fn tcp_seq(&self) -> u32 {
        let t = self.transport;
        u32::from_be_bytes([t[4], t[5], t[6], t[7]])
    }

    /// Identifier and sequence number, of an echo request.
    pub fn echo(&self) -> (u16, u16) {
        let t = self.transport;
        (u16::from_be_bytes([t[4], t[5]]), u16::from_be_bytes([t[6], t[7]]))
    }
}
