//! The body of a response that refuses the upgrade: RFC 9112 §6 and §7.
//!
//! It is kept for the caller to read, nothing more: the connection is not used again after it. So where the framing is
//! broken the reader stops with what it has, and there are no errors.

use std::fmt;

use super::head::ResponseHead;
use super::tokens;

/// How much of a body is kept.
const BYTES: usize = 64 * 1024;

/// How much may be spent on chunk sizes, chunk extensions and line ends in all.
const FRAMING: usize = 64 * 1024;

/// Reads the body of a refusal, up to 64 KiB of it.
pub struct BodyReader {
    body: Vec<u8>,
    framing: Framing,
}

enum Framing {
    /// So many more bytes.
    Length(u64),
    /// The chunked coding, after so many bytes of framing.
    Chunked(Chunk, usize),
    /// Everything until the connection ends.
    UntilEnd,
    /// There is nothing more to come, or nothing more to keep.
    Complete,
}

/// Where in a chunked body the next byte stands: RFC 9112 §7.1.
#[derive(Clone, Copy)]
enum Chunk {
    /// Before the first digit of a size.
    Start,
    /// In a size.
    Size(u64),
    /// In the white space behind a size; some servers pad it.
    Padding(u64),
    /// In the extensions behind a size.
    Extension(u64),
    /// After the CR of the line with the size.
    SizeReturn(u64),
    /// In the data, with so many bytes to come.
    Data(u64),
    /// Behind the data.
    DataEnd,
    /// After the CR behind the data.
    DataReturn,
}

impl BodyReader {
    /// The length of the body as RFC 9112 §6.3 finds it for the answer to a GET.
    pub fn new(head: &ResponseHead) -> Self {
        Self { body: Vec::new(), framing: framing(head) }
    }

    /// Takes the next bytes of the connection; whether the body is complete. What is behind the body is passed over.
    pub fn read(&mut self, input: &[u8]) -> bool {
        match self.framing {
            Framing::Length(length) => {
                let taken = self.keep(input, length);
                self.framing = Framing::Length(length.saturating_sub(taken));
            }
            Framing::UntilEnd => {
                self.keep(input, u64::MAX);
            }
            Framing::Chunked(chunk, spent) => self.framing = self.read_chunks(input, chunk, spent),
            Framing::Complete => {}
        }
        if self.body.len() >= BYTES || matches!(self.framing, Framing::Length(0)) {
            self.framing = Framing::Complete;
        }
        self.is_complete()
    }

    /// Whether there is nothing more to read; true from the start for a response without a body.
    pub fn is_complete(&self) -> bool {
        matches!(self.framing, Framing::Complete)
    }

    /// What was kept.
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// Keeps at most `length` bytes from the front of `input`, as far as there is room; how many.
    fn keep(&mut self, input: &[u8], length: u64) -> u64 {
        let room = BYTES.saturating_sub(self.body.len());
        let taken = usize::try_from(length).unwrap_or(usize::MAX).min(room).min(input.len());
        let kept = input.get(..taken).unwrap_or_default();
        self.body.extend_from_slice(kept);
        // A slice of at most 64 KiB.
        kept.len() as u64
    }

    fn read_chunks(&mut self, mut input: &[u8], mut chunk: Chunk, mut spent: usize) -> Framing {
        while let Some((&byte, rest)) = input.split_first() {
            if let Chunk::Data(length) = chunk {
                let taken = self.keep(input, length);
                if taken == 0 {
                    return Framing::Complete;
                }
                input = usize::try_from(taken).ok().and_then(|taken| input.get(taken..)).unwrap_or_default();
                chunk = match length.saturating_sub(taken) {
                    0 => Chunk::DataEnd,
                    left => Chunk::Data(left),
                };
                continue;
            }
            spent += 1;
            chunk = match chunk.after(byte) {
                Some(next) if spent < FRAMING => next,
                _ => return Framing::Complete,
            };
            input = rest;
        }
        Framing::Chunked(chunk, spent)
    }
}

impl fmt::Debug for BodyReader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("BodyReader")
            .field("body_bytes", &self.body.len())
            .field("is_complete", &self.is_complete())
            .finish_non_exhaustive()
    }
}

impl Chunk {
    /// `None`: the body ends here, with its last chunk or because the coding is broken. Trailer fields are not waited
    /// for.
    fn after(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Start, _) => digit(byte).map(Self::Size),
            (Self::Size(size) | Self::Padding(size) | Self::Extension(size), b'\r') => Some(Self::SizeReturn(size)),
            (Self::Size(size) | Self::Padding(size), b';') => Some(Self::Extension(size)),
            (Self::Size(size) | Self::Padding(size), b' ' | b'\t') => Some(Self::Padding(size)),
            (Self::Size(size), _) => Some(Self::Size(size.checked_mul(16)?.checked_add(digit(byte)?)?)),
            (Self::Extension(size), _) if byte != b'\n' => Some(Self::Extension(size)),
            (Self::SizeReturn(size), b'\n') if size > 0 => Some(Self::Data(size)),
            (Self::DataEnd, b'\r') => Some(Self::DataReturn),
            (Self::DataReturn, b'\n') => Some(Self::Start),
            _ => None,
        }
    }
}

fn digit(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

/// RFC 9112 §6.3, the rules for responses in their order.
fn framing(head: &ResponseHead) -> Framing {
    if matches!(head.status_code, 100..=199 | 204 | 304) {
        return Framing::Complete;
    }
    let has_length = head.values("Content-Length").next().is_some();
    if head.values("Transfer-Encoding").next().is_some() {
        // §6.1: both fields, or a transfer coding from HTTP/1.0, is how responses are smuggled.
        if has_length || head.http_version == "HTTP/1.0" {
            return Framing::Complete;
        }
        return match tokens::list(head.values("Transfer-Encoding")).last() {
            Some(coding) if coding.eq_ignore_ascii_case("chunked") => Framing::Chunked(Chunk::Start, 0),
            _ => Framing::UntilEnd,
        };
    }
    if !has_length {
        return Framing::UntilEnd;
    }
    // The same length said twice is one length; anything else that is not one number is none.
    let mut lengths = tokens::list(head.values("Content-Length"));
    match lengths.next() {
        Some(length) if length.bytes().all(|byte| byte.is_ascii_digit()) && lengths.all(|other| other == length) => {
            match length.parse() {
                Ok(0) | Err(_) => Framing::Complete,
                Ok(length) => Framing::Length(length),
            }
        }
        _ => Framing::Complete,
    }
}

#[cfg(test)]
mod tests;
