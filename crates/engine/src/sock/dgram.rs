//! The socket calls on UDP and ICMP echo sockets: which of the two has the socket, and off to it.

use super::id::Body;
use crate::event::SocketId;
use crate::ip::Delivery;
use crate::stack::Stack;
use crate::{Family, Readiness, RecvFlags, Result, Shutdown, SockError, SockOption, Unreachable};
use core::net::SocketAddr;
use estab_proto::SockDiag;

/// Calls the same method on whichever of `udp` and `echo` has the socket.
macro_rules! which {
    ($stack:ident, $id:ident, |$proto:ident, $env:ident| $call:expr) => {{
        let $env = &mut $stack.env;
        match $stack.socks.get($id).map(|slot| &slot.body) {
            Some(Body::Udp) => {
                let $proto = &mut $stack.udp;
                $call
            }
            Some(Body::Echo) => {
                let $proto = &mut $stack.echo;
                $call
            }
            _ => Err(SockError::EBADF),
        }
    }};
}

impl Stack {
    pub(crate) fn dgram_socket(&mut self, family: Family, body: Body) -> Result<SocketId> {
        let udp = matches!(body, Body::Udp);
        let id = self.socks.insert(family, body)?;
        match udp {
            true => self.udp.open(&self.env, id, family),
            false => self.echo.open(&self.env, id, family),
        }
        Ok(id)
    }

    /// A packet, or an ICMP error, that is not TCP's.
    pub(crate) fn dgram_input(&mut self, delivery: Delivery<'_>) {
        match delivery {
            Delivery::Udp(packet) => self.udp.input(&mut self.env, &packet),
            Delivery::Echo(packet) => self.echo.input(&mut self.env, &packet),
            Delivery::Error(error) if error.protocol == 17 => self.udp.icmp(&mut self.env, &error),
            Delivery::Error(error) => self.echo.icmp(&mut self.env, &error),
            Delivery::Tcp(_) => {}
        }
    }

    pub(crate) fn dgram_bind(&mut self, id: SocketId, addr: SocketAddr) -> Result<()> {
        which!(self, id, |proto, env| proto.bind(env, id, addr))
    }

    pub(crate) fn dgram_connect(&mut self, id: SocketId, addr: SocketAddr) -> Result<()> {
        which!(self, id, |proto, env| proto.connect(env, id, addr))
    }

    pub(crate) fn dgram_send(
        &mut self,
        id: SocketId,
        data: &[u8],
        src: Option<SocketAddr>,
        dst: Option<SocketAddr>,
    ) -> Result<usize> {
        which!(self, id, |proto, env| proto.send(env, id, data, src, dst))
    }

    #[inline(never)]
    pub(crate) fn dgram_recv(
        &mut self,
        id: SocketId,
        buf: &mut [u8],
        flags: RecvFlags,
    ) -> Result<(usize, SocketAddr, SocketAddr)> {
        which!(self, id, |proto, _env| proto.recv(id, buf, flags))
    }

    pub(crate) fn dgram_reject(
        &mut self,
        id: SocketId,
        src: SocketAddr,
        dst: SocketAddr,
        payload: &[u8],
        why: Unreachable,
    ) -> Result<()> {
        which!(self, id, |proto, env| proto.reject(env, id, src, dst, payload, why))
    }

    pub(crate) fn dgram_shutdown(&mut self, id: SocketId, how: Shutdown) -> Result<()> {
        which!(self, id, |proto, env| proto.shutdown(env, id, how))
    }

    pub(crate) fn dgram_close(&mut self, id: SocketId) {
        match self.socks.remove(id) {
            Some(Body::Udp) => self.udp.close(id),
            Some(Body::Echo) => self.echo.close(id),
            _ => {}
        }
        self.env.events.forget(id);
    }

    pub(crate) fn dgram_set_option(&mut self, id: SocketId, option: SockOption) -> Result<()> {
        which!(self, id, |proto, env| proto.set_option(env, id, option))
    }

    /// The socket, for what both kinds tell alike.
    fn dgram(&self, id: SocketId) -> Result<&crate::dgram::DgramSock> {
        match self.socks.get(id).map(|slot| &slot.body) {
            Some(Body::Udp) => self.udp.get(id),
            Some(Body::Echo) => self.echo.get(id),
            _ => Err(SockError::EBADF),
        }
    }

    pub(crate) fn dgram_option(&self, id: SocketId, like: SockOption) -> Result<SockOption> {
        self.dgram(id)?.option(like)
    }

    pub(crate) fn dgram_local_addr(&self, id: SocketId) -> Result<SocketAddr> {
        Ok(self.dgram(id)?.local_addr())
    }

    pub(crate) fn dgram_peer_addr(&self, id: SocketId) -> Result<SocketAddr> {
        self.dgram(id)?.peer_addr()
    }

    #[inline(never)]
    pub(crate) fn dgram_readiness(&self, id: SocketId) -> Readiness {
        self.dgram(id).map_or(Readiness::default(), |sock| sock.readiness())
    }

    pub(crate) fn dgram_recv_queued(&self, id: SocketId) -> usize {
        self.dgram(id).map_or(0, |sock| sock.next_len())
    }

    pub(crate) fn dgram_take_error(&mut self, id: SocketId) -> Option<SockError> {
        let sock = match self.socks.get(id).map(|slot| &slot.body) {
            Some(Body::Udp) => self.udp.get_mut(id),
            Some(Body::Echo) => self.echo.get_mut(id),
            _ => return None,
        };
        sock.ok()?.error.take()
    }

    pub(crate) fn dgram_diag(&self) -> impl Iterator<Item = SockDiag> + '_ {
        self.udp.diag()
    }
}
