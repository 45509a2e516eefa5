//! The Internet layer: packets in, checked and put together; packets out, routed, addressed and cut.
//!
//! | file | what | by |
//! |---|---|---|
//! | input.rs | what a packet must be to go further; local, transparent, forwarded | RFC 791, 8200; `ip_rcv`, `ip6_rcv` |
//! | output.rs | headers, identification, fragments | RFC 791, 6864, 8200 |
//! | reply.rs | the queue of stateless answers and datagrams | – |
//! | route.rs | the way out and the source address | RFC 6724 |
//! | reassembly.rs | fragments put together, with bounds | RFC 815, 5722 |
//! | icmp.rs, icmp_out.rs | errors in and out, echo | RFC 792, 4443, 1122, 1812 |
//! | pmtu.rs | path MTUs learned | RFC 1191, 8201 |
//! | neigh.rs | neighbours on Ethernet: ARP and neighbour discovery | RFC 826, 4861, 1122 |

mod icmp;
mod icmp_out;
mod input;
mod neigh;
mod output;
mod pmtu;
mod reassembly;
mod reply;
mod route;

pub(crate) use icmp::{IcmpError, IcmpKind, queue_echo};
pub(crate) use icmp_out::{Problem, Subject};
pub(crate) use output::HeaderSpec;
pub(crate) use reply::{ReplyOptions, TcpReply};
pub use route::RouteMetrics;
pub(crate) use route::{Route, Way, in_prefix};

use crate::env::Env;
use crate::rng::Rng;
use crate::timer::TimerKey;
use crate::{IfaceConfig, IfaceId, RxCsum, RxMeta, Transmit};
use alloc::vec::Vec;
use core::net::IpAddr;
use estab_wire::checksum::Sum;

/// The loopback: what leaves on it comes back in. `Stack::poll_transmit` takes such a packet out of the caller's
/// buffer again, with [`Ip::looped`] as its meta.
pub(crate) const LOOPBACK: IfaceId = IfaceId(u16::MAX);

/// `TimerKey::Misc` numbers of this module are 16 and above.
const MISC_PMTU: u8 = 16;

#[derive(Clone)]
struct Iface {
    config: IfaceConfig,
    addrs: Vec<(IpAddr, u8)>,
}

/// Interfaces, routes, and all that is known of hosts but not of connections.
#[derive(Clone)]
pub(crate) struct Ip {
    ifaces: Vec<Iface>,
    routes: Vec<route::Entry>,
    /// Our addresses, sorted: there are few, and nobody else chooses them.
    own: Vec<IpAddr>,
    pmtu: pmtu::Pmtu,
    frags: reassembly::Reassembly,
    neigh: neigh::Neighbours,
    limits: icmp_out::Limits,
    idents: output::Idents,
    replies: reply::Replies,
    /// Counts the changes to interfaces, addresses, routes, path MTUs and knobs: see [`Way`].
    epoch: u32,
    /// What was found of the last packet's addresses.
    vetted: input::Vetted,
}

impl Ip {
    /// No interface but the loopback.
    pub(crate) fn new(rng: &mut Rng) -> Ip {
        Ip {
            ifaces: Vec::new(),
            routes: Vec::new(),
            own: Vec::new(),
            pmtu: pmtu::Pmtu::new(rng),
            frags: reassembly::Reassembly::new(rng),
            neigh: neigh::Neighbours::new(rng),
            limits: icmp_out::Limits::new(),
            idents: output::Idents::new(rng),
            replies: reply::Replies::new(),
            epoch: 1,
            vetted: input::Vetted::default(),
        }
    }

    /// Adds an interface; its address and routes come after.
    pub(crate) fn add_iface(&mut self, config: IfaceConfig) -> IfaceId {
        // 65535 is the loopback; nobody has that many, and the last one's number is then given again.
        self.changed();
        let id = IfaceId(self.ifaces.len().min(usize::from(u16::MAX) - 1) as u16);
        self.ifaces.truncate(usize::from(id.0));
        self.ifaces.push(Iface {
            config,
            addrs: Vec::new(),
        });
        id
    }

    /// What the interface was made with; `None` for the loopback.
    pub(crate) fn iface(&self, id: IfaceId) -> Option<&IfaceConfig> {
        self.ifaces.get(usize::from(id.0)).map(|iface| &iface.config)
    }

    /// The interface takes packets for addresses that are not ours.
    pub(crate) fn is_transparent(&self, id: IfaceId) -> bool {
        self.iface(id).is_some_and(|config| config.transparent)
    }

    /// The addresses of an interface with their prefixes.
    pub(crate) fn addrs(&self, id: IfaceId) -> &[(IpAddr, u8)] {
        self.ifaces.get(usize::from(id.0)).map_or(&[], |iface| &iface.addrs)
    }

    /// One of this module's timers (`Reassembly`, `Neigh`, `Misc` from 16) has fired.
    pub(crate) fn on_timer(env: &mut Env, key: TimerKey) {
        match key {
            TimerKey::Reassembly(index) => reassembly::expire(env, index),
            TimerKey::Neigh(index) => neigh::on_timer(env, index),
            TimerKey::Misc(MISC_PMTU) => Ip::expire_pmtu(env),
            _ => {}
        }
    }

    /// What goes with a packet that came off the loopback.
    pub(crate) fn looped(transmit: &Transmit) -> RxMeta {
        RxMeta {
            csum: match transmit.csum {
                crate::CsumTx::Full => RxCsum::Verified,
                crate::CsumTx::Partial { .. } => RxCsum::Partial,
            },
            gso_size: transmit.gso,
        }
    }

    /// Bytes of memory held by what comes from outside: fragments, neighbours, answers not sent yet.
    pub(crate) fn memory(&self) -> u64 {
        self.frags.memory() + self.neigh.memory() + self.replies.memory()
    }
}

/// A packet that is for a transport: whole, with a sound header, addresses that make sense.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet<'a> {
    /// Where it came in.
    pub(crate) iface: IfaceId,
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    /// What the payload is.
    pub(crate) protocol: u8,
    /// TTL or hop limit as it arrived.
    pub(crate) hop_limit: u8,
    /// TOS or traffic class, ECN bits included.
    pub(crate) tos: u8,
    /// `dst` is one of our addresses; otherwise a transparent interface took it.
    pub(crate) local: bool,
    /// `dst` is a multicast or broadcast address: no TCP, no ICMP errors.
    pub(crate) multicast: bool,
    /// The transport header and what follows.
    pub(crate) payload: &'a [u8],
    /// The whole IP packet: what an ICMP error quotes.
    pub(crate) bytes: &'a [u8],
    /// What the device said of it.
    pub(crate) meta: RxMeta,
}

impl Packet<'_> {
    /// The two ECN bits: 0 not capable, 1 ECT(1), 2 ECT(0), 3 congestion experienced (RFC 3168).
    pub(crate) fn ecn(&self) -> u8 {
        self.tos & 3
    }

    /// The transport checksum need not be looked at: the device did, or the packet never left the machine.
    pub(crate) fn checksum_known(&self) -> bool {
        self.meta.csum != RxCsum::Unchecked
    }

    /// The transport checksum (TCP's; UDP has cases of its own) is right, or known to be.
    pub(crate) fn checksum_ok(&self) -> bool {
        self.checksum_known() || {
            let mut sum = Sum::pseudo(self.src, self.dst, self.protocol, self.payload.len());
            sum.add_bytes(self.payload);
            sum.is_right()
        }
    }
}

/// Where a packet goes next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Delivery<'a> {
    /// A TCP segment; its checksum is TCP's to look at ([`Packet::checksum_ok`]).
    Tcp(Packet<'a>),
    /// A UDP datagram; its checksum is UDP's to look at.
    Udp(Packet<'a>),
    /// An echo request for a foreign address, or an echo reply: for the echo sockets. The ICMP checksum is right.
    Echo(Packet<'a>),
    /// An ICMP error about a packet that we, or a transparent socket, may have sent; unproven (RFC 5927).
    Error(IcmpError),
}

pub(crate) use input::{input, open, plain_tcp};

#[cfg(test)]
mod tests;
