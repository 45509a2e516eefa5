//! What the handshake itself brings: text in a SYN, and the ACK that a first write can carry.

use super::delack::MAX_QUICKACKS;
use super::*;

impl Receiver {
    /// Text that came with the SYN and that the SYN-ACK will acknowledge (Linux: `tcp_fastopen_add_skb`).
    pub(crate) fn take_syn_text(&mut self, cx: &mut Cx, payload: &[u8]) {
        self.queue.push(cx.pool, payload);
        self.charge(payload.len());
        self.rcv_nxt += payload.len() as u32;
        self.bytes_received += payload.len() as u64;
        self.rcv_wup = self.rcv_nxt;
    }

    /// The SYN-ACK's ACK waits for data that is about to be written, at most 200 ms (Linux: `sk_write_pending` in
    /// `tcp_rcv_synsent_state_process`).
    pub(crate) fn ack_with_first_write(&mut self, cx: &Cx) {
        self.enter_quickack(MAX_QUICKACKS);
        // The write is the answer that makes this a dialogue.
        self.last_data = cx.now.millis() as u32;
        self.delay_ack_most(cx.now);
    }

    /// Bytes came in order.
    pub(crate) fn received_any(&self) -> bool {
        self.bytes_received > 0
    }

    /// Nothing waits out of order but a FIN.
    pub(crate) fn holds_only_fin(&self) -> bool {
        self.ofo.as_ref().is_some_and(|ofo| ofo.is_bare_fin())
    }
}
