//! The wake hook of the main queue: what an application's loop relies on to pump it. There is one main queue in the process, so
//! these tests take turns.

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use support::echo::EchoServer;
use support::{PATIENCE, recorded_session_with};
use urlsession::{CloseCode, OperationQueue, SessionConfiguration};

/// How long the absence of something is waited for.
const MOMENT: Duration = Duration::from_millis(30);

/// The main queue, empty and with a hook that does nothing, for one test at a time.
fn main_queue() -> (OperationQueue, MutexGuard<'static, ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let queue = OperationQueue::main();
    queue.set_wake_hook(|| ());
    queue.set_suspended(false);
    while queue.run_pending() > 0 {}
    (queue, turn)
}

/// A hook that tells of each call.
fn wakes(queue: &OperationQueue) -> Receiver<()> {
    let (wake, woken) = mpsc::channel();
    // A test that is over no longer listens.
    queue.set_wake_hook(move || {
        let _ = wake.send(());
    });
    woken
}

#[track_caller]
fn wait<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(PATIENCE).expect("something in time")
}

/// An operation that counts.
fn count(counter: &Arc<AtomicUsize>) -> impl FnOnce() + Send + 'static {
    let counter = Arc::clone(counter);
    move || {
        counter.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn the_hook_alone_drives_a_task_from_its_start_to_its_end() {
    let (queue, _turn) = main_queue();
    let woken = wakes(&queue);
    let server = EchoServer::start();
    let (session, recorder, events) = recorded_session_with(SessionConfiguration::ephemeral(), Some(queue.clone()));
    let task = session.web_socket_task(server.url());
    let here = thread::current().id();
    let astray = Arc::new(AtomicUsize::new(0));
    for number in 0..200 {
        let (sent, received) = (recorder.handler("sent"), recorder.receiver("received"));
        let (first, second) = (Arc::clone(&astray), Arc::clone(&astray));
        task.send(number.to_string(), move |result| {
            first.fetch_add(usize::from(thread::current().id() != here), Ordering::SeqCst);
            sent(result);
        });
        task.receive(move |result| {
            second.fetch_add(usize::from(thread::current().id() != here), Ordering::SeqCst);
            received(result);
        });
    }
    let (closing, closed) = (task.clone(), recorder.handler("pinged"));
    task.send_ping(move |result| {
        closed(result);
        closing.cancel_with(CloseCode::NORMAL_CLOSURE, None);
    });
    task.resume();
    session.finish_tasks_and_invalidate();
    // One `run_pending` for each wake, as a loop does, and nothing without one.
    let (mut ran, mut wakes) = (0, 0);
    while !events.log().iter().any(|event| event.starts_with("invalid")) {
        wait(&woken);
        wakes += 1;
        ran += queue.run_pending();
    }
    let log = events.log();
    let of = |kind: &str| log.iter().filter(|event| event.starts_with(kind)).cloned().collect::<Vec<_>>();
    assert_eq!(of("sent"), vec!["sent ok"; 200]);
    assert_eq!(of("received"), (0..200).map(|number| format!("received string {number}")).collect::<Vec<_>>());
    assert_eq!(log.last().unwrap(), "invalid None");
    assert_eq!(astray.load(Ordering::SeqCst), 0);
    assert_eq!(ran, log.len(), "every callback was run by a pump, and counted");
    // Each call has a reason: what arrived, or what a pump left.
    assert!(wakes <= 2 * ran, "{wakes} wakes for {ran} callbacks");
}

#[test]
fn operations_from_any_thread_are_told_of_and_none_waits_for_ever() {
    const THREADS: usize = 8;
    const EACH: usize = 500;
    let (queue, _turn) = main_queue();
    let woken = wakes(&queue);
    let ran = Arc::new(AtomicUsize::new(0));
    let adders: Vec<_> = (0..THREADS)
        .map(|_| {
            let (queue, ran) = (queue.clone(), Arc::clone(&ran));
            thread::spawn(move || {
                for _ in 0..EACH {
                    queue.add_operation(count(&ran));
                }
            })
        })
        .collect();
    // As a loop that merges wakes: however many came, it pumps once. What a merged wake told of must not be lost.
    while ran.load(Ordering::SeqCst) < THREADS * EACH {
        wait(&woken);
        while woken.try_recv().is_ok() {}
        queue.run_pending();
    }
    adders.into_iter().for_each(|adder| adder.join().unwrap());
    assert_eq!((ran.load(Ordering::SeqCst), queue.operation_count()), (THREADS * EACH, 0));
}

#[test]
fn the_hook_runs_on_the_thread_that_brings_the_operation_and_may_use_the_queue() {
    let (queue, _turn) = main_queue();
    let (tell, told) = mpsc::channel();
    let inner = queue.clone();
    let renamed = AtomicBool::new(false);
    queue.set_wake_hook(move || {
        // Each of these takes the queue's locks.
        let name = if renamed.swap(true, Ordering::SeqCst) { "again" } else { "once" };
        inner.set_name(Some(name));
        let seen = (inner.operation_count(), inner.is_suspended(), inner.name(), format!("{inner:?}").is_empty());
        let _ = tell.send((thread::current().id(), seen.0, seen.1, seen.2));
    });
    let adding = queue.clone();
    let adder = thread::spawn(move || adding.add_operation(|| ()));
    let id = adder.thread().id();
    adder.join().unwrap();
    assert_eq!(wait(&told), (id, 1, false, Some("once".to_owned())));
    queue.add_operation(|| ());
    assert_eq!(wait(&told), (thread::current().id(), 2, false, Some("again".to_owned())));
    assert_eq!(queue.run_pending(), 2);
    queue.set_name(None);
}

#[test]
fn a_hook_that_adds_an_operation_is_called_for_it() {
    let (queue, _turn) = main_queue();
    let (tell, told) = mpsc::channel();
    let (inner, added) = (queue.clone(), AtomicBool::new(false));
    queue.set_wake_hook(move || {
        let _ = tell.send(());
        if !added.swap(true, Ordering::SeqCst) {
            inner.add_operation(|| ());
        }
    });
    queue.add_operation(|| ());
    wait(&told);
    wait(&told);
    assert_eq!(queue.run_pending(), 2);
    assert!(told.try_recv().is_err());
}

#[test]
fn a_hook_that_is_set_late_is_told_of_what_waits() {
    let (queue, _turn) = main_queue();
    let ran = Arc::new(AtomicUsize::new(0));
    (0..3).for_each(|_| queue.add_operation(count(&ran)));
    let woken = wakes(&queue);
    assert!(woken.try_recv().is_ok(), "inside the call");
    assert!(woken.try_recv().is_err(), "once");
    assert_eq!((queue.run_pending(), ran.load(Ordering::SeqCst)), (3, 3));
    // With nothing to run there is nothing to tell.
    let woken = wakes(&queue);
    assert!(woken.try_recv().is_err());
}

#[test]
fn a_hook_that_is_replaced_is_let_go_and_nothing_of_its_time_is_lost() {
    let (queue, _turn) = main_queue();
    let kept = Arc::new(());
    let (old, first) = (Arc::clone(&kept), AtomicUsize::new(0));
    let calls = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&calls);
    queue.set_wake_hook(move || {
        let _ = &old;
        first.fetch_add(1, Ordering::SeqCst);
        counting.fetch_add(1, Ordering::SeqCst);
    });
    let ran = Arc::new(AtomicUsize::new(0));
    queue.add_operation(count(&ran));
    // The old loop was told and did not come any more; the new one must be told, too.
    let woken = wakes(&queue);
    assert_eq!((calls.load(Ordering::SeqCst), Arc::strong_count(&kept)), (1, 1));
    wait(&woken);
    assert_eq!(queue.run_pending(), 1);
    queue.add_operation(count(&ran));
    wait(&woken);
    assert_eq!((queue.run_pending(), ran.load(Ordering::SeqCst)), (1, 2));
    assert_eq!(calls.load(Ordering::SeqCst), 1, "the old one is not called again");
}

#[test]
fn a_hook_may_replace_itself() {
    let (queue, _turn) = main_queue();
    let (tell, told) = mpsc::channel();
    let inner = queue.clone();
    queue.set_wake_hook(move || {
        let _ = tell.send("first");
        let tell = tell.clone();
        inner.set_wake_hook(move || {
            let _ = tell.send("second");
        });
    });
    queue.add_operation(|| ());
    assert_eq!((wait(&told), wait(&told)), ("first", "second"));
    queue.add_operation(|| ());
    assert_eq!(wait(&told), "second");
    assert_eq!(queue.run_pending(), 2);
    assert!(told.try_recv().is_err());
}

#[test]
fn a_hook_that_panics_takes_nothing_with_it() {
    let (queue, _turn) = main_queue();
    queue.set_wake_hook(|| panic!("on purpose"));
    let ran = Arc::new(AtomicUsize::new(0));
    queue.add_operation(count(&ran));
    queue.add_operation(count(&ran));
    assert_eq!((queue.run_pending(), ran.load(Ordering::SeqCst)), (2, 2));
}

#[test]
fn a_hook_may_hand_the_pump_to_a_thread() {
    let (queue, _turn) = main_queue();
    let (wake, woken) = mpsc::channel();
    let (pumping, (over, is_over)) = (queue.clone(), mpsc::channel());
    let pump = thread::spawn(move || {
        let ran: usize = woken.iter().map(|()| pumping.run_pending()).sum();
        let _ = over.send(ran);
    });
    let id = pump.thread().id();
    queue.set_wake_hook(move || {
        let _ = wake.send(());
    });
    let (tell, told) = mpsc::channel();
    for number in 0..100 {
        let (tell, more, inner) = (tell.clone(), tell.clone(), queue.clone());
        queue.add_operation(move || {
            let _ = tell.send((number, thread::current().id()));
            inner.add_operation(move || {
                let _ = more.send((1000, thread::current().id()));
            });
        });
    }
    let all: Vec<_> = (0..200).map(|_| wait(&told)).collect();
    assert!(all.iter().all(|(_, thread)| *thread == id));
    let outer: Vec<_> = all.iter().map(|(number, _)| *number).filter(|number| *number < 1000).collect();
    assert_eq!(outer, (0..100).collect::<Vec<_>>(), "in order");
    // The hook held the channel.
    queue.set_wake_hook(|| ());
    assert_eq!(wait(&is_over), 200);
}

/// Against the advice of its documentation, which a program may overlook: no deadlock, nothing lost, nothing twice.
#[test]
fn a_hook_that_pumps_loses_nothing() {
    let (queue, _turn) = main_queue();
    let pumping = queue.clone();
    queue.set_wake_hook(move || {
        pumping.run_pending();
    });
    let ran = Arc::new(AtomicUsize::new(0));
    let adders: Vec<_> = (0..4)
        .map(|_| {
            let (queue, ran) = (queue.clone(), Arc::clone(&ran));
            thread::spawn(move || {
                for _ in 0..100 {
                    let (inner, counting) = (queue.clone(), Arc::clone(&ran));
                    queue.add_operation(move || inner.add_operation(count(&counting)));
                }
            })
        })
        .collect();
    adders.into_iter().for_each(|adder| adder.join().unwrap());
    assert_eq!((ran.load(Ordering::SeqCst), queue.operation_count()), (400, 0));
}

#[test]
fn an_operation_that_pumps_leaves_no_wake_behind() {
    let (queue, _turn) = main_queue();
    let woken = wakes(&queue);
    let ran = Arc::new(AtomicUsize::new(0));
    let (inner, outer) = (queue.clone(), count(&ran));
    queue.add_operation(move || {
        // A modal loop: it waits for something that another thread brings to the same queue.
        let shown = Arc::new(AtomicBool::new(false));
        let (adding, showing) = (inner.clone(), Arc::clone(&shown));
        let adder = thread::spawn(move || adding.add_operation(move || showing.store(true, Ordering::SeqCst)));
        assert!(inner.run_until(Instant::now() + PATIENCE, || shown.load(Ordering::SeqCst)));
        adder.join().unwrap();
        outer();
    });
    queue.add_operation(count(&ran));
    wait(&woken);
    assert!(queue.run_pending() > 0);
    while woken.try_recv().is_ok() {
        queue.run_pending();
    }
    assert_eq!((ran.load(Ordering::SeqCst), queue.operation_count()), (2, 0));
}

#[test]
fn a_suspended_queue_wakes_nobody_until_it_is_resumed() {
    let (queue, _turn) = main_queue();
    let woken = wakes(&queue);
    let server = EchoServer::start();
    let (session, _, events) = recorded_session_with(SessionConfiguration::ephemeral(), Some(queue.clone()));
    queue.set_suspended(true);
    let task = session.web_socket_task(server.url());
    task.resume();
    support::hooks::eventually("the open socket waits to be told", || queue.operation_count() == 1);
    assert!(woken.recv_timeout(MOMENT).is_err());
    assert_eq!(queue.run_pending(), 0);
    queue.set_suspended(false);
    wait(&woken);
    assert_eq!(queue.run_pending(), 1);
    assert_eq!(events.next(), "open None");
    session.invalidate_and_cancel();
    let deadline = Instant::now() + PATIENCE;
    assert!(queue.run_until(deadline, || events.log().iter().any(|event| event.starts_with("invalid"))));
}
