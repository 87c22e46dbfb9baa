//! This crate, as a program would use it: tasks with completion handlers that ask for the next message themselves.
//!
//! `serial` has the session's own serial delegate queue, which is the default; `immediate` runs the handlers on the
//! reactor thread.

mod backlog;
mod connect;
mod echo;
mod flood;
mod idle;
mod many;
mod pipe;
mod sink;

use std::sync::Arc;
use std::sync::mpsc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use urlsession::{
    Message, OperationQueue, RootCertificates, SessionConfiguration, Url, UrlError, UrlSession, WebSocketDelegate,
    WebSocketTask,
};

use crate::fail;
use crate::job::Job;
use crate::meter::{Report, resident};
use crate::payload::Ring;
use crate::workload::{Compression, Kind, Shape};
use crate::{payload, tls};

/// With the default queue.
pub fn serial(job: &Job) -> Report {
    run(job, None)
}

/// With the immediate queue.
pub fn immediate(job: &Job) -> Report {
    run(job, Some(OperationQueue::immediate()))
}

fn run(job: &Job, queue: Option<OperationQueue>) -> Report {
    let (over, report) = mpsc::channel();
    let session = |delegate| UrlSession::with_delegate(configuration(job), delegate, queue);
    let session = match job.workload.shape {
        Shape::Connect => {
            let delegate: Arc<dyn WebSocketDelegate> = Arc::new(connect::Connect::new(job, over));
            let session = session(Some(delegate));
            session.web_socket_task(url(job, 0)).resume();
            session
        }
        Shape::Idle { wave, .. } => {
            let (opened, openings) = mpsc::channel();
            let delegate: Arc<dyn WebSocketDelegate> = Arc::new(idle::Openings(opened));
            let session = session(Some(delegate));
            // Nothing to call back for: this thread waits itself.
            return idle::run(job, &session, wave, &openings);
        }
        Shape::Backlog { size } => {
            let session = session(None);
            return backlog::run(
                job,
                &task(job, &session, 0),
                &message(Kind::Binary, payload::bytes(Kind::Binary, size)),
                &report,
                over,
            );
        }
        Shape::Echo { kind, size } => {
            let session = session(None);
            echo::start(job, task(job, &session, 0), message(kind, payload::bytes(kind, size)), over);
            session
        }
        Shape::Pipe { window, batch, .. } => {
            let session = session(None);
            pipe::start(job, task(job, &session, 0), window, batch, over);
            session
        }
        Shape::Flood { kind, size } => {
            let session = session(None);
            flood::start(job, task(job, &session, 0), kind, size, over);
            session
        }
        Shape::Sink { size, kind, window, batch } => {
            let session = session(None);
            let messages = Ring::new(kind, size, |payload| message(kind, payload));
            sink::start(job, task(job, &session, 0), messages, window, batch, over);
            session
        }
        Shape::Many { connections, size } => {
            let session = session(None);
            let before = resident();
            let tasks = (0..connections).map(|connection| task(job, &session, connection)).collect();
            many::start(job, tasks, &payload::text(Kind::Text, size), before, over);
            session
        }
    };
    let report = report.recv().unwrap_or_else(|_| fail("no handler is left"));
    session.invalidate_and_cancel();
    report
}

fn configuration(job: &Job) -> SessionConfiguration {
    let mut configuration = SessionConfiguration::default();
    configuration.proxy_configurations = Some(Vec::new());
    let options = &mut configuration.web_socket;
    options.permessage_deflate = job.workload.compression != Compression::Off;
    options.client_no_context_takeover = job.workload.compression == Compression::Anew;
    options.server_no_context_takeover = job.workload.compression == Compression::Anew;
    // As the peers have it: every message is compressed.
    options.compression_threshold = 0;
    if job.is_tls() {
        let root = STANDARD.encode(tls::root());
        let pem = format!("-----BEGIN CERTIFICATE-----\n{root}\n-----END CERTIFICATE-----\n");
        match RootCertificates::from_pem(pem.as_bytes()) {
            Ok(roots) => configuration.root_certificates = roots,
            Err(error) => fail(error),
        }
    }
    configuration
}

fn url(job: &Job, connection: usize) -> Url {
    let url = job.url(connection);
    Url::parse(&url).unwrap_or_else(|error| fail(format_args!("{url}: {error}")))
}

/// A task that has been resumed.
fn task(job: &Job, session: &UrlSession, connection: usize) -> WebSocketTask {
    let task = session.web_socket_task(url(job, connection));
    // A message must be smaller than this; the default is 1 MiB.
    task.set_maximum_message_size(16 << 20);
    task.resume();
    task
}

fn message(kind: Kind, payload: Vec<u8>) -> Message {
    match kind {
        Kind::Binary => payload.into(),
        _ => String::from_utf8(payload).unwrap_or_else(|error| fail(error)).into(),
    }
}

/// A message has come, and it is the one that was expected.
fn check(message: Result<Message, UrlError>, kind: Kind, size: usize) {
    match (message, kind) {
        (Ok(Message::String(text)), Kind::Text | Kind::Utf | Kind::Json) if text.len() == size => {}
        (Ok(Message::Data(data)), Kind::Binary) if data.len() == size => {}
        (Ok(message), _) => fail(format_args!("an unexpected message: {message:.100?}")),
        (Err(error), _) => fail(error),
    }
}

/// The completion handler of a send that nothing waits for.
fn sent(result: Result<(), UrlError>) {
    if let Err(error) = result {
        fail(error);
    }
}
