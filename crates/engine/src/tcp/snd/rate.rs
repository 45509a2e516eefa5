//! Delivery rate samples (draft-cheng-iccrg-delivery-rate-estimation; Linux: net/ipv4/tcp_rate.c).
//!
//! Each record remembers how much had been delivered when it left. When it is acknowledged, what was delivered
//! since, over the longer of the time to send that and the time to get it acknowledged, is the rate.

use super::Sender;
use super::queue::{Seg, Tags};
use crate::Instant;
use crate::env::Env;
use estab_proto::SeqNum;

/// What was delivered so far, and the last rate.
#[derive(Clone, Debug)]
pub(crate) struct Rate {
    /// Segments delivered, and those of them under congestion marks.
    pub(crate) delivered: u32,
    pub(crate) delivered_ce: u32,
    /// Segments ever marked lost.
    pub(crate) lost: u32,
    /// While not 0, samples up to this many delivered were limited by the application.
    pub(crate) app_limited: u32,
    /// When the most recently delivered record was sent, and when something was last delivered.
    first_tx: Instant,
    pub(crate) delivered_at: Instant,
    /// The last rate worth showing: segments per microseconds.
    last_delivered: u32,
    last_interval_us: u32,
    last_app_limited: bool,
}

impl Default for Rate {
    fn default() -> Rate {
        Rate {
            delivered: 1, // Our SYN.
            delivered_ce: 0,
            lost: 0,
            app_limited: u32::MAX, // Until the first data.
            first_tx: Instant::ZERO,
            delivered_at: Instant::ZERO,
            last_delivered: 0,
            last_interval_us: 0,
            last_app_limited: false,
        }
    }
}

impl Rate {
    /// What is in flight now and before doesn't show what the path could carry.
    pub(crate) fn mark_app_limited(&mut self, in_flight: u32) {
        self.app_limited = self.delivered.wrapping_add(in_flight).max(1);
    }

    /// `n` segments were delivered (Linux: `tcp_count_delivered`).
    pub(crate) fn count(&mut self, n: u32, ce: bool) {
        self.delivered = self.delivered.wrapping_add(n);
        if ce {
            self.delivered_ce = self.delivered_ce.wrapping_add(n);
        }
    }
}

/// What one ACK tells of the rate (Linux: `struct rate_sample`).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// Delivered when the newest record acknowledged left; 0: nothing was acknowledged.
    pub(crate) prior_delivered: u32,
    pub(crate) prior_at: Option<Instant>,
    /// Segments delivered over `interval_us`; `None`: no valid sample.
    pub(crate) delivered: Option<u32>,
    pub(crate) interval_us: u32,
    /// RTT of the last record (S)ACKed.
    pub(crate) rtt_us: Option<u32>,
    /// Segments newly marked lost, and newly delivered.
    pub(crate) losses: u32,
    pub(crate) acked_sacked: u32,
    pub(crate) prior_in_flight: u32,
    pub(crate) app_limited: bool,
    /// Packets in flight when the record that gave the sample left, and packets marked lost since then.
    pub(crate) tx_in_flight: u32,
    pub(crate) lost: u32,
    prior_lost: u32,
    /// ECN-Echo.
    pub(crate) ece: bool,
    pub(crate) retrans: bool,
    /// The ACK may have been delayed by the receiver.
    pub(crate) ack_delayed: bool,
    last_end: SeqNum,
}

impl Sender {
    /// The record at `position` leaves.
    pub(super) fn rate_sent(&mut self, position: usize) {
        let in_flight = self.in_flight();
        let seg = self.queue.at_mut(position);
        let rate = &mut self.rate;
        if self.packets_out == 0 {
            (rate.first_tx, rate.delivered_at) = (seg.sent, seg.sent);
        }
        seg.first_tx = rate.first_tx;
        seg.delivered_at = rate.delivered_at;
        seg.delivered = rate.delivered;
        seg.lost = rate.lost;
        seg.tx_in_flight = in_flight + seg.packets();
        seg.app_limited = rate.app_limited != 0;
    }

    /// A record was (S)ACKed; the one sent last gives the sample. True if the record's snapshot is now used up.
    pub(crate) fn rate_delivered(&mut self, seg: &Seg, sample: &mut Sample) -> bool {
        if seg.delivered_at == Instant::ZERO {
            return false;
        }
        let newer = seg.sent > self.rate.first_tx || seg.sent == self.rate.first_tx && seg.end().after(sample.last_end);
        if sample.prior_delivered == 0 || newer {
            sample.prior_delivered = seg.delivered;
            sample.prior_at = Some(seg.delivered_at);
            sample.app_limited = seg.app_limited;
            (sample.tx_in_flight, sample.prior_lost) = (seg.tx_in_flight, seg.lost);
            sample.retrans = seg.tags.any(Tags::ANY_RETRANS);
            sample.last_end = seg.end();
            self.rate.first_tx = seg.sent;
            sample.interval_us = micros(seg.sent, seg.first_tx);
        }
        seg.tags.any(Tags::SACKED)
    }

    /// Finishes the sample of an ACK (Linux: `tcp_rate_gen`).
    pub(super) fn rate_gen(&mut self, env: &Env, delivered: u32, losses: u32, reneged: bool, sample: &mut Sample) {
        let rate = &mut self.rate;
        if rate.app_limited != 0 && (rate.delivered.wrapping_sub(rate.app_limited) as i32) > 0 {
            rate.app_limited = 0;
        }
        if delivered > 0 {
            rate.delivered_at = env.now;
        }
        (sample.acked_sacked, sample.losses) = (delivered, losses);
        sample.lost = rate.lost.wrapping_sub(sample.prior_lost);
        let Some(prior_at) = sample.prior_at.filter(|_| !reneged) else {
            return;
        };
        let delivered = rate.delivered.wrapping_sub(sample.prior_delivered);
        sample.interval_us = sample.interval_us.max(micros(env.now, prior_at));
        // Faster than the least RTT: the clock or the receiver deceives.
        if sample.interval_us < self.rtt.min() {
            return;
        }
        sample.delivered = Some(delivered);
        let better = u64::from(delivered) * u64::from(rate.last_interval_us)
            >= u64::from(rate.last_delivered) * u64::from(sample.interval_us);
        if !sample.app_limited || better {
            rate.last_delivered = delivered;
            rate.last_interval_us = sample.interval_us;
            rate.last_app_limited = sample.app_limited;
        }
    }

    /// The application, not the network, keeps the pipe from being full (Linux: `tcp_rate_check_app_limited`).
    pub(super) fn rate_check_app_limited(&mut self) {
        if self.unsent() < u32::from(self.mss)
            && self.in_flight() < self.cwnd.window
            && self.board.lost_out <= self.board.retrans_out
        {
            self.rate.mark_app_limited(self.in_flight());
        }
    }

    /// Bytes per second of the last sample, and whether the application limited it (Linux: `tcp_compute_delivery_rate`).
    pub(super) fn delivery_rate(&self) -> (u64, bool) {
        let rate = &self.rate;
        let bytes = u64::from(rate.last_delivered) * u64::from(self.mss) * 1_000_000;
        let per_second = bytes.checked_div(u64::from(rate.last_interval_us)).unwrap_or(0);
        (
            if rate.last_delivered == 0 { 0 } else { per_second },
            rate.last_app_limited,
        )
    }
}

/// Microseconds from `from` to `to`, to the nearest.
pub(crate) fn micros(to: Instant, from: Instant) -> u32 {
    u32::try_from((to.nanos().saturating_sub(from.nanos()) + 500) / 1000).unwrap_or(u32::MAX)
}
