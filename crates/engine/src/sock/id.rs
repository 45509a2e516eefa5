//! The table of handles: generational indices, so that an old handle never reaches a new socket.

use super::SockOpts;
use super::bind::Binding;
use crate::event::SocketId;
use crate::{Family, Result, SockError};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU32;

/// What a handle stands for.
#[derive(Clone)]
pub(crate) enum Body {
    /// The slot is free; the next free one.
    Free(u32),
    /// A TCP socket that neither listens nor has a connection.
    Idle(Box<Idle>),
    /// A listener of [`Tcp`](crate::tcp::Tcp).
    Listener(u32),
    /// A connection of [`Tcp`](crate::tcp::Tcp).
    Conn(u32),
    /// A UDP socket.
    Udp,
    /// An ICMP echo socket.
    Echo,
}

/// A TCP socket in CLOSED: what bind and the options have said so far.
#[derive(Clone, Default)]
pub(crate) struct Idle {
    pub(crate) opts: Arc<SockOpts>,
    pub(crate) binding: Option<Binding>,
    /// SO_ERROR of a connect that failed.
    pub(crate) error: Option<SockError>,
}

/// One handle.
#[derive(Clone)]
pub(crate) struct Slot {
    generation: NonZeroU32,
    pub(crate) family: Family,
    pub(crate) body: Body,
}

const NONE: u32 = u32::MAX;

/// All handles of a stack.
#[derive(Clone)]
pub(crate) struct SockTable {
    slots: Vec<Slot>,
    free: u32,
    used: usize,
}

impl SockTable {
    pub(crate) fn new() -> Self {
        SockTable {
            slots: Vec::new(),
            free: NONE,
            used: 0,
        }
    }

    /// A new handle; ENOBUFS when 2³² stand.
    pub(crate) fn insert(&mut self, family: Family, body: Body) -> Result<SocketId> {
        if self.free == NONE {
            let index = u32::try_from(self.slots.len())
                .ok()
                .filter(|index| *index != NONE)
                .ok_or(SockError::ENOBUFS)?;
            self.slots.push(Slot {
                generation: NonZeroU32::MIN,
                family,
                body,
            });
            self.used += 1;
            return Ok(SocketId {
                index,
                generation: NonZeroU32::MIN,
            });
        }
        let index = self.free;
        let slot = &mut self.slots[index as usize];
        if let Body::Free(next) = slot.body {
            self.free = next;
        }
        slot.family = family;
        slot.body = body;
        self.used += 1;
        Ok(SocketId {
            index,
            generation: slot.generation,
        })
    }

    /// What `id` stands for; `None` when it is void.
    pub(crate) fn get(&self, id: SocketId) -> Option<&Slot> {
        self.slots
            .get(id.index as usize)
            .filter(|slot| slot.generation == id.generation && !matches!(slot.body, Body::Free(_)))
    }

    /// What `id` stands for; `None` when it is void.
    pub(crate) fn get_mut(&mut self, id: SocketId) -> Option<&mut Slot> {
        self.slots
            .get_mut(id.index as usize)
            .filter(|slot| slot.generation == id.generation && !matches!(slot.body, Body::Free(_)))
    }

    /// Voids the handle and gives what it stood for.
    pub(crate) fn remove(&mut self, id: SocketId) -> Option<Body> {
        let free = self.free;
        let slot = self.get_mut(id)?;
        let body = core::mem::replace(&mut slot.body, Body::Free(free));
        slot.generation = slot.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        self.free = id.index;
        self.used -= 1;
        if self.used == 0 && self.slots.len() > 1024 {
            // Generations must not begin again: the slots stay, the free list is theirs.
            self.slots.shrink_to_fit();
        }
        Some(body)
    }

    /// All handles that stand for something.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SocketId, &Slot)> + '_ {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let id = SocketId {
                index: index as u32,
                generation: slot.generation,
            };
            (!matches!(slot.body, Body::Free(_))).then_some((id, slot))
        })
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> u64 {
        (self.slots.capacity() * core::mem::size_of::<Slot>()) as u64
    }
}
