//! Open connections on which nothing happens, each with a receive that waits.

use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use std::time::Duration;

use urlsession::{SessionDelegate, SessionTask, TaskDelegate, UrlError, UrlSession, WebSocketDelegate, WebSocketTask};

use super::task;
use crate::fail;
use crate::job::Job;
use crate::meter::{Meter, Report, resident};

/// Tells of each opening.
pub struct Openings(pub Sender<()>);

impl SessionDelegate for Openings {}

impl TaskDelegate for Openings {
    fn did_complete_with_error(&self, _session: &UrlSession, _task: &SessionTask, error: Option<&UrlError>) {
        if let Some(error) = error {
            fail(error);
        }
    }
}

impl WebSocketDelegate for Openings {
    fn did_open_with_protocol(&self, _session: &UrlSession, task: &WebSocketTask, _protocol: Option<&str>) {
        task.receive(|message| fail(format_args!("an unexpected message: {message:?}")));
        let _ = self.0.send(());
    }
}

pub fn run(job: &Job, session: &UrlSession, wave: u64, openings: &Receiver<()>) -> Report {
    let mut tasks = Vec::with_capacity(usize::try_from(job.warm + job.count).unwrap_or_default());
    let mut open = |until: u64| {
        while (tasks.len() as u64) < until {
            let wave = wave.min(until - tasks.len() as u64);
            for _ in 0..wave {
                tasks.push(task(job, session, tasks.len()));
            }
            for _ in 0..wave {
                openings.recv().unwrap_or_else(|_| fail("nobody tells of openings"));
            }
        }
    };
    // What follows an opening, such as TLS tickets, has come then.
    let settle = || thread::sleep(Duration::from_millis(100));
    open(job.warm);
    settle();
    let before = resident();
    let meter = Meter::start();
    open(job.warm + job.count);
    let mut report = meter.stop(job.count);
    settle();
    report.resident = Some(resident() - before);
    report
    // The process ends now, and the connections with it.
}
