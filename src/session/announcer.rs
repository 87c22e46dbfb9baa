//! What is told on the delegate queue and does not belong to a task, in order.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::operation_queue::{Lane, LaneRun};
use super::url_session::SessionShared;
use crate::reactor::Work;
use crate::reactor::guarded;

/// Runs things on a session's delegate queue, one after the other, never inside the call that hands them over.
#[derive(Clone)]
pub(crate) struct Announcer(Arc<Announcements>);

impl Announcer {
    pub(super) fn new(session: Weak<SessionShared>) -> Self {
        Self(Arc::new(Announcements { session, state: Mutex::default() }))
    }

    /// Runs this behind what was announced before. To be called without a lock held that a callback may want: an executor
    /// may run it at once.
    pub(crate) fn announce(&self, announcement: impl FnOnce() + Send + 'static) {
        let session = self.0.session.upgrade();
        let schedule = {
            let mut state = self.0.state.lock();
            state.waiting.push_back((Box::new(announcement), session.clone()));
            !std::mem::replace(&mut state.scheduled, true)
        };
        if let (true, Some(session)) = (schedule, session) {
            session.put_on_queue(Arc::clone(&self.0));
        }
    }
}

type Announcement = Box<dyn FnOnce() + Send>;

struct Announcements {
    session: Weak<SessionShared>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Each with the session, which lives until it is told.
    waiting: VecDeque<(Announcement, Option<Arc<SessionShared>>)>,
    scheduled: bool,
}

impl Announcements {
    fn run_one(&self) -> LaneRun {
        let next = self.state.lock().waiting.pop_front();
        let ran = usize::from(next.is_some());
        if let Some((announcement, session)) = next {
            let corked = self.session.upgrade();
            let cork = corked.as_ref().map(|session| session.reactor.cork());
            guarded(announcement);
            drop(cork);
            drop((corked, session));
        }
        let mut state = self.state.lock();
        state.scheduled = !state.waiting.is_empty();
        LaneRun { ran, again: state.scheduled }
    }
}

impl Lane for Announcements {
    fn run(self: Arc<Self>) -> LaneRun {
        self.run_one()
    }

    fn waiting(&self) -> usize {
        self.state.lock().waiting.len()
    }
}

impl Work for Announcements {
    fn run(self: Arc<Self>) {
        let session = self.session.upgrade();
        if let (true, Some(session)) = (self.run_one().again, session) {
            session.put_on_queue(self);
        }
    }
}
