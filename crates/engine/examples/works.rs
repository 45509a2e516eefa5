//! What each work costs, with two stacks in one process and packets carried across: `cargo run --release -p estab-engine
//! --example works -- [WORK…]`. Prints CPU time per unit (a minimum and a median of five rounds), or bytes per object; with
//! `QUICK` set, for `valgrind --tool=callgrind`, it does the fiftieth part of one round, and prints how many units that was.

use estab_engine::*;
use std::time::Duration;

struct Two {
    now: Instant,
    stacks: [Stack; 2],
    ifaces: [IfaceId; 2],
    buf: Vec<u8>,
    packets: u64,
}

const RTT_US: u64 = 20;

impl Two {
    fn new(mtu: u32, gso: u32) -> Two {
        let mut ifaces = Vec::new();
        let stacks = [1u8, 2].map(|n| {
            let config = Config {
                seed: [n; 32],
                memory: 8 << 30,
                unix_time: 0,
            };
            let mut stack = Stack::new(Instant::ZERO, config);
            let iface = stack.add_iface(IfaceConfig {
                name: "bench",
                mtu,
                medium: Medium::Ip,
                gso_max_size: gso,
                csum_offload: false,
                transparent: false,
            });
            ifaces.push(iface);
            stack.add_addr(iface, [10, 0, 0, n].into(), 24).unwrap();
            stack.set_sysctl("net.ipv4.ip_local_port_range", "1024 65535").unwrap();
            stack.set_sysctl("net.ipv4.tcp_max_tw_buckets", "2000000").unwrap();
            stack.set_sysctl("net.core.somaxconn", "65535").unwrap();
            stack
        });
        Two {
            now: Instant::from_millis(1),
            stacks,
            ifaces: [ifaces[0], ifaces[1]],
            buf: vec![0; 70_000],
            packets: 0,
        }
    }

    /// Carries packets until none is left.
    fn exchange(&mut self) {
        loop {
            let mut moved = false;
            for from in [0, 1] {
                while let Some(t) = self.stacks[from].poll_transmit(self.now, &mut self.buf) {
                    let meta = RxMeta {
                        csum: RxCsum::Unchecked,
                        gso_size: t.gso,
                    };
                    self.stacks[1 - from].handle_packet(self.now, self.ifaces[1 - from], &self.buf[..t.len], meta);
                    self.packets += 1;
                    moved = true;
                }
                while self.stacks[from].poll_event().is_some() {}
            }
            if !moved {
                return;
            }
        }
    }

    fn tick(&mut self, us: u64) {
        self.now += Duration::from_micros(us);
        for stack in &mut self.stacks {
            if stack.poll_timeout().is_some_and(|at| at <= self.now) {
                stack.handle_timeout(self.now);
            }
        }
    }

    fn listen(&mut self, port: u16) -> SocketId {
        let id = self.stacks[1].socket(Family::V4, Kind::Stream).unwrap();
        let mut sock = self.stacks[1].sock(self.now, id).unwrap();
        sock.bind(([10, 0, 0, 2], port).into()).unwrap();
        sock.listen(1000).unwrap();
        id
    }

    fn listen_many(&mut self, n: u16) -> Vec<SocketId> {
        (0..n).map(|i| self.listen(80 + i)).collect()
    }

    fn sock(&mut self, side: usize, id: SocketId) -> Sock<'_> {
        self.stacks[side].sock(self.now, id).unwrap()
    }

    fn open(&mut self, listener: SocketId, port: u16) -> (SocketId, SocketId) {
        let a = self.stacks[0].socket(Family::V4, Kind::Stream).unwrap();
        self.sock(0, a).connect(([10, 0, 0, 2], port).into()).unwrap();
        self.exchange();
        let (b, _) = self.sock(1, listener).accept().unwrap();
        (a, b)
    }

    /// 64 bytes from one side to the other.
    fn say(&mut self, from: usize, a: SocketId, b: SocketId) {
        let mut buf = [7; 64];
        assert_eq!(self.sock(from, a).send(&buf, SendFlags::default()), Ok(64));
        self.exchange();
        assert_eq!(self.sock(1 - from, b).recv(&mut buf, RecvFlags::default()), Ok(64));
    }

    /// A whole connection; its TIME_WAIT stays with the client.
    fn whole(&mut self, listener: SocketId, port: u16) {
        let (a, b) = self.open(listener, port);
        self.say(0, a, b);
        self.say(1, b, a);
        self.sock(0, a).close();
        self.exchange();
        self.sock(1, b).close();
        self.exchange();
    }
}

fn cpu() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

fn rss() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Less of everything with `QUICK` set: for callgrind.
fn quick() -> bool {
    std::env::var_os("QUICK").is_some()
}

fn scaled(n: usize) -> usize {
    if quick() { n / 50 } else { n }
}

/// Runs `units` of work five times, after once to warm up; once alone, and looks at no clock, with `QUICK` set.
fn measure(name: &str, units: u64, mut work: impl FnMut()) {
    work();
    if quick() {
        println!("{name:<24} {units:>9} units");
        return;
    }
    let mut rounds: Vec<f64> = (0..5)
        .map(|_| {
            let start = cpu();
            work();
            (cpu() - start).as_nanos() as f64 / units as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!("{name:<24} {:>9.1} ns  (median {:.1})", rounds[0], rounds[2]);
}

fn bulk(name: &str, mtu: u32, gso: u32) {
    let mut two = Two::new(mtu, gso);
    let listener = two.listen(80);
    let (a, b) = two.open(listener, 80);
    let data = vec![7; 256 << 10];
    let mut sink = vec![0; 256 << 10];
    let bytes = scaled(64 << 20);
    measure(name, (bytes / 1460) as u64, || {
        let (mut sent, mut got) = (0, 0);
        while got < bytes {
            let n = data.len().min(bytes - sent);
            if n > 0 {
                sent += two.sock(0, a).send(&data[..n], SendFlags::default()).unwrap_or(0);
            }
            two.exchange();
            while let Ok(n @ 1..) = two.sock(1, b).recv(&mut sink, RecvFlags::default()) {
                got += n;
            }
            two.exchange();
            two.tick(RTT_US);
        }
    });
    if std::env::var_os("VERBOSE").is_some() {
        let (packets, info) = (two.packets, two.sock(0, a).info());
        println!("{packets} packets; {info:?}");
    }
}

fn conn() {
    let mut two = Two::new(1500, 0);
    two.stacks[0].set_sysctl("net.ipv4.tcp_max_tw_buckets", "0").unwrap();
    let listener = two.listen(80);
    let n = scaled(20_000);
    measure("conn", n as u64, || {
        for _ in 0..n {
            two.whole(listener, 80);
            two.tick(60);
        }
    });
}

fn conn_tw(n: u64) {
    let mut two = Two::new(1500, 0);
    let listeners = two.listen_many(64);
    let step = 60_000_000 / n;
    let mut i = 0;
    let mut go = |n: u64, two: &mut Two| {
        for _ in 0..n {
            two.whole(listeners[i % 64], 80 + (i % 64) as u16);
            two.tick(step);
            i += 1;
        }
    };
    let before = rss();
    go(n, &mut two);
    let each = (rss() - before) / n;
    measure(&format!("conn, {n} TIME_WAITs"), 20_000, || go(20_000, &mut two));
    println!(
        "{:<24} {each} B RSS per TIME_WAIT ({} held)",
        "",
        two.stacks[0].diag(two.now).count()
    );
}

fn rr(n: usize) {
    let mut two = Two::new(1500, 0);
    let listeners = two.listen_many(64);
    let before = rss();
    let mut pairs = Vec::with_capacity(n);
    for i in 0..n {
        pairs.push(two.open(listeners[i % 64], 80 + (i % 64) as u16));
        two.tick(1);
    }
    let after = rss();
    // Let handshakes' timers pass.
    for _ in 0..1000 {
        two.tick(10_000);
        two.exchange();
    }
    let mut x = 1u64;
    let units = scaled(200_000);
    measure(&format!("rr, {n} connections"), units as u64, || {
        for _ in 0..units {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let (a, b) = pairs[(x >> 33) as usize % n];
            two.say(0, a, b);
            two.say(1, b, a);
            two.tick(1);
        }
    });
    if n >= 10_000 {
        println!(
            "{:<24} {} B RSS per connection (one end)",
            "",
            (after - before) / 2 / n as u64
        );
    }
}

/// Half-open requests: their memory, before cookies.
fn half_open() {
    const N: u32 = 100_000;
    let mut two = Two::new(1500, 0);
    two.stacks[1].set_sysctl("net.ipv4.tcp_syncookies", "0").unwrap();
    two.stacks[1]
        .set_sysctl("net.ipv4.tcp_max_syn_backlog", "1000000")
        .unwrap();
    two.stacks[1].set_sysctl("net.core.somaxconn", "1000000").unwrap();
    let id = two.stacks[1].socket(Family::V4, Kind::Stream).unwrap();
    two.sock(1, id).bind(([10, 0, 0, 2], 80).into()).unwrap();
    two.sock(1, id).listen(1_000_000).unwrap();
    let syns = syns(&mut two, N);
    let before = rss();
    flood(&mut two, &syns);
    println!(
        "{:<24} {} B RSS per half-open ({} held)",
        "half-open",
        (rss() - before) / u64::from(N),
        two.stacks[1].diag(two.now).count()
    );
}

/// SYNs of as many strangers, made by the client's own stack and readdressed.
fn syns(two: &mut Two, n: u32) -> Vec<Vec<u8>> {
    let a = two.stacks[0].socket(Family::V4, Kind::Stream).unwrap();
    two.sock(0, a).connect(([10, 0, 0, 2], 80).into()).unwrap();
    let t = two.stacks[0].poll_transmit(two.now, &mut two.buf).unwrap();
    let syn = two.buf[..t.len].to_vec();
    (0..n)
        .map(|i| {
            let mut syn = syn.clone();
            let [_, b, c, d] = i.to_be_bytes();
            syn[12..16].copy_from_slice(&[11, b, c, d]);
            for (at, from, len) in [(10, 0, 20), (36, 12, 0)] {
                syn[at..at + 2].fill(0);
                let mut sum = estab_wire::checksum::Sum::new();
                if len > 0 {
                    sum.add_bytes(&syn[from..from + len]);
                } else {
                    sum.add_bytes(&[0, 6, 0, (syn.len() - 20) as u8]);
                    sum.add_bytes(&syn[from..]);
                }
                let sum = sum.finish().to_be_bytes();
                syn[at..at + 2].copy_from_slice(&sum);
            }
            syn
        })
        .collect()
}

fn flood(two: &mut Two, syns: &[Vec<u8>]) {
    for syn in syns {
        two.stacks[1].handle_packet(two.now, two.ifaces[1], syn, RxMeta::default());
        while two.stacks[1].poll_transmit(two.now, &mut two.buf).is_some() {}
        while two.stacks[1].poll_event().is_some() {}
    }
}

fn syn_flood() {
    let mut two = Two::new(1500, 0);
    two.stacks[1]
        .add_route([0, 0, 0, 0].into(), 0, None, two.ifaces[1])
        .unwrap();
    let listener = two.listen(80);
    let syns = syns(&mut two, if quick() { 20_000 } else { 100_000 });
    let mut served = 0;
    measure("SYN flood, per SYN", syns.len() as u64, || {
        for part in syns.chunks(10_000) {
            flood(&mut two, part);
            two.whole(listener, 80);
            served += 1;
            two.tick(1000);
        }
    });
    println!("{:<24} {served} of {served} honest clients served", "");
}

fn main() {
    let all = "bulk bulk9k bulkgso conn conntw rr flood halfopen";
    let mut works: Vec<String> = std::env::args().skip(1).collect();
    if works.is_empty() {
        works = all.split(' ').map(String::from).collect();
    }
    for work in works {
        match work.as_str() {
            "bulk" => bulk("bulk, MTU 1500", 1500, 0),
            "bulk9k" => bulk("bulk, MTU 9000", 9000, 0),
            "bulk64k" => bulk("bulk, MTU 65535", 65_535, 0),
            "bulkgso" => bulk("bulk, MTU 1500, GSO", 1500, 65_535),
            "conn" => conn(),
            "conntw" => conn_tw(1_000_000),
            "rr" => [1, 100, 1_000, 10_000].into_iter().for_each(rr),
            "rr1" => rr(1),
            "rr10k" => rr(10_000),
            "rr1m" => rr(1_000_000),
            "flood" => syn_flood(),
            "halfopen" => half_open(),
            other => panic!("no work is called {other}: {all} bulk64k rr1 rr10k rr1m"),
        }
    }
}
