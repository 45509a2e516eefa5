//! The estab stack: packets and time in, packets and events out. No I/O, no clock, no thread, no entropy.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod buf;
mod config;
mod dgram;
mod drop;
mod echo;
mod env;
mod error;
mod event;
mod iface;
mod ip;
mod mib;
mod options;
mod rng;
mod sock;
mod stack;
mod sysctl;
mod tcp;
mod time;
mod timer;
mod trace;
mod udp;

pub use config::Config;
pub use drop::DropReason;
pub use error::{Result, SockError};
pub use event::{Event, Incoming, OpenId, Readiness, SocketId};
pub use iface::{CsumTx, IfaceConfig, IfaceId, Medium, RxCsum, RxMeta, Transmit};
pub use mib::Mib;
pub use options::{RecvFlags, SendFlags, Shutdown, SockOption};
pub use stack::{Family, Kind, Sock, Stack, Unreachable};
pub use sysctl::{FastOpenKeys, PortRanges, SysctlError, Sysctls};
pub use time::Instant;
pub use trace::TraceSink;

pub use estab_proto as proto;
