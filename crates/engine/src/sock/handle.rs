//! What an application does with one socket: each call goes to the protocol that the socket speaks.

use crate::tcp::close::Leave;
use crate::*;
use core::net::SocketAddr;
use estab_proto::{State, TcpInfo};

/// One socket of a stack, at one moment.
pub struct Sock<'a> {
    stack: &'a mut Stack,
    id: SocketId,
    stream: bool,
}

impl<'a> Sock<'a> {
    pub(crate) fn new(stack: &'a mut Stack, id: SocketId, stream: bool) -> Sock<'a> {
        Sock { stack, id, stream }
    }

    /// bind(2); port 0 chooses one. EADDRINUSE, EADDRNOTAVAIL, EINVAL as on Linux.
    pub fn bind(&mut self, addr: SocketAddr) -> Result<()> {
        match self.stream {
            true => self.stack.tcp_bind(self.id, addr),
            false => self.stack.dgram_bind(self.id, addr),
        }
    }

    /// listen(2): the accept queue holds min(backlog, somaxconn) + 1.
    pub fn listen(&mut self, backlog: i32) -> Result<()> {
        match self.stream {
            true => self.stack.tcp_listen(self.id, backlog),
            false => Err(SockError::EOPNOTSUPP),
        }
    }

    /// Starts an open (TCP: EINPROGRESS is not an error here: Ok, then WRITABLE or ERROR) or sets UDP's peer.
    pub fn connect(&mut self, addr: SocketAddr) -> Result<()> {
        match self.stream {
            true => self.stack.tcp_connect(self.id, addr),
            false => self.stack.dgram_connect(self.id, addr),
        }
    }

    /// Turns a listener into an active open, as RFC 9293 §3.10.1 lets one; a BSD connect(2) on it is EISCONN, as on Linux.
    pub fn connect_listener(&mut self, addr: SocketAddr) -> Result<()> {
        match self.stream {
            true => self.stack.tcp_reopen(self.id, addr),
            false => Err(SockError::EOPNOTSUPP),
        }
    }

    /// SIOCATMARK: the next read begins at the urgent mark.
    pub fn at_mark(&self) -> bool {
        self.stack.tcp_at_mark(self.id)
    }

    /// Bytes written and not sent yet (SIOCOUTQNSD).
    pub fn send_unsent(&self) -> usize {
        self.stack.tcp_send_unsent(self.id)
    }

    /// connect(2) to AF_UNSPEC: ends the connection (RST where the peer must know) or stops listening; the socket, with its
    /// options, can be used anew.
    pub fn disconnect(&mut self) -> Result<()> {
        match self.stream {
            true => self.stack.tcp_dissolve(self.id),
            false => Err(SockError::EOPNOTSUPP),
        }
    }

    /// accept(2): the oldest connection of the queue and its peer; EAGAIN when there is none.
    pub fn accept(&mut self) -> Result<(SocketId, SocketAddr)> {
        match self.stream {
            true => self.stack.tcp_accept(self.id),
            false => Err(SockError::EOPNOTSUPP),
        }
    }

    /// Bytes taken; EAGAIN when the buffer is full.
    pub fn send(&mut self, data: &[u8], flags: SendFlags) -> Result<usize> {
        match self.stream {
            true => self.stack.tcp_send(self.id, data, flags),
            false => self.stack.dgram_send(self.id, data, None, None),
        }
    }

    /// [`send`](Self::send) of up to `most` bytes that `fill` puts into the send buffer itself: it is given room in order, and
    /// returns how many bytes it put there. Bytes taken; 0 when the buffer is full or `fill` had none. (No copy: for readv
    /// from a host socket.)
    pub fn send_with(
        &mut self,
        most: usize,
        flags: SendFlags,
        fill: impl FnOnce(&mut [&mut [u8]]) -> usize,
    ) -> Result<usize> {
        match self.stream {
            true => self.stack.tcp_send_with(self.id, most, flags, fill),
            false => Err(SockError::EOPNOTSUPP),
        }
    }

    /// sendto(2) with MSG_FASTOPEN: connects to `addr` and sends `data`, the first of it with the SYN if Fast Open lets it
    /// (RFC 7413). Bytes taken; EINPROGRESS when the open is under way and none were; EALREADY while another open is; on a
    /// connection that is open already, `send` after a first `connect` that was not told so.
    pub fn send_fast_open(&mut self, addr: Option<SocketAddr>, data: &[u8], flags: SendFlags) -> Result<usize> {
        match self.stream {
            true => self.stack.tcp_send_fast_open(self.id, addr, data, flags),
            false => Err(SockError::EOPNOTSUPP),
        }
    }

    /// Bytes read; 0 is the end of the stream; EAGAIN when there is nothing yet.
    pub fn recv(&mut self, buf: &mut [u8], flags: RecvFlags) -> Result<usize> {
        match self.stream {
            true => self.stack.tcp_recv(self.id, buf, flags),
            false => self.stack.dgram_recv(self.id, buf, flags).map(|(n, ..)| n),
        }
    }

    /// The readable bytes in place, as up to `out.len()` slices in order; returns how many were filled.
    /// Then `consume` what was used. (No copy: for writev to a host socket.)
    pub fn recv_slices<'b>(&'b mut self, out: &mut [&'b [u8]]) -> Result<usize> {
        match self.stream {
            true => self.stack.tcp_recv_slices(self.id, out),
            false => Err(SockError::EOPNOTSUPP),
        }
    }

    /// Takes bytes that [`recv_slices`](Self::recv_slices) showed out of the queue.
    pub fn consume(&mut self, bytes: usize) {
        if self.stream {
            self.stack.tcp_consume(self.id, bytes);
        }
    }

    /// Room in the send buffer, in bytes.
    pub fn send_room(&self) -> usize {
        self.stack.tcp_send_room(self.id)
    }

    /// Bytes received and not read; of datagrams, the next one's.
    pub fn recv_queued(&self) -> usize {
        match self.stream {
            true => self.stack.tcp_recv_queued(self.id),
            false => self.stack.dgram_recv_queued(self.id),
        }
    }

    /// Bytes written and not acknowledged (FIN not counted).
    pub fn send_queued(&self) -> usize {
        self.stack.tcp_send_queued(self.id)
    }

    /// shutdown(2)
    pub fn shutdown(&mut self, how: Shutdown) -> Result<()> {
        match self.stream {
            true => self.stack.tcp_shutdown(self.id, how),
            false => self.stack.dgram_shutdown(self.id, how),
        }
    }

    /// close(2): the handle is void; the connection ends in order (RST if data is unread). SO_LINGER above 0 waits for nobody
    /// here: a caller who must wait does so before.
    pub fn close(self) {
        match self.stream {
            true => self.stack.tcp_close(self.id, Leave::Close),
            false => self.stack.dgram_close(self.id),
        }
    }

    /// RST at once; the handle is void.
    pub fn abort(self) {
        match self.stream {
            true => self.stack.tcp_close(self.id, Leave::Abort),
            false => self.stack.dgram_close(self.id),
        }
    }

    /// setsockopt(2); EINVAL outside Linux's ranges.
    pub fn set_option(&mut self, option: SockOption) -> Result<()> {
        match self.stream {
            true => self.stack.tcp_set_option(self.id, option),
            false => self.stack.dgram_set_option(self.id, option),
        }
    }

    /// TCP_MD5SIG and TCP_MD5SIG_EXT: segments to and from `peer` are signed with `key`, and unsigned ones from it dropped
    /// (RFC 2385). An empty key takes the one for just these peers away: ENOENT when there is none. EINVAL for a key longer
    /// than 80 bytes, ENOMEM past `net.core.optmem_max`. Timestamps yield to it, as on Linux.
    pub fn set_md5_key(&mut self, peer: Md5Peer, key: &[u8]) -> Result<()> {
        match self.stream {
            true => self.stack.tcp_set_md5_key(self.id, peer, key),
            false => Err(SockError::ENOPROTOOPT),
        }
    }

    /// The option of the same name as `like`, with its value.
    pub fn option(&self, like: SockOption) -> Result<SockOption> {
        match self.stream {
            true => self.stack.tcp_option(self.id, like),
            false => self.stack.dgram_option(self.id, like),
        }
    }

    /// getsockname(2)
    pub fn local_addr(&self) -> Result<SocketAddr> {
        match self.stream {
            true => self.stack.tcp_local_addr(self.id),
            false => self.stack.dgram_local_addr(self.id),
        }
    }

    /// getpeername(2)
    pub fn peer_addr(&self) -> Result<SocketAddr> {
        match self.stream {
            true => self.stack.tcp_peer_addr(self.id),
            false => self.stack.dgram_peer_addr(self.id),
        }
    }

    /// poll(2)'s bits now.
    pub fn readiness(&mut self) -> Readiness {
        match self.stream {
            true => self.stack.tcp_readiness(self.id),
            false => self.stack.dgram_readiness(self.id),
        }
    }

    /// SO_ERROR: the pending error, cleared.
    pub fn take_error(&mut self) -> Option<SockError> {
        match self.stream {
            true => self.stack.tcp_take_error(self.id),
            false => self.stack.dgram_take_error(self.id),
        }
    }

    /// TCP's state; a socket whose connection lives on in TIME_WAIT is CLOSED, as on Linux.
    pub fn state(&self) -> State {
        match self.stream {
            true => self.stack.tcp_state(self.id),
            false => State::Closed,
        }
    }

    /// TCP_INFO
    pub fn info(&self) -> Result<TcpInfo> {
        match self.stream {
            true => self.stack.tcp_info(self.id),
            false => Err(SockError::EOPNOTSUPP),
        }
    }

    /// UDP and Echo: sends from `src` (None: the bound address; a transparent socket may claim any) to `dst`.
    /// Echo: `data` is the ICMP message from its identifier on (identifier, sequence, payload).
    pub fn send_to(&mut self, data: &[u8], src: Option<SocketAddr>, dst: SocketAddr) -> Result<usize> {
        match self.stream {
            true => Err(SockError::EISCONN),
            false => self.stack.dgram_send(self.id, data, src, Some(dst)),
        }
    }

    /// UDP and Echo: one datagram, its source and the destination it was sent to.
    pub fn recv_from(&mut self, buf: &mut [u8]) -> Result<(usize, SocketAddr, SocketAddr)> {
        match self.stream {
            true => Err(SockError::EOPNOTSUPP),
            false => self.stack.dgram_recv(self.id, buf, RecvFlags::default()),
        }
    }

    /// UDP, transparent: tells `src` that its datagram of `payload` to `dst` could not be delivered (ICMP).
    pub fn reject(&mut self, src: SocketAddr, dst: SocketAddr, payload: &[u8], why: Unreachable) -> Result<()> {
        match self.stream {
            true => Err(SockError::EOPNOTSUPP),
            false => self.stack.dgram_reject(self.id, src, dst, payload, why),
        }
    }
}
