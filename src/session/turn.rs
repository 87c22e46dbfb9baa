//! One turn of a task: its callbacks, one after the other, until there are no more or others must have their turn.
//!
//! Callbacks leave the mailbox in batches, one lock for many. A program that asks for the next message inside the handler
//! of the last one, as nearly every program does, needs no lock at all: its receive is kept with the thread that runs the
//! turn, and meets the next message that the mailbox lent. Whatever else happens to the task meanwhile
//! ([`TaskShared::disturbed`]) ends that, and the mailbox decides again.
//!
//! Nearly every program sends inside such a handler, too, and where the handler is the only one to run, the message leaves
//! at once. What is then to be told of it is next, and is kept with the turn likewise.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::atomic::Ordering;

use super::operation_queue::LaneRun;
use super::task::TaskShared;
use crate::foundation::{Bundle, Completion, Message};
use crate::loader::{Callback, Event, SentBatch};
use crate::reactor::guarded;

/// How many callbacks of a task run before others of the queue have their turn.
const BATCH: usize = 256;

/// What a thread knows of the turn that it runs, the innermost.
struct Here {
    task: Cell<*const TaskShared>,
    /// The receive that the task asked for and the mailbox does not know of.
    kept: Cell<Option<Completion<Message>>>,
    is_kept: Cell<bool>,
    /// One callback runs, and nothing waits in the mailbox unless the task was disturbed since.
    is_alone: Cell<bool>,
    /// A send that was handed to the kernel meanwhile, which the mailbox does not know of.
    sent: Cell<Option<Completion<()>>>,
}

thread_local! {
    /// Nothing is dropped with it, so that it is there as long as the thread: [`Place`] leaves nothing behind.
    static HERE: ManuallyDrop<Here> =
        const { ManuallyDrop::new(Here::nowhere()) };
    /// Room for the next turn on this thread.
    static ROOM: RefCell<VecDeque<Callback>> = const { RefCell::new(VecDeque::new()) };
}

impl Here {
    const fn nowhere() -> Self {
        Self {
            task: Cell::new(ptr::null()),
            kept: Cell::new(None),
            is_kept: Cell::new(false),
            is_alone: Cell::new(false),
            sent: Cell::new(None),
        }
    }

    #[inline]
    fn keep(&self, handler: Completion<Message>) {
        self.is_kept.set(true);
        self.kept.set(Some(handler));
    }

    /// The send that was kept. Whatever is told now, nothing more is kept.
    fn take_sent(&self) -> Option<Completion<()>> {
        self.is_alone.set(false);
        self.sent.take()
    }

    #[inline]
    fn take(&self) -> Option<Completion<Message>> {
        if self.is_kept.replace(false) { self.kept.take() } else { None }
    }
}

/// While it lives, this thread runs a turn of one task.
struct Place<'a> {
    task: &'a TaskShared,
    outer_task: *const TaskShared,
    outer_kept: Option<Completion<Message>>,
    outer_sent: Option<Completion<()>>,
    outer_is_alone: bool,
}

impl<'a> Place<'a> {
    fn new(task: &'a TaskShared) -> Self {
        HERE.with(|here| Self {
            task,
            outer_task: here.task.replace(task),
            outer_kept: here.take(),
            outer_sent: here.sent.take(),
            outer_is_alone: here.is_alone.replace(false),
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let left = HERE.with(|here| {
            here.task.set(self.outer_task);
            here.is_alone.set(self.outer_is_alone);
            drop(here.sent.replace(self.outer_sent.take()));
            let left = here.take();
            if let Some(kept) = self.outer_kept.take() {
                here.keep(kept);
            }
            left
        });
        // The turn had looked for the last time: a subscriber of `tracing` asked behind that.
        if let Some(handler) = left {
            self.task.receive_for_good(handler);
        }
    }
}

/// What [`Turn::refill`] found.
enum Refill {
    Some,
    /// One callback, with nothing behind it.
    One,
    NoneButSends,
    /// Nothing, and the task counts as not scheduled.
    Over,
}

/// A turn under way.
struct Turn<'a> {
    task: &'a TaskShared,
    /// Callbacks that were taken out of the mailbox.
    batch: VecDeque<Callback>,
    /// Sends that were taken out of the mailbox, to be told of.
    sent: Option<SentBatch>,
    /// Messages that the mailbox lent.
    hand: Option<Bundle>,
    /// How many they were, and their bytes.
    lent: (usize, usize),
}

impl TaskShared {
    /// Keeps a receive with the turn that runs on this thread, or gives it back: there is none of this task, or one is kept
    /// already, or others wait that were asked for earlier.
    #[inline]
    pub(super) fn keep(&self, handler: Completion<Message>) -> Option<Completion<Message>> {
        HERE.with(|here| {
            if !ptr::eq(here.task.get(), self) || here.is_kept.get() || self.receives_wait.load(Ordering::Acquire) {
                return Some(handler);
            }
            here.keep(handler);
            None
        })
    }

    /// The receive that is kept with the turn on this thread, if it is a turn of this task.
    pub(super) fn take_kept(&self) -> Option<Completion<Message>> {
        HERE.with(|here| if ptr::eq(here.task.get(), self) { here.take() } else { None })
    }

    /// Keeps a send that was handed to the kernel with the turn that runs on this thread, if that is all that happened and
    /// it is the next to be told. The connection is locked by this thread, so that no other tells of an earlier one now.
    #[inline]
    pub(super) fn keep_sent(&self, events: &mut Vec<Event>) -> bool {
        HERE.with(|here| {
            let may = ptr::eq(here.task.get(), self) && here.is_alone.get() && !self.disturbed.load(Ordering::Acquire);
            if !may || !matches!(events.as_slice(), [Event::Sent(_, Ok(()))]) {
                return false;
            }
            if let Some(Event::Sent(handler, _)) = events.pop() {
                here.is_alone.set(false);
                here.sent.set(Some(handler));
                self.in_hand.store(1, Ordering::Relaxed);
            }
            true
        })
    }

    /// Runs callbacks until there are no more, or others must have their turn.
    pub(super) fn run_callbacks(&self) -> LaneRun {
        let batch = ROOM.try_with(RefCell::take).unwrap_or_default();
        let mut turn = Turn { task: self, batch, sent: None, hand: None, lent: (0, 0) };
        let run = {
            let _place = Place::new(self);
            turn.run()
        };
        let batch = turn.batch;
        let _ = ROOM.try_with(|kept| kept.replace(batch));
        run
    }
}

impl Turn<'_> {
    fn run(&mut self) -> LaneRun {
        let task = self.task;
        let mut ran = 0;
        let mut cork = task.session.reactor.cork();
        while ran < BATCH {
            // A callback that suspends its queue is the last for now.
            if ran > 0 && task.session.queue.is_suspended() {
                break;
            }
            if let Some(handler) = self.next_sent() {
                guarded(|| handler.call(Ok(())));
                ran += 1;
                continue;
            }
            let told = self.tell_hand(BATCH - ran);
            if told > 0 {
                ran += told;
                continue;
            }
            // Of a task that was cancelled, the mailbox decides again what is to be told.
            if !task.discarded.load(Ordering::Acquire)
                && let Some(callback) = self.batch.pop_front()
            {
                task.in_hand.store(self.batch.len(), Ordering::Relaxed);
                task.call(callback);
                cork.set_alone(false);
                ran += 1;
                continue;
            }
            if let Some(handler) = HERE.with(|here| here.take_sent()) {
                task.in_hand.store(0, Ordering::Relaxed);
                cork.set_alone(true);
                guarded(|| handler.call(Ok(())));
                cork.set_alone(false);
                ran += 1;
                continue;
            }
            match self.refill(BATCH - ran, cork.has_gathered()) {
                Refill::Some => {}
                Refill::One => {
                    cork.set_alone(true);
                    HERE.with(|here| here.is_alone.set(true));
                }
                // What these callbacks sent is written now, and perhaps there is something to tell of that.
                Refill::NoneButSends => {
                    drop(cork);
                    cork = task.session.reactor.cork();
                }
                Refill::Over => return LaneRun { ran, again: false },
            }
        }
        drop(cork);
        LaneRun { ran, again: self.end() }
    }

    fn next_sent(&mut self) -> Option<Completion<()>> {
        let sent = self.sent.as_mut()?;
        let handler = sent.pop()?;
        self.task.in_hand.store(sent.len(), Ordering::Relaxed);
        Some(handler)
    }

    /// Tells messages that were lent, up to `most`, as long as each handler asks for the next and nothing else happens; how
    /// many were told.
    fn tell_hand(&mut self, most: usize) -> usize {
        let Some(hand) = self.hand.as_mut().filter(|_| self.batch.is_empty()) else { return 0 };
        let (task, queue) = (self.task, &self.task.session.queue);
        let mut told = 0;
        HERE.with(|here| {
            let mut tell = || {
                while told < most
                    && !task.disturbed.load(Ordering::Acquire)
                    && (told == 0 || !queue.is_suspended())
                    && here.is_kept.get()
                    && let Some(message) = hand.pop()
                    && let Some(handler) = here.take()
                {
                    told += 1;
                    handler.call(Ok(message));
                }
            };
            // Behind a handler that panics it goes on.
            while !guarded(&mut tell) {}
        });
        told
    }

    /// Takes callbacks, or messages that wait for the next receive, from the mailbox. Where there are none, and nothing was
    /// `sent` that may bring some, the turn is over.
    fn refill(&mut self, most: usize, sent: bool) -> Refill {
        let task = self.task;
        let mut spare = None;
        let (read_on, refill) = {
            let mut desk = task.desk.lock();
            let asked = self.settle(&mut desk);
            self.sent = desk.mailbox.take_sent();
            if self.sent.is_none() {
                desk.mailbox.next_batch(&mut self.batch, most);
            }
            let in_hand = self.sent.as_ref().map_or(self.batch.len(), SentBatch::len);
            task.in_hand.store(in_hand, Ordering::Relaxed);
            // One that asked in its last callback will ask in its next.
            if asked && self.batch.len() == 1 {
                self.hand = desk.mailbox.lend();
                self.lent = self.hand.as_ref().map_or((0, 0), |hand| (hand.len(), hand.bytes()));
            }
            task.receives_wait.store(desk.mailbox.has_receive(), Ordering::Release);
            task.disturbed.store(false, Ordering::Relaxed);
            task.discarded.store(false, Ordering::Relaxed);
            let refill = match in_hand {
                0 if sent => Refill::NoneButSends,
                0 => {
                    spare = desk.mailbox.take_spare();
                    desk.set_scheduled(false);
                    Refill::Over
                }
                1 if self.hand.is_none() && self.sent.is_none() && !desk.mailbox.has_more() => Refill::One,
                _ => Refill::Some,
            };
            (desk.mailbox.must_read_on(), refill)
        };
        drop(spare);
        task.read_on_if(read_on);
        refill
    }

    /// Gives the mailbox back what was taken out and not told, and the receive that it does not know of; whether there was
    /// one.
    fn settle(&mut self, desk: &mut super::desk::Desk) -> bool {
        if let Some(hand) = self.hand.take() {
            let (count, bytes) = self.lent;
            desk.mailbox.take_back(hand, count, bytes);
        }
        let kept = self.task.take_kept();
        let asked = kept.is_some();
        if let Some(handler) = kept {
            desk.mailbox.receive_first(handler);
        }
        if let Some(handler) = HERE.with(|here| here.take_sent()) {
            self.batch.push_front(Callback::Sent(handler, Ok(())));
        }
        // Those in the batch were asked for earlier still.
        desk.mailbox.put_back(&mut self.batch);
        if let Some(sent) = self.sent.take() {
            desk.mailbox.put_back_sent(sent);
        }
        asked
    }

    /// The turn is over; whether there is more to run.
    fn end(&mut self) -> bool {
        let task = self.task;
        let mut spare = None;
        let (read_on, again) = {
            let mut desk = task.desk.lock();
            self.settle(&mut desk);
            task.in_hand.store(0, Ordering::Relaxed);
            task.receives_wait.store(desk.mailbox.has_receive(), Ordering::Release);
            let again = desk.mailbox.has_next();
            if !again {
                spare = desk.mailbox.take_spare();
            }
            desk.set_scheduled(again);
            (desk.mailbox.must_read_on(), again)
        };
        drop(spare);
        task.read_on_if(read_on);
        again
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use url::Url;

    use super::*;
    use crate::foundation::ErrorCode;
    use crate::session::UrlSession;

    #[test]
    fn a_receive_that_the_turn_did_not_see_waits_in_the_mailbox() {
        let session = UrlSession::new(Default::default());
        let task = session.web_socket_task(Url::parse("ws://127.0.0.1:1/").unwrap());
        let (sender, results) = mpsc::channel();
        let place = Place::new(&task.shared);
        task.receive(move |result| sender.send(result).unwrap());
        drop(place);
        task.cancel();
        let result = results.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(result.unwrap_err().code(), ErrorCode::Cancelled);
    }
}
