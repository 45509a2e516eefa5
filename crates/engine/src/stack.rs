//! The stack as its driver and its application see it.

use crate::echo::Echo;
use crate::env::{Env, Lending};
use crate::ip::{self, Delivery, Ip};
use crate::sock::id::{Body, Idle};
use crate::sock::{SockOpts, SockTable};
use crate::tcp::{Payload, Tcp};
use crate::timer::TimerKey;
use crate::udp::Udp;
use crate::*;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use estab_proto::SockDiag;

/// The address family of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// AF_INET
    V4,
    /// AF_INET6; takes IPv4 too, as mapped addresses, unless IPV6_V6ONLY.
    V6,
}

/// What a socket speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// TCP.
    Stream,
    /// UDP.
    Datagram,
    /// ICMP echo: on a transparent interface it sees the echo requests sent to foreign addresses.
    Echo,
}

/// Why a destination can't be reached: becomes an ICMPv4 or ICMPv6 error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unreachable {
    /// No route to its network.
    Network,
    /// It does not answer.
    Host,
    /// Nobody is at the port.
    Port,
    /// Somebody forbids it.
    Prohibited,
}

/// The most slices that a packet's payload lies in: see [`Stack::poll_transmit_parts`].
pub const PAYLOAD_PARTS: usize = 65_536 / crate::buf::LARGE + 2;

/// A TCP/IP stack: packets and time in, packets and events out.
///
/// After each call that takes `now`, drain [`poll_transmit`](Self::poll_transmit), then [`poll_event`](Self::poll_event), then
/// read [`poll_timeout`](Self::poll_timeout) and call [`handle_timeout`](Self::handle_timeout) at that time. `now` must not run
/// backwards. The same calls with the same values always give the same packets and events.
///
/// A clone is the stack at that moment, and goes its own way from there: for checkpoints and model checkers. It has no trace sink.
#[derive(Clone)]
pub struct Stack {
    pub(crate) env: Env,
    pub(crate) socks: SockTable,
    pub(crate) tcp: Tcp,
    pub(crate) udp: Udp,
    pub(crate) echo: Echo,
    /// What sockets begin with; shared until they set something.
    default_opts: Arc<SockOpts>,
    /// Room for a packet put together from fragments, or off the loopback.
    whole: Vec<u8>,
}

impl Stack {
    /// A stack with no interface but the loopback.
    pub fn new(now: Instant, config: Config) -> Self {
        let env = Env::new(now, config);
        Stack {
            socks: SockTable::new(),
            tcp: Tcp::new(&env),
            udp: Udp::new(&env.rng),
            echo: Echo::new(&env.rng),
            env,
            default_opts: Arc::default(),
            whole: Vec::new(),
        }
    }

    /// Adds an interface; its addresses and routes come after.
    pub fn add_iface(&mut self, config: IfaceConfig) -> IfaceId {
        self.env.ip.add_iface(config)
    }

    /// Gives an interface an address, and the route to its prefix. EINVAL for what can't be one.
    pub fn add_addr(&mut self, iface: IfaceId, addr: IpAddr, prefix: u8) -> Result<()> {
        self.env.ip.add_addr(iface, addr, prefix)
    }

    /// Adds a route, or replaces the one to the same prefix.
    pub fn add_route(&mut self, dst: IpAddr, prefix: u8, via: Option<IpAddr>, iface: IfaceId) -> Result<()> {
        self.env.ip.add_route(dst, prefix, via, iface)
    }

    /// What the route to exactly that prefix says beside where it leads (`ip route change … mtu … advmss …`); connections
    /// that stand follow its MTU. ENETUNREACH where there is no such route.
    pub fn set_route_metrics(&mut self, dst: IpAddr, prefix: u8, metrics: RouteMetrics) -> Result<()> {
        self.env.ip.set_route_metrics(dst, prefix, metrics)
    }

    /// Takes a packet (on Ethernet: a frame) that `on` received.
    pub fn handle_packet(&mut self, now: Instant, on: IfaceId, packet: &[u8], meta: RxMeta) {
        self.env.now = now;
        let Some(packet) = ip::open(&mut self.env, on, packet) else {
            return;
        };
        match ip::plain_tcp(&mut self.env, on, packet, meta) {
            Some(packet) => self.tcp.input(&mut self.env, &packet),
            None => self.handle_other(on, packet, meta),
        }
    }

    /// [`handle_packet`](Self::handle_packet), which shows `take` text that is next in order while none waits before it: whose
    /// it is, and the bytes where they are in the packet. It says how many it has taken, as by a read; the rest waits in the
    /// queue. (No copy: for a write to a host socket.)
    pub fn handle_packet_with(
        &mut self,
        now: Instant,
        on: IfaceId,
        packet: &[u8],
        meta: RxMeta,
        take: impl FnOnce(SocketId, &[u8]) -> usize,
    ) {
        self.env.now = now;
        let Some(packet) = ip::open(&mut self.env, on, packet) else {
            return;
        };
        let Some(plain) = ip::plain_tcp(&mut self.env, on, packet, meta) else {
            return self.handle_other(on, packet, meta);
        };
        self.env.lending = Lending::Wanted;
        self.tcp.input(&mut self.env, &plain);
        if let Lending::Lent(id, len) = core::mem::take(&mut self.env.lending) {
            let text = &plain.payload[plain.payload.len() - len..];
            let taken = take(id, text).min(len);
            self.tcp_return_lent(id, taken, &text[taken..]);
        }
    }

    /// What isn't a plain TCP packet.
    #[cold]
    fn handle_other(&mut self, on: IfaceId, packet: &[u8], meta: RxMeta) {
        let mut whole = core::mem::take(&mut self.whole);
        whole.clear();
        match ip::input(&mut self.env, on, packet, meta, &mut whole) {
            Some(Delivery::Tcp(packet)) => self.tcp.input(&mut self.env, &packet),
            Some(Delivery::Error(error)) if error.protocol == 6 => self.tcp.icmp(&mut self.env, &error),
            Some(other) => self.dgram_input(other),
            None => {}
        }
        if whole.capacity() <= 65536 {
            self.whole = whole;
        }
    }

    /// Acts on every deadline that has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.env.now = now;
        while let Some(key) = self.env.timers.pop(now) {
            match key.unpack() {
                key @ (TimerKey::Conn(_)
                | TimerKey::Requests(_)
                | TimerKey::Request(_)
                | TimerKey::TimeWaits(_)
                | TimerKey::TimeWait(_)) => {
                    self.tcp.on_timer(&mut self.env, key);
                }
                other => Ip::on_timer(&mut self.env, other),
            }
        }
    }

    /// Writes the next packet to `buf`, which should hold the largest super-packet of any interface, and at least 65,600 bytes
    /// if the loopback is used. Call until `None`.
    pub fn poll_transmit(&mut self, now: Instant, buf: &mut [u8]) -> Option<Transmit> {
        self.next_packet(now, buf, false).map(|(transmit, _)| transmit)
    }

    /// [`poll_transmit`](Self::poll_transmit) that may leave a TCP segment's payload in its connection's send buffer, where the
    /// device finishes checksums: `payload` then shows it, in order, in the slices that the second result counts. The packet is
    /// what `buf` holds and then those; [`PAYLOAD_PARTS`] are enough for any. (No copy: for writev to a device.)
    pub fn poll_transmit_parts<'a>(
        &'a mut self,
        now: Instant,
        buf: &mut [u8],
        payload: &mut [&'a [u8]],
    ) -> Option<(Transmit, usize)> {
        let in_place = payload.len() >= PAYLOAD_PARTS;
        let (transmit, left) = self.next_packet(now, buf, in_place)?;
        let parts = left.map_or(0, |left| self.tcp.payload(left, payload));
        Some((transmit, parts))
    }

    #[inline]
    fn next_packet(&mut self, now: Instant, buf: &mut [u8], in_place: bool) -> Option<(Transmit, Option<Payload>)> {
        self.env.now = now;
        // A driver asks until there is nothing: half its calls or more end here.
        let idle = self.tcp.is_idle() && Ip::no_replies(&self.env) && !self.udp.awaits_room();
        match idle {
            true => None,
            false => self.write_packet(now, buf, in_place),
        }
    }

    #[inline(never)]
    fn write_packet(&mut self, now: Instant, buf: &mut [u8], in_place: bool) -> Option<(Transmit, Option<Payload>)> {
        loop {
            let (transmit, payload) = match Ip::poll_reply(&mut self.env, buf) {
                Some(transmit) => (transmit, None),
                None => {
                    self.udp.drained(&mut self.env);
                    let (transmit, payload) = self.tcp.poll_transmit(&mut self.env, buf, in_place)?;
                    (transmit, Some(payload))
                }
            };
            if transmit.iface != ip::LOOPBACK {
                return Some((transmit, payload));
            }
            let packet = buf.get(..transmit.len)?;
            self.handle_packet(now, ip::LOOPBACK, packet, Ip::looped(&transmit));
        }
    }

    /// The next thing the application may want to act on.
    #[inline]
    pub fn poll_event(&mut self) -> Option<Event> {
        match self.env.events.is_empty() {
            true => None,
            false => self.next_event(),
        }
    }

    fn next_event(&mut self) -> Option<Event> {
        loop {
            match self.env.events.pop()? {
                Event::Ready(id, _) => {
                    let level = self.readiness(id);
                    if level != Readiness::default() {
                        return Some(Event::Ready(id, level));
                    }
                }
                other => return Some(other),
            }
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); never later than the first deadline.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.env.timers.next()
    }

    /// A new socket.
    pub fn socket(&mut self, family: Family, kind: Kind) -> Result<SocketId> {
        match kind {
            Kind::Stream => {
                let idle = self.env.idles.fill(Idle {
                    opts: self.default_opts.clone(),
                    binding: None,
                    error: None,
                });
                self.socks.insert(family, Body::Idle(idle))
            }
            Kind::Datagram => self.dgram_socket(family, Body::Udp),
            Kind::Echo => self.dgram_socket(family, Body::Echo),
        }
    }

    /// A socket to call upon at `now`; EBADF for a void handle.
    pub fn sock(&mut self, now: Instant, id: SocketId) -> Result<Sock<'_>> {
        self.env.now = now;
        let slot = self.socks.get(id).ok_or(SockError::EBADF)?;
        let stream = !matches!(slot.body, Body::Udp | Body::Echo);
        Ok(Sock::new(self, id, stream))
    }

    fn readiness(&mut self, id: SocketId) -> Readiness {
        match self.socks.get(id).map(|slot| &slot.body) {
            None => Readiness::default(),
            Some(Body::Udp | Body::Echo) => self.dgram_readiness(id),
            Some(_) => self.tcp_readiness(id),
        }
    }

    /// Answers a transparent open with SYN-ACK; the connection exists at once (SYN_RCVD) and becomes
    /// WRITABLE when the peer's ACK comes. It is not queued for `accept`. EBADF when the open is gone.
    pub fn open_accept(&mut self, now: Instant, open: OpenId) -> Result<SocketId> {
        self.env.now = now;
        let socks = &mut self.socks;
        self.tcp.open_accept(&mut self.env, open, |conn, family| {
            socks.insert(family, Body::Conn(conn))
        })
    }

    /// Answers a transparent open with RST: nobody listens there.
    pub fn open_reset(&mut self, now: Instant, open: OpenId) {
        self.env.now = now;
        self.tcp.open_reset(&mut self.env, open);
    }

    /// Answers a transparent open with an ICMP error.
    pub fn open_unreachable(&mut self, now: Instant, open: OpenId, why: Unreachable) {
        self.env.now = now;
        self.tcp.open_unreachable(&mut self.env, open, why);
    }

    /// Says nothing; the open is forgotten and the peer's next SYN is a new one.
    pub fn open_ignore(&mut self, now: Instant, open: OpenId) {
        self.env.now = now;
        self.tcp.open_take(&mut self.env, open);
    }

    /// Whether the packet belongs to a connection, request, TIME_WAIT or specific listener of this stack
    /// (used to steer packets between the stacks of a gateway's threads). The connection is found at once when the packet follows.
    pub fn owns(&mut self, packet: &[u8]) -> bool {
        let Ok(packet) = estab_wire::ip::Packet::parse(packet) else {
            return false;
        };
        packet.protocol == 6 && self.tcp.owns(&self.env, &packet)
    }

    /// Sets a knob by Linux's name (`net.ipv4.tcp_syn_retries`); it counts from now on.
    pub fn set_sysctl(&mut self, name: &str, value: &str) -> core::result::Result<(), SysctlError> {
        self.env.sysctl.set(name, value)?;
        self.env.ip.changed();
        Ok(())
    }

    /// A knob's value as /proc/sys prints it; `None` when this stack has none of that name.
    pub fn sysctl(&self, name: &str) -> Option<String> {
        self.env.sysctl.get(name)
    }

    /// All knobs.
    pub fn sysctls(&self) -> &Sysctls {
        &self.env.sysctl
    }

    /// The devices' queues are full and drop what comes (a qdisc does, on Linux), or no longer. Meanwhile nothing leaves a
    /// connection: it takes that for congestion and tries again after half a second. Who only sends later needs no
    /// more than to poll later.
    pub fn set_output_full(&mut self, full: bool) {
        self.env.output_full = full;
    }

    /// The TIME_WAITs as text, for [`restore_timewaits`](Self::restore_timewaits) of a stack that takes over the same addresses: no
    /// old segment is then taken for a new one (RFC 9293 §3.4.3).
    pub fn save_timewaits(&mut self, now: Instant) -> String {
        self.env.now = now;
        self.tcp.save_timewaits(&self.env)
    }

    /// Takes over the TIME_WAITs a predecessor saved, as far as their time has not run out by `Config::unix_time`'s calendar;
    /// how many. After an error there are none of them.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn restore_timewaits(&mut self, now: Instant, text: &str) -> core::result::Result<usize, TimewaitsError> {
        self.env.now = now;
        self.tcp.restore_timewaits(&mut self.env, text)
    }

    /// Forgets what is remembered of other hosts: Fast Open's cookies (`ip tcp_metrics flush`).
    pub fn flush_tcp_metrics(&mut self) {
        self.env.fast_open.flush();
        self.env.metrics.flush();
    }

    /// All sockets; requests and TIME_WAITs included.
    pub fn diag(&self, now: Instant) -> Box<dyn Iterator<Item = SockDiag> + '_> {
        Box::new(self.tcp_diag(now).chain(self.dgram_diag()))
    }

    /// Linux's counters by Linux's names, and why packets were discarded.
    pub fn counters(&self) -> &Mib {
        &self.env.mib
    }

    /// Counts a packet that could not be handed to this stack: too many waited for it, `net.core.netdev_max_backlog`
    /// of them. Whoever keeps a queue before a stack bounds it by that and says so here.
    pub fn count_backlog_drop(&mut self) {
        self.env.mib.drop(DropReason::QueueFull);
    }

    /// Tells `sink` what happens from now on; `None`: nobody.
    pub fn trace_to(&mut self, sink: Option<Box<dyn TraceSink + Send>>) {
        self.env.trace.0 = sink;
    }

    /// Bytes of memory held by connections: buffers and tables.
    pub fn memory_used(&self) -> u64 {
        self.tcp.memory() + self.udp.memory() + self.socks.memory() + self.env.ip.memory() + self.env.metrics.memory()
    }
}
