//! The stop within a handshake at which somebody says whether the server is trusted, and who the client is.

use std::sync::Arc;

use rustls::pki_types::ServerName;

use super::tape::Tape;
use super::verifier::fits;
use super::{Server, State, Stop, TlsContext, TlsStream};
use crate::foundation::{Asked, ClientIdentity, ErrorCode, ServerTrust, TlsProtocolVersion, UNFIT, UrlError, failure};

/// How much of what the server has sent is kept, to do the handshake over.
const REPLAYED: usize = 128 * 1024;

/// bad_certificate (RFC 5246 §7.2), as it is sent where nothing is encrypted yet.
const BAD_CERTIFICATE: [u8; 7] = [21, 3, 3, 0, 2, 2, 42];

/// What a connection needs until its handshake is done.
#[derive(Default)]
pub struct Handshake {
    pub tape: Tape,
    asking: Option<Asking>,
    /// The handshake was done over, to its end: why rustls stopped there.
    done: Option<Stop>,
}

/// Where somebody is asked, until there is an answer.
struct Asking {
    context: Arc<TlsContext>,
    name: ServerName<'static>,
    port: u16,
    /// Whose certificate the handshake was begun with.
    identity: Option<ClientIdentity>,
    /// What the server was sent.
    sent: Vec<u8>,
    /// What it has sent, if that is not too much.
    came: Option<Vec<u8>>,
    /// What it has shown: the answer is awaited.
    trust: Option<ServerTrust>,
}

/// Whether rustls may look at what came.
pub enum Before {
    Goes,
    /// An answer is awaited.
    Waits,
    /// It has, to the end of the handshake.
    Done(Stop),
}

impl Handshake {
    /// Of a connection to `name` where somebody is asked.
    pub fn asking(server: &Server<'_>, name: ServerName<'static>) -> Self {
        let asking = Asking {
            context: Arc::clone(server.context),
            name,
            port: server.port,
            identity: server.identity.clone(),
            sent: Vec::new(),
            came: Some(Vec::new()),
            trust: None,
        };
        Self { tape: Tape::recording(), asking: Some(asking), done: None }
    }

    pub fn is_judged(&self) -> bool {
        self.asking.is_none()
    }

    fn is_waiting(&self) -> bool {
        self.asking.as_ref().is_some_and(|asking| asking.trust.is_some())
    }

    /// The server has sent `ciphertext`, which is to be decrypted where it lies.
    pub fn before(&mut self, ciphertext: &[u8]) -> Before {
        if self.is_waiting() {
            return Before::Waits;
        }
        if let Some(asking) = &mut self.asking {
            asking.came = asking.came.take().filter(|came| came.len().saturating_add(ciphertext.len()) <= REPLAYED);
            if let Some(came) = &mut asking.came {
                came.extend_from_slice(ciphertext);
            }
        }
        self.done.take().map_or(Before::Goes, Before::Done)
    }

    /// Whether `outgoing` may go out. If so, it does.
    pub fn lets_out(&mut self, outgoing: &[u8]) -> bool {
        let waits = self.is_waiting();
        if let (Some(asking), false) = (&mut self.asking, waits) {
            asking.sent.extend_from_slice(outgoing);
        }
        !waits
    }
}

impl TlsStream {
    /// What the server has shown, while an answer to [`Presented`](super::Received::Presented) is awaited.
    pub fn trust(&self) -> Option<ServerTrust> {
        self.handshake.as_ref()?.asking.as_ref()?.trust.clone()
    }

    /// The authorities of which one has to have issued the client's certificate, each a distinguished name in DER, while an
    /// answer is awaited: empty where the server names none, `None` where it wants no certificate.
    pub fn certificate_request(&self) -> Option<Vec<Vec<u8>>> {
        let handshake = self.handshake.as_ref().filter(|handshake| handshake.is_waiting())?;
        handshake.tape.request.as_ref().map(|(authorities, _)| authorities.clone())
    }

    /// The server is trusted, and is given `identity` if it wants a certificate. [`received`](Self::received) goes on with what
    /// was kept, even where nothing more came. `false`: that cannot be said on this connection any more, and a new one is
    /// needed, made with `identity`; this one waits still.
    ///
    /// # Errors
    ///
    /// The connection failed. [`ErrorCode::ClientCertificateRejected`]: the key of `identity` makes none of the signatures that
    /// the server accepts.
    pub fn go_on(&mut self, identity: Option<ClientIdentity>) -> Result<bool, UrlError> {
        if let State::Failed(error) = &self.state {
            return Err(error.clone());
        }
        let Some(handshake) = self.handshake.as_mut() else { return Ok(true) };
        let (Some(asking), true) = (&handshake.asking, handshake.is_waiting()) else { return Ok(true) };
        let schemes = handshake.tape.request.as_ref().map(|(_, schemes)| schemes);
        if let (Some(identity), Some(schemes)) = (&identity, schemes)
            && !fits(identity, schemes)
        {
            let error = failure(ErrorCode::ClientCertificateRejected, UNFIT);
            self.end_with(error.clone(), Vec::new());
            return Err(error);
        }
        if schemes.is_none() || identity == asking.identity {
            handshake.asking = None;
            handshake.tape.wipe();
            return Ok(true);
        }
        let Some(over) = self.done_over(identity, false) else { return Ok(false) };
        self.connection = over.connection;
        self.handshake = over.handshake;
        self.kept = over.kept;
        self.outgoing = over.outgoing;
        self.state = over.state;
        match &self.state {
            State::Failed(error) => Err(error.clone()),
            _ => Ok(true),
        }
    }

    /// Whoever was asked for a certificate has none: he is asked again on the next connection.
    pub fn declined(&self) {
        if let Some(asking) = self.handshake.as_ref().and_then(|handshake| handshake.asking.as_ref()) {
            asking.context.declined(asking.port, &asking.name);
        }
    }

    /// The server is not trusted: nothing goes out but an alert that says so, where the protocol has a way, and the connection
    /// has failed.
    pub fn refuse(&mut self) {
        if let State::Failed(_) = self.state {
            return;
        }
        let error = failure(ErrorCode::ServerCertificateUntrusted, "the server is not trusted");
        let identity = self.handshake.as_ref().and_then(|handshake| handshake.asking.as_ref()?.identity.clone());
        let alert = match self.done_over(identity, true) {
            // rustls says it, encrypted where it has to be.
            Some(over) if matches!(&over.state, State::Failed(found) if found.code() == error.code()) => over.outgoing,
            // Nothing of ours is encrypted yet, but for what never goes out.
            _ if self.is_waiting() && self.protocol_version() == Some(TlsProtocolVersion::TlsV12) => {
                BAD_CERTIFICATE.to_vec()
            }
            _ => Vec::new(),
        };
        self.end_with(error, alert);
    }

    /// Nothing goes out any more but `last`.
    fn end_with(&mut self, error: UrlError, last: Vec<u8>) {
        self.handshake = None;
        self.kept.clear();
        self.outgoing = last;
        self.state = State::Failed(error);
    }

    /// The same handshake on another connection of rustls, from the same ClientHello on and with the same bytes of the server,
    /// but with this identity, or with a bad certificate of the server where `refuses` is set. What waits in it is what the
    /// server has not been sent. `None` where its beginning is another one: a session ticket was offered, and cannot be twice.
    fn done_over(&mut self, identity: Option<ClientIdentity>, refuses: bool) -> Option<Self> {
        let handshake = self.handshake.as_mut().filter(|handshake| handshake.is_waiting())?;
        let asking = handshake.asking.as_mut()?;
        let mut came = asking.came.take()?;
        let asked = (handshake.tape.asked, handshake.tape.request.clone());
        let tape = std::mem::take(&mut handshake.tape).rewound(refuses);
        (handshake.tape.asked, handshake.tape.request) = asked;

        let config = asking.context.config(asking.port, true, identity.as_ref());
        let over = Handshake { tape, ..Handshake::default() };
        let mut over = Self::begun(config, asking.name.clone(), over).ok()?;
        if !asking.sent.starts_with(&over.outgoing) {
            return None;
        }
        let mut rest = came.as_mut_slice();
        match over.decrypt(&mut rest, &mut |_| ()) {
            Ok(stop) => {
                if let Stop::Unannounced = stop {
                    over.kept.pause(rest.to_vec());
                }
                let is_done = !over.connection.is_handshaking();
                if let Some(handshake) = &mut over.handshake {
                    handshake.tape.wipe();
                    handshake.done = is_done.then_some(stop);
                }
            }
            Err(error) => {
                over.fail(error);
            }
        }
        if !over.outgoing.starts_with(&asking.sent) {
            return None;
        }
        over.outgoing.drain(..asking.sent.len());
        Some(over)
    }

    /// Whether the server's certificates are known, and nobody has said yet whether it is trusted.
    pub(super) fn is_presented(&self) -> bool {
        self.handshake.as_ref().is_some_and(|handshake| !handshake.is_judged())
            && self.connection.peer_certificates().is_some()
    }

    /// Whether an answer is awaited.
    pub(super) fn is_waiting(&self) -> bool {
        self.handshake.as_ref().is_some_and(|handshake| handshake.is_waiting())
    }

    /// From now on an answer is awaited.
    pub(super) fn pause(&mut self) {
        let chain = self.connection.peer_certificates().unwrap_or_default();
        let chain = chain.iter().map(|certificate| certificate.to_vec()).collect();
        if let Some(asking) = self.handshake.as_mut().and_then(|handshake| handshake.asking.as_mut()) {
            asking.trust = Some(ServerTrust::new(chain, &asking.name.to_str(), asking.context.roots().clone()));
        }
    }

    /// What the server was told when it asked for a certificate.
    pub(super) fn asked(&self) -> Asked {
        self.handshake.as_ref().map_or(self.asked, |handshake| handshake.tape.asked)
    }

    /// The handshake is done.
    ///
    /// # Errors
    ///
    /// Nobody was asked who should have been: rustls knows of no certificates.
    pub(super) fn end_handshake(&mut self) -> Result<(), UrlError> {
        self.asked = self.asked();
        match self.handshake.take() {
            Some(handshake) if !handshake.is_judged() => {
                let error = failure(ErrorCode::ServerCertificateUntrusted, "the server has shown no certificate");
                self.end_with(error.clone(), Vec::new());
                Err(error)
            }
            _ => Ok(()),
        }
    }
}
