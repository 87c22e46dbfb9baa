//! `tungstenite`, with the buffers that its documentation recommends for each workload.

use std::io::ErrorKind;

use tungstenite::client::client_with_config;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Bytes, Error, Message, Utf8Bytes, WebSocket};

use super::Socket;
use super::stream::{Opener, Stream};
use crate::workload::{Kind, Shape};
use crate::{fail, payload};

/// A WebSocket.
pub struct Tungstenite(WebSocket<Stream>);

/// A read buffer is filled with zeros before each read: as large as the workload needs, and not larger.
pub fn config(shape: Shape) -> WebSocketConfig {
    let read_buffer = match shape {
        Shape::Flood { .. } => 128 * 1024,
        Shape::Echo { size, .. } if size > 64 * 1024 => 128 * 1024,
        Shape::Pipe { .. } => 32 * 1024,
        Shape::Idle { .. } => 1024,
        _ => 4 * 1024,
    };
    WebSocketConfig::default().read_buffer_size(read_buffer)
}

/// A message of that kind.
pub fn message(kind: Kind, payload: Vec<u8>) -> Message {
    match (kind, Bytes::from(payload)) {
        (Kind::Binary, data) => Message::Binary(data),
        (_, text) => Message::Text(Utf8Bytes::try_from(text).unwrap_or_else(|error| fail(error))),
    }
}

impl Socket for Tungstenite {
    type Message = Message;

    fn open(opener: &Opener<'_>, connection: usize) -> Self {
        let stream = opener.open(connection);
        match client_with_config(opener.job.url(connection), stream, Some(config(opener.job.workload.shape))) {
            Ok((socket, _)) => Self(socket),
            Err(error) => fail(error),
        }
    }

    fn message(kind: Kind, size: usize) -> Message {
        message(kind, payload::bytes(kind, size))
    }

    fn write(&mut self, message: &Message) {
        // Sharing the payload costs a count: the library copies it into its buffer.
        if let Err(error) = self.0.write(message.clone()) {
            fail(error);
        }
    }

    fn flush(&mut self) {
        if let Err(error) = self.0.flush() {
            fail(error);
        }
    }

    fn receive(&mut self, kind: Kind, size: usize) -> bool {
        match (self.0.read(), kind) {
            (Ok(Message::Text(text)), Kind::Text | Kind::Utf | Kind::Json) if text.len() == size => true,
            (Ok(Message::Binary(data)), Kind::Binary) if data.len() == size => true,
            (Ok(message), _) => fail(format_args!("an unexpected message: {message:.100?}")),
            (Err(Error::Io(error)), _) if error.kind() == ErrorKind::WouldBlock => false,
            (Err(error), _) => fail(error),
        }
    }

    fn close(mut self) {
        let mut result = self.0.close(None);
        while result.is_ok() {
            result = self.0.read().map(|_| ());
        }
        match result {
            Err(Error::ConnectionClosed) => {}
            Err(error) => fail(error),
            Ok(()) => {}
        }
    }

    fn stream(&self) -> &Stream {
        self.0.get_ref()
    }
}
