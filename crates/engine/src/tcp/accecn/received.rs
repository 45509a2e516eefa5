//! What came, counted, and how the peer is told: the ACE field of every segment, and the option (RFC 9768 §3.2).

use super::codepoint::{CE, ECT0, ECT1, NOT_ECT};
use super::{ACE_START, AccEcn, ORDER, Seen, handshake};
use crate::Instant;
use crate::sysctl::Sysctls;
use core::time::Duration;
use estab_proto::{SeqNum, TcpFlags};
use estab_wire::tcp::{AccEcn as AccEcnOption, MAX_OPTIONS_LEN, Options};

/// So many marks untold are the most that an ACE field of 3 bits tells for sure (Linux: TCP_ACCECN_ACE_MAX_DELTA).
const MOST_UNTOLD: u8 = 6;

/// A counter that has passed a multiple of this is told of, lest it wrap unseen (RFC 9768 §3.2.3.3).
const TELL_EVERY: u32 = 22;

/// What the option takes beside others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fit {
    pub(crate) counters: usize,
    /// SACK blocks that stay.
    pub(crate) sacks: usize,
}

impl AccEcn {
    /// An acceptable packet, or several merged, came. What the ACK of it must not do is wait: after a change of codepoint, or
    /// when more marks would be more than it can tell.
    pub(crate) fn count(&mut self, codepoint: u8, payload: usize, packets: u32) -> bool {
        let (ce, change) = (codepoint == CE, self.last != codepoint);
        if codepoint != NOT_ECT {
            self.seen_ect = true;
            if ce {
                self.received_ce = self.received_ce.wrapping_add(packets);
                self.untold = (u32::from(self.untold) + packets).min(15) as u8;
            }
            if payload > 0 {
                self.fresh = self.fresh.max(match codepoint {
                    ECT1 => 1,
                    CE => 2,
                    _ => 3,
                });
                let bytes = &mut self.received[usize::from(codepoint_index(codepoint))];
                let before = core::mem::replace(bytes, bytes.wrapping_add(payload as u32));
                if (*bytes ^ before) >> TELL_EVERY != 0 {
                    self.demand = self.demand.max(1);
                }
            }
        }
        if change || ce {
            // Two, so that the second one's difference is of this codepoint alone.
            (self.last, self.demand) = (codepoint, 2);
        }
        change || self.untold >= MOST_UNTOLD
    }

    /// ECT was seen, and yet this came without: probably it was sent before.
    pub(crate) fn is_bare_among_ect(&self, codepoint: u8) -> bool {
        codepoint == NOT_ECT && self.seen_ect
    }

    /// The ACE field that counts (RFC 9768 §3.2.2).
    pub(crate) fn count_flags(&self) -> TcpFlags {
        TcpFlags::from_ace((self.received_ce.wrapping_add(ACE_START) & 7) as u8)
    }

    /// The ACE field of a segment that leaves, `bare` if without data.
    pub(crate) fn take_flags(&mut self, bare: bool) -> TcpFlags {
        if core::mem::take(&mut self.reflect) && bare {
            return handshake::reflected(self.syn);
        }
        self.untold = 0;
        self.count_flags()
    }

    /// Our packets are ECT(0), unless their marks would not come back.
    pub(crate) fn sends_ect(&self) -> bool {
        !self.failed.ace
    }

    /// The option is due on a segment that leaves now (`tcp_ecn_option`, `tcp_ecn_option_beacon`; Linux:
    /// `tcp_established_options`, `tcp_accecn_option_beacon_check`).
    pub(crate) fn wants_option(&self, now: Instant, sysctl: &Sysctls, srtt: Option<Duration>) -> bool {
        let mode = sysctl.tcp_ecn_option;
        if mode == 0 || self.seen == Seen::Not || self.failed.our_option && mode < 3 {
            return false;
        }
        let beacon = sysctl.tcp_ecn_option_beacon;
        let is_due = || now.since(self.told_at) * beacon >= srtt.unwrap_or_default();
        mode >= 2 || self.demand > 0 || beacon > 0 && is_due()
    }

    /// How much of the option `space` bytes have room for beside `sacks` SACK blocks: at least the counters with news, at the
    /// price of blocks beyond the second (Linux: `tcp_options_fit_accecn`).
    pub(crate) fn fit(&self, space: usize, sacks: usize) -> Option<Fit> {
        let least = usize::from(self.fresh);
        let fewest = if least > 0 { sacks.min(2) } else { sacks };
        (fewest..=sacks).rev().find_map(|sacks| {
            let counters = (least..=AccEcnOption::MAX)
                .rev()
                .find(|counters| len_of(sacks, Some(*counters)) as usize <= space)?;
            Some(Fit { counters, sacks })
        })
    }

    fn option(&self, counters: usize) -> AccEcnOption {
        let all = ORDER.map(|(of, start)| self.received[usize::from(codepoint_index(of))].wrapping_add(start));
        AccEcnOption::new(true, &all[..counters])
    }

    /// The option with so many counters leaves, beside a DSACK that begins at `dsack`.
    pub(crate) fn take_option(&mut self, now: Instant, counters: usize, dsack: Option<SeqNum>) -> AccEcnOption {
        self.fresh = 0;
        self.demand = self.demand.saturating_sub(1);
        self.told_at = now;
        self.told_with_dsack = dsack;
        self.option(counters)
    }

    /// A segment leaves without the option.
    pub(crate) fn leave_option(&mut self) {
        self.told_with_dsack = None;
    }

    /// Data that begins at `seq` came again. If the ACK that told so carried the option, perhaps the option is why it did not
    /// arrive (RFC 9768 §3.2.3.2.2; Linux: `tcp_rcv_spurious_retrans`).
    pub(crate) fn came_again(&mut self, seq: SeqNum) {
        self.failed.our_option |= self.told_with_dsack == Some(seq);
    }
}

/// Bytes of so many SACK blocks, and of an option with so many counters beside them.
pub(super) fn len_of(sacks: usize, counters: Option<usize>) -> u32 {
    let options = Options {
        sack: core::iter::repeat_n((0, 0), sacks).collect(),
        accecn: counters.map(|counters| AccEcnOption::new(true, &[0; AccEcnOption::MAX][..counters])),
        ..Options::default()
    };
    options.encoded_len() as u32
}

/// Where a codepoint's bytes are counted.
pub(super) fn codepoint_index(codepoint: u8) -> u8 {
    match codepoint {
        ECT1 => 0,
        ECT0 => 1,
        _ => 2,
    }
}

/// Adds to a SYN-ACK's options as much of the option as they leave room for, its counters as they begin (Linux:
/// `tcp_synack_options`).
pub(crate) fn add_first_option(options: &mut Options) {
    if options.encoded_len() + 2 > MAX_OPTIONS_LEN {
        return;
    }
    let start = ORDER.map(|(_, start)| start);
    for counters in (0..=start.len()).rev() {
        options.accecn = Some(AccEcnOption::new(true, &start[..counters]));
        if options.encoded_len() <= MAX_OPTIONS_LEN {
            return;
        }
    }
    options.accecn = None;
}
