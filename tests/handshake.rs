//! The way to the open socket: the request as it is on the wire, and the answers that are taken (RFC 6455 §4).
//!
//! Answers that are refused are in `refusals.rs`, what limits the time in `timers.rs`.

mod support;

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{TcpListener, ToSocketAddrs};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use support::hooks::{Called, hooks};
use support::{PATIENCE, Peer, Server, accept_for, close_frame, field, frame, recorded_session, recorded_session_with};
use urlsession::{
    ErrorCode, ErrorStage, SessionConfiguration, TaskMetrics, Url, UrlRequest, UrlSession, WebSocketTask,
};

/// A server that opens the WebSocket and closes it again; the request.
fn opening() -> (Server, Receiver<String>) {
    let (sender, requests) = mpsc::channel();
    let server = Server::one(move |mut peer| {
        sender.send(peer.open()).unwrap();
        peer.close(1000, "");
        peer.read_close();
    });
    (server, requests)
}

/// Opens a WebSocket; the request as the server saw it.
#[track_caller]
fn request_of(configuration: SessionConfiguration, make: impl FnOnce(&UrlSession, &Server) -> WebSocketTask) -> String {
    let (server, requests) = opening();
    let (session, _recorder, events) = recorded_session_with(configuration, None);
    make(&session, &server).resume();
    events.expect(&["open None", "close 1000 Some(\"\")", "complete None"]);
    let request = requests.recv_timeout(PATIENCE).unwrap();
    server.join();
    let names: Vec<String> =
        request.lines().skip(1).filter_map(|line| line.split_once(':')).map(|(name, _)| name.to_lowercase()).collect();
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len(), "a field is there twice:\n{request}");
    request
}

#[test]
fn a_plain_request() {
    let request = request_of(SessionConfiguration::default(), |session, server| {
        let url = format!("ws://me:secret@{}/chat;x=1/%20?room=a%20b&q=/?#part", server.address());
        session.web_socket_task(Url::parse(&url).unwrap())
    });
    let host = field(&request, "Host").unwrap().to_owned();
    assert!(request.starts_with("GET /chat;x=1/%20?room=a%20b&q=/? HTTP/1.1\r\n"), "{request}");
    assert!(host.starts_with("127.0.0.1:"), "{request}");
    assert!(field(&request, "Upgrade").unwrap().eq_ignore_ascii_case("websocket"));
    assert!(field(&request, "Connection").unwrap().eq_ignore_ascii_case("upgrade"));
    assert_eq!(field(&request, "Sec-WebSocket-Version"), Some("13"));
    assert_eq!(STANDARD.decode(field(&request, "Sec-WebSocket-Key").unwrap()).unwrap().len(), 16);
    for absent in ["Origin", "Authorization", "Cookie", "Sec-WebSocket-Protocol", "Content-Length", "Transfer-Encoding"]
    {
        assert_eq!(field(&request, absent), None, "{request}");
    }
    assert!(!request.contains("secret") && !request.contains("part"), "{request}");
    assert!(request.is_ascii() && request.split("\r\n").all(|line| !line.contains(['\r', '\n'])));
}

#[test]
fn an_address_without_a_path_asks_for_the_root() {
    for (suffix, target) in [("", "/"), ("?q", "/?q"), ("#f", "/")] {
        let request = request_of(SessionConfiguration::default(), |session, server| {
            session.web_socket_task(Url::parse(&format!("ws://{}{suffix}", server.address())).unwrap())
        });
        assert!(request.starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{request}");
    }
}

#[test]
fn each_handshake_has_a_key_of_its_own() {
    let keys: HashSet<String> = (0..8)
        .map(|_| {
            let request =
                request_of(SessionConfiguration::default(), |session, server| session.web_socket_task(server.url()));
            field(&request, "Sec-WebSocket-Key").unwrap().to_owned()
        })
        .collect();
    assert_eq!(keys.len(), 8);
}

#[test]
fn the_callers_fields_win_over_the_additional_ones_and_none_over_the_handshakes() {
    let mut configuration = SessionConfiguration::default();
    for (name, value) in [
        ("X-Both", "additional"),
        ("x-additional", "additional"),
        ("User-Agent", "tests"),
        ("UPGRADE", "h2c"),
        ("sec-websocket-version", "8"),
    ] {
        configuration.http_additional_headers.insert(name.to_owned(), value.to_owned());
    }
    let request = request_of(configuration, |session, server| {
        let mut request = UrlRequest::new(server.url());
        for (name, value) in [
            ("x-both", "caller"),
            ("Authorization", "Bearer abc"),
            ("Host", "virtual.example:1"),
            ("Origin", "https://page.example"),
            ("Cookie", "a=1"),
            ("X-Latin", "caf\u{e9}"),
            ("X-Empty", ""),
            ("X-Padded", " \tpadded "),
            ("connection", "close"),
            ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
            ("Sec-WebSocket-Version", "7"),
            ("Upgrade", "tls"),
        ] {
            request.set_value(value, name);
        }
        request.add_value("one", "X-Two");
        request.add_value("two", "x-two");
        session.web_socket_task(request)
    });
    for (name, value) in [
        ("X-Both", "caller"),
        ("X-Additional", "additional"),
        ("User-Agent", "tests"),
        ("Authorization", "Bearer abc"),
        ("Host", "virtual.example:1"),
        ("Origin", "https://page.example"),
        ("Cookie", "a=1"),
        ("X-Latin", "caf\u{e9}"),
        ("X-Empty", ""),
        ("X-Padded", "padded"),
        ("X-Two", "one, two"),
        ("Sec-WebSocket-Version", "13"),
    ] {
        assert_eq!(field(&request, name), Some(value), "{request}");
    }
    assert!(field(&request, "Upgrade").unwrap().eq_ignore_ascii_case("websocket"), "{request}");
    assert!(field(&request, "Connection").unwrap().eq_ignore_ascii_case("upgrade"), "{request}");
    assert_ne!(field(&request, "Sec-WebSocket-Key"), Some("AAAAAAAAAAAAAAAAAAAAAA=="));
}

#[test]
fn subprotocols_are_offered_in_one_field() {
    let offered = |protocols: &'static [&'static str]| {
        let request = request_of(SessionConfiguration::default(), |session, server| {
            session.web_socket_task_with_protocols(server.url(), protocols)
        });
        field(&request, "Sec-WebSocket-Protocol").map(str::to_owned)
    };
    assert_eq!(offered(&["chat.example", "soap"]).as_deref(), Some("chat.example, soap"));
    // Apple sends an empty field there, which RFC 6455 §4.1 forbids.
    assert_eq!(offered(&[]), None);
}

#[test]
fn the_chosen_subprotocol_is_told_however_it_was_offered() {
    for by_hand in [false, true] {
        let server = Server::one(|mut peer| {
            peer.open_with("Sec-WebSocket-Protocol:  soap \r\nX-More: 1\r\n");
            peer.close(1000, "");
            peer.read_close();
        });
        let (session, _recorder, events) = recorded_session();
        let task = if by_hand {
            let mut request = UrlRequest::new(server.url());
            request.set_value("chat,soap", "sec-websocket-protocol");
            session.web_socket_task(request)
        } else {
            session.web_socket_task_with_protocols(server.url(), &["chat", "soap"])
        };
        task.resume();
        events.expect(&["open Some(\"soap\")", "close 1000 Some(\"\")", "complete None"]);
        let response = task.response().unwrap();
        assert_eq!((response.status_code(), response.value("x-more").as_deref()), (101, Some("1")));
        assert_eq!(response.body(), b"");
        server.join();
    }
}

/// A task whose request cannot be sent: it fails when it is resumed, on the queue, and nothing is connected to.
#[track_caller]
fn unsendable(
    make: impl FnOnce(Url) -> UrlRequest,
    protocols: &[&str],
    additional: &[(&str, &str)],
) -> (ErrorCode, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = Url::parse(&format!("ws://{}/", listener.local_addr().unwrap())).unwrap();
    let mut configuration = SessionConfiguration::default();
    for (name, value) in additional {
        configuration.http_additional_headers.insert((*name).to_owned(), (*value).to_owned());
    }
    let (session, recorder, events) = recorded_session_with(configuration, None);
    let task = session.web_socket_task_with_protocols(make(url), protocols);
    task.receive(recorder.receiver("receive"));
    events.expect_silence(Duration::from_millis(5));
    assert!(task.error().is_none());
    task.resume();
    events.wait_for("complete");
    let error = task.error().unwrap();
    let code = error.raw_code();
    let log = events.log();
    assert_eq!(log, [format!("receive {code}"), "metrics".to_owned(), format!("complete {code}")]);
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(error.stage(), ErrorStage::Request);
    assert_eq!(error.failing_url(), Some(&task.original_request().url));
    (error.code(), error.reason().to_owned())
}

#[test]
fn fields_that_cannot_be_sent() {
    let values = ["a\rb", "a\nb", "a\r\nX-Injected: 1", "a\0b", "\u{7f}", "\u{1}"];
    let names = ["X Bad", "X-Bad:", "X-B\u{e4}d", "", "X-Bad\r\nY", "(X-Bad)", "X-Bad\0"];
    for value in values {
        let (code, reason) = unsendable(
            |url| {
                let mut request = UrlRequest::new(url);
                request.set_value(value, "X-Named");
                request
            },
            &[],
            &[],
        );
        assert_eq!(code, ErrorCode::BadUrl, "{value:?}");
        assert!(reason.contains("X-Named"), "{reason}");
        assert!(!reason.contains(value), "the value may be a secret: {reason}");
        let (code, reason) = unsendable(UrlRequest::new, &[], &[("X-Additional", value)]);
        assert!(code == ErrorCode::BadUrl && reason.contains("X-Additional"), "{value:?}: {reason}");
    }
    for name in names {
        let (code, reason) = unsendable(
            |url| {
                let mut request = UrlRequest::new(url);
                request.set_value("fine", name);
                request
            },
            &[],
            &[],
        );
        assert_eq!(code, ErrorCode::BadUrl, "{name:?}");
        let begins = name.split(['\r', '\0', '\u{e4}']).next().unwrap();
        assert!(reason.contains(begins), "{reason}");
        let (code, _) = unsendable(UrlRequest::new, &[], &[(name, "fine")]);
        assert_eq!(code, ErrorCode::BadUrl, "{name:?}");
    }
    for protocols in [&[""][..], &["a b"], &["a,b"], &["a", "a"], &["a\r\nX: 1"], &["\u{e4}"], &["a", ""]] {
        assert_eq!(unsendable(UrlRequest::new, protocols, &[]).0, ErrorCode::BadUrl, "{protocols:?}");
    }
}

#[test]
fn requests_that_open_no_websocket() {
    for address in ["ftp://127.0.0.1/", "file:///tmp/x", "mailto:me@example.com", "unix:/tmp/x", "wsx://127.0.0.1/"] {
        let (code, _) = unsendable(|_| UrlRequest::new(Url::parse(address).unwrap()), &[], &[]);
        assert_eq!(code, ErrorCode::UnsupportedUrl, "{address}");
    }
    for method in ["POST", "HEAD", "CONNECT", "", "GET /x HTTP/1.1\r\nX: 1\r\n\r\nGET"] {
        let (code, _) = unsendable(
            |url| {
                let mut request = UrlRequest::new(url);
                request.http_method = method.to_owned();
                request
            },
            &[],
            &[],
        );
        assert_eq!(code, ErrorCode::UnsupportedUrl, "{method}");
    }
}

#[test]
fn http_is_a_synonym_of_ws() {
    let request = request_of(SessionConfiguration::default(), |session, server| {
        session.web_socket_task(Url::parse(&format!("http://{}/x", server.address())).unwrap())
    });
    assert!(request.starts_with("GET /x HTTP/1.1\r\n"), "{request}");
}

/// Plays `answer`, with `@` for the right `Sec-WebSocket-Accept`, and a Close behind it in the same segment.
fn answers(answer: &str, bytewise: bool) -> Server {
    let answer = answer.to_owned();
    Server::one(move |mut peer| {
        let request = peer.read_request();
        let mut bytes = answer.replace('@', &accept_for(field(&request, "Sec-WebSocket-Key").unwrap())).into_bytes();
        bytes.extend(close_frame(1000, "bye"));
        if bytewise {
            peer.write_bytewise(&bytes);
        } else {
            peer.write(&bytes);
        }
        assert_eq!(peer.read_close().0, Some(1000));
    })
}

#[test]
fn answers_that_open_the_socket() {
    let heads = [
        "HTTP/1.1 101 \r\nupgrade:WEBSOCKET\r\nconnection:upgrade\r\nsec-websocket-accept:@\r\n\r\n",
        "HTTP/1.1 101 Any Words: even these\r\nUpgrade: websocket\r\nConnection: keep-alive,\tUpgrade , x\r\n\
         Sec-WebSocket-Accept: \t@ \t\r\n\r\n",
        "HTTP/1.1 101 Two\r\nConnection: keep-alive\r\nUpgrade: , websocket,\r\nConnection: UPGRADE\r\n\
         SEC-WEBSOCKET-ACCEPT: @\r\nDate: now\r\nX-Empty:\r\n\r\n",
        "HTTP/1.1 101 Empty lists\r\nUpgrade: websocket\r\nConnection: ,Upgrade\r\nSec-WebSocket-Accept: @\r\n\
         Sec-WebSocket-Extensions: \r\n\r\n",
    ];
    for head in heads {
        for bytewise in [false, true] {
            let server = answers(head, bytewise);
            let (session, recorder, events) = recorded_session();
            let task = session.web_socket_task(server.url());
            task.receive(recorder.receiver("receive"));
            task.resume();
            events.expect(&["open None", "receive 57", "close 1000 Some(\"bye\")", "complete None"]);
            server.join();
        }
    }
}

#[test]
fn informational_responses_are_told_each() {
    let head = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Wait\r\n\r\n\
                HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: @\r\n\r\n";
    for bytewise in [false, true] {
        let server = answers(head, bytewise);
        let (told, links) = mpsc::channel();
        let (recorder, events) = support::recorder();
        let delegate = hooks(move |_, task, called| match called {
            Called::Informational(response) => {
                // It is not the task's response: that one is still to come, or, on this queue, came already.
                assert_eq!(response.url(), &task.unwrap().original_request().url);
                told.send((response.status_code(), response.value("link"))).unwrap();
            }
            Called::Open(_) | Called::Close(..) | Called::Complete(_) => recorder.note(called.name()),
            _ => {}
        });
        let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), None);
        let task = session.web_socket_task(server.url());
        task.resume();
        events.wait_for("complete");
        assert_eq!(events.log(), ["open", "close", "complete"]);
        let told: Vec<(u16, Option<String>)> = links.try_iter().collect();
        assert_eq!(told, [(100, None), (103, Some("</a>".to_owned())), (102, None)]);
        assert_eq!(task.response().unwrap().status_code(), 101);
        server.join();
    }
}

#[test]
fn what_follows_the_101_belongs_to_the_frames() {
    for bytewise in [false, true] {
        let server = Server::one(move |mut peer| {
            let request = peer.read_request();
            let mut bytes = Peer::switching_protocols(&request, "");
            bytes.extend(frame(0x81, b"first"));
            bytes.extend(frame(0x89, b"ping"));
            bytes.extend(frame(0x02, b"sec"));
            bytes.extend(frame(0x80, b"ond"));
            bytes.extend(close_frame(1000, "bye"));
            if bytewise {
                peer.write_bytewise(&bytes);
            } else {
                peer.write(&bytes);
            }
            peer.read_close();
        });
        let (session, recorder, events) = recorded_session();
        let task = session.web_socket_task(server.url());
        for _ in 0..3 {
            task.receive(recorder.receiver("receive"));
        }
        task.resume();
        events.expect(&[
            "open None",
            "receive string first",
            &format!("receive data {:?}", b"second"),
            "receive 57",
            "close 1000 Some(\"bye\")",
            "complete None",
        ]);
        server.join();
    }
}

/// The error of a task that got `head`; the server may be cut off while it writes.
#[track_caller]
fn error_of(head: impl Into<Vec<u8>>, bytewise: bool) -> Option<(ErrorCode, String)> {
    let head = head.into();
    let server = Server::one(move |mut peer| {
        let request = peer.read_request();
        let accept = accept_for(field(&request, "Sec-WebSocket-Key").unwrap());
        let mut bytes = Vec::new();
        for &byte in &head {
            if byte == b'@' { bytes.extend(accept.as_bytes()) } else { bytes.push(byte) }
        }
        let chunk = if bytewise { 1 } else { 1 << 20 };
        for piece in bytes.chunks(chunk) {
            if std::io::Write::write_all(&mut peer.stream, piece).is_err() {
                break;
            }
        }
        // Until the Close of a task that opened, or the end.
        while peer.try_read_frame().is_ok_and(|frame| frame.opcode() != 8) {}
    });
    let (session, _recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    task.resume();
    let mut event = events.next();
    while event.starts_with("informational") {
        event = events.next();
    }
    let opened = event == "open None";
    task.cancel();
    server.join();
    events.wait_for("complete");
    let error = task.error().unwrap();
    (!opened).then(|| (error.code(), error.reason().to_owned()))
}

const RIGHT: &str = "HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: @\r\n";

#[test]
fn a_head_has_at_most_64_kib_and_128_fields() {
    let room = 65536 - RIGHT.len() + 1 - accept_for("").len() - "X: \r\n\r\n".len();
    let of_length = |length: usize| format!("{RIGHT}X: {}\r\n\r\n", "y".repeat(length));
    assert_eq!(error_of(of_length(room), false), None);
    assert_eq!(error_of(of_length(room + 1), false).unwrap().0, ErrorCode::CannotParseResponse);
    // Those of informational responses count with it.
    let hints = format!("HTTP/1.1 103 Hints\r\nLink: {}\r\n\r\n", "y".repeat(40_000));
    assert_eq!(error_of(format!("{hints}{}", of_length(10_000)), false), None);
    assert_eq!(error_of(format!("{hints}{}", of_length(40_000)), false).unwrap().0, ErrorCode::CannotParseResponse);
    let endless = error_of(format!("HTTP/1.1 101 OK\r\nX: {}", "y".repeat(10_000_000)), false).unwrap();
    assert!(endless.0 == ErrorCode::CannotParseResponse && endless.1.contains("65536"), "{}", endless.1);

    let of_fields = |count: usize| format!("{RIGHT}{}\r\n", "X: y\r\n".repeat(count - 3));
    assert_eq!(error_of(of_fields(128), false), None);
    let (code, reason) = error_of(of_fields(129), false).unwrap();
    assert!(code == ErrorCode::CannotParseResponse && reason.contains("128"), "{reason}");
}

#[test]
fn malformed_heads() {
    let heads = [
        "SSH-2.0-OpenSSH_9.6\r\n",
        "\r\nHTTP/1.1 101 OK\r\n\r\n",
        "HTTP/2 101 OK\r\n\r\n",
        "HTTP/1.2 101 OK\r\n\r\n",
        "HTTP/1.1 1O1 OK\r\n\r\n",
        "HTTP/1.1 10 OK\r\n\r\n",
        "HTTP/1.1 000 OK\r\n\r\n",
        "HTTP/1.1 1011 OK\r\n\r\n",
        "HTTP/1.1 101 OK\nUpgrade: websocket\n\n",
        "HTTP/1.1 101 OK\r\nUpgrade : websocket\r\n\r\n",
        "HTTP/1.1 101 OK\r\n: nameless\r\n\r\n",
        "HTTP/1.1 101 OK\r\nnothing\r\n\r\n",
        "HTTP/1.1 101 OK\r\nX: folded\r\n over\r\n\r\n",
        "HTTP/1.1 101 OK\r\nX: a\0b\r\n\r\n",
        "HTTP/1.1 101 OK\r\nX: a\rb\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0",
    ];
    for head in heads {
        for bytewise in [false, true] {
            let (code, reason) = error_of(head, bytewise).unwrap_or_else(|| panic!("{head:?} opened the socket"));
            assert_eq!(code, ErrorCode::CannotParseResponse, "{head:?}: {reason}");
        }
    }
}

/// Runs a task to the Close of a server at `listener`, under the name `host`.
#[track_caller]
fn open_by_name(listener: TcpListener, host: &str) {
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let mut peer = Peer::new(listener.accept().unwrap().0);
        let request = peer.open();
        peer.close(1000, "");
        peer.read_close();
        request
    });
    let (session, _recorder, events) = recorded_session();
    let task = session.web_socket_task(Url::parse(&format!("ws://{host}:{port}/")).unwrap());
    task.resume();
    events.expect(&["open None", "close 1000 Some(\"\")", "complete None"]);
    assert_eq!(field(&server.join().unwrap(), "Host"), Some(&*format!("{host}:{port}")));
}

#[test]
fn localhost_by_name() {
    // Whichever of its addresses comes first: the one where nobody listens is refused, and the next one is tried.
    open_by_name(TcpListener::bind("127.0.0.1:0").unwrap(), "localhost");
    let has_v6 = ("localhost", 0).to_socket_addrs().unwrap().any(|address| address.is_ipv6());
    if let (true, Ok(listener)) = (has_v6, TcpListener::bind("[::1]:0")) {
        open_by_name(listener, "localhost");
    }
}

#[test]
fn an_ipv6_literal() {
    match TcpListener::bind("[::1]:0") {
        Ok(listener) => open_by_name(listener, "[::1]"),
        Err(error) => println!("skipped: this machine has no ::1 ({error})"),
    }
}

#[test]
fn metrics_tell_the_way_in_order() {
    let (server, requests) = opening();
    let (told, metrics) = mpsc::channel::<TaskMetrics>();
    let delegate = hooks(move |_, _, called| {
        if let Called::Metrics(metrics) = called {
            told.send(metrics.clone()).unwrap();
        }
    });
    let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), None);
    let before = SystemTime::now();
    let url = Url::parse(&format!("ws://localhost:{}/x", server.address().port())).unwrap();
    session.web_socket_task(url.clone()).resume();
    let metrics = metrics.recv_timeout(PATIENCE).unwrap();
    let after = SystemTime::now();
    let request = requests.recv_timeout(PATIENCE).unwrap();
    server.join();

    let (created, lasted) = metrics.task_interval;
    let tolerance = Duration::from_millis(50);
    assert!(created + tolerance >= before && created + lasted <= after + tolerance);
    assert_eq!((metrics.redirect_count, metrics.transaction_metrics.len()), (0, 1));
    let transaction = &metrics.transaction_metrics[0];
    let dates = [
        Some(created),
        transaction.fetch_start_date,
        transaction.domain_lookup_start_date,
        transaction.domain_lookup_end_date,
        transaction.connect_start_date,
        transaction.connect_end_date,
        transaction.request_start_date,
        transaction.request_end_date,
        transaction.response_start_date,
        transaction.response_end_date,
        Some(created + lasted),
    ];
    assert!(dates.iter().all(Option::is_some), "{dates:?}");
    assert!(dates.is_sorted(), "{dates:?}");
    assert_eq!((transaction.secure_connection_start_date, transaction.secure_connection_end_date), (None, None));
    assert_eq!(transaction.negotiated_tls_protocol_version, None);
    assert_eq!(transaction.network_protocol_name.as_deref(), Some("http/1.1"));
    assert!(!transaction.is_proxy_connection && !transaction.is_reused_connection);
    assert_eq!(transaction.count_of_request_header_bytes_sent, request.len() as i64);
    assert_eq!(
        transaction.count_of_response_header_bytes_received,
        Peer::switching_protocols(&request, "").len() as i64
    );
    assert_eq!(transaction.remote_address.map(|address| address.port()), url.port());
    assert!(transaction.local_address.unwrap().ip().is_loopback());
    assert_eq!(transaction.request.url, url);
    assert_eq!(transaction.request.value("Sec-WebSocket-Key"), field(&request, "Sec-WebSocket-Key"));
    assert_eq!(transaction.response.as_ref().map(|response| response.status_code()), Some(101));
}
