//! What a credential is for.

use url::Host;

use super::proxy_configuration::ProxyKind;

/// How long a realm may be that is kept because a server said it, in bytes.
const MAXIMUM_REALM: usize = 1024;

/// `URLProtectionSpace`: a server or a proxy, and the part of it (the realm) that a credential opens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UrlProtectionSpace {
    host: String,
    port: u16,
    protocol: Option<String>,
    proxy: Option<ProxyKind>,
    realm: Option<String>,
    authentication_method: AuthenticationMethod,
}

impl UrlProtectionSpace {
    /// `URLProtectionSpace(host:port:protocol:realm:authenticationMethod:)`: a part of a server. Port 0 stands for the
    /// protocol's own. Hosts and protocols compare without case and are kept in lower case; `ws` and `wss` are kept as
    /// `http` and `https`.
    pub fn new(
        host: &str,
        port: u16,
        protocol: Option<&str>,
        realm: Option<&str>,
        method: AuthenticationMethod,
    ) -> Self {
        let protocol = protocol.map(|protocol| match protocol.to_ascii_lowercase() {
            name if name == "ws" => "http".to_owned(),
            name if name == "wss" => "https".to_owned(),
            name => name,
        });
        Self {
            host: host.to_ascii_lowercase(),
            port,
            protocol,
            proxy: None,
            realm: realm.map(str::to_owned),
            authentication_method: method,
        }
    }

    /// `URLProtectionSpace(proxyHost:port:type:realm:authenticationMethod:)`.
    pub(crate) fn of_proxy(
        kind: ProxyKind,
        host: &str,
        port: u16,
        realm: Option<&str>,
        method: AuthenticationMethod,
    ) -> Self {
        Self { proxy: Some(kind), ..Self::new(host, port, None, realm, method) }
    }

    /// As it is kept and looked up: 0 is the port that it stands for, and the host is written as in a URL (an IPv6
    /// address in brackets, a name in its ASCII form). Spaces that mean the same are equal then.
    pub(crate) fn canonical(&self) -> Self {
        let port = match (self.port, self.protocol()) {
            (0, Some("http")) => 80,
            (0, Some("https")) => 443,
            (port, _) => port,
        };
        let bare = self.host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&self.host);
        let written = if bare.contains(':') { Host::parse(&format!("[{bare}]")) } else { Host::parse(bare) };
        let host = written.map_or_else(|_| self.host.clone(), |host| host.to_string());
        Self { host, port, ..self.clone() }
    }

    /// Whether both are spaces of one server or of one proxy. Both are canonical.
    pub(crate) fn has_origin_of(&self, other: &Self) -> bool {
        let origin = |space: &Self| (space.port, space.proxy);
        origin(self) == origin(other) && self.host == other.host && self.protocol == other.protocol
    }

    /// As it is shown: an IPv6 address without brackets, as on Apple's.
    pub(crate) fn displayed(&self) -> Self {
        Self { host: self.host.trim_matches(['[', ']']).to_owned(), ..self.clone() }
    }

    /// Whether the realm is one to keep where nobody but the server has said it: of at most 1 KiB.
    pub(crate) fn has_short_realm(&self) -> bool {
        self.realm().is_none_or(|realm| realm.len() <= MAXIMUM_REALM)
    }

    /// `host`, in lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// `port`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `protocol`: `http` for `ws` and `https` for `wss`, as on Apple's. `None` for a proxy.
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// `realm`: the part of the server that asks, in the server's words. `None` for the methods of TLS.
    pub fn realm(&self) -> Option<&str> {
        self.realm.as_deref()
    }

    /// `authenticationMethod`.
    pub fn authentication_method(&self) -> AuthenticationMethod {
        self.authentication_method
    }

    /// `isProxy()`: whether a proxy asks, not the server.
    pub fn is_proxy(&self) -> bool {
        self.proxy.is_some()
    }

    /// `receivesCredentialSecurely`: whether the password travels inside TLS, or the method never sends it.
    pub fn receives_credential_securely(&self) -> bool {
        let inside_tls = match self.proxy {
            Some(kind) => kind == ProxyKind::HttpsConnect,
            None => self.protocol() == Some("https"),
        };
        inside_tls || self.authentication_method.hides_the_password()
    }
}

/// The space of an HTTP proxy, for tests: programs only ever get it with a challenge.
#[cfg(feature = "__internals")]
pub fn proxy_space(host: &str, port: u16, realm: Option<&str>, method: AuthenticationMethod) -> UrlProtectionSpace {
    UrlProtectionSpace::of_proxy(ProxyKind::HttpConnect, host, port, realm, method)
}

/// `NSURLAuthenticationMethod…`: how a server or a proxy wants to be convinced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthenticationMethod {
    /// `NSURLAuthenticationMethodDefault`.
    Default,
    /// `NSURLAuthenticationMethodHTTPBasic`: RFC 7617.
    HttpBasic,
    /// `NSURLAuthenticationMethodHTTPDigest`: RFC 7616.
    HttpDigest,
    /// `NSURLAuthenticationMethodHTMLForm`. No task asks it.
    HtmlForm,
    /// `NSURLAuthenticationMethodNTLM`.
    Ntlm,
    /// `NSURLAuthenticationMethodNegotiate`: RFC 4559.
    Negotiate,
    /// `NSURLAuthenticationMethodClientCertificate`: the server wants a certificate of the client.
    ClientCertificate,
    /// `NSURLAuthenticationMethodServerTrust`: whether the server's certificate is to be trusted.
    ServerTrust,
}

impl AuthenticationMethod {
    fn hides_the_password(self) -> bool {
        match self {
            Self::Default | Self::HttpBasic | Self::HtmlForm => false,
            Self::HttpDigest | Self::Ntlm | Self::Negotiate | Self::ClientCertificate | Self::ServerTrust => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn web_sockets_are_http_and_names_compare_without_case() {
        let table = [
            (Some("ws"), Some("http")),
            (Some("WSS"), Some("https")),
            (Some("https"), Some("https")),
            (Some("ftp"), Some("ftp")),
            (None, None),
        ];
        for (given, kept) in table {
            let space = UrlProtectionSpace::new("Example.com", 443, given, None, AuthenticationMethod::HttpBasic);
            assert_eq!((space.protocol(), space.host()), (kept, "example.com"));
            assert!(!space.is_proxy());
        }
        let space = |host, protocol| {
            UrlProtectionSpace::new(host, 443, Some(protocol), Some("a"), AuthenticationMethod::HttpDigest)
        };
        assert_eq!(space("EXAMPLE.com", "wss"), space("example.com", "https"));
        assert_ne!(space("example.com", "ws"), space("example.com", "https"));
    }

    #[test]
    fn canonical_hosts_and_ports() {
        let table = [
            (("example.com", 0, Some("ws")), ("example.com", 80)),
            (("example.com", 0, Some("https")), ("example.com", 443)),
            (("example.com", 0, Some("ftp")), ("example.com", 0)),
            (("example.com", 0, None), ("example.com", 0)),
            (("example.com", 8080, Some("ws")), ("example.com", 8080)),
            (("[::1]", 1, Some("ws")), ("[::1]", 1)),
            (("0:0::1", 1, Some("ws")), ("[::1]", 1)),
            (("127.1", 1, Some("ws")), ("127.0.0.1", 1)),
            (("b\u{fc}cher.example", 1, Some("ws")), ("xn--bcher-kva.example", 1)),
            // What no URL can have stays what it is.
            (("a b", 1, Some("ws")), ("a b", 1)),
            (("[::1", 1, Some("ws")), ("[::1", 1)),
            (("", 1, Some("ws")), ("", 1)),
        ];
        for ((host, port, protocol), expected) in table {
            let space = UrlProtectionSpace::new(host, port, protocol, Some("a"), AuthenticationMethod::HttpBasic);
            let canonical = space.canonical();
            assert_eq!((canonical.host(), canonical.port()), expected, "{host:?}");
            assert_eq!((canonical.protocol(), canonical.realm()), (space.protocol(), Some("a")));
            assert_eq!(canonical.canonical(), canonical);
        }
    }

    #[test]
    fn what_receives_a_password_securely() {
        use AuthenticationMethod::{HttpBasic, HttpDigest, ServerTrust};
        let server = |protocol, method| UrlProtectionSpace::new("a", 1, Some(protocol), None, method);
        let proxy = |kind, method| UrlProtectionSpace::of_proxy(kind, "a", 1, None, method);
        let table = [
            (server("http", HttpBasic), false),
            (server("https", HttpBasic), true),
            (server("http", HttpDigest), true),
            (server("https", ServerTrust), true),
            (proxy(ProxyKind::HttpConnect, HttpBasic), false),
            (proxy(ProxyKind::HttpConnect, HttpDigest), true),
            (proxy(ProxyKind::HttpsConnect, HttpBasic), true),
            (proxy(ProxyKind::SocksV5, HttpBasic), false),
        ];
        for (space, securely) in table {
            assert_eq!(space.receives_credential_securely(), securely, "{space:?}");
        }
        let space = proxy(ProxyKind::HttpConnect, HttpBasic);
        assert!(space.is_proxy() && space.protocol().is_none());
    }
}
