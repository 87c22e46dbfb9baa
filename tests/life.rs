//! The life of a task where callers meddle with it: suspended at every stage of its way and while it is open, cancelled
//! before it began, made inside callbacks, ended by its session or too late for it.

mod support;

use std::io::ErrorKind;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use socket2::SockRef;
use support::guide::{Guide, Kept};
use support::hooks::eventually;
use support::origin::{Answer, Origin, redirect, unauthorized};
use support::proxy::{HttpProxy, Reply, proxied};
use support::tls::{BOTH, TRUSTED, TlsPeer, trusted_server};
use support::{Events, Frame, PATIENCE, Peer, Recorder, Server, frame, recorded_session_with, recorder};
use urlsession::{
    AuthChallengeDisposition, AuthenticationChallenge, ChallengeHandler, CloseCode, CredentialPersistence,
    HttpCookieStorage, HttpUrlResponse, Message, OperationQueue, RedirectionHandler, SessionConfiguration,
    SessionDelegate, SessionTask, TaskDelegate, TaskMetrics, TaskState, Url, UrlCredential, UrlError, UrlRequest,
    UrlSession, WebSocketDelegate, WebSocketTask,
};

/// A moment in which something must not happen.
const MOMENT: Duration = Duration::from_millis(50);

const SHORT: Duration = Duration::from_millis(200);

/// Long enough for anything that is to happen in time on a busy machine.
const LONG: Duration = Duration::from_secs(2);

/// A signal, and who waits for it.
fn signal() -> (Sender<()>, impl FnOnce() + Send) {
    let (sender, receiver) = mpsc::channel();
    (sender, move || wait(&receiver))
}

/// What a channel brings, in time.
#[track_caller]
fn wait<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(PATIENCE).expect("something in time")
}

/// Nothing comes from the client for a moment.
#[track_caller]
fn expect_stillness(stream: &TcpStream, moment: Duration) {
    stream.set_read_timeout(Some(moment)).unwrap();
    match stream.peek(&mut [0]) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
        other => panic!("not still: {other:?}"),
    }
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
}

// Suspended on the way.

/// Where a task is on its way when it is suspended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// The proxy has the CONNECT.
    Tunnelling,
    /// The server has the first bytes of TLS.
    Securing,
    /// The delegate is asked about the server's certificates.
    Trust,
    /// The server has the request.
    Upgrading,
    /// The client has half of the answer.
    HalfOfTheHead,
    /// The delegate is asked about a redirect.
    Redirect,
    /// The delegate is asked who the user is.
    Challenge,
}

const WAYS: [Way; 7] =
    [Way::Tunnelling, Way::Securing, Way::Trust, Way::Upgrading, Way::HalfOfTheHead, Way::Redirect, Way::Challenge];

/// A task at a stage of its way.
struct Stage {
    session: UrlSession,
    task: WebSocketTask,
    recorder: Recorder,
    events: Events,
    /// Gives the task what it waits for, and sees that it does nothing with it.
    go_on: GoOn,
}

type GoOn = Box<dyn FnOnce()>;
type Reach = Box<dyn FnOnce(&Events)>;

/// What a server's script waits for and tells.
struct Stops {
    reached: Sender<()>,
    go: Receiver<()>,
    seen: Sender<()>,
}

impl Stops {
    /// The client is at the stage. Whether the script is to go on.
    fn stop(&self) -> bool {
        self.reached.send(()).unwrap();
        self.go.recv().is_ok()
    }

    /// What the client gets moves it to nothing.
    fn expect_stillness(&self, stream: &TcpStream) {
        expect_stillness(stream, MOMENT);
        self.seen.send(()).unwrap();
    }
}

/// The script of a server for the ways that one connection shows. It goes on for as long as the client does.
fn serve(way: Way, mut peer: Peer, stops: &Stops) {
    if way == Way::Securing {
        let _ = peer.stream.peek(&mut [0]);
        let mut peer = TlsPeer::new(peer, &trusted_server(BOTH));
        if stops.stop() {
            peer.connection.read_tls(&mut peer.stream).unwrap();
            peer.connection.process_new_packets().unwrap();
            while peer.connection.wants_write() {
                peer.connection.write_tls(&mut peer.stream).unwrap();
            }
            stops.expect_stillness(&peer.stream);
            if peer.handshake().is_ok() {
                peer.open();
                peer.echo();
            }
        }
        return;
    }
    let request = peer.read_request();
    let answer = Peer::switching_protocols(&request, "");
    let half = if way == Way::HalfOfTheHead { answer.len() / 2 } else { 0 };
    if half > 0 {
        // The client tells when it has read this, and the half with it.
        peer.write(&[b"HTTP/1.1 103 Early Hints\r\n\r\n", &answer[..half]].concat());
    }
    if stops.stop() {
        peer.write(&answer[half..]);
        stops.expect_stillness(&peer.stream);
        peer.echo();
    }
}

impl Stage {
    /// Resumed, and there.
    fn at(way: Way, mut configuration: SessionConfiguration) -> Self {
        let (guide, events) = Guide::new();
        let recorder = Recorder::clone(&guide.recorder);
        configuration.root_certificates = TRUSTED.configuration().root_certificates;
        let challenges: Kept<ChallengeHandler> = Kept::default();
        let redirections: Kept<(UrlRequest, RedirectionHandler)> = Kept::default();
        let (kept, kept_redirections) = (challenges.clone(), redirections.clone());
        let (kept_trust, trust) = (challenges.clone(), way == Way::Trust);
        let mut guide = guide
            .challenge(move |_, handler| kept.push(handler))
            .redirect(move |_, _, request, handler| kept_redirections.push((request, handler)));
        if trust {
            guide = guide.trust(move |challenge, handler| {
                let trust = UrlCredential::for_trust(challenge.protection_space().server_trust().unwrap());
                kept_trust.push(Box::new(move |disposition, _| handler(disposition, Some(trust))));
            });
        }
        let answer_challenge = move || {
            let credential = UrlCredential::new("somebody", "secret", CredentialPersistence::None);
            challenges.wait()(AuthChallengeDisposition::UseCredential, Some(credential));
        };
        let (reached, is_reached) = mpsc::channel();
        let (go, going) = mpsc::channel();
        let (seen, is_seen) = mpsc::channel();
        let stops = Mutex::new(Some(Stops { reached, go: going, seen }));
        let opens = |_: &support::origin::Request| Answer::Open(String::new());
        let (url, reach, go_on): (Url, Reach, GoOn) = match way {
            Way::Securing | Way::Upgrading | Way::HalfOfTheHead => {
                let server = Server::one(move |peer| serve(way, peer, &stops.lock().unwrap().take().unwrap()));
                let mut url = server.url();
                if way == Way::Securing {
                    url.set_scheme("wss").unwrap();
                }
                let go_on = move || {
                    go.send(()).unwrap();
                    wait(&is_seen);
                    drop(server);
                };
                let reach = move |events: &Events| {
                    wait(&is_reached);
                    if way == Way::HalfOfTheHead {
                        events.wait_for("informational");
                    }
                };
                (url, Box::new(reach), Box::new(go_on))
            }
            Way::Tunnelling => {
                let origin = Origin::new(opens);
                let url = origin.url("/");
                let proxy = HttpProxy::script(vec![Reply::Staged(stops.into_inner().unwrap().unwrap().go)]);
                let proxy = Arc::new(proxy);
                configuration = proxied(configuration, vec![proxy.configuration()]);
                let reached = Arc::clone(&proxy);
                let reach = move |_: &Events| eventually("a CONNECT", || reached.lines().len() == 1);
                let go_on = move || {
                    go.send(()).unwrap();
                    eventually("a tunnel", || origin.connections() == 1);
                    thread::sleep(MOMENT);
                    assert_eq!(proxy.through(), b"");
                    // They end with the test.
                    std::mem::forget((origin, proxy));
                };
                (url, Box::new(reach), Box::new(go_on))
            }
            Way::Trust => {
                let origin = Origin::secure(trusted_server(BOTH), opens);
                let url = origin.url("/");
                let go_on = move || {
                    answer_challenge();
                    thread::sleep(MOMENT);
                    origin.visits()[0].assert_nothing_said();
                    assert_eq!(origin.connections(), 1);
                    std::mem::forget(origin);
                };
                (url, Box::new(|events: &Events| drop(events.wait_for("session challenge"))), Box::new(go_on))
            }
            Way::Redirect | Way::Challenge => {
                let answers: fn(&support::origin::Request) -> Answer = match way {
                    Way::Redirect => |request| match request.target() {
                        "/" => Answer::Keep(redirect(302, "/there")),
                        _ => Answer::Open(String::new()),
                    },
                    _ => |request| match request.field("Authorization") {
                        None => Answer::Keep(unauthorized(&["Basic realm=here"])),
                        Some(_) => Answer::Open(String::new()),
                    },
                };
                let origin = Origin::new(answers);
                let url = origin.url("/");
                let question = if way == Way::Redirect { "redirect" } else { "challenge" };
                let go_on = move || {
                    if way == Way::Redirect {
                        let (request, handler) = redirections.wait();
                        handler(Some(request));
                    } else {
                        answer_challenge();
                    }
                    thread::sleep(MOMENT);
                    assert_eq!((origin.seen().len(), origin.connections()), (1, 1));
                    std::mem::forget(origin);
                };
                (url, Box::new(move |events: &Events| drop(events.wait_for(question))), Box::new(go_on))
            }
        };
        let session = guide.session(configuration);
        let task = session.web_socket_task(url);
        task.send("queued", recorder.handler("send"));
        task.receive(recorder.receiver("receive"));
        task.resume();
        reach(&events);
        Self { session, task, recorder, events, go_on }
    }

    /// What was told, but for what is told on the way.
    fn told(&self) -> Vec<String> {
        let beginnings = ["redirect", "challenge", "session challenge", "informational"];
        let is_of_the_way = |event: &String| beginnings.iter().any(|beginning| event.starts_with(beginning));
        self.events.log().into_iter().filter(|event| !is_of_the_way(event)).collect()
    }
}

/// Each way on a thread of its own.
fn on_every_way(run: impl Fn(Way) + Sync) {
    thread::scope(|scope| {
        for way in WAYS {
            let run = &run;
            thread::Builder::new().name(format!("{way:?}")).spawn_scoped(scope, move || run(way)).unwrap();
        }
    });
}

fn of_request(timeout: Duration) -> SessionConfiguration {
    let mut configuration = SessionConfiguration::ephemeral();
    configuration.timeout_interval_for_request = timeout;
    configuration
}

/// Neither moves on nor is timed until as many resumes have come as there were suspends.
#[test]
fn a_task_that_is_suspended_on_its_way_stays_where_it_is() {
    on_every_way(|way| {
        let Stage { session, task, recorder, events, go_on } = Stage::at(way, of_request(LONG));
        task.suspend();
        task.suspend();
        events.expect_silence(LONG * 5 / 4);
        go_on();
        task.resume();
        events.expect_silence(MOMENT);
        assert_eq!((task.state(), task.error().is_none()), (TaskState::Suspended, true), "{way:?}");
        task.resume();
        assert_eq!(task.state(), TaskState::Running);
        let mut told = [events.next(), events.next(), events.next()];
        told[1..].sort();
        assert_eq!(told, ["open None", "receive string queued", "send ok"], "{way:?}");
        // A resume too many was not saved up.
        task.resume();
        task.suspend();
        task.send("again", recorder.handler("send"));
        events.expect_silence(MOMENT);
        assert_eq!(task.state(), TaskState::Suspended, "{way:?}");
        task.resume();
        events.wait_for("send ok");
        task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
        assert_eq!([events.next(), events.next()], ["close 1000 None", "complete None"], "{way:?}");
        drop(session);
    });
}

#[test]
fn a_task_that_is_suspended_on_its_way_is_cancelled() {
    for answered in [false, true] {
        on_every_way(|way| {
            let mut stage = Stage::at(way, of_request(PATIENCE));
            stage.task.suspend();
            let go_on = std::mem::replace(&mut stage.go_on, Box::new(|| ()));
            if answered {
                go_on();
            }
            stage.task.cancel();
            stage.task.resume();
            stage.events.wait_for("complete");
            let mut told = stage.told();
            told[..2].sort();
            assert_eq!(told, ["receive -999", "send -999", "complete -999"], "{way:?}");
            assert_eq!(stage.task.state(), TaskState::Completed);
            stage.task.resume();
            stage.events.expect_silence(MOMENT);
        });
    }
}

#[test]
fn a_task_that_is_suspended_on_its_way_ends_with_its_session() {
    on_every_way(|way| {
        let stage = Stage::at(way, of_request(PATIENCE));
        stage.task.suspend();
        // It is waited for, and not waked.
        stage.session.finish_tasks_and_invalidate();
        stage.events.expect_silence(MOMENT);
        assert_eq!(stage.task.state(), TaskState::Suspended);
        stage.session.invalidate_and_cancel();
        stage.events.wait_for("invalid");
        let mut told = stage.told();
        told[..2].sort();
        assert_eq!(told, ["receive -999", "send -999", "complete -999", "invalid None"], "{way:?}");
    });
}

/// What was sent is to go before the Close: the task finishes its way for that, suspended or not.
#[test]
fn a_task_that_is_suspended_on_its_way_is_closed() {
    on_every_way(|way| {
        let mut stage = Stage::at(way, of_request(PATIENCE));
        stage.task.suspend();
        std::mem::replace(&mut stage.go_on, Box::new(|| ()))();
        stage.task.cancel_with(CloseCode::GOING_AWAY, Some(b"bye"));
        assert_ne!(stage.task.state(), TaskState::Suspended);
        stage.events.wait_for("complete");
        let mut told = stage.told();
        told.retain(|event| event != "receive -999");
        assert_eq!(told, ["open None", "send ok", "close 1001 Some(\"bye\")", "complete None"], "{way:?}");
        assert_eq!(stage.events.log().iter().filter(|event| *event == "receive -999").count(), 1);
    });
}

/// The one clock that a suspend does not stop.
#[test]
fn a_task_that_is_suspended_on_its_way_has_no_longer_than_the_resource() {
    on_every_way(|way| {
        let mut configuration = of_request(PATIENCE);
        configuration.timeout_interval_for_resource = LONG;
        let stage = Stage::at(way, configuration);
        stage.task.suspend();
        stage.events.wait_for("complete");
        let mut told = stage.told();
        told[..2].sort();
        assert_eq!(told, ["receive -1001", "send -1001", "complete -1001"], "{way:?}");
        assert_eq!(stage.task.state(), TaskState::Completed);
    });
}

/// In a network of its own: that of the machine has too many sockets to look for one in time.
#[cfg(target_os = "linux")]
#[test]
fn a_task_that_is_suspended_while_it_connects_stays_where_it_is() {
    use std::time::Instant;
    use support::black_hole::BlackHole;
    use support::namespace::{Network, being_connected, inside};

    inside(Network::default(), || {
        let mut hole = BlackHole::at(([127, 0, 0, 1], 0));
        let (session, recorder, events) = recorded_session_with(of_request(LONG), None);
        let task = session.web_socket_task(Url::parse(&format!("ws://{}/", hole.address())).unwrap());
        task.receive(recorder.receiver("receive"));
        task.resume();
        eventually("the first SYN", || being_connected().contains(&hole.address()));
        task.suspend();
        events.expect_silence(LONG * 5 / 4);
        let mut peer = Peer::new(hole.accept(Instant::now() + PATIENCE).expect("a connection"));
        expect_stillness(&peer.stream, SHORT);
        assert_eq!(events.log(), [""; 0]);
        let server = thread::spawn(move || {
            peer.open();
            peer.text("here");
            peer.read_close();
        });
        task.resume();
        assert_eq!([events.next(), events.next()], ["open None", "receive string here"]);
        task.cancel();
        server.join().unwrap();
    });
}

/// Nothing comes of the addresses that were found while the task was suspended.
#[cfg(target_os = "linux")]
#[test]
fn a_task_that_is_suspended_while_it_resolves_stays_where_it_is() {
    use support::name_server::{NameServer, Reply};
    use support::namespace::{Network, inside};

    inside(Network::default(), || {
        let origin = Origin::new(|_| Answer::Open(String::new()));
        let (go, going) = mpsc::channel::<()>();
        let names = NameServer::start(move |_| {
            // Both families are asked for; the first question waits, and the others behind it.
            let _ = going.recv_timeout(PATIENCE);
            Reply::Addresses(vec![[127, 0, 0, 1].into()])
        });
        let (session, _recorder, events) = recorded_session_with(of_request(LONG), None);
        let task = session.web_socket_task(origin.url_of("slow.test", "/"));
        task.resume();
        names.wait_for("slow.test");
        task.suspend();
        events.expect_silence(LONG * 5 / 4);
        drop(go);
        events.expect_silence(SHORT);
        assert_eq!((task.state(), origin.connections()), (TaskState::Suspended, 0));
        task.resume();
        assert_eq!(events.next(), "open None");
        task.cancel();
        events.wait_for("complete -999");
    });
}

// Suspended while open.

fn open(server: &Server, configuration: SessionConfiguration) -> (UrlSession, WebSocketTask, Arc<Recorder>, Events) {
    let (session, recorder, events) = recorded_session_with(configuration, None);
    let task = session.web_socket_task(server.url());
    task.resume();
    assert_eq!(events.next(), "open None");
    (session, task, recorder, events)
}

/// The server cannot write any more, and when the client goes on not a byte is missing.
#[test]
fn a_suspended_task_holds_its_server_back() {
    const LENGTH: usize = 10_000;
    let (suspended, is_suspended) = signal();
    let (full, is_full) = mpsc::channel();
    let server = Server::one(move |mut peer| {
        use std::io::Write;

        peer.open();
        is_suspended();
        SockRef::from(&peer.stream).set_send_buffer_size(64 * 1024).unwrap();
        peer.stream.set_write_timeout(Some(SHORT)).unwrap();
        let message = |number: u32| {
            let mut payload = vec![7; LENGTH];
            payload[..4].copy_from_slice(&number.to_be_bytes());
            frame(0x82, &payload)
        };
        let (mut count, mut rest) = (0, Vec::new());
        while rest.is_empty() {
            rest = message(count);
            count += 1;
            assert!((count as usize) * LENGTH < 64 * 1024 * 1024, "the client reads");
            while !rest.is_empty() {
                match peer.stream.write(&rest) {
                    Ok(written) => drop(rest.drain(..written)),
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        full.send(count).unwrap();
        peer.stream.set_write_timeout(Some(PATIENCE)).unwrap();
        peer.write(&rest);
        peer.close(1000, "");
        peer.read_close();
    });
    let (_session, task, _recorder, events) = open(&server, SessionConfiguration::default());
    task.suspend();
    suspended.send(()).unwrap();
    let count: u32 = wait(&is_full);
    assert_eq!(task.count_of_bytes_received(), 0);
    task.resume();
    for number in 0..count {
        let (sender, receiver) = mpsc::channel();
        task.receive(move |result| sender.send(result).unwrap());
        let Message::Data(data) = wait(&receiver).unwrap() else { panic!("{number}") };
        assert_eq!((data.len(), &data[..4]), (LENGTH, &number.to_be_bytes()[..]));
        if number % 50 == 0 {
            task.suspend();
            task.resume();
        }
    }
    events.wait_for("complete None");
    server.join();
}

/// No pings of the keep-alive go out, none is piled up, and no pong is missed; the server's own get their pong afterwards.
#[test]
fn the_keep_alive_rests_with_its_task() {
    let (suspended, is_suspended) = signal();
    let (still, is_still) = signal();
    let (resuming, is_resuming) = signal();
    let interval = Duration::from_millis(100);
    let server = Server::one(move |mut peer| {
        peer.open();
        is_suspended();
        peer.write(&frame(0x89, b"there?"));
        // One that went out before is answered late.
        expect_all_but_pings(&mut peer, 1, Duration::ZERO);
        expect_all_but_pings(&mut peer, 0, 5 * interval);
        still.send(()).unwrap();
        is_resuming();
        // The pong that was not sent meanwhile, and a ping; of those that would have come meanwhile nothing.
        let mut first = [peer.read_frame(), peer.read_frame()];
        first.sort_by_key(Frame::opcode);
        assert_eq!([first[0].opcode(), first[1].opcode()], [9, 10]);
        assert_eq!(first[1].payload, b"there?");
        expect_stillness(&peer.stream, 2 * interval);
        peer.write(&frame(0x8a, &first[0].payload));
        // It goes on.
        for _ in 0..2 {
            let ping = peer.read_frame();
            assert_eq!(ping.opcode(), 9);
            peer.write(&frame(0x8a, &ping.payload));
        }
        peer.close(1000, "");
        peer.read_to_end();
    });
    /// No frame but so many pings.
    fn expect_all_but_pings(peer: &mut Peer, mut pings: usize, moment: Duration) {
        peer.stream.set_read_timeout(Some(moment.max(Duration::from_millis(1)))).unwrap();
        while peer.stream.peek(&mut [0]).is_ok() {
            let frame = peer.read_frame();
            assert!(frame.opcode() == 9 && pings > 0, "{frame:?}");
            pings -= 1;
            peer.write(&support::frame(0x8a, &frame.payload));
        }
        peer.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    let mut configuration = SessionConfiguration::default();
    configuration.web_socket.ping_interval = Some(interval);
    configuration.web_socket.pong_timeout = LONG;
    let (_session, task, _recorder, events) = open(&server, configuration);
    task.suspend();
    suspended.send(()).unwrap();
    is_still();
    assert_eq!(events.log(), ["open None"]);
    task.resume();
    resuming.send(()).unwrap();
    events.expect(&["open None", "close 1000 Some(\"\")", "complete None"]);
    server.join();
}

/// A name, what the server does, and the number of the error.
type Loss = (&'static str, fn(Peer), &'static str);

/// How a connection is lost while its task is suspended.
const LOSSES: [Loss; 4] = [
    ("end", |peer| peer.stream.shutdown(Shutdown::Write).unwrap(), "-1005"),
    (
        "end in a frame",
        |mut peer| {
            peer.write(&frame(0x82, &[1; 100])[..50]);
            peer.stream.shutdown(Shutdown::Write).unwrap();
        },
        "-1005",
    ),
    ("reset", Peer::reset, "54"),
    ("fault", |mut peer| peer.write(&frame(0x83, b"")), "100"),
];

fn lost(loss: fn(Peer)) -> (UrlSession, WebSocketTask, Arc<Recorder>, Events) {
    let (suspended, is_suspended) = signal();
    let server = Server::one(move |mut peer| {
        peer.open();
        is_suspended();
        peer.text("one");
        peer.text("two");
        loss(peer);
    });
    let opened = open(&server, SessionConfiguration::default());
    opened.1.suspend();
    suspended.send(()).unwrap();
    server.join();
    opened
}

#[test]
fn a_connection_lost_while_its_task_is_suspended_is_told_when_it_goes_on() {
    for (name, loss, code) in LOSSES {
        let (_session, task, recorder, events) = lost(loss);
        for _ in 0..3 {
            task.receive(recorder.receiver("receive"));
        }
        task.send_ping(recorder.handler("ping"));
        events.expect_silence(MOMENT);
        assert_eq!((task.state(), task.error().is_none()), (TaskState::Suspended, true), "{name}");
        task.resume();
        let end = events.wait_for("complete");
        let log = events.log();
        let receives: Vec<&String> = log.iter().filter(|event| event.starts_with("receive")).collect();
        if name == "reset" {
            // A reset may take with it what had come before.
            assert!(end == "complete 54" || end == "complete 32", "{log:#?}");
            assert_eq!(receives.len(), 3, "{log:#?}");
        } else {
            assert_eq!(end, format!("complete {code}"), "{log:#?}");
            let failed = format!("receive {code}");
            assert_eq!(receives, ["receive string one", "receive string two", &failed], "{name}");
        }
        assert_eq!(log.iter().filter(|event| event.starts_with("ping")).count(), 1, "{log:#?}");
        assert!(!log.iter().any(|event| event.starts_with("close")), "{log:#?}");
    }
}

#[test]
fn a_connection_lost_while_its_task_is_suspended_changes_no_cancel() {
    for (name, loss, _) in LOSSES {
        for invalidate in [false, true] {
            let (session, task, recorder, events) = lost(loss);
            task.receive(recorder.receiver("receive"));
            task.send("late", recorder.handler("send"));
            events.expect_silence(MOMENT);
            if invalidate {
                session.invalidate_and_cancel();
            } else {
                task.cancel();
            }
            events.wait_for("complete");
            let mut log = events.log();
            log[1..3].sort();
            assert_eq!(log[..5], ["open None", "receive -999", "send -999", "metrics", "complete -999"], "{name}");
        }
    }
}

/// The server's Close lies unread when the caller closes: the caller's is what counts, and no message is told behind it.
#[test]
fn a_close_that_a_suspended_task_has_not_read_changes_no_close_of_the_callers() {
    let (suspended, is_suspended) = signal();
    let server = Server::one(move |mut peer| {
        peer.open();
        is_suspended();
        peer.text("unread");
        peer.close(4001, "server");
        let mut frames = Vec::new();
        while let Ok(frame) = peer.try_read_frame() {
            frames.push((frame.opcode(), frame.payload));
        }
        assert_eq!(frames, [(2, b"queued".to_vec()), (8, [&1001_u16.to_be_bytes()[..], b"caller"].concat())]);
    });
    let (_session, task, recorder, events) = open(&server, SessionConfiguration::default());
    task.suspend();
    suspended.send(()).unwrap();
    task.receive(recorder.receiver("receive"));
    task.send(b"queued", recorder.handler("send"));
    events.expect_silence(MOMENT);
    task.cancel_with(CloseCode::GOING_AWAY, Some(b"caller"));
    events.wait_for("complete None");
    let mut log = events.log();
    log[1..3].sort();
    assert_eq!(log[1..], ["receive -999", "send ok", "close 1001 Some(\"caller\")", "metrics", "complete None"]);
    assert_eq!(task.server_close_code(), Some(CloseCode::new(4001)));
    server.join();
}

// Cancelled before it began.

/// Whichever way it is cancelled, it reads `Suspended` until it reads `Completed`, and never goes anywhere.
#[test]
fn a_task_cancelled_before_it_was_resumed_only_ends() {
    type Cancel = fn(&WebSocketTask);
    let cancels: [(Cancel, &[&str]); 4] = [
        (|task| task.cancel(), &["complete -999"]),
        (|task| task.cancel_with(CloseCode::INVALID, Some(b"x")), &["complete -999"]),
        (|task| task.cancel_with(CloseCode::GOING_AWAY, Some(b"x")), &["close 1001 Some(\"x\")", "complete None"]),
        (
            |task| {
                task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
                task.cancel();
            },
            &["close 1000 None", "complete None"],
        ),
    ];
    let origin = Origin::new(|_| Answer::Open(String::new()));
    for (cancel, end) in cancels {
        for suspends in [0, 3] {
            let (session, recorder, events) = recorded_session_with(SessionConfiguration::ephemeral(), None);
            let task = session.web_socket_task(origin.url("/"));
            (0..suspends).for_each(|_| task.suspend());
            task.send("x", recorder.handler("send"));
            task.receive(recorder.receiver("receive"));
            task.send_ping(recorder.handler("ping"));
            let over = AtomicBool::new(false);
            thread::scope(|scope| {
                let looking = scope.spawn(|| {
                    let mut states = vec![task.state()];
                    while !over.load(Ordering::SeqCst) {
                        let state = task.state();
                        if states.last() != Some(&state) {
                            states.push(state);
                        }
                    }
                    states.push(task.state());
                    states.dedup();
                    states
                });
                cancel(&task);
                (0..5).for_each(|_| task.resume());
                events.wait_for("complete");
                over.store(true, Ordering::SeqCst);
                let states = looking.join().unwrap();
                assert!(
                    states == [TaskState::Suspended, TaskState::Completed] || states == [TaskState::Completed],
                    "{states:?}"
                );
            });
            let mut told: Vec<String> = events.log().into_iter().filter(|event| event != "metrics").collect();
            told[..3].sort();
            let failed = ["ping -999", "receive -999", "send -999"];
            assert_eq!(told[..3], failed);
            assert_eq!(told[3..], *end);
            task.resume();
            task.suspend();
            task.resume();
            task.send("late", recorder.handler("late"));
            assert_eq!(events.next(), "late -999");
            events.expect_silence(Duration::from_millis(5));
        }
    }
    assert_eq!(origin.connections(), 0);
}

// In every place where user code runs.

/// Where user code runs.
const PLACES: [&str; 15] = [
    "create",
    "informational",
    "redirect",
    "challenge",
    "open",
    "sent",
    "received",
    "ponged",
    "close",
    "metrics",
    "complete",
    "tasks",
    "reset",
    "flush",
    "operation",
];

/// A delegate that says where it is called. It follows redirects, and is somebody.
struct Everywhere<F>(F);

impl<F: Fn(&UrlSession, Option<&SessionTask>, &'static str) + Send + Sync + 'static> SessionDelegate for Everywhere<F> {
    fn did_become_invalid_with_error(&self, session: &UrlSession, _: Option<&UrlError>) {
        (self.0)(session, None, "invalid");
    }
}

impl<F: Fn(&UrlSession, Option<&SessionTask>, &'static str) + Send + Sync + 'static> TaskDelegate for Everywhere<F> {
    fn did_create_task(&self, session: &UrlSession, task: &SessionTask) {
        (self.0)(session, Some(task), "create");
    }

    fn will_perform_http_redirection(
        &self,
        session: &UrlSession,
        task: &SessionTask,
        _: &HttpUrlResponse,
        new_request: UrlRequest,
        completion_handler: RedirectionHandler,
    ) {
        (self.0)(session, Some(task), "redirect");
        completion_handler(Some(new_request));
    }

    fn task_did_receive_challenge(
        &self,
        session: &UrlSession,
        task: &SessionTask,
        _: &AuthenticationChallenge,
        completion_handler: ChallengeHandler,
    ) {
        (self.0)(session, Some(task), "challenge");
        let credential = UrlCredential::new("somebody", "secret", CredentialPersistence::None);
        completion_handler(AuthChallengeDisposition::UseCredential, Some(credential));
    }

    fn did_receive_informational_response(&self, session: &UrlSession, task: &SessionTask, _: &HttpUrlResponse) {
        (self.0)(session, Some(task), "informational");
    }

    fn did_finish_collecting_metrics(&self, session: &UrlSession, task: &SessionTask, _: &TaskMetrics) {
        (self.0)(session, Some(task), "metrics");
    }

    fn did_complete_with_error(&self, session: &UrlSession, task: &SessionTask, _: Option<&UrlError>) {
        (self.0)(session, Some(task), "complete");
    }
}

impl<F: Fn(&UrlSession, Option<&SessionTask>, &'static str) + Send + Sync + 'static> WebSocketDelegate
    for Everywhere<F>
{
    fn did_open_with_protocol(&self, session: &UrlSession, task: &WebSocketTask, _: Option<&str>) {
        (self.0)(session, Some(task), "open");
    }

    fn did_close_with(&self, session: &UrlSession, task: &WebSocketTask, _: CloseCode, _: Option<&[u8]>) {
        (self.0)(session, Some(task), "close");
    }
}

/// `/` is a way with a redirect, a challenge and an informational response; every other path opens at once.
fn every_way() -> Origin {
    Origin::new(|request| match (request.target(), request.field("Authorization")) {
        ("/", _) => Answer::Keep(redirect(302, "/there")),
        ("/there", None) => {
            let hints = "HTTP/1.1 103 Early Hints\r\n\r\n";
            Answer::Keep(hints.to_owned() + &unauthorized(&["Basic realm=here"]))
        }
        _ => Answer::Open(String::new()),
    })
}

/// Every kind of delegate queue.
fn queues() -> [(&'static str, Option<OperationQueue>); 3] {
    let concurrent = OperationQueue::new();
    concurrent.set_max_concurrent_operation_count(4);
    [("serial", None), ("concurrent", Some(concurrent)), ("immediate", Some(OperationQueue::immediate()))]
}

type Act = dyn Fn(&Arc<Scenario>, &UrlSession) + Send + Sync;

/// What is done in one place, and what was seen of it.
struct Scenario {
    place: &'static str,
    act: Box<Act>,
    acted: AtomicBool,
    log: Mutex<Sender<String>>,
    /// Whom it is done for: the handlers of the task with all the places know their session from here.
    session: Mutex<Option<UrlSession>>,
    others: Mutex<Vec<WebSocketTask>>,
    /// The number of the task with all the places.
    number: usize,
    asked: AtomicUsize,
    answered: AtomicUsize,
    first: AtomicUsize,
}

impl Scenario {
    fn note(&self, event: impl Into<String>) {
        self.log.lock().unwrap().send(event.into()).unwrap();
    }

    /// A handler that has to be called.
    fn handler<T>(self: &Arc<Self>) -> impl FnOnce(T) + Send + 'static {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let scenario = Arc::clone(self);
        move |_| {
            scenario.answered.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn at(self: &Arc<Self>, place: &'static str) {
        let session = self.session.lock().unwrap().clone();
        if let Some(session) = session {
            self.reach(place, &session);
        }
    }

    fn reach(self: &Arc<Self>, place: &'static str, session: &UrlSession) {
        if place == self.place && !self.acted.swap(true, Ordering::SeqCst) {
            (self.act)(self, session);
        }
    }

    /// One of three handlers; the last of them closes.
    fn first<T>(self: &Arc<Self>, place: &'static str, task: &WebSocketTask) -> impl FnOnce(T) + Send + 'static {
        let (scenario, answered, task) = (Arc::clone(self), self.handler(), task.clone());
        move |result| {
            scenario.at(place);
            answered(result);
            if scenario.first.fetch_add(1, Ordering::SeqCst) == 2 {
                task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
            }
        }
    }

    /// Runs a task through all the places. `others`: the paths of tasks that were made before, the first of them open.
    fn run(
        place: &'static str,
        queue: Option<OperationQueue>,
        origin: &Origin,
        others: &[&str],
        act: impl Fn(&Arc<Self>, &UrlSession) + Send + Sync + 'static,
    ) -> (Arc<Self>, Receiver<String>, Arc<dyn WebSocketDelegate>) {
        let (log, receiver) = mpsc::channel();
        let scenario = Arc::new(Self {
            place,
            act: Box::new(act),
            acted: AtomicBool::new(false),
            log: Mutex::new(log),
            session: Mutex::default(),
            others: Mutex::default(),
            number: others.len() + 1,
            asked: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            first: AtomicUsize::new(0),
        });
        let hook = Arc::clone(&scenario);
        let delegate: Arc<dyn WebSocketDelegate> =
            Arc::new(Everywhere(move |session: &UrlSession, task: Option<&SessionTask>, called: &'static str| {
                let number = task.map_or(0, SessionTask::task_identifier);
                hook.note(format!("{called} {number}"));
                if number == hook.number || number == 0 {
                    hook.reach(called, session);
                }
            }));
        let configuration = SessionConfiguration::ephemeral();
        let session = UrlSession::with_delegate(configuration, Some(delegate.clone()), queue);
        *scenario.session.lock().unwrap() = Some(session.clone());
        for (index, path) in others.iter().enumerate() {
            let other = session.web_socket_task(origin.url(path));
            scenario.others.lock().unwrap().push(other.clone());
            other.receive(scenario.handler());
            if index == 0 {
                other.resume();
                while wait(&receiver) != "open 1" {}
            }
        }
        let task = session.web_socket_task(origin.url("/"));
        scenario.others.lock().unwrap().push(task.clone());
        let flush = (Arc::clone(&scenario), scenario.handler());
        let reset = (Arc::clone(&scenario), scenario.handler());
        let tasks = (Arc::clone(&scenario), scenario.handler());
        let operation = (Arc::clone(&scenario), scenario.handler());
        task.send("x", scenario.first("sent", &task));
        task.receive(scenario.first("received", &task));
        task.send_ping(scenario.first("ponged", &task));
        task.resume();
        let queue = session.delegate_queue();
        session.get_all_tasks(move |_| {
            tasks.0.at("tasks");
            tasks.1(());
        });
        session.reset(move || {
            reset.0.at("reset");
            reset.1(());
        });
        session.flush(move || {
            flush.0.at("flush");
            flush.1(());
        });
        queue.add_operation(move || {
            operation.0.at("operation");
            operation.1(());
        });
        (scenario, receiver, delegate)
    }

    /// All handlers were called, and the delegate is let go.
    #[track_caller]
    fn expect_nothing_is_kept(self: Arc<Self>, delegate: Arc<dyn WebSocketDelegate>, name: &str) {
        drop(self.session.lock().unwrap().take());
        self.others.lock().unwrap().clear();
        eventually(&format!("all handlers: {name}"), || {
            self.asked.load(Ordering::SeqCst) == self.answered.load(Ordering::SeqCst)
        });
        eventually(&format!("the delegate is let go: {name}"), || Arc::strong_count(&delegate) == 1);
    }
}

/// A task that is made and resumed in there lives as any other.
#[test]
fn a_task_may_be_made_and_resumed_in_every_place() {
    let origin = Arc::new(every_way());
    for place in PLACES {
        for (kind, queue) in queues() {
            let name = format!("{place}, {kind}");
            let url = origin.url("/new");
            let act = move |scenario: &Arc<Scenario>, session: &UrlSession| {
                let task = session.web_socket_task(&url);
                assert_eq!((task.state(), task.task_identifier()), (TaskState::Suspended, 2));
                task.send("new", scenario.handler());
                let (answered, ended, log) = (scenario.handler(), task.clone(), Arc::clone(scenario));
                task.receive(move |result: Result<Message, UrlError>| {
                    log.note(format!("received {:?}", result.map_err(|error| error.raw_code())));
                    ended.cancel_with(CloseCode::GOING_AWAY, None);
                    answered(());
                });
                task.resume();
                // It may be closed already, on another thread.
                assert_ne!(task.state(), TaskState::Suspended);
            };
            let (scenario, receiver, delegate) = Scenario::run(place, queue, &origin, &[], act);
            let mut told: Vec<String> = Vec::new();
            while told.iter().filter(|event| event.starts_with("complete")).count() < 2 {
                told.push(receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{name}: {told:?}")));
            }
            let session = scenario.session.lock().unwrap().clone().unwrap();
            session.finish_tasks_and_invalidate();
            drop(session);
            told.push(wait(&receiver));
            assert_eq!(told.last().unwrap(), "invalid 0", "{name}: {told:?}");
            let of_new: Vec<&str> = told
                .iter()
                .filter_map(|event| event.strip_suffix(" 2").or_else(|| event.starts_with("received").then_some(event)))
                .collect();
            let received = "received Ok(String(\"new\"))";
            assert_eq!(of_new, ["create", "open", received, "close", "metrics", "complete"], "{name}");
            assert_eq!(told.iter().filter(|event| *event == "complete 1").count(), 1, "{name}: {told:?}");
            scenario.expect_nothing_is_kept(delegate, &name);
        }
    }
}

/// How a session and its tasks are ended, one after the other.
const ENDS: [&[&str]; 8] = [
    &["finish", "cancel"],
    &["cancel", "finish"],
    &["finish", "close"],
    &["close", "finish"],
    &["finish", "invalidate"],
    &["invalidate", "finish"],
    &["invalidate", "cancel", "close"],
    &["finish", "finish", "close", "invalidate", "invalidate"],
];

/// In every place and in every order: each task tells its end, once, and then the session its own, once.
#[test]
fn a_session_and_its_tasks_may_be_ended_in_any_order_in_every_place() {
    let origin = every_way();
    for place in PLACES.into_iter().chain(["invalid"]) {
        for end in ENDS {
            for (kind, queue) in queues() {
                let name = format!("{end:?} in {place}, {kind}");
                let url = origin.url("/late");
                let act = move |scenario: &Arc<Scenario>, session: &UrlSession| {
                    let tasks = scenario.others.lock().unwrap().clone();
                    for step in end {
                        match *step {
                            "finish" => session.finish_tasks_and_invalidate(),
                            "invalidate" => session.invalidate_and_cancel(),
                            // The task that is being made is not among them.
                            "cancel" => tasks.iter().for_each(|task| task.cancel()),
                            _ => tasks.iter().for_each(|task| task.cancel_with(CloseCode::GOING_AWAY, None)),
                        }
                    }
                    let late = session.web_socket_task(&url);
                    let (handler, log) = (scenario.handler(), Arc::clone(scenario));
                    late.receive(move |result: Result<Message, UrlError>| {
                        log.note(format!("late {}", result.unwrap_err().raw_code()));
                        handler(());
                    });
                    late.resume();
                };
                let (scenario, receiver, delegate) = Scenario::run(place, queue, &origin, &["/open", "/never"], act);
                let mut told = Vec::new();
                while told.last().is_none_or(|last| last != "invalid 0") {
                    told.push(receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{name}: {told:?}")));
                    if place == "invalid" && told.last().unwrap() == "complete 3" {
                        let tasks = scenario.others.lock().unwrap().clone();
                        tasks.iter().for_each(|task| task.cancel());
                        let session = scenario.session.lock().unwrap().clone();
                        session.unwrap().finish_tasks_and_invalidate();
                    }
                }
                let count = |event: &str, told: &[String]| told.iter().filter(|other| *other == event).count();
                for number in 1..=3 {
                    for event in ["complete", "metrics"] {
                        assert_eq!(count(&format!("{event} {number}"), &told), 1, "{name}, {number}: {told:?}");
                    }
                }
                let first_task: Vec<&String> = told.iter().filter(|event| event.ends_with(" 1")).collect();
                assert_eq!(*first_task.last().unwrap(), "complete 1", "{name}: {told:?}");
                // Where the session was over before it was made, the delegate hears nothing of it.
                let of_late = count("complete 4", &told);
                assert_eq!(count("create 4", &told), of_late, "{name}: {told:?}");
                if kind == "serial" && place != "create" {
                    assert_eq!(of_late, usize::from(place != "invalid"), "{name}: {told:?}");
                }
                if count("late -999", &told) == 0 {
                    assert_eq!((wait(&receiver).as_str(), of_late), ("late -999", 0), "{name}");
                }
                scenario.expect_nothing_is_kept(delegate, &name);
                assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [""; 0], "{name}");
            }
        }
    }
    assert!(!origin.targets().iter().any(|target| target == "/late" || target == "/never"));
}

// Too late.

/// What may be done with a task that is made too late: what its own delegate hears, and what its handlers fail with.
type Lateness = (&'static str, fn(WebSocketTask), &'static [&'static str]);

const LATE: [Lateness; 8] = [
    ("drop", drop, &[]),
    ("resume", |task| (0..3).for_each(|_| task.resume()), &["complete -999"]),
    (
        "suspend and resume",
        |task| {
            task.suspend();
            task.resume();
            assert_eq!(task.state(), TaskState::Suspended);
            task.resume();
        },
        &["complete -999"],
    ),
    ("cancel", |task| task.cancel(), &["complete -999"]),
    (
        "resume and cancel",
        |task| {
            task.resume();
            task.cancel_with(CloseCode::GOING_AWAY, Some(b"late"));
        },
        &["complete -999"],
    ),
    (
        "close",
        |task| {
            task.cancel_with(CloseCode::GOING_AWAY, Some(b"late"));
            task.resume();
        },
        &["close 1001 Some(\"late\")", "complete None"],
    ),
    ("no address", |task| task.resume(), &["complete -999"]),
    (
        "set and look",
        |task| {
            task.set_maximum_message_size(7);
            task.set_priority(1.0);
            task.set_task_description(Some("late"));
            assert_eq!((task.buffered_amount(), task.close_code()), (4, CloseCode::INVALID));
            assert!(task.response().is_none() && task.error().is_none());
            task.resume();
        },
        &["complete -999"],
    ),
];

/// All of it inside the session's last word, and long after it.
#[test]
fn a_task_that_is_made_after_the_end_of_its_session_tells_its_own_delegate_only() {
    let origin = Arc::new(Origin::new(|_| Answer::Open(String::new())));
    for (name, act, expected) in LATE {
        for (kind, queue) in queues() {
            for inside in [true, false] {
                let name = format!("{name}, {kind}, inside: {inside}");
                let (own, own_events) = recorder();
                let (common, events) = mpsc::channel();
                let common = Mutex::new(common);
                let url =
                    if name.starts_with("no address") { "ftp://nowhere/".to_owned() } else { origin.url("/").into() };
                let make = {
                    let own = own.clone();
                    move |session: &UrlSession| {
                        let task = session.web_socket_task(Url::parse(&url).unwrap());
                        task.set_delegate(Some(own.clone()));
                        task.send("late", own.handler("send"));
                        task.receive(own.receiver("receive"));
                        task.send_ping(own.handler("ping"));
                        act(task);
                        // And the session's own calls, all of them.
                        session.finish_tasks_and_invalidate();
                        session.invalidate_and_cancel();
                        let (reset, flush, tasks) = (own.clone(), own.clone(), own.clone());
                        session.reset(move || reset.note("reset"));
                        session.flush(move || flush.note("flush"));
                        session.get_all_tasks(move |all| tasks.note(format!("{} tasks", all.len())));
                    }
                };
                let making = make.clone();
                let delegate =
                    Arc::new(Everywhere(move |session: &UrlSession, _: Option<&SessionTask>, called: &'static str| {
                        if inside {
                            making(session);
                        }
                        common.lock().unwrap().send(called).unwrap();
                    }));
                let configuration = SessionConfiguration::ephemeral();
                let session = UrlSession::with_delegate(configuration, Some(delegate.clone()), queue.clone());
                session.finish_tasks_and_invalidate();
                assert_eq!(wait(&events), "invalid");
                if !inside {
                    eventually("the delegate is let go", || session.delegate().is_none());
                    make(&session);
                }
                let count = 6 + expected.len() + usize::from(!expected.is_empty());
                let mut told: Vec<String> = (0..count).map(|_| own_events.next()).collect();
                told.retain(|event| event != "metrics");
                let end: Vec<String> = told
                    .iter()
                    .filter(|event| event.starts_with("close") || event.starts_with("complete"))
                    .cloned()
                    .collect();
                assert_eq!(end, expected, "{name}: {told:?}");
                told.retain(|event| !event.starts_with("close") && !event.starts_with("complete"));
                let session_told: Vec<String> = told.iter().filter(|event| !event.ends_with("-999")).cloned().collect();
                assert_eq!(session_told, ["reset", "flush", "0 tasks"], "{name}");
                told.retain(|event| event.ends_with("-999"));
                told.sort();
                assert_eq!(told, ["ping -999", "receive -999", "send -999"], "{name}");
                drop((session, make));
                eventually("the delegates are let go", || Arc::strong_count(&delegate) == 1);
                drop(delegate);
                eventually("the own delegate is let go", || Arc::strong_count(&own) == 1);
                assert_eq!(own_events.log().len(), count, "{name}");
                assert!(events.try_recv().is_err(), "{name}");
            }
        }
    }
    assert_eq!(origin.connections(), 0);
}

// The session's own.

/// It is one, everybody's, and has no end; a task may have a delegate there all the same.
#[test]
fn the_shared_session_is_one_and_stays() {
    let origin = Origin::new(|_| Answer::Open(String::new()));
    let session = UrlSession::shared();
    assert!(std::ptr::eq(session, UrlSession::shared()));
    let queue = session.delegate_queue();
    assert_eq!((queue.max_concurrent_operation_count(), session.delegate().is_none()), (1, true));
    let configuration = session.configuration();
    assert_eq!(configuration.http_cookie_storage, Some(HttpCookieStorage::shared()));
    let (log, told) = mpsc::channel();
    let log = Mutex::new(log);
    let place = Arc::new(Mutex::new(""));
    let here = Arc::clone(&place);
    let own = Arc::new(Everywhere(move |session: &UrlSession, task: Option<&SessionTask>, called: &'static str| {
        assert_eq!(session, UrlSession::shared());
        log.lock().unwrap().send(called).unwrap();
        if called == *here.lock().unwrap() {
            session.finish_tasks_and_invalidate();
            session.invalidate_and_cancel();
            drop(session.clone());
        }
        if let ("open", Some(task)) = (called, task) {
            task.as_web_socket_task().unwrap().cancel_with(CloseCode::NORMAL_CLOSURE, None);
        }
    }));
    for invalidated in ["open", "close", "metrics", "complete", "nowhere"] {
        *place.lock().unwrap() = invalidated;
        let task = session.web_socket_task(origin.url("/"));
        task.set_delegate(Some(own.clone()));
        task.resume();
        for expected in ["open", "close", "metrics", "complete"] {
            assert_eq!(wait(&told), expected, "{invalidated}");
        }
        eventually("the delegate is let go", || task.delegate().is_none());
    }
    // What it is asked for it does, whoever asked it to end.
    let kept = session.web_socket_task(origin.url("/"));
    let (sender, receiver) = mpsc::channel();
    let (reset, flush) = (sender.clone(), sender.clone());
    session.invalidate_and_cancel();
    session.get_all_tasks(move |tasks| sender.send(tasks).unwrap());
    session.reset(move || reset.send(Vec::new()).unwrap());
    session.flush(move || flush.send(Vec::new()).unwrap());
    let tasks = wait(&receiver);
    assert!(tasks.len() == 1 && tasks[0] == kept, "{tasks:?}");
    assert!(wait(&receiver).is_empty() && wait(&receiver).is_empty());
    assert_eq!(kept.state(), TaskState::Suspended);
    drop(kept);
    drop(tasks);
    session.get_all_tasks(move |tasks| assert!(tasks.is_empty()));
    eventually("the delegate is let go", || Arc::strong_count(&own) == 1);
}

/// Whatever its state, but for the completed one: a task that has ended is none of them, though its end is not told yet.
#[test]
fn all_tasks_are_those_whose_state_is_another_than_completed() {
    for (kind, queue) in queues() {
        // The third Close is answered, with the end of the connection, when the test is over.
        let (over, is_over) = mpsc::channel::<()>();
        let is_over = Mutex::new(is_over);
        let server = Server::many(4, move |number, mut peer| {
            peer.open();
            match number {
                2 => drop(is_over.lock().unwrap().recv_timeout(PATIENCE)),
                _ => drop(peer.read_to_end()),
            }
        });
        let (session, _recorder, events) = recorded_session_with(SessionConfiguration::default(), queue);
        let tasks: Vec<WebSocketTask> = (0..6).map(|_| session.web_socket_task(server.url())).collect();
        for task in &tasks[..4] {
            task.resume();
            events.wait_for("open");
        }
        tasks[1].suspend();
        tasks[2].cancel_with(CloseCode::NORMAL_CLOSURE, None);
        let queue = session.delegate_queue();
        let (sender, receiver) = mpsc::channel();
        let ask = || {
            let sender = sender.clone();
            session.get_all_tasks(move |all| {
                sender.send(all.iter().map(SessionTask::task_identifier).collect::<Vec<_>>()).unwrap();
            });
        };
        ask();
        assert_eq!(wait(&receiver), [1, 2, 3, 4, 5, 6], "{kind}");
        let states: Vec<TaskState> = tasks.iter().map(|task| task.state()).collect();
        let (running, suspended, canceling) = (TaskState::Running, TaskState::Suspended, TaskState::Canceling);
        assert_eq!(states, [running, suspended, canceling, running, suspended, suspended]);
        // Asked before and after two of them are cancelled: their ends and the answers are told in some order. The handler
        // sees what the states are when it is called.
        queue.set_suspended(true);
        let (compared, comparison) = mpsc::channel();
        let compare = || {
            let (tasks, compared) = (tasks.clone(), compared.clone());
            session.get_all_tasks(move |all| {
                let is_listed = |task: &WebSocketTask| all.iter().any(|listed| listed == task);
                let unlisted = tasks.iter().filter(|task| !is_listed(task));
                let gone: Vec<_> = unlisted.map(|task| (task.task_identifier(), task.state())).collect();
                let ended = all.iter().filter(|task| task.state() == TaskState::Completed).count();
                compared.send((gone, ended)).unwrap();
            });
        };
        compare();
        tasks[3].cancel();
        tasks[4].cancel();
        (0..10).for_each(|_| compare());
        queue.set_suspended(false);
        for _ in 0..11 {
            let (gone, ended) = wait(&comparison);
            assert!(gone.iter().all(|(_, state)| *state == TaskState::Completed), "{kind}: {gone:?}");
            // On a concurrent queue one may end behind the handler's back.
            assert!(ended == 0 || kind == "concurrent", "{kind}: {ended}");
        }
        for _ in 0..2 {
            events.wait_for("complete -999");
        }
        ask();
        assert_eq!(wait(&receiver), [1, 2, 3, 6], "{kind}");
        session.invalidate_and_cancel();
        drop(over);
        events.wait_for("invalid");
        ask();
        assert_eq!(wait(&receiver), [0; 0], "{kind}");
        server.join();
    }
}

/// In its last callback a task has ended, for whoever asks at that time, too.
#[test]
fn a_task_is_none_of_all_tasks_in_its_last_callback() {
    let origin = Origin::new(|_| Answer::Open(String::new()));
    let queue = OperationQueue::new();
    queue.set_max_concurrent_operation_count(4);
    let (log, told) = mpsc::channel();
    let log = Mutex::new(log);
    let delegate =
        Arc::new(Everywhere(move |session: &UrlSession, task: Option<&SessionTask>, called: &'static str| {
            if let ("complete", Some(task)) = (called, task) {
                let (sender, receiver) = mpsc::channel();
                assert_eq!(task.state(), TaskState::Completed);
                // The other workers have the time.
                session.get_all_tasks(move |tasks| sender.send(tasks).unwrap());
                log.lock().unwrap().send(wait(&receiver).len()).unwrap();
            }
        }));
    let session = UrlSession::with_delegate(SessionConfiguration::ephemeral(), Some(delegate), Some(queue));
    let other = session.web_socket_task(origin.url("/"));
    for resumed in [false, true] {
        let task = session.web_socket_task(origin.url("/"));
        if resumed {
            task.resume();
        }
        task.cancel();
        assert_eq!(wait(&told), 1, "{resumed}");
    }
    drop(other);
}

/// Handlers of `reset` and `flush` come in the order of the calls, on the delegate queue; a socket that is open, and the
/// messages on it, know nothing of them.
#[test]
fn resets_and_flushes_in_the_middle_of_messages_disturb_nothing() {
    const COUNT: usize = 50;
    for (kind, queue) in queues() {
        let origin = Origin::new(|_| Answer::Open(String::new()));
        let storage = HttpCookieStorage::new();
        let mut configuration = SessionConfiguration::ephemeral();
        configuration.http_cookie_storage = Some(storage.clone());
        let (session, recorder, events) = recorded_session_with(configuration, queue);
        let task = session.web_socket_task(origin.url("/"));
        task.resume();
        assert_eq!(events.next(), "open None");
        let queue = session.delegate_queue();
        queue.set_suspended(true);
        let mut expected = Vec::new();
        for number in 0..COUNT {
            task.send(number.to_string(), |_| ());
            task.receive(recorder.receiver("receive"));
            let (noted, name) = (Recorder::clone(&recorder), format!("handler {number}"));
            expected.push(name.clone());
            let handler = move || noted.note(name);
            match number % 2 {
                0 => session.flush(handler),
                _ => session.reset(handler),
            }
        }
        assert_eq!(events.log(), ["open None"], "{kind}");
        queue.set_suspended(false);
        let told: Vec<String> = (0..2 * COUNT).map(|_| events.next()).collect();
        let of =
            |beginning: &str| told.iter().filter(|event| event.starts_with(beginning)).cloned().collect::<Vec<_>>();
        assert_eq!(of("handler"), expected, "{kind}");
        let messages: Vec<String> = (0..COUNT).map(|number| format!("receive string {number}")).collect();
        assert_eq!(of("receive"), messages, "{kind}");
        // A reset empties the storages, and a flush does not.
        let cookie = || urlsession::HttpCookie::new("a", "1", "127.0.0.1", "/");
        storage.set_cookie(cookie());
        let (sender, receiver) = mpsc::channel();
        let reset = sender.clone();
        session.flush(move || sender.send(()).unwrap());
        wait(&receiver);
        assert_eq!(storage.cookies().len(), 1);
        session.reset(move || reset.send(()).unwrap());
        wait(&receiver);
        assert!(storage.cookies().is_empty());
        assert_eq!(task.state(), TaskState::Running);
        task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
        events.wait_for("complete None");
    }
}
