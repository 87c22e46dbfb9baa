//! What is offered in `Sec-WebSocket-Extensions`, and what may come back in it.

use super::*;

/// The values of the field that are sent.
fn offered(upgrade: &Upgrade) -> Vec<&str> {
    upgrade.fields().filter(|(name, _)| name.eq_ignore_ascii_case(EXTENSIONS)).map(|(_, value)| value).collect()
}

fn with_options(fields: &[(&str, &str)], options: &WebSocketOptions) -> Result<Upgrade, UrlError> {
    upgrade(&request("ws://a/", fields), &HashMap::new(), options, Added::default(), NONCE)
}

#[test]
fn options_decide_what_is_offered() {
    let default = WebSocketOptions::default();
    let upgrade = with_options(&[], &default).unwrap();
    assert_eq!(upgrade.fields().nth(5), Some(OURS));
    assert_eq!(offered(&upgrade), [OURS.1]);

    let off = WebSocketOptions { permessage_deflate: false, ..WebSocketOptions::default() };
    assert!(offered(&with_options(&[], &off).unwrap()).is_empty());

    let all = WebSocketOptions {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        server_max_window_bits: 9,
        client_max_window_bits: 10,
        ..default
    };
    let upgrade = with_options(&[], &all).unwrap();
    let text = "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9; \
                client_max_window_bits=10";
    assert_eq!(offered(&upgrade), [text]);
    assert_eq!(received(&upgrade).1, sent(&upgrade));
}

#[test]
fn window_bits_that_cannot_be() {
    for bits in [0, 8, 16, 255] {
        let client = WebSocketOptions { client_max_window_bits: bits, ..WebSocketOptions::default() };
        let server = WebSocketOptions { server_max_window_bits: bits, ..WebSocketOptions::default() };
        for (name, options) in [("client_max_window_bits", client), ("server_max_window_bits", server)] {
            let error = with_options(&[], &options).unwrap_err();
            assert_eq!((error.code(), error.stage()), (ErrorCode::BadUrl, ErrorStage::Request));
            assert!(error.reason().contains(name) && error.reason().contains(&format!(" {bits},")), "{error}");
            assert!(error.failing_url().is_some());
            // They say something only where we offer.
            let off = WebSocketOptions { permessage_deflate: false, ..options.clone() };
            assert!(with_options(&[], &off).is_ok());
            for by_hand in ["", "x-a", "permessage-deflate"] {
                assert!(with_options(&[(EXTENSIONS, by_hand)], &options).is_ok(), "{by_hand}");
            }
        }
    }
}

#[test]
fn extensions_by_hand_are_all_that_is_offered() {
    let table: [(&str, &[&str], usize); 9] = [
        (", ,", &[], 0),
        ("x-a; b=\"c\\d\", X-E;f, ,", &["x-a", "X-E"], 0),
        ("x-a", &["x-a"], 0),
        ("permessage-deflate", &[], 1),
        ("Permessage-Deflate; server_max_window_bits=8, x-a", &["x-a"], 1),
        ("permessage-deflate; client_max_window_bits=8,permessage-deflate; client_max_window_bits", &[], 2),
        ("x-webkit-deflate-frame", &["x-webkit-deflate-frame"], 0),
        (" ", &[], 0),
        ("", &[], 0),
    ];
    let off = WebSocketOptions { permessage_deflate: false, ..WebSocketOptions::default() };
    for (value, names, offers) in table {
        let line = tokens::trim(value);
        let lines: Vec<&str> = [line].into_iter().filter(|_| !names.is_empty() || offers > 0).collect();
        let upgrades = [
            made(&request("ws://a/", &[("sec-websocket-extensions", value)]), &[]),
            made(&request("ws://a/", &[]), &[(EXTENSIONS, value)]),
            made(&request("ws://a/", &[(EXTENSIONS, value)]), &[("sec-websocket-extensions", "other")]),
            with_options(&[(EXTENSIONS, value)], &off).unwrap(),
        ];
        for upgrade in upgrades {
            assert_eq!(offered(&upgrade), lines, "{value}");
            assert_eq!(upgrade.offer.extensions, names, "{value}");
            assert_eq!(upgrade.offer.deflate.len(), offers, "{value}");
        }
    }
}

#[test]
fn extensions_by_hand_that_no_answer_could_fit() {
    let table = [
        ("x-a;", "is malformed: a parameter has no name"),
        ("x-a; b=\"c", "is malformed: a quoted value has no end, or is no token"),
        ("x-a; b=\"c, d\"", "is malformed: a quoted value has no end, or is no token"),
        (";", "is malformed: an extension has no name"),
        ("x-a, é", "is malformed: an extension has no name"),
        ("permessage-deflate bits", "is malformed: the name of an extension is no token"),
        ("permessage-deflate; x", "offers what cannot be: permessage-deflate has the parameter \"x\", which"),
        ("x-a, permessage-deflate; server_max_window_bits", "has the parameter server_max_window_bits without a value"),
        ("permessage-deflate; server_max_window_bits=7", "with the value \"7\", which is not one of 8 to 15"),
        ("permessage-deflate; client_max_window_bits=16", "with the value \"16\", which is not one of 8 to 15"),
        ("permessage-deflate; client_no_context_takeover=1", "with the value \"1\", where none may be"),
        (
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "has the parameter server_no_context_takeover twice",
        ),
        ("permessage-deflate, permessage-deflate; x", "has the parameter \"x\""),
    ];
    let off = WebSocketOptions { permessage_deflate: false, ..WebSocketOptions::default() };
    for (value, expected) in table {
        let errors = [
            refused(&request("ws://a/", &[(EXTENSIONS, value)]), &[]),
            refused(&request("ws://a/", &[]), &[("sec-websocket-extensions", value)]),
            with_options(&[(EXTENSIONS, value)], &off).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.code(), ErrorCode::BadUrl, "{value}");
            let reason = error.reason();
            assert!(
                reason.starts_with("the header field Sec-WebSocket-Extensions ") && reason.contains(expected),
                "{error}"
            );
        }
    }
}

/// What comes of these lines of the field as the answer to a request with this one by hand, or to ours.
fn verdict(by_hand: Option<&str>, lines: &[&str]) -> Result<Option<DeflateParameters>, String> {
    let lines = lines.iter().map(|line| format!("{EXTENSIONS}: {line}\r\n")).collect::<String>();
    let head = answer(&format!("{SWITCHING}\r\n{}\r\n{lines}\r\n", GOOD.join("\r\n")));
    let fields: Vec<_> = by_hand.map(|value| (EXTENSIONS, value)).into_iter().collect();
    let accepted = made(&request("ws://a/", &fields), &[]).offer.check(&head)?;
    assert_eq!(accepted.protocol, None);
    Ok(accepted.deflate)
}

/// `None` for what is refused with this text in the reason.
type Expected<'a> = Result<Option<DeflateParameters>, &'a str>;

fn check(by_hand: Option<&str>, table: &[(&[&str], Expected<'_>)]) {
    for (lines, expected) in table {
        match (verdict(by_hand, lines), expected) {
            (Ok(deflate), Ok(expected)) if deflate == *expected => {}
            (Err(text), Err(expected)) if text.contains(expected) => {}
            (verdict, _) => panic!("{lines:?}: {verdict:?}, not {expected:?}"),
        }
    }
}

#[test]
fn extensions_of_an_answer() {
    check(
        Some("x-a; b, X-C"),
        &[
            (&[], Ok(None)),
            (&["x-a"], Ok(None)),
            (&["X-A; b; c=d; e=\"f\"; g=\"\\h\""], Ok(None)),
            (&["x-a", "x-a ; b = c"], Ok(None)),
            (&["x-c,x-a"], Ok(None)),
            (&[""], Ok(None)),
            (&["", ",x-a,"], Ok(None)),
            (&["x-b"], Err("the server chose the extension \"x-b\", which was not offered")),
            (&["x-a, x-b"], Err("\"x-b\", which was not offered")),
            (&["x-a", "x-b"], Err("\"x-b\", which was not offered")),
            (&["x-a; b=\"c\", x-b"], Err("\"x-b\", which was not offered")),
            (&["b"], Err("\"b\", which was not offered")),
            (&["permessage-deflate"], Err("\"permessage-deflate\", which was not offered")),
            (&["x-a, Permessage-Deflate; x"], Err("\"Permessage-Deflate\", which was not offered")),
            (&[";"], Err("the server's extensions are malformed, an extension has no name: \";\"")),
            (&["x-a", "x-a;"], Err("malformed, a parameter has no name: \"x-a, x-a;\"")),
            (&["x-a; =b"], Err("malformed")),
            (&["x-a; b="], Err("malformed")),
            (&["x-a; b=\"c, x-b"], Err("malformed")),
            (&["x-a; b=\"c\\\""], Err("malformed")),
            (&["x-a; b=\"c d\""], Err("malformed")),
            (&["x-a; b=\"c", "d\""], Err("malformed")),
        ],
    );
    check(
        Some(""),
        &[
            (&[], Ok(None)),
            (&["permessage-deflate"], Err("which was not offered")),
            (&["x-a"], Err("which was not offered")),
        ],
    );
}

#[test]
fn permessage_deflate_of_an_answer() {
    let default = DeflateParameters::default();
    check(
        None,
        &[
            (&[], Ok(None)),
            (&[""], Ok(None)),
            (&["permessage-deflate"], Ok(Some(default))),
            (&["", "PERMESSAGE-deflate"], Ok(Some(default))),
            (
                &["permessage-deflate; server_no_context_takeover; client_max_window_bits = \"10\""],
                Ok(Some(DeflateParameters { server_no_context_takeover: true, client_max_window_bits: 10, ..default })),
            ),
            (
                &["permessage-deflate;server_max_window_bits=8;client_no_context_takeover"],
                Ok(Some(DeflateParameters { client_no_context_takeover: true, server_max_window_bits: 8, ..default })),
            ),
            (&["permessage-deflate, permessage-deflate"], Err("the extension \"permessage-deflate\" twice")),
            (&["permessage-deflate", "Permessage-Deflate; server_max_window_bits=9"], Err("twice")),
            (&["permessage-deflate, x-a"], Err("\"x-a\", which was not offered")),
            (&["permessage-deflate;"], Err("malformed, a parameter has no name: \"permessage-deflate;\"")),
            (&["permessage-deflate; server_max_window_bits="], Err("malformed")),
            (&["permessage-deflate; server_max_window_bits=\" 9\""], Err("malformed")),
            (
                &["permessage-deflate; x\u{202e}"],
                Err("malformed, a parameter or its value is no token: \"permessage-deflate; x\\u{202e}\""),
            ),
            (
                &["permessage-deflate; x-foo"],
                Err("the server's permessage-deflate has the parameter \"x-foo\", which RFC 7692 does not know"),
            ),
            (
                &["permessage-deflate; client_max_window_bits"],
                Err("the server's permessage-deflate has the parameter client_max_window_bits without a value"),
            ),
        ],
    );
}

#[test]
fn permessage_deflate_by_hand_is_what_was_offered() {
    let with = |client_max_window_bits| Ok(Some(DeflateParameters { client_max_window_bits, ..Default::default() }));
    check(
        Some("permessage-deflate, x-a"),
        &[
            (&[], Ok(None)),
            (&["x-a, permessage-deflate"], with(15)),
            (&["permessage-deflate; client_max_window_bits=15"], Err("client_max_window_bits, which was not offered")),
        ],
    );
    check(
        Some("permessage-deflate; client_max_window_bits=12, permessage-deflate; client_max_window_bits=10"),
        &[
            (&["permessage-deflate"], with(10)),
            (&["permessage-deflate; client_max_window_bits=11"], with(11)),
            (
                &["permessage-deflate; client_max_window_bits=13"],
                Err("client_max_window_bits with the value 13, which is more than the offered 12"),
            ),
        ],
    );
    check(
        Some("permessage-deflate; server_no_context_takeover"),
        &[(
            &["permessage-deflate"],
            Err("the server's permessage-deflate has no server_no_context_takeover, which was asked for"),
        )],
    );
}
