//! Where a connection's numbers start: sequence numbers (RFC 6528; Linux: `secure_tcp_seq`) and timestamps
//! (RFC 7323 §5.4; Linux: `secure_tcp_ts_off`). One keyed hash per connection gives both, so that nobody off the path can
//! guess them and nobody on it can tell two connections of ours apart by them.

use super::demux::Tuple;
use crate::env::Env;
use crate::rng::HashKey;
use estab_proto::SeqNum;

/// What a connection begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    /// The initial sequence number of a connection opened now: its hash plus a clock of 64 ns, so that a new connection
    /// of the same four-tuple starts past the old one's numbers. The clock is the calendar's: it goes on over restarts.
    pub(crate) isn: SeqNum,
    /// What is added to the clock of its timestamps: 0 unless `tcp_timestamps` is 1.
    pub(crate) ts_offset: u32,
}

fn hash(env: &Env, tuple: &Tuple) -> u64 {
    env.rng.hash_ends(HashKey::Isn, tuple, 0)
}

/// What `tcp_timestamps` 1 adds to the clock of a connection's timestamps.
pub(crate) fn keyed_offset(env: &Env, tuple: &Tuple) -> u32 {
    (hash(env, tuple) >> 32) as u32
}

/// The numbers of a connection opened now.
pub(crate) fn numbers(env: &Env, tuple: &Tuple) -> Numbers {
    let hash = hash(env, tuple);
    let now = env.unix_time.wrapping_mul(1_000_000_000).wrapping_add(env.now.nanos());
    Numbers {
        isn: SeqNum(hash as u32) + (now >> 6) as u32,
        ts_offset: match env.sysctl.tcp_timestamps {
            1 => (hash >> 32) as u32,
            _ => 0,
        },
    }
}
