//! Redirects on the way to the open socket: RFC 9110 §15.4, and what the delegate has to say to each.

mod support;

use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use support::flood::{KINDS, Queue};
use support::guide::Guide;
use support::hooks::eventually;
use support::origin::{Answer, Origin, head, redirect};
use support::tls::{BOTH, TRUSTED, trusted_server};
use support::{Events, PATIENCE, accept_for, recorded_session, recorder};
use urlsession::{
    CloseCode, HttpUrlResponse, RedirectionHandler, SessionConfiguration, TaskMetrics, TaskState, Url, UrlError,
    UrlRequest, UrlSession, WebSocketDelegate, WebSocketTask,
};

/// How long the absence of something is waited for.
const MOMENT: Duration = Duration::from_millis(50);

/// Redirects from `/0` to `/1` and so on up to `/last`, where the socket opens; all of one status.
fn chain(status: u16, last: usize) -> Origin {
    Origin::new(move |request| match request.target()[1..].parse::<usize>() {
        Ok(number) if number < last => Answer::Keep(redirect(status, &format!("/{}", number + 1))),
        _ => Answer::Open(String::new()),
    })
}

/// Opens for whatever is asked.
fn open() -> Origin {
    Origin::new(|_| Answer::Open(String::new()))
}

/// Sends `/` there, and opens for anything else.
fn to(location: impl Into<String>) -> Origin {
    let location = location.into();
    Origin::new(move |request| match request.target() {
        "/" => Answer::Keep(redirect(302, &location)),
        _ => Answer::Open(String::new()),
    })
}

/// Nothing is shared with other tests.
fn ephemeral() -> SessionConfiguration {
    SessionConfiguration::ephemeral()
}

fn trusting() -> SessionConfiguration {
    let mut configuration = ephemeral();
    configuration.root_certificates = TRUSTED.configuration().root_certificates;
    configuration
}

fn start(guide: Guide, configuration: SessionConfiguration, url: Url) -> (UrlSession, WebSocketTask) {
    let session = guide.session(configuration);
    let task = session.web_socket_task(url);
    task.resume();
    (session, task)
}

type Asked = (UrlRequest, RedirectionHandler);

/// A delegate that leaves the reply to the test.
fn keeping() -> (Guide, Events, Receiver<Asked>) {
    let (sender, asked) = mpsc::channel();
    let (guide, events) = Guide::new();
    let guide = guide.redirect(move |_, _, request, handler| {
        let _ = sender.send((request, handler));
    });
    (guide, events, asked)
}

#[track_caller]
fn wait<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(PATIENCE).expect("something in time")
}

/// The task is open; it closes.
#[track_caller]
fn close(task: &WebSocketTask, events: &Events) {
    task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
    events.wait_for("close 1000");
    assert_eq!(events.next(), "complete None");
}

/// An address that nobody listens at, and that nobody else is given while the socket lives.
fn refusing() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

// Which answers lead elsewhere, and where.

#[test]
fn every_status_that_leads_elsewhere_is_followed() {
    for status in [301, 302, 303, 305, 306, 307, 308] {
        let origin = chain(status, 1);
        let (guide, events) = Guide::new();
        let (_session, task) = start(guide, ephemeral(), origin.url("/0"));
        events.expect_to_open(&[format!("redirect {status} /1")]);
        assert_eq!(origin.targets(), ["/0", "/1"]);
        assert_eq!(task.current_request().url, origin.url("/1"));
        assert_eq!(task.original_request().url, origin.url("/0"));
        assert_eq!(task.response().unwrap().url(), &origin.url("/1"));
        // The server has kept the connection.
        assert_eq!(origin.roads(), [0, 0]);
        let keys: Vec<_> =
            origin.seen().iter().map(|request| request.field("Sec-WebSocket-Key").unwrap().to_owned()).collect();
        assert_ne!(keys[0], keys[1]);
        close(&task, &events);
    }
}

#[test]
fn answers_one_byte_at_a_time() {
    for secure in [false, true] {
        let answer = |request: &support::origin::Request| match request.target() {
            "/0" => Answer::Bytewise(
                "HTTP/1.1 103 Early Hints\r\nLocation: /never\r\n\r\nHTTP/1.1 302 Found\r\nLocation: /1\r\n\
                 Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nTrailer: yes\r\n\r\n"
                    .to_owned(),
            ),
            "/1" => Answer::Bytewise(
                head("307 Temporary Redirect", "Location: /2\r\n").replace("Length: 0", "Length: 3") + "abc",
            ),
            _ => Answer::Bytewise(format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {}\r\n\r\n\u{1}\u{2}hi",
                accept_for(request.field("Sec-WebSocket-Key").unwrap())
            )),
        };
        let origin = match secure {
            false => Origin::new(answer),
            true => Origin::secure(trusted_server(BOTH), answer),
        };
        let (guide, events) = Guide::new();
        let (_session, task) = start(guide, trusting(), origin.url("/0"));
        events.expect_to_open(&["informational 103", "redirect 302 /1", "redirect 307 /2"]);
        assert_eq!(origin.roads(), [0, 0, 0]);
        task.cancel();
        events.wait_for("complete -999");
    }
}

#[test]
fn where_a_location_leads() {
    let target = open();
    let port = target.port();
    // The Location, where it leads on the same server, or on the other one with this host.
    let table: [(String, Option<&str>, &str); 12] = [
        ("/x".into(), None, "/x"),
        ("x".into(), None, "/dir/x"),
        ("./x".into(), None, "/dir/x"),
        ("../x?y#z".into(), None, "/x?y"),
        ("?q=1".into(), None, "/dir/page?q=1"),
        ("/a b/\u{e9}".into(), None, "/a%20b/%C3%A9"),
        (format!("//127.0.0.1:{port}/x"), Some("127.0.0.1"), "/x"),
        (format!("ws://127.0.0.1:{port}/x"), Some("127.0.0.1"), "/x"),
        (format!("ws://localhost:{port}"), Some("localhost"), "/"),
        (format!("http://127.0.0.1:{port}/x?y"), Some("127.0.0.1"), "/x?y"),
        (format!("HTTP://LOCALHOST:{port}/x#z"), Some("localhost"), "/x"),
        (format!("http:\\\\127.1:{port}\\x"), Some("127.0.0.1"), "/x"),
    ];
    for (location, host, expected) in table {
        let there = location.clone();
        let origin = Origin::new(move |request| match request.target() {
            "/dir/page?old" => Answer::Keep(redirect(302, &there)),
            _ => Answer::Open(String::new()),
        });
        let (guide, events) = Guide::new();
        let (_session, task) = start(guide, ephemeral(), origin.url("/dir/page?old"));
        events.wait_for("open");
        let (server, url) = match host {
            None => (&origin, origin.url(expected)),
            Some(host) => (&target, target.url_of(host, expected)),
        };
        let last = server.seen().pop().unwrap();
        assert_eq!(last.target(), expected, "{location}");
        assert_eq!(last.field("Host"), Some(format!("{}:{}", host.unwrap_or("127.0.0.1"), server.port()).as_str()));
        assert_eq!(task.current_request().url, url, "{location}");
        close(&task, &events);
    }
}

#[test]
fn locations_through_tls() {
    let (first, second) = (trusted_server(BOTH), trusted_server(BOTH));
    let target = Origin::secure(second, |_| Answer::Open(String::new()));
    let port = target.port();
    for scheme in ["wss:", "https:", ""] {
        let origin = Origin::secure(Arc::clone(&first), move |_| {
            Answer::Keep(redirect(308, &format!("{scheme}//localhost:{port}/there")))
        });
        let (guide, events) = Guide::new();
        let (_session, task) = start(guide, trusting(), origin.url("/"));
        events.expect_to_open(&["redirect 308 /there"]);
        assert_eq!(task.current_request().url, target.url_of("localhost", "/there"));
        close(&task, &events);
    }
    assert_eq!(target.targets(), ["/there"; 3]);
}

#[test]
fn other_answers_lead_nowhere() {
    for status in [200, 204, 300, 304, 309, 399, 404] {
        let origin = Origin::new(move |_| Answer::Keep(redirect(status, "/1")));
        let (guide, events) = Guide::new();
        let (_session, task) = start(guide, ephemeral(), origin.url("/0"));
        events.expect(&["complete -1011"]);
        assert_eq!(task.error().unwrap().response().unwrap().status_code(), status);
        assert_eq!(task.response().unwrap().value("Location").as_deref(), Some("/1"));
        assert_eq!(origin.targets(), ["/0"]);
    }
}

#[test]
fn a_location_that_leads_nowhere_is_the_end() {
    let table = [
        "",
        "Location:\r\n",
        "Location: \t \r\n",
        "Location: ws://\r\n",
        "Location: http://[::1/\r\n",
        "Location: //127.0.0.1:70000/\r\n",
        "Location: /1\r\nLocation: /2\r\n",
        "Location:\r\nLocation: /1\r\n",
    ];
    for lines in table {
        for asks in [true, false] {
            let answer = head("301 Moved", lines).replace("Length: 0", "Length: 4") + "Body";
            let origin = Origin::new(move |_| Answer::Keep(answer.clone()));
            let (guide, events) = Guide::new();
            let (task, _session) = if asks {
                let (session, task) = start(guide, ephemeral(), origin.url("/0"));
                events.expect(&["complete -1011"]);
                (task, session)
            } else {
                let session = UrlSession::new(ephemeral());
                let task = session.web_socket_task(origin.url("/0"));
                task.resume();
                eventually("the end", || task.error().is_some());
                (task, session)
            };
            let error = task.error().unwrap();
            assert_eq!(error.raw_code(), -1011, "{lines}");
            assert_eq!(error.failing_url(), Some(&origin.url("/0")));
            assert!(error.reason().contains("301") && error.reason().contains("Location"), "{error}");
            let response = error.response().unwrap();
            assert_eq!((response.status_code(), response.body()), (301, &b"Body"[..]));
            assert_eq!(task.response().unwrap().body(), b"Body");
            assert_eq!(task.current_request().url, origin.url("/0"));
            assert_eq!(origin.targets(), ["/0"]);
        }
    }
    let origin = Origin::script(vec![
        Answer::Keep(head("302 Found", "Location: /1\r\nlocation: /1\r\n")),
        Answer::Open(String::new()),
    ]);
    let (guide, events) = Guide::new();
    let _kept = start(guide, ephemeral(), origin.url("/0"));
    events.expect_to_open(&["redirect 302 /1"]);
}

#[test]
fn other_schemes_are_shown_and_not_followed() {
    let table =
        ["my-app:done", "my-app://127.0.0.1/", "ftp://127.0.0.1/", "mailto:a@b", "data:,x", "about:blank", "blob:x"];
    for location in table {
        let origin = to(location);
        let url = Url::parse(location).unwrap();
        let (guide, events) = Guide::new();
        let shown = Arc::new(Mutex::new(None));
        let shows = Arc::clone(&shown);
        let guide = guide.redirect(move |_, _, request, handler| {
            *shows.lock().unwrap() = Some(request.url.clone());
            handler(Some(request));
        });
        let (_session, task) = start(guide, ephemeral(), origin.url("/"));
        events.expect(&[format!("redirect 302 {}", url.path()), "complete -1002".to_owned()]);
        assert_eq!(shown.lock().unwrap().as_ref(), Some(&url));
        assert_eq!(task.error().unwrap().failing_url(), Some(&url));

        // Nobody is asked.
        let session = UrlSession::new(ephemeral());
        let task = session.web_socket_task(origin.url("/"));
        task.resume();
        eventually("the end", || task.error().is_some());
        assert_eq!(task.error().unwrap().raw_code(), -1002);

        // The program knows what to do with it.
        let (guide, events) = Guide::new();
        let own = origin.url("/own");
        let guide = guide.redirect(move |_, _, _, handler| handler(Some(own.clone().into())));
        let _kept = start(guide, ephemeral(), origin.url("/"));
        events.wait_for("open");
        assert_eq!(origin.targets(), ["/", "/", "/", "/own"]);
    }
}

#[test]
fn a_server_that_refuses_the_connection() {
    let (_socket, address) = refusing();
    let origin = to(format!("ws://{address}/there"));
    let (guide, events) = Guide::new();
    let (_session, task) = start(guide, ephemeral(), origin.url("/"));
    task.send("lost", |_| ());
    events.expect(&["redirect 302 /there", "complete -1004"]);
    let there = Url::parse(&format!("ws://{address}/there")).unwrap();
    assert_eq!(task.error().unwrap().failing_url(), Some(&there));
    assert_eq!(task.current_request().url, there);
    assert!(task.response().is_none() && task.error().unwrap().response().is_none());
}

#[test]
fn from_tls_to_none_only_where_the_delegate_says_so() {
    type Reply = fn(UrlRequest) -> UrlRequest;
    let asks: [Reply; 4] = [
        |request| request,
        |mut request| {
            request.set_value("yes", "X-Changed");
            request
        },
        |mut request| {
            request.timeout_interval = Some(PATIENCE);
            request
        },
        |mut request| {
            request.url.query_pairs_mut().append_pair("token", "secret");
            request
        },
    ];
    let says: [Reply; 2] = [
        |request| UrlRequest::new(request.url),
        |mut request| {
            request.url.set_path("/chosen");
            request
        },
    ];
    let target = open();
    for scheme in ["ws", "http"] {
        let location = format!("{scheme}://127.0.0.1:{}/there", target.port());
        let origin = Origin::secure(trusted_server(BOTH), move |_| Answer::Keep(redirect(302, &location)));
        for reply in asks {
            let (guide, events) = Guide::new();
            let guide = guide.redirect(move |_, _, request, handler| handler(Some(reply(request))));
            let (_session, task) = start(guide, trusting(), origin.url("/"));
            events.expect(&["redirect 302 /there", "complete -1200"]);
            let error = task.error().unwrap();
            let failing = error.failing_url().unwrap();
            assert_eq!((failing.scheme(), failing.path()), ("ws", "/there"));
            assert_eq!(error.response().unwrap().status_code(), 302);
            assert_eq!(task.current_request().url, origin.url("/"));
        }
        let session = UrlSession::new(trusting());
        let task = session.web_socket_task(origin.url("/"));
        task.resume();
        eventually("the end", || task.error().is_some());
        assert_eq!(task.error().unwrap().raw_code(), -1200);
        // Whoever drops the handler has not said so either.
        let (guide, events) = Guide::new();
        let _kept = start(guide.redirect(|_, _, _, handler| drop(handler)), trusting(), origin.url("/"));
        events.expect(&["redirect 302 /there", "complete -1200"]);
        assert_eq!(target.connections(), 0);
    }
    for (reply, expected) in says.into_iter().zip(["/there", "/chosen"]) {
        let location = target.url("/there").to_string();
        let origin = Origin::secure(trusted_server(BOTH), move |_| Answer::Keep(redirect(302, &location)));
        let (guide, events) = Guide::new();
        let guide = guide.redirect(move |_, _, request, handler| handler(Some(reply(request))));
        let (_session, task) = start(guide, trusting(), origin.url("/"));
        events.expect_to_open(&["redirect 302 /there"]);
        assert_eq!(target.targets().pop().as_deref(), Some(expected));
        close(&task, &events);
    }
    // What the task is on its way with is the program's own by then.
    let location = target.url("/there").to_string();
    let origin = Origin::secure(trusted_server(BOTH), move |request| match request.target() {
        "/" => Answer::Keep(redirect(302, "/on")),
        _ => Answer::Keep(redirect(302, &location)),
    });
    let (guide, events) = Guide::new();
    let guide = guide.redirect(|task, _, request, handler| {
        if request.url.path() == "/on" {
            return handler(Some(request));
        }
        let mut own = task.current_request();
        own.url = request.url;
        handler(Some(own));
    });
    let _kept = start(guide, trusting(), origin.url("/"));
    events.expect_to_open(&["redirect 302 /on", "redirect 302 /there"]);
}

#[test]
fn from_none_to_tls() {
    let target = Origin::secure(trusted_server(BOTH), |_| Answer::Open(String::new()));
    for location in [target.url("/there"), target.url_with("https", "localhost", "/there")] {
        let origin = to(location);
        let (guide, events) = Guide::new();
        let (_session, task) = start(guide, trusting(), origin.url("/"));
        task.send("sealed", |result| result.unwrap());
        let (sender, receiver) = mpsc::channel();
        task.receive(move |message| sender.send(message.unwrap()).unwrap());
        events.expect_to_open(&["redirect 302 /there"]);
        assert_eq!(wait(&receiver), "sealed".into());
        close(&task, &events);
    }
    // A server that is not trusted sees no request.
    let location = target.url("/there");
    let origin = to(location);
    let (guide, events) = Guide::new();
    let _kept = start(guide, ephemeral(), origin.url("/"));
    events.expect(&["redirect 302 /there", "complete -1203"]);
    assert_eq!(target.seen().len(), 2);
}

#[test]
fn twenty_redirects_and_no_more() {
    let origin = chain(302, 20);
    let (guide, events) = Guide::new();
    let metrics: Arc<Mutex<Vec<TaskMetrics>>> = Arc::default();
    let collected = Arc::clone(&metrics);
    let session = guide.metrics(move |metrics| collected.lock().unwrap().push(metrics.clone())).session(ephemeral());
    let task = session.web_socket_task(origin.url("/0"));
    task.resume();
    events.wait_for("open");
    close(&task, &events);
    let count = |index: usize| {
        let metrics = metrics.lock().unwrap();
        (metrics[index].redirect_count, metrics[index].transaction_metrics.len())
    };
    assert_eq!(count(0), (20, 21));

    let origin = chain(302, 21);
    let task = session.web_socket_task(origin.url("/0"));
    task.resume();
    events.wait_for("redirect 302 /20");
    assert_eq!(events.next(), "complete -1007");
    assert_eq!(origin.seen().len(), 21);
    let error = task.error().unwrap();
    assert_eq!(error.failing_url(), Some(&origin.url("/21")));
    assert_eq!(error.response().unwrap().status_code(), 302);
    assert_eq!(task.current_request().url, origin.url("/20"));
    assert_eq!(count(1), (20, 21));
}

#[test]
fn a_circle_ends_without_a_delegate_too() {
    let back = Arc::new(Mutex::new(String::new()));
    let goes_back = Arc::clone(&back);
    let one = Origin::new(move |_| Answer::Close(redirect(307, &goes_back.lock().unwrap())));
    let there = one.url("/").to_string();
    let other = Origin::new(move |_| Answer::Keep(redirect(301, &there)));
    *back.lock().unwrap() = other.url("/").to_string();
    let session = UrlSession::new(ephemeral());
    let task = session.web_socket_task(one.url("/"));
    task.resume();
    eventually("the end", || task.error().is_some());
    assert_eq!(task.error().unwrap().raw_code(), -1007);
    assert_eq!((one.seen().len(), other.seen().len()), (11, 10));
}

// Who is asked.

#[test]
fn without_a_delegate_redirects_are_followed() {
    let origin = chain(302, 3);
    let session = UrlSession::new(ephemeral());
    let task = session.web_socket_task(origin.url("/0"));
    let (sender, receiver) = mpsc::channel();
    task.send("over there", |_| {});
    task.receive(move |message| sender.send(message).unwrap());
    task.resume();
    assert_eq!(wait(&receiver).unwrap(), "over there".into());
    assert_eq!(origin.targets(), ["/0", "/1", "/2", "/3"]);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_delegate_without_the_method_follows() {
    let origin = chain(302, 2);
    let (session, _recorder, events) = recorded_session();
    // The second task's session knows by then that its delegate lacks the method.
    for _ in 0..2 {
        let task = session.web_socket_task(origin.url("/0"));
        task.resume();
        events.wait_for("open");
        assert_eq!(task.current_request().url, origin.url("/2"));
        assert_eq!(task.original_request().url, origin.url("/0"));
    }
    assert_eq!(origin.targets(), ["/0", "/1", "/2", "/0", "/1", "/2"]);
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Opinion {
    Lacks,
    Drops,
    Panics,
    Replies,
}

const OPINIONS: [Opinion; 4] = [Opinion::Lacks, Opinion::Drops, Opinion::Panics, Opinion::Replies];

/// A delegate that sends whoever asks it to `path`, or has no opinion.
fn with_opinion(opinion: Opinion, path: &'static str) -> (Arc<dyn WebSocketDelegate>, Events) {
    if opinion == Opinion::Lacks {
        let (recorder, events) = recorder();
        return (recorder, events);
    }
    let (guide, events) = Guide::new();
    let guide = guide.redirect(move |_, _, mut request, handler| match opinion {
        Opinion::Panics => panic!("the test throws"),
        Opinion::Replies => {
            request.url.set_path(path);
            handler(Some(request));
        }
        _ => drop(handler),
    });
    (Arc::new(guide), events)
}

#[test]
fn the_tasks_own_delegate_is_asked_before_the_sessions() {
    for own in OPINIONS {
        for common in OPINIONS {
            let origin = to("/proposed");
            let (delegate, common_events) = with_opinion(common, "/common");
            let session = UrlSession::with_delegate(ephemeral(), Some(delegate), None);
            let task = session.web_socket_task(origin.url("/"));
            let (delegate, own_events) = with_opinion(own, "/own");
            task.set_delegate(Some(delegate));
            task.resume();
            own_events.wait_for("open");
            let expected = match (own, common) {
                (Opinion::Replies, _) => "/own",
                (_, Opinion::Replies) => "/common",
                _ => "/proposed",
            };
            assert_eq!(origin.targets(), ["/", expected], "{own:?}, {common:?}");
            let asked = |events: &Events| events.log().iter().filter(|event| event.starts_with("redirect")).count();
            assert_eq!(asked(&own_events), usize::from(own != Opinion::Lacks), "{own:?}, {common:?}");
            let passed_on = own != Opinion::Replies && common != Opinion::Lacks;
            assert_eq!(asked(&common_events), usize::from(passed_on), "{own:?}, {common:?}");
        }
        // Alone.
        let origin = to("/proposed");
        let session = UrlSession::new(ephemeral());
        let task = session.web_socket_task(origin.url("/"));
        let (delegate, events) = with_opinion(own, "/own");
        task.set_delegate(Some(delegate));
        task.resume();
        events.wait_for("open");
        let expected = if own == Opinion::Replies { "/own" } else { "/proposed" };
        assert_eq!(origin.targets(), ["/", expected], "{own:?}");
    }
}

#[test]
fn a_handler_that_is_dropped_later_has_no_opinion() {
    let origin = chain(308, 1);
    let (guide, events, asked) = keeping();
    let _kept = start(guide, ephemeral(), origin.url("/0"));
    let asked = wait(&asked);
    events.wait_for("redirect");
    events.expect_silence(MOMENT);
    assert_eq!(origin.targets(), ["/0"]);
    drop(asked);
    events.expect_to_open(&["redirect 308 /1"]);
    assert_eq!(origin.targets(), ["/0", "/1"]);
}

// What the delegate sees, and what it may reply.

#[test]
fn what_is_seen_in_the_callback() {
    let origin = to("/there");
    let (sender, seen) = mpsc::channel();
    let (guide, events) = Guide::new();
    let guide = guide.redirect(move |task, response: &HttpUrlResponse, request, handler| {
        let facts = (task.state(), task.error().is_none(), task.response().map(|response| response.status_code()));
        sender.send((facts, task.current_request().url, response.clone(), request.clone())).unwrap();
        handler(Some(request));
    });
    let session = guide.session(ephemeral());
    let mut request = UrlRequest::new(origin.url("/"));
    request.set_value("mine", "X-Mine");
    request.timeout_interval = Some(Duration::from_secs(77));
    request.http_should_handle_cookies = false;
    request.main_document_url = Some(origin.url("/document"));
    let task = session.web_socket_task(request.clone());
    task.resume();
    let (facts, current, response, mut new) = wait(&seen);
    assert_eq!(facts, (TaskState::Running, true, Some(302)));
    assert_eq!(current, origin.url("/"));
    assert_eq!((response.status_code(), response.url()), (302, &origin.url("/")));
    assert_eq!(response.value("location").as_deref(), Some("/there"));
    assert_eq!(new.url, origin.url("/there"));
    // But for the address, it is the caller's.
    new.url = request.url.clone();
    assert_eq!(new, request);
    events.wait_for("open");
    assert_eq!(task.original_request(), request);
    assert_eq!(origin.seen()[1].field("X-Mine"), Some("mine"));
}

#[test]
fn none_makes_the_redirect_the_final_response() {
    let origin = Origin::script(vec![Answer::Keep(
        "HTTP/1.1 302 Found\r\nLocation: /1\r\nContent-Length: 4\r\n\r\nBody".to_owned(),
    )]);
    let (guide, events) = Guide::new();
    let (_session, task) = start(guide.redirect(|_, _, _, handler| handler(None)), ephemeral(), origin.url("/0"));
    events.expect(&["redirect 302 /1", "complete -1011"]);
    let response = task.error().unwrap().response().cloned().unwrap();
    assert_eq!((response.status_code(), response.body()), (302, &b"Body"[..]));
    assert_eq!(task.response().unwrap().status_code(), 302);
    assert_eq!(task.current_request().url, origin.url("/0"));
    assert_eq!(task.original_request().url, origin.url("/0"));
}

#[test]
fn the_delegate_may_change_the_request() {
    type Change = fn(&mut UrlRequest, &Origin);
    // What is asked for then: the target, the value of the field, on the other server.
    let table: [(Change, &str, Option<&str>, bool); 6] = [
        (|request, _| request.set_value("yes", "X-Added"), "/there", Some("yes"), false),
        (|request, _| request.url.set_path("/else"), "/else", None, false),
        (|request, other| *request = UrlRequest::new(other.url("/x")), "/x", None, true),
        (
            |request, other| {
                request.url = other.url("/x");
                // What the delegate says goes wherever the delegate says.
                request.set_value("yes", "X-Added");
            },
            "/x",
            Some("yes"),
            true,
        ),
        (
            |request, other| {
                request.url = other.url_with("http", "localhost", "/x#fragment");
            },
            "/x",
            None,
            true,
        ),
        (|request, _| request.remove_value("X-Mine"), "/there", None, false),
    ];
    for (change, target, value, led_away) in table {
        let other = Arc::new(open());
        let origin = to("/there");
        let (guide, events) = Guide::new();
        let elsewhere = Arc::clone(&other);
        let guide = guide.redirect(move |_, _, mut request, handler| {
            change(&mut request, &elsewhere);
            handler(Some(request));
        });
        let _kept = start(guide, ephemeral(), origin.url("/"));
        events.expect_to_open(&["redirect 302 /there"]);
        let last = if led_away { other.seen().pop() } else { origin.seen().pop() }.unwrap();
        assert_eq!((last.target(), last.field("X-Added")), (target, value));
        assert_eq!(origin.seen().len(), 2 - usize::from(led_away));
    }
}

#[test]
fn a_request_that_cannot_be_sent() {
    type Change = fn(&mut UrlRequest);
    let table: [(Change, i32); 4] = [
        (|request| request.http_method = "POST".to_owned(), -1002),
        (|request| request.url = Url::parse("ftp://127.0.0.1/").unwrap(), -1002),
        (|request| request.set_value("a\r\nb: c", "X-Split"), -1000),
        (|request| request.set_value("0", "Content-Length"), -1000),
    ];
    for (change, code) in table {
        let origin = to("/there");
        let (guide, events) = Guide::new();
        let guide = guide.redirect(move |_, _, mut request, handler| {
            change(&mut request);
            handler(Some(request));
        });
        let _kept = start(guide, ephemeral(), origin.url("/"));
        events.expect(&["redirect 302 /there".to_owned(), format!("complete {code}")]);
        assert_eq!(origin.seen().len(), 1);
    }
}

// When the reply comes.

#[test]
fn the_reply_may_come_later_and_from_elsewhere() {
    let origin = chain(307, 2);
    let (guide, events) = Guide::new();
    let guide = guide.redirect(|task, _, request, handler| {
        let task = task.clone();
        thread::spawn(move || {
            assert!(task.current_request().url < request.url);
            handler(Some(request));
        });
    });
    let (_session, task) = start(guide, ephemeral(), origin.url("/0"));
    events.expect_to_open(&["redirect 307 /1", "redirect 307 /2"]);
    close(&task, &events);
}

#[test]
fn the_reply_may_come_from_another_callback() {
    let (origin, echo) = (chain(302, 2), open());
    let (guide, events, asked) = keeping();
    let recorder = Arc::clone(&guide.recorder);
    let session = guide.session(ephemeral());
    let other = session.web_socket_task(echo.url("/"));
    other.resume();
    events.wait_for("open");
    let task = session.web_socket_task(origin.url("/0"));
    task.resume();
    // From a handler of a message, then from one of a pong.
    let (request, handler) = wait(&asked);
    other.receive(move |_| handler(Some(request)));
    other.send("go on", |_| ());
    let (request, handler) = wait(&asked);
    other.send_ping(move |_| {
        recorder.note("pong");
        handler(Some(request));
    });
    events.wait_for("pong");
    events.wait_for("open");
    assert_eq!(origin.targets(), ["/0", "/1", "/2"]);
}

/// Tries again where a busy machine has let a short timer run out too early: `attempt` says so.
#[track_caller]
fn in_time(mut attempt: impl FnMut() -> bool) {
    let began = Instant::now();
    while !attempt() {
        assert!(began.elapsed() < 3 * PATIENCE, "the machine is too busy for the timers of this test");
    }
}

#[test]
fn the_resource_timer_ends_a_question_and_the_request_timer_does_not() {
    let (request_timeout, resource_timeout) = (Duration::from_millis(100), Duration::from_millis(400));
    in_time(|| {
        let origin = chain(302, 1);
        let (guide, events, asked) = keeping();
        let mut configuration = ephemeral();
        configuration.timeout_interval_for_request = request_timeout;
        configuration.timeout_interval_for_resource = resource_timeout;
        let (sender, metrics) = mpsc::channel();
        let guide = guide.metrics(move |metrics| sender.send(metrics.clone()).unwrap());
        let session = guide.session(configuration);
        let task = session.web_socket_task(origin.url("/0"));
        task.send("never", |_| ());
        task.resume();
        if events.next().starts_with("complete") {
            return false;
        }
        let (request, handler) = wait(&asked);
        events.expect(&["redirect 302 /1", "complete -1001"]);
        let metrics = wait(&metrics);
        assert!(metrics.task_interval.1 >= resource_timeout, "{metrics:?}");
        assert_eq!((metrics.redirect_count, metrics.transaction_metrics.len()), (0, 1));
        assert!(task.error().unwrap().reason().contains("timeout_interval_for_resource"));
        // It comes too late.
        handler(Some(request));
        events.expect_silence(MOMENT);
        assert_eq!(origin.targets(), ["/0"]);
        true
    });
}

#[test]
fn the_request_timer_starts_anew_behind_a_question() {
    let timeout = Duration::from_millis(300);
    in_time(|| {
        let origin = Origin::new(|request| match request.target() {
            "/0" => Answer::Keep(redirect(302, "/1")),
            "/1" => Answer::Keep(redirect(302, "/2")),
            // It says nothing.
            _ => Answer::Keep(String::new()),
        });
        let (guide, events, asked) = keeping();
        let mut configuration = ephemeral();
        configuration.timeout_interval_for_request = timeout;
        let (_session, task) = start(guide, configuration, origin.url("/0"));
        for _ in 0..2 {
            if events.next().starts_with("complete") {
                return false;
            }
            let (request, handler) = wait(&asked);
            // Longer than the timer would take.
            events.expect_silence(timeout * 3 / 2);
            handler(Some(request));
        }
        events.wait_for("complete -1001");
        let error = task.error().unwrap();
        assert!(error.reason().contains("timeout_interval_for_request"), "{error}");
        assert_eq!(error.failing_url(), Some(&origin.url("/2")));
        assert_eq!(origin.targets(), ["/0", "/1", "/2"]);
        true
    });
}

#[test]
fn a_request_brings_its_own_timeout() {
    let origin = Origin::new(|request| match request.target() {
        "/" => Answer::Keep(redirect(302, "/there")),
        _ => Answer::Keep(String::new()),
    });
    // The caller's is inherited, and the delegate may change it.
    for by_delegate in [false, true] {
        let short = Some(Duration::from_millis(100));
        let (guide, events) = Guide::new();
        let guide = guide.redirect(move |_, _, mut request, handler| {
            if by_delegate {
                request.timeout_interval = short;
            }
            assert_eq!(request.timeout_interval, short);
            handler(Some(request));
        });
        let session = guide.session(ephemeral());
        let mut request = UrlRequest::new(origin.url("/"));
        request.timeout_interval = if by_delegate { None } else { short };
        in_time(|| {
            let task = session.web_socket_task(request.clone());
            task.resume();
            events.wait_for("complete -1001");
            task.error().unwrap().failing_url() == Some(&origin.url("/there"))
        });
    }
}

// What ends the task, or stops it, while the delegate is asked.

type Act = fn(&UrlSession, &WebSocketTask);

/// Acts while the delegate is asked, inside the callback or outside, and replies then.
fn act_while_asked(act: Act, inside: bool, queued: bool, origin: &Origin) -> (UrlSession, WebSocketTask, Events) {
    let (sender, asked) = mpsc::channel::<Asked>();
    let (guide, events) = Guide::new();
    let place: Arc<Mutex<Option<UrlSession>>> = Arc::default();
    let looks = Arc::clone(&place);
    let recorder = Arc::clone(&guide.recorder);
    let guide = guide.redirect(move |task, _, request, handler| {
        if inside {
            let session = looks.lock().unwrap().take().unwrap();
            act(&session, &task.as_web_socket_task().unwrap());
            handler(Some(request));
        } else {
            sender.send((request, handler)).unwrap();
        }
    });
    let session = guide.session(ephemeral());
    *place.lock().unwrap() = Some(session.clone());
    let task = session.web_socket_task(origin.url("/"));
    if queued {
        task.send("queued", recorder.handler("send"));
    }
    task.resume();
    if !inside {
        let (request, handler) = wait(&asked);
        act(&session, &task);
        handler(Some(request));
        drop(place.lock().unwrap().take());
    }
    (session, task, events)
}

#[test]
fn what_ends_the_task_while_the_delegate_is_asked() {
    let table: [(Act, &[&str]); 4] = [
        (|_, task| task.cancel(), &["complete -999"]),
        (|_, task| task.cancel_with(CloseCode::INVALID, None), &["complete -999"]),
        (|_, task| task.cancel_with(CloseCode::GOING_AWAY, Some(b"x")), &["close 1001 Some(\"x\")", "complete None"]),
        (|session, _| session.invalidate_and_cancel(), &["complete -999"]),
    ];
    for (act, expected) in table {
        for inside in [false, true] {
            let origin = to("/there");
            let (session, task, events) = act_while_asked(act, inside, false, &origin);
            events.wait_for("complete");
            let told: Vec<String> = events.log().into_iter().filter(|event| !event.starts_with("invalid")).collect();
            assert_eq!(told, [&["redirect 302 /there"], expected].concat());
            assert_eq!(origin.targets(), ["/"]);
            assert_eq!(task.current_request().url, origin.url("/"));
            assert_eq!(task.response().unwrap().status_code(), 302);
            session.invalidate_and_cancel();
            eventually("the session's end", || events.log().contains(&"invalid None".to_owned()));
        }
    }
}

#[test]
fn a_close_waits_for_the_reply_where_a_message_does() {
    for inside in [false, true] {
        let origin = to("/there");
        let act: Act = |_, task| task.cancel_with(CloseCode::GOING_AWAY, None);
        let (_session, task, events) = act_while_asked(act, inside, true, &origin);
        events.expect(&["redirect 302 /there", "open None", "send ok", "close 1001 None", "complete None"]);
        assert_eq!(origin.targets(), ["/", "/there"]);
        assert_eq!(task.count_of_bytes_sent(), 6);
    }
    // The delegate does not follow, or the way ends otherwise: it was closed all the same.
    type Reply = fn(UrlRequest) -> Option<UrlRequest>;
    let replies: [Reply; 3] =
        [|_| None, |_| Some(UrlRequest::new(Url::parse("ftp://127.0.0.1/").unwrap())), |request| Some(request)];
    for reply in replies {
        // What is proposed would be a downgrade.
        let origin = Origin::secure(trusted_server(BOTH), |_| Answer::Keep(redirect(302, "ws://127.0.0.1/there")));
        let (guide, events, asked) = keeping();
        let recorder = Arc::clone(&guide.recorder);
        let session = guide.session(trusting());
        let task = session.web_socket_task(origin.url("/"));
        task.send("queued", recorder.handler("send"));
        task.resume();
        let (request, handler) = wait(&asked);
        task.cancel_with(CloseCode::GOING_AWAY, None);
        handler(reply(request));
        events.expect(&["redirect 302 /there", "send -999", "close 1001 None", "complete None"]);
    }
}

#[test]
fn a_suspended_task_does_not_go_on() {
    for elsewhere in [false, true] {
        for inside in [false, true] {
            let target = open();
            let origin = to(if elsewhere { target.url("/there").to_string() } else { "/there".to_owned() });
            let (_session, task, events) = act_while_asked(|_, task| task.suspend(), inside, false, &origin);
            events.wait_for("redirect");
            events.expect_silence(MOMENT);
            assert_eq!((origin.seen().len(), target.connections()), (1, 0));
            assert_eq!(task.state(), TaskState::Suspended);
            task.resume();
            events.wait_for("open");
            assert_eq!((origin.seen().len(), target.seen().len()), if elsewhere { (1, 1) } else { (2, 0) });
            close(&task, &events);
        }
    }
}

#[test]
fn an_invalidated_session_waits_for_the_reply() {
    for inside in [false, true] {
        let origin = to("/there");
        let (_session, task, events) =
            act_while_asked(|session, _| session.finish_tasks_and_invalidate(), inside, true, &origin);
        events.wait_for("send ok");
        close(&task, &events);
        assert_eq!(events.next(), "invalid None");
        assert_eq!(origin.targets(), ["/", "/there"]);
    }
}

#[test]
fn a_late_reply_to_an_earlier_question_does_nothing() {
    // The first question was answered by dropping one of two handlers: there is only one, so the second is a later hop's.
    let origin = chain(302, 2);
    let (guide, events, asked) = keeping();
    let (session, task) = start(guide, ephemeral(), origin.url("/0"));
    let (request, handler) = wait(&asked);
    handler(Some(request));
    let (request, handler) = wait(&asked);
    task.cancel();
    events.wait_for("complete -999");
    session.invalidate_and_cancel();
    events.wait_for("invalid");
    // The session and its reactor are gone.
    drop((session, task));
    handler(Some(request));
    events.expect_silence(MOMENT);
    assert_eq!(origin.targets(), ["/0", "/1"]);
}

// Messages, queues.

#[test]
fn messages_that_were_queued_arrive_once_and_in_order() {
    const COUNT: usize = 200;
    let last = Origin::secure(trusted_server(BOTH), |_| Answer::Open(String::new()));
    let there = last.url("/last").to_string();
    let middle = Origin::new(move |request| match request.target() {
        "/a" => Answer::Keep(redirect(307, "/b")),
        "/b" => Answer::Close(redirect(307, "/c")),
        _ => Answer::Keep(redirect(307, &there)),
    });
    let origin = to(middle.url("/a"));
    for has_delegate in [false, true] {
        let (guide, _events) = Guide::new();
        let session = if has_delegate { guide.session(trusting()) } else { UrlSession::new(trusting()) };
        let task = session.web_socket_task(origin.url("/"));
        let (sender, receiver) = mpsc::channel();
        for number in 0..COUNT {
            let (sent, pong, received) = (sender.clone(), sender.clone(), sender.clone());
            task.send(format!("{number}"), move |result| sent.send(format!("sent {}", result.is_ok())).unwrap());
            task.receive(move |message| received.send(format!("{:?}", message.unwrap())).unwrap());
            if number % 50 == 0 {
                task.send_ping(move |result| pong.send(format!("pong {}", result.is_ok())).unwrap());
            }
        }
        task.resume();
        let told: Vec<String> = (0..2 * COUNT + COUNT / 50).map(|_| wait(&receiver)).collect();
        let messages: Vec<&String> = told.iter().filter(|told| told.starts_with("String")).collect();
        assert_eq!(
            messages,
            (0..COUNT).map(|number| format!("String(\"{number}\")")).collect::<Vec<_>>().iter().collect::<Vec<_>>()
        );
        assert_eq!(told.iter().filter(|told| *told == "sent true").count(), COUNT);
        assert_eq!(told.iter().filter(|told| *told == "pong true").count(), COUNT / 50);
        task.cancel();
    }
    assert_eq!(middle.targets(), ["/a", "/b", "/c", "/a", "/b", "/c"]);
    assert_eq!(last.targets(), ["/last", "/last"]);
}

#[test]
fn a_message_that_waits_fails_with_what_the_way_ends_with() {
    let origin = Origin::new(|_| Answer::Keep(redirect(302, "/")));
    let (guide, events) = Guide::new();
    let recorder = Arc::clone(&guide.recorder);
    let guide = guide.redirect(|_, _, _, handler| handler(None));
    let session = guide.session(ephemeral());
    let task = session.web_socket_task(origin.url("/"));
    task.send("never", recorder.handler("send"));
    task.send_ping(recorder.handler("ping"));
    task.receive(recorder.receiver("receive"));
    task.resume();
    events.wait_for("complete -1011");
    let mut log = events.log();
    log.sort();
    assert_eq!(log, ["complete -1011", "ping -1011", "receive -1011", "redirect 302 /", "send -1011"]);
}

#[test]
fn on_every_queue_and_from_every_thread() {
    for kind in KINDS {
        for late in [false, true] {
            let queue = Queue::new(kind);
            let target = open();
            let there = target.url("/last").to_string();
            let origin = Origin::new(move |request| match request.target() {
                "/0" => Answer::Keep(redirect(302, "/1")),
                _ => Answer::Keep(redirect(302, &there)),
            });
            let (guide, events) = Guide::new();
            let recorder = Arc::clone(&guide.recorder);
            let guide = guide.redirect(move |_, _, request, handler| {
                if late {
                    thread::spawn(move || handler(Some(request)));
                } else {
                    handler(Some(request));
                }
            });
            let session = guide.session_on(ephemeral(), queue.queue.clone());
            let task = session.web_socket_task(origin.url("/0"));
            task.send("hello", |_| ());
            task.receive(recorder.receiver("receive"));
            task.resume();
            let told = |beginning: &str| events.log().iter().any(|event| event.starts_with(beginning));
            queue.wait("message", || told("receive"));
            assert_eq!(events.log(), ["redirect 302 /1", "redirect 302 /last", "open None", "receive string hello"]);
            task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
            queue.wait("end", || told("complete None"));
            session.invalidate_and_cancel();
            queue.wait("invalidation", || told("invalid"));
        }
    }
}

#[test]
fn a_blocked_callback_holds_up_its_own_task_only() {
    let (origin, echo) = (to("/there"), open());
    let (go, ready) = mpsc::channel::<()>();
    let ready = Mutex::new(ready);
    let (guide, events) = Guide::new();
    let guide = guide.redirect(move |_, _, request, handler| {
        ready.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        handler(Some(request));
    });
    let (_session, task) = start(guide, ephemeral(), origin.url("/"));
    events.wait_for("redirect");
    let session = UrlSession::new(ephemeral());
    let other = session.web_socket_task(echo.url("/"));
    let (sender, receiver) = mpsc::channel();
    other.send_ping(move |pong: Result<(), UrlError>| sender.send(pong.is_ok()).unwrap());
    other.resume();
    assert!(wait(&receiver));
    go.send(()).unwrap();
    events.wait_for("open");
    close(&task, &events);
}
