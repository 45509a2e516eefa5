//! Two stacks on one virtual clock, joined by links that a test scripts.
#![allow(dead_code, unreachable_pub, missing_docs)] // Each test uses its part.

pub mod script;
pub mod table;

use estab_engine::proto::{SegmentTrace, State, TraceEvent, TraceKind};
use estab_engine::*;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One stack with one interface, and what it has said so far.
pub struct Host {
    pub stack: Stack,
    pub iface: IfaceId,
    pub events: Vec<Event>,
    trace: Arc<Mutex<Vec<TraceEvent>>>,
}

/// The default interface: plain IP, MTU 1500.
pub fn wire() -> IfaceConfig {
    IfaceConfig {
        name: "wire",
        mtu: 1500,
        medium: Medium::Ip,
        gso_max_size: 0,
        csum_offload: false,
        transparent: false,
    }
}

impl Host {
    pub fn new(seed: u8, addrs: &[(&str, u8)], config: IfaceConfig) -> Host {
        let mut stack = Stack::new(
            Instant::ZERO,
            Config {
                seed: [seed; 32],
                memory: 4 << 30,
                unix_time: 1_700_000_000,
            },
        );
        let iface = stack.add_iface(config);
        for (addr, prefix) in addrs {
            stack.add_addr(iface, addr.parse().unwrap(), *prefix).unwrap();
        }
        let trace = Arc::new(Mutex::new(Vec::new()));
        let sink = trace.clone();
        stack.trace_to(Some(Box::new(move |event: &TraceEvent| {
            sink.lock().unwrap().push(*event)
        })));
        Host {
            stack,
            iface,
            events: Vec::new(),
            trace,
        }
    }

    /// What was traced since the last call.
    pub fn take_trace(&self) -> Vec<TraceEvent> {
        std::mem::take(&mut self.trace.lock().unwrap())
    }

    /// The moves since the last call, as `ESTABLISHED>FIN-WAIT-1`.
    pub fn moves(&self) -> Vec<String> {
        self.take_trace()
            .iter()
            .filter_map(|event| match event.kind {
                TraceKind::State { from, to, .. } => Some(format!("{}>{}", from.rfc(), to.rfc())),
                _ => None,
            })
            .collect()
    }

    /// Why the last discarded segment was discarded, if one was since the last look at the trace.
    pub fn dropped(&self) -> Option<String> {
        self.take_trace().iter().rev().find_map(|event| match event.kind {
            TraceKind::Dropped { reason, .. } => Some(reason.to_string()),
            _ => None,
        })
    }

    pub fn sysctl(&mut self, name: &str, value: &str) {
        self.stack.set_sysctl(name, value).unwrap();
    }

    pub fn counter(&self, name: &str) -> u64 {
        self.stack.counters().get(name.parse().unwrap())
    }

    /// The states of all connections, requests and TIME_WAITs; listeners left out.
    pub fn states(&self, now: Instant) -> Vec<State> {
        let mut states: Vec<State> = self
            .stack
            .diag(now)
            .map(|d| d.state)
            .filter(|s| *s != State::Listen)
            .collect();
        states.sort_by_key(|s| *s as u8);
        states
    }
}

/// A packet on its way.
struct Flight {
    at: Instant,
    to: usize,
    bytes: Vec<u8>,
    meta: RxMeta,
}

/// What a link does with a packet: how long it takes, or `None`: lost.
pub type Link = Box<dyn FnMut(&[u8]) -> Option<Duration>>;

/// Two hosts, A and B, and the clock.
pub struct Pair {
    pub now: Instant,
    pub hosts: [Host; 2],
    pub links: [Link; 2],
    flights: VecDeque<Flight>,
}

pub const A: usize = 0;
pub const B: usize = 1;
pub const A_ADDR: &str = "10.0.0.1";
pub const B_ADDR: &str = "10.0.0.2";

impl Pair {
    /// 10.0.0.1 and 10.0.0.2 (fd00::1 and fd00::2), 10 ms apart each way.
    pub fn new() -> Pair {
        Pair::with(wire(), wire())
    }

    pub fn with(a: IfaceConfig, b: IfaceConfig) -> Pair {
        Pair {
            now: Instant::from_millis(1000),
            hosts: [
                Host::new(1, &[(A_ADDR, 24), ("fd00::1", 64)], a),
                Host::new(2, &[(B_ADDR, 24), ("fd00::2", 64)], b),
            ],
            links: [
                Box::new(|_| Some(Duration::from_millis(10))),
                Box::new(|_| Some(Duration::from_millis(10))),
            ],
            flights: VecDeque::new(),
        }
    }

    pub fn sock(&mut self, host: usize, id: SocketId) -> Sock<'_> {
        self.hosts[host].stack.sock(self.now, id).unwrap()
    }

    /// Moves packets out of both stacks onto the links, and events to their hosts.
    pub fn drain(&mut self) {
        let mut buf = vec![0; 70_000];
        for from in [A, B] {
            while let Some(transmit) = self.hosts[from].stack.poll_transmit(self.now, &mut buf) {
                let bytes = buf[..transmit.len].to_vec();
                if let Some(delay) = (self.links[from])(&bytes) {
                    self.flights.push_back(Flight {
                        at: self.now + delay,
                        to: 1 - from,
                        bytes,
                        meta: RxMeta {
                            csum: match transmit.csum {
                                CsumTx::Full => RxCsum::Unchecked,
                                CsumTx::Partial { .. } => RxCsum::Partial,
                            },
                            gso_size: transmit.gso,
                        },
                    });
                }
            }
            while let Some(event) = self.hosts[from].stack.poll_event() {
                self.hosts[from].events.push(event);
            }
        }
    }

    /// When something happens next.
    pub fn next(&self) -> Option<Instant> {
        let timers = self.hosts.iter().filter_map(|h| h.stack.poll_timeout());
        timers.chain(self.flights.iter().map(|f| f.at)).min()
    }

    /// Lets everything happen until `end`, which becomes the time.
    pub fn run_until(&mut self, end: Instant) {
        self.drain();
        let mut idle = 0;
        while let Some(at) = self.next().filter(|at| *at <= end) {
            idle = if at > self.now { 0 } else { idle + 1 };
            assert!(idle < 100_000, "time stands still at {at:?}");
            self.now = self.now.max(at);
            // The earliest that has arrived; equal times in the order they left.
            let due = self
                .flights
                .iter()
                .enumerate()
                .filter(|(_, f)| f.at <= self.now)
                .min_by_key(|(i, f)| (f.at, *i))
                .map(|(i, _)| i);
            if let Some(flight) = due.and_then(|i| self.flights.remove(i)) {
                let host = &mut self.hosts[flight.to];
                host.stack
                    .handle_packet(self.now, host.iface, &flight.bytes, flight.meta);
            } else {
                for host in &mut self.hosts {
                    host.stack.handle_timeout(self.now);
                }
            }
            self.drain();
        }
        self.now = self.now.max(end);
    }

    pub fn run(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    pub fn run_ms(&mut self, ms: u64) {
        self.run(Duration::from_millis(ms));
    }

    pub fn run_s(&mut self, s: u64) {
        self.run(Duration::from_secs(s));
    }

    /// A listener on `host` at `port` of the IPv4 wildcard.
    pub fn listen(&mut self, host: usize, port: u16, backlog: i32) -> SocketId {
        let id = self.hosts[host].stack.socket(Family::V4, Kind::Stream).unwrap();
        let mut sock = self.sock(host, id);
        sock.bind(addr("0.0.0.0", port)).unwrap();
        sock.listen(backlog).unwrap();
        id
    }

    /// A socket on `host` that connects; nothing has been sent yet.
    pub fn connect(&mut self, host: usize, to: SocketAddr) -> SocketId {
        let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
        let id = self.hosts[host].stack.socket(family, Kind::Stream).unwrap();
        self.sock(host, id).connect(to).unwrap();
        id
    }

    /// A connection from A to port 80 of B: its two ends, and B's listener.
    pub fn open(&mut self) -> (SocketId, SocketId, SocketId) {
        let listener = self.listen(B, 80, 128);
        let a = self.connect(A, addr(B_ADDR, 80));
        self.run_ms(100);
        let (b, _) = self.sock(B, listener).accept().unwrap();
        (a, b, listener)
    }

    pub fn send(&mut self, host: usize, id: SocketId, data: &[u8]) -> Result<usize> {
        self.sock(host, id).send(data, SendFlags::default())
    }

    pub fn recv(&mut self, host: usize, id: SocketId) -> Result<Vec<u8>> {
        let mut buf = vec![0; 1 << 20];
        let n = self.sock(host, id).recv(&mut buf, RecvFlags::default())?;
        buf.truncate(n);
        Ok(buf)
    }

    pub fn close(&mut self, host: usize, id: SocketId) {
        self.sock(host, id).close();
        self.drain();
    }

    pub fn state(&mut self, host: usize, id: SocketId) -> State {
        self.sock(host, id).state()
    }
}

pub fn addr(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

/// The segments of a trace that left, as text with absolute numbers.
pub fn sent(trace: &[TraceEvent]) -> Vec<SegmentTrace> {
    trace
        .iter()
        .filter_map(|event| match event.kind {
            TraceKind::Sent(segment) => Some(segment),
            _ => None,
        })
        .collect()
}
