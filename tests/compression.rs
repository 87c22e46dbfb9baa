//! permessage-deflate (RFC 7692) through the public interface, against a server that compresses with another implementation.

mod support;

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;

use support::deflate::{Codec, Received, accepts};
use support::{Events, PATIENCE, Peer, Recorder, Server, field, frame, recorded_session_with};
use urlsession::{
    Message, SessionConfiguration, SessionDelegate, SessionTask, TaskDelegate, TaskMetrics, TransactionMetrics,
    UrlRequest, UrlSession, WebSocketDelegate, WebSocketTask,
};

const EXTENSIONS: &str = "Sec-WebSocket-Extensions";

/// A task and what it needs to live.
struct Client {
    _session: UrlSession,
    task: WebSocketTask,
    recorder: Arc<Recorder>,
    events: Events,
}

impl Client {
    /// Suspended.
    fn new(server: &Server, configuration: SessionConfiguration) -> Self {
        let (session, recorder, events) = recorded_session_with(configuration, None);
        let task = session.web_socket_task(server.url());
        Self { _session: session, task, recorder, events }
    }

    #[track_caller]
    fn open(server: &Server) -> Self {
        Self::open_with(server, SessionConfiguration::default())
    }

    #[track_caller]
    fn open_with(server: &Server, configuration: SessionConfiguration) -> Self {
        let client = Self::new(server, configuration);
        client.task.resume();
        assert_eq!(client.events.next(), "open None");
        client
    }

    #[track_caller]
    fn receive(&self) -> Result<Message, i32> {
        let (sender, receiver) = mpsc::channel();
        self.task.receive(move |result| sender.send(result).unwrap());
        receiver.recv_timeout(PATIENCE).expect("a handler is called").map_err(|error| error.raw_code())
    }

    fn extensions(&self) -> Option<String> {
        self.task.response().and_then(|response| response.value(EXTENSIONS))
    }
}

/// Records like those of an interface: they compress well, and better behind each other.
fn records(length: usize, seed: usize) -> String {
    let mut text = String::from("[");
    for index in 0.. {
        let number = (index * 7919 + seed * 104_729) % 1_000_003;
        text += &format!(
            "{{\"id\":{number},\"name\":\"größe {}\",\"price\":{}.{:02}}},",
            number % 17,
            number / 7,
            index % 100
        );
        if text.len() >= length {
            break;
        }
    }
    let mut end = length;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text + &"]".repeat(length - end)
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| byte()).collect()
}

fn payload(message: &Message) -> &[u8] {
    match message {
        Message::String(text) => text.as_bytes(),
        Message::Data(data) => data,
        _ => unreachable!("there are two kinds"),
    }
}

/// Sends back what comes, compressed as it came, until the client closes; all that came.
fn echo(mut peer: Peer, parameters: &str) -> Vec<Received> {
    peer.open_with(&accepts(parameters));
    let mut codec = Codec::default();
    let mut all = Vec::new();
    while let Some(received) = codec.read_message(&mut peer) {
        if parameters.contains("server_no_context_takeover") {
            codec.forget();
        }
        let answer = match received.compressed {
            true => frame(0xc0 | received.opcode, &codec.compress(&received.payload)),
            false => frame(0x80 | received.opcode, &received.payload),
        };
        peer.write(&answer);
        all.push(received);
    }
    peer.close(1000, "");
    all
}

/// A server that runs [`echo`] for one client, and what that saw.
fn echo_server(parameters: &'static str) -> (Server, mpsc::Receiver<Vec<Received>>) {
    let (sender, seen) = mpsc::channel();
    (Server::one(move |peer| sender.send(echo(peer, parameters)).unwrap()), seen)
}

#[test]
fn it_is_offered_and_used_by_default() {
    let (sender, request) = mpsc::channel();
    let server = Server::one(move |mut peer| {
        let head = peer.open_with(&accepts(""));
        sender.send(field(&head, EXTENSIONS).map(str::to_owned)).unwrap();
        let mut codec = Codec::default();
        let received = codec.read_message(&mut peer).unwrap();
        assert!(received.compressed && received.opcode == 1 && received.wire * 3 < received.payload.len());
        let text = String::from_utf8(received.payload).unwrap();
        // In fragments, with a ping between.
        let compressed = codec.compress(text.as_bytes());
        let (front, back) = compressed.split_at(100);
        peer.write(&[frame(0x41, front), frame(0x89, b"?"), frame(0x00, &back[..1]), frame(0x80, &back[1..])].concat());
        assert_eq!(peer.read_frame().payload, b"?");
        peer.close(1000, "bye");
        peer.read_close();
    });
    let client = Client::open(&server);
    let offer = request.recv_timeout(PATIENCE).unwrap();
    assert_eq!(offer.as_deref(), Some("permessage-deflate; client_max_window_bits"));
    assert_eq!(client.extensions().as_deref(), Some("permessage-deflate"));
    let text = records(5000, 1);
    client.task.send(&text, client.recorder.handler("send"));
    assert_eq!(client.receive(), Ok(Message::from(text)));
    assert_eq!((client.task.count_of_bytes_sent(), client.task.count_of_bytes_received()), (5000, 5000));
    client.events.wait_for("complete None");
    server.join();
}

#[test]
fn messages_of_every_kind_come_back_with_every_choice_of_parameters() {
    let parameters = [
        "",
        "; server_no_context_takeover",
        "; client_no_context_takeover",
        "; server_no_context_takeover; client_no_context_takeover",
        "; client_max_window_bits=15",
        "; client_max_window_bits=9",
        "; client_max_window_bits=\"12\"; client_no_context_takeover",
        "; server_max_window_bits=15; client_max_window_bits=10; server_no_context_takeover",
    ];
    let noise = noise(70_000);
    let mut messages = Vec::new();
    for length in [0, 1, 1023, 1024, 1025, 16_384, 300_000] {
        messages.push(Message::from(records(length, length)));
        messages.push(Message::from(records(length, 3).as_bytes()));
    }
    messages.extend([Message::from(noise.clone()), Message::from("short"), Message::from(noise)]);
    messages.extend([Message::from(records(10_000, 5)), Message::from(records(10_000, 5))]);
    for parameters in parameters {
        let (server, seen) = echo_server(parameters);
        let client = Client::open(&server);
        assert_eq!(client.extensions(), Some(format!("permessage-deflate{parameters}")));
        for message in &messages {
            client.task.send(message.clone(), client.recorder.handler("send"));
            assert!(client.receive().as_ref() == Ok(message), "{parameters}: {} bytes", payload(message).len());
        }
        client.task.cancel_with(urlsession::CloseCode::NORMAL_CLOSURE, None);
        let seen = seen.recv_timeout(PATIENCE).unwrap();
        assert_eq!(seen.len(), messages.len());
        for (received, message) in seen.iter().zip(&messages) {
            assert!(received.payload == payload(message));
            let is_long = received.payload.len() >= 1024;
            // Noise gets no smaller: it goes as it is, unless the next message may refer to it.
            let is_noise = received.payload.len() == 70_000;
            let expected = is_long && !(is_noise && parameters.contains("client_no_context_takeover"));
            assert_eq!(received.compressed, expected, "{parameters}: {} bytes", received.payload.len());
            assert!(is_noise || !expected || received.wire * 2 < received.payload.len());
        }
        // The same message again costs next to nothing where it may be referred to, and lies within the window.
        let [.., first, again] = seen.as_slice() else { panic!("there are more than two") };
        let refers = !["client_no_context_takeover", "client_max_window_bits=9", "client_max_window_bits=10"]
            .iter()
            .any(|parameter| parameters.contains(parameter));
        assert_eq!(again.wire * 10 < first.wire, refers, "{parameters}: {} and {}", first.wire, again.wire);
        server.join();
    }
}

#[test]
fn what_was_sent_before_the_opening_is_compressed_too() {
    let (server, seen) = echo_server("");
    let client = Client::new(&server, SessionConfiguration::default());
    // What is too much for the reactor's thread to compress at once goes as it is.
    let messages = [records(2000, 1), records(100, 2), records(5 << 20, 3), records(2000, 1)];
    client.task.set_maximum_message_size(0);
    for message in &messages {
        client.task.send(message, client.recorder.handler("send"));
    }
    client.task.resume();
    for message in &messages {
        assert!(client.receive() == Ok(Message::from(message)));
    }
    client.task.cancel_with(urlsession::CloseCode::NORMAL_CLOSURE, None);
    let seen = seen.recv_timeout(PATIENCE).unwrap();
    assert_eq!(seen.iter().map(|received| received.compressed).collect::<Vec<_>>(), [true, false, false, true]);
    server.join();
}

#[test]
fn the_threshold_decides_what_is_compressed() {
    for (threshold, expected) in [(0, [false, true, true]), (1, [false, true, true]), (10, [false, false, true])] {
        let (server, seen) = echo_server("");
        let mut configuration = SessionConfiguration::default();
        configuration.web_socket.compression_threshold = threshold;
        let client = Client::open_with(&server, configuration);
        for text in ["", "a", "aaaaaaaaaa"] {
            client.task.send(text, |_| ());
            assert_eq!(client.receive(), Ok(Message::from(text)));
        }
        client.task.cancel_with(urlsession::CloseCode::NORMAL_CLOSURE, None);
        let seen = seen.recv_timeout(PATIENCE).unwrap();
        assert_eq!(seen.iter().map(|received| received.compressed).collect::<Vec<_>>(), expected, "{threshold}");
        server.join();
    }
}

#[test]
fn a_window_of_8_bits_is_taken_and_messages_go_uncompressed() {
    let (server, seen) = echo_server("; client_max_window_bits=8; server_max_window_bits=8");
    let client = Client::open(&server);
    let text = records(5000, 1);
    client.task.send(&text, |_| ());
    assert_eq!(client.receive(), Ok(Message::from(text)));
    client.task.cancel_with(urlsession::CloseCode::NORMAL_CLOSURE, None);
    assert!(!seen.recv_timeout(PATIENCE).unwrap()[0].compressed);
    server.join();
}

#[test]
fn the_options_are_what_is_offered() {
    type Change = fn(&mut urlsession::WebSocketOptions);
    let table: [(Change, Option<&str>); 6] = [
        (|options| options.permessage_deflate = false, None),
        (|_| (), Some("permessage-deflate; client_max_window_bits")),
        (
            |options| options.server_no_context_takeover = true,
            Some("permessage-deflate; server_no_context_takeover; client_max_window_bits"),
        ),
        (
            |options| options.client_no_context_takeover = true,
            Some("permessage-deflate; client_no_context_takeover; client_max_window_bits"),
        ),
        (
            |options| options.server_max_window_bits = 9,
            Some("permessage-deflate; server_max_window_bits=9; client_max_window_bits"),
        ),
        (|options| options.client_max_window_bits = 12, Some("permessage-deflate; client_max_window_bits=12")),
    ];
    for (change, expected) in table {
        let (sender, request) = mpsc::channel();
        let server = Server::one(move |mut peer| {
            let head = peer.open();
            sender.send(field(&head, EXTENSIONS).map(str::to_owned)).unwrap();
            peer.read_close();
        });
        let mut configuration = SessionConfiguration::default();
        change(&mut configuration.web_socket);
        let client = Client::open_with(&server, configuration);
        assert_eq!(request.recv_timeout(PATIENCE).unwrap().as_deref(), expected);
        assert_eq!(client.extensions(), None);
        client.task.cancel();
        server.join();
    }
}

#[test]
fn a_window_that_cannot_be_asked_for_fails_the_task_before_anything_is_sent() {
    for bits in [0, 8, 16, 255] {
        for side in [true, false] {
            let mut configuration = SessionConfiguration::default();
            let options = &mut configuration.web_socket;
            *(if side { &mut options.client_max_window_bits } else { &mut options.server_max_window_bits }) = bits;
            let (session, _, events) = recorded_session_with(configuration, None);
            let task = session.web_socket_task(urlsession::Url::parse("ws://127.0.0.1:1/").unwrap());
            task.resume();
            events.wait_for("complete -1000");
            let reason = task.error().unwrap().reason().to_owned();
            assert!(reason.contains("max_window_bits") && reason.contains(&bits.to_string()), "{reason}");
        }
    }
}

#[test]
fn a_field_set_by_hand_is_the_offer() {
    let table = [
        ("x-other", None, "", false),
        ("", None, "", false),
        ("permessage-deflate", Some("permessage-deflate"), "", true),
        (
            "permessage-deflate; client_no_context_takeover",
            Some("permessage-deflate; client_no_context_takeover"),
            "",
            true,
        ),
    ];
    for (by_hand, sent, parameters, compresses) in table {
        let (sender, request) = mpsc::channel();
        let (done, seen) = mpsc::channel();
        let server = Server::one(move |mut peer| {
            let head = peer.open_with(&if compresses { accepts(parameters) } else { String::new() });
            sender.send(field(&head, EXTENSIONS).map(str::to_owned)).unwrap();
            let mut codec = Codec::default();
            done.send(codec.read_message(&mut peer).unwrap().compressed).unwrap();
            peer.read_close();
        });
        // The option is off: by hand it is on again.
        let mut configuration = SessionConfiguration::default();
        configuration.web_socket.permessage_deflate = !compresses;
        let (session, _recorder, events) = recorded_session_with(configuration, None);
        let mut request_by_hand = UrlRequest::new(server.url());
        request_by_hand.set_value(by_hand, EXTENSIONS);
        let task = session.web_socket_task(request_by_hand);
        task.resume();
        assert_eq!(events.next(), "open None");
        let expected = sent.or_else(|| Some(by_hand).filter(|value| !value.is_empty()));
        assert_eq!(request.recv_timeout(PATIENCE).unwrap().as_deref(), expected, "{by_hand}");
        task.send(records(3000, 1), |_| ());
        assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), compresses, "{by_hand}");
        task.cancel();
        server.join();
    }
}

/// The server's bytes behind the 101 that answers with `answer`; what the task's delegate is told, and what the server is.
#[track_caller]
fn fails(answer: &str, bytes: Vec<u8>, code: i32, close: Option<u16>) {
    let (sender, told) = mpsc::channel();
    let answer = answer.to_owned();
    let server = Server::one(move |mut peer| {
        peer.open_with(&answer);
        peer.write(&bytes);
        let told = match close {
            Some(_) => peer.read_close().0,
            None => {
                assert_eq!(peer.read_to_end(), b"", "nothing is said to a server that answered wrongly");
                None
            }
        };
        sender.send(told).unwrap();
    });
    let client = Client::new(&server, SessionConfiguration::default());
    client.task.receive(client.recorder.handler("receive"));
    client.task.resume();
    client.events.wait_for(&format!("receive {code}"));
    assert_eq!(client.events.wait_for("complete"), format!("complete {code}"));
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), close);
    assert_eq!(client.task.close_code(), urlsession::CloseCode::INVALID);
    let later = if close.is_some() { 57 } else { code };
    assert_eq!(client.receive(), Err(later));
    server.join();
}

#[test]
fn a_wrong_answer_fails_the_task() {
    let answers = [
        "; unknown",
        "; client_max_window_bits",
        "; server_max_window_bits",
        "; client_max_window_bits=7",
        "; client_max_window_bits=16",
        "; client_max_window_bits=008",
        "; server_max_window_bits=+9",
        "; server_no_context_takeover=1",
        "; server_no_context_takeover; server_no_context_takeover",
        ", permessage-deflate",
        "; =",
        ", x-other",
    ];
    for parameters in answers {
        fails(&accepts(parameters), Vec::new(), -1011, None);
    }
}

#[test]
fn what_is_marked_as_compressed_where_nothing_was_negotiated_breaks_the_protocol() {
    fails("", Codec::default().text("Hello"), 100, Some(1002));
}

#[test]
fn what_cannot_be_decompressed_breaks_the_protocol() {
    fails(&accepts(""), frame(0xc1, b"\x06"), 100, Some(1007));
    fails(&accepts(""), frame(0xc1, &Codec::default().compress(b"\xff")), 100, Some(1007));
    let fragment = Codec::default().compress(b"Hello");
    fails(&accepts(""), [frame(0x41, &fragment[..2]), frame(0xc0, &fragment[2..])].concat(), 100, Some(1002));
    // Refers to a message that it said it would not refer to.
    let mut codec = Codec::default();
    let text = records(200, 1);
    let bytes = [codec.text(&text), codec.text(&text)].concat();
    let server = Server::one(move |mut peer| {
        peer.open_with(&accepts("; server_no_context_takeover"));
        peer.write(&bytes);
        assert_eq!(peer.read_close().0, Some(1007));
    });
    let client = Client::open(&server);
    assert_eq!(client.receive(), Ok(Message::from(text)));
    client.events.wait_for("complete 100");
    server.join();
}

#[test]
fn a_bomb_is_a_message_that_is_too_long() {
    let bomb = || Codec::default().compress(&vec![0; 64 << 20]);
    fails(&accepts(""), frame(0xc2, &bomb()), 40, Some(1009));
    let bomb = bomb();
    let (front, back) = bomb.split_at(300);
    fails(&accepts(""), [frame(0x42, front), frame(0x89, b""), frame(0x80, back)].concat(), 40, Some(1009));
    // The last byte that fits, and the one that does not.
    let server = Server::one(|mut peer| {
        peer.open_with(&accepts(""));
        let mut codec = Codec::default();
        peer.write(&[codec.data(&[1; 999]), codec.data(&[1; 1000])].concat());
        assert_eq!(peer.read_close().0, Some(1009));
    });
    let client = Client::new(&server, SessionConfiguration::default());
    client.task.set_maximum_message_size(1000);
    client.task.resume();
    assert_eq!(client.receive(), Ok(Message::from(vec![1; 999])));
    client.events.wait_for("complete 40");
    server.join();
}

/// What one read brings may be a thousand times as long as it was: nobody has taken it, so it stays compressed until somebody
/// does. Nothing is lost, control frames and the end keep their place.
#[test]
fn what_nobody_takes_stays_compressed() {
    const MESSAGES: usize = 40;
    const LENGTH: usize = 500_000;
    let (go, ready) = mpsc::channel::<()>();
    let server = Server::one(move |mut peer| {
        peer.open_with(&accepts(""));
        let mut codec = Codec::default();
        let mut bytes = Vec::new();
        for number in 0..MESSAGES {
            bytes.extend(codec.data(&vec![number as u8; LENGTH]));
            bytes.extend(frame(0x89, &[number as u8]));
            bytes.extend(frame(0x81, number.to_string().as_bytes()));
        }
        assert!(bytes.len() < 64 * 1024, "all of it comes by one read: {}", bytes.len());
        peer.write(&bytes);
        // Pings are behind what is not taken: the first few are answered at most.
        ready.recv_timeout(PATIENCE).unwrap();
        peer.close(1000, "bye");
        let mut pongs = Vec::new();
        loop {
            let frame = peer.read_frame();
            match frame.opcode() {
                10 => pongs.extend(frame.payload),
                8 => break,
                _ => panic!("{frame:?}"),
            }
        }
        // Of a flood only the latest; the last one always.
        assert_eq!(pongs.last(), Some(&(MESSAGES as u8 - 1)));
    });
    let client = Client::open(&server);
    go.send(()).unwrap();
    // Taken in two ways: one by one, and many waiting.
    for number in 0..MESSAGES / 2 {
        assert!(client.receive() == Ok(Message::from(vec![number as u8; LENGTH])), "{number}");
        assert_eq!(client.receive(), Ok(Message::from(number.to_string())));
    }
    let received = Arc::new(Mutex::new(Vec::new()));
    for _ in MESSAGES / 2..MESSAGES {
        for _ in 0..2 {
            let received = Arc::clone(&received);
            client.task.receive(move |message| received.lock().unwrap().push(message.unwrap()));
        }
    }
    client.events.wait_for("complete None");
    let received = received.lock().unwrap();
    assert_eq!(received.len(), MESSAGES);
    for (index, pair) in received.chunks(2).enumerate() {
        let number = MESSAGES / 2 + index;
        assert!(pair == [Message::from(vec![number as u8; LENGTH]), Message::from(number.to_string())], "{number}");
    }
    server.join();
}

#[test]
fn what_stays_compressed_waits_while_the_task_is_suspended_and_goes_with_a_cancel() {
    const MESSAGES: usize = 30;
    for cancels in [false, true] {
        let (go, ready) = mpsc::channel::<()>();
        let server = Server::one(move |mut peer| {
            peer.open_with(&accepts(""));
            let mut codec = Codec::default();
            let bytes: Vec<u8> = (0..MESSAGES).flat_map(|_| codec.data(&[7; 400_000])).collect();
            peer.write(&bytes);
            ready.recv_timeout(PATIENCE).unwrap();
            if cancels {
                assert_eq!(peer.read_close().0, Some(1001));
                peer.close(1001, "");
            } else {
                peer.close(1000, "");
                peer.read_close();
            }
        });
        let client = Client::open(&server);
        assert!(client.receive() == Ok(Message::from(vec![7; 400_000])));
        client.task.suspend();
        client.task.resume();
        assert!(client.receive() == Ok(Message::from(vec![7; 400_000])));
        go.send(()).unwrap();
        if cancels {
            client.task.cancel_with(urlsession::CloseCode::GOING_AWAY, None);
        } else {
            for _ in 2..MESSAGES {
                assert!(client.receive() == Ok(Message::from(vec![7; 400_000])));
            }
        }
        client.events.wait_for("complete None");
        server.join();
    }
}

/// Each message may refer to the one before, so they must leave in the order in which they were compressed, and one that was
/// refused must not be referred to.
#[test]
fn several_threads_send_and_some_are_refused() {
    const THREADS: usize = 4;
    const MESSAGES: usize = 150;
    for limit in [None, Some(2_000_000)] {
        let (server, seen) = echo_server("");
        let mut configuration = SessionConfiguration::default();
        configuration.web_socket.maximum_send_queue = limit;
        let client = Client::open_with(&server, configuration);
        if limit.is_some() {
            // Nothing leaves, so that there is no room for all.
            client.task.suspend();
        }
        let sent = Arc::new(Mutex::new(vec![Vec::new(); THREADS]));
        let (done, end) = mpsc::channel();
        thread::scope(|scope| {
            for number in 0..THREADS {
                let (task, sent, done) = (&client.task, &sent, done.clone());
                scope.spawn(move || {
                    for index in 0..MESSAGES {
                        let length = [100, 1500, 9000, 40_000][(index + number) % 4];
                        let text = format!("{number}:{index}:{}", records(length, index % 7));
                        let (sent, done, note) = (Arc::clone(sent), done.clone(), text.clone());
                        task.send(text, move |result| {
                            match result {
                                Ok(()) => sent.lock().unwrap()[number].push(note),
                                Err(error) => assert_eq!(error.raw_code(), 55),
                            }
                            done.send(()).unwrap();
                        });
                    }
                });
            }
        });
        client.task.resume();
        for _ in 0..THREADS * MESSAGES {
            // The server sends all of it back, and would stop to read if nobody took it.
            end.recv_timeout(PATIENCE).expect("each handler is called");
            client.task.receive(|_| ());
        }
        client.task.cancel_with(urlsession::CloseCode::NORMAL_CLOSURE, None);
        let seen = seen.recv_timeout(PATIENCE).unwrap();
        let sent = sent.lock().unwrap();
        assert_eq!(seen.len(), sent.iter().map(Vec::len).sum::<usize>());
        assert_eq!(seen.len() < THREADS * MESSAGES, limit.is_some(), "{}", seen.len());
        for (number, sent) in sent.iter().enumerate() {
            let beginning = format!("{number}:");
            let seen = seen.iter().filter(|received| received.payload.starts_with(beginning.as_bytes()));
            assert!(seen.map(|received| received.payload.as_slice()).eq(sent.iter().map(String::as_bytes)), "{number}");
        }
        server.join();
    }
}

/// Keeps what it is told of the metrics.
struct Measured(mpsc::Sender<TransactionMetrics>);

impl SessionDelegate for Measured {}

impl WebSocketDelegate for Measured {}

impl TaskDelegate for Measured {
    fn did_finish_collecting_metrics(&self, _: &UrlSession, _: &SessionTask, metrics: &TaskMetrics) {
        self.0.send(metrics.transaction_metrics[0].clone()).unwrap();
    }
}

#[test]
fn metrics_count_bytes_before_and_after() {
    for parameters in ["", "; client_no_context_takeover; server_no_context_takeover"] {
        let (sender, metrics) = mpsc::channel();
        let (server, seen) = echo_server(parameters);
        let delegate = Arc::new(Measured(sender));
        let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), None);
        let task = session.web_socket_task(server.url());
        task.resume();
        let (answered, answers) = mpsc::channel();
        let texts = [records(10, 1), records(20_000, 2), records(20_000, 2), records(100_000, 4)];
        for text in &texts {
            let (sent, answered) = (answered.clone(), answered.clone());
            task.send(text, move |result| sent.send(result.is_ok()).unwrap());
            task.receive(move |result| answered.send(result.is_ok()).unwrap());
        }
        for _ in 0..2 * texts.len() {
            assert!(answers.recv_timeout(PATIENCE).unwrap());
        }
        task.cancel_with(urlsession::CloseCode::NORMAL_CLOSURE, None);
        let metrics = metrics.recv_timeout(PATIENCE).unwrap();
        let seen = seen.recv_timeout(PATIENCE).unwrap();
        let total: i64 = texts.iter().map(|text| text.len() as i64).sum();
        assert_eq!(metrics.count_of_request_body_bytes_before_encoding, total);
        assert_eq!(metrics.count_of_response_body_bytes_after_decoding, total);
        let wire: i64 = seen.iter().map(|received| received.wire as i64).sum();
        assert_eq!(metrics.count_of_request_body_bytes_sent, wire);
        let received = metrics.count_of_response_body_bytes_received;
        assert!(received > 0 && received * 2 < total, "{received} of {total}");
        assert_eq!((task.count_of_bytes_sent(), task.count_of_bytes_received()), (total, total));
        server.join();
    }
}

/// Bytes that take long to compress, and get a little smaller.
fn tough(length: usize) -> Vec<u8> {
    noise(length).into_iter().map(|byte| byte % 13).collect()
}

/// Tells what kind each message of the client is as it comes, until the client closes or is gone.
fn telling_server() -> (Server, mpsc::Receiver<usize>) {
    let (sender, came) = mpsc::channel();
    let server = Server::one(move |mut peer| {
        peer.open_with(&accepts(""));
        while let Ok(frame) = peer.try_read_frame() {
            if frame.opcode() == 8 {
                return peer.close(1000, "");
            }
            sender.send(frame.payload.len()).unwrap();
        }
    });
    (server, came)
}

/// Only what is large is compressed, and hardly more than one of those may wait.
fn only_large_messages() -> SessionConfiguration {
    let mut configuration = SessionConfiguration::default();
    configuration.web_socket.compression_threshold = 1_000_000;
    configuration.web_socket.maximum_send_queue = Some(12_000_000);
    configuration
}

/// While a message is compressed, others are sent and told; what was told of before it keeps its place.
#[test]
fn handlers_are_called_in_the_order_of_the_calls() {
    let (server, came) = telling_server();
    let client = Client::open_with(&server, only_large_messages());
    let (task, recorder) = (client.task.clone(), Arc::clone(&client.recorder));
    let large = tough(12_000_000);
    client.task.send("go", move |_| {
        // The first is written at once, the second waits until the queue is full.
        task.send("first", recorder.handler("1 first"));
        task.send(vec![1; 100_000], recorder.handler("2 plain"));
        task.send(large, recorder.handler("4 large"));
    });
    while came.recv_timeout(PATIENCE).unwrap() != 100_000 {}
    client.task.send("meanwhile", client.recorder.handler("3 meanwhile"));
    let mut told: Vec<String> = (0..4).map(|_| client.events.next()).collect();
    // The large one may have been framed before the one that was sent meanwhile.
    told.retain(|event| !event.starts_with('4'));
    assert_eq!(told, ["1 first ok", "2 plain ok", "3 meanwhile ok"]);
    client.task.cancel();
    server.join();
}

/// The end may come while a message is compressed.
#[test]
fn the_end_is_told_last_while_a_message_is_compressed() {
    let (server, came) = telling_server();
    let (other_server, _other_came) = telling_server();
    let queue = urlsession::OperationQueue::new();
    let (session, recorder, events) = recorded_session_with(only_large_messages(), Some(queue));
    let (task, other) = (session.web_socket_task(server.url()), session.web_socket_task(other_server.url()));
    for task in [&task, &other] {
        task.resume();
        assert_eq!(events.next(), "open None");
    }
    let (sending, handlers) = (task.clone(), ["first", "plain", "large"].map(|name| recorder.handler(name)));
    let large = tough(12_000_000);
    other.send("go", move |_| {
        let [first, plain, last] = handlers;
        sending.send("first", first);
        sending.send(vec![1; 100_000], plain);
        sending.send(large, last);
    });
    while came.recv_timeout(PATIENCE).unwrap() != 100_000 {}
    task.cancel();
    // The message that is being compressed is refused when that is done; all others are told before the end.
    events.wait_for("large -999");
    let log = events.log();
    let place =
        |event: &str| log.iter().position(|other| other == event).unwrap_or_else(|| panic!("{event}: {log:#?}"));
    assert!(place("first ok") < place("plain ok") && place("plain ok") < place("complete -999"), "{log:#?}");
    other.cancel();
    server.join();
    other_server.join();
}

/// A connection may break while much of what it brought is still compressed. Whoever takes his time gets all of it.
#[test]
fn what_stays_compressed_is_told_though_the_connection_breaks() {
    const MESSAGES: usize = 30;
    let server = Server::one(|mut peer| {
        peer.open_with(&accepts(""));
        let mut codec = Codec::default();
        let mut bytes = Vec::new();
        for number in 0..MESSAGES {
            bytes.extend(codec.data(&vec![number as u8; 500_000]));
            bytes.extend(frame(0x89, &[number as u8]));
        }
        bytes.extend(support::close_frame(1000, "bye"));
        peer.write(&bytes);
        // And is gone: pongs break the connection.
    });
    let mut configuration = SessionConfiguration::default();
    configuration.web_socket.close_timeout = std::time::Duration::from_millis(500);
    let client = Client::open_with(&server, configuration);
    server.join();
    for number in 0..MESSAGES {
        assert!(client.receive() == Ok(Message::from(vec![number as u8; 500_000])), "{number}");
        // A program that needs longer for all of them than a broken connection is waited for.
        thread::sleep(std::time::Duration::from_millis(100));
    }
    client.events.wait_for("close 1000");
    client.events.wait_for("complete None");
}

/// A pong that was read is none that is missing.
#[test]
fn a_pong_behind_messages_that_stay_compressed_is_not_late() {
    const MESSAGES: usize = 20;
    let server = Server::one(|mut peer| {
        peer.open_with(&accepts(""));
        let mut codec = Codec::default();
        let ping = peer.read_frame();
        assert_eq!(ping.opcode(), 9);
        let mut bytes: Vec<u8> = (0..MESSAGES).flat_map(|_| codec.data(&[7; 100_000])).collect();
        bytes.extend(frame(0x8a, &ping.payload));
        peer.write(&bytes);
        while let Ok(received) = peer.try_read_frame() {
            match received.opcode() {
                9 => peer.write(&frame(0x8a, &received.payload)),
                8 => return,
                _ => panic!("{received:?}"),
            }
        }
    });
    let mut configuration = SessionConfiguration::default();
    configuration.web_socket.ping_interval = Some(std::time::Duration::from_millis(100));
    configuration.web_socket.pong_timeout = std::time::Duration::from_millis(500);
    let queue = urlsession::OperationQueue::immediate();
    let (session, _recorder, events) = recorded_session_with(configuration, Some(queue));
    let task = session.web_socket_task(server.url());
    task.resume();
    assert_eq!(events.next(), "open None");
    let (done, end) = mpsc::channel();
    receive_slowly(task.clone(), MESSAGES, done);
    assert_eq!(end.recv_timeout(PATIENCE), Ok(Ok(())));
    task.cancel();
    server.join();
}

/// Receives one after the other on the thread that reads, and takes longer for all of them than a pong may.
fn receive_slowly(task: WebSocketTask, left: usize, done: mpsc::Sender<Result<(), i32>>) {
    let next = task.clone();
    task.receive(move |message| {
        thread::sleep(std::time::Duration::from_millis(50));
        match message {
            Ok(_) if left > 1 => receive_slowly(next, left - 1, done),
            result => done.send(result.map(drop).map_err(|error| error.raw_code())).unwrap(),
        }
    });
}
