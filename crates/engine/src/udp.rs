//! UDP (RFC 768, RFC 1122 §4.1, RFC 8200 §8.1): datagrams between sockets and IP (Linux: net/ipv4/udp.c).

use crate::dgram::{DgramSock, canonical, notify, truesize, unspecified};
use crate::env::Env;
use crate::event::SocketId;
use crate::ip::{HeaderSpec, IcmpError, IcmpKind, Ip, Packet, Problem, Subject};
use crate::options::{RecvFlags, Shutdown, SockOption};
use crate::rng::{Ends, HashKey, Keyed, OwnMap, Rng};
use crate::stack::{Family, Unreachable};
use crate::{DropReason, Result, SockError};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use estab_proto::{Counter, SockDiag, State};
use estab_wire::Malformed;
use estab_wire::checksum::Sum;
use estab_wire::ip::protocol;
use estab_wire::udp;
use hashbrown::HashMap;

/// Largest payload of a datagram: 65535 less the UDP header, and over IPv4 the IP header.
const MAX_V4: usize = 65_507;
const MAX_V6: usize = 65_527;
const PAGE: u64 = 4096;

/// All UDP sockets.
#[derive(Clone)]
pub(crate) struct Udp {
    socks: OwnMap<SocketId, DgramSock>,
    /// Connected sockets by both ends.
    connected: HashMap<Ends, SocketId, Keyed>,
    /// Bound sockets by port, in the order they were bound; connected ones too.
    ports: OwnMap<u16, Vec<SocketId>>,
    /// Transparent sockets bound to port 0: what nobody else takes of transparent interfaces.
    catch_all: Vec<SocketId>,
    /// Sockets whose send met a full queue.
    blocked: Vec<SocketId>,
    /// Bytes of all receive buffers in use (`udp_mem`).
    memory: usize,
}

fn count(env: &mut Env, v4: bool, four: Counter, six: Counter) {
    env.mib.inc(if v4 { four } else { six });
}

impl Udp {
    pub(crate) fn new(rng: &Rng) -> Udp {
        Udp {
            socks: OwnMap::default(),
            connected: HashMap::with_hasher(rng.keyed()),
            ports: OwnMap::default(),
            catch_all: Vec::new(),
            blocked: Vec::new(),
            memory: 0,
        }
    }

    /// socket(2): the handle is the caller's.
    pub(crate) fn open(&mut self, env: &Env, id: SocketId, family: Family) {
        self.socks.insert(id, DgramSock::new(env, id, family));
    }

    /// close(2)
    pub(crate) fn close(&mut self, id: SocketId) {
        let Some(sock) = self.socks.remove(&id) else { return };
        self.memory = self.memory.saturating_sub(sock.queued());
        self.unlink(&sock);
        self.blocked.retain(|other| *other != id);
    }

    /// The socket, for what every datagram socket can do.
    pub(crate) fn get(&self, id: SocketId) -> Result<&DgramSock> {
        self.socks.get(&id).ok_or(SockError::EBADF)
    }

    /// The socket, for what every datagram socket can do.
    pub(crate) fn get_mut(&mut self, id: SocketId) -> Result<&mut DgramSock> {
        self.socks.get_mut(&id).ok_or(SockError::EBADF)
    }

    /// Takes an option (setsockopt(2)).
    pub(crate) fn set_option(&mut self, env: &Env, id: SocketId, option: SockOption) -> Result<()> {
        self.get_mut(id)?.set_option(env, option)
    }

    fn unlink(&mut self, sock: &DgramSock) {
        if let (Some(local), Some(remote)) = (sock.local, sock.remote) {
            self.connected.remove(&Ends { local, remote });
        }
        if let Some(port) = sock.local.map(|local| local.port())
            && let Some(list) = self.ports.get_mut(&port)
        {
            list.retain(|other| *other != sock.id);
            if list.is_empty() {
                self.ports.remove(&port);
            }
        }
        self.catch_all.retain(|other| *other != sock.id);
    }

    /// bind(2). Port 0: an ephemeral port, or of a transparent socket every port of transparent interfaces.
    pub(crate) fn bind(&mut self, env: &mut Env, id: SocketId, addr: SocketAddr) -> Result<()> {
        let sock = self.get(id)?;
        if sock.local.is_some() {
            return Err(SockError::EINVAL);
        }
        // Even an IPv6 socket that takes both may be bound to the wildcard as IPv6's.
        let addr = match sock.take_addr(addr) {
            Err(SockError::ENETUNREACH) => return Err(SockError::EINVAL),
            taken => taken?,
        };
        let ip = addr.ip();
        let foreign = !ip.is_unspecified() && !ip.is_multicast() && !env.ip.is_local(ip) && !env.ip.is_broadcast(ip);
        if foreign && !sock.opts.transparent && env.sysctl.ip_nonlocal_bind == 0 {
            return Err(SockError::EADDRNOTAVAIL);
        }
        if sock.opts.transparent && addr.port() == 0 && ip.is_unspecified() {
            self.catch_all.push(id);
            self.get_mut(id)?.local = Some(addr);
            return Ok(());
        }
        let port = match addr.port() {
            0 => self.ephemeral(env, id, ip)?,
            port if self.conflicts(id, ip, port) => return Err(SockError::EADDRINUSE),
            port => port,
        };
        self.hold(id, SocketAddr::new(ip, port))
    }

    fn hold(&mut self, id: SocketId, local: SocketAddr) -> Result<()> {
        self.get_mut(id)?.local = Some(local);
        self.ports.entry(local.port()).or_default().push(id);
        Ok(())
    }

    /// Another socket holds the port on an overlapping address and doesn't share it (Linux: `udp_lib_lport_inuse`).
    fn conflicts(&self, id: SocketId, ip: IpAddr, port: u16) -> bool {
        let (Some(holders), Some(me)) = (self.ports.get(&port), self.socks.get(&id)) else {
            return false;
        };
        let wild = ip.is_unspecified();
        holders.iter().filter_map(|other| self.socks.get(other)).any(|other| {
            let shared = me.opts.reuse_addr && other.opts.reuse_addr || me.opts.reuse_port && other.opts.reuse_port;
            let other_ip = other.local.map_or(ip, |local| local.ip());
            let overlap = match (wild, other_ip.is_unspecified()) {
                (false, false) => other_ip == ip,
                (false, true) => other.listens_on(ip),
                (true, false) => takes_family(me, other_ip),
                (true, true) => me.family == other.family || hears_v4(me) && hears_v4(other),
            };
            !shared && overlap
        })
    }

    /// A port of `ip_local_port_range` that nobody holds, from a random place on (RFC 6056 §3.3.1).
    fn ephemeral(&self, env: &mut Env, id: SocketId, ip: IpAddr) -> Result<u16> {
        let [low, high] = env.sysctl.ip_local_port_range.map(u32::from);
        let many = high - low + 1;
        let start = env.rng.below(many);
        (0..many)
            .map(|n| (low + (start + n) % many) as u16)
            .find(|port| !env.sysctl.port_is_reserved(*port) && !self.conflicts(id, ip, *port))
            .ok_or(SockError::EADDRINUSE)
    }

    /// Gives the socket a port if it has none, as sending does.
    fn autobind(&mut self, env: &mut Env, id: SocketId) -> Result<SocketAddr> {
        let sock = self.get(id)?;
        if let Some(local) = sock.local {
            return Ok(local);
        }
        let any = unspecified(sock.family == Family::V4);
        let port = self.ephemeral(env, id, any).map_err(|_| SockError::EAGAIN)?;
        self.hold(id, SocketAddr::new(any, port))?;
        Ok(SocketAddr::new(any, port))
    }

    /// connect(2): the peer of `send`, and the only one heard from then on.
    pub(crate) fn connect(&mut self, env: &mut Env, id: SocketId, addr: SocketAddr) -> Result<()> {
        let remote = self.get(id)?.take_addr(addr)?;
        // As Linux: connecting to the unspecified address means this host.
        let remote = match remote.ip() {
            ip if ip.is_unspecified() => SocketAddr::new(env.ip.route(ip, None)?.next_hop, remote.port()),
            _ => remote,
        };
        let asked = self
            .get(id)?
            .local
            .map(|local| local.ip())
            .filter(|ip| !ip.is_unspecified());
        let route = env.ip.route(remote.ip(), asked)?;
        let bound = self.autobind(env, id)?;
        let sock = self.get(id)?;
        if let Some(old) = sock.remote {
            let (local, remote) = (bound, old);
            self.connected.remove(&Ends { local, remote });
        }
        let local = match bound.ip().is_unspecified() {
            true => SocketAddr::new(route.src, bound.port()),
            false => bound,
        };
        let sock = self.get_mut(id)?;
        (sock.local, sock.remote) = (Some(local), Some(remote));
        self.connected.insert(Ends { local, remote }, id);
        Ok(())
    }

    /// send(2) and sendto(2): from `src` if that is given (transparent sockets; others only an address of ours), to
    /// `dst` or the connected peer. The whole datagram or nothing.
    ///
    /// EMSGSIZE: larger than a datagram can be. EAGAIN: too many wait to be sent. A pending error is reported first.
    pub(crate) fn send(
        &mut self,
        env: &mut Env,
        id: SocketId,
        data: &[u8],
        src: Option<SocketAddr>,
        dst: Option<SocketAddr>,
    ) -> Result<usize> {
        let sock = self.get_mut(id)?;
        if sock.shut_write {
            return Err(SockError::EPIPE);
        }
        if let Some(error) = sock.error.take() {
            return Err(error);
        }
        let dst = match dst {
            Some(dst) => sock.take_addr(dst)?,
            None => sock.remote.ok_or(SockError::EDESTADDRREQ)?,
        };
        if dst.port() == 0 {
            return Err(SockError::EINVAL);
        }
        if data.len() > if dst.is_ipv4() { MAX_V4 } else { MAX_V6 } {
            return Err(SockError::EMSGSIZE);
        }
        let src = src.map(canonical);
        let claimed = src.map(|src| src.ip()).filter(|ip| !ip.is_unspecified());
        let opts = sock.opts;
        if claimed.is_some_and(|ip| ip.is_ipv4() != dst.is_ipv4() || !opts.transparent && !env.ip.is_local(ip)) {
            return Err(SockError::EINVAL);
        }
        let local = self.autobind(env, id)?;
        let asked = claimed.or(Some(local.ip()).filter(|ip| !ip.is_unspecified()));
        let route = env.ip.route(dst.ip(), asked)?;
        // 0.0.0.0 is this host (Linux: `ip_route_output_key_hash_rcu`).
        let dst = match dst.ip().is_unspecified() {
            true => SocketAddr::new(route.next_hop, dst.port()),
            false => dst,
        };
        let port = match src {
            Some(src) if opts.transparent && src.port() != 0 => src.port(),
            _ => local.port(),
        };
        let mut header = [0; udp::HEADER_LEN];
        udp::write(
            &mut header,
            (route.src, port),
            (dst.ip(), dst.port()),
            Sum::of(data),
            data.len(),
        )
        .ok_or(SockError::EMSGSIZE)?;
        let spec = HeaderSpec {
            src: route.src,
            dst: dst.ip(),
            protocol: protocol::UDP,
            ttl: opts.ttl,
            tos: opts.tos,
            dont_fragment: env.sysctl.ip_no_pmtu_disc == 0,
        };
        let v4 = dst.is_ipv4();
        if !Ip::has_room(env, data.len() + header.len() + 40) {
            count(env, v4, Counter::UdpSndbufErrors, Counter::Udp6SndbufErrors);
            if !self.blocked.contains(&id) {
                self.blocked.push(id);
            }
            return Err(SockError::EAGAIN);
        }
        Ip::queue_datagram(env, &route, &spec, &[&header, data], true)?;
        count(env, v4, Counter::UdpOutDatagrams, Counter::Udp6OutDatagrams);
        Ok(data.len())
    }

    /// Somebody waits for [`Self::drained`].
    #[inline]
    pub(crate) fn awaits_room(&self) -> bool {
        !self.blocked.is_empty()
    }

    /// The queue that `send` met full has drained.
    pub(crate) fn drained(&mut self, env: &mut Env) {
        if self.blocked.is_empty() {
            return;
        }
        for id in core::mem::take(&mut self.blocked) {
            if let Some(sock) = self.socks.get(&id) {
                notify(env, sock);
            }
        }
    }

    /// recvfrom(2): one datagram, its source and the destination it was sent to.
    pub(crate) fn recv(
        &mut self,
        id: SocketId,
        buf: &mut [u8],
        flags: RecvFlags,
    ) -> Result<(usize, SocketAddr, SocketAddr)> {
        let (taken, freed) = self.get_mut(id)?.recv(buf, flags)?;
        self.memory = self.memory.saturating_sub(freed);
        Ok(taken)
    }

    /// Transparent sockets: tells `src` by ICMP that its datagram of `payload` to `dst` could not be delivered.
    pub(crate) fn reject(
        &mut self,
        env: &mut Env,
        id: SocketId,
        src: SocketAddr,
        dst: SocketAddr,
        payload: &[u8],
        why: Unreachable,
    ) -> Result<()> {
        let sock = self.get(id)?;
        if !sock.opts.transparent {
            return Err(SockError::EPERM);
        }
        let (from, to) = (sock.take_addr(src)?, sock.take_addr(dst)?);
        if from.is_ipv4() != to.is_ipv4() {
            return Err(SockError::EINVAL);
        }
        Ip::queue_icmp_about(env, Problem::Unreachable(why), Subject::Udp { from, to, payload });
        Ok(())
    }

    /// shutdown(2)
    pub(crate) fn shutdown(&mut self, env: &mut Env, id: SocketId, how: Shutdown) -> Result<()> {
        let sock = self.get_mut(id)?;
        sock.shutdown(how)?;
        notify(env, sock);
        Ok(())
    }

    /// A datagram arrives (Linux: `__udp4_lib_rcv`, `__udp6_lib_rcv`).
    pub(crate) fn input(&mut self, env: &mut Env, packet: &Packet<'_>) {
        let v4 = packet.src.is_ipv4();
        if !packet.checksum_known()
            && let Err(what) = udp::check(packet.src, packet.dst, packet.payload)
        {
            return refuse(env, v4, what);
        }
        let datagram = match udp::Datagram::parse(packet.payload) {
            Ok(datagram) => datagram,
            Err(what) => return refuse(env, v4, what),
        };
        let src = SocketAddr::new(packet.src, datagram.src_port);
        let dst = SocketAddr::new(packet.dst, datagram.dst_port);
        // A device may hand over several datagrams of one flow as one (UDP_SEGMENT's other end).
        let size = match packet.meta.gso_size {
            Some(size @ 1..) => usize::from(size),
            _ => datagram.payload.len().max(1),
        };
        if datagram.payload.is_empty() {
            return self.datagram(env, packet, src, dst, &[]);
        }
        for piece in datagram.payload.chunks(size) {
            self.datagram(env, packet, src, dst, piece);
        }
    }

    fn datagram(&mut self, env: &mut Env, packet: &Packet<'_>, src: SocketAddr, dst: SocketAddr, data: &[u8]) {
        if packet.multicast {
            return self.deliver_to_all(env, packet, src, dst, data);
        }
        match self.find(env, packet, src, dst) {
            Some(id) => self.enqueue(env, id, src, dst, data),
            None => {
                let v4 = src.is_ipv4();
                count(env, v4, Counter::UdpNoPorts, Counter::Udp6NoPorts);
                env.mib.drop(DropReason::NoSocket);
                Ip::queue_icmp_error(env, Problem::Unreachable(Unreachable::Port), packet);
            }
        }
    }

    /// The socket a datagram is for (Linux: `__udp4_lib_lookup`): the connected one; else of those bound to the port
    /// one bound to the address, else to the wildcard; else a transparent one that takes all.
    fn find(&self, env: &Env, packet: &Packet<'_>, src: SocketAddr, dst: SocketAddr) -> Option<SocketId> {
        let ends = Ends {
            local: dst,
            remote: src,
        };
        if !self.connected.is_empty()
            && let Some(id) = self.connected.get(&ends)
        {
            return Some(*id);
        }
        let score = |sock: &DgramSock| {
            let open = sock.remote.is_none() && (packet.local || sock.opts.transparent);
            if !open || !sock.listens_on(dst.ip()) {
                return 0;
            }
            let exact = sock.local.is_some_and(|local| local.ip() == dst.ip());
            let own_family = (sock.family == Family::V4) == dst.is_ipv4();
            1 + u8::from(own_family) + 2 * u8::from(exact)
        };
        let bound = self.ports.get(&dst.port()).map_or(&[][..], Vec::as_slice);
        let scored = || {
            bound
                .iter()
                .filter_map(|id| self.socks.get(id))
                .map(|sock| (score(sock), sock))
        };
        let best = scored().map(|(score, _)| score).max().unwrap_or(0);
        if best > 0 {
            let candidates = || scored().filter(|(score, _)| *score == best).map(|(_, sock)| sock);
            let sharing = candidates().filter(|sock| sock.opts.reuse_port).count() as u64;
            // SO_REUSEPORT spreads flows evenly; SO_REUSEADDR gives them to the last that bound.
            if sharing > 1 {
                let pick = env.rng.hash_tuple(HashKey::ReusePort, dst, src) % sharing;
                return candidates()
                    .filter(|sock| sock.opts.reuse_port)
                    .nth(pick as usize)
                    .map(|sock| sock.id);
            }
            return candidates().next_back().map(|sock| sock.id);
        }
        if !env.ip.is_transparent(packet.iface) {
            return None;
        }
        self.catch_all(dst.ip())
    }

    fn catch_all(&self, dst: IpAddr) -> Option<SocketId> {
        let takes = |id: &&SocketId| self.socks.get(*id).is_some_and(|sock| sock.listens_on(dst));
        self.catch_all.iter().find(takes).copied()
    }

    /// Broadcast and multicast go to every socket that listens there (Linux: `__udp4_lib_mcast_deliver`).
    fn deliver_to_all(&mut self, env: &mut Env, packet: &Packet<'_>, src: SocketAddr, dst: SocketAddr, data: &[u8]) {
        // Nobody can join a group here: its members are those of all hosts, and who is bound to it.
        let joined = env.ip.is_broadcast(dst.ip()) || is_all_hosts(dst.ip());
        let heard = |sock: &&DgramSock| {
            let bound_to_it = sock.local.is_some_and(|local| local.ip() == dst.ip());
            (joined || bound_to_it) && sock.listens_on(dst.ip()) && sock.remote.is_none_or(|peer| peer == src)
        };
        let bound = self.ports.get(&dst.port()).map_or(&[][..], Vec::as_slice);
        let mut ids: Vec<SocketId> = bound
            .iter()
            .filter_map(|id| self.socks.get(id))
            .filter(heard)
            .map(|sock| sock.id)
            .collect();
        if ids.is_empty() && env.ip.is_transparent(packet.iface) {
            ids.extend(self.catch_all(dst.ip()));
        }
        if ids.is_empty() {
            count(env, src.is_ipv4(), Counter::UdpIgnoredMulti, Counter::Udp6IgnoredMulti);
            env.mib.drop(DropReason::Multicast);
        }
        for id in ids {
            self.enqueue(env, id, src, dst, data);
        }
    }

    fn enqueue(&mut self, env: &mut Env, id: SocketId, src: SocketAddr, dst: SocketAddr, data: &[u8]) {
        let v4 = src.is_ipv4();
        let Some(sock) = self.socks.get_mut(&id) else { return };
        // Linux: `__sk_mem_raise_allocated`, for a protocol without memory pressure.
        let used = self.memory as u64 / PAGE;
        let [low, _, high] = env.sysctl.udp_mem;
        let full = used >= high || used >= low && sock.queued() >= env.sysctl.udp_rmem_min as usize;
        if full || !sock.has_room() {
            let (four, six, reason) = match full {
                true => (Counter::UdpMemErrors, Counter::Udp6MemErrors, DropReason::ProtoMem),
                false => (
                    Counter::UdpRcvbufErrors,
                    Counter::Udp6RcvbufErrors,
                    DropReason::SocketRcvbuff,
                ),
            };
            count(env, v4, four, six);
            count(env, v4, Counter::UdpInErrors, Counter::Udp6InErrors);
            return env.mib.drop(reason);
        }
        self.memory += truesize(data.len());
        count(env, v4, Counter::UdpInDatagrams, Counter::Udp6InDatagrams);
        if sock.push(src, dst, data) {
            notify(env, sock);
        }
    }

    /// An ICMP error quotes a datagram: a connected socket hears of it (RFC 1122 §4.1.3.3; Linux: `__udp4_lib_err`).
    pub(crate) fn icmp(&mut self, env: &mut Env, error: &IcmpError) {
        let ends = Ends {
            local: error.local,
            remote: error.remote,
        };
        let Some(id) = self.connected.get(&ends).copied() else {
            // Without IP_RECVERR an unconnected socket can't tell which datagram it was.
            return;
        };
        let mut fatal = error.fatal;
        if let IcmpKind::FragNeeded { mtu } = error.kind {
            Ip::update_pmtu(env, error.remote.ip(), mtu);
            fatal = true;
        }
        if let (true, Some(sock)) = (fatal, self.socks.get_mut(&id)) {
            sock.error = Some(error.error);
            notify(env, sock);
        }
    }

    /// Every socket, as `ss -ua` shows it.
    pub(crate) fn diag(&self) -> impl Iterator<Item = SockDiag> + '_ {
        self.socks.values().filter(|sock| sock.local.is_some()).map(|sock| {
            let local = sock.local_addr();
            let nobody = SocketAddr::new(unspecified(local.is_ipv4()), 0);
            SockDiag {
                protocol: protocol::UDP,
                state: match sock.remote {
                    Some(_) => State::Established,
                    None => State::Closed,
                },
                local,
                remote: sock.peer_addr().unwrap_or(nobody),
                recv_q: u32::try_from(sock.queued()).unwrap_or(u32::MAX),
                send_q: 0,
                timer: None,
                id: sock.id.as_u64(),
                orphan: false,
                info: None,
            }
        })
    }

    /// Bytes of receive buffers in use.
    pub(crate) fn memory(&self) -> u64 {
        self.memory as u64
    }
}

/// 224.0.0.1 and ff02::1, which every host belongs to.
fn is_all_hosts(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets() == [224, 0, 0, 1],
        IpAddr::V6(ip) => matches!(ip.segments(), [0xff01 | 0xff02, 0, 0, 0, 0, 0, 0, 1]),
    }
}

fn hears_v4(sock: &DgramSock) -> bool {
    sock.family == Family::V4 || !sock.opts.v6only
}

fn takes_family(sock: &DgramSock, ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => hears_v4(sock),
        IpAddr::V6(_) => sock.family == Family::V6,
    }
}

fn refuse(env: &mut Env, v4: bool, what: Malformed) {
    count(env, v4, Counter::UdpInErrors, Counter::Udp6InErrors);
    match what {
        Malformed::UdpChecksumWrong | Malformed::UdpChecksumMissing => {
            count(env, v4, Counter::UdpInCsumErrors, Counter::Udp6InCsumErrors);
            env.mib.drop(DropReason::UdpCsum);
        }
        _ => env.mib.drop(DropReason::PktTooSmall),
    }
}
