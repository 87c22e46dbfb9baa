//! What a server answered to the upgrade.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use url::Url;

use super::request::without_user;

/// `HTTPURLResponse`: the status and the header fields of the server's answer.
///
/// After the opening it is the 101; after a refusal the 3xx, 4xx or 5xx, with up to 64 KiB of its body. A cheap clone of
/// one shared value.
#[derive(Clone)]
pub struct HttpUrlResponse(Arc<Parts>);

struct Parts {
    url: Url,
    status_code: u16,
    http_version: &'static str,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl HttpUrlResponse {
    /// `http_version` reads `HTTP/1.1`.
    pub(crate) fn new(
        url: Url,
        status_code: u16,
        http_version: &'static str,
        fields: Vec<(String, String)>,
        body: Vec<u8>,
    ) -> Self {
        Self(Arc::new(Parts { url, status_code, http_version, fields, body }))
    }

    /// `url`: the address that was asked, with the scheme that the caller used (`ws` or `wss`).
    pub fn url(&self) -> &Url {
        &self.0.url
    }

    /// `statusCode`: 101 after the opening.
    pub fn status_code(&self) -> u16 {
        self.0.status_code
    }

    /// Beyond Apple: the version that the server answered with: `HTTP/1.1` or `HTTP/1.0`.
    pub fn http_version(&self) -> &str {
        self.0.http_version
    }

    /// `value(forHTTPHeaderField:)`: the value of a header field, its name compared without case. Several fields of one
    /// name are joined with `", "` (RFC 9110 §5.3).
    pub fn value(&self, field: &str) -> Option<String> {
        let mut values = self.values(field);
        let mut joined = values.next()?.to_owned();
        for value in values {
            joined.push_str(", ");
            joined.push_str(value);
        }
        Some(joined)
    }

    /// `allHeaderFields`: every field, those of one name joined with `", "`. Names that RFC 6455 and RFC 9110 define have
    /// the spelling of these documents (`Sec-WebSocket-Protocol`, `WWW-Authenticate`), all others that of the server.
    pub fn all_header_fields(&self) -> HashMap<String, String> {
        let mut all: HashMap<String, String> = HashMap::new();
        for (name, _) in self.header_fields() {
            let name = registered_spelling(name);
            if !all.keys().any(|known| known.eq_ignore_ascii_case(name)) {
                all.insert(name.to_owned(), self.value(name).unwrap_or_default());
            }
        }
        all
    }

    /// Beyond Apple: every field as it came, in the server's order and spelling; several `Set-Cookie` are not joined.
    pub fn header_fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Beyond Apple: what a refusal said, up to 64 KiB of it. Empty after the opening.
    pub fn body(&self) -> &[u8] {
        &self.0.body
    }

    /// Every value of a field, in order.
    pub(crate) fn values<'a>(&'a self, field: &'a str) -> impl Iterator<Item = &'a str> {
        self.header_fields().filter(move |(name, _)| name.eq_ignore_ascii_case(field)).map(|(_, value)| value)
    }
}

impl fmt::Debug for HttpUrlResponse {
    /// Field names only: values may hold cookies and credentials.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("HttpUrlResponse")
            .field("url", &without_user(&self.0.url).as_str())
            .field("status_code", &self.0.status_code)
            .field("http_version", &self.0.http_version)
            .field("header_fields", &self.0.fields.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("body_bytes", &self.0.body.len())
            .finish()
    }
}

/// The field names that matter to an upgrade, as their documents spell them.
const REGISTERED: [&str; 24] = [
    "Cache-Control",
    "Connection",
    "Content-Encoding",
    "Content-Length",
    "Content-Type",
    "Date",
    "ETag",
    "Expires",
    "Keep-Alive",
    "Last-Modified",
    "Location",
    "Proxy-Authenticate",
    "Retry-After",
    "Sec-WebSocket-Accept",
    "Sec-WebSocket-Extensions",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Version",
    "Server",
    "Set-Cookie",
    "Strict-Transport-Security",
    "Transfer-Encoding",
    "Upgrade",
    "Vary",
    "WWW-Authenticate",
];

fn registered_spelling(name: &str) -> &str {
    REGISTERED.iter().find(|registered| registered.eq_ignore_ascii_case(name)).copied().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(fields: &[(&str, &str)]) -> HttpUrlResponse {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        HttpUrlResponse::new(Url::parse("ws://example.com/").unwrap(), 403, "HTTP/1.1", fields, b"no".to_vec())
    }

    #[test]
    fn fields_of_one_name_are_joined_and_names_compare_without_case() {
        let response = response(&[("set-cookie", "a=1"), ("X-Trace", "7"), ("Set-Cookie", "b=2")]);
        assert_eq!(response.value("SET-COOKIE").as_deref(), Some("a=1, b=2"));
        assert_eq!(response.value("x-trace").as_deref(), Some("7"));
        assert_eq!(response.value("missing"), None);
        let all = response.all_header_fields();
        assert_eq!(all.len(), 2);
        assert_eq!(all["Set-Cookie"], "a=1, b=2");
        assert_eq!(all["X-Trace"], "7");
        assert_eq!(response.header_fields().count(), 3);
        assert_eq!(response.body(), b"no");
    }

    #[test]
    fn debug_shows_no_value() {
        let shown = format!("{:?}", response(&[("Set-Cookie", "session=secret")]));
        assert!(shown.contains("Set-Cookie") && !shown.contains("secret"), "{shown}");
    }
}
