//! What sessions own, and that all of it is given back: threads, file descriptors, delegates, closures. The counts are
//! those of the whole process, so nothing else runs beside them: one test.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use support::echo::EchoServer;
use support::hooks::{Called, eventually, hooks};
use support::{PATIENCE, Server, recorder};
use urlsession::{
    CloseCode, Message, OperationQueue, SessionConfiguration, Url, UrlRequest, UrlSession, WebSocketTask,
};

/// How many tasks run at once, where the process may have that many files open.
const TASKS: usize = 2000;

/// How many connections come one after the other.
const CONNECTIONS: usize = 500;

/// How many threads this process has. Names say less: a thread takes its own a moment after it began.
fn thread_count() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("Threads:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The threads of this crate by name, of which the kernel keeps fifteen bytes.
fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.map(|name| name.trim_end().to_owned()).filter(|name| name.starts_with("urlsession-")).collect()
}

fn reactors() -> usize {
    threads().iter().filter(|name| *name == "urlsession-reac").count()
}

/// The open files of this process.
fn files() -> Vec<String> {
    let descriptors = fs::read_dir("/proc/self/fd").unwrap();
    // The directory itself is open while it is read, and gone when its link is.
    descriptors
        .filter_map(|descriptor| Some(fs::read_link(descriptor.ok()?.path()).ok()?.to_string_lossy().into_owned()))
        .filter(|target| !target.starts_with("/proc/"))
        .collect()
}

/// What a process owns that has nothing of this crate's running.
struct Before {
    threads: usize,
    files: usize,
}

impl Before {
    fn now() -> Self {
        assert_eq!(threads(), Vec::<String>::new());
        Self { threads: thread_count(), files: files().len() }
    }

    #[track_caller]
    fn is_reached_again(&self, after: &str) {
        eventually(&format!("threads end after {after}"), || thread_count() <= self.threads);
        eventually(&format!("files are closed after {after}"), || files().len() <= self.files);
    }
}

/// How many tasks the limit of open files allows: a task is one file here and one at the server.
fn task_count() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let soft: usize = line.split_whitespace().nth(3).unwrap().parse().unwrap_or(usize::MAX);
    let count = TASKS.min((soft - 100) / 2);
    if count < TASKS {
        println!("only {count} tasks: the limit of open files is {soft}");
    }
    count
}

#[test]
fn everything_is_given_back() {
    let server = EchoServer::start();
    an_idle_session_owns_nothing(&server);
    many_tasks_share_one_thread(&server);
    connections_one_after_the_other_leave_nothing(&server);
    sessions_one_after_the_other_leave_nothing(&server);
    a_failing_task_fails_alone(&server);
    ends_of_every_kind_leave_nothing();
    delegates_and_closures_are_let_go(&server);
    eventually("the server is alone", || server.open() == 0);
}

fn an_idle_session_owns_nothing(server: &EchoServer) {
    let before = Before::now();
    let queues = [OperationQueue::new(), OperationQueue::serial(), OperationQueue::immediate()];
    let sessions: Vec<UrlSession> = queues
        .iter()
        .map(|queue| UrlSession::with_delegate(SessionConfiguration::default(), None, Some(queue.clone())))
        .chain((0..100).map(|_| UrlSession::new(SessionConfiguration::default())))
        .collect();
    let tasks: Vec<WebSocketTask> = sessions.iter().map(|session| session.web_socket_task(server.url())).collect();
    for task in &tasks {
        task.send("waits", |_| ());
        task.receive(|_| ());
        task.send_ping(|_| ());
    }
    assert_eq!((thread_count(), files().len()), (before.threads, before.files));
    drop((tasks, sessions));
    before.is_reached_again("sessions without a running task");
}

fn many_tasks_share_one_thread(server: &EchoServer) {
    let count = task_count();
    let before = Before::now();
    let (sender, receiver) = mpsc::channel();
    let (over, end) = mpsc::channel();
    let completed = Arc::new(AtomicUsize::new(0));
    let delegate = hooks({
        let completed = Arc::clone(&completed);
        move |_, _, called| match called {
            Called::Complete(_) => drop(completed.fetch_add(1, Ordering::SeqCst)),
            Called::Invalid(_) => over.send(()).unwrap(),
            _ => {}
        }
    });
    let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate.clone()), None);
    let captured = Arc::new(());
    let tasks: Vec<WebSocketTask> = (0..count).map(|_| session.web_socket_task(server.url())).collect();
    for (number, task) in tasks.iter().enumerate() {
        let (sender, held) = (sender.clone(), Arc::clone(&captured));
        task.receive(move |result| {
            sender.send((number, result)).unwrap();
            drop(held);
        });
        task.send(format!("hello {number}"), |result| result.unwrap());
        task.resume();
    }
    let mut answered = vec![false; count];
    for _ in 0..count {
        let (number, result) = receiver.recv_timeout(PATIENCE).expect("an echo");
        assert_eq!(result.unwrap(), Message::String(format!("hello {number}")));
        assert!(!std::mem::replace(&mut answered[number], true));
    }
    // All are open at once, on one thread, with two files for it (the selector and its waker).
    assert_eq!(server.open(), count);
    assert_eq!(reactors(), 1);
    assert!(thread_count() <= before.threads + 2, "{:?}", threads());
    assert!(files().len() <= before.files + 2 * count + 4, "{} files", files().len());
    // Once more, all at once.
    for (number, task) in tasks.iter().enumerate() {
        let sender = sender.clone();
        task.receive(move |result| sender.send((number, result)).unwrap());
        task.send(vec![1; 500], |result| result.unwrap());
    }
    for _ in 0..count {
        let (_, result) = receiver.recv_timeout(PATIENCE).expect("an echo");
        assert_eq!(result.unwrap(), Message::Data(vec![1; 500]));
    }
    let began = Instant::now();
    session.invalidate_and_cancel();
    end.recv_timeout(PATIENCE).expect("the end of the session");
    assert_eq!(completed.load(Ordering::SeqCst), count);
    drop(tasks);
    before.is_reached_again("many tasks at once");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    eventually("the delegate is let go", || Arc::strong_count(&delegate) == 1);
    assert_eq!(Arc::strong_count(&captured), 1);
}

/// One connection: open, a message there and back, a close.
fn one_connection(session: &UrlSession, url: Url, receiver: &mpsc::Receiver<&'static str>) {
    let task = session.web_socket_task(url);
    let closing = task.clone();
    task.receive(move |result| {
        result.unwrap();
        closing.cancel_with(CloseCode::NORMAL_CLOSURE, None);
    });
    task.send("x", |_| ());
    task.resume();
    while receiver.recv_timeout(PATIENCE).expect("the next event") != "complete" {}
}

/// A session whose callbacks are told by name.
fn telling_session() -> (UrlSession, mpsc::Receiver<&'static str>) {
    let (sender, receiver) = mpsc::channel();
    let delegate = hooks(move |_, _, called| {
        let _ = sender.send(called.name());
    });
    (UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), None), receiver)
}

fn connections_one_after_the_other_leave_nothing(server: &EchoServer) {
    let before = Before::now();
    let (session, receiver) = telling_session();
    one_connection(&session, server.url(), &receiver);
    eventually("the connection is closed", || server.open() == 0);
    let (started, accepted) = (thread_count(), server.accepted());
    for number in 0..CONNECTIONS {
        one_connection(&session, server.url(), &receiver);
        assert!(thread_count() <= started, "{:?} after {number}", threads());
        // The last few may not be closed yet on both sides.
        eventually("closed connections give their files back", || files().len() <= before.files + 24);
    }
    assert_eq!(server.accepted() - accepted, CONNECTIONS);
    drop(session);
    before.is_reached_again("connections one after the other");
}

fn sessions_one_after_the_other_leave_nothing(server: &EchoServer) {
    let before = Before::now();
    for number in 0..50 {
        let (session, receiver) = telling_session();
        one_connection(&session, server.url(), &receiver);
        match number % 3 {
            0 => session.finish_tasks_and_invalidate(),
            1 => session.invalidate_and_cancel(),
            _ => drop(session),
        }
        while receiver.recv_timeout(PATIENCE).expect("the end") != "invalid" {}
    }
    before.is_reached_again("sessions one after the other");
}

fn a_failing_task_fails_alone(server: &EchoServer) {
    let before = Before::now();
    let nobody = Server::many(0, |_, _| ());
    let refusing = nobody.url();
    nobody.join();
    let (recorder, events) = recorder();
    let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(recorder.clone()), None);
    let good = session.web_socket_task(server.url());
    good.resume();
    events.wait_for("open");
    let open = files().len();
    for number in 0..100 {
        let bad = session.web_socket_task(&refusing);
        bad.resume();
        events.wait_for("complete -1004");
        if number % 10 == 0 {
            good.send("still", |_| ());
            good.receive(recorder.receiver("echo"));
            events.wait_for("echo string still");
        }
    }
    // A label of 64 characters is none that the DNS could hold: no server has to be asked.
    let unknown = UrlRequest::from(Url::parse(&format!("ws://{}.invalid/", "a".repeat(64))).unwrap());
    session.web_socket_task(unknown).resume();
    events.wait_for("complete -1003");
    eventually("files of failed tasks are closed", || files().len() <= open);
    eventually("the resolver's threads end", || thread_count() <= before.threads + 2);
    assert_eq!(reactors(), 1);
    session.invalidate_and_cancel();
    events.wait_for("invalid");
    before.is_reached_again("failing tasks");
}

fn ends_of_every_kind_leave_nothing() {
    type Script = fn(support::Peer);
    let table: [(&str, Script, &str); 6] = [
        ("end of stream", |mut peer| drop(peer.open()), "complete -1005"),
        (
            "a Close",
            |mut peer| {
                peer.open();
                peer.close(1000, "");
                peer.read_close();
            },
            "complete None",
        ),
        (
            "a refusal",
            |mut peer| {
                peer.read_request();
                peer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
            },
            "complete -1011",
        ),
        (
            "garbage",
            |mut peer| {
                peer.open();
                peer.write(&[0xff; 100]);
                peer.read_close();
            },
            "complete 100",
        ),
        (
            "silence before the opening",
            |mut peer| {
                peer.read_request();
                peer.read_to_end();
            },
            "complete -1001",
        ),
        // The client gives up on a server that answers its Close with nothing.
        (
            "no answer to a Close",
            |mut peer| {
                peer.open();
                peer.close(3000, "");
                peer.read_to_end();
            },
            "complete None",
        ),
    ];
    let before = Before::now();
    for (name, script, expected) in table {
        let server = Server::one(script);
        let mut configuration = SessionConfiguration::default();
        configuration.timeout_interval_for_request = Duration::from_millis(500);
        let (recorder, events) = recorder();
        let session = UrlSession::with_delegate(configuration, Some(recorder.clone()), None);
        let task = session.web_socket_task(server.url());
        task.receive(|_| ());
        task.resume();
        assert_eq!(events.wait_for("complete"), expected, "{name}");
        session.finish_tasks_and_invalidate();
        events.wait_for("invalid");
        eventually("the delegate is let go", || Arc::strong_count(&recorder) == 1);
        server.join();
        before.is_reached_again(name);
        // The handle of a task holds no thread and no file.
        drop(task);
    }
}

fn delegates_and_closures_are_let_go(server: &EchoServer) {
    let before = Before::now();
    let captured = Arc::new(());
    let hold = || Arc::clone(&captured);
    let (recorder, events) = recorder();
    let (own, own_events) = support::recorder();
    let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(recorder.clone()), None);
    let kept: Arc<Mutex<Vec<WebSocketTask>>> = Arc::default();
    for number in 0..50 {
        let task = session.web_socket_task(server.url());
        if number % 2 == 0 {
            task.set_delegate(Some(own.clone()));
        }
        let (one, two, three, four) = (hold(), hold(), hold(), hold());
        task.send("x", move |_| drop(one));
        task.receive(move |_| drop(two));
        task.receive(move |_| drop(three));
        task.send_ping(move |_| drop(four));
        // Handlers that hold their own task, as a port's do.
        let (myself, all, five) = (task.clone(), Arc::clone(&kept), hold());
        task.receive(move |_| drop((myself, all, five)));
        task.resume();
        kept.lock().unwrap().push(task);
    }
    for _ in 0..25 {
        events.wait_for("open");
        own_events.wait_for("open");
    }
    session.invalidate_and_cancel();
    events.wait_for("invalid");
    eventually("the delegates are let go", || Arc::strong_count(&recorder) == 1 && Arc::strong_count(&own) == 1);
    eventually("the closures are let go", || Arc::strong_count(&captured) == 1 && Arc::strong_count(&kept) == 1);
    // The handles of tasks and session are still there; they own nothing.
    before.is_reached_again("delegates and closures");
    assert_eq!(kept.lock().unwrap().len(), 50);
    drop(session);
    before.is_reached_again("the last handle");
}
