//! What arrives, as a stream.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_core::stream::FusedStream;

use super::task_future::TaskFuture;
use super::web_socket_task::WebSocketTask;
use crate::foundation::{Message, UrlError};

/// Beyond Apple: the messages of a task, one after the other, as [`WebSocketTask::messages`] gives them.
///
/// It asks for one message at a time, when it is polled, and holds no more than one: what the task reads ahead, and where it
/// holds the server back, is as with [`receive`](WebSocketTask::receive). It may be dropped at any moment: a message that it
/// has asked for and not given out goes to the next receive. While it is kept and not polled, the end of the task waits behind
/// that message, as behind one of [`receive_async`](WebSocketTask::receive_async).
///
/// The stream ends where the task ends without an error: by a Close of either side with a code. A task that fails gives its
/// error once, and then the stream ends.
#[must_use = "a stream does nothing unless it is polled"]
pub struct Messages {
    task: WebSocketTask,
    /// The message that was asked for.
    next: Option<TaskFuture<Message>>,
    is_over: bool,
}

impl Messages {
    pub(super) fn new(task: WebSocketTask) -> Self {
        Self { task, next: None, is_over: false }
    }
}

impl Stream for Messages {
    type Item = Result<Message, UrlError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let mut next = self.next.take().unwrap_or_else(|| self.task.receive_async());
        match Pin::new(&mut next).poll(context) {
            Poll::Pending => {
                self.next = Some(next);
                Poll::Pending
            }
            Poll::Ready(Ok(message)) => Poll::Ready(Some(Ok(message))),
            Poll::Ready(Err(_)) => {
                self.is_over = true;
                // Behind an open socket's failure a receive fails as "not connected": the task knows why.
                Poll::Ready(self.task.error().map(Err))
            }
        }
    }
}

impl FusedStream for Messages {
    fn is_terminated(&self) -> bool {
        self.is_over
    }
}

impl fmt::Debug for Messages {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Messages")
            .field("task", &self.task)
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}
