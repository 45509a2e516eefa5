//! What a stack must be told when it starts.

/// What a stack is made from.
#[derive(Clone, Debug)]
pub struct Config {
    /// All randomness comes from it: ISNs, ports, cookies, hash keys.
    pub seed: [u8; 32],
    /// Bytes of memory the machine has; sizes the defaults that Linux scales by RAM.
    pub memory: u64,
    /// Seconds since 1970 at `Instant::ZERO`, for what outlives the stack (Fast Open, saved TIME_WAITs).
    pub unix_time: u64,
}
