//! What rustls says that went wrong, in Apple's codes and in plain words.

use std::borrow::Cow;

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use crate::foundation::{ErrorCode, ErrorStage, UrlError};

/// A failure of TLS.
pub fn failure(code: ErrorCode, reason: impl Into<Cow<'static, str>>) -> UrlError {
    UrlError::new(code, ErrorStage::Tls, reason)
}

/// Apple's code for an error of rustls, and the error in plain words.
pub fn explained(error: Error) -> UrlError {
    let (code, reason) = match &error {
        Error::InvalidCertificate(fault) => bad_certificate(fault),
        Error::AlertReceived(alert) => refused_by_server(*alert),
        Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => (
            ErrorCode::SecureConnectionFailed,
            "what the server sent is not TLS; perhaps it speaks plain HTTP on this port".into(),
        ),
        Error::PeerIncompatible(
            PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig | PeerIncompatible::ServerDoesNotSupportTls12Or13,
        ) => (
            ErrorCode::SecureConnectionFailed,
            "the server speaks none of the versions of TLS that the configuration allows".into(),
        ),
        other => (ErrorCode::SecureConnectionFailed, other.to_string().into()),
    };
    failure(code, reason).with_source(error)
}

fn bad_certificate(fault: &CertificateError) -> (ErrorCode, Cow<'static, str>) {
    match fault {
        CertificateError::Expired => {
            (ErrorCode::ServerCertificateHasBadDate, "a certificate of the server has expired".into())
        }
        CertificateError::ExpiredContext { time, not_after } => {
            let since = difference(*time, *not_after);
            let reason = format!("a certificate of the server expired {since} ago");
            (ErrorCode::ServerCertificateHasBadDate, reason.into())
        }
        CertificateError::NotValidYet => {
            (ErrorCode::ServerCertificateNotYetValid, "a certificate of the server is not valid yet".into())
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            let until = difference(*not_before, *time);
            let reason = format!("a certificate of the server is not valid before {until} from now");
            (ErrorCode::ServerCertificateNotYetValid, reason.into())
        }
        CertificateError::NotValidForName => {
            (ErrorCode::ServerCertificateUntrusted, "the server's certificate is for another host".into())
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let reason =
                format!("the server's certificate is not for `{}` but for {}", expected.to_str(), names(presented));
            (ErrorCode::ServerCertificateUntrusted, reason.into())
        }
        CertificateError::UnknownIssuer => (
            ErrorCode::ServerCertificateHasUnknownRoot,
            "the server's certificate leads to none of the root certificates that the configuration trusts".into(),
        ),
        other => {
            (ErrorCode::ServerCertificateUntrusted, format!("the server's certificate is not good: {other}").into())
        }
    }
}

/// An alert that ends the connection: RFC 8446 §6.2. Those about certificates are about the client's.
fn refused_by_server(alert: AlertDescription) -> (ErrorCode, Cow<'static, str>) {
    match alert {
        AlertDescription::CertificateRequired => {
            (ErrorCode::ClientCertificateRequired, "the server requires a certificate of the client".into())
        }
        AlertDescription::AccessDenied
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::UnsupportedCertificate => {
            let reason = format!("the server does not accept the certificate of the client ({alert:?})");
            (ErrorCode::ClientCertificateRejected, reason.into())
        }
        AlertDescription::ProtocolVersion => (
            ErrorCode::SecureConnectionFailed,
            "the server speaks none of the versions of TLS that the configuration allows".into(),
        ),
        AlertDescription::UnrecognisedName => {
            (ErrorCode::SecureConnectionFailed, "the server does not know the host that it was asked for".into())
        }
        AlertDescription::NoApplicationProtocol => {
            (ErrorCode::SecureConnectionFailed, "the server does not speak HTTP/1.1".into())
        }
        other => (ErrorCode::SecureConnectionFailed, format!("the server ended the TLS connection ({other:?})").into()),
    }
}

/// The time from `earlier` to `later`, in the largest unit that it fills.
pub(super) fn difference(later: UnixTime, earlier: UnixTime) -> String {
    let seconds = later.as_secs().saturating_sub(earlier.as_secs());
    let units = [(24 * 60 * 60, "day"), (60 * 60, "hour"), (60, "minute"), (1, "second")];
    let (length, unit) = units.into_iter().find(|(length, _)| seconds >= *length).unwrap_or((1, "second"));
    let count = seconds / length;
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// What a certificate is for. The names are the server's words: few of them are shown, none at length, and nothing of them
/// that is no plain character.
pub(super) fn names(presented: &[String]) -> String {
    const SHOWN: usize = 4;
    const LENGTH: usize = 100;
    if presented.is_empty() {
        return "no host".to_owned();
    }
    let mut text = String::new();
    for (index, name) in presented.iter().take(SHOWN).enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        // rustls names them `DnsName("example.com")` and `IpAddress(192.0.2.1)`.
        let name = name.strip_prefix("DnsName(\"").and_then(|name| name.strip_suffix("\")")).unwrap_or(name);
        let name = name.strip_prefix("IpAddress(").and_then(|name| name.strip_suffix(')')).unwrap_or(name);
        text.push('`');
        text.extend(name.chars().take(LENGTH).flat_map(char::escape_debug));
        text.push('`');
    }
    match presented.len().saturating_sub(SHOWN) {
        0 => text,
        more => text + &format!(" and {more} more"),
    }
}
