//! Messages that are sent as fast as the socket takes them, from a buffer of whole frames that was made once.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::rc::Rc;

use super::channel::Channel;
use super::frames::put_head;
use crate::payload;
use crate::workload::Kind;

/// About how many bytes of frames are made for a size.
const BUFFER: usize = 1 << 20;
/// How many writes of one connection before the others have their turn.
const WRITES: usize = 16;

/// Frames of each size and kind that was asked for.
#[derive(Default)]
pub struct Stock(HashMap<(usize, Kind), Frames>);

/// Frames of one size and kind.
struct Frames {
    bytes: Rc<[u8]>,
    /// Of each of them.
    length: usize,
}

/// What is left to send on a connection.
pub struct Flood {
    frames: Rc<[u8]>,
    position: usize,
    remaining: u64,
}

impl Stock {
    /// A flood of `count` messages.
    pub fn flood(&mut self, count: u64, size: usize, kind: Kind) -> Flood {
        let frames = self.0.entry((size, kind)).or_insert_with(|| {
            let mut frame = Vec::new();
            put_head(&mut frame, true, kind.opcode(), size as u64);
            frame.extend_from_slice(&payload::bytes(kind, size));
            let count = (BUFFER / frame.len()).max(1);
            Frames { bytes: frame.repeat(count).into(), length: frame.len() }
        });
        Flood { frames: Rc::clone(&frames.bytes), position: 0, remaining: count * frames.length as u64 }
    }
}

impl Flood {
    /// Sends what the socket takes. True if it would take more now.
    pub fn write(&mut self, channel: &mut Channel) -> io::Result<bool> {
        for _ in 0..WRITES {
            if self.remaining == 0 {
                return channel.flush().map(|_| false);
            }
            let rest = &self.frames[self.position..];
            let take = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(rest.len());
            match channel.write(&rest[..take]) {
                Ok(written) => {
                    self.position = (self.position + written) % self.frames.len();
                    self.remaining -= written as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
