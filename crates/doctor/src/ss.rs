//! Sockets as rows, with the columns and the words of iproute2's `ss`.

use crate::filter::Filter;
use crate::kernel::owners::Owners;
use crate::socket::Socket;
use estab_proto::{State, TcpInfo, TimerInfo};
use std::fmt::Write;
use std::net::SocketAddr;

/// Which sockets are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Select {
    /// TCP (-t).
    pub tcp: bool,
    /// UDP (-u).
    pub udp: bool,
    /// Only listeners (-l).
    pub listening: bool,
    /// Every state (-a).
    pub all: bool,
    /// Only IPv4 (-4).
    pub ipv4: bool,
    /// Only IPv6 (-6).
    pub ipv6: bool,
}

impl Select {
    /// Whether `socket` is shown. Neither protocol asked for means both; without -a, -l and states named by `filter`
    /// the states are ss's default: all but LISTEN, CLOSE, SYN_RECV and TIME_WAIT.
    pub fn shows(&self, socket: &Socket, filter: &Filter) -> bool {
        let state = filter.states.is_some() || self.shows_state(socket);
        self.shows_kind(socket) && state && filter.passes(socket)
    }

    fn shows_kind(&self, socket: &Socket) -> bool {
        let protocol = match socket.is_tcp() {
            true => self.tcp || !self.udp,
            false => self.udp || !self.tcp,
        };
        let family = match socket.diag.local {
            SocketAddr::V4(_) => self.ipv4 || !self.ipv6,
            SocketAddr::V6(_) => self.ipv6 || !self.ipv4,
        };
        protocol && family
    }

    fn shows_state(&self, socket: &Socket) -> bool {
        let state = socket.diag.state;
        let listens = state == State::Listen || (!socket.is_tcp() && state == State::Closed);
        if self.all {
            true
        } else if self.listening {
            listens
        } else {
            !listens && !matches!(state, State::Closed | State::SynRcvd | State::TimeWait)
        }
    }
}

/// What is shown of each socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct View {
    /// Its timer (-o).
    pub timers: bool,
    /// Its user, its numbers, and whether an application holds it (-e).
    pub extended: bool,
    /// Its memory (-m).
    pub memory: bool,
    /// TCP or UDP (as ss, where both can occur).
    pub netid: bool,
    /// Its state (as ss, where several can occur).
    pub state: bool,
    /// TCP's details (-i).
    pub info: bool,
    /// No heading (-H).
    pub no_header: bool,
}

/// The table of `sockets`; with the processes that hold them (-p) where `owners` are given.
pub fn render<'a>(sockets: impl IntoIterator<Item = &'a Socket>, view: View, owners: Option<&Owners>) -> String {
    const STATE: usize = 1;
    const LOCAL: usize = 4;
    let shown = |column: usize| match column {
        0 => view.netid,
        STATE => view.state,
        _ => true,
    };
    let mut rows: Vec<([String; 6], String)> = Vec::new();
    if !view.no_header {
        let heading = [
            "Netid",
            "State",
            "Recv-Q",
            "Send-Q",
            "Local Address:Port",
            "Peer Address:Port",
        ];
        rows.push((heading.map(str::to_string), "Process".to_string()));
    }
    let mut names = Interfaces::default();
    for socket in sockets {
        let diag = &socket.diag;
        let any = match socket.kernel.and_then(|kernel| kernel.v6_only) {
            Some(false) => "*",
            _ => "[::]",
        };
        let device = names.of(socket.kernel.map_or(0, |kernel| kernel.iface));
        let cells = [
            if socket.is_tcp() { "tcp" } else { "udp" }.to_string(),
            diag.state.ss().to_string(),
            diag.recv_q.to_string(),
            diag.send_q.to_string(),
            address(diag.local, any, device),
            address(diag.remote, any, ""),
        ];
        rows.push((cells, extras(socket, view, owners)));
    }
    let widths: [usize; 6] = std::array::from_fn(|i| rows.iter().map(|(cells, _)| cells[i].len()).max().unwrap_or(0));
    let mut out = String::new();
    for (cells, extra) in &rows {
        let mut line = String::new();
        for (i, cell) in cells.iter().enumerate().filter(|(i, _)| shown(*i)) {
            // ss lines addresses up at the colon: the local one stands to the right.
            let width = widths[i];
            let _ = if i == LOCAL {
                write!(line, "{cell:>width$} ")
            } else {
                write!(line, "{cell:<width$} ")
            };
        }
        line.push_str(extra);
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

/// The names of interfaces, each looked up once.
#[derive(Default)]
struct Interfaces(std::collections::HashMap<u32, String>);

impl Interfaces {
    fn of(&mut self, index: u32) -> &str {
        if index == 0 {
            return "";
        }
        self.0.entry(index).or_insert_with(|| {
            let name = rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::DGRAM, None)
                .and_then(|fd| rustix::net::netdevice::index_to_name(fd, index));
            format!("%{}", name.unwrap_or_else(|_| format!("if{index}")))
        })
    }
}

/// ss's spelling of an address: `10.0.0.1:80`, `[fd00::1]:80`, `0.0.0.0:*`, and for IPv6's any address `any`: `*:80` where
/// IPv4 is taken too.
fn address(addr: SocketAddr, any: &str, device: &str) -> String {
    let port = if addr.port() == 0 {
        "*".to_string()
    } else {
        addr.port().to_string()
    };
    match addr {
        SocketAddr::V4(v4) => format!("{}{device}:{port}", v4.ip()),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => format!("{any}{device}:{port}"),
        SocketAddr::V6(v6) => format!("[{}]{device}:{port}", v6.ip()),
    }
}

fn extras(socket: &Socket, view: View, owners: Option<&Owners>) -> String {
    let diag = &socket.diag;
    let mut out = String::new();
    if let Some(users) = owners.and_then(|owners| users(owners, diag.id)) {
        out.push_str(&users);
    }
    if let (true, Some(timer)) = (view.timers || view.extended, &diag.timer) {
        let _ = write!(
            out,
            " timer:({},{},{})",
            timer.kind.ss(),
            duration(timer),
            timer.retries
        );
    }
    if view.extended {
        out.push_str(&numbers(socket));
    }
    let memory = match (view.memory, socket.kernel.and_then(|kernel| kernel.memory)) {
        (true, Some(m)) => format!(
            " skmem:(r{},rb{},t{},tb{},f{},w{},o{},bl{},d{})",
            m.rmem, m.rcvbuf, m.wmem, m.sndbuf, m.fwd_alloc, m.wmem_queued, m.optmem, m.backlog, m.drops
        ),
        _ => String::new(),
    };
    let info = match (view.info, &diag.info) {
        (true, Some(info)) => format!(" {}", details(diag.state, info)),
        _ => String::new(),
    };
    if !(memory.is_empty() && info.is_empty()) {
        let _ = write!(out, "\n\t{memory}{info}");
    }
    out
}

/// ss's `users:(("nginx",pid=7,fd=6))`.
fn users(owners: &Owners, inode: u64) -> Option<String> {
    let held: Vec<String> = owners
        .of(inode)
        .map(|(process, fd)| format!("(\"{}\",pid={},fd={fd})", process.name, process.pid))
        .collect();
    (!held.is_empty()).then(|| format!("users:({})", held.join(",")))
}

/// What -e adds.
fn numbers(socket: &Socket) -> String {
    let diag = &socket.diag;
    let orphan = if diag.orphan { " orphan" } else { "" };
    let Some(kernel) = socket.kernel else {
        return format!(" sk:{:x}{orphan}", diag.id);
    };
    let mut out = String::new();
    if kernel.uid != 0 {
        let _ = write!(out, " uid:{}", kernel.uid);
    }
    let _ = write!(out, " ino:{} sk:{:x}", diag.id, kernel.cookie);
    if let Some(only) = kernel.v6_only {
        let _ = write!(out, " v6only:{}", u8::from(only));
    }
    if let Some(shutdown) = kernel.shutdown {
        let receives = if shutdown & 1 == 0 { '<' } else { '-' };
        let sends = if shutdown & 2 == 0 { '>' } else { '-' };
        let _ = write!(out, " {receives}-{sends}");
    }
    out.push_str(orphan);
    out
}

/// A timer's rest as ss writes it: `1min29sec`, `12sec`, `1.200ms`, `200ms`.
fn duration(timer: &TimerInfo) -> String {
    let total = timer.expires_in_ns.div_ceil(1_000_000);
    let (minutes, seconds, millis) = (total / 60_000, total / 1_000 % 60, total % 1_000);
    match (minutes, seconds) {
        (10.., _) => format!("{minutes}min"),
        (1.., 0) => format!("{minutes}min"),
        (1.., _) => format!("{minutes}min{seconds}sec"),
        (0, 10..) => format!("{seconds}sec"),
        (0, 1..) if millis == 0 => format!("{seconds}sec"),
        (0, 1..) => format!("{seconds}.{millis:03}ms"),
        (0, 0) => format!("{millis:03}ms"),
    }
}

/// The line of `ss -i`: only what is known and not zero, in ss's order.
fn details(state: State, info: &TcpInfo) -> String {
    const TIMESTAMPS: u8 = 1;
    const SACK: u8 = 2;
    const WSCALE: u8 = 4;
    const ECN: u8 = 8;
    const ECN_SEEN: u8 = 16;
    const FASTOPEN: u8 = 32;
    let mut words: Vec<String> = Vec::new();
    for (bit, word) in [
        (TIMESTAMPS, "ts"),
        (SACK, "sack"),
        (ECN, "ecn"),
        (ECN_SEEN, "ecnseen"),
        (FASTOPEN, "fastopen"),
    ] {
        if info.options & bit != 0 {
            words.push(word.to_string());
        }
    }
    if !info.cc.as_str().is_empty() {
        words.push(info.cc.as_str().to_string());
    }
    if info.options & WSCALE != 0 {
        words.push(format!("wscale:{},{}", info.snd_wscale, info.rcv_wscale));
    }
    let millis = |us: u32| format!("{}", f64::from(us) / 1_000.0);
    let mut put = |name: &str, value: String, shown: bool| {
        if shown {
            words.push(format!("{name}:{value}"));
        }
    };
    put("rto", millis(info.rto), info.rto != 0);
    put("backoff", info.backoff.to_string(), info.backoff != 0);
    put(
        "rtt",
        format!("{}/{}", millis(info.rtt), millis(info.rttvar)),
        info.rtt != 0,
    );
    put("ato", millis(info.ato), info.ato != 0);
    let mut number = |name: &str, value: u64| put(name, value.to_string(), value != 0);
    number("mss", info.snd_mss.into());
    number("pmtu", info.pmtu.into());
    number("rcvmss", info.rcv_mss.into());
    number("advmss", info.advmss.into());
    number("cwnd", info.snd_cwnd.into());
    if info.snd_ssthresh < 0x7fff_ffff {
        number("ssthresh", info.snd_ssthresh.into());
    }
    number("bytes_sent", info.bytes_sent);
    number("bytes_retrans", info.bytes_retrans);
    number("bytes_acked", info.bytes_acked);
    number("bytes_received", info.bytes_received);
    number("segs_out", info.segs_out.into());
    number("segs_in", info.segs_in.into());
    number("data_segs_out", info.data_segs_out.into());
    number("data_segs_in", info.data_segs_in.into());
    if let Some(bbr) = &info.bbr {
        let gain = |unit256: u32| (f64::from(unit256) / 256.0 * 1e5).round() / 1e5;
        let mut text = format!("bbr:(bw:{}bps,mrtt:{}", bbr.bw.saturating_mul(8), millis(bbr.min_rtt));
        for (name, value) in [("pacing_gain", bbr.pacing_gain), ("cwnd_gain", bbr.cwnd_gain)] {
            if value != 0 {
                text += &format!(",{name}:{}", gain(value));
            }
        }
        words.push(text + ")");
    }
    if info.rtt != 0 && info.snd_mss != 0 && info.snd_cwnd != 0 {
        let bits = f64::from(info.snd_cwnd) * f64::from(info.snd_mss) * 8e6;
        words.push(format!("send {:.0}bps", bits / f64::from(info.rtt)));
    }
    let mut number = |name: &str, value: u64| {
        if value != 0 {
            words.push(format!("{name}:{value}"));
        }
    };
    number("lastsnd", info.last_data_sent.into());
    number("lastrcv", info.last_data_recv.into());
    number("lastack", info.last_ack_recv.into());
    let rate = |bytes: u64| format!("{}bps", bytes.saturating_mul(8));
    if info.pacing_rate != 0 && info.pacing_rate != u64::MAX {
        words.push(format!("pacing_rate {}", rate(info.pacing_rate)));
    }
    if info.delivery_rate != 0 {
        words.push(format!("delivery_rate {}", rate(info.delivery_rate)));
    }
    let mut number = |name: &str, value: u64| {
        if value != 0 {
            words.push(format!("{name}:{value}"));
        }
    };
    number("delivered", info.delivered.into());
    number("delivered_ce", info.delivered_ce.into());
    if info.delivery_rate_app_limited {
        words.push("app_limited".into());
    }
    for (name, us) in [
        ("busy", info.busy_time),
        ("rwnd_limited", info.rwnd_limited),
        ("sndbuf_limited", info.sndbuf_limited),
    ] {
        if us != 0 {
            words.push(format!("{name}:{}ms", us / 1_000));
        }
    }
    // A listener's are its queue and its backlog.
    let listens = state == State::Listen;
    let mut put = |name: &str, value: String, shown: bool| {
        if shown {
            words.push(format!("{name}:{value}"));
        }
    };
    let mut number = |name: &str, value: u64| put(name, value.to_string(), value != 0);
    number("unacked", if listens { 0 } else { info.unacked.into() });
    if info.retrans != 0 || info.total_retrans != 0 {
        put("retrans", format!("{}/{}", info.retrans, info.total_retrans), true);
    }
    let mut number = |name: &str, value: u64| put(name, value.to_string(), value != 0);
    number("lost", info.lost.into());
    number("sacked", if listens { 0 } else { info.sacked.into() });
    number("dsack_dups", info.dsack_dups.into());
    number("reord_seen", info.reord_seen.into());
    put("rcv_rtt", millis(info.rcv_rtt), info.rcv_rtt != 0);
    let mut number = |name: &str, value: u64| put(name, value.to_string(), value != 0);
    number("rcv_space", info.rcv_space.into());
    number("rcv_ssthresh", info.rcv_ssthresh.into());
    number("notsent", info.notsent_bytes.into());
    put(
        "minrtt",
        millis(info.min_rtt),
        info.min_rtt != 0 && info.min_rtt != u32::MAX,
    );
    put("rcv_ooopack", info.rcv_ooopack.to_string(), info.rcv_ooopack != 0);
    put("snd_wnd", info.snd_wnd.to_string(), info.snd_wnd != 0);
    put("rcv_wnd", info.rcv_wnd.to_string(), info.rcv_wnd != 0);
    words.join(" ")
}
