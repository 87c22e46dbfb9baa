//! One connection to a server of another library: what both sides agreed on, that every message came back, and what was
//! on the wire, as a relay between them saw it.

use std::env;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use urlsession::{CloseCode, Message, SessionConfiguration, UrlRequest, UrlSession, WebSocketOptions, WebSocketTask};

use crate::support::{Events, Frame, PATIENCE, Peer, Server, recorded_session_with};

const EXTENSIONS: &str = "Sec-WebSocket-Extensions";

/// A server that `tests/interop/run` has started.
pub struct Library {
    pub name: &'static str,
    address: SocketAddr,
}

/// Those that are there; says so where none is.
pub fn libraries() -> Vec<Library> {
    let variables = [("ws", "URLSESSION_INTEROP_WS"), ("websockets", "URLSESSION_INTEROP_WEBSOCKETS")];
    let library = |(name, variable)| {
        let Ok(address) = env::var(variable) else {
            println!("{variable} is not set: there is no server by {name}");
            return None;
        };
        Some(Library { name, address: address.parse().unwrap_or_else(|error| panic!("{variable}: {error}")) })
    };
    variables.into_iter().filter_map(library).collect()
}

/// What is asked for, of either side.
#[derive(Clone, Debug, Default)]
pub struct Setup<'a> {
    /// The query of the request: what the server does.
    pub query: &'a str,
    pub options: WebSocketOptions,
    /// The field by which a caller offers extensions by hand.
    pub offer: Option<&'a str>,
}

impl Setup<'_> {
    pub fn with_options(change: impl FnOnce(&mut WebSocketOptions)) -> Self {
        let mut setup = Self::default();
        change(&mut setup.options);
        setup
    }
}

/// What came of a connection.
pub struct Exchange {
    /// The parameters of permessage-deflate that the server answered, sorted; `None` where there was no such answer.
    pub agreed: Option<Vec<String>>,
    /// The messages of the client.
    pub sent: Vec<Passed>,
    /// The messages of the server.
    pub received: Vec<Passed>,
}

/// A message on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    pub compressed: bool,
    pub frames: usize,
    pub bytes: usize,
}

/// Sends the messages, all of which come back as they were, and closes.
pub fn exchange(library: &Library, setup: &Setup<'_>, messages: &[Message]) -> Exchange {
    let (relay, bytes) = relay(library.address);
    let (session, task, events) = begin(library, setup, &relay);
    assert_eq!(events.next(), "open None");
    let agreed = task.response().and_then(|response| response.value(EXTENSIONS)).map(|answer| parameters(&answer));
    for message in messages {
        task.send(message.clone(), |_| ());
    }
    for (index, message) in messages.iter().enumerate() {
        let (sender, receiver) = mpsc::channel();
        task.receive(move |result| sender.send(result).unwrap());
        match receiver.recv_timeout(PATIENCE) {
            Ok(Ok(received)) => assert!(received == *message, "message {index} came back changed: {received:?}"),
            Ok(Err(error)) => panic!("message {index} did not come back: {error}; {:#?}", events.log()),
            Err(error) => panic!("message {index} did not come back: {error}"),
        }
    }
    task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
    events.expect(&["open None", "close 1000 None", "complete None"]);
    session.finish_tasks_and_invalidate();
    relay.join();
    let [sent, received] = bytes.recv().unwrap().map(|stream| on_the_wire(&stream));
    Exchange { agreed, sent, received }
}

/// A server that does not open a WebSocket for that: the status with which it refuses.
pub fn refusal(library: &Library, setup: &Setup<'_>) -> u16 {
    let (relay, _) = relay(library.address);
    let (session, task, events) = begin(library, setup, &relay);
    events.expect(&["complete -1011"]);
    session.finish_tasks_and_invalidate();
    relay.join();
    task.response().expect("an answer").status_code()
}

fn begin(library: &Library, setup: &Setup<'_>, relay: &Server) -> (UrlSession, WebSocketTask, Events) {
    // A test that fails shows the last one.
    println!("{} {setup:?}", library.name);
    let mut configuration = SessionConfiguration::default();
    configuration.web_socket = setup.options.clone();
    let (session, _, events) = recorded_session_with(configuration, None);
    let mut request = UrlRequest::new(relay.url_with(&format!("/?{}", setup.query)));
    if let Some(offer) = setup.offer {
        request.set_value(offer, EXTENSIONS);
    }
    let task = session.web_socket_task(request);
    task.resume();
    (session, task, events)
}

/// Those of permessage-deflate, which is the only extension of an answer.
fn parameters(answer: &str) -> Vec<String> {
    let mut parts = answer.split(';').map(|part| part.trim().to_owned());
    assert_eq!(parts.next().as_deref(), Some("permessage-deflate"), "{answer}");
    let mut parameters: Vec<String> = parts.collect();
    parameters.sort();
    parameters
}

/// Stands for `server` for one connection; the bytes that each side sent, the client first, when both are done.
fn relay(server: SocketAddr) -> (Server, Receiver<[Vec<u8>; 2]>) {
    let (sender, bytes) = mpsc::channel();
    let relay = Server::one(move |client| {
        let server = Peer::new(TcpStream::connect(server).expect("the server listens"));
        thread::scope(|scope| {
            let sent = scope.spawn(|| pass_on(&client.stream, &server.stream));
            let received = pass_on(&server.stream, &client.stream);
            // Where a test has failed, nobody waits for them.
            let _ = sender.send([sent.join().unwrap(), received]);
        });
    });
    (relay, bytes)
}

/// Until the end; what it was.
fn pass_on(mut from: &TcpStream, mut to: &TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                all.extend_from_slice(&buffer[..count]);
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    all
}

/// The messages behind the head.
fn on_the_wire(stream: &[u8]) -> Vec<Passed> {
    let end = stream.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head") + 4;
    let mut frames = &stream[end..];
    let mut messages: Vec<Passed> = Vec::new();
    while let Ok(frame) = Frame::read(&mut frames) {
        let compressed = frame.first & 0x40 != 0;
        match frame.opcode() {
            0 => {
                let message = messages.last_mut().expect("a fragment continues a message");
                message.frames += 1;
                message.bytes += frame.payload.len();
            }
            1 | 2 => messages.push(Passed { compressed, frames: 1, bytes: frame.payload.len() }),
            _ => {}
        }
        // RFC 7692 §6: only the first frame of a message says so.
        assert!(!compressed || matches!(frame.opcode(), 1 | 2), "RSV1 with opcode {}", frame.opcode());
    }
    messages
}
