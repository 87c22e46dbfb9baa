//! A WebSocket in the terminal: `cargo run --example wscat -- wss://host/path`, and `-- --help` for what else it can do.
//!
//! - `arguments.rs`: the command line.
//! - `session.rs`: the WebSocket and its delegate. It answers challenges, follows redirects and shows messages.
//! - `terminal.rs`: where lines come from and go to; lines are edited where somebody types, and read where not.
//! - here: what happens, one thing after the other, and what is done then. Callbacks only tell of it.

mod arguments;
mod session;
mod terminal;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use arguments::{Arguments, Command, HELP};
use terminal::{Line, Terminal};
use urlsession::{CloseCode, UrlError, WebSocketTask};

/// The program did as it was told, and the server did not.
const FAILED: u8 = 1;

/// The command line cannot be understood.
const USAGE: u8 = 2;

/// How long `-x` waits for its answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long answers are shown behind the end of input.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// Something that happened.
enum Event {
    Open(Option<String>),
    /// A message has arrived, and was shown.
    Shown,
    /// A message was handed to the network.
    Sent,
    Pong(Result<Duration, UrlError>),
    Closed(CloseCode, String),
    Over(Option<UrlError>),
    Line(String),
    EndOfInput,
    /// Input goes on, but cannot be read.
    Unreadable(io::Error),
}

fn main() -> ExitCode {
    let arguments = match Command::parse(std::env::args_os().skip(1)) {
        Ok(Command::Connect(arguments)) => arguments,
        Ok(Command::Help) => {
            // Who has read enough of it goes.
            let _ = io::stdout().write_all(HELP.as_bytes());
            return ExitCode::SUCCESS;
        }
        Ok(Command::Version) => {
            println!("wscat {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Err(error) => return misused(&error),
    };
    let (terminal, input) = Terminal::new(arguments.execute.is_none());
    let (events, happened) = mpsc::channel();
    let task = match session::task(&arguments, terminal.clone(), events.clone()) {
        Ok(task) => task,
        Err(error) => return misused(&error),
    };
    if arguments.insecure {
        terminal.alarm("no certificate is checked: anybody may read this, and answer in the server's place");
    }
    task.resume();
    let (go, read_on) = mpsc::channel();
    let edited = input.is_edited();
    let mut talk = Talk { arguments: &arguments, terminal, task, events, go, edited, deadline: None, closing: false };
    let settings = match &arguments.execute {
        Some(message) => {
            talk.send(message.as_str().into());
            None
        }
        None => {
            let events = talk.events.clone();
            let tell = move |line: io::Result<Option<String>>| {
                let event = match line {
                    Ok(line) => line.map_or(Event::EndOfInput, Event::Line),
                    Err(error) => Event::Unreadable(error),
                };
                drop(events.send(event));
            };
            Some(input.read(tell, read_on))
        }
    };
    let result = talk.run(&happened);
    if let Some(settings) = settings {
        settings.restore();
    }
    match result {
        Ok(told) => {
            if let Some(told) = told {
                eprintln!("{}", terminal::one_line(&told));
            }
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("wscat: {}", terminal::one_line(&failure));
            ExitCode::from(FAILED)
        }
    }
}

fn misused(error: &str) -> ExitCode {
    eprintln!("wscat: {}\n`wscat --help` lists what it can do.", terminal::one_line(error));
    ExitCode::from(USAGE)
}

struct Talk<'a> {
    arguments: &'a Arguments,
    terminal: Terminal,
    task: WebSocketTask,
    events: mpsc::Sender<Event>,
    /// Lets the next line of input be read.
    go: mpsc::Sender<()>,
    /// Somebody types.
    edited: bool,
    /// When this side closes.
    deadline: Option<Instant>,
    /// This side has closed.
    closing: bool,
}

impl Talk<'_> {
    /// Until the end, with what is to be told of it; an error says why it was no good one.
    fn run(&mut self, happened: &mpsc::Receiver<Event>) -> Result<Option<String>, String> {
        let (mut open, mut closed) = (false, None);
        loop {
            let event = match self.deadline.filter(|_| open && !self.closing) {
                None => happened.recv().map_err(|error| error.to_string())?,
                Some(deadline) => match happened.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                    Ok(event) => event,
                    Err(_) if self.arguments.execute.is_some() && self.arguments.wait.is_none() => {
                        return Err("no answer has come".to_owned());
                    }
                    Err(_) => {
                        self.close(None);
                        continue;
                    }
                },
            };
            match event {
                Event::Open(protocol) => {
                    self.opened(protocol.as_deref());
                    open = true;
                    // Input may have ended long before.
                    self.deadline = self.deadline.and_then(|_| self.afterwards());
                }
                Event::Sent => self.sent(),
                Event::Shown if self.arguments.execute.is_some() && self.arguments.wait.is_none() => self.close(None),
                Event::Shown => {}
                Event::Pong(Ok(time)) => self.terminal.note(&format!("pong after {:.1} ms", time.as_secs_f64() * 1e3)),
                Event::Pong(Err(error)) => self.terminal.note(&format!("no pong: {error}")),
                Event::Line(line) => self.line(&line),
                // Whoever typed it has seen the answers.
                Event::EndOfInput if self.edited => self.close(None),
                Event::EndOfInput => self.deadline = self.afterwards(),
                Event::Unreadable(error) => return Err(format!("standard input: {error}")),
                Event::Closed(code, reason) => closed = Some((code, reason)),
                Event::Over(None) => return self.ended(closed),
                Event::Over(Some(error)) => return Err(error.to_string()),
            }
        }
    }

    /// Until when answers are shown that come behind the end of input. `None`: later than the clock can tell, which is for ever.
    fn afterwards(&self) -> Option<Instant> {
        Instant::now().checked_add(self.arguments.wait.unwrap_or(AFTERWARDS))
    }

    fn opened(&self, protocol: Option<&str>) {
        if self.edited || self.arguments.verbose {
            let protocol = protocol.map(|protocol| format!(", subprotocol {protocol}")).unwrap_or_default();
            self.terminal.note(&format!("open{protocol}"));
        }
    }

    fn sent(&mut self) {
        if self.arguments.execute.is_some() {
            self.deadline = Instant::now().checked_add(self.arguments.wait.unwrap_or(PATIENCE));
        }
        self.read_on();
    }

    /// Lets the next line be read; where nobody reads, nobody minds.
    fn read_on(&self) {
        let _ = self.go.send(());
    }

    fn line(&mut self, line: &str) {
        match Line::parse(line) {
            Ok(Line::Send(message)) => return self.send(message),
            Ok(Line::Ping) => self.ping(),
            Ok(Line::Close(with)) => self.close(with),
            Ok(Line::Help) => {
                let commands = HELP.lines().filter(|line| line.starts_with("  /"));
                commands.for_each(|line| self.terminal.note(line));
            }
            Err(error) => self.terminal.note(&error),
        }
        self.read_on();
    }

    fn send(&self, message: urlsession::Message) {
        let events = self.events.clone();
        // Of a failure the delegate hears.
        self.task.send(message, move |_| drop(events.send(Event::Sent)));
    }

    fn ping(&self) {
        let (events, start) = (self.events.clone(), Instant::now());
        self.task.send_ping(move |result| drop(events.send(Event::Pong(result.map(|()| start.elapsed())))));
    }

    fn close(&mut self, with: Option<(CloseCode, String)>) {
        let (code, reason) = with.unwrap_or_else(|| self.arguments.close.clone());
        self.closing = true;
        self.task.cancel_with(code, Some(reason.as_bytes()));
    }

    /// Closed by somebody.
    fn ended(&self, closed: Option<(CloseCode, String)>) -> Result<Option<String>, String> {
        let Some((code, reason)) = closed else { return Err("the end came without a Close".to_owned()) };
        let side = if self.closing { "closed" } else { "closed by the server" };
        let mut told = format!("{side}: {code} {reason}").trim_end().to_owned();
        if let Some(theirs) = self.task.server_close_code().filter(|theirs| *theirs != code) {
            let reason = self.task.server_close_reason().unwrap_or_default();
            let reason = String::from_utf8_lossy(&reason);
            told = format!("{told}; the server: {theirs} {reason}").trim_end().to_owned();
        }
        let clean = [CloseCode::NORMAL_CLOSURE, CloseCode::GOING_AWAY, CloseCode::NO_STATUS_RECEIVED];
        match self.closing || clean.contains(&code) {
            // An answer to `-x` is all that was wanted.
            true if self.closing && self.arguments.execute.is_some() && !self.arguments.verbose => Ok(None),
            true => Ok(Some(told)),
            false => Err(told),
        }
    }
}
