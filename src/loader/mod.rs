//! One task's road as a state machine: resolve, connect, TLS, upgrade, open, closing, end.
//!
//! In come the caller's wishes (resume, send, ping, cancel), what the network brought (addresses, bytes, failures), the
//! time, and random bytes. Out go [`Action`]s for the reactor, [`Output`] for the socket, [`Event`]s for the session,
//! and the next deadline. Nothing here has a socket, a thread or a clock, so that a whole task, TLS included, runs in a
//! test on a network that the test makes up.
//!
//! ```text
//! Created ─resume─► Resolving ─► Connecting ─► Securing ─► Upgrading ─101─► Open ─Close─► Lingering ─► Closed
//!                    ▲  │             │            │        ▲  └─else─► Answered ────────────────────────▲
//!                    │  │             │            │        └──────────────┤ redirect, challenge          │
//!                    └──┼─────────────┼────────────┼───────────────────────┘                              │
//!                       └─────────────┴────────────┴───────── failure, cancel ───────────────────────────┘
//! ```
//!
//! Before `Securing`, where a [proxy](route) leads on to the server, comes `Tunnelling` ([`tunnel`]), and before that another
//! `Securing` if the proxy is behind TLS; within `Securing` comes `Presented` where the delegate is asked about certificates
//! ([`trust`]). Where the network is missing a task may wait before it resolves again ([`route`]).
//!
//! An answer that does not open the socket, or the tunnel, is decided where its head arrives, in [`upgrade`]: it ends the task,
//! or a redirect or a challenge leads to the next request ([`detour`]), after a question to the delegate where there is one.

mod challenges;
mod common;
mod connect;
mod cookies;
mod deflation;
mod detour;
mod end;
mod event;
mod mailbox;
mod open;
mod output;
mod pings;
mod question;
mod race;
mod route;
mod sends;
mod spare;
mod timeline;
mod timers;
mod tls;
mod trace;
mod trust;
mod tunnel;
mod upgrade;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use common::{Common, Settings};
pub use event::{Action, End, Event};
pub use mailbox::{Callback, Mailbox};
pub use output::Output;
pub use question::{Question, Reply, Subject};
pub use sends::SentBatch;
pub use spare::Spare;
pub use timeline::Epoch;
pub use timers::{Timer, Timers};
#[cfg(feature = "tracing")]
pub use trace::{Record, Watch};
pub use trace::{Step as TraceStep, Traces};

use crate::foundation::{Completion, ErrorStage, HttpUrlResponse, Message, UrlRequest};
use crate::websocket::{Decoder, Outgoing, Supply};
use deflation::Deflation;
use detour::Detour;
use end::{Cause, Ending, cancelled};
use open::Waiting;
use output::Raw;
use pings::Pings;
use race::Race;
use route::Way;
use sends::Sends;
use timeline::{Mark, Timeline};
use tls::TlsStream;
use trace::FrameTrace;
use trust::Presented;
use tunnel::Tunnelling;
use upgrade::{Answered, Step, Upgrading};

/// How long the server has to close TCP after the end, and what a broken connection still holds to be read.
const LINGER: Duration = Duration::from_secs(2);

/// The shortest time between two turns of a clock that starts again by itself.
const TICK: Duration = Duration::from_millis(1);

/// What each step needs from outside.
#[derive(Debug)]
pub struct Env<'a> {
    /// The time of the step.
    pub now: Instant,
    /// Unpredictable bytes (mask keys and the key of the handshake), and memory for frames.
    pub supply: &'a mut Supply,
    /// Memory for what waits.
    pub spare: &'a mut Spare,
    /// Where the step's events go.
    pub events: &'a mut Vec<Event>,
    /// What is watched.
    pub traces: &'a mut Traces,
}

enum Stage {
    Created,
    Resolving,
    /// The network is missing.
    Waiting,
    Connecting(Box<Race>),
    /// A proxy is asked to lead on to the server.
    Tunnelling(Box<Tunnelling>),
    Securing,
    /// Whoever is at the other end of TLS has shown what he has, and the delegate is asked.
    Presented(Box<Presented>),
    Upgrading(Box<Upgrading>),
    Answered(Box<Answered>),
    Open(Decoder),
    /// The task has ended; the last bytes go out, and the server has a moment to close TCP first (RFC 6455 §7.1.1).
    Lingering {
        /// Nothing is expected from the server: the socket closes when the last byte is out.
        until_written: bool,
    },
    Closed,
}

/// What becomes of the socket at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Linger {
    /// It closes at once.
    No,
    /// The last bytes go out, and the server has a moment to close first.
    Moment,
    /// It closes when the last bytes are out.
    UntilWritten,
}

/// The road of one task.
pub struct Loader {
    settings: Settings,
    stage: Stage,
    /// What secures the road; of a `ws` task, or before `Securing`, none.
    tls: Option<Box<TlsStream>>,
    /// What is kept for the opening.
    prepared: Option<Box<Prepared>>,
    /// Bytes that go out before all frames.
    raw: Option<Box<Raw>>,
    outgoing: Outgoing,
    /// Of an open socket on which messages may be compressed.
    deflation: Option<Box<Deflation>>,
    /// An [`Output`] is with the reactor.
    output_is_out: bool,
    /// It was for a connection that was left since.
    output_is_stale: bool,
    /// Somebody may be asked what is to be done…
    has_delegate: bool,
    /// …and about certificates.
    asks_trust: bool,
    sends: Sends,
    pings: Pings,
    maximum_message_size: usize,
    received: u64,
    ending: Option<Box<Ending>>,
    suspended: bool,
    /// The session takes messages; false under back-pressure.
    reading: bool,
    timers: Timers,
    timeline: Timeline,
    next: Option<Next>,
    /// Of a task whose first answer was another than the one that opens the socket.
    detour: Option<Box<Detour>>,
    frame_trace: FrameTrace,
}

/// What a task needs until its socket is open.
#[derive(Default)]
struct Prepared {
    /// Messages and pings that were asked for.
    waiting: VecDeque<Waiting>,
    way: Way,
}

/// The [`Action`] that the reactor has not taken yet. One is done before the next is asked for, but for `Disconnect`, which
/// takes the place of any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Resolve,
    Connect,
    /// `Disconnect`, then one of those above.
    Reconnect,
    Disconnect,
}

impl Loader {
    /// A task that does nothing until [`resume`](Self::resume).
    pub fn new(settings: Settings, maximum_message_size: usize) -> Self {
        Self {
            settings,
            stage: Stage::Created,
            tls: None,
            prepared: None,
            raw: None,
            outgoing: Outgoing::default(),
            deflation: None,
            output_is_out: false,
            output_is_stale: false,
            has_delegate: false,
            asks_trust: false,
            sends: Sends::default(),
            pings: Pings::default(),
            maximum_message_size,
            received: 0,
            ending: None,
            suspended: false,
            reading: true,
            timers: Timers::default(),
            timeline: Timeline::default(),
            next: None,
            detour: None,
            frame_trace: FrameTrace::default(),
        }
    }

    // What the caller wishes.

    /// `resume()` of a suspended task: its clocks and its bytes move again. (The first one is [`start`](Self::start).)
    pub fn resume(&mut self, now: Instant) {
        if std::mem::take(&mut self.suspended) {
            for timer in [Timer::Request, Timer::Rest, Timer::Attempt, Timer::Connectivity] {
                self.timers.go_on(timer, now);
            }
            self.set_pong_clock(now);
        }
    }

    /// `suspend()` of a running task: nothing is read or written, and no clock runs but that of the resource.
    pub fn suspend(&mut self, now: Instant) {
        if !self.is_ended() && self.closing().is_none() {
            self.suspended = true;
            for timer in [Timer::Request, Timer::Rest, Timer::Attempt, Timer::Connectivity] {
                self.timers.stop(timer, now);
            }
            self.set_pong_clock(now);
        }
    }

    /// `cancel()`: an empty Close if the socket is open, and the end. The first cancel counts.
    pub fn cancel(&mut self, env: &mut Env<'_>) {
        if self.is_ended() {
            return env.events.push(Event::DiscardUnread);
        }
        if self.closing().is_some() {
            return;
        }
        env.events.push(Event::DiscardUnread);
        let open = matches!(self.stage, Stage::Open(_));
        env.traces.step(|| TraceStep::Cancelled { code: None });
        if open {
            self.outgoing.close_now(None, &[]);
        }
        self.end(env, Cause::Cancelled, if open { Linger::Moment } else { Linger::No });
    }

    /// The session told the end, with every message before it; nothing is kept for it any more.
    pub fn end_is_told(&mut self) {
        self.timers.cancel(Timer::Unread);
    }

    /// Whether the session takes more messages. Where not, the socket is not read until it does.
    pub fn set_reading(&mut self, reading: bool, now: Instant) {
        if self.reading != reading {
            self.reading = reading;
            self.set_pong_clock(now);
        }
    }

    /// `maximum_message_size`; 0: none.
    pub fn set_maximum_message_size(&mut self, bytes: usize) {
        self.maximum_message_size = bytes;
        if let Stage::Open(decoder) = &mut self.stage {
            decoder.set_maximum_message_size(bytes);
        }
    }

    /// `maximum_message_size`.
    pub fn maximum_message_size(&self) -> usize {
        self.maximum_message_size
    }

    /// Payload bytes that were given to `send` and not yet to the kernel.
    pub fn buffered_amount(&self) -> usize {
        self.sends.buffered()
    }

    /// Whether a message of so many bytes would pass `maximum_send_queue`.
    #[inline]
    pub fn send_queue_is_full_for(&self, bytes: usize) -> bool {
        let limit = self.settings.common.options.maximum_send_queue;
        limit.is_some_and(|limit| bytes > limit.saturating_sub(self.sends.buffered()))
    }

    /// Payload bytes of messages that were written, and of messages that were received.
    pub fn byte_counts(&self) -> (u64, u64) {
        (self.sends.sent(), self.received)
    }

    /// `current_request`: what the task is on its way with.
    pub fn request(&self) -> &Arc<UrlRequest> {
        &self.settings.request
    }

    /// `response`: the 101 once the socket is open, or the refusal.
    pub fn response(&self) -> Option<HttpUrlResponse> {
        self.timeline.response(&self.settings)
    }

    /// Whether the end is known.
    pub fn is_ended(&self) -> bool {
        self.ended().is_some()
    }

    // What the reactor asks.

    /// Whether there is something to do.
    pub fn has_action(&self) -> bool {
        !self.is_still() && self.next.is_some()
    }

    /// The next thing to do. A suspended task does nothing.
    pub fn next_action(&mut self) -> Option<Action> {
        if self.is_still() {
            return None;
        }
        match self.next.take()? {
            Next::Resolve => self.look_up(),
            Next::Connect => self.next_attempt(),
            Next::Reconnect => {
                self.next = match self.stage {
                    Stage::Resolving => Some(Next::Resolve),
                    Stage::Connecting(_) => Some(Next::Connect),
                    _ => None,
                };
                Some(Action::Disconnect)
            }
            Next::Disconnect => Some(Action::Disconnect),
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, unless something else changes it before.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Whether the socket is to be read.
    pub fn wants_read(&self) -> bool {
        match &self.stage {
            Stage::Securing | Stage::Upgrading(_) => !self.suspended,
            Stage::Tunnelling(tunnelling) => !self.suspended && tunnelling.wants_read(),
            Stage::Answered(answered) => !self.suspended && answered.wants_read(),
            Stage::Open(_) if self.fault().is_some() || self.has_pending_end() => false,
            Stage::Open(_) => !self.suspended && (self.reading || self.closing().is_some()),
            Stage::Lingering { .. } => true,
            Stage::Created
            | Stage::Resolving
            | Stage::Waiting
            | Stage::Connecting(_)
            | Stage::Presented(_)
            | Stage::Closed => false,
        }
    }

    /// Whether nothing is left to do: the socket is closed, and no deadline runs.
    pub fn is_finished(&self) -> bool {
        matches!(self.stage, Stage::Closed) && !self.timers.is_on(Timer::Unread) && self.next.is_none()
    }

    /// A deadline may have passed.
    pub fn handle_timeout(&mut self, env: &mut Env<'_>) {
        // Each at most once: one that starts again at once has its turn in the next call.
        for timer in self.timers.take_expired(env.now) {
            if self.is_ended() && !matches!(timer, Timer::Linger | Timer::Unread) {
                continue;
            }
            match timer {
                Timer::Resource => {
                    let limit = self.settings.common.resource_timeout;
                    self.time_out(
                        env,
                        format!("the task did not end within {limit:?} (timeout_interval_for_resource)"),
                    );
                }
                // It was a proxy that has said nothing.
                Timer::Request if self.goes_another_way(env) => {}
                Timer::Request => {
                    let limit = self.settings.request_timeout();
                    self.time_out(env, format!("nothing was heard for {limit:?} (timeout_interval_for_request)"));
                }
                Timer::Attempt => self.attempt(env),
                Timer::Connectivity => self.look_for_network(env),
                Timer::Close => self.close_timed_out(env),
                Timer::Rest => self.rest_timed_out(env),
                Timer::Linger => self.disconnect(),
                Timer::Unread if self.fault().is_some() => self.give_up(env),
                Timer::Unread => {
                    // Again and again, until the session has told the end: messages may be taken one by one.
                    self.timers.start(Timer::Unread, env.now, self.settings.common.options.close_timeout.max(TICK));
                    env.events.push(Event::UnreadDue);
                }
                Timer::Ping => self.keep_alive(env),
                Timer::Pong => self.pong_timed_out(env),
            }
        }
    }

    /// The stream ended; nothing more comes.
    pub fn end_of_stream(&mut self, env: &mut Env<'_>) {
        match &mut self.stage {
            Stage::Answered(_) => self.answer_is_over(env),
            Stage::Lingering { until_written } => {
                // The server may still read: the last bytes go out.
                *until_written = true;
                if self.broken().is_some() || self.has_said_all() {
                    self.disconnect();
                }
            }
            // It was the connection that the task has left, and a delegate's reply was quicker.
            Stage::Created | Stage::Resolving | Stage::Waiting | Stage::Connecting(_) | Stage::Closed => {}
            Stage::Tunnelling(_) | Stage::Securing | Stage::Presented(_) | Stage::Upgrading(_) | Stage::Open(_) => {
                let error = end::connection_lost(self.error_stage());
                self.lose(env, error);
            }
        }
    }

    /// Reading from the socket failed.
    pub fn read_failed(&mut self, env: &mut Env<'_>, error: std::io::Error) {
        match &self.stage {
            Stage::Lingering { .. } => self.disconnect(),
            Stage::Tunnelling(_) | Stage::Securing | Stage::Presented(_) | Stage::Upgrading(_) | Stage::Open(_) => {
                let error = end::io_error(error, self.error_stage());
                self.lose(env, error);
            }
            _ => self.end_of_stream(env),
        }
    }

    /// Bytes came. All of `input` is taken; where there is TLS, it is decrypted where it lies.
    pub fn receive(&mut self, env: &mut Env<'_>, input: &mut [u8]) {
        self.begin_reading();
        if input.is_empty() || self.tls.is_none() {
            self.restart_request_clock(env.now);
            self.process(env, input);
        } else {
            self.receive_sealed(env, input);
        }
        self.settle(env);
    }

    /// Decrypted bytes, or those of a `ws` task.
    fn process(&mut self, env: &mut Env<'_>, mut input: &[u8]) {
        while !input.is_empty() {
            match &mut self.stage {
                Stage::Upgrading(_) => self.read_head(env, &mut input),
                Stage::Tunnelling(_) => self.read_proxy(env, &mut input),
                Stage::Answered(answered) => {
                    let complete = answered.body.read(input);
                    input = &[];
                    if complete && matches!(answered.step, Step::End(_)) {
                        self.refuse(env);
                    }
                }
                Stage::Open(_) => return self.read_or_hold(env, input),
                _ => return,
            }
        }
    }

    // Small questions.

    /// The part of the way that an error names.
    fn error_stage(&self) -> ErrorStage {
        match self.stage {
            Stage::Lingering { .. } | Stage::Closed => ErrorStage::Close,
            _ if self.proxy().is_some() => ErrorStage::Proxy,
            Stage::Created => ErrorStage::Request,
            Stage::Waiting | Stage::Resolving => ErrorStage::Resolve,
            Stage::Connecting(_) => ErrorStage::Connect,
            Stage::Tunnelling(_) => ErrorStage::Proxy,
            Stage::Securing | Stage::Presented(_) => ErrorStage::Tls,
            Stage::Upgrading(_) | Stage::Answered(_) => ErrorStage::Upgrade,
            Stage::Open(_) => ErrorStage::Open,
        }
    }

    /// Suspended, so that nothing moves. The last bytes of an ended task do.
    fn is_still(&self) -> bool {
        self.suspended && !self.is_ended()
    }

    /// The clock of the request restarts with every byte; it is off once the socket is open.
    fn restart_request_clock(&mut self, now: Instant) {
        if let Stage::Tunnelling(_) | Stage::Securing | Stage::Upgrading(_) = self.stage {
            self.start_clock(Timer::Request, now, self.settings.request_timeout());
        }
    }

    /// A clock that stands still while the task is suspended.
    fn start_clock(&mut self, timer: Timer, now: Instant, delay: Duration) {
        self.timers.start(timer, now, delay);
        if self.suspended {
            self.timers.stop(timer, now);
        }
    }

    fn set_pong_clock(&mut self, now: Instant) {
        if self.suspended || !self.reading || self.has_held() || self.fault().is_some() {
            self.timers.stop(Timer::Pong, now);
        } else {
            self.timers.go_on(Timer::Pong, now);
        }
    }
}

impl fmt::Debug for Loader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::Created => "Created",
            Stage::Resolving => "Resolving",
            Stage::Waiting => "Waiting",
            Stage::Connecting(_) => "Connecting",
            Stage::Tunnelling(_) => "Tunnelling",
            Stage::Presented(_) => "Presented",
            Stage::Securing => "Securing",
            Stage::Upgrading(_) => "Upgrading",
            Stage::Answered(_) => "Answered",
            Stage::Open(_) => "Open",
            Stage::Lingering { .. } => "Lingering",
            Stage::Closed => "Closed",
        };
        formatter
            .debug_struct("Loader")
            .field("stage", &stage)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There may be ten thousand of them: what few tasks need, or need for a moment, belongs into a box.
    #[test]
    #[cfg_attr(not(target_pointer_width = "64"), ignore = "the bounds are those of 64 bits")]
    fn a_loader_is_small() {
        assert!(size_of::<Loader>() <= 344 + size_of::<FrameTrace>(), "{}", size_of::<Loader>());
        assert!(size_of::<Timeline>() <= 88 && size_of::<Decoder>() <= 32 && size_of::<Outgoing>() <= 56);
    }
}
