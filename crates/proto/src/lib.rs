//! The words everyone who speaks of TCP shares: sequence numbers and windows as types, the eleven
//! states and the one table of their transitions, sysctls, counters, the shapes of traces and socket diagnoses.
//!
//! Knows no packet and no socket; `no_std` and without allocation.
#![no_std]
#![forbid(unsafe_code)]

pub mod diag;
pub mod flags;
pub mod mib;
pub mod seq;
pub mod state;
pub mod sysctl;
pub mod trace;
pub mod window;

pub use diag::{SockDiag, TcpInfo, TimerInfo, TimerKind};
pub use flags::TcpFlags;
pub use mib::Counter;
pub use seq::SeqNum;
pub use state::State;
pub use trace::{SegmentTrace, TraceEvent, TraceKind};
pub use window::{ScaledWindow, WindowScale};
