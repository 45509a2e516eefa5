//! The sender: from the application's bytes to segments, and what acknowledgments do to them
//! (RFC 9293 §3.8, RFC 5681, 6298, 6675, 8985, 9937, 5682 as Linux's tcp_output.c and tcp_input.c behave).
//!
//! A connection owns one [`Sender`] once its handshake is done. Its caller
//! - hands it bytes ([`Sender::write`], [`Sender::queue_fin`]) and acknowledgments ([`Sender::on_ack`]),
//! - takes segments from [`Sender::poll`] until that gives `None`, writing headers around them and the
//!   payload with [`Sender::copy_payload`],
//! - keeps one timer at [`Sender::deadline`] and calls [`Sender::on_timer`] when it has passed.
//!
//! After each of these calls `poll` may have something to send and `deadline` may have moved.
#![allow(clippy::todo, unused_variables, dead_code)]

use crate::drop::DropReason;
use crate::env::Env;
use crate::{Instant, SendFlags, SockError};
use core::time::Duration;
use estab_proto::diag::CcName;
use estab_proto::{SeqNum, TcpFlags, TcpInfo, TimerKind};

/// What the handshake settled, for [`Sender::new`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct SndSetup {
    /// Initial sequence number: the stream's first byte is `iss + 1`.
    pub(crate) iss: SeqNum,
    /// Payload bytes of a full segment: the least of the peer's MSS option and the path MTU's, less the
    /// options that every segment carries (timestamps: 12) (Linux: `tcp_sync_mss`, `mss_cache`).
    pub(crate) mss: u16,
    /// The peer's MSS option (536 or 1220 without one), clamped by TCP_MAXSEG (Linux: `rx_opt.mss_clamp`).
    pub(crate) mss_clamp: u16,
    /// The window of the peer's segment that finished the handshake, in bytes.
    pub(crate) window: u32,
    /// Sequence number of that segment (SND.WL1).
    pub(crate) wl1: SeqNum,
    /// SACK was negotiated.
    pub(crate) sack_ok: bool,
    /// Timestamps were negotiated.
    pub(crate) ts_ok: bool,
    /// ECN was negotiated (RFC 3168).
    pub(crate) ecn_ok: bool,
    /// Our SYN or SYN-ACK was retransmitted more than once and nothing (TS echo) proved that needless: the initial window is
    /// one segment (RFC 5681 §3.1; Linux: `tcp_init_transfer`: `total_retrans > 1 && undo_marker`).
    pub(crate) syn_lost: bool,
    /// Round-trip time of the handshake, if it was measured on a SYN sent once or by timestamps.
    pub(crate) rtt: Option<Duration>,
    /// SO_SNDBUF set by the application (doubled), which turns autotuning off.
    pub(crate) sndbuf: Option<u32>,
    /// Congestion control by TCP_CONGESTION; `None`: the sysctl's.
    pub(crate) cc: Option<CcName>,
}

/// What [`Sender`] must know of an acceptable segment with ACK set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AckIn<'a> {
    /// SEG.SEQ
    pub(crate) seq: SeqNum,
    /// SEG.ACK
    pub(crate) ack: SeqNum,
    /// SEG.WND in bytes (scaled already).
    pub(crate) window: u32,
    /// The SACK blocks as they stand in the option, unverified; the first may be a DSACK.
    pub(crate) sack: &'a [(SeqNum, SeqNum)],
    /// TSecr less our timestamp offset: milliseconds of `env.now` when the echoed segment left.
    pub(crate) ts_ecr: Option<u32>,
    /// ECE was set (SYN not).
    pub(crate) ece: bool,
    /// The segment occupies sequence space: data or FIN.
    pub(crate) has_data: bool,
}

/// What an acknowledgment did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AckOut {
    /// Bytes of the stream newly acknowledged cumulatively (FIN not counted).
    pub(crate) acked_bytes: u32,
    /// SND.UNA moved.
    pub(crate) una_advanced: bool,
    /// Our FIN is acknowledged, by this or an earlier ACK.
    pub(crate) fin_acked: bool,
    /// The path works both ways: something was acknowledged (confirm the neighbour).
    pub(crate) progress: bool,
    /// Room for the application has grown past its threshold: POLLOUT is due (Linux: `tcp_check_space`).
    pub(crate) writable: bool,
    /// The ACK is to be ignored and the segment discarded, for this reason.
    pub(crate) drop: Option<DropReason>,
    /// With `drop`: answer with a (rate-limited) challenge ACK (RFC 5961 §5).
    pub(crate) challenge: bool,
}

/// A segment (or, above one MSS, a super-packet) to write now; it counts as sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TxSegment {
    /// SEG.SEQ
    pub(crate) seq: SeqNum,
    /// Bytes of payload, from [`Sender::copy_payload`]; FIN not counted.
    pub(crate) len: u32,
    /// FIN, PSH, URG, CWR as they apply; the caller adds ACK, and ECE if the receiver wants it.
    pub(crate) flags: TcpFlags,
    /// The urgent pointer, where URG is set.
    pub(crate) urg_ptr: u16,
    /// Bytes of payload per segment: the GSO size when `len` is larger.
    pub(crate) mss: u16,
    /// Mark the IP header ECT(0).
    pub(crate) ect: bool,
    /// The bytes were sent before.
    pub(crate) retransmit: bool,
    /// A zero-window probe.
    pub(crate) probe: bool,
}

/// What bounds the next segment, for [`Sender::poll`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct TxRoom {
    /// Most bytes of payload in one [`TxSegment`]: the device's GSO size less headers, or one MSS.
    pub(crate) max_payload: u32,
    /// Bytes of options (SACK blocks, MD5) beyond those that `mss` accounts for (Linux: `tcp_current_mss`).
    pub(crate) extra_options: u8,
}

/// The circumstances of a timeout, for [`Sender::on_timer`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TimerCx {
    /// No application holds the socket (SOCK_DEAD): `tcp_orphan_retries` applies.
    pub(crate) orphan: bool,
    /// There are more orphans or more memory in use than allowed (Linux: `tcp_check_oom`).
    pub(crate) out_of_resources: bool,
    /// TCP_USER_TIMEOUT in milliseconds; 0 is off.
    pub(crate) user_timeout: u32,
    /// The pending ICMP error (`sk_err_soft`).
    pub(crate) soft_error: Option<SockError>,
}

/// What a timeout asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TimerOut {
    /// Nothing was due.
    Nothing,
    /// [`Sender::poll`] has something now.
    Send,
    /// The connection has failed: report it and forget the connection (Linux: `tcp_write_err`).
    Fail(SockError),
    /// An orphan is given up for want of resources, with RST or without (Linux: `tcp_out_of_resources`).
    Abort {
        /// Send an RST.
        reset: bool,
    },
}

/// The sending half of a connection.
pub(crate) struct Sender {
    una: SeqNum,
    nxt: SeqNum,
    write_seq: SeqNum,
}

impl Sender {
    /// The sender of a connection whose handshake is done; SND.UNA = SND.NXT = ISS + 1.
    pub(crate) fn new(env: &mut Env, setup: &SndSetup) -> Sender {
        todo!()
    }

    // --- the application's side

    /// Appends to the stream as much as fits; returns the bytes taken, 0 when the buffer is full
    /// (then `writable` in some later [`AckOut`] says when to try again).
    pub(crate) fn write(&mut self, env: &mut Env, data: &[u8], flags: SendFlags) -> usize {
        todo!()
    }
    /// Bytes that [`Self::write`] would take now (SO_SNDBUF, TCP_NOTSENT_LOWAT not considered).
    pub(crate) fn room(&self) -> usize {
        todo!()
    }
    /// POLLOUT: a third of the buffer is free and unsent bytes are below TCP_NOTSENT_LOWAT (Linux: `sk_stream_is_writeable`).
    pub(crate) fn is_writable(&self, env: &Env) -> bool {
        todo!()
    }
    /// Queues FIN after what was written. Later writes are refused by the caller.
    pub(crate) fn queue_fin(&mut self, env: &mut Env) {
        todo!()
    }
    /// FIN was queued.
    pub(crate) fn fin_queued(&self) -> bool {
        todo!()
    }
    /// FIN has been sent at least once.
    pub(crate) fn fin_sent(&self) -> bool {
        todo!()
    }
    /// FIN was acknowledged.
    pub(crate) fn fin_acked(&self) -> bool {
        todo!()
    }
    /// TCP_NODELAY; turning it on pushes what Nagle held.
    pub(crate) fn set_nodelay(&mut self, on: bool) {
        todo!()
    }
    /// TCP_CORK; turning it off pushes what was held.
    pub(crate) fn set_cork(&mut self, on: bool) {
        todo!()
    }
    /// SO_SNDBUF in bytes, doubled already; turns autotuning off.
    pub(crate) fn set_sndbuf(&mut self, bytes: u32) {
        todo!()
    }
    /// SO_SNDBUF's value now.
    pub(crate) fn sndbuf(&self) -> u32 {
        todo!()
    }
    /// TCP_NOTSENT_LOWAT; 0: the sysctl's.
    pub(crate) fn set_notsent_lowat(&mut self, bytes: u32) {
        todo!()
    }
    /// SO_MAX_PACING_RATE in bytes per second; `u64::MAX` is none.
    pub(crate) fn set_max_pacing_rate(&mut self, bytes_per_second: u64) {
        todo!()
    }
    /// TCP_CONGESTION; ENOENT's place is taken by `false`.
    pub(crate) fn set_cc(&mut self, env: &Env, name: CcName) -> bool {
        todo!()
    }

    // --- the network's side

    /// An acceptable segment with ACK arrived: call once per segment, before its data is processed.
    pub(crate) fn on_ack(&mut self, env: &mut Env, ack: &AckIn<'_>) -> AckOut {
        todo!()
    }
    /// The next segment to send now, accounted for as sent; call again until `None`.
    pub(crate) fn poll(&mut self, env: &mut Env, room: TxRoom) -> Option<TxSegment> {
        todo!()
    }
    /// Copies the payload of a [`TxSegment`] and returns its partial Internet checksum (RFC 1071).
    pub(crate) fn copy_payload(&self, seq: SeqNum, out: &mut [u8]) -> u32 {
        todo!()
    }
    /// The path MTU or the peer's MSS changed (Linux: `tcp_sync_mss`): later segments carry `mss` bytes. `retransmit`:
    /// an ICMP "fragmentation needed" lost what was larger (Linux: `tcp_simple_retransmit`).
    pub(crate) fn set_mss(&mut self, env: &mut Env, mss: u16, retransmit: bool) {
        todo!()
    }
    /// A checked ICMP unreachable for what is in flight takes one backoff step back (RFC 6069; Linux: `tcp_ld_RTO_revert`).
    pub(crate) fn on_unreachable(&mut self, env: &mut Env, seq: SeqNum) {
        todo!()
    }

    // --- time

    /// When to call [`Self::on_timer`] next, and why.
    pub(crate) fn deadline(&self) -> Option<(Instant, TimerKind)> {
        todo!()
    }
    /// Acts on the deadline if it has passed.
    pub(crate) fn on_timer(&mut self, env: &mut Env, cx: &TimerCx) -> TimerOut {
        todo!()
    }
    /// How often in a row the running timer has fired without an answer (RTO backoff or probes), for diagnoses.
    pub(crate) fn retries(&self) -> u8 {
        todo!()
    }

    // --- what others ask

    /// SND.UNA
    pub(crate) fn una(&self) -> SeqNum {
        self.una
    }
    /// SND.NXT
    pub(crate) fn nxt(&self) -> SeqNum {
        self.nxt
    }
    /// The sequence number after the last byte (and FIN) queued.
    pub(crate) fn write_seq(&self) -> SeqNum {
        self.write_seq
    }
    /// Bytes written and not acknowledged, FIN not counted (SIOCOUTQ).
    pub(crate) fn queued(&self) -> u32 {
        todo!()
    }
    /// Bytes written and not yet sent (SIOCOUTQNSD).
    pub(crate) fn unsent(&self) -> u32 {
        todo!()
    }
    /// SND.WND in bytes.
    pub(crate) fn window(&self) -> u32 {
        todo!()
    }
    /// Largest window the peer has offered.
    pub(crate) fn max_window(&self) -> u32 {
        todo!()
    }
    /// Payload bytes of a full segment.
    pub(crate) fn mss(&self) -> u16 {
        todo!()
    }
    /// Segments sent and unacknowledged (Linux: `packets_out`).
    pub(crate) fn packets_out(&self) -> u32 {
        todo!()
    }
    /// Smoothed round-trip time, once known.
    pub(crate) fn srtt(&self) -> Option<Duration> {
        todo!()
    }
    /// The retransmission timeout now, backoff included.
    pub(crate) fn rto(&self) -> Duration {
        todo!()
    }
    /// When the last data segment left (keepalive and delayed-ACK logic ask).
    pub(crate) fn last_sent(&self) -> Option<Instant> {
        todo!()
    }
    /// Bytes of memory held (wmem_queued).
    pub(crate) fn memory(&self) -> usize {
        todo!()
    }
    /// Fills in what `struct tcp_info` says of the sending half.
    pub(crate) fn info(&self, env: &Env, info: &mut TcpInfo) {
        todo!()
    }
}
