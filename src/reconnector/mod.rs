//! A WebSocket that comes back: one task after the other, for as long as that makes sense.
//!
//! It stands above the session and does what a program could, but for three things that it is given from below: it hears of
//! the end of a task behind everybody else, and of the end of the session before everybody else, and it has an alarm. How one
//! task follows another is in [`course`], when and whether in [`policy`].

mod connection_end;
mod course;
mod delegate;
mod policy;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

pub use connection_end::ConnectionEnd;
pub use delegate::ReconnectorDelegate;
pub use policy::{ExponentialBackoff, ReconnectionPolicy};

use crate::foundation::{CloseCode, UrlRequest};
use crate::session::{UrlSession, WebSocketTask};
use course::Course;

/// Beyond Apple: keeps a WebSocket open. It makes a task of its session, and when that ends another one, after a while, as long
/// as its [policy](ReconnectionPolicy) sees sense in that.
///
/// ```no_run
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use urlsession::{ConnectionEnd, Reconnector, ReconnectorDelegate, Url, UrlSession, WebSocketTask};
///
/// struct Prices;
///
/// impl ReconnectorDelegate for Prices {
///     fn did_create_task(&self, _: &Reconnector, task: &WebSocketTask) {
///         task.send("subscribe", |_| {});
///         receive(task.clone());
///     }
///
///     fn will_reconnect(&self, _: &Reconnector, end: &ConnectionEnd, delay: Duration) {
///         println!("{:?}; again in {delay:?}", end.error);
///     }
/// }
///
/// fn receive(task: WebSocketTask) {
///     task.clone().receive(move |message| {
///         if let Ok(message) = message {
///             println!("{message:?}");
///             receive(task);
///         }
///     });
/// }
///
/// let url = Url::parse("wss://example.com/prices").unwrap();
/// let reconnector = Reconnector::new(UrlSession::shared(), url, Arc::new(Prices));
/// reconnector.resume();
/// # std::thread::park();
/// ```
///
/// Every try is a new task: of the session's delegate and the task's own nothing is taken away, and nothing is added to what they
/// are told. At no time are there two. Nothing is sent twice: what the old task took and did not send fails through its handlers,
/// and whether to send it again is the program's to know. (Messages that came and nobody received keep a task's end waiting, for
/// `close_timeout` at most, and with it the next task.)
///
/// From [`resume`](Self::resume) on it needs no handle to go on, and holds its session, its delegate and its policy until it has
/// stopped: after [`cancel`](Self::cancel), after an end that the policy makes nothing of, or when the session is invalidated.
/// It then says so with [`did_stop`](ReconnectorDelegate::did_stop), before the session's `did_become_invalid_with_error`. One
/// that was never resumed goes with its last handle.
///
/// A handle: clones stand for the same reconnector, and compare and hash as it. Every method may be called from any thread and
/// from inside any callback.
#[derive(Clone)]
pub struct Reconnector(Arc<Course>);

impl Reconnector {
    /// With an [`ExponentialBackoff`] as it is by default. It does nothing until it is [resumed](Self::resume).
    ///
    /// Subprotocols are offered by the request's `Sec-WebSocket-Protocol`.
    pub fn new(session: &UrlSession, request: impl Into<UrlRequest>, delegate: Arc<dyn ReconnectorDelegate>) -> Self {
        Self::with_policy(session, request, delegate, ExponentialBackoff::default())
    }

    /// With a policy.
    pub fn with_policy(
        session: &UrlSession,
        request: impl Into<UrlRequest>,
        delegate: Arc<dyn ReconnectorDelegate>,
        policy: impl ReconnectionPolicy,
    ) -> Self {
        Self(Course::new(session, request.into(), delegate, Box::new(policy)))
    }

    /// Starts it. While it waits, the next try is made now: the network is back, or the program in the foreground. (Failures
    /// are counted on.) Otherwise it does nothing.
    pub fn resume(&self) {
        self.0.resume();
    }

    /// No further task; that which lives is [cancelled](crate::SessionTask::cancel). Only the first cancel counts.
    pub fn cancel(&self) {
        self.cancel_with(CloseCode::INVALID, None);
    }

    /// No further task; that which lives is [cancelled](WebSocketTask::cancel_with) with the code and the reason.
    pub fn cancel_with(&self, close_code: CloseCode, reason: Option<&[u8]>) {
        self.0.cancel(close_code, reason);
    }

    /// The task that lives now, from before its `did_create_task` here until its end was told. `None` between two.
    pub fn task(&self) -> Option<WebSocketTask> {
        self.0.task()
    }
}

impl PartialEq for Reconnector {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Reconnector {}

impl Hash for Reconnector {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl fmt::Debug for Reconnector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (phase, task, failures) = self.0.shown();
        formatter
            .debug_struct("Reconnector")
            .field("phase", &phase)
            .field("task", &task)
            .field("failures", &failures)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use url::Url;

    use super::*;
    use crate::foundation::SessionConfiguration;

    /// Says when it is about to wait.
    struct Waiter(mpsc::Sender<()>);

    impl ReconnectorDelegate for Waiter {
        fn will_reconnect(&self, _: &Reconnector, _: &ConnectionEnd, _: Duration) {
            self.0.send(()).unwrap();
        }
    }

    /// An alarm that is far away is not what keeps a reconnector that nobody waits for any more.
    #[test]
    fn whoever_ends_the_wait_ends_what_the_alarm_holds() {
        const PATIENCE: Duration = Duration::from_secs(20);
        for resumed in [false, true] {
            let (sender, waits) = mpsc::channel();
            let session = UrlSession::new(SessionConfiguration::default());
            // A scheme that no task takes: it ends where it begins.
            let url = Url::parse("ftp://192.0.2.1/").unwrap();
            let policy = |_: &ConnectionEnd| Some(Duration::from_secs(3600));
            let reconnector = Reconnector::with_policy(&session, url, Arc::new(Waiter(sender)), policy);
            let expect_holders = |count: usize| {
                let deadline = std::time::Instant::now() + PATIENCE;
                while Arc::strong_count(&reconnector.0) != count {
                    assert!(std::time::Instant::now() < deadline, "{} hold it", Arc::strong_count(&reconnector.0));
                    std::thread::yield_now();
                }
            };
            reconnector.resume();
            waits.recv_timeout(PATIENCE).unwrap();
            // This handle and the alarm.
            expect_holders(2);
            if resumed {
                reconnector.resume();
                waits.recv_timeout(PATIENCE).unwrap();
                expect_holders(2);
                // The alarm of the wait before had rung already when it was cancelled: it comes too late.
                reconnector.0.wake(1);
                assert_eq!(reconnector.0.shown().0, "Waiting");
            }
            reconnector.cancel();
            expect_holders(1);
        }
    }
}
