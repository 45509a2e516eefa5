//! What UDP and echo sockets have in common: a queue of whole datagrams bounded in bytes, a few options, two ends.

use crate::env::Env;
use crate::event::{Readiness, SocketId};
use crate::options::{RecvFlags, Shutdown, SockOption};
use crate::stack::Family;
use crate::{Result, SockError};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a datagram costs the receive buffer besides its bytes (Linux counts an sk_buff's truesize).
const OVERHEAD: usize = 256;
/// SOCK_MIN_RCVBUF and SOCK_MIN_SNDBUF of Linux on 64 bits.
const MIN_RCVBUF: u32 = 2304;
const MIN_SNDBUF: u32 = 4608;

/// The options of a datagram socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DgramOpts {
    pub(crate) reuse_addr: bool,
    pub(crate) reuse_port: bool,
    pub(crate) v6only: bool,
    pub(crate) transparent: bool,
    /// 0: the default.
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
    pub(crate) rcvbuf: u32,
    pub(crate) sndbuf: u32,
}

#[derive(Clone)]
struct Datagram {
    src: SocketAddr,
    dst: SocketAddr,
    data: Vec<u8>,
}

/// A UDP or echo socket.
#[derive(Clone)]
pub(crate) struct DgramSock {
    pub(crate) id: SocketId,
    pub(crate) family: Family,
    pub(crate) opts: DgramOpts,
    /// What it is bound to; IPv4 addresses of IPv6 sockets stand here as IPv4. `None`: not yet.
    pub(crate) local: Option<SocketAddr>,
    /// connect(2)'s peer.
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) error: Option<SockError>,
    pub(crate) shut_read: bool,
    pub(crate) shut_write: bool,
    queue: VecDeque<Datagram>,
    queued: usize,
}

/// An IPv4-mapped address as the IPv4 address it stands for.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// The unspecified address of a family.
pub(crate) fn unspecified(v4: bool) -> IpAddr {
    match v4 {
        true => Ipv4Addr::UNSPECIFIED.into(),
        false => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// What a datagram of `len` bytes counts for.
pub(crate) fn truesize(len: usize) -> usize {
    len + OVERHEAD
}

impl DgramSock {
    pub(crate) fn new(env: &Env, id: SocketId, family: Family) -> DgramSock {
        DgramSock {
            id,
            family,
            opts: DgramOpts {
                reuse_addr: false,
                reuse_port: false,
                v6only: env.sysctl.bindv6only != 0,
                transparent: false,
                ttl: 0,
                tos: 0,
                rcvbuf: env.sysctl.rmem_default,
                sndbuf: env.sysctl.wmem_default,
            },
            local: None,
            remote: None,
            error: None,
            shut_read: false,
            shut_write: false,
            queue: VecDeque::new(),
            queued: 0,
        }
    }

    /// Takes an option (setsockopt(2)).
    pub(crate) fn set_option(&mut self, env: &Env, option: SockOption) -> Result<()> {
        match option {
            SockOption::ReuseAddr(on) => self.opts.reuse_addr = on,
            SockOption::ReusePort(on) => self.opts.reuse_port = on,
            SockOption::RcvBuf(n) => {
                self.opts.rcvbuf = n.min(env.sysctl.rmem_max).saturating_mul(2).max(MIN_RCVBUF);
            }
            SockOption::SndBuf(n) => {
                self.opts.sndbuf = n.min(env.sysctl.wmem_max).saturating_mul(2).max(MIN_SNDBUF);
            }
            // What is bound already would change whom it shuts out.
            SockOption::V6Only(_) if self.family == Family::V4 || self.local.is_some() => {
                return Err(SockError::EINVAL);
            }
            SockOption::V6Only(on) => self.opts.v6only = on,
            SockOption::Ttl(0) => return Err(SockError::EINVAL),
            SockOption::Ttl(ttl) => self.opts.ttl = ttl,
            SockOption::Tos(tos) => self.opts.tos = tos,
            SockOption::Transparent(on) => self.opts.transparent = on,
            _ => return Err(SockError::ENOPROTOOPT),
        }
        Ok(())
    }

    /// The option like `like`, with the value it has (getsockopt(2)).
    pub(crate) fn option(&self, like: SockOption) -> Result<SockOption> {
        Ok(match like {
            SockOption::ReuseAddr(_) => SockOption::ReuseAddr(self.opts.reuse_addr),
            SockOption::ReusePort(_) => SockOption::ReusePort(self.opts.reuse_port),
            SockOption::RcvBuf(_) => SockOption::RcvBuf(self.opts.rcvbuf),
            SockOption::SndBuf(_) => SockOption::SndBuf(self.opts.sndbuf),
            SockOption::V6Only(_) => SockOption::V6Only(self.opts.v6only),
            SockOption::Ttl(_) => SockOption::Ttl(self.opts.ttl),
            SockOption::Tos(_) => SockOption::Tos(self.opts.tos),
            SockOption::Transparent(_) => SockOption::Transparent(self.opts.transparent),
            _ => return Err(SockError::ENOPROTOOPT),
        })
    }

    /// An address the application gave, as this socket takes it: IPv4-mapped ones as IPv4.
    pub(crate) fn take_addr(&self, addr: SocketAddr) -> Result<SocketAddr> {
        let taken = canonical(addr);
        match (self.family, addr, taken) {
            (Family::V4, SocketAddr::V6(_), _) => Err(SockError::EAFNOSUPPORT),
            (Family::V6, SocketAddr::V4(_), _) => Err(SockError::EAFNOSUPPORT),
            (Family::V6, _, SocketAddr::V4(_)) if self.opts.v6only => Err(SockError::ENETUNREACH),
            _ => Ok(taken),
        }
    }

    /// An address as the application sees it: IPv4 ones of an IPv6 socket as IPv4-mapped.
    pub(crate) fn show(&self, addr: SocketAddr) -> SocketAddr {
        match (self.family, addr.ip()) {
            (Family::V6, IpAddr::V4(ip)) => SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port()),
            _ => addr,
        }
    }

    /// Packets to `ip` may be for it, as far as what it is bound to goes.
    pub(crate) fn listens_on(&self, ip: IpAddr) -> bool {
        match self.local.map(|local| local.ip()) {
            Some(local) if !local.is_unspecified() => local == ip,
            _ => match self.family {
                Family::V4 => ip.is_ipv4(),
                Family::V6 => ip.is_ipv6() || !self.opts.v6only,
            },
        }
    }

    /// getsockname(2)
    pub(crate) fn local_addr(&self) -> SocketAddr {
        let unbound = SocketAddr::new(unspecified(self.family == Family::V4), 0);
        match self.local {
            // The wildcard has the socket's own family, whatever arrives.
            Some(local) if local.ip().is_unspecified() => SocketAddr::new(unbound.ip(), local.port()),
            Some(local) => self.show(local),
            None => unbound,
        }
    }

    /// getpeername(2)
    pub(crate) fn peer_addr(&self) -> Result<SocketAddr> {
        self.remote.map(|peer| self.show(peer)).ok_or(SockError::ENOTCONN)
    }

    /// Room for one more datagram of `len` bytes (Linux: `__udp_enqueue_schedule_skb`, which lets one overshoot).
    pub(crate) fn has_room(&self) -> bool {
        self.queued <= self.opts.rcvbuf as usize && !self.shut_read
    }

    /// Appends a datagram. True if the socket had none: it becomes readable.
    pub(crate) fn push(&mut self, src: SocketAddr, dst: SocketAddr, data: &[u8]) -> bool {
        self.queued += truesize(data.len());
        self.queue.push_back(Datagram {
            src: self.show(src),
            dst: self.show(dst),
            data: data.to_vec(),
        });
        self.queue.len() == 1
    }

    /// recvfrom(2): one datagram; what doesn't fit in `buf` is cut off. Returns the bytes copied (with `trunc` the
    /// datagram's length), its source and its destination, and what it counted for in the buffer.
    pub(crate) fn recv(
        &mut self,
        buf: &mut [u8],
        flags: RecvFlags,
    ) -> Result<((usize, SocketAddr, SocketAddr), usize)> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let Some(first) = self.queue.front() else {
            return match self.shut_read {
                true => Ok(((0, self.local_addr(), self.local_addr()), 0)),
                false => Err(SockError::EAGAIN),
            };
        };
        let copied = buf.len().min(first.data.len());
        buf[..copied].copy_from_slice(&first.data[..copied]);
        let len = if flags.trunc { first.data.len() } else { copied };
        let taken = (len, first.src, first.dst);
        if flags.peek {
            return Ok((taken, 0));
        }
        let freed = truesize(first.data.len());
        self.queued -= freed;
        self.queue.pop_front();
        if self.queue.is_empty() {
            self.queue.shrink_to(16);
        }
        Ok((taken, freed))
    }

    /// FIONREAD: the length of the next datagram.
    pub(crate) fn next_len(&self) -> usize {
        self.queue.front().map_or(0, |datagram| datagram.data.len())
    }

    /// Bytes of receive buffer in use.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// poll(2)'s bits (Linux: `datagram_poll`, `udp_poll`).
    pub(crate) fn readiness(&self) -> Readiness {
        let mut bits = Readiness::WRITABLE;
        if !self.queue.is_empty() || self.shut_read || self.error.is_some() {
            bits = bits.union(Readiness::READABLE);
        }
        if self.error.is_some() {
            bits = bits.union(Readiness::ERROR);
        }
        if self.shut_read {
            bits = bits.union(Readiness::READ_HANGUP);
            if self.shut_write {
                bits = bits.union(Readiness::HANGUP);
            }
        }
        bits
    }

    /// shutdown(2): only of a connected socket.
    pub(crate) fn shutdown(&mut self, how: Shutdown) -> Result<()> {
        if self.remote.is_none() {
            return Err(SockError::ENOTCONN);
        }
        self.shut_read |= how != Shutdown::Write;
        self.shut_write |= how != Shutdown::Read;
        Ok(())
    }
}

/// Tells the application that the socket's readiness may have grown.
pub(crate) fn notify(env: &mut Env, sock: &DgramSock) {
    env.events.ready(sock.id);
}
