//! The check of text that arrives in pieces: RFC 6455 §8.1.

use simdutf8::{basic, compat};

/// The bytes are not the beginning of any UTF-8 text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Up to this many bytes are looked at for being ASCII first. Longer texts are checked as fast by the general way.
const SHORT: usize = 1024;

/// The text of a frame that is a whole message.
#[inline]
pub fn whole_text(bytes: &[u8]) -> Result<&str, Malformed> {
    if bytes.len() <= SHORT && is_ascii(bytes) {
        // SAFETY: every byte is below 0x80, and so a character of its own.
        return Ok(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    basic::from_utf8(bytes).map_err(|_| Malformed)
}

/// How many bytes at the front of `bytes` are whole characters; `bytes` begins at the beginning of a character.
///
/// What follows them, 3 bytes at most, is the beginning of one more character and is to be given again together with the
/// bytes that come after. A sequence that no byte can mend is refused at the first byte that makes it so: F4 90 without
/// waiting for the two bytes that F4 announces.
pub fn whole_characters(bytes: &[u8]) -> Result<usize, Malformed> {
    match compat::from_utf8(bytes) {
        Ok(text) => Ok(text.len()),
        Err(error) if error.error_len().is_none() => Ok(error.valid_up_to()),
        Err(_) => Err(Malformed),
    }
}

/// As `[u8]::is_ascii`, which takes a step for each byte that its blocks leave over.
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let (words, _) = bytes.as_chunks();
    let rest = match bytes.last_chunk() {
        // Some of them are among the words, too.
        Some(last) => u64::from_ne_bytes(*last),
        None => bytes.iter().fold(0, |seen, byte| seen | u64::from(*byte)),
    };
    words.iter().fold(rest, |seen, word| seen | u64::from_ne_bytes(*word)) & HIGH == 0
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Texts, each a table row of its own: every length of sequence at its first and last value.
    pub const VALID: &[&[u8]] = &[
        b"",
        b"\0\x7f",
        b"\xc2\x80\xdf\xbf",
        b"\xe0\xa0\x80\xe0\xbf\xbf",
        b"\xe1\x80\x80\xec\xbf\xbf",
        b"\xed\x80\x80\xed\x9f\xbf",
        b"\xee\x80\x80\xef\xbf\xbf",
        b"\xf0\x90\x80\x80\xf0\xbf\xbf\xbf",
        b"\xf1\x80\x80\x80\xf3\xbf\xbf\xbf",
        b"\xf4\x80\x80\x80\xf4\x8f\xbf\xbf",
        "κόσμε, мир, 世界, 🌍".as_bytes(),
    ];

    /// Bytes that are no text, and the index of the byte that shows it.
    pub const MALFORMED: &[(&[u8], usize)] = &[
        (b"\x80", 0),
        (b"\xbf", 0),
        (b"a\x80", 1),
        (b"\xc0\x80", 0),
        (b"\xc1\xbf", 0),
        (b"\xc2\x7f", 1),
        (b"\xc2\xc2\x80", 1),
        (b"\xdf\xc0", 1),
        // Overlong.
        (b"\xe0\x80\x80", 1),
        (b"\xe0\x9f\xbf", 1),
        (b"\xf0\x80\x80\x80", 1),
        (b"\xf0\x8f\xbf\xbf", 1),
        // Surrogates.
        (b"\xed\xa0\x80", 1),
        (b"\xed\xbf\xbf", 1),
        (b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited", 12),
        // Above U+10FFFF.
        (b"\xf4\x90\x80\x80", 1),
        (b"\xf4\xbf\xbf\xbf", 1),
        (b"\xf5\x80\x80\x80", 0),
        (b"\xf8\x88\x80\x80\x80", 0),
        (b"\xfc\x84\x80\x80\x80\x80", 0),
        (b"\xfe", 0),
        (b"\xff", 0),
        // Broken off in the middle by another character.
        (b"\xe1\x80a", 2),
        (b"\xe1\x80\xc2\x80", 2),
        (b"\xf1\x80\x80a", 3),
        (b"\xf1\x80\xe1\x80\x80", 2),
    ];

    /// Texts that stop in the middle of a character.
    pub const TRUNCATED: &[&[u8]] = &[
        b"\xc2",
        b"a\xdf",
        b"\xe0",
        b"\xe0\xa0",
        b"\xed\x9f",
        b"\xef\xbf",
        b"\xf0",
        b"\xf0\x90",
        b"\xf0\x90\x80",
        b"\xf4\x8f\xbf",
    ];

    #[test]
    fn whole_texts() {
        for text in VALID {
            assert_eq!(whole_characters(text), Ok(text.len()), "{text:02x?}");
            assert_eq!(whole_text(text).map(str::as_bytes), Ok(*text));
        }
    }

    #[test]
    fn one_byte_that_is_not_ascii_is_seen_wherever_it_stands() {
        for length in 0..300 {
            let mut bytes = vec![b'~'; length];
            assert!(is_ascii(&bytes), "{length}");
            for place in 0..length {
                bytes[place] = 0x80;
                assert!(!is_ascii(&bytes), "{place} of {length}");
                assert_eq!(whole_text(&bytes), Err(Malformed), "{place} of {length}");
                bytes[place] = b'~';
            }
            assert_eq!(whole_text(&bytes).map(str::len), Ok(length));
        }
    }

    #[test]
    fn the_first_bad_byte_is_refused_and_none_before_it() {
        for (bytes, bad) in MALFORMED {
            // Behind much good text too, where whole blocks are checked at a time.
            for before in [0, 1, 61, 62, 63, 64, 127, 200] {
                let mut text = vec![b'x'; before];
                text.extend_from_slice(&bytes[..*bad]);
                assert!(whole_characters(&text).is_ok(), "{bytes:02x?} to {bad} behind {before}");
                text.push(bytes[*bad]);
                assert_eq!(whole_characters(&text), Err(Malformed), "{bytes:02x?} behind {before}");
                text.extend_from_slice(&bytes[bad + 1..]);
                text.extend_from_slice(&[b'x'; 100]);
                assert_eq!(whole_characters(&text), Err(Malformed), "{bytes:02x?} in the middle, behind {before}");
            }
        }
    }

    #[test]
    fn an_unfinished_character_is_kept_back() {
        for bytes in TRUNCATED {
            for before in [0, 1, 62, 63, 64, 200] {
                let mut text = vec![b'x'; before];
                text.extend_from_slice(bytes);
                let whole = whole_characters(&text).unwrap();
                assert_eq!(
                    whole,
                    std::str::from_utf8(&text).unwrap_err().valid_up_to(),
                    "{bytes:02x?} behind {before}"
                );
                assert!(text.len() - whole <= 3);
            }
        }
    }

    #[test]
    fn every_sequence_of_three_bytes_agrees_with_the_standard_library() {
        for number in 0..1u32 << 24 {
            let [_, first, second, third] = number.to_be_bytes();
            // Of the bytes that mean the same everywhere, one stands for all.
            if !(0x7f..=0xf8).contains(&first) || !(0x7e..=0xc2).contains(&third) {
                continue;
            }
            let bytes = [first, second, third];
            let expected = match std::str::from_utf8(&bytes) {
                Ok(_) => Ok(3),
                Err(error) if error.error_len().is_none() => Ok(error.valid_up_to()),
                Err(_) => Err(Malformed),
            };
            assert_eq!(whole_characters(&bytes), expected, "{bytes:02x?}");
        }
    }
}
