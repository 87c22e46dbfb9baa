use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);
/// So far away that no test sees it.
const FAR: Duration = Duration::from_secs(3600);

/// Alarms of a test's own, and where they are heard.
struct Bells {
    alarms: &'static Alarms,
    sender: Sender<&'static str>,
    receiver: Receiver<&'static str>,
}

impl Bells {
    fn new() -> Self {
        let (sender, receiver) = mpsc::channel();
        Self { alarms: Box::leak(Box::new(Alarms::new())), sender, receiver }
    }

    fn set(&self, delay: Duration, name: &'static str) -> Alarm {
        let sender = self.sender.clone();
        self.alarms.set(delay, Box::new(move || sender.send(name).unwrap())).unwrap()
    }

    fn cancel(&self, alarm: Alarm) {
        self.alarms.cancel(alarm.0);
    }

    #[track_caller]
    fn expect(&self, name: &str) {
        assert_eq!(self.receiver.recv_timeout(PATIENCE).unwrap(), name);
    }

    /// Waits until the thread is gone.
    #[track_caller]
    fn expect_no_thread(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.alarms.state.lock().is_running {
            assert!(Instant::now() < deadline, "the thread stays");
            thread::yield_now();
        }
        assert!(self.receiver.try_recv().is_err());
    }
}

#[test]
fn they_ring_in_the_order_of_their_moments_and_not_before() {
    let bells = Bells::new();
    let begun = Instant::now();
    let _ = bells.set(Duration::from_millis(60), "third");
    let _ = bells.set(Duration::from_millis(20), "first");
    let _ = bells.set(Duration::from_millis(40), "second");
    for (name, delay) in [("first", 20), ("second", 40), ("third", 60)] {
        bells.expect(name);
        assert!(begun.elapsed() >= Duration::from_millis(delay));
    }
    bells.expect_no_thread();
    // Another thread.
    let _ = bells.set(Duration::ZERO, "again");
    bells.expect("again");
    bells.expect_no_thread();
}

#[test]
fn one_that_comes_earlier_does_not_wait_for_those_before() {
    let bells = Bells::new();
    let far = bells.set(FAR, "far");
    // While the thread sleeps until that, for all but perhaps the first.
    for _ in 0..20 {
        let _ = bells.set(Duration::ZERO, "near");
        bells.expect("near");
    }
    bells.cancel(far);
    bells.expect_no_thread();
}

#[test]
fn one_that_is_cancelled_lets_go_of_what_it_holds_and_of_the_thread() {
    let bells = Bells::new();
    for _ in 0..20 {
        let held = Arc::new(());
        let holding = Arc::clone(&held);
        let far = bells.alarms.set(FAR, Box::new(move || drop(holding))).unwrap();
        let other = bells.set(FAR, "other");
        assert_eq!(Arc::strong_count(&held), 2);
        bells.cancel(far);
        assert_eq!(Arc::strong_count(&held), 1);
        // The thread is up, and sleeps again.
        let rung = bells.set(Duration::ZERO, "rung");
        bells.expect("rung");
        bells.cancel(rung);
        assert!(bells.alarms.state.lock().is_running, "there is one left");
        bells.cancel(other);
        bells.expect_no_thread();
    }
}

#[test]
fn what_rings_may_panic_set_and_cancel() {
    struct Thrower;
    impl Drop for Thrower {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("thrown by what was thrown"));
        }
    }
    let bells = Bells::new();
    let (alarms, sender) = (bells.alarms, bells.sender.clone());
    let last = bells.set(FAR, "cancelled");
    let _ = alarms.set(Duration::ZERO, Box::new(|| std::panic::resume_unwind(Box::new(Thrower)))).unwrap();
    let inside = move || {
        let _ = alarms.set(Duration::from_millis(1), Box::new(move || sender.send("set inside").unwrap())).unwrap();
        alarms.cancel(last.0);
    };
    let _ = alarms.set(Duration::ZERO, Box::new(inside)).unwrap();
    bells.expect("set inside");
    bells.expect_no_thread();
}

#[test]
fn no_delay_is_too_long() {
    let bells = Bells::new();
    bells.cancel(bells.set(Duration::MAX, "never"));
    bells.expect_no_thread();
}
