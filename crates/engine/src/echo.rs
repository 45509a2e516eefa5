//! ICMP echo sockets. An ordinary one is Linux's ping socket (net/ipv4/ping.c): it sends echo requests under its
//! identifier, which stands for its port, and gets the replies. A transparent one sees the echo requests that others
//! send to foreign addresses through a transparent interface, and answers in their name.
//!
//! Data is the ICMP message from its identifier on: identifier, sequence number, payload.

use crate::dgram::{DgramSock, canonical, notify};
use crate::env::Env;
use crate::event::SocketId;
use crate::ip::{IcmpError, Ip, Packet, Problem, Subject, queue_echo};
use crate::options::{RecvFlags, Shutdown, SockOption};
use crate::rng::{Keyed, OwnMap, Rng};
use crate::stack::{Family, Unreachable};
use crate::{DropReason, Result, SockError};
use alloc::vec::Vec;
use core::net::SocketAddr;
use estab_wire::{icmpv4, icmpv6};
use hashbrown::HashMap;

/// Bytes of a message before its payload: identifier and sequence number.
const IDENT_AND_SEQ: usize = 4;

/// All echo sockets.
#[derive(Clone)]
pub(crate) struct Echo {
    socks: OwnMap<SocketId, DgramSock>,
    /// By IP version (true: 4) and identifier.
    idents: HashMap<(bool, u16), SocketId, Keyed>,
    transparent: Vec<SocketId>,
}

impl Echo {
    pub(crate) fn new(rng: &Rng) -> Echo {
        Echo {
            socks: OwnMap::default(),
            idents: HashMap::with_hasher(rng.keyed()),
            transparent: Vec::new(),
        }
    }

    /// socket(2): the handle is the caller's.
    pub(crate) fn open(&mut self, env: &Env, id: SocketId, family: Family) {
        let mut sock = DgramSock::new(env, id, family);
        // ICMP and ICMPv6 are two protocols: no socket speaks both.
        sock.opts.v6only = true;
        self.socks.insert(id, sock);
    }

    /// close(2)
    pub(crate) fn close(&mut self, id: SocketId) {
        self.socks.remove(&id);
        self.idents.retain(|_, other| *other != id);
        self.transparent.retain(|other| *other != id);
    }

    /// The socket, for what every datagram socket can do.
    pub(crate) fn get(&self, id: SocketId) -> Result<&DgramSock> {
        self.socks.get(&id).ok_or(SockError::EBADF)
    }

    /// The socket, for what every datagram socket can do.
    pub(crate) fn get_mut(&mut self, id: SocketId) -> Result<&mut DgramSock> {
        self.socks.get_mut(&id).ok_or(SockError::EBADF)
    }

    /// Takes an option (setsockopt(2)). Transparent takes effect at once.
    pub(crate) fn set_option(&mut self, env: &Env, id: SocketId, option: SockOption) -> Result<()> {
        self.get_mut(id)?.set_option(env, option)?;
        if let SockOption::Transparent(on) = option {
            self.transparent.retain(|other| *other != id);
            if on {
                self.transparent.push(id);
            }
        }
        Ok(())
    }

    /// bind(2): the port is the identifier; 0 chooses one. A transparent socket has none.
    pub(crate) fn bind(&mut self, env: &mut Env, id: SocketId, addr: SocketAddr) -> Result<()> {
        let sock = self.get(id)?;
        if sock.local.is_some() {
            return Err(SockError::EINVAL);
        }
        let addr = sock.take_addr(addr)?;
        let (ip, v4) = (addr.ip(), sock.family == Family::V4);
        if sock.opts.transparent {
            self.get_mut(id)?.local = Some(addr);
            return Ok(());
        }
        if !ip.is_unspecified() && !env.ip.is_local(ip) && env.sysctl.ip_nonlocal_bind == 0 {
            return Err(SockError::EADDRNOTAVAIL);
        }
        let ident = match addr.port() {
            0 => {
                let start = env.rng.u32() as u16;
                let mut all = (0..=u16::MAX).map(|n| start.wrapping_add(n));
                all.find(|ident| *ident != 0 && !self.idents.contains_key(&(v4, *ident)))
                    .ok_or(SockError::EADDRINUSE)?
            }
            ident if self.idents.contains_key(&(v4, ident)) => return Err(SockError::EADDRINUSE),
            ident => ident,
        };
        self.idents.insert((v4, ident), id);
        self.get_mut(id)?.local = Some(SocketAddr::new(ip, ident));
        Ok(())
    }

    fn autobind(&mut self, env: &mut Env, id: SocketId) -> Result<SocketAddr> {
        if let Some(local) = self.get(id)?.local {
            return Ok(local);
        }
        let any = self.get(id)?.local_addr();
        self.bind(env, id, any)?;
        self.get(id)?.local.ok_or(SockError::EADDRINUSE)
    }

    /// connect(2): the peer of `send`, and the only one heard.
    pub(crate) fn connect(&mut self, env: &mut Env, id: SocketId, addr: SocketAddr) -> Result<()> {
        let remote = self.get(id)?.take_addr(addr)?;
        let local = self.autobind(env, id)?;
        let asked = Some(local.ip()).filter(|ip| !ip.is_unspecified());
        let route = env.ip.route(remote.ip(), asked)?;
        let sock = self.get_mut(id)?;
        sock.local = Some(SocketAddr::new(route.src, local.port()));
        sock.remote = Some(remote);
        Ok(())
    }

    /// sendto(2). A transparent socket sends an echo reply from `src`, which may be anyone; another an echo request,
    /// whose identifier is the socket's whatever stands in `data`.
    pub(crate) fn send(
        &mut self,
        env: &mut Env,
        id: SocketId,
        data: &[u8],
        src: Option<SocketAddr>,
        dst: Option<SocketAddr>,
    ) -> Result<usize> {
        let sock = self.get_mut(id)?;
        if let Some(error) = sock.error.take() {
            return Err(error);
        }
        let dst = match dst {
            Some(dst) => sock.take_addr(dst)?,
            None => sock.remote.ok_or(SockError::EDESTADDRREQ)?,
        };
        let [ident_hi, ident_lo, seq_hi, seq_lo, payload @ ..] = data else {
            return Err(SockError::EINVAL);
        };
        let opts = sock.opts;
        let claimed = src.map(|src| canonical(src).ip()).filter(|ip| !ip.is_unspecified());
        if claimed.is_some_and(|ip| ip.is_ipv4() != dst.is_ipv4() || !opts.transparent && !env.ip.is_local(ip)) {
            return Err(SockError::EINVAL);
        }
        let local = self.autobind(env, id)?;
        let asked = claimed.or(Some(local.ip()).filter(|ip| !ip.is_unspecified()));
        let route = env.ip.route(dst.ip(), asked)?;
        let ident = match opts.transparent {
            true => u16::from_be_bytes([*ident_hi, *ident_lo]),
            false => local.port(),
        };
        let seq = u16::from_be_bytes([*seq_hi, *seq_lo]);
        if !Ip::has_room(env, data.len() + 48) {
            return Err(SockError::EAGAIN);
        }
        let (src, dst) = (route.src, dst.ip());
        queue_echo(env, &route, src, dst, opts.tos, opts.transparent, (ident, seq), payload)?;
        Ok(data.len())
    }

    /// recvfrom(2): one message, who sent it and to whom; the ports are 0.
    pub(crate) fn recv(
        &mut self,
        id: SocketId,
        buf: &mut [u8],
        flags: RecvFlags,
    ) -> Result<(usize, SocketAddr, SocketAddr)> {
        self.get_mut(id)?.recv(buf, flags).map(|(taken, _)| taken)
    }

    /// Transparent sockets: tells `src` by ICMP that its echo request `data` to `dst` could not be delivered.
    pub(crate) fn reject(
        &mut self,
        env: &mut Env,
        id: SocketId,
        src: SocketAddr,
        dst: SocketAddr,
        data: &[u8],
        why: Unreachable,
    ) -> Result<()> {
        let sock = self.get(id)?;
        if !sock.opts.transparent {
            return Err(SockError::EPERM);
        }
        let (from, to) = (sock.take_addr(src)?.ip(), sock.take_addr(dst)?.ip());
        Ip::queue_icmp_about(env, Problem::Unreachable(why), Subject::Echo { from, to, data });
        Ok(())
    }

    /// shutdown(2)
    pub(crate) fn shutdown(&mut self, env: &mut Env, id: SocketId, how: Shutdown) -> Result<()> {
        let sock = self.get_mut(id)?;
        sock.shutdown(how)?;
        notify(env, sock);
        Ok(())
    }

    /// An echo request for a foreign address, or an echo reply.
    pub(crate) fn input(&mut self, env: &mut Env, packet: &Packet<'_>) {
        let v4 = packet.src.is_ipv4();
        // The message was parsed on the way here: it has its eight bytes.
        let (Some(kind), Some(data)) = (packet.payload.first(), packet.payload.get(4..)) else {
            return env.mib.drop(DropReason::IcmpMalformed);
        };
        if data.len() < IDENT_AND_SEQ {
            return env.mib.drop(DropReason::IcmpMalformed);
        }
        let request = *kind
            == if v4 {
                icmpv4::kind::ECHO_REQUEST
            } else {
                icmpv6::kind::ECHO_REQUEST
            };
        let ident = u16::from_be_bytes([data[0], data[1]]);
        let fits = |sock: &&DgramSock| (sock.family == Family::V4) == v4;
        let found = match request {
            true => self.transparent.iter().filter_map(|id| self.socks.get(id)).find(fits),
            false => self.idents.get(&(v4, ident)).and_then(|id| self.socks.get(id)),
        };
        let heard = |sock: &&DgramSock| sock.remote.is_none_or(|peer| peer.ip() == packet.src);
        let Some(id) = found.filter(heard).map(|sock| sock.id) else {
            return env.mib.drop(DropReason::NoSocket);
        };
        let Some(sock) = self.socks.get_mut(&id) else { return };
        if !sock.has_room() {
            return env.mib.drop(DropReason::SocketRcvbuff);
        }
        let (src, dst) = (SocketAddr::new(packet.src, 0), SocketAddr::new(packet.dst, 0));
        if sock.push(src, dst, data) {
            notify(env, sock);
        }
    }

    /// An ICMP error quotes an echo request (Linux: `ping_err`).
    pub(crate) fn icmp(&mut self, env: &mut Env, error: &IcmpError) {
        let found = self.idents.get(&(error.local.is_ipv4(), error.local.port())).copied();
        let Some(sock) = found.and_then(|id| self.socks.get_mut(&id)) else {
            return;
        };
        if error.fatal && sock.remote.is_some_and(|peer| peer.ip() == error.remote.ip()) {
            sock.error = Some(error.error);
            notify(env, sock);
        }
    }
}
