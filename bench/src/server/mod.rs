//! The server that every client is measured against: one process, one thread, raw frames on `mio`.
//!
//! It is no client's library, checks little, and does as little as it can for each byte, so that the client is what a run
//! measures. What a connection does is chosen by the path of its request, see [`behaviour`].

mod behaviour;
mod certificate;
mod channel;
mod connection;
mod deflate;
mod event_loop;
mod flood;
mod frames;
mod upgrade;

use std::io::{self, Write};

use crate::files;
pub use connection::THANKS;
use event_loop::EventLoop;
pub use frames::put_head;

/// Serves until the process is ended. Prints where it listens, a line for each port, then the environment variable that
/// clients of `wss` need.
pub fn run() -> io::Result<()> {
    files::raise_limit();
    let (mut event_loop, ports, root) = EventLoop::new()?;
    let mut out = io::stdout().lock();
    for (name, port) in ["ws", "wss", "wssfull"].into_iter().zip(ports) {
        writeln!(out, "{name} {port}")?;
    }
    writeln!(out, "{}={root}", crate::tls::ROOT_VARIABLE)?;
    out.flush()?;
    drop(out);
    event_loop.run()
}
