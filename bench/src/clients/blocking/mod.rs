//! Clients with blocking sockets: `tungstenite`, and plain TCP as the floor.
//!
//! One driver ([`driver`]) does the workloads with whatever is a [`Socket`]; many connections at a time are non-blocking
//! sockets under one `mio` loop ([`many`]), which is what a program would do that needs so many of them.

mod driver;
mod many;
mod raw_tcp;
mod stream;
mod tungstenite;

pub use self::tungstenite::{config as tungstenite_config, message as tungstenite_message};

use crate::job::Job;
use crate::meter::Report;
use crate::workload::Kind;

pub fn raw_tcp(job: &Job) -> Report {
    driver::run::<raw_tcp::RawTcp>(job)
}

pub fn tungstenite(job: &Job) -> Report {
    driver::run::<tungstenite::Tungstenite>(job)
}

/// A WebSocket of a blocking library.
trait Socket: Sized {
    /// A message to be sent, as cheap to make again as the library allows.
    type Message: Clone;

    /// Connects and opens.
    fn open(opener: &stream::Opener, connection: usize) -> Self;
    /// Messages of that kind and size.
    fn message(kind: Kind, size: usize) -> Self::Message;
    /// Sends, or puts into a buffer.
    fn write(&mut self, message: &Self::Message);
    /// Sends what is in the buffer.
    fn flush(&mut self);
    /// Waits for the next message, which must be of that kind and size. On a non-blocking socket: false if there is none.
    fn receive(&mut self, kind: Kind, size: usize) -> bool;
    /// Closes with both Close frames.
    fn close(self);
    /// The socket.
    fn stream(&self) -> &stream::Stream;
}
