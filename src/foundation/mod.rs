//! Values that every storey speaks of: messages, close codes, requests, responses, errors, configuration, cookies.
//!
//! Nothing here does anything by itself: no sockets, no threads, no clock, no generator of random bytes. (Two things look at a
//! clock, for programs: [`HttpCookieStorage`] and [`ServerTrust`], which know what has expired.)

mod bundle;
mod challenge;
mod client_identity;
mod close_code;
mod completion;
mod configuration;
mod cookie_storage;
mod cookies;
mod credential;
mod credential_storage;
mod cryptography;
mod deflate_parameters;
mod error;
mod message;
mod metrics;
mod pool;
mod protection_space;
mod proxy_configuration;
mod random;
mod recent;
mod request;
mod response;
mod root_certificates;
mod server_trust;
mod shared;
mod tls_failure;
mod tls_protocol_version;
mod web_socket_options;

pub use bundle::Bundle;
pub use challenge::{AuthChallengeDisposition, AuthenticationChallenge};
pub use client_identity::ClientIdentity;
pub use close_code::CloseCode;
pub use completion::Completion;
pub use configuration::{HttpCookieAcceptPolicy, SessionConfiguration};
pub use cookie_storage::{HttpCookieStorage, Keeper};
#[cfg(feature = "__internals")]
pub use cookies::registrable;
pub use cookies::{HttpCookie, Jar, Kept, MAXIMUM_FILE, SameSitePolicy, cookie_date, kept_in};
pub use credential::{CredentialPersistence, UrlCredential};
pub use credential_storage::UrlCredentialStorage;
pub use cryptography::provider;
pub use deflate_parameters::DeflateParameters;
pub use error::{ErrorCode, ErrorDomain, ErrorStage, UrlError};
pub use message::Message;
pub use metrics::{TaskMetrics, TransactionMetrics};
pub use pool::Pool;
#[cfg(feature = "__internals")]
pub use protection_space::proxy_space;
pub use protection_space::{AuthenticationMethod, UrlProtectionSpace};
pub use proxy_configuration::ProxyConfiguration;
pub(crate) use proxy_configuration::ProxyKind;
#[cfg(feature = "__internals")]
pub use proxy_configuration::proxy_parts;
pub use random::Random;
pub use recent::Recent;
pub use request::UrlRequest;
pub(crate) use request::without_user;
pub use response::HttpUrlResponse;
pub use root_certificates::RootCertificates;
pub use server_trust::ServerTrust;
pub use shared::Shared;
pub use tls_failure::{Asked, UNFIT, explained, explained_after, failure};
pub use tls_protocol_version::TlsProtocolVersion;
pub use web_socket_options::WebSocketOptions;
