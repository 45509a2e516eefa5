//! One socket of a stack, with what only the kernel knows of it.

use estab_proto::{SockDiag, State, TimerKind};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// A socket and, where the kernel keeps it, the kernel's own facts about it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Socket {
    /// What every stack tells.
    #[serde(flatten)]
    pub diag: SockDiag,
    /// What only the kernel tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelSide>,
}

/// Linux's `inet_diag_msg` beyond [`SockDiag`] (include/uapi/linux/inet_diag.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct KernelSide {
    /// The user the socket belongs to.
    pub uid: u32,
    /// The interface it is bound to; 0 for none.
    pub iface: u32,
    /// The kernel's number for it, unique since boot.
    pub cookie: u64,
    /// Which IPv6 listeners refuse IPv4; `None` for IPv4 and where it isn't told.
    pub v6_only: Option<bool>,
    /// RCV_SHUTDOWN 1, SEND_SHUTDOWN 2; a request or a time-wait entry has none.
    pub shutdown: Option<u8>,
    /// Its memory, where asked for.
    pub memory: Option<SkMem>,
}

/// A socket's memory (`SK_MEMINFO_*`, include/uapi/linux/sock_diag.h), in bytes unless said otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SkMem {
    /// Held by what was received.
    pub rmem: u32,
    /// The receive buffer's limit.
    pub rcvbuf: u32,
    /// Held by what is being sent.
    pub wmem: u32,
    /// The send buffer's limit.
    pub sndbuf: u32,
    /// Reserved and not in use.
    pub fwd_alloc: u32,
    /// Queued for sending.
    pub wmem_queued: u32,
    /// Options and filters.
    pub optmem: u32,
    /// Packets that wait while the application holds the socket.
    pub backlog: u32,
    /// Packets dropped, a count.
    pub drops: u32,
}

impl Socket {
    /// It speaks TCP.
    pub fn is_tcp(&self) -> bool {
        self.diag.protocol == 6
    }

    /// A time-wait entry: TIME_WAIT, or FIN_WAIT_2 in its last 60 s, which the kernel keeps as one. No process holds it.
    pub fn is_time_wait_entry(&self) -> bool {
        self.diag.state == State::TimeWait
            || matches!(self.diag.timer, Some(timer) if matches!(timer.kind, TimerKind::TimeWait | TimerKind::FinWait2))
    }

    /// The local address with an IPv4 address in an IPv6 socket told as IPv4.
    pub fn local(&self) -> SocketAddr {
        unmapped(self.diag.local)
    }

    /// The peer's address, likewise.
    pub fn remote(&self) -> SocketAddr {
        unmapped(self.diag.remote)
    }
}

impl From<SockDiag> for Socket {
    fn from(diag: SockDiag) -> Socket {
        Socket { diag, kernel: None }
    }
}

fn unmapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(IpAddr::V4(v4), v6.port()),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}
