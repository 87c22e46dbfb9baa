//! One task's connection: its road, its socket, and who may touch them when.
//!
//! The road is behind a lock that is held for moments only: no system call is made under it. Whoever has bytes to write
//! (a thread that calls `send`, the reactor) becomes the writer, writes without the lock, and goes on until nothing is
//! left; everybody else leaves what they have with the writer. Only the reactor reads.

use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use mio::net::TcpStream;
use parking_lot::{Mutex, MutexGuard};

use super::client::Client;
use super::random::system_random;
use super::{Command, Shared};
use crate::foundation::{CloseCode, Message, Random, UrlError};
use crate::loader::{Completion, Env, Event, Loader, Output, Tls};

/// How often a caller's thread writes before it leaves the rest to the reactor.
const ROUNDS: usize = 16;

/// How much gathers under a cork before it is written all the same.
const CORK_LIMIT: usize = 256 * 1024;

/// Where a connection that the reactor does not know stands.
const NO_TOKEN: usize = usize::MAX;

/// One task's connection.
pub struct Connection {
    state: Mutex<State>,
    token: AtomicUsize,
    shared: Arc<Shared>,
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
pub(super) struct After {
    pub(super) deadline: Option<Instant>,
    pub(super) finished: bool,
}

/// What steps on this thread use again and again.
struct Scratch {
    random: Random,
    events: Vec<Event>,
}

impl Scratch {
    fn new() -> Self {
        Self { random: system_random(), events: Vec::new() }
    }
}

/// How much room for events a thread keeps.
const EVENTS_KEPT: usize = 16 * 1024;

thread_local! {
    static SCRATCH: RefCell<Option<Box<Scratch>>> = const { RefCell::new(None) };
    /// The reactor whose connections gather what this thread sends; null: each send is written at once.
    static CORK: Cell<*const Shared> = const { Cell::new(std::ptr::null()) };
}

/// Lends this thread's scratch; a thread that is ending gets one of its own.
fn with_scratch<R>(run: impl FnOnce(&mut Scratch) -> R) -> R {
    let kept = SCRATCH.try_with(|scratch| scratch.try_borrow_mut().ok().and_then(|mut scratch| scratch.take()));
    let mut scratch = kept.ok().flatten().unwrap_or_else(|| Box::new(Scratch::new()));
    let result = run(&mut scratch);
    scratch.events.clear();
    scratch.events.shrink_to(EVENTS_KEPT);
    let _ = SCRATCH.try_with(|kept| kept.replace(Some(scratch)));
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
            token: AtomicUsize::new(NO_TOKEN),
            shared: Arc::clone(&reactor.shared),
        }
    }

    // What the session asks for, from any thread.

    /// The first `resume()`.
    pub fn start(&self, client: &Arc<dyn Client>, tls: Result<Tls, UrlError>) {
        self.step(client, |loader, env| loader.start(env, tls));
        if self.inspect(|loader| loader.is_ended()) {
            return;
        }
        if let Err(error) = self.shared.command(Command::Start(Arc::clone(client))) {
            self.step(client, |loader, env| loader.fail(env, error));
        }
    }

    /// `send`.
    pub fn send(&self, client: &Arc<dyn Client>, message: Message, handler: Completion<()>) {
        let bytes = message.len();
        self.write(client, bytes, |loader, env| loader.send(env, message, handler));
    }

    /// `send_ping`.
    pub fn send_ping(&self, client: &Arc<dyn Client>, handler: Completion<()>) {
        self.write(client, 0, |loader, env| loader.send_ping(env, handler));
    }

    /// `cancel`.
    pub fn cancel(&self, client: &Arc<dyn Client>) {
        self.change(client, |loader, env| loader.cancel(env));
    }

    /// `cancel_with`.
    pub fn cancel_with(&self, client: &Arc<dyn Client>, code: CloseCode, reason: Option<&[u8]>) {
        self.change(client, |loader, env| loader.cancel_with(env, code, reason));
    }

    /// `suspend` and `resume` of a task that was resumed before. `is_suspended` is asked when it is the caller's turn, so
    /// that of two threads the one that comes last does not undo what counts.
    pub fn set_suspended(&self, client: &Arc<dyn Client>, is_suspended: impl Fn() -> bool) {
        self.change(client, |loader, env| match is_suspended() {
            true => loader.suspend(env.now),
            false => loader.resume(env.now),
        });
    }

    /// The session takes messages again.
    pub fn read_on(&self, client: &Arc<dyn Client>) {
        self.change(client, |loader, env| loader.set_reading(true, env.now));
    }

    /// The messages before the server's fault are told. What was sent for them goes out, then the task ends.
    pub fn give_up(&self, client: &Arc<dyn Client>) {
        self.uncork(client);
        self.change(client, |loader, env| loader.give_up(env));
    }

    /// Everything is told; nothing has to be kept for this task.
    pub fn end_is_told(&self, client: &Arc<dyn Client>) {
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

    // How it is done.

    /// A change that the reactor has to look at: of deadlines, actions or reading.
    fn change(&self, client: &Arc<dyn Client>, change: impl FnOnce(&mut Loader, &mut Env<'_>)) {
        self.step(client, change);
        if self.token() != NO_TOKEN {
            self.shared.notify(Command::Update(Arc::clone(client)));
        }
    }

    /// Something to write, of so many bytes: at once, or with what else is sent under the cork.
    fn write(&self, client: &Arc<dyn Client>, bytes: usize, give: impl FnOnce(&mut Loader, &mut Env<'_>)) {
        if !self.is_corked() {
            self.step(client, give);
            return;
        }
        let (newly_corked, schedule) = with_scratch(|scratch| {
            let mut state = self.state.lock();
            let now = Instant::now();
            let mut schedule = false;
            if state.loader.send_queue_is_full_for(bytes) {
                // What the cork holds back is no reason to refuse a message.
                state = self.flush(client, state, scratch, &mut schedule);
            }
            give(&mut state.loader, &mut environment(scratch, now));
            if state.loader.buffered_amount() >= CORK_LIMIT {
                state = self.flush(client, state, scratch, &mut schedule);
            }
            let newly_corked = !std::mem::replace(&mut state.corked, true);
            (newly_corked, tell(client, &mut state, scratch, now) | schedule)
        });
        if newly_corked {
            self.shared.add_corked(Arc::clone(client));
        }
        self.schedule(client, schedule);
    }

    /// Whether this thread runs callbacks, whose sends leave together.
    fn is_corked(&self) -> bool {
        CORK.try_with(|cork| std::ptr::eq(cork.get(), Arc::as_ptr(&self.shared))).unwrap_or(false)
    }

    /// A step of the road; then what it has to say is written and told.
    pub(super) fn step(&self, client: &Arc<dyn Client>, step: impl FnOnce(&mut Loader, &mut Env<'_>)) -> After {
        self.step_at(client, Instant::now(), step)
    }

    /// A step at a time that is known.
    pub(super) fn step_at(
        &self,
        client: &Arc<dyn Client>,
        now: Instant,
        step: impl FnOnce(&mut Loader, &mut Env<'_>),
    ) -> After {
        let (after, schedule) = with_scratch(|scratch| {
            let mut state = self.state.lock();
            let mut schedule = false;
            step(&mut state.loader, &mut environment(scratch, now));
            if !state.corked {
                state = self.flush(client, state, scratch, &mut schedule);
            }
            schedule |= tell(client, &mut state, scratch, now);
            (After { deadline: state.loader.next_deadline(), finished: state.loader.is_finished() }, schedule)
        });
        self.schedule(client, schedule);
        after
    }

    fn schedule(&self, client: &Arc<dyn Client>, schedule: bool) {
        if schedule {
            self.shared.scheduled();
            Arc::clone(client).schedule();
        }
    }

    /// What gathered under a cork is written.
    pub(super) fn uncork(&self, client: &Arc<dyn Client>) {
        self.state.lock().corked = false;
        self.step(client, |_, _| {});
    }

    /// Writes what the road has to say until there is nothing left or the kernel takes no more.
    ///
    /// The lock is let go while the kernel is called. Whoever comes meanwhile finds `writing` and leaves.
    fn flush<'a>(
        &'a self,
        client: &Arc<dyn Client>,
        mut state: MutexGuard<'a, State>,
        scratch: &mut Scratch,
        schedule: &mut bool,
    ) -> MutexGuard<'a, State> {
        if state.writing || state.blocked {
            return state;
        }
        let Some(socket) = state.socket.clone() else { return state };
        state.writing = true;
        let mut rounds = 0;
        loop {
            let now = Instant::now();
            let Some(mut output) = state.loader.take_output(&mut environment(scratch, now)) else { break };
            state.writable = false;
            // What happened up to here is told before what happens while the lock is let go.
            *schedule |= tell(client, &mut state, scratch, now);
            let result = MutexGuard::unlocked(&mut state, || write_output(&socket, &mut output));
            let mut env = environment(scratch, Instant::now());
            state.loader.give_back(&mut env, output);
            // The end may have waited for these bytes: there are other deadlines now, or the socket is to be closed.
            if state.loader.has_action() || state.loader.is_ended() {
                self.shared.notify(Command::Update(Arc::clone(client)));
            }
            match result {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !std::mem::take(&mut state.writable) {
                        state.blocked = true;
                        break;
                    }
                }
                Err(error) => {
                    state.loader.write_failed(&mut env, error);
                    self.shared.notify(Command::Update(Arc::clone(client)));
                    break;
                }
            }
            rounds += 1;
            if rounds == ROUNDS {
                self.shared.notify(Command::Update(Arc::clone(client)));
                break;
            }
        }
        state.writing = false;
        state
    }

    /// The socket is writable: whoever writes goes on, or the caller's next step does.
    pub(super) fn set_writable(&self) {
        let mut state = self.state.lock();
        state.blocked = false;
        state.writable = true;
    }

    /// The road, for the reactor.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(super) fn token(&self) -> usize {
        self.token.load(Ordering::Acquire)
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
fn tell(client: &Arc<dyn Client>, state: &mut State, scratch: &mut Scratch, now: Instant) -> bool {
    if scratch.events.is_empty() {
        return false;
    }
    let delivered = client.deliver(&mut scratch.events);
    scratch.events.clear();
    if !delivered.keep_reading {
        state.loader.set_reading(false, now);
    }
    delivered.schedule
}

fn environment(scratch: &mut Scratch, now: Instant) -> Env<'_> {
    Env { now, random: &mut scratch.random, events: &mut scratch.events }
}

/// One system call for all that is given, again only where the kernel took a part of it.
fn write_output(mut socket: &TcpStream, output: &mut Output) -> io::Result<()> {
    while !output.is_empty() {
        let mut slices = Vec::new();
        output.slices(&mut slices);
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        let result = match slices.as_slice() {
            [slice] => socket.write(slice),
            slices => write_vectored(socket, slices),
        };
        match result {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) if written > offered => return Err(io::ErrorKind::InvalidData.into()),
            Ok(written) => output.advance(written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// `writev` raises SIGPIPE where the peer is gone, and a host that is not a Rust program may not ignore it. On Apple's
/// systems mio has told the socket not to.
fn write_vectored(socket: &TcpStream, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
    #[cfg(any(
        target_os = "android",
        target_os = "dragonfly",
        target_os = "freebsd",
        target_os = "linux",
        target_os = "netbsd",
        target_os = "openbsd"
    ))]
    return socket2::SockRef::from(socket).send_vectored_with_flags(slices, libc::MSG_NOSIGNAL);
    #[cfg(not(any(
        target_os = "android",
        target_os = "dragonfly",
        target_os = "freebsd",
        target_os = "linux",
        target_os = "netbsd",
        target_os = "openbsd"
    )))]
    return (&*socket).write_vectored(slices);
}

/// While it lives, what this thread sends on connections of one reactor gathers; when it goes, all of it is written.
#[derive(Debug)]
pub struct Cork {
    shared: Arc<Shared>,
    before: *const Shared,
}

impl Cork {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        let before = CORK.try_with(|cork| cork.replace(Arc::as_ptr(shared))).unwrap_or(std::ptr::null());
        Self { shared: Arc::clone(shared), before }
    }
}

impl Drop for Cork {
    fn drop(&mut self) {
        let _ = CORK.try_with(|cork| cork.set(self.before));
        self.shared.uncork();
    }
}
