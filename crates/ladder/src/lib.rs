//! TCP exchanges as ladder diagrams: who sent what, when, and the state of both ends beside it.
//!
//! Feed a [`Collector`] with a stack's [`TraceEvent`]s; it keeps the beginning and the end of each connection
//! in bounded memory. [`text::render`] draws one [`Exchange`]. Our own end's states come from the trace; the
//! other end's are inferred from its segments by proto's table of transitions.
#![forbid(unsafe_code)]

mod exchange;
mod infer;
pub mod text;

pub use estab_proto::TraceEvent;
pub use exchange::{Collector, Exchange, Limits};
