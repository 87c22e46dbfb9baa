//! What a WebSocket carries.

/// `URLSessionWebSocketTask.Message`: one whole message, all of its fragments joined.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message {
    /// `.data`: a binary message (RFC 6455 §5.6, opcode 2).
    Data(Vec<u8>),
    /// `.string`: a text message, UTF-8 (RFC 6455 §5.6, opcode 1).
    String(String),
}

impl Message {
    /// The number of payload bytes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::String(string) => string.len(),
        }
    }
}

impl From<Vec<u8>> for Message {
    fn from(data: Vec<u8>) -> Self {
        Self::Data(data)
    }
}

impl From<&Vec<u8>> for Message {
    fn from(data: &Vec<u8>) -> Self {
        Self::Data(data.clone())
    }
}

impl From<&[u8]> for Message {
    fn from(data: &[u8]) -> Self {
        Self::Data(data.to_vec())
    }
}

impl<const N: usize> From<&[u8; N]> for Message {
    fn from(data: &[u8; N]) -> Self {
        Self::Data(data.to_vec())
    }
}

impl From<String> for Message {
    fn from(string: String) -> Self {
        Self::String(string)
    }
}

impl From<&String> for Message {
    fn from(string: &String) -> Self {
        Self::String(string.clone())
    }
}

impl From<&str> for Message {
    fn from(string: &str) -> Self {
        Self::String(string.to_owned())
    }
}
