//! A queue with threads of its own.

use std::{io, sync::Arc, thread::Builder};

use parking_lot::MutexGuard;

use super::{
    current::Place,
    state::{Finished, Shared, Started, State},
};

/// The name of threads whose queue has none.
const NAME: &str = "urlsession-queue";

/// The workers of a queue. Those that sleep are `idle + called`.
#[derive(Default)]
pub(super) struct Threads {
    /// All of them, those that are about to start too.
    pub alive: usize,
    /// Those that sleep and were not called.
    pub idle: usize,
    /// Calls that no worker has heard yet. Whoever wakes takes one, be it a worker that woke for another reason, so that
    /// a call is never lost on one that ran out of patience at the same moment.
    called: usize,
    /// The only one polls for a reactor, and is recalled when there is work.
    polls: bool,
    /// How often idle threads were released: a worker that started before the latest one ends when it finds no work.
    released: u64,
    #[cfg(test)]
    pub refuse_to_start: bool,
}

impl Shared {
    /// Wakes or starts workers for up to `fresh` jobs, one each.
    pub(super) fn call_workers(self: &Arc<Self>, mut state: MutexGuard<'_, State>, fresh: usize) {
        let (mut missing, mut recalled) = (0, None);
        if !state.suspended {
            let startable = state.waiting.len().min(state.max.saturating_sub(state.running));
            for _ in 0..startable.min(fresh) {
                if state.threads.idle > 0 {
                    state.threads.idle -= 1;
                    state.threads.called += 1;
                    self.work.notify_one();
                } else if state.threads.alive < state.max {
                    state.threads.alive += 1;
                    missing += 1;
                } else if state.threads.polls && recalled.is_none() {
                    recalled = state.helm.clone();
                } else {
                    break;
                }
            }
        }
        if state.threads.idle > 0 && (state.closed || state.threads.alive > state.max) {
            self.work.notify_all();
        }
        if state.threads.polls && state.closed {
            recalled = state.helm.clone();
        }
        let name = (missing > 0).then(|| state.thread_name());
        let released = state.threads.released;
        drop(state);
        if let Some(helm) = recalled.filter(|_| !self.is_current()) {
            helm.recall();
        }
        for name in name.into_iter().cycle().take(missing) {
            if self.start_worker(name, released).is_err() {
                self.state.lock().threads.alive -= 1;
            }
        }
    }

    /// Ends idle workers; see [`Threads::released`].
    pub(super) fn release_idle_threads(&self) {
        let mut state = self.state.lock();
        state.threads.released = state.threads.released.wrapping_add(1);
        self.work.notify_all();
        let recalled = state.helm.clone().filter(|_| state.threads.polls);
        drop(state);
        if let Some(helm) = recalled {
            helm.recall();
        }
    }

    fn start_worker(self: &Arc<Self>, name: String, released: u64) -> io::Result<()> {
        #[cfg(test)]
        if self.state.lock().threads.refuse_to_start {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let shared = Arc::clone(self);
        Builder::new().name(name).spawn(move || shared.work(released)).map(drop)
    }

    /// The life of a worker. It holds no handle, so it does not keep the queue open.
    fn work(self: &Arc<Self>, released: u64) {
        let _stay = self.enter(Place::Operation);
        let mut finished = None;
        while let Some(started) = self.next_job(finished, released) {
            finished = Some(started.run());
        }
    }

    /// Counts the last job as done and gets the next one, under one lock; sleeps until there is one, or polls for a
    /// reactor. None: the worker is to end.
    fn next_job(&self, finished: Option<Finished>, released: u64) -> Option<Started> {
        let mut state = self.state.lock();
        if let Some(finished) = finished {
            self.finish(&mut state, finished);
        }
        let mut out_of_patience = false;
        let mut helm_is_done = false;
        loop {
            // Work first, whatever else there is: this may be the only worker that is awake.
            if let Some(started) = state.start_next() {
                if let Some(helm) = &state.helm {
                    helm.note_job();
                }
                return Some(started);
            }
            let surplus = state.threads.alive > state.max || state.threads.released != released;
            let ends = out_of_patience || surplus || state.closed;
            if !helm_is_done && let Some(helm) = state.helm.clone().filter(|helm| helm.is_offered()) {
                let may_poll = !ends && state.max == 1 && !state.suspended;
                if may_poll {
                    state.threads.polls = true;
                    helm.stay();
                }
                MutexGuard::unlocked(&mut state, || {
                    helm_is_done = !(may_poll && helm.poll());
                    if helm_is_done {
                        helm.give_back();
                    }
                    drop(helm);
                });
                if may_poll {
                    state.threads.polls = false;
                }
                continue;
            }
            if ends {
                state.threads.alive -= 1;
                return None;
            }
            state.threads.idle += 1;
            out_of_patience = self.work.wait_for(&mut state, self.patience).timed_out();
            if state.threads.called > 0 {
                state.threads.called -= 1;
            } else {
                state.threads.idle -= 1;
            }
        }
    }
}

impl State {
    /// [`Builder::name`] panics over a NUL.
    fn thread_name(&self) -> String {
        self.name.as_deref().unwrap_or(NAME).replace('\0', " ")
    }
}
