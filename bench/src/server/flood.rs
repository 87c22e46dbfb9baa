//! Messages that are sent as fast as the socket takes them, from a buffer of whole frames that was made once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{self, ErrorKind};
use std::rc::Rc;

use super::channel::Channel;
use super::deflate::{COMPRESSED, Deflater};
use super::frames::put_head;
use crate::payload;
use crate::workload::{Compression, Kind};

/// About how many bytes of frames are made of messages that are all alike.
const BUFFER: usize = 1 << 20;
/// How many writes of one connection before the others have their turn.
const WRITES: usize = 16;

/// Frames of everything that was asked for.
#[derive(Default)]
pub struct Stock(HashMap<(usize, Kind, Compression), Rc<Frames>>);

/// Frames to be sent in turn, and then again from one of them.
#[derive(Default)]
struct Frames {
    bytes: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    /// How many are not sent again.
    once: usize,
}

/// What is left to send on a connection.
pub struct Flood {
    frames: Rc<Frames>,
    position: usize,
    remaining: u64,
}

impl Stock {
    /// A flood of `count` messages.
    pub fn flood(&mut self, count: u64, size: usize, kind: Kind, compression: Compression) -> io::Result<Flood> {
        let frames = match self.0.entry((size, kind, compression)) {
            Entry::Occupied(entry) => Rc::clone(entry.get()),
            Entry::Vacant(entry) => Rc::clone(entry.insert(Rc::new(Frames::new(size, kind, compression)?))),
        };
        Ok(Flood { position: 0, remaining: frames.length(count), frames })
    }
}

impl Frames {
    fn new(size: usize, kind: Kind, compression: Compression) -> io::Result<Self> {
        let messages = payload::all(kind, size);
        let mut frames = Self::default();
        if compression == Compression::Off {
            while frames.bytes.len() < BUFFER {
                messages.iter().for_each(|message| frames.add(kind.opcode(), message));
            }
            return Ok(frames);
        }
        let mut deflater = Deflater::new(compression);
        let mut round = || {
            for message in &messages {
                frames.add(kind.opcode() | COMPRESSED, &deflater.compress(message)?);
            }
            Ok::<_, io::Error>(frames.ends.len())
        };
        let first = round()?;
        if compression != Compression::Anew {
            // The first messages of the first round have nothing to refer to. Those of the second refer to the end of a
            // round, and may follow on any.
            round()?;
            frames.once = first;
        }
        Ok(frames)
    }

    fn add(&mut self, opcode: u8, payload: &[u8]) {
        put_head(&mut self.bytes, true, opcode, payload.len() as u64);
        self.bytes.extend_from_slice(payload);
        self.ends.push(self.bytes.len());
    }

    /// Where the frame begins that follows on the last.
    fn again(&self) -> usize {
        self.once.checked_sub(1).map_or(0, |last| self.ends[last])
    }

    /// The bytes of so many frames.
    fn length(&self, count: u64) -> u64 {
        let round = (self.ends.len() - self.once) as u64;
        let rounds = count.saturating_sub(self.once as u64) / round;
        let rest = usize::try_from(count - rounds * round).unwrap_or_default();
        let end = rest.checked_sub(1).map_or(0, |last| self.ends[last]);
        rounds * (self.bytes.len() - self.again()) as u64 + end as u64
    }
}

impl Flood {
    /// The bytes that are left.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Sends what the socket takes. True if it would take more now.
    pub fn write(&mut self, channel: &mut Channel) -> io::Result<bool> {
        for _ in 0..WRITES {
            if self.remaining == 0 {
                return channel.flush().map(|_| false);
            }
            let rest = &self.frames.bytes[self.position..];
            let take = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(rest.len());
            match channel.write(&rest[..take]) {
                Ok(written) => {
                    self.position += written;
                    self.remaining -= written as u64;
                    if self.position == self.frames.bytes.len() {
                        self.position = self.frames.again();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use zlib_rs::{Inflate, InflateFlush};

    use super::*;

    /// The frames of a flood of `count`, one by one.
    fn sent(frames: &Frames, count: usize) -> Vec<&[u8]> {
        let indices = (0..frames.ends.len()).chain((frames.once..frames.ends.len()).cycle());
        let frame =
            |index: usize| &frames.bytes[index.checked_sub(1).map_or(0, |last| frames.ends[last])..frames.ends[index]];
        indices.take(count).map(frame).collect()
    }

    #[test]
    fn knows_the_length_of_a_flood() {
        for compression in [Compression::Off, Compression::Takeover, Compression::Anew] {
            let frames = Frames::new(64 * 1024, Kind::Json, compression).unwrap();
            for count in [0, 1, 15, 16, 17, 31, 32, 33, 48, 100] {
                let length: usize = sent(&frames, count).iter().map(|frame| frame.len()).sum();
                assert_eq!(frames.length(count as u64), length as u64, "{count} {compression:?}");
            }
        }
    }

    #[test]
    fn compresses_what_can_be_read_again() {
        let (size, count) = (64 * 1024, 50);
        let messages = payload::all(Kind::Json, size);
        for compression in [Compression::Takeover, Compression::Anew] {
            let frames = Frames::new(size, Kind::Json, compression).unwrap();
            let mut inflate = Inflate::new(false, 15);
            for (frame, message) in sent(&frames, count).into_iter().zip(messages.iter().cycle()) {
                assert_eq!(frame[..2], [0x80 | COMPRESSED | 1, 126]);
                let input = [&frame[4..], &[0, 0, 0xff, 0xff]].concat();
                let mut output = vec![0; size + 1];
                let before = inflate.total_out();
                inflate.decompress(&input, &mut output, InflateFlush::SyncFlush).unwrap();
                assert_eq!(inflate.total_out() - before, size as u64, "{compression:?}");
                assert!(output[..size] == message[..], "{compression:?}");
                if compression == Compression::Anew {
                    inflate.reset(false);
                }
            }
        }
    }
}
