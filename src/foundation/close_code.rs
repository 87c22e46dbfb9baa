//! Why a WebSocket was closed, as a number: RFC 6455 §7.4.

use std::fmt;

/// `URLSessionWebSocketTask.CloseCode`: the status code of a Close frame.
///
/// An open set, as Apple's imported enumeration is: every number is kept as it came, so that the codes of applications
/// (3000 to 4999) make the round trip. Codes that RFC 6455 §7.4.1 forbids on the wire ([`NO_STATUS_RECEIVED`],
/// [`ABNORMAL_CLOSURE`], [`TLS_HANDSHAKE_FAILURE`], everything below 1000) are sent as a Close frame without a code.
///
/// [`NO_STATUS_RECEIVED`]: CloseCode::NO_STATUS_RECEIVED
/// [`ABNORMAL_CLOSURE`]: CloseCode::ABNORMAL_CLOSURE
/// [`TLS_HANDSHAKE_FAILURE`]: CloseCode::TLS_HANDSHAKE_FAILURE
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// `.invalid` (0): the connection is still open, or it ended without a Close frame.
    pub const INVALID: Self = Self(0);
    /// `.normalClosure` (1000): the purpose of the connection is fulfilled.
    pub const NORMAL_CLOSURE: Self = Self(1000);
    /// `.goingAway` (1001): the server goes down, or the page was left.
    pub const GOING_AWAY: Self = Self(1001);
    /// `.protocolError` (1002): the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// `.unsupportedData` (1003): a kind of message that the endpoint does not take.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// `.noStatusReceived` (1005): the Close frame held no code. Never on the wire.
    pub const NO_STATUS_RECEIVED: Self = Self(1005);
    /// `.abnormalClosure` (1006): there was no Close frame. Never on the wire.
    pub const ABNORMAL_CLOSURE: Self = Self(1006);
    /// `.invalidFramePayloadData` (1007): a text that is not UTF-8.
    pub const INVALID_FRAME_PAYLOAD_DATA: Self = Self(1007);
    /// `.policyViolation` (1008): a message that breaks the endpoint's policy.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// `.messageTooBig` (1009): a message that is too big to be taken.
    pub const MESSAGE_TOO_BIG: Self = Self(1009);
    /// `.mandatoryExtensionMissing` (1010): the server did not negotiate an extension that the client needs.
    pub const MANDATORY_EXTENSION_MISSING: Self = Self(1010);
    /// `.internalServerError` (1011): the server met a condition it did not expect.
    pub const INTERNAL_SERVER_ERROR: Self = Self(1011);
    /// `.tlsHandshakeFailure` (1015): the TLS handshake failed. Never on the wire.
    pub const TLS_HANDSHAKE_FAILURE: Self = Self(1015);

    /// `CloseCode(rawValue:)`: any number is a close code.
    pub const fn new(raw_value: u16) -> Self {
        Self(raw_value)
    }

    /// `rawValue`.
    pub const fn raw_value(self) -> u16 {
        self.0
    }

    /// Whether a Close frame that a peer sends may hold this code: RFC 6455 §7.4.1, §7.4.2 and the IANA registry
    /// (1012 to 1014 were registered later). 3000 to 3999 are for libraries, 4000 to 4999 for applications.
    pub(crate) const fn may_be_received(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }

    /// Whether `cancel_with` puts this code on the wire: all but those that RFC 6455 §7.4.1 forbids there.
    pub(crate) const fn may_be_sent(self) -> bool {
        self.0 >= 1000 && !matches!(self.0, 1005 | 1006 | 1015)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_rfc_6455_7_4() {
        let table = [
            (0, false, false),
            (999, false, false),
            (1000, true, true),
            (1003, true, true),
            (1004, false, true),
            (1005, false, false),
            (1006, false, false),
            (1007, true, true),
            (1011, true, true),
            (1012, true, true),
            (1014, true, true),
            (1015, false, false),
            (1016, false, true),
            (1100, false, true),
            (2000, false, true),
            (2999, false, true),
            (3000, true, true),
            (3999, true, true),
            (4999, true, true),
            (5000, false, true),
            (u16::MAX, false, true),
        ];
        for (raw_value, received, sent) in table {
            let code = CloseCode::new(raw_value);
            assert_eq!(code.may_be_received(), received, "received {raw_value}");
            assert_eq!(code.may_be_sent(), sent, "sent {raw_value}");
            assert_eq!(code.raw_value(), raw_value);
        }
    }

    #[test]
    fn constants_stand_in_a_match() {
        let name = match CloseCode::new(1001) {
            CloseCode::NORMAL_CLOSURE => "normal",
            CloseCode::GOING_AWAY => "away",
            _ => "other",
        };
        assert_eq!(name, "away");
    }
}
