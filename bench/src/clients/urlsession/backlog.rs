//! Sends at once everything to a server that does not read yet.

use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use std::time::Duration;

use urlsession::{Message, WebSocketTask};

use super::{check, sent};
use crate::fail;
use crate::job::Job;
use crate::meter::{Meter, Report, resident};
use crate::server::THANKS;
use crate::workload::Kind;

/// The report is about the messages that wait when the last call has returned; those before are in the kernel.
pub fn run(
    job: &Job,
    task: &WebSocketTask,
    message: &Message,
    answer: &Receiver<Report>,
    over: Sender<Report>,
) -> Report {
    while task.response().is_none() {
        if let Some(error) = task.error() {
            fail(error);
        }
        thread::sleep(Duration::from_millis(10));
    }
    let before = resident();
    let meter = Meter::start();
    for _ in 0..job.count {
        task.send(message.clone(), sent);
    }
    let waiting = (task.buffered_amount() / job.workload.size().max(1)) as u64;
    let mut report = meter.stop(waiting);
    report.resident = Some(resident() - before);
    task.receive(move |message| {
        check(message, Kind::Text, THANKS.len());
        let _ = over.send(Report::default());
    });
    if answer.recv().is_err() {
        fail("no handler is left");
    }
    report
}
