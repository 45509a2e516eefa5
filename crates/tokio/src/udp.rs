//! UDP sockets.

use crate::shared::Want;
use crate::tcp::{Socket, family, first};
use crate::{Stack, ToSocketAddrs};
use estab_engine::{Kind, RecvFlags, SendFlags, SockOption};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

/// A UDP socket; shaped like `tokio::net::UdpSocket`.
#[derive(Debug)]
pub struct UdpSocket {
    socket: Socket,
}

impl UdpSocket {
    /// Binds to the first address of `addr` that can be bound.
    pub async fn bind(addr: impl ToSocketAddrs) -> io::Result<UdpSocket> {
        let stack = Stack::current()?;
        first(addr, |addr| {
            let socket = Socket::open(&stack, family(addr), Kind::Datagram);
            async move {
                let socket = socket?;
                socket.shared.call(socket.id, |s| s.bind(addr))?;
                Ok(UdpSocket { socket })
            }
        })
        .await
    }

    /// Sets the peer: `send` goes there, only its datagrams are received, its ICMP errors are reported.
    pub async fn connect(&self, addr: impl ToSocketAddrs) -> io::Result<()> {
        let (shared, id) = (&self.socket.shared, self.socket.id);
        first(addr, |addr| async move { shared.call(id, |s| s.connect(addr)) }).await
    }

    /// Sends one datagram to the peer.
    pub async fn send(&self, buf: &[u8]) -> io::Result<usize> {
        let (shared, id) = (&self.socket.shared, self.socket.id);
        poll_fn(|cx| shared.poll(cx, id, Want::Write, |s| s.send(buf, SendFlags::default()))).await
    }

    /// Receives one datagram from the peer; what `buf` has no room for is lost.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        let (shared, id) = (&self.socket.shared, self.socket.id);
        poll_fn(|cx| shared.poll(cx, id, Want::Read, |s| s.recv(buf, RecvFlags::default()))).await
    }

    /// Sends one datagram to the first address of `target`.
    pub async fn send_to(&self, buf: &[u8], target: impl ToSocketAddrs) -> io::Result<usize> {
        let none = || io::Error::new(io::ErrorKind::InvalidInput, "no addresses to send data to");
        let target = tokio::net::lookup_host(target).await?.next().ok_or_else(none)?;
        poll_fn(|cx| self.poll_send_to(cx, buf, target)).await
    }

    /// Receives one datagram and its source; what `buf` has no room for is lost.
    pub async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (shared, id) = (&self.socket.shared, self.socket.id);
        let received = poll_fn(|cx| shared.poll(cx, id, Want::Read, |s| s.recv_from(buf))).await?;
        Ok((received.0, received.1))
    }

    /// Sends one datagram to `target`, or not yet.
    pub fn poll_send_to(&self, cx: &mut Context<'_>, buf: &[u8], target: SocketAddr) -> Poll<io::Result<usize>> {
        let (shared, id) = (&self.socket.shared, self.socket.id);
        shared.poll(cx, id, Want::Write, |s| s.send_to(buf, None, target))
    }

    /// Waits until a datagram or an error is there.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.ready(Want::Read).await
    }

    /// Waits until there is room to send.
    pub async fn writable(&self) -> io::Result<()> {
        self.socket.ready(Want::Write).await
    }

    /// The address it is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The peer's address, once connected.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.peer_addr()
    }

    /// IP_TTL
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let ttl = u8::try_from(ttl).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        self.socket.set(SockOption::Ttl(ttl))
    }
}
