//! What a session tells its delegate: Apple's protocols as traits.
//!
//! Every method has a default, which says that the method is not there. A task's own delegate that leaves a method at
//! its default is passed over, and the session's delegate is asked, as on Apple's.

use std::any::TypeId;
use std::cell::Cell;

use super::task::SessionTask;
use super::url_session::UrlSession;
use super::web_socket_task::WebSocketTask;
use crate::foundation::{
    AuthChallengeDisposition, AuthenticationChallenge, CloseCode, HttpUrlResponse, TaskMetrics, UrlCredential,
    UrlError, UrlRequest,
};

/// The answer to a challenge: what to do, and with which credential. Callable from any thread, at any time; dropped
/// without a call, the method counts as left at its default.
pub type ChallengeHandler = Box<dyn FnOnce(AuthChallengeDisposition, Option<UrlCredential>) + Send>;

/// The answer to a redirect: the request to go on with, or `None` to make the redirect the final response. Callable from
/// any thread, at any time; dropped without a call, the method counts as left at its default.
pub type RedirectionHandler = Box<dyn FnOnce(Option<UrlRequest>) + Send>;

/// `URLSessionDelegate`: what concerns the whole session. Called on the delegate queue.
#[allow(unused_variables)]
pub trait SessionDelegate: Send + Sync + 'static {
    /// Which type this is, for [`implements`]. `Any` would say so, too, but would take the name `type_id` from programs.
    #[doc(hidden)]
    fn __delegate_type(&self, _: OfThisCrate) -> TypeId {
        TypeId::of::<Self>()
    }

    /// `urlSession(_:didBecomeInvalidWithError:)`: the session's last word, after the last word of its last task. The
    /// error is `None`: the session was invalidated by its owner. The session lets go of the delegate after this call.
    fn did_become_invalid_with_error(&self, session: &UrlSession, error: Option<&UrlError>) {
        left_at_default::<Self>(Method::DidBecomeInvalid);
    }

    /// `urlSession(_:didReceive:completionHandler:)`: the connection asks for a credential or for trust.
    ///
    /// Not called yet: the system's evaluation decides about a server's certificate, and there are no client
    /// certificates.
    fn did_receive_challenge(
        &self,
        session: &UrlSession,
        challenge: &AuthenticationChallenge,
        completion_handler: ChallengeHandler,
    ) {
        left_at_default::<Self>(Method::DidReceiveChallenge);
    }
}

/// `URLSessionTaskDelegate`: what concerns a task of any kind. Called on the delegate queue, but for
/// [`did_create_task`](Self::did_create_task).
#[allow(unused_variables)]
pub trait TaskDelegate: SessionDelegate {
    /// `urlSession(_:didCreateTask:)`: called inside the call that makes the task, on the thread that makes it.
    fn did_create_task(&self, session: &UrlSession, task: &SessionTask) {
        left_at_default::<Self>(Method::DidCreateTask);
    }

    /// `urlSession(_:taskIsWaitingForConnectivity:)`: there is no network, and the task waits for it.
    ///
    /// Not called yet: a task without a network fails.
    fn task_is_waiting_for_connectivity(&self, session: &UrlSession, task: &SessionTask) {
        left_at_default::<Self>(Method::TaskIsWaitingForConnectivity);
    }

    /// `urlSession(_:task:willPerformHTTPRedirection:newRequest:completionHandler:)`: the server sends the task elsewhere.
    ///
    /// Not called yet: a redirect is the final response, and fails the task with
    /// [`ErrorCode::BadServerResponse`](crate::ErrorCode::BadServerResponse).
    fn will_perform_http_redirection(
        &self,
        session: &UrlSession,
        task: &SessionTask,
        response: &HttpUrlResponse,
        new_request: UrlRequest,
        completion_handler: RedirectionHandler,
    ) {
        left_at_default::<Self>(Method::WillPerformHttpRedirection);
    }

    /// `urlSession(_:task:didReceive:completionHandler:)`: the server or a proxy asks for a credential.
    ///
    /// Not called yet: a 401 or 407 is the final response, and fails the task with
    /// [`ErrorCode::BadServerResponse`](crate::ErrorCode::BadServerResponse).
    fn task_did_receive_challenge(
        &self,
        session: &UrlSession,
        task: &SessionTask,
        challenge: &AuthenticationChallenge,
        completion_handler: ChallengeHandler,
    ) {
        left_at_default::<Self>(Method::TaskDidReceiveChallenge);
    }

    /// `urlSession(_:task:didReceiveInformationalResponse:)`: a 1xx other than 101 came before the final response.
    fn did_receive_informational_response(&self, session: &UrlSession, task: &SessionTask, response: &HttpUrlResponse) {
        left_at_default::<Self>(Method::DidReceiveInformationalResponse);
    }

    /// `urlSession(_:task:didFinishCollecting:)`: when everything happened, before
    /// [`did_complete_with_error`](Self::did_complete_with_error).
    fn did_finish_collecting_metrics(&self, session: &UrlSession, task: &SessionTask, metrics: &TaskMetrics) {
        left_at_default::<Self>(Method::DidFinishCollectingMetrics);
    }

    /// `urlSession(_:task:didCompleteWithError:)`: the task's last word. Called exactly once for a task that was resumed or
    /// cancelled. The error is `None` where the WebSocket was closed by a Close frame of either side with a code.
    fn did_complete_with_error(&self, session: &UrlSession, task: &SessionTask, error: Option<&UrlError>) {
        left_at_default::<Self>(Method::DidCompleteWithError);
    }
}

/// `URLSessionWebSocketDelegate`: what concerns a WebSocket task. Called on the delegate queue.
#[allow(unused_variables)]
pub trait WebSocketDelegate: TaskDelegate {
    /// `urlSession(_:webSocketTask:didOpenWithProtocol:)`: the handshake is complete. `protocol` is the subprotocol that the
    /// server chose among those offered.
    fn did_open_with_protocol(&self, session: &UrlSession, task: &WebSocketTask, protocol: Option<&str>) {
        left_at_default::<Self>(Method::DidOpenWithProtocol);
    }

    /// `urlSession(_:webSocketTask:didCloseWith:reason:)`: the server closed the WebSocket, or `cancel_with` did.
    ///
    /// A Close frame without a code reads as [`CloseCode::NO_STATUS_RECEIVED`]; after
    /// [`cancel_with`](WebSocketTask::cancel_with) code and reason are those that were given to it.
    fn did_close_with(&self, session: &UrlSession, task: &WebSocketTask, close_code: CloseCode, reason: Option<&[u8]>) {
        left_at_default::<Self>(Method::DidCloseWith);
    }
}

/// A method of the delegate traits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    DidBecomeInvalid,
    DidReceiveChallenge,
    DidCreateTask,
    TaskIsWaitingForConnectivity,
    WillPerformHttpRedirection,
    TaskDidReceiveChallenge,
    DidReceiveInformationalResponse,
    DidFinishCollectingMetrics,
    DidCompleteWithError,
    DidOpenWithProtocol,
    DidCloseWith,
}

impl Method {
    /// One bit for each.
    pub(super) const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// What nobody else can name, and so nobody else can call or implement what takes one.
#[derive(Debug)]
pub struct OfThisCrate(());

thread_local! {
    /// The method whose default body ran last on this thread, and whose type has it.
    static LEFT_AT_DEFAULT: Cell<Option<(Method, TypeId)>> = const { Cell::new(None) };
}

fn left_at_default<D: ?Sized + 'static>(method: Method) {
    let _ = LEFT_AT_DEFAULT.try_with(|left| left.set(Some((method, TypeId::of::<D>()))));
}

/// Whether a delegate has a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Implemented {
    Yes,
    /// It left this call to a default: its own, or that of a delegate that it handed the call on to.
    NotNow,
    /// Its type has left the method at its default, and so no call of it does anything.
    Never,
}

/// Calls one method of a delegate; whether the delegate has it, or left it at its default.
pub(super) fn implements(delegate: &dyn WebSocketDelegate, method: Method, call: impl FnOnce()) -> Implemented {
    let _ = LEFT_AT_DEFAULT.try_with(|left| left.set(None));
    call();
    match LEFT_AT_DEFAULT.try_with(Cell::take) {
        Ok(Some((left, by))) if left == method && by == delegate.__delegate_type(OfThisCrate(())) => Implemented::Never,
        Ok(Some((left, _))) if left == method => Implemented::NotNow,
        _ => Implemented::Yes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foundation::SessionConfiguration;

    struct Lacking;
    impl SessionDelegate for Lacking {}
    impl TaskDelegate for Lacking {}
    impl WebSocketDelegate for Lacking {}

    /// Hands one method on to a delegate that lies at its own address and lacks it.
    struct HandsOn(Lacking);
    impl SessionDelegate for HandsOn {
        fn did_become_invalid_with_error(&self, session: &UrlSession, error: Option<&UrlError>) {
            self.0.did_become_invalid_with_error(session, error);
        }
    }
    impl TaskDelegate for HandsOn {}
    impl WebSocketDelegate for HandsOn {
        fn did_open_with_protocol(&self, _: &UrlSession, _: &WebSocketTask, _: Option<&str>) {}
    }

    #[test]
    fn what_a_type_lacks_is_told_from_what_it_hands_on() {
        let session = UrlSession::new(SessionConfiguration::default());
        let task = session.web_socket_task(url::Url::parse("ws://192.0.2.1/").unwrap());
        let has = |delegate: &dyn WebSocketDelegate| {
            let invalid = implements(delegate, Method::DidBecomeInvalid, || {
                delegate.did_become_invalid_with_error(&session, None);
            });
            let open = implements(delegate, Method::DidOpenWithProtocol, || {
                delegate.did_open_with_protocol(&session, &task, None);
            });
            let create = implements(delegate, Method::DidCreateTask, || delegate.did_create_task(&session, &task));
            [invalid, open, create]
        };
        assert_eq!(has(&Lacking), [Implemented::Never; 3]);
        assert_eq!(has(&HandsOn(Lacking)), [Implemented::NotNow, Implemented::Yes, Implemented::Never]);
    }
}
