//! Alarms: something is to run after a while, when nothing is open and no loop waits for anything.
//!
//! One thread for the process, which lives while there is an alarm. What rings runs on it, so it is to be short: it puts
//! something on a queue.

use std::collections::BTreeMap;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::guarded;

/// What lies further away waits as long as this: ten years. A clock need not be able to name the moment.
const FARTHEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

type Ring = Box<dyn FnOnce() + Send>;

/// Something that will run, unless it is [cancelled](Self::cancel). To drop it changes nothing.
#[derive(Debug)]
#[must_use]
pub struct Alarm(Place);

/// The moment, and a number that no other alarm has.
type Place = (Instant, u64);

struct Alarms {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// In the order in which they ring.
    waiting: BTreeMap<Place, Ring>,
    last_number: u64,
    /// There is a thread, and it looks once more before it ends.
    is_running: bool,
}

/// Those of the process.
static ALARMS: Alarms = Alarms::new();

impl Alarm {
    /// Runs `ring` on the thread of the alarms, not before `delay` has passed. What it panics with ends there.
    ///
    /// # Errors
    /// There is no thread, and none can be started: it will not ring.
    pub fn set(delay: Duration, ring: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        ALARMS.set(delay, Box::new(ring))
    }

    /// It does not ring any more, unless it does already; what it holds is let go, here and now.
    pub fn cancel(self) {
        ALARMS.cancel(self.0);
    }
}

impl Alarms {
    const fn new() -> Self {
        Self {
            state: Mutex::new(State { waiting: BTreeMap::new(), last_number: 0, is_running: false }),
            changed: Condvar::new(),
        }
    }

    fn set(&'static self, delay: Duration, ring: Ring) -> io::Result<Alarm> {
        let moment = Instant::now() + delay.min(FARTHEST);
        let mut state = self.state.lock();
        if !state.is_running {
            thread::Builder::new().name("urlsession-alarm".to_owned()).spawn(|| self.run())?;
            state.is_running = true;
        }
        state.last_number += 1;
        let place = (moment, state.last_number);
        state.waiting.insert(place, ring);
        // Only for the first of them the thread has to wake up earlier than it meant to.
        if state.waiting.first_key_value().is_some_and(|(first, _)| *first == place) {
            self.changed.notify_one();
        }
        Ok(Alarm(place))
    }

    fn cancel(&self, place: Place) {
        let cancelled = {
            let mut state = self.state.lock();
            let cancelled = state.waiting.remove(&place);
            if state.waiting.is_empty() {
                self.changed.notify_one();
            }
            cancelled
        };
        // Without the lock: it may hold the last of something that sets an alarm when it goes.
        drop(cancelled);
    }

    /// The thread.
    fn run(&self) {
        let mut state = self.state.lock();
        loop {
            let Some((&(moment, _), _)) = state.waiting.first_key_value() else {
                state.is_running = false;
                return;
            };
            if moment > Instant::now() {
                self.changed.wait_until(&mut state, moment);
            } else if let Some((_, ring)) = state.waiting.pop_first() {
                drop(state);
                guarded(ring);
                state = self.state.lock();
            }
        }
    }
}

#[cfg(test)]
mod tests;
