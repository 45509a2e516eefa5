//! What every part of a worker works with: its stack, its time, its poller and its deadlines.

use crate::config::Config;
use crate::hostaddr::AddrMap;
use crate::limits::{Limit, Limits};
use crate::sys::{EventFlags, Poller};
use crate::table::{BySocket, Deadlines, Key, Token};
use estab_engine::{Instant, Sock, SocketId, Stack};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Whose an engine socket is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    Tcp(Key),
    /// The server's end of a connection that the SYN proxy carries.
    Link(Key),
    Page(Key),
    Udp,
    Echo,
    Listener,
}

pub(crate) struct Core {
    pub(crate) stack: Stack,
    /// The time of what is being served.
    pub(crate) now: Instant,
    pub(crate) poller: Poller,
    pub(crate) config: Arc<Config>,
    pub(crate) map: AddrMap,
    pub(crate) deadlines: Deadlines,
    pub(crate) limits: Arc<Limits>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) owners: BySocket<Owner>,
}

impl Core {
    pub(crate) fn new(
        stack: Stack,
        now: Instant,
        config: Arc<Config>,
        limits: Arc<Limits>,
        stats: Arc<Stats>,
    ) -> Result<Core, Errno> {
        Ok(Core {
            stack,
            now,
            poller: Poller::new()?,
            map: AddrMap::new(&config),
            config,
            deadlines: Deadlines::default(),
            limits,
            stats,
            owners: BySocket::new(),
        })
    }

    pub(crate) fn own(&mut self, id: SocketId, owner: Owner) {
        self.owners.set(id, owner);
    }

    /// Whose `id` is; `None` once it has been let go.
    pub(crate) fn owner(&self, id: SocketId) -> Option<Owner> {
        self.owners.get(id)
    }

    pub(crate) fn disown(&mut self, id: SocketId) {
        self.owners.remove(id);
    }

    pub(crate) fn sock(&mut self, id: SocketId) -> estab_engine::Result<Sock<'_>> {
        self.stack.sock(self.now, id)
    }

    /// Waits for `fd` under `token`. `None`: the host has no room for it; that was told.
    pub(crate) fn watch(&mut self, fd: &OwnedFd, flags: EventFlags, token: Token) -> Option<()> {
        match self.poller.add(fd, flags, token.pack()) {
            Ok(()) => Some(()),
            Err(err) => {
                self.limit(err, "a connection");
                None
            }
        }
    }

    /// Tells of the limit that `err` stands for, if it is one.
    pub(crate) fn limit(&mut self, err: Errno, whom: &str) -> Option<Limit> {
        let limit = Limit::met(err)?;
        self.limits.tell(self.now, limit, whom);
        Some(limit)
    }

    pub(crate) fn wake_in(&mut self, delay: Duration, token: Token) {
        self.deadlines.add(self.now + delay, token);
    }
}

/// Figures of one worker that others may read.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    /// Connections carried, ever.
    pub(crate) connections: AtomicU64,
    /// Connections being carried.
    pub(crate) open: AtomicU64,
    /// UDP flows being carried.
    pub(crate) flows: AtomicU64,
    /// Bytes of connections from the guest to the host.
    pub(crate) bytes_out: AtomicU64,
    /// Bytes of connections from the host to the guest.
    pub(crate) bytes_in: AtomicU64,
    /// Packets the device did not take.
    pub(crate) lost: AtomicU64,
}

impl Stats {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn sub(counter: &AtomicU64, n: u64) {
        counter.fetch_sub(n, Ordering::Relaxed);
    }

    pub(crate) fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}
