//! Opens a task and closes it, then the next.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;

use parking_lot::Mutex;
use urlsession::{
    CloseCode, SessionDelegate, SessionTask, TaskDelegate, Url, UrlError, UrlSession, WebSocketDelegate, WebSocketTask,
};

use super::url;
use crate::fail;
use crate::job::Job;
use crate::meter::{Meter, Report};

/// The delegate: an end is the next beginning.
pub struct Connect {
    url: Url,
    warm: u64,
    count: u64,
    ended: AtomicU64,
    closed: AtomicU64,
    meter: Mutex<Option<Meter>>,
    over: Sender<Report>,
}

impl Connect {
    pub fn new(job: &Job, over: Sender<Report>) -> Self {
        Self {
            url: url(job, 0),
            warm: job.warm,
            count: job.count,
            ended: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            meter: Mutex::new(None),
            over,
        }
    }
}

impl SessionDelegate for Connect {}

impl TaskDelegate for Connect {
    fn did_complete_with_error(&self, session: &UrlSession, _task: &SessionTask, error: Option<&UrlError>) {
        if let Some(error) = error {
            fail(error);
        }
        let ended = self.ended.fetch_add(1, Ordering::Relaxed) + 1;
        if ended != self.closed.load(Ordering::Relaxed) {
            fail("a task ended without a close");
        }
        if ended == self.warm {
            *self.meter.lock() = Some(Meter::start());
        }
        if ended < self.warm + self.count {
            session.web_socket_task(&self.url).resume();
        } else if let Some(meter) = *self.meter.lock() {
            // Whoever waits is still there, or does not care any more.
            let _ = self.over.send(meter.stop(self.count));
        }
    }
}

impl WebSocketDelegate for Connect {
    fn did_open_with_protocol(&self, _session: &UrlSession, task: &WebSocketTask, _protocol: Option<&str>) {
        task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
    }

    fn did_close_with(&self, _session: &UrlSession, _task: &WebSocketTask, _code: CloseCode, _reason: Option<&[u8]>) {
        self.closed.fetch_add(1, Ordering::Relaxed);
    }
}
