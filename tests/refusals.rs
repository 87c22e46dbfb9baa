//! How a task ends, continued: the server refuses the handshake (row E), answers it wrongly (F), sends too much (G), or
//! breaks the protocol (H).

mod support;

use std::net::Shutdown;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use support::scene::{Row, Scene, unopened};
use support::{PATIENCE, Peer, Server, accept_for, close_frame, field, frame, recorded_session, recorded_session_with};
use urlsession::{
    CloseCode, ErrorCode, ErrorDomain, ErrorStage, SessionConfiguration, UrlError, UrlRequest, UrlSession,
    WebSocketTask,
};

/// A server that answers with `answer`, which may depend on the request, and then waits for the end of the connection; a
/// client that was refused sends nothing more.
fn answering(answer: impl FnOnce(&str) -> Vec<u8> + Send + 'static) -> Server {
    Server::one(move |mut peer| {
        let request = peer.read_request();
        peer.write(&answer(&request));
        assert_eq!(peer.read_to_end(), b"", "bytes after the refusal");
    })
}

/// Runs a task until it is refused; its error.
#[track_caller]
fn refused(server: Server, make: impl FnOnce(&UrlSession, &Server) -> WebSocketTask) -> (WebSocketTask, UrlError) {
    let (session, recorder, events) = recorded_session();
    let task = make(&session, &server);
    task.receive(recorder.receiver("receive"));
    task.resume();
    events.expect(&["receive -1011", "complete -1011"]);
    server.join();
    let error = task.error().unwrap();
    assert_eq!((error.code(), error.stage()), (ErrorCode::BadServerResponse, ErrorStage::Upgrade));
    assert_eq!(task.close_code(), CloseCode::INVALID);
    (task, error)
}

fn plain(session: &UrlSession, server: &Server) -> WebSocketTask {
    session.web_socket_task(server.url())
}

#[test]
fn row_e_with_calls_of_every_kind() {
    let server = answering(|_| b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec());
    let mut scene = Scene::new(&server.url(), SessionConfiguration::default());
    scene.server = Some(server);
    scene.task.resume();
    scene.expect(&unopened(-1011, "complete -1011", "Completed 0 None Some(-1011) Some(404)"));
}

#[test]
fn row_e_the_refusal_can_be_read() {
    let server = answering(|_| {
        b"HTTP/1.1 404 Not Found\r\nX-Why: gone\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nContent-Length: 9\r\n\r\nno socket, and more"
            .to_vec()
    });
    let (task, error) = refused(server, plain);
    for response in [error.response().unwrap(), &task.response().unwrap()] {
        assert_eq!((response.status_code(), response.http_version()), (404, "HTTP/1.1"));
        assert_eq!(response.url(), &task.original_request().url);
        assert_eq!(response.value("x-why").as_deref(), Some("gone"));
        assert_eq!(response.value("Set-Cookie").as_deref(), Some("a=1, b=2"));
        let fields: Vec<(&str, &str)> = response.header_fields().collect();
        assert_eq!(fields, [("X-Why", "gone"), ("Set-Cookie", "a=1"), ("set-cookie", "b=2"), ("Content-Length", "9")]);
        assert_eq!(response.body(), b"no socket");
    }
    assert!(error.to_string().contains("404"), "{error}");
}

#[test]
fn row_e_bodies_of_each_framing() {
    let chunked = "HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nbusy\r\n6\r\n today\r\n0\r\n\r\n";
    let (_, error) = refused(answering(|_| chunked.as_bytes().to_vec()), plain);
    assert_eq!(error.response().unwrap().body(), b"busy today");

    let until_the_end = Server::one(|mut peer| {
        peer.read_request();
        peer.write(b"HTTP/1.0 500 No\r\n\r\nuntil the end");
        peer.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(peer.read_to_end(), b"");
    });
    let (_, error) = refused(until_the_end, plain);
    assert_eq!(error.response().unwrap().body(), b"until the end");

    let none = "HTTP/1.1 204 No\r\n\r\n";
    let (_, error) = refused(answering(|_| none.as_bytes().to_vec()), plain);
    assert_eq!((error.response().unwrap().status_code(), error.response().unwrap().body()), (204, &b""[..]));
}

#[test]
fn row_e_at_most_64_kib_of_a_body_are_kept() {
    let server = Server::one(|mut peer| {
        peer.read_request();
        peer.write(b"HTTP/1.1 403 No\r\nContent-Length: 100000\r\n\r\n");
        // The client may be gone before the last byte.
        let _ = std::io::Write::write_all(&mut peer.stream, &[b'x'; 100_000]);
        assert_eq!(peer.read_to_end(), b"");
    });
    let (_, error) = refused(server, plain);
    assert_eq!(error.response().unwrap().body(), [b'x'; 65536]);
}

#[test]
fn row_e_a_body_that_does_not_come_is_not_waited_for() {
    let server = answering(|_| b"HTTP/1.1 403 No\r\nContent-Length: 100\r\n\r\nhalf".to_vec());
    let mut configuration = SessionConfiguration::default();
    configuration.web_socket.close_timeout = Duration::from_millis(200);
    let (session, _recorder, events) = recorded_session_with(configuration, None);
    let task = session.web_socket_task(server.url());
    let resumed = Instant::now();
    task.resume();
    events.expect(&["complete -1011"]);
    assert!(resumed.elapsed() >= Duration::from_millis(200));
    assert_eq!(task.error().unwrap().response().unwrap().body(), b"half");
    server.join();
}

#[test]
fn row_e_a_101_that_is_no_handshake() {
    let upgrade = "Upgrade: websocket\r\n";
    let connection = "Connection: Upgrade\r\n";
    let heads = [
        // The request's key stands for `%`, its right answer for `@`.
        format!("HTTP/1.1 101 OK\r\n{connection}Sec-WebSocket-Accept: @\r\n\r\n"),
        format!("HTTP/1.1 101 OK\r\nUpgrade: h2c\r\n{connection}Sec-WebSocket-Accept: @\r\n\r\n"),
        format!("HTTP/1.1 101 OK\r\nUpgrade: websockets\r\n{connection}Sec-WebSocket-Accept: @\r\n\r\n"),
        format!("HTTP/1.1 101 OK\r\n{upgrade}Sec-WebSocket-Accept: @\r\n\r\n"),
        format!("HTTP/1.1 101 OK\r\n{upgrade}Connection: keep-alive\r\nSec-WebSocket-Accept: @\r\n\r\n"),
        format!("HTTP/1.1 101 OK\r\n{upgrade}{connection}\r\n"),
        format!("HTTP/1.1 101 OK\r\n{upgrade}{connection}Sec-WebSocket-Accept:\r\n\r\n"),
        format!("HTTP/1.1 101 OK\r\n{upgrade}{connection}Sec-WebSocket-Accept: %\r\n\r\n"),
        format!("HTTP/1.1 101 OK\r\n{upgrade}{connection}Sec-WebSocket-Accept: x@\r\n\r\n"),
        format!("HTTP/1.1 101 OK\r\n{upgrade}{connection}Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"),
        format!("HTTP/1.0 101 OK\r\n{upgrade}{connection}Sec-WebSocket-Accept: @\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\n{upgrade}{connection}Sec-WebSocket-Accept: @\r\nContent-Length: 0\r\n\r\n"),
    ];
    for head in heads {
        let shown = head.clone();
        let server = answering(move |request| {
            let key = field(request, "Sec-WebSocket-Key").unwrap();
            head.replace('%', key).replace('@', &accept_for(key)).into_bytes()
        });
        let (task, error) = refused(server, plain);
        let status = if shown.contains(" 200 ") { 200 } else { 101 };
        assert_eq!(error.response().unwrap().status_code(), status, "{shown}");
        assert_eq!(task.response().unwrap().status_code(), status, "{shown}");
    }
}

#[test]
fn row_f_with_calls_of_every_kind() {
    let server = answering(|request| Peer::switching_protocols(request, "Sec-WebSocket-Protocol: chat\r\n"));
    let mut scene = Scene::new(&server.url(), SessionConfiguration::default());
    scene.server = Some(server);
    scene.task.resume();
    scene.expect(&unopened(-1011, "complete -1011", "Completed 0 None Some(-1011) Some(101)"));
}

#[test]
fn row_f_what_was_not_offered() {
    // Compared exactly: RFC 6455 §4.1, item 6 of the checks.
    for answer in ["superchat", "CHAT", "chat, soap", "chat\r\nSec-WebSocket-Protocol: soap", ""] {
        let lines = format!("Sec-WebSocket-Protocol: {answer}\r\n");
        let server = answering(move |request| Peer::switching_protocols(request, &lines));
        let (_, error) =
            refused(server, |session, server| session.web_socket_task_with_protocols(server.url(), &["chat", "soap"]));
        assert_eq!(error.response().unwrap().status_code(), 101, "{answer}");
    }
    for answer in ["x-unknown", "permessage-deflate", "x-mine, x-unknown; a=\"b\"", "x-mine;;", "\"x-mine\""] {
        let lines = format!("Sec-WebSocket-Extensions: {answer}\r\n");
        let server = answering(move |request| Peer::switching_protocols(request, &lines));
        let (_, error) = refused(server, |session, server| {
            let mut request = UrlRequest::new(server.url());
            // Set by hand without `permessage-deflate`: that is not offered.
            request.set_value("x-mine", "Sec-WebSocket-Extensions");
            session.web_socket_task(request)
        });
        assert_eq!(error.response().unwrap().status_code(), 101, "{answer}");
    }
}

#[test]
fn row_g_with_calls_of_every_kind() {
    let scene = Scene::open(SessionConfiguration::default(), |mut peer| {
        // The header of a message of 1 MiB: it is refused before a byte of it has come.
        peer.write(&[0x82, 127, 0, 0, 0, 0, 0, 16, 0, 0]);
        assert_eq!(peer.read_close().0, Some(1009));
        None
    });
    let task = scene.task.clone();
    scene.expect(&Row {
        opened: true,
        waiting: 40,
        later: 57,
        close: None,
        complete: "complete 40",
        facts: "Completed 0 None Some(40) Some(101)",
    });
    let error = task.error().unwrap();
    assert_eq!((error.code(), error.domain()), (ErrorCode::MessageTooLong, ErrorDomain::Posix));
}

/// Runs a task with a limit against bytes of a server; what it was told, and the Close that the server got.
fn against(limit: usize, bytes: &[u8]) -> (Vec<String>, (Option<u16>, Vec<u8>)) {
    let (told, closed) = mpsc::channel();
    let bytes = bytes.to_vec();
    let server = Server::one(move |mut peer| {
        peer.open();
        peer.write(&bytes);
        told.send(peer.read_close()).unwrap();
        // The server closes TCP first (RFC 6455 §7.1.1), and nothing follows a Close (§5.5.1).
        peer.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(peer.read_to_end(), b"");
    });
    let (session, recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    task.set_maximum_message_size(limit);
    for _ in 0..3 {
        task.receive(recorder.receiver("receive"));
    }
    task.resume();
    events.wait_for("complete");
    let close = closed.recv_timeout(PATIENCE).unwrap();
    server.join();
    assert_eq!(task.close_code(), CloseCode::INVALID);
    assert_eq!(task.close_reason(), None);
    (events.log(), close)
}

#[test]
fn row_g_the_limit_counts_over_all_fragments() {
    let long = frame(0x82, &[7; 100]);
    let huge = [0x82, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff].to_vec();
    let fragments = [frame(0x01, &[b'a'; 60]), frame(0x00, &[b'b'; 39]), frame(0x80, b"c")].concat();
    let after_empty = [frame(0x02, b""), frame(0x00, b""), frame(0x80, &[1; 100])].concat();
    for bytes in [long, huge, fragments, after_empty] {
        let whole = [frame(0x81, b"whole"), bytes].concat();
        let (log, (code, _)) = against(100, &whole);
        assert_eq!(log, ["open None", "receive string whole", "receive 40", "receive 40", "metrics", "complete 40"]);
        assert_eq!(code, Some(1009));
    }
}

/// What RFC 6455 forbids a server, with the section.
fn violations() -> Vec<(&'static str, Vec<u8>)> {
    let mut cases: Vec<(&str, Vec<u8>)> = vec![
        ("RSV1 without an extension: §5.2", frame(0xc1, b"a")),
        ("RSV2: §5.2", frame(0xa1, b"a")),
        ("RSV3: §5.2", frame(0x91, b"a")),
        ("RSV1 of a ping: §5.2", frame(0xc9, b"")),
        ("a masked frame: §5.1", vec![0x81, 0x81, 1, 2, 3, 4, b'a' ^ 1]),
        ("a masked ping: §5.1", vec![0x89, 0x80, 1, 2, 3, 4]),
        ("a ping in fragments: §5.5", frame(0x09, b"a")),
        ("a pong in fragments: §5.5", frame(0x0a, b"a")),
        ("a Close in fragments: §5.5", frame(0x08, &1000_u16.to_be_bytes())),
        ("a ping of 126 bytes: §5.5", frame(0x89, &[0; 126])),
        ("a ping of 65536 bytes: §5.5", frame(0x89, &[0; 65536])),
        ("a Close of 126 bytes: §5.5", close_frame(1000, &"a".repeat(124))),
        ("a continuation of nothing: §5.4", frame(0x80, b"a")),
        ("text inside of a message: §5.4", [frame(0x01, b"a"), frame(0x81, b"b")].concat()),
        ("binary inside of a message: §5.4", [frame(0x02, b"a"), frame(0x02, b"b")].concat()),
        ("a length of 2^63: §5.2", vec![0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]),
        ("125 in 16 bits: §5.2", vec![0x82, 126, 0, 125]),
        ("0 in 64 bits: §5.2", vec![0x82, 127, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("65535 in 64 bits: §5.2", vec![0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
        ("half a code: §5.5.1", frame(0x88, &[3])),
    ];
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        cases.push(("a reserved opcode: §5.2", frame(0x80 | opcode, b"")));
    }
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        cases.push(("a code that no endpoint sends: §7.4", close_frame(code, "")));
    }
    cases
}

#[test]
fn row_h_each_violation_of_the_framing_is_told_with_1002() {
    for (name, bytes) in violations() {
        let (log, (code, reason)) = against(0, &[frame(0x81, b"before"), bytes].concat());
        let expected = ["open None", "receive string before", "receive 100", "receive 100", "metrics", "complete 100"];
        assert_eq!(log, expected, "{name}");
        assert_eq!(code, Some(1002), "{name}");
        assert!(reason.len() <= 123 && String::from_utf8(reason).is_ok(), "{name}");
    }
}

#[test]
fn row_h_text_that_is_not_utf_8_is_told_with_1007() {
    let cases = [
        ("a lone continuation byte", frame(0x81, b"a\x80")),
        ("an overlong slash", frame(0x81, b"\xc0\xaf")),
        ("a surrogate", frame(0x81, b"\xed\xa0\x80")),
        ("above U+10FFFF", frame(0x81, b"\xf4\x90\x80\x80")),
        ("a character that does not end", frame(0x81, b"\xe2\x82")),
        ("one that does not end, in fragments", [frame(0x01, b"a"), frame(0x80, b"\xf0\x9f\x98")].concat()),
        ("a bad byte of a message that goes on", frame(0x01, b"\xff")),
        ("a bad byte of a frame that goes on", frame(0x81, &[0xff; 40_000])[..30_000].to_vec()),
        ("a bad byte across two fragments", [frame(0x01, b"\xe2"), frame(0x00, b"a")].concat()),
        ("the reason of a Close", [&[0x88, 4], &1000_u16.to_be_bytes()[..], b"\xc3\x28"].concat()),
    ];
    for (name, bytes) in cases {
        let (log, (code, _)) = against(0, &[frame(0x82, b"\xff"), bytes].concat());
        let expected = ["open None", "receive data [255]", "receive 100", "receive 100", "metrics", "complete 100"];
        assert_eq!(log, expected, "{name}");
        assert_eq!(code, Some(1007), "{name}");
    }
}

#[test]
fn row_h_with_calls_of_every_kind() {
    let scene = Scene::open(SessionConfiguration::default(), |mut peer| {
        peer.write(&frame(0x83, b""));
        assert_eq!(peer.read_close().0, Some(1002));
        None
    });
    let task = scene.task.clone();
    scene.expect(&Row {
        opened: true,
        waiting: 100,
        later: 57,
        close: None,
        complete: "complete 100",
        facts: "Completed 0 None Some(100) Some(101)",
    });
    let error = task.error().unwrap();
    assert_eq!(
        (error.code(), error.domain(), error.stage()),
        (ErrorCode::ProtocolError, ErrorDomain::Posix, ErrorStage::Open)
    );
}

#[test]
fn what_comes_behind_a_violation_means_nothing() {
    let bytes = [frame(0x83, b""), frame(0x81, b"late"), close_frame(1000, "late")].concat();
    let (log, (code, _)) = against(0, &bytes);
    assert_eq!(log, ["open None", "receive 100", "receive 100", "receive 100", "metrics", "complete 100"]);
    assert_eq!(code, Some(1002));
}
