//! What a peer did that fails the connection: RFC 6455 §7.1.7.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use super::utf8::Malformed;
use crate::foundation::CloseCode;

/// The peer broke RFC 6455 or RFC 7692, or passed a limit. The connection ends with it.
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
    /// A message that cannot be decompressed (RFC 7692 §7.2.2): 1007.
    Compression,
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
    pub(super) fn compression(reason: &'static str) -> Self {
        Self { kind: ViolationKind::Compression, reason: Cow::Borrowed(reason) }
    }

    /// A message has at least `total` bytes, which is no less than `limit`.
    #[cold]
    pub(super) fn too_long(total: u64, limit: u64) -> Self {
        let reason = format!("a message has at least {total} bytes, and must have less than {limit}");
        Self { kind: ViolationKind::TooLong, reason: Cow::Owned(reason) }
    }

    /// A compressed message has at least `total` bytes, which is no less than it may have on its way to `limit`.
    #[cold]
    pub(super) fn too_long_compressed(total: u64, limit: u64) -> Self {
        let reason = format!(
            "a compressed message has at least {total} bytes, far more than the {limit} that it must stay below"
        );
        Self { kind: ViolationKind::TooLong, reason: Cow::Owned(reason) }
    }

    /// A message has more than `count` frames of less than `size` bytes.
    #[cold]
    pub(super) fn too_many_frames(count: u32, size: u64) -> Self {
        let reason = format!("a message has more than {count} frames of less than {size} bytes");
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
            ViolationKind::Text | ViolationKind::Compression => CloseCode::INVALID_FRAME_PAYLOAD_DATA,
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

impl From<Malformed> for Violation {
    /// Of a text message; what a Close says has a text of its own.
    #[cold]
    fn from(_: Malformed) -> Self {
        Self::text("a text message is not UTF-8")
    }
}
