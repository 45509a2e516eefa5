//! Boxes that nobody needs at the moment, so that connections that come and go at a steady pace allocate nothing.

use alloc::boxed::Box;
use alloc::vec::Vec;

/// Free boxes of one kind, the last one freed on top.
#[derive(Clone)]
#[allow(clippy::vec_box)] // They move from box to box.
pub(crate) struct Spare<T>(Vec<Box<T>>);

impl<T> Default for Spare<T> {
    fn default() -> Spare<T> {
        Spare(Vec::new())
    }
}

impl<T> Spare<T> {
    /// How many are kept.
    const KEEP: usize = 256;

    /// A box with `value` in it.
    pub(crate) fn fill(&mut self, value: T) -> Box<T> {
        match self.0.pop() {
            Some(mut spare) => {
                *spare = value;
                spare
            }
            None => Box::new(value),
        }
    }

    /// A box as it was given.
    pub(crate) fn take(&mut self) -> Option<Box<T>> {
        self.0.pop()
    }

    /// Keeps a box; what is in it stays until the box is filled again.
    pub(crate) fn give(&mut self, spare: Box<T>) {
        if self.0.len() < Self::KEEP {
            self.0.push(spare);
        }
    }
}
