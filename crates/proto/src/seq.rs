//! Sequence numbers (RFC 9293 §3.4): 32 bits that wrap, so they have `before` and `after` but no order.

use core::fmt;
use core::ops::{Add, AddAssign, Sub};

/// A TCP sequence number.
///
/// It has no `Ord`: "less than" means nothing on a circle. Use [`before`](Self::before) and
/// [`after`](Self::after), which compare within half the circle (Linux: `before()`, `after()`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SeqNum(pub u32);

impl SeqNum {
    /// `self` comes strictly earlier than `other`.
    pub const fn before(self, other: SeqNum) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// `self` comes strictly later than `other`.
    pub const fn after(self, other: SeqNum) -> bool {
        other.before(self)
    }

    /// `self` is `other` or comes earlier.
    pub const fn at_or_before(self, other: SeqNum) -> bool {
        !self.after(other)
    }

    /// `self` is `other` or comes later.
    pub const fn at_or_after(self, other: SeqNum) -> bool {
        !self.before(other)
    }

    /// `low` ≤ `self` ≤ `high` on the circle (Linux: `between()`).
    pub const fn between(self, low: SeqNum, high: SeqNum) -> bool {
        high.0.wrapping_sub(low.0) >= self.0.wrapping_sub(low.0)
    }

    /// Bytes from `earlier` to `self`; 0 when `self` is the earlier one.
    pub const fn since(self, earlier: SeqNum) -> u32 {
        if self.before(earlier) {
            0
        } else {
            self.0.wrapping_sub(earlier.0)
        }
    }

    /// The later of the two.
    pub const fn max(self, other: SeqNum) -> SeqNum {
        if self.before(other) { other } else { self }
    }

    /// The earlier of the two.
    pub const fn min(self, other: SeqNum) -> SeqNum {
        if self.before(other) { self } else { other }
    }
}

impl Add<u32> for SeqNum {
    type Output = SeqNum;
    fn add(self, bytes: u32) -> SeqNum {
        SeqNum(self.0.wrapping_add(bytes))
    }
}

impl AddAssign<u32> for SeqNum {
    fn add_assign(&mut self, bytes: u32) {
        *self = *self + bytes;
    }
}

impl Sub<u32> for SeqNum {
    type Output = SeqNum;
    fn sub(self, bytes: u32) -> SeqNum {
        SeqNum(self.0.wrapping_sub(bytes))
    }
}

/// The signed distance on the circle: negative when `self` comes earlier.
impl Sub<SeqNum> for SeqNum {
    type Output = i32;
    fn sub(self, other: SeqNum) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }
}

impl fmt::Debug for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
