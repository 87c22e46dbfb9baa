//! One cookie.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::Ipv6Addr;
use std::time::SystemTime;

use url::Host;

use super::domain::{is_address, is_public_suffix};

/// How long name and value may be together, in bytes: RFC 6265bis §5.6.
const NAME_AND_VALUE: usize = 4096;

/// How long a path may be. That of an attribute is shorter; one that comes from an address may be longer.
const PATH: usize = 4096;

/// How long a domain may be: that of an attribute.
const DOMAIN: usize = 1024;

/// How much of cookies goes out with one request, in bytes.
const FIELD: usize = 32 * 1024;

/// `HTTPCookie`: a name with a value, and where it is sent to.
///
/// ```
/// use urlsession::HttpCookie;
///
/// let mut cookie = HttpCookie::new("session", "1234", "example.com", "/");
/// cookie.set_secure(true);
/// assert_eq!(HttpCookie::request_header_fields_with(&[cookie]).as_deref(), Some("session=1234"));
/// ```
///
/// Its `Debug` does not show the value, which may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpCookie {
    name: String,
    value: String,
    domain: String,
    path: String,
    expires_date: Option<SystemTime>,
    is_secure: bool,
    is_http_only: bool,
    same_site_policy: Option<SameSitePolicy>,
}

/// `HTTPCookieStringPolicy`: which requests a server wants a cookie back with, by where they come from. A program is no
/// page of another site, so that no cookie is held back for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SameSitePolicy {
    /// `.sameSiteLax`.
    Lax,
    /// `.sameSiteStrict`.
    Strict,
}

impl HttpCookie {
    /// `HTTPCookie(properties:)`: a cookie that lasts as long as its storage, for the host `domain` alone, or, where it
    /// begins with a dot, for the hosts below it, too. A path that does not begin with a slash stands for `/`.
    ///
    /// A cookie that cannot be sent is left out wherever it is stored or sent: one with a control character or a
    /// semicolon, white space at an end of name or value, an equals sign in the name, more than 4,096 bytes; or without a
    /// name, if the value is empty or begins like a prefix (`__Host-`).
    pub fn new(name: &str, value: &str, domain: &str, path: &str) -> Self {
        let bare = domain.strip_prefix('.').unwrap_or(domain);
        let host = bare.parse::<Ipv6Addr>().map_or_else(|_| Host::parse(bare), |address| Ok(Host::Ipv6(address)));
        let domain = match host {
            // Addresses have nothing below them.
            Ok(Host::Domain(host)) if domain.starts_with('.') => format!(".{host}"),
            Ok(host) => host.to_string(),
            Err(_) => domain.to_ascii_lowercase(),
        };
        Self::received(name, value, domain, if path.starts_with('/') { path } else { "/" })
    }

    /// As it was received: the domain and the path are as they are to be.
    pub(super) fn received(name: &str, value: &str, domain: String, path: &str) -> Self {
        Self {
            name: name.to_owned(),
            value: value.to_owned(),
            domain,
            path: path.to_owned(),
            expires_date: None,
            is_secure: false,
            is_http_only: false,
            same_site_policy: None,
        }
    }

    /// `requestHeaderFields(with:)`: the value of the `Cookie` field, `a=1; b=2`, in the order of the list; `None` for
    /// no cookies. It ends before the cookie that would make it longer than 32 KiB.
    pub fn request_header_fields_with(cookies: &[Self]) -> Option<String> {
        Self::field_of(cookies.iter())
    }

    pub(super) fn field_of<'a>(cookies: impl Iterator<Item = &'a Self>) -> Option<String> {
        let mut field = String::new();
        for cookie in cookies.filter(|cookie| cookie.is_sendable()) {
            let length = field.len() + cookie.name.len() + cookie.value.len() + "; =".len();
            if length > FIELD {
                break;
            }
            if !field.is_empty() {
                field.push_str("; ");
            }
            // RFC 6265bis §5.8.3: a cookie without a name is its value alone.
            if !cookie.name.is_empty() {
                field.extend([&cookie.name, "="]);
            }
            field.push_str(&cookie.value);
        }
        (!field.is_empty()).then_some(field)
    }

    /// `name`. Empty where a server set a cookie without one.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `value`.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// `domain`: with a leading dot it is for the hosts below, too; without one it is for this host alone.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// `path`: it is sent to this path and to those below.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// `expiresDate`; `None` for a cookie that is not kept across runs.
    pub fn expires_date(&self) -> Option<SystemTime> {
        self.expires_date
    }

    /// `isSessionOnly`: it has no date of expiry, and is not kept across runs.
    pub fn is_session_only(&self) -> bool {
        self.expires_date.is_none()
    }

    /// `isSecure`: it is sent over `wss` and `https` only.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// `isHTTPOnly`: it is not for scripts. It is sent and shown here as any other.
    pub fn is_http_only(&self) -> bool {
        self.is_http_only
    }

    /// `sameSitePolicy`: as the server has it; nothing is held back for it.
    pub fn same_site_policy(&self) -> Option<SameSitePolicy> {
        self.same_site_policy
    }

    /// `.expires`: the date of expiry; `None` for a cookie that is not kept across runs. A storage that is given one
    /// that has expired forgets the cookie.
    pub fn set_expires_date(&mut self, expires_date: Option<SystemTime>) {
        self.expires_date = expires_date;
    }

    /// `.secure`: whether it is sent over `wss` and `https` only.
    pub fn set_secure(&mut self, secure: bool) {
        self.is_secure = secure;
    }

    /// Beyond Apple: whether it is not for scripts.
    pub fn set_http_only(&mut self, http_only: bool) {
        self.is_http_only = http_only;
    }

    /// `.sameSitePolicy`: what [`same_site_policy`](Self::same_site_policy) shows.
    pub fn set_same_site_policy(&mut self, policy: Option<SameSitePolicy>) {
        self.same_site_policy = policy;
    }

    /// The domain without the dot, and whether the hosts below it are meant, too.
    pub(crate) fn scope(&self) -> (&str, bool) {
        match self.domain.strip_prefix('.') {
            Some(domain) => (domain, true),
            None => (&self.domain, false),
        }
    }

    /// A storage has one cookie with these.
    pub(super) fn has_key_of(&self, other: &Self) -> bool {
        self.name == other.name && self.domain == other.domain && self.path == other.path
    }

    pub(super) fn is_expired(&self, now: SystemTime) -> bool {
        self.expires_date.is_some_and(|date| date <= now)
    }

    /// Whether a `Cookie` field may have it.
    pub(super) fn is_sendable(&self) -> bool {
        let is_clean = |text: &str| !text.chars().any(|c| c == ';' || (c.is_control() && c != '\t'));
        // White space at the ends would not come back.
        let is_whole = |text: &str| text.trim_matches([' ', '\t']).len() == text.len();
        let nameless = self.name.is_empty();
        is_clean(&self.name)
            && is_clean(&self.value)
            && is_whole(&self.name)
            && is_whole(&self.value)
            && !self.name.contains('=')
            // A cookie without a name must not look like another with one: RFC 6265bis §5.7.
            && !(nameless && (self.value.is_empty() || Prefix::of(&self.value).is_some()))
            && self.name.len() + self.value.len() <= NAME_AND_VALUE
    }

    /// Whether a storage may have it: RFC 6265bis §5.7, what does not depend on where it comes from.
    pub(super) fn is_storable(&self) -> bool {
        let (domain, below) = self.scope();
        let is_clean = |text: &str| !text.contains(char::is_control) && !text.contains(';');
        self.is_sendable()
            && is_clean(&self.domain)
            && is_clean(&self.path)
            && !domain.is_empty()
            && self.domain.len() <= DOMAIN
            && self.path.len() <= PATH
            && self.path.starts_with('/')
            && !(below && (is_address(domain) || is_public_suffix(domain)))
            && match Prefix::of(&self.name) {
                Some(Prefix::Secure) => self.is_secure,
                Some(Prefix::Host) => self.is_secure && !below && self.path == "/",
                None => true,
            }
    }
}

impl fmt::Debug for HttpCookie {
    /// All but the value.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("HttpCookie")
            .field("name", &self.name)
            .field("domain", &self.domain)
            .field("path", &self.path)
            .field("expires_date", &self.expires_date)
            .field("is_secure", &self.is_secure)
            .field("is_http_only", &self.is_http_only)
            .field("same_site_policy", &self.same_site_policy)
            .finish_non_exhaustive()
    }
}

/// What a name promises by how it begins: RFC 6265bis §4.1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    Secure,
    Host,
}

impl Prefix {
    /// Servers compare without case, and so does whoever promises something to them.
    pub(super) fn of(name: &str) -> Option<Self> {
        let begins = |prefix: &str| name.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix));
        if begins("__Secure-") {
            Some(Self::Secure)
        } else if begins("__Host-") {
            Some(Self::Host)
        } else {
            None
        }
    }
}
