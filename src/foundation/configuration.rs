//! What the tasks of a session have in common.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use super::cookie_storage::HttpCookieStorage;
use super::credential_storage::UrlCredentialStorage;
use super::proxy_configuration::ProxyConfiguration;
use super::root_certificates::RootCertificates;
use super::tls_protocol_version::TlsProtocolVersion;
use super::web_socket_options::WebSocketOptions;

/// `URLSessionConfiguration`: the limits, header fields and policies of a session. A session copies it when it is made.
///
/// ```
/// use std::time::Duration;
/// use urlsession::SessionConfiguration;
///
/// let mut configuration = SessionConfiguration::default();
/// configuration.timeout_interval_for_request = Duration::from_secs(10);
/// configuration.http_additional_headers.insert("X-Client".to_owned(), "7".to_owned());
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct SessionConfiguration {
    /// `timeoutIntervalForRequest`: how long the way to the open socket may stand still, 60 seconds by default. Every byte
    /// that arrives starts it anew; it is off once the socket is open. A request's own
    /// [`timeout_interval`](crate::UrlRequest::timeout_interval) goes before it.
    pub timeout_interval_for_request: Duration,
    /// `timeoutIntervalForResource`: how long a task may last from `resume()` to its end, 7 days by default.
    pub timeout_interval_for_resource: Duration,
    /// `waitsForConnectivity`: whether a task waits where the network is missing (no route, or no resolver that can be
    /// reached), false by default: then it fails at once with [`ErrorCode::NotConnectedToInternet`](crate::ErrorCode). One that
    /// waits tells its delegate once
    /// ([`task_is_waiting_for_connectivity`](crate::TaskDelegate::task_is_waiting_for_connectivity)), and tries again until it
    /// can or `timeout_interval_for_resource` has passed; the clock of the request stands still meanwhile. A port that
    /// refuses and a name that does not exist are answers, and end it.
    pub waits_for_connectivity: bool,
    /// `httpAdditionalHeaders`: header fields of every request, empty by default. A field of the request itself goes before
    /// one of the same name here; names compare without case.
    pub http_additional_headers: HashMap<String, String>,
    /// `httpCookieStorage`: where the cookies are that requests carry, and that servers set; the shared storage by default,
    /// `None` for no cookies.
    pub http_cookie_storage: Option<HttpCookieStorage>,
    /// `httpCookieAcceptPolicy`: which cookies of servers are stored,
    /// [`HttpCookieAcceptPolicy::OnlyFromMainDocumentDomain`] by default. It counts in the place of the storage's own.
    pub http_cookie_accept_policy: HttpCookieAcceptPolicy,
    /// `httpShouldSetCookies`: whether requests carry cookies of the storage, true by default. Those of answers are stored
    /// either way. A `Cookie` field that was set by hand is sent where the storage has none to send.
    pub http_should_set_cookies: bool,
    /// `httpMaximumConnectionsPerHost`, 6 by default. It never has an effect on open sockets: a WebSocket is a connection of
    /// its own, and any number of them may be open to one host.
    pub http_maximum_connections_per_host: usize,
    /// `urlCredentialStorage`: the shared storage by default, `None` for none. Its credentials are
    /// proposed to the delegate where a server asks, and used where there is no delegate; those that a delegate gives are
    /// kept there as they want to be.
    pub url_credential_storage: Option<UrlCredentialStorage>,
    /// `proxyConfigurations`: the proxies to choose from; `None`, the default, stands for those of the environment
    /// (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in lower case too, as they are when the session is made), and
    /// an empty list for none. Those that serve an address are tried in order; what fails leads to the next. One that is no proxy
    /// fails each task that would use it with [`ErrorCode::BadUrl`](crate::ErrorCode::BadUrl).
    pub proxy_configurations: Option<Vec<ProxyConfiguration>>,
    /// `tlsMinimumSupportedProtocolVersion`: [`TlsProtocolVersion::TlsV12`] by default. Where it is above the maximum, every
    /// task over TLS fails.
    pub tls_minimum_supported_protocol_version: TlsProtocolVersion,
    /// `tlsMaximumSupportedProtocolVersion`: [`TlsProtocolVersion::TlsV13`] by default.
    pub tls_maximum_supported_protocol_version: TlsProtocolVersion,
    /// Beyond Apple: the roots that the certificate of a server, or of a proxy, must lead to, [`RootCertificates::webpki`] by
    /// default. A delegate may decide otherwise ([`did_receive_challenge`](crate::SessionDelegate::did_receive_challenge)).
    pub root_certificates: RootCertificates,
    /// Beyond Apple: compression, keep-alive, closing and queueing of WebSockets.
    pub web_socket: WebSocketOptions,
}

impl SessionConfiguration {
    /// `URLSessionConfiguration.ephemeral`: as the default, but with cookies and credentials of the session's own, in memory.
    pub fn ephemeral() -> Self {
        Self {
            http_cookie_storage: Some(HttpCookieStorage::new()),
            url_credential_storage: Some(UrlCredentialStorage::new()),
            ..Self::default()
        }
    }
}

impl Default for SessionConfiguration {
    /// `URLSessionConfiguration.default`.
    fn default() -> Self {
        Self {
            timeout_interval_for_request: Duration::from_secs(60),
            timeout_interval_for_resource: Duration::from_secs(7 * 24 * 60 * 60),
            waits_for_connectivity: false,
            http_additional_headers: HashMap::new(),
            http_cookie_storage: Some(HttpCookieStorage::shared()),
            http_cookie_accept_policy: HttpCookieAcceptPolicy::OnlyFromMainDocumentDomain,
            http_should_set_cookies: true,
            http_maximum_connections_per_host: 6,
            url_credential_storage: Some(UrlCredentialStorage::shared()),
            proxy_configurations: None,
            tls_minimum_supported_protocol_version: TlsProtocolVersion::TlsV12,
            tls_maximum_supported_protocol_version: TlsProtocolVersion::TlsV13,
            root_certificates: RootCertificates::webpki(),
            web_socket: WebSocketOptions::default(),
        }
    }
}

impl fmt::Debug for SessionConfiguration {
    /// Of the additional headers the names only: values may hold credentials.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Taken apart, so that a new field cannot be forgotten here.
        let Self {
            timeout_interval_for_request,
            timeout_interval_for_resource,
            waits_for_connectivity,
            http_additional_headers,
            http_cookie_storage,
            http_cookie_accept_policy,
            http_should_set_cookies,
            http_maximum_connections_per_host,
            url_credential_storage,
            proxy_configurations,
            tls_minimum_supported_protocol_version,
            tls_maximum_supported_protocol_version,
            root_certificates,
            web_socket,
        } = self;
        let mut header_names: Vec<&String> = http_additional_headers.keys().collect();
        header_names.sort();
        formatter
            .debug_struct("SessionConfiguration")
            .field("timeout_interval_for_request", timeout_interval_for_request)
            .field("timeout_interval_for_resource", timeout_interval_for_resource)
            .field("waits_for_connectivity", waits_for_connectivity)
            .field("http_additional_headers", &header_names)
            .field("http_cookie_storage", http_cookie_storage)
            .field("http_cookie_accept_policy", http_cookie_accept_policy)
            .field("http_should_set_cookies", http_should_set_cookies)
            .field("http_maximum_connections_per_host", http_maximum_connections_per_host)
            .field("url_credential_storage", url_credential_storage)
            .field("proxy_configurations", proxy_configurations)
            .field("tls_minimum_supported_protocol_version", tls_minimum_supported_protocol_version)
            .field("tls_maximum_supported_protocol_version", tls_maximum_supported_protocol_version)
            .field("root_certificates", root_certificates)
            .field("web_socket", web_socket)
            .finish()
    }
}

/// `HTTPCookie.AcceptPolicy`: which cookies of servers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HttpCookieAcceptPolicy {
    /// `.always`: all that a server may set.
    Always = 0,
    /// `.never`: none. What is stored is still sent.
    Never = 1,
    /// `.onlyFromMainDocumentDomain`: where the request has a [`main_document_url`](crate::UrlRequest::main_document_url), those
    /// of servers of the same site; all, where it has none.
    OnlyFromMainDocumentDomain = 2,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn defaults() {
        let configuration = SessionConfiguration::default();
        assert_eq!(configuration.timeout_interval_for_request.as_secs(), 60);
        assert_eq!(configuration.timeout_interval_for_resource.as_secs(), 604_800);
        assert!(!configuration.waits_for_connectivity);
        assert!(configuration.http_additional_headers.is_empty());
        assert_eq!(configuration.http_cookie_storage, Some(HttpCookieStorage::shared()));
        assert_eq!(configuration.http_cookie_accept_policy as i32, 2);
        assert!(configuration.http_should_set_cookies);
        assert_eq!(configuration.http_maximum_connections_per_host, 6);
        assert_eq!(configuration.url_credential_storage, Some(UrlCredentialStorage::shared()));
        assert_eq!(configuration.proxy_configurations, None);
        assert_eq!(configuration.tls_minimum_supported_protocol_version as u16, 771);
        assert_eq!(configuration.tls_maximum_supported_protocol_version as u16, 772);
        assert!(Arc::ptr_eq(configuration.root_certificates.store(), RootCertificates::webpki().store()));
        let WebSocketOptions {
            permessage_deflate,
            client_no_context_takeover,
            server_no_context_takeover,
            client_max_window_bits,
            server_max_window_bits,
            compression_threshold,
            ping_interval,
            pong_timeout,
            close_timeout,
            maximum_send_queue,
        } = configuration.web_socket;
        assert!(permessage_deflate && !client_no_context_takeover && !server_no_context_takeover);
        assert_eq!((client_max_window_bits, server_max_window_bits, compression_threshold), (15, 15, 1024));
        assert!(ping_interval.is_none() && maximum_send_queue.is_none());
        assert_eq!((pong_timeout.as_secs(), close_timeout.as_secs()), (20, 10));
    }

    #[test]
    fn an_ephemeral_session_has_stores_of_its_own() {
        let one = SessionConfiguration::ephemeral();
        let other = SessionConfiguration::ephemeral();
        assert!(one.http_cookie_storage.is_some() && one.url_credential_storage.is_some());
        assert_ne!(one.http_cookie_storage, Some(HttpCookieStorage::shared()));
        assert_ne!(one.url_credential_storage, Some(UrlCredentialStorage::shared()));
        assert_ne!(one.http_cookie_storage, other.http_cookie_storage);
        assert_eq!(one.http_cookie_storage, one.clone().http_cookie_storage);
        assert_eq!(one.timeout_interval_for_request.as_secs(), 60);
    }

    #[test]
    fn debug_shows_no_value_of_a_header_and_no_password() {
        let mut configuration = SessionConfiguration::default();
        configuration.http_additional_headers.insert("Authorization".to_owned(), "Bearer hidden".to_owned());
        let mut proxy = ProxyConfiguration::socks_v5("p.example", 1080);
        proxy.apply_credential("me", "hidden");
        configuration.proxy_configurations = Some(vec![proxy]);
        let shown = format!("{configuration:?}");
        assert!(shown.contains("Authorization") && shown.contains("p.example"), "{shown}");
        assert!(!shown.contains("hidden"), "{shown}");
    }
}
