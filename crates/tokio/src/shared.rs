//! What the driver and the sockets share: the engine under a lock, and who waits for what.

use estab_engine::{Event, Instant, Readiness, Sock, SockError, SocketId};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::sync::Notify;
use tokio::time;

/// The engine and its waiters.
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    /// Tells the driver that there may be something to send, or a nearer deadline.
    pub(crate) kick: Notify,
    start: time::Instant,
}

pub(crate) struct Inner {
    pub(crate) engine: estab_engine::Stack,
    /// By `SocketId::index`.
    waiters: Vec<Waiters>,
    /// The device failed: every call fails with it.
    pub(crate) failed: Option<io::ErrorKind>,
    /// Handles and sockets that the application still holds.
    pub(crate) held: usize,
}

#[derive(Default)]
struct Waiters {
    read: Vec<Waker>,
    write: Vec<Waker>,
}

/// What a task waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    Read,
    Write,
}

impl Shared {
    pub(crate) fn new(engine: impl FnOnce(Instant) -> estab_engine::Stack) -> Shared {
        let inner = Inner {
            engine: engine(Instant::ZERO),
            waiters: Vec::new(),
            failed: None,
            held: 0,
        };
        Shared {
            inner: Mutex::new(inner),
            kick: Notify::new(),
            start: time::Instant::now(),
        }
    }

    /// The engine's clock.
    pub(crate) fn now(&self) -> Instant {
        let elapsed = time::Instant::now().saturating_duration_since(self.start);
        Instant::from_nanos(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The runtime's time for a deadline of the engine.
    pub(crate) fn at(&self, deadline: Instant) -> time::Instant {
        self.start + deadline.since(Instant::ZERO)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        // The engine does not panic; should a waker have, the engine is whole all the same.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call on a socket; the driver then sends what came of it.
    pub(crate) fn call<T>(&self, id: SocketId, f: impl FnOnce(&mut Sock<'_>) -> Result<T, SockError>) -> io::Result<T> {
        let now = self.now();
        let mut inner = self.lock();
        inner.check()?;
        let result = inner.engine.sock(now, id).and_then(|mut sock| f(&mut sock));
        drop(inner);
        self.kick.notify_one();
        result.map_err(error)
    }

    /// One call on a socket that changes nothing.
    pub(crate) fn look<T>(&self, id: SocketId, f: impl FnOnce(&mut Sock<'_>) -> Result<T, SockError>) -> io::Result<T> {
        let now = self.now();
        let mut inner = self.lock();
        inner
            .engine
            .sock(now, id)
            .and_then(|mut sock| f(&mut sock))
            .map_err(error)
    }

    /// One call that may have to wait: EAGAIN parks the task until the socket is ready for `want`.
    pub(crate) fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        id: SocketId,
        want: Want,
        f: impl FnOnce(&mut Sock<'_>) -> Result<T, SockError>,
    ) -> Poll<io::Result<T>> {
        let now = self.now();
        let mut inner = self.lock();
        if let Err(e) = inner.check() {
            return Poll::Ready(Err(e));
        }
        let result = inner.engine.sock(now, id).and_then(|mut sock| f(&mut sock));
        if result.as_ref().err() == Some(&SockError::EAGAIN) {
            inner.park(id, want, cx.waker());
            return Poll::Pending;
        }
        drop(inner);
        self.kick.notify_one();
        Poll::Ready(result.map_err(error))
    }

    /// Waits until the socket is ready for `want` (or has failed: the next call says how).
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>, id: SocketId, want: Want) -> Poll<io::Result<()>> {
        let now = self.now();
        let mut inner = self.lock();
        inner.check()?;
        let level = inner.engine.sock(now, id).map_err(error)?.readiness();
        if want.is_met(level) {
            return Poll::Ready(Ok(()));
        }
        inner.park(id, want, cx.waker());
        Poll::Pending
    }

    /// Closes a socket that its holder dropped.
    pub(crate) fn close(&self, id: SocketId) {
        let now = self.now();
        let mut inner = self.lock();
        if let Some(waiters) = inner.waiters.get_mut(id.index()) {
            *waiters = Waiters::default();
        }
        if let Ok(sock) = inner.engine.sock(now, id) {
            sock.close();
        }
        inner.held -= 1;
        drop(inner);
        self.kick.notify_one();
    }
}

impl Want {
    fn is_met(self, level: Readiness) -> bool {
        let bits = match self {
            Want::Read => Readiness::READABLE.union(Readiness::READ_HANGUP),
            Want::Write => Readiness::WRITABLE,
        };
        level.0 & bits.union(Readiness::ERROR).union(Readiness::HANGUP).0 != 0
    }
}

impl Inner {
    fn check(&self) -> io::Result<()> {
        match self.failed {
            Some(kind) => Err(io::Error::new(kind, "the stack's device has failed")),
            None => Ok(()),
        }
    }

    fn park(&mut self, id: SocketId, want: Want, waker: &Waker) {
        if self.waiters.len() <= id.index() {
            self.waiters.resize_with(id.index() + 1, Waiters::default);
        }
        let waiters = &mut self.waiters[id.index()];
        let list = match want {
            Want::Read => &mut waiters.read,
            Want::Write => &mut waiters.write,
        };
        if !list.iter().any(|w| w.will_wake(waker)) {
            list.push(waker.clone());
        }
    }

    /// Takes the wakers of everyone whose wait the engine's events have ended.
    pub(crate) fn due(&mut self, due: &mut Vec<Waker>) {
        while let Some(event) = self.engine.poll_event() {
            let Event::Ready(id, level) = event else { continue };
            let Some(waiters) = self.waiters.get_mut(id.index()) else {
                continue;
            };
            if Want::Read.is_met(level) {
                due.append(&mut waiters.read);
            }
            if Want::Write.is_met(level) {
                due.append(&mut waiters.write);
            }
        }
    }

    /// Everyone who waits, because nothing will come any more.
    pub(crate) fn everyone(&mut self) -> Vec<Waker> {
        self.waiters
            .iter_mut()
            .flat_map(|w| w.read.drain(..).chain(w.write.drain(..)))
            .collect()
    }
}

/// An engine's error as the kernel's of the same number, so that `ErrorKind` is what tokio's sockets give.
pub(crate) fn error(e: SockError) -> io::Error {
    io::Error::from_raw_os_error(e.errno())
}
