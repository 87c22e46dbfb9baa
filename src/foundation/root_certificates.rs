//! The certificates that trust begins with.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::error::{ErrorCode, ErrorStage, UrlError};

/// Beyond Apple: the root certificates that a server's certificate must lead to. A cheap clone of one shared list.
///
/// ```
/// use urlsession::{RootCertificates, SessionConfiguration};
///
/// # fn configure(own_root: &[u8]) -> Result<SessionConfiguration, urlsession::UrlError> {
/// let mut configuration = SessionConfiguration::default();
/// configuration.root_certificates = RootCertificates::from_pem(own_root)?;
/// # Ok(configuration)
/// # }
/// ```
#[derive(Clone)]
pub struct RootCertificates(Arc<RootCertStore>);

impl RootCertificates {
    /// The roots of Mozilla's programme as this version of the crate was built with them. Shared by the whole process.
    pub fn webpki() -> Self {
        static WEBPKI: OnceLock<RootCertificates> = OnceLock::new();
        WEBPKI.get_or_init(|| Self(Arc::new(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()))).clone()
    }

    /// The roots of the operating system, read at the first call and shared by the whole process. That first call reads
    /// files and may take some milliseconds.
    ///
    /// Roots that cannot be read are left out. Where none can be read, every server fails with
    /// [`ErrorCode::ServerCertificateHasUnknownRoot`].
    #[cfg(feature = "platform-roots")]
    pub fn platform() -> Self {
        static PLATFORM: OnceLock<RootCertificates> = OnceLock::new();
        PLATFORM
            .get_or_init(|| {
                let mut store = RootCertStore::empty();
                store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                Self(Arc::new(store))
            })
            .clone()
    }

    /// The certificates of a PEM text (RFC 7468), and no others. What is no certificate in it is passed over.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::SecureConnectionFailed`] where the text holds no certificate or one that cannot be read; the reason says
    /// which.
    pub fn from_pem(pem: &[u8]) -> Result<Self, UrlError> {
        let mut store = RootCertStore::empty();
        for (index, section) in CertificateDer::pem_slice_iter(pem).enumerate() {
            let number = index + 1;
            let certificate = section.map_err(|error| {
                refused(format!("certificate {number} of the PEM text is broken: {error}")).with_source(error)
            })?;
            store.add(certificate).map_err(|error| {
                refused(format!("certificate {number} of the PEM text is no root certificate: {error}"))
                    .with_source(error)
            })?;
        }
        if store.is_empty() {
            return Err(refused("the PEM text holds no certificate".to_owned()));
        }
        Ok(Self(Arc::new(store)))
    }

    pub(crate) fn store(&self) -> &Arc<RootCertStore> {
        &self.0
    }
}

fn refused(reason: String) -> UrlError {
    UrlError::new(ErrorCode::SecureConnectionFailed, ErrorStage::Request, reason)
}

impl fmt::Debug for RootCertificates {
    /// Shows how many there are.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RootCertificates").field("count", &self.0.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    fn certificate() -> String {
        rcgen::generate_simple_self_signed(["root.example".to_owned()]).unwrap().cert.pem()
    }

    #[test]
    fn reads_the_certificates_and_passes_over_the_rest() {
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let pem = format!("some words\n{}\n{key}\n{}", certificate(), certificate().replace('\n', "\r\n"));
        let roots = RootCertificates::from_pem(pem.as_bytes()).unwrap();
        assert_eq!(roots.store().len(), 2);
        assert_eq!(format!("{roots:?}"), "RootCertificates { count: 2 }");
        assert!(Arc::ptr_eq(roots.store(), roots.clone().store()));
    }

    #[test]
    fn says_which_certificate_is_broken() {
        let good = certificate();
        let cut = good.split("-----END").next().unwrap();
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let table = [
            (String::new(), "no certificate", false),
            ("hello".to_owned(), "no certificate", false),
            (key, "no certificate", false),
            (format!("{good}{cut}"), "certificate 2 of the PEM text is broken", true),
            (format!("{good}{good}{}", good.replacen('M', "*", 1)), "certificate 3 of the PEM text is broken", true),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
                "certificate 1 of the PEM text is no root certificate",
                true,
            ),
        ];
        for (pem, reason, has_source) in table {
            let error = RootCertificates::from_pem(pem.as_bytes()).unwrap_err();
            assert_eq!((error.code(), error.stage()), (ErrorCode::SecureConnectionFailed, ErrorStage::Request));
            assert!(error.reason().contains(reason), "{error}");
            assert_eq!(error.source().is_some(), has_source, "{error}");
        }
    }

    #[test]
    fn the_lists_of_the_process_are_shared() {
        let webpki = RootCertificates::webpki();
        assert!(webpki.store().len() > 50);
        assert!(Arc::ptr_eq(webpki.store(), RootCertificates::webpki().store()));
    }

    #[cfg(feature = "platform-roots")]
    #[test]
    fn the_list_of_the_system_is_shared() {
        let platform = RootCertificates::platform();
        assert!(Arc::ptr_eq(platform.store(), RootCertificates::platform().store()));
    }
}
