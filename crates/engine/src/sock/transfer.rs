//! Bytes to and from TCP sockets (Linux: `tcp_sendmsg_locked`, `tcp_recvmsg_locked`).

use super::tcp::Which;
use crate::event::SocketId;
use crate::stack::Stack;
use crate::tcp::conn::Conn;
use crate::{RecvFlags, Result, SendFlags, SockError};
use estab_proto::State;

impl Stack {
    pub(crate) fn tcp_send(&mut self, id: SocketId, data: &[u8], flags: SendFlags) -> Result<usize> {
        let index = self.tcp_sender(id)?;
        let conn = &mut self.tcp.conns[index as usize];
        match conn.state {
            State::SynSent if conn.is_connect_deferred() => return self.tcp_send_syn(id, data, flags),
            State::SynRcvd if conn.is_fast_open_child() => {}
            State::SynSent | State::SynRcvd => {
                if let Some(opening) = conn.opening.as_deref_mut() {
                    opening.write_pending |= flags.waits;
                }
                return Err(SockError::EAGAIN);
            }
            State::Established | State::CloseWait => {}
            _ => return Err(SockError::EPIPE),
        }
        let taken = conn.snd.write(&mut self.env, data, flags);
        self.tcp.settle(&mut self.env, index);
        match taken {
            0 if !data.is_empty() => Err(SockError::EAGAIN),
            n => Ok(n),
        }
    }

    /// The connection to write to, with no error pending.
    fn tcp_sender(&mut self, id: SocketId) -> Result<u32> {
        let Which::Conn(index) = self.which(id)? else {
            return Err(SockError::EPIPE);
        };
        let conn = &mut self.tcp.conns[index as usize];
        match conn.error.take() {
            Some(error) => Err(error),
            None if conn.snd_shutdown => Err(SockError::EPIPE),
            None => Ok(index),
        }
    }

    pub(crate) fn tcp_send_with(
        &mut self,
        id: SocketId,
        most: usize,
        flags: SendFlags,
        fill: impl FnOnce(&mut [&mut [u8]]) -> usize,
    ) -> Result<usize> {
        let index = self.tcp_sender(id)?;
        let conn = &mut self.tcp.conns[index as usize];
        match conn.state {
            State::Established | State::CloseWait => {}
            State::SynSent | State::SynRcvd => return Err(SockError::EAGAIN),
            _ => return Err(SockError::EPIPE),
        }
        let taken = conn.snd.write_with(&mut self.env, most, flags, fill);
        self.tcp.settle(&mut self.env, index);
        Ok(taken)
    }

    /// What a read finds when there is no data.
    fn tcp_nothing_to_read(conn: &mut Conn) -> Result<usize> {
        if conn.rcv.fin_received() {
            return Ok(0);
        }
        if let Some(error) = conn.error.take() {
            return Err(error);
        }
        if conn.rcv_shutdown {
            return Ok(0);
        }
        Err(SockError::EAGAIN)
    }

    pub(crate) fn tcp_recv(&mut self, id: SocketId, buf: &mut [u8], flags: RecvFlags) -> Result<usize> {
        let Which::Conn(index) = self.which(id)? else {
            return Err(SockError::ENOTCONN);
        };
        let conn = &mut self.tcp.conns[index as usize];
        if flags.oob {
            let byte = conn.rcv.read_urgent(flags.peek)?;
            if let Some(first) = buf.first_mut() {
                *first = byte;
            }
            return Ok(1.min(buf.len()));
        }
        if conn.rcv.readable() == 0 {
            // A read at the urgent mark steps over it.
            if !buf.is_empty() && !flags.peek {
                conn.rcv.read(&mut self.env.rcv(), &mut [], false);
            }
            if conn.rcv.readable() == 0 {
                return Self::tcp_nothing_to_read(conn);
            }
        }
        let n = match flags.trunc {
            true => {
                let n = conn.rcv.readable().min(buf.len());
                conn.rcv.consume(&mut self.env.rcv(), n);
                n
            }
            false => conn.rcv.read(&mut self.env.rcv(), buf, flags.peek),
        };
        self.tcp.settle(&mut self.env, index);
        Ok(n)
    }

    pub(crate) fn tcp_recv_slices<'b>(&'b mut self, id: SocketId, out: &mut [&'b [u8]]) -> Result<usize> {
        let Which::Conn(index) = self.which(id)? else {
            return Err(SockError::ENOTCONN);
        };
        let conn = &mut self.tcp.conns[index as usize];
        if conn.rcv.readable() == 0 {
            return Self::tcp_nothing_to_read(conn);
        }
        Ok(conn.rcv.slices(out))
    }

    pub(crate) fn tcp_consume(&mut self, id: SocketId, bytes: usize) {
        if let Ok(Which::Conn(index)) = self.which(id) {
            self.tcp.conns[index as usize].rcv.consume(&mut self.env.rcv(), bytes);
            self.tcp.settle(&mut self.env, index);
        }
    }

    /// The application took `taken` bytes of text from a packet and left `rest`.
    pub(crate) fn tcp_return_lent(&mut self, id: SocketId, taken: usize, rest: &[u8]) {
        if let Ok(Which::Conn(index)) = self.which(id) {
            let conn = &mut self.tcp.conns[index as usize];
            conn.rcv.return_lent(&mut self.env.rcv(), taken, rest);
            if !rest.is_empty() {
                conn.notify(&mut self.env);
            }
            self.tcp.settle(&mut self.env, index);
        }
    }

    pub(crate) fn tcp_send_room(&self, id: SocketId) -> usize {
        self.conn(id).map_or(0, |c| match c.state {
            State::Established | State::CloseWait if !c.snd_shutdown => c.snd.room(),
            State::SynRcvd if c.is_fast_open_child() && !c.snd_shutdown => c.snd.room(),
            _ => 0,
        })
    }

    pub(crate) fn tcp_recv_queued(&self, id: SocketId) -> usize {
        self.conn(id).map_or(0, |c| c.rcv.readable())
    }

    pub(crate) fn tcp_send_queued(&self, id: SocketId) -> usize {
        self.conn(id).map_or(0, |c| c.snd.queued() as usize)
    }

    pub(crate) fn tcp_send_unsent(&self, id: SocketId) -> usize {
        self.conn(id).map_or(0, |c| c.snd.unsent() as usize)
    }

    pub(crate) fn tcp_at_mark(&self, id: SocketId) -> bool {
        self.conn(id).is_some_and(|c| c.rcv.at_mark())
    }
}
