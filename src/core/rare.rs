//! What most resources never need takes the room of one pointer.

use std::ops::{Deref, DerefMut};

/// A type with a value that says nothing.
pub trait Blank: Default + 'static {
    const BLANK: &'static Self;
}

impl<T: 'static> Blank for Vec<T> {
    const BLANK: &'static Self = &Self::new();
}

/// A value that mostly says nothing: it is boxed once it is changed.
#[derive(Clone, Debug, Default)]
pub struct Rare<T>(Option<Box<T>>);

impl<T> Rare<T> {
    /// Returns it, if it was ever changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.as_deref_mut().into_iter()
    }
}

impl<T: Blank> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::BLANK)
    }
}

impl<T: Blank> DerefMut for Rare<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}
