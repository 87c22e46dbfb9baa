//! TLS inside TLS: through a proxy that is spoken to in TLS.

use super::identities::{identity, requiring};
use super::verdicts::asking;
use super::*;

/// A pair whose bytes travel inside the client's connection to a proxy.
struct Tunnel {
    pair: Pair,
    proxy: ServerConnection,
    to_client: Vec<u8>,
}

impl Tunnel {
    fn new(server: Server<'_>, config: ServerConfig, proxy_version: TlsProtocolVersion, cut: usize) -> Self {
        let proxy = Pair::trusting(proxy_version, usize::MAX).opened();
        let through = Some(Box::new(proxy.client));
        Self { pair: Pair::of(Server { through, ..server }, config, cut), proxy: proxy.server, to_client: Vec::new() }
    }

    /// The client's bytes to the proxy, what is in them to the server, and the answer back to where the client reads.
    fn ask(&mut self) {
        let mut bytes = Vec::new();
        self.pair.client.output(&mut bytes);
        assert!(!self.pair.client.wants_write());
        let mut rest = bytes.as_slice();
        let mut inner = Vec::new();
        while !rest.is_empty() {
            self.proxy.read_tls(&mut rest).unwrap();
            self.proxy.process_new_packets().unwrap();
            let _ = self.proxy.reader().read_to_end(&mut inner);
        }
        let mut rest = inner.as_slice();
        while !rest.is_empty() && self.pair.server_error.is_none() {
            self.pair.server.read_tls(&mut rest).unwrap();
            self.pair.server_error = self.pair.server.process_new_packets().err();
        }
        let mut answer = Vec::new();
        while self.pair.server.wants_write() {
            self.pair.server.write_tls(&mut answer).unwrap();
        }
        self.proxy.writer().write_all(&answer).unwrap();
        self.flush();
    }

    fn flush(&mut self) {
        while self.proxy.wants_write() {
            self.proxy.write_tls(&mut self.to_client).unwrap();
        }
    }

    fn answer(&mut self) -> Result<(), UrlError> {
        self.pair.to_client = std::mem::take(&mut self.to_client);
        let answered = self.pair.answer_client();
        self.to_client = std::mem::take(&mut self.pair.to_client);
        answered
    }

    fn run(&mut self) -> Result<(), UrlError> {
        loop {
            self.ask();
            if self.to_client.is_empty() || self.pair.client.is_waiting() {
                return Ok(());
            }
            if let Err(error) = self.answer() {
                self.ask();
                return Err(error);
            }
        }
    }

    fn assert_talks(&mut self) {
        assert!(self.pair.handshake_done);
        self.pair.say(b"question");
        let long = vec![9; 50_000];
        self.pair.server.writer().write_all(&long).unwrap();
        self.run().unwrap();
        assert_eq!(self.pair.server_plaintext(), b"question");
        assert!(std::mem::take(&mut self.pair.plaintext) == long);
    }
}

const VERSIONS: [(TlsProtocolVersion, TlsProtocolVersion); 4] =
    [(TlsV12, TlsV12), (TlsV12, TlsV13), (TlsV13, TlsV12), (TlsV13, TlsV13)];

#[test]
fn a_server_behind_a_proxy() {
    for (outer, inner) in VERSIONS {
        for cut in [usize::MAX, 1, 7] {
            let context = client(&TRUSTED);
            let config = server_config(supported(inner), TRUSTED.sign(&["localhost"], |_| ()), false);
            let mut tunnel = Tunnel::new(to(&context, "localhost"), config, outer, cut);
            tunnel.run().unwrap();
            assert_eq!(tunnel.pair.client.protocol_version(), Some(inner));
            tunnel.assert_talks();
            // The server is told of the end, then the proxy.
            tunnel.pair.client.close();
            tunnel.pair.say(b"never");
            tunnel.ask();
            assert!(tunnel.pair.server.process_new_packets().unwrap().peer_has_closed());
            assert!(tunnel.proxy.process_new_packets().unwrap().peer_has_closed());
            assert!(!tunnel.pair.client.wants_write());
        }
    }
}

#[test]
fn a_question_behind_a_proxy() {
    let mine = identity(&TRUSTED);
    for (outer, inner) in VERSIONS {
        for cut in [usize::MAX, 1] {
            for trusted in [true, false] {
                let context = client(&TRUSTED);
                let mut tunnel = Tunnel::new(asking(&context), requiring(inner), outer, cut);
                tunnel.run().unwrap();
                assert!(tunnel.pair.presented && tunnel.pair.client.certificate_request().is_some());
                tunnel.pair.assert_silent();
                if trusted {
                    assert!(tunnel.pair.client.go_on(Some(mine.clone())).unwrap());
                    tunnel.pair.feed(b"").unwrap();
                    tunnel.run().unwrap();
                    tunnel.pair.assert_knows(Some(&mine));
                    tunnel.assert_talks();
                } else {
                    tunnel.pair.client.refuse();
                    tunnel.ask();
                    let told = tunnel.pair.server_error.take();
                    assert_eq!(told, Some(Error::AlertReceived(AlertDescription::BadCertificate)));
                    assert_eq!(tunnel.pair.feed(b"").unwrap_err().code(), ErrorCode::ServerCertificateUntrusted);
                }
            }
        }
    }
}

#[test]
fn a_server_behind_a_proxy_that_is_not_good() {
    let context = client(&TRUSTED);
    let other = Authority::new("other");
    let config = server_config(BOTH, other.sign(&["localhost"], |_| ()), false);
    let mut tunnel = Tunnel::new(to(&context, "localhost"), config, TlsV13, usize::MAX);
    let error = tunnel.run().unwrap_err();
    assert_eq!(error.code(), ErrorCode::ServerCertificateHasUnknownRoot);
    assert!(matches!(tunnel.pair.server_error, Some(Error::AlertReceived(_))));
}

#[test]
fn how_a_tunnel_ends() {
    for (outer, inner) in VERSIONS {
        // In the handshake, and after it.
        for is_open in [false, true] {
            for fault in [false, true] {
                let context = client(&TRUSTED);
                let config = server_config(supported(inner), TRUSTED.sign(&["localhost"], |_| ()), false);
                let mut tunnel = Tunnel::new(to(&context, "localhost"), config, outer, usize::MAX);
                if is_open {
                    tunnel.run().unwrap();
                    tunnel.pair.server.writer().write_all(b"before").unwrap();
                }
                tunnel.ask();
                if fault {
                    let good = tunnel.to_client.len();
                    tunnel.proxy.writer().write_all(b"broken").unwrap();
                    tunnel.flush();
                    tunnel.to_client[good + 8] ^= 1;
                } else {
                    tunnel.proxy.send_close_notify();
                    tunnel.flush();
                }
                let mut result = tunnel.answer();
                if result.is_ok() {
                    // What came before was handed on first.
                    assert!(tunnel.pair.handshake_done && !is_open);
                    result = tunnel.pair.feed(b"");
                }
                let error = result.unwrap_err();
                assert_eq!((error.code(), error.stage()), (ErrorCode::NetworkConnectionLost, ErrorStage::Tls));
                assert!(error.reason().contains("proxy"), "{error}");
                assert_eq!(error.source().is_some(), fault);
                assert_eq!(tunnel.pair.plaintext, if is_open { &b"before"[..] } else { b"" });
                assert_eq!(tunnel.pair.feed(b"more").unwrap_err().code(), ErrorCode::NetworkConnectionLost);
            }
        }
        // The server's own end is an end, whatever the proxy does then.
        let context = client(&TRUSTED);
        let config = server_config(supported(inner), TRUSTED.sign(&["localhost"], |_| ()), false);
        let mut tunnel = Tunnel::new(to(&context, "localhost"), config, outer, usize::MAX);
        tunnel.run().unwrap();
        tunnel.pair.server.send_close_notify();
        tunnel.ask();
        tunnel.proxy.send_close_notify();
        tunnel.flush();
        tunnel.answer().unwrap();
        assert!(tunnel.pair.closed);
        tunnel.pair.feed(b"").unwrap();
    }
}

/// Nobody takes it, while what the client has to say may still be waiting to leave.
#[test]
fn what_comes_behind_the_end_is_not_kept() {
    for (outer, inner) in VERSIONS {
        let context = client(&TRUSTED);
        let config = server_config(supported(inner), TRUSTED.sign(&["localhost"], |_| ()), false);
        let mut tunnel = Tunnel::new(to(&context, "localhost"), config, outer, usize::MAX);
        tunnel.run().unwrap();
        tunnel.pair.server.send_close_notify();
        tunnel.ask();
        tunnel.answer().unwrap();
        assert!(tunnel.pair.closed);
        for _ in 0..3 {
            tunnel.proxy.writer().write_all(&[0; 10_000]).unwrap();
            tunnel.flush();
            tunnel.answer().unwrap();
        }
        assert_eq!(tunnel.pair.client.through.as_ref().map(|through| through.memory()), Some(0));
    }
}
