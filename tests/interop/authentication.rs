//! Passwords, redirects and cookies with servers that others wrote: Basic by nginx, Digest by Apache httpd, whose
//! mod_auth_digest takes a nonce only with the count that is due, and calls it stale when it is old.
//!
//! Each test tells its requests apart in the servers' logs by the query.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::{env, fs};

use urlsession::{
    AuthChallengeDisposition, CloseCode, CredentialPersistence, RootCertificates, SessionConfiguration, TaskMetrics,
    Url, UrlCredential, UrlRequest, UrlSession,
};

use crate::support::guide::Guide;
use crate::support::hooks::eventually;
use crate::support::{Events, PATIENCE};

/// As `tests/interop/run` has told the servers: what is not ASCII goes as UTF-8, and what has to be quoted is.
const USER: &str = "the \"guest\"";
const OTHER_USER: &str = "zoë";
const PASSWORD: &str = "Sésame, ouvre-toi";

/// The servers that `tests/interop/run` has started.
struct Houses {
    nginx: String,
    nginx_tls: String,
    httpd: String,
    folder: PathBuf,
}

impl Houses {
    /// `None` where they were not started.
    fn find() -> Option<Self> {
        let variable = |name: &str| {
            let value = env::var(format!("URLSESSION_INTEROP_{name}"));
            value.inspect_err(|_| println!("URLSESSION_INTEROP_{name} is not set: there is no such server")).ok()
        };
        Some(Self {
            nginx: variable("NGINX")?,
            nginx_tls: variable("NGINX_TLS")?,
            httpd: variable("HTTPD")?,
            folder: variable("FOLDER")?.into(),
        })
    }

    /// Where each of them asks for a password.
    fn doors(&self) -> [Door<'_>; 2] {
        let (nginx, httpd) = (format!("ws://{}/basic/", self.nginx), format!("ws://{}/digest/", self.httpd));
        [
            Door { houses: self, url: nginx, log: "nginx.access", challenge: "challenge basic the upper house" },
            Door { houses: self, url: httpd, log: "httpd.access", challenge: "challenge digest the lower house" },
        ]
    }

    /// The lines of a log with these words, when there are so many of them: an opening is logged when it is closed.
    #[track_caller]
    fn logged(&self, log: &str, words: &str, count: usize) -> Vec<String> {
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

    /// Has a storage of its own for cookies and credentials, and trusts nginx.
    fn configuration(&self) -> SessionConfiguration {
        let mut configuration = SessionConfiguration::ephemeral();
        let certificate = fs::read(self.folder.join("certificate.pem")).expect("a certificate");
        configuration.root_certificates = RootCertificates::from_pem(&certificate).expect("a certificate");
        configuration
    }
}

/// A place where a password is needed.
struct Door<'a> {
    houses: &'a Houses,
    url: String,
    log: &'static str,
    challenge: &'static str,
}

impl Door<'_> {
    fn url(&self, test: &str) -> Url {
        Url::parse(&format!("{}?{test}", self.url)).expect("an address")
    }

    /// The statuses of the answers, in order.
    #[track_caller]
    fn expect_answers(&self, test: &str, statuses: &[u16]) -> Vec<String> {
        let lines = self.houses.logged(self.log, test, statuses.len());
        let logged: Vec<u16> = lines.iter().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
        assert_eq!(logged, statuses, "{lines:#?}");
        lines
    }
}

/// A session whose delegate answers challenges with the passwords, the last of them for ever.
struct Visit {
    session: UrlSession,
    events: Events,
    metrics: Arc<Mutex<Vec<TaskMetrics>>>,
}

impl Visit {
    fn new(houses: &Houses, passwords: &[&str], persistence: CredentialPersistence) -> Self {
        let (guide, events) = Guide::new();
        let metrics: Arc<Mutex<Vec<TaskMetrics>>> = Arc::default();
        let collected = Arc::clone(&metrics);
        let passwords: Vec<String> = passwords.iter().map(|&password| password.to_owned()).collect();
        let session = guide
            .metrics(move |metrics| collected.lock().unwrap().push(metrics.clone()))
            .challenge(move |challenge, handler| {
                let last = passwords.len().checked_sub(1).expect("nobody was to be asked");
                let password = &passwords[challenge.previous_failure_count().min(last)];
                let credential = UrlCredential::new(USER, password, persistence);
                handler(AuthChallengeDisposition::UseCredential, Some(credential));
            })
            .session(houses.configuration());
        Self { session, events, metrics }
    }

    /// Opens a socket, sends a message, gets it back, closes. What was asked before the socket was open, and where it was.
    #[track_caller]
    fn call(&self, request: impl Into<UrlRequest>) -> (Vec<String>, Url) {
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

    /// How many requests the last task has sent.
    fn requests(&self) -> usize {
        self.metrics.lock().unwrap().last().expect("the metrics of a task").transaction_metrics.len()
    }
}

/// The value of a parameter in a line of httpd's log, which shows `Authorization`.
fn parameter<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("{name}="))?;
    rest.trim_start_matches(['\\', '"']).split(['\\', '"', ',']).next()
}

#[test]
fn the_right_password() {
    let Some(houses) = Houses::find() else { return };
    for door in houses.doors() {
        let visit = Visit::new(&houses, &[PASSWORD], CredentialPersistence::None);
        let (asked, _) = visit.call(door.url("right"));
        assert_eq!(asked, [format!("{} 0 -", door.challenge)]);
        door.expect_answers("?right", &[401, 101]);
        // Nothing was kept.
        let (asked, _) = visit.call(door.url("once-more"));
        assert_eq!(asked, [format!("{} 0 -", door.challenge)]);
    }
}

#[test]
fn the_wrong_password_twice() {
    let Some(houses) = Houses::find() else { return };
    for door in houses.doors() {
        let visit = Visit::new(&houses, &["", "open", PASSWORD], CredentialPersistence::ForSession);
        let (asked, _) = visit.call(door.url("wrong"));
        assert_eq!(asked, [0, 1, 2].map(|failures| format!("{} {failures} -", door.challenge)));
        door.expect_answers("?wrong", &[401, 401, 401, 101]);
        // It is the right one that was kept.
        assert!(visit.call(door.url("wrong-before")).0.is_empty());
        door.expect_answers("?wrong-before", &[101]);
    }
}

#[test]
fn what_is_kept_goes_unasked_with_the_next_tasks() {
    let Some(houses) = Houses::find() else { return };
    for door in houses.doors() {
        let visit = Visit::new(&houses, &[PASSWORD], CredentialPersistence::ForSession);
        visit.call(door.url("kept-0"));
        for number in 1..5 {
            let (asked, _) = visit.call(door.url(&format!("kept-{number}")));
            assert!(asked.is_empty(), "{asked:?}");
            assert_eq!(visit.requests(), 1);
        }
        let lines = door.expect_answers("?kept-", &[401, 101, 101, 101, 101, 101]);
        if door.log == "httpd.access" {
            let counts: Vec<_> = lines[1..].iter().map(|line| parameter(line, "nc").expect("a count")).collect();
            assert_eq!(counts, ["00000001", "00000002", "00000003", "00000004", "00000005"]);
            let nonces: Vec<_> = lines[1..].iter().map(|line| parameter(line, " nonce").expect("a nonce")).collect();
            assert!(nonces.iter().all(|nonce| *nonce == nonces[0] && nonce.len() > 20), "{nonces:?}");
        }
    }
}

/// The requests of tasks that open at once come in any order, and httpd refuses a count that is not above those that it has
/// seen, for all nonces of a client together. Most of them are tried again unasked, for few the delegate is asked.
#[test]
fn many_tasks_with_one_nonce() {
    let Some(houses) = Houses::find() else { return };
    for door in houses.doors() {
        let visit = Visit::new(&houses, &[PASSWORD], CredentialPersistence::ForSession);
        visit.call(door.url("many"));
        let tasks: Vec<_> = (0..16).map(|_| visit.session.web_socket_task(door.url("many"))).collect();
        tasks.iter().for_each(|task| task.resume());
        for _ in &tasks {
            visit.events.wait_for("open");
        }
        let log = visit.events.log();
        assert!(!log.iter().any(|event| event.starts_with("complete -")), "{log:?}");
        visit.session.invalidate_and_cancel();
    }
}

/// A nonce that is a second old, or that was used: the request is repeated with a new one, and nobody is asked.
#[test]
fn a_nonce_that_is_stale() {
    let Some(houses) = Houses::find() else { return };
    for place in ["aging", "once"] {
        let visit = Visit::new(&houses, &[PASSWORD], CredentialPersistence::ForSession);
        let url = |number: usize| Url::parse(&format!("ws://{}/{place}/?{place}-{number}", houses.httpd)).unwrap();
        let (asked, _) = visit.call(url(0));
        assert_eq!(asked, ["challenge digest the lower house 0 -"]);
        // One after the other, until one of them was told that the nonce is stale.
        let mut number = 0;
        eventually("a stale nonce", || {
            number += 1;
            let (asked, _) = visit.call(url(number));
            assert!(asked.is_empty(), "{asked:?}");
            visit.requests() == 2
        });
        let about = format!("?{place}-{number} ");
        let lines = houses.logged("httpd.access", &about, 2);
        assert!(lines[0].starts_with("401 ") && lines[1].starts_with("101 "), "{lines:#?}");
        assert_eq!(parameter(&lines[1], "nc"), Some("00000001"));
        assert_ne!(parameter(&lines[0], " nonce"), parameter(&lines[1], " nonce"));
    }
}

#[test]
fn the_user_of_the_address() {
    let Some(houses) = Houses::find() else { return };
    for door in houses.doors() {
        let with = |test: &str, password: &str| {
            let mut url = door.url(test);
            url.set_username(USER).unwrap();
            url.set_password(Some(password)).unwrap();
            url
        };
        let visit = Visit::new(&houses, &[], CredentialPersistence::None);
        assert!(visit.call(with("address", PASSWORD)).0.is_empty());
        door.expect_answers("?address", &[401, 101]);

        // The delegate is asked when that of the address was wrong.
        let visit = Visit::new(&houses, &[PASSWORD], CredentialPersistence::None);
        assert_eq!(visit.call(with("no-address", "open")).0, [format!("{} 1 -", door.challenge)]);
        door.expect_answers("?no-address", &[401, 401, 101]);
    }
}

#[test]
fn redirects_to_where_a_password_is_needed() {
    let Some(houses) = Houses::find() else { return };
    let basic = "challenge basic the upper house 0 -";
    let table = [
        ("relative", "/basic/", format!("ws://{}/basic/", houses.nginx), basic, "nginx.access"),
        ("absolute", "/basic/", format!("ws://{}/basic/", houses.nginx), basic, "nginx.access"),
        ("tls", "/basic/", format!("wss://{}/basic/", houses.nginx_tls), basic, "nginx.access"),
        (
            "httpd",
            "/digest/",
            format!("ws://{}/digest/", houses.httpd),
            "challenge digest the lower house 0 -",
            "httpd.access",
        ),
    ];
    for (way, path, target, challenge, log) in table {
        let visit = Visit::new(&houses, &[PASSWORD], CredentialPersistence::ForSession);
        // nginx and its TLS have one name for this one, so that the cookie is for both.
        let nginx = houses.nginx.replace("127.0.0.1", if way == "tls" { "localhost" } else { "127.0.0.1" });
        let from = |number: usize| Url::parse(&format!("ws://{nginx}/to/{way}?way-{way}-{number}")).unwrap();
        let (asked, url) = visit.call(from(1));
        assert_eq!(asked, [format!("redirect 301 {path}"), challenge.to_owned()], "{way}");
        assert_eq!(url.as_str(), format!("{target}?way-{way}-1"));
        assert_eq!(visit.requests(), 3);

        // The second time nobody is asked for a password.
        let (asked, _) = visit.call(from(2));
        assert_eq!(asked, [format!("redirect 301 {path}")], "{way}");
        assert_eq!(visit.requests(), 2);

        // The cookie of the redirect went with what followed it.
        for (number, statuses) in [(1, vec!["401", "101"]), (2, vec!["101"])] {
            let lines = houses.logged(log, &format!("{path}?way-{way}-{number} "), statuses.len());
            for (line, status) in lines.iter().zip(statuses) {
                assert!(line.starts_with(&format!("{status} ")) && line.contains(&format!(" way={way}")), "{line}");
            }
        }
    }
}

/// Neither server has said `charset=UTF-8`, and both compare bytes.
#[test]
fn a_user_who_is_not_ascii() {
    let Some(houses) = Houses::find() else { return };
    for door in houses.doors() {
        let mut url = door.url("not-ascii");
        url.set_username(OTHER_USER).unwrap();
        url.set_password(Some(PASSWORD)).unwrap();
        let visit = Visit::new(&houses, &[], CredentialPersistence::None);
        assert!(visit.call(url).0.is_empty());
        door.expect_answers("?not-ascii", &[401, 101]);
    }
}
