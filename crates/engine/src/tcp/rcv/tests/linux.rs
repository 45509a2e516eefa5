//! Transcripts of Linux 6.18, taken with packetdrill and tcpdump over a TUN (`tcp_rmem` 4096 131072 33554432, MTU 1500):
//! milliseconds, then what came in (`<`), what the application did, and each ACK that left (`>`, with the window's field and the
//! SACK blocks). The receiver must send the same ACKs at the same times.

use super::*;
use alloc::format;
use alloc::string::String;

/// The kernel's timers tick every 4 ms, and up to a tick late; packets take a moment.
const SLACK_US: u64 = 9_000;

fn replay(mut setup: Setup, transcript: &str) {
    if !setup.wscale {
        setup.mss = 500; // Half of the peer's window, which was 1000 then.
    }
    let mut host = Host::with(setup, |s| s.tcp_rmem[2] = 32 << 20);
    host.now = Instant::from_millis(1010);
    host.rcv.space_time = host.now;
    host.path.srtt = Some(Duration::from_millis(10)); // The handshake's.
    host.path.rto = Duration::from_millis(212);
    let mut expected: Vec<(u64, String)> = Vec::new();
    for line in transcript.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let us = (words[0].parse::<f64>().expect("a time") * 1000.0) as u64;
        if words[1] == ">" {
            expected.push((us, words[2..].join(" ")));
            continue;
        }
        let at = Instant::from_micros(1_000_000 + us);
        host.pass(at.since(host.now));
        match words[1] {
            "<" => {
                let (span, flags) =
                    words[2].split_at(words[2].find(|c: char| c.is_alphabetic()).unwrap_or(words[2].len()));
                let (from, to) = span.split_once(':').expect("from:to");
                let (from, to): (u32, u32) = (from.parse().expect("a number"), to.parse().expect("a number"));
                let mut bits = TcpFlags::default();
                let fin = flags.contains('F');
                if fin {
                    bits |= TcpFlags::FIN;
                }
                if flags.contains('P') {
                    bits |= TcpFlags::PSH;
                }
                // A packet that a capture still looks at takes nothing in.
                host.rcv.tailroom = 0;
                host.arrive(from, (to - from) as usize - fin as usize, bits);
            }
            "read" => {
                let n: usize = words[2].parse().expect("a number");
                assert_eq!(host.read(n).len(), n);
            }
            "write" => {
                host.rcv.on_data_sent(host.now);
                host.leave();
            }
            "quickack" => {
                let value = words[2].parse().expect("a number");
                host.cx(|rcv, cx| rcv.set_quickack(cx, value, true));
                host.decide();
            }
            other => panic!("{other}"),
        }
    }
    host.pass_ms(400);
    let scale = host.rcv.wscale.bits();
    let got: Vec<(u64, String)> = host
        .acks
        .iter()
        .map(|ack| {
            let sacks: String = ack
                .sacks
                .iter()
                .map(|(left, right)| format!(" {left}:{right}"))
                .collect();
            (ack.at_us, format!("ack {} win {}{sacks}", ack.ack, ack.window >> scale))
        })
        .collect();
    for i in 0..got.len().max(expected.len()) {
        let (ours, linux) = (got.get(i), expected.get(i));
        let same = match (ours, linux) {
            (Some((at, ack)), Some((when, expected))) => {
                let expected = expected.split(" len").next();
                at.abs_diff(*when) <= SLACK_US && Some(ack.as_str()) == expected
            }
            _ => false,
        };
        let around = i.saturating_sub(3)..;
        assert!(
            same,
            "ACK {i}\nours  {ours:?}\nlinux {linux:?}\nours  {:#?}\nlinux {:#?}",
            got.get(around.clone()).map(|acks| &acks[..acks.len().min(8)]),
            expected.get(around).map(|acks| &acks[..acks.len().min(8)]),
        );
    }
}

const PLAIN: Setup = Setup {
    wscale: false,
    sack: false,
    ..USUAL
};

macro_rules! transcripts {
    ($($(#[$doc:meta])* $name:ident $setup:expr;)*) => {
        $($(#[$doc])* #[test]
        fn $name() {
            replay($setup, include_str!(concat!("linux/", stringify!($name), ".txt")));
        })*
    };
}

transcripts! {
    /// Losses, duplicates and a FIN.
    holes USUAL;
    /// Nobody reads.
    noread USUAL;
    /// Small segments, nobody reads.
    small USUAL;
    /// Lone segments, 300 ms apart.
    delack USUAL;
    /// No option but MSS.
    plain PLAIN;
    /// Duplicate ACKs, three at once and the others merged.
    merge USUAL;
    /// Requests and replies, then requests without replies.
    dialogue USUAL;
    /// Segments every 24 and then every 60 ms.
    pace USUAL;
    /// TCP_QUICKACK 0, 1, 0, 2.
    quickack USUAL;
    /// SO_RCVBUF 20000.
    rcvbuf Setup { rcvbuf: Some(40_000), ..USUAL };
    /// SO_RCVBUF 10000, probes of the closed window, then reads.
    probes Setup { rcvbuf: Some(20_000), ..USUAL };
    /// Growing bursts, all read: the buffer grows.
    bulk USUAL;
    /// Packets of 10,000 bytes.
    jumbo USUAL;
    /// Two bytes in three are there.
    crumbs USUAL;
    /// Eleven of a hundred random scripts of data in and out of order, duplicates, overlaps, reads and TCP_QUICKACK. In all of them
    /// the ACKs, their times and their SACK blocks were Linux's; after partly overlapping packets the window of some was a segment
    /// off, since Linux charges each packet for itself.
    chance1 USUAL;
    chance2 PLAIN;
    chance3 Setup { rcvbuf: Some(20_000), ..USUAL };
    chance4 Setup { wscale: false, ..USUAL };
    chance5 Setup { wscale: false, rcvbuf: Some(20_000), ..USUAL };
    chance6 Setup { wscale: false, ..USUAL };
    chance7 Setup { rcvbuf: Some(60_000), ..USUAL };
    chance8 Setup { rcvbuf: Some(20_000), ..PLAIN };
    chance9 USUAL;
    chance10 Setup { ts: true, ..USUAL };
    chance11 Setup { ts: true, ..USUAL };
    /// As `bulk`, with timestamps.
    stamps Setup { ts: true, ..USUAL };
    /// As `merge`, with timestamps.
    stampmerge Setup { ts: true, ..USUAL };
}
