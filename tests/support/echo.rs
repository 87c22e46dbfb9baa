//! An echo server for any number of connections, on one thread.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use socket2::{Domain, Socket, Type};
use urlsession::Url;

use super::{Peer, frame};

const LISTENER: Token = Token(usize::MAX);
const STOP: Token = Token(usize::MAX - 1);

/// Opens every WebSocket, sends every message back, answers pings and Close frames. Ends when it is dropped.
pub struct EchoServer {
    address: SocketAddr,
    counts: Arc<Counts>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Counts {
    stop: AtomicBool,
    accepted: AtomicUsize,
    open: AtomicUsize,
}

impl EchoServer {
    pub fn start() -> Self {
        Self::start_with(b"", b"")
    }

    /// `before` goes out before each 101, `behind` right behind it, in the same segment.
    pub fn start_with(before: &'static [u8], behind: &'static [u8]) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a loopback port");
        // Thousands may come at once.
        socket.listen(4096).expect("to listen");
        socket.set_nonblocking(true).unwrap();
        let mut listener = TcpListener::from_std(socket.into());
        let address = listener.local_addr().unwrap();
        let poll = Poll::new().expect("a poll");
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE).unwrap();
        let waker = Waker::new(poll.registry(), STOP).unwrap();
        let counts = Arc::new(Counts::default());
        let server = Echo { poll, listener, sockets: HashMap::new(), before, behind, counts: Arc::clone(&counts) };
        let thread = thread::Builder::new().name("echo-server".to_owned()).spawn(move || server.run()).unwrap();
        Self { address, counts, waker, thread: Some(thread) }
    }

    pub fn url(&self) -> Url {
        Url::parse(&format!("ws://{}/", self.address)).unwrap()
    }

    /// How many connections came.
    pub fn accepted(&self) -> usize {
        self.counts.accepted.load(Ordering::SeqCst)
    }

    /// How many connections there are.
    pub fn open(&self) -> usize {
        self.counts.open.load(Ordering::SeqCst)
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.counts.stop.store(true, Ordering::SeqCst);
        self.waker.wake().unwrap();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

struct Echo {
    poll: Poll,
    listener: TcpListener,
    sockets: HashMap<usize, Connection>,
    before: &'static [u8],
    behind: &'static [u8],
    counts: Arc<Counts>,
}

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    opened: bool,
    /// A Close was answered, or the client has gone.
    ending: bool,
}

impl Echo {
    fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        let mut next = 0;
        while !self.counts.stop.load(Ordering::SeqCst) {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result.expect("to poll"),
            }
            for event in &events {
                match event.token() {
                    STOP => {}
                    LISTENER => {
                        while let Ok((mut stream, _)) = self.listener.accept() {
                            let interest = Interest::READABLE | Interest::WRITABLE;
                            self.poll.registry().register(&mut stream, Token(next), interest).unwrap();
                            let _ = stream.set_nodelay(true);
                            let (input, output) = (Vec::new(), Vec::new());
                            self.sockets
                                .insert(next, Connection { stream, input, output, opened: false, ending: false });
                            next += 1;
                            self.counts.accepted.fetch_add(1, Ordering::SeqCst);
                            self.counts.open.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                    Token(number) => {
                        let Some(connection) = self.sockets.get_mut(&number) else { continue };
                        if !connection.serve(self.before, self.behind) {
                            self.sockets.remove(&number);
                            self.counts.open.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                }
            }
        }
    }
}

impl Connection {
    /// Whether the connection stays.
    fn serve(&mut self, before: &[u8], behind: &[u8]) -> bool {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        if !self.opened
            && let Some(end) = self.input.windows(4).position(|window| window == b"\r\n\r\n")
        {
            let head: Vec<u8> = self.input.drain(..end + 4).collect();
            self.output.extend(before);
            self.output.extend(Peer::switching_protocols(&String::from_utf8(head).unwrap(), ""));
            self.output.extend(behind);
            self.opened = true;
        }
        let mut taken = 0;
        while self.opened
            && !self.ending
            && let Some((first, payload, length)) = unmask(&self.input[taken..])
        {
            taken += length;
            match first & 0x0f {
                8 => {
                    self.output.extend(frame(0x88, &payload));
                    self.ending = true;
                }
                9 => self.output.extend(frame(0x8a, &payload)),
                10 => {}
                _ => self.output.extend(frame(first, &payload)),
            }
        }
        self.input.drain(..taken);
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
        !self.ending
    }
}

/// The first frame of `bytes`, if it is whole: its first byte, its payload and its length.
fn unmask(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (length, start) = match second & 0x7f {
        126 => (usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)).unwrap(), 10),
        length => (usize::from(length), 2),
    };
    let key: [u8; 4] = *bytes.get(start..)?.first_chunk()?;
    let masked = bytes.get(start + 4..start + 4 + length)?;
    let payload = masked.iter().zip(key.into_iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    Some((first, payload, start + 4 + length))
}
