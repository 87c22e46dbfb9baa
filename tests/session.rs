//! Sessions: what they copy and count, and how they end: `finish_tasks_and_invalidate`, `invalidate_and_cancel`, and the
//! drop of the last handle.

mod support;

use std::collections::HashSet;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use support::echo::EchoServer;
use support::hooks::{Called, eventually, hooks};
use support::{Events, PATIENCE, Recorder, Server, field, recorded_session, recorded_session_with, recorder};
use urlsession::{
    CloseCode, ErrorCode, HttpCookieStorage, Message, OperationQueue, SessionConfiguration, SessionTask, TaskState,
    UrlRequest, UrlSession, WebSocketTask,
};

/// How long the absence of something is waited for.
const MOMENT: Duration = Duration::from_millis(50);

/// What a channel brings, in time.
#[track_caller]
fn wait<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(PATIENCE).expect("something in time")
}

/// Opens a task on the echo server and waits until it is open.
fn open(session: &UrlSession, server: &EchoServer, events: &Events) -> WebSocketTask {
    let task = session.web_socket_task(server.url());
    task.resume();
    events.wait_for("open");
    task
}

/// One message there and back.
fn echo(task: &WebSocketTask, recorder: &Recorder, events: &Events) {
    task.send("still here", |_| ());
    task.receive(recorder.receiver("echo"));
    assert_eq!(events.wait_for("echo"), "echo string still here");
}

/// The tasks of a session.
fn all_tasks(session: &UrlSession) -> Vec<SessionTask> {
    let (sender, receiver) = mpsc::channel();
    session.get_all_tasks(move |tasks| sender.send(tasks).unwrap());
    wait(&receiver)
}

#[test]
fn the_configuration_is_copied() {
    let server = Server::one(|mut peer| {
        let request = peer.open();
        assert_eq!(field(&request, "X-When"), Some("made"));
        peer.read_close();
    });
    let mut configuration = SessionConfiguration::default();
    configuration.http_additional_headers.insert("X-When".to_owned(), "made".to_owned());
    configuration.web_socket.maximum_send_queue = Some(7);
    let (recorder, events) = recorder();
    let session = UrlSession::with_delegate(configuration.clone(), Some(recorder), None);
    configuration.http_additional_headers.insert("X-When".to_owned(), "changed".to_owned());
    configuration.web_socket.maximum_send_queue = Some(8);

    let mut copy = session.configuration();
    assert_eq!(copy.http_additional_headers["X-When"], "made");
    assert_eq!(copy.web_socket.maximum_send_queue, Some(7));
    copy.http_additional_headers.clear();
    copy.timeout_interval_for_request = Duration::ZERO;
    assert_eq!(session.configuration().http_additional_headers["X-When"], "made");

    let task = session.web_socket_task(server.url());
    task.resume();
    events.wait_for("open");
    task.cancel();
    events.wait_for("complete");
    server.join();
}

#[test]
fn a_request_is_copied_into_its_task() {
    let (session, _, _) = recorded_session();
    let mut request = UrlRequest::from(EchoServer::start().url());
    request.set_value("1", "X-Number");
    let task = session.web_socket_task(&request);
    request.set_value("2", "X-Number");
    assert_eq!(task.original_request().value("x-number"), Some("1"));
    assert_eq!(task.current_request().value("x-number"), Some("1"));
    let mut copy = task.original_request();
    copy.remove_value("X-Number");
    assert_eq!(task.original_request().value("x-number"), Some("1"));
}

#[test]
fn did_create_task_runs_inside_the_call_and_before_anything_else() {
    let server = EchoServer::start();
    let log = Arc::new(Mutex::new(Vec::new()));
    let (over, end) = mpsc::channel();
    let delegate = hooks({
        let log = Arc::clone(&log);
        move |session, task, called| {
            let task = task.unwrap();
            log.lock().unwrap().push((called.name(), task.task_identifier(), thread::current().id()));
            match called {
                Called::Create => {
                    assert_eq!((task.state(), task.response().is_some()), (TaskState::Suspended, false));
                    assert!(session.delegate().is_some());
                    // Every call is allowed here, the one that starts the task too.
                    task.set_task_description(Some("made"));
                    task.resume();
                }
                Called::Complete(_) => over.send(()).unwrap(),
                _ => {}
            }
        }
    });
    let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), None);
    for identifier in 1..=20 {
        log.lock().unwrap().clear();
        let task = session.web_socket_task(server.url());
        assert_eq!(log.lock().unwrap()[0], ("create", identifier, thread::current().id()));
        assert_eq!(task.task_description().as_deref(), Some("made"));
        let ping = task.clone();
        task.send_ping(move |_| ping.cancel());
        wait(&end);
        let log = log.lock().unwrap();
        assert_eq!(log.iter().filter(|(name, ..)| *name == "create").count(), 1);
        assert!(log[1..].iter().all(|(_, _, thread)| *thread != thread::current().id()), "{log:?}");
    }
}

#[test]
fn identifiers_count_from_one_in_each_session() {
    let server = EchoServer::start();
    let (one, ..) = recorded_session();
    let (other, ..) = recorded_session();
    let kept: Vec<WebSocketTask> = (0..3).map(|_| one.web_socket_task(server.url())).collect();
    assert_eq!(kept.iter().map(|task| task.task_identifier()).collect::<Vec<_>>(), [1, 2, 3]);
    drop(kept);
    assert_eq!(other.web_socket_task(server.url()).task_identifier(), 1);
    // Never used again, whatever became of the task; and unique whichever threads make them.
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (session, url) = (one.clone(), server.url());
            thread::spawn(move || {
                let made = (0..100).map(|_| session.web_socket_task(&url).task_identifier());
                made.collect::<Vec<_>>()
            })
        })
        .collect();
    let made: HashSet<usize> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert_eq!(made, (4..404).collect());
}

#[test]
fn all_tasks_are_those_that_have_not_completed() {
    let server = EchoServer::start();
    let (session, _, events) = recorded_session();
    assert!(all_tasks(&session).is_empty());
    let never_resumed = session.web_socket_task(server.url());
    let ended = open(&session, &server, &events);
    let running = open(&session, &server, &events);
    let suspended = open(&session, &server, &events);
    suspended.suspend();
    let dropped = session.web_socket_task(server.url());
    assert_eq!(all_tasks(&session).len(), 5);
    ended.cancel();
    events.wait_for("complete");
    drop(dropped);
    let tasks = all_tasks(&session);
    assert_eq!(tasks.len(), 3);
    assert!(tasks[0] == never_resumed && tasks[1] == running && tasks[2] == suspended);
    assert_eq!(tasks[1].as_web_socket_task().unwrap(), running);
    // A running task needs no handle to be among them.
    let identifier = running.task_identifier();
    drop((running, tasks));
    assert_eq!(all_tasks(&session)[1].task_identifier(), identifier);
    session.invalidate_and_cancel();
    events.wait_for("invalid");
    assert!(all_tasks(&session).is_empty());
}

#[test]
fn reset_and_flush_call_their_handlers_on_the_queue_and_leave_open_sockets_alone() {
    let server = EchoServer::start();
    let queue = OperationQueue::serial();
    queue.set_name(Some("delegates"));
    let (session, recorder, events) = recorded_session_with(SessionConfiguration::default(), Some(queue));
    let task = open(&session, &server, &events);
    let (sender, receiver) = mpsc::channel();
    let note = |name: &'static str| {
        let sender = sender.clone();
        move || sender.send((name, thread::current().name().map(str::to_owned))).unwrap()
    };
    session.reset(note("reset"));
    session.flush(note("flush"));
    session.get_all_tasks({
        let note = note("tasks");
        move |_| note()
    });
    session.reset(|| panic!("a panic of a handler, on purpose"));
    session.reset(note("again"));
    for name in ["reset", "flush", "tasks", "again"] {
        assert_eq!(wait(&receiver), (name, Some("delegates".to_owned())));
    }
    echo(&task, &recorder, &events);
    task.cancel();
    events.wait_for("complete");
}

#[test]
fn the_shared_session_cannot_be_invalidated() {
    let server = EchoServer::start();
    let session = UrlSession::shared();
    assert_eq!(session, UrlSession::shared());
    assert!(session.delegate().is_none());
    session.finish_tasks_and_invalidate();
    session.invalidate_and_cancel();
    drop(session.clone());
    let task = session.web_socket_task(server.url());
    let (sender, receiver) = mpsc::channel();
    task.send("shared", |result| result.unwrap());
    task.receive({
        let sender = sender.clone();
        move |result| sender.send(result).unwrap()
    });
    task.resume();
    assert_eq!(wait(&receiver).unwrap(), Message::String("shared".to_owned()));
    session.invalidate_and_cancel();
    task.send("again", |result| result.unwrap());
    task.receive(move |result| sender.send(result).unwrap());
    assert_eq!(wait(&receiver).unwrap(), Message::String("again".to_owned()));
    task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
    eventually("the end", || task.state() == TaskState::Completed);
    let next = session.web_socket_task(server.url());
    let (sender, receiver) = mpsc::channel();
    next.send_ping(move |result| sender.send(result).unwrap());
    next.resume();
    wait(&receiver).unwrap();
    next.cancel();
}

#[test]
fn tasks_run_to_their_end_before_the_session_does() {
    let server = EchoServer::start();
    let (session, recorder, events) = recorded_session();
    let one = open(&session, &server, &events);
    let other = open(&session, &server, &events);
    let later = session.web_socket_task(server.url());
    session.finish_tasks_and_invalidate();
    session.finish_tasks_and_invalidate();
    events.expect_silence(MOMENT);
    assert_eq!(
        (one.state(), other.state(), later.state()),
        (TaskState::Running, TaskState::Running, TaskState::Suspended)
    );
    echo(&one, &recorder, &events);
    // A task that was made before is not too late.
    later.resume();
    events.wait_for("open");
    echo(&later, &recorder, &events);
    one.cancel_with(CloseCode::NORMAL_CLOSURE, None);
    events.wait_for("complete None");
    later.cancel();
    events.wait_for("complete -999");
    echo(&other, &recorder, &events);
    assert!(session.delegate().is_some());
    other.cancel_with(CloseCode::GOING_AWAY, None);
    events.wait_for("complete None");
    assert_eq!(events.next(), "invalid None");
    eventually("the delegate is let go", || session.delegate().is_none() && Arc::strong_count(&recorder) == 1);
    events.expect_silence(MOMENT);
}

#[test]
fn a_session_without_tasks_is_invalid_at_once() {
    for cancel in [false, true] {
        let (session, recorder, events) = recorded_session();
        if cancel {
            session.invalidate_and_cancel();
        } else {
            session.finish_tasks_and_invalidate();
        }
        assert_eq!(events.next(), "invalid None");
        eventually("the delegate is let go", || Arc::strong_count(&recorder) == 1);
        session.invalidate_and_cancel();
        session.finish_tasks_and_invalidate();
        drop(session);
        events.expect_silence(MOMENT);
    }
}

#[test]
fn invalidate_and_cancel_ends_every_task_in_every_state() {
    let server = EchoServer::start();
    let (arrived, connecting_request) = mpsc::channel();
    let silent = Server::one(move |mut peer| {
        peer.read_request();
        arrived.send(()).unwrap();
        peer.read_to_end();
    });
    let (session, recorder, events) = recorded_session();
    let never_resumed = session.web_socket_task(server.url());
    let connecting = session.web_socket_task(silent.url());
    connecting.resume();
    wait(&connecting_request);
    let opened = open(&session, &server, &events);
    let suspended = open(&session, &server, &events);
    suspended.suspend();
    let tasks = [never_resumed, connecting, opened, suspended];
    for (index, task) in tasks.iter().enumerate() {
        task.receive(recorder.receiver(&format!("receive {index}")));
        task.send_ping(|_| ());
    }
    session.invalidate_and_cancel();
    events.wait_for("invalid None");
    let log = events.log();
    assert_eq!(log.last().unwrap(), "invalid None");
    assert_eq!(log.iter().filter(|event| *event == "complete -999").count(), 4, "{log:#?}");
    assert!(!log.iter().any(|event| event.starts_with("close")), "{log:#?}");
    for (index, task) in tasks.iter().enumerate() {
        assert_eq!(task.error().unwrap().code(), ErrorCode::Cancelled);
        assert_eq!((task.state(), task.close_code()), (TaskState::Completed, CloseCode::INVALID));
        assert!(log.contains(&format!("receive {index} -999")), "{log:#?}");
    }
    eventually("the delegate is let go", || Arc::strong_count(&recorder) == 1);
    silent.join();
}

#[test]
fn a_task_that_is_made_too_late_ends_when_it_is_resumed() {
    let server = EchoServer::start();
    let (session, _, events) = recorded_session();
    session.finish_tasks_and_invalidate();
    events.wait_for("invalid");
    eventually("the delegate is let go", || session.delegate().is_none());
    let (own, own_events) = recorder();
    let task = session.web_socket_task(server.url());
    task.set_delegate(Some(own.clone()));
    task.receive(own.receiver("receive"));
    task.send("early", own.handler("send"));
    own_events.expect_silence(MOMENT);
    assert_eq!(task.state(), TaskState::Suspended);
    task.resume();
    own_events.wait_for("complete -999");
    assert_eq!(own_events.log().iter().filter(|event| event.ends_with("-999")).count(), 3);
    assert_eq!((task.state(), task.error().unwrap().code()), (TaskState::Completed, ErrorCode::Cancelled));
    task.send_ping(own.handler("ping"));
    assert_eq!(own_events.next(), "ping -999");
    events.expect_silence(MOMENT);
    assert_eq!(server.accepted(), 0);
    drop(task);
    eventually("the delegate of the task is let go", || Arc::strong_count(&own) == 1);
}

#[test]
fn a_late_task_beside_running_ones_ends_alone() {
    let server = EchoServer::start();
    let (session, recorder, events) = recorded_session();
    let running = open(&session, &server, &events);
    session.finish_tasks_and_invalidate();
    let late = session.web_socket_task(server.url());
    late.resume();
    events.wait_for("complete -999");
    events.expect_silence(MOMENT);
    echo(&running, &recorder, &events);
    // It is told of before the session's last word, even where both end at the same time.
    let late = session.web_socket_task(server.url());
    running.cancel();
    late.resume();
    events.wait_for("complete -999");
    events.wait_for("complete -999");
    assert_eq!(events.next(), "invalid None");
    assert_eq!(server.accepted(), 1);
}

#[test]
fn the_drop_of_the_last_handle_lets_tasks_finish() {
    let server = EchoServer::start();
    let (session, recorder, events) = recorded_session();
    let task = open(&session, &server, &events);
    let clone = session.clone();
    drop(session);
    echo(&task, &recorder, &events);
    drop(clone);
    echo(&task, &recorder, &events);
    events.expect_silence(MOMENT);
    task.cancel_with(CloseCode::NORMAL_CLOSURE, Some(b"bye"));
    assert_eq!(events.wait_for("close"), "close 1000 Some(\"bye\")");
    events.wait_for("complete None");
    assert_eq!(events.next(), "invalid None");
    eventually("the delegate is let go", || Arc::strong_count(&recorder) == 1);
    // The task outlives its session, and still answers.
    assert_eq!((task.state(), task.close_code()), (TaskState::Completed, CloseCode::NORMAL_CLOSURE));
    assert_eq!(task.close_reason().as_deref(), Some(&b"bye"[..]));
    assert_eq!(task.response().unwrap().status_code(), 101);
    task.receive(recorder.receiver("late"));
    assert_eq!(events.next(), "late -999");
    task.resume();
    task.suspend();
    task.cancel();
    events.expect_silence(MOMENT);
}

#[test]
fn a_running_task_needs_no_handle_at_all() {
    let (sender, receiver) = mpsc::channel();
    let server = Server::one(move |mut peer| {
        peer.open();
        wait(&receiver);
        peer.text("to whom it may concern");
        peer.close(1000, "");
        peer.read_close();
    });
    let (session, recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    task.receive(recorder.receiver("receive"));
    task.resume();
    drop((session, task));
    assert_eq!(events.next(), "open None");
    sender.send(()).unwrap();
    events.wait_for("invalid");
    let told =
        ["open None", "receive string to whom it may concern", "close 1000 Some(\"\")", "metrics", "complete None"];
    assert_eq!(events.log()[..5], told);
    server.join();
    eventually("the delegate is let go", || Arc::strong_count(&recorder) == 1);
}

#[test]
fn a_task_that_is_dropped_unresumed_holds_nothing_up() {
    let server = EchoServer::start();
    let (session, recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    task.send("never", recorder.handler("send"));
    task.receive(recorder.receiver("receive"));
    task.send_ping(recorder.handler("ping"));
    session.finish_tasks_and_invalidate();
    events.expect_silence(MOMENT);
    drop(task);
    events.wait_for("invalid None");
    let mut log = events.log();
    assert_eq!(log.pop().unwrap(), "invalid None");
    log.sort();
    assert_eq!(log, ["ping -999", "receive -999", "send -999"]);
    eventually("the delegate is let go", || Arc::strong_count(&recorder) == 1);
}

#[test]
fn the_session_may_be_invalidated_inside_any_callback() {
    let server = EchoServer::start_with(b"HTTP/1.1 103 Early Hints\r\n\r\n", b"");
    for place in ["create", "informational", "open", "close", "metrics", "complete", "invalid"] {
        for cancel in [false, true] {
            let (sender, receiver) = mpsc::channel();
            let delegate = hooks(move |session, task, called| {
                sender.send(called.name()).unwrap();
                if called.name() == place {
                    if cancel {
                        session.invalidate_and_cancel();
                    } else {
                        session.finish_tasks_and_invalidate();
                    }
                }
                if let (Called::Open(_), Some(task)) = (called, task) {
                    task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
                }
            });
            let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate.clone()), None);
            let task = session.web_socket_task(server.url());
            task.resume();
            if place == "invalid" {
                session.finish_tasks_and_invalidate();
            }
            let mut log = Vec::new();
            while log.last() != Some(&"invalid") {
                log.push(wait(&receiver));
            }
            assert_eq!(log.iter().filter(|name| **name == "complete").count(), 1, "{place} {cancel}: {log:?}");
            assert_eq!(log[log.len() - 2], "complete", "{place} {cancel}: {log:?}");
            eventually("the delegate is let go", || Arc::strong_count(&delegate) == 1);
            drop((session, task));
            assert!(receiver.recv_timeout(Duration::from_millis(1)).is_err());
        }
    }
}

#[test]
fn the_last_handle_may_be_dropped_inside_any_callback() {
    let server = EchoServer::start_with(b"HTTP/1.1 103 Early Hints\r\n\r\n", b"");
    for place in ["create", "informational", "open", "close", "metrics", "complete"] {
        let (sender, receiver) = mpsc::channel();
        let kept: Arc<Mutex<Option<UrlSession>>> = Arc::default();
        let delegate = hooks({
            let kept = Arc::clone(&kept);
            move |_session, task, called| {
                sender.send(called.name()).unwrap();
                if called.name() == place {
                    let last = kept.lock().unwrap().take();
                    drop(last);
                }
                if let (Called::Open(_), Some(task)) = (called, task) {
                    task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
                }
            }
        });
        let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate.clone()), None);
        *kept.lock().unwrap() = Some(session.clone());
        let task = session.web_socket_task(server.url());
        task.resume();
        drop((session, task));
        let mut log = Vec::new();
        while log.last() != Some(&"invalid") {
            log.push(wait(&receiver));
        }
        assert_eq!(log.iter().filter(|name| **name == "complete").count(), 1, "{place}: {log:?}");
        eventually("the delegate is let go", || Arc::strong_count(&delegate) == 1);
    }
}

#[test]
fn a_delegate_that_holds_its_session_is_let_go_when_that_is_invalid() {
    let server = EchoServer::start();
    let kept: Arc<Mutex<Option<UrlSession>>> = Arc::default();
    let (sender, receiver) = mpsc::channel();
    let delegate = hooks({
        let kept = Arc::clone(&kept);
        move |session, _, called| {
            assert_eq!(kept.lock().unwrap().as_ref().unwrap(), session);
            sender.send(called.name()).unwrap();
        }
    });
    let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate.clone()), None);
    *kept.lock().unwrap() = Some(session.clone());
    session.web_socket_task(server.url()).resume();
    session.invalidate_and_cancel();
    drop(session);
    while wait(&receiver) != "invalid" {}
    eventually("the delegate is let go", || Arc::strong_count(&delegate) == 1);
}

#[test]
fn every_handler_is_let_go_when_the_session_is_over() {
    let server = EchoServer::start();
    let captured = Arc::new(());
    let (session, recorder, events) = recorded_session();
    let hold = || Arc::clone(&captured);
    let tasks: Vec<WebSocketTask> = (0..4).map(|_| session.web_socket_task(server.url())).collect();
    for task in &tasks {
        let (one, two, three) = (hold(), hold(), hold());
        task.send("x", move |_| drop(one));
        task.receive(move |_| drop(two));
        task.receive({
            // It never comes, and holds its own task.
            let (held, task) = (hold(), task.clone());
            move |_| drop((held, task))
        });
        task.send_ping(move |_| drop(three));
    }
    // Among them one that is never resumed, and one that cannot connect any more.
    tasks[1..].iter().for_each(|task| task.resume());
    tasks[3].cancel();
    let (one, two) = (hold(), hold());
    session.get_all_tasks(move |_| drop(one));
    session.reset(move || drop(two));
    assert!(Arc::strong_count(&captured) > 1);
    session.invalidate_and_cancel();
    events.wait_for("invalid");
    eventually("handlers are let go", || Arc::strong_count(&captured) == 1);
    eventually("the delegate is let go", || Arc::strong_count(&recorder) == 1);
    assert_eq!(events.log().iter().filter(|event| *event == "complete -999").count(), 4);
}

#[test]
fn sessions_are_compared_by_identity_and_labelled() {
    let (one, ..) = recorded_session();
    let (other, ..) = recorded_session();
    let clone = one.clone();
    assert_eq!(one, clone);
    assert_ne!(one, other);
    clone.set_session_description(Some("of both"));
    assert_eq!(one.session_description().as_deref(), Some("of both"));
    one.set_session_description(None);
    assert_eq!(HashSet::from([one.clone(), clone, other]).len(), 2);
    assert_eq!(one.session_description(), None);
    one.set_session_description(Some("chat"));
    assert_eq!(one.session_description().as_deref(), Some("chat"));
    assert!(format!("{one:?}").contains("chat"));
    one.set_session_description(None);
    assert_eq!(one.session_description(), None);
}

#[test]
fn invalidation_returns_at_once_from_many_threads() {
    let server = EchoServer::start();
    for _ in 0..20 {
        let (session, recorder, events) = recorded_session();
        let tasks: Vec<WebSocketTask> = (0..4).map(|_| open(&session, &server, &events)).collect();
        let began = Instant::now();
        thread::scope(|scope| {
            for (number, task) in tasks.iter().enumerate() {
                let session = &session;
                scope.spawn(move || match number {
                    0 => session.finish_tasks_and_invalidate(),
                    1 => session.invalidate_and_cancel(),
                    2 => task.cancel_with(CloseCode::NORMAL_CLOSURE, None),
                    _ => drop(session.clone()),
                });
            }
        });
        assert!(began.elapsed() < PATIENCE);
        events.wait_for("invalid");
        let log = events.log();
        assert_eq!(log.iter().filter(|event| event.starts_with("complete")).count(), 4, "{log:#?}");
        assert_eq!(log.iter().filter(|event| event.starts_with("invalid")).count(), 1, "{log:#?}");
        assert_eq!(log.last().unwrap(), "invalid None");
        eventually("the delegate is let go", || Arc::strong_count(&recorder) == 1);
    }
}

/// Where nothing is on disk there is nothing to wait for, and no thread to wait.
#[test]
fn a_flush_of_what_is_in_memory_is_told_within_the_call() {
    for storage in [None, Some(HttpCookieStorage::new())] {
        let mut configuration = SessionConfiguration::default();
        configuration.http_cookie_storage = storage;
        let queue = OperationQueue::with_executor(|job| job());
        let (session, recorder, events) = recorded_session_with(configuration, Some(queue));
        let own = thread::current().id();
        for name in ["reset", "flush"] {
            let recorder = Recorder::clone(&recorder);
            let handler = move || {
                assert_eq!(thread::current().id(), own);
                recorder.note(name);
            };
            if name == "reset" {
                session.reset(handler)
            } else {
                session.flush(handler)
            }
            assert_eq!(events.log().last().map(String::as_str), Some(name));
        }
        // The session's end is told there, too, behind a handler that asks for it.
        let (ending, last) = (session.clone(), Recorder::clone(&recorder));
        session.flush(move || {
            ending.finish_tasks_and_invalidate();
            last.note("last");
        });
        assert_eq!(events.log(), ["reset", "flush", "last", "invalid None"]);
        drop(session);
        eventually("the delegate is let go", || Arc::strong_count(&recorder) == 1);
    }
}
