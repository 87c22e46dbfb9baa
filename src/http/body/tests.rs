use super::super::head::HeadParser;
use super::*;

fn reader(head: &str) -> BodyReader {
    let text = format!("{head}\r\n\r\n");
    BodyReader::new(&HeadParser::default().parse(&mut text.as_bytes()).unwrap().unwrap())
}

/// The body, and whether it was complete without the end of the connection.
fn read(head: &str, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
    let mut reader = reader(head);
    for piece in pieces {
        let complete = reader.read(piece);
        assert_eq!(complete, reader.is_complete());
    }
    let complete = reader.is_complete();
    if complete {
        assert!(reader.read(b"behind the end"));
    }
    (reader.into_body(), complete)
}

/// The same whole, byte by byte and in every two parts.
fn in_every_way(head: &str, bytes: &[u8]) -> (Vec<u8>, bool) {
    let whole = read(head, &[bytes]);
    assert_eq!(read(head, &bytes.chunks(1).collect::<Vec<_>>()), whole, "{head}");
    for at in 0..=bytes.len() {
        let (first, second) = bytes.split_at(at);
        assert_eq!(read(head, &[first, second]), whole, "{head}, split at {at}");
    }
    whole
}

#[test]
fn lengths_of_rfc_9112_6_3() {
    let table = [
        ("HTTP/1.1 404 No\r\nContent-Length: 4", "Body and more", "Body", true),
        ("HTTP/1.1 404 No\r\nContent-Length: 4", "Bo", "Bo", false),
        ("HTTP/1.1 404 No\r\ncontent-length:\t04 ", "Body!", "Body", true),
        ("HTTP/1.1 404 No\r\nContent-Length: 4\r\nContent-Length: 4", "Body!", "Body", true),
        ("HTTP/1.1 404 No\r\nContent-Length: 4, 4", "Body!", "Body", true),
        ("HTTP/1.1 404 No\r\nContent-Length: 0", "Body", "", true),
        ("HTTP/1.1 404 No", "Body", "Body", false),
        ("HTTP/1.0 404 No", "", "", false),
        ("HTTP/1.1 204 No\r\nContent-Length: 4", "Body", "", true),
        ("HTTP/1.1 304 No\r\nTransfer-Encoding: chunked", "4\r\nBody\r\n0\r\n", "", true),
        ("HTTP/1.1 103 No", "Body", "", true),
        // Broken.
        ("HTTP/1.1 404 No\r\nContent-Length: 4\r\nContent-Length: 5", "Body!", "", true),
        ("HTTP/1.1 404 No\r\nContent-Length: 4, 5", "Body!", "", true),
        ("HTTP/1.1 404 No\r\nContent-Length: -4", "Body!", "", true),
        ("HTTP/1.1 404 No\r\nContent-Length: +4", "Body!", "", true),
        ("HTTP/1.1 404 No\r\nContent-Length: 4 4", "Body!", "", true),
        ("HTTP/1.1 404 No\r\nContent-Length: 0x4", "Body!", "", true),
        ("HTTP/1.1 404 No\r\nContent-Length:", "Body!", "", true),
        ("HTTP/1.1 404 No\r\nContent-Length: 18446744073709551616", "Body!", "", true),
        ("HTTP/1.1 404 No\r\nContent-Length: 4\r\nTransfer-Encoding: chunked", "4\r\nBody\r\n0\r\n", "", true),
        ("HTTP/1.0 404 No\r\nTransfer-Encoding: chunked", "4\r\nBody\r\n0\r\n", "", true),
        // The last coding decides.
        ("HTTP/1.1 404 No\r\nTransfer-Encoding: gzip, Chunked", "4\r\nBody\r\n0\r\n", "Body", true),
        ("HTTP/1.1 404 No\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked", "1\r\nB\r\n0\r\n", "B", true),
        ("HTTP/1.1 404 No\r\nTransfer-Encoding: chunked, gzip", "Body", "Body", false),
        ("HTTP/1.1 404 No\r\nTransfer-Encoding: chunkedchunked", "Body", "Body", false),
        ("HTTP/1.1 404 No\r\nTransfer-Encoding:", "Body", "Body", false),
    ];
    for (head, bytes, body, complete) in table {
        assert_eq!(in_every_way(head, bytes.as_bytes()), (body.as_bytes().to_vec(), complete), "{head}");
    }
}

#[test]
fn complete_before_the_first_byte() {
    assert!(reader("HTTP/1.1 204 No").is_complete());
    assert!(reader("HTTP/1.1 404 No\r\nContent-Length: 0").is_complete());
    assert!(!reader("HTTP/1.1 404 No\r\nContent-Length: 1").is_complete());
}

#[test]
fn chunks_of_rfc_9112_7_1() {
    let table = [
        ("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world", true),
        ("5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n", "hello", true),
        ("000000000000000000005\r\nhello\r\n00\r\n", "hello", true),
        ("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n", "01234567890123456789", true),
        ("5;name=value;other=\"a;b\"\r\nhello\r\n0;x\r\n", "hello", true),
        ("5 \t\r\nhello\r\n0 \t\r\n", "hello", true),
        ("5 ;x\r\nhello\r\n0\r\n", "hello", true),
        ("2\r\n\r\n\r\n0\r\n", "\r\n", true),
        ("5\r\nhel", "hel", false),
        ("5\r\nhello", "hello", false),
        ("5\r\nhello\r\n", "hello", false),
        ("5\r\nhello\r\n0", "hello", false),
        // Broken.
        ("\r\nhello", "", true),
        (";x\r\nhello", "", true),
        ("-5\r\nhello", "", true),
        ("+5\r\nhello", "", true),
        ("0x5\r\nhello", "", true),
        ("5g\r\nhello", "", true),
        ("5 5\r\nhello", "", true),
        ("5\nhello\n", "", true),
        ("5\rhello\r\n", "", true),
        ("5;x\nhello", "", true),
        ("5\r\nhelloX\n5\r\nagain\r\n0\r\n", "hello", true),
        ("5\r\nhello\rX5\r\nagain\r\n0\r\n", "hello", true),
        ("1000000000000000a\r\nhello", "", true),
        ("ffffffffffffffff\r\nhello", "hello", false),
    ];
    for (bytes, body, complete) in table {
        let head = "HTTP/1.1 404 No\r\nTransfer-Encoding: chunked";
        assert_eq!(in_every_way(head, bytes.as_bytes()), (body.as_bytes().to_vec(), complete), "{bytes:?}");
    }
}

#[test]
fn at_most_64_kib_are_kept() {
    let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(70_000).collect();
    let half = [b"8000\r\n", &bytes[..0x8000], b"\r\n"].concat();
    let table = [
        ("HTTP/1.1 404 No", bytes.clone()),
        ("HTTP/1.1 404 No\r\nContent-Length: 18446744073709551615", bytes.clone()),
        ("HTTP/1.1 404 No\r\nTransfer-Encoding: chunked", [&b"ffffffffffffffff\r\n"[..], &bytes].concat()),
        ("HTTP/1.1 404 No\r\nTransfer-Encoding: chunked", [&half[..], &half, &half].concat()),
    ];
    for (head, input) in table {
        for step in [1, 1000, input.len()] {
            let (body, complete) = read(head, &input.chunks(step).collect::<Vec<_>>());
            assert!(complete && body == bytes[..65_536], "{head}, {step} bytes at a time");
        }
    }
}

#[test]
fn nothing_is_reserved_for_what_is_promised() {
    for head in ["Content-Length: 60000", "Transfer-Encoding: chunked"] {
        let mut reader = reader(&format!("HTTP/1.1 404 No\r\n{head}"));
        assert_eq!(reader.body.capacity(), 0);
        reader.read(b"ea60\r\nx");
        assert!(reader.body.capacity() < 100, "{head}");
    }
}

#[test]
fn framing_without_a_body_is_not_read_for_ever() {
    for (first, endless) in [("0", "0"), ("1;", "x"), ("1 ", " "), ("", "1\r\nx\r\n"), ("", "1;xxxxxxxx\r\nx\r\n")] {
        let mut reader = reader("HTTP/1.1 404 No\r\nTransfer-Encoding: chunked");
        reader.read(first.as_bytes());
        let mut bytes = 0;
        while !reader.read(endless.as_bytes()) {
            bytes += endless.len();
            assert!(bytes <= 2 * 65_536, "{endless:?}");
        }
        assert!(bytes >= 65_536 - first.len() - endless.len(), "{endless:?} ended after {bytes}");
    }
}

/// Whether the connection may be used again: after the bytes, and whether that could have come to be after the head.
#[test]
fn what_leaves_the_connection_for_another_request() {
    let table: [(&str, &str, bool, bool); 24] = [
        ("HTTP/1.1 401 No\r\nContent-Length: 4", "Body", true, true),
        ("HTTP/1.1 401 No\r\nContent-Length: 4", "Bod", false, true),
        ("HTTP/1.1 401 No\r\nContent-Length: 4", "Body!", false, true),
        ("HTTP/1.1 401 No\r\nContent-Length: 0", "", true, true),
        ("HTTP/1.1 401 No\r\nContent-Length: 0", "H", false, true),
        ("HTTP/1.1 204 No", "", true, true),
        ("HTTP/1.1 401 No\r\nContent-Length: 4\r\nConnection: close", "Body", false, false),
        ("HTTP/1.1 401 No\r\nContent-Length: 4\r\nConnection: Upgrade, Close", "Body", false, false),
        ("HTTP/1.1 401 No\r\nContent-Length: 4\r\nConnection: keep-alive", "Body", true, true),
        ("HTTP/1.0 401 No\r\nContent-Length: 4", "Body", false, false),
        ("HTTP/1.0 401 No\r\nContent-Length: 4\r\nConnection: keep-alive", "Body", false, false),
        ("HTTP/1.1 401 No", "Body", false, false),
        ("HTTP/1.1 401 No\r\nContent-Length: 65536", "Body", false, true),
        ("HTTP/1.1 401 No\r\nContent-Length: 65537", "Body", false, false),
        ("HTTP/1.1 401 No\r\nContent-Length: 4, 5", "Body", false, false),
        ("HTTP/1.1 401 No\r\nContent-Length: 4\r\nTransfer-Encoding: chunked", "0\r\n\r\n", false, false),
        ("HTTP/1.1 401 No\r\nTransfer-Encoding: chunked", "0\r\n\r\n", true, true),
        ("HTTP/1.1 401 No\r\nTransfer-Encoding: chunked", "4\r\nBody\r\n0\r\n\r\n", true, true),
        ("HTTP/1.1 401 No\r\nTransfer-Encoding: chunked", "0\r\nA: b\r\nC: d\r\n\r\n", true, true),
        ("HTTP/1.1 401 No\r\nTransfer-Encoding: chunked", "0\r\nA: b\r\n", false, true),
        ("HTTP/1.1 401 No\r\nTransfer-Encoding: chunked", "0\r\n", false, true),
        ("HTTP/1.1 401 No\r\nTransfer-Encoding: chunked", "0\r\n\r!", false, true),
        ("HTTP/1.1 401 No\r\nTransfer-Encoding: chunked", "0\r\n\r\nHTTP", false, true),
        ("HTTP/1.1 401 No\r\nTransfer-Encoding: chunked", "4\r\nBody0\r\n\r\n", false, true),
    ];
    for (head, bytes, leaves, may_leave) in table {
        let mut whole = reader(head);
        assert_eq!(whole.may_leave_connection(), may_leave, "{head}");
        whole.read(bytes.as_bytes());
        assert_eq!(whole.leaves_connection(), leaves, "{head} {bytes:?}");
        let mut bytewise = reader(head);
        for byte in bytes.as_bytes().chunks(1) {
            bytewise.read(byte);
        }
        assert_eq!(bytewise.leaves_connection(), leaves, "{head} {bytes:?}, byte by byte");
    }
}

#[test]
fn trailers_have_a_limit() {
    let mut reader = reader("HTTP/1.1 401 No\r\nTransfer-Encoding: chunked");
    assert!(reader.read(b"0\r\n"));
    for _ in 0..FRAMING {
        reader.read(b"a");
    }
    assert!(!reader.may_leave_connection());
}
