//! How a task may end, and what each end tells: the rows of the table of ends (`docs/architecture.md`).

use std::io;
use std::net::SocketAddr;

use url::Url;

use super::event::{End, Event};
use super::open::Closing;
use super::timeline::Collected;
use super::{Env, LINGER, Linger, Loader, Next, Outgoing, Stage, Timer, TraceStep};
use crate::foundation::{CloseCode, Completion, ErrorCode, ErrorStage, UrlError};
use crate::websocket::Violation;

/// What a Close of the server's said; `NO_STATUS_RECEIVED` where it was empty.
pub type Closed = (CloseCode, Vec<u8>);

/// Why a task ends.
#[derive(Debug)]
pub enum Cause {
    /// The server's Close frame came first.
    ServerClosed(Closed),
    /// `cancel_with`: answered, timed out, or the connection was lost on the way.
    CancelledWith { code: CloseCode, reason: Option<Vec<u8>>, answer: Option<Closed> },
    /// `cancel`, or the session was invalidated.
    Cancelled,
    /// Everything else.
    Failed(UrlError),
}

/// What leads to the end, and the end.
#[derive(Default)]
pub struct Ending {
    /// `cancel_with` was called.
    pub(super) closing: Option<Closing>,
    /// Pings that were asked for after that.
    pub(super) late_pings: Vec<Completion<()>>,
    /// What a broken connection holds is waited for no longer than this once more: nobody takes what was read before.
    pub(super) rest_prolonged: bool,
    /// How much was [held](Loader::held) when that was last asked.
    pub(super) rest_held: Option<usize>,
    /// Writing failed with this; what the server sent before is still read.
    pub(super) broken: Option<UrlError>,
    /// The server broke the protocol; the messages before that are still told. Nothing is read any more.
    pub(super) fault: Option<Violation>,
    /// The end is known, and waits for bytes that are with the reactor.
    pub(super) pending_end: Option<(Cause, Linger)>,
    /// What later calls fail with, once the end is known.
    pub(super) ended: Option<UrlError>,
}

impl Ending {
    /// Nothing leads to the end.
    fn is_none(&self) -> bool {
        let Self { closing, late_pings, broken, fault, pending_end, ended, rest_prolonged: _, rest_held: _ } = self;
        let goes_on = closing.is_none() && broken.is_none() && fault.is_none();
        goes_on && pending_end.is_none() && ended.is_none() && late_pings.is_empty()
    }
}

impl Cause {
    /// `opened`: whether the socket was open; what failed on an open socket repeats as `NotConnected`. `url`: the address
    /// that the errors name.
    pub fn into_end(self, opened: bool, url: &Url, metrics: Collected) -> End {
        let (waiting, later, close, server_close, error) = match self {
            Self::ServerClosed((code, reason)) => {
                let error = not_connected().with_failing_url(url);
                (error.clone(), error, Some((code, Some(reason.clone()))), Some((code, reason)), None)
            }
            Self::CancelledWith { code, reason, answer } => {
                let error = cancelled().with_failing_url(url);
                (error.clone(), error, Some((code, reason)), answer, None)
            }
            Self::Cancelled => {
                let error = cancelled().with_failing_url(url);
                (error.clone(), error.clone(), None, None, Some(error))
            }
            Self::Failed(error) => {
                let error = error.with_failing_url(url);
                let later = if opened { not_connected().with_failing_url(url) } else { error.clone() };
                (error.clone(), later, None, None, Some(error))
            }
        };
        End { waiting, later, close, server_close, error, metrics: Some(Box::new(metrics)) }
    }
}

/// What every call fails with after a cancel.
pub fn cancelled() -> UrlError {
    UrlError::new(ErrorCode::Cancelled, ErrorStage::Cancel, "the task was cancelled")
}

/// What every call fails with once the socket was open and is no more.
pub fn not_connected() -> UrlError {
    UrlError::new(ErrorCode::NotConnected, ErrorStage::Close, "the socket is not connected: the task has ended")
}

/// The end of the stream without a Close frame.
pub fn connection_lost(stage: ErrorStage) -> UrlError {
    let reason = match stage {
        ErrorStage::Proxy => "it ended the connection",
        _ => "the server ended the connection without a Close frame",
    };
    UrlError::new(ErrorCode::NetworkConnectionLost, stage, reason)
}

/// A connection that broke while it was in use.
pub fn io_error(error: io::Error, stage: ErrorStage) -> UrlError {
    let code = match error.kind() {
        io::ErrorKind::BrokenPipe => ErrorCode::BrokenPipe,
        io::ErrorKind::ConnectionAborted => ErrorCode::ConnectionAborted,
        io::ErrorKind::ConnectionReset => ErrorCode::ConnectionReset,
        io::ErrorKind::TimedOut => ErrorCode::TimedOut,
        _ => ErrorCode::NetworkConnectionLost,
    };
    UrlError::new(code, stage, format!("the connection was lost: {error}")).with_source(error)
}

/// An address that could not be connected to.
pub fn connect_error(error: io::Error, address: SocketAddr) -> UrlError {
    let code = match error.kind() {
        io::ErrorKind::TimedOut => ErrorCode::TimedOut,
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => ErrorCode::NotConnectedToInternet,
        // A machine without IPv6 has no address to connect from; with IPv4 it is a port that is missing.
        io::ErrorKind::AddrNotAvailable if address.is_ipv6() => ErrorCode::NotConnectedToInternet,
        _ => ErrorCode::CannotConnectToHost,
    };
    UrlError::new(code, ErrorStage::Connect, format!("cannot connect to {address}: {error}")).with_source(error)
}

/// A host whose addresses could not be found: there is no such name, or the network has nobody to ask, or the look-up
/// itself failed.
pub fn resolve_error(error: io::Error, host: &str) -> UrlError {
    let (code, what) = match error.kind() {
        io::ErrorKind::NotFound => (ErrorCode::CannotFindHost, "find"),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => {
            (ErrorCode::NotConnectedToInternet, "look up")
        }
        _ => (ErrorCode::DnsLookupFailed, "look up"),
    };
    let reason = format!("cannot {what} the host {host}: {error}");
    UrlError::new(code, ErrorStage::Resolve, reason).with_source(error)
}

impl Loader {
    pub(super) fn closing(&self) -> Option<&Closing> {
        self.ending.as_ref()?.closing.as_ref()
    }

    pub(super) fn broken(&self) -> Option<&UrlError> {
        self.ending.as_ref()?.broken.as_ref()
    }

    /// It does not matter any more that a connection could not be written. Whether it was so.
    pub(super) fn forget_broken(&mut self) -> bool {
        let was_broken = self.ending.as_mut().and_then(|ending| ending.broken.take()).is_some();
        self.ending.take_if(|ending| ending.is_none());
        was_broken
    }

    /// Nothing more can be sent. A request that could not be written whole may have been answered all the same.
    pub(super) fn is_broken_off(&self) -> bool {
        self.broken().is_some() && !matches!(self.stage, Stage::Upgrading(_)) && self.proxy().is_none()
    }

    pub(super) fn fault(&self) -> Option<&Violation> {
        self.ending.as_ref()?.fault.as_ref()
    }

    pub(super) fn has_pending_end(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.pending_end.is_some())
    }

    pub(super) fn ended(&self) -> Option<&UrlError> {
        self.ending.as_ref()?.ended.as_ref()
    }

    pub(super) fn ending_mut(&mut self) -> &mut Ending {
        self.ending.get_or_insert_default()
    }

    /// The end is known. It is told once, with everything that waited. While bytes are with the reactor it waits for them
    /// to come back: what was handed to the kernel was sent.
    pub(super) fn end(&mut self, env: &mut Env<'_>, cause: Cause, linger: Linger) {
        if self.is_ended() || self.has_pending_end() {
            return;
        }
        if self.output_is_out {
            self.ending_mut().pending_end = Some((cause, linger));
        } else {
            self.end_now(env, cause, linger);
        }
    }

    pub(super) fn end_now(&mut self, env: &mut Env<'_>, cause: Cause, linger: Linger) {
        let opened = matches!(self.stage, Stage::Open(_));
        let detour = self.detour.as_mut().map(|detour| detour.take_hops()).unwrap_or_default();
        let metrics = self.timeline.collect(&self.settings, env.now, self.body_bytes(), detour);
        self.end_deflation();
        self.forget_authentication();
        let end = cause.into_end(opened, &self.settings.request.url, metrics);
        let waiting = end.waiting.clone();
        env.traces.step(|| TraceStep::ended(end.close.as_ref().map(|close| close.0), end.error.as_ref()));
        let ending = self.ending_mut();
        ending.ended = Some(end.later.clone());
        ending.fault = None;
        self.suspended = false;
        self.timers.start_only(Timer::Unread, env.now, self.settings.common.options.close_timeout);
        self.next = None;
        let until_written = linger == Linger::UntilWritten;
        if linger == Linger::Moment || (until_written && self.has_output()) {
            self.stage = Stage::Lingering { until_written };
            self.timers.start(Timer::Linger, env.now, LINGER);
        } else {
            self.disconnect();
        }
        env.events.push(Event::End(Box::new(end)));
        self.sends.fail(&waiting, env.events);
        self.fail_pings(&waiting, env.events);
    }

    /// The connection is lost, or never came to be.
    pub(super) fn lose(&mut self, env: &mut Env<'_>, error: UrlError) {
        if self.fault().is_some() {
            return self.give_up(env);
        }
        if self.tries_again(env) {
            return;
        }
        let error = self.ending.as_mut().and_then(|ending| ending.broken.take()).unwrap_or(error);
        let error = self.named(error);
        if self.goes_another_way(env) || self.waits_for_network(env, &error) {
            return;
        }
        let cause = self.cancelled_with().unwrap_or(Cause::Failed(error));
        self.end(env, cause, Linger::No);
    }

    /// A clock of the caller's ran out.
    pub(super) fn time_out(&mut self, env: &mut Env<'_>, reason: String) {
        if self.is_refused() {
            return self.refuse(env);
        }
        let open = matches!(self.stage, Stage::Open(_));
        if open {
            self.close_now(None);
        }
        let error = self.named(UrlError::new(ErrorCode::TimedOut, self.error_stage(), reason));
        let cause = self.cancelled_with().unwrap_or(Cause::Failed(error));
        self.end(env, cause, if open { Linger::Moment } else { Linger::No });
    }

    /// The row of `cancel_with`, where it was called.
    pub(super) fn cancelled_with(&self) -> Option<Cause> {
        let Closing { code, reason, answer } = self.closing()?;
        Some(Cause::CancelledWith { code: *code, reason: reason.clone(), answer: answer.clone() })
    }

    pub(super) fn disconnect(&mut self) {
        self.stage = Stage::Closed;
        self.timers.cancel(Timer::Linger);
        self.tls = None;
        self.raw = None;
        self.outgoing = Outgoing::default();
        self.next = Some(Next::Disconnect);
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::io::ErrorKind;

    use super::*;
    use crate::loader::timeline;

    /// Waiting, later, close and reason, error: as numbers.
    type Row = (i32, i32, Option<(u16, Option<&'static [u8]>)>, Option<i32>);

    #[test]
    fn the_table_of_ends() {
        let closed = |code: u16, reason: &[u8]| Cause::ServerClosed((CloseCode::new(code), reason.to_vec()));
        let failed = |code| Cause::Failed(UrlError::new(code, ErrorStage::Open, "why"));
        let going_away = CloseCode::GOING_AWAY;
        let table: [(Cause, bool, Row); 10] = [
            (closed(1000, b"bye"), true, (57, 57, Some((1000, Some(b"bye"))), None)),
            (closed(4999, b""), true, (57, 57, Some((4999, Some(b""))), None)),
            (closed(1005, b""), true, (57, 57, Some((1005, Some(b""))), None)),
            (
                Cause::CancelledWith { code: going_away, reason: Some(b"x".to_vec()), answer: None },
                true,
                (-999, -999, Some((1001, Some(b"x"))), None),
            ),
            (
                Cause::CancelledWith { code: CloseCode::new(999), reason: None, answer: None },
                false,
                (-999, -999, Some((999, None)), None),
            ),
            (Cause::Cancelled, true, (-999, -999, None, Some(-999))),
            (Cause::Cancelled, false, (-999, -999, None, Some(-999))),
            (failed(ErrorCode::NetworkConnectionLost), true, (-1005, 57, None, Some(-1005))),
            (failed(ErrorCode::MessageTooLong), true, (40, 57, None, Some(40))),
            (failed(ErrorCode::BadServerResponse), false, (-1011, -1011, None, Some(-1011))),
        ];
        for (cause, opened, expected) in table {
            let what = format!("{cause:?}, opened: {opened}");
            let url = Url::parse("ws://example.com/").unwrap();
            let end = cause.into_end(opened, &url, timeline::tests::collected());
            assert!([&end.waiting, &end.later].into_iter().chain(&end.error).all(|e| e.failing_url() == Some(&url)));
            let close = end.close.as_ref().map(|(code, reason)| (code.raw_value(), reason.as_deref()));
            let error = end.error.map(|error| error.raw_code());
            assert_eq!((end.waiting.raw_code(), end.later.raw_code(), close, error), expected, "{what}");
            assert!(end.metrics.is_some());
        }
    }

    #[test]
    fn errors_of_the_network_have_apples_numbers_and_their_source() {
        let broken = [
            (ErrorKind::BrokenPipe, 32),
            (ErrorKind::ConnectionAborted, 53),
            (ErrorKind::ConnectionReset, 54),
            (ErrorKind::TimedOut, -1001),
            (ErrorKind::NetworkDown, -1005),
            (ErrorKind::Other, -1005),
        ];
        let refused = [
            (ErrorKind::ConnectionRefused, -1004),
            (ErrorKind::HostUnreachable, -1004),
            (ErrorKind::TimedOut, -1001),
            (ErrorKind::NetworkUnreachable, -1009),
            (ErrorKind::NetworkDown, -1009),
            (ErrorKind::AddrNotAvailable, -1009),
        ];
        let broken = broken.map(|(kind, code)| (io_error(kind.into(), ErrorStage::Open), code));
        let refused = refused.map(|(kind, code)| (connect_error(kind.into(), "[::1]:80".parse().unwrap()), code));
        for (error, code) in broken.iter().chain(&refused) {
            assert_eq!(error.raw_code(), *code, "{error}");
            assert!(error.source().is_some());
        }
        assert!(refused.iter().all(|(error, _)| error.reason().contains("[::1]:80")));
        let unresolved = [
            (ErrorKind::NotFound, -1003),
            (ErrorKind::NetworkUnreachable, -1009),
            (ErrorKind::NetworkDown, -1009),
            (ErrorKind::OutOfMemory, -1006),
            (ErrorKind::Other, -1006),
        ];
        for (kind, code) in unresolved {
            let error = resolve_error(io::Error::new(kind, "the resolver's words"), "no.example");
            assert_eq!((error.raw_code(), error.stage()), (code, ErrorStage::Resolve), "{kind}");
            assert!(error.reason().contains("no.example") && error.reason().contains("the resolver's words"));
            assert!(error.source().is_some());
        }
        assert_eq!(connection_lost(ErrorStage::Tls).raw_code(), -1005);
    }
}
