//! What may be watched of a task: the steps of its road, and the headers of the frames on its wire.
//!
//! They are values, written down where they happen and only if somebody watches. The reactor hands them on when it holds no
//! lock, for whoever listens is user code. Nothing that may be secret is among them: of an address the scheme, the host and
//! the port, of a frame its header, of an error its number.
//!
//! Without the feature `tracing` nobody watches, and nothing of this is left in the program.

use std::net::SocketAddr;
use std::time::Duration;

use url::Url;

use crate::foundation::{CloseCode, ErrorStage, TlsProtocolVersion, UrlError};
use crate::websocket;
#[cfg(feature = "tracing")]
use crate::websocket::{FrameFollower, FrameHead};

/// How much is watched.
#[cfg(feature = "tracing")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watch {
    /// Nothing is.
    #[default]
    Nothing,
    /// The steps.
    Steps,
    /// The steps and the frames.
    Frames,
}

/// A step of a task's road.
#[derive(Debug)]
#[cfg_attr(not(feature = "tracing"), expect(dead_code, reason = "nobody watches"))]
pub enum Step {
    /// `resume()`, the first one.
    Resumed { origin: String },
    /// The way to the server leads through this proxy.
    ThroughProxy { proxy: String },
    /// The addresses of a host are looked up.
    Resolving { host: String },
    /// They are known.
    Resolved { addresses: usize },
    /// An address has its turn in the race.
    Connecting { address: SocketAddr },
    /// It is out of the race.
    ConnectFailed { address: SocketAddr, error: i32 },
    /// It has won.
    Connected { address: Option<SocketAddr> },
    /// The network is missing; it is looked for again after that time.
    Waiting { delay: Duration },
    /// A TLS handshake begins.
    Securing { host: String },
    /// It is complete.
    Secured { version: Option<TlsProtocolVersion>, cipher_suite: Option<u16> },
    /// The proxy leads on.
    TunnelOpen,
    /// The request of the upgrade is to be sent.
    Requested { origin: String },
    /// The head of an answer came.
    Answered { status: u16, of_proxy: bool },
    /// The task goes to another address.
    Redirected { origin: String },
    /// A delegate is asked.
    Asking { about: &'static str },
    /// The socket is open.
    Open { compressed: bool },
    /// `cancel`, or `cancel_with` with a code.
    Cancelled { code: Option<CloseCode> },
    /// The end is known.
    Ended { code: Option<CloseCode>, error: Option<(i32, ErrorStage)> },
}

impl Step {
    /// What an error may show: its number and where it happened.
    pub fn ended(close: Option<CloseCode>, error: Option<&UrlError>) -> Self {
        Self::Ended { code: close, error: error.map(|error| (error.raw_code(), error.stage())) }
    }
}

/// Of an address what is no secret: neither a user nor a path, which may hold a token, nor a query.
pub fn origin(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{}://{host}:{port}", url.scheme()),
        None => format!("{}://{host}", url.scheme()),
    }
}

/// What is written down.
#[cfg(feature = "tracing")]
#[derive(Debug)]
pub enum Record {
    /// A step.
    Step(Step),
    /// A frame was written, or was read.
    Frame { sent: bool, head: FrameHead },
}

/// What was written down of a task since it was handed on.
#[derive(Debug, Default)]
pub struct Traces {
    #[cfg(feature = "tracing")]
    watch: Watch,
    #[cfg(feature = "tracing")]
    records: Vec<Record>,
}

impl Traces {
    /// Notes a step, if somebody watches.
    #[inline]
    pub fn step(&mut self, step: impl FnOnce() -> Step) {
        #[cfg(feature = "tracing")]
        if self.watch >= Watch::Steps {
            self.records.push(Record::Step(step()));
        }
        #[cfg(not(feature = "tracing"))]
        let _ = step;
    }
}

#[cfg(feature = "tracing")]
impl Traces {
    /// So much is written down from now on.
    #[inline]
    pub fn set_watch(&mut self, watch: Watch) {
        self.watch = watch;
    }

    /// Whether nothing was written down.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Takes what was written down.
    pub fn take(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    fn frames(&mut self, follower: &mut FrameFollower, sent: bool) {
        self.records.extend(follower.take_heads().map(|head| Record::Frame { sent, head }));
    }
}

/// Follows the frames of one task, if somebody watched them when its socket opened.
#[derive(Debug, Default)]
pub struct FrameTrace {
    #[cfg(feature = "tracing")]
    followers: Option<Box<Followers>>,
}

#[cfg(feature = "tracing")]
#[derive(Debug, Default)]
struct Followers {
    /// Away while an output is.
    sent: Option<Box<FrameFollower>>,
    received: FrameFollower,
}

#[cfg_attr(
    not(feature = "tracing"),
    expect(clippy::unused_self, clippy::needless_pass_by_ref_mut, reason = "nobody watches")
)]
impl FrameTrace {
    /// The next bytes, both ways, are frames.
    #[inline]
    pub fn begin(&mut self, traces: &Traces) {
        #[cfg(feature = "tracing")]
        if traces.watch >= Watch::Frames {
            self.followers =
                Some(Box::new(Followers { sent: Some(Box::default()), received: FrameFollower::default() }));
        }
        #[cfg(not(feature = "tracing"))]
        let _ = traces;
    }

    /// These frames are about to be written.
    #[inline]
    pub fn lend(&mut self, output: &mut websocket::Output) {
        #[cfg(feature = "tracing")]
        if let Some(followers) = &mut self.followers {
            output.follower = followers.sent.take();
        }
        #[cfg(not(feature = "tracing"))]
        let _ = output;
    }

    /// They were written, as far as they were.
    #[inline]
    pub fn take_back(&mut self, output: &mut websocket::Output, traces: &mut Traces) {
        #[cfg(feature = "tracing")]
        if let (Some(followers), Some(mut sent)) = (&mut self.followers, output.follower.take()) {
            traces.frames(&mut sent, true);
            followers.sent = Some(sent);
        }
        #[cfg(not(feature = "tracing"))]
        let _ = (output, traces);
    }

    /// From the front of `before` all was looked at but `after`.
    #[inline]
    pub fn received(&mut self, before: &[u8], after: &[u8], traces: &mut Traces) {
        #[cfg(feature = "tracing")]
        if let Some(followers) = &mut self.followers {
            let count = before.len().saturating_sub(after.len());
            followers.received.follow(before.get(..count).unwrap_or_default());
            traces.frames(&mut followers.received, false);
        }
        #[cfg(not(feature = "tracing"))]
        let _ = (before, after, traces);
    }

    /// So many bytes of a payload were read straight into a message.
    #[inline]
    pub fn received_payload(&mut self, count: usize) {
        #[cfg(feature = "tracing")]
        if let Some(followers) = &mut self.followers {
            followers.received.skip(count);
        }
        #[cfg(not(feature = "tracing"))]
        let _ = count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_address_nothing_secret_is_shown() {
        let table = [
            ("wss://me:secret@example.com/token?key=secret#secret", "wss://example.com"),
            ("ws://example.com:8080/a", "ws://example.com:8080"),
            ("ws://[::1]:80/", "ws://[::1]"),
        ];
        for (url, expected) in table {
            assert_eq!(origin(&Url::parse(url).unwrap()), expected);
        }
    }
}
