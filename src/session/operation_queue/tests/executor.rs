//! Queues that an executor of the application runs: inline, on threads, late, never, and with panics.

use std::sync::mpsc;

use super::*;

type Work = Box<dyn FnOnce() + Send>;

/// A queue whose executor only keeps what it is given.
fn keeping() -> (OperationQueue, Receiver<Work>) {
    let (give, given) = mpsc::channel();
    (OperationQueue::with_executor(move |job| give.send(job).unwrap()), given)
}

#[test]
fn an_executor_gets_operations_in_order_and_no_more_than_the_maximum() {
    let (queue, given) = keeping();
    let (tell, events) = mpsc::channel();
    queue.set_max_concurrent_operation_count(2);
    for number in 0..5 {
        let tell = tell.clone();
        queue.add_operation(move || tell.send(number).unwrap());
    }
    let (first, second) = (next(&given), next(&given));
    assert!(given.try_recv().is_err());
    assert_eq!(queue.operation_count(), 5);
    second();
    let third = given.try_recv().expect("a place is free");
    assert!(given.try_recv().is_err());
    first();
    third();
    queue.set_max_concurrent_operation_count(usize::MAX);
    given.try_iter().for_each(|job| job());
    assert_eq!(events.try_iter().collect::<Vec<_>>(), [1, 0, 2, 3, 4]);
    assert_eq!(queue.operation_count(), 0);
}

#[test]
fn an_inline_executor_neither_deadlocks_nor_recurses() {
    fn again(queue: OperationQueue, left: usize, lowest: usize, tell: Sender<usize>) {
        let here = 0u8;
        let address = (&raw const here).addr();
        let lowest = lowest.min(address);
        if left == 0 {
            return tell.send(address - lowest).unwrap();
        }
        queue.clone().add_operation(move || again(queue, left - 1, lowest, tell));
    }
    let queue = OperationQueue::with_executor(|job| job());
    let (tell, events) = mpsc::channel();
    again(queue, 100_000, usize::MAX, tell);
    assert!(next(&events) < 4096, "the stack must not grow");
}

#[test]
fn an_inline_operation_that_blocks_stops_nobody_else() {
    let queue = OperationQueue::with_executor(|job| job());
    let (gate, operation) = Gate::new();
    let blocked = queue.clone();
    let blocker = thread::spawn(move || blocked.add_operation(operation));
    gate.wait();
    let (tell, events) = mpsc::channel();
    queue.add_operation(move || tell.send(()).unwrap());
    assert_eq!(events.try_recv(), Ok(()));
    gate.open();
    blocker.join().unwrap();
    queue.wait_until_all_operations_are_finished();
}

#[test]
fn one_thread_at_a_time_hands_over_so_that_order_holds() {
    let (give, given) = mpsc::channel::<Work>();
    let (tell, events) = mpsc::channel();
    let (gate, hold) = Gate::new();
    let hold = Mutex::new(Some(hold));
    let queue = OperationQueue::with_executor(move |job| {
        // The first call takes its time before it passes the job on.
        let held = hold.lock().take();
        if let Some(hold) = held {
            hold();
        }
        give.send(job).unwrap();
    });
    let (slow, tell_too) = (queue.clone(), tell.clone());
    let adder = thread::spawn(move || slow.add_operation(move || tell_too.send(1).unwrap()));
    gate.wait();
    queue.add_operation(move || tell.send(2).unwrap());
    assert!(given.try_recv().is_err(), "the second waits for the first");
    gate.open();
    take(&given, 2).into_iter().for_each(|job| job());
    assert_eq!(take(&events, 2), [1, 2]);
    adder.join().unwrap();
}

#[test]
fn an_executor_on_threads_runs_everything() {
    let queue = OperationQueue::with_executor(|job| drop(thread::spawn(job)));
    queue.set_max_concurrent_operation_count(4);
    let done = Arc::new(AtomicUsize::new(0));
    for _ in 0..500 {
        let done = done.clone();
        queue.add_operation(move || count(&done));
    }
    queue.wait_until_all_operations_are_finished();
    assert_eq!(done.load(SeqCst), 500);
}

#[test]
fn dropped_operations_do_not_wedge_the_queue() {
    let refuse = Arc::new(AtomicBool::new(true));
    let refusing = refuse.clone();
    let queue = OperationQueue::with_executor(move |job| {
        if !refusing.load(SeqCst) {
            job()
        }
    });
    queue.set_max_concurrent_operation_count(1);
    let (tell, events) = mpsc::channel();
    for _ in 0..1000 {
        let tell = tell.clone();
        queue.add_operation(move || tell.send("dropped").unwrap());
    }
    queue.wait_until_all_operations_are_finished();
    assert_eq!(queue.operation_count(), 0);
    refuse.store(false, SeqCst);
    queue.add_operation(move || tell.send("ran").unwrap());
    assert_eq!(events.try_iter().collect::<Vec<_>>(), ["ran"]);
}

#[test]
fn operations_dropped_elsewhere_let_the_next_ones_start() {
    let (queue, given) = keeping();
    queue.set_max_concurrent_operation_count(1);
    let (tell, events) = mpsc::channel();
    queue.add_operation(|| panic!("must not run"));
    queue.add_operation(move || tell.send(()).unwrap());
    let dropped = next(&given);
    assert!(given.try_recv().is_err());
    thread::spawn(move || drop(dropped)).join().unwrap();
    next(&given)();
    assert_eq!(events.try_recv(), Ok(()));
}

#[test]
fn a_dropped_lane_is_offered_again_with_the_next_arrival() {
    let (queue, given) = keeping();
    let lane = TestLane::new(&queue, 8);
    let (tell, events) = mpsc::channel();
    let tell_too = tell.clone();
    lane.add(move || tell_too.send("callback").unwrap());
    drop(next(&given));
    assert!(given.try_recv().is_err(), "not at once: that might never end");
    assert_eq!(queue.operation_count(), 0);
    queue.wait_until_all_operations_are_finished();

    queue.add_operation(move || tell.send("operation").unwrap());
    take(&given, 2).into_iter().for_each(|job| job());
    assert_eq!(take(&events, 2), ["callback", "operation"]);
}

#[test]
fn refused_lanes_go_with_the_last_handle() {
    let (queue, given) = keeping();
    struct Held(Sender<()>);
    impl Lane for Held {
        fn run(self: Arc<Self>) -> LaneRun {
            panic!("must not run");
        }
        fn waiting(&self) -> usize {
            1
        }
    }
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.send(()).unwrap();
        }
    }
    let (tell, events) = mpsc::channel();
    queue.schedule(Arc::new(Held(tell.clone())), false);
    queue.schedule(Arc::new(Held(tell)), false);
    drop(next(&given));
    drop(queue);
    assert!(events.try_recv().is_err());
    drop(next(&given));
    take(&events, 2);
}

#[test]
fn a_panic_of_the_executor_is_caught() {
    let calls = AtomicUsize::new(0);
    let queue = OperationQueue::with_executor(move |job| match calls.fetch_add(1, SeqCst) {
        0 => panic!("on purpose, before the operation"),
        1 => {
            job();
            panic!("on purpose, after the operation");
        }
        _ => job(),
    });
    queue.set_max_concurrent_operation_count(1);
    let (tell, events) = mpsc::channel();
    for number in 0..3 {
        let tell = tell.clone();
        queue.add_operation(move || tell.send(number).unwrap());
    }
    assert_eq!(events.try_iter().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(queue.operation_count(), 0);
}

#[test]
fn what_waits_still_runs_after_the_last_handle() {
    let (queue, given) = keeping();
    queue.set_max_concurrent_operation_count(1);
    let (tell, events) = mpsc::channel();
    for number in 0..3 {
        let tell = tell.clone();
        queue.add_operation(move || tell.send(number).unwrap());
    }
    let shared = Arc::downgrade(queue.shared());
    drop(queue);
    (0..3).for_each(|_| next(&given)());
    assert_eq!(take(&events, 3), [0, 1, 2]);
    assert!(shared.upgrade().is_none());
}

#[test]
fn operations_are_current_where_the_executor_runs_them() {
    let (queue, given) = keeping();
    let (tell, events) = mpsc::channel();
    let inner = queue.clone();
    queue.add_operation(move || tell.send(inner.is_current()).unwrap());
    let job = next(&given);
    thread::spawn(job).join().unwrap();
    assert!(next(&events));
}
