//! What can be said of one socket at one moment, whoever keeps it: an estab stack or the kernel.

use crate::State;
use core::net::SocketAddr;

/// A timer that runs on a connection, and so the reason something will happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[repr(u8)]
pub enum TimerKind {
    /// Retransmission timeout (RFC 6298); SYN and SYN-ACK retries too.
    Retransmit,
    /// Tail loss probe (RFC 8985 §7).
    LossProbe,
    /// RACK's reordering window (RFC 8985 §6.3).
    Reorder,
    /// Zero-window probe (RFC 9293 §3.8.6.1).
    Persist,
    /// Keepalive probe (RFC 9293 §3.8.4).
    Keepalive,
    /// Delayed acknowledgment (RFC 9293 §3.8.6.3).
    DelayedAck,
    /// Orphaned FIN_WAIT_2 (`tcp_fin_timeout`).
    FinWait2,
    /// 2·MSL of TIME_WAIT (RFC 9293 §3.6.1).
    TimeWait,
    /// A SYN-ACK waits for its ACK.
    SynAck,
    /// Pacing holds data back.
    Pacing,
    /// A transparent open waits for the application's answer.
    Open,
}

impl TimerKind {
    /// ss's word for it: `on`, `timewait`, `keepalive`, `persist`, …
    pub const fn ss(self) -> &'static str {
        match self {
            TimerKind::Retransmit | TimerKind::LossProbe | TimerKind::Reorder | TimerKind::SynAck => "on",
            TimerKind::Persist => "persist",
            TimerKind::Keepalive => "keepalive",
            TimerKind::TimeWait | TimerKind::FinWait2 => "timewait",
            TimerKind::DelayedAck => "delack",
            TimerKind::Pacing => "pacing",
            TimerKind::Open => "open",
        }
    }
}

/// A running timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TimerInfo {
    /// Why it runs.
    pub kind: TimerKind,
    /// Nanoseconds until it fires.
    pub expires_in_ns: u64,
    /// How often it has fired without an answer.
    pub retries: u8,
}

/// One socket, request, connection or TIME_WAIT.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SockDiag {
    /// IPPROTO_TCP (6) or IPPROTO_UDP (17).
    pub protocol: u8,
    /// TCP's state; UDP's is `Closed` (ss: UNCONN) or `Established`.
    pub state: State,
    /// Our address and port.
    pub local: SocketAddr,
    /// The peer's, or an unspecified address and port 0.
    pub remote: SocketAddr,
    /// Bytes received and unread; for a listener the connections waiting to be accepted.
    pub recv_q: u32,
    /// Bytes written and unacknowledged; for a listener its backlog.
    pub send_q: u32,
    /// The timer that fires next.
    pub timer: Option<TimerInfo>,
    /// Identifies the socket within its stack (the kernel: the inode; 0 when it has none).
    pub id: u64,
    /// No application holds it any more.
    pub orphan: bool,
    /// Details, where the source gives them.
    pub info: Option<TcpInfo>,
}

/// A congestion control's name, at most 15 bytes as in Linux (TCP_CA_NAME_MAX).
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct CcName([u8; 16]);

impl CcName {
    /// The name, cut to 15 bytes.
    pub const fn new(name: &str) -> CcName {
        let mut bytes = [0; 16];
        let mut len = 0;
        while len < name.len() && len < 15 {
            bytes[len] = name.as_bytes()[len];
            len += 1;
        }
        CcName(bytes)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        let len = self.0.iter().position(|b| *b == 0).unwrap_or(16);
        core::str::from_utf8(&self.0[..len]).unwrap_or("")
    }
}

impl core::fmt::Debug for CcName {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for CcName {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for CcName {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<CcName, D::Error> {
        struct Name;
        impl serde::de::Visitor<'_> for Name {
            type Value = CcName;
            fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str("the name of a congestion control")
            }
            fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<CcName, E> {
                Ok(CcName::new(v))
            }
        }
        d.deserialize_str(Name)
    }
}

/// The fields of Linux's `struct tcp_info` (include/uapi/linux/tcp.h) without their `tcpi_` prefix;
/// microseconds and bytes where Linux has them.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
#[allow(missing_docs)] // The names are Linux's; tcp_info(7) and the kernel's header define them.
pub struct TcpInfo {
    pub ca_state: u8,
    pub retransmits: u8,
    pub probes: u8,
    pub backoff: u8,
    pub options: u8,
    pub snd_wscale: u8,
    pub rcv_wscale: u8,
    pub delivery_rate_app_limited: bool,
    pub fastopen_client_fail: u8,
    pub rto: u32,
    pub ato: u32,
    pub snd_mss: u32,
    pub rcv_mss: u32,
    pub unacked: u32,
    pub sacked: u32,
    pub lost: u32,
    pub retrans: u32,
    pub last_data_sent: u32,
    pub last_ack_sent: u32,
    pub last_data_recv: u32,
    pub last_ack_recv: u32,
    pub pmtu: u32,
    pub rcv_ssthresh: u32,
    pub rtt: u32,
    pub rttvar: u32,
    pub snd_ssthresh: u32,
    pub snd_cwnd: u32,
    pub advmss: u32,
    pub reordering: u32,
    pub rcv_rtt: u32,
    pub rcv_space: u32,
    pub total_retrans: u32,
    pub pacing_rate: u64,
    pub max_pacing_rate: u64,
    pub bytes_acked: u64,
    pub bytes_received: u64,
    pub segs_out: u32,
    pub segs_in: u32,
    pub notsent_bytes: u32,
    pub min_rtt: u32,
    pub data_segs_in: u32,
    pub data_segs_out: u32,
    pub delivery_rate: u64,
    pub busy_time: u64,
    pub rwnd_limited: u64,
    pub sndbuf_limited: u64,
    pub delivered: u32,
    pub delivered_ce: u32,
    pub bytes_sent: u64,
    pub bytes_retrans: u64,
    pub dsack_dups: u32,
    pub reord_seen: u32,
    pub rcv_ooopack: u32,
    pub snd_wnd: u32,
    pub rcv_wnd: u32,
    pub rehash: u32,
    pub total_rto: u16,
    pub total_rto_recoveries: u16,
    pub total_rto_time: u32,
    pub received_ce: u32,
    pub delivered_e1_bytes: u32,
    pub delivered_e0_bytes: u32,
    pub delivered_ce_bytes: u32,
    pub received_e1_bytes: u32,
    pub received_e0_bytes: u32,
    pub received_ce_bytes: u32,
    /// The congestion control (Linux gives it by another option, TCP_CONGESTION).
    pub cc: CcName,
    /// What BBR knows of its path, where BBR controls (Linux gives it by TCP_CC_INFO, INET_DIAG_BBRINFO).
    pub bbr: Option<BbrInfo>,
}

/// Linux's `struct tcp_bbr_info`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BbrInfo {
    /// The bottleneck's rate in bytes per second.
    pub bw: u64,
    /// The least RTT in microseconds.
    pub min_rtt: u32,
    /// Gains in 256ths.
    pub pacing_gain: u32,
    /// The same of the window.
    pub cwnd_gain: u32,
}
