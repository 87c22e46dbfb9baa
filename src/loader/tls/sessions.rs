//! The session tickets of one kind of connections.

use rustls::NamedGroup;
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

use super::tape;
use crate::foundation::Shared;

/// How many tickets are kept, up to eight for a server: rustls' own default. For so many servers it is known that none is.
const SERVERS: usize = 256;

/// Tickets in memory. Those of TLS 1.2 are given out once, as those of TLS 1.3 are: rustls keeps a ticket again when it was
/// good. Were it left where it is, a server that takes the ticket and then uses another key could never be connected to
/// again; rustls' unbuffered interface does not remove it when that shows.
#[derive(Debug)]
pub struct Sessions {
    tickets: ClientSessionMemoryCache,
    /// Servers of which none is kept, the latest last.
    unkept: Shared<Vec<ServerName<'static>>>,
}

impl Sessions {
    pub fn new() -> Self {
        Self { tickets: ClientSessionMemoryCache::new(SERVERS), unkept: Shared::default() }
    }

    /// The server wants a certificate of the client, and has got none: it would not ask again where a session is resumed, so
    /// that the answer of one connection would be that of all later ones.
    pub fn keep_none_of(&self, server: &ServerName<'static>) {
        let mut unkept = self.unkept.lock();
        unkept.retain(|known| known != server);
        if unkept.len() >= SERVERS {
            unkept.remove(0);
        }
        unkept.push(server.clone());
    }

    fn keeps(&self, server: &ServerName<'_>) -> bool {
        !self.unkept.lock().iter().any(|known| known == server)
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.tickets.set_kx_hint(server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        if let Some(group) = tape::replayed() {
            return group;
        }
        self.tickets.kx_hint(server_name)
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        if self.keeps(&server_name) {
            self.tickets.set_tls12_session(server_name, value);
        }
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        if tape::replayed().is_some() {
            return None;
        }
        let session = self.tickets.tls12_session(server_name)?;
        self.tickets.remove_tls12_session(&server_name.to_owned());
        Some(session)
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        self.tickets.remove_tls12_session(server_name);
    }

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        if self.keeps(&server_name) {
            self.tickets.insert_tls13_ticket(server_name, value);
        }
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        // A handshake that is done over leaves the tickets for others.
        if tape::replayed().is_some() {
            return None;
        }
        self.tickets.take_tls13_ticket(server_name)
    }
}
