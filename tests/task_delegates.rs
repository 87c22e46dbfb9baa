//! A task's own delegate, method by method: what it has goes to it, all the rest to the session's delegate. And delegates
//! that own, or are owned by, what they serve.

mod support;

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, Weak};

use support::origin::{Answer, Origin, Request, redirect, unauthorized};
use support::{PATIENCE, Server};
use urlsession::{
    AuthChallengeDisposition, AuthenticationChallenge, ChallengeHandler, CloseCode, CredentialPersistence,
    HttpUrlResponse, OperationQueue, RedirectionHandler, SessionConfiguration, SessionDelegate, SessionTask,
    TaskDelegate, TaskMetrics, UrlCredential, UrlError, UrlRequest, UrlSession, WebSocketDelegate, WebSocketTask,
};

/// What every delegate of this file does: it notes who was told what, and goes on.
struct Voice {
    name: &'static str,
    sender: Sender<String>,
}

impl Voice {
    fn note(&self, event: &str) {
        let _ = self.sender.send(format!("{} {event}", self.name));
    }

    fn invalid(&self, _: &UrlSession, error: Option<&UrlError>) {
        self.note(&format!("invalid {error:?}"));
    }

    fn connection(&self, _: &UrlSession, _: &AuthenticationChallenge, handler: ChallengeHandler) {
        self.note("connection");
        handler(AuthChallengeDisposition::PerformDefaultHandling, None);
    }

    fn create(&self, _: &UrlSession, task: &SessionTask) {
        self.note(&format!("create {}", task.task_identifier()));
    }

    fn waiting(&self, _: &UrlSession, _: &SessionTask) {
        self.note("waiting");
    }

    fn redirect(
        &self,
        _: &UrlSession,
        _: &SessionTask,
        response: &HttpUrlResponse,
        request: UrlRequest,
        handler: RedirectionHandler,
    ) {
        self.note(&format!("redirect {} {}", response.status_code(), request.url.path()));
        handler(Some(request));
    }

    fn challenge(
        &self,
        _: &UrlSession,
        _: &SessionTask,
        challenge: &AuthenticationChallenge,
        handler: ChallengeHandler,
    ) {
        self.note(&format!("challenge {}", challenge.protection_space().realm().unwrap_or_default()));
        let credential = UrlCredential::new("me", "secret", CredentialPersistence::None);
        handler(AuthChallengeDisposition::UseCredential, Some(credential));
    }

    fn informational(&self, _: &UrlSession, _: &SessionTask, response: &HttpUrlResponse) {
        self.note(&format!("informational {}", response.status_code()));
    }

    fn metrics(&self, _: &UrlSession, _: &SessionTask, metrics: &TaskMetrics) {
        self.note(&format!("metrics {}", metrics.redirect_count));
    }

    fn complete(&self, _: &UrlSession, _: &SessionTask, error: Option<&UrlError>) {
        self.note(&format!("complete {:?}", error.map(UrlError::raw_code)));
    }

    fn open(&self, _: &UrlSession, task: &WebSocketTask, protocol: Option<&str>) {
        self.note(&format!("open {protocol:?}"));
        task.cancel_with(CloseCode::GOING_AWAY, Some(b"bye"));
    }

    fn close(&self, _: &UrlSession, _: &WebSocketTask, code: CloseCode, reason: Option<&[u8]>) {
        self.note(&format!("close {code} {:?}", reason.map(String::from_utf8_lossy)));
    }
}

/// Has every method.
struct Everything(Voice);

/// A delegate type for each method, which has no other, and that method for `Everything`.
macro_rules! methods {
    ($($protocol:ident {
        $($alone:ident: $method:ident => $voice:ident($($argument:ident: $type:ty),*),)*
    })*) => {
        $(
            impl $protocol for Everything {
                $(fn $method(&self, $($argument: $type),*) {
                    self.0.$voice($($argument),*);
                })*
            }
            $(
                struct $alone(Voice);

                methods!(@others $protocol $alone);

                impl $protocol for $alone {
                    fn $method(&self, $($argument: $type),*) {
                        self.0.$voice($($argument),*);
                    }
                }
            )*
        )*
    };
    (@others SessionDelegate $alone:ident) => {
        impl TaskDelegate for $alone {}
        impl WebSocketDelegate for $alone {}
    };
    (@others TaskDelegate $alone:ident) => {
        impl SessionDelegate for $alone {}
        impl WebSocketDelegate for $alone {}
    };
    (@others WebSocketDelegate $alone:ident) => {
        impl SessionDelegate for $alone {}
        impl TaskDelegate for $alone {}
    };
}

methods! {
    SessionDelegate {
        Invalid: did_become_invalid_with_error => invalid(session: &UrlSession, error: Option<&UrlError>),
        Connection: did_receive_challenge => connection(
            session: &UrlSession, challenge: &AuthenticationChallenge, handler: ChallengeHandler
        ),
    }
    TaskDelegate {
        Create: did_create_task => create(session: &UrlSession, task: &SessionTask),
        Waiting: task_is_waiting_for_connectivity => waiting(session: &UrlSession, task: &SessionTask),
        Redirect: will_perform_http_redirection => redirect(
            session: &UrlSession, task: &SessionTask, response: &HttpUrlResponse, request: UrlRequest,
            handler: RedirectionHandler
        ),
        Challenge: task_did_receive_challenge => challenge(
            session: &UrlSession, task: &SessionTask, challenge: &AuthenticationChallenge, handler: ChallengeHandler
        ),
        Informational: did_receive_informational_response => informational(
            session: &UrlSession, task: &SessionTask, response: &HttpUrlResponse
        ),
        Metrics: did_finish_collecting_metrics => metrics(
            session: &UrlSession, task: &SessionTask, metrics: &TaskMetrics
        ),
        Complete: did_complete_with_error => complete(
            session: &UrlSession, task: &SessionTask, error: Option<&UrlError>
        ),
    }
    WebSocketDelegate {
        Open: did_open_with_protocol => open(session: &UrlSession, task: &WebSocketTask, protocol: Option<&str>),
        Close: did_close_with => close(
            session: &UrlSession, task: &WebSocketTask, code: CloseCode, reason: Option<&[u8]>
        ),
    }
}

/// Has none.
struct Nothing;

impl SessionDelegate for Nothing {}
impl TaskDelegate for Nothing {}
impl WebSocketDelegate for Nothing {}

type MakeOwn = fn(Voice) -> Arc<dyn WebSocketDelegate>;
type MakeCommon = fn(Voice) -> Option<Arc<dyn WebSocketDelegate>>;

/// Own delegates, and what goes to each: words that its events begin with. A task has no delegate of its own yet when it
/// is made, and the end of the session is no affair of a task's.
const OWN: [(MakeOwn, &[&str]); 13] = [
    (|_| Arc::new(Nothing), &[]),
    (|voice| Arc::new(Invalid(voice)), &[]),
    (|voice| Arc::new(Connection(voice)), &[]),
    (|voice| Arc::new(Create(voice)), &[]),
    (|voice| Arc::new(Waiting(voice)), &["waiting"]),
    (|voice| Arc::new(Redirect(voice)), &["redirect"]),
    (|voice| Arc::new(Challenge(voice)), &["challenge"]),
    (|voice| Arc::new(Informational(voice)), &["informational"]),
    (|voice| Arc::new(Metrics(voice)), &["metrics"]),
    (|voice| Arc::new(Complete(voice)), &["complete"]),
    (|voice| Arc::new(Open(voice)), &["open"]),
    (|voice| Arc::new(Close(voice)), &["close"]),
    (
        |voice| Arc::new(Everything(voice)),
        &["waiting", "redirect", "challenge", "informational", "metrics", "complete", "open", "close"],
    ),
];

fn voices() -> (impl Fn(&'static str) -> Voice, Receiver<String>) {
    let (sender, receiver) = mpsc::channel();
    (move |name| Voice { name, sender: sender.clone() }, receiver)
}

#[track_caller]
fn wait<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(PATIENCE).expect("something in time")
}

/// The events up to the one that ends with `last`, itself included.
#[track_caller]
fn until(receiver: &Receiver<String>, last: &str) -> Vec<String> {
    let mut log = Vec::new();
    loop {
        match receiver.recv_timeout(PATIENCE) {
            Ok(event) => log.push(event),
            Err(error) => panic!("{last}: {error} after {log:#?}"),
        }
        if log.last().is_some_and(|event| event.ends_with(last)) {
            return log;
        }
    }
}

/// What is told, where `own` goes to the task's delegate.
fn told(events: &[&str], own: &[&str]) -> Vec<String> {
    let whose = |event: &str| if own.iter().any(|word| event.starts_with(word)) { "own" } else { "session" };
    events.iter().map(|event| format!("{} {event}", whose(event))).collect()
}

/// A 103, a redirect, a 401, and then the WebSocket: the way that calls every method.
fn answer(request: &Request) -> Answer {
    match request.target() {
        "/old" => Answer::Keep(format!("HTTP/1.1 103 Early Hints\r\n\r\n{}", redirect(307, "/new"))),
        _ if request.field("Authorization").is_none() => Answer::Keep(unauthorized(&["Basic realm=\"here\""])),
        _ => Answer::Open(String::new()),
    }
}

#[test]
fn each_method_that_an_own_delegate_has_goes_to_it_and_all_others_to_the_sessions() {
    const EVENTS: [&str; 8] = [
        "informational 103",
        "redirect 307 /new",
        "challenge here",
        "open None",
        "close 1001 Some(\"bye\")",
        "metrics 1",
        "complete None",
        "invalid None",
    ];
    let origin = Origin::new(answer);
    let queues: [fn() -> Option<OperationQueue>; 4] = [
        || None,
        || Some(OperationQueue::new()),
        || Some(OperationQueue::immediate()),
        || Some(OperationQueue::with_executor(|job| job())),
    ];
    for queue in queues {
        for (number, (own, words)) in OWN.into_iter().enumerate() {
            let (voice, receiver) = voices();
            let session = UrlSession::with_delegate(
                SessionConfiguration::ephemeral(),
                Some(Arc::new(Everything(voice("session")))),
                queue(),
            );
            let task = session.web_socket_task(origin.url("/old"));
            assert_eq!(wait(&receiver), "session create 1");
            task.set_delegate(Some(own(voice("own"))));
            task.resume();
            session.finish_tasks_and_invalidate();
            assert_eq!(until(&receiver, "invalid None"), told(&EVENTS, words), "{number}");
            assert_eq!(receiver.try_recv().ok(), None);
        }
    }
}

/// The other way round: where the session's delegate lacks a method, or there is none, the own one is told all the same,
/// and of what neither has nobody is.
#[test]
fn an_own_delegate_is_told_whatever_the_sessions_has() {
    let origin = Origin::new(answer);
    let commons: [MakeCommon; 3] = [|_| None, |_| Some(Arc::new(Nothing)), |voice| Some(Arc::new(Close(voice)))];
    for common in commons {
        let (voice, receiver) = voices();
        let delegate = common(voice("session"));
        let session = UrlSession::with_delegate(SessionConfiguration::ephemeral(), delegate, None);
        let task = session.web_socket_task(origin.url("/old"));
        task.set_delegate(Some(Arc::new(Everything(voice("own")))));
        task.resume();
        let expected = [
            "own informational 103",
            "own redirect 307 /new",
            "own challenge here",
            "own open None",
            "own close 1001 Some(\"bye\")",
            "own metrics 1",
            "own complete None",
        ];
        assert_eq!(until(&receiver, "complete None"), expected);
    }
}

/// Without a network, which needs none of a server.
#[cfg(target_os = "linux")]
#[test]
fn that_a_task_waits_for_connectivity_is_told_to_who_has_the_method() {
    use support::namespace::{Network, inside};
    use urlsession::Url;

    inside(Network { up: false, ..Network::default() }, || {
        for (number, (own, words)) in OWN.into_iter().enumerate() {
            let (voice, receiver) = voices();
            let mut configuration = SessionConfiguration::ephemeral();
            configuration.waits_for_connectivity = true;
            let delegate = Arc::new(Everything(voice("session")));
            let session = UrlSession::with_delegate(configuration, Some(delegate), None);
            let task = session.web_socket_task(Url::parse("ws://127.0.0.1:9/").unwrap());
            assert_eq!(wait(&receiver), "session create 1");
            task.set_delegate(Some(own(voice("own"))));
            task.resume();
            assert_eq!(until(&receiver, "waiting"), told(&["waiting"], words), "{number}");
            session.invalidate_and_cancel();
            let rest = told(&["metrics 0", "complete Some(-999)", "invalid None"], words);
            assert_eq!(until(&receiver, "invalid None"), rest, "{number}");
        }
    });
}

// Who owns whom.

/// Its owner is told when it is let go.
struct Mortal(Voice);

impl Drop for Mortal {
    fn drop(&mut self) {
        self.0.note("dropped");
    }
}

/// Has every method that concerns an echo of one message, and owns whatever `T` is.
struct Owning<T> {
    /// Goes first: when the owner hears of it, that is gone, too.
    _owned: T,
    mortal: Mortal,
}

impl<T: Send + Sync + 'static> SessionDelegate for Owning<T> {
    fn did_become_invalid_with_error(&self, session: &UrlSession, error: Option<&UrlError>) {
        self.mortal.0.invalid(session, error);
    }
}

impl<T: Send + Sync + 'static> TaskDelegate for Owning<T> {
    fn did_complete_with_error(&self, session: &UrlSession, task: &SessionTask, error: Option<&UrlError>) {
        self.mortal.0.complete(session, task, error);
    }
}

impl<T: Send + Sync + 'static> WebSocketDelegate for Owning<T> {
    fn did_open_with_protocol(&self, _: &UrlSession, _: &WebSocketTask, protocol: Option<&str>) {
        self.mortal.0.note(&format!("open {protocol:?}"));
    }

    fn did_close_with(&self, session: &UrlSession, task: &WebSocketTask, code: CloseCode, reason: Option<&[u8]>) {
        self.mortal.0.close(session, task, code, reason);
    }
}

fn owning<T>(voice: Voice, owned: T) -> Arc<Owning<T>> {
    Arc::new(Owning { _owned: owned, mortal: Mortal(voice) })
}

/// A server whose one connection is closed with 1000 when the test says so.
fn closing_server() -> (Server, Sender<()>) {
    let (go, ready) = mpsc::channel();
    let server = Server::one(move |mut peer| {
        peer.open();
        // Where the client is the first to go, the test says nothing.
        if ready.recv_timeout(PATIENCE).is_ok() {
            peer.close(1000, "");
            peer.read_close();
        }
    });
    (server, go)
}

#[test]
fn delegates_live_as_long_as_they_are_needed_whatever_their_owner_does() {
    let (server, go) = closing_server();
    let (voice, receiver) = voices();
    let common = owning(voice("session"), ());
    let own = owning(voice("own"), ());
    let (weak_common, weak_own) = (Arc::downgrade(&common), Arc::downgrade(&own));
    let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(common.clone()), None);
    let task = session.web_socket_task(server.url());
    task.set_delegate(Some(own.clone()));
    // Nobody outside has them from here on.
    drop((common, own));
    task.resume();
    assert_eq!(until(&receiver, "open None"), ["own open None"]);
    assert!(weak_common.upgrade().is_some() && weak_own.upgrade().is_some());
    go.send(()).unwrap();
    let expected = ["own close 1000 Some(\"\")", "own complete None", "own dropped"];
    assert_eq!(until(&receiver, "dropped"), expected);
    server.join();
    // The session waits for other tasks, and keeps its own.
    assert_eq!(Weak::strong_count(&weak_common), 1);
    assert!(session.delegate().is_some() && task.delegate().is_none());
    session.finish_tasks_and_invalidate();
    assert_eq!(until(&receiver, "dropped"), ["session invalid None", "session dropped"]);
    assert!(session.delegate().is_none());
    drop((session, task, voice));
    assert_eq!(receiver.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
}

/// A delegate that owns its session and its tasks, as a view controller does: a ring, which the end opens.
#[test]
fn a_ring_of_delegate_session_and_tasks_is_opened_by_the_end() {
    type Ring = Arc<Mutex<Option<(UrlSession, Vec<WebSocketTask>)>>>;
    for cancel in [false, true] {
        let (server, go) = closing_server();
        let (voice, receiver) = voices();
        let ring: Ring = Arc::default();
        let held = Arc::downgrade(&ring);
        let delegate = owning(voice("session"), Arc::clone(&ring));
        let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), None);
        // The second task is never resumed.
        let tasks: Vec<_> = (0..2).map(|_| session.web_socket_task(server.url())).collect();
        tasks[0].resume();
        *ring.lock().unwrap() = Some((session.clone(), tasks.clone()));
        drop(ring);
        assert_eq!(until(&receiver, "open None"), ["session open None"]);
        if cancel {
            drop(tasks);
            session.invalidate_and_cancel();
            drop(session);
            let mut log = until(&receiver, "dropped");
            assert_eq!(log.split_off(2), ["session invalid None", "session dropped"]);
            assert_eq!(log, ["session complete Some(-999)"; 2]);
        } else {
            // A task that was never resumed holds the session up, and belongs to its delegate: it must be cancelled.
            tasks[1].cancel();
            assert_eq!(until(&receiver, "complete Some(-999)"), ["session complete Some(-999)"]);
            drop(tasks);
            session.finish_tasks_and_invalidate();
            drop(session);
            go.send(()).unwrap();
            let expected =
                ["session close 1000 Some(\"\")", "session complete None", "session invalid None", "session dropped"];
            assert_eq!(until(&receiver, "dropped"), expected);
        }
        assert!(held.upgrade().is_none());
        drop(go);
        server.join();
    }
}

/// A task's own delegate that holds its task and the last handle of the session: both go with the end of the task.
#[test]
fn a_ring_of_a_task_and_its_own_delegate_is_opened_by_the_end_of_the_task() {
    let (server, go) = closing_server();
    let (voice, receiver) = voices();
    let ring: Arc<Mutex<Option<(UrlSession, WebSocketTask)>>> = Arc::default();
    let common = owning(voice("session"), ());
    let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(common), None);
    let task = session.web_socket_task(server.url());
    task.set_delegate(Some(owning(voice("own"), Arc::clone(&ring))));
    task.resume();
    *ring.lock().unwrap() = Some((session, task));
    let held = Arc::downgrade(&ring);
    drop(ring);
    assert_eq!(until(&receiver, "open None"), ["own open None"]);
    go.send(()).unwrap();
    let expected = [
        "own close 1000 Some(\"\")",
        "own complete None",
        "own dropped",
        // With the delegate went the last handle.
        "session invalid None",
        "session dropped",
    ];
    assert_eq!(until(&receiver, "session dropped"), expected);
    assert!(held.upgrade().is_none());
    server.join();
}

/// What a program is in the end: its session and its task. Its delegate knows it weakly.
struct App {
    session: UrlSession,
    task: Mutex<Option<WebSocketTask>>,
    voice: Voice,
}

impl Drop for App {
    fn drop(&mut self) {
        self.voice.note("dropped");
    }
}

struct KnowsWeakly {
    app: Mutex<Weak<App>>,
    mortal: Mortal,
}

impl KnowsWeakly {
    fn note(&self, event: &str) {
        // What it was upgraded to is let go before anybody hears of it.
        let there = self.app.lock().unwrap().upgrade().is_some();
        self.mortal.0.note(&format!("{event} {}", if there { "there" } else { "gone" }));
    }
}

impl SessionDelegate for KnowsWeakly {
    fn did_become_invalid_with_error(&self, _: &UrlSession, _: Option<&UrlError>) {
        self.note("invalid");
    }
}

impl TaskDelegate for KnowsWeakly {
    fn did_complete_with_error(&self, _: &UrlSession, task: &SessionTask, error: Option<&UrlError>) {
        assert_eq!(task.error().is_none(), error.is_none());
        self.note("complete");
    }
}

impl WebSocketDelegate for KnowsWeakly {
    fn did_open_with_protocol(&self, _: &UrlSession, _: &WebSocketTask, _: Option<&str>) {
        self.note("open");
    }

    fn did_close_with(&self, _: &UrlSession, _: &WebSocketTask, _: CloseCode, _: Option<&[u8]>) {
        self.note("close");
    }
}

#[test]
fn what_a_delegate_serves_weakly_goes_at_once_and_the_delegate_with_the_end() {
    for cancels in [false, true] {
        let (server, go) = closing_server();
        let (voice, receiver) = voices();
        let delegate = Arc::new(KnowsWeakly { app: Mutex::default(), mortal: Mortal(voice("delegate")) });
        let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate.clone()), None);
        let app = Arc::new(App { session, task: Mutex::default(), voice: voice("app") });
        *delegate.app.lock().unwrap() = Arc::downgrade(&app);
        drop(delegate);
        let task = app.session.web_socket_task(server.url());
        task.resume();
        *app.task.lock().unwrap() = Some(task);
        assert_eq!(until(&receiver, "open there"), ["delegate open there"]);
        if cancels {
            app.session.invalidate_and_cancel();
            let expected = ["delegate complete there", "delegate invalid there", "delegate dropped"];
            assert_eq!(until(&receiver, "dropped"), expected);
            drop(app);
            assert_eq!(wait(&receiver), "app dropped");
        } else {
            // Nobody holds the program any more: not the session, whose last handle goes with it, and not the task, which
            // runs on to its end.
            drop(app);
            assert_eq!(receiver.try_recv().as_deref(), Ok("app dropped"));
            go.send(()).unwrap();
            let expected =
                ["delegate close gone", "delegate complete gone", "delegate invalid gone", "delegate dropped"];
            assert_eq!(until(&receiver, "dropped"), expected);
        }
        drop(go);
        server.join();
    }
}
