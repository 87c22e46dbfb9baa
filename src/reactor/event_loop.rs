//! The reactor thread: commands, readiness and deadlines of a session's sockets.

mod attempts;

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use attempts::Attempts;
use mio::{Events, Poll};
use slab::Slab;

use super::client::{Client, Scheduled, Work};
use super::connection::After;
use super::helm::QUIET;
use super::receive::{receive, receive_payload};
use super::resolver::AskingTask;
use super::{Command, Cork, Deadlines, Inbox, Shared, WAKER};
use crate::foundation::{ErrorCode, ErrorStage, UrlError};
use crate::loader::{Action, Env, Loader};

/// The one receive buffer of a session. What is made of it still lies in the nearer caches when callbacks take it.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// How often one socket is read before the others have their turn.
const READ_ROUNDS: usize = 16;

/// After how many reads of one socket callbacks have their turn, where they run on the same processor.
const YIELD: usize = 4;

/// How many readiness events are taken at a time.
const EVENTS: usize = 1024;

/// How long a callback may hold back what it sent.
const CORK_DELAY: Duration = Duration::from_millis(2);

/// How many tasks wait to be put on their queue before it is woken.
const SCHEDULE_AT: usize = 32;

/// Room for how many commands is kept.
const COMMANDS_KEPT: usize = 256;

/// How long until a deadline that need not be looked at closely.
const FAR: Duration = Duration::from_secs(10);

/// After how many turns that were [hardly worth a thread](EventLoop::note_heat) the loop is offered to the queue's.
const HOT: i32 = 16;

/// Fewer sockets with something to tell are hardly worth waking a thread.
const FEW: usize = 8;

/// How many turns more it takes when callbacks blocked the last time.
const COOLED: i32 = 256;

pub(super) struct EventLoop {
    poll: Poll,
    shared: Arc<Shared>,
    entries: Slab<Entry>,
    /// Each connection's deadline as it was last looked at; it may have become later since.
    timers: Deadlines,
    /// Sockets that have more to read after their turn.
    ready: VecDeque<usize>,
    buffer: Vec<u8>,
    events: Option<Events>,
    corked_since: Option<Instant>,
    /// What was asked for and is to be done, and room for what will be.
    commands: Vec<Command>,
    /// Connections were corked that this thread had no eye on.
    unwatched: bool,
    /// Tasks whose callbacks are to be put on their queue, together.
    scheduled: Vec<Arc<dyn Client>>,
    /// The callbacks of an immediate queue that run now.
    work: Vec<Arc<dyn Work>>,
    /// The time of this turn of the loop: when the kernel's call returned.
    now: Instant,
    /// The thread of the delegate queue runs this turn.
    on_queue: bool,
    told: Told,
    /// The last turn had callbacks before the kernel was asked.
    passed_over: bool,
    /// How many sockets had something to tell in this turn.
    sockets: usize,
    /// This turn read as much at once as there was room for, or parts of a long message.
    is_bulky: bool,
    /// The last turn that put callbacks on their queue, and how many were hardly worth a thread before it, one soon after the
    /// other; less than 0: how many are to be passed over.
    told_at: Instant,
    hot: i32,
}

/// What a turn put on the delegate queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Told {
    Nothing,
    Callbacks,
    /// For the queue's only thread, which was awake.
    OnlyThread,
    /// The queue's only thread slept, and was woken.
    Sleeper,
}

/// What comes after a turn of the loop.
#[derive(Debug)]
pub(super) enum Turn {
    /// The next turn.
    Idle,
    /// On the thread of the delegate queue: there are callbacks to run. `more`: there is more to be read than one thread
    /// should deal with.
    Callbacks { more: bool },
    /// On the thread of the delegate queue: this is not worth its while any more.
    Leave,
    /// On the reactor's thread: the callbacks [are to be put on their queue](EventLoop::take_scheduled), whose thread may
    /// have the loop.
    Offer,
    /// There is nothing to do, and never will be.
    Over,
}

struct Entry {
    client: Arc<dyn Client>,
    /// Connections that are being made; the first to stand is the task's.
    attempts: Option<Box<Attempts>>,
    /// The kernel may have more; it will not say so again.
    readable: bool,
    /// The peer shut its side: there is an end to be read behind the last bytes.
    read_closed: bool,
    /// Something was read that the road has not looked at.
    holds: bool,
    /// Stands in `ready`.
    queued: bool,
}

impl EventLoop {
    pub(super) fn new(poll: Poll, shared: Arc<Shared>) -> Self {
        Self {
            poll,
            shared,
            entries: Slab::new(),
            timers: Deadlines::default(),
            ready: VecDeque::new(),
            buffer: Vec::new(),
            events: None,
            corked_since: None,
            commands: Vec::new(),
            unwatched: false,
            scheduled: Vec::new(),
            work: Vec::new(),
            now: Instant::now(),
            on_queue: false,
            told: Told::Nothing,
            passed_over: false,
            sockets: 0,
            is_bulky: false,
            told_at: Instant::now(),
            hot: 0,
        }
    }

    /// One turn: sleeps until there is something to do, and does it.
    pub(super) fn turn(&mut self, on_queue: bool) -> Turn {
        self.on_queue = on_queue;
        self.told = Told::Nothing;
        (self.sockets, self.is_bulky) = (0, false);
        let timeout = match self.before_poll() {
            Ok(timeout) => timeout,
            Err(turn) => return turn,
        };
        let mut events = self.events.take().unwrap_or_else(|| Events::with_capacity(EVENTS));
        self.passed_over = false;
        let polled = self.poll.poll(&mut events, timeout);
        // Those that wait from now on are read in the next turn; each behind the callbacks of what was read before.
        let ready = self.ready.len();
        self.now = Instant::now();
        {
            let mut inbox = self.shared.inbox.lock();
            inbox.asleep = false;
            take_asked(&mut inbox, &mut self.commands, &mut self.work);
            self.unwatched |= std::mem::take(&mut inbox.unwatched);
        }
        match polled {
            Ok(()) => {
                for event in &events {
                    if event.token() != WAKER {
                        self.sockets += 1;
                        let read_closed = event.is_read_closed() || event.is_error();
                        let readable = event.is_readable() || read_closed;
                        let writable = event.is_writable() || event.is_error();
                        self.socket_event(event.token().0, readable, read_closed, writable);
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The reactor's thread finds the same.
            Err(_) if on_queue => return Turn::Leave,
            Err(error) => {
                self.run_commands();
                self.fail_all(&error);
                return Turn::Over;
            }
        }
        self.events = Some(events);
        self.run_commands();
        self.run_timers();
        if ready == 0 && self.may_offer() {
            return Turn::Offer;
        }
        self.run_callbacks();
        if ready > 0 {
            self.run_ready(ready);
            self.run_callbacks();
        }
        if on_queue {
            return self.after_turn_on_queue();
        }
        self.note_heat();
        self.watch_cork();
        Turn::Idle
    }

    fn after_turn_on_queue(&mut self) -> Turn {
        let more = self.is_bulky || !self.ready.is_empty();
        if self.told != Told::Nothing {
            self.told_at = self.now;
            return Turn::Callbacks { more };
        }
        if more || self.now.duration_since(self.told_at) >= QUIET { Turn::Leave } else { Turn::Idle }
    }

    /// Whether the callbacks of this turn wake a thread that may have the loop as well.
    fn may_offer(&self) -> bool {
        self.hot >= HOT && !self.on_queue && !self.scheduled.is_empty() && !self.is_bulky && self.ready.is_empty()
    }

    /// What comes is hardly worth a thread of its own if little comes at a time, one soon after the other, and the only
    /// thread of the queue slept or had to be interrupted for it. Two threads are better where much comes.
    fn note_heat(&mut self) {
        if self.told == Told::Nothing {
            return;
        }
        let soon = self.now.duration_since(std::mem::replace(&mut self.told_at, self.now)) < QUIET;
        let little = !self.is_bulky && self.ready.is_empty();
        self.hot = match self.told {
            Told::Sleeper | Told::OnlyThread if !soon || !little => self.hot.min(0),
            Told::Sleeper => (self.hot + 1).min(HOT),
            Told::OnlyThread if self.sockets < FEW => (self.hot + 1).min(HOT),
            _ => self.hot.min(0),
        };
    }

    /// The tasks whose callbacks are to be put on their queue.
    pub(super) fn take_scheduled(&mut self) -> Vec<Arc<dyn Client>> {
        self.told_at = self.now;
        std::mem::take(&mut self.scheduled)
    }

    /// The reactor's thread has the loop again. `blocked`: because callbacks blocked.
    pub(super) fn taken_back(&mut self, blocked: bool) {
        self.hot = if blocked { -COOLED } else { 0 };
    }

    /// Callbacks of what happened are put on their queue, and run if that is an immediate one.
    fn run_callbacks(&mut self) {
        self.schedule_all();
        self.run_work();
    }

    /// Puts on their queue the callbacks of the tasks that something happened to, with one wake-up for all. Those of an
    /// immediate queue are work for this thread.
    fn schedule_all(&mut self) {
        if self.scheduled.is_empty() {
            return;
        }
        if self.scheduled.first().is_some_and(|client| client.runs_on_reactor()) {
            for client in self.scheduled.drain(..) {
                if let Scheduled::ForReactor(work) = client.schedule(false) {
                    self.work.push(work);
                }
            }
            return;
        }
        let told = schedule(&self.shared, self.scheduled.drain(..));
        self.told = self.told.max(told);
    }

    /// Until when to sleep; or there is nothing to do here, for now or for ever.
    fn before_poll(&mut self) -> Result<Option<Duration>, Turn> {
        if self.is_busy()? {
            // What callbacks asked for meanwhile need not wait for the kernel.
            self.now = Instant::now();
            self.run_commands();
            self.run_callbacks();
            if self.on_queue && self.told != Told::Nothing {
                // They may ask for something again and again, and must not keep the sockets from their turn.
                return match std::mem::replace(&mut self.passed_over, true) {
                    false => Err(self.after_turn_on_queue()),
                    true => Ok(Some(Duration::ZERO)),
                };
            }
            if self.is_busy()? {
                return Ok(Some(Duration::ZERO));
            }
        }
        if !self.ready.is_empty() {
            return Ok(Some(Duration::ZERO));
        }
        let timeout = self.timers.next().map(|deadline| self.time_until(deadline));
        let at_most = |most: Duration| Some(timeout.map_or(most, |timeout| timeout.min(most)));
        if self.on_queue {
            // No callbacks run, and what they sent is written.
            return Ok(at_most(QUIET));
        }
        Ok(if self.watches_cork() { at_most(CORK_DELAY) } else { timeout })
    }

    /// Takes what was asked for, and whether there was anything. If not, and no socket has more, whoever asks from now on
    /// wakes this thread.
    fn is_busy(&mut self) -> Result<bool, Turn> {
        let mut inbox = self.shared.inbox.lock();
        if inbox.retired && self.on_queue {
            return Err(Turn::Leave);
        }
        take_asked(&mut inbox, &mut self.commands, &mut self.work);
        if !self.commands.is_empty() || !self.work.is_empty() {
            return Ok(true);
        }
        if self.ready.is_empty() {
            if inbox.retired && self.entries.is_empty() {
                inbox.waker = None;
                return Err(Turn::Over);
            }
            inbox.asleep = true;
            self.unwatched |= std::mem::take(&mut inbox.unwatched);
        }
        Ok(false)
    }

    /// A deadline that is far off is looked at again half-way: that needs no exact time now.
    fn time_until(&self, deadline: Instant) -> Duration {
        let left = deadline.saturating_duration_since(self.now);
        if left > FAR { left / 2 } else { deadline.saturating_duration_since(Instant::now()) }
    }

    /// Whether callbacks run or are about to: what they send may need this thread, if they block.
    fn watches_cork(&mut self) -> bool {
        let shared = &self.shared;
        let mut watching =
            shared.scheduled.swap(false, Ordering::Relaxed) || self.corked_since.is_some() || self.unwatched;
        if shared.watching.swap(watching, Ordering::AcqRel) && !watching {
            // Whoever corked a connection since the last look, and saw this thread watching, has not woken it.
            watching = !shared.corked.lock().is_empty();
            shared.watching.store(watching, Ordering::Release);
        }
        watching
    }

    fn run_commands(&mut self) {
        let mut commands = std::mem::take(&mut self.commands);
        for command in commands.drain(..) {
            match command {
                Command::Start(client) => self.start(client),
                Command::Update(client) => {
                    let token = client.connection().token();
                    if self.entries.contains(token) {
                        self.guarded(token, |event_loop| event_loop.pump(token));
                    }
                }
                Command::Resolved(client, look_up, answer) => {
                    let Some(client) = client.upgrade() else { continue };
                    let token = client.connection().token();
                    if self.entries.contains(token) {
                        self.step(token, |loader, env| loader.resolved(env, look_up, answer));
                        self.guarded(token, |event_loop| event_loop.pump(token));
                    }
                }
            }
        }
        if commands.capacity() <= COMMANDS_KEPT {
            self.commands = commands;
        }
    }

    fn start(&mut self, client: Arc<dyn Client>) {
        let entry = Entry {
            client: Arc::clone(&client),
            attempts: None,
            readable: false,
            read_closed: false,
            holds: false,
            queued: false,
        };
        let token = self.entries.insert(entry);
        client.connection().set_token(Some(token));
        self.guarded(token, |event_loop| event_loop.pump(token));
    }

    /// Does what the road asks for, reads what may be read, and looks at the deadline.
    fn pump(&mut self, token: usize) {
        self.run_actions(token);
        self.read(token);
        self.settle(token);
    }

    fn run_actions(&mut self, token: usize) {
        while let Some(entry) = self.entries.get(token) {
            let client = Arc::clone(&entry.client);
            let Some(action) = client.connection().lock().loader.next_action() else { return };
            match action {
                Action::Resolve { look_up, host, port } => {
                    self.shared.resolver.ask(AskingTask::new(&client, &self.shared, look_up), &host, port);
                }
                Action::Connect { attempt, address } => {
                    if let Err(error) = self.connect(token, attempt, address) {
                        self.step(token, |loader, env| loader.connect_failed(env, attempt, error));
                    }
                }
                Action::Disconnect => {
                    client.connection().disconnect();
                    if let Some(entry) = self.entries.get_mut(token) {
                        entry.attempts = None;
                        entry.readable = false;
                        entry.read_closed = false;
                    }
                }
            }
        }
    }

    fn socket_event(&mut self, token: usize, readable: bool, read_closed: bool, writable: bool) {
        let Some(entry) = self.entries.get_mut(token) else { return };
        entry.readable |= readable;
        entry.read_closed |= read_closed;
        if entry.attempts.is_some() {
            return self.guarded(token, |event_loop| {
                event_loop.finish_connect(token);
                event_loop.pump(token);
            });
        }
        let was_blocked = writable && entry.client.connection().set_writable();
        self.guarded(token, |event_loop| {
            // What is there to be read comes first: it says more of the end of a connection than a failed write.
            let after = event_loop.read(token);
            if after.as_ref().map_or(was_blocked, |after| !after.is_settled()) {
                event_loop.settle(token);
            }
        });
    }

    /// Reads until the kernel has no more, the road wants no more, or others must have their turn. What the last step left
    /// to be done, if there was one.
    fn read(&mut self, token: usize) -> Option<After> {
        let mut after = None;
        for round in 0..READ_ROUNDS {
            if round > 0 && round % YIELD == 0 && !self.on_queue {
                // Callbacks are behind: they come first, where they run on the same processor.
                self.schedule_all();
                thread::yield_now();
            }
            let entry = self.entries.get_mut(token)?;
            if !entry.readable && !entry.holds {
                return after;
            }
            let scheduled = self.scheduled.len();
            let (socket, payload) = {
                let mut state = entry.client.connection().lock();
                let Some(socket) = state.socket.clone().filter(|_| state.loader.wants_read()) else { return after };
                let payload = if entry.holds { None } else { state.loader.take_payload_buffer() };
                (socket, payload)
            };
            let result = match payload {
                _ if std::mem::take(&mut entry.holds) => {
                    after = Some(self.step(token, |loader, env| loader.read_held(env)));
                    Ok(true)
                }
                Some(mut payload) => {
                    self.is_bulky = true;
                    let result = receive_payload(&socket, &mut payload);
                    let count = result.as_ref().map_or(0, |received| received.count);
                    after = Some(self.step(token, |loader, env| loader.payload_received(env, payload, count)));
                    result.map(|received| received.is_full)
                }
                None => {
                    let mut buffer = std::mem::take(&mut self.buffer);
                    buffer.resize(RECEIVE_BUFFER, 0);
                    let result = receive(&socket, &mut buffer);
                    if let Ok(count @ 1..) = result {
                        let bytes = buffer.get_mut(..count).unwrap_or_default();
                        after = Some(self.step(token, |loader, env| loader.receive(env, bytes)));
                    }
                    self.buffer = buffer;
                    self.is_bulky |= matches!(result, Ok(RECEIVE_BUFFER));
                    result.map(|count| count == RECEIVE_BUFFER)
                }
            };
            match result {
                // This thread has callbacks to run, which need not wait for the rest.
                Ok(true) if self.scheduled.len() != scheduled && (self.on_queue || self.runs_here(token)) => break,
                Ok(true) => {}
                Ok(false) => {
                    let entry = self.entries.get_mut(token)?;
                    // A read that did not fill its room emptied the kernel's. On Unix that re-arms the edge by which
                    // readiness is told, and one call more is saved; elsewhere only `WouldBlock` does.
                    let drained = cfg!(unix) && !entry.read_closed;
                    entry.readable = !drained;
                    if drained && !entry.holds {
                        return after;
                    }
                }
                Err(error) => return self.read_failed(token, error).or(after),
            }
        }
        let newly_queued = self.entries.get_mut(token).is_some_and(|entry| !std::mem::replace(&mut entry.queued, true));
        if newly_queued {
            self.ready.push_back(token);
        }
        after
    }

    fn runs_here(&self, token: usize) -> bool {
        self.entries.get(token).is_some_and(|entry| entry.client.runs_on_reactor())
    }

    fn read_failed(&mut self, token: usize, error: io::Error) -> Option<After> {
        let entry = self.entries.get_mut(token)?;
        entry.readable = false;
        if error.kind() == io::ErrorKind::WouldBlock {
            // There is no end yet: it was that of another socket.
            entry.read_closed = false;
        }
        match error.kind() {
            io::ErrorKind::WouldBlock => None,
            io::ErrorKind::UnexpectedEof => Some(self.step(token, |loader, env| loader.end_of_stream(env))),
            _ => Some(self.step(token, |loader, env| loader.read_failed(env, error))),
        }
    }

    fn run_ready(&mut self, count: usize) {
        for _ in 0..count {
            let Some(token) = self.ready.pop_front() else { return };
            if let Some(entry) = self.entries.get_mut(token) {
                entry.queued = false;
                self.guarded(token, |event_loop| event_loop.pump(token));
            }
        }
    }

    fn run_timers(&mut self) {
        let now = self.now;
        if self.timers.take_far(now) {
            for (token, entry) in &self.entries {
                if let Some(armed) = entry.client.connection().lock().armed {
                    self.timers.insert(now, armed, token);
                }
            }
        }
        while let Some(token) = self.timers.pop(now) {
            if let Some(entry) = self.entries.get(token) {
                entry.client.connection().lock().armed = None;
                self.guarded(token, |event_loop| {
                    event_loop.step(token, |loader, env| loader.handle_timeout(env));
                    event_loop.pump(token);
                });
            }
        }
    }

    /// Callbacks of an immediate queue; what they send leaves together. What they leave to be run is for the next turn.
    fn run_work(&mut self) {
        if self.work.is_empty() {
            return;
        }
        let cork = Cork::new(&self.shared, || self.now);
        for work in self.work.drain(..) {
            work.run();
        }
        drop(cork);
        // They have run, and what they sent is written.
        self.shared.scheduled.store(false, Ordering::Relaxed);
        // They may have taken their time.
        self.now = Instant::now();
    }

    /// A callback that blocks holds back what it sent for a moment, not longer.
    fn watch_cork(&mut self) {
        if !self.unwatched && !self.shared.watching.load(Ordering::Relaxed) {
            return;
        }
        self.unwatched = false;
        if self.shared.corked.lock().is_empty() {
            self.corked_since = None;
            return;
        }
        let now = Instant::now();
        if now.duration_since(*self.corked_since.get_or_insert(now)) >= CORK_DELAY {
            self.corked_since = None;
            self.shared.uncork_guarded(now);
        }
    }

    /// What is left to write and to do; then the timers hold the connection's deadline, or an earlier moment. A connection
    /// that is done is let go.
    fn settle(&mut self, token: usize) {
        let mut after = self.step(token, |_, _| {});
        if after.has_action {
            self.run_actions(token);
            after = self.step(token, |_, _| {});
        }
        let Some(entry) = self.entries.get(token) else { return };
        let connection = entry.client.connection();
        if after.finished {
            let armed = connection.lock().armed.take();
            connection.set_token(None);
            if let Some(deadline) = armed {
                self.timers.remove(deadline, token);
            }
            let entry = self.entries.remove(token);
            entry.client.connection().tell_the_rest(&*entry.client);
            drop(entry);
            return;
        }
        let Some(deadline) = after.deadline else { return };
        if let Some(armed) = connection.lock().armed.replace(deadline) {
            self.timers.remove(armed, token);
        }
        self.timers.insert(Instant::now(), deadline, token);
    }

    /// A step of a task's road. Its callbacks are put on their queue when this turn of the loop ends.
    fn step(&mut self, token: usize, step: impl FnOnce(&mut Loader, &mut Env<'_>)) -> After {
        let Some(entry) = self.entries.get(token) else { return After::default() };
        let (after, schedule) = entry.client.connection().step_at(&*entry.client, self.now, step);
        if schedule {
            self.scheduled.push(Arc::clone(&entry.client));
            if self.scheduled.len() >= SCHEDULE_AT {
                self.schedule_all();
            }
        }
        if after.holds
            && let Some(entry) = self.entries.get_mut(token)
        {
            entry.holds = true;
        }
        after
    }

    /// A defect that shows in one task fails that task, not the session.
    fn guarded(&mut self, token: usize, run: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| run(self))).is_err() {
            let failed = catch_unwind(AssertUnwindSafe(|| {
                let error = UrlError::new(ErrorCode::Unknown, ErrorStage::Open, "a defect of this library");
                self.step(token, |loader, env| loader.fail(env, error));
                self.run_actions(token);
            }));
            if failed.is_err() && self.entries.contains(token) {
                drop(self.entries.remove(token));
            }
        }
    }

    /// The kernel's notifications cannot be had any more: every task fails, and the thread ends.
    fn fail_all(&mut self, error: &io::Error) {
        let tokens: Vec<usize> = self.entries.iter().map(|(token, _)| token).collect();
        for token in tokens {
            let error = UrlError::new(ErrorCode::Unknown, ErrorStage::Open, format!("the reactor failed: {error}"));
            self.guarded(token, |event_loop| {
                event_loop.step(token, |loader, env| loader.fail(env, error));
                event_loop.pump(token);
            });
        }
        self.run_callbacks();
        self.shared.inbox.lock().waker = None;
    }
}

/// Puts callbacks on the delegate queue, and wakes it once for all.
pub(super) fn schedule(shared: &Arc<Shared>, clients: impl ExactSizeIterator<Item = Arc<dyn Client>>) -> Told {
    shared.scheduled();
    let mut left = clients.len();
    let mut told = Told::Nothing;
    for client in clients {
        left -= 1;
        told = told.max(match client.schedule(left > 0) {
            Scheduled::ForOnlyThread { slept: true } => Told::Sleeper,
            Scheduled::ForOnlyThread { slept: false } => Told::OnlyThread,
            Scheduled::Queued => Told::Callbacks,
            Scheduled::ForReactor(work) => {
                shared.post(work);
                Told::Nothing
            }
        });
    }
    told
}

/// An empty list goes in for a full one, and its memory back and forth.
fn take_asked(inbox: &mut Inbox, commands: &mut Vec<Command>, work: &mut Vec<Arc<dyn Work>>) {
    if commands.is_empty() {
        std::mem::swap(commands, &mut inbox.commands);
    }
    if work.is_empty() {
        std::mem::swap(work, &mut inbox.work);
    }
}
