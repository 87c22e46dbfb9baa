//! `tokio-tungstenite`, with the same buffers as `tungstenite`.

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use tungstenite::Message;

use super::Socket;
use super::stream::{Opener, Stream};
use crate::clients::blocking::{tungstenite_config, tungstenite_message};
use crate::fail;
use crate::workload::Kind;

/// A WebSocket.
pub struct TokioTungstenite(WebSocketStream<Stream>);

impl Socket for TokioTungstenite {
    type Message = Message;

    async fn open(opener: &Opener, connection: usize) -> Self {
        let stream = opener.open(connection).await;
        let config = tungstenite_config(opener.job.workload.shape);
        match client_async_with_config(opener.job.url(connection), stream, Some(config)).await {
            Ok((socket, _)) => Self(socket),
            Err(error) => fail(error),
        }
    }

    fn message(kind: Kind, payload: Vec<u8>) -> Message {
        tungstenite_message(kind, payload)
    }

    async fn write(&mut self, message: &Message) {
        if let Err(error) = self.0.feed(message.clone()).await {
            fail(error);
        }
    }

    async fn flush(&mut self) {
        if let Err(error) = SinkExt::flush(&mut self.0).await {
            fail(error);
        }
    }

    async fn receive(&mut self, kind: Kind, size: usize) {
        match (self.0.next().await, kind) {
            (Some(Ok(Message::Text(text))), Kind::Text | Kind::Utf | Kind::Json) if text.len() == size => {}
            (Some(Ok(Message::Binary(data))), Kind::Binary) if data.len() == size => {}
            (Some(Ok(message)), _) => fail(format_args!("an unexpected message: {message:.100?}")),
            (Some(Err(error)), _) => fail(error),
            (None, _) => fail("the server closed the connection"),
        }
    }

    async fn close(mut self) {
        if let Err(error) = self.0.close(None).await {
            fail(error);
        }
        while let Some(message) = self.0.next().await {
            if let Err(error) = message {
                fail(error);
            }
        }
    }
}
