//! A SYN flood through a TUN of the host's, against the SYN proxy and against the kernel's own listener.
//!
//! What counts is the CPU time of flooder and gateway together, for the kernel does its part of the work within their calls. (It
//! does not show where a kernel books that part to nobody: `CONFIG_IRQ_TIME_ACCOUNTING`.) Both share one core, and every SYN is
//! answered before the next burst.

use crate::host::{self, SERVER, run};
use crate::subjects::Subject;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd};
use std::time::Duration;

/// Where the SYN proxy answers, and the port of both.
const SHIELDED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);
const PORT: u16 = 81;
/// SYNs at once, fewer than a TUN's queue holds.
const BURST: usize = 256;

/// CPU time per SYN answered, nanoseconds: of all, and of the gateway.
pub struct Cost {
    pub all: f64,
    pub gateway: Option<f64>,
}

/// Sends `count` SYNs, from as many hosts and ports at random, to a listener that answers each with a cookie.
pub fn cost(subject: &Subject, count: usize) -> Result<Cost> {
    let _core = OneCore::enter()?;
    let mut tun = open_tun()?;
    if subject.has_process() {
        let gateway = subject.start_shield(SHIELDED, PORT)?;
        let pid = gateway.pid().context("a gateway has a process")?;
        subject.set_sysctl(pid, "net.ipv4.tcp_syncookies=2")?;
        flood(&mut tun, SHIELDED, BURST * 40, Some(pid))?;
        return flood(&mut tun, SHIELDED, count, Some(pid));
    }
    std::fs::write("/proc/sys/net/ipv4/tcp_syncookies", "2")?;
    let listener = TcpListener::bind(SocketAddr::from((SERVER, PORT)))?;
    // SAFETY: a call on a socket of ours, which changes its backlog.
    unsafe { libc::listen(listener.as_raw_fd(), 4096) };
    flood(&mut tun, SERVER, BURST * 40, None)?;
    flood(&mut tun, SERVER, count, None)
}

fn flood(tun: &mut File, to: Ipv4Addr, count: usize, gateway: Option<u32>) -> Result<Cost> {
    let mut random = 1;
    let syns: Vec<[u8; 60]> = (0..count).map(|_| syn(to, &mut random)).collect();
    let running = || {
        let own = host::running_ns(std::process::id());
        (own, gateway.map_or(0.0, host::running_ns))
    };
    let before = running();
    for burst in syns.chunks(BURST) {
        for syn in burst {
            tun.write_all(syn)?;
        }
        answers(tun, burst.len())?;
    }
    let after = running();
    let of_gateway = (after.1 - before.1) / count as f64;
    Ok(Cost {
        all: (after.0 - before.0) / count as f64 + of_gateway,
        gateway: gateway.map(|_| of_gateway),
    })
}

/// Takes as many SYN-ACKs.
fn answers(tun: &mut File, count: usize) -> Result<()> {
    let mut packet = [0; 256];
    let mut got = 0;
    while got < count {
        match tun.read(&mut packet) {
            // IPv4 without options, TCP, SYN and ACK.
            Ok(len) => {
                got += usize::from(len >= 40 && packet[0] == 0x45 && packet[9] == 6 && packet[33] & 0x12 == 0x12)
            }
            Err(err) if err.kind() == ErrorKind::WouldBlock => {
                let mut ready = libc::pollfd {
                    fd: tun.as_raw_fd(),
                    events: libc::POLLIN,
                    revents: 0,
                };
                // SAFETY: `ready` is one valid pollfd.
                if unsafe { libc::poll(&mut ready, 1, 2000) } == 0 {
                    bail!("{} of {count} SYNs were not answered", count - got);
                }
            }
            Err(err) => return Err(err.into()),
        }
    }
    Ok(())
}

/// A SYN with Linux's options from a random host of 198.18.0.0/15 (RFC 2544).
fn syn(to: Ipv4Addr, random: &mut u64) -> [u8; 60] {
    *random = random
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    let bits = (*random >> 32) as u32;
    let mut p = [0; 60];
    p[..12].copy_from_slice(&[0x45, 0, 0, 60, 0, 0, 0x40, 0, 64, 6, 0, 0]);
    p[12..16].copy_from_slice(&(0xc612_0000 | bits & 0x1_ffff).to_be_bytes());
    p[16..20].copy_from_slice(&to.octets());
    p[20..22].copy_from_slice(&(1024 + (bits >> 17) as u16).to_be_bytes());
    p[22..24].copy_from_slice(&PORT.to_be_bytes());
    p[24..28].copy_from_slice(&bits.to_be_bytes());
    p[32..36].copy_from_slice(&[0xa0, 0x02, 0xfa, 0xf0]);
    p[40..46].copy_from_slice(&[2, 4, 0x05, 0xb4, 4, 2]);
    p[46..48].copy_from_slice(&[8, 10]);
    p[48..52].copy_from_slice(&bits.to_be_bytes());
    p[56..60].copy_from_slice(&[1, 3, 3, 7]);
    let ip = sum(0, &p[..20]);
    p[10..12].copy_from_slice(&ip);
    // The pseudo-header (RFC 9293 §3.1): addresses, protocol and length.
    let pseudo = p[12..20]
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
        .sum::<u32>()
        + 6
        + 40;
    let tcp = sum(pseudo, &p[20..]);
    p[36..38].copy_from_slice(&tcp);
    p
}

/// The Internet checksum (RFC 1071) of `bytes` after `before`.
fn sum(before: u32, bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum = before + words.sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    (!(folded + (folded >> 16)) as u16).to_be_bytes()
}

/// The TUN that the flood comes by, with the way back to its hosts; gone when closed.
fn open_tun() -> Result<File> {
    // SAFETY: the path is a C string; the descriptor is new, and nobody else's.
    let tun = unsafe {
        let fd = libc::open(
            c"/dev/net/tun".as_ptr(),
            libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC,
        );
        anyhow::ensure!(fd >= 0, "cannot open /dev/net/tun: {}", std::io::Error::last_os_error());
        File::from_raw_fd(fd)
    };
    let mut request = [0_u8; 40];
    request[..6].copy_from_slice(b"flood0");
    // IFF_TUN | IFF_NO_PI, where `struct ifreq` has its flags.
    request[16..18].copy_from_slice(&0x1001_u16.to_ne_bytes());
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq` of 40 bytes.
    if unsafe { libc::ioctl(tun.as_raw_fd(), 0x4004_54ca, request.as_mut_ptr()) } != 0 {
        return Err(std::io::Error::last_os_error()).context("cannot make a TUN");
    }
    run("ip link set flood0 up")?;
    run("ip route add 198.18.0.0/15 dev flood0")?;
    Ok(tun)
}

/// This thread, and the processes it starts, on one core until dropped; and this thread one that takes the core from nobody when
/// it is woken (SCHED_BATCH, sched(7)): a flooder waits for no answer, so that the first must not interrupt the others.
struct OneCore(libc::cpu_set_t);

impl OneCore {
    fn enter() -> Result<OneCore> {
        // SAFETY: cpu_set_t is plain data for which zero is valid, and the calls read or write one each.
        unsafe {
            let mut all: libc::cpu_set_t = std::mem::zeroed();
            let mut one: libc::cpu_set_t = std::mem::zeroed();
            let size = size_of::<libc::cpu_set_t>();
            libc::sched_getaffinity(0, size, &mut all);
            let last = (0..libc::CPU_SETSIZE as usize)
                .rev()
                .find(|&core| libc::CPU_ISSET(core, &all));
            libc::CPU_SET(last.context("this process may run nowhere")?, &mut one);
            libc::sched_setaffinity(0, size, &one);
            let param = libc::sched_param { sched_priority: 0 };
            libc::sched_setscheduler(0, libc::SCHED_BATCH | libc::SCHED_RESET_ON_FORK, &param);
            Ok(OneCore(all))
        }
    }
}

impl Drop for OneCore {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe {
            let param = libc::sched_param { sched_priority: 0 };
            libc::sched_setscheduler(0, libc::SCHED_OTHER, &param);
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &self.0);
        }
        // What the next one's TUN has for a name is free again.
        std::thread::sleep(Duration::from_millis(50));
    }
}
