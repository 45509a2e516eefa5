//! One measurement: two network namespaces, a TUN in each, and links on real time between the two.
//!
//! In each namespace the kernel's TCP has an address, and where it is asked for an estab stack has another, on a second
//! TUN behind which the namespace's kernel forwards. So all flows of a direction share one link, whosever they are.

use estab_device::{Offloads, Tun, TunConfig};
use estab_sim::{Bridge, LinkConfig, LinkStats};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Who speaks TCP at an end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Who {
    Linux,
    Estab,
}

impl Who {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Who::Linux => "Linux",
            Who::Estab => "estab",
        }
    }

    /// Its address on side `side`.
    fn address(self, side: usize) -> String {
        format!("10.9.{}.{}", side + 1, self as u8 + 1)
    }
}

/// A bulk transfer from side 0 to side 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Flow {
    pub(crate) from: Who,
    pub(crate) to: Who,
}

/// The path, alike in both directions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    /// Bits per second.
    pub(crate) rate: u64,
    pub(crate) rtt: Duration,
    pub(crate) loss: f64,
    pub(crate) reorder: f64,
    pub(crate) seed: u64,
}

impl Path {
    fn link(&self, direction: u64) -> LinkConfig {
        let bdp = u128::from(self.rate) * self.rtt.as_nanos() / 8_000_000_000;
        LinkConfig {
            rate: Some(self.rate),
            delay: self.rtt / 2,
            buffer: bdp as usize,
            loss: self.loss,
            reorder: self.reorder,
            seed: self.seed * 2 + direction,
            ..LinkConfig::default()
        }
    }
}

/// What a measurement gave.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Of each flow: bytes that the receiving application read, per second from its first byte on.
    pub(crate) goodput: Vec<f64>,
    pub(crate) links: [LinkStats; 2],
    /// What each sender's stack counted meanwhile.
    pub(crate) counters: Vec<BTreeMap<String, u64>>,
}

impl Outcome {
    /// The share of packets that the emulator delivered late, in the worse direction.
    pub(crate) fn late(&self) -> f64 {
        let share = |link: &LinkStats| link.late as f64 / link.delivered.max(1) as f64;
        share(&self.links[0]).max(share(&self.links[1]))
    }
}

const CONGESTION: &str = "cubic";
const PORT: u16 = 5001;
/// How long an open may take, and a write or read that brings nothing.
const PATIENCE: Duration = Duration::from_secs(30);
const NAP: Duration = Duration::from_millis(100);
/// How long the stacks may take to get ready; then the flows start, each so long after the one before it.
const READY: Duration = Duration::from_millis(200);
const HEADSTART: Duration = Duration::from_millis(10);

/// Lets `flows` send for `length`; they start in that order.
pub(crate) fn run(flows: &[Flow], path: &Path, length: Duration) -> io::Result<Outcome> {
    let stop = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (wan_tx, left_wan) = mpsc::channel();
        let (go, gone) = mpsc::channel::<()>();
        let left = scope.spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut side = Side::new(0, flows.iter().map(|flow| flow.from), wan_tx)?;
                side.connect_wan();
                // Disconnected: the other side failed.
                gone.recv().map_err(io::Error::other)?;
                side.send(flows, Instant::now() + READY, &stop)
            }
        });
        let (wan_tx, right_wan) = mpsc::channel();
        let right = scope.spawn(move || {
            let side = Side::new(1, flows.iter().map(|flow| flow.to), wan_tx)?;
            side.receive(flows, length)
        });
        let wans = left_wan.recv().and_then(|left| Ok((left, right_wan.recv()?)));
        let bridge = match wans {
            Ok((a, b)) => Some(Bridge::start(a, b, path.link(0), path.link(1))?),
            Err(_) => None,
        };
        if bridge.is_some() {
            // Should that side be gone, its result says why.
            let _ = go.send(());
        }
        drop(go);
        let received = right.join().expect("a side does not panic");
        stop.store(true, Ordering::Relaxed);
        let counters = left.join().expect("a side does not panic");
        let (goodput, counters) = (received?, counters?);
        let (ab, ba) = bridge.ok_or_else(|| io::Error::other("no link"))?.stop()?;
        Ok(Outcome {
            goodput,
            links: [ab, ba],
            counters,
        })
    })
}

/// A namespace that the calling thread has entered for good.
struct Side {
    number: usize,
    /// The TUN of the estab stack, if there is one.
    tun: Option<Tun>,
    wan: Option<(mpsc::Sender<Tun>, Tun)>,
}

impl Side {
    fn new(number: usize, who: impl Iterator<Item = Who>, wan_to: mpsc::Sender<Tun>) -> io::Result<Side> {
        use rustix::thread::{UnshareFlags, unshare_unsafe};
        // SAFETY: a network namespace is the thread's own affair; nothing in memory is unshared.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
        let estab = who.into_iter().any(|who| who == Who::Estab);
        // The link wants packets as they are on a wire; the stack's TUN takes what a network card takes.
        let bare = Offloads {
            csum: false,
            tso: false,
            uso: false,
        };
        let wan = tun("wan", bare)?;
        let tun = estab.then(|| tun("estab", Offloads::default())).transpose()?;
        let own = Who::Linux.address(number);
        let mut script = format!(
            "ip link set lo up; ip link set wan up mtu 1500 txqueuelen 10000; ip addr add {own}/32 dev wan; \
             ip route add 10.9.{}.0/24 dev wan src {own};",
            2 - number
        );
        if estab {
            let its = Who::Estab.address(number);
            script += &format!("ip link set estab up mtu 1500 txqueuelen 10000; ip route add {its}/32 dev estab;");
        }
        sh(&script)?;
        for (name, value) in [
            ("net/ipv4/ip_forward", "1"),
            // What one run learned of the path must not help the next.
            ("net/ipv4/tcp_no_metrics_save", "1"),
        ] {
            std::fs::write(format!("/proc/sys/{name}"), value)?;
        }
        Ok(Side {
            number,
            tun,
            wan: Some((wan_to, wan)),
        })
    }

    /// The link begins to carry packets.
    fn connect_wan(&mut self) {
        if let Some((to, wan)) = self.wan.take() {
            // Nobody there: the other side failed, and its result says why.
            let _ = to.send(wan);
        }
    }

    /// An estab stack as the kernel's is: the same congestion control, the same buffers.
    fn stack(&mut self) -> io::Result<estab_tokio::Stack> {
        let tun = self.tun.take().ok_or_else(|| io::Error::other("no TUN for estab"))?;
        let stack = estab_tokio::Stack::builder()
            .address(&format!("{}/32", Who::Estab.address(self.number)))
            .gateway(&Who::Linux.address(self.number))
            .memory(4 << 30)
            .on_tun(tun)?;
        let mut sysctls = vec![("tcp_congestion_control", CONGESTION.to_string())];
        for name in ["tcp_rmem", "tcp_wmem"] {
            sysctls.push((name, std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"))?));
        }
        for (name, value) in sysctls {
            stack
                .with_engine(|_, engine| engine.set_sysctl(&format!("net.ipv4.{name}"), value.trim()))
                .map_err(io::Error::other)?;
        }
        Ok(stack)
    }
}

fn tun(name: &str, offloads: Offloads) -> io::Result<Tun> {
    let config = TunConfig {
        name: name.into(),
        offloads,
        ..TunConfig::default()
    };
    Ok(Tun::open(&config, 1)?.remove(0))
}

fn sh(script: &str) -> io::Result<()> {
    let status = Command::new("sh").args(["-ec", script]).status()?;
    match status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("{script}: {status}"))),
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn address(who: Who, side: usize, flow: usize) -> SocketAddr {
    let address = format!("{}:{}", who.address(side), usize::from(PORT) + flow);
    address.parse().expect("it is an address")
}

// --- receiving

impl Side {
    /// Takes `flows`; bits per second of each, from its first byte on.
    fn receive(mut self, flows: &[Flow], length: Duration) -> io::Result<Vec<f64>> {
        let mut kernels = Vec::new();
        for (number, flow) in flows.iter().enumerate().filter(|(_, flow)| flow.to == Who::Linux) {
            let listener = TcpListener::bind(address(flow.to, 1, number))?;
            rustix::net::sockopt::set_socket_timeout(&listener, rustix::net::sockopt::Timeout::Recv, Some(PATIENCE))?;
            kernels.push((number, listener));
        }
        let mut goodput = vec![0.0; flows.len()];
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for (number, listener) in kernels {
                threads.push((number, scope.spawn(move || kernel_receives(&listener, length))));
            }
            if flows.iter().any(|flow| flow.to == Who::Estab) {
                for (number, rate) in runtime()?.block_on(self.estab_receives(flows, length))? {
                    goodput[number] = rate;
                }
            } else {
                self.connect_wan();
            }
            for (number, thread) in threads {
                goodput[number] = thread.join().expect("a receiver does not panic")?;
            }
            Ok(goodput)
        })
    }

    async fn estab_receives(&mut self, flows: &[Flow], length: Duration) -> io::Result<Vec<(usize, f64)>> {
        let stack = self.stack()?;
        let mut tasks = Vec::new();
        for (number, flow) in flows.iter().enumerate().filter(|(_, flow)| flow.to == Who::Estab) {
            let listener = stack
                .scope(estab_tokio::TcpListener::bind(address(flow.to, 1, number)))
                .await?;
            tasks.push((number, tokio::spawn(estab_receives(listener, length))));
        }
        self.connect_wan();
        let mut goodput = Vec::new();
        for (number, task) in tasks {
            goodput.push((number, task.await.map_err(io::Error::other)??));
        }
        Ok(goodput)
    }
}

/// Bytes read so far, and since when.
#[derive(Default)]
struct Meter {
    bytes: u64,
    since: Option<Instant>,
}

impl Meter {
    /// Takes `n` bytes; the goodput once `length` is over since the first.
    fn take(&mut self, n: usize, length: Duration) -> Option<f64> {
        if n > 0 {
            self.since.get_or_insert_with(Instant::now);
        }
        let passed = self.since?.elapsed();
        if passed >= length {
            return Some(self.bytes as f64 * 8.0 / passed.as_secs_f64());
        }
        self.bytes += n as u64;
        None
    }
}

fn ended() -> io::Error {
    io::Error::other("the sender ended early")
}

fn kernel_receives(listener: &TcpListener, length: Duration) -> io::Result<f64> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(NAP))?;
    let mut buf = vec![0; 1 << 18];
    let mut meter = Meter::default();
    loop {
        let n = match stream.read(&mut buf) {
            Ok(0) => return Err(ended()),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
            Err(e) => return Err(e),
        };
        if let Some(goodput) = meter.take(n, length) {
            return Ok(goodput);
        }
    }
}

async fn estab_receives(listener: estab_tokio::TcpListener, length: Duration) -> io::Result<f64> {
    let (mut stream, _) = tokio::time::timeout(PATIENCE, listener.accept()).await??;
    let mut buf = vec![0; 1 << 18];
    let mut meter = Meter::default();
    loop {
        let n = match tokio::time::timeout(NAP, stream.read(&mut buf)).await {
            Ok(Ok(0)) => return Err(ended()),
            Ok(n) => n?,
            Err(_) => 0,
        };
        if let Some(goodput) = meter.take(n, length) {
            return Ok(goodput);
        }
    }
}

// --- sending

impl Side {
    /// Sends `flows`, the first from `begin` on, until `stop`; what each one's stack counted.
    fn send(mut self, flows: &[Flow], begin: Instant, stop: &AtomicBool) -> io::Result<Vec<BTreeMap<String, u64>>> {
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for (number, flow) in flows.iter().enumerate().filter(|(_, flow)| flow.from == Who::Linux) {
                let to = address(flow.to, 1, number);
                threads.push(scope.spawn(move || {
                    std::thread::sleep(start_of(number, begin).saturating_duration_since(Instant::now()));
                    kernel_sends(to, stop)
                }));
            }
            let mut estab = None;
            if flows.iter().any(|flow| flow.from == Who::Estab) {
                estab = Some(runtime()?.block_on(self.estab_sends(flows, begin, stop))?);
            }
            for thread in threads {
                thread.join().expect("a sender does not panic")?;
            }
            flows
                .iter()
                .map(|flow| match (flow.from, &estab) {
                    (Who::Estab, Some(counters)) => Ok(counters.clone()),
                    _ => kernel_counters(),
                })
                .collect()
        })
    }

    async fn estab_sends(
        &mut self,
        flows: &[Flow],
        begin: Instant,
        stop: &AtomicBool,
    ) -> io::Result<BTreeMap<String, u64>> {
        let stack = self.stack()?;
        let mut tasks = Vec::new();
        for (number, flow) in flows.iter().enumerate().filter(|(_, flow)| flow.from == Who::Estab) {
            let to = address(flow.to, 1, number);
            let stack = stack.clone();
            tasks.push(tokio::spawn(async move {
                tokio::time::sleep_until(start_of(number, begin).into()).await;
                let stream = stack.scope(estab_tokio::TcpStream::connect(to)).await?;
                estab_sends(stream).await
            }));
        }
        while !stop.load(Ordering::Relaxed) && !tasks.iter().any(|task| task.is_finished()) {
            tokio::time::sleep(NAP).await;
        }
        for task in tasks {
            // Who is still writing ends here; who has ended did so because the receiver left, or says why.
            if task.is_finished() && !stop.load(Ordering::Relaxed) {
                task.await.map_err(io::Error::other)??;
            } else {
                task.abort();
            }
        }
        Ok(stack.with_engine(|_, engine| {
            let counters = engine.counters().iter();
            counters.map(|(counter, n)| (short(counter.name()), n)).collect()
        }))
    }
}

/// When flow `number` starts.
fn start_of(number: usize, begin: Instant) -> Instant {
    begin + HEADSTART * number as u32
}

fn kernel_sends(to: SocketAddr, stop: &AtomicBool) -> io::Result<()> {
    // Not by sysctl, which only the first namespace may set to what an administrator has restricted; and before the
    // connection is there, since some controls leave their mark on it.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_tcp_congestion(CONGESTION.as_bytes())?;
    socket.connect_timeout(&to.into(), PATIENCE)?;
    let mut stream = TcpStream::from(socket);
    stream.set_write_timeout(Some(NAP))?;
    let buf = vec![0; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        match stream.write(&buf) {
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => {
                // The receiver has left.
                std::thread::sleep(NAP * 2);
                return if stop.load(Ordering::Relaxed) { Ok(()) } else { Err(e) };
            }
            _ => {}
        }
    }
    Ok(())
}

async fn estab_sends(mut stream: estab_tokio::TcpStream) -> io::Result<()> {
    let buf = vec![0; 1 << 16];
    loop {
        if let Err(e) = stream.write_all(&buf).await {
            // The receiver may have left: whoever watches knows soon.
            tokio::time::sleep(NAP * 4).await;
            return Err(e);
        }
    }
}

/// The calling thread's namespace's, by Linux's names.
fn kernel_counters() -> io::Result<BTreeMap<String, u64>> {
    let mut counters = BTreeMap::new();
    for file in ["snmp", "netstat"] {
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{file}"))?;
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.chunks_exact(2).filter(|pair| pair[0].starts_with("Tcp")) {
            let names = pair[0].split_whitespace().skip(1);
            let values = pair[1].split_whitespace().skip(1);
            counters.extend(names.zip(values).map(|(name, n)| (short(name), n.parse().unwrap_or(0))));
        }
    }
    Ok(counters)
}

/// A counter's name without its group.
fn short(name: &str) -> String {
    let group = ["TcpExt", "Tcp"].iter().find_map(|group| name.strip_prefix(group));
    group.unwrap_or(name).to_string()
}
