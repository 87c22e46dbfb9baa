//! What a peer did that fails the connection: RFC 6455 §7.1.7.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use crate::foundation::CloseCode;

/// The peer broke RFC 6455 or passed a limit. The connection ends with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    kind: ViolationKind,
    reason: Cow<'static, str>,
}

/// The kinds of violation, one for each close code that tells the peer of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ViolationKind {
    /// A frame that RFC 6455 §5 does not allow: 1002.
    Framing,
    /// A text, or the reason of a Close, that is not UTF-8 (§8.1): 1007.
    Text,
    /// A message that is too long, or in too many frames: 1009.
    TooLong,
}

impl Violation {
    #[cold]
    pub(super) fn framing(reason: &'static str) -> Self {
        Self { kind: ViolationKind::Framing, reason: Cow::Borrowed(reason) }
    }

    #[cold]
    pub(super) fn text(reason: &'static str) -> Self {
        Self { kind: ViolationKind::Text, reason: Cow::Borrowed(reason) }
    }

    #[cold]
    pub(super) fn too_long(reason: String) -> Self {
        Self { kind: ViolationKind::TooLong, reason: Cow::Owned(reason) }
    }

    /// What kind of rule was broken.
    pub fn kind(&self) -> ViolationKind {
        self.kind
    }

    /// The code of the Close frame that tells the peer: §7.4.1.
    pub fn close_code(&self) -> CloseCode {
        match self.kind {
            ViolationKind::Framing => CloseCode::PROTOCOL_ERROR,
            ViolationKind::Text => CloseCode::INVALID_FRAME_PAYLOAD_DATA,
            ViolationKind::TooLong => CloseCode::MESSAGE_TOO_BIG,
        }
    }

    /// The reason in words, for an error of its own.
    pub fn into_reason(self) -> Cow<'static, str> {
        self.reason
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.reason)
    }
}

impl Error for Violation {}
