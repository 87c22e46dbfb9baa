//! A subscriber that comes back: `cargo run --example ticker`, or `-- wss://host/path`.
//!
//! Without an argument it starts a ticker of its own on this machine, which numbers its prices and breaks the connection twice:
//! once it goes without a word, once it closes with 1012, "service restart". A `Reconnector` makes a new task each time; the
//! subscriber asks that one for the prices from the next number on, so that none is missing and none comes twice, and ends when
//! it has them all. It exits with 0 if all went well.
//!
//! A server at another address is sent `from N` and answers with messages of the form `number price`.

use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tungstenite::WebSocket;
use tungstenite::protocol::CloseFrame;
use urlsession::{
    CloseCode, ConnectionEnd, ExponentialBackoff, Message, Reconnector, ReconnectorDelegate, SessionConfiguration, Url,
    UrlRequest, UrlSession, WebSocketTask,
};

/// How many prices are wanted.
const WANTED: u64 = 30;

/// After this many prices the first two connections end.
const PER_CONNECTION: u64 = 10;

/// Prints the prices, and knows where to go on.
struct Subscriber {
    /// The number of the next price.
    next: AtomicU64,
    over: mpsc::Sender<Option<String>>,
}

/// What the reconnector tells.
struct Ticker(Arc<Subscriber>);

impl ReconnectorDelegate for Ticker {
    fn will_connect(&self, _reconnector: &Reconnector, request: &mut UrlRequest) {
        println!("connecting to {}", request.url);
    }

    fn did_create_task(&self, reconnector: &Reconnector, task: &WebSocketTask) {
        // What the task before was sent is gone with it: the new one is told anew.
        let next = self.0.next.load(Ordering::Relaxed);
        println!("task {}: from {next}", task.task_identifier());
        task.send(format!("from {next}"), |_| {});
        receive(Arc::clone(&self.0), reconnector.clone(), task.clone());
    }

    fn will_reconnect(&self, _reconnector: &Reconnector, end: &ConnectionEnd, delay: Duration) {
        println!("lost ({}); failure {}, again in {delay:.0?}", in_words(end), end.failures);
    }

    fn did_stop(&self, _reconnector: &Reconnector, end: Option<&ConnectionEnd>) {
        println!("stopped: {}", end.map_or_else(|| "before the first task".to_owned(), in_words));
        let next = self.0.next.load(Ordering::Relaxed);
        let failure = (next <= WANTED).then(|| format!("price {next} did not come"));
        let _ = self.0.over.send(failure);
    }
}

/// Receives prices one after the other. When the task ends there is nothing to do here: the reconnector goes on.
fn receive(subscriber: Arc<Subscriber>, reconnector: Reconnector, task: WebSocketTask) {
    let receiving = task.clone();
    task.receive(move |message| {
        let Ok(message) = message else { return };
        if let Err(failure) = subscriber.take(&message) {
            let _ = subscriber.over.send(Some(failure));
            return reconnector.cancel();
        }
        if subscriber.next.load(Ordering::Relaxed) > WANTED {
            return reconnector.cancel_with(CloseCode::NORMAL_CLOSURE, Some(b"enough"));
        }
        receive(subscriber, reconnector, receiving);
    });
}

impl Subscriber {
    /// Each number has its turn.
    fn take(&self, message: &Message) -> Result<(), String> {
        let Message::String(text) = message else { return Err("a price is a text".to_owned()) };
        let next = self.next.load(Ordering::Relaxed);
        let number = text.split(' ').next().and_then(|number| number.parse().ok());
        if number != Some(next) {
            return Err(format!("price {next} was expected, not {text:?}"));
        }
        println!("  {text}");
        self.next.store(next + 1, Ordering::Relaxed);
        Ok(())
    }
}

fn in_words(end: &ConnectionEnd) -> String {
    match &end.error {
        Some(error) => format!("{} {:?}", error.raw_code(), error.code()),
        None => format!(
            "close {} {:?}",
            end.close_code,
            String::from_utf8_lossy(end.close_reason.as_deref().unwrap_or(b""))
        ),
    }
}

/// A ticker that breaks two connections, by another library than this one.
fn start_server() -> std::io::Result<Url> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for number in 1.. {
            let (stream, _) = listener.accept().expect("the example connects");
            if let Err(error) = serve(stream, number) {
                println!("the ticker: connection {number}: {error}");
            }
        }
    });
    Ok(Url::parse(&format!("ws://{address}/prices")).expect("an address is a host and a port"))
}

/// Sends prices from the number that the client wants on, one every few milliseconds.
fn serve(stream: TcpStream, connection: u64) -> Result<(), Box<dyn std::error::Error>> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut socket = tungstenite::accept(stream).map_err(|error| error.to_string())?;
    let subscription = socket.read()?;
    let from: u64 = subscription.to_text()?.strip_prefix("from ").ok_or("no subscription")?.parse()?;
    for number in from..=WANTED {
        match connection {
            // Without a Close frame.
            1 if number > PER_CONNECTION => return Ok(()),
            2 if number > 2 * PER_CONNECTION => {
                socket.close(Some(CloseFrame { code: 1012.into(), reason: "service restart".into() }))?;
                return read_to_end(&mut socket);
            }
            _ => {}
        }
        socket.send(format!("{number} {}.{:02}", 100 + number * 7 % 13, number * 37 % 100).into())?;
        thread::sleep(Duration::from_millis(5));
    }
    read_to_end(&mut socket)
}

/// Until both sides have closed.
fn read_to_end(socket: &mut WebSocket<TcpStream>) -> Result<(), Box<dyn std::error::Error>> {
    loop {
        match socket.read() {
            Ok(_) => {}
            Err(tungstenite::Error::ConnectionClosed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
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
                eprintln!("cannot start a ticker: {error}");
                return ExitCode::FAILURE;
            }
        },
    };

    let (over, end) = mpsc::channel();
    let subscriber = Arc::new(Subscriber { next: AtomicU64::new(1), over });
    let mut configuration = SessionConfiguration::default();
    configuration.timeout_interval_for_request = Duration::from_secs(10);
    let session = UrlSession::new(configuration);
    // Half a second for the first wait is much for a server on this machine.
    let mut policy = ExponentialBackoff::default();
    policy.initial_delay = Duration::from_millis(200);
    policy.maximum_attempts = Some(8);
    let reconnector = Reconnector::with_policy(&session, url, Arc::new(Ticker(subscriber)), policy);
    reconnector.resume();

    match end.recv_timeout(Duration::from_secs(60)) {
        Ok(None) => {
            println!("{WANTED} prices, each once");
            ExitCode::SUCCESS
        }
        Ok(Some(failure)) => {
            eprintln!("\nfailed: {failure}");
            ExitCode::FAILURE
        }
        Err(_) => {
            eprintln!("\nfailed: the prices did not come within a minute");
            ExitCode::FAILURE
        }
    }
}
