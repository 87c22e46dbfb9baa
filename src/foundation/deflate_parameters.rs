//! What the two sides of a WebSocket agreed on about compression.

/// The parameters of permessage-deflate as they hold for a connection: RFC 7692 §7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflateParameters {
    /// The server begins each message with an empty window: §7.1.1.1.
    pub server_no_context_takeover: bool,
    /// The client begins each message with an empty window: §7.1.1.2.
    pub client_no_context_takeover: bool,
    /// The base-2 logarithm of the server's window, 8 to 15: §7.1.2.1.
    pub server_max_window_bits: u8,
    /// The base-2 logarithm of the largest window that the client may use, 8 to 15: §7.1.2.2.
    pub client_max_window_bits: u8,
}

impl Default for DeflateParameters {
    /// Those of an extension without parameters.
    fn default() -> Self {
        Self {
            server_no_context_takeover: false,
            client_no_context_takeover: false,
            server_max_window_bits: 15,
            client_max_window_bits: 15,
        }
    }
}
