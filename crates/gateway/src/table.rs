//! Tables whose keys go stale safely, the numbers that descriptors are waited for under, and deadlines.

use estab_engine::{Instant, SocketId};
use slab::Slab;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Names an entry of a [`Table`]; void once the entry is gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Key {
    index: u32,
    /// 24 bits.
    generation: u32,
}

/// A slab whose keys never reach a later entry in the same slot.
pub(crate) struct Table<T> {
    entries: Slab<(u32, T)>,
    generation: u32,
}

impl<T> Table<T> {
    pub(crate) fn new() -> Self {
        Self {
            entries: Slab::new(),
            generation: 0,
        }
    }

    pub(crate) fn insert(&mut self, value: T) -> Key {
        self.generation = (self.generation + 1) & 0xff_ffff;
        let index = self.entries.insert((self.generation, value));
        // A table of 2³² entries would not fit the descriptors a process may have.
        Key {
            index: index as u32,
            generation: self.generation,
        }
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let (generation, value) = self.entries.get_mut(key.index as usize)?;
        (*generation == key.generation).then_some(value)
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        self.get_mut(key)?;
        Some(self.entries.remove(key.index as usize).1)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        self.entries.iter_mut().map(|(index, (generation, value))| {
            (
                Key {
                    index: index as u32,
                    generation: *generation,
                },
                value,
            )
        })
    }
}

/// What belongs to the sockets of a stack.
pub(crate) struct BySocket<T> {
    /// By `SocketId::index`.
    slots: Vec<Option<(SocketId, T)>>,
}

impl<T: Copy> BySocket<T> {
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new() }
    }

    pub(crate) fn set(&mut self, id: SocketId, value: T) {
        if self.slots.len() <= id.index() {
            self.slots.resize(id.index() + 1, None);
        }
        self.slots[id.index()] = Some((id, value));
    }

    /// `None` once it was removed.
    pub(crate) fn get(&self, id: SocketId) -> Option<T> {
        let (of, value) = (*self.slots.get(id.index())?)?;
        (of == id).then_some(value)
    }

    pub(crate) fn remove(&mut self, id: SocketId) {
        if let Some(slot) = self.slots.get_mut(id.index())
            && slot.is_some_and(|(of, _)| of == id)
        {
            *slot = None;
        }
    }
}

/// Whom an event or a deadline is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Token {
    /// The TUN queue.
    Device,
    /// The other threads.
    Inbox,
    /// A connection's host socket.
    Tcp(Key),
    /// A UDP flow's host socket.
    Udp(Key),
    /// A DNS query's socket.
    Dns(Key),
    /// A ping's socket.
    Ping(Key),
    /// A published TCP port, by its place in the configuration.
    TcpPort(u32),
    /// A published UDP port.
    UdpPort(u32),
    /// The SYN proxy's queue.
    Clients,
    /// A connection that the SYN proxy carries.
    Link(Key),
}

impl Token {
    /// As the 64 bits that epoll keeps: 8 of kind, 24 of generation, 32 of index.
    pub(crate) fn pack(self) -> u64 {
        let key = |kind: u64, key: Key| kind << 56 | u64::from(key.generation) << 32 | u64::from(key.index);
        match self {
            Token::Device => 0,
            Token::Inbox => 1 << 56,
            Token::Tcp(k) => key(2, k),
            Token::Udp(k) => key(3, k),
            Token::Dns(k) => key(4, k),
            Token::Ping(k) => key(5, k),
            Token::TcpPort(n) => 6 << 56 | u64::from(n),
            Token::UdpPort(n) => 7 << 56 | u64::from(n),
            Token::Clients => 8 << 56,
            Token::Link(k) => key(9, k),
        }
    }

    /// What [`Token::pack`] packed.
    pub(crate) fn unpack(bits: u64) -> Token {
        let key = Key {
            index: bits as u32,
            generation: (bits >> 32) as u32 & 0xff_ffff,
        };
        match bits >> 56 {
            0 => Token::Device,
            1 => Token::Inbox,
            2 => Token::Tcp(key),
            3 => Token::Udp(key),
            4 => Token::Dns(key),
            5 => Token::Ping(key),
            6 => Token::TcpPort(bits as u32),
            7 => Token::UdpPort(bits as u32),
            8 => Token::Clients,
            _ => Token::Link(key),
        }
    }
}

/// Deadlines of the gateway's own (the engine keeps its connections'). They are not cancelled: who is woken looks
/// whether there is still something to do.
#[derive(Default)]
pub(crate) struct Deadlines {
    heap: BinaryHeap<Reverse<(Instant, Token)>>,
}

impl Deadlines {
    pub(crate) fn add(&mut self, at: Instant, token: Token) {
        self.heap.push(Reverse((at, token)));
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    pub(crate) fn pop(&mut self, now: Instant) -> Option<Token> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, token))| token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_does_not_reach_the_next_entry_of_its_slot() {
        let mut table = Table::new();
        let first = table.insert("first");
        assert_eq!(table.remove(first), Some("first"));
        let second = table.insert("second");
        assert_eq!(table.get_mut(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.get_mut(second), Some(&mut "second"));
    }

    #[test]
    fn tokens_survive_packing() {
        let key = Key {
            index: u32::MAX,
            generation: 0xff_ffff,
        };
        let all = [
            Token::Device,
            Token::Inbox,
            Token::Tcp(key),
            Token::Udp(key),
            Token::Dns(key),
            Token::Ping(key),
            Token::TcpPort(7),
            Token::UdpPort(9),
            Token::Clients,
            Token::Link(key),
        ];
        for token in all {
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }

    #[test]
    fn deadlines_come_in_order_and_not_early() {
        let mut deadlines = Deadlines::default();
        deadlines.add(Instant::from_millis(20), Token::TcpPort(2));
        deadlines.add(Instant::from_millis(10), Token::TcpPort(1));
        assert_eq!(deadlines.next(), Some(Instant::from_millis(10)));
        assert_eq!(deadlines.pop(Instant::from_millis(9)), None);
        assert_eq!(deadlines.pop(Instant::from_millis(30)), Some(Token::TcpPort(1)));
        assert_eq!(deadlines.pop(Instant::from_millis(30)), Some(Token::TcpPort(2)));
        assert_eq!(deadlines.pop(Instant::from_millis(30)), None);
    }
}
