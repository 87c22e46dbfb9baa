//! Completion handlers, kept without a memory block of their own where they are small.
//!
//! A handler that captures a task and little else, as nearly all do, would cost more in the allocator than everything that
//! is done with its message. So what it captures is kept in place, up to three words; a larger one is boxed.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};

use super::error::UrlError;

/// What a small handler may capture.
type Room = [MaybeUninit<*mut ()>; 3];

/// A completion handler as a caller gave it: called once at most, dropped otherwise. Nothing below the session calls it.
pub struct Completion<T: 'static> {
    room: Room,
    functions: &'static Functions<T>,
    /// A handler need not be `Sync`.
    not_sync: PhantomData<Cell<()>>,
}

/// What can be done with the handler in a room. Each function takes it out, so that exactly one of them may be called,
/// once.
struct Functions<T: 'static> {
    call: unsafe fn(*mut Room, Result<T, UrlError>),
    drop: unsafe fn(*mut Room),
}

// SAFETY: the room holds an `F: Send` or a `Box<F>` of one (`new` asks for it), and nothing else refers to that.
unsafe impl<T> Send for Completion<T> {}

impl<T> Completion<T> {
    /// Keeps `handler`.
    pub fn new<F: FnOnce(Result<T, UrlError>) + Send + 'static>(handler: F) -> Self {
        if const { fits::<F>() } {
            Self::keep(handler, const { &Functions { call: call_in_place::<T, F>, drop: drop_in_place::<F> } })
        } else {
            let functions = const { &Functions { call: call_boxed::<T, F>, drop: drop_in_place::<Box<F>> } };
            Self::keep(Box::new(handler), functions)
        }
    }

    /// Calls it.
    pub fn call(self, result: Result<T, UrlError>) {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: the room holds what `functions` are for, since `keep`; `ManuallyDrop` keeps `drop` from taking it again.
        unsafe { (this.functions.call)(&raw mut this.room, result) }
    }

    /// `functions` are those for an `H` in the room, which is no larger.
    fn keep<H: Send + 'static>(kept: H, functions: &'static Functions<T>) -> Self {
        assert!(fits::<H>(), "`new` chooses by this");
        let mut room: Room = [MaybeUninit::uninit(); 3];
        // SAFETY: `H` fits into the room, which is aligned for it; the assertion above holds that.
        unsafe { (&raw mut room).cast::<H>().write(kept) };
        Self { room, functions, not_sync: PhantomData }
    }
}

impl<T> Drop for Completion<T> {
    fn drop(&mut self) {
        // SAFETY: the room holds what `functions` are for, since `keep`; `call` did not take it, or this would not run.
        unsafe { (self.functions.drop)(&raw mut self.room) }
    }
}

impl<T> fmt::Debug for Completion<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Completion").finish_non_exhaustive()
    }
}

const fn fits<H>() -> bool {
    size_of::<H>() <= size_of::<Room>() && align_of::<H>() <= align_of::<Room>()
}

/// # Safety
///
/// The room holds an `F`, which is gone from it afterwards.
unsafe fn call_in_place<T, F: FnOnce(Result<T, UrlError>)>(room: *mut Room, result: Result<T, UrlError>) {
    // SAFETY: the caller's promise.
    let handler = unsafe { room.cast::<F>().read() };
    handler(result);
}

/// # Safety
///
/// The room holds a `Box<F>`, which is gone from it afterwards.
unsafe fn call_boxed<T, F: FnOnce(Result<T, UrlError>)>(room: *mut Room, result: Result<T, UrlError>) {
    // SAFETY: the caller's promise.
    let handler = unsafe { room.cast::<Box<F>>().read() };
    handler(result);
}

/// # Safety
///
/// The room holds an `H`, which is gone from it afterwards.
unsafe fn drop_in_place<H>(room: *mut Room) {
    // SAFETY: the caller's promise.
    drop(unsafe { room.cast::<H>().read() });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Sender, channel};

    use super::*;
    use crate::foundation::{ErrorCode, ErrorStage};

    /// A handler that captures `N` words besides `guard`, and tells what it was called with.
    fn handler<const N: usize>(guard: &Arc<()>, tell: Option<Sender<(usize, bool)>>) -> Completion<u32> {
        let guard = Arc::clone(guard);
        // A closure that captures a sender is large enough; the others leak theirs into a box of one word.
        let words = [7usize; N];
        let tell = tell.map(Box::new);
        Completion::new(move |result: Result<u32, UrlError>| {
            assert_eq!(Arc::strong_count(&guard), 2);
            if let Some(tell) = tell {
                tell.send((words.iter().sum(), result.is_ok_and(|number| number == 5))).unwrap();
            }
        })
    }

    fn call_and_drop<const N: usize>() {
        let (guard, (tell, told)) = (Arc::new(()), channel());
        drop(handler::<N>(&guard, Some(tell.clone())));
        assert_eq!((Arc::strong_count(&guard), told.try_recv().is_err()), (1, true), "{N}");
        let mut kept = vec![handler::<N>(&guard, Some(tell))];
        kept.reserve(100);
        kept.pop().unwrap().call(Ok(5));
        assert_eq!((Arc::strong_count(&guard), told.recv()), (1, Ok((7 * N, true))), "{N}");
        let failed = UrlError::new(ErrorCode::Cancelled, ErrorStage::Cancel, "why");
        handler::<N>(&guard, None).call(Err(failed));
        assert_eq!(Arc::strong_count(&guard), 1, "{N}");
    }

    #[test]
    fn handlers_of_every_size_are_called_once_or_dropped_once() {
        call_and_drop::<0>();
        call_and_drop::<1>();
        call_and_drop::<2>();
        call_and_drop::<20>();
        Completion::<()>::new(|_| ()).call(Ok(()));
    }

    #[test]
    fn what_is_aligned_more_than_a_word_is_boxed() {
        #[repr(align(64))]
        struct Aligned(u8);
        let (aligned, (tell, told)) = (Aligned(3), channel());
        let completion = Completion::<()>::new(move |_| {
            let aligned = &aligned;
            tell.send(((&raw const *aligned).addr() % 64, aligned.0)).unwrap();
        });
        let moved = Box::new(completion);
        moved.call(Ok(()));
        assert_eq!(told.recv(), Ok((0, 3)));
    }

    #[test]
    fn a_handler_that_panics_is_gone_all_the_same() {
        let guard = Arc::new(());
        let inner = Arc::clone(&guard);
        let completion = Completion::<()>::new(move |_| {
            let _inner = inner;
            panic!("on purpose");
        });
        let call = std::panic::AssertUnwindSafe(|| completion.call(Ok(())));
        assert!(std::panic::catch_unwind(call).is_err());
        assert_eq!(Arc::strong_count(&guard), 1);
    }
}
