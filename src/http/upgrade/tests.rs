use url::Url;

use super::super::head::HeadParser;
use super::*;

mod extensions;

/// The nonce of RFC 6455 §1.3, its key and the answer to it.
const NONCE: [u8; 16] = *b"the sample nonce";
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What is offered where nobody says otherwise.
const OURS: (&str, &str) = (EXTENSIONS, "permessage-deflate; client_max_window_bits");

fn request(url: &str, fields: &[(&str, &str)]) -> UrlRequest {
    let mut request = UrlRequest::new(Url::parse(url).unwrap());
    for (name, value) in fields {
        request.set_value(value, name);
    }
    request
}

fn additional(fields: &[(&str, &str)]) -> HashMap<String, String> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn made(request: &UrlRequest, fields: &[(&str, &str)]) -> Upgrade {
    upgrade(request, &additional(fields), &WebSocketOptions::default(), Added::default(), NONCE).unwrap()
}

fn refused(request: &UrlRequest, fields: &[(&str, &str)]) -> UrlError {
    let error =
        upgrade(request, &additional(fields), &WebSocketOptions::default(), Added::default(), NONCE).unwrap_err();
    assert_eq!(error.stage(), ErrorStage::Request);
    assert_eq!(error.failing_url(), Some(&request.url));
    error
}

/// The caller's part of the fields that are sent.
fn rest(upgrade: &Upgrade) -> Vec<(&str, &str)> {
    upgrade.fields().skip(5).filter(|field| *field != OURS).collect()
}

fn sent(upgrade: &Upgrade) -> Vec<(String, String)> {
    upgrade.fields().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// What a server finds, parsed by another than ourselves; exactly one request, nothing before or behind it.
fn received(upgrade: &Upgrade) -> (String, Vec<(String, String)>) {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut fields);
    assert_eq!(request.parse(upgrade.head.as_bytes()), Ok(httparse::Status::Complete(upgrade.head.len())));
    assert_eq!((request.method, request.version), (Some("GET"), Some(1)));
    let fields = request.headers.iter().map(|field| {
        let value = str::from_utf8(field.value).unwrap();
        (field.name.to_owned(), value.to_owned())
    });
    (request.path.unwrap().to_owned(), fields.collect())
}

#[test]
fn the_bytes_of_a_request() {
    let request = request(
        "ws://me:secret@Example.com:8080/feed/ä?q=a b#part",
        &[("Origin", "https://example.com"), ("Sec-WebSocket-Protocol", "chat, superchat"), ("X-Padded", " \tvalue ")],
    );
    let upgrade = made(&request, &[("X-Session", "7"), ("Accept-Language", "en"), ("origin", "null")]);
    let expected = format!(
        "GET /feed/%C3%A4?q=a%20b HTTP/1.1\r\n\
         Host: example.com:8080\r\n\
         Upgrade: websocket\r\n\
         Connection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\n\
         Sec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
         Origin: https://example.com\r\n\
         Sec-WebSocket-Protocol: chat, superchat\r\n\
         X-Padded: value\r\n\
         Accept-Language: en\r\n\
         X-Session: 7\r\n\
         \r\n"
    );
    assert_eq!(upgrade.head, expected);
    let (target, fields) = received(&upgrade);
    assert_eq!(target, "/feed/%C3%A4?q=a%20b");
    assert_eq!(fields, sent(&upgrade));
    assert_eq!((upgrade.offer.nonce, accept(NONCE).as_str()), (NONCE, ACCEPT));
}

#[test]
fn target_and_host_come_from_the_address() {
    let table = [
        ("ws://example.com", "/", "example.com"),
        ("ws://example.com:80/", "/", "example.com"),
        ("ws://example.com:443/", "/", "example.com:443"),
        ("wss://example.com:443/a?", "/a?", "example.com"),
        ("wss://example.com:80/", "/", "example.com:80"),
        ("http://example.com:80/?q", "/?q", "example.com"),
        ("https://example.com/x;y", "/x;y", "example.com"),
        ("WSS://EXAMPLE.com/PATH", "/PATH", "example.com"),
        ("ws://[::1]/", "/", "[::1]"),
        ("ws://[2001:DB8::1]:8080/", "/", "[2001:db8::1]:8080"),
        ("ws://127.0.0.1:9/", "/", "127.0.0.1:9"),
        ("ws://bücher.example/", "/", "xn--bcher-kva.example"),
        ("ws://user:pass@example.com/#fragment", "/", "example.com"),
    ];
    for (url, target, host) in table {
        let upgrade = made(&request(url, &[]), &[]);
        assert_eq!(received(&upgrade).0, target, "{url}");
        assert_eq!(sent(&upgrade)[0], ("Host".to_owned(), host.to_owned()), "{url}");
        assert_eq!(sent(&upgrade).len(), 6, "{url}");
    }
}

#[test]
fn only_a_get_of_a_web_socket_address_with_a_host() {
    for url in ["ftp://example.com/", "mailto:me@example.com", "about:blank", "file:///tmp", "data:,x", "wsx://host/"] {
        assert_eq!(refused(&request(url, &[]), &[]).code(), ErrorCode::UnsupportedUrl, "{url}");
    }
    for (method, sent) in [("GET", true), ("get", true), ("POST", false), ("", false), ("GET / HTTP/1.1\r\n", false)] {
        let mut request = request("ws://example.com/", &[]);
        request.http_method = method.to_owned();
        if sent {
            assert!(made(&request, &[]).head.starts_with("GET / HTTP/1.1\r\n"));
        } else {
            assert_eq!(refused(&request, &[]).code(), ErrorCode::UnsupportedUrl, "{method}");
        }
    }
}

#[test]
fn the_handshake_itself_is_ours() {
    let theirs = [
        ("upgrade", "h2c\r\n"),
        ("CONNECTION", "close"),
        ("sec-websocket-key", "AAAA"),
        ("Sec-Websocket-Version", "8"),
        ("X-Own", "1"),
    ];
    for upgrade in [made(&request("ws://a/", &theirs), &[]), made(&request("ws://a/", &[]), &theirs)] {
        assert_eq!(rest(&upgrade), [("X-Own", "1")]);
        assert_eq!(sent(&upgrade)[3].1, KEY);
    }
}

#[test]
fn host_and_authorization_may_be_set() {
    let upgrade = made(&request("ws://a/", &[("Authorization", "Bearer 1"), ("host", "b:1")]), &[("HOST", "c")]);
    assert_eq!(sent(&upgrade)[0], ("host".to_owned(), "b:1".to_owned()));
    assert_eq!(rest(&upgrade), [("Authorization", "Bearer 1")]);
    let upgrade = made(&request("ws://a/", &[]), &[("hOST", "c"), ("authorization", "Basic x")]);
    assert_eq!(sent(&upgrade)[0], ("hOST".to_owned(), "c".to_owned()));
    assert_eq!(rest(&upgrade), [("authorization", "Basic x")]);
}

#[test]
fn no_field_twice_and_always_the_same_order() {
    let fields = [("x-b", "3"), ("X-B", "2"), ("X-b", "4"), ("A", "1"), ("z", "9"), ("M", "\r"), ("k", "5")];
    for _ in 0..20 {
        let upgrade = made(&request("ws://a/", &[("m", "0")]), &fields);
        assert_eq!(rest(&upgrade), [("m", "0"), ("A", "1"), ("k", "5"), ("X-B", "2"), ("z", "9")]);
        let error = refused(&request("ws://a/", &[]), &[("b ", ""), ("c ", ""), ("a ", "")]);
        assert!(error.reason().starts_with("\"a \""), "{error}");
    }
}

#[test]
fn fields_that_cannot_be_sent() {
    let names = ["", " ", "X A", "X:A", "X-A ", "X\r\nA", "X\0", "Ä", "X\u{2028}", "(x)", "Upgrade\t"];
    for name in names {
        for error in
            [refused(&request("ws://a/", &[(name, "v")]), &[]), refused(&request("ws://a/", &[]), &[(name, "v")])]
        {
            assert_eq!(error.code(), ErrorCode::BadUrl, "{name:?}");
            assert_eq!(error.reason(), format!("{} cannot be the name of a header field", shown(name)));
            assert!(!error.reason().contains(['\r', '\n', '\0', '\u{2028}']), "{error}");
        }
    }
    let values = ["secret\r\nX: y", "secret\n", "\rsecret", "sec\0ret", "secret\u{7f}", "\u{1b}secret", "secret\u{85}"];
    for value in values {
        for name in ["X-Field", "Host", "Authorization", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"] {
            let error = refused(&request("ws://a/", &[(name, value)]), &[]);
            assert_eq!(error.code(), ErrorCode::BadUrl, "{name} {value:?}");
            assert!(error.reason().contains(name) && !format!("{error:?}").contains("secret"), "{error}");
        }
    }
    for name in ["Content-Length", "transfer-encoding", "EXPECT", "Trailer", "te"] {
        for error in
            [refused(&request("ws://a/", &[(name, "0")]), &[]), refused(&request("ws://a/", &[]), &[(name, "0")])]
        {
            assert_eq!(error.code(), ErrorCode::BadUrl, "{name}");
            assert!(error.reason().contains(name), "{error}");
        }
    }
    let fine = [("X-Tab", "a\tb"), ("X-Text", "é, \u{2028}"), ("X-Empty", " "), ("X-Quoted", "\"a\\\"b\"")];
    let upgrade = made(&request("ws://a/", &fine), &[]);
    assert_eq!(rest(&upgrade), [fine[0], fine[1], ("X-Empty", ""), fine[3]]);
    assert_eq!(received(&upgrade).1, sent(&upgrade));
}

/// Whatever stands in an address, `Url` has encoded it, or refused it, so that one request line comes of it.
#[test]
fn nothing_in_an_address_can_inject() {
    let pieces =
        ["\r\nX: y", "\n", "\r", "\t", " HTTP/1.1", "\0", "\u{7f}", "\u{85}", "\u{2028}", "%0d%0a", "\\", "ä", "\u{1}"];
    for piece in pieces {
        let texts = [
            format!("ws://a/{piece}"),
            format!("ws://a/b{piece}c"),
            format!("ws://a/?{piece}"),
            format!("ws://a/?b{piece}c"),
            format!("ws://a/#{piece}"),
            format!("ws://a{piece}b/"),
            format!("ws://{piece}@a/"),
            format!("ws://u:{piece}@a/"),
            format!("ws{piece}://a/"),
        ];
        let mut urls: Vec<Url> = texts.iter().filter_map(|text| Url::parse(text).ok()).collect();
        let mut url = Url::parse("ws://a/").unwrap();
        url.set_path(piece);
        url.set_query(Some(piece));
        url.set_fragment(Some(piece));
        let _ = url.set_host(Some(piece));
        let _ = url.set_username(piece);
        url.query_pairs_mut().append_pair(piece, piece);
        urls.push(url);
        for url in urls.into_iter().filter(|url| url.scheme() == "ws") {
            let upgrade = made(&UrlRequest::new(url.clone()), &[]);
            let (target, fields) = received(&upgrade);
            assert!(target.bytes().all(|byte| byte.is_ascii_graphic()), "{url}");
            assert_eq!(fields, sent(&upgrade), "{url}");
            assert_eq!(upgrade.head.split('\n').count(), 9, "{url}");
        }
    }
}

#[test]
fn the_head_has_a_limit() {
    let empty = made(&request("ws://a/", &[("X", "")]), &[]).head.len();
    let most = "v".repeat(BYTES - empty);
    assert_eq!(made(&request("ws://a/", &[("X", &most)]), &[]).head.len(), BYTES);
    let error = refused(&request("ws://a/", &[("X", &format!("{most}v"))]), &[]);
    assert_eq!(error.code(), ErrorCode::BadUrl);
    assert!(error.reason().contains("65536") && error.reason().contains("65537"), "{error}");
    let error = refused(&request(&format!("ws://a/{}", "p".repeat(BYTES)), &[]), &[]);
    assert_eq!(error.code(), ErrorCode::BadUrl);
}

#[test]
fn subprotocols_are_distinct_tokens() {
    let sent: [(&str, &[&str]); 5] = [
        ("chat", &["chat"]),
        ("chat, superchat", &["chat", "superchat"]),
        ("v1.json,V1.JSON", &["v1.json", "V1.JSON"]),
        ("", &[]),
        (" \t", &[]),
    ];
    for (value, protocols) in sent {
        let upgrade = made(&request("ws://a/", &[(PROTOCOL, value)]), &[]);
        assert_eq!(upgrade.offer.protocols, protocols, "{value}");
        assert_eq!(rest(&upgrade).len(), usize::from(!protocols.is_empty()), "{value}");
        assert_eq!(made(&request("ws://a/", &[]), &[(PROTOCOL, value)]).offer.protocols, protocols, "{value}");
    }
    for value in [",", "a,", "a,,b", "a b", "a/b", "\"a\"", "ä", "a;b", "a, b, a"] {
        let error = refused(&request("ws://a/", &[(PROTOCOL, value)]), &[]);
        assert_eq!(error.code(), ErrorCode::BadUrl, "{value}");
        assert!(error.reason().starts_with("subprotocol "), "{error}");
    }
}

#[test]
fn debug_shows_no_secret() {
    let request = request("ws://me:hidden@a/", &[("Cookie", "hidden"), (PROTOCOL, "hidden")]);
    let shown = format!("{:?}", made(&request, &[]));
    assert!(shown.contains("Cookie") && !shown.contains("hidden"), "{shown}");
}

fn answer(text: &str) -> ResponseHead {
    HeadParser::default().parse(&mut text.as_bytes()).unwrap().unwrap()
}

/// The answer to a request that offered `chat` and `superchat`: status line, then fields.
fn verdict(status_line: &str, fields: &[&str]) -> Result<Accepted, String> {
    let head = answer(&format!("{status_line}\r\n{}\r\n\r\n", fields.join("\r\n")));
    made(&request("ws://a/", &[(PROTOCOL, "chat, superchat")]), &[]).offer.check(&head)
}

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols";
const ACCEPT_LINE: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const GOOD: [&str; 3] = ["Upgrade: websocket", "Connection: Upgrade", ACCEPT_LINE];

#[test]
fn status_and_version_of_an_answer() {
    assert_eq!(verdict(SWITCHING, &GOOD), Ok(Accepted { protocol: None, deflate: None }));
    assert!(verdict("HTTP/1.1 101", &GOOD).is_ok());
    assert_eq!(verdict("HTTP/1.1 200 OK", &GOOD).unwrap_err(), "the server answered 200, not 101");
    assert_eq!(verdict("HTTP/1.1 100 Continue", &GOOD).unwrap_err(), "the server answered 100, not 101");
    assert_eq!(
        verdict("HTTP/1.0 101 Switching Protocols", &GOOD).unwrap_err(),
        "the server answered in HTTP/1.0, not in HTTP/1.1"
    );
}

#[test]
fn upgrade_and_connection_of_an_answer() {
    let table: [(&[&str], Option<&str>); 16] = [
        (&["Upgrade: WebSocket", "connection: UPGRADE"], None),
        (&["Upgrade: ,websocket ,", "Connection: keep-alive, Upgrade"], None),
        (&["Upgrade: websocket", "Connection: keep-alive", "Connection: Upgrade"], None),
        (&["Upgrade: websocket", "", "Connection: Upgrade"], None),
        (&["Connection: Upgrade"], Some("the server's answer has no Upgrade")),
        (&["Upgrade: websocket"], Some("the server's answer has no Connection")),
        (&["Upgrade:", "Connection: Upgrade"], Some("the server's Upgrade is \"\", not \"websocket\"")),
        (&["Upgrade: h2c", "Connection: Upgrade"], Some("the server's Upgrade is \"h2c\", not \"websocket\"")),
        (&["Upgrade: websockets", "Connection: Upgrade"], Some("Upgrade is \"websockets\"")),
        (&["Upgrade: x websocket", "Connection: Upgrade"], Some("Upgrade is \"x websocket\"")),
        (&["Upgrade: websocket/13", "Connection: Upgrade"], Some("Upgrade is \"websocket/13\"")),
        (&["Upgrade: h2c, websocket", "Connection: Upgrade"], Some("Upgrade is \"h2c, websocket\"")),
        (
            &["Upgrade: websocket", "Upgrade: HTTP/2.0", "Connection: Upgrade"],
            Some("Upgrade is \"websocket, HTTP/2.0\""),
        ),
        (&["Upgrade: websocket", "Connection: close"], Some("the server's Connection is \"close\", not \"Upgrade\"")),
        (&["Upgrade: websocket", "Connection: Upgraded"], Some("Connection is \"Upgraded\"")),
        (&["Upgrade: websocket", "Connection: keep-alive Upgrade"], Some("Connection is \"keep-alive Upgrade\"")),
    ];
    for (fields, error) in table {
        let fields: Vec<&str> = fields.iter().copied().filter(|field| !field.is_empty()).chain([ACCEPT_LINE]).collect();
        match (verdict(SWITCHING, &fields), error) {
            (Ok(_), None) => {}
            (Err(text), Some(expected)) if text.contains(expected) => {}
            (verdict, _) => panic!("{fields:?}: {verdict:?}, not {error:?}"),
        }
    }
}

#[test]
fn accept_of_an_answer() {
    let table: [(&[&str], bool); 10] = [
        (&[ACCEPT_LINE], true),
        (&["sec-websocket-accept: \t s3pPLMBiTxaQ9kYGzzhZRbK+xOo= "], true),
        (&[], false),
        (&["Sec-WebSocket-Accept:"], false),
        (&[ACCEPT_LINE, ACCEPT_LINE], false),
        (&[ACCEPT_LINE, "Sec-WebSocket-Accept:"], false),
        (&["Sec-WebSocket-Accept: S3PPLMBITXAQ9KYGZZHZRBK+XOO="], false),
        (&["Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo"], false),
        (&["Sec-WebSocket-Accept: \"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\""], false),
        (&["Sec-WebSocket-Accept: dGhlIHNhbXBsZSBub25jZQ=="], false),
    ];
    for (accept, good) in table {
        let fields: Vec<&str> = GOOD[..2].iter().chain(accept).copied().collect();
        let verdict = verdict(SWITCHING, &fields);
        assert_eq!(verdict.is_ok(), good, "{accept:?}: {verdict:?}");
    }
    assert_ne!(accept([1; 16]).as_str(), ACCEPT);
}

#[test]
fn subprotocol_of_an_answer() {
    let table: [(&[&str], Option<&str>); 8] = [
        (&["Sec-WebSocket-Protocol: superchat"], Some("superchat")),
        (&["sec-websocket-protocol:  chat\t"], Some("chat")),
        (&["Sec-WebSocket-Protocol: Chat"], None),
        (&["Sec-WebSocket-Protocol: other"], None),
        (&["Sec-WebSocket-Protocol:"], None),
        (&["Sec-WebSocket-Protocol: chat, superchat"], None),
        (&["Sec-WebSocket-Protocol: chat,"], None),
        (&["Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: chat"], None),
    ];
    for (lines, chosen) in table {
        let fields: Vec<&str> = GOOD.iter().chain(lines).copied().collect();
        let verdict = verdict(SWITCHING, &fields);
        assert_eq!(verdict.ok().and_then(|accepted| accepted.protocol).as_deref(), chosen, "{lines:?}");
    }
    let none_offered = made(&request("ws://a/", &[]), &[]).offer;
    let head = answer(&format!("{SWITCHING}\r\n{}\r\nSec-WebSocket-Protocol: chat\r\n\r\n", GOOD.join("\r\n")));
    assert_eq!(
        none_offered.check(&head).unwrap_err(),
        "the server chose the subprotocol \"chat\", which was not offered"
    );
}

#[test]
fn what_is_shown_is_escaped_and_cut() {
    let long = format!("Upgrade: \u{202e}{}", "x".repeat(10_000));
    let text = verdict(SWITCHING, &[&long, "Connection: Upgrade", ACCEPT_LINE]).unwrap_err();
    assert!(text.starts_with("the server's Upgrade is \"\\u{202e}xxx") && text.len() < 200, "{text}");
}

#[test]
fn of_cookies_as_many_are_sent_as_there_is_room_for() {
    let mut request = UrlRequest::new(Url::parse("ws://example.com/").unwrap());
    let head = |request: &UrlRequest, cookies| {
        upgrade(
            request,
            &HashMap::new(),
            &WebSocketOptions::default(),
            Added { cookies: Some(cookies), ..Added::default() },
            [7; 16],
        )
        .map(|upgrade| upgrade.head)
    };
    request.set_value("", "X-Long");
    let without = head(&request, "a=1; b=2; c=3").unwrap().len() - "Cookie: a=1; b=2; c=3\r\n".len();
    for (room, sent) in [(13, "a=1; b=2; c=3"), (12, "a=1; b=2"), (8, "a=1; b=2"), (7, "a=1"), (3, "a=1"), (2, "")] {
        let length = BYTES - without - "Cookie: \r\n".len() - room;
        request.set_value(&"x".repeat(length), "X-Long");
        let head = head(&request, "a=1; b=2; c=3").unwrap();
        let field = head.lines().find_map(|line| line.strip_prefix("Cookie: ")).unwrap_or_default();
        assert_eq!(field, sent, "{room}");
        assert!(head.len() <= BYTES);
    }
    assert!(fitting("", 0).is_some() && fitting("a", 0).is_none());
}

#[test]
fn an_authorization_of_ours_takes_the_place_of_the_callers() {
    let fields = [("Authorization", "Bearer mine"), ("authorization", "Bearer common"), ("X-A", "a")];
    let request = request("ws://a/", &[("AUTHORIZATION", "Bearer caller")]);
    let of = |authorization| {
        let added = Added { authorization, ..Added::default() };
        let upgrade = upgrade(&request, &additional(&fields), &WebSocketOptions::default(), added, NONCE).unwrap();
        let sent: Vec<_> = upgrade
            .fields()
            .filter(|(name, _)| is_one_of(name, &[AUTHORIZATION]))
            .map(|(_, value)| value.to_owned())
            .collect();
        sent
    };
    assert_eq!(of(None), ["Bearer caller"]);
    assert_eq!(of(Some("Basic b3Vycw==")), ["Basic b3Vycw=="]);
    let added = Added { authorization: Some("Basic a\r\nX: b"), ..Added::default() };
    let error = upgrade(&request, &HashMap::new(), &WebSocketOptions::default(), added, NONCE).unwrap_err();
    assert!(!error.to_string().contains("Basic"), "{error}");
}

#[test]
fn few_additional_fields_go_to_another_origin() {
    let fields = [("Authorization", "secret"), ("X-Api-Key", "secret"), ("user-agent", "me"), ("Origin", "http://a")];
    let request = request("ws://a/", &[("X-Own", "own")]);
    let names = |led_away| {
        let added = Added { led_away, ..Added::default() };
        let upgrade = upgrade(&request, &additional(&fields), &WebSocketOptions::default(), added, NONCE).unwrap();
        let count = |name| upgrade.fields().filter(|(field, _)| is_one_of(field, &[name])).count();
        ["Authorization", "X-Api-Key", "User-Agent", "Origin", "X-Own"].map(count)
    };
    assert_eq!(names(false), [1, 1, 1, 1, 1]);
    assert_eq!(names(true), [0, 0, 1, 1, 1]);
}
