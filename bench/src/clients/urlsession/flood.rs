//! Receives, one message after the other.

use std::sync::mpsc::Sender;

use urlsession::{Message, UrlError, WebSocketTask};

use super::check;
use crate::job::Job;
use crate::meter::{Meter, Report};
use crate::workload::Kind;

/// Goes from one handler to the next.
struct Flood {
    task: WebSocketTask,
    kind: Kind,
    size: usize,
    /// Messages until the meter starts, then until it stops.
    remaining: u64,
    count: u64,
    meter: Option<Meter>,
    over: Sender<Report>,
}

pub fn start(job: &Job, task: WebSocketTask, kind: Kind, size: usize, over: Sender<Report>) {
    Box::new(Flood { task, kind, size, remaining: job.warm, count: job.count, meter: None, over }).next();
}

impl Flood {
    fn next(self: Box<Self>) {
        let task = self.task.clone();
        task.receive(move |message| self.arrived(message));
    }

    fn arrived(mut self: Box<Self>, message: Result<Message, UrlError>) {
        check(message, self.kind, self.size);
        self.remaining -= 1;
        if self.remaining > 0 {
            return self.next();
        }
        if let Some(meter) = self.meter {
            // Whoever waits is still there, or does not care any more.
            let _ = self.over.send(meter.stop(self.count));
        } else {
            self.remaining = self.count;
            self.meter = Some(Meter::start());
            self.next();
        }
    }
}
