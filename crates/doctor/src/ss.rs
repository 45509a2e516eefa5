//! Sockets as rows, with the columns and the words of iproute2's `ss`.

use estab_proto::{SockDiag, State, TcpInfo, TimerInfo};
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
    /// Whether `socket` is shown. Neither protocol asked for means both; without -a and -l the states
    /// are ss's default: all but LISTEN, CLOSE, SYN_RECV and TIME_WAIT.
    pub fn shows(&self, socket: &SockDiag) -> bool {
        let protocol = match socket.protocol {
            6 => self.tcp || !self.udp,
            _ => self.udp || !self.tcp,
        };
        let family = match socket.local {
            SocketAddr::V4(_) => self.ipv4 || !self.ipv6,
            SocketAddr::V6(_) => self.ipv6 || !self.ipv4,
        };
        let listens = socket.state == State::Listen || (socket.protocol != 6 && socket.state == State::Closed);
        let state = if self.all {
            true
        } else if self.listening {
            listens
        } else {
            !listens && !matches!(socket.state, State::Closed | State::SynRcvd | State::TimeWait)
        };
        protocol && family && state
    }
}

/// What is shown of each socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct View {
    /// Its timer (-o).
    pub timers: bool,
    /// Its number within its stack and whether an application holds it (-e).
    pub extended: bool,
    /// TCP's details (-i).
    pub info: bool,
    /// No heading (-H).
    pub no_header: bool,
}

/// The table of `sockets`.
pub fn render<'a>(sockets: impl IntoIterator<Item = &'a SockDiag>, view: View) -> String {
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
        rows.push((heading.map(str::to_string), String::new()));
    }
    for socket in sockets {
        let cells = [
            if socket.protocol == 6 { "tcp" } else { "udp" }.to_string(),
            socket.state.ss().to_string(),
            socket.recv_q.to_string(),
            socket.send_q.to_string(),
            address(socket.local),
            address(socket.remote),
        ];
        rows.push((cells, extras(socket, view)));
    }
    let widths: [usize; 6] = std::array::from_fn(|i| rows.iter().map(|(cells, _)| cells[i].len()).max().unwrap_or(0));
    let mut out = String::new();
    for (cells, extra) in &rows {
        let mut line = String::new();
        for (i, cell) in cells.iter().enumerate() {
            // ss lines addresses up at the colon: the local one stands to the right.
            let width = widths[i];
            let _ = if i == 4 {
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

/// ss's spelling of an address: `10.0.0.1:80`, `[fd00::1]:80`, `0.0.0.0:*`.
fn address(addr: SocketAddr) -> String {
    let port = if addr.port() == 0 {
        "*".to_string()
    } else {
        addr.port().to_string()
    };
    match addr {
        SocketAddr::V4(v4) => format!("{}:{port}", v4.ip()),
        SocketAddr::V6(v6) => format!("[{}]:{port}", v6.ip()),
    }
}

fn extras(socket: &SockDiag, view: View) -> String {
    let mut out = String::new();
    if let (true, Some(timer)) = (view.timers, &socket.timer) {
        let _ = write!(
            out,
            " timer:({},{},{})",
            timer.kind.ss(),
            duration(timer),
            timer.retries
        );
    }
    if view.extended {
        let _ = write!(out, " sk:{:x}{}", socket.id, if socket.orphan { " orphan" } else { "" });
    }
    if let (true, Some(info)) = (view.info, &socket.info) {
        let _ = write!(out, "\n\t{}", details(info));
    }
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
fn details(info: &TcpInfo) -> String {
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
    number("lastsnd", info.last_data_sent.into());
    number("lastrcv", info.last_data_recv.into());
    number("lastack", info.last_ack_recv.into());
    number("delivered", info.delivered.into());
    number("unacked", info.unacked.into());
    if info.retrans != 0 || info.total_retrans != 0 {
        put("retrans", format!("{}/{}", info.retrans, info.total_retrans), true);
    }
    let mut number = |name: &str, value: u64| put(name, value.to_string(), value != 0);
    number("lost", info.lost.into());
    number("sacked", info.sacked.into());
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
