//! A task with calls of every kind waiting, and what is to be seen of its end: a row of the table of ends.

#![allow(dead_code, reason = "each test file uses a part")]

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;

use urlsession::{CloseCode, SessionConfiguration, Url, UrlError, UrlSession, WebSocketTask};

use super::{Events, PATIENCE, Peer, Recorder, Server, recorded_session_with};

/// More than the kernel takes for a server that does not read.
pub const BIG: usize = 32 * 1024 * 1024;

/// What a task shows: state, close code, close reason, error, status of the response.
pub fn facts(task: &WebSocketTask) -> String {
    let reason = task.close_reason().map(|reason| String::from_utf8(reason).unwrap());
    let error = task.error().map(|error| error.raw_code());
    let status = task.response().map(|response| response.status_code());
    format!("{:?} {} {reason:?} {error:?} {status:?}", task.state(), task.close_code())
}

/// A handler that notes its result (0: success) with what the task shows.
pub fn noting<T>(
    recorder: &Recorder,
    task: &WebSocketTask,
    name: String,
) -> impl FnOnce(Result<T, UrlError>) + Send + 'static {
    let (recorder, task) = (recorder.clone(), task.clone());
    move |result| {
        let code = result.map_or_else(|error| error.raw_code(), |_| 0);
        recorder.note(format!("{name} {code} [{}]", facts(&task)));
    }
}

/// Two calls of each kind, none of which a silent server lets succeed; the first ping goes out before a blocked send.
pub fn call_everything(recorder: &Recorder, task: &WebSocketTask) {
    for number in 1..=2 {
        task.receive(noting(recorder, task, format!("receive {number}")));
        task.send_ping(noting(recorder, task, format!("ping {number}")));
        task.send(vec![0; BIG], noting(recorder, task, format!("send {number}")));
    }
}

/// A task with calls of every kind waiting.
pub struct Scene {
    pub server: Option<Server>,
    pub over: Option<Sender<()>>,
    /// Goes last: without a handle the session would be invalidated.
    pub session: UrlSession,
    pub task: WebSocketTask,
    pub recorder: Arc<Recorder>,
    pub events: Events,
}

impl Scene {
    /// Suspended.
    pub fn new(url: &Url, configuration: SessionConfiguration) -> Self {
        let (session, recorder, events) = recorded_session_with(configuration, None);
        let task = session.web_socket_task(url);
        call_everything(&recorder, &task);
        Self { server: None, over: None, session, task, recorder, events }
    }

    /// Open; the script begins when the delegate knows. A connection that it gives back is kept, and not read, until the
    /// scene is over.
    pub fn open(
        configuration: SessionConfiguration,
        script: impl FnOnce(Peer) -> Option<Peer> + Send + 'static,
    ) -> Self {
        let (go, ready) = mpsc::channel::<()>();
        let (over, is_over) = mpsc::channel();
        let server = Server::one(move |mut peer| {
            peer.open();
            ready.recv_timeout(PATIENCE).unwrap();
            let kept = script(peer);
            assert_eq!(is_over.recv_timeout(2 * PATIENCE), Err(RecvTimeoutError::Disconnected));
            drop(kept);
        });
        let mut scene = Self::new(&server.url(), configuration);
        scene.server = Some(server);
        scene.over = Some(over);
        scene.task.resume();
        scene.events.wait_for("open None");
        go.send(()).unwrap();
        scene
    }

    /// The whole end: what waited, the order, what is read meanwhile, later calls.
    #[track_caller]
    pub fn expect(mut self, row: &Row) {
        self.events.wait_for("complete");
        let log = self.events.log();
        let beginning = usize::from(row.opened);
        let tail: Vec<&str> = row.close.into_iter().chain(["metrics", row.complete]).collect();
        assert_eq!(row.opened, log[0] == "open None", "{log:#?}");
        assert_eq!(log.len(), beginning + 6 + tail.len(), "{log:#?}");
        assert_eq!(log[beginning + 6..], tail, "{log:#?}");
        for kind in ["receive", "send", "ping"] {
            let told: Vec<&String> = log[beginning..].iter().filter(|event| event.starts_with(kind)).collect();
            let expected: Vec<String> =
                (1..=2).map(|number| format!("{kind} {number} {} [{}]", row.waiting, row.facts)).collect();
            assert_eq!(told, expected.iter().collect::<Vec<_>>(), "{log:#?}");
        }
        self.expect_nothing_changes(row);
        drop(self.over.take());
        if let Some(server) = self.server.take() {
            server.join();
        }
        drop(self.session);
    }

    /// Later calls fail on the queue, later cancels and resumes do nothing.
    #[track_caller]
    fn expect_nothing_changes(&self, row: &Row) {
        let Self { task, recorder, events, .. } = self;
        let told = events.log().len();
        let caller = thread::current().id();
        for kind in ["receive", "send", "ping"] {
            let handler = noting::<()>(recorder, task, format!("later {kind}"));
            let on_the_queue = move |result: Result<(), UrlError>| {
                assert_ne!(thread::current().id(), caller, "a handler ran inside the call");
                handler(result);
            };
            match kind {
                "receive" => task.receive(|result| on_the_queue(result.map(drop))),
                "send" => task.send("too late", on_the_queue),
                _ => task.send_ping(on_the_queue),
            }
            assert_eq!(events.next(), format!("later {kind} {} [{}]", row.later, row.facts));
        }
        task.cancel();
        task.cancel_with(CloseCode::new(4100), Some(b"late"));
        task.suspend();
        task.resume();
        // The queue is serial: behind this answer there is nothing more.
        task.send("last", noting(recorder, task, "last".to_owned()));
        assert_eq!(events.wait_for("last"), format!("last {} [{}]", row.later, row.facts));
        assert_eq!(events.log().len(), told + 4, "{:#?}", events.log());
    }
}

/// A row of the table.
pub struct Row {
    pub opened: bool,
    pub waiting: i32,
    pub later: i32,
    pub close: Option<&'static str>,
    pub complete: &'static str,
    pub facts: &'static str,
}

/// A task on its way: connected to a server that does not answer.
pub fn connected(configuration: SessionConfiguration) -> Scene {
    let (connected, is_connected) = mpsc::channel();
    let server = Server::one(move |mut peer| {
        peer.read_request();
        connected.send(()).unwrap();
        peer.read_to_end();
    });
    let mut scene = Scene::new(&server.url(), configuration);
    scene.server = Some(server);
    scene.task.resume();
    is_connected.recv_timeout(PATIENCE).unwrap();
    scene
}

/// The row of a task that never opened and failed with one number throughout.
pub const fn unopened(code: i32, complete: &'static str, facts: &'static str) -> Row {
    Row { opened: false, waiting: code, later: code, close: None, complete, facts }
}
