//! What a device does, and what goes with a packet.

use std::io;

/// The state of a received packet's transport checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RxCsum {
    /// Nobody looked at it.
    #[default]
    Unchecked,
    /// The device verified it.
    Verified,
    /// The field holds the pseudo-header's sum only; the packet never left the machine and counts as verified.
    Partial {
        /// Offset of the transport header in the packet.
        start: u16,
        /// Offset of the checksum field in the transport header.
        offset: u16,
    },
}

/// A received packet: the first `len` bytes of the buffer given to [`Device::recv`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rx {
    /// Bytes of the packet.
    pub len: usize,
    /// The transport checksum.
    pub csum: RxCsum,
    /// A super-packet, made of segments of this many bytes of payload.
    pub gso_size: Option<u16>,
}

/// What the device must do with the transport checksum of a packet to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TxCsum {
    /// Nothing: it is complete.
    #[default]
    Full,
    /// Finish it: the field holds the pseudo-header's sum.
    Partial {
        /// Offset of the transport header in the packet.
        start: u16,
        /// Offset of the checksum field in the transport header.
        offset: u16,
    },
}

/// What goes with a packet to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tx {
    /// The transport checksum.
    pub csum: TxCsum,
    /// A super-packet, to be cut into segments of this many bytes of payload. The checksum must be partial then.
    pub gso_size: Option<u16>,
}

/// One queue of packets in and out. Nothing blocks.
pub trait Device {
    /// Takes the next packet into `buf`; `None` when there is none now. A packet longer than `buf` is cut, so give
    /// [`Device::recv_max`] bytes.
    fn recv(&mut self, buf: &mut [u8]) -> io::Result<Option<Rx>>;

    /// Sends one packet. `WouldBlock` when the queue is full; the packet is not taken then.
    fn send(&mut self, packet: &[u8], tx: Tx) -> io::Result<()>;

    /// [`send`](Self::send) of a packet that is `head`, which holds all headers, and then `parts`.
    fn send_parts(&mut self, head: &[u8], parts: &[&[u8]], tx: Tx) -> io::Result<()> {
        if parts.is_empty() {
            return self.send(head, tx);
        }
        let mut packet = head.to_vec();
        parts.iter().for_each(|part| packet.extend_from_slice(part));
        self.send(&packet, tx)
    }

    /// Largest packet the device carries, bytes, link header excluded.
    fn mtu(&self) -> u32;

    /// Largest super-packet [`Device::send`] takes, bytes; 0: none.
    fn gso_max_size(&self) -> u32;

    /// The device completes partial checksums.
    fn csum_offload(&self) -> bool;

    /// Bytes a buffer for [`Device::recv`] needs to hold any packet.
    fn recv_max(&self) -> usize {
        65536
    }

    /// Writes out what the device holds back, if it does (a tap's file).
    fn flush(&mut self) {}
}

impl<D: Device + ?Sized> Device for Box<D> {
    fn recv(&mut self, buf: &mut [u8]) -> io::Result<Option<Rx>> {
        (**self).recv(buf)
    }
    fn send(&mut self, packet: &[u8], tx: Tx) -> io::Result<()> {
        (**self).send(packet, tx)
    }
    fn send_parts(&mut self, head: &[u8], parts: &[&[u8]], tx: Tx) -> io::Result<()> {
        (**self).send_parts(head, parts, tx)
    }
    fn mtu(&self) -> u32 {
        (**self).mtu()
    }
    fn gso_max_size(&self) -> u32 {
        (**self).gso_max_size()
    }
    fn csum_offload(&self) -> bool {
        (**self).csum_offload()
    }
    fn recv_max(&self) -> usize {
        (**self).recv_max()
    }
    fn flush(&mut self) {
        (**self).flush();
    }
}
