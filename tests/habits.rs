//! What programs that were ported do with tasks: habits of clients that are in use, each as a small program.

mod support;

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Barrier, Mutex, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use support::echo::EchoServer;
use support::hooks::{Called, eventually, hooks};
use support::{PATIENCE, Peer, Server, recorded_session, recorded_session_with};
use urlsession::{
    CloseCode, Message, OperationQueue, SessionConfiguration, SessionTask, TaskState, UrlError, UrlSession,
    WebSocketTask,
};

fn wait<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(PATIENCE).expect("it comes")
}

thread_local! {
    /// How many handlers this thread is inside of.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Runs a handler; it must not be inside another.
fn at_the_top(run: impl FnOnce()) {
    DEPTH.with(|depth| {
        assert_eq!(depth.replace(depth.get() + 1), 0, "a handler runs inside another");
        run();
        depth.set(depth.get() - 1);
    });
}

/// Many clients receive again without a look at the error, and a thousand times after the end, too.
#[test]
fn a_receive_that_is_asked_again_after_its_error_is_answered_later() {
    fn receive(task: WebSocketTask, left: usize, done: mpsc::Sender<()>) {
        task.clone().receive(move |result| {
            at_the_top(|| match left {
                0 => done.send(()).unwrap(),
                _ => receive(task, left - usize::from(result.is_err()), done),
            });
        });
    }
    for queue in [OperationQueue::serial(), OperationQueue::new(), OperationQueue::immediate()] {
        let server = Server::one(|mut peer| {
            peer.open();
            peer.text("one");
            peer.close(1000, "");
            peer.read_close();
        });
        let (session, _recorder, events) = recorded_session_with(SessionConfiguration::default(), Some(queue));
        let task = session.web_socket_task(server.url());
        let (done, is_done) = mpsc::channel();
        receive(task.clone(), 1000, done);
        task.resume();
        wait(&is_done);
        events.wait_for("complete None");
        session.finish_tasks_and_invalidate();
        events.wait_for("invalid None");
        server.join();
    }
}

/// Before the task is resumed, and several of them: each gets its message, in order, and at the end each its error.
#[test]
fn receives_that_wait_from_before_the_resume() {
    let server = Server::one(|mut peer| {
        peer.open();
        (0..5).for_each(|number| peer.text(&number.to_string()));
        peer.close(4000, "");
        peer.read_close();
    });
    let (session, recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    for number in 0..10 {
        task.receive(recorder.receiver(&format!("receive {number}")));
    }
    task.resume();
    let mut expected = vec!["open None".to_owned()];
    expected.extend((0..5).map(|number| format!("receive {number} string {number}")));
    expected.extend((5..10).map(|number| format!("receive {number} 57")));
    expected.extend(["close 4000 Some(\"\")".to_owned(), "complete None".to_owned()]);
    events.expect(&expected);
    server.join();
}

/// What the wire has, and what is told, of each code that clients close with.
#[test]
fn every_code_may_be_given_to_cancel_with() {
    // The code, what the server reads, and what the delegate is told.
    let table = [
        (0, None, &["complete -999"][..]),
        (1006, None, &["close 1006 Some(\"why\")", "complete None"]),
        (1015, None, &["close 1015 Some(\"why\")", "complete None"]),
        (4001, Some(4001), &["close 4001 Some(\"why\")", "complete None"]),
    ];
    for (code, on_the_wire, expected) in table {
        let server = Server::one(move |mut peer| {
            peer.open();
            let (read, reason) = peer.read_close();
            assert_eq!(read, on_the_wire, "{code}");
            assert_eq!(reason, if read.is_some() { b"why".to_vec() } else { Vec::new() });
            peer.close(1000, "");
            peer.stream.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(peer.read_to_end(), b"");
        });
        let (session, recorder, events) = recorded_session();
        let task = session.web_socket_task(server.url());
        task.receive(recorder.receiver("receive"));
        task.resume();
        events.wait_for("open");
        task.cancel_with(CloseCode::new(code), Some(b"why"));
        let expected: Vec<&str> = ["open None", "receive -999"].iter().chain(expected).copied().collect();
        events.expect(&expected);
        assert_eq!(task.close_code().raw_value(), code);
        assert_eq!((task.state(), task.error().is_some()), (TaskState::Completed, code == 0));
        server.join();
    }
}

/// "Say goodbye and go": what was sent before `cancel_with` is read before the Close. `cancel` does not wait, and the handler of
/// the send is called once all the same.
#[test]
fn a_message_right_before_the_end() {
    for length in [3, 200_000, 5_000_000] {
        let server = Server::one(move |mut peer| {
            peer.open();
            let mut arrived = 0;
            loop {
                let frame = peer.read_frame();
                if frame.opcode() == 8 {
                    break;
                }
                arrived += frame.payload.len();
            }
            assert_eq!(arrived, length);
            peer.close(1001, "");
            peer.stream.shutdown(std::net::Shutdown::Write).unwrap();
            peer.read_to_end();
        });
        let (session, recorder, events) = recorded_session();
        let task = session.web_socket_task(server.url());
        task.resume();
        events.wait_for("open");
        task.send(vec![1; length], recorder.handler("send"));
        task.cancel_with(CloseCode::GOING_AWAY, None);
        events.expect(&["open None", "send ok", "close 1001 None", "complete None"]);
        server.join();
    }
    for _ in 0..20 {
        let server = EchoServer::start();
        let (session, recorder, events) = recorded_session();
        let task = session.web_socket_task(server.url());
        task.resume();
        events.wait_for("open");
        task.send("bye", recorder.handler("send"));
        task.cancel();
        events.wait_for("complete -999");
        let sends: Vec<String> = events.log().into_iter().filter(|event| event.starts_with("send")).collect();
        assert!(sends == ["send ok"] || sends == ["send -999"], "{sends:?}");
    }
}

/// The application's own executor is the delegate queue, and every callback asserts that it runs there.
#[test]
fn every_callback_runs_on_the_applications_own_executor() {
    thread_local! {
        static ON_EXECUTOR: Cell<bool> = const { Cell::new(false) };
    }
    fn assert_on_executor() {
        assert!(ON_EXECUTOR.get(), "a callback runs elsewhere");
    }
    let (sender, operations) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
    let executor = thread::spawn(move || {
        ON_EXECUTOR.set(true);
        operations.into_iter().for_each(|operation| operation());
    });
    let sender = Mutex::new(sender);
    let queue = OperationQueue::with_executor(move |operation| {
        let _ = sender.lock().unwrap().send(operation);
    });
    let server = EchoServer::start();
    let (done, told) = mpsc::channel();
    let delegate = hooks(move |_, _, called| {
        if !matches!(called, Called::Create) {
            assert_on_executor();
        }
        done.send(called.name()).unwrap();
    });
    let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), Some(queue));
    let task = session.web_socket_task(server.url());
    for _ in 0..50 {
        let again = task.clone();
        task.send("x", |_| assert_on_executor());
        task.send_ping(|_| assert_on_executor());
        task.receive(move |message| {
            assert_on_executor();
            assert!(message.is_ok());
            again.send("y", |_| assert_on_executor());
        });
    }
    task.resume();
    session.get_all_tasks(|_| assert_on_executor());
    session.flush(assert_on_executor);
    let closing = task.clone();
    session.delegate_queue().add_operation(assert_on_executor);
    task.receive(move |_| {
        assert_on_executor();
        closing.cancel_with(CloseCode::NORMAL_CLOSURE, None);
    });
    session.finish_tasks_and_invalidate();
    let mut names = Vec::new();
    while names.last() != Some(&"invalid") {
        names.push(wait(&told));
    }
    assert_eq!(names, ["create", "open", "close", "metrics", "complete", "invalid"]);
    drop((session, task));
    // The queue lets go of the executor, which then ends; a panic in a callback would have ended with its thread.
    executor.join().unwrap();
}

/// Dictionaries from tasks to what belongs to them, looked up with what a delegate method is given.
#[test]
fn tasks_are_keys_of_maps() {
    let server = EchoServer::start();
    let names: Arc<Mutex<HashMap<SessionTask, String>>> = Arc::default();
    let (sender, ended) = mpsc::channel();
    let delegate = hooks({
        let names = Arc::clone(&names);
        move |_, task, called| match (called, task) {
            (Called::Open(_), Some(task)) => task.cancel_with(CloseCode::NORMAL_CLOSURE, None),
            (Called::Complete(_), Some(task)) => {
                let name = names.lock().unwrap().remove(&SessionTask::from(task));
                sender.send(name.expect("it is there")).unwrap();
            }
            _ => {}
        }
    });
    let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), None);
    let tasks: Vec<WebSocketTask> = (0..20).map(|_| session.web_socket_task(server.url())).collect();
    for (number, task) in tasks.iter().enumerate() {
        names.lock().unwrap().insert(task.clone().into(), number.to_string());
    }
    tasks.iter().for_each(|task| task.resume());
    let told: HashSet<String> = tasks.iter().map(|_| wait(&ended)).collect();
    assert_eq!(told.len(), tasks.len());
    assert!(names.lock().unwrap().is_empty());
    // A completed task is still itself.
    #[allow(clippy::mutable_key_type, reason = "tasks hash by identity")]
    let set: HashSet<WebSocketTask> = tasks.iter().cloned().collect();
    assert!(set.len() == tasks.len() && tasks.iter().all(|task| set.contains(task)));
}

/// A client that asks `close_code == .invalid` for "is it still open", and `response` for what the server had agreed to.
#[test]
fn an_invalid_close_code_means_that_no_close_has_come() {
    type Script = fn(Peer);
    let table: [(Script, u16, i32); 4] = [
        (|mut peer| peer.close(4005, "x"), 4005, 57),
        (|mut peer| peer.write(&[0x88, 0]), 1005, 57),
        (|peer| drop(peer), 0, -1005),
        (|peer| peer.reset(), 0, 54),
    ];
    for (script, code, error) in table {
        let (go, may_go) = mpsc::channel();
        let server = Server::one(move |mut peer| {
            peer.open_with("X-Session: 7\r\n");
            peer.text("open");
            wait::<()>(&may_go);
            script(peer);
        });
        let (session, _recorder, events) = recorded_session();
        let task = session.web_socket_task(server.url());
        let (sender, seen) = mpsc::channel();
        let look = |sender: mpsc::Sender<(Option<i32>, u16, Option<String>)>| {
            let task = task.clone();
            move |result: Result<Message, UrlError>| {
                let agreed = task.response().and_then(|response| response.value("x-session"));
                let error = result.err().map(|error| error.raw_code());
                sender.send((error, task.close_code().raw_value(), agreed)).unwrap();
            }
        };
        task.receive(look(sender.clone()));
        task.receive(look(sender));
        task.resume();
        let agreed = Some("7".to_owned());
        assert_eq!(wait(&seen), (None, 0, agreed.clone()));
        go.send(()).unwrap();
        assert_eq!(wait(&seen), (Some(error), code, agreed.clone()));
        events.wait_for("complete");
        assert_eq!(task.response().unwrap().value("X-Session"), agreed);
        assert_eq!(task.response().unwrap().status_code(), 101);
        server.join();
    }
}

/// A wrapper that turns handlers into something that may be resumed once only, while everybody cancels.
#[test]
fn each_handler_is_called_once_whoever_cancels() {
    let server = EchoServer::start();
    for round in 0..30 {
        let (session, _recorder, events) = recorded_session();
        let task = session.web_socket_task(server.url());
        let calls = Arc::new(AtomicUsize::new(0));
        let start = Arc::new(Barrier::new(5));
        let once = |calls: &Arc<AtomicUsize>| {
            let (calls, called) = (Arc::clone(calls), AtomicBool::new(false));
            move || {
                assert!(!called.swap(true, Ordering::SeqCst), "a handler is called twice");
                calls.fetch_add(1, Ordering::SeqCst);
            }
        };
        task.resume();
        if round % 2 == 0 {
            events.wait_for("open");
        }
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let (task, calls, start) = (task.clone(), Arc::clone(&calls), Arc::clone(&start));
                thread::spawn(move || {
                    start.wait();
                    for turn in 0..25 {
                        let [one, two, three] = [once(&calls), once(&calls), once(&calls)];
                        task.send("x", move |_| one());
                        task.receive(move |_| two());
                        task.send_ping(move |_| three());
                        if turn == 5 * number {
                            match number {
                                0 => task.cancel(),
                                1 => task.cancel_with(CloseCode::GOING_AWAY, None),
                                2 => task.suspend(),
                                _ => task.resume(),
                            }
                        }
                    }
                })
            })
            .collect();
        start.wait();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        session.invalidate_and_cancel();
        events.wait_for("invalid");
        eventually("every handler was called", || calls.load(Ordering::SeqCst) == 4 * 25 * 3);
    }
}

/// A client class that its closures hold weakly, with a thread that pings for it, until it is dropped.
#[test]
fn a_client_that_is_held_weakly_goes_when_its_owner_lets_it_go() {
    struct Client {
        task: OnceLock<WebSocketTask>,
        received: mpsc::Sender<Message>,
    }

    impl Client {
        fn start(session: &UrlSession, server: &EchoServer, received: mpsc::Sender<Message>) -> Arc<Self> {
            let client = Arc::new(Self { task: OnceLock::new(), received });
            let task = client.task.get_or_init(|| session.web_socket_task(server.url()));
            task.resume();
            Self::listen(&Arc::downgrade(&client), task);
            client
        }

        fn listen(client: &Weak<Self>, task: &WebSocketTask) {
            let (client, task_) = (client.clone(), task.clone());
            task.receive(move |message| {
                let (Some(strong), Ok(message)) = (client.upgrade(), message) else { return };
                strong.received.send(message).unwrap();
                Self::listen(&client, &task_);
            });
        }
    }

    impl Drop for Client {
        fn drop(&mut self) {
            if let Some(task) = self.task.get() {
                task.cancel_with(CloseCode::GOING_AWAY, None);
            }
        }
    }

    let server = EchoServer::start();
    let (session, _recorder, events) = recorded_session();
    let (sender, received) = mpsc::channel();
    let client = Client::start(&session, &server, sender);
    let weak = Arc::downgrade(&client);
    let (stop, stopped) = mpsc::channel::<()>();
    let pinging = thread::spawn({
        let (weak, pongs) = (weak.clone(), Arc::new(AtomicUsize::new(0)));
        move || {
            while stopped.recv_timeout(Duration::from_millis(1)).is_err() {
                let Some(client) = weak.upgrade() else { break };
                let pongs = Arc::clone(&pongs);
                client.task.get().unwrap().send_ping(move |result| {
                    pongs.fetch_add(usize::from(result.is_ok()), Ordering::Relaxed);
                });
            }
            pongs
        }
    });
    for number in 0..100 {
        client.task.get().unwrap().send(number.to_string(), |result| assert!(result.is_ok()));
        assert_eq!(wait(&received), Message::from(number.to_string()));
    }
    drop(client);
    let pongs = pinging.join().unwrap();
    drop(stop);
    events.wait_for("complete None");
    eventually("nobody holds the client", || weak.strong_count() == 0);
    assert!(pongs.load(Ordering::Relaxed) > 0);
}
