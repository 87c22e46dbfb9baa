//! Who judges a server where somebody is asked, and who has the client's certificate.

use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use super::tape;
use crate::foundation::{Asked, ClientIdentity};

/// Leaves the chain to be judged by whoever is asked, before anything is said to the server; `TlsStream` sees to that. That the
/// server has the key of its certificate is checked here.
#[derive(Debug)]
pub struct Unjudged(pub WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Unjudged {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if tape::refuses() {
            // rustls says bad_certificate to the server for this one.
            return Err(Error::InvalidCertificate(CertificateError::NotValidForName));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// Gives the certificate, if there is one, and notes that the server has asked.
#[derive(Debug)]
pub struct Resolver(pub Option<ClientIdentity>);

impl ResolvesClientCert for Resolver {
    fn resolve(&self, authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let asked = match &self.0 {
            None => Asked::Unanswered,
            Some(identity) if fits(identity, schemes) => Asked::Answered,
            Some(_) => Asked::Unfit,
        };
        tape::note_request(authorities, schemes, asked);
        self.0.as_ref().map(|identity| Arc::clone(identity.certified_key()))
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

/// Whether its key makes one of these signatures.
pub fn fits(identity: &ClientIdentity, schemes: &[SignatureScheme]) -> bool {
    identity.certified_key().key.choose_scheme(schemes).is_some()
}
