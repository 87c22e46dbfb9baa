//! Frames as they are on the wire, written here once more from RFC 6455 §5.2 and not with the crate's own code.

use crate::deflate::Wire;

/// A frame of a server.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len());
    bytes.extend_from_slice(payload);
    bytes
}

/// The header of a server's frame.
fn header(first: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(length as u8),
        126..=65535 => {
            bytes.push(126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(127);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    bytes
}

/// The payload of a Close.
pub fn close_payload(code: Option<u16>, reason: &[u8]) -> Vec<u8> {
    code.map_or_else(Vec::new, |code| [&code.to_be_bytes(), reason].concat())
}

/// What a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The head of the request, with its empty line.
    Request(String),
    Message(bool, Vec<u8>, Wire),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Vec<u8>),
}

/// What decompresses messages.
pub type Inflate = Box<dyn FnMut(&[u8]) -> Vec<u8>>;

/// Reads what a client sends, and panics at the first byte that RFC 6455 does not allow it to send.
#[derive(Default)]
pub struct Reader {
    bytes: Vec<u8>,
    has_request: bool,
    /// A frame came: no request comes any more.
    has_frames: bool,
    /// Whether it is text, whether it is compressed, and its frames so far.
    message: Option<(bool, bool, Vec<u8>)>,
    closed: bool,
    /// There is none where nothing may come compressed.
    inflate: Option<Inflate>,
}

impl Reader {
    pub fn new(inflate: Option<Inflate>) -> Self {
        Self { inflate, ..Self::default() }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        assert!(!self.closed || bytes.is_empty(), "the client sends {} bytes behind its Close (§5.5.1)", bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// The next thing that is there whole.
    pub fn next(&mut self) -> Option<Seen> {
        if !self.has_request || (!self.has_frames && self.bytes.first() == Some(&b'G')) {
            let end = self.bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
            self.has_request = true;
            let head = self.bytes.drain(..end).collect();
            return Some(Seen::Request(String::from_utf8(head).expect("a request in UTF-8")));
        }
        loop {
            let (first, payload) = self.frame()?;
            self.has_frames = true;
            let is_last = first & 0x80 != 0;
            match first & 0x0f {
                0 => {
                    let (_, _, message) = self.message.as_mut().expect("a continuation of something (§5.4)");
                    message.extend_from_slice(&payload);
                }
                opcode @ (1 | 2) => {
                    assert!(self.message.is_none(), "a message inside another one (§5.4)");
                    self.message = Some((opcode == 1, first & 0x40 != 0, payload));
                }
                8 => {
                    assert!(payload.len() != 1, "a Close with half a code (§5.5.1)");
                    assert!(self.bytes.is_empty(), "bytes behind the Close (§5.5.1)");
                    assert!(std::str::from_utf8(payload.get(2..).unwrap_or_default()).is_ok(), "a reason in UTF-8");
                    self.closed = true;
                    return Some(Seen::Close(payload));
                }
                9 => return Some(Seen::Ping(payload)),
                10 => return Some(Seen::Pong(payload)),
                opcode => panic!("the client sent the opcode {opcode}"),
            }
            if is_last && first & 0x08 == 0 {
                let (text, compressed, payload) = self.message.take()?;
                let wire = Wire { compressed, bytes: payload.len() };
                let payload = match &mut self.inflate {
                    Some(inflate) if compressed => inflate(&payload),
                    _ => payload,
                };
                return Some(Seen::Message(text, payload, wire));
            }
        }
    }

    /// Whether a part of a request is there, and not all of it.
    pub fn is_in_request(&self) -> bool {
        !self.has_frames && !self.bytes.is_empty()
    }

    /// How many bytes there are that are no whole frame yet.
    pub fn rest(&self) -> usize {
        self.bytes.len()
    }

    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let [first, second, extended @ ..] = self.bytes.as_slice() else { return None };
        let may_be_compressed = self.inflate.is_some() && matches!(first & 0x0f, 1 | 2);
        let reserved = if may_be_compressed { 0x30 } else { 0x70 };
        assert!(first & reserved == 0, "a reserved bit is set (§5.2; RFC 7692 §6)");
        assert!(second & 0x80 != 0, "a client masks every frame (§5.1)");
        let (length, header) = match second & 0x7f {
            126 => (usize::from(u16::from_be_bytes(*extended.first_chunk()?)), 4),
            127 => (u64::from_be_bytes(*extended.first_chunk()?) as usize, 10),
            length => (usize::from(length), 2),
        };
        let shortest = match length {
            0..=125 => 2,
            126..=65535 => 4,
            _ => 10,
        };
        assert_eq!(header, shortest, "a length is in its shortest form (§5.2)");
        if first & 0x08 != 0 {
            assert!(
                length <= 125 && first & 0x80 != 0,
                "a control frame of {length} bytes, first byte {first:#x} (§5.5)"
            );
        }
        let frame = self.bytes.get(..header + 4 + length)?;
        let key = [0, 1, 2, 3].map(|index| frame[header + index]);
        let mut payload = frame[header + 4..].to_vec();
        let first = *first;
        for chunk in payload.chunks_mut(4) {
            for (byte, mask) in chunk.iter_mut().zip(key) {
                *byte ^= mask;
            }
        }
        self.bytes.drain(..header + 4 + length);
        Some((first, payload))
    }
}
