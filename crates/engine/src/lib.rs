//! The estab stack: a TCP/IP stack that speaks TCP as Linux 6.x does. No I/O, no clock, no thread, no entropy: packets and
//! time go in, packets and events come out, and the same input always gives the same output.
//!
//! [`Stack`] is driven by whoever moves its packets. After each call that takes the time, drain [`Stack::poll_transmit`],
//! then [`Stack::poll_event`], then read [`Stack::poll_timeout`]:
//!
//! ```
//! use estab_engine::*;
//!
//! // One stack that talks to itself over its loopback; `now` is any monotonic clock.
//! let mut now = Instant::from_millis(1);
//! let mut stack = Stack::new(now, Config { seed: [7; 32], memory: 1 << 30, unix_time: 1_700_000_000 });
//!
//! let listener = stack.socket(Family::V4, Kind::Stream)?;
//! stack.sock(now, listener)?.bind("127.0.0.1:80".parse().unwrap())?;
//! stack.sock(now, listener)?.listen(128)?;
//! let client = stack.socket(Family::V4, Kind::Stream)?;
//! stack.sock(now, client)?.connect("127.0.0.1:80".parse().unwrap())?;
//!
//! let mut packet = [0; 65_600];
//! let mut greeted = false;
//! while !greeted {
//!     // What leaves on an interface would go to its device here; the loopback's packets never leave.
//!     while let Some(transmit) = stack.poll_transmit(now, &mut packet) {
//!         let _ = (transmit.iface, &packet[..transmit.len]);
//!     }
//!     while let Some(event) = stack.poll_event() {
//!         match event {
//!             Event::Ready(id, _) if id == listener => {
//!                 let (server, _) = stack.sock(now, listener)?.accept()?;
//!                 stack.sock(now, server)?.send(b"hello", SendFlags::default())?;
//!             }
//!             Event::Ready(id, ready) if id == client && ready.contains(Readiness::READABLE) => {
//!                 let mut buf = [0; 16];
//!                 let n = stack.sock(now, client)?.recv(&mut buf, RecvFlags::default())?;
//!                 assert_eq!(&buf[..n], b"hello");
//!                 greeted = true;
//!             }
//!             _ => {}
//!         }
//!     }
//!     // Sleep until the next deadline, or until a packet comes.
//!     if let Some(at) = stack.poll_timeout() {
//!         now = at.max(now);
//!         stack.handle_timeout(now);
//!     }
//! }
//! # Ok::<(), SockError>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod boxes;
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
mod rows;
mod sock;
mod spare;
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
pub use ip::RouteMetrics;
pub use mib::Mib;
pub use options::{Md5Peer, RecvFlags, SendFlags, Shutdown, SockOption};
pub use sock::handle::Sock;
pub use stack::{Family, Kind, PAYLOAD_PARTS, Stack, Unreachable};
pub use sysctl::{FastOpenKeys, PortRanges, SysctlError, Sysctls};
pub use tcp::quiet::TimewaitsError;
pub use time::Instant;
pub use trace::TraceSink;

pub use estab_proto as proto;
