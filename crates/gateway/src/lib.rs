//! A network namespace's connections carried out through the host's sockets.
//!
//! [`ns::launch`] makes the namespace and its TUN; a [`Gateway`] serves the TUN's queues, one thread each
//! (`worker`): the engine speaks TCP with the guest, and each connection is spliced to a socket of the host
//! (`open`, `tcp`), each UDP flow likewise (`udp`). Names, pings and published ports are beside them (`dns`,
//! `ping`, `publish`), and what shields published ports from floods (`syn_proxy`). A [`GatewayHandle`] looks inside from any thread.

mod config;
mod core;
mod dns;
mod handle;
mod hostaddr;
mod limits;
pub mod ns;
mod open;
mod patience;
mod ping;
mod publish;
mod queue;
mod status;
mod syn_proxy;
mod sys;
mod table;
mod tcp;
mod udp;
mod worker;

pub use config::{Config, Publish, PublishError, Transport};
pub use dns::resolvers_of;
pub use handle::GatewayHandle;
pub use publish::BindError;
pub use queue::Queue;
pub use syn_proxy::tun::{SynProxyError, SynProxyTun, open as open_syn_proxy};

use crate::core::{Core, Stats};
use crate::limits::Limits;
use crate::syn_proxy::SynProxy;
use crate::worker::{Clock, Inbox, Message, Parts, Worker};
use estab_engine::{Stack, TraceSink};
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A published port can't be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A sysctl that a stack doesn't know.
    #[error("cannot set sysctl {0}: {1}")]
    Sysctl(String, String),
    /// A system call failed that should not.
    #[error("cannot start the gateway: {0}")]
    Io(#[from] io::Error),
}

/// A running gateway.
pub struct Gateway {
    handle: GatewayHandle,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Gateway {
    /// Serves `queues`, each on a thread of its own. `clients` are the queues of the SYN proxy's TUN ([`open_syn_proxy`]), as many,
    /// or none: published TCP ports are the host's own then. `trace` makes the sink of each stack's events.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub fn start(
        config: Config,
        queues: Vec<Queue>,
        clients: Vec<Queue>,
        mut trace: impl FnMut() -> Option<Box<dyn TraceSink + Send>>,
    ) -> Result<Gateway, StartError> {
        let shielded = !clients.is_empty();
        let of_host = |publish: &&Publish| publish.transport == Transport::Udp || !shielded;
        let ports = publish::bind(config.publish.iter().filter(of_host))?;
        let inboxes: Arc<[Inbox]> = queues.iter().map(|_| Inbox::new()).collect::<io::Result<_>>()?;
        let stats: Vec<Arc<Stats>> = queues.iter().map(|_| Arc::default()).collect();
        let clock = Clock(std::time::Instant::now());
        let memory = config.memory / (queues.len() + clients.len()).max(1) as u64;
        let endpoints = syn_proxy::endpoints(&config);
        let config = Arc::new(config);
        let limits = Arc::new(Limits::new());
        let mut new_stack = || -> Result<Stack, StartError> {
            let mut stack = Stack::new(clock.now(), stack_config(memory)?);
            for (name, value) in &config.sysctls {
                stack
                    .set_sysctl(name, value)
                    .map_err(|err| StartError::Sysctl(name.clone(), err.to_string()))?;
            }
            stack.trace_to(trace());
            Ok(stack)
        };
        let mut workers = Vec::new();
        let mut clients = clients.into_iter();
        for (index, queue) in queues.into_iter().enumerate() {
            let core = Core::new(
                new_stack()?,
                clock.now(),
                config.clone(),
                limits.clone(),
                stats[index].clone(),
            )
            .map_err(io::Error::from)?;
            let syn_proxy = match clients.next() {
                Some(queue) => Some(Box::new(SynProxy::new(new_stack()?, core.now, queue, &endpoints)?)),
                None => None,
            };
            let (inboxes, stats, ports) = (inboxes.clone(), stats.clone(), ports.clone());
            workers.push(Worker::new(
                core,
                Parts {
                    index,
                    queue,
                    clock,
                    inboxes,
                    stats,
                    ports,
                    syn_proxy,
                },
            )?);
        }
        let spawn = |(index, worker): (usize, Worker)| {
            std::thread::Builder::new()
                .name(format!("gateway-{index}"))
                .spawn(move || worker.run())
        };
        let threads = workers.into_iter().enumerate().map(spawn).collect::<io::Result<_>>()?;
        Ok(Gateway {
            handle: GatewayHandle::new(inboxes),
            threads,
        })
    }

    /// Looks inside from another thread.
    pub fn handle(&self) -> GatewayHandle {
        self.handle.clone()
    }

    /// The guest's command has ended: what it wrote just before still reaches the host, in bounded time; then every
    /// worker stops.
    pub fn finish(self) {
        self.handle.each(|inbox| inbox.put(Message::Finish));
        for thread in self.threads {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(err)) => tracing::error!("a worker of the gateway has failed: {err}"),
                Err(_) => tracing::error!("a worker of the gateway has panicked"),
            }
        }
    }
}

fn stack_config(memory: u64) -> io::Result<estab_engine::Config> {
    let mut seed = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut seed)?;
    let unix_time = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    Ok(estab_engine::Config {
        seed,
        memory,
        unix_time,
    })
}

/// The resolvers of this machine's /etc/resolv.conf.
pub fn host_resolvers() -> Vec<SocketAddr> {
    resolvers_of(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
}

/// Bytes of memory this machine has; 1 GiB where it isn't told.
pub fn host_memory() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    total
        .and_then(|kib| kib.trim().parse::<u64>().ok())
        .map_or(1 << 30, |kib| kib * 1024)
}
