//! `yawc`, with UTF-8 checked by SIMD, with zlib-rs and its default level where messages are compressed, and with buffers for
//! each workload.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use yawc::close::CloseCode;
use yawc::frame::{Frame, OpCode};
use yawc::{CompressionLevel, Options, WebSocket};

use super::Socket;
use super::stream::{Opener, Stream};
use crate::fail;
use crate::workload::{Compression, Kind, Shape};

/// The level that this crate compresses at.
const OWN_LEVEL: u32 = 4;

/// A WebSocket.
pub struct Yawc(WebSocket<Stream>);

impl Socket for Yawc {
    type Message = (Kind, Bytes);

    async fn open(opener: &Opener, connection: usize) -> Self {
        let stream = opener.open(connection).await;
        let url = opener.job.url(connection).parse().unwrap_or_else(|error| fail(error));
        let options = compressed(opener.job.workload.compression).with_utf8().with_limits(16 << 20, 32 << 20);
        let options = match opener.job.workload.shape {
            Shape::Flood { .. } => options.with_read_buffer_capacity(128 * 1024),
            Shape::Pipe { .. } => options.with_read_buffer_capacity(32 * 1024).with_backpressure_boundary(128 * 1024),
            Shape::Sink { .. } => options.with_write_buffer_capacity(128 * 1024).with_backpressure_boundary(128 * 1024),
            Shape::Idle { .. } => options.with_read_buffer_capacity(256).with_write_buffer_capacity(256),
            _ => options,
        };
        match WebSocket::handshake(url, stream, options).await {
            Ok(socket) => Self(socket),
            Err(error) => fail(error),
        }
    }

    fn message(kind: Kind, payload: Vec<u8>) -> (Kind, Bytes) {
        (kind, payload.into())
    }

    async fn write(&mut self, (kind, bytes): &(Kind, Bytes)) {
        // Sharing the payload costs a count: the library masks it while it copies it into its buffer.
        let payload = bytes.clone();
        let frame = if *kind == Kind::Binary { Frame::binary(payload) } else { Frame::text(payload) };
        if let Err(error) = self.0.feed(frame).await {
            fail(error);
        }
    }

    async fn flush(&mut self) {
        if let Err(error) = SinkExt::flush(&mut self.0).await {
            fail(error);
        }
    }

    async fn receive(&mut self, kind: Kind, size: usize) {
        match self.0.next_frame().await {
            Ok(frame) => {
                let opcode = if kind == Kind::Binary { OpCode::Binary } else { OpCode::Text };
                if frame.opcode() != opcode || frame.payload().len() != size {
                    fail(format_args!("an unexpected frame of {} bytes", frame.payload().len()));
                }
            }
            Err(error) => fail(error),
        }
    }

    async fn close(mut self) {
        if let Err(error) = self.0.send(Frame::close(CloseCode::Normal, [])).await {
            fail(error);
        }
        while self.0.next().await.is_some() {}
    }
}

/// Its threshold is 0 by default: it compresses every message.
fn compressed(compression: Compression) -> Options {
    let options = Options::default();
    match compression {
        Compression::Off => options.without_compression(),
        Compression::Takeover => options.with_compression_level(CompressionLevel::default()),
        Compression::Level => options.with_compression_level(CompressionLevel::new(OWN_LEVEL)),
        Compression::Anew => options
            .with_compression_level(CompressionLevel::default())
            .client_no_context_takeover()
            .server_no_context_takeover(),
    }
}
