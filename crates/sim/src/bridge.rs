//! A pair of links on real time between two devices: two TUNs in two namespaces, or a TUN and a pipe to a stack.

use crate::{Link, LinkConfig, LinkStats};
use estab_device::{Device, Pipe, Tun, Tx};
use estab_engine::Instant;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A device that a bridge can wait for.
pub trait Port: Device + Send + 'static {
    /// Its descriptor, if waiting is done on one.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
    /// Otherwise: `wake` is to be called when packets come.
    fn on_packets(&self, wake: Box<dyn Fn() + Send>);
}

impl Port for Tun {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
    fn on_packets(&self, _: Box<dyn Fn() + Send>) {}
}

impl Port for Pipe {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    fn on_packets(&self, wake: Box<dyn Fn() + Send>) {
        self.on_ready(wake);
    }
}

/// A thread that carries packets between two devices over a link in each direction. The devices must be without
/// offloads: a link carries packets as they are on a wire.
#[derive(Debug)]
pub struct Bridge {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<io::Result<(LinkStats, LinkStats)>>>,
}

#[derive(Debug)]
struct Stop {
    wanted: AtomicBool,
    wake: OwnedFd,
}

impl Stop {
    fn wake(&self) {
        // The counter is full only when the thread is about to wake anyway.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

impl Bridge {
    /// Carries packets from `a` to `b` over `ab` and back over `ba` until it is stopped or dropped.
    ///
    /// # Errors
    /// No event descriptor or no thread can be had.
    pub fn start<A: Port, B: Port>(a: A, b: B, ab: LinkConfig, ba: LinkConfig) -> io::Result<Bridge> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let stop = Arc::new(Stop {
            wanted: AtomicBool::new(false),
            wake,
        });
        for port in [&a as &dyn Port, &b] {
            let stop = Arc::clone(&stop);
            port.on_packets(Box::new(move || stop.wake()));
        }
        let shared = Arc::clone(&stop);
        let carry = move || carry(a, b, [Link::new(ab), Link::new(ba)], &shared);
        let thread = std::thread::Builder::new().name("bridge".into()).spawn(carry)?;
        Ok(Bridge {
            stop,
            thread: Some(thread),
        })
    }

    /// Stops; what each direction did: `a` to `b`, `b` to `a`.
    ///
    /// # Errors
    /// A device failed on the way.
    pub fn stop(mut self) -> io::Result<(LinkStats, LinkStats)> {
        self.finish()
            .unwrap_or_else(|| Err(io::Error::other("the bridge's thread panicked")))
    }

    fn finish(&mut self) -> Option<io::Result<(LinkStats, LinkStats)>> {
        self.stop.wanted.store(true, Ordering::Release);
        self.stop.wake();
        self.thread.take()?.join().ok()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

fn carry<A: Port, B: Port>(
    mut a: A,
    mut b: B,
    [mut ab, mut ba]: [Link; 2],
    stop: &Stop,
) -> io::Result<(LinkStats, LinkStats)> {
    let start = std::time::Instant::now();
    let now = || Instant::from_nanos(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    let mut buf = vec![0; a.recv_max().max(b.recv_max())];
    let mut ready = [true; 2];
    while !stop.wanted.load(Ordering::Acquire) {
        if ready[0] {
            take(&mut a, &mut ab, &now, &mut buf)?;
        }
        if ready[1] {
            take(&mut b, &mut ba, &now, &mut buf)?;
        }
        give(&mut ab, &mut b, now())?;
        give(&mut ba, &mut a, now())?;
        let next = ab.next().into_iter().chain(ba.next()).min();
        ready = wait(&a, &b, stop, next.map(|next| next.since(now())))?;
    }
    Ok((ab.stats(), ba.stats()))
}

/// Offers the link what the device has.
fn take(from: &mut impl Device, link: &mut Link, now: &impl Fn() -> Instant, buf: &mut [u8]) -> io::Result<()> {
    while let Some(rx) = from.recv(buf)? {
        link.offer(now(), &buf[..rx.len]);
    }
    Ok(())
}

/// Sends what has arrived; a device without room loses it, as a queue that is full does.
fn give(link: &mut Link, to: &mut impl Device, now: Instant) -> io::Result<()> {
    while let Some(packet) = link.poll(now) {
        match to.send(&packet, Tx::default()) {
            Err(e) if e.kind() != io::ErrorKind::WouldBlock && e.raw_os_error().is_none() => return Err(e),
            // A corrupted packet may be one that the kernel refuses.
            _ => {}
        }
    }
    Ok(())
}

/// Waits for packets of `a` or of `b`, and says who has some; or for the end of `timeout`.
fn wait(a: &impl Port, b: &impl Port, stop: &Stop, timeout: Option<Duration>) -> io::Result<[bool; 2]> {
    let timeout = timeout.map(|d| Timespec {
        tv_sec: d.as_secs() as i64,
        tv_nsec: d.subsec_nanos().into(),
    });
    let poll_in = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
    // A device without a descriptor has its packets announced by the wake-up's.
    let wake = stop.wake.as_fd();
    let mut fds = [
        poll_in(a.fd().unwrap_or(wake)),
        poll_in(b.fd().unwrap_or(wake)),
        poll_in(wake),
    ];
    match poll(&mut fds, timeout.as_ref()) {
        Err(e) if e != rustix::io::Errno::INTR => return Err(e.into()),
        _ => {}
    }
    let [a, b, woken] = fds.map(|fd| !fd.revents().is_empty());
    if woken {
        // Spends the wake-ups.
        let _ = rustix::io::read(&stop.wake, &mut [0u8; 8]);
    }
    Ok([a, b])
}
