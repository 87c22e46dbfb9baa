//! What the feature `tracing` tells: the steps of each task, the frames, nothing secret, and from a place where everything
//! may be called.
#![cfg(feature = "tracing")]

mod support;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, Once, RwLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use support::deflate::{Codec, accepts};
use support::origin::{self, Answer, Origin};
use support::proxy::{HttpProxy, proxied};
use support::tls::{BOTH, TRUSTED, TlsPeer, trusted_server};
use support::{PATIENCE, Server, frame, recorded_session, recorded_session_with};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use urlsession::{CloseCode, SessionConfiguration, Url, UrlRequest, WebSocketTask};

/// An event: its target, level and fields.
#[derive(Clone, Debug)]
struct Line {
    target: &'static str,
    level: Level,
    fields: BTreeMap<&'static str, String>,
}

impl Line {
    fn get(&self, field: &str) -> &str {
        self.fields.get(field).map_or("", String::as_str)
    }

    fn task(&self) -> (&str, &str) {
        (self.get("session"), self.get("task"))
    }

    /// `open`, or `sent text 5`.
    fn words(&self) -> String {
        match self.target {
            "urlsession::frame" => {
                let more = if self.get("fin") == "true" { "" } else { " …" };
                let compressed = if self.get("compressed") == "true" { " deflated" } else { "" };
                let [direction, opcode, length] = ["direction", "opcode", "length"].map(|name| self.get(name));
                format!("{direction} {opcode} {length}{compressed}{more}")
            }
            _ => self.get("message").to_owned(),
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}

/// All that was told, of all tests.
static LINES: Mutex<Vec<Line>> = Mutex::new(Vec::new());
static CAME: Condvar = Condvar::new();
/// 0: nothing is wanted, 1: DEBUG, 2: TRACE.
static WANTED: AtomicU8 = AtomicU8::new(2);
/// One test changes what is wanted, while the others wait.
static LEVEL: RwLock<()> = RwLock::new(());
/// What a test does when it is told.
static ON_EVENT: Mutex<Option<WebSocketTask>> = Mutex::new(None);

/// What tests do when they are told of a session, of which they know where it connects to.
static HOOKS: Mutex<Vec<Hook>> = Mutex::new(Vec::new());

struct Hook {
    origin: String,
    /// Its number, once the first task was resumed.
    session: Option<String>,
    run: Arc<dyn Fn(&Line) + Send + Sync>,
}

fn on_event(server: &Server, run: impl Fn(&Line) + Send + Sync + 'static) {
    let origin = format!("ws://{}", server.address());
    HOOKS.lock().unwrap().push(Hook { origin, session: None, run: Arc::new(run) });
}

fn run_hooks(line: &Line) {
    let run = HOOKS.lock().unwrap().iter_mut().find_map(|hook| {
        if line.words() == "resumed" && line.get("origin") == hook.origin {
            hook.session = Some(line.get("session").to_owned());
        }
        (hook.session.as_deref() == Some(line.get("session"))).then(|| Arc::clone(&hook.run))
    });
    if let Some(run) = run {
        run(line);
    }
}

struct Listener;

impl Subscriber for Listener {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("urlsession")
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match WANTED.load(Ordering::Relaxed) {
            0 => LevelFilter::OFF,
            1 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        })
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut line = Line { target: metadata.target(), level: *metadata.level(), fields: BTreeMap::new() };
        event.record(&mut line);
        LINES.lock().unwrap().push(line.clone());
        CAME.notify_all();
        use_the_task();
        run_hooks(&line);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Calls everything on the task that the test gave, some hundred times: what these calls do is told, too.
fn use_the_task() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let task = ON_EVENT.lock().unwrap().clone();
    let Some(task) = task.filter(|_| CALLS.fetch_add(1, Ordering::Relaxed) < 300) else { return };
    let _ = (task.state(), task.response(), task.error(), task.buffered_amount(), task.count_of_bytes_sent());
    task.send("from the subscriber", |_| {});
    task.send_ping(|_| {});
    task.suspend();
    task.resume();
}

fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Listener).unwrap());
}

/// What was told of the task that was resumed for this address, once `is_all`.
#[track_caller]
fn told(url: &Url, is_all: impl Fn(&[Line]) -> bool) -> Vec<Line> {
    let origin = format!("{}://{}:{}", url.scheme(), url.host_str().unwrap(), url.port().unwrap());
    let deadline = Instant::now() + PATIENCE;
    let mut lines = LINES.lock().unwrap();
    loop {
        let resumed = lines.iter().find(|line| line.words() == "resumed" && line.get("origin") == origin);
        let of_task: Vec<Line> = match resumed.map(Line::task) {
            Some(task) => lines.iter().filter(|line| line.task() == task).cloned().collect(),
            None => Vec::new(),
        };
        if is_all(&of_task) {
            return of_task;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "of {origin}: {:#?}", words(&of_task));
        lines = CAME.wait_timeout(lines, left).unwrap().0;
    }
}

fn words(lines: &[Line]) -> Vec<String> {
    lines.iter().map(Line::words).collect()
}

fn has(lines: &[Line], wanted: &str) -> bool {
    lines.iter().any(|line| line.words() == wanted)
}

#[test]
fn the_steps_and_the_frames_of_a_task() {
    let _level = LEVEL.read().unwrap();
    listen();
    let server = Server::one(|mut peer| {
        peer.open();
        assert_eq!(peer.read_frame().payload, b"hello");
        peer.write(&frame(0x01, b"two "));
        peer.write(&frame(0x89, b"why?"));
        peer.write(&frame(0x80, b"parts"));
        assert_eq!(peer.read_frame().opcode(), 10);
        // Most of it is read straight into the message.
        peer.binary(&vec![7; 500_000]);
        peer.text("behind it");
        assert_eq!(peer.read_close(), (Some(4001), b"bye".to_vec()));
        peer.close(4001, "");
    });
    let (session, recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    for _ in 0..3 {
        task.receive(recorder.handler("receive"));
    }
    task.send("hello", recorder.handler("send"));
    task.resume();
    for _ in 0..3 {
        events.wait_for("receive ok");
    }
    task.cancel_with(CloseCode::new(4001), Some(b"bye"));
    events.wait_for("complete");
    let lines = told(&server.url(), |lines| has(lines, "ended") && has(lines, "received close 2"));
    let (frames, steps): (Vec<Line>, Vec<Line>) = lines.into_iter().partition(|line| line.target != "urlsession::task");
    assert_eq!(
        words(&steps),
        ["resumed", "connecting", "connected", "request", "response", "open", "cancelled", "ended"]
    );
    assert!(steps.iter().all(|line| line.level == Level::DEBUG));
    let find = |name: &str| steps.iter().find(|line| line.words() == name).unwrap();
    assert_eq!(find("connecting").get("address"), server.address().to_string());
    assert_eq!(find("connected").get("address"), server.address().to_string());
    assert_eq!(find("response").get("status"), "101");
    assert_eq!(find("open").get("compressed"), "false");
    assert_eq!((find("cancelled").get("code"), find("ended").get("code")), ("4001", "4001"));
    assert_eq!(find("ended").get("error"), "");

    assert!(frames.iter().all(|line| line.level == Level::TRACE && line.target == "urlsession::frame"));
    let of = |direction: &str| -> Vec<String> {
        words(&frames).into_iter().filter(|words| words.starts_with(direction)).collect()
    };
    assert_eq!(of("sent"), ["sent text 5", "sent pong 4", "sent close 5"]);
    let received = [
        "received text 4 …",
        "received ping 4",
        "received continuation 5",
        "received binary 500000",
        "received text 9",
        "received close 2",
    ];
    assert_eq!(of("received"), received);
    server.join();
}

#[test]
fn behind_tls_and_a_proxy_the_frames_are_those_within() {
    let _level = LEVEL.read().unwrap();
    listen();
    let config = trusted_server(BOTH);
    let server = Server::one(move |peer| {
        let mut peer = TlsPeer::new(peer, &config);
        peer.handshake().unwrap();
        peer.open();
        peer.echo();
    });
    let proxy = HttpProxy::open();
    let configuration = proxied(TRUSTED.configuration(), vec![proxy.configuration()]);
    let (session, recorder, events) = recorded_session_with(configuration, None);
    let url = Url::parse(&format!("wss://localhost:{}/", server.address().port())).unwrap();
    let task = session.web_socket_task(&url);
    task.receive(recorder.handler("receive"));
    // Two frames of a long message.
    task.send(vec![0; 1024 * 1024 + 10], |_| {});
    task.set_maximum_message_size(0);
    task.resume();
    events.wait_for("receive ok");
    task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
    events.wait_for("complete");
    let lines = told(&url, |lines| has(lines, "ended") && has(lines, "received close 2"));
    let steps: Vec<String> = words(&lines)
        .into_iter()
        .filter(|words| !words.starts_with("sent") && !words.starts_with("received"))
        .collect();
    let expected = [
        "resumed",
        "through a proxy",
        "connecting",
        "connected",
        "response",
        "tunnel open",
        "TLS handshake",
        "secured",
        "request",
        "response",
        "open",
        "cancelled",
        "ended",
    ];
    // A delegate that may be asked about certificates is asked.
    let steps: Vec<&str> = steps.iter().map(String::as_str).filter(|step| *step != "asking the delegate").collect();
    assert_eq!(steps, expected);
    let find = |name: &str| lines.iter().find(|line| line.words() == name).unwrap();
    assert_eq!(find("secured").get("version"), "TlsV13");
    assert!(!find("secured").get("cipher_suite").is_empty());
    assert_eq!(find("TLS handshake").get("host"), "localhost");
    for frame in ["sent binary 1048576 …", "sent continuation 10", "sent close 2", "received close 2"] {
        assert!(has(&lines, frame), "{frame}: {:#?}", words(&lines));
    }
}

#[test]
fn failures_and_answers_are_told_by_their_numbers() {
    let _level = LEVEL.read().unwrap();
    listen();
    let port = support::closed_port();
    let (session, _recorder, events) = recorded_session();
    let url = Url::parse(&format!("ws://127.0.0.1:{port}/")).unwrap();
    session.web_socket_task(&url).resume();
    events.wait_for("complete");
    let lines = told(&url, |lines| has(lines, "ended"));
    assert_eq!(words(&lines), ["resumed", "connecting", "connection failed", "ended"]);
    assert_eq!(lines[2].get("error"), "-1004");
    assert_eq!((lines[3].get("error"), lines[3].get("stage")), ("-1004", "at the connection"));

    let server = Server::one(|mut peer| {
        peer.open();
        peer.write(&frame(0x83, b"what?"));
        peer.read_close();
    });
    session.web_socket_task(server.url()).resume();
    events.wait_for("complete");
    let lines = told(&server.url(), |lines| lines.iter().any(|line| line.words().starts_with("sent close")));
    assert!(has(&lines, "received reserved 5") && has(&lines, "ended"), "{:#?}", words(&lines));
    server.join();
}

#[test]
fn nothing_secret_is_told() {
    let _level = LEVEL.read().unwrap();
    listen();
    const SECRET: &str = "hush-hush";
    let server = Origin::new(move |request| match request.target() {
        "/hush-hush?key=hush-hush" => {
            let redirect = origin::redirect(302, "/guarded-hush-hush?token=hush-hush");
            Answer::Keep(redirect.replace("\r\n\r\n", "\r\nSet-Cookie: id=hush-hush\r\n\r\n"))
        }
        _ if request.field("Authorization").is_none_or(|value| !value.starts_with("Basic")) => {
            Answer::Keep(origin::unauthorized(&["Basic realm=\"hush-hush\""]))
        }
        _ => Answer::Open("Sec-WebSocket-Protocol: hush-hush\r\n".to_owned()),
    });
    let (session, recorder, events) = recorded_session_with(SessionConfiguration::ephemeral(), None);
    let mut url = server.url("/hush-hush?key=hush-hush#hush-hush");
    url.set_username("hush-hush").unwrap();
    url.set_password(Some("hush-hush")).unwrap();
    let mut request = UrlRequest::new(url.clone());
    request.set_value(SECRET, "X-Token");
    request.set_value(SECRET, "Sec-WebSocket-Protocol");
    let task = session.web_socket_task(request);
    task.send(SECRET, |_| {});
    task.receive(recorder.receiver("receive"));
    task.resume();
    assert_eq!(events.wait_for("receive"), "receive string hush-hush");
    task.cancel_with(CloseCode::NORMAL_CLOSURE, Some(SECRET.as_bytes()));
    events.wait_for("complete");
    let lines = told(&url, |lines| has(lines, "ended") && has(lines, "received close 11"));
    assert!(
        ["redirected", "asking the delegate", "sent text 9"].iter().all(|step| has(&lines, step)),
        "{:#?}",
        words(&lines)
    );
    for line in &lines {
        assert!(!format!("{line:?}").contains(SECRET), "{line:?}");
    }
}

#[test]
fn a_subscriber_may_use_the_task_that_it_is_told_of() {
    let _level = LEVEL.read().unwrap();
    listen();
    let server = Server::one(|mut peer| {
        peer.open();
        peer.echo();
    });
    let (session, recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    *ON_EVENT.lock().unwrap() = Some(task.clone());
    task.resume();
    events.wait_for("open");
    for _ in 0..100 {
        task.receive(recorder.handler("receive"));
        task.send("hello", |_| {});
    }
    for _ in 0..100 {
        events.wait_for("receive ok");
    }
    *ON_EVENT.lock().unwrap() = None;
    task.cancel();
    events.wait_for("complete");
    told(&server.url(), |lines| has(lines, "ended") && has(lines, "sent text 19"));
}

#[test]
fn what_a_subscriber_panics_with_harms_nobody() {
    let _level = LEVEL.read().unwrap();
    listen();
    let server = Server::one(|mut peer| {
        peer.open();
        assert_eq!(peer.read_frame().payload, b"hello");
        peer.text("hello");
        peer.close(1000, "bye");
        peer.read_close();
    });
    on_event(&server, |line| panic!("of {}, as it should", line.words()));
    let (session, recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    task.receive(recorder.handler("receive"));
    task.send("hello", |_| {});
    task.resume();
    events.wait_for("receive ok");
    events.wait_for("complete None");
    told(&server.url(), |lines| has(lines, "ended") && has(lines, "sent text 5"));
    session.finish_tasks_and_invalidate();
    events.wait_for("invalid");
    server.join();
}

#[test]
fn a_subscriber_may_send_what_is_to_be_compressed_while_something_is() {
    const QUEUE: usize = 100_000;
    const LENGTHS: [usize; 4] = [60_000, 50_001, 60_002, 50_003];
    let _level = LEVEL.read().unwrap();
    listen();
    let server = Server::one(|mut peer| {
        peer.open_with(&accepts(""));
        peer.text("go");
        let mut codec = Codec::default();
        for length in LENGTHS {
            // The subscriber's come before, or behind.
            assert!(LENGTHS.contains(&codec.read_message(&mut peer).unwrap().payload.len()), "{length}");
        }
        peer.close(1000, "");
        peer.read_close();
    });
    let mut configuration = SessionConfiguration::default();
    configuration.web_socket.maximum_send_queue = Some(QUEUE);
    let (session, _recorder, events) = recorded_session_with(configuration, None);
    let task = session.web_socket_task(server.url());
    let told_of = task.clone();
    let sent = AtomicUsize::new(0);
    // Inside the callback, where sends gather until the queue has no room for the next.
    on_event(&server, move |line| {
        if line.words().starts_with("sent text") {
            match sent.fetch_add(1, Ordering::Relaxed) {
                0 => told_of.send("b".repeat(LENGTHS[2]), |result| result.unwrap()),
                1 => told_of.send("c".repeat(LENGTHS[3]), |result| result.unwrap()),
                _ => {}
            }
        }
    });
    let sender = task.clone();
    task.receive(move |_| {
        sender.send("a".repeat(LENGTHS[0]), |result| result.unwrap());
        sender.send("d".repeat(LENGTHS[1]), |result| result.unwrap());
    });
    task.resume();
    events.wait_for("complete None");
    server.join();
}

#[test]
fn whoever_sends_does_not_tell_all_that_others_note() {
    const MANY: usize = 200;
    let _level = LEVEL.read().unwrap();
    listen();
    let (ask, asked) = mpsc::channel();
    let server = Server::one(move |mut peer| {
        peer.open();
        assert_eq!(peer.read_frame().payload, b"x");
        asked.iter().for_each(|()| peer.write(&frame(0x8a, b"")));
        peer.close(1000, "");
        peer.read_close();
    });
    let (session, _recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    // Whenever the sender is told of a frame, the next one comes before it is done.
    let (sender, ask) = (thread::current().id(), Arc::new(Mutex::new(Some(ask))));
    let (asking, count) = (Arc::clone(&ask), Arc::new(AtomicUsize::new(0)));
    let told_sender = Arc::clone(&count);
    on_event(&server, move |line| {
        let is_frame = line.target == "urlsession::frame" && thread::current().id() == sender;
        if is_frame && told_sender.fetch_add(1, Ordering::Relaxed) < MANY {
            asking.lock().unwrap().as_ref().map(|ask| ask.send(()));
            thread::park_timeout(Duration::from_millis(20));
        }
    });
    task.resume();
    events.wait_for("open");
    task.send("x", |_| {});
    ask.lock().unwrap().take();
    events.wait_for("complete None");
    assert!(count.load(Ordering::Relaxed) < MANY / 10, "{count:?}");
    let lines = told(&server.url(), |lines| has(lines, "ended") && has(lines, "received close 2"));
    assert!(has(&lines, "received pong 0"));
    server.join();
}

#[test]
fn only_what_somebody_wants_is_written_down() {
    let _level = LEVEL.write().unwrap();
    listen();
    for (wanted, steps, frames) in [(0, false, false), (1, true, false), (2, true, true)] {
        WANTED.store(wanted, Ordering::Relaxed);
        tracing::callsite::rebuild_interest_cache();
        let server = Server::one(|mut peer| {
            peer.open();
            peer.echo();
        });
        let before = LINES.lock().unwrap().len();
        let (session, recorder, events) = recorded_session();
        let task = session.web_socket_task(server.url());
        task.receive(recorder.handler("receive"));
        task.send("hello", |_| {});
        task.resume();
        events.wait_for("receive ok");
        task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
        events.wait_for("complete");
        server.join();
        if steps {
            told(&server_url(&task), |lines| has(lines, "ended"));
        }
        // Of other tests' tasks the reactors may still tell the last frames.
        let number = task.task_identifier().to_string();
        let lines: Vec<Line> = LINES.lock().unwrap()[before..].to_vec();
        let has_frames = lines.iter().any(|line| line.words() == "sent text 5" && line.get("task") == number);
        assert_eq!((lines.iter().any(|line| line.words() == "open"), has_frames), (steps, frames), "wanted: {wanted}");
    }
}

fn server_url(task: &WebSocketTask) -> Url {
    task.original_request().url
}
