//! Answers to a request: `ws_handshake_responses.json`, `http_response_llhttp.json`.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha1::{Digest, Sha1};
use urlsession::internals::{Added, BodyReader, Decoder, HeadParser, Incoming, upgrade};
use urlsession::{Url, UrlRequest, WebSocketOptions};

use super::frames::{decoded_by, deflating, string};
use super::{cases, equal, id, latin1, run_all, text};

/// How a handshake went.
struct Opened {
    protocol: Option<String>,
    /// Where messages are compressed: whether the server begins each anew.
    compressed: Option<bool>,
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
    let upgrade =
        upgrade(&request, &HashMap::new(), &WebSocketOptions::default(), Added::default(), nonce).expect("a request");

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
            let compressed = accepted.deflate.map(|deflate| deflate.server_no_context_takeover);
            return Ok(Opened { protocol: accepted.protocol, compressed, fields: head.to_fields(), rest });
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
const DECIDED: [(&str, &str); 9] = [
    // A server may choose none of the subprotocols: RFC 6455 §4.2.2, item 5.5.
    ("chromium/UnacceptedSubProtocol", "accept"),
    ("chromium/web_tests/handshake-fail-by-null-subprotocol-selection_wsh.py", "accept"),
    ("pyws/HandshakeTests.test_no_subprotocol_accepted", "accept"),
    ("wpt/constructor/012 (handlers/handshake_no_protocol_wsh.py)", "accept"),
    ("ws/fails if server sends no subprotocol", "accept"),
    // Redirects are not followed yet.
    ("chromium/RedirectsRejected", "fail"),
    // RFC 9112 §5.2 has clients that unfold a line, and servers that must not fold one.
    ("chromium/end_to_end/HeaderContinuations (header-continuation_wsh.py)", "fail"),
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
    if let Some(expected) = case["expect_extensions"].as_str() {
        let all: Vec<&str> = opened
            .fields
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("Sec-WebSocket-Extensions"))
            .map(|(_, value)| value.as_str())
            .collect();
        equal("the extensions", &*all.join(", "), expected)?;
        equal("whether messages are compressed", opened.compressed.is_some(), !expected.is_empty())?;
    }
    let decoder = opened.compressed.map_or_else(|| Decoder::new(0), |anew| deflating(0, anew));
    let (incoming, violation) = decoded_by(decoder, [&*opened.rest]);
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
        heads.push((head.status_code, head.http_version, head.to_fields()));
        if is_final {
            body.read(rest);
            pieces.for_each(|piece| _ = body.read(piece));
            return Ok(Answer { heads, head_bytes, body: body.into_body() });
        }
    }
}
