//! The queue that the application pumps. There is one in the process, so these tests take turns.

use std::sync::mpsc;

use parking_lot::MutexGuard;

use super::*;

/// The main queue, empty and as it was at first, for one test at a time.
fn main_queue() -> (OperationQueue, MutexGuard<'static, ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock();
    let queue = OperationQueue::main();
    let shared = queue.shared();
    let mut state = shared.state.lock();
    state.pump = None;
    state.suspended = false;
    let left: VecDeque<_> = mem::take(&mut state.waiting);
    let hook = state.wake_hook.take();
    drop(state);
    drop((left, hook));
    (queue, turn)
}

fn far() -> Instant {
    Instant::now() + BOUND
}

#[test]
fn main_runs_nothing_by_itself_and_pending_operations_when_pumped() {
    let (queue, _turn) = main_queue();
    let (tell, events) = mpsc::channel();
    for number in 0..3 {
        let (tell, inner) = (tell.clone(), queue.clone());
        queue.add_operation(move || {
            assert!(inner.is_current());
            let tell_too = tell.clone();
            inner.add_operation(move || tell_too.send(number + 10).unwrap());
            tell.send(number).unwrap();
        });
    }
    assert_eq!(queue.operation_count(), 3);
    assert!(events.try_recv().is_err());
    assert_eq!(queue.run_pending(), 3);
    assert_eq!(events.try_iter().collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(queue.run_pending(), 3, "what arrived meanwhile");
    assert_eq!(events.try_iter().collect::<Vec<_>>(), [10, 11, 12]);
    assert_eq!(queue.run_pending(), 0);
}

#[test]
fn pending_callbacks_are_counted_and_run_whatever_the_batch() {
    let (queue, _turn) = main_queue();
    let lane = TestLane::new(&queue, 2);
    let done = Arc::new(AtomicUsize::new(0));
    for _ in 0..7 {
        let done = done.clone();
        lane.add(move || count(&done));
    }
    queue.add_operation(|| panic!("on purpose"));
    assert_eq!(queue.operation_count(), 8);
    assert_eq!(queue.run_pending(), 8, "of two at a time");
    assert_eq!(done.load(SeqCst), 7);
}

#[test]
fn an_operation_may_pump() {
    let (queue, _turn) = main_queue();
    let (tell, events) = mpsc::channel();
    let inner = queue.clone();
    let tell_too = tell.clone();
    queue.add_operation(move || {
        inner.wait_until_all_operations_are_finished();
        let ran = inner.run_pending();
        tell_too.send(ran).unwrap();
        let (tell_late, done) = mpsc::channel();
        inner.add_operation(move || tell_late.send(()).unwrap());
        assert!(inner.run_until(far(), || done.try_recv().is_ok()));
    });
    queue.add_operation(move || tell.send(100).unwrap());
    assert_eq!(queue.run_pending(), 1, "the other ran inside");
    assert_eq!(events.try_iter().collect::<Vec<_>>(), [100, 1]);
    assert_eq!(queue.operation_count(), 0);
}

#[test]
fn two_threads_that_pump_run_one_operation_at_a_time() {
    let (queue, _turn) = main_queue();
    let (gate, operation) = Gate::new();
    queue.add_operation(operation);
    let pumping = queue.clone();
    let pump = thread::spawn(move || pumping.run_pending());
    gate.wait();
    let (hook, calls) = mpsc::channel();
    let done = Arc::new(AtomicBool::new(false));
    let doing = done.clone();
    queue.set_wake_hook(move || hook.send(()).unwrap());
    queue.add_operation(move || doing.store(true, SeqCst));
    next(&calls);
    assert_eq!(queue.run_pending(), 0, "another thread runs an operation");
    assert!(!queue.run_until(Instant::now(), || done.load(SeqCst)));
    gate.open();
    assert_eq!(pump.join().unwrap(), 1);
    next(&calls); // The thread that was in the way tells again.
    assert_eq!(queue.run_pending(), 1);
    assert!(done.load(SeqCst));
    assert!(calls.try_recv().is_err());
}

#[test]
fn run_until_sleeps_and_runs_what_comes() {
    let (queue, _turn) = main_queue();
    let done = Arc::new(AtomicUsize::new(0));
    let (adding, doing) = (queue.clone(), done.clone());
    let watching = queue.clone();
    let adder = thread::spawn(move || {
        for _ in 0..20 {
            eventually("the pump sleeps", || watching.shared().state.lock().watchers == 1);
            let doing = doing.clone();
            adding.add_operation(move || count(&doing));
        }
    });
    assert!(queue.run_until(far(), || done.load(SeqCst) == 20));
    adder.join().unwrap();
}

#[test]
fn run_until_ends_with_its_condition_or_its_deadline() {
    let (queue, _turn) = main_queue();
    let (tell, events) = mpsc::channel();
    for number in 0..3 {
        let tell = tell.clone();
        queue.add_operation(move || tell.send(number).unwrap());
    }
    assert!(queue.run_until(far(), || true), "looks first");
    assert!(!queue.run_until(Instant::now(), || false), "starts nothing after the deadline");
    assert!(events.try_recv().is_err());
    let mut seen = 0;
    let one_more = || {
        seen += events.try_iter().count();
        seen == 2
    };
    assert!(queue.run_until(far(), one_more), "looks after each");
    assert_eq!(queue.run_pending(), 1);
    let mut looks = 0;
    let deadline = Instant::now() + Duration::from_millis(60);
    assert!(!queue.run_until(deadline, || {
        looks += 1;
        false
    }));
    assert!(Instant::now() >= deadline);
    assert!((2..50).contains(&looks), "sleeps in between, and not to the end: {looks}");
}

#[test]
fn run_until_sees_what_changes_without_the_queue() {
    let (queue, _turn) = main_queue();
    for queue in [queue, OperationQueue::serial(), OperationQueue::immediate()] {
        let done = Arc::new(AtomicBool::new(false));
        let (watching, doing) = (queue.clone(), done.clone());
        let other = thread::spawn(move || {
            eventually("the caller sleeps", || watching.shared().state.lock().watchers == 1);
            doing.store(true, SeqCst);
        });
        let deadline = far();
        assert!(queue.run_until(deadline, || done.load(SeqCst)));
        assert!(Instant::now() < deadline, "long before it");
        other.join().unwrap();
    }
}

#[test]
fn other_queues_only_wait_in_run_until() {
    let queue = OperationQueue::serial();
    queue.set_wake_hook(|| panic!("never called"));
    let caller = thread::current().id();
    let done = Arc::new(AtomicBool::new(false));
    let gate = Gate::in_queue(&queue);
    let doing = done.clone();
    queue.add_operation(move || doing.store(thread::current().id() != caller, SeqCst));
    assert_eq!(queue.run_pending(), 0);
    gate.open();
    assert!(queue.run_until(far(), || done.load(SeqCst)));
}

#[test]
fn a_suspended_main_queue_keeps_its_operations() {
    let (queue, _turn) = main_queue();
    let (hook, calls) = mpsc::channel();
    queue.set_wake_hook(move || hook.send(thread::current().id()).unwrap());
    queue.set_suspended(true);
    queue.add_operation(|| ());
    queue.add_operation(|| ());
    assert_eq!(queue.run_pending(), 0);
    assert!(!queue.run_until(Instant::now(), || false));
    assert!(calls.try_recv().is_err());
    queue.set_suspended(false);
    assert_eq!(calls.try_iter().collect::<Vec<_>>(), [thread::current().id()]);
    assert_eq!(queue.run_pending(), 2);
}

#[test]
fn the_wake_hook_is_called_for_each_arrival_and_outside_locks() {
    let (queue, _turn) = main_queue();
    let (hook, calls) = mpsc::channel();
    queue.add_operation(|| ());
    let inner = queue.clone();
    queue.set_wake_hook(move || {
        inner.set_name(None);
        hook.send(inner.operation_count()).unwrap();
        panic!("on purpose");
    });
    assert_eq!(calls.try_iter().collect::<Vec<_>>(), [1], "for what waited already");
    queue.add_operation(|| ());
    let adding = queue.clone();
    thread::spawn(move || TestLane::new(&adding, 1).add(|| ())).join().unwrap();
    assert_eq!(calls.try_iter().collect::<Vec<_>>(), [2, 3]);
    assert_eq!(queue.run_pending(), 3);
    assert!(calls.try_recv().is_err(), "nothing was left");
}

#[test]
fn the_wake_hook_tells_of_callbacks_that_were_left() {
    let (queue, _turn) = main_queue();
    let lane = TestLane::new(&queue, 1);
    let (hook, calls) = mpsc::channel();
    queue.set_wake_hook(move || hook.send(()).unwrap());
    let more = lane.clone();
    lane.add(move || (0..3).for_each(|_| more.add(|| ())));
    next(&calls);
    // Each call of the hook is answered with one call of `run_pending`, as a main loop does.
    let mut ran = queue.run_pending();
    while ran < 4 {
        next(&calls);
        ran += queue.run_pending();
    }
    assert!(calls.try_recv().is_err());
}

#[test]
fn the_wake_hook_tells_once_of_what_arrives_while_the_queue_is_pumped() {
    fn again(queue: OperationQueue) {
        queue.clone().add_operation(move || again(queue));
    }
    let (queue, _turn) = main_queue();
    let (hook, calls) = mpsc::channel();
    queue.set_wake_hook(move || hook.send(()).unwrap());
    again(queue.clone());
    for _ in 0..10 {
        next(&calls);
        assert!(calls.try_recv().is_err(), "a loop that answers each call would never catch up");
        assert_eq!(queue.run_pending(), 1);
    }
}

#[test]
fn waiting_for_all_pumps_on_the_thread_that_pumps() {
    let (queue, _turn) = main_queue();
    let (tell, events) = mpsc::channel();
    let here = move |tell: &Sender<_>| {
        let tell = tell.clone();
        move || tell.send(thread::current().id()).unwrap()
    };
    let me = thread::current().id();
    queue.add_operation(here(&tell));
    queue.wait_until_all_operations_are_finished();
    assert_eq!(events.try_recv(), Ok(me), "nobody pumped before");

    queue.add_operation(here(&tell));
    let waiting = queue.clone();
    let waiter = thread::spawn(move || waiting.wait_until_all_operations_are_finished());
    eventually("the other thread waits", || queue.shared().state.lock().watchers == 1);
    assert!(events.try_recv().is_err());
    queue.wait_until_all_operations_are_finished();
    assert_eq!(events.try_recv(), Ok(me));
    waiter.join().unwrap();
}
