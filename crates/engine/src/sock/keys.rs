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
            self.tcp.conns[index as usize].make_room_for_options(&self.env);
            self.tcp.settle(&mut self.env, index);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::options::Md5Peer;
    use crate::*;

    /// Boxes that wait for their next connection or socket hold nobody's keys.
    #[test]
    fn keys_go_with_their_socket() {
        let now = Instant::ZERO;
        let config = Config {
            seed: [1; 32],
            memory: 1 << 30,
            unix_time: 0,
        };
        let mut stack = Stack::new(now, config);
        let peer = "127.0.0.1:9".parse().unwrap();
        let id = stack.socket(Family::V4, Kind::Stream).unwrap();
        let mut sock = stack.sock(now, id).unwrap();
        sock.set_md5_key(Md5Peer::host("127.0.0.1".parse().unwrap()), b"secret")
            .unwrap();
        sock.connect(peer).unwrap();
        sock.abort();
        let conn = stack.env.conns.take().expect("the connection's box is kept");
        assert!(conn.opts.keys.is_empty());
        let idle = stack.env.idles.take().expect("the socket's box is kept");
        assert!(idle.opts.keys.is_empty());
    }
}
