//! Credentials that a session keeps: what is stored, what is proposed, what goes with a request unasked (RFC 7617 §2.2), and
//! where it does not.

mod support;

use std::sync::{Arc, mpsc};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use support::guide::{Guide, run};
use support::origin::{Answer, Origin, Request, redirect, unauthorized};
use support::tls::{BOTH, TRUSTED, trusted_server};
use support::{Events, PATIENCE};
use urlsession::{
    AuthChallengeDisposition, AuthenticationMethod, CredentialPersistence, SessionConfiguration, UrlCredential,
    UrlCredentialStorage, UrlProtectionSpace, UrlRequest, UrlSession,
};

use AuthChallengeDisposition::{PerformDefaultHandling, UseCredential};
use CredentialPersistence::{ForSession, Permanent};

/// The value of `Authorization`.
fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn me(persistence: CredentialPersistence) -> UrlCredential {
    UrlCredential::new("me", "secret", persistence)
}

fn wrong() -> UrlCredential {
    UrlCredential::new("me", "wrong", ForSession)
}

/// Opens for me, and asks everybody else in the name of the first part of the path.
fn by_realm(request: &Request) -> Answer {
    let realm = request.target().split('/').nth(1).unwrap_or_default();
    match request.field("Authorization") {
        Some(value) if value == basic("me", "secret") => Answer::Open(String::new()),
        _ => Answer::Keep(unauthorized(&[&format!("Basic realm=\"{realm}\"")])),
    }
}

fn space_at(host: &str, origin: &Origin, realm: &str) -> UrlProtectionSpace {
    UrlProtectionSpace::new(host, origin.port(), Some("http"), Some(realm), AuthenticationMethod::HttpBasic)
}

fn space(origin: &Origin, realm: &str) -> UrlProtectionSpace {
    space_at("127.0.0.1", origin, realm)
}

fn with(storage: &UrlCredentialStorage) -> SessionConfiguration {
    let mut configuration = SessionConfiguration::ephemeral();
    configuration.url_credential_storage = Some(storage.clone());
    configuration
}

/// A session whose delegate answers with this.
fn answering(credential: UrlCredential, storage: &UrlCredentialStorage) -> (UrlSession, Events) {
    let (guide, events) = Guide::new();
    (guide.credential(credential).session(with(storage)), events)
}

/// What the delegate was asked since `before`, and what the server saw.
fn asked(events: &Events) -> Vec<String> {
    events.log().into_iter().filter(|event| event.contains("challenge")).collect()
}

/// Whether each request was authorized, with what.
fn sent(origin: &Origin) -> Vec<Option<String>> {
    origin.seen().iter().map(|request| request.field("Authorization").map(str::to_owned)).collect()
}

fn code(session: &UrlSession, with: impl Into<UrlRequest>) -> i32 {
    run(&session.web_socket_task(with)).err().map_or(0, |error| error.raw_code())
}

#[test]
fn without_a_delegate_the_storage_answers() {
    let origin = Origin::new(by_realm);
    let storage = UrlCredentialStorage::new();
    let session = UrlSession::new(with(&storage));
    // Nothing is there…
    assert_eq!(code(&session, origin.url("/r/")), -1011);
    // …of another realm, another method, another port, another protocol…
    let port = origin.port();
    let of = |port, protocol, method| UrlProtectionSpace::new("127.0.0.1", port, Some(protocol), Some("r"), method);
    storage.set(me(ForSession), &space(&origin, "other"));
    storage.set(me(ForSession), &of(port, "ws", AuthenticationMethod::HttpDigest));
    storage.set(me(ForSession), &of(port ^ 1, "ws", AuthenticationMethod::HttpBasic));
    storage.set(me(ForSession), &of(port, "wss", AuthenticationMethod::HttpBasic));
    storage.set(me(ForSession), &space_at("localhost", &origin, "r"));
    assert_eq!(code(&session, origin.url("/r/")), -1011);
    assert_eq!(sent(&origin), [None, None]);
    // …of this one.
    storage.set(me(ForSession), &of(port, "ws", AuthenticationMethod::HttpBasic));
    assert_eq!(code(&session, origin.url("/r/")), 0);
    assert_eq!(sent(&origin)[2..], [None, Some(basic("me", "secret"))]);
}

/// One user after the other would be a guess: the default, or else the first by name, is sent, and no other.
#[test]
fn which_of_several_is_proposed() {
    let origin = Origin::new(by_realm);
    let storage = UrlCredentialStorage::new();
    let space = space(&origin, "r");
    let set = |user: &str| storage.set(UrlCredential::new(user, "x", ForSession), &space);
    ["z", "a", "m"].into_iter().for_each(set);
    let session = UrlSession::new(with(&storage));
    let propose = || {
        assert_eq!(code(&session, origin.url("/r/")), -1011);
        sent(&origin).pop().unwrap().unwrap()
    };
    assert_eq!(propose(), basic("z", "x"));
    storage.set_default_credential(UrlCredential::new("m", "y", ForSession), &space);
    assert_eq!(propose(), basic("m", "y"));
    storage.remove(&UrlCredential::new("m", "y", Permanent), &space);
    assert_eq!(propose(), basic("a", "x"));
    assert_eq!(sent(&origin).len(), 6);
}

#[test]
fn the_address_comes_before_the_storage() {
    let origin = Origin::new(by_realm);
    let storage = UrlCredentialStorage::new();
    storage.set(me(ForSession), &space(&origin, "r"));
    let mut url = origin.url("/r/");
    url.set_username("you").unwrap();
    url.set_password(Some("other")).unwrap();
    // It is wrong; the storage is asked then.
    let session = UrlSession::new(with(&storage));
    assert_eq!(code(&session, url.clone()), 0);
    let all = [None, Some(basic("you", "other")), Some(basic("me", "secret"))];
    assert_eq!(sent(&origin), all);
    // A later task begins anew: what the address says is not what the storage knows.
    assert_eq!(code(&session, url), 0);
    assert_eq!(sent(&origin)[3..], all);
    // And what an address says is never stored.
    let mut url = origin.url("/s/");
    url.set_username("me").unwrap();
    url.set_password(Some("secret")).unwrap();
    assert_eq!(code(&session, url), 0);
    assert!(storage.credentials_for(&space(&origin, "s")).is_empty());
    assert_eq!(code(&session, origin.url("/s/")), -1011);
}

#[test]
fn what_is_stored_when_it_was_good() {
    for persistence in [CredentialPersistence::None, ForSession, Permanent] {
        let origin = Origin::new(by_realm);
        let storage = UrlCredentialStorage::new();
        let (session, events) = answering(me(persistence), &storage);
        for _ in 0..2 {
            assert_eq!(code(&session, origin.url("/r/a")), 0);
        }
        let stored = storage.default_credential_for(&space(&origin, "r"));
        if persistence == CredentialPersistence::None {
            assert_eq!(stored, None);
            assert_eq!(asked(&events), ["challenge basic r 0 -"; 2]);
            assert_eq!(origin.seen().len(), 4);
        } else {
            assert_eq!(stored, Some(me(persistence)));
            assert_eq!(asked(&events), ["challenge basic r 0 -"]);
            assert_eq!(origin.seen().len(), 3);
        }
    }
}

/// What the server refused is not stored; another answer than 401 is no refusal of the credential.
#[test]
fn what_is_not_stored() {
    let origin = Origin::new(by_realm);
    let storage = UrlCredentialStorage::new();
    let (session, _events) = answering(wrong(), &storage);
    assert_eq!(code(&session, origin.url("/r/")), -1011);
    assert!(storage.credentials_for(&space(&origin, "r")).is_empty());

    let origin = Origin::new(|request| match request.field("Authorization") {
        Some(_) => Answer::Keep("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_owned()),
        None => Answer::Keep(unauthorized(&["Basic realm=\"r\""])),
    });
    let (session, _events) = answering(me(ForSession), &storage);
    assert_eq!(code(&session, origin.url("/r/")), -1011);
    // Whether the server has looked at it nobody knows.
    assert_eq!(storage.default_credential_for(&space(&origin, "r")), None);
}

#[test]
fn without_a_storage_nothing_is_kept() {
    let origin = Origin::new(by_realm);
    let mut configuration = SessionConfiguration::ephemeral();
    configuration.url_credential_storage = None;
    let (guide, events) = Guide::new();
    let session = guide.credential(me(Permanent)).session(configuration);
    for _ in 0..2 {
        assert_eq!(code(&session, origin.url("/r/")), 0);
    }
    assert_eq!(asked(&events), ["challenge basic r 0 -"; 2]);
    assert_eq!(origin.seen().len(), 4);
}

/// A wrong one is proposed once, and default handling sends it once; with what the delegate knows better it is replaced.
#[test]
fn a_wrong_credential_in_the_storage() {
    let origin = Origin::new(by_realm);
    let storage = UrlCredentialStorage::new();
    storage.set(wrong(), &space(&origin, "r"));
    let (guide, events) = Guide::new();
    let session = guide.session(with(&storage));
    assert_eq!(code(&session, origin.url("/r/")), -1011);
    assert_eq!(asked(&events), ["challenge basic r 0 me", "challenge basic r 1 -"]);
    assert_eq!(sent(&origin), [None, Some(basic("me", "wrong"))]);

    let (guide, events) = Guide::new();
    let session = guide
        .challenge(|challenge, handler| match challenge.proposed_credential() {
            Some(_) => handler(PerformDefaultHandling, None),
            None => handler(UseCredential, Some(me(ForSession))),
        })
        .session(with(&storage));
    assert_eq!(code(&session, origin.url("/r/")), 0);
    assert_eq!(asked(&events), ["challenge basic r 0 me", "challenge basic r 1 -"]);
    assert_eq!(storage.default_credential_for(&space(&origin, "r")), Some(me(ForSession)));
    // Without a delegate, a wrong one is sent once.
    storage.set(wrong(), &space(&origin, "r"));
    let before = origin.seen().len();
    assert_eq!(code(&UrlSession::new(with(&storage)), origin.url("/r/")), -1011);
    assert_eq!(sent(&origin)[before..], [None, Some(basic("me", "wrong"))]);
}

/// What was good yesterday goes unasked, is refused, and is not proposed.
#[test]
fn a_credential_that_is_good_no_longer() {
    let origin = Origin::new(|request| match (request.field("Authorization"), request.target()) {
        (Some(value), "/r/0") if value == basic("me", "wrong") => Answer::Open(String::new()),
        _ => by_realm(request),
    });
    let storage = UrlCredentialStorage::new();
    let (guide, events) = Guide::new();
    let session = guide
        .challenge(|challenge, handler| match challenge.failure_response().unwrap().url().path() {
            "/r/0" => handler(UseCredential, Some(wrong())),
            _ => handler(UseCredential, Some(me(ForSession))),
        })
        .session(with(&storage));
    assert_eq!(code(&session, origin.url("/r/0")), 0);
    assert_eq!(code(&session, origin.url("/r/1")), 0);
    assert_eq!(code(&session, origin.url("/r/2")), 0);
    // What went unasked was no answer that failed.
    assert_eq!(asked(&events), ["challenge basic r 0 -", "challenge basic r 0 -"]);
    let expected = ["", "wrong", "wrong", "secret", "secret"];
    let expected = expected.map(|password| (!password.is_empty()).then(|| basic("me", password)));
    assert_eq!(sent(&origin), expected);
}

/// RFC 7617 §2.2: everything at or below the directory of the path where it was asked for.
#[test]
fn what_goes_unasked_below_the_path() {
    let table = [
        ("/r/a/b", "/r/a/b", true),
        ("/r/a/b", "/r/a/b?c", true),
        ("/r/a/b", "/r/a/", true),
        ("/r/a/b", "/r/a/c/d", true),
        ("/r/a/b", "/r/a", false),
        ("/r/a/b", "/r/ab", false),
        ("/r/a/b", "/r/", false),
        ("/r/a/b", "/", false),
        ("/r/a/b", "/r/a/../c", false),
        ("/r/a/", "/r/a/b", true),
        ("/r", "/s/t", true),
        ("/", "/anything", true),
    ];
    for (first, second, unasked) in table {
        let origin = Origin::new(by_realm);
        let (session, _events) = answering(me(ForSession), &UrlCredentialStorage::new());
        assert_eq!(code(&session, origin.url(first)), 0);
        let task = session.web_socket_task(origin.url(second));
        assert!(run(&task).is_ok());
        let third = sent(&origin)[2].clone();
        assert_eq!(third.is_some(), unasked, "{first} {second}");
    }
}

/// Nor to another port, host, protocol or realm.
#[test]
fn what_does_not_go_unasked() {
    let secure = Arc::clone(&trusted_server(BOTH));
    let first = Origin::new(by_realm);
    let others = [
        (Origin::new(by_realm), "127.0.0.1"),
        (Origin::new(by_realm), "localhost"),
        (Origin::secure(secure, by_realm), "127.0.0.1"),
    ];
    let mut configuration = SessionConfiguration::ephemeral();
    configuration.root_certificates = TRUSTED.configuration().root_certificates;
    let (guide, events) = Guide::new();
    let session = guide.credential(me(ForSession)).session(configuration);
    assert_eq!(code(&session, first.url("/r/")), 0);
    for (other, host) in &others {
        assert_eq!(code(&session, other.url_of(host, "/r/")), 0);
        assert_eq!(sent(other), [None, Some(basic("me", "secret"))]);
        assert_eq!(code(&session, other.url_of(host, "/r/")), 0);
        assert_eq!(sent(other)[2..], [Some(basic("me", "secret"))]);
    }
    // The same server by another name.
    assert_eq!(code(&session, first.url_of("localhost", "/r/")), 0);
    assert_eq!(sent(&first)[2..], [None, Some(basic("me", "secret"))]);
    assert_eq!(asked(&events), ["challenge basic r 0 -"; 5]);
    // Another realm of the server: asked there, and the first is sent below its path only.
    assert_eq!(code(&session, first.url("/s/")), 0);
    assert_eq!(asked(&events)[5..], ["challenge basic s 0 -"]);
}

/// What another realm below the same path wants is asked for, and remembered where it was.
#[test]
fn a_realm_below_another() {
    let origin = Origin::new(|request| {
        let (realm, wanted) = match request.target().starts_with("/r/deep/") {
            true => ("deep", basic("you", "hidden")),
            false => ("r", basic("me", "secret")),
        };
        match request.field("Authorization") {
            Some(value) if value == wanted => Answer::Open(String::new()),
            _ => Answer::Keep(unauthorized(&[&format!("Basic realm=\"{realm}\"")])),
        }
    });
    let (guide, events) = Guide::new();
    let session = guide
        .challenge(|challenge, handler| match challenge.protection_space().realm() {
            Some("deep") => handler(UseCredential, Some(UrlCredential::new("you", "hidden", ForSession))),
            _ => handler(UseCredential, Some(me(ForSession))),
        })
        .session(SessionConfiguration::ephemeral());
    for path in ["/r/a", "/r/deep/a", "/r/deep/b", "/r/b"] {
        assert_eq!(code(&session, origin.url(path)), 0);
    }
    assert_eq!(asked(&events), ["challenge basic r 0 -", "challenge basic deep 0 -"]);
    let (me, you) = (Some(basic("me", "secret")), Some(basic("you", "hidden")));
    assert_eq!(sent(&origin), [None, me.clone(), me.clone(), you.clone(), you, me]);
}

#[test]
fn two_sessions_share_a_storage() {
    let origin = Origin::new(by_realm);
    let storage = UrlCredentialStorage::new();
    let (first, _events) = answering(me(ForSession), &storage);
    assert_eq!(code(&first, origin.url("/r/")), 0);
    // The other one has it, but does not know where it is wanted.
    let (guide, events) = Guide::new();
    let second = guide.session(with(&storage));
    for _ in 0..2 {
        assert_eq!(code(&second, origin.url("/r/")), 0);
    }
    assert_eq!(asked(&events), ["challenge basic r 0 me"]);
    assert_eq!(sent(&origin).iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false, true, true]);
    // And one with another storage has nothing.
    let (guide, events) = Guide::new();
    let third = guide.session(SessionConfiguration::ephemeral());
    assert_eq!(code(&third, origin.url("/r/")), -1011);
    assert_eq!(asked(&events), ["challenge basic r 0 -"]);
}

/// What the program takes out of the storage goes nowhere any more, and what it changes goes changed.
#[test]
fn the_program_changes_the_storage() {
    let origin = Origin::new(by_realm);
    let storage = UrlCredentialStorage::new();
    let space = space(&origin, "r");
    let (session, events) = answering(me(ForSession), &storage);
    assert_eq!(code(&session, origin.url("/r/")), 0);
    storage.remove(&me(Permanent), &space);
    assert_eq!(code(&session, origin.url("/r/")), 0);
    assert_eq!(sent(&origin)[2..], [None, Some(basic("me", "secret"))]);
    assert_eq!(asked(&events).len(), 2);
    storage.set(wrong(), &space);
    assert_eq!(code(&session, origin.url("/r/")), 0);
    assert_eq!(sent(&origin)[4..], [Some(basic("me", "wrong")), Some(basic("me", "secret"))]);
    assert_eq!(asked(&events)[2..], ["challenge basic r 0 -"]);
    // What is wrong and stays there goes unasked once, and is a proposal from then on.
    let (session, events) = {
        let (guide, events) = Guide::new();
        (guide.session(with(&storage)), events)
    };
    assert_eq!(code(&session, origin.url("/r/")), 0);
    storage.set(wrong(), &space);
    let before = origin.seen().len();
    assert_eq!([code(&session, origin.url("/r/")), code(&session, origin.url("/r/"))], [-1011, -1011]);
    let refused = Some(basic("me", "wrong"));
    assert_eq!(sent(&origin)[before..], [refused.clone(), None, refused]);
    assert_eq!(asked(&events)[1..], ["challenge basic r 0 -", "challenge basic r 0 me", "challenge basic r 1 -"]);
}

/// After `reset` nothing goes unasked, not even what the program stores then: where it is wanted is forgotten, too.
#[test]
fn a_reset_forgets() {
    let origin = Origin::new(by_realm);
    let storage = UrlCredentialStorage::new();
    let (session, events) = answering(me(ForSession), &storage);
    assert_eq!(code(&session, origin.url("/r/")), 0);
    let (sender, receiver) = mpsc::channel();
    session.reset(move || sender.send(()).unwrap());
    receiver.recv_timeout(PATIENCE).unwrap();
    assert!(storage.credentials_for(&space(&origin, "r")).is_empty());
    storage.set(me(ForSession), &space(&origin, "r"));
    assert_eq!(code(&session, origin.url("/r/")), 0);
    assert_eq!(asked(&events), ["challenge basic r 0 -", "challenge basic r 0 me"]);
    assert_eq!(sent(&origin)[2..], [None, Some(basic("me", "secret"))]);
}

/// A caller's `Authorization` is sent instead of what would go unasked, and gives way to the answer to a challenge.
#[test]
fn a_callers_own_authorization() {
    for additional in [false, true] {
        let origin = Origin::new(|request| match request.target() {
            "/r/token" if request.fields("Authorization") == ["Bearer token"] => Answer::Open(String::new()),
            _ => by_realm(request),
        });
        let storage = UrlCredentialStorage::new();
        let mut configuration = with(&storage);
        if additional {
            configuration.http_additional_headers.insert("authorization".to_owned(), "Bearer token".to_owned());
        }
        let (guide, events) = Guide::new();
        let session = guide.credential(me(ForSession)).session(configuration);
        let request = |path: &str| {
            let mut request = UrlRequest::new(origin.url(path));
            if !additional {
                request.set_value("Bearer token", "AUTHORIZATION");
            }
            request
        };
        assert_eq!(code(&session, request("/r/")), 0);
        assert_eq!(code(&session, request("/r/token")), 0);
        assert_eq!(code(&session, request("/r/")), 0);
        let (token, answer) = (Some("Bearer token".to_owned()), Some(basic("me", "secret")));
        assert_eq!(sent(&origin), [token.clone(), answer.clone(), token.clone(), token, answer]);
        assert!(origin.seen().iter().all(|request| request.fields("Authorization").len() == 1));
        assert_eq!(asked(&events), ["challenge basic r 0 -", "challenge basic r 0 me"]);
    }
}

/// Unasked behind a redirect of the same origin, from the storage; not on the way from another.
#[test]
fn redirects_and_what_goes_unasked() {
    let origin = Origin::new(|request| match request.target() {
        "/from" => Answer::Keep(redirect(302, "/r/to")),
        _ => by_realm(request),
    });
    let (session, events) = answering(me(ForSession), &UrlCredentialStorage::new());
    assert_eq!(code(&session, origin.url("/r/")), 0);
    assert_eq!(code(&session, origin.url("/from")), 0);
    assert_eq!(sent(&origin)[2..], [None, Some(basic("me", "secret"))]);
    // From elsewhere into what is known: it is the server that it was stored for.
    let location = origin.url("/r/to").to_string();
    let elsewhere = Origin::new(move |_| Answer::Keep(redirect(302, &location)));
    assert_eq!(code(&session, elsewhere.url("/")), 0);
    assert_eq!(sent(&elsewhere), [None]);
    assert_eq!(sent(&origin)[4..], [Some(basic("me", "secret"))]);
    assert_eq!(asked(&events), ["challenge basic r 0 -"]);
}

/// The program takes it out while the server looks at it: it is not put back because it was good.
#[test]
fn what_is_taken_out_on_the_way_stays_out() {
    let storage = UrlCredentialStorage::new();
    let taken = storage.clone();
    let origin = Origin::new(move |request| {
        if request.target() == "/r/taken" {
            let space = UrlProtectionSpace::new(
                "127.0.0.1",
                request.field("Host").unwrap().rsplit(':').next().unwrap().parse().unwrap(),
                Some("http"),
                Some("r"),
                AuthenticationMethod::HttpBasic,
            );
            taken.remove(&me(Permanent), &space);
        }
        by_realm(request)
    });
    storage.set(me(Permanent), &space(&origin, "r"));
    let session = UrlSession::new(with(&storage));
    // Asked for, then unasked.
    for path in ["/r/first", "/r/second", "/r/taken"] {
        assert_eq!(code(&session, origin.url(path)), 0, "{path}");
    }
    assert!(storage.credentials_for(&space(&origin, "r")).is_empty());
    assert_eq!(code(&session, origin.url("/r/last")), -1011);
}

#[test]
fn what_cannot_be_sent_any_more_does_not_go_unasked() {
    let origin = Origin::new(by_realm);
    let storage = UrlCredentialStorage::new();
    let (session, events) = answering(me(ForSession), &storage);
    assert_eq!(code(&session, origin.url("/r/")), 0);
    storage.set(UrlCredential::new("me", "new\nline", ForSession), &space(&origin, "r"));
    assert_eq!(code(&session, origin.url("/r/")), 0);
    assert_eq!(asked(&events), ["challenge basic r 0 -", "challenge basic r 0 -"]);
    let mine = Some(basic("me", "secret"));
    assert_eq!(sent(&origin), [None, mine.clone(), None, mine]);
}

/// An account that the program has switched to is the one that goes unasked.
#[test]
fn the_default_credential_is_what_goes_unasked() {
    let origin = Origin::new(|request| match request.field("Authorization") {
        Some(_) => Answer::Open(String::new()),
        None => Answer::Keep(unauthorized(&["Basic realm=r"])),
    });
    let storage = UrlCredentialStorage::new();
    let (session, _events) = answering(me(ForSession), &storage);
    assert_eq!(code(&session, origin.url("/")), 0);
    storage.set_default_credential(UrlCredential::new("you", "other", ForSession), &space(&origin, "r"));
    assert_eq!(code(&session, origin.url("/")), 0);
    assert_eq!(sent(&origin)[2..], [Some(basic("you", "other"))]);
}
