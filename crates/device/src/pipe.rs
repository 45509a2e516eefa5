//! Two devices in memory, end to end: for tests, simulations and stacks within one process.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Device, Rx, RxCsum, Tx, TxCsum};

type Hook = Box<dyn Fn() + Send>;

/// One direction: packets on their way to one end.
#[derive(Default)]
struct Lane {
    packets: VecDeque<(Vec<u8>, Rx)>,
    /// Buffers to use again.
    spare: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Shared {
    lanes: [Lane; 2],
    hooks: [Option<Hook>; 2],
    closed: [bool; 2],
}

/// One end of a pair. What one end sends, offloads included, the other receives, as between the ends of a veth.
pub struct Pipe {
    shared: Arc<Mutex<Shared>>,
    end: usize,
    mtu: u32,
    capacity: usize,
    offloads: bool,
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe")
            .field("end", &self.end)
            .field("mtu", &self.mtu)
            .finish_non_exhaustive()
    }
}

impl Pipe {
    /// Two ends that hold at most `capacity` packets in each direction. With `offloads`, super-packets and partial
    /// checksums pass; without, both ends deny them.
    pub fn pair(mtu: u32, capacity: usize, offloads: bool) -> (Self, Self) {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let end = |end| Self {
            shared: Arc::clone(&shared),
            end,
            mtu,
            capacity: capacity.max(1),
            offloads,
        };
        (end(0), end(1))
    }

    /// Calls `hook` whenever this end has something to do again: a packet came, room after a full queue, or the
    /// other end is gone. It is called from within the other end's calls and must not call either end.
    pub fn on_ready(&self, hook: impl Fn() + Send + 'static) {
        self.lock().hooks[self.end] = Some(Box::new(hook));
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // A panic elsewhere leaves whole packets behind: the queues stay usable.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device for Pipe {
    fn recv(&mut self, buf: &mut [u8]) -> io::Result<Option<Rx>> {
        let mut shared = self.lock();
        let (end, other) = (self.end, 1 - self.end);
        let was_full = shared.lanes[end].packets.len() >= self.capacity;
        let Some((packet, mut rx)) = shared.lanes[end].packets.pop_front() else {
            return if shared.closed[other] {
                Err(io::ErrorKind::BrokenPipe.into())
            } else {
                Ok(None)
            };
        };
        rx.len = packet.len().min(buf.len());
        buf[..rx.len].copy_from_slice(&packet[..rx.len]);
        shared.lanes[end].spare.push(packet);
        if let (true, Some(hook)) = (was_full, &shared.hooks[other]) {
            hook();
        }
        Ok(Some(rx))
    }

    fn send(&mut self, packet: &[u8], tx: Tx) -> io::Result<()> {
        if !self.offloads && tx != Tx::default() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the pipe has no offloads"));
        }
        let mut shared = self.lock();
        let other = 1 - self.end;
        if shared.closed[other] {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let lane = &mut shared.lanes[other];
        if lane.packets.len() >= self.capacity {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let csum = match tx.csum {
            TxCsum::Full => RxCsum::Unchecked,
            TxCsum::Partial { start, offset } => RxCsum::Partial { start, offset },
        };
        let mut copy = lane.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(packet);
        lane.packets.push_back((
            copy,
            Rx {
                len: packet.len(),
                csum,
                gso_size: tx.gso_size,
            },
        ));
        if let Some(hook) = &shared.hooks[other] {
            hook();
        }
        Ok(())
    }

    fn mtu(&self) -> u32 {
        self.mtu
    }

    fn gso_max_size(&self) -> u32 {
        if self.offloads { 65535 } else { 0 }
    }

    fn csum_offload(&self) -> bool {
        self.offloads
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut shared = self.lock();
        shared.closed[self.end] = true;
        shared.hooks[self.end] = None;
        if let Some(hook) = &shared.hooks[1 - self.end] {
            hook();
        }
    }
}
