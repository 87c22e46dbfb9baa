//! What a credential is for.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use url::Host;

use super::proxy_configuration::ProxyKind;
use super::server_trust::ServerTrust;

/// How long a realm may be that is kept because a server said it, in bytes.
const MAXIMUM_REALM: usize = 1024;

/// `URLProtectionSpace`: a server or a proxy, and the part of it (the realm) that a credential opens.
///
/// Spaces are equal where all of that and the method are, whatever certificates a server has shown or asked for.
#[derive(Clone, Debug)]
pub struct UrlProtectionSpace {
    host: String,
    port: u16,
    protocol: Option<String>,
    proxy: Option<ProxyKind>,
    realm: Option<String>,
    authentication_method: AuthenticationMethod,
    server_trust: Option<ServerTrust>,
    distinguished_names: Option<Arc<[Vec<u8>]>>,
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
            server_trust: None,
            distinguished_names: None,
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

    /// One of the method `ServerTrust`, with what the server has shown.
    pub(crate) fn with_server_trust(self, trust: ServerTrust) -> Self {
        Self { server_trust: Some(trust), ..self }
    }

    /// One of the method `ClientCertificate`, with the authorities that the server accepts.
    pub(crate) fn with_distinguished_names(self, names: Vec<Vec<u8>>) -> Self {
        Self { distinguished_names: Some(names.into()), ..self }
    }

    /// As it is kept and looked up: 0 is the port that it stands for, and the host is written as in a URL (an IPv6
    /// address in brackets, a name in its ASCII form). Spaces that mean the same are equal then. Certificates are not kept.
    pub(crate) fn canonical(&self) -> Self {
        let port = match (self.port, self.protocol()) {
            (0, Some("http")) => 80,
            (0, Some("https")) => 443,
            (port, _) => port,
        };
        let bare = self.host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&self.host);
        let written = if bare.contains(':') { Host::parse(&format!("[{bare}]")) } else { Host::parse(bare) };
        let host = written.map_or_else(|_| self.host.clone(), |host| host.to_string());
        Self { host, port, server_trust: None, distinguished_names: None, ..self.clone() }
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

    /// `serverTrust`: the certificates that are to be trusted, in a challenge of the method
    /// [`ServerTrust`](AuthenticationMethod::ServerTrust); else `None`.
    pub fn server_trust(&self) -> Option<&ServerTrust> {
        self.server_trust.as_ref()
    }

    /// `distinguishedNames`: the authorities of which one has to have issued the client's certificate, each a distinguished
    /// name in DER, in a challenge of the method [`ClientCertificate`](AuthenticationMethod::ClientCertificate); empty where
    /// the server names none. Else `None`.
    pub fn distinguished_names(&self) -> Option<&[Vec<u8>]> {
        self.distinguished_names.as_deref()
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

impl UrlProtectionSpace {
    /// What makes one space another.
    fn key(&self) -> impl Hash + Eq + '_ {
        let Self { host, port, protocol, proxy, realm, authentication_method, .. } = self;
        (host, port, protocol, proxy, realm, authentication_method)
    }
}

impl PartialEq for UrlProtectionSpace {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for UrlProtectionSpace {}

impl Hash for UrlProtectionSpace {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
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
    use std::hash::DefaultHasher;

    use super::*;
    use crate::foundation::RootCertificates;

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

    #[test]
    fn certificates_make_no_other_space() {
        let hash = |space: &UrlProtectionSpace| {
            let mut hasher = DefaultHasher::new();
            space.hash(&mut hasher);
            hasher.finish()
        };
        let trust = ServerTrust::new(Vec::new(), "a.example", RootCertificates::webpki());
        let names = vec![vec![1, 2], vec![3]];
        let space = |method| UrlProtectionSpace::new("a.example", 443, Some("wss"), None, method);
        let proxy = |method| UrlProtectionSpace::of_proxy(ProxyKind::HttpsConnect, "a.example", 443, None, method);
        for bare in [space(AuthenticationMethod::ServerTrust), proxy(AuthenticationMethod::ServerTrust)] {
            assert_eq!((bare.server_trust(), bare.distinguished_names()), (None, None));
            let shown = bare.clone().with_server_trust(trust.clone());
            assert_eq!((shown.server_trust(), shown.distinguished_names()), (Some(&trust), None));
            assert_eq!((&shown, hash(&shown)), (&bare, hash(&bare)));
            assert_eq!(shown.displayed().server_trust(), Some(&trust));
            assert_eq!(shown.canonical().server_trust(), None);
            assert!(shown.receives_credential_securely());
        }
        let bare = space(AuthenticationMethod::ClientCertificate);
        let asked = bare.clone().with_distinguished_names(names.clone());
        assert_eq!((asked.server_trust(), asked.distinguished_names()), (None, Some(&names[..])));
        assert_eq!((&asked, hash(&asked)), (&bare, hash(&bare)));
        assert_eq!(asked.displayed().distinguished_names(), Some(&names[..]));
        assert_eq!(asked.canonical().distinguished_names(), None);
        assert_eq!(bare.with_distinguished_names(Vec::new()).distinguished_names(), Some(&[][..]));
        assert_ne!(space(AuthenticationMethod::ServerTrust), proxy(AuthenticationMethod::ServerTrust));
        assert_ne!(space(AuthenticationMethod::ServerTrust), space(AuthenticationMethod::ClientCertificate));
    }
}
