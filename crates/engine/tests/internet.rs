//! Several stacks on wires with a router between them, through the public surface: what an application and its
//! driver see of IP, ICMP, neighbours, UDP and ping.

use estab_engine::*;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const DELAY: Duration = Duration::from_millis(5);

/// Stacks, and wires between their interfaces.
struct Net {
    now: Instant,
    stacks: Vec<Stack>,
    wires: Vec<[(usize, IfaceId); 2]>,
    flights: Vec<(Instant, usize, IfaceId, Vec<u8>, RxMeta)>,
    carried: Vec<Vec<u8>>,
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn iface(mtu: u32, medium: Medium) -> IfaceConfig {
    IfaceConfig {
        name: "wire",
        mtu,
        medium,
        gso_max_size: 0,
        csum_offload: false,
        transparent: false,
    }
}

impl Net {
    fn new(stacks: usize) -> Net {
        let stack = |n| {
            let config = Config {
                seed: [n as u8 + 1; 32],
                memory: 4 << 30,
                unix_time: 1_700_000_000,
            };
            Stack::new(Instant::ZERO, config)
        };
        Net {
            now: Instant::from_millis(1000),
            stacks: (0..stacks).map(stack).collect(),
            wires: Vec::new(),
            flights: Vec::new(),
            carried: Vec::new(),
        }
    }

    /// Two hosts on one wire: 10.0.0.1 and 10.0.0.2, fd00::1 and fd00::2.
    fn pair(medium: [Medium; 2]) -> Net {
        let mut net = Net::new(2);
        let ends = [0, 1].map(|n| {
            let stack = &mut net.stacks[n];
            let id = stack.add_iface(iface(1500, medium[n]));
            stack.add_addr(id, ip(["10.0.0.1", "10.0.0.2"][n]), 24).unwrap();
            stack.add_addr(id, ip(["fd00::1", "fd00::2"][n]), 64).unwrap();
            (n, id)
        });
        net.wires.push(ends);
        net
    }

    /// A client (10.0.0.1), a router, and a server (10.1.0.1) whose wire takes `far_mtu` bytes only.
    fn routed(far_mtu: u32) -> Net {
        let mut net = Net::new(3);
        for (left, right, third, mtu) in [(0, 1, 0, 1500), (1, 2, 1, far_mtu)] {
            let ends = [left, right].map(|n| {
                // The client does not know how narrow the far wire is, nor does the server.
                let mtu = if n == 1 { mtu } else { 1500 };
                let id = net.stacks[n].add_iface(iface(mtu, Medium::Ip));
                let own = if n == 1 { 254 } else { 1 };
                net.stacks[n]
                    .add_addr(id, ip(&format!("10.{third}.0.{own}")), 24)
                    .unwrap();
                net.stacks[n]
                    .add_addr(id, ip(&format!("fd0{third}::{own}")), 64)
                    .unwrap();
                if n != 1 {
                    for (any, via) in [
                        ("0.0.0.0", format!("10.{third}.0.254")),
                        ("::", format!("fd0{third}::254")),
                    ] {
                        net.stacks[n].add_route(ip(any), 0, Some(ip(&via)), id).unwrap();
                    }
                }
                (n, id)
            });
            net.wires.push(ends);
        }
        for name in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
            net.stacks[1].set_sysctl(name, "1").unwrap();
        }
        net
    }

    fn drain(&mut self) {
        let mut buf = vec![0; 70_000];
        for n in 0..self.stacks.len() {
            while let Some(transmit) = self.stacks[n].poll_transmit(self.now, &mut buf) {
                let bytes = buf[..transmit.len].to_vec();
                let (to, on) = self
                    .wires
                    .iter()
                    .find_map(|[a, b]| match (n, transmit.iface) {
                        end if end == *a => Some(*b),
                        end if end == *b => Some(*a),
                        _ => None,
                    })
                    .unwrap();
                let meta = RxMeta {
                    csum: RxCsum::Unchecked,
                    gso_size: transmit.gso,
                };
                self.carried.push(bytes.clone());
                self.flights.push((self.now + DELAY, to, on, bytes, meta));
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.drain();
        loop {
            let arrivals = self.flights.iter().map(|flight| flight.0);
            let timers = self.stacks.iter().filter_map(Stack::poll_timeout);
            let Some(next) = arrivals.chain(timers).min().filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            let now = self.now;
            let (due, later) = std::mem::take(&mut self.flights).into_iter().partition(|f| f.0 <= now);
            self.flights = later;
            let due: Vec<_> = due;
            for (_, to, on, bytes, meta) in due {
                self.stacks[to].handle_packet(now, on, &bytes, meta);
            }
            self.stacks.iter_mut().for_each(|stack| stack.handle_timeout(now));
            self.drain();
        }
        self.now = end;
    }

    fn sock(&mut self, stack: usize, id: SocketId) -> Sock<'_> {
        self.stacks[stack].sock(self.now, id).unwrap()
    }

    fn socket(&mut self, stack: usize, kind: Kind, like: &str) -> SocketId {
        let family = if at(like).is_ipv4() { Family::V4 } else { Family::V6 };
        self.stacks[stack].socket(family, kind).unwrap()
    }

    fn bound(&mut self, stack: usize, kind: Kind, addr: &str) -> SocketId {
        let id = self.socket(stack, kind, addr);
        self.sock(stack, id).bind(at(addr)).unwrap();
        id
    }

    fn counter(&self, stack: usize, name: &str) -> u64 {
        self.stacks[stack].counters().get(name.parse().unwrap())
    }
}

const PLAIN: [Medium; 2] = [Medium::Ip; 2];
const ETHERNET: [Medium; 2] = [
    Medium::Ethernet([2, 0, 0, 0, 0, 1]),
    Medium::Ethernet([2, 0, 0, 0, 0, 2]),
];

/// Sends `len` bytes from the client to the server and returns what arrived.
fn transfer(net: &mut Net, client: usize, server: usize, addr: &str, len: usize) -> Vec<u8> {
    let listener = net.bound(server, Kind::Stream, addr);
    net.sock(server, listener).listen(5).unwrap();
    let sock = net.socket(client, Kind::Stream, addr);
    net.sock(client, sock).connect(at(addr)).unwrap();
    net.run(Duration::from_secs(2));
    let (accepted, _) = net.sock(server, listener).accept().unwrap();
    let data: Vec<u8> = (0..len).map(|i| (i * 31 + i / 251) as u8).collect();
    let (mut sent, mut got) = (0, Vec::new());
    let mut buf = vec![0; 1 << 20];
    for _ in 0..2000 {
        if sent < len {
            sent += net
                .sock(client, sock)
                .send(&data[sent..], SendFlags::default())
                .unwrap_or(0);
        }
        net.run(Duration::from_millis(20));
        if let Ok(n) = net.sock(server, accepted).recv(&mut buf, RecvFlags::default()) {
            got.extend_from_slice(&buf[..n]);
        }
        if got.len() == len {
            break;
        }
    }
    assert!(got == data, "{} of {len} bytes arrived", got.len());
    got
}

#[test]
fn tcp_finds_its_neighbour_on_ethernet() {
    for addr in ["10.0.0.2:80", "[fd00::2]:80"] {
        let mut net = Net::pair(ETHERNET);
        transfer(&mut net, 0, 1, addr, 100_000);
    }
}

#[test]
fn a_connect_to_a_silent_neighbour_fails_with_ehostunreach_in_three_seconds() {
    for addr in ["10.0.0.9:80", "[fd00::9]:80"] {
        let mut net = Net::pair(ETHERNET);
        let sock = net.socket(0, Kind::Stream, addr);
        net.sock(0, sock).connect(at(addr)).unwrap();
        net.run(Duration::from_millis(2999));
        assert_eq!(net.sock(0, sock).take_error(), None);
        net.run(Duration::from_millis(1));
        assert_eq!(net.sock(0, sock).take_error(), Some(SockError::EHOSTUNREACH), "{addr}");
    }
}

#[test]
fn tcp_crosses_a_router() {
    for addr in ["10.1.0.1:80", "[fd01::1]:80"] {
        let mut net = Net::routed(1500);
        transfer(&mut net, 0, 2, addr, 100_000);
        assert!(net.counter(1, "IpForwDatagrams") + net.counter(1, "Ip6OutForwDatagrams") > 70);
    }
}

/// RFC 1191, RFC 8201: the router says what fits, TCP believes what it can check, and all arrives.
#[test]
fn tcp_learns_a_narrow_path_from_the_router() {
    for (addr, mtu) in [("10.1.0.1:80", 1000), ("[fd01::1]:80", 1300)] {
        let mut net = Net::routed(mtu);
        transfer(&mut net, 0, 2, addr, 200_000);
        let refused = net.counter(1, "IcmpOutDestUnreachs") + net.counter(1, "Icmp6OutPktTooBigs");
        // One flight at most is too large.
        assert!((1..=12).contains(&refused), "{refused} packets were too big");
    }
}

#[test]
fn udp_crosses_a_narrow_path_in_pieces() {
    let mut net = Net::routed(1000);
    let server = net.bound(2, Kind::Datagram, "10.1.0.1:53");
    let client = net.socket(0, Kind::Datagram, "10.1.0.1:53");
    let data: Vec<u8> = (0..5000).map(|i| i as u8).collect();
    let mut buf = vec![0; 9000];
    // Cut here to 1500, and what may be cut again there to 1000.
    net.sock(0, client).send_to(&data, None, at("10.1.0.1:53")).unwrap();
    net.run(Duration::from_secs(1));
    let (n, from, to) = net.sock(2, server).recv_from(&mut buf).unwrap();
    assert!(buf[..n] == data);
    assert_eq!((from.ip(), to), (ip("10.0.0.1"), at("10.1.0.1:53")));
    // Whole packets of ours carry DF: the first is refused, and the path is known from then on.
    net.sock(0, client).connect(at("10.1.0.1:53")).unwrap();
    net.sock(0, client).send(&data[..1200], SendFlags::default()).unwrap();
    net.run(Duration::from_secs(1));
    assert_eq!(net.sock(0, client).take_error(), Some(SockError::EMSGSIZE));
    net.sock(0, client).send(&data[..1200], SendFlags::default()).unwrap();
    net.run(Duration::from_secs(1));
    assert_eq!(net.sock(2, server).recv_from(&mut buf).unwrap().0, 1200);
}

#[test]
fn datagrams_wake_their_reader_and_show_in_the_list_of_sockets() {
    let mut net = Net::pair(PLAIN);
    let server = net.bound(1, Kind::Datagram, "0.0.0.0:53");
    let client = net.socket(0, Kind::Datagram, "10.0.0.2:53");
    net.sock(0, client).send_to(b"hello", None, at("10.0.0.2:53")).unwrap();
    net.run(Duration::from_millis(10));
    let ready = Readiness::READABLE.union(Readiness::WRITABLE);
    assert_eq!(net.stacks[1].poll_event(), Some(Event::Ready(server, ready)));
    assert_eq!(net.stacks[1].poll_event(), None);
    let now = net.now;
    let seen: Vec<_> = net.stacks[1].diag(now).collect();
    assert_eq!((seen.len(), seen[0].protocol, seen[0].local), (1, 17, at("0.0.0.0:53")));
    assert!(seen[0].recv_q >= 5);
    let held = net.stacks[1].memory_used();
    net.sock(1, server).close();
    assert!(net.stacks[1].memory_used() < held);
    assert_eq!(net.stacks[1].sock(now, server).err(), Some(SockError::EBADF));
    assert_eq!(net.stacks[1].diag(now).count(), 0);
    // Its port is free, and closed: the next datagram is refused.
    net.sock(0, client).connect(at("10.0.0.2:53")).unwrap();
    net.sock(0, client).send(b"x", SendFlags::default()).unwrap();
    net.run(Duration::from_millis(10));
    assert_eq!(net.sock(0, client).take_error(), Some(SockError::ECONNREFUSED));
}

#[test]
fn a_reader_of_the_loopback_is_served_within_one_poll() {
    let mut net = Net::pair(PLAIN);
    for addr in ["127.0.0.1:80", "[::1]:80", "10.0.0.1:81", "[fd00::1]:81"] {
        transfer(&mut net, 0, 0, addr, 300_000);
    }
    assert!(net.carried.is_empty(), "nothing of it left");
}

#[test]
fn ping_goes_there_and_back() {
    for addr in ["10.0.0.2:0", "[fd00::2]:0"] {
        let mut net = Net::pair(ETHERNET);
        let sock = net.socket(0, Kind::Echo, addr);
        net.sock(0, sock).send_to(b"\0\0\0\x05hello", None, at(addr)).unwrap();
        net.run(Duration::from_millis(100));
        let mut buf = [0; 100];
        let (n, from, _) = net.sock(0, sock).recv_from(&mut buf).unwrap();
        assert_eq!((&buf[2..n], from), (&b"\0\x05hello"[..], at(addr)));
        net.sock(0, sock).close();
    }
}

#[test]
fn a_host_far_away_that_refuses_is_refused_here() {
    let mut net = Net::routed(1500);
    for addr in ["10.1.0.1:9", "[fd01::1]:9"] {
        let tcp = net.socket(0, Kind::Stream, addr);
        net.sock(0, tcp).connect(at(addr)).unwrap();
        let udp = net.socket(0, Kind::Datagram, addr);
        net.sock(0, udp).connect(at(addr)).unwrap();
        net.sock(0, udp).send(b"x", SendFlags::default()).unwrap();
        net.run(Duration::from_millis(100));
        assert_eq!(net.sock(0, tcp).take_error(), Some(SockError::ECONNREFUSED));
        assert_eq!(net.sock(0, udp).take_error(), Some(SockError::ECONNREFUSED));
    }
    // No route beyond the router: it says so, TCP goes on trying, a connect gives up with that reason.
    let tcp = net.socket(0, Kind::Stream, "99.0.0.1:80");
    net.sock(0, tcp).connect(at("99.0.0.1:80")).unwrap();
    net.run(Duration::from_millis(100));
    assert_eq!(net.counter(0, "IcmpInDestUnreachs"), 2);
    assert_eq!(net.sock(0, tcp).take_error(), Some(SockError::ENETUNREACH));
}

#[test]
fn sysctls_of_ip_change_what_leaves() {
    let mut net = Net::pair(PLAIN);
    let sock = net.bound(0, Kind::Datagram, "10.0.0.1:7");
    let ttl_and_df = |net: &mut Net| {
        net.carried.clear();
        net.sock(0, sock).send_to(b"x", None, at("10.0.0.2:7")).unwrap();
        net.drain();
        let bytes = &net.carried[0];
        (bytes[8], bytes[6] & 0x40 != 0)
    };
    assert_eq!(ttl_and_df(&mut net), (64, true));
    net.stacks[0].set_sysctl("net.ipv4.ip_default_ttl", "33").unwrap();
    net.stacks[0].set_sysctl("net.ipv4.ip_no_pmtu_disc", "1").unwrap();
    assert_eq!(ttl_and_df(&mut net), (33, false));
    net.sock(0, sock).set_option(SockOption::Ttl(5)).unwrap();
    assert_eq!(ttl_and_df(&mut net), (5, false));
    assert!(net.stacks[0].set_sysctl("net.ipv4.ip_default_ttl", "256").is_err());
    assert!(net.stacks[0].set_sysctl("net.ipv4.no_such_knob", "1").is_err());
}
