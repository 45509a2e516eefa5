//! TCP listeners and streams.

use crate::shared::{Shared, Want, error};
use crate::split::{self, OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};
use crate::{Stack, ToSocketAddrs};
use estab_engine::{Family, Kind, Readiness, RecvFlags, SendFlags, Shutdown, SockError, SockOption, SocketId};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Tokio's backlog, and so ours.
const BACKLOG: u32 = 1024;

/// A socket of a stack; dropped, it is closed in order.
pub(crate) struct Socket {
    pub(crate) shared: Arc<Shared>,
    pub(crate) id: SocketId,
}

impl Socket {
    pub(crate) fn open(stack: &Stack, family: Family, kind: Kind) -> io::Result<Socket> {
        let id = {
            let mut inner = stack.shared.lock();
            let id = inner.engine.socket(family, kind).map_err(error)?;
            inner.held += 1;
            id
        };
        Ok(Socket {
            shared: Arc::clone(&stack.shared),
            id,
        })
    }

    pub(crate) fn set(&self, option: SockOption) -> io::Result<()> {
        self.shared.call(self.id, |s| s.set_option(option))
    }

    pub(crate) fn get(&self, like: SockOption) -> io::Result<SockOption> {
        self.shared.look(self.id, |s| s.option(like))
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.shared.look(self.id, |s| s.local_addr())
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.shared.look(self.id, |s| s.peer_addr())
    }

    pub(crate) async fn ready(&self, want: Want) -> io::Result<()> {
        poll_fn(|cx| self.shared.poll_ready(cx, self.id, want)).await
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.shared.close(self.id);
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let addr = |a: io::Result<SocketAddr>| a.map_or_else(|_| "-".to_string(), |a| a.to_string());
        write!(f, "{} → {}", addr(self.local_addr()), addr(self.peer_addr()))
    }
}

pub(crate) fn family(addr: SocketAddr) -> Family {
    if addr.is_ipv4() { Family::V4 } else { Family::V6 }
}

/// Tries `f` on each address that `addrs` stands for; the last error if none does.
pub(crate) async fn first<T, F>(addrs: impl ToSocketAddrs, mut f: impl FnMut(SocketAddr) -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "could not resolve to any address");
    for addr in tokio::net::lookup_host(addrs).await? {
        match f(addr).await {
            Ok(value) => return Ok(value),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// A TCP socket before it listens or connects, for setting options first; shaped like `tokio::net::TcpSocket`.
#[derive(Debug)]
pub struct TcpSocket {
    socket: Socket,
}

impl TcpSocket {
    /// An IPv4 socket on the current stack.
    pub fn new_v4() -> io::Result<TcpSocket> {
        Ok(TcpSocket {
            socket: Socket::open(&Stack::current()?, Family::V4, Kind::Stream)?,
        })
    }

    /// An IPv6 socket on the current stack.
    pub fn new_v6() -> io::Result<TcpSocket> {
        Ok(TcpSocket {
            socket: Socket::open(&Stack::current()?, Family::V6, Kind::Stream)?,
        })
    }

    /// SO_REUSEADDR
    pub fn set_reuseaddr(&self, on: bool) -> io::Result<()> {
        self.socket.set(SockOption::ReuseAddr(on))
    }

    /// SO_REUSEPORT
    pub fn set_reuseport(&self, on: bool) -> io::Result<()> {
        self.socket.set(SockOption::ReusePort(on))
    }

    /// SO_KEEPALIVE
    pub fn set_keepalive(&self, on: bool) -> io::Result<()> {
        self.socket.set(SockOption::KeepAlive(on))
    }

    /// TCP_NODELAY
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.socket.set(SockOption::NoDelay(on))
    }

    /// SO_SNDBUF, doubled as Linux does.
    pub fn set_send_buffer_size(&self, bytes: u32) -> io::Result<()> {
        self.socket.set(SockOption::SndBuf(bytes))
    }

    /// SO_RCVBUF, doubled as Linux does.
    pub fn set_recv_buffer_size(&self, bytes: u32) -> io::Result<()> {
        self.socket.set(SockOption::RcvBuf(bytes))
    }

    /// bind(2)
    pub fn bind(&self, addr: SocketAddr) -> io::Result<()> {
        self.socket.shared.call(self.socket.id, |s| s.bind(addr))
    }

    /// The address it is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// listen(2)
    pub fn listen(self, backlog: u32) -> io::Result<TcpListener> {
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        self.socket.shared.call(self.socket.id, |s| s.listen(backlog))?;
        Ok(TcpListener { socket: self.socket })
    }

    /// connect(2), until the connection stands or has failed.
    pub async fn connect(self, addr: SocketAddr) -> io::Result<TcpStream> {
        let socket = self.socket;
        socket
            .shared
            .call(socket.id, |s| s.connect(addr))
            .map_err(|e| towards(e, addr))?;
        socket.ready(Want::Write).await?;
        match socket.shared.call(socket.id, |s| Ok(s.take_error()))? {
            Some(e) => Err(error(e)),
            None => Ok(TcpStream { socket }),
        }
    }
}

/// Ports run out for one destination at a time: says for which.
fn towards(error: io::Error, addr: SocketAddr) -> io::Error {
    if error.raw_os_error() != Some(SockError::EADDRNOTAVAIL.errno()) {
        return error;
    }
    let what = format!(
        "{error}: each port of net.ipv4.ip_local_port_range is taken towards {addr} (or the one that was bound is, or no \
         address of the stack's leads there)"
    );
    io::Error::new(error.kind(), what)
}

/// Waits for connections; shaped like `tokio::net::TcpListener`.
#[derive(Debug)]
pub struct TcpListener {
    socket: Socket,
}

impl TcpListener {
    /// Listens on the first address of `addr` that can be bound, with SO_REUSEADDR, as tokio does.
    pub async fn bind(addr: impl ToSocketAddrs) -> io::Result<TcpListener> {
        let stack = Stack::current()?;
        first(addr, |addr| {
            let socket = Socket::open(&stack, family(addr), Kind::Stream).map(|socket| TcpSocket { socket });
            async move {
                let socket = socket?;
                socket.set_reuseaddr(true)?;
                socket.bind(addr)?;
                socket.listen(BACKLOG)
            }
        })
        .await
    }

    /// The next connection, and who opened it.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// The next connection, or none yet.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let shared = &self.socket.shared;
        let (id, peer) = ready!(shared.poll(cx, self.socket.id, Want::Read, |s| s.accept()))?;
        shared.lock().held += 1;
        let socket = Socket {
            shared: Arc::clone(shared),
            id,
        };
        Poll::Ready(Ok((TcpStream { socket }, peer)))
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// IP_TTL of the connections to come.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.socket.set(SockOption::Ttl(
            u8::try_from(ttl).map_err(|_| error(SockError::EINVAL))?,
        ))
    }

    /// SO_ERROR, cleared.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.socket
            .shared
            .look(self.socket.id, |s| Ok(s.take_error().map(error)))
    }
}

#[cfg(feature = "axum")]
impl axum::serve::Listener for TcpListener {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match TcpListener::accept(self).await {
                Ok(connection) => return connection,
                // Only what a full table or a failed device gives: as axum does for tokio's, wait and try again.
                Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(self)
    }
}

/// A TCP connection; shaped like `tokio::net::TcpStream`.
#[derive(Debug)]
pub struct TcpStream {
    pub(crate) socket: Socket,
}

impl TcpStream {
    /// Connects to the first address of `addr` that answers.
    pub async fn connect(addr: impl ToSocketAddrs) -> io::Result<TcpStream> {
        let stack = Stack::current()?;
        first(addr, |addr| {
            let socket = Socket::open(&stack, family(addr), Kind::Stream).map(|socket| TcpSocket { socket });
            async move { socket?.connect(addr).await }
        })
        .await
    }

    /// Our side's address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The peer's address.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.peer_addr()
    }

    /// Waits until there is something to read, or the end, or an error.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.ready(Want::Read).await
    }

    /// Waits until there is room to write, or an error.
    pub async fn writable(&self) -> io::Result<()> {
        self.socket.ready(Want::Write).await
    }

    /// Reads what is there; `WouldBlock` when nothing is.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket
            .shared
            .call(self.socket.id, |s| s.recv(buf, RecvFlags::default()))
    }

    /// Writes what there is room for; `WouldBlock` when there is none.
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        self.socket
            .shared
            .call(self.socket.id, |s| s.send(buf, SendFlags::default()))
    }

    /// Reads without taking.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        let flags = RecvFlags {
            peek: true,
            ..Default::default()
        };
        poll_fn(|cx| {
            self.socket
                .shared
                .poll(cx, self.socket.id, Want::Read, |s| s.recv(buf, flags))
        })
        .await
    }

    /// TCP_NODELAY
    pub fn nodelay(&self) -> io::Result<bool> {
        Ok(self.socket.get(SockOption::NoDelay(false))? == SockOption::NoDelay(true))
    }

    /// TCP_NODELAY
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.socket.set(SockOption::NoDelay(on))
    }

    /// SO_LINGER
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        match self.socket.get(SockOption::Linger(None))? {
            SockOption::Linger(time) => Ok(time),
            _ => Ok(None),
        }
    }

    /// SO_LINGER: with zero, dropping the stream resets the connection. With any other time, dropping does not wait.
    pub fn set_linger(&self, time: Option<Duration>) -> io::Result<()> {
        self.socket.set(SockOption::Linger(time))
    }

    /// IP_TTL
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.socket.set(SockOption::Ttl(
            u8::try_from(ttl).map_err(|_| error(SockError::EINVAL))?,
        ))
    }

    /// SO_ERROR, cleared.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.socket
            .shared
            .look(self.socket.id, |s| Ok(s.take_error().map(error)))
    }

    /// What Linux's TCP_INFO tells.
    pub fn info(&self) -> io::Result<estab_engine::proto::TcpInfo> {
        self.socket.shared.look(self.socket.id, |s| s.info())
    }

    /// Two halves that borrow the stream.
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        split::split(self)
    }

    /// Two halves that own the stream together; the write half ends the sending direction when dropped.
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        split::into_split(self)
    }

    pub(crate) fn poll_read_some(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let room = buf.initialize_unfilled();
        let (shared, id) = (&self.socket.shared, self.socket.id);
        let n = ready!(shared.poll(cx, id, Want::Read, |s| s.recv(room, RecvFlags::default())))?;
        buf.advance(n);
        Poll::Ready(Ok(()))
    }

    pub(crate) fn poll_write_some(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let (shared, id) = (&self.socket.shared, self.socket.id);
        shared.poll(cx, id, Want::Write, |s| s.send(buf, SendFlags::default()))
    }

    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        self.socket
            .shared
            .call(self.socket.id, |s| match s.shutdown(Shutdown::Write) {
                // The peer has ended the connection already: there is nothing left to shut.
                Err(SockError::ENOTCONN) if s.readiness().contains(Readiness::HANGUP) => Ok(()),
                other => other,
            })
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_read_some(cx, buf)
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_some(cx, buf)
    }

    /// Nothing to do: what is written is on its way.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown_write())
    }
}
