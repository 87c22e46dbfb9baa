//! Calls from inside the questions about certificates, before and after the answer and while it comes from another thread, on
//! every kind of queue: no deadlock, one end, and the delegate is let go.

mod support;

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;

use support::PATIENCE;
use support::authority::{Clients, asking};
use support::origin::{Answer, Origin};
use support::proxy::{HttpProxy, Reply, proxied};
use support::tls::{Authority, BOTH, TRUSTED};
use urlsession::{
    AuthChallengeDisposition, AuthenticationChallenge, AuthenticationMethod, ChallengeHandler, ClientIdentity,
    CloseCode, OperationQueue, SessionDelegate, SessionTask, TaskDelegate, UrlCredential, UrlError, UrlSession,
    WebSocketDelegate, WebSocketTask,
};

static CLIENTS: LazyLock<Authority> = LazyLock::new(|| Authority::new("clients"));

/// What may be done from inside a question, and how the task may end then: it may have opened before it is cancelled.
const ACTIONS: [(&str, &[&str]); 9] = [
    ("cancel", &["complete -999", "open complete -999"]),
    ("cancel_with", &["complete 0", "open complete 0"]),
    ("invalidate", &["complete -999", "open complete -999"]),
    ("finish", &["open complete 0"]),
    ("drop handles", &["open complete 0"]),
    ("suspend and resume", &["open complete 0"]),
    ("resume elsewhere", &["open complete 0"]),
    ("reset", &["open complete 0"]),
    ("calls", &["open complete 0"]),
];

/// When the answer is given.
#[derive(Clone, Copy, Debug)]
enum Answered {
    Before,
    After,
    Meanwhile,
}

/// Trusts everybody, and is somebody.
struct Delegate {
    action: &'static str,
    answered: Answered,
    method: AuthenticationMethod,
    identity: ClientIdentity,
    /// The last handle.
    session: Mutex<Option<UrlSession>>,
    told: Mutex<Sender<String>>,
}

impl Delegate {
    fn tell(&self, what: impl Into<String>) {
        let _ = self.told.lock().unwrap().send(what.into());
    }

    fn act(&self, session: &UrlSession, task: &WebSocketTask) {
        match self.action {
            "cancel" => task.cancel(),
            "cancel_with" => task.cancel_with(CloseCode::GOING_AWAY, None),
            "invalidate" => session.invalidate_and_cancel(),
            "finish" => session.finish_tasks_and_invalidate(),
            "drop handles" => drop(self.session.lock().unwrap().take()),
            "suspend and resume" => {
                task.suspend();
                task.resume();
            }
            "resume elsewhere" => {
                task.suspend();
                let task = task.clone();
                thread::spawn(move || task.resume());
            }
            "reset" => session.reset(|| {}),
            "calls" => {
                task.send("a message", |_| {});
                task.receive(|_| {});
                task.send_ping(|_| {});
            }
            other => unreachable!("{other}"),
        }
    }
}

impl Drop for Delegate {
    fn drop(&mut self) {
        self.tell("let go");
    }
}

impl SessionDelegate for Delegate {
    fn did_become_invalid_with_error(&self, _: &UrlSession, _: Option<&UrlError>) {
        self.tell("invalid");
    }
}

impl TaskDelegate for Delegate {
    fn task_did_receive_challenge(
        &self,
        session: &UrlSession,
        task: &SessionTask,
        challenge: &AuthenticationChallenge,
        handler: ChallengeHandler,
    ) {
        let space = challenge.protection_space();
        let credential = match space.server_trust() {
            Some(trust) => UrlCredential::for_trust(trust),
            None => UrlCredential::with_identity(self.identity.clone()),
        };
        let answer = move || handler(AuthChallengeDisposition::UseCredential, Some(credential));
        if space.authentication_method() != self.method {
            return answer();
        }
        let task = task.as_web_socket_task().unwrap();
        match self.answered {
            Answered::Before => {
                answer();
                self.act(session, &task);
            }
            Answered::After => {
                self.act(session, &task);
                answer();
            }
            Answered::Meanwhile => {
                let answering = thread::spawn(answer);
                self.act(session, &task);
                answering.join().unwrap();
            }
        }
    }

    fn did_complete_with_error(&self, _: &UrlSession, _: &SessionTask, error: Option<&UrlError>) {
        self.tell(format!("complete {}", error.map_or(0, |error| error.raw_code())));
    }
}

impl WebSocketDelegate for Delegate {
    fn did_open_with_protocol(&self, _: &UrlSession, task: &WebSocketTask, _: Option<&str>) {
        self.tell("open");
        task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
    }
}

/// What is told up to `last`.
fn until(told: &Receiver<String>, last: &str, name: &str) -> String {
    let mut all: Vec<String> = Vec::new();
    while all.last().is_none_or(|told| !told.starts_with(last)) {
        all.push(told.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{name}: no {last} after {all:?}")));
    }
    all.join(" ")
}

#[test]
fn calls_from_inside_the_questions() {
    let server = || asking(BOTH, TRUSTED.sign(&["localhost", "127.0.0.1"], |_| ()), &Clients::required(&[&CLIENTS]));
    let origin = Origin::secure(server(), |_| Answer::Open(String::new()));
    let proxy = HttpProxy::secure(server(), |_| Reply::Tunnel);
    let client = CLIENTS.client("somebody");
    let identity = ClientIdentity::from_pem(client.chain.as_bytes(), client.key.as_bytes()).unwrap();
    let queues = [
        || None,
        || Some(OperationQueue::immediate()),
        || Some(OperationQueue::serial()),
        || Some(OperationQueue::new()),
    ];
    for (number, queue) in queues.iter().enumerate() {
        for method in [AuthenticationMethod::ServerTrust, AuthenticationMethod::ClientCertificate] {
            for answered in [Answered::Before, Answered::After, Answered::Meanwhile] {
                for (action, ends) in ACTIONS {
                    let name = format!("{action}, {method:?}, {answered:?}, queue {number}");
                    let (sender, told) = mpsc::channel();
                    let delegate = Arc::new(Delegate {
                        action,
                        answered,
                        method,
                        identity: identity.clone(),
                        session: Mutex::default(),
                        told: Mutex::new(sender),
                    });
                    let configuration = proxied(TRUSTED.configuration(), vec![proxy.configuration()]);
                    let session = UrlSession::with_delegate(configuration, Some(delegate.clone()), queue());
                    let task = session.web_socket_task(origin.url("/"));
                    *delegate.session.lock().unwrap() = Some(session);
                    task.resume();
                    drop(task);
                    let end = until(&told, "complete", &name);
                    assert!(ends.contains(&end.as_str()), "{name}: {end}");
                    drop(delegate.session.lock().unwrap().take());
                    assert_eq!(until(&told, "invalid", &name), "invalid", "{name}");
                    drop(delegate);
                    assert_eq!(until(&told, "let go", &name), "let go", "{name}");
                }
            }
        }
    }
}
