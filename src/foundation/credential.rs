//! Answers to authentication challenges, and where they are kept.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

/// `URLCredential`: a user and a password that answer a challenge.
///
/// ```
/// use urlsession::{CredentialPersistence, UrlCredential};
///
/// let credential = UrlCredential::new("me", "secret", CredentialPersistence::ForSession);
/// assert_eq!(credential.user(), Some("me"));
/// assert!(!format!("{credential:?}").contains("secret"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct UrlCredential {
    user: String,
    password: String,
    persistence: CredentialPersistence,
}

impl UrlCredential {
    /// `URLCredential(user:password:persistence:)`: for Basic and Digest.
    pub fn new(user: &str, password: &str, persistence: CredentialPersistence) -> Self {
        Self { user: user.to_owned(), password: password.to_owned(), persistence }
    }

    /// `user`; `None` for a credential that is no user with a password.
    pub fn user(&self) -> Option<&str> {
        Some(&self.user)
    }

    /// `password`; `None` for a credential that is no user with a password.
    pub fn password(&self) -> Option<&str> {
        Some(&self.password)
    }

    /// `persistence`: how long the credential is kept.
    pub fn persistence(&self) -> CredentialPersistence {
        self.persistence
    }
}

impl fmt::Debug for UrlCredential {
    /// Without the password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("UrlCredential")
            .field("user", &self.user)
            .field("persistence", &self.persistence)
            .finish_non_exhaustive()
    }
}

/// `URLCredential.Persistence`: how long a credential is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CredentialPersistence {
    /// `.none`: for the one answer only.
    None = 0,
    /// `.forSession`: as long as the storage lives.
    ForSession = 1,
    /// `.permanent`: across runs, where the storage can.
    Permanent = 2,
}

/// `URLCredentialStorage`: the credentials that the tasks of a session share.
///
/// A handle: clones stand for the same storage, and handles compare by which storage they stand for. Credentials are not
/// stored yet: the storage holds nothing.
#[derive(Clone)]
pub struct UrlCredentialStorage(Arc<Contents>);

struct Contents;

impl UrlCredentialStorage {
    /// `URLCredentialStorage.shared`: the one storage of the process that every default configuration uses.
    pub fn shared() -> Self {
        static SHARED: OnceLock<UrlCredentialStorage> = OnceLock::new();
        SHARED.get_or_init(Self::new).clone()
    }

    /// A storage of its own, in memory.
    pub fn new() -> Self {
        Self(Arc::new(Contents))
    }
}

impl Default for UrlCredentialStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for UrlCredentialStorage {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for UrlCredentialStorage {}

impl Hash for UrlCredentialStorage {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl fmt::Debug for UrlCredentialStorage {
    /// Shows which storage it is, never a credential.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("UrlCredentialStorage").field(&Arc::as_ptr(&self.0)).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn debug_shows_no_password() {
        let credential = UrlCredential::new("me", "hidden", CredentialPersistence::Permanent);
        assert_eq!((credential.user(), credential.password()), (Some("me"), Some("hidden")));
        let shown = format!("{credential:?}");
        assert!(shown.contains("me") && shown.contains("Permanent") && !shown.contains("hidden"), "{shown}");
    }

    #[test]
    fn handles_compare_by_identity() {
        let own = UrlCredentialStorage::new();
        assert_eq!(own, own.clone());
        assert_ne!(own, UrlCredentialStorage::default());
        assert_eq!(UrlCredentialStorage::shared(), UrlCredentialStorage::shared());
        let set = HashSet::from([own.clone(), own, UrlCredentialStorage::shared()]);
        assert_eq!(set.len(), 2);
    }
}
