//! What is told, one call at a time.

use std::fmt;
use std::sync::Arc;

use super::receives::Receive;
use crate::foundation::{CloseCode, Completion, HttpUrlResponse, Message, UrlError};
use crate::loader::question::Question;
use crate::loader::timeline::Collected;

/// One call of user code.
pub enum Callback {
    /// No call of user code: the messages before the server's fault are told, as far as receives waited for them, and
    /// [`Loader::give_up`](crate::loader::Loader::give_up) is due.
    Fault,
    /// `task_is_waiting_for_connectivity`.
    WaitingForConnectivity,
    /// `did_receive_informational_response`.
    Informational(HttpUrlResponse),
    /// A question to a delegate, and how many of those who may answer it have passed it on.
    Question(Arc<Question>, usize),
    /// `did_open_with_protocol`.
    Open(Option<String>),
    /// The handler of a send.
    Sent(Completion<()>, Result<(), UrlError>),
    /// The handler of a receive.
    Received(Receive, Result<Message, UrlError>),
    /// The handler of a ping.
    Pong(Completion<()>, Result<(), UrlError>),
    /// `did_close_with`.
    Close(CloseCode, Option<Vec<u8>>),
    /// `did_finish_collecting_metrics`.
    Metrics(Box<Collected>),
    /// `did_complete_with_error`. Always the last but for the failures of later calls.
    Complete(Option<UrlError>),
}

impl fmt::Debug for Callback {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault => formatter.write_str("Fault"),
            Self::WaitingForConnectivity => formatter.write_str("WaitingForConnectivity"),
            Self::Informational(response) => formatter.debug_tuple("Informational").field(response).finish(),
            Self::Question(question, _) => formatter.debug_tuple("Question").field(question).finish(),
            Self::Open(protocol) => formatter.debug_tuple("Open").field(protocol).finish(),
            Self::Sent(_, result) => formatter.debug_tuple("Sent").field(result).finish(),
            Self::Received(_, result) => {
                formatter.debug_tuple("Received").field(&result.as_ref().map(Message::len)).finish()
            }
            Self::Pong(_, result) => formatter.debug_tuple("Pong").field(result).finish(),
            Self::Close(code, _) => formatter.debug_tuple("Close").field(code).finish(),
            Self::Metrics(_) => formatter.write_str("Metrics"),
            Self::Complete(error) => formatter.debug_tuple("Complete").field(error).finish(),
        }
    }
}
