//! estab: two stacks, driven as its documentation says: packets in, drain the packets out, drain the events.

use crate::ends::{CLIENT, End, Ends, PORT, Packet, Queue, SERVER, Setup, is_ours};
use anyhow::{Result, anyhow, bail};
use estab_engine::{
    Config, Event, Family, IfaceConfig, IfaceId, Instant, Kind, Medium, RecvFlags, RxMeta, SendFlags, SockError,
    SockOption, SocketId, Stack, proto::State,
};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

pub struct Estab {
    now: Instant,
    ends: [Host; 2],
    listeners: Vec<SocketId>,
    /// Accepted, and not yet told whose they are.
    accepted: Vec<(SocketId, SocketAddr)>,
    turn: usize,
    /// Socket buffers, if not the stack's own choice.
    buffer: Option<u32>,
}

struct Host {
    stack: Stack,
    iface: IfaceId,
    out: Queue,
}

impl Host {
    fn new(addr: Ipv4Addr, setup: &Setup) -> Result<Host> {
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
            stack,
            iface,
            out: Queue::of_mtu(setup.mtu),
        })
    }

    /// Moves what the stack has to send into the queue.
    fn transmit(&mut self, now: Instant) {
        while let Some(room) = self.out.room() {
            match self.stack.poll_transmit(now, room) {
                Some(transmit) => self.out.push(transmit.len),
                None => break,
            }
        }
    }
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

impl Estab {
    fn connect(&mut self) -> Result<(SocketId, SocketId)> {
        let turn = self.turn % self.listeners.len();
        self.turn += 1;
        let client = &mut self.ends[0].stack;
        let mut open = || -> Result<SocketId, SockError> {
            let id = client.socket(Family::V4, Kind::Stream)?;
            let mut sock = client.sock(self.now, id)?;
            if let Some(bytes) = self.buffer {
                sock.set_option(SockOption::SndBuf(bytes))?;
            }
            sock.connect(SocketAddr::from((SERVER, PORT + turn as u16)))?;
            Ok(id)
        };
        let id = open().map_err(|e| anyhow!("connect: {e:?}"))?;
        Ok((id, self.listeners[turn]))
    }

    fn listen(&mut self, port: u16, setup: &Setup) -> Result<SocketId, SockError> {
        let server = &mut self.ends[1].stack;
        let id = server.socket(Family::V4, Kind::Stream)?;
        let mut sock = server.sock(self.now, id)?;
        if let Some(bytes) = self.buffer {
            sock.set_option(SockOption::RcvBuf(bytes))?;
        }
        sock.bind(SocketAddr::from((SERVER, port)))?;
        sock.listen(setup.backlog as i32)?;
        Ok(id)
    }
}

impl Ends for Estab {
    type Conn = [SocketId; 2];
    type Begun = (SocketId, SocketId);

    fn new(setup: Setup) -> Result<Estab> {
        let ends = [Host::new(CLIENT, &setup)?, Host::new(SERVER, &setup)?];
        let mut estab = Estab {
            now: Instant::from_millis(1),
            ends,
            listeners: Vec::new(),
            accepted: Vec::new(),
            turn: 0,
            buffer: (setup.buffer > Setup::SMALL).then_some(setup.buffer as u32),
        };
        for port in 0..setup.ports {
            let id = estab
                .listen(PORT + port, &setup)
                .map_err(|e| anyhow!("listen: {e:?}"))?;
            estab.listeners.push(id);
        }
        Ok(estab)
    }

    fn open(&mut self) -> Result<[SocketId; 2]> {
        let (client, listener) = self.connect()?;
        self.carry()?;
        let (server, _) = self.ends[1]
            .stack
            .sock(self.now, listener)
            .and_then(|mut sock| sock.accept())
            .map_err(told)?;
        Ok([client, server])
    }

    fn send(&mut self, conn: [SocketId; 2], end: End, data: &[u8]) -> Result<usize> {
        let sock = self.ends[end as usize].stack.sock(self.now, conn[end as usize]);
        retry(sock.and_then(|mut sock| sock.send(data, SendFlags::default())), 0)
    }

    fn recv(&mut self, conn: [SocketId; 2], end: End, buf: &mut [u8]) -> Result<usize> {
        let sock = self.ends[end as usize].stack.sock(self.now, conn[end as usize]);
        retry(sock.and_then(|mut sock| sock.recv(buf, RecvFlags::default())), 0)
    }

    fn carry(&mut self) -> Result<()> {
        loop {
            let mut moved = false;
            for from in [0, 1] {
                let [a, b] = &mut self.ends;
                let (from, to) = if from == 0 { (a, b) } else { (b, a) };
                from.transmit(self.now);
                while let Some(packet) = from.out.pop() {
                    moved = true;
                    if is_ours(packet) {
                        to.stack.handle_packet(self.now, to.iface, packet, RxMeta::default());
                    }
                }
                while let Some(event) = to.stack.poll_event() {
                    std::hint::black_box::<Event>(event);
                }
            }
            if !moved {
                return Ok(());
            }
        }
    }

    fn close(&mut self, conn: [SocketId; 2]) -> Result<()> {
        for end in [End::Client, End::Server] {
            self.ends[end as usize]
                .stack
                .sock(self.now, conn[end as usize])
                .map_err(told)?
                .close();
            self.carry()?;
        }
        Ok(())
    }

    fn pass(&mut self, time: Duration) -> Result<()> {
        self.now += time;
        let mut due = false;
        for end in &mut self.ends {
            if end.stack.poll_timeout().is_some_and(|at| at <= self.now) {
                end.stack.handle_timeout(self.now);
                due = true;
            }
        }
        if due {
            self.carry()?;
        }
        Ok(())
    }

    fn time_wait(&self) -> Option<Duration> {
        Some(Duration::from_secs(60))
    }

    fn inject(&mut self, packets: &[Packet]) -> Result<()> {
        let server = &mut self.ends[1];
        for packet in packets {
            server
                .stack
                .handle_packet(self.now, server.iface, packet, RxMeta::default());
        }
        self.carry()
    }

    fn begin(&mut self) -> Result<Self::Begun> {
        let begun = self.connect()?;
        self.carry()?;
        Ok(begun)
    }

    fn finish(&mut self, &mut (client, listener): &mut Self::Begun) -> Result<Option<[SocketId; 2]>> {
        let accepted = self.ends[1]
            .stack
            .sock(self.now, listener)
            .and_then(|mut sock| sock.accept());
        self.accepted.extend(retry(accepted.map(Some), None)?);
        let sock = self.ends[0].stack.sock(self.now, client).map_err(told)?;
        let name = sock.local_addr().map_err(told)?;
        if sock.state() == State::Closed {
            bail!("refused");
        }
        let place = self.accepted.iter().position(|(_, peer)| *peer == name);
        Ok(place.map(|at| [client, self.accepted.swap_remove(at).0]))
    }
}
