//! The server's certificate, and its two ways of TLS 1.3: with session tickets, and without.

use std::io;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

use crate::tls;

/// What the two TLS ports offer.
pub struct Offers {
    /// Clients can resume.
    pub resumed: Arc<ServerConfig>,
    /// Every handshake is a full one.
    pub full: Arc<ServerConfig>,
    /// The certificate in base64, for the clients.
    pub root: String,
}

/// Makes a certificate that is its own root, for the loopback addresses that clients use.
pub fn make() -> io::Result<Offers> {
    let names: Vec<String> = (1..=tls::HOSTS).map(|host| format!("127.0.0.{host}")).collect();
    let made = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
    let der = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(io::Error::other)?;
    let config = || {
        ServerConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![der.clone()], key.clone_key()))
            .map_err(io::Error::other)
    };
    let mut resumed = config()?;
    resumed.ticketer = rustls::crypto::ring::Ticketer::new().map_err(io::Error::other)?;
    let mut full = config()?;
    full.send_tls13_tickets = 0;
    full.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(Offers { resumed: Arc::new(resumed), full: Arc::new(full), root: STANDARD.encode(&der) })
}
