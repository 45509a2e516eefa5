//! smoltcp: an interface and a socket set for each end, polled when there is something for it to do. A server keeps a socket
//! listening on each port, and adds another when it has taken a connection, there being no backlog.

use crate::ends::{CLIENT, End, Ends, PORT, Packet, Queue, SERVER, Setup, is_ours};
use anyhow::{Context, Result, anyhow, bail};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{RecvError, SendError, Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

pub struct Smoltcp {
    now: Instant,
    mtu: usize,
    buffer: usize,
    hosts: [Host; 2],
    /// What the client sends, and what the server does.
    wires: [Queue; 2],
    /// A server's sockets that listen or are half open, by port.
    waiting: Vec<Vec<SocketHandle>>,
    /// How many there may be of a port under a flood.
    pool: usize,
    turn: usize,
    local: u16,
}

struct Host {
    iface: Interface,
    sockets: SocketSet<'static>,
    /// A socket has something to send, or room again.
    touched: bool,
    /// Closed by the application, removed when their TIME_WAIT is over.
    closing: VecDeque<SocketHandle>,
}

/// An end's view of the wires.
struct Port<'a> {
    rx: &'a mut Queue,
    tx: &'a mut Queue,
    mtu: usize,
}

struct Rx<'a>(&'a mut Queue);
struct Tx<'a>(&'a mut Queue);

impl RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0.pop().unwrap_or_default())
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let room = self.0.room().and_then(|room| room.get_mut(..len));
        let result = f(room.expect("a token is given for a packet's room"));
        self.0.push(len);
        result
    }
}

impl Device for Port<'_> {
    type RxToken<'a>
        = Rx<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Tx<'a>
    where
        Self: 'a;

    fn receive(&mut self, _: Instant) -> Option<(Rx<'_>, Tx<'_>)> {
        while self.rx.front().is_some_and(|packet| !is_ours(packet)) {
            self.rx.pop();
        }
        let some = !self.rx.is_empty() && !self.tx.is_full();
        some.then_some((Rx(self.rx), Tx(self.tx)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        (!self.tx.is_full()).then_some(Tx(self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        // Checksums are both made and verified: the default.
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ip;
        caps.max_transmission_unit = self.mtu;
        caps
    }
}

impl Smoltcp {
    fn poll(&mut self, which: usize) {
        let [a, b] = &mut self.wires;
        let (tx, rx) = if which == 0 { (a, b) } else { (b, a) };
        let host = &mut self.hosts[which];
        let mut port = Port { rx, tx, mtu: self.mtu };
        host.iface.poll(self.now, &mut port, &mut host.sockets);
        host.touched = port.tx.is_full();
    }

    fn socket(&self) -> Socket<'static> {
        let buffer = || SocketBuffer::new(vec![0; self.buffer]);
        Socket::new(buffer(), buffer())
    }

    fn listen(&mut self, index: usize) -> Result<()> {
        let mut socket = self.socket();
        socket
            .listen((SERVER, PORT + index as u16))
            .map_err(|e| anyhow!("listen: {e}"))?;
        let handle = self.hosts[1].sockets.add(socket);
        self.waiting[index].push(handle);
        Ok(())
    }

    fn connect(&mut self) -> Result<(SocketHandle, usize)> {
        let index = self.turn % self.waiting.len();
        self.turn += 1;
        self.local = self.local.checked_add(1).unwrap_or(1024);
        let mut socket = self.socket();
        let host = &mut self.hosts[0];
        socket
            .connect(host.iface.context(), (SERVER, PORT + index as u16), self.local)
            .map_err(|e| anyhow!("connect: {e}"))?;
        host.touched = true;
        Ok((host.sockets.add(socket), index))
    }

    /// The server's end of a client's socket, once established; another socket listens in its stead.
    fn accept(&mut self, client: SocketHandle, index: usize) -> Result<Option<SocketHandle>> {
        let local = self.hosts[0]
            .sockets
            .get::<Socket>(client)
            .local_endpoint()
            .context("refused")?;
        let sockets = &self.hosts[1].sockets;
        let is_its = |handle: &SocketHandle| {
            let socket = sockets.get::<Socket>(*handle);
            socket.state() == State::Established && socket.remote_endpoint() == Some(local)
        };
        let Some(at) = self.waiting[index].iter().position(is_its) else {
            return Ok(None);
        };
        let server = self.waiting[index].swap_remove(at);
        self.listen(index)?;
        Ok(Some(server))
    }

    /// Removes the sockets whose TIME_WAIT is over, as an application must.
    fn reap(&mut self) {
        for host in &mut self.hosts {
            while let Some(&oldest) = host.closing.front() {
                if host.sockets.get::<Socket>(oldest).state() != State::Closed {
                    break;
                }
                host.sockets.remove(oldest);
                host.closing.pop_front();
            }
        }
    }
}

impl Ends for Smoltcp {
    type Conn = [SocketHandle; 2];
    type Begun = (SocketHandle, usize);

    fn new(setup: Setup) -> Result<Smoltcp> {
        let mut wires = [Queue::of_mtu(setup.mtu), Queue::of_mtu(setup.mtu)];
        let mut host = |addr: Ipv4Addr| {
            let [tx, rx] = &mut wires;
            let mut port = Port { rx, tx, mtu: setup.mtu };
            let mut config = Config::new(HardwareAddress::Ip);
            config.random_seed = u64::from(addr.octets()[3]);
            let mut iface = Interface::new(config, &mut port, Instant::ZERO);
            iface.update_ip_addrs(|addrs| {
                let _ = addrs.push(IpCidr::new(IpAddress::Ipv4(addr), 24));
            });
            let _ = iface.routes_mut().add_default_ipv4_route(CLIENT);
            Host {
                iface,
                sockets: SocketSet::new(vec![]),
                touched: false,
                closing: VecDeque::new(),
            }
        };
        let hosts = [host(CLIENT), host(SERVER)];
        let mut smoltcp = Smoltcp {
            now: Instant::from_millis(1),
            mtu: setup.mtu,
            buffer: setup.buffer,
            hosts,
            wires,
            waiting: vec![Vec::new(); usize::from(setup.ports)],
            pool: if setup.backlog > Setup::BACKLOG {
                setup.backlog
            } else {
                64
            },
            turn: 0,
            local: 1024,
        };
        for index in 0..smoltcp.waiting.len() {
            smoltcp.listen(index)?;
        }
        Ok(smoltcp)
    }

    fn open(&mut self) -> Result<[SocketHandle; 2]> {
        let (client, index) = self.connect()?;
        self.carry()?;
        let server = self.accept(client, index)?.context("not accepted")?;
        Ok([client, server])
    }

    fn send(&mut self, conn: [SocketHandle; 2], end: End, data: &[u8]) -> Result<usize> {
        let host = &mut self.hosts[end as usize];
        host.touched = true;
        match host.sockets.get_mut::<Socket>(conn[end as usize]).send_slice(data) {
            Ok(n) => Ok(n),
            Err(SendError::InvalidState) => bail!("send: not connected"),
        }
    }

    fn recv(&mut self, conn: [SocketHandle; 2], end: End, buf: &mut [u8]) -> Result<usize> {
        let host = &mut self.hosts[end as usize];
        host.touched = true;
        match host.sockets.get_mut::<Socket>(conn[end as usize]).recv_slice(buf) {
            Ok(n) => Ok(n),
            Err(RecvError::Finished) => Ok(0),
            Err(RecvError::InvalidState) => bail!("recv: not connected"),
        }
    }

    fn carry(&mut self) -> Result<()> {
        loop {
            let mut moved = false;
            for which in [0, 1] {
                if self.hosts[which].touched || !self.wires[1 - which].is_empty() {
                    self.poll(which);
                    moved = true;
                }
            }
            if !moved {
                return Ok(());
            }
        }
    }

    fn close(&mut self, conn: [SocketHandle; 2]) -> Result<()> {
        for which in [0, 1] {
            let host = &mut self.hosts[which];
            host.sockets.get_mut::<Socket>(conn[which]).close();
            host.closing.push_back(conn[which]);
            host.touched = true;
            self.carry()?;
        }
        self.reap();
        Ok(())
    }

    fn pass(&mut self, time: Duration) -> Result<()> {
        self.now += smoltcp::time::Duration::from_micros(time.as_micros() as u64);
        // Shorter times than its timers' wait for the next poll.
        if time >= Duration::from_millis(1) {
            for host in &mut self.hosts {
                host.touched = true;
            }
            self.carry()?;
            self.reap();
        }
        Ok(())
    }

    fn time_wait(&self) -> Option<Duration> {
        Some(Duration::from_secs(10))
    }

    fn inject(&mut self, packets: &[Packet]) -> Result<()> {
        for packet in packets {
            // A socket to listen for each SYN, as far as there may be.
            let sockets = &self.hosts[1].sockets;
            let last = self.waiting[0].last().map(|last| sockets.get::<Socket>(*last).state());
            if last != Some(State::Listen) && self.waiting[0].len() < self.pool {
                self.listen(0)?;
            }
            let room = self.wires[0].room().context("the queue is full")?;
            room[..packet.len()].copy_from_slice(packet);
            self.wires[0].push(packet.len());
            self.carry()?;
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<Self::Begun> {
        let begun = self.connect()?;
        self.carry()?;
        Ok(begun)
    }

    fn finish(&mut self, begun: &mut Self::Begun) -> Result<Option<[SocketHandle; 2]>> {
        let &mut (client, index) = begun;
        Ok(self.accept(client, index)?.map(|server| [client, server]))
    }
}
