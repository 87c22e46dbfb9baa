//! TLS for the scripted server, in memory. The keys and certificates are made once for the process; whatever they hold, their
//! lengths are always the same, so that a seed cuts the stream at the same places in every process.

use std::sync::{Arc, LazyLock};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ED25519, SerialNumber, date_time_ymd,
};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, ServerConfig, ServerConnection};
use urlsession::internals::client_config;
use urlsession::{RootCertificates, TlsProtocolVersion};

use crate::plan::{Certificate, Tls};

/// The host that the good certificates are for.
pub const HOST: &str = "sim.test";

/// Another one of theirs.
pub const OTHER: &str = "away.test";

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

struct Configs {
    roots: RootCertificates,
    clients: [Arc<ClientConfig>; 2],
    servers: Vec<(Certificate, Arc<ServerConfig>)>,
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
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn server(&self, hosts: &[&str], serial: u8, years: (i32, i32)) -> Arc<ServerConfig> {
        let key = key();
        let certificate = params(hosts, serial, years).signed_by(&key, &self.issuer).unwrap();
        let chain = vec![certificate.der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        Arc::new(config)
    }
}

impl Configs {
    fn new() -> Self {
        let trusted = Authority::new("trusted", 1);
        let unknown = Authority::new("unknown", 2);
        let roots = RootCertificates::from_pem(trusted.pem.as_bytes()).unwrap();
        let client = |version| {
            // Without tickets: no run may know what another one did.
            let mut config = ClientConfig::clone(&client_config(&roots, version, version).unwrap());
            config.resumption = Resumption::disabled();
            Arc::new(config)
        };
        let years = (2000, 2500);
        let servers = vec![
            (Certificate::Good, trusted.server(&[HOST, OTHER], 3, years)),
            (Certificate::OtherHost, trusted.server(&["other.test"], 4, years)),
            (Certificate::UnknownRoot, unknown.server(&[HOST, OTHER], 5, years)),
            (Certificate::Expired, trusted.server(&[HOST, OTHER], 6, (2000, 2001))),
            (Certificate::NotYet, trusted.server(&[HOST, OTHER], 7, (2400, 2500))),
        ];
        let clients = [client(TlsProtocolVersion::TlsV13), client(TlsProtocolVersion::TlsV12)];
        Self { roots, clients, servers }
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

pub fn client(tls: Tls) -> Arc<ClientConfig> {
    Arc::clone(&CONFIGS.clients[usize::from(tls.old)])
}

pub fn server(tls: Tls) -> ServerConnection {
    let (_, config) = CONFIGS.servers.iter().find(|(certificate, _)| *certificate == tls.certificate).unwrap();
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
