//! The sink for what happens: nothing is built while nobody listens.

use alloc::boxed::Box;
use estab_proto::TraceEvent;

/// Is told what happens to each connection, as it happens.
pub trait TraceSink {
    /// Takes one event; called in the middle of the stack's work, so it should be quick.
    fn event(&mut self, event: &TraceEvent);
}

impl<F: FnMut(&TraceEvent)> TraceSink for F {
    fn event(&mut self, event: &TraceEvent) {
        self(event);
    }
}

/// The sink of one stack; its clone has none.
#[derive(Default)]
pub(crate) struct Sink(pub(crate) Option<Box<dyn TraceSink + Send>>);

impl Clone for Sink {
    fn clone(&self) -> Sink {
        Sink(None)
    }
}
