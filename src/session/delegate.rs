//! What a session tells its delegate: Apple's protocols as traits.
//!
//! Every method has a default, which says that the method is not there. A task's own delegate that leaves a method at
//! its default is passed over, and the session's delegate is asked, as on Apple's.

use std::any::TypeId;
use std::cell::Cell;

use super::session_task::SessionTask;
use super::url_session::UrlSession;
use super::web_socket_task::WebSocketTask;
use crate::foundation::{
    AuthChallengeDisposition, AuthenticationChallenge, CloseCode, HttpUrlResponse, TaskMetrics, UrlCredential,
    UrlError, UrlRequest,
};

/// The `completionHandler` of a challenge: what to do, and with which credential. Callable from any thread, at any
/// time; dropped without a call, the method counts as left at its default; but where a panic drops it that was to judge
/// a server's certificate, the server is not trusted.
pub type ChallengeHandler = Box<dyn FnOnce(AuthChallengeDisposition, Option<UrlCredential>) + Send>;

/// The `completionHandler` of a redirect: the request to go on with, or `None` to make the redirect the final response.
/// Callable from any thread, at any time; dropped without a call, the method counts as left at its default.
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

    /// `urlSession(_:didReceive:completionHandler:)`: what is asked of the connection: whether the server is trusted, who the
    /// client is, and NTLM and Negotiate, which this crate shows and does not speak.
    ///
    /// The session's delegate is asked; where it lacks the method,
    /// [`task_did_receive_challenge`](TaskDelegate::task_did_receive_challenge) is asked instead, of the task's own delegate
    /// first. The task waits for the handler, which may be called later and on any thread, and its
    /// [request timer](crate::SessionConfiguration::timeout_interval_for_request) stands still meanwhile.
    ///
    /// [`ServerTrust`](crate::AuthenticationMethod::ServerTrust): on each new TLS connection, that to a proxy too, when the
    /// [certificates](crate::UrlProtectionSpace::server_trust) are known and before a byte of HTTP leaves.
    ///
    /// | | |
    /// |---|---|
    /// | `UseCredential` with [`UrlCredential::for_trust`] | the server is trusted |
    /// | `UseCredential` otherwise, `PerformDefaultHandling` | the session's [evaluation](crate::ServerTrust::evaluate) decides |
    /// | `RejectProtectionSpace` | it is not trusted: the evaluation's error, or [`ErrorCode::ServerCertificateUntrusted`](crate::ErrorCode::ServerCertificateUntrusted) |
    /// | `CancelAuthenticationChallenge` | the task fails with [`ErrorCode::Cancelled`](crate::ErrorCode::Cancelled) |
    ///
    /// [`ClientCertificate`](crate::AuthenticationMethod::ClientCertificate): where a server that is trusted wants one.
    /// [`UrlCredential::with_identity`] gives it; `CancelAuthenticationChallenge` ends the task as above; with any other answer
    /// the handshake goes on without a certificate, and the server decides.
    ///
    /// NTLM and Negotiate: as in [`task_did_receive_challenge`](TaskDelegate::task_did_receive_challenge), but with a credential
    /// and by default the next method that the server offers has its turn.
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
    /// Called once for a task, and only where
    /// [`waits_for_connectivity`](crate::SessionConfiguration::waits_for_connectivity) is set. The task tries again by itself,
    /// after 250 ms and then after up to 4 s, until it connects, is cancelled, or
    /// [`timeout_interval_for_resource`](crate::SessionConfiguration::timeout_interval_for_resource) has passed.
    fn task_is_waiting_for_connectivity(&self, session: &UrlSession, task: &SessionTask) {
        left_at_default::<Self>(Method::TaskIsWaitingForConnectivity);
    }

    /// `urlSession(_:task:willPerformHTTPRedirection:newRequest:completionHandler:)`: the server sends the task elsewhere, by
    /// a 301, 302, 303, or 305 to 308 with a `Location`.
    ///
    /// The task waits for the handler, which may be called later and on any thread, and its
    /// [request timer](crate::SessionConfiguration::timeout_interval_for_request) stands still meanwhile. `new_request`, as it is or
    /// changed, follows the redirect; so does another request. `None` makes the redirect the final response: the task fails
    /// with [`ErrorCode::BadServerResponse`](crate::ErrorCode::BadServerResponse). By default redirects are followed, 20 of
    /// them; the next is [`ErrorCode::HttpTooManyRedirects`](crate::ErrorCode::HttpTooManyRedirects).
    ///
    /// For another origin (scheme, host, port) `new_request` has none of the caller's header fields but `Accept`,
    /// `Accept-Encoding`, `Accept-Language`, `Cache-Control`, `DNT`, `Origin`, `Pragma`, `Sec-WebSocket-Extensions`,
    /// `Sec-WebSocket-Protocol` and `User-Agent`, and no user and password; of the session's additional fields the same are
    /// sent. What the delegate adds is sent; of a request that it leads
    /// elsewhere itself, what was the caller's stays behind likewise. A subprotocol that holds a secret is for the delegate to take away.
    ///
    /// From `wss` to `ws` a task goes only with a request that the delegate made itself, or whose server or path it chose: otherwise it
    /// fails with [`ErrorCode::SecureConnectionFailed`](crate::ErrorCode::SecureConnectionFailed). `response` has no body: it
    /// may still be on its way.
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

    /// `urlSession(_:task:didReceive:completionHandler:)`: the server asks, by a 401, for a credential for Basic or Digest, or a
    /// proxy does by a 407: then [`is_proxy`](crate::UrlProtectionSpace::is_proxy) is true. Where the session's delegate
    /// lacks [`did_receive_challenge`](SessionDelegate::did_receive_challenge), it is asked the questions of that, too.
    ///
    /// The task waits for the handler, which may be called later and on any thread, and its
    /// [request timer](crate::SessionConfiguration::timeout_interval_for_request) stands still meanwhile. Of several methods
    /// the strongest is asked about first. A user and a password in the address answer before anybody is asked, and at a proxy
    /// those that are [configured](crate::ProxyConfiguration::apply_credential) for it. "The 401" stands for the 407, too.
    ///
    /// | | |
    /// |---|---|
    /// | `UseCredential` with a credential | the request goes out again, with it; 20 times at most in a task |
    /// | `UseCredential` without one | the 401 stands: [`ErrorCode::BadServerResponse`](crate::ErrorCode::BadServerResponse) |
    /// | `PerformDefaultHandling` | the credential that is [proposed](AuthenticationChallenge::proposed_credential), if there is one; otherwise the 401 stands |
    /// | `CancelAuthenticationChallenge` | the task fails with [`ErrorCode::Cancelled`](crate::ErrorCode::Cancelled) |
    /// | `RejectProtectionSpace` | the next method that the server offers; where there is none, the 401 stands |
    ///
    /// A credential that the server takes is kept in the session's
    /// [storage](crate::SessionConfiguration::url_credential_storage), unless its persistence is `None`; later requests to the
    /// same part of the server then carry it unasked. A nonce of Digest that is only too old is renewed without a question.
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
