//! A fast exchange on a queue with one thread, which polls by itself then, and what must go on all the same when its
//! callbacks block, or somebody else wants the thread.

mod support;

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use support::PATIENCE;
use support::echo::EchoServer;
use support::hooks::eventually;
use urlsession::{
    ErrorCode, Message, OperationQueue, SessionConfiguration, SessionDelegate, SessionTask, TaskDelegate, Url,
    UrlError, UrlRequest, UrlSession, WebSocketDelegate, WebSocketTask,
};

/// How many messages go to and fro until the thread of the queue surely polls, if it does at all.
const ROUNDS: usize = 600;

/// The tests look at the threads of the whole process: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Exchange {
    server: EchoServer,
    session: UrlSession,
    queue: OperationQueue,
    task: WebSocketTask,
}

impl Exchange {
    fn new() -> Self {
        Self::with(None)
    }

    fn with(delegate: Option<Arc<dyn WebSocketDelegate>>) -> Self {
        let (server, queue) = (EchoServer::start(), OperationQueue::serial());
        let configuration = SessionConfiguration::default();
        let session = UrlSession::with_delegate(configuration, delegate, Some(queue.clone()));
        let task = session.web_socket_task(server.url());
        task.resume();
        Self { server, session, queue, task }
    }

    /// One message to and fro after the other; then `last` runs in the handler of the last.
    fn run(&self, rounds: usize, last: impl FnOnce() + Send + 'static) {
        fn round(task: &WebSocketTask, left: usize, last: impl FnOnce() + Send + 'static) {
            let again = task.clone();
            task.send(Message::String(left.to_string()), |result| result.unwrap());
            task.receive(move |result| {
                assert_eq!(result.unwrap(), Message::String(left.to_string()));
                if left == 0 { last() } else { round(&again, left - 1, last) }
            });
        }
        round(&self.task, rounds, last);
    }

    /// The same; the handler of the last blocks until the returned guard goes.
    fn run_and_block(&self) -> Blocked {
        let ((blocks, blocked), (go, wait)) = (mpsc::channel(), mpsc::channel::<()>());
        self.run(ROUNDS, move || {
            blocks.send(()).unwrap();
            let _ = wait.recv_timeout(PATIENCE);
        });
        blocked.recv_timeout(PATIENCE).unwrap();
        Blocked { go: Some(go) }
    }

    fn finish(self) {
        self.session.invalidate_and_cancel();
        self.queue.wait_until_all_operations_are_finished();
    }
}

/// While it lives, a callback blocks.
struct Blocked {
    go: Option<mpsc::Sender<()>>,
}

impl Drop for Blocked {
    fn drop(&mut self) {
        drop(self.go.take());
    }
}

fn told() -> (impl Fn() + Send + Sync + Clone + 'static, Receiver<()>) {
    let (tell, told) = mpsc::channel();
    (move || tell.send(()).unwrap(), told)
}

#[test]
fn while_a_callback_blocks_connections_are_made_and_messages_leave() {
    let _alone = alone();
    let exchange = Exchange::new();
    let blocked = exchange.run_and_block();
    // A connection takes the reactor: look-up, readiness, handshake, writing.
    let accepted = exchange.server.accepted();
    let other = exchange.session.web_socket_task(exchange.server.url());
    let (tell, sent) = told();
    other.send(Message::String("hello".into()), move |result| {
        result.unwrap();
        tell();
    });
    other.resume();
    eventually("the handshake", || other.response().is_some());
    assert_eq!(exchange.server.accepted(), accepted + 1);
    eventually("the message to leave", || other.count_of_bytes_sent() == 5);
    let (tell, received) = told();
    other.receive(move |result| {
        assert_eq!(result.unwrap(), Message::String("hello".into()));
        tell();
    });
    eventually("the echo to be read", || other.count_of_bytes_received() == 5);
    assert!(sent.try_recv().is_err() && received.try_recv().is_err(), "the queue has one thread");
    drop(blocked);
    sent.recv_timeout(PATIENCE).unwrap();
    received.recv_timeout(PATIENCE).unwrap();
    exchange.finish();
}

#[test]
fn what_a_callback_sends_before_it_blocks_leaves_and_is_answered() {
    let _alone = alone();
    let exchange = Exchange::new();
    let task = exchange.task.clone();
    let (tell, done) = told();
    exchange.run(ROUNDS, move || {
        let before = task.count_of_bytes_received();
        for _ in 0..3 {
            task.send(Message::Data(vec![0; 100]), |result| result.unwrap());
        }
        // The first leaves at once, the others when somebody looks after them.
        eventually("the echoes", || task.count_of_bytes_received() >= before + 300);
        tell();
    });
    done.recv_timeout(PATIENCE).unwrap();
    exchange.finish();
}

#[test]
fn operations_from_elsewhere_have_their_turn() {
    let _alone = alone();
    let exchange = Exchange::new();
    let (tell, done) = told();
    exchange.run(20 * ROUNDS, tell);
    let ran = Arc::new(AtomicUsize::new(0));
    for number in 0..1000 {
        let counted = Arc::clone(&ran);
        exchange.queue.add_operation(move || {
            counted.fetch_add(1, SeqCst);
        });
        if number % 10 == 0 {
            eventually("the operations", || ran.load(SeqCst) == number + 1);
        }
    }
    done.recv_timeout(PATIENCE).unwrap();
    // The thread polls, or has just given up.
    let counted = Arc::clone(&ran);
    exchange.queue.add_operation(move || {
        counted.fetch_add(1, SeqCst);
    });
    eventually("the last operation", || ran.load(SeqCst) == 1001);
    exchange.finish();
}

#[test]
fn callbacks_that_ask_for_more_again_and_again_leave_the_sockets_their_turn() {
    /// Where a connection is refused, at once.
    struct Again(UrlRequest);
    impl SessionDelegate for Again {}
    impl WebSocketDelegate for Again {}
    impl TaskDelegate for Again {
        fn did_complete_with_error(&self, session: &UrlSession, _task: &SessionTask, error: Option<&UrlError>) {
            if error.is_some_and(|error| error.code() == ErrorCode::CannotConnectToHost) {
                session.web_socket_task(self.0.clone()).resume();
            }
        }
    }
    let _alone = alone();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let request = UrlRequest::new(Url::parse(&format!("ws://{closed}/")).unwrap());
    let exchange = Exchange::with(Some(Arc::new(Again(request.clone()))));
    exchange.session.web_socket_task(request).resume();
    let (tell, done) = told();
    exchange.run(ROUNDS, tell);
    done.recv_timeout(PATIENCE).unwrap();
    exchange.finish();
}

#[test]
fn a_queue_that_may_have_more_threads_starts_them() {
    let _alone = alone();
    let exchange = Exchange::new();
    for _ in 0..20 {
        exchange.queue.set_max_concurrent_operation_count(1);
        let (tell, warm) = told();
        exchange.run(ROUNDS / 10, tell);
        warm.recv_timeout(PATIENCE).unwrap();
        exchange.queue.set_max_concurrent_operation_count(4);
        // The first waits for the second.
        let ((second, first), (tell, done)) = (mpsc::channel(), told());
        exchange.queue.add_operation(move || {
            first.recv_timeout(PATIENCE).unwrap();
            tell();
        });
        exchange.queue.add_operation(move || second.send(()).unwrap());
        done.recv_timeout(PATIENCE).unwrap();
    }
    exchange.finish();
}

#[test]
fn a_queue_that_is_suspended_in_the_middle_runs_nothing_and_goes_on() {
    let _alone = alone();
    let exchange = Exchange::new();
    let (queue, task) = (exchange.queue.clone(), exchange.task.clone());
    let (tell, suspended) = told();
    let (tell_received, received) = told();
    exchange.run(ROUNDS, move || {
        queue.set_suspended(true);
        task.send(Message::String("more".into()), |result| result.unwrap());
        task.receive(move |result| {
            result.unwrap();
            tell_received();
        });
        tell();
    });
    suspended.recv_timeout(PATIENCE).unwrap();
    let all = exchange.task.count_of_bytes_received();
    eventually("the echo to be read", || exchange.task.count_of_bytes_received() >= all.max(4));
    assert!(received.try_recv().is_err());
    exchange.queue.set_suspended(false);
    received.recv_timeout(PATIENCE).unwrap();
    exchange.finish();
}

#[test]
fn threads_end_with_a_session_that_ends_in_the_middle() {
    let _alone = alone();
    for finish_tasks in [false, true] {
        let exchange = Exchange::new();
        let session = exchange.session.clone();
        let (tell, done) = told();
        let task = exchange.task.clone();
        exchange.run(ROUNDS, move || {
            if finish_tasks {
                task.cancel();
                session.finish_tasks_and_invalidate();
            } else {
                session.invalidate_and_cancel();
            }
            tell();
        });
        done.recv_timeout(PATIENCE).unwrap();
        exchange.queue.wait_until_all_operations_are_finished();
        #[cfg(target_os = "linux")]
        eventually("the threads to end", || linux::switches("urlsession-").is_empty());
        exchange.finish();
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;

    /// How often each thread with such a name has gone to sleep.
    pub fn switches(name: &str) -> Vec<usize> {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let of_thread = |path: std::path::PathBuf| {
            let status = std::fs::read_to_string(path.join("status")).ok()?;
            let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
            value("Name:")?.starts_with(name).then_some(())?;
            value("voluntary_ctxt_switches:")?.parse().ok()
        };
        tasks.filter_map(|task| of_thread(task.ok()?.path())).collect()
    }

    #[test]
    fn a_fast_exchange_does_not_wake_the_reactor() {
        let _alone = alone();
        eventually("the threads of other tests to end", || switches("urlsession-").is_empty());
        let exchange = Exchange::new();
        eventually("the reactor to begin", || !switches("urlsession-reac").is_empty());
        // On a machine that does other things, too, it may take a while until it is fast.
        eventually("the reactor to sleep", || {
            let before: usize = switches("urlsession-reac").iter().sum();
            let (tell, done) = told();
            exchange.run(ROUNDS, tell);
            done.recv_timeout(PATIENCE).unwrap();
            let after: usize = switches("urlsession-reac").iter().sum();
            after - before < ROUNDS / 2
        });
        exchange.finish();
    }
}
