//! `fastwebsockets`, with a write buffer below it, since it writes each frame by itself, and without the layer of `hyper`
//! that its handshake leaves between it and the socket.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocket, handshake};
use http_body_util::Empty;
use hyper::Request;
use hyper::header::{CONNECTION, HOST, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use tokio::io::BufWriter;

use super::Socket;
use super::prefixed::Prefixed;
use super::stream::{Opener, Stream};
use crate::fail;
use crate::workload::{Kind, Shape};

/// A WebSocket.
pub struct FastWebsockets(WebSocket<BufWriter<Prefixed>>);

/// Runs `hyper`'s part of the handshake.
struct Spawn;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Spawn {
    fn execute(&self, future: F) {
        tokio::spawn(future);
    }
}

impl Socket for FastWebsockets {
    type Message = (Kind, Arc<[u8]>);

    async fn open(opener: &Opener, connection: usize) -> Self {
        let stream = opener.open(connection).await;
        let request = Request::builder()
            .uri(opener.job.target())
            .header(HOST, opener.job.address(connection).to_string())
            .header(UPGRADE, "websocket")
            .header(CONNECTION, "upgrade")
            .header(SEC_WEBSOCKET_KEY, handshake::generate_key())
            .header(SEC_WEBSOCKET_VERSION, "13")
            .body(Empty::<Bytes>::new());
        let request = request.unwrap_or_else(|error| fail(error));
        let (socket, _) = handshake::client(&Spawn, request, stream).await.unwrap_or_else(|error| fail(error));
        let Ok(parts) = socket.into_inner().into_inner().downcast::<TokioIo<Stream>>() else {
            fail("hyper gives back another stream")
        };
        let stream = Prefixed { prefix: parts.read_buf, stream: parts.io.into_inner() };
        let buffer = match opener.job.workload.shape {
            Shape::Pipe { .. } | Shape::Sink { .. } => 128 * 1024,
            Shape::Echo { .. } | Shape::Many { .. } => 1024,
            _ => 0,
        };
        let mut socket = WebSocket::after_handshake(BufWriter::with_capacity(buffer, stream), Role::Client);
        socket.set_auto_close(false);
        Self(socket)
    }

    fn message(kind: Kind, payload: Vec<u8>) -> (Kind, Arc<[u8]>) {
        (kind, payload.into())
    }

    async fn write(&mut self, (kind, bytes): &(Kind, Arc<[u8]>)) {
        // It masks in place. An owned copy spares it the question whose the bytes are.
        let payload = Payload::Owned(bytes.to_vec());
        let frame = if *kind == Kind::Binary { Frame::binary(payload) } else { Frame::text(payload) };
        if let Err(error) = self.0.write_frame(frame).await {
            fail(error);
        }
    }

    async fn flush(&mut self) {
        if let Err(error) = self.0.flush().await {
            fail(error);
        }
    }

    async fn receive(&mut self, kind: Kind, size: usize) {
        match self.0.read_frame().await {
            Ok(frame) => {
                let opcode = if kind == Kind::Binary { OpCode::Binary } else { OpCode::Text };
                if frame.opcode != opcode || !frame.fin || frame.payload.len() != size {
                    fail(format_args!("an unexpected frame of {} bytes", frame.payload.len()));
                }
            }
            Err(error) => fail(error),
        }
    }

    async fn close(mut self) {
        if let Err(error) = self.0.write_frame(Frame::close(1000, &[])).await {
            fail(error);
        }
        self.flush().await;
        match self.0.read_frame().await {
            Ok(frame) if frame.opcode == OpCode::Close => {}
            Ok(_) => fail("an unexpected frame"),
            Err(error) => fail(error),
        }
    }
}
