//! What a reconnector tells.

use std::time::Duration;

use super::Reconnector;
use super::connection_end::ConnectionEnd;
use crate::foundation::UrlRequest;
use crate::session::WebSocketTask;

/// Beyond Apple: what a [`Reconnector`] tells. Every method has a default that does nothing.
///
/// Called on the session's delegate queue, one at a time, in order, and not while the reconnector's task tells of its end: what
/// a task told the session's delegate, and its own, came before. A panic ends in the method, and changes nothing.
#[allow(unused_variables)]
pub trait ReconnectorDelegate: Send + Sync + 'static {
    /// A task is about to be made, the first one too. `request` is a fresh copy of the reconnector's own: here it is given what
    /// must be new each time, a token or where to go on from.
    fn will_connect(&self, reconnector: &Reconnector, request: &mut UrlRequest) {}

    /// A task was made, and is resumed when this returns. Here it is given its receives, what it is to send first, and a
    /// [delegate](crate::SessionTask::set_delegate) of its own, if it is to have one.
    ///
    /// The session's `did_create_task` came before. What the task before did not send has failed, through its handlers, and is
    /// not sent again by itself.
    fn did_create_task(&self, reconnector: &Reconnector, task: &WebSocketTask) {}

    /// A task has ended, and after `delay` the next is made: [`resume`](Reconnector::resume) does not wait for that. The
    /// delay begins when this returns.
    fn will_reconnect(&self, reconnector: &Reconnector, end: &ConnectionEnd, delay: Duration) {}

    /// The last word, exactly once for a reconnector that was resumed or cancelled. `end` is how the last task ended; `None`
    /// where there was none.
    fn did_stop(&self, reconnector: &Reconnector, end: Option<&ConnectionEnd>) {}
}
