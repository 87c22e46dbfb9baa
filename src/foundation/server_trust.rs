//! The certificates that a server has shown, to be judged.

use std::fmt;
use std::sync::Arc;

use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;

use super::cryptography::provider;
use super::error::{ErrorCode, UrlError};
use super::root_certificates::RootCertificates;
use super::tls_failure::{explained, failure};

/// `SecTrust`: the certificates that a server or a proxy has shown, and the host that they have to be for.
///
/// A challenge of the method [`ServerTrust`](crate::AuthenticationMethod::ServerTrust) has it in its
/// [protection space](crate::UrlProtectionSpace::server_trust), and is answered with
/// [`UrlCredential::for_trust`](crate::UrlCredential::for_trust) where the program trusts it. That the server has the key of
/// the first certificate was proved before.
///
/// ```
/// use urlsession::{
///     AuthChallengeDisposition, AuthenticationChallenge, ChallengeHandler, RootCertificates, UrlCredential,
/// };
///
/// # struct Delegate { own_roots: RootCertificates }
/// # impl Delegate {
/// fn did_receive_challenge(&self, challenge: &AuthenticationChallenge, completion_handler: ChallengeHandler) {
///     match challenge.protection_space().server_trust() {
///         Some(trust) if trust.evaluate_with_anchors(&self.own_roots).is_ok() => {
///             completion_handler(AuthChallengeDisposition::UseCredential, Some(UrlCredential::for_trust(trust)));
///         }
///         Some(_) => completion_handler(AuthChallengeDisposition::CancelAuthenticationChallenge, None),
///         None => completion_handler(AuthChallengeDisposition::PerformDefaultHandling, None),
///     }
/// }
/// # }
/// ```
///
/// A cheap clone of one shared value; clones are equal, and nothing else is. It may be used from any thread.
#[derive(Clone)]
pub struct ServerTrust(Arc<Parts>);

struct Parts {
    chain: Vec<Vec<u8>>,
    host: String,
    roots: RootCertificates,
}

impl ServerTrust {
    /// What the server for `host` (a name or an address, IPv6 with or without brackets) has shown, the leaf first. `roots`
    /// are the session's.
    pub(crate) fn new(chain: Vec<Vec<u8>>, host: &str, roots: RootCertificates) -> Self {
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host).to_owned();
        Self(Arc::new(Parts { chain, host, roots }))
    }

    /// `SecTrustEvaluateWithError`: whether the certificates are good now, for this host, and lead to one of the
    /// [root certificates](crate::SessionConfiguration::root_certificates) of the session. It is what decides where nobody is
    /// asked. Whether a certificate was revoked is not looked up.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::ServerCertificateHasBadDate`] where a certificate has expired,
    /// [`ErrorCode::ServerCertificateNotYetValid`] where its time has not come,
    /// [`ErrorCode::ServerCertificateHasUnknownRoot`] where they lead to none of the roots, and
    /// [`ErrorCode::ServerCertificateUntrusted`] where they are for another host, and for every other reason. If there is
    /// more than one, it is the first that is found: the dates of the leaf, the way to a root, the host.
    pub fn evaluate(&self) -> Result<(), UrlError> {
        self.evaluate_with_anchors(&self.0.roots)
    }

    /// `SecTrustSetAnchorCertificates` with `SecTrustEvaluateWithError`: as [`evaluate`](Self::evaluate), with these root
    /// certificates alone.
    ///
    /// A server's own, self-signed certificate may be given as the root that it has to lead to, and everything else is checked
    /// all the same: the host, the dates, what it is for. It must not be marked as that of an authority, as most tools mark
    /// what they sign with itself (`CA:TRUE`): that is no certificate for a server, and fails with
    /// [`ErrorCode::ServerCertificateUntrusted`]. To trust such a one, compare it with the first of
    /// [`certificate_chain`](Self::certificate_chain).
    ///
    /// # Errors
    ///
    /// Those of [`evaluate`](Self::evaluate).
    pub fn evaluate_with_anchors(&self, anchors: &RootCertificates) -> Result<(), UrlError> {
        let refused = |reason| failure(ErrorCode::ServerCertificateUntrusted, reason);
        let Some((leaf, intermediates)) = self.0.chain.split_first() else {
            return Err(refused("the server has shown no certificate".to_owned()));
        };
        let name = ServerName::try_from(self.host())
            .map_err(|_| refused(format!("no certificate can be for the host `{}`", self.host())))?;
        let leaf = CertificateDer::from(leaf.as_slice());
        let intermediates: Vec<_> = intermediates.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let algorithms = provider().signature_verification_algorithms.all;
        ParsedCertificate::try_from(&leaf)
            .and_then(|leaf| {
                let now = UnixTime::now();
                verify_server_cert_signed_by_trust_anchor(&leaf, anchors.store(), &intermediates, now, algorithms)?;
                verify_server_name(&leaf, &name)
            })
            .map_err(explained)
    }

    /// `SecTrustCopyCertificateChain`: the certificates as the server has shown them, DER, its own first. Those behind it may
    /// be anything, and the root is mostly not among them.
    pub fn certificate_chain(&self) -> &[Vec<u8>] {
        &self.0.chain
    }

    /// `SecTrustCopyKey`: the public key of the server's own certificate, DER, with its algorithm (SubjectPublicKeyInfo, RFC 5280
    /// §4.1.2.7). This is what pins are made of: a server that renews its certificate may keep the key. `None` where the
    /// certificate cannot be read.
    pub fn public_key(&self) -> Option<Vec<u8>> {
        let leaf = CertificateDer::from(self.0.chain.first()?.as_slice());
        let parsed = ParsedCertificate::try_from(&leaf).ok()?;
        Some(parsed.subject_public_key_info().to_vec())
    }

    /// Beyond Apple: the name or the address that the first certificate has to be for; an IPv6 address has no brackets.
    pub fn host(&self) -> &str {
        &self.0.host
    }
}

impl PartialEq for ServerTrust {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ServerTrust {}

impl fmt::Debug for ServerTrust {
    /// Shows the host, and how many certificates there are.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { chain, host, .. } = &*self.0;
        formatter.debug_struct("ServerTrust").field("host", host).field("certificates", &chain.len()).finish()
    }
}

#[cfg(test)]
mod tests;
