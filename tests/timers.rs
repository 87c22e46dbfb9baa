//! What limits the time of a task, and `suspend()`, which stops all of it but the timer of the resource.

mod support;

use std::io::ErrorKind;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use support::hooks::eventually;
use support::{Events, PATIENCE, Peer, Recorder, Server, frame, recorded_session_with};
use urlsession::{
    CloseCode, ErrorCode, ErrorStage, Message, SessionConfiguration, TaskState, Url, UrlRequest, UrlSession,
    WebSocketTask,
};

/// A moment in which something must not happen.
const MOMENT: Duration = Duration::from_millis(100);

const SHORT: Duration = Duration::from_millis(200);

/// Long enough for anything that is to happen in time on a busy machine.
const LONG: Duration = Duration::from_secs(2);

/// A signal, and who waits for it.
fn signal() -> (Sender<()>, impl FnOnce() + Send) {
    let (sender, receiver) = mpsc::channel();
    (sender, move || receiver.recv_timeout(PATIENCE).unwrap())
}

fn of_request(timeout: Duration) -> SessionConfiguration {
    let mut configuration = SessionConfiguration::default();
    configuration.timeout_interval_for_request = timeout;
    configuration
}

fn of_resource(timeout: Duration) -> SessionConfiguration {
    let mut configuration = SessionConfiguration::default();
    configuration.timeout_interval_for_resource = timeout;
    configuration
}

/// A task and what it needs to live.
struct Client {
    _session: UrlSession,
    task: WebSocketTask,
    recorder: Arc<Recorder>,
    events: Events,
}

/// Suspended.
fn client(with: impl Into<UrlRequest>, configuration: SessionConfiguration) -> Client {
    let (session, recorder, events) = recorded_session_with(configuration, None);
    let task = session.web_socket_task(with);
    Client { _session: session, task, recorder, events }
}

impl Client {
    fn open(server: &Server) -> Self {
        let client = client(server.url(), SessionConfiguration::default());
        client.task.resume();
        assert_eq!(client.events.next(), "open None");
        client
    }

    /// Waits for the end by a timer; at least `timeout` after `begun`.
    #[track_caller]
    fn expect_time_out(&self, begun: Instant, timeout: Duration, stage: ErrorStage, name: &str) {
        self.events.wait_for("complete -1001");
        assert!(begun.elapsed() >= timeout, "after {:?}", begun.elapsed());
        let error = self.task.error().unwrap();
        assert_eq!((error.code(), error.stage()), (ErrorCode::TimedOut, stage));
        assert!(error.reason().contains(name), "{error}");
        assert_eq!(self.task.close_code(), CloseCode::INVALID);
        assert!(!self.events.log().iter().any(|event| event.starts_with("close")));
    }
}

#[test]
fn the_request_timer_at_each_silent_stage() {
    // Nobody accepts; the request is read and not answered; half of the head comes; all of it but its last byte.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let unaccepted = Url::parse(&format!("ws://{}/", listener.local_addr().unwrap())).unwrap();
    let server = Server::many(3, |_, mut peer| {
        let request = peer.read_request();
        let answer = Peer::switching_protocols(&request, "");
        match request.split(' ').nth(1).unwrap() {
            "/half" => peer.write(&answer[..answer.len() / 2]),
            "/most" => peer.write(&answer[..answer.len() - 1]),
            _ => {}
        }
        peer.read_to_end();
    });
    let urls = [unaccepted, server.url(), server.url_with("/half"), server.url_with("/most")];
    for url in urls {
        let client = client(url, of_request(SHORT));
        for name in ["receive 1", "receive 2"] {
            client.task.receive(client.recorder.receiver(name));
        }
        let begun = Instant::now();
        client.task.resume();
        client.expect_time_out(begun, SHORT, ErrorStage::Upgrade, "timeout_interval_for_request");
        assert_eq!(client.events.log(), ["receive 1 -1001", "receive 2 -1001", "metrics", "complete -1001"]);
        client.task.receive(client.recorder.receiver("later"));
        assert_eq!(client.events.next(), "later -1001");
    }
    server.join();
}

#[test]
fn the_request_timer_restarts_with_every_byte_and_is_off_once_open() {
    const PIECES: usize = 6;
    let server = Server::one(|mut peer| {
        let request = peer.read_request();
        let answer = Peer::switching_protocols(&request, "");
        // In all half as long again as the timer, which may not run out between two pieces.
        for piece in answer.chunks(answer.len().div_ceil(PIECES)) {
            thread::sleep(LONG / 4);
            peer.write(piece);
        }
        peer.echo();
    });
    let client = client(server.url(), of_request(LONG));
    let begun = Instant::now();
    client.task.resume();
    assert_eq!(client.events.next(), "open None");
    assert!(begun.elapsed() >= LONG * 5 / 4);
    client.events.expect_silence(LONG * 5 / 4);
    client.task.receive(client.recorder.receiver("receive"));
    client.task.send("alive", |_| ());
    assert_eq!(client.events.next(), "receive string alive");
    client.task.cancel();
    server.join();
}

#[test]
fn the_requests_own_timeout_wins() {
    let server = Server::many(2, |_, mut peer| {
        let request = peer.read_request();
        if request.starts_with("GET /late ") {
            thread::sleep(2 * SHORT);
            peer.write(&Peer::switching_protocols(&request, ""));
        }
        while peer.try_read_frame().is_ok_and(|frame| frame.opcode() != 8) {}
    });
    let mut short = UrlRequest::new(server.url());
    short.timeout_interval = Some(SHORT);
    let mut configuration = of_request(10 * PATIENCE);
    let first = client(short, configuration);
    let begun = Instant::now();
    first.task.resume();
    first.expect_time_out(begun, SHORT, ErrorStage::Upgrade, "timeout_interval_for_request");

    let mut long = UrlRequest::new(server.url_with("/late"));
    long.timeout_interval = Some(PATIENCE);
    configuration = of_request(SHORT / 4);
    let second = client(long, configuration);
    second.task.resume();
    assert_eq!(second.events.next(), "open None");
    second.task.cancel();
    server.join();
}

#[test]
fn timeouts_without_end_and_of_nothing() {
    let server = Server::many(2, |_, mut peer| {
        // The second one may be gone before its request is written.
        let mut byte = [0];
        if peer.stream.peek(&mut byte).is_ok_and(|count| count > 0) {
            peer.open();
            while peer.try_read_frame().is_ok_and(|frame| frame.opcode() != 8) {}
        }
    });
    let mut configuration = of_request(Duration::MAX);
    configuration.timeout_interval_for_resource = Duration::MAX;
    configuration.web_socket.close_timeout = Duration::MAX;
    configuration.web_socket.ping_interval = Some(Duration::MAX);
    configuration.web_socket.pong_timeout = Duration::MAX;
    let endless = client(server.url(), configuration);
    endless.task.resume();
    assert_eq!(endless.events.next(), "open None");
    endless.task.cancel();
    endless.events.wait_for("complete -999");

    // Nobody accepts: a listener of its own, for there may be no connection at all.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("ws://{}/", listener.local_addr().unwrap())).unwrap();
    for configuration in [of_request(Duration::ZERO), of_resource(Duration::ZERO)] {
        let none = client(url.clone(), configuration);
        none.task.resume();
        none.events.expect(&["complete -1001"]);
    }
    let last = Client::open(&server);
    last.task.cancel();
    server.join();
}

#[test]
fn the_resource_timer_ends_an_open_task_however_busy_it_is() {
    let server = Server::one(|mut peer| {
        peer.open();
        // Each message is sent back, until the task ends.
        peer.echo();
    });
    let client = client(server.url(), of_resource(2 * SHORT));
    fn ping_pong(task: &WebSocketTask) {
        let again = task.clone();
        task.send("again", |_| ());
        task.receive(move |result| {
            if result.is_ok() {
                ping_pong(&again);
            }
        });
    }
    // From `resume()`, not from the making of the task.
    client.events.expect_silence(2 * SHORT + MOMENT);
    let begun = Instant::now();
    client.task.resume();
    ping_pong(&client.task);
    client.expect_time_out(begun, 2 * SHORT, ErrorStage::Open, "timeout_interval_for_resource");
    client.task.receive(client.recorder.receiver("later"));
    assert_eq!(client.events.next(), "later 57");
    server.join();
}

#[test]
fn the_resource_timer_ends_a_task_on_its_way_and_a_suspended_one() {
    let server = Server::many(2, |_, mut peer| {
        let request = peer.read_request();
        if request.starts_with("GET /open ") {
            peer.write(&Peer::switching_protocols(&request, ""));
        }
        peer.read_to_end();
    });
    let on_its_way = client(server.url(), of_resource(SHORT));
    let begun = Instant::now();
    on_its_way.task.resume();
    on_its_way.expect_time_out(begun, SHORT, ErrorStage::Upgrade, "timeout_interval_for_resource");

    let suspended = client(server.url_with("/open"), of_resource(LONG));
    let begun = Instant::now();
    suspended.task.resume();
    suspended.events.wait_for("open");
    suspended.task.suspend();
    suspended.task.receive(suspended.recorder.receiver("receive"));
    suspended.expect_time_out(begun, LONG, ErrorStage::Open, "timeout_interval_for_resource");
    assert_eq!(suspended.events.log()[1..], ["receive -1001", "metrics", "complete -1001"]);
    assert_eq!(suspended.task.state(), TaskState::Completed);
    server.join();
}

#[test]
fn the_request_timer_stands_still_while_the_task_is_suspended() {
    let (requested, is_requested) = signal();
    let (go, wait) = signal();
    let server = Server::one(move |mut peer| {
        let request = peer.read_request();
        requested.send(()).unwrap();
        wait();
        peer.write(&Peer::switching_protocols(&request, ""));
        while peer.try_read_frame().is_ok_and(|frame| frame.opcode() != 8) {}
    });
    let client = client(server.url(), of_request(LONG));
    client.task.resume();
    is_requested();
    client.task.suspend();
    // The answer is there, and is not read.
    go.send(()).unwrap();
    client.events.expect_silence(LONG * 5 / 4);
    assert_eq!(client.task.state(), TaskState::Suspended);
    client.task.resume();
    assert_eq!(client.events.next(), "open None");
    client.task.cancel();
    server.join();
}

#[test]
fn the_request_timer_goes_on_with_resume() {
    let (requested, is_requested) = signal();
    let server = Server::one(move |mut peer| {
        peer.read_request();
        requested.send(()).unwrap();
        peer.read_to_end();
    });
    let client = client(server.url(), of_request(LONG));
    let begun = Instant::now();
    client.task.resume();
    is_requested();
    client.task.suspend();
    client.events.expect_silence(SHORT);
    client.task.resume();
    client.expect_time_out(begun, LONG + SHORT, ErrorStage::Upgrade, "timeout_interval_for_request");
    server.join();
}

#[test]
fn a_task_that_was_never_resumed_has_no_timers() {
    let mut configuration = of_request(SHORT / 4);
    configuration.timeout_interval_for_resource = SHORT / 4;
    let client = client(Url::parse("ws://127.0.0.1:9/").unwrap(), configuration);
    client.task.receive(client.recorder.receiver("receive"));
    client.events.expect_silence(SHORT);
    assert_eq!((client.task.state(), client.task.error().is_none()), (TaskState::Suspended, true));
    client.task.cancel();
    client.events.expect(&["receive -999", "complete -999"]);
}

#[test]
fn a_suspended_open_task_reads_and_writes_nothing_and_loses_nothing() {
    let (suspended, is_suspended) = signal();
    let (looked, nothing_came) = signal();
    let (go, resumed) = signal();
    let server = Server::one(move |mut peer| {
        peer.open();
        is_suspended();
        for number in 0..10 {
            peer.text(&number.to_string());
            peer.write(&frame(0x89, &[number]));
        }
        peer.stream.set_read_timeout(Some(MOMENT)).unwrap();
        let error = peer.try_read_frame().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
        peer.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        looked.send(()).unwrap();
        resumed();
        // What was sent, in order; the pong may be anywhere between.
        let mut expected = (0..10).map(|number| vec![number; 100 * usize::from(number)]);
        let mut next = expected.next();
        let mut pongs = Vec::new();
        while next.is_some() || pongs.last() != Some(&9) {
            let frame = peer.read_frame();
            match frame.opcode() {
                10 => pongs.push(frame.payload[0]),
                9 => assert!(next.is_none(), "the ping came before the messages"),
                _ => {
                    assert_eq!(Some(frame.payload), next);
                    next = expected.next();
                }
            }
        }
        peer.close(1000, "");
        peer.read_close();
    });
    let client = Client::open(&server);
    client.task.suspend();
    assert_eq!(client.task.state(), TaskState::Suspended);
    suspended.send(()).unwrap();
    for number in 0..10_u8 {
        client.task.send(vec![number; 100 * usize::from(number)], client.recorder.handler("send"));
    }
    assert_eq!(client.task.buffered_amount(), 4500);
    client.task.send_ping(|_| ());
    for _ in 0..11 {
        client.task.receive(client.recorder.receiver("receive"));
    }
    nothing_came();
    client.events.expect_silence(MOMENT);
    assert_eq!(client.task.count_of_bytes_received(), 0);
    client.task.resume();
    assert_eq!(client.task.state(), TaskState::Running);
    go.send(()).unwrap();
    client.events.wait_for("complete None");
    let log = client.events.log();
    let of = |kind: &str| log.iter().filter(|event| event.starts_with(kind)).cloned().collect::<Vec<_>>();
    assert_eq!(of("send"), vec!["send ok"; 10]);
    let mut received: Vec<String> = (0..10).map(|number| format!("receive string {number}")).collect();
    received.push("receive 57".to_owned());
    assert_eq!(of("receive"), received);
    server.join();
}

#[test]
fn suspends_are_counted() {
    let server = Server::one(|mut peer| {
        peer.open();
        peer.echo();
    });
    let client = client(server.url(), SessionConfiguration::default());
    // A new task is suspended once.
    client.task.suspend();
    client.task.resume();
    client.events.expect_silence(MOMENT);
    assert_eq!(client.task.state(), TaskState::Suspended);
    client.task.resume();
    assert_eq!(client.events.next(), "open None");
    // Of a running task a resume does nothing, and is not saved up.
    client.task.resume();
    client.task.resume();
    for _ in 0..3 {
        client.task.suspend();
    }
    client.task.send("counted", client.recorder.handler("send"));
    client.task.receive(client.recorder.receiver("receive"));
    for _ in 0..2 {
        client.task.resume();
        client.events.expect_silence(MOMENT);
        assert_eq!(client.task.state(), TaskState::Suspended);
    }
    client.task.resume();
    let mut told = [client.events.next(), client.events.next()];
    told.sort();
    assert_eq!(told, ["receive string counted", "send ok"]);
    client.task.cancel();
    server.join();
}

#[test]
fn a_large_message_is_suspended_in_its_middle() {
    const LENGTH: usize = 8 * 1024 * 1024;
    let (half, is_half) = signal();
    let (go, resumed) = signal();
    let server = Server::one(move |mut peer| {
        peer.open();
        let message = frame(0x82, &vec![7; LENGTH]);
        peer.write(&message[..100_000]);
        half.send(()).unwrap();
        resumed();
        peer.write(&message[100_000..]);
        let mut length = 0;
        loop {
            let frame = peer.read_frame();
            length += frame.payload.len();
            if frame.is_final() {
                break;
            }
        }
        assert_eq!(length, LENGTH);
        peer.close(1000, "");
        peer.read_close();
    });
    let client = client(server.url(), SessionConfiguration::default());
    client.task.set_maximum_message_size(0);
    client.task.resume();
    assert_eq!(client.events.next(), "open None");
    is_half();
    client.task.send(vec![1; LENGTH], client.recorder.handler("send"));
    client.task.suspend();
    let (sender, receiver) = mpsc::channel();
    client.task.receive(move |result| sender.send(result).unwrap());
    go.send(()).unwrap();
    client.events.expect_silence(MOMENT);
    client.task.resume();
    assert!(receiver.recv_timeout(PATIENCE).unwrap().unwrap() == Message::Data(vec![7; LENGTH]));
    client.events.wait_for("complete None");
    assert_eq!(client.events.log()[1], "send ok");
    server.join();
}

#[test]
fn cancel_with_takes_a_suspended_task_along() {
    let server = Server::one(|mut peer| {
        peer.open();
        assert_eq!(peer.read_frame().payload, b"queued");
        assert_eq!(peer.read_close(), (Some(1001), Vec::new()));
        peer.close(1001, "");
    });
    let client = Client::open(&server);
    client.task.suspend();
    client.task.send("queued", client.recorder.handler("send"));
    client.task.cancel_with(CloseCode::GOING_AWAY, None);
    client.events.expect(&["open None", "send ok", "close 1001 None", "complete None"]);
    server.join();
}

#[test]
fn what_arrived_before_the_suspension_is_still_received() {
    let server = Server::one(|mut peer| {
        peer.open();
        peer.text("before");
        peer.read_close();
    });
    let client = Client::open(&server);
    eventually("the message is there", || client.task.count_of_bytes_received() == 6);
    client.task.suspend();
    client.task.receive(client.recorder.receiver("receive"));
    assert_eq!(client.events.next(), "receive string before");
    client.task.cancel();
    server.join();
}

#[test]
fn the_loss_of_a_suspended_tasks_connection_is_told_when_it_goes_on() {
    let (suspended, is_suspended) = signal();
    let server = Server::one(move |mut peer| {
        peer.open();
        is_suspended();
        peer.text("last words");
        peer.close(1000, "bye");
    });
    let client = Client::open(&server);
    client.task.suspend();
    suspended.send(()).unwrap();
    server.join();
    for _ in 0..2 {
        client.task.receive(client.recorder.receiver("receive"));
    }
    client.events.expect_silence(MOMENT);
    client.task.resume();
    client.events.expect(&[
        "open None",
        "receive string last words",
        "receive 57",
        "close 1000 Some(\"bye\")",
        "complete None",
    ]);
}

#[test]
fn close_timeout_counts_from_cancel_with() {
    let server = Server::one(|mut peer| {
        peer.open();
        assert_eq!(peer.read_close(), (Some(1000), b"done".to_vec()));
        // The task ends, and its connection with it, without an answer.
        peer.read_to_end();
    });
    let mut configuration = SessionConfiguration::default();
    configuration.web_socket.close_timeout = SHORT;
    let client = client(server.url(), configuration);
    client.task.receive(client.recorder.receiver("receive"));
    client.task.resume();
    assert_eq!(client.events.next(), "open None");
    let begun = Instant::now();
    client.task.cancel_with(CloseCode::NORMAL_CLOSURE, Some(b"done"));
    client.events.expect(&["open None", "receive -999", "close 1000 Some(\"done\")", "complete None"]);
    assert!(begun.elapsed() >= SHORT);
    server.join();
}
