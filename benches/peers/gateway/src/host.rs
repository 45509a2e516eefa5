//! The namespace that plays the host, and the commands that arrange it.

use anyhow::{Context, Result, bail};
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

/// Where the servers are: an address of the host that no gateway takes for the guest's own.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// Gives the host an interface, a default route, a resolver that isn't the machine's, and the servers' address.
pub fn set_up() -> Result<()> {
    for line in [
        "ip link set lo up",
        "ip address add 198.51.100.1/32 dev lo",
        "ip link add uplink type veth peer name beyond",
        "ip address add 192.0.2.1/24 dev uplink",
        "ip link set uplink up",
        "ip link set beyond up",
        "ip route add default via 192.0.2.2 dev uplink",
        "mount --make-rprivate /",
    ] {
        run(line)?;
    }
    let resolv = std::env::temp_dir().join(format!("gateway-bench-{}", std::process::id()));
    std::fs::write(&resolv, "nameserver 198.51.100.1\n")?;
    let bound = run(&format!("mount --bind {} /etc/resolv.conf", resolv.display()));
    std::fs::remove_file(&resolv)?;
    bound?;
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    wide_port_range();
    Ok(())
}

/// Client ports from 10000 on, and again a second after their end, so that TIME_WAIT does not use them up: a connect that has to
/// search for one takes milliseconds.
pub fn wide_port_range() {
    // A guest without the right to it keeps its own.
    let _ = std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "10000 65535");
    let _ = std::fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", "1");
}

/// Runs a command line of words without spaces in them.
pub fn run(line: &str) -> Result<()> {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap_or_default();
    let out = Command::new(program)
        .args(words)
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    if !out.status.success() {
        bail!("{line}: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}

/// Waits until `ready`, five seconds at most.
pub fn wait_for(what: &str, mut ready: impl FnMut() -> bool) -> Result<()> {
    let begin = Instant::now();
    while !ready() {
        if begin.elapsed() > Duration::from_secs(5) {
            bail!("{what} did not come in 5 s");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Whether somebody listens at a TCP port in this namespace.
pub fn listens(port: u16) -> bool {
    let wanted = format!(":{port:04X} ");
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|table| {
        let table = std::fs::read_to_string(table).unwrap_or_default();
        table
            .lines()
            .any(|line| line.contains(&wanted) && line.contains(" 0A "))
    })
}

/// CPU time a process has used, all its threads, seconds.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // What follows the name, which may hold anything.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    // utime and stime, fields 14 and 15 of proc(5), in hundredths.
    (ticks(11) + ticks(12)) / 100.0
}

/// Resident bytes of a process.
pub fn rss(pid: u32) -> f64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|n| n.parse::<f64>().ok());
    pages.unwrap_or(0.0) * 4096.0
}

/// Nanoseconds that a process has been running on a core, all its threads (proc(5), schedstat).
pub fn running_ns(pid: u32) -> f64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let of = |thread: std::fs::DirEntry| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    };
    threads.filter_map(of).sum()
}
