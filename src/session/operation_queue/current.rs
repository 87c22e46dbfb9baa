//! What the calling thread is doing for which queue.

use std::{cell::RefCell, marker::PhantomData, sync::Arc};

use super::state::Shared;

/// What a thread does for a queue.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It runs an operation or a batch of callbacks.
    Operation,
    /// It is inside the call that hands one to the application's executor.
    HandOver,
}

thread_local! {
    /// The places in which the thread stands, the outermost first. A queue is known by its address, and lives at least
    /// as long as the entry.
    static PLACES: RefCell<Vec<(usize, Place)>> = const { RefCell::new(Vec::new()) };
}

/// Keeps the thread in a [`Place`]; stays on the stack of that thread.
pub(super) struct Stay {
    /// False on a thread whose local storage is being torn down: it can no longer know where it is.
    entered: bool,
    not_send: PhantomData<*const ()>,
}

impl Shared {
    /// The calling thread is in `place` of this queue until the result is dropped.
    pub(super) fn enter(self: &Arc<Self>, place: Place) -> Stay {
        let entered = PLACES.try_with(|places| places.borrow_mut().push((self.address(), place))).is_ok();
        Stay { entered, not_send: PhantomData }
    }

    /// Whether the calling thread is in `place` of this queue, perhaps not innermost.
    pub(super) fn is_in(self: &Arc<Self>, place: Place) -> bool {
        PLACES.try_with(|places| places.borrow().contains(&(self.address(), place))).unwrap_or(false)
    }

    /// Whether the calling thread runs an operation of this queue.
    pub(super) fn is_current(self: &Arc<Self>) -> bool {
        self.is_in(Place::Operation)
    }

    fn address(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).addr()
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        if self.entered {
            let _ = PLACES.try_with(|places| places.borrow_mut().pop());
        }
    }
}
