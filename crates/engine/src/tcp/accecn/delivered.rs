//! What the peer tells of our packets: how many of those that an ACK delivers were marked (RFC 9768 §3.2.2.5, §3.2.3,
//! appendix A).

use super::codepoint::{CE, ECT0, ECT1};
use super::received::codepoint_index;
use super::{ACE_START, AccEcn, ORDER, Seen};
use estab_wire::tcp::AccEcn as AccEcnOption;

/// The most that 3 bits tell.
const ACE_MASK: u32 = 7;
/// ACKs of more packets than this on average come few and large: a sudden large one is no sign of marks that wrapped the ACE
/// field (Linux: ACK_COMP_THRESH).
const LARGE_ACKS: u32 = 4;
/// Without its option before the first half of a counter's range was sent, its counters could have wrapped unseen.
const TOO_LATE: u64 = (1 << 23) - 1;

/// What an ACK says of our packets' ECN.
pub(crate) struct Feedback {
    /// Its ACE field.
    pub(crate) ace: u8,
    pub(crate) option: Option<AccEcnOption>,
    /// Its timestamp is newer than the last one.
    pub(crate) newer: bool,
}

/// What the sender made of that ACK.
pub(crate) struct Delivery {
    /// It acknowledged something, selectively or not.
    pub(crate) progress: bool,
    pub(crate) packets: u32,
    pub(crate) bytes: u32,
    /// Packets known to have been marked before it.
    pub(crate) marked: u32,
    pub(crate) bytes_sent: u64,
    pub(crate) mss: u32,
    /// `packets` is exact: there is SACK, or nothing was lost.
    pub(crate) exact: bool,
}

impl AccEcn {
    /// How many more packets were marked (Linux: `__tcp_accecn_process`). The ACE field tells it modulo 8; after an ACK of more
    /// packets than that, the option tells more, or the safer answer is the larger one.
    pub(crate) fn new_marks(&mut self, told: &Feedback, of: &Delivery) -> u32 {
        if !of.progress && !told.newer {
            // It may have been overtaken.
            return 0;
        }
        let marked_bytes = self.counters(told, of);
        self.average(of.packets);
        let delta = u32::from(told.ace).wrapping_sub(ACE_START).wrapping_sub(of.marked) & ACE_MASK;
        if of.packets <= ACE_MASK {
            return delta;
        }
        let most = of.packets - ((of.packets - delta) & ACE_MASK);
        let full = |segments: u32| u64::from(segments) * u64::from(of.mss);
        match marked_bytes {
            Some(0) => delta,
            Some(bytes) if of.packets > 2 * ACE_MASK + 1 && of.exact => {
                if of.bytes <= bytes {
                    return most;
                }
                let share = (u64::from(bytes) * u64::from(of.packets)).div_ceil(u64::from(of.bytes));
                most.min(delta + (share as u32 & !ACE_MASK))
            }
            Some(bytes) if u64::from(bytes) > full(delta) => most,
            // Marks that wrapped would have been full segments, or at least half.
            Some(bytes) if u64::from(bytes) < full(most) / 2 => delta,
            None if self.ack_ewma > LARGE_ACKS << 6 => delta,
            _ => most,
        }
    }

    fn average(&mut self, packets: u32) {
        let average = &mut self.ack_ewma;
        if packets > 0 {
            *average = match *average {
                0 => packets << 6,
                old => ((old << 6) - old + (packets << 6)) >> 6,
            }
            .min(0xffff);
        }
    }

    /// Brings the byte counters up to date: by the option or, without one, by giving all to the codepoint that took all between
    /// the last two. How many marked bytes that makes more, if it can be trusted (Linux: `tcp_accecn_process_option`).
    fn counters(&mut self, told: &Feedback, of: &Delivery) -> Option<u32> {
        if let Some(option) = &told.option {
            self.meet(option);
        }
        if self.failed.option {
            return None;
        }
        let before = self.delivered[usize::from(codepoint_index(CE))];
        let trusted = match &told.option {
            Some(option) => self.take_counters(option),
            None if self.seen == Seen::Not => {
                if of.bytes_sent >= TOO_LATE {
                    (self.seen, self.failed.option) = (Seen::Spoilt, true);
                }
                false
            }
            None if self.estimate != 0 => {
                let counter = &mut self.delivered[usize::from(codepoint_index(self.estimate))];
                *counter = counter.wrapping_add(of.bytes);
                true
            }
            None => false,
        };
        trusted.then(|| self.delivered[usize::from(codepoint_index(CE))].wrapping_sub(before))
    }

    /// Takes the option's counters. True if since the last one nothing but the estimate's codepoint has grown, or one counter
    /// did for the first time: then the estimate was right, or there is one now.
    fn take_counters(&mut self, option: &AccEcnOption) -> bool {
        let order = match option.ect1_first {
            true => [ECT1, CE, ECT0],
            false => [ECT0, CE, ECT1],
        };
        let estimate = self.estimate;
        let (mut trusted, mut ambiguous, mut changed) = (estimate != 0, false, false);
        for (codepoint, told) in order.into_iter().zip(option.counters()) {
            let start = ORDER
                .iter()
                .find(|(of, _)| *of == codepoint)
                .map_or(0, |(_, start)| *start);
            let counter = &mut self.delivered[usize::from(codepoint_index(codepoint))];
            // 24 bits, with a sign: an estimate may have been too large.
            let delta = (told.wrapping_sub(start).wrapping_sub(*counter) << 8) as i32 >> 8;
            *counter = counter.wrapping_add_signed(delta);
            if delta < 0 {
                ambiguous = true;
            }
            if delta != 0 && codepoint != estimate {
                ambiguous |= changed;
                if !core::mem::replace(&mut changed, true) {
                    self.estimate = codepoint;
                }
            }
        }
        if ambiguous {
            trusted = false;
            self.estimate = 0;
        }
        trusted
    }
}
