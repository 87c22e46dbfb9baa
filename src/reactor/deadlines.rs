//! When which connection is to be looked at.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// A deadline that is no nearer than this is not kept for itself. Every open task has one, that of its resource, which is
/// days away: all of them together are a moment at which to look through the connections.
pub const NEAR: Duration = Duration::from_secs(600);

/// The deadlines of one reactor. Each connection's owner knows its own.
#[derive(Debug, Default)]
pub struct Deadlines {
    near: BTreeSet<(Instant, usize)>,
    /// No deadline that is not among `near` passes before this.
    far: Option<Instant>,
}

impl Deadlines {
    /// A deadline that a connection waits for from `now` on.
    pub fn insert(&mut self, now: Instant, deadline: Instant, token: usize) {
        if deadline.saturating_duration_since(now) < NEAR {
            self.near.insert((deadline, token));
        } else if self.far.is_none_or(|far| deadline < far) {
            self.far = Some(deadline);
        }
    }

    /// A deadline that nobody waits for any more. A far one is found out when it comes near.
    pub fn remove(&mut self, deadline: Instant, token: usize) {
        self.near.remove(&(deadline, token));
    }

    /// When there is something to do.
    pub fn next(&self) -> Option<Instant> {
        self.near.first().map(|(deadline, _)| *deadline).into_iter().chain(self.far).min()
    }

    /// Whether the far ones have come near: all deadlines are to be [inserted](Self::insert) again. Afterwards that is not so
    /// for [`NEAR`], however many there are.
    pub fn take_far(&mut self, now: Instant) -> bool {
        self.far.take_if(|far| *far <= now).is_some()
    }

    /// The connection whose deadline has passed first.
    pub fn pop(&mut self, now: Instant) -> Option<usize> {
        let (deadline, token) = self.near.first().copied()?;
        if deadline > now {
            return None;
        }
        self.near.pop_first();
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_deadlines_are_met_to_the_moment_and_looked_through_seldom() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        // One task every two minutes, each with an hour; the second is gone before its time.
        let armed: Vec<Instant> = (0..100).map(|number| at(3600 + 120 * number)).collect();
        let mut deadlines = Deadlines::default();
        for (token, deadline) in armed.iter().enumerate() {
            deadlines.insert(at(120 * token as u64), *deadline, token);
        }
        deadlines.insert(start, at(5), 7);
        deadlines.insert(start, at(6), 8);
        deadlines.remove(at(6), 8);
        deadlines.remove(armed[1], 1);
        assert_eq!((deadlines.near.len(), deadlines.next()), (1, Some(at(5))));
        assert_eq!((deadlines.pop(at(4)), deadlines.pop(at(5)), deadlines.pop(at(3000))), (None, Some(7), None));

        let (mut told, mut looks) = (Vec::new(), 0);
        while let Some(now) = deadlines.next() {
            if deadlines.take_far(now) {
                looks += 1;
                for (token, deadline) in armed.iter().enumerate().filter(|(token, _)| *token != 1) {
                    if *deadline >= now {
                        deadlines.insert(now, *deadline, token);
                    }
                }
            }
            while let Some(token) = deadlines.pop(now) {
                assert_eq!(armed[token], now);
                told.push(token);
            }
            assert!(deadlines.near.len() <= 5);
        }
        let expected: Vec<usize> = (0..100).filter(|token| *token != 1).collect();
        assert_eq!(told, expected);
        assert!(looks <= 100 / 5 + 1, "{looks}");
    }
}
