//! The client's certificate.

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::{HandshakeKind, NamedGroup};

use super::verdicts::asking;
use super::*;

/// An identity that this authority has signed.
pub fn identity(authority: &Authority) -> ClientIdentity {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "client");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority.issuer).unwrap();
    ClientIdentity::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap()
}

/// A server that requires a certificate.
pub fn requiring(version: TlsProtocolVersion) -> ServerConfig {
    server_config(supported(version), TRUSTED.sign(&["localhost"], |_| ()), true)
}

impl Pair {
    #[track_caller]
    pub fn assert_knows(&self, identity: Option<&ClientIdentity>) {
        assert_eq!(self.server.peer_certificates(), identity.map(|identity| &identity.certified_key().cert[..]));
    }
}

#[test]
fn a_certificate_on_the_same_connection() {
    let mine = identity(&TRUSTED);
    for version in [TlsV12, TlsV13] {
        for (cut, fragment) in [(usize::MAX, None), (1, None), (7, Some(40)), (50, None), (usize::MAX, Some(100))] {
            let mut server = requiring(version);
            server.max_fragment_size = fragment;
            let context = client(&TRUSTED);
            let mut pair = Pair::of(asking(&context), server, cut).presented();
            let mut roots = RootCertStore::empty();
            roots.add(TRUSTED.certificate.clone()).unwrap();
            let authorities: Vec<Vec<u8>> = roots.subjects().iter().map(|name| name.as_ref().to_vec()).collect();
            assert_eq!(pair.client.certificate_request(), Some(authorities));
            assert!(pair.go_on(Some(&mine)).unwrap(), "{version:?}, {cut}");
            assert_eq!(pair.client.certificate_request(), None);
            pair.assert_knows(Some(&mine));
            pair.assert_talks();
            assert_eq!(pair.client.protocol_version(), Some(version));
            assert_eq!(pair.client.asked, Asked::Answered);
        }
    }
}

/// A server of TLS 1.3 that requires a certificate, and takes keys of this group alone.
fn requiring_group(group: NamedGroup) -> Arc<ServerConfig> {
    let mut provider = provider();
    provider.kx_groups.retain(|supported| supported.name() == group);
    let provider = Arc::new(provider);
    let mut roots = RootCertStore::empty();
    roots.add(TRUSTED.certificate.clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let (chain, key) = TRUSTED.sign(&["localhost"], |_| ());
    let server = ServerConfig::builder_with_provider(provider).with_protocol_versions(ONLY_13).unwrap();
    Arc::new(server.with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap())
}

#[test]
fn a_server_that_asks_for_another_key_share_first() {
    let mine = identity(&TRUSTED);
    for (place, group) in provider().kx_groups.iter().enumerate() {
        for cut in [usize::MAX, 1] {
            let server = requiring_group(group.name());
            let context = client(&TRUSTED);
            let second = if place == 0 { HandshakeKind::Full } else { HandshakeKind::FullWithHelloRetryRequest };
            // The one after it knows which share it is to be.
            for kind in [second, HandshakeKind::Full] {
                let mut pair = Pair::of(asking(&context), Arc::clone(&server), cut).presented();
                assert!(pair.go_on(Some(&mine)).unwrap(), "{group:?}");
                assert_eq!(pair.server.handshake_kind(), Some(kind), "{group:?}");
                pair.assert_knows(Some(&mine));
                pair.assert_talks();
            }
        }
    }
}

#[test]
fn both_halves_of_a_hybrid_key_share() {
    // Where the cryptography has one: it is sent where a server wanted it before, and its classical half with it.
    let groups = provider().kx_groups;
    let Some(hybrid) = groups.iter().find(|group| group.name() == NamedGroup::X25519MLKEM768) else { return };
    let mine = identity(&TRUSTED);
    let context = client(&TRUSTED);
    for group in [hybrid.name(), hybrid.name(), NamedGroup::X25519, hybrid.name()] {
        let mut pair = Pair::of(asking(&context), requiring_group(group), usize::MAX).presented();
        assert!(pair.go_on(Some(&mine)).unwrap(), "{group:?}");
        pair.assert_knows(Some(&mine));
        pair.assert_talks();
        assert_eq!(pair.server.negotiated_key_exchange_group().map(|group| group.name()), Some(group));
    }
}

#[test]
fn a_certificate_that_is_there_from_the_beginning() {
    let (mine, other) = (identity(&TRUSTED), identity(&TRUSTED));
    for version in [TlsV12, TlsV13] {
        for cut in [usize::MAX, 1] {
            let context = client(&TRUSTED);
            let server = || Server { identity: Some(mine.clone()), ..to(&context, "localhost") };
            let mut pair = Pair::of(server(), requiring(version), cut).opened();
            pair.assert_knows(Some(&mine));
            pair.assert_talks();
            // The answer decides, whatever there was.
            for answer in [Some(&mine), Some(&other), None] {
                let context = client(&TRUSTED);
                let server = Server { identity: Some(mine.clone()), ..asking(&context) };
                let mut pair = Pair::of(server, requiring(version), cut).presented();
                let result = pair.go_on(answer);
                match answer {
                    Some(_) => assert!(result.unwrap()),
                    None => assert_eq!(result.unwrap_err().code(), ErrorCode::ClientCertificateRequired),
                }
                pair.assert_knows(answer);
            }
            // A server that does not ask is not told.
            let context = client(&TRUSTED);
            let server = Server { identity: Some(mine.clone()), ..to(&context, "localhost") };
            let config = server_config(supported(version), TRUSTED.sign(&["localhost"], |_| ()), false);
            let pair = Pair::of(server, config, cut).opened();
            pair.assert_knows(None);
            let context = client(&TRUSTED);
            let config = server_config(supported(version), TRUSTED.sign(&["localhost"], |_| ()), false);
            let mut pair = Pair::of(asking(&context), config, cut).presented();
            assert!(pair.go_on(Some(&mine)).unwrap());
            pair.assert_knows(None);
            pair.assert_talks();
        }
    }
}

/// A server that requires a certificate with a key of another kind.
fn only_rsa(version: TlsProtocolVersion) -> ServerConfig {
    let mut limited = provider();
    let all = limited.signature_verification_algorithms;
    let mapping: Vec<_> =
        all.mapping.iter().filter(|(scheme, _)| format!("{scheme:?}").starts_with("RSA")).copied().collect();
    limited.signature_verification_algorithms = WebPkiSupportedAlgorithms { mapping: mapping.leak(), ..all };
    let limited = Arc::new(limited);
    let mut roots = RootCertStore::empty();
    roots.add(TRUSTED.certificate.clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), limited).build().unwrap();
    let (chain, key) = TRUSTED.sign(&["localhost"], |_| ());
    ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(supported(version))
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap()
}

#[test]
fn certificates_that_do_not_help() {
    use ErrorCode::{ClientCertificateRejected, ClientCertificateRequired};
    let stranger = identity(&Authority::new("stranger"));
    let mine = identity(&TRUSTED);
    type Case<'a> = (fn(TlsProtocolVersion) -> ServerConfig, Option<&'a ClientIdentity>, ErrorCode, &'static str);
    let table: [Case<'_>; 3] = [
        (requiring, None, ClientCertificateRequired, "a certificate of the client"),
        (requiring, Some(&stranger), ClientCertificateRejected, "does not accept the certificate"),
        (only_rsa, Some(&mine), ClientCertificateRejected, "makes none of the signatures"),
    ];
    for version in [TlsV12, TlsV13] {
        for cut in [usize::MAX, 1] {
            for (server, identity, code, reason) in table {
                let context = client(&TRUSTED);
                let plain = Server { identity: identity.cloned(), ..to(&context, "localhost") };
                let error = Pair::of(plain, server(version), cut).run().unwrap_err();
                assert_eq!((error.code(), error.stage()), (code, ErrorStage::Tls), "{error}");
                assert!(error.reason().contains(reason), "{error}");
                let mut pair = Pair::of(asking(&context), server(version), cut).presented();
                let error = pair.go_on(identity).unwrap_err();
                assert_eq!((error.code(), error.stage()), (code, ErrorStage::Tls), "{error}");
                assert!(error.reason().contains(reason), "{error}");
                assert_eq!(pair.feed(b"").unwrap_err().code(), code);
            }
        }
    }
}

#[test]
fn alerts_of_a_server_that_has_asked() {
    use ErrorCode::SecureConnectionFailed as Failed;
    use ErrorCode::{ClientCertificateRejected as Rejected, ClientCertificateRequired as Required};
    // Its number; where nothing was asked, where there was none, one that did not fit, one that was sent.
    let table = [
        (10, [Failed, Failed, Failed, Failed]),
        (40, [Failed, Required, Rejected, Rejected]),
        (42, [Rejected, Required, Rejected, Rejected]),
        (46, [Rejected, Required, Rejected, Rejected]),
        (47, [Failed, Failed, Failed, Rejected]),
        (49, [Rejected, Required, Rejected, Rejected]),
        (51, [Failed, Failed, Failed, Rejected]),
        (80, [Failed, Failed, Failed, Failed]),
        (116, [Required, Required, Rejected, Required]),
    ];
    for (alert, codes) in table {
        let states = [Asked::No, Asked::Unanswered, Asked::Unfit, Asked::Answered];
        for (asked, code) in states.into_iter().zip(codes) {
            let error = explained_after(Error::AlertReceived(AlertDescription::from(alert)), asked);
            assert_eq!(error.code(), code, "{alert}, {asked:?}");
        }
    }
}
