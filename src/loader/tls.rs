//! TLS between the socket and the bytes of HTTP and WebSocket, without I/O: RFC 8446 and RFC 5246, by rustls.
//!
//! Ciphertext from the socket goes into [`TlsStream::received`]; it is decrypted where it lies, and each record's plaintext
//! is handed on. Plaintext goes into [`TlsStream::send`] and comes out of [`TlsStream::output`] as ciphertext. The clock for
//! the dates of certificates and the random bytes of the handshake are rustls' own.
//!
//! rustls' unbuffered interface is used, so that a connection that is idle owns no buffer, and a record is copied once on
//! its way in: into the memory that rustls hands on. What is kept between two reads is [`Kept`].

mod explain;
mod kept;
mod sessions;

use std::fmt;
use std::sync::Arc;

use rustls::client::{ClientConnectionData, Resumption, UnbufferedClientConnection};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};
use rustls::{CipherSuite, ClientConfig, ProtocolVersion};

use crate::foundation::{ErrorCode, ErrorStage, RootCertificates, TlsProtocolVersion, UrlError};
use explain::{explained, failure};
use kept::Kept;
use sessions::Sessions;

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
    config.resumption = Resumption::store(Arc::new(Sessions::new()));
    // RFC 7301: without it, a server may choose HTTP/2, where an upgrade cannot be asked for.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Named outright: the default of the process is another library's to choose, or nobody's. Its suites, but
/// TLS_AES_128_GCM_SHA256 is asked for first, as on Apple's: its handshake is much cheaper than that with SHA-384.
fn provider() -> CryptoProvider {
    #[cfg(feature = "aws-lc-rs")]
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider
}

/// Pieces of plaintext that are shorter wait for the next one, to share its record; longer ones are not copied for that.
const GATHERED: usize = 4 * 1024;

/// What fits into a record: RFC 8446 §5.1.
const RECORD: usize = 16 * 1024;

/// More than any suite of TLS 1.2 or 1.3 adds to a record: header, nonce, type and tag.
const RECORD_OVERHEAD: usize = 64;

/// The client's end of one TLS connection.
pub struct TlsStream {
    connection: UnbufferedClientConnection,
    state: State,
    kept: Kept,
    /// Records for the socket, in the order in which they were encrypted.
    outgoing: Vec<u8>,
    /// For the road: the position of the last frames that were encrypted.
    pub sealed: u64,
}

enum State {
    Handshaking,
    Running,
    /// The server's close_notify came: RFC 8446 §6.1. Nothing that comes after it counts.
    Closed,
    /// Our close_notify is on its way.
    Closing,
    Failed(UrlError),
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// All is taken.
    All,
    /// The handshake is done: the server's certificate is good and plaintext may be sent. This is told once, before any
    /// plaintext is. What was not taken is to be given again, even where nothing is left.
    Secured,
    /// The server's close_notify came. An end of the stream without it may be an attacker's cut.
    Closed,
}

/// Why rustls stopped.
enum Stop {
    /// It has looked at every whole record.
    Blocked,
    /// There is plaintext, and nobody knows yet that the handshake is done.
    Unannounced,
    Closed,
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
        let connection = UnbufferedClientConnection::new(config, name.to_owned()).map_err(explained)?;
        let mut stream =
            Self { connection, state: State::Handshaking, kept: Kept::default(), outgoing: Vec::new(), sealed: 0 };
        stream.advance(&mut [], &mut |_| ())?;
        Ok(stream)
    }

    /// Takes `ciphertext` from the front, however it is cut, and hands what was in it to `plaintext`, record by record.
    ///
    /// # Errors
    ///
    /// The connection failed: all later calls say so again. What came before the fault was handed on, and the alert for the
    /// server waits in [`output`](Self::output).
    pub fn received(
        &mut self,
        ciphertext: &mut &mut [u8],
        plaintext: &mut dyn FnMut(&[u8]),
    ) -> Result<Received, UrlError> {
        match &self.state {
            State::Handshaking | State::Running => {}
            State::Closed => return Ok(Received::Closed),
            State::Closing => return Ok(Received::All),
            State::Failed(error) => return Err(error.clone()),
        }
        let stop = match self.decrypt(ciphertext, plaintext) {
            Ok(stop) => stop,
            Err(error) => return Err(self.fail(error)),
        };
        // The end of the handshake is the place to ask a delegate about the server's certificates: rustls knows the chain
        // (`peer_certificates`), and no byte of HTTP leaves before the caller has seen `Secured`.
        let is_secured = matches!(self.state, State::Handshaking) && !self.connection.is_handshaking();
        if let Stop::Closed = stop {
            self.state = State::Closed;
            self.kept.clear();
        } else if is_secured {
            self.state = State::Running;
        }
        Ok(match stop {
            _ if is_secured => Received::Secured,
            Stop::Closed => Received::Closed,
            Stop::Blocked | Stop::Unannounced => Received::All,
        })
    }

    /// Each byte is looked at once: rustls gets the records as they lie in `ciphertext`, and a record that was cut when it
    /// is whole.
    fn decrypt(&mut self, ciphertext: &mut &mut [u8], plaintext: &mut dyn FnMut(&[u8])) -> Result<Stop, UrlError> {
        loop {
            if self.kept.is_empty() {
                let records = std::mem::take(ciphertext);
                self.kept.measure(records);
                let (done, stop) = self.advance(records, plaintext)?;
                let rest = records.get_mut(done..).unwrap_or_default();
                self.kept.done(done);
                match stop {
                    Stop::Blocked => self.kept.keep(rest)?,
                    Stop::Unannounced => *ciphertext = rest,
                    Stop::Closed => {}
                }
                return Ok(stop);
            }
            if !self.kept.complete(ciphertext) {
                return Ok(Stop::Blocked);
            }
            let mut records = self.kept.take();
            let (done, stop) = self.advance(&mut records, plaintext)?;
            self.kept.put_back(records, done)?;
            if ciphertext.is_empty() || !matches!(stop, Stop::Blocked) {
                return Ok(stop);
            }
        }
    }

    /// Lets rustls work through `records` until it wants more. How many bytes of them it is done with, and why it stopped.
    fn advance(&mut self, records: &mut [u8], plaintext: &mut dyn FnMut(&[u8])) -> Result<(usize, Stop), UrlError> {
        let mut done = 0;
        // Each turn uses up a record, a message to send, or one of the states that come once.
        loop {
            let records = records.get_mut(done..).unwrap_or_default();
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(records);
            done += discard;
            match state.map_err(explained)? {
                ConnectionState::ReadTraffic(_) if matches!(self.state, State::Handshaking) => {
                    return Ok((done, Stop::Unannounced));
                }
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(explained)?;
                        done += record.discard;
                        plaintext(record.payload);
                    }
                }
                ConnectionState::EncodeTlsData(message) => encode(message, &mut self.outgoing),
                ConnectionState::TransmitTlsData(transmit) => transmit.done(),
                ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) => {
                    return Ok((done, Stop::Blocked));
                }
                ConnectionState::PeerClosed | ConnectionState::Closed => return Ok((done, Stop::Closed)),
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Nothing is received or sent any more, but for the alert that tells the server why.
    fn fail(&mut self, error: UrlError) -> UrlError {
        self.kept.clear();
        // rustls gives out what waits to be sent before it looks at a byte.
        while self.connection.wants_write() {
            match self.connection.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(message)) => encode(message, &mut self.outgoing),
                Ok(ConnectionState::ReadTraffic(mut traffic)) => while traffic.next_record().is_some() {},
                _ => break,
            }
        }
        self.state = State::Failed(error.clone());
        error
    }

    /// Encrypts `plaintext`, some `length` bytes, for [`output`](Self::output). To be called after the handshake. After
    /// [`close`](Self::close) and after a failure nothing is sent.
    ///
    /// # Errors
    ///
    /// The connection failed, because its keys are used up: RFC 5246 has no way to change them.
    pub fn send<'a>(&mut self, length: usize, plaintext: impl Iterator<Item = &'a [u8]>) -> Result<(), UrlError> {
        debug_assert!(!self.connection.is_handshaking(), "plaintext before the end of the handshake");
        if !matches!(self.state, State::Running | State::Closed) {
            return Ok(());
        }
        self.outgoing.reserve(length + (length.div_ceil(RECORD) + 1) * 2 * RECORD_OVERHEAD);
        self.write(|traffic, outgoing| {
            let mut gathered = Vec::new();
            for slice in plaintext {
                // What does not fill a record shares one with what is before it.
                let part = if slice.len() < GATHERED || !gathered.is_empty() { slice.len() % RECORD } else { 0 };
                let (part, records) = slice.split_at(part);
                if gathered.len() + part.len() > RECORD {
                    encrypt(traffic, &gathered, outgoing)?;
                    gathered.clear();
                }
                gathered.extend_from_slice(part);
                if !records.is_empty() {
                    encrypt(traffic, &gathered, outgoing)?;
                    gathered.clear();
                    encrypt(traffic, records, outgoing)?;
                }
            }
            encrypt(traffic, &gathered, outgoing)
        })
        .map_err(|error| self.fail(error))
    }

    /// Lets `write` put records into `outgoing`, behind those that rustls wants to send first.
    fn write(
        &mut self,
        write: impl FnOnce(&mut WriteTraffic<'_, ClientConnectionData>, &mut Vec<u8>) -> Result<(), EncryptError>,
    ) -> Result<(), UrlError> {
        loop {
            // rustls has looked at these bytes, and holds positions in them.
            match self.connection.process_tls_records(self.kept.held()).state.map_err(explained)? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    return write(&mut traffic, &mut self.outgoing).map_err(exhausted);
                }
                ConnectionState::EncodeTlsData(message) => encode(message, &mut self.outgoing),
                ConnectionState::TransmitTlsData(transmit) => transmit.done(),
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Appends all the bytes that wait to be written to the socket: handshake, data and alerts.
    pub fn output(&mut self, into: &mut Vec<u8>) {
        if into.is_empty() {
            *into = std::mem::take(&mut self.outgoing);
        } else {
            into.append(&mut self.outgoing);
            self.outgoing = Vec::new();
        }
    }

    /// Whether [`output`](Self::output) has something to give.
    pub fn wants_write(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Tells the server that nothing more will be sent (close_notify, RFC 8446 §6.1); within the handshake, nothing is told.
    /// To be called when nothing more is awaited either: what arrives from now on is dropped.
    pub fn close(&mut self) {
        if matches!(self.state, State::Running | State::Closed) {
            // Where it cannot be told, there is nothing left to lose.
            let _ = self
                .write(|traffic, outgoing| append(outgoing, RECORD_OVERHEAD, |room| traffic.queue_close_notify(room)));
        }
        if !matches!(self.state, State::Failed(_)) {
            // rustls asserts in a debug build that no alert follows a close_notify, and a faulty record would ask for one.
            // So it is given none.
            self.state = State::Closing;
            self.kept.clear();
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

/// Appends the records of `plaintext`.
fn encrypt(
    traffic: &mut WriteTraffic<'_, ClientConnectionData>,
    plaintext: &[u8],
    into: &mut Vec<u8>,
) -> Result<(), EncryptError> {
    if plaintext.is_empty() {
        return Ok(());
    }
    let room = plaintext.len() + plaintext.len().div_ceil(RECORD) * RECORD_OVERHEAD;
    append(into, room, |room| traffic.encrypt(plaintext, room))
}

/// Appends what `write` writes into `room` bytes, or into as many as it says that it needs.
fn append(
    into: &mut Vec<u8>,
    room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), EncryptError> {
    let start = into.len();
    into.resize(start + room, 0);
    let mut written = write(into.get_mut(start..).unwrap_or_default());
    if let Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) = written {
        into.resize(start + required_size, 0);
        written = write(into.get_mut(start..).unwrap_or_default());
    }
    into.truncate(start + written.as_ref().copied().unwrap_or(0));
    written.map(drop)
}

/// Appends a message of the handshake, an alert, or an update of keys.
fn encode(mut message: EncodeTlsData<'_, ClientConnectionData>, into: &mut Vec<u8>) {
    let start = into.len();
    // It says how long it is where it has no room.
    if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = message.encode(&mut []) {
        into.resize(start + required_size, 0);
        let written = message.encode(into.get_mut(start..).unwrap_or_default());
        debug_assert!(written.is_ok(), "{written:?}");
        into.truncate(start + written.unwrap_or(0));
    }
}

fn exhausted(error: EncryptError) -> UrlError {
    let reason = format!("nothing more can be sent on this TLS connection: {error}");
    failure(ErrorCode::NetworkConnectionLost, reason).with_source(error)
}

/// A state that a client without early data does not come into.
fn unexpected(state: &ConnectionState<'_, '_, ClientConnectionData>) -> UrlError {
    failure(ErrorCode::SecureConnectionFailed, format!("TLS is in an unexpected state: {state:?}"))
}

#[cfg(test)]
mod tests;
