//! What a callback that blocks does not delay: pongs, timers, other sessions, and what it has sent itself.

mod support;

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use support::echo::EchoServer;
use support::{PATIENCE, Server, recorded_session, recorded_session_with};
use urlsession::{CloseCode, OperationQueue, SessionConfiguration, Url, UrlSession, WebSocketTask};

/// How long `cancel` leaves what was sent before it.
const MOMENT: Duration = Duration::from_millis(50);

/// How often what depends on a race is tried.
const TRIES: usize = 200;

#[track_caller]
fn wait<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(PATIENCE).expect("something in time")
}

/// A session without a delegate on a queue.
fn session_on(queue: OperationQueue) -> UrlSession {
    UrlSession::with_delegate(SessionConfiguration::default(), None, Some(queue))
}

/// A callback that blocks until the test lets it go.
struct Block {
    entered: Receiver<()>,
    leave: Sender<()>,
}

fn block() -> (Block, impl FnOnce() + Send + 'static) {
    let (enter, entered) = mpsc::channel();
    let (leave, left) = mpsc::channel::<()>();
    (Block { entered, leave }, move || {
        enter.send(()).unwrap();
        let _ = left.recv_timeout(PATIENCE);
    })
}

#[test]
fn a_blocked_callback_delays_no_pong() {
    let (go, pinged) = mpsc::channel();
    let server = Server::one(move |mut peer| {
        peer.open();
        wait(&pinged);
        assert_eq!(peer.read_frame().opcode(), 9);
        for number in 0..10u8 {
            peer.write(&support::frame(0x89, &[number]));
            let pong = peer.read_frame();
            assert_eq!((pong.opcode(), pong.payload), (10, vec![number]));
        }
        peer.close(1000, "");
        peer.read_close();
    });
    let (session, _, events) = recorded_session();
    let (block, blocking) = block();
    let task = session.web_socket_task(server.url());
    task.send_ping(|_| ());
    session.get_all_tasks(move |_| blocking());
    wait(&block.entered);
    task.resume();
    go.send(()).unwrap();
    // The server has its pongs, and our echo of its Close, while the queue stands still.
    server.join();
    assert!(events.log().is_empty());
    block.leave.send(()).unwrap();
    events.wait_for("complete None");
}

#[test]
fn a_blocked_callback_delays_no_timer() {
    let (sender, receiver) = mpsc::channel();
    let server = Server::one(move |mut peer| {
        peer.open();
        // The Close of a task whose time is up.
        sender.send(peer.read_close()).unwrap();
    });
    let mut configuration = SessionConfiguration::default();
    configuration.timeout_interval_for_resource = Duration::from_millis(300);
    let (session, _, events) = recorded_session_with(configuration, None);
    let (block, blocking) = block();
    session.get_all_tasks(move |_| blocking());
    wait(&block.entered);
    let began = Instant::now();
    let task = session.web_socket_task(server.url());
    task.resume();
    assert_eq!(wait(&receiver), (None, Vec::new()));
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert!(events.log().is_empty());
    block.leave.send(()).unwrap();
    events.wait_for("complete -1001");
    server.join();
}

#[test]
fn a_blocked_callback_delays_no_other_session() {
    let server = EchoServer::start();
    let (one, _, one_events) = recorded_session();
    let (other, recorder, events) = recorded_session();
    let (block, blocking) = block();
    one.get_all_tasks(move |_| blocking());
    wait(&block.entered);
    let task = other.web_socket_task(server.url());
    task.send("x", |_| ());
    task.receive(recorder.receiver("receive"));
    task.resume();
    assert_eq!(events.wait_for("receive"), "receive string x");
    task.cancel();
    events.wait_for("complete");
    assert!(one_events.log().is_empty());
    block.leave.send(()).unwrap();
}

/// A server that says what it got.
fn listening_server(count: usize) -> (Server, Receiver<Vec<u8>>) {
    let (sender, receiver) = mpsc::channel();
    let server = Server::many(count, move |_, mut peer| {
        peer.open();
        while let Ok(frame) = peer.try_read_frame() {
            match frame.opcode() {
                8 => return,
                9 => peer.write(&support::frame(0x8a, &frame.payload)),
                _ => sender.send(frame.payload).unwrap(),
            }
        }
    });
    (server, receiver)
}

/// Runs `act` in a pong's handler, which then blocks until the server has what it waits for.
fn sends_then_blocks(
    session: &UrlSession,
    url: Url,
    act: impl Fn(&WebSocketTask, u32) + Send + Sync + 'static,
    server: Receiver<Vec<u8>>,
) {
    let task = session.web_socket_task(url);
    task.resume();
    let (act, server) = (Arc::new(act), Arc::new(Mutex::new(server)));
    for number in 0..TRIES as u32 {
        let (sender, over) = mpsc::channel();
        let (acting, server, sending) = (Arc::clone(&act), Arc::clone(&server), task.clone());
        task.send_ping(move |result| {
            result.unwrap();
            // Long enough, at times, for the reactor to have gone to sleep in between.
            thread::sleep(Duration::from_micros(u64::from(number % 8) * 700));
            acting(&sending, number);
            let server = server.lock().unwrap();
            sender.send(server.recv_timeout(PATIENCE)).unwrap();
        });
        let arrived =
            over.recv_timeout(2 * PATIENCE).expect("an answer").expect("the message leaves while its sender blocks");
        assert_eq!(arrived, number.to_be_bytes());
    }
    task.cancel();
}

#[test]
fn what_a_blocked_callback_sent_leaves_the_machine() {
    let threads = OperationQueue::with_executor(|operation| drop(thread::spawn(operation)));
    for queue in [OperationQueue::serial(), OperationQueue::new(), threads] {
        let (server, receiver) = listening_server(1);
        let session = session_on(queue);
        sends_then_blocks(
            &session,
            server.url(),
            |task, number| task.send(number.to_be_bytes().to_vec(), |_| ()),
            receiver,
        );
        server.join();
    }
}

#[test]
fn what_a_blocked_callback_sent_on_another_task_leaves_the_machine() {
    let (server, receiver) = listening_server(2);
    let session = session_on(OperationQueue::serial());
    let other = session.web_socket_task(server.url());
    other.resume();
    let sending = other.clone();
    sends_then_blocks(
        &session,
        server.url(),
        move |_, number| sending.send(number.to_be_bytes().to_vec(), |_| ()),
        receiver,
    );
    other.cancel();
    server.join();
}

#[test]
fn what_an_announcement_sent_leaves_the_machine_while_it_blocks() {
    // The handlers of `reset` and `get_all_tasks` come from no socket: nothing has woken the reactor for them.
    let (server, receiver) = listening_server(1);
    let session = session_on(OperationQueue::serial());
    let task = session.web_socket_task(server.url());
    task.resume();
    let receiver = Arc::new(Mutex::new(receiver));
    for number in 0..TRIES as u32 {
        let (sender, over) = mpsc::channel();
        let (sending, receiver) = (task.clone(), Arc::clone(&receiver));
        session.reset(move || {
            thread::sleep(Duration::from_micros(u64::from(number % 8) * 700));
            sending.send(number.to_be_bytes().to_vec(), |_| ());
            sender.send(receiver.lock().unwrap().recv_timeout(PATIENCE)).unwrap();
        });
        let arrived =
            over.recv_timeout(2 * PATIENCE).expect("an answer").expect("the message leaves while its sender blocks");
        assert_eq!(arrived, number.to_be_bytes());
    }
    task.cancel();
    server.join();
}

#[test]
fn a_large_message_of_a_blocked_callback_leaves_the_machine() {
    // More than the kernel takes at once: the reactor has to go on with it.
    let (server, receiver) = listening_server(1);
    let session = session_on(OperationQueue::serial());
    let task = session.web_socket_task(server.url());
    task.resume();
    let (sender, over) = mpsc::channel();
    let sending = task.clone();
    task.send_ping(move |_| {
        for _ in 0..4 {
            sending.send(vec![7; 8 << 20], |_| ());
        }
        let mut left = 4 * (8 << 20);
        while left > 0
            && let Ok(frame) = receiver.recv_timeout(PATIENCE)
        {
            left -= frame.len();
        }
        sender.send(left).unwrap();
    });
    assert_eq!(over.recv_timeout(5 * PATIENCE), Ok(0));
    task.cancel();
    server.join();
}

#[test]
fn a_close_and_a_cancel_of_a_blocked_callback_leave_the_machine() {
    for code in [CloseCode::GOING_AWAY, CloseCode::INVALID] {
        let (sender, receiver) = mpsc::channel();
        let server = Server::one(move |mut peer| {
            peer.open();
            assert_eq!(peer.read_frame().opcode(), 9);
            peer.write(&support::frame(0x8a, b""));
            assert_eq!(peer.read_frame().payload, b"first");
            sender.send(peer.read_close()).unwrap();
        });
        let session = session_on(OperationQueue::serial());
        let task = session.web_socket_task(server.url());
        let (over, end) = mpsc::channel();
        let closing = task.clone();
        task.send_ping(move |_| {
            closing.send("first", |_| ());
            if code == CloseCode::INVALID {
                // `cancel` drops what has not left; it does so in a moment.
                thread::sleep(MOMENT);
            }
            closing.cancel_with(code, None);
            over.send(receiver.recv_timeout(PATIENCE)).unwrap();
        });
        task.resume();
        let expected = (code != CloseCode::INVALID).then(|| code.raw_value());
        assert_eq!(end.recv_timeout(2 * PATIENCE).unwrap(), Ok((expected, Vec::new())));
        server.join();
    }
}
