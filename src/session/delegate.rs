//! What a session tells its delegate: Apple's protocols as traits.
//!
//! Every method has a default, which says that the method is not there. A task's own delegate that leaves a method at
//! its default is passed over, and the session's delegate is asked, as on Apple's.

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
    /// `urlSession(_:didBecomeInvalidWithError:)`: the session's last word, after the last word of its last task. The
    /// error is `None`: the session was invalidated by its owner. The session lets go of the delegate after this call.
    fn did_become_invalid_with_error(&self, session: &UrlSession, error: Option<&UrlError>) {
        left_at_default(Method::DidBecomeInvalid);
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
        left_at_default(Method::DidReceiveChallenge);
    }
}

/// `URLSessionTaskDelegate`: what concerns a task of any kind. Called on the delegate queue, but for
/// [`did_create_task`](Self::did_create_task).
#[allow(unused_variables)]
pub trait TaskDelegate: SessionDelegate {
    /// `urlSession(_:didCreateTask:)`: called inside the call that makes the task, on the thread that makes it.
    fn did_create_task(&self, session: &UrlSession, task: &SessionTask) {
        left_at_default(Method::DidCreateTask);
    }

    /// `urlSession(_:taskIsWaitingForConnectivity:)`: there is no network, and the task waits for it.
    ///
    /// Not called yet: a task without a network fails.
    fn task_is_waiting_for_connectivity(&self, session: &UrlSession, task: &SessionTask) {
        left_at_default(Method::TaskIsWaitingForConnectivity);
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
        left_at_default(Method::WillPerformHttpRedirection);
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
        left_at_default(Method::TaskDidReceiveChallenge);
    }

    /// `urlSession(_:task:didReceiveInformationalResponse:)`: a 1xx other than 101 came before the final response.
    fn did_receive_informational_response(&self, session: &UrlSession, task: &SessionTask, response: &HttpUrlResponse) {
        left_at_default(Method::DidReceiveInformationalResponse);
    }

    /// `urlSession(_:task:didFinishCollecting:)`: when everything happened, before
    /// [`did_complete_with_error`](Self::did_complete_with_error).
    fn did_finish_collecting_metrics(&self, session: &UrlSession, task: &SessionTask, metrics: &TaskMetrics) {
        left_at_default(Method::DidFinishCollectingMetrics);
    }

    /// `urlSession(_:task:didCompleteWithError:)`: the task's last word. Called exactly once for a task that was resumed or
    /// cancelled. The error is `None` where the WebSocket was closed by a Close frame of either side with a code.
    fn did_complete_with_error(&self, session: &UrlSession, task: &SessionTask, error: Option<&UrlError>) {
        left_at_default(Method::DidCompleteWithError);
    }
}

/// `URLSessionWebSocketDelegate`: what concerns a WebSocket task. Called on the delegate queue.
#[allow(unused_variables)]
pub trait WebSocketDelegate: TaskDelegate {
    /// `urlSession(_:webSocketTask:didOpenWithProtocol:)`: the handshake is complete. `protocol` is the subprotocol that the
    /// server chose among those offered.
    fn did_open_with_protocol(&self, session: &UrlSession, task: &WebSocketTask, protocol: Option<&str>) {
        left_at_default(Method::DidOpenWithProtocol);
    }

    /// `urlSession(_:webSocketTask:didCloseWith:reason:)`: the server closed the WebSocket, or `cancel_with` did.
    ///
    /// A Close frame without a code reads as [`CloseCode::NO_STATUS_RECEIVED`]; after
    /// [`cancel_with`](WebSocketTask::cancel_with) code and reason are those that were given to it.
    fn did_close_with(&self, session: &UrlSession, task: &WebSocketTask, close_code: CloseCode, reason: Option<&[u8]>) {
        left_at_default(Method::DidCloseWith);
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

thread_local! {
    /// The method whose default body ran last on this thread.
    static LEFT_AT_DEFAULT: Cell<Option<Method>> = const { Cell::new(None) };
}

fn left_at_default(method: Method) {
    let _ = LEFT_AT_DEFAULT.try_with(|left| left.set(Some(method)));
}

/// Calls one method of a delegate; whether the delegate has it, or left it at its default.
pub(super) fn implements(method: Method, call: impl FnOnce()) -> bool {
    let _ = LEFT_AT_DEFAULT.try_with(|left| left.set(None));
    call();
    LEFT_AT_DEFAULT.try_with(|left| left.take() != Some(method)).unwrap_or(true)
}
