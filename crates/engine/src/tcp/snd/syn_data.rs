//! Data that leaves before the handshake is done: with our SYN, or after the SYN-ACK of a Fast Open (RFC 7413; Linux:
//! `tcp_send_syn_data`, `tcp_rcv_fastopen_synack`, `fastopen_rsk`).

use super::Sender;
use crate::env::Env;
use core::time::Duration;
use estab_proto::{Counter, SeqNum};

impl Sender {
    /// `data` leaves with the SYN: one record, in flight from now on; the SYN's timer watches over it. The caller puts it
    /// into the SYN ([`Self::copy_payload`] from ISS + 1).
    pub(crate) fn write_with_syn(&mut self, env: &mut Env, data: &[u8]) {
        let len = data.len() as u32;
        self.add_record(env);
        self.queue.append(&mut env.pool, data);
        self.write_seq += len;
        self.wmem += len;
        self.pushed_seq = self.write_seq;
        self.nxt = self.write_seq;
        let position = self.queue.sent();
        let seg = self.queue.at_mut(position);
        (seg.psh, seg.sent) = (true, env.now);
        seg.set_segs(len.max(1));
        self.rate_sent(position);
        let id = self.queue.id(position);
        self.queue.touch(id);
        self.queue.advance();
        self.packets_out += 1;
        self.last_data = env.now_ms();
        self.totals.data_segs += 1;
        self.totals.bytes_sent += u64::from(len);
        env.mib.inc(Counter::TcpExtTCPOrigDataSent);
    }

    /// The SYN-ACK acknowledges up to `ack`; true if some of the SYN's data is left.
    pub(crate) fn syn_data_acked(&mut self, env: &mut Env, ack: SeqNum) -> bool {
        if self.packets_out == 0 {
            return false;
        }
        self.advance_una(env, ack);
        // Nothing is urgent: the mark follows SND.UNA.
        self.urgent = self.una;
        while self.queue.head().is_some_and(|head| !head.end().after(self.una)) {
            self.packets_out = self.packets_out.saturating_sub(self.queue.at(0).packets());
            self.queue.pop_head();
            self.uncharge_record();
        }
        self.chrono_if_idle(env);
        self.settle(env);
        self.packets_out > 0
    }

    /// The server did not take the SYN's data, or not all: it goes again at once, and not because of congestion.
    pub(crate) fn repeat_syn_data(&mut self, env: &mut Env) {
        for position in 0..self.queue.sent() {
            let id = self.queue.id(position);
            self.mark_lost(env, id);
        }
        self.retransmit_without_congestion(env);
    }

    /// A Fast Open's child may send before its SYN-ACK is acknowledged: retransmission timers rest.
    pub(crate) fn begin_handshake(&mut self) {
        self.flags.handshake = true;
        self.rate.delivered = 0;
    }

    /// It is acknowledged; `rtt`: what that took, if it was measured.
    pub(crate) fn end_handshake(&mut self, env: &mut Env, rtt: Option<Duration>) {
        self.flags.handshake = false;
        self.rate.count(1, false);
        if let Some(rtt) = rtt.filter(|_| self.rtt.srtt8() == 0) {
            self.seed_rtt(env, rtt);
        }
        self.retransmits = 0;
        self.rearm_rto(env);
    }

    /// SYNs crossed and are acknowledged: the timer of data that went with ours starts.
    pub(crate) fn watch_syn_data(&mut self, env: &Env) {
        self.rearm_rto(env);
    }
}
