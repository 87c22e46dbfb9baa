//! One message there and back on each of many connections at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;

use parking_lot::Mutex;
use urlsession::{Message, UrlError, WebSocketTask};

use super::{check, sent};
use crate::job::Job;
use crate::meter::{Meter, Report, resident};
use crate::workload::Kind;

/// What the connections share.
struct Many {
    tasks: Vec<WebSocketTask>,
    text: String,
    /// Connections that are not through with the phase.
    busy: AtomicU64,
    count: u64,
    meter: Mutex<Option<Meter>>,
    /// Resident bytes before the first connection.
    before: i64,
    over: Sender<Report>,
}

pub fn start(job: &Job, tasks: Vec<WebSocketTask>, text: &str, before: i64, over: Sender<Report>) {
    let connections = tasks.len() as u64;
    let (count, text, meter) = (job.count, text.to_owned(), Mutex::new(None));
    let many = Arc::new(Many { tasks, text, busy: AtomicU64::new(0), count, meter, before, over });
    many.begin(job.warm / connections);
}

impl Many {
    /// Each connection does so many.
    fn begin(self: &Arc<Self>, rounds: u64) {
        self.busy.store(self.tasks.len() as u64, Ordering::Relaxed);
        for connection in 0..self.tasks.len() {
            Arc::clone(self).next(connection, rounds);
        }
    }

    fn next(self: Arc<Self>, connection: usize, rounds: u64) {
        let many = Arc::clone(&self);
        let task = &self.tasks[connection];
        task.send(self.text.clone(), sent);
        task.receive(move |message| many.arrived(message, connection, rounds - 1));
    }

    fn arrived(self: Arc<Self>, message: Result<Message, UrlError>, connection: usize, rounds: u64) {
        check(message, Kind::Text, self.text.len());
        if rounds > 0 {
            return self.next(connection, rounds);
        }
        // Handlers of different tasks may run at the same time on other queues than these.
        if self.busy.fetch_sub(1, Ordering::Relaxed) > 1 {
            return;
        }
        let meter = self.meter.lock().take();
        if let Some(meter) = meter {
            let mut report = meter.stop(self.count);
            report.resident = Some(resident() - self.before);
            // Whoever waits is still there, or does not care any more.
            let _ = self.over.send(report);
        } else {
            *self.meter.lock() = Some(Meter::start());
            self.begin(self.count / self.tasks.len() as u64);
        }
    }
}
