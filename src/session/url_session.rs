//! `URLSession`: makes tasks, and owns the reactor and the queue that they run on.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ptr;
#[cfg(feature = "tracing")]
use std::sync::atomic::AtomicU64;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;
use slab::Slab;

use super::announcer::Announcer;
use super::delegate::{Implemented, Method, WebSocketDelegate, implements};
use super::desk::{Ended, Extras};
use super::operation_queue::{Lane, LaneRun, OperationQueue};
use super::session_task::{SessionTask, TaskState};
use super::task::{TaskShared, answer};
use super::web_socket_task::WebSocketTask;
use crate::foundation::{Recent, SessionConfiguration, UrlRequest};
use crate::http::{Proxies, check_protocols};
use crate::loader::{Callback, Common, Epoch, Loader, Settings};
use crate::reactor::{Connection, Flushes, Reactor, Scheduled, Work, guarded};

/// `maximumMessageSize` of a new task, in bytes.
const MAXIMUM_MESSAGE_SIZE: usize = 1024 * 1024;

/// `URLSession`: makes WebSocket tasks, and tells its delegate what becomes of them.
///
/// ```no_run
/// use urlsession::{SessionConfiguration, Url, UrlSession};
///
/// let session = UrlSession::new(SessionConfiguration::default());
/// let task = session.web_socket_task(Url::parse("wss://example.com/feed").unwrap());
/// task.receive(|message| println!("{message:?}"));
/// task.resume();
/// # std::thread::park();
/// ```
///
/// A session owns one reactor thread and a delegate queue. Both start with the first `resume()`: a session that never
/// runs a task owns no thread and no file descriptor. It is a handle: clones stand for the same session, and compare and
/// hash as it. Every method may be called from any thread and from inside any callback.
///
/// The delegate is held until the session is invalidated. When the last handle of a session that was never
/// invalidated is dropped, it is as if [`finish_tasks_and_invalidate`](Self::finish_tasks_and_invalidate) had been
/// called: its tasks run to their end, then everything is let go.
#[derive(Clone)]
pub struct UrlSession(Arc<Handle>);

/// What the clones of a [`UrlSession`] share and its tasks do not: when it goes, the session has no owner left.
pub(super) struct Handle {
    shared: Arc<SessionShared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.invalidate();
    }
}

impl UrlSession {
    /// `URLSession.shared`: one session for the whole process, without a delegate, with the default configuration.
    /// Invalidating it does nothing.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<UrlSession> = OnceLock::new();
        SHARED.get_or_init(|| Self::make(SessionConfiguration::default(), None, None, true))
    }

    /// `URLSession(configuration:)`: a session without a delegate, with a serial queue of its own.
    pub fn new(configuration: SessionConfiguration) -> Self {
        Self::make(configuration, None, None, false)
    }

    /// `URLSession(configuration:delegate:delegateQueue:)`.
    ///
    /// The configuration is copied. The delegate is held until the session is invalidated. Every delegate method and
    /// completion handler runs on `delegate_queue`; `None` makes a serial queue of the session's own.
    pub fn with_delegate(
        configuration: SessionConfiguration,
        delegate: Option<Arc<dyn WebSocketDelegate>>,
        delegate_queue: Option<OperationQueue>,
    ) -> Self {
        Self::make(configuration, delegate, delegate_queue, false)
    }

    fn make(
        configuration: SessionConfiguration,
        delegate: Option<Arc<dyn WebSocketDelegate>>,
        queue: Option<OperationQueue>,
        everlasting: bool,
    ) -> Self {
        // One that is not in UTF-8 is there all the same: to pass it by would show what its proxy was to hide.
        let variable = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let proxies = Proxies::new(configuration.proxy_configurations.as_deref(), variable);
        let common = Arc::new(Common::new(&configuration, proxies));
        let flushes = Arc::new(Flushes::new(configuration.http_cookie_storage.as_ref()));
        let queue = queue.unwrap_or_else(OperationQueue::serial);
        let reactor = Reactor::new();
        let has_helm = queue.set_helm(reactor.helm());
        let shared = Arc::new_cyclic(|myself| SessionShared {
            configuration,
            common,
            flushes,
            requests: Recent::default(),
            queue,
            reactor,
            has_helm,
            delegate: Mutex::new(delegate),
            lacking: AtomicU16::new(0),
            description: Mutex::new(None),
            registry: Mutex::new(Registry {
                tasks: Slab::new(),
                last_identifier: 0,
                flushes: 0,
                dependents: Slab::new(),
                end: End::Open,
            }),
            announcer: Announcer::new(myself.clone()),
            handle: Mutex::new(Weak::new()),
            everlasting,
            #[cfg(feature = "tracing")]
            number: SESSIONS.fetch_add(1, Ordering::Relaxed) + 1,
            myself: myself.clone(),
        });
        shared.handle()
    }

    /// `webSocketTask(with:)`: a task for a URL or a [`UrlRequest`], suspended until it is resumed.
    ///
    /// It never fails here: a request that cannot be sent fails the task at `resume()`. To offer subprotocols use
    /// [`web_socket_task_with_protocols`](Self::web_socket_task_with_protocols) or set `Sec-WebSocket-Protocol`.
    pub fn web_socket_task(&self, with: impl Into<UrlRequest>) -> WebSocketTask {
        self.0.shared.make_task(with.into(), None)
    }

    /// `webSocketTask(with:protocols:)`: the same, and offers subprotocols, the preferred one first. An empty list offers
    /// none.
    pub fn web_socket_task_with_protocols(&self, with: impl Into<UrlRequest>, protocols: &[&str]) -> WebSocketTask {
        let mut request = with.into();
        let flaw = check_protocols(protocols).err().map(|error| error.with_failing_url(&request.url));
        if !protocols.is_empty() {
            request.set_value(&protocols.join(", "), "Sec-WebSocket-Protocol");
        }
        self.0.shared.make_task(request, flaw.map(Extras::with_flaw))
    }

    /// [`web_socket_task`](Self::web_socket_task), and tells somebody of this crate when the end of the task has been told to
    /// everybody else. The session's delegate, which hears of the task before this returns, may end it before that.
    pub(crate) fn watched_task(
        &self,
        request: UrlRequest,
        watcher: impl FnOnce(&WebSocketTask, Ended) + Send + 'static,
    ) -> WebSocketTask {
        self.0.shared.make_task(request, Some(Extras::with_watcher(watcher)))
    }

    /// `configuration`: a copy; changing it has no effect on the session.
    pub fn configuration(&self) -> SessionConfiguration {
        self.0.shared.configuration.clone()
    }

    /// `delegate`; `None` once the session is invalidated.
    pub fn delegate(&self) -> Option<Arc<dyn WebSocketDelegate>> {
        self.0.shared.delegate()
    }

    /// `delegateQueue`.
    pub fn delegate_queue(&self) -> OperationQueue {
        self.0.shared.queue.clone()
    }

    /// `sessionDescription`: a label for the application's use.
    pub fn session_description(&self) -> Option<String> {
        self.0.shared.description.lock().clone()
    }

    /// `sessionDescription`.
    pub fn set_session_description(&self, description: Option<&str>) {
        *self.0.shared.description.lock() = description.map(str::to_owned);
    }

    /// `finishTasksAndInvalidate()`: returns at once. Tasks run to their end, and every [`flush`](Self::flush) and
    /// [`reset`](Self::reset) is told; then comes `did_become_invalid_with_error`, and delegate, threads and handlers are
    /// let go. A task that is made later ends when it is resumed, with
    /// [`ErrorCode::Cancelled`](crate::ErrorCode::Cancelled).
    pub fn finish_tasks_and_invalidate(&self) {
        self.0.shared.invalidate();
    }

    /// `invalidateAndCancel()`: cancels every task, then as
    /// [`finish_tasks_and_invalidate`](Self::finish_tasks_and_invalidate). A task that closes after
    /// [`cancel_with`](WebSocketTask::cancel_with) is cancelled already: it goes on with that, for
    /// [`close_timeout`](crate::WebSocketOptions::close_timeout) at most.
    pub fn invalidate_and_cancel(&self) {
        if !self.0.shared.everlasting {
            self.0.shared.invalidate();
            for task in self.0.shared.tasks() {
                task.cancel();
            }
        }
    }

    /// `reset(completionHandler:)`: empties the cookie storage and the credential storage of the configuration (the
    /// shared ones, too, where the session has those) and forgets what else later tasks would reuse (where credentials
    /// were good, TLS sessions); then it is as [`flush`](Self::flush): cookies that were kept on disk are gone from there
    /// before the handler is called. Open sockets stay.
    pub fn reset(&self, completion_handler: impl FnOnce() + Send + 'static) {
        if let Some(storage) = &self.0.shared.configuration.http_cookie_storage {
            storage.clear();
        }
        if let Some(storage) = &self.0.shared.configuration.url_credential_storage {
            storage.clear();
        }
        self.0.shared.common.forget_credentials();
        self.flush(completion_handler);
    }

    /// `flush(completionHandler:)`: cookies of a storage that is [kept on disk](crate::HttpCookieStorage::open) are written,
    /// later tasks make new TLS sessions, and then the handler is called on the delegate queue. It is called where the
    /// file cannot be written, too: [`HttpCookieStorage::flush`](crate::HttpCookieStorage::flush) tells why.
    ///
    /// The call does not wait for the disk; a thread does, one for the session. (Where none can be started, the call
    /// waits.) Handlers of `flush` and `reset` come in the order of the calls. A session that is invalidated meanwhile,
    /// or loses its last handle, tells its end behind them.
    pub fn flush(&self, completion_handler: impl FnOnce() + Send + 'static) {
        let shared = Arc::clone(&self.0.shared);
        shared.common.forget_tls();
        shared.registry.lock().flushes += 1;
        self.0.shared.flushes.after(move || {
            shared.announce(completion_handler);
            shared.flushed();
        });
    }

    /// `getAllTasks(completionHandler:)`: the tasks that have not completed when the handler is called, on the delegate queue;
    /// those never resumed too, in the order in which they were made.
    pub fn get_all_tasks(&self, completion_handler: impl FnOnce(Vec<SessionTask>) + Send + 'static) {
        let shared = Arc::clone(&self.0.shared);
        self.0.shared.announce(move || {
            // One whose end is being told is still in the registry, and has completed.
            let mut tasks = shared.tasks();
            tasks.retain(|task| task.state() != TaskState::Completed);
            completion_handler(tasks);
        });
    }

    /// Runs things on the delegate queue, one after the other.
    pub(crate) fn announcer(&self) -> Announcer {
        Announcer::new(Arc::downgrade(&self.0.shared))
    }

    /// The end of the session comes behind somebody who hears of the invalidation, until that one
    /// [leaves](Self::detach). `None` where the session is invalidated already.
    pub(crate) fn attach(&self, dependent: Weak<dyn Dependent>) -> Option<usize> {
        let mut registry = self.0.shared.registry.lock();
        (registry.end == End::Open).then(|| registry.dependents.insert(dependent))
    }

    /// The end of the session need not wait any longer for whoever was [attached](Self::attach) in this place.
    pub(crate) fn detach(&self, place: usize) {
        let mut registry = self.0.shared.registry.lock();
        drop(registry.dependents.try_remove(place));
        self.0.shared.finish_if_done(registry);
    }
}

impl PartialEq for UrlSession {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0.shared, &other.0.shared)
    }
}

impl Eq for UrlSession {}

impl Hash for UrlSession {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0.shared).hash(state);
    }
}

impl fmt::Debug for UrlSession {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("UrlSession")
            .field("session_description", &self.session_description())
            .field("delegate_queue", &self.0.shared.queue)
            .field("configuration", &self.0.shared.configuration)
            .finish_non_exhaustive()
    }
}

/// What a session's handles and its tasks share.
pub(super) struct SessionShared {
    configuration: SessionConfiguration,
    /// What the loaders of all tasks share.
    common: Arc<Common>,
    /// Handlers that wait for the disk.
    flushes: Arc<Flushes>,
    /// Many tasks are made from one address.
    requests: Recent<UrlRequest>,
    pub(super) queue: OperationQueue,
    pub(super) reactor: Reactor,
    /// The thread of the queue may poll for the reactor.
    has_helm: bool,
    delegate: Mutex<Option<Arc<dyn WebSocketDelegate>>>,
    /// The methods that the delegate is known not to have.
    lacking: AtomicU16,
    description: Mutex<Option<String>>,
    registry: Mutex<Registry>,
    announcer: Announcer,
    handle: Mutex<Weak<Handle>>,
    /// The shared session.
    everlasting: bool,
    /// Which session of the process it is.
    #[cfg(feature = "tracing")]
    pub(super) number: u64,
    myself: Weak<Self>,
}

/// Somebody of this crate who makes tasks until the session is invalidated.
pub(crate) trait Dependent: Send + Sync {
    /// Tasks that are made from now on come too late. Called on any thread, without a lock.
    fn session_is_invalidated(self: Arc<Self>);
}

/// How many sessions there were.
#[cfg(feature = "tracing")]
static SESSIONS: AtomicU64 = AtomicU64::new(0);

/// Where the registry does not have a task. (It has no room for so many.)
const NO_PLACE: u32 = u32::MAX;

struct Registry {
    /// Tasks that have not ended, each in its place. One that was never resumed goes with its last handle.
    tasks: Slab<Weak<TaskShared>>,
    last_identifier: usize,
    /// Calls of `flush` and `reset` whose handlers are not on their way.
    flushes: usize,
    dependents: Slab<Weak<dyn Dependent>>,
    end: End,
}

/// How far the invalidation is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    /// Waits for the tasks, the flushes and the dependents.
    Finishing,
    /// `did_become_invalid_with_error` is on its way, or was told.
    Told,
}

impl SessionShared {
    /// A handle for user code. One that is made after the last was dropped revives nothing: the session is invalidated.
    pub(super) fn handle(&self) -> UrlSession {
        let mut handle = self.handle.lock();
        if let Some(handle) = handle.upgrade() {
            return UrlSession(handle);
        }
        // Whoever has `&self` has it from an `Arc`.
        let shared = self.myself.upgrade().expect("a session is always behind an Arc");
        let new = Arc::new(Handle { shared });
        *handle = Arc::downgrade(&new);
        UrlSession(new)
    }

    fn delegate(&self) -> Option<Arc<dyn WebSocketDelegate>> {
        self.delegate.lock().clone()
    }

    pub(super) fn has_delegate(&self) -> bool {
        self.delegate.lock().is_some()
    }

    /// Whom tasks tell with this method, if the delegate has it. Nobody once the end of the session is on its way, which is to
    /// be the last word: of tasks that are made from then on it says nothing.
    pub(super) fn delegate_with(&self, method: Method) -> Option<Arc<dyn WebSocketDelegate>> {
        if self.lacking.load(Ordering::Relaxed) & method.bit() != 0 {
            return None;
        }
        let told = self.registry.lock().end == End::Told;
        if told { None } else { self.delegate() }
    }

    /// The delegate's type leaves this method at its default: it need not be called again.
    pub(super) fn delegate_lacks(&self, method: Method) {
        self.lacking.fetch_or(method.bit(), Ordering::Relaxed);
    }

    fn make_task(&self, request: UrlRequest, extras: Option<Box<Extras>>) -> WebSocketTask {
        let mut mark = DefaultHasher::new();
        request.url.hash(&mut mark);
        let request = self.requests.share(mark.finish(), request);
        let settings = Settings {
            request,
            common: Arc::clone(&self.common),
            epoch: Epoch { instant: Instant::now(), date: SystemTime::now() },
        };
        let connection = Connection::new(Loader::new(settings, MAXIMUM_MESSAGE_SIZE), &self.reactor);
        let session = self.handle();
        let task = {
            let mut registry = self.registry.lock();
            registry.last_identifier += 1;
            let identifier = registry.last_identifier;
            let late = registry.end != End::Open;
            // A task that is too late is told of, too, before the session is invalid.
            let told = registry.end == End::Told;
            let place = |task: &Weak<TaskShared>| match told {
                true => NO_PLACE,
                false => u32::try_from(registry.tasks.insert(task.clone())).unwrap_or(NO_PLACE),
            };
            let task = TaskShared::new(identifier, Arc::clone(&session.0.shared), connection, late, extras, place);
            WebSocketTask::new(SessionTask { shared: task })
        };
        if let Some(delegate) = self.delegate_with(Method::DidCreateTask) {
            let mut implemented = Implemented::Yes;
            guarded(|| {
                implemented =
                    implements(&*delegate, Method::DidCreateTask, || delegate.did_create_task(&session, &task));
            });
            if implemented == Implemented::Never {
                self.delegate_lacks(Method::DidCreateTask);
            }
        }
        task
    }

    /// Whether the delegate has a method that is asked about certificates, as far as is known.
    pub(super) fn may_be_challenged(&self) -> bool {
        let methods = [Method::DidReceiveChallenge, Method::TaskDidReceiveChallenge];
        methods.into_iter().any(|method| self.delegate_with(method).is_some())
    }

    /// The tasks that have not ended.
    fn tasks(&self) -> Vec<SessionTask> {
        let tasks: Vec<Weak<TaskShared>> = self.registry.lock().tasks.iter().map(|(_, task)| task.clone()).collect();
        let mut tasks: Vec<_> = tasks.iter().filter_map(Weak::upgrade).map(|shared| SessionTask { shared }).collect();
        tasks.sort_unstable_by_key(SessionTask::task_identifier);
        tasks
    }

    /// A task has told its end, or was given up before it began.
    pub(super) fn ended(&self, task: &TaskShared) {
        let mut registry = self.registry.lock();
        let place = task.place as usize;
        // Another task may have its place by now.
        if registry.tasks.get(place).is_some_and(|known| ptr::eq(known.as_ptr(), task)) {
            drop(registry.tasks.remove(place));
        }
        self.finish_if_done(registry);
    }

    /// The handler of a `flush` or `reset` is on its way.
    fn flushed(&self) {
        let mut registry = self.registry.lock();
        registry.flushes -= 1;
        self.finish_if_done(registry);
    }

    /// The handlers of a task that was given up before it was resumed.
    pub(super) fn abandoned(&self, handlers: Vec<Callback>) {
        let is_handler =
            |callback: &Callback| matches!(callback, Callback::Sent(..) | Callback::Received(..) | Callback::Pong(..));
        if handlers.iter().any(is_handler) {
            self.announce(move || handlers.into_iter().for_each(answer));
        }
    }

    fn invalidate(&self) {
        if self.everlasting {
            return;
        }
        let mut registry = self.registry.lock();
        let mut dependents = Vec::new();
        if registry.end == End::Open {
            registry.end = End::Finishing;
            dependents.extend(registry.dependents.iter().map(|(_, dependent)| dependent.clone()));
        }
        self.finish_if_done(registry);
        for dependent in dependents.iter().filter_map(Weak::upgrade) {
            dependent.session_is_invalidated();
        }
    }

    /// Tells the end of the session once the last task is gone, no handler waits for the disk, and nobody would make tasks: the
    /// end is the last word.
    fn finish_if_done(&self, mut registry: parking_lot::MutexGuard<'_, Registry>) {
        let is_done = registry.tasks.is_empty() && registry.flushes == 0 && registry.dependents.is_empty();
        if registry.end != End::Finishing || !is_done {
            return;
        }
        registry.end = End::Told;
        drop(registry);
        let Some(shared) = self.myself.upgrade() else { return };
        self.announce(move || shared.become_invalid());
    }

    /// The session's last word; then it lets go of everything.
    fn become_invalid(&self) {
        let delegate = self.delegate();
        if let Some(delegate) = delegate {
            let session = self.handle();
            guarded(|| {
                implements(&*delegate, Method::DidBecomeInvalid, || {
                    delegate.did_become_invalid_with_error(&session, None);
                });
            });
        }
        let delegate = self.delegate.lock().take();
        guarded(|| drop(delegate));
        self.common.forget_tls();
        self.reactor.retire();
        self.queue.release_idle_threads();
    }

    /// Runs something on the delegate queue, behind what the session announced before.
    fn announce(&self, announcement: impl FnOnce() + Send + 'static) {
        self.announcer.announce(announcement);
    }

    /// Puts callbacks on the delegate queue; those of an immediate queue are for the reactor, unless it is suspended.
    pub(super) fn enqueue(self: Arc<Self>, callbacks: Arc<impl Lane + Work + 'static>, more: bool) -> Scheduled {
        if !self.queue.is_immediate() {
            return match self.queue.schedule(callbacks, more) {
                Some(slept) if self.has_helm => Scheduled::ForOnlyThread { slept },
                _ => Scheduled::Queued,
            };
        }
        if self.queue.is_suspended() {
            self.queue.clone().schedule(Arc::new(Held { session: self, work: callbacks }), more);
            return Scheduled::Queued;
        }
        Scheduled::ForReactor(callbacks)
    }

    /// [`enqueue`](Self::enqueue), from any thread.
    pub(super) fn put_on_queue(self: Arc<Self>, callbacks: Arc<impl Lane + Work + 'static>) {
        if let Scheduled::ForReactor(work) = Arc::clone(&self).enqueue(callbacks, false) {
            self.reactor.post(work);
        }
    }
}

/// Callbacks that a suspended immediate queue keeps. The reactor gets them when the queue is resumed.
struct Held {
    session: Arc<SessionShared>,
    work: Arc<dyn Work>,
}

impl Lane for Held {
    fn run(self: Arc<Self>) -> LaneRun {
        self.session.reactor.post(Arc::clone(&self.work));
        LaneRun { ran: 0, again: false }
    }

    fn waiting(&self) -> usize {
        1
    }
}
