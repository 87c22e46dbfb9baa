//! Which connections are resumed, and which never.

use rustls::HandshakeKind::{self, Full, Resumed};

use super::identities::{identity, requiring};
use super::verdicts::asking;
use super::*;

/// One that lets a client without a certificate in.
fn optional(version: TlsProtocolVersion) -> ServerConfig {
    let provider = Arc::new(provider());
    let mut roots = RootCertStore::empty();
    roots.add(TRUSTED.certificate.clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .unwrap();
    let (chain, key) = TRUSTED.sign(&["localhost", "other.example"], |_| ());
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(supported(version))
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap()
}

/// One that asks nobody.
fn plain(version: TlsProtocolVersion) -> Arc<ServerConfig> {
    let identity = TRUSTED.sign(&["localhost", "other.example"], |_| ());
    Arc::new(server_config(supported(version), identity, false))
}

/// One connection, with `answer` where somebody is asked; how the server made it.
fn connect(server: Server<'_>, config: &Arc<ServerConfig>, answer: Option<&ClientIdentity>) -> HandshakeKind {
    let asks = server.asks;
    let mut pair = Pair::of(server, Arc::clone(config), usize::MAX);
    pair.run().unwrap();
    assert_eq!(pair.presented, asks);
    if asks {
        let chain = pair.client.trust().unwrap();
        assert_eq!(chain.certificate_chain().len(), 1);
        if answer.is_none() && pair.client.certificate_request().is_some() {
            pair.client.declined();
        }
        assert!(pair.go_on(answer).unwrap());
    }
    pair.assert_knows(answer);
    pair.assert_talks();
    pair.server.handshake_kind().unwrap()
}

#[test]
fn each_kind_is_resumed_and_none_across() {
    let (mine, other) = (identity(&TRUSTED), identity(&TRUSTED));
    for version in [TlsV12, TlsV13] {
        let config = Arc::new(optional(version));
        let context = client(&TRUSTED);
        let mut kinds = Vec::new();
        for host in ["localhost", "other.example"] {
            for port in [443, 8443] {
                for asks in [false, true] {
                    for identity in [None, Some(&mine), Some(&other)] {
                        kinds.push((host, port, asks, identity));
                    }
                }
            }
        }
        // The second time round each finds its own.
        for expected in [Full, Resumed, Resumed] {
            for (host, port, asks, identity) in &kinds {
                let server = Server { port: *port, asks: *asks, identity: identity.cloned(), ..to(&context, host) };
                // Who had no certificate is asked again.
                let expected = if *asks && identity.is_none() { Full } else { expected };
                assert_eq!(connect(server, &config, *identity), expected, "{version:?} {host} {port} {asks}");
            }
        }
        // Another session shares nothing.
        let context = client(&TRUSTED);
        assert_eq!(connect(to(&context, "localhost"), &config, None), Full);
    }
}

#[test]
fn what_was_answered_later_is_kept_with_the_answer() {
    let mine = identity(&TRUSTED);
    for version in [TlsV12, TlsV13] {
        let config = Arc::new(optional(version));
        let context = client(&TRUSTED);
        let with_mine = || Server { identity: Some(mine.clone()), ..asking(&context) };
        assert_eq!(connect(asking(&context), &config, Some(&mine)), Full);
        // Whoever has no certificate does not profit, and is asked again.
        assert_eq!(connect(asking(&context), &config, None), Full);
        assert_eq!(connect(asking(&context), &config, None), Full);
        assert_eq!(connect(asking(&context), &config, Some(&mine)), Full);
        assert_eq!(connect(with_mine(), &config, Some(&mine)), Resumed);
        assert_eq!(connect(to(&context, "localhost"), &config, None), Full);
    }
}

#[test]
fn a_resumed_connection_is_refused() {
    for version in [TlsV12, TlsV13] {
        let config = plain(version);
        let context = client(&TRUSTED);
        assert_eq!(connect(asking(&context), &config, None), Full);
        assert_eq!(connect(asking(&context), &config, None), Resumed);
        let mut pair = Pair::of(asking(&context), Arc::clone(&config), usize::MAX).presented();
        assert_eq!(pair.client.certificate_request(), None);
        pair.client.refuse();
        pair.ask_server();
        // In TLS 1.3 there is no way to say it but in plain, which is none.
        let told = (version == TlsV12).then_some(Error::AlertReceived(AlertDescription::BadCertificate));
        assert_eq!(pair.server_error.take(), told);
        assert_eq!(pair.feed(b"").unwrap_err().code(), ErrorCode::ServerCertificateUntrusted);
        assert!(!pair.handshake_done);
    }
}

#[test]
fn a_ticket_that_was_offered_in_vain() {
    let mine = identity(&TRUSTED);
    for version in [TlsV12, TlsV13] {
        let context = client(&TRUSTED);
        assert_eq!(connect(asking(&context), &plain(version), None), Full);
        // Another server, which does not know it.
        let config = Arc::new(requiring(version));
        let mut pair = Pair::of(asking(&context), Arc::clone(&config), usize::MAX).presented();
        assert!(pair.client.certificate_request().is_some());
        assert!(!pair.go_on(Some(&mine)).unwrap(), "its ClientHello cannot be said again");
        assert!(pair.client.is_waiting() && pair.client.trust().is_some());
        assert!(pair.client.certificate_request().is_some());
        pair.assert_silent();
        assert!(!pair.client.go_on(Some(mine.clone())).unwrap());
        // On a new one.
        let server = Server { identity: Some(mine.clone()), ..asking(&context) };
        assert_eq!(connect(server, &config, Some(&mine)), Full);
        // Without a certificate this one goes on.
        assert_eq!(pair.go_on(None).unwrap_err().code(), ErrorCode::ClientCertificateRequired);
    }
}

#[test]
fn a_handshake_that_is_done_over_uses_up_no_ticket() {
    let mine = identity(&TRUSTED);
    for version in [TlsV12, TlsV13] {
        let context = client(&TRUSTED);
        let config = Arc::new(optional(version));
        let with_mine = || Server { identity: Some(mine.clone()), ..asking(&context) };
        assert_eq!(connect(with_mine(), &config, Some(&mine)), Full);
        assert_eq!(connect(asking(&context), &config, Some(&mine)), Full);
        assert_eq!(connect(with_mine(), &config, Some(&mine)), Resumed);
    }
}
