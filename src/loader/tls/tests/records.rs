//! Records: how they are cut, what is kept of them, what goes out in one, and those that a bad server sends.

use std::io::IoSlice;
use std::time::{Instant, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use rustls::ConnectionTrafficSecrets::{Aes128Gcm, Aes256Gcm, Chacha20Poly1305};
use rustls::crypto::CipherSuiteCommon;
use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::{ContentType, HandshakeKind, SupportedCipherSuite, Tls12CipherSuite, Tls13CipherSuite};
use sha1::{Digest, Sha1};
use url::Url;

use super::*;
use crate::foundation::{Completion, Message, Random, SessionConfiguration, UrlRequest};
use crate::http::Proxies;
use crate::loader::{Action, Common, Env, Epoch, Event, Loader, Settings, Spare, Traces};
use crate::websocket::Supply;

impl Pair {
    fn server_says(&mut self, plaintext: &[u8]) {
        self.server.writer().write_all(plaintext).unwrap();
        self.ask_server();
    }

    /// What the client has to say, in records.
    fn records(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.client.output(&mut bytes);
        bytes
    }

    #[track_caller]
    fn assert_holds_nothing(&self) {
        assert_eq!((self.client.kept.memory(), self.client.outgoing.capacity()), (0, 0));
    }
}

#[test]
fn records_cut_at_every_byte() {
    for version in [TlsV12, TlsV13] {
        let mut pair = Pair::trusting(version, usize::MAX).opened();
        let mut cut = 0;
        loop {
            for part in [&b"first"[..], b"2", &[3; 200]] {
                pair.server_says(part);
            }
            let bytes = std::mem::take(&mut pair.to_client);
            if cut > bytes.len() {
                break;
            }
            pair.feed(&bytes[..cut]).unwrap();
            // What is not a whole record is kept, and nothing else.
            let whole = record_ends(&bytes).into_iter().filter(|end| *end <= cut).max().unwrap_or(0);
            assert_eq!(pair.client.kept.memory(), cut - whole, "{version:?}, {cut}");
            pair.feed(&bytes[cut..]).unwrap();
            pair.assert_holds_nothing();
            assert_eq!(std::mem::take(&mut pair.plaintext), [&b"first2"[..], &[3; 200]].concat(), "{version:?}, {cut}");
            cut += 1;
        }
        assert!(cut > 250);
    }
}

#[test]
fn a_handshake_cut_anywhere() {
    for version in [TlsV12, TlsV13] {
        let mut cut = 0;
        loop {
            let mut pair = Pair::trusting(version, usize::MAX);
            pair.ask_server();
            let flight = std::mem::take(&mut pair.to_client);
            if cut > flight.len() {
                break;
            }
            pair.feed(&flight[..cut]).unwrap();
            pair.feed(&flight[cut..]).unwrap();
            let pair = pair.opened();
            pair.assert_holds_nothing();
            cut += 13;
        }
    }
}

#[test]
fn messages_of_the_handshake_in_several_records() {
    for version in [TlsV12, TlsV13] {
        for fragment in [32, 100] {
            for cut in [usize::MAX, 1, 7, 50] {
                let mut server = server_config(supported(version), TRUSTED.sign(&["localhost"], |_| ()), false);
                server.max_fragment_size = Some(fragment);
                let mut pair = Pair::new(client(&TRUSTED), "localhost", server, cut).opened();
                pair.say(b"question");
                pair.server.writer().write_all(b"an answer of more than thirty-two bytes, in two records").unwrap();
                pair.run().unwrap();
                assert_eq!(pair.server_plaintext(), b"question");
                assert_eq!(pair.plaintext, b"an answer of more than thirty-two bytes, in two records");
                pair.assert_holds_nothing();
            }
        }
    }
}

#[test]
fn what_is_sent_within_a_message_of_the_handshake() {
    let mut server = server_config(ONLY_13, TRUSTED.sign(&["localhost"], |_| ()), false);
    server.max_fragment_size = Some(40);
    let mut pair = Pair::new(client(&TRUSTED), "localhost", server, usize::MAX);
    pair.ask_server();
    pair.answer_client().unwrap();
    assert!(pair.handshake_done);
    // The tickets, in several records each: a part of one has come.
    pair.ask_server();
    let tickets = std::mem::take(&mut pair.to_client);
    let ends = record_ends(&tickets);
    assert!(ends.len() > 4);
    for (place, end) in ends.iter().enumerate() {
        let start = if place == 0 { 0 } else { ends[place - 1] };
        pair.feed(&tickets[start..end - 1]).unwrap();
        pair.say(b"between");
        pair.feed(&tickets[end - 1..*end]).unwrap();
        pair.say(b" and behind");
        pair.ask_server();
        assert_eq!(pair.server_plaintext(), b"between and behind");
        assert!(pair.server_error.is_none());
    }
    assert_eq!(pair.client.connection.tls13_tickets_received(), 2);
    pair.assert_holds_nothing();
}

#[test]
fn many_records_at_once() {
    for version in [TlsV12, TlsV13] {
        let mut pair = Pair::trusting(version, usize::MAX).opened();
        let mut expected = Vec::new();
        for number in 0..500u16 {
            pair.server_says(&number.to_be_bytes());
            expected.push(number.to_be_bytes().to_vec());
        }
        let mut bytes = std::mem::take(&mut pair.to_client);
        let mut rest = bytes.as_mut_slice();
        let mut handed = Vec::new();
        let received = pair.client.received(&mut rest, &mut |plaintext| handed.push(plaintext.to_vec())).unwrap();
        assert_eq!((received, rest.len()), (Received::All, 0));
        assert!(handed == expected);
        pair.assert_holds_nothing();
    }
}

#[test]
fn plaintext_in_the_flight_that_ends_the_handshake() {
    for version in [TlsV12, TlsV13] {
        for cut in [usize::MAX, 1, 9] {
            let mut server = server_config(supported(version), TRUSTED.sign(&["localhost"], |_| ()), false);
            // A server of TLS 1.3 may write before it has heard the client's end of the handshake.
            server.send_half_rtt_data = true;
            let mut pair = Pair::new(client(&TRUSTED), "localhost", server, cut);
            pair.ask_server();
            if version == TlsV12 {
                pair.answer_client().unwrap();
                pair.ask_server();
            }
            assert!(!pair.handshake_done);
            let written = pair.server.writer().write(b"early");
            assert_eq!(written.unwrap(), 5);
            pair.server.send_close_notify();
            while pair.server.wants_write() {
                pair.server.write_tls(&mut pair.to_client).unwrap();
            }
            let bytes = std::mem::take(&mut pair.to_client);
            for piece in bytes.chunks(cut) {
                // `feed` asserts that the end of the handshake is told first.
                pair.feed(piece).unwrap();
            }
            assert!(pair.handshake_done && pair.closed, "{version:?}, {cut}");
            assert_eq!(pair.plaintext, b"early");
            assert_eq!(pair.client.kept.memory(), 0);
        }
    }
}

#[test]
fn pieces_share_records() {
    // The pieces, and the plaintext of the records that they become.
    let table: [(&[usize], &[usize]); 13] = [
        (&[5], &[5]),
        (&[5, 6, 7], &[18]),
        (&[16_384], &[16_384]),
        (&[40_000], &[16_384, 16_384, 7232]),
        (&[8, 16_384], &[8, 16_384]),
        (&[8, 20_000], &[3624, 16_384]),
        (&[14, 65_536 + 100], &[114, 16_384, 16_384, 16_384, 16_384]),
        (&[8, 16_370, 5], &[8 + 16_370 + 5]),
        (&[8, 16_380, 5], &[8, 16_380, 5]),
        (&[5000, 5000], &[5000, 5000]),
        (&[4095; 5], &[16_380, 4095]),
        (&[0, 3, 0], &[3]),
        (&[], &[]),
    ];
    for version in [TlsV12, TlsV13] {
        let mut pair = Pair::trusting(version, usize::MAX).opened();
        pair.say(b"x");
        let overhead = pair.records().len() - 1;
        // The server has not seen that record.
        let mut pair = Pair::trusting(version, usize::MAX).opened();
        for (pieces, expected) in table {
            let pieces: Vec<Vec<u8>> =
                pieces.iter().enumerate().map(|(number, length)| vec![number as u8; *length]).collect();
            let length = pieces.iter().map(Vec::len).sum();
            pair.client.send(length, pieces.iter().map(Vec::as_slice)).unwrap();
            let records = pair.records();
            let mut start = 0;
            let lengths: Vec<usize> = record_ends(&records)
                .into_iter()
                .map(|end| end - std::mem::replace(&mut start, end) - overhead)
                .collect();
            assert_eq!(lengths, expected, "{version:?}");
            let mut arrived = Vec::new();
            let mut rest = records.as_slice();
            while !rest.is_empty() {
                pair.server.read_tls(&mut rest).unwrap();
                pair.server.process_new_packets().unwrap();
                arrived.extend(pair.server_plaintext());
            }
            assert!(arrived == pieces.concat());
            pair.assert_holds_nothing();
        }
    }
}

#[test]
fn the_server_changes_its_keys() {
    for cut in [usize::MAX, 1] {
        let mut pair = Pair::trusting(TlsV13, cut).opened();
        for round in 0..5u8 {
            pair.server_says(b"old key");
            pair.server.refresh_traffic_keys().unwrap();
            pair.server_says(b", new key");
            pair.answer_client().unwrap();
            assert_eq!(std::mem::take(&mut pair.plaintext), b"old key, new key");
            // The answer goes out before the next words, which are encrypted with the client's own new key.
            pair.say(&[round]);
            let records = pair.records();
            assert_eq!(record_ends(&records).len(), 2);
            let mut rest = records.as_slice();
            while !rest.is_empty() {
                pair.server.read_tls(&mut rest).unwrap();
                pair.server.process_new_packets().unwrap();
            }
            assert_eq!(pair.server_plaintext(), [round]);
            pair.assert_holds_nothing();
        }
    }
}

/// The first suite of `version`, for so many records with one key.
fn short_lived(version: TlsProtocolVersion, limit: u64) -> Arc<TlsContext> {
    let mut provider = provider();
    let is_of = |suite: &SupportedCipherSuite| suite.tls13().is_some() == (version == TlsV13);
    let common = |common: &CipherSuiteCommon| CipherSuiteCommon {
        suite: common.suite,
        hash_provider: common.hash_provider,
        confidentiality_limit: limit,
    };
    let suite = match provider.cipher_suites.iter().find(|suite| is_of(suite)).unwrap() {
        SupportedCipherSuite::Tls13(suite) => SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
            common: common(&suite.common),
            ..**suite
        }))),
        SupportedCipherSuite::Tls12(suite) => SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite {
            common: common(&suite.common),
            ..**suite
        }))),
    };
    provider.cipher_suites = vec![suite];
    let config = ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(supported(version));
    let roots = TRUSTED.roots();
    let config = config.unwrap().with_root_certificates(Arc::clone(roots.store())).with_no_client_auth();
    Arc::new(TlsContext::of(config))
}

#[test]
fn keys_that_are_used_up() {
    let server = |version| server_config(supported(version), TRUSTED.sign(&["localhost"], |_| ()), false);
    // TLS 1.3 takes new ones by itself.
    let mut pair = Pair::new(short_lived(TlsV13, 6), "localhost", server(TlsV13), usize::MAX).opened();
    for number in 0..50u8 {
        pair.say(&[number]);
        pair.run().unwrap();
        assert_eq!(pair.server_plaintext(), [number]);
    }
    pair.assert_holds_nothing();
    // TLS 1.2 has none.
    let mut pair = Pair::new(short_lived(TlsV12, 6), "localhost", server(TlsV12), usize::MAX).opened();
    let mut sent = 0;
    let error = loop {
        match pair.client.send(1, std::iter::once(&[sent][..])) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((error.code(), error.stage()), (ErrorCode::NetworkConnectionLost, ErrorStage::Tls));
    assert!(error.reason().contains("exhausted"), "{error}");
    // What went before arrives, and the server is told that it was all.
    pair.ask_server();
    assert_eq!(pair.server_plaintext(), (0..sent).collect::<Vec<u8>>());
    assert!(pair.server.process_new_packets().unwrap().peer_has_closed());
    assert_eq!(pair.feed(b"").unwrap_err().code(), ErrorCode::NetworkConnectionLost);
}

/// A server that writes records of its own, with the keys of a good one.
struct Forger {
    encrypter: Box<dyn MessageEncrypter>,
    sequence: u64,
}

impl Forger {
    fn new() -> (Pair, Self) {
        let mut server = server_config(ONLY_13, TRUSTED.sign(&["localhost"], |_| ()), false);
        server.enable_secret_extraction = true;
        // aws-lc-rs encrypts from the first number on, or not at all.
        server.send_tls13_tickets = 0;
        let mut pair = Pair::new(client(&TRUSTED), "localhost", server, usize::MAX).opened();
        let idle = ServerConnection::new(Arc::new(server_config(BOTH, TRUSTED.sign(&["localhost"], |_| ()), false)));
        let server = std::mem::replace(&mut pair.server, idle.unwrap());
        let Some(SupportedCipherSuite::Tls13(suite)) = server.negotiated_cipher_suite() else { panic!() };
        let (sequence, secrets) = server.dangerous_extract_secrets().unwrap().tx;
        let (Aes128Gcm { key, iv } | Aes256Gcm { key, iv } | Chacha20Poly1305 { key, iv }) = secrets else { panic!() };
        (pair, Self { encrypter: suite.aead_alg.encrypter(key, iv), sequence })
    }

    fn record(&mut self, typ: ContentType, payload: &[u8]) -> Vec<u8> {
        let payload = OutboundChunks::Single(payload);
        let message = OutboundPlainMessage { typ, version: ProtocolVersion::TLSv1_2, payload };
        self.sequence += 1;
        self.encrypter.encrypt(message, self.sequence - 1).unwrap().encode()
    }
}

#[test]
fn a_flood_of_empty_records() {
    let (mut pair, mut forger) = Forger::new();
    // A few are good for something: they hide how long messages are.
    for _ in 0..20 {
        for _ in 0..20 {
            pair.feed(&forger.record(ContentType::ApplicationData, b"")).unwrap();
        }
        pair.feed(&forger.record(ContentType::ApplicationData, b"x")).unwrap();
    }
    assert_eq!(pair.plaintext, [b'x'; 20]);
    pair.assert_holds_nothing();
    let flood: Vec<u8> = (0..1000).flat_map(|_| forger.record(ContentType::ApplicationData, b"")).collect();
    let error = pair.feed(&flood).unwrap_err();
    assert_eq!((error.code(), error.stage()), (ErrorCode::SecureConnectionFailed, ErrorStage::Tls));
    assert!(error.reason().contains("TooManyEmptyFragments"), "{error}");
    pair.assert_holds_nothing();
    assert!(pair.feed(&forger.record(ContentType::ApplicationData, b"x")).is_err());
    assert_eq!(pair.plaintext, [b'x'; 20]);
}

#[test]
fn messages_of_the_handshake_without_an_end() {
    // In the handshake: a server's hello of 65 280 bytes, byte by byte, each in a record of its own.
    let hello = [&[2, 0, 0xff, 0][..], &[0; 65_280]].concat();
    let plain: Vec<u8> = hello.iter().flat_map(|byte| [22, 3, 3, 0, 1, *byte]).collect();
    // After it: a ticket of that length, likewise.
    let (opened, mut forger) = Forger::new();
    let ticket = [&[4, 0, 0xff, 0][..], &[0; 10_000]].concat();
    let sealed: Vec<u8> =
        ticket.iter().flat_map(|byte| forger.record(ContentType::Handshake, std::slice::from_ref(byte))).collect();
    for (mut pair, bytes) in [(Pair::trusting(TlsV13, usize::MAX), plain), (opened, sealed)] {
        // As reads of a socket may cut it.
        let (mut taken, mut most) = (0, 0);
        let error = loop {
            let piece = &bytes[taken..taken + 1000];
            taken += piece.len();
            match pair.feed(piece) {
                Ok(()) => most = most.max(pair.client.kept.memory()),
                Err(error) => break error,
            }
        };
        assert_eq!((error.code(), error.stage()), (ErrorCode::SecureConnectionFailed, ErrorStage::Tls));
        assert!(error.reason().contains("too long a message of the handshake"), "{error}");
        assert!((64 << 10..70 << 10).contains(&taken) && most <= 128 << 10, "{taken}, {most}");
        assert!(pair.client.kept.is_empty() && pair.client.kept.memory() == 0);
        assert!(pair.feed(&bytes[taken..]).is_err());
    }
}

#[test]
fn a_ticket_of_tls_1_2_that_was_not_good_is_not_used_again() {
    let client = client(&TRUSTED);
    let server = Arc::new(server_config(ONLY_12, TRUSTED.sign(&["localhost"], |_| ()), false));
    let new = || Pair::new(Arc::clone(&client), "localhost", Arc::clone(&server), usize::MAX);
    assert_eq!(new().opened().server.handshake_kind(), Some(HandshakeKind::Full));
    for _ in 0..3 {
        assert_eq!(new().opened().server.handshake_kind(), Some(HandshakeKind::Resumed));
    }
    let mut bad = new();
    bad.ask_server();
    *bad.to_client.last_mut().unwrap() ^= 1;
    assert_eq!(bad.run().unwrap_err().code(), ErrorCode::SecureConnectionFailed);
    assert_eq!(new().opened().server.handshake_kind(), Some(HandshakeKind::Full));
}

/// Brings what `loader` has to say to `server`.
fn deliver(loader: &mut Loader, env: &mut Env<'_>, server: &mut ServerConnection) {
    while let Some(mut output) = loader.take_output(env) {
        let mut slices = [IoSlice::new(&[]); 4];
        let count = output.slices(&mut slices);
        let bytes = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect::<Vec<u8>>();
        output.advance(bytes.len());
        loader.give_back(env, output);
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets().unwrap();
        }
    }
}

#[test]
fn a_task_whose_keys_are_used_up_is_lost() {
    let now = Instant::now();
    let mut supply = Supply::new(Random::new(|pool| pool.fill(7)));
    let (mut spare, mut events) = (Spare::default(), Vec::new());
    let env =
        &mut Env { now, supply: &mut supply, spare: &mut spare, events: &mut events, traces: &mut Traces::default() };
    let common = Common::new(&SessionConfiguration::default(), Proxies::new(Some(&[]), |_| None));
    common.set_tls(short_lived(TlsV12, 6));
    let settings = Settings {
        request: Arc::new(UrlRequest::new(Url::parse("wss://localhost/").unwrap())),
        common: Arc::new(common),
        epoch: Epoch { instant: now, date: SystemTime::UNIX_EPOCH },
    };
    let mut loader = Loader::new(settings, 1024);
    let config = server_config(ONLY_12, TRUSTED.sign(&["localhost"], |_| ()), false);
    let mut server = ServerConnection::new(Arc::new(config)).unwrap();
    loader.start(env, None);
    let Some(Action::Resolve { look_up, .. }) = loader.next_action() else { panic!("no look-up") };
    loader.resolved(env, look_up, Ok(vec![([127, 0, 0, 1], 443).into()]));
    assert!(matches!(loader.next_action(), Some(Action::Connect { attempt: 0, .. })));
    loader.connected(env, 0, None, None);
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        deliver(&mut loader, env, &mut server);
        let _ = server.reader().read_to_end(&mut request);
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        loader.receive(env, &mut bytes);
    }
    let request = String::from_utf8(request).unwrap();
    let (_, key) = request.split_once("Sec-WebSocket-Key: ").unwrap();
    let accept = BASE64.encode(Sha1::digest(format!("{}258EAFA5-E914-47DA-95CA-C5AB0DC85B11", &key[..24])));
    let answer =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ";
    write!(server.writer(), "{answer}{accept}\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    server.write_tls(&mut bytes).unwrap();
    loader.receive(env, &mut bytes);
    assert!(env.events.iter().any(|event| matches!(event, Event::Open { .. })));

    let mut sent = 0;
    while !loader.is_ended() {
        sent += 1;
        assert!(sent < 10);
        loader.send(env, Message::Data(vec![1]), Completion::new(|_| ()));
        deliver(&mut loader, env, &mut server);
    }
    // What could be sent was, and the server knows that it was all; the last message was not.
    let mut frames = Vec::new();
    assert_eq!(server.reader().read_to_end(&mut frames).unwrap(), (sent - 1) * 7);
    let results: Vec<bool> = env
        .events
        .iter()
        .filter_map(|event| if let Event::Sent(_, result) = event { Some(result.is_ok()) } else { None })
        .collect();
    assert_eq!(results, [vec![true; sent - 1], vec![false]].concat());
    let end = env.events.iter().find_map(|event| if let Event::End(end) = event { Some(end) } else { None }).unwrap();
    assert_eq!(end.error.as_ref().unwrap().code(), ErrorCode::NetworkConnectionLost);
    while loader.next_action().is_some() {}
    assert!(!loader.wants_read());
}
