//! What a TLS server may do with its records and keys, over sockets.

mod support;

use std::io::Write;
use std::sync::{Arc, mpsc};

use rustls::ServerConfig;
use support::tls::{ONLY_12, ONLY_13, TRUSTED, TlsPeer, trusted_server};
use support::{Events, PATIENCE, Recorder, Server, frame, recorded_session_with};
use urlsession::{CloseCode, Message, Url, UrlSession, WebSocketTask};

fn server(config: Arc<ServerConfig>, script: impl FnOnce(TlsPeer) + Send + 'static) -> Server {
    Server::one(move |peer| script(TlsPeer::new(peer, &config)))
}

fn task(server: &Server) -> (UrlSession, WebSocketTask, Arc<Recorder>, Events) {
    let (session, recorder, events) = recorded_session_with(TRUSTED.configuration(), None);
    let task = session.web_socket_task(Url::parse(&format!("wss://localhost:{}/", server.address().port())).unwrap());
    (session, task, recorder, events)
}

#[test]
fn a_server_that_changes_its_keys_is_understood_and_answered() {
    let server = server(trusted_server(ONLY_13), |mut peer| {
        peer.open();
        while let Ok(received) = peer.try_read_frame() {
            if received.opcode() == 8 {
                return peer.send(&frame(0x88, &received.payload));
            }
            peer.connection.refresh_traffic_keys().unwrap();
            peer.send(&frame(received.first, &received.payload));
        }
    });
    let (_session, task, recorder, events) = task(&server);
    task.resume();
    // rustls takes 32 changes in a row with nothing between them; here are more, with something between them.
    for number in 0..40 {
        task.send(format!("{number}"), |result| result.unwrap());
        task.receive(recorder.receiver("receive"));
        assert_eq!(events.wait_for("receive"), format!("receive string {number}"));
    }
    task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
    events.wait_for("complete None");
    server.join();
}

#[test]
fn a_handshake_in_small_records() {
    for supported in [ONLY_12, ONLY_13] {
        for bytewise in [false, true] {
            let mut config = ServerConfig::clone(&trusted_server(supported));
            config.max_fragment_size = Some(64);
            let server = server(Arc::new(config), move |mut peer| {
                peer.bytewise = bytewise;
                peer.open();
                peer.echo();
            });
            let (_session, task, recorder, events) = task(&server);
            task.resume();
            let text = "more than fits into a record of 64 bytes, its header and what the suite adds included";
            task.send(text, |result| result.unwrap());
            task.receive(recorder.receiver("receive"));
            assert_eq!(events.wait_for("receive"), format!("receive string {text}"));
            task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
            events.wait_for("complete None");
            server.join();
        }
    }
}

#[test]
fn many_small_records_and_messages_over_several() {
    const COUNT: usize = 20_000;
    let length = |number: usize| if number % 1000 == 999 { 100_000 } else { number % 300 };
    for supported in [ONLY_12, ONLY_13] {
        let server = server(trusted_server(supported), move |mut peer| {
            peer.open();
            for number in 0..COUNT {
                // A record of its own, or several.
                peer.write_all(&frame(0x82, &vec![number as u8; length(number)])).unwrap();
                if number % 100 == 99 {
                    peer.flush().unwrap();
                }
            }
            peer.echo();
        });
        let (_session, task, _, events) = task(&server);
        let (sender, receiver) = mpsc::channel();
        for _ in 0..COUNT {
            let sender = sender.clone();
            task.receive(move |result| sender.send(result.unwrap()).unwrap());
        }
        task.resume();
        for number in 0..COUNT {
            let message = receiver.recv_timeout(PATIENCE).unwrap();
            assert!(message == Message::Data(vec![number as u8; length(number)]), "message {number}");
        }
        task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
        events.wait_for("complete None");
        server.join();
    }
}

#[test]
fn what_ends_the_task_ends_it_whatever_stands_behind_it_in_the_same_read() {
    // What the server writes at once, and how the task ends.
    let broken = frame(0xf2, b"reserved bits");
    let refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnope".to_vec();
    for supported in [ONLY_12, ONLY_13] {
        for (opens, first, code) in [(true, &broken, 100), (false, &refusal, -1011)] {
            let first = first.clone();
            let server = server(trusted_server(supported), move |mut peer| {
                if opens {
                    peer.open();
                } else {
                    peer.read_request();
                }
                let mut bytes = Vec::new();
                for record in [&first[..], b"a record behind it", b"one that was changed"] {
                    peer.write_all(record).unwrap();
                    peer.connection.write_tls(&mut bytes).unwrap();
                }
                *bytes.last_mut().unwrap() ^= 1;
                peer.stream.write_all(&bytes).unwrap();
                // Until the client closes.
                while peer.try_read_frame().is_ok() {}
            });
            let (_session, task, recorder, events) = task(&server);
            task.receive(recorder.receiver("receive"));
            task.resume();
            assert_eq!(events.wait_for("complete"), format!("complete {code}"));
            assert_eq!(task.response().map(|response| response.status_code()), Some(if opens { 101 } else { 403 }));
            server.join();
        }
    }
}
