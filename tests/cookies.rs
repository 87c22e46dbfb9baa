//! Cookies on the way to the open socket: which the server is sent, and which of its answer are stored.
//!
//! What is kept and for whom is beside the code, in `src/foundation/cookies`; files are in `cookie_files.rs`.

mod support;

use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use support::hooks::{Called, hooks};
use support::tls::{BOTH, TRUSTED, TlsPeer, trusted_server};
use support::{PATIENCE, Peer, Server, accept_for, field, recorded_session_with};
use urlsession::{
    HttpCookie, HttpCookieAcceptPolicy, HttpCookieStorage, SessionConfiguration, TaskMetrics, Url, UrlRequest,
    UrlSession,
};

/// A session's configuration with a storage of its own, and the storage.
fn own_storage() -> (SessionConfiguration, HttpCookieStorage) {
    let configuration = SessionConfiguration::ephemeral();
    let storage = configuration.http_cookie_storage.clone().unwrap();
    (configuration, storage)
}

/// Opens a WebSocket whose 101 has these lines; the request as the server saw it.
#[track_caller]
fn request_of(
    configuration: &SessionConfiguration,
    lines: &str,
    change: impl FnOnce(&mut UrlRequest),
) -> (String, TaskMetrics) {
    let (sender, requests) = mpsc::channel();
    let lines = lines.to_owned();
    let server = Server::one(move |mut peer| {
        sender.send(peer.open_with(&lines)).unwrap();
        peer.close(1000, "");
        peer.read_close();
    });
    let (told, metrics) = mpsc::channel();
    let delegate = hooks(move |_, _, called| {
        if let Called::Metrics(metrics) = called {
            told.send(metrics.clone()).unwrap();
        }
    });
    let session = UrlSession::with_delegate(configuration.clone(), Some(delegate), None);
    let mut request = UrlRequest::new(server.url_with("/chat/room"));
    change(&mut request);
    session.web_socket_task(request).resume();
    let metrics = metrics.recv_timeout(PATIENCE).unwrap();
    let request = requests.recv_timeout(PATIENCE).unwrap();
    server.join();
    let cookies = request.lines().filter(|line| line.to_lowercase().starts_with("cookie:")).count();
    assert!(cookies <= 1, "one field at most:\n{request}");
    assert_eq!(metrics.transaction_metrics[0].request.value("Cookie"), field(&request, "Cookie"));
    assert_eq!(metrics.transaction_metrics[0].count_of_request_header_bytes_sent, request.len() as i64);
    (request, metrics)
}

#[track_caller]
fn sent(configuration: &SessionConfiguration, change: impl FnOnce(&mut UrlRequest)) -> Option<String> {
    field(&request_of(configuration, "", change).0, "Cookie").map(str::to_owned)
}

/// A cookie for the servers of these tests.
fn cookie(name: &str, value: &str) -> HttpCookie {
    HttpCookie::new(name, value, "127.0.0.1", "/")
}

fn names(storage: &HttpCookieStorage) -> String {
    storage.cookies().iter().map(|cookie| cookie.name().to_owned()).collect::<Vec<_>>().join(" ")
}

#[test]
fn what_a_server_sets_the_next_request_carries() {
    let (configuration, storage) = own_storage();
    let lines = "Set-Cookie: a=1\r\nX: y\r\nset-cookie: b=2; HttpOnly; Path=/\r\nSET-COOKIE: c=3; Path=/other\r\n\
                 Set-Cookie: d=4; Secure\r\nSet-Cookie: e=5, f=6; Max-Age=60\r\n";
    assert_eq!(field(&request_of(&configuration, lines, |_| ()).0, "Cookie"), None);
    assert_eq!(names(&storage), "a b c e");
    let cookies = storage.cookies();
    assert!(cookies[1].is_http_only() && cookies[0].is_session_only() && !cookies[3].is_session_only());
    assert_eq!((cookies[0].domain(), cookies[0].path(), cookies[3].value()), ("127.0.0.1", "/chat", "5, f=6"));
    // The longer path first, then the older cookie.
    assert_eq!(sent(&configuration, |_| ()).as_deref(), Some("a=1; e=5, f=6; b=2"));
    assert_eq!(sent(&configuration, |request| request.url.set_path("/other/x")).as_deref(), Some("c=3; b=2"));
    // The server takes one back.
    request_of(&configuration, "Set-Cookie: a=; Max-Age=0\r\n", |_| ());
    assert_eq!(names(&storage), "b c e");
}

#[test]
fn an_address_in_http_finds_the_same_cookies() {
    let (configuration, storage) = own_storage();
    storage.set_cookie(cookie("a", "1"));
    assert_eq!(sent(&configuration, |request| request.url.set_scheme("http").unwrap()).as_deref(), Some("a=1"));
    for scheme in ["ws", "http", "wss", "https"] {
        let url = Url::parse(&format!("{scheme}://127.0.0.1:9/")).unwrap();
        assert_eq!(storage.cookies_for(&url).len(), 1, "{scheme}");
    }
}

#[test]
fn one_byte_at_a_time_and_behind_informational_answers() {
    let (configuration, storage) = own_storage();
    let server = Server::one(|mut peer| {
        let request = peer.read_request();
        let mut bytes = b"HTTP/1.1 103 Hints\r\nSet-Cookie: early=1\r\n\r\n".to_vec();
        bytes.extend(Peer::switching_protocols(&request, "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n"));
        peer.write_bytewise(&bytes);
        peer.close(1000, "");
        peer.read_close();
    });
    let (session, _recorder, events) = recorded_session_with(configuration, None);
    session.web_socket_task(server.url()).resume();
    events.wait_for("complete");
    server.join();
    assert_eq!(names(&storage), "a b");
}

#[test]
fn they_are_stored_before_anybody_is_told() {
    let (configuration, storage) = own_storage();
    let server = Server::one(|mut peer| {
        peer.open_with("Set-Cookie: a=1\r\n");
        peer.close(1000, "");
        peer.read_close();
    });
    let (sender, seen) = mpsc::channel();
    let delegate = hooks(move |_, _, called| {
        if let Called::Open(_) = called {
            sender.send(names(&storage)).unwrap();
        }
    });
    let session = UrlSession::with_delegate(configuration, Some(delegate), None);
    session.web_socket_task(server.url()).resume();
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), "a");
    server.join();
}

#[test]
fn refusals_set_cookies_too() {
    let answers = [
        "HTTP/1.1 302 Found\r\nSet-Cookie: a=1\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 401 Who?\r\nSet-Cookie: a=1\r\nContent-Length: 2\r\n\r\nno",
        "HTTP/1.1 503 Later\r\nSet-Cookie: a=1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nContent-Length: 0\r\n\r\n",
        // Not the right key.
        "HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSet-Cookie: a=1\r\n\r\n",
    ];
    for answer in answers {
        let (configuration, storage) = own_storage();
        let server = Server::one(move |mut peer| {
            peer.read_request();
            peer.write(answer.as_bytes());
        });
        let (session, _recorder, events) = recorded_session_with(configuration, None);
        session.web_socket_task(server.url()).resume();
        assert_eq!(events.wait_for("complete"), "complete -1011");
        server.join();
        assert_eq!(names(&storage), "a", "{answer}");
    }
}

#[test]
fn by_hand() {
    let (configuration, storage) = own_storage();
    let by_hand = |request: &mut UrlRequest| request.set_value("hand=1", "cookie");
    // The storage has none.
    assert_eq!(sent(&configuration, by_hand).as_deref(), Some("hand=1"));
    storage.set_cookie(HttpCookie::new("other", "1", "example.com", "/"));
    assert_eq!(sent(&configuration, by_hand).as_deref(), Some("hand=1"));
    // It has one.
    storage.set_cookie(cookie("a", "1"));
    assert_eq!(sent(&configuration, by_hand).as_deref(), Some("a=1"));
    // Of the session's fields the same holds.
    let mut additional = configuration;
    additional.http_additional_headers.insert("COOKIE".to_owned(), "all=1".to_owned());
    assert_eq!(sent(&additional, by_hand).as_deref(), Some("a=1"));
    storage.delete_cookie(&cookie("a", ""));
    assert_eq!(sent(&additional, by_hand).as_deref(), Some("hand=1"));
    assert_eq!(sent(&additional, |_| ()).as_deref(), Some("all=1"));
}

#[test]
fn switches() {
    let by_hand = |request: &mut UrlRequest| request.set_value("hand=1", "Cookie");
    let set = "Set-Cookie: b=2\r\n";

    // What is not to be sent is stored.
    let (mut configuration, storage) = own_storage();
    storage.set_cookie(cookie("a", "1"));
    configuration.http_should_set_cookies = false;
    assert_eq!(field(&request_of(&configuration, set, |_| ()).0, "Cookie"), None);
    assert_eq!(sent(&configuration, by_hand).as_deref(), Some("hand=1"));
    assert_eq!(names(&storage), "a b");

    // A request that wants nothing of it.
    let (configuration, storage) = own_storage();
    storage.set_cookie(cookie("a", "1"));
    let without = |request: &mut UrlRequest| {
        request.http_should_handle_cookies = false;
        by_hand(request);
    };
    assert_eq!(field(&request_of(&configuration, set, without).0, "Cookie"), Some("hand=1"));
    assert_eq!(sent(&configuration, |request| request.http_should_handle_cookies = false), None);
    assert_eq!(names(&storage), "a");

    // No storage.
    let mut configuration = SessionConfiguration::default();
    configuration.http_cookie_storage = None;
    let set = "Set-Cookie: nowhere=2\r\n";
    assert_eq!(field(&request_of(&configuration, set, by_hand).0, "Cookie"), Some("hand=1"));
    assert_eq!(sent(&configuration, |_| ()), None);
    // Other tests use the shared one, too.
    assert!(HttpCookieStorage::shared().cookies().iter().all(|cookie| cookie.name() != "nowhere"));
}

#[test]
fn policies_of_the_session() {
    use HttpCookieAcceptPolicy::{Always, Never, OnlyFromMainDocumentDomain};

    let document = |text: &'static str| {
        move |request: &mut UrlRequest| request.main_document_url = Some(Url::parse(text).unwrap())
    };
    let stored = |policy: HttpCookieAcceptPolicy, change: &dyn Fn(&mut UrlRequest)| {
        let (mut configuration, storage) = own_storage();
        configuration.http_cookie_accept_policy = policy;
        // That of the storage does not count for tasks, in either direction.
        storage.set_cookie_accept_policy(Never);
        request_of(&configuration, "Set-Cookie: a=1\r\n", change);
        !storage.cookies().is_empty()
    };
    assert!(stored(Always, &|_| ()) && stored(Always, &document("https://example.com/")));
    assert!(!stored(Never, &|_| ()));
    assert!(stored(OnlyFromMainDocumentDomain, &|_| ()));
    assert!(stored(OnlyFromMainDocumentDomain, &document("http://127.0.0.1/page")));
    assert!(!stored(OnlyFromMainDocumentDomain, &document("https://example.com/")));

    // What is stored is sent with every policy, and the answer shows what was not taken.
    let (mut configuration, storage) = own_storage();
    storage.set_cookie(cookie("a", "1"));
    configuration.http_cookie_accept_policy = Never;
    let (request, metrics) = request_of(&configuration, "Set-Cookie: b=2\r\n", |_| ());
    assert_eq!(field(&request, "Cookie"), Some("a=1"));
    let response = metrics.transaction_metrics[0].response.clone().unwrap();
    assert_eq!(response.value("Set-Cookie").as_deref(), Some("b=2"));
    assert_eq!(names(&storage), "a");
}

#[test]
fn policies_of_the_storage() {
    use HttpCookieAcceptPolicy::{Always, Never, OnlyFromMainDocumentDomain};

    let url = Url::parse("https://www.example.com/").unwrap();
    let set = |policy: HttpCookieAcceptPolicy, document: Option<&str>, domain: &str| {
        let storage = HttpCookieStorage::new();
        assert_eq!(storage.cookie_accept_policy(), Always);
        storage.set_cookie_accept_policy(policy);
        let document = document.map(|text| Url::parse(text).unwrap());
        storage.set_cookies(vec![HttpCookie::new("a", "1", domain, "/")], &url, document.as_ref());
        !storage.cookies().is_empty()
    };
    assert!(set(Always, None, "www.example.com") && set(Always, Some("https://example.net/"), ".example.com"));
    assert!(!set(Never, None, "www.example.com"));
    for (document, is_set) in [
        ("https://www.example.com/", true),
        ("https://a.www.example.com/", true),
        ("https://example.com/", true),
        ("https://other.example.com/", true),
        ("https://example.net/", false),
        ("https://notexample.com/", false),
        ("data:text/plain,x", false),
    ] {
        assert_eq!(set(OnlyFromMainDocumentDomain, Some(document), "www.example.com"), is_set, "{document}");
    }
    // Whoever has a name below a public suffix is none of those who have the suffix.
    let suffix = Url::parse("https://github.io/").unwrap();
    for (document, is_set) in [("https://github.io/x", true), ("https://a.github.io/", false)] {
        let storage = HttpCookieStorage::new();
        storage.set_cookie_accept_policy(OnlyFromMainDocumentDomain);
        let document = Url::parse(document).unwrap();
        storage.set_cookies(vec![HttpCookie::new("a", "1", "github.io", "/")], &suffix, Some(&document));
        assert_eq!(!storage.cookies().is_empty(), is_set, "{document}");
    }
    // Nobody sets cookies for others, nor for those whom they are part of, if that is everybody.
    for domain in ["example.com", ".other.example.com", "example.net", ".com", "com"] {
        assert!(!set(Always, None, domain), "{domain}");
    }
    // Between the two is a public suffix.
    for (host, domain, is_set) in [
        ("x.s3.amazonaws.com", ".amazonaws.com", false),
        ("a.b.kobe.jp", ".kobe.jp", false),
        ("x.a.b.kobe.jp", ".a.b.kobe.jp", true),
    ] {
        let storage = HttpCookieStorage::new();
        let url = Url::parse(&format!("https://{host}/")).unwrap();
        storage.set_cookies(vec![HttpCookie::new("a", "1", domain, "/")], &url, None);
        assert_eq!(!storage.cookies().is_empty(), is_set, "{host} and {domain}");
    }
    let storage = HttpCookieStorage::new();
    storage.set_cookie_accept_policy(Never);
    storage.set_cookie(cookie("a", "1"));
    assert!(storage.cookies().is_empty());
    storage.set_cookie_accept_policy(OnlyFromMainDocumentDomain);
    storage.set_cookie(cookie("a", "1"));
    assert_eq!(names(&storage), "a");
}

#[test]
fn sessions_share_a_storage_or_have_their_own() {
    let one = SessionConfiguration::ephemeral();
    let other = SessionConfiguration::ephemeral();
    request_of(&one, "Set-Cookie: ephemeral=1; Path=/\r\n", |_| ());
    assert_eq!(sent(&one, |_| ()).as_deref(), Some("ephemeral=1"));
    assert_eq!(sent(&other, |_| ()), None);
    // The shared one: other tests use it, too.
    request_of(&SessionConfiguration::default(), "Set-Cookie: shared=1; Path=/of-this-test\r\n", |_| ());
    let cookies = HttpCookieStorage::shared().cookies();
    assert!(cookies.iter().any(|cookie| cookie.name() == "shared"));
    let cookie = sent(&SessionConfiguration::default(), |request| request.url.set_path("/of-this-test"));
    assert_eq!(cookie.as_deref(), Some("shared=1"));
    assert!(HttpCookieStorage::shared().cookies().iter().all(|cookie| cookie.name() != "ephemeral"));
}

#[test]
fn they_are_looked_up_when_the_task_is_resumed() {
    let (configuration, storage) = own_storage();
    let (sender, requests) = mpsc::channel();
    let server = Server::one(move |mut peer| {
        sender.send(peer.open()).unwrap();
        peer.close(1000, "");
        peer.read_close();
    });
    let (session, _recorder, events) = recorded_session_with(configuration, None);
    storage.set_cookie(cookie("before", "1"));
    let task = session.web_socket_task(server.url());
    storage.set_cookie(cookie("between", "1"));
    task.resume();
    storage.set_cookie(cookie("after", "1"));
    events.wait_for("complete");
    assert_eq!(field(&requests.recv_timeout(PATIENCE).unwrap(), "Cookie"), Some("before=1; between=1"));
    server.join();
}

#[test]
fn the_metrics_of_a_long_task_show_what_was_sent_then() {
    let (configuration, storage) = own_storage();
    storage.set_cookie(cookie("a", "secret"));
    let server = Server::one(|mut peer| {
        peer.open_with("Set-Cookie: a=2; Path=/\r\n");
        peer.echo();
    });
    let (told, metrics) = mpsc::channel();
    let (opened, open) = mpsc::channel();
    let delegate = hooks(move |_, _, called| match called {
        Called::Open(_) => opened.send(()).unwrap(),
        Called::Metrics(metrics) => told.send(metrics.clone()).unwrap(),
        _ => {}
    });
    let session = UrlSession::with_delegate(configuration, Some(delegate), None);
    let task = session.web_socket_task(server.url());
    task.resume();
    open.recv_timeout(PATIENCE).unwrap();
    assert_eq!(storage.cookies()[0].value(), "2");
    task.cancel();
    let metrics = metrics.recv_timeout(PATIENCE).unwrap();
    assert_eq!(metrics.transaction_metrics[0].request.value("Cookie"), Some("a=secret"));
    assert!(!format!("{metrics:?} {task:?} {session:?} {:?}", storage.cookies()).contains("secret"));
    server.join();
}

#[test]
fn secure_cookies_are_for_wss() {
    let mut configuration = TRUSTED.configuration();
    let storage = HttpCookieStorage::new();
    configuration.http_cookie_storage = Some(storage.clone());
    let open = |lines: &'static str| {
        let (sender, requests) = mpsc::channel();
        let config = trusted_server(BOTH);
        let server = Server::one(move |peer| {
            let mut peer = TlsPeer::new(peer, &config);
            let request = peer.read_request();
            let accept = accept_for(field(&request, "Sec-WebSocket-Key").unwrap());
            let head = format!(
                "HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n"
            );
            peer.send(format!("{head}{lines}\r\n").as_bytes());
            sender.send(request).unwrap();
            peer.echo();
        });
        let (session, _recorder, events) = recorded_session_with(configuration.clone(), None);
        let url = Url::parse(&format!("wss://localhost:{}/", server.address().port())).unwrap();
        let task = session.web_socket_task(url);
        task.resume();
        events.wait_for("open");
        task.cancel();
        server.join();
        field(&requests.recv_timeout(PATIENCE).unwrap(), "Cookie").map(str::to_owned)
    };
    let lines = "Set-Cookie: a=1; Secure; Path=/\r\nSet-Cookie: __Host-b=2; Secure; Path=/\r\n\
                 Set-Cookie: __Host-c=3; Path=/\r\nSet-Cookie: d=4; Path=/; SameSite=Strict\r\n";
    assert_eq!(open(lines), None);
    assert_eq!(open("").as_deref(), Some("a=1; __Host-b=2; d=4"));
    let url = |scheme: &str| Url::parse(&format!("{scheme}://localhost:1/")).unwrap();
    assert_eq!(storage.cookies_for(&url("ws")).len(), 1);
    assert_eq!(storage.cookies_for(&url("wss")).len(), 3);
    // Without TLS nobody may set them, or overwrite them.
    let forged = [("Set-Cookie", "a=2; Path=/"), ("Set-Cookie", "e=5; Secure"), ("Set-Cookie", "d=6; Path=/")];
    let cookies = HttpCookie::cookies_with_response_header_fields(&forged, &url("ws"));
    assert_eq!(cookies.iter().map(HttpCookie::name).collect::<String>(), "ad");
    let secure = HttpCookie::cookies_with_response_header_fields(&forged[1..2], &url("wss"));
    storage.set_cookies([cookies, secure].concat(), &url("ws"), None);
    assert_eq!(open("").as_deref(), Some("a=1; __Host-b=2; d=6"));
}

#[test]
fn reset_forgets_them() {
    let (configuration, storage) = own_storage();
    storage.set_cookie(cookie("a", "1"));
    let session = UrlSession::new(configuration);
    let (told, done) = mpsc::channel();
    let again = told.clone();
    session.flush(move || again.send(()).unwrap());
    done.recv_timeout(PATIENCE).unwrap();
    assert_eq!(names(&storage), "a");
    session.reset(move || told.send(()).unwrap());
    assert!(storage.cookies().is_empty());
    done.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn the_interface_as_in_swift() {
    let url = Url::parse("https://www.example.com/a/b").unwrap();
    let fields =
        [("Set-Cookie", "x=1; Domain=example.com; HttpOnly"), ("Other", "y=2"), ("set-cookie", "z=3; Max-Age=9")];
    let before = SystemTime::now();
    let cookies = HttpCookie::cookies_with_response_header_fields(&fields, &url);
    assert_eq!(cookies.len(), 2);
    assert_eq!((cookies[0].name(), cookies[0].domain(), cookies[0].path()), ("x", ".example.com", "/a"));
    assert_eq!((cookies[1].value(), cookies[1].domain()), ("3", "www.example.com"));
    let lasts = cookies[1].expires_date().unwrap().duration_since(before).unwrap();
    assert!(lasts >= Duration::from_secs(9) && lasts < Duration::from_secs(9) + PATIENCE);
    assert_eq!(HttpCookie::request_header_fields_with(&cookies).as_deref(), Some("x=1; z=3"));
    assert_eq!(HttpCookie::request_header_fields_with(&[]), None);

    let storage = Arc::new(HttpCookieStorage::new());
    storage.set_cookies(cookies.clone(), &url, None);
    assert_eq!(storage.cookies(), cookies);
    let mut changed = cookies[0].clone();
    changed.set_http_only(false);
    changed.set_expires_date(Some(SystemTime::now() + Duration::from_secs(3600 * 24 * 1000)));
    storage.set_cookie(changed.clone());
    assert_eq!(storage.cookies(), [changed.clone(), cookies[1].clone()]);
    assert_eq!(storage.cookies_for(&Url::parse("ws://example.com/a").unwrap()), std::slice::from_ref(&changed));
    storage.delete_cookie(&changed);
    storage.remove_cookies_since(SystemTime::now() + Duration::from_secs(60));
    assert_eq!(storage.cookies(), cookies[1..]);
    storage.remove_cookies_since(before);
    assert!(storage.cookies().is_empty());
}
