//! The thread: sockets, turns and times.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use rustls::ServerConfig;
use slab::Slab;
use socket2::{Domain, Socket, Type};

use super::certificate::{self, Offers};
use super::channel::Channel;
use super::connection::{Connection, Next, Scratch};

/// Tokens of connections come after those of the listeners.
const LISTENERS: usize = 3;
/// What the kernel may have ready to accept.
const BACKLOG: i32 = 65_535;

/// A port, and the TLS of its connections.
type Listener = (TcpListener, Option<Arc<ServerConfig>>);

/// Everything that the server has.
pub struct EventLoop {
    poll: Poll,
    listeners: [Listener; LISTENERS],
    connections: Slab<Connection>,
    scratch: Scratch,
    /// Connections that have another turn without an event.
    turns: Vec<usize>,
    /// Connections that have another turn at a time.
    timed: Vec<(Instant, usize)>,
}

impl EventLoop {
    /// Listens; also returns the ports and the certificate.
    pub fn new() -> io::Result<(Self, [u16; LISTENERS], String)> {
        let poll = Poll::new()?;
        let Offers { resumed, full, root } = certificate::make()?;
        let mut listeners = [(listen()?, None), (listen()?, Some(resumed)), (listen()?, Some(full))];
        let mut ports = [0; LISTENERS];
        for (index, (listener, _)) in listeners.iter_mut().enumerate() {
            poll.registry().register(listener, Token(index), Interest::READABLE)?;
            ports[index] = listener.local_addr()?.port();
        }
        let server = Self {
            poll,
            listeners,
            connections: Slab::new(),
            scratch: Scratch::default(),
            turns: Vec::new(),
            timed: Vec::new(),
        };
        Ok((server, ports, root))
    }

    /// Serves for ever.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(4096);
        loop {
            let now = Instant::now();
            let timeout = if self.turns.is_empty() {
                self.timed.iter().map(|(at, _)| at.saturating_duration_since(now)).min()
            } else {
                Some(std::time::Duration::ZERO)
            };
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            for key in std::mem::take(&mut self.turns) {
                self.turn(key);
            }
            if !self.timed.is_empty() {
                let now = Instant::now();
                let (due, later) = std::mem::take(&mut self.timed).into_iter().partition(|(at, _)| *at <= now);
                self.timed = later;
                due.into_iter().for_each(|(_, key)| self.turn(key));
            }
            for event in &events {
                match event.token() {
                    Token(listener) if listener < LISTENERS => self.accept(listener),
                    Token(token) => {
                        let key = token - LISTENERS;
                        if let Some(connection) = self.connections.get_mut(key) {
                            if event.is_readable() || event.is_error() {
                                connection.set_readable();
                            }
                            self.turn(key);
                        }
                    }
                }
            }
        }
    }

    fn accept(&mut self, listener: usize) {
        loop {
            let (socket, tls) = match self.listeners[listener].0.accept() {
                Ok((socket, _)) => (socket, self.listeners[listener].1.as_ref()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => return eprintln!("server: a connection cannot be accepted: {error}"),
            };
            // Best effort: what fails here has failed on the client's side, too.
            let _ = socket.set_nodelay(true);
            let Ok(channel) = Channel::new(socket, tls) else { continue };
            let entry = self.connections.vacant_entry();
            let token = Token(entry.key() + LISTENERS);
            let connection = entry.insert(Connection::new(channel));
            let both = Interest::READABLE | Interest::WRITABLE;
            if let Err(error) = self.poll.registry().register(&mut connection.channel.socket, token, both) {
                eprintln!("server: a connection cannot be watched: {error}");
                self.connections.remove(token.0 - LISTENERS);
            }
        }
    }

    fn turn(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        match connection.turn(&mut self.scratch) {
            Next::Event => {}
            Next::Turn => self.turns.push(key),
            Next::At(at) => self.timed.push((at, key)),
            Next::Drop => {
                // Dropping the socket ends the watch, too.
                self.connections.remove(key);
            }
        }
    }
}

/// A port that the kernel chooses, on every address of this machine: clients that need more connections than one address
/// has ports use 127.0.0.2, 127.0.0.3 and so on.
fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(TcpListener::from_std(socket.into()))
}
