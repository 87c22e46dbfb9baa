//! How one task follows another.
//!
//! ```text
//!   Idle ──resume──► Starting ─────► Running ──its end──► Deciding ──a delay──► Waiting
//!                        ▲                                    │                   │  │
//!                        └─────────────────────── alarm, resume ──────────────────┘  │
//!                                                             └──none──► Stopped ◄───┘ cancel, the session's end
//! ```
//!
//! Each step to [`Starting`](Phase::Starting), [`Deciding`](Phase::Deciding) and [`Stopping`](Phase::Stopping) is made by whoever
//! comes first, under the lock, and puts one announcement on the delegate queue, which makes the next step: so there is never more
//! than one on its way, and user code is called by nothing else. Whoever comes while it is on its way leaves a note
//! ([`Desk::is_over`]).

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::Reconnector;
use super::connection_end::ConnectionEnd;
use super::delegate::ReconnectorDelegate;
use super::policy::ReconnectionPolicy;
use crate::foundation::{CloseCode, UrlRequest};
use crate::reactor::{Alarm, guarded};
use crate::session::{Announcer, Dependent, Ended, UrlSession, WebSocketTask};

/// What the handles of a reconnector share. While it runs, it is held by the announcement, the task or the alarm that makes the
/// next step.
pub(super) struct Course {
    announcer: Announcer,
    desk: Mutex<Desk>,
}

/// What is let go when all is over.
struct Parts {
    session: UrlSession,
    request: UrlRequest,
    delegate: Arc<dyn ReconnectorDelegate>,
    policy: Box<dyn ReconnectionPolicy>,
}

struct Desk {
    phase: Phase,
    /// No further task is to be made.
    is_over: bool,
    /// How a task is to end that was on its way when the cancel came.
    cancel: Option<(CloseCode, Option<Vec<u8>>)>,
    failures: u32,
    /// How many waits there were: an alarm knows whether it is the last one's.
    waits: u64,
    /// Of the last task.
    end: Option<ConnectionEnd>,
    /// Where the session has it in its list.
    place: Option<usize>,
    /// `None` when all is over.
    parts: Option<Arc<Parts>>,
}

enum Phase {
    Idle,
    Starting,
    Running(WebSocketTask),
    Deciding,
    /// Without an alarm while `will_reconnect` is called.
    Waiting(Option<Alarm>),
    Stopping,
    Stopped,
}

/// What a step leads to.
#[derive(PartialEq)]
enum Then {
    /// Whoever makes the next step will come.
    Wait,
    /// The [last](Course::stop).
    Stop,
}

impl Course {
    pub(super) fn new(
        session: &UrlSession,
        request: UrlRequest,
        delegate: Arc<dyn ReconnectorDelegate>,
        policy: Box<dyn ReconnectionPolicy>,
    ) -> Arc<Self> {
        let parts = Parts { session: session.clone(), request, delegate, policy };
        Arc::new(Self {
            announcer: session.announcer(),
            desk: Mutex::new(Desk {
                phase: Phase::Idle,
                is_over: false,
                cancel: None,
                failures: 0,
                waits: 0,
                end: None,
                place: None,
                parts: Some(Arc::new(parts)),
            }),
        })
    }

    pub(super) fn resume(self: &Arc<Self>) {
        let (before, parts) = {
            let mut desk = self.desk.lock();
            if !matches!(desk.phase, Phase::Idle | Phase::Waiting(_)) {
                return;
            }
            (std::mem::replace(&mut desk.phase, Phase::Starting), desk.parts.clone())
        };
        match (before, parts) {
            (Phase::Waiting(Some(alarm)), _) => alarm.cancel(),
            (Phase::Idle, Some(parts)) => {
                let myself: Weak<Self> = Arc::downgrade(self);
                let place = parts.session.attach(myself);
                let mut desk = self.desk.lock();
                desk.is_over |= place.is_none();
                desk.place = place;
            }
            _ => {}
        }
        self.announce(Self::connect);
    }

    pub(super) fn cancel(self: &Arc<Self>, close_code: CloseCode, reason: Option<&[u8]>) {
        let task = {
            let mut desk = self.desk.lock();
            if desk.cancel.is_some() {
                return;
            }
            desk.cancel = Some((close_code, reason.map(<[u8]>::to_vec)));
            desk.task()
        };
        self.end();
        if let Some(task) = task {
            task.cancel_with(close_code, reason);
        }
    }

    /// No further task is made. Where nothing is on its way that would notice, that is all.
    fn end(self: &Arc<Self>) {
        let before = {
            let mut desk = self.desk.lock();
            desk.is_over = true;
            if !matches!(desk.phase, Phase::Idle | Phase::Waiting(_)) {
                return;
            }
            std::mem::replace(&mut desk.phase, Phase::Stopping)
        };
        if let Phase::Waiting(Some(alarm)) = before {
            alarm.cancel();
        }
        self.announce(|_| Then::Stop);
    }

    pub(super) fn task(&self) -> Option<WebSocketTask> {
        self.desk.lock().task()
    }

    /// What `Debug` shows.
    pub(super) fn shown(&self) -> (&'static str, Option<WebSocketTask>, u32) {
        let desk = self.desk.lock();
        (desk.phase.name(), desk.task(), desk.failures)
    }

    /// Makes a step on the delegate queue. Not to be called with the lock held: an executor may run it at once.
    fn announce(self: &Arc<Self>, step: impl FnOnce(&Arc<Self>) -> Then + Send + 'static) {
        let course = Arc::clone(self);
        self.announcer.announce(move || {
            if step(&course) == Then::Stop {
                course.stop();
            }
        });
    }

    /// What the next task is made with, if one is to be made.
    fn parts_to_go_on(&self) -> Option<Arc<Parts>> {
        let desk = self.desk.lock();
        if desk.is_over { None } else { desk.parts.clone() }
    }

    /// [`Phase::Starting`].
    fn connect(self: &Arc<Self>) -> Then {
        let Some(parts) = self.parts_to_go_on() else { return Then::Stop };
        let reconnector = Reconnector(Arc::clone(self));
        let mut request = parts.request.clone();
        guarded(|| parts.delegate.will_connect(&reconnector, &mut request));
        if self.parts_to_go_on().is_none() {
            return Then::Stop;
        }
        let course = Arc::clone(self);
        let task = parts.session.watched_task(request, move |task, ended| course.ended(task, ended));
        let cancel = {
            let mut desk = self.desk.lock();
            // On a concurrent queue the session's delegate may have seen to it that the task has ended.
            if matches!(desk.phase, Phase::Starting) {
                desk.phase = Phase::Running(task.clone());
            }
            desk.cancel.clone()
        };
        match cancel {
            // While the session's delegate was told of the task.
            Some((close_code, reason)) => task.cancel_with(close_code, reason.as_deref()),
            None => {
                guarded(|| parts.delegate.did_create_task(&reconnector, &task));
            }
        }
        task.resume();
        Then::Wait
    }

    /// The end of the task has been told to everybody else.
    fn ended(self: &Arc<Self>, task: &WebSocketTask, ended: Ended) {
        let error = task.error();
        let refusal = error.as_ref().and_then(|error| error.response().cloned());
        let end = ConnectionEnd {
            close_code: task.close_code(),
            close_reason: task.close_reason(),
            response: refusal.or_else(|| task.response()),
            was_open: ended.was_open,
            is_cancelled: ended.is_cancelled,
            failures: 0,
            error,
        };
        let before = {
            let mut desk = self.desk.lock();
            desk.end = Some(end);
            std::mem::replace(&mut desk.phase, Phase::Deciding)
        };
        drop(before);
        self.announce(Self::decide);
    }

    /// [`Phase::Deciding`].
    fn decide(self: &Arc<Self>) -> Then {
        let (parts, end, mut failures) = {
            let desk = self.desk.lock();
            (desk.parts.clone(), desk.end.clone(), desk.failures)
        };
        let (Some(parts), Some(mut end)) = (parts, end) else { return Then::Stop };
        let mut delay = None;
        guarded(|| {
            if end.was_open.is_some_and(|was_open| parts.policy.is_stable(was_open)) {
                failures = 0;
            }
            failures = failures.saturating_add(1);
            end.failures = failures;
            delay = parts.policy.delay(&end);
        });
        let (delay, number) = {
            let mut desk = self.desk.lock();
            desk.failures = failures;
            desk.end = Some(end.clone());
            let Some(delay) = delay.filter(|_| !desk.is_over) else { return Then::Stop };
            desk.phase = Phase::Waiting(None);
            desk.waits += 1;
            (delay, desk.waits)
        };
        guarded(|| parts.delegate.will_reconnect(&Reconnector(Arc::clone(self)), &end, delay));
        let mut desk = self.desk.lock();
        if !desk.waits_in(number) {
            return Then::Wait;
        }
        let course = Arc::clone(self);
        match Alarm::set(delay, move || course.wake(number)) {
            Ok(alarm) => {
                desk.phase = Phase::Waiting(Some(alarm));
                Then::Wait
            }
            // Without a thread it would wait for ever; so somebody is told.
            Err(_) => {
                desk.phase = Phase::Stopping;
                Then::Stop
            }
        }
    }

    /// The alarm of this wait rings.
    pub(super) fn wake(self: &Arc<Self>, number: u64) {
        {
            let mut desk = self.desk.lock();
            if !desk.waits_in(number) {
                return;
            }
            desk.phase = Phase::Starting;
        }
        self.announce(Self::connect);
    }

    /// The last step.
    fn stop(self: &Arc<Self>) {
        let (parts, end, place) = {
            let mut desk = self.desk.lock();
            desk.phase = Phase::Stopped;
            (desk.parts.take(), desk.end.take(), desk.place.take())
        };
        let Some(parts) = parts else { return };
        let session = parts.session.clone();
        guarded(|| {
            // Moved in here: what its drop throws ends here, too.
            let parts = parts;
            parts.delegate.did_stop(&Reconnector(Arc::clone(self)), end.as_ref());
        });
        if let Some(place) = place {
            session.detach(place);
        }
    }
}

impl Dependent for Course {
    fn session_is_invalidated(self: Arc<Self>) {
        self.end();
    }
}

impl Desk {
    fn task(&self) -> Option<WebSocketTask> {
        match &self.phase {
            Phase::Running(task) => Some(task.clone()),
            _ => None,
        }
    }

    fn waits_in(&self, number: u64) -> bool {
        matches!(self.phase, Phase::Waiting(_)) && self.waits == number
    }
}

impl Phase {
    fn name(&self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Starting => "Starting",
            Self::Running(_) => "Running",
            Self::Deciding => "Deciding",
            Self::Waiting(_) => "Waiting",
            Self::Stopping => "Stopping",
            Self::Stopped => "Stopped",
        }
    }
}
