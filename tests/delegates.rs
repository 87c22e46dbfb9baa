//! Delegates: whom a callback goes to, when they are let go, and what a panic or an endless loop in a callback does.

mod support;

use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Once};
use std::thread;

use support::echo::EchoServer;
use support::hooks::{Called, eventually, hooks};
use support::{PATIENCE, Server, recorded_session, recorder};
use urlsession::{
    CloseCode, OperationQueue, SessionConfiguration, SessionDelegate, SessionTask, TaskDelegate, TaskMetrics,
    TaskState, UrlError, UrlSession, WebSocketDelegate, WebSocketTask,
};

/// What a test throws.
const PANIC: &str = "a panic of a callback, on purpose";

/// How many panics of the tests were reported by the panic hook, for which it prints nothing.
static REPORTED: AtomicUsize = AtomicUsize::new(0);

fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<&str>() == Some(&PANIC) {
                REPORTED.fetch_add(1, Ordering::SeqCst);
            } else {
                before(info);
            }
        }));
    });
}

/// An own delegate of a task that has two of the methods.
struct OpenAndClose(Sender<String>);

impl SessionDelegate for OpenAndClose {}
impl TaskDelegate for OpenAndClose {}
impl WebSocketDelegate for OpenAndClose {
    fn did_open_with_protocol(&self, _session: &UrlSession, task: &WebSocketTask, protocol: Option<&str>) {
        self.0.send(format!("own open {protocol:?}")).unwrap();
        task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
    }

    fn did_close_with(&self, _session: &UrlSession, _task: &WebSocketTask, code: CloseCode, _reason: Option<&[u8]>) {
        self.0.send(format!("own close {code}")).unwrap();
    }
}

/// One that has only the last.
struct CompleteOnly(Sender<String>);

impl SessionDelegate for CompleteOnly {}
impl TaskDelegate for CompleteOnly {
    fn did_complete_with_error(&self, _session: &UrlSession, _task: &SessionTask, error: Option<&UrlError>) {
        self.0.send(format!("own complete {error:?}")).unwrap();
    }
}
impl WebSocketDelegate for CompleteOnly {}

/// One that has nothing.
struct Nothing;

impl SessionDelegate for Nothing {}
impl TaskDelegate for Nothing {}
impl WebSocketDelegate for Nothing {}

#[test]
fn a_tasks_own_delegate_is_asked_first_and_the_sessions_for_the_rest() {
    let server = EchoServer::start_with(b"HTTP/1.1 103 Early Hints\r\n\r\n", b"");
    let (sender, receiver) = mpsc::channel();
    let delegates: [(Arc<dyn WebSocketDelegate>, &[&str]); 3] = [
        (
            Arc::new(OpenAndClose(sender.clone())),
            &["informational 103", "own open None", "own close 1000", "metrics", "complete"],
        ),
        (
            Arc::new(CompleteOnly(sender.clone())),
            &["informational 103", "open", "close 1000", "metrics", "own complete None"],
        ),
        (Arc::new(Nothing), &["informational 103", "open", "close 1000", "metrics", "complete"]),
    ];
    let session = UrlSession::with_delegate(
        SessionConfiguration::default(),
        Some(hooks(move |_, task, called| {
            let name = called.name();
            match called {
                Called::Informational(response) => sender.send(format!("{name} {}", response.status_code())).unwrap(),
                Called::Close(code, _) => sender.send(format!("{name} {code}")).unwrap(),
                Called::Create => {}
                _ => sender.send(name.to_owned()).unwrap(),
            }
            if let (Called::Open(_), Some(task)) = (called, task) {
                task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
            }
        })),
        None,
    );
    for (delegate, expected) in delegates {
        let task = session.web_socket_task(server.url());
        task.set_delegate(Some(delegate));
        task.resume();
        for event in expected {
            assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), *event);
        }
    }
    session.finish_tasks_and_invalidate();
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), "invalid");
}

#[test]
fn a_tasks_own_delegate_needs_none_of_the_session() {
    let server = EchoServer::start();
    let session = UrlSession::new(SessionConfiguration::default());
    let (own, events) = recorder();
    let task = session.web_socket_task(server.url());
    task.set_delegate(Some(own.clone()));
    task.resume();
    events.wait_for("open");
    session.invalidate_and_cancel();
    events.expect(&["open None", "complete -999"]);
    // The end of the session is no affair of a task's delegate.
    eventually("the delegate is let go", || Arc::strong_count(&own) == 1);
    assert!(!events.log().iter().any(|event| event.starts_with("invalid")));
}

#[test]
fn an_own_delegate_is_let_go_with_the_end_of_its_task() {
    let server = EchoServer::start();
    let (session, _, session_events) = recorded_session();
    let (own, events) = recorder();
    let task = session.web_socket_task(server.url());
    assert!(task.delegate().is_none());
    task.set_delegate(Some(own.clone()));
    assert!(task.delegate().is_some());
    task.resume();
    events.wait_for("open");
    assert!(task.delegate().is_some());
    task.cancel();
    events.wait_for("complete");
    eventually("the delegate is let go", || Arc::strong_count(&own) == 1);
    assert!(task.delegate().is_none());
    // One of a task that is never resumed goes with the task.
    let task = session.web_socket_task(server.url());
    task.set_delegate(Some(own.clone()));
    drop(task);
    assert_eq!(Arc::strong_count(&own), 1);
    // One of a task that is cancelled before it was resumed is told.
    let task = session.web_socket_task(server.url());
    task.set_delegate(Some(own.clone()));
    task.cancel();
    events.wait_for("complete -999");
    eventually("the delegate is let go", || Arc::strong_count(&own) == 1);
    assert!(session_events.log().is_empty());
}

#[test]
fn an_own_delegate_is_set_before_the_first_resume_or_not_at_all() {
    let server = EchoServer::start();
    let (first, _first_events) = recorder();
    let (second, events) = recorder();
    let (third, third_events) = recorder();
    let session = UrlSession::new(SessionConfiguration::default());
    let task = session.web_socket_task(server.url());
    task.set_delegate(Some(first.clone()));
    task.set_delegate(Some(second.clone()));
    assert_eq!(Arc::strong_count(&first), 1);
    task.resume();
    task.set_delegate(Some(third.clone()));
    task.set_delegate(None);
    task.suspend();
    task.set_delegate(Some(third.clone()));
    task.resume();
    events.wait_for("open");
    task.set_delegate(None);
    task.cancel();
    events.wait_for("complete -999");
    eventually("the delegate is let go", || Arc::strong_count(&second) == 1);
    task.set_delegate(Some(third.clone()));
    assert_eq!(Arc::strong_count(&third), 1);
    assert!(third_events.log().is_empty());
    // A task that was never resumed may be given one, and have it taken away.
    let task = session.web_socket_task(server.url());
    task.set_delegate(Some(third));
    task.set_delegate(None);
    task.resume();
    task.cancel();
    eventually("the end", || task.state() == TaskState::Completed);
    assert!(third_events.log().is_empty());
}

#[test]
fn did_create_task_may_give_the_task_its_delegate() {
    let server = EchoServer::start();
    let (own, events) = recorder();
    let giving = Arc::clone(&own);
    let delegate = hooks(move |_, task, called| {
        if let (Called::Create, Some(task)) = (called, task) {
            task.set_delegate(Some(giving.clone()));
        }
    });
    let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), None);
    let task = session.web_socket_task(server.url());
    task.resume();
    events.wait_for("open");
    task.cancel();
    events.expect(&["open None", "complete -999"]);
}

/// Where user code runs.
const PLACES: [&str; 12] = [
    "create",
    "informational",
    "open",
    "sent",
    "received",
    "ponged",
    "close",
    "metrics",
    "complete",
    "invalid",
    "tasks",
    "reset",
];

#[test]
fn a_panic_anywhere_changes_nothing_else() {
    quiet_panics();
    let server = EchoServer::start_with(b"HTTP/1.1 103 Early Hints\r\n\r\n", b"");
    let queues: [fn() -> Option<OperationQueue>; 3] =
        [|| None, || Some(OperationQueue::new()), || Some(OperationQueue::immediate())];
    for place in PLACES.into_iter().chain(["nowhere"]) {
        for queue in queues {
            let (sender, receiver) = mpsc::channel();
            let thrown = Arc::new(AtomicUsize::new(0));
            let note = {
                let thrown = Arc::clone(&thrown);
                move |name: &'static str| {
                    sender.send(name).unwrap();
                    if name == place {
                        thrown.fetch_add(1, Ordering::SeqCst);
                        panic::panic_any(PANIC);
                    }
                }
            };
            let reported = REPORTED.load(Ordering::SeqCst);
            let delegate = hooks({
                let note = note.clone();
                move |_, _, called| note(called.name())
            });
            let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate.clone()), queue());
            let task = session.web_socket_task(server.url());
            let (one, two, three) = (note.clone(), note.clone(), note.clone());
            task.send("x", move |result| one(if result.is_ok() { "sent" } else { "failed" }));
            task.receive(move |result| two(if result.is_ok() { "received" } else { "failed" }));
            task.send_ping(move |result| three(if result.is_ok() { "ponged" } else { "failed" }));
            task.resume();
            let mut log = Vec::new();
            let until = |log: &mut Vec<&str>, names: &[&str]| {
                while !names.iter().all(|name| log.contains(name)) {
                    let event = receiver.recv_timeout(PATIENCE);
                    log.push(event.unwrap_or_else(|_| panic!("{place}: nothing comes after {log:?}")));
                }
            };
            until(&mut log, &["create", "informational", "open", "sent", "received", "ponged"]);
            let (one, two) = (note.clone(), note.clone());
            session.get_all_tasks(move |tasks| {
                assert_eq!(tasks.len(), 1);
                one("tasks");
            });
            session.reset(move || two("reset"));
            until(&mut log, &["tasks", "reset"]);
            task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
            session.finish_tasks_and_invalidate();
            until(&mut log, &["invalid"]);
            assert_eq!(log[log.len() - 4..], ["close", "metrics", "complete", "invalid"], "{place}");
            assert_eq!(log.len(), 12, "{place}: {log:?}");
            eventually("the delegate is let go", || Arc::strong_count(&delegate) == 1);
            assert_eq!(thrown.load(Ordering::SeqCst), usize::from(place != "nowhere"));
            assert!(REPORTED.load(Ordering::SeqCst) - reported >= thrown.load(Ordering::SeqCst));
        }
    }
}

#[test]
fn a_delegate_that_panics_is_not_passed_over() {
    quiet_panics();
    let server = EchoServer::start();
    let (session, _, session_events) = recorded_session();
    let (sender, receiver) = mpsc::channel();
    let own = hooks(move |_, _, called| {
        sender.send(called.name()).unwrap();
        panic::panic_any(PANIC);
    });
    let task = session.web_socket_task(server.url());
    task.set_delegate(Some(own));
    task.resume();
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), "open");
    task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
    for name in ["close", "metrics", "complete"] {
        assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), name);
    }
    session.finish_tasks_and_invalidate();
    session_events.wait_for("invalid");
    assert_eq!(session_events.log(), ["invalid None"]);
}

/// Panics when it is dropped, and when it is told of an end.
struct Unpleasant {
    dropped: Sender<()>,
}

impl SessionDelegate for Unpleasant {}
impl TaskDelegate for Unpleasant {}
impl WebSocketDelegate for Unpleasant {}

impl Drop for Unpleasant {
    fn drop(&mut self) {
        self.dropped.send(()).unwrap();
        if !thread::panicking() {
            panic::panic_any(PANIC);
        }
    }
}

#[test]
fn a_delegate_that_panics_when_it_is_let_go_holds_nothing_up() {
    quiet_panics();
    let server = EchoServer::start();
    let (session, _, events) = recorded_session();
    let (dropped, receiver) = mpsc::channel();
    let task = session.web_socket_task(server.url());
    task.set_delegate(Some(Arc::new(Unpleasant { dropped: dropped.clone() })));
    task.resume();
    events.wait_for("open");
    task.cancel();
    events.wait_for("complete -999");
    receiver.recv_timeout(PATIENCE).unwrap();
    task.send_ping({
        let unpleasant = Unpleasant { dropped: dropped.clone() };
        move |_| drop(unpleasant)
    });
    receiver.recv_timeout(PATIENCE).unwrap();
    session.finish_tasks_and_invalidate();
    events.wait_for("invalid");
    // The session's own, too.
    let delegate = Arc::new(Unpleasant { dropped });
    let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), None);
    let (sender, over) = mpsc::channel();
    session.finish_tasks_and_invalidate();
    receiver.recv_timeout(PATIENCE).unwrap();
    session.get_all_tasks(move |_| sender.send(()).unwrap());
    over.recv_timeout(PATIENCE).unwrap();
}

/// Asks again whenever it was answered, for ever.
fn receive_for_ever(task: &WebSocketTask, count: &Arc<AtomicUsize>) {
    let (again, counting) = (task.clone(), Arc::clone(count));
    task.receive(move |_| {
        // A port that looks at no error. Its task must end all the same, and what the test leaves behind must stop.
        if counting.fetch_add(1, Ordering::SeqCst) < 1_000_000 && again.delegate().is_some() {
            receive_for_ever(&again, &counting);
        }
    });
}

fn send_for_ever(task: &WebSocketTask, count: &Arc<AtomicUsize>) {
    let (again, counting) = (task.clone(), Arc::clone(count));
    task.send("x", move |_| {
        if counting.fetch_add(1, Ordering::SeqCst) < 1_000_000 && again.delegate().is_some() {
            send_for_ever(&again, &counting);
        }
    });
}

fn ping_for_ever(task: &WebSocketTask, count: &Arc<AtomicUsize>) {
    let (again, counting) = (task.clone(), Arc::clone(count));
    task.send_ping(move |_| {
        if counting.fetch_add(1, Ordering::SeqCst) < 1_000_000 && again.delegate().is_some() {
            ping_for_ever(&again, &counting);
        }
    });
}

#[test]
fn a_handler_that_asks_again_after_each_failure_does_not_keep_the_task_from_ending() {
    type Loop = fn(&WebSocketTask, &Arc<AtomicUsize>);
    let server = EchoServer::start();
    for (name, ask) in [("receive", receive_for_ever as Loop), ("send", send_for_ever), ("ping", ping_for_ever)] {
        let session = UrlSession::new(SessionConfiguration::default());
        // The own delegate is there until the task has told its end: by that the loop sees when to stop.
        let (own, events) = recorder();
        let task = session.web_socket_task(server.url());
        task.set_delegate(Some(own));
        let count = Arc::new(AtomicUsize::new(0));
        ask(&task, &count);
        task.resume();
        events.wait_for("open");
        task.cancel();
        events.wait_for("complete -999");
        let asked = count.load(Ordering::SeqCst);
        assert!(asked < 1_000_000, "{name}: the end was told after {asked} failures");
    }
}

#[test]
fn a_server_that_is_gone_fails_only_its_own_task() {
    let server = EchoServer::start();
    let (session, recorder, events) = recorded_session();
    let good = session.web_socket_task(server.url());
    good.resume();
    events.wait_for("open");
    let nobody = Server::many(0, |_, _| ());
    let url = nobody.url();
    nobody.join();
    let refused = session.web_socket_task(url);
    refused.resume();
    events.wait_for("complete -1004");
    good.send("x", recorder.handler("send"));
    good.receive(recorder.receiver("receive"));
    assert_eq!(events.wait_for("receive"), "receive string x");
    session.invalidate_and_cancel();
    events.wait_for("invalid");
}

/// Hands on to a delegate that leaves the methods at their defaults, and does something of its own besides.
struct Counting {
    inner: Nothing,
    metrics: AtomicUsize,
    ended: Sender<usize>,
}

impl SessionDelegate for Counting {}
impl TaskDelegate for Counting {
    fn did_finish_collecting_metrics(&self, session: &UrlSession, task: &SessionTask, metrics: &TaskMetrics) {
        self.metrics.fetch_add(1, Ordering::Relaxed);
        self.inner.did_finish_collecting_metrics(session, task, metrics);
    }

    fn did_complete_with_error(&self, session: &UrlSession, task: &SessionTask, error: Option<&UrlError>) {
        self.inner.did_complete_with_error(session, task, error);
        self.ended.send(self.metrics.load(Ordering::Relaxed)).unwrap();
    }
}
impl WebSocketDelegate for Counting {
    fn did_open_with_protocol(&self, _: &UrlSession, task: &WebSocketTask, _: Option<&str>) {
        task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
    }
}

#[test]
fn a_delegate_that_hands_on_to_defaults_hears_of_every_task() {
    let server = EchoServer::start();
    let (ended, ends) = mpsc::channel();
    let delegate = Counting { inner: Nothing, metrics: AtomicUsize::new(0), ended };
    let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(Arc::new(delegate)), None);
    for number in 1..=3 {
        session.web_socket_task(server.url()).resume();
        assert_eq!(ends.recv_timeout(PATIENCE), Ok(number));
    }
    session.invalidate_and_cancel();
}
