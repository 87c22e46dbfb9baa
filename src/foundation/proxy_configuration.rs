//! A proxy between the client and the server.

use std::fmt;

use url::{Host, Url};

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
    /// `excludedDomains`: hosts that are not reached by this proxy, their subdomains included. Empty by default. Addresses and
    /// networks can be named, too: all that `NO_PROXY` may have. An entry that cannot be understood stands for no host.
    pub excluded_domains: Vec<String>,
    /// `matchDomains`: the only hosts that are reached by this proxy, their subdomains included. Empty, the default: all. The
    /// entries are as those of `excluded_domains`.
    pub match_domains: Vec<String>,
    /// `allowFailover`: whether the task connects directly where the proxy fails. False by default. Of several proxies that
    /// serve a host, all must allow it.
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

    /// As it is connected to: the host as it stands in a URL (a name in its ASCII form, an address in its usual one), but an IPv6
    /// address without brackets. `None` where the host is neither, or the port is 0.
    pub(crate) fn canonical(&self) -> Option<Self> {
        let host = match self.host.contains(':') {
            true => Host::parse(&format!("[{}]", self.host)),
            false => Host::parse(&self.host),
        };
        let host = host.ok().filter(|_| self.port != 0)?.to_string();
        Some(Self { host: host.trim_matches(['[', ']']).to_owned(), ..self.clone() })
    }

    pub(crate) fn kind(&self) -> ProxyKind {
        self.kind
    }

    /// An IPv6 address has no brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Host and port, as errors name it.
    pub(crate) fn name(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// Whose answers its answers are.
    pub(crate) fn url(&self) -> Option<Url> {
        Url::parse(&format!("{}://{}/", self.scheme(), self.name())).ok()
    }

    /// As the environment's variables name what is spoken with it.
    fn scheme(&self) -> &'static str {
        match self.kind {
            ProxyKind::HttpConnect => "http",
            ProxyKind::HttpsConnect => "https",
            ProxyKind::SocksV5 => "socks5",
        }
    }

    /// User and password.
    pub(crate) fn credential(&self) -> Option<(&str, &str)> {
        self.credential.as_ref().map(|(user, password)| (user.as_str(), password.as_str()))
    }
}

/// What a proxy is, for tests: the scheme of the environment's variables for it, its host and port, user and password.
#[cfg(feature = "__internals")]
pub fn proxy_parts(proxy: &ProxyConfiguration) -> (&'static str, &str, u16, Option<(&str, &str)>) {
    (proxy.scheme(), proxy.host(), proxy.port(), proxy.credential())
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
    fn canonical_hosts() {
        let table = [
            ("p.example", Some("p.example")),
            ("P.Example.", Some("p.example.")),
            ("h\u{f8}st", Some("xn--hst-0na")),
            ("127.1", Some("127.0.0.1")),
            ("[0:0::1]", Some("::1")),
            ("0:0::1", Some("::1")),
            ("", None),
            ("p.example:80", None),
            ("me@p.example", None),
            ("p example", None),
            ("1.2.3.256", None),
        ];
        for (host, canonical) in table {
            let mut proxy = ProxyConfiguration::socks_v5(host, 1080);
            proxy.apply_credential("me", "secret");
            proxy.allow_failover = true;
            let canonical = canonical.map(|host| ProxyConfiguration { host: host.to_owned(), ..proxy.clone() });
            assert_eq!(proxy.canonical(), canonical, "{host}");
        }
        assert_eq!(ProxyConfiguration::http_connect("p.example", 0).canonical(), None);
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
