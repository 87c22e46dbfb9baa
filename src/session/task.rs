//! A task: what its handles share, and how what happens to it becomes calls of user code.

use std::cell::OnceCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::delegate::{Implemented, Method, WebSocketDelegate, implements};
use super::desk::{Desk, Extras};
use super::operation_queue::{Lane, LaneRun};
use super::session_task::SessionTask;
use super::url_session::{SessionShared, UrlSession};
use super::web_socket_task::WebSocketTask;
use crate::foundation::{Completion, Message, UrlRequest};
use crate::loader::{Callback, Event, Mailbox, Question, Spare};
use crate::reactor::{Client, Connection, Delivered, Scheduled, Work, guarded};

/// What the handles of a task share. The reactor holds it while the task runs, a queue while callbacks wait there.
pub(super) struct TaskShared {
    pub(super) identifier: usize,
    /// Where the session's registry has it, if it has.
    pub(super) place: u32,
    pub(super) session: Arc<SessionShared>,
    pub(super) connection: Connection,
    pub(super) desk: Mutex<Desk>,
    /// Something happened that a turn which has taken messages out of the mailbox must know of.
    pub(super) disturbed: AtomicBool,
    /// The task was cancelled: messages that a turn has taken out of the mailbox are not to be told any more.
    pub(super) discarded: AtomicBool,
    /// Receives wait in the mailbox; one that is asked for now stands behind them.
    pub(super) receives_wait: AtomicBool,
    /// How many callbacks a turn has taken out of the mailbox and not begun.
    pub(super) in_hand: AtomicUsize,
    myself: Weak<Self>,
}

impl TaskShared {
    pub(super) fn new(
        identifier: usize,
        session: Arc<SessionShared>,
        connection: Connection,
        late: bool,
        extras: Option<Box<Extras>>,
        place: impl FnOnce(&Weak<Self>) -> u32,
    ) -> Arc<Self> {
        Arc::new_cyclic(|myself| Self {
            identifier,
            place: place(myself),
            session,
            connection,
            desk: Mutex::new(Desk::new(late, extras)),
            disturbed: AtomicBool::new(false),
            discarded: AtomicBool::new(false),
            receives_wait: AtomicBool::new(false),
            in_hand: AtomicUsize::new(0),
            myself: myself.clone(),
        })
    }

    pub(super) fn request(&self) -> Arc<UrlRequest> {
        self.connection.inspect(|loader| Arc::clone(loader.request()))
    }

    pub(super) fn resume(&self) {
        let (first, late, flaw) = {
            let mut desk = self.desk.lock();
            let life = &mut desk.life;
            if life.cancelled || life.suspensions == 0 {
                return;
            }
            life.suspensions -= 1;
            if life.suspensions > 0 {
                return;
            }
            let first = !std::mem::replace(&mut life.started, true);
            (first, life.late, desk.extras.as_ref().and_then(|extras| extras.flaw.clone()))
        };
        if !first {
            self.connection.set_suspended(self, || self.is_suspended());
        } else if late {
            self.connection.cancel(self);
        } else {
            let has_own = self.own_delegate().is_some();
            if has_own || self.session.has_delegate() {
                let asks_trust = has_own || self.session.may_be_challenged();
                self.connection.inspect(|loader| loader.set_has_delegate(asks_trust));
            }
            self.connection.start(self, flaw);
        }
    }

    pub(super) fn suspend(&self) {
        let pause = {
            let mut desk = self.desk.lock();
            let life = &mut desk.life;
            if life.cancelled {
                return;
            }
            life.suspensions = life.suspensions.saturating_add(1);
            life.started && life.suspensions == 1
        };
        if pause {
            self.connection.set_suspended(self, || self.is_suspended());
        }
    }

    fn is_suspended(&self) -> bool {
        self.desk.lock().life.suspensions > 0
    }

    pub(super) fn cancel(&self, cancel: impl FnOnce(&Connection, &dyn Client)) {
        self.desk.lock().life.cancelled = true;
        cancel(&self.connection, self);
    }

    /// A receive waits for its message. Inside a callback of this task, the turn that runs it may keep it.
    pub(super) fn receive(&self, handler: Completion<Message>) {
        if let Some(handler) = self.keep(handler) {
            self.receive_for_good(handler);
        }
    }

    /// Apart from the short way that nearly all receives go.
    #[inline(never)]
    pub(super) fn receive_for_good(&self, handler: Completion<Message>) {
        self.put_receive(|mailbox| mailbox.receive_for_good(handler));
    }

    /// A receive waits that may be withdrawn; its number, which its handler may know.
    pub(super) fn receive_with(&self, handler: impl FnOnce(u64) -> Completion<Message>) -> u64 {
        self.put_receive(|mailbox| mailbox.receive(handler))
    }

    fn put_receive<R>(&self, put: impl FnOnce(&mut Mailbox) -> R) -> R {
        let earlier = self.take_kept();
        let (result, schedule) = {
            let mut desk = self.desk.lock();
            if let Some(earlier) = earlier {
                desk.mailbox.receive_first(earlier);
            }
            let result = put(&mut desk.mailbox);
            self.receives_wait.store(true, Ordering::Release);
            self.disturbed.store(true, Ordering::Release);
            (result, desk.must_schedule())
        };
        self.schedule_if(schedule);
        result
    }

    /// A receive that nobody waits for any more leaves the line, if it still stands there.
    pub(super) fn withdraw_receive(&self, receive: u64) {
        let withdrawn = self.desk.lock().mailbox.withdraw_receive(receive);
        drop(withdrawn);
    }

    /// The program has the message of a receive that might have been withdrawn. The end may have waited for that.
    pub(super) fn taken(&self) {
        let schedule = {
            let mut desk = self.desk.lock();
            desk.mailbox.taken();
            self.disturbed.store(true, Ordering::Release);
            desk.must_schedule()
        };
        self.schedule_if(schedule);
    }

    /// A message whose receiver is gone goes to the next receive.
    pub(super) fn give_back(&self, receive: u64, message: Message) {
        let schedule = {
            let mut desk = self.desk.lock();
            desk.mailbox.give_back(receive, message);
            self.disturbed.store(true, Ordering::Release);
            desk.must_schedule()
        };
        self.schedule_if(schedule);
    }

    /// `maximumMessageSize`, which is also how much is read ahead.
    pub(super) fn set_maximum_message_size(&self, bytes: usize) {
        self.connection.inspect(|loader| loader.set_maximum_message_size(bytes));
        let read_on = {
            let mut desk = self.desk.lock();
            desk.mailbox.set_maximum_message_size(bytes);
            desk.mailbox.must_read_on()
        };
        self.read_on_if(read_on);
    }

    pub(super) fn read_on_if(&self, read_on: bool) {
        if read_on {
            self.connection.read_on(self);
        }
    }

    /// A question goes to the delegates; so many of them have passed it on.
    pub(super) fn put_question(&self, question: Arc<Question>, passed_on: usize) {
        let schedule = {
            let mut desk = self.desk.lock();
            desk.mailbox.ask(question, passed_on);
            self.disturbed.store(true, Ordering::Release);
            desk.must_schedule()
        };
        self.schedule_if(schedule);
    }

    pub(super) fn myself(&self) -> Option<Arc<Self>> {
        self.myself.upgrade()
    }

    pub(super) fn own_delegate(&self) -> Option<Arc<dyn WebSocketDelegate>> {
        self.desk.lock().delegate()
    }

    fn schedule_if(&self, schedule: bool) {
        if let (true, Some(task)) = (schedule, self.myself.upgrade()) {
            task.put_on_queue();
        }
    }

    /// The callbacks are to be run.
    fn put_on_queue(self: Arc<Self>) {
        Arc::clone(&self.session).put_on_queue(self);
    }

    /// Where what happened becomes a call of user code. (The handlers that follow one another by the thousand, of messages
    /// and of sends, are called by the turn itself, whose loop is better off without this.)
    #[inline(never)]
    pub(super) fn call(&self, callback: Callback) {
        match callback {
            Callback::Sent(..) | Callback::Received(..) | Callback::Pong(..) => answer(callback),
            Callback::Fault => self.connection.give_up(self),
            Callback::WaitingForConnectivity => {
                self.tell(Method::TaskIsWaitingForConnectivity, |delegate, session, task| {
                    delegate.task_is_waiting_for_connectivity(session, task);
                })
            }
            Callback::Informational(response) => {
                self.tell(Method::DidReceiveInformationalResponse, |delegate, session, task| {
                    delegate.did_receive_informational_response(session, task, &response);
                });
            }
            Callback::Question(question, passed_on) => self.ask(question, passed_on),
            Callback::Open(protocol) => self.tell(Method::DidOpenWithProtocol, |delegate, session, task| {
                delegate.did_open_with_protocol(session, task, protocol.as_deref());
            }),
            Callback::Close(code, reason) => self.tell(Method::DidCloseWith, |delegate, session, task| {
                delegate.did_close_with(session, task, code, reason.as_deref());
            }),
            Callback::Metrics(collected) => {
                // Made for the first who may want them.
                let metrics = OnceCell::new();
                self.tell(Method::DidFinishCollectingMetrics, |delegate, session, task| {
                    let metrics = metrics.get_or_init(|| collected.metrics());
                    delegate.did_finish_collecting_metrics(session, task, metrics);
                });
            }
            Callback::Complete(error) => {
                self.tell(Method::DidCompleteWithError, |delegate, session, task| {
                    delegate.did_complete_with_error(session, task, error.as_ref());
                });
                self.completed();
            }
        }
    }

    /// Tells the task's own delegate, or the session's where that one leaves the method at its default.
    fn tell(&self, method: Method, call: impl Fn(&dyn WebSocketDelegate, &UrlSession, &WebSocketTask)) {
        let own = self.own_delegate();
        let common = self.session.delegate_with(method);
        if own.is_none() && common.is_none() {
            return;
        }
        let Some(task) = self.myself.upgrade() else { return };
        let task = WebSocketTask::new(SessionTask { shared: task });
        let session = self.session.handle();
        let is_told = |delegate: Arc<dyn WebSocketDelegate>| {
            let mut implemented = Implemented::Yes;
            guarded(|| {
                // Moved in here: it may be the last reference, and what its drop throws ends here, too.
                let delegate = delegate;
                implemented = implements(&*delegate, method, || call(&*delegate, &session, &task));
            });
            implemented
        };
        if own.is_some_and(|own| is_told(own) == Implemented::Yes) {
            return;
        }
        if common.is_some_and(|common| is_told(common) == Implemented::Never) {
            self.session.delegate_lacks(method);
        }
    }

    /// `did_complete_with_error` has run: what was kept for it is let go.
    fn completed(&self) {
        let (delegate, watch) = match &mut self.desk.lock().extras {
            Some(extras) => (extras.delegate.take(), extras.watch.take()),
            None => (None, None),
        };
        guarded(|| drop(delegate));
        self.connection.end_is_told(self);
        self.session.ended(self);
        if let (Some(watch), Some(shared)) = (watch, self.myself.upgrade()) {
            guarded(|| (watch.watcher)(&WebSocketTask::new(SessionTask { shared }), watch.ended));
        }
    }
}

impl Client for TaskShared {
    fn connection(&self) -> &Connection {
        &self.connection
    }

    fn deliver(&self, events: &mut Vec<Event>, spare: &mut Spare) -> Delivered {
        if self.keep_sent(events) {
            // Nothing waits that did not wait before.
            return Delivered { keep_reading: true, schedule: false };
        }
        let mut desk = self.desk.lock();
        for event in events.drain(..) {
            match &event {
                Event::End(end) => desk.note_end(end),
                // Its callbacks run or are about to, and may take what is unread.
                Event::UnreadDue if desk.is_scheduled() => continue,
                Event::DiscardUnread => self.discarded.store(true, Ordering::Release),
                _ => {}
            }
            if !matches!(event, Event::Message(_) | Event::Messages(_)) {
                self.disturbed.store(true, Ordering::Release);
            }
            desk.mailbox.deliver(event);
        }
        spare.append(desk.mailbox.spare());
        Delivered { keep_reading: desk.mailbox.may_read_on(), schedule: desk.must_schedule() }
    }

    #[cfg(feature = "tracing")]
    fn numbers(&self) -> (u64, usize) {
        (self.session.number, self.identifier)
    }

    fn runs_on_reactor(&self) -> bool {
        self.session.queue.is_immediate()
    }

    fn to_arc(&self) -> Option<Arc<dyn Client>> {
        self.myself.upgrade().map(|task| task as Arc<dyn Client>)
    }

    fn schedule(self: Arc<Self>, more: bool) -> Scheduled {
        Arc::clone(&self.session).enqueue(self, more)
    }
}

impl Lane for TaskShared {
    fn run(self: Arc<Self>) -> LaneRun {
        self.run_callbacks()
    }

    fn waiting(&self) -> usize {
        self.desk.lock().mailbox.waiting() + self.in_hand.load(Ordering::Relaxed)
    }
}

impl Work for TaskShared {
    fn run(self: Arc<Self>) {
        if self.run_callbacks().again {
            self.put_on_queue();
        }
    }
}

impl Drop for TaskShared {
    /// A task that was never resumed goes with its last handle. What was asked of it fails as after a cancel, and the
    /// session no longer waits for it.
    fn drop(&mut self) {
        let mailbox = &mut self.desk.get_mut().mailbox;
        if !mailbox.is_told() {
            for event in self.connection.abandon() {
                mailbox.deliver(event);
            }
            let handlers: Vec<Callback> = std::iter::from_fn(|| mailbox.next()).collect();
            self.session.abandoned(handlers);
        }
        // Before the session, which may wait for nothing else, tells its end: that is the last that anybody is kept for.
        let delegate = self.desk.get_mut().extras.as_mut().and_then(|extras| extras.delegate.take());
        guarded(|| drop(delegate));
        self.session.ended(self);
    }
}

/// Calls the completion handler of a send, a receive or a ping; of anything else there is none.
pub(super) fn answer(callback: Callback) {
    match callback {
        Callback::Sent(handler, result) | Callback::Pong(handler, result) => guarded(|| handler.call(result)),
        Callback::Received(receive, result) => guarded(|| receive.handler.call(result)),
        _ => true,
    };
}

#[cfg(test)]
mod tests {
    use super::super::desk::{Facts, Life};
    use super::*;

    /// There may be ten thousand of them: what few tasks need, or need for a moment, belongs into a box.
    #[test]
    #[cfg_attr(not(target_pointer_width = "64"), ignore = "the bounds are those of 64 bits")]
    fn a_task_is_small() {
        assert!(size_of::<Facts>() <= 16 && size_of::<Life>() <= 8);
        assert!(
            size_of::<TaskShared>() <= size_of::<Connection>() + size_of::<Mailbox>() + 88,
            "{}",
            size_of::<TaskShared>()
        );
    }
}
