//! The public interface as a program that is ported from Swift uses it: every name, with its signature. Most of it is
//! proved by being compiled; the rest are values that must never change.

#![allow(
    clippy::eq_op,
    clippy::mutable_key_type,
    clippy::needless_borrows_for_generic_args,
    clippy::nonminimal_bool,
    clippy::redundant_clone,
    clippy::redundant_closure,
    clippy::type_complexity,
    reason = "each way to write it is to be compiled"
)]

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::fmt::{Debug, Display};
use std::future::Future;
use std::hash::Hash;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

// Everything is at the root of the crate.
use urlsession::*;

fn url() -> Url {
    Url::parse("wss://example.com/chat").unwrap()
}

fn session() -> UrlSession {
    UrlSession::new(SessionConfiguration::default())
}

// What types promise.

fn is_handle<T: Clone + Send + Sync + Eq + Hash + Debug + 'static>() {}
fn is_shared<T: Send + Sync + 'static>() {}
fn is_default<T: Default>() {}
fn is_value<T: Clone + Debug + Send + Sync + 'static>() {}
fn is_number<T: Copy + Eq + Debug + Send + Sync + 'static>() {}

#[test]
fn what_types_promise() {
    is_handle::<UrlSession>();
    is_handle::<SessionTask>();
    is_handle::<WebSocketTask>();
    is_handle::<OperationQueue>();
    is_handle::<HttpCookieStorage>();
    is_handle::<UrlCredentialStorage>();
    is_default::<OperationQueue>();
    is_default::<HttpCookieStorage>();
    is_default::<UrlCredentialStorage>();
    is_default::<SessionConfiguration>();
    is_default::<WebSocketOptions>();
    is_value::<SessionConfiguration>();
    is_value::<WebSocketOptions>();
    is_value::<RootCertificates>();
    is_value::<ProxyConfiguration>();
    is_value::<UrlRequest>();
    is_value::<HttpUrlResponse>();
    is_value::<Message>();
    is_value::<UrlError>();
    is_value::<TaskMetrics>();
    is_value::<TransactionMetrics>();
    is_value::<AuthenticationChallenge>();
    is_value::<UrlProtectionSpace>();
    is_value::<UrlCredential>();
    is_value::<ServerTrust>();
    is_value::<ClientIdentity>();
    is_number::<TaskState>();
    is_number::<CloseCode>();
    is_number::<ErrorCode>();
    is_number::<ErrorDomain>();
    is_number::<TlsProtocolVersion>();
    is_value::<HttpCookie>();
    is_number::<SameSitePolicy>();
    is_number::<HttpCookieAcceptPolicy>();
    is_number::<AuthChallengeDisposition>();
    is_number::<AuthenticationMethod>();
    is_number::<CredentialPersistence>();
    fn orders<T: Ord>() {}
    orders::<CloseCode>();
    orders::<TlsProtocolVersion>();
    fn hashes<T: Hash>() {}
    hashes::<CloseCode>();
    hashes::<ErrorCode>();
    fn compares<T: Eq>() {}
    compares::<Message>();
    fn is_error<T: Error + Display + Clone + Send + Sync + 'static>() {}
    is_error::<UrlError>();
    fn is_future<T: Future<Output = Result<O, UrlError>> + Send + Unpin + Debug + 'static, O>() {}
    is_future::<TaskFuture<()>, ()>();
    is_future::<TaskFuture<Message>, Message>();
    // Delegates are shared between threads, as objects.
    is_shared::<Arc<dyn WebSocketDelegate>>();
    fn is_session_delegate<T: SessionDelegate + ?Sized>() {}
    is_session_delegate::<dyn WebSocketDelegate>();
    is_session_delegate::<dyn TaskDelegate>();
}

// Sessions.

#[test]
fn sessions() {
    let _: fn() -> &'static UrlSession = UrlSession::shared;
    let _: fn(SessionConfiguration) -> UrlSession = UrlSession::new;
    let _: fn(SessionConfiguration, Option<Arc<dyn WebSocketDelegate>>, Option<OperationQueue>) -> UrlSession =
        UrlSession::with_delegate;
    let _: fn(&UrlSession) -> SessionConfiguration = UrlSession::configuration;
    let _: fn(&UrlSession) -> Option<Arc<dyn WebSocketDelegate>> = UrlSession::delegate;
    let _: fn(&UrlSession) -> OperationQueue = UrlSession::delegate_queue;
    let _: fn(&UrlSession) -> Option<String> = UrlSession::session_description;
    let _: fn(&UrlSession, Option<&str>) = UrlSession::set_session_description;
    let _: fn(&UrlSession) = UrlSession::finish_tasks_and_invalidate;
    let _: fn(&UrlSession) = UrlSession::invalidate_and_cancel;

    // With a URL and with a request, owned and borrowed.
    let session = session();
    let request = UrlRequest::new(url());
    let _: WebSocketTask = session.web_socket_task(url());
    let _: WebSocketTask = session.web_socket_task(&url());
    let _: WebSocketTask = session.web_socket_task(&request);
    let _: WebSocketTask = session.web_socket_task(request.clone());
    let _: WebSocketTask = session.web_socket_task_with_protocols(url(), &["a", "b"]);
    let _: WebSocketTask = session.web_socket_task_with_protocols(&request, &[]);

    // The bounds of the handlers are these and no others.
    fn handlers<A, B, C>(session: &UrlSession, reset: A, flush: B, tasks: C)
    where
        A: FnOnce() + Send + 'static,
        B: FnOnce() + Send + 'static,
        C: FnOnce(Vec<SessionTask>) + Send + 'static,
    {
        session.reset(reset);
        session.flush(flush);
        session.get_all_tasks(tasks);
    }
    // A handler may own what is not `Sync`.
    let cell = std::cell::Cell::new(1);
    handlers(&session, move || cell.set(2), || (), |tasks| drop(tasks));
}

#[test]
fn configurations() {
    let mut configuration = SessionConfiguration::ephemeral();
    configuration.timeout_interval_for_request = Duration::from_secs(1);
    configuration.timeout_interval_for_resource = Duration::from_secs(2);
    configuration.waits_for_connectivity = true;
    configuration.http_additional_headers = HashMap::<String, String>::new();
    configuration.http_cookie_storage = Option::<HttpCookieStorage>::None;
    configuration.http_cookie_accept_policy = HttpCookieAcceptPolicy::Never;
    configuration.http_should_set_cookies = false;
    configuration.http_maximum_connections_per_host = 1usize;
    configuration.url_credential_storage = Option::<UrlCredentialStorage>::None;
    configuration.proxy_configurations = Some(Vec::<ProxyConfiguration>::new());
    configuration.tls_minimum_supported_protocol_version = TlsProtocolVersion::TlsV13;
    configuration.tls_maximum_supported_protocol_version = TlsProtocolVersion::TlsV13;
    configuration.root_certificates = RootCertificates::webpki();
    configuration.web_socket = WebSocketOptions::default();
    let WebSocketOptions { permessage_deflate, ping_interval, pong_timeout, close_timeout, maximum_send_queue, .. } =
        configuration.web_socket.clone();
    let _: (bool, Option<Duration>, Duration) = (permessage_deflate, ping_interval, pong_timeout);
    let _: (Duration, Option<usize>) = (close_timeout, maximum_send_queue);

    let default = SessionConfiguration::default();
    assert_eq!(default.timeout_interval_for_request, Duration::from_secs(60));
    assert_eq!(default.timeout_interval_for_resource, Duration::from_secs(7 * 24 * 3600));
    assert!(!default.waits_for_connectivity && default.http_additional_headers.is_empty());
    assert!(default.http_cookie_storage == Some(HttpCookieStorage::shared()) && default.http_should_set_cookies);
    assert_eq!(default.http_cookie_accept_policy, HttpCookieAcceptPolicy::OnlyFromMainDocumentDomain);
    assert_eq!(default.http_maximum_connections_per_host, 6);
    assert_eq!(default.url_credential_storage, Some(UrlCredentialStorage::shared()));
    assert!(default.proxy_configurations.is_none());
    assert_eq!(default.tls_minimum_supported_protocol_version, TlsProtocolVersion::TlsV12);
    assert_eq!(default.tls_maximum_supported_protocol_version, TlsProtocolVersion::TlsV13);
    assert!(default.web_socket.permessage_deflate && default.web_socket.ping_interval.is_none());
    assert_eq!(default.web_socket.pong_timeout, Duration::from_secs(20));
    assert_eq!(default.web_socket.close_timeout, Duration::from_secs(10));
    assert!(default.web_socket.maximum_send_queue.is_none());
    let ephemeral = SessionConfiguration::ephemeral();
    assert_ne!(ephemeral.http_cookie_storage, default.http_cookie_storage);
    assert_ne!(ephemeral.url_credential_storage, default.url_credential_storage);

    assert_eq!((TlsProtocolVersion::TlsV12 as u16, TlsProtocolVersion::TlsV13 as u16), (771, 772));
    assert!(TlsProtocolVersion::TlsV12 < TlsProtocolVersion::TlsV13);
    let policies = [HttpCookieAcceptPolicy::Always, HttpCookieAcceptPolicy::Never];
    assert_eq!(policies.map(|policy| policy as i32), [0, 1]);
    assert_eq!(HttpCookieAcceptPolicy::OnlyFromMainDocumentDomain as i32, 2);

    let _: fn(&[u8]) -> Result<RootCertificates, UrlError> = RootCertificates::from_pem;
    #[cfg(feature = "platform-roots")]
    let _: fn() -> RootCertificates = RootCertificates::platform;
}

#[test]
fn proxies() {
    let _: fn(&str, u16) -> ProxyConfiguration = ProxyConfiguration::http_connect;
    let _: fn(&str, u16) -> ProxyConfiguration = ProxyConfiguration::https_connect;
    let _: fn(&str, u16) -> ProxyConfiguration = ProxyConfiguration::socks_v5;
    let _: fn(&mut ProxyConfiguration, &str, &str) = ProxyConfiguration::apply_credential;
    let mut proxy = ProxyConfiguration::http_connect("proxy.example.com", 3128);
    proxy.excluded_domains = vec!["internal.example.com".to_owned()];
    proxy.match_domains = vec!["example.com".to_owned()];
    proxy.allow_failover = true;
    proxy.apply_credential("me", "hidden");
    assert!(!format!("{proxy:?}").contains("hidden"));
}

// Tasks.

#[test]
fn tasks() {
    let _: fn(&SessionTask) = SessionTask::resume;
    let _: fn(&SessionTask) = SessionTask::suspend;
    let _: fn(&SessionTask) = SessionTask::cancel;
    let _: fn(&SessionTask) -> usize = SessionTask::task_identifier;
    let _: fn(&SessionTask) -> TaskState = SessionTask::state;
    let _: fn(&SessionTask) -> UrlRequest = SessionTask::original_request;
    let _: fn(&SessionTask) -> UrlRequest = SessionTask::current_request;
    let _: fn(&SessionTask) -> Option<HttpUrlResponse> = SessionTask::response;
    let _: fn(&SessionTask) -> Option<UrlError> = SessionTask::error;
    let _: fn(&SessionTask) -> Option<Arc<dyn WebSocketDelegate>> = SessionTask::delegate;
    let _: fn(&SessionTask, Option<Arc<dyn WebSocketDelegate>>) = SessionTask::set_delegate;
    let _: fn(&SessionTask) -> Option<String> = SessionTask::task_description;
    let _: fn(&SessionTask, Option<&str>) = SessionTask::set_task_description;
    let _: fn(&SessionTask) -> f32 = SessionTask::priority;
    let _: fn(&SessionTask, f32) = SessionTask::set_priority;
    let _: fn(&SessionTask) -> i64 = SessionTask::count_of_bytes_sent;
    let _: fn(&SessionTask) -> i64 = SessionTask::count_of_bytes_received;
    let _: fn(&SessionTask) -> Option<WebSocketTask> = SessionTask::as_web_socket_task;
    const PRIORITIES: [f32; 3] = [SessionTask::LOW_PRIORITY, SessionTask::DEFAULT_PRIORITY, SessionTask::HIGH_PRIORITY];
    assert_eq!(PRIORITIES, [0.25, 0.5, 0.75]);
    let states = [TaskState::Running, TaskState::Suspended, TaskState::Canceling, TaskState::Completed];
    assert_eq!(states.map(|state| state as i32), [0, 1, 2, 3]);

    let session = session();
    let task = session.web_socket_task(url());
    assert_eq!((task.task_identifier(), task.state(), task.priority()), (1, TaskState::Suspended, 0.5));
    assert_eq!((task.maximum_message_size(), task.buffered_amount()), (1_048_576, 0));
    assert_eq!((task.close_code(), task.close_reason()), (CloseCode::INVALID, None));
    assert!(task.response().is_none() && task.error().is_none() && task.delegate().is_none());
    assert_eq!(task.original_request(), UrlRequest::new(url()));
    assert_eq!((task.count_of_bytes_sent(), task.count_of_bytes_received()), (0, 0));
    task.set_task_description(Some("chat"));
    assert_eq!(task.task_description().as_deref(), Some("chat"));
    task.set_priority(SessionTask::HIGH_PRIORITY);
    assert_eq!(task.priority(), 0.75);
}

#[test]
fn a_web_socket_task_is_a_session_task() {
    fn is_class<T: Deref<Target = SessionTask>>() {}
    is_class::<WebSocketTask>();
    let session = session();
    let task = session.web_socket_task(url());
    let as_session_task: &SessionTask = &task;
    assert!(task == *as_session_task && *as_session_task == task);
    let converted: SessionTask = task.clone().into();
    assert_eq!(SessionTask::from(task.clone()), converted);
    assert!(task == converted && converted == task);
    assert_eq!(converted.as_web_socket_task(), Some(task.clone()));
    let other = session.web_socket_task(url());
    assert!(other != converted && converted != other && other != task);
    // Tasks are keys: a task finds what was kept under either of its types.
    let mut kept: HashMap<SessionTask, &str> = HashMap::new();
    kept.insert(task.clone().into(), "first");
    assert_eq!(kept.get(&*task), Some(&"first"));
    assert_eq!(kept.get(&*other), None);
    let set: HashSet<WebSocketTask> = HashSet::from([task.clone(), task.clone(), other]);
    assert_eq!(set.len(), 2);
}

#[test]
fn web_socket_tasks() {
    let _: fn(&WebSocketTask, CloseCode, Option<&[u8]>) = WebSocketTask::cancel_with;
    let _: fn(&WebSocketTask) -> CloseCode = WebSocketTask::close_code;
    let _: fn(&WebSocketTask) -> Option<Vec<u8>> = WebSocketTask::close_reason;
    let _: fn(&WebSocketTask) -> usize = WebSocketTask::maximum_message_size;
    let _: fn(&WebSocketTask, usize) = WebSocketTask::set_maximum_message_size;
    let _: fn(&WebSocketTask) -> TaskFuture<Message> = WebSocketTask::receive_async;
    let _: fn(&WebSocketTask) -> TaskFuture<()> = WebSocketTask::send_ping_async;
    let _: fn(&WebSocketTask) -> usize = WebSocketTask::buffered_amount;

    fn handlers<M, S, R, P>(task: &WebSocketTask, message: M, send: S, receive: R, ping: P)
    where
        M: Into<Message>,
        S: FnOnce(Result<(), UrlError>) + Send + 'static,
        R: FnOnce(Result<Message, UrlError>) + Send + 'static,
        P: FnOnce(Result<(), UrlError>) + Send + 'static,
    {
        task.send(message, send);
        task.receive(receive);
        task.send_ping(ping);
    }
    fn send_async<M: Into<Message>>(task: &WebSocketTask, message: M) -> TaskFuture<()> {
        task.send_async(message)
    }
    let session = session();
    let task = session.web_socket_task(url());
    let cell = std::cell::Cell::new(0);
    handlers(&task, "text", move |_| cell.set(1), |message| drop(message), |_| ());
    // Whatever makes a message.
    task.send(String::from("text"), |_| ());
    task.send(&String::from("text"), |_| ());
    task.send(vec![1u8, 2], |_| ());
    task.send(&vec![1u8, 2], |_| ());
    task.send(&[1u8, 2], |_| ());
    task.send(&[1u8, 2][..], |_| ());
    task.send(b"bytes", |_| ());
    task.send(Message::String("text".to_owned()), |_| ());
    drop((send_async(&task, "text"), task.receive_async(), task.send_ping_async()));
    // Handlers as a port passes them: functions, boxes, clones of what is kept.
    fn function(_: Result<Message, UrlError>) {}
    task.receive(function);
    let boxed: Box<dyn FnOnce(Result<(), UrlError>) + Send> = Box::new(|_| ());
    task.send("text", boxed);
    task.set_maximum_message_size(0);
    assert_eq!(task.maximum_message_size(), 0);
    task.cancel_with(CloseCode::NORMAL_CLOSURE, Some(b"bye"));
    task.cancel_with(CloseCode::new(4000), None);
}

#[test]
fn messages() {
    let table: [(Message, Message); 7] = [
        ("a".into(), Message::String("a".to_owned())),
        (String::from("a").into(), Message::String("a".to_owned())),
        ((&String::from("a")).into(), Message::String("a".to_owned())),
        (vec![1].into(), Message::Data(vec![1])),
        ((&vec![1]).into(), Message::Data(vec![1])),
        ((&[1u8][..]).into(), Message::Data(vec![1])),
        (b"\x01".into(), Message::Data(vec![1])),
    ];
    for (made, meant) in table {
        assert_eq!(made, meant);
        // As Swift's `@unknown default`.
        match made.clone() {
            Message::String(text) => assert_eq!(text, "a"),
            Message::Data(data) => assert_eq!(data, [1]),
            _ => unreachable!(),
        }
    }
}

#[test]
fn close_codes() {
    const NEW: CloseCode = CloseCode::new(4000);
    const RAW: u16 = NEW.raw_value();
    assert_eq!(RAW, 4000);
    let table = [
        (CloseCode::INVALID, 0),
        (CloseCode::NORMAL_CLOSURE, 1000),
        (CloseCode::GOING_AWAY, 1001),
        (CloseCode::PROTOCOL_ERROR, 1002),
        (CloseCode::UNSUPPORTED_DATA, 1003),
        (CloseCode::NO_STATUS_RECEIVED, 1005),
        (CloseCode::ABNORMAL_CLOSURE, 1006),
        (CloseCode::INVALID_FRAME_PAYLOAD_DATA, 1007),
        (CloseCode::POLICY_VIOLATION, 1008),
        (CloseCode::MESSAGE_TOO_BIG, 1009),
        (CloseCode::MANDATORY_EXTENSION_MISSING, 1010),
        (CloseCode::INTERNAL_SERVER_ERROR, 1011),
        (CloseCode::TLS_HANDSHAKE_FAILURE, 1015),
    ];
    for (code, raw_value) in table {
        assert_eq!((code.raw_value(), CloseCode::new(raw_value)), (raw_value, code));
    }
    let word = |code| match code {
        CloseCode::INVALID => "open",
        CloseCode::NORMAL_CLOSURE | CloseCode::GOING_AWAY => "good",
        NEW => "own",
        _ => "other",
    };
    assert_eq!([0, 1001, 4000, 1011].map(|raw| word(CloseCode::new(raw))), ["open", "good", "own", "other"]);
}

// Delegates.

/// All methods, with the signatures that Swift's have.
struct Full;

impl SessionDelegate for Full {
    fn did_become_invalid_with_error(&self, session: &UrlSession, error: Option<&UrlError>) {
        let _ = (session, error);
    }

    fn did_receive_challenge(
        &self,
        session: &UrlSession,
        challenge: &AuthenticationChallenge,
        completion_handler: ChallengeHandler,
    ) {
        let space: &UrlProtectionSpace = challenge.protection_space();
        let proposed: Option<&UrlCredential> = challenge.proposed_credential();
        let count: usize = challenge.previous_failure_count();
        let response: Option<&HttpUrlResponse> = challenge.failure_response();
        let error: Option<&UrlError> = challenge.error();
        let _ = (session, space, count, response, error);
        completion_handler(AuthChallengeDisposition::UseCredential, proposed.cloned());
    }
}

impl TaskDelegate for Full {
    fn did_create_task(&self, session: &UrlSession, task: &SessionTask) {
        let _ = (session, task);
    }

    fn task_is_waiting_for_connectivity(&self, session: &UrlSession, task: &SessionTask) {
        let _ = (session, task);
    }

    fn will_perform_http_redirection(
        &self,
        session: &UrlSession,
        task: &SessionTask,
        response: &HttpUrlResponse,
        new_request: UrlRequest,
        completion_handler: RedirectionHandler,
    ) {
        let _ = (session, task, response);
        completion_handler(Some(new_request));
    }

    fn task_did_receive_challenge(
        &self,
        session: &UrlSession,
        task: &SessionTask,
        challenge: &AuthenticationChallenge,
        completion_handler: ChallengeHandler,
    ) {
        let _ = (session, task, challenge);
        completion_handler(AuthChallengeDisposition::PerformDefaultHandling, None);
    }

    fn did_receive_informational_response(&self, session: &UrlSession, task: &SessionTask, response: &HttpUrlResponse) {
        let _ = (session, task, response);
    }

    fn did_finish_collecting_metrics(&self, session: &UrlSession, task: &SessionTask, metrics: &TaskMetrics) {
        let _ = (session, task, metrics);
    }

    fn did_complete_with_error(&self, session: &UrlSession, task: &SessionTask, error: Option<&UrlError>) {
        let _ = (session, task, error);
    }
}

impl WebSocketDelegate for Full {
    fn did_open_with_protocol(&self, session: &UrlSession, task: &WebSocketTask, protocol: Option<&str>) {
        let _ = (session, task, protocol);
    }

    fn did_close_with(&self, session: &UrlSession, task: &WebSocketTask, close_code: CloseCode, reason: Option<&[u8]>) {
        let _ = (session, task, close_code, reason);
    }
}

/// What a port looks like: it keeps its session and its task, and compares.
#[derive(Default)]
struct Chat {
    session: Mutex<Option<UrlSession>>,
    task: Mutex<Option<WebSocketTask>>,
    ended: Mutex<bool>,
}

impl SessionDelegate for Chat {}

impl TaskDelegate for Chat {
    fn did_complete_with_error(&self, session: &UrlSession, task: &SessionTask, error: Option<&UrlError>) {
        let mine = self.task.lock().unwrap().as_ref().is_some_and(|mine| task == mine && mine == task);
        assert!(mine && self.session.lock().unwrap().as_ref() == Some(session));
        assert_eq!(error.map(UrlError::code), Some(ErrorCode::Cancelled));
        *self.ended.lock().unwrap() = true;
    }
}

impl WebSocketDelegate for Chat {}

#[test]
fn delegates() {
    // An `Arc` of a delegate turns into the trait object at the call.
    let full = Arc::new(Full);
    let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(full.clone()), None);
    let _: Option<Arc<dyn WebSocketDelegate>> = session.delegate();
    session.web_socket_task(url()).set_delegate(Some(full));

    let chat = Arc::new(Chat::default());
    let session =
        UrlSession::with_delegate(SessionConfiguration::default(), Some(chat.clone()), Some(OperationQueue::main()));
    let task = session.web_socket_task(url());
    *chat.session.lock().unwrap() = Some(session.clone());
    *chat.task.lock().unwrap() = Some(task.clone());
    task.cancel();
    let ended = || *chat.ended.lock().unwrap();
    assert!(session.delegate_queue().run_until(Instant::now() + Duration::from_secs(20), ended));
    session.invalidate_and_cancel();
    let queue = OperationQueue::main();
    assert!(queue.run_until(Instant::now() + Duration::from_secs(20), || session.delegate().is_none()));
}

#[test]
fn handlers_of_delegates_are_boxes_that_may_be_kept() {
    fn is_kept<T: Send + 'static>() {}
    is_kept::<ChallengeHandler>();
    is_kept::<RedirectionHandler>();
    let challenge: ChallengeHandler =
        Box::new(|disposition: AuthChallengeDisposition, credential: Option<UrlCredential>| {
            assert_eq!((disposition, credential), (AuthChallengeDisposition::RejectProtectionSpace, None));
        });
    challenge(AuthChallengeDisposition::RejectProtectionSpace, None);
    let redirection: RedirectionHandler = Box::new(|request: Option<UrlRequest>| assert_eq!(request, None));
    redirection(None);
}

// Requests and responses.

#[test]
fn requests() {
    let mut request = UrlRequest::new(url());
    assert_eq!(request, UrlRequest::from(url()));
    assert_eq!(request, UrlRequest::from(&url()));
    assert_eq!(request, UrlRequest::from(&request));
    assert_eq!((request.http_method.as_str(), request.timeout_interval), ("GET", None));
    assert!(request.http_should_handle_cookies && request.main_document_url.is_none());
    request.url = url();
    request.http_method = "GET".to_owned();
    request.timeout_interval = Some(Duration::from_secs(5));
    request.http_should_handle_cookies = false;
    request.main_document_url = Some(url());

    let _: fn(&mut UrlRequest, &str, &str) = UrlRequest::set_value;
    let _: fn(&mut UrlRequest, &str, &str) = UrlRequest::add_value;
    let _: fn(&mut UrlRequest, &str) = UrlRequest::remove_value;
    let _: fn(&UrlRequest) -> HashMap<String, String> = UrlRequest::all_http_header_fields;
    // Value first, then the field, as in Swift.
    request.set_value("text/plain", "Accept");
    request.add_value("text/html", "accept");
    let value: Option<&str> = request.value("ACCEPT");
    assert_eq!(value, Some("text/plain, text/html"));
    assert_eq!(request.all_http_header_fields(), HashMap::from([("Accept".into(), "text/plain, text/html".into())]));
    request.remove_value("aCCEPT");
    assert!(request.all_http_header_fields().is_empty());
}

#[test]
fn responses() {
    fn parts(response: &HttpUrlResponse) {
        let _: (&Url, u16, &str) = (response.url(), response.status_code(), response.http_version());
        let _: Option<String> = response.value("Server");
        let _: HashMap<String, String> = response.all_header_fields();
        let _: Vec<(&str, &str)> = response.header_fields().collect();
        let _: &[u8] = response.body();
    }
    let _: fn(&HttpUrlResponse) = parts;
}

// Credentials.

#[test]
fn cookies() {
    let url = url();
    let cookies: Vec<HttpCookie> =
        HttpCookie::cookies_with_response_header_fields(&[("Set-Cookie", "a=1; Path=/chat; Max-Age=60")], &url);
    let field: Option<String> = HttpCookie::request_header_fields_with(&cookies);
    assert_eq!(field.as_deref(), Some("a=1"));
    let mut cookie: HttpCookie = HttpCookie::new("b", "2", ".example.com", "/");
    let shown: (&str, &str, &str, &str) = (cookie.name(), cookie.value(), cookie.domain(), cookie.path());
    assert_eq!(shown, ("b", "2", ".example.com", "/"));
    assert!(cookie.is_session_only() && !cookie.is_secure() && !cookie.is_http_only() && cookie == cookie.clone());
    let date: Option<SystemTime> = cookie.expires_date();
    cookie.set_expires_date(date);
    cookie.set_secure(true);
    cookie.set_http_only(true);
    for policy in [Some(SameSitePolicy::Lax), Some(SameSitePolicy::Strict), None] {
        cookie.set_same_site_policy(policy);
        assert_eq!(cookie.same_site_policy(), policy);
    }

    let storage = HttpCookieStorage::new();
    storage.set_cookies(cookies, &url, Option::<&Url>::None);
    storage.set_cookie(cookie.clone());
    let (all, for_url): (Vec<HttpCookie>, Vec<HttpCookie>) = (storage.cookies(), storage.cookies_for(&url));
    assert_eq!((all.len(), for_url.len()), (2, 2));
    storage.delete_cookie(&cookie);
    storage.remove_cookies_since(SystemTime::UNIX_EPOCH);
    storage.set_cookie_accept_policy(HttpCookieAcceptPolicy::Never);
    let policy: HttpCookieAcceptPolicy = storage.cookie_accept_policy();
    assert!(policy == HttpCookieAcceptPolicy::Never && storage.cookies().is_empty());
    let flushed: Result<(), UrlError> = storage.flush();
    let opened: Result<HttpCookieStorage, UrlError> = HttpCookieStorage::open("/nowhere/at/all/cookies");
    assert!(flushed.is_ok() && opened.is_err());
}

#[test]
fn credentials_and_challenges() {
    let _: fn(&str, &str, CredentialPersistence) -> UrlCredential = UrlCredential::new;
    let credential = UrlCredential::new("me", "hidden", CredentialPersistence::ForSession);
    let _: (Option<&str>, Option<&str>) = (credential.user(), credential.password());
    assert_eq!((credential.user(), credential.password()), (Some("me"), Some("hidden")));
    assert_eq!(credential.persistence(), CredentialPersistence::ForSession);
    let _: fn(&UrlCredential) -> CredentialPersistence = UrlCredential::persistence;
    let persistences =
        [CredentialPersistence::None, CredentialPersistence::ForSession, CredentialPersistence::Permanent];
    assert_eq!(persistences.map(|persistence| persistence as i32), [0, 1, 2]);

    let _: fn(&str, u16, Option<&str>, Option<&str>, AuthenticationMethod) -> UrlProtectionSpace =
        UrlProtectionSpace::new;
    let space = UrlProtectionSpace::new("example.com", 443, Some("wss"), Some("chat"), AuthenticationMethod::HttpBasic);
    assert_eq!((space.host(), space.port(), space.protocol()), ("example.com", 443, Some("https")));
    assert_eq!((space.realm(), space.authentication_method()), (Some("chat"), AuthenticationMethod::HttpBasic));
    assert!(!space.is_proxy() && space.receives_credential_securely());
    let plain = UrlProtectionSpace::new("example.com", 80, Some("ws"), None, AuthenticationMethod::HttpBasic);
    assert_eq!((plain.protocol(), plain.receives_credential_securely()), (Some("http"), false));
    let _ = [
        AuthenticationMethod::Default,
        AuthenticationMethod::HttpBasic,
        AuthenticationMethod::HttpDigest,
        AuthenticationMethod::HtmlForm,
        AuthenticationMethod::Ntlm,
        AuthenticationMethod::Negotiate,
        AuthenticationMethod::ClientCertificate,
        AuthenticationMethod::ServerTrust,
    ];
    let dispositions = [
        AuthChallengeDisposition::UseCredential,
        AuthChallengeDisposition::PerformDefaultHandling,
        AuthChallengeDisposition::CancelAuthenticationChallenge,
        AuthChallengeDisposition::RejectProtectionSpace,
    ];
    assert_eq!(dispositions.map(|disposition| disposition as i32), [0, 1, 2, 3]);

    let _: fn(&UrlProtectionSpace) -> Option<&ServerTrust> = UrlProtectionSpace::server_trust;
    let _: fn(&UrlProtectionSpace) -> Option<&[Vec<u8>]> = UrlProtectionSpace::distinguished_names;
    assert_eq!((space.server_trust(), space.distinguished_names()), (None, None));
    let _: fn(&ServerTrust) -> Result<(), UrlError> = ServerTrust::evaluate;
    let _: fn(&ServerTrust, &RootCertificates) -> Result<(), UrlError> = ServerTrust::evaluate_with_anchors;
    let _: fn(&ServerTrust) -> &[Vec<u8>] = ServerTrust::certificate_chain;
    let _: fn(&ServerTrust) -> &str = ServerTrust::host;
    let _: fn(&ServerTrust) -> UrlCredential = UrlCredential::for_trust;
    let _: fn(ClientIdentity) -> UrlCredential = UrlCredential::with_identity;
    let _: fn(&[u8], &[u8]) -> Result<ClientIdentity, UrlError> = ClientIdentity::from_pem;
    assert_eq!(ClientIdentity::from_pem(b"", b"").unwrap_err().code(), ErrorCode::SecureConnectionFailed);
    fn compares<T: Eq>() {}
    compares::<ServerTrust>();
    compares::<ClientIdentity>();
    compares::<UrlCredential>();

    assert_eq!(HttpCookieStorage::shared(), HttpCookieStorage::shared());
    assert_ne!(HttpCookieStorage::new(), HttpCookieStorage::shared());
    assert_eq!(UrlCredentialStorage::shared(), UrlCredentialStorage::shared());
    assert_ne!(UrlCredentialStorage::new(), UrlCredentialStorage::shared());
}

#[test]
fn credential_storages() {
    let storage: UrlCredentialStorage = UrlCredentialStorage::new();
    let space = UrlProtectionSpace::new("example.com", 0, Some("wss"), Some("chat"), AuthenticationMethod::HttpBasic);
    let me = UrlCredential::new("me", "hidden", CredentialPersistence::ForSession);
    let you = UrlCredential::new("you", "hidden", CredentialPersistence::Permanent);
    storage.set(me.clone(), &space);
    storage.set_default_credential(you.clone(), &space);
    let all: HashMap<String, UrlCredential> = storage.credentials_for(&space);
    assert_eq!(all, HashMap::from([("me".to_owned(), me), ("you".to_owned(), you.clone())]));
    let default: Option<UrlCredential> = storage.default_credential_for(&space);
    assert_eq!(default, Some(you.clone()));
    storage.remove(&you, &space);
    assert_eq!(storage.default_credential_for(&space), None);

    // A reset empties the storage of the session, before it returns.
    let mut configuration = SessionConfiguration::default();
    configuration.url_credential_storage = Some(storage.clone());
    UrlSession::new(configuration).reset(|| ());
    assert!(storage.credentials_for(&space).is_empty());
}

// Errors.

#[test]
fn errors() {
    let _: fn(&UrlError) -> ErrorCode = UrlError::code;
    let _: fn(&UrlError) -> ErrorDomain = UrlError::domain;
    let _: fn(&UrlError) -> i32 = UrlError::raw_code;
    let _: fn(&UrlError) -> Option<&Url> = UrlError::failing_url;
    let _: fn(&UrlError) -> Option<&HttpUrlResponse> = UrlError::response;
    let _: fn(&UrlError) -> Option<&(dyn Error + 'static)> = |error| error.source();
    assert_eq!(ErrorDomain::Url.to_string(), "NSURLErrorDomain");
    assert_eq!(ErrorDomain::Posix.to_string(), "NSPOSIXErrorDomain");
    // The numbers are Apple's, on every platform.
    let url = [
        (ErrorCode::Unknown, -1),
        (ErrorCode::Cancelled, -999),
        (ErrorCode::BadUrl, -1000),
        (ErrorCode::TimedOut, -1001),
        (ErrorCode::UnsupportedUrl, -1002),
        (ErrorCode::CannotFindHost, -1003),
        (ErrorCode::CannotConnectToHost, -1004),
        (ErrorCode::NetworkConnectionLost, -1005),
        (ErrorCode::DnsLookupFailed, -1006),
        (ErrorCode::HttpTooManyRedirects, -1007),
        (ErrorCode::NotConnectedToInternet, -1009),
        (ErrorCode::RedirectToNonExistentLocation, -1010),
        (ErrorCode::BadServerResponse, -1011),
        (ErrorCode::UserCancelledAuthentication, -1012),
        (ErrorCode::UserAuthenticationRequired, -1013),
        (ErrorCode::CannotParseResponse, -1017),
        (ErrorCode::DataLengthExceedsMaximum, -1103),
        (ErrorCode::SecureConnectionFailed, -1200),
        (ErrorCode::ServerCertificateHasBadDate, -1201),
        (ErrorCode::ServerCertificateUntrusted, -1202),
        (ErrorCode::ServerCertificateHasUnknownRoot, -1203),
        (ErrorCode::ServerCertificateNotYetValid, -1204),
        (ErrorCode::ClientCertificateRejected, -1205),
        (ErrorCode::ClientCertificateRequired, -1206),
    ];
    let posix = [
        (ErrorCode::BrokenPipe, 32),
        (ErrorCode::MessageTooLong, 40),
        (ErrorCode::ConnectionAborted, 53),
        (ErrorCode::ConnectionReset, 54),
        (ErrorCode::NoBufferSpace, 55),
        (ErrorCode::NotConnected, 57),
        (ErrorCode::ProtocolError, 100),
    ];
    for (code, number) in url {
        assert_eq!((code.raw_code(), code.domain()), (number, ErrorDomain::Url), "{code:?}");
    }
    for (code, number) in posix {
        assert_eq!((code.raw_code(), code.domain()), (number, ErrorDomain::Posix), "{code:?}");
    }
    let distinct: HashSet<i32> = url.iter().chain(&posix).map(|(_, number)| *number).collect();
    assert_eq!(distinct.len(), url.len() + posix.len());
}

// Metrics.

#[test]
fn metrics() {
    fn parts(metrics: &TaskMetrics) {
        let _: (SystemTime, Duration) = metrics.task_interval;
        let _: usize = metrics.redirect_count;
        let _: &Vec<TransactionMetrics> = &metrics.transaction_metrics;
    }
    fn transaction_parts(metrics: &TransactionMetrics) {
        let _: (&UrlRequest, &Option<HttpUrlResponse>) = (&metrics.request, &metrics.response);
        let _: [Option<SystemTime>; 11] = [
            metrics.fetch_start_date,
            metrics.domain_lookup_start_date,
            metrics.domain_lookup_end_date,
            metrics.connect_start_date,
            metrics.secure_connection_start_date,
            metrics.secure_connection_end_date,
            metrics.connect_end_date,
            metrics.request_start_date,
            metrics.request_end_date,
            metrics.response_start_date,
            metrics.response_end_date,
        ];
        let _: &Option<String> = &metrics.network_protocol_name;
        let _: [bool; 2] = [metrics.is_proxy_connection, metrics.is_reused_connection];
        let _: i64 = metrics.count_of_request_header_bytes_sent;
        let _: i64 = metrics.count_of_response_header_bytes_received;
        let _: [Option<SocketAddr>; 2] = [metrics.local_address, metrics.remote_address];
        let _: Option<TlsProtocolVersion> = metrics.negotiated_tls_protocol_version;
        let _: Option<u16> = metrics.negotiated_tls_cipher_suite;
    }
    let _: (fn(&TaskMetrics), fn(&TransactionMetrics)) = (parts, transaction_parts);
}

// Operation queues.

#[test]
fn operation_queues() {
    let _: [fn() -> OperationQueue; 4] =
        [OperationQueue::new, OperationQueue::serial, OperationQueue::main, OperationQueue::immediate];
    let _: fn(&OperationQueue) -> usize = OperationQueue::max_concurrent_operation_count;
    let _: fn(&OperationQueue, usize) = OperationQueue::set_max_concurrent_operation_count;
    let _: fn(&OperationQueue) -> bool = OperationQueue::is_suspended;
    let _: fn(&OperationQueue, bool) = OperationQueue::set_suspended;
    let _: fn(&OperationQueue) -> usize = OperationQueue::operation_count;
    let _: fn(&OperationQueue) = OperationQueue::wait_until_all_operations_are_finished;
    let _: fn(&OperationQueue) -> Option<String> = OperationQueue::name;
    let _: fn(&OperationQueue, Option<&str>) = OperationQueue::set_name;
    let _: fn(&OperationQueue) -> usize = OperationQueue::run_pending;
    fn bounds<E, O, D, H>(execute: E, operation: O, done: D, hook: H)
    where
        E: Fn(Box<dyn FnOnce() + Send>) + Send + Sync + 'static,
        O: FnOnce() + Send + 'static,
        D: FnMut() -> bool,
        H: Fn() + Send + Sync + 'static,
    {
        let queue = OperationQueue::with_executor(execute);
        queue.add_operation(operation);
        let _: bool = queue.run_until(Instant::now(), done);
        queue.set_wake_hook(hook);
    }
    let mut count = 0;
    let done = || {
        count += 1;
        true
    };
    bounds(|operation| operation(), || (), done, || ());
    assert_eq!(OperationQueue::serial().max_concurrent_operation_count(), 1);
    assert_eq!(OperationQueue::main(), OperationQueue::main());
    assert_ne!(OperationQueue::serial(), OperationQueue::serial());
    assert_ne!(OperationQueue::default(), OperationQueue::new());
    let queue = OperationQueue::serial();
    queue.set_name(Some("chat"));
    assert_eq!((queue.clone().name().as_deref(), queue.is_suspended()), (Some("chat"), false));
}

// Beyond Apple.

#[test]
fn reconnectors() {
    struct Quiet;
    impl ReconnectorDelegate for Quiet {}
    struct Never;
    impl ReconnectionPolicy for Never {
        fn delay(&self, _end: &ConnectionEnd) -> Option<Duration> {
            None
        }
    }

    is_handle::<Reconnector>();
    is_value::<ConnectionEnd>();
    is_value::<ExponentialBackoff>();
    let session = session();
    let reconnector = Reconnector::new(&session, url(), Arc::new(Quiet));
    assert_ne!(reconnector, Reconnector::with_policy(&session, url(), Arc::new(Quiet), Never));
    let _: fn(&Reconnector) = Reconnector::resume;
    let _: fn(&Reconnector) = Reconnector::cancel;
    let _: fn(&Reconnector, CloseCode, Option<&[u8]>) = Reconnector::cancel_with;
    let _: Option<WebSocketTask> = reconnector.task();

    let mut policy = ExponentialBackoff::default();
    let figures = (policy.initial_delay, policy.maximum_delay, policy.stable_after, policy.maximum_retry_after);
    assert_eq!(figures.0, Duration::from_millis(500));
    assert_eq!([figures.1, figures.2, figures.3].map(|figure| figure.as_secs()), [30, 10, 300]);
    assert_eq!((policy.multiplier, policy.maximum_attempts), (2.0, None));
    policy.is_worth_another_try = |end| end.is_transient() && end.retry_after().is_none();
    policy.jitter = 0.0;
    let mut end = ConnectionEnd::default();
    let _: (&Option<UrlError>, CloseCode, &Option<Vec<u8>>) = (&end.error, end.close_code, &end.close_reason);
    let _: (&Option<HttpUrlResponse>, Option<Duration>) = (&end.response, end.was_open);
    assert_eq!((end.is_cancelled, end.is_transient(), policy.delay(&end)), (false, false, None));
    (end.close_code, end.failures) = (CloseCode::GOING_AWAY, 1);
    assert_eq!((end.is_transient(), policy.delay(&end)), (true, Some(Duration::from_millis(500))));
    assert!(policy.is_stable(Duration::from_secs(10)) && !policy.is_stable(Duration::from_secs(9)));
}

#[test]
fn streams_and_the_servers_close() {
    fn is_stream<
        S: futures_core::stream::FusedStream<Item = Result<Message, UrlError>> + Send + Unpin + Debug + 'static,
    >(
        _: S,
    ) {
    }
    let task = session().web_socket_task(url());
    let messages: Messages = task.messages();
    is_stream(messages);
    let _: (Option<CloseCode>, Option<Vec<u8>>) = (task.server_close_code(), task.server_close_reason());
}
