//! Certificates made for a test, and a scripted server behind TLS.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, LazyLock};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};
use urlsession::{RootCertificates, SessionConfiguration};

use super::{Frame, Peer, frame};

pub const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12, &rustls::version::TLS13];
pub const ONLY_12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
pub const ONLY_13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// A root with what it signs.
pub struct Authority {
    pub pem: String,
    pub certificate: CertificateDer<'static>,
    pub issuer: Issuer<'static, KeyPair>,
}

/// The root that the tests trust.
pub static TRUSTED: LazyLock<Authority> = LazyLock::new(|| Authority::new("the root of these tests"));

/// A certificate chain and its key.
pub type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Authority {
    pub fn new(name: &str) -> Self {
        Self::with_key(name, KeyPair::generate().unwrap())
    }

    /// One that signs with this key.
    pub fn with_key(name: &str, key: KeyPair) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), certificate: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    /// A certificate for `names` (addresses are names, too), after `change`.
    pub fn sign(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        self.sign_key(&KeyPair::generate().unwrap(), names, change)
    }

    /// The same for a server that has this key.
    pub fn sign_key(&self, key: &KeyPair, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let certificate = params.signed_by(key, &self.issuer).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    /// What a session needs to trust this root, and it alone.
    pub fn configuration(&self) -> SessionConfiguration {
        let mut configuration = SessionConfiguration::default();
        configuration.root_certificates = RootCertificates::from_pem(self.pem.as_bytes()).unwrap();
        configuration
    }
}

/// The cryptography that the crate was built with.
pub fn provider() -> Arc<CryptoProvider> {
    #[cfg(feature = "ring")]
    return Arc::new(rustls::crypto::ring::default_provider());
    #[cfg(not(feature = "ring"))]
    return Arc::new(rustls::crypto::aws_lc_rs::default_provider());
}

/// A server for `localhost` and `127.0.0.1` that the tests trust.
pub fn trusted_server(versions: &[&'static SupportedProtocolVersion]) -> Arc<ServerConfig> {
    server_with(versions, TRUSTED.sign(&["localhost", "127.0.0.1"], |_| ()))
}

pub fn server_with(versions: &[&'static SupportedProtocolVersion], (chain, key): Identity) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions).unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

/// A server that wants a certificate of the client.
pub fn asking_server(versions: &[&'static SupportedProtocolVersion]) -> Arc<ServerConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(TRUSTED.certificate.clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap();
    let (chain, key) = TRUSTED.sign(&["localhost"], |_| ());
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions).unwrap();
    Arc::new(builder.with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap())
}

/// The server's side of one connection, behind TLS.
pub struct TlsPeer {
    pub connection: ServerConnection,
    pub stream: TcpStream,
    /// Ciphertext goes out one byte at a time.
    pub bytewise: bool,
}

impl TlsPeer {
    pub fn new(peer: Peer, config: &Arc<ServerConfig>) -> Self {
        let mut connection = ServerConnection::new(Arc::clone(config)).unwrap();
        connection.set_buffer_limit(None);
        Self { connection, stream: peer.stream, bytewise: false }
    }

    /// Does the handshake; the error of either side's.
    pub fn handshake(&mut self) -> Result<(), String> {
        while self.connection.is_handshaking() {
            self.step().map_err(|error| error.to_string())?;
        }
        self.flush().map_err(|error| error.to_string())
    }

    /// Writes what there is, then reads once.
    fn step(&mut self) -> io::Result<()> {
        self.flush()?;
        if self.connection.read_tls(&mut self.stream)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let processed = self.connection.process_new_packets();
        if processed.is_err() {
            // The alert.
            let _ = self.flush();
        }
        processed.map(drop).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Opens the WebSocket; the request.
    pub fn open(&mut self) -> String {
        let request = self.read_request();
        self.write_all(&Peer::switching_protocols(&request, "")).unwrap();
        self.flush().unwrap();
        request
    }

    pub fn read_request(&mut self) -> String {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            self.read_exact(&mut byte).expect("a request");
            head.push(byte[0]);
        }
        String::from_utf8(head).unwrap()
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.write_all(bytes).unwrap();
        self.flush().expect("the client reads");
    }

    /// The next frame of the client, or the error of the connection.
    pub fn try_read_frame(&mut self) -> io::Result<Frame> {
        let mut head = [0; 2];
        self.read_exact(&mut head)?;
        let length = match head[1] & 0x7f {
            126 => {
                let mut bytes = [0; 2];
                self.read_exact(&mut bytes)?;
                u64::from(u16::from_be_bytes(bytes))
            }
            127 => {
                let mut bytes = [0; 8];
                self.read_exact(&mut bytes)?;
                u64::from_be_bytes(bytes)
            }
            length => u64::from(length),
        };
        let mut key = [0; 4];
        self.read_exact(&mut key)?;
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.read_exact(&mut payload)?;
        payload.iter_mut().zip(key.into_iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        Ok(Frame { first: head[0], masked: head[1] & 0x80 != 0, payload })
    }

    /// Sends every message back until the client closes, and echoes the Close.
    pub fn echo(&mut self) {
        while let Ok(received) = self.try_read_frame() {
            match received.opcode() {
                8 => return self.send(&frame(0x88, &received.payload)),
                9 => self.send(&frame(0x8a, &received.payload)),
                10 => {}
                _ => self.send(&frame(received.first, &received.payload)),
            }
        }
    }

    /// Says that nothing more comes (RFC 8446 §6.1), and waits until the client has closed.
    pub fn close_notify(mut self) {
        self.connection.send_close_notify();
        let _ = self.flush();
        let _ = io::copy(&mut self.stream, &mut io::sink());
    }
}

impl Read for TlsPeer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.step()?,
                result => return result,
            }
        }
    }
}

impl Write for TlsPeer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.connection.writer().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut ciphertext = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut ciphertext)?;
        }
        let size = if self.bytewise { 1 } else { ciphertext.len().max(1) };
        ciphertext.chunks(size).try_for_each(|chunk| self.stream.write_all(chunk))
    }
}
