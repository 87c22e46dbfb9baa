//! Answers to authentication challenges.

use std::fmt;

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
    /// `.permanent`: across runs, where the storage can. [`UrlCredentialStorage`](crate::UrlCredentialStorage) is in
    /// memory: there it is as `.forSession`.
    Permanent = 2,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_password() {
        let credential = UrlCredential::new("me", "hidden", CredentialPersistence::Permanent);
        assert_eq!((credential.user(), credential.password()), (Some("me"), Some("hidden")));
        let shown = format!("{credential:?}");
        assert!(shown.contains("me") && shown.contains("Permanent") && !shown.contains("hidden"), "{shown}");
    }
}
