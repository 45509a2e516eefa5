//! TUN and TAP queues (`Documentation/networking/tuntap.rst`), opened here because whole super-packets need the
//! virtio header and its offloads, and because queues opened in another namespace arrive as descriptors.

use std::ffi::{c_int, c_uint};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags};
use rustix::ioctl::{self, Getter, IntegerSetter, Setter, Updater, opcode};

use crate::{Device, Rx, Tx, vnet};

const IFF_TUN: u16 = 0x0001;
const IFF_TAP: u16 = 0x0002;
const IFF_MULTI_QUEUE: u16 = 0x0100;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;

const TUN_F_CSUM: usize = 0x01;
const TUN_F_TSO4: usize = 0x02;
const TUN_F_TSO6: usize = 0x04;
const TUN_F_TSO_ECN: usize = 0x08;
/// Both since Linux 6.2, and only together.
const TUN_F_USO: usize = 0x20 | 0x40;

const TUNSETIFF: ioctl::Opcode = opcode::write::<c_int>(b'T', 202);
const TUNSETPERSIST: ioctl::Opcode = opcode::write::<c_int>(b'T', 203);
const TUNSETOFFLOAD: ioctl::Opcode = opcode::write::<c_uint>(b'T', 208);
const TUNGETIFF: ioctl::Opcode = opcode::read::<c_uint>(b'T', 210);
const TUNGETVNETHDRSZ: ioctl::Opcode = opcode::read::<c_int>(b'T', 215);
const TUNSETVNETHDRSZ: ioctl::Opcode = opcode::write::<c_int>(b'T', 216);

/// Largest IP packet, and so the largest super-packet, that a TUN takes.
const IP_MAX: u32 = 65535;
const ETHERNET: usize = 14;
/// The most pieces a packet is written from.
const MAX_PARTS: usize = 16;

/// `struct ifreq` as the TUN ioctls use it.
#[repr(C)]
struct IfReq {
    name: [u8; 16],
    flags: u16,
    _rest: [u8; 22],
}

/// What packets begin with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Layer {
    /// IP: a TUN.
    #[default]
    Ip,
    /// Ethernet: a TAP.
    Ethernet,
}

/// What the kernel on the other side may leave to this one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offloads {
    /// TCP and UDP checksums arrive partial.
    pub csum: bool,
    /// TCP super-packets arrive whole. Needs `csum`.
    pub tso: bool,
    /// So do UDP ones (`UDP_SEGMENT`), where the kernel can (Linux 6.2). Needs `csum`.
    pub uso: bool,
}

impl Default for Offloads {
    /// Checksums and TCP.
    fn default() -> Self {
        Self {
            csum: true,
            tso: true,
            uso: false,
        }
    }
}

impl Offloads {
    fn bits(self) -> usize {
        let mut bits = 0;
        if self.csum {
            bits |= TUN_F_CSUM;
            if self.tso {
                bits |= TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
            }
            if self.uso {
                bits |= TUN_F_USO;
            }
        }
        bits
    }
}

/// How to open a TUN or TAP.
#[derive(Clone, Debug)]
pub struct TunConfig {
    /// Interface name, 15 bytes at most; empty or with `%d`: the kernel picks.
    pub name: String,
    /// TUN or TAP.
    pub layer: Layer,
    /// The MTU that the interface has or will be given (this crate does not set it).
    pub mtu: u32,
    /// What the kernel may leave to us.
    pub offloads: Offloads,
    /// The interface outlives its queues. In a network namespace that goes with it, this saves the last close
    /// tens of milliseconds: the kernel then takes the interface down in the background.
    pub persist: bool,
}

impl Default for TunConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            layer: Layer::Ip,
            mtu: 1500,
            offloads: Offloads::default(),
            persist: false,
        }
    }
}

/// One queue of a TUN or TAP.
#[derive(Debug)]
pub struct Tun {
    fd: OwnedFd,
    name: String,
    layer: Layer,
    mtu: u32,
    /// Bytes of the virtio header; 0: the queue has none, and so no offloads.
    header: usize,
}

impl Tun {
    /// Opens `queues` queues of one new or persistent interface, in the network namespace of the caller.
    ///
    /// # Errors
    /// Those of `open("/dev/net/tun")` (`NotFound`, `PermissionDenied`) and of TUNSETIFF (`EPERM` without
    /// CAP_NET_ADMIN, `EBUSY` for a name in use, `EINVAL` for a bad one or an interface of another kind).
    pub fn open(config: &TunConfig, queues: usize) -> io::Result<Vec<Self>> {
        let mut name = config.name.clone();
        (0..queues.max(1))
            .map(|_| {
                let queue = Self::open_queue(config, &name)?;
                name.clone_from(&queue.name);
                Ok(queue)
            })
            .collect()
    }

    fn open_queue(config: &TunConfig, name: &str) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open("/dev/net/tun", flags, Mode::empty())?;
        let kind = match config.layer {
            Layer::Ip => IFF_TUN,
            Layer::Ethernet => IFF_TAP,
        };
        let mut req = IfReq {
            name: [0; 16],
            flags: kind | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE,
            _rest: [0; 22],
        };
        if name.len() >= req.name.len() || name.bytes().any(|b| b == 0 || b == b'/') {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        req.name[..name.len()].copy_from_slice(name.as_bytes());
        // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, which IfReq is laid out as.
        unsafe { ioctl::ioctl(&fd, Updater::<TUNSETIFF, IfReq>::new(&mut req))? };
        // SAFETY: TUNSETVNETHDRSZ reads one int.
        unsafe { ioctl::ioctl(&fd, Setter::<TUNSETVNETHDRSZ, c_int>::new(vnet::LEN as c_int))? };
        set_offloads(&fd, config.offloads)?;
        if config.persist {
            // SAFETY: TUNSETPERSIST takes its argument by value.
            unsafe { ioctl::ioctl(&fd, IntegerSetter::<TUNSETPERSIST>::new_usize(1))? };
        }
        Self::from_fd(fd, config.mtu)
    }

    /// A queue that was opened elsewhere, in another namespace say, and arrived as a descriptor. `mtu` is its
    /// interface's.
    ///
    /// # Errors
    /// `InvalidInput` when it is not a TUN or TAP queue, or one with the packet-information prefix (opened without
    /// `IFF_NO_PI`).
    pub fn from_fd(fd: OwnedFd, mtu: u32) -> io::Result<Self> {
        let mut req = IfReq {
            name: [0; 16],
            flags: 0,
            _rest: [0; 22],
        };
        // SAFETY: TUNGETIFF writes one `struct ifreq`, which IfReq is laid out as.
        unsafe { ioctl::ioctl(&fd, Updater::<TUNGETIFF, IfReq>::new(&mut req)) }
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "not a queue of a TUN or TAP"))?;
        if req.flags & IFF_NO_PI == 0 {
            let why = "the TUN queue was opened without IFF_NO_PI";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let mut header = 0;
        if req.flags & IFF_VNET_HDR != 0 {
            // SAFETY: TUNGETVNETHDRSZ writes one int.
            let size = unsafe { ioctl::ioctl(&fd, Getter::<TUNGETVNETHDRSZ, c_int>::new())? };
            header = usize::try_from(size).unwrap_or(0);
            if !(vnet::LEN..=vnet::MAX_LEN).contains(&header) {
                let why = "the TUN queue's virtio header has an unknown size";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
        }
        rustix::fs::fcntl_setfl(&fd, rustix::fs::fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
        let end = req.name.iter().position(|&b| b == 0).unwrap_or(req.name.len());
        let name = String::from_utf8_lossy(&req.name[..end]).into_owned();
        let layer = if req.flags & IFF_TAP != 0 {
            Layer::Ethernet
        } else {
            Layer::Ip
        };
        Ok(Self {
            fd,
            name,
            layer,
            mtu,
            header,
        })
    }

    /// The interface's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its packets begin with.
    pub fn layer(&self) -> Layer {
        self.layer
    }

    /// The descriptor, given up.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Where the IP header begins in a packet.
    fn link_len(&self) -> usize {
        match self.layer {
            Layer::Ip => 0,
            Layer::Ethernet => ETHERNET,
        }
    }
}

/// Tells the kernel what it may leave to us; UDP segmentation only where it knows of it.
fn set_offloads(fd: &OwnedFd, offloads: Offloads) -> io::Result<()> {
    let set = |bits| {
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        unsafe { ioctl::ioctl(fd, IntegerSetter::<TUNSETOFFLOAD>::new_usize(bits)) }
    };
    let bits = offloads.bits();
    match set(bits) {
        Err(rustix::io::Errno::INVAL) if bits & TUN_F_USO != 0 => Ok(set(bits & !TUN_F_USO)?),
        other => Ok(other?),
    }
}

impl Device for Tun {
    fn recv(&mut self, buf: &mut [u8]) -> io::Result<Option<Rx>> {
        let mut header = [0; vnet::MAX_LEN];
        loop {
            let mut parts = [IoSliceMut::new(&mut header[..self.header]), IoSliceMut::new(buf)];
            return match rustix::io::readv(&self.fd, &mut parts) {
                Ok(n) => Ok(Some(vnet::decode(&header, n.saturating_sub(self.header)))),
                Err(rustix::io::Errno::AGAIN) => Ok(None),
                Err(rustix::io::Errno::INTR) => continue,
                Err(err) => Err(err.into()),
            };
        }
    }

    fn send(&mut self, packet: &[u8], tx: Tx) -> io::Result<()> {
        self.send_parts(packet, &[], tx)
    }

    fn send_parts(&mut self, head: &[u8], parts: &[&[u8]], tx: Tx) -> io::Result<()> {
        let refused = |why| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        let Some(header) = vnet::encode(head, self.link_len(), tx) else {
            return refused("offloads that do not fit the packet");
        };
        if self.header == 0 && tx != Tx::default() {
            return refused("the TUN queue has no offloads");
        }
        let mut slices = [IoSlice::new(&[]); MAX_PARTS];
        let whole = [&header[..self.header], head];
        if whole.len() + parts.len() > slices.len() {
            return refused("a packet of too many parts");
        }
        let filled = slices.iter_mut().zip(whole.iter().chain(parts));
        let count = filled.map(|(slot, part)| *slot = IoSlice::new(part)).count();
        loop {
            return match rustix::io::writev(&self.fd, &slices[..count]) {
                Ok(_) => Ok(()),
                Err(rustix::io::Errno::INTR) => continue,
                Err(err) => Err(err.into()),
            };
        }
    }

    fn mtu(&self) -> u32 {
        self.mtu
    }

    fn gso_max_size(&self) -> u32 {
        if self.header == 0 { 0 } else { IP_MAX }
    }

    fn csum_offload(&self) -> bool {
        self.header != 0
    }

    fn recv_max(&self) -> usize {
        IP_MAX as usize + self.link_len() + 4
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Tun {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
