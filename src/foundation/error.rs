//! Why something failed: Apple's domains and numbers, the stage, the reason and what lay underneath.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use url::Url;

use super::request::without_user;
use super::response::HttpUrlResponse;

/// `URLError`, and the POSIX errors that a WebSocket task ends with: a code with Apple's number, the stage of the task
/// that failed, and a reason in words.
///
/// A cheap clone of one shared value. [`source`](Error::source) is what lay underneath (an I/O or a TLS error), where
/// there was something.
#[derive(Clone)]
pub struct UrlError(Arc<Parts>);

#[derive(Clone)]
struct Parts {
    code: ErrorCode,
    stage: ErrorStage,
    reason: Cow<'static, str>,
    failing_url: Option<Url>,
    response: Option<HttpUrlResponse>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl UrlError {
    pub(crate) fn new(code: ErrorCode, stage: ErrorStage, reason: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Parts { code, stage, reason: reason.into(), failing_url: None, response: None, source: None }))
    }

    pub(crate) fn with_source(self, source: impl Error + Send + Sync + 'static) -> Self {
        self.changed(|parts| parts.source = Some(Arc::new(source)))
    }

    /// One that names an address already goes on with that.
    pub(crate) fn with_failing_url(self, url: &Url) -> Self {
        match self.0.failing_url {
            Some(_) => self,
            None => self.changed(|parts| parts.failing_url = Some(url.clone())),
        }
    }

    pub(crate) fn with_response(self, response: HttpUrlResponse) -> Self {
        self.changed(|parts| parts.response = Some(response))
    }

    /// It happened at the proxy of this name.
    pub(crate) fn at_proxy(self, name: &str) -> Self {
        self.changed(|parts| {
            parts.stage = ErrorStage::Proxy;
            parts.reason = format!("the proxy {name}: {}", parts.reason).into();
        })
    }

    fn changed(mut self, change: impl FnOnce(&mut Parts)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// `code`.
    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// `_domain`: whether the number is one of `NSURLErrorDomain` or of `NSPOSIXErrorDomain`.
    pub fn domain(&self) -> ErrorDomain {
        self.0.code.domain()
    }

    /// `errorCode`: Apple's number, the same on every platform (`NotConnected` is 57 on Linux too).
    pub fn raw_code(&self) -> i32 {
        self.0.code.raw_code()
    }

    /// Beyond Apple: the part of the task's way that failed.
    pub fn stage(&self) -> ErrorStage {
        self.0.stage
    }

    /// `localizedDescription`, in English: what went wrong, with the limit or the value that it went wrong with.
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// `failingURL`: the address that the task was on its way to.
    pub fn failing_url(&self) -> Option<&Url> {
        self.0.failing_url.as_ref()
    }

    /// Beyond Apple: the server's answer where it refused the upgrade, or the proxy's where it refused the tunnel, with up to
    /// 64 KiB of its body.
    pub fn response(&self) -> Option<&HttpUrlResponse> {
        self.0.response.as_ref()
    }
}

impl fmt::Display for UrlError {
    /// `NSURLErrorDomain -1011 (BadServerResponse) at the upgrade: the server answered 404, not 101: wss://example.com/`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { code, stage, reason, failing_url, .. } = &*self.0;
        write!(formatter, "{} {} ({code:?}) {stage}: {reason}", code.domain(), code.raw_code())?;
        match failing_url {
            Some(url) => write!(formatter, ": {}", without_user(url)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for UrlError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { code, stage, reason, failing_url, response, source } = &*self.0;
        formatter
            .debug_struct("UrlError")
            .field("domain", &code.domain())
            .field("code", code)
            .field("raw_code", &code.raw_code())
            .field("stage", stage)
            .field("reason", reason)
            .field("failing_url", &failing_url.as_ref().map(|url| String::from(without_user(url))))
            .field("response", response)
            .field("source", source)
            .finish()
    }
}

impl Error for UrlError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn Error + 'static))
    }
}

/// `NSError.domain`: what an error's number belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorDomain {
    /// `NSURLErrorDomain`.
    Url,
    /// `NSPOSIXErrorDomain`, with the numbers of Apple's systems.
    Posix,
}

impl fmt::Display for ErrorDomain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Url => "NSURLErrorDomain",
            Self::Posix => "NSPOSIXErrorDomain",
        })
    }
}

/// Beyond Apple: the part of a task's way on which something failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorStage {
    /// The caller's own request, configuration or argument.
    Request,
    /// The look-up of the host's addresses.
    Resolve,
    /// The TCP connection.
    Connect,
    /// A proxy: the look-up, the connection and the TLS handshake with it, and what it answered. The reason names it.
    Proxy,
    /// TLS with the server, mostly its handshake.
    Tls,
    /// The HTTP exchange that opens the WebSocket.
    Upgrade,
    /// The open WebSocket.
    Open,
    /// The closing handshake, or what was asked for after the end.
    Close,
    /// The session or the caller ended the task.
    Cancel,
}

impl fmt::Display for ErrorStage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Request => "in the request",
            Self::Resolve => "at the look-up of the host",
            Self::Connect => "at the connection",
            Self::Proxy => "at the proxy",
            Self::Tls => "at the TLS handshake",
            Self::Upgrade => "at the upgrade",
            Self::Open => "on the open socket",
            Self::Close => "at the close",
            Self::Cancel => "at a cancel",
        })
    }
}

macro_rules! error_codes {
    ($($(#[$documentation:meta])* $name:ident = $domain:ident $number:literal,)*) => {
        /// `URLError.Code` and the `POSIXErrorCode`s that a WebSocket task ends with.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[$documentation])* $name,)*
        }

        impl ErrorCode {
            /// Beyond Apple: the domain that the number belongs to.
            pub const fn domain(self) -> ErrorDomain {
                match self {
                    $(Self::$name => ErrorDomain::$domain,)*
                }
            }

            /// `rawValue`: Apple's number, the same on every platform.
            pub const fn raw_code(self) -> i32 {
                match self {
                    $(Self::$name => $number,)*
                }
            }
        }
    };
}

error_codes! {
    /// `.unknown`: nothing more is known.
    Unknown = Url -1,
    /// `.cancelled`: the task was cancelled, by the caller, with its session, or by a delegate's answer to a challenge.
    Cancelled = Url -999,
    /// `.badURL`: the request cannot be sent as it is.
    BadUrl = Url -1000,
    /// `.timedOut`: a timer of the request, of the resource or of the keep-alive ran out.
    TimedOut = Url -1001,
    /// `.unsupportedURL`: not `ws`, `wss`, `http` or `https`; no host; a method that is not GET.
    UnsupportedUrl = Url -1002,
    /// `.cannotFindHost`: the name has no address.
    CannotFindHost = Url -1003,
    /// `.cannotConnectToHost`: refused or unreachable; also what a SOCKS proxy says of the server.
    CannotConnectToHost = Url -1004,
    /// `.networkConnectionLost`: the connection ended without a Close frame.
    NetworkConnectionLost = Url -1005,
    /// `.dnsLookupFailed`: the look-up itself failed.
    DnsLookupFailed = Url -1006,
    /// `.httpTooManyRedirects`: more than 20.
    HttpTooManyRedirects = Url -1007,
    /// `.notConnectedToInternet`: there is no network: no route, or no name server that can be reached.
    NotConnectedToInternet = Url -1009,
    /// `.redirectToNonExistentLocation`. No task ends with it.
    RedirectToNonExistentLocation = Url -1010,
    /// `.badServerResponse`: the server refused the upgrade, or answered it wrongly; or a proxy refused the tunnel.
    BadServerResponse = Url -1011,
    /// `.userCancelledAuthentication`. No task ends with it: a challenge that is cancelled is `Cancelled`.
    UserCancelledAuthentication = Url -1012,
    /// `.userAuthenticationRequired`: a SOCKS proxy wants another credential, or one at all.
    UserAuthenticationRequired = Url -1013,
    /// `.cannotParseResponse`: the answer is no HTTP, or passes the limits of a response head.
    CannotParseResponse = Url -1017,
    /// `.dataLengthExceedsMaximum`. No task ends with it.
    DataLengthExceedsMaximum = Url -1103,
    /// `.secureConnectionFailed`: the TLS handshake failed.
    SecureConnectionFailed = Url -1200,
    /// `.serverCertificateHasBadDate`: expired.
    ServerCertificateHasBadDate = Url -1201,
    /// `.serverCertificateUntrusted`: also a certificate of another host, and one that the delegate rejects.
    ServerCertificateUntrusted = Url -1202,
    /// `.serverCertificateHasUnknownRoot`: it leads to none of the root certificates.
    ServerCertificateHasUnknownRoot = Url -1203,
    /// `.serverCertificateNotYetValid`: its time has not come.
    ServerCertificateNotYetValid = Url -1204,
    /// `.clientCertificateRejected`: the server does not accept the certificate of the client.
    ClientCertificateRejected = Url -1205,
    /// `.clientCertificateRequired`: the server wants a certificate of the client, and got none.
    ClientCertificateRequired = Url -1206,
    /// `EPIPE`: written to a connection that the peer had shut.
    BrokenPipe = Posix 32,
    /// `EMSGSIZE`: a message reached `maximum_message_size`.
    MessageTooLong = Posix 40,
    /// `ECONNABORTED`: the connection was given up by this side's system.
    ConnectionAborted = Posix 53,
    /// `ECONNRESET`: the connection was reset by the peer.
    ConnectionReset = Posix 54,
    /// `ENOBUFS`: a send would pass `maximum_send_queue`.
    NoBufferSpace = Posix 55,
    /// `ENOTCONN`: the socket is not, or no longer, connected.
    NotConnected = Posix 57,
    /// `EPROTO`: the server broke RFC 6455 or RFC 7692.
    ProtocolError = Posix 100,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_apples() {
        let table = [
            (ErrorCode::Unknown, -1, "NSURLErrorDomain"),
            (ErrorCode::Cancelled, -999, "NSURLErrorDomain"),
            (ErrorCode::BadServerResponse, -1011, "NSURLErrorDomain"),
            (ErrorCode::SecureConnectionFailed, -1200, "NSURLErrorDomain"),
            (ErrorCode::ClientCertificateRequired, -1206, "NSURLErrorDomain"),
            (ErrorCode::MessageTooLong, 40, "NSPOSIXErrorDomain"),
            (ErrorCode::NotConnected, 57, "NSPOSIXErrorDomain"),
            (ErrorCode::ProtocolError, 100, "NSPOSIXErrorDomain"),
        ];
        for (code, number, domain) in table {
            let error = UrlError::new(code, ErrorStage::Open, "why");
            assert_eq!((error.raw_code(), error.domain().to_string().as_str()), (number, domain), "{code:?}");
        }
    }

    #[test]
    fn says_code_stage_reason_and_address_but_no_password() {
        let url = Url::parse("ws://me:secret@example.com/").unwrap();
        let error = UrlError::new(ErrorCode::CannotConnectToHost, ErrorStage::Connect, "connection refused")
            .with_failing_url(&url)
            .with_source(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
        assert_eq!(
            error.to_string(),
            "NSURLErrorDomain -1004 (CannotConnectToHost) at the connection: connection refused: ws://example.com/"
        );
        assert!(!format!("{error:?}").contains("secret"));
        assert!(error.source().is_some());
        assert_eq!(error.failing_url(), Some(&url));
    }
}
