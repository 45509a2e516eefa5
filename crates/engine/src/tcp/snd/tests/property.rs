//! Whatever the network loses, delays, reorders or repeats: every byte arrives, once and in order.

use super::*;
use alloc::collections::BTreeMap;
use proptest::prelude::*;

/// What happens to the packets of one direction, one after the other; then nothing happens any more.
#[derive(Clone, Debug)]
struct Fate {
    lost: bool,
    twice: bool,
    late_ms: u64,
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = (
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.05),
        prop_oneof![
            8 => Just(0u64),
            2 => 1..80u64,
        ],
    );
    prop::collection::vec(
        fate.prop_map(|(lost, twice, late_ms)| Fate { lost, twice, late_ms }),
        0..120,
    )
}

#[derive(Clone, Debug)]
struct Scenario {
    data: Vec<Fate>,
    acks: Vec<Fate>,
    writes: Vec<usize>,
    sack: bool,
    ts: bool,
    cc: &'static str,
    window: u32,
    gso: bool,
    reneges: bool,
}

fn scenarios() -> impl Strategy<Value = Scenario> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), prop::bool::weighted(0.1));
    (
        fates(),
        fates(),
        prop::collection::vec(1..30_000usize, 1..8),
        flags,
        prop_oneof![Just("reno"), Just("cubic"), Just("bbr")],
        prop_oneof![Just(1 << 20), Just(7_000u32), Just(700)],
    )
        .prop_map(|(data, acks, writes, (sack, ts, gso, reneges), cc, window)| Scenario {
            data,
            acks,
            writes,
            sack,
            ts,
            cc,
            window,
            gso,
            reneges: reneges && sack,
        })
}

/// The receiver: what it has, and what it tells.
struct Peer {
    stream: Vec<u8>,
    /// Data out of order by relative sequence number.
    early: BTreeMap<u32, Vec<u8>>,
    recent: Vec<u32>,
    dsack: Option<(u32, u32)>,
    fin_at: Option<u32>,
    ts: u32,
}

impl Peer {
    fn next(&self) -> u32 {
        let end = self.stream.len() as u32 + 1;
        end + u32::from(self.fin_at == Some(end))
    }

    fn receive(&mut self, seq: u32, data: &[u8], fin: bool, ts: u32) {
        let end = seq + data.len() as u32;
        if fin {
            self.fin_at = Some(end);
        }
        let next = self.stream.len() as u32 + 1;
        if end <= next && !data.is_empty() {
            self.dsack = Some((seq, end));
            return;
        }
        if seq <= next {
            self.ts = ts;
            self.stream.extend_from_slice(&data[(next - seq) as usize..]);
            while let Some((from, _)) = self.early.first_key_value() {
                if *from > self.stream.len() as u32 + 1 {
                    break;
                }
                let (from, more) = self.early.pop_first().expect("it was just there");
                let known = (self.stream.len() as u32 + 1 - from) as usize;
                if known < more.len() {
                    self.stream.extend_from_slice(&more[known..]);
                }
            }
        } else if !data.is_empty() {
            if self.early.get(&seq).is_some_and(|known| known.len() >= data.len()) {
                self.dsack = Some((seq, end));
            } else {
                self.early.insert(seq, data.to_vec());
            }
            self.recent.retain(|known| *known != seq);
            self.recent.insert(0, seq);
        }
        self.recent.retain(|known| self.early.contains_key(known));
    }

    /// The contiguous block around early data at `seq`.
    fn block(&self, seq: u32) -> (u32, u32) {
        let (mut from, mut to) = (seq, seq);
        for (start, data) in &self.early {
            let end = start + data.len() as u32;
            if *start > to {
                if *start > seq {
                    break;
                }
                from = *start;
                to = end;
            } else {
                to = to.max(end);
            }
        }
        (from, to)
    }

    fn blocks(&mut self) -> Vec<(u32, u32)> {
        let mut blocks: Vec<_> = self.dsack.take().into_iter().collect();
        for seq in &self.recent {
            let block = self.block(*seq);
            if !blocks.contains(&block) {
                blocks.push(block);
            }
        }
        blocks.truncate(3);
        blocks
    }
}

enum Packet {
    Data {
        seq: u32,
        data: Vec<u8>,
        fin: bool,
        ts: u32,
    },
    Ack {
        ack: u32,
        sack: Vec<(u32, u32)>,
        ts: u32,
    },
}

/// Runs it to the end; how long that took, in virtual milliseconds.
fn run(scenario: &Scenario) -> u64 {
    let given = Given {
        sack: scenario.sack,
        ts: scenario.ts,
        cc: scenario.cc,
        window: scenario.window,
        rtt_ms: 20,
        ..USUAL
    };
    // Bad luck may last longer than tcp_retries2 allows.
    let mut host = Host::with(given, |env| env.sysctl.tcp_retries2 = 255);
    host.room = if scenario.gso { 65_000 } else { 1000 };
    let mut peer = Peer {
        stream: Vec::new(),
        early: BTreeMap::new(),
        recent: Vec::new(),
        dsack: None,
        fin_at: None,
        ts: 0,
    };
    let mut wire: BTreeMap<(u64, u32), Packet> = BTreeMap::new();
    let (mut data_fates, mut ack_fates) = (scenario.data.iter(), scenario.acks.iter());
    let mut serial = 0;
    let mut launch = |wire: &mut BTreeMap<_, _>, now: u64, fate: Option<&Fate>, packet: &dyn Fn() -> Packet| {
        let fate = fate.cloned().unwrap_or(Fate {
            lost: false,
            twice: false,
            late_ms: 0,
        });
        let copies = if fate.lost { 0 } else { 1 + u64::from(fate.twice) };
        for copy in 0..copies {
            serial += 1;
            wire.insert((now + 10 + fate.late_ms + copy * 7, serial), packet());
        }
    };
    let mut writes = scenario.writes.iter();
    let mut pending = 0;
    let mut reneged = !scenario.reneges;
    let total: usize = scenario.writes.iter().sum();
    loop {
        // The application writes as it may.
        while pending > 0 || host.written < total {
            if pending == 0 {
                pending = *writes.next().expect("writes are left");
            }
            let taken = host.write(pending);
            pending -= taken;
            if taken == 0 {
                break;
            }
        }
        if host.written == total && !host.snd.flags.fin_queued {
            host.snd.queue_fin(&mut host.env);
        }
        // What left goes on the wire, cut into segments.
        while let Some(tx) = host.poll() {
            let mut data = vec![0; tx.len as usize];
            host.snd.copy_payload(tx.seq, &mut data);
            let (seq, ts) = ((tx.seq - ISS) as u32, host.env.now_ms());
            let pieces = data.len().div_ceil(tx.mss as usize).max(1);
            for i in 0..pieces {
                let from = i * tx.mss as usize;
                let piece = data[from..data.len().min(from + tx.mss as usize)].to_vec();
                let fin = tx.flags.contains(TcpFlags::FIN) && i + 1 == pieces;
                if tx.probe {
                    continue;
                }
                let packet = || Packet::Data {
                    seq: seq + from as u32,
                    data: piece.clone(),
                    fin,
                    ts,
                };
                launch(&mut wire, host.now_ms(), data_fates.next(), &packet);
            }
        }
        if host.snd.fin_acked() {
            break;
        }
        // The next packet or timer, whichever is first.
        let timer = host.snd.deadline().map(|(at, _)| at.millis().saturating_sub(START_MS));
        let packet = wire.first_key_value().map(|((at, _), _)| *at);
        let (Some(at), by_timer) = (match (timer, packet) {
            (Some(timer), Some(packet)) => (Some(timer.min(packet)), timer < packet),
            (Some(timer), None) => (Some(timer), true),
            (None, packet) => (packet, false),
        }) else {
            panic!("nothing will ever happen again: {:?}", host.info());
        };
        assert!(at < 40_000_000, "it takes for ever");
        if by_timer {
            host.fire(Instant::from_millis(u64::MAX / 2_000_000));
            assert!(!matches!(host.out, TimerOut::Fail(_)), "given up at {at}");
            continue;
        }
        host.env.now = host.env.now.max(Instant::from_millis(START_MS + at));
        match wire.pop_first().expect("a packet is due").1 {
            Packet::Data { seq, data, fin, ts } => {
                peer.receive(seq, &data, fin, ts);
                if !reneged && !peer.early.is_empty() && peer.stream.len() > total / 2 {
                    // It is short of memory, once.
                    (peer.early, peer.recent) = (BTreeMap::new(), Vec::new());
                    reneged = true;
                }
                let (ack, sack, ts) = (peer.next(), peer.blocks(), peer.ts);
                let packet = || Packet::Ack {
                    ack,
                    sack: sack.clone(),
                    ts,
                };
                launch(&mut wire, at, ack_fates.next(), &packet);
            }
            Packet::Ack { ack, sack, ts } => {
                let sack: &[_] = if scenario.sack { &sack } else { &[] };
                host.ack_with(ack, sack, |input| input.ts_ecr = scenario.ts.then_some(ts));
            }
        }
    }
    assert_eq!(peer.stream, bytes(0, total));
    assert_eq!(host.snd.packets_out(), 0);
    assert_eq!(host.info().bytes_acked, total as u64 + 1);
    host.now_ms()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn every_byte_arrives(scenario in scenarios()) {
        run(&scenario);
    }
}

#[test]
fn a_clean_network_takes_no_timeout() {
    let scenario = Scenario {
        data: Vec::new(),
        acks: Vec::new(),
        writes: vec![200_000],
        sack: true,
        ts: true,
        cc: "cubic",
        window: 1 << 20,
        gso: true,
        reneges: false,
    };
    // 10, 20, 40, 80 segments and the rest, a round trip each.
    assert!(run(&scenario) <= 6 * 20, "{}", run(&scenario));
}
