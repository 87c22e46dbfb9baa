//! A session with a delegate against an echo server: `cargo run --example echo`, or `-- wss://host/path`.
//!
//! Without an argument it starts an echo server of its own on this machine, which declines compression. It sends a text
//! and data, pings, closes with a code and a reason, and prints each callback as it comes, and whether messages are
//! compressed. It exits with 0 if all went well; a failure prints Apple's code, the stage and the reason, and exits
//! with 1.

use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use urlsession::{
    CloseCode, Message, SessionConfiguration, SessionDelegate, SessionTask, TaskDelegate, TaskMetrics, Url, UrlError,
    UrlSession, WebSocketDelegate, WebSocketTask,
};

/// Prints what it is told, and says when all is over.
struct Printer {
    over: mpsc::Sender<Result<(), String>>,
}

impl SessionDelegate for Printer {
    fn did_become_invalid_with_error(&self, _session: &UrlSession, error: Option<&UrlError>) {
        println!("did_become_invalid_with_error: {error:?}");
        // Where the task failed, the first word counts.
        let _ = self.over.send(Ok(()));
    }
}

impl TaskDelegate for Printer {
    fn did_create_task(&self, _session: &UrlSession, task: &SessionTask) {
        println!("did_create_task: task {}", task.task_identifier());
    }

    fn did_finish_collecting_metrics(&self, _session: &UrlSession, _task: &SessionTask, metrics: &TaskMetrics) {
        let (_, duration) = metrics.task_interval;
        println!("did_finish_collecting_metrics: {} transaction(s), {duration:?}", metrics.transaction_metrics.len());
    }

    fn did_complete_with_error(&self, session: &UrlSession, _task: &SessionTask, error: Option<&UrlError>) {
        match error {
            None => println!("did_complete_with_error: None"),
            Some(error) => {
                println!("did_complete_with_error: {error}");
                let failure = format!(
                    "{} {} ({:?})\nstage:  {}\nreason: {}",
                    error.domain(),
                    error.raw_code(),
                    error.code(),
                    error.stage(),
                    error.reason()
                );
                let _ = self.over.send(Err(failure));
            }
        }
        session.finish_tasks_and_invalidate();
    }
}

impl WebSocketDelegate for Printer {
    fn did_open_with_protocol(&self, _session: &UrlSession, task: &WebSocketTask, protocol: Option<&str>) {
        let status = task.response().map(|response| response.status_code());
        println!("did_open_with_protocol: {protocol:?}, status {status:?}");
        println!("compression: {}", compression(task));
        task.send("Hello, WebSocket", |result| println!("send (string): {result:?}"));
        task.send(&[1, 2, 3, 4], |result| println!("send (data): {result:?}"));
        let pinging = task.clone();
        task.send_ping(move |result| {
            println!("send_ping: {result:?}");
            receive(&pinging, 2);
        });
    }

    fn did_close_with(
        &self,
        _session: &UrlSession,
        _task: &WebSocketTask,
        close_code: CloseCode,
        reason: Option<&[u8]>,
    ) {
        let reason = reason.map(String::from_utf8_lossy);
        println!("did_close_with: {close_code}, {reason:?}");
    }
}

/// What the server made of the offer to compress: `permessage-deflate` with its parameters, or `none`.
fn compression(task: &WebSocketTask) -> String {
    let answer = task.response().and_then(|response| response.value("Sec-WebSocket-Extensions"));
    answer.unwrap_or_else(|| "none".to_owned())
}

/// Receives `count` messages one after the other, then closes.
fn receive(task: &WebSocketTask, count: usize) {
    if count == 0 {
        println!("cancel_with: 1000, \"done\"");
        return task.cancel_with(CloseCode::NORMAL_CLOSURE, Some(b"done"));
    }
    let receiving = task.clone();
    task.receive(move |result| {
        match &result {
            Ok(Message::String(text)) => println!("receive: string {text:?}"),
            Ok(Message::Data(data)) => println!("receive: data {data:?}"),
            Ok(_) => println!("receive: a message of a kind that this program does not know"),
            Err(error) => println!("receive: {error}"),
        }
        if result.is_ok() {
            receive(&receiving, count - 1);
        }
    });
}

/// An echo server for one connection, by another library than this one.
fn start_server() -> std::io::Result<Url> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        let (stream, _) = listener.accept().expect("the example connects");
        let mut socket = tungstenite::accept(stream).expect("the example opens a WebSocket");
        while let Ok(message) = socket.read() {
            if message.is_text() || message.is_binary() {
                socket.send(message).expect("the example reads");
            }
        }
    });
    Ok(Url::parse(&format!("ws://{address}/")).expect("an address is a host and a port"))
}

fn main() -> ExitCode {
    let url = match std::env::args().nth(1) {
        Some(address) => match Url::parse(&address) {
            Ok(url) => url,
            Err(error) => {
                eprintln!("{address} is no URL: {error}");
                return ExitCode::FAILURE;
            }
        },
        None => match start_server() {
            Ok(url) => url,
            Err(error) => {
                eprintln!("cannot start an echo server: {error}");
                return ExitCode::FAILURE;
            }
        },
    };
    println!("connecting to {url}");

    let (over, end) = mpsc::channel();
    let delegate = Arc::new(Printer { over });
    let mut configuration = SessionConfiguration::default();
    configuration.timeout_interval_for_request = Duration::from_secs(20);
    let session = UrlSession::with_delegate(configuration, Some(delegate), None);
    session.web_socket_task(url).resume();

    match end.recv_timeout(Duration::from_secs(60)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => {
            eprintln!("\nfailed: {failure}");
            ExitCode::FAILURE
        }
        Err(_) => {
            eprintln!("\nfailed: the server did not answer for a minute");
            ExitCode::FAILURE
        }
    }
}
