//! Proxies: the tunnel (RFC 9110 §9.3.6), whom a proxy serves, what it and the server behind it are told, and how it fails. Names end in
//! `.test`, which nobody here can resolve but the proxy.

mod support;

use std::ffi::OsStr;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use rustls::SupportedProtocolVersion;
use support::authority::self_signed;
use support::guide::{Guide, Kept, run};
use support::hooks::eventually;
use support::origin::{Answer, Origin, Request, head, redirect};
use support::proxy::{ESTABLISHED, HttpProxy, Reply, proxied};
use support::socks::SocksProxy;
use support::tls::{BOTH, ONLY_12, ONLY_13, TRUSTED, server_with, trusted_server};
use support::{Events, PATIENCE, closed_port, recorded_session_with};
use urlsession::{
    AuthChallengeDisposition, CloseCode, ErrorStage, HttpCookie, HttpCookieStorage, Message, ProxyConfiguration,
    SessionConfiguration, TaskMetrics, Url, UrlCredential, UrlError, UrlRequest, UrlSession,
};

use AuthChallengeDisposition::{PerformDefaultHandling, UseCredential};

/// Long enough for what must not happen to have happened.
const MOMENT: Duration = Duration::from_millis(150);

fn configuration() -> SessionConfiguration {
    let mut configuration = SessionConfiguration::ephemeral();
    configuration.root_certificates = TRUSTED.configuration().root_certificates;
    configuration
}

fn session_through(proxies: Vec<ProxyConfiguration>) -> UrlSession {
    UrlSession::new(proxied(configuration(), proxies))
}

fn opens(_: &Request) -> Answer {
    Answer::Open(String::new())
}

fn secure_origin(versions: &[&'static SupportedProtocolVersion]) -> Origin {
    Origin::secure(server_with(versions, TRUSTED.sign(&["origin.test", "other.test", "127.0.0.1"], |_| ())), opens)
}

/// Whether the error says that it is the proxy's.
fn is_of_proxy(error: &UrlError) -> bool {
    error.stage() == ErrorStage::Proxy
}

/// A proxy of each kind.
enum Any {
    Http(HttpProxy),
    Socks(SocksProxy),
}

impl Any {
    fn all() -> [(&'static str, Self); 3] {
        [
            ("http", Self::Http(HttpProxy::open())),
            ("https", Self::Http(HttpProxy::secure(trusted_server(BOTH), |_| Reply::Tunnel))),
            ("socks5", Self::Socks(SocksProxy::open())),
        ]
    }

    fn configuration(&self) -> ProxyConfiguration {
        match self {
            Self::Http(proxy) => proxy.configuration(),
            Self::Socks(proxy) => proxy.configuration(),
        }
    }

    /// The servers that it was asked for.
    fn targets(&self) -> Vec<String> {
        match self {
            Self::Http(proxy) => proxy.seen().iter().map(|request| request.target().to_owned()).collect(),
            Self::Socks(proxy) => proxy.asked().iter().map(|asked| asked.target.clone()).collect(),
        }
    }

    fn through(&self) -> Vec<u8> {
        match self {
            Self::Http(proxy) => proxy.through(),
            Self::Socks(proxy) => proxy.through(),
        }
    }

    fn address(&self) -> std::net::SocketAddr {
        match self {
            Self::Http(proxy) => proxy.address(),
            Self::Socks(proxy) => proxy.address(),
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

// Through a proxy.

#[test]
fn every_scheme_through_every_kind() {
    for make in [|| Origin::new(opens), || secure_origin(ONLY_12), || secure_origin(ONLY_13)] {
        for (kind, proxy) in Any::all() {
            let origin = make();
            let (sender, receiver) = mpsc::channel();
            let (guide, events) = Guide::new();
            let session = guide
                .metrics(move |metrics: &TaskMetrics| sender.send(metrics.clone()).unwrap())
                .session(proxied(configuration(), vec![proxy.configuration()]));
            let task = session.web_socket_task(origin.url_of("origin.test", "/path?query"));
            run(&task).unwrap_or_else(|error| panic!("{kind}: {error}"));
            let target = format!("origin.test:{}", origin.port());
            assert_eq!(proxy.targets(), [&*target], "{kind}");
            let seen = origin.seen();
            assert_eq!((seen.len(), seen[0].target(), seen[0].field("Host")), (1, "/path?query", Some(&*target)));
            assert_eq!(seen[0].field("Proxy-Authorization"), None);
            // What is inside TLS is nothing to the proxy.
            assert_eq!(contains(&proxy.through(), b"GET "), !seen[0].secure, "{kind}");
            task.cancel_with(CloseCode::NORMAL_CLOSURE, Some(b"done"));
            events.wait_for("complete None");
            let metrics = receiver.recv_timeout(PATIENCE).unwrap();
            let transaction = metrics.transaction_metrics.last().unwrap();
            assert!(transaction.is_proxy_connection, "{kind}");
            assert_eq!(transaction.remote_address, Some(proxy.address()), "{kind}");
            assert_eq!(transaction.network_protocol_name.as_deref(), Some("http/1.1"), "{kind}");
            assert_eq!(transaction.negotiated_tls_protocol_version.is_some(), seen[0].secure, "{kind}");
        }
    }
}

/// One TLS inside the other, of every version, with messages of every size both ways.
#[test]
fn tls_inside_tls() {
    for outer in [ONLY_12, ONLY_13] {
        for inner in [ONLY_12, ONLY_13] {
            let proxy = HttpProxy::secure(trusted_server(outer), |_| Reply::Tunnel);
            let origin = secure_origin(inner);
            let session = session_through(vec![proxy.configuration()]);
            let task = session.web_socket_task(origin.url_of("origin.test", "/"));
            task.set_maximum_message_size(16 << 20);
            run(&task).unwrap();
            let (sender, receiver) = mpsc::channel();
            let sizes = [0, 1, 16_383, 16_384, 16_385, 65_536, 1 << 20];
            for size in sizes {
                let data: Vec<u8> = (0..size).map(|index| (index * 7 % 251) as u8).collect();
                task.send(data.clone(), |result| result.unwrap());
                let sender = sender.clone();
                task.receive(move |message| {
                    sender.send(message.map(|message| message == Message::Data(data))).unwrap()
                });
            }
            for size in sizes {
                assert!(receiver.recv_timeout(PATIENCE).unwrap().unwrap(), "{size} bytes");
            }
            assert!(!contains(&proxy.through(), b"GET ") && proxy.visits()[0].is_done());
            // The end of the inside is the end of all of it.
            task.cancel();
            eventually("the end at the origin", || origin.ended() == 1);
        }
    }
}

#[test]
fn addresses_go_as_they_are() {
    let proxy = HttpProxy::open();
    let session = session_through(vec![proxy.configuration()]);
    let origin = secure_origin(BOTH);
    run(&session.web_socket_task(origin.url("/"))).unwrap();
    assert_eq!(proxy.lines(), [format!("CONNECT 127.0.0.1:{} HTTP/1.1", origin.port())]);
    let Some(origin) = Origin::secure_v6(server_with(BOTH, TRUSTED.sign(&["::1"], |_| ())), opens) else { return };
    run(&session.web_socket_task(origin.url("/"))).unwrap();
    assert_eq!(proxy.lines()[1], format!("CONNECT [::1]:{} HTTP/1.1", origin.port()));
    assert_eq!(proxy.seen()[1].field("Host"), Some(&*format!("[::1]:{}", origin.port())));
}

/// The port is always said, and a name in its ASCII form.
#[test]
fn what_the_request_names() {
    let table = [
        ("ws://origin.test/", "origin.test:80"),
        ("wss://origin.test/a?b", "origin.test:443"),
        ("http://Origin.TEST/", "origin.test:80"),
        ("wss://origin.test:8443/", "origin.test:8443"),
        ("ws://b\u{fc}cher.test/", "xn--bcher-kva.test:80"),
        ("ws://me:secret@origin.test/", "origin.test:80"),
        ("wss://[::1]/", "[::1]:443"),
    ];
    let proxy = HttpProxy::new(|_| Reply::Close(head("403 Forbidden", "")));
    let session = session_through(vec![proxy.configuration()]);
    for (number, (url, target)) in table.into_iter().enumerate() {
        let error = run(&session.web_socket_task(Url::parse(url).unwrap())).unwrap_err();
        assert_eq!(error.raw_code(), -1011, "{url}");
        assert_eq!(proxy.seen()[number].head, format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"), "{url}");
    }
}

/// What is for the server is not for the proxy, and what the proxy sets is not kept.
#[test]
fn secrets_stay_with_whom_they_are_for() {
    for secure in [false, true] {
        let proxy =
            HttpProxy::new(|_| Reply::TunnelWith("HTTP/1.1 200 OK\r\nSet-Cookie: proxy=1; Path=/\r\n\r\n".to_owned()));
        let origin = if secure { secure_origin(BOTH) } else { Origin::new(opens) };
        let cookies = HttpCookieStorage::new();
        cookies.set_cookie(HttpCookie::new("stored", "1", "origin.test", "/"));
        let mut configuration = proxied(configuration(), vec![proxy.configuration()]);
        configuration.http_cookie_storage = Some(cookies.clone());
        configuration.http_additional_headers.insert("X-Additional".to_owned(), "2".to_owned());
        configuration.http_additional_headers.insert("User-Agent".to_owned(), "a browser".to_owned());
        let mut request = UrlRequest::new(origin.url_of("origin.test", "/secret/path"));
        request.set_value("Bearer 3", "Authorization");
        request.set_value("4", "X-Own");
        run(&UrlSession::new(configuration).web_socket_task(request)).unwrap();
        let target = format!("origin.test:{}", origin.port());
        assert_eq!(proxy.seen()[0].head, format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"));
        let seen = &origin.seen()[0];
        for (name, value) in
            [("Cookie", "stored=1"), ("X-Additional", "2"), ("Authorization", "Bearer 3"), ("X-Own", "4")]
        {
            assert_eq!(seen.field(name), Some(value), "{name}");
        }
        assert_eq!(cookies.cookies().len(), 1, "{:?}", cookies.cookies());
    }
}

#[test]
fn many_tasks_each_with_its_tunnel() {
    const COUNT: usize = 20;
    for (kind, proxy) in Any::all() {
        let origin = secure_origin(BOTH);
        let session = session_through(vec![proxy.configuration()]);
        let (sender, receiver) = mpsc::channel();
        for number in 0..COUNT {
            let task = session.web_socket_task(origin.url_of("origin.test", &format!("/{number}")));
            task.send(format!("{number}"), |_| ());
            let sender = sender.clone();
            task.receive(move |message| sender.send((number, message)).unwrap());
            task.resume();
        }
        for _ in 0..COUNT {
            let (number, message) = receiver.recv_timeout(PATIENCE).unwrap();
            assert_eq!(message.unwrap(), Message::String(number.to_string()), "{kind}");
        }
        assert_eq!((proxy.targets().len(), origin.connections()), (COUNT, COUNT), "{kind}");
    }
}

// What a proxy answers.

/// Any 2xx opens; what it says of a body is not so, and a 1xx says nothing.
#[test]
fn answers_that_open_a_tunnel() {
    let table = [
        ESTABLISHED,
        "HTTP/1.0 200 Connection established\r\nProxy-agent: old\r\n\r\n",
        "HTTP/1.1 200\r\n\r\n",
        "HTTP/1.1 201 Created\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 299 Whatever\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ];
    for answer in table {
        for bytewise in [false, true] {
            for secure in [false, true] {
                let proxy = HttpProxy::new(move |_| match bytewise {
                    true => Reply::TunnelBytewise(answer.to_owned()),
                    false => Reply::TunnelWith(answer.to_owned()),
                });
                let origin = if secure { secure_origin(BOTH) } else { Origin::new(opens) };
                let session = session_through(vec![proxy.configuration()]);
                run(&session.web_socket_task(origin.url_of("origin.test", "/")))
                    .unwrap_or_else(|error| panic!("{answer:?}: {error}"));
            }
        }
    }
}

/// Anything else does not, and nothing is said to anybody else because of it: neither to the next proxy, nor directly.
#[test]
fn answers_that_refuse() {
    let statuses = [
        "300 Multiple Choices",
        "301 Moved",
        "302 Found",
        "304 Not Modified",
        "307 Temporary Redirect",
        "400 Bad Request",
        "401 Unauthorized",
        "403 Forbidden",
        "404 Not Found",
        "405 Method Not Allowed",
        "408 Request Timeout",
        "426 Upgrade Required",
        "429 Too Many Requests",
        "500 Internal Server Error",
        "502 Bad Gateway",
        "503 Service Unavailable",
        "504 Gateway Timeout",
    ];
    for status in statuses {
        for bytewise in [false, true] {
            let origin = Origin::new(opens);
            let elsewhere = origin.url("/elsewhere");
            let lines = format!("Location: {elsewhere}\r\nWWW-Authenticate: Basic realm=\"here\"\r\nX-From: proxy\r\n");
            let answer = head(status, &lines);
            let proxy = HttpProxy::new(move |_| match bytewise {
                true => Reply::Bytewise(answer.clone()),
                false => Reply::Close(answer.clone()),
            });
            let next = HttpProxy::open();
            let proxies = [&proxy, &next].map(|proxy| {
                let mut configuration = proxy.configuration();
                configuration.allow_failover = true;
                configuration
            });
            let (guide, events) = Guide::new();
            let session = guide.session(proxied(configuration(), proxies.to_vec()));
            let mut url = origin.url_of("origin.test", "/");
            url.set_username("me").unwrap();
            url.set_password(Some("secret")).unwrap();
            let task = session.web_socket_task(&url);
            let error = run(&task).unwrap_err();
            assert_eq!(error.raw_code(), -1011, "{status}: {error}");
            assert!(is_of_proxy(&error), "{status}: {error}");
            let response = error.response().expect(status);
            assert_eq!(response.status_code().to_string(), status[..3]);
            assert_eq!(response.value("X-From").as_deref(), Some("proxy"));
            // It is the proxy's answer, not the server's.
            assert_eq!(response.url().port(), Some(proxy.port()), "{status}: {}", response.url());
            events.expect(&["complete -1011"]);
            assert_eq!((proxy.seen().len(), next.connections(), origin.connections()), (1, 0, 0), "{status}");
            assert_eq!(proxy.seen()[0].fields("Authorization"), [""; 0]);
        }
    }
}

#[test]
fn the_body_of_a_refusal() {
    let proxy =
        HttpProxy::new(|_| Reply::Close("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 9\r\n\r\nno route!".to_owned()));
    let session = session_through(vec![proxy.configuration()]);
    let error = run(&session.web_socket_task(Url::parse("ws://origin.test/").unwrap())).unwrap_err();
    assert_eq!(error.response().unwrap().body(), b"no route!");
}

/// A proxy that speaks nonsense, too much of it, or nothing.
#[test]
fn what_is_no_answer() {
    let many_fields: String = (0..200).map(|number| format!("X-{number}: 1\r\n")).collect();
    let table: Vec<(&str, Vec<u8>, bool)> = vec![
        ("garbage", b"\x05\x00 this is no HTTP\r\n\r\n".to_vec(), true),
        ("a request", b"GET / HTTP/1.1\r\n\r\n".to_vec(), true),
        ("TLS", vec![21, 3, 3, 0, 2, 2, 40], true),
        ("a head without an end", format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(100_000)).into_bytes(), true),
        ("too many fields", format!("HTTP/1.1 200 OK\r\n{many_fields}\r\n").into_bytes(), true),
        ("1xx without an end", "HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000).into_bytes(), true),
        ("a protocol of its own", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n".to_vec(), true),
        ("half a head", b"HTTP/1.1 200 Connec".to_vec(), false),
        ("nothing", Vec::new(), false),
    ];
    for (name, bytes, hangs) in table {
        for secure in [false, true] {
            let bytes = bytes.clone();
            let reply = move |_: &Request| match hangs {
                true => Reply::Hang(bytes.clone()),
                false => Reply::Close(String::from_utf8(bytes.clone()).unwrap()),
            };
            let proxy = match secure {
                true => HttpProxy::secure(trusted_server(BOTH), reply),
                false => HttpProxy::new(reply),
            };
            let origin = Origin::new(opens);
            let session = session_through(vec![proxy.configuration()]);
            let error = run(&session.web_socket_task(origin.url_of("origin.test", "/"))).expect_err(name);
            let code = error.raw_code();
            assert!(
                if hangs { [-1017, -1011].contains(&code) } else { [-1005, 54].contains(&code) },
                "{name}: {error}"
            );
            assert!(is_of_proxy(&error), "{name}: {error}");
            assert_eq!(origin.connections(), 0, "{name}");
        }
    }
}

#[test]
fn a_connection_that_is_reset() {
    let proxy = HttpProxy::new(|_| Reply::Reset);
    let session = session_through(vec![proxy.configuration()]);
    let error = run(&session.web_socket_task(Url::parse("ws://origin.test/").unwrap())).unwrap_err();
    assert!([-1005, 54].contains(&error.raw_code()) && is_of_proxy(&error), "{error}");
}

/// What comes behind the 200 belongs to the tunnel. It is no answer of the proxy's, and a server that speaks first is none of ours.
#[test]
fn bytes_behind_the_200() {
    let refusal = format!("{ESTABLISHED}HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    let alert = [ESTABLISHED.as_bytes(), &[21, 3, 3, 0, 2, 2, 40]].concat();
    let table = [("ws://origin.test/", refusal.into_bytes()), ("wss://origin.test/", alert)];
    for (url, bytes) in table {
        let proxy = HttpProxy::new(move |_| Reply::Hang(bytes.clone()));
        let (session, _, events) = recorded_session_with(proxied(configuration(), vec![proxy.configuration()]), None);
        let task = session.web_socket_task(Url::parse(url).unwrap());
        task.resume();
        let completed = events.wait_for("complete");
        assert!(["complete -1011", "complete -1017", "complete -1200"].contains(&&*completed), "{url}: {completed}");
        assert!(!events.log().contains(&"open None".to_owned()));
        assert_eq!(proxy.connections(), 1);
    }
}

/// A refusal by the server behind the tunnel is the server's.
#[test]
fn a_refusal_from_behind_the_tunnel() {
    for (kind, proxy) in Any::all() {
        let origin = Origin::new(|_| Answer::Close(head("404 Not Found", "")));
        let session = session_through(vec![proxy.configuration()]);
        let url = origin.url_of("origin.test", "/");
        let error = run(&session.web_socket_task(&url)).unwrap_err();
        assert_eq!((error.raw_code(), error.response().unwrap().status_code()), (-1011, 404), "{kind}");
        assert!(!is_of_proxy(&error), "{kind}: {error}");
        assert_eq!(error.failing_url(), Some(&url));
    }
}

// The way to the proxy.

#[test]
fn a_proxy_that_is_not_there() {
    type Make = fn(&str, u16) -> ProxyConfiguration;
    let table: [Make; 3] =
        [ProxyConfiguration::http_connect, ProxyConfiguration::https_connect, ProxyConfiguration::socks_v5];
    let origin = Origin::new(opens);
    for make in table {
        let port = closed_port();
        let error = run(&session_through(vec![make("127.0.0.1", port)]).web_socket_task(origin.url("/"))).unwrap_err();
        assert_eq!(error.raw_code(), -1004, "{error}");
        assert!(is_of_proxy(&error) && error.reason().contains(&format!("127.0.0.1:{port}")), "{error}");
        // A name that nobody has.
        let error = run(&session_through(vec![make("proxy.invalid", 1)]).web_socket_task(origin.url("/"))).unwrap_err();
        assert!([-1003, -1004, -1006].contains(&error.raw_code()), "{error}");
        assert!(is_of_proxy(&error) && error.reason().contains("proxy.invalid"), "{error}");
    }
    assert_eq!(origin.connections(), 0);
}

/// Its certificate is for its own name, and is judged before it is told anything.
#[test]
fn a_proxy_that_is_not_trusted() {
    let table = [
        (self_signed(), -1203),
        (TRUSTED.sign(&["origin.test"], |_| ()), -1202),
        (TRUSTED.expired(&["127.0.0.1"]), -1201),
        (TRUSTED.not_yet_valid(&["127.0.0.1"]), -1204),
    ];
    for (identity, code) in table {
        let proxy = HttpProxy::secure(server_with(BOTH, identity), |_| Reply::Tunnel);
        let origin = secure_origin(BOTH);
        let mut configured = proxy.configuration();
        configured.apply_credential("me", "secret");
        for asked in [false, true] {
            let configuration = proxied(configuration(), vec![configured.clone()]);
            let session = match asked {
                true => Guide::new().0.trust(|_, handler| handler(PerformDefaultHandling, None)).session(configuration),
                false => UrlSession::new(configuration),
            };
            let error = run(&session.web_socket_task(origin.url_of("origin.test", "/"))).unwrap_err();
            assert_eq!(error.raw_code(), code, "{error}");
        }
        assert_eq!((proxy.seen().len(), origin.connections()), (0, 0));
        proxy.visits().iter().for_each(|visit| visit.assert_nothing_said());
    }
}

/// Each of the two TLS is a question of its own, the proxy's first.
#[test]
fn the_trust_of_both() {
    let proxy = HttpProxy::secure(server_with(BOTH, self_signed()), |_| Reply::Tunnel);
    let origin = Origin::secure(server_with(BOTH, self_signed()), opens);
    let ports = [proxy.port(), origin.port()];
    // Who is accepted, and how it ends.
    for (accepted, expected) in [([true, true], None), ([true, false], Some(-1203)), ([false, true], Some(-1203))] {
        let asked = Kept::default();
        let note = asked.clone();
        let (guide, _events) = Guide::new();
        let session = guide
            .trust(move |challenge, handler| {
                let space = challenge.protection_space();
                let trust = space.server_trust().unwrap();
                let which = usize::from(!space.is_proxy());
                assert_eq!((space.port(), trust.certificate_chain().len()), (ports[which], 1));
                let name = ["127.0.0.1", "localhost"][which];
                assert_eq!((space.host(), trust.host()), (name, name));
                assert_eq!(challenge.previous_failure_count(), 0);
                note.push(which);
                match accepted[which] {
                    true => handler(UseCredential, Some(UrlCredential::for_trust(trust))),
                    false => handler(PerformDefaultHandling, None),
                }
            })
            .session(proxied(configuration(), vec![proxy.configuration()]));
        let outcome = run(&session.web_socket_task(origin.url_of("localhost", "/"))).err();
        assert_eq!(outcome.map(|error| error.raw_code()), expected);
        assert_eq!(asked.take(), if accepted[0] { vec![0, 1] } else { vec![0] });
    }
    assert_eq!((proxy.seen().len(), origin.seen().len()), (2, 1));
}

/// RFC 6125 §6.4.3: a star is one label, the first; a common name is no name.
#[test]
fn names_of_certificates() {
    let table = [
        ("*.wild.test", "a.wild.test", None),
        ("*.wild.test", "A.Wild.Test", None),
        ("*.wild.test", "wild.test", Some(-1202)),
        ("*.wild.test", "a.b.wild.test", Some(-1202)),
        ("origin.test", "origin.test", None),
        ("origin.test", "sub.origin.test", Some(-1202)),
        ("xn--bcher-kva.test", "b\u{fc}cher.test", None),
    ];
    let proxy = HttpProxy::open();
    for (name, host, expected) in table {
        let origin = Origin::secure(server_with(BOTH, TRUSTED.sign(&[name], |_| ())), opens);
        let session = session_through(vec![proxy.configuration()]);
        let outcome = run(&session.web_socket_task(origin.url_of(host, "/"))).err();
        assert_eq!(outcome.map(|error| error.raw_code()), expected, "{name} for {host}");
    }
    let origin = Origin::secure(server_with(BOTH, TRUSTED.only_common_name("origin.test")), opens);
    let session = session_through(vec![proxy.configuration()]);
    let error = run(&session.web_socket_task(origin.url_of("origin.test", "/"))).unwrap_err();
    assert_eq!(error.raw_code(), -1202, "{error}");
}

// Which proxy.

/// The next of the list where one cannot be reached or makes no sense; directly only where all of them allow it.
#[test]
fn failover() {
    #[derive(Clone, Copy)]
    enum Kind {
        Refused,
        Garbage,
        Hangup,
        Good,
    }
    use Kind::{Garbage, Good, Hangup, Refused};
    // The proxies with whether they allow a failover, and who serves in the end: a proxy of the list, or nobody between.
    type Row = (&'static [(Kind, bool)], Result<Option<usize>, i32>);
    let table: [Row; 11] = [
        (&[(Good, false)], Ok(Some(0))),
        (&[(Good, true)], Ok(Some(0))),
        (&[(Refused, true)], Ok(None)),
        (&[(Refused, false)], Err(-1004)),
        (&[(Refused, false), (Good, false)], Ok(Some(1))),
        (&[(Garbage, false), (Good, false)], Ok(Some(1))),
        (&[(Hangup, false), (Refused, false), (Good, false)], Ok(Some(2))),
        (&[(Refused, true), (Refused, true)], Ok(None)),
        (&[(Refused, true), (Refused, false)], Err(-1004)),
        (&[(Refused, false), (Refused, true)], Err(-1004)),
        (&[(Good, false), (Good, false)], Ok(Some(0))),
    ];
    for (number, (list, expected)) in table.into_iter().enumerate() {
        let origin = Origin::new(opens);
        let proxies: Vec<Option<HttpProxy>> = list
            .iter()
            .map(|(kind, _)| match kind {
                Refused => None,
                Garbage => Some(HttpProxy::new(|_| Reply::Hang(b"who are you\r\n\r\n".to_vec()))),
                Hangup => Some(HttpProxy::new(|_| Reply::Nothing)),
                Good => Some(HttpProxy::open()),
            })
            .collect();
        let configurations = proxies.iter().zip(list).map(|(proxy, (_, allow_failover))| {
            let mut configuration = match proxy {
                Some(proxy) => proxy.configuration(),
                None => ProxyConfiguration::http_connect("127.0.0.1", closed_port()),
            };
            configuration.allow_failover = *allow_failover;
            configuration
        });
        let session = session_through(configurations.collect());
        let outcome = run(&session.web_socket_task(origin.url("/"))).map_err(|error| error.raw_code());
        assert_eq!(outcome, expected.map(drop), "row {number}");
        let serves = proxies.iter().position(|proxy| proxy.as_ref().is_some_and(|proxy| !proxy.through().is_empty()));
        assert_eq!(serves, expected.ok().flatten(), "row {number}");
        assert_eq!(origin.connections(), usize::from(expected.is_ok()), "row {number}");
    }
}

#[test]
fn domains() {
    // What matches, what is left out, the host, and whether it goes through the proxy.
    let table: [(&[&str], &[&str], &str, bool); 14] = [
        (&[], &[], "origin.test", true),
        (&["origin.test"], &[], "origin.test", true),
        (&["origin.test"], &[], "sub.origin.test", true),
        (&["ORIGIN.Test"], &[], "origin.test", true),
        (&["other.test", "origin.test"], &[], "origin.test", true),
        (&["127.0.0.1"], &[], "127.0.0.1", true),
        (&["origin.test"], &[], "localhost", false),
        (&["0.0.1"], &[], "127.0.0.1", false),
        (&[], &["localhost"], "localhost", false),
        (&[], &["LocalHost"], "localhost", false),
        (&[], &["127.0.0.1"], "127.0.0.1", false),
        (&[], &["0.0.1"], "127.0.0.1", true),
        (&[], &["origin.test"], "notorigin.test", true),
        (&["localhost"], &["localhost"], "localhost", false),
    ];
    for (matches, excluded, host, through) in table {
        let (proxy, origin) = (HttpProxy::open(), Origin::new(opens));
        let mut configured = proxy.configuration();
        configured.match_domains = matches.iter().map(|domain| (*domain).to_owned()).collect();
        configured.excluded_domains = excluded.iter().map(|domain| (*domain).to_owned()).collect();
        let session = session_through(vec![configured]);
        let outcome = run(&session.web_socket_task(origin.url_of(host, "/")));
        assert!(outcome.is_ok(), "{matches:?} {excluded:?} {host}: {outcome:?}");
        assert_eq!(proxy.connections(), usize::from(through), "{matches:?} {excluded:?} {host}");
    }
}

/// `Some` of an empty list is no proxy, whatever the environment says.
#[test]
fn an_empty_list_is_the_direct_way() {
    let origin = Origin::new(opens);
    run(&session_through(Vec::new()).web_socket_task(origin.url("/"))).unwrap();
    assert_eq!(origin.connections(), 1);
}

// Redirects.

#[test]
fn redirects_within_the_tunnel_and_to_another_origin() {
    for (kind, proxy) in Any::all() {
        let second = secure_origin(BOTH);
        let target = second.url_of("other.test", "/there").to_string();
        let config = server_with(BOTH, TRUSTED.sign(&["origin.test"], |_| ()));
        let first = Origin::secure(config, move |request| match request.target() {
            "/" => Answer::Keep(redirect(302, "/kept")),
            _ => Answer::Keep(redirect(302, &target)),
        });
        let session = session_through(vec![proxy.configuration()]);
        let mut request = UrlRequest::new(first.url_of("origin.test", "/"));
        request.set_value("Bearer 1", "Authorization");
        run(&session.web_socket_task(request)).unwrap_or_else(|error| panic!("{kind}: {error}"));
        let expected = [format!("origin.test:{}", first.port()), format!("other.test:{}", second.port())];
        assert_eq!(proxy.targets(), expected, "{kind}");
        assert_eq!((first.roads(), second.connections()), (vec![0, 0], 1), "{kind}");
        assert_eq!(second.seen()[0].field("Authorization"), None);
    }
}

/// Each address has its own proxies: one of the way is reached directly, the other is not.
#[test]
fn a_redirect_may_change_the_proxy() {
    let proxy = HttpProxy::open();
    let second = Origin::new(opens);
    let target = second.url_of("origin.test", "/").to_string();
    let first = Origin::new(move |_| Answer::Keep(redirect(307, &target)));
    let mut configured = proxy.configuration();
    configured.excluded_domains.push("127.0.0.1".to_owned());
    run(&session_through(vec![configured]).web_socket_task(first.url("/"))).unwrap();
    assert_eq!((proxy.connections(), first.connections(), second.connections()), (1, 1, 1));
    assert_eq!(proxy.seen()[0].target(), format!("origin.test:{}", second.port()));
}

// Time.

#[test]
fn a_proxy_that_does_not_answer() {
    let proxy = HttpProxy::new(|_| Reply::Hang(Vec::new()));
    let mut short = proxied(configuration(), vec![proxy.configuration()]);
    short.timeout_interval_for_request = MOMENT;
    let (session, _, events) = recorded_session_with(short, None);
    session.web_socket_task(Url::parse("ws://origin.test/").unwrap()).resume();
    events.wait_for("complete -1001");
    // And one that is left alone while it thinks.
    let (session, _, events) = recorded_session_with(proxied(configuration(), vec![proxy.configuration()]), None);
    let task = session.web_socket_task(Url::parse("ws://origin.test/").unwrap());
    task.resume();
    eventually("the request", || proxy.seen().len() == 2);
    task.cancel();
    events.expect(&["complete -999"]);
}

/// A tunnel that comes when nobody waits for it any more carries nothing.
#[test]
fn a_cancel_before_the_tunnel() {
    let (go, staged) = mpsc::channel();
    let proxy = HttpProxy::script(vec![Reply::Staged(staged)]);
    let origin = Origin::new(opens);
    let (session, _, events) = recorded_session_with(proxied(configuration(), vec![proxy.configuration()]), None);
    let task = session.web_socket_task(origin.url_of("origin.test", "/"));
    task.send("never", |_| ());
    task.resume();
    eventually("the request", || proxy.seen().len() == 1);
    task.cancel();
    events.wait_for("complete -999");
    go.send(()).unwrap();
    eventually("the end of the tunnel", || origin.ended() == origin.connections());
    assert!(origin.seen().is_empty() && proxy.through().is_empty());
}

// The environment.

/// Runs in a process of its own, with the variables of the test that started it: opens the addresses that it is given and prints
/// how each went.
#[test]
#[ignore = "a part of the tests below"]
fn in_an_environment() {
    let Ok(urls) = std::env::var("TEST_URLS") else { return };
    for url in urls.split_whitespace() {
        let session = UrlSession::new(configuration());
        match run(&session.web_socket_task(Url::parse(url).unwrap())) {
            Ok(()) => println!("outcome open"),
            Err(error) => println!("outcome {} {error}", error.raw_code()),
        }
    }
}

/// The outcomes of these addresses in a process with these variables, and no others that name proxies.
fn outcomes(variables: &[(&str, &str)], urls: &[&Url]) -> Vec<String> {
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, OsStr::new(value))).collect();
    outcomes_of(&variables, urls)
}

fn outcomes_of(variables: &[(&str, &OsStr)], urls: &[&Url]) -> Vec<String> {
    let urls: Vec<&str> = urls.iter().map(|url| url.as_str()).collect();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "in_an_environment", "--ignored", "--nocapture", "--test-threads=1"]);
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy", "request_method"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    command.env("TEST_URLS", urls.join(" ")).envs(variables.iter().copied());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    // Behind the name of the test, the first may stand in its line.
    text.lines().filter_map(|line| line.split_once("outcome ")).map(|(_, outcome)| outcome.to_owned()).collect()
}

#[test]
fn the_environment() {
    let (proxy, other, socks) = (HttpProxy::open(), HttpProxy::open(), SocksProxy::open());
    // The root of the tests is another one in the other process: `wss` is only seen as far as the proxy.
    let origin = Origin::new(opens);
    let closed = closed_port();
    let named = |scheme: &str, host: &str| Url::parse(&format!("{scheme}://{host}:{}/", origin.port())).unwrap();
    let plain = named("ws", "origin.test");
    let local = named("ws", "127.0.0.1");
    let http = format!("http://127.0.0.1:{}", proxy.port());
    let bare = format!("127.0.0.1:{}/", proxy.port());
    let second = format!("http://127.0.0.1:{}", other.port());
    let socks5 = format!("socks5h://127.0.0.1:{}", socks.address().port());
    let dead = format!("http://127.0.0.1:{closed}");
    // The variables, the address, how it begins to end, and which proxy was used.
    type Row<'a> = (&'a [(&'a str, &'a str)], &'a Url, &'a str, Option<usize>);
    let table: &[Row<'_>] = &[
        (&[("HTTP_PROXY", &http)], &plain, "open", Some(0)),
        (&[("http_proxy", &bare)], &plain, "open", Some(0)),
        (&[("http_proxy", &http), ("HTTP_PROXY", &second)], &plain, "open", Some(0)),
        (&[("HTTP_PROXY", &http), ("ALL_PROXY", &second)], &plain, "open", Some(0)),
        (&[("ALL_PROXY", &second)], &plain, "open", Some(1)),
        (&[("all_proxy", &socks5)], &plain, "open", Some(2)),
        (&[("HTTP_PROXY", &dead)], &plain, "-1004", None),
        // No other way where the proxy fails.
        (&[("HTTP_PROXY", &dead)], &local, "-1004", None),
        (&[("HTTPS_PROXY", &dead)], &local, "open", None),
        (&[("HTTP_PROXY", &dead), ("NO_PROXY", "127.0.0.1")], &local, "open", None),
        (&[("HTTP_PROXY", &dead), ("no_proxy", "*")], &local, "open", None),
        (&[("HTTP_PROXY", &dead), ("NO_PROXY", "other.test, 127.0.0.0/8")], &local, "open", None),
        (&[("HTTP_PROXY", &http), ("NO_PROXY", "other.test,127.0.0.2")], &plain, "open", Some(0)),
        (&[("HTTP_PROXY", "")], &local, "open", None),
        (&[("HTTP_PROXY", "nonsense://?")], &local, "-1000", None),
        // A request of a web server may have set it.
        (&[("HTTP_PROXY", &dead), ("REQUEST_METHOD", "GET")], &local, "open", None),
        (&[], &local, "open", None),
    ];
    for (number, (variables, url, expected, used)) in table.iter().enumerate() {
        let counts = || [proxy.connections(), other.connections(), socks.connections()];
        let before = counts();
        let outcome = outcomes(variables, &[url]);
        assert_eq!(outcome.len(), 1, "row {number}");
        assert!(outcome[0].starts_with(expected), "row {number}: {}", outcome[0]);
        let after = counts();
        let by: Vec<usize> = (0..3).filter(|index| after[*index] > before[*index]).collect();
        assert_eq!(by, used.iter().copied().collect::<Vec<_>>(), "row {number}");
    }
}

/// What cannot be read is no reason for a direct connection.
#[cfg(unix)]
#[test]
fn an_environment_that_is_not_in_utf_8() {
    use std::os::unix::ffi::OsStrExt;

    let origin = Origin::new(opens);
    let local = origin.url_of("127.0.0.1", "/");
    let outcome = outcomes_of(&[("HTTP_PROXY", OsStr::from_bytes(b"http://pr\xf6xy.test:3128"))], &[&local]);
    assert!(outcome[0].starts_with("-1000"), "{outcome:?}");
    assert_eq!(origin.connections(), 0);
    // The rest of a list counts.
    let dead = format!("http://127.0.0.1:{}", closed_port());
    let list = OsStr::from_bytes(b"pr\xf6vate.test,127.0.0.1");
    assert_eq!(outcomes_of(&[("HTTP_PROXY", OsStr::new(&dead)), ("NO_PROXY", list)], &[&local]), ["open"]);
}

/// `wss` has its own variable, and goes to its proxy with CONNECT as all do.
#[test]
fn the_environment_of_wss() {
    let proxy = HttpProxy::new(|_| Reply::Close(head("403 Forbidden", "")));
    let http = format!("http://127.0.0.1:{}", proxy.port());
    let url = Url::parse("wss://origin.test/").unwrap();
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        assert!(outcomes(&[(name, &http), ("HTTP_PROXY", "http://127.0.0.1:1")], &[&url])[0].starts_with("-1011"));
    }
    assert_eq!(proxy.lines(), ["CONNECT origin.test:443 HTTP/1.1"; 3]);
}

/// The user of the variable's value answers the proxy.
#[test]
fn the_environments_user() {
    let proxy = HttpProxy::new(|request| match request.field("Proxy-Authorization") {
        Some("Basic bWU6c2VjOnJldA==") => Reply::Tunnel,
        _ => Reply::Keep(support::proxy::proxy_unauthorized(&["Basic realm=\"proxy\""], "")),
    });
    let origin = Origin::new(opens);
    let value = format!("http://me:sec%3Aret@127.0.0.1:{}", proxy.port());
    assert_eq!(outcomes(&[("HTTP_PROXY", &value)], &[&origin.url_of("origin.test", "/")]), ["open"]);
    assert!(origin.seen().iter().all(|request| request.field("Proxy-Authorization").is_none()));
    // One that is wrong is named by nobody.
    let value = format!("http://me:wr0ng@127.0.0.1:{}", proxy.port());
    let outcome = outcomes(&[("HTTP_PROXY", &value)], &[&origin.url_of("origin.test", "/")]);
    assert!(outcome[0].starts_with("-1011") && !outcome[0].contains("wr0ng"), "{outcome:?}");
}

/// What is noted of a task that opens: nothing else.
#[test]
fn a_delegate_is_not_told_of_the_proxy() {
    let (proxy, origin) = (HttpProxy::open(), Origin::new(opens));
    let (guide, events): (Guide, Events) = Guide::new();
    let session = guide.session(proxied(configuration(), vec![proxy.configuration()]));
    let task = session.web_socket_task(origin.url_of("origin.test", "/"));
    run(&task).unwrap();
    events.expect_to_open(&[""; 0]);
    assert_eq!(task.response().unwrap().status_code(), 101);
    assert_eq!(task.response().unwrap().url(), &origin.url_of("origin.test", "/"));
}
