//! Certificates that are good and bad, identities of clients, and the servers that have or want them.

#![allow(dead_code, reason = "each test file uses a part")]

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::tls::{Authority, BOTH, Identity, provider};

impl Authority {
    /// An authority that this one has signed. What it signs leads to this one only where its own certificate is shown, too.
    pub fn intermediate(&self, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Self { pem: certificate.pem(), certificate: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    /// Its name, as a server names it where it says whose certificates it accepts.
    pub fn subject(&self) -> Vec<u8> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        roots.subjects()[0].as_ref().to_vec()
    }

    pub fn expired(&self, names: &[&str]) -> Identity {
        self.sign(names, |params| {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        })
    }

    pub fn not_yet_valid(&self, names: &[&str]) -> Identity {
        self.sign(names, |params| params.not_before = date_time_ymd(3000, 1, 1))
    }

    /// Without a subject alternative name; the name stands where it stood long ago.
    pub fn only_common_name(&self, name: &str) -> Identity {
        self.sign(&[], |params| {
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
        })
    }

    /// A certificate for servers of this name that the authority's intermediate has signed, alone.
    pub fn without_intermediate(&self, names: &[&str]) -> Identity {
        self.intermediate("in between").sign(names, |_| ())
    }

    /// The same with what leads to the authority.
    pub fn with_intermediate(&self, names: &[&str]) -> Identity {
        let between = self.intermediate("in between");
        let (mut chain, key) = between.sign(names, |_| ());
        chain.push(between.certificate);
        (chain, key)
    }

    /// What a client shows who it is with.
    pub fn client(&self, name: &str) -> ClientPem {
        self.client_with(name, KeyPair::generate().unwrap(), Form::Pkcs8)
    }

    /// The same with the key written as SEC 1 has it.
    pub fn sec1_client(&self, name: &str) -> ClientPem {
        self.client_with(name, KeyPair::generate().unwrap(), Form::Sec1)
    }

    /// The same with a key for RSA, written as PKCS #8 or as PKCS #1 has it.
    pub fn rsa_client(&self, name: &str, is_pkcs1: bool) -> ClientPem {
        let key = KeyPair::from_pem(&rsa_key(2048)).unwrap();
        self.client_with(name, key, if is_pkcs1 { Form::Pkcs1 } else { Form::Pkcs8 })
    }

    fn client_with(&self, name: &str, key: KeyPair, form: Form) -> ClientPem {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let (label, der) = match form {
            Form::Pkcs8 => ("PRIVATE KEY", key.serialize_der()),
            Form::Sec1 => ("EC PRIVATE KEY", inner_key(&key.serialize_der())),
            Form::Pkcs1 => ("RSA PRIVATE KEY", inner_key(&key.serialize_der())),
        };
        ClientPem { chain: certificate.pem(), key: pem(label, &der), leaf: certificate.der().clone() }
    }
}

/// A key for RSA as PKCS #8 has it. The `openssl` command makes it.
pub fn rsa_key(bits: u32) -> String {
    let bits = format!("rsa_keygen_bits:{bits}");
    let arguments = ["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", bits.as_str()];
    let output = Command::new("openssl").args(arguments).stderr(Stdio::inherit()).output().expect("openssl");
    assert!(output.status.success(), "openssl {arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// How a key is written.
enum Form {
    /// RFC 5208.
    Pkcs8,
    /// RFC 5915.
    Sec1,
    /// RFC 8017, appendix A.1.2.
    Pkcs1,
}

/// An identity of a client as a program has it in files.
#[derive(Clone)]
pub struct ClientPem {
    pub chain: String,
    pub key: String,
    pub leaf: CertificateDer<'static>,
}

/// The key inside a PKCS #8 key: a sequence of a version, an algorithm and an octet string.
fn inner_key(pkcs8: &[u8]) -> Vec<u8> {
    fn element(bytes: &[u8]) -> (&[u8], &[u8]) {
        let (length, head) = match bytes[1] {
            short @ 0..=0x7f => (usize::from(short), 2),
            long => {
                let count = usize::from(long & 0x7f);
                (bytes[2..2 + count].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), 2 + count)
            }
        };
        (&bytes[head..head + length], &bytes[head + length..])
    }
    let (content, _) = element(pkcs8);
    let (_version, rest) = element(content);
    let (_algorithm, rest) = element(rest);
    assert_eq!(rest[0], 4, "an octet string");
    element(rest).0.to_vec()
}

fn pem(label: &str, der: &[u8]) -> String {
    let mut text = Vec::new();
    writeln!(text, "-----BEGIN {label}-----").unwrap();
    for line in STANDARD.encode(der).as_bytes().chunks(64) {
        writeln!(text, "{}", std::str::from_utf8(line).unwrap()).unwrap();
    }
    writeln!(text, "-----END {label}-----").unwrap();
    String::from_utf8(text).unwrap()
}

/// A certificate for `localhost` and `127.0.0.1` that nobody signed but its own key.
pub fn self_signed() -> Identity {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let own = rcgen::generate_simple_self_signed(names).unwrap();
    (vec![own.cert.der().clone()], own.signing_key.serialize_der().try_into().unwrap())
}

/// An identity once more: a key has no `Clone`.
pub fn copy((chain, key): &Identity) -> Identity {
    (chain.clone(), key.clone_key())
}

/// Which certificates of clients a server wants.
pub struct Clients<'a> {
    /// Those that these have signed.
    pub of: &'a [&'a Authority],
    /// Clients without one are turned away.
    pub required: bool,
    /// Those whose certificates are accepted are named, RFC 8446 §4.2.4.
    pub named: bool,
}

impl<'a> Clients<'a> {
    pub fn required(of: &'a [&'a Authority]) -> Self {
        Self { of, required: true, named: true }
    }

    pub fn requested(of: &'a [&'a Authority]) -> Self {
        Self { required: false, ..Self::required(of) }
    }
}

/// A server that wants certificates of its clients.
pub fn asking(
    versions: &[&'static SupportedProtocolVersion],
    (chain, key): Identity,
    clients: &Clients<'_>,
) -> Arc<ServerConfig> {
    let mut roots = RootCertStore::empty();
    for authority in clients.of {
        roots.add(authority.certificate.clone()).unwrap();
    }
    let mut verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    if !clients.required {
        verifier = verifier.allow_unauthenticated();
    }
    if !clients.named {
        verifier = verifier.clear_root_hint_subjects();
    }
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions).unwrap();
    let builder = builder.with_client_cert_verifier(verifier.build().unwrap());
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// A server that shows a chain and signs with a key that is another's.
pub fn forging(
    versions: &[&'static SupportedProtocolVersion],
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Arc<ServerConfig> {
    let key = provider().key_provider.load_private_key(key).unwrap();
    resolving(versions, Shown(Arc::new(CertifiedKey::new(chain, key))))
}

fn resolving(
    versions: &[&'static SupportedProtocolVersion],
    resolver: impl ResolvesServerCert + 'static,
) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions).unwrap();
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// A server with several names, each with a certificate of its own (RFC 6066 §3); without a name comes the first.
pub fn naming(table: Vec<(&str, Identity)>) -> Arc<ServerConfig> {
    let load = |(name, (chain, key)): (&str, Identity)| {
        let key = provider().key_provider.load_private_key(key).unwrap();
        (name.to_owned(), Arc::new(CertifiedKey::new(chain, key)))
    };
    resolving(BOTH, Named(table.into_iter().map(load).collect()))
}

#[derive(Debug)]
struct Named(Vec<(String, Arc<CertifiedKey>)>);

impl ResolvesServerCert for Named {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name().unwrap_or(&self.0[0].0);
        self.0.iter().find(|(name, _)| name == asked).map(|(_, key)| Arc::clone(key))
    }
}
