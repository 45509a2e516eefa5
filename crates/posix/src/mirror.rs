//! What a socket is ready for, shown on a descriptor of the kernel's: select(2), poll(2) and epoll(7) then work on it as
//! they are, beside files, pipes and the kernel's own sockets.
//!
//! The application's descriptor is one end of a Unix stream pair whose other end is kept here. A byte sent to it makes it
//! readable, a full send buffer unwritable, and a shutdown of the other end shows as end or hangup. Its own bytes are
//! never the application's: reading and writing go to the stack.

use crate::calls::{Errno, Result};
use estab_engine::Readiness;
use rustix::io::Errno as Sys;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, sockopt};
use std::os::fd::OwnedFd;

/// More than a quarter of the smallest send buffer: one such message makes a stream unwritable (Linux: `unix_writable`).
const FILL: [u8; 2048] = [0; 2048];

/// A descriptor's other end.
pub(crate) struct Mirror {
    /// The application's end, to take back what was sent to it.
    app: OwnedFd,
    ours: OwnedFd,
    readable: bool,
    writable: bool,
    /// The socket has been something else than hung up, as one is before it listens or connects.
    opened: bool,
    ended: bool,
    over: bool,
}

impl Mirror {
    /// A descriptor for the application, ready for nothing, and its mirror.
    pub(crate) fn new(cloexec: bool) -> Result<(OwnedFd, Mirror)> {
        let make = || {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let (app, ours) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            sockopt::set_socket_send_buffer_size(&app, 0)?;
            let theirs = match cloexec {
                true => rustix::io::fcntl_dupfd_cloexec(&app, 3)?,
                false => rustix::io::dup(&app)?,
            };
            let mut mirror = Mirror {
                app,
                ours,
                readable: false,
                writable: true,
                opened: false,
                ended: false,
                over: false,
            };
            mirror.show_writable(false);
            Ok((theirs, mirror))
        };
        make().map_err(|e: Sys| Errno(e.raw_os_error()))
    }

    /// Shows what the socket is ready for; `event`: something happened, so that an edge is due even where the level stays.
    pub(crate) fn show(&mut self, level: Readiness, event: bool) {
        // There is no way back from a hangup here, so that of a socket not used yet is not shown.
        let hungup = level.contains(Readiness::HANGUP);
        self.opened |= !hungup;
        let over = self.opened && hungup || level.contains(Readiness::ERROR);
        self.show_writable(over || level.contains(Readiness::WRITABLE));
        if self.opened && !self.ended {
            self.show_readable(level.contains(Readiness::READABLE), event);
        }
        // A shutdown can't fail on a pair whose ends are both open.
        if self.opened && level.contains(Readiness::READ_HANGUP) && !std::mem::replace(&mut self.ended, true) {
            let _ = rustix::net::shutdown(&self.ours, Shutdown::Write);
        }
        if over && !std::mem::replace(&mut self.over, true) {
            self.ended = true;
            let _ = rustix::net::shutdown(&self.ours, Shutdown::Both);
        }
    }

    fn show_readable(&mut self, readable: bool, event: bool) {
        if readable && (event || !self.readable) {
            // A full buffer is readable, and what it would wake is awake.
            let _ = rustix::net::send(&self.ours, &[0], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        } else if !readable && self.readable {
            drain(&self.app);
        }
        self.readable = readable;
    }

    fn show_writable(&mut self, writable: bool) {
        if writable && !self.writable {
            drain(&self.ours);
        } else if !writable && self.writable && !self.over {
            let _ = rustix::net::send(&self.app, &FILL, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
        self.writable = writable;
    }
}

/// Reads all that waits.
fn drain(end: &OwnedFd) {
    let mut buf = [0; 4096];
    while rustix::net::recv(end, &mut buf[..], RecvFlags::DONTWAIT).is_ok_and(|(n, _)| n > 0) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};

    fn seen(fd: &OwnedFd) -> PollFlags {
        let mut fds = [PollFd::new(fd, PollFlags::IN | PollFlags::OUT | PollFlags::RDHUP)];
        poll(&mut fds, Some(&rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
        fds[0].revents()
    }

    #[test]
    fn the_kernel_polls_what_the_socket_is_ready_for() {
        let (fd, mut mirror) = Mirror::new(true).unwrap();
        assert_eq!(seen(&fd), PollFlags::empty());
        let (r, w) = (Readiness::READABLE, Readiness::WRITABLE);
        mirror.show(w.union(Readiness::HANGUP), false);
        assert_eq!(seen(&fd), PollFlags::OUT);
        for _ in 0..1000 {
            mirror.show(w, true);
            assert_eq!(seen(&fd), PollFlags::OUT);
            mirror.show(r.union(w), true);
            mirror.show(r.union(w), true);
            assert_eq!(seen(&fd), PollFlags::IN | PollFlags::OUT);
            mirror.show(r, false);
            assert_eq!(seen(&fd), PollFlags::IN);
            mirror.show(Readiness::default(), false);
            assert_eq!(seen(&fd), PollFlags::empty());
        }
        let ended = r.union(Readiness::READ_HANGUP);
        mirror.show(ended, true);
        assert_eq!(seen(&fd), PollFlags::IN | PollFlags::RDHUP);
        mirror.show(ended.union(Readiness::HANGUP), true);
        let all = PollFlags::IN | PollFlags::OUT | PollFlags::RDHUP | PollFlags::HUP;
        assert_eq!(seen(&fd), all);
    }

    /// Edge-triggered epoll wakes for each arrival, though the level stays.
    #[test]
    fn each_event_is_an_edge() {
        use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
        let (fd, mut mirror) = Mirror::new(true).unwrap();
        let poller = epoll::create(CreateFlags::CLOEXEC).unwrap();
        epoll::add(&poller, &fd, EventData::new_u64(7), EventFlags::IN | EventFlags::ET).unwrap();
        let wait = || {
            let mut events = Vec::with_capacity(4);
            epoll::wait(
                &poller,
                rustix::buffer::spare_capacity(&mut events),
                Some(&rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 }),
            )
            .unwrap();
            events.len()
        };
        assert_eq!(wait(), 0);
        for _ in 0..3 {
            mirror.show(Readiness::READABLE, true);
            assert_eq!((wait(), wait()), (1, 0));
        }
    }
}
