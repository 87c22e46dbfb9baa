//! Redirects: `redirects.json`, as far as they concern a GET that opens a WebSocket. The rest is in the lists here, too, with what
//! becomes of it.
//!
//! Where the sources differ in which fields go along, the origin counts: scheme, host and port.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha1::{Digest, Sha1};
use urlsession::internals::{Added, HeadParser, is_downgrade, redirect, upgrade};
use urlsession::{
    CloseCode, HttpUrlResponse, RedirectionHandler, SessionConfiguration, SessionDelegate, SessionTask, TaskDelegate,
    TaskMetrics, Url, UrlError, UrlRequest, UrlSession, WebSocketDelegate, WebSocketOptions, WebSocketTask,
};

use super::{cases, equal, id, latin1, run_all, text};

const FILE: &str = "redirects.json";

const PATIENCE: Duration = Duration::from_secs(20);

/// Where an answer leads: not at all, to a request, or nowhere, for this reason.
fn led(request: &UrlRequest, status: u64, location: Option<&str>) -> Option<Result<UrlRequest, String>> {
    let mut bytes = format!("HTTP/1.1 {status} X\r\n").into_bytes();
    if let Some(location) = location {
        bytes.extend(b"Location: ");
        bytes.extend(latin1(location));
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"\r\n");
    let head = HeadParser::default().parse(&mut &bytes[..]).unwrap().expect("a head");
    redirect(request, &head)
}

/// Whether such a request can be sent.
fn is_sendable(request: &UrlRequest) -> bool {
    let (fields, options) = (Default::default(), WebSocketOptions::default());
    upgrade(request, &fields, &options, Added::default(), [0; 16]).is_ok()
}

fn request(url: &str) -> UrlRequest {
    UrlRequest::new(Url::parse(url).unwrap())
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// A server: each request in its turn gets the next of the answers (`None`: silence), the last of them for ever. An answer of
/// 101 opens the socket.
struct Server {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
    /// A connection has ended.
    ended: mpsc::Receiver<()>,
}

impl Server {
    fn new(answers: Vec<Option<String>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let heads = Arc::clone(&seen);
        let (end, ended) = mpsc::channel();
        // It ends with the process; nobody waits for it.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, heads, answers) = (stream.unwrap(), Arc::clone(&heads), answers.clone());
                let end = end.clone();
                thread::spawn(move || {
                    let _ = serve(stream, &heads, &answers);
                    let _ = end.send(());
                });
            }
        });
        Self { port, seen, ended }
    }

    fn url(&self, path: &str) -> String {
        format!("ws://localhost:{}{path}", self.port)
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    fn targets(&self) -> Vec<String> {
        self.seen().iter().map(|head| head.split(' ').nth(1).unwrap().to_owned()).collect()
    }
}

fn serve(mut stream: TcpStream, heads: &Mutex<Vec<String>>, answers: &[Option<String>]) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let number = {
            let mut heads = heads.lock().unwrap();
            heads.push(head.clone());
            heads.len() - 1
        };
        let Some(answer) = &answers[number.min(answers.len() - 1)] else { continue };
        let key = field(&head, "Sec-WebSocket-Key").unwrap();
        let accept = STANDARD.encode(Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")));
        stream.write_all(&latin1(&answer.replace("{{ACCEPT}}", &accept)))?;
    }
}

/// An answer that leads there, without a body.
fn to(status: u64, location: &str) -> Option<String> {
    Some(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nLocation: {location}\r\n\r\n"))
}

fn opening() -> Option<String> {
    Some(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {{ACCEPT}}\r\n\r\n"
            .to_owned(),
    )
}

/// What the delegate is to do with a redirect.
#[derive(Clone, Copy, PartialEq)]
enum Reply {
    Follow,
    Stay,
    Never,
}

/// Counts the redirects and says how the task went: opened, or with which error.
struct Teller {
    reply: Reply,
    redirects: Mutex<Vec<RedirectionHandler>>,
    asked: mpsc::Sender<()>,
    over: mpsc::Sender<Result<(), UrlError>>,
}

impl SessionDelegate for Teller {}

impl TaskDelegate for Teller {
    fn will_perform_http_redirection(
        &self,
        _: &UrlSession,
        _: &SessionTask,
        _: &HttpUrlResponse,
        new_request: UrlRequest,
        completion_handler: RedirectionHandler,
    ) {
        let _ = self.asked.send(());
        match self.reply {
            Reply::Follow => completion_handler(Some(new_request)),
            Reply::Stay => completion_handler(None),
            Reply::Never => self.redirects.lock().unwrap().push(completion_handler),
        }
    }

    fn did_finish_collecting_metrics(&self, _: &UrlSession, _: &SessionTask, _: &TaskMetrics) {}

    fn did_complete_with_error(&self, _: &UrlSession, _: &SessionTask, error: Option<&UrlError>) {
        let _ = self.over.send(error.cloned().map_or(Ok(()), Err));
    }
}

impl WebSocketDelegate for Teller {
    fn did_open_with_protocol(&self, _: &UrlSession, _: &WebSocketTask, _: Option<&str>) {
        let _ = self.over.send(Ok(()));
    }

    fn did_close_with(&self, _: &UrlSession, _: &WebSocketTask, _: CloseCode, _: Option<&[u8]>) {}
}

/// A task that opened or failed.
struct Went {
    result: Result<(), UrlError>,
    redirects: usize,
    url: Url,
}

impl Went {
    fn code(&self) -> Option<i32> {
        self.result.as_ref().err().map(UrlError::raw_code)
    }
}

fn session(reply: Reply) -> (UrlSession, mpsc::Receiver<()>, mpsc::Receiver<Result<(), UrlError>>) {
    let (asked, is_asked) = mpsc::channel();
    let (over, is_over) = mpsc::channel();
    let teller = Teller { reply, redirects: Mutex::default(), asked, over };
    let session = UrlSession::with_delegate(SessionConfiguration::ephemeral(), Some(Arc::new(teller)), None);
    (session, is_asked, is_over)
}

fn went(request: UrlRequest, reply: Reply) -> Went {
    let (session, asked, over) = session(reply);
    let task = session.web_socket_task(request);
    task.resume();
    let result = over.recv_timeout(PATIENCE).expect("the task opens or fails");
    Went { result, redirects: asked.try_iter().count(), url: task.current_request().url }
}

const NOT_ALONE: &str = "of a method other than GET, which no WebSocket opens with: such a task fails at its start";
const FRAGMENT: &str = "no fragment is sent, and none is kept";
const ENDS: &str = "a task whose WebSocket did not open fails, with the 302 and its body in the error";

const RULES_DIFFERENCES: [(&str, &str); 4] = [
    ("fetch-method-301-302-POST", NOT_ALONE),
    ("fetch-method-303", NOT_ALONE),
    ("fetch-fragment", FRAGMENT),
    ("urlsession/test_httpRedirectDontFollowUsingNil", ENDS),
];

/// The fields that the rules are about, and one more.
fn with_secrets(url: &str) -> UrlRequest {
    let mut request = request(url);
    for name in ["Authorization", "Cookie", "Proxy-Authorization", "X-Custom"] {
        request.set_value("secret", name);
    }
    request
}

fn rule(case: &Value) -> Result<(), String> {
    let statuses: Vec<u64> = match case["statuses"].as_array() {
        Some(statuses) => statuses.iter().map(|status| status.as_u64().unwrap()).collect(),
        None => case["status"].as_u64().into_iter().collect(),
    };
    let here = request("ws://a.example/b/c?d");
    match id(case) {
        id if id.starts_with("fetch-redirect-status-") => {
            let is_redirect = led(&here, statuses[0], Some("/e")).is_some();
            equal("a redirect", is_redirect, case["is_redirect"].as_bool().unwrap())
        }
        "fetch-location-missing" => {
            let server = Server::new(vec![Some("HTTP/1.1 302 X\r\nContent-Length: 0\r\n\r\n".to_owned())]);
            let went = went(request(&server.url("/")), Reply::Follow);
            equal("questions", went.redirects, 0)?;
            let error = went.result.unwrap_err();
            equal("the answer", error.response().map(HttpUrlResponse::status_code), Some(302))
        }
        "fetch-location-invalid" => {
            equal("an address", led(&here, 302, Some("http://[")).map(|led| led.is_ok()), Some(false))
        }
        "fetch-location-scheme" => {
            for (location, sendable) in [("http://a/", true), ("https://a/", true), ("ftp://a/", false), ("a:b", false)]
            {
                let led = led(&here, 302, Some(location)).unwrap()?;
                equal(location, is_sendable(&led), sendable)?;
            }
            Ok(())
        }
        "fetch-max" | "urlsession/test_httpRedirectionExceededMaxRedirects" => {
            let server = Server::new((1..=21).map(|number| to(302, &format!("/{number}"))).collect());
            let went = went(request(&server.url("/")), Reply::Follow);
            equal("the error", went.code(), Some(-1007))?;
            equal("followed", went.redirects, 20)?;
            let refused = went.result.unwrap_err().failing_url().map(Url::to_string);
            equal("the address of the refused hop", refused, Some(server.url("/21")))
        }
        "fetch-method-301-302-POST" | "fetch-method-303" => {
            let mut post = here;
            post.http_method = "POST".to_owned();
            let led = led(&post, 303, Some("/e")).unwrap()?;
            equal("the method", led.http_method.as_str(), "GET")
        }
        "fetch-cross-origin" => {
            for (there, kept) in [
                ("ws://a.example:80/", true),
                ("wss://a.example/", false),
                ("ws://b.example/", false),
                ("ws://a.example:81/", false),
            ] {
                let led = led(&with_secrets("ws://a.example/"), 302, Some(there)).unwrap()?;
                equal(there, led.value("Authorization").is_some(), kept)?;
            }
            Ok(())
        }
        "fetch-fragment" => {
            let led = led(&request("ws://a.example/#f"), 302, Some("/e")).unwrap()?;
            equal("the address", led.url.as_str(), "ws://a.example/e#f")
        }
        "urlsession/test_httpRedirectionWithCode300" | "urlsession/test_httpRedirectionWithCode304" => {
            let server = Server::new(vec![to(statuses[0], "/e")]);
            let went = went(request(&server.url("/")), Reply::Follow);
            equal("questions", went.redirects, 0)?;
            let error = went.result.unwrap_err();
            equal("the answer", error.response().map(HttpUrlResponse::status_code), Some(statuses[0] as u16))
        }
        "urlsession/test_httpRedirectionWithCode301_302"
        | "urlsession/test_httpRedirectionWithCode303"
        | "urlsession/test_httpRedirectionWithCode305_308" => {
            for status in statuses {
                let server = Server::new(vec![to(status, "/e"), opening()]);
                let went = went(request(&server.url("/")), Reply::Follow);
                equal("the error", went.code(), None)?;
                equal("questions", went.redirects, 1)?;
                let methods: Vec<_> = server.seen().iter().map(|head| head.starts_with("GET /")).collect();
                equal("GETs", methods, vec![true, true])?;
            }
            Ok(())
        }
        "urlsession/test_httpRedirectDontFollowUsingNil" => {
            let body = "HTTP/1.1 302 X\r\nContent-Length: 4\r\nLocation: /e\r\n\r\nBody";
            let server = Server::new(vec![Some(body.to_owned())]);
            let went = went(request(&server.url("/")), Reply::Stay);
            if let Err(error) = &went.result {
                let response = error.response().unwrap();
                assert_eq!((response.status_code(), response.body()), (302, &b"Body"[..]));
            }
            equal("the error", went.code(), None)
        }
        "urlsession/test_httpRedirectDontFollowIgnoringHandler" => {
            let server = Server::new(vec![to(302, "/e"), opening()]);
            let (session, asked, over) = session(Reply::Never);
            let task = session.web_socket_task(request(&server.url("/")));
            task.resume();
            asked.recv_timeout(PATIENCE).map_err(|error| error.to_string())?;
            equal("an end", over.recv_timeout(Duration::from_millis(50)).is_err(), true)?;
            equal("requests", server.seen().len(), 1)
        }
        "urlsession/test_httpRedirectionTimeout" => {
            let server = Server::new(vec![to(302, "/e"), None]);
            let mut request = request(&server.url("/"));
            request.timeout_interval = Some(Duration::from_millis(300));
            let (began, went) = (Instant::now(), went(request, Reply::Follow));
            equal("the error", went.code(), Some(-1001))?;
            equal("waited", began.elapsed() >= Duration::from_millis(300), true)
        }
        "urlsession/test_httpRedirectionChainInheritsTimeoutInterval" => {
            let mut request = here;
            request.timeout_interval = Some(Duration::from_secs(7));
            for location in ["/1", "ws://b.example/2", "wss://c.example/3"] {
                request = led(&request, 302, Some(location)).unwrap()?;
                equal(location, request.timeout_interval, Some(Duration::from_secs(7)))?;
            }
            Ok(())
        }
        "urlsession/test_httpRedirectionWithDefaultPort" => {
            for (location, port) in [("http://a.example/", 80), ("https://a.example/", 443), ("//a.example/", 80)] {
                let led = led(&request("ws://a.example:8080/"), 302, Some(location)).unwrap()?;
                equal(location, led.url.port_or_known_default(), Some(port))?;
            }
            Ok(())
        }
        "urlsession/relative-location" => {
            for status in 300..=308 {
                let expected = ![300, 304].contains(&status);
                equal("a redirect", led(&here, status, Some("e")).is_some(), expected)?;
                if let Some(led) = led(&here, status, Some("e")) {
                    // Resolved as RFC 3986 says, which the source does not.
                    equal("the address", led?.url.as_str(), "ws://a.example/b/e")?;
                }
            }
            Ok(())
        }
        id => Err(format!("an unknown rule: {id}")),
    }
}

#[test]
fn rules() {
    let Some(cases) = cases(FILE, "cases_rules", 25) else { return };
    run_all(&cases, &RULES_DIFFERENCES, rule);
}

#[test]
fn hops() {
    let Some(cases) = cases(FILE, "cases_hops", 10) else { return };
    run_all(&cases, &[], |case| {
        let statuses = case["hops"].as_array().unwrap().iter().map(|status| status.as_u64().unwrap());
        equal("the place", text(case, "location"), "self")?;
        let answers = statuses.map(|status| to(status, "/")).chain([opening()]).collect();
        let server = Server::new(answers);
        let went = went(request(&server.url("/")), Reply::Follow);
        equal("followed", went.redirects, 20)?;
        equal("requests", server.seen().len(), 21)?;
        equal("the error", went.code(), (text(case, "expected") == "fail").then_some(-1007))
    });
}

const UTF8: &str = "a field that is no UTF-8 is read as Latin-1, and an address is encoded as UTF-8";

const LOCATION_DIFFERENCES: [(&str, &str); 1] = [("wpt/location-escape: Redirect to invalid UTF-8", UTF8)];

#[test]
fn locations() {
    let Some(cases) = cases(FILE, "cases_location", 27) else { return };
    run_all(&cases, &LOCATION_DIFFERENCES, |case| {
        let location = case["location"].as_str();
        let led = led(&request("ws://a.example/dir/"), case["status"].as_u64().unwrap(), location);
        let led = led.ok_or("no redirect")?;
        if let Some(suffix) = case["expected_url_suffix"].as_str() {
            return equal("the address", led?.url.as_str(), &format!("ws://a.example/dir/{suffix}"));
        }
        match (text(case, "expected"), led) {
            // The answer is the final one.
            (expected, Err(_)) if expected.starts_with("fail") || expected.starts_with("final response") => Ok(()),
            (expected, Ok(request)) if expected.starts_with("fail") => {
                equal("can be sent", is_sendable(&request), false)
            }
            (expected, led) => Err(format!("{led:?}, expected: {expected}")),
        }
    });
}

const UNKNOWN: &str = "what a field that the crate does not know means is the caller's secret";
const SUBDOMAIN: &str = "a subdomain is another host";
const PORT: &str = "another port is another origin";
const SCHEME: &str = "another scheme is another origin, also where it is the safer one";

const HEADER_DIFFERENCES: [(&str, &str); 18] = [
    ("redirects-header_copy-002", UNKNOWN),
    ("redirects-header_copy-006", SCHEME),
    ("redirects-header_copy-007", PORT),
    ("redirects-header_copy-010", SUBDOMAIN),
    ("redirects-header_copy-012", SCHEME),
    ("redirects-header_copy-014", SUBDOMAIN),
    ("redirects-header_copy-015", SCHEME),
    ("redirects-header_copy-016", SUBDOMAIN),
    ("redirects-header_copy-017", PORT),
    ("redirects-header_copy-019", SUBDOMAIN),
    ("redirects-header_copy-021", SCHEME),
    ("redirects-header_copy-023", SUBDOMAIN),
    ("redirects-header_copy-024", SCHEME),
    ("redirects-header_copy-025", SUBDOMAIN),
    ("redirects-header_copy-026", PORT),
    ("redirects-header_copy-029", SCHEME),
    ("redirects-header_copy-030", SCHEME),
    ("redirects-header_copy-031", SCHEME),
];

#[test]
fn headers() {
    let Some(cases) = cases(FILE, "cases_header_copy", 44) else { return };
    run_all(&cases, &HEADER_DIFFERENCES, |case| {
        let mut from = request(text(case, "from"));
        from.set_value("value", text(case, "header"));
        let led = led(&from, 302, Some(text(case, "to"))).unwrap()?;
        equal("copied", led.value(text(case, "header")).is_some(), case["copied"].as_bool().unwrap())
    });
}

const FOLLOWS: &str = "URLSession follows redirects, of a WebSocket task as of any other";
const ASKED: &str = "the user of an address answers a challenge, and is not told unasked";

const PROXYS: &str = "`Proxy-Authorization` is a proxy's, and no server gets it";

const WEBSOCKET_DIFFERENCES: [(&str, &str); 5] = [
    ("ws/no-follow-default", FOLLOWS),
    ("ws/first-userinfo", ASKED),
    ("pyws/strip", UNKNOWN),
    ("pyws/keep", PROXYS),
    ("chromium/rejected", FOLLOWS),
];

/// Which of the fields of [`with_secrets`] went along.
fn kept(request: &UrlRequest) -> Vec<&'static str> {
    let names = ["Authorization", "Cookie", "Proxy-Authorization", "X-Custom"];
    names.into_iter().filter(|name| request.value(name).is_some()).collect()
}

/// The same of a request that came.
fn came(head: &str) -> Vec<&'static str> {
    let names = ["Authorization", "Cookie", "Proxy-Authorization", "X-Custom"];
    names.into_iter().filter(|name| field(head, name).is_some()).collect()
}

fn web_socket(case: &Value) -> Result<(), String> {
    match id(case) {
        "ws/no-follow-default" => {
            equal("a redirect", led(&request("ws://a.example/"), 301, Some("ws://localhost:8080")).is_some(), false)
        }
        "chromium/rejected" => {
            let led = led(&request("ws://a.example/"), 302, Some("wss://www.example.org/other"));
            equal("a redirect", led.is_some(), false)
        }
        "ws/follow-relative" | "pyws/follow" => {
            let (location, from) = if id(case) == "pyws/follow" { ("/", "/redirect") } else { ("/foo", "/") };
            let server = Server::new(vec![to(302, location), opening()]);
            let went = went(request(&server.url(from)), Reply::Follow);
            equal("the error", went.code(), None)?;
            equal("the address", went.url.path(), location)?;
            equal("targets", server.targets(), vec![from.to_owned(), location.to_owned()])?;
            let keys: Vec<_> =
                server.seen().iter().map(|head| field(head, "Sec-WebSocket-Key").map(str::to_owned)).collect();
            equal("the same key", keys[0] == keys[1], false)
        }
        "ws/max" | "pyws/limit" => {
            // The source's limit is lower.
            let server = Server::new(vec![to(302, "/")]);
            let went = went(request(&server.url("/")), Reply::Follow);
            equal("the error", went.code(), Some(-1007))?;
            equal("requests", server.seen().len(), 21)
        }
        "ws/invalid-1" | "ws/invalid-2" => {
            let location = case["responses"][0].as_str().unwrap().split("Location: ").nth(1).unwrap().trim_end();
            let server = Server::new(vec![to(302, location)]);
            let went = went(request(&server.url("/")), Reply::Follow);
            equal("an error", went.code().is_some(), true)?;
            equal("requests", server.seen().len(), 1)
        }
        "ws/first-userinfo" => {
            let first = request("ws://foo:bar@a.example:81/");
            let led = led(&first, 302, Some("ws://baz:qux@a.example:81/foo")).unwrap()?;
            assert_eq!(led.url.as_str(), "ws://foo:bar@a.example:81/foo");
            let head = upgrade(&led, &Default::default(), &WebSocketOptions::default(), Added::default(), [0; 16]);
            equal("Authorization", field(&head.unwrap().head, "Authorization"), Some("Basic Zm9vOmJhcg=="))
        }
        "ws/downgrade-drops" => {
            let led = led(&with_secrets("wss://a.example:81/"), 302, Some("ws://a.example:81/")).unwrap()?;
            equal("kept", kept(&led), Vec::<&str>::new())
        }
        "ws/other-host-drops" => {
            let other = Server::new(vec![opening()]);
            let server = Server::new(vec![to(302, &other.url("/"))]);
            let mut request = with_secrets(&server.url("/"));
            request.set_value("by-hand.example", "Host");
            let went = went(request, Reply::Follow);
            equal("the error", went.code(), None)?;
            equal("Host", field(&server.seen()[0], "Host"), Some("by-hand.example"))?;
            equal("kept", came(&other.seen()[0]), Vec::new())?;
            let host = format!("localhost:{}", other.port);
            equal("Host", field(&other.seen()[0], "Host"), Some(host.as_str()))
        }
        "pyws/cross-origin-upgrade" => {
            let other = Server::new(vec![opening()]);
            let server = Server::new(vec![to(302, &other.url("/"))]);
            let (session, _asked, over) = session(Reply::Follow);
            let task = session.web_socket_task(request(&server.url("/")));
            task.resume();
            equal("opened", over.recv_timeout(PATIENCE).unwrap().is_ok(), true)?;
            equal("the first connection has ended", server.ended.recv_timeout(PATIENCE), Ok(()))?;
            equal("the second one has", other.ended.try_recv().is_ok(), false)
        }
        "pyws/strip" => {
            let other = Server::new(vec![opening()]);
            let server = Server::new(vec![to(302, &other.url("/"))]);
            let went = went(with_secrets(&server.url("/")), Reply::Follow);
            equal("the error", went.code(), None)?;
            equal("kept", came(&other.seen()[0]), vec!["X-Custom"])
        }
        "pyws/keep" => {
            let server = Server::new(vec![to(302, "/"), opening()]);
            let went = went(with_secrets(&server.url("/redirect")), Reply::Follow);
            equal("the error", went.code(), None)?;
            equal("kept", came(&server.seen()[1]), came(&server.seen()[0]))?;
            equal("how many", came(&server.seen()[1]).len(), 4)
        }
        "pyws/insecure" => {
            // What becomes of the task then: `tests/redirects.rs`.
            let led = led(&request("wss://a.example/"), 302, Some("ws://a.example/")).unwrap()?;
            equal("a downgrade", is_downgrade(&Url::parse("wss://a.example/").unwrap(), &led.url), true)
        }
        id => Err(format!("an unknown case: {id}")),
    }
}

#[test]
fn web_sockets() {
    let Some(cases) = cases(FILE, "cases_websocket", 15) else { return };
    run_all(&cases, &WEBSOCKET_DIFFERENCES, web_socket);
}
