//! `OperationQueue`: where delegate methods, completion handlers and the application's own operations run.
//!
//! In come operations ([`OperationQueue::add_operation`]) and *lanes*, the callbacks of one task or session
//! ([`OperationQueue::schedule`]); both stand in one line and start in the order in which they came. What starts them
//! depends on the kind of queue, a file each: threads of its own (`workers`), the application's loop (`pump`), the
//! application's executor (`executor`), or the thread that adds the operation (`immediate`, in `state`).
//!
//! No lock is held while the code of a user runs, is dropped, or is told something.

mod current;
mod executor;
mod pump;
mod state;
mod workers;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    hash::{Hash, Hasher},
    num::NonZero,
    sync::{Arc, OnceLock, atomic::Ordering},
    thread,
    time::Instant,
};

use self::state::{Job, Kind, Shared};
use crate::reactor::Helm;

/// The callbacks of one task (or one session): run one at a time and in order, whatever the queue.
///
/// The lane sees to it that it is never in a queue twice at once. It may be dropped without having run: when the last
/// handle of a suspended queue goes.
pub(crate) trait Lane: Send + Sync {
    /// Runs a bounded batch of callbacks, one after the other, and says how many ran and whether there is more to run.
    /// Catches the panics of user code itself. Called without a lock held.
    fn run(self: Arc<Self>) -> LaneRun;

    /// How many callbacks wait, without the one that runs; at least 1 while scheduled. Called without a lock held.
    fn waiting(&self) -> usize;
}

/// What one batch of a [`Lane`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LaneRun {
    /// How many callbacks ran.
    pub ran: usize,
    /// Whether the lane is to be put back, at the end of the line. Until then the lane must not schedule itself.
    pub again: bool,
}

/// `OperationQueue`: runs operations, and is the `delegate_queue` of a session.
///
/// A handle: clones stand for the same queue, and compare and hash as it. Every method may be called from any thread
/// and from inside any operation. Operations start in the order in which they were added; how many run at a time says
/// [`max_concurrent_operation_count`]. One task's callbacks come one at a time and in order on every kind of queue.
///
/// An operation that panics ends there; the queue goes on. When the last handle of a queue is dropped, what waits in
/// it still runs, unless the queue is suspended or its count is 0: then nobody can start it any more and it is dropped.
///
/// ```
/// use urlsession::OperationQueue;
///
/// let queue = OperationQueue::serial();
/// queue.set_name(Some("chat"));
/// queue.add_operation(|| println!("first"));
/// queue.add_operation(|| println!("second"));
/// queue.wait_until_all_operations_are_finished();
/// ```
///
/// [`max_concurrent_operation_count`]: OperationQueue::max_concurrent_operation_count
#[derive(Clone)]
pub struct OperationQueue {
    handle: Arc<Handle>,
}

/// What the clones of an [`OperationQueue`] share and nothing else does: when it goes, the queue has no owner left.
struct Handle {
    shared: Arc<Shared>,
}

impl OperationQueue {
    /// `OperationQueue()`: concurrent, on as many threads as the machine has cores.
    ///
    /// The threads start when there is work and end after ten seconds without any. If the system refuses to start a
    /// thread and the queue has no other, its operations wait until one is added next, which tries again.
    pub fn new() -> Self {
        Self::build(Kind::Threads, thread::available_parallelism().map_or(1, NonZero::get))
    }

    /// A queue with `maxConcurrentOperationCount = 1`: one operation at a time, in the order in which they were added.
    pub fn serial() -> Self {
        Self::build(Kind::Threads, 1)
    }

    /// `OperationQueue.main`: the one queue of the process that runs nothing by itself.
    ///
    /// The application pumps it, from its main loop, with [`run_pending`] or [`run_until`]. One operation runs at a
    /// time, whichever threads pump; an operation that pumps runs others inside itself.
    ///
    /// [`run_pending`]: OperationQueue::run_pending
    /// [`run_until`]: OperationQueue::run_until
    pub fn main() -> Self {
        static MAIN: OnceLock<OperationQueue> = OnceLock::new();
        MAIN.get_or_init(|| Self::build(Kind::Pumped, 1)).clone()
    }

    /// Beyond Apple, for the lowest latency: a queue without a thread of its own.
    ///
    /// As a session's delegate queue it lets the session's network thread run the callbacks, so a callback that blocks
    /// delays all of that session. An operation added by hand runs on the thread that adds it, inside `add_operation`;
    /// while the queue is suspended it waits, and the thread that resumes the queue runs it.
    pub fn immediate() -> Self {
        Self::build(Kind::Immediate, usize::MAX)
    }

    /// `underlyingQueue`: the application's own executor runs the operations.
    ///
    /// `execute` is called for each operation, and for each batch of a task's callbacks, in order, on any thread; it
    /// calls what it is given now or later, wherever it likes. At most [`max_concurrent_operation_count`] are with it
    /// at a time, without limit at first. An operation counts as started when `execute` has it: suspending the queue
    /// does not call it back.
    ///
    /// If `execute` runs operations at once, on the calling thread, an operation that adds another one returns before
    /// the other starts. An operation that `execute` drops, or panics over, is gone. The callbacks of a task are never
    /// lost so: they are offered again when something next arrives in the queue. `execute` itself is dropped when the
    /// last handle is gone and the work is done, perhaps by a thread of the executor.
    ///
    /// [`max_concurrent_operation_count`]: OperationQueue::max_concurrent_operation_count
    pub fn with_executor(execute: impl Fn(Box<dyn FnOnce() + Send>) + Send + Sync + 'static) -> Self {
        Self::build(Kind::Executor(Box::new(execute)), usize::MAX)
    }

    fn build(kind: Kind, max_concurrent_operation_count: usize) -> Self {
        Self { handle: Arc::new(Handle { shared: Arc::new(Shared::new(kind, max_concurrent_operation_count)) }) }
    }

    /// `maxConcurrentOperationCount`: how many operations run at a time at most. Where Apple says −1 (the system
    /// decides) this is the number in force.
    pub fn max_concurrent_operation_count(&self) -> usize {
        self.shared().state.lock().max
    }

    /// Sets `maxConcurrentOperationCount`. With 0 nothing starts, as in a suspended queue. What runs goes on, also
    /// where the new number is smaller. [`main`](OperationQueue::main) stays at 1 and
    /// [`immediate`](OperationQueue::immediate) has no limit, whatever is set.
    pub fn set_max_concurrent_operation_count(&self, count: usize) {
        if matches!(self.shared().kind, Kind::Threads | Kind::Executor(_)) {
            let mut state = self.shared().state.lock();
            state.max = count;
            self.shared().start_waiting(state, usize::MAX);
        }
    }

    /// `addOperation(_:)`: runs `operation` when its turn comes.
    pub fn add_operation(&self, operation: impl FnOnce() + Send + 'static) {
        self.shared().push(Job::Operation(Box::new(operation)), false);
    }

    /// `isSuspended`.
    pub fn is_suspended(&self) -> bool {
        self.shared().suspended.load(Ordering::Acquire)
    }

    /// Sets `isSuspended`: while true, what runs goes on and nothing new starts; with false, what waits starts.
    pub fn set_suspended(&self, suspended: bool) {
        let mut state = self.shared().state.lock();
        let resumed = state.suspended && !suspended;
        state.suspended = suspended;
        self.shared().suspended.store(suspended, Ordering::Release);
        if resumed {
            self.shared().start_waiting(state, usize::MAX);
        }
    }

    /// `operationCount`: how many operations and callbacks wait or run. The number may be old when it is returned.
    pub fn operation_count(&self) -> usize {
        let (waiting, running) = self.shared().count();
        waiting.saturating_add(running)
    }

    /// `waitUntilAllOperationsAreFinished()`: returns when nothing waits and nothing runs. For a suspended queue with
    /// operations in it that is not before it is resumed.
    ///
    /// Inside an operation of this same queue, which would wait for itself, it returns at once. On
    /// [`main`](OperationQueue::main) it runs what waits if the calling thread is the one that pumped the queue last,
    /// or if none ever did.
    pub fn wait_until_all_operations_are_finished(&self) {
        if self.is_current() {
            return;
        }
        if self.shared().is_pumped_here() {
            self.shared().pump_until(None, || self.shared().state.lock().is_finished());
        } else {
            self.shared().wait_until_finished();
        }
    }

    /// `name`.
    pub fn name(&self) -> Option<String> {
        self.shared().state.lock().name.clone()
    }

    /// Sets `name`. Threads that the queue starts from then on are called so, else `urlsession-queue`.
    pub fn set_name(&self, name: Option<&str>) {
        self.shared().state.lock().name = name.map(str::to_owned);
    }

    /// Beyond Apple: runs what is queued now in a queue that the application pumps, and returns how many operations and
    /// callbacks ran. What arrives meanwhile is left for the next call.
    ///
    /// Returns 0 while the queue is suspended or another thread runs an operation of it, and on every queue but
    /// [`main`](OperationQueue::main): those run their operations themselves.
    pub fn run_pending(&self) -> usize {
        self.shared().run_pending()
    }

    /// Beyond Apple: runs operations of a queue that the application pumps as they come, until `done` returns true, and
    /// returns true; or until `deadline`, and returns what `done` then says. No operation starts after the deadline.
    ///
    /// Between operations the thread sleeps. `done` is called before and after each operation or batch of callbacks,
    /// after each wake-up, and a few dozen times a second besides, so it may look at anything. On every other queue
    /// than [`main`](OperationQueue::main) this only waits for `done`, which is called as operations finish.
    pub fn run_until(&self, deadline: Instant, done: impl FnMut() -> bool) -> bool {
        self.shared().pump_until(Some(deadline), done)
    }

    /// Beyond Apple: sets what is called when there is something to run in a queue that the application pumps: when an
    /// operation or a callback arrives while the queue is not suspended, when it is resumed with operations in it, and
    /// when [`run_pending`](OperationQueue::run_pending) leaves something behind of which nothing else would tell. If
    /// operations wait already, it is called at once.
    ///
    /// It is called on any thread, so it should do no more than wake the loop that pumps (winit's `EventLoopProxy`,
    /// glib's `MainContext::wakeup`), and must not pump itself. Other queues never call it.
    pub fn set_wake_hook(&self, hook: impl Fn() + Send + Sync + 'static) {
        self.shared().set_wake_hook(Arc::new(hook));
    }

    /// Puts a lane at the end of the line. A queue that [is immediate](OperationQueue::is_immediate) runs it here and now,
    /// or, while it is suspended, on the thread that resumes it.
    ///
    /// To be called without a lock held that a callback may want: this calls the application's executor, which may run
    /// the lane at once, and its wake hook.
    ///
    /// `more`: another lane follows at once. Threads are woken for all of them together, with the last.
    ///
    /// If the queue may have one thread only, and nothing follows, whether that slept and was woken.
    pub(crate) fn schedule(&self, lane: Arc<dyn Lane>, more: bool) -> Option<bool> {
        self.shared().push(Job::Lane(lane), more)
    }

    /// When the queue has one thread, and that has nothing to run, it polls for this reactor where it is offered. Of several
    /// the first has it, while it lives; whether this is it.
    pub(crate) fn set_helm(&self, helm: &Arc<Helm>) -> bool {
        matches!(self.shared().kind, Kind::Threads) && {
            let mut state = self.shared().state.lock();
            // One that nobody else has any more cannot be offered again.
            let free = state.helm.as_ref().is_none_or(|helm| Arc::strong_count(helm) == 1);
            if free {
                state.helm = Some(Arc::clone(helm));
            }
            free
        }
    }

    /// Whether the owner runs its callbacks itself instead of calling [`schedule`](OperationQueue::schedule).
    pub(crate) fn is_immediate(&self) -> bool {
        matches!(self.shared().kind, Kind::Immediate)
    }

    /// Threads that have nothing to do end now, those that run something as soon as they find nothing more. Later work
    /// starts new ones.
    pub(crate) fn release_idle_threads(&self) {
        self.shared().release_idle_threads();
    }

    /// Whether the calling thread is running an operation of this very queue.
    pub(crate) fn is_current(&self) -> bool {
        self.shared().is_current()
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Default for OperationQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for OperationQueue {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.handle, &other.handle)
    }
}

impl Eq for OperationQueue {}

impl Hash for OperationQueue {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        Arc::as_ptr(&self.handle).hash(hasher);
    }
}

impl fmt::Debug for OperationQueue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Taken out first: the formatter is the caller's code, and runs without the lock.
        let (name, max, suspended, waiting, running) = {
            let state = self.shared().state.lock();
            (state.name.clone(), state.max, state.suspended, state.waiting.len(), state.running)
        };
        formatter
            .debug_struct("OperationQueue")
            .field("kind", &self.shared().kind)
            .field("name", &name)
            .field("max_concurrent_operation_count", &max)
            .field("suspended", &suspended)
            .field("waiting", &waiting)
            .field("running", &running)
            .finish()
    }
}
