//! Digest on the way to the open socket: RFC 7616, and RFC 2069 for servers without `qop`. The server checks each answer with
//! code of its own.

mod support;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::thread;

use support::digest::{Gate, Given};
use support::guide::{Guide, run};
use support::origin::{Answer, Origin, unauthorized};
use urlsession::{
    AuthenticationMethod, CredentialPersistence, SessionConfiguration, UrlCredential, UrlCredentialStorage,
    UrlProtectionSpace, UrlSession,
};

/// What the gate said to each request that carried something.
type Said = Arc<Mutex<Vec<Result<Given, String>>>>;

fn given(said: &Said) -> Vec<(String, u32)> {
    let said = said.lock().unwrap();
    let right = said.iter().map(|said| said.clone().unwrap_or_else(|error| panic!("{error}; {said:?}")));
    right.map(|given| (given.nonce, given.count)).collect()
}

fn counted(nonces: &[(&str, u32)]) -> Vec<(String, u32)> {
    nonces.iter().map(|(nonce, count)| ((*nonce).to_owned(), *count)).collect()
}

/// Opens for right answers, with what `lines` makes of them in the 101, and asks everybody else, with a nonce each.
fn behind(gate: Arc<Gate>, lines: impl Fn(&Gate, &Given) -> String + Send + Sync + 'static) -> (Origin, Said) {
    let said = Said::default();
    let notes = Arc::clone(&said);
    let origin = Origin::new(move |request| {
        let checked = gate.check(request);
        if request.field("Authorization").is_some() {
            notes.lock().unwrap().push(checked.clone());
        }
        match checked {
            Ok(given) => Answer::Open(lines(&gate, &given)),
            Err(_) => Answer::Keep(unauthorized(&[&gate.challenge(&format!("nonce {}", request.number), "")])),
        }
    });
    (origin, said)
}

fn credential(gate: &Gate, persistence: CredentialPersistence) -> UrlCredential {
    UrlCredential::new(gate.user, gate.password, persistence)
}

/// A session whose delegate answers with what opens the gate.
fn session(gate: &Gate, persistence: CredentialPersistence) -> (UrlSession, support::Events) {
    let (guide, events) = Guide::new();
    let session = guide.credential(credential(gate, persistence)).session(SessionConfiguration::ephemeral());
    (session, events)
}

/// Each algorithm, with and without a session, `qop`, the hash of the user, an opaque, and characters that want care. Three
/// tasks each: one is asked, and two go on with its nonce.
#[test]
fn every_form_of_the_challenge_is_answered() {
    let mut forms = 0;
    for algorithm in ["", "MD5", "MD5-sess", "SHA-256", "sha-256-SESS", "SHA-512-256", "SHA-512-256-sess"] {
        for qop in ["", "auth", "auth-int, AUTH"] {
            for userhash in [false, true] {
                let (user, password, opaque) = match forms % 3 {
                    0 => ("me", "secret", ""),
                    1 => ("J\u{e4}s\u{f8}n D\u{f6}e", "p\u{e4}ss \u{4f60}\u{597d}", "sp\\ck\"le="),
                    _ => ("a \"quoted\" \\ user", "", "0123"),
                };
                forms += 1;
                // The answer names algorithm and qop in one spelling.
                let named = match algorithm {
                    "sha-256-SESS" => "SHA-256-sess",
                    algorithm => algorithm,
                };
                let gate = Gate { user, password, opaque, userhash, qop, algorithm: named, ..Gate::default() };
                let gate = Arc::new(Gate { realm: "a \"realm\" \\ of ours", ..gate });
                let (origin, said) = behind(Arc::clone(&gate), |_, _| String::new());
                let (session, events) = session(&gate, CredentialPersistence::ForSession);
                for path in ["/a?b=c&d", "/b", "/"] {
                    let task = session.web_socket_task(origin.url(path));
                    assert_eq!(run(&task).map_err(|error| error.to_string()), Ok(()), "{algorithm} {qop} {said:?}");
                }
                let counts: &[u32] = if qop.is_empty() { &[0, 0, 0] } else { &[1, 2, 3] };
                let expected: Vec<_> = counts.iter().map(|count| ("nonce 0".to_owned(), *count)).collect();
                assert_eq!(given(&said), expected, "{algorithm} {qop}");
                let asked = events.log().iter().filter(|event| event.contains("challenge")).count();
                assert_eq!(asked, 1);
                let said = said.lock().unwrap();
                let client_nonces: BTreeSet<_> =
                    said.iter().map(|said| said.as_ref().unwrap().client_nonce.clone()).collect();
                let has_session = algorithm.to_lowercase().ends_with("-sess");
                let expected = if has_session || qop.is_empty() { 1 } else { 3 };
                assert_eq!(client_nonces.len(), expected, "{client_nonces:?}");
            }
        }
    }
    assert_eq!(forms, 42);
}

#[test]
fn a_wrong_password_is_refused_and_the_right_one_asked_for() {
    let gate = Arc::new(Gate::default());
    let (origin, said) = behind(Arc::clone(&gate), |_, _| String::new());
    let (guide, events) = Guide::new();
    let session = guide
        .challenge(|challenge, handler| {
            let password = ["wrong", "Secret", "secret"][challenge.previous_failure_count()];
            let credential = UrlCredential::new("me", password, CredentialPersistence::None);
            handler(urlsession::AuthChallengeDisposition::UseCredential, Some(credential));
        })
        .session(SessionConfiguration::ephemeral());
    session.web_socket_task(origin.url("/")).resume();
    events.expect_to_open(&["challenge digest here 0 -", "challenge digest here 1 -", "challenge digest here 2 -"]);
    let said = said.lock().unwrap();
    assert_eq!(said.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, false, true], "{said:?}");
}

/// A server that repeats its nonce, with a new question or without: RFC 7616 §3.4, no count comes twice.
#[test]
fn a_nonce_that_comes_again_is_counted_on() {
    for more in [", stale=true", ""] {
        let gate = Arc::new(Gate::default());
        let said = Said::default();
        let notes = Arc::clone(&said);
        let checks = Arc::clone(&gate);
        let origin = Origin::new(move |request| {
            if request.number > 0 {
                notes.lock().unwrap().push(checks.check(request));
            }
            match request.number {
                3 => Answer::Open(String::new()),
                _ => Answer::Keep(unauthorized(&[&checks.challenge("again", more)])),
            }
        });
        let (session, events) = session(&gate, CredentialPersistence::None);
        session.web_socket_task(origin.url("/")).resume();
        events.wait_for("open");
        assert_eq!(given(&said), counted(&[("again", 1), ("again", 2), ("again", 3)]), "{more}");
    }
}

/// Another task is asked with the nonce that one before it was asked with.
#[test]
fn tasks_that_are_asked_with_one_nonce() {
    let gate = Arc::new(Gate::default());
    let said = Said::default();
    let (checks, notes) = (Arc::clone(&gate), Arc::clone(&said));
    let origin = Origin::new(move |request| match request.field("Authorization") {
        Some(_) => {
            notes.lock().unwrap().push(checks.check(request));
            Answer::Open(String::new())
        }
        None => Answer::Keep(unauthorized(&[&checks.challenge("all", "")])),
    });
    let (session, events) = session(&gate, CredentialPersistence::ForSession);
    // Outside of what the one before has shown, so that nothing goes unasked.
    for path in ["/a/", "/b/", "/c/", "/a/"] {
        assert!(run(&session.web_socket_task(origin.url(path))).is_ok());
    }
    assert_eq!(given(&said), counted(&[("all", 1), ("all", 2), ("all", 3), ("all", 4)]));
    assert_eq!(events.log().iter().filter(|event| event.contains("challenge")).count(), 3);
}

/// RFC 7616 §3.3: the same user and password with the new nonce, and no question. A server that says nothing else is believed
/// three times.
#[test]
fn stale_nonces() {
    let gate = Arc::new(Gate::default());
    let checks = Arc::clone(&gate);
    let said = Said::default();
    let notes = Arc::clone(&said);
    let origin = Origin::new(move |request| {
        if request.number > 0 {
            notes.lock().unwrap().push(checks.check(request));
        }
        let stale = if request.number == 0 { "" } else { ", stale=TRUE" };
        match request.number {
            13 => Answer::Open(String::new()),
            number => Answer::Keep(unauthorized(&[&checks.challenge(&format!("{number}"), stale)])),
        }
    });
    let (session, events) = session(&gate, CredentialPersistence::None);
    session.web_socket_task(origin.url("/")).resume();
    // The answers to 0, 4, 8 and 12 were asked for.
    let asked: Vec<_> = (0..4).map(|failures| format!("challenge digest here {failures} -")).collect();
    events.expect_to_open(&asked);
    let expected: Vec<_> = (0..13).map(|number| (number.to_string(), 1)).collect();
    assert_eq!(given(&said), expected);
}

#[test]
fn stale_is_said_of_what_was_sent_and_by_digest_only() {
    // stale=false, no Digest, another realm: refusals.
    let gate = Gate::default();
    let elsewhere = Gate { realm: "there", ..Gate::default() };
    let table = [
        (gate.challenge("2", ", stale=false"), "digest here 1"),
        // A challenge of a scheme `stale`.
        (gate.challenge("2", ", stale"), "digest here 1"),
        ("Basic realm=\"here\", stale=true".to_owned(), "basic here 0"),
        (elsewhere.challenge("2", ", stale=true"), "digest there 0"),
    ];
    for (second, asked) in table {
        let gate = Gate::default();
        let first = gate.challenge("1", "");
        let challenges = second.clone();
        let origin = Origin::new(move |request| match request.number {
            0 => Answer::Keep(unauthorized(&[&first])),
            1 => Answer::Keep(unauthorized(&[&challenges])),
            _ => Answer::Open(String::new()),
        });
        let (session, events) = session(&gate, CredentialPersistence::None);
        assert!(run(&session.web_socket_task(origin.url("/"))).is_ok());
        let log: Vec<_> = events.log().into_iter().filter(|event| event.starts_with("challenge")).collect();
        assert_eq!(log, ["challenge digest here 0 -".to_owned(), format!("challenge {asked} -")], "{second}");
    }
}

/// RFC 7616 §3.5.
#[test]
fn the_next_nonce_is_used_by_the_next_task() {
    for algorithm in ["MD5", "SHA-256-sess"] {
        let gate = Arc::new(Gate { algorithm, ..Gate::default() });
        let (origin, said) = behind(Arc::clone(&gate), |gate, given| {
            let next = match &*given.nonce {
                "nonce 0" => "second",
                "second" if given.count == 2 => "third",
                // The same once more counts on, and what is malformed or empty says nothing.
                "second" => return "Authentication-Info: nextnonce=\"second\", qop=auth\r\n".to_owned(),
                _ => return "Authentication-Info: nextnonce=\"\"\r\nAuthentication-Info: nextnonce\r\n".to_owned(),
            };
            gate.follows(&given.nonce, next);
            format!("Authentication-Info: qop=auth, nextnonce=\"{next}\"\r\n")
        });
        let (session, events) = session(&gate, CredentialPersistence::ForSession);
        for _ in 0..5 {
            assert!(run(&session.web_socket_task(origin.url("/"))).is_ok(), "{said:?}");
        }
        let expected = [("nonce 0", 1), ("second", 1), ("second", 2), ("third", 1), ("third", 2)];
        assert_eq!(given(&said), counted(&expected), "{algorithm}");
        assert_eq!(events.log().iter().filter(|event| event.contains("challenge")).count(), 1);
    }
}

/// Tasks that go out at the same moment share the nonce, and none counts what another has counted.
#[test]
fn tasks_count_one_nonce_together() {
    const TASKS: usize = 24;
    let gate = Arc::new(Gate::default());
    let said: Arc<Mutex<BTreeSet<u32>>> = Arc::default();
    let notes = Arc::clone(&said);
    let origin = Origin::new(move |request| {
        let Some(value) = request.field("Authorization") else {
            return Answer::Keep(unauthorized(&[&Gate::default().challenge("one", "")]));
        };
        // The server sees them in any order.
        let count = value.split_once("nc=").map(|(_, rest)| u32::from_str_radix(&rest[..8], 16).unwrap());
        assert!(value.contains("nonce=\"one\""));
        match notes.lock().unwrap().insert(count.unwrap()) {
            true => Answer::Open(String::new()),
            false => Answer::Nothing,
        }
    });
    let (session, events) = session(&gate, CredentialPersistence::ForSession);
    assert!(run(&session.web_socket_task(origin.url("/"))).is_ok());
    let threads: Vec<_> = (1..TASKS)
        .map(|number| {
            let task = session.web_socket_task(origin.url(&format!("/{number}")));
            thread::spawn(move || run(&task).map_err(|error| error.to_string()))
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), Ok(()));
    }
    assert_eq!(*said.lock().unwrap(), (1..=TASKS as u32).collect());
    assert_eq!(events.log().iter().filter(|event| event.contains("challenge")).count(), 1);
    assert_eq!(origin.seen().len(), TASKS + 1);
}

/// What goes unasked and meets a nonce that is too old goes once more, without a question.
#[test]
fn a_nonce_that_aged_between_tasks() {
    let gate = Arc::new(Gate::default());
    let checks = Arc::clone(&gate);
    let said = Said::default();
    let notes = Arc::clone(&said);
    let origin = Origin::new(move |request| {
        let number = request.number;
        let checked = checks.check(request);
        if number > 0 {
            notes.lock().unwrap().push(checked);
        }
        match number {
            0 => Answer::Keep(unauthorized(&[&checks.challenge("young", "")])),
            2 => Answer::Keep(unauthorized(&[&checks.challenge("younger", ", stale=true")])),
            _ => Answer::Open(String::new()),
        }
    });
    let (session, events) = session(&gate, CredentialPersistence::ForSession);
    for _ in 0..3 {
        assert!(run(&session.web_socket_task(origin.url("/"))).is_ok());
    }
    assert_eq!(given(&said), counted(&[("young", 1), ("young", 2), ("younger", 1), ("younger", 2)]));
    assert_eq!(events.log().iter().filter(|event| event.contains("challenge")).count(), 1);
}

/// Of several the strongest has its turn, wherever it stands.
#[test]
fn the_strongest_algorithm_is_answered() {
    let gates = ["MD5", "SHA-512-256", "SHA-256"].map(|algorithm| Gate { algorithm, ..Gate::default() });
    let [md5, strongest, sha256] = gates;
    let lines = [md5.challenge("a", ""), strongest.challenge("b", ""), sha256.challenge("c", "")];
    let one_line = format!("Basic realm=\"here\", {}", lines.join(", "));
    for challenges in [lines.to_vec(), vec![one_line]] {
        let gate = Gate { algorithm: "SHA-512-256", ..Gate::default() };
        let checks = Arc::new(Gate { algorithm: "SHA-512-256", ..Gate::default() });
        let origin = Origin::new(move |request| match checks.check(request) {
            Ok(given) if given.nonce == "b" => Answer::Open(String::new()),
            _ => {
                let challenges: Vec<&str> = challenges.iter().map(String::as_str).collect();
                Answer::Bytewise(unauthorized(&challenges))
            }
        });
        let (session, events) = session(&gate, CredentialPersistence::None);
        session.web_socket_task(origin.url("/")).resume();
        events.expect_to_open(&["challenge digest here 0 -"]);
    }
}

/// What nobody can answer is no offer: the task ends with the 401, or goes on with Basic.
#[test]
fn challenges_that_cannot_be_answered() {
    let table = [
        "Digest",
        "Digest realm=\"r\"",
        "Digest nonce=\"n\"",
        "Digest realm=\"r\", nonce=\"\"",
        "Digest realm=\"r\", nonce=\"n\", algorithm=SHA",
        "Digest realm=\"r\", nonce=\"n\", algorithm=MD5-session",
        "Digest realm=\"r\", nonce=\"n\", qop=\"auth-int\"",
        "Digest realm=\"r\", nonce=\"n\", nonce=\"m\"",
        "Digest realm=\"r\" nonce=\"n\"",
    ];
    for challenge in table {
        for others in [&[][..], &["Basic realm=\"b\""][..]] {
            let challenges: Vec<String> =
                [challenge].into_iter().chain(others.iter().copied()).map(str::to_owned).collect();
            let origin = Origin::new(move |request| match request.field("Authorization") {
                Some("Basic bWU6c2VjcmV0") => Answer::Open(String::new()),
                Some(_) => Answer::Nothing,
                None => {
                    let challenges: Vec<&str> = challenges.iter().map(String::as_str).collect();
                    Answer::Keep(unauthorized(&challenges))
                }
            });
            let (session, events) = session(&Gate::default(), CredentialPersistence::None);
            session.web_socket_task(origin.url("/")).resume();
            match others.is_empty() {
                true => events.expect(&["complete -1011"]),
                false => events.expect_to_open(&["challenge basic b 0 -"]),
            }
        }
    }
}

/// Digest is sent unasked where the storage opens the space, and with another password when it changes there.
#[test]
fn the_storage_answers_digest() {
    let gate = Arc::new(Gate { user: "J\u{e4}s\u{f8}n", ..Gate::default() });
    let (origin, said) = behind(Arc::clone(&gate), |_, _| String::new());
    let storage = UrlCredentialStorage::new();
    let space = UrlProtectionSpace::new(
        "127.0.0.1",
        origin.port(),
        Some("ws"),
        Some(gate.realm),
        AuthenticationMethod::HttpDigest,
    );
    storage.set(credential(&gate, CredentialPersistence::Permanent), &space);
    let mut configuration = SessionConfiguration::ephemeral();
    configuration.url_credential_storage = Some(storage.clone());
    let session = UrlSession::new(configuration);
    for _ in 0..2 {
        assert!(run(&session.web_socket_task(origin.url("/"))).is_ok());
    }
    assert_eq!(given(&said), counted(&[("nonce 0", 1), ("nonce 0", 2)]));
    // Wrong from now on: it goes unasked, once more with a new nonce, and there is nobody who knows better.
    storage.set(UrlCredential::new(gate.user, "changed", CredentialPersistence::Permanent), &space);
    let error = run(&session.web_socket_task(origin.url("/"))).unwrap_err();
    assert_eq!((error.raw_code(), error.response().map(|response| response.status_code())), (-1011, Some(401)));
    assert_eq!(origin.seen().len(), 5);
    assert!(said.lock().unwrap()[2].as_ref().is_err_and(|error| error.starts_with("response")));
}
