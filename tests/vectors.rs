//! Test vectors that others published, run through the storeys without I/O and through the public interface.
//!
//! `URLSESSION_VECTORS` names the directory with the JSON files; without it there is nothing to run, and the tests pass.
//! Where an answer of this crate differs from that of a source, the case stands in a list here with the reason. A list
//! holds exactly the cases that differ: one that no longer does fails the test, too.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha1::{Digest, Sha1};
use socket2::{Domain, Socket, Type};
use urlsession::internals::{BodyReader, Decoder, HeadParser, Incoming, ViolationKind, upgrade};
use urlsession::{ErrorCode, Message, SessionConfiguration, Url, UrlRequest, UrlSession};

/// The cases of one list of a file; `None` where there are no vectors.
fn cases(file: &str, list: &str, count: usize) -> Option<Vec<Value>> {
    let Some(directory) = std::env::var_os("URLSESSION_VECTORS") else {
        println!("URLSESSION_VECTORS is not set: {file} is not run");
        return None;
    };
    let path = PathBuf::from(directory).join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut json: Value = serde_json::from_str(&text).unwrap();
    let Value::Array(cases) = json[list].take() else { panic!("{file} has no {list}") };
    assert_eq!(cases.len(), count, "{list} of {file}");
    Some(cases)
}

/// Runs the cases; those that fail are exactly the listed ones.
fn run_all(cases: &[Value], differences: &[(&str, &str)], run: impl Fn(&Value) -> Result<(), String>) {
    let listed: BTreeSet<&str> = differences.iter().map(|(id, _)| *id).collect();
    assert_eq!(listed.len(), differences.len(), "a case is listed twice");
    assert!(differences.iter().all(|(_, reason)| !reason.is_empty()));
    let failed: BTreeMap<&str, String> = cases.iter().filter_map(|case| Some((id(case), run(case).err()?))).collect();
    let unexpected: Vec<_> = failed.iter().filter(|(id, _)| !listed.contains(*id)).collect();
    assert!(unexpected.is_empty(), "{} cases fail: {unexpected:#?}", unexpected.len());
    let passed: Vec<_> = listed.iter().filter(|id| !failed.contains_key(*id)).collect();
    assert!(passed.is_empty(), "listed as different, and not so: {passed:#?}");
}

fn id(case: &Value) -> &str {
    case["id"].as_str().unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is no text: {value}"))
}

/// Bytes that are written as code points 0 to 255.
fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|character| u8::try_from(u32::from(character)).expect("a byte")).collect()
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a digit") as u8;
    text.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, expected {expected:?}")) }
}

// Frames.

type Decoded = (Vec<Incoming>, Option<ViolationKind>);

/// What comes out of pieces, up to a violation.
fn decoded<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    let mut decoder = Decoder::new(0);
    let mut incoming = Vec::new();
    for mut piece in pieces {
        loop {
            match decoder.decode(&mut piece) {
                Ok(Some(next)) => incoming.push(next),
                Ok(None) => break,
                Err(violation) => return (incoming, Some(violation.kind())),
            }
        }
        assert!(piece.is_empty(), "bytes were left");
    }
    (incoming, None)
}

/// The same whole, byte by byte, and cut in two at every byte, as far as that is not too much.
fn decoded_in_every_way(bytes: &[u8]) -> Decoded {
    let whole = decoded([bytes]);
    assert_eq!(decoded(bytes.chunks(1)), whole, "byte by byte");
    for at in 1..bytes.len().min(400) {
        let (front, back) = bytes.split_at(at);
        assert_eq!(decoded([front, back]), whole, "cut at {at}");
    }
    whole
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(length as u8),
        length => {
            bytes.push(126);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    bytes.extend(payload);
    bytes
}

fn string(payload: &[u8]) -> Incoming {
    Incoming::Message(Message::String(String::from_utf8(payload.to_vec()).expect("the vectors are right")))
}

#[test]
fn utf8() {
    // Each with the number of its cases, and of those that are UTF-8.
    let lists = [("cases_autobahn", 132, 63), ("cases_utf8tests", 222, 77), ("cases_kuhn", 77, 77)];
    for (list, count, valid) in lists {
        let Some(cases) = cases("utf8.json", list, count) else { return };
        assert_eq!(cases.iter().filter(|case| case["valid"] == true).count(), valid, "{list}");
        run_all(&cases, &[], |case| {
            let payload = hex(text(case, "hex"));
            let expected = match case["valid"].as_bool().unwrap() {
                true => (vec![string(&payload)], None),
                false => (vec![], Some(ViolationKind::Text)),
            };
            equal("one frame", decoded_in_every_way(&frame(0x81, &payload)), expected.clone())?;
            for at in 0..=payload.len() {
                let (front, back) = payload.split_at(at);
                let bytes = [frame(0x01, front), frame(0x80, back)].concat();
                equal(&format!("two frames, {at}"), decoded([&*bytes]), expected.clone())?;
                equal(&format!("two frames, {at}, byte by byte"), decoded(bytes.chunks(1)), expected.clone())?;
            }
            let data = (vec![Incoming::Message(Message::Data(payload.clone()))], None);
            equal("data", decoded_in_every_way(&frame(0x82, &payload)), data)?;
            if payload.len() > 123 {
                return Ok(());
            }
            let close = decoded_in_every_way(&frame(0x88, &[&[3, 232], &*payload].concat()));
            match (&*close.0, close.1, expected.1) {
                ([Incoming::Close { code: Some(code), reason }], None, None) if code.raw_value() == 1000 => {
                    equal("the reason of a Close", reason, &payload)
                }
                ([], Some(ViolationKind::Text), Some(_)) => Ok(()),
                _ => Err(format!("as the reason of a Close: {close:?}")),
            }
        });
    }
}

#[test]
fn utf8_in_fragments() {
    let Some(cases) = cases("utf8.json", "cases_fragments", 13) else { return };
    run_all(&cases, &[], |case| {
        // Pieces as the source sends them, one after the other.
        let mut pieces = Vec::new();
        for sent in case["frames"].as_array().unwrap() {
            let first = sent["opcode"].as_u64().unwrap() as u8 | if sent["fin"] == true { 0x80 } else { 0 };
            let chops = match sent["payload_chops_hex"].as_array() {
                Some(chops) => chops.iter().map(|chop| hex(chop.as_str().unwrap())).collect(),
                None => vec![hex(text(sent, "payload_hex"))],
            };
            let mut bytes = frame(first, &chops.concat());
            for chop in chops[1..].iter().rev() {
                pieces.insert(pieces.len(), bytes.split_off(bytes.len() - chop.len()));
            }
            let behind = pieces.len() + 1 - chops.len();
            pieces.push(bytes);
            pieces[behind..].reverse();
        }
        let all = decoded_in_every_way(&pieces.concat());
        if let Some(message) = case["expected"]["message_hex"].as_str() {
            return equal("the message", all, (vec![string(&hex(message))], None));
        }
        equal("the violation", all, (vec![], Some(ViolationKind::Text)))?;
        if !case["fail_fast"].is_null() {
            // Refused with the second piece, not at the end.
            equal("the first piece", decoded([&*pieces[0]]), (vec![], None))?;
            let two = decoded(pieces[..2].iter().map(Vec::as_slice));
            equal("the second piece", two, (vec![], Some(ViolationKind::Text)))?;
        }
        Ok(())
    });
}

#[test]
fn frames() {
    let Some(cases) = cases("ws_frames_curl.json", "cases", 24) else { return };
    run_all(&cases, &[], |case| {
        let mut bytes = Vec::new();
        for segment in case["server_bytes_after_handshake"].as_array().unwrap() {
            match segment.as_str() {
                Some(digits) => bytes.extend(hex(digits)),
                None => {
                    let count = segment[0].as_u64().unwrap() as usize;
                    bytes.extend(segment[1].as_str().unwrap().repeat(count).bytes());
                }
            }
        }
        let (incoming, violation) = decoded_in_every_way(&bytes);
        let expected = (text(case, "expected") == "fail").then_some(ViolationKind::Framing);
        equal("the violation", violation, expected)?;

        // The source tells of frames, the decoder of messages; pings that its tool answered by itself it does not tell.
        let mut delivered = Vec::new();
        let mut begun: Vec<u8> = Vec::new();
        for frame in case["frames_delivered"].as_array().unwrap() {
            let payload = match &frame["payload_repeat"] {
                Value::Null => hex(text(frame, "payload_hex")),
                repeat => repeat[0].as_str().unwrap().repeat(repeat[1].as_u64().unwrap() as usize).into_bytes(),
            };
            delivered.push(match text(frame, "type") {
                "ping" => Incoming::Ping(payload),
                "pong" => Incoming::Pong(payload),
                "close" => match payload.split_first_chunk() {
                    None => Incoming::Close { code: None, reason: payload },
                    Some((code, reason)) => Incoming::Close {
                        code: Some(urlsession::CloseCode::new(u16::from_be_bytes(*code))),
                        reason: reason.to_vec(),
                    },
                },
                kind => {
                    begun.extend(payload);
                    if frame["fin"] == false {
                        continue;
                    }
                    let payload = std::mem::take(&mut begun);
                    if kind == "txt" { string(&payload) } else { Incoming::Message(Message::Data(payload)) }
                }
            });
        }
        let tells_pings = delivered.iter().any(|one| matches!(one, Incoming::Ping(_)));
        let told = incoming.into_iter().filter(|one| tells_pings || !matches!(one, Incoming::Ping(_))).collect();
        equal("what is delivered", told, delivered)
    });
}

// Heads.

/// How a handshake went.
struct Opened {
    protocol: Option<String>,
    fields: Vec<(String, String)>,
    /// What stood behind the head.
    rest: Vec<u8>,
}

/// Why it did not open, with the status where there was one.
type Refused = (Option<u16>, String);

fn open(case: &Value, response: &str, size: usize) -> Result<Opened, Refused> {
    let mut request = UrlRequest::new(Url::parse("ws://server.example.com/").unwrap());
    let offers = &case["client_offers"];
    if let Some(protocols) = offers["protocols"].as_array() {
        let protocols: Vec<&str> = protocols.iter().map(|protocol| protocol.as_str().unwrap()).collect();
        request.set_value(&protocols.join(", "), "Sec-WebSocket-Protocol");
    }
    if let Some(extensions) = offers["extensions"].as_str() {
        request.set_value(extensions, "Sec-WebSocket-Extensions");
    }
    let nonce = *b"not the sample's";
    let upgrade = upgrade(&request, &HashMap::new(), nonce).expect("a request");

    let key = STANDARD.encode(nonce);
    let accept = STANDARD.encode(Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")));
    let bytes = latin1(&repeated(&response.replace("{{ACCEPT}}", &accept)));
    let mut parser = HeadParser::default();
    let mut pieces = bytes.chunks(size);
    let mut rest: &[u8] = &[];
    loop {
        if rest.is_empty() {
            rest = pieces.next().ok_or_else(|| (None, "the connection ended in the head".to_owned()))?;
        }
        let Some(head) = parser.parse(&mut rest).map_err(|error| (None, error.to_string()))? else { continue };
        if head.status_code == 101 || head.status_code >= 200 {
            let accepted = upgrade.offer.check(&head).map_err(|reason| (Some(head.status_code), reason))?;
            let rest = pieces.fold(rest.to_vec(), |before, piece| [&before, piece].concat());
            return Ok(Opened { protocol: accepted.protocol, fields: head.fields, rest });
        }
    }
}

/// `{{REPEAT n i:text}}`, with `{i}` in the text.
fn repeated(response: &str) -> String {
    let Some((before, rest)) = response.split_once("{{REPEAT ") else { return response.to_owned() };
    let (pattern, after) = rest.split_once("}}").unwrap();
    let (count, pattern) = pattern.split_once(" i:").unwrap();
    let pattern = pattern.replace("\\r\\n", "\r\n");
    let all: String = (0..count.parse::<usize>().unwrap()).map(|i| pattern.replace("{i}", &i.to_string())).collect();
    format!("{before}{all}{after}")
}

/// Where sources disagree, or leave it to the client, this one decides so.
const DECIDED: [(&str, &str); 8] = [
    // A server may choose none of the subprotocols: RFC 6455 §4.2.2, item 5.5.
    ("chromium/UnacceptedSubProtocol", "accept"),
    ("chromium/web_tests/handshake-fail-by-null-subprotocol-selection_wsh.py", "accept"),
    ("pyws/HandshakeTests.test_no_subprotocol_accepted", "accept"),
    ("wpt/constructor/012 (handlers/handshake_no_protocol_wsh.py)", "accept"),
    ("ws/fails if server sends no subprotocol", "accept"),
    // Redirects are not followed yet.
    ("chromium/RedirectsRejected", "fail"),
    // Lines end with CR LF and nothing else.
    ("webkit/handshake-fail-by-no-cr", "fail"),
    // HTTP/1.0 and HTTP/1.1 are known, and nothing beyond.
    ("webkit/handshake-ok-with-http-version-beyond-1_1", "fail"),
];

const HANDSHAKE_DIFFERENCES: [(&str, &str); 3] = [
    ("chromium/BasicAuth/SuccessPasswordInUrl", AUTHENTICATION),
    ("chromium/DigestAuth/DigestPasswordInUrl", AUTHENTICATION),
    ("wpt/basic-auth (handlers/basic_auth_wsh.py)", AUTHENTICATION),
];

const AUTHENTICATION: &str = "there is no authentication yet: a 401 is the final answer";

#[test]
fn handshakes() {
    let Some(cases) = cases("ws_handshake_responses.json", "cases", 144) else { return };
    let (compressed, cases): (Vec<Value>, Vec<Value>) =
        cases.into_iter().partition(|case| case.to_string().contains("permessage-deflate"));
    for case in &compressed {
        println!("skipped, for it is about compression: {}", id(case));
    }
    assert_eq!(compressed.len(), 28);
    run_all(&cases, &HANDSHAKE_DIFFERENCES, |case| {
        // Of an exchange with several requests it is the first answer that counts.
        let response = case["response"].as_str().or_else(|| case["response"][0].as_str()).unwrap();
        let opened = open(case, response, usize::MAX);
        for size in [1, 2, 7] {
            let again = open(case, response, size);
            let same = match (&opened, &again) {
                (Ok(one), Ok(other)) => {
                    one.protocol == other.protocol && one.fields == other.fields && one.rest == other.rest
                }
                (Err(one), Err(other)) => one.0 == other.0,
                _ => false,
            };
            if !same {
                return Err(format!("in pieces of {size} it is another answer: {:?}", again.err()));
            }
        }
        let expected = match text(case, "expected") {
            "disputed" | "policy" => {
                DECIDED.iter().find(|(id, _)| *id == self::id(case)).ok_or("nothing is decided")?.1
            }
            expected => expected,
        };
        match (expected, opened) {
            ("accept", Ok(opened)) => check_opened(case, &opened),
            ("fail", Err((status, _))) => match case["expect_status"].as_u64() {
                Some(expected) => equal("the status", status.map(u64::from), Some(expected)),
                None => Ok(()),
            },
            ("accept", Err((_, reason))) => Err(format!("refused: {reason}")),
            (expected, _) => Err(format!("opened, expected: {expected}")),
        }
    });
}

fn check_opened(case: &Value, opened: &Opened) -> Result<(), String> {
    if let Some(protocol) = case["expect_protocol"].as_str() {
        equal("the subprotocol", opened.protocol.as_deref(), Some(protocol))?;
    }
    for expected in case["expect_headers"].as_array().into_iter().flatten() {
        let (name, value) = (expected[0].as_str().unwrap(), expected[1].as_str().unwrap());
        let has = opened.fields.iter().any(|field| (&*field.0, &*field.1) == (name, value));
        equal(name, has, true)?;
    }
    let (incoming, violation) = decoded([&*opened.rest]);
    equal("a violation", violation, None)?;
    if let Some(message) = case["expect_message"].as_str() {
        equal("the message", incoming.contains(&string(message.as_bytes())), true)?;
    }
    if let Some(code) = case["expect_close"]["code"].as_u64() {
        let reason = text(&case["expect_close"], "reason").as_bytes().to_vec();
        let code = Some(urlsession::CloseCode::new(u16::try_from(code).unwrap()));
        equal("the Close", incoming.contains(&Incoming::Close { code, reason }), true)?;
    }
    Ok(())
}

const RESPONSE_DIFFERENCES: [(&str, &str); 9] = [
    ("llhttp-connection-589", EMPTY_LINE),
    ("llhttp-sample-698", EMPTY_LINE),
    ("llhttp-content-length-126", "the source reads it as the answer to a HEAD, which is never asked here"),
    ("llhttp-sample-43", "RTSP is not HTTP"),
    ("llhttp-sample-63", "ICE is not HTTP"),
    ("llhttp-sample-648", "HTTP/0.9 has no head"),
    ("llhttp-transfer-encoding-7", "white space behind the size of a chunk is passed over: some servers pad it"),
    ("llhttp-transfer-encoding-251", CHUNK_EXTENSION),
    ("llhttp-transfer-encoding-348", CHUNK_EXTENSION),
];

const EMPTY_LINE: &str = "an answer begins with its status line: an empty line before it is refused";
const CHUNK_EXTENSION: &str = "what a chunk extension says is not looked at, so that it cannot be malformed";

#[test]
fn responses() {
    let Some(cases) = cases("http_response_llhttp.json", "cases", 65) else { return };
    run_all(&cases, &RESPONSE_DIFFERENCES, |case| {
        let bytes = latin1(text(case, "response"));
        let read = read(&bytes, usize::MAX);
        for size in 1..bytes.len() {
            // What an error shows of the bytes depends on how they came.
            if self::read(&bytes, size).map_err(drop) != read.clone().map_err(drop) {
                return Err(format!("in pieces of {size} it is another answer"));
            }
        }
        let messages = case["messages"].as_array().unwrap();
        // Behind the final head and its body nothing is read: those of a pipeline are not for this client.
        let is_final = |message: &&Value| !matches!(message["status"].as_u64(), Some(100 | 102..200));
        let last = messages.iter().position(|message| is_final(&message)).unwrap();
        if messages[last]["headers_complete"] != true {
            return read.map_or(Ok(()), |answer| Err(format!("read, expected an error: {answer:?}")));
        }
        let answer = read?;
        for (head, message) in answer.heads.iter().zip(&messages[..=last]) {
            equal("the status", Some(u64::from(head.0)), message["status"].as_u64())?;
            equal("the version", head.1, &format!("HTTP/{}", text(message, "version")))?;
            let fields: Vec<Value> =
                head.2.iter().map(|(name, value)| Value::from(vec![name.as_str(), value])).collect();
            equal("the fields", &fields, message["headers"].as_array().unwrap())?;
        }
        equal("the number of heads", answer.heads.len(), last + 1)?;
        if let Some(offset) = case["upgrade_at"].as_u64() {
            return equal("the length of the head", answer.head_bytes as u64, offset);
        }
        equal("the body", answer.body, latin1(messages[last]["body"].as_str().unwrap_or_default()))
    });
}

/// Status, version and fields.
type Head = (u16, &'static str, Vec<(String, String)>);

#[derive(Clone, Debug, PartialEq)]
struct Answer {
    /// The final one at the end.
    heads: Vec<Head>,
    head_bytes: usize,
    body: Vec<u8>,
}

/// Reads heads up to the final one, and its body.
fn read(bytes: &[u8], size: usize) -> Result<Answer, String> {
    let mut parser = HeadParser::default();
    let mut pieces = bytes.chunks(size);
    let mut rest: &[u8] = &[];
    let (mut heads, mut head_bytes) = (Vec::new(), 0);
    loop {
        if rest.is_empty() {
            rest = pieces.next().ok_or("the head has no end")?;
        }
        let Some(head) = parser.parse(&mut rest).map_err(|error| error.to_string())? else { continue };
        let mut body = BodyReader::new(&head);
        let is_final = head.status_code == 101 || head.status_code >= 200;
        head_bytes += head.bytes;
        heads.push((head.status_code, head.http_version, head.fields));
        if is_final {
            body.read(rest);
            pieces.for_each(|piece| _ = body.read(piece));
            return Ok(Answer { heads, head_bytes, body: body.into_body() });
        }
    }
}

// Addresses.

const URL_DIFFERENCES: [(&str, &str); 8] = [
    ("pyws http://localhost/", SYNONYM),
    ("pyws https://localhost/", SYNONYM),
    ("pyws ws:///path", "the URL Standard reads any number of slashes, and so `path` is the host"),
    ("pyws ws://user@localhost/", "a user without a password is one: neither is sent"),
    ("pyws ws://localhost/path#fragment", FRAGMENT),
    ("wpt/fragment ws://HOST:PORT/#", FRAGMENT),
    ("wpt/fragment ws://HOST:PORT/#test", FRAGMENT),
    ("ws wss://websocket-echo.com#foo", FRAGMENT),
];

const SYNONYM: &str = "http and https are taken for ws and wss";
const FRAGMENT: &str = "a fragment is not sent, and does no harm";

#[test]
fn urls() {
    let Some(cases) = cases("url_websocket.json", "cases", 53) else { return };
    run_all(&cases, &URL_DIFFERENCES, |case| {
        let url = match text(case, "url") {
            url if url.contains("//HOST") => {
                let url = url.replace("HOST(upper case)", "LOCALHOST");
                url.replace("//HOST", "//localhost").replace("PORT", "8080")
            }
            url => url.to_owned(),
        };
        let head = Url::parse(&url).map_err(|error| error.to_string()).and_then(|url| {
            let upgrade = upgrade(&UrlRequest::new(url), &HashMap::new(), [0; 16]);
            upgrade.map(|upgrade| String::from_utf8(upgrade.head).unwrap()).map_err(|error| error.to_string())
        });
        let head = match (text(case, "expected"), head) {
            ("reject", Err(_)) => return Ok(()),
            ("accept" | "disputed", Ok(head)) => head,
            (expected, head) => return Err(format!("expected: {expected}; {head:?}")),
        };
        let target = head.split(' ').nth(1).unwrap();
        if let Some(expected) = case["request_target"].as_str() {
            equal("the request target", target, expected)?;
        }
        if let Some(suffix) = case["request_target_suffix"].as_str() {
            equal("the end of the request target", target.ends_with(suffix), true)?;
        }
        let host = head.lines().find_map(|line| line.strip_prefix("Host: ")).unwrap();
        if let Some(expected) = case["host_header"].as_str() {
            equal("Host", host, expected)?;
        }
        if let (Some(expected), Ok(url)) = (case["host"].as_str(), Url::parse(&url)) {
            equal("the host", url.host_str().map(|host| host.trim_matches(['[', ']'])), Some(expected))?;
            if let Some(port) = case["port"].as_u64() {
                equal("the port", url.port_or_known_default().map(u64::from), Some(port))?;
            }
        }
        equal("an Authorization", head.contains("Authorization"), false)
    });
}

#[test]
fn subprotocols() {
    let Some(cases) = cases("url_websocket.json", "cases_subprotocol_argument", 166) else { return };
    // A port that nobody listens on, and that nobody else is given meanwhile.
    let closed = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    closed.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let address = closed.local_addr().unwrap().as_socket().unwrap();
    let url = Url::parse(&format!("ws://{address}/")).unwrap();

    let session = UrlSession::new(SessionConfiguration::default());
    assert!(cases.iter().any(|case| case["accept"] == true));
    run_all(&cases, &[], |case| {
        let protocols: Vec<&str> =
            case["protocols"].as_array().unwrap().iter().map(|protocol| protocol.as_str().unwrap()).collect();
        let task = session.web_socket_task_with_protocols(&url, &protocols);
        let (sender, failure) = mpsc::channel();
        task.receive(move |result| drop(sender.send(result.err())));
        task.resume();
        let failure = failure.recv_timeout(Duration::from_secs(20)).map_err(|error| error.to_string())?;
        let expected = if case["accept"] == true { ErrorCode::CannotConnectToHost } else { ErrorCode::BadUrl };
        equal("the error", failure.map(|error| error.code()), Some(expected))
    });
    session.finish_tasks_and_invalidate();
}
