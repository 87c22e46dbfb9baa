//! Non-blocking sockets under one `mio` loop: a message there and back on each at a time.

use std::io;
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::Socket;
use super::stream::Opener;
use crate::fail;
use crate::meter::{Meter, Report};
use crate::workload::Kind;

pub fn run<S: Socket>(opener: &Opener<'_>, size: usize, connections: usize) -> Report {
    let mut sockets: Vec<S> = (0..connections).map(|connection| S::open(opener, connection)).collect();
    let message = S::message(Kind::Text, size);
    let (warm, count) = (opener.job.warm / connections as u64, opener.job.count / connections as u64);
    let mut run = || {
        let mut poll = Poll::new()?;
        for (connection, socket) in sockets.iter().enumerate() {
            let socket = socket.stream().socket();
            socket.set_nonblocking(true)?;
            poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), Token(connection), Interest::READABLE)?;
        }
        rounds(&mut poll, &mut sockets, &message, size, warm)?;
        let meter = Meter::start();
        rounds(&mut poll, &mut sockets, &message, size, count)?;
        Ok(meter.stop(opener.job.count))
    };
    run().unwrap_or_else(|error: io::Error| fail(error))
}

/// Each socket does so many rounds.
fn rounds<S: Socket>(
    poll: &mut Poll,
    sockets: &mut [S],
    message: &S::Message,
    size: usize,
    rounds: u64,
) -> io::Result<()> {
    let mut remaining = vec![rounds; sockets.len()];
    let mut busy = sockets.len();
    let mut events = Events::with_capacity(1024);
    for socket in &mut *sockets {
        socket.write(message);
        socket.flush();
    }
    while busy > 0 {
        poll.poll(&mut events, None)?;
        for event in &events {
            let connection = event.token().0;
            let socket = &mut sockets[connection];
            while socket.receive(Kind::Text, size) {
                remaining[connection] -= 1;
                if remaining[connection] == 0 {
                    busy -= 1;
                } else {
                    socket.write(message);
                    socket.flush();
                }
            }
        }
    }
    Ok(())
}
