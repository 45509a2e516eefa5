//! A table of boxes by index, as `slab::Slab` is one of values, in 8 bytes a place where a slab takes 16: what is free says so
//! with a null pointer, and the free places stand in a list of their own.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::{Index, IndexMut};

/// Boxes by index; the place freed last is filled first.
#[derive(Clone)]
pub(crate) struct Boxes<T> {
    places: Vec<Option<Box<T>>>,
    free: Vec<u32>,
}

impl<T> Boxes<T> {
    pub(crate) const fn new() -> Boxes<T> {
        Boxes {
            places: Vec::new(),
            free: Vec::new(),
        }
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.places.get(index)?.as_deref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.places.get_mut(index)?.as_deref_mut()
    }

    pub(crate) fn insert(&mut self, value: Box<T>) -> u32 {
        if let Some(index) = self.free.pop() {
            self.places[index as usize] = Some(value);
            return index;
        }
        self.places.push(Some(value));
        self.places.len() as u32 - 1
    }

    /// Takes out what stands at `index`. Once nothing stands anywhere, a burst's memory goes back.
    pub(crate) fn remove(&mut self, index: u32) -> Option<Box<T>> {
        let value = self.places.get_mut(index as usize)?.take()?;
        self.free.push(index);
        if self.free.len() == self.places.len() && self.places.len() > 64 {
            *self = Boxes::new();
        }
        Some(value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().flatten().map(|place| &**place)
    }

    /// Bytes of memory held, the boxes' own not counted.
    pub(crate) fn memory(&self) -> usize {
        self.places.capacity() * size_of::<Option<Box<T>>>() + self.free.capacity() * size_of::<u32>()
    }
}

/// Of an index that stands for something.
impl<T> Index<usize> for Boxes<T> {
    type Output = T;
    #[inline]
    fn index(&self, index: usize) -> &T {
        self.get(index).expect("the index of a box that is there")
    }
}

impl<T> IndexMut<usize> for Boxes<T> {
    #[inline]
    fn index_mut(&mut self, index: usize) -> &mut T {
        self.get_mut(index).expect("the index of a box that is there")
    }
}
