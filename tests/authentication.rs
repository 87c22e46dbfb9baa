//! Challenges on the way to the open socket: RFC 9110 §11, Basic (RFC 7617), who is asked and what the answers do.

mod support;

use std::sync::mpsc;
use std::sync::{Arc, LazyLock, OnceLock};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;
use support::guide::{Guide, Kept, run};
use support::hooks::eventually;
use support::origin::{Answer, Origin, Request, head, redirect, unauthorized};
use support::tls::{BOTH, TRUSTED, trusted_server};
use support::{Events, PATIENCE, accept_for, recorded_session};
use urlsession::{
    AuthChallengeDisposition, AuthenticationChallenge, AuthenticationMethod, ChallengeHandler, CloseCode,
    CredentialPersistence, OperationQueue, SessionConfiguration, SessionDelegate, SessionTask, TaskDelegate,
    TaskMetrics, TaskState, Url, UrlCredential, UrlCredentialStorage, UrlProtectionSpace, UrlRequest, UrlSession,
    WebSocketDelegate,
};

use AuthChallengeDisposition::{
    CancelAuthenticationChallenge, PerformDefaultHandling, RejectProtectionSpace, UseCredential,
};

const ME: &str = "Basic bWU6c2VjcmV0";
const HERE: &str = "Basic realm=\"here\"";

/// Long enough for what must not happen to have happened.
const MOMENT: Duration = Duration::from_millis(150);

static SECURE: LazyLock<Arc<ServerConfig>> = LazyLock::new(|| trusted_server(BOTH));

fn me(persistence: CredentialPersistence) -> UrlCredential {
    UrlCredential::new("me", "secret", persistence)
}

fn once() -> UrlCredential {
    me(CredentialPersistence::None)
}

/// Opens for [`ME`] and asks everybody else.
fn basic() -> Origin {
    Origin::new(basic_answer)
}

fn basic_answer(request: &Request) -> Answer {
    match request.field("Authorization") {
        Some(ME) => Answer::Open(String::new()),
        _ => Answer::Keep(unauthorized(&[HERE])),
    }
}

/// Trusts the servers of these tests, and has storages of its own.
fn configuration() -> SessionConfiguration {
    let mut configuration = SessionConfiguration::ephemeral();
    configuration.root_certificates = TRUSTED.configuration().root_certificates;
    configuration
}

/// The space of a `ws` server on this machine.
fn space(origin: &Origin, realm: &str, method: AuthenticationMethod) -> UrlProtectionSpace {
    UrlProtectionSpace::new("127.0.0.1", origin.port(), Some("ws"), Some(realm), method)
}

fn stored(space: &UrlProtectionSpace, credential: UrlCredential) -> SessionConfiguration {
    let storage = UrlCredentialStorage::new();
    storage.set(credential, space);
    let mut configuration = configuration();
    configuration.url_credential_storage = Some(storage);
    configuration
}

fn authorizations(origin: &Origin) -> Vec<Option<String>> {
    origin.seen().iter().map(|request| request.field("Authorization").map(str::to_owned)).collect()
}

fn challenges(events: &Events) -> Vec<String> {
    events.log().into_iter().filter(|event| event.contains("challenge")).collect()
}

/// The user and password of a Basic answer.
fn decoded(authorization: &str) -> String {
    String::from_utf8(STANDARD.decode(authorization.strip_prefix("Basic ").unwrap()).unwrap()).unwrap()
}

// Basic.

#[test]
fn basic_on_a_connection_that_is_kept() {
    let origin = basic();
    let (guide, events) = Guide::new();
    let session = guide.credential(once()).session(SessionConfiguration::ephemeral());
    let task = session.web_socket_task(origin.url("/"));
    task.resume();
    events.expect_to_open(&["challenge basic here 0 -"]);
    assert_eq!(authorizations(&origin), [None, Some(ME.to_owned())]);
    assert_eq!(origin.connections(), 1);
    let keys: Vec<_> =
        origin.seen().iter().map(|request| request.field("Sec-WebSocket-Key").unwrap().to_owned()).collect();
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn users_and_passwords_go_out_as_utf_8() {
    let table =
        [("me", "secret"), ("J\u{e4}s\u{f8}n", "p\u{e4}ss \u{4f60}\u{597d}"), ("me", ""), ("", ""), ("me", "a:b")];
    for (user, password) in table {
        let expected = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let origin = Origin::new(move |request| match request.fields("Authorization")[..] {
            [value] if value == expected => Answer::Open(String::new()),
            _ => Answer::Keep(unauthorized(&["Basic realm=\"here\", charset=\"UTF-8\""])),
        });
        let (guide, events) = Guide::new();
        let credential = UrlCredential::new(user, password, CredentialPersistence::None);
        let session = guide.credential(credential).session(SessionConfiguration::ephemeral());
        session.web_socket_task(origin.url("/")).resume();
        events.expect_to_open(&["challenge basic here 0 -"]);
    }
}

/// RFC 7617 §2: such a user cannot be sent. The error says so, and no more.
#[test]
fn what_cannot_be_sent_ends_the_task() {
    for (user, password) in [("Mu:fasa", "unspoken"), ("Mufasa", "uns\npoken"), ("Mu\tfasa", "unspoken")] {
        let origin = basic();
        let (guide, events) = Guide::new();
        let credential = UrlCredential::new(user, password, CredentialPersistence::None);
        let session = guide.credential(credential).session(SessionConfiguration::ephemeral());
        let task = session.web_socket_task(origin.url("/"));
        task.resume();
        events.expect(&["challenge basic here 0 -", "complete -1011"]);
        let error = task.error().unwrap();
        assert!(error.reason().contains("cannot be sent"), "{error}");
        assert_eq!(error.response().unwrap().status_code(), 401);
        let text = format!("{error} {error:?}");
        assert!(!text.contains(user) && !text.contains(password) && !text.contains("fasa"), "{text}");
        assert_eq!(authorizations(&origin), [None]);
    }
}

#[test]
fn the_user_of_the_address_answers_by_itself() {
    let table = [
        ("me:secret@", "me:secret"),
        (":secret@", ":secret"),
        ("a%40b:c%3Ad%2F@", "a@b:c:d/"),
        ("J%C3%A4s%C3%B8n:%E4%BD%A0@", "J\u{e4}s\u{f8}n:\u{4f60}"),
        ("J\u{e4}s\u{f8}n:\u{4f60}@", "J\u{e4}s\u{f8}n:\u{4f60}"),
    ];
    for (user, expected) in table {
        let expected = expected.to_owned();
        let answer = {
            let expected = expected.clone();
            move |request: &Request| match request.field("Authorization").map(decoded) {
                Some(given) if given == expected => Answer::Open(String::new()),
                _ => Answer::Keep(unauthorized(&[HERE])),
            }
        };
        let origin = Origin::new(answer);
        let url = origin.url("/a?b").to_string().replace("://", &format!("://{user}"));
        let url = Url::parse(&url).unwrap();
        // With a delegate and without one: nobody is asked.
        let session = UrlSession::new(SessionConfiguration::ephemeral());
        assert!(run(&session.web_socket_task(url.clone())).is_ok(), "{user}");
        let (guide, events) = Guide::new();
        let session = guide.session(SessionConfiguration::ephemeral());
        assert!(run(&session.web_socket_task(url)).is_ok(), "{user}");
        assert_eq!(challenges(&events), [""; 0]);
        for request in origin.seen() {
            assert_eq!(request.target(), "/a?b");
            assert_eq!(request.field("Host"), Some(&*format!("127.0.0.1:{}", origin.port())));
        }
        assert_eq!(origin.seen().len(), 4);
    }
}

/// It is sent once; then the delegate is asked, and knows of the failure. What is no UTF-8 is not sent.
#[test]
fn a_wrong_user_of_the_address() {
    for (user, failures) in [("me:wrong@", 1), ("m%FF:secret@", 0)] {
        let origin = basic();
        let url = Url::parse(&origin.url("/").to_string().replace("://", &format!("://{user}"))).unwrap();
        let (guide, events) = Guide::new();
        let session = guide.credential(once()).session(SessionConfiguration::ephemeral());
        session.web_socket_task(url.clone()).resume();
        events.expect_to_open(&[format!("challenge basic here {failures} -")]);
        assert_eq!(origin.seen().len(), 2 + failures);
        let session = UrlSession::new(SessionConfiguration::ephemeral());
        assert_eq!(run(&session.web_socket_task(url)).unwrap_err().raw_code(), -1011);
        assert_eq!(origin.seen().len(), 3 + 2 * failures);
    }
}

/// With a colon the user of an address is none of Basic's: who may know a better one is asked.
#[test]
fn a_user_of_the_address_that_cannot_be_sent() {
    let origin = basic();
    let url = Url::parse(&origin.url("/").to_string().replace("://", "://Mu%3Afasa:unspoken@")).unwrap();
    let session = UrlSession::new(SessionConfiguration::ephemeral());
    let error = run(&session.web_socket_task(url.clone())).unwrap_err();
    assert_eq!(error.raw_code(), -1011);
    let text = format!("{error} {error:?}");
    assert!(!text.contains("fasa") && !text.contains("unspoken"), "{text}");
    let (guide, events) = Guide::new();
    let session = guide.credential(me(CredentialPersistence::None)).session(SessionConfiguration::ephemeral());
    assert!(run(&session.web_socket_task(url)).is_ok());
    assert_eq!(challenges(&events), ["challenge basic here 0 -"]);
}

/// A user without a password is no answer: the delegate is asked first.
#[test]
fn a_user_of_the_address_without_a_password() {
    let origin = basic();
    let url = Url::parse(&origin.url("/").to_string().replace("://", "://me@")).unwrap();
    let (guide, events) = Guide::new();
    let session = guide.credential(me(CredentialPersistence::None)).session(SessionConfiguration::ephemeral());
    assert!(run(&session.web_socket_task(url)).is_ok());
    assert_eq!(challenges(&events), ["challenge basic here 0 -"]);
    assert_eq!(authorizations(&origin), [None, Some(ME.to_owned())]);
}

/// What Digest has kept from a server does not go to it in clear because it is refused.
#[test]
fn a_refused_digest_is_no_reason_for_basic() {
    let origin = Origin::new(|_| {
        Answer::Keep(unauthorized(&["Digest realm=d, nonce=n, qop=auth", "Basic realm=b", "Basic realm=c"]))
    });
    let url = Url::parse(&origin.url("/").to_string().replace("://", "://me:secret@")).unwrap();
    let session = UrlSession::new(SessionConfiguration::ephemeral());
    assert_eq!(run(&session.web_socket_task(url)).unwrap_err().raw_code(), -1011);
    let sent = authorizations(&origin);
    assert!(sent.len() == 2 && sent[1].as_deref().is_some_and(|field| field.starts_with("Digest ")), "{sent:?}");
}

/// A realm in a code page has characters that are controls in Latin-1.
#[test]
fn a_realm_that_is_no_utf_8() {
    let origin = Origin::new(|request| match request.field("Authorization") {
        Some(_) => Answer::Open(String::new()),
        None => Answer::Keep(unauthorized(&["Digest realm=\"it\u{92}s\", nonce=n, qop=auth"])),
    });
    let (guide, _events) = Guide::new();
    let session = guide.credential(me(CredentialPersistence::None)).session(SessionConfiguration::ephemeral());
    assert!(run(&session.web_socket_task(origin.url("/"))).is_ok());
}

/// One that waits for its turn on the queue when the task is cancelled is not asked any more.
#[test]
fn nobody_is_asked_once_the_task_is_cancelled() {
    let origin = basic();
    let (guide, events) = Guide::new();
    let queue = OperationQueue::serial();
    queue.set_suspended(true);
    let session = guide.session_on(SessionConfiguration::ephemeral(), Some(queue.clone()));
    let task = session.web_socket_task(origin.url("/"));
    task.resume();
    eventually("the question", || queue.operation_count() > 0);
    task.cancel();
    queue.set_suspended(false);
    events.expect(&["complete -999"]);
}

/// A 401 without anything that can be answered to what goes unasked: the next task goes without it.
#[test]
fn an_unasked_answer_that_is_refused_without_a_challenge_is_forgotten() {
    let origin = Origin::new(|request| match (request.target(), request.field("Authorization")) {
        ("/r/bare", Some(_)) => Answer::Keep(unauthorized(&[])),
        (_, Some(ME)) => Answer::Open(String::new()),
        _ => Answer::Keep(unauthorized(&["Basic realm=r"])),
    });
    let (guide, events) = Guide::new();
    let session = guide.credential(me(CredentialPersistence::ForSession)).session(SessionConfiguration::ephemeral());
    let codes = ["/r/", "/r/bare", "/r/"]
        .map(|path| run(&session.web_socket_task(origin.url(path))).err().map(|error| error.raw_code()));
    assert_eq!(codes, [None, Some(-1011), None]);
    assert_eq!(challenges(&events), ["challenge basic r 0 -", "challenge basic r 0 me"]);
    let me = || Some(ME.to_owned());
    assert_eq!(authorizations(&origin), [None, me(), me(), None, me()]);
}

// What a server offers.

/// Several in one line and over several, what is malformed beside what is good, in one piece and byte for byte.
#[test]
fn lists_of_challenges() {
    let digest = |realm: &str, algorithm: &str| format!("Digest realm={realm}, nonce=n, algorithm={algorithm}");
    let table: [(&[&str], &[&str]); 9] = [
        (&["Basic realm=\"a, b\""], &["basic a, b"]),
        (&["Basic invalid", "Basic realm=\"good\"", "UNSUPPORTED realm=\"x\""], &["basic good"]),
        (&["basic realm=plain"], &["basic plain"]),
        (&["Basic realm=\"open", "Basic realm=\"good\""], &["basic good"]),
        (&["Basic realm=\"a\", Basic realm=\"b\"", "Basic realm=\"a\""], &["basic a", "basic b"]),
        (&["Foo abc==, Basic realm=\"b\", Digest realm=\"d\", nonce=\"n\""], &["digest d", "basic b"]),
        (&[",, Basic , realm=\"a\",,"], &["basic a"]),
        (
            &[
                "Basic realm=b",
                "NTLM",
                "",
                &digest("m", "MD5"),
                "Negotiate",
                &digest("s", "SHA-512-256"),
                "Bearer realm=x",
            ],
            &["session negotiate -", "session ntlm -", "digest s", "digest m", "basic b"],
        ),
        (&["Digest realm=d, nonce=n, realm=e", "Negotiate YII=, Basic realm=b"], &["session negotiate -", "basic b"]),
    ];
    for (lines, shown) in table {
        for bytewise in [false, true] {
            let answer = unauthorized(lines);
            let origin = Origin::new(move |_| match bytewise {
                true => Answer::Bytewise(answer.clone()),
                false => Answer::Keep(answer.clone()),
            });
            let (guide, events) = Guide::new();
            let session = guide
                .challenge(|_, handler| handler(RejectProtectionSpace, None))
                .session(SessionConfiguration::ephemeral());
            session.web_socket_task(origin.url("/")).resume();
            let mut expected: Vec<String> = shown
                .iter()
                .map(|shown| match shown.strip_prefix("session ") {
                    Some(shown) => format!("session challenge {shown} 0 -"),
                    None => format!("challenge {shown} 0 -"),
                })
                .collect();
            expected.push("complete -1011".to_owned());
            events.expect(&expected);
            assert_eq!(origin.seen().len(), 1);
        }
    }
}

#[test]
fn nothing_that_is_known() {
    for lines in [&["Bearer realm=\"x\", error=\"y\"", "Hoba"][..], &[], &["Basic"], &["=, Basic realm"]] {
        let answer = unauthorized(lines);
        let origin = Origin::new(move |_| Answer::Keep(answer.clone()));
        let (guide, events) = Guide::new();
        let session = guide.credential(once()).session(SessionConfiguration::ephemeral());
        let task = session.web_socket_task(origin.url("/"));
        task.resume();
        events.expect(&["complete -1011"]);
        let response = task.error().unwrap().response().cloned().unwrap();
        assert_eq!(response.status_code(), 401);
        let fields = response.header_fields().filter(|(name, _)| *name == "WWW-Authenticate").count();
        assert_eq!(fields, lines.len());
    }
}

/// No proxy is there that it could come from: RFC 9110 §15.5.8.
#[test]
fn a_407_is_a_refusal() {
    let origin = Origin::new(|_| {
        let lines = "Proxy-Authenticate: Basic realm=\"here\"\r\nWWW-Authenticate: Basic realm=\"here\"\r\n";
        Answer::Keep(head("407 Proxy Authentication Required", lines))
    });
    let space = space(&origin, "here", AuthenticationMethod::HttpBasic);
    let (guide, events) = Guide::new();
    let session = guide.credential(once()).session(stored(&space, me(CredentialPersistence::ForSession)));
    let url = Url::parse(&origin.url("/").to_string().replace("://", "://me:secret@")).unwrap();
    let task = session.web_socket_task(url);
    task.resume();
    events.expect(&["complete -1011"]);
    assert_eq!(task.response().unwrap().status_code(), 407);
    assert_eq!(authorizations(&origin), [None]);
}

// Who is asked.

/// Has the method of connections and no other.
struct ConnectionLevel(Guide);

impl SessionDelegate for ConnectionLevel {
    fn did_receive_challenge(
        &self,
        session: &UrlSession,
        challenge: &AuthenticationChallenge,
        handler: ChallengeHandler,
    ) {
        self.0.did_receive_challenge(session, challenge, handler);
    }
}

impl TaskDelegate for ConnectionLevel {}
impl WebSocketDelegate for ConnectionLevel {}

/// Has the method of tasks and no other.
struct TaskLevel(Guide);

impl SessionDelegate for TaskLevel {}

impl TaskDelegate for TaskLevel {
    fn task_did_receive_challenge(
        &self,
        session: &UrlSession,
        task: &SessionTask,
        challenge: &AuthenticationChallenge,
        handler: ChallengeHandler,
    ) {
        self.0.task_did_receive_challenge(session, task, challenge, handler);
    }
}

impl WebSocketDelegate for TaskLevel {}

fn session_of(delegate: impl WebSocketDelegate) -> UrlSession {
    UrlSession::with_delegate(SessionConfiguration::ephemeral(), Some(Arc::new(delegate)), None)
}

/// Opens for [`ME`], and offers more than it takes.
fn connection_methods() -> Origin {
    Origin::new(|request| match request.field("Authorization") {
        Some(ME) => Answer::Open(String::new()),
        _ => Answer::Keep(unauthorized(&["Negotiate", "NTLM", HERE])),
    })
}

const ALL_THREE: [&str; 3] =
    ["session challenge negotiate - 0 -", "session challenge ntlm - 0 -", "challenge basic here 0 -"];

/// Whatever is answered to NTLM and Negotiate, but for a cancel or no credential: they are passed over.
#[test]
fn ntlm_and_negotiate_are_shown_and_passed_over() {
    for disposition in [PerformDefaultHandling, UseCredential, RejectProtectionSpace] {
        let origin = connection_methods();
        let (guide, events) = Guide::new();
        let session = guide
            .challenge(move |challenge, handler| match challenge.protection_space().authentication_method() {
                AuthenticationMethod::HttpBasic => handler(UseCredential, Some(once())),
                _ => handler(disposition, Some(once())),
            })
            .session(SessionConfiguration::ephemeral());
        session.web_socket_task(origin.url("/")).resume();
        events.expect_to_open(&ALL_THREE);
        assert_eq!(origin.seen().len(), 2);
    }
    for (disposition, code) in [(CancelAuthenticationChallenge, -999), (UseCredential, -1011)] {
        let origin = connection_methods();
        let (guide, events) = Guide::new();
        let session =
            guide.challenge(move |_, handler| handler(disposition, None)).session(SessionConfiguration::ephemeral());
        session.web_socket_task(origin.url("/")).resume();
        events.expect(&[ALL_THREE[0].to_owned(), format!("complete {code}")]);
    }
}

#[test]
fn a_session_without_the_method_for_connections() {
    let origin = connection_methods();
    let (guide, events) = Guide::new();
    let session = session_of(TaskLevel(guide.credential(once())));
    for _ in 0..2 {
        assert!(run(&session.web_socket_task(origin.url("/"))).is_ok());
    }
    let once = ["challenge negotiate - 0 -", "challenge ntlm - 0 -", "challenge basic here 0 -"];
    assert_eq!(challenges(&events), [once, once].concat());
}

/// The session's method for connections comes first, then the task's own delegate, then the session's for tasks.
#[test]
fn connections_ask_the_session_before_the_task() {
    let origin = connection_methods();
    let own = |session: UrlSession| {
        let (guide, events) = Guide::new();
        let task = session.web_socket_task(origin.url("/"));
        task.set_delegate(Some(Arc::new(guide.credential(once()))));
        assert!(run(&task).is_ok());
        challenges(&events)
    };
    let (guide, events) = Guide::new();
    assert_eq!(own(guide.session(SessionConfiguration::ephemeral())), ["challenge basic here 0 -"]);
    assert_eq!(challenges(&events), ALL_THREE[..2]);

    let (guide, events) = Guide::new();
    let of_the_task = ["challenge negotiate - 0 -", "challenge ntlm - 0 -", "challenge basic here 0 -"];
    assert_eq!(own(session_of(TaskLevel(guide))), of_the_task);
    assert_eq!(challenges(&events), [""; 0]);
}

#[test]
fn basic_and_digest_never_ask_the_method_for_connections() {
    for challenge in [HERE, "Digest realm=\"here\", nonce=\"n\""] {
        let origin = Origin::new(move |_| Answer::Keep(unauthorized(&[challenge])));
        let (guide, events) = Guide::new();
        let session = session_of(ConnectionLevel(guide.credential(once())));
        assert_eq!(run(&session.web_socket_task(origin.url("/"))).unwrap_err().raw_code(), -1011);
        assert_eq!(challenges(&events), [""; 0]);
        assert_eq!(origin.seen().len(), 1);
    }
}

#[test]
fn the_tasks_own_delegate_comes_first() {
    let origin = basic();
    // It has the method…
    let (guide, session_events) = Guide::new();
    let session = guide.session(SessionConfiguration::ephemeral());
    let (own, own_events) = Guide::new();
    let task = session.web_socket_task(origin.url("/"));
    task.set_delegate(Some(Arc::new(own.credential(once()))));
    assert!(run(&task).is_ok());
    assert_eq!(challenges(&own_events), ["challenge basic here 0 -"]);
    assert_eq!(challenges(&session_events), [""; 0]);
    // …or lacks it…
    for lacking in [Some(Arc::new(ConnectionLevel(Guide::new().0)) as Arc<dyn WebSocketDelegate>), None] {
        let (guide, session_events) = Guide::new();
        let session = guide.credential(once()).session(SessionConfiguration::ephemeral());
        let task = session.web_socket_task(origin.url("/"));
        task.set_delegate(lacking);
        assert!(run(&task).is_ok());
        assert_eq!(challenges(&session_events), ["challenge basic here 0 -"]);
    }
    // …or drops the handler.
    let (guide, session_events) = Guide::new();
    let session = guide.credential(once()).session(SessionConfiguration::ephemeral());
    let (own, own_events) = Guide::new();
    let task = session.web_socket_task(origin.url("/"));
    task.set_delegate(Some(Arc::new(own.challenge(|_, handler| drop(handler)))));
    assert!(run(&task).is_ok());
    assert_eq!(challenges(&own_events), ["challenge basic here 0 -"]);
    assert_eq!(challenges(&session_events), ["challenge basic here 0 -"]);
    // A session without a delegate: the task's own is enough.
    let session = UrlSession::new(SessionConfiguration::ephemeral());
    let (own, _events) = Guide::new();
    let task = session.web_socket_task(origin.url("/"));
    task.set_delegate(Some(Arc::new(own.credential(once()))));
    assert!(run(&task).is_ok());
}

/// Neither has the method: as without any delegate.
#[test]
fn delegates_that_lack_the_method() {
    let origin = basic();
    let (session, _recorder, _events) = recorded_session();
    for delegate in [None, Some(Arc::new(ConnectionLevel(Guide::new().0)) as Arc<dyn WebSocketDelegate>)] {
        let task = session.web_socket_task(origin.url("/"));
        task.set_delegate(delegate);
        assert_eq!(run(&task).unwrap_err().raw_code(), -1011);
    }
    assert_eq!(origin.seen().len(), 2);
}

// What the delegate sees.

#[test]
fn what_a_challenge_tells() {
    for secure in [false, true] {
        let answer = |request: &Request| match request.number {
            3 => Answer::Open(String::new()),
            number => Answer::Keep(head(
                "401 Unauthorized",
                &format!("WWW-Authenticate: Digest realm=\"d\", nonce=\"{number}\"\r\nX-Number: {number}\r\n"),
            )),
        };
        let origin = if secure { Origin::secure(Arc::clone(&SECURE), answer) } else { Origin::new(answer) };
        let shown: Kept<AuthenticationChallenge> = Kept::default();
        let keeps = shown.clone();
        let (guide, _events) = Guide::new();
        let session = guide
            .challenge(move |challenge, handler| {
                keeps.push(challenge.clone());
                handler(UseCredential, Some(once()));
            })
            .session(configuration());
        let task = session.web_socket_task(origin.url_of("localhost", "/a"));
        assert!(run(&task).is_ok());
        let shown = shown.take();
        assert_eq!(shown.len(), 3);
        for (number, challenge) in shown.iter().enumerate() {
            assert_eq!(challenge.previous_failure_count(), number);
            assert_eq!(challenge.proposed_credential(), None);
            assert!(challenge.error().is_none());
            let response = challenge.failure_response().unwrap();
            assert_eq!((response.status_code(), response.url()), (401, &origin.url_of("localhost", "/a")));
            assert_eq!(response.value("x-number"), Some(number.to_string()));
            let space = challenge.protection_space();
            assert_eq!((space.host(), space.port()), ("localhost", origin.port()));
            assert_eq!(space.protocol(), Some(if secure { "https" } else { "http" }));
            assert_eq!((space.realm(), space.is_proxy()), (Some("d"), false));
            assert_eq!(space.authentication_method(), AuthenticationMethod::HttpDigest);
            assert!(space.receives_credential_securely());
        }
    }
    // Basic shows the password to everybody on the way, unless that is inside TLS.
    for secure in [false, true] {
        let origin = if secure { Origin::secure(Arc::clone(&SECURE), basic_answer) } else { basic() };
        let (guide, events) = Guide::new();
        let recorder = Arc::clone(&guide.recorder);
        let session = guide
            .challenge(move |challenge, handler| {
                recorder.note(format!("securely {}", challenge.protection_space().receives_credential_securely()));
                handler(UseCredential, Some(once()));
            })
            .session(configuration());
        session.web_socket_task(origin.url("/")).resume();
        events.expect_to_open(&["challenge basic here 0 -".to_owned(), format!("securely {secure}")]);
        assert_eq!(origin.connections(), 1);
    }
}

/// A server that wants the counts in their order refuses one that was overtaken, and does not call the nonce stale. What was
/// sent unasked has a second try before anybody is asked; a password that has changed meanwhile has no third.
#[test]
fn an_unasked_digest_is_tried_with_a_new_nonce() {
    let challenge =
        |nonce: &str| Answer::Keep(unauthorized(&[&format!("Digest realm=\"here\", nonce=\"{nonce}\", qop=\"auth\"")]));
    for (third, fourth, asked) in [
        (Answer::Open(String::new()), None, vec![]),
        (challenge("c"), Some(Answer::Open(String::new())), vec!["challenge digest here 0 -"]),
    ] {
        let opens = || Answer::Open(String::new());
        let mut answers = vec![challenge("a"), opens(), challenge("b"), third];
        answers.extend(fourth);
        let count = answers.len();
        let origin = Origin::script(answers);
        let (guide, events) = Guide::new();
        let session =
            guide.credential(me(CredentialPersistence::ForSession)).session(SessionConfiguration::ephemeral());
        session.web_socket_task(origin.url("/a")).resume();
        events.expect_to_open(&["challenge digest here 0 -"]);
        session.web_socket_task(origin.url("/a")).resume();
        for question in asked {
            assert_eq!(events.next(), question);
        }
        assert_eq!(events.next(), "open None");
        let seen = authorizations(&origin);
        assert_eq!(seen.len(), count);
        for (sent, nonce) in seen[1..].iter().zip(["a", "a", "b", "c"]) {
            let sent = sent.as_deref().unwrap();
            assert!(sent.contains(&format!("nonce=\"{nonce}\"")), "{sent}");
        }
    }
}

#[test]
fn wrong_credentials_end_some_time() {
    let origin = Origin::new(|_| Answer::Keep(unauthorized(&["Digest realm=\"d\", nonce=\"n\"", "Basic realm=\"b\""])));
    let (guide, events) = Guide::new();
    let session = guide.credential(once()).session(SessionConfiguration::ephemeral());
    let task = session.web_socket_task(origin.url("/"));
    task.resume();
    events.wait_for("complete -1011");
    let mut expected: Vec<_> = (0..=20).map(|failures| format!("challenge digest d {failures} -")).collect();
    expected.push("complete -1011".to_owned());
    assert_eq!(events.log(), expected);
    assert_eq!(origin.seen().len(), 21);
    assert!(task.error().unwrap().reason().contains("20"));
}

/// The answers of the whole task count, wherever they went.
#[test]
fn wrong_credentials_end_some_time_between_two_servers() {
    let ports: Arc<[OnceLock<u16>; 2]> = Arc::default();
    let origins = [0, 1].map(|own| {
        let ports = Arc::clone(&ports);
        Origin::new(move |request| match request.field("Authorization") {
            Some(_) => Answer::Keep(redirect(302, &format!("ws://127.0.0.1:{}/", ports[1 - own].get().unwrap()))),
            None => Answer::Keep(unauthorized(&[HERE])),
        })
    });
    ports.iter().zip(&origins).for_each(|(port, origin)| port.set(origin.port()).unwrap());
    let (guide, events) = Guide::new();
    let session = guide.credential(once()).session(SessionConfiguration::ephemeral());
    session.web_socket_task(origins[0].url("/")).resume();
    assert_eq!(events.wait_for("complete"), "complete -1011");
    let answers = origins.iter().flat_map(authorizations).flatten().count();
    assert_eq!(answers, 20);
}

// What the delegate answers.

#[test]
fn the_four_dispositions() {
    let wrong = || UrlCredential::new("me", "wrong", CredentialPersistence::ForSession);
    // What is answered, whether there is a stored credential, what comes of it, what was sent.
    let table = [
        (UseCredential, Some(once()), false, "open None", vec![ME]),
        (UseCredential, Some(wrong()), true, "complete -1011", vec!["Basic bWU6d3Jvbmc="; 20]),
        (UseCredential, None, true, "complete -1011", vec![]),
        (PerformDefaultHandling, None, true, "open None", vec![ME]),
        (PerformDefaultHandling, Some(wrong()), true, "open None", vec![ME]),
        (PerformDefaultHandling, Some(once()), false, "complete -1011", vec![]),
        (CancelAuthenticationChallenge, Some(once()), true, "complete -999", vec![]),
        (RejectProtectionSpace, Some(once()), true, "complete -1011", vec![]),
    ];
    for (disposition, credential, is_stored, end, sent) in table {
        let origin = basic();
        let space = space(&origin, "here", AuthenticationMethod::HttpBasic);
        let configuration = match is_stored {
            true => stored(&space, me(CredentialPersistence::ForSession)),
            false => configuration(),
        };
        let (guide, events) = Guide::new();
        let given = credential.clone();
        let session = guide.challenge(move |_, handler| handler(disposition, given.clone())).session(configuration);
        let task = session.web_socket_task(origin.url("/"));
        task.resume();
        let proposed = if is_stored { "me" } else { "-" };
        assert_eq!(events.next(), format!("challenge basic here 0 {proposed}"));
        match end.strip_prefix("complete") {
            Some(_) => events.wait_for("complete"),
            None => events.next(),
        };
        assert_eq!(events.log().last().unwrap(), end, "{disposition:?} {credential:?}");
        let carried: Vec<_> = authorizations(&origin).into_iter().flatten().collect();
        assert_eq!(carried, sent, "{disposition:?} {credential:?}");
        // The 401 is there to see, whatever was made of it.
        if let Some(error) = task.error() {
            assert_eq!(error.response().unwrap().status_code(), 401);
            assert_eq!(task.response().unwrap().status_code(), 401);
        }
    }
}

/// What is rejected is not shown again, and the next offer has its turn; of the last nothing is left.
#[test]
fn rejected_spaces() {
    let origin = Origin::new(|request| match request.field("Authorization") {
        Some(ME) => Answer::Open(String::new()),
        _ => Answer::Keep(unauthorized(&["Digest realm=\"d\", nonce=\"n\"", "Basic realm=\"a\"", HERE])),
    });
    let (guide, events) = Guide::new();
    let session = guide
        .challenge(|challenge, handler| {
            let password = ["wrong", "secret"][challenge.previous_failure_count()];
            match challenge.protection_space().realm() {
                Some("here") => {
                    let credential = UrlCredential::new("me", password, CredentialPersistence::None);
                    handler(UseCredential, Some(credential));
                }
                _ => handler(RejectProtectionSpace, None),
            }
        })
        .session(SessionConfiguration::ephemeral());
    session.web_socket_task(origin.url("/")).resume();
    events.expect_to_open(&[
        "challenge digest d 0 -",
        "challenge basic a 0 -",
        "challenge basic here 0 -",
        "challenge basic here 1 -",
    ]);
    // Another task is asked anew.
    session.web_socket_task(origin.url("/")).resume();
    assert_eq!(events.next(), "challenge digest d 0 -");
}

/// The default of one way is nothing; another has a credential in the storage.
#[test]
fn default_handling_goes_through_the_offers() {
    let origin = Origin::new(|request| match request.field("Authorization") {
        Some(ME) => Answer::Open(String::new()),
        _ => Answer::Keep(unauthorized(&["Digest realm=\"d\", nonce=\"n\"", "Negotiate", HERE])),
    });
    let space = space(&origin, "here", AuthenticationMethod::HttpBasic);
    let (guide, events) = Guide::new();
    let session = guide.session(stored(&space, me(CredentialPersistence::ForSession)));
    session.web_socket_task(origin.url("/")).resume();
    events.expect_to_open(&["session challenge negotiate - 0 -", "challenge digest d 0 -"]);
    // Without a delegate likewise, and a space of Negotiate has none.
    let configuration = stored(&space, me(CredentialPersistence::ForSession));
    let negotiate =
        UrlProtectionSpace::new("127.0.0.1", origin.port(), Some("ws"), None, AuthenticationMethod::Negotiate);
    let storage = configuration.url_credential_storage.as_ref().unwrap();
    storage.set(me(CredentialPersistence::ForSession), &negotiate);
    assert!(run(&UrlSession::new(configuration.clone()).web_socket_task(origin.url("/"))).is_ok());
    assert_eq!(authorizations(&origin), [None, Some(ME.to_owned()), None, Some(ME.to_owned())]);
    let (guide, events) = Guide::new();
    guide.session(configuration).web_socket_task(origin.url("/")).resume();
    events.expect_to_open(&["session challenge negotiate - 0 -", "challenge digest d 0 -"]);
}

// When it answers.

/// A delegate that keeps its handlers.
fn keeping(configuration: SessionConfiguration) -> (UrlSession, Events, Kept<ChallengeHandler>) {
    let (guide, events) = Guide::new();
    let kept: Kept<ChallengeHandler> = Kept::default();
    let keeps = kept.clone();
    let session = guide.challenge(move |_, handler| keeps.push(handler)).session(configuration);
    (session, events, kept)
}

#[test]
fn an_answer_from_another_thread() {
    let origin = basic();
    let (session, events, kept) = keeping(SessionConfiguration::ephemeral());
    session.web_socket_task(origin.url("/")).resume();
    events.wait_for("challenge");
    let handler = kept.wait();
    thread::spawn(move || handler(UseCredential, Some(once()))).join().unwrap();
    events.expect_to_open(&["challenge basic here 0 -"]);
}

/// No clock of the way runs meanwhile.
#[test]
fn a_handler_that_is_kept() {
    let origin = basic();
    let mut configuration = SessionConfiguration::ephemeral();
    configuration.timeout_interval_for_request = Duration::from_secs(2);
    let (session, events, kept) = keeping(configuration);
    let task = session.web_socket_task(origin.url("/"));
    task.resume();
    events.wait_for("challenge");
    events.expect_silence(Duration::from_millis(2300));
    assert_eq!((task.state(), origin.seen().len()), (TaskState::Running, 1));
    kept.wait()(UseCredential, Some(once()));
    events.expect_to_open(&["challenge basic here 0 -"]);
}

/// The clock of the request runs anew for the answer.
#[test]
fn a_server_that_does_not_answer_the_answer() {
    let origin = Origin::new(|request| match request.field("Authorization") {
        Some(_) => Answer::Keep(String::new()),
        None => Answer::Keep(unauthorized(&[HERE])),
    });
    let mut configuration = SessionConfiguration::ephemeral();
    configuration.timeout_interval_for_request = Duration::from_secs(2);
    let (guide, events) = Guide::new();
    let session = guide.credential(once()).session(configuration);
    session.web_socket_task(origin.url("/")).resume();
    events.expect(&["challenge basic here 0 -", "complete -1001"]);
    assert_eq!((origin.seen().len(), origin.connections()), (2, 1));
}

/// But for that of the whole task.
#[test]
fn a_handler_that_is_kept_for_ever() {
    let origin = basic();
    let mut configuration = SessionConfiguration::ephemeral();
    configuration.timeout_interval_for_resource = Duration::from_secs(2);
    let (session, events, kept) = keeping(configuration);
    let task = session.web_socket_task(origin.url("/"));
    task.resume();
    assert_eq!(events.wait_for("complete"), "complete -1001");
    kept.wait()(UseCredential, Some(once()));
    events.expect_silence(MOMENT);
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn a_handler_that_is_dropped_has_no_opinion() {
    let origin = basic();
    let space = space(&origin, "here", AuthenticationMethod::HttpBasic);
    let (session, events, kept) = keeping(stored(&space, me(CredentialPersistence::ForSession)));
    session.web_socket_task(origin.url("/")).resume();
    events.wait_for("challenge");
    assert_eq!(origin.seen().len(), 1);
    drop(kept.wait());
    events.expect_to_open(&["challenge basic here 0 me"]);
    // With nothing stored that is the end.
    let origin = basic();
    let (session, events, kept) = keeping(SessionConfiguration::ephemeral());
    session.web_socket_task(origin.url("/")).resume();
    events.wait_for("challenge");
    drop(kept.wait());
    events.expect(&["challenge basic here 0 -", "complete -1011"]);
}

/// A question that is passed on or answered late says nothing of the next one.
#[test]
fn an_answer_to_an_earlier_question() {
    let origin = basic();
    let (session, events, kept) = keeping(SessionConfiguration::ephemeral());
    let task = session.web_socket_task(origin.url("/"));
    task.resume();
    events.wait_for("challenge");
    kept.wait()(UseCredential, Some(UrlCredential::new("me", "wrong", CredentialPersistence::None)));
    events.wait_for("challenge basic here 1");
    let second = kept.wait();
    task.cancel();
    events.wait_for("complete -999");
    second(UseCredential, Some(once()));
    events.expect_silence(MOMENT);
    assert_eq!(origin.seen().len(), 2);
}

#[test]
fn panics_end_in_the_callback() {
    // Before the answer: as if the handler had been dropped.
    let origin = basic();
    let space = space(&origin, "here", AuthenticationMethod::HttpBasic);
    let (guide, events) = Guide::new();
    let session = guide
        .challenge(|_, _| panic!("a delegate's own affair"))
        .session(stored(&space, me(CredentialPersistence::ForSession)));
    session.web_socket_task(origin.url("/")).resume();
    events.expect_to_open(&["challenge basic here 0 me"]);
    // After it: the answer counts.
    let origin = basic();
    let (guide, events) = Guide::new();
    let session = guide
        .challenge(|_, handler| {
            handler(UseCredential, Some(once()));
            panic!("a delegate's own affair");
        })
        .session(SessionConfiguration::ephemeral());
    session.web_socket_task(origin.url("/")).resume();
    events.expect_to_open(&["challenge basic here 0 -"]);
}

#[test]
fn a_cancel_while_the_delegate_is_asked() {
    let origin = basic();
    let (session, events, kept) = keeping(SessionConfiguration::ephemeral());
    let task = session.web_socket_task(origin.url("/"));
    task.resume();
    events.wait_for("challenge");
    task.cancel();
    events.expect(&["challenge basic here 0 -", "complete -999"]);
    assert_eq!(task.response().unwrap().status_code(), 401);
    kept.wait()(UseCredential, Some(once()));
    events.expect_silence(MOMENT);
    assert_eq!(origin.seen().len(), 1);
}

/// After the end nobody else is asked.
#[test]
fn a_handler_that_is_dropped_after_the_end() {
    let origin = basic();
    let (guide, session_events) = Guide::new();
    let session = guide.credential(once()).session(SessionConfiguration::ephemeral());
    let (own, own_events) = Guide::new();
    let kept: Kept<ChallengeHandler> = Kept::default();
    let keeps = kept.clone();
    let task = session.web_socket_task(origin.url("/"));
    task.set_delegate(Some(Arc::new(own.challenge(move |_, handler| keeps.push(handler)))));
    task.resume();
    let handler = kept.wait();
    task.cancel();
    own_events.expect(&["challenge basic here 0 -", "complete -999"]);
    drop(handler);
    session_events.expect_silence(MOMENT);
}

/// Inside the callback, before and after the answer.
#[test]
fn a_cancel_inside_the_question() {
    for before in [true, false] {
        let origin = basic();
        let (guide, events) = Guide::new();
        let (sender, receiver) = mpsc::channel::<urlsession::WebSocketTask>();
        let receiver = std::sync::Mutex::new(receiver);
        let session = guide
            .challenge(move |_, handler| {
                let task = receiver.lock().unwrap().recv_timeout(PATIENCE).unwrap();
                if before {
                    task.cancel();
                }
                handler(UseCredential, Some(once()));
                task.cancel();
            })
            .session(SessionConfiguration::ephemeral());
        let task = session.web_socket_task(origin.url("/"));
        sender.send(task.clone()).unwrap();
        task.resume();
        events.wait_for("complete -999");
        let mut log = events.log();
        if !before {
            // The answer may have been quicker.
            log.retain(|event| event != "open None");
        }
        assert_eq!(log, ["challenge basic here 0 -", "complete -999"]);
        assert!(origin.seen().len() <= if before { 1 } else { 2 });
    }
}

#[test]
fn a_close_while_the_delegate_is_asked() {
    // Nothing waits to be sent: the task ends at once.
    let origin = basic();
    let (session, events, kept) = keeping(SessionConfiguration::ephemeral());
    let task = session.web_socket_task(origin.url("/"));
    task.resume();
    events.wait_for("challenge");
    task.cancel_with(CloseCode::GOING_AWAY, Some(b"bye"));
    events.expect(&["challenge basic here 0 -", "close 1001 Some(\"bye\")", "complete None"]);
    kept.wait()(UseCredential, Some(once()));
    events.expect_silence(MOMENT);
    // A message waits: it goes out first, where the delegate answers in time.
    let origin = basic();
    let (guide, events) = Guide::new();
    let recorder = Arc::clone(&guide.recorder);
    let kept: Kept<ChallengeHandler> = Kept::default();
    let keeps = kept.clone();
    let session = guide.challenge(move |_, handler| keeps.push(handler)).session(SessionConfiguration::ephemeral());
    let task = session.web_socket_task(origin.url("/"));
    task.send("last words", recorder.handler("send"));
    task.resume();
    events.wait_for("challenge");
    task.cancel_with(CloseCode::GOING_AWAY, None);
    kept.wait()(UseCredential, Some(once()));
    events.wait_for("complete None");
    assert!(events.log().contains(&"send ok".to_owned()), "{:?}", events.log());
    assert!(events.log().contains(&"close 1001 None".to_owned()), "{:?}", events.log());
    // And if it does not, then not.
    let mut configuration = SessionConfiguration::ephemeral();
    configuration.web_socket.close_timeout = Duration::from_millis(50);
    let origin = basic();
    let (session, events, kept) = keeping(configuration);
    let task = session.web_socket_task(origin.url("/"));
    task.send("last words", |_| {});
    task.resume();
    events.wait_for("challenge");
    task.cancel_with(CloseCode::GOING_AWAY, None);
    events.expect(&["challenge basic here 0 -", "close 1001 None", "complete None"]);
    drop(kept.wait());
    events.expect_silence(MOMENT);
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn a_suspend_while_the_delegate_is_asked() {
    let origin = basic();
    let (session, events, kept) = keeping(SessionConfiguration::ephemeral());
    let task = session.web_socket_task(origin.url("/"));
    task.resume();
    events.wait_for("challenge");
    task.suspend();
    kept.wait()(UseCredential, Some(once()));
    events.expect_silence(MOMENT);
    assert_eq!(origin.seen().len(), 1);
    task.resume();
    events.expect_to_open(&["challenge basic here 0 -"]);
}

#[test]
fn an_invalidation_while_the_delegate_is_asked() {
    let origin = basic();
    let (session, events, kept) = keeping(SessionConfiguration::ephemeral());
    session.web_socket_task(origin.url("/")).resume();
    events.wait_for("challenge");
    session.invalidate_and_cancel();
    assert_eq!([events.next(), events.next()], ["complete -999", "invalid None"]);
    kept.wait()(UseCredential, Some(once()));
    events.expect_silence(MOMENT);
    assert_eq!(origin.seen().len(), 1);

    let (session, events, kept) = keeping(SessionConfiguration::ephemeral());
    let task = session.web_socket_task(origin.url("/"));
    task.resume();
    events.wait_for("challenge");
    session.finish_tasks_and_invalidate();
    events.expect_silence(MOMENT);
    kept.wait()(UseCredential, Some(once()));
    events.wait_for("open");
    task.cancel();
    assert_eq!([events.next(), events.next()], ["complete -999", "invalid None"]);
}

/// A question is a callback like any other: it comes on the queue, and one at a time.
#[test]
fn questions_come_on_the_queue() {
    let origin = basic();
    let (guide, events) = Guide::new();
    let recorder = Arc::clone(&guide.recorder);
    let queue = OperationQueue::serial();
    let session = guide
        .challenge(move |_, handler| {
            handler(UseCredential, Some(once()));
            // What the answer leads to waits until this returns.
            thread::park_timeout(MOMENT);
            recorder.note("back");
        })
        .session_on(SessionConfiguration::ephemeral(), Some(queue));
    session.web_socket_task(origin.url("/")).resume();
    events.expect_to_open(&["challenge basic here 0 -", "back"]);
}

// The connection.

/// The same connection carries the answer where the 401 leaves it, and a new one where it does not.
#[test]
fn every_framing_of_a_401() {
    let big = format!("Content-Length: 100000\r\n\r\n{}", "x".repeat(100_000));
    let table: [(&str, &str, &str, bool, usize); 17] = [
        ("no body", "1.1", "Content-Length: 0\r\n\r\n", true, 1),
        ("length", "1.1", "Content-Length: 14\r\n\r\nUnauthorized\r\n", true, 1),
        ("lengths", "1.1", "Content-Length: 4\r\nContent-Length: 4\r\n\r\nBody", true, 1),
        ("chunked", "1.1", "Transfer-Encoding: chunked\r\n\r\n4\r\nBody\r\n0\r\n\r\n", true, 1),
        ("trailer", "1.1", "Transfer-Encoding: chunked\r\n\r\n4;a=b\r\nBody\r\n0\r\nA: b\r\n\r\n", true, 1),
        ("close", "1.1", "Content-Length: 4\r\nConnection: close\r\n\r\nBody", true, 2),
        ("closed", "1.1", "Content-Length: 4\r\nConnection: Close\r\n\r\nBody", false, 2),
        ("1.0", "1.0", "Content-Length: 4\r\n\r\nBody", true, 2),
        ("until the end", "1.1", "\r\nBody", false, 2),
        ("until no end", "1.1", "\r\nBody", true, 2),
        ("closed all the same", "1.1", "Content-Length: 4\r\n\r\nBody", false, 2),
        ("cut short", "1.1", "Content-Length: 10000\r\n\r\n", false, 2),
        ("never whole", "1.1", "Content-Length: 10\r\n\r\nBody", true, 2),
        ("too long", "1.1", &big, true, 2),
        ("surplus", "1.1", "Content-Length: 4\r\n\r\nBody and soul", true, 2),
        ("broken", "1.1", "Transfer-Encoding: chunked\r\n\r\nx\r\n", true, 2),
        ("both", "1.1", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", true, 2),
    ];
    for (name, version, rest, keep, connections) in table {
        for secure in [false, true] {
            let answer = format!("HTTP/{version} 401 Unauthorized\r\nWWW-Authenticate: {HERE}\r\n{rest}");
            let answer = move |request: &Request| match request.field("Authorization") {
                Some(ME) => Answer::Open(String::new()),
                _ if keep => Answer::Keep(answer.clone()),
                _ => Answer::Close(answer.clone()),
            };
            let origin = if secure { Origin::secure(Arc::clone(&SECURE), answer) } else { Origin::new(answer) };
            let (guide, events) = Guide::new();
            let session = guide.credential(once()).session(configuration());
            session.web_socket_task(origin.url("/")).resume();
            events.expect_to_open(&["challenge basic here 0 -"]);
            assert_eq!(authorizations(&origin), [None, Some(ME.to_owned())], "{name} {secure}");
            assert_eq!(origin.connections(), connections, "{name} {secure}");
        }
    }
}

/// The refusal that stands has the body, as far as it is kept.
#[test]
fn the_body_of_a_401_that_stands() {
    let answer = format!("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {HERE}\r\nContent-Length: 4\r\n\r\nBody");
    let origin = Origin::new(move |_| Answer::Bytewise(answer.clone()));
    let (guide, events) = Guide::new();
    let session = guide.session(SessionConfiguration::ephemeral());
    let task = session.web_socket_task(origin.url("/"));
    task.resume();
    events.expect(&["challenge basic here 0 -", "complete -1011"]);
    assert_eq!(task.error().unwrap().response().unwrap().body(), b"Body");
}

/// The server has closed the connection that it kept, and the answer was already on its way: RFC 9112 §9.3.1. Once.
#[test]
fn a_server_that_is_impatient() {
    for secure in [false, true] {
        for (patience, end) in [(2, "open"), (3, "complete -1005")] {
            let answer = move |request: &Request| match request.number {
                0 => Answer::Keep(unauthorized(&[HERE])),
                number if number < patience => Answer::Nothing,
                _ => Answer::Open(String::new()),
            };
            let origin = if secure { Origin::secure(Arc::clone(&SECURE), answer) } else { Origin::new(answer) };
            let (guide, events) = Guide::new();
            let session = guide.credential(once()).session(configuration());
            session.web_socket_task(origin.url("/")).resume();
            events.wait_for(end);
            assert_eq!(events.log().len(), 2, "{:?}", events.log());
            assert_eq!(authorizations(&origin), [None, Some(ME.to_owned()), Some(ME.to_owned())]);
            assert_eq!(origin.connections(), 2);
        }
    }
}

/// The server closes while the delegate thinks.
#[test]
fn a_connection_that_ends_during_the_question() {
    let origin = Origin::new(|request| match request.field("Authorization") {
        Some(ME) => Answer::Open(String::new()),
        _ => Answer::Close(unauthorized(&[HERE])),
    });
    let (session, events, kept) = keeping(SessionConfiguration::ephemeral());
    session.web_socket_task(origin.url("/")).resume();
    events.wait_for("challenge");
    events.expect_silence(MOMENT);
    kept.wait()(UseCredential, Some(once()));
    events.expect_to_open(&["challenge basic here 0 -"]);
    assert_eq!(origin.connections(), 2);
}

/// The server closes at the very moment of the answer, which comes on another thread than the end of the connection.
#[test]
fn a_connection_that_ends_with_the_question() {
    let answer = format!("HTTP/1.0 401 Unauthorized\r\nWWW-Authenticate: {HERE}\r\nContent-Length: 9\r\n\r\n");
    let origin = Origin::new(move |_| Answer::Close(answer.clone()));
    let (guide, events) = Guide::new();
    let answers = |handler: ChallengeHandler| move || handler(UseCredential, Some(once()));
    let session = guide
        .challenge(move |_, handler| drop(thread::spawn(answers(handler))))
        .session(SessionConfiguration::ephemeral());
    for round in 1..=20 {
        session.web_socket_task(origin.url("/")).resume();
        assert_eq!(events.wait_for("complete"), "complete -1011");
        assert_eq!(origin.seen().len(), 21 * round);
    }
}

#[test]
fn cookies_of_a_401_go_with_the_answer() {
    let origin = Origin::new(|request| match request.field("Authorization") {
        Some(ME) => Answer::Open(String::new()),
        _ => {
            let lines = format!("WWW-Authenticate: {HERE}\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d; Path=/other\r\n");
            Answer::Keep(head("401 Unauthorized", &lines))
        }
    });
    let (guide, events) = Guide::new();
    let session = guide.credential(once()).session(SessionConfiguration::ephemeral());
    session.web_socket_task(origin.url("/")).resume();
    events.expect_to_open(&["challenge basic here 0 -"]);
    let cookies: Vec<_> = origin.seen().iter().map(|request| request.field("Cookie").map(str::to_owned)).collect();
    assert_eq!(cookies, [None, Some("a=b".to_owned())]);
}

// With redirects.

#[test]
fn a_challenge_behind_a_redirect() {
    let origin = Origin::new(|request| match request.target() {
        "/0" => Answer::Keep(redirect(302, "/1")),
        _ => basic_answer(request),
    });
    let (guide, events) = Guide::new();
    let session = guide.credential(once()).session(SessionConfiguration::ephemeral());
    let task = session.web_socket_task(origin.url("/0"));
    task.resume();
    events.expect_to_open(&["redirect 302 /1", "challenge basic here 0 -"]);
    assert_eq!(authorizations(&origin), [None, None, Some(ME.to_owned())]);
    assert_eq!(origin.connections(), 1);
    assert_eq!(task.current_request().url, origin.url("/1"));
}

/// In the same origin what was kept goes on unasked, what was not is asked for again.
#[test]
fn a_redirect_behind_an_answer() {
    for (persistence, asked, requests) in
        [(CredentialPersistence::ForSession, 1, 3), (CredentialPersistence::None, 2, 4)]
    {
        let origin = Origin::new(|request| match (request.field("Authorization"), request.target()) {
            (Some(ME), "/a/0") => Answer::Keep(redirect(302, "/a/1")),
            _ => basic_answer(request),
        });
        let (guide, events) = Guide::new();
        let session = guide.credential(me(persistence)).session(SessionConfiguration::ephemeral());
        session.web_socket_task(origin.url("/a/0")).resume();
        events.wait_for("open");
        assert_eq!(challenges(&events), vec!["challenge basic here 0 -"; asked]);
        assert_eq!(origin.seen().len(), requests);
        assert_eq!(origin.connections(), 1);
    }
}

/// What was refused before a success is forgotten with it.
#[test]
fn failures_before_a_success() {
    let origin = Origin::new(|request| match (request.field("Authorization"), request.target()) {
        (Some(ME), "/0") => Answer::Keep(redirect(302, "/1")),
        _ => basic_answer(request),
    });
    let (guide, events) = Guide::new();
    let passwords = std::sync::Mutex::new(["wrong", "secret", "secret"].into_iter());
    let session = guide
        .challenge(move |_, handler| {
            let password = passwords.lock().unwrap().next().unwrap();
            handler(UseCredential, Some(UrlCredential::new("me", password, CredentialPersistence::None)));
        })
        .session(SessionConfiguration::ephemeral());
    session.web_socket_task(origin.url("/0")).resume();
    events.wait_for("open");
    let asked = ["challenge basic here 0 -", "challenge basic here 1 -", "challenge basic here 0 -"];
    assert_eq!(challenges(&events), asked);
}

/// Another origin gets nothing: no answer, no user of the address, nothing of the storage, no field of the caller's.
#[test]
fn another_origin_gets_no_credentials() {
    for host in ["127.0.0.1", "localhost"] {
        for ways in 0..5 {
            let other = Origin::new(|request| match request.field("Authorization") {
                Some("Basic eW91Og==") => Answer::Open(String::new()),
                _ => Answer::Keep(unauthorized(&[HERE])),
            });
            let location = other.url_of(host, "/").to_string().replace("://", "://evil:word@");
            let origin = Origin::new(move |request| match request.field("Authorization") {
                Some(ME) => Answer::Keep(redirect(307, &location)),
                _ => Answer::Keep(unauthorized(&[HERE])),
            });
            let (guide, events) = Guide::new();
            let mut configuration = SessionConfiguration::ephemeral();
            if ways == 4 {
                configuration.http_additional_headers.insert("Authorization".to_owned(), ME.to_owned());
            }
            let port = other.port();
            let session = guide
                .challenge(move |challenge, handler| {
                    let is_other = challenge.protection_space().port() == port;
                    let persistence = CredentialPersistence::ForSession;
                    match is_other {
                        true => handler(UseCredential, Some(UrlCredential::new("you", "", persistence))),
                        false => handler(UseCredential, Some(me(persistence))),
                    }
                })
                .session(configuration);
            // Asked, by the address, by hand, out of the storage, by hand for all tasks.
            let mut request = UrlRequest::new(origin.url("/"));
            let mut questions = vec!["challenge basic here 0 -"];
            match ways {
                0 => questions.push("challenge basic here 0 -"),
                1 => {
                    request.url.set_username("me").unwrap();
                    request.url.set_password(Some("secret")).unwrap();
                }
                2 => request.set_value(ME, "Authorization"),
                4 => {}
                _ => {
                    let space = space(&origin, "here", AuthenticationMethod::HttpBasic);
                    let storage = session.configuration().url_credential_storage.unwrap();
                    storage.set(me(CredentialPersistence::ForSession), &space);
                    questions.insert(0, "challenge basic here 0 me");
                }
            }
            let task = session.web_socket_task(request);
            task.resume();
            events.wait_for("open");
            assert_eq!(challenges(&events), questions, "{ways}");
            assert_eq!(authorizations(&other), [None, Some("Basic eW91Og==".to_owned())], "{host} {ways}");
            let current = task.current_request().url;
            assert_eq!((current.username(), current.password()), ("", None));
        }
    }
}

/// The delegate's own request for the other origin has what the delegate puts into it.
#[test]
fn a_delegate_may_authorize_the_other_origin() {
    let other = basic();
    let location = other.url("/").to_string();
    let origin = Origin::new(move |_| Answer::Keep(redirect(302, &location)));
    let (guide, events) = Guide::new();
    let session = guide
        .redirect(|_, _, mut request, handler| {
            request.set_value(ME, "Authorization");
            handler(Some(request));
        })
        .session(SessionConfiguration::ephemeral());
    session.web_socket_task(origin.url("/")).resume();
    events.expect_to_open(&["redirect 302 /"]);
    assert_eq!(authorizations(&other), [Some(ME.to_owned())]);
}

// What is left to see.

#[test]
fn metrics_have_each_request() {
    let body = "Content-Length: 4\r\n\r\nBody";
    let refusal = format!("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {HERE}\r\nX-A: b\r\n{body}");
    let first = refusal.clone();
    let origin = Origin::new(move |request| match (request.field("Authorization"), request.target()) {
        (Some(ME), "/0") => Answer::Keep(redirect(302, "/1")),
        (Some(ME), _) => Answer::Open(String::new()),
        _ => Answer::Keep(first.clone()),
    });
    let collected: Kept<TaskMetrics> = Kept::default();
    let keeps = collected.clone();
    let (guide, events) = Guide::new();
    let session = guide
        .credential(me(CredentialPersistence::ForSession))
        .metrics(move |metrics| keeps.push(metrics.clone()))
        .session(SessionConfiguration::ephemeral());
    let mut request = UrlRequest::new(origin.url("/0"));
    request.set_value("Basic b3RoZXI6b25l", "Authorization");
    request.set_value("1", "X-Custom");
    let task = session.web_socket_task(request);
    task.resume();
    events.wait_for("open");
    task.cancel();
    events.wait_for("complete");
    let seen = origin.seen();
    let sent: Vec<_> = authorizations(&origin).into_iter().flatten().collect();
    // The caller's own; the answer; and behind the redirect the caller's once more, for it comes before what is unasked.
    assert_eq!(sent, ["Basic b3RoZXI6b25l", ME, "Basic b3RoZXI6b25l", ME]);
    let metrics = collected.take().pop().unwrap();
    assert_eq!((metrics.redirect_count, metrics.transaction_metrics.len()), (1, 4));
    let opening = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        accept_for("")
    );
    let refused = refusal.len() - "Body".len();
    let answers = [(401, refused), (302, redirect(302, "/1").len()), (401, refused), (101, opening.len())];
    for (number, transaction) in metrics.transaction_metrics.iter().enumerate() {
        let request = &seen[number];
        let (status, bytes) = answers[number];
        assert_eq!(transaction.request.url.path(), request.target());
        assert_eq!(transaction.request.value("X-Custom"), Some("1"));
        assert_eq!(transaction.request.value("Sec-WebSocket-Key"), request.field("Sec-WebSocket-Key"));
        let own = (number % 2 == 0).then_some("Basic b3RoZXI6b25l");
        assert_eq!(transaction.request.value("Authorization"), own, "{number}");
        assert_eq!(transaction.response.as_ref().unwrap().status_code(), status);
        assert_eq!(transaction.count_of_request_header_bytes_sent, request.head.len() as i64, "{number}");
        assert_eq!(transaction.count_of_response_header_bytes_received, bytes as i64, "{number}");
        assert_eq!(transaction.is_reused_connection, number > 0);
        assert_eq!(transaction.connect_start_date.is_some(), number == 0);
        assert_eq!(transaction.remote_address.map(|address| address.port()), Some(origin.port()));
        let dates = [transaction.fetch_start_date, transaction.request_start_date, transaction.response_end_date];
        assert!(dates.iter().all(Option::is_some) && dates.is_sorted(), "{dates:?}");
    }
    // Unasked: one request, which shows no password either.
    let task = session.web_socket_task(origin.url("/2"));
    task.resume();
    events.wait_for("open");
    task.cancel();
    events.wait_for("complete");
    let metrics = collected.take().pop().unwrap();
    let request = origin.seen().pop().unwrap();
    let [transaction] = &metrics.transaction_metrics[..] else { panic!("{metrics:?}") };
    assert_eq!(request.field("Authorization"), Some(ME));
    assert_eq!(transaction.request.value("Authorization"), None);
    assert_eq!(transaction.count_of_request_header_bytes_sent, request.head.len() as i64);
}

/// Nothing that can be printed holds a password, or what Basic makes of it.
#[test]
fn no_text_shows_a_secret() {
    const PASSWORD: &str = "Circle%Of Life";
    let credential = || UrlCredential::new("Mufasa", PASSWORD, CredentialPersistence::ForSession);
    let encoded = STANDARD.encode(format!("Mufasa:{PASSWORD}"));
    let basic = format!("Basic {encoded}");
    let origin = Origin::new({
        let basic = basic.clone();
        move |request| match (request.field("Authorization"), request.target()) {
            (Some(value), "/open") if value == basic => Answer::Open(String::new()),
            // The server tells it on, too.
            (Some(value), _) => Answer::Keep(head(
                "401 Unauthorized",
                &format!("WWW-Authenticate: {HERE}\r\nX-Echo: {value}\r\nSet-Cookie: a={}\r\n", &value[6..]),
            )),
            (None, _) => Answer::Keep(unauthorized(&["Digest realm=d, nonce=n, opaque=o", HERE])),
        }
    });
    let texts: Kept<String> = Kept::default();
    let (guide, events) = Guide::new();
    let (on_challenge, on_metrics) = (texts.clone(), texts.clone());
    let session = guide
        .challenge(move |challenge, handler| {
            on_challenge.push(format!("{challenge:?} {:?}", challenge.failure_response()));
            match challenge.protection_space().authentication_method() {
                AuthenticationMethod::HttpDigest => handler(RejectProtectionSpace, None),
                _ if challenge.previous_failure_count() > 1 => handler(UseCredential, None),
                _ => handler(UseCredential, Some(credential())),
            }
        })
        .metrics(move |metrics| {
            let parts = metrics.transaction_metrics.iter().map(|part| format!("{part:?} {:?}", part.request));
            on_metrics.push(format!("{metrics:?} {}", parts.collect::<String>()));
        })
        .session(SessionConfiguration::ephemeral());
    let mut with_user = origin.url("/");
    with_user.set_username("Mufasa").unwrap();
    with_user.set_password(Some(PASSWORD)).unwrap();
    let mut by_hand = UrlRequest::new(origin.url("/open"));
    by_hand.set_value(&basic, "Authorization");
    let requests = [
        UrlRequest::new(origin.url("/open")),
        UrlRequest::new(origin.url("/open")),
        UrlRequest::new(origin.url("/")),
        UrlRequest::new(with_user),
        by_hand,
    ];
    for request in requests {
        let task = session.web_socket_task(request.clone());
        texts.push(format!("{request:?} {task:?}"));
        let ended = run(&task);
        assert_eq!(ended.is_ok(), request.url.path() == "/open");
        texts.push(format!(
            "{task:?} {:?} {:?} {:?}",
            task.response(),
            task.current_request(),
            task.original_request()
        ));
        if let Err(error) = ended {
            texts.push(format!("{error} {error:?} {} {:?}", error.reason(), error.response()));
        }
        task.cancel();
        events.wait_for("complete");
    }
    let configuration = session.configuration();
    let storage = configuration.url_credential_storage.clone().unwrap();
    let all = storage.credentials_for(&space(&origin, "here", AuthenticationMethod::HttpBasic));
    assert_eq!(all["Mufasa"].password(), Some(PASSWORD));
    texts.push(format!("{session:?} {configuration:?} {storage:?} {all:?} {:?}", credential()));
    let texts = texts.take();
    assert!(texts.len() > 20);
    let in_an_address = "Circle%25Of%20Life";
    for text in texts {
        for secret in [PASSWORD, &encoded, in_an_address, &STANDARD.encode(PASSWORD), "Circle"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}
