//! The Internet layer and the datagram sockets on virtual time, packets as bytes.

mod datagrams;
mod errors;
mod fragments;
mod header;
mod neighbours;
mod routing;

use super::{Delivery, IcmpError, Ip, LOOPBACK, input, open, plain_tcp};
use crate::echo::Echo;
use crate::env::Env;
use crate::stack::Family;
use crate::udp::Udp;
use crate::{Config, DropReason, IfaceConfig, IfaceId, Instant, Medium, RxMeta, SocketId, Transmit};
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use estab_proto::Counter;
use estab_wire::ip as wire;

/// A stack's lower half: IP, UDP and echo.
struct Node {
    env: Env,
    udp: Udp,
    echo: Echo,
    errors: Vec<IcmpError>,
    tcp: usize,
    next_sock: u32,
}

const MTU: u32 = 1500;
const IF0: IfaceId = IfaceId(0);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

impl Node {
    fn new() -> Node {
        let config = Config {
            seed: [9; 32],
            memory: 1 << 30,
            unix_time: 0,
        };
        let env = Env::new(Instant::from_millis(1000), config);
        Node {
            udp: Udp::new(&env.rng),
            echo: Echo::new(&env.rng),
            env,
            errors: Vec::new(),
            tcp: 0,
            next_sock: 0,
        }
    }

    /// A host on one link, with these addresses.
    fn host(addrs: &[&str]) -> Node {
        let mut node = Node::new();
        node.iface(Medium::Ip, addrs, false);
        node
    }

    /// A host whose interface answers for everybody.
    fn transparent(addrs: &[&str]) -> Node {
        let mut node = Node::new();
        node.iface(Medium::Ip, addrs, true);
        node
    }

    fn iface(&mut self, medium: Medium, addrs: &[&str], transparent: bool) -> IfaceId {
        let id = self.env.ip.add_iface(IfaceConfig {
            name: "test",
            mtu: MTU,
            medium,
            gso_max_size: 0,
            csum_offload: false,
            transparent,
        });
        for addr in addrs {
            let prefix = if addr.contains(':') { 64 } else { 24 };
            self.env.ip.add_addr(id, ip(addr), prefix).unwrap();
        }
        id
    }

    fn udp(&mut self, family: Family) -> SocketId {
        let id = self.handle();
        self.udp.open(&self.env, id, family);
        id
    }

    fn echo(&mut self, family: Family) -> SocketId {
        let id = self.handle();
        self.echo.open(&self.env, id, family);
        id
    }

    fn handle(&mut self) -> SocketId {
        self.next_sock += 1;
        SocketId {
            index: self.next_sock,
            generation: core::num::NonZeroU32::MIN,
        }
    }

    fn bound(&mut self, addr: &str) -> SocketId {
        let addr = at(addr);
        let id = self.udp(if addr.is_ipv4() { Family::V4 } else { Family::V6 });
        self.udp.bind(&mut self.env, id, addr).unwrap();
        id
    }

    fn recv(&mut self, id: SocketId) -> Option<(Vec<u8>, SocketAddr, SocketAddr)> {
        let mut buf = vec![0; 70_000];
        let (len, src, dst) = self.udp.recv(id, &mut buf, Default::default()).ok()?;
        buf.truncate(len);
        Some((buf, src, dst))
    }

    fn input(&mut self, on: IfaceId, bytes: &[u8]) {
        self.input_with(on, bytes, RxMeta::default());
    }

    fn input_with(&mut self, on: IfaceId, bytes: &[u8], meta: RxMeta) {
        let Some(bytes) = open(&mut self.env, on, bytes) else {
            return;
        };
        if plain_tcp(&mut self.env, on, bytes, meta).is_some() {
            self.tcp += 1;
            return;
        }
        let mut whole = Vec::new();
        match input(&mut self.env, on, bytes, meta, &mut whole) {
            Some(Delivery::Udp(packet)) => self.udp.input(&mut self.env, &packet),
            Some(Delivery::Echo(packet)) => self.echo.input(&mut self.env, &packet),
            Some(Delivery::Error(error)) => {
                self.errors.push(error);
                self.udp.icmp(&mut self.env, &error);
                self.echo.icmp(&mut self.env, &error);
            }
            Some(Delivery::Tcp(_)) => self.tcp += 1,
            None => {}
        }
    }

    /// All that wants to leave; what goes over the loopback comes back at once.
    fn output(&mut self) -> Vec<Vec<u8>> {
        self.output_full().into_iter().map(|(_, bytes)| bytes).collect()
    }

    fn output_full(&mut self) -> Vec<(Transmit, Vec<u8>)> {
        let mut out = Vec::new();
        let mut buf = vec![0; 70_000];
        while let Some(transmit) = Ip::poll_reply(&mut self.env, &mut buf) {
            let bytes = buf[..transmit.len].to_vec();
            match transmit.iface {
                LOOPBACK => self.input_with(LOOPBACK, &bytes, Ip::looped(&transmit)),
                _ => out.push((transmit, bytes)),
            }
        }
        out
    }

    /// Time passes; timers fire when they are due.
    fn pass(&mut self, time: Duration) {
        let end = self.env.now + time;
        while let Some(next) = self.env.timers.next().filter(|next| *next <= end) {
            self.env.now = self.env.now.max(next);
            while let Some(key) = self.env.timers.pop(self.env.now) {
                Ip::on_timer(&mut self.env, key.unpack());
            }
        }
        self.env.now = end;
    }

    /// Who was told that its readiness has grown, since the last time.
    fn told(&mut self) -> Vec<SocketId> {
        let ready = |event| match event {
            crate::Event::Ready(id, _) => Some(id),
            _ => None,
        };
        core::iter::from_fn(|| self.env.events.pop())
            .filter_map(ready)
            .collect()
    }

    fn count(&self, counter: Counter) -> u64 {
        self.env.mib.get(counter)
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.env.mib.dropped(reason)
    }
}

/// Carries packets between two nodes' first interfaces until both are quiet; returns all that were carried.
fn link(a: &mut Node, b: &mut Node) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for _ in 0..100 {
        let (from_a, from_b) = (a.output(), b.output());
        if from_a.is_empty() && from_b.is_empty() {
            return all;
        }
        from_a.iter().for_each(|bytes| b.input(IF0, bytes));
        from_b.iter().for_each(|bytes| a.input(IF0, bytes));
        all.extend(from_a);
        all.extend(from_b);
    }
    panic!("the two never stop talking");
}

/// A UDP packet, whole.
fn udp_packet(src: &str, dst: &str, payload: &[u8]) -> Vec<u8> {
    let (src, dst) = (at(src), at(dst));
    let mut transport = vec![0; 8];
    let sum = estab_wire::checksum::Sum::of(payload);
    estab_wire::udp::write(
        &mut transport,
        (src.ip(), src.port()),
        (dst.ip(), dst.port()),
        sum,
        payload.len(),
    )
    .unwrap();
    transport.extend_from_slice(payload);
    packet(src.ip(), dst.ip(), wire::protocol::UDP, &transport)
}

/// An IP packet around a transport.
fn packet(src: IpAddr, dst: IpAddr, protocol: u8, transport: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 40];
    let header = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let header = wire::ipv4::Header {
                dont_fragment: false,
                ..wire::ipv4::Header::new(src, dst, protocol)
            };
            header.write(&mut bytes, transport.len())
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            wire::ipv6::Header::new(src, dst, protocol).write(&mut bytes, transport.len())
        }
        _ => None,
    };
    bytes.truncate(header.unwrap());
    bytes.extend_from_slice(transport);
    bytes
}

/// An echo request, whole.
fn ping(src: &str, dst: &str, data: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 8 + data.len()];
    match (ip(src), ip(dst)) {
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            estab_wire::icmpv6::write_echo(&mut message, (src, dst), false, 7, 1, data).unwrap();
            packet(src.into(), dst.into(), wire::protocol::ICMPV6, &message)
        }
        (src, dst) => {
            estab_wire::icmpv4::write_echo(&mut message, false, 7, 1, data).unwrap();
            packet(src, dst, wire::protocol::ICMP, &message)
        }
    }
}

fn parse(bytes: &[u8]) -> wire::Packet<'_> {
    wire::Packet::parse(bytes).unwrap()
}

/// Type and code of an ICMP packet.
fn icmp_kind(bytes: &[u8]) -> (u8, u8) {
    let view = parse(bytes);
    (view.payload[0], view.payload[1])
}
