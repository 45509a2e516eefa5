//! Accurate ECN: the receiver tells how many packets and bytes came with which ECN codepoint, not only that one was marked
//! (RFC 9768).
//!
//! | what | file | Linux (include/net/tcp_ecn.h, tcp_input.c, tcp_output.c) |
//! |---|---|---|
//! | who asks, and what SYN, SYN-ACK and the third ACK settle (§3.1, §3.2.2.1) | `handshake.rs` | `tcp_ecn_send_syn`, `tcp_ecn_rcv_synack`, `tcp_accecn_third_ack` |
//! | what came, in the ACE field and the option (§3.2.1 to §3.2.3) | `received.rs` | `tcp_ecn_received_counters`, `tcp_accecn_set_ace`, `tcp_options_fit_accecn` |
//! | where a connection's segments meet that | `conn.rs` | `tcp_ecn_send` |
//! | what the peer tells of ours (§3.2.2.5, appendix A) | `delivered.rs` | `__tcp_accecn_process`, `tcp_accecn_process_option` |
//!
//! Linux 6.18 has all this, 7.0 is the first that lets `tcp_ecn` turn it on; where they differ, this is 7.0. One thing is RFC
//! 9768's: packets count in all states in which they are acceptable (Linux: in ESTABLISHED), so that who has closed its half
//! still learns of congestion.

mod conn;
mod delivered;
mod handshake;
mod received;
#[cfg(test)]
mod tests;

pub(crate) use delivered::{Delivery, Feedback};
pub(crate) use handshake::{EcnMode, SynEcn};
pub(crate) use received::add_first_option;

use crate::Instant;
use estab_proto::{SeqNum, TcpInfo};

/// The ECN field of an IP header (RFC 3168 §5).
mod codepoint {
    pub(super) const NOT_ECT: u8 = 0;
    pub(super) const ECT1: u8 = 1;
    pub(super) const ECT0: u8 = 2;
    pub(super) const CE: u8 = 3;
}

/// What the ACE field says before any mark (Linux: TCP_ACCECN_CEP_INIT_OFFSET).
const ACE_START: u32 = 5;

/// The order of the counters in the option we send, by codepoint, and what each begins with: not 0 where a middlebox that
/// zeroes it should be noticed (RFC 9768 §3.2.3).
const ORDER: [(u8, u32); 3] = [(codepoint::ECT1, 1), (codepoint::CE, 0), (codepoint::ECT0, 1)];

/// Bytes by codepoint: ECT(1), ECT(0), CE.
type Bytes = [u32; 3];

/// What is known of the peer's option (Linux: TCP_ACCECN_OPT_…_SEEN).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug, Default)]
enum Seen {
    #[default]
    Not,
    /// Without counters.
    Empty,
    Counters,
    /// Zeroed on its way, or not seen until it was too late to begin.
    Spoilt,
}

/// What turned out not to work, and is not relied on any more (Linux: `accecn_fail_mode`).
#[derive(Clone, Copy, Debug, Default)]
struct Failed {
    /// The peer's ACE field: our packets go out without ECT, as their marks might not come back.
    ace: bool,
    /// The peer's option.
    option: bool,
    /// Our option: segments that carry it seem to be dropped.
    our_option: bool,
}

/// The state of a connection that has negotiated Accurate ECN.
#[derive(Clone, Debug, Default)]
pub(crate) struct AccEcn {
    /// Packets that came with CE (RFC 9768's r.cep), and how many of them no ACK has told of.
    received_ce: u32,
    untold: u8,
    /// Payload that came, by codepoint (r.e1b, r.e0b, r.ceb).
    received: Bytes,
    /// The codepoint of the last packet, and whether any was not Not-ECT.
    last: u8,
    seen_ect: bool,
    /// Counters that have news since the last option, counted by the last such (Linux: `accecn_minlen`).
    fresh: u8,
    /// So many segments are to carry the option whatever the beacon says (Linux: `accecn_opt_demand`).
    demand: u8,
    /// When the last option left.
    told_at: Instant,
    /// The left edge of the DSACK that stood beside it.
    told_with_dsack: Option<SeqNum>,
    /// The codepoint of the peer's SYN or SYN-ACK, and whether the next ACK repeats it instead of counting.
    syn: u8,
    reflect: bool,
    /// Our payload by codepoint as the peer told, or as it is estimated since then.
    delivered: Bytes,
    /// The codepoint that is believed to take all until the next option; 0: none.
    estimate: u8,
    /// Packets that an ACK acknowledges, smoothed, in 64ths.
    ack_ewma: u32,
    seen: Seen,
    failed: Failed,
}

impl AccEcn {
    /// The part of `struct tcp_info` that is its own.
    pub(crate) fn info(&self, info: &mut TcpInfo) {
        info.received_ce = self.received_ce;
        [info.received_e1_bytes, info.received_e0_bytes, info.received_ce_bytes] = self.received;
        [
            info.delivered_e1_bytes,
            info.delivered_e0_bytes,
            info.delivered_ce_bytes,
        ] = self.delivered;
    }
}
