//! Whether a server is trusted: who is asked and when, what the answers do, and that an untrusted server is told nothing. Every
//! server here decrypts what it is sent, and says what it was.

mod support;

use std::error::Error as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, mpsc};
use std::thread;
use std::time::Duration;

use rustls::{ProtocolVersion, ServerConfig, SupportedProtocolVersion};
use support::authority::{copy, forging, naming, self_signed};
use support::guide::{Guide, Kept, run};
use support::hooks::eventually;
use support::origin::{Answer, Origin, Request, head, redirect, unauthorized};
use support::tls::{Authority, BOTH, Identity, ONLY_12, ONLY_13, TRUSTED, server_with, trusted_server};
use support::{Events, PATIENCE, Recorder, recorded_session_with, recorder};
use urlsession::{
    AuthChallengeDisposition, AuthenticationChallenge, AuthenticationMethod, ChallengeHandler, CloseCode,
    CredentialPersistence, ErrorCode, ErrorStage, RootCertificates, ServerTrust, SessionConfiguration, SessionDelegate,
    SessionTask, TaskDelegate, TlsProtocolVersion, Url, UrlCredential, UrlError, UrlSession, WebSocketDelegate,
};

use AuthChallengeDisposition::{
    CancelAuthenticationChallenge, PerformDefaultHandling, RejectProtectionSpace, UseCredential,
};

/// Long enough for what must not happen to have happened.
const MOMENT: Duration = Duration::from_millis(150);

const VERSIONS: [&[&SupportedProtocolVersion]; 2] = [ONLY_12, ONLY_13];

/// The first question about a server's certificate, as it is noted.
const ASKED: &str = "session challenge trust - 0 -";

static UNKNOWN: LazyLock<Authority> = LazyLock::new(|| Authority::new("somebody else's root"));

/// Trusts [`TRUSTED`] alone, and has storages of its own.
fn configuration() -> SessionConfiguration {
    let mut configuration = SessionConfiguration::ephemeral();
    configuration.root_certificates = TRUSTED.configuration().root_certificates;
    configuration
}

fn opens(_: &Request) -> Answer {
    Answer::Open(String::new())
}

/// A server that opens for everybody who speaks to it.
fn server(config: Arc<ServerConfig>) -> Origin {
    Origin::secure(config, opens)
}

fn good(versions: &[&'static SupportedProtocolVersion]) -> Origin {
    server(trusted_server(versions))
}

fn bad(versions: &[&'static SupportedProtocolVersion]) -> Origin {
    server(server_with(versions, self_signed()))
}

fn trust_of(challenge: &AuthenticationChallenge) -> &ServerTrust {
    challenge.protection_space().server_trust().expect("the server's certificates")
}

/// "I accept this."
fn accept(challenge: &AuthenticationChallenge, handler: ChallengeHandler) {
    handler(UseCredential, Some(UrlCredential::for_trust(trust_of(challenge))));
}

/// A session whose delegate replies so.
fn asking(reply: impl Fn(&AuthenticationChallenge, ChallengeHandler) + Send + Sync + 'static) -> (UrlSession, Events) {
    let (guide, events) = Guide::new();
    (guide.trust(reply).session(configuration()), events)
}

/// A question with its handler.
type Pending = (AuthenticationChallenge, ChallengeHandler);

/// A session whose delegate keeps what it is asked for the test.
fn keeping(configuration: SessionConfiguration) -> (UrlSession, Events, Kept<Pending>) {
    let kept = Kept::<Pending>::default();
    let keep = kept.clone();
    let (guide, events) = Guide::new();
    let guide = guide.trust(move |challenge, handler| keep.push((challenge.clone(), handler)));
    (guide.session(configuration), events, kept)
}

/// The task has failed so, and no server that this origin is was told anything.
#[track_caller]
fn assert_refused(error: &UrlError, code: i32, origin: &Origin) {
    assert_eq!((error.raw_code(), error.stage()), (code, ErrorStage::Tls), "{error}");
    // Who waits until the server has seen the end of each connection knows what it saw.
    eventually("the end of the connections", || origin.ended() == origin.connections());
    origin.visits().iter().for_each(|visit| visit.assert_nothing_said());
    assert!(origin.seen().is_empty());
}

#[track_caller]
fn failure(session: &UrlSession, url: &Url) -> UrlError {
    run(&session.web_socket_task(url)).expect_err("the task fails")
}

// Who is asked, what, and when.

#[test]
fn every_connection_is_a_question() {
    for versions in VERSIONS {
        let identity = TRUSTED.with_intermediate(&["localhost", "127.0.0.1"]);
        let chain: Vec<Vec<u8>> = identity.0.iter().map(|certificate| certificate.to_vec()).collect();
        let origin = server(server_with(versions, identity));
        let port = origin.port();
        let (session, events) = asking(move |challenge, handler| {
            let space = challenge.protection_space();
            assert_eq!((space.host(), space.port(), space.protocol()), ("127.0.0.1", port, Some("https")));
            assert_eq!((space.realm(), space.is_proxy()), (None, false));
            assert_eq!(space.authentication_method(), AuthenticationMethod::ServerTrust);
            assert!(space.receives_credential_securely() && space.distinguished_names().is_none());
            assert_eq!(challenge.previous_failure_count(), 0);
            assert!(challenge.proposed_credential().is_none() && challenge.failure_response().is_none());
            assert!(challenge.error().is_none());
            let trust = trust_of(challenge);
            assert_eq!((trust.host(), trust.certificate_chain()), ("127.0.0.1", &chain[..]));
            assert!(trust.evaluate().is_ok());
            handler(PerformDefaultHandling, None);
        });
        for _ in 0..3 {
            let task = session.web_socket_task(origin.url("/"));
            run(&task).unwrap();
            task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
            events.wait_for("complete None");
        }
        let log: Vec<String> = events.log().into_iter().filter(|event| !event.starts_with("close")).collect();
        assert_eq!(log, [ASKED, "open None", "complete None"].repeat(3));
        assert_eq!(origin.connections(), 3);
    }
}

/// A redirect to another origin is another connection. One that is kept is asked about once.
#[test]
fn redirects_and_answers_to_a_401() {
    let second = good(BOTH);
    let target = second.url_of("localhost", "/there").to_string();
    let first = Origin::secure(trusted_server(BOTH), move |request| match (request.target(), request.number) {
        ("/", _) => Answer::Keep(redirect(302, "/kept")),
        ("/kept", _) => Answer::Close(redirect(302, "/anew").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")),
        _ => Answer::Keep(redirect(302, &target)),
    });
    let (guide, events) = Guide::new();
    let hosts = Kept::default();
    let seen = hosts.clone();
    let session = guide
        .trust(move |challenge, handler| {
            let space = challenge.protection_space();
            seen.push((space.host().to_owned(), space.port(), trust_of(challenge).host().to_owned()));
            handler(PerformDefaultHandling, None);
        })
        .session(configuration());
    run(&session.web_socket_task(first.url("/"))).unwrap();
    events.expect_to_open(&[ASKED, "redirect 302 /kept", "redirect 302 /anew", ASKED, "redirect 302 /there", ASKED]);
    let asked = |host: &str, port| (host.to_owned(), port, host.to_owned());
    let expected =
        [asked("127.0.0.1", first.port()), asked("127.0.0.1", first.port()), asked("localhost", second.port())];
    assert_eq!(hosts.take(), expected);
    assert_eq!((first.connections(), second.connections()), (2, 1));
}

/// A server that asks who it is on a connection that it then closes is met on another one.
#[test]
fn an_answer_on_a_new_connection() {
    let origin = Origin::secure(trusted_server(BOTH), |request| match request.field("Authorization") {
        Some(_) => opens(request),
        None => Answer::Close(unauthorized(&["Basic realm=here"])),
    });
    let (guide, events) = Guide::new();
    let session = guide
        .trust(|_, handler| handler(PerformDefaultHandling, None))
        .credential(UrlCredential::new("me", "secret", CredentialPersistence::None))
        .session(configuration());
    run(&session.web_socket_task(origin.url("/"))).unwrap();
    events.expect_to_open(&[ASKED, "challenge basic here 0 -", ASKED]);
}

/// Has the method of the session alone.
struct SessionLevel(Arc<Recorder>);

/// Has the method of tasks alone.
struct TaskLevel(Arc<Recorder>);

impl SessionDelegate for SessionLevel {
    fn did_receive_challenge(&self, _: &UrlSession, challenge: &AuthenticationChallenge, handler: ChallengeHandler) {
        self.0.note("session");
        accept(challenge, handler);
    }
}
impl TaskDelegate for SessionLevel {}
impl WebSocketDelegate for SessionLevel {}

impl SessionDelegate for TaskLevel {}
impl TaskDelegate for TaskLevel {
    fn task_did_receive_challenge(
        &self,
        _: &UrlSession,
        _: &SessionTask,
        challenge: &AuthenticationChallenge,
        handler: ChallengeHandler,
    ) {
        self.0.note("task");
        accept(challenge, handler);
    }
}
impl WebSocketDelegate for TaskLevel {}

#[test]
fn the_session_is_asked_first() {
    type Delegate = Arc<dyn WebSocketDelegate>;
    let made = |name: &str, recorder: &Arc<Recorder>| -> Option<Delegate> {
        match name {
            "session" => Some(Arc::new(SessionLevel(Arc::clone(recorder)))),
            "task" => Some(Arc::new(TaskLevel(Arc::clone(recorder)))),
            "recorder" => Some(Arc::clone(recorder) as Delegate),
            _ => None,
        }
    };
    // The session's delegate, the task's own, and whose method is called.
    let table = [
        ("session", "", "session"),
        ("task", "", "task"),
        ("session", "task", "session"),
        ("recorder", "task", "task"),
        ("", "task", "task"),
        ("task", "recorder", "task"),
        // What a task's own delegate has of the session's protocol concerns nobody.
        ("", "session", ""),
        ("recorder", "", ""),
        ("recorder", "recorder", ""),
        ("", "", ""),
    ];
    for (of_session, of_task, asked) in table {
        let origin = bad(BOTH);
        let (notes, events) = recorder();
        let session = UrlSession::with_delegate(configuration(), made(of_session, &notes), None);
        let task = session.web_socket_task(origin.url("/"));
        task.set_delegate(made(of_task, &notes));
        let outcome = run(&task).err().map(|error| error.raw_code());
        assert_eq!(outcome, if asked.is_empty() { Some(-1203) } else { None }, "{of_session}, {of_task}");
        let log: Vec<String> =
            events.log().into_iter().filter(|event| ["session", "task"].contains(&event.as_str())).collect();
        let expected: &[&str] = if asked.is_empty() { &[] } else { &[asked] };
        assert_eq!(log, expected, "{of_session}, {of_task}");
    }
}

#[test]
fn nothing_is_said_before_the_answer() {
    for versions in VERSIONS {
        for accepted in [true, false] {
            let origin = bad(versions);
            let (session, events, kept) = keeping(configuration());
            let task = session.web_socket_task(origin.url("/"));
            task.send("queued", |_| ());
            task.resume();
            events.wait_for(ASKED);
            events.expect_silence(MOMENT);
            origin.visits()[0].assert_nothing_said();
            assert_eq!((origin.connections(), task.response().is_none()), (1, true));
            // From a thread that has nothing to do with the session.
            let (challenge, handler) = kept.wait();
            let answer = thread::spawn(move || match accepted {
                true => accept(&challenge, handler),
                false => handler(PerformDefaultHandling, None),
            });
            answer.join().unwrap();
            if accepted {
                events.expect_to_open(&[ASKED]);
                assert!(origin.visits()[0].plaintext.starts_with(b"GET / HTTP/1.1\r\n"));
                assert_eq!(origin.connections(), 1);
            } else {
                events.expect(&[ASKED, "complete -1203"]);
                assert_refused(&task.error().unwrap(), -1203, &origin);
            }
        }
    }
}

// What the answers do.

#[test]
fn answers() {
    type Reply = fn(&AuthenticationChallenge, ChallengeHandler);
    let table: [(&str, Reply, Option<i32>, Option<i32>); 6] = [
        ("accept", accept, None, None),
        // A port from Swift says "go on without": no verdict of its own, so the evaluation's stands.
        ("no credential", |_, handler| handler(UseCredential, None), None, Some(-1203)),
        ("a password", |_, handler| handler(UseCredential, Some(password())), None, Some(-1203)),
        ("default", |_, handler| handler(PerformDefaultHandling, None), None, Some(-1203)),
        ("cancel", |_, handler| handler(CancelAuthenticationChallenge, None), Some(-999), Some(-999)),
        ("reject", |_, handler| handler(RejectProtectionSpace, None), Some(-1202), Some(-1203)),
    ];
    for (name, reply, of_good, of_bad) in table {
        for versions in VERSIONS {
            for (origin, expected) in [(good(versions), of_good), (bad(versions), of_bad)] {
                let (session, events) = asking(reply);
                let task = session.web_socket_task(origin.url("/"));
                let outcome = run(&task);
                assert_eq!(outcome.as_ref().err().map(UrlError::raw_code), expected, "{name}: {outcome:?}");
                let Some(code) = expected else {
                    assert_eq!(origin.connections(), 1, "{name}");
                    continue;
                };
                events.expect(&[ASKED, &format!("complete {code}")]);
                assert_eq!(task.error().unwrap().failing_url(), Some(&origin.url("/")), "{name}");
                eventually("the end of the connection", || origin.ended() == 1);
                origin.visits()[0].assert_nothing_said();
                if code == -1202 {
                    assert!(task.error().unwrap().reason().contains("delegate"), "{:?}", task.error());
                }
            }
        }
    }
}

fn password() -> UrlCredential {
    UrlCredential::new("me", "secret", CredentialPersistence::ForSession)
}

/// What was said of one server is not said of another.
#[test]
fn an_acceptance_is_of_one_chain() {
    let (first, second) = (bad(BOTH), bad(BOTH));
    let kept: Kept<ServerTrust> = Kept::default();
    let keep = kept.clone();
    let (session, _events) = asking(move |challenge, handler| {
        keep.push(trust_of(challenge).clone());
        accept(challenge, handler);
    });
    run(&session.web_socket_task(first.url("/"))).unwrap();
    let of_first = kept.wait();
    let (session, _events) =
        asking(move |_, handler| handler(UseCredential, Some(UrlCredential::for_trust(&of_first))));
    assert_refused(&failure(&session, &second.url("/")), -1203, &second);
}

/// The next in line is asked, and behind the last decides the evaluation.
#[test]
fn a_handler_that_is_dropped_has_no_opinion() {
    for (origin, expected) in [(good(BOTH), None), (bad(BOTH), Some(-1203))] {
        let (session, events) = asking(|_, handler| drop(handler));
        let outcome = run(&session.web_socket_task(origin.url("/")));
        assert_eq!(outcome.err().map(|error| error.raw_code()), expected);
        let log: Vec<String> = events.log().into_iter().filter(|event| event.contains("challenge")).collect();
        assert_eq!(log, [ASKED, "challenge trust - 0 -"]);
    }
}

/// Whoever asserts that the server is the right one, and is wrong, does not trust it.
#[test]
fn a_panic_is_no_missing_opinion() {
    let origin = good(BOTH);
    let (session, _) = asking(|_, handler| {
        let _handler = handler;
        panic!("this panic is a part of the test");
    });
    let error = run(&session.web_socket_task(origin.url("/"))).unwrap_err();
    assert_eq!(error.raw_code(), -1202, "{error}");
    origin.visits()[0].assert_nothing_said();
}

#[test]
fn a_cancel_while_the_delegate_is_asked() {
    for versions in VERSIONS {
        let origin = good(versions);
        let (session, events, kept) = keeping(configuration());
        let task = session.web_socket_task(origin.url("/"));
        task.resume();
        events.wait_for(ASKED);
        task.cancel();
        events.expect(&[ASKED, "complete -999"]);
        eventually("the end of the connection", || origin.ended() == 1);
        let (challenge, handler) = kept.wait();
        accept(&challenge, handler);
        events.expect_silence(MOMENT);
        origin.visits()[0].assert_nothing_said();
        assert_eq!(origin.connections(), 1);
    }
}

/// The request's timer stands still while the delegate thinks, and runs again afterwards. That of the whole task never stands.
#[test]
fn timers() {
    let origin = good(BOTH);
    let mut short = configuration();
    short.timeout_interval_for_request = 5 * MOMENT;
    let (session, events, kept) = keeping(short);
    session.web_socket_task(origin.url("/")).resume();
    events.wait_for(ASKED);
    events.expect_silence(7 * MOMENT);
    kept.wait().1(PerformDefaultHandling, None);
    events.expect_to_open(&[ASKED]);

    let mut short = configuration();
    short.timeout_interval_for_request = 5 * MOMENT;
    let silent_for_ever = Kept::default();
    let silent = Origin::secure(trusted_server(BOTH), move |_| {
        let (sender, go) = mpsc::channel();
        silent_for_ever.push(sender);
        Answer::Staged(String::new(), go, String::new())
    });
    let (session, events, kept) = keeping(short);
    session.web_socket_task(silent.url("/")).resume();
    events.wait_for(ASKED);
    kept.wait().1(PerformDefaultHandling, None);
    events.expect(&[ASKED, "complete -1001"]);

    let mut short = configuration();
    short.timeout_interval_for_resource = 10 * MOMENT;
    let (session, events, kept) = keeping(short);
    session.web_socket_task(origin.url("/")).resume();
    events.expect(&[ASKED, "complete -1001"]);
    kept.wait().1(PerformDefaultHandling, None);
    events.expect_silence(MOMENT);
}

// The evaluation.

/// The code of the evaluation, and a word of its reason.
type Refused = (ErrorCode, &'static str);

/// Certificates for `127.0.0.1`, and what is to be said of each.
fn certificates() -> Vec<(&'static str, Identity, Option<Refused>)> {
    use ErrorCode::{
        ServerCertificateHasBadDate as BadDate, ServerCertificateHasUnknownRoot as UnknownRoot,
        ServerCertificateNotYetValid as NotYetValid, ServerCertificateUntrusted as Untrusted,
    };
    let names: &[&str] = &["localhost", "127.0.0.1"];
    vec![
        ("good", TRUSTED.sign(names, |_| ()), None),
        ("with the intermediate", TRUSTED.with_intermediate(names), None),
        ("without the intermediate", TRUSTED.without_intermediate(names), Some((UnknownRoot, "root"))),
        ("expired", TRUSTED.expired(names), Some((BadDate, "expired"))),
        ("not yet valid", TRUSTED.not_yet_valid(names), Some((NotYetValid, "not valid before"))),
        ("another name", TRUSTED.sign(&["elsewhere.test"], |_| ()), Some((Untrusted, "elsewhere.test"))),
        ("another address", TRUSTED.sign(&["127.0.0.2", "::1"], |_| ()), Some((Untrusted, "127.0.0.1"))),
        ("an address as a name only", TRUSTED.only_common_name("127.0.0.1"), Some((Untrusted, "127.0.0.1"))),
        ("another root", UNKNOWN.sign(names, |_| ()), Some((UnknownRoot, "root"))),
        ("self-signed", self_signed(), Some((UnknownRoot, "root"))),
    ]
}

/// Each fails with its own code and says why, whether a delegate leaves it to the evaluation, asks it, or is not there.
#[test]
fn the_evaluation() {
    for (name, identity, expected) in certificates() {
        for versions in VERSIONS {
            let serving = || server(server_with(versions, copy(&identity)));
            // Nobody to ask.
            let origin = serving();
            let session = UrlSession::new(configuration());
            let outcome = run(&session.web_socket_task(origin.url("/")));
            check(name, outcome, expected, &origin);
            // Left to the evaluation.
            let origin = serving();
            let (session, events) = asking(|_, handler| handler(PerformDefaultHandling, None));
            let outcome = run(&session.web_socket_task(origin.url("/")));
            check(name, outcome, expected, &origin);
            assert_eq!(events.log()[0], ASKED, "{name}");
            // Asked for its opinion, and overruled.
            let origin = serving();
            let kept: Kept<Result<(), UrlError>> = Kept::default();
            let keep = kept.clone();
            let (session, _events) = asking(move |challenge, handler| {
                keep.push(trust_of(challenge).evaluate());
                accept(challenge, handler);
            });
            run(&session.web_socket_task(origin.url("/"))).unwrap_or_else(|error| panic!("{name}: {error}"));
            let evaluated = kept.wait();
            assert_eq!(evaluated.as_ref().err().map(UrlError::code), expected.map(|(code, _)| code), "{name}");
            if let (Err(error), Some((_, word))) = (evaluated, expected) {
                assert!(error.reason().contains(word), "{name}: {error}");
            }
        }
    }
}

#[track_caller]
fn check(name: &str, outcome: Result<(), UrlError>, expected: Option<Refused>, origin: &Origin) {
    let Some((code, word)) = expected else {
        return outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
    };
    let error = outcome.expect_err(name);
    assert_refused(&error, code.raw_code(), origin);
    assert!(error.reason().contains(word) && error.source().is_some(), "{name}: {error:?}");
    assert_eq!(error.failing_url(), Some(&origin.url("/")), "{name}");
}

/// The program's own roots in place of the session's: they alone count, and the name counts with them.
#[test]
fn anchors() {
    let names: &[&str] = &["127.0.0.1"];
    let anchors = |authority: &Authority| RootCertificates::from_pem(authority.pem.as_bytes()).unwrap();
    let table = [
        ("its own root", UNKNOWN.sign(names, |_| ()), anchors(&UNKNOWN), None),
        ("the session's root", TRUSTED.sign(names, |_| ()), anchors(&UNKNOWN), Some(-1203)),
        ("another name", UNKNOWN.sign(&["elsewhere.test"], |_| ()), anchors(&UNKNOWN), Some(-1202)),
        ("expired", UNKNOWN.expired(names), anchors(&UNKNOWN), Some(-1201)),
        ("through an intermediate", UNKNOWN.with_intermediate(names), anchors(&UNKNOWN), None),
        ("the web's", TRUSTED.sign(names, |_| ()), RootCertificates::webpki(), Some(-1203)),
    ];
    for (name, identity, anchors, expected) in table {
        let origin = server(server_with(BOTH, identity));
        let (session, _events) =
            asking(move |challenge, handler| match trust_of(challenge).evaluate_with_anchors(&anchors) {
                Ok(()) => accept(challenge, handler),
                Err(error) => {
                    assert_eq!(Some(error.raw_code()), expected, "{name}: {error}");
                    handler(CancelAuthenticationChallenge, None);
                }
            });
        let outcome = run(&session.web_socket_task(origin.url("/"))).err().map(|error| error.raw_code());
        assert_eq!(outcome, expected.map(|_| -999), "{name}");
    }
}

/// Pinning: the chain is what the server showed, and a pin on the leaf's bytes needs nothing else.
#[test]
fn a_pinned_certificate() {
    let identity = self_signed();
    let pin = identity.0[0].to_vec();
    let (right, wrong) = (server(server_with(BOTH, identity)), bad(BOTH));
    for (origin, expected) in [(&right, None), (&wrong, Some(-999))] {
        let pin = pin.clone();
        let (session, _events) =
            asking(move |challenge, handler| match trust_of(challenge).certificate_chain()[0] == pin {
                true => accept(challenge, handler),
                false => handler(CancelAuthenticationChallenge, None),
            });
        let outcome = run(&session.web_socket_task(origin.url("/"))).err().map(|error| error.raw_code());
        assert_eq!(outcome, expected);
    }
    assert!(wrong.seen().is_empty());
}

/// A trust that is kept can be asked when its connection is long gone.
#[test]
fn a_trust_outlives_its_connection() {
    let (session, events, kept) = keeping(configuration());
    let trust = {
        let origin = good(BOTH);
        let task = session.web_socket_task(origin.url("/"));
        task.resume();
        events.wait_for(ASKED);
        let (challenge, handler) = kept.wait();
        handler(CancelAuthenticationChallenge, None);
        events.wait_for("complete -999");
        trust_of(&challenge).clone()
    };
    drop(session);
    assert!(trust.evaluate().is_ok());
    assert_eq!((trust.host(), trust.certificate_chain().len()), ("127.0.0.1", 1));
    assert!(format!("{trust:?}").contains("127.0.0.1"));
}

#[test]
fn an_ipv6_address() {
    for (name, expected) in [("::1", None), ("localhost", Some(-1202))] {
        let Some(origin) = Origin::secure_v6(server_with(BOTH, TRUSTED.sign(&[name], |_| ())), opens) else { return };
        let url = origin.url("/");
        assert_eq!(url.host_str(), Some("[::1]"));
        let outcome = run(&UrlSession::new(configuration()).web_socket_task(&url)).err();
        assert_eq!(outcome.map(|error| error.raw_code()), expected);
        let (session, _events) = asking(move |challenge, handler| {
            assert_eq!((challenge.protection_space().host(), trust_of(challenge).host()), ("::1", "::1"));
            handler(PerformDefaultHandling, None);
        });
        let outcome = run(&session.web_socket_task(&url)).err();
        assert_eq!(outcome.map(|error| error.raw_code()), expected);
    }
}

/// The name of the address is the one that the server is asked for (RFC 6066 §3) and that its certificate must have.
#[test]
fn the_name_that_is_asked_for() {
    let config = naming(vec![
        ("elsewhere.test", TRUSTED.sign(&["elsewhere.test"], |_| ())),
        ("localhost", TRUSTED.sign(&["localhost"], |_| ())),
    ]);
    let origin = server(config);
    for (host, expected, name) in [("localhost", None, Some("localhost")), ("127.0.0.1", Some(-1202), None)] {
        let (session, _events) = asking(|_, handler| handler(PerformDefaultHandling, None));
        let outcome = run(&session.web_socket_task(origin.url_of(host, "/"))).err();
        assert_eq!(outcome.map(|error| error.raw_code()), expected, "{host}");
        if expected.is_none() {
            assert_eq!(origin.visits().last().unwrap().server_name.as_deref(), name);
        }
    }
    // Accepted all the same, it is told no name.
    let (session, _events) = asking(accept);
    run(&session.web_socket_task(origin.url_of("127.0.0.1", "/"))).unwrap();
    assert_eq!(origin.visits().last().unwrap().server_name, None);
}

// What no delegate can overrule.

/// Who signs with another's key has not shown that the certificate is theirs (RFC 8446 §4.4.3, RFC 5246 §7.4.3).
#[test]
fn a_forged_signature_is_refused_whatever_the_delegate_says() {
    for versions in VERSIONS {
        let (chain, _) = TRUSTED.sign(&["127.0.0.1"], |_| ());
        let (_, other_key) = TRUSTED.sign(&["127.0.0.1"], |_| ());
        let origin = server(forging(versions, chain, other_key));
        let (asked, events) = asking(accept);
        for session in [asked, UrlSession::new(configuration())] {
            let error = failure(&session, &origin.url("/"));
            // That the signature is bad may be said of the handshake or of the certificate.
            assert!([-1200, -1202].contains(&error.raw_code()), "{error}");
            assert_refused(&error, error.raw_code(), &origin);
        }
        // Nobody is asked about certificates that are not the server's.
        assert!(!events.log().contains(&ASKED.to_owned()), "{:?}", events.log());
    }
}

#[test]
fn versions_have_bounds() {
    use TlsProtocolVersion::{TlsV12, TlsV13};
    let table = [
        (TlsV12, TlsV13, BOTH, Some(ProtocolVersion::TLSv1_3)),
        (TlsV12, TlsV12, BOTH, Some(ProtocolVersion::TLSv1_2)),
        (TlsV13, TlsV13, BOTH, Some(ProtocolVersion::TLSv1_3)),
        (TlsV12, TlsV13, ONLY_12, Some(ProtocolVersion::TLSv1_2)),
        (TlsV13, TlsV13, ONLY_12, None),
        (TlsV12, TlsV12, ONLY_13, None),
    ];
    for (minimum, maximum, versions, expected) in table {
        let origin = bad(versions);
        let mut bounded = configuration();
        bounded.tls_minimum_supported_protocol_version = minimum;
        bounded.tls_maximum_supported_protocol_version = maximum;
        let (guide, events) = Guide::new();
        let session = guide.trust(accept).session(bounded);
        let outcome = run(&session.web_socket_task(origin.url("/")));
        match expected {
            Some(version) => {
                outcome.unwrap();
                assert_eq!(origin.visits()[0].version, Some(version));
            }
            None => {
                assert_refused(&outcome.unwrap_err(), -1200, &origin);
                assert!(!events.log().contains(&ASKED.to_owned()), "{:?}", events.log());
            }
        }
    }
}

// Sessions of TLS that are taken up again.

/// Opens, and closes again, so that a ticket has come.
#[track_caller]
fn visit(session: &UrlSession, origin: &Origin, own: Option<Arc<dyn WebSocketDelegate>>) -> Result<(), UrlError> {
    let task = session.web_socket_task(origin.url("/"));
    task.set_delegate(own);
    run(&task)
}

#[test]
fn the_same_verdict_is_resumed() {
    for versions in VERSIONS {
        for trusted in [true, false] {
            let origin = if trusted { good(versions) } else { bad(versions) };
            let (session, events) = match trusted {
                true => asking(|_, handler| handler(PerformDefaultHandling, None)),
                false => asking(accept),
            };
            for resumed in [false, true, true] {
                visit(&session, &origin, None).unwrap();
                assert_eq!(origin.visits().last().unwrap().is_resumed(), resumed, "trusted {trusted}");
            }
            // It is a new connection: the delegate is asked, with the certificates that were shown at first.
            assert_eq!(events.log().iter().filter(|event| *event == ASKED).count(), 3);
            let (other, _events) = asking(accept);
            visit(&other, &origin, None).unwrap();
            assert!(!origin.visits().last().unwrap().is_resumed(), "another session");
        }
    }
}

/// Nobody gets in by the ticket that somebody else's acceptance brought.
#[test]
fn an_acceptance_is_not_inherited() {
    for versions in VERSIONS {
        let origin = bad(versions);
        // By the next task, whose delegate has changed its mind.
        let changed = Arc::new(AtomicBool::new(false));
        let mind = Arc::clone(&changed);
        let (session, _events) = asking(move |challenge, handler| match mind.load(Ordering::SeqCst) {
            false => accept(challenge, handler),
            true => handler(PerformDefaultHandling, None),
        });
        visit(&session, &origin, None).unwrap();
        changed.store(true, Ordering::SeqCst);
        let before = origin.seen().len();
        assert_eq!(visit(&session, &origin, None).unwrap_err().raw_code(), -1203);
        // By a task of the same session that nobody answers for.
        let (session, ..) = recorded_session_with(configuration(), None);
        let (notes, _events) = recorder();
        visit(&session, &origin, Some(Arc::new(TaskLevel(notes)))).unwrap();
        assert_eq!(visit(&session, &origin, None).unwrap_err().raw_code(), -1203);
        assert_eq!(origin.seen().len(), before + 1);
        // With the acceptance it goes on.
        let (notes, _events) = recorder();
        visit(&session, &origin, Some(Arc::new(TaskLevel(notes)))).unwrap();
        // Nothing went to the server in between: each connection was either open or silent.
        eventually("the ends", || origin.ended() >= origin.connections() - 3);
        let silent = origin.visits().iter().filter(|visit| visit.plaintext.is_empty()).count();
        assert_eq!((origin.connections(), silent), (5, 2));
    }
}

/// `reset` forgets tickets.
#[test]
fn a_reset_forgets() {
    let origin = good(BOTH);
    let (session, _events) = asking(accept);
    visit(&session, &origin, None).unwrap();
    let (sender, receiver) = mpsc::channel();
    session.reset(move || sender.send(()).unwrap());
    receiver.recv_timeout(PATIENCE).unwrap();
    visit(&session, &origin, None).unwrap();
    assert!(origin.visits().iter().all(|visit| !visit.is_resumed()));
}

/// Many at once, each asked and answered in an order of its own.
#[test]
fn many_at_once() {
    const COUNT: usize = 24;
    let origin = bad(BOTH);
    let (session, events, kept) = keeping(configuration());
    let (sender, receiver) = mpsc::channel();
    for number in 0..COUNT {
        let task = session.web_socket_task(origin.url(&format!("/{number}")));
        let sender = sender.clone();
        task.send("x", |_| ());
        task.receive(move |message| {
            sender.send((number, message.map(drop).map_err(|error| error.raw_code()))).unwrap()
        });
        task.resume();
    }
    for _ in 0..COUNT {
        events.wait_for(ASKED);
    }
    // The last asked is answered first; every other one is refused.
    let mut questions = Vec::new();
    eventually("the last question's handler", || {
        questions.extend(kept.take());
        questions.len() == COUNT
    });
    while let Some((challenge, handler)) = questions.pop() {
        match questions.len() % 2 {
            0 => accept(&challenge, handler),
            _ => handler(CancelAuthenticationChallenge, None),
        }
    }
    let outcomes: Vec<_> = (0..COUNT).map(|_| receiver.recv_timeout(PATIENCE).unwrap()).collect();
    assert_eq!(outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).count(), COUNT / 2);
    assert!(outcomes.iter().all(|(_, outcome)| matches!(outcome, Ok(()) | Err(-999))));
    assert_eq!(origin.seen().len(), COUNT / 2);
}

/// A refused server is told nothing even where messages, a ping and a close wait.
#[test]
fn what_waits_for_an_untrusted_server_fails() {
    let origin = bad(BOTH);
    let (guide, events) = Guide::new();
    let notes = Arc::clone(&guide.recorder);
    let session = guide.trust(|_, handler| handler(PerformDefaultHandling, None)).session(configuration());
    let task = session.web_socket_task(origin.url("/"));
    task.send("secret", notes.handler("send"));
    task.send_ping(notes.handler("ping"));
    task.receive(notes.handler::<urlsession::Message>("receive"));
    task.resume();
    events.wait_for("complete");
    let log = events.log();
    for event in ["send -1203", "ping -1203", "receive -1203"] {
        assert!(log.iter().any(|noted| noted == event), "{event}: {log:?}");
    }
    assert_eq!(log.last().unwrap(), "complete -1203");
    assert_refused(&task.error().unwrap(), -1203, &origin);
    // Afterwards as well.
    task.send("late", notes.handler("late"));
    assert_eq!(events.wait_for("late"), "late -1203");
}

/// A 200 in place of the 101 from a server that was accepted is what it is from any other.
#[test]
fn an_accepted_server_may_refuse() {
    let origin = Origin::secure(server_with(BOTH, self_signed()), |_| Answer::Keep(head("200 OK", "")));
    let (session, events) = asking(accept);
    let error = failure(&session, &origin.url("/"));
    assert_eq!((error.raw_code(), error.response().unwrap().status_code()), (-1011, 200));
    events.expect(&[ASKED, "complete -1011"]);
}
