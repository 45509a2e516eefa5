//! Looking at a TCP stack, estab's or the kernel's: who is connected, in which state, and since when.
#![forbid(unsafe_code)]

pub mod census;
pub mod filter;
pub mod finding;
pub mod findings;
pub mod kernel;
pub mod sample;
pub mod socket;
pub mod ss;
pub mod states;
pub mod sysctl_check;
