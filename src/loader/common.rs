//! What a task is made from, and what it has in common with the others of its session.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Epoch;
use super::tls::TlsContext;
use crate::foundation::{
    HttpCookieAcceptPolicy, HttpCookieStorage, Recent, RootCertificates, SessionConfiguration, Shared,
    TlsProtocolVersion, UrlCredentialStorage, UrlError, UrlRequest, WebSocketOptions,
};
use crate::http::{Digest, KnownSpaces, OpeningHead, Proxies, UsedNonces};
use crate::websocket::Contexts;

/// What a task is made from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the caller asked for; later, what a redirect made of it.
    pub request: Arc<UrlRequest>,
    /// What it has in common with the other tasks of its session.
    pub common: Arc<Common>,
    /// When the task was made.
    pub epoch: Epoch,
}

/// What the tasks of a session have in common.
pub struct Common {
    pub(super) additional_headers: HashMap<String, String>,
    pub(super) request_timeout: Duration,
    pub(super) resource_timeout: Duration,
    pub(super) options: WebSocketOptions,
    pub(super) cookie_storage: Option<HttpCookieStorage>,
    pub(super) cookie_policy: HttpCookieAcceptPolicy,
    /// Requests carry cookies of the storage.
    pub(super) sends_cookies: bool,
    /// Many tasks send the same.
    pub(super) cookies: Recent<String>,
    /// Servers answer all of a program's handshakes alike.
    pub(super) heads: Recent<OpeningHead>,
    pub(super) contexts: Arc<Contexts>,
    pub(super) credential_storage: Option<UrlCredentialStorage>,
    /// Where credentials of the storage were good, and what Digest needs to use them again.
    pub(super) known: Shared<KnownSpaces<Option<Digest>>>,
    pub(super) used_nonces: Shared<UsedNonces>,
    /// Who stands between the client and which servers.
    pub(super) proxies: Proxies,
    pub(super) waits_for_connectivity: bool,
    root_certificates: RootCertificates,
    tls_versions: [TlsProtocolVersion; 2],
    /// How connections are secured; made for the first task that needs it.
    tls: Shared<Option<Result<Arc<TlsContext>, UrlError>>>,
}

impl Common {
    /// Of a session with this configuration, which connects through these proxies.
    pub fn new(configuration: &SessionConfiguration, proxies: Proxies) -> Self {
        Self {
            additional_headers: configuration.http_additional_headers.clone(),
            request_timeout: configuration.timeout_interval_for_request,
            resource_timeout: configuration.timeout_interval_for_resource,
            options: configuration.web_socket.clone(),
            cookie_storage: configuration.http_cookie_storage.clone(),
            cookie_policy: configuration.http_cookie_accept_policy,
            sends_cookies: configuration.http_should_set_cookies,
            cookies: Recent::default(),
            heads: Recent::default(),
            contexts: Arc::default(),
            credential_storage: configuration.url_credential_storage.clone(),
            known: Shared::default(),
            used_nonces: Shared::default(),
            proxies,
            waits_for_connectivity: configuration.waits_for_connectivity,
            root_certificates: configuration.root_certificates.clone(),
            tls_versions: [
                configuration.tls_minimum_supported_protocol_version,
                configuration.tls_maximum_supported_protocol_version,
            ],
            tls: Shared::default(),
        }
    }

    /// How connections are secured; an error is the task's, not the session's.
    pub fn tls(&self) -> Result<Arc<TlsContext>, UrlError> {
        let [minimum, maximum] = self.tls_versions;
        let mut tls = self.tls.lock();
        tls.get_or_insert_with(|| TlsContext::new(&self.root_certificates, minimum, maximum).map(Arc::new)).clone()
    }

    #[cfg(test)]
    pub(super) fn set_tls(&self, context: Arc<TlsContext>) {
        *self.tls.lock() = Some(Ok(context));
    }

    /// Later tasks make new TLS sessions.
    pub fn forget_tls(&self) {
        *self.tls.lock() = None;
    }

    /// Later tasks send no credentials unasked.
    pub fn forget_credentials(&self) {
        self.known.lock().clear();
    }
}

impl fmt::Debug for Common {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Common").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Settings {
    /// Whether the server is reached over TLS.
    pub(super) fn is_secure(&self) -> bool {
        matches!(self.request.url.scheme(), "wss" | "https")
    }

    /// `timeout_interval_for_request`, or the request's own.
    pub(super) fn request_timeout(&self) -> Duration {
        self.request.timeout_interval.unwrap_or(self.common.request_timeout)
    }

    /// `Proxy-Authorization` as the caller has set it.
    pub(super) fn proxy_authorization(&self) -> Option<&str> {
        let additional = &self.common.additional_headers;
        let field = |name: &String| name.eq_ignore_ascii_case("Proxy-Authorization");
        let additional = || additional.iter().find(|(name, _)| field(name)).map(|(_, value)| value.as_str());
        let value = self.request.value("Proxy-Authorization").or_else(additional)?.trim();
        (!value.chars().any(char::is_control)).then_some(value)
    }
}
