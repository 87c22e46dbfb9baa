//! What holds for queues whatever runs them.

use std::{
    collections::HashSet,
    sync::{Barrier, mpsc},
};

use super::*;

#[test]
#[expect(clippy::mutable_key_type, reason = "hashed by identity")]
fn a_handle_is_the_queue() {
    fn assert_shared<T: Send + Sync + Clone + Default + Eq + std::hash::Hash + std::fmt::Debug>() {}
    assert_shared::<OperationQueue>();
    let queue = OperationQueue::new();
    let mut set = HashSet::from([queue.clone()]);
    assert!(set.contains(&queue) && !set.insert(queue.clone()));
    assert_ne!(queue, OperationQueue::new());
    assert_eq!(OperationQueue::main(), OperationQueue::main());
    assert_ne!(OperationQueue::immediate(), OperationQueue::immediate());
}

#[test]
fn numbers_and_names() {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let table = [
        (OperationQueue::new(), cores, 7, false),
        (OperationQueue::default(), cores, 7, false),
        (OperationQueue::serial(), 1, 7, false),
        (OperationQueue::main(), 1, 1, false),
        (OperationQueue::immediate(), usize::MAX, usize::MAX, true),
        (OperationQueue::with_executor(|job| job()), usize::MAX, 7, false),
    ];
    for (queue, at_first, then, immediate) in table {
        assert_eq!(queue.max_concurrent_operation_count(), at_first, "{queue:?}");
        queue.set_max_concurrent_operation_count(7);
        assert_eq!(queue.max_concurrent_operation_count(), then, "{queue:?}");
        assert_eq!(queue.is_immediate(), immediate);
        assert!(!queue.is_suspended());
        assert_eq!(queue.name(), None);
        queue.set_name(Some("deliveries"));
        assert_eq!(queue.clone().name().as_deref(), Some("deliveries"));
        assert!(format!("{queue:?}").contains("deliveries"));
        queue.set_name(None);
        assert_eq!(queue.name(), None);
    }
}

#[test]
fn a_serial_queue_keeps_the_order() {
    let queue = OperationQueue::serial();
    let (tell, events) = mpsc::channel();
    for number in 0..2000 {
        let tell = tell.clone();
        queue.add_operation(move || tell.send(number).unwrap());
    }
    assert_eq!(take(&events, 2000), (0..2000).collect::<Vec<_>>());
}

#[test]
fn operations_of_a_concurrent_queue_meet() {
    let queue = OperationQueue::new();
    queue.set_max_concurrent_operation_count(3);
    let barrier = Arc::new(Barrier::new(3));
    let (tell, events) = mpsc::channel();
    for _ in 0..3 {
        let (barrier, tell) = (barrier.clone(), tell.clone());
        queue.add_operation(move || {
            barrier.wait();
            tell.send(()).unwrap();
        });
    }
    take(&events, 3);
}

#[test]
fn never_more_at_a_time_than_the_maximum() {
    let on_threads = OperationQueue::with_executor(|job| drop(thread::spawn(job)));
    for queue in [OperationQueue::new(), on_threads] {
        for max in [1, 2, 4, 3] {
            queue.set_max_concurrent_operation_count(max);
            let running = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
            for _ in 0..200 {
                let running = running.clone();
                queue.add_operation(move || {
                    let now = running.0.fetch_add(1, SeqCst) + 1;
                    running.1.fetch_max(now, SeqCst);
                    thread::yield_now();
                    running.0.fetch_sub(1, SeqCst);
                });
            }
            queue.wait_until_all_operations_are_finished();
            let most = running.1.load(SeqCst);
            assert!((1..=max).contains(&most), "{most} of {max} in {queue:?}");
        }
    }
}

#[test]
fn the_maximum_changes_while_operations_run() {
    let on_threads = OperationQueue::with_executor(|job| drop(thread::spawn(job)));
    for queue in [OperationQueue::serial(), on_threads] {
        queue.set_max_concurrent_operation_count(1);
        let first = Gate::in_queue(&queue);
        let (second, operation) = Gate::new();
        queue.add_operation(operation);
        let (third, operation) = Gate::new();
        queue.add_operation(operation);
        assert_eq!(queue.operation_count(), 3);
        assert!(second.entered.try_recv().is_err());

        queue.set_max_concurrent_operation_count(3);
        second.wait();
        third.wait();

        queue.set_max_concurrent_operation_count(1);
        let (fourth, operation) = Gate::new();
        queue.add_operation(operation);
        first.open();
        second.open();
        eventually("two are done", || queue.operation_count() == 2);
        assert!(fourth.entered.try_recv().is_err(), "the third still runs");
        third.open();
        fourth.wait();

        queue.set_max_concurrent_operation_count(0);
        let (fifth, operation) = Gate::new();
        queue.add_operation(operation);
        fourth.open();
        eventually("the fourth is done", || queue.operation_count() == 1);
        assert!(fifth.entered.try_recv().is_err(), "with 0 nothing starts");
        queue.set_max_concurrent_operation_count(1);
        fifth.wait();
        fifth.open();
        queue.wait_until_all_operations_are_finished();
    }
}

#[test]
fn a_suspended_queue_starts_nothing() {
    let on_threads = OperationQueue::with_executor(|job| drop(thread::spawn(job)));
    for queue in [OperationQueue::new(), OperationQueue::serial(), on_threads] {
        queue.set_max_concurrent_operation_count(1);
        let (tell, events) = mpsc::channel();
        let gate = Gate::in_queue(&queue);
        queue.set_suspended(true);
        assert!(queue.is_suspended());
        for number in 0..5 {
            let tell = tell.clone();
            queue.add_operation(move || tell.send(number).unwrap());
        }
        assert_eq!(queue.operation_count(), 6);
        gate.open();
        eventually("what runs goes on", || queue.operation_count() == 5);
        assert!(events.try_recv().is_err());
        queue.set_suspended(false);
        assert_eq!(take(&events, 5), [0, 1, 2, 3, 4]);
        queue.wait_until_all_operations_are_finished();
        assert_eq!(queue.operation_count(), 0);
    }
}

#[test]
fn a_panic_ends_its_operation_alone() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("on purpose, of what was thrown");
        }
    }
    let queues = [
        OperationQueue::serial(),
        OperationQueue::immediate(),
        OperationQueue::with_executor(|job| job()),
        OperationQueue::with_executor(|job| drop(thread::spawn(job))),
    ];
    for queue in queues {
        queue.set_max_concurrent_operation_count(1);
        let (tell, events) = mpsc::channel();
        queue.add_operation(|| panic!("on purpose"));
        queue.add_operation(|| std::panic::panic_any(Bomb));
        queue.add_operation(move || tell.send(()).unwrap());
        next(&events);
        queue.wait_until_all_operations_are_finished();
        assert_eq!(queue.operation_count(), 0);
    }
}

#[test]
fn what_an_operation_holds_is_dropped_without_a_lock_and_before_it_is_finished() {
    for queue in [OperationQueue::serial(), OperationQueue::immediate(), OperationQueue::with_executor(|job| job())] {
        let (tell, events) = mpsc::channel();
        let inner = queue.clone();
        let held = OnDrop(move || tell.send((inner.operation_count(), inner.is_current())).unwrap());
        queue.add_operation(move || {
            let _held = &held;
        });
        queue.wait_until_all_operations_are_finished();
        assert_eq!(events.try_recv(), Ok((1, true)), "{queue:?}");
    }
}

#[test]
fn every_call_is_allowed_from_inside() {
    let queues = [OperationQueue::serial(), OperationQueue::immediate(), OperationQueue::with_executor(|job| job())];
    for queue in queues {
        let (tell, events) = mpsc::channel();
        let inner = queue.clone();
        queue.add_operation(move || {
            assert!(inner.is_current());
            inner.wait_until_all_operations_are_finished();
            assert_eq!(inner.operation_count(), 1);
            inner.set_suspended(true);
            let tell_too = tell.clone();
            inner.add_operation(move || tell_too.send(2).unwrap());
            assert_eq!(inner.operation_count(), 2);
            inner.set_name(Some("inside"));
            inner.set_wake_hook(|| ());
            inner.release_idle_threads();
            assert_eq!(inner.run_pending(), 0);
            assert!(!inner.run_until(Instant::now(), || false));
            tell.send(1).unwrap();
            inner.set_suspended(false);
        });
        assert_eq!(take(&events, 2), [1, 2]);
        assert!(!queue.is_current());
        queue.wait_until_all_operations_are_finished();
    }
}

#[test]
fn current_means_this_very_queue() {
    let (outer, inner) = (OperationQueue::serial(), OperationQueue::immediate());
    let (tell, events) = mpsc::channel();
    let (outer_too, inner_too) = (outer.clone(), inner);
    outer.add_operation(move || {
        let mut seen = vec![(outer_too.is_current(), inner_too.is_current())];
        let (tell_inner, seen_inside) = mpsc::channel();
        let (a, b) = (outer_too.clone(), inner_too.clone());
        inner_too.add_operation(move || tell_inner.send((a.is_current(), b.is_current())).unwrap());
        seen.push(seen_inside.try_recv().unwrap());
        seen.push((outer_too.is_current(), inner_too.is_current()));
        tell.send(seen).unwrap();
    });
    assert_eq!(next(&events), [(true, false), (true, true), (true, false)]);
}

#[test]
fn waiting_for_all_waits_for_all() {
    let queue = OperationQueue::new();
    queue.wait_until_all_operations_are_finished();
    let done = Arc::new(AtomicUsize::new(0));
    for _ in 0..100 {
        let (inner, done) = (queue.clone(), done.clone());
        queue.add_operation(move || {
            let done_too = done.clone();
            inner.add_operation(move || count(&done_too));
            done.fetch_add(1, SeqCst);
        });
    }
    queue.wait_until_all_operations_are_finished();
    assert_eq!(done.load(SeqCst), 200);
    assert_eq!(queue.operation_count(), 0);
}

#[test]
fn waiting_for_all_of_a_suspended_queue_waits_until_it_is_resumed() {
    for queue in [OperationQueue::serial(), OperationQueue::immediate(), OperationQueue::with_executor(|job| job())] {
        queue.set_suspended(true);
        let (tell, events) = mpsc::channel();
        let tell_too = tell.clone();
        queue.add_operation(move || tell_too.send("ran").unwrap());
        let waiting = queue.clone();
        let waiter = thread::spawn(move || {
            waiting.wait_until_all_operations_are_finished();
            tell.send("waited").unwrap();
        });
        eventually("somebody waits", || queue.shared().state.lock().watchers == 1);
        assert!(events.try_recv().is_err());
        queue.set_suspended(false);
        assert_eq!(take(&events, 2), ["ran", "waited"]);
        waiter.join().unwrap();
    }
}

#[test]
fn immediate_runs_on_the_thread_that_adds() {
    let queue = OperationQueue::immediate();
    let (tell, events) = mpsc::channel();
    let tell_too = tell.clone();
    queue.add_operation(move || tell_too.send(thread::current().id()).unwrap());
    assert_eq!(events.try_recv(), Ok(thread::current().id()));

    queue.set_suspended(true);
    queue.add_operation(move || tell.send(thread::current().id()).unwrap());
    assert!(events.try_recv().is_err());
    assert_eq!(queue.operation_count(), 1);
    let resumed = queue.clone();
    let resumer = thread::spawn(move || resumed.set_suspended(false));
    let id = resumer.thread().id();
    resumer.join().unwrap();
    assert_eq!(events.try_recv(), Ok(id));
    assert_eq!(queue.operation_count(), 0);
}

#[test]
fn a_long_line_gives_its_memory_back() {
    let queue = OperationQueue::serial();
    queue.set_suspended(true);
    for _ in 0..10_000 {
        queue.add_operation(|| ());
    }
    queue.set_suspended(false);
    queue.wait_until_all_operations_are_finished();
    assert_eq!(queue.shared().state.lock().waiting.capacity(), 0);
}
