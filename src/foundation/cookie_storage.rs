//! Where the cookies of a session are kept.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

/// `HTTPCookieStorage`: the cookies that the tasks of a session share.
///
/// A handle: clones stand for the same storage, and handles compare by which storage they stand for. Cookies are not
/// handled yet: the storage holds nothing.
#[derive(Clone)]
pub struct HttpCookieStorage(Arc<Contents>);

struct Contents;

impl HttpCookieStorage {
    /// `HTTPCookieStorage.shared`: the one storage of the process that every default configuration uses.
    pub fn shared() -> Self {
        static SHARED: OnceLock<HttpCookieStorage> = OnceLock::new();
        SHARED.get_or_init(Self::new).clone()
    }

    /// A storage of its own, in memory.
    pub fn new() -> Self {
        Self(Arc::new(Contents))
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
