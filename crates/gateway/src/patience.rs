//! A reset overtakes nothing: how long it waits for the bytes before it.

use estab_engine::Instant;
use std::time::Duration;

/// How long the bytes before a reset may take to arrive; then they are lost, as a reset may lose them.
const WAIT: Duration = Duration::from_secs(3);
/// How soon it is looked whether they did, at first; then half as often each time.
const LOOK: Duration = Duration::from_micros(500);
const LOOK_MAX: Duration = Duration::from_millis(100);

/// A reset that waits.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    until: Instant,
    look_at: Instant,
    delay: Duration,
}

impl Patience {
    pub(crate) fn new(now: Instant) -> Patience {
        Patience {
            until: now + WAIT,
            look_at: now,
            delay: LOOK,
        }
    }

    /// It has waited long enough.
    pub(crate) fn ended(&self, now: Instant) -> bool {
        now >= self.until
    }

    /// The bytes were looked for and had not arrived: how long until the next look, unless that is arranged already.
    pub(crate) fn look(&mut self, now: Instant) -> Option<Duration> {
        if now < self.look_at {
            return None;
        }
        let delay = self.delay;
        self.look_at = now + delay;
        self.delay = (delay * 2).min(LOOK_MAX);
        Some(delay)
    }
}
