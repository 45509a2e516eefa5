//! TCP (RFC 9293), as Linux 6.x behaves. Where each concept is:
//!
//! | RFC | concept | file |
//! |---|---|---|
//! | 9293 §3.1 | a segment as it came, and as it leaves | `segment.rs`, `emit.rs` |
//! | – | which object a segment belongs to | `demux.rs` |
//! | 9293 §3.10.7.2, 4987 | LISTEN, requests, cookies | `passive.rs`, `listen.rs`, `synq.rs`, `cookie.rs` |
//! | 7413 | Fast Open | `fastopen/` |
//! | – | the end of a listener | `unlisten.rs` |
//! | – | opens that wait for the application | `transparent.rs` |
//! | 9293 §3.10.7.3, 6056 | SYN_SENT, simultaneous open; ports | `connect.rs`, `ports.rs` |
//! | 9293 §3.10.7.4 | segment arrives | `conn.rs` |
//! | 7323 §5, 5961 | what may arrive | `validate.rs` |
//! | 2385 | signed segments | `auth.rs` |
//! | 9293 §3.5.2 | resets and other answers without a connection | `reset.rs` |
//! | 9293 §3.6 | close, half-close, orphans | `close.rs` |
//! | 9293 §3.6.1, 1337, 6191 | TIME_WAIT | `timewait.rs` |
//! | 6528 | initial sequence numbers, timestamp offsets | `isn.rs` |
//! | 9293 §3.4.3 | quiet time, TIME_WAITs kept over a restart | `quiet.rs` |
//! | – | what is remembered of hosts and paths | `metrics.rs` |
//! | 1122 §4.2.3.6 | keepalive | `keepalive.rs` |
//! | 5927 | ICMP errors | `icmp.rs` |
//! | – | a connection's deadlines | `timers.rs` |
//! | 9293 §3.8.6 | receiving | `rcv/` |
//! | 9293 §3.8, 5681, 6298 … | sending, loss, congestion control | `snd/`, `loss/`, `cc/` |

pub(crate) mod accecn;
pub(crate) mod auth;
pub(crate) mod cc;
pub(crate) mod close;
pub(crate) mod conn;
pub(crate) mod connect;
pub(crate) mod cookie;
pub(crate) mod demux;
mod emit;
pub(crate) mod fastopen;
mod icmp;
pub(crate) mod isn;
mod keepalive;
pub(crate) mod listen;
pub(crate) mod loss;
pub(crate) mod metrics;
mod passive;
pub(crate) mod ports;
pub(crate) mod quiet;
pub(crate) mod rcv;
mod reset;
pub(crate) mod segment;
pub(crate) mod snd;
pub(crate) mod synq;
mod timers;
pub(crate) mod timewait;
mod transparent;
mod unlisten;
pub(crate) mod validate;

use crate::Instant;
use crate::boxes::Boxes;
use crate::buf::Memory;
use crate::drop::DropReason;
use crate::env::Env;
use crate::event::{Event, SocketId};
use crate::iface::Transmit;
use crate::ip::Packet;
use crate::sock::bind::BindTable;
use crate::timer::TimerKey;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use close::Fate;
use conn::{Conn, Reject};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use demux::{Demux, Object, Tuple};
use estab_proto::state::Trigger;
use estab_proto::{Counter, State, TraceKind};
use listen::Listener;
use segment::Segment;
use slab::Slab;
use synq::Request;
use timewait::{Rest, TimeWaits, Verdict};

/// Our clock in milliseconds: what timestamps count (Linux: `tcp_clock_ms`).
pub(crate) fn clock_ms(env: &Env) -> u32 {
    env.now.millis() as u32
}

/// The peer's MSS option, or what RFC 9293 §3.7.1 assumes without one, clamped by TCP_MAXSEG.
pub(crate) fn peer_mss(option: Option<u16>, peer: IpAddr, maxseg: u16) -> u16 {
    let mss = option.unwrap_or(if peer.is_ipv4() { 536 } else { 1220 });
    if maxseg > 0 { mss.min(maxseg) } else { mss }
}

/// Tells the trace of a state left and a state entered.
///
/// Every move of every object comes through here, so that none escapes the table.
pub(crate) fn trace_move(env: &mut Env, tuple: &Tuple, from: State, to: State, on: Trigger) {
    debug_assert!(
        estab_proto::state::allowed(from, on, to),
        "no arrow {from:?} -> {to:?} on {on:?}"
    );
    env.trace(tuple, || TraceKind::State { from, to, on });
}

/// What `Tcp::poll_transmit` left out of a packet, and whose it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Payload {
    index: u32,
    left: emit::Left,
}

/// All of TCP: its objects by lifetime, and the ways to them.
#[derive(Clone)]
pub(crate) struct Tcp {
    pub(crate) demux: Demux,
    pub(crate) binds: BindTable,
    pub(crate) conns: Boxes<Conn>,
    pub(crate) requests: Slab<Request>,
    /// Their deadlines, by timeouts so far.
    syn_timers: synq::Timers,
    pub(crate) listeners: Slab<Box<Listener>>,
    pub(crate) timewaits: TimeWaits,
    /// The connection in `demux` that a segment last came for; `u32::MAX`: it is there no more.
    last: u32,
    /// Connections with something to transmit: index and generation.
    ready: VecDeque<(u32, u32)>,
    /// Transparent opens that wait for the application.
    held: u32,
    generation: u32,
    ports: ports::Perturbation,
    /// What all buffers are charged, in bytes (Linux: `tcp_memory_allocated`).
    charged: u64,
    /// When memory became short.
    pressed_since: Instant,
    /// Some socket was given a key (Linux: `tcp_md5_needed`).
    pub(crate) signing: bool,
}

impl Tcp {
    pub(crate) fn new(env: &Env) -> Tcp {
        Tcp {
            demux: Demux::default(),
            binds: BindTable::default(),
            conns: Boxes::new(),
            requests: Slab::new(),
            syn_timers: synq::Timers::new(TimerKey::Requests),
            listeners: Slab::new(),
            timewaits: TimeWaits::default(),
            last: u32::MAX,
            ready: VecDeque::new(),
            held: 0,
            generation: 0,
            ports: ports::Perturbation::default(),
            charged: 0,
            pressed_since: env.now,
            signing: false,
        }
    }

    /// A number that tells an object from its slot's earlier ones.
    fn next_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        self.generation
    }

    /// The object of a tuple.
    #[inline(never)]
    pub(crate) fn find(&self, hash: u32, tuple: &Tuple) -> Option<Object> {
        self.demux.find(hash, |object| match object {
            Object::Conn(i) => self.conns.get(i as usize).is_some_and(|c| c.tuple == *tuple),
            Object::Request(i) => self.requests.get(i as usize).is_some_and(|r| r.tuple == *tuple),
            timewait => self.timewaits.tuple(timewait) == Some(*tuple),
        })
    }

    /// Enters an object under the hash of its tuple, which must not be in the table yet.
    fn enter(&mut self, env: &Env, hash: u32, object: Object) {
        let hash_of = |object| match object {
            Object::Conn(i) => self.conns[i as usize].hash,
            Object::Request(i) => Demux::hash(env, &self.requests[i as usize].tuple),
            timewait => self
                .timewaits
                .tuple(timewait)
                .map_or(0, |tuple| Demux::hash(env, &tuple)),
        };
        self.demux.insert(hash, object, hash_of);
    }

    /// The object of an arriving segment, and its tuple's hash. Segments come in trains: the last one's connection is looked
    /// at first.
    #[inline]
    fn object_of(&mut self, env: &Env, tuple: &Tuple) -> (Option<Object>, u32) {
        if let Some(conn) = self.conns.get(self.last as usize).filter(|conn| conn.tuple == *tuple) {
            return (Some(Object::Conn(self.last)), conn.hash);
        }
        let hash = Demux::hash(env, tuple);
        let object = self.find(hash, tuple);
        if let Some(Object::Conn(index)) = object {
            self.last = index;
        }
        (object, hash)
    }

    /// A packet for TCP (Linux: `tcp_v4_rcv`).
    #[inline]
    pub(crate) fn input(&mut self, env: &mut Env, packet: &Packet<'_>) {
        env.mib.inc(Counter::TcpInSegs);
        if packet.multicast {
            return env.mib.drop(DropReason::Multicast);
        }
        let header = match Segment::header(packet) {
            Ok(header) => header,
            Err(reason) => {
                env.mib.inc(Counter::TcpInErrs);
                if reason == DropReason::TcpCsum {
                    env.mib.inc(Counter::TcpInCsumErrors);
                }
                return env.mib.drop(reason);
            }
        };
        let mut segment = Segment::new(packet, header);
        segment.read_options();
        if quiet::quiet_until(env).is_some() {
            return env.mib.drop(DropReason::TcpQuietTime);
        }
        env.trace(&segment.tuple, || TraceKind::Received(segment.trace()));
        let (object, hash) = self.object_of(env, &segment.tuple);
        let key = self.reset_key(object, &segment);
        if let Err(reject) = self.dispatch(env, &segment, object, hash) {
            env.mib.drop(reject.reason);
            env.trace(&segment.tuple, || TraceKind::Dropped {
                segment: segment.trace(),
                reason: reject.reason.name(),
            });
            if reject.reset {
                self.reset(env, &segment, object, key, hash);
            }
        }
    }

    fn dispatch(
        &mut self,
        env: &mut Env,
        segment: &Segment<'_>,
        object: Option<Object>,
        hash: u32,
    ) -> Result<(), Reject> {
        if let Some(object) = object {
            self.check_signature(env, object, segment)?;
        }
        match object {
            Some(Object::Conn(i)) => self.conn_arrives(env, i, segment),
            Some(Object::Request(i)) => self.request_arrives(env, i, segment, hash),
            Some(object) => self.timewait_arrives(env, object, segment, hash),
            None => match self.listener_for(env, segment, hash) {
                Some(listener) => self.listen_arrives(env, listener, segment, hash, None),
                None => Err(Reject::reset(DropReason::NoSocket)),
            },
        }
    }

    fn conn_arrives(&mut self, env: &mut Env, index: u32, segment: &Segment<'_>) -> Result<(), Reject> {
        let Some(conn) = self.conns.get_mut(index as usize) else {
            return Err(Reject::reset(DropReason::NoSocket));
        };
        let result = conn.segment_arrives(env, segment);
        self.settle(env, index);
        result
    }

    #[inline(never)]
    fn timewait_arrives(
        &mut self,
        env: &mut Env,
        object: Object,
        segment: &Segment<'_>,
        hash: u32,
    ) -> Result<(), Reject> {
        let (Some(tuple), Some(mut rest)) = (self.timewaits.tuple(object), self.timewaits.rest(object)) else {
            return Err(Reject::reset(DropReason::NoSocket));
        };
        let from = rest.state();
        let (verdict, restart) = rest.check(env, segment);
        let to = rest.state();
        self.timewaits.update(object, &rest);
        if from != to {
            trace_move(env, &tuple, from, to, Trigger::RcvFin);
        }
        if restart {
            let life = timewait::two_msl(env);
            self.timewaits.schedule(env, object, life);
        }
        match verdict {
            Verdict::Quiet(DropReason::TcpOldAck) => Ok(()),
            Verdict::Quiet(reason) => Err(reason.into()),
            Verdict::Ack(reason) => {
                reset::ack_for_timewait(env, &tuple, segment.iface, &rest, self.timewaits.key(object));
                if from != to { Ok(()) } else { Err(reason.into()) }
            }
            Verdict::Reset(reason) => {
                self.end_timewait(env, object, Some(Trigger::Abort));
                Err(Reject::reset(reason))
            }
            Verdict::Kill(reason) => {
                self.end_timewait(env, object, Some(Trigger::RcvRst));
                Err(reason.into())
            }
            Verdict::Reopen(isn) => match self.listener_for(env, segment, hash) {
                Some(listener) => {
                    self.end_timewait(env, object, None);
                    self.listen_arrives(env, listener, segment, hash, Some(isn))
                }
                // Nobody listens: it is an old duplicate like any other.
                None => {
                    reset::ack_for_timewait(env, &tuple, segment.iface, &rest, self.timewaits.key(object));
                    Err(DropReason::TcpInvalidSyn.into())
                }
            },
        }
    }

    /// The listener a segment without connection is for.
    fn listener_for(&self, env: &Env, segment: &Segment<'_>, hash: u32) -> Option<u32> {
        self.demux
            .listener(segment.tuple.local_ip, segment.tuple.local_port, hash)
            .or_else(|| match !segment.ours && env.ip.is_transparent(segment.iface) {
                true => self.demux.transparent(hash),
                false => None,
            })
    }

    /// Puts an entry of the TIME_WAIT table away.
    pub(crate) fn end_timewait(&mut self, env: &mut Env, object: Object, on: Option<Trigger>) {
        let Some((tuple, rest)) = self.timewaits.remove(env, object) else {
            return;
        };
        self.demux.remove(Demux::hash(env, &tuple), object);
        if let Some(binding) = rest.bind.unpack(tuple.local()) {
            self.binds.release(&binding);
        }
        if let Some(on) = on {
            trace_move(env, &tuple, rest.state(), State::Closed, on);
        }
        tell_closed(env, rest.sock);
    }

    /// After every call that touched a connection: acts on its fate, queues it for transmission, re-arms its timer.
    pub(crate) fn settle(&mut self, env: &mut Env, index: u32) {
        let Some(conn) = self.conns.get_mut(index as usize) else {
            return;
        };
        let fate = core::mem::replace(&mut conn.fate, Fate::Stay);
        if conn.fast_open.is_some() {
            self.fast_open_release(env, index);
        }
        if fate != Fate::Stay {
            self.unhash(env, index, fate);
        }
        let Some(conn) = self.conns.get_mut(index as usize) else {
            return;
        };
        if conn.state == State::Closed && conn.sock.is_none() && !conn.in_accept_queue {
            self.free(env, index);
            return;
        }
        let charged = conn.charged();
        if charged != conn.last_charged {
            let before = core::mem::replace(&mut conn.last_charged, charged);
            self.charged = self.charged + u64::from(charged) - u64::from(before);
            update_memory(env, self.charged, &mut self.pressed_since);
        }
        if conn.snd.take_writable() {
            conn.notify(env);
        }
        if !conn.in_ready && conn.wants_transmit() {
            conn.in_ready = true;
            self.ready.push_back((index, conn.generation));
        }
        conn.rearm(env, index);
    }

    /// Takes a connection that is over out of the tables; a TIME_WAIT takes its place if there is to be one.
    #[inline(never)]
    fn unhash(&mut self, env: &mut Env, index: u32, fate: Fate) {
        let conn = &mut self.conns[index as usize];
        if self.last == index {
            self.last = u32::MAX;
        }
        conn.fast_open_done(env);
        if core::mem::take(&mut conn.counted_orphan) {
            env.orphans -= 1;
        }
        let bind = core::mem::take(&mut conn.binding);
        let binding = bind.unpack(conn.tuple.local());
        if conn.was_open && conn.snd.srtt().is_some() && env.sysctl.tcp_no_metrics_save == 0 {
            let path = env.metrics.entry(conn.tuple.remote_ip);
            path.proven = true;
            conn.snd.remember(&env.sysctl, path);
        }
        let hash = conn.hash;
        let Fate::TimeWait { fin_wait2, life_ms } = fate else {
            self.demux.remove(hash, Object::Conn(index));
            match binding {
                // A port that bind(2) named stays the socket's (Linux: `tcp_set_state`).
                Some(binding) if binding.port_fixed && conn.sock.is_some() => conn.binding = bind,
                Some(binding) => self.binds.release(&binding),
                None => {}
            }
            return;
        };
        if let Some(binding) = binding.filter(|b| b.port_fixed && conn.sock.is_some()) {
            self.binds.hold(&binding);
            conn.binding = bind;
        }
        let entry = Rest {
            sock: conn.closed.take(),
            bind,
            ..conn.rest(fin_wait2)
        };
        let tuple = conn.tuple;
        let mut life = Duration::from_millis(life_ms.into());
        if env.sysctl.tcp_tw_recycle != 0 && entry.ts_ok {
            // As before Linux 4.12: the host's timestamps stand in for the wait.
            let path = env.metrics.entry(tuple.remote_ip);
            path.remember_timestamp(entry.ts_recent, entry.ts_stamp);
            life = conn.three_and_a_half_rto();
        }
        // What the application still holds is a socket in CLOSED.
        conn.state = State::Closed;
        if self.timewaits.len() < env.sysctl.tcp_max_tw_buckets as usize {
            let key = conn.key().cloned();
            let object = self.timewaits.insert(env, &tuple, entry, life);
            if let Some(key) = key {
                self.timewaits.sign(object, key);
            }
            self.demux.replace(hash, Object::Conn(index), object);
            env.mib.inc(Counter::TcpExtTW);
            return;
        }
        self.demux.remove(hash, Object::Conn(index));
        env.mib.inc(Counter::TcpExtTCPTimeWaitOverflow);
        trace_move(env, &tuple, entry.state(), State::Closed, Trigger::Timeout);
        if let Some(binding) = binding {
            self.binds.release(&binding);
        }
        tell_closed(env, entry.sock);
    }

    /// Frees a connection that nobody holds and no segment can reach.
    #[inline(never)]
    fn free(&mut self, env: &mut Env, index: u32) {
        let Some(mut conn) = self.conns.remove(index) else {
            return;
        };
        env.timers.cancel(&mut conn.timer);
        if let Some(binding) = core::mem::take(&mut conn.binding).unpack(conn.tuple.local()) {
            self.binds.release(&binding);
        }
        self.charged -= u64::from(conn.last_charged);
        conn.rcv.release(&mut env.rcv());
        conn.snd.release(env);
        conn.fast_open = None;
        conn.end_opening(env);
        if conn.opts.hold_secrets() {
            // The box waits for its next connection; the keys must not.
            conn.opts = Default::default();
        }
        tell_closed(env, conn.closed);
        env.conns.give(conn);
    }

    /// No connection has anything to send.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.ready.is_empty()
    }

    /// Writes one packet of the connections' to `buf`; with `in_place`, what it left out is for
    /// [`payload`](Self::payload) to show.
    pub(crate) fn poll_transmit(
        &mut self,
        env: &mut Env,
        buf: &mut [u8],
        in_place: bool,
    ) -> Option<(Transmit, Payload)> {
        while let Some((index, generation)) = self.ready.front().copied() {
            let conn = self.conns.get_mut(index as usize);
            let Some(conn) = conn.filter(|c| c.generation == generation) else {
                self.ready.pop_front();
                continue;
            };
            let sent = match conn.wants_transmit() {
                true => conn.transmit(env, buf, in_place),
                false => None,
            };
            // Most have but one thing to say: they needn't be asked again.
            if sent.is_none() || !conn.wants_transmit() {
                conn.in_ready = false;
                self.ready.pop_front();
                match conn.snd.resume(env) {
                    // What it has now stands behind what others have.
                    true => self.settle(env, index),
                    false => conn.rearm(env, index),
                }
            }
            if let Some((transmit, left)) = sent {
                return Some((transmit, Payload { index, left }));
            }
        }
        None
    }

    /// What a packet left out, in place, as slices in order; how many were filled.
    pub(crate) fn payload<'a>(&'a self, of: Payload, out: &mut [&'a [u8]]) -> usize {
        match (of.left, self.conns.get(of.index as usize)) {
            (emit::Left::Payload(seq, len), Some(conn)) => conn.snd.payload_slices(seq, len, out),
            _ => 0,
        }
    }

    /// Bytes of memory held by connections and tables.
    pub(crate) fn memory(&self) -> u64 {
        let conns: usize = self
            .conns
            .iter()
            .map(|c| {
                let accecn = c.accecn.as_deref().map_or(0, size_of_val);
                let opening = c.opening.as_ref().map_or(0, |_| 96);
                size_of::<Conn>() + c.snd.memory() + c.rcv.truesize() + opening + accecn
            })
            .sum();
        let requests = self.requests.capacity() * size_of::<Request>();
        let listeners: usize = self
            .listeners
            .iter()
            .map(|(_, l)| size_of::<Listener>() + l.accept.capacity() * 4)
            .sum();
        (conns + self.conns.memory() + requests + listeners) as u64
            + self.timewaits.memory()
            + self.demux.memory()
            + self.binds.memory()
    }

    /// Whether an IP packet belongs to something of ours: see `Stack::owns`.
    pub(crate) fn owns(&mut self, env: &Env, packet: &estab_wire::ip::Packet<'_>) -> bool {
        let Ok(segment) = estab_wire::tcp::Segment::parse(packet.payload) else {
            return false;
        };
        let local = SocketAddr::new(packet.dst, segment.dst_port);
        let tuple = Tuple::new(local, SocketAddr::new(packet.src, segment.src_port));
        let (object, hash) = self.object_of(env, &tuple);
        object.is_some() || self.demux.listener(local.ip(), local.port(), hash).is_some()
    }
}

/// How TCP stands with its memory, by `tcp_mem`'s three marks (Linux: `__sk_mem_raise_allocated`).
#[inline]
fn update_memory(env: &mut Env, charged: u64, pressed_since: &mut Instant) {
    // Most of the time there is plenty, and stays so: nothing to weigh.
    let [_, pressure, high] = env.sysctl.tcp_mem;
    if env.memory != Memory::Plenty || charged >> 12 >= pressure.min(high) {
        weigh_memory(env, charged, pressed_since);
    }
}

#[cold]
fn weigh_memory(env: &mut Env, charged: u64, pressed_since: &mut Instant) {
    let [low, pressure, high] = env.sysctl.tcp_mem.map(|pages| pages.saturating_mul(4096));
    let was = env.memory;
    env.memory = if charged > high {
        Memory::Exhausted
    } else if charged > pressure || (was != Memory::Plenty && charged > low) {
        Memory::Pressure
    } else {
        Memory::Plenty
    };
    match (was, env.memory) {
        (Memory::Plenty, Memory::Plenty) => {}
        (Memory::Plenty, _) => {
            env.mib.inc(Counter::TcpExtTCPMemoryPressures);
            *pressed_since = env.now;
        }
        (_, Memory::Plenty) => {
            let lasted = env.now.since(*pressed_since).as_millis() as u64;
            env.mib.add(Counter::TcpExtTCPMemoryPressuresChrono, lasted);
        }
        _ => {}
    }
}

fn tell_closed(env: &mut Env, id: Option<SocketId>) {
    if let Some(id) = id {
        env.events.push(Event::Closed(id));
    }
}
