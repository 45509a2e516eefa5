//! `TcpListener`, `TcpStream` and `UdpSocket` shaped like `tokio::net`, over an estab stack: swapping the import is
//! the port.
//!
//! A [`Stack`] drives one device (a TUN, a pipe in memory) from a task of its own. While it is
//! [entered](Stack::enter) or [the default](Stack::set_default), the sockets of this crate open on it:
//!
//! ```
//! use estab_tokio::{Stack, TcpListener, TcpStream};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
//! let (a, b) = estab_device::Pipe::pair(1500, 1024, true);
//! let server = Stack::builder().address("10.0.0.1/24").on_pipe(a)?;
//! let client = Stack::builder().address("10.0.0.2/24").on_pipe(b)?;
//!
//! let listener = server.scope(TcpListener::bind("10.0.0.1:80")).await?;
//! tokio::spawn(async move {
//!     let (mut stream, from) = listener.accept().await?;
//!     stream.write_all(format!("hello, {}", from.ip()).as_bytes()).await
//! });
//! let mut stream = client.scope(TcpStream::connect("10.0.0.1:80")).await?;
//! let mut text = String::new();
//! stream.read_to_string(&mut text).await?;
//! assert_eq!(text, "hello, 10.0.0.2");
//! # Ok(()) }
//! ```
//!
//! Dropping a stream closes it in order, as dropping tokio's does: what was written still arrives, and unread data
//! is answered with a reset. The stack's task goes on until its last connection is through, then ends.
//!
//! Names are looked up by the host's resolver, as tokio does; addresses are not.
#![deny(unsafe_code)]

mod driver;
mod legacy;
mod shared;
mod split;
mod stack;
mod tcp;
mod udp;

pub use split::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};
pub use stack::{Builder, Entered, Stack};
pub use tcp::{TcpListener, TcpSocket, TcpStream};
pub use tokio::net::ToSocketAddrs;
pub use udp::UdpSocket;
