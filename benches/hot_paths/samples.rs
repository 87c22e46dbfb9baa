//! Payloads, and what a server's frames of them are.

/// A payload of `length` bytes, the same each time.
pub fn binary(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7 + index / 256) as u8).collect()
}

/// A text of exactly `length` bytes, all of them ASCII.
pub fn ascii(length: usize) -> String {
    text("{\"symbol\":\"BTC-USD\",\"price\":\"97512.25\"},", length)
}

/// A text of exactly `length` bytes, a quarter of which belong to characters of two, three and four bytes.
pub fn quarter_multi_byte(length: usize) -> String {
    // 9 bytes of 36.
    text("Der Preis ist 7 €, für 🌍 gilt noch.", length)
}

fn text(unit: &str, length: usize) -> String {
    let mut text = String::with_capacity(length + unit.len());
    while text.len() < length {
        text.push_str(unit);
    }
    let mut end = length;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.extend(std::iter::repeat_n('.', length - end));
    text
}

/// Appends a frame as a server sends it: `first` is its first byte.
pub fn server_frame(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    let length = payload.len();
    match length {
        0..126 => out.extend([first, length as u8]),
        126..0x1_0000 => {
            out.extend([first, 126]);
            out.extend((length as u16).to_be_bytes());
        }
        _ => {
            out.extend([first, 127]);
            out.extend((length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// The first byte of a text of one frame.
pub const TEXT: u8 = 0x81;
/// The first byte of a binary message of one frame.
pub const BINARY: u8 = 0x82;
/// The first byte of a binary message's first frame of several…
pub const FIRST: u8 = 0x02;
/// …of those in the middle…
pub const MIDDLE: u8 = 0x00;
/// …and of the last.
pub const LAST: u8 = 0x80;
