use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, MutexGuard as LockedTest, PoisonError};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);
/// So far away that no test sees it.
const FAR: Duration = Duration::from_secs(3600);

/// One test at a time: there is one set of alarms for all.
fn alone() -> LockedTest<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn set(delay: Duration, name: &'static str, sender: &Sender<&'static str>) -> Alarm {
    let sender = sender.clone();
    Alarm::set(delay, move || sender.send(name).unwrap()).unwrap()
}

fn next(receiver: &Receiver<&'static str>) -> &'static str {
    receiver.recv_timeout(PATIENCE).unwrap()
}

/// Waits until the thread is gone.
#[track_caller]
fn expect_no_thread() {
    let deadline = Instant::now() + PATIENCE;
    while ALARMS.state.lock().is_running {
        assert!(Instant::now() < deadline, "the thread stays");
        thread::yield_now();
    }
}

#[test]
fn they_ring_in_the_order_of_their_moments_and_not_before() {
    let _alone = alone();
    let (sender, receiver) = mpsc::channel();
    let begun = Instant::now();
    let _ = set(Duration::from_millis(60), "third", &sender);
    let _ = set(Duration::from_millis(20), "first", &sender);
    let _ = set(Duration::from_millis(40), "second", &sender);
    assert_eq!([next(&receiver), next(&receiver), next(&receiver)], ["first", "second", "third"]);
    assert!(begun.elapsed() >= Duration::from_millis(60));
    expect_no_thread();
    // Another thread.
    let _ = set(Duration::ZERO, "again", &sender);
    assert_eq!(next(&receiver), "again");
    expect_no_thread();
}

#[test]
fn one_that_is_cancelled_lets_go_of_what_it_holds() {
    let _alone = alone();
    let (sender, receiver) = mpsc::channel();
    let held = Arc::new(());
    let holding = Arc::clone(&held);
    let far = Alarm::set(FAR, move || drop(holding)).unwrap();
    let other = set(FAR, "other", &sender);
    assert_eq!(Arc::strong_count(&held), 2);
    far.cancel();
    assert_eq!(Arc::strong_count(&held), 1);
    assert!(ALARMS.state.lock().is_running, "there is one left");
    other.cancel();
    expect_no_thread();
    assert!(receiver.try_recv().is_err());
    let rung = set(Duration::ZERO, "rung", &sender);
    assert_eq!(next(&receiver), "rung");
    rung.cancel();
    expect_no_thread();
}

#[test]
fn what_rings_may_panic_set_and_cancel() {
    struct Thrower;
    impl Drop for Thrower {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("thrown by what was thrown"));
        }
    }
    let _alone = alone();
    let (sender, receiver) = mpsc::channel();
    let last = set(FAR, "cancelled", &sender);
    let _ = Alarm::set(Duration::ZERO, || std::panic::resume_unwind(Box::new(Thrower))).unwrap();
    let inner = sender.clone();
    let _ = Alarm::set(Duration::ZERO, move || {
        let _ = set(Duration::from_millis(1), "set inside", &inner);
        last.cancel();
    })
    .unwrap();
    assert_eq!(next(&receiver), "set inside");
    expect_no_thread();
}

#[test]
fn no_delay_is_too_long() {
    let _alone = alone();
    let (sender, _receiver) = mpsc::channel();
    set(Duration::MAX, "never", &sender).cancel();
    expect_no_thread();
}
