//! One event loop: a queue of the TUN, a stack of its own, and the host sockets of the connections that arrive on
//! that queue. Nothing is shared with the other workers but their inboxes.
//!
//! The kernel picks a queue by a flow's hash, and learns from what we write on which queue a flow is served. A
//! packet of a connection that began elsewhere (one we opened, silent so long that the kernel forgot) is handed on
//! to the next worker until one owns it; the last answers it.

use crate::config::Transport;
use crate::core::{Core, Owner, Stats};
use crate::dns::Dns;
use crate::ping::Ping;
use crate::publish::{self, Port};
use crate::status::Pages;
use crate::syn_proxy::SynProxy;
use crate::sys::{LEVEL, Waker};
use crate::table::Token;
use crate::tcp::{Conns, Remains};
use crate::udp::Udp;
use crate::{Queue, open};
use estab_engine::{Event, Family, IfaceConfig, IfaceId, Instant, Kind, Medium, RxMeta, SockOption, Stack};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Packets taken from the TUN before connections have their turn, and bytes: as much as is still in the caches when it is
/// carried on.
const PACKETS: usize = 64;
const BYTES: usize = 512 * 1024;
/// How long an ACK for the guest waits for bytes of the host to ride on: a server nearby has answered by then, and one far
/// away is not worth holding back a guest whose next segment waits for it (Nagle).
const ACK_WAIT: Duration = Duration::from_millis(8);
/// How long the last bytes of a command that has ended may take to reach the host, when nothing moves, and at all.
const DRAIN_STILL: Duration = Duration::from_secs(3);
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// Silence after which a guest has nothing more to say.
const DRAIN_QUIET: Duration = Duration::from_millis(30);

/// Which of a worker's stacks: the guest's, or the one that the SYN proxy's clients speak with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Guest,
    Clients,
}

/// Something to be done with a worker's stack.
type Call = Box<dyn FnOnce(&mut Stack, Instant) + Send>;

/// What one thread has for a worker.
pub(crate) enum Message {
    /// A packet that came to another queue, and how many workers have looked at it.
    Packet {
        packet: Box<[u8]>,
        meta: RxMeta,
        hops: usize,
    },
    /// A question from another thread.
    Call(Side, Call),
    /// The command has ended: carry what it has left behind and stop.
    Finish,
}

pub(crate) struct Inbox {
    messages: Mutex<VecDeque<Message>>,
    waker: Waker,
}

impl Inbox {
    pub(crate) fn new() -> std::io::Result<Inbox> {
        Ok(Inbox {
            messages: Mutex::new(VecDeque::new()),
            waker: Waker::new()?,
        })
    }

    pub(crate) fn put(&self, message: Message) {
        self.put_within(usize::MAX, message);
    }

    /// Puts a message unless `most` wait already; `false`: it is lost.
    fn put_within(&self, most: usize, message: Message) -> bool {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        if messages.len() >= most {
            return false;
        }
        messages.push_back(message);
        drop(messages);
        self.waker.wake();
        true
    }

    fn take(&self) -> VecDeque<Message> {
        self.waker.clear();
        std::mem::take(&mut *self.messages.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The time since the gateway's start; every worker's is the same.
#[derive(Clone, Copy)]
pub(crate) struct Clock(pub(crate) std::time::Instant);

impl Clock {
    pub(crate) fn now(self) -> Instant {
        Instant::ZERO + self.0.elapsed()
    }
}

pub(crate) struct Worker {
    core: Core,
    queue: Queue,
    iface: IfaceId,
    clock: Clock,
    index: usize,
    inboxes: Arc<[Inbox]>,
    ports: Vec<Port>,
    /// Guest ports published over UDP: the first worker serves them all.
    udp_ports: Vec<u16>,
    conns: Conns,
    pages: Pages,
    udp: Udp,
    dns: Dns,
    ping: Ping,
    syn_proxy: Option<Box<SynProxy>>,
    rx: Box<[u8]>,
    finish: Option<Finish>,
}

/// A worker about to stop.
struct Finish {
    latest: Instant,
    /// Whether the TUN was seen empty since.
    looked: bool,
    /// When a byte last moved, and how many had.
    moved: (Instant, u64),
}

/// What a worker is made from.
pub(crate) struct Parts {
    pub(crate) index: usize,
    pub(crate) queue: Queue,
    pub(crate) clock: Clock,
    pub(crate) inboxes: Arc<[Inbox]>,
    pub(crate) stats: Vec<Arc<Stats>>,
    pub(crate) ports: Vec<Port>,
    pub(crate) syn_proxy: Option<Box<SynProxy>>,
}

impl Worker {
    /// Gives `core`'s stack its interface, addresses and listeners.
    pub(crate) fn new(mut core: Core, parts: Parts) -> std::io::Result<Worker> {
        let Parts {
            index,
            queue,
            clock,
            inboxes,
            stats,
            ports,
            syn_proxy,
        } = parts;
        let refused = |err: estab_engine::SockError| std::io::Error::from_raw_os_error(err.errno());
        let iface = core.stack.add_iface(IfaceConfig {
            name: "estab0",
            mtu: queue.device.mtu(),
            medium: Medium::Ip,
            gso_max_size: queue.device.gso_max_size(),
            csum_offload: queue.device.csum_offload(),
            transparent: true,
        });
        for (ip, prefix, any, family) in networks(&core) {
            core.stack.add_addr(iface, ip, prefix).map_err(refused)?;
            core.stack.add_route(any, 0, None, iface).map_err(refused)?;
            listen(&mut core, None, family).map_err(refused)?;
            for port in [open::HTTP, open::DOMAIN] {
                listen(&mut core, Some(SocketAddr::new(ip, port)), family).map_err(refused)?;
            }
        }
        let udp_socket = |port: &Port| {
            let mine = port.publish.transport == Transport::Udp && index == 0;
            mine.then(|| port.socket.clone())
        };
        let udp = Udp::new(&mut core, ports.iter().map(udp_socket).collect()).map_err(refused)?;
        let ping = Ping::new(&mut core).map_err(refused)?;
        publish::listen(&mut core, &ports);
        core.poller.add(&queue.fd, LEVEL, Token::Device.pack())?;
        core.poller.add(&inboxes[index].waker, LEVEL, Token::Inbox.pack())?;
        if let Some(proxy) = &syn_proxy {
            core.poller.add(&proxy.queue.fd, LEVEL, Token::Clients.pack())?;
        }
        let udp_ports = ports.iter().map(|port| port.publish);
        let udp_ports = udp_ports
            .filter(|p| p.transport == Transport::Udp)
            .map(|p| p.guest)
            .collect();
        let rx = queue.buffer();
        Ok(Worker {
            core,
            queue,
            iface,
            clock,
            index,
            inboxes,
            ports,
            udp_ports,
            conns: Conns::new(),
            pages: Pages::new(stats),
            udp,
            dns: Dns::new(),
            ping,
            syn_proxy,
            rx,
            finish: None,
        })
    }

    /// Serves until told to finish.
    ///
    /// # Errors
    /// Those of epoll: none in practice.
    pub(crate) fn run(mut self) -> std::io::Result<()> {
        let mut ready = Vec::with_capacity(256);
        loop {
            let wait = self.wait();
            if wait.is_none_or(|wait| wait > Duration::from_millis(100)) {
                self.queue.device.flush();
                if let Some(proxy) = &mut self.syn_proxy {
                    proxy.queue.device.flush();
                }
            }
            self.core.poller.wait(&mut ready, wait)?;
            self.core.now = self.clock.now();
            for event in &ready {
                let (flags, data) = (event.flags, event.data.u64());
                match Token::unpack(data) {
                    Token::Device => self.receive(),
                    Token::Inbox => self.inbox(),
                    Token::Tcp(key) => self.conns.host_event(&mut self.core, key, flags),
                    Token::Udp(key) => self.udp.host_event(&mut self.core, key, flags),
                    Token::Dns(key) => self.dns.host_event(&mut self.core, &self.udp, key, flags),
                    Token::Ping(key) => self.ping.host_event(&mut self.core, key, flags),
                    Token::TcpPort(n) => publish::accept(&mut self.core, &mut self.conns, &self.ports, n),
                    Token::UdpPort(n) => self.udp.port_event(&mut self.core, n),
                    Token::Clients => self.with_syn_proxy(SynProxy::receive),
                    Token::Link(_) => {}
                }
            }
            self.deadlines();
            self.dispatch();
            self.serve_clients();
            for _ in 0..self.conns.turns() {
                self.conns.turn(&mut self.core);
                self.transmit();
            }
            self.transmit();
            self.dispatch();
            self.transmit();
            if self.finished(ready.is_empty()) {
                self.conns.cut(&mut self.core);
                self.with_syn_proxy(SynProxy::cut);
                self.queue.device.flush();
                return Ok(());
            }
        }
    }

    fn with_syn_proxy(&mut self, act: impl FnOnce(&mut SynProxy, &mut Core)) {
        if let Some(proxy) = &mut self.syn_proxy {
            act(proxy, &mut self.core);
        }
    }

    fn serve_clients(&mut self) {
        self.with_syn_proxy(SynProxy::serve);
        for _ in 0..self.syn_proxy.as_ref().map_or(0, |proxy| proxy.turns()) {
            self.with_syn_proxy(SynProxy::turn);
            self.transmit();
        }
    }

    /// Whether connections wait for their turn.
    fn pending(&self) -> bool {
        self.conns.pending() || self.syn_proxy.as_ref().is_some_and(|proxy| proxy.pending())
    }

    /// How long there is nothing to do unless something happens.
    fn wait(&self) -> Option<Duration> {
        if self.pending() {
            return Some(Duration::ZERO);
        }
        // Nothing has happened yet since the command ended: see what it left behind.
        let quiet = self.finish.as_ref().map(|finish| match finish.looked {
            true => self.core.now + DRAIN_QUIET / 3,
            false => self.core.now,
        });
        let clients = self.syn_proxy.as_ref().and_then(|proxy| proxy.stack.poll_timeout());
        let next = [
            self.core.stack.poll_timeout(),
            self.core.deadlines.next(),
            clients,
            quiet,
        ];
        next.into_iter().flatten().min().map(|at| at.since(self.clock.now()))
    }

    /// Takes packets from the TUN. What the engine has to say to them leaves afterwards: one ACK for all of a connection, whose
    /// bytes are with the host by then, as one packet is all that GRO would have made of them.
    fn receive(&mut self) {
        let mut bytes = 0;
        for _ in 0..PACKETS {
            if bytes >= BYTES {
                break;
            }
            self.core.now = self.clock.now();
            let mut buf = std::mem::take(&mut self.rx);
            let received = self.queue.receive(&mut buf);
            if let Ok(Some((len, meta))) = received {
                bytes += len;
                self.packet(&buf[..len], meta, 0);
            }
            self.rx = buf;
            match received {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(err) => {
                    // A TUN's read fails for good: its interface was deleted, and would wake us for ever.
                    tracing::error!("the guest's network has ended: its interface is gone ({err})");
                    self.core.poller.remove(&self.queue.fd);
                    break;
                }
            }
        }
    }

    fn packet(&mut self, packet: &[u8], meta: RxMeta, hops: usize) {
        if let Some(to) = self.belongs_to(packet, hops) {
            let message = Message::Packet {
                packet: packet.into(),
                meta,
                hops: hops + 1,
            };
            let most = self.core.stack.sysctls().netdev_max_backlog as usize;
            if !self.inboxes[to].put_within(most, message) {
                self.core.stack.count_backlog_drop();
            }
            return;
        }
        let core = &mut self.core;
        let stack = &mut core.stack;
        stack.handle_packet_with(core.now, self.iface, packet, meta, |id, text| {
            match core.owners.get(id) {
                Some(Owner::Tcp(key)) => self.conns.shown(&core.stats, key, text),
                _ => 0,
            }
        });
    }

    /// The worker a packet should go to, if it isn't this one.
    fn belongs_to(&mut self, packet: &[u8], hops: usize) -> Option<usize> {
        let workers = self.inboxes.len();
        if workers == 1 || hops + 1 >= workers {
            return None;
        }
        match transport(packet)? {
            Start::Tcp { opens: true } => None,
            Start::Tcp { opens: false } => (!self.core.stack.owns(packet)).then_some((self.index + 1) % workers),
            Start::Udp { from } => (self.index != 0 && self.udp_ports.contains(&from)).then_some(0),
        }
    }

    /// Writes what the engine has to send.
    fn transmit(&mut self) {
        let Core { stack, now, stats, .. } = &mut self.core;
        self.queue.transmit(stack, *now, stats);
    }

    /// Tells who is concerned what the engine has to say.
    fn dispatch(&mut self) {
        while let Some(event) = self.core.stack.poll_event() {
            match event {
                Event::Ready(id, _) => match self.core.owner(id) {
                    Some(Owner::Tcp(key)) => self.conns.guest_event(key),
                    Some(Owner::Link(key)) => self.with_syn_proxy(|proxy, _| proxy.server_event(key)),
                    Some(Owner::Page(key)) => self.pages.event(&mut self.core, key),
                    Some(Owner::Udp) => self.udp.guest_event(&mut self.core, &mut self.dns, id),
                    Some(Owner::Echo) => self.ping.guest_event(&mut self.core, id),
                    Some(Owner::Listener) | None => {}
                },
                Event::Incoming(incoming) => {
                    open::incoming(&mut self.core, &mut self.conns, &mut self.pages, incoming);
                    // The host's connect may have an outcome already.
                    self.transmit();
                }
                Event::OpenGone(id) => self.conns.open_gone(&mut self.core, id),
                Event::Closed(_) => {}
            }
        }
    }

    fn deadlines(&mut self) {
        if self.core.stack.poll_timeout().is_some_and(|at| at <= self.core.now) {
            self.core.stack.handle_timeout(self.core.now);
            self.transmit();
        }
        while let Some(token) = self.core.deadlines.pop(self.core.now) {
            match token {
                Token::Tcp(key) => self.conns.guest_event(key),
                Token::Link(key) => self.with_syn_proxy(|proxy, _| proxy.server_event(key)),
                Token::Udp(key) => self.udp.deadline(&mut self.core, key),
                Token::Dns(key) => self.dns.deadline(&mut self.core, &self.udp, key),
                Token::Ping(key) => self.ping.deadline(&mut self.core, key),
                Token::Device | Token::Inbox | Token::TcpPort(_) | Token::UdpPort(_) | Token::Clients => {}
            }
        }
    }

    fn inbox(&mut self) {
        for message in self.inboxes[self.index].take() {
            match message {
                Message::Packet { packet, meta, hops } => self.packet(&packet, meta, hops),
                Message::Call(Side::Guest, call) => call(&mut self.core.stack, self.core.now),
                Message::Call(Side::Clients, call) => {
                    self.with_syn_proxy(|proxy, core| call(&mut proxy.stack, core.now));
                }
                Message::Finish => {
                    let now = self.core.now;
                    self.finish = Some(Finish {
                        latest: now + DRAIN_MAX,
                        looked: false,
                        moved: (now, self.moved()),
                    });
                }
            }
        }
    }

    fn moved(&self) -> u64 {
        let stats = &self.core.stats;
        let clients = self.syn_proxy.as_ref().map_or(0, |proxy| proxy.moved());
        Stats::get(&stats.bytes_out) + Stats::get(&stats.bytes_in) + Stats::get(&stats.connections) + clients
    }

    fn remains(&mut self) -> Remains {
        let of_clients = self.syn_proxy.as_mut().map(|proxy| proxy.remains(&mut self.core));
        self.conns
            .remains(&mut self.core)
            .max(of_clients.unwrap_or(Remains::Nothing))
    }

    /// Whether the guest has nothing left to be carried, or had its time. `quiet`: nothing has just happened, so what
    /// the guest sent before its end has been read from the TUN.
    fn finished(&mut self, quiet: bool) -> bool {
        let (now, moved) = (self.core.now, self.moved());
        let Some(finish) = &mut self.finish else {
            return false;
        };
        finish.looked |= quiet;
        if finish.moved.1 != moved {
            finish.moved = (now, moved);
        }
        let still = now.since(finish.moved.0);
        if now >= finish.latest || still >= DRAIN_STILL {
            return true;
        }
        quiet
            && !self.pending()
            && match self.remains() {
                Remains::Nothing => true,
                Remains::Silence => still >= DRAIN_QUIET,
                Remains::Bytes => false,
            }
    }
}

/// The gateway's networks: its address, the prefix, the family's unspecified address and the family.
fn networks(core: &Core) -> Vec<(IpAddr, u8, IpAddr, Family)> {
    let v4 = core
        .config
        .ipv4
        .map(|net| (net.gateway.into(), net.prefix, Ipv4Addr::UNSPECIFIED.into(), Family::V4));
    let v6 = core
        .config
        .ipv6
        .map(|net| (net.gateway.into(), net.prefix, Ipv6Addr::UNSPECIFIED.into(), Family::V6));
    v4.into_iter().chain(v6).collect()
}

/// A listener that leaves its SYNs to us: those to `at`, or to every address that isn't the gateway's.
fn listen(core: &mut Core, at: Option<SocketAddr>, family: Family) -> estab_engine::Result<()> {
    let id = core.stack.socket(family, Kind::Stream)?;
    core.own(id, Owner::Listener);
    let mut sock = core.sock(id)?;
    if family == Family::V6 {
        sock.set_option(SockOption::V6Only(true))?;
    }
    sock.set_option(SockOption::Transparent(true))?;
    // What the host says passes on at once; an ACK waits a little for a reply of the host's to ride on.
    for option in [
        SockOption::NoDelay(true),
        SockOption::QuickAck(false),
        SockOption::DelackMax(ACK_WAIT),
    ] {
        sock.set_option(option)?;
    }
    if let Some(at) = at {
        sock.bind(at)?;
    }
    sock.listen(i32::from(u16::MAX))
}

/// What steering must know of a packet.
enum Start {
    /// `opens`: a SYN without ACK.
    Tcp {
        opens: bool,
    },
    Udp {
        from: u16,
    },
}

/// The beginning of a packet's transport header; `None` for what is steered nowhere.
fn transport(packet: &[u8]) -> Option<Start> {
    let (protocol, at) = match packet.first()? >> 4 {
        4 => {
            let fragment = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x1fff;
            (
                *packet.get(9).filter(|_| fragment == 0)?,
                usize::from(packet[0] & 0x0f) * 4,
            )
        }
        6 => (*packet.get(6)?, 40),
        _ => return None,
    };
    match protocol {
        6 => Some(Start::Tcp {
            opens: packet.get(at + 13)? & 0x12 == 0x02,
        }),
        17 => Some(Start::Udp {
            from: u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_that_wait_for_a_worker_are_bounded_and_calls_are_not() {
        let inbox = Inbox::new().unwrap();
        let packet = || Message::Packet {
            packet: Box::from([0; 40]),
            meta: RxMeta::default(),
            hops: 1,
        };
        let taken = (0..5).filter(|_| inbox.put_within(3, packet())).count();
        assert_eq!(taken, 3);
        inbox.put(Message::Finish);
        assert_eq!(inbox.take().len(), 4);
        assert!(inbox.put_within(3, packet()), "there is room again");
    }
}
