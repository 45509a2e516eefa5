//! TCP segments (RFC 9293 §3.1).
use core::net::IpAddr;

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Malformed;
use crate::checksum::Sum;
use crate::ip::protocol;

mod accecn;
mod options;
pub use accecn::AccEcn;
pub use options::{FastOpen, OptionIter, OptionWriter, Options, RawOption, SackBlocks, Timestamps, kind};

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;
/// Bytes of options that a header has room for.
pub const MAX_OPTIONS_LEN: usize = 40;
/// Where the checksum stands in the header.
pub const CHECKSUM_OFFSET: usize = 16;

/// Where [`Header::write`] puts an MD5 signature that is not [`md5_last`](Options::md5_last): behind the header, two NOPs
/// and the option's kind and length.
pub const MD5_OFFSET: usize = HEADER_LEN + 4;

/// The flag bits, as they stand in the 13th and 14th byte.
pub mod flags {
    /// No more data from the sender.
    pub const FIN: u16 = 0x001;
    /// Synchronize sequence numbers.
    pub const SYN: u16 = 0x002;
    /// Reset the connection.
    pub const RST: u16 = 0x004;
    /// Push.
    pub const PSH: u16 = 0x008;
    /// The acknowledgment field counts.
    pub const ACK: u16 = 0x010;
    /// The urgent pointer counts.
    pub const URG: u16 = 0x020;
    /// ECN echo.
    pub const ECE: u16 = 0x040;
    /// Congestion window reduced.
    pub const CWR: u16 = 0x080;
    /// Accurate ECN.
    pub const AE: u16 = 0x100;
    /// All of them.
    pub const ALL: u16 = 0x1ff;
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    src_port: U16,
    dst_port: U16,
    seq: U32,
    ack: U32,
    offset_flags: U16,
    window: U16,
    checksum: U16,
    urgent: U16,
}

/// A segment as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number; means something only with [`flags::ACK`].
    pub ack: u32,
    /// See [`flags`].
    pub flags: u16,
    /// Window as it stands in the header, unscaled.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// The options that mean something to a TCP.
    pub options: Options,
    /// The options as they stand in the header.
    pub raw_options: &'a [u8],
    /// Data.
    pub payload: &'a [u8],
    /// Bytes before the data.
    pub header_len: usize,
}

impl<'a> Segment<'a> {
    /// Reads a segment. Its checksum is looked at by [`checksum_ok`], not here: a device may have done that.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Segment<'a>, Malformed> {
        let (header, header_len) = Header::parse(bytes)?;
        let raw_options = &bytes[HEADER_LEN..header_len];
        Ok(Segment {
            src_port: header.src_port,
            dst_port: header.dst_port,
            seq: header.seq,
            ack: header.ack,
            flags: header.flags,
            window: header.window,
            urgent: header.urgent,
            options: Options::parse(raw_options, header.flags & flags::SYN != 0),
            raw_options,
            payload: &bytes[header_len..],
            header_len,
        })
    }

    /// The options one by one, in their order, known or not: for traces and ladders.
    pub fn option_iter(&self) -> OptionIter<'a> {
        OptionIter::new(self.raw_options)
    }
}

/// Whether a segment's checksum is right.
pub fn checksum_ok(src: IpAddr, dst: IpAddr, segment: &[u8]) -> bool {
    let mut sum = Sum::pseudo(src, dst, protocol::TCP, segment.len());
    sum.add_bytes(segment);
    sum.is_right()
}

/// A header, options and checksum aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// See [`flags`].
    pub flags: u16,
    /// Window as it stands in the header, scaled down.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
}

impl Header {
    /// Reads a segment's header; the second result is its length, options included, which the segment has.
    #[inline]
    pub fn parse(segment: &[u8]) -> Result<(Header, usize), Malformed> {
        let (raw, _) = Raw::ref_from_prefix(segment).map_err(|_| Malformed::TcpHeaderTruncated)?;
        let offset_flags = raw.offset_flags.get();
        let header_len = usize::from(offset_flags >> 12) * 4;
        if header_len < HEADER_LEN {
            return Err(Malformed::TcpDataOffsetTooSmall);
        }
        if header_len > segment.len() {
            return Err(Malformed::TcpDataOffsetTooLarge);
        }
        let header = Header {
            src_port: raw.src_port.get(),
            dst_port: raw.dst_port.get(),
            seq: raw.seq.get(),
            ack: raw.ack.get(),
            flags: offset_flags & flags::ALL,
            window: raw.window.get(),
            urgent: raw.urgent.get(),
        };
        Ok((header, header_len))
    }

    /// Writes header and options, in Linux's order and alignment, to the front of `buf`; returns their length, or
    /// `None` when they don't fit in it or the options don't fit in a header. The checksum is left 0: next comes
    /// [`set_checksum`] or [`set_partial_checksum`].
    #[inline]
    pub fn write(&self, buf: &mut [u8], options: &Options) -> Option<usize> {
        let area = buf.get_mut(HEADER_LEN..)?;
        let len = options.write(area)?;
        self.write_before(buf, len)
    }

    /// [`write`](Self::write) with the options that nearly every segment has, timestamps or none, and the sum of it all:
    /// reading back what was just written in pieces makes the processor wait.
    #[inline]
    pub fn write_usual(&self, buf: &mut [u8], timestamps: Option<Timestamps>) -> Option<(usize, Sum)> {
        let fixed = |len: usize| {
            [
                u32::from(self.src_port) << 16 | u32::from(self.dst_port),
                self.seq,
                self.ack,
                (len as u32 / 4) << 28 | u32::from(self.flags & flags::ALL) << 16 | u32::from(self.window),
                u32::from(self.urgent),
            ]
        };
        let Some(Timestamps { val, ecr }) = timestamps else {
            let header = buf.first_chunk_mut::<HEADER_LEN>()?;
            return Some((HEADER_LEN, put_words(header, fixed(HEADER_LEN))));
        };
        const LEN: usize = HEADER_LEN + 12;
        let header = buf.first_chunk_mut::<LEN>()?;
        let [ports, seq, ack, flags, urgent] = fixed(LEN);
        let kinds = u32::from_be_bytes([kind::NOP, kind::NOP, kind::TIMESTAMPS, 10]);
        let sum = put_words(header, [ports, seq, ack, flags, urgent, kinds, val, ecr]);
        Some((LEN, sum))
    }

    /// Writes the header before `options_len` bytes of options (a multiple of 4, at most 40) that stand or will stand
    /// behind it; returns the length of both, or `None` when they don't fit.
    #[inline]
    pub fn write_before(&self, buf: &mut [u8], options_len: usize) -> Option<usize> {
        let len = HEADER_LEN + options_len;
        if options_len > MAX_OPTIONS_LEN || !options_len.is_multiple_of(4) || buf.len() < len {
            return None;
        }
        let raw = Raw {
            src_port: U16::new(self.src_port),
            dst_port: U16::new(self.dst_port),
            seq: U32::new(self.seq),
            ack: U32::new(self.ack),
            offset_flags: U16::new((len as u16 / 4) << 12 | self.flags & flags::ALL),
            window: U16::new(self.window),
            checksum: U16::ZERO,
            urgent: U16::new(self.urgent),
        };
        buf[..HEADER_LEN].copy_from_slice(raw.as_bytes());
        Some(len)
    }
}

/// Completes a header's checksum. `header` is header and options with the checksum field 0; `payload` is the sum of
/// the `payload_len` bytes behind it, from [`copy_and_sum`](crate::checksum::copy_and_sum) say.
#[inline]
pub fn set_checksum(header: &mut [u8], src: IpAddr, dst: IpAddr, payload: Sum, payload_len: usize) {
    let mut sum = Sum::of(header);
    sum.add(payload);
    finish_checksum(header, src, dst, sum, header.len() + payload_len);
}

/// [`set_checksum`] where `sum` is that of header and payload, `len` bytes in all.
#[inline]
pub fn finish_checksum(header: &mut [u8], src: IpAddr, dst: IpAddr, sum: Sum, len: usize) {
    let mut all = Sum::pseudo(src, dst, protocol::TCP, len);
    all.add(sum);
    put_checksum(header, all.finish());
}

/// Writes what a device that completes the checksum itself (NEEDS_CSUM) wants to find: the pseudo-header's sum.
/// `len` is that of header and payload.
pub fn set_partial_checksum(header: &mut [u8], src: IpAddr, dst: IpAddr, len: usize) {
    put_checksum(header, Sum::pseudo(src, dst, protocol::TCP, len).fold());
}

/// Stores 32-bit words in network order; their sum.
#[inline]
fn put_words<const LEN: usize, const N: usize>(to: &mut [u8; LEN], words: [u32; N]) -> Sum {
    let mut sum = Sum::new();
    for (to, word) in to.as_chunks_mut().0.iter_mut().zip(words) {
        *to = word.to_be_bytes();
        sum.add_u32(word);
    }
    sum
}

#[inline]
fn put_checksum(header: &mut [u8], value: u16) {
    if let Some(field) = header.get_mut(CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}
