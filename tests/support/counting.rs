//! An allocator that counts; a test binary that wants it makes it its own, and sees the bytes of the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use super::PATIENCE;

/// The system's allocator, with a count of the bytes that are in use.
pub struct Counting;

/// How many bytes are in use.
pub static IN_USE: AtomicUsize = AtomicUsize::new(0);

/// The most that was in use since it was last set.
pub static PEAK: AtomicUsize = AtomicUsize::new(0);

fn count(size: usize) {
    let in_use = IN_USE.fetch_add(size, Ordering::Relaxed) + size;
    PEAK.fetch_max(in_use, Ordering::Relaxed);
}

// SAFETY: all of it is the system's allocator; the count takes no part in it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// How far the count is above `before`, once that is no more than `bound`; what it was last, if that takes too long. For
/// what the threads of the session hold for a moment is counted, too.
pub fn settled(before: usize, bound: usize) -> usize {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let above = IN_USE.load(Ordering::Relaxed).saturating_sub(before);
        if above <= bound || Instant::now() > deadline {
            return above;
        }
        thread::yield_now();
    }
}
