//! Connections gathered from a trace, each with its beginning and its end, in bounded memory.

use crate::infer::End;
use estab_proto::{SegmentTrace, State, TcpFlags, TimerKind, TraceEvent, TraceKind};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

/// How much a [`Collector`] keeps.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections; later ones are only counted.
    pub exchanges: usize,
    /// Steps kept of a connection's beginning.
    pub head: usize,
    /// Steps kept of a connection's end.
    pub tail: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            exchanges: 64,
            head: 24,
            tail: 16,
        }
    }
}

/// One line of a ladder, with both ends' states after it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) at_ns: u64,
    pub(crate) what: What,
    pub(crate) local: State,
    pub(crate) remote: State,
}

// Nearly every step is a segment: boxing it would cost more than the few others waste.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    /// A segment, with relative sequence numbers.
    Segment {
        ours: bool,
        segment: SegmentTrace,
        dropped: Option<&'static str>,
    },
    /// A timer fired at our end.
    Timer { kind: TimerKind, retries: u8 },
    /// Our end changed state without a segment.
    State,
}

/// What stands between the beginning and the end that were kept.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Skipped {
    pub(crate) segments_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) segments_out: u64,
    pub(crate) bytes_out: u64,
    pub(crate) others: u64,
}

/// One connection.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Our end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// The other end sent the first SYN.
    pub opened_by_remote: bool,
    pub(crate) head: Vec<Step>,
    pub(crate) skipped: Skipped,
    pub(crate) tail: VecDeque<Step>,
    ours: End,
    theirs: End,
    /// Our state comes from the trace, not from inference.
    traced: bool,
    over: bool,
}

impl Exchange {
    fn new(local: SocketAddr, remote: SocketAddr) -> Exchange {
        Exchange {
            local,
            remote,
            opened_by_remote: false,
            head: Vec::new(),
            skipped: Skipped::default(),
            tail: VecDeque::new(),
            ours: End::new(),
            theirs: End::new(),
            traced: false,
            over: false,
        }
    }

    /// Both ends' last states: ours, the other's.
    pub fn states(&self) -> (State, State) {
        (self.ours.state, self.theirs.state)
    }

    fn add(&mut self, event: &TraceEvent, limits: &Limits) {
        let what = match event.kind {
            TraceKind::State { to, .. } => {
                self.traced = true;
                self.ours.state = to;
                // What a segment caused belongs to that segment's line.
                let last = self.tail.back_mut().or(self.head.last_mut());
                if let Some(step) = last
                    && step.at_ns == event.at_ns
                    && matches!(step.what, What::Segment { ours: false, .. })
                {
                    step.local = to;
                    self.over |= to == State::Closed;
                    return;
                }
                self.over |= to == State::Closed;
                What::State
            }
            TraceKind::Sent(segment) => self.segment(true, segment, None),
            TraceKind::Received(segment) => self.segment(false, segment, None),
            TraceKind::Dropped { segment, reason } => self.segment(false, segment, Some(reason)),
            TraceKind::Timer { kind, retries } => What::Timer { kind, retries },
        };
        let step = Step {
            at_ns: event.at_ns,
            what,
            local: self.ours.state,
            remote: self.theirs.state,
        };
        // A state entered by our application shows beside the segment that announces it.
        if let What::Segment { ours: true, .. } = what
            && let Some(last) = self.tail.back().or(self.head.last())
            && last.at_ns == event.at_ns
            && matches!(last.what, What::State)
            && self.tail.pop_back().is_none()
        {
            self.head.pop();
        }
        self.keep(step, limits);
    }

    fn segment(&mut self, ours: bool, segment: SegmentTrace, dropped: Option<&'static str>) -> What {
        if self.ours.isn.is_none() && self.theirs.isn.is_none() {
            self.opened_by_remote = !ours;
            if !segment.flags.intersects(TcpFlags::SYN | TcpFlags::RST) {
                let (mine, other) = if ours {
                    (segment.seq, segment.ack)
                } else {
                    (segment.ack, segment.seq)
                };
                self.ours = End::midstream(mine);
                self.theirs = End::midstream(other);
            }
        }
        let state = self.ours.state;
        if dropped.is_none() {
            let (from, to) = if ours {
                (&mut self.ours, &mut self.theirs)
            } else {
                (&mut self.theirs, &mut self.ours)
            };
            from.sent(&segment);
            to.received(&segment);
        }
        if self.traced {
            self.ours.state = state;
        }
        let (from, to) = if ours {
            (&self.ours, &self.theirs)
        } else {
            (&self.theirs, &self.ours)
        };
        let seq_base = from.isn.unwrap_or(segment.seq);
        let ack_base = to.isn.unwrap_or(segment.ack);
        What::Segment {
            ours,
            segment: segment.relative(seq_base, ack_base),
            dropped,
        }
    }

    fn keep(&mut self, step: Step, limits: &Limits) {
        if self.head.len() < limits.head {
            self.head.push(step);
            return;
        }
        self.tail.push_back(step);
        if self.tail.len() > limits.tail
            && let Some(old) = self.tail.pop_front()
        {
            self.skipped.count(&old);
        }
    }
}

impl Skipped {
    fn count(&mut self, step: &Step) {
        match step.what {
            What::Segment {
                ours: true, segment, ..
            } => {
                self.segments_out += 1;
                self.bytes_out += u64::from(segment.len);
            }
            What::Segment {
                ours: false, segment, ..
            } => {
                self.segments_in += 1;
                self.bytes_in += u64::from(segment.len);
            }
            What::Timer { .. } | What::State => self.others += 1,
        }
    }
}

/// Gathers connections from trace events, in the order of their beginning.
#[derive(Debug, Default)]
pub struct Collector {
    limits: Limits,
    exchanges: Vec<Exchange>,
    current: HashMap<(SocketAddr, SocketAddr), usize>,
    left_out: u64,
}

impl Collector {
    /// A collector that keeps no more than `limits` say.
    pub fn new(limits: Limits) -> Collector {
        Collector {
            limits,
            ..Collector::default()
        }
    }

    /// Takes one event.
    pub fn add(&mut self, event: &TraceEvent) {
        let key = (event.local, event.remote);
        if event.remote.port() == 0 {
            return; // A listener's own states: no exchange.
        }
        let opens = match &event.kind {
            TraceKind::Sent(s) | TraceKind::Received(s) => {
                s.flags.contains(TcpFlags::SYN) && !s.flags.contains(TcpFlags::ACK)
            }
            _ => false,
        };
        let index = match self.current.get(&key) {
            Some(&index) if !(opens && self.exchanges[index].over) => index,
            _ => {
                if self.exchanges.len() >= self.limits.exchanges {
                    self.left_out += u64::from(opens);
                    return;
                }
                self.exchanges.push(Exchange::new(event.local, event.remote));
                self.current.insert(key, self.exchanges.len() - 1);
                self.exchanges.len() - 1
            }
        };
        self.exchanges[index].add(event, &self.limits);
    }

    /// The connections, in the order in which they began.
    pub fn exchanges(&self) -> &[Exchange] {
        &self.exchanges
    }

    /// Connections that began after the limit was reached.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}
