//! Messages both ways on an open socket: sizes and fragments, order, back-pressure, limits of the queue and of the size.

mod support;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use socket2::SockRef;
use support::hooks::eventually;
use support::{Events, PATIENCE, Peer, Recorder, Server, frame, recorded_session, recorded_session_with};
use urlsession::{Message, SessionConfiguration, UrlError, UrlSession, WebSocketTask};

const MIB: usize = 1024 * 1024;

/// A moment in which something must not happen.
const MOMENT: Duration = Duration::from_millis(50);

/// A task and what it needs to live.
struct Client {
    session: UrlSession,
    task: WebSocketTask,
    recorder: Arc<Recorder>,
    events: Events,
}

impl Client {
    /// Suspended.
    fn new(server: &Server, configuration: SessionConfiguration) -> Self {
        let (session, recorder, events) = recorded_session_with(configuration, None);
        let task = session.web_socket_task(server.url());
        Self { session, task, recorder, events }
    }

    fn open(server: &Server) -> Self {
        let client = Self::new(server, SessionConfiguration::default());
        client.task.resume();
        assert_eq!(client.events.next(), "open None");
        client
    }

    /// Receives one message.
    #[track_caller]
    fn receive(&self) -> Result<Message, i32> {
        let (sender, receiver) = mpsc::channel();
        self.task.receive(move |result| sender.send(result).unwrap());
        received(&receiver)
    }
}

#[track_caller]
fn received(receiver: &Receiver<Result<Message, UrlError>>) -> Result<Message, i32> {
    receiver.recv_timeout(PATIENCE).expect("a handler is called").map_err(|error| error.raw_code())
}

/// Bytes that are different at each place, and ASCII.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| b' ' + ((index * 7 + index / 251 + length) % 90) as u8).collect()
}

/// A signal, and who waits for it.
fn signal() -> (Sender<()>, impl FnOnce() + Send) {
    let (sender, receiver) = mpsc::channel();
    (sender, move || receiver.recv_timeout(PATIENCE).unwrap())
}

#[test]
fn text_and_binary_of_every_size_come_back() {
    let server = Server::one(|mut peer| {
        peer.open();
        peer.echo();
    });
    let client = Client::open(&server);
    client.task.set_maximum_message_size(5 * MIB + 1);
    let sizes = [0, 1, 124, 125, 126, 127, 1000, 16_383, 16_384, 65_535, 65_536, 65_537, MIB - 1, MIB, 5 * MIB];
    let mut total = 0;
    for size in sizes {
        let data = pattern(size);
        let text = String::from_utf8(data.clone()).unwrap();
        for message in [Message::Data(data), Message::String(text)] {
            client.task.send(message.clone(), client.recorder.handler("send"));
            assert!(client.receive() == Ok(message), "a message of {size} bytes");
            assert_eq!(client.events.next(), "send ok");
            total += size as i64;
        }
    }
    for text in ["\u{0}", "\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}", "\u{feff}bom", "e\u{301}"] {
        client.task.send(text, |_| ());
        assert_eq!(client.receive(), Ok(Message::String(text.to_owned())));
        total += text.len() as i64;
    }
    assert_eq!((client.task.count_of_bytes_sent(), client.task.count_of_bytes_received()), (total, total));
    client.task.cancel();
    server.join();
}

#[test]
fn frames_are_whole_masked_and_of_the_shortest_form() {
    let (sender, keys) = mpsc::channel();
    let server = Server::one(move |mut peer| {
        peer.open();
        for (length, header) in [
            (0, vec![0x82, 0x80]),
            (125, vec![0x82, 0x80 | 125]),
            (126, vec![0x82, 0x80 | 126, 0, 126]),
            (65_535, vec![0x82, 0x80 | 126, 0xff, 0xff]),
            (65_536, vec![0x82, 0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            for _ in 0..20 {
                let mut bytes = vec![0; header.len() + 4 + length];
                peer.stream.read_exact(&mut bytes).unwrap();
                assert_eq!(bytes[..header.len()], header, "{length}");
                let key: [u8; 4] = bytes[header.len()..header.len() + 4].try_into().unwrap();
                let payload = &bytes[header.len() + 4..];
                assert!(payload.iter().zip(key.iter().cycle()).all(|(byte, key)| byte ^ key == 7), "{length}");
                sender.send(key).unwrap();
            }
        }
        peer.read_close();
    });
    let client = Client::open(&server);
    for length in [0, 125, 126, 65_535, 65_536] {
        for _ in 0..20 {
            client.task.send(vec![7; length], |_| ());
        }
    }
    let keys: HashSet<[u8; 4]> = (0..100).map(|_| keys.recv_timeout(PATIENCE).unwrap()).collect();
    // Of unpredictable keys, two in a hundred are the same once in a million runs, three once in 10^14.
    assert!(keys.len() >= 98, "{} keys in 100 frames", keys.len());
    client.task.cancel();
    server.join();
}

/// Fragments of both kinds, empty ones too, control frames between them, characters that are cut.
fn fragments() -> Vec<u8> {
    [
        frame(0x01, "g\u{e9}".as_bytes().split_at(2).0),
        frame(0x89, b"between"),
        frame(0x00, b""),
        frame(0x00, "g\u{e9}".as_bytes().split_at(2).1),
        frame(0x8a, b"unasked"),
        frame(0x80, "\u{1f600}".as_bytes()),
        frame(0x02, b""),
        frame(0x00, &[0xff; 200]),
        frame(0x89, &[9; 125]),
        frame(0x80, b""),
        frame(0x81, b""),
        frame(0x02, b"x"),
        frame(0x80, b"y"),
    ]
    .concat()
}

#[test]
fn fragments_are_joined_and_control_frames_go_between_them() {
    for bytewise in [false, true] {
        let server = Server::one(move |mut peer| {
            peer.open();
            if bytewise {
                // A pong for each ping: the other is not sent before the first is answered.
                let bytes = fragments();
                let second = bytes.windows(2).position(|bytes| bytes == [0x89, 125]).unwrap();
                peer.write_bytewise(&bytes[..second]);
                assert_eq!(peer.read_frame().payload, b"between");
                peer.write_bytewise(&bytes[second..]);
            } else {
                peer.write(&fragments());
            }
            // Where both came at once the later one is enough: RFC 6455 §5.5.3.
            let mut pong = peer.read_frame();
            if pong.payload == b"between" {
                pong = peer.read_frame();
            }
            assert_eq!((pong.first, pong.payload), (0x8a, vec![9; 125]));
            peer.close(1000, "");
            peer.read_close();
        });
        let (session, recorder, events) = recorded_session();
        let task = session.web_socket_task(server.url());
        for _ in 0..5 {
            task.receive(recorder.receiver("receive"));
        }
        task.resume();
        events.expect(&[
            "open None",
            "receive string g\u{e9}\u{1f600}",
            &format!("receive data {:?}", [0xff; 200]),
            "receive string ",
            "receive data [120, 121]",
            "receive 57",
            "close 1000 Some(\"\")",
            "complete None",
        ]);
        server.join();
    }
}

#[test]
fn a_large_message_in_many_fragments() {
    let server = Server::one(|mut peer| {
        peer.open();
        let data = pattern(3 * MIB);
        let pieces: Vec<&[u8]> = data.chunks(100_003).collect();
        for (index, piece) in pieces.iter().enumerate() {
            let opcode = if index == 0 { 0x02 } else { 0x00 };
            let fin = if index + 1 == pieces.len() { 0x80 } else { 0 };
            peer.write(&frame(fin | opcode, piece));
        }
        peer.echo();
    });
    let client = Client::new(&server, SessionConfiguration::default());
    client.task.set_maximum_message_size(0);
    client.task.resume();
    assert!(client.receive() == Ok(Message::Data(pattern(3 * MIB))));
    client.task.cancel();
    server.join();
}

#[test]
fn receives_are_served_in_order_of_their_calls() {
    let (go, wait) = signal();
    let server = Server::one(move |mut peer| {
        peer.open();
        wait();
        for number in 0..100 {
            peer.text(&number.to_string());
        }
        peer.echo();
    });
    let client = Client::new(&server, SessionConfiguration::default());
    // Before resume, before the messages, and, from inside handlers, after them.
    let more = |names: std::ops::Range<usize>| {
        for name in names {
            client.task.receive(client.recorder.receiver(&name.to_string()));
        }
    };
    more(0..30);
    client.task.resume();
    client.events.wait_for("open");
    more(30..60);
    go.send(()).unwrap();
    client.events.wait_for("59");
    let (task, recorder) = (client.task.clone(), Arc::clone(&client.recorder));
    client.task.receive(move |result| {
        recorder.receiver("60")(result);
        for name in 61..100 {
            task.receive(recorder.receiver(&name.to_string()));
        }
    });
    client.events.wait_for("99");
    let expected: Vec<String> = (0..100).map(|number| format!("{number} string {number}")).collect();
    assert_eq!(client.events.log()[1..], expected);
    client.task.cancel();
    server.join();
}

#[test]
fn without_a_receive_the_socket_is_read_ahead_and_then_no_more() {
    const MESSAGE: usize = 32 * 1024;
    const COUNT: usize = 1024;
    let finished = Arc::new(AtomicBool::new(false));
    let has_finished = Arc::clone(&finished);
    let server = Server::one(move |mut peer| {
        peer.open();
        for number in 0..COUNT {
            let mut data = vec![0; MESSAGE];
            data[..8].copy_from_slice(&number.to_be_bytes());
            peer.binary(&data);
        }
        has_finished.store(true, Ordering::SeqCst);
        peer.close(1000, "");
        peer.read_close();
    });
    let client = Client::open(&server);
    // As much as the limit of one message is read, and what else was in the last read (256 KiB).
    eventually("reading stops", || client.task.count_of_bytes_received() >= MIB as i64 - MESSAGE as i64);
    client.events.expect_silence(MOMENT);
    let ahead = client.task.count_of_bytes_received();
    assert!(ahead <= (MIB + 300 * 1024) as i64, "{ahead} bytes were read ahead");
    assert!(!finished.load(Ordering::SeqCst), "the kernel took everything");
    for number in 0..COUNT {
        let Ok(Message::Data(data)) = client.receive() else { panic!("message {number}") };
        assert_eq!((data.len(), &data[..8]), (MESSAGE, &number.to_be_bytes()[..]));
    }
    client.events.wait_for("complete None");
    server.join();
}

#[test]
fn a_dropped_future_of_a_receive_loses_no_message() {
    let (go, wait) = signal();
    let server = Server::one(move |mut peer| {
        peer.open();
        wait();
        for text in ["one", "two", "three"] {
            peer.text(text);
        }
        peer.echo();
    });
    let client = Client::open(&server);
    drop(client.task.receive_async());
    let waiting = client.task.receive_async();
    let kept = client.task.receive_async();
    go.send(()).unwrap();
    // `waiting` and `kept` have got messages that nobody looked at when these two arrive.
    eventually("the messages are there", || client.task.count_of_bytes_received() == 11);
    let (told, flushed) = mpsc::channel();
    client.session.flush(move || told.send(()).unwrap());
    flushed.recv_timeout(PATIENCE).unwrap();
    drop(waiting);
    drop(kept);
    for text in ["one", "two", "three"] {
        assert_eq!(client.receive(), Ok(Message::from(text)));
    }
    client.task.cancel();
    server.join();
}

#[test]
fn sends_from_before_the_opening_leave_in_order() {
    let (go, wait) = signal();
    let server = Server::one(move |mut peer| {
        let request = peer.read_request();
        wait();
        peer.write(&Peer::switching_protocols(&request, ""));
        for number in 0..9_usize {
            let frame = peer.read_frame();
            assert!(frame.is_final() && frame.payload == pattern(number * 10_000), "message {number}");
        }
        peer.close(1000, "");
        peer.read_close();
    });
    let client = Client::new(&server, SessionConfiguration::default());
    let send = |numbers: std::ops::Range<usize>| {
        for number in numbers {
            client.task.send(pattern(number * 10_000), client.recorder.handler(&format!("send {number}")));
        }
    };
    send(0..4);
    assert_eq!(client.task.buffered_amount(), 60_000);
    client.task.resume();
    send(4..8);
    assert_eq!(client.task.buffered_amount(), 280_000);
    client.events.expect_silence(MOMENT);
    go.send(()).unwrap();
    send(8..9);
    client.events.wait_for("complete None");
    let log = client.events.log();
    let sent: Vec<&String> = log.iter().filter(|event| event.starts_with("send")).collect();
    assert_eq!(sent, (0..9).map(|number| format!("send {number} ok")).collect::<Vec<_>>().iter().collect::<Vec<_>>());
    assert_eq!(client.task.buffered_amount(), 0);
    server.join();
}

#[test]
fn threads_send_whole_messages_each_in_its_order() {
    const THREADS: usize = 4;
    const EACH: usize = 300;
    let (told, numbers) = mpsc::channel();
    let server = Server::one(move |mut peer| {
        peer.open();
        let mut next = [0; THREADS];
        for _ in 0..THREADS * EACH {
            let frame = peer.read_frame();
            assert!(frame.is_final());
            let sender = usize::from(frame.payload[0]);
            let number = usize::from(u16::from_be_bytes([frame.payload[1], frame.payload[2]]));
            assert_eq!(number, next[sender], "thread {sender}");
            next[sender] += 1;
            assert!(
                frame.payload.len() == 3 + number * 31 && frame.payload[3..].iter().all(|&byte| byte == sender as u8)
            );
        }
        told.send(()).unwrap();
        peer.read_close();
    });
    let client = Client::open(&server);
    let barrier = Arc::new(Barrier::new(THREADS));
    let called = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..THREADS)
        .map(|sender| {
            let (task, barrier, called) = (client.task.clone(), Arc::clone(&barrier), Arc::clone(&called));
            thread::spawn(move || {
                barrier.wait();
                for number in 0..EACH {
                    let mut data = vec![sender as u8];
                    data.extend((number as u16).to_be_bytes());
                    data.resize(3 + number * 31, sender as u8);
                    let called = Arc::clone(&called);
                    task.send(data, move |result| {
                        result.unwrap();
                        called.fetch_add(1, Ordering::SeqCst);
                    });
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    numbers.recv_timeout(PATIENCE).unwrap();
    eventually("every handler is called", || called.load(Ordering::SeqCst) == THREADS * EACH);
    client.task.cancel();
    server.join();
}

#[test]
fn handlers_of_sends_are_called_as_a_slow_server_reads() {
    const COUNT: usize = 8;
    const LENGTH: usize = 4 * MIB;
    let (go, wait) = signal();
    let server = Server::one(move |mut peer| {
        peer.open();
        wait();
        for number in 0..COUNT {
            let mut message: Vec<u8> = Vec::new();
            loop {
                let frame = peer.read_frame();
                message.extend(&frame.payload);
                if frame.is_final() {
                    break;
                }
            }
            assert!(message.len() == LENGTH && message.iter().all(|&byte| byte == number as u8));
        }
        peer.close(1000, "");
        peer.read_close();
    });
    let client = Client::open(&server);
    for number in 0..COUNT {
        client.task.send(vec![number as u8; LENGTH], client.recorder.handler(&format!("send {number}")));
    }
    thread::park_timeout(MOMENT);
    let called = client.events.log().len() - 1;
    let buffered = client.task.buffered_amount();
    // Whole messages wait, at least the last one, and none of which a handler was called.
    assert!(buffered >= LENGTH && buffered.is_multiple_of(LENGTH), "{buffered} bytes wait");
    assert!(called * LENGTH + buffered <= COUNT * LENGTH, "{called} handlers were called, {buffered} bytes wait");
    go.send(()).unwrap();
    client.events.wait_for("complete None");
    let log = client.events.log();
    for number in 0..COUNT {
        assert_eq!(log[1 + number], format!("send {number} ok"));
    }
    assert_eq!(client.task.buffered_amount(), 0);
    server.join();
}

#[test]
fn a_send_that_would_pass_the_queue_fails_alone() {
    let (go, wait) = signal();
    let server = Server::one(move |mut peer| {
        peer.open();
        for length in [60, 40, 0] {
            assert_eq!(peer.read_frame().payload.len(), length);
        }
        wait();
        assert_eq!(peer.read_frame().payload, b"room again");
        peer.close(1000, "");
        peer.read_close();
    });
    let mut configuration = SessionConfiguration::default();
    configuration.web_socket.maximum_send_queue = Some(100);
    let client = Client::new(&server, configuration);
    client.task.send(vec![0; 101], client.recorder.handler("too large"));
    assert_eq!(client.events.next(), "too large 55");
    for length in [60, 41, 40, 1, 0] {
        client.task.send(vec![0; length], client.recorder.handler(&length.to_string()));
    }
    assert_eq!(client.task.buffered_amount(), 100);
    client.task.resume();
    client.events.wait_for("0 ok");
    assert_eq!(client.events.log(), ["too large 55", "open None", "60 ok", "41 55", "40 ok", "1 55", "0 ok"]);
    client.task.send("room again", client.recorder.handler("again"));
    assert_eq!(client.events.next(), "again ok");
    go.send(()).unwrap();
    client.events.wait_for("complete None");
    server.join();
}

#[test]
fn a_message_must_be_smaller_than_the_limit() {
    for limit in [1, 2, 125, 126, 127, 65_535, 65_536, 65_537, MIB] {
        let server = Server::one(move |mut peer| {
            peer.open();
            peer.binary(&vec![1; limit - 1]);
            peer.write(&frame(0x82, &vec![2; limit]));
            assert_eq!(peer.read_close().0, Some(1009));
        });
        let client = Client::new(&server, SessionConfiguration::default());
        if limit == MIB {
            assert_eq!(client.task.maximum_message_size(), MIB);
        } else {
            client.task.set_maximum_message_size(limit);
        }
        let results: Vec<_> = (0..2)
            .map(|_| {
                let (sender, receiver) = mpsc::channel();
                client.task.receive(move |result| sender.send(result).unwrap());
                receiver
            })
            .collect();
        client.task.resume();
        assert!(received(&results[0]) == Ok(Message::Data(vec![1; limit - 1])), "{limit}");
        assert_eq!(received(&results[1]), Err(40), "{limit}");
        client.events.wait_for("complete 40");
        server.join();
    }
}

#[test]
fn the_limit_may_be_changed_at_any_time() {
    let (go, wait) = signal();
    let server = Server::one(move |mut peer| {
        peer.open();
        for length in [2 * MIB, 10 * MIB, 999] {
            assert_eq!(peer.read_frame().payload, b"next");
            peer.binary(&vec![7; length]);
        }
        assert_eq!(peer.read_frame().payload, b"next");
        let message = frame(0x82, &[0; 500_000]);
        peer.write(&message[..200_000]);
        wait();
        // The client may be gone before the last byte.
        let _ = peer.stream.write_all(&message[200_000..]);
        assert_eq!(peer.read_close().0, Some(1009));
    });
    let client = Client::open(&server);
    for (limit, length) in [(2 * MIB + 1, 2 * MIB), (0, 10 * MIB), (1000, 999)] {
        client.task.set_maximum_message_size(limit);
        assert_eq!(client.task.maximum_message_size(), limit);
        client.task.send("next", |_| ());
        assert!(client.receive() == Ok(Message::Data(vec![7; length])), "{length}");
    }
    client.task.set_maximum_message_size(MIB);
    client.task.send("next", |_| ());
    client.task.receive(client.recorder.receiver("receive"));
    client.events.expect_silence(MOMENT);
    // It counts for the message that is on its way, at its next byte.
    client.task.set_maximum_message_size(200_000);
    client.events.expect_silence(MOMENT);
    go.send(()).unwrap();
    assert_eq!(client.events.next(), "receive 40");
    client.events.wait_for("complete 40");
    server.join();
}

#[test]
fn a_pong_overtakes_a_large_message_at_the_boundary_of_a_frame() {
    const LENGTH: usize = 16 * MIB;
    let (go, wait) = signal();
    let server = Server::one(move |mut peer| {
        SockRef::from(&peer.stream).set_recv_buffer_size(64 * 1024).unwrap();
        peer.open();
        // The message has begun, and cannot end before it is read.
        let mut begun = [0; 100];
        assert_eq!(peer.stream.peek(&mut begun).map(|count| count > 0).ok(), Some(true));
        peer.write(&frame(0x89, b"first"));
        peer.write(&frame(0x89, b"latest"));
        peer.text("both pings are read");
        wait();
        let mut pongs = Vec::new();
        let mut message: Vec<u8> = Vec::new();
        let mut frames = 0;
        loop {
            let frame = peer.read_frame();
            if frame.opcode() == 10 {
                pongs.push((frames, frame.payload));
                continue;
            }
            assert_eq!(frame.opcode(), if frames == 0 { 2 } else { 0 }, "fragments of one message: RFC 6455 \u{a7}5.4");
            frames += 1;
            message.extend(&frame.payload);
            if frame.is_final() {
                break;
            }
        }
        assert!(message == pattern(LENGTH));
        // Behind the frame that was on its way; of several pings the latest is answered (§5.5.3).
        assert!(pongs.iter().all(|(behind, _)| (1..frames).contains(behind)), "{pongs:?} of {frames} frames");
        assert_eq!(pongs.last().unwrap().1, b"latest");
        peer.close(1000, "");
        peer.read_close();
    });
    let client = Client::open(&server);
    client.task.send(pattern(LENGTH), client.recorder.handler("send"));
    assert_eq!(client.receive(), Ok(Message::from("both pings are read")));
    go.send(()).unwrap();
    client.events.wait_for("send ok");
    client.events.wait_for("complete None");
    server.join();
}
