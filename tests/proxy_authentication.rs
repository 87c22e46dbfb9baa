//! Proxies that ask who the client is: who answers, in which order, and that neither the server nor the proxy learns what is for the
//! other.

mod support;

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use support::digest::Gate;
use support::guide::{Guide, Kept, run, shown};
use support::hooks::eventually;
use support::origin::{Answer, Origin, Request, head, redirect, unauthorized};
use support::proxy::{HttpProxy, Reply, proxied, proxy_unauthorized};
use support::tls::{BOTH, TRUSTED, server_with, trusted_server};
use support::{Events, PATIENCE};
use urlsession::{
    AuthChallengeDisposition, AuthenticationChallenge, AuthenticationMethod, ChallengeHandler, CredentialPersistence,
    ErrorStage, HttpCookieStorage, ProxyConfiguration, SessionConfiguration, Url, UrlCredential, UrlCredentialStorage,
    UrlError, UrlProtectionSpace, UrlSession,
};

use AuthChallengeDisposition::{
    CancelAuthenticationChallenge, PerformDefaultHandling, RejectProtectionSpace, UseCredential,
};

/// `me` and `secret`; `me` and `wrong`.
const ME: &str = "Basic bWU6c2VjcmV0";
const WRONG: &str = "Basic bWU6d3Jvbmc=";
const BASIC: &str = "Basic realm=\"proxy\"";

fn configuration() -> SessionConfiguration {
    let mut configuration = SessionConfiguration::ephemeral();
    configuration.root_certificates = TRUSTED.configuration().root_certificates;
    configuration
}

fn me(persistence: CredentialPersistence) -> UrlCredential {
    UrlCredential::new("me", "secret", persistence)
}

fn opens(_: &Request) -> Answer {
    Answer::Open(String::new())
}

/// How a proxy says 407.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Asks {
    /// And waits for the next request.
    Keeping,
    Bytewise,
    /// And ends the connection, as it says.
    Closing,
    /// As RFC 1945 has it: without a word about it.
    Old,
    /// With a body in chunks.
    Chunked,
    /// And ends the connection in the middle of the body.
    Cut,
}

const WAYS: [Asks; 6] = [Asks::Keeping, Asks::Bytewise, Asks::Closing, Asks::Old, Asks::Chunked, Asks::Cut];

fn ask(way: Asks, challenges: &[&str]) -> Reply {
    let whole = proxy_unauthorized(challenges, "");
    match way {
        Asks::Keeping => Reply::Keep(whole),
        Asks::Bytewise => Reply::Bytewise(whole),
        Asks::Closing => Reply::Close(proxy_unauthorized(challenges, "Connection: close\r\n")),
        Asks::Old => Reply::Close(whole.replace("HTTP/1.1", "HTTP/1.0").replace("Content-Length: 9\r\n", "")),
        Asks::Chunked => Reply::Keep(
            whole
                .replace("Content-Length: 9", "Transfer-Encoding: chunked")
                .replace("who is it", "4\r\nwho?\r\n0\r\n\r\n"),
        ),
        Asks::Cut => Reply::Close(whole.replace("Content-Length: 9", "Content-Length: 90")),
    }
}

impl Asks {
    fn keeps(self) -> bool {
        matches!(self, Self::Keeping | Self::Bytewise | Self::Chunked)
    }
}

/// Lets in whoever says [`ME`].
fn basic(way: Asks) -> HttpProxy {
    HttpProxy::new(move |request| basic_reply(request, way))
}

fn basic_reply(request: &Request, way: Asks) -> Reply {
    match request.fields("Proxy-Authorization")[..] {
        [ME] => Reply::Tunnel,
        _ => ask(way, &[BASIC]),
    }
}

fn knows(proxy: &HttpProxy, user: &str, password: &str) -> ProxyConfiguration {
    let mut configuration = proxy.configuration();
    configuration.apply_credential(user, password);
    configuration
}

/// A session with this proxy whose delegate replies so.
fn replying(
    proxy: ProxyConfiguration,
    reply: impl Fn(&AuthenticationChallenge, ChallengeHandler) + Send + Sync + 'static,
) -> (UrlSession, Events) {
    let (guide, events) = Guide::new();
    (guide.challenge(reply).session(proxied(configuration(), vec![proxy])), events)
}

fn some(values: &[Option<&str>]) -> Vec<Option<String>> {
    values.iter().map(|value| value.map(str::to_owned)).collect()
}

/// Whether the error says that it is the proxy's, and is its 407.
#[track_caller]
fn assert_refused(error: &UrlError) {
    assert_eq!((error.raw_code(), error.stage()), (-1011, ErrorStage::Proxy), "{error}");
    assert_eq!(error.response().expect("the 407").status_code(), 407);
}

/// The server was told nothing of the proxy's, the proxy nothing of the server's.
#[track_caller]
fn assert_apart(proxy: &HttpProxy, origin: &Origin) {
    for request in origin.seen() {
        assert!(!request.head.to_lowercase().contains("proxy-"), "{}", request.head);
    }
    for request in proxy.seen() {
        for name in ["Authorization", "Cookie", "Sec-WebSocket-Key"] {
            assert_eq!(request.fields(name), [""; 0], "{}", request.head);
        }
        assert_eq!(request.method(), "CONNECT");
    }
}

// Who answers.

/// The configured credential answers by itself, on the connection where it can, and goes unasked from then on.
#[test]
fn the_configured_credential() {
    for way in WAYS {
        for secure in [false, true] {
            let proxy = match secure {
                true => HttpProxy::secure(trusted_server(BOTH), move |request| basic_reply(request, way)),
                false => basic(way),
            };
            let origin = Origin::new(opens);
            let (session, events) = replying(knows(&proxy, "me", "secret"), |_, _| panic!("nobody is to be asked"));
            let url = origin.url_of("origin.test", "/");
            run(&session.web_socket_task(&url)).unwrap_or_else(|error| panic!("{way:?}: {error}"));
            events.expect_to_open(&[""; 0]);
            assert_eq!(proxy.authorizations(), some(&[None, Some(ME)]), "{way:?}");
            assert_eq!(proxy.connections(), if way.keeps() { 1 } else { 2 }, "{way:?}");
            run(&session.web_socket_task(&url)).unwrap();
            assert_eq!(proxy.authorizations(), some(&[None, Some(ME), Some(ME)]), "{way:?}");
            assert_apart(&proxy, &origin);
        }
    }
}

#[test]
fn without_a_delegate() {
    let proxy = basic(Asks::Keeping);
    let origin = Origin::new(opens);
    let session = UrlSession::new(proxied(configuration(), vec![knows(&proxy, "me", "secret")]));
    run(&session.web_socket_task(origin.url_of("origin.test", "/"))).unwrap();
    // Without a credential, and with a wrong one, which is said once.
    for (configured, requests) in [(proxy.configuration(), 1), (knows(&proxy, "me", "wrong"), 2)] {
        let proxy_before = proxy.seen().len();
        let session = UrlSession::new(proxied(configuration(), vec![configured]));
        assert_refused(&run(&session.web_socket_task(origin.url_of("origin.test", "/"))).unwrap_err());
        assert_eq!(proxy.seen().len() - proxy_before, requests);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn what_a_delegate_is_asked() {
    for way in WAYS {
        for secure in [false, true] {
            let proxy = match secure {
                true => HttpProxy::secure(trusted_server(BOTH), move |request| basic_reply(request, way)),
                false => basic(way),
            };
            let origin = Origin::new(opens);
            let port = proxy.port();
            let (session, events) = replying(proxy.configuration(), move |challenge, handler| {
                let space = challenge.protection_space();
                assert!(space.is_proxy());
                assert_eq!((space.host(), space.port(), space.realm()), ("127.0.0.1", port, Some("proxy")));
                assert_eq!(space.authentication_method(), AuthenticationMethod::HttpBasic);
                assert_eq!(space.receives_credential_securely(), secure);
                let response = challenge.failure_response().unwrap();
                assert_eq!((response.status_code(), response.url().port()), (407, Some(port)));
                assert!(challenge.proposed_credential().is_none());
                let password = if challenge.previous_failure_count() == 2 { "secret" } else { "wrong" };
                handler(UseCredential, Some(UrlCredential::new("me", password, CredentialPersistence::None)));
            });
            run(&session.web_socket_task(origin.url_of("origin.test", "/")))
                .unwrap_or_else(|error| panic!("{way:?}: {error}"));
            events.expect_to_open(&[
                "challenge basic proxy 0 -",
                "challenge basic proxy 1 -",
                "challenge basic proxy 2 -",
            ]);
            assert_eq!(proxy.authorizations(), some(&[None, Some(WRONG), Some(WRONG), Some(ME)]), "{way:?}");
            assert_eq!(proxy.connections(), if way.keeps() { 1 } else { 4 }, "{way:?}");
            assert_apart(&proxy, &origin);
        }
    }
}

/// The delegate comes behind the configured credential, and knows that something has failed.
#[test]
fn a_wrong_configured_credential() {
    let proxy = basic(Asks::Keeping);
    let origin = Origin::new(opens);
    let (session, events) = replying(knows(&proxy, "me", "wrong"), |_, handler| {
        handler(UseCredential, Some(me(CredentialPersistence::None)))
    });
    run(&session.web_socket_task(origin.url_of("origin.test", "/"))).unwrap();
    events.expect_to_open(&["challenge basic proxy 1 -"]);
    assert_eq!(proxy.authorizations(), some(&[None, Some(WRONG), Some(ME)]));
}

#[test]
fn the_other_answers() {
    type Answering = fn(&AuthenticationChallenge, ChallengeHandler);
    let table: [(&str, Answering, i32); 5] = [
        ("default", |_, handler| handler(PerformDefaultHandling, None), -1011),
        ("no credential", |_, handler| handler(UseCredential, None), -1011),
        ("reject", |_, handler| handler(RejectProtectionSpace, None), -1011),
        ("no answer", |_, handler| drop(handler), -1011),
        ("cancel", |_, handler| handler(CancelAuthenticationChallenge, None), -999),
    ];
    for (name, reply, code) in table {
        for way in WAYS {
            let proxy = basic(way);
            let origin = Origin::new(opens);
            let (session, events) = replying(proxy.configuration(), reply);
            let task = session.web_socket_task(origin.url_of("origin.test", "/"));
            let error = run(&task).unwrap_err();
            assert_eq!(error.raw_code(), code, "{name}, {way:?}: {error}");
            if code == -1011 {
                assert_refused(&error);
            }
            events.expect(&["challenge basic proxy 0 -", &format!("complete {code}")]);
            assert_eq!((proxy.seen().len(), origin.connections()), (1, 0), "{name}");
        }
    }
}

#[test]
fn an_answer_from_another_thread_and_a_cancel() {
    let proxy = basic(Asks::Keeping);
    let origin = Origin::new(opens);
    let kept: Kept<ChallengeHandler> = Kept::default();
    let keep = kept.clone();
    let (session, events) = replying(proxy.configuration(), move |_, handler| keep.push(handler));
    session.web_socket_task(origin.url_of("origin.test", "/")).resume();
    events.wait_for("challenge");
    let handler = kept.wait();
    thread::spawn(move || handler(UseCredential, Some(me(CredentialPersistence::None)))).join().unwrap();
    events.expect_to_open(&["challenge basic proxy 0 -"]);

    let keep = kept.clone();
    let (session, events) = replying(proxy.configuration(), move |_, handler| keep.push(handler));
    let task = session.web_socket_task(origin.url_of("origin.test", "/"));
    task.resume();
    events.wait_for("challenge");
    task.cancel();
    events.expect(&["challenge basic proxy 0 -", "complete -999"]);
    kept.wait()(UseCredential, Some(me(CredentialPersistence::None)));
    assert_eq!((proxy.seen().len(), origin.connections()), (3, 1));
}

/// What a delegate gives to be kept is kept for the proxy, and for nobody else.
#[test]
fn the_storage() {
    let proxy = basic(Asks::Keeping);
    let origin = Origin::new(opens);
    let storage = UrlCredentialStorage::new();
    let with_storage = || {
        let mut configuration = proxied(configuration(), vec![proxy.configuration()]);
        configuration.url_credential_storage = Some(storage.clone());
        configuration
    };
    let spaces: Kept<UrlProtectionSpace> = Kept::default();
    let keep = spaces.clone();
    let (guide, events) = Guide::new();
    let session = guide
        .challenge(move |challenge, handler| {
            keep.push(challenge.protection_space().clone());
            handler(UseCredential, Some(me(CredentialPersistence::ForSession)));
        })
        .session(with_storage());
    let url = origin.url_of("origin.test", "/");
    run(&session.web_socket_task(&url)).unwrap();
    run(&session.web_socket_task(&url)).unwrap();
    let asked: Vec<String> = events.log().into_iter().filter(|event| event.contains("challenge")).collect();
    assert_eq!(asked, ["challenge basic proxy 0 -"]);
    let space = spaces.wait();
    assert_eq!(storage.credentials_for(&space).keys().collect::<Vec<_>>(), ["me"]);
    // The same host, port and realm of a server is another space.
    for protocol in [Some("http"), Some("https"), None] {
        let of_server = UrlProtectionSpace::new(
            "127.0.0.1",
            proxy.port(),
            protocol,
            Some("proxy"),
            AuthenticationMethod::HttpBasic,
        );
        assert!(storage.credentials_for(&of_server).is_empty());
    }
    // Another session that shares the storage answers with it by default, where nobody is asked and where somebody leaves it so.
    run(&UrlSession::new(with_storage()).web_socket_task(&url)).unwrap();
    let (guide, events) = Guide::new();
    let session = guide.session(with_storage());
    run(&session.web_socket_task(&url)).unwrap();
    events.expect_to_open(&["challenge basic proxy 0 me"]);
    assert_apart(&proxy, &origin);
}

/// A wrong one is not kept.
#[test]
fn what_fails_is_not_stored() {
    let proxy = basic(Asks::Keeping);
    let origin = Origin::new(opens);
    let storage = UrlCredentialStorage::new();
    let mut configuration = proxied(configuration(), vec![proxy.configuration()]);
    configuration.url_credential_storage = Some(storage.clone());
    let spaces: Kept<UrlProtectionSpace> = Kept::default();
    let keep = spaces.clone();
    let (guide, _events) = Guide::new();
    let session = guide
        .challenge(move |challenge, handler| {
            keep.push(challenge.protection_space().clone());
            match challenge.previous_failure_count() {
                0 => handler(UseCredential, Some(UrlCredential::new("me", "wrong", CredentialPersistence::ForSession))),
                _ => handler(RejectProtectionSpace, None),
            }
        })
        .session(configuration);
    assert_refused(&run(&session.web_socket_task(origin.url_of("origin.test", "/"))).unwrap_err());
    assert!(storage.credentials_for(&spaces.wait()).is_empty());
}

/// A proxy that is never content is not asked for ever.
#[test]
fn a_proxy_that_is_never_content() {
    for way in [Asks::Keeping, Asks::Closing] {
        let proxy = HttpProxy::new(move |_| ask(way, &[BASIC]));
        let origin = Origin::new(opens);
        let (session, _events) =
            replying(proxy.configuration(), |_, handler| handler(UseCredential, Some(me(CredentialPersistence::None))));
        assert_refused(&run(&session.web_socket_task(origin.url_of("origin.test", "/"))).unwrap_err());
        assert!((2..=21).contains(&proxy.seen().len()), "{} requests", proxy.seen().len());
    }
}

// What a proxy offers.

/// The target of the request is what is hashed, and the count rises from tunnel to tunnel.
#[test]
fn digest() {
    for algorithm in ["", "MD5", "MD5-sess", "SHA-256", "SHA-256-sess", "SHA-512-256"] {
        for way in [Asks::Keeping, Asks::Closing] {
            let gate = Arc::new(Gate { algorithm, realm: "proxy", ..Gate::default() });
            let checked = Arc::clone(&gate);
            let proxy = HttpProxy::new(move |request| match checked.check_proxy(request) {
                Ok(_) => Reply::Tunnel,
                Err(_) => ask(way, &[&checked.challenge("nonce", "")]),
            });
            let origin = Origin::new(opens);
            let (session, events) = replying(knows(&proxy, "me", "secret"), |_, _| panic!("nobody is to be asked"));
            let url = origin.url_of("origin.test", "/path");
            for _ in 0..3 {
                run(&session.web_socket_task(&url)).unwrap_or_else(|error| panic!("{algorithm:?}, {way:?}: {error}"));
            }
            assert!(!events.log().iter().any(|event| event.contains("challenge")));
            let requests = proxy.seen();
            assert_eq!(requests.len(), 4, "{algorithm:?}");
            let uri = format!("uri=\"origin.test:{}\"", origin.port());
            for request in &requests[1..] {
                let field = request.field("Proxy-Authorization").unwrap();
                assert!(field.contains(&uri) && !field.contains("secret"), "{field}");
            }
            assert_eq!(gate.counts.lock().unwrap()["nonce"], 3);
            assert_apart(&proxy, &origin);
        }
    }
}

/// An old nonce is no wrong password: nobody is asked.
#[test]
fn a_stale_nonce() {
    let gate = Gate { realm: "proxy", ..Gate::default() };
    let proxy = HttpProxy::new(move |request| match gate.check_proxy(request) {
        Ok(given) if given.nonce == "new" => Reply::Tunnel,
        Ok(_) => ask(Asks::Keeping, &[&gate.challenge("new", ", stale=true")]),
        Err(_) => ask(Asks::Keeping, &[&gate.challenge("old", "")]),
    });
    let origin = Origin::new(opens);
    let (session, events) =
        replying(proxy.configuration(), |_, handler| handler(UseCredential, Some(me(CredentialPersistence::None))));
    run(&session.web_socket_task(origin.url_of("origin.test", "/"))).unwrap();
    events.expect_to_open(&["challenge digest proxy 0 -"]);
    assert_eq!(proxy.seen().len(), 3);
}

/// The strongest first; what is not spoken is shown and passed over; what is for a server is no challenge of a proxy.
#[test]
fn offers() {
    let digest = "Digest realm=\"proxy\", nonce=\"n\", qop=\"auth\", algorithm=SHA-256";
    let table: [(&[&str], &[&str]); 5] = [
        (&[BASIC, digest], &["challenge digest proxy 0 -", "challenge basic proxy 0 -"]),
        (&["NTLM"], &["session challenge ntlm - 0 -", "challenge ntlm - 0 -"]),
        (
            &["Negotiate", BASIC],
            &["session challenge negotiate - 0 -", "challenge negotiate - 0 -", "challenge basic proxy 0 -"],
        ),
        (&["Bearer realm=\"x\""], &[]),
        (&[], &[]),
    ];
    for (lines, expected) in table {
        let owned: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        let proxy = HttpProxy::new(move |_| {
            let lines: Vec<&str> = owned.iter().map(String::as_str).collect();
            Reply::Keep(proxy_unauthorized(&lines, "WWW-Authenticate: Basic realm=\"not yours\"\r\n"))
        });
        let origin = Origin::new(opens);
        // Who drops the handler of a connection's question leaves it to the next in line; the others are rejected.
        let (session, events) = replying(proxy.configuration(), |challenge, handler| {
            assert!(challenge.protection_space().is_proxy(), "{}", shown(challenge));
            match challenge.protection_space().authentication_method() {
                AuthenticationMethod::Ntlm | AuthenticationMethod::Negotiate => drop(handler),
                _ => handler(RejectProtectionSpace, None),
            }
        });
        assert_refused(&run(&session.web_socket_task(origin.url_of("origin.test", "/"))).unwrap_err());
        let log: Vec<String> = events.log().into_iter().filter(|event| event.contains("challenge")).collect();
        assert_eq!(log, expected, "{lines:?}");
    }
}

// Who learns what.

/// A 401 is no proxy's to say: the address's user stays where it is, and nobody is asked.
#[test]
fn a_401_from_a_proxy() {
    let proxy = HttpProxy::new(|_| {
        let lines = format!("WWW-Authenticate: Basic realm=\"here\"\r\nProxy-Authenticate: {BASIC}\r\n");
        Reply::Keep(head("401 Unauthorized", &lines))
    });
    let origin = Origin::new(opens);
    let (session, events) = replying(knows(&proxy, "proxy", "password"), |_, handler| {
        handler(UseCredential, Some(me(CredentialPersistence::None)))
    });
    let url = origin.url_of("origin.test", "/").to_string().replace("://", "://me:secret@");
    let error = run(&session.web_socket_task(Url::parse(&url).unwrap())).unwrap_err();
    assert_eq!((error.raw_code(), error.response().unwrap().status_code()), (-1011, 401));
    events.expect(&["complete -1011"]);
    assert_eq!(proxy.authorizations(), some(&[None]));
    assert_apart(&proxy, &origin);
}

/// A 407 is no server's to say: what the proxy is told stays where it is.
#[test]
fn a_407_from_the_server() {
    for through in [true, false] {
        let proxy = basic(Asks::Keeping);
        let origin = Origin::new(|_| Answer::Keep(proxy_unauthorized(&[BASIC], "")));
        let proxies = if through { vec![knows(&proxy, "me", "secret")] } else { Vec::new() };
        let (guide, events) = Guide::new();
        let session = guide.credential(me(CredentialPersistence::None)).session(proxied(configuration(), proxies));
        let error =
            run(&session.web_socket_task(origin.url_of(if through { "origin.test" } else { "127.0.0.1" }, "/")))
                .unwrap_err();
        assert_eq!((error.raw_code(), error.response().unwrap().status_code()), (-1011, 407));
        events.expect(&["complete -1011"]);
        assert_eq!(origin.seen().len(), 1);
        assert_apart(&proxy, &origin);
    }
}

/// Both ask, in the same words. Each gets what is for it, by whomever it was given.
#[test]
fn a_proxy_and_a_server_that_ask() {
    const SERVER: &str = "Basic c2VydmVyOmhlcnM=";
    for secure in [false, true] {
        let proxy = basic(Asks::Keeping);
        let answer = |request: &Request| match request.fields("Authorization")[..] {
            [SERVER] => Answer::Open(String::new()),
            _ => Answer::Keep(unauthorized(&[BASIC])),
        };
        let origin = match secure {
            true => Origin::secure(server_with(BOTH, TRUSTED.sign(&["origin.test"], |_| ())), answer),
            false => Origin::new(answer),
        };
        let (session, events) = replying(proxy.configuration(), |challenge, handler| {
            let credential = match challenge.protection_space().is_proxy() {
                true => me(CredentialPersistence::ForSession),
                false => UrlCredential::new("server", "hers", CredentialPersistence::ForSession),
            };
            handler(UseCredential, Some(credential));
        });
        let url = origin.url_of("origin.test", "/");
        run(&session.web_socket_task(&url)).unwrap();
        events.expect_to_open(&["challenge basic proxy 0 -"; 2]);
        run(&session.web_socket_task(&url)).unwrap();
        assert_eq!(proxy.authorizations(), some(&[None, Some(ME), Some(ME)]));
        let authorizations: Vec<_> =
            origin.seen().iter().map(|request| request.field("Authorization").map(str::to_owned)).collect();
        assert_eq!(authorizations, some(&[None, Some(SERVER), Some(SERVER)]));
        assert_apart(&proxy, &origin);
    }
}

/// The same names in the two fields: a server that happens to be the proxy gets nothing by it.
#[test]
fn a_redirect_to_another_server() {
    let proxy = basic(Asks::Closing);
    let second = Origin::new(opens);
    let target = second.url_of("other.test", "/").to_string();
    let first = Origin::new(move |_| Answer::Keep(redirect(302, &target)));
    let (session, _events) = replying(knows(&proxy, "me", "secret"), |_, _| panic!("nobody is to be asked"));
    run(&session.web_socket_task(first.url_of("origin.test", "/"))).unwrap();
    // The second tunnel's request knows what the proxy wants.
    assert_eq!(proxy.authorizations(), some(&[None, Some(ME), Some(ME)]));
    for origin in [&first, &second] {
        assert_apart(&proxy, origin);
    }
}

/// A second proxy is another space: the first one's password is not for it.
#[test]
fn another_proxy() {
    let (first, second) = (basic(Asks::Keeping), basic(Asks::Keeping));
    let origin = Origin::new(opens);
    let mut of_first = knows(&first, "me", "secret");
    of_first.match_domains.push("first.test".to_owned());
    let (guide, events) = Guide::new();
    let session = guide.session(proxied(configuration(), vec![of_first, second.configuration()]));
    run(&session.web_socket_task(origin.url_of("first.test", "/"))).unwrap();
    assert_refused(&run(&session.web_socket_task(origin.url_of("second.test", "/"))).unwrap_err());
    assert_eq!(second.authorizations(), some(&[None]));
    assert!(events.log().contains(&"challenge basic proxy 0 -".to_owned()));
}

/// What a proxy wants to have kept is not kept.
#[test]
fn a_proxys_cookies() {
    let proxy = HttpProxy::new(|request| match request.field("Proxy-Authorization") {
        Some(ME) => Reply::Tunnel,
        _ => Reply::Keep(proxy_unauthorized(&[BASIC], "Set-Cookie: a=1; Path=/\r\n")),
    });
    let origin = Origin::new(opens);
    let cookies = HttpCookieStorage::new();
    let mut configuration = proxied(configuration(), vec![knows(&proxy, "me", "secret")]);
    configuration.http_cookie_storage = Some(cookies.clone());
    run(&UrlSession::new(configuration).web_socket_task(origin.url_of("origin.test", "/"))).unwrap();
    assert!(cookies.cookies().is_empty());
    assert_eq!(origin.seen()[0].field("Cookie"), None);
}

/// A user with a colon, and one with a line end, cannot be sent with Basic. The proxy is told nothing.
#[test]
fn what_cannot_be_sent() {
    for (user, password) in [("Mu:fasa", "unspoken"), ("Mufasa", "uns\npoken")] {
        let proxy = basic(Asks::Keeping);
        let origin = Origin::new(opens);
        let session = UrlSession::new(proxied(configuration(), vec![knows(&proxy, user, password)]));
        let error = run(&session.web_socket_task(origin.url_of("origin.test", "/"))).unwrap_err();
        assert_eq!(error.raw_code(), -1011, "{error}");
        let text = format!("{error} {error:?}");
        assert!(!text.contains("fasa") && !text.contains("poken"), "{text}");
        assert_eq!(proxy.authorizations(), some(&[None]));
    }
}

/// A body without an end keeps nobody: the answer goes out on another connection.
#[test]
fn a_407_whose_body_does_not_end() {
    let (sender, receiver) = mpsc::channel();
    let proxy = HttpProxy::new(move |request| match request.field("Proxy-Authorization") {
        Some(ME) => Reply::Tunnel,
        _ => {
            let _ = sender.send(());
            Reply::Hang(
                proxy_unauthorized(&[BASIC], "").replace("Content-Length: 9", "Content-Length: 99").into_bytes(),
            )
        }
    });
    let origin = Origin::new(opens);
    let session = UrlSession::new(proxied(configuration(), vec![knows(&proxy, "me", "secret")]));
    run(&session.web_socket_task(origin.url_of("origin.test", "/"))).unwrap();
    receiver.recv_timeout(PATIENCE).unwrap();
    assert_eq!(proxy.connections(), 2);
}

/// A kept connection that the proxy ends before the answer: the answer goes out once more.
#[test]
fn a_kept_connection_that_is_lost() {
    let proxy = HttpProxy::new(|request| match (request.connection, request.field("Proxy-Authorization")) {
        (0, Some(_)) => Reply::Nothing,
        (_, Some(ME)) => Reply::Tunnel,
        _ => Reply::Keep(proxy_unauthorized(&[BASIC], "")),
    });
    let origin = Origin::new(opens);
    let session = UrlSession::new(proxied(configuration(), vec![knows(&proxy, "me", "secret")]));
    run(&session.web_socket_task(origin.url_of("origin.test", "/"))).unwrap();
    assert_eq!(proxy.connections(), 2);
}

/// A refusal behind an answer is a refusal.
#[test]
fn a_403_behind_the_answer() {
    let proxy = HttpProxy::new(|request| match request.field("Proxy-Authorization") {
        Some(_) => Reply::Keep(head("403 Forbidden", "")),
        None => Reply::Keep(proxy_unauthorized(&[BASIC], "")),
    });
    let origin = Origin::new(opens);
    let session = UrlSession::new(proxied(configuration(), vec![knows(&proxy, "me", "secret")]));
    let error = run(&session.web_socket_task(origin.url_of("origin.test", "/"))).unwrap_err();
    assert_eq!((error.raw_code(), error.response().unwrap().status_code()), (-1011, 403));
    eventually("the end", || proxy.seen().len() == 2);
    assert_eq!(origin.connections(), 0);
}
