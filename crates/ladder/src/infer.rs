//! An end's state, told from the segments it sent and got (RFC 9293 §3.10), by proto's table.

use estab_proto::state::{TRANSITIONS, Trigger};
use estab_proto::{SegmentTrace, SeqNum, State, TcpFlags};

/// One end of a connection as its segments show it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) state: State,
    /// The first sequence number it sent: the base of its relative numbers.
    pub(crate) isn: Option<SeqNum>,
    fin: Option<SeqNum>,
    opened_actively: bool,
}

impl End {
    pub(crate) fn new() -> End {
        End {
            state: State::Closed,
            isn: None,
            fin: None,
            opened_actively: false,
        }
    }

    /// A connection seen from its middle: both ends are taken for established.
    pub(crate) fn midstream(first: SeqNum) -> End {
        End {
            state: State::Established,
            isn: Some(first - 1),
            fin: None,
            opened_actively: false,
        }
    }

    /// This end sent `segment`.
    pub(crate) fn sent(&mut self, segment: &SegmentTrace) {
        let flags = segment.flags;
        if flags.contains(TcpFlags::RST) {
            self.state = State::Closed;
            return;
        }
        if flags.contains(TcpFlags::SYN) {
            self.isn = Some(segment.seq);
            if flags.contains(TcpFlags::ACK) {
                if self.state == State::Closed {
                    self.state = State::SynRcvd;
                }
            } else {
                self.opened_actively = true;
                self.step(Trigger::ActiveOpen);
            }
        }
        if flags.contains(TcpFlags::FIN) && self.fin.is_none() {
            self.fin = Some(segment.seq + segment.len);
            self.step(Trigger::Close);
        }
    }

    /// `segment` reached this end.
    pub(crate) fn received(&mut self, segment: &SegmentTrace) {
        let flags = segment.flags;
        if flags.contains(TcpFlags::RST) {
            self.state = match self.state {
                State::SynRcvd if !self.opened_actively => State::Listen,
                _ => State::Closed,
            };
            return;
        }
        let acks = |seq: Option<SeqNum>| flags.contains(TcpFlags::ACK) && seq.is_some_and(|seq| segment.ack.after(seq));
        if flags.contains(TcpFlags::SYN) {
            if self.state == State::Closed {
                self.step(Trigger::PassiveOpen);
            }
            self.step(if acks(self.isn) {
                Trigger::RcvSynAck
            } else {
                Trigger::RcvSyn
            });
        } else if self.state == State::SynRcvd && acks(self.isn) {
            self.step(Trigger::RcvAckOfSyn);
        }
        match (flags.contains(TcpFlags::FIN), acks(self.fin)) {
            (true, true) if self.state == State::FinWait1 => self.step(Trigger::RcvFinAckOfFin),
            (true, acked) => {
                if acked {
                    self.step(Trigger::RcvAckOfFin);
                }
                self.step(Trigger::RcvFin);
            }
            (false, true) => self.step(Trigger::RcvAckOfFin),
            (false, false) => {}
        }
    }

    /// Follows the arrow for `on`, if the state has one.
    fn step(&mut self, on: Trigger) {
        if let Some(arrow) = TRANSITIONS.iter().find(|t| t.from == self.state && t.on == on) {
            self.state = arrow.to;
        }
    }
}
