//! Descriptors. Each is backed by a real one (an eventfd), so that the numbers are the process's own and a stray
//! `close` of the C library finds something to close.

use crate::calls::{Errno, Result};
use crate::epoll::Epoll;
use estab_engine::SocketId;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

/// What a descriptor stands for.
#[derive(Clone)]
pub(crate) enum File {
    Socket(Socket),
    Epoll(Arc<Mutex<Epoll>>),
    /// One end of a pipe; the bytes are shared by both.
    Pipe(Arc<Mutex<VecDeque<u8>>>),
}

/// A socket's descriptor.
#[derive(Clone, Copy)]
pub(crate) struct Socket {
    pub(crate) id: SocketId,
    pub(crate) domain: i32,
    pub(crate) nonblocking: bool,
    /// TCP_INQ: recvmsg tells what is left.
    pub(crate) inq: bool,
}

/// The open descriptors.
#[derive(Default)]
pub(crate) struct Files {
    open: HashMap<i32, File>,
}

impl Files {
    pub(crate) fn add(&mut self, file: File) -> Result<i32> {
        // SAFETY: eventfd takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(Errno(libc::EMFILE));
        }
        self.open.insert(fd, file);
        Ok(fd)
    }

    pub(crate) fn get(&self, fd: i32) -> Result<&File> {
        self.open.get(&fd).ok_or(Errno(libc::EBADF))
    }

    pub(crate) fn has(&self, fd: i32) -> bool {
        self.open.contains_key(&fd)
    }

    pub(crate) fn socket(&self, fd: i32) -> Result<Socket> {
        match self.get(fd)? {
            File::Socket(socket) => Ok(*socket),
            _ => Err(Errno(libc::ENOTSOCK)),
        }
    }

    pub(crate) fn socket_mut(&mut self, fd: i32) -> Result<&mut Socket> {
        match self.open.get_mut(&fd) {
            Some(File::Socket(socket)) => Ok(socket),
            Some(_) => Err(Errno(libc::ENOTSOCK)),
            None => Err(Errno(libc::EBADF)),
        }
    }

    pub(crate) fn epolls(&self) -> impl Iterator<Item = &Arc<Mutex<Epoll>>> {
        self.open.values().filter_map(|file| match file {
            File::Epoll(epoll) => Some(epoll),
            _ => None,
        })
    }

    /// The descriptor of a socket.
    pub(crate) fn of(&self, id: SocketId) -> Option<i32> {
        let found = self
            .open
            .iter()
            .find(|(_, file)| matches!(file, File::Socket(socket) if socket.id == id));
        found.map(|(fd, _)| *fd)
    }

    pub(crate) fn remove(&mut self, fd: i32) -> Result<File> {
        let file = self.open.remove(&fd).ok_or(Errno(libc::EBADF))?;
        // SAFETY: the eventfd behind `fd` is this table's own, and its entry is gone: closed once.
        unsafe { libc::syscall(libc::SYS_close, fd) };
        Ok(file)
    }

    pub(crate) fn all(&self) -> Vec<i32> {
        self.open.keys().copied().collect()
    }
}
