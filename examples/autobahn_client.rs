//! The client under test of Autobahn|Testsuite: `tests/autobahn/run` starts it against the suite's fuzzing servers.
//!
//! `cargo run --example autobahn_client -- urlsession ws://127.0.0.1:9001` asks the server how many cases there are,
//! runs each of them, sending every message back as it came, and asks for the reports. Several servers share the cases.
//! Some cases break the protocol: that those tasks end with an error is for the server to judge.

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use urlsession::{
    Message, SessionConfiguration, SessionDelegate, SessionTask, TaskDelegate, Url, UrlError, UrlSession,
    WebSocketDelegate, WebSocketTask,
};

/// The largest message of the suite has 16 MiB.
const MAXIMUM_MESSAGE_SIZE: usize = 64 * 1024 * 1024;

/// How long one case may take. The slowest send a thousand messages of 128 KiB, which the server compresses.
const PATIENCE: Duration = Duration::from_secs(300);

/// A task's own delegate: passes its end on.
struct End(mpsc::Sender<Result<(), UrlError>>);

impl SessionDelegate for End {}

impl TaskDelegate for End {
    fn did_complete_with_error(&self, _session: &UrlSession, _task: &SessionTask, error: Option<&UrlError>) {
        // Whoever waited may have lost patience.
        let _ = self.0.send(error.cloned().map_or(Ok(()), Err));
    }
}

impl WebSocketDelegate for End {}

/// Sends every message back. The next one is received when the last has gone, so that nothing piles up.
fn echo(task: &WebSocketTask) {
    let receiver = task.clone();
    task.receive(move |message| {
        // An error is the end of the task, of which its delegate hears.
        if let Ok(message) = message {
            let sender = receiver.clone();
            receiver.send(message, move |sent| {
                if sent.is_ok() {
                    echo(&sender);
                }
            });
        }
    });
}

/// Runs one task to its end. The outer error: it had none.
fn run(session: &UrlSession, url: Url, begin: impl FnOnce(&WebSocketTask)) -> Result<Result<(), UrlError>, String> {
    let (sender, end) = mpsc::channel();
    let task = session.web_socket_task(&url);
    task.set_maximum_message_size(MAXIMUM_MESSAGE_SIZE);
    task.set_delegate(Some(Arc::new(End(sender))));
    begin(&task);
    task.resume();
    end.recv_timeout(PATIENCE).map_err(|_| format!("{url} did not end within {PATIENCE:?}"))
}

/// The one text that the server sends to tell the number of its cases.
fn case_count(session: &UrlSession, url: Url) -> Result<usize, String> {
    let (sender, text) = mpsc::channel();
    run(session, url, |task| task.receive(move |message| drop(sender.send(message))))?.map_err(|e| e.to_string())?;
    match text.recv().map_err(|error| error.to_string())? {
        Ok(Message::String(text)) => text.parse().map_err(|error| format!("{text:?} is no number of cases: {error}")),
        Ok(message) => Err(format!("{message:?} is no number of cases")),
        Err(error) => Err(error.to_string()),
    }
}

/// Runs the next case that nobody has run, until there is none, and asks for the report.
fn run_cases(session: &UrlSession, server: &Url, agent: &str, count: usize, done: &AtomicUsize) -> Result<(), String> {
    loop {
        let case = done.fetch_add(1, Ordering::Relaxed) + 1;
        if case > count {
            break;
        }
        // Its result is for the server to judge; that it has one is for us.
        let _ = run(session, join(server, &format!("runCase?case={case}&agent={agent}"))?, echo)?;
    }
    run(session, join(server, &format!("updateReports?agent={agent}"))?, |_| ())?.map_err(|error| error.to_string())
}

/// Every server has the same cases, and runs one at a time.
fn run_all(agent: &str, servers: &[Url]) -> Result<(), String> {
    let session = UrlSession::new(SessionConfiguration::default());
    let count = case_count(&session, join(&servers[0], "getCaseCount")?)?;
    println!("{count} cases, {} at a time", servers.len());
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        let run_on = |server| {
            let (session, done) = (&session, &done);
            scope.spawn(move || run_cases(session, server, agent, count, done))
        };
        let threads: Vec<_> = servers.iter().map(run_on).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })?;
    session.finish_tasks_and_invalidate();
    Ok(())
}

fn join(server: &Url, reference: &str) -> Result<Url, String> {
    server.join(reference).map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (agent, servers) = match &*arguments {
        [agent, servers @ ..] if !servers.is_empty() => (agent, servers),
        _ => {
            eprintln!("usage: autobahn_client AGENT ws://127.0.0.1:9001 ...");
            return ExitCode::from(2);
        }
    };
    let parse = |server: &String| Url::parse(server).map_err(|error| format!("{server} is no URL: {error}"));
    let servers: Result<Vec<Url>, String> = servers.iter().map(parse).collect();
    match servers.and_then(|servers| run_all(agent, &servers)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("autobahn_client: {error}");
            ExitCode::FAILURE
        }
    }
}
