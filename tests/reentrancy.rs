//! Calls from inside callbacks: every call in every place, on every kind of queue; and a storm of calls from many threads.
//! No deadlock, one end, and every handler called once.

mod support;

use std::collections::HashMap;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender, TryRecvError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use support::echo::EchoServer;
use support::hooks::{Called, Dice, eventually, hooks};
use support::{PATIENCE, Peer, Server, frame, recorded_session_with};
use urlsession::{
    CloseCode, Message, OperationQueue, SessionConfiguration, SessionTask, TaskState, Url, UrlSession, WebSocketTask,
};

/// Where user code runs.
const PLACES: [&str; 12] = [
    "create",
    "informational",
    "open",
    "sent",
    "received",
    "ponged",
    "close",
    "metrics",
    "complete",
    "invalid",
    "tasks",
    "reset",
];

/// What may be done from inside a callback.
const ACTIONS: [&str; 15] = [
    "send",
    "receive",
    "ping",
    "cancel",
    "cancel_with",
    "new task",
    "dropped task",
    "finish",
    "invalidate",
    "drop handles",
    "suspend and resume",
    "all tasks",
    "reset",
    "look and set",
    "queue",
];

/// A task with one send, one receive and one ping, then a close; in one place something else is done.
struct Scenario {
    place: &'static str,
    action: &'static str,
    done: AtomicBool,
    url: Url,
    log: Sender<String>,
    asked: AtomicUsize,
    answered: AtomicUsize,
    /// How many of the three first handlers were called.
    first: AtomicUsize,
    held: Mutex<Option<(UrlSession, WebSocketTask)>>,
}

impl Scenario {
    /// A handler that has to be called, once, as its type says.
    fn handler<T>(self: &Arc<Self>) -> impl FnOnce(T) + Send + 'static {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let scenario = Arc::clone(self);
        move |_| {
            scenario.answered.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// One of the three handlers of the task: the last of them closes it.
    fn first_handler<T>(
        self: &Arc<Self>,
        place: &'static str,
        task: &WebSocketTask,
    ) -> impl FnOnce(T) + Send + 'static {
        let answered = self.handler();
        let (scenario, task) = (Arc::clone(self), task.clone());
        move |result: T| {
            scenario.act(place, &scenario.session(&task), &task);
            answered(result);
            if scenario.first.fetch_add(1, Ordering::SeqCst) == 2 {
                task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
            }
        }
    }

    /// A handler has no session at hand but that which is held.
    fn session(&self, _task: &WebSocketTask) -> Option<UrlSession> {
        self.held.lock().unwrap().as_ref().map(|(session, _)| session.clone())
    }

    fn act(self: &Arc<Self>, place: &'static str, session: &Option<UrlSession>, task: &WebSocketTask) {
        if place != self.place || self.done.swap(true, Ordering::SeqCst) {
            return;
        }
        let Some(session) = session else { return };
        match self.action {
            "send" => (0..3).for_each(|_| task.send(vec![7; 40_000], self.handler())),
            "receive" => (0..3).for_each(|_| task.receive(self.handler())),
            "ping" => (0..3).for_each(|_| task.send_ping(self.handler())),
            "cancel" => task.cancel(),
            "cancel_with" => task.cancel_with(CloseCode::GOING_AWAY, Some(b"inside")),
            "new task" => {
                let new = session.web_socket_task(&self.url);
                new.receive(self.handler());
                new.send("new", self.handler());
                new.resume();
            }
            "dropped task" => {
                let new = session.web_socket_task(&self.url);
                new.receive(self.handler());
                new.send("new", self.handler());
            }
            "finish" => session.finish_tasks_and_invalidate(),
            "invalidate" => session.invalidate_and_cancel(),
            "drop handles" => drop(self.held.lock().unwrap().take()),
            "suspend and resume" => {
                task.suspend();
                task.suspend();
                task.resume();
                task.resume();
            }
            "all tasks" => session.get_all_tasks(self.handler()),
            "reset" => {
                let (reset, flush) = (self.handler(), self.handler());
                session.reset(move || reset(()));
                session.flush(move || flush(()));
            }
            "look and set" => {
                let _ = format!("{session:?} {task:?} {:?} {:?}", task.error(), task.response());
                let _ = (task.state(), task.close_code(), task.close_reason(), task.buffered_amount());
                let _ = (task.count_of_bytes_sent(), task.count_of_bytes_received(), task.maximum_message_size());
                task.set_maximum_message_size(1 << 20);
                task.set_priority(SessionTask::HIGH_PRIORITY);
                task.set_task_description(Some("inside"));
                task.set_delegate(task.delegate());
                session.set_session_description(session.session_description().as_deref());
                let _ = (session.configuration(), session.delegate());
            }
            "queue" => {
                let operation = self.handler();
                let queue = session.delegate_queue();
                queue.add_operation(move || operation(()));
                let _ = (queue.operation_count(), queue.is_suspended(), format!("{queue:?}"));
                queue.set_suspended(false);
                queue.set_max_concurrent_operation_count(queue.max_concurrent_operation_count());
                queue.wait_until_all_operations_are_finished();
            }
            other => panic!("{other}"),
        }
    }

    fn run(place: &'static str, action: &'static str, url: Url, queue: Option<OperationQueue>) {
        let (log, receiver) = mpsc::channel();
        let scenario = Arc::new(Self {
            place,
            action,
            done: AtomicBool::new(false),
            url,
            log,
            asked: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            first: AtomicUsize::new(0),
            held: Mutex::new(None),
        });
        let delegate = hooks({
            let scenario = Arc::clone(&scenario);
            move |session, task, called| {
                let number = task.map(|task| task.task_identifier()).unwrap_or_default();
                scenario.log.send(format!("{} {number}", called.name())).unwrap();
                let held = scenario.held.lock().unwrap().as_ref().map(|(_, task)| task.clone());
                // The first task is the one that all is about; the session's own callback needs a handle of it.
                if let Some(task) = task.cloned().or(held)
                    && number <= 1
                {
                    scenario.act(called.name(), &Some(session.clone()), &task);
                }
                if let (Called::Complete(_), 1) = (called, number) {
                    session.invalidate_and_cancel();
                }
            }
        });
        let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate.clone()), queue);
        let task = session.web_socket_task(&scenario.url);
        *scenario.held.lock().unwrap() = Some((session.clone(), task.clone()));
        task.send("x", scenario.first_handler("sent", &task));
        task.receive(scenario.first_handler("received", &task));
        task.send_ping(scenario.first_handler("ponged", &task));
        let (tasks, reset) = (scenario.handler(), scenario.handler());
        let (one, two) = ((Arc::clone(&scenario), task.clone()), (Arc::clone(&scenario), task.clone()));
        session.get_all_tasks(move |all| {
            one.0.act("tasks", &one.0.session(&one.1), &one.1);
            tasks(all);
        });
        session.reset(move || {
            two.0.act("reset", &two.0.session(&two.1), &two.1);
            reset(());
        });
        task.resume();
        drop((session, task));
        let mut told = Vec::new();
        while told.last().is_none_or(|last| last != "invalid 0") {
            let event = receiver.recv_timeout(PATIENCE);
            told.push(event.unwrap_or_else(|_| panic!("{action} in {place}: nothing comes after {told:?}")));
        }
        let count = |name| told.iter().filter(|event| **event == name).count();
        assert_eq!((count("complete 1"), count("metrics 1")), (1, 1), "{action} in {place}: {told:?}");
        // A task that was made in the last callback and dropped there is told of by its creation only.
        let last = told[..told.len() - 1].iter().rfind(|event| !event.starts_with("create"));
        assert!(last.is_some_and(|last| last.starts_with("complete")), "{action} in {place}: {told:?}");
        scenario.held.lock().unwrap().take();
        eventually(&format!("all handlers of {action} in {place}"), || {
            scenario.asked.load(Ordering::SeqCst) == scenario.answered.load(Ordering::SeqCst)
        });
        eventually(&format!("the delegate of {action} in {place} is let go"), || Arc::strong_count(&delegate) == 1);
        // A task may be made even then; nothing is told of it.
        assert!(receiver.try_recv().is_err(), "{action} in {place}");
    }

    fn run_all(queue: impl Fn() -> Option<OperationQueue>) {
        // Messages enough for the receives that are asked for besides.
        let server = EchoServer::start_with(b"HTTP/1.1 103 Early Hints\r\n\r\n", b"\x81\x01a\x81\x01b\x82\x01c\x81\0");
        for place in PLACES {
            for action in ACTIONS {
                Self::run(place, action, server.url(), queue());
            }
        }
    }
}

#[test]
fn every_call_is_allowed_inside_every_callback_of_a_serial_queue() {
    Scenario::run_all(|| None);
}

#[test]
fn every_call_is_allowed_inside_every_callback_of_a_concurrent_queue() {
    Scenario::run_all(|| {
        let queue = OperationQueue::new();
        queue.set_max_concurrent_operation_count(4);
        Some(queue)
    });
}

#[test]
fn every_call_is_allowed_inside_every_callback_of_an_immediate_queue() {
    Scenario::run_all(|| Some(OperationQueue::immediate()));
}

#[test]
fn every_call_is_allowed_inside_every_callback_of_an_executor() {
    Scenario::run_all(|| {
        let (sender, receiver) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        thread::spawn(move || receiver.into_iter().for_each(|operation| operation()));
        Some(OperationQueue::with_executor(move |operation| sender.send(operation).unwrap()))
    });
}

#[test]
fn every_call_is_allowed_inside_every_callback_of_an_executor_that_runs_at_once() {
    Scenario::run_all(|| Some(OperationQueue::with_executor(|operation| operation())));
}

/// One call of the storm: task, thread, kind and its number among those.
type Call = (usize, usize, &'static str, usize);

#[test]
fn every_handler_is_called_once_and_in_order_under_a_storm() {
    const TASKS: usize = 200;
    const THREADS: usize = 4;
    const CALLS: usize = 3000;
    let seed = 20_240_607;
    let server = EchoServer::start();
    let queue = OperationQueue::new();
    queue.set_max_concurrent_operation_count(3);
    let (session, _, events) = recorded_session_with(SessionConfiguration::default(), Some(queue));
    let tasks: Vec<WebSocketTask> = (0..TASKS).map(|_| session.web_socket_task(server.url())).collect();
    let log: Arc<Mutex<Vec<Call>>> = Arc::default();
    let asked = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (tasks, log, asked) = (&tasks, &log, &asked);
            scope.spawn(move || {
                let mut dice = Dice(seed + thread as u64);
                for number in 0..CALLS {
                    let index = dice.below(TASKS as u64) as usize;
                    let task = &tasks[index];
                    let log = Arc::clone(log);
                    let note = move |kind| move || log.lock().unwrap().push((index, thread, kind, number));
                    match dice.below(100) {
                        0..30 => {
                            let note = note("send");
                            let message: Message = vec![1; dice.below(2000) as usize].into();
                            task.send(message, move |_| note());
                            asked.fetch_add(1, Ordering::SeqCst);
                        }
                        30..55 => {
                            let note = note("receive");
                            task.receive(move |_| note());
                            asked.fetch_add(1, Ordering::SeqCst);
                        }
                        55..75 => {
                            let note = note("ping");
                            task.send_ping(move |_| note());
                            asked.fetch_add(1, Ordering::SeqCst);
                        }
                        75..92 => task.resume(),
                        92..95 => {
                            task.suspend();
                            task.resume();
                        }
                        95..97 => task.cancel_with(CloseCode::NORMAL_CLOSURE, Some(b"storm")),
                        _ => task.cancel(),
                    }
                }
            });
        }
    });
    session.invalidate_and_cancel();
    events.wait_for("invalid");
    eventually("all handlers", || log.lock().unwrap().len() == asked.load(Ordering::SeqCst));
    assert_eq!(events.log().iter().filter(|event| event.starts_with("complete")).count(), TASKS);
    let mut last: HashMap<(usize, usize, &str), usize> = HashMap::new();
    for (task, thread, kind, number) in log.lock().unwrap().iter().copied() {
        let before = last.insert((task, thread, kind), number);
        assert!(
            before.is_none_or(|before| before < number),
            "seed {seed}: {kind} {number} of task {task} after {before:?}"
        );
    }
    assert!(tasks.iter().all(|task| task.state() == TaskState::Completed && task.buffered_amount() == 0));
}

#[test]
fn what_happened_first_is_told_first_though_a_write_is_under_way() {
    // The opening lets loose what waits to be sent. While that is written, for a long time, the task is cancelled.
    for _ in 0..10 {
        let (sender, receiver) = mpsc::channel();
        let (enough, over) = mpsc::channel::<()>();
        let server = Server::one(move |mut peer| {
            let request = peer.read_request();
            let mut answer = b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec();
            answer.extend(Peer::switching_protocols(&request, ""));
            answer.extend(frame(0x81, b"first words"));
            peer.write(&answer);
            peer.stream.read_exact(&mut [0; 1]).unwrap();
            sender.send(()).unwrap();
            // Reads on, so that there is much to write, until the test has seen enough.
            peer.stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            while let Err(TryRecvError::Empty) = over.try_recv() {
                let _ = peer.stream.read(&mut [0; 4096]);
            }
        });
        let (session, recorder, events) = recorded_session_with(SessionConfiguration::default(), None);
        let task = session.web_socket_task(server.url());
        for _ in 0..16 {
            task.send(vec![0; 1 << 20], |_| ());
        }
        task.receive(recorder.receiver("receive"));
        task.resume();
        receiver.recv_timeout(PATIENCE).unwrap();
        task.cancel();
        events.wait_for("complete -999");
        session.finish_tasks_and_invalidate();
        events.wait_for("invalid");
        let mut log = events.log();
        // Whether the message was faster than the cancel is open; where it was, its handler was, too.
        let received = log.iter().position(|event| event.starts_with("receive")).map(|index| log.remove(index));
        assert!(matches!(received.as_deref(), Some("receive string first words" | "receive -999")), "{received:?}");
        assert_eq!(log, ["informational 103", "open None", "metrics", "complete -999", "invalid None"]);
        drop(enough);
        server.join();
    }
}
