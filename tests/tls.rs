//! `wss` against a rustls server: messages both ways, versions, certificates that are not good, and ends.

mod support;

use std::error::Error as _;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;

use rcgen::date_time_ymd;
use rustls::{HandshakeKind, ServerConfig, SupportedProtocolVersion};
use support::hooks::{Called, hooks};
use support::tls::{
    Authority, BOTH, Identity, ONLY_12, ONLY_13, TRUSTED, TlsPeer, asking_server, server_with, trusted_server,
};
use support::{Events, PATIENCE, Peer, Recorder, Server, close_frame, frame, recorded_session_with, recorder};
use urlsession::{
    CloseCode, ErrorCode, ErrorStage, Message, SessionConfiguration, TlsProtocolVersion, Url, UrlError, UrlSession,
    WebSocketTask,
};

/// A TLS server for one connection.
fn server(config: Arc<ServerConfig>, script: impl FnOnce(TlsPeer) + Send + 'static) -> Server {
    Server::one(move |peer| script(TlsPeer::new(peer, &config)))
}

fn url(server: &Server, host: &str) -> Url {
    Url::parse(&format!("wss://{host}:{}/", server.address().port())).unwrap()
}

/// Starts a task and waits until it is open.
fn open(session: &UrlSession, url: Url, events: &Events) -> WebSocketTask {
    let task = session.web_socket_task(url);
    task.set_maximum_message_size(16 << 20);
    task.resume();
    assert_eq!(events.wait_for("open"), "open None");
    task
}

fn trusting_session() -> (UrlSession, Arc<Recorder>, Events) {
    recorded_session_with(TRUSTED.configuration(), None)
}

/// The error of a task that cannot connect, which is told everywhere.
#[track_caller]
fn failure(configuration: SessionConfiguration, url: Url) -> UrlError {
    let (session, recorder, events) = recorded_session_with(configuration, None);
    let task = session.web_socket_task(url.clone());
    task.receive(recorder.handler::<Message>("receive"));
    task.send("never", recorder.handler("send"));
    task.resume();
    let completed = events.wait_for("complete");
    let error = task.error().expect("an error");
    let code = error.raw_code();
    assert_eq!(completed, format!("complete {code}"));
    let log = events.log();
    assert!(log.contains(&format!("receive {code}")) && log.contains(&format!("send {code}")), "{log:?}");
    assert!(!log.iter().any(|event| event.starts_with("open") || event.starts_with("close")), "{log:?}");
    assert_eq!((error.domain(), error.failing_url()), (error.code().domain(), Some(&url)));
    assert_eq!((task.close_code(), task.response().is_none()), (CloseCode::INVALID, true));
    // It repeats as itself.
    task.send_ping(recorder.handler("ping"));
    assert_eq!(events.wait_for("ping"), format!("ping {code}"));
    error
}

/// A server whose certificate is not good: the client's error, and what the server saw.
#[track_caller]
fn refused(configuration: SessionConfiguration, config: Arc<ServerConfig>, host: &str) -> (UrlError, String) {
    let (sender, receiver) = mpsc::channel();
    let server = server(config, move |mut peer| {
        let outcome = peer.handshake().err().unwrap_or_else(|| {
            // With TLS 1.3 the server may be done before the client has looked at its certificate.
            let mut rest = Vec::new();
            let error = peer.read_to_end(&mut rest).err().map(|error| error.to_string());
            assert!(rest.is_empty(), "HTTP to a server that is not trusted: {:?}", String::from_utf8_lossy(&rest));
            error.unwrap_or_default()
        });
        sender.send(outcome).unwrap();
    });
    let error = failure(configuration, url(&server, host));
    let outcome = receiver.recv_timeout(PATIENCE).unwrap();
    server.join();
    (error, outcome)
}

#[test]
fn messages_go_both_ways_with_both_versions() {
    let versions: [(&[&'static SupportedProtocolVersion], TlsProtocolVersion); 2] =
        [(ONLY_12, TlsProtocolVersion::TlsV12), (ONLY_13, TlsProtocolVersion::TlsV13)];
    for (supported, version) in versions {
        let server = server(trusted_server(supported), |mut peer| {
            peer.open();
            assert_eq!(peer.connection.alpn_protocol(), Some(&b"http/1.1"[..]));
            assert_eq!(peer.connection.server_name(), Some("localhost"));
            peer.echo();
        });
        let (sender, receiver) = mpsc::channel();
        let delegate = hooks(move |_, _, called| {
            if let Called::Metrics(metrics) = called {
                sender.send(metrics.clone()).unwrap();
            }
        });
        let session = UrlSession::with_delegate(TRUSTED.configuration(), Some(delegate), None);
        let task = session.web_socket_task(url(&server, "localhost"));
        let (recorder, events) = recorder();
        for number in 0..50 {
            task.send(format!("text {number}"), recorder.handler("send"));
            task.send(vec![number; 3], recorder.handler("send"));
            task.send_ping(recorder.handler("ping"));
        }
        task.resume();
        for number in 0..50 {
            task.receive(recorder.receiver("receive"));
            task.receive(recorder.receiver("receive"));
            assert_eq!(events.wait_for("receive"), format!("receive string text {number}"));
            assert_eq!(events.wait_for("receive"), format!("receive data [{number}, {number}, {number}]"));
        }
        // The last pong came behind the last message.
        while events.log().iter().filter(|event| *event == "ping ok").count() < 50 {
            events.wait_for("ping ok");
        }
        assert_eq!(events.log().iter().filter(|event| *event == "send ok").count(), 100);
        task.cancel_with(CloseCode::NORMAL_CLOSURE, Some(b"done"));
        let metrics = receiver.recv_timeout(PATIENCE).unwrap();
        let transaction = &metrics.transaction_metrics[0];
        assert_eq!(transaction.negotiated_tls_protocol_version, Some(version));
        assert!(transaction.negotiated_tls_cipher_suite.is_some());
        let dates = [
            transaction.fetch_start_date,
            transaction.connect_start_date,
            transaction.secure_connection_start_date,
            transaction.secure_connection_end_date,
            transaction.connect_end_date,
            transaction.request_start_date,
            transaction.response_end_date,
        ];
        assert!(dates.iter().all(Option::is_some) && dates.is_sorted(), "{dates:?}");
        server.join();
    }
}

#[test]
fn large_messages_go_both_ways() {
    for supported in [ONLY_12, ONLY_13] {
        let server = server(trusted_server(supported), |mut peer| {
            peer.open();
            let mut fragments = 0;
            let mut message = Vec::new();
            // Whatever the client cuts it into comes back as one frame.
            while let Ok(received) = peer.try_read_frame() {
                match received.opcode() {
                    8 => return peer.send(&frame(0x88, &received.payload)),
                    9 => peer.send(&frame(0x8a, &received.payload)),
                    _ => {
                        fragments += 1;
                        message.extend_from_slice(&received.payload);
                        if received.is_final() {
                            assert!(fragments >= 1);
                            peer.send(&frame(0x82, &std::mem::take(&mut message)));
                        }
                    }
                }
            }
        });
        let (session, _, events) = trusting_session();
        let task = open(&session, url(&server, "localhost"), &events);
        let (sender, receiver) = mpsc::channel();
        // Around the sizes of a record (2^14) and of the client's batches, then one of 5 MiB.
        let sizes = [0, 1, 16_383, 16_384, 16_385, 65_535, 65_536, 131_072, 1_048_576, 5 << 20];
        for size in sizes {
            let data: Vec<u8> = (0..size).map(|index| (index * 7 % 251) as u8).collect();
            task.send(data.clone(), |result| result.unwrap());
            let sender = sender.clone();
            task.receive(move |result| sender.send((result, data)).unwrap());
        }
        for size in sizes {
            let (result, data) = receiver.recv_timeout(PATIENCE).unwrap();
            assert!(result.unwrap() == Message::Data(data), "{size} bytes");
        }
        assert_eq!(task.buffered_amount(), 0);
        task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
        events.wait_for("complete None");
        server.join();
    }
}

#[test]
fn ciphertext_may_come_one_byte_at_a_time() {
    for supported in [ONLY_12, ONLY_13] {
        let server = server(trusted_server(supported), |mut peer| {
            peer.bytewise = true;
            peer.open();
            peer.echo();
        });
        let (session, recorder, events) = trusting_session();
        let task = open(&session, url(&server, "localhost"), &events);
        for number in 0..3 {
            task.send(format!("slow {number}"), |_| ());
            task.receive(recorder.receiver("receive"));
            assert_eq!(events.wait_for("receive"), format!("receive string slow {number}"));
        }
        task.cancel_with(CloseCode::GOING_AWAY, None);
        events.wait_for("complete None");
        server.join();
    }
}

#[test]
fn a_server_that_floods_is_held_back_and_loses_nothing() {
    const COUNT: usize = 64;
    const SIZE: usize = 256 << 10;
    let server = server(trusted_server(BOTH), |mut peer| {
        peer.open();
        for number in 0..COUNT {
            peer.send(&frame(0x82, &vec![number as u8; SIZE]));
        }
        peer.send(&close_frame(1000, "all"));
        assert_eq!(peer.try_read_frame().unwrap().opcode(), 8);
    });
    let (session, _, events) = trusting_session();
    let task = session.web_socket_task(url(&server, "localhost"));
    task.resume();
    events.wait_for("open");
    let (sender, receiver) = mpsc::channel();
    for number in 0..COUNT {
        let sender = sender.clone();
        task.receive(move |result| sender.send(result).unwrap());
        let message = receiver.recv_timeout(PATIENCE).unwrap().unwrap();
        assert!(message == Message::Data(vec![number as u8; SIZE]), "message {number}");
        let received = usize::try_from(task.count_of_bytes_received()).unwrap();
        // One limit is read ahead (1 MiB), and what one read of the socket holds.
        assert!(received <= (number + 1) * SIZE + (2 << 20), "{received} bytes after message {number}");
    }
    task.receive(|_| ());
    assert_eq!(events.wait_for("close"), "close 1000 Some(\"all\")");
    server.join();
}

#[test]
fn a_second_task_resumes_the_tls_session() {
    for supported in [ONLY_12, ONLY_13] {
        let config = trusted_server(supported);
        let (sender, kinds) = mpsc::channel();
        let server = Server::many(5, move |_, peer| {
            let mut peer = TlsPeer::new(peer, &config);
            peer.open();
            sender.send(peer.connection.handshake_kind().unwrap()).unwrap();
            peer.echo();
        });
        let (session, recorder, events) = trusting_session();
        let (other, other_recorder, other_events) = trusting_session();
        let kind = |session: &UrlSession, recorder: &Recorder, events: &Events| {
            let task = open(session, url(&server, "localhost"), events);
            // The ticket of TLS 1.3 comes with the server's first words.
            task.send("x", |_| ());
            task.receive(recorder.receiver("receive"));
            events.wait_for("receive string x");
            task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
            events.wait_for("complete None");
            kinds.recv_timeout(PATIENCE).unwrap()
        };
        // The first might have been for the delegate to judge, which turned out to have no method for that; such tickets are for
        // connections of that kind alone.
        assert_eq!(kind(&session, &recorder, &events), HandshakeKind::Full);
        assert_eq!(kind(&session, &recorder, &events), HandshakeKind::Full);
        assert_eq!(kind(&session, &recorder, &events), HandshakeKind::Resumed);
        // Another session has its own; and `reset` forgets.
        assert_eq!(kind(&other, &other_recorder, &other_events), HandshakeKind::Full);
        session.reset(|| ());
        assert_eq!(kind(&session, &recorder, &events), HandshakeKind::Full);
        server.join();
    }
}

#[test]
fn certificates_that_are_not_good() {
    let unknown = Authority::new("somebody else's root");
    let table: [(&str, Identity, ErrorCode, &str); 6] = [
        (
            "another host",
            TRUSTED.sign(&["elsewhere.example"], |_| ()),
            ErrorCode::ServerCertificateUntrusted,
            "elsewhere.example",
        ),
        (
            "expired",
            TRUSTED.sign(&["localhost"], |params| {
                params.not_before = date_time_ymd(2001, 1, 1);
                params.not_after = date_time_ymd(2002, 1, 1);
            }),
            ErrorCode::ServerCertificateHasBadDate,
            "expired",
        ),
        (
            "not yet valid",
            TRUSTED.sign(&["localhost"], |params| params.not_before = date_time_ymd(3000, 1, 1)),
            ErrorCode::ServerCertificateNotYetValid,
            "not valid before",
        ),
        ("unknown root", unknown.sign(&["localhost"], |_| ()), ErrorCode::ServerCertificateHasUnknownRoot, "root"),
        ("its own root", self_signed(), ErrorCode::ServerCertificateHasUnknownRoot, "root"),
        ("an address only", TRUSTED.sign(&["127.0.0.1"], |_| ()), ErrorCode::ServerCertificateUntrusted, "127.0.0.1"),
    ];
    for (name, identity, code, reason) in table {
        for supported in [ONLY_12, ONLY_13] {
            let (chain, key) = &identity;
            let config = server_with(supported, (chain.clone(), key.clone_key()));
            let (error, seen) = refused(TRUSTED.configuration(), config, "localhost");
            assert_eq!((error.code(), error.stage()), (code, ErrorStage::Tls), "{name}: {error}");
            assert!(error.reason().contains(reason) && error.source().is_some(), "{name}: {error:?}");
            // The server is told why, in an alert.
            assert!(seen.contains("alert"), "{name}: {seen}");
        }
    }
}

/// A certificate that nobody signed but its own key.
fn self_signed() -> Identity {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (vec![own.cert.der().clone()], own.signing_key.serialize_der().try_into().unwrap())
}

#[test]
fn the_roots_of_the_web_do_not_trust_the_tests() {
    let (error, _) = refused(SessionConfiguration::default(), trusted_server(BOTH), "localhost");
    assert_eq!(error.code(), ErrorCode::ServerCertificateHasUnknownRoot);
}

#[test]
fn an_address_needs_a_certificate_for_it() {
    let config = server_with(BOTH, TRUSTED.sign(&["127.0.0.1"], |_| ()));
    let good = server(config, |mut peer| {
        peer.open();
        // RFC 6066 §3: an address is no server name.
        assert_eq!(peer.connection.server_name(), None);
        peer.echo();
    });
    let (session, _, events) = trusting_session();
    let task = open(&session, url(&good, "127.0.0.1"), &events);
    task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
    events.wait_for("complete None");
    good.join();
    let config = server_with(BOTH, TRUSTED.sign(&["localhost"], |_| ()));
    let (error, _) = refused(TRUSTED.configuration(), config, "127.0.0.1");
    assert_eq!(error.code(), ErrorCode::ServerCertificateUntrusted);
}

#[test]
fn an_ipv6_address_needs_a_certificate_for_it() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else { return };
    let address = listener.local_addr().unwrap();
    let config = server_with(BOTH, TRUSTED.sign(&["::1"], |_| ()));
    let thread = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut peer = TlsPeer::new(Peer::new(stream), &config);
        peer.open();
        peer.echo();
    });
    let (session, _, events) = trusting_session();
    let task = open(&session, Url::parse(&format!("wss://{address}/")).unwrap(), &events);
    task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
    events.wait_for("complete None");
    thread.join().unwrap();
}

#[test]
fn servers_that_do_not_speak_tls() {
    type Script = fn(Peer);
    let table: [(&str, Script, ErrorCode); 6] = [
        (
            "plain HTTP",
            |mut peer| {
                let mut hello = [0; 16];
                peer.stream.read_exact(&mut hello).unwrap();
                peer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
                peer.read_to_end();
            },
            ErrorCode::SecureConnectionFailed,
        ),
        (
            "garbage",
            |mut peer| {
                peer.write(&[0xff; 64]);
                peer.read_to_end();
            },
            ErrorCode::SecureConnectionFailed,
        ),
        (
            "handshake_failure",
            |mut peer| {
                peer.write(&[21, 3, 3, 0, 2, 2, 40]);
                peer.read_to_end();
            },
            ErrorCode::SecureConnectionFailed,
        ),
        (
            "unrecognized_name",
            |mut peer| {
                peer.write(&[21, 3, 3, 0, 2, 2, 112]);
                peer.read_to_end();
            },
            ErrorCode::SecureConnectionFailed,
        ),
        (
            "protocol_version",
            |mut peer| {
                peer.write(&[21, 3, 3, 0, 2, 2, 70]);
                peer.read_to_end();
            },
            ErrorCode::SecureConnectionFailed,
        ),
        (
            "close_notify",
            |mut peer| {
                // One whole record, so that nothing is unread when the connection ends.
                let mut header = [0; 5];
                peer.stream.read_exact(&mut header).unwrap();
                let mut hello = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
                peer.stream.read_exact(&mut hello).unwrap();
                peer.write(&[21, 3, 3, 0, 2, 1, 0]);
            },
            ErrorCode::NetworkConnectionLost,
        ),
    ];
    for (name, script, code) in table {
        let server = Server::one(script);
        let error = failure(TRUSTED.configuration(), url(&server, "localhost"));
        assert_eq!((error.code(), error.stage()), (code, ErrorStage::Tls), "{name}: {error}");
        server.join();
    }
}

#[test]
fn servers_that_close_in_the_handshake() {
    // After nothing, after the ClientHello, and in the middle of the answer to it.
    for point in 0..3 {
        let config = trusted_server(BOTH);
        let server = Server::one(move |mut peer| {
            if point == 0 {
                return;
            }
            let mut connection = TlsPeer::new(Peer::new(peer.stream.try_clone().unwrap()), &config).connection;
            while !connection.wants_write() {
                connection.read_tls(&mut peer.stream).unwrap();
                connection.process_new_packets().unwrap();
            }
            if point == 2 {
                let mut answer = Vec::new();
                connection.write_tls(&mut answer).unwrap();
                peer.write(&answer[..answer.len() / 2]);
            }
        });
        let error = failure(TRUSTED.configuration(), url(&server, "localhost"));
        // Unread bytes on the server's side make its end a reset.
        assert!(
            matches!(error.code(), ErrorCode::NetworkConnectionLost | ErrorCode::ConnectionReset),
            "after {point}: {error}"
        );
        assert_eq!(error.stage(), ErrorStage::Tls);
        server.join();
    }
}

#[test]
fn a_server_that_wants_a_certificate_of_the_client() {
    for supported in [ONLY_12, ONLY_13] {
        let server = server(asking_server(supported), |mut peer| {
            let mut sink = Vec::new();
            let refused =
                peer.handshake().and_then(|()| peer.read_to_end(&mut sink).map_err(|error| error.to_string()));
            assert!(refused.is_err());
            // Until the client has read the alert.
            let _ = peer.stream.read_to_end(&mut sink);
        });
        let error = failure(TRUSTED.configuration(), url(&server, "localhost"));
        assert_eq!(error.code(), ErrorCode::ClientCertificateRequired, "{error}");
        server.join();
    }
}

#[test]
fn a_server_that_speaks_only_http_2() {
    let config = trusted_server(BOTH);
    let mut config = ServerConfig::clone(&config);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (error, _) = refused(TRUSTED.configuration(), Arc::new(config), "localhost");
    assert_eq!((error.code(), error.stage()), (ErrorCode::SecureConnectionFailed, ErrorStage::Tls));
    assert!(error.reason().contains("HTTP/1.1"), "{error}");
}

#[test]
fn versions_have_bounds() {
    use TlsProtocolVersion::{TlsV12, TlsV13};
    let table = [
        (TlsV12, TlsV13, BOTH, Some(TlsV13)),
        (TlsV12, TlsV12, BOTH, Some(TlsV12)),
        (TlsV13, TlsV13, BOTH, Some(TlsV13)),
        (TlsV13, TlsV13, ONLY_12, None),
        (TlsV12, TlsV12, ONLY_13, None),
    ];
    for (minimum, maximum, supported, expected) in table {
        let mut configuration = TRUSTED.configuration();
        configuration.tls_minimum_supported_protocol_version = minimum;
        configuration.tls_maximum_supported_protocol_version = maximum;
        let Some(expected) = expected else {
            let (error, _) = refused(configuration, trusted_server(supported), "localhost");
            assert_eq!((error.code(), error.stage()), (ErrorCode::SecureConnectionFailed, ErrorStage::Tls), "{error}");
            assert!(error.reason().contains("versions"), "{error}");
            continue;
        };
        let (sender, receiver) = mpsc::channel();
        let server = server(trusted_server(supported), move |mut peer| {
            peer.open();
            sender.send(u16::from(peer.connection.protocol_version().unwrap())).unwrap();
            peer.echo();
        });
        let (session, _, events) = recorded_session_with(configuration, None);
        let task = open(&session, url(&server, "localhost"), &events);
        assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), expected as u16 + 0x0303 - 771);
        task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
        events.wait_for("complete None");
        server.join();
    }
}

#[test]
fn bounds_the_wrong_way_round_fail_the_task_and_not_the_program() {
    let mut configuration = TRUSTED.configuration();
    configuration.tls_minimum_supported_protocol_version = TlsProtocolVersion::TlsV13;
    configuration.tls_maximum_supported_protocol_version = TlsProtocolVersion::TlsV12;
    let nobody = Url::parse("wss://localhost:1/").unwrap();
    let error = failure(configuration.clone(), nobody);
    assert_eq!((error.code(), error.stage()), (ErrorCode::SecureConnectionFailed, ErrorStage::Request), "{error}");
    // What needs no TLS works.
    let server = Server::one(|mut peer| {
        peer.open();
        peer.echo();
    });
    let (session, _, events) = recorded_session_with(configuration, None);
    let task = open(&session, server.url(), &events);
    task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
    events.wait_for("complete None");
    server.join();
}

#[test]
fn an_end_without_a_close_frame_is_a_lost_connection() {
    // With close_notify the end is at least authentic; it is no Close frame, though: RFC 6455 §7.1.5.
    for notify in [true, false] {
        for supported in [ONLY_12, ONLY_13] {
            let server = server(trusted_server(supported), move |mut peer| {
                peer.open();
                peer.send(&frame(0x81, b"last words"));
                if notify {
                    peer.close_notify();
                }
            });
            let (session, recorder, events) = trusting_session();
            let task = session.web_socket_task(url(&server, "localhost"));
            task.receive(recorder.receiver("first"));
            task.receive(recorder.receiver("second"));
            task.send_ping(|_| ());
            task.resume();
            events.wait_for("complete");
            let log: Vec<String> = events.log().into_iter().filter(|event| event != "metrics").collect();
            // A ping that the server did not read may turn the end into a reset.
            let code = task.error().unwrap().raw_code();
            assert!(code == -1005 || (!notify && code == 54), "{log:?}");
            let (second, complete) = (format!("second {code}"), format!("complete {code}"));
            assert_eq!(log, ["open None", "first string last words", &second, &complete]);
            assert_eq!(task.close_code(), CloseCode::INVALID);
            task.receive(recorder.receiver("late"));
            assert_eq!(events.wait_for("late"), "late 57");
            server.join();
        }
    }
}

#[test]
fn a_record_that_was_changed_on_the_way_ends_the_task() {
    for supported in [ONLY_12, ONLY_13] {
        let server = server(trusted_server(supported), move |mut peer| {
            peer.open();
            let mut record = Vec::new();
            peer.write_all(&frame(0x81, b"forged")).unwrap();
            peer.connection.write_tls(&mut record).unwrap();
            *record.last_mut().unwrap() ^= 1;
            peer.stream.write_all(&record).unwrap();
            let mut rest = Vec::new();
            let error = peer.read_to_end(&mut rest).unwrap_err();
            assert!(error.to_string().contains("alert"), "{error}");
        });
        let (session, recorder, events) = trusting_session();
        let task = session.web_socket_task(url(&server, "localhost"));
        task.receive(recorder.receiver("receive"));
        task.resume();
        assert_eq!(events.wait_for("complete"), "complete -1200");
        assert!(events.log().contains(&"receive -1200".to_owned()));
        server.join();
    }
}

#[test]
fn the_closing_handshake_ends_tls_too() {
    for supported in [ONLY_12, ONLY_13] {
        let server = server(trusted_server(supported), move |mut peer| {
            peer.open();
            peer.send(&close_frame(4000, "over"));
            let close = peer.try_read_frame().unwrap();
            assert_eq!((close.opcode(), close.payload), (8, 4000u16.to_be_bytes().to_vec()));
            // Half a close from this side: the client has to say close_notify, then end the stream.
            peer.connection.send_close_notify();
            peer.flush().unwrap();
            let mut rest = Vec::new();
            assert_eq!(peer.read_to_end(&mut rest).unwrap(), 0);
        });
        let (session, _, events) = trusting_session();
        open(&session, url(&server, "localhost"), &events);
        assert_eq!(events.wait_for("close"), "close 4000 Some(\"over\")");
        events.wait_for("complete None");
        server.join();
    }
}

#[test]
fn a_cancel_says_goodbye_inside_tls() {
    let server = server(trusted_server(BOTH), move |mut peer| {
        peer.open();
        let close = peer.try_read_frame().unwrap();
        assert_eq!((close.opcode(), close.payload), (8, Vec::new()));
    });
    let (session, _, events) = trusting_session();
    let task = open(&session, url(&server, "localhost"), &events);
    task.cancel();
    events.wait_for("complete -999");
    server.join();
}

#[test]
fn sessions_with_different_roots_do_not_share_their_trust() {
    let config = trusted_server(BOTH);
    let count = Mutex::new(0);
    let server = Server::many(3, move |_, peer| {
        let mut peer = TlsPeer::new(peer, &config);
        if peer.handshake().is_ok() {
            *count.lock().unwrap() += 1;
            let mut sink = [0];
            // The one that does not trust says nothing here.
            let _ = peer.read(&mut sink);
        }
    });
    let url = url(&server, "localhost");
    // First one that trusts, so that there is a ticket that might be used.
    let (session, _, events) = trusting_session();
    let task = session.web_socket_task(&url);
    task.resume();
    events.wait_for("complete");
    assert_ne!(task.error().unwrap().stage(), ErrorStage::Request);
    let other = Authority::new("other").configuration();
    assert_eq!(failure(other, url.clone()).code(), ErrorCode::ServerCertificateHasUnknownRoot);
    assert_eq!(failure(SessionConfiguration::default(), url).code(), ErrorCode::ServerCertificateHasUnknownRoot);
    server.join();
}
