//! The life of tasks and sessions where several things happen to them: ended twice and in every order, suspended while the server
//! goes on, made too late; and the moments at which what they hold is let go.

mod support;

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::echo::EchoServer;
use support::hooks::{Called, eventually, hooks};
use support::{PATIENCE, Peer, Server, recorded_session, recorded_session_with};
use urlsession::{CloseCode, OperationQueue, SessionConfiguration, TaskState, UrlSession, WebSocketTask};

/// A moment in which something must not happen.
const MOMENT: Duration = Duration::from_millis(100);

fn wait<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(PATIENCE).expect("it comes")
}

/// A way to end a session or a task.
type End = fn(&UrlSession, &WebSocketTask);

/// Two of them come one after the other.
const ENDS: [(&str, End); 4] = [
    ("finish", |session, _| session.finish_tasks_and_invalidate()),
    ("invalidate", |session, _| session.invalidate_and_cancel()),
    ("cancel", |_, task| task.cancel()),
    ("cancel_with", |_, task| task.cancel_with(CloseCode::GOING_AWAY, None)),
];

#[test]
fn two_ends_in_any_order_from_anywhere_are_one() {
    let server = EchoServer::start_with(b"HTTP/1.1 103 Early Hints\r\n\r\n", b"");
    let places = ["outside", "create", "informational", "open", "close", "metrics", "complete", "invalid"];
    for place in places {
        for (first_name, first) in ENDS {
            for (second_name, second) in ENDS {
                let what = format!("{first_name}, then {second_name}, {place}");
                let (sender, told) = mpsc::channel();
                let task: Arc<Mutex<Option<WebSocketTask>>> = Arc::default();
                let delegate = hooks({
                    let held = Arc::clone(&task);
                    move |session, task, called| {
                        let number = task.map_or(0, |task| task.task_identifier());
                        sender.send((called.name(), number)).unwrap();
                        let task = task.cloned().or_else(|| held.lock().unwrap().clone());
                        if let (true, Some(task)) = (called.name() == place, task) {
                            first(session, &task);
                            second(session, &task);
                        }
                        match (called, number) {
                            (Called::Open(_), 1) => session.delegate_queue().add_operation({
                                let (session, held) = (session.clone(), Arc::clone(&held));
                                move || {
                                    // For the places behind it.
                                    if let Some(task) = held.lock().unwrap().clone() {
                                        task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
                                    }
                                    session.finish_tasks_and_invalidate();
                                }
                            }),
                            (Called::Complete(_), _) => session.finish_tasks_and_invalidate(),
                            _ => {}
                        }
                    }
                });
                let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate.clone()), None);
                let made = session.web_socket_task(server.url());
                *task.lock().unwrap() = Some(made.clone());
                made.resume();
                if place == "outside" {
                    first(&session, &made);
                    second(&session, &made);
                }
                let mut log = Vec::new();
                while log.last().is_none_or(|(name, _)| *name != "invalid") {
                    log.push(told.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{what}: {log:?}")));
                }
                let count = |name| log.iter().filter(|event| **event == (name, 1)).count();
                assert_eq!((count("complete"), count("metrics"), count("create")), (1, 1, 1), "{what}: {log:?}");
                assert_eq!(log[log.len() - 2], ("complete", 1), "{what}: {log:?}");
                assert_eq!((made.state(), session.delegate_queue().is_suspended()), (TaskState::Completed, false));
                eventually("the delegate is let go", || Arc::strong_count(&delegate) == 1);
                assert!(told.try_recv().is_err(), "{what}");
            }
        }
    }
}

/// Neither a resume nor another cancel wakes a task that was cancelled before it began.
#[test]
fn a_task_that_is_cancelled_before_it_began_never_begins() {
    let server = EchoServer::start();
    let ends: [fn(&WebSocketTask); 3] = [
        |task| task.cancel(),
        |task| task.cancel_with(CloseCode::new(4001), Some(b"no")),
        |task| task.cancel_with(CloseCode::INVALID, None),
    ];
    for (number, end) in ends.into_iter().enumerate() {
        // The queue stands still, so that what is shown before the end is told can be seen.
        let queue = OperationQueue::serial();
        queue.set_suspended(true);
        let (session, recorder, events) = recorded_session_with(SessionConfiguration::default(), Some(queue.clone()));
        let task = session.web_socket_task(server.url());
        task.send("never", recorder.handler("send"));
        assert_eq!(task.state(), TaskState::Suspended);
        end(&task);
        assert!(matches!(task.state(), TaskState::Suspended | TaskState::Completed), "{:?}", task.state());
        task.resume();
        task.resume();
        task.cancel();
        queue.set_suspended(false);
        let expected: &[&str] = match number {
            1 => &["send -999", "close 4001 Some(\"no\")", "complete None"],
            _ => &["send -999", "complete -999"],
        };
        events.expect(expected);
        task.resume();
        assert_eq!(task.state(), TaskState::Completed);
    }
    assert_eq!(server.accepted(), 0);
}

/// The server meets a full socket, and all that it sent arrives once the task goes on.
#[test]
fn a_suspended_task_holds_the_server_back() {
    const MESSAGE: usize = 64 * 1024;
    let (suspended, is_suspended) = mpsc::channel();
    let (full, is_full) = mpsc::channel();
    let server = Server::one(move |mut peer| {
        peer.open();
        wait::<()>(&is_suspended);
        let mut frame = vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0];
        frame.resize(frame.len() + MESSAGE, 7);
        peer.stream.set_write_timeout(Some(MOMENT)).unwrap();
        let (mut count, mut rest): (usize, &[u8]) = (0, &[]);
        loop {
            if rest.is_empty() {
                (count, rest) = (count + 1, &frame);
            }
            match peer.stream.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(error) => panic!("{error}"),
            }
            assert!(count < 10_000, "a suspended task reads");
        }
        full.send(count).unwrap();
        peer.stream.set_write_timeout(Some(PATIENCE)).unwrap();
        peer.write(rest);
        peer.close(1000, "");
        peer.read_close();
    });
    let (session, recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    task.resume();
    events.wait_for("open");
    task.suspend();
    suspended.send(()).unwrap();
    let count = wait(&is_full);
    assert_eq!(task.count_of_bytes_received(), 0);
    let arrived = Arc::new(AtomicUsize::new(0));
    for _ in 0..count {
        let arrived = Arc::clone(&arrived);
        task.receive(move |message| {
            assert!(message.is_ok_and(|message| message == vec![7; MESSAGE].into()));
            arrived.fetch_add(1, Ordering::Relaxed);
        });
    }
    task.receive(recorder.receiver("receive"));
    task.resume();
    assert_eq!(events.wait_for("receive"), "receive 57");
    assert_eq!(arrived.load(Ordering::Relaxed), count);
    events.wait_for("complete None");
    server.join();
}

/// A keep-alive of a suspended task sends nothing and misses nothing; a Close that comes meanwhile waits.
#[test]
fn a_suspended_task_keeps_nobody_alive_and_is_told_of_a_close_when_it_goes_on() {
    let (suspended, is_suspended) = mpsc::channel();
    let (quiet, was_quiet) = mpsc::channel();
    let server = Server::one(move |mut peer| {
        peer.open();
        wait::<()>(&is_suspended);
        // Pings that had left before are not meant.
        peer.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        while peer.try_read_frame().is_ok() {}
        peer.stream.set_read_timeout(Some(MOMENT)).unwrap();
        assert!(peer.try_read_frame().is_err(), "a suspended task pings");
        peer.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        peer.text("last words");
        peer.close(4002, "gone");
        quiet.send(()).unwrap();
        peer.read_close();
    });
    let mut configuration = SessionConfiguration::default();
    configuration.web_socket.ping_interval = Some(Duration::from_millis(1));
    configuration.web_socket.pong_timeout = Duration::from_millis(50);
    let (session, recorder, events) = recorded_session_with(configuration, None);
    let task = session.web_socket_task(server.url());
    task.receive(recorder.receiver("receive"));
    task.receive(recorder.receiver("receive"));
    task.resume();
    events.wait_for("open");
    task.suspend();
    task.suspend();
    suspended.send(()).unwrap();
    wait(&was_quiet);
    events.expect_silence(MOMENT);
    assert_eq!((task.state(), task.close_code()), (TaskState::Suspended, CloseCode::INVALID));
    task.resume();
    events.expect_silence(MOMENT);
    task.resume();
    events.expect(&[
        "open None",
        "receive string last words",
        "receive 57",
        "close 4002 Some(\"gone\")",
        "complete None",
    ]);
    server.join();
}

/// Made in the session's last callback, a task can still be asked everything, and says that it is cancelled.
#[test]
fn a_task_that_is_made_in_the_last_callback_is_late() {
    for queue in [OperationQueue::serial(), OperationQueue::new(), OperationQueue::immediate()] {
        let server = EchoServer::start();
        let (sender, answers) = mpsc::channel();
        let url = server.url();
        let delegate = hooks(move |session, _, called| {
            if let Called::Invalid(_) = called {
                let task = session.web_socket_task(&url);
                let [one, two, three] = [(); 3].map(|()| sender.clone());
                task.receive(move |result| one.send(result.map(drop)).unwrap());
                task.send("late", move |result| two.send(result).unwrap());
                task.send_ping(move |result| three.send(result).unwrap());
                task.resume();
            }
        });
        let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), Some(queue));
        let open = session.web_socket_task(server.url());
        open.resume();
        session.invalidate_and_cancel();
        for _ in 0..3 {
            assert_eq!(wait(&answers).unwrap_err().raw_code(), -999);
        }
        assert!(answers.recv_timeout(PATIENCE).is_err(), "each handler is called once, and let go");
    }
}

/// What a handler holds goes when it has been called, before anything else is told.
#[test]
fn handlers_are_let_go_when_they_have_been_called() {
    let server = EchoServer::start();
    let held = Arc::new(());
    let (sender, counted) = mpsc::channel();
    let (session, _recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    task.resume();
    events.wait_for("open");
    let kinds: [fn(&WebSocketTask, Arc<()>); 3] = [
        |task, held| task.send("x", move |_| drop(Arc::clone(&held))),
        |task, held| task.receive(move |_| drop(Arc::clone(&held))),
        |task, held| task.send_ping(move |_| drop(Arc::clone(&held))),
    ];
    for kind in kinds {
        kind(&task, Arc::clone(&held));
        // Behind it on the serial queue, once it has been answered.
        eventually("it was called", || Arc::strong_count(&held) == 1);
    }
    // On the queue itself: the operation before has been let go when the next one runs.
    let queue = session.delegate_queue();
    for _ in 0..2 {
        let (one, weak, sender) = (Arc::new(()), Arc::downgrade(&held), sender.clone());
        let gone = Arc::downgrade(&one);
        queue.add_operation(move || drop(Arc::clone(&one)));
        queue.add_operation(move || sender.send((gone.upgrade().is_none(), weak.strong_count())).unwrap());
    }
    assert_eq!((wait(&counted), wait(&counted)), ((true, 1), (true, 1)));
    // Each of a row of receives finds the one before it gone.
    let (sender, seen) = mpsc::channel();
    let mut before: Option<std::sync::Weak<()>> = None;
    for number in 0..20 {
        let mine = Arc::new(());
        let (weak, sender, last) = (Arc::downgrade(&mine), sender.clone(), before.take());
        task.receive(move |_| {
            let _mine = &mine;
            sender.send((number, last.is_none_or(|last| last.upgrade().is_none()))).unwrap();
        });
        before = Some(weak);
    }
    (0..20).for_each(|_| task.send("y", |_| {}));
    for number in 0..20 {
        assert_eq!(wait(&seen), (number, true));
    }
}

/// The task's own delegate is let go when its last method has returned: before the session says its last word.
#[test]
fn a_tasks_delegate_is_let_go_before_the_sessions_last_word() {
    let server = Server::one(|mut peer: Peer| {
        peer.open();
        peer.close(1000, "");
        peer.read_close();
    });
    let own = hooks(|_, _, _| {});
    let weak = Arc::downgrade(&own);
    let (sender, at_the_end) = mpsc::channel();
    let seen = weak.clone();
    let delegate = hooks(move |_, _, called| {
        if let Called::Invalid(_) = called {
            sender.send(seen.upgrade().is_none()).unwrap();
        }
    });
    let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), None);
    let task = session.web_socket_task(server.url());
    task.set_delegate(Some(own));
    assert!(weak.upgrade().is_some());
    session.finish_tasks_and_invalidate();
    task.resume();
    assert!(wait(&at_the_end), "the task's delegate is still held");
    assert!(task.delegate().is_none());
    server.join();
}
