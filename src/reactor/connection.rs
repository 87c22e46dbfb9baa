//! One task's connection: its road, its socket, and who may touch them when.
//!
//! The road is behind a lock that is held for moments only: no system call is made under it. Whoever has bytes to write
//! (a thread that calls `send`, the reactor) becomes the writer, writes without the lock, and goes on until nothing is
//! left; everybody else leaves what they have with the writer. Only the event loop reads. Whoever sends what is to be
//! compressed does that without the lock, too; one after the other, for each message may refer to the one before.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use mio::net::TcpStream;
use parking_lot::{Mutex, MutexGuard};

use super::client::Client;
use super::cork;
use super::deadlines::NEAR;
use super::random::system_random;
use super::trace::Untold;
use super::write::write_output;
use super::{Command, Shared};
use crate::foundation::{CloseCode, Completion, Message, UrlError};
use crate::loader::{Env, Event, Loader, Reply, Spare, Traces};
use crate::websocket::Supply;

/// How often a caller's thread writes before it leaves the rest to the reactor.
const ROUNDS: usize = 16;

/// How much gathers under a cork before it is written all the same.
const CORK_LIMIT: usize = 256 * 1024;

/// Where a connection that the reactor does not know stands.
const NO_TOKEN: usize = usize::MAX;

/// One task's connection.
pub struct Connection {
    state: Mutex<State>,
    /// Somebody compresses. Taken before `state`, and never while that is held.
    compressing: Mutex<()>,
    token: AtomicUsize,
    shared: Arc<Shared>,
    untold: Untold,
}

pub(super) struct State {
    pub(super) loader: Loader,
    pub(super) socket: Option<Arc<TcpStream>>,
    /// The deadline that the reactor's timers hold for this connection.
    pub(super) armed: Option<Instant>,
    /// Somebody writes.
    writing: bool,
    /// The kernel took no more; the reactor goes on when the socket is writable.
    blocked: bool,
    /// The socket became writable while somebody was writing.
    writable: bool,
    /// Waits in the list of corked connections.
    corked: bool,
}

/// What a step leaves to be done by the reactor.
#[derive(Default)]
pub(super) struct After {
    /// The reactor's timers must hold this deadline: they hold a later one, or none.
    pub(super) deadline: Option<Instant>,
    /// Nothing is left to do for the connection.
    pub(super) finished: bool,
    /// There is something to do.
    pub(super) has_action: bool,
    /// Something was read that is not looked at yet.
    pub(super) holds: bool,
}

impl After {
    /// Whether the reactor has to do anything.
    pub(super) fn is_settled(&self) -> bool {
        self.deadline.is_none() && !self.finished && !self.has_action
    }
}

/// What steps on this thread use again and again.
struct Scratch {
    supply: Supply,
    spare: Spare,
    events: Vec<Event>,
    traces: Traces,
}

impl Scratch {
    fn new() -> Self {
        Self {
            supply: Supply::new(system_random()),
            spare: Spare::default(),
            events: Vec::new(),
            traces: Traces::default(),
        }
    }

    /// This thread's; a thread that is ending gets one of its own.
    #[inline]
    fn take() -> Box<Self> {
        let kept = SCRATCH.try_with(Cell::take);
        kept.ok().flatten().unwrap_or_else(Self::boxed)
    }

    #[cold]
    fn boxed() -> Box<Self> {
        Box::new(Self::new())
    }

    /// This thread uses it again.
    #[inline(always)]
    fn put_back(mut self: Box<Self>) {
        if self.events.capacity() > EVENTS_KEPT {
            self.events = Vec::new();
        }
        let _ = SCRATCH.try_with(|kept| kept.set(Some(self)));
    }
}

/// How much room for events a thread keeps.
const EVENTS_KEPT: usize = 16 * 1024;

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// Between [`Connection::begin_send`] and [`Connection::end_send`].
struct Sending<S> {
    state: S,
    scratch: Box<Scratch>,
    now: Instant,
    /// It is left to the cork.
    gathers: bool,
    /// The task's callbacks must be put on their queue.
    schedule: bool,
}

type Locked<'a> = Sending<MutexGuard<'a, State>>;

/// The lock is let go for a while.
type Paused = Sending<()>;

/// Lends this thread's scratch.
fn with_scratch<R>(run: impl FnOnce(&mut Scratch) -> R) -> R {
    let mut scratch = Scratch::take();
    let result = run(&mut scratch);
    scratch.put_back();
    result
}

impl Connection {
    /// A connection that does nothing until [`start`](Self::start).
    pub fn new(loader: Loader, reactor: &super::Reactor) -> Self {
        Self {
            state: Mutex::new(State {
                loader,
                socket: None,
                armed: None,
                writing: false,
                blocked: false,
                writable: false,
                corked: false,
            }),
            compressing: Mutex::new(()),
            token: AtomicUsize::new(NO_TOKEN),
            shared: Arc::clone(&reactor.shared),
            untold: Untold::default(),
        }
    }

    // What the session asks for, from any thread.

    /// The first `resume()`. `flaw`: why the task cannot run.
    pub fn start(&self, client: &dyn Client, flaw: Option<UrlError>) {
        self.step(client, |loader, env| loader.start(env, flaw));
        if self.inspect(|loader| loader.is_ended()) {
            return;
        }
        let Some(myself) = client.to_arc() else { return };
        if let Err(error) = self.shared.command(Command::Start(myself)) {
            self.step(client, |loader, env| loader.fail(env, error));
        }
    }

    /// `send`.
    pub fn send(&self, client: &dyn Client, message: Message, handler: Completion<()>) {
        let mut sending = self.begin_send(client, message.len());
        let Sending { state, scratch, now, .. } = &mut sending;
        if state.loader.compresses(message.len()) {
            return self.compress_and_send(client, sending, message, handler);
        }
        state.loader.send(&mut environment(scratch, *now), message, handler);
        self.end_send(client, sending);
    }

    /// `send` of a message that is to be compressed, which the lock is let go for.
    #[inline(never)]
    fn compress_and_send<'a>(
        &'a self,
        client: &dyn Client,
        sending: Locked<'a>,
        message: Message,
        handler: Completion<()>,
    ) {
        let bytes = message.len();
        let waits = !(client.runs_on_reactor() && self.runs_callbacks());
        let paused = self.pause(client, sending);
        // Not where others wait for `compressing`: a subscriber may send, too.
        self.untold.tell(client);
        // The reactor's thread waits for nobody: its message goes as it is, before the one that is being compressed.
        let order = if waits { Some(self.compressing.lock()) } else { self.compressing.try_lock() };
        let mut sending = self.go_on(client, bytes, paused);
        let compression = order.as_ref().and_then(|_| sending.state.loader.begin_compression(bytes));
        let Some(mut compression) = compression else {
            let Sending { state, scratch, now, .. } = &mut sending;
            state.loader.send(&mut environment(scratch, *now), message, handler);
            drop(order);
            return self.end_send(client, sending);
        };
        let mut paused = self.pause(client, sending);
        let outbound = compression.run(message, &mut paused.scratch.supply);
        paused.now = Instant::now();
        let mut sending = self.go_on(client, bytes, paused);
        let Sending { state, scratch, now, .. } = &mut sending;
        state.loader.send_compressed(&mut environment(scratch, *now), bytes, outbound, compression, handler);
        drop(order);
        self.end_send(client, sending);
    }

    /// The lock is let go. What has happened is told to the session before what others do meanwhile.
    fn pause(&self, client: &dyn Client, sending: Locked<'_>) -> Paused {
        let Sending { mut state, mut scratch, now, gathers, mut schedule } = sending;
        schedule |= tell(client, &mut state, &mut scratch);
        drop(state);
        self.schedule(client, schedule);
        Sending { state: (), scratch, now, gathers, schedule: false }
    }

    /// The lock is taken. What a cork holds back is no reason to refuse a message.
    #[inline]
    fn go_on<'a>(&'a self, client: &dyn Client, bytes: usize, paused: Paused) -> Locked<'a> {
        let Sending { state: (), mut scratch, now, gathers, mut schedule } = paused;
        let mut state = self.state.lock();
        if gathers && state.loader.send_queue_is_full_for(bytes) {
            state = self.flush(client, state, &mut scratch, now, &mut schedule);
        }
        Sending { state, scratch, now, gathers, schedule }
    }

    /// `send_ping`.
    pub fn send_ping(&self, client: &dyn Client, handler: Completion<()>) {
        let mut sending = self.begin_send(client, 0);
        let Sending { state, scratch, now, .. } = &mut sending;
        state.loader.send_ping(&mut environment(scratch, *now), handler);
        self.end_send(client, sending);
    }

    /// `cancel`.
    pub fn cancel(&self, client: &dyn Client) {
        self.change(client, |loader, env| loader.cancel(env));
    }

    /// `cancel_with`.
    pub fn cancel_with(&self, client: &dyn Client, code: CloseCode, reason: Option<&[u8]>) {
        self.change(client, |loader, env| loader.cancel_with(env, code, reason));
    }

    /// `suspend` and `resume` of a task that was resumed before. `is_suspended` is asked when it is the caller's turn, so
    /// that of two threads the one that comes last does not undo what counts.
    pub fn set_suspended(&self, client: &dyn Client, is_suspended: impl Fn() -> bool) {
        self.change(client, |loader, env| match is_suspended() {
            true => loader.suspend(env.now),
            false => loader.resume(env.now),
        });
    }

    /// The session takes messages again.
    pub fn read_on(&self, client: &dyn Client) {
        self.change(client, |loader, env| loader.set_reading(true, env.now));
    }

    /// The messages before the server's fault are told. What was sent for them goes out, then the task ends.
    pub fn give_up(&self, client: &dyn Client) {
        self.uncork(client, Instant::now());
        self.change(client, |loader, env| loader.give_up(env));
    }

    /// Everything is told; nothing has to be kept for this task.
    pub fn end_is_told(&self, client: &dyn Client) {
        self.change(client, |loader, _| loader.end_is_told());
    }

    /// The task is given up before it was started: what fails because of that.
    pub fn abandon(&mut self) -> Vec<Event> {
        let mut scratch = Scratch::new();
        self.state.get_mut().loader.cancel(&mut environment(&mut scratch, Instant::now()));
        scratch.events
    }

    /// What the road knows.
    pub fn inspect<R>(&self, look: impl FnOnce(&mut Loader) -> R) -> R {
        look(&mut self.state.lock().loader)
    }

    /// A delegate's reply to the task's question of that number.
    pub fn reply(&self, client: &dyn Client, number: u32, reply: Reply) {
        self.change(client, |loader, env| loader.reply(env, number, reply));
    }

    // How it is done.

    /// A change that the reactor has to look at: of deadlines, actions or reading.
    fn change(&self, client: &dyn Client, change: impl FnOnce(&mut Loader, &mut Env<'_>)) {
        self.step(client, change);
        if self.is_known() {
            self.notify(client);
        }
    }

    /// The reactor has another turn for the task, if it knows it.
    #[cfg(feature = "tracing")]
    pub(super) fn look_again(&self, client: &dyn Client) -> bool {
        let is_known = self.is_known();
        if is_known {
            self.notify(client);
        }
        is_known
    }

    /// What was left to a turn that the reactor will not have any more is told.
    pub(super) fn tell_the_rest(&self, client: &dyn Client) {
        self.untold.tell(client);
    }

    /// The reactor looks at the task.
    fn notify(&self, client: &dyn Client) {
        if let Some(client) = client.to_arc() {
            self.shared.notify(Command::Update(client));
        }
    }

    /// Something of so many bytes is about to be given to the road: to be written at once, or with what else is sent under
    /// the cork.
    #[inline]
    fn begin_send<'a>(&'a self, client: &dyn Client, bytes: usize) -> Locked<'a> {
        let (now, gathers) = match cork::next_send(&self.shared) {
            Some((since, is_first_of_one)) => (since, !is_first_of_one),
            // Whoever sends from elsewhere does not wait for the callbacks that gather here.
            None => (Instant::now(), false),
        };
        self.go_on(client, bytes, Sending { state: (), scratch: Scratch::take(), now, gathers, schedule: false })
    }

    /// It was given.
    #[inline]
    fn end_send<'a>(&'a self, client: &dyn Client, sending: Locked<'a>) {
        let Sending { mut state, mut scratch, now, gathers, mut schedule } = sending;
        if !gathers || state.loader.buffered_amount() >= CORK_LIMIT {
            state = self.flush(client, state, &mut scratch, now, &mut schedule);
        }
        let newly_corked = gathers && !std::mem::replace(&mut state.corked, true);
        schedule |= tell(client, &mut state, &mut scratch);
        drop(state);
        self.untold.tell(client);
        scratch.put_back();
        if newly_corked && let Some(client) = client.to_arc() {
            cork::gathers();
            self.shared.add_corked(client);
        }
        self.schedule(client, schedule);
    }

    /// Whether this thread runs callbacks of the reactor's connections.
    fn runs_callbacks(&self) -> bool {
        cork::is_for(&self.shared)
    }

    /// A step of the road; then what it has to say is written and told.
    pub(super) fn step(&self, client: &dyn Client, step: impl FnOnce(&mut Loader, &mut Env<'_>)) -> After {
        let (after, schedule) = self.step_at(client, Instant::now(), step);
        self.schedule(client, schedule);
        after
    }

    /// A step at a time that is known. Whether the task's callbacks must be put on their queue, which is left to the caller.
    pub(super) fn step_at(
        &self,
        client: &dyn Client,
        now: Instant,
        step: impl FnOnce(&mut Loader, &mut Env<'_>),
    ) -> (After, bool) {
        self.step_with(client, now, false, step)
    }

    /// `urgent`: what there is to write is written under a cork, too.
    fn step_with(
        &self,
        client: &dyn Client,
        now: Instant,
        urgent: bool,
        step: impl FnOnce(&mut Loader, &mut Env<'_>),
    ) -> (After, bool) {
        with_scratch(|scratch| {
            let mut state = self.state.lock();
            let mut schedule = false;
            step(&mut state.loader, &mut environment(scratch, now));
            if urgent || !state.corked {
                state = self.flush(client, state, scratch, now, &mut schedule);
            }
            schedule |= tell(client, &mut state, scratch);
            let deadline = state.loader.next_deadline();
            // One that became later is left to be found out, unless it is no longer worth a place of its own.
            let is_to_be_armed = |deadline: &Instant| match state.armed {
                Some(armed) if *deadline == armed => false,
                Some(armed) => *deadline < armed || deadline.saturating_duration_since(armed) >= NEAR,
                None => true,
            };
            let after = After {
                finished: state.loader.is_finished(),
                has_action: state.loader.has_action(),
                holds: state.loader.has_held(),
                deadline: deadline.filter(is_to_be_armed),
            };
            drop(state);
            self.untold.tell(client);
            (after, schedule)
        })
    }

    #[inline]
    fn schedule(&self, client: &dyn Client, schedule: bool) {
        if schedule && let Some(client) = client.to_arc() {
            super::event_loop::schedule(&self.shared, std::iter::once(client));
        }
    }

    /// What gathered under a cork is written.
    pub(super) fn uncork(&self, client: &dyn Client, now: Instant) {
        let schedule = with_scratch(|scratch| {
            let mut schedule = false;
            let mut state = self.state.lock();
            state.corked = false;
            let mut state = self.flush(client, state, scratch, now, &mut schedule);
            schedule |= tell(client, &mut state, scratch);
            drop(state);
            self.untold.tell(client);
            schedule
        });
        self.schedule(client, schedule);
    }

    /// Writes what the road has to say until there is nothing left or the kernel takes no more.
    ///
    /// The lock is let go while the kernel is called. Whoever comes meanwhile finds `writing` and leaves.
    fn flush<'a>(
        &'a self,
        client: &dyn Client,
        mut state: MutexGuard<'a, State>,
        scratch: &mut Scratch,
        mut now: Instant,
        schedule: &mut bool,
    ) -> MutexGuard<'a, State> {
        if state.writing || state.blocked {
            return state;
        }
        let mut rounds = 0;
        if state.loader.has_no_output() {
            return state;
        }
        let Some(mut output) = state.loader.take_output(&mut environment(scratch, now)) else { return state };
        let Some(mut socket) = state.socket.clone() else {
            state.loader.give_back(&mut environment(scratch, now), output);
            return state;
        };
        state.writing = true;
        loop {
            state.writable = false;
            // What happened up to here is told before what happens while the lock is let go.
            *schedule |= tell(client, &mut state, scratch);
            let result = MutexGuard::unlocked(&mut state, || write_output(&socket, &mut output));
            let asks_for_time = state.loader.asks_for_time();
            if result.is_err() || asks_for_time {
                now = Instant::now();
            }
            let mut env = environment(scratch, now);
            let is_stale = state.loader.output_is_stale();
            let reads = !asks_for_time || state.loader.wants_read();
            state.loader.give_back(&mut env, output);
            // Something may have waited for these bytes: the end, with other deadlines and a socket to be closed, or the next
            // thing to be read.
            if state.loader.has_action() || state.loader.is_ended() || (!reads && state.loader.wants_read()) {
                self.notify(client);
            }
            match result {
                // The task has another socket by now, or will have.
                _ if is_stale => match state.socket.clone() {
                    Some(new) => socket = new,
                    None => break,
                },
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !std::mem::take(&mut state.writable) {
                        state.blocked = true;
                        break;
                    }
                }
                Err(error) => {
                    state.loader.write_failed(&mut env, error);
                    self.notify(client);
                    break;
                }
            }
            if state.loader.has_no_output() {
                break;
            }
            rounds += 1;
            if rounds == ROUNDS {
                self.notify(client);
                break;
            }
            match state.loader.take_output(&mut env) {
                Some(more) => output = more,
                None => break,
            }
        }
        state.writing = false;
        state
    }

    /// The socket goes. What is known of it says nothing of the next.
    pub(super) fn disconnect(&self) {
        let mut state = self.state.lock();
        let socket = state.socket.take();
        state.blocked = false;
        state.writable = false;
        drop(state);
        drop(socket);
    }

    /// The socket is writable: whoever writes goes on, or, where the result is true, the caller's next step does.
    pub(super) fn set_writable(&self) -> bool {
        let mut state = self.state.lock();
        state.writable = true;
        std::mem::take(&mut state.blocked)
    }

    /// The road, for the reactor.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(super) fn token(&self) -> usize {
        self.token.load(Ordering::Acquire)
    }

    /// Whether the reactor has to do with it.
    pub(super) fn is_known(&self) -> bool {
        self.token() != NO_TOKEN
    }

    pub(super) fn set_token(&self, token: Option<usize>) {
        self.token.store(token.unwrap_or(NO_TOKEN), Ordering::Release);
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Connection").field("token", &self.token).finish_non_exhaustive()
    }
}

/// Tells the session what happened, under the lock, so that handlers keep the order of their calls. Whether the task's
/// callbacks must be put on their queue, which is done without the lock.
#[inline(always)]
fn tell(client: &dyn Client, state: &mut State, scratch: &mut Scratch) -> bool {
    #[cfg(feature = "tracing")]
    client.connection().untold.put(&mut scratch.traces);
    !scratch.events.is_empty() && tell_events(client, state, scratch)
}

#[inline(never)]
fn tell_events(client: &dyn Client, state: &mut State, scratch: &mut Scratch) -> bool {
    fit(scratch);
    let delivered = client.deliver(&mut scratch.events, &mut scratch.spare);
    scratch.events.clear();
    if !delivered.keep_reading {
        state.loader.set_reading(false, Instant::now());
    }
    delivered.schedule
}

/// Messages that may wait long take no more memory than they have bytes.
fn fit(scratch: &mut Scratch) {
    for event in &mut scratch.events {
        let Event::Messages(messages) = event else { continue };
        let fitted = match messages.len() {
            1 => messages.pop().map(Event::Message),
            _ => messages.fitted().map(Event::Messages),
        };
        if let Some(fitted) = fitted
            && let Event::Messages(emptied) = std::mem::replace(event, fitted)
        {
            scratch.spare.keep_bundle(emptied);
        }
    }
}

fn environment(scratch: &mut Scratch, now: Instant) -> Env<'_> {
    let Scratch { supply, spare, events, traces } = scratch;
    #[cfg(feature = "tracing")]
    traces.set_watch(super::trace::watch());
    Env { now, supply, spare, events, traces }
}
