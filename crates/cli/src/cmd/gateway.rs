//! `estab gateway`: a command in a network of its own.

use anyhow::{Context, Result};
use estab_control::{About, Inspect};
use estab_device::{Pcapng, Tun};
use estab_engine::TraceSink;
use estab_engine::proto::{SockDiag, TraceEvent};
use estab_gateway::ns::{self, LaunchConfig, LaunchError};
use estab_gateway::{Config, Gateway, GatewayHandle, Publish, Queue};
use estab_ladder::{Collector, Limits};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

/// Run a command in a network of its own, without root: estab carries its connections through the host's sockets
///
/// The command sees the host as host.estab and estab itself as gateway.estab, where a status page is.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Publish a port of the guest on the host: `[ADDR:]PORT:GUEST[/udp]`; ADDR is 127.0.0.1 unless given
    #[arg(short, long, value_name = "[ADDR:]PORT:GUEST[/udp]")]
    publish: Vec<Publish>,
    /// Answer published TCP ports by estab itself: its SYN cookies meet floods, and the command gets only connections whose
    /// handshake is complete. Each port is at ADDR, an address of its own that is routed here, or at the guest's address.
    /// Needs CAP_NET_ADMIN on the host, or a TUN that root has made and routed
    #[arg(
        long,
        value_name = "TUN",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = ""
    )]
    syn_proxy: Option<String>,
    /// Let host.estab reach what listens on the host's loopback
    #[arg(long)]
    host_loopback: bool,
    /// Where DNS queries go, instead of the host's own resolvers
    #[arg(long, value_name = "ADDR", value_parser = resolver)]
    dns: Vec<SocketAddr>,
    /// The MTU of the guest's interface, in bytes; 65520 unless given
    #[arg(long, value_name = "BYTES")]
    mtu: Option<u32>,
    /// Record the guest's packets, and those of the SYN proxy's clients, in a pcapng file
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// When the command has ended, draw each connection as a ladder, to standard error
    #[arg(long)]
    ladder: bool,
    /// Event loops, each with its own stack; one per core unless given
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// IPv4 only
    #[arg(short = '4', conflicts_with = "ipv6_only")]
    ipv4_only: bool,
    /// IPv6 only
    #[arg(short = '6')]
    ipv6_only: bool,
    /// Tell more of what happens
    #[arg(short, long)]
    verbose: bool,
    /// The command and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    command: Vec<OsString>,
}

/// More event loops than this don't pay on any machine seen so far.
const MAX_THREADS: usize = 16;

fn resolver(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
    address
        .or_else(|_| text.parse::<SocketAddr>())
        .map_err(|_| "not an IP address, with or without a port".into())
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    log_to_stderr(args.verbose);
    match carry(&args) {
        Err(err) => match err.downcast_ref::<LaunchError>() {
            Some(launch) => {
                anstream::eprintln!("estab gateway: {launch}");
                Ok(ExitCode::from(launch.exit_code()))
            }
            None => {
                anstream::eprintln!("estab gateway: {err:#}");
                // As env(1) and timeout(1) do for failures of their own.
                Ok(ExitCode::from(125))
            }
        },
        done => done,
    }
}

fn carry(args: &Args) -> Result<ExitCode> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut launch = LaunchConfig::detect();
    launch.queues = args.threads.unwrap_or(cores.min(MAX_THREADS));
    launch.mtu = args.mtu.unwrap_or(launch.mtu);
    if args.ipv4_only {
        launch.ipv6 = None;
    }
    if args.ipv6_only {
        launch.ipv4 = None;
    }
    launch.name_hosts();
    let pcapng = args.pcap.as_ref().map(capture).transpose()?;

    // Before any thread is started.
    let mut guest = ns::launch(&launch, &args.command)?;
    for warning in &guest.warnings {
        tracing::warn!("{warning}");
    }
    let config = Config {
        ipv4: launch.ipv4,
        ipv6: launch.ipv6,
        publish: args.publish.clone(),
        host_loopback: args.host_loopback,
        resolvers: if args.dns.is_empty() {
            estab_gateway::host_resolvers()
        } else {
            args.dns.clone()
        },
        memory: estab_gateway::host_memory(),
        sysctls: Vec::new(),
    };
    let queues = Queue::of_tun(std::mem::take(&mut guest.tuns), pcapng.as_ref()).context("cannot use the TUN")?;
    let clients = syn_proxy(args, &config, queues.len())?;
    let clients = Queue::of_tun(clients, pcapng.as_ref()).context("cannot use the SYN proxy's TUN")?;
    let ladder = args
        .ladder
        .then(|| Arc::new(Mutex::new(Collector::new(Limits::default()))));
    let sink = || {
        ladder
            .clone()
            .map(|collector| Box::new(Ladder(collector)) as Box<dyn TraceSink + Send>)
    };
    let gateway = Gateway::start(config, queues, clients, sink)?;
    let control = control(gateway.handle(), args);

    guest.start()?;
    let status = guest.wait().context("cannot wait for the command")?;
    gateway.finish();
    drop(control);
    if let Some(collector) = ladder {
        let collector = collector.lock().unwrap_or_else(PoisonError::into_inner);
        anstream::eprint!("{}", estab_ladder::text::render_all(&collector));
    }
    Ok(ExitCode::from(ns::exit_code(status)))
}

/// The TUN that clients of published ports come by; without `--syn-proxy` they come to the host's sockets.
fn syn_proxy(args: &Args, config: &Config, queues: usize) -> Result<Vec<Tun>> {
    let Some(named) = &args.syn_proxy else {
        return Ok(Vec::new());
    };
    let named = Some(named.as_str()).filter(|name| !name.is_empty());
    let tun = estab_gateway::open_syn_proxy(config, named, queues)?;
    for warning in &tun.warnings {
        tracing::warn!("{warning}");
    }
    // Nobody can guess the guest's address.
    if args.publish.iter().any(|publish| publish.address.is_none()) {
        let published: Vec<String> = tun.published.iter().map(ToString::to_string).collect();
        anstream::eprintln!("estab gateway: published at {}", published.join(" and "));
    }
    Ok(tun.queues)
}

fn capture(path: &PathBuf) -> Result<Pcapng> {
    let shown = path.display().to_string();
    let failed = shown.clone();
    let on_error = move |err| tracing::warn!("the capture in {failed} has ended: {err}");
    Pcapng::create(path, on_error).with_context(|| format!("cannot write the capture {shown}"))
}

/// The control socket, by which `estab ss` and the like look inside. A gateway does its work without it too.
fn control(handle: GatewayHandle, args: &Args) -> Option<estab_control::Server> {
    let about = About {
        schema: estab_control::SCHEMA,
        role: "gateway".into(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").into(),
        command: args
            .command
            .iter()
            .map(|arg| arg.to_string_lossy().into_owned())
            .collect(),
    };
    let served = estab_control::serve(&estab_control::path::dir(), about, Arc::new(Running(handle)));
    served
        .inspect_err(|err| tracing::warn!("estab ss and the like can't look inside: {err}"))
        .ok()
}

/// A gateway, as those who look inside see it.
struct Running(GatewayHandle);

impl Inspect for Running {
    fn sockets(&self) -> Vec<SockDiag> {
        self.0.diag()
    }

    fn counters(&self) -> BTreeMap<String, u64> {
        self.0.counters()
    }

    fn sysctl(&self, name: &str) -> Option<String> {
        self.0.sysctl(name)
    }

    fn set_sysctl(&self, name: &str, value: &str) -> Result<(), String> {
        self.0.set_sysctl(name, value).map_err(|err| err.to_string())
    }
}

/// Gathers every stack's events for the ladders.
struct Ladder(Arc<Mutex<Collector>>);

impl TraceSink for Ladder {
    fn event(&mut self, event: &TraceEvent) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(event);
    }
}

fn log_to_stderr(verbose: bool) {
    let level = if verbose {
        tracing::Level::DEBUG
    } else {
        tracing::Level::WARN
    };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_max_level(level)
        .with_target(false)
        .without_time()
        .init();
}
