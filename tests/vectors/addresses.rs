//! Addresses and the subprotocols that go with them: `url_websocket.json`.

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use urlsession::internals::{Added, upgrade};
use urlsession::{ErrorCode, SessionConfiguration, Url, UrlRequest, UrlSession, WebSocketOptions};

use super::{cases, equal, run_all, text};

const URL_DIFFERENCES: [(&str, &str); 8] = [
    ("pyws http://localhost/", SYNONYM),
    ("pyws https://localhost/", SYNONYM),
    ("pyws ws:///path", "the URL Standard reads any number of slashes, and so `path` is the host"),
    ("pyws ws://user@localhost/", "a user without a password is one: neither is sent"),
    ("pyws ws://localhost/path#fragment", FRAGMENT),
    ("wpt/fragment ws://HOST:PORT/#", FRAGMENT),
    ("wpt/fragment ws://HOST:PORT/#test", FRAGMENT),
    ("ws wss://websocket-echo.com#foo", FRAGMENT),
];

const SYNONYM: &str = "http and https are taken for ws and wss";
const FRAGMENT: &str = "a fragment is not sent, and does no harm";

#[test]
fn urls() {
    let Some(cases) = cases("url_websocket.json", "cases", 53) else { return };
    run_all(&cases, &URL_DIFFERENCES, |case| {
        let url = match text(case, "url") {
            url if url.contains("//HOST") => {
                let url = url.replace("HOST(upper case)", "LOCALHOST");
                url.replace("//HOST", "//localhost").replace("PORT", "8080")
            }
            url => url.to_owned(),
        };
        let head = Url::parse(&url).map_err(|error| error.to_string()).and_then(|url| {
            let upgrade = upgrade(
                &UrlRequest::new(url),
                &HashMap::new(),
                &WebSocketOptions::default(),
                Added::default(),
                [0; 16],
            );
            upgrade.map(|upgrade| upgrade.head).map_err(|error| error.to_string())
        });
        let head = match (text(case, "expected"), head) {
            ("reject", Err(_)) => return Ok(()),
            ("accept" | "disputed", Ok(head)) => head,
            (expected, head) => return Err(format!("expected: {expected}; {head:?}")),
        };
        let target = head.split(' ').nth(1).unwrap();
        if let Some(expected) = case["request_target"].as_str() {
            equal("the request target", target, expected)?;
        }
        if let Some(suffix) = case["request_target_suffix"].as_str() {
            equal("the end of the request target", target.ends_with(suffix), true)?;
        }
        let host = head.lines().find_map(|line| line.strip_prefix("Host: ")).unwrap();
        if let Some(expected) = case["host_header"].as_str() {
            equal("Host", host, expected)?;
        }
        if let (Some(expected), Ok(url)) = (case["host"].as_str(), Url::parse(&url)) {
            equal("the host", url.host_str().map(|host| host.trim_matches(['[', ']'])), Some(expected))?;
            if let Some(port) = case["port"].as_u64() {
                equal("the port", url.port_or_known_default().map(u64::from), Some(port))?;
            }
        }
        equal("an Authorization", head.contains("Authorization"), false)
    });
}

#[test]
fn subprotocols() {
    let Some(cases) = cases("url_websocket.json", "cases_subprotocol_argument", 166) else { return };
    // A port that nobody listens on, and that nobody else is given meanwhile.
    let closed = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    closed.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let address = closed.local_addr().unwrap().as_socket().unwrap();
    let url = Url::parse(&format!("ws://{address}/")).unwrap();

    let session = UrlSession::new(SessionConfiguration::default());
    assert!(cases.iter().any(|case| case["accept"] == true));
    run_all(&cases, &[], |case| {
        let protocols: Vec<&str> =
            case["protocols"].as_array().unwrap().iter().map(|protocol| protocol.as_str().unwrap()).collect();
        let task = session.web_socket_task_with_protocols(&url, &protocols);
        let (sender, failure) = mpsc::channel();
        task.receive(move |result| drop(sender.send(result.err())));
        task.resume();
        let failure = failure.recv_timeout(Duration::from_secs(20)).map_err(|error| error.to_string())?;
        let expected = if case["accept"] == true { ErrorCode::CannotConnectToHost } else { ErrorCode::BadUrl };
        equal("the error", failure.map(|error| error.code()), Some(expected))
    });
    session.finish_tasks_and_invalidate();
}
