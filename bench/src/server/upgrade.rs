//! The upgrade from HTTP.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::workload::Compression;

/// What the server adds to a client's key, by RFC 6455.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// How long a request may be.
pub const LARGEST_REQUEST: usize = 16 * 1024;

/// Where a request's head ends, after its empty line.
pub fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// What the server reads of a request.
#[derive(Debug)]
pub struct Request<'a> {
    /// The path and the query.
    pub target: &'a str,
    head: &'a str,
}

impl<'a> Request<'a> {
    /// `None` where it is no `GET`.
    pub fn parse(head: &'a [u8]) -> Option<Self> {
        let head = std::str::from_utf8(head).ok()?;
        let target = head.strip_prefix("GET ")?.split(' ').next()?;
        Some(Self { target, head })
    }

    /// The upgrade; `None` where the client does not ask for one, or not for the compression that there must be.
    pub fn answer(&self, compression: Compression) -> Option<String> {
        let key = self.field("sec-websocket-key")?;
        let accept = STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize());
        let extensions = match compression {
            Compression::Off => "",
            _ if !self.offers(compression) => return None,
            Compression::Takeover | Compression::Level => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
            Compression::Anew => {
                "Sec-WebSocket-Extensions: permessage-deflate; \
                 server_no_context_takeover; client_no_context_takeover\r\n"
            }
        };
        Some(format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{extensions}\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        ))
    }

    /// Whether one of the client's offers can be answered so (RFC 7692 §7.1). What a client hints of its own window binds
    /// nobody.
    fn offers(&self, compression: Compression) -> bool {
        let acceptable = |parameter: &str| match parameter.split('=').next() {
            Some("client_max_window_bits") => true,
            Some("client_no_context_takeover" | "server_no_context_takeover") => compression == Compression::Anew,
            _ => false,
        };
        self.field("sec-websocket-extensions").unwrap_or_default().split(',').any(|offer| {
            let mut parts = offer.split(';').map(str::trim);
            parts.next() == Some("permessage-deflate") && parts.all(acceptable)
        })
    }

    fn field(&self, name: &str) -> Option<&'a str> {
        self.head.split("\r\n").skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_the_example_of_the_rfc() {
        let request = b"GET /chat HTTP/1.1\r\nHost: a\r\nsec-websocket-KEY:  dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        assert_eq!(end_of_head(request), Some(request.len()));
        let request = Request::parse(request).unwrap();
        assert_eq!(request.target, "/chat");
        let answer = request.answer(Compression::Off).unwrap();
        assert!(answer.contains("Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
        assert!(request.answer(Compression::Takeover).is_none());
    }

    #[test]
    fn compresses_as_it_was_offered() {
        use Compression::{Anew, Takeover};
        let table: [(&str, &[Compression]); 7] = [
            ("permessage-deflate", &[Takeover, Anew]),
            ("permessage-deflate; client_max_window_bits", &[Takeover, Anew]),
            ("permessage-deflate;server_no_context_takeover ; client_no_context_takeover", &[Anew]),
            ("permessage-deflate; server_max_window_bits=9, permessage-deflate", &[Takeover, Anew]),
            ("permessage-deflate; server_max_window_bits=9", &[]),
            ("permessage-bzip", &[]),
            ("", &[]),
        ];
        for (offers, accepted) in table {
            let head = format!("GET / HTTP/1.1\r\nSec-WebSocket-Key: a\r\nSec-WebSocket-Extensions: {offers}\r\n\r\n");
            let request = Request::parse(head.as_bytes()).unwrap();
            for compression in [Takeover, Anew] {
                let answer = request.answer(compression);
                assert_eq!(answer.is_some(), accepted.contains(&compression), "{offers} {compression:?}");
            }
            assert!(!request.answer(Compression::Off).unwrap().contains("Extensions"), "{offers}");
        }
    }
}
