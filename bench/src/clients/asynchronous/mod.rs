//! Clients on `tokio`, with its current-thread runtime: on one core that is the fastest.
//!
//! One driver ([`driver`]) does the workloads with whatever is a [`Socket`].

mod driver;
mod fastwebsockets;
mod prefixed;
mod stream;
mod tokio_tungstenite;
mod tokio_websockets;
mod yawc;

use std::future::Future;

use crate::fail;
use crate::job::Job;
use crate::meter::Report;
use crate::workload::Kind;

pub fn tokio_tungstenite(job: &Job) -> Report {
    run::<tokio_tungstenite::TokioTungstenite>(job)
}

pub fn tokio_websockets(job: &Job) -> Report {
    run::<tokio_websockets::TokioWebsockets>(job)
}

pub fn fastwebsockets(job: &Job) -> Report {
    run::<fastwebsockets::FastWebsockets>(job)
}

pub fn yawc(job: &Job) -> Report {
    run::<yawc::Yawc>(job)
}

fn run<S: Socket>(job: &Job) -> Report {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(driver::run::<S>(job)),
        Err(error) => fail(format_args!("the runtime cannot be started: {error}")),
    }
}

/// A WebSocket of an asynchronous library.
trait Socket: Sized + Send + 'static {
    /// A message to be sent, as cheap to make again as the library allows.
    type Message: Clone + Send + Sync + 'static;

    /// Connects and opens.
    fn open(opener: &stream::Opener, connection: usize) -> impl Future<Output = Self> + Send;
    /// A message of that kind.
    fn message(kind: Kind, payload: Vec<u8>) -> Self::Message;
    /// Sends, or puts into a buffer.
    fn write(&mut self, message: &Self::Message) -> impl Future<Output = ()> + Send;
    /// Sends what is in the buffer.
    fn flush(&mut self) -> impl Future<Output = ()> + Send;
    /// Waits for the next message, which must be of that kind and size.
    fn receive(&mut self, kind: Kind, size: usize) -> impl Future<Output = ()> + Send;
    /// Closes with both Close frames.
    fn close(self) -> impl Future<Output = ()> + Send;
}
