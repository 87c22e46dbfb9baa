//! A value that the tasks of a session change together.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The value, and a lock that is held for moments.
#[derive(Default)]
pub struct Shared<T>(Mutex<T>);

impl<T> Shared<T> {
    /// The value, for this thread alone until the result is dropped.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Shared<T> {
    /// Nothing of the value: it may be, or hold, a secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shared").finish_non_exhaustive()
    }
}
