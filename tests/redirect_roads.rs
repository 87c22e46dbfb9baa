//! On which connection the request behind a redirect goes out, what becomes of the answer's body, and what the metrics tell of it.

mod support;

use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use support::guide::Guide;
use support::hooks::eventually;
use support::origin::{Answer, Origin, Request, head, redirect};
use support::tls::{BOTH, ONLY_12, ONLY_13, TRUSTED, trusted_server};
use support::{Events, PATIENCE};
use urlsession::{
    RedirectionHandler, SessionConfiguration, TaskMetrics, TlsProtocolVersion, TransactionMetrics, Url, UrlRequest,
    UrlSession, WebSocketTask,
};

/// Nothing is shared with other tests.
fn trusting() -> SessionConfiguration {
    let mut configuration = SessionConfiguration::ephemeral();
    configuration.root_certificates = TRUSTED.configuration().root_certificates;
    configuration
}

#[track_caller]
fn wait<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(PATIENCE).expect("something in time")
}

/// A server for `ws` or `wss`.
fn origin(secure: bool, answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Origin {
    if secure { Origin::secure(trusted_server(BOTH), answer) } else { Origin::new(answer) }
}

/// A redirect with more lines and a body.
fn with_body(lines: &str, body: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: /there\r\n{lines}\r\n{body}")
}

fn start(guide: Guide, url: Url) -> (UrlSession, WebSocketTask) {
    let session = guide.session(trusting());
    let task = session.web_socket_task(url);
    task.resume();
    (session, task)
}

/// A delegate that leaves the reply to the test.
fn keeping() -> (Guide, Events, Receiver<(UrlRequest, RedirectionHandler)>) {
    let (sender, asked) = mpsc::channel();
    let (guide, events) = Guide::new();
    let guide = guide.redirect(move |_, _, request, handler| {
        let _ = sender.send((request, handler));
    });
    (guide, events, asked)
}

/// Ends the task; its metrics.
fn metrics_of(guide: Guide) -> (Guide, Receiver<TaskMetrics>) {
    let (sender, receiver) = mpsc::channel();
    (guide.metrics(move |metrics| sender.send(metrics.clone()).unwrap()), receiver)
}

// Bodies.

#[test]
fn every_body_leads_on_and_some_leave_the_connection() {
    let huge = "x".repeat(70 * 1024);
    let most = "x".repeat(64 * 1024 - 1);
    // The answer, whether the connection ends behind it, and whether the next request goes out on the same.
    let table: Vec<(String, bool, bool)> = vec![
        (with_body("Content-Length: 0\r\n", ""), false, true),
        (with_body("Content-Length: 4\r\n", "Body"), false, true),
        (with_body(&format!("Content-Length: {}\r\n", most.len()), &most), false, true),
        (with_body("Transfer-Encoding: chunked\r\n", "4\r\nBody\r\n0\r\n\r\n"), false, true),
        (with_body("Transfer-Encoding: chunked\r\n", "4;a=b\r\nBody\r\n0\r\nTrailer: x\r\n\r\n"), false, true),
        (with_body("Content-Length: 4, 4\r\n", "Body"), false, true),
        (with_body("Connection: keep-alive\r\nContent-Length: 0\r\n", ""), false, true),
        // What the server ends, or says it will.
        (with_body("Connection: close\r\nContent-Length: 4\r\n", "Body"), false, false),
        (with_body("Connection: Keep-Alive, CLOSE\r\nContent-Length: 0\r\n", ""), false, false),
        (with_body("Content-Length: 0\r\n", "").replace("HTTP/1.1", "HTTP/1.0"), false, false),
        (with_body("", "until the end"), true, false),
        (with_body("", "no end"), false, false),
        (with_body("Transfer-Encoding: gzip\r\n", "?"), true, false),
        // Too much to be read for one connection less.
        (with_body(&format!("Content-Length: {}\r\n", huge.len()), &huge), false, false),
        (with_body("Content-Length: 99999999999\r\n", "never so much"), false, false),
        (
            with_body("Transfer-Encoding: chunked\r\n", &format!("{:x}\r\n{huge}\r\n0\r\n\r\n", huge.len())),
            false,
            false,
        ),
        // What breaks off, or is not understood.
        (with_body("Content-Length: 4\r\n", "Bo"), true, false),
        (with_body("Transfer-Encoding: chunked\r\n", "4\r\nBo"), true, false),
        (with_body("Transfer-Encoding: chunked\r\n", "zz\r\n"), false, false),
        (with_body("Content-Length: 4, 5\r\n", "Body"), false, false),
        (with_body("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), false, false),
        // What stands behind the end is nobody's answer.
        (with_body("Content-Length: 0\r\n", "x"), false, false),
        (with_body("Content-Length: 4\r\n", "BodyHTTP/1.1 403 Forbidden\r\n\r\n"), false, false),
        (
            with_body("Transfer-Encoding: chunked\r\n", "0\r\n\r\nHTTP/1.1 302 X\r\nLocation: /lost\r\n\r\n"),
            false,
            false,
        ),
    ];
    for secure in [false, true] {
        for asks in [false, true] {
            for (text, ends, stays) in &table {
                let context = format!("secure: {secure}, asks: {asks}: {text:.120}");
                let expected = if *stays { [0, 0] } else { [0, 1] };
                // A busy machine may take longer for the rest of a body than that is waited for.
                let tries = if *stays { 5 } else { 1 };
                assert!((0..tries).any(|_| roads_behind(secure, asks, text, *ends, &context) == expected), "{context}");
            }
        }
    }
}

/// The task gets its message there; on which connection either request came.
#[track_caller]
fn roads_behind(secure: bool, asks: bool, text: &str, ends: bool, context: &str) -> Vec<usize> {
    let answer = text.to_owned();
    let origin = origin(secure, move |request| match request.target() {
        "/" if ends => Answer::Close(answer.clone()),
        "/" => Answer::Keep(answer.clone()),
        _ => Answer::Open(String::new()),
    });
    let (guide, events) = Guide::new();
    let session = if asks { guide.session(trusting()) } else { UrlSession::new(trusting()) };
    let task = session.web_socket_task(origin.url("/"));
    let (sender, receiver) = mpsc::channel();
    task.send("there", |_| ());
    task.receive(move |message| sender.send(message).unwrap());
    task.resume();
    assert_eq!(wait(&receiver).ok(), Some("there".into()), "{context}");
    assert_eq!(origin.targets(), ["/", "/there"], "{context}");
    if asks {
        assert_eq!(events.log(), ["redirect 302 /there", "open None"], "{context}");
    }
    origin.roads()
}

#[test]
fn a_body_that_never_ends_is_not_waited_for() {
    for secure in [false, true] {
        for (lines, body) in [("Content-Length: 4\r\n", "Bo"), ("Transfer-Encoding: chunked\r\n", "4\r\nBody\r\n")] {
            let answer = with_body(lines, body);
            let origin = origin(secure, move |request| match request.target() {
                "/" => Answer::Keep(answer.clone()),
                _ => Answer::Open(String::new()),
            });
            let (guide, events) = Guide::new();
            let (_session, task) = start(guide, origin.url("/"));
            events.expect_to_open(&["redirect 302 /there"]);
            assert_eq!(origin.roads(), [0, 1]);
            eventually("the end of the first connection", || origin.ended() == 1);
            task.cancel();
        }
    }
}

#[test]
fn the_rest_of_a_body_is_waited_for() {
    for secure in [false, true] {
        for replies_first in [false, true] {
            // A busy machine may take longer for it.
            let waited = (0..5).any(|_| {
                let (go, ready) = mpsc::channel();
                let answers = Mutex::new(vec![
                    Answer::Open(String::new()),
                    Answer::Staged(with_body("Content-Length: 4\r\n", "Bo"), ready, "dy".to_owned()),
                ]);
                let origin = origin(secure, move |_| answers.lock().unwrap().pop().unwrap());
                let (guide, events, asked) = keeping();
                let _kept = start(guide, origin.url("/"));
                let (request, handler) = wait(&asked);
                if replies_first {
                    handler(Some(request));
                    go.send(()).unwrap();
                } else {
                    go.send(()).unwrap();
                    handler(Some(request));
                }
                events.expect_to_open(&["redirect 302 /there"]);
                origin.roads() == [0, 0]
            });
            assert!(waited);
        }
    }
}

#[test]
fn a_refused_redirect_has_its_body() {
    let long = "x".repeat(70 * 1024);
    let table = [
        (with_body("Content-Length: 4\r\n", "Body"), "Body".to_owned()),
        (with_body("Transfer-Encoding: chunked\r\n", "2\r\nBo\r\n2\r\ndy\r\n0\r\n\r\n"), "Body".to_owned()),
        (with_body("", "until the end"), "until the end".to_owned()),
        (with_body("", &long), long[..64 * 1024].to_owned()),
        (with_body("Content-Length: 9\r\n", "cut"), "cut".to_owned()),
    ];
    for secure in [false, true] {
        for (text, body) in &table {
            for late in [false, true] {
                let answer = text.clone();
                let origin = origin(secure, move |_| Answer::Close(answer.clone()));
                let (guide, events, asked) = keeping();
                let (_session, task) = start(guide, origin.url("/"));
                let (_request, handler) = wait(&asked);
                if late {
                    eventually("the server's end", || origin.ended() == 1);
                }
                handler(None);
                events.wait_for("complete -1011");
                let error = task.error().unwrap();
                assert_eq!(error.response().unwrap().body(), body.as_bytes());
                assert_eq!(task.response().unwrap().body(), body.as_bytes());
            }
        }
    }
}

// Connections.

#[test]
fn a_connection_that_the_server_closes_while_the_delegate_is_asked() {
    for secure in [false, true] {
        let origin = origin(secure, |request| match request.target() {
            "/" => Answer::Close(redirect(302, "/there")),
            _ => Answer::Open(String::new()),
        });
        let (guide, events, asked) = keeping();
        let _kept = start(guide, origin.url("/"));
        let (request, handler) = wait(&asked);
        eventually("the server's end", || origin.ended() == 1);
        handler(Some(request));
        events.expect_to_open(&["redirect 302 /there"]);
        assert_eq!(origin.connections(), 2);
        // Whether the client knew of the end or had to find out.
        assert_eq!(origin.targets(), ["/", "/there"]);
    }
}

#[test]
fn a_kept_connection_that_is_lost_is_replaced_once() {
    for secure in [false, true] {
        for resets in [false, true] {
            for asks in [false, true] {
                let origin = origin(secure, move |request| match (request.target(), request.connection) {
                    ("/", _) => Answer::Keep(redirect(302, "/there")),
                    (_, 0) if resets => Answer::Reset,
                    (_, 0) => Answer::Nothing,
                    _ => Answer::Open(String::new()),
                });
                let (guide, events) = Guide::new();
                let (guide, metrics) = metrics_of(guide);
                let session = if asks { guide.session(trusting()) } else { UrlSession::new(trusting()) };
                let task = session.web_socket_task(origin.url("/"));
                let (sender, receiver) = mpsc::channel();
                task.send("there", |_| ());
                task.receive(move |message| sender.send(message).unwrap());
                task.resume();
                assert_eq!(wait(&receiver).ok(), Some("there".into()));
                assert_eq!(
                    (origin.targets(), origin.roads()),
                    (vec!["/".into(), "/there".into(), "/there".into()], vec![0, 0, 1])
                );
                let keys: Vec<_> = origin
                    .seen()
                    .iter()
                    .map(|request| request.field("Sec-WebSocket-Key").unwrap().to_owned())
                    .collect();
                assert_ne!(keys[1], keys[2]);
                task.cancel();
                if asks {
                    events.wait_for("complete -999");
                    assert_eq!(events.log()[..2], ["redirect 302 /there", "open None"]);
                    let metrics = wait(&metrics);
                    let facts: Vec<_> = metrics
                        .transaction_metrics
                        .iter()
                        .map(|hop| (hop.is_reused_connection, hop.response.as_ref().map(|answer| answer.status_code())))
                        .collect();
                    assert_eq!(facts, [(false, Some(302)), (true, None), (false, Some(101))]);
                    assert_eq!(metrics.redirect_count, 1);
                }
            }
        }
    }
}

#[test]
fn a_connection_that_is_lost_again_is_the_end() {
    for secure in [false, true] {
        for resets in [false, true] {
            let origin = origin(secure, move |request| match request.target() {
                "/" => Answer::Keep(redirect(302, "/there")),
                _ if resets => Answer::Reset,
                _ => Answer::Nothing,
            });
            let (guide, events) = Guide::new();
            let (_session, task) = start(guide, origin.url("/"));
            let code = events.wait_for("complete");
            let expected: &[&str] = if resets { &["complete 54", "complete -1005"] } else { &["complete -1005"] };
            assert!(expected.contains(&code.as_str()), "{code}");
            assert_eq!(origin.roads(), [0, 0, 1]);
            assert_eq!(task.error().unwrap().failing_url(), Some(&origin.url("/there")));
        }
    }
}

#[test]
fn a_part_of_an_answer_is_an_answer() {
    let origin = Origin::new(|request| match request.target() {
        "/" => Answer::Keep(redirect(302, "/there")),
        _ => Answer::Close("HTTP/1.1 1".to_owned()),
    });
    let (guide, events) = Guide::new();
    let _kept = start(guide, origin.url("/"));
    events.wait_for("complete -1005");
    assert_eq!(origin.roads(), [0, 0]);
}

#[test]
fn a_new_connection_that_is_lost_is_not_replaced() {
    let other = Arc::new(Origin::new(|_| Answer::Nothing));
    let there = other.url("/there").to_string();
    for location in ["/there", &there] {
        let location = location.to_owned();
        let origin = Origin::new(move |request| match request.target() {
            "/" => Answer::Close(redirect(302, &location)),
            _ => Answer::Nothing,
        });
        let (guide, events) = Guide::new();
        let _kept = start(guide, origin.url("/"));
        events.wait_for("complete -1005");
        assert_eq!(origin.seen().len() + other.seen().len(), 2);
    }
}

#[test]
fn the_connection_of_another_origin_is_let_go() {
    let target = Origin::new(|_| Answer::Open(String::new()));
    for there in [target.url("/there"), target.url_of("localhost", "/there")] {
        let origin = Origin::new(move |_| Answer::Keep(redirect(302, there.as_str())));
        let (guide, events) = Guide::new();
        let (_session, task) = start(guide, origin.url("/"));
        events.wait_for("open");
        eventually("the end of the first connection", || origin.ended() == 1);
        task.cancel();
        events.wait_for("complete");
    }
    // The same server under another name is another origin.
    let origin = Origin::new(|request| match request.target() {
        "/" => Answer::Keep(redirect(
            302,
            &format!("//localhost:{}/there", request.field("Host").unwrap().split(':').nth(1).unwrap()),
        )),
        _ => Answer::Open(String::new()),
    });
    let (guide, events) = Guide::new();
    let _kept = start(guide, origin.url("/"));
    events.wait_for("open");
    assert_eq!(origin.roads(), [0, 1]);
}

// Cookies.

#[test]
fn cookies_of_a_redirect_arrive_at_the_next_hop() {
    let (guide, events) = Guide::new();
    let configuration = SessionConfiguration::ephemeral();
    let storage = configuration.http_cookie_storage.clone().unwrap();
    let looks = storage.clone();
    let guide = guide.redirect(move |_, response, request, handler| {
        // Whoever is told of the answer finds them.
        assert!(looks.cookies_for(response.url()).iter().any(|cookie| cookie.name() == "first"));
        handler(Some(request));
    });
    let session = guide.session(configuration);
    let origin = Origin::new(|request| {
        let port = request.field("Host").unwrap().split(':').nth(1).unwrap().to_owned();
        let cookies = "Set-Cookie: first=1\r\nSet-Cookie: there=2; Path=/there\r\nSet-Cookie: else=3; Path=/else\r\n";
        match request.target() {
            "/start" => Answer::Keep(head("302 Found", &format!("Location: /there/x\r\n{cookies}"))),
            "/there/x" => Answer::Keep(head(
                "307 X",
                &format!(
                    "Location: ws://localhost:{port}/name\r\nSet-Cookie: first=4; Path=/\r\nSet-Cookie: there=; Path=/there; Max-Age=0\r\n"
                ),
            )),
            "/name" => Answer::Keep(head(
                "307 X",
                &format!("Location: ws://127.0.0.1:{port}/there/back\r\nSet-Cookie: first=5\r\n"),
            )),
            _ => Answer::Open("Set-Cookie: last=6; Path=/\r\n".to_owned()),
        }
    });
    let mut request = UrlRequest::new(origin.url("/start"));
    request.set_value("by-hand=1", "Cookie");
    let task = session.web_socket_task(request);
    task.resume();
    events.wait_for("open");
    let seen = origin.seen();
    let cookies: Vec<_> = seen.iter().map(|request| request.fields("Cookie")).collect();
    assert_eq!(cookies, [vec!["by-hand=1"], vec!["there=2; first=1"], vec![], vec!["first=4"]]);
    assert!(storage.cookies_for(&origin.url("/")).iter().any(|cookie| cookie.name() == "last"));

    // A request that wants no cookies neither sends nor stores any, and what it leads to does not either.
    let mut request = UrlRequest::new(origin.url("/start"));
    request.http_should_handle_cookies = false;
    let before = storage.cookies().len();
    session.web_socket_task(request).resume();
    events.wait_for("open");
    assert!(origin.seen()[seen.len()..].iter().all(|request| request.fields("Cookie").is_empty()));
    assert_eq!(storage.cookies().len(), before);
}

// Metrics.

/// The dates that there are, in the order of the way.
fn dates(hop: &TransactionMetrics) -> Vec<SystemTime> {
    let dates = [
        hop.fetch_start_date,
        hop.domain_lookup_start_date,
        hop.domain_lookup_end_date,
        hop.connect_start_date,
        hop.secure_connection_start_date,
        hop.secure_connection_end_date,
        hop.connect_end_date,
        hop.request_start_date,
        hop.request_end_date,
        hop.response_start_date,
        hop.response_end_date,
    ];
    dates.into_iter().flatten().collect()
}

#[test]
fn each_hop_has_its_metrics() {
    let body = "four";
    let first = format!("HTTP/1.1 302 Found\r\nLocation: /second\r\nX-Hop: 0\r\nContent-Length: 4\r\n\r\n{body}");
    for (versions, version) in [(ONLY_12, TlsProtocolVersion::TlsV12), (ONLY_13, TlsProtocolVersion::TlsV13)] {
        let target = Origin::secure(trusted_server(versions), |_| Answer::Open("X-Hop: 2\r\n".to_owned()));
        let there = target.url_of("localhost", "/third").to_string();
        let (answer, goes) = (first.clone(), there.clone());
        let origin = Origin::new(move |request| match request.target() {
            "/first" => Answer::Keep(answer.clone()),
            _ => Answer::Keep(head("308 X", &format!("Location: {goes}\r\nX-Hop: 1\r\n"))),
        });
        let (guide, events) = Guide::new();
        let (guide, metrics) = metrics_of(guide);
        let before = SystemTime::now();
        let session = guide.session(trusting());
        let mut request = UrlRequest::new(origin.url("/first"));
        request.set_value("mine", "X-Mine");
        let task = session.web_socket_task(request);
        task.resume();
        events.wait_for("open");
        task.cancel();
        events.wait_for("complete");
        let metrics = wait(&metrics);
        assert_eq!(metrics.redirect_count, 2);
        let [one, two, three] = &metrics.transaction_metrics[..] else { panic!("{metrics:?}") };
        let second = head("308 X", &format!("Location: {there}\r\nX-Hop: 1\r\n"));
        let seen = [origin.seen(), target.seen()].concat();
        let heads = [first.len() - body.len(), second.len()];
        let mut last = before;
        for (index, hop) in [one, two, three].into_iter().enumerate() {
            // All dates, those of other hops too, are in order.
            for date in dates(hop) {
                assert!(date >= last, "hop {index}: {hop:?}");
                last = date;
            }
            let request = &seen[index];
            assert_eq!(hop.count_of_request_header_bytes_sent, request.head.len() as i64, "hop {index}");
            if let Some(bytes) = heads.get(index) {
                assert_eq!(hop.count_of_response_header_bytes_received, *bytes as i64, "hop {index}");
            }
            assert_eq!(hop.network_protocol_name.as_deref(), Some("http/1.1"));
            assert!(!hop.is_proxy_connection);
            let response = hop.response.as_ref().unwrap();
            assert_eq!(response.value("X-Hop"), Some(index.to_string()));
            assert_eq!(response.url(), &hop.request.url);
            assert_eq!(hop.request.url.path(), request.target());
            // As it went out.
            for name in ["Host", "Sec-WebSocket-Key", "Upgrade", "X-Mine"] {
                assert_eq!(hop.request.value(name), request.field(name), "hop {index}: {name}");
            }
        }
        assert_eq!([one, two, three].map(|hop| hop.is_reused_connection), [false, true, false]);
        assert_eq!([one, two, three].map(|hop| dates(hop).len()), [7, 5, 11]);
        assert_eq!([one, two, three].map(|hop| hop.negotiated_tls_protocol_version), [None, None, Some(version)]);
        assert!(three.negotiated_tls_cipher_suite.is_some());
        // The second has those of the connection that it went out on.
        assert_eq!((one.local_address, one.remote_address), (two.local_address, two.remote_address));
        assert_ne!(two.local_address, three.local_address);
        assert_eq!(three.remote_address.unwrap().port(), target.port());
    }
}

#[test]
fn a_connection_through_tls_is_known_to_be_reused() {
    let origin = Origin::secure(trusted_server(BOTH), |request| match request.target() {
        "/0" => Answer::Keep(redirect(302, "/1")),
        "/1" => Answer::Keep(redirect(302, "/2")),
        _ => Answer::Open(String::new()),
    });
    let (guide, events) = Guide::new();
    let (guide, metrics) = metrics_of(guide);
    let (_session, task) = start(guide, origin.url("/0"));
    events.wait_for("open");
    task.cancel();
    let metrics = wait(&metrics);
    let hops = &metrics.transaction_metrics;
    assert_eq!(hops.iter().map(|hop| hop.is_reused_connection).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!(hops.iter().map(|hop| dates(hop).len()).collect::<Vec<_>>(), [9, 5, 5]);
    assert!(hops.iter().all(|hop| hop.negotiated_tls_protocol_version == Some(TlsProtocolVersion::TlsV13)));
    assert!(hops.iter().all(|hop| hop.negotiated_tls_cipher_suite == hops[0].negotiated_tls_cipher_suite));
    assert!(hops.iter().all(|hop| hop.local_address == hops[0].local_address && hop.local_address.is_some()));
}

#[test]
fn the_metrics_of_ways_that_do_not_arrive() {
    let origin = Origin::new(|request| match request.target() {
        "/refused" => Answer::Keep(redirect(302, "ftp://127.0.0.1/x")),
        _ => Answer::Keep(redirect(302, "/next")),
    });
    // Nobody follows; the target cannot be asked.
    for (path, followed, hops) in [("/stay", 0, 1), ("/refused", 1, 2)] {
        let (guide, events) = Guide::new();
        let guide = guide.redirect(move |_, _, request, handler| handler((followed > 0).then_some(request)));
        let (guide, metrics) = metrics_of(guide);
        let _kept = start(guide, origin.url(path));
        events.wait_for("complete");
        let metrics = wait(&metrics);
        assert_eq!((metrics.redirect_count, metrics.transaction_metrics.len()), (followed, hops), "{path}");
        assert_eq!(metrics.transaction_metrics[0].response.as_ref().unwrap().status_code(), 302);
        if let Some(last) = metrics.transaction_metrics.get(1) {
            assert!(last.response.is_none() && last.request_start_date.is_none());
            assert_eq!(last.request.url.as_str(), "ftp://127.0.0.1/x");
        }
    }
}
