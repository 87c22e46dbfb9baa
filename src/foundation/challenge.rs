//! What a delegate is asked where a server or a proxy wants to be convinced, and how it answers.

use super::credential::UrlCredential;
use super::error::UrlError;
use super::protection_space::UrlProtectionSpace;
use super::response::HttpUrlResponse;

/// `URLAuthenticationChallenge`: who asks, for what, and what was tried before.
#[derive(Clone, Debug)]
pub struct AuthenticationChallenge {
    protection_space: UrlProtectionSpace,
    proposed_credential: Option<UrlCredential>,
    previous_failure_count: usize,
    failure_response: Option<HttpUrlResponse>,
    error: Option<UrlError>,
}

impl AuthenticationChallenge {
    pub(crate) fn new(
        protection_space: UrlProtectionSpace,
        proposed_credential: Option<UrlCredential>,
        previous_failure_count: usize,
        failure_response: Option<HttpUrlResponse>,
        error: Option<UrlError>,
    ) -> Self {
        Self { protection_space, proposed_credential, previous_failure_count, failure_response, error }
    }

    /// `protectionSpace`: who asks, and what the credential is for.
    pub fn protection_space(&self) -> &UrlProtectionSpace {
        &self.protection_space
    }

    /// `proposedCredential`: the credential that default handling would answer with, where there is one.
    pub fn proposed_credential(&self) -> Option<&UrlCredential> {
        self.proposed_credential.as_ref()
    }

    /// `previousFailureCount`: how many answers were refused before.
    pub fn previous_failure_count(&self) -> usize {
        self.previous_failure_count
    }

    /// `failureResponse`: the 401 or 407 that asks, without its body, which may still be on its way. `None` for the methods of
    /// TLS.
    pub fn failure_response(&self) -> Option<&HttpUrlResponse> {
        self.failure_response.as_ref()
    }

    /// `error`: why the last answer was refused, where that is known.
    pub fn error(&self) -> Option<&UrlError> {
        self.error.as_ref()
    }
}

/// `URLSession.AuthChallengeDisposition`: what a delegate makes of a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthChallengeDisposition {
    /// `.useCredential`: answer with the credential that is given with it, or without any where none is.
    UseCredential = 0,
    /// `.performDefaultHandling`: as if the delegate had not been asked.
    PerformDefaultHandling = 1,
    /// `.cancelAuthenticationChallenge`: the task ends.
    CancelAuthenticationChallenge = 2,
    /// `.rejectProtectionSpace`: try the next method that the server offers. A server's certificates are then not trusted, and a
    /// certificate of the client is not given.
    RejectProtectionSpace = 3,
}

#[cfg(test)]
mod tests {
    use super::super::credential::CredentialPersistence;
    use super::super::protection_space::AuthenticationMethod;
    use super::*;

    #[test]
    fn debug_shows_no_password() {
        let space = UrlProtectionSpace::new("a.example", 443, Some("wss"), Some("r"), AuthenticationMethod::HttpBasic);
        let credential = UrlCredential::new("me", "hidden", CredentialPersistence::None);
        let challenge = AuthenticationChallenge::new(space, Some(credential), 1, None, None);
        let shown = format!("{challenge:?}");
        assert!(shown.contains("a.example") && shown.contains("me") && !shown.contains("hidden"), "{shown}");
    }
}
