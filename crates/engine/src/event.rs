//! What the stack tells its application, and the handles they speak of.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::num::NonZeroU32;

/// A socket of a [`Stack`](crate::Stack): an index and a generation, so that an old handle never
/// reaches a new socket (it fails with EBADF).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct SocketId {
    pub(crate) index: u32,
    pub(crate) generation: NonZeroU32,
}

impl SocketId {
    /// The handle as one number, unique within its stack; shown by `estab ss`.
    pub const fn as_u64(self) -> u64 {
        (self.generation.get() as u64) << 32 | self.index as u64
    }

    /// The slot's number: small, dense, reused; good as an index into the application's own table.
    pub const fn index(self) -> usize {
        self.index as usize
    }
}

/// An open that a transparent listener holds until the application answers it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OpenId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl OpenId {
    /// The slot's number: small, dense, reused.
    pub const fn index(self) -> usize {
        self.index as usize
    }
}

/// What a socket is ready for, as poll(2)'s bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Readiness(pub u8);

impl Readiness {
    /// Data, a connection to accept, or the end of the stream can be read (POLLIN).
    pub const READABLE: Readiness = Readiness(1);
    /// There is room to write (POLLOUT); a connect has succeeded.
    pub const WRITABLE: Readiness = Readiness(2);
    /// An error waits: see `Sock::take_error` (POLLERR).
    pub const ERROR: Readiness = Readiness(4);
    /// Both directions are finished (POLLHUP).
    pub const HANGUP: Readiness = Readiness(8);
    /// The peer has finished sending (POLLRDHUP).
    pub const READ_HANGUP: Readiness = Readiness(16);
    /// Urgent data waits (POLLPRI).
    pub const PRIORITY: Readiness = Readiness(32);

    /// All bits of `other` are set.
    pub const fn contains(self, other: Readiness) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets of bits.
    pub const fn union(self, other: Readiness) -> Readiness {
        Readiness(self.0 | other.0)
    }
}

/// A SYN that a transparent listener took: answer it with `Stack::open_accept`, `open_reset`,
/// `open_unreachable` or `open_ignore`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Incoming {
    /// The transparent listener.
    pub listener: SocketId,
    /// Names this open until it is answered or has expired.
    pub open: OpenId,
    /// Where the SYN was sent to: the destination the peer believes it speaks with.
    pub local: SocketAddr,
    /// Who sent it.
    pub remote: SocketAddr,
}

/// One thing the application may want to act on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The socket's readiness has grown; what it is now. Level at the time of the poll, reported on edges:
    /// read until EAGAIN, write until EAGAIN.
    Ready(SocketId, Readiness),
    /// A transparent listener took a SYN.
    Incoming(Incoming),
    /// The peer gave up on, reset or replaced an open that was not answered yet: the handle is void.
    OpenGone(OpenId),
    /// The connection's last trace is gone (after `close`, its TIME_WAIT included): the handle is void.
    Closed(SocketId),
}

/// Events on their way to the application. A socket stands in it at most once as `Ready`; its level is taken
/// when the event is polled, so that many edges cost one event.
#[derive(Clone, Default)]
pub(crate) struct EventQueue {
    queue: VecDeque<Event>,
    /// One bit per socket slot: it stands in the queue.
    waiting: Vec<u64>,
}

impl EventQueue {
    /// The socket's readiness may have grown.
    pub(crate) fn ready(&mut self, id: SocketId) {
        let (word, bit) = (id.index() / 64, 1 << (id.index() % 64));
        if self.waiting.len() <= word {
            self.waiting.resize(word + 1, 0);
        }
        if self.waiting[word] & bit == 0 {
            self.waiting[word] |= bit;
            self.queue.push_back(Event::Ready(id, Readiness::default()));
        }
    }

    /// The slot's handle is void: what was queued for it is not worth telling, and must not swallow its successor's.
    pub(crate) fn forget(&mut self, id: SocketId) {
        let (word, bit) = (id.index() / 64, 1u64 << (id.index() % 64));
        if let Some(waiting) = self.waiting.get_mut(word) {
            *waiting &= !bit;
        }
    }

    /// Anything but `Ready`.
    pub(crate) fn push(&mut self, event: Event) {
        self.queue.push_back(event);
    }

    /// Nothing is to be told.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The next event; the level of a `Ready` is the caller's to fill in.
    pub(crate) fn pop(&mut self) -> Option<Event> {
        let event = self.queue.pop_front()?;
        if let Event::Ready(id, _) = event {
            self.forget(id);
        }
        Some(event)
    }
}
