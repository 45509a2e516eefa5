//! SYN floods from random addresses, and honest clients meanwhile.
//!
//! CI sends 20,000 SYNs. `ESTAB_FLOOD_SYNS=1000000 cargo test --release -p estab-engine --test flood -- --nocapture` sends a
//! million and prints the process's memory before and after.

mod common;

use common::*;
use estab_engine::proto::State;
use estab_engine::*;
use estab_wire::ip::{ipv4, protocol};
use estab_wire::tcp::{self, Options, flags};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const BACKLOG: u32 = 128;
const HONEST: u8 = 100;
/// A client that had a connection before the flood.
const KNOWN: u8 = 200;

/// How many SYNs flood the server.
fn syns() -> u32 {
    let asked = std::env::var("ESTAB_FLOOD_SYNS").ok();
    asked.map_or(20_000, |text| text.parse().expect("ESTAB_FLOOD_SYNS is a number"))
}

/// One honest client's socket and what it has heard.
struct Client {
    id: SocketId,
    greeted: bool,
    heard: usize,
}

struct Flood {
    now: Instant,
    server: Host,
    listener: SocketId,
    /// All honest clients: one host with many addresses.
    clients: Host,
    honest: Vec<Client>,
    /// The server's connections.
    served: Vec<SocketId>,
    dice: u64,
    /// The most that was seen of the server's memory, in bytes, and of its requests.
    memory: u64,
    requests: usize,
}

impl Flood {
    fn new(cookies: u8) -> Flood {
        let mut server = Host::new(2, &[("10.0.0.2", 8)], wire());
        server.stack.trace_to(None);
        let anywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        server.stack.add_route(anywhere, 0, None, server.iface).unwrap();
        server.sysctl("net.ipv4.tcp_syncookies", &cookies.to_string());
        let now = Instant::from_millis(1000);
        let listener = server.stack.socket(Family::V4, Kind::Stream).unwrap();
        let mut sock = server.stack.sock(now, listener).unwrap();
        sock.bind(addr("0.0.0.0", 80)).unwrap();
        sock.listen(BACKLOG as i32).unwrap();
        let addresses: Vec<String> = (0..=KNOWN).map(|n| client(n).to_string()).collect();
        let addresses: Vec<(&str, u8)> = addresses.iter().map(|text| (text.as_str(), 8)).collect();
        let mut clients = Host::new(1, &addresses, wire());
        clients.stack.trace_to(None);
        Flood {
            now,
            server,
            listener,
            clients,
            honest: Vec::new(),
            served: Vec::new(),
            dice: 1,
            memory: 0,
            requests: 0,
        }
    }

    fn random(&mut self) -> u32 {
        self.dice = self
            .dice
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.dice >> 32) as u32
    }

    /// A SYN from a random public address and port.
    fn syn(&mut self) {
        let [source, port, seq] = [self.random(), self.random(), self.random()];
        let source = Ipv4Addr::from(0x2000_0000 | source >> 3);
        let header = tcp::Header {
            src_port: port as u16 | 1,
            dst_port: 80,
            seq,
            ack: 0,
            flags: flags::SYN,
            window: 64240,
            urgent: 0,
        };
        let options = Options {
            mss: Some(1460),
            ..Options::default()
        };
        let mut packet = [0; 100];
        let (ip, segment) = packet.split_at_mut(20);
        let len = header.write(segment, &options).unwrap();
        ipv4::Header::new(source, SERVER, protocol::TCP).write(ip, len).unwrap();
        let meta = RxMeta {
            csum: RxCsum::Verified,
            gso_size: None,
        };
        self.server
            .stack
            .handle_packet(self.now, self.server.iface, &packet[..20 + len], meta);
    }

    /// The honest client at `address` connects.
    fn connect(&mut self, address: u8) {
        let id = self.clients.stack.socket(Family::V4, Kind::Stream).unwrap();
        let mut sock = self.clients.stack.sock(self.now, id).unwrap();
        sock.bind(SocketAddr::new(client(address).into(), 0)).unwrap();
        sock.connect(addr("10.0.0.2", 80)).unwrap();
        self.honest.push(Client {
            id,
            greeted: false,
            heard: 0,
        });
    }

    /// Carries what there is to carry between the server and honest clients; the rest of its answers go nowhere.
    fn carry(&mut self) {
        let mut buf = [0; 2048];
        loop {
            let mut moved = false;
            while let Some(sent) = self.server.stack.poll_transmit(self.now, &mut buf) {
                if buf[16..18] == [10, 1] {
                    moved = true;
                    let clients = &mut self.clients;
                    clients
                        .stack
                        .handle_packet(self.now, clients.iface, &buf[..sent.len], RxMeta::default());
                }
            }
            while let Some(sent) = self.clients.stack.poll_transmit(self.now, &mut buf) {
                moved = true;
                let server = &mut self.server;
                server
                    .stack
                    .handle_packet(self.now, server.iface, &buf[..sent.len], RxMeta::default());
            }
            moved |= self.serve();
            if !moved {
                return;
            }
            self.pass(Duration::from_micros(1));
        }
    }

    /// The server greets and echoes; clients say something. Whether anything happened.
    fn serve(&mut self) -> bool {
        let mut moved = false;
        while self.server.stack.poll_event().is_some() {}
        while self.clients.stack.poll_event().is_some() {}
        let now = self.now;
        while let Ok((id, _)) = self.server.stack.sock(now, self.listener).unwrap().accept() {
            self.served.push(id);
            moved = true;
        }
        let mut buf = [0; 64];
        for id in &self.served {
            let mut sock = self.server.stack.sock(now, *id).unwrap();
            if let Ok(len @ 1..) = sock.recv(&mut buf, RecvFlags::default()) {
                assert_eq!(sock.send(&buf[..len], SendFlags::default()), Ok(len));
                moved = true;
            }
        }
        for client in &mut self.honest {
            let mut sock = self.clients.stack.sock(now, client.id).unwrap();
            if sock.state() == State::Established && !client.greeted {
                client.greeted = true;
                assert_eq!(sock.send(b"hello", SendFlags::default()), Ok(5));
                moved = true;
            }
            if let Ok(len @ 1..) = sock.recv(&mut buf, RecvFlags::default()) {
                assert_eq!(&buf[..len], b"hello");
                client.heard += len;
                moved = true;
            }
        }
        moved
    }

    /// The first connection ends, and leaves what is remembered of its client.
    fn close_first(&mut self) {
        let server = self.served.remove(0);
        let client = self.honest.remove(0).id;
        self.clients.stack.sock(self.now, client).unwrap().close();
        self.carry();
        self.server.stack.sock(self.now, server).unwrap().close();
        self.carry();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for host in [&mut self.server, &mut self.clients] {
            if host.stack.poll_timeout().is_some_and(|at| at <= self.now) {
                host.stack.handle_timeout(self.now);
            }
        }
    }

    /// `syns` SYNs, a hundred thousand a second, and honest clients evenly among them.
    fn run(&mut self, syns: u32) {
        let every = syns / u32::from(HONEST);
        for n in 0..syns {
            self.syn();
            // The first comes once the queue has filled.
            if n % every == every - 1 {
                self.connect((n / every) as u8);
            }
            if n % 64 == 0 || n % every == every - 1 {
                self.carry();
                self.memory = self.memory.max(self.server.stack.memory_used());
            }
            if n % (syns / 16) == 0 {
                self.requests = self.requests.max(self.requests());
            }
            self.pass(Duration::from_micros(10));
        }
        self.carry();
    }

    fn requests(&self) -> usize {
        let states = self.server.states(self.now);
        states.iter().filter(|state| **state == State::SynRcvd).count()
    }

    /// Clients that connected and were answered.
    fn answered(&self) -> usize {
        self.honest.iter().filter(|client| client.heard == 5).count()
    }

    fn counter(&self, name: &str) -> u64 {
        self.server.counter(name)
    }
}

fn client(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 0, n + 1)
}

/// The process's resident memory in KiB, where that can be told.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[test]
fn with_cookies_every_honest_client_is_served() {
    let syns = syns();
    let mut flood = Flood::new(1);
    let before = resident();
    flood.run(syns);
    println!(
        "{syns} SYNs with cookies: {} of {HONEST} honest clients answered, at most {} bytes in the stack; resident: {before:?} \
         KiB before, {:?} KiB after",
        flood.answered(),
        flood.memory,
        resident(),
    );
    assert_eq!(flood.answered(), HONEST.into());
    // The queue holds the backlog and one more; beside it there are the honest connections.
    assert!(flood.requests <= BACKLOG as usize + 1, "{} requests", flood.requests);
    assert!(flood.memory < 1 << 20, "{} bytes", flood.memory);
    assert_eq!(flood.counter("TcpExtListenDrops"), 0);
    assert_eq!(flood.counter("TcpExtListenOverflows"), 0);
    assert_eq!(flood.counter("TcpExtSyncookiesFailed"), 0);
    assert_eq!(flood.counter("TcpExtSyncookiesRecv") + waited(&flood), HONEST.into());
    let sent = flood.counter("TcpExtSyncookiesSent");
    assert_eq!(flood.counter("TcpExtTCPReqQFullDoCookies"), sent);
    assert!(sent > u64::from(syns) * 9 / 10, "{sent} cookies");
}

/// Honest clients that found room in the queue, and came in without a cookie.
fn waited(flood: &Flood) -> u64 {
    flood.counter("TcpPassiveOpens") - flood.counter("TcpExtSyncookiesRecv")
}

#[test]
fn without_cookies_the_queue_is_bounded_and_kept_for_those_known() {
    let syns = syns();
    let mut flood = Flood::new(0);
    // Three quarters of it are for everybody.
    flood.server.sysctl("net.ipv4.tcp_max_syn_backlog", "64");
    flood.connect(KNOWN);
    flood.carry();
    assert_eq!(flood.answered(), 1);
    flood.close_first();
    flood.run(syns);
    println!(
        "{syns} SYNs without cookies: {} of {HONEST} honest clients answered, {} requests at most, at most {} bytes in the stack",
        flood.answered(),
        flood.requests,
        flood.memory,
    );
    assert_eq!(flood.answered(), 0, "no stranger comes in");
    assert!(flood.requests <= 49, "{} requests", flood.requests);
    assert!(flood.memory < 1 << 20, "{} bytes", flood.memory);
    assert_eq!(flood.counter("TcpExtSyncookiesSent"), 0);
    assert!(flood.counter("TcpExtListenDrops") > u64::from(syns) * 9 / 10);
    flood.connect(KNOWN);
    flood.carry();
    assert_eq!(flood.answered(), 1, "who is known comes in");
}
