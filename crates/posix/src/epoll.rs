//! Readiness: poll(2) and epoll(7), level- and edge-triggered.

use crate::calls::{Errno, Result};
use crate::fd::File;
use crate::world::World;
use estab_engine::Readiness;

/// One epoll instance: its interests in the order in which they were added.
#[derive(Default)]
pub(crate) struct Epoll {
    interests: Vec<Interest>,
}

struct Interest {
    fd: i32,
    events: u32,
    data: u64,
    /// Something happened since the last report: what EPOLLET waits for.
    edge: bool,
}

impl Epoll {
    pub(crate) fn control(&mut self, op: i32, fd: i32, events: u32, data: u64) -> Result<()> {
        let at = self.interests.iter().position(|i| i.fd == fd);
        match (op, at) {
            (libc::EPOLL_CTL_ADD, None) => self.interests.push(Interest {
                fd,
                events,
                data,
                edge: true,
            }),
            (libc::EPOLL_CTL_ADD, Some(_)) => return Err(Errno(libc::EEXIST)),
            (libc::EPOLL_CTL_MOD, Some(at)) => {
                self.interests[at] = Interest {
                    fd,
                    events,
                    data,
                    edge: true,
                }
            }
            (libc::EPOLL_CTL_DEL, Some(at)) => {
                self.interests.remove(at);
            }
            (libc::EPOLL_CTL_MOD | libc::EPOLL_CTL_DEL, None) => return Err(Errno(libc::ENOENT)),
            _ => return Err(Errno(libc::EINVAL)),
        }
        Ok(())
    }

    /// Something happened on `fd`.
    pub(crate) fn edge(&mut self, fd: i32) {
        for interest in self.interests.iter_mut().filter(|i| i.fd == fd) {
            interest.edge = true;
        }
    }

    pub(crate) fn forget(&mut self, fd: i32) {
        self.interests.retain(|i| i.fd != fd);
    }

    /// Up to `max` descriptors that are ready: events and data.
    pub(crate) fn collect(&mut self, world: &mut World, max: usize) -> Vec<(u32, u64)> {
        const ALWAYS: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;
        const EDGE: u32 = libc::EPOLLET as u32;
        const ONCE: u32 = libc::EPOLLONESHOT as u32;
        let mut ready = Vec::new();
        for interest in &mut self.interests {
            if ready.len() == max {
                break;
            }
            let disabled = interest.events & !(EDGE | ONCE) == 0 && interest.events & ONCE != 0;
            if disabled || (interest.events & EDGE != 0 && !interest.edge) {
                continue;
            }
            let events = level(world, interest.fd) & (interest.events | ALWAYS);
            if events == 0 {
                continue;
            }
            interest.edge = false;
            if interest.events & ONCE != 0 {
                interest.events &= EDGE | ONCE;
            }
            ready.push((events, interest.data));
        }
        ready
    }
}

/// What `fd` is ready for, as poll's and epoll's bits (they are the same numbers).
pub(crate) fn level(world: &mut World, fd: i32) -> u32 {
    match world.files.get(fd) {
        Ok(File::Socket(id)) => {
            let (id, now) = (*id, world.now());
            world
                .stack
                .sock(now, id)
                .map_or(libc::POLLNVAL as u32, |mut sock| bits(sock.readiness()))
        }
        Ok(File::Pipe(bytes)) => {
            let readable = bytes.lock().is_ok_and(|b| !b.is_empty());
            libc::POLLOUT as u32 | if readable { libc::POLLIN as u32 } else { 0 }
        }
        Ok(File::Epoll(_)) => 0,
        Err(_) => libc::POLLNVAL as u32,
    }
}

fn bits(level: Readiness) -> u32 {
    let table = [
        (Readiness::READABLE, libc::POLLIN | libc::POLLRDNORM),
        (Readiness::WRITABLE, libc::POLLOUT | libc::POLLWRNORM),
        (Readiness::ERROR, libc::POLLERR),
        (Readiness::HANGUP, libc::POLLHUP),
        (Readiness::READ_HANGUP, libc::POLLRDHUP),
        (Readiness::PRIORITY, libc::POLLPRI),
    ];
    table
        .into_iter()
        .filter(|(ready, _)| level.contains(*ready))
        .fold(0, |all, (_, bit)| all | bit as u32)
}
