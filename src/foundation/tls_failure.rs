//! What rustls says that went wrong, in Apple's codes and in plain words.

use std::borrow::Cow;

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use super::error::{ErrorCode, ErrorStage, UrlError};

/// A failure of TLS.
pub fn failure(code: ErrorCode, reason: impl Into<Cow<'static, str>>) -> UrlError {
    UrlError::new(code, ErrorStage::Tls, reason)
}

/// The client's certificate cannot be used with this server.
pub const UNFIT: &str = "the key of the client's certificate makes none of the signatures that the server accepts";

/// Whether a server has asked for a certificate of the client, and what it was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    #[default]
    No,
    /// There was none.
    Unanswered,
    /// There was one, but its key makes none of the signatures that the server accepts.
    Unfit,
    Answered,
}

/// Apple's code for an error of rustls, and the error in plain words.
pub fn explained(error: Error) -> UrlError {
    explained_after(error, Asked::No)
}

/// As [`explained`], of a connection whose server may have asked for a certificate: an alert may be about that.
pub fn explained_after(error: Error, asked: Asked) -> UrlError {
    let (code, reason) = match &error {
        Error::InvalidCertificate(fault) => bad_certificate(fault),
        Error::AlertReceived(alert) => refused_by_server(*alert, asked),
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

/// An alert that ends the connection: RFC 8446 §6.2. Those about certificates are about the client's. What they say of one
/// that was not sent is that it was missed; servers of TLS 1.2 have no alert of its own for that.
fn refused_by_server(alert: AlertDescription, asked: Asked) -> (ErrorCode, Cow<'static, str>) {
    let is_about_certificate = match alert {
        AlertDescription::AccessDenied
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateRequired
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::UnsupportedCertificate => true,
        AlertDescription::HandshakeFailure => asked != Asked::No,
        // The second is OpenSSL's word for a key on a curve that it does not want.
        AlertDescription::DecryptError | AlertDescription::IllegalParameter => asked == Asked::Answered,
        _ => false,
    };
    match (alert, asked) {
        (_, Asked::Unfit) if is_about_certificate => (ErrorCode::ClientCertificateRejected, UNFIT.into()),
        (AlertDescription::CertificateRequired, _) => {
            (ErrorCode::ClientCertificateRequired, "the server requires a certificate of the client".into())
        }
        (_, Asked::Unanswered) if is_about_certificate => {
            let reason = format!("the server asked for a certificate of the client and got none ({alert:?})");
            (ErrorCode::ClientCertificateRequired, reason.into())
        }
        _ if is_about_certificate => {
            let reason = format!("the server does not accept the certificate of the client ({alert:?})");
            (ErrorCode::ClientCertificateRejected, reason.into())
        }
        (other, _) => refused_for_another_reason(other),
    }
}

fn refused_for_another_reason(alert: AlertDescription) -> (ErrorCode, Cow<'static, str>) {
    match alert {
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
fn difference(later: UnixTime, earlier: UnixTime) -> String {
    let seconds = later.as_secs().saturating_sub(earlier.as_secs());
    let units = [(24 * 60 * 60, "day"), (60 * 60, "hour"), (60, "minute"), (1, "second")];
    let (length, unit) = units.into_iter().find(|(length, _)| seconds >= *length).unwrap_or((1, "second"));
    let count = seconds / length;
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// What a certificate is for. The names are the server's words: few of them are shown, none at length, and nothing of them
/// that is no plain character.
fn names(presented: &[String]) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_in_plain_words() {
        let at = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let table = [(0, "0 seconds"), (1, "1 second"), (119, "1 minute"), (7200, "2 hours"), (200_000, "2 days")];
        for (seconds, words) in table {
            assert_eq!(difference(at(1000 + seconds), at(1000)), words);
        }
        assert_eq!(difference(at(0), at(1000)), "0 seconds");
        let long = format!("DnsName(\"{}\")", "a".repeat(5000));
        let table: [(&[&str], String); 4] = [
            (&[], "no host".to_owned()),
            (
                &["DnsName(\"a.example\")", "IpAddress(::1)", "Unsupported(0x80)"],
                "`a.example`, `::1`, `Unsupported(0x80)`".to_owned(),
            ),
            (&["DnsName(\"a\nb\u{202e}\")"], "`a\\nb\\u{202e}`".to_owned()),
            (&[&long], format!("`{}`", "a".repeat(100))),
        ];
        for (presented, words) in table {
            let presented: Vec<String> = presented.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(names(&presented), words);
        }
    }
}
