//! What every kind of queue has: the line, the counts, and how one job is started, run and finished.

use std::{
    collections::VecDeque,
    fmt, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak, atomic::AtomicBool},
    thread::ThreadId,
    time::Duration,
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use slab::Slab;

use super::{Lane, LaneRun, current::Place, workers::Threads};
use crate::reactor::Helm;

/// A line that was once longer than this gives its memory back when it is empty.
const KEPT_CAPACITY: usize = 1024;

/// How long a worker waits for work before it ends.
const PATIENCE: Duration = Duration::from_secs(10);

/// The application's executor.
pub(super) type Execute = dyn Fn(Box<dyn FnOnce() + Send>) + Send + Sync;

/// What is called when work arrives for the application to run.
pub(super) type WakeHook = dyn Fn() + Send + Sync;

/// Who runs the operations.
pub(super) enum Kind {
    Executor(Box<Execute>),
    Immediate,
    Pumped,
    Threads,
}

/// The queue behind the handles. Workers and jobs that are out hold it too, so it outlives the last handle for as long
/// as there is work.
pub(super) struct Shared {
    pub kind: Kind,
    pub state: Mutex<State>,
    /// Idle workers wait here.
    pub work: Condvar,
    /// Whoever waits for operations to finish, or to arrive in a pumped queue; counted in [`State::watchers`].
    pub changed: Condvar,
    /// As [`State::suspended`], for a look without the lock.
    pub suspended: AtomicBool,
    pub patience: Duration,
}

/// Everything that changes, under one lock.
pub(super) struct State {
    /// The line. Jobs leave it to be run or dropped without the lock.
    pub waiting: VecDeque<Job>,
    /// How many jobs of the line came with more to follow, so that nobody was called for them yet.
    unannounced: usize,
    /// Lanes that the application's executor dropped, for the next arrival to bring back. They count as finished.
    pub refused: Vec<Arc<dyn Lane>>,
    pub running: usize,
    /// The lanes among what runs, for the count alone: whoever runs a lane keeps it, and lets go of it without the lock.
    pub running_lanes: Slab<Weak<dyn Lane>>,
    next_ticket: u64,
    pub max: usize,
    pub suspended: bool,
    /// The last handle is gone: nothing can arrive any more.
    pub closed: bool,
    pub name: Option<String>,
    /// Changes whenever a watcher may see something new.
    pub events: u64,
    pub watchers: usize,
    pub threads: Threads,
    /// The reactor that an idle thread may poll for.
    pub helm: Option<Arc<Helm>>,
    /// The job that is being handed to the application's executor and has not started. One at a time, so that the
    /// executor gets them in order.
    pub handing_over: Option<Ticket>,
    /// The thread that pumped last.
    pub pump: Option<ThreadId>,
    /// The wake hook was called since a thread last began to pump, so the application will pump again.
    pub told: bool,
    pub wake_hook: Option<Arc<WakeHook>>,
}

/// One place in the line.
pub(super) enum Job {
    Lane(Arc<dyn Lane>),
    Operation(Box<dyn FnOnce() + Send>),
}

/// Tells the jobs that run apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    number: u64,
    /// Where a lane stands in [`State::running_lanes`].
    lane: Option<usize>,
}

/// A job that counts as running; each is to be [finished](Shared::finish) once.
pub(super) struct Started {
    pub ticket: Ticket,
    pub job: Job,
}

/// A job that has run.
pub(super) struct Finished {
    pub ticket: Ticket,
    /// How many operations or callbacks ran.
    pub ran: usize,
    /// The lane, if it has more to run.
    pub again: Option<Arc<dyn Lane>>,
}

impl Shared {
    pub(super) fn new(kind: Kind, max: usize) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            unannounced: 0,
            refused: Vec::new(),
            running: 0,
            running_lanes: Slab::new(),
            next_ticket: 0,
            max,
            suspended: false,
            closed: false,
            name: None,
            events: 0,
            watchers: 0,
            threads: Threads::default(),
            helm: None,
            handing_over: None,
            pump: None,
            told: false,
            wake_hook: None,
        };
        Self {
            kind,
            state: Mutex::new(state),
            work: Condvar::new(),
            changed: Condvar::new(),
            suspended: AtomicBool::new(false),
            patience: PATIENCE,
        }
    }

    /// Puts a job at the end of the line and sees to it that it is started. `more`: others follow at once, and the last of
    /// them sees to it for all. If there may be one thread only, whether that woke it.
    pub(super) fn push(self: &Arc<Self>, job: Job, more: bool) -> Option<bool> {
        let mut state = self.state.lock();
        if matches!(self.kind, Kind::Immediate) && !state.suspended {
            // Not through the line: another thread could take it from there.
            let started = state.started(job);
            drop(state);
            self.run_here(started);
            return None;
        }
        let refused = mem::take(&mut state.refused);
        state.waiting.extend(refused.into_iter().map(Job::Lane));
        state.waiting.push_back(job);
        state.unannounced += 1;
        if more {
            return None;
        }
        let fresh = mem::take(&mut state.unannounced);
        let only_thread = state.max == 1 && matches!(self.kind, Kind::Threads) && !state.suspended;
        let slept = only_thread.then_some(state.threads.idle > 0);
        self.start_waiting(state, fresh);
        slept
    }

    /// Tells whoever starts jobs that up to `fresh` more of them may be startable.
    pub(super) fn start_waiting(self: &Arc<Self>, state: MutexGuard<'_, State>, fresh: usize) {
        match &self.kind {
            Kind::Executor(execute) => {
                drop(state);
                self.hand_over_waiting(execute);
            }
            Kind::Immediate => {
                drop(state);
                while let Some(started) = { self.state.lock().start_next() } {
                    self.run_here(started);
                }
            }
            Kind::Pumped => self.call_pump(state),
            Kind::Threads => self.call_workers(state, fresh),
        }
    }

    /// Runs a job on the calling thread; returns how many operations or callbacks ran.
    pub(super) fn run_here(self: &Arc<Self>, started: Started) -> usize {
        let finished = {
            let _stay = self.enter(Place::Operation);
            started.run()
        };
        let ran = finished.ran;
        self.finish(&mut self.state.lock(), finished);
        ran
    }

    /// Counts a job as done, and puts its lane back if there is more to run. The caller then looks for the next job.
    pub(super) fn finish(&self, state: &mut State, finished: Finished) {
        state.running -= 1;
        if let Some(lane) = finished.ticket.lane {
            state.running_lanes.try_remove(lane);
        }
        if let Some(lane) = finished.again {
            state.waiting.push_back(Job::Lane(lane));
        }
        self.tell_watchers(state);
    }

    pub(super) fn tell_watchers(&self, state: &mut State) {
        state.events = state.events.wrapping_add(1);
        if state.watchers > 0 {
            self.changed.notify_all();
        }
    }

    /// How many operations and callbacks wait, and how many run.
    pub(super) fn count(&self) -> (usize, usize) {
        // A lane is asked, and let go of, without the lock: it has locks of its own, and to drop it may drop closures.
        let (lanes, running_lanes, operations, running) = {
            let state = self.state.lock();
            let lanes: Vec<_> = state.waiting.iter().filter_map(Job::lane).cloned().collect();
            let running_lanes: Vec<_> = state.running_lanes.iter().filter_map(|(_, lane)| lane.upgrade()).collect();
            let operations = state.waiting.len() - lanes.len();
            (lanes, running_lanes, operations, state.running)
        };
        let in_lanes = lanes.iter().map(|lane| lane.waiting().max(1)).fold(0, usize::saturating_add);
        let behind = running_lanes.iter().map(|lane| lane.waiting()).fold(0, usize::saturating_add);
        (operations.saturating_add(in_lanes).saturating_add(behind), running)
    }

    /// Returns when nothing waits and nothing runs.
    pub(super) fn wait_until_finished(&self) {
        let mut state = self.state.lock();
        while !state.is_finished() {
            state.watchers += 1;
            self.changed.wait(&mut state);
            state.watchers -= 1;
        }
    }

    /// The last handle is gone: what can still run does so, then the threads end.
    pub(super) fn close(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.closed = true;
        self.start_waiting(state, usize::MAX);
    }
}

impl State {
    /// Takes the next job out of the line, if one may start.
    pub(super) fn start_next(&mut self) -> Option<Started> {
        self.start_next_below(self.max)
    }

    /// Takes the next job out of the line, if the queue is not suspended and fewer than `limit` jobs run.
    pub(super) fn start_next_below(&mut self, limit: usize) -> Option<Started> {
        if self.suspended || self.running >= limit {
            return None;
        }
        let job = self.waiting.pop_front()?;
        if self.waiting.is_empty() && self.waiting.capacity() > KEPT_CAPACITY {
            self.waiting = VecDeque::new();
        }
        Some(self.started(job))
    }

    fn started(&mut self, job: Job) -> Started {
        let lane = job.lane().map(|lane| self.running_lanes.insert(Arc::downgrade(lane)));
        let ticket = Ticket { number: self.next_ticket, lane };
        self.next_ticket = self.next_ticket.wrapping_add(1);
        self.running += 1;
        Started { ticket, job }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.running == 0 && self.waiting.is_empty()
    }
}

impl Drop for State {
    /// Drops what nobody could start: of the closures of the user, none shall keep another from being dropped.
    fn drop(&mut self) {
        let refused = mem::take(&mut self.refused).into_iter().map(Job::Lane);
        for job in mem::take(&mut self.waiting).into_iter().chain(refused) {
            caught(|| drop(job));
        }
    }
}

impl Job {
    fn lane(&self) -> Option<&Arc<dyn Lane>> {
        match self {
            Self::Lane(lane) => Some(lane),
            Self::Operation(_) => None,
        }
    }
}

impl Started {
    /// Runs the job. Whatever belonged to it and is not needed again is dropped when this returns.
    pub(super) fn run(self) -> Finished {
        let ticket = self.ticket;
        match self.job {
            Job::Lane(lane) => {
                let running = Arc::clone(&lane);
                let LaneRun { ran, again } = caught(|| running.run()).unwrap_or(LaneRun { ran: 0, again: false });
                if again {
                    return Finished { ticket, ran, again: Some(lane) };
                }
                caught(|| drop(lane));
                Finished { ticket, ran, again: None }
            }
            Job::Operation(operation) => {
                caught(operation);
                Finished { ticket, ran: 1, again: None }
            }
        }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Executor(_) => "Executor",
            Self::Immediate => "Immediate",
            Self::Pumped => "Main",
            Self::Threads => "Threads",
        })
    }
}

/// Runs code of the user: a panic ends there. The panic hook has reported it by then.
pub(super) fn caught<T>(code: impl FnOnce() -> T) -> Option<T> {
    let payload = match catch_unwind(AssertUnwindSafe(code)) {
        Ok(value) => return Some(value),
        Err(payload) => payload,
    };
    // What was thrown may throw again when it is dropped; what that throws is left alone.
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(second);
    }
    None
}
