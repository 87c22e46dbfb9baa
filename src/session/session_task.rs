//! The handle of a task, of whatever kind.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::delegate::WebSocketDelegate;
use super::task::TaskShared;
use super::web_socket_task::WebSocketTask;
use crate::foundation::{HttpUrlResponse, UrlError, UrlRequest};

/// `URLSessionTask`: one unit of work of a session. A handle: clones stand for the same task, and compare and hash as it.
///
/// Every method may be called from any thread and from inside any callback.
#[derive(Clone)]
pub struct SessionTask {
    pub(super) shared: Arc<TaskShared>,
}

/// `URLSessionTask.State`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TaskState {
    /// `.running`: it connects, or is open.
    Running = 0,
    /// `.suspended`: it was never resumed, or was suspended since.
    Suspended = 1,
    /// `.canceling`: it was cancelled and has not ended yet.
    Canceling = 2,
    /// `.completed`: it has ended; the end is being told, or was.
    Completed = 3,
}

impl SessionTask {
    /// `URLSessionTask.lowPriority`.
    pub const LOW_PRIORITY: f32 = 0.25;
    /// `URLSessionTask.defaultPriority`.
    pub const DEFAULT_PRIORITY: f32 = 0.5;
    /// `URLSessionTask.highPriority`.
    pub const HIGH_PRIORITY: f32 = 0.75;

    /// `resume()`: starts a new task; takes back one [`suspend`](Self::suspend) of a started one. On a running, cancelled
    /// or completed task it does nothing. What cannot be started (a bad address, say) fails through the handlers and
    /// `did_complete_with_error`, on the delegate queue.
    pub fn resume(&self) {
        self.shared.resume();
    }

    /// `suspend()`: the open task reads and writes nothing and its clocks stand still, but for that of
    /// `timeout_interval_for_resource`; nothing is lost. A read or a write that another thread is in the middle of is finished,
    /// and told. Calls count: as many `resume()` take them back.
    pub fn suspend(&self) {
        self.shared.suspend();
    }

    /// `cancel()`: ends the task at once; everything that waits fails with
    /// [`ErrorCode::Cancelled`](crate::ErrorCode::Cancelled), and so does the task. An open socket sends a Close frame
    /// without a code, if it can at once. Only the first cancel counts.
    pub fn cancel(&self) {
        self.shared.cancel(|connection, client| connection.cancel(client));
    }

    /// `taskIdentifier`: unique within the session, from 1.
    pub fn task_identifier(&self) -> usize {
        self.shared.identifier
    }

    /// `state`.
    pub fn state(&self) -> TaskState {
        self.shared.desk.lock().state()
    }

    /// `originalRequest`: the request that the task was made from.
    pub fn original_request(&self) -> UrlRequest {
        UrlRequest::clone(&self.shared.connection.inspect(|loader| Arc::clone(loader.original_request())))
    }

    /// `currentRequest`: the request that the task is on its way with: the original one, or where the last redirect that was
    /// followed led.
    pub fn current_request(&self) -> UrlRequest {
        UrlRequest::clone(&self.shared.request())
    }

    /// `response`: the 101 once the handshake is complete, or the server's refusal. While a delegate is asked about a redirect or a
    /// challenge, it is the answer that this is about.
    pub fn response(&self) -> Option<HttpUrlResponse> {
        self.shared.connection.inspect(|loader| loader.response())
    }

    /// `error`: why the task failed; `None` until its end is told, and after a close.
    pub fn error(&self) -> Option<UrlError> {
        self.shared.desk.lock().facts()?.error.clone()
    }

    /// `delegate`: the task's own delegate. It is let go when the task has completed.
    pub fn delegate(&self) -> Option<Arc<dyn WebSocketDelegate>> {
        self.shared.desk.lock().delegate()
    }

    /// `delegate`: it is asked before the session's, which hears of what this one leaves at its default. Set it before
    /// `resume()`; later it does nothing.
    pub fn set_delegate(&self, delegate: Option<Arc<dyn WebSocketDelegate>>) {
        let before = {
            let mut desk = self.shared.desk.lock();
            if desk.life.started || desk.life.cancelled {
                return;
            }
            std::mem::replace(&mut desk.extras.get_or_insert_default().delegate, delegate)
        };
        drop(before);
    }

    /// `taskDescription`: a label for the application's use.
    pub fn task_description(&self) -> Option<String> {
        self.shared.desk.lock().extras.as_ref()?.description.clone()
    }

    /// `taskDescription`.
    pub fn set_task_description(&self, description: Option<&str>) {
        let description = description.map(str::to_owned);
        self.shared.desk.lock().extras.get_or_insert_default().description = description;
    }

    /// `priority`: 0.5 unless set. It is kept and has no effect.
    pub fn priority(&self) -> f32 {
        self.shared.desk.lock().extras.as_ref().map_or(Self::DEFAULT_PRIORITY, |extras| extras.priority)
    }

    /// `priority`: a hint from 0.0 to 1.0; values outside are brought inside.
    pub fn set_priority(&self, priority: f32) {
        let priority = if priority.is_nan() { Self::DEFAULT_PRIORITY } else { priority.clamp(0.0, 1.0) };
        self.shared.desk.lock().extras.get_or_insert_default().priority = priority;
    }

    /// `countOfBytesSent`: payload bytes of the messages that were handed to the kernel, before they were compressed.
    pub fn count_of_bytes_sent(&self) -> i64 {
        let (sent, _) = self.shared.connection.inspect(|loader| loader.byte_counts());
        i64::try_from(sent).unwrap_or(i64::MAX)
    }

    /// `countOfBytesReceived`: payload bytes of the messages that arrived whole, after they were decompressed.
    pub fn count_of_bytes_received(&self) -> i64 {
        let (_, received) = self.shared.connection.inspect(|loader| loader.byte_counts());
        i64::try_from(received).unwrap_or(i64::MAX)
    }

    /// Swift's `task as? URLSessionWebSocketTask`. Every task of this crate is one.
    pub fn as_web_socket_task(&self) -> Option<WebSocketTask> {
        Some(WebSocketTask::new(self.clone()))
    }
}

impl PartialEq for SessionTask {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for SessionTask {}

impl Hash for SessionTask {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.shared).hash(state);
    }
}

impl fmt::Debug for SessionTask {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SessionTask")
            .field("task_identifier", &self.task_identifier())
            .field("state", &self.state())
            .field("request", &self.shared.request())
            .finish_non_exhaustive()
    }
}
