//! TLS between the socket and the bytes of HTTP and WebSocket, without I/O: RFC 8446 and RFC 5246, by rustls.
//!
//! Ciphertext from the socket goes into [`TlsStream::received`]; it is decrypted where it lies, and each record's plaintext
//! is handed on. Plaintext goes into [`TlsStream::send`] and comes out of [`TlsStream::output`] as ciphertext. The clock for
//! the dates of certificates and the random bytes of the handshake are rustls' own.
//!
//! rustls' unbuffered interface is used, so that a connection that is idle owns no buffer, and a record is copied once on
//! its way in: into the memory that rustls hands on. What is kept between two reads is [`Kept`].

mod context;
mod encode;
mod kept;
mod sessions;
mod tape;
mod through;
mod verdict;
mod verifier;

use std::fmt;
use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{ClientConfig, ContentType, ProtocolVersion};

use crate::foundation::{
    Asked, ClientIdentity, ErrorCode, TlsProtocolVersion, UrlError, explained, explained_after, failure,
};
pub use context::TlsContext;
use encode::{RECORD_OVERHEAD, append, encode};
use kept::Kept;
use through::Through;
use verdict::Handshake;

/// The client's end of one TLS connection.
pub struct TlsStream {
    connection: UnbufferedClientConnection,
    state: State,
    /// Until the handshake is done.
    handshake: Option<Box<Handshake>>,
    /// What became of the client's certificate: a server of TLS 1.3 says so after the handshake.
    asked: Asked,
    /// The connection to a proxy that this one travels inside.
    through: Option<Box<Through>>,
    kept: Kept,
    /// Records for the socket, in the order in which they were encrypted.
    outgoing: Vec<u8>,
    /// For the road: the position of the last frames that were encrypted.
    pub sealed: u64,
}

/// Whom a connection is to, and how.
#[derive(Debug)]
pub struct Server<'a> {
    /// The session's.
    pub context: &'a Arc<TlsContext>,
    /// A name or an address (IPv6 with or without brackets).
    pub host: &'a str,
    /// Sessions of one port are not resumed at another.
    pub port: u16,
    /// Somebody is asked whether the server is to be trusted ([`Received::Presented`]); else the roots decide.
    pub asks: bool,
    /// What a server is given that wants a certificate of the client.
    pub identity: Option<ClientIdentity>,
    /// An established connection to a proxy, for this one to travel inside.
    pub through: Option<Box<TlsStream>>,
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
    /// All is taken; before an answer to `Presented`, nothing is.
    All,
    /// The server's certificates are known, and that it has the key of the first. This is told once, and only where somebody is
    /// asked. All is taken, and nothing more is received or goes out until [`TlsStream::go_on`] or [`TlsStream::refuse`].
    Presented,
    /// The handshake is done: the server is trusted and plaintext may be sent. This is told once, before any
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
    /// Somebody is to be asked first.
    Presented,
    Closed,
}

impl TlsStream {
    /// A connection to the server. Its first bytes wait in [`output`](Self::output). The server is told the host where it is
    /// a name (RFC 6066 §3).
    ///
    /// # Errors
    ///
    /// No certificate can be for the host, or there are no random bytes.
    pub fn new(server: Server<'_>) -> Result<Self, UrlError> {
        let host = server.host;
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(host).map_err(|error| {
            failure(ErrorCode::SecureConnectionFailed, format!("no certificate can be for the host `{host}`"))
                .with_source(error)
        })?;
        let config = server.context.config(server.port, server.asks, server.identity.as_ref());
        let handshake = match server.asks {
            true => Handshake::asking(&server, name.to_owned()),
            false => Handshake::default(),
        };
        let mut stream = Self::begun(config, name.to_owned(), handshake)?;
        stream.through = server.through.map(Through::new);
        Ok(stream)
    }

    fn begun(config: Arc<ClientConfig>, name: ServerName<'static>, mut handshake: Handshake) -> Result<Self, UrlError> {
        let connection = handshake.tape.under(|| UnbufferedClientConnection::new(config, name)).map_err(explained)?;
        let mut stream = Self {
            connection,
            state: State::Handshaking,
            handshake: Some(Box::new(handshake)),
            asked: Asked::No,
            through: None,
            kept: Kept::default(),
            outgoing: Vec::new(),
            sealed: 0,
        };
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
        match self.through {
            None => self.received_here(ciphertext, plaintext),
            Some(_) => self.received_through(ciphertext, plaintext),
        }
    }

    /// [`received`](Self::received) for what is this connection's own.
    fn received_here(
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
        let stop = match self.handshake.as_mut().map(|handshake| handshake.before(ciphertext)) {
            Some(verdict::Before::Waits) => return Ok(Received::All),
            Some(verdict::Before::Done(stop)) => Ok(stop),
            Some(verdict::Before::Goes) | None => self.decrypt(ciphertext, plaintext),
        };
        let stop = stop.map_err(|error| self.fail(error))?;
        let is_secured = matches!(self.state, State::Handshaking) && !self.connection.is_handshaking();
        match stop {
            Stop::Presented => {
                self.pause();
                return Ok(Received::Presented);
            }
            _ if is_secured => self.end_handshake()?,
            _ => {}
        }
        if let Stop::Closed = stop {
            self.state = State::Closed;
            self.kept.clear();
        } else if is_secured {
            self.state = State::Running;
        }
        Ok(match stop {
            _ if is_secured => Received::Secured,
            Stop::Closed => Received::Closed,
            Stop::Blocked | Stop::Unannounced | Stop::Presented => Received::All,
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
                    Stop::Presented => self.kept.pause(rest.to_vec()),
                    Stop::Closed => {}
                }
                return Ok(stop);
            }
            if !self.kept.complete(ciphertext) {
                return Ok(Stop::Blocked);
            }
            let mut records = self.kept.take();
            let (done, stop) = self.advance(&mut records, plaintext)?;
            if let Stop::Presented | Stop::Unannounced = stop {
                self.kept.done(done);
                records.drain(..done);
                if let Stop::Presented = stop {
                    records.extend_from_slice(&*std::mem::take(ciphertext));
                }
                self.kept.pause(records);
                return Ok(stop);
            }
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
            let connection = &mut self.connection;
            let UnbufferedStatus { discard, state } = match &mut self.handshake {
                Some(handshake) => handshake.tape.under(|| connection.process_tls_records(records)),
                None => connection.process_tls_records(records),
            };
            done += discard;
            let state = match state {
                Ok(state) => state,
                Err(error) => return Err(explained_after(error, self.asked())),
            };
            let stop = match state {
                ConnectionState::ReadTraffic(_) if matches!(self.state, State::Handshaking) => Some(Stop::Unannounced),
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(explained)?;
                        done += record.discard;
                        plaintext(record.payload);
                    }
                    None
                }
                ConnectionState::EncodeTlsData(message) => {
                    encode(message, &mut self.outgoing);
                    None
                }
                ConnectionState::TransmitTlsData(transmit) => {
                    transmit.done();
                    None
                }
                ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) => Some(Stop::Blocked),
                ConnectionState::PeerClosed | ConnectionState::Closed => Some(Stop::Closed),
                other => return Err(unexpected(&other)),
            };
            if self.is_presented() {
                return Ok((done, Stop::Presented));
            }
            if let Some(stop) = stop {
                return Ok((done, stop));
            }
        }
    }

    /// Nothing is received or sent any more, but for the alert that tells the server why.
    fn fail(&mut self, error: UrlError) -> UrlError {
        self.kept.clear();
        let is_judged = self.handshake.take().is_none_or(|handshake| handshake.is_judged());
        // rustls gives out what waits to be sent before it looks at a byte.
        while self.connection.wants_write() {
            match self.connection.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(message)) => {
                    let start = self.outgoing.len();
                    encode(message, &mut self.outgoing);
                    // Who is not trusted yet gets nothing but an alert; in TLS 1.2, rustls may have said who we are.
                    if !is_judged && self.outgoing.get(start) == Some(&u8::from(ContentType::Handshake)) {
                        self.outgoing.truncate(start);
                    }
                }
                Ok(ConnectionState::ReadTraffic(mut traffic)) => while traffic.next_record().is_some() {},
                _ => break,
            }
        }
        self.state = State::Failed(error.clone());
        error
    }

    /// Appends all the bytes that wait to be written to the socket: handshake, data and alerts.
    pub fn output(&mut self, into: &mut Vec<u8>) {
        if self.handshake.as_mut().is_some_and(|handshake| !handshake.lets_out(&self.outgoing)) {
            self.outgoing_of_proxy(into);
        } else if self.through.is_some() {
            self.seal_for_proxy();
            self.outgoing_of_proxy(into);
        } else if into.is_empty() {
            *into = std::mem::take(&mut self.outgoing);
        } else {
            into.append(&mut self.outgoing);
            self.outgoing = Vec::new();
        }
    }

    /// Whether [`output`](Self::output) has something to give.
    pub fn wants_write(&self) -> bool {
        (!self.outgoing.is_empty() && !self.is_waiting())
            || self.through.as_ref().is_some_and(|through| through.wants_write())
    }

    /// Tells the server that nothing more will be sent (close_notify, RFC 8446 §6.1); within the handshake, nothing is told.
    /// To be called when nothing more is awaited either: what arrives from now on is dropped.
    pub fn close(&mut self) {
        if self.is_waiting() {
            self.outgoing = Vec::new();
        }
        self.handshake = None;
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
        self.close_proxy();
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

/// A state that a client without early data does not come into.
fn unexpected(state: &ConnectionState<'_, '_, ClientConnectionData>) -> UrlError {
    failure(ErrorCode::SecureConnectionFailed, format!("TLS is in an unexpected state: {state:?}"))
}

#[cfg(test)]
mod tests;
