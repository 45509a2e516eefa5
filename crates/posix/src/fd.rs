//! Descriptors. Each is backed by a real one, so that the numbers are the process's own, a stray `close` of the C library
//! finds something to close, and on a live stack the kernel can poll it.

use crate::calls::{Errno, Result};
use crate::epoll::Epoll;
use crate::mirror::Mirror;
use estab_engine::SocketId;
use std::collections::{HashMap, VecDeque};
use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a descriptor stands for.
#[derive(Clone)]
pub(crate) enum File {
    Socket(SocketId),
    Epoll(Arc<Mutex<Epoll>>),
    /// One end of a pipe; the bytes are shared by both.
    Pipe(Arc<Mutex<VecDeque<u8>>>),
}

/// A socket, whichever descriptor names it.
#[derive(Clone, Copy)]
pub(crate) struct Socket {
    pub(crate) id: SocketId,
    pub(crate) domain: i32,
    pub(crate) stream: bool,
    pub(crate) nonblocking: bool,
    /// TCP_INQ: recvmsg tells what is left.
    pub(crate) inq: bool,
    /// SO_RCVTIMEO and SO_SNDTIMEO: how long a call waits.
    pub(crate) recv_timeout: Option<Duration>,
    pub(crate) send_timeout: Option<Duration>,
}

struct Opened {
    socket: Socket,
    /// More than one after dup(2).
    fds: Vec<i32>,
    mirror: Option<Mirror>,
}

/// The open descriptors.
#[derive(Default)]
pub(crate) struct Files {
    open: HashMap<i32, File>,
    sockets: HashMap<SocketId, Opened>,
}

/// Descriptors below this are found without a lock.
const MARKED: usize = 1 << 16;
static MARKS: [AtomicU64; MARKED / 64] = [const { AtomicU64::new(0) }; MARKED / 64];

fn mark(fd: i32, ours: bool) {
    let Some(word) = MARKS.get(fd as usize / 64) else {
        return;
    };
    let bit = 1 << (fd % 64);
    match ours {
        true => word.fetch_or(bit, Ordering::Relaxed),
        false => word.fetch_and(!bit, Ordering::Relaxed),
    };
}

/// Whether `fd` may be one of ours; certain below [`MARKED`].
pub(crate) fn is_marked(fd: i32) -> bool {
    match MARKS.get(usize::try_from(fd).unwrap_or(usize::MAX) / 64) {
        Some(word) => word.load(Ordering::Relaxed) & 1 << (fd % 64) != 0,
        None => fd > 0,
    }
}

impl Files {
    /// Opens a descriptor that the kernel doesn't poll.
    pub(crate) fn add(&mut self, file: File) -> Result<i32> {
        // SAFETY: eventfd takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(Errno(libc::EMFILE));
        }
        self.name(fd, file);
        Ok(fd)
    }

    /// Opens a socket's descriptor: `backing`, which the mirror moves, or one that the kernel doesn't poll.
    pub(crate) fn add_socket(&mut self, socket: Socket, backing: Option<(OwnedFd, Mirror)>) -> Result<i32> {
        let id = socket.id;
        let (fd, mirror) = match backing {
            None => (self.add(File::Socket(id))?, None),
            Some((fd, mirror)) => {
                let fd = fd.into_raw_fd();
                self.name(fd, File::Socket(id));
                (fd, Some(mirror))
            }
        };
        let fds = vec![fd];
        self.sockets.insert(id, Opened { socket, fds, mirror });
        Ok(fd)
    }

    /// `copy`, made by dup(2), names what `fd` names.
    pub(crate) fn duplicate(&mut self, fd: i32, copy: i32) -> Result<()> {
        let file = self.get(fd)?.clone();
        if let File::Socket(id) = &file
            && let Some(opened) = self.sockets.get_mut(id)
        {
            opened.fds.push(copy);
        }
        self.name(copy, file);
        Ok(())
    }

    fn name(&mut self, fd: i32, file: File) {
        self.open.insert(fd, file);
        mark(fd, true);
    }

    pub(crate) fn get(&self, fd: i32) -> Result<&File> {
        self.open.get(&fd).ok_or(Errno(libc::EBADF))
    }

    pub(crate) fn has(&self, fd: i32) -> bool {
        self.open.contains_key(&fd)
    }

    pub(crate) fn socket(&self, fd: i32) -> Result<Socket> {
        match self.get(fd)? {
            File::Socket(id) => self
                .sockets
                .get(id)
                .map(|opened| opened.socket)
                .ok_or(Errno(libc::EBADF)),
            _ => Err(Errno(libc::ENOTSOCK)),
        }
    }

    pub(crate) fn socket_mut(&mut self, fd: i32) -> Result<&mut Socket> {
        match self.open.get(&fd) {
            Some(File::Socket(id)) => {
                let opened = self.sockets.get_mut(id).ok_or(Errno(libc::EBADF))?;
                Ok(&mut opened.socket)
            }
            Some(_) => Err(Errno(libc::ENOTSOCK)),
            None => Err(Errno(libc::EBADF)),
        }
    }

    pub(crate) fn mirror(&mut self, id: SocketId) -> Option<&mut Mirror> {
        self.sockets.get_mut(&id)?.mirror.as_mut()
    }

    pub(crate) fn epolls(&self) -> impl Iterator<Item = &Arc<Mutex<Epoll>>> {
        self.open.values().filter_map(|file| match file {
            File::Epoll(epoll) => Some(epoll),
            _ => None,
        })
    }

    /// The descriptors of a socket.
    pub(crate) fn of(&self, id: SocketId) -> &[i32] {
        self.sockets.get(&id).map_or(&[], |opened| &opened.fds)
    }

    /// Closes a descriptor; the socket, if it was its last.
    pub(crate) fn remove(&mut self, fd: i32) -> Result<Option<SocketId>> {
        let file = self.open.remove(&fd).ok_or(Errno(libc::EBADF))?;
        mark(fd, false);
        let mut last = None;
        if let File::Socket(id) = file
            && let Some(opened) = self.sockets.get_mut(&id)
        {
            opened.fds.retain(|other| *other != fd);
            if opened.fds.is_empty() {
                self.sockets.remove(&id);
                last = Some(id);
            }
        }
        // SAFETY: the descriptor behind `fd` is this table's own, and its entry is gone: closed once.
        unsafe { libc::syscall(libc::SYS_close, fd) };
        Ok(last)
    }

    pub(crate) fn all(&self) -> Vec<i32> {
        self.open.keys().copied().collect()
    }
}
