//! The closing handshake from both sides (RFC 6455 §7), and the messages that stand before the end.

mod support;

use std::io::Read;
use std::net::Shutdown;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use support::hooks::eventually;
use support::{PATIENCE, Peer, Recorder, Server, close_frame, frame, recorded_session, recorded_session_with};
use urlsession::{CloseCode, Message, SessionConfiguration, TaskState, UrlError, UrlSession, WebSocketTask};

/// A moment in which something must not happen.
const MOMENT: Duration = Duration::from_millis(50);

/// A signal, and who waits for it.
fn signal() -> (Sender<()>, impl FnOnce() + Send) {
    let (sender, receiver) = mpsc::channel();
    (sender, move || receiver.recv_timeout(PATIENCE).unwrap())
}

fn with_close_timeout(timeout: Duration) -> SessionConfiguration {
    let mut configuration = SessionConfiguration::default();
    configuration.web_socket.close_timeout = timeout;
    configuration
}

/// Reads one whole message.
fn message(peer: &mut Peer) -> Vec<u8> {
    let mut message = Vec::new();
    loop {
        let frame = peer.read_frame();
        message.extend(&frame.payload);
        if frame.is_final() {
            return message;
        }
    }
}

#[test]
fn what_was_sent_before_leaves_before_the_close() {
    let lengths = [10, 4 * 1024 * 1024, 0, 20_000];
    let (told, is_open) = mpsc::channel::<bool>();
    let server = Server::many(2, move |_, mut peer| {
        let request = peer.read_request();
        if told.send(true).is_ok() {
            peer.write(&Peer::switching_protocols(&request, ""));
        }
        for length in lengths {
            assert_eq!(message(&mut peer), vec![length as u8; length]);
        }
        assert_eq!(peer.read_close(), (Some(4001), b"bye".to_vec()));
        peer.close(4001, "");
        peer.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(peer.read_to_end(), b"");
    });
    // With the socket open, and before it is.
    for open in [true, false] {
        let (session, recorder, events) = recorded_session();
        let task = session.web_socket_task(server.url());
        task.receive(recorder.receiver("receive"));
        task.resume();
        if open {
            assert_eq!(events.next(), "open None");
        }
        for length in lengths {
            task.send(vec![length as u8; length], recorder.handler("send"));
        }
        task.cancel_with(CloseCode::new(4001), Some(b"bye"));
        task.send("too late", recorder.handler("late"));
        events.wait_for("complete");
        is_open.recv_timeout(PATIENCE).unwrap();
        let told: Vec<String> = events.log().into_iter().filter(|event| !event.contains("metrics")).collect();
        let (sends, others): (Vec<String>, Vec<String>) =
            told.into_iter().partition(|event| event.starts_with("send") || event.starts_with("late"));
        assert_eq!(sends, ["send ok", "send ok", "send ok", "send ok", "late -999"]);
        assert_eq!(others, ["open None", "receive -999", "close 4001 Some(\"bye\")", "complete None"]);
    }
    server.join();
}

#[test]
fn calls_after_cancel_with_fail_while_the_server_is_waited_for() {
    let (go, wait) = signal();
    let server = Server::one(move |mut peer| {
        peer.open();
        assert_eq!(peer.read_close(), (Some(1000), Vec::new()));
        wait();
        peer.close(1000, "");
        peer.stream.shutdown(Shutdown::Write).unwrap();
        // Nothing follows a Close: RFC 6455 §5.5.1.
        assert_eq!(peer.read_to_end(), b"");
    });
    let (session, recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    task.resume();
    assert_eq!(events.next(), "open None");
    task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
    assert_eq!((task.state(), task.close_code()), (TaskState::Canceling, CloseCode::INVALID));
    task.send("late", recorder.handler("send"));
    assert_eq!(events.next(), "send -999");
    task.receive(recorder.receiver("receive"));
    task.send_ping(recorder.handler("ping"));
    go.send(()).unwrap();
    events.wait_for("complete");
    let mut log = events.log();
    log[2..4].sort();
    assert_eq!(log[2..], ["ping -999", "receive -999", "close 1000 None", "metrics", "complete None"]);
    assert_eq!((task.state(), task.close_reason()), (TaskState::Completed, None));
    server.join();
}

/// Closes an open task; what the server saw of it, and what the delegate was told.
fn closed_with(code: u16, reason: Option<&[u8]>) -> ((Option<u16>, Vec<u8>), String) {
    let (told, close) = mpsc::channel();
    let server = Server::one(move |mut peer| {
        peer.open();
        let frame = peer.read_frame();
        assert_eq!(frame.first, 0x88);
        told.send(frame.payload).unwrap();
        peer.write(&close_frame(1000, ""));
    });
    let (session, _recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    task.resume();
    assert_eq!(events.next(), "open None");
    task.cancel_with(CloseCode::new(code), reason);
    let close_told = events.wait_for("close");
    events.wait_for("complete None");
    assert_eq!(task.close_code(), CloseCode::new(code));
    assert_eq!(task.close_reason().as_deref(), reason);
    server.join();
    let payload = close.recv_timeout(PATIENCE).unwrap();
    let frame = match payload.split_first_chunk::<2>() {
        Some((code, reason)) => (Some(u16::from_be_bytes(*code)), reason.to_vec()),
        None => (None, payload),
    };
    (frame, close_told)
}

#[test]
fn codes_that_must_not_be_on_the_wire_go_out_as_an_empty_close() {
    for code in [1, 999, 1005, 1006, 1015] {
        let (frame, told) = closed_with(code, Some(b"why"));
        assert_eq!(frame, (None, Vec::new()), "{code}");
        assert_eq!(told, format!("close {code} Some(\"why\")"));
    }
    for code in [1000, 1003, 1011, 1014, 3000, 4999] {
        assert_eq!(closed_with(code, Some(b"why")).0, (Some(code), b"why".to_vec()));
    }
    assert_eq!(closed_with(4000, None).0, (Some(4000), Vec::new()));
    assert_eq!(closed_with(4000, Some(b"")).0, (Some(4000), Vec::new()));
}

#[test]
fn a_long_reason_is_cut_at_the_boundary_of_a_character() {
    for (character, kept) in [("a", 123), ("\u{e9}", 122), ("\u{20ac}", 123), ("\u{1f600}", 120)] {
        let reason = character.repeat(200 / character.len());
        let (frame, told) = closed_with(4000, Some(reason.as_bytes()));
        assert_eq!(frame, (Some(4000), reason.as_bytes()[..kept].to_vec()));
        // Told is what was given.
        assert_eq!(told, format!("close 4000 Some({reason:?})"));
    }
}

#[test]
fn a_message_that_the_server_answers_with_its_close_was_sent() {
    // The Close may be read before the thread that sends comes back from the kernel.
    const ROUNDS: usize = 200;
    let server = Server::many(ROUNDS, |_, mut peer| {
        peer.open();
        assert_eq!(peer.read_frame().payload, b"last");
        peer.close(1000, "");
        peer.read_close();
    });
    let (session, recorder, events) = recorded_session();
    for _ in 0..ROUNDS {
        let task = session.web_socket_task(server.url());
        task.resume();
        assert_eq!(events.next(), "open None");
        task.send("last", recorder.handler("send"));
        assert_eq!(events.next(), "send ok");
        events.wait_for("complete None");
    }
    server.join();
}

#[test]
fn a_call_after_the_servers_close_fails_behind_those_that_waited() {
    const ROUNDS: usize = 100;
    let (closed, is_closed) = mpsc::channel();
    let server = Server::many(ROUNDS, move |_, mut peer| {
        peer.open();
        // A ping that is never answered.
        assert_eq!(peer.read_frame().opcode(), 9);
        peer.close(4000, "bye");
        peer.read_close();
        closed.send(()).unwrap();
    });
    let (session, recorder, events) = recorded_session();
    for _ in 0..ROUNDS {
        let task = session.web_socket_task(server.url());
        task.resume();
        assert_eq!(events.next(), "open None");
        task.send_ping(recorder.handler("first ping"));
        is_closed.recv_timeout(PATIENCE).unwrap();
        // The client has echoed the Close, and perhaps told nobody yet.
        let (noted, shown) = (Arc::clone(&recorder), task.clone());
        task.send_ping(move |result| {
            let code = result.unwrap_err().raw_code();
            noted.note(format!("second ping {code} {:?} {}", shown.state(), shown.close_code()));
        });
        assert_eq!(events.next(), "first ping 57");
        let mut rest: Vec<String> = (0..4).map(|_| events.next()).collect();
        // It comes at once, and the end of the task may have come before it.
        let second =
            rest.iter().position(|event| event == "second ping 57 Completed 4000").expect("the second ping fails");
        rest.remove(second);
        assert_eq!(rest, ["close 4000 Some(\"bye\")", "metrics", "complete None"]);
    }
    server.join();
}

/// Receives, all of which wait before a handler is called: the queue is serial.
fn receive_together(session: &UrlSession, task: &WebSocketTask, recorder: &Arc<Recorder>, names: &[&str]) {
    let (task, recorder) = (task.clone(), Arc::clone(recorder));
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    session.delegate_queue().add_operation(move || {
        for name in names {
            task.receive(recorder.receiver(&name));
        }
    });
}

#[test]
fn the_servers_close_is_echoed_although_messages_are_unread() {
    let (echoed, is_echoed) = mpsc::channel();
    let server = Server::one(move |mut peer| {
        peer.open();
        for text in ["one", "two", "three"] {
            peer.text(text);
        }
        peer.close(4000, "bye");
        assert_eq!(peer.read_close(), (Some(4000), Vec::new()));
        echoed.send(()).unwrap();
        peer.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(peer.read_to_end(), b"");
    });
    let (session, recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    task.resume();
    is_echoed.recv_timeout(PATIENCE).unwrap();
    // The end is known and not told: it stands behind the messages. Sends and pings fail from now on.
    assert_eq!((events.next(), task.state()), ("open None".into(), TaskState::Running));
    task.send("late", recorder.handler("send"));
    task.send_ping(recorder.handler("ping"));
    assert_eq!((events.next(), events.next()), ("send 57".into(), "ping 57".into()));
    // These handlers have told of it.
    assert_eq!((task.state(), task.close_code()), (TaskState::Completed, CloseCode::new(4000)));
    events.expect_silence(MOMENT);
    receive_together(&session, &task, &recorder, &["1", "2", "3", "4"]);
    events.wait_for("complete");
    assert_eq!(
        events.log()[3..],
        [
            "1 string one",
            "2 string two",
            "3 string three",
            "4 57",
            "close 4000 Some(\"bye\")",
            "metrics",
            "complete None"
        ]
    );
    server.join();
}

/// Receive, handle, receive.
fn receive_forever(task: &WebSocketTask, recorder: &Arc<Recorder>) {
    let (again, noted) = (task.clone(), Arc::clone(recorder));
    task.receive(move |result: Result<Message, UrlError>| {
        let goes_on = result.is_ok();
        noted.receiver("receive")(result);
        if goes_on {
            receive_forever(&again, &noted);
        }
    });
}

#[test]
fn the_usual_loop_sees_every_message_and_then_the_end() {
    for lost in [false, true] {
        let server = Server::one(move |mut peer| {
            peer.open();
            let mut bytes: Vec<u8> = (0..200).flat_map(|number| frame(0x81, number.to_string().as_bytes())).collect();
            if !lost {
                bytes.extend(close_frame(1000, ""));
            }
            peer.write(&bytes);
            peer.stream.shutdown(Shutdown::Write).unwrap();
            peer.read_to_end();
        });
        let (session, recorder, events) = recorded_session();
        let task = session.web_socket_task(server.url());
        receive_forever(&task, &recorder);
        task.resume();
        events.wait_for("complete");
        let messages = (0..200).map(|number| format!("receive string {number}"));
        let end: &[&str] = match lost {
            false => &["receive 57", "close 1000 Some(\"\")", "metrics", "complete None"],
            true => &["receive -1005", "metrics", "complete -1005"],
        };
        let expected: Vec<String> = ["open None".to_owned()]
            .into_iter()
            .chain(messages)
            .chain(end.iter().map(|event| (*event).to_owned()))
            .collect();
        assert_eq!(events.log(), expected);
        server.join();
    }
}

#[test]
fn messages_from_before_a_loss_are_still_received() {
    let server = Server::one(|mut peer| {
        peer.open();
        peer.text("one");
        peer.text("two");
        peer.stream.shutdown(Shutdown::Write).unwrap();
        peer.read_to_end();
    });
    let (session, recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    task.resume();
    // The client has read the end when the server is gone.
    server.join();
    assert_eq!(events.next(), "open None");
    events.expect_silence(MOMENT);
    receive_together(&session, &task, &recorder, &["1", "2", "3"]);
    events.expect(&["open None", "1 string one", "2 string two", "3 -1005", "complete -1005"]);
}

#[test]
fn unread_messages_hold_back_the_end_for_close_timeout_only() {
    let timeout = Duration::from_millis(300);
    let known = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&known);
    let server = Server::one(move |mut peer| {
        peer.open();
        peer.text("unread");
        *noted.lock().unwrap() = Some(Instant::now());
        peer.close(4000, "bye");
        peer.read_close();
    });
    let (session, recorder, events) = recorded_session_with(with_close_timeout(timeout), None);
    let task = session.web_socket_task(server.url());
    task.resume();
    events.expect(&["open None", "close 4000 Some(\"bye\")", "complete None"]);
    assert!(known.lock().unwrap().unwrap().elapsed() >= timeout);
    task.receive(recorder.receiver("late"));
    assert_eq!(events.next(), "late 57");
    server.join();
}

#[test]
fn messages_behind_our_close_are_dropped() {
    let server = Server::one(|mut peer| {
        peer.open();
        assert_eq!(peer.read_close().0, Some(1000));
        peer.text("too late");
        peer.write(&frame(0x89, b"and this ping is not answered"));
        peer.close(1000, "");
        peer.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(peer.read_to_end(), b"");
    });
    let (session, recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    task.receive(recorder.receiver("receive"));
    task.resume();
    assert_eq!(events.next(), "open None");
    task.cancel_with(CloseCode::NORMAL_CLOSURE, Some(b""));
    events.expect(&["open None", "receive -999", "close 1000 Some(\"\")", "complete None"]);
    assert_eq!(task.count_of_bytes_received(), 0);
    server.join();
}

#[test]
fn a_cancel_drops_unread_messages() {
    type Cancel = fn(&WebSocketTask);
    let cancels: [(Cancel, &[&str]); 2] = [
        (|task| task.cancel(), &["complete -999"]),
        (|task| task.cancel_with(CloseCode::GOING_AWAY, None), &["close 1001 None", "complete None"]),
    ];
    for (cancel, end) in cancels {
        let server = Server::one(|mut peer| {
            peer.open();
            peer.text("unread");
            peer.echo();
        });
        let (session, recorder, events) = recorded_session();
        let task = session.web_socket_task(server.url());
        task.resume();
        assert_eq!(events.next(), "open None");
        eventually("the message is there", || task.count_of_bytes_received() == 6);
        cancel(&task);
        task.receive(recorder.receiver("receive"));
        // The task may have ended before the receive was asked for, or after it.
        let mut told: Vec<String> = (0..end.len() + 2).map(|_| events.next()).collect();
        told.retain(|event| event != "metrics");
        let receive = told.iter().position(|event| event == "receive -999").expect("the message is dropped");
        told.remove(receive);
        assert_eq!(told, end);
        server.join();
    }
}

#[test]
fn the_first_cancel_counts() {
    let (go, wait) = signal();
    let server = Server::one(move |mut peer| {
        peer.open();
        assert_eq!(peer.read_close(), (Some(4001), b"first".to_vec()));
        wait();
        peer.close(4009, "server");
        peer.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(peer.read_to_end(), b"");
    });
    let (session, recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    task.receive(recorder.receiver("receive"));
    task.resume();
    assert_eq!(events.next(), "open None");
    task.cancel_with(CloseCode::new(4001), Some(b"first"));
    task.cancel_with(CloseCode::new(4002), Some(b"second"));
    task.cancel_with(CloseCode::INVALID, None);
    task.cancel();
    task.suspend();
    task.resume();
    events.expect_silence(MOMENT);
    assert_eq!(task.state(), TaskState::Canceling);
    go.send(()).unwrap();
    events.expect(&["open None", "receive -999", "close 4001 Some(\"first\")", "complete None"]);
    server.join();
}

#[test]
fn cancel_sends_an_empty_close() {
    for code in [None, Some(CloseCode::INVALID)] {
        let server = Server::one(|mut peer| {
            peer.open();
            assert_eq!(peer.read_close(), (None, Vec::new()));
            peer.stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(peer.read_to_end(), b"");
        });
        let (session, _recorder, events) = recorded_session();
        let task = session.web_socket_task(server.url());
        task.resume();
        assert_eq!(events.next(), "open None");
        match code {
            None => task.cancel(),
            Some(code) => task.cancel_with(code, Some(b"not told")),
        }
        events.expect(&["open None", "complete -999"]);
        server.join();
    }
}

#[test]
fn tcp_is_closed_although_the_server_does_not() {
    // Closed by the server's Close, by ours that is answered, by ours that is not, by a cancel: at the same time, for
    // each waits for the server to close first.
    let server = Server::many(4, |_, mut peer| {
        let request = peer.open();
        let case = request.split(['/', ' ']).nth(2).unwrap().to_owned();
        if case == "0" {
            peer.close(1000, "");
        }
        peer.read_close();
        if case == "1" {
            peer.close(1000, "");
        }
        assert_eq!(peer.stream.read(&mut [0; 16]).unwrap(), 0);
    });
    let scenes: Vec<_> = (0..4)
        .map(|case| {
            let (session, _, events) = recorded_session_with(with_close_timeout(Duration::from_millis(100)), None);
            let task = session.web_socket_task(server.url_with(&format!("/{case}")));
            task.resume();
            events.wait_for("open");
            match case {
                1 | 2 => task.cancel_with(CloseCode::NORMAL_CLOSURE, None),
                3 => task.cancel(),
                _ => {}
            }
            (session, events)
        })
        .collect();
    for (_session, events) in &scenes {
        events.wait_for("complete");
    }
    server.join();
}

#[test]
fn a_close_inside_of_a_message_drops_what_came_of_it() {
    let server = Server::one(|mut peer| {
        peer.open();
        peer.write(&[frame(0x01, b"half"), close_frame(1001, "")].concat());
        assert_eq!(peer.read_close().0, Some(1001));
    });
    let (session, recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    task.receive(recorder.receiver("receive"));
    task.resume();
    events.expect(&["open None", "receive 57", "close 1001 Some(\"\")", "complete None"]);
    server.join();
}

#[test]
fn frames_behind_the_servers_close_mean_nothing() {
    let server = Server::one(|mut peer| {
        peer.open();
        peer.write(
            &[close_frame(1000, ""), frame(0x81, b"late"), frame(0x89, b""), frame(0xff, b""), close_frame(4000, "")]
                .concat(),
        );
        assert_eq!(peer.read_close().0, Some(1000));
        peer.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(peer.read_to_end(), b"");
    });
    let (session, recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    task.receive(recorder.receiver("receive"));
    task.resume();
    events.expect(&["open None", "receive 57", "close 1000 Some(\"\")", "complete None"]);
    server.join();
}

/// What a handler that fails because of the end sees of both sides' words.
fn closes(task: &WebSocketTask) -> (u16, Option<u16>, Option<String>) {
    let reason = task.server_close_reason().map(|reason| String::from_utf8(reason).unwrap());
    (task.close_code().raw_value(), task.server_close_code().map(CloseCode::raw_value), reason)
}

#[test]
fn the_servers_close_is_known_beside_the_callers() {
    /// What the server does once it has read the Close, and what the caller does first.
    type Case = (fn(&mut Peer), Option<fn(&WebSocketTask)>, (u16, Option<u16>, Option<&'static str>));
    let nothing = None;
    let leave: Option<fn(&WebSocketTask)> = Some(|task| task.cancel_with(CloseCode::GOING_AWAY, Some(b"mine")));
    let cases: [Case; 9] = [
        (|peer| peer.close(4001, "theirs"), nothing, (4001, Some(4001), Some("theirs"))),
        (|peer| peer.close(1000, ""), nothing, (1000, Some(1000), Some(""))),
        (|peer| peer.write(&frame(0x88, b"")), nothing, (1005, Some(1005), Some(""))),
        (|peer| peer.close(4001, "theirs"), leave, (1001, Some(4001), Some("theirs"))),
        (|peer| peer.write(&frame(0x88, b"")), leave, (1001, Some(1005), Some(""))),
        // An answer that breaks the protocol is none, and so is an end of the connection.
        (|peer| peer.write(&frame(0x88, b"x")), leave, (1001, None, None)),
        (|_| {}, leave, (1001, None, None)),
        (|peer| peer.close(4001, "theirs"), Some(|task| task.cancel()), (0, None, None)),
        (|_| {}, nothing, (0, None, None)),
    ];
    for (number, (script, act, expected)) in cases.into_iter().enumerate() {
        let server = Server::one(move |mut peer| {
            peer.open();
            if act.is_some() {
                assert_eq!(peer.read_frame().opcode(), 8);
            }
            script(&mut peer);
            peer.stream.shutdown(Shutdown::Write).unwrap();
            peer.read_to_end();
        });
        let (session, _recorder, events) = recorded_session();
        let task = session.web_socket_task(server.url());
        let (told, seen) = mpsc::channel();
        let asked = task.clone();
        task.receive(move |result| told.send((result.is_err(), closes(&asked))).unwrap());
        assert_eq!(closes(&task), (0, None, None));
        task.resume();
        assert_eq!(events.next(), "open None");
        if let Some(act) = act {
            act(&task);
        }
        let expected = (expected.0, expected.1, expected.2.map(str::to_owned));
        assert_eq!(seen.recv_timeout(PATIENCE), Ok((true, expected.clone())), "case {number}");
        events.wait_for("complete");
        assert_eq!(closes(&task), expected, "case {number}");
        server.join();
    }
}
