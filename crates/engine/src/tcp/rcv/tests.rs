//! The receiver on virtual time; sequence numbers are relative: the stream's first byte is 1.

use super::*;
use alloc::vec;
use alloc::vec::Vec;

const MSS: usize = 1460;
const IRS: SeqNum = SeqNum(u32::MAX - 5000); // The sequence space wraps early in every test.

/// An ACK that left.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Ack {
    at_us: u64,
    ack: u32,
    window: u32,
    sacks: Vec<(u32, u32)>,
}

struct Host {
    now: Instant,
    sysctl: Sysctls,
    mib: Mib,
    pool: Pool,
    memory: Memory,
    path: Path,
    rcv: Receiver,
    acks: Vec<Ack>,
    right_edge: u32,
}

#[derive(Clone, Copy)]
struct Setup {
    wscale: bool,
    sack: bool,
    rcvbuf: Option<u32>,
    ecn: bool,
    ts: bool,
    /// Our own MSS, which bounds the first guess of the peer's.
    mss: u16,
}

const USUAL: Setup = Setup {
    wscale: true,
    sack: true,
    rcvbuf: None,
    ecn: false,
    ts: false,
    mss: MSS as u16,
};

fn byte(at: usize) -> u8 {
    (at * 37 + at / 255) as u8
}

fn bytes(from: usize, n: usize) -> Vec<u8> {
    (from..from + n).map(byte).collect()
}

impl Host {
    fn new() -> Host {
        Host::with(USUAL, |_| {})
    }

    fn with(setup: Setup, tune: impl FnOnce(&mut Sysctls)) -> Host {
        let mut sysctl = Sysctls::with_memory(8 << 30);
        sysctl.tcp_rmem[2] = 6 << 20;
        tune(&mut sysctl);
        let rcvbuf = setup.rcvbuf.unwrap_or(sysctl.tcp_rmem[1] as u32);
        let window = InitialWindow::select(
            &sysctl,
            rcvbuf,
            setup.rcvbuf.is_some(),
            MSS as u16 - if setup.ts { 12 } else { 0 },
            0,
            setup.wscale,
        );
        let (mut mib, mut pool, now) = (Mib::new(), Pool::default(), Instant::from_millis(1000));
        let rcv = Receiver::new(
            &mut Cx {
                now,
                sysctl: &sysctl,
                mib: &mut mib,
                pool: &mut pool,
                memory: Memory::Plenty,
            },
            &RcvSetup {
                irs: IRS,
                window,
                wscale_ok: setup.wscale,
                advmss: MSS as u16,
                mss: setup.mss,
                sack_ok: setup.sack,
                ts_ok: setup.ts,
                ecn_ok: setup.ecn,
                rcvbuf,
                rcvbuf_locked: setup.rcvbuf.is_some(),
                oob_inline: false,
            },
        );
        let right_edge = 1 + u32::from(window.field());
        Host {
            now,
            sysctl,
            mib,
            pool,
            memory: Memory::Plenty,
            path: Path {
                srtt: None,
                rto: Duration::from_millis(200),
                delack_max: Duration::from_millis(200),
            },
            rcv,
            acks: Vec::new(),
            right_edge,
        }
    }

    fn cx<T>(&mut self, call: impl FnOnce(&mut Receiver, &mut Cx) -> T) -> T {
        let mut cx = Cx {
            now: self.now,
            sysctl: &self.sysctl,
            mib: &mut self.mib,
            pool: &mut self.pool,
            memory: self.memory,
        };
        call(&mut self.rcv, &mut cx)
    }

    /// A segment leaves; checks what must hold of every ACK.
    fn leave(&mut self) {
        let room = if self.rcv.flags.has(Flags::TIMESTAMPS) { 3 } else { 4 };
        let sacks = self.rcv.take_sacks(room);
        let field = self.cx(|rcv, cx| rcv.select_window(cx));
        let window = u32::from(field) << self.rcv.wscale.bits();
        let ack = self.rcv.rcv_nxt() - IRS;
        self.cx(|rcv, cx| rcv.on_ack_sent(cx));
        let edge = ack as u32 + window;
        if self.sysctl.tcp_shrink_window == 0 && self.memory == Memory::Plenty {
            assert!(
                edge >= self.right_edge,
                "the right edge went from {} to {edge}",
                self.right_edge
            );
        }
        self.right_edge = edge;
        self.acks.push(Ack {
            at_us: self.now.micros() - 1_000_000,
            ack: ack as u32,
            window,
            sacks: sacks
                .as_slice()
                .iter()
                .map(|(l, r)| ((*l - IRS) as u32, (*r - IRS) as u32))
                .collect(),
        });
    }

    fn decide(&mut self) {
        let path = self.path;
        if self.cx(|rcv, cx| rcv.poll_ack(cx, &path)) {
            self.leave();
        }
    }

    /// A segment arrives, as a connection handles it.
    fn arrive(&mut self, seq: u32, len: usize, flags: TcpFlags) -> DataOut {
        self.arrive_merged(seq, &bytes(seq as usize, len), flags, None, 0)
    }

    fn arrive_merged(&mut self, seq: u32, payload: &[u8], flags: TcpFlags, gso_size: Option<u16>, ecn: u8) -> DataOut {
        let seg = DataIn {
            seq: IRS + seq,
            payload,
            flags: flags | TcpFlags::ACK,
            header_len: if self.rcv.flags.has(Flags::TIMESTAMPS) { 32 } else { 20 },
            gso_size,
            ecn,
            ts_ecr: self.rcv.flags.has(Flags::TIMESTAMPS).then_some(1000), // Of the SYN-ACK, as long as nothing else is sent.
            rto: self.path.rto,
            held: true,
            lends: false,
        };
        let out = self.cx(
            |rcv, cx| match rcv.sequence(seg.seq, seg.end_seq(), flags.contains(TcpFlags::FIN)) {
                Ok(()) => rcv.data(cx, &seg),
                Err(reason) => {
                    rcv.dupack(cx, seg.seq, seg.end_seq());
                    DataOut {
                        drop: Some(reason),
                        ..DataOut::default()
                    }
                }
            },
        );
        if out.fin {
            self.rcv.enter_pingpong(&self.sysctl); // As on the way to CLOSE_WAIT.
        }
        self.decide();
        out
    }

    fn data(&mut self, seq: u32, len: usize) -> DataOut {
        self.arrive(seq, len, TcpFlags::default())
    }

    /// Time passes; the timer fires when it is due.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some((at, _)) = self.rcv.deadline().filter(|(at, _)| *at <= end) {
            assert!(at >= self.now, "a deadline in the past");
            self.now = at;
            let path = self.path;
            if self.cx(|rcv, cx| rcv.on_timer(cx, &path)) {
                self.leave();
            }
        }
        self.now = end;
    }

    fn pass_ms(&mut self, ms: u64) {
        self.pass(Duration::from_millis(ms));
    }

    fn read(&mut self, n: usize) -> Vec<u8> {
        let mut out = vec![0; n];
        let n = self.cx(|rcv, cx| rcv.read(cx, &mut out, false));
        out.truncate(n);
        self.decide();
        out
    }

    /// The quick ACKs of the start are used up, and the window has its full size (while it grows, ACKs are quick).
    fn leave_quickack(&mut self) {
        self.rcv.quick = 0;
        self.rcv.rcv_ssthresh = self.rcv.window_clamp;
    }

    fn acks(&mut self) -> Vec<u32> {
        core::mem::take(&mut self.acks).iter().map(|ack| ack.ack).collect()
    }

    fn count(&self, counter: Counter) -> u64 {
        self.mib.get(counter)
    }
}

mod acks;
mod linux;
mod reassembly;
mod urgent;
mod windows;
