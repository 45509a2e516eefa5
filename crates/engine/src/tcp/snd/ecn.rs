//! Explicit congestion notification, the data sender's part (RFC 3168 §6.1.2, §6.1.5; Linux: `tcp_ecn_send`,
//! `tcp_ecn_queue_cwr`). Echoing CE marks is the receiver's.

/// Whether ECN was negotiated, and whether the peer is still to be told that the window was reduced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ecn {
    ok: bool,
    queue_cwr: bool,
}

impl Ecn {
    pub(super) fn new(ok: bool) -> Ecn {
        Ecn { ok, queue_cwr: false }
    }

    pub(super) fn ok(self) -> bool {
        self.ok
    }

    /// The window was reduced: the next new data says so.
    pub(crate) fn queue_cwr(&mut self) {
        self.queue_cwr = self.ok;
    }

    /// The reduction was undone.
    pub(crate) fn withdraw_cwr(&mut self) {
        self.queue_cwr = false;
    }

    /// What a segment carries, if it is new data: ECT(0), CWR.
    pub(super) fn on_send(&mut self, new_data: bool) -> (bool, bool) {
        let ect = self.ok && new_data;
        (ect, ect && core::mem::take(&mut self.queue_cwr))
    }
}
