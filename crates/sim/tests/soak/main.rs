//! A long time over bad links, in virtual time: no byte is lost or changed, and nothing stalls for longer than a timer
//! that was running explains.
//!
//! Two engines talk over connections of all sizes while the links lose, repeat, reorder, corrupt and delay packets and
//! go dark for up to a minute, and while readers stop reading for as long. CI runs a minute for each of four seeds; an
//! hour for each of eight seeds is
//!
//! ```sh
//! ESTAB_SOAK_SECONDS=3600 ESTAB_SOAK_SEEDS=1-8 cargo test --release -p estab-sim --test soak -- --nocapture
//! ```
//!
//! A run repeats: with `ESTAB_SOAK_TRACE=4000` it also tells each end's last 4,000 segments and timers before a failure.

mod dice;
mod flow;
mod weather;

use dice::Dice;
use estab_engine::proto::{Counter, State, TraceEvent, TraceKind};
use estab_engine::{Config, DropReason, Event, IfaceConfig, Instant, Medium, Stack, TraceSink};
use estab_sim::{Fate, Host, Net};
use flow::{Flow, Plan, State as FlowState};
use std::collections::VecDeque;
use std::time::Duration;
use weather::Weather;

/// How often stalls are looked for.
const TICK: Duration = Duration::from_millis(50);
/// Connections beside the one that lasts all the time.
const SHORT: usize = 2;

/// What the two engines are like; every seed draws its own.
#[derive(Debug)]
struct Setup {
    v6: bool,
    mtu: u32,
    gso: [bool; 2],
    sysctls: [Vec<(&'static str, &'static str)>; 2],
}

impl Setup {
    fn draw(dice: &mut Dice) -> Setup {
        let mut host = || {
            let mut set = vec![("net.ipv4.tcp_congestion_control", dice.pick(&["cubic", "bbr", "reno"]))];
            for (name, value, odds) in [
                ("net.ipv4.tcp_ecn", "1", 0.3),
                ("net.ipv4.tcp_sack", "0", 0.15),
                ("net.ipv4.tcp_timestamps", "0", 0.15),
                ("net.ipv4.tcp_frto", "0", 0.15),
                ("net.ipv4.tcp_mtu_probing", "2", 0.2),
                ("net.ipv4.tcp_rmem", "4096 16384 65536", 0.2),
                ("net.ipv4.tcp_wmem", "4096 16384 65536", 0.2),
            ] {
                if dice.chance(odds) {
                    set.push((name, value));
                }
            }
            set
        };
        let sysctls = [host(), host()];
        Setup {
            v6: dice.chance(0.4),
            mtu: dice.pick(&[1500, 1500, 1500, 9000, 1280]),
            gso: [dice.chance(0.5), dice.chance(0.5)],
            sysctls,
        }
    }

    fn address(&self, host: usize) -> std::net::IpAddr {
        let text = [["10.0.0.1", "10.0.0.2"], ["fd00::1", "fd00::2"]][usize::from(self.v6)][host];
        text.parse().expect("it is an address")
    }

    fn host(&self, host: usize, seed: u64) -> Host {
        let mut bytes = [host as u8; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let config = Config {
            seed: bytes,
            memory: 4 << 30,
            unix_time: 1_700_000_000,
        };
        let iface = IfaceConfig {
            name: "wire",
            mtu: self.mtu,
            medium: Medium::Ip,
            gso_max_size: if self.gso[host] { 65_535 } else { 0 },
            csum_offload: self.gso[host],
            transparent: false,
        };
        let mut host_ = Host::new(Stack::new(Instant::ZERO, config), iface);
        let (addr, prefix, iface) = (self.address(host), if self.v6 { 64 } else { 24 }, host_.iface());
        let added = host_.stack.add_addr(iface, addr, prefix);
        added.expect("the address is a good one");
        if let Some(kept) = std::env::var("ESTAB_SOAK_TRACE").ok().and_then(|n| n.parse().ok()) {
            host_.stack.trace_to(Some(Box::new(Recent::new(host, kept))));
        }
        for (name, value) in &self.sysctls[host] {
            host_.stack.set_sysctl(name, value).expect("the engine has this knob");
        }
        host_
    }
}

/// The last that a stack told; written out when the test fails.
struct Recent {
    host: usize,
    kept: usize,
    events: VecDeque<TraceEvent>,
}

impl Recent {
    fn new(host: usize, kept: usize) -> Recent {
        let events = VecDeque::new();
        Recent { host, kept, events }
    }
}

impl TraceSink for Recent {
    fn event(&mut self, event: &TraceEvent) {
        if self.events.len() >= self.kept {
            self.events.pop_front();
        }
        self.events.push_back(*event);
    }
}

impl Drop for Recent {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for event in &self.events {
            let what = match event.kind {
                TraceKind::Sent(segment) => format!("> {segment}"),
                TraceKind::Received(segment) => format!("< {segment}"),
                TraceKind::Dropped { segment, reason } => format!("< {segment} dropped: {reason}"),
                other => format!("{other:?}"),
            };
            println!("{} {} {} {what}", event.at_ns, self.host, event.local);
        }
    }
}

/// What a run came to.
#[derive(Debug, Default)]
struct Outcome {
    bytes: u64,
    done: u64,
    /// Opens that failed before the server had heard of them: the network was dark for too long.
    unopened: u64,
    /// Connections that were retransmitted in vain for a quarter of an hour.
    given_up: u64,
    lost: u64,
    corrupted: u64,
    overflowed: u64,
    refused: u64,
    /// The longest time without progress while there was something to do, and which bound it kept.
    longest: Duration,
    digest: u64,
}

struct Soak {
    net: Net,
    setup: Setup,
    dice: Dice,
    weather: Weather,
    flows: Vec<Flow>,
    opened: u64,
    outcome: Outcome,
}

impl Soak {
    fn new(seed: u64) -> Soak {
        let mut dice = Dice::new(seed);
        let setup = Setup::draw(&mut dice);
        let hosts = [0, 1].map(|host| setup.host(host, seed));
        let mut weather = Weather::new(seed);
        let links = weather.links(seed);
        Soak {
            net: Net::new(hosts, links),
            setup,
            dice,
            weather,
            flows: Vec::new(),
            opened: 0,
            outcome: Outcome::default(),
        }
    }

    fn open(&mut self, plan: Plan) {
        self.opened += 1;
        let client = self.dice.below(2) as usize;
        let server = self.setup.address(1 - client);
        let flow = Flow::open(&mut self.net, self.opened, client, server, plan, self.dice.fork());
        self.flows.push(flow);
    }

    /// Lets things happen until `end`.
    fn run(&mut self, end: Instant, fair: bool) {
        let mut tick = self.net.now() + TICK;
        let mut next_open = self.net.now();
        while self.net.now() < end && !(fair && self.flows.is_empty()) {
            let mut until = tick.min(end);
            if !fair {
                until = until.min(self.weather.next());
            }
            self.net.step(until);
            let now = self.net.now();
            for harmed in self.net.take_harmed() {
                match harmed.fate {
                    Fate::Corrupted => self.outcome.corrupted += 1,
                    Fate::Overflowed => self.outcome.overflowed += 1,
                    Fate::Lost | Fate::Carried => self.outcome.lost += 1,
                }
                for flow in &mut self.flows {
                    flow.on_harmed(&mut self.net, &harmed);
                }
            }
            let refused = self.refused();
            if refused > self.outcome.refused {
                self.outcome.refused = refused;
                for flow in &mut self.flows {
                    flow.on_harm(&mut self.net);
                }
            }
            for host in [0, 1] {
                for event in self.net.host(host).take_events() {
                    let Event::Ready(id, _) = event else { continue };
                    for flow in &mut self.flows {
                        flow.on_ready(&mut self.net, host, id);
                    }
                }
            }
            if now >= tick {
                tick = now + TICK;
                self.look();
                if !fair && now >= next_open && self.flows.len() <= SHORT {
                    next_open = now + self.dice.millis(0, 3000);
                    let plan = Plan::short(&mut self.dice);
                    self.open(plan);
                }
            }
            if !fair && now >= self.weather.next() {
                self.weather.turn(&mut self.net);
            }
        }
    }

    /// What the hosts themselves left out. Segments with an acknowledgment that others have overtaken by more than a window:
    /// to TCP they may be an attacker's, and their data is discarded (RFC 5961 §5.2). And answers to old segments, a probe of
    /// the window among them, that would have followed another within `tcp_invalid_ratelimit`.
    fn refused(&mut self) -> u64 {
        let refused = |host: &Host| {
            let counters = host.stack.counters();
            let skipped = [Counter::TcpExtTCPACKSkippedSeq, Counter::TcpExtTCPACKSkippedPAWS];
            let skipped: u64 = skipped.iter().map(|counter| counters.get(*counter)).sum();
            counters.dropped(DropReason::TcpTooOldAck) + skipped
        };
        refused(self.net.host(0)) + refused(self.net.host(1))
    }

    fn look(&mut self) {
        for flow in &mut self.flows {
            flow.tick(&mut self.net);
            self.outcome.longest = self.outcome.longest.max(flow.longest());
        }
        let outcome = &mut self.outcome;
        self.flows.retain(|flow| {
            match flow.state() {
                FlowState::Open => return true,
                FlowState::Done => outcome.done += 1,
                FlowState::Unopened => outcome.unopened += 1,
                FlowState::GivenUp => outcome.given_up += 1,
            }
            outcome.bytes += flow.received();
            outcome.digest ^= flow.digest();
            false
        });
    }
}

fn soak(seed: u64, length: Duration) -> Outcome {
    let began = std::time::Instant::now();
    let mut soak = Soak::new(seed);
    println!("seed {seed}: {:?}", soak.setup);
    soak.open(Plan::endless());
    soak.run(Instant::ZERO + length, false);

    // Fair weather: everything comes to its end, and nothing is left behind.
    soak.weather.clear(&mut soak.net);
    soak.flows.iter_mut().for_each(|flow| flow.finish());
    let end = soak.net.now() + Duration::from_secs(1200);
    soak.run(end, true);
    assert!(
        soak.flows.is_empty(),
        "seed {seed}: {} connections hang",
        soak.flows.len()
    );
    let end = soak.net.now() + Duration::from_secs(600);
    while soak.net.step(end) {}
    let now = soak.net.now();
    for host in [0, 1] {
        let stack = &mut soak.net.host(host).stack;
        let left: Vec<_> = stack.diag(now).filter(|s| s.state != State::Listen).collect();
        assert!(left.is_empty(), "seed {seed}: host {host} keeps {left:?}");
    }
    let mut total = |counter: Counter| -> u64 {
        [0, 1]
            .map(|host| soak.net.host(host).stack.counters().get(counter))
            .iter()
            .sum()
    };
    println!(
        "seed {seed}: {:?} of virtual time in {:.1?}: {} segments sent, {} again, {} timeouts, {} probes of a window, \
         {} undone; {:?}",
        length,
        began.elapsed(),
        total(Counter::TcpOutSegs),
        total(Counter::TcpRetransSegs),
        total(Counter::TcpExtTCPTimeouts),
        total(Counter::TcpExtTCPWinProbe),
        total(Counter::TcpExtTCPFullUndo)
            + total(Counter::TcpExtTCPPartialUndo)
            + total(Counter::TcpExtTCPDSACKUndo)
            + total(Counter::TcpExtTCPLossUndo),
        soak.outcome,
    );
    soak.outcome
}

fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.into())
}

#[test]
fn nothing_is_lost_and_nothing_stalls() {
    let seconds: u64 = setting("ESTAB_SOAK_SECONDS", "60")
        .parse()
        .expect("ESTAB_SOAK_SECONDS is a number");
    let seeds = setting("ESTAB_SOAK_SEEDS", "1-4");
    let (first, last) = seeds.split_once('-').unwrap_or((&seeds, &seeds));
    let number = |text: &str| text.parse::<u64>().expect("ESTAB_SOAK_SEEDS is like 7 or 1-8");
    for seed in number(first)..=number(last) {
        let outcome = soak(seed, Duration::from_secs(seconds));
        assert!(outcome.done > 0 && outcome.bytes > 0, "{outcome:?}");
        assert!(outcome.lost > 0 && outcome.corrupted > 0, "{outcome:?}");
    }
}
