//! One turn of a task: its callbacks, one after the other, until there are no more or others must have their turn.
//!
//! Callbacks leave the mailbox in batches, one lock for many. A program that asks for the next message inside the handler
//! of the last one, as nearly every program does, needs no lock at all: its receive is kept with the thread that runs the
//! turn, and meets the next message that the mailbox lent. Whatever else happens to the task meanwhile
//! ([`disturb`](super::task::Desk::disturb)) ends that, and the mailbox decides again.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ptr;
use std::sync::atomic::Ordering;

use super::operation_queue::LaneRun;
use super::task::{TaskShared, guarded};
use crate::foundation::{Bundle, Completion, Message};
use crate::loader::{Callback, SentBatch, Spare};

/// How many callbacks of a task run before others of the queue have their turn.
const BATCH: usize = 256;

thread_local! {
    /// The task whose turn runs on this thread, innermost.
    static TASK: Cell<*const TaskShared> = const { Cell::new(ptr::null()) };
    /// The receive that it asked for and the mailbox does not know of.
    static KEPT: Cell<Option<Completion<Message>>> = const { Cell::new(None) };
    /// Room for the next turn on this thread.
    static ROOM: RefCell<VecDeque<Callback>> = const { RefCell::new(VecDeque::new()) };
}

/// While it lives, this thread runs a turn of one task.
struct Place {
    outer_task: *const TaskShared,
    outer_kept: Option<Completion<Message>>,
}

impl Place {
    fn new(task: &TaskShared) -> Self {
        Self {
            outer_task: TASK.try_with(|place| place.replace(task)).unwrap_or(ptr::null()),
            outer_kept: KEPT.try_with(Cell::take).unwrap_or(None),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = TASK.try_with(|place| place.set(self.outer_task));
        let _ = KEPT.try_with(|kept| kept.set(self.outer_kept.take()));
    }
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
    /// How many of them were told, and their bytes.
    told: usize,
    told_bytes: usize,
}

impl TaskShared {
    /// Keeps a receive with the turn that runs on this thread, or gives it back: there is none of this task, or one is kept
    /// already, or others wait that were asked for earlier.
    pub(super) fn keep(&self, handler: Completion<Message>) -> Result<(), Completion<Message>> {
        if !self.runs_here() || self.receives_wait.load(Ordering::Acquire) {
            return Err(handler);
        }
        let earlier = self.take_kept();
        if earlier.is_none() {
            let _ = KEPT.try_with(|kept| kept.set(Some(handler)));
            return Ok(());
        }
        let _ = KEPT.try_with(|kept| kept.set(earlier));
        Err(handler)
    }

    /// The receive that is kept with the turn on this thread, if it is a turn of this task.
    pub(super) fn take_kept(&self) -> Option<Completion<Message>> {
        if self.runs_here() { KEPT.try_with(Cell::take).unwrap_or(None) } else { None }
    }

    fn runs_here(&self) -> bool {
        TASK.try_with(|task| ptr::eq(task.get(), self)).unwrap_or(false)
    }

    /// Runs callbacks until there are no more, or others must have their turn.
    pub(super) fn run_callbacks(&self) -> LaneRun {
        let batch = ROOM.try_with(RefCell::take).unwrap_or_default();
        let mut turn = Turn { task: self, batch, sent: None, hand: None, told: 0, told_bytes: 0 };
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
        let mut cork = Some(task.session.reactor.cork());
        while ran < BATCH {
            // A callback that suspends its queue is the last for now.
            if ran > 0 && task.session.queue.is_suspended() {
                break;
            }
            if let Some(handler) = self.next_sent() {
                cork.get_or_insert_with(|| task.session.reactor.cork());
                guarded(|| handler.call(Ok(())));
                ran += 1;
                continue;
            }
            if let Some((handler, message)) = self.next_of_hand() {
                guarded(|| handler.call(Ok(message)));
                ran += 1;
                continue;
            }
            let is_stale = self.batch.is_empty() || task.discarded.load(Ordering::Acquire);
            if is_stale && !self.refill(BATCH - ran) {
                // What these callbacks sent is written now, and perhaps there is something to tell of that.
                cork = None;
                if task.disturbed.load(Ordering::Acquire) {
                    continue;
                }
                break;
            }
            let Some(callback) = self.batch.pop_front() else { continue };
            cork.get_or_insert_with(|| task.session.reactor.cork());
            task.in_hand.store(self.batch.len(), Ordering::Relaxed);
            task.call(callback);
            ran += 1;
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

    /// The next message of those that were lent, with the receive that the last callback asked for.
    fn next_of_hand(&mut self) -> Option<(Completion<Message>, Message)> {
        let hand = self.hand.as_mut().filter(|hand| !hand.is_empty())?;
        if !self.batch.is_empty() || self.task.disturbed.load(Ordering::Acquire) {
            return None;
        }
        let handler = self.task.take_kept()?;
        let message = hand.pop()?;
        self.told += 1;
        self.told_bytes += message.len();
        Some((handler, message))
    }

    /// Takes callbacks, or messages that wait for the next receive, from the mailbox. Whether there are any.
    fn refill(&mut self, most: usize) -> bool {
        let task = self.task;
        let (read_on, found) = {
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
            }
            task.receives_wait.store(desk.mailbox.has_receive(), Ordering::Release);
            task.disturbed.store(false, Ordering::Relaxed);
            task.discarded.store(false, Ordering::Relaxed);
            (desk.mailbox.must_read_on(), self.sent.is_some() || !self.batch.is_empty())
        };
        task.read_on_if(read_on);
        found
    }

    /// Gives the mailbox back what was taken out and not told, and the receive that it does not know of; whether there was
    /// one.
    fn settle(&mut self, desk: &mut super::task::Desk) -> bool {
        if let Some(hand) = self.hand.take() {
            desk.mailbox.take_back(hand, self.told, self.told_bytes);
        }
        (self.told, self.told_bytes) = (0, 0);
        let kept = self.task.take_kept();
        let asked = kept.is_some();
        if let Some(handler) = kept {
            desk.mailbox.receive_first(handler);
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
        let mut spare = Spare::default();
        let (read_on, again) = {
            let mut desk = task.desk.lock();
            self.settle(&mut desk);
            task.in_hand.store(0, Ordering::Relaxed);
            task.receives_wait.store(desk.mailbox.has_receive(), Ordering::Release);
            let again = desk.mailbox.has_next();
            if !again {
                spare = std::mem::take(desk.mailbox.spare());
            }
            desk.set_scheduled(again);
            (desk.mailbox.must_read_on(), again)
        };
        drop(spare);
        task.read_on_if(read_on);
        again
    }
}
