//! `URLSessionWebSocketTask`.

use std::fmt;
use std::ops::Deref;

use super::desk::Facts;
use super::session_task::SessionTask;
use super::task_future::TaskFuture;
use crate::foundation::{CloseCode, Completion, Message, UrlError};

/// `URLSessionWebSocketTask`: a WebSocket. Made by [`UrlSession::web_socket_task`](crate::UrlSession::web_socket_task),
/// suspended; [`resume`](SessionTask::resume) starts it.
///
/// It is a [`SessionTask`] and has its methods. A handle: clones stand for the same task, and compare and hash as it, with
/// [`SessionTask`]s too. Every method may be called from any thread and from inside any callback.
///
/// Sends, receives and pings may be asked for before the task is resumed; they run in order once the socket is open.
/// Every completion handler is called exactly once, on the delegate queue, in the order of the calls of its kind and
/// before `did_complete_with_error`. After the end, each fails at once, on the queue.
#[derive(Clone)]
pub struct WebSocketTask {
    task: SessionTask,
}

impl WebSocketTask {
    pub(super) fn new(task: SessionTask) -> Self {
        Self { task }
    }

    /// `send(_:completionHandler:)`: sends a message behind those before it. The handler is called when the message was
    /// handed to the kernel, which does not mean that the server has it.
    ///
    /// Fails with [`ErrorCode::NoBufferSpace`](crate::ErrorCode::NoBufferSpace) where it would pass
    /// [`maximum_send_queue`](crate::WebSocketOptions::maximum_send_queue), which changes nothing else; otherwise with the
    /// error of the task's end.
    pub fn send(
        &self,
        message: impl Into<Message>,
        completion_handler: impl FnOnce(Result<(), UrlError>) + Send + 'static,
    ) {
        self.send_message(message.into(), Completion::new(completion_handler));
    }

    /// `receive(completionHandler:)`: takes one whole message, all its fragments joined, in order. Several receives may wait.
    ///
    /// Without a waiting receive the task reads ahead up to one `maximum_message_size` and then stops reading the socket.
    pub fn receive(&self, completion_handler: impl FnOnce(Result<Message, UrlError>) + Send + 'static) {
        self.task.shared.receive(Completion::new(completion_handler));
    }

    /// `sendPing(pongReceiveHandler:)`: sends a ping; the handler is called when its pong came, in the order of the pings.
    pub fn send_ping(&self, pong_receive_handler: impl FnOnce(Result<(), UrlError>) + Send + 'static) {
        self.ping(Completion::new(pong_receive_handler));
    }

    /// `cancel(with:reason:)`: sends what `send` took before, then a Close frame with `close_code` and `reason`, and waits for
    /// the server's Close until [`close_timeout`](crate::WebSocketOptions::close_timeout).
    ///
    /// Everything that waits then, and every later call, fails with [`ErrorCode::Cancelled`](crate::ErrorCode::Cancelled);
    /// the task ends without an error, and `did_close_with` tells the code and the reason given here. With
    /// [`CloseCode::INVALID`] it is [`cancel`](SessionTask::cancel). A code that RFC 6455 §7.4.1 forbids on the wire goes
    /// out as a Close frame without one; a reason of more than 123 bytes is cut on the wire, at a character. Messages that
    /// no receive has taken are dropped. Only the first cancel counts.
    pub fn cancel_with(&self, close_code: CloseCode, reason: Option<&[u8]>) {
        self.task.shared.cancel(|connection, client| connection.cancel_with(client, close_code, reason));
    }

    /// `closeCode`: [`CloseCode::INVALID`] while the socket is open, and after an end without a Close. It changes when the end is
    /// told, not before: where messages that came before the Close are unread, the first handler that fails sees it.
    pub fn close_code(&self) -> CloseCode {
        self.task.shared.desk.lock().facts().and_then(Facts::close_code).unwrap_or(CloseCode::INVALID)
    }

    /// `closeReason`: the reason of the Close; empty where the frame had a code and no reason.
    pub fn close_reason(&self) -> Option<Vec<u8>> {
        self.task.shared.desk.lock().facts().and_then(Facts::close_reason)
    }

    /// Beyond Apple: the code of the server's Close frame, known once the task has ended; [`CloseCode::NO_STATUS_RECEIVED`] where
    /// the frame was empty, `None` where none came.
    ///
    /// After [`cancel_with`](Self::cancel_with), [`close_code`](Self::close_code) is the code that was given to that, and this is what
    /// the server said to it within [`close_timeout`](crate::WebSocketOptions::close_timeout). [`cancel`](SessionTask::cancel)
    /// waits for no answer, and so has none.
    pub fn server_close_code(&self) -> Option<CloseCode> {
        self.task.shared.desk.lock().facts().and_then(Facts::server_close_code)
    }

    /// Beyond Apple: the reason of the server's Close frame, as [`server_close_code`](Self::server_close_code).
    pub fn server_close_reason(&self) -> Option<Vec<u8>> {
        self.task.shared.desk.lock().facts().and_then(Facts::server_close_reason)
    }

    /// `maximumMessageSize` in bytes, 1 MiB by default. A message that reaches it ends the task with
    /// [`ErrorCode::MessageTooLong`](crate::ErrorCode::MessageTooLong).
    pub fn maximum_message_size(&self) -> usize {
        self.task.shared.connection.inspect(|loader| loader.maximum_message_size())
    }

    /// `maximumMessageSize`: may be changed at any time, and counts for the message that is on its way, too. 0: no limit.
    pub fn set_maximum_message_size(&self, bytes: usize) {
        self.task.shared.set_maximum_message_size(bytes);
    }

    /// `send(_:) async throws`. The message is sent now, not when the future is first polled; no runtime is needed.
    pub fn send_async(&self, message: impl Into<Message>) -> TaskFuture<()> {
        TaskFuture::new(|handler| self.send_message(message.into(), handler))
    }

    /// `receive() async throws`. The receive waits from now on. Dropping the future loses no message: the next receive
    /// gets it. The end of the task waits behind a message that the future has got, until the future is polled or dropped, or until
    /// none was taken for [`close_timeout`](crate::WebSocketOptions::close_timeout): keep no future that you do not poll.
    pub fn receive_async(&self) -> TaskFuture<Message> {
        TaskFuture::receive(&self.task.shared)
    }

    /// Beyond Apple: what arrives, as a stream, until the task ends. Of the feature `futures-core`.
    ///
    /// Swift programs wrap `receive()` into an `AsyncThrowingStream` for this. Streams and receives of one task stand in one
    /// line: each message goes to one of them.
    ///
    /// ```no_run
    /// use smol::stream::StreamExt;
    /// use urlsession::{Url, UrlError, UrlSession};
    ///
    /// # fn main() -> Result<(), UrlError> {
    /// let task = UrlSession::shared().web_socket_task(Url::parse("wss://example.com/feed").unwrap());
    /// task.resume();
    /// smol::block_on(async {
    ///     let mut messages = task.messages();
    ///     while let Some(message) = messages.try_next().await? {
    ///         println!("{message:?}");
    ///     }
    ///     println!("closed with {}", task.close_code());
    ///     Ok(())
    /// })
    /// # }
    /// ```
    #[cfg(feature = "futures-core")]
    pub fn messages(&self) -> super::Messages {
        super::Messages::new(self.clone())
    }

    /// `sendPing() async throws`. The ping is sent now, not when the future is first polled.
    pub fn send_ping_async(&self) -> TaskFuture<()> {
        TaskFuture::new(|handler| self.ping(handler))
    }

    /// Beyond Apple: payload bytes that were given to [`send`](Self::send) and not yet to the kernel.
    pub fn buffered_amount(&self) -> usize {
        self.task.shared.connection.inspect(|loader| loader.buffered_amount())
    }

    fn send_message(&self, message: Message, handler: Completion<()>) {
        let shared = &self.task.shared;
        shared.connection.send(&**shared, message, handler);
    }

    fn ping(&self, handler: Completion<()>) {
        let shared = &self.task.shared;
        shared.connection.send_ping(&**shared, handler);
    }
}

impl Deref for WebSocketTask {
    type Target = SessionTask;

    fn deref(&self) -> &SessionTask {
        &self.task
    }
}

impl From<WebSocketTask> for SessionTask {
    fn from(task: WebSocketTask) -> Self {
        task.task
    }
}

impl From<&WebSocketTask> for SessionTask {
    fn from(task: &WebSocketTask) -> Self {
        task.task.clone()
    }
}

impl PartialEq for WebSocketTask {
    fn eq(&self, other: &Self) -> bool {
        self.task == other.task
    }
}

impl Eq for WebSocketTask {}

impl PartialEq<SessionTask> for WebSocketTask {
    fn eq(&self, other: &SessionTask) -> bool {
        self.task == *other
    }
}

impl PartialEq<WebSocketTask> for SessionTask {
    fn eq(&self, other: &WebSocketTask) -> bool {
        *self == other.task
    }
}

impl std::hash::Hash for WebSocketTask {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.task.hash(state);
    }
}

impl fmt::Debug for WebSocketTask {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("WebSocketTask")
            .field("task", &self.task)
            .field("close_code", &self.close_code())
            .finish()
    }
}
