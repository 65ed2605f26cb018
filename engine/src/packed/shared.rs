//! Memory that the workers of a step share, each writing its own part of it.
#![expect(unsafe_code, reason = "disjoint mutable access to one allocation from several threads")]

use std::cell::UnsafeCell;
use std::ops::Range;

/// A slice whose parts are handed out to threads. Who writes what is agreed by the stages of a step: within
/// a stage an element is either read by all or written by one worker, and a barrier lies between stages.
pub(crate) struct Shared<T> {
    cells: Box<[UnsafeCell<T>]>,
}

// SAFETY: access from several threads goes through the unsafe methods alone, whose callers promise that no
// element is written by one thread while another has it.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// How many elements there are.
    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    /// All elements, for the one who owns the memory.
    pub(crate) fn all_mut(&mut self) -> &mut [T] {
        let length = self.len();
        // SAFETY: `self` is borrowed mutably, so nobody else has any part.
        unsafe { self.get_mut(0..length) }
    }

    /// The elements, when the sharing is over.
    pub(crate) fn into_inner(self) -> Box<[T]> {
        // SAFETY: the pointer comes from a box, and `UnsafeCell<T>` is laid out as `T`.
        unsafe { Box::from_raw(Box::into_raw(self.cells) as *mut [T]) }
    }

    /// Elements to read.
    ///
    /// # Safety
    /// Nobody writes any of them while the result lives.
    ///
    /// # Panics
    /// If the range is out of bounds.
    #[inline]
    pub(crate) unsafe fn get(&self, range: Range<usize>) -> &[T] {
        let cells = &self.cells[range];
        // SAFETY: `UnsafeCell<T>` is laid out as `T`; the caller promises that nobody writes.
        unsafe { std::slice::from_raw_parts(cells.as_ptr().cast(), cells.len()) }
    }

    /// Elements to write.
    ///
    /// # Safety
    /// Nobody else reads or writes any of them while the result lives.
    ///
    /// # Panics
    /// If the range is out of bounds.
    #[expect(clippy::mut_from_ref, reason = "that is what the cells are for")]
    pub(crate) unsafe fn get_mut(&self, range: Range<usize>) -> &mut [T] {
        let cells = &self.cells[range];
        // SAFETY: the pointer comes from cells, which allow writing; the caller promises to be alone.
        unsafe { std::slice::from_raw_parts_mut(UnsafeCell::raw_get(cells.as_ptr()), cells.len()) }
    }
}

impl<T> From<Vec<T>> for Shared<T> {
    fn from(values: Vec<T>) -> Self {
        let values = Box::into_raw(values.into_boxed_slice());
        // SAFETY: the pointer comes from a box, and `UnsafeCell<T>` is laid out as `T`.
        Self { cells: unsafe { Box::from_raw(values as *mut [UnsafeCell<T>]) } }
    }
}
