//! UDP: each pair of addresses the guest speaks between is a flow with a connected socket of the host, so that
//! replies and ICMP errors find their way back. A flow ends when it has been silent for a while.

use crate::core::{Core, Owner, Stats};
use crate::dns::Dns;
use crate::hostaddr::Dest;
use crate::limits::Answer;
use crate::open::DOMAIN;
use crate::sys::{self, EventFlags, LEVEL};
use crate::table::{Key, Table, Token};
use estab_engine::{Family, Instant, Kind, Result, SockOption, SocketId, Unreachable};
use rustix::io::Errno;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// Silence that ends a flow, as conntrack has it (nf_conntrack_udp_timeout, …_stream): unanswered, answered, and
/// for DNS, whose queries have one reply.
const UNANSWERED: Duration = Duration::from_secs(30);
const ANSWERED: Duration = Duration::from_secs(120);
const QUERY: Duration = Duration::from_secs(10);
/// Flows at once; past it the one that has been silent longest makes room.
const MAX_FLOWS: usize = 4096;
/// Datagrams taken from one socket before the others have their turn.
const TURN: usize = 64;

pub(crate) struct Udp {
    v4: Option<SocketId>,
    v6: Option<SocketId>,
    flows: Table<Flow>,
    /// By the guest's address and the other end as the guest sees it.
    by_ends: HashMap<(SocketAddr, SocketAddr), Key>,
    /// Published ports: the host's socket.
    ports: Vec<Option<Arc<OwnedFd>>>,
    buf: Box<[u8]>,
}

struct Flow {
    guest: SocketAddr,
    other: SocketAddr,
    way: Way,
    answered: bool,
    last: Instant,
}

/// How a flow leaves the gateway.
enum Way {
    /// By its own connected socket.
    Out(OwnedFd),
    /// By the socket of a published port, to a client of the host.
    Published { port: usize, client: SocketAddr },
}

/// A transparent socket of the engine for each family that the guest has.
pub(crate) fn transparent(core: &mut Core, kind: Kind, owner: Owner) -> Result<[Option<SocketId>; 2]> {
    let mut made = [None; 2];
    let wanted = [core.config.ipv4.is_some(), core.config.ipv6.is_some()];
    let any: [(Family, IpAddr); 2] = [
        (Family::V4, Ipv4Addr::UNSPECIFIED.into()),
        (Family::V6, Ipv6Addr::UNSPECIFIED.into()),
    ];
    for (n, (family, ip)) in any.into_iter().enumerate().filter(|(n, _)| wanted[*n]) {
        let id = core.stack.socket(family, kind)?;
        let mut sock = core.sock(id)?;
        if family == Family::V6 {
            sock.set_option(SockOption::V6Only(true))?;
        }
        sock.set_option(SockOption::Transparent(true))?;
        sock.bind(SocketAddr::new(ip, 0))?;
        core.own(id, owner);
        made[n] = Some(id);
    }
    Ok(made)
}

impl Udp {
    /// `ports`: the sockets of the published ports this worker serves, at their places in the configuration.
    pub(crate) fn new(core: &mut Core, ports: Vec<Option<Arc<OwnedFd>>>) -> Result<Udp> {
        let [v4, v6] = transparent(core, Kind::Datagram, Owner::Udp)?;
        for (n, port) in ports.iter().enumerate() {
            if let Some(fd) = port {
                core.watch(fd, LEVEL, Token::UdpPort(n as u32));
            }
        }
        let buf = vec![0; 65536].into_boxed_slice();
        Ok(Udp {
            v4,
            v6,
            flows: Table::new(),
            by_ends: HashMap::new(),
            ports,
            buf,
        })
    }

    fn sock(&self, like: SocketAddr) -> Option<SocketId> {
        if like.is_ipv4() { self.v4 } else { self.v6 }
    }

    /// Sends to the guest as if from `from`. What does not fit is lost, as datagrams may be.
    pub(crate) fn to_guest(&self, core: &mut Core, data: &[u8], from: SocketAddr, guest: SocketAddr) {
        if let Some(Ok(mut sock)) = self.sock(guest).map(|id| core.sock(id)) {
            let _ = sock.send_to(data, Some(from), guest);
        }
    }

    /// Datagrams of the guest wait in the engine's socket.
    pub(crate) fn guest_event(&mut self, core: &mut Core, dns: &mut Dns, id: SocketId) {
        let mut buf = std::mem::take(&mut self.buf);
        while let Ok((len, guest, other)) = core.sock(id).and_then(|mut sock| sock.recv_from(&mut buf)) {
            self.guest_sent(core, dns, &buf[..len], guest, other);
        }
        self.buf = buf;
    }

    fn guest_sent(&mut self, core: &mut Core, dns: &mut Dns, data: &[u8], guest: SocketAddr, other: SocketAddr) {
        if let Some(&key) = self.by_ends.get(&(guest, other)) {
            return self.forward(core, key, data);
        }
        let why = match core.map.dest(other) {
            Dest::Gateway if other.port() == DOMAIN => return dns.query(core, self, data, guest, other),
            Dest::Gateway | Dest::Forbidden => Some(Unreachable::Port),
            Dest::Nowhere if other.ip().is_multicast() => None,
            Dest::Nowhere => Some(Unreachable::Network),
            Dest::Outside(to) => {
                self.make_room(core);
                match sys::udp_connect(to) {
                    Ok(fd) => {
                        if let Some(key) = self.insert(core, guest, other, Way::Out(fd)) {
                            self.forward(core, key, data);
                        }
                        None
                    }
                    Err(err) => {
                        core.limit(err, &format!("a UDP flow to {to}"));
                        reason(err)
                    }
                }
            }
        };
        if let Some(why) = why {
            self.reject(core, guest, other, data, why);
        }
    }

    fn insert(&mut self, core: &mut Core, guest: SocketAddr, other: SocketAddr, way: Way) -> Option<Key> {
        let key = self.flows.insert(Flow {
            guest,
            other,
            way,
            answered: false,
            last: core.now,
        });
        if let Some(Flow { way: Way::Out(fd), .. }) = self.flows.get_mut(key)
            && core.watch(fd, LEVEL, Token::Udp(key)).is_none()
        {
            self.flows.remove(key);
            return None;
        }
        self.by_ends.insert((guest, other), key);
        Stats::add(&core.stats.flows, 1);
        core.wake_in(silence(other, false), Token::Udp(key));
        Some(key)
    }

    fn forward(&mut self, core: &mut Core, key: Key, data: &[u8]) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        flow.last = core.now;
        let sent = match &flow.way {
            Way::Out(fd) => {
                // An error that came back for an earlier datagram is reported by the next call, and is not about it.
                let send = || rustix::net::send(fd, data, rustix::net::SendFlags::empty());
                send().or_else(|err| if err == Errno::AGAIN { Err(err) } else { send() })
            }
            Way::Published { port, client } => match self.ports.get(*port).and_then(Option::as_ref) {
                Some(fd) => {
                    flow.answered = true;
                    rustix::net::sendto(fd, data, rustix::net::SendFlags::empty(), client)
                }
                None => return,
            },
        };
        let (guest, other) = (flow.guest, flow.other);
        match sent {
            Ok(_) | Err(Errno::AGAIN | Errno::NOBUFS | Errno::MSGSIZE) => {}
            Err(err) => {
                if let Some(why) = reason(err) {
                    self.reject(core, guest, other, data, why);
                }
            }
        }
    }

    fn reject(&self, core: &mut Core, guest: SocketAddr, other: SocketAddr, data: &[u8], why: Unreachable) {
        if let Some(Ok(mut sock)) = self.sock(guest).map(|id| core.sock(id)) {
            let _ = sock.reject(guest, other, data, why);
        }
    }

    /// A flow's host socket has datagrams or errors.
    pub(crate) fn host_event(&mut self, core: &mut Core, key: Key, flags: EventFlags) {
        let mut buf = std::mem::take(&mut self.buf);
        self.host_sent(core, key, flags, &mut buf);
        self.buf = buf;
    }

    fn host_sent(&mut self, core: &mut Core, key: Key, flags: EventFlags, buf: &mut [u8]) {
        let Some(Flow {
            guest,
            other,
            way: Way::Out(fd),
            answered,
            last,
        }) = self.flows.get_mut(key)
        else {
            return;
        };
        let (guest, other) = (*guest, *other);
        let mut errors = Vec::new();
        if flags.contains(EventFlags::ERR) {
            while let Some((len, err)) = sys::take_rejected(fd, buf) {
                errors.extend(reason(err).map(|why| (buf[..len].to_vec(), why)));
            }
        }
        let id = if guest.is_ipv4() { self.v4 } else { self.v6 };
        for _ in 0..TURN {
            match rustix::net::recv(&*fd, &mut *buf, rustix::net::RecvFlags::empty()) {
                Ok((len, _)) => {
                    *answered = true;
                    *last = core.now;
                    if let Some(Ok(mut sock)) = id.map(|id| core.sock(id)) {
                        let _ = sock.send_to(&buf[..len], Some(other), guest);
                    }
                }
                Err(Errno::AGAIN) => break,
                // An error reported a second time.
                Err(_) => {}
            }
        }
        for (data, why) in errors {
            self.reject(core, guest, other, &data, why);
        }
    }

    /// A published port's socket has datagrams of clients.
    pub(crate) fn port_event(&mut self, core: &mut Core, port: u32) {
        let mut buf = std::mem::take(&mut self.buf);
        for _ in 0..TURN {
            let Some(Some(fd)) = self.ports.get(port as usize) else {
                break;
            };
            match rustix::net::recvfrom(fd, &mut *buf, rustix::net::RecvFlags::empty()) {
                Ok((len, _, Some(client))) => {
                    if let Ok(client) = SocketAddr::try_from(client) {
                        self.client_sent(core, port as usize, client, &buf[..len]);
                    }
                }
                Err(Errno::AGAIN) => break,
                // An error of an earlier datagram to a client that is gone.
                Ok(_) | Err(_) => {}
            }
        }
        self.buf = buf;
    }

    fn client_sent(&mut self, core: &mut Core, port: usize, client: SocketAddr, data: &[u8]) {
        let Some(publish) = core.config.publish.get(port).copied() else {
            return;
        };
        let (Some(guest), other) = crate::publish::ends(core, client, publish.guest) else {
            return;
        };
        let known = self.by_ends.get(&(guest, other)).copied();
        let key = known.or_else(|| {
            self.make_room(core);
            self.insert(core, guest, other, Way::Published { port, client })
        });
        if let Some(flow) = key.and_then(|key| self.flows.get_mut(key)) {
            flow.last = core.now;
            self.to_guest(core, data, other, guest);
        }
    }

    /// The time has come to look whether a flow still lives.
    pub(crate) fn deadline(&mut self, core: &mut Core, key: Key) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let end = flow.last + silence(flow.other, flow.answered);
        if core.now >= end {
            self.remove(core, key);
        } else {
            core.deadlines.add(end, Token::Udp(key));
        }
    }

    fn remove(&mut self, core: &mut Core, key: Key) {
        if let Some(flow) = self.flows.remove(key) {
            self.by_ends.remove(&(flow.guest, flow.other));
            Stats::sub(&core.stats.flows, 1);
        }
    }

    /// Looks at every flow, but only when the table is full.
    fn make_room(&mut self, core: &mut Core) {
        if self.flows.len() >= MAX_FLOWS
            && let Some(oldest) = self
                .flows
                .iter_mut()
                .min_by_key(|(_, flow)| flow.last)
                .map(|(key, _)| key)
        {
            self.remove(core, oldest);
        }
    }
}

fn silence(other: SocketAddr, answered: bool) -> Duration {
    match answered {
        _ if other.port() == DOMAIN => QUERY,
        true => ANSWERED,
        false => UNANSWERED,
    }
}

/// What a failed send of the host becomes for the guest; a port that nobody has is the one error UDP itself has.
fn reason(err: Errno) -> Option<Unreachable> {
    match Answer::to(err) {
        Answer::Unreachable(why) => Some(why),
        Answer::Refuse if err == Errno::CONNREFUSED => Some(Unreachable::Port),
        Answer::Refuse => Some(Unreachable::Host),
        Answer::Ignore => None,
    }
}
