//! Echo with many messages on the way; a batch is sent when as many have come back.

use std::sync::mpsc::Sender;

use urlsession::WebSocketTask;

use super::{check, sent};
use crate::job::Job;
use crate::meter::{Meter, Report};
use crate::payload;
use crate::workload::Kind;

/// Goes from one handler to the next.
struct Pipe {
    task: WebSocketTask,
    text: String,
    batch: u64,
    warm: u64,
    count: u64,
    sent: u64,
    received: u64,
    meter: Option<Meter>,
    over: Sender<Report>,
}

pub fn start(job: &Job, task: WebSocketTask, window: u64, batch: u64, over: Sender<Report>) {
    let text = payload::text(Kind::Text, job.workload.size());
    let (warm, count) = (job.warm, job.count);
    let mut pipe = Box::new(Pipe { task, text, batch, warm, count, sent: 0, received: 0, meter: None, over });
    pipe.send(window);
    pipe.next();
}

impl Pipe {
    fn send(&mut self, messages: u64) {
        for _ in 0..messages.min(self.warm + self.count - self.sent) {
            self.task.send(self.text.clone(), sent);
            self.sent += 1;
        }
    }

    fn next(self: Box<Self>) {
        let task = self.task.clone();
        task.receive(move |message| self.arrived(message));
    }

    fn arrived(mut self: Box<Self>, message: Result<urlsession::Message, urlsession::UrlError>) {
        check(message, Kind::Text, self.text.len());
        self.received += 1;
        if self.received == self.warm {
            self.meter = Some(Meter::start());
        }
        if self.received.is_multiple_of(self.batch) {
            self.send(self.batch);
        }
        match self.meter {
            Some(meter) if self.received == self.warm + self.count => {
                // Whoever waits is still there, or does not care any more.
                let _ = self.over.send(meter.stop(self.count));
            }
            _ => self.next(),
        }
    }
}
