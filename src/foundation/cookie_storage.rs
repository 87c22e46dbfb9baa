//! Where the cookies of a session are kept.
//!
//! Programs ask a storage for cookies as of now, and so it looks at the clock by itself. Everything below it is given
//! the time ([`super::cookies`]).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use url::Url;

use super::configuration::HttpCookieAcceptPolicy;
use super::cookies::{HttpCookie, Jar, Origin, may_set, received, same_site};
use super::error::UrlError;

/// `HTTPCookieStorage`: the cookies that the tasks of a session share.
///
/// ```
/// use urlsession::{HttpCookie, HttpCookieStorage, SessionConfiguration, Url};
///
/// let storage = HttpCookieStorage::new();
/// storage.set_cookie(HttpCookie::new("session", "1234", "example.com", "/"));
/// let cookies = storage.cookies_for(&Url::parse("wss://example.com/feed").unwrap());
/// assert_eq!(cookies[0].value(), "1234");
///
/// let mut configuration = SessionConfiguration::default();
/// configuration.http_cookie_storage = Some(storage);
/// ```
///
/// A handle: clones stand for the same storage, and handles compare by which storage they stand for. It may be used
/// from any thread and inside any callback.
///
/// What is kept and sent is by RFC 6265bis: `Secure`, `HttpOnly`, host-only cookies, public suffixes, the prefixes
/// `__Secure-` and `__Host-`, at most 4,096 bytes of name and value, at most 400 days for what servers set. A site
/// (what somebody registered under a public suffix) has at most 180 cookies, and the storage 3,000: above that those go
/// first that have expired, then those that were not sent for the longest time.
#[derive(Clone)]
pub struct HttpCookieStorage(Arc<Contents>);

struct Contents {
    jar: Arc<Mutex<Jar>>,
    policy: Mutex<HttpCookieAcceptPolicy>,
    keeper: Option<Arc<dyn Keeper>>,
}

/// Whoever keeps the cookies of a storage across runs.
pub trait Keeper: Send + Sync {
    /// Takes into the jar what others have kept, as far as that can be read.
    fn refresh(&self);

    /// Something may have changed: it is to be kept soon. Returns at once.
    fn note_change(self: Arc<Self>);

    /// Returns when everything that has changed is kept.
    fn flush(&self) -> Result<(), UrlError>;
}

impl Drop for Contents {
    fn drop(&mut self) {
        if let Some(keeper) = &self.keeper {
            // Nobody is left who could be told.
            let _ = keeper.flush();
        }
    }
}

impl HttpCookieStorage {
    /// `HTTPCookieStorage.shared`: the one storage of the process that every default configuration uses. It is in
    /// memory.
    pub fn shared() -> Self {
        static SHARED: OnceLock<HttpCookieStorage> = OnceLock::new();
        SHARED.get_or_init(Self::new).clone()
    }

    /// Beyond Apple: a storage of its own, in memory.
    pub fn new() -> Self {
        Self::made(Arc::default(), None)
    }

    /// Of cookies that somebody keeps.
    pub(crate) fn with_keeper(jar: Arc<Mutex<Jar>>, keeper: Arc<dyn Keeper>) -> Self {
        Self::made(jar, Some(keeper))
    }

    fn made(jar: Arc<Mutex<Jar>>, keeper: Option<Arc<dyn Keeper>>) -> Self {
        let policy = Mutex::new(HttpCookieAcceptPolicy::Always);
        Self(Arc::new(Contents { jar, policy, keeper }))
    }

    /// `cookies`: all of them, the oldest first.
    pub fn cookies(&self) -> Vec<HttpCookie> {
        self.jar().cookies(now())
    }

    /// `cookies(for:)`: those that are sent to this address, in the order in which they are sent: the longer path
    /// first, then the older cookie. `ws` counts as `http`, `wss` as `https`.
    pub fn cookies_for(&self, url: &Url) -> Vec<HttpCookie> {
        self.jar().cookies_for(url, now())
    }

    /// `setCookie(_:)`: takes the place of the cookie with the same name, domain and path; a cookie that has expired
    /// takes it out. Nothing happens where the policy of the storage is [`HttpCookieAcceptPolicy::Never`], or with a
    /// cookie that no server could set: one for a public suffix, or one whose name promises (`__Host-`) what it does
    /// not keep.
    ///
    /// A storage that is [kept on disk](Self::open) is written before this returns. That it could not be written shows only
    /// by [`flush`](Self::flush); the cookie is in memory then, and writing is tried again.
    pub fn set_cookie(&self, cookie: HttpCookie) {
        if self.cookie_accept_policy() != HttpCookieAcceptPolicy::Never {
            self.change(|jar, now| jar.set(cookie, Origin::Program, now));
        }
    }

    /// `setCookies(_:for:mainDocumentURL:)`: what the server at `url` set, as far as it may set it and the policy of
    /// the storage takes it. With [`HttpCookieAcceptPolicy::OnlyFromMainDocumentDomain`] and a `main_document_url`, the
    /// server has to belong to the site of that document.
    pub fn set_cookies(&self, cookies: Vec<HttpCookie>, url: &Url, main_document_url: Option<&Url>) {
        let Some(host) = url.host_str() else { return };
        if accepts(self.cookie_accept_policy(), url, main_document_url) {
            self.change(|jar, now| {
                let mut changed = false;
                for cookie in cookies {
                    let (domain, below) = cookie.scope();
                    if host == domain || (below && may_set(host, domain)) {
                        changed |= jar.set(cookie, Origin::of(url), now);
                    }
                }
                changed
            });
        }
    }

    /// `deleteCookie(_:)`: takes out the cookie with this name, domain and path.
    pub fn delete_cookie(&self, cookie: &HttpCookie) {
        self.change(|jar, now| jar.remove(cookie, now));
    }

    /// `removeCookies(since:)`: takes out what was set at this date or later.
    pub fn remove_cookies_since(&self, date: SystemTime) {
        self.change(|jar, now| jar.remove_since(date, now));
    }

    /// `cookieAcceptPolicy`: [`HttpCookieAcceptPolicy::Always`] by default. It is about what is set here; what the
    /// servers of a session's tasks set is judged by the session's
    /// [`http_cookie_accept_policy`](crate::SessionConfiguration::http_cookie_accept_policy).
    pub fn cookie_accept_policy(&self) -> HttpCookieAcceptPolicy {
        *self.0.policy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `cookieAcceptPolicy`.
    pub fn set_cookie_accept_policy(&self, policy: HttpCookieAcceptPolicy) {
        *self.0.policy.lock().unwrap_or_else(PoisonError::into_inner) = policy;
    }

    /// Beyond Apple: returns when everything that was set is on disk; of a storage in memory at once.
    ///
    /// # Errors
    /// The file cannot be written. The cookies are still there, and the next change tries again.
    pub fn flush(&self) -> Result<(), UrlError> {
        self.0.keeper.as_ref().map_or(Ok(()), |keeper| keeper.flush())
    }

    /// Takes out everything, at once in memory, and on disk with the next [`flush`](Self::flush).
    pub(crate) fn clear(&self) {
        let now = now();
        self.jar().clear(now);
        self.note_change();
    }

    /// Whether [`flush`](Self::flush) may have something to wait for.
    pub(crate) fn is_kept(&self) -> bool {
        self.0.keeper.is_some()
    }

    /// The `Cookie` field of a request.
    pub(crate) fn field_for(&self, url: &Url) -> Option<String> {
        self.jar().field_for(url, now())
    }

    /// What a server sets with its answer. It is kept soon, and this does not wait for that.
    pub(crate) fn receive<'a>(
        &self,
        set_cookies: impl Iterator<Item = &'a str>,
        url: &Url,
        main_document_url: Option<&Url>,
        policy: HttpCookieAcceptPolicy,
    ) {
        let mut set_cookies = set_cookies.peekable();
        if set_cookies.peek().is_none() || !accepts(policy, url, main_document_url) {
            return;
        }
        let now = now();
        let mut changed = false;
        {
            let mut jar = self.jar();
            for set_cookie in set_cookies {
                changed |= jar.receive(set_cookie, url, now);
            }
        }
        if changed {
            self.note_change();
        }
    }

    /// What is to be deleted may be known to others only.
    fn refresh(&self) {
        if let Some(keeper) = &self.0.keeper {
            keeper.refresh();
        }
    }

    fn note_change(&self) {
        if let Some(keeper) = &self.0.keeper {
            Arc::clone(keeper).note_change();
        }
    }

    /// What the program changes is on disk when it goes on.
    fn change(&self, change: impl FnOnce(&mut Jar, SystemTime) -> bool) {
        self.refresh();
        let now = now();
        if change(&mut self.jar(), now) {
            // It is tried again until it is written, and who flushes is told.
            if self.flush().is_err() {
                self.note_change();
            }
        }
    }

    fn jar(&self) -> MutexGuard<'_, Jar> {
        self.0.jar.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one place below the reactor where a clock is asked.
fn now() -> SystemTime {
    SystemTime::now()
}

/// Whether a policy takes what the server at this address sets.
fn accepts(policy: HttpCookieAcceptPolicy, url: &Url, main_document_url: Option<&Url>) -> bool {
    match (policy, main_document_url) {
        (HttpCookieAcceptPolicy::Never, _) => false,
        (HttpCookieAcceptPolicy::Always, _) | (HttpCookieAcceptPolicy::OnlyFromMainDocumentDomain, None) => true,
        (HttpCookieAcceptPolicy::OnlyFromMainDocumentDomain, Some(document)) => {
            let hosts = document.host_str().zip(url.host_str());
            hosts.is_some_and(|(document, host)| same_site(document, host))
        }
    }
}

impl HttpCookie {
    /// `cookies(withResponseHeaderFields:for:)`: what a server at `url` sets with these header fields, as far as it
    /// may. Each `Set-Cookie` is one cookie, so they are to be given as they came
    /// ([`header_fields`](crate::HttpUrlResponse::header_fields)), not joined. A cookie that the server takes back has
    /// a date of expiry in the past.
    pub fn cookies_with_response_header_fields(fields: &[(&str, &str)], url: &Url) -> Vec<Self> {
        let now = now();
        let set_cookies = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("Set-Cookie"));
        set_cookies.filter_map(|(_, value)| received(value, url, now)).collect()
    }
}

impl Default for HttpCookieStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for HttpCookieStorage {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for HttpCookieStorage {}

impl Hash for HttpCookieStorage {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl fmt::Debug for HttpCookieStorage {
    /// Shows which storage it is, never a cookie.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("HttpCookieStorage").field(&Arc::as_ptr(&self.0)).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    #[expect(clippy::mutable_key_type, reason = "what is in it has no part in its hash")]
    fn handles_compare_by_identity() {
        let own = HttpCookieStorage::new();
        assert_eq!(own, own.clone());
        assert_ne!(own, HttpCookieStorage::default());
        assert_eq!(HttpCookieStorage::shared(), HttpCookieStorage::shared());
        assert_ne!(own, HttpCookieStorage::shared());
        let set = HashSet::from([own.clone(), own, HttpCookieStorage::shared()]);
        assert_eq!(set.len(), 2);
    }
}
