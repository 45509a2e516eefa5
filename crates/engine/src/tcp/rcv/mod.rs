//! The receiver: from segments to the application's bytes, and what it tells the peer about them
//! (RFC 9293 §3.10.7.4 and §3.8.6, RFC 2018, 2883, 7323 §2 as Linux's tcp_input.c and tcp_output.c behave).
//!
//! | concept | file | Linux |
//! |---|---|---|
//! | what is acceptable, in-order data, FIN | here | `tcp_sequence`, `tcp_data_queue` |
//! | out-of-order data, SACK and DSACK blocks | `ofo.rs` | `tcp_data_queue_ofo`, `tcp_sack_new_ofo_skb` |
//! | when to acknowledge | `delack.rs` | `__tcp_ack_snd_check`, `tcp_send_delayed_ack`, `tcp_cleanup_rbuf` |
//! | the window | `window.rs` | `tcp_select_window`, `tcp_grow_window`, `tcp_select_initial_window` |
//! | the buffer's size | `autotune.rs` | `tcp_rcv_space_adjust`, `tcp_measure_rcv_mss` |
//! | urgent data, reading | `read.rs` | `tcp_check_urg`, `tcp_recvmsg` |
//!
//! A connection owns one [`Receiver`] once it has seen the peer's SYN. Its caller
//! - asks [`Receiver::sequence`] of every segment, answers a refusal with [`Receiver::dupack`],
//! - hands URG to [`Receiver::urg`] and then the segment to [`Receiver::data`], after the sender has seen its ACK,
//! - once the sender has nothing more to send asks [`Receiver::poll_ack`]: true is a pure ACK to send now,
//! - takes window and SACK blocks for each segment with [`Receiver::select_window`] and [`Receiver::take_sacks`],
//!   then tells it that an ACK has left ([`Receiver::on_ack_sent`]) and, for data, [`Receiver::on_data_sent`],
//! - keeps a timer at [`Receiver::deadline`] and calls [`Receiver::on_timer`] when it has passed.

mod autotune;
mod delack;
mod handshake;
mod ofo;
mod read;
#[cfg(test)]
mod tests;
mod window;

pub(crate) use delack::Path;
pub(crate) use window::InitialWindow;

use crate::Instant;
use crate::buf::{ByteQueue, Memory, Pool};
use crate::drop::DropReason;
use crate::mib::Mib;
use crate::sysctl::Sysctls;
use alloc::boxed::Box;
use core::time::Duration;
use estab_proto::mib::Counter;
use estab_proto::{SeqNum, TcpFlags, TcpInfo, WindowScale};
use ofo::Ofo;

/// What the receiver works with; `Env` lends it.
pub(crate) struct Cx<'a> {
    pub(crate) now: Instant,
    pub(crate) sysctl: &'a Sysctls,
    pub(crate) mib: &'a mut Mib,
    pub(crate) pool: &'a mut Pool,
    /// How TCP as a whole stands with its memory.
    pub(crate) memory: Memory,
}

/// What the handshake settled, for [`Receiver::new`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct RcvSetup {
    /// The peer's initial sequence number.
    pub(crate) irs: SeqNum,
    /// What our SYN or SYN-ACK offered, from [`InitialWindow::select`]; its `scale` is ours, used only if `wscale_ok`.
    pub(crate) window: InitialWindow,
    /// Both sides sent the window scale option.
    pub(crate) wscale_ok: bool,
    /// The MSS we announced.
    pub(crate) advmss: u16,
    /// Our own sending MSS as it stands (Linux: `mss_cache`).
    pub(crate) mss: u16,
    /// SACK was negotiated.
    pub(crate) sack_ok: bool,
    /// Timestamps were negotiated.
    pub(crate) ts_ok: bool,
    /// ECN was negotiated (RFC 3168).
    pub(crate) ecn_ok: bool,
    /// Bytes of receive buffer: `tcp_rmem[1]`, or SO_RCVBUF doubled.
    pub(crate) rcvbuf: u32,
    /// SO_RCVBUF set it: no autotuning.
    pub(crate) rcvbuf_locked: bool,
    /// SO_OOBINLINE
    pub(crate) oob_inline: bool,
}

/// What [`Receiver::data`] must know of a segment that occupies sequence space.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DataIn<'a> {
    /// Sequence number of the first byte.
    pub(crate) seq: SeqNum,
    pub(crate) payload: &'a [u8],
    /// FIN, PSH, URG, SYN and CWR matter.
    pub(crate) flags: TcpFlags,
    /// Bytes of TCP header, options included.
    pub(crate) header_len: u8,
    /// Payload bytes of each segment it was merged from (GRO).
    pub(crate) gso_size: Option<u16>,
    /// The ECN bits of the IP header.
    pub(crate) ecn: u8,
    /// TSecr less our timestamp offset: milliseconds of `now` when the echoed segment left.
    pub(crate) ts_ecr: Option<u32>,
    /// The sender's retransmission timeout.
    pub(crate) rto: Duration,
    /// An application holds the socket: it was accepted, and not closed.
    pub(crate) held: bool,
    /// The application may take the text from the packet: see [`Receiver::return_lent`].
    pub(crate) lends: bool,
}

impl DataIn<'_> {
    /// The sequence number after its last byte, FIN included.
    fn end_seq(&self) -> SeqNum {
        self.seq + self.payload.len() as u32 + self.flags.contains(TcpFlags::FIN) as u32
    }
}

/// What a segment did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct DataOut {
    /// Bytes that became readable.
    pub(crate) readable: u32,
    /// They are the last ones of the segment, and only there.
    pub(crate) lent: bool,
    /// The peer's FIN is now in order: the stream ends (Linux: `tcp_fin`). The caller changes state, and calls
    /// [`Receiver::enter_pingpong`] where that is to CLOSE_WAIT, [`Receiver::ack_now`] where it is to CLOSING or TIME_WAIT.
    pub(crate) fin: bool,
    /// It was discarded (counted already in TcpExt, not in the drop reasons).
    pub(crate) drop: Option<DropReason>,
}

/// The receiving half of a connection.
#[derive(Clone)]
pub(crate) struct Receiver {
    queue: ByteQueue,
    ofo: Option<Box<Ofo>>,
    // Times.
    rtt_time: Option<core::num::NonZeroU64>,
    space_time: Instant,
    delack_at: Instant,
    compressed_at: Instant,
    /// Bytes received in order.
    bytes_received: u64,
    /// RCV.NXT
    rcv_nxt: SeqNum,
    /// RCV.NXT when the window was last advertised: the window counts from here.
    rcv_wup: SeqNum,
    /// The window last advertised.
    rcv_wnd: u32,
    window_clamp: u32,
    /// How much of the window is offered yet.
    rcv_ssthresh: u32,
    rcvbuf: u32,
    /// What the bytes held are charged against `rcvbuf`: see [`window::truesize`].
    charged: u32,
    /// Round-trip time as the receiver sees it, in µs, times 8.
    rcv_rtt: u32,
    rtt_seq: SeqNum,
    rtt_last_ecr: u32,
    /// Bytes the application took in the last round trip.
    space: u32,
    space_seq: SeqNum,
    /// Delayed-ACK timeout, in ms; 0 before the first data.
    ato: u32,
    /// When data last came, in ms.
    last_data: u32,
    compressed_rcv_nxt: SeqNum,
    urg_seq: SeqNum,
    ooo_packets: u32,
    /// The payload of the fullest segment the peer may send.
    advmss: u16,
    rcv_mss: u16,
    last_seg_size: u16,
    compressed: u16,
    /// Room left beside the last packet in order, in what it was charged.
    tailroom: u16,
    flags: Flags,
    wscale: WindowScale,
    /// 256ths of the buffer that payload takes.
    scaling_ratio: u8,
    quick: u8,
    pingpong: u8,
    dup_acks: u8,
    /// `ACK_…` bits.
    pending: u8,
    urg: Urg,
}

/// Yes-or-no facts of a receiver, one bit each.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Flags(u16);

impl Flags {
    const SACK: u16 = 1;
    const TIMESTAMPS: u16 = 2;
    const FIN: u16 = 4;
    const SHUTDOWN: u16 = 8;
    const OOB_INLINE: u16 = 16;
    const RCVBUF_LOCKED: u16 = 32;
    const ECN: u16 = 64;
    const ECN_SEEN: u16 = 128;
    const ECN_DEMAND_CWR: u16 = 256;
    /// The delayed-ACK decision for what arrived is still to be made.
    const CHECK: u16 = 512;
    /// An ACK leaves whatever else happens.
    const FORCE: u16 = 1024;

    fn has(self, bit: u16) -> bool {
        self.0 & bit != 0
    }

    fn set(&mut self, bit: u16, on: bool) {
        self.0 = if on { self.0 | bit } else { self.0 & !bit };
    }
}

/// The urgent byte (Linux: `urg_data`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Urg {
    None,
    /// Announced; the byte has not come.
    Expected,
    /// Here, for MSG_OOB.
    Here(u8),
    /// Read by MSG_OOB.
    Taken,
}

impl Receiver {
    /// A receiver for a connection whose handshake is done (Linux: `tcp_init_buffer_space`).
    pub(crate) fn new(cx: &mut Cx, setup: &RcvSetup) -> Receiver {
        let clamp = if setup.wscale_ok {
            setup.window.clamp
        } else {
            setup.window.clamp.min(0xffff)
        };
        let start = setup.irs + 1;
        let mut flags = Flags(0);
        flags.set(Flags::SACK, setup.sack_ok);
        flags.set(Flags::TIMESTAMPS, setup.ts_ok);
        flags.set(Flags::ECN, setup.ecn_ok);
        flags.set(Flags::OOB_INLINE, setup.oob_inline);
        flags.set(Flags::RCVBUF_LOCKED, setup.rcvbuf_locked);
        let mut rcv = Receiver {
            queue: ByteQueue::new(),
            ofo: None,
            rtt_time: None,
            space_time: cx.now,
            delack_at: Instant::ZERO,
            compressed_at: Instant::ZERO,
            bytes_received: 0,
            rcv_nxt: start,
            rcv_wup: start,
            rcv_wnd: setup.window.rcv_wnd,
            window_clamp: clamp,
            rcv_ssthresh: setup.window.rcv_wnd,
            rcvbuf: setup.rcvbuf,
            charged: 0,
            rcv_rtt: 0,
            rtt_seq: start,
            rtt_last_ecr: 0,
            space: 0,
            space_seq: start,
            ato: 0,
            last_data: cx.now.millis() as u32,
            compressed_rcv_nxt: start,
            urg_seq: start,
            ooo_packets: 0,
            advmss: setup.advmss,
            rcv_mss: 0,
            last_seg_size: 0,
            compressed: 0,
            tailroom: 0,
            flags,
            wscale: if setup.wscale_ok {
                setup.window.scale
            } else {
                WindowScale::default()
            },
            scaling_ratio: window::DEFAULT_SCALING_RATIO,
            quick: 0,
            pingpong: 0,
            dup_acks: 0,
            pending: 0,
            urg: Urg::None,
        };
        rcv.init_buffer_space(cx);
        if setup.ts_ok {
            // What a full segment carries beside the option (Linux: `tcp_rcv_state_process`).
            rcv.advmss = rcv.advmss.saturating_sub(12);
        }
        rcv.init_rcv_mss(setup.mss);
        rcv
    }

    /// RCV.NXT: what ACKs acknowledge.
    pub(crate) fn rcv_nxt(&self) -> SeqNum {
        self.rcv_nxt
    }

    /// RCV.NXT as last sent (Linux: `rcv_wup`): a timestamp of a segment at or before it may become TS.Recent (RFC 7323 §4.3).
    pub(crate) fn rcv_wup(&self) -> SeqNum {
        self.rcv_wup
    }

    /// The first sequence number the application has not read (Linux: `copied_seq`).
    pub(crate) fn copied_seq(&self) -> SeqNum {
        self.rcv_nxt - self.queue.len() as u32 - self.flags.has(Flags::FIN) as u32
    }

    /// The peer's FIN was received in order.
    pub(crate) fn fin_received(&self) -> bool {
        self.flags.has(Flags::FIN)
    }

    /// The right-most sequence number held: an RST there is as good as one at RCV.NXT (RFC 5961 §3.2 as Linux extends it).
    pub(crate) fn highest_sack(&self) -> Option<SeqNum> {
        self.ofo.as_ref()?.highest_sack()
    }

    /// The window still open, as the peer knows it (Linux: `tcp_receive_window`).
    pub(crate) fn receive_window(&self) -> u32 {
        (self.rcv_wup + self.rcv_wnd).since(self.rcv_nxt)
    }

    /// RFC 9293 §3.10.7.4, first check: whether the segment is acceptable (Linux 6.18: `tcp_sequence`). `end_seq` counts the FIN.
    pub(crate) fn sequence(&self, seq: SeqNum, end_seq: SeqNum, fin: bool) -> Result<(), DropReason> {
        if end_seq.before(self.rcv_wup) {
            return Err(DropReason::TcpOldSequence);
        }
        let right = self.rcv_nxt + self.receive_window();
        if end_seq.after(right) {
            if seq.after(right) {
                return Err(DropReason::TcpInvalidSequence);
            }
            // A sender that ignores the window is served only while nothing waits to be read; a FIN needs no room.
            if !self.queue.is_empty() && (end_seq - fin as u32).after(right) {
                return Err(DropReason::TcpInvalidEndSequence);
            }
        }
        Ok(())
    }

    /// A segment of no use must be answered by an ACK that says where we are (Linux: `tcp_send_dupack`).
    pub(crate) fn dupack(&mut self, cx: &mut Cx, seq: SeqNum, end_seq: SeqNum) {
        if seq != end_seq && seq.before(self.rcv_nxt) {
            cx.mib.inc(Counter::TcpExtDelayedACKLost);
            self.enter_quickack(delack::MAX_QUICKACKS);
            self.dsack_set(cx, seq, end_seq.min(self.rcv_nxt));
        }
        self.ack_now();
    }

    /// Takes a segment that [`sequence`](Self::sequence) let pass (Linux: `tcp_data_queue`). One without data and FIN does
    /// nothing.
    pub(crate) fn data(&mut self, cx: &mut Cx, seg: &DataIn) -> DataOut {
        let end_seq = seg.end_seq();
        if seg.seq == end_seq {
            return DataOut::default();
        }
        if self.fin_received() && end_seq.after(self.rcv_nxt) {
            return DataOut {
                drop: Some(DropReason::TcpInvalidSequence),
                ..DataOut::default()
            };
        }
        self.rtt_measure_ts(cx, seg);
        self.flags.set(Flags::CHECK, true);
        if self.flags.has(Flags::ECN) && seg.flags.contains(TcpFlags::CWR) {
            // The sender's window may be down to one segment: don't let it wait (Linux: `tcp_ecn_accept_cwr`).
            self.flags.set(Flags::ECN_DEMAND_CWR, false);
            self.pending |= delack::ACK_NOW;
        }
        self.clear_dsack();
        if seg.seq == self.rcv_nxt {
            let bare_fin = seg.payload.is_empty();
            if self.receive_window() == 0 && !bare_fin {
                cx.mib.inc(Counter::TcpExtTCPZeroWindowDrop);
                return self.out_of_window(DropReason::TcpZeroWindow);
            }
            return self.queue_in_order(cx, seg);
        }
        if end_seq.at_or_before(self.rcv_nxt) {
            cx.mib.inc(Counter::TcpExtDelayedACKLost);
            self.dsack_set(cx, seg.seq, end_seq);
            return self.out_of_window(DropReason::TcpOldData);
        }
        if seg.seq.at_or_after(self.rcv_nxt + self.receive_window()) {
            return self.out_of_window(DropReason::TcpOverwindow);
        }
        if seg.seq.before(self.rcv_nxt) {
            self.dsack_set(cx, seg.seq, self.rcv_nxt);
            if self.receive_window() == 0 {
                cx.mib.inc(Counter::TcpExtTCPZeroWindowDrop);
                return self.out_of_window(DropReason::TcpZeroWindow);
            }
            return self.queue_in_order(cx, seg);
        }
        self.queue_out_of_order(cx, seg)
    }

    #[cold]
    fn out_of_window(&mut self, reason: DropReason) -> DataOut {
        self.enter_quickack(delack::MAX_QUICKACKS);
        self.schedule_ack();
        DataOut {
            drop: Some(reason),
            ..DataOut::default()
        }
    }

    /// Data at RCV.NXT, maybe with an old head.
    fn queue_in_order(&mut self, cx: &mut Cx, seg: &DataIn) -> DataOut {
        let fin = seg.flags.contains(TcpFlags::FIN);
        let old = self.rcv_nxt.since(seg.seq) as usize;
        // `old` may be all of the payload when only the FIN is new.
        let fresh = seg.payload.get(old..).unwrap_or(&[]);
        if !self.make_room(cx, seg.seq) {
            // The window goes to zero at once (Linux: ICSK_ACK_NOMEM).
            self.pending |= delack::ACK_NOMEM | delack::ACK_NOW;
            self.schedule_ack();
            if !self.queue.is_empty() && !fresh.is_empty() {
                cx.mib.inc(Counter::TcpExtTCPRcvQDrop);
                return DataOut {
                    drop: Some(DropReason::ProtoMem),
                    ..DataOut::default()
                };
            }
        }
        let lent = seg.lends && self.may_lend(fin);
        if lent {
            self.queue.lend(fresh.len());
        } else {
            self.queue.push(cx.pool, fresh);
        }
        self.charge_in_order(seg.payload.len(), old);
        self.rcv_nxt += fresh.len() as u32;
        if !seg.payload.is_empty() {
            self.event_data(cx, seg);
        }
        let mut out = DataOut {
            readable: fresh.len() as u32,
            lent,
            fin,
            drop: None,
        };
        if fin {
            self.take_fin(cx);
        } else if self.ofo.is_some() {
            let (readable, fin) = self.drain_ofo(cx);
            out.readable += readable;
            out.fin = fin;
        }
        self.bytes_received += u64::from(out.readable);
        out
    }

    /// Nothing stands between the application and text that is next in order.
    fn may_lend(&self, fin: bool) -> bool {
        self.queue.is_empty() && self.ofo.is_none() && self.urg == Urg::None && !fin && !self.flags.has(Flags::SHUTDOWN)
    }

    /// The application was shown text that [`data`](Self::data) lent: it has read `taken` bytes, and `rest` waits for it.
    pub(crate) fn return_lent(&mut self, cx: &mut Cx, taken: usize, rest: &[u8]) {
        if self.queue.len() != taken + rest.len() {
            return;
        }
        self.queue.keep(cx.pool, taken, rest);
        if taken > 0 {
            self.consume(cx, taken);
        }
    }

    /// The FIN is next in order: nothing after it counts (Linux: `tcp_fin`).
    #[inline(never)]
    fn take_fin(&mut self, cx: &mut Cx) {
        self.rcv_nxt += 1;
        self.flags.set(Flags::FIN, true);
        self.schedule_ack();
        // No DSACK either.
        self.purge_ofo(cx);
        self.clear_dsack();
    }

    /// The application reads no more (SHUT_RD, or it is gone): no ACK is worth sending for a window that opens.
    pub(crate) fn shutdown(&mut self) {
        self.flags.set(Flags::SHUTDOWN, true);
    }

    /// Bytes of memory the receiver holds besides itself.
    pub(crate) fn truesize(&self) -> usize {
        self.queue.truesize() + self.ofo.as_ref().map_or(0, |ofo| ofo.truesize())
    }

    /// What the receiver is charged against SO_RCVBUF (Linux: `sk_rmem_alloc`), and that limit.
    pub(crate) fn rmem(&self) -> (u32, u32) {
        (self.charged, self.rcvbuf)
    }

    /// Gives every chunk back to the pool: nobody will read what is queued.
    pub(crate) fn release(&mut self, cx: &mut Cx) {
        self.queue.clear(cx.pool);
        self.ofo = None;
        self.charged = 0;
    }

    /// The steps in which windows are told, in bytes.
    pub(crate) fn grain(&self) -> u32 {
        1 << self.wscale.bits()
    }

    /// The receiver's part of `struct tcp_info`.
    pub(crate) fn info(&self, now: Instant, info: &mut TcpInfo) {
        info.rcv_wscale = self.wscale.bits();
        info.ato = self.ato * 1000;
        info.rcv_mss = u32::from(self.rcv_mss);
        info.advmss = u32::from(self.advmss);
        info.rcv_ssthresh = self.rcv_ssthresh;
        info.rcv_rtt = self.rcv_rtt >> 3;
        info.rcv_space = self.space;
        info.rcv_wnd = self.rcv_wnd;
        info.rcv_ooopack = self.ooo_packets;
        info.bytes_received = self.bytes_received;
        info.last_data_recv = (now.millis() as u32).wrapping_sub(self.last_data);
    }
}
