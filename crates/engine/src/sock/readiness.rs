//! What a socket is ready for (Linux: `tcp_poll`).

use crate::Readiness;
use crate::env::Env;
use crate::tcp::conn::Conn;
use estab_proto::State;

impl Conn {
    /// poll(2)'s bits at this moment.
    pub(crate) fn readiness(&mut self, env: &Env) -> Readiness {
        let mut bits = Readiness::default();
        let mut add = |bit| bits = bits.union(bit);
        if (self.rcv_shutdown && self.snd_shutdown) || self.state == State::Closed {
            add(Readiness::HANGUP);
        }
        if self.rcv_shutdown {
            add(Readiness::READABLE);
            add(Readiness::READ_HANGUP);
        }
        if self.is_connect_deferred() {
            add(Readiness::WRITABLE);
        }
        if !matches!(self.state, State::SynSent | State::SynRcvd) || self.is_fast_open_child() {
            if self.rcv.readable() > 0 {
                add(Readiness::READABLE);
            }
            if self.snd_shutdown || self.snd.is_writable(env) {
                add(Readiness::WRITABLE);
            }
            if self.rcv.urgent() {
                add(Readiness::PRIORITY);
            }
        }
        if self.error.is_some() {
            add(Readiness::ERROR);
        }
        bits
    }
}
