//! Frames in, messages out: RFC 6455 §5.4 to §5.6, §6.2; RFC 7692 §6.2.
#![forbid(unsafe_code)]

use std::fmt;

use super::frame::{Expected, Header, Opcode, SERVER_HEADER};
use super::inflater::Inflation;
use super::payload::{Incomplete, PayloadBuffer};
use super::utf8::whole_text;
use super::violation::Violation;
use crate::foundation::{CloseCode, Message};

/// How many short frames a message may have. Each costs the peer two bytes only, and time to everybody; longer frames are
/// limited by the size of the message.
const MAXIMUM_SHORT_FRAMES: u32 = 16_384;
/// A frame with a smaller payload than this is short. There are servers that send megabytes in frames of 64 bytes.
const SHORT_FRAME: u64 = 64;
/// What must be missing of a frame for its message to be read into directly.
const DIRECT: usize = 16 * 1024;

/// How many bytes more than twice its limit a message may have that is compressed.
pub(super) const COMPRESSED_MORE: u64 = 64 * 1024;

/// A message of one frame that is no longer and came in one piece is short: it is told where it lies.
const SHORT_MESSAGE: usize = 4096;

/// What the server sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A whole message, all of its fragments joined.
    Message(Message),
    /// A ping, to be answered with a pong of the same payload: §5.5.2.
    Ping(Vec<u8>),
    /// A pong: §5.5.3.
    Pong(Vec<u8>),
    /// The last frame of the connection: §5.5.1.
    Close {
        /// `None` where the frame was empty.
        code: Option<CloseCode>,
        /// UTF-8.
        reason: Vec<u8>,
    },
}

/// A short message, in the bytes that it came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short<'a> {
    /// A text.
    Text(&'a str),
    /// A binary message.
    Data(&'a [u8]),
}

impl Short<'_> {
    /// The length in bytes.
    #[allow(clippy::len_without_is_empty, reason = "nobody asks for that")]
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Data(data) => data.len(),
        }
    }
}

/// Reads what a server sends. An idle one owns no memory but itself, a place for pieces once a frame came in pieces, and what
/// the server's compression makes necessary.
pub struct Decoder {
    /// A message must be smaller than this. At most what a `Vec` can hold.
    limit: u64,
    position: Position,
    /// What has begun and is not complete. Kept when it is empty again, so that no message costs an allocation for it.
    pieces: Option<Box<Pieces>>,
}

#[derive(Default)]
struct Pieces {
    /// The message that has begun, while it is in this place and not out in a [`PayloadBuffer`].
    message: Option<Incomplete>,
    /// The payload of the control frame that has begun.
    control: Vec<u8>,
    /// Where messages may be compressed.
    inflation: Option<Inflation>,
}

/// Where in a frame the next byte stands.
enum Position {
    /// In a header of which these bytes have come.
    Header { bytes: [u8; SERVER_HEADER], size: u8 },
    /// In the payload of a frame of the message, of which `rest` bytes are missing.
    Data { is_last: bool, rest: usize },
    /// In the payload of a control frame, of which `rest` bytes are missing.
    Control { opcode: Opcode, rest: u8 },
    /// Behind a Close or a violation: nothing counts any more.
    Finished,
}

const NEXT_FRAME: Position = Position::Header { bytes: [0; SERVER_HEADER], size: 0 };

impl Decoder {
    /// For a connection that has just been upgraded. Messages must be smaller than `maximum_message_size`; 0: no limit.
    pub fn new(maximum_message_size: usize) -> Self {
        let mut decoder = Self { limit: 0, position: NEXT_FRAME, pieces: None };
        decoder.set_maximum_message_size(maximum_message_size);
        decoder
    }

    /// For a connection on which messages may be compressed.
    pub fn with_inflation(maximum_message_size: usize, inflation: Inflation) -> Self {
        let pieces = Pieces { inflation: Some(inflation), ..Pieces::default() };
        Self { pieces: Some(Box::new(pieces)), ..Self::new(maximum_message_size) }
    }

    /// Changes the limit, for the message that is being received too. 0: no limit.
    pub fn set_maximum_message_size(&mut self, maximum_message_size: usize) {
        let largest = isize::MAX as u64;
        self.limit = match maximum_message_size {
            0 => largest,
            size => largest.min(size as u64),
        };
    }

    /// Takes short messages from the front of `input`, each a frame of 4 KiB at most, until there is anything else. There may
    /// be none, and what they are is no more than [`decode`](Self::decode) would tell of one after the other.
    #[inline]
    pub fn short_messages<'a>(
        &mut self,
        input: &mut &'a [u8],
        mut tell: impl FnMut(Short<'a>),
    ) -> Result<(), Violation> {
        if !matches!(self.position, Position::Header { size: 0, .. }) || self.message().is_some() {
            return Ok(());
        }
        while let Some((opcode, payload, after)) = short_frame(input)
            && payload.len() <= SHORT_MESSAGE
            && (payload.len() as u64) < self.limit
        {
            *input = after;
            let message = match opcode {
                Opcode::Text => whole_text(payload).map(Short::Text),
                _ => Ok(Short::Data(payload)),
            };
            match message {
                // The one place for it, so that it becomes a part of this loop.
                Ok(message) => tell(message),
                Err(malformed) => {
                    self.finish();
                    return Err(malformed.into());
                }
            }
        }
        Ok(())
    }

    /// Takes bytes from the front of `input` up to the next event. `Ok(None)`: all of `input` is taken, more is needed; or it
    /// [is enough](Self::has_enough), and what is left is to be given again.
    ///
    /// After a violation or a Close the decoder is finished: everything is taken and means nothing. While a
    /// [`PayloadBuffer`] is out nothing is taken, for what comes next belongs in there.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Incoming>, Violation> {
        self.advance(input).inspect_err(|_| self.finish())
    }

    /// The message that is being received, if much is missing of its frame (16 KiB): to be read into directly, with no
    /// buffer in between. To be given back with [`payload_received`](Self::payload_received).
    pub fn take_payload_buffer(&mut self) -> Option<PayloadBuffer> {
        let Position::Data { is_last, rest: rest @ DIRECT.. } = self.position else { return None };
        let message = self.pieces.as_mut()?.message.take_if(|message| !message.is_compressed)?;
        Some(PayloadBuffer { message, is_last, rest })
    }

    /// Gives a buffer back after `count` bytes were read into the front of its [`space`](PayloadBuffer::space). A `count`
    /// beyond the space counts as all of it.
    pub fn payload_received(&mut self, buffer: PayloadBuffer, count: usize) -> Result<Option<Incoming>, Violation> {
        self.receive_payload(buffer, count).inspect_err(|_| self.finish())
    }

    /// Whether a violation or a Close has ended what the server may say.
    pub fn is_finished(&self) -> bool {
        matches!(self.position, Position::Finished)
    }

    /// Something was read, which is about to be decoded.
    pub fn begin_reading(&mut self) {
        if let Some(inflation) = self.pieces.as_mut().and_then(|pieces| pieces.inflation.as_mut()) {
            inflation.begin_reading();
        }
    }

    /// Whether so much has come out of what was read that the rest should wait.
    pub fn has_enough(&self) -> bool {
        let inflation = self.pieces.as_ref().and_then(|pieces| pieces.inflation.as_ref());
        inflation.is_some_and(Inflation::has_enough)
    }

    /// Bytes of the compressed messages that have arrived whole, and of what came out of them.
    pub fn inflated(&self) -> (u64, u64) {
        let inflation = self.pieces.as_ref().and_then(|pieces| pieces.inflation.as_ref());
        inflation.map_or((0, 0), Inflation::counts)
    }

    fn message(&self) -> Option<&Incomplete> {
        self.pieces.as_ref()?.message.as_ref()
    }

    fn finish(&mut self) {
        self.position = Position::Finished;
        if let Some(mut pieces) = self.pieces.take()
            && let Some(inflation) = &mut pieces.inflation
        {
            inflation.end();
            (pieces.message, pieces.control) = (None, Vec::new());
            self.pieces = Some(pieces);
        }
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Incoming>, Violation> {
        loop {
            let incoming = match self.position {
                Position::Header { .. } => match self.header(input)? {
                    Some(header) => self.begin(header, input)?,
                    None => return Ok(None),
                },
                Position::Data { is_last, rest } => {
                    let Some(pieces) = self.pieces.as_mut().filter(|pieces| pieces.message.is_some()) else {
                        debug_assert!(input.is_empty(), "bytes of a message came while its PayloadBuffer is out");
                        return Ok(None);
                    };
                    match rest - pieces.append(input, self.limit, rest, is_last)? {
                        0 => self.end_of_frame(is_last)?,
                        rest => {
                            self.position = Position::Data { is_last, rest };
                            return Ok(None);
                        }
                    }
                }
                Position::Control { opcode, ref mut rest } => {
                    let control = &mut self.pieces.get_or_insert_default().control;
                    let arrived = take_front(input, usize::from(*rest));
                    control.extend_from_slice(arrived);
                    // No more than `rest`, which is a byte.
                    *rest -= arrived.len() as u8;
                    if *rest > 0 {
                        return Ok(None);
                    }
                    let payload = std::mem::take(control);
                    self.position = NEXT_FRAME;
                    Some(self.control(opcode, payload)?)
                }
                Position::Finished => {
                    *input = &[];
                    return Ok(None);
                }
            };
            if incoming.is_some() {
                return Ok(incoming);
            }
        }
    }

    /// The next header; `None` where `input` ends before it does, and is kept.
    #[inline]
    fn header(&mut self, input: &mut &[u8]) -> Result<Option<Header>, Violation> {
        let expected = match &self.pieces {
            Some(pieces) => Expected { inside: pieces.message.is_some(), compressed: pieces.inflation.is_some() },
            None => Expected { inside: false, compressed: false },
        };
        let Position::Header { bytes, size } = &mut self.position else { return Ok(None) };
        if *size == 0
            && let Some((header, size)) = Header::parse(input, expected)?
        {
            take_front(input, size);
            return Ok(Some(header));
        }
        while let ([byte, after @ ..], Some(place)) = (*input, bytes.get_mut(usize::from(*size))) {
            *place = *byte;
            *size += 1;
            *input = after;
            if let Some((header, _)) = Header::parse(bytes.get(..usize::from(*size)).unwrap_or_default(), expected)? {
                *size = 0;
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    /// Behind a header. A frame whose payload is all there is taken at once.
    #[inline]
    fn begin(&mut self, header: Header, input: &mut &[u8]) -> Result<Option<Incoming>, Violation> {
        let Header { fin: is_last, opcode, is_compressed, length } = header;
        if opcode.is_control() {
            return self.begin_control(opcode, length as usize, input).transpose();
        }
        let rest = match self.message() {
            Some(message) if message.is_compressed => self.admit_compressed(length)?,
            None if is_compressed => self.admit_compressed(length)?,
            message => admit(self.limit, message.map_or(0, |message| message.payload.len()), length)?,
        };
        if is_last
            && !is_compressed
            && self.message().is_none()
            && let Some((payload, after)) = input.split_at_checked(rest)
        {
            *input = after;
            return whole_message(opcode, payload).map(Some);
        }
        let new = || Incomplete::new(opcode == Opcode::Text, is_compressed);
        let message = self.pieces.get_or_insert_default().message.get_or_insert_with(new);
        message.short_frames += u32::from(length < SHORT_FRAME);
        if message.short_frames > MAXIMUM_SHORT_FRAMES {
            return Err(Violation::too_many_frames(MAXIMUM_SHORT_FRAMES, SHORT_FRAME));
        }
        self.position = Position::Data { is_last, rest };
        Ok(None)
    }

    /// `length` as a length in memory, if a compressed message of so many more bytes may come to less than the limit. How many
    /// bytes come out of it is seen when they do; but nobody who compresses makes a message twice as long.
    fn admit_compressed(&self, length: u64) -> Result<usize, Violation> {
        let inflation = self.pieces.as_ref().and_then(|pieces| pieces.inflation.as_ref());
        let total = inflation.map_or(0, Inflation::arrived).saturating_add(length);
        let most = self.limit.saturating_mul(2).saturating_add(COMPRESSED_MORE);
        match usize::try_from(length) {
            Ok(length) if total < most => Ok(length),
            _ => Err(Violation::too_long_compressed(total, self.limit)),
        }
    }

    fn begin_control(
        &mut self,
        opcode: Opcode,
        length: usize,
        input: &mut &[u8],
    ) -> Option<Result<Incoming, Violation>> {
        if let Some((payload, after)) = input.split_at_checked(length) {
            *input = after;
            return Some(self.control(opcode, payload.to_vec()));
        }
        // At most 125 bytes: `Header::parse`.
        self.pieces.get_or_insert_default().control.reserve_exact(length);
        self.position = Position::Control { opcode, rest: length as u8 };
        None
    }

    fn control(&mut self, opcode: Opcode, payload: Vec<u8>) -> Result<Incoming, Violation> {
        match opcode {
            Opcode::Ping => Ok(Incoming::Ping(payload)),
            Opcode::Pong => Ok(Incoming::Pong(payload)),
            _ => {
                let close = close(&payload)?;
                self.finish();
                Ok(close)
            }
        }
    }

    fn end_of_frame(&mut self, is_last: bool) -> Result<Option<Incoming>, Violation> {
        self.position = NEXT_FRAME;
        if !is_last {
            return Ok(None);
        }
        let Some(pieces) = &mut self.pieces else { return Ok(None) };
        let Some(message) = pieces.message.take() else { return Ok(None) };
        if let (true, Some(inflation)) = (message.is_compressed, &mut pieces.inflation) {
            inflation.finish(&message.payload, self.limit as usize)?;
        }
        Ok(Some(Incoming::Message(message.payload.finish()?)))
    }

    fn receive_payload(&mut self, buffer: PayloadBuffer, count: usize) -> Result<Option<Incoming>, Violation> {
        let Position::Data { is_last, rest } = self.position else { return Ok(None) };
        let message = self.pieces.get_or_insert_default().message.insert(buffer.message);
        admit(self.limit, message.payload.len(), rest as u64)?;
        let rest = rest - message.payload.arrived(count.min(rest))?;
        if rest == 0 {
            return self.end_of_frame(is_last);
        }
        self.position = Position::Data { is_last, rest };
        Ok(None)
    }
}

impl Pieces {
    /// Appends what has come of a frame to its message, from the front of `input`; how much it took. `rest`: what was missing
    /// of the frame before it; `is_last`: whether the message ends with the frame.
    fn append(&mut self, input: &mut &[u8], limit: u64, rest: usize, is_last: bool) -> Result<usize, Violation> {
        let Some(message) = &mut self.message else { return Ok(0) };
        if let (true, Some(inflation)) = (message.is_compressed, &mut self.inflation) {
            let mut left = input.get(..rest).unwrap_or(input);
            let arrived = left.len();
            inflation.inflate(&mut left, &mut message.payload, limit as usize)?;
            return Ok(take_front(input, arrived - left.len()).len());
        }
        admit(limit, message.payload.len(), rest as u64)?;
        let arrived = take_front(input, rest);
        message.payload.append(arrived, rest, is_last)?;
        Ok(arrived.len())
    }
}

impl fmt::Debug for Decoder {
    /// Shows nothing of what a message says.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Decoder")
            .field("limit", &self.limit)
            .field("is_finished", &self.is_finished())
            .field("received", &self.message().map(|message| message.payload.len()))
            .finish_non_exhaustive()
    }
}

/// Takes up to `most` bytes from the front of `input`.
#[inline]
fn take_front<'a>(input: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (front, after) = input.split_at_checked(most).unwrap_or((input, &[]));
    *input = after;
    front
}

/// `length` as a length in memory, if a message of `received + length` bytes is below the limit. Compared before it is
/// narrowed, so that 2^32 + 5 is never taken for 5.
#[inline]
fn admit(limit: u64, received: usize, length: u64) -> Result<usize, Violation> {
    let total = (received as u64).saturating_add(length);
    if total < limit
        && let Ok(length) = usize::try_from(length)
    {
        return Ok(length);
    }
    Err(Violation::too_long(total, limit))
}

/// The opcode and the payload of a whole message of one frame of less than 64 KiB, if one stands at the front of `input`, and
/// what follows it. Whatever is not quite so simple is left to [`Header::parse`].
#[inline]
fn short_frame(input: &[u8]) -> Option<(Opcode, &[u8], &[u8])> {
    let (first, length, rest) = match input {
        [first, length @ 0..126, rest @ ..] => (first, usize::from(*length), rest),
        // The longer form is for lengths that need it.
        [first, 126, high, low, rest @ ..] if *high > 0 || *low >= 126 => {
            (first, usize::from(u16::from_be_bytes([*high, *low])), rest)
        }
        _ => return None,
    };
    let opcode = match first {
        0x81 => Opcode::Text,
        0x82 => Opcode::Binary,
        _ => return None,
    };
    let (payload, after) = rest.split_at_checked(length)?;
    Some((opcode, payload, after))
}

/// A message of one frame that came in one piece: one allocation of its exact size, one copy.
#[inline]
fn whole_message(opcode: Opcode, payload: &[u8]) -> Result<Incoming, Violation> {
    Ok(Incoming::Message(match opcode {
        Opcode::Text => Message::String(whole_text(payload)?.to_owned()),
        _ => Message::Data(payload.to_vec()),
    }))
}

/// What a Close says: §5.5.1, §7.4.
fn close(payload: &[u8]) -> Result<Incoming, Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        if payload.is_empty() {
            return Ok(Incoming::Close { code: None, reason: Vec::new() });
        }
        return Err(Violation::framing("the server sent a Close with half a code"));
    };
    let code = CloseCode::new(u16::from_be_bytes(*code));
    if !code.may_be_received() {
        return Err(Violation::framing("the server sent a Close with a code that is not allowed there"));
    }
    if whole_text(reason).is_err() {
        return Err(Violation::text("the reason of the server's Close is not UTF-8"));
    }
    Ok(Incoming::Close { code: Some(code), reason: reason.to_vec() })
}

#[cfg(test)]
mod tests;
