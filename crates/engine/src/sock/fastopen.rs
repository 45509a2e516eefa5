//! MSG_FASTOPEN, TCP_FASTOPEN and their kin on sockets (Linux: `tcp_sendmsg_fastopen`, `__inet_stream_connect`,
//! `do_tcp_setsockopt`).

use crate::env::Env;
use crate::event::SocketId;
use crate::sock::id::Body;
use crate::stack::Stack;
use crate::tcp::fastopen::mode;
use crate::{Result, SendFlags, SockError, SockOption};
use core::net::SocketAddr;
use estab_proto::State;

impl Stack {
    pub(crate) fn tcp_send_fast_open(
        &mut self,
        id: SocketId,
        addr: Option<SocketAddr>,
        data: &[u8],
        flags: SendFlags,
    ) -> Result<usize> {
        if self.env.sysctl.tcp_fastopen & mode::CLIENT == 0 {
            return Err(SockError::EOPNOTSUPP);
        }
        if self.deferred(id).is_none() {
            match (addr, self.opening_now(id)) {
                (_, Some(false)) => return self.tcp_send(id, data, flags),
                (_, Some(true)) => return Err(SockError::EALREADY),
                (None, None) => return Err(SockError::EINVAL),
                (Some(addr), None) => {
                    self.active_open(id, addr, State::Closed)?;
                }
            }
        }
        self.tcp_send_syn(id, data, flags)
    }

    /// The connection of a socket whose SYN waits for the first write.
    pub(crate) fn deferred(&self, id: SocketId) -> Option<u32> {
        match self.socks.get(id)?.body {
            Body::Conn(i) if self.tcp.conns.get(i as usize)?.is_connect_deferred() => Some(i),
            _ => None,
        }
    }

    /// Whether an open that connect(2) began is under way (`true`), or succeeded and nobody was told (`false`).
    fn opening_now(&mut self, id: SocketId) -> Option<bool> {
        let Body::Conn(i) = self.socks.get(id)?.body else {
            return None;
        };
        let conn = self.tcp.conns.get_mut(i as usize).filter(|c| c.connecting)?;
        match conn.state {
            State::SynSent | State::SynRcvd => Some(true),
            State::Closed => None,
            _ => {
                conn.connecting = false;
                Some(false)
            }
        }
    }

    /// The SYN leaves, with data if it may.
    pub(crate) fn tcp_send_syn(&mut self, id: SocketId, data: &[u8], flags: SendFlags) -> Result<usize> {
        let Some(Body::Conn(index)) = self.socks.get(id).map(|slot| &slot.body) else {
            return Err(SockError::EBADF);
        };
        let index = *index;
        let conn = &mut self.tcp.conns[index as usize];
        let taken = conn.fast_open_send(&mut self.env, data);
        if let Some(opening) = conn.opening.as_deref_mut() {
            opening.write_pending = flags.waits && taken < data.len();
        }
        self.tcp.settle(&mut self.env, index);
        match taken {
            0 => Err(SockError::EINPROGRESS),
            n => Ok(n),
        }
    }
}

/// Whether a Fast Open option may be set on a socket in `state`, and the value to set (Linux: `do_tcp_setsockopt`).
pub(crate) fn checked(env: &Env, state: State, option: SockOption) -> Result<SockOption> {
    let idle = state == State::Closed;
    match option {
        SockOption::FastOpen(n) if idle || state == State::Listen => {
            Ok(SockOption::FastOpen(n.min(env.sysctl.somaxconn)))
        }
        SockOption::FastOpenNoCookie(_) if idle || state == State::Listen => Ok(option),
        SockOption::FastOpen(_) | SockOption::FastOpenNoCookie(_) => Err(SockError::EINVAL),
        SockOption::FastOpenConnect(_) if env.sysctl.tcp_fastopen & mode::CLIENT == 0 => Err(SockError::EOPNOTSUPP),
        SockOption::FastOpenConnect(_) if !idle => Err(SockError::EINVAL),
        other => Ok(other),
    }
}

/// The queue that a listener gets without TCP_FASTOPEN: with 0x400 in `tcp_fastopen` as many as its backlog
/// (Linux: `inet_listen`).
pub(crate) fn queue_of_listener(env: &Env, asked: u32, backlog: u32) -> u32 {
    let both = mode::SERVER | mode::SERVER_ALWAYS;
    match asked {
        0 if env.sysctl.tcp_fastopen & both == both => backlog,
        n => n,
    }
}
