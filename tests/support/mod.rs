//! What the integration tests share: a scripted server that knows nothing of the crate's code, and a delegate that
//! writes down what it is told. Every wait has a bound.

#![allow(dead_code, reason = "each test file uses a part")]

pub mod authority;
#[cfg(target_os = "linux")]
pub mod black_hole;
pub mod counting;
pub mod deflate;
pub mod digest;
pub mod echo;
pub mod executor;
pub mod flood;
pub mod guide;
pub mod hooks;
pub mod link;
#[cfg(target_os = "linux")]
pub mod name_server;
#[cfg(target_os = "linux")]
pub mod namespace;
pub mod origin;
pub mod proxy;
pub mod rows;
pub mod scene;
pub mod socks;
pub mod tls;

use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use urlsession::{
    CloseCode, HttpUrlResponse, Message, OperationQueue, SessionConfiguration, SessionDelegate, SessionTask,
    TaskDelegate, TaskMetrics, Url, UrlError, UrlSession, WebSocketDelegate, WebSocketTask,
};

/// A port of this machine at which nobody listens, and nobody will: it is taken as long as the process lives.
pub fn closed_port() -> u16 {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    std::mem::forget(socket);
    port
}

/// How long a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A server for a fixed number of connections, each given to the script with its number.
pub struct Server {
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// One connection.
    pub fn one(script: impl FnOnce(Peer) + Send + 'static) -> Self {
        let script = Mutex::new(Some(script));
        Self::many(1, move |_, peer| {
            let script = script.lock().unwrap().take().expect("one connection");
            script(peer);
        })
    }

    /// `count` connections, one after the other accepted, each on a thread of its own.
    pub fn many(count: usize, script: impl Fn(usize, Peer) + Send + Sync + 'static) -> Self {
        Self::at(([127, 0, 0, 1], 0), count, script)
    }

    /// [`many`](Self::many) at an address of this machine.
    pub fn at(
        address: impl Into<SocketAddr>,
        count: usize,
        script: impl Fn(usize, Peer) + Send + Sync + 'static,
    ) -> Self {
        let address = address.into();
        let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        let address = listener.local_addr().unwrap();
        let script = Arc::new(script);
        let thread = thread::spawn(move || {
            listener.set_nonblocking(true).unwrap();
            let deadline = Instant::now() + 3 * PATIENCE;
            let mut threads = Vec::new();
            while threads.len() < count && Instant::now() < deadline {
                match listener.accept() {
                    Ok((stream, _)) => {
                        stream.set_nonblocking(false).unwrap();
                        let (script, number) = (Arc::clone(&script), threads.len());
                        threads.push(thread::spawn(move || script(number, Peer::new(stream))));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        thread::park_timeout(Duration::from_millis(1))
                    }
                    Err(error) => panic!("accept: {error}"),
                }
            }
            for thread in threads {
                if let Err(panic) = thread.join() {
                    std::panic::resume_unwind(panic);
                }
            }
        });
        Self { address, thread: Some(thread) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> Url {
        self.url_with("/")
    }

    pub fn url_with(&self, path: &str) -> Url {
        Url::parse(&format!("ws://{}{path}", self.address)).unwrap()
    }

    /// Waits for the scripts; fails where one of them did.
    pub fn join(mut self) {
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
    }
}

/// A frame as it was on the wire, unmasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub first: u8,
    pub masked: bool,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    pub fn is_final(&self) -> bool {
        self.first & 0x80 != 0
    }

    /// The next frame of a stream.
    pub fn read(stream: &mut impl Read) -> io::Result<Self> {
        let mut head = [0; 2];
        stream.read_exact(&mut head)?;
        let masked = head[1] & 0x80 != 0;
        let length = match head[1] & 0x7f {
            126 => {
                let mut bytes = [0; 2];
                stream.read_exact(&mut bytes)?;
                u64::from(u16::from_be_bytes(bytes))
            }
            127 => {
                let mut bytes = [0; 8];
                stream.read_exact(&mut bytes)?;
                u64::from_be_bytes(bytes)
            }
            length => u64::from(length),
        };
        let mut key = [0; 4];
        if masked {
            stream.read_exact(&mut key)?;
        }
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload)?;
        for (index, byte) in payload.iter_mut().enumerate() {
            *byte ^= key[index % 4];
        }
        Ok(Self { first: head[0], masked, payload })
    }
}

/// The server's side of one connection.
pub struct Peer {
    pub stream: TcpStream,
}

impl Peer {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// Reads a request head, to the empty line.
    pub fn read_request(&mut self) -> String {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            self.stream.read_exact(&mut byte).expect("a request");
            head.push(byte[0]);
            assert!(head.len() < 100_000, "a request head without an end");
        }
        String::from_utf8(head).expect("a request in UTF-8")
    }

    /// The bytes of a 101 that answers `request`; `more` are lines, each with its CRLF.
    pub fn switching_protocols(request: &str, more: &str) -> Vec<u8> {
        let accept = accept_for(field(request, "Sec-WebSocket-Key").expect("a key"));
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n{more}\r\n"
        )
        .into_bytes()
    }

    /// Opens the WebSocket; the request.
    pub fn open(&mut self) -> String {
        self.open_with("")
    }

    /// Opens the WebSocket with more header lines; the request.
    pub fn open_with(&mut self, more: &str) -> String {
        let request = self.read_request();
        self.write(&Self::switching_protocols(&request, more));
        request
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the client reads");
    }

    /// One byte at a time, each in a segment of its own as far as the kernel lets it.
    pub fn write_bytewise(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write(&[*byte]);
        }
    }

    pub fn text(&mut self, text: &str) {
        self.write(&frame(0x81, text.as_bytes()));
    }

    pub fn binary(&mut self, data: &[u8]) {
        self.write(&frame(0x82, data));
    }

    pub fn close(&mut self, code: u16, reason: &str) {
        self.write(&close_frame(code, reason));
    }

    /// The next frame of the client, or the error of the connection.
    pub fn try_read_frame(&mut self) -> io::Result<Frame> {
        Frame::read(&mut self.stream)
    }

    pub fn read_frame(&mut self) -> Frame {
        let frame = self.try_read_frame().expect("a frame");
        assert!(frame.masked, "a client masks every frame: RFC 6455 §5.1");
        frame
    }

    /// Reads until the client's Close; its code and reason.
    pub fn read_close(&mut self) -> (Option<u16>, Vec<u8>) {
        loop {
            let frame = self.read_frame();
            if frame.opcode() == 8 {
                return match frame.payload.split_first_chunk::<2>() {
                    Some((code, reason)) => (Some(u16::from_be_bytes(*code)), reason.to_vec()),
                    None => (None, Vec::new()),
                };
            }
        }
    }

    /// Sends every message back until the client closes, and echoes the Close.
    pub fn echo(&mut self) {
        while let Ok(received) = self.try_read_frame() {
            match received.opcode() {
                8 => {
                    let _ = self.stream.write_all(&frame(0x88, &received.payload));
                    return;
                }
                9 => self.write(&frame(0x8a, &received.payload)),
                10 => {}
                _ => self.write(&frame(received.first, &received.payload)),
            }
        }
    }

    /// Waits until the client has closed the connection; what came before, of raw bytes.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.stream.read_to_end(&mut bytes);
        bytes
    }

    /// Drops the connection with a reset instead of an end.
    pub fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// A frame of a server.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(length as u8),
        length @ 126..=65535 => {
            bytes.push(126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(payload);
    bytes
}

/// A Close frame of a server.
pub fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend(reason.as_bytes());
    frame(0x88, &payload)
}

/// `Sec-WebSocket-Accept`: RFC 6455 §4.2.2.
pub fn accept_for(key: &str) -> String {
    STANDARD.encode(Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")))
}

/// The value of a field of a head.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

/// Something that happened, in words: `open None`, `close 1000 Some("bye")`, `complete -1011`, `receive string hello`.
pub type Log = Vec<String>;

/// A delegate that writes down what it is told, and lets handlers write there too.
#[derive(Clone)]
pub struct Recorder {
    log: Arc<Mutex<Log>>,
    sender: Sender<String>,
}

/// Where a test waits for what a [`Recorder`] writes.
pub struct Events {
    log: Arc<Mutex<Log>>,
    receiver: Receiver<String>,
}

pub fn recorder() -> (Arc<Recorder>, Events) {
    let (sender, receiver) = mpsc::channel();
    let log = Arc::new(Mutex::new(Vec::new()));
    (Arc::new(Recorder { log: Arc::clone(&log), sender }), Events { log, receiver })
}

impl Recorder {
    pub fn note(&self, event: impl Into<String>) {
        let event = event.into();
        self.log.lock().unwrap().push(event.clone());
        let _ = self.sender.send(event);
    }

    /// A completion handler that notes `name ok` or `name <Apple's number>`.
    pub fn handler<T>(&self, name: &str) -> impl FnOnce(Result<T, UrlError>) + Send + 'static {
        let (recorder, name) = (self.clone(), name.to_owned());
        move |result| match result {
            Ok(_) => recorder.note(format!("{name} ok")),
            Err(error) => recorder.note(format!("{name} {}", error.raw_code())),
        }
    }

    /// A handler of a receive that notes `name string …`, `name data …` or `name <Apple's number>`.
    pub fn receiver(&self, name: &str) -> impl FnOnce(Result<Message, UrlError>) + Send + 'static {
        let (recorder, name) = (self.clone(), name.to_owned());
        move |result| recorder.note(format!("{name} {}", describe(&result)))
    }
}

pub fn describe(result: &Result<Message, UrlError>) -> String {
    match result {
        Ok(Message::String(text)) => format!("string {text}"),
        Ok(Message::Data(data)) => format!("data {data:?}"),
        Ok(_) => "something".to_owned(),
        Err(error) => error.raw_code().to_string(),
    }
}

impl Events {
    /// Waits for the next event.
    #[track_caller]
    pub fn next(&self) -> String {
        match self.receiver.recv_timeout(PATIENCE) {
            Ok(event) => event,
            Err(error) => panic!("{error}; so far: {:#?}", self.log.lock().unwrap()),
        }
    }

    /// Waits for an event that begins so; it.
    #[track_caller]
    pub fn wait_for(&self, beginning: &str) -> String {
        loop {
            let event = self.next();
            if event.starts_with(beginning) {
                return event;
            }
        }
    }

    /// Waits for the end of a task and asserts what was noted up to then, from the beginning. Metrics are left out.
    #[track_caller]
    pub fn expect(&self, expected: &[impl AsRef<str> + Debug]) {
        self.wait_for("complete");
        let log: Log = self.log().into_iter().filter(|event| event != "metrics").collect();
        let expected: Vec<&str> = expected.iter().map(AsRef::as_ref).collect();
        assert_eq!(log, expected);
    }

    /// Waits until the socket is open and asserts what was noted up to then, from the beginning.
    #[track_caller]
    pub fn expect_to_open(&self, before: &[impl AsRef<str> + Debug]) {
        self.wait_for("open");
        let log = self.log();
        let expected: Vec<&str> = before.iter().map(AsRef::as_ref).collect();
        assert_eq!(log.split_last().unwrap().1, expected);
    }

    /// Nothing more comes for a moment (of a fixed length: for the absence of an event there is nothing to wait for).
    #[track_caller]
    pub fn expect_silence(&self, moment: Duration) {
        match self.receiver.recv_timeout(moment) {
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            Ok(event) => panic!("unexpected: {event}"),
        }
    }

    pub fn log(&self) -> Log {
        self.log.lock().unwrap().clone()
    }
}

impl SessionDelegate for Recorder {
    fn did_become_invalid_with_error(&self, _session: &UrlSession, error: Option<&UrlError>) {
        self.note(format!("invalid {:?}", error.map(UrlError::raw_code)));
    }
}

impl TaskDelegate for Recorder {
    fn did_receive_informational_response(
        &self,
        _session: &UrlSession,
        _task: &SessionTask,
        response: &HttpUrlResponse,
    ) {
        self.note(format!("informational {}", response.status_code()));
    }

    fn task_is_waiting_for_connectivity(&self, _session: &UrlSession, _task: &SessionTask) {
        self.note("waiting");
    }

    fn did_finish_collecting_metrics(&self, _session: &UrlSession, _task: &SessionTask, _metrics: &TaskMetrics) {
        self.note("metrics");
    }

    fn did_complete_with_error(&self, _session: &UrlSession, _task: &SessionTask, error: Option<&UrlError>) {
        match error {
            None => self.note("complete None"),
            Some(error) => self.note(format!("complete {}", error.raw_code())),
        }
    }
}

impl WebSocketDelegate for Recorder {
    fn did_open_with_protocol(&self, _session: &UrlSession, _task: &WebSocketTask, protocol: Option<&str>) {
        self.note(format!("open {protocol:?}"));
    }

    fn did_close_with(&self, _session: &UrlSession, _task: &WebSocketTask, code: CloseCode, reason: Option<&[u8]>) {
        self.note(format!("close {code} {:?}", reason.map(String::from_utf8_lossy)));
    }
}

/// A session with a recorder for its delegate, and the default configuration.
pub fn recorded_session() -> (UrlSession, Arc<Recorder>, Events) {
    recorded_session_with(SessionConfiguration::default(), None)
}

pub fn recorded_session_with(
    configuration: SessionConfiguration,
    queue: Option<OperationQueue>,
) -> (UrlSession, Arc<Recorder>, Events) {
    let (recorder, events) = recorder();
    let session = UrlSession::with_delegate(configuration, Some(recorder.clone()), queue);
    (session, recorder, events)
}
