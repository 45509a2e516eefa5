//! Where a connection's numbers start: sequence numbers (RFC 6528; Linux: `secure_tcp_seq`) and timestamps
//! (RFC 7323 §5.4; Linux: `secure_tcp_ts_off`). A keyed hash per connection, so that nobody off the path can guess
//! them and nobody on it can tell two connections of ours apart by them.

use crate::env::Env;
use crate::rng::HashKey;
use core::net::SocketAddr;
use estab_proto::SeqNum;

/// The initial sequence number of a connection opened now: its hash plus a clock of 64 ns, so that a new connection
/// of the same four-tuple starts past the old one's numbers. The clock is the calendar's: it goes on over restarts.
pub(crate) fn isn(env: &Env, local: SocketAddr, remote: SocketAddr) -> SeqNum {
    let hash = env.rng.hash_tuple(HashKey::Isn, local, remote) as u32;
    let now = env.unix_time.wrapping_mul(1_000_000_000).wrapping_add(env.now.nanos());
    SeqNum(hash) + (now >> 6) as u32
}

/// What is added to the clock of a connection's timestamps (`tcp_timestamps` 1).
pub(crate) fn ts_offset(env: &Env, local: SocketAddr, remote: SocketAddr) -> u32 {
    env.rng.hash_tuple(HashKey::Timestamp, local, remote) as u32
}
