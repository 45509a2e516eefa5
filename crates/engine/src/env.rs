//! What every part of the stack works with: the time, the knobs, the counters, the timers, the way out.
//! It knows no socket and no connection; `Tcp`, `Udp` and the socket table are beside it in `Stack`, so that
//! `self.tcp.input(&mut self.env, …)` borrows cleanly.

use crate::buf::{Memory, Pool};
use crate::event::{EventQueue, SocketId};
use crate::ip::Ip;
use crate::mib::Mib;
use crate::rng::Rng;
use crate::spare::Spare;
use crate::sysctl::Sysctls;
use crate::tcp::demux::Tuple;
use crate::timer::Wheel;
use crate::trace::Sink;
use crate::{Config, Instant};
use estab_proto::{TraceEvent, TraceKind};

#[derive(Clone)]
pub(crate) struct Env {
    /// The time of the call being served.
    pub(crate) now: Instant,
    /// When the stack was made.
    pub(crate) started: Instant,
    /// Seconds since 1970 at `Instant::ZERO`.
    pub(crate) unix_time: u64,
    /// The knobs; fields are the last component of Linux's names (`env.sysctl.tcp_syn_retries`).
    pub(crate) sysctl: Sysctls,
    /// The counters: `env.mib.inc(Counter::TcpExtListenOverflows)`.
    pub(crate) mib: Mib,
    /// The public and the secret random streams, and the keyed hashes.
    pub(crate) rng: Rng,
    /// Every deadline of the stack.
    pub(crate) timers: Wheel<crate::timer::PackedKey>,
    /// Free chunks for the connections' byte queues.
    pub(crate) pool: Pool,
    /// Send queues for the connections that will send next.
    pub(crate) queues: Spare<crate::tcp::snd::queue::SendQueue>,
    /// The same of connections, their handshakes, and sockets without one.
    pub(crate) conns: Spare<crate::tcp::conn::Conn>,
    pub(crate) openings: Spare<crate::tcp::connect::Opening>,
    pub(crate) idles: Spare<crate::sock::id::Idle>,
    /// How TCP stands with its memory (`tcp_mem`).
    pub(crate) memory: Memory,
    /// Interfaces, routes, path MTUs, reassembly, neighbours, and stateless replies on their way out.
    pub(crate) ip: Ip,
    /// What the application will be told.
    pub(crate) events: EventQueue,
    /// Challenge ACKs left this second (`tcp_challenge_ack_limit`).
    pub(crate) challenges: crate::tcp::validate::ChallengeBudget,
    /// What clients' Fast Opens remember.
    pub(crate) fast_open: crate::tcp::fastopen::cache::Client,
    /// What is remembered of paths.
    pub(crate) metrics: crate::tcp::metrics::Metrics,
    /// Connections that no application holds (`tcp_max_orphans`).
    pub(crate) orphans: u32,
    /// No device takes anything: see [`crate::Stack::set_output_full`].
    pub(crate) output_full: bool,
    /// Whether the application takes text from the packet that is being served.
    pub(crate) lending: Lending,
    /// Who listens to what happens.
    pub(crate) trace: Sink,
}

/// Text that an application may take from a packet itself: see [`crate::Stack::handle_packet_with`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Lending {
    #[default]
    Never,
    Wanted,
    /// The last so many bytes of the packet are this socket's, and not in its queue.
    Lent(SocketId, usize),
}

impl Env {
    /// Everything at its start.
    pub(crate) fn new(now: Instant, config: Config) -> Env {
        let mut rng = Rng::new(config.seed);
        Env {
            now,
            started: now,
            unix_time: config.unix_time,
            sysctl: Sysctls::with_memory(config.memory),
            mib: Mib::new(),
            ip: Ip::new(&mut rng),
            metrics: crate::tcp::metrics::Metrics::new(&rng),
            fast_open: crate::tcp::fastopen::cache::Client::new(&rng),
            rng,
            timers: Wheel::new(now),
            pool: Pool::default(),
            queues: Spare::default(),
            conns: Spare::default(),
            openings: Spare::default(),
            idles: Spare::default(),
            memory: Memory::default(),
            events: EventQueue::default(),
            challenges: Default::default(),
            orphans: 0,
            output_full: false,
            lending: Lending::Never,
            trace: Sink::default(),
        }
    }

    /// What a connection's receiver works with.
    pub(crate) fn rcv(&mut self) -> crate::tcp::rcv::Cx<'_> {
        crate::tcp::rcv::Cx {
            now: self.now,
            sysctl: &self.sysctl,
            mib: &mut self.mib,
            pool: &mut self.pool,
            memory: self.memory,
        }
    }

    /// Milliseconds of the clock, which wrap: what timestamps count (Linux: `tcp_jiffies32`).
    pub(crate) fn now_ms(&self) -> u32 {
        self.now.millis() as u32
    }

    /// Tells the sink, if there is one, what `kind` says.
    #[inline]
    pub(crate) fn trace(&mut self, tuple: &Tuple, kind: impl FnOnce() -> TraceKind) {
        if self.trace.0.is_some() {
            self.tell(tuple, kind);
        }
    }

    #[cold]
    fn tell(&mut self, tuple: &Tuple, kind: impl FnOnce() -> TraceKind) {
        if let Some(sink) = self.trace.0.as_mut() {
            sink.event(&TraceEvent {
                at_ns: self.now.nanos(),
                local: tuple.local(),
                remote: tuple.remote(),
                kind: kind(),
            });
        }
    }
}
