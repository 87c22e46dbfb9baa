//! What a task's handles, the reactor and the queue read and write together, under one lock.

use std::sync::Arc;
use std::time::Duration;

use super::delegate::WebSocketDelegate;
use super::session_task::{SessionTask, TaskState};
use super::web_socket_task::WebSocketTask;
use crate::foundation::{CloseCode, ErrorCode, UrlError};
use crate::loader::{End, Mailbox};

/// What few tasks have. There is none while all of it is as it is by default.
pub(super) struct Extras {
    pub(super) delegate: Option<Arc<dyn WebSocketDelegate>>,
    pub(super) description: Option<String>,
    pub(super) priority: f32,
    /// Why the task cannot be started.
    pub(super) flaw: Option<UrlError>,
    pub(super) watch: Option<Watch>,
}

impl Default for Extras {
    fn default() -> Self {
        Self { delegate: None, description: None, priority: SessionTask::DEFAULT_PRIORITY, flaw: None, watch: None }
    }
}

impl Extras {
    /// A task that cannot be started.
    pub(super) fn with_flaw(flaw: UrlError) -> Box<Self> {
        Box::new(Self { flaw: Some(flaw), ..Self::default() })
    }

    /// A task of whose end somebody of this crate is told.
    pub(super) fn with_watcher(watcher: impl FnOnce(&WebSocketTask, Ended) + Send + 'static) -> Box<Self> {
        let watch = Watch { watcher: Box::new(watcher), ended: Ended::default() };
        Box::new(Self { watch: Some(watch), ..Self::default() })
    }
}

/// Of a task's end, what its handles do not show.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ended {
    /// How long the socket was open, if it ever was.
    pub was_open: Option<Duration>,
    /// It was this side that ended it: by a cancel, with its session, or by a delegate's answer to a challenge.
    pub is_cancelled: bool,
}

/// Who is told when everybody else was.
pub(super) struct Watch {
    pub(super) watcher: Box<Watcher>,
    pub(super) ended: Ended,
}

type Watcher = dyn FnOnce(&WebSocketTask, Ended) + Send;

/// What is read and written together: what the handles show, and what waits for user code.
pub(super) struct Desk {
    pub(super) mailbox: Mailbox,
    facts: Facts,
    pub(super) life: Life,
    pub(super) extras: Option<Box<Extras>>,
    /// The task's callbacks stand in the queue, or run.
    scheduled: bool,
}

/// What handles show of a task that has ended. Written before the callback that tells of it is queued.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) error: Option<UrlError>,
    closes: Option<Box<Closes>>,
}

/// What is known of a close: what the delegate is told, and what the server said.
struct Closes {
    told: Option<(CloseCode, Option<Vec<u8>>)>,
    servers: Option<(CloseCode, Vec<u8>)>,
}

impl Facts {
    fn set_closes(&mut self, told: Option<(CloseCode, Option<Vec<u8>>)>, servers: Option<(CloseCode, Vec<u8>)>) {
        let is_known = told.is_some() || servers.is_some();
        self.closes = is_known.then(|| Box::new(Closes { told, servers }));
    }

    fn told(&self) -> Option<&(CloseCode, Option<Vec<u8>>)> {
        self.closes.as_ref()?.told.as_ref()
    }

    fn servers(&self) -> Option<&(CloseCode, Vec<u8>)> {
        self.closes.as_ref()?.servers.as_ref()
    }

    pub(super) fn close_code(&self) -> Option<CloseCode> {
        self.told().map(|close| close.0)
    }

    pub(super) fn close_reason(&self) -> Option<Vec<u8>> {
        self.told()?.1.clone()
    }

    pub(super) fn server_close_code(&self) -> Option<CloseCode> {
        self.servers().map(|close| close.0)
    }

    pub(super) fn server_close_reason(&self) -> Option<Vec<u8>> {
        self.servers().map(|close| close.1.clone())
    }
}

/// What the caller did with a task.
pub(super) struct Life {
    /// How many `resume()` are missing until it runs.
    pub(super) suspensions: u32,
    pub(super) started: bool,
    pub(super) cancelled: bool,
    /// The session was invalidated before the task was made.
    pub(super) late: bool,
}

impl Desk {
    /// Of a new task. `late`: its session was invalidated before.
    pub(super) fn new(late: bool, extras: Option<Box<Extras>>) -> Self {
        Self {
            mailbox: Mailbox::default(),
            facts: Facts::default(),
            life: Life { suspensions: 1, started: false, cancelled: false, late },
            extras,
            scheduled: false,
        }
    }

    pub(super) fn state(&self) -> TaskState {
        if self.mailbox.is_ending() {
            TaskState::Completed
        } else if self.life.cancelled && self.life.started {
            TaskState::Canceling
        } else if self.life.started && self.life.suspensions == 0 {
            TaskState::Running
        } else {
            TaskState::Suspended
        }
    }

    /// What is known of the end, once it is told. A program that receives as long as there is no close code gets every message
    /// that came before the Close.
    pub(super) fn facts(&self) -> Option<&Facts> {
        self.mailbox.is_ending().then_some(&self.facts)
    }

    /// The end is known: what of it handles show, and who else is told.
    pub(super) fn note_end(&mut self, end: &End) {
        self.facts.error = end.error.clone();
        self.facts.set_closes(end.close.clone(), end.server_close.clone());
        if let Some(watch) = self.extras.as_mut().and_then(|extras| extras.watch.as_mut()) {
            watch.ended.was_open = end.metrics.as_ref().and_then(|metrics| metrics.was_open());
            watch.ended.is_cancelled = end.waiting.code() == ErrorCode::Cancelled;
        }
    }

    /// The task's own delegate.
    pub(super) fn delegate(&self) -> Option<Arc<dyn WebSocketDelegate>> {
        self.extras.as_ref()?.delegate.clone()
    }

    /// Whether the callbacks must be put on the queue now; they are from then on.
    pub(super) fn must_schedule(&mut self) -> bool {
        let must = !self.scheduled && self.mailbox.has_next();
        self.scheduled |= must;
        must
    }

    /// Whether the callbacks stand in the queue, or run.
    pub(super) fn is_scheduled(&self) -> bool {
        self.scheduled
    }

    /// A turn is over, and more is to be run or not.
    pub(super) fn set_scheduled(&mut self, scheduled: bool) {
        self.scheduled = scheduled;
    }
}
