//! How a task may end, and what each end tells: the rows of the table of ends (`docs/architecture.md`).

use std::io;

use super::event::End;
use crate::foundation::{CloseCode, ErrorCode, ErrorStage, TaskMetrics, UrlError};

/// Why a task ends.
#[derive(Debug)]
pub enum Cause {
    /// The server's Close frame came first.
    ServerClosed { code: Option<CloseCode>, reason: Vec<u8> },
    /// `cancel_with`: answered, timed out, or the connection was lost on the way.
    CancelledWith { code: CloseCode, reason: Option<Vec<u8>> },
    /// `cancel`, or the session was invalidated.
    Cancelled,
    /// Everything else.
    Failed(UrlError),
}

impl Cause {
    /// `opened`: whether the socket was open; what failed on an open socket repeats as `NotConnected`.
    pub fn into_end(self, opened: bool, metrics: TaskMetrics) -> End {
        let metrics = Some(metrics);
        match self {
            Self::ServerClosed { code, reason } => {
                let error = not_connected();
                let code = code.unwrap_or(CloseCode::NO_STATUS_RECEIVED);
                End { waiting: error.clone(), later: error, close: Some((code, Some(reason))), error: None, metrics }
            }
            Self::CancelledWith { code, reason } => {
                let error = cancelled();
                End { waiting: error.clone(), later: error, close: Some((code, reason)), error: None, metrics }
            }
            Self::Cancelled => {
                let error = cancelled();
                End { waiting: error.clone(), later: error.clone(), close: None, error: Some(error), metrics }
            }
            Self::Failed(error) => {
                let later = if opened { not_connected() } else { error.clone() };
                End { waiting: error.clone(), later, close: None, error: Some(error), metrics }
            }
        }
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
    let reason = "the server ended the connection without a Close frame";
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
pub fn connect_error(error: io::Error, address: &str) -> UrlError {
    let code = match error.kind() {
        io::ErrorKind::TimedOut => ErrorCode::TimedOut,
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => ErrorCode::NotConnectedToInternet,
        _ => ErrorCode::CannotConnectToHost,
    };
    UrlError::new(code, ErrorStage::Connect, format!("cannot connect to {address}: {error}")).with_source(error)
}

/// A host whose addresses could not be found.
pub fn resolve_error(error: io::Error, host: &str) -> UrlError {
    let reason = format!("cannot find the host {host}: {error}");
    UrlError::new(ErrorCode::CannotFindHost, ErrorStage::Resolve, reason).with_source(error)
}
