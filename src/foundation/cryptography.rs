//! Whose cryptography TLS uses.

use rustls::CipherSuite;
use rustls::crypto::CryptoProvider;

#[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
compile_error!("one of the features `ring` and `aws-lc-rs` has to be on: TLS needs its cryptography");

/// Named outright: the default of the process is another library's to choose, or nobody's. Its suites, but
/// TLS_AES_128_GCM_SHA256 is asked for first, as on Apple's: its handshake is much cheaper than that with SHA-384.
pub fn provider() -> CryptoProvider {
    #[cfg(feature = "aws-lc-rs")]
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider
}
