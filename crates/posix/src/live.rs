//! The stack on real time over a TUN: what ordinary programs use. A thread of its own moves packets and runs timers; the
//! socket calls run in the caller's thread, under the world's lock.

use crate::calls;
use crate::world::{self, World};
use estab_device::{Device, Offloads, Rx, RxCsum, Tun, TunConfig, Tx, TxCsum, handover};
use estab_engine::proto::State;
use estab_engine::{Config, CsumTx, IfaceConfig, IfaceId, Instant, Medium, RxMeta, Stack, Transmit};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Packets taken from the TUN before callers get their turn at the lock.
const BATCH: usize = 64;

/// What a live stack is told: `tun=NAME local=ADDR/PREFIX gateway=ADDR mtu=N timewaits=FILE`, and settings by Linux's
/// names (`net.ipv4.tcp_fin_timeout=30`). `local` and `gateway` may be repeated.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    tun: String,
    mtu: Option<u32>,
    local: Vec<(IpAddr, u8)>,
    gateways: Vec<IpAddr>,
    /// Where the stack finds its predecessor's TIME_WAITs and leaves its own.
    timewaits: Option<PathBuf>,
    settings: Vec<(String, String)>,
}

impl Plan {
    /// Reads the words of `text`; what is wrong with the first that can't be taken.
    pub(crate) fn parse(text: &str) -> Result<Plan, String> {
        let mut plan = Plan::default();
        for word in text.split_whitespace() {
            let Some((key, value)) = word.split_once('=') else {
                return Err(format!("{word:?} is not of the form KEY=VALUE"));
            };
            match key {
                "tun" => plan.tun = value.to_string(),
                "mtu" => {
                    let mtu = value.parse().ok().filter(|mtu| (576..=65535).contains(mtu));
                    plan.mtu = Some(mtu.ok_or(format!("{word:?}: an MTU is 576 to 65535 bytes"))?);
                }
                "local" => plan.local.push(cidr(value).ok_or(format!(
                    "{word:?} is not an address with a prefix length, like local=10.0.0.2/24"
                ))?),
                "gateway" => plan
                    .gateways
                    .push(value.parse().map_err(|_| format!("{word:?} is not an IP address"))?),
                "timewaits" => plan.timewaits = Some(value.into()),
                _ if key.contains('.') => plan.settings.push((key.to_string(), value.to_string())),
                _ => {
                    return Err(format!(
                        "{key:?} is none of tun, local, gateway, mtu, timewaits and no setting's name"
                    ));
                }
            }
        }
        if plan.tun.is_empty() || plan.local.is_empty() {
            return Err("a stack needs at least tun=NAME and local=ADDR/PREFIX".to_string());
        }
        Ok(plan)
    }
}

fn cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (addr, prefix) = text.split_once('/')?;
    let addr: IpAddr = addr.parse().ok()?;
    let prefix = prefix.parse().ok()?;
    (prefix <= if addr.is_ipv4() { 32 } else { 128 }).then_some((addr, prefix))
}

/// The live half of a world: the TUN, the real clock, and the thread that waits for both.
pub(crate) struct Live {
    started: std::time::Instant,
    tun: Tun,
    /// A packet that the TUN had no room for.
    held: Option<(Vec<u8>, Tx)>,
    rx: Vec<u8>,
    /// The file in which the TIME_WAITs are left.
    timewaits: Option<PathBuf>,
    /// Wakes the thread before the time it sleeps until (`None`: for ever).
    kick: Arc<OwnedFd>,
    asleep_until: Option<Instant>,
}

impl Live {
    pub(crate) fn now(&self) -> Instant {
        Instant::ZERO + self.started.elapsed()
    }

    /// Whether the TUN takes another packet; sends the one held back first.
    pub(crate) fn has_room(&mut self) -> bool {
        if let Some((packet, tx)) = self.held.take() {
            self.put(&packet, tx);
        }
        self.held.is_none()
    }

    pub(crate) fn send(&mut self, packet: &[u8], transmit: &Transmit) {
        let csum = match transmit.csum {
            CsumTx::Full => TxCsum::Full,
            CsumTx::Partial { start, offset } => TxCsum::Partial { start, offset },
        };
        let gso_size = transmit.gso;
        self.put(packet, Tx { csum, gso_size });
    }

    fn put(&mut self, packet: &[u8], tx: Tx) {
        match self.tun.send(packet, tx) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.held = Some((packet.to_vec(), tx)),
            // As on any wire, a packet that the device refuses is lost, and TCP sends it again.
            Ok(()) | Err(_) => {}
        }
    }

    /// The next packet that arrived.
    pub(crate) fn receive(&mut self) -> io::Result<Option<(&[u8], RxMeta)>> {
        let Some(Rx { len, csum, gso_size }) = self.tun.recv(&mut self.rx)? else {
            return Ok(None);
        };
        let csum = match csum {
            RxCsum::Unchecked => estab_engine::RxCsum::Unchecked,
            RxCsum::Verified => estab_engine::RxCsum::Verified,
            RxCsum::Partial { .. } => estab_engine::RxCsum::Partial,
        };
        Ok(Some((&self.rx[..len], RxMeta { csum, gso_size })))
    }

    /// The stack's next deadline is `next`: the thread must not sleep longer.
    pub(crate) fn deadline(&self, next: Option<Instant>) {
        let sooner = match (next, self.asleep_until) {
            (Some(next), Some(until)) => next < until,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if sooner || self.held.is_some() {
            // A full counter is a wake-up as well.
            let _ = rustix::io::write(&self.kick, &1u64.to_ne_bytes());
        }
    }
}

/// The process was forked: the thread that moves packets stayed behind.
static LOST: AtomicBool = AtomicBool::new(false);

extern "C" fn in_child() {
    LOST.store(true, Ordering::Relaxed);
}

/// Whether this process is a child of the one in which the stack runs.
pub(crate) fn is_lost() -> bool {
    LOST.load(Ordering::Relaxed)
}

/// How long a process's end waits for peers to take what was written.
const FAREWELL: Duration = Duration::from_secs(60);

/// The process ends: its sockets close as the kernel would close them, and what was written still goes out. A stack whose
/// process is gone can send nothing any more.
extern "C" fn at_exit() {
    if is_lost() {
        return;
    }
    let files = world::lock().as_ref().map_or_else(Vec::new, |world| world.files.all());
    for fd in files {
        // A connection that is gone already has nothing to close.
        let _ = calls::release(fd);
    }
    let mut guard = world::lock();
    let until = guard.as_ref().map(|world| world.now() + FAREWELL);
    while let Some(world) = guard.as_mut()
        && until.is_some_and(|until| world.now() < until)
        && world.is_sending()
    {
        guard = world::sleep(guard, until);
    }
    if let Some(World {
        stack,
        live: Some(live),
        ..
    }) = guard.as_mut()
        && let Some(path) = &live.timewaits
    {
        let text = stack.save_timewaits(live.now());
        if let Err(e) = handover::leave(path, &text) {
            eprintln!("estab: timewaits={}: can't leave the TIME_WAITs: {e}", path.display());
        }
    }
}

/// Takes over the TIME_WAITs that this stack's predecessor left at `path`, once. With them no quiet time is needed; without
/// them, as after a crash, `estab.tcp_quiet_time` holds.
fn inherit(stack: &mut Stack, path: &Path) -> Result<(), String> {
    let Some(text) = handover::left(path).map_err(|e| e.to_string())? else {
        return Ok(());
    };
    stack
        .restore_timewaits(Instant::ZERO, &text)
        .map_err(|e| e.to_string())?;
    let quiet = stack.set_sysctl("estab.tcp_quiet_time", "0");
    quiet.map_err(|e| e.to_string())?;
    handover::taken(path).map_err(|e| format!("it was read and can't be removed: {e}"))
}

/// Starts the process's stack. Afterwards the socket calls reach it from any thread.
///
/// # Errors
/// What was wrong: a word of the plan, the TUN, or a stack that runs already.
pub(crate) fn start(text: &str) -> Result<(), String> {
    let plan = Plan::parse(text)?;
    let config = TunConfig {
        name: plan.tun.clone(),
        mtu: plan.mtu.unwrap_or(1500),
        offloads: Offloads::default(),
        ..TunConfig::default()
    };
    let tun = Tun::open(&config, 1).map_err(|e| format!("can't open the TUN {:?}: {e}", plan.tun))?;
    let tun = tun.into_iter().next().ok_or("the TUN has no queue")?;
    let (mut stack, iface) = configure(&plan, &tun)?;
    if let Some(path) = &plan.timewaits {
        inherit(&mut stack, path).map_err(|wrong| format!("timewaits={}: {wrong}", path.display()))?;
    }
    let watched = tun.as_fd().try_clone_to_owned().map_err(|e| format!("the TUN: {e}"))?;
    let kick = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
    let kick = Arc::new(kick.map_err(|e| format!("eventfd: {e}"))?);
    let live = Live {
        started: std::time::Instant::now(),
        held: None,
        rx: vec![0; tun.recv_max()],
        timewaits: plan.timewaits,
        kick: Arc::clone(&kick),
        asleep_until: Some(Instant::ZERO),
        tun,
    };
    {
        let mut world = world::lock();
        if world.is_some() {
            return Err("this process has a stack already".to_string());
        }
        *world = Some(World::live(stack, iface, live));
    }
    // SAFETY: the handler only stores to an atomic, which is safe in a forked child.
    unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    // SAFETY: a function without arguments, called once on a normal end.
    unsafe { libc::atexit(at_exit) };
    let thread = std::thread::Builder::new().name("estab".to_string());
    match thread.spawn(move || drive(&watched, &kick)) {
        Ok(_) => Ok(()),
        Err(e) => {
            *world::lock() = None;
            Err(format!("can't start the stack's thread: {e}"))
        }
    }
}

fn configure(plan: &Plan, tun: &Tun) -> Result<(Stack, IfaceId), String> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|e| format!("no entropy: {e}"))?;
    let unix_time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let memory = 1 << 30;
    let config = Config {
        seed,
        memory,
        unix_time,
    };
    let mut stack = Stack::new(Instant::ZERO, config);
    let iface = stack.add_iface(IfaceConfig {
        name: "estab0",
        mtu: tun.mtu(),
        medium: Medium::Ip,
        gso_max_size: tun.gso_max_size(),
        csum_offload: tun.csum_offload(),
        transparent: false,
    });
    for (addr, prefix) in &plan.local {
        let added = stack.add_addr(iface, *addr, *prefix);
        added.map_err(|e| format!("local={addr}/{prefix}: {e}"))?;
    }
    for via in &plan.gateways {
        let everywhere: IpAddr = match via {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let added = stack.add_route(everywhere, 0, Some(*via), iface);
        added.map_err(|e| format!("gateway={via}: {e}"))?;
    }
    for (name, value) in &plan.settings {
        stack
            .set_sysctl(name, value)
            .map_err(|e| format!("{name}={value}: {e}"))?;
    }
    Ok((stack, iface))
}

/// The stack's thread: packets and timers, until the TUN fails.
fn drive(tun: &OwnedFd, kick: &OwnedFd) {
    loop {
        let mut guard = world::lock();
        let Some(world) = guard.as_mut() else { return };
        let Ok(more) = world.turn(BATCH) else { return };
        let (wait, full) = world.rest(more);
        drop(guard);
        if more {
            std::thread::yield_now();
            continue;
        }
        let events = if full {
            PollFlags::IN | PollFlags::OUT
        } else {
            PollFlags::IN
        };
        let mut fds = [PollFd::new(tun, events), PollFd::new(kick, PollFlags::IN)];
        let wait = wait.map(|wait| Timespec {
            tv_sec: wait.as_secs() as i64,
            tv_nsec: wait.subsec_nanos().into(),
        });
        // A signal or a timeout are reasons to look again, too; so is a wake-up, which is taken back here.
        let _ = rustix::event::poll(&mut fds, wait.as_ref());
        let _ = rustix::io::read(kick, &mut [0; 8][..]);
    }
}

impl World {
    /// Runs due timers and takes up to `batch` packets; whether there may be more.
    fn turn(&mut self, batch: usize) -> io::Result<bool> {
        self.run_due();
        let mut more = true;
        for _ in 0..batch {
            let Some(live) = &mut self.live else { break };
            let now = live.now();
            let Some((packet, meta)) = live.receive()? else {
                more = false;
                break;
            };
            self.stack.handle_packet(now, self.iface, packet, meta);
            self.transmit();
        }
        self.settle();
        Ok(more)
    }

    /// A peer has not acknowledged all that was written, or the end of it.
    fn is_sending(&self) -> bool {
        let sending = [State::FinWait1, State::Closing, State::LastAck];
        self.stack.diag(self.now()).any(|sock| sending.contains(&sock.state))
    }

    /// How long the thread may sleep, and whether the TUN was full.
    fn rest(&mut self, more: bool) -> (Option<Duration>, bool) {
        let next = self.stack.poll_timeout();
        let Some(live) = &mut self.live else {
            return (None, false);
        };
        live.asleep_until = if more { Some(Instant::ZERO) } else { next };
        let now = live.now();
        (next.map(|next| next.since(now)), live.held.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_says_what_is_wrong_with_it() {
        let plan =
            Plan::parse("tun=tun0 local=10.0.0.2/24 local=fd00::2/64 gateway=10.0.0.1 net.ipv4.tcp_sack=0").unwrap();
        assert_eq!(plan.local.len(), 2);
        assert_eq!(plan.settings, [("net.ipv4.tcp_sack".to_string(), "0".to_string())]);
        for (text, word) in [
            ("", "tun=NAME"),
            ("tun=tun0", "local"),
            ("tun=tun0 local=10.0.0.2", "local=10.0.0.2"),
            ("tun=tun0 local=10.0.0.2/33", "10.0.0.2/33"),
            ("tun=tun0 local=10.0.0.2/24 mtu=12", "576"),
            ("tun=tun0 local=10.0.0.2/24 gateway=x", "gateway=x"),
            ("tun=tun0 local=10.0.0.2/24 gatway=10.0.0.1", "gatway"),
            ("tun", "KEY=VALUE"),
        ] {
            let error = Plan::parse(text).unwrap_err();
            assert!(error.contains(word), "{text:?}: {error}");
        }
    }
}
