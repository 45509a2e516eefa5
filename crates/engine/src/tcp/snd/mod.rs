//! The sender: from the application's bytes to segments, and what acknowledgments do to them
//! (RFC 9293 §3.8, RFC 5681, 6298, 6675, 8985, 9937, 5682 as Linux's tcp_output.c and tcp_input.c behave).
//!
//! A connection owns one [`Sender`] once its handshake is done. Its caller
//! - hands it bytes ([`Sender::write`], [`Sender::queue_fin`]) and acknowledgments ([`Sender::on_ack`]),
//! - takes segments from [`Sender::poll`] until that gives `None`, writing headers around them and the
//!   payload with [`Sender::copy_payload`], and calls [`Sender::resume`],
//! - keeps one timer at [`Sender::deadline`] and calls [`Sender::on_timer`] when it has passed.
//!
//! After each of these calls `poll` may have something to send and `deadline` may have moved. What is sent, and when,
//! is decided inside the call that gives rise to it, as Linux decides it; `poll` only hands it out.
//!
//! | file | Linux |
//! |---|---|
//! | `queue.rs` | the skbs of `sk_write_queue` and `tcp_rtx_queue` |
//! | `write.rs` | `tcp_sendmsg_locked`, `tcp_send_fin`, the send buffer |
//! | `output.rs` | `tcp_write_xmit`: windows, Nagle, TSO |
//! | `retransmit.rs` | `tcp_retransmit_skb`, `tcp_xmit_retransmit_queue` |
//! | `ack.rs` | `tcp_ack`, `tcp_clean_rtx_queue` |
//! | `mtu.rs` | `tcp_mtu_probe` |
//! | `timer.rs` `probe.rs` | `tcp_write_timer`, zero-window probes |
//! | `cwnd.rs` `rate.rs` `pacing.rs` `ecn.rs` `chrono.rs` | window validation, delivery rate, pacing, ECN, why sending waits |
//! | `device.rs` `recall.rs` | small queues and autocorking; tcp_metrics.c |
//! | `../loss/` | `tcp_fastretrans_alert` and all it calls |
//! | `../cc/` | the congestion controls |

mod ack;
mod chrono;
pub(crate) mod cwnd;
mod device;
mod ecn;
mod info;
pub(crate) mod lazy;
mod mtu;
pub(crate) mod output;
pub(crate) mod pacing;
mod probe;
pub(crate) mod queue;
pub(crate) mod rate;
mod recall;
mod retransmit;
mod syn_data;
mod timer;
mod write;

#[cfg(test)]
mod tests;

use super::cc::Cc;
use super::loss::rack::Rack;
use super::loss::rto::Rtt;
use super::loss::undo::Undo;
use super::loss::{CaState, prr::Prr, scoreboard::Scoreboard};
use crate::SockError;
use crate::drop::DropReason;
use crate::env::Env;
use crate::sysctl::Qdisc;
use alloc::boxed::Box;
use chrono::{Chrono, Why};
use core::time::Duration;
use cwnd::Cwnd;
use ecn::Ecn;
use estab_proto::diag::CcName;
use estab_proto::{SeqNum, TcpFlags};
use lazy::{Blank, Lazy};
use pacing::Pacing;
use queue::SendQueue;
use rate::Rate;
use timer::Timer;

/// What the handshake settled, for [`Sender::begin`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct SndSetup {
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
}

/// The MSS before a handshake has settled one (Linux: TCP_MSS_DEFAULT).
const MSS_DEFAULT: u16 = 536;

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
    /// Our FIN is acknowledged, by this or an earlier ACK.
    pub(crate) fin_acked: bool,
    /// The path works both ways: something was delivered (confirm the neighbour).
    pub(crate) progress: bool,
    /// The ACK lies below SND.UNA (Linux: `tcp_ack` returns 0): its data still counts, but in SYN_RCVD it
    /// is no answer to our SYN.
    pub(crate) old_ack: bool,
    /// The ACK can't be one of ours: discard the segment, for this reason.
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
    /// Most bytes of payload in one [`TxSegment`]: the device's GSO size less headers. One segment fits in any case.
    pub(crate) max_payload: u32,
    /// Most bytes of payload in one segment with the options that this header gets.
    pub(crate) mss: u16,
}

/// The circumstances of a timeout, for [`Sender::on_timer`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TimerCx {
    /// No application holds the socket (SOCK_DEAD): `tcp_orphan_retries` applies.
    pub(crate) orphan: bool,
    /// How many orphans there are in the stack.
    pub(crate) orphans: u32,
    /// More memory is in use than `tcp_mem` allows (Linux: `tcp_out_of_memory`).
    pub(crate) out_of_memory: bool,
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

/// How small segments are held back (Linux: `tp->nonagle`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Nagle(u8);

impl Nagle {
    /// TCP_NODELAY: small segments leave at once.
    pub(crate) const OFF: Nagle = Nagle(1);
    /// TCP_CORK or MSG_MORE: only full segments leave.
    pub(crate) const CORK: Nagle = Nagle(2);
    /// What is queued now leaves, corked or not.
    pub(crate) const PUSH: Nagle = Nagle(4);

    const fn has(self, other: Nagle) -> bool {
        self.0 & other.0 != 0
    }

    fn set(&mut self, other: Nagle, on: bool) {
        if on {
            self.0 |= other.0;
        } else {
            self.0 &= !other.0;
        }
    }
}

/// What a connection has sent, in all.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) bytes_sent: u64,
    pub(super) bytes_acked: u64,
    pub(super) data_segs: u32,
}

/// What went wrong, in all; blank until something does.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Troubles {
    pub(super) bytes_retrans: u64,
    pub(super) retrans: u32,
    pub(super) dsack_dups: u32,
    pub(super) reord_seen: u32,
    /// Milliseconds when the first of a row of timeouts was, 0: no timeout is being recovered from.
    pub(super) rto_stamp: u32,
    pub(super) rto_time: u32,
    pub(super) rtos: u16,
    pub(super) rto_recoveries: u16,
}

impl Blank for Troubles {
    fn blank() -> &'static Troubles {
        static BLANK: Troubles = Troubles {
            bytes_retrans: 0,
            retrans: 0,
            dsack_dups: 0,
            reord_seen: 0,
            rto_stamp: 0,
            rto_time: 0,
            rtos: 0,
            rto_recoveries: 0,
        };
        &BLANK
    }
    fn fresh() -> Troubles {
        Troubles::default()
    }
}

/// Yes-or-no state.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags {
    pub(super) sack_ok: bool,
    pub(super) ts_ok: bool,
    pub(super) fin_queued: bool,
    /// The application met a full buffer and waits for room (SOCK_NOSPACE).
    pub(super) no_space: bool,
    /// There is room again, and nobody was told.
    pub(super) writable: bool,
    pub(super) sndbuf_locked: bool,
    /// The window of the last round trip was used up.
    pub(super) cwnd_limited: bool,
    /// The receiver took back SACKs in this recovery.
    pub(super) reneged: bool,
    /// F-RTO examines the last timeout.
    pub(super) frto: bool,
    /// The loss probe repeated old data.
    pub(super) tlp_retrans: bool,
    /// Fast Open: the handshake is not done; timers are the handshake's.
    pub(super) handshake: bool,
    /// SO_MAX_PACING_RATE or the congestion control holds data back.
    pub(super) paced: bool,
    /// Data waits for its time.
    pub(super) pacing_waits: bool,
    /// Data waits until what was sent before has left: see [`Sender::resume`].
    pub(super) throttled: bool,
}

/// The sending half of a connection.
#[derive(Clone)]
pub(crate) struct Sender {
    // Sequence space (RFC 9293 §3.3.1).
    pub(super) una: SeqNum,
    pub(super) nxt: SeqNum,
    pub(super) write_seq: SeqNum,
    /// Everything before was pushed.
    pub(super) pushed_seq: SeqNum,
    /// End of the last small segment sent (Minshall).
    pub(super) small_seq: SeqNum,
    /// After the urgent byte; SND.UNA: none.
    pub(super) urgent: SeqNum,
    wl1: SeqNum,
    pub(super) wnd: u32,
    pub(super) max_wnd: u32,
    /// What the path allows, and that bounded by half the largest window.
    pub(super) path_mss: u16,
    pub(super) mss: u16,
    pub(super) mss_clamp: u16,
    /// The search for a larger path MTU, where it is on.
    pub(super) mtu: Option<Box<mtu::Search>>,
    /// Bytes of options beyond those that `mss` accounts for (SACK blocks); see [`Sender::set_extra_options`].
    pub(super) extra_options: u8,
    pub(super) nagle: Nagle,
    pub(super) flags: Flags,

    pub(super) queue: Lazy<SendQueue>,
    pub(super) sndbuf: u32,
    /// Bytes charged to the send buffer (`sk_wmem_queued`).
    pub(super) wmem: u32,
    pub(super) notsent_lowat: u32,

    pub(super) timer: Timer,
    pub(super) rtt: Rtt,
    /// Timeouts in a row without progress (`icsk_retransmits`).
    pub(super) retransmits: u8,
    /// Zero-window probes in a row without an answer.
    pub(super) probes_out: u8,
    /// Milliseconds when probing began; 0: it has not.
    pub(super) probes_stamp: u32,
    /// TCP_USER_TIMEOUT in milliseconds; 0: off.
    pub(super) user_timeout: u32,
    /// Milliseconds of the last ACK, and of the last data sent.
    pub(super) last_ack: u32,
    pub(super) last_data: u32,

    /// Packets sent and not cumulatively acknowledged.
    pub(super) packets_out: u32,
    pub(super) board: Lazy<Scoreboard>,
    /// Distance in packets at which a hole means loss.
    pub(super) reordering: u32,
    pub(super) state: CaState,
    /// SND.NXT when the state was entered: it ends when this is acknowledged.
    pub(super) high_seq: SeqNum,
    pub(super) undo: Undo,
    pub(super) prr: Prr,
    pub(super) rack: Rack,
    pub(super) tlp_high: Option<SeqNum>,

    pub(super) cwnd: Cwnd,
    pub(super) cc: Cc,
    pub(super) rate: Rate,
    pub(super) pacing: Pacing,
    pub(super) ecn: Ecn,
    chrono: Chrono,
    pub(super) totals: Totals,
    pub(super) troubles: Lazy<Troubles>,
}

impl Sender {
    /// The sender of a connection at its beginning, whose first byte will be ISS + 1: it sends nothing until [`Self::begin`] but
    /// what Fast Open puts into the SYN. `sndbuf`: SO_SNDBUF set by the application (doubled), which turns autotuning off;
    /// `cc`: congestion control by TCP_CONGESTION; without them the sysctls'.
    #[inline]
    pub(crate) fn new(env: &Env, iss: SeqNum, sndbuf: Option<u32>, cc: Option<CcName>) -> Sender {
        let first = iss + 1;
        let now_ms = env.now_ms();
        Sender {
            una: first,
            nxt: first,
            write_seq: first,
            pushed_seq: first,
            small_seq: first,
            urgent: first,
            wl1: SeqNum(0),
            wnd: 0,
            max_wnd: 0,
            path_mss: MSS_DEFAULT,
            mss: MSS_DEFAULT,
            mss_clamp: MSS_DEFAULT,
            mtu: None,
            extra_options: 0,
            nagle: Nagle::default(),
            flags: Flags {
                sndbuf_locked: sndbuf.is_some(),
                paced: env.sysctl.default_qdisc == Qdisc::Fq,
                ..Flags::default()
            },
            queue: Lazy::default(),
            sndbuf: sndbuf.unwrap_or(env.sysctl.tcp_wmem[1] as u32),
            wmem: 0,
            notsent_lowat: 0,
            timer: Timer::default(),
            rtt: Rtt::new(),
            retransmits: 0,
            probes_out: 0,
            probes_stamp: 0,
            user_timeout: 0,
            last_ack: now_ms,
            last_data: now_ms,
            packets_out: 0,
            board: Lazy::default(),
            reordering: env.sysctl.tcp_reordering,
            state: CaState::Open,
            high_seq: first,
            undo: Undo::default(),
            prr: Prr::default(),
            rack: Rack::default(),
            tlp_high: None,
            cwnd: Cwnd::new(now_ms),
            cc: Cc::new(cc.unwrap_or(env.sysctl.tcp_congestion_control)),
            rate: Rate::default(),
            pacing: Pacing::default(),
            ecn: Ecn::new(false),
            chrono: Chrono::default(),
            totals: Totals::default(),
            troubles: Lazy::default(),
        }
    }

    /// The handshake is done (or, with Fast Open, data may leave before that: see [`Self::begin_handshake`]). What left with the
    /// SYN is still under way (Linux: `tcp_init_transfer`, `tcp_init_metrics`).
    pub(crate) fn begin(&mut self, env: &mut Env, setup: &SndSetup) {
        let now_ms = env.now_ms();
        self.wl1 = setup.wl1;
        (self.wnd, self.max_wnd) = (setup.window, setup.window);
        (self.path_mss, self.mss_clamp) = (setup.mss, setup.mss_clamp);
        (self.flags.sack_ok, self.flags.ts_ok) = (setup.sack_ok, setup.ts_ok);
        self.ecn = Ecn::new(setup.ecn_ok);
        // What the options say of Nagle is applied when all else stands.
        self.nagle = Nagle::default();
        (self.high_seq, self.last_ack, self.cwnd.stamp) = (self.nxt, now_ms, now_ms);
        if self.packets_out == 0 {
            self.last_data = now_ms;
        }
        self.mtu = None;
        self.sync_mss();
        self.mtu_init(env);
        match setup.rtt {
            Some(rtt) => self.seed_rtt(env, rtt),
            None => self.rtt.no_handshake_sample(),
        }
        self.cwnd.window = if setup.syn_lost { 1 } else { cwnd::INITIAL };
        self.cc_init(env);
        self.update_pacing_rate(env);
        self.expand_sndbuf(env);
    }

    /// A sample of the handshake's round trip (Linux: `tcp_synack_rtt_meas`, `tcp_ack_update_rtt` on the SYN).
    pub(crate) fn seed_rtt(&mut self, env: &Env, rtt: Duration) {
        let us = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX);
        self.rtt.min_sample(us, env.now_ms(), &env.sysctl);
        self.rtt.sample(us, self.una, self.nxt, &env.sysctl);
    }

    /// Bytes of options beyond the fixed ones (SACK blocks of our receiver, MD5) that segments carry from now on: call
    /// when that changes, before `write`, `on_ack`, `push` or `on_timer` (Linux: `tcp_current_mss`).
    pub(crate) fn set_extra_options(&mut self, bytes: u8) {
        self.extra_options = bytes;
    }

    /// The connection has ended: nothing is queued or under way any more, but TCP_INFO still tells what went before
    /// (Linux: `tcp_write_queue_purge`).
    pub(crate) fn purge(&mut self, env: &mut Env) {
        self.drop_queue(env);
        self.chrono_stop(env, Why::Idle);
        let end = self.nxt;
        (self.una, self.write_seq, self.pushed_seq) = (end, end, end);
        (self.small_seq, self.urgent, self.high_seq) = (end, end, end);
        (self.wmem, self.packets_out, self.retransmits, self.rtt.backoff) = (0, 0, 0, 0);
        self.tlp_high = None;
        self.timer.clear();
        self.flags = Flags {
            sack_ok: self.flags.sack_ok,
            ts_ok: self.flags.ts_ok,
            sndbuf_locked: self.flags.sndbuf_locked,
            paced: self.flags.paced,
            ..Flags::default()
        };
    }

    /// The connection begins with `segments` instead of the usual window (Linux: RTAX_INITCWND, `tcp_init_cwnd`).
    pub(crate) fn begin_with(&mut self, env: &Env, segments: u32) {
        self.cwnd.window = segments;
        self.update_pacing_rate(env);
    }

    /// TCP_NODELAY; turning it on pushes what Nagle held (Linux: `__tcp_sock_set_nodelay`).
    pub(crate) fn set_nodelay(&mut self, env: &mut Env, on: bool) {
        self.nagle.set(Nagle::OFF, on);
        if on {
            self.nagle.set(Nagle::PUSH, true);
            self.push_pending(env);
        }
    }

    /// TCP_CORK; turning it off pushes what was held (Linux: `__tcp_sock_set_cork`).
    pub(crate) fn set_cork(&mut self, env: &mut Env, on: bool) {
        self.nagle.set(Nagle::CORK, on);
        if !on {
            if self.nagle.has(Nagle::OFF) {
                self.nagle.set(Nagle::PUSH, true);
            }
            self.push_pending(env);
        }
    }

    /// TCP_USER_TIMEOUT in milliseconds; 0: off.
    pub(crate) fn set_user_timeout(&mut self, ms: u32) {
        self.user_timeout = ms;
    }

    /// TCP_CONGESTION; `false`: there is none of that name (ENOENT).
    pub(crate) fn set_cc(&mut self, env: &Env, name: CcName) -> bool {
        if !Cc::exists(name) {
            return false;
        }
        if self.cc.name() != name {
            self.cc = Cc::new(name);
            self.cc_init(env);
        }
        true
    }

    /// TCP_CONGESTION's value.
    pub(crate) fn cc_name(&self) -> CcName {
        self.cc.name()
    }

    /// The path MTU or the peer's MSS changed: later segments carry `mss` bytes (Linux: `tcp_sync_mss`).
    /// `lost`: an ICMP "fragmentation needed" says that what is larger was lost (Linux: `tcp_simple_retransmit`).
    pub(crate) fn set_mss(&mut self, env: &mut Env, mss: u16, lost: bool) {
        self.path_mss = mss.max(1);
        self.sync_mss();
        if lost {
            self.simple_retransmit(env);
        }
    }

    /// Bounds the MSS by half the largest window offered (Linux: `tcp_bound_to_half_wnd`).
    pub(crate) fn sync_mss(&mut self) {
        let mss = self.bound_to_half_window(u32::from(self.path_mss));
        self.mss = self.mtu_bound(mss) as u16;
    }

    fn bound_to_half_window(&self, bytes: u32) -> u32 {
        let cutoff = if self.max_wnd > 536 {
            self.max_wnd >> 1
        } else {
            self.max_wnd
        };
        if cutoff != 0 && bytes > cutoff {
            cutoff.max(48)
        } else {
            bytes
        }
    }

    /// Payload bytes of a segment sent now (Linux: `tcp_current_mss`).
    pub(super) fn current_mss(&self) -> u32 {
        u32::from(self.mss).saturating_sub(u32::from(self.extra_options)).max(1)
    }

    /// The end of the window: SND.UNA + SND.WND (Linux: `tcp_wnd_end`).
    pub(super) fn window_end(&self) -> SeqNum {
        self.una + self.wnd
    }

    /// Packets believed to be in the network (RFC 6675's pipe; Linux: `tcp_packets_in_flight`).
    pub(super) fn in_flight(&self) -> u32 {
        match self.board.get() {
            None => self.packets_out,
            Some(board) => (self.packets_out + board.retrans_out).saturating_sub(board.sacked_out + board.lost_out),
        }
    }

    /// Packets that left the network or are lost (Linux: `tcp_left_out`).
    pub(super) fn left_out(&self) -> u32 {
        self.board.sacked_out + self.board.lost_out
    }

    /// Urgent data waits to be sent or acknowledged.
    pub(super) fn urgent_mode(&self) -> bool {
        self.una != self.urgent
    }
}
