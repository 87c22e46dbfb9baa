//! A server that answers any number of requests, on any number of connections, and knows what it was asked.

#![allow(dead_code, reason = "each test file uses a part")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::ServerConfig;
use urlsession::Url;

use super::link::{Link, Visit};
use super::{Frame, PATIENCE, accept_for, field, frame};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which connection it came on, from 0.
    pub connection: usize,
    /// How many requests came before it, on all connections.
    pub number: usize,
    /// It came through TLS.
    pub secure: bool,
    pub head: String,
}

impl Request {
    pub fn method(&self) -> &str {
        self.head.split(' ').next().unwrap_or_default()
    }

    /// The target of the request line.
    pub fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    /// Every value of a field, so that one that came twice is seen.
    pub fn fields(&self, name: &str) -> Vec<&str> {
        let lines = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }
}

/// What becomes of a request.
pub enum Answer {
    /// These bytes; then the next request of the connection.
    Keep(String),
    /// The same, one byte at a time.
    Bytewise(String),
    /// These bytes; then the end of the connection.
    Close(String),
    /// The end of the connection.
    Nothing,
    /// A reset of the connection.
    Reset,
    /// The first bytes, the others when the test says so; then the next request of the connection.
    Staged(String, Receiver<()>, String),
    /// The 101, with these lines more; then every message comes back, and the Close is echoed.
    Open(String),
}

/// A response without a body, with these lines.
pub fn head(status: &str, lines: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n{lines}\r\n")
}

/// A redirect to `location`.
pub fn redirect(status: u16, location: &str) -> String {
    head(&format!("{status} Elsewhere"), &format!("Location: {location}\r\n"))
}

/// A 401 with these challenges.
pub fn unauthorized(challenges: &[&str]) -> String {
    let lines: String = challenges.iter().map(|challenge| format!("WWW-Authenticate: {challenge}\r\n")).collect();
    head("401 Unauthorized", &lines)
}

trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

/// Whether a server speaks TLS.
enum Speaks {
    Plain,
    Tls(Arc<ServerConfig>),
    /// Whichever the client begins with: two origins that differ in the scheme alone.
    Both(Arc<ServerConfig>),
}

/// The server. It ends, with its connections, when it is dropped.
pub struct Origin {
    address: SocketAddr,
    scheme: &'static str,
    seen: Arc<Mutex<Vec<Request>>>,
    connections: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
    visits: Arc<Mutex<Vec<Visit>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Origin {
    /// For `ws`.
    pub fn new(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::with("127.0.0.1", Speaks::Plain, answer)
    }

    /// For `wss`.
    pub fn secure(config: Arc<ServerConfig>, answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::with("127.0.0.1", Speaks::Tls(config), answer)
    }

    /// For `ws` at `::1`; `None` where this machine has no such address.
    pub fn new_v6(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Option<Self> {
        TcpListener::bind("[::1]:0").ok().map(|_| Self::with("[::1]", Speaks::Plain, answer))
    }

    /// For `wss` at `::1`; `None` where this machine has no such address.
    pub fn secure_v6(
        config: Arc<ServerConfig>,
        answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Option<Self> {
        TcpListener::bind("[::1]:0").ok().map(|_| Self::with("[::1]", Speaks::Tls(config), answer))
    }

    /// For `ws` and `wss` on one port.
    pub fn both(config: Arc<ServerConfig>, answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::with("127.0.0.1", Speaks::Both(config), answer)
    }

    /// Each request in its turn gets the next of these answers, and behind the last the connection ends.
    pub fn script(answers: Vec<Answer>) -> Self {
        let answers = Mutex::new(answers.into_iter().collect::<std::collections::VecDeque<_>>());
        Self::new(move |_| answers.lock().unwrap().pop_front().unwrap_or(Answer::Nothing))
    }

    fn with(host: &str, speaks: Speaks, answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(format!("{host}:0")).expect("a loopback port");
        let address = listener.local_addr().unwrap();
        let scheme = if matches!(speaks, Speaks::Tls(_)) { "wss" } else { "ws" };
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let ended = Arc::new(AtomicUsize::new(0));
        let visits = Arc::new(Mutex::new(Vec::new()));
        let over = Arc::new(AtomicBool::new(false));
        let answer = Arc::new(answer);
        let thread = thread::spawn({
            let (seen, connections, over) = (Arc::clone(&seen), Arc::clone(&connections), Arc::clone(&over));
            let (ended, visits) = (Arc::clone(&ended), Arc::clone(&visits));
            move || {
                for stream in listener.incoming() {
                    if over.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(stream) = stream else { return };
                    let connection = connections.fetch_add(1, Ordering::SeqCst);
                    let (seen, answer, ended) = (Arc::clone(&seen), Arc::clone(&answer), Arc::clone(&ended));
                    let visits = Arc::clone(&visits);
                    visits.lock().unwrap().push(Visit::default());
                    let config = match &speaks {
                        Speaks::Plain => None,
                        Speaks::Tls(config) => Some((Arc::clone(config), true)),
                        Speaks::Both(config) => Some((Arc::clone(config), false)),
                    };
                    thread::spawn(move || {
                        stream.set_read_timeout(Some(3 * PATIENCE)).unwrap();
                        stream.set_nodelay(true).unwrap();
                        let socket = stream.try_clone().unwrap();
                        // A record of the handshake: RFC 8446 §5.1.
                        let mut first = [0];
                        let config =
                            config.filter(|(_, always)| *always || (stream.peek(&mut first).is_ok() && first == [22]));
                        let secure = config.is_some();
                        let mut stream: Box<dyn Stream> = match config {
                            Some((config, _)) => Box::new(Link::secure(stream, &config, (&visits, connection))),
                            None => Box::new(stream),
                        };
                        // A client may go at any time.
                        let _ = serve(&mut stream, &socket, (connection, secure), &seen, &*answer);
                        ended.fetch_add(1, Ordering::SeqCst);
                    });
                }
            }
        });
        Self { address, scheme, seen, connections, ended, visits, over, thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn url(&self, path: &str) -> Url {
        let host = if self.address.is_ipv6() { "[::1]" } else { "127.0.0.1" };
        self.url_of(host, path)
    }

    /// `localhost` is another host than `127.0.0.1`.
    pub fn url_of(&self, host: &str, path: &str) -> Url {
        self.url_with(self.scheme, host, path)
    }

    pub fn url_with(&self, scheme: &str, host: &str, path: &str) -> Url {
        Url::parse(&format!("{scheme}://{host}:{}{path}", self.port())).unwrap()
    }

    /// The targets of what was asked so far.
    pub fn targets(&self) -> Vec<String> {
        self.seen().iter().map(|request| request.target().to_owned()).collect()
    }

    /// On which connection each request came.
    pub fn roads(&self) -> Vec<usize> {
        self.seen().iter().map(|request| request.connection).collect()
    }

    /// What was asked so far, whole heads only.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// What came of each connection's TLS, by their numbers.
    pub fn visits(&self) -> Vec<Visit> {
        self.visits.lock().unwrap().clone()
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How many of them have ended.
    pub fn ended(&self) -> usize {
        self.ended.load(Ordering::SeqCst)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect_timeout(&self.address, Duration::from_secs(1)));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    stream: &mut dyn Stream,
    socket: &TcpStream,
    (connection, secure): (usize, bool),
    seen: &Mutex<Vec<Request>>,
    answer: &dyn Fn(&Request) -> Answer,
) -> io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let request = {
            let mut seen = seen.lock().unwrap();
            let head = String::from_utf8(head).expect("a request in UTF-8");
            let request = Request { connection, number: seen.len(), secure, head };
            seen.push(request.clone());
            request
        };
        match answer(&request) {
            Answer::Keep(text) => stream.write_all(text.as_bytes())?,
            Answer::Bytewise(text) => {
                for byte in text.as_bytes().chunks(1) {
                    stream.write_all(byte)?;
                    stream.flush()?;
                }
            }
            Answer::Close(text) => return stream.write_all(text.as_bytes()).and_then(|()| stream.flush()),
            Answer::Nothing => return Ok(()),
            Answer::Reset => return socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO)),
            Answer::Staged(first, go, rest) => {
                stream.write_all(first.as_bytes())?;
                stream.flush()?;
                let _ = go.recv_timeout(PATIENCE);
                stream.write_all(rest.as_bytes())?;
            }
            Answer::Open(lines) => {
                let accept = accept_for(request.field("Sec-WebSocket-Key").unwrap_or_default());
                let head = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: {accept}\r\n{lines}\r\n"
                );
                stream.write_all(head.as_bytes())?;
                stream.flush()?;
                return echo(stream);
            }
        }
        stream.flush()?;
    }
}

fn echo(mut stream: &mut dyn Stream) -> io::Result<()> {
    loop {
        let read = Frame::read(&mut stream)?;
        stream.write_all(&frame(0x80 | read.opcode(), &read.payload))?;
        stream.flush()?;
        if read.opcode() == 8 {
            // The client closes TCP when the server has.
            return Ok(());
        }
    }
}
