//! A queue that the application pumps.
//!
//! One job runs at a time, whichever threads pump; a job that pumps runs others inside itself.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use parking_lot::MutexGuard;

use super::state::{Kind, Shared, Started, State, WakeHook, caught};

/// How long a thread sleeps at most before it looks whether it is done: what it waits for may change without the queue.
const STEP: Duration = Duration::from_millis(25);

impl Shared {
    /// Tells the application that there is something to run.
    pub(super) fn call_pump(&self, mut state: MutexGuard<'_, State>) {
        if state.suspended || state.waiting.is_empty() {
            return;
        }
        self.tell_watchers(&mut state);
        state.told = true;
        let hook = state.wake_hook.clone();
        drop(state);
        call(hook);
    }

    /// Replaces the hook, and calls it if it would have been called for what waits already.
    pub(super) fn set_wake_hook(&self, hook: Arc<WakeHook>) {
        let mut state = self.state.lock();
        let old = state.wake_hook.replace(hook);
        if matches!(self.kind, Kind::Pumped) {
            self.call_pump(state);
        } else {
            drop(state);
        }
        drop(old);
    }

    /// Runs what is queued now; returns how many operations and callbacks ran.
    pub(super) fn run_pending(self: &Arc<Self>) -> usize {
        if !matches!(self.kind, Kind::Pumped) {
            return 0;
        }
        // A lane runs a batch at a time and goes back to the end of the line. So the measure is not the length of the
        // line but what waits in it, in callbacks; a batch without any counts as one, else this might not end.
        self.begin_to_pump();
        let (mut left, _) = self.count();
        let mut ran = 0usize;
        while left > 0
            && let Some(started) = self.start_pumped()
        {
            let batch = self.run_here(started);
            ran = ran.saturating_add(batch);
            left = left.saturating_sub(batch.max(1));
        }
        self.end_of_pumping();
        ran
    }

    /// Runs what comes until `done` or the deadline; where the queue is not pumped, only waits for them.
    pub(super) fn pump_until(self: &Arc<Self>, deadline: Option<Instant>, mut done: impl FnMut() -> bool) -> bool {
        self.begin_to_pump();
        let done = loop {
            let seen = self.state.lock().events;
            if done() {
                break true;
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                break false;
            }
            if let Some(started) = self.start_pumped() {
                self.run_here(started);
            } else {
                let step = deadline.map_or(STEP, |deadline| STEP.min(deadline.saturating_duration_since(now)));
                self.wait_for_event_after(seen, step);
            }
        };
        self.end_of_pumping();
        done
    }

    /// Whether the calling thread is the one to run what waits in a pumped queue.
    pub(super) fn is_pumped_here(&self) -> bool {
        matches!(self.kind, Kind::Pumped)
            && self.state.lock().pump.is_none_or(|thread| thread == thread::current().id())
    }

    /// Takes the next job of a pumped queue, unless another thread runs one.
    fn start_pumped(self: &Arc<Self>) -> Option<Started> {
        if !matches!(self.kind, Kind::Pumped) {
            return None;
        }
        let nested = self.is_current();
        self.state.lock().start_next_below(if nested { usize::MAX } else { 1 })
    }

    fn begin_to_pump(&self) {
        let mut state = self.state.lock();
        state.told = false;
        state.pump = Some(thread::current().id());
    }

    /// Calls the hook if work is left of which the application was not told: a lane went back into the line, or this
    /// thread was in the way of another one that came because it was told.
    fn end_of_pumping(&self) {
        let state = self.state.lock();
        if matches!(self.kind, Kind::Pumped) && !state.told && state.running == 0 {
            self.call_pump(state);
        }
    }

    /// Sleeps until something happened since `seen` was read, for `step` at most.
    fn wait_for_event_after(&self, seen: u64, step: Duration) {
        let mut state = self.state.lock();
        if state.events == seen {
            state.watchers += 1;
            self.changed.wait_for(&mut state, step);
            state.watchers -= 1;
        }
    }
}

fn call(hook: Option<Arc<WakeHook>>) {
    if let Some(hook) = hook {
        caught(|| hook());
        caught(|| drop(hook));
    }
}
