//! ipstack: a server's end only, whose streams tokio runs on one thread. Its client is estab's engine, and the client's work is
//! in the figures. What would be a TUN is a queue each way. Dropping one of its streams blocks a runtime of one thread for ever:
//! none is dropped.

use super::estab::Host;
use crate::ends::{CLIENT, End, Ends, Packet, Queue, Setup, is_ours};
use anyhow::{Context as _, Result, bail, ensure};
use estab_engine::SocketId;
use ipstack::{IpStack, IpStackConfig, IpStackStream, IpStackTcpStream, TcpConfig};
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::runtime::Runtime;

pub struct Ipstack {
    client: Host,
    runtime: ManuallyDrop<Runtime>,
    stack: ManuallyDrop<IpStack>,
    tun: Tun,
    /// Of the client's, by its address.
    accepted: HashMap<SocketAddr, Stream>,
    conns: Vec<Option<Stream>>,
    free: Vec<usize>,
}

type Stream = ManuallyDrop<IpStackTcpStream>;

/// Packets to the stack and from it.
#[derive(Clone)]
struct Tun(Arc<Mutex<Queues>>);

struct Queues {
    to: Queue,
    from: Queue,
    reader: Option<Waker>,
}

impl Tun {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.0.lock().expect("nobody panics with it")
    }

    /// Gives the stack a packet, if there is room.
    fn push(&self, packet: &[u8]) -> bool {
        let mut queues = self.queues();
        let Some(room) = queues.to.room() else { return false };
        room[..packet.len()].copy_from_slice(packet);
        queues.to.push(packet.len());
        if let Some(reader) = queues.reader.take() {
            reader.wake();
        }
        true
    }
}

impl AsyncRead for Tun {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut queues = self.queues();
        if let Some(packet) = queues.to.pop() {
            buf.put_slice(packet);
            return Poll::Ready(Ok(()));
        }
        queues.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for Tun {
    /// A full queue drops, as a device's does.
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, packet: &[u8]) -> Poll<io::Result<usize>> {
        let from = &mut self.queues().from;
        if let Some(room) = from.room() {
            room[..packet.len()].copy_from_slice(packet);
            from.push(packet.len());
        }
        Poll::Ready(Ok(packet.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Ipstack {
    /// Runs all tasks until none has anything to do: that is when a yield comes back.
    fn run(&mut self) -> Result<()> {
        self.runtime.block_on(tokio::task::yield_now());
        let _in = self.runtime.enter();
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            let accepting = std::pin::pin!(self.stack.accept());
            match accepting.poll(&mut cx) {
                // Its local address is the far one.
                Poll::Ready(Ok(IpStackStream::Tcp(stream))) if stream.local_addr().ip() == CLIENT => {
                    self.accepted.insert(stream.local_addr(), ManuallyDrop::new(stream));
                }
                // A stranger's: its SYN is a connection already, that a server waits upon.
                Poll::Ready(Ok(IpStackStream::Tcp(stream))) => {
                    let mut stream = ManuallyDrop::new(stream);
                    tokio::spawn(async move {
                        let _ = stream.read(&mut [0; 64]).await;
                    });
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(e)) => bail!("accept: {e}"),
                Poll::Pending => return Ok(()),
            }
        }
    }

    fn stream(&mut self, conn: usize) -> Result<Pin<&mut IpStackTcpStream>> {
        let stream = self.conns.get_mut(conn).and_then(Option::as_mut);
        stream.map(|stream| Pin::new(&mut **stream)).context("closed")
    }

    /// The server's end of a client's connection, if it is accepted.
    fn accept(&mut self, client: SocketId) -> Result<Option<usize>> {
        let name = self.client.name(client)?;
        let Some(stream) = self.accepted.remove(&name) else {
            return Ok(None);
        };
        let at = self.free.pop().unwrap_or(self.conns.len());
        match self.conns.get_mut(at) {
            Some(slot) => *slot = Some(stream),
            None => self.conns.push(Some(stream)),
        }
        Ok(Some(at))
    }
}

fn retry(poll: Poll<io::Result<usize>>) -> Result<usize> {
    match poll {
        Poll::Ready(result) => Ok(result?),
        Poll::Pending => Ok(0),
    }
}

impl Ends for Ipstack {
    type Conn = (SocketId, usize);
    type Begun = SocketId;

    fn new(setup: Setup) -> Result<Ipstack> {
        ensure!(
            setup.mtu <= 1500,
            "its window, not scaled, holds too few such packets: the stream stalls"
        );
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let queue = || Queue::of_mtu(setup.mtu);
        let tun = Tun(Arc::new(Mutex::new(Queues {
            to: queue(),
            from: queue(),
            reader: None,
        })));
        let mut config = IpStackConfig::default();
        config.mtu(u16::try_from(setup.mtu)?)?;
        if setup.buffer > Setup::SMALL {
            // Without window scaling there can't be more.
            let mut tcp = TcpConfig::default();
            (tcp.read_buffer_size, tcp.max_unacked_bytes) = (65_535, 65_535);
            config.with_tcp_config(tcp);
        }
        let stack = {
            let _in = runtime.enter();
            IpStack::new(config, tun.clone())
        };
        Ok(Ipstack {
            client: Host::new(CLIENT, &setup)?,
            runtime: ManuallyDrop::new(runtime),
            stack: ManuallyDrop::new(stack),
            tun,
            accepted: HashMap::new(),
            conns: Vec::new(),
            free: Vec::new(),
        })
    }

    fn open(&mut self) -> Result<Self::Conn> {
        let mut client = self.begin()?;
        self.finish(&mut client)?.context("not accepted")
    }

    fn send(&mut self, (client, server): Self::Conn, end: End, data: &[u8]) -> Result<usize> {
        match end {
            End::Client => self.client.send(client, data),
            End::Server => {
                let mut cx = Context::from_waker(Waker::noop());
                let runtime = self.runtime.handle().clone();
                let _in = runtime.enter();
                retry(self.stream(server)?.poll_write(&mut cx, data))
            }
        }
    }

    fn recv(&mut self, (client, server): Self::Conn, end: End, buf: &mut [u8]) -> Result<usize> {
        match end {
            End::Client => self.client.recv(client, buf),
            End::Server => {
                let mut cx = Context::from_waker(Waker::noop());
                let runtime = self.runtime.handle().clone();
                let _in = runtime.enter();
                let mut buf = ReadBuf::new(buf);
                let read = self.stream(server)?.poll_read(&mut cx, &mut buf);
                retry(read.map_ok(|()| buf.filled().len()))
            }
        }
    }

    fn carry(&mut self) -> Result<()> {
        loop {
            let mut moved = false;
            self.client.transmit();
            while let Some(packet) = self.client.out.front() {
                if !self.tun.push(packet) {
                    break;
                }
                self.client.out.pop();
                moved = true;
            }
            self.run()?;
            let mut queues = self.tun.0.lock().expect("nobody panics with it");
            while let Some(packet) = queues.from.pop() {
                moved = true;
                if is_ours(packet) {
                    self.client.take(packet);
                }
            }
            moved |= !queues.to.is_empty();
            drop(queues);
            self.client.drain_events();
            if !moved {
                return Ok(());
            }
        }
    }

    fn close(&mut self, (client, server): Self::Conn) -> Result<()> {
        self.client.close(client)?;
        self.carry()?;
        for _ in 0..10 {
            let mut cx = Context::from_waker(Waker::noop());
            let runtime = self.runtime.handle().clone();
            let _in = runtime.enter();
            if self.stream(server)?.poll_shutdown(&mut cx).is_ready() {
                break;
            }
            drop(_in);
            self.carry()?;
        }
        self.conns[server] = None;
        self.free.push(server);
        self.carry()
    }

    fn pass(&mut self, time: Duration) -> Result<()> {
        // The client's time; ipstack's is the real one.
        if self.client.pass(time) {
            self.carry()?;
        }
        Ok(())
    }

    fn time_wait(&self) -> Option<Duration> {
        Some(Duration::from_secs(60))
    }

    fn holds_time_waits(&self) -> bool {
        false
    }

    /// Ten kilobytes each.
    fn most(&self) -> u64 {
        200_000
    }

    fn inject(&mut self, packets: &[Packet]) -> Result<()> {
        for packet in packets {
            ensure!(self.tun.push(packet), "the queue is full");
        }
        self.carry()
    }

    fn begin(&mut self) -> Result<SocketId> {
        let (begun, _) = self.client.connect()?;
        self.carry()?;
        Ok(begun)
    }

    fn finish(&mut self, client: &mut SocketId) -> Result<Option<Self::Conn>> {
        Ok(self.accept(*client)?.map(|server| (*client, server)))
    }
}
