//! Habits of programs that use `URLSessionWebSocketTask`: what they rely on, whether Apple says so or not.

mod support;

use std::cell::Cell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Barrier, Condvar, Mutex, Weak};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use support::echo::EchoServer;
use support::hooks::{Called, Dice, eventually, hooks};
use support::rows::{FIELD, LIMIT, ROWS, Row};
use support::{Events, PATIENCE, Recorder, Server, close_frame, describe, recorded_session, recorded_session_with};
use urlsession::{
    CloseCode, ErrorCode, Message, OperationQueue, SessionConfiguration, SessionDelegate, SessionTask, TaskDelegate,
    TaskState, Url, UrlError, UrlSession, WebSocketDelegate, WebSocketTask,
};

/// What a channel brings, in time.
#[track_caller]
fn wait<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(PATIENCE).expect("something in time")
}

/// Opens a task and waits until it is open.
fn open(session: &UrlSession, url: Url, events: &Events) -> WebSocketTask {
    let task = session.web_socket_task(url);
    task.resume();
    events.wait_for("open");
    task
}

fn numbered(name: impl Display, count: usize, result: &str) -> Vec<String> {
    (0..count).map(|number| format!("{name} {number} {result}")).collect()
}

/// Runs a task to the end of a row, with `count` receives that wait from the beginning; each is told to `told`.
fn run_row(
    row: &Row,
    count: usize,
    told: impl Fn(&WebSocketTask, usize, Result<Message, UrlError>) + Send + Sync + 'static,
) -> (UrlSession, WebSocketTask, Events) {
    println!("{}", row.name);
    let (server, url) = row.start();
    let (session, _, events) = recorded_session();
    let task = session.web_socket_task(url);
    task.set_maximum_message_size(LIMIT);
    let (told, act) = (Arc::new(told), row.act);
    for number in 0..count {
        let (told, session, receiving) = (Arc::clone(&told), session.clone(), task.clone());
        task.receive(move |result| {
            told(&receiving, number, result);
            if number == 0 {
                act(&session, &receiving);
            }
        });
    }
    task.resume();
    events.wait_for("complete");
    if let Some(server) = server {
        server.join();
    }
    (session, task, events)
}

#[test]
fn several_receives_wait_at_once() {
    for row in ROWS {
        let (recorder, told) = support::recorder();
        run_row(row, 6, move |_, number, result| recorder.note(format!("{number} {}", describe(&result))));
        let messages = row.messages.iter().map(|words| (*words).to_owned());
        let expected: Vec<String> = messages
            .chain(std::iter::repeat(row.failure()))
            .take(6)
            .enumerate()
            .map(|(number, words)| format!("{number} {words}"))
            .collect();
        assert_eq!(told.log(), expected);
    }
}

#[test]
fn an_invalid_close_code_means_still_open() {
    for row in ROWS {
        let (recorder, told) = support::recorder();
        let (_session, task, _) = run_row(row, 4, move |task, _, result| {
            let words = describe(&result);
            if let Err(error) = &result {
                // The error of the task is there, which may be another: a task that ended well has none.
                assert!(task.error().is_none_or(|own| own.code() == error.code()));
            }
            recorder.note(format!("{words}, {} {:?}", task.close_code(), task.state()));
        });
        let mut expected: Vec<String> = row.messages.iter().map(|words| format!("{words}, 0 Running")).collect();
        // The programs that ask are told at the first failure.
        let code = CloseCode::new(row.close_code);
        expected.resize(4, format!("{}, {code} Completed", row.waiting));
        assert_eq!(told.log(), expected);
        assert_eq!((task.close_code(), task.state()), (code, TaskState::Completed));
    }
}

#[test]
fn the_response_and_the_error_are_read_after_the_end() {
    fn expect(task: &SessionTask, row: &Row) {
        assert_eq!(task.error().map_or(0, |error| error.raw_code()), row.error, "{}", row.name);
        let response = task.response();
        assert_eq!(response.as_ref().map_or(0, |response| response.status_code()), row.status, "{}", row.name);
        if let Some(response) = response {
            assert_eq!(response.value(&FIELD.0.to_lowercase()).as_deref(), Some(FIELD.1));
            assert_eq!(response.all_header_fields()[FIELD.0], FIELD.1);
        }
        // A refusal is with its error, too.
        let refusal = task.error().and_then(|error| error.response().map(|response| response.status_code()));
        assert_eq!(refusal, (row.waiting == -1011).then_some(row.status), "{}", row.name);
    }
    for row in ROWS {
        // In the handler that is told first, and in those that are told later.
        let (sender, told) = mpsc::channel();
        let (session, task, events) = run_row(row, 4, move |task, _, result| {
            sender.send((result.is_err().then(|| task.clone()), task.response().is_some())).unwrap();
        });
        for (failed, has_response) in told {
            assert_eq!(has_response, row.status != 0);
            if let Some(task) = failed {
                expect(&task, row);
            }
        }
        expect(&task, row);
        // And when nothing is left but the task.
        session.invalidate_and_cancel();
        drop(session);
        events.wait_for("invalid");
        let task: SessionTask = task.into();
        expect(&task, row);
    }
}

thread_local! {
    /// How many handlers this thread is in.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// What a program finds out that receives again whatever it was told.
#[derive(Default)]
struct Rearmed {
    failures: AtomicUsize,
    deepest: AtomicUsize,
    /// The lowest and highest place on each thread's stack.
    stacks: Mutex<HashMap<ThreadId, (usize, usize)>>,
    enough: AtomicBool,
}

/// `listen()` of a program that does not look at the result.
fn listen(task: &WebSocketTask, rearmed: &Arc<Rearmed>) {
    let (again, noting) = (task.clone(), Arc::clone(rearmed));
    task.receive(move |result| {
        DEPTH.set(DEPTH.get() + 1);
        noting.deepest.fetch_max(DEPTH.get(), Ordering::SeqCst);
        let here = std::ptr::from_ref(&result).addr();
        let mut stacks = noting.stacks.lock().unwrap();
        let (low, high) = stacks.entry(thread::current().id()).or_insert((here, here));
        (*low, *high) = (here.min(*low), here.max(*high));
        drop(stacks);
        let failures = noting.failures.fetch_add(usize::from(result.is_err()), Ordering::SeqCst);
        assert!(failures < 10_000_000, "nobody stopped it");
        if failures < 5000 || !noting.enough.load(Ordering::SeqCst) {
            listen(&again, &noting);
        }
        DEPTH.set(DEPTH.get() - 1);
    });
}

#[test]
fn a_receive_that_fails_may_be_asked_for_again_for_ever() {
    type Queue = fn() -> Option<OperationQueue>;
    let queues: [(&str, Queue); 6] = [
        ("the session's own", || None),
        ("concurrent", || Some(OperationQueue::new())),
        ("immediate", || Some(OperationQueue::immediate())),
        ("threads", || Some(OperationQueue::with_executor(|operation| drop(thread::spawn(operation))))),
        ("at once", || Some(OperationQueue::with_executor(|operation| operation()))),
        ("main", || Some(OperationQueue::main())),
    ];
    let rows = ["A: ", "B: ", "C: cancel_with", "D: a reset", "E: "];
    for row in ROWS.iter().filter(|row| rows.iter().any(|name| row.name.starts_with(name))) {
        for (name, queue) in queues {
            println!("{}, {name}", row.name);
            let (server, url) = row.start();
            let rearmed = Arc::new(Rearmed::default());
            // The end is told meanwhile, that of the session too. The loop may run on this thread, where the queue is such.
            let delegate = hooks({
                let rearmed = Arc::clone(&rearmed);
                move |session, _, called| match called {
                    Called::Complete(_) => session.finish_tasks_and_invalidate(),
                    Called::Invalid(_) => rearmed.enough.store(true, Ordering::SeqCst),
                    _ => {}
                }
            });
            let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), queue());
            let task = session.web_socket_task(url);
            let (ends, first, act, rearming) = (session.clone(), task.clone(), row.act, Arc::clone(&rearmed));
            task.receive(move |_| {
                act(&ends, &first);
                listen(&first, &rearming);
            });
            task.resume();
            eventually("the end and thousands of failures", || {
                OperationQueue::main().run_until(Instant::now() + Duration::from_millis(1), || false);
                rearmed.enough.load(Ordering::SeqCst) && rearmed.failures.load(Ordering::SeqCst) > 5000
            });
            assert_eq!(rearmed.deepest.load(Ordering::SeqCst), 1);
            for (low, high) in rearmed.stacks.lock().unwrap().values() {
                assert!(high - low < 16 * 1024, "the stack grew by {}", high - low);
            }
            if let Some(server) = server {
                server.join();
            }
        }
    }
}

#[test]
fn calls_before_resume_wait_in_order() {
    let server = Server::one(|mut peer| {
        peer.open();
        assert_eq!(peer.read_frame().payload, b"0");
        assert_eq!(peer.read_frame().payload, b"1");
        let ping = peer.read_frame();
        assert_eq!(ping.opcode(), 9);
        for number in 0..3 {
            peer.text(&number.to_string());
        }
        peer.write(&support::frame(0x8a, &ping.payload));
        peer.close(1000, "");
        peer.read_close();
    });
    let (session, recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    for number in 0..4 {
        task.receive(recorder.receiver(&format!("receive {number}")));
    }
    for number in 0..2 {
        task.send(number.to_string(), recorder.handler(&format!("send {number}")));
    }
    task.send_ping(recorder.handler("ping"));
    assert!(events.log().is_empty());
    task.resume();
    events.wait_for("complete None");
    let log = events.log();
    let of =
        |kind: &str| -> Vec<&str> { log.iter().filter(|event| event.starts_with(kind)).map(String::as_str).collect() };
    assert_eq!(log[0], "open None");
    assert_eq!(of("receive"), ["receive 0 string 0", "receive 1 string 1", "receive 2 string 2", "receive 3 57"]);
    assert_eq!((of("send"), of("ping")), (vec!["send 0 ok", "send 1 ok"], vec!["ping ok"]));
    server.join();
}

#[test]
fn a_hundred_pings_in_flight_fail_in_order_at_the_end() {
    type End = (fn(&WebSocketTask), &'static str, &'static str);
    let ends: [End; 3] = [
        (|task| task.cancel(), "-999", "complete -999"),
        (|task| task.cancel_with(CloseCode::NORMAL_CLOSURE, None), "-999", "complete None"),
        // The server goes.
        (|task| task.send("go", |_| ()), "-1005", "complete -1005"),
    ];
    for (end, failure, complete) in ends {
        let server = Server::one(|mut peer| {
            peer.open();
            let mut pings = 0;
            while let Ok(frame) = peer.try_read_frame() {
                match frame.opcode() {
                    9 => pings += 1,
                    8 => return peer.write(&close_frame(1000, "")),
                    _ => break,
                }
            }
            assert_eq!(pings, 100);
        });
        let (session, recorder, events) = recorded_session();
        let task = open(&session, server.url(), &events);
        for number in 0..100 {
            task.send_ping(recorder.handler(&format!("ping {number}")));
        }
        end(&task);
        events.wait_for(complete);
        let told: Vec<String> = events.log().into_iter().filter(|event| event.starts_with("ping")).collect();
        assert_eq!(told, numbered("ping", 100, failure));
        server.join();
    }
}

/// `listen()` of a program that receives as long as the socket seems open.
fn listen_while_open(task: &WebSocketTask, recorder: &Arc<Recorder>) {
    let (again, noting) = (task.clone(), Arc::clone(recorder));
    task.receive(move |result| {
        noting.receiver("receive")(result);
        if again.close_code() == CloseCode::INVALID && again.error().is_none() {
            listen_while_open(&again, &noting);
        }
    });
}

#[test]
fn a_loop_that_receives_while_the_close_code_is_invalid_misses_nothing() {
    for closes in [true, false] {
        let server = Server::one(move |mut peer| {
            peer.open();
            let mut bytes: Vec<u8> =
                (0..200).flat_map(|number| support::frame(0x81, number.to_string().as_bytes())).collect();
            if closes {
                bytes.extend(close_frame(4000, "bye"));
            }
            peer.write(&bytes);
            if closes {
                peer.read_close();
            }
        });
        let (session, recorder, events) = recorded_session();
        let task = session.web_socket_task(server.url());
        task.resume();
        // The end is known before the first message is taken.
        server.join();
        events.wait_for("open");
        events.expect_silence(Duration::from_millis(20));
        assert_eq!((task.close_code(), task.state()), (CloseCode::INVALID, TaskState::Running));
        listen_while_open(&task, &recorder);
        events.wait_for("complete");
        let mut expected: Vec<String> = (0..200).map(|number| format!("receive string {number}")).collect();
        expected.push(if closes { "receive 57" } else { "receive -1005" }.to_owned());
        let told: Vec<String> = events.log().into_iter().filter(|event| event.starts_with("receive")).collect();
        assert_eq!(told, expected);
    }
}

/// What `cancel_with` of a code comes to.
struct Cancel {
    code: u16,
    /// On the wire.
    close: (Option<u16>, &'static [u8]),
    told: &'static [&'static str],
    error: i32,
    reason: Option<&'static [u8]>,
}

#[test]
fn codes_that_programs_cancel_with() {
    let cancels = [
        // `cancel(with: .invalid, reason:)` is `cancel()`.
        Cancel { code: 0, close: (None, b""), told: &["metrics", "complete -999"], error: -999, reason: None },
        Cancel {
            code: 1006,
            close: (None, b""),
            told: &["close 1006 Some(\"gone\")", "metrics", "complete None"],
            error: 0,
            reason: Some(b"gone"),
        },
        Cancel {
            code: 1015,
            close: (None, b""),
            told: &["close 1015 Some(\"gone\")", "metrics", "complete None"],
            error: 0,
            reason: Some(b"gone"),
        },
        Cancel {
            code: 4001,
            close: (Some(4001), b"gone"),
            told: &["close 4001 Some(\"gone\")", "metrics", "complete None"],
            error: 0,
            reason: Some(b"gone"),
        },
    ];
    for cancel in cancels {
        let (sender, closed) = mpsc::channel();
        let (answer, may_answer) = mpsc::channel::<()>();
        let server = Server::one(move |mut peer| {
            peer.open();
            sender.send(peer.read_close()).unwrap();
            let _ = may_answer.recv_timeout(PATIENCE);
            // Of a task that is cancelled, nobody waits for it.
            let _ = std::io::Write::write_all(&mut peer.stream, &close_frame(1000, "as you like"));
        });
        let (session, recorder, events) = recorded_session();
        let task = open(&session, server.url(), &events);
        task.receive(recorder.handler::<Message>("receive"));
        task.send_ping(recorder.handler("ping"));
        task.cancel_with(CloseCode::new(cancel.code), Some(b"gone"));
        let close = wait(&closed);
        assert_eq!((close.0, &close.1[..]), cancel.close, "{}", cancel.code);
        if cancel.error == 0 {
            // It is over when the server has answered.
            assert_eq!((task.state(), task.close_code()), (TaskState::Canceling, CloseCode::INVALID));
        }
        answer.send(()).unwrap();
        events.wait_for("complete");
        let mut log = events.log();
        log[1..3].sort();
        assert_eq!(log[..3], ["open None", "ping -999", "receive -999"]);
        assert_eq!(log[3..], *cancel.told);
        assert_eq!(task.close_code(), CloseCode::new(if cancel.error == 0 { cancel.code } else { 0 }));
        assert_eq!(task.close_reason().as_deref(), cancel.reason);
        assert_eq!(task.error().map_or(0, |error| error.raw_code()), cancel.error);
        assert_eq!(task.state(), TaskState::Completed);
        server.join();
    }
}

#[test]
fn what_was_sent_right_before_a_cancel() {
    for round in 0..20 {
        for gently in [true, false] {
            // The last of them is more than the kernel takes at once, now and then.
            let sizes = [0, 1, 1000, if round % 4 == 0 { 4 * 1024 * 1024 } else { 100_000 }];
            let (sender, arrived) = mpsc::channel();
            let server = Server::one(move |mut peer| {
                peer.open();
                let mut size = 0;
                while let Ok(frame) = peer.try_read_frame() {
                    size += frame.payload.len();
                    if !frame.is_final() {
                        continue;
                    }
                    sender.send((frame.opcode() == 8, std::mem::take(&mut size))).unwrap();
                    if frame.opcode() == 8 {
                        // It may be that nobody waits for it.
                        let _ = std::io::Write::write_all(&mut peer.stream, &close_frame(1000, ""));
                        break;
                    }
                }
            });
            let (session, recorder, events) = recorded_session();
            let task = open(&session, server.url(), &events);
            for size in sizes {
                task.send(vec![7; size], recorder.handler("send"));
            }
            if gently {
                task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
            } else {
                task.cancel();
            }
            events.wait_for("complete");
            server.join();
            let arrived: Vec<(bool, usize)> = arrived.iter().collect();
            let messages: Vec<usize> =
                arrived.iter().filter(|(is_close, _)| !is_close).map(|(_, size)| *size).collect();
            let sent = events.log().iter().filter(|event| *event == "send ok").count();
            let failed = events.log().iter().filter(|event| *event == "send -999").count();
            assert_eq!(sent + failed, sizes.len());
            if gently {
                // Each leaves before the Close.
                assert_eq!((&messages[..], arrived.last()), (&sizes[..], Some(&(true, 2))));
                assert_eq!(sent, sizes.len());
            } else {
                // What a handler was told of has arrived, whole; nothing else comes between.
                assert_eq!(messages[..], sizes[..messages.len()]);
                assert!(messages.len() >= sent, "{messages:?}, {sent}");
            }
        }
    }
}

thread_local! {
    /// This thread is the caller's executor.
    static IS_EXECUTOR: Cell<bool> = const { Cell::new(false) };
}

#[test]
fn every_callback_runs_on_the_callers_executor_which_asserts_it() {
    type Operation = Box<dyn FnOnce() + Send>;
    let (sender, operations) = mpsc::channel::<Operation>();
    let executor = thread::spawn(move || {
        IS_EXECUTOR.set(true);
        operations.iter().map(|operation| operation()).count()
    });
    let sender = Mutex::new(sender);
    let queue = OperationQueue::with_executor(move |operation| sender.lock().unwrap().send(operation).unwrap());
    // `dispatchPrecondition(condition: .onQueue(queue))`. A panic in a callback would be only reported.
    let elsewhere = Arc::new(Mutex::new(Vec::new()));
    let called = Arc::new(AtomicUsize::new(0));
    let here = {
        let (elsewhere, called) = (Arc::clone(&elsewhere), Arc::clone(&called));
        move |name: &'static str| {
            called.fetch_add(1, Ordering::SeqCst);
            if !IS_EXECUTOR.get() {
                elsewhere.lock().unwrap().push(name);
            }
        }
    };
    let server = EchoServer::start_with(b"HTTP/1.1 103 Early Hints\r\n\r\n", b"");
    let (sender, over) = mpsc::channel();
    let delegate = hooks({
        let here = here.clone();
        move |_, _, called| {
            if !matches!(called, Called::Create) {
                here(called.name());
            }
            if matches!(called, Called::Complete(_) | Called::Invalid(_)) {
                sender.send(called.name()).unwrap();
            }
        }
    });
    let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), Some(queue.clone()));
    let task = session.web_socket_task(server.url());
    let everything = |task: &WebSocketTask| {
        for _ in 0..20 {
            let noting: Vec<_> = (0..3).map(|_| here.clone()).collect();
            let [send, receive, ping]: [_; 3] = noting.try_into().unwrap_or_else(|_| panic!("three"));
            task.send("x", move |_| send("send"));
            task.receive(move |_| receive("receive"));
            task.send_ping(move |_| ping("ping"));
        }
        let noting: Vec<_> = (0..3).map(|_| here.clone()).collect();
        let [all, reset, flush]: [_; 3] = noting.try_into().unwrap_or_else(|_| panic!("three"));
        session.get_all_tasks(move |_| all("tasks"));
        session.reset(move || reset("reset"));
        session.flush(move || flush("flush"));
    };
    // Before the start, on the open socket, while it closes, and behind the end.
    everything(&task);
    task.resume();
    eventually("half of it", || called.load(Ordering::SeqCst) >= 65);
    everything(&task);
    task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
    everything(&task);
    assert_eq!(wait(&over), "complete");
    everything(&task);
    session.finish_tasks_and_invalidate();
    assert_eq!(wait(&over), "invalid");
    eventually("all of it", || called.load(Ordering::SeqCst) == 4 * 63 + 6);
    assert_eq!(*elsewhere.lock().unwrap(), <[&str; 0]>::default());
    drop((task, session, queue));
    assert!(executor.join().unwrap() > 0);
}

#[test]
fn tasks_of_a_concurrent_queue_overlap_and_each_keeps_its_order() {
    const TASKS: usize = 4;
    const MESSAGES: usize = 300;
    let server = EchoServer::start();
    let queue = OperationQueue::new();
    queue.set_max_concurrent_operation_count(TASKS);
    let (session, recorder, events) = recorded_session_with(SessionConfiguration::default(), Some(queue));
    /// What is known of one task.
    #[derive(Default)]
    struct Seen {
        busy: AtomicBool,
        received: Mutex<Vec<String>>,
        sent: AtomicUsize,
    }
    let together = Arc::new(Barrier::new(TASKS));
    let faults = Arc::new(AtomicUsize::new(0));
    fn receive(task: &WebSocketTask, seen: &Arc<Seen>, together: &Arc<Barrier>, faults: &Arc<AtomicUsize>) {
        let (again, noting, meeting, counting) =
            (task.clone(), Arc::clone(seen), Arc::clone(together), Arc::clone(faults));
        task.receive(move |result| {
            counting.fetch_add(usize::from(noting.busy.swap(true, Ordering::SeqCst)), Ordering::SeqCst);
            let Ok(Message::String(text)) = result else { return };
            let mut received = noting.received.lock().unwrap();
            received.push(text);
            let count = received.len();
            drop(received);
            // All four are here at once, again and again, or nobody goes on.
            if count % 100 == 0 {
                meeting.wait();
            }
            if count == MESSAGES {
                again.cancel_with(CloseCode::NORMAL_CLOSURE, None);
            } else {
                receive(&again, &noting, &meeting, &counting);
            }
            thread::yield_now();
            noting.busy.store(false, Ordering::SeqCst);
        });
    }
    let tasks: Vec<(WebSocketTask, Arc<Seen>)> = (0..TASKS)
        .map(|_| {
            let (task, seen) = (session.web_socket_task(server.url()), Arc::new(Seen::default()));
            receive(&task, &seen, &together, &faults);
            for number in 0..MESSAGES {
                let (noting, counting) = (Arc::clone(&seen), Arc::clone(&faults));
                task.send(number.to_string(), move |_| {
                    counting.fetch_add(usize::from(noting.busy.swap(true, Ordering::SeqCst)), Ordering::SeqCst);
                    let sent = noting.sent.fetch_add(1, Ordering::SeqCst);
                    counting.fetch_add(usize::from(sent != number), Ordering::SeqCst);
                    noting.busy.store(false, Ordering::SeqCst);
                });
            }
            task.resume();
            (task, seen)
        })
        .collect();
    for _ in 0..TASKS {
        events.wait_for("complete None");
    }
    let expected: Vec<String> = (0..MESSAGES).map(|number| number.to_string()).collect();
    for (_, seen) in &tasks {
        assert_eq!(*seen.received.lock().unwrap(), expected);
        assert_eq!(seen.sent.load(Ordering::SeqCst), MESSAGES);
    }
    assert_eq!(faults.load(Ordering::SeqCst), 0);
    drop(recorder);
    session.invalidate_and_cancel();
}

#[test]
#[allow(clippy::mutable_key_type, reason = "what changes of a task is neither compared nor hashed")]
fn tasks_are_keys() {
    let server = EchoServer::start();
    /// What a program keeps by task, and finds again in every callback.
    #[derive(Default)]
    struct Rooms {
        by_socket: Mutex<HashMap<WebSocketTask, String>>,
        by_task: Mutex<HashMap<SessionTask, String>>,
        left: Mutex<HashSet<WebSocketTask>>,
    }
    let rooms = Arc::new(Rooms::default());
    let (sender, found) = mpsc::channel();
    let delegate = hooks({
        let rooms = Arc::clone(&rooms);
        move |_, task, called| {
            let Some(task) = task else { return };
            // Tasks of a callback are other handles than those that were kept.
            let as_task = SessionTask::from(task);
            if let Called::Create = called {
                rooms.by_socket.lock().unwrap().insert(task.clone(), format!("room {}", task.task_identifier()));
                rooms.by_task.lock().unwrap().insert(as_task, format!("room {}", task.task_identifier()));
                return;
            }
            let by_socket = rooms.by_socket.lock().unwrap().get(&as_task.as_web_socket_task().unwrap()).cloned();
            let by_task = rooms.by_task.lock().unwrap().get(&**task).cloned();
            assert!(by_socket.is_some());
            if let Called::Complete(_) = called {
                rooms.left.lock().unwrap().insert(task.clone());
            }
            sender.send((called.name(), by_socket, by_task)).unwrap();
        }
    });
    let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), None);
    let tasks: Vec<WebSocketTask> = (0..20).map(|_| session.web_socket_task(server.url())).collect();
    for task in &tasks {
        task.resume();
        task.send_ping({
            let task = task.clone();
            move |_| task.cancel_with(CloseCode::NORMAL_CLOSURE, None)
        });
    }
    for _ in 0..20 * 4 {
        let (name, by_socket, by_task) = wait(&found);
        assert!(by_socket.is_some() && by_socket == by_task, "{name}: {by_socket:?}, {by_task:?}");
    }
    // Completed, they are the same keys; so they are when their session is gone.
    session.invalidate_and_cancel();
    drop(session);
    for task in &tasks {
        let room = format!("room {}", task.task_identifier());
        assert_eq!(rooms.by_task.lock().unwrap().remove(&**task).as_ref(), Some(&room));
        assert_eq!(rooms.by_socket.lock().unwrap().remove(task), Some(room));
        assert!(rooms.left.lock().unwrap().remove(task) && !rooms.left.lock().unwrap().contains(task));
    }
    // Tasks of other sessions have the same identifiers, and are others.
    let other = UrlSession::new(SessionConfiguration::default()).web_socket_task(server.url());
    assert_eq!(other.task_identifier(), tasks[0].task_identifier());
    let set: HashSet<&WebSocketTask> = tasks.iter().collect();
    assert!(set.len() == 20 && !set.contains(&other));
    assert_ne!(other, tasks[0]);
}

/// A program with one task at a time: it connects again when the task it has now is over, and takes no notice of others.
struct Reconnecting {
    url: Url,
    session: Mutex<Option<UrlSession>>,
    task: Mutex<Option<WebSocketTask>>,
    recorder: Arc<Recorder>,
    weak: Weak<Self>,
}

impl Reconnecting {
    fn start(url: Url, recorder: Arc<Recorder>) -> Arc<Self> {
        let (session, task) = (Mutex::default(), Mutex::default());
        let program = Arc::new_cyclic(|weak| Self { url, session, task, recorder, weak: weak.clone() });
        let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(program.clone()), None);
        *program.session.lock().unwrap() = Some(session);
        program.connect();
        program
    }

    fn connect(&self) {
        let Some(session) = self.session.lock().unwrap().clone() else { return };
        let task = session.web_socket_task(&self.url);
        let old = self.task.lock().unwrap().replace(task.clone());
        task.resume();
        // `[weak self]`.
        let weak = self.weak.clone();
        task.receive(move |result| {
            let Some(program) = weak.upgrade() else { return };
            program.recorder.note(format!("receive {}", describe(&result)));
        });
        if let Some(old) = old {
            old.cancel();
        }
    }
}

impl SessionDelegate for Reconnecting {
    fn did_become_invalid_with_error(&self, _session: &UrlSession, _error: Option<&UrlError>) {
        self.recorder.note("invalid");
    }
}

impl TaskDelegate for Reconnecting {
    fn did_complete_with_error(&self, _session: &UrlSession, task: &SessionTask, error: Option<&UrlError>) {
        let code = error.map_or(0, UrlError::raw_code);
        // `guard task === self.task else { return }`.
        if self.task.lock().unwrap().as_ref().is_none_or(|current| current != task) {
            return self.recorder.note(format!("old {} {code}", task.task_identifier()));
        }
        self.recorder.note(format!("current {} {code}", task.task_identifier()));
        self.connect();
    }
}

impl WebSocketDelegate for Reconnecting {
    fn did_open_with_protocol(&self, _session: &UrlSession, task: &WebSocketTask, _protocol: Option<&str>) {
        if self.task.lock().unwrap().as_ref() == Some(task) {
            self.recorder.note(format!("open {}", task.task_identifier()));
        }
    }
}

#[test]
fn guards_against_old_tasks_hold() {
    let (drops, may_drop) = mpsc::channel::<()>();
    let may_drop = Mutex::new(may_drop);
    let server = Server::many(3, move |number, mut peer| {
        peer.open();
        if number == 0 {
            // The connection is lost.
            may_drop.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            return;
        }
        peer.text(&format!("connection {number}"));
        peer.read_to_end();
    });
    let (recorder, events) = support::recorder();
    let program = Reconnecting::start(server.url(), recorder);
    assert_eq!(events.next(), "open 1");
    drops.send(()).unwrap();
    // The task that is lost is the current one: another takes its place, and the late cancel of the old one changes nothing.
    for expected in ["receive -1005", "current 1 -1005", "open 2", "receive string connection 1"] {
        assert_eq!(events.next(), expected);
    }
    // The program changes its mind: what it had is an old one when its end is told.
    program.connect();
    let mut told: Vec<String> = (0..3).map(|_| events.next()).collect();
    told.sort();
    assert_eq!(told, ["old 2 -999", "open 3", "receive string connection 2"]);
    let session = program.session.lock().unwrap().take().unwrap();
    session.invalidate_and_cancel();
    drop(session);
    assert_eq!((events.next(), events.next()), ("current 3 -999".to_owned(), "invalid".to_owned()));
    server.join();
    // Handlers that hold their program weakly hold it no longer than it lives.
    eventually("the session lets its delegate go", || Arc::strong_count(&program) == 1);
}

#[test]
fn a_handler_that_holds_its_owner_weakly_lets_it_go() {
    let server = EchoServer::start();
    let (session, _recorder, events) = recorded_session();
    /// A screen with a socket.
    struct Screen {
        task: WebSocketTask,
        gone: Sender<()>,
        seen: Mutex<Vec<String>>,
    }
    impl Drop for Screen {
        fn drop(&mut self) {
            self.task.cancel_with(CloseCode::GOING_AWAY, None);
            self.gone.send(()).unwrap();
        }
    }
    fn listen(screen: &Arc<Screen>, over: Sender<&'static str>) {
        let weak = Arc::downgrade(screen);
        screen.task.receive(move |result| {
            let Some(screen) = weak.upgrade() else { return over.send("without its screen").unwrap() };
            screen.seen.lock().unwrap().push(describe(&result));
            over.send("with its screen").unwrap();
            if result.is_ok() {
                listen(&screen, over);
            }
        });
    }
    let task = open(&session, server.url(), &events);
    let ((gone, is_gone), (over, told)) = (mpsc::channel(), mpsc::channel());
    let screen = Arc::new(Screen { task: task.clone(), gone, seen: Mutex::default() });
    listen(&screen, over);
    for number in 0..3 {
        task.send(number.to_string(), |_| ());
        assert_eq!(wait(&told), "with its screen");
    }
    // The handler of the last may be on its way out still.
    eventually("nobody else holds it", || Arc::strong_count(&screen) == 1);
    assert_eq!(*screen.seen.lock().unwrap(), ["string 0", "string 1", "string 2"]);
    drop(screen);
    wait(&is_gone);
    assert_eq!(wait(&told), "without its screen");
    events.wait_for("complete None");
    // The handler and what it held are gone.
    assert!(told.recv_timeout(PATIENCE).is_err());
}

#[test]
fn a_timer_pings_until_there_is_an_error() {
    let server = EchoServer::start();
    let (session, _recorder, events) = recorded_session();
    let task = open(&session, server.url(), &events);
    let (sender, told) = mpsc::channel();
    let (pinging, answered) = (task.clone(), Arc::new(AtomicUsize::new(0)));
    let counting = Arc::clone(&answered);
    // Apple's sample: a timer whose every turn pings, whether or not the last was answered.
    let timer = thread::spawn(move || {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut turns = 0;
        while !is_over.load(Ordering::SeqCst) {
            assert!(turns < 1_000_000);
            turns += 1;
            let (is_over, counting, sender) = (Arc::clone(&is_over), Arc::clone(&counting), sender.clone());
            pinging.send_ping(move |result| match result {
                Ok(()) => drop(counting.fetch_add(1, Ordering::SeqCst)),
                Err(error) => {
                    is_over.store(true, Ordering::SeqCst);
                    sender.send(error.raw_code()).unwrap();
                }
            });
            thread::park_timeout(Duration::from_micros(100));
        }
        turns
    });
    eventually("a hundred pongs", || answered.load(Ordering::SeqCst) >= 100);
    task.cancel_with(CloseCode::GOING_AWAY, None);
    events.wait_for("complete None");
    let turns = timer.join().unwrap();
    // Each was told of once: pongs first, then nothing but failures.
    let failures: Vec<i32> = told.iter().collect();
    assert!(!failures.is_empty() && failures.iter().all(|code| *code == -999));
    assert_eq!(answered.load(Ordering::SeqCst) + failures.len(), turns);
}

/// `CheckedContinuation`: resumed exactly once, or the program is wrong.
struct Continuation {
    resumed: Arc<AtomicI64>,
    wrong: Arc<AtomicUsize>,
    left: Cell<bool>,
}

impl Continuation {
    fn resume(&self) {
        self.resumed.fetch_add(1, Ordering::SeqCst);
        self.wrong.fetch_add(usize::from(!self.left.replace(false)), Ordering::SeqCst);
    }
}

impl Drop for Continuation {
    fn drop(&mut self) {
        self.wrong.fetch_add(usize::from(self.left.get()), Ordering::SeqCst);
    }
}

#[test]
fn a_continuation_is_resumed_once_in_a_storm_of_cancels() {
    const THREADS: usize = 6;
    const CALLS: i64 = 20;
    let server = EchoServer::start();
    for round in 0..60 {
        let (session, _recorder, events) = recorded_session();
        let task = session.web_socket_task(server.url());
        if round % 3 != 0 {
            task.resume();
        }
        if round % 3 == 2 {
            events.wait_for("open");
        }
        let (resumed, wrong) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicUsize::new(0)));
        let barrier = Arc::new(Barrier::new(THREADS));
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                let (session, task, barrier) = (session.clone(), task.clone(), Arc::clone(&barrier));
                let (resumed, wrong) = (Arc::clone(&resumed), Arc::clone(&wrong));
                let continuation = move || Continuation {
                    resumed: Arc::clone(&resumed),
                    wrong: Arc::clone(&wrong),
                    left: Cell::new(true),
                };
                thread::spawn(move || {
                    let mut dice = Dice((round * THREADS + number) as u64);
                    barrier.wait();
                    for call in 0..CALLS {
                        let (send, receive, ping) = (continuation(), continuation(), continuation());
                        task.send("x", move |_| send.resume());
                        task.receive(move |_| receive.resume());
                        task.send_ping(move |_| ping.resume());
                        match dice.below(40) {
                            0 => task.cancel(),
                            1 => task.cancel_with(CloseCode::GOING_AWAY, None),
                            2 => session.invalidate_and_cancel(),
                            3 => task.suspend(),
                            4..8 => task.resume(),
                            _ if call + 1 == CALLS && number == 0 => task.cancel(),
                            _ => {}
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        task.cancel();
        events.wait_for("complete");
        session.invalidate_and_cancel();
        let calls = 3 * CALLS * THREADS as i64;
        eventually("every continuation goes on", || resumed.load(Ordering::SeqCst) == calls);
        events.wait_for("invalid");
        assert_eq!((resumed.load(Ordering::SeqCst), wrong.load(Ordering::SeqCst)), (calls, 0), "round {round}");
    }
}

/// Requests of many threads over one socket, each of which waits for its answer: what `receive` gives goes to who asked first.
#[test]
fn many_threads_send_and_one_receive_after_the_other_answers_them() {
    const THREADS: usize = 8;
    const EACH: usize = 50;
    let server = EchoServer::start();
    let (session, _recorder, events) = recorded_session();
    let task = open(&session, server.url(), &events);
    /// Who waits, in the order of their requests.
    #[derive(Default)]
    struct Line {
        waiting: Mutex<VecDeque<Sender<String>>>,
        empty: Condvar,
    }
    let line = Arc::new(Line::default());
    fn answer(task: &WebSocketTask, line: &Arc<Line>) {
        let (again, answering) = (task.clone(), Arc::clone(line));
        task.receive(move |result| {
            let Ok(Message::String(text)) = result else { return };
            let mut waiting = answering.waiting.lock().unwrap();
            waiting.pop_front().expect("somebody asked").send(text).unwrap();
            if waiting.is_empty() {
                answering.empty.notify_all();
            }
            drop(waiting);
            answer(&again, &answering);
        });
    }
    answer(&task, &line);
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (task, line) = (task.clone(), Arc::clone(&line));
            thread::spawn(move || {
                for number in 0..EACH {
                    let (sender, answer) = mpsc::channel();
                    let request = format!("{thread} {number} {}", "x".repeat(number * 17));
                    // The line and the socket have the same order.
                    let mut waiting = line.waiting.lock().unwrap();
                    waiting.push_back(sender);
                    task.send(request.as_str(), |result| result.unwrap());
                    drop(waiting);
                    assert_eq!(wait(&answer), request);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let waiting = line.waiting.lock().unwrap();
    let (waiting, _) = line.empty.wait_timeout_while(waiting, PATIENCE, |waiting| !waiting.is_empty()).unwrap();
    assert!(waiting.is_empty());
    drop(waiting);
    task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
    events.wait_for("complete None");
}

#[test]
fn labels_and_priorities_are_of_the_task_and_not_of_a_handle() {
    let server = EchoServer::start();
    let (sender, told) = mpsc::channel();
    let delegate = hooks(move |_, task, called| {
        let Some(task) = task else { return };
        sender.send((called.name(), task.task_description(), task.priority())).unwrap();
        if let Called::Open(_) = called {
            task.set_task_description(Some("open"));
            task.set_priority(2.0);
            task.cancel();
        }
    });
    let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), None);
    let task = session.web_socket_task(server.url());
    assert_eq!(wait(&told), ("create", None, SessionTask::DEFAULT_PRIORITY));
    let handle = SessionTask::from(&task);
    handle.set_task_description(Some("quotes: eu-1"));
    handle.set_priority(SessionTask::LOW_PRIORITY);
    assert_eq!((task.task_description().as_deref(), task.priority()), (Some("quotes: eu-1"), 0.25));
    task.resume();
    assert_eq!(wait(&told), ("open", Some("quotes: eu-1".to_owned()), 0.25));
    for name in ["metrics", "complete"] {
        assert_eq!(wait(&told), (name, Some("open".to_owned()), 1.0));
    }
    handle.set_task_description(None);
    assert_eq!(task.task_description(), None);
    task.set_priority(-1.0);
    assert_eq!(handle.priority(), 0.0);
}

#[test]
fn counts_of_bytes_are_those_of_messages() {
    let server = Server::one(|mut peer| {
        peer.open();
        for _ in 0..3 {
            let frame = peer.read_frame();
            peer.write(&support::frame(frame.first, &frame.payload));
        }
        // Pings, pongs and the Close do not count, nor does a message of which a part came.
        peer.write(&support::frame(0x89, b"ping"));
        assert_eq!(peer.read_frame().payload, b"ping");
        peer.write(&support::frame(0x01, b"a part"));
        peer.close(1000, "bye");
        peer.read_close();
    });
    let (session, recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    let counts = |task: &SessionTask| (task.count_of_bytes_sent(), task.count_of_bytes_received());
    let mut sum = 0;
    for size in [0_u8, 5, 200] {
        sum += i64::from(size);
        let (counting, noting) = (task.clone(), recorder.clone());
        task.send(vec![size; size.into()], move |_| {
            // In its handler the message is among those that were sent.
            noting.note(format!("sent {}", counting.count_of_bytes_sent() >= sum));
        });
        let (counting, noting) = (task.clone(), recorder.clone());
        task.receive(move |_| noting.note(format!("received {}", counting.count_of_bytes_received() >= sum)));
    }
    assert_eq!(counts(&task), (0, 0));
    task.resume();
    events.wait_for("complete None");
    let log = events.log();
    assert_eq!(log.iter().filter(|event| *event == "sent true").count(), 3, "{log:?}");
    assert_eq!(log.iter().filter(|event| *event == "received true").count(), 3, "{log:?}");
    assert_eq!(counts(&task), (205, 205));
    server.join();
}

#[test]
fn a_state_that_is_polled_never_goes_back() {
    type End = (fn(&WebSocketTask), &'static [TaskState]);
    use TaskState::{Canceling, Completed, Running, Suspended};
    // What may be seen, in this order; what is short may be missed.
    let ends: [End; 3] = [
        (|task| task.cancel(), &[Suspended, Running, Canceling, Completed]),
        (|task| task.cancel_with(CloseCode::NORMAL_CLOSURE, None), &[Suspended, Running, Canceling, Completed]),
        (|task| task.send("close", |_| ()), &[Suspended, Running, Completed]),
    ];
    for round in 0..10 {
        for (end, states) in ends {
            let server = Server::one(|mut peer| {
                peer.open();
                if peer.read_frame().opcode() == 8 {
                    return peer.write(&close_frame(1000, ""));
                }
                peer.close(1000, "");
                peer.read_close();
            });
            let (session, _recorder, events) = recorded_session();
            let task = session.web_socket_task(server.url());
            // A window that shows the state whenever it is drawn.
            let (shown, polling) = (Arc::new(AtomicBool::new(false)), task.clone());
            let has_shown = Arc::clone(&shown);
            let window = thread::spawn(move || {
                let mut seen = vec![polling.state()];
                has_shown.store(true, Ordering::SeqCst);
                let deadline = Instant::now() + PATIENCE;
                while polling.state() != Completed && Instant::now() < deadline {
                    // What goes with the state: nothing of the end before it, all of it afterwards.
                    let (code, error, state) = (polling.close_code(), polling.error(), polling.state());
                    assert!(state == Completed || (code == CloseCode::INVALID && error.is_none()), "{state:?} {code}");
                    if seen.last() != Some(&state) {
                        seen.push(state);
                    }
                    thread::yield_now();
                }
                seen.push(polling.state());
                seen.dedup();
                (seen, polling.close_code(), polling.error().is_some())
            });
            eventually("the window shows", || shown.load(Ordering::SeqCst));
            task.resume();
            events.wait_for("open");
            end(&task);
            events.wait_for("complete");
            let (seen, code, failed) = window.join().unwrap();
            assert_eq!((seen.first(), seen.last()), (Some(&Suspended), Some(&Completed)), "round {round}");
            let mut allowed = states.iter();
            assert!(seen.iter().all(|state| allowed.any(|allowed| allowed == state)), "{seen:?}");
            assert_eq!((code, failed), (task.close_code(), task.error().is_some()));
            server.join();
        }
    }
}

#[test]
fn the_first_failure_says_why_and_the_later_ones_that_it_is_over() {
    let (recorder, events) = support::recorder();
    for row in ROWS {
        let (_session, task, _) = run_row(row, 4, |_, _, _| ());
        task.send("late", recorder.handler("send"));
        task.receive(recorder.handler::<Message>("receive"));
        task.send_ping(recorder.handler("ping"));
        // Of what was open and broke, later calls know only that it is no more.
        let broke = !row.messages.is_empty() && row.waiting != -999;
        let later = if broke { 57 } else { row.waiting };
        let mut told: Vec<String> = (0..3).map(|_| events.next()).collect();
        told.sort();
        assert_eq!(told, ["ping", "receive", "send"].map(|kind| format!("{kind} {later}")), "{}", row.name);
        let code = task.error().map(|error| error.code());
        assert_eq!(code == Some(ErrorCode::Cancelled), row.error == -999);
    }
}
