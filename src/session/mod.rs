//! What a Swift programmer sees: sessions, tasks, delegates and operation queues, as handles over shared state.
//!
//! In come calls from any thread; they go to the task's connection in the reactor, or to its mailbox. What happened
//! comes back as events of the road, is written where the handles read it, and becomes a call of user code on the
//! delegate queue, in one place ([`task`]). Nothing else calls user code, but for what a session announces ([`announcer`]).

mod announcer;
mod delegate;
mod desk;
#[cfg(feature = "futures-core")]
mod messages;
mod operation_queue;
mod question;
mod session_task;
mod task;
mod task_future;
mod turn;
mod url_session;
mod web_socket_task;

pub(crate) use announcer::Announcer;
pub use delegate::{ChallengeHandler, RedirectionHandler, SessionDelegate, TaskDelegate, WebSocketDelegate};
pub(crate) use desk::Ended;
#[cfg(feature = "futures-core")]
pub use messages::Messages;
pub use operation_queue::OperationQueue;
pub use session_task::{SessionTask, TaskState};
pub use task_future::TaskFuture;
pub(crate) use url_session::Dependent;
pub use url_session::UrlSession;
pub use web_socket_task::WebSocketTask;
