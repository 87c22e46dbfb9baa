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
    /// Whether compression is offered (RFC 7692), true by default. It has no effect yet: nothing is offered.
    pub permessage_deflate: bool,
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
            ping_interval: None,
            pong_timeout: Duration::from_secs(20),
            close_timeout: Duration::from_secs(10),
            maximum_send_queue: None,
        }
    }
}
