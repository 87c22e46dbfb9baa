//! The contents of messages.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::json;
use crate::workload::Kind;

/// Sixteen characters, four of which have two, three or four bytes.
const MIXED: &str = "in a café 水 🌊 ж!";

/// Messages that are sent in turn, and then again.
#[derive(Debug)]
pub struct Ring<M> {
    messages: Vec<M>,
    next: AtomicUsize,
}

impl<M> Ring<M> {
    /// All messages of a kind and size.
    pub fn new(kind: Kind, size: usize, message: impl Fn(Vec<u8>) -> M) -> Self {
        Self { messages: all(kind, size).into_iter().map(message).collect(), next: AtomicUsize::new(0) }
    }

    /// The next one. One thread asks at a time.
    #[inline]
    pub fn next(&self) -> &M {
        // Where there is but one, a message of some hundred instructions must not pay for a choice.
        if let [message] = self.messages.as_slice() { message } else { self.turn() }
    }

    #[inline(never)]
    fn turn(&self) -> &M {
        let index = self.next.load(Ordering::Relaxed);
        self.next.store(if index + 1 == self.messages.len() { 0 } else { index + 1 }, Ordering::Relaxed);
        &self.messages[index]
    }
}

/// All messages of exactly `size` bytes: those of a kind that does not vary are one.
pub fn all(kind: Kind, size: usize) -> Vec<Vec<u8>> {
    match kind {
        Kind::Json => json::messages(size).into_iter().map(String::into_bytes).collect(),
        Kind::Text | Kind::Utf | Kind::Binary => vec![bytes(kind, size)],
    }
}

/// A message of exactly `size` bytes.
pub fn bytes(kind: Kind, size: usize) -> Vec<u8> {
    match kind {
        Kind::Text | Kind::Utf => text(kind, size).into_bytes(),
        Kind::Json => json::messages(size).swap_remove(0).into_bytes(),
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

    #[test]
    fn takes_messages_in_turn() {
        let ring = Ring::new(Kind::Json, 1 << 20, |message| message);
        let turns: Vec<_> = (0..9).map(|_| ring.next()).collect();
        assert_ne!(turns[0], turns[1]);
        assert!(turns[..4] == turns[4..8] && turns[0] == turns[8]);
    }
}
