//! The task that moves packets between a device and the engine, and wakes whoever waited for what they brought.

use crate::legacy::Legacy;
use crate::shared::{Inner, Shared};
use crate::stack::tx_csum;
use estab_device::{Device, RxCsum, Tx};
use estab_engine::proto::State;
use estab_engine::{IfaceId, RxMeta};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Waker;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// How the driver learns that the device has something for it.
pub(crate) enum Link {
    Fd(AsyncFd<OwnedFd>),
    Notified(Arc<Notify>),
}

/// Packets taken from the device before the tasks get their turn.
const BATCH: usize = 64;

struct Driver<D> {
    device: D,
    link: Link,
    iface: IfaceId,
    rx: Vec<u8>,
    tx: Vec<u8>,
    /// A packet the device had no room for: its length and what goes with it.
    held: Option<(usize, Tx)>,
}

/// Drives the stack until nobody holds it and its connections are through, or the device fails. `_legacy` is left when
/// that, or the runtime, ends.
pub(crate) async fn run(
    shared: Arc<Shared>,
    device: impl Device + Send,
    link: Link,
    iface: IfaceId,
    _legacy: Option<Legacy>,
) {
    let (rx, tx) = (vec![0; device.recv_max()], vec![0; 65536 + 64]);
    let mut driver = Driver {
        device,
        link,
        iface,
        rx,
        tx,
        held: None,
    };
    if let Err(e) = driver.drive(&shared).await {
        let everyone = {
            let mut inner = shared.lock();
            inner.failed = Some(e.kind());
            inner.everyone()
        };
        everyone.into_iter().for_each(Waker::wake);
    }
}

impl<D: Device> Driver<D> {
    async fn drive(&mut self, shared: &Shared) -> io::Result<()> {
        let mut due = Vec::new();
        loop {
            let now = shared.now();
            let (more, deadline, over) = {
                let mut inner = shared.lock();
                inner.engine.handle_timeout(now);
                self.send(shared, &mut inner)?;
                let more = self.receive(shared, &mut inner)?;
                inner.due(&mut due);
                (
                    more,
                    inner.engine.poll_timeout(),
                    inner.held == 0 && is_over(&mut inner, now),
                )
            };
            due.drain(..).for_each(Waker::wake);
            if over {
                return Ok(());
            }
            if more {
                tokio::task::yield_now().await;
                continue;
            }
            let sleep = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(shared.at(deadline)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ready = self.link.ready(self.held.is_some()) => ready?,
                () = shared.kick.notified() => {}
                () = sleep => {}
            }
        }
    }

    /// Takes a batch of packets; whether there may be more.
    fn receive(&mut self, shared: &Shared, inner: &mut Inner) -> io::Result<bool> {
        for _ in 0..BATCH {
            let Some(rx) = self.device.recv(&mut self.rx)? else {
                return Ok(false);
            };
            let csum = match rx.csum {
                RxCsum::Unchecked => estab_engine::RxCsum::Unchecked,
                RxCsum::Verified => estab_engine::RxCsum::Verified,
                RxCsum::Partial { .. } => estab_engine::RxCsum::Partial,
            };
            let meta = RxMeta {
                csum,
                gso_size: rx.gso_size,
            };
            inner
                .engine
                .handle_packet(shared.now(), self.iface, &self.rx[..rx.len], meta);
            self.send(shared, inner)?;
        }
        Ok(true)
    }

    /// Sends what the engine has, until the device is full.
    fn send(&mut self, shared: &Shared, inner: &mut Inner) -> io::Result<()> {
        loop {
            let (len, tx) = match self.held.take() {
                Some(held) => held,
                None => match inner.engine.poll_transmit(shared.now(), &mut self.tx) {
                    Some(t) => (
                        t.len,
                        Tx {
                            csum: tx_csum(t.csum),
                            gso_size: t.gso,
                        },
                    ),
                    None => return Ok(()),
                },
            };
            match self.device.send(&self.tx[..len], tx) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.held = Some((len, tx));
                    return Ok(());
                }
                Err(e) => return Err(e),
            }
        }
    }
}

impl Link {
    async fn ready(&self, full: bool) -> io::Result<()> {
        match self {
            Link::Notified(notify) => notify.notified().await,
            Link::Fd(fd) => {
                let interest = if full {
                    Interest::READABLE | Interest::WRITABLE
                } else {
                    Interest::READABLE
                };
                // The device is then read until it is empty, so readiness is spent here.
                fd.ready(interest).await?.clear_ready();
            }
        }
        Ok(())
    }
}

/// No connection is left but TIME_WAITs.
fn is_over(inner: &mut Inner, now: estab_engine::Instant) -> bool {
    inner
        .engine
        .diag(now)
        .all(|socket| socket.state == State::TimeWait || socket.protocol != 6)
}
