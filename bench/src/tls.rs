//! TLS as server and clients have it in common: one provider of cryptography, one root certificate.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use crate::fail;

/// The environment variable with the server's certificate, in base64.
pub const ROOT_VARIABLE: &str = "URLSESSION_BENCH_ROOT";

/// Clients connect to 127.0.0.1 up to 127.0.0.`HOSTS`.
pub const HOSTS: usize = 8;

/// The cryptography of everybody.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The server's certificate.
pub fn root() -> CertificateDer<'static> {
    let Ok(text) = std::env::var(ROOT_VARIABLE) else {
        fail(format_args!("wss needs {ROOT_VARIABLE}, as the server prints it"))
    };
    match STANDARD.decode(text) {
        Ok(der) => der.into(),
        Err(error) => fail(format_args!("{ROOT_VARIABLE}: {error}")),
    }
}

/// What a client that brings its own rustls is set up with: TLS 1.3, resumption.
pub fn client_config() -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let config = roots.add(root()).and_then(|()| {
        Ok(ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth())
    });
    match config {
        Ok(config) => Arc::new(config),
        Err(error) => fail(format_args!("TLS cannot be set up: {error}")),
    }
}
