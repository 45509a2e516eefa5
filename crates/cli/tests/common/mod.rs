//! A network namespace of its own for each test, a peer behind a TUN that speaks TCP by hand, and commands to compare.
#![allow(dead_code)] // Each test binary uses a part of it.

use estab_device::{Device, Tun, TunConfig, Tx};
use estab_wire::checksum::Sum;
use estab_wire::ip::{ipv4, protocol};
use estab_wire::tcp::{self, Options, Segment, Timestamps, flags};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Where the kernel is, and where the peer.
pub(crate) const KERNEL: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
pub(crate) const PEER: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 2);

/// Says that a test can't run here; where everything must run (CI=true), that is a failure.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "can't run: {why}");
    eprintln!("skipped: {why}");
}

/// Runs `body` as root of a network namespace with loopback up: in a second process of this binary that runs `test` alone.
pub(crate) fn in_own_network(test: &str, body: impl FnOnce()) {
    const INSIDE: &str = "ESTAB_TEST_NETWORK";
    if std::env::var_os(INSIDE).is_some() {
        run("ip link set lo up");
        return body();
    }
    let unshare = || {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--net"]);
        unshare
    };
    if !unshare()
        .arg("true")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        return skip("no new namespaces (unshare)");
    }
    let tun = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    if tun.is_err() {
        return skip("/dev/net/tun does not open");
    }
    for tool in ["ip", "ss", "netstat"] {
        if Command::new(tool).arg("--version").output().is_err() {
            return skip(&format!("there is no {tool}"));
        }
    }
    let output = unshare()
        .arg(std::env::current_exe().expect("a test binary has a path"))
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare ran a moment ago");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "inside the namespace:\n{text}");
    assert!(text.contains("1 passed"), "`{test}` is no test of this binary:\n{text}");
}

/// Runs a command that must succeed; its standard output.
pub(crate) fn run(command: &str) -> String {
    let words: Vec<&str> = command.split_whitespace().collect();
    output(words[0], &words[1..])
}

/// The same for `estab`.
pub(crate) fn estab(arguments: &[&str]) -> String {
    output(env!("CARGO_BIN_EXE_estab"), arguments)
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// Sets a sysctl of this namespace.
pub(crate) fn sysctl(name: &str, value: &str) {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    std::fs::write(&path, value).unwrap_or_else(|err| panic!("{path}: {err}"));
}

/// The far side of a TUN: hosts in 10.0.0.0/8 but for [`KERNEL`], that do only what a test says.
pub(crate) struct Peer {
    tun: Tun,
}

/// A connection as the peer has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conn {
    pub(crate) host: Ipv4Addr,
    /// The peer's port, then the kernel's.
    pub(crate) ports: (u16, u16),
    /// The next of the peer's, and the next expected of the kernel's.
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) window: u16,
    /// The timestamp sent and the last one received, if there are any.
    pub(crate) stamps: Option<(u32, u32)>,
}

impl Peer {
    pub(crate) fn new() -> Peer {
        let config = TunConfig {
            name: "peer0".into(),
            ..TunConfig::default()
        };
        let tun = Tun::open(&config, 1).expect("a TUN").remove(0);
        run("ip addr add 10.7.0.1/8 dev peer0");
        run("ip link set peer0 up");
        Peer { tun }
    }

    /// Sends a segment without data.
    pub(crate) fn send(&mut self, conn: &Conn, flags: u16) {
        let header = tcp::Header {
            src_port: conn.ports.0,
            dst_port: conn.ports.1,
            seq: conn.seq,
            ack: if flags & flags::ACK != 0 { conn.ack } else { 0 },
            flags,
            window: conn.window,
            urgent: 0,
        };
        let options = Options {
            timestamps: conn.stamps.map(|(val, ecr)| Timestamps { val, ecr }),
            mss: (flags & flags::SYN != 0).then_some(1460),
            ..Options::default()
        };
        let mut packet = [0; 120];
        let (ip, tcp) = packet.split_at_mut(20);
        let length = header.write(tcp, &options).expect("it fits");
        tcp::set_checksum(&mut tcp[..length], conn.host.into(), KERNEL.into(), Sum::default(), 0);
        let header = ipv4::Header::new(conn.host, KERNEL, protocol::TCP);
        header.write(ip, length).expect("it fits");
        self.tun
            .send(&packet[..20 + length], Tx::default())
            .expect("room in the TUN");
    }

    /// The kernel's next segment of `conn` with all of `wanted` set: its sequence number, and its timestamp if it has one.
    pub(crate) fn wait(&mut self, conn: &Conn, wanted: u16) -> (u32, Option<u32>) {
        let mut buf = vec![0; self.tun.recv_max()];
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            let Some(rx) = self.tun.recv(&mut buf).expect("the TUN") else {
                std::thread::yield_now();
                continue;
            };
            let packet = &buf[..rx.len];
            // IPv4 without options, TCP.
            if packet.len() < 40 || packet[0] != 0x45 || packet[9] != 6 || packet[16..20] != conn.host.octets() {
                continue;
            }
            let segment = Segment::parse(&packet[20..]).expect("the kernel writes whole segments");
            if (segment.dst_port, segment.src_port) == conn.ports && segment.flags & wanted == wanted {
                return (segment.seq, segment.options.timestamps.map(|stamps| stamps.val));
            }
        }
        panic!("the kernel sent no segment with flags {wanted:#x} for {conn:?}");
    }

    /// Takes what has come and answers nothing. What still waits in the TUN the kernel counts as not yet sent, and does
    /// not repeat.
    pub(crate) fn ignore(&mut self) {
        let mut buf = vec![0; self.tun.recv_max()];
        while self.tun.recv(&mut buf).expect("the TUN").is_some() {}
        std::thread::yield_now();
    }

    /// Sends a SYN from `port` and keeps silent.
    pub(crate) fn syn(&mut self, host: Ipv4Addr, port: u16, to: u16) -> Conn {
        self.syn_with(host, port, to, 65535, None)
    }

    pub(crate) fn syn_with(&mut self, host: Ipv4Addr, port: u16, to: u16, window: u16, stamp: Option<u32>) -> Conn {
        let mut conn = Conn {
            host,
            ports: (port, to),
            seq: 1_000_000,
            ack: 0,
            window,
            stamps: stamp.map(|val| (val, 0)),
        };
        self.send(&conn, flags::SYN);
        conn.seq += 1;
        conn
    }

    /// Answers the SYN-ACK.
    pub(crate) fn establish(&mut self, conn: &mut Conn) {
        let (seq, stamp) = self.wait(conn, flags::SYN | flags::ACK);
        conn.ack = seq.wrapping_add(1);
        if let (Some((_, ecr)), Some(stamp)) = (&mut conn.stamps, stamp) {
            *ecr = stamp;
        }
        self.send(conn, flags::ACK);
    }

    /// Opens a connection from `port` to the kernel's `to`.
    pub(crate) fn connect(&mut self, port: u16, to: u16) -> Conn {
        let mut conn = self.syn(PEER, port, to);
        self.establish(&mut conn);
        conn
    }

    /// Sends FIN, acknowledging what `conn` does.
    pub(crate) fn fin(&mut self, conn: &mut Conn) {
        self.send(conn, flags::FIN | flags::ACK);
        conn.seq += 1;
    }

    /// Waits for the kernel's FIN, and takes it into `conn` so that the next segment acknowledges it.
    pub(crate) fn take_fin(&mut self, conn: &mut Conn) {
        let (seq, _) = self.wait(conn, flags::FIN);
        conn.ack = seq.wrapping_add(1);
    }
}

/// What the doctor finds; by id.
pub(crate) struct Diagnosis(Value);

impl Diagnosis {
    pub(crate) fn now() -> Diagnosis {
        Diagnosis::of(&estab(&["doctor", "--kernel", "--json", "--sample", "200ms"]))
    }

    /// The same, while `meanwhile` is done over and over again for as long as it takes.
    pub(crate) fn during(sample: &str, mut meanwhile: impl FnMut()) -> Diagnosis {
        let mut child = Command::new(env!("CARGO_BIN_EXE_estab"))
            .args(["doctor", "--kernel", "--json", "--sample", sample])
            .stdout(Stdio::piped())
            .spawn()
            .expect("estab");
        while child.try_wait().expect("a child").is_none() {
            meanwhile();
        }
        let mut text = String::new();
        child
            .stdout
            .take()
            .expect("a pipe")
            .read_to_string(&mut text)
            .expect("text");
        Diagnosis::of(&text)
    }

    pub(crate) fn of(json: &str) -> Diagnosis {
        Diagnosis(serde_json::from_str(json).expect("JSON"))
    }

    pub(crate) fn ids(&self) -> Vec<&str> {
        self.findings().filter_map(|finding| finding["id"].as_str()).collect()
    }

    pub(crate) fn findings(&self) -> impl Iterator<Item = &Value> {
        self.0["findings"].as_array().expect("a list").iter()
    }

    /// The finding `id`, of this severity, whose title and evidence tell each of `told`.
    pub(crate) fn has(&self, id: &str, severity: &str, told: &[&str]) {
        let finding = self.findings().find(|finding| finding["id"] == id);
        let finding = finding.unwrap_or_else(|| panic!("no {id}: {:#}", self.0));
        assert_eq!(finding["severity"], severity, "{finding:#}");
        let text = finding.to_string();
        for words in told {
            assert!(text.contains(words), "{id} does not tell {words:?}: {finding:#}");
        }
    }

    pub(crate) fn has_not(&self, id: &str) {
        assert!(!self.ids().contains(&id), "{id}: {:#}", self.0);
    }
}

/// Bound, listening, with this backlog.
pub(crate) fn listener(address: (Ipv4Addr, u16), backlog: i32) -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(address).into()).expect("a free port");
    socket.listen(backlog).expect("to listen");
    socket.into()
}

/// A connect that is not waited for.
pub(crate) fn connecting(to: (Ipv4Addr, u16)) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_nonblocking(true).expect("not to wait");
    // In progress.
    let _ = socket.connect(&SocketAddr::from(to).into());
    socket
}
