//! A tap: what passes through a device, as a pcapng file (draft-ietf-opsawg-pcapng) that Wireshark reads.
//!
//! What is written is what a wire would show: partial checksums are completed, super-packets cut into the segments
//! they become. A file that can't be written is reported once and never stops traffic.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::{Device, Rx, RxCsum, Tx, TxCsum, gso};

/// What is held back no longer than this while packets pass.
const FLUSH_EVERY: Duration = Duration::from_millis(200);

/// Block types and option codes of the format.
mod format {
    pub(super) const SECTION_HEADER: u32 = 0x0A0D_0D0A;
    pub(super) const BYTE_ORDER: u32 = 0x1A2B_3C4D;
    pub(super) const INTERFACE: u32 = 1;
    pub(super) const ENHANCED_PACKET: u32 = 6;
    pub(super) const OPT_END: u16 = 0;
    pub(super) const SHB_USERAPPL: u16 = 4;
    pub(super) const IF_NAME: u16 = 2;
    pub(super) const IF_DESCRIPTION: u16 = 3;
    pub(super) const IF_TSRESOL: u16 = 9;
    pub(super) const EPB_FLAGS: u16 = 2;
}

/// What packets of a tapped device begin with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LinkType {
    /// IP: LINKTYPE_RAW.
    #[default]
    Raw,
    /// Ethernet: LINKTYPE_ETHERNET.
    Ethernet,
}

impl LinkType {
    fn code(self) -> u32 {
        match self {
            Self::Raw => 101,
            Self::Ethernet => 1,
        }
    }

    fn link_len(self) -> usize {
        match self {
            Self::Raw => 0,
            Self::Ethernet => 14,
        }
    }
}

/// Which way a packet went, seen from the stack behind the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Received by the stack.
    Inbound,
    /// Sent by it.
    Outbound,
}

/// A capture file that any number of devices and threads write to. The last clone to go flushes it.
#[derive(Clone)]
pub struct Pcapng {
    file: Arc<Mutex<Capture>>,
}

impl fmt::Debug for Pcapng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pcapng").finish_non_exhaustive()
    }
}

impl Pcapng {
    /// Makes the file, readable by its owner alone, in place of any that was there.
    ///
    /// # Errors
    /// Those of opening the file. Later ones go to `on_error`, the first of them only; after it nothing is written.
    pub fn create(path: impl AsRef<Path>, on_error: impl FnOnce(io::Error) + Send + 'static) -> io::Result<Self> {
        let file: File = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        Ok(Self::new(file, on_error))
    }

    /// A capture into any writer. The first error goes to `on_error`; after it nothing is written.
    pub fn new(out: impl Write + Send + 'static, on_error: impl FnOnce(io::Error) + Send + 'static) -> Self {
        let mut capture = Capture {
            out: BufWriter::with_capacity(1 << 18, Box::new(out)),
            on_error: Some(Box::new(on_error)),
            interfaces: Vec::new(),
            flushed: Instant::now(),
            block: Vec::new(),
            scratch: Vec::new(),
        };
        capture.section_header();
        Self {
            file: Arc::new(Mutex::new(capture)),
        }
    }

    /// Describes another device; the number goes to [`Pcapng::record`].
    pub fn interface(&self, name: &str, link: LinkType, mtu: u32) -> u32 {
        self.lock().interface(name, link, mtu)
    }

    /// Writes a packet of `interface`. `time` is since the epoch, by whatever clock. `partial` is where an unfinished
    /// checksum is (start of the transport header, offset of the field in it), `gso_size` that of a super-packet.
    pub fn record(
        &self,
        interface: u32,
        direction: Direction,
        time: Duration,
        packet: &[u8],
        partial: Option<(u16, u16)>,
        gso_size: Option<u16>,
    ) {
        self.lock()
            .record(interface, direction, time, packet, partial, gso_size);
    }

    /// Writes out what is held back. Worth calling before a long sleep.
    pub fn flush(&self) {
        self.lock().flush();
    }

    fn lock(&self) -> MutexGuard<'_, Capture> {
        // A panic elsewhere can at worst have cut a block short.
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Capture {
    out: BufWriter<Box<dyn Write + Send>>,
    /// Taken by the first error; `None` means writing is over.
    on_error: Option<Box<dyn FnOnce(io::Error) + Send>>,
    interfaces: Vec<LinkType>,
    flushed: Instant,
    /// The block being put together.
    block: Vec<u8>,
    /// The packet being put right.
    scratch: Vec<u8>,
}

impl Capture {
    fn section_header(&mut self) {
        self.begin(format::SECTION_HEADER);
        self.block.extend_from_slice(&format::BYTE_ORDER.to_ne_bytes());
        self.block.extend_from_slice(&1_u16.to_ne_bytes());
        self.block.extend_from_slice(&0_u16.to_ne_bytes());
        // The section's length is not known.
        self.block.extend_from_slice(&(-1_i64).to_ne_bytes());
        self.option(
            format::SHB_USERAPPL,
            concat!("estab ", env!("CARGO_PKG_VERSION")).as_bytes(),
        );
        self.end();
    }

    fn interface(&mut self, name: &str, link: LinkType, mtu: u32) -> u32 {
        self.begin(format::INTERFACE);
        // u16 link type and two reserved bytes; then the snap length: no limit.
        self.block.extend_from_slice(&(link.code() as u16).to_ne_bytes());
        self.block.extend_from_slice(&[0; 6]);
        self.option(format::IF_NAME, name.as_bytes());
        // The format has no option for it.
        self.option(format::IF_DESCRIPTION, format!("MTU {mtu}").as_bytes());
        self.option(format::IF_TSRESOL, &[9]);
        self.end();
        self.interfaces.push(link);
        self.interfaces.len() as u32 - 1
    }

    fn record(
        &mut self,
        interface: u32,
        direction: Direction,
        time: Duration,
        packet: &[u8],
        partial: Option<(u16, u16)>,
        gso_size: Option<u16>,
    ) {
        if self.on_error.is_none() {
            return;
        }
        let link = self
            .interfaces
            .get(interface as usize)
            .copied()
            .unwrap_or_default()
            .link_len();
        let mut scratch = std::mem::take(&mut self.scratch);
        let cut = gso_size.is_some_and(|size| {
            gso::segments(packet, link, size, &mut scratch, |segment| {
                self.packet(interface, direction, time, segment)
            })
        });
        match partial {
            _ if cut => {}
            Some((start, offset)) => {
                scratch.clear();
                scratch.extend_from_slice(packet);
                gso::complete_checksum(&mut scratch, start.into(), offset.into());
                self.packet(interface, direction, time, &scratch);
            }
            None => self.packet(interface, direction, time, packet),
        }
        self.scratch = scratch;
        if self.flushed.elapsed() >= FLUSH_EVERY {
            self.flush();
        }
    }

    fn packet(&mut self, interface: u32, direction: Direction, time: Duration, packet: &[u8]) {
        let nanos = time.as_nanos() as u64;
        self.begin(format::ENHANCED_PACKET);
        for word in [
            interface,
            (nanos >> 32) as u32,
            nanos as u32,
            packet.len() as u32,
            packet.len() as u32,
        ] {
            self.block.extend_from_slice(&word.to_ne_bytes());
        }
        self.block.extend_from_slice(packet);
        self.pad();
        let flags: u32 = match direction {
            Direction::Inbound => 1,
            Direction::Outbound => 2,
        };
        self.option(format::EPB_FLAGS, &flags.to_ne_bytes());
        self.end();
    }

    fn begin(&mut self, kind: u32) {
        self.block.clear();
        self.block.extend_from_slice(&kind.to_ne_bytes());
        // The length, put in at the end.
        self.block.extend_from_slice(&[0; 4]);
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        let value = &value[..value.len().min(usize::from(u16::MAX))];
        self.block.extend_from_slice(&code.to_ne_bytes());
        self.block.extend_from_slice(&(value.len() as u16).to_ne_bytes());
        self.block.extend_from_slice(value);
        self.pad();
    }

    fn pad(&mut self) {
        self.block.resize(self.block.len().next_multiple_of(4), 0);
    }

    fn end(&mut self) {
        self.option(format::OPT_END, &[]);
        let len = (self.block.len() as u32 + 4).to_ne_bytes();
        self.block[4..8].copy_from_slice(&len);
        self.block.extend_from_slice(&len);
        if self.on_error.is_some() {
            let result = self.out.write_all(&self.block);
            self.report(result);
        }
    }

    fn flush(&mut self) {
        self.flushed = Instant::now();
        if self.on_error.is_some() {
            let result = self.out.flush();
            self.report(result);
        }
    }

    fn report(&mut self, result: io::Result<()>) {
        if let Err(err) = result
            && let Some(report) = self.on_error.take()
        {
            report(err);
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.flush();
    }
}

/// A device with a tap on it.
#[derive(Debug)]
pub struct Tap<D> {
    device: D,
    pcapng: Pcapng,
    interface: u32,
}

impl<D: Device> Tap<D> {
    /// Records what passes through `device` as an interface `name` of `pcapng`.
    pub fn new(device: D, pcapng: Pcapng, name: &str, link: LinkType) -> Self {
        let interface = pcapng.interface(name, link, device.mtu());
        Self {
            device,
            pcapng,
            interface,
        }
    }

    /// The same as another queue of an interface that `pcapng` knows already.
    pub fn queue(device: D, pcapng: Pcapng, interface: u32) -> Self {
        Self {
            device,
            pcapng,
            interface,
        }
    }

    /// The device.
    pub fn get_ref(&self) -> &D {
        &self.device
    }

    fn now() -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

impl<D: Device> Device for Tap<D> {
    fn recv(&mut self, buf: &mut [u8]) -> io::Result<Option<Rx>> {
        let received = self.device.recv(buf)?;
        if let Some(rx) = received {
            let partial = match rx.csum {
                RxCsum::Partial { start, offset } => Some((start, offset)),
                RxCsum::Verified | RxCsum::Unchecked => None,
            };
            let packet = &buf[..rx.len];
            self.pcapng.record(
                self.interface,
                Direction::Inbound,
                Self::now(),
                packet,
                partial,
                rx.gso_size,
            );
        }
        Ok(received)
    }

    fn send(&mut self, packet: &[u8], tx: Tx) -> io::Result<()> {
        self.device.send(packet, tx)?;
        let partial = match tx.csum {
            TxCsum::Partial { start, offset } => Some((start, offset)),
            TxCsum::Full => None,
        };
        self.pcapng.record(
            self.interface,
            Direction::Outbound,
            Self::now(),
            packet,
            partial,
            tx.gso_size,
        );
        Ok(())
    }

    fn mtu(&self) -> u32 {
        self.device.mtu()
    }

    fn gso_max_size(&self) -> u32 {
        self.device.gso_max_size()
    }

    fn csum_offload(&self) -> bool {
        self.device.csum_offload()
    }

    fn recv_max(&self) -> usize {
        self.device.recv_max()
    }

    fn flush(&mut self) {
        self.pcapng.flush();
        self.device.flush();
    }
}
