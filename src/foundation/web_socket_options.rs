//! What a WebSocket of a session does that Apple's has no property for.

use std::time::Duration;

/// Beyond Apple: how the WebSockets of a session compress, keep alive, close and queue.
///
/// ```
/// use std::time::Duration;
/// use urlsession::SessionConfiguration;
///
/// let mut configuration = SessionConfiguration::default();
/// configuration.web_socket.ping_interval = Some(Duration::from_secs(30));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WebSocketOptions {
    /// Whether compression is offered to servers (permessage-deflate, RFC 7692), true by default. A server may decline it; what
    /// it chose is in the `Sec-WebSocket-Extensions` field of the task's [`response`](crate::SessionTask::response).
    ///
    /// A `Sec-WebSocket-Extensions` field that the caller sets is sent instead, and counts alone: without
    /// `permessage-deflate` in it there is no compression, with it there is what it offers.
    pub permessage_deflate: bool,
    /// Whether this side begins each compressed message anew (RFC 7692 §7.1.1.2), false by default: a message may refer to
    /// the ones before it, which makes similar ones much smaller. With true, an idle task keeps no compressor.
    pub client_no_context_takeover: bool,
    /// Whether the server is asked to begin each compressed message anew (RFC 7692 §7.1.1.1), false by default. With true, an
    /// idle task keeps no memory for decompression. A server that cannot do so declines to compress; some refuse the upgrade.
    pub server_no_context_takeover: bool,
    /// How far back a compressed message of this side may refer, as a power of two of bytes: 9 to 15, 15 by default (RFC 7692
    /// §7.1.2.2). Another value fails the task with [`ErrorCode::BadUrl`](crate::ErrorCode::BadUrl), if it is to be offered.
    /// Less makes a compressor smaller, and messages larger.
    ///
    /// The server may ask for less. One that asks for 8 gets its messages uncompressed: no zlib compresses with a window of
    /// 256 bytes.
    pub client_max_window_bits: u8,
    /// How far back the server is asked to refer at most, as a power of two of bytes: 9 to 15, 15 by default, which asks for
    /// nothing (RFC 7692 §7.1.2.1). A server that cannot do so declines to compress; some refuse the upgrade. Another value
    /// fails the task with [`ErrorCode::BadUrl`](crate::ErrorCode::BadUrl), if it is to be offered.
    pub server_max_window_bits: u8,
    /// Messages with fewer bytes than this go uncompressed, 1,024 by default; 0 and 1 compress every message that is not
    /// empty.
    pub compression_threshold: usize,
    /// How long after the last ping the task sends one by itself, `None` by default: never.
    pub ping_interval: Option<Duration>,
    /// How long a ping of [`ping_interval`](Self::ping_interval) waits for its pong, 20 seconds by default. Then the task
    /// ends with [`ErrorCode::TimedOut`](crate::ErrorCode::TimedOut). The clock stands still while reading is stopped.
    pub pong_timeout: Duration,
    /// How long a closing task waits for the server's Close frame, 10 seconds by default. Also how long the end of a task
    /// waits for unread messages to be received.
    pub close_timeout: Duration,
    /// How many bytes of messages may wait to be written, `None` by default: no limit. A send that would pass it fails with
    /// [`ErrorCode::NoBufferSpace`](crate::ErrorCode::NoBufferSpace) and changes nothing else.
    pub maximum_send_queue: Option<usize>,
}

impl Default for WebSocketOptions {
    fn default() -> Self {
        Self {
            permessage_deflate: true,
            client_no_context_takeover: false,
            server_no_context_takeover: false,
            client_max_window_bits: 15,
            server_max_window_bits: 15,
            compression_threshold: 1024,
            ping_interval: None,
            pong_timeout: Duration::from_secs(20),
            close_timeout: Duration::from_secs(10),
            maximum_send_queue: None,
        }
    }
}
