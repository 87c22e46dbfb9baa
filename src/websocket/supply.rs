//! What the making of frames uses up, and gives back: unpredictable bytes, and the memory of frames that have left.
#![forbid(unsafe_code)]

use std::fmt;

use super::compressor::Compressed;
use super::output::{CHUNK, Parts};
use crate::foundation::Random;

/// How many buffers are kept for the next frames.
pub const KEPT: usize = 4;

/// One for each thread that sends. The queues of connections own no memory while they are empty; this lends it to them.
pub struct Supply {
    /// The mask keys.
    pub random: Random,
    chunks: Vec<Vec<u8>>,
    parts: Option<Box<Parts>>,
    compressed: Vec<u8>,
}

impl Supply {
    /// A supply that takes its bytes from `random` and has no memory yet.
    pub fn new(random: Random) -> Self {
        Self { random, chunks: Vec::new(), parts: None, compressed: Vec::new() }
    }

    /// An empty buffer.
    pub(super) fn chunk(&mut self) -> Vec<u8> {
        self.chunks.pop().unwrap_or_default()
    }

    /// A buffer whose frames have left. One that is much longer than a chunk is let go.
    #[inline]
    pub(super) fn keep_chunk(&mut self, mut chunk: Vec<u8>) {
        if self.chunks.len() < KEPT && chunk.capacity() <= CHUNK {
            chunk.clear();
            self.chunks.push(chunk);
        }
    }

    /// Room for a message to be compressed into.
    pub(super) fn compressed(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.compressed)
    }

    /// The memory of a compressed message that was framed, or that goes out otherwise.
    pub fn keep_compressed(&mut self, compressed: Compressed) {
        let mut memory = compressed.payload;
        if memory.capacity() <= CHUNK {
            memory.clear();
            self.compressed = memory;
        }
    }

    /// An output of nothing.
    pub(super) fn parts(&mut self) -> Box<Parts> {
        self.parts.take().unwrap_or_default()
    }

    /// An output that was given back, and out of which everything was taken.
    pub(super) fn keep_parts(&mut self, mut parts: Box<Parts>) {
        for chunk in parts.take_emptied() {
            self.keep_chunk(chunk);
        }
        if parts.is_small() {
            self.parts = Some(parts);
        }
    }
}

impl fmt::Debug for Supply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Supply").field("chunks", &self.chunks.len()).finish_non_exhaustive()
    }
}
