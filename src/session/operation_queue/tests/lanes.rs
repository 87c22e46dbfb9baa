//! Lanes: one callback of each at a time and in order, and no lane before its turn.

use std::sync::mpsc;

use super::*;

/// Adds numbered callbacks to a lane from the thread that calls this.
fn number(lane: &Arc<TestLane>, count: usize, tell: &Sender<usize>) {
    for number in 0..count {
        let tell = tell.clone();
        lane.add(move || tell.send(number).unwrap());
    }
}

#[test]
fn a_lane_keeps_its_order_on_every_queue() {
    let concurrent = OperationQueue::new();
    concurrent.set_max_concurrent_operation_count(4);
    let queues = [
        concurrent,
        OperationQueue::serial(),
        OperationQueue::with_executor(|job| job()),
        OperationQueue::with_executor(|job| drop(thread::spawn(job))),
    ];
    for queue in queues {
        let lanes: Vec<_> = (1..=4).map(|batch| TestLane::new(&queue, batch)).collect();
        let events: Vec<_> = lanes
            .iter()
            .map(|lane| {
                let (tell, events) = mpsc::channel();
                let lane = lane.clone();
                (thread::spawn(move || number(&lane, 200, &tell)), events)
            })
            .collect();
        for (producer, events) in events {
            assert_eq!(take(&events, 200), (0..200).collect::<Vec<_>>(), "{queue:?}");
            producer.join().unwrap();
        }
        queue.wait_until_all_operations_are_finished();
        assert_eq!(queue.operation_count(), 0);
        assert!(lanes.iter().all(|lane| lane.overlaps.load(SeqCst) == 0), "{queue:?}");
    }
}

#[test]
fn two_lanes_of_a_concurrent_queue_run_in_parallel() {
    let queue = OperationQueue::new();
    queue.set_max_concurrent_operation_count(2);
    let (first, callback) = Gate::new();
    TestLane::new(&queue, 1).add(callback);
    first.wait();
    let (second, callback) = Gate::new();
    TestLane::new(&queue, 1).add(callback);
    second.wait();
}

#[test]
fn a_lane_with_more_to_run_goes_to_the_end_of_the_line() {
    let inline = OperationQueue::with_executor(|job| job());
    for queue in [OperationQueue::serial(), inline] {
        queue.set_suspended(true);
        let (tell, events) = mpsc::channel();
        let (first, second) = (TestLane::new(&queue, 2), TestLane::new(&queue, 3));
        for (lane, name) in [(&first, "first"), (&second, "second")] {
            for _ in 0..4 {
                let tell = tell.clone();
                lane.add(move || tell.send(name).unwrap());
            }
        }
        queue.add_operation(move || tell.send("operation").unwrap());
        assert_eq!(queue.operation_count(), 9);
        queue.set_suspended(false);
        let order = take(&events, 9);
        let expected = ["first", "first", "second", "second", "second", "operation", "first", "first", "second"];
        assert_eq!(order, expected, "{queue:?}");
    }
}

#[test]
fn callbacks_count_as_operations() {
    let queue = OperationQueue::serial();
    let lane = TestLane::new(&queue, 8);
    let (gate, callback) = Gate::new();
    lane.add(callback);
    gate.wait();
    lane.add(|| ());
    lane.add(|| ());
    queue.add_operation(|| ());
    assert_eq!(queue.operation_count(), 4);
    gate.open();
    queue.wait_until_all_operations_are_finished();
    assert_eq!(queue.operation_count(), 0);
}

#[test]
fn a_lane_that_panics_does_not_take_the_queue_with_it() {
    struct Broken;
    impl Lane for Broken {
        fn run(self: Arc<Self>) -> LaneRun {
            panic!("on purpose");
        }
        fn waiting(&self) -> usize {
            1
        }
    }
    let queue = OperationQueue::serial();
    queue.schedule(Arc::new(Broken), false);
    Gate::in_queue(&queue).open();
    queue.wait_until_all_operations_are_finished();
}

#[test]
fn the_queue_keeps_no_lane_that_is_done() {
    let queue = OperationQueue::serial();
    let lane = TestLane::new(&queue, 1);
    number(&lane, 3, &mpsc::channel().0);
    queue.wait_until_all_operations_are_finished();
    assert_eq!(Arc::strong_count(&lane), 1);
    assert!(queue.shared().state.lock().running_lanes.is_empty());
}

#[test]
fn the_last_handle_may_go_with_a_lane() {
    let queue = OperationQueue::serial();
    let shared = Arc::downgrade(queue.shared());
    let lane = TestLane::new(&queue, 1);
    drop(queue);
    let (tell, events) = mpsc::channel();
    number(&lane, 5, &tell);
    drop(lane);
    assert_eq!(take(&events, 5), [0, 1, 2, 3, 4]);
    eventually("nothing is left", || shared.upgrade().is_none());
}

#[test]
fn threads_are_called_for_all_lanes_that_arrive_together() {
    for (idle, by) in [(0, "lane"), (2, "lane"), (0, "operation"), (1, "operation")] {
        let queue = OperationQueue::new();
        queue.set_max_concurrent_operation_count(4);
        let gates: Vec<_> = (0..idle).map(|_| Gate::in_queue(&queue)).collect();
        gates.into_iter().for_each(Gate::open);
        eventually("idle threads", || queue.shared().state.lock().threads.idle == idle);
        // Each blocks: all run at once, or the last does not.
        let together: Vec<_> = (0..4)
            .map(|number| {
                let (gate, callback) = Gate::new();
                if number == 3 && by == "operation" {
                    queue.add_operation(callback);
                } else {
                    let lane = TestLane::new(&queue, 1);
                    {
                        let mut state = lane.state.lock();
                        state.callbacks.push_back(Box::new(callback));
                        state.scheduled = true;
                    }
                    queue.schedule(lane, number < 3);
                }
                gate
            })
            .collect();
        together.iter().for_each(Gate::wait);
        together.into_iter().for_each(Gate::open);
        queue.wait_until_all_operations_are_finished();
    }
}

#[test]
fn lanes_that_arrive_together_are_not_lost_on_a_suspended_queue_or_another_kind() {
    let queues = [
        OperationQueue::serial(),
        OperationQueue::new(),
        OperationQueue::immediate(),
        OperationQueue::with_executor(|job| job()),
        OperationQueue::with_executor(|job| drop(thread::spawn(job))),
    ];
    for queue in queues {
        for suspended in [false, true] {
            queue.set_suspended(suspended);
            let (tell, events) = mpsc::channel();
            for number in 0..10 {
                let (lane, tell) = (TestLane::new(&queue, 1), tell.clone());
                {
                    let mut state = lane.state.lock();
                    state.callbacks.push_back(Box::new(move || tell.send(number).unwrap()));
                    state.scheduled = true;
                }
                queue.schedule(lane, number < 9);
            }
            queue.set_suspended(false);
            let mut told = take(&events, 10);
            told.sort_unstable();
            assert_eq!(told, (0..10).collect::<Vec<_>>(), "{queue:?}");
            queue.wait_until_all_operations_are_finished();
        }
    }
}
