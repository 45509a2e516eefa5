//! Where packets come from and go to: TUN and TAP queues with offloads, in-memory pipes, and a pcapng tap on
//! any of them. Beside them, what else a stack's driver asks of the system: [a file](handover) for the next run.
//!
//! A [`Device`] carries whole packets, one per call. A packet may be a *super-packet*: one set of headers before
//! the payload of many segments, to be cut by whoever needs them apart (the kernel, or [`gso::segments`]).
//! What goes with a packet in each direction ([`Rx`], [`Tx`]) mirrors the engine's `RxMeta` and `Transmit`; this
//! crate stands on the wire formats only and knows no stack.
//!
//! Two ends of a pipe, one of them tapped:
//!
//! ```
//! use estab_device::{Device, LinkType, Pcapng, Pipe, Tap, Tx};
//!
//! let (end, mut other) = Pipe::pair(1500, 64, false);
//! let pcapng = Pcapng::new(std::io::sink(), |err| eprintln!("the capture has ended: {err}"));
//! let mut tapped = Tap::new(end, pcapng, "pipe0", LinkType::Raw);
//!
//! tapped.send(b"a packet", Tx::default())?;
//! let mut buf = vec![0; other.recv_max()];
//! let rx = other.recv(&mut buf)?.expect("a packet is there");
//! assert_eq!(&buf[..rx.len], b"a packet");
//! assert_eq!(other.recv(&mut buf)?, None);
//! # Ok::<(), std::io::Error>(())
//! ```

mod dev;
pub mod gso;
#[cfg(unix)]
pub mod handover;
mod pcapng;
mod pipe;
#[cfg(target_os = "linux")]
mod tun;
#[cfg(target_os = "linux")]
mod vnet;

pub use dev::{Device, Rx, RxCsum, Tx, TxCsum};
pub use pcapng::{Direction, LinkType, Pcapng, Tap};
pub use pipe::Pipe;
#[cfg(target_os = "linux")]
pub use tun::{Layer, Offloads, Tun, TunConfig};
