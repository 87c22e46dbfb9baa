//! The head of a response: status line and header fields, RFC 9112 §2 to §5.
//!
//! A [`HeadParser`] looks for the end of the head as the bytes arrive, each byte once, and the head is then parsed in
//! one go: linear time, whether it comes whole or byte by byte.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::mem::MaybeUninit;

use url::Url;

use crate::foundation::HttpUrlResponse;

/// How long all heads of one exchange may be together, the informational ones included.
const BYTES: usize = 64 * 1024;

/// How many header fields one head may have.
const FIELDS: usize = 128;

/// What every head begins with. Whatever does not is refused at the byte that differs, not after 64 KiB of it.
const BEGINNING: &[u8] = b"HTTP/1.";

/// Takes response heads from the bytes of a server, one after the other.
///
/// Lines end with CR LF and nothing else. RFC 9112 §2.2 would let a client take a lone LF too, but parsers that
/// disagree on where a line ends are how responses are split. A parser that has failed stays failed.
#[derive(Default)]
pub struct HeadParser {
    /// What has come of a head that is not complete.
    pending: Vec<u8>,
    place: Place,
    /// The length of all heads so far, with what is pending.
    total: usize,
    failed: Option<HeadError>,
    #[cfg(test)]
    visited: usize,
}

impl HeadParser {
    /// Takes from the front of `input` what belongs to the next head, and gives the head back when it is complete; what
    /// follows it stays in `input`. After an informational head the parser is ready for the next one.
    ///
    /// # Errors
    /// The bytes are no HTTP/1 head, or they pass 64 KiB or 128 fields.
    pub fn parse(&mut self, input: &mut &[u8]) -> Result<Option<ResponseHead>, HeadError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.advance(input).inspect_err(|error| {
            self.pending = Vec::new();
            self.failed = Some(error.clone());
        })
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<ResponseHead>, HeadError> {
        let room = BYTES.saturating_sub(self.total);
        let bytes = *input;
        let within = bytes.get(..room).unwrap_or(bytes);
        let Some(end) = self.scan(within)? else {
            if within.len() == room && !bytes.is_empty() {
                return Err(HeadError::new("the response head is longer than 65536 bytes"));
            }
            self.pending.extend_from_slice(within);
            self.total += within.len();
            *input = &[];
            return Ok(None);
        };
        let (last, rest) = bytes.split_at(end);
        *input = rest;
        self.total += end;
        self.place = Place::default();
        #[cfg(test)]
        {
            self.visited += self.pending.len() + last.len();
        }
        if self.pending.is_empty() {
            return parsed(last).map(Some);
        }
        let mut head = std::mem::take(&mut self.pending);
        head.extend_from_slice(last);
        parsed(&head).map(Some)
    }

    /// How many of these bytes belong to the head, where it ends among them.
    fn scan(&mut self, bytes: &[u8]) -> Result<Option<usize>, HeadError> {
        let mut index = 0;
        loop {
            if let Place::Line = self.place {
                // Nearly all bytes are of this kind.
                let rest = bytes.get(index..).unwrap_or_default();
                let count = rest.iter().position(|&byte| is_decisive(byte)).unwrap_or(rest.len());
                index += count;
                #[cfg(test)]
                {
                    self.visited += count;
                }
            }
            let Some(&byte) = bytes.get(index) else { return Ok(None) };
            #[cfg(test)]
            {
                self.visited += 1;
            }
            match self.place.after(byte) {
                Ok(Place::End) => return Ok(Some(index + 1)),
                Ok(place) => self.place = place,
                Err(Fault::NotHttp) => return Err(HeadError::not_http(self.place, bytes.get(index..))),
                Err(Fault::Line(reason)) => return Err(HeadError::new(reason)),
            }
            index += 1;
        }
    }
}

impl fmt::Debug for HeadParser {
    /// Shows nothing of the bytes: they may hold cookies and credentials.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("HeadParser")
            .field("pending_bytes", &self.pending.len())
            .field("total", &self.total)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

/// Whether a byte inside a line does not only go on with it.
fn is_decisive(byte: u8) -> bool {
    byte <= b'\r'
}

/// Where in a head the next byte stands.
#[derive(Clone, Copy)]
enum Place {
    /// In [`BEGINNING`], after so many of its bytes.
    Beginning(usize),
    /// Inside a line that is not empty.
    Line,
    /// After the CR of such a line.
    LineReturn,
    /// At the first byte of a line.
    LineStart,
    /// After the CR of an empty line.
    LastReturn,
    /// Behind the head.
    End,
}

impl Default for Place {
    fn default() -> Self {
        Self::Beginning(0)
    }
}

enum Fault {
    NotHttp,
    Line(&'static str),
}

impl Place {
    fn after(self, byte: u8) -> Result<Self, Fault> {
        match (self, byte) {
            (Self::Beginning(matched), _) => match BEGINNING.get(matched..) {
                Some([expected]) if *expected == byte => Ok(Self::Line),
                Some([expected, ..]) if *expected == byte => Ok(Self::Beginning(matched + 1)),
                _ => Err(Fault::NotHttp),
            },
            (Self::LineReturn, b'\n') => Ok(Self::LineStart),
            (Self::LastReturn | Self::End, b'\n') => Ok(Self::End),
            (Self::LineReturn | Self::LastReturn | Self::End, _) => {
                Err(Fault::Line("the response head has a CR without LF"))
            }
            (_, b'\n') => Err(Fault::Line("the response head has a line end without CR")),
            (_, 0) => Err(Fault::Line("the response head has a NUL")),
            // RFC 9112 §5.2: obsolete line folding.
            (Self::LineStart, b' ' | b'\t') => Err(Fault::Line("the response head has a folded line")),
            (Self::LineStart, b'\r') => Ok(Self::LastReturn),
            (Self::Line, b'\r') => Ok(Self::LineReturn),
            (Self::Line | Self::LineStart, _) => Ok(Self::Line),
        }
    }
}

/// One response head.
pub struct ResponseHead {
    /// The status code, 100 to 999.
    pub status_code: u16,
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub http_version: &'static str,
    /// The length of the head on the wire.
    pub bytes: usize,
    /// The names and values of the fields, one behind the other.
    text: String,
    /// Where in `text` each field ends: its name, its value.
    ends: Vec<[usize; 2]>,
}

impl ResponseHead {
    /// Every field in the server's order and spelling, white space around the values cut off. A value that is not
    /// UTF-8 is read as Latin-1.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut start = 0;
        self.ends.iter().map(move |&[name, value]| {
            let field = (self.text.get(start..name), self.text.get(name..value));
            start = value;
            (field.0.unwrap_or_default(), field.1.unwrap_or_default())
        })
    }

    /// Every value of a field in order; names compare without case.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields().filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// A copy of every field, as [`fields`](Self::fields) has them.
    pub fn to_fields(&self) -> Vec<(String, String)> {
        self.fields().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// The response as the caller sees it: `url` is what was asked, `body` what a refusal said.
    pub fn to_response(&self, url: Url, body: Vec<u8>) -> HttpUrlResponse {
        HttpUrlResponse::new(url, self.status_code, self.http_version, self.to_fields(), body)
    }
}

/// What is kept of the head that opened a WebSocket, in one piece of memory: the fields, but for the value that differs from
/// one connection to the next and can be made again. So the connections to one server can share it.
pub struct OpeningHead {
    /// Lines of name, colon, value. A name has no colon, and a value no line end: RFC 9110 §5.1, §5.5.
    lines: Box<str>,
}

const ACCEPT: &str = "Sec-WebSocket-Accept";

impl OpeningHead {
    /// Of a 101 in HTTP/1.1 whose `Sec-WebSocket-Accept` is the right one.
    pub fn new(head: &ResponseHead) -> Self {
        let mut lines = String::with_capacity(head.text.len() + 2 * head.ends.len());
        for (name, value) in head.fields() {
            lines.extend([name, ":", Self::kept(name, value), "\n"]);
        }
        Self { lines: lines.into_boxed_str() }
    }

    /// Whether it is what is kept of this head.
    pub fn is_of(&self, head: &ResponseHead) -> bool {
        let mut lines = &*self.lines;
        for (name, value) in head.fields() {
            let behind_name = lines.strip_prefix(name).and_then(|lines| lines.strip_prefix(':'));
            let behind_value = behind_name.and_then(|lines| lines.strip_prefix(Self::kept(name, value)));
            match behind_value.and_then(|lines| lines.strip_prefix('\n')) {
                Some(rest) => lines = rest,
                None => return false,
            }
        }
        lines.is_empty()
    }

    fn kept<'a>(name: &str, value: &'a str) -> &'a str {
        if name.eq_ignore_ascii_case(ACCEPT) { "" } else { value }
    }

    /// The response as the caller sees it; `accept` is its `Sec-WebSocket-Accept`.
    pub fn response(&self, url: Url, accept: &str) -> HttpUrlResponse {
        let field = |line: &str| {
            let (name, value) = line.split_once(':')?;
            let value = if name.eq_ignore_ascii_case(ACCEPT) { accept } else { value };
            Some((name.to_owned(), value.to_owned()))
        };
        let fields = self.lines.split_terminator('\n').filter_map(field).collect();
        HttpUrlResponse::new(url, 101, "HTTP/1.1", fields, Vec::new())
    }
}

impl fmt::Debug for OpeningHead {
    /// Shows nothing of the fields: they may hold cookies and credentials.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("OpeningHead").field("bytes", &self.lines.len()).finish()
    }
}

impl fmt::Debug for ResponseHead {
    /// Field names only: values may hold cookies and credentials.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ResponseHead")
            .field("status_code", &self.status_code)
            .field("http_version", &self.http_version)
            .field("fields", &self.fields().map(|(name, _)| name).collect::<Vec<_>>())
            .field("bytes", &self.bytes)
            .finish()
    }
}

/// Why bytes are no response head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadError(Cow<'static, str>);

impl HeadError {
    fn new(reason: &'static str) -> Self {
        Self(Cow::Borrowed(reason))
    }

    /// Shows the first bytes: a greeting of another protocol, or a TLS record, tells at once what is wrong.
    fn not_http(place: Place, rest: Option<&[u8]>) -> Self {
        let matched = match place {
            Place::Beginning(matched) => BEGINNING.get(..matched).unwrap_or_default(),
            _ => &[],
        };
        let shown: Vec<u8> = matched.iter().chain(rest.unwrap_or_default()).copied().take(24).collect();
        Self(Cow::Owned(format!("the answer is not HTTP/1: it begins with \"{}\"", shown.escape_ascii())))
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Error for HeadError {}

/// Parses a whole head, up to and with its empty line.
fn parsed(bytes: &[u8]) -> Result<ResponseHead, HeadError> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let complete = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut response, bytes, &mut fields)
        .map_err(|error| HeadError::new(reason(error)))?;
    let http_version = match response.version {
        Some(0) => "HTTP/1.0",
        Some(1) => "HTTP/1.1",
        _ => return Err(HeadError::new("the response is neither HTTP/1.0 nor HTTP/1.1")),
    };
    // RFC 9110 §15: three digits, and the first of them names one of the classes; 600 and above are not defined, yet
    // nothing is gained by refusing them here.
    let status_code = match response.code {
        Some(code) if code >= 100 && complete == httparse::Status::Complete(bytes.len()) => code,
        _ => return Err(HeadError::new("the response has no valid status code")),
    };
    let mut text = String::with_capacity(bytes.len());
    let mut ends = Vec::with_capacity(response.headers.len());
    for field in &*response.headers {
        text.push_str(field.name);
        let name = text.len();
        push_value(&mut text, field.value);
        ends.push([name, text.len()]);
    }
    Ok(ResponseHead { status_code, http_version, bytes: bytes.len(), text, ends })
}

/// A field's value as text. RFC 9110 §5.5: bytes above 127 have no meaning of their own; today they are UTF-8, once
/// they were Latin-1.
fn push_value(text: &mut String, value: &[u8]) {
    match str::from_utf8(value) {
        Ok(value) => text.push_str(value),
        Err(_) => text.extend(value.iter().copied().map(char::from)),
    }
}

const fn reason(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::Version => "the response is neither HTTP/1.0 nor HTTP/1.1",
        httparse::Error::Status => "the response has no valid status line",
        httparse::Error::HeaderName => "the name of a header field in the response is not a token",
        httparse::Error::HeaderValue => "the value of a header field in the response has a control character",
        httparse::Error::TooManyHeaders => "the response has more than 128 header fields",
        _ => "the response head is malformed",
    }
}

#[cfg(test)]
mod tests;
