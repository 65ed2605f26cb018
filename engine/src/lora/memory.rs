//! The memory that adapters may take, those that only running requests still hold included.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::AdapterError;

/// A limit and what is taken of it, in bytes.
#[derive(Clone)]
pub(super) struct Memory {
    taken: Arc<Mutex<usize>>,
    limit: usize,
}

/// A part of the memory, given back when it is dropped.
pub(super) struct Reservation {
    memory: Memory,
    bytes: usize,
}

impl Memory {
    pub(super) fn new(limit: usize) -> Self {
        Self { taken: Arc::default(), limit }
    }

    /// Takes so many bytes, if they are free.
    pub(super) fn reserve(&self, bytes: usize) -> Result<Reservation, AdapterError> {
        let mut taken = self.lock();
        match taken.checked_add(bytes).filter(|sum| *sum <= self.limit) {
            Some(sum) => {
                *taken = sum;
                Ok(Reservation { memory: self.clone(), bytes })
            }
            None => Err(AdapterError::NoRoom { needed: bytes, in_use: *taken, limit: self.limit }),
        }
    }

    pub(super) fn taken(&self) -> usize {
        *self.lock()
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// The number is whole whenever the lock is free, even after a panic.
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut taken = self.memory.lock();
        *taken = taken.saturating_sub(self.bytes);
    }
}
