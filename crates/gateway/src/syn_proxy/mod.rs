//! Published TCP ports that estab answers itself (`--syn-proxy`): the server gets connections, never a SYN that nobody
//! stands behind (RFC 4987 §3.8).
//!
//! The ports' addresses are routed to a TUN of the host's ([`tun`]). Each worker has one of its queues and a stack of
//! its own there, whose SYN queue and cookies meet the flood. Only when a client has completed its handshake does the
//! guest's stack open a connection to the server, as for any published port, and the two are one from then on
//! ([`link`]).
//!
//! The kernel picks the queue by a hash of addresses and ports alone: nothing of these connections came out of another
//! queue first, so each stays with the worker that has its SYN.

mod link;
pub(crate) mod tun;

use crate::config::{Config, Transport};
use crate::core::{Core, Owner, Stats};
use crate::patience::Patience;
use crate::publish::{self, BindError};
use crate::queue::Queue;
use crate::table::{BySocket, Key, Table, Token};
use crate::tcp::Remains;
use estab_engine::proto::State;
use estab_engine::{
    Event, Family, IfaceConfig, IfaceId, Instant, Kind, Medium, Result, SockError, SockOption, SocketId, Stack,
};
use link::{Link, Next};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Packets taken from the TUN before others have their turn, and bytes.
const PACKETS: usize = 64;
const BYTES: usize = 512 * 1024;
/// Clients accepted at a port before others have their turn.
const TURN: usize = 64;
/// Handshakes and connections that wait at a port; past the first, cookies. `net.core.somaxconn` bounds it too.
const BACKLOG: i32 = 4096;

/// A published port, answered here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Endpoint {
    pub(crate) at: SocketAddr,
    /// The guest's port.
    pub(crate) guest: u16,
}

/// Where `config`'s published TCP ports are answered: at the address they name, else at the guest's own, which nobody else
/// on the host has.
pub(crate) fn endpoints(config: &Config) -> Vec<Endpoint> {
    let guest = [
        config.ipv4.map(|net| net.guest.into()),
        config.ipv6.map(|net| net.guest.into()),
    ];
    let tcp = config
        .publish
        .iter()
        .filter(|publish| publish.transport == Transport::Tcp);
    tcp.flat_map(|publish| {
        let addresses = match publish.address {
            Some(address) => [Some(address), None],
            None => guest,
        };
        addresses.into_iter().flatten().map(|ip: IpAddr| Endpoint {
            at: SocketAddr::new(ip, publish.port),
            guest: publish.guest,
        })
    })
    .collect()
}

/// Gives `stack` the address and a listener there.
fn listen(stack: &mut Stack, now: Instant, iface: IfaceId, at: SocketAddr) -> Result<SocketId> {
    let (any, prefix, family): (IpAddr, u8, Family) = match at {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), 32, Family::V4),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), 128, Family::V6),
    };
    stack.add_addr(iface, at.ip(), prefix)?;
    stack.add_route(any, 0, None, iface)?;
    let id = stack.socket(family, Kind::Stream)?;
    let mut sock = stack.sock(now, id)?;
    sock.set_option(SockOption::NoDelay(true))?;
    sock.bind(at)?;
    sock.listen(BACKLOG)?;
    Ok(id)
}

/// One worker's part of the proxy.
pub(crate) struct SynProxy {
    /// The clients' side; the guest's is the worker's own.
    pub(crate) stack: Stack,
    pub(crate) queue: Queue,
    iface: IfaceId,
    rx: Box<[u8]>,
    listeners: Vec<(SocketId, Endpoint)>,
    /// A listener may have clients waiting.
    waiting: bool,
    links: Table<Link>,
    /// Whose a connection of `stack` is; a socket that is nobody's is a listener.
    clients: BySocket<Key>,
    /// Links with something to do.
    ready: VecDeque<Key>,
    /// Links whose server has not answered yet.
    dialing: usize,
}

impl SynProxy {
    /// Answers at `endpoints` what comes in by `queue`.
    ///
    /// # Errors
    /// For an endpoint that stands there twice, or at no address of a host's.
    pub(crate) fn new(
        mut stack: Stack,
        now: Instant,
        queue: Queue,
        endpoints: &[Endpoint],
    ) -> std::result::Result<SynProxy, BindError> {
        let iface = stack.add_iface(IfaceConfig {
            name: "clients0",
            mtu: queue.device.mtu(),
            medium: Medium::Ip,
            gso_max_size: queue.device.gso_max_size(),
            csum_offload: queue.device.csum_offload(),
            transparent: false,
        });
        let mut listeners = Vec::new();
        for endpoint in endpoints {
            let listener = listen(&mut stack, now, iface, endpoint.at);
            let refused =
                |err: SockError| BindError::Other(endpoint.at, std::io::Error::from_raw_os_error(err.errno()));
            listeners.push((listener.map_err(refused)?, *endpoint));
        }
        Ok(SynProxy {
            stack,
            rx: queue.buffer(),
            queue,
            iface,
            listeners,
            waiting: false,
            links: Table::new(),
            clients: BySocket::new(),
            ready: VecDeque::new(),
            dialing: 0,
        })
    }

    /// Takes packets from the TUN, each followed by the engine's answers to it.
    pub(crate) fn receive(&mut self, core: &mut Core) {
        let mut bytes = 0;
        for _ in 0..PACKETS {
            if bytes >= BYTES {
                break;
            }
            match self.queue.receive(&mut self.rx) {
                Ok(Some((len, meta))) => {
                    bytes += len;
                    self.transmit(core);
                    self.stack.handle_packet(core.now, self.iface, &self.rx[..len], meta);
                }
                Ok(None) => break,
                Err(err) => {
                    tracing::error!("no client arrives any more: the SYN proxy's interface is gone ({err})");
                    core.poller.remove(&self.queue.fd);
                    break;
                }
            }
        }
    }

    fn transmit(&mut self, core: &Core) {
        self.queue.transmit(&mut self.stack, core.now, &core.stats);
    }

    /// Acts on what is due and on what has happened; connects clients that have completed their handshake.
    pub(crate) fn serve(&mut self, core: &mut Core) {
        if self.stack.poll_timeout().is_some_and(|at| at <= core.now) {
            self.stack.handle_timeout(core.now);
        }
        self.transmit(core);
        self.dispatch();
        if std::mem::take(&mut self.waiting) {
            self.accept(core);
        }
    }

    fn dispatch(&mut self) {
        while let Some(event) = self.stack.poll_event() {
            if let Event::Ready(id, _) = event {
                match self.clients.get(id) {
                    Some(key) => self.enqueue(key),
                    None => self.waiting = true,
                }
            }
        }
    }

    /// As many clients may wait for the server as for us: with a server that doesn't answer, the rest stay in our accept
    /// queues, and when these are full no SYN is answered, as at the server itself.
    fn may_dial(&self) -> bool {
        self.dialing < self.stack.sysctls().somaxconn.max(1) as usize
    }

    fn accept(&mut self, core: &mut Core) {
        for n in 0..self.listeners.len() {
            let (listener, endpoint) = self.listeners[n];
            for turn in 0..=TURN {
                if turn == TURN || !self.may_dial() {
                    self.waiting = true;
                    break;
                }
                let accepted = self.stack.sock(core.now, listener).and_then(|mut sock| sock.accept());
                let Ok((client, from)) = accepted else { break };
                self.dial(core, client, from, endpoint);
            }
        }
    }

    fn dial(&mut self, core: &mut Core, client: SocketId, from: SocketAddr, endpoint: Endpoint) {
        let Some(server) = publish::dial(core, from, endpoint.at, endpoint.guest) else {
            if let Ok(sock) = self.stack.sock(core.now, client) {
                sock.abort();
            }
            return;
        };
        let key = self.links.insert(Link::new(client, server));
        self.clients.set(client, key);
        core.own(server, Owner::Link(key));
        self.dialing += 1;
        Stats::add(&core.stats.open, 1);
        // What has happened to it already.
        self.enqueue(key);
    }

    /// The server's connection is ready for something, or failed; or a deadline of the link's has come.
    pub(crate) fn server_event(&mut self, key: Key) {
        self.enqueue(key);
    }

    fn enqueue(&mut self, key: Key) {
        if let Some(link) = self.links.get_mut(key)
            && !link.queued
        {
            link.queued = true;
            self.ready.push_back(key);
        }
    }

    /// Whether there is something to do now.
    pub(crate) fn pending(&self) -> bool {
        !self.ready.is_empty() || (self.waiting && self.may_dial())
    }

    /// The number of links that have something to do now.
    pub(crate) fn turns(&self) -> usize {
        self.ready.len()
    }

    /// Carries what the next link can carry now.
    pub(crate) fn turn(&mut self, core: &mut Core) {
        let Some(key) = self.ready.pop_front() else { return };
        let Some(link) = self.links.get_mut(key) else { return };
        link.queued = false;
        let dialing = link.dialing;
        let next = link.advance(&mut self.stack, core);
        self.dialing -= usize::from(dialing && !link.dialing);
        match next {
            Next::Wait => {}
            Next::Again => self.enqueue(key),
            Next::Look => {
                let patience = link.reset.get_or_insert_with(|| Patience::new(core.now));
                if let Some(delay) = patience.look(core.now) {
                    core.wake_in(delay, Token::Link(key));
                }
            }
            Next::Closed | Next::Reset => self.end(core, key, next == Next::Closed),
        }
        self.transmit(core);
    }

    /// Lets both connections go: `in_order`, or by a reset.
    fn end(&mut self, core: &mut Core, key: Key, in_order: bool) {
        let Some(link) = self.links.remove(key) else { return };
        self.dialing -= usize::from(link.dialing);
        Stats::sub(&core.stats.open, 1);
        self.clients.remove(link.client.id);
        core.disown(link.server.id);
        let now = core.now;
        let ends = [(&mut self.stack, link.client.id), (&mut core.stack, link.server.id)];
        for (stack, id) in ends {
            match stack.sock(now, id) {
                Ok(sock) if in_order => sock.close(),
                Ok(sock) => sock.abort(),
                Err(_) => {}
            }
        }
    }

    /// What of the server's is still on its way to a client: nobody sends it again once this gateway has ended, its FIN
    /// included.
    pub(crate) fn remains(&mut self, core: &mut Core) -> Remains {
        let leaving = |state| matches!(state, State::FinWait1 | State::Closing | State::LastAck);
        if self.stack.diag(core.now).any(|diag| leaving(diag.state)) {
            return Remains::Bytes;
        }
        let Self { links, stack, .. } = self;
        let of = |(_, link): (Key, &mut Link)| link.remains(stack, core);
        links.iter_mut().map(of).max().unwrap_or(Remains::Nothing)
    }

    /// Grows while clients take what they are sent.
    pub(crate) fn moved(&self) -> u64 {
        self.stack.counters().get(estab_engine::proto::Counter::TcpInSegs)
    }

    /// Ends every connection as the end of the guest's network does: a client learns by a reset that its stream was cut off.
    pub(crate) fn cut(&mut self, core: &mut Core) {
        let keys: Vec<Key> = self.links.iter_mut().map(|(key, _)| key).collect();
        for key in keys {
            let Self { links, stack, .. } = self;
            let served = links.get_mut(key).is_some_and(|link| link.is_served(stack, core.now));
            self.end(core, key, served);
        }
        for (listener, _) in std::mem::take(&mut self.listeners) {
            // Who was not accepted is reset.
            if let Ok(sock) = self.stack.sock(core.now, listener) {
                sock.close();
            }
        }
        self.transmit(core);
        self.queue.device.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ns::{pick_ipv4, pick_ipv6};

    #[test]
    fn a_port_is_answered_at_its_address_or_else_at_the_guests() {
        let (v4, v6) = (pick_ipv4(), pick_ipv6());
        let publish = ["8080:80", "198.51.100.80:443:8443", "5353:53/udp"];
        let mut config = Config {
            ipv4: Some(v4),
            ipv6: Some(v6),
            publish: publish.iter().map(|text| text.parse().expect(text)).collect(),
            host_loopback: false,
            resolvers: Vec::new(),
            memory: 0,
            sysctls: Vec::new(),
        };
        let found = |config: &Config| -> Vec<(String, u16)> {
            let all = endpoints(config).into_iter();
            all.map(|endpoint| (endpoint.at.to_string(), endpoint.guest)).collect()
        };
        let (at_v4, at_v6) = (format!("{}:8080", v4.guest), format!("[{}]:8080", v6.guest));
        let named = ("198.51.100.80:443".to_owned(), 8443);
        assert_eq!(found(&config), [(at_v4.clone(), 80), (at_v6, 80), named.clone()]);
        config.ipv6 = None;
        assert_eq!(found(&config), [(at_v4, 80), named]);
    }
}
