//! When the crate lets go of what it was given: each handler with its call, a task's own delegate with the end of the task,
//! the session's with the end of the session, and threads and descriptors then, too.

mod support;

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use support::echo::EchoServer;
use support::hooks::eventually;
use support::origin::{Answer, Origin, redirect, unauthorized};
use support::{PATIENCE, Server};
use urlsession::{
    AuthChallengeDisposition, AuthenticationChallenge, ChallengeHandler, CloseCode, HttpUrlResponse, OperationQueue,
    RedirectionHandler, SessionConfiguration, SessionDelegate, SessionTask, TaskDelegate, TaskMetrics, UrlError,
    UrlRequest, UrlSession, WebSocketDelegate, WebSocketTask,
};

/// How long the absence of something is waited for.
const MOMENT: Duration = Duration::from_millis(50);

/// Within which threads end that are let go: those that merely find nothing to do end after ten seconds.
const SOON: Duration = Duration::from_secs(9);

/// One test at a time: threads and descriptors are counted for the whole process, and there is one main queue.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Says when it is dropped.
struct Guard {
    name: String,
    sender: Sender<String>,
}

impl Guard {
    fn note(&self, event: &str) {
        let _ = self.sender.send(format!("{} {event}", self.name));
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.note("dropped");
    }
}

fn guards() -> (impl Fn(&str) -> Guard + Clone + Send + Sync + 'static, Receiver<String>) {
    let (sender, receiver) = mpsc::channel();
    (move |name: &str| Guard { name: name.to_owned(), sender: sender.clone() }, receiver)
}

/// The events up to `last`, itself included.
#[track_caller]
fn until(receiver: &Receiver<String>, last: &str) -> Vec<String> {
    let mut log = Vec::new();
    while log.last().is_none_or(|event| event != last) {
        match receiver.recv_timeout(PATIENCE) {
            Ok(event) => log.push(event),
            Err(error) => panic!("{last}: {error} after {log:#?}"),
        }
    }
    log
}

/// Nothing is told or dropped for a moment.
#[track_caller]
fn expect_silence(receiver: &Receiver<String>) {
    assert_eq!(receiver.recv_timeout(MOMENT), Err(RecvTimeoutError::Timeout));
}

/// Tells everything, and keeps the boxes that it is given to answer.
struct Delegate {
    guard: Guard,
    boxes: Arc<Mutex<Vec<Kept>>>,
}

/// Only one of them is called; the other way to let them go is the drop.
enum Kept {
    Challenge(ChallengeHandler),
    Redirect(RedirectionHandler),
}

impl Delegate {
    fn new(guard: Guard) -> Arc<Self> {
        Arc::new(Self { guard, boxes: Arc::default() })
    }
}

impl SessionDelegate for Delegate {
    fn did_become_invalid_with_error(&self, _: &UrlSession, _: Option<&UrlError>) {
        self.guard.note("invalid");
    }
}

impl TaskDelegate for Delegate {
    fn will_perform_http_redirection(
        &self,
        _: &UrlSession,
        _: &SessionTask,
        _: &HttpUrlResponse,
        _: UrlRequest,
        handler: RedirectionHandler,
    ) {
        self.boxes.lock().unwrap().push(Kept::Redirect(handler));
        self.guard.note("asked");
    }

    fn task_did_receive_challenge(
        &self,
        _: &UrlSession,
        _: &SessionTask,
        _: &AuthenticationChallenge,
        handler: ChallengeHandler,
    ) {
        self.boxes.lock().unwrap().push(Kept::Challenge(handler));
        self.guard.note("asked");
    }

    fn did_finish_collecting_metrics(&self, _: &UrlSession, _: &SessionTask, _: &TaskMetrics) {
        self.guard.note("metrics");
    }

    fn did_complete_with_error(&self, _: &UrlSession, _: &SessionTask, _: Option<&UrlError>) {
        self.guard.note("complete");
    }
}

impl WebSocketDelegate for Delegate {
    fn did_open_with_protocol(&self, _: &UrlSession, _: &WebSocketTask, _: Option<&str>) {
        self.guard.note("open");
    }

    fn did_close_with(&self, _: &UrlSession, _: &WebSocketTask, _: CloseCode, _: Option<&[u8]>) {
        self.guard.note("close");
    }
}

type MakeQueue = fn() -> Option<OperationQueue>;

const QUEUES: [MakeQueue; 4] = [
    || None,
    || Some(OperationQueue::new()),
    || Some(OperationQueue::immediate()),
    || Some(OperationQueue::with_executor(|job| job())),
];

/// What a handler holds is gone before the next callback of its task; what a delegate holds goes right behind its last
/// call. The handles of session and task are still there.
#[test]
fn each_thing_is_let_go_at_its_moment() {
    let _alone = alone();
    for (number, queue) in QUEUES.into_iter().enumerate() {
        let (go, ready) = mpsc::channel::<()>();
        let server = Server::one(move |mut peer| {
            peer.open();
            let ping = peer.read_frame();
            peer.write(&support::frame(0x8a, &ping.payload));
            ready.recv_timeout(PATIENCE).unwrap();
            peer.text("hello");
            ready.recv_timeout(PATIENCE).unwrap();
            peer.close(1000, "");
            peer.read_close();
        });
        let (guard, receiver) = guards();
        let session =
            UrlSession::with_delegate(SessionConfiguration::default(), Some(Delegate::new(guard("session"))), queue());
        let task = session.web_socket_task(server.url());
        task.set_delegate(Some(Delegate::new(guard("own"))));
        let handler = |name: &str| {
            let guard = guard(name);
            move |ok: bool| guard.note(if ok { "ok" } else { "failed" })
        };
        let ponged = handler("ping");
        task.send_ping(move |result| ponged(result.is_ok()));
        task.resume();
        assert_eq!(until(&receiver, "ping dropped"), ["own open", "ping ok", "ping dropped"], "{number}");
        let sent = handler("send");
        task.send("hello", move |result| sent(result.is_ok()));
        assert_eq!(until(&receiver, "send dropped"), ["send ok", "send dropped"], "{number}");
        for name in ["first", "second", "third"] {
            let received = handler(name);
            task.receive(move |result| received(result.is_ok()));
        }
        go.send(()).unwrap();
        assert_eq!(until(&receiver, "first dropped"), ["first ok", "first dropped"], "{number}");
        let pinged = handler("ping");
        task.send_ping(move |result| pinged(result.is_ok()));
        // Those that wait are kept, and nothing else is.
        expect_silence(&receiver);
        go.send(()).unwrap();
        let mut log = until(&receiver, "own dropped");
        let told = ["own close", "own metrics", "own complete", "own dropped"];
        assert_eq!(log.split_off(log.len() - 4), told, "{number}: {log:#?}");
        // The kinds have an order each, and none among one another.
        let receives: Vec<&String> = log.iter().filter(|event| !event.starts_with("ping")).collect();
        assert_eq!(receives, ["second failed", "second dropped", "third failed", "third dropped"], "{number}");
        assert!(log.windows(2).any(|pair| pair == ["ping failed", "ping dropped"]), "{number}: {log:#?}");
        assert_eq!(log.len(), 6, "{number}: {log:#?}");
        server.join();
        // Too late, and so it fails; but it goes with its call like any other.
        let late = handler("late");
        task.receive(move |result| late(result.is_ok()));
        assert_eq!(until(&receiver, "late dropped"), ["late failed", "late dropped"], "{number}");
        let (all, flushed, reset) = (guard("all"), guard("flush"), guard("reset"));
        session.get_all_tasks(move |tasks| all.note(&tasks.len().to_string()));
        assert_eq!(until(&receiver, "all dropped"), ["all 0", "all dropped"], "{number}");
        session.flush(move || flushed.note("done"));
        assert_eq!(until(&receiver, "flush dropped"), ["flush done", "flush dropped"], "{number}");
        session.reset(move || reset.note("done"));
        assert_eq!(until(&receiver, "reset dropped"), ["reset done", "reset dropped"], "{number}");
        session.finish_tasks_and_invalidate();
        let told = ["session invalid", "session dropped"];
        assert_eq!(until(&receiver, "session dropped"), told, "{number}");
        assert!(session.delegate().is_none() && task.delegate().is_none());
    }
}

/// Messages that come together are told together: each receive finds the one before it gone all the same.
#[test]
fn a_row_of_receives_is_let_go_one_by_one() {
    let _alone = alone();
    for (number, queue) in QUEUES.into_iter().enumerate() {
        let (go, ready) = mpsc::channel::<()>();
        let server = Server::one(move |mut peer| {
            peer.open();
            ready.recv_timeout(PATIENCE).unwrap();
            peer.write(&support::frame(0x82, b"x").repeat(20));
            peer.read_close();
        });
        let (guard, receiver) = guards();
        let session =
            UrlSession::with_delegate(SessionConfiguration::default(), Some(Delegate::new(guard("session"))), queue());
        let task = session.web_socket_task(server.url());
        task.resume();
        until(&receiver, "session open");
        let mut expected = Vec::new();
        for name in (0..20).map(|number| number.to_string()) {
            expected.extend([format!("{name} ok"), format!("{name} dropped")]);
            let received = guard(&name);
            task.receive(move |result| received.note(if result.is_ok() { "ok" } else { "failed" }));
        }
        go.send(()).unwrap();
        assert_eq!(until(&receiver, "19 dropped"), expected, "{number}");
        session.invalidate_and_cancel();
        until(&receiver, "session dropped");
        server.join();
    }
}

/// An answer that never comes: the task is cancelled while its delegate, or somebody else, keeps the box. Nothing waits for
/// it: session and delegates go, and the box does nothing any more.
#[test]
fn a_box_that_is_kept_for_ever_keeps_nothing() {
    let _alone = alone();
    let before = Owned::at_rest();
    let origin = Origin::new(|request| match request.target() {
        "/old" => Answer::Keep(redirect(307, "/new")),
        _ => Answer::Keep(unauthorized(&["Basic realm=\"here\""])),
    });
    for path in ["/old", "/secret"] {
        for own in [false, true] {
            for inside in [false, true] {
                let what = format!("{path}, own {own}, inside {inside}");
                let (guard, receiver) = guards();
                let delegate = Delegate::new(guard("delegate"));
                // Kept inside the delegate, the box makes a ring: delegate, box, task, delegate.
                let outside = (!inside).then(|| Arc::clone(&delegate.boxes));
                let common = (!own).then(|| delegate.clone() as Arc<dyn WebSocketDelegate>);
                let session = UrlSession::with_delegate(SessionConfiguration::ephemeral(), common, None);
                let task = session.web_socket_task(origin.url(path));
                if own {
                    task.set_delegate(Some(delegate));
                } else {
                    drop(delegate);
                }
                task.resume();
                assert_eq!(until(&receiver, "delegate asked"), ["delegate asked"], "{what}");
                session.invalidate_and_cancel();
                let mut expected =
                    vec!["delegate metrics", "delegate complete", "delegate invalid", "delegate dropped"];
                expected.retain(|event| !own || *event != "delegate invalid");
                assert_eq!(until(&receiver, "delegate dropped"), expected, "{what}");
                before.is_reached_again(&what);
                // Nothing hears of the answer, or of its absence.
                for kept in outside.iter().flat_map(|boxes| boxes.lock().unwrap().drain(..).collect::<Vec<_>>()) {
                    match kept {
                        Kept::Challenge(handler) if own => {
                            handler(AuthChallengeDisposition::PerformDefaultHandling, None)
                        }
                        Kept::Redirect(handler) if own => handler(None),
                        kept => drop(kept),
                    }
                }
                before.is_reached_again(&what);
                drop((session, task));
                expect_silence(&receiver);
            }
        }
    }
    assert_eq!(origin.seen().len(), 8);
}

/// Threads of this crate, and descriptors that reactors have beside sockets (selector and waker).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owned {
    threads: usize,
    files: usize,
}

impl Owned {
    #[cfg(target_os = "linux")]
    fn now() -> Self {
        use std::fs;
        let tasks = fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
        let threads = names.filter(|name| name.starts_with("urlsession-")).count();
        let links = fs::read_dir("/proc/self/fd").unwrap().filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        let files = links.filter(|target| target.to_string_lossy().starts_with("anon_inode:")).count();
        Self { threads, files }
    }

    #[cfg(not(target_os = "linux"))]
    fn now() -> Self {
        Self { threads: 0, files: 0 }
    }

    /// What there is while no session and no queue has a thread; those of the test before may be about to end.
    #[track_caller]
    fn at_rest() -> Self {
        eventually("threads of the test before end", || Self::now().threads == 0);
        Self::now()
    }

    #[track_caller]
    fn is_reached_again(self, after: &str) {
        let deadline = Instant::now() + SOON;
        eventually(&format!("threads and files go after {after}"), || {
            let now = Self::now();
            assert!(Instant::now() < deadline, "{now:?}, not {self:?}, for too long after {after}");
            now == self
        });
    }
}

/// The threads and descriptors of one session, while another goes on.
#[test]
fn a_session_gives_back_what_is_its_own_while_another_goes_on() {
    let _alone = alone();
    let server = EchoServer::start();
    let nothing = Owned::at_rest();
    let (guard, receiver) = guards();
    let make = |name: &str| {
        let delegate = Delegate::new(guard(name));
        UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), None)
    };
    let one = make("one");
    let kept = one.web_socket_task(server.url());
    kept.resume();
    until(&receiver, "one open");
    let alone = Owned::now();
    assert_ne!(alone, nothing);
    for end in 0..4 {
        let other = make("other");
        let task = other.web_socket_task(server.url());
        task.resume();
        until(&receiver, "other open");
        assert!(Owned::now().threads > alone.threads || !cfg!(target_os = "linux"));
        let (session, task) = match end {
            0 => {
                other.invalidate_and_cancel();
                (Some(other), Some(task))
            }
            1 => {
                other.finish_tasks_and_invalidate();
                task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
                (Some(other), Some(task))
            }
            // Without a handle of the session.
            2 => {
                drop(other);
                task.cancel();
                (None, Some(task))
            }
            // Without any: the server is the one to end it.
            _ => {
                task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
                drop((other, task));
                (None, None)
            }
        };
        let told = until(&receiver, "other dropped");
        assert_eq!(told[told.len() - 3..], ["other complete", "other invalid", "other dropped"], "{end}");
        alone.is_reached_again("the other session");
        eventually("the server has lost one", || server.open() == 1);
        // The handles that are left own nothing.
        drop((session, task));
    }
    kept.send("still there", |_| ());
    let received = guard("received");
    kept.receive(move |result| received.note(if result.is_ok() { "ok" } else { "failed" }));
    assert_eq!(until(&receiver, "received dropped"), ["received ok", "received dropped"]);
    one.invalidate_and_cancel();
    until(&receiver, "one dropped");
    nothing.is_reached_again("both");
}

/// Tasks that were never resumed go with their handles, and what was asked of them with its failure; the session, whose last
/// handle goes too, with them.
#[test]
fn tasks_that_are_dropped_unresumed_give_everything_back() {
    let _alone = alone();
    let server = EchoServer::start();
    for (number, queue) in QUEUES.into_iter().enumerate() {
        let nothing = Owned::at_rest();
        let (guard, receiver) = guards();
        let delegate = Delegate::new(guard("session"));
        let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), queue());
        let tasks: Vec<WebSocketTask> = (0..3).map(|_| session.web_socket_task(server.url())).collect();
        for task in &tasks {
            task.set_delegate(Some(Delegate::new(guard("own"))));
            let (sent, received, ponged) = (guard("send"), guard("receive"), guard("ping"));
            task.send("never", move |result| sent.note(&result.unwrap_err().raw_code().to_string()));
            task.receive(move |result| received.note(&result.unwrap_err().raw_code().to_string()));
            task.send_ping(move |result| ponged.note(&result.unwrap_err().raw_code().to_string()));
        }
        assert_eq!(Owned::now(), nothing);
        drop(session);
        expect_silence(&receiver);
        drop(tasks);
        let mut log = until(&receiver, "session dropped");
        assert_eq!(log.split_off(log.len() - 2), ["session invalid", "session dropped"], "{number}");
        // The own delegates go on this thread, the handlers on the queue's: there is no order between them.
        let handlers: Vec<&String> = log.iter().filter(|event| *event != "own dropped").collect();
        assert_eq!(log.len() - handlers.len(), 3, "{number}: {log:#?}");
        for name in ["send", "receive", "ping"] {
            let pair = [format!("{name} -999"), format!("{name} dropped")];
            let pairs = handlers.chunks(2).filter(|events| *events[0] == pair[0] && *events[1] == pair[1]).count();
            assert_eq!(pairs, 3, "{number}: {log:#?}");
        }
        assert_eq!(handlers.len(), 3 * 6, "{number}: {log:#?}");
        nothing.is_reached_again("tasks that were never resumed");
    }
    assert_eq!(server.accepted(), 0);
}

/// Operations that are added by hand: gone when they have run, or with the queue that never ran them.
#[test]
fn operations_are_let_go_with_their_run_or_with_their_queue() {
    let _alone = alone();
    let nothing = Owned::at_rest();
    let makes: [fn() -> OperationQueue; 4] =
        [OperationQueue::new, OperationQueue::serial, OperationQueue::immediate, || {
            OperationQueue::with_executor(|job| job())
        }];
    for (number, make) in makes.into_iter().enumerate() {
        let (guard, receiver) = guards();
        let queue = make();
        let operation = guard("one");
        queue.add_operation(move || operation.note("ran"));
        assert_eq!(until(&receiver, "one dropped"), ["one ran", "one dropped"], "{number}");
        queue.set_suspended(true);
        let (operation, inside) = (guard("two"), queue.clone());
        queue.add_operation(move || operation.note("ran"));
        // What waits in a suspended queue waits, as long as anybody could resume it…
        drop(queue);
        expect_silence(&receiver);
        // …and no longer.
        drop(inside);
        assert_eq!(until(&receiver, "two dropped"), ["two dropped"], "{number}");
        // Of a queue that runs, the work is done after its last handle is gone; then its threads end.
        let queue = make();
        let operation = guard("three");
        queue.add_operation(move || operation.note("ran"));
        drop(queue);
        assert_eq!(until(&receiver, "three dropped"), ["three ran", "three dropped"], "{number}");
        nothing.is_reached_again("a queue");
    }
    // The executor itself goes with its queue.
    let (guard, receiver) = guards();
    let executor = guard("executor");
    let queue = OperationQueue::with_executor(move |job| {
        executor.note("called");
        job();
    });
    let operation = guard("operation");
    queue.add_operation(move || operation.note("ran"));
    drop(queue);
    let told = ["executor called", "operation ran", "operation dropped", "executor dropped"];
    assert_eq!(until(&receiver, "executor dropped"), told);
}

/// The application stops to pump its queue. The network's side goes at once all the same: the server sees the end of every
/// connection; what is to be told waits, and is let go when it is told.
#[test]
fn a_main_queue_that_is_not_pumped_any_more_keeps_what_is_to_be_told_and_no_socket() {
    let _alone = alone();
    let server = EchoServer::start();
    let main = OperationQueue::main();
    let nothing = Owned::at_rest();
    for cancel in [true, false] {
        let (guard, receiver) = guards();
        let delegate = Delegate::new(guard("session"));
        let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), Some(main.clone()));
        let task = session.web_socket_task(server.url());
        task.set_delegate(Some(Delegate::new(guard("own"))));
        task.resume();
        let opened = main.run_until(Instant::now() + PATIENCE, || receiver.try_recv().as_deref() == Ok("own open"));
        assert!(opened);
        let received = guard("receive");
        task.receive(move |result| received.note(&result.unwrap_err().raw_code().to_string()));
        // From here on nobody pumps.
        if cancel {
            session.invalidate_and_cancel();
        } else {
            task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
        }
        drop((session, task));
        eventually("the connection is closed", || server.open() == 0);
        expect_silence(&receiver);
        assert!(main.operation_count() > 0);
        // The program comes back to it.
        let mut log = Vec::new();
        let over = main.run_until(Instant::now() + PATIENCE, || {
            log.extend(receiver.try_iter());
            log.last().is_some_and(|event| event == "session dropped")
        });
        assert!(over, "{log:#?}");
        let mut expected = vec!["receive -999", "receive dropped", "own close", "own metrics", "own complete"];
        expected.extend(["own dropped", "session invalid", "session dropped"]);
        expected.retain(|event| !cancel || *event != "own close");
        assert_eq!(log, expected);
        nothing.is_reached_again("the main queue");
    }
}
