//! The Internet checksum (RFC 1071): sums, sums fused with a copy, sums put together from pieces, and incremental
//! updates (RFC 1624).
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A ones' complement sum in the making.
///
/// Pieces may be of any length: after a piece of odd length the next one is taken to start at an odd offset, as it
/// does in the packet they are pieces of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    /// Sum of 16-bit words in the machine's byte order: the ones' complement sum doesn't mind (RFC 1071 §2.B).
    words: u64,
    /// Whether an odd number of bytes has been added.
    odd: bool,
}

impl Sum {
    /// The sum of nothing.
    pub const fn new() -> Sum {
        Sum { words: 0, odd: false }
    }

    /// The sum of `bytes`.
    pub fn of(bytes: &[u8]) -> Sum {
        Sum {
            words: sum_words(bytes),
            odd: bytes.len() % 2 == 1,
        }
    }

    /// The sum of TCP's or UDP's pseudo-header: RFC 9293 §3.1 over IPv4, RFC 8200 §8.1 over IPv6. `len` is that of
    /// the transport header and its payload. Addresses of different families (a caller's mistake) are each summed.
    #[inline]
    pub fn pseudo(src: IpAddr, dst: IpAddr, protocol: u8, len: usize) -> Sum {
        let mut sum = Sum::new();
        for addr in [src, dst] {
            match addr {
                IpAddr::V4(addr) => sum.words += u64::from(u32::from_ne_bytes(addr.octets())),
                IpAddr::V6(addr) => sum.words += narrow(u128::from_ne_bytes(addr.octets())),
            }
        }
        sum.words += u64::from((len as u32).to_be()) + u64::from(u16::from(protocol).to_be());
        sum
    }

    /// The pseudo-header's sum over IPv4.
    pub fn pseudo_v4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, len: usize) -> Sum {
        Sum::pseudo(IpAddr::V4(src), IpAddr::V4(dst), protocol, len)
    }

    /// The pseudo-header's sum over IPv6.
    pub fn pseudo_v6(src: Ipv6Addr, dst: Ipv6Addr, protocol: u8, len: usize) -> Sum {
        Sum::pseudo(IpAddr::V6(src), IpAddr::V6(dst), protocol, len)
    }

    /// Adds the bytes that follow.
    pub fn add_bytes(&mut self, bytes: &[u8]) {
        self.add(Sum::of(bytes));
    }

    /// Adds a 16-bit number, in network order, that follows.
    pub fn add_u16(&mut self, value: u16) {
        self.add(Sum {
            words: u64::from(value.to_be()),
            odd: false,
        });
    }

    /// Adds a 32-bit number, in network order, that follows.
    #[inline]
    pub fn add_u32(&mut self, value: u32) {
        self.add(Sum {
            words: u64::from(value.to_be()),
            odd: false,
        });
    }

    /// Adds the sum of a piece that follows (a payload's, say, made when it was copied).
    #[inline]
    pub fn add(&mut self, piece: Sum) {
        // At an odd offset, every byte has the other place in its word (RFC 1071 §2.B).
        self.words += match self.odd {
            true => u64::from(fold(piece.words).swap_bytes()),
            false => halves(piece.words),
        };
        self.odd ^= piece.odd;
    }

    /// The sum so far, in 16 bits, not inverted: what a partial checksum (NEEDS_CSUM) holds.
    pub fn fold(self) -> u16 {
        u16::from_be(fold(self.words))
    }

    /// The checksum as it stands in a header. Over data that includes a right checksum it is 0.
    pub fn finish(self) -> u16 {
        !self.fold()
    }

    /// The checksum as it stands in a UDP header, where 0 means "none" and 0xffff stands in for it (RFC 768).
    pub fn finish_udp(self) -> u16 {
        match self.finish() {
            0 => 0xffff,
            sum => sum,
        }
    }

    /// Whether the data summed includes its own checksum, and that is right.
    pub fn is_right(self) -> bool {
        self.finish() == 0
    }
}

/// The checksum of `bytes`.
pub fn checksum(bytes: &[u8]) -> u16 {
    Sum::of(bytes).finish()
}

/// The checksum of 32-bit words, few of them, that stand in network order where they are summed.
#[inline]
pub(crate) fn of_words(words: &[u32]) -> u16 {
    !fold(words.iter().map(|word| u64::from(*word)).sum())
}

/// Copies `src` into the front of `dst` and sums it, in one pass over memory. Copies as much as fits.
pub fn copy_and_sum(dst: &mut [u8], src: &[u8]) -> Sum {
    // What was just copied is summed while it is in the nearest cache: faster than a loop that does both at once.
    const BLOCK: usize = 2048;
    let len = dst.len().min(src.len());
    if len <= BLOCK {
        dst[..len].copy_from_slice(&src[..len]);
        return Sum::of(&src[..len]);
    }
    let mut words = 0;
    for (dst, src) in dst[..len].chunks_mut(BLOCK).zip(src[..len].chunks(BLOCK)) {
        dst.copy_from_slice(src);
        words += sum_words(src);
    }
    Sum {
        words,
        odd: len % 2 == 1,
    }
}

/// The checksum after a 16-bit word under it changed from `old` to `new` (RFC 1624 eqn. 3).
pub fn update_u16(checksum: u16, old: u16, new: u16) -> u16 {
    !fold(u64::from(!checksum) + u64::from(!old) + u64::from(new))
}

/// The checksum after an aligned 32-bit word under it changed from `old` to `new`.
pub fn update_u32(checksum: u16, old: u32, new: u32) -> u16 {
    let checksum = update_u16(checksum, (old >> 16) as u16, (new >> 16) as u16);
    update_u16(checksum, old as u16, new as u16)
}

/// Ones' complement sum of 16-bit words, folded into one.
#[inline]
fn fold(sum: u64) -> u16 {
    let sum = halves(halves(sum)) as u32;
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// Adds the upper half of a sum to the lower, which leaves 33 bits, and the second time 32.
#[inline]
fn halves(sum: u64) -> u64 {
    (sum & 0xffff_ffff) + (sum >> 32)
}

/// Folds a sum of 64-bit words into few enough bits that billions of them can be added.
fn narrow(sum: u128) -> u64 {
    halves(sum as u64) + halves((sum >> 64) as u64)
}

/// Sums `bytes` as words in the machine's order, a last odd byte as if 0 followed it.
///
/// Four sums with carries of their own keep the adders of any 64-bit machine busy: vectors, which know no carry, were
/// measured to gain little over it and would have to ask what the machine can do.
fn sum_words(bytes: &[u8]) -> u64 {
    let (mut sum, mut rest) = (0, bytes);
    if bytes.len() >= 128 {
        let mut sums = [0u128; 4];
        let (rounds, after) = bytes.as_chunks::<32>();
        for round in rounds {
            for (sum, word) in sums.iter_mut().zip(round.as_chunks().0) {
                *sum += u128::from(u64::from_ne_bytes(*word));
            }
        }
        sum = sums.iter().sum();
        rest = after;
    }
    let (words, mut rest) = rest.as_chunks();
    for word in words {
        sum += u128::from(u64::from_ne_bytes(*word));
    }
    if let Some((word, tail)) = rest.split_first_chunk() {
        sum += u128::from(u32::from_ne_bytes(*word));
        rest = tail;
    }
    if let Some((word, tail)) = rest.split_first_chunk() {
        sum += u128::from(u16::from_ne_bytes(*word));
        rest = tail;
    }
    if let [last] = rest {
        sum += u128::from(u16::from_ne_bytes([*last, 0]));
    }
    narrow(sum)
}
