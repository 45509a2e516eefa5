//! Packet scripts in packetdrill's notation against one stack.
//!
//! Sequence numbers are relative: the peer's to the ISN it was given here, ours to what our first SYN or SYN-ACK had.
//! Where an expected packet says nothing of `win`, of options, or of the IP header's ECN field (`[noecn]`, `[ect1]`,
//! `[ect0]`, `[ce]` before it), anything goes there.

use super::{Host, addr, wire};
use estab_engine::proto::{SegmentTrace, SeqNum, TcpFlags};
use estab_engine::*;
use estab_wire::ip::ipv4;
use estab_wire::{icmpv4, tcp};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

pub const LOCAL: &str = "192.168.0.1";
pub const REMOTE: &str = "192.0.2.1";
/// The peer's ISN: one that wraps soon.
pub const PEER_ISN: u32 = 0xffff_fff0;

/// One stack and the pen of whoever plays its peer.
pub struct Script {
    pub host: Host,
    pub now: Instant,
    start: Instant,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// Our ISN, once seen.
    pub iss: Option<u32>,
    /// The peer signs with it (RFC 2385), and checks what it is sent.
    pub key: Option<&'static str>,
    out: VecDeque<(Instant, Sent)>,
    last: Option<(SeqNum, Vec<u8>)>,
}

#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // There are few.
enum Sent {
    /// With the IP header's ECN field.
    Tcp(SegmentTrace, u8),
    Icmp(u8, u8),
}

impl Script {
    pub fn new() -> Script {
        Script::with(wire())
    }

    pub fn with(config: IfaceConfig) -> Script {
        let mut host = Host::new(7, &[(LOCAL, 16)], config);
        let iface = host.iface;
        host.stack
            .add_route("0.0.0.0".parse().unwrap(), 0, None, iface)
            .unwrap();
        host.sysctl("net.ipv4.tcp_timestamps", "2");
        let start = Instant::from_millis(1000);
        Script {
            host,
            now: start,
            start,
            local: addr(LOCAL, 8080),
            remote: addr(REMOTE, 40000),
            iss: None,
            key: None,
            out: VecDeque::new(),
            last: None,
        }
    }

    pub fn sock(&mut self, id: SocketId) -> Sock<'_> {
        self.host.stack.sock(self.now, id).unwrap()
    }

    /// A listener on port 8080.
    pub fn listen(&mut self, backlog: i32) -> SocketId {
        let id = self.socket();
        let local = self.local;
        self.sock(id)
            .bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), local.port()))
            .unwrap();
        self.sock(id).listen(backlog).unwrap();
        id
    }

    pub fn socket(&mut self) -> SocketId {
        self.host.stack.socket(Family::V4, Kind::Stream).unwrap()
    }

    /// A socket that connects to the peer.
    pub fn connect(&mut self) -> SocketId {
        let id = self.socket();
        let remote = self.remote;
        self.sock(id).connect(remote).unwrap();
        self.local = self.sock(id).local_addr().unwrap();
        self.drain();
        id
    }

    /// An established connection that the peer opened, without options but `mss 1460`; its listener too.
    pub fn accepted(&mut self) -> (SocketId, SocketId) {
        let listener = self.listen(16);
        self.inject("S 0:0(0) win 65535 <mss 1460>");
        self.expect("S. 0:0(0) ack 1");
        self.inject(". 1:1(0) ack 1 win 65535");
        let (id, _) = self.sock(listener).accept().unwrap();
        (id, listener)
    }

    /// An established connection that we opened.
    pub fn connected(&mut self) -> SocketId {
        let id = self.connect();
        self.expect("S 0:0(0)");
        self.inject("S. 0:0(0) ack 1 win 65535 <mss 1460>");
        self.expect(". 1:1(0) ack 1");
        id
    }

    /// Milliseconds since the script began.
    pub fn ms(&self) -> u64 {
        self.now.millis() - self.start.millis()
    }

    /// The peer sends a segment.
    pub fn inject(&mut self, text: &str) {
        let packet = self.packet(text);
        let iface = self.host.iface;
        self.host
            .stack
            .handle_packet(self.now, iface, &packet, RxMeta::default());
        self.drain();
    }

    /// As `inject`, and nobody looks at the answers.
    pub fn flood(&mut self, text: &str) {
        let packet = self.packet(text);
        let iface = self.host.iface;
        self.host
            .stack
            .handle_packet(self.now, iface, &packet, RxMeta::default());
        let mut buf = [0; 2000];
        while self.host.stack.poll_transmit(self.now, &mut buf).is_some() {}
        self.host.take_trace();
    }

    /// The next thing that was sent, taken out; "nothing" if there is none yet.
    pub fn peek(&mut self, like: &str) -> String {
        match self.out.is_empty() {
            true => "nothing".to_string(),
            false => self.next(like).1,
        }
    }

    /// How much was sent that nobody has looked at.
    pub fn pending(&self) -> usize {
        self.out.len()
    }

    /// Forgets the next thing that was sent.
    pub fn skip(&mut self) {
        self.out.pop_front();
    }

    /// A segment of the peer's as an IP packet.
    pub fn packet(&self, text: &str) -> Vec<u8> {
        let (ecn, text) = match text.split_once("] ") {
            Some((name, rest)) => (ECN.iter().position(|n| *n == &name[1..]).expect("an ECN field"), rest),
            None => (0, text),
        };
        let segment = parse(text);
        let iss = self.iss.unwrap_or(0);
        let has = |flag| segment.flags.contains(flag);
        let header = tcp::Header {
            src_port: self.remote.port(),
            dst_port: self.local.port(),
            seq: segment.seq.wrapping_add(PEER_ISN),
            ack: if has(TcpFlags::ACK) {
                segment.ack.wrapping_add(iss)
            } else {
                0
            },
            flags: segment.flags.0,
            window: segment.window,
            urgent: segment.urgent,
        };
        let mut options = segment.options;
        options.sack = options
            .sack
            .iter()
            .map(|(l, r)| (l.wrapping_add(iss), r.wrapping_add(iss)))
            .collect();
        options.md5 = self.key.map(|_| [0; 16]);
        let mut bytes = vec![0; 60 + segment.len];
        let len = header.write(&mut bytes, &options).unwrap();
        bytes.truncate(len + segment.len);
        let (head, payload) = bytes.split_at_mut(len);
        payload.iter_mut().enumerate().for_each(|(i, b)| *b = i as u8);
        if let Some(key) = self.key {
            let digest = rfc2385(self.remote.ip(), self.local.ip(), head, payload, key);
            head[24..40].copy_from_slice(&digest);
        }
        let sum = estab_wire::checksum::Sum::of(payload);
        tcp::set_checksum(head, self.remote.ip(), self.local.ip(), sum, segment.len);
        ip_marked(self.remote.ip(), self.local.ip(), 6, &bytes, ecn as u8)
    }

    /// A router says of our last segment that it went wrong: `unreachable host`, `unreachable port`, `too big 1400`.
    pub fn icmp(&mut self, text: &str) {
        let (seq, quoted) = self.last.clone().expect("a segment to complain about");
        let words: Vec<&str> = text.split(' ').collect();
        let (kind, code, rest): (u8, u8, u16) = match words[..] {
            ["unreachable", "net"] => (3, 0, 0),
            ["unreachable", "host"] => (3, 1, 0),
            ["unreachable", "port"] => (3, 3, 0),
            ["unreachable", "prohibited"] => (3, 13, 0),
            ["too", "big", mtu] => (3, 4, mtu.parse().unwrap()),
            ["time", "exceeded"] => (11, 0, 0),
            _ => panic!("no such error: {text}"),
        };
        let _ = seq;
        let mut message = vec![kind, code, 0, 0, 0, 0];
        message.extend(rest.to_be_bytes());
        message.extend(&quoted);
        let sum = estab_wire::checksum::checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let packet = ip(addr("10.9.9.9", 0).ip(), self.local.ip(), 1, &message);
        let iface = self.host.iface;
        self.host
            .stack
            .handle_packet(self.now, iface, &packet, RxMeta::default());
        self.drain();
    }

    /// Collects what the stack sends and says.
    pub fn drain(&mut self) {
        let mut buf = vec![0; 70_000];
        while let Some(transmit) = self.host.stack.poll_transmit(self.now, &mut buf) {
            let packet = estab_wire::ip::Packet::parse(&buf[..transmit.len]).unwrap();
            let sent = match packet.protocol {
                1 => {
                    icmpv4::Message::parse(packet.payload).unwrap();
                    Sent::Icmp(packet.payload[0], packet.payload[1])
                }
                _ => {
                    let segment = tcp::Segment::parse(packet.payload).unwrap();
                    assert!(
                        tcp::checksum_ok(packet.src, packet.dst, packet.payload),
                        "a wrong checksum left"
                    );
                    if let (Some(digest), Some(key)) = (segment.options.md5, self.key) {
                        let (head, payload) = packet.payload.split_at(segment.header_len);
                        assert_eq!(
                            digest,
                            rfc2385(packet.src, packet.dst, head, payload, key),
                            "its signature"
                        );
                    }
                    if segment.flags & tcp::flags::SYN != 0 {
                        self.iss = Some(segment.seq);
                    }
                    self.last = Some((SeqNum(segment.seq), packet.bytes[..28].to_vec()));
                    Sent::Tcp(trace(&segment), packet.ecn())
                }
            };
            self.out.push_back((self.now, sent));
        }
        while let Some(event) = self.host.stack.poll_event() {
            self.host.events.push(event);
        }
    }

    /// Time passes; what is sent meanwhile waits for `expect`.
    pub fn run_ms(&mut self, ms: u64) {
        self.run_until(self.now + Duration::from_millis(ms));
    }

    fn run_until(&mut self, end: Instant) {
        while let Some(at) = self.host.stack.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.host.stack.handle_timeout(self.now);
            self.drain();
        }
        self.now = end.max(self.now);
        self.drain();
    }

    /// The next thing we send, as text; waits for it for up to three hours.
    pub fn next(&mut self, like: &str) -> (Instant, String) {
        self.drain();
        let end = self.now + Duration::from_secs(3 * 3600);
        while self.out.is_empty() {
            match self.host.stack.poll_timeout().filter(|at| *at <= end) {
                Some(at) => {
                    self.now = self.now.max(at);
                    self.host.stack.handle_timeout(self.now);
                    self.drain();
                }
                None => return (self.now, "nothing".to_string()),
            }
        }
        let (at, sent) = self.out.pop_front().unwrap();
        let text = match sent {
            Sent::Icmp(kind, code) => format!("icmp {kind}.{code}"),
            Sent::Tcp(segment, ecn) => {
                let mut relative = segment.relative(SeqNum(self.iss.unwrap_or(0)), SeqNum(PEER_ISN));
                // An RST that answers from nothing has numbers of its own.
                if segment.flags == (TcpFlags::RST | TcpFlags::ACK) && segment.seq == SeqNum(0) {
                    relative.seq = SeqNum(0);
                }
                let mut text = relative.to_string();
                if !like.contains('<') {
                    text.truncate(text.find(" <").unwrap_or(text.len()));
                }
                if !like.contains(" win ")
                    && let Some(from) = text.find(" win ")
                {
                    let to = text[from + 5..].find(' ').map_or(text.len(), |n| from + 5 + n);
                    text.replace_range(from..to, "");
                }
                if like.starts_with('[') {
                    text = format!("[{}] {text}", ECN[usize::from(ecn)]);
                }
                text
            }
        };
        (at, text)
    }

    /// The next thing we send is this; returns when it left, in ms.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> u64 {
        let (at, found) = self.next(text);
        assert_eq!(found, text, "at {} ms", at.millis() - self.start.millis());
        at.millis() - self.start.millis()
    }

    /// The next thing we send is this, at that moment.
    #[track_caller]
    pub fn expect_at(&mut self, ms: u64, text: &str) {
        assert_eq!(self.expect(text), ms, "when {text} left");
    }

    /// Nothing is sent for so long.
    #[track_caller]
    pub fn quiet(&mut self, ms: u64) {
        self.run_ms(ms);
        if !self.out.is_empty() {
            let (at, text) = self.next("<win ");
            panic!("unexpected at {} ms: {text}", at.millis() - self.start.millis());
        }
    }
}

/// packetdrill's words for the IP header's ECN field.
const ECN: [&str; 4] = ["noecn", "ect1", "ect0", "ce"];

fn ip(src: IpAddr, dst: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    ip_marked(src, dst, protocol, payload, 0)
}

fn ip_marked(src: IpAddr, dst: IpAddr, protocol: u8, payload: &[u8], ecn: u8) -> Vec<u8> {
    let (IpAddr::V4(src), IpAddr::V4(dst)) = (src, dst) else {
        panic!("scripts speak IPv4");
    };
    let mut bytes = vec![0; ipv4::HEADER_LEN];
    let header = ipv4::Header {
        tos: ecn,
        ..ipv4::Header::new(src, dst, protocol)
    };
    header.write(&mut bytes, payload.len()).unwrap();
    bytes.extend(payload);
    bytes
}

/// RFC 2385 §2.0: MD5 over the pseudo-header, the header without options and with checksum 0, the data and the key.
fn rfc2385(src: IpAddr, dst: IpAddr, head: &[u8], payload: &[u8], key: &str) -> [u8; 16] {
    use md5::Digest;
    let (IpAddr::V4(src), IpAddr::V4(dst)) = (src, dst) else {
        panic!("scripts speak IPv4");
    };
    let len = (head.len() + payload.len()) as u16;
    let mut text = [&src.octets()[..], &dst.octets(), &[0, 6], &len.to_be_bytes()].concat();
    text.extend(&head[..16]);
    text.extend([0, 0]);
    text.extend(&head[18..20]);
    text.extend(payload);
    text.extend(key.as_bytes());
    md5::Md5::digest(&text).into()
}

/// A segment as the stack's own trace would have it.
fn trace(segment: &tcp::Segment<'_>) -> SegmentTrace {
    use estab_engine::proto::trace::{OptionTrace, OptionsTrace};
    let mut options = OptionsTrace::default();
    let be = |b: &[u8]| b.iter().fold(0u32, |n, b| n << 8 | u32::from(*b));
    for option in segment.option_iter() {
        options.push(match (option.kind, option.data) {
            (1, _) => OptionTrace::Nop,
            (2, data) => OptionTrace::Mss(be(data) as u16),
            (3, data) => OptionTrace::WindowScale(data[0]),
            (4, _) => OptionTrace::SackPermitted,
            (5, data) => {
                let mut blocks = [None; 4];
                for (slot, pair) in blocks.iter_mut().zip(data.chunks_exact(8)) {
                    *slot = Some((SeqNum(be(&pair[..4])), SeqNum(be(&pair[4..]))));
                }
                OptionTrace::Sack(blocks)
            }
            (8, data) => OptionTrace::Timestamps {
                val: be(&data[..4]),
                ecr: be(&data[4..]),
            },
            (19, _) => OptionTrace::Md5,
            (kind @ (172 | 174), data) => {
                let mut counters = [None; 3];
                for (slot, counter) in counters.iter_mut().zip(data.chunks_exact(3)) {
                    *slot = Some(be(counter));
                }
                OptionTrace::AccEcn {
                    ect1_first: kind == 174,
                    counters,
                }
            }
            (34, cookie) => {
                let mut bytes = [0; 16];
                bytes[..cookie.len()].copy_from_slice(cookie);
                OptionTrace::FastOpen(bytes, cookie.len() as u8)
            }
            (kind, _) => OptionTrace::Unknown(kind),
        });
    }
    SegmentTrace {
        seq: SeqNum(segment.seq),
        ack: SeqNum(segment.ack),
        flags: TcpFlags(segment.flags),
        window: estab_engine::proto::ScaledWindow(segment.window),
        len: segment.payload.len() as u32,
        options,
    }
}

#[derive(Default)]
struct Parsed {
    flags: TcpFlags,
    seq: u32,
    len: usize,
    ack: u32,
    window: u16,
    urgent: u16,
    options: tcp::Options,
}

/// `S. 0:0(0) ack 1 win 65535 <mss 1460,sackOK,TS val 1 ecr 0,nop,wscale 7>`
fn parse(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    let (head, options) = match text.split_once('<') {
        Some((head, options)) => (head, options.trim_end_matches('>')),
        None => (text, ""),
    };
    let mut words = head.split_whitespace();
    for letter in words.next().expect("flags").chars() {
        parsed.flags |= match letter {
            'S' => TcpFlags::SYN,
            'F' => TcpFlags::FIN,
            'P' => TcpFlags::PSH,
            'R' => TcpFlags::RST,
            '.' => TcpFlags::ACK,
            'U' => TcpFlags::URG,
            'E' => TcpFlags::ECE,
            'W' => TcpFlags::CWR,
            'A' => TcpFlags::AE,
            '-' => TcpFlags::default(),
            other => panic!("no such flag: {other}"),
        };
    }
    let range = words.next().expect("seq:end(len)");
    let (seq, rest) = range.split_once(':').unwrap();
    parsed.seq = seq.parse().unwrap();
    parsed.len = rest.split_once('(').unwrap().1.trim_end_matches(')').parse().unwrap();
    while let Some(word) = words.next() {
        let value: u32 = words.next().unwrap().parse().unwrap();
        match word {
            "ack" => parsed.ack = value,
            "win" => parsed.window = value as u16,
            "urg" => parsed.urgent = value as u16,
            other => panic!("no such field: {other}"),
        }
    }
    for option in options.split(',').filter(|o| !o.is_empty()) {
        let words: Vec<&str> = option.split_whitespace().collect();
        match words[..] {
            ["nop"] | ["eol"] => {}
            ["mss", n] => parsed.options.mss = Some(n.parse().unwrap()),
            ["wscale", n] => parsed.options.window_scale = Some(n.parse().unwrap()),
            ["FO"] => parsed.options.fast_open = Some(tcp::FastOpen::request(false)),
            ["FO", hex] => {
                let cookie: Vec<u8> = (0..hex.len() / 2)
                    .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
                    .collect();
                parsed.options.fast_open = tcp::FastOpen::with_cookie(&cookie, false);
            }
            ["sackOK"] => parsed.options.sack_permitted = true,
            ["TS", "val", val, "ecr", ecr] => {
                parsed.options.timestamps = Some(tcp::Timestamps {
                    val: val.parse().unwrap(),
                    ecr: ecr.parse().unwrap(),
                });
            }
            ["ECN", ref counters @ ..] => {
                let values: Vec<u32> = counters.chunks(2).map(|pair| pair[1].parse().unwrap()).collect();
                parsed.options.accecn = Some(tcp::AccEcn::new(counters.first() == Some(&"e1b"), &values));
            }
            ["sack", ref blocks @ ..] => {
                for block in blocks {
                    let (l, r) = block.split_once(':').unwrap();
                    parsed.options.sack.push(l.parse().unwrap(), r.parse().unwrap());
                }
            }
            _ => panic!("no such option: {option}"),
        }
    }
    parsed
}
