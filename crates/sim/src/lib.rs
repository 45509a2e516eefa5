//! Networks that misbehave on purpose: links with a rate, a delay, a buffer, loss, duplication, reordering,
//! corruption and blackouts, from a seed. They keep no clock, so the same [`Link`] runs on virtual time in a test and
//! on real time between two devices.
#![forbid(unsafe_code)]

#[cfg(target_os = "linux")]
mod bridge;
mod link;
mod net;

#[cfg(target_os = "linux")]
pub use bridge::{Bridge, Port};
pub use link::{Fate, LATE, Link, LinkConfig, LinkStats};
pub use net::{Harmed, Host, Net};
