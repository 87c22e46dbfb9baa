//! A task's own delegate, method by method: what it has goes to it, and everything else to the session's.

mod support;

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use support::hooks::eventually;
use support::{PATIENCE, Peer, Server, frame};
use urlsession::{
    AuthChallengeDisposition, AuthenticationChallenge, ChallengeHandler, CloseCode, CredentialPersistence,
    HttpUrlResponse, RedirectionHandler, SessionConfiguration, SessionDelegate, SessionTask, TaskDelegate, TaskMetrics,
    UrlCredential, UrlError, UrlRequest, UrlSession, WebSocketDelegate, WebSocketTask,
};

/// Who is told, and of what.
type Told = (&'static str, &'static str);

/// What happens to each task, in order.
const EVENTS: [&str; 7] = ["redirect", "challenge", "informational", "open", "close", "metrics", "complete"];

fn credential() -> Option<UrlCredential> {
    Some(UrlCredential::new("me", "secret", CredentialPersistence::None))
}

/// The session's delegate has all methods.
struct All(Sender<Told>);

impl All {
    fn note(&self, event: &'static str) {
        self.0.send(("session", event)).unwrap();
    }
}

impl SessionDelegate for All {
    fn did_become_invalid_with_error(&self, _: &UrlSession, _: Option<&UrlError>) {
        self.note("invalid");
    }
}

impl TaskDelegate for All {
    fn will_perform_http_redirection(
        &self,
        _: &UrlSession,
        _: &SessionTask,
        _: &HttpUrlResponse,
        new_request: UrlRequest,
        completion_handler: RedirectionHandler,
    ) {
        self.note("redirect");
        completion_handler(Some(new_request));
    }

    fn task_did_receive_challenge(
        &self,
        _: &UrlSession,
        _: &SessionTask,
        _: &AuthenticationChallenge,
        completion_handler: ChallengeHandler,
    ) {
        self.note("challenge");
        completion_handler(AuthChallengeDisposition::UseCredential, credential());
    }

    fn did_receive_informational_response(&self, _: &UrlSession, _: &SessionTask, _: &HttpUrlResponse) {
        self.note("informational");
    }

    fn did_finish_collecting_metrics(&self, _: &UrlSession, _: &SessionTask, _: &TaskMetrics) {
        self.note("metrics");
    }

    fn did_complete_with_error(&self, _: &UrlSession, _: &SessionTask, _: Option<&UrlError>) {
        self.note("complete");
    }
}

impl WebSocketDelegate for All {
    fn did_open_with_protocol(&self, _: &UrlSession, _: &WebSocketTask, _: Option<&str>) {
        self.note("open");
    }

    fn did_close_with(&self, _: &UrlSession, _: &WebSocketTask, _: CloseCode, _: Option<&[u8]>) {
        self.note("close");
    }
}

/// A delegate type that has the methods of these three bodies, and no other.
macro_rules! delegate {
    ($name:ident { $($task:tt)* } { $($socket:tt)* }) => {
        struct $name(Sender<Told>);

        impl SessionDelegate for $name {}
        impl TaskDelegate for $name { $($task)* }
        impl WebSocketDelegate for $name { $($socket)* }
    };
}

struct Nothing;

impl SessionDelegate for Nothing {}
impl TaskDelegate for Nothing {}
impl WebSocketDelegate for Nothing {}

delegate!(Redirect {
    fn will_perform_http_redirection(
        &self,
        _: &UrlSession,
        _: &SessionTask,
        _: &HttpUrlResponse,
        new_request: UrlRequest,
        completion_handler: RedirectionHandler,
    ) {
        self.0.send(("own", "redirect")).unwrap();
        completion_handler(Some(new_request));
    }
} {});

delegate!(Challenge {
    fn task_did_receive_challenge(
        &self,
        _: &UrlSession,
        _: &SessionTask,
        _: &AuthenticationChallenge,
        completion_handler: ChallengeHandler,
    ) {
        self.0.send(("own", "challenge")).unwrap();
        completion_handler(AuthChallengeDisposition::UseCredential, credential());
    }
} {});

delegate!(Informational {
    fn did_receive_informational_response(&self, _: &UrlSession, _: &SessionTask, _: &HttpUrlResponse) {
        self.0.send(("own", "informational")).unwrap();
    }
} {});

delegate!(Open {} {
    fn did_open_with_protocol(&self, _: &UrlSession, _: &WebSocketTask, _: Option<&str>) {
        self.0.send(("own", "open")).unwrap();
    }
});

delegate!(Close {} {
    fn did_close_with(&self, _: &UrlSession, _: &WebSocketTask, _: CloseCode, _: Option<&[u8]>) {
        self.0.send(("own", "close")).unwrap();
    }
});

delegate!(Metrics {
    fn did_finish_collecting_metrics(&self, _: &UrlSession, _: &SessionTask, _: &TaskMetrics) {
        self.0.send(("own", "metrics")).unwrap();
    }
} {});

delegate!(Complete {
    fn did_complete_with_error(&self, _: &UrlSession, _: &SessionTask, _: Option<&UrlError>) {
        self.0.send(("own", "complete")).unwrap();
    }
} {});

/// A way with everything on it: elsewhere, who are you, early hints, open, over.
fn guide(mut peer: Peer) {
    peer.read_request();
    peer.write(b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n");
    peer.read_request();
    peer.write(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"r\"\r\nContent-Length: 0\r\n\r\n");
    let request = peer.read_request();
    peer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n");
    peer.write(&Peer::switching_protocols(&request, ""));
    peer.write(&frame(0x88, &[]));
    assert_eq!(peer.read_frame().opcode(), 8);
}

#[track_caller]
fn expect(told: &Receiver<Told>, own: Option<&str>) {
    for event in EVENTS {
        let who = if own == Some(event) { "own" } else { "session" };
        assert_eq!(told.recv_timeout(PATIENCE), Ok((who, event)), "the task's delegate has {own:?}");
    }
}

#[test]
fn each_method_that_a_tasks_delegate_lacks_goes_to_the_sessions() {
    let (sender, told) = mpsc::channel();
    let new = || sender.clone();
    let delegates: [(Arc<dyn WebSocketDelegate>, Option<&str>); 8] = [
        (Arc::new(Nothing), None),
        (Arc::new(Redirect(new())), Some("redirect")),
        (Arc::new(Challenge(new())), Some("challenge")),
        (Arc::new(Informational(new())), Some("informational")),
        (Arc::new(Open(new())), Some("open")),
        (Arc::new(Close(new())), Some("close")),
        (Arc::new(Metrics(new())), Some("metrics")),
        (Arc::new(Complete(new())), Some("complete")),
    ];
    // Twice: what is known by then of who has what changes nothing.
    let server = Server::many(2 * delegates.len(), |_, peer| guide(peer));
    let mut configuration = SessionConfiguration::ephemeral();
    configuration.url_credential_storage = None;
    let session = UrlSession::with_delegate(configuration, Some(Arc::new(All(sender.clone()))), None);
    for _ in 0..2 {
        for (delegate, own) in &delegates {
            let task = session.web_socket_task(server.url());
            task.set_delegate(Some(Arc::clone(delegate)));
            task.resume();
            expect(&told, *own);
            eventually("the task lets go of its delegate", || task.delegate().is_none());
        }
    }
    server.join();
    assert!(delegates.iter().all(|(delegate, _)| Arc::strong_count(delegate) == 1));
    session.finish_tasks_and_invalidate();
    assert_eq!(told.recv_timeout(PATIENCE), Ok(("session", "invalid")));
    drop(delegates);
    drop(sender);
    assert!(told.recv_timeout(PATIENCE).is_err(), "nothing more is told, and nobody is left who could");
}

/// The owner of a delegate may go: the session keeps it, and lets it go with its own end.
#[test]
fn a_delegate_lives_as_long_as_its_session() {
    let (sender, told) = mpsc::channel();
    let delegate = Arc::new(All(sender));
    let weak = Arc::downgrade(&delegate);
    let session = UrlSession::with_delegate(SessionConfiguration::ephemeral(), Some(delegate), None);
    let server = Server::one(guide);
    session.web_socket_task(server.url()).resume();
    expect(&told, None);
    server.join();
    assert!(weak.upgrade().is_some() && session.delegate().is_some());
    session.invalidate_and_cancel();
    assert_eq!(told.recv_timeout(PATIENCE), Ok(("session", "invalid")));
    // The last word has been said; then it goes.
    eventually("the delegate is let go", || weak.upgrade().is_none());
    assert!(session.delegate().is_none());
    assert!(told.recv_timeout(PATIENCE).is_err());
}
