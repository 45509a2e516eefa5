//! What a subject is to the works: two ends of one stack, joined by queues of packets.

use anyhow::Result;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Where connections are opened from.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Where they are opened to.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// The first port that the server listens on.
pub const PORT: u16 = 10_000;

/// One of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Client = 0,
    Server = 1,
}

/// What a work needs of the two ends.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// The largest IP packet.
    pub mtu: usize,
    /// Ports listened on: many connections between two addresses need many.
    pub ports: u16,
    /// Bytes of each socket's send and receive buffer, where the stack takes one.
    pub buffer: usize,
    /// How many connections (or half-open ones, or TIME_WAITs) will be held at once.
    pub hold: usize,
    /// How many may wait half-open or for accept.
    pub backlog: usize,
}

impl Setup {
    /// Bytes of buffer that small conversations need.
    pub const SMALL: usize = 2048;
    /// How many may wait for accept, or half open, unless more must.
    pub const BACKLOG: usize = 1024;

    /// For many small conversations.
    pub fn small(hold: usize) -> Setup {
        Setup {
            mtu: 1500,
            ports: 1 + (hold / 4000) as u16,
            buffer: Setup::SMALL,
            hold,
            backlog: Setup::BACKLOG,
        }
    }
}

/// Two ends that checksum every packet when they send it and verify it when they receive it; packets are copied across.
/// Time is virtual where the stack lets its user give it.
pub trait Ends: Sized {
    /// A connection: both its ends' handles.
    type Conn: Copy;

    fn new(setup: Setup) -> Result<Self>;

    /// Connects and accepts. Of the listening ports, the next in turn.
    fn open(&mut self) -> Result<Self::Conn>;

    /// Writes to one end; bytes taken, 0 when its buffer is full.
    fn send(&mut self, conn: Self::Conn, end: End, data: &[u8]) -> Result<usize>;

    /// Reads at one end; bytes read, 0 when there are none.
    fn recv(&mut self, conn: Self::Conn, end: End, buf: &mut [u8]) -> Result<usize>;

    /// Carries packets between the ends until none is left.
    fn carry(&mut self) -> Result<()>;

    /// Closes the client's end and then the server's: TIME_WAIT is the client's.
    fn close(&mut self, conn: Self::Conn) -> Result<()>;

    /// Lets time pass, and does what is due.
    fn pass(&mut self, time: Duration) -> Result<()>;

    /// How long TIME_WAIT lasts; `None` where time can't be made to pass.
    fn time_wait(&self) -> Option<Duration>;

    /// Whether the TIME_WAITs are this stack's: one that only serves leaves them to its client.
    fn holds_time_waits(&self) -> bool {
        true
    }

    /// How many connections there can be.
    fn most(&self) -> u64 {
        u64::MAX
    }

    /// Bytes of memory that grow with what is held.
    fn memory(&self) -> u64 {
        peers_common::rss()
    }

    /// Gives the server foreign packets, and carries what it answers; answers to foreign addresses are lost.
    fn inject(&mut self, packets: &[Packet]) -> Result<()>;

    /// A connection that isn't accepted yet.
    type Begun;

    /// Begins to connect.
    fn begin(&mut self) -> Result<Self::Begun>;

    /// The connection begun, if it is accepted by now; an error when it was refused.
    fn finish(&mut self, begun: &mut Self::Begun) -> Result<Option<Self::Conn>>;
}

/// A packet from outside.
pub type Packet = [u8; SYN_LEN];

/// IPv4 and TCP headers, and the options of Linux's SYN.
pub const SYN_LEN: usize = 60;

/// A SYN to the server's first port, with the options Linux sends and both checksums.
pub fn syn(from: Ipv4Addr, port: u16, seq: u32) -> Packet {
    let mut p = [0u8; SYN_LEN];
    p[0] = 0x45;
    p[2..4].copy_from_slice(&(SYN_LEN as u16).to_be_bytes());
    p[6] = 0x40; // DF
    p[8..10].copy_from_slice(&[64, 6]);
    p[12..16].copy_from_slice(&from.octets());
    p[16..20].copy_from_slice(&SERVER.octets());
    let sum = checksum(0, &p[..20]);
    p[10..12].copy_from_slice(&sum.to_be_bytes());
    p[20..22].copy_from_slice(&port.to_be_bytes());
    p[22..24].copy_from_slice(&PORT.to_be_bytes());
    p[24..28].copy_from_slice(&seq.to_be_bytes());
    p[32..36].copy_from_slice(&[0xa0, 0x02, 0xff, 0xff]);
    p[40..44].copy_from_slice(&[2, 4, 0x05, 0xb4]); // mss 1460
    p[44..46].copy_from_slice(&[4, 2]); // sackOK
    p[46..56].copy_from_slice(&[8, 10, 0, 0, 0, 9, 0, 0, 0, 0]); // TS val 9 ecr 0
    p[56..60].copy_from_slice(&[1, 3, 3, 7]); // nop, wscale 7
    let pseudo = p[12..20]
        .chunks(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
        .sum::<u32>();
    let sum = checksum(pseudo + 6 + (SYN_LEN - 20) as u32, &p[20..]);
    p[36..38].copy_from_slice(&sum.to_be_bytes());
    p
}

/// The internet checksum of `data`, an even number of bytes, upon what `sum` holds (RFC 1071).
fn checksum(mut sum: u32, data: &[u8]) -> u16 {
    for word in data.chunks(2) {
        sum += u32::from(u16::from_be_bytes([word[0], word[1]]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Packets on their way from one end to the other: a ring of buffers, each used again.
pub struct Queue {
    slots: Vec<Slot>,
    head: usize,
    len: usize,
}

struct Slot {
    data: Box<[u8]>,
    len: usize,
}

impl Queue {
    /// Room for `slots` packets of up to `size` bytes.
    pub fn new(slots: usize, size: usize) -> Queue {
        let slot = || Slot {
            data: vec![0; size].into(),
            len: 0,
        };
        Queue {
            slots: (0..slots).map(|_| slot()).collect(),
            head: 0,
            len: 0,
        }
    }

    /// For packets of an interface of this MTU: what a device's ring holds.
    pub fn of_mtu(mtu: usize) -> Queue {
        Queue::new(256, mtu)
    }

    pub fn is_full(&self) -> bool {
        self.len == self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Room for one packet; [`push`](Self::push) says how much of it was used.
    pub fn room(&mut self) -> Option<&mut [u8]> {
        let at = (self.head + self.len) % self.slots.len();
        (!self.is_full()).then(|| &mut self.slots[at].data[..])
    }

    /// The packet written to [`room`](Self::room) is `len` bytes long.
    pub fn push(&mut self, len: usize) {
        let at = (self.head + self.len) % self.slots.len();
        self.slots[at].len = len;
        self.len += 1;
    }

    /// The oldest packet.
    pub fn front(&self) -> Option<&[u8]> {
        let slot = &self.slots[self.head];
        (!self.is_empty()).then(|| &slot.data[..slot.len])
    }

    /// The oldest packet, which leaves the queue.
    pub fn pop(&mut self) -> Option<&mut [u8]> {
        if self.is_empty() {
            return None;
        }
        let at = self.head;
        self.head = (at + 1) % self.slots.len();
        self.len -= 1;
        let slot = &mut self.slots[at];
        Some(&mut slot.data[..slot.len])
    }
}

/// Whether a packet is addressed to one of the two ends: answers to foreign packets aren't, and are lost.
pub fn is_ours(packet: &[u8]) -> bool {
    packet.get(16..19) == Some(&CLIENT.octets()[..3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syn_has_right_checksums() {
        let p = syn([192, 0, 2, 7].into(), 4000, 77);
        assert_eq!(checksum(0, &p[..20]), 0);
        let pseudo = p[12..20]
            .chunks(2)
            .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
            .sum::<u32>();
        assert_eq!(checksum(pseudo + 6 + 40, &p[20..]), 0);
    }

    #[test]
    fn packets_leave_a_queue_in_order() {
        let mut queue = Queue::new(2, 4);
        for round in 0..3u8 {
            for n in [round, round + 1] {
                queue.room().unwrap()[0] = n;
                queue.push(1);
            }
            assert!(queue.room().is_none());
            assert_eq!(queue.pop().unwrap(), [round]);
            assert_eq!(queue.pop().unwrap(), [round + 1]);
            assert!(queue.pop().is_none());
        }
    }
}
