//! Everything here waits for events, within a bound; nothing waits for time to pass.

mod executor;
mod lanes;
mod pump;
mod queue;
mod threads;

use std::{
    collections::VecDeque,
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{Handle, Lane, LaneRun, OperationQueue, state::Kind, state::Shared};

/// Longer than anything here takes.
const BOUND: Duration = Duration::from_secs(20);

/// The next event, which must come.
#[track_caller]
fn next<T>(events: &Receiver<T>) -> T {
    events.recv_timeout(BOUND).expect("an event that must come")
}

/// The next `count` events.
#[track_caller]
fn take<T>(events: &Receiver<T>, count: usize) -> Vec<T> {
    (0..count).map(|_| next(events)).collect()
}

/// Looks again and again, within the bound.
#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + BOUND;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        thread::yield_now();
    }
}

fn count(number: &AtomicUsize) {
    number.fetch_add(1, SeqCst);
}

/// An operation that tells when it runs and ends when it is told to, or when the gate is dropped.
struct Gate {
    entered: Receiver<()>,
    open: Option<Sender<()>>,
}

impl Gate {
    fn new() -> (Self, impl FnOnce() + Send + 'static) {
        let (enter, entered) = mpsc::channel();
        let (open, opened) = mpsc::channel::<()>();
        let operation = move || {
            let _ = enter.send(());
            // Longer than anybody waits for what the gate holds up.
            let _ = opened.recv_timeout(BOUND * 3);
        };
        (Self { entered, open: Some(open) }, operation)
    }

    /// Puts one in a queue and returns when it runs.
    #[track_caller]
    fn in_queue(queue: &OperationQueue) -> Self {
        let (gate, operation) = Self::new();
        queue.add_operation(operation);
        gate.wait();
        gate
    }

    #[track_caller]
    fn wait(&self) {
        next(&self.entered);
    }

    fn open(mut self) {
        self.open.take();
    }
}

/// A lane as a task would have it: callbacks in order, a few at a time.
struct TestLane {
    queue: OperationQueue,
    batch: usize,
    state: Mutex<LaneState>,
    running: AtomicBool,
    overlaps: AtomicUsize,
}

#[derive(Default)]
struct LaneState {
    callbacks: VecDeque<Box<dyn FnOnce() + Send>>,
    scheduled: bool,
}

impl TestLane {
    fn new(queue: &OperationQueue, batch: usize) -> Arc<Self> {
        Arc::new(Self {
            queue: queue.clone(),
            batch,
            state: Mutex::default(),
            running: AtomicBool::new(false),
            overlaps: AtomicUsize::new(0),
        })
    }

    fn add(self: &Arc<Self>, callback: impl FnOnce() + Send + 'static) {
        let scheduled = {
            let mut state = self.state.lock();
            state.callbacks.push_back(Box::new(callback));
            mem::replace(&mut state.scheduled, true)
        };
        if !scheduled {
            self.queue.schedule(self.clone(), false);
        }
    }
}

impl Lane for TestLane {
    fn run(self: Arc<Self>) -> LaneRun {
        let overlaps = usize::from(self.running.swap(true, SeqCst));
        self.overlaps.fetch_add(overlaps, SeqCst);
        let mut ran = 0;
        while ran < self.batch {
            let Some(callback) = ({ self.state.lock().callbacks.pop_front() }) else { break };
            callback();
            ran += 1;
        }
        self.running.store(false, SeqCst);
        let mut state = self.state.lock();
        state.scheduled = !state.callbacks.is_empty();
        LaneRun { ran, again: state.scheduled }
    }

    fn waiting(&self) -> usize {
        self.state.lock().callbacks.len()
    }
}

/// As [`OperationQueue::new`], with another patience of idle threads.
fn patient_for(patience: Duration, max: usize) -> OperationQueue {
    let shared = Shared { patience, ..Shared::new(Kind::Threads, max) };
    OperationQueue { handle: Arc::new(Handle { shared: Arc::new(shared) }) }
}

/// What a dropped value tells.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
