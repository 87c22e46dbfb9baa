//! The header of a frame, and the payload of a Close: RFC 6455 §5.2, §5.5.1.
//!
//! ```text
//!  byte 0        byte 1          byte 2 …
//!  F R R R opcode  M length(7)    16-bit length if the 7 bits read 126, 64-bit if 127, big-endian;
//!  I S S S (4)     A              then the mask key where MASK is set; then the payload
//!  N V V V         S
//!    1 2 3         K
//! ```
#![forbid(unsafe_code)]

use super::mask;
use super::violation::Violation;
use crate::foundation::CloseCode;

/// The longest header that a server may send: a server's frames have no mask key (§5.1).
pub const SERVER_HEADER: usize = 10;
/// The longest header that a client sends.
pub const CLIENT_HEADER: usize = 14;
/// The longest payload of a control frame: §5.5.
pub const CONTROL_PAYLOAD: usize = 125;
/// The longest reason of a Close: what the two bytes of the code leave of the payload.
pub const CLOSE_REASON: usize = CONTROL_PAYLOAD - 2;

const FIN: u8 = 0x80;
/// RSV1 to RSV3.
const RESERVED: u8 = 0x70;
/// RSV1: the message is compressed, where that was negotiated (RFC 7692 §6). It stands on the first frame of the message.
const COMPRESSED: u8 = 0x40;
const MASK: u8 = 0x80;

/// What a frame is: §5.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// One more fragment of a message.
    Continuation = 0,
    /// The first or only frame of a text.
    Text = 1,
    /// The first or only frame of a binary message.
    Binary = 2,
    /// The last frame of a connection.
    Close = 8,
    /// Asks for a pong.
    Ping = 9,
    /// Answers a ping.
    Pong = 10,
}

impl Opcode {
    /// Whether this frame may come between the fragments of a message: §5.5.
    pub fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// The header of a frame that the server sent, found in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whether this is the last frame of its message.
    pub fin: bool,
    /// What the frame is.
    pub opcode: Opcode,
    /// Whether this is the first frame of a compressed message.
    pub is_compressed: bool,
    /// The length of the payload, less than 2^63. A claim of the peer's, not to be allocated.
    pub length: u64,
}

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// A message has begun and not ended, so that a continuation is due: §5.4.
    pub inside: bool,
    /// Messages may be compressed: RFC 7692 §6.
    pub compressed: bool,
}

impl Header {
    /// The header at the front of `bytes` and its size; `None` where more bytes are needed.
    ///
    /// A header that breaks a rule is refused at the first byte that shows it.
    #[inline]
    pub fn parse(bytes: &[u8], expected: Expected) -> Result<Option<(Self, usize)>, Violation> {
        let [first, after_first @ ..] = bytes else { return Ok(None) };
        let (fin, opcode, is_compressed) = opening(*first, expected)?;
        let [second, extended @ ..] = after_first else { return Ok(None) };
        if second & MASK != 0 {
            return Err(Violation::framing("the server sent a masked frame"));
        }
        if opcode.is_control() && usize::from(*second) > CONTROL_PAYLOAD {
            return Err(Violation::framing("the server sent a control frame of more than 125 bytes"));
        }
        let (length, size) = match second {
            126 => match extended.first_chunk() {
                Some(bytes) => (u64::from(u16::from_be_bytes(*bytes)), 4),
                None => return Ok(None),
            },
            127 => match long_length(extended)? {
                Some(length) => (length, SERVER_HEADER),
                None => return Ok(None),
            },
            length => (u64::from(*length), 2),
        };
        if size == 4 && length < 126 {
            return Err(Violation::framing(NOT_MINIMAL));
        }
        Ok(Some((Self { fin, opcode, is_compressed, length }, size)))
    }
}

const NOT_MINIMAL: &str = "the server sent a frame whose length is not in its shortest form";

/// What the first byte says and whether it may stand here.
#[inline]
fn opening(byte: u8, expected: Expected) -> Result<(bool, Opcode, bool), Violation> {
    let fin = byte & FIN != 0;
    let is_compressed = byte & RESERVED == COMPRESSED && expected.compressed;
    if byte & RESERVED != 0 && !is_compressed {
        return Err(Violation::framing("the server sent a frame with a reserved bit set"));
    }
    let inside = expected.inside;
    let opcode = match byte & 0x0f {
        0 if !inside => return Err(Violation::framing("the server continued a message that had not begun")),
        0 => Opcode::Continuation,
        1 | 2 if inside => return Err(Violation::framing("the server began a message inside another one")),
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        _ => return Err(Violation::framing("the server sent a frame with a reserved opcode")),
    };
    if opcode.is_control() && !fin {
        return Err(Violation::framing("the server sent a control frame in fragments"));
    }
    if is_compressed && !matches!(opcode, Opcode::Text | Opcode::Binary) {
        return Err(Violation::framing("the server marked a frame as compressed that does not begin a message"));
    }
    Ok((fin, opcode, is_compressed))
}

/// The length in 64 bits. Its highest bit must be 0, and its upper 48 bits must not all be 0 (§5.2).
fn long_length(bytes: &[u8]) -> Result<Option<u64>, Violation> {
    if bytes.first().is_some_and(|byte| byte & 0x80 != 0) {
        return Err(Violation::framing("the server sent a frame with a length of 2^63 or more"));
    }
    if bytes.first_chunk().is_some_and(|upper| *upper == [0; 6]) {
        return Err(Violation::framing(NOT_MINIMAL));
    }
    Ok(bytes.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)))
}

/// What a client's frame is: its opcode, and whether it begins a compressed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(u8);

impl Kind {
    /// The first or only frame of a compressed message: RFC 7692 §6.
    pub fn compressed(opcode: Opcode) -> Self {
        Self(opcode as u8 | COMPRESSED)
    }
}

impl From<Opcode> for Kind {
    fn from(opcode: Opcode) -> Self {
        Self(opcode as u8)
    }
}

/// The header of a client's frame.
#[derive(Clone, Copy, Debug)]
pub struct EncodedHeader {
    bytes: [u8; CLIENT_HEADER],
    size: u8,
}

impl EncodedHeader {
    /// The header of a masked frame: the length in its shortest form, then the key.
    #[inline]
    pub fn new(fin: bool, kind: Kind, length: usize, key: [u8; 4]) -> Self {
        let first = kind.0 | if fin { FIN } else { 0 };
        let [a, b, c, d] = key;
        let length = length as u64;
        let [.., high, low] = length.to_be_bytes();
        let (bytes, size) = match length {
            0..126 => ([first, MASK | low, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0], 6),
            126..0x1_0000 => ([first, MASK | 126, high, low, a, b, c, d, 0, 0, 0, 0, 0, 0], 8),
            _ => {
                let [l0, l1, l2, l3, l4, l5, l6, l7] = length.to_be_bytes();
                ([first, MASK | 127, l0, l1, l2, l3, l4, l5, l6, l7, a, b, c, d], 14)
            }
        };
        Self { bytes, size }
    }

    /// The bytes of the header.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.size)).unwrap_or_default()
    }
}

/// The size of a client's frame with a payload of `length` bytes, header and key included.
#[inline]
pub fn frame_size(length: usize) -> usize {
    length
        + match length {
            0..126 => 6,
            126..0x1_0000 => 8,
            _ => CLIENT_HEADER,
        }
}

/// Appends a whole unfragmented frame, masked with `key`. Whoever knows better than the vector how it is to grow has made
/// room before.
#[inline(always)]
pub fn append_frame(out: &mut Vec<u8>, kind: impl Into<Kind>, payload: &[u8], key: [u8; 4]) {
    let kind = kind.into();
    let first = kind.0 | FIN;
    let [a, b, c, d] = key;
    // Arrays of a known length are stored; a slice of the header would be copied by a call.
    match payload.len() as u64 {
        length @ 0..126 => out.extend_from_slice(&[first, MASK | length as u8, a, b, c, d]),
        length @ 126..0x1_0000 => {
            let [high, low] = (length as u16).to_be_bytes();
            out.extend_from_slice(&[first, MASK | 126, high, low, a, b, c, d]);
        }
        _ => out.extend_from_slice(EncodedHeader::new(true, kind, payload.len(), key).as_slice()),
    }
    mask::extend_masked(out, payload, key);
}

/// The size of the client's frame at the front of `frames`, which [`append_frame`] wrote there.
pub fn first_frame_size(frames: &[u8]) -> Option<usize> {
    let [_, second, extended @ ..] = frames else { return None };
    let length = match second & !MASK {
        126 => usize::from(u16::from_be_bytes(*extended.first_chunk()?)),
        127 => usize::try_from(u64::from_be_bytes(*extended.first_chunk()?)).ok()?,
        length => usize::from(length),
    };
    Some(frame_size(length))
}

/// The payload of a control frame that [`append_frame`] wrote.
pub fn control_payload(frame: &[u8]) -> Vec<u8> {
    let Some(([_, _, key @ ..], masked)) = frame.split_first_chunk::<6>() else { return Vec::new() };
    let mut payload = masked.to_vec();
    mask::mask(&mut payload, *key, 0);
    payload
}

/// As much of a Close's reason as a frame can hold: 123 bytes of UTF-8, and no part of a character (§5.5.1, §7.1.6).
pub fn cut_reason(reason: &[u8]) -> &[u8] {
    let cut = reason.get(..CLOSE_REASON).unwrap_or(reason);
    match simdutf8::compat::from_utf8(cut) {
        Ok(text) => text.as_bytes(),
        Err(error) => cut.get(..error.valid_up_to()).unwrap_or_default(),
    }
}

/// The payload of a Close frame: empty without a code, and for a code that must not be on the wire (§7.4.1).
pub fn close_payload(code: Option<CloseCode>, reason: &[u8]) -> Vec<u8> {
    let Some(code) = code.filter(|code| code.may_be_sent()) else { return Vec::new() };
    let reason = cut_reason(reason);
    let mut payload = Vec::with_capacity(2 + reason.len());
    payload.extend_from_slice(&code.raw_value().to_be_bytes());
    payload.extend_from_slice(reason);
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_a_client_are_minimal_and_masked() {
        let key = [1, 2, 3, 4];
        let table: [(usize, &[u8]); 7] = [
            (0, &[0x82, 0x80, 1, 2, 3, 4]),
            (125, &[0x82, 0xfd, 1, 2, 3, 4]),
            (126, &[0x82, 0xfe, 0, 126, 1, 2, 3, 4]),
            (65535, &[0x82, 0xfe, 0xff, 0xff, 1, 2, 3, 4]),
            (65536, &[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4]),
            (0x0102_0304, &[0x82, 0xff, 0, 0, 0, 0, 1, 2, 3, 4, 1, 2, 3, 4]),
            (isize::MAX as usize, &[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4]),
        ];
        for (length, expected) in table {
            if length == isize::MAX as usize && cfg!(not(target_pointer_width = "64")) {
                continue;
            }
            let header = EncodedHeader::new(true, Opcode::Binary.into(), length, key);
            assert_eq!(header.as_slice(), expected, "{length}");
            assert_eq!(frame_size(length), expected.len() + length);
            assert_eq!(first_frame_size(expected), Some(expected.len() + length));
        }
        assert_eq!(EncodedHeader::new(false, Opcode::Continuation.into(), 1, key).as_slice()[..2], [0x00, 0x81]);
    }

    #[test]
    fn masked_examples_of_rfc_6455_5_7() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        for (opcode, first) in [(Opcode::Text, 0x81), (Opcode::Pong, 0x8a)] {
            let mut frame = Vec::new();
            append_frame(&mut frame, opcode, b"Hello", key);
            assert_eq!(frame, [first, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
            assert_eq!(control_payload(&frame), b"Hello");
        }
    }

    #[test]
    fn the_first_bit_behind_fin_marks_a_compressed_message() {
        let mut frame = Vec::new();
        append_frame(&mut frame, Kind::compressed(Opcode::Text), &[0xf2], [0; 4]);
        assert_eq!(frame, [0xc1, 0x81, 0, 0, 0, 0, 0xf2]);
        assert_eq!(
            EncodedHeader::new(false, Kind::compressed(Opcode::Binary), 1, [0; 4]).as_slice()[..2],
            [0x42, 0x81]
        );
    }

    #[test]
    fn a_message_may_be_marked_as_compressed_where_that_was_negotiated() {
        let parse = |first: u8, inside, compressed| Header::parse(&[first, 0], Expected { inside, compressed });
        for first in [0xc1, 0xc2, 0x41, 0x42] {
            let header = parse(first, false, true).unwrap().unwrap().0;
            assert!(header.is_compressed && header.fin == (first & FIN != 0));
            assert!(parse(first, false, false).is_err() && parse(first, true, true).is_err());
            assert!(!parse(first & !COMPRESSED, false, true).unwrap().unwrap().0.is_compressed);
        }
        // On a continuation and on control frames, and the other two bits anywhere.
        assert!(parse(0xc0, true, true).is_err() && parse(0x80, true, true).is_ok());
        for first in [0xc8, 0xc9, 0xca, 0x91, 0xa1, 0xb1, 0xe1, 0xd1, 0xf1] {
            assert!(parse(first, false, true).is_err(), "{first:02x}");
        }
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        assert_eq!(cut_reason(b""), b"");
        assert_eq!(cut_reason(&[b'a'; 123]), [b'a'; 123]);
        assert_eq!(cut_reason(&[b'a'; 124]), [b'a'; 123]);
        for character in ["é", "€", "🌍"] {
            for before in 100..=130 {
                let reason = "a".repeat(before) + &character.repeat(20);
                let cut = cut_reason(reason.as_bytes());
                let expected = reason.char_indices().map(|(index, _)| index).filter(|index| *index <= 123).max();
                assert_eq!(Some(cut.len()), expected, "{before} before {character}");
                assert!(reason.as_bytes().starts_with(cut));
            }
        }
        // What is no UTF-8 must not be on the wire.
        assert_eq!(cut_reason(&[0x80; 200]), b"");
        assert_eq!(cut_reason(b"as far as here\xff, not there"), b"as far as here");
    }

    #[test]
    fn a_close_holds_what_may_be_sent() {
        let code = |raw_value| Some(CloseCode::new(raw_value));
        assert_eq!(close_payload(code(1000), b"bye"), b"\x03\xe8bye");
        assert_eq!(close_payload(code(4999), b""), b"\x13\x87");
        assert_eq!(close_payload(code(1000), &[b'a'; 500]).len(), 125);
        for forbidden in [None, code(0), code(999), code(1005), code(1006), code(1015)] {
            assert_eq!(close_payload(forbidden, b"bye"), b"");
        }
    }
}
