//! The session tickets of one configuration.

use rustls::NamedGroup;
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

/// For how many servers tickets are kept; rustls' own default.
const SERVERS: usize = 256;

/// Tickets in memory. Those of TLS 1.2 are given out once, as those of TLS 1.3 are: rustls keeps a ticket again when it was
/// good. Were it left where it is, a server that takes the ticket and then uses another key could never be connected to
/// again; rustls' unbuffered interface does not remove it when that shows.
#[derive(Debug)]
pub struct Sessions(ClientSessionMemoryCache);

impl Sessions {
    pub fn new() -> Self {
        Self(ClientSessionMemoryCache::new(SERVERS))
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(server_name)
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(server_name, value);
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        let session = self.0.tls12_session(server_name)?;
        self.0.remove_tls12_session(&server_name.to_owned());
        Some(session)
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        self.0.remove_tls12_session(server_name);
    }

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(server_name, value);
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(server_name)
    }
}
