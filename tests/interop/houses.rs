//! The servers that `tests/interop/run` has started on ports of their own choice, what they have logged, and a client of
//! theirs.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::{env, fs};

use urlsession::{
    AuthChallengeDisposition, CloseCode, CredentialPersistence, RootCertificates, SessionConfiguration, TaskMetrics,
    Url, UrlCredential, UrlError, UrlRequest, UrlSession,
};

use crate::support::guide::Guide;
use crate::support::hooks::eventually;
use crate::support::{Events, PATIENCE};

/// As `tests/interop/run` has told the servers: what is not ASCII goes as UTF-8, and what has to be quoted is.
pub const USER: &str = "the \"guest\"";
pub const OTHER_USER: &str = "zoë";
pub const PASSWORD: &str = "Sésame, ouvre-toi";

/// The servers that `tests/interop/run` has started.
pub struct Houses {
    ports: HashMap<String, u16>,
    pub folder: PathBuf,
    /// Whether they listen on `::1`, too.
    pub v6: bool,
}

impl Houses {
    /// `None` where they were not started.
    pub fn find() -> Option<Self> {
        let variable = |name: &str| {
            let value = env::var(format!("URLSESSION_INTEROP_{name}"));
            value.inspect_err(|_| println!("URLSESSION_INTEROP_{name} is not set: there are no such servers")).ok()
        };
        let port = |words: &str| {
            let (name, port) = words.split_once('=').expect("a name and a port");
            (name.to_owned(), port.parse().expect("a port"))
        };
        Some(Self {
            ports: variable("PORTS")?.split_whitespace().map(port).collect(),
            folder: variable("FOLDER")?.into(),
            v6: variable("V6").is_some(),
        })
    }

    #[track_caller]
    pub fn port(&self, name: &str) -> u16 {
        *self.ports.get(name).unwrap_or_else(|| panic!("there is no {name}"))
    }

    pub fn nginx(&self) -> String {
        format!("127.0.0.1:{}", self.port("nginx"))
    }

    /// Its certificate names it.
    pub fn nginx_tls(&self) -> String {
        format!("localhost:{}", self.port("nginx_tls"))
    }

    pub fn httpd(&self) -> String {
        format!("127.0.0.1:{}", self.port("httpd"))
    }

    /// What a port of nginx sends back for everybody, without a password.
    pub fn echo(&self, host: &str, name: &str) -> Url {
        let scheme = if name == "nginx" { "ws" } else { "wss" };
        Url::parse(&format!("{scheme}://{host}:{}/open/", self.port(name))).expect("an address")
    }

    /// The lines of a log with these words, when there are so many of them: an opening is logged when it is closed.
    #[track_caller]
    pub fn logged(&self, log: &str, words: &str, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        eventually(&format!("{count} lines of {log} about {words}"), || {
            let text = fs::read_to_string(self.folder.join(log)).expect("a log");
            // The last one may be half there.
            let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n') && line.contains(words));
            lines = whole.map(|line| line.trim_end().to_owned()).collect();
            lines.len() >= count
        });
        assert_eq!(lines.len(), count, "{lines:#?}");
        lines
    }

    /// Has a storage of its own for cookies and credentials, and trusts the certificate that all of them have.
    pub fn configuration(&self) -> SessionConfiguration {
        let mut configuration = SessionConfiguration::ephemeral();
        let certificate = fs::read(self.folder.join("certificate.pem")).expect("a certificate");
        configuration.root_certificates = RootCertificates::from_pem(&certificate).expect("a certificate");
        configuration
    }
}

/// A session whose delegate answers challenges with the passwords, the last of them for ever.
pub struct Visit {
    pub session: UrlSession,
    pub events: Events,
    metrics: Arc<Mutex<Vec<TaskMetrics>>>,
}

impl Visit {
    pub fn new(houses: &Houses, passwords: &[&str], persistence: CredentialPersistence) -> Self {
        Self::of(USER, houses.configuration(), passwords, persistence)
    }

    pub fn of(
        user: &str,
        configuration: SessionConfiguration,
        passwords: &[&str],
        persistence: CredentialPersistence,
    ) -> Self {
        let (guide, events) = Guide::new();
        let metrics: Arc<Mutex<Vec<TaskMetrics>>> = Arc::default();
        let collected = Arc::clone(&metrics);
        let user = user.to_owned();
        let passwords: Vec<String> = passwords.iter().map(|&password| password.to_owned()).collect();
        let session = guide
            .metrics(move |metrics| collected.lock().unwrap().push(metrics.clone()))
            .challenge(move |challenge, handler| {
                let last = passwords.len().checked_sub(1).expect("nobody was to be asked");
                let password = &passwords[challenge.previous_failure_count().min(last)];
                let credential = UrlCredential::new(&user, password, persistence);
                handler(AuthChallengeDisposition::UseCredential, Some(credential));
            })
            .session(configuration);
        Self { session, events, metrics }
    }

    /// Opens a socket, sends a message, gets it back, closes. What was asked before the socket was open, and where it was.
    #[track_caller]
    pub fn call(&self, request: impl Into<UrlRequest>) -> (Vec<String>, Url) {
        let before = self.events.log().len();
        let task = self.session.web_socket_task(request);
        task.resume();
        while self.events.next() != "open None" {
            assert!(task.error().is_none(), "{:?}", task.error());
        }
        let asked = self.events.log()[before..].iter().filter(|event| *event != "open None").cloned().collect();
        let (sender, receiver) = mpsc::channel();
        task.send("is anybody there", |_| {});
        task.receive(move |message| sender.send(message).unwrap());
        assert_eq!(receiver.recv_timeout(PATIENCE).unwrap().unwrap(), "is anybody there".into());
        task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
        assert_eq!(self.events.next(), "close 1000 None");
        assert_eq!(self.events.next(), "complete None");
        (asked, task.current_request().url)
    }

    /// A task that does not open: why not.
    #[track_caller]
    pub fn fail(&self, request: impl Into<UrlRequest>) -> (UrlError, Option<u16>) {
        let task = self.session.web_socket_task(request);
        task.resume();
        self.events.wait_for("complete -");
        let status = task.response().map(|response| response.status_code());
        (task.error().expect("an error"), status)
    }

    /// How many requests the last task has sent.
    pub fn requests(&self) -> usize {
        self.last().transaction_metrics.len()
    }

    /// Of the last task.
    pub fn last(&self) -> TaskMetrics {
        self.metrics.lock().unwrap().last().expect("the metrics of a task").clone()
    }
}

/// The value of a parameter in a line of a log that shows `Authorization`.
pub fn parameter<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("{name}="))?;
    rest.trim_start_matches(['\\', '"']).split(['\\', '"', ',']).next()
}
