//! The body of a response that refuses the upgrade: RFC 9112 §6 and §7.
//!
//! It is kept for the caller to read, and passed over where another request is to go out on the same connection. Where the
//! framing is broken the reader stops with what it has, and there are no errors: the connection is not used again.

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
    /// Neither the server's version of HTTP nor anything that it sent ends the connection.
    persists: bool,
}

enum Framing {
    /// So many more bytes.
    Length(u64),
    /// The chunked coding, after so many bytes of framing.
    Chunked(Chunk, usize),
    /// Everything until the connection ends.
    UntilEnd,
    /// The last chunk came; there may be trailer fields (§7.1.2) before the end, after so many bytes of framing.
    Trailer(Trailer, usize),
    /// There is nothing more to come, and the next response may begin.
    End,
    /// There is nothing more to keep, and nobody knows where it ends.
    Broken,
}

/// Where behind the last chunk the next byte stands.
#[derive(Clone, Copy)]
enum Trailer {
    /// At the first byte of a line.
    LineStart,
    /// In a field.
    Field,
    /// After the CR of an empty line.
    LastReturn,
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
    /// Behind the last chunk.
    Last,
}

impl BodyReader {
    /// The length of the body as RFC 9112 §6.3 finds it for the answer to a GET.
    pub fn new(head: &ResponseHead) -> Self {
        Self { body: Vec::new(), framing: framing(head), persists: persists(head) }
    }

    /// Takes the next bytes of the connection; whether the body is complete. What is behind the body is passed over.
    pub fn read(&mut self, input: &[u8]) -> bool {
        match self.framing {
            Framing::Length(length) => {
                let taken = self.keep(input, length);
                self.framing = match length.saturating_sub(taken) {
                    0 => self.end(input.len() as u64 > taken),
                    left => Framing::Length(left),
                };
            }
            Framing::UntilEnd => {
                self.keep(input, u64::MAX);
            }
            Framing::Chunked(chunk, spent) => self.framing = self.read_chunks(input, chunk, spent),
            Framing::Trailer(trailer, spent) => self.framing = self.read_trailer(input, trailer, spent),
            Framing::End => self.framing = self.end(!input.is_empty()),
            Framing::Broken => {}
        }
        if self.body.len() >= BYTES && !matches!(self.framing, Framing::Trailer(..) | Framing::End) {
            self.framing = Framing::Broken;
        }
        self.is_complete()
    }

    /// Whether there is nothing more to keep; true from the start for a response without a body. Trailer fields are not
    /// waited for.
    pub fn is_complete(&self) -> bool {
        matches!(self.framing, Framing::Trailer(..) | Framing::End | Framing::Broken)
    }

    /// Whether the response has ended, and another request may go out on the connection (RFC 9112 §9.3).
    pub fn leaves_connection(&self) -> bool {
        self.persists && matches!(self.framing, Framing::End)
    }

    /// Whether that may still come to be.
    pub fn may_leave_connection(&self) -> bool {
        self.persists
            && match self.framing {
                Framing::Length(length) => length <= BYTES as u64,
                Framing::Chunked(..) | Framing::Trailer(..) | Framing::End => true,
                Framing::UntilEnd | Framing::Broken => false,
            }
    }

    /// What is behind the end belongs to nothing that was asked for.
    fn end(&self, surplus: bool) -> Framing {
        if surplus { Framing::Broken } else { Framing::End }
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
                    return Framing::Broken;
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
                Some(Chunk::Last) if spent < FRAMING => return self.read_trailer(rest, Trailer::LineStart, spent),
                Some(next) if spent < FRAMING => next,
                _ => return Framing::Broken,
            };
            input = rest;
        }
        Framing::Chunked(chunk, spent)
    }

    fn read_trailer(&self, input: &[u8], mut trailer: Trailer, mut spent: usize) -> Framing {
        for (index, &byte) in input.iter().enumerate() {
            spent += 1;
            trailer = match (trailer, byte) {
                (Trailer::LastReturn, b'\n') => return self.end(index + 1 < input.len()),
                (Trailer::LastReturn, _) => return Framing::Broken,
                _ if spent >= FRAMING => return Framing::Broken,
                (Trailer::LineStart, b'\r') => Trailer::LastReturn,
                (Trailer::Field, b'\n') => Trailer::LineStart,
                (Trailer::LineStart | Trailer::Field, _) => Trailer::Field,
            };
        }
        Framing::Trailer(trailer, spent)
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
    /// `None`: the coding is broken.
    fn after(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Start, _) => digit(byte).map(Self::Size),
            (Self::Size(size) | Self::Padding(size) | Self::Extension(size), b'\r') => Some(Self::SizeReturn(size)),
            (Self::Size(size) | Self::Padding(size), b';') => Some(Self::Extension(size)),
            (Self::Size(size) | Self::Padding(size), b' ' | b'\t') => Some(Self::Padding(size)),
            (Self::Size(size), _) => Some(Self::Size(size.checked_mul(16)?.checked_add(digit(byte)?)?)),
            (Self::Extension(size), _) if byte != b'\n' => Some(Self::Extension(size)),
            (Self::SizeReturn(0), b'\n') => Some(Self::Last),
            (Self::SizeReturn(size), b'\n') => Some(Self::Data(size)),
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
        return Framing::End;
    }
    let has_length = head.values("Content-Length").next().is_some();
    if head.values("Transfer-Encoding").next().is_some() {
        // §6.1: both fields, or a transfer coding from HTTP/1.0, is how responses are smuggled.
        if has_length || head.http_version == "HTTP/1.0" {
            return Framing::Broken;
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
                Ok(0) => Framing::End,
                Err(_) => Framing::Broken,
                Ok(length) => Framing::Length(length),
            }
        }
        _ => Framing::Broken,
    }
}

/// RFC 9112 §9.3, of which the `keep-alive` of HTTP/1.0 is left out. Some proxies say `close` in a field that no RFC has
/// (Appendix C.2.2).
fn persists(head: &ResponseHead) -> bool {
    let mut options = tokens::list(head.values("Connection")).chain(tokens::list(head.values("Proxy-Connection")));
    head.http_version == "HTTP/1.1" && !options.any(|option| option.eq_ignore_ascii_case("close"))
}

#[cfg(test)]
mod tests;
