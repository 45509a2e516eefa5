//! What Linux fixes at compile time and an estab stack lets you choose.

use super::Unit::{Flag, Milliseconds};
use super::{BOOL, Key, int, key};

#[rustfmt::skip]
pub(super) const KEYS: &[Key] = &[
    key("estab.tcp_msl_ms", int(1, 3_600_000), Milliseconds, "30000",
        "The maximum segment lifetime: TIME_WAIT lasts twice as long. Linux fixes TIME_WAIT at 60 s (TCP_TIMEWAIT_LEN)."),
    key("estab.tcp_quiet_time", BOOL, Flag, "0",
        "Open no connection for one maximum segment lifetime after the stack starts (RFC 9293 §3.4.3); Linux never waits."),
];
