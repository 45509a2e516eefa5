//! The process's stack, its clock and its packets. Live (see [`live`](crate::live)) the clock is the real one and packets go
//! through a TUN. For packetdrill the clock is virtual: time passes only when a caller waits, and packets leave into a queue
//! with the time at which they left.
//!
//! On the virtual clock a second thread may block in a call (packetdrill's `0.1...0.2 read(…)`). It sleeps on a condition variable until
//! something happened, and when its wait is over, time stands still until that thread has read the clock, so that it
//! sees the moment at which it woke.

use crate::commands;
use crate::epoll::Epoll;
use crate::fd::{Files, Socket};
use crate::live::Live;
use crate::mirror::Mirror;
use estab_engine::proto::SockDiag;
use estab_engine::{Config, Event, IfaceConfig, IfaceId, Instant, Medium, RxMeta, SocketId, Stack};
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use crate::calls::Result;

/// Files in the folder of settings that are none: what stand-ins for nstat and for readers of /proc/net/tcp find.
const COUNTERS: &str = "estab_counters";
const SOCKETS: &str = "estab_tcp";

/// Seconds since 1970 when a virtual clock starts.
const EPOCH: u64 = 1_600_000_000;

/// What a script's stack is told, by `--so_flags`: `local=ADDR mtu=N mss=N sysctls=DIR`.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) local: Vec<(IpAddr, u8)>,
    pub(crate) mtu: u32,
    /// Payload larger than this arrives as if merged from segments of so many bytes (packetdrill's `--mss`); 0: as it is.
    pub(crate) mss: u16,
    /// A folder that stands for /proc/sys/net/ipv4; read again at each socket().
    pub(crate) sysctls: Option<PathBuf>,
}

impl Setup {
    /// Reads the flags; words that are none of them are ignored.
    pub(crate) fn parse(flags: &str) -> Setup {
        let mut setup = Setup {
            local: Vec::new(),
            mtu: 1500,
            mss: 0,
            sysctls: None,
        };
        for (key, value) in flags.split([' ', ',']).filter_map(|word| word.split_once('=')) {
            match key {
                "local" => {
                    if let Ok(ip) = value.parse::<IpAddr>() {
                        setup.local.push((ip, if ip.is_ipv4() { 16 } else { 64 }));
                    }
                }
                "mtu" => setup.mtu = value.parse().unwrap_or(setup.mtu),
                "mss" => setup.mss = value.parse().unwrap_or(0),
                "sysctls" => setup.sysctls = Some(value.into()),
                _ => {}
            }
        }
        if setup.local.is_empty() {
            setup.local = vec![([192, 168, 0, 1].into(), 16)];
        }
        setup
    }
}

/// A stack, its clock, its descriptors and the packets that left it.
pub(crate) struct World {
    pub(crate) stack: Stack,
    pub(crate) files: Files,
    now: Instant,
    pub(crate) iface: IfaceId,
    /// The TUN and the real clock, if they are what this stack is on.
    pub(crate) live: Option<Live>,
    mss: u16,
    /// Packets that left, and when.
    pub(crate) sent: VecDeque<(Instant, Vec<u8>)>,
    sysctls: Option<PathBuf>,
    known: HashMap<String, String>,
    buf: Vec<u8>,
    /// Grows with everything that may end a wait.
    epoch: u64,
    /// Threads asleep in a call, and those that woke and have not looked yet or not read the clock yet.
    asleep: usize,
    looking: usize,
    returning: usize,
    /// A thread that had slept has read the clock.
    returned: bool,
    /// Who lets time pass, and when sleeping threads are to be woken.
    clock_of: ThreadId,
    alarms: Vec<Instant>,
}

thread_local! {
    /// This thread's call has slept and is over; the clock waits for it.
    static RETURNING: Cell<bool> = const { Cell::new(false) };
}

/// The process's world: packetdrill keeps one at a time.
pub(crate) static WORLD: Mutex<Option<World>> = Mutex::new(None);
static CHANGED: Condvar = Condvar::new();

pub(crate) type Guard = MutexGuard<'static, Option<World>>;

/// The world's lock, and on a live stack the time.
pub(crate) fn lock() -> Guard {
    // A panic would have aborted the process: the state behind a poisoned lock is whole.
    let mut guard = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(world) = guard.as_mut() {
        world.read_time();
    }
    guard
}

impl World {
    pub(crate) fn new(setup: Setup) -> World {
        let config = Config {
            seed: [7; 32],
            memory: 8 << 30,
            unix_time: EPOCH,
        };
        let mut stack = Stack::new(Instant::ZERO, config);
        let iface = stack.add_iface(IfaceConfig {
            name: "tun0",
            mtu: setup.mtu,
            medium: Medium::Ip,
            gso_max_size: 0,
            csum_offload: false,
            transparent: false,
        });
        for (addr, prefix) in setup.local {
            let any: IpAddr = if addr.is_ipv4() {
                std::net::Ipv4Addr::UNSPECIFIED.into()
            } else {
                std::net::Ipv6Addr::UNSPECIFIED.into()
            };
            // What can't be used shows at the script's first bind.
            let _ = stack.add_addr(iface, addr, prefix);
            let _ = stack.add_route(any, 0, None, iface);
        }
        World {
            sysctls: setup.sysctls,
            mss: setup.mss,
            ..World::over(stack, iface, None)
        }
    }

    /// A stack over a TUN, on the real clock.
    pub(crate) fn live(stack: Stack, iface: IfaceId, live: Live) -> World {
        World::over(stack, iface, Some(live))
    }

    fn over(stack: Stack, iface: IfaceId, live: Option<Live>) -> World {
        World {
            stack,
            files: Files::default(),
            now: Instant::ZERO,
            iface,
            live,
            mss: 0,
            sent: VecDeque::new(),
            sysctls: None,
            known: HashMap::new(),
            buf: vec![0; 70_000],
            epoch: 0,
            asleep: 0,
            looking: 0,
            returning: 0,
            returned: false,
            clock_of: std::thread::current().id(),
            alarms: Vec::new(),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    fn read_time(&mut self) {
        if let Some(live) = &self.live {
            self.now = live.now();
        }
    }

    /// Opens a descriptor for a socket.
    pub(crate) fn open(&mut self, socket: Socket, cloexec: bool) -> Result<i32> {
        let backing = match self.live {
            Some(_) => Some(Mirror::new(cloexec)?),
            None => None,
        };
        let fd = self.files.add_socket(socket, backing)?;
        self.show(socket.id, false);
        Ok(fd)
    }

    /// Lets the kernel poll what a socket is ready for now; `event`: something happened.
    pub(crate) fn show(&mut self, id: SocketId, event: bool) {
        if let Some(mirror) = self.files.mirror(id)
            && let Ok(mut sock) = self.stack.sock(self.now, id)
        {
            mirror.show(sock.readiness(), event);
        }
    }

    /// This thread lets time pass.
    pub(crate) fn is_clock_mine(&self) -> bool {
        self.clock_of == std::thread::current().id()
    }

    /// Sleeping threads look again at that time at the latest.
    pub(crate) fn wake_at(&mut self, at: Instant) {
        if !self.alarms.contains(&at) {
            self.alarms.push(at);
        }
    }

    /// Whether a thread that had slept has returned since the last call.
    pub(crate) fn take_returned(&mut self) -> bool {
        std::mem::take(&mut self.returned)
    }

    /// Microseconds since 1970 of a moment.
    pub(crate) fn unix_micros(&self, at: Instant) -> i64 {
        (EPOCH * 1_000_000 + at.micros()) as i64
    }

    /// Does what stand-ins for `ip` and `tc` were asked for since the last call.
    pub(crate) fn take_commands(&mut self) {
        let Some(file) = self.sysctls.as_ref().map(|folder| folder.join(commands::FILE)) else {
            return;
        };
        // Nearly always there is none.
        let Ok(lines) = std::fs::read_to_string(&file) else {
            return;
        };
        let _ = std::fs::remove_file(file);
        lines.lines().for_each(|line| self.run_command(line));
    }

    /// Takes the settings that changed in the folder that stands for /proc/sys/net/ipv4.
    pub(crate) fn read_sysctls(&mut self) {
        let Some(Ok(entries)) = self.sysctls.as_ref().map(std::fs::read_dir) else {
            return;
        };
        for entry in entries.flatten() {
            let name = format!("net.ipv4.{}", entry.file_name().to_string_lossy());
            let Ok(value) = std::fs::read_to_string(entry.path()) else {
                continue;
            };
            let value = value.trim().to_string();
            if self.known.get(&name) != Some(&value) {
                // Keys that this stack lacks are the scripts' to notice.
                let _ = self.stack.set_sysctl(&name, &value);
                self.known.insert(name, value);
            }
        }
    }

    /// A packet arrives.
    pub(crate) fn arrive(&mut self, packet: &[u8]) {
        self.take_commands();
        let meta = RxMeta {
            gso_size: (self.mss > 0 && payload_len(packet) > usize::from(self.mss)).then_some(self.mss),
            ..RxMeta::default()
        };
        self.stack.handle_packet(self.now, self.iface, packet, meta);
        self.settle();
        self.write_tables();
    }

    /// Leaves the counters that are not 0, and the table of sockets, where stand-ins find them.
    fn write_tables(&self) {
        let Some(folder) = &self.sysctls else { return };
        let counters: String = self
            .stack
            .counters()
            .iter()
            .filter(|(_, value)| *value > 0)
            .map(|(counter, value)| format!("{:<31} {value:<18} 0.0\n", counter.name()))
            .collect();
        // Who can't write there has no script that looks.
        let _ = std::fs::write(folder.join(COUNTERS), counters);
        let sockets: String = self.stack.diag(self.now).enumerate().map(proc_line).collect();
        let _ = std::fs::write(folder.join(SOCKETS), sockets);
    }

    /// Sends what there is to send and hands out what happened.
    pub(crate) fn settle(&mut self) {
        self.transmit();
        while let Some(event) = self.stack.poll_event() {
            let Event::Ready(id, _) = event else { continue };
            for epoll in self.files.epolls() {
                let mut epoll = epoll.lock().unwrap_or_else(PoisonError::into_inner);
                self.files.of(id).iter().for_each(|fd| epoll.edge(*fd));
            }
            self.show(id, true);
        }
        self.epoch += 1;
        if let Some(live) = &self.live {
            live.deadline(self.stack.poll_timeout());
            CHANGED.notify_all();
        }
    }

    /// Sends what there is to send.
    pub(crate) fn transmit(&mut self) {
        while self.live.as_mut().is_none_or(Live::has_room)
            && let Some(transmit) = self.stack.poll_transmit(self.now, &mut self.buf)
        {
            let packet = &self.buf[..transmit.len];
            match &mut self.live {
                Some(live) => live.send(packet, &transmit),
                None => self.sent.push_back((self.now, packet.to_vec())),
            }
        }
    }

    /// Runs the timers that are due.
    pub(crate) fn run_due(&mut self) {
        self.stack.handle_timeout(self.now);
    }

    /// The next moment at which something happens by itself.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.stack
            .poll_timeout()
            .into_iter()
            .chain(self.alarms.iter().copied())
            .min()
    }

    pub(crate) fn epoll_forget(&self, fd: i32) {
        for epoll in self.files.epolls() {
            let mut epoll: MutexGuard<'_, Epoll> = epoll.lock().unwrap_or_else(PoisonError::into_inner);
            epoll.forget(fd);
        }
    }

    fn run_timers(&mut self, at: Instant) {
        self.now = self.now.max(at);
        self.alarms.retain(|alarm| *alarm > self.now);
        self.stack.handle_timeout(self.now);
        self.settle();
    }
}

/// Bytes of TCP payload in an IP packet without extension headers; 0 where it is no TCP.
fn payload_len(packet: &[u8]) -> usize {
    let (ip, protocol) = match packet.first().map(|byte| byte >> 4) {
        Some(4) => (usize::from(packet[0] & 15) * 4, packet.get(9)),
        _ => (40, packet.get(6)),
    };
    match (protocol, packet.get(ip + 12)) {
        (Some(6), Some(offset)) => packet.len().saturating_sub(ip + usize::from(offset >> 4) * 4),
        _ => 0,
    }
}

/// A line as /proc/net/tcp has it, as far as scripts look: the addresses and the state.
fn proc_line((number, sock): (usize, SockDiag)) -> String {
    let end = |addr: SocketAddr| match addr.ip() {
        IpAddr::V4(ip) => format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), addr.port()),
        IpAddr::V6(ip) => {
            let words = ip.octets();
            let words = words.chunks(4).map(|w| u32::from_ne_bytes([w[0], w[1], w[2], w[3]]));
            words.map(|word| format!("{word:08X}")).collect::<String>() + &format!(":{:04X}", addr.port())
        }
    };
    format!(
        "{number:4}: {} {} {:02X} 00000000:00000000\n",
        end(sock.local),
        end(sock.remote),
        sock.state as u8
    )
}

/// Lets sleeping threads see what happened, and waits until those whose wait is over have read the clock.
pub(crate) fn let_others_see(mut guard: Guard) -> Guard {
    if let Some(world) = guard.as_mut()
        && world.asleep > 0
    {
        world.looking = world.asleep;
        CHANGED.notify_all();
        while guard.as_ref().is_some_and(|w| w.looking + w.returning > 0) {
            guard = CHANGED.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }
    guard
}

/// The same for a call's end: a thread that slept itself is the one that is waited for, and must not wait.
pub(crate) fn let_others_see_unless_returning(guard: Guard) -> Guard {
    if RETURNING.get() { guard } else { let_others_see(guard) }
}

/// Lets time pass until `until`, or until `enough` says so after something happened.
pub(crate) fn advance(mut guard: Guard, until: Instant, mut enough: impl FnMut(&mut World) -> bool) -> Guard {
    loop {
        guard = let_others_see(guard);
        let Some(world) = guard.as_mut() else { return guard };
        if enough(world) {
            return guard;
        }
        match world.next() {
            Some(next) if next <= until => world.run_timers(next),
            _ => {
                world.now = world.now.max(until);
                return guard;
            }
        }
    }
}

/// Sleeps until something happened, or until `until`. On the virtual clock the thread that lets time pass lets it pass until then.
pub(crate) fn sleep(mut guard: Guard, until: Option<Instant>) -> Guard {
    let Some(world) = guard.as_mut() else { return guard };
    if world.live.is_some() {
        let patience = until.map_or(Duration::from_secs(3600), |until| until.since(world.now));
        let woken = CHANGED.wait_timeout(guard, patience);
        guard = woken.unwrap_or_else(PoisonError::into_inner).0;
        if let Some(world) = guard.as_mut() {
            world.read_time();
        }
        return guard;
    }
    if let Some(until) = until {
        if world.is_clock_mine() {
            let epoch = world.epoch;
            return advance(guard, until, |world| world.epoch != epoch);
        }
        world.wake_at(until);
    }
    let epoch = world.epoch;
    world.asleep += 1;
    RETURNING.set(true);
    loop {
        guard = CHANGED.wait(guard).unwrap_or_else(PoisonError::into_inner);
        let Some(world) = guard.as_mut() else { return guard };
        if world.epoch == epoch && world.looking == 0 {
            continue;
        }
        world.asleep -= 1;
        world.looking = world.looking.saturating_sub(1);
        // Until this thread sleeps again or reads the clock, time stands still.
        world.returning += 1;
        return guard;
    }
}

/// This thread, which slept, will sleep again.
pub(crate) fn not_yet(world: &mut World) {
    if RETURNING.replace(false) {
        world.returning -= 1;
        world.returned = true;
        CHANGED.notify_all();
    }
}

/// Reads the clock, which ticks a microsecond at each reading.
pub(crate) fn read_clock(mut guard: Guard) -> i64 {
    if let Some(world) = guard.as_mut() {
        not_yet(world);
    }
    let Some(now) = guard.as_ref().map(World::now) else {
        return 0;
    };
    let guard = advance(guard, now + Duration::from_micros(1), |_| false);
    guard.as_ref().map_or(0, |world| world.unix_micros(world.now()))
}
