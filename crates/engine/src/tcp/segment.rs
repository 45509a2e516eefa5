//! A segment as it came, in proto's words (RFC 9293 §3.1).

use super::demux::Tuple;
use crate::drop::DropReason;
use crate::iface::IfaceId;
use crate::ip::Packet;
use estab_proto::trace::{OptionTrace, OptionsTrace};
use estab_proto::{ScaledWindow, SegmentTrace, SeqNum, TcpFlags};
use estab_wire::tcp::{self as wire, OptionIter, Options, kind};

/// A segment that arrived.
pub(crate) struct Segment<'a> {
    /// Whom it was sent to, and by whom.
    pub(crate) tuple: Tuple,
    /// Where it came in.
    pub(crate) iface: IfaceId,
    /// `local` is an address of ours, not one a transparent interface stands in for.
    pub(crate) ours: bool,
    pub(crate) seq: SeqNum,
    pub(crate) ack: SeqNum,
    pub(crate) flags: TcpFlags,
    pub(crate) window: ScaledWindow,
    pub(crate) urgent: u16,
    pub(crate) options: Options,
    /// Bytes of header, options included.
    pub(crate) header_len: u8,
    /// The header as it came, options included.
    pub(crate) header: &'a [u8],
    pub(crate) payload: &'a [u8],
    /// The IP header's TOS or traffic class.
    pub(crate) tos: u8,
    /// The IP header's ECN field: 3 is CE.
    pub(crate) ecn: u8,
    /// It was merged from segments of this many bytes.
    pub(crate) gso_size: Option<u16>,
}

impl<'a> Segment<'a> {
    /// Reads and checks a packet's TCP header; the second result is its length, options included.
    #[inline]
    pub(crate) fn header(packet: &Packet<'_>) -> Result<(wire::Header, usize), DropReason> {
        let parsed = wire::Header::parse(packet.payload).map_err(|_| DropReason::PktTooSmall)?;
        match packet.checksum_ok() {
            true => Ok(parsed),
            false => Err(DropReason::TcpCsum),
        }
    }

    /// The segment behind a header that [`header`](Self::header) found, its options not read yet.
    #[inline(always)] // A struct of this size is built where it stays, or every packet pays for moving it.
    pub(crate) fn new(packet: &Packet<'a>, (header, header_len): (wire::Header, usize)) -> Segment<'a> {
        let (front, payload) = packet.payload.split_at(header_len);
        Segment {
            tuple: Tuple {
                local_ip: packet.dst,
                remote_ip: packet.src,
                local_port: header.dst_port,
                remote_port: header.src_port,
            },
            iface: packet.iface,
            ours: packet.local,
            seq: SeqNum(header.seq),
            ack: SeqNum(header.ack),
            flags: TcpFlags(header.flags),
            window: ScaledWindow(header.window),
            urgent: header.urgent,
            options: Options::default(),
            header_len: header_len as u8,
            header: front,
            payload,
            tos: packet.tos,
            ecn: packet.ecn(),
            gso_size: packet.meta.gso_size,
        }
    }

    /// Reads the options.
    #[inline]
    pub(crate) fn read_options(&mut self) {
        let (bytes, syn) = (self.raw_options(), self.syn());
        self.options.read(bytes, syn);
    }

    pub(crate) fn has(&self, flag: TcpFlags) -> bool {
        self.flags.contains(flag)
    }

    pub(crate) fn syn(&self) -> bool {
        self.has(TcpFlags::SYN)
    }

    pub(crate) fn ack_set(&self) -> bool {
        self.has(TcpFlags::ACK)
    }

    pub(crate) fn rst(&self) -> bool {
        self.has(TcpFlags::RST)
    }

    pub(crate) fn fin(&self) -> bool {
        self.has(TcpFlags::FIN)
    }

    /// SEG.LEN: bytes of payload, and one each for SYN and FIN.
    pub(crate) fn len(&self) -> u32 {
        self.payload.len() as u32 + u32::from(self.syn()) + u32::from(self.fin())
    }

    /// The sequence number after the segment.
    pub(crate) fn end(&self) -> SeqNum {
        self.seq + self.len()
    }

    /// Sequence number of the first byte of payload.
    pub(crate) fn data_seq(&self) -> SeqNum {
        self.seq + u32::from(self.syn())
    }

    /// Segments that it was merged from; 1: it was not.
    pub(crate) fn segments(&self) -> u32 {
        let size = self.gso_size.map_or(usize::MAX, |size| usize::from(size).max(1));
        self.payload.len().div_ceil(size).max(1) as u32
    }

    /// The options as they came.
    pub(crate) fn raw_options(&self) -> &'a [u8] {
        &self.header[wire::HEADER_LEN..]
    }

    /// For the trace.
    pub(crate) fn trace(&self) -> SegmentTrace {
        SegmentTrace {
            seq: self.seq,
            ack: self.ack,
            flags: self.flags,
            window: self.window,
            len: self.payload.len() as u32,
            options: trace_options(self.raw_options()),
        }
    }
}

/// A header's options for the trace, in their order.
pub(crate) fn trace_options(bytes: &[u8]) -> OptionsTrace {
    fn number(bytes: &[u8]) -> u32 {
        bytes.iter().fold(0, |n, b| n << 8 | u32::from(*b))
    }
    let mut trace = OptionsTrace::default();
    for option in OptionIter::new(bytes) {
        trace.push(match (option.kind, option.data) {
            (kind::NOP, _) => OptionTrace::Nop,
            (kind::MSS, data @ [_, _]) => OptionTrace::Mss(number(data) as u16),
            (kind::WINDOW_SCALE, &[shift]) => OptionTrace::WindowScale(shift),
            (kind::SACK_PERMITTED, []) => OptionTrace::SackPermitted,
            (kind::TIMESTAMPS, data) if data.len() == 8 => OptionTrace::Timestamps {
                val: number(&data[..4]),
                ecr: number(&data[4..]),
            },
            (kind::SACK, data) => {
                let mut blocks = [None; 4];
                for (slot, pair) in blocks.iter_mut().zip(data.chunks_exact(8)) {
                    *slot = Some((SeqNum(number(&pair[..4])), SeqNum(number(&pair[4..]))));
                }
                OptionTrace::Sack(blocks)
            }
            (kind::FAST_OPEN, cookie) if cookie.len() <= 16 => {
                let mut bytes = [0; 16];
                bytes[..cookie.len()].copy_from_slice(cookie);
                OptionTrace::FastOpen(bytes, cookie.len() as u8)
            }
            (kind::MD5, _) => OptionTrace::Md5,
            (kind::ACCECN0 | kind::ACCECN1, data) => {
                let mut counters = [None; 3];
                for (slot, counter) in counters.iter_mut().zip(data.chunks_exact(3)) {
                    *slot = Some(number(counter));
                }
                OptionTrace::AccEcn {
                    ect1_first: option.kind == kind::ACCECN1,
                    counters,
                }
            }
            (other, _) => OptionTrace::Unknown(other),
        });
    }
    trace
}
