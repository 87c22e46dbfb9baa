//! Where a panic of somebody else's code ends.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls user code, or drops what is the user's. A panic ends there, and makes the result false; the thread's panic hook has
/// reported it.
pub fn guarded(call: impl FnOnce()) -> bool {
    let Err(payload) = catch_unwind(AssertUnwindSafe(call)) else { return true };
    // What was thrown may throw again when it is dropped.
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(second);
    }
    false
}
