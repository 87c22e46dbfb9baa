//! Values that many tasks have alike, kept once for all of them.

use std::sync::{Arc, Mutex, PoisonError, Weak};

/// How many different values are compared with: a program that talks to a few servers finds each again.
const KEPT: usize = 16;

/// The values of late. It keeps none of them alive.
pub struct Recent<T>(Mutex<Places<T>>);

struct Places<T> {
    /// Each with its mark.
    values: [(u64, Weak<T>); KEPT],
    /// The place that the next new value takes: that of the oldest.
    next: usize,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(Mutex::new(Places { values: [const { (0, Weak::new()) }; KEPT], next: 0 }))
    }
}

impl<T> Recent<T> {
    /// An equal value that somebody still has, or `value`, which the next ones may share. Equal values have the same `mark`,
    /// and others seldom do.
    pub fn share(&self, mark: u64, value: T) -> Arc<T>
    where
        T: PartialEq,
    {
        self.share_made(mark, value, T::eq, |value| value)
    }

    /// The value that is made from `source`, if somebody still has it, or a new one, which the next ones may share.
    pub fn share_made<S>(
        &self,
        mark: u64,
        source: S,
        is_of: impl Fn(&T, &S) -> bool,
        make: impl FnOnce(S) -> T,
    ) -> Arc<T> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let marked = places.values.iter().filter(|(known, _)| *known == mark);
        if let Some(known) = marked.filter_map(|(_, known)| known.upgrade()).find(|known| is_of(known, &source)) {
            return known;
        }
        let new = Arc::new(make(source));
        let next = places.next % KEPT;
        places.next = next + 1;
        if let Some(place) = places.values.get_mut(next) {
            *place = (mark, Arc::downgrade(&new));
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_while_somebody_has_them() {
        let recent = Recent::default();
        // Two marks only: what differs is told apart all the same.
        let share = |value: usize| recent.share((value % 2) as u64, value);
        let first = share(1);
        assert!(Arc::ptr_eq(&first, &share(1)));
        assert!(!Arc::ptr_eq(&first, &share(2)));
        assert!(!Arc::ptr_eq(&first, &share(3)));
        assert!(Arc::ptr_eq(&first, &share(1)));
        drop(first);
        assert_eq!(Arc::strong_count(&share(1)), 1);
        let kept: Vec<_> = (10..=10 + KEPT).map(share).collect();
        for value in 11..=10 + KEPT {
            assert!(Arc::ptr_eq(&kept[value - 10], &share(value)), "{value}");
        }
        assert!(!Arc::ptr_eq(&kept[0], &share(10)));
    }
}
