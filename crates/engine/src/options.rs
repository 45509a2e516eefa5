//! Flags and options of socket calls, by Linux's names and in Linux's units.

use crate::FastOpenKeys;
use core::net::IpAddr;
use core::time::Duration;
use estab_proto::diag::CcName;

/// Which direction `Sock::shutdown` ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shutdown {
    /// SHUT_RD
    Read,
    /// SHUT_WR: sends FIN after the data.
    Write,
    /// SHUT_RDWR
    Both,
}

/// Flags of `Sock::send`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SendFlags {
    /// MSG_MORE: more follows at once.
    pub more: bool,
    /// MSG_OOB: the last byte is urgent.
    pub oob: bool,
    /// MSG_EOR: nothing is appended to this record's last segment.
    pub eor: bool,
    /// The caller waits for an open that is under way and will write the rest of this data at once when it is done: the
    /// handshake's last ACK rides on that (Linux: a blocking write, `sk_write_pending`).
    pub waits: bool,
}

/// Flags of `Sock::recv`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RecvFlags {
    /// MSG_PEEK: leave the data in the queue.
    pub peek: bool,
    /// MSG_OOB: read the urgent byte.
    pub oob: bool,
    /// MSG_TRUNC on TCP: discard instead of copying.
    pub trunc: bool,
}

/// A socket option and its value.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum SockOption {
    /// SO_REUSEADDR
    ReuseAddr(bool),
    /// SO_REUSEPORT
    ReusePort(bool),
    /// SO_KEEPALIVE
    KeepAlive(bool),
    /// SO_LINGER; `None` is off.
    Linger(Option<Duration>),
    /// SO_SNDBUF as asked; the stack doubles it as Linux does.
    SndBuf(u32),
    /// SO_RCVBUF as asked; the stack doubles it as Linux does.
    RcvBuf(u32),
    /// SO_OOBINLINE
    OobInline(bool),
    /// SO_MAX_PACING_RATE in bytes per second.
    MaxPacingRate(u64),
    /// IPV6_V6ONLY
    V6Only(bool),
    /// IP_TTL / IPV6_UNICAST_HOPS
    Ttl(u8),
    /// IP_TOS / IPV6_TCLASS
    Tos(u8),
    /// TCP_NODELAY
    NoDelay(bool),
    /// TCP_CORK
    Cork(bool),
    /// TCP_MAXSEG
    MaxSeg(u16),
    /// TCP_KEEPIDLE
    KeepIdle(Duration),
    /// TCP_KEEPINTVL
    KeepIntvl(Duration),
    /// TCP_KEEPCNT
    KeepCnt(u8),
    /// TCP_SYNCNT
    SynCnt(u8),
    /// TCP_LINGER2; negative is -1: close at once.
    Linger2(i32),
    /// TCP_DEFER_ACCEPT in seconds.
    DeferAccept(u32),
    /// TCP_WINDOW_CLAMP
    WindowClamp(u32),
    /// TCP_QUICKACK
    QuickAck(bool),
    /// TCP_DELACK_MAX_US, in whole milliseconds: how long a delayed ACK may wait.
    DelackMax(Duration),
    /// TCP_CONGESTION
    Congestion(CcName),
    /// TCP_USER_TIMEOUT; zero is off.
    UserTimeout(Duration),
    /// TCP_NOTSENT_LOWAT
    NotsentLowat(u32),
    /// TCP_FASTOPEN: the length of the queue of unproven children.
    FastOpen(u32),
    /// TCP_FASTOPEN_CONNECT
    FastOpenConnect(bool),
    /// TCP_FASTOPEN_NO_COOKIE: data goes with the SYN, or is taken from it, without a cookie.
    FastOpenNoCookie(bool),
    /// TCP_FASTOPEN_KEY: a listener's own keys; without a primary one `tcp_fastopen_key` holds.
    FastOpenKey(FastOpenKeys),
    /// TCP_INQ
    Inq(bool),
    /// estab: listens on every address and port of transparent interfaces.
    Transparent(bool),
}

/// Whose segments a key of `Sock::set_md5_key` signs (Linux: `struct tcp_md5sig`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Md5Peer {
    /// Its address; only the first `prefix` bits count.
    pub addr: IpAddr,
    /// TCP_MD5SIG_FLAG_PREFIX: how many bits; 32 or 128 is one host.
    pub prefix: u8,
    /// TCP_MD5SIG_FLAG_IFINDEX with interface 0. A stack has no VRFs, so such a key signs the same segments as one
    /// without, but it is a key of its own.
    pub ifindex: bool,
}

impl Md5Peer {
    /// One host, as TCP_MD5SIG names it; `::ffff:a.b.c.d` is an IPv4 address.
    pub fn host(addr: IpAddr) -> Md5Peer {
        let addr = addr.to_canonical();
        Md5Peer {
            addr,
            prefix: if addr.is_ipv4() { 32 } else { 128 },
            ifindex: false,
        }
    }
}
