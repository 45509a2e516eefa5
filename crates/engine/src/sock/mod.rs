//! Sockets: the application's handles, what they are bound to, their options and their readiness.
//!
//! A slot of the table says what a handle stands for; the objects themselves live with their protocol
//! ([`Tcp`](crate::tcp::Tcp), `Udp`, `Echo`).

pub(crate) mod bind;
pub(crate) mod dgram;
pub(crate) mod diag;
pub(crate) mod fastopen;
pub(crate) mod handle;
pub(crate) mod id;
mod keys;
pub(crate) mod options;
pub(crate) mod readiness;
pub(crate) mod tcp;
pub(crate) mod transfer;

pub(crate) use id::SockTable;
pub(crate) use options::SockOpts;
