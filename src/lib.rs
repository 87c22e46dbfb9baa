//! Apple's `URLSessionWebSocketTask` for every platform: a WebSocket client with completion handlers and delegates, without
//! an async runtime.
//!
//! Types, methods and arguments have Apple's names in Rust's spelling, and what a program is told comes in the order in
//! which it came there. The documentation of each item begins with its Swift name.
//!
//! ```no_run
//! use urlsession::{Url, UrlSession};
//!
//! let task = UrlSession::shared().web_socket_task(Url::parse("wss://example.com/feed").unwrap());
//! task.receive(|message| println!("{message:?}"));
//! task.send("Hello", |result| println!("{result:?}"));
//! task.resume();
//! # std::thread::park();
//! ```
//!
//! A task is made by a [`UrlSession`], does nothing until [`resume`](SessionTask::resume), and ends exactly once. What is sent
//! or asked for before the socket is open waits and then happens in order; every completion handler is called exactly once.
//! The same calls exist as futures ([`send_async`](WebSocketTask::send_async) and others), for any executor.
//!
//! This page goes from the first task to everything around it. [The guide](guide) has more: begin with its page about
//! [porting](guide::porting) if there is a program in Swift, and see there for errors, threads, trust, proxies, redirects and compression.
//!
//! # From Swift
//!
//! | Swift | here |
//! |---|---|
//! | `URLSession(configuration:delegate:delegateQueue:)` | [`UrlSession::with_delegate`] |
//! | `session.webSocketTask(with:)`, `resume()` | [`UrlSession::web_socket_task`], [`SessionTask::resume`] |
//! | `send`, `receive`, `sendPing` | [`send`](WebSocketTask::send), [`receive`](WebSocketTask::receive), [`send_ping`](WebSocketTask::send_ping) |
//! | `cancel(with:reason:)` | [`cancel_with`](WebSocketTask::cancel_with) |
//! | `urlSession(_:webSocketTask:didOpenWithProtocol:)`, `…didCloseWith:reason:` | [`WebSocketDelegate`] |
//! | `urlSession(_:task:didCompleteWithError:)`, redirects, challenges, metrics | [`TaskDelegate`] |
//! | `try await task.receive()` | [`receive_async`](WebSocketTask::receive_async) |
//! | `OperationQueue.main` | [`OperationQueue::main`], which the application pumps |
//!
//! # A task's life
//!
//! A new task is [`Suspended`](TaskState::Suspended), runs from [`resume`](SessionTask::resume) on, and is told to the delegate as
//! it goes:
//!
//! ```text
//! did_create_task   inside the call that makes it
//! resume            look-up, connection, proxy, TLS, request   (questions: redirects, challenges, trust)
//! did_open_with_protocol
//! messages          send, receive, send_ping, in the order of the calls of each kind
//! the end           what came before goes to the receives that wait, then what still waits fails
//! did_close_with    where there was a Close
//! did_finish_collecting_metrics, did_complete_with_error
//! ```
//!
//! [`suspend`](SessionTask::suspend) stops a task where it is, and nothing is lost; [`cancel_with`](WebSocketTask::cancel_with) ends it
//! in good order, [`cancel`](SessionTask::cancel) at once. A session ends by
//! [`finish_tasks_and_invalidate`](UrlSession::finish_tasks_and_invalidate) or
//! [`invalidate_and_cancel`](UrlSession::invalidate_and_cancel), or with its last handle; then it lets go of its delegate, its threads
//! and its sockets.
//!
//! # Delegates
//!
//! A delegate is told of the opening, of the close, and of the end. It implements the three traits that are Apple's three
//! protocols; each method has a default. One delegate serves the session, and a task may have one of its own, which is
//! asked first.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use urlsession::{
//!     CloseCode, Message, SessionConfiguration, SessionDelegate, SessionTask, TaskDelegate, Url, UrlError, UrlSession,
//!     WebSocketDelegate, WebSocketTask,
//! };
//!
//! struct Feed;
//!
//! impl SessionDelegate for Feed {}
//!
//! impl TaskDelegate for Feed {
//!     fn did_complete_with_error(&self, _session: &UrlSession, _task: &SessionTask, error: Option<&UrlError>) {
//!         println!("over: {error:?}");
//!     }
//! }
//!
//! impl WebSocketDelegate for Feed {
//!     fn did_open_with_protocol(&self, _session: &UrlSession, task: &WebSocketTask, _protocol: Option<&str>) {
//!         next(task);
//!     }
//! }
//!
//! fn next(task: &WebSocketTask) {
//!     let again = task.clone();
//!     task.receive(move |message| match message {
//!         Ok(Message::String(text)) if text == "bye" => again.cancel_with(CloseCode::NORMAL_CLOSURE, None),
//!         Ok(message) => {
//!             println!("{message:?}");
//!             next(&again);
//!         }
//!         // The delegate hears of the end.
//!         Err(_) => {}
//!     });
//! }
//!
//! let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(Arc::new(Feed)), None);
//! session.web_socket_task(Url::parse("wss://example.com/feed").unwrap()).resume();
//! # std::thread::park();
//! ```
//!
//! # Queues
//!
//! Delegate methods and completion handlers run on the session's delegate queue: a serial one of its own, or an
//! [`OperationQueue`] that the program gives it, with threads, with the application's executor behind it, or pumped by the
//! application's main loop. One task's callbacks come one at a time and in order on each of them. A callback may call
//! everything, and may block; it then holds up its own queue and nothing else. Panics end in the callback.
//!
//! # Async
//!
//! [`send_async`](WebSocketTask::send_async), [`receive_async`](WebSocketTask::receive_async) and
//! [`send_ping_async`](WebSocketTask::send_ping_async) act when they are called, and give futures that any executor may poll. Dropping
//! one loses no message. With the feature `futures-core`, `WebSocketTask::messages` is a stream of what arrives.
//!
//! # Keeping a connection
//!
//! By default nobody asks whether an open socket is still alive. [`ping_interval`](WebSocketOptions::ping_interval) sends pings,
//! and without a pong within [`pong_timeout`](WebSocketOptions::pong_timeout) the task ends.
//!
//! # Reconnecting
//!
//! As on Apple's, a task that has ended stays so. Beyond Apple, a [`Reconnector`] makes the next one, after a wait that grows
//! with each failure ([`ExponentialBackoff`], or another [policy](ReconnectionPolicy)), as long as
//! [another try makes sense](ConnectionEnd::is_transient). Its [delegate](ReconnectorDelegate) prepares each request and each task. Nothing
//! is ever sent twice by itself.
//!
//! # Errors
//!
//! A [`UrlError`] has Apple's [code](UrlError::code) and number, the same on every platform, and beyond that the
//! [stage](UrlError::stage) that failed, the [reason](UrlError::reason) in words, the server's
//! [answer](UrlError::response) where it refused, and what lay [underneath](std::error::Error::source).
//!
//! | | |
//! |---|---|
//! | the server closed with a Close frame | no error of the task; what waits fails with [`NotConnected`](ErrorCode::NotConnected) |
//! | the caller cancelled | [`Cancelled`](ErrorCode::Cancelled); after `cancel_with` the task itself has no error |
//! | the connection was lost | [`NetworkConnectionLost`](ErrorCode::NetworkConnectionLost), [`ConnectionReset`](ErrorCode::ConnectionReset), … |
//! | a timer ran out | [`TimedOut`](ErrorCode::TimedOut) |
//! | the server refused the upgrade | [`BadServerResponse`](ErrorCode::BadServerResponse) |
//! | the server broke the protocol | [`ProtocolError`](ErrorCode::ProtocolError) |
//! | a message is too large | [`MessageTooLong`](ErrorCode::MessageTooLong) |
//! | no connection, no trust, no such name | [`CannotConnectToHost`](ErrorCode::CannotConnectToHost), [`ServerCertificateUntrusted`](ErrorCode::ServerCertificateUntrusted), [`CannotFindHost`](ErrorCode::CannotFindHost), … |
//! | a proxy failed or refused | the same codes at the stage [`Proxy`](ErrorStage::Proxy); the reason names it |
//!
//! `docs/errors.md` has every code, when it comes and what may be done.
//!
//! # Connections and trust
//!
//! The addresses of a host are raced (RFC 8305). Where the network is missing a task fails, or waits if
//! [`waits_for_connectivity`](SessionConfiguration::waits_for_connectivity) is set. [Proxies](ProxyConfiguration) are those of the
//! [configuration](SessionConfiguration::proxy_configurations), or by default of the environment.
//!
//! Who is at the other end of TLS, the [root certificates](SessionConfiguration::root_certificates) decide, or the delegate:
//! [`did_receive_challenge`](SessionDelegate::did_receive_challenge) is asked with the server's certificates
//! ([`ServerTrust`]) before a byte of HTTP leaves, and may pin a key or trust another root. A server that then wants a certificate
//! of the client is given a [`ClientIdentity`], if the delegate has one.
//!
//! # Cookies
//!
//! A session sends the cookies of its [storage](SessionConfiguration::http_cookie_storage) with each handshake, looked up when the
//! task is resumed, and stores those of the answer before anybody is told of it. All sessions with the default configuration
//! share [one storage](HttpCookieStorage::shared) in memory, an [ephemeral](SessionConfiguration::ephemeral) one has its own, and
//! [`HttpCookieStorage::open`] gives one that is kept in a file.
//!
//! # Redirects and authentication
//!
//! On the way to the open socket a task follows redirects, and answers challenges of servers and of proxies by Basic (RFC 7617)
//! and by Digest (RFC 7616):
//! [`will_perform_http_redirection`](TaskDelegate::will_perform_http_redirection) and
//! [`task_did_receive_challenge`](TaskDelegate::task_did_receive_challenge) have a say in each. Without a delegate redirects are
//! followed, and the user of the address and the [credential storage](UrlCredentialStorage) answer. Nothing that the caller set
//! for one origin goes to another but what is harmless.
//!
//! # Compression
//!
//! permessage-deflate (RFC 7692) is offered by default and used where the server accepts; the `Sec-WebSocket-Extensions` field
//! of [`response`](SessionTask::response) shows what was agreed. [`WebSocketOptions`] switches it off, and chooses the windows,
//! whether messages may refer to those before, and from which size on they are compressed. Sizes and counts are those of the
//! messages as the program sees them; the [metrics](TransactionMetrics) also have what was on the wire. A task that has
//! compressed and decompressed holds 315 KiB, unless each message begins anew
//! ([`client_no_context_takeover`](WebSocketOptions::client_no_context_takeover),
//! [`server_no_context_takeover`](WebSocketOptions::server_no_context_takeover)).
//!
//! # Limits
//!
//! | | default | |
//! |---|---|---|
//! | size of a message received, decompressed | below 1 MiB | [`set_maximum_message_size`](WebSocketTask::set_maximum_message_size) |
//! | frames of less than 64 bytes of a message received | 16,384 | |
//! | bytes read ahead without a receive | as a message | |
//! | bytes that wait to be sent | none | [`maximum_send_queue`](WebSocketOptions::maximum_send_queue) |
//! | addresses of a host that are tried | 64, one each 250 ms | |
//! | the way to the open socket stands still | 60 s | [`timeout_interval_for_request`](SessionConfiguration::timeout_interval_for_request) |
//! | the whole task | 7 days | [`timeout_interval_for_resource`](SessionConfiguration::timeout_interval_for_resource) |
//! | wait for the server's Close | 10 s | [`close_timeout`](WebSocketOptions::close_timeout) |
//! | wait before a [`Reconnector`] tries again | 500 ms, twice as long each time up to 30 s, half of it by chance; `Retry-After` up to 5 minutes | [`ExponentialBackoff`] |
//! | wait for a pong of the keep-alive, which is off | 20 s | [`pong_timeout`](WebSocketOptions::pong_timeout), [`ping_interval`](WebSocketOptions::ping_interval) |
//! | heads of an answer, the server's or a proxy's | 64 KiB in all, 128 fields each | |
//! | body of a refusal | the first 64 KiB | |
//! | redirects; answers to challenges | 20; 20 | |
//! | challenges of an answer; length of a realm | 32; 1 KiB | |
//! | spaces whose credentials came from challenges | 256 in a storage | [`UrlCredentialStorage`] |
//! | spaces that a session sends credentials to unasked | 16 of an origin, 128 in all | |
//! | wait for the rest of an answer before the next request | 1 s; then a new connection | |
//! | head of the request | 64 KiB | |
//! | cookies of a storage | 180 of a site, 3,000 in all | [`HttpCookieStorage`] |
//! | a cookie | 4,096 bytes of name and value, attributes of 1,024 bytes each, 400 days | |
//! | cookies that a request carries | 32 KiB, the first in order | |
//! | file of cookies | 64 MiB; 10 s for the lock of another process | [`HttpCookieStorage::open`] |
//!
//! # Features
//!
//! - `ring` (default) or `aws-lc-rs`: the cryptography of TLS. With both, aws-lc-rs is used.
//! - `platform-roots`: `RootCertificates::platform`, the operating system's own root certificates.
//! - `futures-core`: `WebSocketTask::messages`, what arrives as a `Stream`.
//! - `tracing`: events for the crate of that name, each with the numbers of its session and its task. At the level DEBUG, target
//!   `urlsession::task`, the steps of each task (resolving, connecting, response, open, ended, …); at TRACE, target
//!   `urlsession::frame`, the header of each frame that was written or read, of sockets that open while somebody listens at
//!   that level. Nothing secret is among them: of an address the scheme, the host and the port, of an error its number, of a
//!   frame neither payload nor reason. They are told on the thread where they happen, or on one that tells of the same task
//!   already, which may be the reactor's, and without any lock: a subscriber may use tasks itself. One that blocks there
//!   blocks the session; of a task 16,384 events wait for it, more are lost and counted. What it panics with ends there.
#![deny(unsafe_op_in_unsafe_fn)]

mod foundation;
mod http;
mod loader;
mod reactor;
mod reconnector;
mod session;
mod websocket;

pub use url::Url;

pub use crate::foundation::{
    AuthChallengeDisposition, AuthenticationChallenge, AuthenticationMethod, ClientIdentity, CloseCode,
    CredentialPersistence, ErrorCode, ErrorDomain, ErrorStage, HttpCookie, HttpCookieAcceptPolicy, HttpCookieStorage,
    HttpUrlResponse, Message, ProxyConfiguration, RootCertificates, SameSitePolicy, ServerTrust, SessionConfiguration,
    TaskMetrics, TlsProtocolVersion, TransactionMetrics, UrlCredential, UrlCredentialStorage, UrlError,
    UrlProtectionSpace, UrlRequest, WebSocketOptions,
};
pub use crate::reconnector::{ConnectionEnd, ExponentialBackoff, ReconnectionPolicy, Reconnector, ReconnectorDelegate};
#[cfg(feature = "futures-core")]
pub use crate::session::Messages;
pub use crate::session::{
    ChallengeHandler, OperationQueue, RedirectionHandler, SessionDelegate, SessionTask, TaskDelegate, TaskFuture,
    TaskState, UrlSession, WebSocketDelegate, WebSocketTask,
};

/// The storeys without I/O, for this crate's own tests. Not part of the public interface: it changes without notice.
#[cfg(feature = "__internals")]
#[doc(hidden)]
pub mod internals {
    pub use crate::foundation::{Completion, Jar, Random, cookie_date, proxy_parts, proxy_space, registrable};
    pub use crate::http::{
        Added, BodyReader, Extension, HeadParser, KnownSpaces, Proxies, Socks, SocksError, SocksStep, authentication,
        connect, extensions, is_downgrade, is_interim, is_same_origin, is_tunnel, redirect, upgrade,
    };
    pub use crate::loader::{
        Action, Callback, Common, Env, Epoch, Event, Loader, Mailbox, Output, Question, Reply, Settings, Spare,
        Subject, Timer, Timers, Traces,
    };
    pub use crate::reactor::Deadlines;
    pub use crate::websocket::{
        Compressor, Contexts, Decoder, Incoming, Inflation, Malformed, Outgoing, Supply, Violation, ViolationKind,
        extend_masked, whole_characters, whole_text,
    };
}

/// The pages of `docs/`: what the documentation of single items has no room for.
#[cfg(doc)]
pub mod guide {
    #[doc = "[architecture]: crate::guide::architecture"]
    #[doc = "[errors]: crate::guide::errors"]
    #[doc = "[proxies]: crate::guide::proxies"]
    #[doc = "[threading]: crate::guide::threading"]
    #[doc = "[trust]: crate::guide::trust"]
    #[doc = ""]
    #[doc = include_str!("../docs/porting.md")]
    pub mod porting {}

    #[doc = "[architecture]: crate::guide::architecture"]
    #[doc = "[proxies#where-a-proxy-fails]: crate::guide::proxies#where-a-proxy-fails"]
    #[doc = "[trust#client-certificates]: crate::guide::trust#client-certificates"]
    #[doc = "[trust#connectivity]: crate::guide::trust#connectivity"]
    #[doc = ""]
    #[doc = include_str!("../docs/errors.md")]
    pub mod errors {}

    #[doc = "[errors#at-a-proxy]: crate::guide::errors#at-a-proxy"]
    #[doc = "[redirects-and-authentication]: crate::guide::redirects_and_authentication"]
    #[doc = ""]
    #[doc = include_str!("../docs/proxies.md")]
    pub mod proxies {}

    #[doc = "[proxies#who-asks]: crate::guide::proxies#who-asks"]
    #[doc = "[trust]: crate::guide::trust"]
    #[doc = ""]
    #[doc = include_str!("../docs/redirects-and-authentication.md")]
    pub mod redirects_and_authentication {}

    #[doc = "[architecture]: crate::guide::architecture"]
    #[doc = ""]
    #[doc = include_str!("../docs/threading.md")]
    pub mod threading {}

    #[doc = "[errors]: crate::guide::errors"]
    #[doc = "[proxies]: crate::guide::proxies"]
    #[doc = "[proxies#where-a-proxy-fails]: crate::guide::proxies#where-a-proxy-fails"]
    #[doc = ""]
    #[doc = include_str!("../docs/trust.md")]
    pub mod trust {}

    #[doc = include_str!("../docs/compression.md")]
    pub mod compression {}

    #[doc = "[compression]: crate::guide::compression"]
    #[doc = "[errors]: crate::guide::errors"]
    #[doc = "[redirects-and-authentication]: crate::guide::redirects_and_authentication"]
    #[doc = "[trust]: crate::guide::trust"]
    #[doc = ""]
    #[doc = include_str!("../docs/architecture.md")]
    pub mod architecture {}
}

/// The program in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
