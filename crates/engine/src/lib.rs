//! The estab stack: packets and time in, packets and events out. No I/O, no clock, no thread, no entropy.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod buf;
mod error;
mod event;
mod iface;
mod options;
mod stack;
mod time;
mod timer;

pub use error::{Result, SockError};
pub use event::{Event, Incoming, OpenId, Readiness, SocketId};
pub use iface::{CsumTx, IfaceConfig, IfaceId, Medium, RxCsum, RxMeta, Transmit};
pub use options::{RecvFlags, SendFlags, Shutdown, SockOption};
pub use stack::{Config, Family, Kind, Sock, Stack, Unreachable};
pub use time::Instant;

pub use estab_proto as proto;
