//! One task after another: when there is a next one, what is told in which order, and that it ends once and for all.

mod support;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::panic;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, Once, Weak};
use std::thread;
use std::time::{Duration, Instant};

use support::hooks::{Called, Dice, eventually, hooks};
use support::{Events, PATIENCE, Peer, Recorder, Server, frame, recorder};
use urlsession::{
    CloseCode, ConnectionEnd, ExponentialBackoff, OperationQueue, ReconnectionPolicy, Reconnector, ReconnectorDelegate,
    SessionConfiguration, SessionDelegate, TaskDelegate, TaskState, Url, UrlError, UrlRequest, UrlSession,
    WebSocketDelegate, WebSocketTask,
};

/// So long that no test sees the end of it.
const FAR: Duration = Duration::from_secs(3600);

/// What a test throws.
const PANIC: &str = "a panic of a callback, on purpose";

/// What a reconnector tells.
enum Told<'a> {
    Connect(&'a mut UrlRequest),
    Created(&'a WebSocketTask),
    Again(&'a ConnectionEnd, Duration),
    Stopped(Option<&'a ConnectionEnd>),
}

/// A delegate that writes down what it is told, and then does what the test wants.
struct Story<F> {
    recorder: Arc<Recorder>,
    hook: F,
}

fn story<F>(recorder: &Arc<Recorder>, hook: F) -> Arc<Story<F>>
where
    F: Fn(&Reconnector, Told<'_>) + Send + Sync + 'static,
{
    Arc::new(Story { recorder: Arc::clone(recorder), hook })
}

/// What fails in a callback is caught there; so it is written down.
fn noting_failure(recorder: &Recorder, code: impl FnOnce()) {
    if let Err(payload) = panic::catch_unwind(panic::AssertUnwindSafe(code)) {
        if payload.downcast_ref::<&str>() != Some(&PANIC) {
            recorder.note("failed: a callback of the test");
        }
        panic::resume_unwind(payload);
    }
}

impl<F: Fn(&Reconnector, Told<'_>) + Send + Sync + 'static> Story<F> {
    fn tell(&self, reconnector: &Reconnector, told: Told<'_>) {
        noting_failure(&self.recorder, || (self.hook)(reconnector, told));
    }
}

impl<F: Fn(&Reconnector, Told<'_>) + Send + Sync + 'static> ReconnectorDelegate for Story<F> {
    fn will_connect(&self, reconnector: &Reconnector, request: &mut UrlRequest) {
        self.recorder.note("connect");
        self.tell(reconnector, Told::Connect(request));
    }

    fn did_create_task(&self, reconnector: &Reconnector, task: &WebSocketTask) {
        self.recorder.note("created");
        self.tell(reconnector, Told::Created(task));
    }

    fn will_reconnect(&self, reconnector: &Reconnector, end: &ConnectionEnd, delay: Duration) {
        self.recorder.note(format!("again {} {}", in_words(end), end.failures));
        self.tell(reconnector, Told::Again(end, delay));
    }

    fn did_stop(&self, reconnector: &Reconnector, end: Option<&ConnectionEnd>) {
        self.recorder.note(format!("stopped {}", end.map_or_else(|| "None".to_owned(), in_words)));
        self.tell(reconnector, Told::Stopped(end));
    }
}

/// The number of the error, or the close code.
fn in_words(end: &ConnectionEnd) -> String {
    match &end.error {
        Some(error) => error.raw_code().to_string(),
        None => format!("close {}", end.close_code),
    }
}

/// Tries again at once where that makes sense.
fn at_once(end: &ConnectionEnd) -> Option<Duration> {
    end.is_transient().then_some(Duration::ZERO)
}

/// Tries again where that makes sense, but not before the test is over.
fn never_again(end: &ConnectionEnd) -> Option<Duration> {
    end.is_transient().then_some(FAR)
}

fn nothing(_: &Reconnector, _: Told<'_>) {}

/// A session whose delegate writes to the same log, on this queue.
fn session_on(queue: Option<OperationQueue>) -> (UrlSession, Arc<Recorder>, Events) {
    support::recorded_session_with(SessionConfiguration::default(), queue)
}

fn session() -> (UrlSession, Arc<Recorder>, Events) {
    session_on(None)
}

/// What was noted, without the metrics.
fn log(events: &Events) -> Vec<String> {
    events.log().into_iter().filter(|event| event != "metrics").collect()
}

fn count(events: &Events, beginning: &str) -> usize {
    events.log().iter().filter(|event| event.starts_with(beginning)).count()
}

/// Waits for the last word, and that none comes behind it: what the queue has then is run, and there is one.
#[track_caller]
fn expect_stop(events: &Events, session: &UrlSession, expected: &str) {
    assert_eq!(events.wait_for("stopped"), expected);
    let (sender, receiver) = mpsc::channel();
    session.get_all_tasks(move |tasks| sender.send(tasks.len()).unwrap());
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), 0, "tasks are left");
    assert_eq!((count(events, "stopped"), count(events, "failed")), (1, 0));
}

/// A refusal without a body.
fn refuse(peer: &mut Peer, status: &str, more: &str) {
    peer.read_request();
    peer.write(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n{more}\r\n").as_bytes());
}

/// Opens and closes with a code; 1005 is none.
fn open_and_close(peer: &mut Peer, code: u16) {
    peer.open();
    match code {
        1005 => peer.write(&frame(0x88, b"")),
        code => peer.close(code, "why"),
    }
    peer.read_close();
}

fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<&str>() != Some(&PANIC) {
                before(info);
            }
        }));
    });
}

#[test]
fn a_connection_that_breaks_is_made_anew_and_nothing_is_sent_twice() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let server = Server::many(3, {
        let seen = Arc::clone(&seen);
        move |number, mut peer| {
            let request = peer.open();
            let token = support::field(&request, "Authorization").unwrap().to_owned();
            let message = String::from_utf8(peer.read_frame().payload).unwrap();
            seen.lock().unwrap().push(format!("{token}: {message}"));
            match number {
                // With more on its way than the kernel takes.
                0 => peer.reset(),
                1 => drop(peer),
                _ => {
                    peer.close(1000, "enough");
                    peer.read_close();
                }
            }
        }
    });
    let (session, recorder, events) = session();
    let tries = AtomicUsize::new(0);
    let reconnector = Reconnector::with_policy(
        &session,
        server.url(),
        story(&recorder, {
            let recorder = Arc::clone(&recorder);
            move |_, told| match told {
                Told::Connect(request) => {
                    assert_eq!(request.value("Authorization"), None, "a fresh copy");
                    let number = tries.fetch_add(1, Ordering::SeqCst) + 1;
                    request.set_value(&format!("token {number}"), "Authorization");
                }
                Told::Created(task) => {
                    assert_eq!(task.state(), TaskState::Suspended);
                    let number = task.task_identifier();
                    task.send(format!("hello {number}"), recorder.handler("hello"));
                    if number == 1 {
                        task.send(vec![0; 32 * 1024 * 1024], |result| assert!(result.is_err()));
                        task.send("never seen", recorder.handler("later"));
                    }
                }
                Told::Again(end, _) => {
                    assert!(end.was_open.is_some() && !end.is_cancelled);
                    assert_eq!(end.response.as_ref().unwrap().status_code(), 101);
                }
                Told::Stopped(end) => assert_eq!(end.unwrap().close_reason.as_deref(), Some(&b"enough"[..])),
            }
        }),
        at_once,
    );
    assert!(reconnector.task().is_none());
    reconnector.resume();
    expect_stop(&events, &session, "stopped close 1000");
    server.join();
    assert_eq!(*seen.lock().unwrap(), ["token 1: hello 1", "token 2: hello 2", "token 3: hello 3"]);
    let log = log(&events);
    let lost = log.iter().find_map(|event| event.strip_prefix("complete ")).unwrap().to_owned();
    assert!(["54", "32", "-1005"].contains(&&*lost), "{lost}");
    let of_the_second = "-1005";
    assert_eq!(
        log,
        [
            "connect".to_owned(),
            "created".to_owned(),
            "open None".to_owned(),
            "hello ok".to_owned(),
            format!("later {lost}"),
            format!("complete {lost}"),
            format!("again {lost} 1"),
            "connect".to_owned(),
            "created".to_owned(),
            "open None".to_owned(),
            "hello ok".to_owned(),
            format!("complete {of_the_second}"),
            format!("again {of_the_second} 2"),
            "connect".to_owned(),
            "created".to_owned(),
            "open None".to_owned(),
            "hello ok".to_owned(),
            "close 1000 Some(\"enough\")".to_owned(),
            "complete None".to_owned(),
            "stopped close 1000".to_owned(),
        ]
    );
}

#[test]
fn a_close_is_followed_by_another_task_or_not() {
    let table = [
        (1000, false),
        (1001, true),
        (1002, false),
        (1003, false),
        (1005, true),
        (1007, false),
        (1008, false),
        (1009, false),
        (1010, false),
        (1011, true),
        (1012, true),
        (1013, true),
        (1014, true),
        (3000, false),
        (4999, false),
    ];
    for (code, goes_on) in table {
        let server = Server::many(1 + usize::from(goes_on), move |number, mut peer| {
            open_and_close(&mut peer, if number == 0 { code } else { 4000 });
        });
        let (session, recorder, events) = session();
        let mut policy = ExponentialBackoff::default();
        policy.initial_delay = Duration::from_millis(1);
        let reconnector = Reconnector::with_policy(&session, server.url(), story(&recorder, nothing), policy);
        reconnector.resume();
        expect_stop(&events, &session, &format!("stopped close {}", if goes_on { 4000 } else { code }));
        assert_eq!(count(&events, &format!("again close {code} 1")), usize::from(goes_on));
        server.join();
    }
}

#[test]
fn a_refusal_is_tried_again_not_before_the_server_wants_it() {
    let server = Server::many(4, |number, mut peer| match number {
        0 => refuse(&mut peer, "503 Not now", "Retry-After: 120\r\n"),
        1 => refuse(&mut peer, "429 Too many", "Retry-After: 86400\r\n"),
        2 => refuse(&mut peer, "502 Bad", ""),
        _ => refuse(&mut peer, "404 Not here", "Retry-After: 1\r\n"),
    });
    let (session, recorder, events) = session();
    let delays = Arc::new(Mutex::new(Vec::new()));
    let reconnector = Reconnector::new(
        &session,
        server.url(),
        story(&recorder, {
            let delays = Arc::clone(&delays);
            move |reconnector, told| match told {
                Told::Again(end, delay) => {
                    delays.lock().unwrap().push(delay);
                    assert!(end.was_open.is_none() && reconnector.task().is_none());
                    // Now, all the same.
                    reconnector.resume();
                }
                Told::Stopped(end) => assert_eq!(end.unwrap().response.as_ref().unwrap().status_code(), 404),
                _ => {}
            }
        }),
    );
    reconnector.resume();
    expect_stop(&events, &session, "stopped -1011");
    server.join();
    let delays = delays.lock().unwrap();
    let bounds = [(120.25, 120.5), (300.5, 301.0), (1.0, 2.0)];
    assert_eq!(delays.len(), bounds.len());
    for (delay, (from, to)) in delays.iter().zip(bounds) {
        let seconds = delay.as_secs_f64();
        assert!(from <= seconds && seconds <= to, "{seconds}: {from} to {to}");
    }
    assert_eq!(["again -1011 1", "again -1011 2", "again -1011 3"].map(|event| count(&events, event)), [1, 1, 1]);
}

#[test]
fn a_server_that_comes_back_is_found() {
    // Bound, so that nobody else takes it, and deaf.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let (session, recorder, events) = session();
    let reconnector = Reconnector::with_policy(
        &session,
        Url::parse(&format!("ws://{address}/")).unwrap(),
        story(&recorder, {
            let socket = socket.try_clone().unwrap();
            move |_, told| {
                if let Told::Again(end, _) = told
                    && end.failures == 3
                {
                    socket.listen(1).unwrap();
                }
            }
        }),
        at_once,
    );
    reconnector.resume();
    // Until it listens, it accepts nothing.
    socket.set_nonblocking(true).unwrap();
    let mut accepted = None;
    eventually("a connection", || {
        accepted = socket.accept().ok();
        accepted.is_some()
    });
    let (stream, _) = accepted.unwrap();
    stream.set_nonblocking(false).unwrap();
    let mut peer = Peer::new(stream.into());
    open_and_close(&mut peer, 1000);
    expect_stop(&events, &session, "stopped close 1000");
    let tries: Vec<String> = log(&events).into_iter().filter(|event| event.starts_with("again")).collect();
    assert_eq!(tries, ["again -1004 1", "again -1004 2", "again -1004 3"]);
}

#[test]
fn the_wait_is_as_long_as_the_policy_says() {
    let server = Server::many(2, |number, mut peer| open_and_close(&mut peer, if number == 0 { 1012 } else { 1000 }));
    let (session, recorder, events) = session();
    let delay = Duration::from_millis(80);
    let begun = Mutex::new(None);
    let reconnector = Reconnector::with_policy(
        &session,
        server.url(),
        story(&recorder, move |_, told| match told {
            Told::Again(_, told) => {
                assert_eq!(told, delay);
                *begun.lock().unwrap() = Some(Instant::now());
            }
            Told::Connect(_) => assert!(begun.lock().unwrap().take().is_none_or(|begun| begun.elapsed() >= delay)),
            _ => {}
        }),
        move |end: &ConnectionEnd| end.is_transient().then_some(delay),
    );
    reconnector.resume();
    // On the way and while it is open, this changes nothing.
    reconnector.resume();
    expect_stop(&events, &session, "stopped close 1000");
    reconnector.resume();
    server.join();
    assert_eq!(count(&events, "connect"), 2);
}

/// Counts failures, where nothing or everything is stable.
struct Counting {
    stable: bool,
    most: u32,
    ends: AtomicUsize,
}

impl ReconnectionPolicy for Counting {
    fn delay(&self, _: &ConnectionEnd) -> Option<Duration> {
        let ends = self.ends.fetch_add(1, Ordering::SeqCst) + 1;
        (ends < self.most as usize).then_some(Duration::ZERO)
    }

    fn is_stable(&self, _: Duration) -> bool {
        self.stable
    }
}

#[test]
fn failures_are_counted_from_the_last_that_worked() {
    // Refusals are never stable; the third opens.
    for (stable, expected) in [
        (true, ["again -1011 1", "again -1011 2", "again close 1012 1", "again -1011 2"]),
        (false, ["again -1011 1", "again -1011 2", "again close 1012 3", "again -1011 4"]),
    ] {
        let server = Server::many(5, |number, mut peer| match number {
            2 => open_and_close(&mut peer, 1012),
            _ => refuse(&mut peer, "500 No", ""),
        });
        let (session, recorder, events) = session();
        let policy = Counting { stable, most: 5, ends: AtomicUsize::new(0) };
        let reconnector = Reconnector::with_policy(&session, server.url(), story(&recorder, nothing), policy);
        reconnector.resume();
        expect_stop(&events, &session, "stopped -1011");
        server.join();
        let told: Vec<String> = log(&events).into_iter().filter(|event| event.starts_with("again")).collect();
        assert_eq!(told, expected);
    }
}

#[test]
fn how_long_a_socket_was_open_is_told() {
    let server = Server::one(|mut peer| {
        peer.open();
        peer.text("open");
        peer.read_close();
    });
    let (session, recorder, events) = session();
    let (received, is_open) = mpsc::channel();
    let (stopped, length) = mpsc::channel();
    let reconnector = Reconnector::with_policy(
        &session,
        server.url(),
        story(&recorder, move |_, told| match told {
            Told::Created(task) => task.receive({
                let received = received.clone();
                move |_| received.send(Instant::now()).unwrap()
            }),
            Told::Stopped(end) => stopped.send(end.unwrap().was_open.unwrap()).unwrap(),
            _ => {}
        }),
        at_once,
    );
    let made = Instant::now();
    reconnector.resume();
    let opened = is_open.recv_timeout(PATIENCE).unwrap();
    let while_open = Duration::from_millis(30);
    eventually("a while is over", || opened.elapsed() >= while_open);
    reconnector.task().unwrap().cancel();
    expect_stop(&events, &session, "stopped -999");
    server.join();
    let was_open = length.recv_timeout(PATIENCE).unwrap();
    assert!(while_open <= was_open && was_open <= made.elapsed(), "{was_open:?}");
}

/// Where in the life of a reconnector something is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Idle,
    Connect,
    /// In `did_create_task` of the session's delegate.
    SessionCreated,
    Created,
    /// The server has the request and says nothing.
    Upgrading,
    Open,
    /// In `did_open_with_protocol` of the session's delegate.
    SessionOpen,
    /// In `did_complete_with_error` of the session's delegate.
    SessionComplete,
    /// In the policy.
    Deciding,
    Again,
    Waiting,
    Stopped,
}

const EVERYWHERE: [At; 12] = [
    At::Idle,
    At::Connect,
    At::SessionCreated,
    At::Created,
    At::Upgrading,
    At::Open,
    At::SessionOpen,
    At::SessionComplete,
    At::Deciding,
    At::Again,
    At::Waiting,
    At::Stopped,
];

/// Runs a reconnector that makes one connection, or none, does this to it there, and waits for the last word: all that was
/// noted, and the code of the client's Close where the server was there to see it.
///
/// The server closes with 1012, which is followed by a wait without end; but where something is done while the socket is on
/// its way or open it only waits for the client.
fn done_at(
    at: At,
    connections: usize,
    act: impl Fn(&Reconnector, &UrlSession) + Send + Sync + 'static,
) -> (Vec<String>, Option<Option<u16>>) {
    let (close, closed) = mpsc::channel();
    let (upgrading, is_upgrading) = mpsc::channel();
    let server = Server::many(connections, move |_, mut peer| {
        upgrading.send(()).unwrap();
        match at {
            At::Upgrading => drop(peer.read_to_end()),
            At::Open | At::SessionOpen => {
                peer.open();
                close.send(peer.read_close().0).unwrap();
            }
            _ => open_and_close(&mut peer, 1012),
        }
    });
    let (recorder, events) = recorder();
    let reconnector: Arc<Mutex<Option<Reconnector>>> = Arc::default();
    let act = Arc::new({
        let (recorder, reconnector) = (Arc::clone(&recorder), Arc::clone(&reconnector));
        move |session: &UrlSession| {
            let reconnector = reconnector.lock().unwrap().clone().expect("it is made");
            noting_failure(&recorder, || act(&reconnector, session));
        }
    });
    let delegate = hooks({
        let (recorder, act) = (Arc::clone(&recorder), Arc::clone(&act));
        move |session, _, called| {
            let here = match called {
                Called::Create => At::SessionCreated,
                Called::Open(_) => At::SessionOpen,
                Called::Complete(_) => At::SessionComplete,
                _ => At::Upgrading,
            };
            match called {
                Called::Complete(error) => recorder.note(format!("complete {:?}", error.map(UrlError::raw_code))),
                Called::Metrics(_) => {}
                called => recorder.note(called.name()),
            }
            if here == at && at != At::Upgrading {
                act(session);
            }
        }
    });
    let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), None);
    let told = story(&recorder, {
        let (act, session) = (Arc::clone(&act), session.clone());
        move |_, told| {
            let here = match told {
                Told::Connect(_) => At::Connect,
                Told::Created(_) => At::Created,
                Told::Again(..) => At::Again,
                Told::Stopped(_) => At::Stopped,
            };
            if here == at {
                act(&session);
            }
        }
    });
    let policy = {
        let (act, session) = (Arc::clone(&act), session.clone());
        move |end: &ConnectionEnd| {
            if at == At::Deciding {
                act(&session);
            }
            if at == At::Stopped { None } else { never_again(end) }
        }
    };
    let made = Reconnector::with_policy(&session, server.url(), told, policy);
    *reconnector.lock().unwrap() = Some(made.clone());
    if at == At::Idle {
        act(&session);
    }
    made.resume();
    match at {
        At::Upgrading => is_upgrading.recv_timeout(PATIENCE).unwrap(),
        At::Open => drop(events.wait_for("open")),
        At::Waiting => expect_to_wait(&made),
        _ => {}
    }
    if matches!(at, At::Upgrading | At::Open | At::Waiting) {
        act(&session);
    }
    events.wait_for("stopped");
    // What else is done now changes nothing.
    for _ in 0..2 {
        made.resume();
        made.cancel();
    }
    assert!(made.task().is_none());
    session.finish_tasks_and_invalidate();
    if count(&events, "invalid") == 0 {
        events.wait_for("invalid");
    }
    server.join();
    *reconnector.lock().unwrap() = None;
    (events.log(), closed.try_recv().ok())
}

/// Waits until the alarm is set.
#[track_caller]
fn expect_to_wait(reconnector: &Reconnector) {
    eventually("it waits", || format!("{reconnector:?}").contains("Waiting"));
}

/// How many connections are made where the task is cancelled there.
fn connections_before(at: At) -> usize {
    usize::from(!matches!(at, At::Idle | At::Connect | At::SessionCreated | At::Created))
}

/// What is told up to the place, and behind it.
fn told_up_to(at: At, cancelled: &[&'static str]) -> Vec<&'static str> {
    let whole = ["connect", "create", "created", "open", "close", "complete None", "again close 1012 1"];
    let ways = match at {
        At::Idle => 0,
        At::Connect => 1,
        At::SessionCreated => 2,
        At::Created | At::Upgrading => 3,
        At::Open | At::SessionOpen => 4,
        At::SessionComplete | At::Deciding | At::Stopped => 6,
        At::Again | At::Waiting => 7,
    };
    let end = match at {
        At::Idle | At::Connect => "stopped None",
        At::SessionCreated | At::Created | At::Upgrading | At::Open | At::SessionOpen => "stopped",
        _ => "stopped close 1012",
    };
    let mut told = whole[..ways].to_vec();
    if end == "stopped" {
        told.extend(cancelled);
    } else {
        told.push(end);
    }
    told.push("invalid");
    told
}

#[test]
fn a_cancel_anywhere_is_told_once_and_is_the_end() {
    for at in EVERYWHERE {
        let (log, frame) = done_at(at, connections_before(at), |reconnector, _| {
            reconnector.cancel();
            // The first counts.
            reconnector.cancel_with(CloseCode::new(4001), Some(b"too late"));
        });
        assert_eq!(log, told_up_to(at, &["complete Some(-999)", "stopped -999"]), "{at:?}");
        assert_eq!(frame, matches!(at, At::Open | At::SessionOpen).then_some(None), "{at:?}");
    }
}

#[test]
fn a_cancel_with_a_code_anywhere_closes_the_task_so() {
    for at in EVERYWHERE {
        let (log, frame) = done_at(at, connections_before(at), |reconnector, _| {
            reconnector.cancel_with(CloseCode::new(4001), Some(b"bye"));
            reconnector.cancel();
            assert!(reconnector.task().is_none_or(|task| task.state() != TaskState::Running));
        });
        assert_eq!(log, told_up_to(at, &["close", "complete None", "stopped close 4001"]), "{at:?}");
        assert_eq!(frame, matches!(at, At::Open | At::SessionOpen).then_some(Some(4001)), "{at:?}");
    }
}

#[test]
fn an_invalidated_session_is_the_end_and_tells_its_own_behind_it() {
    for at in EVERYWHERE {
        let (log, _) = done_at(at, connections_before(at), |_, session| session.invalidate_and_cancel());
        let mut expected = told_up_to(at, &["complete Some(-999)", "stopped -999"]);
        match at {
            // There is nothing yet that the session would wait for.
            At::Idle => expected.reverse(),
            // As any task that is cancelled there.
            At::SessionCreated => expected.insert(2, "created"),
            _ => {}
        }
        assert_eq!(log, expected, "{at:?}");
    }
}

#[test]
fn a_session_that_is_to_end_lets_the_task_end_and_makes_no_other() {
    for at in EVERYWHERE {
        // There the server waits for the client.
        if matches!(at, At::Upgrading | At::Open | At::SessionOpen) {
            continue;
        }
        let connections = usize::from(!matches!(at, At::Idle | At::Connect));
        let (log, _) = done_at(at, connections, |_, session| session.finish_tasks_and_invalidate());
        let mut expected = told_up_to(at, &["open", "close", "complete None", "stopped close 1012"]);
        match at {
            At::Idle => expected.reverse(),
            At::SessionCreated => expected.insert(2, "created"),
            _ => {}
        }
        assert_eq!(log, expected, "{at:?}");
    }
}

#[test]
fn resumes_anywhere_make_no_second_task() {
    for at in EVERYWHERE {
        // There they end the wait.
        if matches!(at, At::Again | At::Waiting) {
            continue;
        }
        let (log, _) = done_at(at, 1, move |reconnector, _| {
            for _ in 0..3 {
                reconnector.resume();
            }
            match at {
                At::Upgrading | At::Open | At::SessionOpen => reconnector.cancel(),
                At::Stopped => {}
                _ => {
                    let reconnector = reconnector.clone();
                    thread::spawn(move || {
                        expect_to_wait(&reconnector);
                        reconnector.cancel();
                    });
                }
            }
        });
        let counts = ["connect", "create", "stopped"]
            .map(|name| log.iter().filter(|event| event.split(' ').next() == Some(name)).count());
        assert_eq!(counts, [1; 3], "{at:?}: {log:?}");
        assert!(!log.iter().any(|event| event.starts_with("failed")));
    }
}

#[test]
fn a_resume_ends_the_wait() {
    for inside in [false, true] {
        let server = Server::many(2, |number, mut peer| {
            open_and_close(&mut peer, if number == 0 { 1012 } else { 1000 });
        });
        let (session, recorder, events) = session();
        let reconnector = Reconnector::with_policy(
            &session,
            server.url(),
            story(&recorder, move |reconnector, told| {
                if let (Told::Again(..), true) = (told, inside) {
                    reconnector.resume();
                    reconnector.resume();
                }
            }),
            never_again,
        );
        reconnector.resume();
        events.wait_for("again");
        if !inside {
            expect_to_wait(&reconnector);
            assert!(reconnector.task().is_none());
            reconnector.resume();
        }
        expect_stop(&events, &session, "stopped close 1000");
        server.join();
    }
}

/// That no callback runs while another one of the same reconnector, or of its task, does.
#[derive(Default)]
struct Watch {
    busy: AtomicBool,
    callbacks: AtomicUsize,
    threads: Mutex<HashSet<Option<String>>>,
}

impl Watch {
    fn callback(&self) {
        assert!(!self.busy.swap(true, Ordering::SeqCst), "two callbacks at a time");
        self.callbacks.fetch_add(1, Ordering::SeqCst);
        self.threads.lock().unwrap().insert(thread::current().name().map(str::to_owned));
        thread::yield_now();
        self.busy.store(false, Ordering::SeqCst);
    }
}

/// A connection that is closed, one that is lost, one that is refused, and an end. The names of the threads that ran callbacks.
fn run_on(queue: OperationQueue, mut pump: impl FnMut()) -> HashSet<Option<String>> {
    let server = Server::many(4, |number, mut peer| match number {
        0 => open_and_close(&mut peer, 1012),
        1 => drop(peer.open()),
        2 => refuse(&mut peer, "503 No", ""),
        _ => open_and_close(&mut peer, 1000),
    });
    let (recorder, events) = recorder();
    let watch = Arc::new(Watch::default());
    let delegate = hooks({
        let (recorder, watch) = (Arc::clone(&recorder), Arc::clone(&watch));
        move |_, _, called| match called {
            // Inside a callback of the reconnector.
            Called::Create | Called::Metrics(_) => {}
            called => {
                noting_failure(&recorder, || watch.callback());
                recorder.note(called.name());
            }
        }
    });
    let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), Some(queue));
    let reconnector = Reconnector::with_policy(
        &session,
        server.url(),
        story(&recorder, {
            let watch = Arc::clone(&watch);
            move |_, _| watch.callback()
        }),
        |end: &ConnectionEnd| end.is_transient().then_some(Duration::from_millis(1)),
    );
    reconnector.resume();
    // Neither needs a handle; when the reconnector has stopped, nobody has the session.
    drop((reconnector, session));
    eventually("the end of the session", || {
        pump();
        count(&events, "invalid") == 1
    });
    server.join();
    let mut expected = vec!["connect", "created", "open", "close", "complete", "again close 1012 1"];
    expected.extend(["connect", "created", "open", "complete", "again -1005 2"]);
    expected.extend(["connect", "created", "complete", "again -1011 3"]);
    expected.extend(["connect", "created", "open", "close", "complete", "stopped close 1000", "invalid"]);
    assert_eq!(events.log(), expected);
    assert_eq!(watch.callbacks.load(Ordering::SeqCst), expected.len());
    std::mem::take(&mut watch.threads.lock().unwrap())
}

#[test]
fn callbacks_come_on_the_delegate_queue_one_at_a_time() {
    let only = |name: &str| HashSet::from([Some(name.to_owned())]);
    let named = |queue: OperationQueue| {
        queue.set_name(Some("mine"));
        queue
    };
    assert_eq!(run_on(named(OperationQueue::serial()), || {}), only("mine"));
    assert_eq!(run_on(named(OperationQueue::new()), || {}), only("mine"));
    assert_eq!(run_on(OperationQueue::immediate(), || {}), only("urlsession-reactor"));
    let here = thread::current().name().unwrap().to_owned();
    let main = OperationQueue::main();
    let pump = || {
        main.run_pending();
    };
    assert_eq!(run_on(main.clone(), pump), only(&here));
}

#[test]
fn an_executor_may_run_callbacks_at_once_or_elsewhere() {
    run_on(OperationQueue::with_executor(|work| work()), || {});
    let (sender, receiver) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
    let executor = thread::Builder::new().name("executor".to_owned()).spawn(move || {
        while let Ok(work) = receiver.recv() {
            work();
        }
    });
    let sender = Mutex::new(sender);
    let queue = OperationQueue::with_executor(move |work| sender.lock().unwrap().send(work).unwrap());
    assert_eq!(run_on(queue, || {}), HashSet::from([Some("executor".to_owned())]));
    executor.unwrap().join().unwrap();
}

#[test]
fn nothing_is_decided_while_the_end_of_the_task_is_told() {
    // Where other threads could.
    let server = Server::one(|mut peer| open_and_close(&mut peer, 1012));
    let (recorder, events) = recorder();
    let decided = Arc::new(AtomicBool::new(false));
    let delegate = hooks({
        let (recorder, decided) = (Arc::clone(&recorder), Arc::clone(&decided));
        move |_, _, called| {
            if let Called::Complete(_) = called {
                let moment = Instant::now() + Duration::from_millis(50);
                while Instant::now() < moment {
                    thread::park_timeout(Duration::from_millis(5));
                }
                recorder.note(format!("complete {}", decided.load(Ordering::SeqCst)));
            }
        }
    });
    let queue = OperationQueue::new();
    queue.set_max_concurrent_operation_count(4);
    let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), Some(queue));
    let policy = move |_: &ConnectionEnd| {
        decided.store(true, Ordering::SeqCst);
        None
    };
    Reconnector::with_policy(&session, server.url(), story(&recorder, nothing), policy).resume();
    expect_stop(&events, &session, "stopped close 1012");
    assert_eq!(events.log(), ["connect", "created", "complete false", "stopped close 1012"]);
    server.join();
}

#[test]
fn a_session_that_waits_for_another_task_starts_no_reconnector() {
    let (go, wait) = mpsc::channel::<()>();
    let server = Server::one(move |mut peer| {
        peer.open();
        wait.recv_timeout(PATIENCE).unwrap();
        peer.close(1000, "");
        peer.read_close();
    });
    let (session, recorder, events) = session();
    let task = session.web_socket_task(server.url());
    task.resume();
    events.wait_for("open");
    session.finish_tasks_and_invalidate();
    let reconnector = Reconnector::with_policy(&session, server.url(), story(&recorder, nothing), at_once);
    reconnector.resume();
    assert_eq!(events.next(), "stopped None");
    go.send(()).unwrap();
    events.wait_for("invalid");
    server.join();
}

#[test]
fn nothing_is_told_while_the_queue_is_suspended() {
    let server = Server::many(1, |_, mut peer| open_and_close(&mut peer, 1000));
    let queue = OperationQueue::serial();
    let (session, recorder, events) = session_on(Some(queue.clone()));
    let reconnector = Reconnector::with_policy(&session, server.url(), story(&recorder, nothing), at_once);
    queue.set_suspended(true);
    reconnector.resume();
    assert!(events.log().is_empty() && reconnector.task().is_none());
    queue.set_suspended(false);
    expect_stop(&events, &session, "stopped close 1000");
    server.join();
}

#[test]
fn a_delegate_of_the_task_is_told_as_without_a_reconnector() {
    let server = Server::many(2, |number, mut peer| open_and_close(&mut peer, if number == 0 { 1012 } else { 1000 }));
    let (session, recorder, events) = session();
    /// It leaves all the rest to the session's.
    struct Own(Arc<Recorder>);
    impl SessionDelegate for Own {}
    impl TaskDelegate for Own {}
    impl WebSocketDelegate for Own {
        fn did_open_with_protocol(&self, _: &UrlSession, _: &WebSocketTask, _: Option<&str>) {
            self.0.note("own open");
        }
    }
    let owns: Arc<Mutex<Vec<Weak<Own>>>> = Arc::default();
    let reconnector = Reconnector::with_policy(
        &session,
        server.url(),
        story(&recorder, {
            let (owns, recorder) = (Arc::clone(&owns), Arc::clone(&recorder));
            move |_, told| match told {
                Told::Created(task) => {
                    assert!(task.delegate().is_none());
                    let own = Arc::new(Own(Arc::clone(&recorder)));
                    owns.lock().unwrap().push(Arc::downgrade(&own));
                    task.set_delegate(Some(own));
                }
                Told::Again(..) | Told::Stopped(_) => {
                    assert!(owns.lock().unwrap().iter().all(|own| own.upgrade().is_none()), "it is let go");
                }
                Told::Connect(_) => {}
            }
        }),
        at_once,
    );
    reconnector.resume();
    expect_stop(&events, &session, "stopped close 1000");
    server.join();
    let of_each = |code| format!("close {code} Some(\"why\")");
    let (first, second) = (of_each(1012), of_each(1000));
    let mut expected = vec!["connect", "created", "own open", &first, "complete None", "again close 1012 1"];
    expected.extend(["connect", "created", "own open", &second, "complete None", "stopped close 1000"]);
    assert_eq!(log(&events), expected);
    assert_eq!(count(&events, "metrics"), 2);
    assert_eq!(owns.lock().unwrap().len(), 2);
}

#[test]
fn a_panic_in_a_callback_changes_nothing() {
    quiet_panics();
    let server = Server::many(3, |number, mut peer| match number {
        0 => drop(peer.open()),
        1 => refuse(&mut peer, "503 No", ""),
        _ => open_and_close(&mut peer, 1000),
    });
    let (recorder, events) = recorder();
    let delegate = hooks({
        let recorder = Arc::clone(&recorder);
        move |_, _, called| {
            recorder.note(called.name());
            panic::panic_any(PANIC);
        }
    });
    let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), None);
    let told = story(&recorder, |_, _| panic::panic_any(PANIC));
    let reconnector = Reconnector::with_policy(&session, server.url(), told, at_once);
    reconnector.resume();
    expect_stop(&events, &session, "stopped close 1000");
    server.join();
    let mut expected = vec!["connect", "create", "created", "open", "complete", "again -1005 1"];
    expected.extend(["connect", "create", "created", "complete", "again -1011 2"]);
    expected.extend(["connect", "create", "created", "open", "close", "complete", "stopped close 1000"]);
    assert_eq!(log(&events), expected);
}

#[test]
fn a_policy_that_panics_is_the_end() {
    quiet_panics();
    let server = Server::one(|mut peer| open_and_close(&mut peer, 1012));
    let (session, recorder, events) = session();
    let told = story(&recorder, nothing);
    let policy = |_: &ConnectionEnd| -> Option<Duration> { panic::panic_any(PANIC) };
    let reconnector = Reconnector::with_policy(&session, server.url(), told, policy);
    reconnector.resume();
    expect_stop(&events, &session, "stopped close 1012");
    server.join();
}

#[test]
fn a_task_that_the_program_cancels_is_the_last_but_a_late_cancel_is_none() {
    // With a code that of a server would be followed by another task.
    let server = Server::one(|mut peer| {
        peer.open();
        assert_eq!(peer.read_close().0, Some(1001));
        peer.close(1001, "");
    });
    let (session, recorder, events) = session();
    let told = story(&recorder, |_, told| {
        if let Told::Created(task) = told {
            task.cancel_with(CloseCode::GOING_AWAY, None);
            task.resume();
        }
    });
    // Before the start there is nobody to tell.
    let reconnector = Reconnector::with_policy(&session, server.url(), told, at_once);
    reconnector.resume();
    expect_stop(&events, &session, "stopped close 1001");
    let (events_of_open, reconnector) = {
        let (recorder, events) = self::recorder();
        let told = story(&recorder, {
            let recorder = Arc::clone(&recorder);
            move |_, told| {
                if let Told::Created(task) = told {
                    let (task, recorder) = (task.clone(), Arc::clone(&recorder));
                    task.clone().send("x", move |_| {
                        task.cancel_with(CloseCode::GOING_AWAY, None);
                        recorder.note("cancelled");
                    });
                }
            }
        });
        (events, Reconnector::with_policy(&session, server.url(), told, at_once))
    };
    reconnector.resume();
    assert_eq!(events_of_open.wait_for("stopped"), "stopped close 1001");
    server.join();

    // A habit of many programs: whatever a receive fails with, the task is cancelled.
    let server = Server::many(2, |number, mut peer| match number {
        0 => drop(peer.open()),
        _ => open_and_close(&mut peer, 1000),
    });
    let (recorder, events) = self::recorder();
    let told = story(&recorder, |_, told| {
        if let Told::Created(task) = told {
            let cancelling = task.clone();
            task.receive(move |result| {
                assert!(result.is_err());
                cancelling.cancel();
            });
        }
    });
    let reconnector = Reconnector::with_policy(&session, server.url(), told, at_once);
    reconnector.resume();
    expect_stop(&events, &session, "stopped close 1000");
    assert_eq!(count(&events, "again -1005 1"), 1);
    server.join();
}

#[test]
fn unread_messages_come_before_the_next_task() {
    let (close, is_closed) = mpsc::channel();
    let server = Server::many(2, move |number, mut peer| match number {
        0 => {
            peer.open();
            peer.text("unread");
            peer.close(1012, "");
            peer.read_close();
            close.send(()).unwrap();
        }
        _ => open_and_close(&mut peer, 1000),
    });
    let (session, recorder, events) = session();
    let reconnector = Reconnector::with_policy(&session, server.url(), story(&recorder, nothing), at_once);
    reconnector.resume();
    // The server's Close was answered, and what came before it is not told yet.
    is_closed.recv_timeout(PATIENCE).unwrap();
    events.wait_for("open");
    assert_eq!(events.log(), ["connect", "created", "open None"]);
    reconnector.task().unwrap().receive(recorder.receiver("receive"));
    assert_eq!(events.next(), "receive string unread");
    assert_eq!(events.next(), "close 1012 Some(\"\")");
    expect_stop(&events, &session, "stopped close 1000");
    server.join();
}

/// Says when it is dropped.
struct Held(Sender<&'static str>, &'static str);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.send(self.1);
    }
}

fn expect_dropped(receiver: &Receiver<&'static str>, expected: &[&'static str]) {
    let dropped: HashSet<&str> = expected.iter().map(|_| receiver.recv_timeout(PATIENCE).unwrap()).collect();
    assert_eq!(dropped, expected.iter().copied().collect());
}

#[test]
fn what_it_holds_goes_with_the_last_word() {
    for invalidate in [false, true] {
        let server = Server::many(1, |_, mut peer| open_and_close(&mut peer, 1012));
        let (session, recorder, events) = session();
        let (sender, dropped) = mpsc::channel();
        let of = |name| Held(sender.clone(), name);
        let (in_delegate, in_policy) = (of("delegate"), of("policy"));
        let told = story(&recorder, move |_, told| {
            let _ = &in_delegate;
            if let Told::Created(task) = told {
                let in_handler = Held(in_delegate.0.clone(), "handler");
                task.receive(move |_| drop(in_handler));
            }
        });
        let delegate = Arc::downgrade(&told);
        let policy = move |end: &ConnectionEnd| {
            let _ = &in_policy;
            never_again(end)
        };
        let reconnector = Reconnector::with_policy(&session, server.url(), told, policy);
        reconnector.resume();
        // What belongs to the task goes with that.
        expect_dropped(&dropped, &["handler"]);
        expect_to_wait(&reconnector);
        assert!(delegate.upgrade().is_some());
        let (tasks, count_of_tasks) = mpsc::channel();
        session.get_all_tasks(move |all| tasks.send(all.len()).unwrap());
        assert_eq!(count_of_tasks.recv_timeout(PATIENCE).unwrap(), 0);
        if invalidate {
            session.finish_tasks_and_invalidate();
        } else {
            reconnector.cancel();
        }
        events.wait_for("stopped");
        expect_dropped(&dropped, &["delegate", "policy"]);
        assert!(delegate.upgrade().is_none() && dropped.try_recv().is_err());
        // The session has no other owner.
        drop(session);
        events.wait_for("invalid");
        server.join();
        assert!(format!("{reconnector:?}").contains("Stopped"));
    }
}

#[test]
fn one_that_was_never_resumed_goes_with_its_last_handle() {
    let (session, recorder, events) = session();
    let told = story(&recorder, nothing);
    let delegate = Arc::downgrade(&told);
    let reconnector = Reconnector::new(&session, Url::parse("ws://192.0.2.1/").unwrap(), told);
    drop(session);
    let other = reconnector.clone();
    drop(reconnector);
    assert!(delegate.upgrade().is_some());
    drop(other);
    assert!(delegate.upgrade().is_none());
    assert_eq!(events.wait_for("invalid"), "invalid None");
    assert_eq!(events.log(), ["invalid None"]);
}

#[test]
#[expect(clippy::mutable_key_type, reason = "hashed by identity")]
fn handles_compare_and_may_go_anywhere() {
    fn anywhere<T: Send + Sync + Clone + 'static>(_: &T) {}
    let session = UrlSession::new(SessionConfiguration::default());
    let (recorder, _events) = recorder();
    let url = Url::parse("ws://192.0.2.1/").unwrap();
    let [first, second] = [(); 2].map(|()| Reconnector::new(&session, &url, story(&recorder, nothing)));
    anywhere(&first);
    anywhere(&ConnectionEnd::default());
    assert_eq!(first, first.clone());
    assert_ne!(first, second);
    let names = HashMap::from([(first.clone(), "first"), (second.clone(), "second")]);
    assert_eq!((names[&first], names[&second]), ("first", "second"));
    let shown = format!("{first:?}");
    assert!(shown.starts_with("Reconnector") && shown.contains("Idle"), "{shown}");
}

#[test]
fn resumes_and_cancels_from_everywhere_make_one_task_at_a_time_and_one_end() {
    for (round, queue) in [OperationQueue::serial(), OperationQueue::new(), OperationQueue::immediate()]
        .into_iter()
        .cycle()
        .take(45)
        .enumerate()
    {
        // As many connections as come, until the test lets go.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (recorder, events) = recorder();
        let living = Arc::new(AtomicUsize::new(0));
        let delegate = hooks({
            let (recorder, living) = (Arc::clone(&recorder), Arc::clone(&living));
            move |_, _, called| match called {
                Called::Create if living.fetch_add(1, Ordering::SeqCst) > 0 => recorder.note("failed: two tasks"),
                Called::Complete(_) => drop(living.fetch_sub(1, Ordering::SeqCst)),
                _ => {}
            }
        });
        let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), Some(queue));
        // Nobody answers, and what has waited for too long is dropped.
        let (quit, quits) = mpsc::channel::<()>();
        let server = thread::spawn(move || {
            listener.set_nonblocking(true).unwrap();
            while quits.try_recv() == Err(mpsc::TryRecvError::Empty) {
                drop(listener.accept());
                thread::yield_now();
            }
        });
        let url = Url::parse(&format!("ws://{address}/")).unwrap();
        let again = move |_: &ConnectionEnd| Some(if round % 2 == 0 { Duration::ZERO } else { FAR });
        let reconnector = Reconnector::with_policy(&session, url, story(&recorder, nothing), again);
        let threads: Vec<_> = (0..3)
            .map(|number| {
                let (reconnector, session) = (reconnector.clone(), session.clone());
                let mut dice = Dice((round * 3 + number) as u64);
                thread::spawn(move || {
                    for _ in 0..200 {
                        match dice.below(40) {
                            0 if number == 0 => reconnector.cancel_with(CloseCode::NORMAL_CLOSURE, None),
                            1 if round % 5 == 4 => session.invalidate_and_cancel(),
                            2..10 => drop(reconnector.task().map(|task| task.cancel())),
                            _ => reconnector.resume(),
                        }
                        thread::yield_now();
                    }
                    reconnector.resume();
                    reconnector.cancel();
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        events.wait_for("stopped");
        // Behind this nothing is on its way.
        session.finish_tasks_and_invalidate();
        eventually("the session's end", || session.delegate().is_none());
        assert_eq!((count(&events, "stopped"), count(&events, "failed")), (1, 0), "{:?}", events.log());
        assert_eq!(living.load(Ordering::SeqCst), 0);
        assert!(reconnector.task().is_none());
        drop(quit);
        server.join().unwrap();
    }
}

/// How many tasks have not ended, by a queue that may run this meanwhile.
fn tasks_of(session: &UrlSession) -> usize {
    let (sender, receiver) = mpsc::channel();
    session.get_all_tasks(move |tasks| sender.send(tasks.len()).unwrap());
    receiver.recv_timeout(PATIENCE).unwrap()
}

/// The session's delegate has a task in its hands before the reconnector's has.
#[test]
fn what_the_session_does_with_a_new_task_is_not_missed() {
    for queue in [OperationQueue::new(), OperationQueue::serial()] {
        let is_serial = queue.max_concurrent_operation_count() == 1;
        for cancels in [true, false] {
            let (recorder, events) = recorder();
            let delegate = hooks(move |session, task, called| {
                if let (Called::Create, Some(task)) = (called, task) {
                    if cancels {
                        task.cancel();
                    }
                    task.resume();
                    // Where others may run meanwhile, all is told before this returns.
                    eventually("the task's end", || is_serial || tasks_of(session) == 0);
                }
            });
            let session =
                UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), Some(queue.clone()));
            let told = story(&recorder, {
                let recorder = Arc::clone(&recorder);
                move |_, told| {
                    if let Told::Stopped(Some(end)) = told {
                        recorder.note(format!("cancelled {}", end.is_cancelled));
                    }
                }
            });
            // A scheme that no task takes.
            let url = Url::parse("ftp://192.0.2.1/").unwrap();
            let reconnector = Reconnector::with_policy(&session, url, told, |_: &ConnectionEnd| None);
            reconnector.resume();
            assert_eq!(events.wait_for("stopped"), if cancels { "stopped -999" } else { "stopped -1002" });
            session.finish_tasks_and_invalidate();
            eventually("the session's end", || session.delegate().is_none());
            assert_eq!(count(&events, "stopped"), 1);
            assert_eq!(count(&events, &format!("cancelled {cancels}")), 1, "{:?}", events.log());
        }
    }
}
