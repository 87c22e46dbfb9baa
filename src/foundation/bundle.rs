//! Short messages that came together, in one block of memory.

use super::message::Message;

/// A bundle is closed when it holds this many bytes.
const FULL: usize = 64 * 1024;

/// Whole messages of one kind, first in, first out, without a block of memory each.
///
/// A message gets its own when it is taken: on the thread that will use it and let it go, and while it is wanted. That
/// saves the allocator the passage from thread to thread, and the cache the messages that wait.
#[derive(Clone, Debug, Default)]
pub struct Bundle {
    bytes: Bytes,
    /// Where each message ends.
    ends: Vec<u32>,
    /// How many of them were taken.
    taken: usize,
    /// Where the first of them begins.
    start: usize,
}

#[derive(Clone, Debug)]
enum Bytes {
    Data(Vec<u8>),
    Text(String),
}

impl Default for Bytes {
    fn default() -> Self {
        Self::Data(Vec::new())
    }
}

impl Bundle {
    /// Appends a text; false if the bundle is full or of the other kind.
    #[inline]
    pub fn push_text(&mut self, text: &str) -> bool {
        if let Bytes::Data(data) = &mut self.bytes
            && self.ends.is_empty()
        {
            let mut data = std::mem::take(data);
            data.clear();
            // Nothing is checked: there is nothing in it.
            self.bytes = Bytes::Text(String::from_utf8(data).unwrap_or_default());
        }
        match &mut self.bytes {
            Bytes::Text(bytes) if bytes.len() < FULL => bytes.push_str(text),
            _ => return false,
        }
        self.pushed()
    }

    /// Appends a binary message; false if the bundle is full or of the other kind.
    #[inline]
    pub fn push_data(&mut self, data: &[u8]) -> bool {
        if let Bytes::Text(text) = &mut self.bytes
            && self.ends.is_empty()
        {
            let mut bytes = std::mem::take(text).into_bytes();
            bytes.clear();
            self.bytes = Bytes::Data(bytes);
        }
        match &mut self.bytes {
            Bytes::Data(bytes) if bytes.len() < FULL => bytes.extend_from_slice(data),
            _ => return false,
        }
        self.pushed()
    }

    #[inline]
    fn pushed(&mut self) -> bool {
        // Far less than what fits: a message that is pushed is shorter than a gibibyte, and only the last is behind `FULL`.
        self.ends.push(u32::try_from(self.size()).unwrap_or(u32::MAX));
        true
    }

    /// Takes the first message.
    #[inline]
    pub fn pop(&mut self) -> Option<Message> {
        let end = *self.ends.get(self.taken)? as usize;
        self.taken += 1;
        let start = std::mem::replace(&mut self.start, end);
        Some(match &self.bytes {
            Bytes::Data(bytes) => Message::Data(bytes.get(start..end).unwrap_or_default().to_vec()),
            Bytes::Text(bytes) => Message::String(bytes.get(start..end).unwrap_or_default().to_owned()),
        })
    }

    /// How many messages are left.
    pub fn len(&self) -> usize {
        self.ends.len() - self.taken
    }

    /// Whether no message is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of the messages that are left.
    pub fn bytes(&self) -> usize {
        self.size() - self.start
    }

    /// Empties it, for its memory.
    pub fn clear(&mut self) {
        self.ends.clear();
        (self.taken, self.start) = (0, 0);
        match &mut self.bytes {
            Bytes::Data(bytes) => bytes.clear(),
            Bytes::Text(bytes) => bytes.clear(),
        }
    }

    /// A copy with no more memory than it needs, if this one has much more: memory that waits for a reader is counted by the
    /// bytes of the messages.
    pub fn fitted(&self) -> Option<Self> {
        let capacity = match &self.bytes {
            Bytes::Data(bytes) => bytes.capacity(),
            Bytes::Text(bytes) => bytes.capacity(),
        };
        if capacity / 2 <= self.size() {
            return None;
        }
        let bytes = match &self.bytes {
            Bytes::Data(bytes) => Bytes::Data(bytes.clone()),
            Bytes::Text(bytes) => Bytes::Text(bytes.clone()),
        };
        Some(Self { bytes, ends: self.ends.clone(), taken: self.taken, start: self.start })
    }

    fn size(&self) -> usize {
        match &self.bytes {
            Bytes::Data(bytes) => bytes.len(),
            Bytes::Text(bytes) => bytes.len(),
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
