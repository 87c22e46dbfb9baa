//! The only place with sockets, threads and clocks: one thread for a session, on mio.
//!
//! In come commands (a task starts, something of it changed), what the kernel tells of sockets, answers of the resolver
//! and deadlines; out go bytes to sockets and [`Event`](crate::loader::Event)s to each task's [`Client`]. A session's
//! thread starts with its first task and ends when the session is invalidated and its sockets are closed. What else only the
//! system can do is here, too: the look-up of names, random bytes, alarms, and the file that cookies are kept in.
//!
//! No user code runs here, but for [`Work`] that the session posts: the callbacks of an immediate queue.

mod alarm;
mod client;
mod connection;
mod cookie_file;
mod cork;
mod deadlines;
mod event_loop;
mod guarded;
mod helm;
mod random;
mod receive;
mod resolver;
mod trace;
mod write;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Instant;

use mio::{Poll, Token, Waker};
use parking_lot::{Mutex, MutexGuard};

pub use alarm::Alarm;
pub use client::{Client, Delivered, Scheduled, Work};
pub use connection::Connection;
pub use cookie_file::Flushes;
pub use cork::Cork;
pub use deadlines::Deadlines;
pub use guarded::guarded;
pub use helm::Helm;
pub use random::system_random;

use crate::foundation::{ErrorCode, ErrorStage, UrlError};
use event_loop::EventLoop;
use resolver::{Answer, Resolver};

/// The token of the waker; connections have the numbers of their slots.
const WAKER: Token = Token(usize::MAX);

/// How much room is kept for connections whose sends gather.
const CORKED_KEPT: usize = 64;

/// The name of the thread.
const THREAD: &str = "urlsession-reactor";

/// What a session asks of its reactor thread.
enum Command {
    /// A task begins.
    Start(Arc<dyn Client>),
    /// Deadlines, actions or reading of a task changed, or it has bytes to write.
    Update(Arc<dyn Client>),
    /// The resolver's answer to the task's look-up of that number.
    Resolved(Weak<dyn Client>, u32, Answer),
}

/// A session's reactor. Its thread starts when it is first needed.
#[derive(Debug)]
pub struct Reactor {
    shared: Arc<Shared>,
}

/// What the reactor thread shares with everybody else.
struct Shared {
    inbox: Mutex<Inbox>,
    /// Connections whose sends gather while callbacks run.
    corked: Mutex<Vec<Arc<dyn Client>>>,
    /// The thread looks at `corked` again in a moment, without being woken.
    watching: AtomicBool,
    /// Callbacks were put on a queue since the thread last looked.
    scheduled: AtomicBool,
    helm: Arc<Helm>,
    resolver: Arc<Resolver>,
}

#[derive(Default)]
struct Inbox {
    commands: Vec<Command>,
    work: Vec<Arc<dyn Work>>,
    /// Wakes the thread; `None` while there is none.
    waker: Option<Arc<Waker>>,
    /// A connection was corked while the thread was not [watching](Shared::watching).
    unwatched: bool,
    /// The thread is in the kernel, or about to go there, and does not look here by itself.
    asleep: bool,
    /// The thread ends when it has nothing to do.
    retired: bool,
}

impl Default for Reactor {
    fn default() -> Self {
        Self::new()
    }
}

impl Reactor {
    /// A reactor without a thread.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                inbox: Mutex::default(),
                corked: Mutex::default(),
                watching: AtomicBool::new(false),
                scheduled: AtomicBool::new(false),
                helm: Arc::default(),
                resolver: Arc::default(),
            }),
        }
    }

    /// Runs `work` on the reactor thread, between two events.
    pub fn post(&self, work: Arc<dyn Work>) {
        self.shared.post(work);
    }

    /// What a delegate queue needs to poll for the reactor.
    pub fn helm(&self) -> &Arc<Helm> {
        &self.shared.helm
    }

    /// The thread ends as soon as it has nothing to do; later commands start another.
    pub fn retire(&self) {
        let mut inbox = self.shared.inbox.lock();
        inbox.retired = true;
        if let Some(waker) = &inbox.waker {
            let _ = waker.wake();
        }
    }

    /// While the result lives, what the calling thread sends on this reactor's connections gathers.
    pub fn cork(&self) -> Cork<'_> {
        Cork::new(&self.shared, Instant::now)
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        self.retire();
    }
}

impl Shared {
    /// Gives the thread a command, and starts the thread if there is none.
    fn command(self: &Arc<Self>, command: Command) -> Result<(), UrlError> {
        self.submit(|inbox| inbox.commands.push(command)).map_err(|error| {
            let reason = format!("the session's reactor thread cannot be started: {error}");
            UrlError::new(ErrorCode::Unknown, ErrorStage::Connect, reason).with_source(error)
        })
    }

    /// A command of a task that the thread knows: there is a thread.
    fn notify(self: &Arc<Self>, command: Command) {
        let _ = self.command(command);
    }

    /// [`Reactor::post`].
    fn post(self: &Arc<Self>, work: Arc<dyn Work>) {
        if self.submit(|inbox| inbox.work.push(work)).is_err() {
            // There is no descriptor left for a reactor. Callbacks need none; if there is not even a thread for them, they
            // wait for the next post or command.
            let shared = Arc::clone(self);
            let _ = thread::Builder::new().name(THREAD.to_owned()).spawn(move || {
                let work = std::mem::take(&mut shared.inbox.lock().work);
                let _cork = Cork::new(&shared, Instant::now);
                work.into_iter().for_each(Work::run);
            });
        }
    }

    fn submit(self: &Arc<Self>, put: impl FnOnce(&mut Inbox)) -> io::Result<()> {
        let mut inbox = self.inbox.lock();
        // First of all: where no thread can be started now, the next one that starts finds it.
        put(&mut inbox);
        if inbox.waker.is_none() {
            let poll = Poll::new()?;
            let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
            let shared = Arc::clone(self);
            let event_loop = Box::new(EventLoop::new(poll, Arc::clone(&shared)));
            thread::Builder::new().name(THREAD.to_owned()).spawn(move || helm::run(event_loop, &shared))?;
            inbox.waker = Some(waker);
            inbox.asleep = false;
        }
        Self::wake(inbox)
    }

    /// Wakes the thread if it sleeps; one wake-up, however many commands.
    fn wake(mut inbox: MutexGuard<'_, Inbox>) -> io::Result<()> {
        let waker = if std::mem::take(&mut inbox.asleep) { inbox.waker.clone() } else { None };
        drop(inbox);
        waker.map_or(Ok(()), |waker| waker.wake())
    }

    /// Callbacks are on a queue: what they send may gather for a moment.
    fn scheduled(&self) {
        self.scheduled.store(true, Ordering::Relaxed);
    }

    /// A connection has something to write when the callbacks that run are done.
    fn add_corked(self: &Arc<Self>, client: Arc<dyn Client>) {
        self.corked.lock().push(client);
        // A callback that sends and then blocks must not hold its own message back: the thread has an eye on it.
        if !self.watching.load(Ordering::Acquire) {
            let mut inbox = self.inbox.lock();
            inbox.unwatched = true;
            let _ = Self::wake(inbox);
        }
    }

    /// Writes what gathered. It may hold the last of a task, whose delegate goes with it: what that throws ends here.
    fn uncork_guarded(&self, now: Instant) {
        let _ = catch_unwind(AssertUnwindSafe(|| self.uncork(now)));
    }

    /// Writes what gathered.
    fn uncork(&self, now: Instant) {
        let mut corked = std::mem::take(&mut *self.corked.lock());
        for client in corked.drain(..) {
            client.connection().uncork(&*client, now);
        }
        let mut kept = self.corked.lock();
        if kept.capacity() == 0 && corked.capacity() <= CORKED_KEPT {
            *kept = corked;
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").finish_non_exhaustive()
    }
}
