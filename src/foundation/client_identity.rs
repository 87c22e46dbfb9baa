//! What a client proves itself with to a server that wants to know.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, InconsistentKeys};

use super::cryptography::provider;
use super::error::{ErrorCode, ErrorStage, UrlError};

/// `SecIdentity`, with the certificates that lead from it to an authority: a client's certificate and its private key.
///
/// [`UrlCredential::with_identity`](crate::UrlCredential::with_identity) answers a challenge of the method
/// [`ClientCertificate`](crate::AuthenticationMethod::ClientCertificate) with it.
///
/// A cheap clone of one shared value; clones are equal, and nothing else is. One is to be made once and kept: what a session
/// remembers for each, it remembers for the last few dozen.
#[derive(Clone)]
pub struct ClientIdentity(Arc<CertifiedKey>);

impl ClientIdentity {
    /// In place of `SecPKCS12Import`: reads two PEM texts (RFC 7468): the certificates, the client's own first and then
    /// those that lead from it to the authority, and the private key, in PKCS#8 (`PRIVATE KEY`), PKCS#1 (`RSA PRIVATE
    /// KEY`) or SEC1 (`EC PRIVATE KEY`). What else is in them is passed over, so that one text may hold both and be
    /// given twice.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::SecureConnectionFailed`] where there is no certificate or no key, where one cannot be read or the key is
    /// encrypted, where it is of a kind that TLS has no use for, and where it is the key of another certificate; the reason
    /// says which. It never shows the key.
    pub fn from_pem(certificate_chain: &[u8], private_key: &[u8]) -> Result<Self, UrlError> {
        let mut chain = Vec::new();
        for (index, section) in CertificateDer::pem_slice_iter(certificate_chain).enumerate() {
            chain.push(section.map_err(|error| {
                refused(format!("certificate {} of the PEM text is broken: {error}", index + 1)).with_source(error)
            })?);
        }
        if chain.is_empty() {
            return Err(refused("the PEM text holds no certificate"));
        }
        let key = match PrivateKeyDer::from_pem_slice(private_key) {
            Ok(key) => key,
            Err(_) if is_encrypted(private_key) => {
                return Err(refused("the private key is encrypted; only one that is not can be used"));
            }
            Err(pem::Error::NoItemsFound) => return Err(refused("the PEM text holds no private key")),
            Err(_) => return Err(refused("the private key of the PEM text is broken")),
        };
        let key = provider()
            .key_provider
            .load_private_key(key)
            .map_err(|error| refused(format!("the private key cannot be used: {error}")).with_source(error))?;
        let identity = CertifiedKey::new(chain, key);
        match identity.keys_match() {
            // Whether the key of a certificate of version 1, as simple tools make them, is this one, the server has to say.
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(Self(Arc::new(identity))),
            Err(error) if is_of_version_1(&error) => Ok(Self(Arc::new(identity))),
            Err(error) => Err(refused(match &error {
                Error::InconsistentKeys(_) => "the private key is not that of the first certificate".to_owned(),
                other => format!("the first certificate cannot be read: {other}"),
            })
            .with_source(error)),
        }
    }

    /// For rustls.
    pub(crate) fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.0
    }
}

/// Whether a certificate was read so far as to see that it has no extensions, of which version 3 has some (RFC 5280 §4.1.2.1).
fn is_of_version_1(error: &Error) -> bool {
    // rustls has no name for it, but says what webpki said.
    matches!(error, Error::InvalidCertificate(CertificateError::Other(fault)) if fault.to_string() == "UnsupportedCertVersion")
}

/// Whether it says of itself that it is: PKCS#8 in its label, the older kinds in a header (RFC 1421 §4.6.1.1).
fn is_encrypted(pem: &[u8]) -> bool {
    let has = |words: &[u8]| pem.windows(words.len()).any(|window| window == words);
    has(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(b"Proc-Type: 4,ENCRYPTED")
}

fn refused(reason: impl Into<Cow<'static, str>>) -> UrlError {
    UrlError::new(ErrorCode::SecureConnectionFailed, ErrorStage::Request, reason)
}

impl PartialEq for ClientIdentity {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ClientIdentity {}

impl Hash for ClientIdentity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl fmt::Debug for ClientIdentity {
    /// Shows how many certificates there are, nothing of the key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ClientIdentity").field("certificates", &self.0.cert.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
