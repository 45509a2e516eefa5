//! The eleven states of RFC 9293 §3.3.2 and the one table of transitions between them.
//!
//! The engine's moves, the diagram, the docs and the ladder's inference all come from [`TRANSITIONS`].

use core::fmt;
use core::str::FromStr;

/// A connection's state; the numbers are Linux's (`include/net/tcp_states.h`), TCP_SYN_RECV serving
/// for TCP_NEW_SYN_RECV too.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[repr(u8)]
pub enum State {
    /// Data flows both ways.
    Established = 1,
    /// We asked to open; no answer yet.
    SynSent = 2,
    /// We answered a SYN (or SYNs crossed); the final ACK is missing.
    SynRcvd = 3,
    /// We sent FIN; it is not acknowledged.
    FinWait1 = 4,
    /// Our FIN is acknowledged; the peer may still send.
    FinWait2 = 5,
    /// Both sides are done; old segments are kept off for 2·MSL.
    TimeWait = 6,
    /// No connection.
    Closed = 7,
    /// The peer sent FIN; our application has not closed.
    CloseWait = 8,
    /// The peer closed first, then we; our FIN is not acknowledged.
    LastAck = 9,
    /// Waiting for connections.
    Listen = 10,
    /// FINs crossed; ours is not acknowledged.
    Closing = 11,
}

impl State {
    /// All eleven, in the order of a connection's life.
    pub const ALL: [State; 11] = [
        State::Closed,
        State::Listen,
        State::SynSent,
        State::SynRcvd,
        State::Established,
        State::FinWait1,
        State::FinWait2,
        State::CloseWait,
        State::Closing,
        State::LastAck,
        State::TimeWait,
    ];

    /// netstat's spelling: `SYN_RECV`, `FIN_WAIT1`, …
    pub const fn netstat(self) -> &'static str {
        match self {
            State::Closed => "CLOSE",
            State::Listen => "LISTEN",
            State::SynSent => "SYN_SENT",
            State::SynRcvd => "SYN_RECV",
            State::Established => "ESTABLISHED",
            State::FinWait1 => "FIN_WAIT1",
            State::FinWait2 => "FIN_WAIT2",
            State::CloseWait => "CLOSE_WAIT",
            State::Closing => "CLOSING",
            State::LastAck => "LAST_ACK",
            State::TimeWait => "TIME_WAIT",
        }
    }

    /// ss's spelling: `ESTAB`, `SYN-RECV`, `FIN-WAIT-1`, `UNCONN`, …
    pub const fn ss(self) -> &'static str {
        match self {
            State::Closed => "UNCONN",
            State::Listen => "LISTEN",
            State::SynSent => "SYN-SENT",
            State::SynRcvd => "SYN-RECV",
            State::Established => "ESTAB",
            State::FinWait1 => "FIN-WAIT-1",
            State::FinWait2 => "FIN-WAIT-2",
            State::CloseWait => "CLOSE-WAIT",
            State::Closing => "CLOSING",
            State::LastAck => "LAST-ACK",
            State::TimeWait => "TIME-WAIT",
        }
    }

    /// RFC 9293's spelling: `SYN-RECEIVED`, `FIN-WAIT-1`, …
    pub const fn rfc(self) -> &'static str {
        match self {
            State::Closed => "CLOSED",
            State::SynRcvd => "SYN-RECEIVED",
            State::Established => "ESTABLISHED",
            other => other.ss(),
        }
    }

    /// The state with Linux's number `n` (12, TCP_NEW_SYN_RECV, is SYN_RCVD).
    pub const fn from_linux(n: u8) -> Option<State> {
        Some(match n {
            1 => State::Established,
            2 => State::SynSent,
            3 | 12 => State::SynRcvd,
            4 => State::FinWait1,
            5 => State::FinWait2,
            6 => State::TimeWait,
            7 => State::Closed,
            8 => State::CloseWait,
            9 => State::LastAck,
            10 => State::Listen,
            11 => State::Closing,
            _ => return None,
        })
    }

    /// The handshake is complete (RFC 9293 calls these the synchronized states).
    pub const fn is_synchronized(self) -> bool {
        !matches!(self, State::Closed | State::Listen | State::SynSent | State::SynRcvd)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.netstat())
    }
}

/// A word that names no TCP state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownState;

impl fmt::Display for UnknownState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a TCP state: expected one like ESTABLISHED, SYN_RECV, FIN-WAIT-1 or time-wait")
    }
}

impl core::error::Error for UnknownState {}

/// Every spelling in use: netstat's, ss's, the RFC's; any case, `_` and `-` alike or left out.
impl FromStr for State {
    type Err = UnknownState;
    fn from_str(s: &str) -> Result<State, UnknownState> {
        fn letters(s: &str) -> impl Iterator<Item = u8> + '_ {
            s.bytes()
                .filter(|b| *b != b'_' && *b != b'-')
                .map(|b| b.to_ascii_lowercase())
        }
        State::ALL
            .into_iter()
            .find(|state| {
                let alias = match state {
                    State::SynRcvd => "syn_rcvd",
                    State::Closed => "closed",
                    other => other.rfc(),
                };
                [state.netstat(), state.ss(), state.rfc(), alias]
                    .iter()
                    .any(|name| letters(name).eq(letters(s)))
            })
            .ok_or(UnknownState)
    }
}

/// What moves a connection from one state to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[repr(u8)]
pub enum Trigger {
    /// The application listens.
    PassiveOpen,
    /// The application connects.
    ActiveOpen,
    /// The application closes or shuts down sending.
    Close,
    /// The application aborts: SO_LINGER 0, or a close with unread data.
    Abort,
    /// The application sends on a listener (RFC 9293 §3.10.2), which makes it an active open.
    Send,
    /// A SYN arrives.
    RcvSyn,
    /// A SYN arrives that acknowledges ours.
    RcvSynAck,
    /// An ACK of our SYN arrives.
    RcvAckOfSyn,
    /// A FIN arrives, in order.
    RcvFin,
    /// An ACK of our FIN arrives.
    RcvAckOfFin,
    /// A FIN that also acknowledges ours arrives.
    RcvFinAckOfFin,
    /// A valid RST arrives.
    RcvRst,
    /// Retransmissions or probes are used up, or a limit on the state's duration is.
    Timeout,
}

/// One arrow of the diagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transition {
    /// The state left.
    pub from: State,
    /// What happened.
    pub on: Trigger,
    /// The state entered.
    pub to: State,
    /// What is sent: `""` for nothing.
    pub sends: &'static str,
    /// The section of RFC 9293 that asks for it.
    pub section: &'static str,
}

const fn t(from: State, on: Trigger, to: State, sends: &'static str, section: &'static str) -> Transition {
    Transition {
        from,
        on,
        to,
        sends,
        section,
    }
}

/// Every transition a connection may make.
pub const TRANSITIONS: &[Transition] = {
    use State::*;
    use Trigger::*;
    &[
        t(Closed, PassiveOpen, Listen, "", "3.10.1"),
        t(Closed, ActiveOpen, SynSent, "SYN", "3.10.1"),
        t(Listen, RcvSyn, SynRcvd, "SYN,ACK", "3.10.7.2"),
        t(Listen, Send, SynSent, "SYN", "3.10.2"),
        t(Listen, Close, Closed, "", "3.10.4"),
        t(SynSent, RcvSyn, SynRcvd, "SYN,ACK", "3.10.7.3"),
        t(SynSent, RcvSynAck, Established, "ACK", "3.10.7.3"),
        t(SynSent, RcvRst, Closed, "", "3.10.7.3"),
        t(SynSent, Close, Closed, "", "3.10.4"),
        t(SynSent, Timeout, Closed, "", "3.10.8"),
        t(SynRcvd, RcvAckOfSyn, Established, "", "3.10.7.4"),
        t(SynRcvd, RcvRst, Listen, "", "3.10.7.4"),
        t(SynRcvd, RcvRst, Closed, "", "3.10.7.4"),
        t(SynRcvd, RcvFin, CloseWait, "ACK", "3.10.7.4"),
        t(SynRcvd, Close, FinWait1, "FIN", "3.10.4"),
        t(SynRcvd, Abort, Closed, "RST", "3.10.5"),
        t(SynRcvd, Timeout, Closed, "", "3.10.8"),
        t(Established, Close, FinWait1, "FIN", "3.10.4"),
        t(Established, RcvFin, CloseWait, "ACK", "3.10.7.4"),
        t(Established, Abort, Closed, "RST", "3.10.5"),
        t(Established, RcvRst, Closed, "", "3.10.7.4"),
        t(Established, Timeout, Closed, "", "3.10.8"),
        t(FinWait1, RcvAckOfFin, FinWait2, "", "3.10.7.4"),
        t(FinWait1, RcvFin, Closing, "ACK", "3.10.7.4"),
        t(FinWait1, RcvFinAckOfFin, TimeWait, "ACK", "3.10.7.4"),
        t(FinWait1, Abort, Closed, "RST", "3.10.5"),
        t(FinWait1, RcvRst, Closed, "", "3.10.7.4"),
        t(FinWait1, Timeout, Closed, "", "3.10.8"),
        t(FinWait2, RcvFin, TimeWait, "ACK", "3.10.7.4"),
        t(FinWait2, Abort, Closed, "RST", "3.10.5"),
        t(FinWait2, RcvRst, Closed, "", "3.10.7.4"),
        t(FinWait2, Timeout, Closed, "", "3.10.8"),
        t(CloseWait, Close, LastAck, "FIN", "3.10.4"),
        t(CloseWait, Abort, Closed, "RST", "3.10.5"),
        t(CloseWait, RcvRst, Closed, "", "3.10.7.4"),
        t(CloseWait, Timeout, Closed, "", "3.10.8"),
        t(Closing, RcvAckOfFin, TimeWait, "", "3.10.7.4"),
        t(Closing, RcvRst, Closed, "", "3.10.7.4"),
        t(Closing, Abort, Closed, "RST", "3.10.5"),
        t(Closing, Timeout, Closed, "", "3.10.8"),
        t(LastAck, RcvAckOfFin, Closed, "", "3.10.7.4"),
        t(LastAck, RcvRst, Closed, "", "3.10.7.4"),
        t(LastAck, Abort, Closed, "RST", "3.10.5"),
        t(LastAck, Timeout, Closed, "", "3.10.8"),
        t(TimeWait, RcvSyn, SynRcvd, "SYN,ACK", "3.6.1"),
        t(TimeWait, RcvRst, Closed, "", "3.10.7.4"),
        t(TimeWait, Timeout, Closed, "", "3.10.8"),
    ]
};

/// Whether the table has an arrow `from` → `to` on `on`.
pub fn allowed(from: State, on: Trigger, to: State) -> bool {
    TRANSITIONS.iter().any(|t| t.from == from && t.on == on && t.to == to)
}
