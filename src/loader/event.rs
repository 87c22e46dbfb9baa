//! What a task's road asks of the reactor, and what it tells the session.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::end::Closed;
use super::question::Question;
use super::sends::SentBatch;
use super::timeline::Collected;
use crate::foundation::{Bundle, CloseCode, Completion, HttpUrlResponse, Message, UrlError};

/// What only the reactor can do.
#[derive(Debug)]
pub enum Action {
    /// Look up the addresses of a host; the answer is [`Loader::resolved`](super::Loader::resolved).
    Resolve {
        /// Its number, for the answer.
        look_up: u32,
        /// A DNS name.
        host: String,
        /// The port of the addresses.
        port: u16,
    },
    /// Open a TCP connection, perhaps beside others; the answer is [`Loader::connected`](super::Loader::connected), and the
    /// others are given up, or [`Loader::connect_failed`](super::Loader::connect_failed).
    Connect {
        /// Its number, for the answer.
        attempt: u32,
        /// Where it leads.
        address: SocketAddr,
    },
    /// Close the socket, whatever waits in it, and give up those that are being made.
    Disconnect,
}

/// What happened to a task, in order. The session turns each into what the delegate and the handlers are told.
pub enum Event {
    /// The network is missing, and the task waits for it.
    WaitingForConnectivity,
    /// A 1xx other than 101.
    Informational(HttpUrlResponse),
    /// The delegate is asked, and the task waits for [`Loader::reply`](super::Loader::reply).
    Question(Arc<Question>),
    /// The handshake is complete.
    Open {
        /// The subprotocol that the server chose.
        protocol: Option<String>,
    },
    /// A message arrived whole.
    Message(Message),
    /// Messages arrived whole together, at least one.
    Messages(Bundle),
    /// A message was handed to the kernel, or never will be.
    Sent(Completion<()>, Result<(), UrlError>),
    /// Messages were handed to the kernel, at least one.
    AllSent(SentBatch),
    /// A ping was answered, or never will be.
    Pong(Completion<()>, Result<(), UrlError>),
    /// The server broke the protocol. When the messages before this are told,
    /// [`Loader::give_up`](super::Loader::give_up) ends the task.
    Fault,
    /// The end of the task is known. Behind it come what fails because of it, [`Event::DiscardUnread`], and the failures of
    /// later calls.
    End(Box<End>),
    /// Messages that nobody took are dropped: the task was cancelled.
    DiscardUnread,
    /// Messages stand before the end for too long: if nobody is about to take them, they are dropped.
    UnreadDue,
}

impl fmt::Debug for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WaitingForConnectivity => formatter.write_str("WaitingForConnectivity"),
            Self::Informational(response) => formatter.debug_tuple("Informational").field(response).finish(),
            Self::Question(question) => formatter.debug_tuple("Question").field(question).finish(),
            Self::Open { protocol } => formatter.debug_struct("Open").field("protocol", protocol).finish(),
            Self::Message(message) => formatter.debug_tuple("Message").field(&message.len()).finish(),
            Self::Messages(messages) => formatter.debug_tuple("Messages").field(&messages.len()).finish(),
            Self::Sent(_, result) => formatter.debug_tuple("Sent").field(result).finish(),
            Self::AllSent(sent) => formatter.debug_tuple("AllSent").field(&sent.len()).finish(),
            Self::Pong(_, result) => formatter.debug_tuple("Pong").field(result).finish(),
            Self::Fault => formatter.write_str("Fault"),
            Self::End(end) => formatter.debug_tuple("End").field(end).finish(),
            Self::DiscardUnread => formatter.write_str("DiscardUnread"),
            Self::UnreadDue => formatter.write_str("UnreadDue"),
        }
    }
}

/// How a task ended: a row of the table of ends.
#[derive(Debug)]
pub struct End {
    /// What the handlers that wait fail with.
    pub waiting: UrlError,
    /// What later calls fail with.
    pub later: UrlError,
    /// What `did_close_with`, `close_code` and `close_reason` tell, where the delegate is told of a close.
    pub close: Option<(CloseCode, Option<Vec<u8>>)>,
    /// What the server's Close said, where one came before the end.
    pub server_close: Option<Closed>,
    /// What `did_complete_with_error` tells.
    pub error: Option<UrlError>,
    /// What `did_finish_collecting_metrics` tells.
    pub metrics: Option<Box<Collected>>,
}
