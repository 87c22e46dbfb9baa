//! The reactor thread: commands, readiness and deadlines of a session's sockets.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use super::client::{Client, Work};
use super::connection::After;
use super::receive::{receive, receive_payload};
use super::{Command, Cork, Deadlines, Shared, WAKER};
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

/// How often work that wants more is run before sockets have their turn.
const WORK_ROUNDS: usize = 64;

pub(super) struct EventLoop {
    poll: Poll,
    shared: Arc<Shared>,
    entries: Slab<Entry>,
    /// Each connection's deadline as it was last looked at; it may have become later since.
    timers: Deadlines,
    /// Sockets that have more to read after their turn.
    ready: VecDeque<usize>,
    buffer: Vec<u8>,
    corked_since: Option<Instant>,
    /// Room for the next commands.
    commands: Vec<Command>,
    /// Tasks whose callbacks are to be put on their queue, together.
    scheduled: Vec<Arc<dyn Client>>,
    /// The callbacks of an immediate queue that run now.
    work: Vec<Arc<dyn Work>>,
    /// The time of this turn of the loop: when the kernel's call returned.
    now: Instant,
}

struct Entry {
    client: Arc<dyn Client>,
    /// A connection that is being made.
    connecting: Option<TcpStream>,
    /// The kernel may have more; it will not say so again.
    readable: bool,
    /// The peer shut its side: there is an end to be read behind the last bytes.
    read_closed: bool,
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
            corked_since: None,
            commands: Vec::new(),
            scheduled: Vec::new(),
            work: Vec::new(),
            now: Instant::now(),
        }
    }

    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut skipped = false;
        while let Some(timeout) = self.before_poll() {
            // What callbacks asked for is done before the kernel is asked, but for what that leads to in turn.
            skipped = !skipped && timeout == Some(Duration::ZERO) && self.ready.is_empty();
            let polled = if skipped {
                events.clear();
                Ok(())
            } else {
                self.poll.poll(&mut events, timeout)
            };
            // Those that wait from now on are read in the next turn; each behind the callbacks of what was read before.
            let ready = self.ready.len();
            self.now = Instant::now();
            self.shared.inbox.lock().asleep = false;
            if let Err(error) = polled {
                if error.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                return self.fail_all(&error);
            }
            for event in &events {
                if event.token() != WAKER {
                    let read_closed = event.is_read_closed() || event.is_error();
                    let readable = event.is_readable() || read_closed;
                    self.socket_event(event.token().0, readable, read_closed, event.is_writable() || event.is_error());
                }
            }
            self.run_commands();
            self.run_timers();
            self.run_callbacks();
            if ready > 0 {
                self.run_ready(ready);
                self.run_callbacks();
            }
            self.watch_cork();
        }
    }

    /// Callbacks of what happened are put on their queue, and run if that is an immediate one.
    fn run_callbacks(&mut self) {
        self.schedule_all();
        self.run_work();
    }

    /// Puts on their queue the callbacks of the tasks that something happened to, with one wake-up for all.
    fn schedule_all(&mut self) {
        if self.scheduled.is_empty() {
            return;
        }
        self.shared.scheduled();
        let mut left = self.scheduled.len();
        for client in self.scheduled.drain(..) {
            left -= 1;
            client.schedule(left > 0);
        }
    }

    /// Until when to sleep; `None`: there is nothing to do, and never will be.
    fn before_poll(&mut self) -> Option<Option<Duration>> {
        let mut inbox = self.shared.inbox.lock();
        let busy = !inbox.commands.is_empty() || !inbox.work.is_empty() || !self.ready.is_empty();
        if inbox.retired && !busy && self.entries.is_empty() {
            inbox.waker = None;
            return None;
        }
        if busy {
            return Some(Some(Duration::ZERO));
        }
        inbox.asleep = true;
        drop(inbox);
        let mut timeout = self.timers.next().map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // Callbacks run or are about to: what they send may need this thread, if they block.
        let mut watching = self.shared.scheduled.swap(false, Ordering::Relaxed) || self.corked_since.is_some();
        self.shared.watching.store(watching, Ordering::Release);
        // Whoever corked a connection since the last look, and saw this thread awake or watching, has not woken it.
        if !watching && !self.shared.corked.lock().is_empty() {
            watching = true;
            self.shared.watching.store(true, Ordering::Release);
        }
        if watching {
            timeout = Some(timeout.map_or(CORK_DELAY, |timeout| timeout.min(CORK_DELAY)));
        }
        Some(timeout)
    }

    fn run_commands(&mut self) {
        let mut commands = std::mem::take(&mut self.commands);
        // An empty list goes in for the full one, and its memory back and forth.
        std::mem::swap(&mut commands, &mut self.shared.inbox.lock().commands);
        for command in commands.drain(..) {
            match command {
                Command::Start(client) => self.start(client),
                Command::Update(client) => {
                    let token = client.connection().token();
                    if self.entries.contains(token) {
                        self.guarded(token, |event_loop| event_loop.pump(token));
                    }
                }
                Command::Resolved(client, answer) => {
                    let token = client.connection().token();
                    if self.entries.contains(token) {
                        self.step(token, |loader, env| loader.resolved(env, answer));
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
        let entry =
            Entry { client: Arc::clone(&client), connecting: None, readable: false, read_closed: false, queued: false };
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
                Action::Resolve { host, port } => {
                    let resolver = Arc::clone(&self.shared.resolver);
                    resolver.ask(&self.shared, client, host, port);
                }
                Action::Connect(address) => {
                    if let Err(error) = self.connect(token, address) {
                        self.step(token, |loader, env| loader.connect_failed(env, error));
                    }
                }
                Action::Disconnect => {
                    let socket = client.connection().lock().socket.take();
                    drop(socket);
                    if let Some(entry) = self.entries.get_mut(token) {
                        entry.connecting = None;
                        entry.readable = false;
                    }
                }
            }
        }
    }

    fn connect(&mut self, token: usize, address: SocketAddr) -> io::Result<()> {
        let mut socket = TcpStream::connect(address)?;
        self.poll.registry().register(&mut socket, Token(token), Interest::READABLE | Interest::WRITABLE)?;
        if let Some(entry) = self.entries.get_mut(token) {
            entry.connecting = Some(socket);
        }
        Ok(())
    }

    fn socket_event(&mut self, token: usize, readable: bool, read_closed: bool, writable: bool) {
        let Some(entry) = self.entries.get_mut(token) else { return };
        entry.readable |= readable;
        entry.read_closed |= read_closed;
        if entry.connecting.is_some() {
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

    /// A connection was made, or was not.
    fn finish_connect(&mut self, token: usize) {
        let Some(entry) = self.entries.get_mut(token) else { return };
        let Some(socket) = entry.connecting.take() else { return };
        // Who has a peer is connected; only who has none is asked why.
        let failure = match socket.peer_addr() {
            Ok(remote) => {
                // Without it, a small message may wait for the answer to the one before.
                let _ = socket.set_nodelay(true);
                let local = socket.local_addr().ok();
                entry.client.connection().lock().socket = Some(Arc::new(socket));
                self.step(token, |loader, env| loader.connected(env, local, Some(remote)));
                return;
            }
            Err(error) => match socket.take_error() {
                Ok(Some(failure)) => failure,
                Ok(None) if error.kind() == io::ErrorKind::NotConnected => {
                    // Not yet; the kernel says so again.
                    entry.connecting = Some(socket);
                    return;
                }
                Ok(None) | Err(_) => error,
            },
        };
        entry.readable = false;
        entry.read_closed = false;
        self.step(token, |loader, env| loader.connect_failed(env, failure));
    }

    /// Reads until the kernel has no more, the road wants no more, or others must have their turn. What the last step left
    /// to be done, if there was one.
    fn read(&mut self, token: usize) -> Option<After> {
        let mut after = None;
        for round in 0..READ_ROUNDS {
            if round > 0 && round % YIELD == 0 {
                // Callbacks are behind: they come first, where they run on the same processor.
                self.schedule_all();
                thread::yield_now();
            }
            let entry = self.entries.get(token)?;
            if !entry.readable {
                return after;
            }
            let scheduled = self.scheduled.len();
            let (socket, payload) = {
                let mut state = entry.client.connection().lock();
                let Some(socket) = state.socket.clone().filter(|_| state.loader.wants_read()) else { return after };
                (socket, state.loader.take_payload_buffer())
            };
            let result = match payload {
                Some(mut payload) => {
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
                    result.map(|count| count == RECEIVE_BUFFER)
                }
            };
            match result {
                // This thread has callbacks to run, which need not wait for the rest.
                Ok(true) if self.scheduled.len() != scheduled && self.runs_here(token) => break,
                Ok(true) => {}
                Ok(false) => {
                    let entry = self.entries.get_mut(token)?;
                    // A read that did not fill its room emptied the kernel's. On Unix that re-arms the edge by which
                    // readiness is told, and one call more is saved; elsewhere only `WouldBlock` does.
                    let drained = cfg!(unix) && !entry.read_closed;
                    entry.readable = !drained;
                    if drained {
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
        self.entries.get_mut(token)?.readable = false;
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

    /// Callbacks of an immediate queue; what they send leaves together.
    fn run_work(&mut self) {
        for _ in 0..WORK_ROUNDS {
            // An empty list goes in for the full one, and its memory back and forth.
            std::mem::swap(&mut self.work, &mut self.shared.inbox.lock().work);
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
    }

    /// A callback that blocks holds back what it sent for a moment, not longer.
    fn watch_cork(&mut self) {
        if self.shared.corked.lock().is_empty() {
            self.corked_since = None;
            return;
        }
        let now = Instant::now();
        if now.duration_since(*self.corked_since.get_or_insert(now)) >= CORK_DELAY {
            self.corked_since = None;
            // It may hold the last of a task, whose delegate goes with it: what that throws ends here.
            let shared = Arc::clone(&self.shared);
            let _ = catch_unwind(AssertUnwindSafe(|| shared.uncork(now)));
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
        self.run_commands();
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
