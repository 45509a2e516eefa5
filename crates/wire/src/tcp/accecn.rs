//! The Accurate ECN option (RFC 9768 §3.2.3).

use super::kind;

/// The Accurate ECN option: up to three counters of 24 bits, in one of two orders (RFC 9768 §3.2.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccEcn {
    counters: [u32; AccEcn::MAX],
    len: u8,
    /// Kind 174, whose order is ECT(1), CE, ECT(0); else kind 172: ECT(0), CE, ECT(1).
    pub ect1_first: bool,
}

impl AccEcn {
    /// Counters that an option holds at most.
    pub const MAX: usize = 3;

    /// An option of the first three `counters`, of which the low 24 bits count, in the option's order.
    pub fn new(ect1_first: bool, counters: &[u32]) -> AccEcn {
        let mut option = AccEcn {
            ect1_first,
            ..AccEcn::default()
        };
        for (mine, counter) in option.counters.iter_mut().zip(counters) {
            *mine = counter & 0xff_ffff;
            option.len += 1;
        }
        option
    }

    /// What stands behind kind and length; what a length of 2, 5, 8 or 11 does not account for is passed over, as Linux does.
    pub(super) fn read(ect1_first: bool, data: &[u8]) -> AccEcn {
        let mut option = AccEcn::new(ect1_first, &[]);
        for (counter, &[a, b, c]) in option.counters.iter_mut().zip(data.as_chunks::<3>().0) {
            *counter = u32::from_be_bytes([0, a, b, c]);
            option.len += 1;
        }
        option
    }

    /// The counters, in the option's order.
    pub fn counters(&self) -> &[u32] {
        &self.counters[..usize::from(self.len)]
    }

    /// The option's own bytes, of which there are [`len`](Self::encoded_len).
    pub(super) fn bytes(&self) -> [u8; 11] {
        let mut bytes = [0; 11];
        let kind = if self.ect1_first { kind::ACCECN1 } else { kind::ACCECN0 };
        bytes[..2].copy_from_slice(&[kind, self.encoded_len() as u8]);
        for (to, counter) in bytes[2..].chunks_exact_mut(3).zip(self.counters()) {
            to.copy_from_slice(&counter.to_be_bytes()[1..]);
        }
        bytes
    }

    pub(super) fn encoded_len(&self) -> usize {
        2 + 3 * usize::from(self.len)
    }
}
