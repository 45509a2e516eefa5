//! A stack's counters: Linux's by Linux's names, and one per [`DropReason`].

use crate::drop::DropReason;
use estab_proto::Counter;

/// The counters of a stack.
#[derive(Clone, Debug)]
pub struct Mib {
    counters: [u64; Counter::COUNT],
    drops: [u64; DropReason::COUNT],
}

impl Mib {
    pub(crate) fn new() -> Mib {
        Mib {
            counters: [0; Counter::COUNT],
            drops: [0; DropReason::COUNT],
        }
    }

    /// The value of one of Linux's counters.
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters[counter.index()]
    }

    /// How many packets were discarded for `reason`.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// All of Linux's counters with their values, in `nstat`'s order of groups.
    pub fn iter(&self) -> impl Iterator<Item = (Counter, u64)> + '_ {
        Counter::ALL.iter().map(|counter| (*counter, self.get(*counter)))
    }

    /// All reasons to discard a packet, with how often each occurred.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|reason| (*reason, self.dropped(*reason)))
    }

    /// One more.
    #[inline]
    pub(crate) fn inc(&mut self, counter: Counter) {
        self.add(counter, 1);
    }

    /// `n` more.
    #[inline]
    pub(crate) fn add(&mut self, counter: Counter, n: u64) {
        let value = &mut self.counters[counter.index()];
        *value = value.wrapping_add(n);
    }

    /// One less: only for a gauge, such as `TcpCurrEstab`.
    pub(crate) fn dec(&mut self, counter: Counter) {
        let value = &mut self.counters[counter.index()];
        *value = value.saturating_sub(1);
    }

    /// A packet was discarded.
    pub(crate) fn drop(&mut self, reason: DropReason) {
        self.drops[reason as usize] += 1;
    }
}
