//! What the tests share: packets to feed, and a network of their own for those that need the kernel.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::net::IpAddr;
use std::process::Command;

use estab_wire::checksum::{Sum, checksum};

/// The parts of a TCP or UDP packet that the tests vary.
pub struct Packet {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub tcp: bool,
    pub flags: u8,
    pub seq: u32,
    pub payload: Vec<u8>,
}

impl Packet {
    /// From port 1000 to port 2000.
    pub fn new(src: &str, dst: &str, payload: Vec<u8>) -> Self {
        let ip = |text: &str| text.parse().expect("an address in the test");
        Self {
            src: ip(src),
            dst: ip(dst),
            tcp: true,
            flags: 0x10,
            seq: 1,
            payload,
        }
    }

    /// Where the transport header begins.
    pub fn transport(&self) -> usize {
        if self.src.is_ipv4() { 20 } else { 40 }
    }

    /// The packet with a partial checksum: the pseudo-header's sum.
    pub fn partial(&self) -> Vec<u8> {
        let mut transport = Vec::new();
        transport.extend_from_slice(&1000_u16.to_be_bytes());
        transport.extend_from_slice(&2000_u16.to_be_bytes());
        let field = if self.tcp { 16 } else { 6 };
        if self.tcp {
            transport.extend_from_slice(&self.seq.to_be_bytes());
            transport.extend_from_slice(&77_u32.to_be_bytes());
            // Eight words: a timestamp option behind the header.
            transport.extend_from_slice(&[0x80, self.flags, 0x10, 0x00, 0, 0, 0, 0]);
            transport.extend_from_slice(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
        } else {
            transport.extend_from_slice(&((self.payload.len() + 8) as u16).to_be_bytes());
            transport.extend_from_slice(&[0, 0]);
        }
        transport.extend_from_slice(&self.payload);
        let protocol = if self.tcp { 6 } else { 17 };
        let sum = Sum::pseudo(self.src, self.dst, protocol, transport.len()).fold();
        transport[field..field + 2].copy_from_slice(&sum.to_be_bytes());

        let mut packet = Vec::new();
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                packet.extend_from_slice(&[0x45, 0]);
                packet.extend_from_slice(&((20 + transport.len()) as u16).to_be_bytes());
                packet.extend_from_slice(&[0xff, 0xff, 0x40, 0, 64, protocol, 0, 0]);
                packet.extend_from_slice(&src.octets());
                packet.extend_from_slice(&dst.octets());
                let sum = checksum(&packet);
                packet[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                packet.extend_from_slice(&[0x60, 0, 0, 0]);
                packet.extend_from_slice(&(transport.len() as u16).to_be_bytes());
                packet.extend_from_slice(&[protocol, 64]);
                packet.extend_from_slice(&src.octets());
                packet.extend_from_slice(&dst.octets());
            }
            _ => panic!("one family per packet"),
        }
        packet.extend_from_slice(&transport);
        packet
    }
}

/// Bytes that differ by position.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Says that a test can't run here; where everything must run (CI=true), that is a failure.
pub fn skip(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "can't run: {why}");
    eprintln!("skipped: {why}");
}

/// Runs `body` as root of a network namespace: in a second process of this test binary that runs `test` alone.
pub fn in_own_network(test: &str, body: impl FnOnce()) {
    const INSIDE: &str = "ESTAB_TEST_NETWORK";
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let exe = std::env::current_exe().expect("a test binary has a path");
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--net", "--mount"]);
    let works = unshare.arg("true").output().is_ok_and(|output| output.status.success());
    if !works {
        return skip("no new namespaces (unshare)");
    }
    if std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .is_err()
    {
        return skip("/dev/net/tun does not open");
    }
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--mount"])
        .arg(exe)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare ran a moment ago");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "inside the namespace:\n{text}");
    assert!(text.contains("1 passed"), "`{test}` is no test of this binary:\n{text}");
}

/// Runs a command that must succeed.
pub fn run(command: &str) {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().expect("a command"))
        .args(words)
        .output()
        .expect(command);
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
