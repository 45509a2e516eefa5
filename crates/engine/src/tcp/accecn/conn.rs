//! Where a connection's segments meet its Accurate ECN.

use super::Feedback;
use super::received::Fit;
use crate::env::Env;
use crate::tcp::auth;
use crate::tcp::conn::Conn;
use crate::tcp::emit::Out;
use crate::tcp::segment::Segment;
use estab_proto::{SeqNum, State, TcpFlags};
use estab_wire::tcp::{MAX_OPTIONS_LEN, Options};

impl Conn {
    /// The control bits, PSH aside, of a segment that brings no news: with Accurate ECN, those of the last one's ACE field
    /// (Linux: `__tcp_fast_path_on`).
    #[inline]
    pub(in crate::tcp) fn usual_flags(&self) -> TcpFlags {
        match self.accecn {
            None => TcpFlags::ACK,
            Some(_) => TcpFlags::ACK | TcpFlags::from_ace((self.snd.marked().wrapping_add(super::ACE_START) & 7) as u8),
        }
    }

    /// Counts the ECN field of an acceptable segment.
    #[inline]
    pub(in crate::tcp) fn count_ecn(&mut self, segment: &Segment<'_>) {
        if self.accecn.is_some() {
            self.count_codepoint(segment);
        }
    }

    #[cold]
    fn count_codepoint(&mut self, segment: &Segment<'_>) {
        let Some(accecn) = &mut self.accecn else {
            return;
        };
        if !segment.payload.is_empty() && accecn.is_bare_among_ect(segment.ecn) {
            // It was sent before: the peer may be in trouble (Linux: `tcp_data_ecn_check`).
            self.rcv.enter_quickack(2);
        }
        if accecn.count(segment.ecn, segment.payload.len(), segment.segments()) {
            self.rcv.hasten_ack();
        }
    }

    /// A packet of the peer's came with ECT: a data packet, or any with Accurate ECN.
    pub(crate) fn has_seen_ect(&self) -> bool {
        self.rcv.has_seen_ect() || self.accecn.as_deref().is_some_and(|accecn| accecn.seen_ect)
    }

    /// What a segment says of our packets' ECN. In the handshake its ACE field is no count yet, and TIME_WAIT's ACK of our FIN
    /// has none.
    #[cold]
    pub(in crate::tcp) fn accurate_feedback(&self, segment: &Segment<'_>) -> Option<Feedback> {
        if self.state == State::SynRcvd || segment.syn() || self.snd.fin_is_acked_by(segment.ack) {
            return None;
        }
        let ts = segment.options.timestamps.filter(|_| self.ts.ok);
        let later = ts.is_some_and(|ts| SeqNum(ts.val).after(SeqNum(self.ts.recent)));
        Some(Feedback {
            ace: segment.flags.ace(),
            option: segment.options.accecn,
            // TS.Recent will move (Linux: FLAG_TS_PROGRESS).
            newer: later && !segment.seq.after(self.rcv.rcv_wup()),
        })
    }

    /// The ACK of our SYN-ACK.
    pub(in crate::tcp) fn third_ack(&mut self, env: &Env, segment: &Segment<'_>) {
        let Some(accecn) = &mut self.accecn else {
            return;
        };
        if let Some(option) = &segment.options.accecn {
            accecn.meet(option);
        }
        if accecn.third_ack(&env.sysctl, segment.flags, segment.payload.is_empty()) && self.snd.marked() == 0 {
            self.snd.count_marks(1);
        }
    }

    /// A segment's data may have come before.
    #[inline]
    pub(in crate::tcp) fn data_came_again(&mut self, segment: &Segment<'_>) {
        if let Some(accecn) = self.accecn.as_mut().filter(|_| segment.seq.before(self.rcv.rcv_nxt())) {
            accecn.came_again(segment.data_seq());
        }
    }

    /// A super-packet of ours would be cut up as RFC 3168 has it, with CWR in the first segment only.
    #[inline]
    pub(in crate::tcp) fn keeps_cwr(&self) -> bool {
        let accecn = self.accecn.as_deref();
        accecn.is_some_and(|accecn| accecn.count_flags().contains(TcpFlags::CWR))
    }

    /// How much of the option a segment with `sacks` SACK blocks takes now, and how many of those stay.
    fn accurate_ecn_fit(&self, env: &Env, sacks: usize) -> Option<Fit> {
        let accecn = self.accecn.as_deref()?;
        if !accecn.wants_option(env.now, &env.sysctl, self.snd.srtt()) {
            return None;
        }
        let taken = self.key().map_or(0, |_| auth::OPTION_LEN) + if self.ts.ok { 12 } else { 0 };
        accecn.fit(MAX_OPTIONS_LEN.saturating_sub(taken as usize), sacks)
    }

    /// Bytes that SACK blocks, of which there are `sacks`, and the option take together.
    #[cold]
    pub(in crate::tcp) fn accurate_ecn_len(&self, env: &Env, sacks: usize) -> u32 {
        let fit = self.accurate_ecn_fit(env, sacks);
        fit.map_or(super::received::len_of(sacks, None), |fit| {
            super::received::len_of(fit.sacks, Some(fit.counters))
        })
    }

    /// What Accurate ECN puts into a segment that leaves: the ACE field, ECT(0), and the option.
    #[cold]
    pub(in crate::tcp) fn accurate_ecn(&mut self, env: &Env, out: &mut Out) {
        let sacks = out.unusual.as_ref().map_or(0, |options| options.sack.len());
        let fit = self.accurate_ecn_fit(env, sacks);
        let Some(accecn) = self.accecn.as_deref_mut() else {
            return;
        };
        out.flags |= accecn.take_flags(out.len == 0);
        out.ect = accecn.sends_ect();
        let Some(fit) = fit else {
            return accecn.leave_option();
        };
        let timestamps = out.timestamps;
        let options = out.unusual.get_or_insert_with(|| Options {
            timestamps,
            ..Options::default()
        });
        options.sack.truncate(fit.sacks);
        let dsack = options.sack.first().map(|(left, _)| SeqNum(*left));
        let dsack = dsack.filter(|left| left.before(out.ack));
        options.accecn = Some(accecn.take_option(env.now, fit.counters, dsack));
    }
}
