//! Connections that are being made: one task may have several at a time, and the first that stands is its.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use mio::net::TcpStream;
use mio::{Interest, Token};

use super::EventLoop;

/// In a box: few tasks connect at a time, and there may be ten thousand.
#[derive(Default)]
pub(super) struct Attempts {
    running: Vec<Attempt>,
}

/// A connection that is being made to one address of several.
struct Attempt {
    number: u32,
    socket: TcpStream,
}

impl EventLoop {
    /// All attempts of a task have its token.
    pub(super) fn connect(&mut self, token: usize, number: u32, address: SocketAddr) -> io::Result<()> {
        let mut socket = TcpStream::connect(address)?;
        self.poll.registry().register(&mut socket, Token(token), Interest::READABLE | Interest::WRITABLE)?;
        if let Some(entry) = self.entries.get_mut(token) {
            entry.attempts.get_or_insert_default().running.push(Attempt { number, socket });
        }
        // A server on the same machine has answered already.
        self.finish_connect(token);
        Ok(())
    }

    /// Connections were made, or were not: the first that stands is the task's, and the others close.
    pub(super) fn finish_connect(&mut self, token: usize) {
        while let Some(entry) = self.entries.get_mut(token) {
            let Some(Attempts { running }) = entry.attempts.as_deref_mut() else { return };
            let decided = running
                .iter()
                .enumerate()
                .find_map(|(index, attempt)| outcome(&attempt.socket).transpose().map(|outcome| (index, outcome)));
            let Some((index, outcome)) = decided else { return };
            let Attempt { number, socket } = running.swap_remove(index);
            match outcome {
                Ok(remote) => {
                    entry.attempts = None;
                    return self.connected(token, number, socket, remote);
                }
                Err(error) => {
                    if running.is_empty() {
                        entry.attempts = None;
                        entry.readable = false;
                        entry.read_closed = false;
                    }
                    self.step(token, |loader, env| loader.connect_failed(env, number, error));
                }
            }
        }
    }

    fn connected(&mut self, token: usize, number: u32, socket: TcpStream, remote: SocketAddr) {
        let Some(entry) = self.entries.get_mut(token) else { return };
        if number > 0 {
            // What the kernel has said was perhaps of the others, or of this one: it says so once.
            entry.readable = true;
            entry.read_closed = true;
        }
        // Without it, a small message may wait for the answer to the one before.
        let _ = socket.set_nodelay(true);
        let local = socket.local_addr().ok();
        {
            let mut state = entry.client.connection().lock();
            if !state.loader.awaits_connection(number) {
                // The task has ended, or goes another way.
                return;
            }
            state.socket = Some(Arc::new(socket));
        }
        self.step(token, |loader, env| loader.connected(env, number, local, Some(remote)));
    }
}

/// The peer of a connection that was made, or why it was not; `None` while nobody knows: the kernel says so again.
fn outcome(socket: &TcpStream) -> io::Result<Option<SocketAddr>> {
    // Who has a peer is connected; only who has none is asked why.
    match socket.peer_addr() {
        Ok(remote) => Ok(Some(remote)),
        Err(error) => match socket.take_error() {
            Ok(Some(failure)) => Err(failure),
            Ok(None) if error.kind() == io::ErrorKind::NotConnected => Ok(None),
            Ok(None) | Err(_) => Err(error),
        },
    }
}
