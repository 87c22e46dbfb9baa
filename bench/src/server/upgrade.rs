//! The upgrade from HTTP.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// What the server adds to a client's key, by RFC 6455.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// How long a request may be.
pub const LARGEST_REQUEST: usize = 16 * 1024;

/// Where a request's head ends, after its empty line.
pub fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// The request's target, and the answer to it; `None` where it is no upgrade.
pub fn answer(head: &[u8]) -> Option<(&str, String)> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let target = lines.next()?.strip_prefix("GET ")?.split(' ').next()?;
    let key = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
    })?;
    let accept = STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    Some((target, answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_the_example_of_the_rfc() {
        let request = b"GET /chat HTTP/1.1\r\nHost: a\r\nsec-websocket-KEY:  dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        assert_eq!(end_of_head(request), Some(request.len()));
        let (target, answer) = answer(request).unwrap();
        assert_eq!(target, "/chat");
        assert!(answer.contains("Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
    }
}
