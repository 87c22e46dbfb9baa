//! Queues with threads of their own: when these start and end.

use std::sync::mpsc;

use super::*;

/// How many threads of this process have the name. The kernel keeps fifteen bytes of it, and may pass a thread over
/// while others end: a count is to be looked at more than once.
#[cfg(target_os = "linux")]
fn threads_named(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|found| found.trim_end() == name).count()
}

fn threads_alive(queue: &OperationQueue) -> usize {
    queue.shared().state.lock().threads.alive
}

fn threads_idle(queue: &OperationQueue) -> usize {
    queue.shared().state.lock().threads.idle
}

#[test]
fn threads_start_with_work_and_carry_the_name() {
    let queue = OperationQueue::new();
    queue.set_max_concurrent_operation_count(2);
    assert_eq!(threads_alive(&queue), 0);
    let (tell, events) = mpsc::channel();
    for name in [None, Some("first\0second")] {
        queue.set_name(name);
        let tell = tell.clone();
        queue.add_operation(move || tell.send(thread::current().name().map(str::to_owned)).unwrap());
        queue.wait_until_all_operations_are_finished();
        queue.release_idle_threads();
        eventually("the thread ends", || threads_alive(&queue) == 0);
    }
    let names: Vec<_> = take(&events, 2).into_iter().flatten().collect();
    assert_eq!(names, ["urlsession-queue", "first second"]);
}

#[test]
fn an_idle_thread_is_used_again_and_no_more_start_than_are_needed() {
    let queue = OperationQueue::new();
    queue.set_max_concurrent_operation_count(8);
    let (tell, events) = mpsc::channel();
    for _ in 0..50 {
        let tell = tell.clone();
        queue.add_operation(move || tell.send(thread::current().id()).unwrap());
        eventually("the thread is idle", || threads_idle(&queue) == 1);
    }
    let ids = take(&events, 50);
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(threads_alive(&queue), 1);
}

#[test]
fn no_more_threads_than_the_maximum() {
    let queue = OperationQueue::new();
    queue.set_max_concurrent_operation_count(3);
    for _ in 0..100 {
        queue.add_operation(|| ());
        assert!(threads_alive(&queue) <= 3);
    }
    queue.wait_until_all_operations_are_finished();
    queue.set_max_concurrent_operation_count(1);
    eventually("surplus threads end", || threads_alive(&queue) <= 1);
    queue.set_max_concurrent_operation_count(0);
    eventually("with 0 all end", || threads_alive(&queue) == 0);
}

#[test]
fn a_smaller_maximum_leaves_nobody_asleep_beside_work() {
    let queue = OperationQueue::new();
    for _ in 0..200 {
        queue.set_max_concurrent_operation_count(3);
        let gates: Vec<_> = (0..3).map(|_| Gate::in_queue(&queue)).collect();
        queue.set_max_concurrent_operation_count(1);
        let (tell, events) = mpsc::channel();
        queue.add_operation(move || tell.send(()).unwrap());
        gates.into_iter().for_each(Gate::open);
        next(&events);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn idle_threads_lose_patience() {
    let queue = patient_for(Duration::from_millis(1), 2);
    queue.set_name(Some("impatient"));
    let gate = Gate::in_queue(&queue);
    eventually("threads by name", || threads_named("impatient") == 1);
    gate.open();
    eventually("the thread ends", || threads_named("impatient") == 0);
    assert_eq!(threads_alive(&queue), 0);
    assert_eq!(threads_idle(&queue), 0);
    Gate::in_queue(&queue).open();
}

#[test]
fn work_that_arrives_as_patience_ends_is_not_lost() {
    let queue = patient_for(Duration::ZERO, 2);
    let done = Arc::new(AtomicUsize::new(0));
    for number in 0..20_000 {
        let doing = done.clone();
        queue.add_operation(move || count(&doing));
        // No channel: the next one is to arrive while the thread is about to end.
        eventually("each operation runs", || done.load(SeqCst) > number);
    }
    eventually("the threads end", || threads_alive(&queue) == 0);
    assert_eq!(threads_idle(&queue), 0);
}

#[test]
#[cfg(target_os = "linux")]
fn idle_threads_are_released_at_once_and_busy_ones_when_they_are_done() {
    let queue = OperationQueue::new();
    queue.set_max_concurrent_operation_count(2);
    queue.set_name(Some("released"));
    let (first, second) = (Gate::in_queue(&queue), Gate::in_queue(&queue));
    first.open();
    eventually("one is idle", || threads_idle(&queue) == 1);
    assert_eq!(threads_alive(&queue), 2);
    eventually("threads by name", || threads_named("released") == 2);
    queue.release_idle_threads();
    eventually("the idle one ends", || threads_named("released") == 1);
    second.open();
    eventually("the busy one ends", || threads_named("released") == 0);

    let later = Gate::in_queue(&queue);
    eventually("threads by name", || threads_named("released") == 1);
    later.open();
    eventually("the new one stays", || threads_idle(&queue) == 1);
    eventually("threads by name", || threads_named("released") == 1);
}

#[test]
#[cfg(target_os = "linux")]
fn the_last_handle_lets_queued_work_run_and_the_threads_end() {
    let queue = OperationQueue::serial();
    queue.set_name(Some("orphaned"));
    let gate = Gate::in_queue(&queue);
    let (tell, events) = mpsc::channel();
    for number in 0..10 {
        let tell = tell.clone();
        queue.add_operation(move || tell.send(number).unwrap());
    }
    let shared = Arc::downgrade(queue.shared());
    drop(queue);
    gate.open();
    assert_eq!(take(&events, 10), (0..10).collect::<Vec<_>>());
    eventually("the thread ends", || threads_named("orphaned") == 0);
    assert!(shared.upgrade().is_none());
}

#[test]
fn the_last_handle_ends_idle_threads() {
    let queue = OperationQueue::serial();
    queue.add_operation(|| ());
    eventually("the thread is idle", || threads_idle(&queue) == 1);
    let shared = Arc::downgrade(queue.shared());
    drop(queue);
    eventually("nothing is left", || shared.upgrade().is_none());
}

#[test]
fn the_last_handle_may_go_inside_an_operation() {
    let queue = OperationQueue::serial();
    let shared = Arc::downgrade(queue.shared());
    let (gate, operation) = Gate::new();
    let (tell, events) = mpsc::channel();
    let inner = queue.clone();
    queue.add_operation(move || {
        operation();
        inner.add_operation(move || tell.send(()).unwrap());
        drop(inner);
    });
    drop(queue);
    gate.wait();
    gate.open();
    next(&events);
    eventually("nothing is left", || shared.upgrade().is_none());
}

#[test]
fn what_nobody_can_start_any_more_is_dropped() {
    let cases: [fn(&OperationQueue); 2] = [
        |queue| queue.set_suspended(true),
        |queue| {
            queue.set_max_concurrent_operation_count(0);
        },
    ];
    for stop in cases {
        for queue in [OperationQueue::serial(), OperationQueue::with_executor(|job| job())] {
            stop(&queue);
            let (tell, events) = mpsc::channel();
            let held = OnDrop(move || tell.send(()).unwrap());
            let bomb = OnDrop(|| panic!("on purpose, when dropped"));
            queue.add_operation(move || drop(bomb));
            queue.add_operation(move || drop(held));
            queue.add_operation(|| panic!("must not run"));
            let shared = Arc::downgrade(queue.shared());
            drop(queue);
            next(&events);
            assert!(shared.upgrade().is_none());
        }
    }
}

#[test]
fn a_thread_that_cannot_start_is_tried_again_with_the_next_operation() {
    let queue = OperationQueue::serial();
    queue.shared().state.lock().threads.refuse_to_start = true;
    let (tell, events) = mpsc::channel();
    let tell_too = tell.clone();
    queue.add_operation(move || tell_too.send(1).unwrap());
    assert_eq!((threads_alive(&queue), queue.operation_count()), (0, 1));
    queue.shared().state.lock().threads.refuse_to_start = false;
    queue.add_operation(move || tell.send(2).unwrap());
    assert_eq!(take(&events, 2), [1, 2]);
}
