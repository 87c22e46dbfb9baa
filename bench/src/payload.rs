//! The contents of messages.

use crate::workload::Kind;

/// Sixteen characters, four of which have two, three or four bytes.
const MIXED: &str = "in a café 水 🌊 ж!";

/// A message of exactly `size` bytes.
pub fn bytes(kind: Kind, size: usize) -> Vec<u8> {
    match kind {
        Kind::Text | Kind::Utf => text(kind, size).into_bytes(),
        Kind::Binary => (0..size).map(|index| (index % 251) as u8).collect(),
    }
}

/// A text of exactly `size` bytes.
pub fn text(kind: Kind, size: usize) -> String {
    let pattern = if kind == Kind::Utf { MIXED } else { "All work and no play makes Jack a dull boy. " };
    let mut text = String::with_capacity(size);
    let mut characters = pattern.chars().cycle();
    while let Some(character) = characters.next()
        && text.len() + character.len_utf8() <= size
    {
        text.push(character);
    }
    text.extend(std::iter::repeat_n('.', size - text.len()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_size_and_the_kind() {
        for size in [0, 1, 31, 128, 1 << 20] {
            for kind in [Kind::Text, Kind::Utf, Kind::Binary] {
                assert_eq!(bytes(kind, size).len(), size, "{kind:?}");
            }
        }
        assert!(text(Kind::Text, 1000).is_ascii());
        assert_eq!(MIXED.chars().filter(|character| !character.is_ascii()).count() * 4, MIXED.chars().count());
    }
}
