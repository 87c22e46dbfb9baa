//! Messages decompressed: RFC 7692 §7.2.2.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use zlib_rs::{Inflate, InflateFlush, Status};

use super::compressor::TAIL;
use super::contexts::Contexts;
use super::payload::Payload;
use super::violation::Violation;

/// Messages up to this length are inflated by way of a chunk of it, which is lent, and so have memory of their own size; what
/// comes behind it is inflated where it stays.
pub const CHUNK: usize = 16 * 1024;

/// When so many bytes have come out of what was read, the rest of it waits: what is compressed may be a thousand times as long,
/// and others want their turn.
const ENOUGH: u64 = 64 * 1024;

/// As far back as anything may refer. Whatever window was agreed on, this one holds it, and zlib has memory for no less.
const WINDOW_BITS: u8 = 15;
const WINDOW: usize = 1 << WINDOW_BITS;

/// How many final blocks a message may have, however short it is, and bytes for each that it has above that. Behind each the
/// stream begins again, which takes as long as inflating a few hundred bytes, and a final block may be of two.
const FINAL_BLOCKS: u64 = 16;
const BYTES_FOR_FINAL_BLOCK: u64 = 1024;

/// Decompresses messages. It remembers the end of what came out, which the next message may refer to.
pub struct Inflater {
    stream: Inflate,
    /// What came out before the message that is being inflated: of a server that has sent a final block. Behind one the
    /// stream begins again, and has to be told what the blocks that follow may refer to. Hardly any server sends one, and those
    /// that do send nothing else; so nothing is kept before the first, and what refers from behind that to messages before it
    /// is refused.
    history: Option<Vec<u8>>,
    /// Nothing has come behind a final block.
    at_start: bool,
    /// How many final blocks the message had.
    final_blocks: u64,
}

impl Default for Inflater {
    fn default() -> Self {
        Self { stream: Inflate::new(false, WINDOW_BITS), history: None, at_start: false, final_blocks: 0 }
    }
}

/// What one step of an inflater did.
struct Step {
    status: Status,
    taken: usize,
    made: usize,
}

impl Inflater {
    /// Nothing that comes refers to what came before.
    pub fn forget(&mut self) {
        self.stream.reset(false);
        (self.history, self.at_start, self.final_blocks) = (None, false, 0);
    }

    fn step(&mut self, input: &[u8], into: &mut [u8], flush: InflateFlush) -> Result<Step, Violation> {
        let (taken, made) = (self.stream.total_in(), self.stream.total_out());
        let status = self.stream.decompress(input, into, flush).map_err(|_| malformed())?;
        let taken = (self.stream.total_in() - taken) as usize;
        let made = (self.stream.total_out() - made) as usize;
        self.at_start &= taken == 0;
        Ok(Step { status, taken, made })
    }

    /// Behind a final block (§7.2.3.4): what follows is a stream of its own, and may refer to what came before.
    fn begin_again(&mut self, payload: &[u8], compressed: u64) -> Result<(), Violation> {
        self.final_blocks += 1;
        if self.final_blocks > FINAL_BLOCKS + compressed / BYTES_FOR_FINAL_BLOCK {
            return Err(Violation::compression("the server sent a compressed message of too many final blocks"));
        }
        self.stream.reset(false);
        self.at_start = true;
        let history = self.history.get_or_insert_default();
        let told = match payload.last_chunk::<WINDOW>() {
            Some(end) => self.stream.set_dictionary(end),
            None => {
                let before = history.len().saturating_sub(WINDOW - payload.len());
                let history = history.get(before..).unwrap_or_default();
                self.stream.set_dictionary(&[history, payload].concat())
            }
        };
        told.map(drop).map_err(|_| malformed())
    }

    /// What was taken off the end of the message is put back: §7.2.2, item 1.
    fn finish(&mut self, payload: &[u8]) -> Result<(), Violation> {
        // A server that ends a message with a final block need not send anything behind it.
        if !self.at_start {
            // It ends an empty block, and the stream stops behind that. One that was in the middle of another block ends that
            // one before, or goes on to the byte behind the tail.
            let [a, b, c, d] = TAIL;
            let Step { status, taken, made } = self.step(&[a, b, c, d, 0], &mut [0], InflateFlush::Block)?;
            if status == Status::StreamEnd || taken != TAIL.len() || made > 0 {
                let reason = "the server sent a compressed message that ends in the middle of a block";
                return Err(Violation::compression(reason));
            }
        }
        self.final_blocks = 0;
        if let Some(history) = &mut self.history {
            match payload.last_chunk::<WINDOW>() {
                Some(end) => *history = end.to_vec(),
                None => history.extend_from_slice(payload),
            }
            if history.len() > 2 * WINDOW {
                history.drain(..history.len() - WINDOW);
            }
        }
        Ok(())
    }
}

#[cold]
fn malformed() -> Violation {
    Violation::compression("the server sent a compressed message that cannot be decompressed")
}

impl fmt::Debug for Inflater {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Inflater").finish_non_exhaustive()
    }
}

/// The decompression of one connection's messages.
pub struct Inflation {
    contexts: Arc<Contexts>,
    /// The server begins each message anew: an inflater is needed for as long as one arrives.
    no_context_takeover: bool,
    /// There is none before the first compressed message.
    inflater: Option<Box<Inflater>>,
    /// How many bytes of the message that is being inflated have come.
    arrived: u64,
    /// What has come out of what was read.
    out: u64,
    /// Bytes of the compressed messages that have arrived whole.
    compressed: u64,
    /// What came out of them.
    inflated: u64,
}

impl fmt::Debug for Inflation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Inflation")
            .field("no_context_takeover", &self.no_context_takeover)
            .field("compressed", &self.compressed)
            .field("inflated", &self.inflated)
            .finish_non_exhaustive()
    }
}

impl Inflation {
    /// Of a connection on which nothing has been compressed yet.
    pub fn new(contexts: Arc<Contexts>, no_context_takeover: bool) -> Self {
        Self { contexts, no_context_takeover, inflater: None, arrived: 0, out: 0, compressed: 0, inflated: 0 }
    }

    /// Something was read.
    pub fn begin_reading(&mut self) {
        self.out = 0;
    }

    /// Whether enough has come out of what was read: 64 KiB.
    pub fn has_enough(&self) -> bool {
        self.out >= ENOUGH
    }

    /// How many bytes of the message that is being inflated have come.
    pub fn arrived(&self) -> u64 {
        self.arrived
    }

    /// Inflates a part of a message, from the front of `input`, to the end of `payload`: all of it, or until that is
    /// [enough](Self::has_enough). The message has to stay below `limit` bytes.
    pub fn inflate(&mut self, input: &mut &[u8], payload: &mut Payload, limit: usize) -> Result<(), Violation> {
        if input.is_empty() || self.has_enough() {
            return Ok(());
        }
        let Self { contexts, inflater, arrived, out, .. } = self;
        let inflater = inflater.get_or_insert_with(|| contexts.inflater());
        contexts.with_chunk(|chunk| {
            loop {
                // Up to the byte that reaches the limit, and not one further.
                if payload.len() >= limit {
                    return Err(Violation::too_long(payload.len() as u64, limit as u64));
                }
                let is_short = payload.len() < CHUNK;
                let place = match is_short {
                    // By way of the chunk, so that a short message has memory of its size.
                    true => chunk.get_mut(..CHUNK.min(limit - payload.len())).unwrap_or_default(),
                    false => payload.inflated_room(limit),
                };
                let room = place.len();
                let Step { status, taken, made } = inflater.step(input, place, InflateFlush::SyncFlush)?;
                *input = input.get(taken..).unwrap_or_default();
                *arrived += taken as u64;
                *out += made as u64;
                match is_short {
                    true => payload.append_inflated(chunk.get(..made).unwrap_or_default(), limit)?,
                    false => _ = payload.arrived(made)?,
                }
                if status == Status::StreamEnd {
                    inflater.begin_again(payload.as_slice(), *arrived)?;
                } else if made < room && input.is_empty() {
                    return Ok(());
                } else if made == 0 && taken == 0 {
                    // It wants something that it will never get.
                    return Err(malformed());
                }
                if *out >= ENOUGH && !input.is_empty() {
                    return Ok(());
                }
            }
        })
    }

    /// The message has arrived.
    pub fn finish(&mut self, payload: &Payload, limit: usize) -> Result<(), Violation> {
        // The limit may have become lower.
        if payload.len() >= limit {
            return Err(Violation::too_long(payload.len() as u64, limit as u64));
        }
        let compressed = std::mem::take(&mut self.arrived);
        // Of a message of no bytes at all there is nothing to put back an end to.
        if compressed > 0
            && let Some(inflater) = &mut self.inflater
        {
            inflater.finish(payload.as_slice())?;
        }
        if self.no_context_takeover {
            self.end();
        }
        self.compressed += compressed;
        self.inflated += payload.len() as u64;
        Ok(())
    }

    /// Nothing that comes refers to what came before.
    pub fn end(&mut self) {
        if let Some(inflater) = self.inflater.take() {
            self.contexts.keep_inflater(inflater);
        }
    }

    /// Bytes of the compressed messages that have arrived whole, and of what came out of them.
    pub fn counts(&self) -> (u64, u64) {
        (self.compressed, self.inflated)
    }
}

impl Drop for Inflation {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests;
