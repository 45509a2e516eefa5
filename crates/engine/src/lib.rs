//! The estab stack: packets and time in, packets and events out. No I/O, no clock, no thread, no entropy.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod buf;
mod config;
#[allow(dead_code)] // Until the stack's bodies use it.
mod dgram;
mod drop;
#[allow(dead_code)] // Until the stack's bodies use it.
mod echo;
#[allow(dead_code)] // Until the stack's bodies use it.
mod env;
mod error;
mod event;
mod iface;
#[allow(dead_code)] // Until the stack's bodies use it.
mod ip;
mod mib;
mod options;
#[allow(dead_code)] // Until the stack's bodies use it.
mod rng;
mod stack;
mod sysctl;
mod tcp {
    #[allow(dead_code)] // Until the connections use it.
    pub(crate) mod cc;
    #[allow(dead_code)] // Until the connections use it.
    pub(crate) mod cookie;
    #[allow(dead_code)] // Until the connections use it.
    pub(crate) mod isn;
    #[allow(dead_code)] // Until the connections use it.
    pub(crate) mod loss;
    #[allow(dead_code)] // Until the connections use it.
    pub(crate) mod rcv;
    #[allow(dead_code)] // Until the connections use it.
    pub(crate) mod snd;
}
mod time;
mod timer;
mod trace;
#[allow(dead_code)] // Until the stack's bodies use it.
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
