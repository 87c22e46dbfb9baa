//! A chat in the terminal: `cargo run --example chat`.
//!
//! Without arguments it opens a room on this machine, and two clients talk in it by a script: each is a task with a delegate of
//! its own, and what each would see in its window is printed. Both leave with a Close code. It exits with 0 if all was said and
//! heard, and with 1 if not. To talk yourself, open a room in one terminal and join it from others:
//!
//! ```text
//! cargo run --example chat -- serve 127.0.0.1:9000
//! cargo run --example chat -- join ws://127.0.0.1:9000 Ali
//! ```
//!
//! What you type is said, `/quit` leaves. In this room the first message of a client is its name, every other is said to all
//! the others, and what the room itself has to tell begins with an asterisk.

use std::io::{self, BufRead};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use urlsession::{
    CloseCode, Message, SessionConfiguration, SessionDelegate, SessionTask, TaskDelegate, Url, UrlError, UrlSession,
    WebSocketDelegate, WebSocketTask,
};

const USAGE: &str = "chat [serve ADDRESS:PORT | join ws[s]://SERVER/ NAME]";

/// What a client tells main.
enum Told {
    /// A line that somebody else said, or the room.
    Heard(String),
    Closed(CloseCode),
    Over(Option<UrlError>),
}

/// One client in the room; the delegate of its task.
struct Client {
    name: String,
    told: mpsc::Sender<Told>,
}

impl Client {
    /// Puts a client into the room. What it hears comes to the channel.
    fn join(session: &UrlSession, url: &Url, name: &str) -> (WebSocketTask, mpsc::Receiver<Told>) {
        let (told, listen) = mpsc::channel();
        let task = session.web_socket_task(url);
        task.set_delegate(Some(Arc::new(Self { name: name.to_owned(), told })));
        task.resume();
        (task, listen)
    }

    /// Hears until the end, of which the delegate is told.
    fn receive(task: &WebSocketTask, told: mpsc::Sender<Told>) {
        let receiving = task.clone();
        task.receive(move |result| {
            if let Ok(message) = result {
                if let Message::String(line) = message {
                    // Where main has given up, nobody listens.
                    let _ = told.send(Told::Heard(harmless(&line)));
                }
                Self::receive(&receiving, told);
            }
        });
    }
}

impl SessionDelegate for Client {}

impl TaskDelegate for Client {
    fn did_complete_with_error(&self, _session: &UrlSession, _task: &SessionTask, error: Option<&UrlError>) {
        let _ = self.told.send(Told::Over(error.cloned()));
    }
}

impl WebSocketDelegate for Client {
    fn did_open_with_protocol(&self, _session: &UrlSession, task: &WebSocketTask, _protocol: Option<&str>) {
        task.send(&self.name, |_| ());
        Self::receive(task, self.told.clone());
    }

    fn did_close_with(&self, _session: &UrlSession, _task: &WebSocketTask, code: CloseCode, _reason: Option<&[u8]>) {
        let _ = self.told.send(Told::Closed(code));
    }
}

/// The line without what would move the cursor or change the terminal: nobody in the room may do that to the others.
fn harmless(line: &str) -> String {
    line.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

fn session() -> UrlSession {
    let mut configuration = SessionConfiguration::default();
    configuration.timeout_interval_for_request = Duration::from_secs(20);
    UrlSession::new(configuration)
}

/// What Ali and Ben say, in turns; the one that has nothing more to say leaves.
const SCRIPT: [(&str, &str); 6] = [
    ("Ali", "Hello Ben! Is this a WebSocket?"),
    ("Ben", "It is. There is no runtime in it."),
    ("Ali", "Who calls my delegate, then?"),
    ("Ben", "A queue: the session's own, or one that you pump."),
    ("Ali", "And if nobody says anything?"),
    ("Ben", "Then nothing runs. Good night!"),
];

/// Two clients and a room; nothing else.
fn script() -> Result<(), String> {
    let address = room::open("127.0.0.1:0").map_err(|error| format!("cannot open a room: {error}"))?;
    let url = Url::parse(&format!("ws://{address}/")).expect("an address is a host and a port");
    let session = session();
    let ali = Client::join(&session, &url, "Ali");
    expect(&ali.1, "Ali", "* nobody else is here")?;
    let ben = Client::join(&session, &url, "Ben");
    expect(&ben.1, "Ben", "* here: Ali")?;
    expect(&ali.1, "Ali", "* Ben has come")?;
    for (name, line) in SCRIPT {
        let ((speaker, _), (_, listener), other) = match name {
            "Ali" => (&ali, &ben, "Ben"),
            _ => (&ben, &ali, "Ali"),
        };
        show(name, &format!("> {line}"));
        speaker.send(line, |_| ());
        expect(listener, other, &format!("{name}: {line}"))?;
    }
    leave(&ben, "Ben", CloseCode::NORMAL_CLOSURE, "good night")?;
    expect(&ali.1, "Ali", "* Ben has gone (1000 good night)")?;
    leave(&ali, "Ali", CloseCode::GOING_AWAY, "nobody is here")?;
    session.finish_tasks_and_invalidate();
    Ok(())
}

/// A line in somebody's window.
fn show(window: &str, line: &str) {
    let indent = if window == "Ali" { "" } else { "                                " };
    println!("{indent}[{window}] {line}");
}

fn next(listen: &mpsc::Receiver<Told>, window: &str) -> Result<Told, String> {
    listen.recv_timeout(Duration::from_secs(20)).map_err(|_| format!("{window} has heard nothing"))
}

/// Shows the next thing that a client hears, which must be this.
fn expect(listen: &mpsc::Receiver<Told>, window: &str, expected: &str) -> Result<(), String> {
    match next(listen, window)? {
        Told::Heard(line) if line == expected => {
            show(window, &line);
            Ok(())
        }
        Told::Heard(line) => Err(format!("{window} has heard {line:?} instead of {expected:?}")),
        Told::Closed(code) => Err(format!("{window} was closed with {code} instead of hearing {expected:?}")),
        Told::Over(error) => Err(format!("{window} has ended with {error:?} instead of hearing {expected:?}")),
    }
}

fn leave(
    (task, listen): &(WebSocketTask, mpsc::Receiver<Told>),
    window: &str,
    code: CloseCode,
    reason: &str,
) -> Result<(), String> {
    task.cancel_with(code, Some(reason.as_bytes()));
    match (next(listen, window)?, next(listen, window)?) {
        (Told::Closed(closed), Told::Over(None)) if closed == code => {
            show(window, &format!("(left with {closed}, {reason:?})"));
            Ok(())
        }
        _ => Err(format!("{window} could not leave")),
    }
}

/// What may happen to somebody who sits at a terminal.
enum Happened {
    Typed(String),
    EndOfInput,
    Told(Told),
}

fn join(url: &Url, name: &str) -> Result<(), String> {
    let session = session();
    let (task, listen) = Client::join(&session, url, name);
    let (happened, wait) = mpsc::channel();
    let typed = happened.clone();
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            let _ = typed.send(Happened::Typed(line));
        }
        let _ = typed.send(Happened::EndOfInput);
    });
    thread::spawn(move || listen.into_iter().for_each(|told| drop(happened.send(Happened::Told(told)))));
    for happened in wait {
        match happened {
            Happened::Typed(line) if line.trim() == "/quit" => {
                task.cancel_with(CloseCode::NORMAL_CLOSURE, Some(b"bye"))
            }
            Happened::EndOfInput => task.cancel_with(CloseCode::NORMAL_CLOSURE, Some(b"bye")),
            Happened::Typed(line) if line.trim().is_empty() => {}
            // Of a failure the delegate hears.
            Happened::Typed(line) => task.send(line, |_| ()),
            Happened::Told(Told::Heard(line)) => println!("{line}"),
            Happened::Told(Told::Closed(code)) => println!("(closed with {code})"),
            Happened::Told(Told::Over(None)) => break,
            Happened::Told(Told::Over(Some(error))) => return Err(error.to_string()),
        }
    }
    Ok(())
}

fn serve(address: &str) -> Result<(), String> {
    let address = room::open(address).map_err(|error| format!("cannot open a room at {address}: {error}"))?;
    println!("the room is open: ws://{address}/");
    loop {
        // Until the process is ended.
        thread::park();
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        [] => script(),
        ["serve", address] => serve(address),
        ["join", url, name] => match Url::parse(url) {
            Ok(url) => join(&url, name),
            Err(error) => Err(format!("{url} is no URL: {error}")),
        },
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\nfailed: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// The room, by another WebSocket library than this one.
mod room {
    use std::io::{Read, Result, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::time::Duration;

    use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
    use tungstenite::{Message, WebSocket};

    use super::{Arc, Mutex, harmless, thread};

    /// The longest line, in bytes.
    const LIMIT: usize = 4096;

    /// The most people in a room.
    const PEOPLE: usize = 100;

    /// A connection that one thread reads and others write. Each write is of whole frames.
    #[derive(Clone)]
    struct Line {
        stream: Arc<TcpStream>,
        turn: Arc<Mutex<()>>,
    }

    impl Read for Line {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
            (&*self.stream).read(buffer)
        }
    }

    impl Write for Line {
        fn write(&mut self, bytes: &[u8]) -> Result<usize> {
            let _turn = self.turn.lock().unwrap();
            (&*self.stream).write_all(bytes)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    /// Who is in the room: a number, the name, and the way to them.
    type People = Arc<Mutex<Vec<(usize, String, WebSocket<Line>)>>>;

    /// Opens a room for anybody, until the process ends.
    pub fn open(address: &str) -> Result<SocketAddr> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let people = People::default();
        thread::spawn(move || {
            for (number, stream) in listener.incoming().flatten().enumerate() {
                let people = Arc::clone(&people);
                thread::spawn(move || {
                    let reason = stay(number, stream, &people).unwrap_or_default();
                    let gone = people.lock().unwrap().extract_if(.., |person| person.0 == number).next();
                    if let Some((_, name, _)) = gone {
                        say(&people, None, &format!("* {name} has gone ({reason})"));
                    }
                });
            }
        });
        Ok(address)
    }

    /// Until somebody leaves; with which words. `None`: without any.
    fn stay(number: usize, stream: TcpStream, people: &People) -> Option<String> {
        // Who does not read what is said must not keep it from the others.
        stream.set_write_timeout(Some(Duration::from_secs(5))).ok()?;
        stream.set_nodelay(true).ok()?;
        let line = Line { stream: Arc::new(stream), turn: Arc::default() };
        let config = WebSocketConfig::default().max_message_size(Some(LIMIT)).max_frame_size(Some(LIMIT));
        let mut socket = tungstenite::accept_with_config(line.clone(), Some(config)).ok()?;
        let name = harmless(socket.read().ok()?.to_text().ok()?);
        {
            let mut people = people.lock().unwrap();
            if people.len() >= PEOPLE {
                return None;
            }
            let here: Vec<&str> = people.iter().map(|(_, name, _)| name.as_str()).collect();
            let welcome = match here.as_slice() {
                [] => "* nobody else is here".to_owned(),
                here => format!("* here: {}", here.join(", ")),
            };
            let mut writer = WebSocket::from_raw_socket(line, Role::Server, None);
            writer.send(welcome.into()).ok()?;
            people.push((number, name.clone(), writer));
        }
        say(people, Some(number), &format!("* {name} has come"));
        loop {
            match socket.read().ok()? {
                Message::Text(text) => say(people, Some(number), &format!("{name}: {}", harmless(&text))),
                Message::Close(frame) => {
                    // It has been answered; the answer goes out with the next call.
                    let _ = socket.flush();
                    return Some(match frame {
                        Some(CloseFrame { code, reason }) => harmless(&format!("{code} {reason}")),
                        None => String::new(),
                    });
                }
                _ => {}
            }
        }
    }

    /// Says a line to all but one. Who cannot be reached is told nothing more; their own thread sees them leave.
    fn say(people: &People, but: Option<usize>, line: &str) {
        for (number, _, socket) in people.lock().unwrap().iter_mut() {
            if Some(*number) != but && socket.send(line.into()).is_err() {
                let _ = socket.get_ref().stream.shutdown(std::net::Shutdown::Both);
            }
        }
    }
}
