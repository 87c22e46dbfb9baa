//! The bytes of a message that is still arriving, in one piece of memory.

use std::fmt;
use std::mem::MaybeUninit;

use super::utf8::{Malformed, whole_characters};
use crate::foundation::Message;

/// How much is reserved ahead of the first bytes of a frame.
const AHEAD: usize = 4096;
/// The memory of a message may become so many times the bytes that are there. Twice takes a message of a megabyte two system
/// calls more; four times was measured to be slower where another thread frees the messages.
const GROWTH: usize = 3;
/// How much room is offered at a time: what that growth allows, at least this…
const SMALLEST_ROOM: usize = 64 * 1024;
/// …and at most this.
const LARGEST_ROOM: usize = 1024 * 1024;
/// How much is inflated at a time.
const LARGEST_INFLATED_ROOM: usize = 128 * 1024;

/// The payload of a message so far, all of its frames joined. Of a text, every byte is checked when it arrives.
///
/// Memory follows what has arrived, never what a header promises: the capacity grows at most to three times the bytes that are
/// there, or to a small constant. Where the end of the message is known it grows to exactly that.
///
/// The fields are private to this file because `finish` relies on them: `bytes[..filled]` has arrived and is never
/// written again, and of a text `bytes[..checked]` is UTF-8, `bytes[checked..filled]` the beginning of a character.
pub struct Payload {
    bytes: Vec<u8>,
    filled: usize,
    checked: usize,
    is_text: bool,
}

impl Payload {
    /// The empty payload of a text or of a binary message.
    pub fn new(is_text: bool) -> Self {
        Self { bytes: Vec::new(), filled: 0, checked: 0, is_text }
    }

    /// How many bytes have arrived.
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Appends `arrived`. `rest`: what was missing of the frame before it; `is_last`: whether the message ends with the
    /// frame.
    pub fn append(&mut self, arrived: &[u8], rest: usize, is_last: bool) -> Result<(), Malformed> {
        self.reserve(arrived.len(), self.filled.saturating_add(arrived.len()), rest, is_last);
        self.bytes.truncate(self.filled);
        self.bytes.extend_from_slice(arrived);
        self.filled = self.bytes.len();
        self.check()
    }

    /// Appends what was inflated of a message that stays below `limit` bytes. How much will follow nobody knows: a message
    /// that is inflated at once has memory of exactly its size, and a longer one at most twice its bytes.
    pub fn append_inflated(&mut self, inflated: &[u8], limit: usize) -> Result<(), Malformed> {
        let needed = inflated.len();
        self.bytes.truncate(self.filled);
        if self.bytes.capacity() - self.filled < needed {
            let more = self.filled.min(limit.saturating_sub(self.filled)).max(needed);
            if self.bytes.try_reserve_exact(more).is_err() {
                self.bytes.reserve_exact(needed);
            }
        }
        self.bytes.extend_from_slice(inflated);
        self.filled = self.bytes.len();
        self.check()
    }

    /// Room to inflate into, of a message that is longer than a chunk and stays below `limit` bytes: initialised, never empty
    /// below the limit. [`arrived`](Self::arrived) tells of what was written.
    pub fn inflated_room(&mut self, limit: usize) -> &mut [u8] {
        let room = self.filled.min(LARGEST_INFLATED_ROOM).min(limit.saturating_sub(self.filled));
        let end = self.filled + room;
        if self.bytes.capacity() < end {
            let more = self.filled.min(limit.saturating_sub(self.filled)).max(room);
            self.bytes.truncate(self.filled);
            if self.bytes.try_reserve_exact(more).is_err() {
                self.bytes.reserve_exact(room);
            }
        }
        // Zeroes are written once: what an earlier room offered and was not used is still there.
        lengthen(&mut self.bytes, end);
        self.bytes.get_mut(self.filled..end).unwrap_or_default()
    }

    /// What has arrived.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or_default()
    }

    /// Room to read the next bytes into: initialised, and no more than `rest`, what is missing of the frame.
    #[cfg(any(test, feature = "__internals"))]
    pub fn room(&mut self, rest: usize, is_last: bool) -> &mut [u8] {
        let room = self.next_room(rest);
        self.reserve(room, self.filled, rest, is_last);
        // Zeroes are written once: what an earlier room offered and was not used is still there.
        let end = self.filled + room;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes.get_mut(self.filled..end).unwrap_or_default()
    }

    /// As [`room`](Self::room), but with whatever the memory holds.
    fn vacancy(&mut self, rest: usize, is_last: bool) -> &mut [MaybeUninit<u8>] {
        let room = self.next_room(rest);
        self.reserve(room, self.filled, rest, is_last);
        self.bytes.truncate(self.filled);
        self.bytes.spare_capacity_mut().get_mut(..room).unwrap_or_default()
    }

    fn next_room(&self, rest: usize) -> usize {
        self.filled.saturating_mul(GROWTH - 1).clamp(SMALLEST_ROOM, LARGEST_ROOM).min(rest)
    }

    /// Takes over `count` bytes at the front of the room, or all that there is where that is less; tells how many.
    pub fn arrived(&mut self, count: usize) -> Result<usize, Malformed> {
        let count = count.min(self.bytes.len().saturating_sub(self.filled));
        self.filled += count;
        self.check()?;
        Ok(count)
    }

    /// The message, once all of it has arrived. A text must not stop in the middle of a character.
    pub fn finish(mut self) -> Result<Message, Malformed> {
        self.bytes.truncate(self.filled);
        // Where the end was not known before it came, too much may have been reserved.
        if self.bytes.capacity() - self.filled > self.filled / 4 {
            self.bytes.shrink_to_fit();
        }
        if !self.is_text {
            return Ok(Message::Data(self.bytes));
        }
        if self.checked != self.bytes.len() {
            return Err(Malformed);
        }
        // SAFETY: `bytes[..checked]` is UTF-8, and that is all of `bytes`. `checked` moves in `check` alone, from the end
        // of one whole character over whole characters that the validator found in `bytes[..filled]`. Bytes below `filled`
        // do not change after that: `append` writes behind `filled`, `room` lends out what is behind `filled`, `truncate`
        // takes away only what is behind it.
        Ok(Message::String(unsafe { String::from_utf8_unchecked(self.bytes) }))
    }

    /// Checks what has arrived since the last check, and the 3 bytes at most that were left over then.
    fn check(&mut self) -> Result<(), Malformed> {
        if self.is_text {
            let fresh = self.bytes.get(self.checked..self.filled).unwrap_or_default();
            self.checked += whole_characters(fresh)?;
        }
        Ok(())
    }

    /// Makes sure of capacity for `needed` more bytes, `needed <= rest`. `present`: what has arrived, with what is about to be
    /// appended.
    fn reserve(&mut self, needed: usize, present: usize, rest: usize, is_last: bool) {
        if self.bytes.capacity() - self.filled >= needed {
            return;
        }
        let ahead = if is_last {
            // Grows until it reaches the end of the message, and then is exact.
            present.saturating_mul(GROWTH).saturating_sub(self.filled).max(AHEAD).min(rest)
        } else {
            // More frames will follow: doubles, so that many small ones cost linear time.
            self.filled.max(AHEAD.min(rest))
        };
        // No further than a Vec can be; what the decoder admits of a frame is never beyond that.
        let end = self.filled + needed.max(ahead.min(isize::MAX as usize - self.filled));
        // What is only for later may be too much, where a message is a good part of all memory.
        if self.bytes.try_reserve_exact(end - self.bytes.len()).is_err() {
            self.bytes.reserve_exact(self.filled + needed - self.bytes.len());
        }
    }

    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

impl fmt::Debug for Payload {
    /// Shows nothing of what the message says.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Payload").field("len", &self.filled).field("is_text", &self.is_text).finish()
    }
}

/// Makes `bytes` at least so long, with zeroes. They are copied: `resize` takes a step for each byte where nothing is optimised,
/// and made tests ten times as long.
pub fn lengthen(bytes: &mut Vec<u8>, length: usize) {
    static ZEROES: [u8; 4096] = [0; 4096];
    while let Some(missing @ 1..) = length.checked_sub(bytes.len()) {
        bytes.extend_from_slice(ZEROES.get(..missing).unwrap_or(&ZEROES));
    }
}

/// A message that has begun.
pub struct Incomplete {
    /// What has arrived of it.
    pub payload: Payload,
    /// How many short frames it had.
    pub short_frames: u32,
    /// It is compressed.
    pub is_compressed: bool,
}

impl Incomplete {
    /// A message of which nothing has arrived.
    pub fn new(is_text: bool, is_compressed: bool) -> Self {
        Self { payload: Payload::new(is_text), short_frames: 0, is_compressed }
    }
}

/// A message that is being received, taken out of its [`Decoder`](super::Decoder) to be read into.
pub struct PayloadBuffer {
    pub(super) message: Incomplete,
    pub(super) is_last: bool,
    pub(super) rest: usize,
}

impl PayloadBuffer {
    /// Room for the next bytes of the message: initialised, never empty, never beyond the end of the frame. It grows with
    /// what has arrived: twice as much, but 64 KiB at least and 1 MiB at most.
    #[cfg(any(test, feature = "__internals"))]
    pub fn space(&mut self) -> &mut [u8] {
        self.message.payload.room(self.rest, self.is_last)
    }

    /// The same room as it is. A message of a megabyte is spared its zeroes.
    pub fn vacancy(&mut self) -> &mut [MaybeUninit<u8>] {
        self.message.payload.vacancy(self.rest, self.is_last)
    }

    /// `count` bytes were written to the front of the [`vacancy`](Self::vacancy), to be told of by
    /// [`payload_received`](super::Decoder::payload_received).
    ///
    /// # Safety
    ///
    /// That is so, and the vacancy had as many.
    pub unsafe fn assume_written(&mut self, count: usize) {
        let bytes = &mut self.message.payload.bytes;
        // SAFETY: the caller's promise, for `vacancy` left the length at the front of what it lent.
        unsafe { bytes.set_len(bytes.len() + count) };
    }
}

impl fmt::Debug for PayloadBuffer {
    /// Shows nothing of what the message says.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PayloadBuffer")
            .field("received", &self.message.payload.len())
            .field("rest", &self.rest)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `bytes` as a message of one frame, `portion` bytes at a time, into memory as it is.
    fn read(bytes: &[u8], is_text: bool, portion: usize) -> Result<Message, Malformed> {
        let message = Incomplete::new(is_text, false);
        let mut buffer = PayloadBuffer { message, is_last: true, rest: bytes.len() };
        let mut left = bytes;
        while !left.is_empty() {
            let vacancy = buffer.vacancy();
            assert!(!vacancy.is_empty() && vacancy.len() <= left.len().min(LARGEST_ROOM));
            let count = portion.min(vacancy.len());
            let (front, after) = left.split_at(count);
            vacancy.iter_mut().zip(front).for_each(|(place, byte)| {
                place.write(*byte);
            });
            // SAFETY: `count` bytes of the vacancy were written just now.
            unsafe { buffer.assume_written(count) };
            assert_eq!(buffer.message.payload.arrived(usize::MAX)?, count);
            buffer.rest -= count;
            left = after;
        }
        buffer.message.payload.finish()
    }

    #[test]
    fn what_is_read_into_memory_as_it_is_is_the_message() {
        let text = "äöü€🌍 and more ".repeat(20_000);
        for portion in [1000, 4097, 65_536, usize::MAX] {
            assert_eq!(read(text.as_bytes(), true, portion), Ok(Message::from(&text)));
            assert_eq!(read(text.as_bytes(), false, portion), Ok(Message::from(text.as_bytes())));
            let cut = &text.as_bytes()[1..];
            assert_eq!(read(cut, true, portion), Err(Malformed));
        }
    }
}
