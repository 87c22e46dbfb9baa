//! Compresses messages (permessage-deflate, RFC 7692).

use std::io;

use zlib_rs::{Deflate, DeflateFlush};

use crate::workload::Compression;

/// The first reserved bit of a frame's first byte: the message is compressed.
pub const COMPRESSED: u8 = 0x40;

/// zlib's default.
const LEVEL: i32 = 6;
/// The largest window, which is what a client expects that was told of no other.
const WINDOW_BITS: u8 = 15;
/// What ends a message's last block, and is left out (RFC 7692 §7.2.1).
const TAIL: &[u8] = &[0, 0, 0xff, 0xff];
/// What a message may become longer: its blocks' headers, and the end.
const OVERHEAD: usize = 64;

/// Compresses one message after the other.
pub struct Deflater {
    deflate: Deflate,
    anew: bool,
}

impl Deflater {
    pub fn new(compression: Compression) -> Self {
        let deflate = Deflate::new(LEVEL, false, WINDOW_BITS);
        Self { deflate, anew: compression == Compression::Anew }
    }

    /// The payload of a message's frame.
    pub fn compress(&mut self, message: &[u8]) -> io::Result<Vec<u8>> {
        let mut compressed = vec![0; message.len() + message.len() / 100 + OVERHEAD];
        let before = self.deflate.total_out();
        self.deflate
            .compress(message, &mut compressed, DeflateFlush::SyncFlush)
            .map_err(|error| io::Error::other(error.as_str()))?;
        compressed.truncate(usize::try_from(self.deflate.total_out() - before).unwrap_or_default());
        if !compressed.ends_with(TAIL) {
            return Err(io::Error::other("a message does not fit into its buffer"));
        }
        compressed.truncate(compressed.len() - TAIL.len());
        if self.anew {
            self.deflate.reset();
        }
        Ok(compressed)
    }
}
