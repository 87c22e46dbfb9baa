//! Messages that came together; short ones in one block of memory.

use super::message::Message;

/// A bundle is closed when it holds this many bytes.
const FULL: usize = 64 * 1024;

/// Whole messages of one kind, first in, first out; short ones without a block of memory each.
///
/// A short message gets its own when it is taken: on the thread that will use it and let it go, and while it is wanted. That
/// saves the allocator the passage from thread to thread, and the cache the messages that wait.
#[derive(Clone, Debug, Default)]
pub struct Bundle {
    bytes: Bytes,
    /// Where each short message ends.
    ends: Vec<u32>,
    /// How many messages were taken.
    taken: usize,
    /// Where the first of the short ones begins.
    start: usize,
}

#[derive(Clone, Debug)]
enum Bytes {
    Data(Vec<u8>),
    Text(String),
    /// Each with its own memory, of either kind.
    Long(Vec<Message>),
}

impl Default for Bytes {
    fn default() -> Self {
        Self::Data(Vec::new())
    }
}

impl Bundle {
    /// A bundle of long messages.
    pub fn of_long(messages: Vec<Message>) -> Self {
        Self { bytes: Bytes::Long(messages), ..Self::default() }
    }

    /// Appends a long message, or gives it back: the bundle is one of short messages.
    pub fn push_long(&mut self, message: Message) -> Option<Message> {
        match &mut self.bytes {
            Bytes::Long(messages) => messages.push(message),
            _ => return Some(message),
        }
        None
    }

    /// Appends a text; false if the bundle is full or of the other kind.
    #[inline]
    pub fn push_text(&mut self, text: &str) -> bool {
        match &mut self.bytes {
            Bytes::Text(bytes) if bytes.len() < FULL => bytes.push_str(text),
            _ => return self.push_first_text(text),
        }
        self.pushed()
    }

    /// Appends a binary message; false if the bundle is full or of the other kind.
    #[inline]
    pub fn push_data(&mut self, data: &[u8]) -> bool {
        match &mut self.bytes {
            Bytes::Data(bytes) if bytes.len() < FULL => bytes.extend_from_slice(data),
            _ => return self.push_first_data(data),
        }
        self.pushed()
    }

    #[inline]
    fn pushed(&mut self) -> bool {
        // Far less than what fits: a message that is pushed is shorter than a gibibyte, and only the last is behind `FULL`.
        self.ends.push(u32::try_from(self.size()).unwrap_or(u32::MAX));
        true
    }

    /// A bundle of binary messages becomes one of texts, if it is empty.
    #[cold]
    fn push_first_text(&mut self, text: &str) -> bool {
        let Some(memory) = self.memory() else { return false };
        // Nothing is checked: there is nothing in it.
        let mut bytes = String::from_utf8(memory).unwrap_or_default();
        bytes.push_str(text);
        self.bytes = Bytes::Text(bytes);
        self.pushed()
    }

    /// A bundle of texts becomes one of binary messages, if it is empty.
    #[cold]
    fn push_first_data(&mut self, data: &[u8]) -> bool {
        let Some(mut bytes) = self.memory() else { return false };
        bytes.extend_from_slice(data);
        self.bytes = Bytes::Data(bytes);
        self.pushed()
    }

    /// The memory of an empty bundle.
    fn memory(&mut self) -> Option<Vec<u8>> {
        if !self.ends.is_empty() || !self.has_memory() {
            return None;
        }
        let mut memory = match std::mem::take(&mut self.bytes) {
            Bytes::Data(bytes) => bytes,
            Bytes::Text(bytes) => bytes.into_bytes(),
            Bytes::Long(_) => Vec::new(),
        };
        memory.clear();
        Some(memory)
    }

    /// Takes the first message.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<Message> {
        if let Bytes::Long(messages) = &mut self.bytes {
            let message = std::mem::replace(messages.get_mut(self.taken)?, Message::Data(Vec::new()));
            self.taken += 1;
            return Some(message);
        }
        let end = *self.ends.get(self.taken)? as usize;
        self.taken += 1;
        let start = std::mem::replace(&mut self.start, end);
        Some(match &self.bytes {
            Bytes::Text(bytes) => Message::String(bytes.get(start..end).unwrap_or_default().to_owned()),
            Bytes::Data(bytes) => Message::Data(bytes.get(start..end).unwrap_or_default().to_vec()),
            Bytes::Long(_) => return None,
        })
    }

    /// How many messages are left.
    pub fn len(&self) -> usize {
        let count = match &self.bytes {
            Bytes::Long(messages) => messages.len(),
            _ => self.ends.len(),
        };
        count - self.taken
    }

    /// Whether no message is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of the messages that are left.
    pub fn bytes(&self) -> usize {
        match &self.bytes {
            Bytes::Long(messages) => messages.iter().skip(self.taken).map(Message::len).sum(),
            _ => self.size() - self.start,
        }
    }

    /// Whether its memory is worth keeping when it is empty.
    pub fn has_memory(&self) -> bool {
        !matches!(self.bytes, Bytes::Long(_))
    }

    /// Empties it, for its memory.
    pub fn clear(&mut self) {
        self.ends.clear();
        (self.taken, self.start) = (0, 0);
        match &mut self.bytes {
            Bytes::Data(bytes) => bytes.clear(),
            Bytes::Text(bytes) => bytes.clear(),
            Bytes::Long(messages) => messages.clear(),
        }
    }

    /// A copy with no more memory than it needs, if this one has much more: memory that waits for a reader is counted by the
    /// bytes of the messages.
    pub fn fitted(&self) -> Option<Self> {
        let (bytes, capacity) = match &self.bytes {
            Bytes::Data(bytes) => (bytes.as_slice(), bytes.capacity()),
            Bytes::Text(bytes) => (bytes.as_bytes(), bytes.capacity()),
            Bytes::Long(_) => return None,
        };
        if capacity / 2 <= bytes.len() {
            return None;
        }
        Some(self.clone())
    }

    /// The bytes of short messages.
    fn size(&self) -> usize {
        match &self.bytes {
            Bytes::Data(bytes) => bytes.len(),
            Bytes::Text(bytes) => bytes.len(),
            Bytes::Long(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_they_went_in() {
        let mut bundle = Bundle::default();
        for round in 0..3 {
            assert!(bundle.is_empty() && bundle.pop().is_none());
            assert!(bundle.push_text("a") && bundle.push_text("") && bundle.push_text("ä€🌍"));
            assert!(!bundle.push_data(b"another kind"));
            assert_eq!((bundle.len(), bundle.bytes()), (3, 10));
            assert_eq!(bundle.pop(), Some(Message::from("a")));
            assert_eq!((bundle.len(), bundle.bytes()), (2, 9));
            assert_eq!(bundle.pop(), Some(Message::from("")));
            let fitted = bundle.fitted();
            assert_eq!(fitted.and_then(|mut copy| copy.pop()), (round > 0).then(|| Message::from("ä€🌍")));
            assert_eq!(bundle.pop(), Some(Message::from("ä€🌍")));
            bundle.clear();
            assert!(bundle.push_data(b"\xff") && bundle.push_data(&[7; 300]) && !bundle.push_text("another kind"));
            assert_eq!(bundle.pop(), Some(Message::from(b"\xff")));
            assert_eq!(bundle.pop(), Some(Message::from(&[7; 300])));
            bundle.clear();
        }
    }

    #[test]
    fn long_messages_are_handed_on_as_they_are() {
        let (text, data) = (Message::from("a".repeat(5000)), Message::from(vec![7; 6000]));
        let memory = |message: &Message| match message {
            Message::String(text) => text.as_ptr(),
            Message::Data(data) => data.as_ptr(),
        };
        let memories = [memory(&text), memory(&data)];
        let mut bundle = Bundle::of_long(vec![text]);
        assert!(!bundle.has_memory() && bundle.push_long(data).is_none());
        assert!(!bundle.push_text("short") && !bundle.push_data(b"short"));
        assert_eq!((bundle.len(), bundle.bytes()), (2, 11_000));
        assert!(bundle.fitted().is_none());
        assert_eq!(bundle.pop().map(|message| (memory(&message), message.len())), Some((memories[0], 5000)));
        assert_eq!((bundle.len(), bundle.bytes()), (1, 6000));
        assert_eq!(bundle.pop().map(|message| (memory(&message), message.len())), Some((memories[1], 6000)));
        assert!(bundle.is_empty() && bundle.pop().is_none());
        let mut short = Bundle::default();
        assert!(short.has_memory());
        assert_eq!(short.push_long(Message::from("long")), Some(Message::from("long")));
        assert!(short.push_text("short") && short.push_long(Message::from("long")).is_some());
    }

    #[test]
    fn a_full_bundle_takes_no_more() {
        let mut bundle = Bundle::default();
        let mut count = 0;
        while bundle.push_data(&[1; 1000]) {
            count += 1;
        }
        assert_eq!((count, bundle.len(), bundle.bytes()), (66, 66, 66_000));
        assert!(bundle.fitted().is_none(), "it is full: nothing is to be won");
        for _ in 0..66 {
            assert_eq!(bundle.pop().map(|message| message.len()), Some(1000));
        }
        assert!(bundle.is_empty());
    }
}
