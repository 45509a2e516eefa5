//! Packets as they are on the wire: IP, ICMP, UDP and TCP headers and options as views over the bytes they came
//! in, writers for the same, and fast Internet checksums.
//!
//! No allocation, no `std`, no `unsafe` of its own. Numbers come out in host order and otherwise raw: sequence
//! numbers are `u32`, flags `u16`; what they mean is for the layers above.
//!
//! Nothing here panics on any input. Every refusal is a named [`Malformed`].
#![no_std]
#![forbid(unsafe_code)]

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod icmpv4;
pub mod icmpv6;
pub mod ip;
mod malformed;
pub mod ndp;
pub mod tcp;
pub mod udp;

pub use malformed::Malformed;
