//! What a guest and the servers it speaks with see of a gateway: the kernel's own TCP at both ends.
//!
//! Each scenario has a host's part, which runs in a host of its own (see `common`) and starts a gateway, and a
//! guest's part, which runs behind it. Both are this binary: `gateway OPTIONS -- CMD` is a small `estab gateway`,
//! `guest SCENARIO ARGS` the part behind it. Without them it runs the tests.

#[path = "../common/mod.rs"]
mod common;
mod datagrams;
mod flood;
mod gateway;
mod many;
mod published;
mod shielded;
mod streams;

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::process::{Command, ExitCode, Output};
use std::thread::JoinHandle;

/// A scenario: its name, what happens on the host and what behind the gateway.
type Scenario = (&'static str, fn(&Host), fn(&[String]));

fn scenarios() -> Vec<Scenario> {
    [
        streams::SCENARIOS,
        datagrams::SCENARIOS,
        published::SCENARIOS,
        shielded::SCENARIOS,
        many::SCENARIOS,
    ]
    .concat()
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let texts: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    match texts.first().map(String::as_str) {
        Some("gateway") => gateway::main(&args[1..]),
        Some("guest") => guest(&texts[1..]),
        _ => tests(&texts),
    }
}

fn guest(args: &[String]) -> ExitCode {
    let found = scenarios().into_iter().find(|(name, ..)| *name == args[0]);
    let (_, _, part) = found.expect("the host's part names a scenario");
    part(&args[1..]);
    ExitCode::SUCCESS
}

/// As libtest would: all, or those whose name holds an argument.
fn tests(args: &[String]) -> ExitCode {
    let exact = args.iter().any(|arg| arg == "--exact");
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| {
        let fits = |filter: &&String| {
            if exact {
                name == filter.as_str()
            } else {
                name.contains(filter.as_str())
            }
        };
        filters.is_empty() || filters.iter().any(fits)
    };
    let mut failed = 0;
    for (name, host, _) in scenarios().into_iter().filter(|(name, ..)| wanted(name)) {
        let body = || host(&Host { name });
        let result = std::panic::catch_unwind(|| common::in_host_with(name, &["--exact", name], body));
        println!("test {name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
        failed += usize::from(result.is_err());
    }
    ExitCode::from(u8::from(failed > 0))
}

/// The host of one scenario.
struct Host {
    name: &'static str,
}

/// An address that the host has besides its loopback's.
const OUTSIDE: &str = "192.0.2.7";
const OUTSIDE6: &str = "2001:db8::7";

impl Host {
    /// The scenario's guest behind a gateway.
    fn guest(&self, options: &[&str], args: &[&str]) -> Command {
        let exe = std::env::current_exe().expect("a test binary has a path");
        let mut command = Command::new(&exe);
        command
            .arg("gateway")
            .args(options)
            .arg("--")
            .arg(&exe)
            .arg("guest")
            .arg(self.name)
            .args(args);
        command
    }

    /// Runs it; every assertion of the guest's must hold.
    fn run(&self, options: &[&str], args: &[&str]) {
        finished(self.guest(options, args).output());
    }

    /// Gives the host an IPv4 and an IPv6 address that are not its loopback.
    fn outside(&self) {
        for address in [format!("{OUTSIDE}/32"), format!("{OUTSIDE6}/128")] {
            common::stdout(Command::new("ip").args(["address", "add", &address, "dev", "lo", "nodad"]));
        }
    }
}

fn finished(output: std::io::Result<Output>) {
    let output = output.expect("the test binary runs");
    assert!(
        output.status.success(),
        "the guest: {}\n{}",
        output.status,
        common::both(&output)
    );
}

/// A server for one connection, on a port of its own at `ip`.
fn serve<T: Send + 'static>(ip: &str, serve: impl FnOnce(TcpStream) -> T + Send + 'static) -> (u16, JoinHandle<T>) {
    let ip: IpAddr = ip.parse().expect("an address");
    let listener = TcpListener::bind((ip, 0)).expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    (
        port,
        std::thread::spawn(move || serve(listener.accept().expect("the guest comes").0)),
    )
}

/// Connects to the server that the guest was told of: `host.estab`, or the first argument, and the last argument's port.
fn connect(args: &[String]) -> TcpStream {
    TcpStream::connect(address(args)).expect("the server answers")
}

fn address(args: &[String]) -> SocketAddr {
    let port = args.last().and_then(|port| port.parse().ok()).expect("a port");
    let name = if args.len() > 1 { args[0].as_str() } else { "host.estab" };
    let wanted = |address: &SocketAddr| args.len() > 1 || address.is_ipv4();
    (name, port)
        .to_socket_addrs()
        .expect("it has an address")
        .find(wanted)
        .expect("of the family")
}

/// Bytes that tell of a gap, a swap or a repetition.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64 / 8 + 1)
        .flat_map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes())
        .take(len)
        .collect()
}

fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("the stream ends in order");
    all
}

fn write_all(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("the other side takes it");
}
