//! The sender on virtual time, against a receiver that does as it is told. Sequence numbers are relative: the stream's
//! first byte is 1; segments print in packetdrill's notation, `again` behind those sent before.

mod congestion;
mod knobs;
mod property;
mod recovery;
mod sending;
mod timers;

use super::*;
use crate::{Config, Instant, SendFlags};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use estab_proto::{Counter, TcpInfo, TimerKind};
use queue::Tags;

/// The sequence space wraps early in every test.
const ISS: SeqNum = SeqNum(u32::MAX - 2000);
/// When the tests begin.
const START_MS: u64 = 10_000;

fn byte(at: usize) -> u8 {
    (at * 37 + at / 255) as u8
}

fn bytes(from: usize, n: usize) -> Vec<u8> {
    (from..from + n).map(byte).collect()
}

#[derive(Clone, Copy)]
struct Given {
    mss: u16,
    window: u32,
    rtt_ms: u64,
    sack: bool,
    ts: bool,
    ecn: bool,
    cc: &'static str,
    sndbuf: Option<u32>,
}

const USUAL: Given = Given {
    mss: 1000,
    window: 1 << 20,
    rtt_ms: 100,
    sack: true,
    ts: false,
    ecn: false,
    cc: "reno",
    sndbuf: None,
};

struct Host {
    env: Env,
    snd: Sender,
    cx: TimerCx,
    given: Given,
    /// Bytes written so far.
    written: usize,
    /// What one `TxSegment` may hold.
    room: u32,
    window: u32,
    out: TimerOut,
}

impl Host {
    fn new() -> Host {
        Host::with(USUAL, |_| {})
    }

    fn with(given: Given, tune: impl FnOnce(&mut Env)) -> Host {
        let now = Instant::from_millis(START_MS);
        let config = Config {
            seed: [7; 32],
            memory: 8 << 30,
            unix_time: 0,
        };
        let mut env = Env::new(now, config);
        env.sysctl.tcp_wmem = [4096, 4 << 20, 4 << 20];
        tune(&mut env);
        let setup = SndSetup {
            mss: given.mss,
            mss_clamp: given.mss,
            window: given.window,
            wl1: SeqNum(1),
            sack_ok: given.sack,
            ts_ok: given.ts,
            ecn_ok: given.ecn,
            syn_lost: false,
            rtt: Some(Duration::from_millis(given.rtt_ms)),
        };
        let mut snd = Sender::new(&env, ISS, given.sndbuf, Some(CcName::new(given.cc)));
        snd.begin(&mut env, &setup);
        // As a client's is.
        snd.sync_mss();
        let cx = TimerCx::default();
        Host {
            env,
            snd,
            cx,
            given,
            written: 0,
            room: 65_000,
            window: given.window,
            out: TimerOut::Nothing,
        }
    }

    fn write(&mut self, n: usize) -> usize {
        self.write_with(n, SendFlags::default())
    }

    fn write_with(&mut self, n: usize, flags: SendFlags) -> usize {
        let taken = self.snd.write(&mut self.env, &bytes(self.written, n), flags);
        self.written += taken;
        self.check();
        taken
    }

    fn poll(&mut self) -> Option<TxSegment> {
        let room = TxRoom {
            max_payload: self.room,
            mss: self.given.mss,
        };
        let tx = match self.snd.poll(&mut self.env, room) {
            None if self.snd.resume(&mut self.env) => self.snd.poll(&mut self.env, room),
            tx => tx,
        }?;
        // Whatever leaves is the right part of the stream.
        let mut data = vec![0; tx.len as usize];
        let sum = self.snd.copy_payload_sum(tx.seq, &mut data);
        let from = (tx.seq - (ISS + 1)) as usize;
        if !tx.probe {
            assert_eq!(data, bytes(from, tx.len as usize), "payload at {from}");
            assert_eq!(sum.fold(), estab_wire::checksum::Sum::of(&data).fold());
        }
        Some(tx)
    }

    /// What left since the last call.
    fn sent(&mut self) -> Vec<String> {
        core::iter::from_fn(|| self.poll()).map(|tx| show(&tx)).collect()
    }

    /// An ACK up to relative sequence number `ack`, with SACK blocks.
    fn ack_with(&mut self, ack: u32, sack: &[(u32, u32)], more: impl FnOnce(&mut AckIn<'_>)) -> AckOut {
        let blocks: Vec<_> = sack.iter().map(|(from, to)| (ISS + *from, ISS + *to)).collect();
        let mut input = AckIn {
            seq: SeqNum(1),
            ack: ISS + ack,
            window: self.window,
            sack: &blocks,
            ts_ecr: None,
            ece: false,
            has_data: false,
        };
        more(&mut input);
        self.window = input.window;
        let out = self.snd.on_ack(&mut self.env, &input, None);
        if out.drop.is_none() {
            self.snd.push(&mut self.env);
        }
        self.check();
        out
    }

    fn ack(&mut self, ack: u32) -> AckOut {
        self.ack_with(ack, &[], |_| {})
    }

    fn sack(&mut self, ack: u32, blocks: &[(u32, u32)]) -> AckOut {
        self.ack_with(ack, blocks, |_| {})
    }

    fn now_ms(&self) -> u64 {
        self.env.now.millis() - START_MS
    }

    /// Lets time pass; timers fire. What they send is left for `sent`.
    fn wait(&mut self, ms: u64) {
        let until = self.env.now + Duration::from_millis(ms);
        while self.fire(until) {}
        self.env.now = until;
    }

    /// The next timer fires, if that is before `until`.
    fn fire(&mut self, until: Instant) -> bool {
        let Some((at, _)) = self.snd.deadline().filter(|(at, _)| *at <= until) else {
            return false;
        };
        self.env.now = self.env.now.max(at);
        self.out = self.snd.on_timer(&mut self.env, &self.cx);
        self.check();
        !matches!(self.out, TimerOut::Fail(_) | TimerOut::Abort { .. })
    }

    /// Lets time pass until something leaves: when (in ms), and what.
    fn next(&mut self) -> (u64, String) {
        loop {
            if let Some(tx) = self.poll() {
                return (self.now_ms(), show(&tx));
            }
            assert!(self.fire(Instant::from_millis(u64::MAX / 2_000_000)), "{:?}", self.out);
        }
    }

    fn info(&self) -> TcpInfo {
        let mut info = TcpInfo::default();
        self.snd.info(&self.env, &mut info);
        info
    }

    fn cwnd(&self) -> u32 {
        self.info().snd_cwnd
    }

    fn state(&self) -> CaState {
        self.snd.state
    }

    fn timer(&self) -> Option<TimerKind> {
        self.snd.deadline().map(|(_, kind)| kind)
    }

    fn count(&self, counter: Counter) -> u64 {
        self.env.mib.get(counter)
    }

    /// The counters are what a recount of the queue gives.
    fn check(&self) {
        let queue = &self.snd.queue;
        let (mut packets, mut sacked, mut lost, mut retrans) = (0, 0, 0, 0);
        let mut end = None;
        for position in 0..queue.len() {
            let seg = queue.at(position);
            assert!(end.is_none_or(|end| end == seg.seq), "records follow each other");
            end = Some(seg.end());
            if position >= queue.sent() {
                continue;
            }
            assert!(seg.segs > 0);
            packets += seg.packets();
            for (tag, count) in [
                (Tags::SACKED, &mut sacked),
                (Tags::LOST, &mut lost),
                (Tags::RETRANS, &mut retrans),
            ] {
                if seg.tags.any(tag) {
                    *count += seg.packets();
                }
            }
            assert!(!(seg.tags.any(Tags::SACKED) && seg.tags.any(Tags::LOST)));
        }
        assert_eq!(self.snd.packets_out, packets);
        assert_eq!(self.snd.board.lost_out, lost);
        assert_eq!(self.snd.board.retrans_out, retrans);
        if self.given.sack {
            assert_eq!(self.snd.board.sacked_out, sacked);
        }
        assert!(self.snd.board.sacked_out + lost <= packets);
        if let Some(end) = end {
            assert_eq!(end, self.snd.write_seq);
        }
        assert!(self.snd.cwnd.window > 0);
        // Something is always under way: a timer runs while anything is unacknowledged.
        if packets > 0 && !matches!(self.out, TimerOut::Fail(_) | TimerOut::Abort { .. }) {
            assert!(self.snd.deadline().is_some(), "no timer for {packets} packets");
        }
    }
}

fn show(tx: &TxSegment) -> String {
    let from = tx.seq - ISS;
    let mut text = format!(
        "{} {from}:{}({})",
        tx.flags | TcpFlags::ACK,
        from + tx.len as i32,
        tx.len
    );
    if tx.urg_ptr > 0 {
        text += &format!(" urg {}", tx.urg_ptr);
    }
    for (on, word) in [(tx.ect, " [ect0]"), (tx.retransmit, " again"), (tx.probe, " probe")] {
        if on {
            text += word;
        }
    }
    text
}
