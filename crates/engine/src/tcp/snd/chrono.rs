//! Why sending waits, and how long it has (Linux: `tcp_chrono_start`; `tcpi_busy_time`, `tcpi_rwnd_limited`,
//! `tcpi_sndbuf_limited`).

use super::Sender;
use crate::env::Env;

/// What a stretch of time was spent on; the later one takes precedence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) enum Why {
    #[default]
    Idle,
    /// Data is in flight.
    Busy,
    /// The peer's window is closed.
    RwndLimited,
    /// The send buffer is too small for the window.
    SndbufLimited,
}

/// The stopwatch, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chrono {
    spent: [u32; 3],
    since: u32,
    why: Why,
}

impl Chrono {
    #[inline(never)]
    fn set(&mut self, now_ms: u32, why: Why) {
        if self.why != Why::Idle {
            self.spent[self.why as usize - 1] += now_ms.wrapping_sub(self.since);
        }
        (self.since, self.why) = (now_ms, why);
    }

    pub(super) fn start(&mut self, now_ms: u32, why: Why) {
        if why > self.why {
            self.set(now_ms, why);
        }
    }

    /// Microseconds busy, limited by the window, and limited by the buffer (the first includes the others).
    pub(super) fn times_us(&self, now_ms: u32) -> (u64, u64, u64) {
        let mut all = *self;
        all.set(now_ms, all.why);
        let [busy, rwnd, sndbuf] = all.spent.map(|ms| u64::from(ms) * 1000);
        (busy + rwnd + sndbuf, rwnd, sndbuf)
    }
}

impl Sender {
    pub(super) fn chrono_stop(&mut self, env: &Env, why: Why) {
        if self.queue.is_empty() {
            self.chrono.set(env.now_ms(), Why::Idle);
        } else if why == self.chrono.why {
            self.chrono.set(env.now_ms(), Why::Busy);
        }
    }

    pub(super) fn chrono_rwnd(&mut self, env: &Env, limited: bool) {
        if limited {
            self.chrono.start(env.now_ms(), Why::RwndLimited);
        } else {
            self.chrono_stop(env, Why::RwndLimited);
        }
    }
}
