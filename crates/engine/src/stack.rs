//! The stack as its driver and its application see it.

use crate::echo::Echo;
use crate::env::{Env, Lending};
use crate::ip::{self, Delivery, Ip};
use crate::sock::id::{Body, Idle};
use crate::sock::{SockOpts, SockTable};
use crate::tcp::close::Leave;
use crate::tcp::{Payload, Tcp};
use crate::timer::TimerKey;
use crate::udp::Udp;
use crate::*;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use estab_proto::{SockDiag, State, TcpInfo};

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
        Ok(Sock {
            stack: self,
            id,
            stream,
        })
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
    /// (used to steer packets between the stacks of a gateway's threads).
    pub fn owns(&self, packet: &[u8]) -> bool {
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

/// One socket of a stack, at one moment.
pub struct Sock<'a> {
    stack: &'a mut Stack,
    id: SocketId,
    stream: bool,
}

impl Sock<'_> {
    /// bind(2); port 0 chooses one. EADDRINUSE, EADDRNOTAVAIL, EINVAL as on Linux.
    pub fn bind(&mut self, addr: SocketAddr) -> Result<()> {
        match self.stream {
            true => self.stack.tcp_bind(self.id, addr),
            false => self.stack.dgram_bind(self.id, addr),
        }
    }

    /// listen(2): the accept queue holds min(backlog, somaxconn) + 1.
    pub fn listen(&mut self, backlog: i32) -> Result<()> {
        match self.stream {
            true => self.stack.tcp_listen(self.id, backlog),
            false => Err(SockError::EOPNOTSUPP),
        }
    }

    /// Starts an open (TCP: EINPROGRESS is not an error here: Ok, then WRITABLE or ERROR) or sets UDP's peer.
    pub fn connect(&mut self, addr: SocketAddr) -> Result<()> {
        match self.stream {
            true => self.stack.tcp_connect(self.id, addr),
            false => self.stack.dgram_connect(self.id, addr),
        }
    }

    /// Turns a listener into an active open, as RFC 9293 §3.10.1 lets one; a BSD connect(2) on it is EISCONN, as on Linux.
    pub fn connect_listener(&mut self, addr: SocketAddr) -> Result<()> {
        match self.stream {
            true => self.stack.tcp_reopen(self.id, addr),
            false => Err(SockError::EOPNOTSUPP),
        }
    }

    /// SIOCATMARK: the next read begins at the urgent mark.
    pub fn at_mark(&self) -> bool {
        self.stack.tcp_at_mark(self.id)
    }

    /// Bytes written and not sent yet (SIOCOUTQNSD).
    pub fn send_unsent(&self) -> usize {
        self.stack.tcp_send_unsent(self.id)
    }

    /// connect(2) to AF_UNSPEC: ends the connection (RST where the peer must know) or stops listening; the socket, with its
    /// options, can be used anew.
    pub fn disconnect(&mut self) -> Result<()> {
        match self.stream {
            true => self.stack.tcp_dissolve(self.id),
            false => Err(SockError::EOPNOTSUPP),
        }
    }

    /// accept(2): the oldest connection of the queue and its peer; EAGAIN when there is none.
    pub fn accept(&mut self) -> Result<(SocketId, SocketAddr)> {
        match self.stream {
            true => self.stack.tcp_accept(self.id),
            false => Err(SockError::EOPNOTSUPP),
        }
    }

    /// Bytes taken; EAGAIN when the buffer is full.
    pub fn send(&mut self, data: &[u8], flags: SendFlags) -> Result<usize> {
        match self.stream {
            true => self.stack.tcp_send(self.id, data, flags),
            false => self.stack.dgram_send(self.id, data, None, None),
        }
    }

    /// [`send`](Self::send) of up to `most` bytes that `fill` puts into the send buffer itself: it is given room in order, and
    /// returns how many bytes it put there. Bytes taken; 0 when the buffer is full or `fill` had none. (No copy: for readv
    /// from a host socket.)
    pub fn send_with(
        &mut self,
        most: usize,
        flags: SendFlags,
        fill: impl FnOnce(&mut [&mut [u8]]) -> usize,
    ) -> Result<usize> {
        match self.stream {
            true => self.stack.tcp_send_with(self.id, most, flags, fill),
            false => Err(SockError::EOPNOTSUPP),
        }
    }

    /// sendto(2) with MSG_FASTOPEN: connects to `addr` and sends `data`, the first of it with the SYN if Fast Open lets it
    /// (RFC 7413). Bytes taken; EINPROGRESS when the open is under way and none were; EALREADY while another open is; on a
    /// connection that is open already, `send` after a first `connect` that was not told so.
    pub fn send_fast_open(&mut self, addr: Option<SocketAddr>, data: &[u8], flags: SendFlags) -> Result<usize> {
        match self.stream {
            true => self.stack.tcp_send_fast_open(self.id, addr, data, flags),
            false => Err(SockError::EOPNOTSUPP),
        }
    }

    /// Bytes read; 0 is the end of the stream; EAGAIN when there is nothing yet.
    pub fn recv(&mut self, buf: &mut [u8], flags: RecvFlags) -> Result<usize> {
        match self.stream {
            true => self.stack.tcp_recv(self.id, buf, flags),
            false => self.stack.dgram_recv(self.id, buf, flags).map(|(n, ..)| n),
        }
    }

    /// The readable bytes in place, as up to `out.len()` slices in order; returns how many were filled.
    /// Then `consume` what was used. (No copy: for writev to a host socket.)
    pub fn recv_slices<'b>(&'b mut self, out: &mut [&'b [u8]]) -> Result<usize> {
        match self.stream {
            true => self.stack.tcp_recv_slices(self.id, out),
            false => Err(SockError::EOPNOTSUPP),
        }
    }

    /// Takes bytes that [`recv_slices`](Self::recv_slices) showed out of the queue.
    pub fn consume(&mut self, bytes: usize) {
        if self.stream {
            self.stack.tcp_consume(self.id, bytes);
        }
    }

    /// Room in the send buffer, in bytes.
    pub fn send_room(&self) -> usize {
        self.stack.tcp_send_room(self.id)
    }

    /// Bytes received and not read; of datagrams, the next one's.
    pub fn recv_queued(&self) -> usize {
        match self.stream {
            true => self.stack.tcp_recv_queued(self.id),
            false => self.stack.dgram_recv_queued(self.id),
        }
    }

    /// Bytes written and not acknowledged (FIN not counted).
    pub fn send_queued(&self) -> usize {
        self.stack.tcp_send_queued(self.id)
    }

    /// shutdown(2)
    pub fn shutdown(&mut self, how: Shutdown) -> Result<()> {
        match self.stream {
            true => self.stack.tcp_shutdown(self.id, how),
            false => self.stack.dgram_shutdown(self.id, how),
        }
    }

    /// close(2): the handle is void; the connection ends in order (RST if data is unread). SO_LINGER above 0 waits for nobody
    /// here: a caller who must wait does so before.
    pub fn close(self) {
        match self.stream {
            true => self.stack.tcp_close(self.id, Leave::Close),
            false => self.stack.dgram_close(self.id),
        }
    }

    /// RST at once; the handle is void.
    pub fn abort(self) {
        match self.stream {
            true => self.stack.tcp_close(self.id, Leave::Abort),
            false => self.stack.dgram_close(self.id),
        }
    }

    /// setsockopt(2); EINVAL outside Linux's ranges.
    pub fn set_option(&mut self, option: SockOption) -> Result<()> {
        match self.stream {
            true => self.stack.tcp_set_option(self.id, option),
            false => self.stack.dgram_set_option(self.id, option),
        }
    }

    /// TCP_MD5SIG and TCP_MD5SIG_EXT: segments to and from `peer` are signed with `key`, and unsigned ones from it dropped
    /// (RFC 2385). An empty key takes the one for just these peers away: ENOENT when there is none. EINVAL for a key longer
    /// than 80 bytes, ENOMEM past `net.core.optmem_max`. Timestamps yield to it, as on Linux.
    pub fn set_md5_key(&mut self, peer: Md5Peer, key: &[u8]) -> Result<()> {
        match self.stream {
            true => self.stack.tcp_set_md5_key(self.id, peer, key),
            false => Err(SockError::ENOPROTOOPT),
        }
    }

    /// The option of the same name as `like`, with its value.
    pub fn option(&self, like: SockOption) -> Result<SockOption> {
        match self.stream {
            true => self.stack.tcp_option(self.id, like),
            false => self.stack.dgram_option(self.id, like),
        }
    }

    /// getsockname(2)
    pub fn local_addr(&self) -> Result<SocketAddr> {
        match self.stream {
            true => self.stack.tcp_local_addr(self.id),
            false => self.stack.dgram_local_addr(self.id),
        }
    }

    /// getpeername(2)
    pub fn peer_addr(&self) -> Result<SocketAddr> {
        match self.stream {
            true => self.stack.tcp_peer_addr(self.id),
            false => self.stack.dgram_peer_addr(self.id),
        }
    }

    /// poll(2)'s bits now.
    pub fn readiness(&mut self) -> Readiness {
        match self.stream {
            true => self.stack.tcp_readiness(self.id),
            false => self.stack.dgram_readiness(self.id),
        }
    }

    /// SO_ERROR: the pending error, cleared.
    pub fn take_error(&mut self) -> Option<SockError> {
        match self.stream {
            true => self.stack.tcp_take_error(self.id),
            false => self.stack.dgram_take_error(self.id),
        }
    }

    /// TCP's state; a socket whose connection lives on in TIME_WAIT is CLOSED, as on Linux.
    pub fn state(&self) -> State {
        match self.stream {
            true => self.stack.tcp_state(self.id),
            false => State::Closed,
        }
    }

    /// TCP_INFO
    pub fn info(&self) -> Result<TcpInfo> {
        match self.stream {
            true => self.stack.tcp_info(self.id),
            false => Err(SockError::EOPNOTSUPP),
        }
    }

    /// UDP and Echo: sends from `src` (None: the bound address; a transparent socket may claim any) to `dst`.
    /// Echo: `data` is the ICMP message from its identifier on (identifier, sequence, payload).
    pub fn send_to(&mut self, data: &[u8], src: Option<SocketAddr>, dst: SocketAddr) -> Result<usize> {
        match self.stream {
            true => Err(SockError::EISCONN),
            false => self.stack.dgram_send(self.id, data, src, Some(dst)),
        }
    }

    /// UDP and Echo: one datagram, its source and the destination it was sent to.
    pub fn recv_from(&mut self, buf: &mut [u8]) -> Result<(usize, SocketAddr, SocketAddr)> {
        match self.stream {
            true => Err(SockError::EOPNOTSUPP),
            false => self.stack.dgram_recv(self.id, buf, RecvFlags::default()),
        }
    }

    /// UDP, transparent: tells `src` that its datagram of `payload` to `dst` could not be delivered (ICMP).
    pub fn reject(&mut self, src: SocketAddr, dst: SocketAddr, payload: &[u8], why: Unreachable) -> Result<()> {
        match self.stream {
            true => Err(SockError::EOPNOTSUPP),
            false => self.stack.dgram_reject(self.id, src, dst, payload, why),
        }
    }
}
