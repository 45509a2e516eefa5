//! TCP_MD5SIG: keys of a socket (RFC 2385).

use super::id::Body;
use crate::event::SocketId;
use crate::options::Md5Peer;
use crate::stack::Stack;
use crate::{Result, SockError};
use alloc::sync::Arc;

impl Stack {
    pub(crate) fn tcp_set_md5_key(&mut self, id: SocketId, peer: Md5Peer, secret: &[u8]) -> Result<()> {
        let most = self.env.sysctl.optmem_max;
        let slot = self.socks.get_mut(id).ok_or(SockError::EBADF)?;
        let opts = match &mut slot.body {
            Body::Idle(idle) => &mut idle.opts,
            Body::Listener(i) => &mut self.tcp.listeners[*i as usize].opts,
            Body::Conn(i) => &mut self.tcp.conns[*i as usize].opts,
            _ => return Err(SockError::ENOPROTOOPT),
        };
        Arc::make_mut(opts).keys.set(peer, secret, most)?;
        self.tcp.signing = true;
        if let Body::Conn(index) = slot.body {
            self.tcp.conns[index as usize].make_room_for_options();
            self.tcp.settle(&mut self.env, index);
        }
        Ok(())
    }
}
