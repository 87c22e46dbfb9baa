//! What a task asks for.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use url::Url;

/// `URLRequest`: the address of a task, and the header fields and limits of its handshake.
///
/// ```
/// use urlsession::{Url, UrlRequest};
///
/// let mut request = UrlRequest::new(Url::parse("wss://example.com/feed").unwrap());
/// request.set_value("Bearer 1234", "Authorization");
/// assert_eq!(request.value("authorization"), Some("Bearer 1234"));
/// ```
///
/// A field that cannot be sent (a name that is no token, a value with CR, LF or NUL) fails the task at `resume()` with
/// [`ErrorCode::BadUrl`](crate::ErrorCode::BadUrl) and a text that names the field.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UrlRequest {
    /// `url`: `ws` or `wss`; `http` and `https` are synonyms.
    pub url: Url,
    /// `httpMethod`, "GET" by default. Every other method fails the task at `resume()` with
    /// [`ErrorCode::UnsupportedUrl`](crate::ErrorCode::UnsupportedUrl), for a WebSocket opens with a GET (RFC 6455 §4.1).
    pub http_method: String,
    /// `timeoutInterval`: how long the way to the open socket may stand still. `None`, the default: the session's
    /// [`timeout_interval_for_request`](crate::SessionConfiguration::timeout_interval_for_request).
    pub timeout_interval: Option<Duration>,
    /// `httpShouldHandleCookies`, true by default: whether cookies of the session's storage are sent, and those of the answer
    /// stored. A `Cookie` field that was set by hand is sent where the storage has none to send, or is not asked.
    pub http_should_handle_cookies: bool,
    /// `mainDocumentURL`, `None` by default: the document that the request is made for, where cookies are only taken from its
    /// site ([`HttpCookieAcceptPolicy::OnlyFromMainDocumentDomain`](crate::HttpCookieAcceptPolicy::OnlyFromMainDocumentDomain)).
    pub main_document_url: Option<Url>,
    fields: Vec<(String, String)>,
    proposed: Proposed,
}

/// Whether a redirect made the request, which the delegate may have changed since. It is no part of what is asked for:
/// requests that differ in nothing else are equal.
#[derive(Clone, Copy, Default)]
struct Proposed(bool);

impl PartialEq for Proposed {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Proposed {}

impl UrlRequest {
    /// `URLRequest(url:)`: a GET without header fields of its own.
    pub fn new(url: Url) -> Self {
        Self {
            url,
            http_method: "GET".to_owned(),
            timeout_interval: None,
            http_should_handle_cookies: true,
            main_document_url: None,
            fields: Vec::new(),
            proposed: Proposed::default(),
        }
    }

    /// `value(forHTTPHeaderField:)`: names compare without case.
    pub fn value(&self, field: &str) -> Option<&str> {
        self.position(field).map(|index| self.fields[index].1.as_str())
    }

    /// `setValue(_:forHTTPHeaderField:)`: replaces the value of the field.
    pub fn set_value(&mut self, value: &str, field: &str) {
        match self.position(field) {
            Some(index) => value.clone_into(&mut self.fields[index].1),
            None => self.fields.push((field.to_owned(), value.to_owned())),
        }
    }

    /// `addValue(_:forHTTPHeaderField:)`: appends to the value of the field, after `", "`.
    pub fn add_value(&mut self, value: &str, field: &str) {
        match self.position(field) {
            Some(index) => {
                let present = &mut self.fields[index].1;
                present.push_str(", ");
                present.push_str(value);
            }
            None => self.fields.push((field.to_owned(), value.to_owned())),
        }
    }

    /// `setValue(nil, forHTTPHeaderField:)`: takes the field away.
    pub fn remove_value(&mut self, field: &str) {
        self.fields.retain(|(name, _)| !name.eq_ignore_ascii_case(field));
    }

    /// `allHTTPHeaderFields`: a copy of the fields that were set.
    pub fn all_http_header_fields(&self) -> HashMap<String, String> {
        self.fields.iter().cloned().collect()
    }

    /// The fields in the order in which they were first set.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Keeps the fields with such names.
    pub(crate) fn retain_fields(&mut self, keep: impl Fn(&str) -> bool) {
        self.fields.retain(|(name, _)| keep(name));
    }

    /// Whether it goes back to what a redirect proposed.
    pub(crate) fn is_proposed(&self) -> bool {
        self.proposed.0
    }

    pub(crate) fn set_proposed(&mut self, proposed: bool) {
        self.proposed = Proposed(proposed);
    }

    fn position(&self, field: &str) -> Option<usize> {
        self.fields.iter().position(|(name, _)| name.eq_ignore_ascii_case(field))
    }
}

impl fmt::Debug for UrlRequest {
    /// The user and password of the address and the values of fields are left out: they may be secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("UrlRequest")
            .field("url", &without_user(&self.url).as_str())
            .field("http_method", &self.http_method)
            .field("timeout_interval", &self.timeout_interval)
            .field("fields", &self.fields.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl From<Url> for UrlRequest {
    fn from(url: Url) -> Self {
        Self::new(url)
    }
}

impl From<&Url> for UrlRequest {
    fn from(url: &Url) -> Self {
        Self::new(url.clone())
    }
}

impl From<&Self> for UrlRequest {
    fn from(request: &Self) -> Self {
        request.clone()
    }
}

/// An address as it may be shown: without user and password.
pub(crate) fn without_user(url: &Url) -> Url {
    let mut url = url.clone();
    // Both fail only for addresses that cannot have a user.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> UrlRequest {
        UrlRequest::new(Url::parse("wss://me:secret@example.com/").unwrap())
    }

    #[test]
    fn names_compare_without_case() {
        let mut request = request();
        request.set_value("a", "X-Field");
        request.set_value("b", "x-field");
        request.add_value("c", "X-FIELD");
        assert_eq!(request.value("x-Field"), Some("b, c"));
        assert_eq!(request.all_http_header_fields().len(), 1);
        request.remove_value("x-field");
        assert_eq!(request.value("X-Field"), None);
        request.add_value("d", "X-Field");
        assert_eq!(request.value("X-Field"), Some("d"));
    }

    #[test]
    fn what_a_redirect_made_is_equal_to_what_a_program_made() {
        let (made, mut proposed) = (request(), request());
        proposed.set_proposed(true);
        assert!(proposed.clone().is_proposed() && !made.is_proposed());
        assert_eq!(made, proposed);
    }

    #[test]
    fn debug_shows_no_secret() {
        let mut request = request();
        request.set_value("Bearer hidden", "Authorization");
        let shown = format!("{request:?}");
        assert!(shown.contains("Authorization") && shown.contains("example.com"), "{shown}");
        assert!(!shown.contains("hidden") && !shown.contains("secret"), "{shown}");
    }
}
