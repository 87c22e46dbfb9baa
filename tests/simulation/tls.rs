//! TLS for the scripted server, in memory. The keys and certificates are made once for the process; whatever they hold, their
//! lengths are always the same, so that a seed cuts the stream at the same places in every process.

use std::sync::{Arc, LazyLock};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ED25519, SerialNumber, date_time_ymd,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use urlsession::{ClientIdentity, RootCertificates, TlsProtocolVersion};

use crate::plan::{Certificate, Tls};

/// The host that the good certificates are for.
pub const HOST: &str = "sim.test";

/// Another one of theirs.
pub const OTHER: &str = "away.test";

struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

struct Configs {
    roots: RootCertificates,
    servers: Vec<(Certificate, Arc<ServerConfig>)>,
    /// Of those that want to know who the client is.
    curious: Vec<(Certificate, Arc<ServerConfig>)>,
    identity: ClientIdentity,
}

static CONFIGS: LazyLock<Configs> = LazyLock::new(Configs::new);

fn provider() -> CryptoProvider {
    #[cfg(feature = "aws-lc-rs")]
    return rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(not(feature = "aws-lc-rs"))]
    return rustls::crypto::ring::default_provider();
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ED25519).unwrap()
}

fn params(names: &[&str], serial: u8, years: (i32, i32)) -> CertificateParams {
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    params.serial_number = Some(SerialNumber::from(vec![serial; 8]));
    params.not_before = date_time_ymd(years.0, 1, 1);
    params.not_after = date_time_ymd(years.1, 1, 1);
    params
}

impl Authority {
    fn new(name: &str, serial: u8) -> Self {
        let mut params = params(&[], serial, (2000, 2500));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = key();
        let certificate = params.self_signed(&key).unwrap();
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Self { pem, der, issuer: Issuer::new(params, key) }
    }

    fn server(&self, hosts: &[&str], serial: u8, years: (i32, i32)) -> Arc<ServerConfig> {
        self.server_for(hosts, serial, years, None)
    }

    /// `clients`: who issues the certificates of clients that it would like to see.
    fn server_for(&self, hosts: &[&str], serial: u8, years: (i32, i32), clients: Option<&Self>) -> Arc<ServerConfig> {
        let key = key();
        let certificate = params(hosts, serial, years).signed_by(&key, &self.issuer).unwrap();
        let chain = vec![certificate.der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .unwrap();
        let config = match clients {
            None => config.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(clients.der.clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(provider()))
                    .allow_unauthenticated()
                    .build();
                config.with_client_cert_verifier(verifier.unwrap())
            }
        };
        Arc::new(config.with_single_cert(chain, key).unwrap())
    }

    fn identity(&self) -> ClientIdentity {
        let key = key();
        let certificate = params(&["client.test"], 9, (2000, 2500)).signed_by(&key, &self.issuer).unwrap();
        ClientIdentity::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap()
    }
}

impl Configs {
    fn new() -> Self {
        let trusted = Authority::new("trusted", 1);
        let unknown = Authority::new("unknown", 2);
        let roots = RootCertificates::from_pem(trusted.pem.as_bytes()).unwrap();
        let years = (2000, 2500);
        let servers = vec![
            (Certificate::Good, trusted.server(&[HOST, OTHER], 3, years)),
            (Certificate::OtherHost, trusted.server(&["other.test"], 4, years)),
            (Certificate::UnknownRoot, unknown.server(&[HOST, OTHER], 5, years)),
            (Certificate::Expired, trusted.server(&[HOST, OTHER], 6, (2000, 2001))),
            (Certificate::NotYet, trusted.server(&[HOST, OTHER], 7, (2400, 2500))),
        ];
        let clients = Authority::new("clients", 8);
        let curious = vec![
            (Certificate::Good, trusted.server_for(&[HOST, OTHER], 10, years, Some(&clients))),
            (Certificate::UnknownRoot, unknown.server_for(&[HOST, OTHER], 11, years, Some(&clients))),
        ];
        Self { roots, servers, curious, identity: clients.identity() }
    }
}

/// Whom the clients trust.
pub fn roots() -> RootCertificates {
    CONFIGS.roots.clone()
}

/// The version of TLS that is spoken.
pub fn version(old: bool) -> TlsProtocolVersion {
    if old { TlsProtocolVersion::TlsV12 } else { TlsProtocolVersion::TlsV13 }
}

/// Who the client is.
pub fn identity() -> ClientIdentity {
    CONFIGS.identity.clone()
}

pub fn server(tls: Tls) -> ServerConnection {
    begin(tls, &CONFIGS.servers)
}

/// A server that would like to know who the client is.
pub fn curious_server(tls: Tls) -> ServerConnection {
    begin(tls, &CONFIGS.curious)
}

fn begin(tls: Tls, configs: &[(Certificate, Arc<ServerConfig>)]) -> ServerConnection {
    let (_, config) = configs.iter().find(|(certificate, _)| *certificate == tls.certificate).unwrap();
    let mut connection = ServerConnection::new(Arc::clone(config)).unwrap();
    connection.set_buffer_limit(None);
    connection
}

/// Apple's number for what is wrong with it.
pub fn fault(certificate: Certificate) -> Option<i32> {
    match certificate {
        Certificate::Good => None,
        Certificate::Expired => Some(-1201),
        Certificate::OtherHost => Some(-1202),
        Certificate::UnknownRoot => Some(-1203),
        Certificate::NotYet => Some(-1204),
    }
}
