//! Pings and pongs of both sides (RFC 6455 §5.5.2 and §5.5.3), and the keep-alive.

mod support;

use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

use socket2::SockRef;
use support::{Events, PATIENCE, Peer, Recorder, Server, frame, recorded_session_with};
use urlsession::{ErrorCode, Message, SessionConfiguration, UrlSession, WebSocketTask};

/// A moment in which something must not happen.
const MOMENT: Duration = Duration::from_millis(50);

/// A signal, and who waits for it.
fn signal() -> (Sender<()>, impl FnOnce() + Send) {
    let (sender, receiver) = mpsc::channel();
    (sender, move || receiver.recv_timeout(PATIENCE).unwrap())
}

/// A task, open, and what it needs to live.
struct Client {
    _session: UrlSession,
    task: WebSocketTask,
    recorder: Arc<Recorder>,
    events: Events,
}

fn open_with(server: &Server, configuration: SessionConfiguration) -> Client {
    open_limited(server, configuration, 1024 * 1024)
}

/// With a `maximum_message_size`.
fn open_limited(server: &Server, configuration: SessionConfiguration, limit: usize) -> Client {
    let (session, recorder, events) = recorded_session_with(configuration, None);
    let task = session.web_socket_task(server.url());
    task.set_maximum_message_size(limit);
    task.resume();
    assert_eq!(events.next(), "open None");
    Client { _session: session, task, recorder, events }
}

fn open(server: &Server) -> Client {
    open_with(server, SessionConfiguration::default())
}

/// Reads pings, as they are counted.
fn read_pings(peer: &mut Peer, count: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|_| {
            let ping = peer.read_frame();
            assert_eq!(ping.first, 0x89);
            ping.payload
        })
        .collect()
}

#[test]
fn a_hundred_pings_in_flight_are_answered_in_order() {
    let server = Server::one(|mut peer| {
        peer.open();
        let payloads = read_pings(&mut peer, 100);
        // The first is empty, as Apple's are; no two are the same, so that each pong says which it answers.
        assert_eq!(payloads[0], b"");
        let mut different = payloads.clone();
        different.sort();
        different.dedup();
        assert_eq!(different.len(), 100);
        assert!(payloads.iter().all(|payload| payload.len() <= 125));
        for payload in payloads {
            peer.write(&frame(0x8a, &payload));
        }
        // All are answered: the next one is the first again.
        assert_eq!(read_pings(&mut peer, 1), [b""]);
        peer.write(&frame(0x8a, b""));
        peer.read_close();
    });
    let client = open(&server);
    for number in 0..100 {
        client.task.send_ping(client.recorder.handler(&format!("ping {number}")));
    }
    for number in 0..100 {
        assert_eq!(client.events.next(), format!("ping {number} ok"));
    }
    client.task.send_ping(client.recorder.handler("another"));
    assert_eq!(client.events.next(), "another ok");
    client.task.cancel();
    server.join();
}

#[test]
fn a_pong_answers_its_ping_and_all_earlier_ones() {
    let (go, wait) = signal();
    let server = Server::one(move |mut peer| {
        peer.open();
        let payloads = read_pings(&mut peer, 10);
        peer.write(&frame(0x8a, &payloads[6]));
        wait();
        // Answered already: not answers to the later ones.
        peer.write(&frame(0x8a, &payloads[6]));
        peer.write(&frame(0x8a, &payloads[2]));
        peer.write(&frame(0x8a, &payloads[0]));
        peer.text("ignored");
        peer.write(&frame(0x8a, &payloads[9]));
        peer.read_close();
    });
    let client = open(&server);
    for number in 0..10 {
        client.task.send_ping(client.recorder.handler(&format!("ping {number}")));
    }
    for number in 0..7 {
        assert_eq!(client.events.next(), format!("ping {number} ok"));
    }
    client.events.expect_silence(MOMENT);
    client.task.receive(client.recorder.receiver("receive"));
    go.send(()).unwrap();
    let mut later: Vec<String> = (0..4).map(|_| client.events.next()).collect();
    later.retain(|event| event != "receive string ignored");
    assert_eq!(later, ["ping 7 ok", "ping 8 ok", "ping 9 ok"]);
    client.task.cancel();
    server.join();
}

#[test]
fn a_pong_is_told_behind_the_messages_that_came_before_it() {
    // So that a ping can ask whether everything has arrived.
    let server = Server::one(|mut peer| {
        peer.open();
        let ping = read_pings(&mut peer, 1).remove(0);
        peer.write(&[frame(0x81, b"one"), frame(0x81, b"two"), frame(0x8a, &ping), frame(0x81, b"three")].concat());
        peer.read_close();
    });
    let client = open(&server);
    for _ in 0..3 {
        client.task.receive(client.recorder.receiver("receive"));
    }
    client.task.send_ping(client.recorder.handler("ping"));
    let told: Vec<String> = (0..4).map(|_| client.events.next()).collect();
    assert_eq!(told, ["receive string one", "receive string two", "ping ok", "receive string three"]);
    client.task.cancel();
    server.join();
}

#[test]
fn a_pong_does_not_wait_for_messages_that_nobody_receives() {
    let server = Server::one(|mut peer| {
        peer.open();
        let ping = read_pings(&mut peer, 1).remove(0);
        peer.write(&[frame(0x81, b"unread"), frame(0x8a, &ping)].concat());
        peer.read_close();
    });
    let client = open(&server);
    client.task.send_ping(client.recorder.handler("ping"));
    assert_eq!(client.events.next(), "ping ok");
    client.task.cancel();
    server.join();
}

#[test]
fn an_unasked_pong_is_ignored() {
    let server = Server::one(|mut peer| {
        peer.open();
        peer.write(&frame(0x8a, b""));
        peer.write(&frame(0x8a, b"unasked"));
        peer.text("ping now");
        assert_eq!(read_pings(&mut peer, 2)[0], b"");
        for payload in [&b"unasked"[..], &[0; 8], &[0xff; 8], &[0; 125], &[0]] {
            peer.write(&frame(0x8a, payload));
        }
        peer.text("all ignored");
        peer.read_close();
    });
    let client = open(&server);
    client.task.receive(client.recorder.receiver("receive"));
    assert_eq!(client.events.next(), "receive string ping now");
    client.task.send_ping(client.recorder.handler("ping 1"));
    client.task.send_ping(client.recorder.handler("ping 2"));
    client.task.receive(client.recorder.receiver("receive"));
    assert_eq!(client.events.next(), "receive string all ignored");
    client.task.cancel();
    client.events.wait_for("complete");
    assert_eq!(client.events.log()[3..], ["ping 1 -999", "ping 2 -999", "metrics", "complete -999"]);
    server.join();
}

#[test]
fn pings_keep_their_place_among_messages_from_before_the_opening_on() {
    let server = Server::one(|mut peer| {
        peer.open();
        let seen: Vec<(u8, usize)> = (0..6)
            .map(|_| {
                let frame = peer.read_frame();
                (frame.opcode(), frame.payload.len())
            })
            .collect();
        assert_eq!((seen[0], seen[1], seen[2]), ((1, 1), (9, 0), (2, 100_000)));
        assert_eq!((seen[3].0, seen[4], seen[5].0), (9, (1, 2), 9));
        peer.read_close();
    });
    let (session, recorder, events) = recorded_session_with(SessionConfiguration::default(), None);
    let task = session.web_socket_task(server.url());
    task.send("a", recorder.handler("send"));
    task.send_ping(|_| ());
    task.send(vec![0; 100_000], recorder.handler("send"));
    task.send_ping(|_| ());
    task.resume();
    task.send("bc", recorder.handler("send"));
    task.send_ping(|_| ());
    for _ in 0..3 {
        events.wait_for("send ok");
    }
    task.cancel();
    server.join();
}

#[test]
fn a_server_ping_is_answered_while_the_delegate_queue_is_blocked() {
    let (unblock, wait) = signal();
    let server = Server::one(move |mut peer| {
        peer.open();
        peer.text("block");
        assert_eq!(peer.read_frame().payload, b"sent before it blocked");
        for length in [0, 1, 125] {
            peer.write(&frame(0x89, &vec![b'p'; length]));
            let pong = peer.read_frame();
            assert_eq!((pong.first, pong.payload), (0x8a, vec![b'p'; length]));
        }
        unblock.send(()).unwrap();
        peer.close(1000, "");
        peer.read_close();
    });
    let client = open(&server);
    let (task, recorder) = (client.task.clone(), Arc::clone(&client.recorder));
    client.task.receive(move |_| {
        task.send("sent before it blocked", recorder.handler("send"));
        wait();
        recorder.note("unblocked");
    });
    assert_eq!(client.events.next(), "unblocked");
    assert_eq!(client.events.next(), "send ok");
    client.events.wait_for("complete None");
    server.join();
}

#[test]
fn of_a_flood_of_pings_the_latest_pong_is_kept() {
    const PINGS: u32 = 20_000;
    let (go, wait) = signal();
    let (read, all_is_read) = signal();
    let server = Server::one(move |mut peer| {
        SockRef::from(&peer.stream).set_recv_buffer_size(64 * 1024).unwrap();
        peer.open();
        wait();
        let flood: Vec<u8> = (0..PINGS).flat_map(|number| frame(0x89, &number.to_be_bytes())).collect();
        peer.write(&flood);
        peer.text("that were all");
        all_is_read();
        let mut pongs = Vec::new();
        while pongs.last() != Some(&(PINGS - 1).to_be_bytes().to_vec()) {
            let frame = peer.read_frame();
            if frame.opcode() == 10 {
                pongs.push(frame.payload);
            }
        }
        // What left before it was a flood, one for each frame that the kernel still took, the latest.
        assert!(pongs.len() < 50, "{} pongs were kept", pongs.len());
    });
    let client = open(&server);
    // This thread writes until the kernel takes no more.
    client.task.send(vec![0; 32 * 1024 * 1024], |_| ());
    client.task.receive(client.recorder.receiver("receive"));
    go.send(()).unwrap();
    assert_eq!(client.events.next(), "receive string that were all");
    read.send(()).unwrap();
    server.join();
}

fn keep_alive(interval: Duration, timeout: Duration) -> SessionConfiguration {
    let mut configuration = SessionConfiguration::default();
    configuration.web_socket.ping_interval = Some(interval);
    configuration.web_socket.pong_timeout = timeout;
    configuration
}

#[test]
fn the_keep_alive_sends_pings_and_lives_on_pongs() {
    let interval = Duration::from_millis(30);
    let server = Server::one(move |mut peer| {
        peer.open();
        let begun = Instant::now();
        for _ in 0..5 {
            let payload = read_pings(&mut peer, 1).remove(0);
            assert_eq!(payload, b"");
            peer.write(&frame(0x8a, &payload));
        }
        assert!(begun.elapsed() >= 4 * interval);
        peer.text("five");
        while peer.try_read_frame().is_ok_and(|frame| frame.opcode() != 8) {}
    });
    let client = open_with(&server, keep_alive(interval, PATIENCE));
    client.task.receive(client.recorder.receiver("receive"));
    // Nobody is told of these pings.
    assert_eq!(client.events.next(), "receive string five");
    client.task.cancel();
    server.join();
}

#[test]
fn without_an_interval_there_are_no_pings() {
    let server = Server::one(|mut peer| {
        peer.open();
        let close = peer.read_frame();
        assert_eq!(close.opcode(), 8);
    });
    let client = open(&server);
    client.events.expect_silence(MOMENT);
    client.task.cancel();
    server.join();
}

#[test]
fn a_keep_alive_without_a_pong_ends_the_task() {
    let timeout = Duration::from_millis(200);
    let (told, ping) = mpsc::channel();
    let server = Server::one(move |mut peer| {
        peer.open();
        read_pings(&mut peer, 1);
        told.send(Instant::now()).unwrap();
        // Data is no pong.
        peer.text("alive");
        peer.read_to_end();
    });
    let client = open_with(&server, keep_alive(Duration::from_millis(50), timeout));
    for _ in 0..2 {
        client.task.receive(client.recorder.receiver("receive"));
    }
    client.task.send_ping(client.recorder.handler("ping"));
    client.events.wait_for("complete");
    // The clock of the client may have begun a little before the ping was read.
    assert!(ping.recv_timeout(PATIENCE).unwrap().elapsed() + MOMENT >= timeout);
    let mut log = client.events.log();
    log[2..4].sort();
    let expected = ["open None", "receive string alive", "ping -1001", "receive -1001", "metrics", "complete -1001"];
    assert_eq!(log, expected);
    let error = client.task.error().unwrap();
    assert!(error.code() == ErrorCode::TimedOut && error.reason().contains("pong_timeout"), "{error}");
    server.join();
}

/// Long enough for a pong on a busy machine.
const LONG: Duration = Duration::from_secs(2);

#[test]
fn the_clock_of_the_pong_stands_still_under_back_pressure() {
    const COUNT: usize = 10;
    let server = Server::one(|mut peer| {
        peer.open();
        for _ in 0..COUNT {
            peer.binary(&[7; 500]);
        }
        // Pongs, behind messages that are not read.
        peer.echo();
    });
    let client = open_limited(&server, keep_alive(Duration::from_millis(100), LONG), 1000);
    client.events.expect_silence(2 * LONG);
    for _ in 0..COUNT {
        client.task.receive(client.recorder.receiver("receive"));
        client.events.wait_for("receive data [7, 7");
    }
    // The pong is read and more pings follow; then the server still answers.
    client.task.send("alive", |_| ());
    client.task.receive(client.recorder.receiver("receive"));
    assert_eq!(client.events.next(), "receive string alive");
    client.task.cancel();
    server.join();
}

#[test]
fn the_clock_of_the_pong_stands_still_while_the_task_is_suspended() {
    let (suspended, is_suspended) = signal();
    let (told, pinged) = signal();
    let server = Server::one(move |mut peer| {
        peer.open();
        let ping = read_pings(&mut peer, 1).remove(0);
        told.send(()).unwrap();
        is_suspended();
        peer.write(&frame(0x8a, &ping));
        peer.echo();
    });
    let client = open_with(&server, keep_alive(Duration::from_millis(100), LONG));
    pinged();
    client.task.suspend();
    suspended.send(()).unwrap();
    client.events.expect_silence(2 * LONG);
    client.task.resume();
    client.task.send("alive", |_| ());
    let (sender, receiver) = mpsc::channel();
    client.task.receive(move |result| sender.send(result.map_err(|error| error.raw_code())).unwrap());
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), Ok(Message::from("alive")));
    client.task.cancel();
    server.join();
}
