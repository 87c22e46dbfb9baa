//! A connection that travels inside another one: through a proxy that is itself spoken to in TLS.

use super::{Received, State, TlsStream};
use crate::foundation::{ErrorCode, UrlError, failure};

/// The connection to the proxy.
pub struct Through {
    proxy: Box<TlsStream>,
    /// What came out of it and was not taken yet, of one read.
    backlog: Vec<u8>,
}

impl Through {
    pub fn new(proxy: Box<TlsStream>) -> Box<Self> {
        debug_assert!(matches!(proxy.state, State::Running), "the connection to the proxy is not established");
        Box::new(Self { proxy, backlog: Vec::new() })
    }

    pub fn wants_write(&self) -> bool {
        self.proxy.wants_write()
    }

    /// How much memory waits to be taken.
    #[cfg(test)]
    pub fn memory(&self) -> usize {
        self.backlog.capacity()
    }
}

impl TlsStream {
    /// [`received`](TlsStream::received), where `ciphertext` is the proxy's.
    pub(super) fn received_through(
        &mut self,
        ciphertext: &mut &mut [u8],
        plaintext: &mut dyn FnMut(&[u8]),
    ) -> Result<Received, UrlError> {
        let Some(mut through) = self.through.take() else { return Ok(Received::All) };
        let received = self.received_inside(&mut through, ciphertext, plaintext);
        self.through = Some(through);
        received
    }

    fn received_inside(
        &mut self,
        through: &mut Through,
        ciphertext: &mut &mut [u8],
        plaintext: &mut dyn FnMut(&[u8]),
    ) -> Result<Received, UrlError> {
        if self.is_waiting() {
            return Ok(Received::All);
        }
        let Through { proxy, backlog } = through;
        let outside = proxy.received(ciphertext, &mut |bytes| backlog.extend_from_slice(bytes));
        let mut inner = std::mem::take(backlog);
        let mut rest = inner.as_mut_slice();
        let inside = self.received_here(&mut rest, plaintext)?;
        // It is asked for again; behind the end of the connection nothing is.
        if inside == Received::Secured {
            *backlog = rest.to_vec();
        }
        match outside {
            _ if inside != Received::All || matches!(self.state, State::Closing) => Ok(inside),
            Ok(Received::Closed) => Err(self.lose(failure(
                ErrorCode::NetworkConnectionLost,
                "the proxy closed the connection without the server's having done so",
            ))),
            Ok(_) => Ok(inside),
            Err(error) => {
                let reason = format!("the TLS connection to the proxy failed: {}", error.reason());
                Err(self.lose(failure(ErrorCode::NetworkConnectionLost, reason).with_source(error)))
            }
        }
    }

    /// Nothing can be told to the server any more.
    fn lose(&mut self, error: UrlError) -> UrlError {
        self.handshake = None;
        self.kept.clear();
        self.outgoing = Vec::new();
        self.state = State::Failed(error.clone());
        error
    }

    /// Encrypts for the proxy what waits for the server.
    pub(super) fn seal_for_proxy(&mut self) {
        let outgoing = std::mem::take(&mut self.outgoing);
        if let (Some(through), false) = (&mut self.through, outgoing.is_empty())
            && let Err(error) = through.proxy.send(outgoing.len(), std::iter::once(outgoing.as_slice()))
        {
            self.lose(error);
        }
    }

    pub(super) fn outgoing_of_proxy(&mut self, into: &mut Vec<u8>) {
        if let Some(through) = &mut self.through {
            through.proxy.output(into);
        }
    }

    /// Closes the connection to the proxy, behind all that waits for the server.
    pub(super) fn close_proxy(&mut self) {
        if self.through.is_some() {
            self.seal_for_proxy();
        }
        if let Some(through) = &mut self.through {
            through.proxy.close();
            through.backlog = Vec::new();
        }
    }
}
