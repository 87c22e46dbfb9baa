//! Whole exchanges over loopback: `cases_exchange` of `http_auth_exchanges.json`, and what `http_digest.json` and
//! `http_basic.json` say of one challenge after another.
//!
//! Of the requests the targets, `Host`, `Authorization` and the connections are compared. Where the source has a final 200
//! the socket opens.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use urlsession::{
    AuthChallengeDisposition, AuthenticationMethod, CredentialPersistence, SessionConfiguration, Url, UrlCredential,
};

use super::support::digest::Gate;
use super::support::guide::{Guide, run};
use super::support::origin::{Answer, Origin, Request, unauthorized};
use super::support::{Events, field};
use super::{cases, equal, run_all, text};

const FILE: &str = "http_auth_exchanges.json";

/// The answers are limited to 20, for the source to 32.
const LIMIT: &str = "a task gives up after 20 answers, the source after 32";

const DIFFERENCES: [(&str, &str); 1] = [("chromium-BasicAuthForever", LIMIT)];

/// One request of the source, and what the server makes of it.
struct Turn {
    sent: String,
    answer: String,
    opens: bool,
    closes: bool,
    connection: usize,
}

/// All turns of a case, in order. A connection on which the source's server says less than it announced ends there.
fn turns(case: &Value) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::new();
    let mut number = 0;
    for transaction in case["transactions"].as_array().unwrap() {
        for connection in transaction["connections"].as_array().unwrap() {
            for _ in 0..connection["repeat"].as_u64().unwrap_or(1) {
                for event in connection["events"].as_array().unwrap() {
                    if let Some(sent) = event["client_sends"].as_str() {
                        let (sent, answer) = (sent.to_owned(), String::new());
                        turns.push(Turn { sent, answer, opens: false, closes: false, connection: number });
                    } else if let Some(answer) = event["server_sends"].as_str() {
                        let turn = turns.last_mut().unwrap();
                        turn.answer = answer.to_owned();
                        turn.opens = answer.split(' ').nth(1) == Some("200");
                    } else {
                        assert_eq!(event["server_closes"], true, "{event}");
                        turns.last_mut().unwrap().closes = true;
                    }
                }
                // Nothing more comes on it, announced or not.
                turns.last_mut().unwrap().closes = true;
                number += 1;
            }
        }
    }
    turns
}

/// A server that plays the turns.
fn server(turns: &[Turn]) -> Origin {
    let answers = turns
        .iter()
        .map(|turn| match (turn.opens, turn.closes) {
            (true, _) => Answer::Open(String::new()),
            (_, true) => Answer::Close(turn.answer.clone()),
            (_, false) => Answer::Keep(turn.answer.clone()),
        })
        .collect();
    Origin::script(answers)
}

/// A delegate that has these credentials, one after the other.
fn asking(credentials: VecDeque<UrlCredential>) -> (Guide, Events) {
    let credentials = Mutex::new(credentials);
    let (guide, events) = Guide::new();
    let guide = guide.challenge(move |challenge, handler| match challenge.proposed_credential() {
        Some(_) => handler(AuthChallengeDisposition::PerformDefaultHandling, None),
        None => match credentials.lock().unwrap().pop_front() {
            Some(credential) => handler(AuthChallengeDisposition::UseCredential, Some(credential)),
            None => handler(AuthChallengeDisposition::PerformDefaultHandling, None),
        },
    });
    (guide, events)
}

fn credentials(case: &Value) -> VecDeque<UrlCredential> {
    let all = case["credentials"].as_array().unwrap().iter();
    let all =
        all.map(|one| UrlCredential::new(text(one, "user"), text(one, "password"), CredentialPersistence::ForSession));
    let count = case["repeat_credentials"].as_u64().map_or(usize::MAX, |count| usize::try_from(count).unwrap());
    match case["repeat_credentials"].is_null() {
        true => all.collect(),
        false => all.cycle().take(count).collect(),
    }
}

/// The parameters of a Digest answer, but for the client's nonce and what depends on it.
fn comparable(authorization: &str) -> Vec<String> {
    let Some(parameters) = authorization.strip_prefix("Digest ") else { return vec![authorization.to_owned()] };
    let parameters = parameters.split(", ").map(str::to_owned);
    let mut parameters: Vec<_> =
        parameters.filter(|p| !p.starts_with("cnonce=") && !p.starts_with("response=")).collect();
    parameters.sort();
    parameters
}

/// Compares one request with the source's.
fn compare(origin: &Origin, turn: &Turn, request: &Request) -> Result<(), String> {
    let sent = &turn.sent;
    equal("the target", request.target(), sent.split(' ').nth(1).unwrap())?;
    // The source's server has another name.
    equal("the host of the source", field(sent, "Host"), Some("www.example.org"))?;
    equal("the host", request.field("Host"), Some(&*format!("127.0.0.1:{}", origin.port())))?;
    let [found, expected] = [request.field("Authorization"), field(sent, "Authorization")];
    equal("Authorization", found.map(comparable), expected.map(comparable))?;
    equal("the connection", request.connection, turn.connection)?;
    if expected.is_some_and(|expected| expected.starts_with("Digest ")) {
        let gate = Gate { user: "foo", password: "bar", realm: "digestive", algorithm: "MD5", ..Gate::default() };
        gate.check(request)?;
    }
    Ok(())
}

#[test]
fn exchanges() {
    let Some(cases) = cases(FILE, "cases_exchange", 12) else { return };
    run_all(&cases, &DIFFERENCES, |case| {
        let turns = turns(case);
        let origin = server(&turns);
        let (guide, events) = asking(credentials(case));
        let session = guide.session(SessionConfiguration::ephemeral());
        let mut begin = 0;
        for transaction in case["transactions"].as_array().unwrap() {
            let url = text(transaction, "url").replacen("http://", "ws://", 1);
            let url = url.replace("www.example.org", &format!("127.0.0.1:{}", origin.port()));
            let opened = run(&session.web_socket_task(Url::parse(&url).unwrap()));
            let count: usize = transaction["connections"]
                .as_array()
                .unwrap()
                .iter()
                .map(|connection| {
                    let requests = connection["events"].as_array().unwrap();
                    let requests = requests.iter().filter(|event| event["client_sends"].is_string()).count();
                    requests * usize::try_from(connection["repeat"].as_u64().unwrap_or(1)).unwrap()
                })
                .sum();
            let (turns, seen) = (&turns[begin..begin + count], origin.seen());
            equal("requests", seen.len(), begin + count)?;
            for (turn, request) in turns.iter().zip(&seen[begin..]) {
                compare(&origin, turn, request)?;
            }
            match turns.last().unwrap().opens {
                true => equal("opened", opened.map_err(|error| error.to_string()), Ok(()))?,
                false => equal("ended", opened.map_err(|error| error.raw_code()), Err(-1011))?,
            }
            begin += count;
        }
        equal("the questions", questions(&events), expected_questions(super::id(case)))
    });
}

/// Realm and failures of each question, with whether a credential was proposed.
fn questions(events: &Events) -> Vec<String> {
    let log = events.log().into_iter();
    log.filter_map(|event| Some(event.strip_prefix("challenge ")?.to_owned())).collect()
}

/// What the source says in words.
fn expected_questions(id: &str) -> Vec<String> {
    let questions: &[&str] = match id {
        // The source is told to pass over the user of the last address and asks; here it answers, and the requests are the same.
        "chromium-AuthIdentityInURL" | "chromium-AuthIdentityInURLSuppressed" => &[],
        "chromium-WrongAuthIdentityInURL" => &["basic MyRealm1 1 -"],
        // The fourth is answered from what is known, which the delegate is told.
        "chromium-BasicAuthCacheAndPreauth" => &[
            "basic MyRealm1 0 -",
            "basic MyRealm2 0 -",
            "basic MyRealm1 0 foo",
            "basic MyRealm1 0 foo",
            "basic MyRealm1 1 -",
        ],
        "chromium-DigestPreAuthNonceCount" => &["digest digestive 0 -"],
        "chromium-ChangeAuthRealms" => &["basic first_realm 0 -", "basic second_realm 0 -", "basic first_realm 1 -"],
        _ => &["basic MyRealm1 0 -"],
    };
    questions.iter().map(|question| (*question).to_owned()).collect()
}

/// That the loop ends is what counts.
#[test]
fn the_loop_that_differs_ends() {
    let Some(cases) = cases(FILE, "cases_exchange", 12) else { return };
    let case = cases.iter().find(|case| super::id(case) == "chromium-BasicAuthForever").unwrap();
    let origin = server(&turns(case));
    let (guide, _events) = asking(credentials(case));
    let session = guide.session(SessionConfiguration::ephemeral());
    let error = run(&session.web_socket_task(origin.url("/"))).unwrap_err();
    assert_eq!(error.raw_code(), -1011, "{error:?} after {} requests", origin.seen().len());
    assert_eq!((origin.seen().len(), origin.connections()), (21, 21));
}

/// One challenge after another: whether the second is a refusal, a nonce that is too old, or another realm.
fn second_challenge(first: &str, second: &str) -> Result<Vec<String>, String> {
    let (opening, then) = (first.to_owned(), second.to_owned());
    let origin = Origin::new(move |request| match request.number {
        0 => Answer::Keep(unauthorized(&[&opening])),
        1 => Answer::Keep(unauthorized(&[&then])),
        _ => Answer::Open(String::new()),
    });
    let (guide, events) = Guide::new();
    let credential = UrlCredential::new("me", "secret", CredentialPersistence::None);
    let session = guide.credential(credential).session(SessionConfiguration::ephemeral());
    let opened = run(&session.web_socket_task(origin.url("/")));
    equal("the requests", origin.seen().len(), 3)?;
    equal("opened", opened.map_err(|error| error.to_string()), Ok(()))?;
    Ok(questions(&events))
}

fn kind(questions: &[String], first: &str) -> String {
    let kind = match questions {
        [_] => "stale",
        [one, two] => match (one.split(' ').nth(1), two.split(' ').nth(1)) {
            (one, two) if one == two && two == Some(first) => "reject",
            _ => "different realm",
        },
        _ => "something else",
    };
    kind.to_owned()
}

const TWICE: &str = "a challenge that names two realms is malformed (RFC 9110 §11.2): nobody can answer it";

#[test]
fn basic_after_basic() {
    let Some(cases) = cases("http_basic.json", "cases_behaviour", 4) else { return };
    let differences = [("http_basic-behaviour-003", TWICE), ("http_basic-behaviour-004", TWICE)];
    run_all(&cases, &differences, |case| {
        let questions = second_challenge(text(case, "first"), text(case, "second"))?;
        let expected = text(case, "expected").split(" (").next().unwrap();
        equal("the second", &*kind(&questions, "First"), expected)
    });
}

/// The answer to a challenge, where there is one.
fn answer_to(challenge: &str, user: &str, password: &str) -> Option<String> {
    let challenge = challenge.to_owned();
    let origin = Origin::new(move |request| match request.number {
        0 => Answer::Keep(unauthorized(&[&challenge])),
        _ => Answer::Open(String::new()),
    });
    let (guide, _events) = Guide::new();
    let credential = UrlCredential::new(user, password, CredentialPersistence::None);
    let session = guide.credential(credential).session(SessionConfiguration::ephemeral());
    let opened = run(&session.web_socket_task(origin.url("/")));
    let answer = origin.seen().get(1).and_then(|request| request.field("Authorization").map(str::to_owned));
    assert_eq!(opened.is_ok(), answer.is_some());
    answer
}

/// Tasks one after the other: the first is asked with `challenge`, each is opened with what `lines` says of its number.
fn counts(challenge: &str, tasks: usize, lines: impl Fn(usize) -> String + Send + Sync + 'static) -> Vec<String> {
    let challenge = challenge.to_owned();
    let origin = Origin::new(move |request| match request.number {
        0 => Answer::Keep(unauthorized(&[&challenge])),
        number => Answer::Open(lines(number)),
    });
    let (guide, _events) = Guide::new();
    let credential = UrlCredential::new("me", "secret", CredentialPersistence::ForSession);
    let session = guide.credential(credential).session(SessionConfiguration::ephemeral());
    for _ in 0..tasks {
        assert!(run(&session.web_socket_task(origin.url("/"))).is_ok());
    }
    let answers = origin.seen().into_iter().skip(1);
    answers.map(|request| request.field("Authorization").unwrap().to_owned()).collect()
}

fn parameter<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let mut parameters = answer.strip_prefix("Digest ").unwrap().split(", ");
    parameters.find_map(|parameter| parameter.strip_prefix(name)?.strip_prefix('='))
}

const AUTH_INT: &str = "qop=auth-int is not done: the request of a WebSocket has no body";
const USER_HASH: &str = "RFC 7616 §3.4.4 hashes the user after everything else; the source does it before";

const DIGEST_DIFFERENCES: [(&str, &str); 3] = [
    ("apache-auth-int-body", AUTH_INT),
    ("apache-username-star", AUTH_INT),
    ("apache-userhash (do not use)", USER_HASH),
];

#[test]
fn digest_after_digest() {
    let Some(cases) = cases("http_digest.json", "cases_behaviour", 20) else { return };
    run_all(&cases, &DIGEST_DIFFERENCES, |case| {
        if let (Some(first), Some(second)) = (case["first"].as_str(), case["second"].as_str()) {
            let questions = second_challenge(first, second)?;
            let expected = text(case, "expected").split(" (").next().unwrap();
            return equal("the second", &*kind(&questions, "Oblivion"), expected);
        }
        let challenge = case["challenge"].as_str().unwrap_or_default();
        let answer = || answer_to(challenge, "username", "password").ok_or_else(|| "no answer".to_owned());
        match super::id(case) {
            "apache-nonce-count" => {
                let nonce = "f2a3f18799759d4f1a1c068b92b573cb";
                let next = "e273f1776275974f1a120d8b92c5b3cb";
                let challenge = format!("Digest realm=\"realm1\", nonce=\"{nonce}\", qop=auth");
                let answers = counts(&challenge, 4, move |number| match number {
                    3 => format!("Authentication-Info: nextnonce=\"{next}\"\r\n"),
                    _ => String::new(),
                });
                let found: Vec<_> = answers.iter().map(|answer| parameter(answer, "nc").unwrap()).collect();
                equal("nc", found, vec!["00000001", "00000002", "00000003", "00000001"])
            }
            "apache-md5-sess-consistency" => {
                let challenge = case["challenges"][0].as_str().unwrap();
                let answers = counts(challenge, 3, |_| String::new());
                let found: Vec<_> = answers.iter().map(|answer| parameter(answer, "nc").unwrap()).collect();
                equal("nc", found, vec!["00000001", "00000002", "00000003"])?;
                let first = parameter(&answers[0], "cnonce");
                equal("cnonce", answers.iter().all(|answer| parameter(answer, "cnonce") == first), true)
            }
            "apache-nextnonce" => {
                let info = text(case, "authentication_info").to_owned();
                let answers = counts(challenge, 2, move |_| format!("Authentication-Info: {info}\r\n"));
                let found: Vec<_> = answers.iter().map(|answer| parameter(answer, "nonce").unwrap()).collect();
                equal("nonce", found, vec!["\"initialNonce\"", "\"sampleNextNonce\""])
            }
            "apache-no-algorithm-echo" => equal("algorithm", parameter(&answer()?, "algorithm"), None),
            "apache-algorithm-echo" => equal("algorithm", parameter(&answer()?, "algorithm"), Some("MD5")),
            "apache-qop-auth-preferred" => {
                let answer = answer()?;
                let found = ["qop", "nc", "opaque"].map(|name| parameter(&answer, name));
                equal("qop, nc, opaque", found, [Some("auth"), Some("00000001"), Some("\"SomeString\"")])
            }
            "apache-param-case" => {
                // Not the whole challenge is given.
                let challenge = challenge.replace("nonce=..., (mixed-case parameter names)", "NoNcE=\"n\", Qop=auth");
                let answer = answer_to(&challenge, "username", "password").ok_or("no answer")?;
                let found = ["realm", "nonce", "qop"].map(|name| parameter(&answer, name));
                equal("realm, nonce, qop", found, [Some("\"-\""), Some("\"n\""), Some("auth")])
            }
            "apache-username-star" => {
                let answer = answer_to(challenge, "J\u{e4}s\u{f8}n", "password").ok_or("no answer")?;
                equal("username*", parameter(&answer, "username*"), Some("UTF-8''J%C3%A4s%C3%B8n"))
            }
            "apache-auth-int-body" => answer().map(drop),
            "apache-userhash (do not use)" => {
                equal("response", parameter(&answer()?, "response"), Some("\"3b6561ceb73e5ffe9314a695179f23f9\""))
            }
            _ if text(case, "expected").contains("no response") || text(case, "expected").contains("malformed") => {
                equal("an answer", answer_to(challenge, "username", "password"), None)
            }
            id => Err(format!("{id} is not known here")),
        }
    });
}

/// Of how a realm and its Basic challenge may be written. A client that knows Digest takes that first, so it is rejected here.
#[test]
fn forms_of_a_challenge() {
    let Some(cases) = cases(FILE, "cases_challenge_forms", 12) else { return };
    // The source takes single quotes for quotes; RFC 9110 §5.6.4 knows double ones only.
    let differences = [("cpython-basic-02", "single quotes are a part of the realm")];
    run_all(&cases, &differences, |case| {
        let fields: Vec<_> = case["www_authenticate"]
            .as_array()
            .unwrap()
            .iter()
            .map(|field| field.as_str().unwrap().to_owned())
            .collect();
        let (user, password) = (text(&case["credentials"], "user"), text(&case["credentials"], "password"));
        let expected = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        equal("the source's answer", text(case, "expect").ends_with(&expected), true)?;
        let realms: Arc<Mutex<Vec<String>>> = Arc::default();
        let (notes, wanted) = (Arc::clone(&realms), expected);
        let origin = Origin::new(move |request| match request.field("Authorization") {
            Some(value) if value == wanted => Answer::Open(String::new()),
            _ => Answer::Keep(unauthorized(&fields.iter().map(String::as_str).collect::<Vec<_>>())),
        });
        let (guide, _events) = Guide::new();
        let credential = UrlCredential::new(user, password, CredentialPersistence::None);
        let session = guide
            .challenge(move |challenge, handler| match challenge.protection_space().authentication_method() {
                AuthenticationMethod::HttpBasic => {
                    notes.lock().unwrap().extend(challenge.protection_space().realm().map(str::to_owned));
                    handler(AuthChallengeDisposition::UseCredential, Some(credential.clone()));
                }
                _ => handler(AuthChallengeDisposition::RejectProtectionSpace, None),
            })
            .session(SessionConfiguration::ephemeral());
        equal("opened", run(&session.web_socket_task(origin.url("/"))).is_ok(), true)?;
        equal("the realms", realms.lock().unwrap().clone(), vec!["realm2@example.com".to_owned()])
    });
}
