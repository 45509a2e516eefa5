//! estab: two stacks, driven as its documentation says: packets in, drain the packets out, drain the events.

use crate::ends::{CLIENT, End, Ends, PORT, Packet, Queue, SERVER, Setup, is_ours};
use anyhow::{Result, anyhow, bail};
use estab_engine::proto::State;
use estab_engine::{
    Config, Event, Family, IfaceConfig, IfaceId, Instant, Kind, Medium, RecvFlags, RxMeta, SendFlags, SockError,
    SockOption, SocketId, Stack,
};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// A stack, and the queue that it sends into.
pub(super) struct Host {
    now: Instant,
    stack: Stack,
    iface: IfaceId,
    pub(super) out: Queue,
    /// Socket buffers, if not the stack's own choice.
    buffer: Option<u32>,
    turn: u16,
    ports: u16,
}

fn told(error: SockError) -> anyhow::Error {
    anyhow!("{error:?}")
}

fn retry<T>(result: Result<T, SockError>, nothing: T) -> Result<T> {
    match result {
        Err(SockError::EAGAIN) => Ok(nothing),
        other => other.map_err(told),
    }
}

impl Host {
    pub(super) fn new(addr: Ipv4Addr, setup: &Setup) -> Result<Host> {
        let config = Config {
            seed: [addr.octets()[3]; 32],
            memory: 8 << 30,
            unix_time: 0,
        };
        let mut stack = Stack::new(Instant::ZERO, config);
        let iface = stack.add_iface(IfaceConfig {
            name: "queue",
            mtu: setup.mtu as u32,
            medium: Medium::Ip,
            gso_max_size: 0,
            csum_offload: false,
            transparent: false,
        });
        stack.add_addr(iface, addr.into(), 24).map_err(told)?;
        stack
            .add_route(Ipv4Addr::UNSPECIFIED.into(), 0, None, iface)
            .map_err(told)?;
        let backlog = setup.backlog.to_string();
        let buckets = (2 * setup.hold + 10_000).to_string();
        for (name, value) in [
            ("net.core.somaxconn", backlog.as_str()),
            ("net.ipv4.tcp_max_tw_buckets", &buckets),
        ] {
            stack.set_sysctl(name, value).map_err(|e| anyhow!("{name}: {e:?}"))?;
        }
        Ok(Host {
            now: Instant::from_millis(1),
            stack,
            iface,
            out: Queue::of_mtu(setup.mtu),
            buffer: (setup.buffer > Setup::SMALL).then_some(setup.buffer as u32),
            turn: 0,
            ports: setup.ports,
        })
    }

    fn listen(&mut self, port: u16, backlog: usize) -> Result<SocketId, SockError> {
        let id = self.stack.socket(Family::V4, Kind::Stream)?;
        let mut sock = self.stack.sock(self.now, id)?;
        if let Some(bytes) = self.buffer {
            sock.set_option(SockOption::RcvBuf(bytes))?;
        }
        sock.bind(SocketAddr::from((SERVER, port)))?;
        sock.listen(backlog as i32)?;
        Ok(id)
    }

    /// Begins to connect to the next port in turn; the socket, and which port that is.
    pub(super) fn connect(&mut self) -> Result<(SocketId, usize)> {
        let turn = self.turn % self.ports;
        self.turn = turn + 1;
        let mut open = || -> Result<SocketId, SockError> {
            let id = self.stack.socket(Family::V4, Kind::Stream)?;
            let mut sock = self.stack.sock(self.now, id)?;
            if let Some(bytes) = self.buffer {
                sock.set_option(SockOption::SndBuf(bytes))?;
            }
            sock.connect(SocketAddr::from((SERVER, PORT + turn)))?;
            Ok(id)
        };
        let id = open().map_err(|e| anyhow!("connect: {e:?}"))?;
        Ok((id, usize::from(turn)))
    }

    /// A connecting socket's own address; an error when it was refused.
    pub(super) fn name(&mut self, id: SocketId) -> Result<SocketAddr> {
        let sock = self.stack.sock(self.now, id).map_err(told)?;
        if sock.state() == State::Closed {
            bail!("refused");
        }
        sock.local_addr().map_err(told)
    }

    fn accept(&mut self, listener: SocketId) -> Result<Option<(SocketId, SocketAddr)>> {
        let accepted = self.stack.sock(self.now, listener).and_then(|mut sock| sock.accept());
        retry(accepted.map(Some), None)
    }

    pub(super) fn send(&mut self, id: SocketId, data: &[u8]) -> Result<usize> {
        let sock = self.stack.sock(self.now, id);
        retry(sock.and_then(|mut sock| sock.send(data, SendFlags::default())), 0)
    }

    pub(super) fn recv(&mut self, id: SocketId, buf: &mut [u8]) -> Result<usize> {
        let sock = self.stack.sock(self.now, id);
        retry(sock.and_then(|mut sock| sock.recv(buf, RecvFlags::default())), 0)
    }

    pub(super) fn close(&mut self, id: SocketId) -> Result<()> {
        self.stack.sock(self.now, id).map_err(told)?.close();
        Ok(())
    }

    /// Moves what the stack has to send into the queue.
    pub(super) fn transmit(&mut self) {
        while let Some(room) = self.out.room() {
            match self.stack.poll_transmit(self.now, room) {
                Some(transmit) => self.out.push(transmit.len),
                None => break,
            }
        }
    }

    pub(super) fn take(&mut self, packet: &[u8]) {
        self.stack
            .handle_packet(self.now, self.iface, packet, RxMeta::default());
    }

    /// An application would act on them; the works know what comes.
    pub(super) fn drain_events(&mut self) {
        while let Some(event) = self.stack.poll_event() {
            std::hint::black_box::<Event>(event);
        }
    }

    /// Lets time pass; whether anything was due.
    pub(super) fn pass(&mut self, time: Duration) -> bool {
        self.now += time;
        let due = self.stack.poll_timeout().is_some_and(|at| at <= self.now);
        if due {
            self.stack.handle_timeout(self.now);
        }
        due
    }
}

pub struct Estab {
    hosts: [Host; 2],
    listeners: Vec<SocketId>,
    /// Accepted, and not yet told whose they are.
    accepted: Vec<(SocketId, SocketAddr)>,
}

impl Ends for Estab {
    type Conn = [SocketId; 2];
    type Begun = (SocketId, usize);

    fn new(setup: Setup) -> Result<Estab> {
        let (client, mut server) = (Host::new(CLIENT, &setup)?, Host::new(SERVER, &setup)?);
        let listening = (0..setup.ports).map(|port| server.listen(PORT + port, setup.backlog));
        let listeners = listening.collect::<Result<_, _>>();
        Ok(Estab {
            listeners: listeners.map_err(|e| anyhow!("listen: {e:?}"))?,
            hosts: [client, server],
            accepted: Vec::new(),
        })
    }

    fn open(&mut self) -> Result<[SocketId; 2]> {
        let (client, port) = self.begin()?;
        match self.hosts[1].accept(self.listeners[port])? {
            Some((server, _)) => Ok([client, server]),
            None => bail!("not accepted"),
        }
    }

    fn send(&mut self, conn: [SocketId; 2], end: End, data: &[u8]) -> Result<usize> {
        self.hosts[end as usize].send(conn[end as usize], data)
    }

    fn recv(&mut self, conn: [SocketId; 2], end: End, buf: &mut [u8]) -> Result<usize> {
        self.hosts[end as usize].recv(conn[end as usize], buf)
    }

    fn carry(&mut self) -> Result<()> {
        loop {
            let mut moved = false;
            for from in [0, 1] {
                let [a, b] = &mut self.hosts;
                let (from, to) = if from == 0 { (a, b) } else { (b, a) };
                from.transmit();
                while let Some(packet) = from.out.pop() {
                    moved = true;
                    if is_ours(packet) {
                        to.take(packet);
                    }
                }
                to.drain_events();
            }
            if !moved {
                return Ok(());
            }
        }
    }

    fn close(&mut self, conn: [SocketId; 2]) -> Result<()> {
        for (end, id) in conn.into_iter().enumerate() {
            self.hosts[end].close(id)?;
            self.carry()?;
        }
        Ok(())
    }

    fn pass(&mut self, time: Duration) -> Result<()> {
        let due = self.hosts.each_mut().map(|host| host.pass(time));
        if due != [false; 2] {
            self.carry()?;
        }
        Ok(())
    }

    fn time_wait(&self) -> Option<Duration> {
        Some(Duration::from_secs(60))
    }

    fn inject(&mut self, packets: &[Packet]) -> Result<()> {
        for packet in packets {
            self.hosts[1].take(packet);
        }
        self.carry()
    }

    fn begin(&mut self) -> Result<Self::Begun> {
        let begun = self.hosts[0].connect()?;
        self.carry()?;
        Ok(begun)
    }

    fn finish(&mut self, &mut (client, port): &mut Self::Begun) -> Result<Option<[SocketId; 2]>> {
        let name = self.hosts[0].name(client)?;
        self.accepted.extend(self.hosts[1].accept(self.listeners[port])?);
        let place = self.accepted.iter().position(|(_, peer)| *peer == name);
        Ok(place.map(|at| [client, self.accepted.swap_remove(at).0]))
    }
}
