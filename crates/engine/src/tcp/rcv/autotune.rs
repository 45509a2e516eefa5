//! Dynamic right-sizing: the receive buffer follows what the application takes in a round trip, up to `tcp_rmem[2]`.

use super::*;
use core::num::NonZeroU64;

impl Receiver {
    /// A round-trip sample from timestamps (Linux: `tcp_rcv_rtt_measure_ts`).
    pub(super) fn rtt_measure_ts(&mut self, cx: &Cx, seg: &DataIn) {
        let Some(ecr) = seg.ts_ecr.filter(|ecr| *ecr != self.rtt_last_ecr) else {
            return;
        };
        self.rtt_last_ecr = ecr;
        if seg.payload.len() >= usize::from(self.rcv_mss) {
            let ms = (cx.now.millis() as u32).wrapping_sub(ecr);
            if ms < i32::MAX as u32 / 1000 {
                self.rtt_update(ms.max(1) * 1000, false);
            }
        }
    }

    /// A sample without timestamps: the time in which a whole window came (Linux: `tcp_rcv_rtt_measure`).
    pub(super) fn rtt_measure(&mut self, cx: &Cx) {
        if let Some(start) = self.rtt_time {
            if self.rcv_nxt.before(self.rtt_seq) {
                return;
            }
            let us = cx.now.since(Instant::from_nanos(start.get())).as_micros();
            self.rtt_update(us.clamp(1, u128::from(u32::MAX / 8)) as u32, true);
        }
        self.rtt_seq = self.rcv_nxt + self.rcv_wnd;
        self.rtt_time = NonZeroU64::new(cx.now.nanos().max(1));
    }

    /// `by_window` samples are upper bounds: only their minimum counts (Linux: `tcp_rcv_rtt_update`).
    fn rtt_update(&mut self, us: u32, by_window: bool) {
        let sample = us.saturating_mul(8);
        if self.rcv_rtt == 0 || sample < self.rcv_rtt {
            self.rcv_rtt = sample;
        } else if !by_window && self.queue.is_empty() {
            // An application that is behind would make the path look long.
            self.rcv_rtt = self.rcv_rtt - self.rcv_rtt / 8 + us;
        }
    }

    /// The application is reading, the first packet's bytes being `first`: once a round trip, see how much it took
    /// (Linux: `tcp_rcv_space_adjust`, which counts what is still queued as not taken).
    pub(super) fn space_adjust(&mut self, cx: &Cx, first: usize) {
        if self.rcv_rtt == 0 || cx.now.since(self.space_time).as_micros() < u128::from(self.rcv_rtt / 8) {
            return;
        }
        let copied_seq = self.copied_seq() + first as u32;
        let taken = copied_seq
            .since(self.space_seq)
            .saturating_sub((self.queue.len() - first) as u32);
        if taken > self.space {
            self.rcvbuf_grow(cx, taken);
        }
        self.space_seq = copied_seq;
        self.space_time = cx.now;
    }

    /// Room for what the sender may do next: twice what came in the last round trip, more while that still grows, and what
    /// waits out of order (Linux: `tcp_rcvbuf_grow`).
    pub(super) fn rcvbuf_grow(&mut self, cx: &Cx, space: u32) {
        let old = u64::from(core::mem::replace(&mut self.space, space)).max(1);
        if cx.sysctl.tcp_moderate_rcvbuf == 0 || self.flags.has(Flags::RCVBUF_LOCKED) {
            return;
        }
        let new = u64::from(space);
        let mut window = 2 * new;
        window += 2 * (window * new.saturating_sub(old) / old);
        if let Some(end) = self.ofo.as_ref().and_then(|ofo| ofo.end()) {
            window += u64::from(end.since(self.rcv_nxt));
        }
        let rcvbuf = self.space_from_win(window).min(cx.sysctl.tcp_rmem[2]) as u32;
        if rcvbuf > self.rcvbuf {
            self.rcvbuf = rcvbuf;
            self.window_clamp = self.win_from_space(rcvbuf);
        }
    }

    /// How much of its charge a segment is payload; the window is that share of the buffer (Linux: `tcp_measure_rcv_mss`).
    pub(super) fn measure_ratio(&mut self, payload: usize) {
        let ratio = ((payload as u64) << 8) / u64::from(window::truesize(payload));
        let ratio = ratio.clamp(1, 255) as u8;
        if ratio != self.scaling_ratio {
            self.scaling_ratio = ratio;
            self.set_window_clamp(self.win_from_space(self.rcvbuf));
            self.space = self.space.min(self.window_clamp);
        }
    }
}
