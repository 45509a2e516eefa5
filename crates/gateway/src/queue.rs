//! A queue of packets, and how a stack's packets pass through it.

use crate::core::Stats;
use estab_device::{Device, LinkType, Pcapng, Tap, Tun, Tx, TxCsum};
use estab_engine::{CsumTx, Instant, PAYLOAD_PARTS, RxCsum, RxMeta, Stack, Transmit};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// A queue of packets and the descriptor that tells when it has some.
pub struct Queue {
    pub(crate) device: Box<dyn Device + Send>,
    pub(crate) fd: OwnedFd,
    tx: Box<[u8]>,
}

impl Queue {
    /// A device and the descriptor to wait on.
    pub fn new(device: impl Device + Send + 'static, fd: OwnedFd) -> Queue {
        Queue {
            device: Box::new(device),
            fd,
            tx: vec![0; 65536 + 64].into_boxed_slice(),
        }
    }

    /// The queues of a TUN, with what passes through them recorded in `pcapng` if there is one.
    ///
    /// # Errors
    /// Those of dup(2).
    pub fn of_tun(tuns: Vec<Tun>, pcapng: Option<&Pcapng>) -> io::Result<Vec<Queue>> {
        let interface = |pcapng: &Pcapng| {
            tuns.first()
                .map(|tun| pcapng.interface(tun.name(), LinkType::Raw, tun.mtu()))
        };
        let tap = pcapng.and_then(|pcapng| Some((pcapng.clone(), interface(pcapng)?)));
        let queue = |tun: Tun| {
            let fd = tun.as_fd().try_clone_to_owned()?;
            Ok(match &tap {
                Some((pcapng, interface)) => Queue::new(Tap::queue(tun, pcapng.clone(), *interface), fd),
                None => Queue::new(tun, fd),
            })
        };
        tuns.into_iter().map(queue).collect()
    }

    /// A buffer for [`Queue::receive`].
    pub(crate) fn buffer(&self) -> Box<[u8]> {
        vec![0; self.device.recv_max()].into_boxed_slice()
    }

    /// Takes the next packet into `buf`: its length and what the device says of it; `None` when there is none now.
    pub(crate) fn receive(&mut self, buf: &mut [u8]) -> io::Result<Option<(usize, RxMeta)>> {
        let Some(rx) = self.device.recv(buf)? else {
            return Ok(None);
        };
        let csum = match rx.csum {
            estab_device::RxCsum::Unchecked => RxCsum::Unchecked,
            estab_device::RxCsum::Verified => RxCsum::Verified,
            estab_device::RxCsum::Partial { .. } => RxCsum::Partial,
        };
        let gso_size = rx.gso_size;
        Ok(Some((rx.len, RxMeta { csum, gso_size })))
    }

    /// Writes what `stack` has to send.
    pub(crate) fn transmit(&mut self, stack: &mut Stack, now: Instant, stats: &Stats) {
        loop {
            let mut parts: [&[u8]; PAYLOAD_PARTS] = [&[]; PAYLOAD_PARTS];
            let Some((transmit, count)) = stack.poll_transmit_parts(now, &mut self.tx, &mut parts) else {
                return;
            };
            let Transmit { len, gso, csum, .. } = transmit;
            let csum = match csum {
                CsumTx::Full => TxCsum::Full,
                CsumTx::Partial { start, offset } => TxCsum::Partial { start, offset },
            };
            let tx = Tx { csum, gso_size: gso };
            if let Err(err) = self.device.send_parts(&self.tx[..len], &parts[..count], tx) {
                Stats::add(&stats.lost, 1);
                tracing::debug!("a packet of {len} bytes is lost: {err}");
            }
        }
    }
}
