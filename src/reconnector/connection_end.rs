//! How one task of a reconnector ended, and what may be expected of another.

use std::time::{Duration, SystemTime};

use crate::foundation::{CloseCode, ErrorCode, HttpUrlResponse, UrlError, cookie_date};

/// Beyond Apple: how a task of a [`Reconnector`](crate::Reconnector) ended.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ConnectionEnd {
    /// What `did_complete_with_error` told: `None` after a Close frame of either side.
    pub error: Option<UrlError>,
    /// The task's [`close_code`](crate::WebSocketTask::close_code): [`CloseCode::INVALID`] where there was no Close.
    pub close_code: CloseCode,
    /// The task's [`close_reason`](crate::WebSocketTask::close_reason).
    pub close_reason: Option<Vec<u8>>,
    /// The server's answer, or a proxy's: the 101 of a socket that was open, or the refusal.
    pub response: Option<HttpUrlResponse>,
    /// How long the socket was open. `None` where it never was.
    pub was_open: Option<Duration>,
    /// The program ended the task itself: by `cancel`, `cancel_with`, with its session, or by its answer to a challenge.
    pub is_cancelled: bool,
    /// How many tasks have ended in a row since one was [stable](crate::ReconnectionPolicy::is_stable), this one
    /// included: 1 where the one before it, or it itself, was.
    pub failures: u32,
}

impl ConnectionEnd {
    /// Whether the same request may fare better a little later.
    ///
    /// | how it ended | another try |
    /// |---|---|
    /// | no name, no look-up, no network, no connection (−1003, −1006, −1009, −1004) | yes |
    /// | a timer ran out (−1001), that of an open task too | yes |
    /// | the connection was lost (−1005, 32, 53, 54, 57) | yes |
    /// | refused with 408, 425, 429, 500, 502, 503 or 504, by the server or a proxy | yes |
    /// | refused with anything else, 401, 403 and 404 among them; a wrong answer; too many redirects | no |
    /// | the server closed with 1001, 1005, 1006, 1011, 1012, 1013 or 1014 | yes |
    /// | the server closed with 1000, with a complaint (1002, 1003, 1007 to 1010), or with a word to the application (3000 to 4999) | no |
    /// | the program cancelled the task, or its session | no |
    /// | the request cannot be sent (−1000, −1002); TLS or a certificate failed (−1200 to −1206) | no |
    /// | the server broke the protocol (100), or sent a message that is too long (40); everything else | no |
    pub fn is_transient(&self) -> bool {
        if self.is_cancelled {
            return false;
        }
        let Some(error) = &self.error else {
            return matches!(self.close_code.raw_value(), 1001 | 1005 | 1006 | 1011..=1014);
        };
        match error.code() {
            ErrorCode::TimedOut
            | ErrorCode::CannotFindHost
            | ErrorCode::CannotConnectToHost
            | ErrorCode::NetworkConnectionLost
            | ErrorCode::DnsLookupFailed
            | ErrorCode::NotConnectedToInternet
            | ErrorCode::BrokenPipe
            | ErrorCode::ConnectionAborted
            | ErrorCode::ConnectionReset
            | ErrorCode::NotConnected => true,
            ErrorCode::BadServerResponse => {
                let status = self.response.as_ref().map_or(0, HttpUrlResponse::status_code);
                matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
            }
            _ => false,
        }
    }

    /// How long the refusal asks to wait, by its `Retry-After` (RFC 9110 §10.2.3): seconds, or a date, which is compared with the
    /// `Date` of the answer, or with the clock where that is missing. Zero for a date that is past.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after_at(SystemTime::now())
    }

    fn retry_after_at(&self, now: SystemTime) -> Option<Duration> {
        let response = self.response.as_ref().filter(|response| response.status_code() != 101)?;
        let answered = || response.values("Date").find_map(cookie_date).unwrap_or(now);
        response.values("Retry-After").find_map(|value| {
            let value = value.trim();
            if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
                // More than fits is for ever.
                return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
            }
            cookie_date(value).map(|date| date.duration_since(answered()).unwrap_or_default())
        })
    }
}

#[cfg(test)]
pub mod tests {
    use url::Url;

    use super::*;
    use crate::foundation::ErrorStage;

    pub fn failed(code: ErrorCode) -> ConnectionEnd {
        ConnectionEnd {
            error: Some(UrlError::new(code, ErrorStage::Open, "why")),
            failures: 1,
            ..ConnectionEnd::default()
        }
    }

    pub fn refused(status: u16, fields: &[(&str, &str)]) -> ConnectionEnd {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let url = Url::parse("ws://example.com/").unwrap();
        let response = HttpUrlResponse::new(url, status, "HTTP/1.1", fields, Vec::new());
        ConnectionEnd { response: Some(response), ..failed(ErrorCode::BadServerResponse) }
    }

    pub fn closed(code: u16) -> ConnectionEnd {
        ConnectionEnd { close_code: CloseCode::new(code), failures: 1, ..ConnectionEnd::default() }
    }

    #[test]
    fn errors_that_are_worth_another_try() {
        use ErrorCode::*;
        let table = [
            (Unknown, false),
            (Cancelled, false),
            (BadUrl, false),
            (TimedOut, true),
            (UnsupportedUrl, false),
            (CannotFindHost, true),
            (CannotConnectToHost, true),
            (NetworkConnectionLost, true),
            (DnsLookupFailed, true),
            (HttpTooManyRedirects, false),
            (NotConnectedToInternet, true),
            (RedirectToNonExistentLocation, false),
            (BadServerResponse, false),
            (UserCancelledAuthentication, false),
            (UserAuthenticationRequired, false),
            (CannotParseResponse, false),
            (DataLengthExceedsMaximum, false),
            (SecureConnectionFailed, false),
            (ServerCertificateHasBadDate, false),
            (ServerCertificateUntrusted, false),
            (ServerCertificateHasUnknownRoot, false),
            (ServerCertificateNotYetValid, false),
            (ClientCertificateRejected, false),
            (ClientCertificateRequired, false),
            (BrokenPipe, true),
            (MessageTooLong, false),
            (ConnectionAborted, true),
            (ConnectionReset, true),
            (NoBufferSpace, false),
            (NotConnected, true),
            (ProtocolError, false),
        ];
        for (code, expected) in table {
            assert_eq!(failed(code).is_transient(), expected, "{code:?}");
            assert!(!ConnectionEnd { is_cancelled: true, ..failed(code) }.is_transient(), "{code:?}");
        }
    }

    #[test]
    fn refusals_that_are_worth_another_try() {
        let transient = [408, 425, 429, 500, 502, 503, 504];
        for status in 101..600 {
            assert_eq!(refused(status, &[]).is_transient(), transient.contains(&status), "{status}");
        }
    }

    #[test]
    fn closes_that_are_worth_another_try() {
        let transient = [1001, 1005, 1006, 1011, 1012, 1013, 1014];
        for code in (0..=5000).chain([u16::MAX]) {
            assert_eq!(closed(code).is_transient(), transient.contains(&code), "{code}");
            assert!(!ConnectionEnd { is_cancelled: true, ..closed(code) }.is_transient(), "{code}");
        }
    }

    #[test]
    fn retry_after_in_every_form() {
        // Sun, 06 Nov 1994 08:49:37 GMT.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let date = ("Date", "Sun, 06 Nov 1994 08:49:07 GMT");
        type Row<'a> = (&'a [(&'a str, &'a str)], Option<u64>);
        let table: [Row<'_>; 12] = [
            (&[], None),
            (&[("Retry-After", "120")], Some(120)),
            (&[("retry-after", " 0 ")], Some(0)),
            (&[("Retry-After", "99999999999999999999999")], Some(u64::MAX)),
            (&[("Retry-After", "Sun, 06 Nov 1994 08:50:37 GMT")], Some(60)),
            (&[("Retry-After", "Sunday, 06-Nov-94 08:50:37 GMT")], Some(60)),
            (&[("Retry-After", "Sun, 06 Nov 1994 08:50:37 GMT"), date], Some(90)),
            (&[("Retry-After", "Sun, 06 Nov 1994 08:49:36 GMT")], Some(0)),
            (&[("Retry-After", "soon"), ("Retry-After", "7")], Some(7)),
            (&[("Retry-After", "")], None),
            (&[("Retry-After", "-1")], None),
            (&[("Retry-After", "1.5")], None),
        ];
        for (fields, expected) in table {
            let told = refused(503, fields).retry_after_at(now);
            assert_eq!(told, expected.map(Duration::from_secs), "{fields:?}");
        }
        // The answer that opened the socket is no refusal.
        assert_eq!(refused(101, &[("Retry-After", "120")]).retry_after_at(now), None);
        assert_eq!(closed(1012).retry_after(), None);
        assert!(refused(503, &[("Retry-After", "Fri, 31 Dec 9999 23:59:59 GMT")]).retry_after() > None);
    }
}
