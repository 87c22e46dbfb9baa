use super::*;

/// Everything that a connection sends, in pieces: the heads until the first that is not informational, what is left,
/// or why it failed.
fn read(pieces: &[&[u8]]) -> (Vec<ResponseHead>, Vec<u8>, Option<HeadError>) {
    let mut parser = HeadParser::default();
    let mut heads: Vec<ResponseHead> = Vec::new();
    let mut left = Vec::new();
    for piece in pieces {
        let mut input = *piece;
        while !input.is_empty() && heads.last().is_none_or(|head| matches!(head.status_code, 100 | 102..=199)) {
            match parser.parse(&mut input) {
                Ok(head) => heads.extend(head),
                Err(error) => {
                    assert_eq!(parser.parse(&mut &b"HTTP/1.1 200 OK\r\n\r\n"[..]).unwrap_err(), error);
                    return (heads, left, Some(error));
                }
            }
        }
        left.extend_from_slice(input);
    }
    (heads, left, None)
}

/// The same bytes whole, byte by byte and in every two parts give the same; that is given back.
fn in_every_way(bytes: &[u8]) -> (Vec<ResponseHead>, Vec<u8>, Option<HeadError>) {
    let told = |(heads, left, error): &(Vec<ResponseHead>, Vec<u8>, Option<HeadError>)| {
        let heads: Vec<_> =
            heads.iter().map(|head| (head.status_code, head.text.clone(), head.ends.clone(), head.bytes)).collect();
        // How much can be shown of what is no HTTP depends on how much of it came at once.
        let error = error.as_ref().map(|error| error.to_string().split(" begins with").next().unwrap().to_owned());
        (heads, left.clone(), error)
    };
    let whole = read(&[bytes]);
    let expected = told(&whole);
    assert_eq!(told(&read(&bytes.chunks(1).collect::<Vec<_>>())), expected);
    for at in 0..=bytes.len() {
        let (first, second) = bytes.split_at(at);
        assert_eq!(told(&read(&[first, second])), expected, "split at {at}");
    }
    whole
}

fn fields(head: &ResponseHead) -> Vec<(&str, &str)> {
    head.fields().collect()
}

#[test]
fn heads_and_what_follows_them() {
    let upgrade =
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade:websocket\r\nConnection:\t Upgrade \t\r\nX-Empty:\r\n\r\n";
    let mut bytes = upgrade.to_vec();
    bytes.extend_from_slice(b"\x81\x02\r\n");
    let (heads, left, error) = in_every_way(&bytes);
    assert_eq!(error, None);
    assert_eq!((heads.len(), &*left), (1, &b"\x81\x02\r\n"[..]));
    assert_eq!((heads[0].status_code, heads[0].http_version, heads[0].bytes), (101, "HTTP/1.1", upgrade.len()));
    assert_eq!(fields(&heads[0]), [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("X-Empty", "")]);
}

#[test]
fn informational_heads_come_first() {
    let (heads, left, error) = in_every_way(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: a\r\nLink: b\r\n\r\nHTTP/1.0 404 No\r\n\r\nbody",
    );
    assert_eq!(error, None);
    assert_eq!(heads.iter().map(|head| head.status_code).collect::<Vec<_>>(), [100, 103, 404]);
    assert_eq!(heads[1].values("LINK").collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((heads[2].http_version, &*left), ("HTTP/1.0", &b"body"[..]));
}

#[test]
fn status_lines() {
    for (line, code) in [
        ("HTTP/1.1 200 OK", 200),
        ("HTTP/1.1 200 ", 200),
        ("HTTP/1.1 200", 200),
        ("HTTP/1.1 200  OK", 200),
        ("HTTP/1.1 500 Ori\u{eb}ntatieprobleem", 500),
        ("HTTP/1.0 999 \tWhat", 999),
    ] {
        let (heads, _, error) = in_every_way(format!("{line}\r\n\r\n").as_bytes());
        assert_eq!((error, heads.first().map(|head| head.status_code)), (None, Some(code)), "{line}");
    }
    for line in [
        "HTTP/1.2 200 OK",
        "HTTP/1.9 200 OK",
        "HTTP/1.01 200 OK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 2x0 OK",
        "HTTP/1.1 099 OK",
        "HTTP/1.1 +20 OK",
        "HTTP/1.1 200\tOK",
        "HTTP/1.1 200 O\u{1}K",
        "HTTP/1.1",
        "HTTP/1.1 ",
    ] {
        let (heads, _, error) = in_every_way(format!("{line}\r\n\r\n").as_bytes());
        assert!(heads.is_empty() && error.is_some(), "{line}");
    }
}

#[test]
fn what_cannot_be_http_is_refused_at_the_byte_that_differs() {
    for bytes in
        ["\r\nHTTP/1.1 200 OK\r\n\r\n", "220 smtp.example", "HTTP/2", "http/1.1 200", "HTTPS", "ICY 200 OK", "\0"]
    {
        let differs = bytes.bytes().zip(*b"HTTP/1.").position(|(byte, expected)| byte != expected).unwrap();
        let mut parser = HeadParser::default();
        for byte in &bytes.as_bytes()[..differs] {
            assert!(parser.parse(&mut &[*byte][..]).unwrap().is_none(), "{bytes}");
        }
        assert!(parser.parse(&mut &bytes.as_bytes()[differs..=differs]).is_err(), "{bytes}");
    }
    let error = HeadParser::default().parse(&mut &b"\x15\x03\x01\0\x02\x02P"[..]).unwrap_err();
    assert_eq!(error.to_string(), r#"the answer is not HTTP/1: it begins with "\x15\x03\x01\x00\x02\x02P""#);
    let mut parser = HeadParser::default();
    parser.parse(&mut &b"HTT"[..]).unwrap();
    let error = parser.parse(&mut &[b'x'; 100][..]).unwrap_err();
    assert_eq!(error.to_string(), format!("the answer is not HTTP/1: it begins with \"HTT{}\"", "x".repeat(21)));
}

#[test]
fn malformed_heads() {
    let table = [
        ("HTTP/1.1 200 OK\nA: b\r\n\r\n", "line end without CR"),
        ("HTTP/1.1 200 OK\r\nA: b\n\r\n", "line end without CR"),
        ("HTTP/1.1 200 OK\r\nA: b\r\n\n", "line end without CR"),
        ("HTTP/1.1 200 OK\rA: b\r\n\r\n", "CR without LF"),
        ("HTTP/1.1 200 OK\r\r\n\r\n", "CR without LF"),
        ("HTTP/1.1 200 OK\r\nA: b\rC: d\r\n\r\n", "CR without LF"),
        ("HTTP/1.1 200 OK\r\nA: b\r\n\rx", "CR without LF"),
        ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "folded"),
        ("HTTP/1.1 200 OK\r\nA: b\r\n\tc\r\n\r\n", "folded"),
        ("HTTP/1.1 200 OK\r\n A: b\r\n\r\n", "folded"),
        ("HTTP/1.1 200 O\0K\r\n\r\n", "NUL"),
        ("HTTP/1.1 200 OK\r\n\0: b\r\n\r\n", "NUL"),
        ("HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n", "NUL"),
        ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "not a token"),
        ("HTTP/1.1 200 OK\r\nA\t: b\r\n\r\n", "not a token"),
        ("HTTP/1.1 200 OK\r\nA B: b\r\n\r\n", "not a token"),
        ("HTTP/1.1 200 OK\r\n: b\r\n\r\n", "not a token"),
        ("HTTP/1.1 200 OK\r\nA\r\n\r\n", "not a token"),
        ("HTTP/1.1 200 OK\r\n\u{e4}: b\r\n\r\n", "not a token"),
        ("HTTP/1.1 200 OK\r\nA: \u{1}\r\n\r\n", "control character"),
        ("HTTP/1.1 200 OK\r\nA: b\u{7f}\r\n\r\n", "control character"),
    ];
    for (bytes, reason) in table {
        let (heads, _, error) = in_every_way(bytes.as_bytes());
        assert!(heads.is_empty(), "{bytes:?}");
        assert!(error.as_ref().is_some_and(|error| error.to_string().contains(reason)), "{bytes:?}: {error:?}");
    }
}

#[test]
fn incomplete_heads_are_waited_for() {
    let bytes = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n";
    for end in 0..bytes.len() {
        let (heads, left, error) = read(&[&bytes[..end]]);
        assert!(heads.is_empty() && left.is_empty() && error.is_none(), "{end}");
    }
}

#[test]
fn values_are_utf_8_or_else_latin_1() {
    let (heads, ..) = in_every_way(b"HTTP/1.1 200 OK\r\nA: \xc3\xa9\r\nB: \xe9\xc3\xa9\r\n\r\n");
    assert_eq!(fields(&heads[0]), [("A", "\u{e9}"), ("B", "\u{e9}\u{c3}\u{a9}")]);
}

#[test]
fn at_most_128_fields() {
    for (count, good) in [(128, true), (129, false)] {
        let bytes = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(count));
        let (heads, _, error) = read(&[bytes.as_bytes()]);
        assert_eq!(heads.first().map(|head| head.fields().count()), good.then_some(128));
        assert_eq!(error.is_some_and(|error| error.to_string().contains("128")), !good);
    }
}

/// A head of so many bytes in all.
fn long(bytes: usize) -> Vec<u8> {
    let head = b"HTTP/1.1 103 Early Hints\r\nA: \r\n\r\n";
    let mut long = head[..head.len() - 4].to_vec();
    long.resize(bytes - 4, b'v');
    long.extend_from_slice(b"\r\n\r\n");
    long
}

#[test]
fn at_most_64_kib_for_all_heads() {
    for heads in [vec![BYTES], vec![BYTES / 2, BYTES / 2], vec![40, BYTES - 40]] {
        for step in [1, 7, 4096, BYTES * 2] {
            let mut bytes: Vec<u8> = heads.iter().flat_map(|length| long(*length)).collect();
            let mut parser = HeadParser::default();
            let mut found = 0;
            for mut piece in bytes.chunks(step) {
                while !piece.is_empty() {
                    found += parser.parse(&mut piece).unwrap().map_or(0, |head| head.bytes);
                }
            }
            assert_eq!(found, BYTES);
            assert!(parser.parse(&mut &b""[..]).unwrap().is_none());
            assert!(parser.parse(&mut &b"H"[..]).unwrap_err().to_string().contains("65536"));

            // One byte more, and the last one that fits is not the end.
            bytes.insert(bytes.len() - 4, b'v');
            let mut parser = HeadParser::default();
            let mut given = 0;
            let error = bytes.chunks(step).find_map(|mut piece| {
                given += piece.len();
                while !piece.is_empty() {
                    match parser.parse(&mut piece) {
                        Ok(_) => {}
                        Err(error) => return Some(error),
                    }
                }
                None
            });
            assert!(error.is_some_and(|error| error.to_string().contains("65536")));
            assert!(given <= BYTES.next_multiple_of(step), "{given}");
        }
    }
}

#[test]
fn each_byte_is_visited_a_bounded_number_of_times() {
    for step in [1, 2, 1000, BYTES] {
        let bytes = long(BYTES);
        let mut parser = HeadParser::default();
        for mut piece in bytes.chunks(step) {
            parser.parse(&mut piece).unwrap();
        }
        assert_eq!(parser.visited, 2 * BYTES, "{step} bytes at a time");
    }
}

#[test]
fn nothing_is_held_before_behind_and_after_a_failure() {
    let mut parser = HeadParser::default();
    assert_eq!(parser.pending.capacity(), 0);
    for byte in b"HTTP/1.1 100 Continue\r\n\r\n" {
        parser.parse(&mut &[*byte][..]).unwrap();
    }
    assert_eq!(parser.pending.capacity(), 0);
    parser.parse(&mut &b"HTTP/1.1 200"[..]).unwrap();
    assert!(parser.pending.capacity() > 0);
    parser.parse(&mut &b"\n"[..]).unwrap_err();
    assert_eq!(parser.pending.capacity(), 0);
}

#[test]
fn a_response_for_the_caller() {
    let (mut heads, ..) = read(&[b"HTTP/1.0 403 No\r\nSet-Cookie: a=secret\r\n\r\n"]);
    let head = heads.remove(0);
    assert!(format!("{head:?}").contains("Set-Cookie") && !format!("{head:?}").contains("secret"));
    let response = head.to_response(Url::parse("ws://a/").unwrap(), b"no".to_vec());
    assert_eq!((response.status_code(), response.http_version()), (403, "HTTP/1.0"));
    assert_eq!((response.value("set-cookie").as_deref(), response.body()), (Some("a=secret"), &b"no"[..]));
}

#[test]
fn an_opening_head_is_of_the_heads_that_differ_in_the_key_alone() {
    let head = |fields: &str| {
        let text = format!("HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\n{fields}\r\n\r\n");
        HeadParser::default().parse(&mut text.as_bytes()).unwrap().unwrap()
    };
    let opening = OpeningHead::new(&head("Sec-WebSocket-Accept: a\r\nX-A: b"));
    assert!(opening.is_of(&head("Sec-WebSocket-Accept: c\r\nX-A:b")));
    for other in [
        "Sec-WebSocket-Accept: a\r\nX-A: c",
        "Sec-WebSocket-Accept: a\r\nX-A: bc",
        "Sec-WebSocket-Accept: a\r\nX-B: b",
        "Sec-WebSocket-Accept: a\r\nX-A: b\r\nX-A: b",
        "Sec-WebSocket-Accept: a",
        "sec-websocket-accept: a\r\nX-A: b",
        "X-A: b\r\nSec-WebSocket-Accept: a",
    ] {
        assert!(!opening.is_of(&head(other)), "{other}");
    }
}
