//! A tunnel through an HTTP proxy: RFC 9110 §9.3.6, for `ws` as for `wss` (RFC 6455 §4.1, item 3).
//!
//! In come a server and what the proxy wants to be shown; out goes the request. The heads of the answers come from a
//! [`HeadParser`](super::HeadParser) of their own.
#![forbid(unsafe_code)]

use url::Host;

use super::head::ResponseHead;

/// The request for a tunnel to this server; `authorization` is the value of `Proxy-Authorization`.
///
/// The proxy gets nothing of what is for the server, neither cookies nor fields of the caller's: those go through the tunnel.
/// Nor does it learn what program asks.
pub fn connect(host: Host<&str>, port: u16, authorization: Option<&str>) -> String {
    let mut head = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    if let Some(authorization) = authorization {
        head.extend(["Proxy-Authorization: ", authorization, "\r\n"]);
    }
    head.push_str("\r\n");
    head
}

/// Whether the proxy will say more: RFC 9110 §15.2. There may be as many such heads as fit into the 64 KiB of the parser's. A 101
/// is not among them: nothing else was asked for, and it is a refusal.
pub fn is_interim(head: &ResponseHead) -> bool {
    matches!(head.status_code, 100 | 102..=199)
}

/// Whether the tunnel stands: any 2xx. Whatever is behind the head is the server's: such an answer has no body, and a
/// `Content-Length` or a `Transfer-Encoding` in it says nothing.
///
/// Any other answer that is not [interim](is_interim) is a refusal, with a body as that of any response. Only a 407 asks for
/// something, and that for the proxy; a 401 here is none of the server's, and a redirect leads nowhere.
pub fn is_tunnel(head: &ResponseHead) -> bool {
    matches!(head.status_code, 200..=299)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::http::{BodyReader, HeadParser};

    #[test]
    fn requests() {
        let table = [
            (Host::Domain("a.example"), 80, None, "CONNECT a.example:80 HTTP/1.1\r\nHost: a.example:80\r\n\r\n"),
            (
                Host::Ipv4(Ipv4Addr::LOCALHOST),
                443,
                None,
                "CONNECT 127.0.0.1:443 HTTP/1.1\r\nHost: 127.0.0.1:443\r\n\r\n",
            ),
            (
                Host::Ipv6(Ipv6Addr::LOCALHOST),
                1,
                Some("Basic bWU6c2VjcmV0"),
                "CONNECT [::1]:1 HTTP/1.1\r\nHost: [::1]:1\r\nProxy-Authorization: Basic bWU6c2VjcmV0\r\n\r\n",
            ),
        ];
        for (host, port, authorization, request) in table {
            assert_eq!(connect(host, port, authorization), request);
        }
    }

    #[test]
    fn answers_by_status() {
        for status in 100..=999 {
            let text = format!("HTTP/1.0 {status} X\r\nContent-Length: 4\r\n\r\n");
            let head = HeadParser::default().parse(&mut text.as_bytes()).unwrap().unwrap();
            assert_eq!(is_interim(&head), status < 200 && status != 101, "{status}");
            assert_eq!(is_tunnel(&head), (200..300).contains(&status), "{status}");
        }
    }

    /// What the loader builds on.
    #[test]
    fn heads_and_what_is_behind_them() {
        let mut parser = HeadParser::default();
        let mut input =
            &b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\x16\x03\x01"[..];
        let interim = parser.parse(&mut input).unwrap().unwrap();
        assert!(is_interim(&interim) && !is_tunnel(&interim));
        assert!(is_tunnel(&parser.parse(&mut input).unwrap().unwrap()));
        assert_eq!(input, b"\x16\x03\x01");
        // Interim heads do not go on for ever.
        let mut parser = HeadParser::default();
        let count = (0..).take_while(|_| parser.parse(&mut &b"HTTP/1.1 100 Continue\r\n\r\n"[..]).is_ok()).count();
        assert_eq!(count, 64 * 1024 / 25);
    }

    #[test]
    fn a_proxy_that_closes_says_so_in_its_own_field_too() {
        for (field, stays) in
            [("", true), ("Proxy-Connection: Close\r\n", false), ("Proxy-Connection: keep-alive\r\n", true)]
        {
            let text = format!("HTTP/1.1 407 X\r\nContent-Length: 0\r\n{field}\r\n");
            let head = HeadParser::default().parse(&mut text.as_bytes()).unwrap().unwrap();
            assert_eq!(BodyReader::new(&head).leaves_connection(), stays, "{field}");
        }
    }
}
