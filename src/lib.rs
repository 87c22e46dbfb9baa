//! Apple's `URLSessionWebSocketTask` for every platform.
#![deny(unsafe_op_in_unsafe_fn)]

mod foundation;
mod http;
mod loader;
mod reactor;
mod session;
mod websocket;

pub use url::Url;

pub use crate::foundation::{
    AuthChallengeDisposition, AuthenticationChallenge, AuthenticationMethod, CloseCode, CredentialPersistence,
    ErrorCode, ErrorDomain, ErrorStage, HttpCookieAcceptPolicy, HttpCookieStorage, HttpUrlResponse, Message,
    ProxyConfiguration, RootCertificates, SessionConfiguration, TaskMetrics, TlsProtocolVersion, TransactionMetrics,
    UrlCredential, UrlCredentialStorage, UrlError, UrlProtectionSpace, UrlRequest, WebSocketOptions,
};
pub use crate::session::{
    ChallengeHandler, OperationQueue, RedirectionHandler, SessionDelegate, SessionTask, TaskDelegate, TaskFuture,
    TaskState, UrlSession, WebSocketDelegate, WebSocketTask,
};

/// The storeys without I/O, for this crate's own tests. Not part of the public interface: it changes without notice.
#[cfg(feature = "__internals")]
#[doc(hidden)]
pub mod internals {
    pub use crate::foundation::Random;
    pub use crate::http::{BodyReader, HeadParser, upgrade};
    pub use crate::loader::{Action, Callback, Env, Epoch, Event, Loader, Mailbox, Output, Settings, client_config};
    pub use crate::websocket::{Decoder, Incoming, Outgoing, Violation, ViolationKind};
}
