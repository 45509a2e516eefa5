//! Accurate ECN between estab and the kernel over a router that marks, on real time: each end counts the marks that the router
//! set, and the other learns of them all.
//!
//! Linux 6.18 speaks Accurate ECN and has no sysctl to begin it (7.0 has: `tcp_ecn` 3). There, the router sets the bits: AE in
//! the kernel's SYN, which brings a SYN-ACK that the kernel takes; and, in the kernel's SYN-ACK to a SYN that asked, the ones of
//! who grants it, after which a cookie's final ACK has the bits that tell the kernel.

#![cfg(target_os = "linux")]

mod namespace;

use estab_device::{Device, Pipe, Rx, Tun, Tx};
use estab_engine::proto::TcpFlags;
use estab_sim::{Bridge, LinkConfig, Port};
use estab_tokio::{Stack, TcpListener, TcpStream};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BYTES: usize = 300_000;

/// What the router is to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bits {
    Leave,
    /// Set those that a kernel without `tcp_ecn` 3 does not set itself.
    BringOut,
}

/// Marks set, and the payload of the packets that got them.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
struct Marks {
    packets: u32,
    bytes: u32,
}

/// Marks that each direction gets, early enough that both ends have heard of all when they part.
const MARKS: u32 = 15;

/// The kernel's TUN, where every tenth ECT packet is marked: to the kernel, and from it.
struct Router {
    tun: Tun,
    bits: Bits,
    seen: [u32; 2],
    marks: Arc<Mutex<[Marks; 2]>>,
}

impl Router {
    fn mark(&mut self, packet: &mut [u8], out: bool) {
        const ECT0: u8 = 2;
        if packet.len() < 40 || packet[0] != 0x45 || packet[9] != 6 {
            return;
        }
        if packet[1] & 3 == ECT0 {
            let seen = &mut self.seen[usize::from(out)];
            *seen += 1;
            if *seen % 10 == 3 && *seen < 10 * MARKS {
                let payload = packet.len() - 20 - usize::from(packet[32] >> 4) * 4;
                let marks = &mut self.marks.lock().unwrap()[usize::from(out)];
                marks.packets += 1;
                marks.bytes += payload as u32;
                let word = u16::from_be_bytes([packet[0], packet[1] | 3]);
                replace(packet, 0, word, 10);
            }
        }
        let word = u16::from_be_bytes([packet[32], packet[33]]);
        let flags = TcpFlags(word & 0x1ff);
        if self.bits == Bits::BringOut && out && flags.contains(TcpFlags::SYN) {
            let ace = match flags.contains(TcpFlags::ACK) {
                false => TcpFlags::ACE,
                // "Your SYN came without ECT."
                true => TcpFlags::CWR,
            };
            replace(packet, 32, word & !TcpFlags::ACE.0 | ace.0, 36);
        }
    }
}

/// Puts a word in its place and the checksum right (RFC 1624).
fn replace(packet: &mut [u8], at: usize, new: u16, sum_at: usize) {
    let read = |packet: &[u8], at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let mut sum = u32::from(!read(packet, sum_at)) + u32::from(!read(packet, at)) + u32::from(new);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    packet[sum_at..sum_at + 2].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    packet[at..at + 2].copy_from_slice(&new.to_be_bytes());
}

impl Device for Router {
    fn recv(&mut self, buf: &mut [u8]) -> io::Result<Option<Rx>> {
        let rx = self.tun.recv(buf)?;
        if let Some(rx) = &rx {
            self.mark(&mut buf[..rx.len], true);
        }
        Ok(rx)
    }
    fn send(&mut self, packet: &[u8], tx: Tx) -> io::Result<()> {
        let mut packet = packet.to_vec();
        self.mark(&mut packet, false);
        self.tun.send(&packet, tx)
    }
    fn mtu(&self) -> u32 {
        self.tun.mtu()
    }
    fn gso_max_size(&self) -> u32 {
        0
    }
    fn csum_offload(&self) -> bool {
        false
    }
}

impl Port for Router {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.tun.fd()
    }
    fn on_packets(&self, _: Box<dyn Fn() + Send>) {}
}

/// What of `struct tcp_info` is about ECN.
#[derive(Clone, Copy, Debug)]
struct Ecn {
    options: u8,
    delivered_ce: u32,
    received_ce: u32,
    delivered_ce_bytes: u32,
    received_ce_bytes: u32,
}

/// The kernel's; what it has not is 0.
fn kernel_info(stream: &impl AsRawFd) -> Ecn {
    let mut bytes = [0u8; 280];
    let mut len = bytes.len() as libc::socklen_t;
    let (info, fd) = (bytes.as_mut_ptr().cast(), stream.as_raw_fd());
    // SAFETY: the kernel writes at most `len` bytes to `bytes`.
    let result = unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, info, &mut len) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
    Ecn {
        options: bytes[5],
        delivered_ce: word(196),
        received_ce: word(248),
        delivered_ce_bytes: word(260),
        received_ce_bytes: word(272),
    }
}

/// The kernel's part: takes everything, sends as much, waits for a last byte; then what it knows.
fn kernel_talks(mut stream: std::net::TcpStream) -> Ecn {
    let mut data = vec![0; BYTES];
    stream.read_exact(&mut data).unwrap();
    stream.write_all(&data).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    kernel_info(&stream)
}

/// Ours: the same from the other side. What our TCP_INFO says once all of it has come.
async fn estab_talks(stream: &mut TcpStream) -> estab_engine::proto::TcpInfo {
    let mut data = vec![1; BYTES];
    stream.write_all(&data).await.unwrap();
    stream.read_exact(&mut data).await.unwrap();
    stream.write_all(&[2]).await.unwrap();
    stream.info().unwrap()
}

/// Who opens the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Opener {
    Estab,
    Kernel,
}

fn meet(opener: Opener, accurate: bool) -> Result<(), String> {
    let tun = namespace::tun()?;
    let set = |name: &str, value: &str| std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value);
    let mut bits = Bits::Leave;
    if !accurate || set("tcp_ecn", "3").is_err() {
        set("tcp_ecn", "1").map_err(|e| format!("tcp_ecn: {e}"))?;
        let knows = std::fs::exists("/proc/sys/net/ipv4/tcp_ecn_option").unwrap_or(false);
        if accurate && !knows {
            eprintln!("skipped: this kernel has no Accurate ECN");
            return Ok(());
        }
        if accurate {
            bits = Bits::BringOut;
            set("tcp_syncookies", "2").map_err(|e| format!("tcp_syncookies: {e}"))?;
        }
    }
    let marks = Arc::new(Mutex::new([Marks::default(); 2]));
    let router = Router {
        tun,
        bits,
        seen: [0; 2],
        marks: Arc::clone(&marks),
    };
    let (near, far) = Pipe::pair(1500, 4096, false);
    let link = LinkConfig {
        delay: Duration::from_millis(2),
        ..LinkConfig::default()
    };
    let bridge = Bridge::start(far, router, link.clone(), link).map_err(|e| e.to_string())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let server = std::net::TcpListener::bind("10.9.0.1:80").map_err(|e| e.to_string())?;
    let (ours, theirs, _stack) = runtime.block_on(async {
        let stack = Stack::builder().address("10.9.0.2/24").on_pipe(near).unwrap();
        stack.with_engine(|_, engine| engine.set_sysctl("net.ipv4.tcp_ecn", "3").unwrap());
        let (mut stream, kernel) = match opener {
            Opener::Estab => {
                let kernel = std::thread::spawn(move || kernel_talks(server.accept().unwrap().0));
                (stack.scope(TcpStream::connect("10.9.0.1:80")).await.unwrap(), kernel)
            }
            Opener::Kernel => {
                let listener = stack.scope(TcpListener::bind("10.9.0.2:80")).await.unwrap();
                let kernel = std::thread::spawn(|| kernel_talks(std::net::TcpStream::connect("10.9.0.2:80").unwrap()));
                (listener.accept().await.unwrap().0, kernel)
            }
        };
        let ours = estab_talks(&mut stream).await;
        let theirs = tokio::task::spawn_blocking(move || kernel.join().unwrap())
            .await
            .unwrap();
        (ours, theirs, stack)
    });
    bridge.stop().map_err(|e| e.to_string())?;
    let [to, from] = *marks.lock().unwrap();
    assert_eq!((to.packets, from.packets), (MARKS, MARKS));
    let ecn = 8;
    assert_eq!(
        (ours.options & ecn, theirs.options & ecn),
        (ecn, ecn),
        "ECN, {opener:?} opens"
    );
    assert!(ours.snd_ssthresh < 1000, "marks are congestion");
    if !accurate {
        // An echo tells that there were some.
        assert!(ours.delivered_ce > 0 && theirs.delivered_ce > 0);
        return Ok(());
    }
    let known = (ours.received_ce, theirs.received_ce);
    assert_eq!(known, (from.packets, to.packets), "{opener:?} opens");
    let known = (ours.received_ce_bytes, theirs.received_ce_bytes);
    assert_eq!(known, (from.bytes, to.bytes), "{opener:?} opens");
    // Few ACKs of many packets are read for the worst.
    let known = (ours.delivered_ce, theirs.delivered_ce);
    assert!(known.0 >= to.packets && known.1 >= from.packets, "{known:?}");
    if opener == Opener::Kernel || bits == Bits::Leave {
        // Here there is the option too: a cookie forgets it.
        let known = (ours.delivered_ce_bytes, theirs.delivered_ce_bytes);
        assert_eq!(known, (to.bytes, from.bytes), "{opener:?} opens");
    }
    Ok(())
}

#[test]
fn the_kernel_and_estab_tell_each_other_every_mark() {
    for opener in [Opener::Estab, Opener::Kernel] {
        namespace::within(move || meet(opener, true));
    }
}

#[test]
fn a_kernel_that_knows_rfc_3168_only_gets_that() {
    for opener in [Opener::Estab, Opener::Kernel] {
        namespace::within(move || meet(opener, false));
    }
}
