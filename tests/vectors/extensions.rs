//! Extensions and permessage-deflate as they are negotiated: `permessage_deflate.json`.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use urlsession::internals::{Added, Extension, HeadParser, extensions, upgrade};
use urlsession::{Url, UrlRequest, WebSocketOptions};

use super::{cases, equal, run_all, text};

/// What was agreed on, in the vectors' words.
type Effective = Option<Value>;

/// Offers by hand what `offer` says, and is answered with these fields.
fn negotiated(offer: &str, fields: &str) -> Result<Effective, String> {
    let mut request = UrlRequest::new(Url::parse("ws://server.example.com/").unwrap());
    request.set_value(offer, "Sec-WebSocket-Extensions");
    let nonce = *b"not the sample's";
    let upgrade = upgrade(&request, &HashMap::new(), &WebSocketOptions::default(), Added::default(), nonce);
    let upgrade = upgrade.map_err(|error| format!("not offered: {error}"))?;
    let key = STANDARD.encode(nonce);
    let accept = STANDARD.encode(Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")));
    let head = format!("HTTP/1.1 101 Yes\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n{fields}\r\n\r\n");
    let head = HeadParser::default().parse(&mut head.as_bytes()).map_err(|error| error.to_string())?.unwrap();
    let accepted = upgrade.offer.check(&head)?;
    Ok(accepted.deflate.map(|agreed| {
        json!({
            "server_no_context_takeover": agreed.server_no_context_takeover,
            "client_no_context_takeover": agreed.client_no_context_takeover,
            "server_max_window_bits": agreed.server_max_window_bits,
            "client_max_window_bits": agreed.client_max_window_bits,
        })
    }))
}

fn answered(offer: &str, response: &str) -> Result<Effective, String> {
    negotiated(offer, &format!("Upgrade: websocket\r\nSec-WebSocket-Extensions: {response}"))
}

/// RFC 7692 §7.1.2.2: the answer has "the same or smaller value as the one in the offer". Other sources have it so, too.
const LARGER: &str = "a server may not answer with more than what was offered";

const NEGOTIATION_DIFFERENCES: [(&str, &str); 1] = [("chromium-compat-18", LARGER)];

#[test]
fn negotiation() {
    let Some(cases) = cases("permessage_deflate.json", "cases_negotiation", 64) else { return };
    assert_eq!(cases.iter().filter(|case| case["accept"] == true).count(), 34);
    run_all(&cases, &NEGOTIATION_DIFFERENCES, |case| {
        let agreed = answered(text(case, "offer"), text(case, "response"));
        match (case["accept"].as_bool().unwrap(), agreed) {
            (true, Ok(Some(agreed))) if case["effective"].is_null() || case["effective"] == agreed => Ok(()),
            (false, Err(reason)) if reason.starts_with("the server's permessage-deflate has ") => Ok(()),
            (accept, agreed) => Err(format!("expected: {accept}, {}; {agreed:?}", case["effective"])),
        }
    });
}

const EMPTY_VALUE: &str = "what follows `=` has to be a token: RFC 6455 §9.1";

const VALIDITY_DIFFERENCES: [(&str, &str); 3] =
    [("beast-39", EMPTY_VALUE), ("beast-46", EMPTY_VALUE), ("beast-53", EMPTY_VALUE)];

/// Each both as an offer by hand and as an answer.
#[test]
fn parameters() {
    let Some(cases) = cases("permessage_deflate.json", "cases_parameter_validity", 63) else { return };
    assert_eq!(cases.iter().filter(|case| case["valid"] == true).count(), 15);
    run_all(&cases, &VALIDITY_DIFFERENCES, |case| {
        let header = text(case, "header");
        let is_valid = case["valid"].as_bool().unwrap();
        let offered = negotiated(header, "Upgrade: websocket");
        equal("as an offer", offered.is_ok(), is_valid).map_err(|error| format!("{error}: {offered:?}"))?;
        // RFC 7692 §7.1.2.2: this one may be without a value, yet not in an answer.
        let is_valid = is_valid && !header.ends_with("; client_max_window_bits");
        let answered = answered("permessage-deflate; client_max_window_bits", header);
        equal("as an answer", answered.is_ok(), is_valid).map_err(|error| format!("{error}: {answered:?}"))
    });
}

const EMPTY_ELEMENT: &str = "empty elements of a list are passed over: RFC 9110 §5.6.1.2";
const WHITE_SPACE: &str = "the source takes no white space around an element; RFC 9110 §5.6.1 lets it stand there";

const HEADER_DIFFERENCES: [(&str, &str); 16] = [
    ("ext-0", EMPTY_ELEMENT),
    ("ext-7", EMPTY_ELEMENT),
    ("ext-8", EMPTY_ELEMENT),
    ("ext-9", EMPTY_ELEMENT),
    ("ext-10", EMPTY_ELEMENT),
    ("ext-55", EMPTY_ELEMENT),
    ("ext-56", EMPTY_ELEMENT),
    ("ext-57", EMPTY_ELEMENT),
    ("ext-81", EMPTY_ELEMENT),
    ("ext-83", EMPTY_ELEMENT),
    ("ext-93", EMPTY_ELEMENT),
    ("ext-88", WHITE_SPACE),
    ("ext-91", WHITE_SPACE),
    ("ext-92", WHITE_SPACE),
    ("ext-94", WHITE_SPACE),
    ("ext-95", WHITE_SPACE),
];

#[test]
fn headers() {
    let Some(cases) = cases("permessage_deflate.json", "cases_extension_header", 101) else { return };
    assert_eq!(cases.iter().filter(|case| case["parsed"].is_null()).count(), 83);
    run_all(&cases, &HEADER_DIFFERENCES, |case| {
        let list: Result<Vec<_>, _> = extensions([text(case, "header")].into_iter()).collect();
        let parsed = list.map_err(|reason| reason.to_string()).map(|list| {
            let one = |extension: Extension<'_>| {
                let parameters = extension.parameters.iter().map(|parameter| json!([parameter.name, parameter.value]));
                json!([extension.name, parameters.collect::<Vec<_>>()])
            };
            Value::from(list.into_iter().map(one).collect::<Vec<_>>())
        });
        match (parsed, &case["parsed"]) {
            (Err(_), Value::Null) => Ok(()),
            (Ok(parsed), expected) => equal("the list", &parsed, expected),
            (Err(reason), expected) => Err(format!("{reason}, expected {expected}")),
        }
    });
}

const SEVERAL: &str = "what a server upgrades to is one protocol: the source is about what a client may offer";

const TOKEN_LIST_DIFFERENCES: [(&str, &str); 2] =
    [("permessage_deflate-upgrade_token_list-007", SEVERAL), ("permessage_deflate-upgrade_token_list-008", SEVERAL)];

#[test]
fn tokens_of_upgrade() {
    let Some(cases) = cases("permessage_deflate.json", "cases_upgrade_token_list", 8) else { return };
    run_all(&cases, &TOKEN_LIST_DIFFERENCES, |case| {
        let answered = negotiated("", &format!("{}: {}", text(case, "header"), text(case, "value")));
        equal("opened", answered.is_ok(), case["contains_websocket"].as_bool().unwrap())
    });
}
