//! TLS between the socket and the bytes of HTTP and WebSocket, without I/O: RFC 8446 and RFC 5246, by rustls.
//!
//! Ciphertext from the socket goes into [`TlsStream::received`] and comes out as plaintext; plaintext goes into
//! [`TlsStream::send`] and comes out of [`TlsStream::output`] as ciphertext. The clock for the dates of certificates and the
//! random bytes of the handshake are rustls' own.

use std::borrow::Cow;
use std::fmt;
use std::io::{BufRead, Write};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, Error, InvalidMessage, PeerIncompatible,
    ProtocolVersion,
};

use crate::foundation::{ErrorCode, ErrorStage, RootCertificates, TlsProtocolVersion, UrlError};

#[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
compile_error!("one of the features `ring` and `aws-lc-rs` has to be on: TLS needs its cryptography");

/// What the connections of one configuration have in common. It keeps the session tickets of TLS too, so that it is to be
/// made once for a configuration, and not to be shared by two that trust different roots.
///
/// # Errors
///
/// [`ErrorStage::Request`] where the lowest version is above the highest.
pub fn client_config(
    roots: &RootCertificates,
    minimum: TlsProtocolVersion,
    maximum: TlsProtocolVersion,
) -> Result<Arc<ClientConfig>, UrlError> {
    if minimum > maximum {
        let reason = format!("the lowest version of TLS ({minimum:?}) is above the highest ({maximum:?})");
        return Err(UrlError::new(ErrorCode::SecureConnectionFailed, ErrorStage::Request, reason));
    }
    let versions: Vec<_> =
        [(TlsProtocolVersion::TlsV13, &rustls::version::TLS13), (TlsProtocolVersion::TlsV12, &rustls::version::TLS12)]
            .into_iter()
            .filter(|(version, _)| (minimum..=maximum).contains(version))
            .map(|(_, supported)| supported)
            .collect();
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&versions)
        .map_err(explained)?
        .with_root_certificates(Arc::clone(roots.store()))
        .with_no_client_auth();
    // RFC 7301: without it, a server may choose HTTP/2, where an upgrade cannot be asked for.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Named outright: the default of the process is another library's to choose, or nobody's.
fn provider() -> CryptoProvider {
    #[cfg(feature = "aws-lc-rs")]
    return rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    return rustls::crypto::ring::default_provider();
}

/// The client's end of one TLS connection.
pub struct TlsStream {
    connection: ClientConnection,
    state: State,
}

enum State {
    Running,
    /// The server's close_notify came: RFC 8446 §6.1. Nothing that comes after it counts.
    Closed,
    /// Our close_notify is on its way.
    Closing,
    Failed(UrlError),
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The handshake is done: the server's certificate is good and plaintext may be sent.
    pub handshake_done: bool,
    /// The server's close_notify came. An end of the stream without it may be an attacker's cut.
    pub closed: bool,
}

impl TlsStream {
    /// A connection to `host`, a name or an address (IPv6 with or without brackets). Its first bytes wait in
    /// [`output`](Self::output). The server is told the host where it is a name (RFC 6066 §3).
    pub fn new(config: Arc<ClientConfig>, host: &str) -> Result<Self, UrlError> {
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(host).map_err(|error| {
            failure(ErrorCode::SecureConnectionFailed, format!("no certificate can be for the host `{host}`"))
                .with_source(error)
        })?;
        let mut connection = ClientConnection::new(config, name.to_owned()).map_err(explained)?;
        // The caller bounds what it gives at a time, and takes all of `output`.
        connection.set_buffer_limit(None);
        Ok(Self { connection, state: State::Running })
    }

    /// Takes all of `ciphertext`, however it is cut, and appends what was in it to `plaintext`.
    ///
    /// # Errors
    ///
    /// The connection failed: all later calls say so again. What came before the fault is in `plaintext`, and the alert
    /// for the server waits in [`output`](Self::output).
    pub fn received(&mut self, ciphertext: &[u8], plaintext: &mut Vec<u8>) -> Result<Received, UrlError> {
        if matches!(self.state, State::Running)
            && let Err(error) = self.decrypt(ciphertext, plaintext)
        {
            self.state = State::Failed(error);
        }
        if let State::Failed(error) = &self.state {
            return Err(error.clone());
        }
        // The end of the handshake is the place to ask a delegate about the server's certificates: rustls knows the chain
        // (`peer_certificates`), and no byte of HTTP leaves before the caller has seen `handshake_done`.
        Ok(Received { handshake_done: !self.connection.is_handshaking(), closed: matches!(self.state, State::Closed) })
    }

    fn decrypt(&mut self, mut ciphertext: &[u8], plaintext: &mut Vec<u8>) -> Result<(), UrlError> {
        while !ciphertext.is_empty() {
            // rustls takes some 4 KiB at a time and keeps at most one record, or one message of the handshake of 64 KiB.
            match self.connection.read_tls(&mut ciphertext) {
                Ok(1..) => {}
                Ok(0) => return Err(failure(ErrorCode::SecureConnectionFailed, "the server sent too long a record")),
                Err(error) => {
                    let reason = "the server sent too long a message of the handshake";
                    return Err(failure(ErrorCode::SecureConnectionFailed, reason).with_source(error));
                }
            }
            let processed = self.connection.process_new_packets();
            self.take_plaintext(plaintext);
            if processed.map_err(explained)?.peer_has_closed() {
                self.state = State::Closed;
                return Ok(());
            }
        }
        Ok(())
    }

    fn take_plaintext(&mut self, plaintext: &mut Vec<u8>) {
        let mut reader = self.connection.reader();
        // An error says that there is no more for now, an empty chunk that there is no more at all.
        while let Ok(chunk @ [_, ..]) = reader.fill_buf() {
            plaintext.extend_from_slice(chunk);
            let taken = chunk.len();
            reader.consume(taken);
        }
    }

    /// Encrypts `plaintext` for [`output`](Self::output). To be called after the handshake; what comes before waits for it.
    /// After [`close`](Self::close) and after a failure nothing is sent.
    pub fn send(&mut self, plaintext: &[u8]) {
        debug_assert!(!self.connection.is_handshaking(), "plaintext before the end of the handshake");
        if matches!(self.state, State::Running | State::Closed) {
            // Fails only for a connection that has failed, and such a one is not asked.
            let written = self.connection.writer().write_all(plaintext);
            debug_assert!(written.is_ok(), "{written:?}");
        }
    }

    /// Appends all the bytes that wait to be written to the socket: handshake, data and alerts.
    pub fn output(&mut self, into: &mut Vec<u8>) {
        while self.connection.wants_write() {
            // A `Vec` takes all that it is given.
            let written = self.connection.write_tls(into);
            debug_assert!(matches!(written, Ok(1..)), "{written:?}");
            if !matches!(written, Ok(1..)) {
                return;
            }
        }
    }

    /// Whether [`output`](Self::output) has something to give.
    pub fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Tells the server that nothing more will be sent (close_notify, RFC 8446 §6.1). To be called when nothing more is
    /// awaited either: what arrives from now on is dropped.
    pub fn close(&mut self) {
        if matches!(self.state, State::Running | State::Closed) {
            self.connection.send_close_notify();
            // rustls asserts in a debug build that no alert follows a close_notify, and a faulty record would ask for one.
            // So it is given none.
            self.state = State::Closing;
        }
    }

    /// The version that the server chose.
    pub fn protocol_version(&self) -> Option<TlsProtocolVersion> {
        match self.connection.protocol_version()? {
            ProtocolVersion::TLSv1_2 => Some(TlsProtocolVersion::TlsV12),
            ProtocolVersion::TLSv1_3 => Some(TlsProtocolVersion::TlsV13),
            _ => None,
        }
    }

    /// The cipher suite that the server chose, by its number in the registry (RFC 8446 §11).
    pub fn cipher_suite(&self) -> Option<u16> {
        self.connection.negotiated_cipher_suite().map(|suite| suite.suite().into())
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TlsStream")
            .field("handshake_done", &!self.connection.is_handshaking())
            .field("protocol_version", &self.protocol_version())
            .finish_non_exhaustive()
    }
}

fn failure(code: ErrorCode, reason: impl Into<Cow<'static, str>>) -> UrlError {
    UrlError::new(code, ErrorStage::Tls, reason)
}

/// Apple's code for an error of rustls, and the error in plain words.
fn explained(error: Error) -> UrlError {
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
mod tests;
