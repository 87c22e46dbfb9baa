//! Bytes on their way to the socket.

use std::io::IoSlice;

use crate::websocket;

/// Bytes that the reactor writes; the loader gives them out and takes back what could not be written.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is moved twice for each write, and a box would cost more")]
pub enum Output {
    /// The head of the upgrade, or TLS records.
    Raw(Box<Raw>),
    /// WebSocket frames.
    Frames(websocket::Output),
}

/// Bytes, and how many of them are written.
#[derive(Debug, Default)]
pub struct Raw {
    pub bytes: Vec<u8>,
    pub written: usize,
}

impl Raw {
    pub fn is_empty(&self) -> bool {
        self.written >= self.bytes.len()
    }
}

impl Output {
    /// What is left to write, in order.
    pub fn slices<'a>(&'a self, into: &mut Vec<IoSlice<'a>>) {
        match self {
            Self::Raw(raw) => into.extend(raw.bytes.get(raw.written..).map(IoSlice::new)),
            Self::Frames(frames) => into.extend(frames.slices().map(IoSlice::new)),
        }
    }

    /// `written` more bytes are in the kernel.
    pub fn advance(&mut self, written: usize) {
        match self {
            Self::Raw(raw) => raw.written = raw.bytes.len().min(raw.written + written),
            Self::Frames(frames) => frames.advance(written),
        }
    }

    /// Whether all is written.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Raw(raw) => raw.is_empty(),
            Self::Frames(frames) => frames.is_empty(),
        }
    }
}
