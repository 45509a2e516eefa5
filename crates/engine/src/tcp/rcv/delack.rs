//! When to acknowledge: at once, later, or with the next data (RFC 9293 §3.8.6.3, RFC 5681 §4.2).
//!
//! What arrives schedules an ACK. Every segment that leaves carries it; otherwise [`Receiver::poll_ack`] decides: at once
//! after more than one full segment, in quick-ACK mode or when the gap in the data closes; a little later and merged
//! while data is out of order; else by the delayed-ACK timer, which follows the pace of the data.

use super::*;
use estab_proto::TimerKind;

/// An ACK is owed.
pub(super) const ACK_SCHED: u8 = 1;
/// The delayed-ACK timer runs.
const ACK_TIMER: u8 = 2;
/// A small segment is queued; twice: and so was an earlier one.
const ACK_PUSHED: u8 = 4;
const ACK_PUSHED2: u8 = 8;
/// The ACK owed must not wait.
pub(super) const ACK_NOW: u8 = 16;
/// Data was dropped for want of memory: the window is closed.
pub(super) const ACK_NOMEM: u8 = 32;

/// The most ACKs in a row that are not delayed (Linux: TCP_MAX_QUICKACKS).
pub(super) const MAX_QUICKACKS: u8 = 16;
/// The least delayed-ACK timeout, in ms (Linux: TCP_ATO_MIN, TCP_DELACK_MIN).
const ATO_MIN: u32 = 40;
/// The most (Linux: TCP_DELACK_MAX; RFC 9293 asks for at most 500 ms).
const DELACK_MAX: u32 = 200;
/// Duplicate ACKs sent in full before SACKs are merged (Linux: TCP_FASTRETRANS_THRESH).
const DUP_ACKS: u8 = 3;

/// What the sender knows of the path, for the delayed-ACK timer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    /// Smoothed round-trip time, once measured.
    pub(crate) srtt: Option<Duration>,
    /// The retransmission timeout.
    pub(crate) rto: Duration,
    /// How long an ACK may be delayed (TCP_DELACK_MAX_US).
    pub(crate) delack_max: Duration,
}

impl Receiver {
    /// An ACK is owed (Linux: `inet_csk_schedule_ack`).
    pub(super) fn schedule_ack(&mut self) {
        self.pending |= ACK_SCHED;
    }

    /// An ACK is owed and nothing has carried it.
    pub(crate) fn ack_scheduled(&self) -> bool {
        self.pending & ACK_SCHED != 0
    }

    /// The next ACK owed does not wait (Linux: ICSK_ACK_NOW).
    pub(crate) fn hasten_ack(&mut self) {
        self.pending |= ACK_NOW;
    }

    /// An ACK must leave now, even if nothing is new (Linux: a direct `tcp_send_ack`).
    pub(crate) fn ack_now(&mut self) {
        self.flags.set(Flags::FORCE, true);
    }

    /// Whether a pure ACK must leave now. To be asked after each segment that came, read, timeout or option, once the
    /// sender has no data to send; answering "later" starts the timer (Linux: `tcp_ack_snd_check`).
    pub(crate) fn poll_ack(&mut self, cx: &mut Cx, path: &Path) -> bool {
        if self.flags.has(Flags::FORCE) {
            return true;
        }
        if !self.flags.has(Flags::CHECK) {
            return false;
        }
        self.flags.set(Flags::CHECK, false);
        if !self.ack_scheduled() {
            return false;
        }
        let now = self.ack_due(cx, path);
        self.flags.set(Flags::FORCE, now);
        now
    }

    /// [`poll_ack`](Self::poll_ack) would have to be asked.
    pub(crate) fn ack_undecided(&self) -> bool {
        self.flags.has(Flags::FORCE) || self.flags.has(Flags::CHECK) && self.ack_scheduled()
    }

    /// Linux: `__tcp_ack_snd_check`.
    fn ack_due(&mut self, cx: &mut Cx, path: &Path) -> bool {
        // More than one full segment, and the window can follow (else reading will send the ACK).
        if self.rcv_nxt.since(self.rcv_wup) > u32::from(self.rcv_mss)
            && (self.queue.is_empty() || self.window_wanted(cx) >= self.rcv_wnd)
        {
            return true;
        }
        if self.in_quickack(cx) || self.pending & ACK_NOW != 0 {
            return true;
        }
        if self.ofo_is_empty() {
            return self.delay_ack(cx, path);
        }
        if !self.flags.has(Flags::SACK) || u32::from(self.compressed) >= cx.sysctl.tcp_comp_sack_nr {
            return true;
        }
        if self.compressed_rcv_nxt != self.rcv_nxt {
            self.compressed_rcv_nxt = self.rcv_nxt;
            self.dup_acks = 0;
        }
        if self.dup_acks < DUP_ACKS {
            self.dup_acks += 1;
            return true;
        }
        self.compressed += 1;
        if self.compressed == 1 {
            // 5 % of the round trip, the shorter of the two estimates.
            let mut rtt = u64::from(self.rcv_rtt) * 1000 / 8;
            if let Some(srtt) = path.srtt {
                rtt = rtt.min(srtt.as_nanos() as u64);
            }
            let delay = (rtt / 20).min(u64::from(cx.sysctl.tcp_comp_sack_delay_ns));
            // Linux's timer may fire anywhere within the slack, and on a quiet machine does at its end.
            let slack = u64::from(cx.sysctl.tcp_comp_sack_slack_ns);
            self.compressed_at = cx.now + Duration::from_nanos(delay + slack);
        }
        false
    }

    /// Starts or shortens the timer; true if it is so near that the ACK may leave now (Linux: `tcp_send_delayed_ack`).
    fn delay_ack(&mut self, cx: &Cx, path: &Path) -> bool {
        let mut ato = self.ato;
        if ato > ATO_MIN {
            let mut most = 500;
            if self.in_pingpong(cx) || self.pending & ACK_PUSHED != 0 {
                most = DELACK_MAX;
            }
            if let Some(srtt) = path.srtt {
                most = most.min((srtt.as_millis() as u32).max(ATO_MIN));
            }
            ato = ato.min(most);
        }
        // Never as long as the peer's least RTO would be (Linux: `tcp_delack_max`).
        let rto_min_ms = cx.sysctl.tcp_rto_min_us / 1000;
        let delack_max = path.delack_max.as_millis() as u32;
        ato = ato.min(delack_max).min(rto_min_ms.max(2) - 1);
        let mut at = cx.now + Duration::from_millis(u64::from(ato));
        if self.pending & ACK_TIMER != 0 {
            if self.delack_at <= cx.now + Duration::from_millis(u64::from(ato / 4)) {
                return true;
            }
            at = at.min(self.delack_at);
        }
        self.pending |= ACK_SCHED | ACK_TIMER;
        self.delack_at = at;
        false
    }

    /// The ACK may wait for as long as any does (Linux: TCP_DELACK_MAX).
    pub(super) fn delay_ack_most(&mut self, now: Instant) {
        self.pending |= ACK_SCHED | ACK_TIMER;
        self.delack_at = now + Duration::from_millis(u64::from(DELACK_MAX));
    }

    /// When [`on_timer`](Self::on_timer) has something to do, and why.
    pub(crate) fn deadline(&self) -> Option<(Instant, TimerKind)> {
        let delayed = (self.pending & ACK_TIMER != 0).then_some(self.delack_at);
        let merged = (self.compressed > 0).then_some(self.compressed_at);
        let at = match (delayed, merged) {
            (Some(a), Some(b)) => a.min(b),
            (a, b) => a.or(b)?,
        };
        Some((at, TimerKind::DelayedAck))
    }

    /// [`Self::deadline`]; the end of time: none.
    pub(crate) fn deadline_at(&self) -> Instant {
        let mut at = Instant::NEVER;
        if self.pending & ACK_TIMER != 0 {
            at = self.delack_at;
        }
        if self.compressed > 0 {
            at = at.min(self.compressed_at);
        }
        at
    }

    /// Time has passed; true if an ACK is to be sent now (Linux: `tcp_delack_timer_handler`, `tcp_compressed_ack_kick`).
    pub(crate) fn on_timer(&mut self, cx: &mut Cx, path: &Path) -> bool {
        if self.compressed > 0 && self.compressed_at <= cx.now {
            self.send_compressed(cx);
        }
        if self.pending & ACK_TIMER != 0 && self.delack_at <= cx.now {
            self.pending &= !ACK_TIMER;
            if self.ack_scheduled() {
                if self.in_pingpong(cx) {
                    // The reply did not come: the talk is over.
                    self.pingpong = 0;
                    self.ato = ATO_MIN;
                } else {
                    self.ato = (self.ato * 2).min(path.rto.as_millis() as u32);
                }
                cx.mib.inc(Counter::TcpExtDelayedACKs);
                self.ack_now();
            }
        }
        self.flags.has(Flags::FORCE)
    }

    /// Sends the one ACK that stands for all that were merged (Linux: `tcp_sack_compress_send_ack`).
    pub(super) fn send_compressed(&mut self, cx: &mut Cx) {
        if self.compressed > 0 {
            cx.mib
                .add(Counter::TcpExtTCPAckCompressed, u64::from(self.compressed) - 1);
            self.compressed = 0;
            self.ack_now();
        }
    }

    /// A segment with ACK is leaving; its window and SACK blocks were taken (Linux: `tcp_event_ack_sent`).
    pub(crate) fn on_ack_sent(&mut self, cx: &mut Cx) {
        cx.mib.add(Counter::TcpExtTCPAckCompressed, u64::from(self.compressed));
        self.compressed = 0;
        if self.quick > 0 && self.ack_scheduled() {
            self.quick -= 1;
            if self.quick == 0 {
                self.ato = ATO_MIN;
            }
        }
        self.pending = 0;
        self.flags.set(Flags::FORCE, false);
    }

    /// Data is leaving: if it answers what came a moment ago, this is a dialogue, whose ACKs ride on the replies
    /// (Linux: `tcp_event_data_sent`).
    pub(crate) fn on_data_sent(&mut self, now: Instant) {
        if (now.millis() as u32).wrapping_sub(self.last_data) < self.ato {
            self.pingpong = self.pingpong.saturating_add(1);
        }
    }

    fn in_pingpong(&self, cx: &Cx) -> bool {
        u32::from(self.pingpong) >= cx.sysctl.tcp_pingpong_thresh
    }

    /// ACKs wait for replies to ride on: set after a FIN came, or by TCP_QUICKACK 0 (Linux: `inet_csk_enter_pingpong_mode`).
    pub(crate) fn enter_pingpong(&mut self, sysctl: &Sysctls) {
        self.pingpong = sysctl.tcp_pingpong_thresh.min(255) as u8;
    }

    /// Whether TCP_QUICKACK reads as 1.
    pub(crate) fn quickack(&self, sysctl: &Sysctls) -> bool {
        u32::from(self.pingpong) < sysctl.tcp_pingpong_thresh
    }

    fn in_quickack(&self, cx: &Cx) -> bool {
        self.quick > 0 && !self.in_pingpong(cx)
    }

    /// TCP_QUICKACK (Linux: `__tcp_sock_set_quickack`); `open`: in ESTABLISHED or CLOSE_WAIT.
    pub(crate) fn set_quickack(&mut self, cx: &mut Cx, value: i32, open: bool) {
        if value == 0 {
            return self.enter_pingpong(cx.sysctl);
        }
        self.pingpong = 0;
        if open && self.ack_scheduled() {
            self.pending |= ACK_PUSHED;
            self.cleanup(cx, 1);
            if value & 1 == 0 {
                self.enter_pingpong(cx.sysctl);
            }
        }
    }

    /// Linux: `tcp_incr_quickack`.
    fn add_quickacks(&mut self, most: u8) {
        let half_window = self.rcv_wnd / (2 * u32::from(self.rcv_mss).max(1));
        let quick = if half_window == 0 {
            2
        } else {
            half_window.min(255) as u8
        };
        self.quick = self.quick.max(quick.min(most));
    }

    /// The next ACKs are not delayed: the peer may be short of them (Linux: `tcp_enter_quickack_mode`).
    pub(crate) fn enter_quickack(&mut self, most: u8) {
        self.add_quickacks(most);
        self.pingpong = 0;
        self.ato = ATO_MIN;
    }

    /// Data came in order (Linux: `tcp_event_data_recv`).
    pub(super) fn event_data(&mut self, cx: &mut Cx, seg: &DataIn) {
        self.schedule_ack();
        self.measure_mss(seg);
        self.rtt_measure(cx);
        let now = cx.now.millis() as u32;
        let rto = seg.rto.as_millis() as u32;
        let gap = now.wrapping_sub(self.last_data);
        if self.ato == 0 {
            // The peer is in slow start: each ACK lets it send more.
            self.add_quickacks(MAX_QUICKACKS);
            self.ato = ATO_MIN;
        } else if gap <= ATO_MIN / 2 {
            self.ato = self.ato / 2 + ATO_MIN / 2;
        } else if gap < self.ato {
            self.ato = (self.ato / 2 + gap).min(rto.max(1));
        } else if gap > rto {
            // The peer starts anew, in slow start again.
            self.add_quickacks(MAX_QUICKACKS);
        }
        self.last_data = now;
        self.check_ce(seg.ecn);
        if seg.payload.len() >= 128 {
            self.grow_window(cx, seg.payload.len());
        }
    }

    /// Learns the peer's segment size, and notes small segments, whose ACK need not wait for another one once they are
    /// read (Linux: `tcp_measure_rcv_mss`).
    pub(super) fn measure_mss(&mut self, seg: &DataIn) {
        let last = core::mem::take(&mut self.last_seg_size);
        let len = seg.gso_size.map_or(seg.payload.len(), usize::from).min(0xffff) as u16;
        if len >= self.rcv_mss {
            if len != self.rcv_mss {
                self.measure_ratio(seg.payload.len());
            }
            self.rcv_mss = len.min(self.advmss);
            if seg.flags.contains(TcpFlags::PSH) {
                self.pending |= ACK_PUSHED;
            }
            return;
        }
        // As if with a header of the usual length, so that SACK blocks don't count as payload missing.
        let usual = if self.flags.has(Flags::TIMESTAMPS) { 32 } else { 20 };
        let whole = u32::from(len) + u32::from(seg.header_len);
        let special = TcpFlags::FIN | TcpFlags::SYN | TcpFlags::PSH | TcpFlags::URG;
        if whole >= 536 + 20 || (whole >= 88 + 20 && !seg.flags.intersects(special)) {
            let invariant = whole.saturating_sub(usual).min(0xffff) as u16;
            self.last_seg_size = invariant;
            if invariant == last {
                self.rcv_mss = invariant;
                return;
            }
        }
        if self.pending & ACK_PUSHED != 0 {
            self.pending |= ACK_PUSHED2;
        }
        self.pending |= ACK_PUSHED;
    }

    /// Linux: `tcp_initialize_rcv_mss`. Too small a guess is mended sooner than one too large.
    pub(super) fn init_rcv_mss(&mut self, mss: u16) {
        let hint = u32::from(self.advmss.min(mss)).min(self.rcv_wnd / 2).min(536);
        self.rcv_mss = hint.max(88) as u16;
    }

    /// The receiver's half of ECN (RFC 3168 §6.1.3, Linux: `__tcp_ecn_check_ce`).
    pub(super) fn check_ce(&mut self, ecn: u8) {
        const NOT_ECT: u8 = 0;
        const CE: u8 = 3;
        if !self.flags.has(Flags::ECN) {
            return;
        }
        match ecn & 3 {
            // Retransmissions are sent without ECT: the peer may be in trouble.
            NOT_ECT if self.flags.has(Flags::ECN_SEEN) => self.enter_quickack(2),
            NOT_ECT => {}
            CE => {
                if !self.flags.has(Flags::ECN_DEMAND_CWR) {
                    self.enter_quickack(2);
                    self.flags.set(Flags::ECN_DEMAND_CWR, true);
                }
                self.flags.set(Flags::ECN_SEEN, true);
            }
            _ => self.flags.set(Flags::ECN_SEEN, true),
        }
    }

    /// Data came with ECT.
    pub(crate) fn has_seen_ect(&self) -> bool {
        self.flags.has(Flags::ECN_SEEN)
    }

    /// ACKs carry ECE: congestion was seen and the peer has not answered with CWR.
    pub(crate) fn ece(&self) -> bool {
        self.flags.has(Flags::ECN_DEMAND_CWR)
    }

    /// `copied` bytes were read: an ACK is due if one was held back, or if the window opens by a lot
    /// (RFC 9293 §3.8.6.2.2, Linux: `tcp_cleanup_rbuf`).
    pub(super) fn cleanup(&mut self, cx: &mut Cx, copied: usize) {
        let mut due = false;
        if self.ack_scheduled() {
            let small = self.pending & ACK_PUSHED2 != 0 || (self.pending & ACK_PUSHED != 0 && !self.in_pingpong(cx));
            due = self.rcv_nxt.since(self.rcv_wup) > u32::from(self.rcv_mss)
                || (copied > 0 && small && self.charged == 0);
        }
        if copied > 0 && !due && !self.fin_received() && !self.flags.has(Flags::SHUTDOWN) {
            let current = self.receive_window();
            if 2 * u64::from(current) <= u64::from(self.window_clamp) {
                let new = self.window_wanted(cx);
                due = new > 0 && u64::from(new) >= 2 * u64::from(current);
            }
        }
        if due {
            self.ack_now();
        }
    }
}
