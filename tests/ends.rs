//! How a task ends: the rows A to J of the table of ends, against scripted servers.
//!
//! Each row is played with calls of every kind waiting, and with calls of every kind after it. What the task shows is read
//! inside the handlers that tell of the end.

mod support;

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use support::scene::{Row, Scene, connected, facts, noting, unopened};
use support::{PATIENCE, Peer, Recorder, Server, frame, recorded_session, recorder};
use urlsession::{
    CloseCode, ErrorCode, ErrorDomain, ErrorStage, SessionConfiguration, SessionDelegate, SessionTask, TaskDelegate,
    TaskState, Url, UrlError, UrlSession, WebSocketDelegate, WebSocketTask,
};

#[test]
fn row_a_the_server_closes_with_code_and_reason() {
    let server = Server::one(|mut peer| {
        peer.open();
        peer.close(4999, "fun");
        assert_eq!(peer.read_close(), (Some(4999), Vec::new()));
    });
    let (session, recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    task.receive(recorder.receiver("receive"));
    task.resume();
    events.expect(&["open None", "receive 57", "close 4999 Some(\"fun\")", "complete None"]);
    assert_eq!(task.close_code(), CloseCode::new(4999));
    assert_eq!(task.close_reason().as_deref(), Some(&b"fun"[..]));
    assert_eq!(task.state(), TaskState::Completed);
    assert!(task.error().is_none());
    server.join();
}

#[test]
fn row_a_with_calls_of_every_kind() {
    let scene = Scene::open(SessionConfiguration::default(), |mut peer| {
        peer.close(4999, "fun");
        assert_eq!(peer.read_close().0, Some(4999));
        None
    });
    scene.expect(&Row {
        opened: true,
        waiting: 57,
        later: 57,
        close: Some("close 4999 Some(\"fun\")"),
        complete: "complete None",
        facts: "Completed 4999 Some(\"fun\") None Some(101)",
    });
}

#[test]
fn row_a_a_code_without_a_reason_has_an_empty_one() {
    let scene = Scene::open(SessionConfiguration::default(), |mut peer| {
        peer.close(1001, "");
        assert_eq!(peer.read_close().0, Some(1001));
        None
    });
    scene.expect(&Row {
        opened: true,
        waiting: 57,
        later: 57,
        close: Some("close 1001 Some(\"\")"),
        complete: "complete None",
        facts: "Completed 1001 Some(\"\") None Some(101)",
    });
}

#[test]
fn row_a0_the_server_closes_without_a_code() {
    let scene = Scene::open(SessionConfiguration::default(), |mut peer| {
        peer.write(&frame(0x88, b""));
        assert_eq!(peer.read_close(), (None, Vec::new()));
        None
    });
    scene.expect(&Row {
        opened: true,
        waiting: 57,
        later: 57,
        close: Some("close 1005 Some(\"\")"),
        complete: "complete None",
        facts: "Completed 1005 Some(\"\") None Some(101)",
    });
}

const ROW_B: Row = Row {
    opened: true,
    waiting: -999,
    later: -999,
    close: Some("close 4001 Some(\"bye\")"),
    complete: "complete None",
    facts: "Completed 4001 Some(\"bye\") None Some(101)",
};

#[test]
fn row_b_the_server_answers_with_another_code() {
    let (go, asked) = mpsc::channel();
    let scene = Scene::open(SessionConfiguration::default(), move |mut peer| {
        asked.recv_timeout(PATIENCE).unwrap();
        peer.close(1000, "mine");
        assert_eq!(peer.read_close(), (Some(4001), b"bye".to_vec()));
        None
    });
    scene.task.cancel_with(CloseCode::new(4001), Some(b"bye"));
    assert_eq!(scene.task.state(), TaskState::Canceling);
    go.send(()).unwrap();
    scene.expect(&ROW_B);
}

#[test]
fn row_b_the_server_never_answers() {
    let mut configuration = SessionConfiguration::default();
    configuration.web_socket.close_timeout = Duration::from_millis(200);
    let scene = Scene::open(configuration, Some);
    let called = Instant::now();
    scene.task.cancel_with(CloseCode::new(4001), Some(b"bye"));
    scene.events.wait_for("receive 1");
    assert!(called.elapsed() >= Duration::from_millis(200));
    scene.expect(&ROW_B);
}

#[test]
fn row_b_the_connection_is_lost_meanwhile() {
    for reset in [false, true] {
        let (go, asked) = mpsc::channel();
        let scene = Scene::open(SessionConfiguration::default(), move |peer| {
            asked.recv_timeout(PATIENCE).unwrap();
            if reset {
                peer.reset();
                return None;
            }
            peer.stream.shutdown(Shutdown::Write).unwrap();
            Some(peer)
        });
        scene.task.cancel_with(CloseCode::new(4001), Some(b"bye"));
        go.send(()).unwrap();
        scene.expect(&ROW_B);
    }
}

const ROW_B_UNOPENED: Row = Row { opened: false, facts: "Completed 4001 Some(\"bye\") None None", ..ROW_B };

#[test]
fn row_b_before_the_socket_is_open() {
    // What `send` took is to be sent before the Close, so the task goes on until `close_timeout`.
    let mut configuration = SessionConfiguration::default();
    configuration.web_socket.close_timeout = Duration::from_millis(200);
    let scene = connected(configuration);
    scene.task.cancel_with(CloseCode::new(4001), Some(b"bye"));
    scene.expect(&ROW_B_UNOPENED);
}

#[test]
fn row_b_before_the_socket_is_open_and_with_nothing_to_send() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("ws://{}/", listener.local_addr().unwrap())).unwrap();
    let (session, recorder, events) = recorded_session();
    let task = session.web_socket_task(url);
    task.receive(noting(&recorder, &task, "receive".to_owned()));
    task.resume();
    task.cancel_with(CloseCode::GOING_AWAY, None);
    events.expect(&["receive -999 [Completed 1001 None None None]", "close 1001 None", "complete None"]);
}

#[test]
fn row_b_before_resume() {
    let scene = Scene::new(&nowhere(), SessionConfiguration::default());
    scene.task.cancel_with(CloseCode::new(4001), Some(b"bye"));
    assert!(matches!(scene.task.state(), TaskState::Suspended | TaskState::Completed));
    scene.expect(&ROW_B_UNOPENED);
}

const ROW_C: Row = Row {
    opened: true,
    waiting: -999,
    later: -999,
    close: None,
    complete: "complete -999",
    facts: "Completed 0 None Some(-999) Some(101)",
};

const ROW_C_UNOPENED: Row = Row { opened: false, facts: "Completed 0 None Some(-999) None", ..ROW_C };

#[test]
fn row_c_cancel_of_an_open_task() {
    let cancels: [fn(&WebSocketTask); 2] =
        [|task| task.cancel(), |task| task.cancel_with(CloseCode::INVALID, Some(b"dropped"))];
    for cancel in cancels {
        let scene = Scene::open(SessionConfiguration::default(), Some);
        cancel(&scene.task);
        scene.expect(&ROW_C);
    }
}

#[test]
fn row_c_cancel_on_the_way() {
    let scene = connected(SessionConfiguration::default());
    scene.task.cancel();
    scene.expect(&ROW_C_UNOPENED);
}

#[test]
fn row_c_cancel_before_resume() {
    let scene = Scene::new(&nowhere(), SessionConfiguration::default());
    scene.task.cancel();
    assert!(matches!(scene.task.state(), TaskState::Suspended | TaskState::Completed));
    scene.expect(&ROW_C_UNOPENED);
}

#[test]
fn row_c_cancel_of_a_suspended_task() {
    let scene = Scene::open(SessionConfiguration::default(), Some);
    scene.task.suspend();
    scene.task.cancel();
    scene.expect(&ROW_C);
}

#[test]
fn row_d_the_stream_ends_without_a_close() {
    let scene = Scene::open(SessionConfiguration::default(), |peer| {
        peer.stream.shutdown(Shutdown::Write).unwrap();
        Some(peer)
    });
    scene.expect(&Row {
        opened: true,
        waiting: -1005,
        later: 57,
        close: None,
        complete: "complete -1005",
        facts: "Completed 0 None Some(-1005) Some(101)",
    });
}

#[test]
fn row_d_the_stream_ends_inside_a_frame() {
    let server = Server::one(|mut peer| {
        peer.open();
        peer.text("whole");
        peer.write(&frame(0x81, b"not whole")[..5]);
        peer.stream.shutdown(Shutdown::Write).unwrap();
        peer.read_to_end();
    });
    let (session, recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    task.receive(recorder.receiver("first"));
    task.receive(recorder.receiver("second"));
    task.resume();
    events.expect(&["open None", "first string whole", "second -1005", "complete -1005"]);
    server.join();
}

#[test]
fn row_d_the_connection_is_reset() {
    let scene = Scene::open(SessionConfiguration::default(), |peer| {
        peer.reset();
        None
    });
    scene.expect(&Row {
        opened: true,
        waiting: 54,
        later: 57,
        close: None,
        complete: "complete 54",
        facts: "Completed 0 None Some(54) Some(101)",
    });
}

#[test]
fn row_d_the_connection_is_lost_before_the_opening() {
    let server = Server::one(|mut peer| {
        let request = peer.read_request();
        let answer = Peer::switching_protocols(&request, "");
        peer.write(&answer[..answer.len() - 1]);
        peer.stream.shutdown(Shutdown::Write).unwrap();
        peer.read_to_end();
    });
    let mut scene = Scene::new(&server.url(), SessionConfiguration::default());
    scene.server = Some(server);
    scene.task.resume();
    // It never opened: the error repeats as itself.
    scene.expect(&Row {
        opened: false,
        waiting: -1005,
        later: -1005,
        close: None,
        complete: "complete -1005",
        facts: "Completed 0 None Some(-1005) None",
    });
}

/// An address that nobody will connect to.
fn nowhere() -> Url {
    Url::parse("ws://127.0.0.1:9/").unwrap()
}

#[test]
fn row_i_the_port_is_refused() {
    // Bound and not listening: nobody else can have the port meanwhile.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let scene = Scene::new(&Url::parse(&format!("ws://{address}/")).unwrap(), SessionConfiguration::default());
    let task = scene.task.clone();
    task.resume();
    scene.expect(&unopened(-1004, "complete -1004", "Completed 0 None Some(-1004) None"));
    let error = task.error().unwrap();
    assert_eq!((error.code(), error.stage()), (ErrorCode::CannotConnectToHost, ErrorStage::Connect));
    assert_eq!(error.domain(), ErrorDomain::Url);
    assert_eq!(error.failing_url(), Some(&task.original_request().url));
    let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<std::io::Error>());
    assert_eq!(source.map(std::io::Error::kind), Some(std::io::ErrorKind::ConnectionRefused));
}

#[test]
fn row_i_the_name_is_unknown() {
    // A label of 64 characters is none that the DNS could hold: no server has to be asked.
    let url = Url::parse(&format!("ws://{}.invalid/", "a".repeat(64))).unwrap();
    let scene = Scene::new(&url, SessionConfiguration::default());
    let task = scene.task.clone();
    task.resume();
    scene.expect(&unopened(-1003, "complete -1003", "Completed 0 None Some(-1003) None"));
    assert_eq!(task.error().unwrap().stage(), ErrorStage::Resolve);
}

#[test]
#[cfg(target_os = "linux")]
fn row_i_no_connection_in_time() {
    // Linux answers no further SYN once the queue of connections that nobody accepts is full.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        queued.push(stream);
        assert!(queued.len() < 100, "the queue never fills");
    }
    let mut configuration = SessionConfiguration::default();
    configuration.timeout_interval_for_request = Duration::from_millis(200);
    let scene = Scene::new(&Url::parse(&format!("ws://{address}/")).unwrap(), configuration);
    let task = scene.task.clone();
    task.resume();
    scene.expect(&unopened(-1001, "complete -1001", "Completed 0 None Some(-1001) None"));
    assert_eq!(task.error().unwrap().stage(), ErrorStage::Connect);
}

#[test]
fn row_j_the_session_is_invalidated_and_cancelled() {
    let scene = Scene::open(SessionConfiguration::default(), Some);
    let Scene { server, over, session, task, events, .. } = scene;
    session.invalidate_and_cancel();
    events.wait_for("invalid");
    let log = events.log();
    assert_eq!(log[log.len() - 3..], ["metrics", "complete -999", "invalid None"]);
    let failed = |kind: &str| log.iter().filter(|event| event.starts_with(kind) && event.contains(" -999 [")).count();
    assert_eq!((failed("receive"), failed("send"), failed("ping")), (2, 2, 2), "{log:#?}");
    assert_eq!(facts(&task), "Completed 0 None Some(-999) Some(101)");
    drop(over);
    server.unwrap().join();
}

/// A delegate that notes what the task shows whenever it is told something.
struct Witness(Arc<Recorder>);

impl SessionDelegate for Witness {}

impl TaskDelegate for Witness {
    fn did_finish_collecting_metrics(&self, _: &UrlSession, task: &SessionTask, _: &urlsession::TaskMetrics) {
        self.0.note(format!("metrics [{}]", facts(&task.as_web_socket_task().unwrap())));
    }

    fn did_complete_with_error(&self, _: &UrlSession, task: &SessionTask, error: Option<&UrlError>) {
        assert_eq!(error.map(UrlError::raw_code), task.error().map(|error| error.raw_code()));
        self.0.note(format!("complete [{}]", facts(&task.as_web_socket_task().unwrap())));
    }
}

impl WebSocketDelegate for Witness {
    fn did_open_with_protocol(&self, _: &UrlSession, task: &WebSocketTask, _: Option<&str>) {
        self.0.note(format!("open [{}]", facts(task)));
    }

    fn did_close_with(&self, _: &UrlSession, task: &WebSocketTask, _: CloseCode, _: Option<&[u8]>) {
        self.0.note(format!("close [{}]", facts(task)));
    }
}

#[test]
fn delegate_methods_see_the_end_and_the_close_comes_without_a_receive() {
    type Script = fn(&mut Peer);
    let scripts: [(Script, Option<&str>, &str); 3] = [
        (|peer| peer.close(1000, "done"), Some("close"), "Completed 1000 Some(\"done\") None Some(101)"),
        (|peer| peer.stream.shutdown(Shutdown::Write).unwrap(), None, "Completed 0 None Some(-1005) Some(101)"),
        (|peer| peer.write(&[0xff]), None, "Completed 0 None Some(100) Some(101)"),
    ];
    for (script, close, end) in scripts {
        let (go, ready) = mpsc::channel::<()>();
        let server = Server::one(move |mut peer| {
            peer.open();
            ready.recv_timeout(PATIENCE).unwrap();
            script(&mut peer);
            let _ = peer.stream.shutdown(Shutdown::Write);
            peer.read_to_end();
        });
        let (recorder, events) = recorder();
        let delegate = Arc::new(Witness(recorder));
        let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), None);
        let task = session.web_socket_task(server.url());
        assert_eq!(facts(&task), "Suspended 0 None None None");
        task.resume();
        assert_eq!(events.next(), "open [Running 0 None None Some(101)]");
        go.send(()).unwrap();
        for told in close.into_iter().chain(["metrics", "complete"]) {
            assert_eq!(events.next(), format!("{told} [{end}]"));
        }
        server.join();
    }
}

/// An error names the stage that failed: an end that was asked for, and what comes after an end.
#[test]
fn what_was_cancelled_and_what_comes_too_late_have_stages_of_their_own() {
    let stage_of_a_receive = |task: &WebSocketTask| {
        let (sender, receiver) = mpsc::channel();
        task.receive(move |result| sender.send(result.unwrap_err()).unwrap());
        let error = receiver.recv_timeout(PATIENCE).unwrap();
        (error.code(), error.stage())
    };
    let scene = Scene::new(&nowhere(), SessionConfiguration::default());
    scene.task.cancel();
    assert_eq!(stage_of_a_receive(&scene.task), (ErrorCode::Cancelled, ErrorStage::Cancel));
    assert_eq!(scene.task.error().unwrap().stage(), ErrorStage::Cancel);

    let server = Server::one(|mut peer| {
        peer.open();
        peer.close(1000, "");
        peer.read_close();
    });
    let (session, _recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    task.resume();
    events.expect(&["open None", "close 1000 Some(\"\")", "complete None"]);
    assert_eq!(stage_of_a_receive(&task), (ErrorCode::NotConnected, ErrorStage::Close));
    server.join();
}

#[test]
fn a_task_ends_once_however_it_ends_twice() {
    // The server's Close, the end of its stream and two cancels, all at once.
    for round in 0..20 {
        let (go, ready) = mpsc::channel::<()>();
        let scene = Scene::open(SessionConfiguration::default(), move |mut peer| {
            ready.recv_timeout(PATIENCE).unwrap();
            peer.close(1000, "");
            let _ = peer.stream.shutdown(Shutdown::Write);
            Some(peer)
        });
        go.send(()).unwrap();
        let other = scene.task.clone();
        let canceller = thread::spawn(move || other.cancel());
        if round % 2 == 0 {
            scene.task.cancel_with(CloseCode::new(4001), Some(b"bye"));
        }
        canceller.join().unwrap();
        scene.events.wait_for("complete");
        let session = &scene.session;
        let (told, done) = mpsc::channel();
        session.flush(move || told.send(()).unwrap());
        done.recv_timeout(PATIENCE).unwrap();
        let log = scene.events.log();
        let count = |beginning: &str| log.iter().filter(|event| event.starts_with(beginning)).count();
        assert_eq!((count("complete"), count("metrics")), (1, 1), "{log:#?}");
        assert_eq!(count("close"), usize::from(log.last().unwrap() == "complete None"), "{log:#?}");
        assert_eq!((count("receive"), count("send"), count("ping")), (2, 2, 2), "{log:#?}");
        drop(scene.over);
        scene.server.unwrap().join();
    }
}
