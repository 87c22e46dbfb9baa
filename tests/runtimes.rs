//! The async forms on any executor: written by hand, tokio's, smol's; with every kind of delegate queue.
#![cfg(feature = "futures-core")]

mod support;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use smol::future::{or, poll_once, race, yield_now, zip};
use smol::stream::StreamExt;
use support::echo::EchoServer;
use support::executor::{block_on, counting_server, run_all, text};
use support::hooks::{Dice, eventually, hooks};
use support::{PATIENCE, Server, recorded_session, recorded_session_with};
use urlsession::{
    CloseCode, ErrorCode, Message, Messages, OperationQueue, SessionConfiguration, UrlError, UrlSession, WebSocketTask,
};

/// Who polls.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Runtime {
    /// One future, on a thread that is parked meanwhile.
    Parking,
    /// Told through a channel which future goes on.
    Channel,
    TokioOneThread,
    TokioManyThreads,
    Smol,
}

const RUNTIMES: [Runtime; 5] =
    [Runtime::Parking, Runtime::Channel, Runtime::TokioOneThread, Runtime::TokioManyThreads, Runtime::Smol];

fn tokio(mut builder: tokio::runtime::Builder) -> tokio::runtime::Runtime {
    builder.enable_time().build().unwrap()
}

fn tokio_one_thread() -> tokio::runtime::Runtime {
    tokio(tokio::runtime::Builder::new_current_thread())
}

fn tokio_many_threads() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(3);
    tokio(builder)
}

#[track_caller]
fn run_with_tokio<T: Send + 'static>(
    runtime: &tokio::runtime::Runtime,
    futures: Vec<impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    runtime.block_on(async {
        let tasks: Vec<_> = futures.into_iter().map(tokio::spawn).collect();
        let mut outputs = Vec::new();
        for task in tasks {
            outputs.push(tokio::time::timeout(PATIENCE, task).await.expect("in time").unwrap());
        }
        outputs
    })
}

impl Runtime {
    /// Runs futures at once, with patience; each is a task of the runtime's.
    #[track_caller]
    fn run_all<T: Send + 'static>(self, futures: Vec<impl Future<Output = T> + Send + 'static>) -> Vec<T> {
        match self {
            Self::TokioOneThread => run_with_tokio(&tokio_one_thread(), futures),
            Self::TokioManyThreads => run_with_tokio(&tokio_many_threads(), futures),
            Self::Parking => futures.into_iter().map(block_on).collect(),
            Self::Channel => run_all(futures),
            Self::Smol => smol::block_on(async {
                let tasks: Vec<_> = futures.into_iter().map(smol::spawn).collect();
                let mut outputs = Vec::new();
                for task in tasks {
                    let too_late = async {
                        smol::Timer::after(PATIENCE).await;
                        panic!("a future that nobody wakes")
                    };
                    outputs.push(or(task, too_late).await);
                }
                outputs
            }),
        }
    }

    #[track_caller]
    fn run<T: Send + 'static>(self, future: impl Future<Output = T> + Send + 'static) -> T {
        self.run_all(vec![future]).pop().unwrap()
    }
}

/// There and back in every async form, and the end.
async fn converse(task: WebSocketTask) {
    let mut messages = task.messages();
    for number in 0..10 {
        task.send_async(format!("message {number}")).await.unwrap();
        assert_eq!(text(task.receive_async().await), format!("message {number}"));
        task.send_ping_async().await.unwrap();
        task.send_async(vec![number]).await.unwrap();
        assert_eq!(messages.next().await.unwrap().unwrap(), Message::Data(vec![number]));
    }
    let (sent, (received, pinged)) =
        zip(task.send_async("all at once"), zip(task.receive_async(), task.send_ping_async())).await;
    assert_eq!((sent.is_ok(), text(received), pinged.is_ok()), (true, "all at once".to_owned(), true));
    // A receive that waits is answered, though it is the same task of the runtime that ends it.
    let end = async { task.cancel_with(CloseCode::NORMAL_CLOSURE, None) };
    let ((rest, ()), failed) = zip(zip(messages.next(), end), task.receive_async()).await;
    assert!(rest.is_none());
    assert_eq!(failed.unwrap_err().code(), ErrorCode::Cancelled);
    assert_eq!(task.send_async("late").await.unwrap_err().code(), ErrorCode::Cancelled);
}

/// Runs `work` on a thread, and pumps the main queue on this one meanwhile.
#[track_caller]
fn pumping<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let thread = thread::spawn(move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.store(true, Ordering::SeqCst);
        OperationQueue::main().add_operation(|| ());
        result
    });
    let deadline = Instant::now() + 2 * PATIENCE;
    assert!(OperationQueue::main().run_until(deadline, || is_over.load(Ordering::SeqCst)));
    thread.join().unwrap().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The only test here that has to do with the main queue.
#[test]
fn every_form_on_every_runtime_with_every_queue() {
    let server = EchoServer::start();
    type Make = fn() -> Option<OperationQueue>;
    let queues: [(&str, Make); 7] = [
        ("the session's own", || None),
        ("serial", || Some(OperationQueue::serial())),
        ("concurrent", || Some(OperationQueue::new())),
        ("main", || Some(OperationQueue::main())),
        ("immediate", || Some(OperationQueue::immediate())),
        ("threads", || Some(OperationQueue::with_executor(|operation| drop(thread::spawn(operation))))),
        ("at once", || Some(OperationQueue::with_executor(|operation| operation()))),
    ];
    for runtime in RUNTIMES {
        for (name, queue) in queues {
            println!("{runtime:?} with a queue: {name}");
            let (session, _, events) = recorded_session_with(SessionConfiguration::default(), queue());
            // The second one was made and is polled before it is resumed.
            let tasks: Vec<WebSocketTask> = (0..3).map(|_| session.web_socket_task(server.url())).collect();
            let resumes = tasks[1].clone();
            tasks[0].resume();
            tasks[2].resume();
            let conversations: Vec<_> = tasks
                .into_iter()
                .enumerate()
                .map(|(number, task)| {
                    let resumes = (number == 1).then(|| resumes.clone());
                    async move {
                        let resuming = async {
                            yield_now().await;
                            resumes.inspect(|task| task.resume());
                        };
                        zip(converse(task), resuming).await;
                    }
                })
                .collect();
            pumping(move || runtime.run_all(conversations));
            session.finish_tasks_and_invalidate();
            pumping(move || {
                events.wait_for("invalid");
                let log = events.log();
                assert_eq!(log.iter().filter(|event| *event == "complete None").count(), 3, "{log:#?}");
            });
        }
    }
}

/// A session with an open task whose server counts.
fn counted() -> (Server, Sender<usize>, UrlSession, WebSocketTask) {
    let (server, orders) = counting_server();
    let (session, _, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    task.resume();
    events.wait_for("open");
    (server, orders, session, task)
}

type Next = Pin<Box<dyn Future<Output = Result<Message, UrlError>> + Send>>;
type Attempt = Pin<Box<dyn Future<Output = Option<Result<Message, UrlError>>> + Send>>;

/// Waits for a message, and gives up soon: how, and how soon.
type GiveUp = fn(Next, u64) -> Attempt;

async fn some_turns(count: u64) {
    for _ in 0..count {
        yield_now().await;
    }
}

fn with_timeout(next: Next, patience: u64) -> Attempt {
    let patience = Duration::from_millis(u64::from(patience == 0));
    Box::pin(async move { tokio::time::timeout(patience, next).await.ok() })
}

/// What `select!` does.
fn with_or(next: Next, patience: u64) -> Attempt {
    Box::pin(or(async { Some(next.await) }, async move {
        some_turns(patience).await;
        None
    }))
}

fn with_race(next: Next, patience: u64) -> Attempt {
    Box::pin(race(async { Some(next.await) }, async move {
        some_turns(patience).await;
        None
    }))
}

fn with_one_poll(next: Next, _patience: u64) -> Attempt {
    Box::pin(poll_once(next))
}

/// How a message is asked for.
#[derive(Clone, Copy, Debug)]
enum Way {
    Receive,
    Stream,
    /// One stream, whose `next` is dropped again and again.
    KeptStream,
}

/// Takes messages one after the other, each after many attempts that are given up; how many these were.
async fn take_with_attempts(
    task: WebSocketTask,
    orders: Sender<usize>,
    total: usize,
    way: Way,
    give_up: GiveUp,
) -> usize {
    let mut dice = Dice(total as u64);
    let kept: Arc<Mutex<Messages>> = Arc::new(Mutex::new(task.messages()));
    let next = || -> Next {
        match way {
            Way::Receive => Box::pin(task.receive_async()),
            Way::Stream => {
                let mut stream = task.messages();
                Box::pin(async move { stream.next().await.expect("a message") })
            }
            Way::KeptStream => {
                let kept = Arc::clone(&kept);
                Box::pin(std::future::poll_fn(move |context| {
                    kept.lock().unwrap().poll_next(context).map(|item| item.expect("a message"))
                }))
            }
        }
    };
    let mut given_up = 0;
    for number in 0..total {
        for _ in 0..5 + dice.below(5) {
            assert!(give_up(next(), dice.below(8)).await.is_none());
            given_up += 1;
        }
        orders.send(1).unwrap();
        let received = loop {
            match give_up(next(), dice.below(8)).await {
                Some(received) => break received,
                None => given_up += 1,
            }
            // Tasks of the runtime and threads go on meanwhile.
            yield_now().await;
            (0..dice.below(10)).for_each(|_| thread::yield_now());
        };
        assert_eq!(text(received), number.to_string());
    }
    given_up
}

#[test]
fn receives_that_are_given_up_lose_nothing() {
    // A timeout takes a millisecond, the others take none.
    let cases: [(Runtime, GiveUp, usize); 8] = [
        (Runtime::Parking, with_one_poll, 400),
        (Runtime::Parking, with_or, 400),
        (Runtime::Channel, with_race, 400),
        (Runtime::TokioOneThread, with_timeout, 50),
        (Runtime::TokioManyThreads, with_timeout, 50),
        (Runtime::TokioManyThreads, with_race, 400),
        (Runtime::Smol, with_or, 400),
        (Runtime::Smol, with_race, 400),
    ];
    for (index, (runtime, give_up, total)) in cases.into_iter().enumerate() {
        for way in [Way::Receive, Way::Stream, Way::KeptStream] {
            println!("{index}: {runtime:?}, {way:?}");
            let (server, orders, _session, task) = counted();
            let given_up = runtime.run(take_with_attempts(task.clone(), orders, total, way, give_up));
            assert!(given_up >= 5 * total, "{given_up}");
            assert_eq!(block_on(task.receive_async()).unwrap_err().code(), ErrorCode::NotConnected);
            server.join();
        }
    }
}

#[test]
fn joined_sends_leave_in_the_order_of_their_calls() {
    const COUNT: usize = 200;
    for runtime in RUNTIMES {
        let server = Server::one(move |mut peer| {
            peer.open();
            for number in 0..COUNT {
                assert_eq!(String::from_utf8(peer.read_frame().payload).unwrap(), number.to_string(), "{runtime:?}");
            }
            peer.text("all");
            peer.read_close();
        });
        let (session, ..) = recorded_session();
        let task = session.web_socket_task(server.url());
        task.resume();
        // Made here, polled there, the last one first.
        let mut sends: Vec<_> = (0..COUNT).map(|number| task.send_async(number.to_string())).collect();
        sends.reverse();
        assert!(runtime.run_all(sends).iter().all(Result::is_ok), "{runtime:?}");
        assert_eq!(text(runtime.run(task.receive_async())), "all");
        task.cancel();
        server.join();
    }
}

#[test]
fn a_future_goes_on_with_another_runtime_than_the_one_that_polled_it() {
    for first in RUNTIMES {
        for second in RUNTIMES {
            let (server, orders, _session, task) = counted();
            let (mut future, mut stream) = (task.receive_async(), task.messages());
            // Both have wakers of a runtime that is gone then.
            let (future, mut stream) = first.run(async move {
                assert!(poll_once(&mut future).await.is_none());
                assert!(poll_once(stream.next()).await.is_none());
                (future, stream)
            });
            orders.send(1).unwrap();
            // Which are called, now and then, before the other runtime polls.
            if first != second {
                eventually("the message is there", || format!("{future:?}").contains("done"));
            }
            assert_eq!(text(second.run(future)), "0", "{first:?}, {second:?}");
            orders.send(1).unwrap();
            let (given, stream) = second.run(async move { (stream.next().await, stream) });
            assert_eq!(text(given.unwrap()), "1", "{first:?}, {second:?}");
            drop(orders);
            assert!(first.run(async move { { stream }.next().await }).is_none());
            server.join();
        }
    }
}

#[test]
fn a_future_that_moves_between_threads_wakes_the_last() {
    for runtime in RUNTIMES {
        let (server, orders, _session, task) = counted();
        let mut future = task.receive_async();
        for _ in 0..3 {
            future = thread::spawn(move || {
                assert!(block_on(poll_once(&mut future)).is_none());
                future
            })
            .join()
            .unwrap();
        }
        let waiting = thread::spawn(move || text(runtime.run(future)));
        orders.send(1).unwrap();
        assert_eq!(waiting.join().unwrap(), "0");
        drop(orders);
        server.join();
    }
}

/// A session whose callbacks run on `queue`; where they ran is noted.
fn noting_session(queue: OperationQueue) -> (UrlSession, Arc<Mutex<Vec<thread::ThreadId>>>) {
    let threads = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&threads);
    let delegate = hooks(move |_, task, called| {
        if task.is_some() && called.name() != "create" {
            noted.lock().unwrap().push(thread::current().id());
        }
    });
    (UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), Some(queue)), threads)
}

#[test]
fn a_runtime_may_be_the_delegate_queue() {
    let server = EchoServer::start();
    let here = thread::current().id();

    // Of one thread: futures, handlers and callbacks are all on it.
    let runtime = tokio_one_thread();
    let handle = runtime.handle().clone();
    let queue = OperationQueue::with_executor(move |operation| drop(handle.spawn(async { operation() })));
    let (session, threads) = noting_session(queue);
    let task = session.web_socket_task(server.url());
    task.resume();
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, converse(task)).await.expect("in time");
        while threads.lock().unwrap().len() < 4 {
            yield_now().await;
        }
    });
    assert_eq!(*threads.lock().unwrap(), [here; 4]);

    let executor = Arc::new(smol::Executor::new());
    let spawner = Arc::clone(&executor);
    let queue = OperationQueue::with_executor(move |operation| spawner.spawn(async { operation() }).detach());
    let (session, threads) = noting_session(queue);
    let task = session.web_socket_task(server.url());
    task.resume();
    block_on(executor.run(async {
        converse(task).await;
        while threads.lock().unwrap().len() < 4 {
            yield_now().await;
        }
    }));
    assert_eq!(*threads.lock().unwrap(), [here; 4]);

    // Of many threads: one callback at a time all the same, on one of them.
    let runtime = tokio_many_threads();
    let handle = runtime.handle().clone();
    let queue = OperationQueue::with_executor(move |operation| drop(handle.spawn(async { operation() })));
    let (session, threads) = noting_session(queue);
    let conversations = (0..10).map(|_| {
        let task = session.web_socket_task(server.url());
        task.resume();
        converse(task)
    });
    run_with_tokio(&runtime, conversations.collect());
    eventually("all callbacks", || threads.lock().unwrap().len() == 40);
    assert!(!threads.lock().unwrap().contains(&here));
}
