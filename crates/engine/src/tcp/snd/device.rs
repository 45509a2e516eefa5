//! What was decided to leave and waits for the device: bounded (TCP small queues, `tcp_limit_output_bytes`), and a reason to
//! hold small writes back a little (`tcp_autocorking`). Linux's device tells when packets have left; here they have when
//! [`Sender::poll`] has handed them out (Linux: `tcp_small_queue_check`, `tcp_should_autocork`, `tcp_tsq_write`).

use super::Sender;
use super::write::RECORD_COST;
use crate::env::Env;
use estab_proto::Counter;

impl Sender {
    /// Enough of this connection waits for the device: other connections' turn. Notes that there may be more to send.
    pub(super) fn small_queue_is_full(&mut self, env: &Env) -> bool {
        let waiting = self.queue.waiting();
        let full = waiting > 0 && waiting >= env.sysctl.tcp_limit_output_bytes;
        self.flags.throttled |= full;
        full
    }

    /// A small write may wait for company while something at least as large has not reached the device.
    pub(super) fn autocorks(&mut self, env: &mut Env, goal: u32) -> bool {
        let Some(tail) = self.queue.tail() else { return false };
        let waits = env.sysctl.tcp_autocorking != 0
            && tail.len < goal
            && !tail.eor
            && self.queue.sent() > 0
            && self.queue.waiting() >= tail.len + RECORD_COST;
        if waits {
            env.mib.inc(Counter::TcpExtTCPAutoCorking);
            self.flags.throttled = true;
        }
        waits
    }

    /// All that waited for the device has left: sends what was held back meanwhile. True if that gave `poll` something.
    #[inline(never)]
    pub(crate) fn resume(&mut self, env: &mut Env) -> bool {
        if !core::mem::take(&mut self.flags.throttled) {
            return false;
        }
        if self.board.lost_out > self.board.retrans_out && self.cwnd.window > self.in_flight() {
            self.xmit_retransmit_queue(env);
        }
        self.push_pending(env);
        self.wants_transmit()
    }
}
