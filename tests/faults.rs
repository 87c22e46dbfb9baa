//! A fault of the server behind messages that have not been handled yet: what handlers send for those still goes out, as if
//! the bytes had come one by one, and only then is the server told.

mod support;

use std::sync::mpsc;
use std::time::Duration;

use support::{PATIENCE, Peer, Server, frame, recorded_session, recorded_session_with};
use urlsession::{SessionConfiguration, WebSocketTask};

/// Sends every message back, and receives the next one.
fn echo(task: &WebSocketTask) {
    let again = task.clone();
    task.receive(move |message| {
        if let Ok(message) = message {
            again.send(message, |_| ());
            echo(&again);
        }
    });
}

fn opened_with(bytes: Vec<u8>) -> impl Fn(&mut Peer) {
    move |peer| {
        let request = peer.read_request();
        peer.write(&[Peer::switching_protocols(&request, ""), bytes.clone()].concat());
    }
}

#[test]
fn what_was_sent_for_messages_before_the_fault_goes_out() {
    let faults: [(&[u8], u16, &str); 4] = [
        (&[0xa1, 0x00], 1002, "complete 100"),
        (&[0x83, 0x00], 1002, "complete 100"),
        (&[0x81, 0x01, 0xff], 1007, "complete 100"),
        (&[0x82, 0x7f, 0, 0, 0, 0, 1, 0, 0, 0], 1009, "complete 40"),
    ];
    for (fault, code, end) in faults {
        let bytes =
            [frame(0x81, b"one"), frame(0x01, b"tw"), frame(0x80, b"o"), fault.to_vec(), frame(0x89, b"")].concat();
        let open = opened_with(bytes);
        let server = Server::one(move |mut peer| {
            open(&mut peer);
            assert_eq!(peer.read_frame().payload, b"one");
            assert_eq!(peer.read_frame().payload, b"two");
            let frame = peer.read_frame();
            assert_eq!((frame.opcode(), frame.payload.get(..2)), (8, Some(&code.to_be_bytes()[..])));
        });
        let (session, _recorder, events) = recorded_session();
        let task = session.web_socket_task(server.url());
        echo(&task);
        task.resume();
        events.expect(&["open None", end]);
        server.join();
    }
}

#[test]
fn a_fault_behind_messages_that_nobody_receives_is_told_to_the_server_at_once() {
    let open = opened_with([frame(0x81, b"one"), vec![0xa1, 0x00]].concat());
    let server = Server::one(move |mut peer| {
        open(&mut peer);
        assert_eq!(peer.read_close().0, Some(1002));
    });
    let (session, recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    task.resume();
    server.join();
    // What the server sent before is still there.
    session.delegate_queue().set_suspended(true);
    task.receive(recorder.receiver("first"));
    task.receive(recorder.receiver("second"));
    session.delegate_queue().set_suspended(false);
    events.expect(&["open None", "first string one", "second 100", "complete 100"]);
}

#[test]
fn a_fault_is_told_to_the_server_although_the_queue_is_blocked() {
    let open = opened_with([frame(0x81, b"one"), vec![0xa1, 0x00]].concat());
    let (go, done) = mpsc::channel();
    let server = Server::one(move |mut peer| {
        open(&mut peer);
        assert_eq!(peer.read_close().0, Some(1002));
        go.send(()).unwrap();
    });
    let mut configuration = SessionConfiguration::default();
    configuration.web_socket.close_timeout = Duration::from_millis(200);
    let (session, recorder, events) = recorded_session_with(configuration, None);
    let task = session.web_socket_task(server.url());
    session.delegate_queue().set_suspended(true);
    task.receive(recorder.receiver("receive"));
    task.resume();
    done.recv_timeout(PATIENCE).unwrap();
    session.delegate_queue().set_suspended(false);
    events.expect(&["open None", "receive string one", "complete 100"]);
    server.join();
}
