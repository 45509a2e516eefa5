//! Interfaces: what the stack must know of a device, and what goes with each packet.

/// An interface of a stack.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct IfaceId(pub u16);

/// What a packet of an interface begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Medium {
    /// IP, as on a TUN.
    Ip,
    /// Ethernet, as on a TAP; the address is ours.
    Ethernet([u8; 6]),
}

/// What the stack must know of a device.
#[derive(Clone, Debug)]
pub struct IfaceConfig {
    /// For diagnoses.
    pub name: &'static str,
    /// Largest IP packet, in bytes, that the device carries.
    pub mtu: u32,
    /// What packets begin with.
    pub medium: Medium,
    /// Largest super-packet (bytes, IP header included) the device takes with `Transmit::gso`; 0: none.
    pub gso_max_size: u32,
    /// The device finishes TCP and UDP checksums: the engine leaves them partial.
    pub csum_offload: bool,
    /// Packets for addresses that are not ours are answered too: transparent listeners and UDP and echo
    /// sockets see them (the gateway). Without it they are dropped, or forwarded under `ip_forward`.
    pub transparent: bool,
}

/// The state of an incoming packet's transport checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RxCsum {
    /// Nobody looked: the engine verifies it.
    #[default]
    Unchecked,
    /// The device verified it.
    Verified,
    /// It covers the pseudo-header only (NEEDS_CSUM): the packet never left the machine and counts as verified.
    Partial,
}

/// What came with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RxMeta {
    /// The transport checksum.
    pub csum: RxCsum,
    /// The packet was merged from segments of this many bytes of payload.
    pub gso_size: Option<u16>,
}

/// What the device must do with an outgoing packet's transport checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CsumTx {
    /// Nothing: it is complete.
    Full,
    /// Finish it: the field holds the pseudo-header's sum. `start` is the offset of the transport header,
    /// `offset` that of the field within it (virtio's csum_start and csum_offset).
    Partial {
        /// Offset of the transport header in the packet.
        start: u16,
        /// Offset of the checksum field in the transport header.
        offset: u16,
    },
}

/// A packet that `Stack::poll_transmit` wrote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// The interface to send on.
    pub iface: IfaceId,
    /// Bytes written to the buffer.
    pub len: usize,
    /// A super-packet, to be cut into segments of this many bytes of payload.
    pub gso: Option<u16>,
    /// The transport checksum.
    pub csum: CsumTx,
}
