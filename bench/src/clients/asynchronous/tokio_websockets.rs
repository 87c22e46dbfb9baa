//! `tokio-websockets`, with SIMD, its fastest random numbers, and a large threshold before it flushes by itself.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio_websockets::{ClientBuilder, Config, Limits, Message, WebSocketStream};

use super::Socket;
use super::stream::{Opener, Stream};
use crate::fail;
use crate::workload::Kind;

/// A WebSocket.
pub struct TokioWebsockets(WebSocketStream<Stream>);

impl Socket for TokioWebsockets {
    type Message = (Kind, Bytes);

    async fn open(opener: &Opener, connection: usize) -> Self {
        let stream = opener.open(connection).await;
        let builder = match ClientBuilder::new().uri(&opener.job.url(connection)) {
            Ok(builder) => builder,
            Err(error) => fail(error),
        };
        let config = Config::default().flush_threshold(128 * 1024).frame_size(16 << 20);
        match builder.config(config).limits(Limits::unlimited()).connect_on(stream).await {
            Ok((socket, _)) => Self(socket),
            Err(error) => fail(error),
        }
    }

    fn message(kind: Kind, payload: Vec<u8>) -> (Kind, Bytes) {
        (kind, payload.into())
    }

    async fn write(&mut self, (kind, bytes): &(Kind, Bytes)) {
        // It masks in place, and copies what is shared; a text that is not known to be one would be checked again.
        let message = match kind {
            Kind::Binary => Message::binary(bytes.clone()),
            Kind::Text | Kind::Utf | Kind::Json => match String::from_utf8(bytes.to_vec()) {
                Ok(text) => Message::text(text),
                Err(error) => fail(error),
            },
        };
        if let Err(error) = self.0.feed(message).await {
            fail(error);
        }
    }

    async fn flush(&mut self) {
        if let Err(error) = SinkExt::flush(&mut self.0).await {
            fail(error);
        }
    }

    async fn receive(&mut self, kind: Kind, size: usize) {
        match self.0.next().await {
            Some(Ok(message)) => {
                let fits = if kind == Kind::Binary { message.is_binary() } else { message.is_text() };
                if !fits || message.as_payload().len() != size {
                    fail(format_args!("an unexpected message: {message:.100?}"));
                }
            }
            Some(Err(error)) => fail(error),
            None => fail("the server closed the connection"),
        }
    }

    async fn close(mut self) {
        if let Err(error) = SinkExt::close(&mut self.0).await {
            fail(error);
        }
        while let Some(message) = self.0.next().await {
            if let Err(error) = message {
                fail(error);
            }
        }
    }
}
