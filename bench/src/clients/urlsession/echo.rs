//! One message there and back, then the next.

use std::sync::mpsc::Sender;
use std::time::Instant;

use urlsession::{Message, WebSocketTask};

use super::{check, sent};
use crate::job::Job;
use crate::meter::{Latencies, Meter, Report};
use crate::workload::Kind;

/// Goes from one handler to the next.
struct Echo {
    task: WebSocketTask,
    message: Message,
    kind: Kind,
    size: usize,
    /// Messages until the meter starts, then until it stops.
    remaining: u64,
    count: u64,
    meter: Option<Meter>,
    latencies: Latencies,
    sent_at: Instant,
    over: Sender<Report>,
}

pub fn start(job: &Job, task: WebSocketTask, message: Message, over: Sender<Report>) {
    let (kind, size) = match &message {
        Message::String(text) => (Kind::Text, text.len()),
        Message::Data(data) => (Kind::Binary, data.len()),
        _ => crate::fail("a message of an unknown kind"),
    };
    let latencies = Latencies::new(job.count);
    let (remaining, count) = (job.warm, job.count);
    let sent_at = Instant::now();
    Box::new(Echo { task, message, kind, size, remaining, count, meter: None, latencies, sent_at, over }).next();
}

impl Echo {
    fn next(mut self: Box<Self>) {
        self.sent_at = Instant::now();
        let task = self.task.clone();
        task.send(self.message.clone(), sent);
        task.receive(move |message| self.arrived(message));
    }

    fn arrived(mut self: Box<Self>, message: Result<Message, urlsession::UrlError>) {
        check(message, self.kind, self.size);
        if self.meter.is_some() {
            self.latencies.add(self.sent_at.elapsed());
        }
        self.remaining -= 1;
        if self.remaining > 0 {
            return self.next();
        }
        if let Some(meter) = self.meter {
            let mut report = meter.stop(self.count);
            self.latencies.tell(&mut report);
            // Whoever waits is still there, or does not care any more.
            let _ = self.over.send(report);
        } else {
            self.remaining = self.count;
            self.meter = Some(Meter::start());
            self.next();
        }
    }
}
