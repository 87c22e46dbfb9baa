//! Callbacks in batches: floods of messages and of sends, and what callbacks do in the middle of them.

mod support;

use std::future::Future;
use std::io::{ErrorKind, Write};
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use support::echo::EchoServer;
use support::flood::{Flood, KINDS, Other, Queue, finish, flood, frames, message, whole_flood};
use support::hooks::{Dice, eventually};
use support::{PATIENCE, Server, frame};
use urlsession::{CloseCode, Message, OperationQueue, WebSocketTask};

/// How long the absence of something is waited for.
const MOMENT: Duration = Duration::from_millis(30);

#[test]
fn every_message_of_a_flood_arrives_once_and_in_order() {
    const TOTAL: usize = 3000;
    type Ask = fn(&Arc<Flood>);
    fn two(flood: &Arc<Flood>) {
        (0..2).for_each(|_| flood.ask(|flood, _| two(flood)));
    }
    let asks: [(&str, Ask); 3] =
        [("one", |flood| flood.again()), ("two", two), ("all", |flood| (0..TOTAL).for_each(|_| flood.ask(|_, _| ())))];
    for kind in KINDS {
        for (name, ask) in asks {
            let (queue, server) = (Queue::new(kind), whole_flood(TOTAL));
            let (flood, _events) = Flood::new(&server, &queue, TOTAL);
            ask(&flood);
            flood.task.resume();
            queue.wait("all messages", || flood.count() == TOTAL);
            assert_eq!(flood.expect_in_order(&format!("{name} on {kind}")), TOTAL);
            finish(flood, &queue, server);
        }
    }
}

type Pending = Arc<Mutex<Vec<(usize, urlsession::TaskFuture<Message>)>>>;

/// Asks for the next messages from a callback and from another thread, in every order, with and without futures.
fn ask_everywhere(flood: &Arc<Flood>, other: &Arc<Other>, pending: &Pending, dice: u64) {
    let mut dice = Dice(dice);
    for _ in 0..1 + dice.below(4) {
        let (again, pending_then, seed) = (Arc::clone(other), Arc::clone(pending), dice.below(1 << 30));
        let next = move |flood: &Arc<Flood>, _| ask_everywhere(flood, &again, &pending_then, seed);
        match dice.below(4) {
            0 => {
                let flood = Arc::clone(flood);
                other.run(move || flood.ask(next));
            }
            1 => {
                if let Some(number) = flood.next() {
                    pending.lock().unwrap().push((number, flood.task.receive_async()));
                }
            }
            _ => flood.ask(next),
        }
    }
    // Of futures none asks again.
    let next = (Arc::clone(other), Arc::clone(pending));
    flood.ask(move |flood, number| ask_everywhere(flood, &next.0, &next.1, number as u64));
}

#[test]
fn receives_are_served_in_the_order_of_the_calls_from_wherever_they_come() {
    const TOTAL: usize = 2000;
    for kind in KINDS {
        let (queue, server) = (Queue::new(kind), whole_flood(TOTAL));
        let (flood, _events) = Flood::new(&server, &queue, TOTAL);
        let pending = Pending::default();
        ask_everywhere(&flood, &Arc::new(Other::new()), &pending, 1);
        flood.task.resume();
        queue.wait("all messages", || {
            let mut context = Context::from_waker(Waker::noop());
            pending.lock().unwrap().retain_mut(|(number, future)| match pin!(future).poll(&mut context) {
                Poll::Ready(result) => {
                    flood.note(*number, result);
                    false
                }
                Poll::Pending => true,
            });
            flood.count() == TOTAL
        });
        // Futures are looked at late: what counts is which message each has.
        flood.told.lock().unwrap().sort();
        assert_eq!(flood.expect_in_order(kind), TOTAL);
        finish(flood, &queue, server);
    }
}

#[test]
fn a_future_that_a_callback_drops_leaves_its_message_to_the_receive_behind_it() {
    for kind in KINDS {
        let (go, ready) = mpsc::channel();
        let (queue, server) = (Queue::new(kind), flood(10, true, 0, ready));
        let (flood, events) = Flood::new(&server, &queue, 4);
        flood.task.resume();
        queue.wait("the opening", || !events.log().is_empty());
        let future = Arc::new(Mutex::new(None));
        let dropped = Arc::clone(&future);
        flood.ask(move |_, _| drop(dropped.lock().unwrap().take()));
        *future.lock().unwrap() = Some(flood.task.receive_async());
        (0..3).for_each(|_| flood.ask(|_, _| ()));
        go.send(()).unwrap();
        queue.wait("four messages", || flood.count() == 4);
        assert_eq!(flood.expect_in_order(kind), 4);
        flood.session.invalidate_and_cancel();
    }
}

#[test]
fn once_the_end_is_told_receives_fail_in_the_order_of_the_calls_from_wherever_they_come() {
    for kind in KINDS {
        let (queue, server) = (
            Queue::new(kind),
            Server::one(|mut peer| {
                peer.open();
                peer.close(1000, "");
                peer.read_close();
            }),
        );
        let (flood, _events) = Flood::new(&server, &queue, 5);
        let other = Other::new();
        flood.ask(move |flood, _| {
            flood.ask(|_, _| ());
            let asking = Arc::clone(flood);
            other.run(move || asking.ask(|_, _| ()));
            flood.ask(|_, _| ());
            flood.ask(|_, _| ());
        });
        flood.task.resume();
        queue.wait("five failures", || flood.count() == 5);
        assert_eq!(flood.expect_in_order(kind), 0);
        flood.session.invalidate_and_cancel();
        server.join();
    }
}

/// How a flood is brought to its end, in words and as a call.
type End = (&'static str, fn(&Flood));

const ENDS: [End; 3] = [
    ("cancel", |flood| flood.task.cancel()),
    ("cancel_with", |flood| flood.task.cancel_with(CloseCode::GOING_AWAY, None)),
    ("invalidate", |flood| flood.session.invalidate_and_cancel()),
];

#[test]
fn nothing_is_told_that_no_receive_took_before_the_task_was_cancelled() {
    const AT: usize = 300;
    for kind in KINDS {
        for (name, end) in ENDS {
            for inside in [true, false] {
                let context = format!("{name} on {kind}, inside: {inside}");
                let (queue, server) = (Queue::new(kind), flood(4000, true, 4000, mpsc::channel().1));
                let (flood, events) = Flood::new(&server, &queue, AT + 20);
                let other = Arc::new(Other::new());
                fn usual(flood: &Arc<Flood>, other: &Arc<Other>, end: fn(&Flood), inside: bool) {
                    let other = Arc::clone(other);
                    flood.ask(move |flood, number| {
                        if number == AT && inside {
                            // One that waits; others come too late.
                            usual(flood, &other, end, inside);
                            return end(flood);
                        } else if number == AT {
                            let flood = Arc::clone(flood);
                            other.run(move || end(&flood));
                        }
                        usual(flood, &other, end, inside);
                    });
                }
                usual(&flood, &other, end, inside);
                flood.task.resume();
                queue.wait(&format!("the end after {name}"), || flood.count() == AT + 20);
                assert_eq!(flood.expect_in_order(&context), AT + 1, "{context}");
                let told = flood.told.lock().unwrap().clone();
                assert!(told[AT + 1..].iter().all(|(_, result)| *result == Err(-999)), "{context}: {told:?}");
                flood.session.invalidate_and_cancel();
                queue.wait("the session's end", || events.log().iter().any(|event| event == "invalid None"));
                let log = events.log();
                let place = |what: &str| log.iter().position(|event| event.starts_with(what)).unwrap();
                assert!(place(&format!("fail {}", AT + 1)) < place("complete"), "{context}: {log:?}");
                assert_eq!(log.iter().filter(|event| event.starts_with("complete")).count(), 1, "{context}");
                assert_eq!(log.iter().any(|event| event.starts_with("close 1001")), name == "cancel_with", "{context}");
                server.join();
            }
        }
    }
}

#[test]
fn a_suspended_task_or_queue_keeps_the_rest_of_a_flood_until_it_is_resumed() {
    const TOTAL: usize = 3000;
    const AT: usize = 300;
    fn usual(flood: &Arc<Flood>, at: &Sender<()>, suspend: fn(&Flood)) {
        let at = at.clone();
        flood.ask(move |flood, number| {
            if number == AT {
                suspend(flood);
                at.send(()).unwrap();
            }
            usual(flood, &at, suspend);
        });
    }
    for kind in KINDS {
        // The task: what it has read is told, what comes later is not.
        let (go, ready) = mpsc::channel();
        let (queue, server) = (Queue::new(kind), flood(TOTAL, true, 1000, ready));
        let (flood, _events) = Flood::new(&server, &queue, TOTAL);
        let (at, is_at) = mpsc::channel();
        usual(&flood, &at, |flood| flood.task.suspend());
        flood.task.resume();
        queue.wait("the middle", || flood.count() > AT);
        is_at.recv_timeout(PATIENCE).unwrap();
        go.send(()).unwrap();
        thread::sleep(MOMENT);
        if kind == "main" {
            OperationQueue::main().run_pending();
        }
        assert!(flood.count() <= 1000, "a suspended task read on, on {kind}");
        flood.task.resume();
        queue.wait("the rest", || flood.count() == TOTAL);
        assert_eq!(flood.expect_in_order(kind), TOTAL);
        finish(flood, &queue, server);

        // The queue: not one callback more.
        if kind == "main" || kind == "inline" {
            continue;
        }
        let (queue, server) = (Queue::new(kind), whole_flood(TOTAL));
        let (flood, _events) = Flood::new(&server, &queue, TOTAL);
        usual(&flood, &at, |flood| flood.session.delegate_queue().set_suspended(true));
        flood.task.resume();
        is_at.recv_timeout(PATIENCE).unwrap();
        thread::sleep(MOMENT);
        assert_eq!(flood.count(), AT + 1, "on {kind}");
        flood.session.delegate_queue().set_suspended(false);
        queue.wait("the rest", || flood.count() == TOTAL);
        assert_eq!(flood.expect_in_order(kind), TOTAL);
        finish(flood, &queue, server);
    }
}

#[test]
fn a_callback_that_panics_takes_nothing_with_it() {
    const TOTAL: usize = 1500;
    fn usual(flood: &Arc<Flood>) {
        flood.ask(|flood, number| {
            usual(flood);
            if number % 7 == 0 {
                resume_unwind(Box::new("on purpose"));
            }
        });
    }
    for kind in KINDS {
        let (queue, server) = (Queue::new(kind), whole_flood(TOTAL));
        let (flood, _events) = Flood::new(&server, &queue, TOTAL);
        usual(&flood);
        flood.task.resume();
        queue.wait("all messages", || flood.count() == TOTAL);
        assert_eq!(flood.expect_in_order(kind), TOTAL);
        finish(flood, &queue, server);
    }
}

#[test]
fn callbacks_that_left_the_mailbox_count_until_they_ran() {
    const COUNT: usize = 40;
    for kind in ["serial", "concurrent", "executor"] {
        let (go, ready) = mpsc::channel();
        let own = Queue::new(if kind == "serial" { "default" } else { kind });
        let (queue, server) = (own, flood(COUNT + 1, true, 0, ready));
        let (flood, events) = Flood::new(&server, &queue, COUNT + 1);
        flood.task.resume();
        events.wait_for("open");
        let operations = flood.session.delegate_queue();
        eventually("an idle queue", || operations.operation_count() == 0);
        let (counts, counted) = mpsc::channel();
        for what in ["messages", "sends"] {
            // The first waits until all are there; then each counts itself and those behind it.
            let (all, all_are_there) = mpsc::channel::<()>();
            let all_are_there = Arc::new(Mutex::new(Some(all_are_there)));
            let mut sends = Vec::new();
            for _ in 0..COUNT {
                let (first, counts, operations) = (Arc::clone(&all_are_there), counts.clone(), operations.clone());
                let count = move || {
                    if let Some(all_are_there) = first.lock().unwrap().take() {
                        let _ = all_are_there.recv_timeout(PATIENCE);
                    }
                    counts.send(operations.operation_count()).unwrap();
                };
                if what == "messages" {
                    flood.ask(move |_, _| count());
                } else {
                    sends.push(count);
                }
            }
            if what == "sends" {
                // Under one cork, so that they are told of together.
                flood.ask(|flood, _| sends.into_iter().for_each(|count| flood.task.send("x", move |_| count())));
            }
            let _ = go.send(());
            eventually(&format!("all {what} on {kind}"), || operations.operation_count() == COUNT);
            drop(all);
            let numbers: Vec<usize> = (0..COUNT).map(|_| counted.recv_timeout(PATIENCE).unwrap()).collect();
            assert_eq!(numbers, (1..=COUNT).rev().collect::<Vec<_>>(), "{what} on {kind}");
            eventually("an idle queue", || operations.operation_count() == 0);
        }
        flood.session.invalidate_and_cancel();
        server.join();
    }
}

#[test]
fn what_callbacks_send_leaves_in_order_and_is_told_in_order() {
    const MESSAGES: usize = 600;
    const EACH: usize = 5;
    for kind in KINDS {
        let (queue, server) = (
            Queue::new(kind),
            Server::one(|mut peer| {
                peer.open();
                let all = (0..MESSAGES).flat_map(|number| frames(number, &mut Dice(0), true));
                peer.write(&all.collect::<Vec<u8>>());
                for number in 0..MESSAGES * EACH {
                    assert_eq!(peer.read_frame().payload, number.to_string().into_bytes());
                }
                peer.close(1000, "");
                peer.read_close();
            }),
        );
        let (flood, _events) = Flood::new(&server, &queue, MESSAGES);
        let sent = Arc::new(Mutex::new(Vec::new()));
        fn usual(flood: &Arc<Flood>, sent: &Arc<Mutex<Vec<usize>>>) {
            let sent = Arc::clone(sent);
            flood.ask(move |flood, number| {
                for number in number * EACH..(number + 1) * EACH {
                    let sent = Arc::clone(&sent);
                    flood.task.send(number.to_string(), move |result| {
                        result.unwrap();
                        sent.lock().unwrap().push(number);
                    });
                }
                usual(flood, &sent);
            });
        }
        usual(&flood, &sent);
        flood.task.resume();
        queue.wait("all sends", || sent.lock().unwrap().len() == MESSAGES * EACH);
        assert!(*sent.lock().unwrap() == (0..MESSAGES * EACH).collect::<Vec<_>>(), "{kind}: {sent:?}");
        assert_eq!(flood.expect_in_order(kind), MESSAGES);
        flood.session.invalidate_and_cancel();
        server.join();
    }
}

#[test]
fn what_a_callback_sends_that_runs_alone_is_told_in_order_whatever_comes_between() {
    const ROUNDS: usize = 120;
    struct Sends {
        called: Mutex<usize>,
        told: Mutex<Vec<usize>>,
        is_suspended: AtomicUsize,
    }
    impl Sends {
        /// The numbers are those of the calls.
        fn send(self: &Arc<Self>, task: &WebSocketTask, text: &str) {
            let mut called = self.called.lock().unwrap();
            let (sends, number) = (Arc::clone(self), *called);
            *called += 1;
            task.send(text, move |result| {
                result.unwrap();
                assert_eq!(sends.is_suspended.load(SeqCst), 0, "a callback of a suspended queue");
                sends.told.lock().unwrap().push(number);
            });
        }
    }
    fn usual(flood: &Arc<Flood>, sends: &Arc<Sends>, other: &Arc<Other>, suspends: bool) {
        let (sends, other) = (Arc::clone(sends), Arc::clone(other));
        flood.ask(move |flood, number| {
            usual(flood, &sends, &other, suspends);
            let (task, told) = (&flood.task, sends.told.lock().unwrap().len());
            let elsewhere = || {
                let (sends, task) = (Arc::clone(&sends), task.clone());
                other.run(move || sends.send(&task, "from elsewhere"));
            };
            if number & 3 == 1 {
                elsewhere();
            }
            sends.send(task, "first");
            if number & 3 == 3 {
                elsewhere();
            }
            if number & 2 > 0 {
                sends.send(task, "behind it");
            }
            if number & 4 > 0 && suspends {
                let queue = flood.session.delegate_queue();
                queue.set_suspended(true);
                sends.is_suspended.store(1, SeqCst);
                let sends = Arc::clone(&sends);
                thread::spawn(move || {
                    thread::sleep(Duration::from_millis(2));
                    sends.is_suspended.store(0, SeqCst);
                    queue.set_suspended(false);
                });
            }
            sends.send(task, "last");
            assert_eq!(sends.told.lock().unwrap().len(), told, "a callback inside another");
            if number & 8 > 0 {
                resume_unwind(Box::new("on purpose"));
            }
        });
    }
    for kind in KINDS {
        let (queue, server) = (
            Queue::new(kind),
            Server::one(|mut peer| {
                peer.open();
                for number in 0..ROUNDS {
                    peer.write(&frames(number, &mut Dice(0), true));
                    while peer.read_frame().payload != b"last" {}
                }
                peer.close(1000, "");
                peer.read_close();
            }),
        );
        let (flood, _events) = Flood::new(&server, &queue, ROUNDS);
        let sends =
            Arc::new(Sends { called: Mutex::default(), told: Mutex::default(), is_suspended: AtomicUsize::new(0) });
        let other = Arc::new(Other::new());
        usual(&flood, &sends, &other, kind != "main" && kind != "inline");
        flood.task.resume();
        let all = 3 * ROUNDS;
        queue.wait("all sends", || sends.told.lock().unwrap().len() == all);
        assert!(*sends.told.lock().unwrap() == (0..all).collect::<Vec<_>>(), "{kind}: {:?}", sends.told);
        assert_eq!(flood.expect_in_order(kind), ROUNDS);
        flood.session.invalidate_and_cancel();
        server.join();
    }
}

#[test]
fn a_task_that_stops_receiving_in_a_flood_holds_the_server_back_and_loses_nothing() {
    // More than sockets on loopback hold.
    const TOTAL: usize = 20_000;
    const AT: usize = 500;
    for kind in KINDS {
        let (stuck, is_stuck) = mpsc::channel();
        let server = Server::one(move |mut peer| {
            peer.open();
            peer.stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
            let all: Vec<u8> = (0..TOTAL)
                .flat_map(|number| frame(if number % 70 < 40 { 0x81 } else { 0x82 }, &message(number, 800)))
                .collect();
            let (mut rest, mut patience) = (&all[..], 200);
            while !rest.is_empty() {
                match peer.stream.write(rest) {
                    Ok(count) => rest = &rest[count..],
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                        let _ = stuck.send(true);
                        patience -= 1;
                        assert!(patience > 0, "the client reads no more");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            let _ = stuck.send(false);
            peer.read_close();
        });
        let queue = Queue::new(kind);
        let (flood, _events) = Flood::new(&server, &queue, TOTAL);
        flood.task.set_maximum_message_size(64 * 1024);
        fn until(flood: &Arc<Flood>, last: usize) {
            flood.ask(move |flood, number| {
                if number < last {
                    until(flood, last)
                }
            });
        }
        until(&flood, AT);
        flood.task.resume();
        queue.wait("the middle", || flood.count() == AT + 1);
        assert!(is_stuck.recv_timeout(PATIENCE).unwrap(), "all was read on {kind}, though nobody took it");
        assert_eq!(flood.count(), AT + 1);
        until(&flood, TOTAL);
        queue.wait("the rest", || flood.count() == TOTAL);
        assert_eq!(flood.expect_in_order(kind), TOTAL);
        flood.session.invalidate_and_cancel();
        server.join();
    }
}

#[test]
fn a_callback_may_send_and_wait_for_the_answer_in_the_middle_of_a_flood() {
    // Not on the reactor itself, which would have to write.
    for kind in ["default", "concurrent", "main", "executor"] {
        let (heard, hears) = mpsc::channel();
        let server = Server::one(move |mut peer| {
            peer.open();
            peer.write(&(0..500).flat_map(|number| frames(number, &mut Dice(0), true)).collect::<Vec<_>>());
            while let Ok(frame) = peer.try_read_frame()
                && frame.opcode() != 8
            {
                heard.send(frame.payload).unwrap_or_default();
            }
        });
        let queue = Queue::new(kind);
        let (flood, events) = Flood::new(&server, &queue, 500);
        let hears = Arc::new(Mutex::new(hears));
        fn usual(flood: &Arc<Flood>, hears: &Arc<Mutex<Receiver<Vec<u8>>>>) {
            let hears = Arc::clone(hears);
            flood.ask(move |flood, number| {
                usual(flood, &hears);
                if number % 50 == 7 {
                    flood.task.send(number.to_string(), |_| ());
                    let heard = hears.lock().unwrap().recv_timeout(PATIENCE / 4);
                    if heard != Ok(number.to_string().into_bytes()) {
                        flood.recorder.note(format!("held back {number}"));
                    }
                }
            });
        }
        usual(&flood, &hears);
        flood.task.resume();
        queue.wait("all messages", || flood.count() == 500);
        assert_eq!(flood.expect_in_order(kind), 500);
        flood.session.invalidate_and_cancel();
        server.join();
        assert!(!events.log().iter().any(|event| event.starts_with("held")), "{kind}: {:?}", events.log());
    }
}

#[test]
fn a_callback_may_pump_the_main_queue_in_the_middle_of_a_flood() {
    const TOTAL: usize = 600;
    let (queue, server, echo) = (Queue::new("main"), whole_flood(TOTAL), EchoServer::start());
    let (flood, events) = Flood::new(&server, &queue, TOTAL);
    let second = flood.session.web_socket_task(echo.url());
    second.resume();
    fn usual(flood: &Arc<Flood>, second: &WebSocketTask) {
        let second = second.clone();
        flood.ask(move |flood, number| {
            // This one is kept; the one that the inner callback asks for stands behind it.
            usual(flood, &second);
            if number % 50 == 7 {
                let (answered, inner) = (Arc::new(AtomicUsize::new(0)), Arc::clone(flood));
                let answer = Arc::clone(&answered);
                second.receive(move |result| {
                    assert_eq!(result.unwrap(), "question".into());
                    inner.ask(|_, _| ());
                    answer.store(1, SeqCst);
                });
                second.send("question", |_| ());
                let done = || answered.load(SeqCst) == 1;
                if !OperationQueue::main().run_until(Instant::now() + PATIENCE / 4, done) {
                    flood.recorder.note("no answer inside");
                }
            }
        });
    }
    usual(&flood, &second);
    flood.task.resume();
    queue.wait("all messages", || flood.count() == TOTAL);
    assert_eq!(flood.expect_in_order("nested"), TOTAL);
    assert!(!events.log().iter().any(|event| event == "no answer inside"));
    finish(flood, &queue, server);
}
