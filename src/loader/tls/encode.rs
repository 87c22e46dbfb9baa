//! What rustls has to say, appended to what waits for the socket.

use rustls::client::ClientConnectionData;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, WriteTraffic,
};

use super::{State, TlsStream, unexpected};
use crate::foundation::{ErrorCode, UrlError, explained, failure};

/// Pieces of plaintext that are shorter wait for the next one, to share its record; longer ones are not copied for that.
const GATHERED: usize = 4 * 1024;

/// What fits into a record: RFC 8446 §5.1.
const RECORD: usize = 16 * 1024;

/// More than any suite of TLS 1.2 or 1.3 adds to a record: header, nonce, type and tag.
pub const RECORD_OVERHEAD: usize = 64;

impl TlsStream {
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
    pub(super) fn write(
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
pub fn append(
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
pub fn encode(mut message: EncodeTlsData<'_, ClientConnectionData>, into: &mut Vec<u8>) {
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
