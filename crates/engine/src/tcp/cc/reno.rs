//! Reno: half the window after a loss, one segment more per round trip (RFC 5681 §3.1; Linux: `tcp_reno`).

use super::{CongestionControl, Cx};

/// Reno keeps no state of its own.
#[derive(Clone)]
pub(crate) struct Reno;

impl CongestionControl for Reno {
    fn cong_avoid(&mut self, cx: &mut Cx<'_>, acked: u32) {
        let mut left = acked;
        if cx.cwnd.in_slow_start() {
            left = cx.cwnd.slow_start(acked);
            if left == 0 {
                return;
            }
        }
        let per = cx.cwnd.window;
        cx.cwnd.additive_increase(per, left);
    }
}
