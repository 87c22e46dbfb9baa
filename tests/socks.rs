//! SOCKS version 5 (RFC 1928), with and without a user and a password (RFC 1929): what a proxy is asked, and what its answers come to.

mod support;

use std::net::TcpListener;

use support::guide::{Guide, run};
use support::hooks::eventually;
use support::origin::{Answer, Origin, Request};
use support::proxy::proxied;
use support::recorded_session_with;
use support::socks::{SocksAsked, SocksProxy, SocksRules};
use support::tls::{BOTH, TRUSTED, server_with};
use urlsession::{ErrorStage, ProxyConfiguration, SessionConfiguration, Url, UrlError, UrlSession};

fn configuration() -> SessionConfiguration {
    let mut configuration = SessionConfiguration::ephemeral();
    configuration.root_certificates = TRUSTED.configuration().root_certificates;
    configuration
}

fn session_through(proxy: ProxyConfiguration) -> UrlSession {
    UrlSession::new(proxied(configuration(), vec![proxy]))
}

fn opens(_: &Request) -> Answer {
    Answer::Open(String::new())
}

fn secure_origin() -> Origin {
    Origin::secure(server_with(BOTH, TRUSTED.sign(&["origin.test", "127.0.0.1"], |_| ())), opens)
}

/// Whether the error says that it is the proxy's.
fn is_of_proxy(error: &UrlError) -> bool {
    error.stage() == ErrorStage::Proxy
}

fn with_user(proxy: &SocksProxy, user: &str, password: &str) -> ProxyConfiguration {
    let mut configuration = proxy.configuration();
    configuration.apply_credential(user, password);
    configuration
}

/// The failure of a task to a name that only the proxy could know. Nothing went through.
#[track_caller]
fn refused(rules: SocksRules) -> UrlError {
    let proxy = SocksProxy::new(rules);
    let origin = Origin::new(opens);
    let error = run(&session_through(proxy.configuration()).web_socket_task(origin.url_of("origin.test", "/")))
        .expect_err("the proxy refuses");
    assert!(is_of_proxy(&error), "{error}");
    assert!(proxy.through().is_empty() && origin.connections() == 0);
    error
}

#[test]
fn names_go_unresolved_and_addresses_as_they_are() {
    for bytewise in [false, true] {
        let proxy = SocksProxy::new(SocksRules { bytewise, ..SocksRules::default() });
        let session = session_through(proxy.configuration());
        let plain = Origin::new(opens);
        let secure = secure_origin();
        let mut expected = Vec::new();
        let mut open = |origin: &Origin, host: &str, kind| {
            run(&session.web_socket_task(origin.url_of(host, "/"))).unwrap_or_else(|error| panic!("{host}: {error}"));
            let target = format!("{}:{}", host.to_lowercase(), origin.port());
            expected.push(SocksAsked { methods: vec![0], credential: None, kind, target });
            assert_eq!(proxy.asked(), expected);
        };
        open(&plain, "origin.test", 3);
        open(&plain, "Origin.TEST", 3);
        open(&plain, "127.0.0.1", 1);
        open(&secure, "origin.test", 3);
        open(&secure, "127.0.0.1", 1);
        if let Some(origin) = Origin::new_v6(opens) {
            open(&origin, "[::1]", 4);
        }
    }
}

/// The address that the reply names is of any kind, and concerns nobody.
#[test]
fn replies_of_every_kind() {
    let table = [
        vec![1, 10, 0, 0, 1, 0x1f, 0x90],
        [&[4][..], &[0x20; 16], &[0, 80]].concat(),
        [&[3, 9][..], b"somewhere", &[0, 80]].concat(),
        [&[3, 255][..], &[b'x'; 255], &[0, 0]].concat(),
        vec![3, 0, 0, 0],
    ];
    for bound in table {
        for bytewise in [false, true] {
            let proxy = SocksProxy::new(SocksRules { bound: bound.clone(), bytewise, ..SocksRules::default() });
            for origin in [Origin::new(opens), secure_origin()] {
                let session = session_through(proxy.configuration());
                run(&session.web_socket_task(origin.url_of("origin.test", "/")))
                    .unwrap_or_else(|error| panic!("{bound:?}: {error}"));
            }
        }
    }
}

#[test]
fn a_user_and_a_password() {
    let long = ["u".repeat(255), "p".repeat(255)];
    let pairs: [(&'static str, &'static str); 3] = [
        ("me", "secret"),
        ("J\u{e4}s\u{f8}n", "p\u{e4}ss: \u{4f60}"),
        (String::leak(long[0].clone()), String::leak(long[1].clone())),
    ];
    for (user, password) in pairs {
        for bytewise in [false, true] {
            let proxy = SocksProxy::new(SocksRules { user: Some((user, password)), bytewise, ..SocksRules::default() });
            let origin = Origin::new(opens);
            let session = session_through(with_user(&proxy, user, password));
            run(&session.web_socket_task(origin.url_of("origin.test", "/"))).unwrap();
            let asked = &proxy.asked()[0];
            assert!(asked.methods.contains(&2), "{:?}", asked.methods);
            assert_eq!(asked.credential, Some((user.to_owned(), password.to_owned())));
            // The server learns nothing of it.
            let head = &origin.seen()[0].head;
            assert!(!head.contains("Authorization") && !head.contains(password), "{head}");
        }
    }
    // Where the proxy does not ask, nobody tells.
    let proxy = SocksProxy::open();
    let origin = Origin::new(opens);
    run(&session_through(with_user(&proxy, "me", "secret")).web_socket_task(origin.url_of("origin.test", "/")))
        .unwrap();
    assert_eq!(proxy.asked()[0].credential, None);
}

/// Nobody is asked: a delegate has no say in SOCKS.
#[test]
fn a_user_that_the_proxy_does_not_let_in() {
    let rules = SocksRules { user: Some(("me", "secret")), ..SocksRules::default() };
    for configured in [Some(("me", "wr0ng")), None] {
        let proxy = SocksProxy::new(rules.clone());
        let configuration_of_proxy = match configured {
            Some((user, password)) => with_user(&proxy, user, password),
            None => proxy.configuration(),
        };
        let origin = Origin::new(opens);
        let (guide, events) = Guide::new();
        let session = guide.session(proxied(configuration(), vec![configuration_of_proxy]));
        let mut url = origin.url_of("origin.test", "/");
        // The user of the address is the server's.
        url.set_username("me").unwrap();
        url.set_password(Some("secret")).unwrap();
        let error = run(&session.web_socket_task(url)).unwrap_err();
        assert_eq!(error.raw_code(), -1013, "{error}");
        assert!(is_of_proxy(&error), "{error}");
        let text = format!("{error} {error:?}");
        assert!(!text.contains("wr0ng") && !text.contains("secret"), "{text}");
        events.expect(&["complete -1013"]);
        assert_eq!(proxy.asked()[0].kind, 0, "the server was named all the same");
        assert_eq!(origin.connections(), 0);
    }
}

#[test]
fn every_reply_code_has_its_words() {
    let table = [
        (1, "general"),
        (2, "not allowed"),
        (3, "network"),
        (4, "host"),
        (5, "refused"),
        (6, "time to live"),
        (7, "command"),
        (8, "address"),
        (9, "9"),
        (255, "255"),
    ];
    for (reply, words) in table {
        for bytewise in [false, true] {
            let error = refused(SocksRules { reply, bytewise, ..SocksRules::default() });
            assert_eq!(error.raw_code(), -1004, "{reply}: {error}");
            assert!(error.reason().to_lowercase().contains(&words.to_lowercase()), "{reply}: {error}");
        }
    }
}

/// A refusal is an answer: neither the next proxy nor the server itself is tried.
#[test]
fn a_refusal_is_final() {
    let (proxy, next) = (SocksProxy::new(SocksRules { reply: 2, ..SocksRules::default() }), SocksProxy::open());
    let origin = Origin::new(opens);
    let proxies = [&proxy, &next].map(|proxy| {
        let mut configuration = proxy.configuration();
        configuration.allow_failover = true;
        configuration
    });
    let session = UrlSession::new(proxied(configuration(), proxies.to_vec()));
    assert_eq!(run(&session.web_socket_task(origin.url("/"))).unwrap_err().raw_code(), -1004);
    assert_eq!((proxy.connections(), next.connections(), origin.connections()), (1, 0, 0));
}

#[test]
fn what_is_no_socks() {
    let table: [(&str, usize, Vec<u8>); 8] = [
        ("version 4", 0, vec![4, 0]),
        ("HTTP", 0, b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        ("a method that was not offered", 0, vec![5, 2]),
        ("GSSAPI", 0, vec![5, 1]),
        ("a reply of version 4", 1, vec![4, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
        ("an address of no kind", 1, vec![5, 0, 0, 2, 0, 0, 0, 0, 0, 0]),
        ("another address of no kind", 1, vec![5, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("HTTP for a reply", 1, b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
    ];
    for (name, number, bytes) in table {
        for bytewise in [false, true] {
            let rules = SocksRules { instead: Some((number, bytes.clone())), bytewise, ..SocksRules::default() };
            let proxy = SocksProxy::new(rules);
            let (session, _, events) =
                recorded_session_with(proxied(configuration(), vec![proxy.configuration()]), None);
            // A server that is there: the proxy connects before it replies.
            let origin = Origin::new(opens);
            let task = session.web_socket_task(origin.url_of("origin.test", "/"));
            task.resume();
            events.wait_for("complete");
            let error = task.error().expect(name);
            assert!([-1017, -1004, -1013].contains(&error.raw_code()) && is_of_proxy(&error), "{name}: {error}");
            assert!(!proxy.through().windows(4).any(|window| window == b"GET "), "{name}");
        }
    }
    // The sub-negotiation has a version of its own.
    let rules = SocksRules { user: Some(("me", "secret")), instead: Some((1, vec![5, 0])), ..SocksRules::default() };
    let proxy = SocksProxy::new(rules);
    let session = session_through(with_user(&proxy, "me", "secret"));
    let error = run(&session.web_socket_task(Url::parse("ws://origin.test/").unwrap())).unwrap_err();
    assert!([-1017, -1013].contains(&error.raw_code()) && is_of_proxy(&error), "{error}");
}

/// The proxy goes away: before its first word, between two, and in the middle of one.
#[test]
fn an_early_end() {
    for (ends_after, cut) in [(0, None), (1, None), (1, Some(1)), (2, Some(0)), (2, Some(3)), (2, Some(9))] {
        let error = refused_by_end(SocksRules { ends_after: Some(ends_after), cut, ..SocksRules::default() });
        assert!([-1005, 54].contains(&error.raw_code()), "after {ends_after}, {cut:?}: {error}");
    }
}

fn refused_by_end(rules: SocksRules) -> UrlError {
    let proxy = SocksProxy::new(rules);
    let session = session_through(proxy.configuration());
    // A server that is there: the proxy connects before it replies.
    let origin = Origin::new(opens);
    let error = run(&session.web_socket_task(origin.url_of("origin.test", "/"))).expect_err("the proxy goes");
    assert!(is_of_proxy(&error), "{error}");
    assert!(proxy.through().is_empty() && origin.seen().is_empty());
    error
}

/// What comes behind the reply belongs to the tunnel.
#[test]
fn bytes_behind_the_reply() {
    let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    let reply = [&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], answer].concat();
    let proxy = SocksProxy::new(SocksRules { instead: Some((1, reply)), ..SocksRules::default() });
    let origin = Origin::new(|_| Answer::Nothing);
    let error =
        run(&session_through(proxy.configuration()).web_socket_task(origin.url_of("origin.test", "/"))).unwrap_err();
    assert!([-1011, -1017].contains(&error.raw_code()) && !is_of_proxy(&error), "{error}");
}

/// RFC 1928 and 1929 count with one byte. What is longer is said by nobody.
#[test]
fn what_cannot_be_said() {
    let proxy = SocksProxy::new(SocksRules { user: Some(("me", "secret")), ..SocksRules::default() });
    let long = "x".repeat(256);
    for (user, password) in [(&*long, "secret"), ("me", &*long)] {
        let session = session_through(with_user(&proxy, user, password));
        let error = run(&session.web_socket_task(Url::parse("ws://origin.test/").unwrap())).unwrap_err();
        assert!(is_of_proxy(&error) || error.reason().contains("255"), "{error}");
        assert!(!format!("{error} {error:?}").contains(&long), "{error}");
    }
    assert!(proxy.asked().iter().all(|asked| asked.credential.is_none() && asked.kind == 0));
}

#[test]
fn a_cancel_before_the_reply() {
    // A listener that takes the connection and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = ProxyConfiguration::socks_v5("127.0.0.1", listener.local_addr().unwrap().port());
    let (session, _, events) = recorded_session_with(proxied(configuration(), vec![proxy]), None);
    let task = session.web_socket_task(Url::parse("ws://origin.test/").unwrap());
    task.resume();
    let (stream, _) = listener.accept().unwrap();
    task.cancel();
    events.expect(&["complete -999"]);
    stream.set_nonblocking(true).unwrap();
    eventually("the end of the connection", || {
        let mut buffer = [0; 64];
        match std::io::Read::read(&mut &stream, &mut buffer) {
            Ok(count) => count == 0,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        }
    });
}
