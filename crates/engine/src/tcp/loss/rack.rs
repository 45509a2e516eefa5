//! RACK: a packet is lost when one sent later was delivered and the reordering window has passed (RFC 8985 §6;
//! Linux: net/ipv4/tcp_recovery.c).

use super::{CaState, SackState, rto};
use crate::Instant;
use crate::env::Env;
use crate::tcp::snd::Sender;
use crate::tcp::snd::queue::{Seg, Tags};
use crate::tcp::snd::rate::micros;
use estab_proto::SeqNum;

/// `tcp_recovery`: the reordering window never adapts.
const STATIC_REO_WND: u32 = 2;
/// `tcp_recovery`: DUPACKs don't close the reordering window.
const NO_DUPTHRESH: u32 = 4;
/// Recoveries that an adapted window lasts (RFC 8985 §6.2 step 4).
pub(crate) const PERSIST: u8 = 16;

/// The most recently sent record that was delivered.
#[derive(Clone, Debug)]
pub(crate) struct Rack {
    sent: Instant,
    end: SeqNum,
    /// Nanoseconds from when it was sent to when it was known to be delivered: to the last digit, since what left in one
    /// burst differs by little.
    rtt_ns: u64,
    /// `delivered` when the window was last widened.
    last_delivered: u32,
    /// The reordering window in quarters of the least RTT.
    steps: u8,
    pub(crate) persist: u8,
    pub(crate) dsack_seen: bool,
    /// Something was delivered since the last look.
    pub(crate) advanced: bool,
}

impl Default for Rack {
    fn default() -> Rack {
        Rack {
            sent: Instant::ZERO,
            end: SeqNum(0),
            rtt_ns: 0,
            last_delivered: 0,
            steps: 1,
            persist: 0,
            dsack_seen: false,
            advanced: false,
        }
    }
}

/// Whether one record was sent after another; at the same moment the sequence number decides.
fn sent_after(one: (Instant, SeqNum), other: (Instant, SeqNum)) -> bool {
    one.0 > other.0 || one.0 == other.0 && one.1.after(other.1)
}

impl Sender {
    /// A record was delivered; `tags` as they were before (Linux: `tcp_rack_advance`).
    pub(crate) fn rack_advance(&mut self, now: Instant, seg: &Seg, tags: Tags) {
        let rtt = now.since(seg.sent);
        // Too soon for the retransmission: the original was delivered.
        if micros(now, seg.sent) < self.rtt.min() && tags.any(Tags::ANY_RETRANS) {
            return;
        }
        self.rack.advanced = true;
        self.rack.rtt_ns = u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX);
        if sent_after((seg.sent, seg.end()), (self.rack.sent, self.rack.end)) {
            (self.rack.sent, self.rack.end) = (seg.sent, seg.end());
        }
    }

    /// How long a packet may be late (RFC 8985 §6.2 step 4; Linux: `tcp_rack_reo_wnd`).
    fn reorder_window_us(&self, env: &Env) -> u32 {
        if self.troubles.reord_seen == 0 {
            if self.state >= CaState::Recovery {
                return 0;
            }
            if self.board.sacked_out >= self.reordering && env.sysctl.tcp_recovery & NO_DUPTHRESH == 0 {
                return 0;
            }
        }
        (self.rtt.min() >> 2)
            .saturating_mul(u32::from(self.rack.steps))
            .min(self.rtt.srtt())
    }

    /// Microseconds until the record counts as lost; 0: it does. Rounded down, so that those of one burst, which leave
    /// nanoseconds apart, count alike (Linux: `tcp_rack_skb_timeout`).
    pub(crate) fn rack_timeout_us(&self, env: &Env, seg: &Seg, window_us: u32) -> u32 {
        let deadline = seg.sent.nanos().saturating_add(self.rack.rtt_ns) + u64::from(window_us) * 1000;
        let left = deadline.saturating_sub(env.now.nanos()) / 1000;
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    /// Marks what is lost by now; returns microseconds until the next look, 0: none is needed
    /// (RFC 8985 §6.2 step 5; Linux: `tcp_rack_detect_loss`).
    fn rack_detect_loss(&mut self, env: &mut Env) -> u32 {
        let window = self.reorder_window_us(env);
        let mut wait = 0;
        let mut next = self.queue.oldest();
        while let Some(id) = next {
            next = self.queue.sent_after(id);
            let seg = self.queue.by_id(id);
            if seg.tags.any(Tags::LOST) && !seg.tags.any(Tags::RETRANS) {
                continue;
            }
            if !sent_after((self.rack.sent, self.rack.end), (seg.sent, seg.end())) {
                break;
            }
            let left = self.rack_timeout_us(env, seg, window);
            if left == 0 {
                self.mark_lost(env, id);
                self.queue.unlink(id);
            } else {
                wait = wait.max(left);
            }
        }
        wait
    }

    /// Looks for losses after an ACK; true if the reordering timer now runs (Linux: `tcp_rack_mark_lost`).
    pub(crate) fn rack_mark_lost(&mut self, env: &mut Env) -> bool {
        if !core::mem::take(&mut self.rack.advanced) {
            return false;
        }
        let wait = self.rack_detect_loss(env);
        if wait > 0 {
            let us = rto::ticks(wait.saturating_add(rto::TIMEOUT_MIN_US)).min(self.rtt.rto());
            self.set_timer_reorder(env, us);
        }
        wait > 0
    }

    /// The reordering window of some packet has passed (Linux: `tcp_rack_reo_timeout`).
    pub(crate) fn rack_timeout(&mut self, env: &mut Env) {
        let lost = self.rate.lost;
        let in_flight = self.in_flight();
        self.rack_detect_loss(env);
        if self.in_flight() != in_flight {
            if self.state != CaState::Recovery {
                self.enter_recovery(env, false);
                if !self.cc.has_cong_control() {
                    let newly_lost = self.rate.lost.wrapping_sub(lost);
                    self.cwnd_reduction(1, newly_lost, super::AckFlags::default());
                }
            }
            self.xmit_retransmit_queue(env);
        }
        if !self.timer.is_rto() {
            self.rearm_rto(env);
        }
    }

    /// Widens the reordering window after DSACKs, once per round trip, and forgets that after [`PERSIST`]
    /// recoveries (Linux: `tcp_rack_update_reo_wnd`).
    pub(crate) fn rack_update_window(&mut self, env: &Env, st: &SackState) {
        let prior = st.rate.prior_delivered;
        if env.sysctl.tcp_recovery & STATIC_REO_WND != 0 || prior == 0 {
            return;
        }
        let rack = &mut self.rack;
        if (prior.wrapping_sub(rack.last_delivered) as i32) < 0 {
            rack.dsack_seen = false;
        }
        if rack.dsack_seen {
            rack.steps = rack.steps.saturating_add(1);
            rack.dsack_seen = false;
            rack.last_delivered = self.rate.delivered;
            rack.persist = PERSIST;
        } else if rack.persist == 0 {
            rack.steps = 1;
        }
    }
}
