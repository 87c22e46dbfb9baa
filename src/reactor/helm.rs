//! Who polls: the session's own thread, or the thread that runs the callbacks.
//!
//! To wake another thread for each message costs more than everything that is done with the message. So while little comes
//! at a time, again and again, and the delegate queue has one thread, the reactor's thread *offers* the event loop, and the
//! queue's thread takes it instead of going to sleep: it polls, and runs the callbacks of what came, without a step from
//! thread to thread.
//!
//! A callback may block, and holds back nothing but its queue even then. While callbacks run the loop lies here, and the
//! reactor's thread looks in every [`TICK`]. If the same callbacks run as at its last look, it writes what they sent; if they
//! do at the look after that, or nobody has polled for longer still, it takes the loop, and offers it less readily from then
//! on.
//!
//! The thread of the queue gives the loop back when nothing has come for [`QUIET`], when more comes than one thread should
//! deal with, and before it sleeps or ends. Then the reactor's thread polls, as it does on a quiet session and with every
//! other kind of queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mio::Waker;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::Shared;
use super::event_loop::{EventLoop, Turn, schedule};

/// How often the reactor's thread looks whether callbacks block.
const TICK: Duration = Duration::from_millis(2);

/// After how many looks at the same callbacks the reactor's thread takes the loop.
const STUCK: u32 = 2;

/// After how many looks it takes the loop whatever runs.
const IDLE: u32 = 4;

/// How long a queue's thread waits for something to happen before it gives the loop back.
pub(super) const QUIET: Duration = Duration::from_millis(2);

/// What a delegate queue with one thread knows of the reactor.
#[derive(Debug, Default)]
pub struct Helm {
    /// The reactor's thread has left the loop to the queue's.
    offered: AtomicBool,
    /// There is something to run on the queue.
    recalled: AtomicBool,
    /// How many jobs the queue's thread has begun.
    jobs: AtomicU32,
    place: Mutex<Place>,
    given_back: Condvar,
}

#[derive(Default)]
struct Place {
    /// The loop, while nobody polls.
    event_loop: Option<Box<EventLoop>>,
    /// The reactor's thread is to take it.
    is_given_back: bool,
    /// How often the queue's thread took it.
    turns: u64,
    /// Ends a wait of the loop.
    waker: Option<Arc<Waker>>,
}

impl Helm {
    /// For the only thread of a queue that has nothing to run: polls for it, if that was offered, until there is something
    /// or it is not worth while any more. Whether the queue is to be looked at again before the thread sleeps.
    ///
    /// To be called without a lock held. The callbacks of what came are put on the queue by this same thread.
    pub fn poll(&self) -> bool {
        if !self.is_offered() {
            return false;
        }
        let mut hand = {
            let mut place = self.place.lock();
            if place.is_given_back {
                return false;
            }
            let Some(event_loop) = place.event_loop.take() else { return false };
            place.turns = place.turns.wrapping_add(1);
            Hand { helm: self, event_loop: Some(event_loop), gives_back: true }
        };
        let Some(event_loop) = hand.event_loop.as_mut() else { return false };
        loop {
            match event_loop.turn(true) {
                Turn::Idle if self.recalled.swap(false, Ordering::AcqRel) => {
                    hand.gives_back = false;
                    return true;
                }
                Turn::Idle => {}
                Turn::Callbacks { more } => {
                    hand.gives_back = more;
                    return true;
                }
                Turn::Leave | Turn::Offer | Turn::Over => return false,
            }
        }
    }

    /// What recalled the thread up to now does not count. To be called under the lock of the queue: whoever has work for
    /// it from then on [recalls](Self::recall) it.
    pub fn stay(&self) {
        self.recalled.store(false, Ordering::Release);
    }

    /// The queue's thread begins another job.
    #[inline]
    pub fn note_job(&self) {
        if self.is_offered() {
            self.jobs.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether [`poll`](Self::poll) may have something to do.
    #[inline]
    pub fn is_offered(&self) -> bool {
        self.offered.load(Ordering::Acquire)
    }

    /// There is something to run for the thread that polls.
    pub fn recall(&self) {
        if self.recalled.swap(true, Ordering::AcqRel) {
            return;
        }
        let waker = self.place.lock().waker.clone();
        if let Some(waker) = waker {
            let _ = waker.wake();
        }
    }

    /// The queue's thread does not come back for a while.
    pub fn give_back(&self) {
        if self.is_offered() {
            self.place.lock().is_given_back = true;
            self.given_back.notify_one();
        }
    }

    /// Leaves the loop to the queue's thread.
    fn offer(&self, event_loop: Box<EventLoop>, waker: Option<Arc<Waker>>) {
        let mut place = self.place.lock();
        place.event_loop = Some(event_loop);
        place.is_given_back = false;
        place.waker = waker;
        self.offered.store(true, Ordering::Release);
    }

    /// Waits until the loop is given back, or the callbacks block: that is the second value.
    fn watch(&self, shared: &Shared) -> (Box<EventLoop>, bool) {
        let mut place = self.place.lock();
        let (mut turns, mut jobs) = (place.turns, self.jobs.load(Ordering::Relaxed));
        // How many looks found that nobody polled, and how many that the same callbacks ran.
        let (mut idle, mut stuck) = (0, 0);
        loop {
            let blocked = stuck >= STUCK || idle >= IDLE;
            if (place.is_given_back || blocked)
                && let Some(event_loop) = place.event_loop.take()
            {
                self.offered.store(false, Ordering::Release);
                place.waker = None;
                return (event_loop, blocked);
            }
            if !self.given_back.wait_for(&mut place, TICK).timed_out() {
                continue;
            }
            // At each look, so that the next one knows what ran at this.
            let begun = self.jobs.load(Ordering::Relaxed);
            let same_job = std::mem::replace(&mut jobs, begun) == begun;
            if place.turns != turns || place.event_loop.is_none() {
                (turns, idle, stuck) = (place.turns, 0, 0);
                continue;
            }
            idle += 1;
            if same_job {
                stuck += 1;
                MutexGuard::unlocked(&mut place, || shared.uncork_guarded(Instant::now()));
            } else {
                stuck = 0;
            }
        }
    }
}

/// The loop in the hand of the queue's thread.
struct Hand<'a> {
    helm: &'a Helm,
    event_loop: Option<Box<EventLoop>>,
    gives_back: bool,
}

impl Drop for Hand<'_> {
    fn drop(&mut self) {
        let mut place = self.helm.place.lock();
        place.event_loop = self.event_loop.take();
        if self.gives_back {
            place.is_given_back = true;
            self.helm.given_back.notify_one();
        }
    }
}

/// The life of the reactor's thread.
pub(super) fn run(mut event_loop: Box<EventLoop>, shared: &Arc<Shared>) {
    loop {
        match event_loop.turn(false) {
            Turn::Over => return,
            Turn::Offer => {
                let scheduled = event_loop.take_scheduled();
                let waker = shared.inbox.lock().waker.clone();
                shared.watching.store(true, Ordering::Release);
                shared.helm.offer(event_loop, waker);
                // From here on the queue's thread has it, which these wake.
                schedule(shared, scheduled.into_iter());
                let (taken, blocked) = shared.helm.watch(shared);
                event_loop = taken;
                event_loop.taken_back(blocked);
            }
            Turn::Idle | Turn::Callbacks { .. } | Turn::Leave => {}
        }
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Place").field("turns", &self.turns).finish_non_exhaustive()
    }
}
