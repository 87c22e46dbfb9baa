//! Messages compressed: RFC 7692 §7.2.1.
#![forbid(unsafe_code)]

use std::fmt;

use zlib_rs::{Deflate, DeflateConfig, DeflateFlush};

use super::payload::lengthen;
use super::supply::Supply;
use crate::foundation::Message;

/// What a flush ends with, which is not sent: an empty block without compression, less its first bits (§7.2.1, items 2
/// and 3).
pub const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The effort, of 1 to 9. Of JSON, 6 makes messages 3 % smaller and takes half as long again; 1 makes them a third larger.
const LEVEL: i32 = 4;
/// How much is gathered before it is written, 1 to 9: 2,048 literals and references. 8 takes 98 KiB more for messages that
/// are 1 % smaller.
const MEMORY_LEVEL: i32 = 5;

/// The room that is made at a time for what comes out.
const SMALLEST_ROOM: usize = 512;
const LARGEST_ROOM: usize = 64 * 1024;

/// A message that was compressed.
pub struct Compressed {
    pub(super) is_text: bool,
    pub(super) payload: Vec<u8>,
}

impl Compressed {
    /// The number of its bytes.
    #[allow(clippy::len_without_is_empty, reason = "nobody asks for that")]
    pub fn len(&self) -> usize {
        self.payload.len()
    }
}

impl fmt::Debug for Compressed {
    /// Shows nothing of what the message says.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Compressed").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Compresses messages. It remembers the end of what it compressed, so that the next message may refer to it.
pub struct Compressor {
    stream: Deflate,
    window_bits: u8,
}

impl Compressor {
    /// For a window of 2^`window_bits` bytes, 9 to 15.
    ///
    /// 8 is none that zlib can compress with: it searches up to 262 bytes ahead, and quietly took the next larger window
    /// where it was asked for 256 bytes, so that what came out could not be decompressed with what was agreed (zlib issue
    /// 171). Whoever is asked for it does not compress.
    pub fn new(window_bits: u8) -> Self {
        let window_bits = window_bits.clamp(9, 15);
        let config = DeflateConfig {
            level: LEVEL,
            // Negative: no header and no checksum.
            window_bits: -i32::from(window_bits),
            mem_level: MEMORY_LEVEL,
            ..DeflateConfig::default()
        };
        Self { stream: Deflate::new_with_config(config), window_bits }
    }

    /// The base-2 logarithm of its window.
    pub fn window_bits(&self) -> u8 {
        self.window_bits
    }

    /// Nothing that comes refers to what came before.
    pub fn forget(&mut self) {
        self.stream.reset();
    }

    /// The message as it is sent. `None`: it cannot be compressed, and the compressor cannot be used any more. (No message
    /// does that; a defect might.)
    pub fn compress(&mut self, message: &Message, supply: &mut Supply) -> Option<Compressed> {
        let (is_text, payload) = match message {
            Message::Data(data) => (false, data.as_slice()),
            Message::String(text) => (true, text.as_bytes()),
        };
        let mut compressed = Compressed { is_text, payload: supply.compressed() };
        self.append(payload, &mut compressed.payload).then_some(compressed)
    }

    /// Appends the compressed `payload`; false where that cannot be done.
    fn append(&mut self, mut payload: &[u8], into: &mut Vec<u8>) -> bool {
        if payload.is_empty() {
            // An empty block: §7.2.3.6. zlib makes none where nothing has come since the last flush.
            into.push(0x00);
            return true;
        }
        let mut end = into.len();
        loop {
            let room = (payload.len() / 4).clamp(SMALLEST_ROOM, LARGEST_ROOM);
            lengthen(into, end + room);
            let place = into.get_mut(end..).unwrap_or_default();
            let room = place.len();
            let (taken, made) = (self.stream.total_in(), self.stream.total_out());
            let status = self.stream.compress(payload, place, DeflateFlush::SyncFlush);
            let taken = (self.stream.total_in() - taken) as usize;
            let made = (self.stream.total_out() - made) as usize;
            if status.is_err() {
                return false;
            }
            payload = payload.get(taken..).unwrap_or_default();
            end += made;
            // A flush that fills its room may have more to say.
            if payload.is_empty() && made < room {
                break;
            }
        }
        into.truncate(end);
        let is_flushed = into.ends_with(&TAIL);
        into.truncate(end.saturating_sub(TAIL.len()));
        is_flushed
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Compressor").field("window_bits", &self.window_bits).finish_non_exhaustive()
    }
}
