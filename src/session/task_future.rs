//! Swift's `async` forms: completion handlers as futures.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::task::TaskShared;
use crate::foundation::{Completion, Message, UrlError};

/// What an `async throws` method gives to `await`: the result of [`send_async`](crate::WebSocketTask::send_async),
/// [`receive_async`](crate::WebSocketTask::receive_async) or
/// [`send_ping_async`](crate::WebSocketTask::send_ping_async).
///
/// What it stands for was asked for when it was made. It may be polled by any executor, and completes as a completion
/// handler would: on the delegate queue, which calls its waker. A queue that the application pumps has to be pumped.
#[must_use = "the result tells whether it worked; what was asked for happens all the same"]
pub struct TaskFuture<T> {
    slot: Arc<Mutex<Slot<T>>>,
    /// Of a receive: where a message goes that nobody took from here, and the number of the receive.
    receive: Option<(Weak<TaskShared>, u64)>,
    /// What to do with a result that nobody took.
    give_back: fn(&Weak<TaskShared>, u64, Option<T>),
}

enum Slot<T> {
    Waiting(Option<Waker>),
    Done(Result<T, UrlError>),
    /// The result was taken, or nobody waits for it.
    Gone,
}

impl<T: Send + 'static> TaskFuture<T> {
    /// `ask` is given the completion handler.
    pub(super) fn new(ask: impl FnOnce(Completion<T>)) -> Self {
        let slot = Arc::new(Mutex::new(Slot::Waiting(None)));
        let answered = Arc::clone(&slot);
        ask(Completion::new(move |result| {
            complete(&answered, result);
        }));
        Self { slot, receive: None, give_back: |_, _, _| {} }
    }
}

impl TaskFuture<Message> {
    pub(super) fn receive(task: &Arc<TaskShared>) -> Self {
        let slot = Arc::new(Mutex::new(Slot::Waiting(None)));
        let answered = Arc::clone(&slot);
        let owner = Arc::downgrade(task);
        let number = task.receive_with(move |number| {
            Completion::new(move |result| {
                if let (Some(Ok(message)), Some(task)) = (complete(&answered, result), owner.upgrade()) {
                    task.give_back(number, message);
                }
            })
        });
        Self { slot, receive: Some((Arc::downgrade(task), number)), give_back }
    }
}

/// Nobody waits for the receive `number`: the message it got goes to the next one, or it gets none.
fn give_back(task: &Weak<TaskShared>, number: u64, message: Option<Message>) {
    let Some(task) = task.upgrade() else { return };
    match message {
        Some(message) => task.give_back(number, message),
        None => task.withdraw_receive(number),
    }
}

/// Puts the result where the future finds it; hands it back where there is no future any more.
fn complete<T>(slot: &Mutex<Slot<T>>, result: Result<T, UrlError>) -> Option<Result<T, UrlError>> {
    let waker = {
        let mut slot = slot.lock();
        match &mut *slot {
            Slot::Waiting(waker) => {
                let waker = waker.take();
                *slot = Slot::Done(result);
                waker
            }
            Slot::Done(_) | Slot::Gone => return Some(result),
        }
    };
    if let Some(waker) = waker {
        waker.wake();
    }
    None
}

impl<T> Future for TaskFuture<T> {
    type Output = Result<T, UrlError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.slot.lock();
        match std::mem::replace(&mut *slot, Slot::Gone) {
            Slot::Done(result) => {
                drop(slot);
                if let (Some((task, _)), Ok(_)) = (&self.receive, &result)
                    && let Some(task) = task.upgrade()
                {
                    task.taken();
                }
                Poll::Ready(result)
            }
            Slot::Waiting(Some(waker)) if waker.will_wake(context.waker()) => {
                *slot = Slot::Waiting(Some(waker));
                Poll::Pending
            }
            Slot::Waiting(before) => {
                *slot = Slot::Waiting(Some(context.waker().clone()));
                // What lets a waker go is the executor's code, and may wait for this very result.
                drop(slot);
                drop(before);
                Poll::Pending
            }
            // Polled after it was ready: it has nothing more to say.
            Slot::Gone => Poll::Pending,
        }
    }
}

impl<T> Drop for TaskFuture<T> {
    fn drop(&mut self) {
        let slot = std::mem::replace(&mut *self.slot.lock(), Slot::Gone);
        let Some((task, number)) = &self.receive else { return };
        match slot {
            Slot::Waiting(_) => (self.give_back)(task, *number, None),
            Slot::Done(Ok(result)) => (self.give_back)(task, *number, Some(result)),
            Slot::Done(Err(_)) | Slot::Gone => {}
        }
    }
}

impl<T> fmt::Debug for TaskFuture<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &*self.slot.lock() {
            Slot::Waiting(_) => "waiting",
            Slot::Done(_) => "done",
            Slot::Gone => "taken",
        };
        formatter.debug_struct("TaskFuture").field("state", &state).finish_non_exhaustive()
    }
}
