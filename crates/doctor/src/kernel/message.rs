//! sock_diag's messages: the request, and an answer's bytes as a [`Socket`] (include/uapi/linux/inet_diag.h).
//!
//! The layouts are the kernel's ABI: fields are only ever added at the end, so a shorter message leaves the rest zero.

use crate::socket::{KernelSide, SkMem, Socket};
use estab_proto::diag::{BbrInfo, CcName};
use estab_proto::{SockDiag, State, TcpInfo, TimerInfo, TimerKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TCP: u8 = 6;

/// `struct inet_diag_msg`, before its attributes.
const FIXED: usize = 72;

/// Attributes of an answer (`INET_DIAG_*`); asking for n sets bit n-1 of the request's `idiag_ext`.
const INFO: u16 = 2;
const CONG: u16 = 4;
const SKMEMINFO: u16 = 7;
/// Asking for Vegas' brings BBR's too.
const VEGASINFO: u16 = 3;
const BBRINFO: u16 = 16;
const SHUTDOWN: u16 = 8;
const SKV6ONLY: u16 = 11;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Query {
    /// IPv6 instead of IPv4.
    pub ipv6: bool,
    /// IPPROTO_TCP (6) or IPPROTO_UDP (17).
    pub protocol: u8,
    /// One bit for each of Linux's state numbers.
    pub states: u32,
    /// tcp_info and the congestion control.
    pub info: bool,
    /// The socket's memory.
    pub memory: bool,
}

/// All states: also TCP_NEW_SYN_RECV (12) and, since 6.8, sockets that are bound and neither listen nor connect (13).
pub const ALL_STATES: u32 = 0x3ffe;

impl Query {
    /// `struct inet_diag_req_v2`.
    pub fn bytes(self) -> [u8; 56] {
        let mut bytes = [0; 56];
        bytes[0] = if self.ipv6 { AF_INET6 } else { AF_INET };
        bytes[1] = self.protocol;
        let bit = |attribute: u16, wanted: bool| u8::from(wanted) << (attribute - 1);
        bytes[2] =
            bit(INFO, self.info) | bit(CONG, self.info) | bit(VEGASINFO, self.info) | bit(SKMEMINFO, self.memory);
        bytes[4..8].copy_from_slice(&self.states.to_ne_bytes());
        bytes
    }
}

/// Reads native-endian integers one after another; past the end everything is zero.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        if let Some((head, tail)) = self.0.split_at_checked(N) {
            bytes.copy_from_slice(head);
            self.0 = tail;
        } else {
            self.0 = &[];
        }
        bytes
    }

    fn u8(&mut self) -> u8 {
        self.take::<1>()[0]
    }

    fn u16(&mut self) -> u16 {
        u16::from_ne_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_ne_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_ne_bytes(self.take())
    }
}

/// An answer's payload as a socket. `None` if it is too short or of a family or state unknown.
pub fn parse(protocol: u8, payload: &[u8]) -> Option<Socket> {
    let (fixed, attributes) = payload.split_at_checked(FIXED)?;
    let mut fields = Fields(fixed);
    let [family, state, timer, retries] = fields.take();
    let [sport, dport] = [fields.take(), fields.take()].map(u16::from_be_bytes);
    let (source, destination): ([u8; 16], [u8; 16]) = (fields.take(), fields.take());
    let iface = fields.u32();
    let cookie = u64::from(fields.u32()) | u64::from(fields.u32()) << 32;
    let (expires, rqueue, wqueue, uid, inode) = (fields.u32(), fields.u32(), fields.u32(), fields.u32(), fields.u32());

    let address = |bytes: [u8; 16], port| match family {
        AF_INET => {
            let [a, b, c, d, ..] = bytes;
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), port))
        }
        AF_INET6 => Some(SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(bytes), port, 0, 0))),
        _ => None,
    };
    let (local, remote) = (address(source, sport)?, address(destination, dport)?);
    let state = State::from_linux(state)?;
    let kind = match timer {
        1 if state == State::SynRcvd && inode == 0 => Some(TimerKind::SynAck),
        1 => Some(TimerKind::Retransmit),
        2 => Some(TimerKind::Keepalive),
        3 if state == State::FinWait2 => Some(TimerKind::FinWait2),
        3 => Some(TimerKind::TimeWait),
        4 => Some(TimerKind::Persist),
        _ => None,
    };
    let timer = kind.map(|kind| TimerInfo {
        kind,
        expires_in_ns: u64::from(expires) * 1_000_000,
        retries,
    });
    let mut socket = Socket {
        diag: SockDiag {
            protocol,
            state,
            local,
            remote,
            recv_q: rqueue,
            send_q: wqueue,
            timer,
            id: inode.into(),
            orphan: false,
            info: None,
        },
        kernel: None,
    };
    // A socket without an inode was closed by its process, or not accepted yet: that one hasn't sent FIN.
    let closed = matches!(
        state,
        State::FinWait1 | State::FinWait2 | State::Closing | State::LastAck
    );
    socket.diag.orphan = protocol == TCP && inode == 0 && closed && !socket.is_time_wait_entry();
    let mut kernel = KernelSide {
        uid,
        iface,
        cookie,
        ..KernelSide::default()
    };
    let (mut congestion, mut bbr) = (CcName::default(), None);
    for (kind, value) in Attributes(attributes) {
        match kind {
            INFO if protocol == TCP && !value.is_empty() => socket.diag.info = Some(tcp_info(value)),
            CONG => congestion = text(value),
            BBRINFO => bbr = Some(bbr_info(value)),
            SKMEMINFO => kernel.memory = Some(memory(value)),
            SHUTDOWN => kernel.shutdown = value.first().copied(),
            SKV6ONLY => kernel.v6_only = Some(value.first().is_some_and(|byte| *byte != 0)),
            _ => {}
        }
    }
    if let Some(info) = &mut socket.diag.info {
        (info.cc, info.bbr) = (congestion, bbr);
    }
    socket.kernel = Some(kernel);
    Some(socket)
}

fn text(value: &[u8]) -> CcName {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    CcName::new(str::from_utf8(&value[..end]).unwrap_or(""))
}

/// `struct tcp_bbr_info` (include/uapi/linux/inet_diag.h).
fn bbr_info(value: &[u8]) -> BbrInfo {
    let mut fields = Fields(value);
    let [low, high, min_rtt, pacing_gain, cwnd_gain] = [(); 5].map(|()| fields.u32());
    BbrInfo {
        bw: u64::from(high) << 32 | u64::from(low),
        min_rtt,
        pacing_gain,
        cwnd_gain,
    }
}

fn memory(value: &[u8]) -> SkMem {
    let mut fields = Fields(value);
    let [
        rmem,
        rcvbuf,
        wmem,
        sndbuf,
        fwd_alloc,
        wmem_queued,
        optmem,
        backlog,
        drops,
    ] = [(); 9].map(|()| fields.u32());
    SkMem {
        rmem,
        rcvbuf,
        wmem,
        sndbuf,
        fwd_alloc,
        wmem_queued,
        optmem,
        backlog,
        drops,
    }
}

/// Netlink attributes: length, type, value, each padded to 4 bytes (include/uapi/linux/netlink.h).
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let mut header = Fields(self.0.get(..4)?);
        let (length, kind) = (usize::from(header.u16()), header.u16());
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        // The two top bits say how the value is written, not what it is.
        Some((kind & 0x3fff, value))
    }
}

/// `struct tcp_info` (include/uapi/linux/tcp.h) of this or an older kernel.
fn tcp_info(value: &[u8]) -> TcpInfo {
    let mut f = Fields(value);
    let _state = f.u8();
    let mut info = TcpInfo {
        ca_state: f.u8(),
        retransmits: f.u8(),
        probes: f.u8(),
        backoff: f.u8(),
        options: f.u8(),
        ..TcpInfo::default()
    };
    let (scales, flags) = (f.u8(), f.u8());
    // Bit fields, which lie from the low bits on where the low byte comes first.
    (info.snd_wscale, info.rcv_wscale) = (scales & 15, scales >> 4);
    info.delivery_rate_app_limited = flags & 1 != 0;
    info.fastopen_client_fail = flags >> 1 & 3;
    if cfg!(target_endian = "big") {
        (info.snd_wscale, info.rcv_wscale) = (scales >> 4, scales & 15);
        info.delivery_rate_app_limited = flags & 128 != 0;
        info.fastopen_client_fail = flags >> 5 & 3;
    }
    for field in [
        &mut info.rto,
        &mut info.ato,
        &mut info.snd_mss,
        &mut info.rcv_mss,
        &mut info.unacked,
        &mut info.sacked,
        &mut info.lost,
        &mut info.retrans,
    ] {
        *field = f.u32();
    }
    let _fackets = f.u32();
    for field in [
        &mut info.last_data_sent,
        &mut info.last_ack_sent,
        &mut info.last_data_recv,
        &mut info.last_ack_recv,
        &mut info.pmtu,
        &mut info.rcv_ssthresh,
        &mut info.rtt,
        &mut info.rttvar,
        &mut info.snd_ssthresh,
        &mut info.snd_cwnd,
        &mut info.advmss,
        &mut info.reordering,
        &mut info.rcv_rtt,
        &mut info.rcv_space,
        &mut info.total_retrans,
    ] {
        *field = f.u32();
    }
    for field in [
        &mut info.pacing_rate,
        &mut info.max_pacing_rate,
        &mut info.bytes_acked,
        &mut info.bytes_received,
    ] {
        *field = f.u64();
    }
    for field in [
        &mut info.segs_out,
        &mut info.segs_in,
        &mut info.notsent_bytes,
        &mut info.min_rtt,
        &mut info.data_segs_in,
        &mut info.data_segs_out,
    ] {
        *field = f.u32();
    }
    for field in [
        &mut info.delivery_rate,
        &mut info.busy_time,
        &mut info.rwnd_limited,
        &mut info.sndbuf_limited,
    ] {
        *field = f.u64();
    }
    (info.delivered, info.delivered_ce) = (f.u32(), f.u32());
    (info.bytes_sent, info.bytes_retrans) = (f.u64(), f.u64());
    for field in [
        &mut info.dsack_dups,
        &mut info.reord_seen,
        &mut info.rcv_ooopack,
        &mut info.snd_wnd,
        &mut info.rcv_wnd,
        &mut info.rehash,
    ] {
        *field = f.u32();
    }
    (info.total_rto, info.total_rto_recoveries) = (f.u16(), f.u16());
    info.total_rto_time = f.u32();
    for field in [
        &mut info.received_ce,
        &mut info.delivered_e1_bytes,
        &mut info.delivered_e0_bytes,
        &mut info.delivered_ce_bytes,
        &mut info.received_e1_bytes,
        &mut info.received_e0_bytes,
        &mut info.received_ce_bytes,
    ] {
        *field = f.u32();
    }
    info
}
