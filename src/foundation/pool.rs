//! Things that are dear to make, kept for whoever needs one next.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A few things of a kind that several threads take and put back. Nobody waits for one: who finds none makes one.
pub struct Pool<T, const MOST: usize>(Mutex<Vec<T>>);

impl<T, const MOST: usize> Pool<T, MOST> {
    /// One that fits, if there is one.
    pub fn take(&self, fits: impl FnMut(&T) -> bool) -> Option<T> {
        let mut kept = self.lock();
        let place = kept.iter().rposition(fits)?;
        Some(kept.remove(place))
    }

    /// Keeps it for the next. Where enough are kept, that which was kept longest goes: it is what nobody wants.
    pub fn put(&self, thing: T) {
        let mut kept = self.lock();
        let oldest = (kept.len() >= MOST).then(|| kept.remove(0));
        kept.push(thing);
        // Letting go of it takes longer than anybody should wait for the lock.
        drop(kept);
        drop(oldest);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        // No user code, and nothing that panics, runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, const MOST: usize> Default for Pool<T, MOST> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T, const MOST: usize> fmt::Debug for Pool<T, MOST> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Pool").field(&self.lock().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_a_few_and_lends_what_fits() {
        let pool = Pool::<u32, 2>::default();
        assert_eq!(pool.take(|_| true), None);
        (1..=3).for_each(|number| pool.put(number));
        assert_eq!(pool.take(|number| *number == 1), None);
        assert_eq!(pool.take(|number| *number == 2), Some(2));
        assert_eq!((pool.take(|_| true), pool.take(|_| true)), (Some(3), None));
    }
}
