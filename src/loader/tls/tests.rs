use std::error::Error as _;
use std::io::{Read, Write};
use std::sync::LazyLock;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{AlertDescription, Error, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};

use super::*;
use crate::foundation::{ErrorStage, RootCertificates, provider};
use TlsProtocolVersion::{TlsV12, TlsV13};

mod identities;
mod records;
mod resumption;
mod tunnels;
mod verdicts;

/// A root with what it signs.
struct Authority {
    certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

static TRUSTED: LazyLock<Authority> = LazyLock::new(|| Authority::new("trusted"));

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate: certificate.der().clone(), pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    fn roots(&self) -> RootCertificates {
        RootCertificates::from_pem(self.pem.as_bytes()).unwrap()
    }

    /// A certificate for `names`, after `change`, with its key.
    fn sign(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12, &rustls::version::TLS13];

const ONLY_12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
const ONLY_13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

fn supported(version: TlsProtocolVersion) -> &'static [&'static SupportedProtocolVersion] {
    match version {
        TlsV12 => ONLY_12,
        TlsV13 => ONLY_13,
    }
}

fn server_config(
    versions: &[&'static SupportedProtocolVersion],
    identity: Identity,
    wants_client: bool,
) -> ServerConfig {
    let provider = Arc::new(provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions).unwrap();
    let builder = if wants_client {
        let mut roots = RootCertStore::empty();
        roots.add(TRUSTED.certificate.clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let (chain, key) = identity;
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// A client and a server, and the bytes between them.
struct Pair {
    client: TlsStream,
    server: ServerConnection,
    /// How the bytes to the client are cut.
    cut: usize,
    to_client: Vec<u8>,
    plaintext: Vec<u8>,
    /// An answer was awaited.
    presented: bool,
    handshake_done: bool,
    closed: bool,
    server_error: Option<Error>,
}

impl Pair {
    fn new(client: Arc<TlsContext>, host: &str, server: impl Into<Arc<ServerConfig>>, cut: usize) -> Self {
        Self::of(to(&client, host), server, cut)
    }

    fn of(client: Server<'_>, server: impl Into<Arc<ServerConfig>>, cut: usize) -> Self {
        let mut server = ServerConnection::new(server.into()).unwrap();
        server.set_buffer_limit(None);
        Self {
            client: TlsStream::new(client).unwrap(),
            server,
            cut,
            to_client: Vec::new(),
            plaintext: Vec::new(),
            presented: false,
            handshake_done: false,
            closed: false,
            server_error: None,
        }
    }

    /// A pair that trusts one another, for `localhost`.
    fn trusting(version: TlsProtocolVersion, cut: usize) -> Self {
        let client = context(&TRUSTED, version, version);
        Self::new(client, "localhost", server_config(BOTH, TRUSTED.sign(&["localhost"], |_| ()), false), cut)
    }

    /// Brings what the client has to say to the server, and what that answers to `to_client`.
    fn ask_server(&mut self) {
        let mut bytes = Vec::new();
        self.client.output(&mut bytes);
        assert!(!self.client.wants_write());
        let mut rest = bytes.as_slice();
        while !rest.is_empty() && self.server_error.is_none() {
            self.server.read_tls(&mut rest).unwrap();
            self.server_error = self.server.process_new_packets().err();
        }
        while self.server.wants_write() {
            self.server.write_tls(&mut self.to_client).unwrap();
        }
    }

    /// Brings what waits for the client to it, in pieces, until it waits for an answer.
    fn answer_client(&mut self) -> Result<(), UrlError> {
        let mut bytes = std::mem::take(&mut self.to_client);
        while !bytes.is_empty() && !self.client.is_waiting() {
            let rest = bytes.split_off(self.cut.min(bytes.len()));
            self.feed(&bytes)?;
            bytes = rest;
        }
        self.to_client = bytes;
        Ok(())
    }

    /// Gives `bytes` to the client.
    fn feed(&mut self, bytes: &[u8]) -> Result<(), UrlError> {
        let mut bytes = bytes.to_vec();
        let mut rest = bytes.as_mut_slice();
        loop {
            let before = self.plaintext.len();
            let received =
                self.client.received(&mut rest, &mut |plaintext| self.plaintext.extend_from_slice(plaintext))?;
            match received {
                Received::All => return Ok(()),
                Received::Closed => {
                    self.closed = true;
                    return Ok(());
                }
                Received::Presented => {
                    assert!(!std::mem::replace(&mut self.presented, true), "it is told once");
                    assert!(rest.is_empty() && !self.handshake_done);
                    return Ok(());
                }
                Received::Secured => {
                    assert!(!std::mem::replace(&mut self.handshake_done, true), "it is told once");
                    assert_eq!(self.plaintext.len(), before, "plaintext before the handshake is known to be done");
                }
            }
        }
    }

    fn say(&mut self, plaintext: &[u8]) {
        self.client.send(plaintext.len(), std::iter::once(plaintext)).unwrap();
    }

    /// Until neither has anything to say.
    fn run(&mut self) -> Result<(), UrlError> {
        loop {
            self.ask_server();
            if self.to_client.is_empty() || self.client.is_waiting() {
                return Ok(());
            }
            if let Err(error) = self.answer_client() {
                // The alert that tells the server.
                self.ask_server();
                return Err(error);
            }
        }
    }

    fn opened(mut self) -> Self {
        self.run().unwrap();
        assert_eq!((self.handshake_done, self.closed), (true, false));
        self
    }

    fn server_plaintext(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.server.reader().read_to_end(&mut bytes);
        bytes
    }
}

/// What trusts `roots`.
fn context(roots: &Authority, minimum: TlsProtocolVersion, maximum: TlsProtocolVersion) -> Arc<TlsContext> {
    Arc::new(TlsContext::new(&roots.roots(), minimum, maximum).unwrap())
}

fn client(roots: &Authority) -> Arc<TlsContext> {
    context(roots, TlsV12, TlsV13)
}

/// Nobody is asked.
fn to<'a>(context: &'a Arc<TlsContext>, host: &'a str) -> Server<'a> {
    Server { context, host, port: 443, asks: false, identity: None, through: None }
}

#[test]
fn handshake_and_messages_however_the_bytes_are_cut() {
    for version in [TlsV12, TlsV13] {
        for cut in [usize::MAX, 1, 7] {
            let mut pair = Pair::trusting(version, cut).opened();
            assert_eq!(pair.client.protocol_version(), Some(version));
            assert_eq!(pair.client.cipher_suite(), pair.server.negotiated_cipher_suite().map(|s| s.suite().into()));
            assert!(pair.client.cipher_suite().is_some());
            assert_eq!(pair.server.alpn_protocol(), Some(&b"http/1.1"[..]));
            assert_eq!(pair.server.server_name(), Some("localhost"));

            pair.say(b"question");
            assert!(pair.client.wants_write());
            pair.server.writer().write_all(b"answer").unwrap();
            pair.server.writer().write_all(b", more").unwrap();
            pair.run().unwrap();
            assert_eq!(pair.server_plaintext(), b"question");
            assert_eq!(pair.plaintext, b"answer, more");
        }
    }
}

#[test]
fn large_data_both_ways() {
    // More records than rustls writes at a time (64).
    let large: Vec<u8> =
        (0..(1u32 << 20) + 100_000).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for version in [TlsV12, TlsV13] {
        for cut in [usize::MAX, 1000] {
            let mut pair = Pair::trusting(version, cut).opened();
            pair.say(&large);
            pair.server.writer().write_all(&large).unwrap();
            // The server of the test takes no more than it has room for, so that it is emptied record by record.
            let mut bytes = Vec::new();
            pair.client.output(&mut bytes);
            let (mut rest, mut arrived) = (bytes.as_slice(), Vec::new());
            while !rest.is_empty() {
                pair.server.read_tls(&mut rest).unwrap();
                pair.server.process_new_packets().unwrap();
                arrived.extend(pair.server_plaintext());
            }
            pair.run().unwrap();
            assert!(arrived == large && pair.plaintext == large, "{version:?}, {cut}");
        }
    }
}

/// The host, what the server shows, and the error that it leads to.
type Case = (&'static str, Identity, Option<(ErrorCode, &'static str)>);

#[test]
fn certificates() {
    let other = Authority::new("other");
    let impostor = Authority::new("trusted");
    let old = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    };
    let future = |params: &mut CertificateParams| params.not_before = date_time_ymd(3000, 1, 1);
    let fine = |_: &mut CertificateParams| ();
    let many: Vec<String> = (0..9).map(|number| format!("{number}.example")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    use ErrorCode::*;
    let table: [Case; 17] = [
        ("localhost", TRUSTED.sign(&["localhost"], fine), None),
        ("a.example.com", TRUSTED.sign(&["*.example.com"], fine), None),
        ("example.com.", TRUSTED.sign(&["example.com"], fine), None),
        ("127.0.0.1", TRUSTED.sign(&["127.0.0.1"], fine), None),
        ("::1", TRUSTED.sign(&["::1"], fine), None),
        ("[::1]", TRUSTED.sign(&["::1"], fine), None),
        ("localhost", TRUSTED.sign(&["localhost"], old), Some((ServerCertificateHasBadDate, " days ago"))),
        ("localhost", TRUSTED.sign(&["localhost"], future), Some((ServerCertificateNotYetValid, " days from now"))),
        ("localhost", impostor.sign(&["localhost"], fine), Some((ServerCertificateUntrusted, "BadSignature"))),
        ("localhost", other.sign(&["localhost"], fine), Some((ServerCertificateHasUnknownRoot, "none of the root"))),
        (
            "localhost",
            TRUSTED.sign(&["other.example", "192.0.2.1"], fine),
            Some((ServerCertificateUntrusted, "not for `localhost` but for `other.example`, `192.0.2.1`")),
        ),
        ("a.example", TRUSTED.sign(&many, fine), Some((ServerCertificateUntrusted, "`3.example` and 5 more"))),
        ("b.a.example", TRUSTED.sign(&["*.example"], fine), Some((ServerCertificateUntrusted, "`*.example`"))),
        ("localhost", TRUSTED.sign(&[], fine), Some((ServerCertificateUntrusted, "but for no host"))),
        ("127.0.0.2", TRUSTED.sign(&["127.0.0.1"], fine), Some((ServerCertificateUntrusted, "for `127.0.0.1`"))),
        ("127.0.0.1", TRUSTED.sign(&["localhost"], fine), Some((ServerCertificateUntrusted, "for `localhost`"))),
        (
            "localhost",
            TRUSTED.sign(&["localhost"], |params| {
                params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
            }),
            Some((ServerCertificateUntrusted, "not good")),
        ),
    ];
    let config = client(&TRUSTED);
    for (host, identity, expected) in table {
        let mut pair = Pair::new(Arc::clone(&config), host, server_config(BOTH, identity, false), usize::MAX);
        let result = pair.run();
        let Some((code, reason)) = expected else {
            result.unwrap();
            assert!(pair.handshake_done, "{host}");
            let is_name = host.contains("local") || host.contains("example");
            assert_eq!(pair.server.server_name(), is_name.then(|| host.trim_end_matches('.')));
            continue;
        };
        let error = result.unwrap_err();
        assert_eq!((error.code(), error.stage()), (code, ErrorStage::Tls), "{error}");
        assert!(error.reason().contains(reason), "{error}");
        assert!(error.source().is_some_and(|source| source.is::<Error>()));
        // The server is told, and the connection stays as it is.
        assert!(matches!(pair.server_error, Some(Error::AlertReceived(_))), "{:?}", pair.server_error);
        let again = pair.feed(b"more").unwrap_err();
        assert_eq!(again.code(), code);
    }
}

#[test]
fn versions() {
    let server = |versions| server_config(versions, TRUSTED.sign(&["localhost"], |_| ()), false);
    let table = [
        (TlsV12, TlsV13, BOTH, Some(TlsV13)),
        (TlsV12, TlsV12, BOTH, Some(TlsV12)),
        (TlsV13, TlsV13, BOTH, Some(TlsV13)),
        (TlsV12, TlsV13, supported(TlsV12), Some(TlsV12)),
        (TlsV13, TlsV13, supported(TlsV12), None),
        (TlsV12, TlsV12, supported(TlsV13), None),
    ];
    for (minimum, maximum, offered, chosen) in table {
        let client = context(&TRUSTED, minimum, maximum);
        let mut pair = Pair::new(client, "localhost", server(offered), usize::MAX);
        match (pair.run(), chosen) {
            (Ok(()), Some(_)) => assert_eq!(pair.client.protocol_version(), chosen),
            (Err(error), None) => {
                assert_eq!((error.code(), error.stage()), (ErrorCode::SecureConnectionFailed, ErrorStage::Tls));
                assert!(error.reason().contains("none of the versions"), "{error}");
            }
            (result, _) => panic!("{minimum:?} to {maximum:?}: {result:?}"),
        }
    }
    let error = TlsContext::new(&TRUSTED.roots(), TlsV13, TlsV12).unwrap_err();
    assert_eq!((error.code(), error.stage()), (ErrorCode::SecureConnectionFailed, ErrorStage::Request));
    assert!(error.reason().contains("TlsV13") && error.reason().contains("TlsV12"), "{error}");
}

#[test]
fn a_host_that_no_certificate_can_be_for() {
    for host in ["", "a..b", "[::1", "a b", "-.example"] {
        let error = TlsStream::new(to(&client(&TRUSTED), host)).unwrap_err();
        assert_eq!((error.code(), error.stage()), (ErrorCode::SecureConnectionFailed, ErrorStage::Tls), "{host}");
    }
}

#[test]
fn close_notify_of_the_server() {
    for version in [TlsV12, TlsV13] {
        for cut in [usize::MAX, 1] {
            let mut pair = Pair::trusting(version, cut).opened();
            pair.server.writer().write_all(b"last words").unwrap();
            pair.server.send_close_notify();
            pair.ask_server();
            // Nothing after it counts, be it good or not.
            pair.to_client.extend_from_slice(b"HTTP/1.1 200 OK\r\n\r\n");
            pair.answer_client().unwrap();
            assert_eq!((pair.handshake_done, pair.closed), (true, true));
            assert_eq!(pair.plaintext, b"last words");
            // The other direction is still open: RFC 8446 §6.1.
            pair.say(b"and mine");
            pair.client.close();
            pair.say(b"never");
            pair.ask_server();
            assert_eq!(pair.server_plaintext(), b"and mine");
            assert!(pair.server.process_new_packets().unwrap().peer_has_closed());
        }
    }
}

#[test]
fn close_notify_in_the_handshake_is_neither_an_end_nor_a_beginning() {
    const CLOSE_NOTIFY: [u8; 7] = [21, 3, 3, 0, 2, 1, 0];
    for version in [TlsV12, TlsV13] {
        let mut records = 1;
        let mut at = 0;
        while at < records {
            let mut pair = Pair::trusting(version, usize::MAX);
            pair.ask_server();
            let ends = record_ends(&pair.to_client);
            records = ends.len();
            // Before the first record of the server, after the first, …; the last would end its flight.
            let place = if at == 0 { 0 } else { ends[at - 1] };
            pair.to_client.splice(place..place, CLOSE_NOTIFY);
            // A warning that TLS 1.2 passes over, or an error: what has no key yet may come from anybody.
            match pair.answer_client().and_then(|()| pair.run()) {
                Ok(()) => assert!(pair.handshake_done, "{version:?}, {at}"),
                Err(error) => assert_eq!(error.code(), ErrorCode::SecureConnectionFailed),
            }
            assert!(!pair.closed, "{version:?}, {at}");
            at += 1;
        }
    }
}

fn record_ends(bytes: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        at += 5 + usize::from(u16::from_be_bytes([bytes[at + 3], bytes[at + 4]]));
        ends.push(at);
    }
    ends
}

#[test]
fn our_close_notify_at_any_point_ends_everything() {
    for version in [TlsV12, TlsV13] {
        // Before a byte of the server, within its flight, after the handshake.
        for taken in [0, 1, 100, usize::MAX] {
            let mut pair = Pair::trusting(version, usize::MAX);
            pair.ask_server();
            let all = std::mem::take(&mut pair.to_client);
            pair.feed(&all[..taken.min(all.len())]).unwrap();
            if taken == usize::MAX {
                pair.run().unwrap();
            }
            pair.client.close();
            pair.client.close();
            let is_told = pair.handshake_done;
            // Neither good bytes nor bad ones are looked at.
            for bytes in [&all[taken.min(all.len())..], b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
                pair.feed(bytes).unwrap();
                assert!(!pair.closed);
            }
            let mut output = Vec::new();
            pair.client.output(&mut output);
            assert!(!pair.client.wants_write() && pair.plaintext.is_empty());
            assert_eq!(is_told, taken == usize::MAX);
            let _ = pair.server.read_tls(&mut output.as_slice()).unwrap();
            // Within the handshake the end of TCP has to do.
            assert_eq!(pair.server.process_new_packets().is_ok_and(|state| state.peer_has_closed()), is_told);
        }
    }
}

#[test]
fn what_is_not_tls() {
    let table: [(&[u8], &str); 5] = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not TLS"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "not TLS"),
        (b"\x16\x48\x54\x54\x50\x00\x00\x00", "not TLS"),
        (b"\x16\x03\x03\xff\xff\x00\x00\x00", "MessageTooLarge"),
        (b"\x17\x03\x03\x00\x05hello", ""),
    ];
    for (bytes, reason) in table {
        for cut in [usize::MAX, 1] {
            let mut pair = Pair::trusting(TlsV13, cut);
            pair.to_client = bytes.to_vec();
            let error = pair.answer_client().unwrap_err();
            assert_eq!((error.code(), error.stage()), (ErrorCode::SecureConnectionFailed, ErrorStage::Tls));
            assert!(error.reason().contains(reason), "{error}");
            assert!(pair.plaintext.is_empty() && !pair.handshake_done);
        }
    }
}

#[test]
fn a_changed_byte_of_the_handshake_never_opens() {
    for version in [TlsV12, TlsV13] {
        let mut reference = Pair::trusting(version, usize::MAX);
        reference.ask_server();
        let length = reference.to_client.len();
        for place in (0..length).step_by(13) {
            let mut pair = Pair::trusting(version, usize::MAX);
            pair.ask_server();
            let ends = record_ends(&pair.to_client);
            let starts = std::iter::once(0).chain(ends);
            // The header of a record is not part of what is signed; its version is passed over.
            if starts.into_iter().any(|start| (start..start + 5).contains(&place)) || place >= pair.to_client.len() {
                continue;
            }
            pair.to_client[place] ^= 0x41;
            let ended = pair.run();
            assert!(!pair.handshake_done || pair.server_error.is_some(), "{version:?}, {place}");
            assert!(ended.is_err() || pair.server_error.is_some() || pair.server.is_handshaking());
            assert!(pair.plaintext.is_empty());
        }
    }
}

#[test]
fn what_came_before_a_fault_is_delivered() {
    for version in [TlsV12, TlsV13] {
        let mut pair = Pair::trusting(version, usize::MAX).opened();
        pair.server.writer().write_all(b"before").unwrap();
        pair.ask_server();
        let good = pair.to_client.len();
        pair.server.writer().write_all(b"after").unwrap();
        pair.ask_server();
        pair.to_client[good + 8] ^= 1;
        let error = pair.run().unwrap_err();
        assert_eq!((error.code(), error.stage()), (ErrorCode::SecureConnectionFailed, ErrorStage::Tls));
        assert_eq!(pair.plaintext, b"before");
        assert!(matches!(pair.server_error, Some(Error::AlertReceived(AlertDescription::BadRecordMac))));
        // A failed connection takes no more.
        pair.say(b"never");
        assert!(!pair.client.wants_write());
        pair.client.close();
        assert!(!pair.client.wants_write());
        assert_eq!(pair.feed(b"").unwrap_err().code(), error.code());
    }
}

#[test]
fn a_server_that_requires_a_client_certificate() {
    for version in [TlsV12, TlsV13] {
        for cut in [usize::MAX, 1] {
            let server = server_config(supported(version), TRUSTED.sign(&["localhost"], |_| ()), true);
            let mut pair = Pair::new(client(&TRUSTED), "localhost", server, cut);
            let error = pair.run().unwrap_err();
            assert_eq!((error.code(), error.stage()), (ErrorCode::ClientCertificateRequired, ErrorStage::Tls));
        }
    }
}

#[test]
fn alerts_of_the_server() {
    use ErrorCode::{ClientCertificateRejected, ClientCertificateRequired, SecureConnectionFailed};
    let table = [
        (10, SecureConnectionFailed, "UnexpectedMessage"),
        (40, SecureConnectionFailed, "HandshakeFailure"),
        (42, ClientCertificateRejected, "BadCertificate"),
        (43, ClientCertificateRejected, "UnsupportedCertificate"),
        (44, ClientCertificateRejected, "CertificateRevoked"),
        (45, ClientCertificateRejected, "CertificateExpired"),
        (46, ClientCertificateRejected, "CertificateUnknown"),
        (48, ClientCertificateRejected, "UnknownCA"),
        (49, ClientCertificateRejected, "AccessDenied"),
        (70, SecureConnectionFailed, "none of the versions"),
        (80, SecureConnectionFailed, "InternalError"),
        (112, SecureConnectionFailed, "does not know the host"),
        (116, ClientCertificateRequired, "requires a certificate"),
        (120, SecureConnectionFailed, "does not speak HTTP/1.1"),
        (200, SecureConnectionFailed, "ended the TLS connection"),
    ];
    for (alert, code, reason) in table {
        let mut pair = Pair::trusting(TlsV13, usize::MAX);
        pair.to_client = vec![21, 3, 3, 0, 2, 2, alert];
        let error = pair.answer_client().unwrap_err();
        assert_eq!((error.code(), error.stage()), (code, ErrorStage::Tls), "{alert}");
        assert!(error.reason().contains(reason), "{error}");
    }
}
