//! What the reactor knows of the session: somebody to tell what happened, and work to run.

use std::sync::Arc;

use super::Connection;
use crate::loader::{Event, Spare};

/// A task, as the reactor sees it.
pub trait Client: Send + Sync {
    /// The connection that belongs to the task.
    fn connection(&self) -> &Connection;

    /// Takes what happened, in order, and gives back memory. Called under the connection's lock, from any
    /// thread; calls no user code.
    fn deliver(&self, events: &mut Vec<Event>, spare: &mut Spare) -> Delivered;

    /// Which task it is: the number of its session in this process, and its own in the session.
    #[cfg(feature = "tracing")]
    fn numbers(&self) -> (u64, usize);

    /// Whether its callbacks run on the reactor thread.
    fn runs_on_reactor(&self) -> bool;

    /// The task itself, to be kept; `None` when it is going.
    fn to_arc(&self) -> Option<Arc<dyn Client>>;

    /// Puts the task's callbacks on their queue. Called after a [`deliver`](Self::deliver) that asked for it, without
    /// any lock held. `more`: other tasks of the session follow at once, and the queue is woken for all with the last.
    fn schedule(self: Arc<Self>, more: bool) -> Scheduled;
}

/// Where callbacks are to run.
pub enum Scheduled {
    /// They stand in their queue.
    Queued,
    /// They stand in a queue that has one thread, which asks for the [`Helm`](super::Helm) when they have run.
    ForOnlyThread {
        /// It was woken for them.
        slept: bool,
    },
    /// The reactor is to run them.
    ForReactor(Arc<dyn Work>),
}

/// What becomes of events.
#[derive(Clone, Copy, Debug)]
pub struct Delivered {
    /// More messages may come; otherwise the socket is not read until [`Connection::read_on`].
    pub keep_reading: bool,
    /// [`Client::schedule`] is to be called.
    pub schedule: bool,
}

/// Something that runs on the reactor thread between two events: the callbacks of an immediate queue.
pub trait Work: Send + Sync {
    /// Runs it, or a bounded part of it; what is left is posted again.
    fn run(self: Arc<Self>);
}
