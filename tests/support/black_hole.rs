//! An address that says nothing: whoever connects to it waits. Linux drops further SYNs once the queue of connections that
//! nobody accepts is full, and the client repeats its own after a second, then two more, and so on.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// How long a connection over loopback takes at most where one comes to be.
const MOMENT: Duration = Duration::from_millis(100);

/// A listening socket with a full queue.
pub struct BlackHole {
    listener: TcpListener,
    /// What fills the queue.
    queued: Vec<Socket>,
}

impl BlackHole {
    /// At an address of this machine; its port may be 0.
    #[track_caller]
    pub fn at(address: impl Into<SocketAddr>) -> Self {
        let address = address.into();
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.bind(&address.into()).unwrap_or_else(|error| panic!("{address}: {error}"));
        socket.listen(0).unwrap();
        let mut hole = Self { listener: socket.into(), queued: Vec::new() };
        while let Some(socket) = hole.connect().unwrap() {
            hole.queued.push(socket);
            assert!(hole.queued.len() < 16, "the queue never fills");
        }
        hole
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// A connection to it, if one comes to be within a moment.
    fn connect(&self) -> io::Result<Option<Socket>> {
        let address = self.address();
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        let begun = Instant::now();
        // What cannot be done at once is under way.
        let _ = socket.connect(&address.into());
        while begun.elapsed() < MOMENT {
            if let Some(error) = socket.take_error()? {
                return Err(error);
            }
            if socket.peer_addr().is_ok() {
                return Ok(Some(socket));
            }
            thread::yield_now();
        }
        Ok(None)
    }

    /// Accepts from now on: who has waited gets in with the next SYN, within seconds. The next who does; `None` where nobody
    /// came until `deadline`.
    pub fn accept(&mut self, deadline: Instant) -> Option<TcpStream> {
        let fillers: Vec<SocketAddr> = self.queued.iter().filter_map(|s| s.local_addr().ok()?.as_socket()).collect();
        self.listener.set_nonblocking(true).unwrap();
        while Instant::now() < deadline {
            match self.listener.accept() {
                Ok((_, from)) if fillers.contains(&from) => {}
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).unwrap();
                    return Some(stream);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    thread::park_timeout(Duration::from_millis(1));
                }
                Err(error) => panic!("accept: {error}"),
            }
        }
        None
    }
}
