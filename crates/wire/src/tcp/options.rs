use core::ops::Deref;

use super::{AccEcn, MAX_OPTIONS_LEN};

/// Option kinds (IANA).
pub mod kind {
    /// End of the option list.
    pub const END: u8 = 0;
    /// Padding.
    pub const NOP: u8 = 1;
    /// Maximum segment size (RFC 9293 §3.7.1).
    pub const MSS: u8 = 2;
    /// Window scale (RFC 7323 §2).
    pub const WINDOW_SCALE: u8 = 3;
    /// SACK permitted (RFC 2018 §2).
    pub const SACK_PERMITTED: u8 = 4;
    /// SACK (RFC 2018 §3).
    pub const SACK: u8 = 5;
    /// Timestamps (RFC 7323 §3).
    pub const TIMESTAMPS: u8 = 8;
    /// MD5 signature (RFC 2385).
    pub const MD5: u8 = 19;
    /// TCP-AO (RFC 5925).
    pub const AO: u8 = 29;
    /// Fast Open cookie (RFC 7413).
    pub const FAST_OPEN: u8 = 34;
    /// Accurate ECN, the counters of ECT(0), CE and ECT(1) (RFC 9768 §3.2.3).
    pub const ACCECN0: u8 = 172;
    /// Accurate ECN, the counters of ECT(1), CE and ECT(0).
    pub const ACCECN1: u8 = 174;
    /// Shared by experiments (RFC 6994).
    pub const EXPERIMENT: u8 = 254;
    /// The experiment that was Fast Open.
    pub const EXPERIMENT_FAST_OPEN: u16 = 0xf989;
}

/// The timestamps option.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamps {
    /// The sender's clock.
    pub val: u32,
    /// What it last saw of the receiver's.
    pub ecr: u32,
}

/// Up to four SACK blocks, each from its first sequence number to the one after its last; a slice of pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SackBlocks {
    blocks: [(u32, u32); SackBlocks::MAX],
    len: u8,
}

impl SackBlocks {
    /// Blocks that fit in a header.
    pub const MAX: usize = 4;

    /// Appends a block; `false` when there are four already.
    pub fn push(&mut self, left: u32, right: u32) -> bool {
        let Some(block) = self.blocks.get_mut(usize::from(self.len)) else {
            return false;
        };
        *block = (left, right);
        self.len += 1;
        true
    }

    /// Drops all blocks but the first `len`: other options may need the room.
    pub fn truncate(&mut self, len: usize) {
        while self.len() > len {
            self.len -= 1;
            self.blocks[usize::from(self.len)] = (0, 0);
        }
    }
}

impl Deref for SackBlocks {
    type Target = [(u32, u32)];
    fn deref(&self) -> &[(u32, u32)] {
        &self.blocks[..usize::from(self.len)]
    }
}

impl FromIterator<(u32, u32)> for SackBlocks {
    /// Takes the first four.
    fn from_iter<I: IntoIterator<Item = (u32, u32)>>(blocks: I) -> SackBlocks {
        let mut sack = SackBlocks::default();
        for (left, right) in blocks.into_iter().take(SackBlocks::MAX) {
            sack.push(left, right);
        }
        sack
    }
}

/// The Fast Open option: a cookie of 4 to 16 bytes, or a request for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FastOpen {
    cookie: [u8; FastOpen::MAX_COOKIE],
    len: u8,
    /// Whether it comes as experiment 0xF989 (kind 254) rather than as kind 34.
    pub experimental: bool,
}

impl FastOpen {
    /// Bytes of the longest cookie (RFC 7413 §4.1.1).
    pub const MAX_COOKIE: usize = 16;

    /// A request for a cookie.
    pub fn request(experimental: bool) -> FastOpen {
        FastOpen {
            experimental,
            ..FastOpen::default()
        }
    }

    /// A cookie; `None` unless its length is even and 0 (a request) or 4 to 16.
    pub fn with_cookie(cookie: &[u8], experimental: bool) -> Option<FastOpen> {
        if !matches!(cookie.len(), 0 | 4 | 6 | 8 | 10 | 12 | 14 | 16) {
            return None;
        }
        let mut option = FastOpen::request(experimental);
        option.cookie[..cookie.len()].copy_from_slice(cookie);
        option.len = cookie.len() as u8;
        Some(option)
    }

    /// The cookie; empty when one is requested.
    pub fn cookie(&self) -> &[u8] {
        &self.cookie[..usize::from(self.len)]
    }

    /// Whether it asks for a cookie.
    pub fn is_request(&self) -> bool {
        self.len == 0
    }

    fn encoded_len(&self) -> usize {
        usize::from(self.len) + if self.experimental { 4 } else { 2 }
    }
}

/// The options that mean something to a TCP, read from a segment or to be written to one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Maximum segment size; on SYNs only, never 0.
    pub mss: Option<u16>,
    /// Window scale as sent, on SYNs only: what is above 14 counts as 14 (RFC 7323 §2.3), which the reader sees to.
    pub window_scale: Option<u8>,
    /// SACK permitted; on SYNs only.
    pub sack_permitted: bool,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
    /// SACK blocks.
    pub sack: SackBlocks,
    /// Fast Open; on SYNs only.
    pub fast_open: Option<FastOpen>,
    /// MD5 signature.
    pub md5: Option<[u8; 16]>,
    /// Accurate ECN.
    pub accecn: Option<AccEcn>,
    /// The signature stands behind the timestamps, as in what Linux's tcp_v4_send_ack writes, not before everything.
    pub md5_last: bool,
}

impl Options {
    /// Reads an option list as Linux's tcp_parse_options does: an option of a wrong length for its kind is passed
    /// over, a length that makes no sense ends the list, and what came before it stays. `syn` tells whether the
    /// segment is a SYN, without which MSS, window scale, SACK permitted and Fast Open mean nothing.
    #[inline]
    pub fn parse(bytes: &[u8], syn: bool) -> Options {
        let mut options = Options::default();
        options.read(bytes, syn);
        options
    }

    /// [`parse`](Self::parse) into options that are blank yet, where they stay: moving them costs more than reading them.
    #[inline]
    pub fn read(&mut self, bytes: &[u8], syn: bool) {
        // Most segments of a connection carry exactly these.
        if let [kind::NOP, kind::NOP, kind::TIMESTAMPS, 10, ts @ ..] = bytes
            && let Ok(ts) = <&[u8; 8]>::try_from(ts)
        {
            self.timestamps = Some(read_timestamps(ts));
        } else if !(bytes.is_empty() || syn && self.read_usual_syn(bytes)) {
            self.read_list(bytes, syn);
        }
    }

    /// Reads what Linux's SYNs carry, and its SYN-ACKs to such: MSS, SACK permitted, timestamps, window scale; `false`: it is
    /// something else.
    #[inline(never)]
    fn read_usual_syn(&mut self, bytes: &[u8]) -> bool {
        let &[
            kind::MSS,
            4,
            mss_hi,
            mss_lo,
            kind::SACK_PERMITTED,
            2,
            kind::TIMESTAMPS,
            10,
            a,
            b,
            c,
            d,
            e,
            f,
            g,
            h,
            kind::NOP,
            kind::WINDOW_SCALE,
            3,
            shift,
        ] = bytes
        else {
            return false;
        };
        let mss = u16::from_be_bytes([mss_hi, mss_lo]);
        self.mss = (mss != 0).then_some(mss);
        self.sack_permitted = true;
        self.timestamps = Some(read_timestamps(&[a, b, c, d, e, f, g, h]));
        self.window_scale = Some(shift);
        true
    }

    #[inline(never)]
    fn read_list(&mut self, bytes: &[u8], syn: bool) {
        let options = self;
        for RawOption { kind, data } in OptionIter::new(bytes) {
            match (kind, data) {
                (kind::MSS, &[a, b]) if syn && (a, b) != (0, 0) => options.mss = Some(u16::from_be_bytes([a, b])),
                (kind::WINDOW_SCALE, &[shift]) if syn => options.window_scale = Some(shift),
                (kind::SACK_PERMITTED, []) if syn => options.sack_permitted = true,
                (kind::TIMESTAMPS, data) => {
                    if let Ok(ts) = data.try_into() {
                        options.timestamps = Some(read_timestamps(ts));
                    }
                }
                (kind::SACK, data) => {
                    if let (blocks @ [_, ..], []) = data.as_chunks::<8>() {
                        options.sack = blocks.iter().map(read_pair).collect();
                    }
                }
                (kind::MD5, data) => options.md5 = data.try_into().ok().or(options.md5),
                (kind::ACCECN0 | kind::ACCECN1, data) => {
                    options.accecn = Some(AccEcn::read(kind == kind::ACCECN1, data));
                }
                (kind::FAST_OPEN, cookie) if syn => {
                    options.fast_open = FastOpen::with_cookie(cookie, false).or(options.fast_open);
                }
                (kind::EXPERIMENT, [a, b, cookie @ ..])
                    if syn && u16::from_be_bytes([*a, *b]) == kind::EXPERIMENT_FAST_OPEN =>
                {
                    options.fast_open = FastOpen::with_cookie(cookie, true).or(options.fast_open);
                }
                _ => {}
            }
        }
    }

    /// Bytes these options take when written, a multiple of 4; more than 40 don't fit in a header.
    pub fn encoded_len(&self) -> usize {
        let mut len = 0;
        if self.md5.is_some() {
            len += 20;
        }
        if self.mss.is_some() {
            len += 4;
        }
        if self.timestamps.is_some() {
            len += 12;
        } else if self.sack_permitted {
            len += 4;
        }
        if self.window_scale.is_some() {
            len += 4;
        }
        if !self.sack.is_empty() {
            len += 4 + 8 * self.sack.len();
        }
        if let Some(fast_open) = &self.fast_open {
            len += fast_open.encoded_len().next_multiple_of(4);
        }
        if let Some(accecn) = &self.accecn {
            // What is left over a multiple of four takes the place of another option's padding, if that is as long.
            let (own, left) = (accecn.encoded_len(), accecn.encoded_len() % 4);
            len += match left <= self.padding() {
                true => own - left,
                false => own.next_multiple_of(4),
            };
        }
        len
    }

    /// NOPs before the option behind which Accurate ECN's last bytes may stand.
    fn padding(&self) -> usize {
        if self.sack_permitted && self.timestamps.is_none() || !self.sack.is_empty() {
            2
        } else {
            usize::from(self.window_scale.is_some())
        }
    }

    /// Writes the options in the order and with the padding of Linux's tcp_options_write; returns their length, or
    /// `None` when `buf` or a header's 40 bytes have no room for them.
    #[inline]
    pub fn write(&self, buf: &mut [u8]) -> Option<usize> {
        // Most segments of a connection carry exactly these.
        let Options {
            mss: None,
            window_scale: None,
            sack_permitted: false,
            timestamps: Some(Timestamps { val, ecr }),
            sack: SackBlocks { len: 0, .. },
            fast_open: None,
            md5: None,
            accecn: None,
            ..
        } = *self
        else {
            return match self.write_usual_syn(buf) {
                Some(len) => Some(len),
                None => self.write_list(buf),
            };
        };
        let (head, stamps) = buf.first_chunk_mut::<12>()?.split_at_mut(4);
        head.copy_from_slice(&[kind::NOP, kind::NOP, kind::TIMESTAMPS, 10]);
        stamps.copy_from_slice(&(u64::from(val) << 32 | u64::from(ecr)).to_be_bytes());
        Some(12)
    }

    /// Writes what [`Self::read_usual_syn`] reads, if it is that.
    #[inline(never)]
    fn write_usual_syn(&self, buf: &mut [u8]) -> Option<usize> {
        let Options {
            mss: Some(mss),
            window_scale: Some(shift),
            sack_permitted: true,
            timestamps: Some(Timestamps { val, ecr }),
            sack: SackBlocks { len: 0, .. },
            fast_open: None,
            md5: None,
            md5_last: _,
            accecn: None,
        } = *self
        else {
            return None;
        };
        let [hi, lo] = mss.to_be_bytes();
        let words = [
            u32::from_be_bytes([kind::MSS, 4, hi, lo]),
            u32::from_be_bytes([kind::SACK_PERMITTED, 2, kind::TIMESTAMPS, 10]),
            val,
            ecr,
            u32::from_be_bytes([kind::NOP, kind::WINDOW_SCALE, 3, shift]),
        ];
        let (room, _) = buf.first_chunk_mut::<20>()?.as_chunks_mut::<4>();
        for (room, word) in room.iter_mut().zip(words) {
            *room = word.to_be_bytes();
        }
        Some(20)
    }

    fn write_list(&self, buf: &mut [u8]) -> Option<usize> {
        let mut w = OptionWriter::new(buf);
        if let Some(digest) = self.md5.as_ref().filter(|_| !self.md5_last) {
            w.nops(2).md5(digest);
        }
        if let Some(mss) = self.mss {
            w.mss(mss);
        }
        let mut sack_permitted = self.sack_permitted;
        if let Some(Timestamps { val, ecr }) = self.timestamps {
            if core::mem::take(&mut sack_permitted) {
                w.sack_permitted();
            } else {
                w.nops(2);
            }
            w.timestamps(val, ecr);
        }
        // Accurate ECN's bytes over a multiple of four, one or two, stand where the next option would have padding.
        let (mut bytes, mut over) = ([0; 11], 0..0);
        if let Some(accecn) = &self.accecn {
            let len = accecn.encoded_len();
            bytes = accecn.bytes();
            over = if len % 4 == 3 { len..len } else { len - len % 4..len };
            w.bytes(&bytes[..over.start]).pad();
        }
        let mut padding = |w: &mut OptionWriter<'_>, room: usize| {
            let over = if over.len() <= room {
                core::mem::take(&mut over)
            } else {
                0..0
            };
            w.bytes(&bytes[over.clone()]).nops(room - over.len());
        };
        if sack_permitted {
            padding(&mut w, 2);
            w.sack_permitted();
        }
        if let Some(shift) = self.window_scale {
            padding(&mut w, 1);
            w.window_scale(shift);
        }
        if !self.sack.is_empty() {
            padding(&mut w, 2);
            w.sack(&self.sack);
        }
        w.bytes(&bytes[over]).pad();
        if let Some(fast_open) = &self.fast_open {
            w.fast_open(fast_open).pad();
        }
        if let Some(digest) = self.md5.as_ref().filter(|_| self.md5_last) {
            w.nops(2).md5(digest);
        }
        w.finish()
    }
}

fn read_pair(bytes: &[u8; 8]) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = *bytes;
    (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
}

fn read_timestamps(bytes: &[u8; 8]) -> Timestamps {
    let (val, ecr) = read_pair(bytes);
    Timestamps { val, ecr }
}

/// One option as it stands in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawOption<'a> {
    /// See [`kind`].
    pub kind: u8,
    /// What follows kind and length; nothing for [`kind::NOP`].
    pub data: &'a [u8],
}

/// A header's options in their order, paddings included. Ends at [`kind::END`], and where a length makes no sense.
#[derive(Clone, Debug)]
pub struct OptionIter<'a> {
    rest: &'a [u8],
}

impl<'a> OptionIter<'a> {
    /// The options in `bytes`.
    pub fn new(bytes: &'a [u8]) -> OptionIter<'a> {
        OptionIter { rest: bytes }
    }

    /// What has not been read: after the last option, what could not be.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for OptionIter<'a> {
    type Item = RawOption<'a>;

    fn next(&mut self) -> Option<RawOption<'a>> {
        let rest = self.rest;
        let (kind, len, skip) = match *rest {
            [] | [kind::END, ..] => return None,
            [kind::NOP, ..] => (kind::NOP, 1, 1),
            [kind, len, ..] if len >= 2 => (kind, usize::from(len), 2),
            _ => return None,
        };
        let data = rest.get(skip..len)?;
        self.rest = &rest[len..];
        Some(RawOption { kind, data })
    }
}

/// Writes options one after the other, padded only where the caller asks for it.
#[derive(Debug)]
pub struct OptionWriter<'b> {
    buf: &'b mut [u8],
    len: usize,
    overflown: bool,
}

impl<'b> OptionWriter<'b> {
    /// Writes to the front of `buf`, 40 bytes at most.
    pub fn new(buf: &'b mut [u8]) -> OptionWriter<'b> {
        let room = buf.len().min(MAX_OPTIONS_LEN);
        OptionWriter {
            buf: &mut buf[..room],
            len: 0,
            overflown: false,
        }
    }

    /// Bytes written.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes written in all, or `None` when something didn't fit.
    pub fn finish(&mut self) -> Option<usize> {
        (!self.overflown).then_some(self.len)
    }

    /// Appends bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        match self.buf.get_mut(self.len..self.len + bytes.len()) {
            Some(to) if !self.overflown => {
                to.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            _ => self.overflown = true,
        }
        self
    }

    /// Appends an option of any kind, with its length.
    pub fn option(&mut self, kind: u8, data: &[u8]) -> &mut Self {
        // Longer data than a length can tell doesn't fit in 40 bytes either.
        self.bytes(&[kind, (data.len() + 2).min(255) as u8]).bytes(data)
    }

    /// Appends `count` NOPs.
    pub fn nops(&mut self, count: usize) -> &mut Self {
        for _ in 0..count {
            self.bytes(&[kind::NOP]);
        }
        self
    }

    /// Appends the NOPs that are missing to a multiple of four.
    pub fn pad(&mut self) -> &mut Self {
        self.nops(self.len.next_multiple_of(4) - self.len)
    }

    /// Appends the mark that ends the list.
    pub fn end(&mut self) -> &mut Self {
        self.bytes(&[kind::END])
    }

    /// Appends a maximum segment size.
    pub fn mss(&mut self, mss: u16) -> &mut Self {
        self.option(kind::MSS, &mss.to_be_bytes())
    }

    /// Appends a window scale.
    pub fn window_scale(&mut self, shift: u8) -> &mut Self {
        self.option(kind::WINDOW_SCALE, &[shift])
    }

    /// Appends SACK permitted.
    pub fn sack_permitted(&mut self) -> &mut Self {
        self.option(kind::SACK_PERMITTED, &[])
    }

    /// Appends timestamps.
    pub fn timestamps(&mut self, val: u32, ecr: u32) -> &mut Self {
        self.bytes(&[kind::TIMESTAMPS, 10])
            .bytes(&val.to_be_bytes())
            .bytes(&ecr.to_be_bytes())
    }

    /// Appends SACK blocks.
    pub fn sack(&mut self, blocks: &[(u32, u32)]) -> &mut Self {
        self.bytes(&[kind::SACK, (2 + 8 * blocks.len()).min(255) as u8]);
        for (left, right) in blocks {
            self.bytes(&left.to_be_bytes()).bytes(&right.to_be_bytes());
        }
        self
    }

    /// Appends a Fast Open cookie, or the request for one.
    pub fn fast_open(&mut self, fast_open: &FastOpen) -> &mut Self {
        let len = fast_open.encoded_len() as u8;
        if fast_open.experimental {
            self.bytes(&[kind::EXPERIMENT, len])
                .bytes(&kind::EXPERIMENT_FAST_OPEN.to_be_bytes());
        } else {
            self.bytes(&[kind::FAST_OPEN, len]);
        }
        self.bytes(fast_open.cookie())
    }

    /// Appends an MD5 signature. To sign what is being written, append zeros and note [`len`](Self::len) before.
    pub fn md5(&mut self, digest: &[u8; 16]) -> &mut Self {
        self.option(kind::MD5, digest)
    }
}
