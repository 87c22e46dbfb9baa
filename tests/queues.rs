//! Where callbacks run: the thread and the order on every kind of operation queue.

mod support;

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Barrier, Mutex};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use support::echo::EchoServer;
use support::hooks::{Called, eventually, hooks};
use support::{PATIENCE, recorded_session, recorded_session_with};
use urlsession::{CloseCode, Message, OperationQueue, SessionConfiguration, UrlSession, WebSocketTask};

/// How long the absence of something is waited for.
const MOMENT: Duration = Duration::from_millis(50);

const REACTOR: &str = "urlsession-reactor";

#[track_caller]
fn wait<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(PATIENCE).expect("something in time")
}

thread_local! {
    /// This thread is inside a call of this crate that a test makes.
    static IN_CALL: Cell<bool> = const { Cell::new(false) };
    /// How many callbacks this thread is in.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Makes a call of the crate, in which no user code may run.
fn call<R>(make: impl FnOnce() -> R) -> R {
    let before = IN_CALL.replace(true);
    let result = make();
    IN_CALL.set(before);
    result
}

/// What the callbacks of one run did.
#[derive(Default)]
struct Watch {
    threads: Mutex<HashSet<(ThreadId, Option<String>)>>,
    log: Mutex<Vec<String>>,
    /// A callback of the task runs.
    busy: AtomicBool,
    faults: Mutex<Vec<String>>,
}

impl Watch {
    /// To be called in every callback of one task: notes its name, and what must not be.
    fn callback(&self, name: impl Into<String>) {
        let name = name.into();
        let mut faults = self.faults.lock().unwrap();
        if IN_CALL.get() {
            faults.push(format!("{name} runs inside a call"));
        }
        if DEPTH.get() > 0 {
            faults.push(format!("{name} runs inside another callback"));
        }
        if self.busy.swap(true, Ordering::SeqCst) {
            faults.push(format!("{name} runs beside another callback"));
        }
        drop(faults);
        DEPTH.set(DEPTH.get() + 1);
        let thread = thread::current();
        self.threads.lock().unwrap().insert((thread.id(), thread.name().map(str::to_owned)));
        self.log.lock().unwrap().push(name);
        thread::yield_now();
    }

    fn done(&self) {
        DEPTH.set(DEPTH.get() - 1);
        self.busy.store(false, Ordering::SeqCst);
    }
}

/// A task with sends, receives and pings of every origin (before the start, from a thread of the user's, from callbacks)
/// and a close. `pump` is called again and again until all is over.
fn run_watched(queue: Option<OperationQueue>, mut pump: impl FnMut()) -> Arc<Watch> {
    const ROUNDS: usize = 30;
    let server = EchoServer::start_with(b"HTTP/1.1 103 Early Hints\r\n\r\n", b"");
    let watch = Arc::new(Watch::default());
    let over = Arc::new(AtomicUsize::new(0));
    let delegate = hooks({
        let (watch, over) = (Arc::clone(&watch), Arc::clone(&over));
        move |session, task, called| {
            if let Called::Create = called {
                return;
            }
            watch.callback(called.name());
            if let (Called::Open(_), Some(task)) = (called, task) {
                // From inside a callback: every kind of call.
                call(|| {
                    task.send_ping(|_| ());
                    session.get_all_tasks(|_| ());
                    task.suspend();
                    task.resume();
                });
            }
            if let Called::Invalid(_) = called {
                over.store(1, Ordering::SeqCst);
            }
            watch.done();
        }
    });
    let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), queue);
    let task = session.web_socket_task(server.url());
    let sent = |number: usize| {
        let watch = Arc::clone(&watch);
        move |result: Result<(), _>| {
            watch.callback(format!("sent {number} {}", result.is_ok()));
            watch.done();
        }
    };
    let received = Arc::new(AtomicUsize::new(0));
    fn receive(task: &WebSocketTask, watch: &Arc<Watch>, received: &Arc<AtomicUsize>) {
        let (again, watching, counting) = (task.clone(), Arc::clone(watch), Arc::clone(received));
        task.receive(move |result| {
            match &result {
                Ok(Message::String(text)) => watching.callback(format!("received {text}")),
                _ => watching.callback("received no more"),
            }
            if result.is_ok() {
                counting.fetch_add(1, Ordering::SeqCst);
                call(|| receive(&again, &watching, &counting));
            }
            watching.done();
        });
    }
    call(|| {
        receive(&task, &watch, &received);
        for number in 0..ROUNDS / 2 {
            task.send(number.to_string(), sent(number));
        }
        task.resume();
    });
    eventually("the first half", || {
        pump();
        received.load(Ordering::SeqCst) == ROUNDS / 2
    });
    // On the open socket the caller's own thread writes, and knows at once that it did: the handler waits all the same.
    for number in ROUNDS / 2..ROUNDS {
        call(|| task.send(number.to_string(), sent(number)));
        thread::yield_now();
    }
    eventually("all messages", || {
        pump();
        received.load(Ordering::SeqCst) == ROUNDS
    });
    call(|| {
        task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
        session.finish_tasks_and_invalidate();
    });
    eventually("the end", || {
        pump();
        over.load(Ordering::SeqCst) == 1
    });
    // What fails at once fails on the queue, too.
    let late = Arc::new(AtomicUsize::new(0));
    call(|| {
        for _ in 0..10 {
            let (watching, counting) = (Arc::clone(&watch), Arc::clone(&late));
            task.send_ping(move |result| {
                watching.callback(format!("late {}", result.is_ok()));
                watching.done();
                counting.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    eventually("late calls fail", || {
        pump();
        late.load(Ordering::SeqCst) == 10
    });
    let faults = watch.faults.lock().unwrap();
    assert!(faults.is_empty(), "{faults:#?}");
    drop(faults);
    let log = watch.log.lock().unwrap();
    let of = |kind: &str| log.iter().filter(|name| name.starts_with(kind)).cloned().collect::<Vec<_>>();
    let numbers = || 0..ROUNDS;
    assert_eq!(of("sent"), numbers().map(|number| format!("sent {number} true")).collect::<Vec<_>>());
    let mut expected: Vec<String> = numbers().map(|number| format!("received {number}")).collect();
    expected.push("received no more".to_owned());
    assert_eq!(of("received"), expected);
    assert_eq!(log[..2], ["informational", "open"]);
    let told = log.len() - 10;
    assert_eq!(log[told - 4..told], ["close", "metrics", "complete", "invalid"]);
    assert!(log[told..].iter().all(|name| name == "late false"));
    drop(log);
    watch
}

/// The threads that callbacks ran on, but for the calling one.
fn other_threads(watch: &Watch) -> Vec<String> {
    let threads = watch.threads.lock().unwrap();
    let others = threads.iter().filter(|(id, _)| *id != thread::current().id());
    others.map(|(_, name)| name.clone().unwrap_or_default()).collect()
}

/// Callbacks ran on the calling thread.
fn ran_here(watch: &Watch) -> bool {
    watch.threads.lock().unwrap().iter().any(|(id, _)| *id == thread::current().id())
}

#[test]
fn without_a_queue_the_session_has_a_serial_one_of_its_own() {
    let watch = run_watched(None, || ());
    assert!(!ran_here(&watch));
    assert!(other_threads(&watch).iter().all(|name| name == "urlsession-queue"));
    let (session, ..) = recorded_session();
    assert_eq!(session.delegate_queue().max_concurrent_operation_count(), 1);
    let (other, ..) = recorded_session();
    assert_ne!(session.delegate_queue(), other.delegate_queue());
}

#[test]
fn a_serial_queue_runs_the_callbacks_on_its_thread() {
    let queue = OperationQueue::serial();
    queue.set_name(Some("my-callbacks"));
    let watch = run_watched(Some(queue.clone()), || ());
    assert!(!ran_here(&watch));
    assert!(other_threads(&watch).iter().all(|name| name == "my-callbacks"));
    let (session, ..) = recorded_session_with(SessionConfiguration::default(), Some(queue.clone()));
    assert_eq!(session.delegate_queue(), queue);
}

#[test]
fn a_concurrent_queue_keeps_the_callbacks_of_one_task_in_order() {
    let queue = OperationQueue::new();
    queue.set_max_concurrent_operation_count(4);
    let watch = run_watched(Some(queue), || ());
    assert!(!ran_here(&watch));
    assert!(other_threads(&watch).iter().all(|name| name == "urlsession-queue"));
}

#[test]
fn an_immediate_queue_is_the_reactor_thread() {
    let watch = run_watched(Some(OperationQueue::immediate()), || ());
    assert!(!ran_here(&watch));
    // The session starts another one for what is asked of its tasks after it has ended.
    let threads = other_threads(&watch);
    assert!(!threads.is_empty() && threads.iter().all(|name| name == REACTOR), "{threads:?}");
}

#[test]
fn an_executor_runs_the_callbacks_where_it_likes() {
    let (sender, receiver) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
    let thread = thread::Builder::new().name("my-executor".to_owned());
    thread.spawn(move || receiver.into_iter().for_each(|operation| operation())).unwrap();
    let queue = OperationQueue::with_executor(move |operation| sender.send(operation).unwrap());
    let watch = run_watched(Some(queue), || ());
    assert_eq!(other_threads(&watch), ["my-executor"]);
    assert!(!ran_here(&watch));
}

#[test]
fn an_executor_with_many_threads_keeps_the_callbacks_of_one_task_in_order() {
    let queue = OperationQueue::with_executor(|operation| drop(thread::spawn(operation)));
    let watch = run_watched(Some(queue), || ());
    assert!(!ran_here(&watch));
}

/// All that concerns the one main queue of the process: in one test.
#[test]
fn the_main_queue_runs_callbacks_where_it_is_pumped_and_nowhere_else() {
    let queue = OperationQueue::main();
    let watch = run_watched(Some(queue.clone()), || {
        queue.run_pending();
    });
    assert!(ran_here(&watch) && other_threads(&watch).is_empty());

    let watch = run_watched(Some(queue.clone()), || {
        queue.run_until(Instant::now() + Duration::from_millis(5), || false);
    });
    assert!(ran_here(&watch) && other_threads(&watch).is_empty());

    // Nothing runs without a pump, and the hook tells when one is needed.
    let server = EchoServer::start();
    let (woken, wakes) = mpsc::channel();
    queue.set_wake_hook(move || woken.send(thread::current().id()).unwrap());
    let (session, recorder, events) = recorded_session_with(SessionConfiguration::default(), Some(queue.clone()));
    let task = session.web_socket_task(server.url());
    task.resume();
    assert_ne!(wait(&wakes), thread::current().id());
    events.expect_silence(MOMENT);
    assert_eq!(queue.operation_count(), 1);
    assert_eq!(queue.run_pending(), 1);
    assert_eq!(events.next(), "open None");
    assert_eq!((queue.run_pending(), queue.operation_count()), (0, 0));
    while wakes.try_recv().is_ok() {}

    task.receive(recorder.receiver("receive"));
    task.send("x", recorder.handler("send"));
    wait(&wakes);
    let done = || events.log().iter().any(|event| event.starts_with("receive"));
    assert!(queue.run_until(Instant::now() + PATIENCE, done));
    assert_eq!((events.next(), events.next()), ("send ok".to_owned(), "receive string x".to_owned()));

    session.invalidate_and_cancel();
    drop(session);
    events.expect_silence(MOMENT);
    let done = || events.log().iter().any(|event| event.starts_with("invalid"));
    assert!(queue.run_until(Instant::now() + PATIENCE, done));
    // It is a handle of the one queue, and waits for nothing here.
    assert_eq!(queue, OperationQueue::main());
    queue.wait_until_all_operations_are_finished();
    eventually("the delegate is let go", || {
        queue.run_pending();
        Arc::strong_count(&recorder) == 1
    });
}

#[test]
fn an_executor_that_runs_at_once_nests_no_callback_of_a_task() {
    // Here, and only here, a call of the user's may run callbacks: the executor says so. Never one inside another.
    let server = EchoServer::start();
    let queue = OperationQueue::with_executor(|operation| operation());
    let (sender, receiver) = mpsc::channel();
    let inside = Arc::new(AtomicBool::new(false));
    let session = session_on(queue);
    let task = session.web_socket_task(server.url());
    fn ping(task: &WebSocketTask, left: usize, inside: &Arc<AtomicBool>, over: Sender<usize>) {
        let (again, flag) = (task.clone(), Arc::clone(inside));
        task.send_ping(move |result| {
            assert!(!flag.swap(true, Ordering::SeqCst));
            result.unwrap();
            match left {
                0 => over.send(0).unwrap(),
                _ => ping(&again, left - 1, &flag, over),
            }
            flag.store(false, Ordering::SeqCst);
        });
    }
    task.resume();
    ping(&task, 500, &inside, sender);
    wait(&receiver);
    // What fails at once is asked for in a chain: the stack must not grow with it.
    task.cancel();
    fn fail(task: &WebSocketTask, left: usize, inside: &Arc<AtomicBool>, over: Sender<usize>) {
        let (again, flag) = (task.clone(), Arc::clone(inside));
        task.receive(move |result| {
            assert!(!flag.swap(true, Ordering::SeqCst));
            assert!(result.is_err());
            match left {
                0 => over.send(0).unwrap(),
                _ => fail(&again, left - 1, &flag, over),
            }
            flag.store(false, Ordering::SeqCst);
        });
    }
    let (sender, receiver) = mpsc::channel();
    fail(&task, 20_000, &inside, sender);
    wait(&receiver);
}

/// A session without a delegate on a queue.
fn session_on(queue: OperationQueue) -> UrlSession {
    UrlSession::with_delegate(SessionConfiguration::default(), None, Some(queue))
}

#[test]
fn two_tasks_of_a_concurrent_queue_run_in_parallel() {
    let server = EchoServer::start();
    let queue = OperationQueue::new();
    queue.set_max_concurrent_operation_count(2);
    let session = session_on(queue);
    // Nobody passes the barrier alone.
    let barrier = Arc::new(Barrier::new(2));
    let (sender, receiver) = mpsc::channel();
    let tasks: Vec<WebSocketTask> = (0..2).map(|_| session.web_socket_task(server.url())).collect();
    for task in &tasks {
        let (barrier, sender) = (Arc::clone(&barrier), sender.clone());
        task.send_ping(move |result| {
            barrier.wait();
            sender.send(result.is_ok()).unwrap();
        });
        task.resume();
    }
    assert_eq!((wait(&receiver), wait(&receiver)), (true, true));
    session.invalidate_and_cancel();
}

#[test]
fn sessions_that_share_a_serial_queue_take_turns() {
    let server = EchoServer::start();
    let queue = OperationQueue::serial();
    let busy = Arc::new(AtomicBool::new(false));
    let (sender, receiver) = mpsc::channel();
    let sessions: Vec<UrlSession> = (0..3).map(|_| session_on(queue.clone())).collect();
    for session in &sessions {
        let task = session.web_socket_task(server.url());
        for _ in 0..50 {
            let (busy, sender) = (Arc::clone(&busy), sender.clone());
            task.send_ping(move |result| {
                let alone = !busy.swap(true, Ordering::SeqCst);
                thread::yield_now();
                busy.store(false, Ordering::SeqCst);
                sender.send(alone && result.is_ok()).unwrap();
            });
        }
        task.resume();
    }
    assert!((0..150).all(|_| wait(&receiver)));
    sessions.iter().for_each(UrlSession::invalidate_and_cancel);
}

#[test]
fn a_suspended_queue_holds_callbacks() {
    let executor = || OperationQueue::with_executor(|operation| drop(thread::spawn(operation)));
    let kinds: [fn() -> OperationQueue; 4] =
        [OperationQueue::serial, OperationQueue::new, OperationQueue::immediate, executor];
    for kind in kinds {
        let (queue, server) = (kind(), EchoServer::start());
        let (session, recorder, events) = recorded_session_with(SessionConfiguration::default(), Some(queue.clone()));
        queue.set_suspended(true);
        let task = session.web_socket_task(server.url());
        task.send("x", recorder.handler("send"));
        task.receive(recorder.receiver("receive"));
        task.resume();
        eventually("the message is back", || task.count_of_bytes_received() == 1);
        // Of an immediate queue the callbacks are the reactor's, and the queue has but the word of them.
        assert!(matches!(
            (queue.operation_count(), format!("{queue:?}").contains("Immediate")),
            (3, false) | (1, true)
        ));
        events.expect_silence(MOMENT);
        queue.set_suspended(false);
        assert_eq!(events.next(), "open None");
        assert_eq!((events.next(), events.next()), ("send ok".to_owned(), "receive string x".to_owned()));
        // Behind what runs now: an immediate queue knows nothing of callbacks that the reactor has.
        let (sender, receiver) = mpsc::channel();
        session.get_all_tasks(move |_| sender.send(()).unwrap());
        wait(&receiver);
        queue.wait_until_all_operations_are_finished();
        assert_eq!(queue.operation_count(), 0);
        // The end, too, is held, and seen by the handles meanwhile no earlier than it is told.
        queue.set_suspended(true);
        session.invalidate_and_cancel();
        drop(session);
        events.expect_silence(MOMENT);
        assert_ne!(task.state(), urlsession::TaskState::Completed);
        queue.set_suspended(false);
        events.wait_for("complete -999");
        assert_eq!(events.next(), "invalid None");
        eventually("the delegate is let go", || Arc::strong_count(&recorder) == 1);
    }
}

#[test]
fn a_callback_that_suspends_its_queue_is_the_last_for_now() {
    let kinds: [fn() -> OperationQueue; 3] =
        [OperationQueue::serial, OperationQueue::immediate, || OperationQueue::with_executor(|operation| operation())];
    for kind in kinds {
        let (queue, server) = (kind(), EchoServer::start_with(b"", b"\x81\x01a\x81\x01b\x81\x01c"));
        let (session, recorder, events) = recorded_session_with(SessionConfiguration::default(), Some(queue.clone()));
        let task = session.web_socket_task(server.url());
        for name in ["first", "second", "third"] {
            let (noting, suspending) = (recorder.receiver(name), queue.clone());
            task.receive(move |result| {
                // What is waiting behind this waits on; from inside, so that nothing depends on who is faster.
                suspending.set_suspended(true);
                noting(result);
            });
        }
        task.resume();
        assert_eq!(events.next(), "open None");
        for event in ["first string a", "second string b", "third string c"] {
            assert_eq!(events.next(), event);
            events.expect_silence(MOMENT);
            queue.set_suspended(false);
        }
        session.invalidate_and_cancel();
        events.wait_for("invalid");
    }
}

#[test]
fn a_cancel_inside_a_handler_drops_what_the_others_would_have_received() {
    // The cancel comes within the batch, or while the queue keeps back what is left of it.
    for suspends in [false, true] {
        for kind in [OperationQueue::serial, OperationQueue::immediate] {
            let (queue, server) = (kind(), EchoServer::start_with(b"", b"\x81\x01a\x81\x01b\x81\x01c"));
            let (session, recorder, events) =
                recorded_session_with(SessionConfiguration::default(), Some(queue.clone()));
            let task = session.web_socket_task(server.url());
            let (noting, cancelled, suspending) = (recorder.receiver("first"), task.clone(), queue.clone());
            let asking = recorder.receiver("fourth");
            task.receive(move |result| {
                cancelled.receive(asking);
                suspending.set_suspended(suspends);
                if !suspends {
                    cancelled.cancel();
                }
                noting(result);
            });
            for name in ["second", "third"] {
                task.receive(recorder.receiver(name));
            }
            task.resume();
            events.wait_for("first");
            task.cancel();
            queue.set_suspended(false);
            let failed = ["second -999", "third -999", "fourth -999"];
            events.expect(&[&["open None", "first string a"], &failed[..], &["complete -999"]].concat());
            session.invalidate_and_cancel();
            events.wait_for("invalid");
        }
    }
}

#[test]
fn receives_that_fail_behind_the_end_keep_the_order_of_their_calls() {
    let server = EchoServer::start();
    let (session, recorder, events) = recorded_session_with(SessionConfiguration::default(), None);
    let task = session.web_socket_task(server.url());
    task.cancel();
    events.wait_for("complete -999");
    let (inside, first, second) = (task.clone(), recorder.receiver("first"), recorder.receiver("second"));
    task.receive(move |_| {
        inside.receive(first);
        thread::spawn(move || inside.receive(second)).join().unwrap();
    });
    assert_eq!((events.next(), events.next()), ("first -999".to_owned(), "second -999".to_owned()));
    session.invalidate_and_cancel();
    events.wait_for("invalid");
}

#[test]
fn a_queue_is_waited_for_with_the_callbacks_in_it() {
    let server = EchoServer::start();
    let queue = OperationQueue::serial();
    let session = session_on(queue.clone());
    let task = session.web_socket_task(server.url());
    task.cancel();
    let ran = Arc::new(AtomicUsize::new(0));
    for _ in 0..500 {
        let ran = Arc::clone(&ran);
        task.send_ping(move |_| {
            ran.fetch_add(1, Ordering::SeqCst);
        });
    }
    queue.wait_until_all_operations_are_finished();
    assert_eq!(ran.load(Ordering::SeqCst), 500);
}

#[test]
fn a_task_with_much_to_tell_leaves_others_their_turn() {
    let server = EchoServer::start();
    let queue = OperationQueue::serial();
    let (session, _, events) = recorded_session_with(SessionConfiguration::default(), Some(queue));
    let (busy, quiet) = (session.web_socket_task(server.url()), session.web_socket_task(server.url()));
    // Fails again and again, and asks again and again: there is always a callback of this task.
    let stop = Arc::new(AtomicBool::new(false));
    fn keep_busy(task: &WebSocketTask, stop: &Arc<AtomicBool>) {
        let (again, stopping) = (task.clone(), Arc::clone(stop));
        task.receive(move |_| {
            if !stopping.load(Ordering::SeqCst) {
                keep_busy(&again, &stopping);
            }
        });
    }
    busy.cancel();
    events.wait_for("complete -999");
    keep_busy(&busy, &stop);
    quiet.resume();
    events.wait_for("open");
    quiet.cancel();
    events.wait_for("complete -999");
    stop.store(true, Ordering::SeqCst);
    session.finish_tasks_and_invalidate();
    events.wait_for("invalid");
}
