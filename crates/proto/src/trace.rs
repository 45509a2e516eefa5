//! What a stack tells of itself while it runs: what happened to which connection, and because of what.

use crate::state::Trigger;
use crate::{ScaledWindow, SeqNum, State, TcpFlags, TimerKind};
use core::fmt;
use core::net::SocketAddr;

/// One thing that happened.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TraceEvent {
    /// Nanoseconds on the stack's clock.
    pub at_ns: u64,
    /// Our side of the connection.
    pub local: SocketAddr,
    /// The peer's side.
    pub remote: SocketAddr,
    /// What happened.
    pub kind: TraceKind,
}

/// What happened.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum TraceKind {
    /// The connection changed state.
    State {
        /// The state left.
        from: State,
        /// The state entered.
        to: State,
        /// What moved it.
        on: Trigger,
    },
    /// A segment left.
    Sent(SegmentTrace),
    /// A segment arrived and belongs to this connection.
    Received(SegmentTrace),
    /// A segment arrived and was discarded.
    Dropped {
        /// The segment.
        segment: SegmentTrace,
        /// The engine's `DropReason`, by name.
        #[cfg_attr(feature = "serde", serde(skip_deserializing))]
        reason: &'static str,
    },
    /// A timer fired.
    Timer {
        /// Which.
        kind: TimerKind,
        /// The how-many-th time in a row.
        retries: u8,
    },
}

/// A segment's header as one value, absolute sequence numbers; it prints in packetdrill's notation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SegmentTrace {
    /// Sequence number of the first byte (or of SYN).
    pub seq: SeqNum,
    /// Acknowledgment number; meaningful with ACK.
    pub ack: SeqNum,
    /// Control bits.
    pub flags: TcpFlags,
    /// The window field as it stands in the header.
    pub window: ScaledWindow,
    /// Bytes of payload.
    pub len: u32,
    /// The options, in the order they stood in.
    pub options: OptionsTrace,
}

/// Room for the options of one segment, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct OptionsTrace {
    list: [Option<OptionTrace>; 10],
}

/// One option of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum OptionTrace {
    /// Padding.
    Nop,
    /// End of the list.
    Eol,
    /// Maximum segment size.
    Mss(u16),
    /// Window scale.
    WindowScale(u8),
    /// SACK permitted.
    SackPermitted,
    /// Selective acknowledgment: left and right edges.
    Sack([Option<(SeqNum, SeqNum)>; 4]),
    /// Timestamps.
    Timestamps {
        /// TSval.
        val: u32,
        /// TSecr.
        ecr: u32,
    },
    /// Fast Open cookie: its bytes, at most 16, and how many.
    FastOpen([u8; 16], u8),
    /// MD5 signature.
    Md5,
    /// Accurate ECN: its counters in their order, kind 174's (ECT(1), CE, ECT(0)) if `ect1_first`, else 172's.
    AccEcn {
        /// ECT(1) comes first.
        ect1_first: bool,
        /// As they stand in the option, 24 bits each.
        counters: [Option<u32>; 3],
    },
    /// Any other kind.
    Unknown(u8),
}

impl OptionsTrace {
    /// Appends an option; the eleventh and later are left out.
    pub fn push(&mut self, option: OptionTrace) {
        if let Some(slot) = self.list.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(option);
        }
    }

    /// The options in order.
    pub fn iter(&self) -> impl Iterator<Item = &OptionTrace> + '_ {
        self.list.iter().flatten()
    }
}

impl SegmentTrace {
    /// The segment with sequence numbers relative to `seq_base`, SACK edges and the ACK to `ack_base`.
    pub fn relative(mut self, seq_base: SeqNum, ack_base: SeqNum) -> SegmentTrace {
        self.seq = SeqNum((self.seq - seq_base) as u32);
        self.ack = SeqNum((self.ack - ack_base) as u32);
        for option in self.options.list.iter_mut().flatten() {
            if let OptionTrace::Sack(blocks) = option {
                for (left, right) in blocks.iter_mut().flatten() {
                    *left = SeqNum((*left - ack_base) as u32);
                    *right = SeqNum((*right - ack_base) as u32);
                }
            }
        }
        self
    }
}

/// packetdrill's notation: `S. 0:0(0) ack 1 win 65535 <mss 1460,sackOK>`.
impl fmt::Display for SegmentTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}:{}({})", self.flags, self.seq, self.seq + self.len, self.len)?;
        if self.flags.contains(TcpFlags::ACK) {
            write!(f, " ack {}", self.ack)?;
        }
        write!(f, " win {}", self.window.0)?;
        let mut separator = " <";
        for option in self.options.iter() {
            f.write_str(separator)?;
            separator = ",";
            fmt::Display::fmt(option, f)?;
        }
        if separator == "," { f.write_str(">") } else { Ok(()) }
    }
}

impl fmt::Display for OptionTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptionTrace::Nop => f.write_str("nop"),
            OptionTrace::Eol => f.write_str("eol"),
            OptionTrace::Mss(mss) => write!(f, "mss {mss}"),
            OptionTrace::WindowScale(bits) => write!(f, "wscale {bits}"),
            OptionTrace::SackPermitted => f.write_str("sackOK"),
            OptionTrace::Sack(blocks) => {
                f.write_str("sack")?;
                blocks
                    .iter()
                    .flatten()
                    .try_for_each(|(left, right)| write!(f, " {left}:{right}"))
            }
            OptionTrace::Timestamps { val, ecr } => write!(f, "TS val {val} ecr {ecr}"),
            OptionTrace::FastOpen(cookie, len) => {
                f.write_str(if *len > 0 { "FO " } else { "FO" })?;
                cookie.iter().take(*len as usize).try_for_each(|b| write!(f, "{b:02x}"))
            }
            OptionTrace::Md5 => f.write_str("md5"),
            OptionTrace::AccEcn { ect1_first, counters } => {
                let names = if *ect1_first {
                    ["e1b", "ceb", "e0b"]
                } else {
                    ["e0b", "ceb", "e1b"]
                };
                f.write_str("ECN")?;
                let known = names.iter().zip(counters);
                known
                    .filter_map(|(name, counter)| Some((name, (*counter)?)))
                    .try_for_each(|(name, counter)| write!(f, " {name} {counter}"))
            }
            OptionTrace::Unknown(kind) => write!(f, "unknown {kind}"),
        }
    }
}
