//! Bytes on their way to the socket.

use std::io::IoSlice;

use crate::websocket;

/// Bytes that the reactor writes; the loader gives them out and takes back what could not be written.
#[derive(Debug)]
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
    /// What is left to write.
    pub fn rest(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.written >= self.bytes.len()
    }
}

impl Output {
    /// What is left to write, in order, as much of it as `into` has places for; how many it took.
    pub fn slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        let mut put = |(place, slice): (&mut IoSlice<'a>, &'a [u8])| {
            *place = IoSlice::new(slice);
            count += 1;
        };
        match self {
            Self::Raw(raw) => into.iter_mut().zip(raw.bytes.get(raw.written..)).for_each(&mut put),
            Self::Frames(frames) => into.iter_mut().zip(frames.slices()).for_each(&mut put),
        }
        count
    }

    /// What is left to write, where it certainly lies in one piece.
    #[inline]
    pub fn single(&self) -> Option<&[u8]> {
        match self {
            Self::Raw(raw) => Some(raw.rest()),
            Self::Frames(frames) => frames.single(),
        }
    }

    /// `written` more bytes are in the kernel.
    #[inline]
    pub fn advance(&mut self, written: usize) {
        match self {
            Self::Raw(raw) => raw.written = raw.bytes.len().min(raw.written + written),
            Self::Frames(frames) => frames.advance(written),
        }
    }

    /// Whether all is written.
    #[inline]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Raw(raw) => raw.is_empty(),
            Self::Frames(frames) => frames.is_empty(),
        }
    }
}
