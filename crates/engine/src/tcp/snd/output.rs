//! What may leave now (RFC 9293 §3.8.6.2, RFC 896, RFC 1122 §4.2.3.4; Linux: `tcp_write_xmit` and the tests it makes).

use super::mtu::Probe;
use super::queue::{Departure, Kind, Seg};
use super::{Nagle, Sender, TxRoom, TxSegment};
use crate::env::Env;
use crate::tcp::cc::CcEvent;
use crate::tcp::loss::CaState;
use core::time::Duration;
use estab_proto::{Counter, SeqNum, TcpFlags};
use estab_wire::checksum::Sum;

/// The most payload of a super-packet: 64 KiB less the most that headers take (Linux: `sk_gso_max_size`).
pub(crate) const GSO_MAX: u32 = 65_536 - 321;

/// Why [`Sender::transmit`] was called, beyond pushing all that may go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Push {
    All,
    One,
    /// One record even if the congestion window is full: a loss probe.
    Probe,
}

impl Sender {
    /// Sends what windows and Nagle let go: call after a segment from the peer was processed
    /// (Linux: `tcp_data_snd_check`). Then ask [`Self::take_writable`].
    pub(crate) fn push(&mut self, env: &mut Env) {
        self.push_pending(env);
        self.check_space(env);
    }

    pub(super) fn push_pending(&mut self, env: &mut Env) {
        self.push_pending_as(env, self.nagle);
    }

    /// Linux: `__tcp_push_pending_frames`.
    pub(super) fn push_pending_as(&mut self, env: &mut Env, nagle: Nagle) {
        if self.queue.has_unsent() {
            self.transmit(env, nagle, false);
        }
    }

    /// Sends the one record there is (Linux: `tcp_push_one`).
    pub(super) fn push_one(&mut self, env: &mut Env) {
        self.write_xmit(env, Nagle::PUSH, Push::One);
    }

    /// Sends what may go and, where nothing may, starts zero-window probing. With `probe` one record goes in any
    /// case of congestion.
    pub(crate) fn transmit(&mut self, env: &mut Env, nagle: Nagle, probe: bool) {
        if probe {
            self.write_xmit(env, nagle, Push::Probe);
        } else if self.write_xmit(env, nagle, Push::All) {
            self.check_probe_timer(env);
        }
    }

    /// The loop: record after record while pacing, the congestion window, the peer's window and Nagle agree.
    /// True if data waits and nothing is in flight.
    fn write_xmit(&mut self, env: &mut Env, nagle: Nagle, push: Push) -> bool {
        let mss = self.current_mss();
        let max_segs = self.tso_segs(env, mss);
        let (mut cwnd_limited, mut rwnd_limited) = (false, false);
        let mut packets = 0;
        if push == Push::All {
            match self.mtu_probe(env) {
                Probe::Wait => return false,
                Probe::Sent => packets = 1,
                Probe::No => {}
            }
        }
        while self.queue.has_unsent() {
            let position = self.queue.sent();
            if self.pacing_holds(env) {
                break;
            }
            let mut quota = self.cwnd_quota();
            if quota == 0 {
                if push != Push::Probe {
                    break;
                }
                quota = 1;
            }
            let quota = quota.min(max_segs);
            self.grow_record(position, quota * mss);
            let head = self.queue.at_mut(position);
            head.set_segs(mss);
            let head = *head;
            if !self.window_allows(&head, mss) {
                rwnd_limited = true;
                break;
            }
            let last = position + 1 == self.queue.len();
            if head.segs == 1 {
                let nagle = if last { nagle } else { Nagle::PUSH };
                if !self.nagle_allows(&head, mss, nagle) {
                    break;
                }
            } else if push == Push::All {
                let defer = self.should_defer(env, &head, last, max_segs);
                cwnd_limited |= defer == Some(Limit::Cwnd);
                rwnd_limited |= defer == Some(Limit::Rwnd);
                if defer.is_some() {
                    break;
                }
            }
            let limit = if head.segs > 1 && !self.urgent_mode() {
                self.split_point(&head, last, mss, quota, nagle)
            } else {
                mss
            };
            if head.len > limit {
                self.queue.split(position, limit, mss);
                self.charge_record();
            }
            let head = *self.queue.at(position);
            if head.len == 0 && !head.fin || self.small_queue_is_full(env) {
                break;
            }
            packets += head.packets();
            let (end, short) = (head.end(), head.len < head.packets() * mss);
            if !self.send_record(env, position, Kind::Data) {
                packets -= self.queue.at(position).packets();
                break;
            }
            self.sent_new(env);
            if short {
                self.small_seq = end;
            }
            if push != Push::All {
                break;
            }
        }
        self.chrono_rwnd(env, rwnd_limited);
        cwnd_limited |= self.in_flight() >= self.cwnd.window;
        if packets > 0 || cwnd_limited {
            self.cwnd_validate(env, cwnd_limited);
        }
        if packets > 0 {
            if self.in_cwnd_reduction() {
                self.prr.out += packets;
            }
            if push != Push::Probe {
                self.schedule_loss_probe(env, false);
            }
            return false;
        }
        self.packets_out == 0 && self.queue.has_unsent()
    }

    /// Segments the congestion window has room for; never more than half of it at once, so that two super-packets fit
    /// (Linux: `tcp_cwnd_test`).
    fn cwnd_quota(&self) -> u32 {
        let free = self.cwnd.window.saturating_sub(self.in_flight());
        free.min((self.cwnd.window >> 1).max(1))
    }

    /// The first segment ends within the peer's window (Linux: `tcp_snd_wnd_test`).
    pub(crate) fn window_allows(&self, seg: &Seg, mss: u32) -> bool {
        let end = if seg.len > mss { seg.seq + mss } else { seg.end() };
        !end.after(self.window_end())
    }

    /// A small segment may leave (Linux: `tcp_nagle_test`).
    fn nagle_allows(&self, seg: &Seg, mss: u32, nagle: Nagle) -> bool {
        nagle.has(Nagle::PUSH) || self.urgent_mode() || seg.fin || !self.nagle_holds(seg.len < mss, nagle)
    }

    /// Nagle's rule with Minshall's change: a small segment waits while another small one is unacknowledged, or while
    /// corked (Linux: `tcp_nagle_check`).
    fn nagle_holds(&self, partial: bool, nagle: Nagle) -> bool {
        let small_out = self.small_seq.after(self.una) && !self.small_seq.after(self.nxt);
        partial && (nagle.has(Nagle::CORK) || nagle == Nagle::default() && self.packets_out > 0 && small_out)
    }

    /// How many bytes of a long record leave now (Linux: `tcp_mss_split_point`).
    fn split_point(&self, seg: &Seg, last: bool, mss: u32, segs: u32, nagle: Nagle) -> u32 {
        let window = self.window_end().since(seg.seq);
        let most = mss * segs;
        if most <= window && !last {
            return most;
        }
        let needed = seg.len.min(window);
        if most <= needed {
            return most;
        }
        let partial = needed % mss;
        if self.nagle_holds(partial != 0, nagle) {
            needed - partial
        } else {
            needed
        }
    }

    /// Segments of a super-packet: what a millisecond at the pacing rate carries, more on short paths
    /// (Linux: `tcp_tso_autosize`).
    pub(super) fn tso_segs(&self, env: &Env, mss: u32) -> u32 {
        let mut bytes = self.pacing.rate >> 10;
        let shift = self.rtt.min().checked_shr(env.sysctl.tcp_tso_rtt_log).unwrap_or(0);
        if shift < 32 {
            bytes += u64::from(GSO_MAX >> shift);
        }
        let bytes = bytes.min(u64::from(GSO_MAX)) as u32;
        let least = self
            .cc
            .min_tso_segs(&self.pacing)
            .unwrap_or(env.sysctl.tcp_min_tso_segs);
        (bytes / mss).max(least).max(1)
    }

    /// A record shorter than what may leave takes bytes from the next (Linux: `tcp_grow_skb`).
    pub(super) fn grow_record(&mut self, position: usize, bytes: u32) {
        let head = self.queue.at(position);
        if head.len >= bytes || head.eor || head.fin || position + 1 == self.queue.len() {
            return;
        }
        let n = (bytes - head.len).min(self.queue.at(position + 1).len);
        if n == 0 {
            return;
        }
        let records = self.queue.len();
        self.queue.take_from_next(position, n);
        if self.queue.len() < records {
            self.uncharge_record();
        }
    }

    /// Waiting for one more ACK would make a better super-packet (Linux: `tcp_tso_should_defer`). What limits it,
    /// if it should wait.
    #[inline(never)]
    fn should_defer(&self, env: &Env, seg: &Seg, last: bool, max_segs: u32) -> Option<Limit> {
        if self.state >= CaState::Recovery || self.pacing.idle_for(env.now) > Duration::from_millis(1) {
            return None;
        }
        let mss = u32::from(self.mss);
        let send_window = self.window_end().since(seg.seq);
        let cong_window = self.cwnd.window.saturating_sub(self.in_flight()).saturating_mul(mss);
        let limit = send_window.min(cong_window);
        if limit >= max_segs.saturating_mul(mss) || !last && limit >= seg.len {
            return None;
        }
        let window = self.wnd.min(self.cwnd.window.saturating_mul(mss));
        let enough = match window.checked_div(env.sysctl.tcp_tso_win_divisor) {
            Some(part) => limit >= part,
            None => limit > 3 * mss,
        };
        if enough {
            return None;
        }
        // An ACK that is more than a millisecond (or half an RTT) away comes too late.
        let srtt = Duration::from_micros(u64::from(self.rtt.srtt()));
        let expected = self.queue.head()?.sent + srtt;
        if expected.since(env.now) > (srtt / 2).min(Duration::from_millis(1)) {
            return None;
        }
        if cong_window < send_window {
            if cong_window <= seg.len {
                return Some(Limit::Cwnd);
            }
        } else if send_window <= seg.len {
            return Some(Limit::Rwnd);
        }
        if seg.fin || seg.eor {
            None
        } else {
            Some(Limit::Application)
        }
    }

    /// Puts the record at `position` on its way; false if the device takes nothing, which is congestion too
    /// (Linux: `tcp_transmit_skb` and what follows it for data).
    pub(super) fn send_record(&mut self, env: &mut Env, position: usize, kind: Kind) -> bool {
        if env.output_full {
            self.enter_cwr(env);
            return false;
        }
        let before = self.pacing.send_time(env.now);
        let sent = self.pacing.next;
        let seg = self.queue.at_mut(position);
        seg.sent = sent;
        let seg = *seg;
        let new = kind == Kind::Data;
        let mut flags = TcpFlags::default();
        // A super-packet ends with PSH in any case, so that the peer's GRO hands it up (Linux: `__tcp_transmit_skb`).
        for (on, flag) in [(seg.psh || seg.segs > 1, TcpFlags::PSH), (seg.fin, TcpFlags::FIN)] {
            if on {
                flags |= flag;
            }
        }
        let (ect, cwr) = self.ecn.on_send(new && seg.len > 0);
        if cwr {
            flags |= TcpFlags::CWR;
        }
        let urg_ptr = self.urgent_pointer(seg.seq);
        if urg_ptr > 0 {
            flags |= TcpFlags::URG;
        }
        self.queue.depart(Departure {
            seq: seg.seq,
            len: seg.len,
            mss: seg.mss,
            urg_ptr,
            flags,
            kind,
            ect,
        });
        if seg.len > 0 {
            if self.in_flight() == 0 {
                self.cc_event(env, CcEvent::TxStart);
            }
            self.last_data = env.now_ms();
            self.totals.data_segs = self.totals.data_segs.wrapping_add(seg.packets());
            self.totals.bytes_sent += u64::from(seg.len);
        }
        if self.flags.paced {
            self.pacing.sent(seg.len, before, self.totals.data_segs);
        }
        let id = self.queue.id(position);
        self.queue.touch(id);
        self.rate_sent(position);
        true
    }

    /// The send head was sent for the first time (Linux: `tcp_event_new_data_sent`).
    pub(super) fn sent_new(&mut self, env: &mut Env) {
        let Some(head) = self.queue.send_head() else { return };
        let (end, packets) = (head.end(), head.packets());
        let before = self.packets_out;
        self.nxt = end;
        self.queue.advance();
        self.packets_out += packets;
        if before == 0 || self.timer.is_loss_probe() {
            self.rearm_rto(env);
        }
        env.mib.add(Counter::TcpExtTCPOrigDataSent, u64::from(packets));
        self.check_space(env);
    }

    /// The urgent pointer of a segment that begins at `seq`; 0: none (RFC 6093; Linux: `tcp_transmit_skb`).
    fn urgent_pointer(&self, seq: SeqNum) -> u16 {
        if !self.urgent_mode() || !seq.before(self.urgent) {
            return 0;
        }
        let ahead = self.urgent.since(seq);
        if ahead <= 0xffff {
            ahead as u16
        } else if self.nxt.after(seq + 0xffff) {
            0xffff
        } else {
            0
        }
    }

    /// The next segment to write, in the order of decision; call again until `None`. What was acknowledged in the
    /// meantime is left out.
    pub(crate) fn poll(&mut self, env: &mut Env, room: TxRoom) -> Option<TxSegment> {
        while self.wants_transmit() {
            let una = self.una;
            let out = self.queue.departures.front_mut()?;
            if out.kind != Kind::Probe {
                let fin = u32::from(out.flags.contains(TcpFlags::FIN));
                if !(out.seq + out.len + fin).after(una) {
                    self.departed(env);
                    continue;
                }
                let stale = una.since(out.seq).min(out.len);
                out.seq += stale;
                out.len -= stale;
            }
            let mss = out.mss.min(room.mss).max(1);
            let most = (room.max_payload / u32::from(mss)).max(1) * u32::from(mss);
            let mut segment = TxSegment {
                seq: out.seq,
                len: out.len,
                flags: out.flags,
                urg_ptr: out.urg_ptr,
                mss,
                ect: out.ect,
                retransmit: out.kind == Kind::Retransmit,
                probe: out.kind == Kind::Probe,
            };
            if out.len <= most {
                self.departed(env);
                return Some(segment);
            }
            // The device takes less at once: PSH and FIN end the last piece, CWR is in the first.
            segment.len = most;
            segment.flags = out.flags.without(TcpFlags::FIN).without(TcpFlags::PSH);
            out.seq += most;
            out.len -= most;
            out.flags = out.flags.without(TcpFlags::CWR);
            out.urg_ptr = (u32::from(out.urg_ptr)).saturating_sub(most) as u16;
            if out.urg_ptr == 0 {
                out.flags = out.flags.without(TcpFlags::URG);
            }
            return Some(segment);
        }
        None
    }

    /// [`Self::poll`] has something.
    pub(crate) fn wants_transmit(&self) -> bool {
        !self.queue.departures.is_empty()
    }

    /// [`Self::poll`] has something, or [`Self::resume`] may find something for it.
    pub(crate) fn has_output(&self) -> bool {
        self.wants_transmit() || self.flags.throttled
    }

    fn departed(&mut self, env: &mut Env) {
        self.queue.departed();
        self.settle(env);
    }

    /// With everything acknowledged and nothing to send, the queue's memory goes.
    pub(super) fn settle(&mut self, env: &mut Env) {
        if self.queue.is_empty() && self.queue.departures.is_empty() {
            self.release_queue(env);
            if self.state <= CaState::Disorder {
                self.board.release();
            }
        }
    }

    fn release_queue(&mut self, env: &mut Env) {
        if let Some(mut queue) = self.queue.take()
            && queue.reset()
        {
            env.queues.give(queue);
        }
    }

    /// The connection is over: its memory goes.
    pub(crate) fn release(&mut self, env: &mut Env) {
        self.drop_queue(env);
        self.troubles.release();
        self.mtu = None;
    }

    /// Nothing is queued or under way any more.
    pub(super) fn drop_queue(&mut self, env: &mut Env) {
        if !self.queue.is_blank() {
            self.queue.clear(&mut env.pool);
            self.release_queue(env);
        }
        self.board.release();
    }

    /// Copies the payload of a [`TxSegment`] into `out`, which is as long as that.
    pub(crate) fn copy_payload(&self, seq: SeqNum, out: &mut [u8]) {
        let copied = self.queue.copy_out(seq.since(self.una) as usize, out);
        debug_assert_eq!(copied, out.len());
    }

    /// `len` bytes from `seq` on, in place, as up to `out.len()` slices; how many were filled.
    pub(crate) fn payload_slices<'a>(&'a self, seq: SeqNum, len: usize, out: &mut [&'a [u8]]) -> usize {
        self.queue.slices(seq.since(self.una) as usize, len, out)
    }

    /// [`Self::copy_payload`] that sums what it copies.
    pub(crate) fn copy_payload_sum(&self, seq: SeqNum, out: &mut [u8]) -> Sum {
        let (copied, sum) = self.queue.copy_out_sum(seq.since(self.una) as usize, out);
        debug_assert_eq!(copied, out.len());
        sum
    }

    pub(super) fn queue_probe(&mut self, env: &Env, seq: SeqNum, urg_ptr: u16) {
        if env.output_full {
            return;
        }
        let flags = if urg_ptr > 0 {
            TcpFlags::URG
        } else {
            TcpFlags::default()
        };
        self.queue.depart(Departure {
            seq,
            len: 0,
            mss: self.mss,
            urg_ptr,
            flags,
            kind: Kind::Probe,
            ect: false,
        });
    }
}

/// What holds a deferred super-packet back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Limit {
    Cwnd,
    Rwnd,
    Application,
}
