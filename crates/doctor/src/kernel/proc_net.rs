//! The kernel's sockets by /proc/net/tcp and its like, where netlink is forbidden: without tcp_info, memory and the
//! backlogs of listeners, and slower.

use super::Ask;
use crate::socket::Socket;
use estab_proto::{SockDiag, State, TimerInfo, TimerKind};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// Nanoseconds in a tick of /proc's clock (USER_HZ, 100).
const TICK: u64 = 10_000_000;

/// Hands every socket that `ask` wants to `each`; `proc` is "/proc".
///
/// # Errors
/// None of the files can be read.
pub fn read(proc: &Path, ask: Ask, mut each: impl FnMut(Socket)) -> io::Result<()> {
    let mut opened = Err(io::ErrorKind::NotFound.into());
    for (name, protocol, wanted) in [
        ("udp", 17, ask.udp && ask.ipv4),
        ("udp6", 17, ask.udp && ask.ipv6),
        ("tcp", 6, ask.tcp && ask.ipv4),
        ("tcp6", 6, ask.tcp && ask.ipv6),
    ] {
        if !wanted {
            continue;
        }
        let file = match File::open(proc.join("net").join(name)) {
            Ok(file) => file,
            Err(err) => {
                opened = opened.or(Err(err));
                continue;
            }
        };
        opened = Ok(());
        for line in BufReader::with_capacity(1 << 16, file).lines().skip(1) {
            let found = parse(protocol, &line?);
            if let Some(socket) = found.filter(|socket| 1 << socket.diag.state as u32 & ask.states != 0) {
                each(socket);
            }
        }
    }
    opened
}

/// One line (net/ipv4/tcp_ipv4.c, tcp4_seq_show). `None` if it is none.
pub fn parse(protocol: u8, line: &str) -> Option<Socket> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let &[
        _,
        local,
        remote,
        state,
        queues,
        timer,
        retries,
        _uid,
        _probes,
        inode,
        ..,
    ] = words.as_slice()
    else {
        return None;
    };
    let state = State::from_linux(u8::from_str_radix(state, 16).ok()?)?;
    let (send_q, recv_q) = queues.split_once(':')?;
    let (kind, when) = timer.split_once(':')?;
    let inode = inode.parse().ok()?;
    let kind = match kind {
        "01" if state == State::SynRcvd && inode == 0 => Some(TimerKind::SynAck),
        "01" => Some(TimerKind::Retransmit),
        "02" => Some(TimerKind::Keepalive),
        "03" if state == State::FinWait2 => Some(TimerKind::FinWait2),
        "03" => Some(TimerKind::TimeWait),
        "04" => Some(TimerKind::Persist),
        _ => None,
    };
    let ticks = u64::from_str_radix(when, 16).ok()?;
    let closed = matches!(
        state,
        State::FinWait1 | State::FinWait2 | State::Closing | State::LastAck
    );
    Some(Socket::from(SockDiag {
        protocol,
        state,
        local: address(local)?,
        remote: address(remote)?,
        recv_q: u32::from_str_radix(recv_q, 16).ok()?,
        send_q: u32::from_str_radix(send_q, 16).ok()?,
        timer: kind.map(|kind| TimerInfo {
            kind,
            expires_in_ns: ticks.saturating_mul(TICK),
            retries: u64::from_str_radix(retries, 16).unwrap_or(0).min(255) as u8,
        }),
        id: inode,
        orphan: protocol == 6
            && inode == 0
            && closed
            && !matches!(kind, Some(TimerKind::TimeWait | TimerKind::FinWait2)),
        info: None,
    }))
}

/// `0100007F:1F90`: words in the machine's own order, the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = ip.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(at)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}
