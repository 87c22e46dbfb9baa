//! Sends in batches; the completion of a batch's last message sends the next batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;

use parking_lot::Mutex;
use urlsession::{Message, WebSocketTask};

use super::{check, sent};
use crate::job::Job;
use crate::meter::{Meter, Report};
use crate::payload::Ring;
use crate::server::THANKS;
use crate::workload::Kind;

/// What the handlers share. They run one at a time: the numbers need no more than a relaxed order.
struct Sink {
    task: WebSocketTask,
    messages: Ring<Message>,
    batch: u64,
    batches_at_a_time: u64,
    count: u64,
    /// Messages of the phase that nobody has sent.
    unsent: AtomicU64,
    /// Messages of the phase that are not at the kernel.
    remaining: AtomicU64,
    meter: Mutex<Option<Meter>>,
}

pub fn start(job: &Job, task: WebSocketTask, messages: Ring<Message>, window: u64, batch: u64, over: Sender<Report>) {
    let sink = Arc::new(Sink {
        task,
        messages,
        batch,
        batches_at_a_time: window / batch,
        count: job.count,
        unsent: AtomicU64::new(job.warm),
        remaining: AtomicU64::new(job.warm),
        meter: Mutex::new(None),
    });
    let answered = Arc::clone(&sink);
    sink.task.receive(move |message| {
        check(message, Kind::Text, THANKS.len());
        if let Some(meter) = answered.meter.lock().take() {
            // Whoever waits is still there, or does not care any more.
            let _ = over.send(meter.stop(answered.count));
        }
    });
    sink.begin();
}

impl Sink {
    fn begin(self: &Arc<Self>) {
        for _ in 0..self.batches_at_a_time {
            Arc::clone(self).send_batch();
        }
    }

    fn send_batch(self: Arc<Self>) {
        let unsent = self.unsent.load(Ordering::Relaxed);
        let batch = self.batch.min(unsent);
        if batch == 0 {
            return;
        }
        self.unsent.store(unsent - batch, Ordering::Relaxed);
        for _ in 1..batch {
            self.task.send(self.messages.next().clone(), sent);
        }
        let next = Arc::clone(&self);
        self.task.send(self.messages.next().clone(), move |result| {
            sent(result);
            next.batch_is_sent(batch);
        });
    }

    fn batch_is_sent(self: Arc<Self>, batch: u64) {
        let remaining = self.remaining.load(Ordering::Relaxed) - batch;
        self.remaining.store(remaining, Ordering::Relaxed);
        if remaining > 0 {
            return self.send_batch();
        }
        let mut meter = self.meter.lock();
        if meter.is_none() && self.count > 0 {
            // The warm-up is over. The measured phase ends with the server's answer.
            self.unsent.store(self.count, Ordering::Relaxed);
            self.remaining.store(self.count, Ordering::Relaxed);
            *meter = Some(Meter::start());
            drop(meter);
            self.begin();
        }
    }
}
