//! Answers to authentication challenges.

use std::fmt;

use super::client_identity::ClientIdentity;
use super::server_trust::ServerTrust;

/// `URLCredential`: what answers a challenge. A user and a password, or for TLS a server that is trusted or a certificate of
/// the client.
///
/// ```
/// use urlsession::{CredentialPersistence, UrlCredential};
///
/// let credential = UrlCredential::new("me", "secret", CredentialPersistence::ForSession);
/// assert_eq!(credential.user(), Some("me"));
/// assert!(!format!("{credential:?}").contains("secret"));
/// ```
///
/// Users and passwords compare by what they are, trusts and identities by which object they are.
#[derive(Clone, PartialEq, Eq)]
pub struct UrlCredential(Kind);

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Password { user: String, password: String, persistence: CredentialPersistence },
    Trust(ServerTrust),
    Identity(ClientIdentity),
}

impl UrlCredential {
    /// `URLCredential(user:password:persistence:)`: for Basic and Digest.
    pub fn new(user: &str, password: &str, persistence: CredentialPersistence) -> Self {
        Self(Kind::Password { user: user.to_owned(), password: password.to_owned(), persistence })
    }

    /// `URLCredential(trust:)`: the program trusts the server that has shown these certificates, whatever
    /// [`ServerTrust::evaluate`] says of them. For challenges of the method
    /// [`ServerTrust`](crate::AuthenticationMethod::ServerTrust). It is for the one answer, and never stored.
    pub fn for_trust(trust: &ServerTrust) -> Self {
        Self(Kind::Trust(trust.clone()))
    }

    /// `URLCredential(identity:certificates:persistence:)`: the client's certificate and key. For challenges of the method
    /// [`ClientCertificate`](crate::AuthenticationMethod::ClientCertificate). It is for the one answer, and never stored.
    pub fn with_identity(identity: ClientIdentity) -> Self {
        Self(Kind::Identity(identity))
    }

    /// `user`; `None` for a credential that is no user with a password.
    pub fn user(&self) -> Option<&str> {
        match &self.0 {
            Kind::Password { user, .. } => Some(user),
            Kind::Trust(_) | Kind::Identity(_) => None,
        }
    }

    /// `password`; `None` for a credential that is no user with a password.
    pub fn password(&self) -> Option<&str> {
        match &self.0 {
            Kind::Password { password, .. } => Some(password),
            Kind::Trust(_) | Kind::Identity(_) => None,
        }
    }

    /// `persistence`: how long the credential is kept. [`CredentialPersistence::None`] for one that is no user with a
    /// password.
    pub fn persistence(&self) -> CredentialPersistence {
        match &self.0 {
            Kind::Password { persistence, .. } => *persistence,
            Kind::Trust(_) | Kind::Identity(_) => CredentialPersistence::None,
        }
    }

    /// What [`for_trust`](Self::for_trust) was given.
    pub(crate) fn trust(&self) -> Option<&ServerTrust> {
        match &self.0 {
            Kind::Trust(trust) => Some(trust),
            Kind::Password { .. } | Kind::Identity(_) => None,
        }
    }

    /// What [`with_identity`](Self::with_identity) was given.
    pub(crate) fn identity(&self) -> Option<&ClientIdentity> {
        match &self.0 {
            Kind::Identity(identity) => Some(identity),
            Kind::Password { .. } | Kind::Trust(_) => None,
        }
    }
}

impl fmt::Debug for UrlCredential {
    /// Without the password and without the key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("UrlCredential");
        match &self.0 {
            Kind::Password { user, persistence, .. } => shown.field("user", user).field("persistence", persistence),
            Kind::Trust(trust) => shown.field("trust", trust),
            Kind::Identity(identity) => shown.field("identity", identity),
        };
        shown.finish_non_exhaustive()
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
    use crate::foundation::RootCertificates;

    #[test]
    fn debug_shows_no_password() {
        let credential = UrlCredential::new("me", "hidden", CredentialPersistence::Permanent);
        assert_eq!((credential.user(), credential.password()), (Some("me"), Some("hidden")));
        let shown = format!("{credential:?}");
        assert!(shown.contains("me") && shown.contains("Permanent") && !shown.contains("hidden"), "{shown}");
    }

    #[test]
    fn what_is_no_user_with_a_password() {
        let trust = || ServerTrust::new(vec![vec![1]], "a.example", RootCertificates::webpki());
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["client.example".to_owned()]).unwrap();
        let identity =
            || ClientIdentity::from_pem(cert.pem().as_bytes(), signing_key.serialize_pem().as_bytes()).unwrap();
        let (one, other) = (trust(), identity());
        let table = [UrlCredential::for_trust(&one), UrlCredential::with_identity(other.clone())];
        for credential in &table {
            assert_eq!((credential.user(), credential.password()), (None, None));
            assert_eq!(credential.persistence(), CredentialPersistence::None);
            assert_eq!(*credential, credential.clone());
            assert!(!format!("{credential:?}").contains("persistence"), "{credential:?}");
        }
        let [trusted, identified] = table;
        assert_ne!(trusted, identified);
        // Which object it is counts, not what it holds.
        assert_eq!(trusted, UrlCredential::for_trust(&one));
        assert_ne!(trusted, UrlCredential::for_trust(&trust()));
        assert_eq!(identified, UrlCredential::with_identity(other.clone()));
        assert_ne!(identified, UrlCredential::with_identity(identity()));
        assert_eq!((trusted.trust(), trusted.identity()), (Some(&one), None));
        assert_eq!((identified.trust(), identified.identity()), (None, Some(&other)));
        let password = UrlCredential::new("me", "hidden", CredentialPersistence::None);
        assert_eq!((password.trust(), password.identity()), (None, None));
    }
}
