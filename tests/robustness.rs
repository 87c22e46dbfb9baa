//! What holds when things come together badly: handlers that ask again and again, an end that meets unread messages,
//! threads that race, and last bytes that have to leave a connection on its way out.

mod support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use support::hooks::eventually;
use support::scene::noting;
use support::tls::{BOTH, TRUSTED, TlsPeer, trusted_server};
use support::{Events, PATIENCE, Peer, Recorder, Server, close_frame, frame, recorded_session, recorded_session_with};
use urlsession::{
    Message, OperationQueue, SessionConfiguration, TaskFuture, TaskState, Url, UrlError, UrlSession, WebSocketTask,
};

/// A close timeout that passes while a test looks on.
const SHORT: Duration = Duration::from_millis(100);

/// A close timeout that no test lives to see.
const NEVER: Duration = Duration::from_secs(3600);

/// A signal, and who waits for it.
fn signal() -> (Sender<()>, impl FnOnce() + Send) {
    let (sender, receiver) = mpsc::channel();
    (sender, move || receiver.recv_timeout(PATIENCE).unwrap())
}

fn with_close_timeout(timeout: Duration) -> SessionConfiguration {
    let mut configuration = SessionConfiguration::default();
    configuration.web_socket.close_timeout = timeout;
    configuration
}

/// Starts a task and waits until it is open.
fn open(session: &UrlSession, url: Url, events: &Events) -> WebSocketTask {
    let task = session.web_socket_task(url);
    task.resume();
    assert_eq!(events.wait_for("open"), "open None");
    task
}

fn tls_url(server: &Server) -> Url {
    Url::parse(&format!("wss://localhost:{}/", server.address().port())).unwrap()
}

/// Does `work` on a thread of its own: a call that never returns fails the test instead of hanging it.
#[track_caller]
fn in_time(work: impl FnOnce() + Send + 'static) {
    let (over, is_over) = mpsc::channel();
    let worker = thread::spawn(move || {
        work();
        let _ = over.send(());
    });
    if is_over.recv_timeout(2 * PATIENCE) == Err(RecvTimeoutError::Timeout) {
        panic!("a call does not return");
    }
    if let Err(panic) = worker.join() {
        std::panic::resume_unwind(panic);
    }
}

// Handlers that ask again whenever they are called.

#[derive(Clone, Copy)]
enum Call {
    Receive,
    Send,
    Ping,
}

/// Asks, and asks again in the handler, until `stop`.
fn ask_again(call: Call, task: &WebSocketTask, stop: &Arc<AtomicBool>) {
    let (again, stop) = (task.clone(), Arc::clone(stop));
    let handler = move |_result: Result<(), UrlError>| {
        if !stop.load(Ordering::Relaxed) {
            ask_again(call, &again, &stop);
        }
    };
    match call {
        Call::Receive => task.receive(move |result| handler(result.map(drop))),
        Call::Send => task.send("again", handler),
        Call::Ping => task.send_ping(handler),
    }
}

fn expect_the_end_although_handlers_ask_again(call: Call) {
    for queue in [None, Some(OperationQueue::new()), Some(OperationQueue::immediate())] {
        let server = Server::one(move |mut peer| {
            peer.open();
            peer.close(1000, "bye");
            peer.read_close();
        });
        let (session, _, events) = recorded_session_with(SessionConfiguration::default(), queue);
        let task = session.web_socket_task(server.url());
        let stop = Arc::new(AtomicBool::new(false));
        let (asking, asked) = (task.clone(), Arc::clone(&stop));
        // The first failure starts it.
        task.receive(move |_| ask_again(call, &asking, &asked));
        task.resume();
        events.expect(&["open None", "close 1000 Some(\"bye\")", "complete None"]);
        stop.store(true, Ordering::Relaxed);
        server.join();
    }
}

#[test]
fn a_receive_that_is_asked_for_again_on_failure_does_not_hold_the_end_back() {
    expect_the_end_although_handlers_ask_again(Call::Receive);
}

#[test]
fn a_send_that_is_tried_again_on_failure_does_not_hold_the_end_back() {
    expect_the_end_although_handlers_ask_again(Call::Send);
}

#[test]
fn a_ping_that_is_tried_again_on_failure_does_not_hold_the_end_back() {
    expect_the_end_although_handlers_ask_again(Call::Ping);
}

// Unread messages and the end.

/// The usual loop, with so much work for each message.
fn receive_all(task: &WebSocketTask, recorder: &Arc<Recorder>, work: Duration) {
    let (again, recorder) = (task.clone(), Arc::clone(recorder));
    task.receive(move |result| {
        match &result {
            Ok(Message::Data(data)) => recorder.note(format!("{} times {}", data.len(), data[0])),
            result => recorder.note(support::describe(result)),
        }
        if result.is_ok() {
            thread::sleep(work);
            receive_all(&again, &recorder, work);
        }
    });
}

/// Tells when the result of a future is there.
struct Woken(Sender<()>);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        let _ = self.0.send(());
    }
}

/// A task whose one message is in a future that nobody has asked for it. Its queue is suspended.
struct Held {
    queue: OperationQueue,
    task: WebSocketTask,
    future: TaskFuture<Message>,
    events: Events,
    server: Server,
    _session: UrlSession,
}

impl Held {
    fn new(close_timeout: Duration, script: impl FnOnce(Peer) + Send + 'static) -> Self {
        let server = Server::one(move |mut peer| {
            peer.open();
            peer.text("held");
            script(peer);
        });
        let queue = OperationQueue::serial();
        let (session, _, events) = recorded_session_with(with_close_timeout(close_timeout), Some(queue.clone()));
        let task = session.web_socket_task(server.url());
        let mut future = task.receive_async();
        let (sender, woken) = mpsc::channel();
        let waker = Waker::from(Arc::new(Woken(sender)));
        assert!(pin!(&mut future).poll(&mut Context::from_waker(&waker)).is_pending());
        task.resume();
        woken.recv_timeout(PATIENCE).expect("a message");
        queue.wait_until_all_operations_are_finished();
        queue.set_suspended(true);
        Self { queue, task, future, events, server, _session: session }
    }
}

#[test]
fn a_message_of_a_future_dropped_after_cancel_does_not_hold_the_end_back() {
    let held = Held::new(NEVER, |mut peer| drop(peer.read_close()));
    held.task.cancel();
    drop(held.future);
    held.queue.set_suspended(false);
    held.events.expect(&["open None", "complete -999"]);
    held.server.join();
}

#[test]
fn a_message_of_a_future_dropped_late_holds_the_end_back_for_close_timeout_only() {
    let (close, asked) = signal();
    let (echoed, is_echoed) = signal();
    let held = Held::new(SHORT, move |mut peer| {
        asked();
        peer.close(1000, "");
        peer.read_close();
        echoed.send(()).unwrap();
    });
    close.send(()).unwrap();
    // The end is known.
    is_echoed();
    thread::sleep(3 * SHORT);
    drop(held.future);
    held.queue.set_suspended(false);
    held.events.expect(&["open None", "close 1000 Some(\"\")", "complete None"]);
    held.server.join();
}

#[test]
fn a_message_that_has_its_receive_outlives_close_timeout() {
    let (go, asked) = signal();
    let (echoed, is_echoed) = signal();
    let server = Server::one(move |mut peer| {
        peer.open();
        asked();
        peer.text("late");
        peer.close(1000, "");
        peer.read_close();
        echoed.send(()).unwrap();
    });
    let queue = OperationQueue::serial();
    let (session, recorder, events) = recorded_session_with(with_close_timeout(SHORT), Some(queue.clone()));
    let task = session.web_socket_task(server.url());
    task.receive(recorder.receiver("receive"));
    task.resume();
    events.wait_for("open");
    // The application is busy for longer than the timeout.
    queue.set_suspended(true);
    go.send(()).unwrap();
    is_echoed();
    thread::sleep(3 * SHORT);
    queue.set_suspended(false);
    events.expect(&["open None", "receive string late", "close 1000 Some(\"\")", "complete None"]);
    server.join();
}

#[test]
fn a_slow_loop_sees_every_message_although_it_takes_longer_than_close_timeout() {
    const COUNT: usize = 8;
    let server = Server::one(move |mut peer| {
        peer.open();
        for number in 0..COUNT {
            peer.text(&number.to_string());
        }
        peer.close(1000, "");
        peer.read_close();
    });
    let (session, recorder, events) = recorded_session_with(with_close_timeout(SHORT), None);
    let task = session.web_socket_task(server.url());
    // Four messages take as long as the timeout.
    receive_all(&task, &recorder, SHORT / 4);
    task.resume();
    let messages = (0..COUNT).map(|number| format!("string {number}"));
    let end = ["57", "close 1000 Some(\"\")", "complete None"].map(str::to_owned);
    let expected: Vec<String> = ["open None".to_owned()].into_iter().chain(messages).chain(end).collect();
    events.expect(&expected);
    server.join();
}

#[test]
fn the_task_reads_completed_in_a_handler_that_fails_before_the_end_is_told() {
    const FACTS: &str = "Completed 1000 Some(\"\") None Some(101)";
    let server = Server::one(move |mut peer| {
        peer.open();
        assert_eq!(peer.read_frame().opcode(), 9);
        peer.text("unread");
        peer.close(1000, "");
        peer.read_close();
    });
    let (session, recorder, events) = recorded_session_with(with_close_timeout(NEVER), None);
    let task = session.web_socket_task(server.url());
    task.send_ping(noting(&recorder, &task, "ping".to_owned()));
    task.resume();
    // The unread message holds the end back, and not what fails because of it.
    assert_eq!(events.wait_for("ping"), format!("ping 57 [{FACTS}]"));
    assert_eq!(task.state(), TaskState::Completed);
    task.receive(recorder.receiver("receive"));
    let ping = format!("ping 57 [{FACTS}]");
    events.expect(&["open None", &ping, "receive string unread", "close 1000 Some(\"\")", "complete None"]);
    server.join();
}

// Races and limits.

/// Waits on the spot, so that both threads go on within nanoseconds; a machine with one core needs the yield.
fn wait_until(done: impl Fn() -> bool) {
    let mut looks = 0_u32;
    while !done() {
        looks += 1;
        if looks.is_multiple_of(1024) { thread::yield_now() } else { std::hint::spin_loop() }
    }
}

#[test]
fn a_suspend_and_a_resume_that_race_leave_no_task_stuck() {
    in_time(race_suspend_and_resume);
}

fn race_suspend_and_resume() {
    let server = Server::one(move |mut peer| {
        peer.open();
        peer.echo();
    });
    let (session, _, events) = recorded_session();
    let task = open(&session, server.url(), &events);
    let (rounds, suspended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1.. {
                wait_until(|| rounds.load(Ordering::SeqCst) >= round || over.load(Ordering::SeqCst));
                if over.load(Ordering::SeqCst) {
                    break;
                }
                task.suspend();
                suspended.store(round, Ordering::SeqCst);
            }
        });
        let begun = Instant::now();
        let mut round = 0;
        let mut stuck = false;
        while !stuck && begun.elapsed() < Duration::from_secs(2) {
            round += 1;
            rounds.store(round, Ordering::SeqCst);
            for _ in 0..(round % 97) * 3 {
                std::hint::spin_loop();
            }
            task.resume();
            wait_until(|| suspended.load(Ordering::SeqCst) == round);
            // The suspend that came last counts, and is taken back.
            if task.state() == TaskState::Suspended {
                task.resume();
            }
            let (sender, sent) = mpsc::channel();
            task.send("hello", move |result| {
                let _ = sender.send(result.is_ok());
            });
            stuck = sent.recv_timeout(PATIENCE) != Ok(true);
        }
        over.store(true, Ordering::SeqCst);
        assert!(!stuck, "round {round}: the task is {:?}, and sends nothing", task.state());
    });
    task.cancel();
    events.wait_for("complete -999");
}

#[test]
fn a_ping_interval_of_zero_pings_often_and_stops_nothing() {
    in_time(|| {
        let server = Server::one(move |mut peer| {
            peer.open();
            for _ in 0..3 {
                let ping = peer.read_frame();
                assert_eq!(ping.opcode(), 9);
                peer.write(&frame(0x8a, &ping.payload));
            }
            peer.text("pinged");
            peer.echo();
        });
        let mut configuration = SessionConfiguration::default();
        configuration.web_socket.ping_interval = Some(Duration::ZERO);
        let (session, recorder, events) = recorded_session_with(configuration, None);
        let task = session.web_socket_task(server.url());
        task.receive(recorder.receiver("receive"));
        task.resume();
        assert_eq!(events.wait_for("receive"), "receive string pinged");
        task.send("hello", recorder.handler("send"));
        task.receive(recorder.receiver("receive"));
        assert_eq!(events.wait_for("receive"), "receive string hello");
        task.cancel();
        events.wait_for("complete -999");
        server.join();
    });
}

#[test]
fn the_send_queue_has_the_same_limit_inside_and_outside_of_callbacks() {
    for inside in [false, true] {
        // Nobody else is to write for the task meanwhile: what would wait for that other thread counts, too. Where this thread
        // is kept from its processor the session's own does write, and so it may take a few attempts.
        assert!((0..20).any(|_| all_are_taken(inside)), "inside of a callback: {inside}");
    }
}

/// Whether messages that leave as they are sent all find room in a queue for fewer.
fn all_are_taken(inside: bool) -> bool {
    const COUNT: usize = 80;
    let (go, asked) = signal();
    let server = Server::one(move |mut peer| {
        peer.open();
        asked();
        peer.text("go");
        peer.echo();
    });
    let mut configuration = SessionConfiguration::default();
    // Less than all messages: the kernel has to be given some meanwhile.
    configuration.web_socket.maximum_send_queue = Some(64 * 1024);
    let (session, _, events) = recorded_session_with(configuration, None);
    let task = open(&session, server.url(), &events);
    let (sender, results) = mpsc::channel();
    let sending = task.clone();
    let send = move || {
        for _ in 0..COUNT {
            let sender = sender.clone();
            sending.send(vec![0; 1000], move |result| {
                let _ = sender.send(result.map_err(|error| error.raw_code()));
            });
        }
    };
    if inside {
        task.receive(move |_| send())
    } else {
        send()
    }
    go.send(()).unwrap();
    let results: Vec<_> = (0..COUNT).map(|_| results.recv_timeout(PATIENCE).unwrap()).collect();
    task.cancel();
    assert!(results.iter().all(|result| matches!(result, Ok(()) | Err(55))), "{results:?}");
    results == [Ok(()); COUNT]
}

// The last bytes of a connection.

/// Sends until the kernel takes no more: for a moment nothing has left.
fn fill(task: &WebSocketTask) {
    let (sender, sent) = mpsc::channel();
    for _ in 0..256 {
        let sender = sender.clone();
        task.send(vec![0; 64 * 1024], move |_| {
            let _ = sender.send(());
        });
    }
    while sent.recv_timeout(Duration::from_millis(100)).is_ok() {}
    assert!(task.buffered_amount() > 0);
}

#[test]
fn a_close_is_echoed_although_the_end_of_the_stream_follows_and_the_way_out_is_blocked() {
    let (go, asked) = signal();
    let (ended, has_ended) = signal();
    let server = Server::one(move |mut peer| {
        peer.open();
        asked();
        peer.close(1000, "bye");
        peer.stream.shutdown(Shutdown::Write).unwrap();
        has_ended();
        assert_eq!(peer.read_close(), (Some(1000), Vec::new()));
    });
    let (session, _, events) = recorded_session();
    let task = open(&session, server.url(), &events);
    fill(&task);
    go.send(()).unwrap();
    events.expect(&["open None", "close 1000 Some(\"bye\")", "complete None"]);
    ended.send(()).unwrap();
    server.join();
}

#[test]
fn a_close_is_echoed_although_close_notify_comes_with_it() {
    let config = trusted_server(BOTH);
    let (go, asked) = signal();
    let server = Server::one(move |peer| {
        let mut peer = TlsPeer::new(peer, &config);
        peer.open();
        asked();
        // One write. RFC 8446 §6.1: what says that nothing more comes ends one direction only.
        peer.write_all(&close_frame(1000, "bye")).unwrap();
        peer.connection.send_close_notify();
        peer.flush().unwrap();
        let echo = peer.try_read_frame().expect("a Close");
        assert_eq!((echo.opcode(), &echo.payload[..]), (8, &1000_u16.to_be_bytes()[..]));
    });
    let (session, _, events) = recorded_session_with(TRUSTED.configuration(), None);
    let _task = open(&session, tls_url(&server), &events);
    go.send(()).unwrap();
    events.expect(&["open None", "close 1000 Some(\"bye\")", "complete None"]);
    server.join();
}

/// How long the socket of a task whose TLS failed stays once its way out is free; by then the server has read all that
/// the client has sealed, and the alert.
fn last_bytes_after_a_tls_failure() -> Duration {
    let config = trusted_server(BOTH);
    let (go, asked) = signal();
    let (ended, has_ended) = signal();
    let (sender, result) = mpsc::channel();
    let server = Server::one(move |peer| {
        let mut peer = TlsPeer::new(peer, &config);
        peer.open();
        asked();
        // A record of application data that nobody sealed (RFC 8446 §5.1).
        peer.stream.write_all(&[23, 3, 3, 0, 32]).unwrap();
        peer.stream.write_all(&[7; 32]).unwrap();
        has_ended();
        let begun = Instant::now();
        let mut last = Vec::new();
        peer.stream.read_to_end(&mut last).unwrap();
        let lasted = begun.elapsed();
        let mut last = &last[..];
        let alert = loop {
            assert!(!last.is_empty(), "the client says why it goes");
            peer.connection.read_tls(&mut last).unwrap();
            if let Err(error) = peer.connection.process_new_packets() {
                break error;
            }
            let _ = peer.connection.reader().read_to_end(&mut Vec::new());
        };
        assert!(matches!(alert, rustls::Error::AlertReceived(_)), "{alert}");
        sender.send(lasted).unwrap();
    });
    let (session, _, events) = recorded_session_with(TRUSTED.configuration(), None);
    let task = open(&session, tls_url(&server), &events);
    fill(&task);
    go.send(()).unwrap();
    assert_eq!(events.wait_for("complete"), "complete -1200");
    ended.send(()).unwrap();
    server.join();
    result.recv().unwrap()
}

#[test]
fn after_a_tls_failure_the_last_bytes_leave_and_the_socket_closes_behind_them() {
    // It would close after two seconds in any case. A busy machine may be late once.
    let lasted: Vec<Duration> = (0..4).map(|_| last_bytes_after_a_tls_failure()).collect();
    let late = lasted.iter().filter(|lasted| **lasted > Duration::from_secs(1)).count();
    assert!(late <= 1, "{lasted:?}");
}

/// Two messages of this size are more than is read ahead.
const UNREAD: usize = 600_000;

/// A task that has stopped reading (nobody receives), and whose server sends `last` and is gone: writing has failed.
fn gone_server(last: Vec<u8>) -> (UrlSession, Arc<Recorder>, Events, WebSocketTask) {
    let (go, asked) = signal();
    let server = Server::one(move |mut peer| {
        peer.open();
        peer.binary(&[1; UNREAD]);
        peer.binary(&[2; UNREAD]);
        asked();
        peer.write(&last);
    });
    let (session, recorder, events) = recorded_session();
    let task = open(&session, server.url(), &events);
    eventually("both messages are read", || task.count_of_bytes_received() == 2 * UNREAD as i64);
    go.send(()).unwrap();
    server.join();
    let (sender, results) = mpsc::channel();
    // The first bytes are taken by the kernel, and answered with a reset.
    let failure = (0..100).find_map(|_| {
        let sender = sender.clone();
        // Not copied in with its header: a write of several parts.
        task.send(vec![0; 20_000], move |result| drop(sender.send(result)));
        results.recv_timeout(PATIENCE).expect("an answer").err()
    });
    let code = failure.expect("writing fails").raw_code();
    assert!([32, 54].contains(&code), "{code}");
    (session, recorder, events, task)
}

#[test]
fn what_came_before_a_failed_write_is_received_however_late() {
    let mut last = frame(0x81, b"last words");
    last.extend(close_frame(1000, "bye"));
    let (_session, recorder, events, task) = gone_server(last);
    // Longer than a broken connection is read where nothing holds reading up.
    thread::sleep(Duration::from_millis(2300));
    receive_all(&task, &recorder, Duration::ZERO);
    events.expect(&[
        "open None",
        "600000 times 1",
        "600000 times 2",
        "string last words",
        "57",
        "close 1000 Some(\"bye\")",
        "complete None",
    ]);
}

/// A host that is not a Rust program may not ignore SIGPIPE. The signal is for the whole process: it is another one.
#[cfg(unix)]
#[test]
fn a_write_to_a_server_that_is_gone_raises_no_signal() {
    use std::process::{Command, Stdio};

    const NAME: &str = "a_write_to_a_server_that_is_gone_raises_no_signal";
    const INSIDE: &str = "URLSESSION_TEST_SIGPIPE";
    if std::env::var_os(INSIDE).is_some() {
        // SAFETY: no handler is set, and nothing here counts on the signal being ignored.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        let (_session, _, events, task) = gone_server(Vec::new());
        task.cancel();
        events.wait_for("complete -999");
        return;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", NAME]).env(INSIDE, "1").stdin(Stdio::null()).stdout(Stdio::null());
    // All it waits for is bounded.
    let status = command.status().unwrap();
    assert!(status.success(), "{status}");
}
