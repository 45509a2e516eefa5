//! Two stacks on one virtual clock, joined by a link in each direction.

use crate::{Fate, Link, LinkConfig};
use estab_device::gso;
use estab_engine::{CsumTx, Event, IfaceConfig, IfaceId, Instant, RxMeta, Sock, SocketId, Stack};

/// The stack at one end.
pub struct Host {
    /// Call it as its documentation says; [`Net::step`] drains it.
    pub stack: Stack,
    iface: IfaceId,
    events: Vec<Event>,
}

impl Host {
    /// A stack whose interface is `iface`: its addresses are given with `stack`'s own calls.
    pub fn new(mut stack: Stack, iface: IfaceConfig) -> Host {
        let iface = stack.add_iface(iface);
        Host {
            stack,
            iface,
            events: Vec::new(),
        }
    }

    /// The interface on the link.
    pub fn iface(&self) -> IfaceId {
        self.iface
    }

    /// What the stack has told since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}

/// A packet that a link did not carry unharmed.
#[derive(Clone, Debug)]
pub struct Harmed {
    /// The host that sent it.
    pub from: usize,
    /// What became of it.
    pub fate: Fate,
    /// The packet as it was sent.
    pub packet: Vec<u8>,
}

/// Hosts 0 and 1, the link from each to the other, and the clock.
pub struct Net {
    now: Instant,
    hosts: [Host; 2],
    links: [Link; 2],
    harmed: Vec<Harmed>,
    buf: Vec<u8>,
    scratch: Vec<u8>,
}

impl Net {
    /// `links[i]` carries what host `i` sends. The clock begins at zero, as the stacks' did.
    pub fn new(hosts: [Host; 2], links: [LinkConfig; 2]) -> Net {
        Net {
            now: Instant::ZERO,
            hosts,
            links: links.map(Link::new),
            harmed: Vec::new(),
            buf: vec![0; 70_000],
            scratch: Vec::new(),
        }
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// One of the hosts.
    pub fn host(&mut self, host: usize) -> &mut Host {
        &mut self.hosts[host]
    }

    /// A socket of a host, to call upon now.
    ///
    /// # Errors
    /// EBADF for a void handle.
    pub fn sock(&mut self, host: usize, id: SocketId) -> estab_engine::Result<Sock<'_>> {
        self.hosts[host].stack.sock(self.now, id)
    }

    /// The link that carries what `host` sends.
    pub fn link(&mut self, host: usize) -> &mut Link {
        &mut self.links[host]
    }

    /// The packets that were lost or corrupted since the last call.
    pub fn take_harmed(&mut self) -> Vec<Harmed> {
        std::mem::take(&mut self.harmed)
    }

    /// Puts on the links what the hosts have to send, and lets the next thing happen that is due by `until`: all that
    /// arrives or runs out at one moment. False when there is none; it is then `until`.
    pub fn step(&mut self, until: Instant) -> bool {
        self.drain();
        let due = self.links.iter().filter_map(Link::next);
        let due = due.chain(self.hosts.iter().filter_map(|host| host.stack.poll_timeout()));
        let Some(at) = due.min().filter(|at| *at <= until) else {
            self.now = self.now.max(until);
            return false;
        };
        self.now = self.now.max(at);
        for from in [0, 1] {
            let to = 1 - from;
            while let Some(packet) = self.links[from].poll(self.now) {
                let host = &mut self.hosts[to];
                host.stack
                    .handle_packet(self.now, host.iface, &packet, RxMeta::default());
                self.send(to);
            }
        }
        for host in &mut self.hosts {
            if host.stack.poll_timeout().is_some_and(|at| at <= self.now) {
                host.stack.handle_timeout(self.now);
            }
        }
        self.drain();
        true
    }

    fn drain(&mut self) {
        for host in [0, 1] {
            self.send(host);
            let host = &mut self.hosts[host];
            while let Some(event) = host.stack.poll_event() {
                host.events.push(event);
            }
        }
    }

    /// Puts what the host has to send on its link, super-packets as segments.
    fn send(&mut self, from: usize) {
        while let Some(transmit) = self.hosts[from].stack.poll_transmit(self.now, &mut self.buf) {
            let packet = &mut self.buf[..transmit.len];
            let mut offer = |packet: &[u8]| {
                let fate = self.links[from].offer(self.now, packet);
                if fate != Fate::Carried {
                    let packet = packet.to_vec();
                    self.harmed.push(Harmed { from, fate, packet });
                }
            };
            match (transmit.gso, transmit.csum) {
                (Some(size), _) => {
                    gso::segments(packet, 0, size, &mut self.scratch, offer);
                }
                (None, CsumTx::Partial { start, offset }) => {
                    gso::complete_checksum(packet, start.into(), offset.into());
                    offer(packet);
                }
                (None, CsumTx::Full) => offer(packet),
            }
        }
    }
}
