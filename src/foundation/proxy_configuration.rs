//! A proxy between the client and the server.

use std::fmt;

/// `ProxyConfiguration` of Apple's Network framework: a proxy, whom it serves and how it is asked.
///
/// ```
/// use urlsession::{ProxyConfiguration, SessionConfiguration};
///
/// let mut proxy = ProxyConfiguration::http_connect("proxy.example.com", 3128);
/// proxy.apply_credential("me", "secret");
/// proxy.excluded_domains.push("internal.example.com".to_owned());
/// let mut configuration = SessionConfiguration::default();
/// configuration.proxy_configurations = Some(vec![proxy]);
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyConfiguration {
    /// `excludedDomains`: hosts that are not reached by this proxy, their subdomains included. Empty by default.
    pub excluded_domains: Vec<String>,
    /// `matchDomains`: the only hosts that are reached by this proxy, their subdomains included. Empty, the default: all.
    pub match_domains: Vec<String>,
    /// `allowFailover`: whether the task connects directly where the proxy fails. False by default.
    pub allow_failover: bool,
    kind: ProxyKind,
    host: String,
    port: u16,
    credential: Option<(String, String)>,
}

/// What is spoken with a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ProxyKind {
    /// CONNECT over TCP: RFC 9110 §9.3.6.
    HttpConnect,
    /// CONNECT over TLS.
    HttpsConnect,
    /// RFC 1928, the proxy resolves the names.
    SocksV5,
}

impl ProxyConfiguration {
    /// `ProxyConfiguration(httpCONNECTProxy:)`: HTTP CONNECT over TCP. `host` is a name or an address (an IPv6 address with or
    /// without brackets).
    pub fn http_connect(host: &str, port: u16) -> Self {
        Self::new(ProxyKind::HttpConnect, host, port)
    }

    /// `ProxyConfiguration(httpCONNECTProxy:tlsOptions:)`: HTTP CONNECT over TLS. `host` is a name or an address (an IPv6
    /// address with or without brackets).
    pub fn https_connect(host: &str, port: u16) -> Self {
        Self::new(ProxyKind::HttpsConnect, host, port)
    }

    /// `ProxyConfiguration(socksv5Proxy:)`: SOCKS version 5 (RFC 1928). `host` is a name or an address (an IPv6 address with
    /// or without brackets).
    pub fn socks_v5(host: &str, port: u16) -> Self {
        Self::new(ProxyKind::SocksV5, host, port)
    }

    fn new(kind: ProxyKind, host: &str, port: u16) -> Self {
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        Self {
            excluded_domains: Vec::new(),
            match_domains: Vec::new(),
            allow_failover: false,
            kind,
            host: host.to_owned(),
            port,
            credential: None,
        }
    }

    /// `applyCredential(username:password:)`: what the proxy is told where it asks who the client is.
    pub fn apply_credential(&mut self, username: &str, password: &str) {
        self.credential = Some((username.to_owned(), password.to_owned()));
    }

    #[cfg_attr(not(test), expect(dead_code, reason = "tasks connect directly yet"))]
    pub(crate) fn kind(&self) -> ProxyKind {
        self.kind
    }

    /// An IPv6 address has no brackets.
    #[cfg_attr(not(test), expect(dead_code, reason = "tasks connect directly yet"))]
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    #[cfg_attr(not(test), expect(dead_code, reason = "tasks connect directly yet"))]
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// User and password.
    pub(crate) fn credential(&self) -> Option<(&str, &str)> {
        self.credential.as_ref().map(|(user, password)| (user.as_str(), password.as_str()))
    }
}

impl fmt::Debug for ProxyConfiguration {
    /// Without the password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ProxyConfiguration")
            .field("kind", &self.kind)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.credential().map(|(user, _)| user))
            .field("excluded_domains", &self.excluded_domains)
            .field("match_domains", &self.match_domains)
            .field("allow_failover", &self.allow_failover)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constructors() {
        let table = [
            (ProxyConfiguration::http_connect("p.example", 3128), ProxyKind::HttpConnect, "p.example"),
            (ProxyConfiguration::https_connect("[::1]", 3128), ProxyKind::HttpsConnect, "::1"),
            (ProxyConfiguration::socks_v5("::1", 3128), ProxyKind::SocksV5, "::1"),
        ];
        for (proxy, kind, host) in table {
            assert_eq!((proxy.kind(), proxy.host(), proxy.port()), (kind, host, 3128));
            assert!(proxy.excluded_domains.is_empty() && proxy.match_domains.is_empty() && !proxy.allow_failover);
            assert_eq!(proxy.credential(), None);
        }
    }

    #[test]
    fn debug_shows_no_password() {
        let mut proxy = ProxyConfiguration::http_connect("p.example", 3128);
        proxy.apply_credential("me", "hidden");
        assert_eq!(proxy.credential(), Some(("me", "hidden")));
        let shown = format!("{proxy:?}");
        assert!(shown.contains("p.example") && shown.contains("me") && !shown.contains("hidden"), "{shown}");
    }
}
