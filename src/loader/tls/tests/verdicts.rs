//! Somebody is asked whether the server is trusted.

use rustls::NamedGroup;
use rustls::crypto::{ActiveKeyExchange, SharedSecret, SupportedKxGroup};
use rustls::server::ResolvesServerCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::*;

/// Somebody is asked.
pub fn asking(context: &Arc<TlsContext>) -> Server<'_> {
    Server { asks: true, ..to(context, "localhost") }
}

impl Pair {
    /// Until the answer is awaited.
    pub fn presented(mut self) -> Self {
        self.run().unwrap();
        assert!(self.presented && self.client.is_waiting() && !self.handshake_done);
        self.assert_silent();
        self
    }

    /// Nothing goes out.
    #[track_caller]
    pub fn assert_silent(&mut self) {
        assert!(!self.client.wants_write());
        let mut bytes = Vec::new();
        self.client.output(&mut bytes);
        assert_eq!(bytes, b"");
    }

    /// The server is trusted; the handshake goes on to its end.
    pub fn go_on(&mut self, identity: Option<&ClientIdentity>) -> Result<bool, UrlError> {
        let is_here = self.client.go_on(identity.cloned())?;
        if is_here {
            assert!(!self.client.is_waiting());
            self.feed(b"")?;
            self.run()?;
        }
        Ok(is_here)
    }

    pub fn assert_talks(&mut self) {
        assert!(self.handshake_done);
        self.say(b"question");
        self.server.writer().write_all(b"answer").unwrap();
        self.run().unwrap();
        assert_eq!(self.server_plaintext(), b"question");
        assert_eq!(std::mem::take(&mut self.plaintext), b"answer");
        assert!(self.client.handshake.is_none(), "nothing of the handshake is kept");
    }
}

#[test]
fn whoever_is_trusted() {
    let unknown = Authority::new("unknown");
    for version in [TlsV12, TlsV13] {
        for (cut, fragment) in [(usize::MAX, None), (1, None), (7, Some(40)), (50, None), (usize::MAX, Some(100))] {
            let identity = unknown.sign(&["other.example"], |_| ());
            let chain = [identity.0[0].to_vec()];
            let mut server = server_config(supported(version), identity, false);
            server.max_fragment_size = fragment;
            let context = client(&TRUSTED);
            let mut pair = Pair::of(asking(&context), server, cut).presented();
            let trust = pair.client.trust().unwrap();
            assert_eq!((trust.host(), trust.certificate_chain()), ("localhost", &chain[..]));
            assert_eq!(trust.evaluate().unwrap_err().code(), ErrorCode::ServerCertificateHasUnknownRoot);
            let error = trust.evaluate_with_anchors(&unknown.roots()).unwrap_err();
            assert_eq!(error.code(), ErrorCode::ServerCertificateUntrusted);
            assert_eq!(pair.client.certificate_request(), None);
            // It is the same one each time, and nothing is taken meanwhile.
            assert_eq!(pair.client.trust(), Some(trust));
            let mut more = *b"more";
            let mut rest = more.as_mut_slice();
            assert_eq!(pair.client.received(&mut rest, &mut |_| ()).unwrap(), Received::All);
            assert_eq!(rest.len(), 4);
            pair.assert_silent();
            assert!(pair.go_on(None).unwrap());
            assert_eq!((pair.client.trust(), pair.client.protocol_version()), (None, Some(version)));
            pair.assert_talks();
            assert!(pair.client.go_on(None).unwrap(), "it is too late to ask");
        }
    }
}

#[test]
fn whoever_is_not_trusted() {
    for version in [TlsV12, TlsV13] {
        for cut in [usize::MAX, 1, 7] {
            for wants_client in [false, true] {
                let server = server_config(supported(version), TRUSTED.sign(&["localhost"], |_| ()), wants_client);
                let context = client(&TRUSTED);
                let mut pair = Pair::of(asking(&context), server, cut).presented();
                pair.client.refuse();
                assert!(!pair.client.is_waiting());
                pair.ask_server();
                let error = pair.server_error.take();
                assert_eq!(error, Some(Error::AlertReceived(AlertDescription::BadCertificate)), "{version:?}, {cut}");
                for bytes in [&b""[..], b"more"] {
                    assert_eq!(pair.feed(bytes).unwrap_err().code(), ErrorCode::ServerCertificateUntrusted);
                }
                let error = pair.client.go_on(None).unwrap_err();
                assert_eq!((error.code(), error.stage()), (ErrorCode::ServerCertificateUntrusted, ErrorStage::Tls));
                pair.client.refuse();
                pair.client.close();
                pair.assert_silent();
                assert!(!pair.handshake_done && pair.plaintext.is_empty());
            }
        }
    }
}

#[test]
fn a_refused_server_gets_one_record_at_most() {
    for version in [TlsV12, TlsV13] {
        let context = client(&TRUSTED);
        let server = server_config(supported(version), TRUSTED.sign(&["localhost"], |_| ()), true);
        let mut pair = Pair::of(asking(&context), server, usize::MAX).presented();
        pair.client.refuse();
        let mut bytes = Vec::new();
        pair.client.output(&mut bytes);
        let types: Vec<u8> =
            std::iter::once(0).chain(record_ends(&bytes)).filter_map(|start| bytes.get(start).copied()).collect();
        // An alert; of TLS 1.3, the change of the cipher that means nothing, and the alert encrypted.
        let expected: &[u8] = if version == TlsV12 { &[21] } else { &[20, 23] };
        assert_eq!(types, expected);
    }
}

#[test]
fn an_answer_that_never_comes() {
    for version in [TlsV12, TlsV13] {
        let context = client(&TRUSTED);
        let server = server_config(supported(version), TRUSTED.sign(&["localhost"], |_| ()), true);
        let mut pair = Pair::of(asking(&context), server, usize::MAX).presented();
        pair.client.close();
        pair.assert_silent();
        pair.feed(b"more").unwrap();
        assert!(pair.client.go_on(None).unwrap());
        pair.assert_silent();
        assert!(!pair.handshake_done);
    }
}

/// The certificate of one key, and another key.
fn impostor(version: TlsProtocolVersion) -> ServerConfig {
    let (chain, _) = TRUSTED.sign(&["localhost"], |_| ());
    let (_, key) = TRUSTED.sign(&["localhost"], |_| ());
    let key = provider().key_provider.load_private_key(key).unwrap();
    let resolver: Arc<dyn ResolvesServerCert> = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)));
    ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(supported(version))
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(resolver)
}

#[test]
fn nobody_is_asked_about_one_without_its_key() {
    for version in [TlsV12, TlsV13] {
        for cut in [usize::MAX, 1] {
            let context = client(&TRUSTED);
            let mut pair = Pair::of(asking(&context), impostor(version), cut);
            let error = pair.run().unwrap_err();
            assert_eq!(error.code(), ErrorCode::ServerCertificateUntrusted, "{error}");
            assert!(!pair.presented && pair.client.trust().is_none());
            let told = pair.server_error.take();
            assert_eq!(told, Some(Error::AlertReceived(AlertDescription::DecryptError)));
        }
    }
}

#[test]
fn a_changed_byte_never_opens_where_somebody_is_asked() {
    for version in [TlsV12, TlsV13] {
        let server = Arc::new(server_config(supported(version), TRUSTED.sign(&["localhost"], |_| ()), false));
        let context = client(&TRUSTED);
        let mut reference = Pair::of(asking(&context), Arc::clone(&server), usize::MAX);
        reference.ask_server();
        for place in (5..reference.to_client.len()).step_by(11) {
            // No tickets of one before.
            let context = client(&TRUSTED);
            let mut pair = Pair::of(asking(&context), Arc::clone(&server), usize::MAX);
            pair.ask_server();
            let starts = std::iter::once(0).chain(record_ends(&pair.to_client));
            if starts.into_iter().any(|start| (start..start + 5).contains(&place)) || place >= pair.to_client.len() {
                continue;
            }
            pair.to_client[place] ^= 0x41;
            let ended = pair.run().and_then(|()| match pair.presented {
                true => pair.go_on(None),
                false => Ok(false),
            });
            assert!(ended.is_err() || pair.server_error.is_some() || pair.server.is_handshaking(), "{place}");
            assert!(!pair.handshake_done || pair.server_error.is_some(), "{version:?}, {place}");
        }
    }
}

#[test]
fn what_the_server_says_too_early_waits() {
    for cut in [usize::MAX, 1] {
        let mut server = server_config(ONLY_13, TRUSTED.sign(&["localhost"], |_| ()), false);
        server.send_half_rtt_data = true;
        let context = client(&TRUSTED);
        let mut pair = Pair::of(asking(&context), server, cut);
        // More than one message of the handshake may be long.
        let early = vec![7; 100_000];
        pair.server.writer().write_all(&early).unwrap();
        let mut pair = pair.presented();
        assert!(pair.plaintext.is_empty());
        assert!(pair.go_on(None).unwrap());
        assert!(pair.handshake_done && std::mem::take(&mut pair.plaintext) == early);
        pair.assert_talks();
        assert_eq!(pair.client.kept.memory(), 0);
    }
}

#[test]
fn a_handshake_that_is_too_long_to_be_done_over() {
    let mut server = server_config(ONLY_13, TRUSTED.sign(&["localhost"], |_| ()), false);
    server.send_half_rtt_data = true;
    let server = Arc::new(server);
    // What is kept of the server's bytes is limited; beyond, it is told nothing.
    for (early, told) in [(100_000, true), (150_000, false)] {
        let context = client(&TRUSTED);
        let mut pair = Pair::of(asking(&context), Arc::clone(&server), usize::MAX);
        pair.server.writer().write_all(&vec![7; early]).unwrap();
        let mut pair = pair.presented();
        pair.client.refuse();
        pair.ask_server();
        assert_eq!(pair.server_error.is_some(), told, "{early}");
    }
}

/// A key exchange whose public key is none.
#[derive(Debug)]
struct Bad(&'static dyn SupportedKxGroup);

struct Started(Box<dyn ActiveKeyExchange>);

impl SupportedKxGroup for Bad {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        Ok(Box::new(Started(self.0.start()?)))
    }

    fn name(&self) -> NamedGroup {
        self.0.name()
    }
}

impl ActiveKeyExchange for Started {
    fn complete(self: Box<Self>, share: &[u8]) -> Result<SharedSecret, Error> {
        self.0.complete(share)
    }

    fn pub_key(&self) -> &[u8] {
        &[0; 32]
    }

    fn group(&self) -> NamedGroup {
        self.0.group()
    }
}

#[test]
fn who_the_client_is_is_not_told_by_a_fault() {
    let mut bad = provider();
    let inner = bad.kx_groups.iter().copied().find(|group| group.name() == NamedGroup::X25519).unwrap();
    bad.kx_groups = vec![Box::leak(Box::new(Bad(inner)))];
    let bad = Arc::new(bad);
    let mut roots = RootCertStore::empty();
    roots.add(TRUSTED.certificate.clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&bad)).build().unwrap();
    let (chain, key) = TRUSTED.sign(&["localhost"], |_| ());
    let server = ServerConfig::builder_with_provider(bad)
        .with_protocol_versions(ONLY_12)
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    let context = client(&TRUSTED);
    let identity = Some(identities::identity(&TRUSTED));
    let mut pair = Pair::of(Server { identity, ..asking(&context) }, server, usize::MAX);
    pair.ask_server();
    let error = pair.answer_client().unwrap_err();
    assert_eq!(error.code(), ErrorCode::SecureConnectionFailed, "{error}");
    let mut bytes = Vec::new();
    pair.client.output(&mut bytes);
    assert!(!pair.presented && bytes.len() == 7 && bytes[0] == 21, "only an alert: {bytes:?}");
}

#[test]
fn kinds_of_connections() {
    let context = client(&TRUSTED);
    let first = context.config(1, true, None);
    assert!(Arc::ptr_eq(&first, &context.config(1, true, None)));
    assert!(!Arc::ptr_eq(&first, &context.config(1, false, None)));
    let identity = identities::identity(&TRUSTED);
    let identified = context.config(1, true, Some(&identity));
    assert!(Arc::ptr_eq(&identified, &context.config(1, true, Some(&identity))));
    assert!(!Arc::ptr_eq(&identified, &context.config(1, true, Some(&identities::identity(&TRUSTED)))));
    // 64 are kept; what was used goes last.
    for port in 100..300 {
        context.config(port, true, None);
        assert!(Arc::ptr_eq(&first, &context.config(1, true, None)));
    }
    assert!(!Arc::ptr_eq(&identified, &context.config(1, true, Some(&identity))));
    assert_eq!(Arc::strong_count(&identified), 1);
}
