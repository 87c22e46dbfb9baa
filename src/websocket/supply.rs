//! What the making of frames uses up, and gives back: unpredictable bytes, and the memory of frames that have left.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::mem;

use super::output::Part;
use crate::foundation::Random;

/// How many buffers are kept for the next frames.
const KEPT: usize = 4;

/// One for each thread that sends. The queues of connections own no memory while they are empty; this lends it to them.
pub struct Supply {
    /// The mask keys.
    pub random: Random,
    room: Room,
}

/// Memory that waits to be used again.
#[derive(Default)]
pub struct Room {
    chunks: Vec<Vec<u8>>,
    parts: VecDeque<Part>,
}

impl Supply {
    /// A supply that takes its bytes from `random` and has no memory yet.
    pub fn new(random: Random) -> Self {
        Self { random, room: Room::default() }
    }

    /// An empty buffer.
    pub(super) fn chunk(&mut self) -> Vec<u8> {
        self.room.chunks.pop().unwrap_or_default()
    }

    /// All of the memory; to be put back.
    pub(super) fn take_room(&mut self) -> Room {
        mem::take(&mut self.room)
    }

    pub(super) fn put_room(&mut self, room: Room) {
        self.room = room;
    }
}

impl Room {
    /// A buffer whose frames have left. One that is much longer than a chunk is let go.
    pub fn keep_chunk(&mut self, mut chunk: Vec<u8>, longest: usize) {
        if self.chunks.len() < KEPT && chunk.capacity() <= longest {
            chunk.clear();
            self.chunks.push(chunk);
        }
    }

    pub fn parts(&mut self) -> VecDeque<Part> {
        mem::take(&mut self.parts)
    }

    /// An empty list, for its memory.
    pub fn keep_parts(&mut self, parts: VecDeque<Part>) {
        if parts.is_empty() && parts.capacity() <= 64 {
            self.parts = parts;
        }
    }
}

impl fmt::Debug for Supply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Supply").field("chunks", &self.room.chunks.len()).finish_non_exhaustive()
    }
}
