//! State that most connections have no need of most of the time: reading it costs nothing, writing allocates it.

use alloc::boxed::Box;
use core::ops::{Deref, DerefMut};

/// What a type is while there is nothing to say.
pub(crate) trait Blank: Sized + 'static {
    /// That value, once for all.
    fn blank() -> &'static Self;
    /// A copy of it to change.
    fn fresh() -> Self;
}

/// A value that takes 8 bytes while it is blank.
#[derive(Clone)]
pub(crate) struct Lazy<T>(Option<Box<T>>);

impl<T> Default for Lazy<T> {
    fn default() -> Lazy<T> {
        Lazy(None)
    }
}

impl<T> Lazy<T> {
    /// Makes it blank again.
    pub(crate) fn release(&mut self) {
        self.0 = None;
    }

    /// It is blank.
    pub(crate) fn is_blank(&self) -> bool {
        self.0.is_none()
    }

    /// The value, unless it is blank.
    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_deref()
    }

    /// Takes the value out, which leaves it blank.
    pub(crate) fn take(&mut self) -> Option<Box<T>> {
        self.0.take()
    }

    /// Gives a blank value the memory to become something else.
    pub(crate) fn fill(&mut self, from: impl FnOnce() -> Option<Box<T>>) {
        if self.0.is_none() {
            self.0 = from();
        }
    }

    /// Bytes of memory held.
    pub(crate) fn truesize(&self) -> usize {
        self.0.as_ref().map_or(0, |_| size_of::<T>())
    }
}

impl<T: Blank> Deref for Lazy<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match &self.0 {
            Some(value) => value,
            None => T::blank(),
        }
    }
}

impl<T: Blank> DerefMut for Lazy<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.0 {
            Some(value) => value,
            blank => Self::allocate(blank),
        }
    }
}

impl<T: Blank> Lazy<T> {
    #[cold]
    fn allocate(blank: &mut Option<Box<T>>) -> &mut T {
        blank.insert(Box::new(T::fresh()))
    }
}
