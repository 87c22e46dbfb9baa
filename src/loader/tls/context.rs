//! What the connections of a session have in common.

use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;

use super::sessions::Sessions;
use super::tape::taped_provider;
use super::verifier::{Resolver, Unjudged};
use crate::foundation::{
    ClientIdentity, ErrorCode, ErrorStage, RootCertificates, Shared, TlsProtocolVersion, UrlError, explained, provider,
};

/// How many kinds of connections are told apart at a time. The kind that was not used for longest goes, with its tickets.
const KINDS: usize = 64;

/// How a session secures its connections. It keeps the session tickets of TLS, too: a connection is resumed where host, port,
/// client certificate and who judges the server are those of the one before, and never across (host names are told apart by
/// rustls). To be made once for a session, and not to be shared by two that trust different roots.
pub struct TlsContext {
    roots: RootCertificates,
    /// rustls judges the server.
    judged: ClientConfig,
    /// Somebody is asked.
    unjudged: ClientConfig,
    /// The latest used first. They are few, and mostly the first it is.
    configs: Shared<Vec<Configured>>,
}

/// How connections of one kind are secured, and their tickets.
struct Configured {
    kind: Kind,
    config: Arc<ClientConfig>,
    sessions: Arc<Sessions>,
}

/// What sessions are not resumed across.
#[derive(Clone, PartialEq, Eq)]
struct Kind {
    port: u16,
    asks: bool,
    identity: Option<ClientIdentity>,
}

impl TlsContext {
    /// For servers that lead to `roots`, with these versions and those between.
    ///
    /// # Errors
    ///
    /// [`ErrorStage::Request`] where the lowest version is above the highest.
    pub fn new(
        roots: &RootCertificates,
        minimum: TlsProtocolVersion,
        maximum: TlsProtocolVersion,
    ) -> Result<Self, UrlError> {
        if minimum > maximum {
            let reason = format!("the lowest version of TLS ({minimum:?}) is above the highest ({maximum:?})");
            return Err(UrlError::new(ErrorCode::SecureConnectionFailed, ErrorStage::Request, reason));
        }
        let versions: Vec<_> = [
            (TlsProtocolVersion::TlsV13, &rustls::version::TLS13),
            (TlsProtocolVersion::TlsV12, &rustls::version::TLS12),
        ]
        .into_iter()
        .filter(|(version, _)| (minimum..=maximum).contains(version))
        .map(|(_, supported)| supported)
        .collect();
        let mut judged = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&versions)
            .map_err(explained)?
            .with_root_certificates(Arc::clone(roots.store()))
            .with_no_client_auth();
        // RFC 7301: without it, a server may choose HTTP/2, where an upgrade cannot be asked for.
        judged.alpn_protocols = vec![b"http/1.1".to_vec()];
        let provider = taped_provider();
        let verifier = Unjudged(provider.signature_verification_algorithms);
        let mut unjudged = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&versions)
            .map_err(explained)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        unjudged.alpn_protocols.clone_from(&judged.alpn_protocols);
        Ok(Self { roots: roots.clone(), judged, unjudged, configs: Shared::default() })
    }

    /// As rustls wants it. Each kind has a resolver and a store of its own: rustls resumes no session under another resolver.
    pub(super) fn config(&self, port: u16, asks: bool, identity: Option<&ClientIdentity>) -> Arc<ClientConfig> {
        let is_it = |kind: &Kind| (kind.port, kind.asks, kind.identity.as_ref()) == (port, asks, identity);
        let mut configs = self.configs.lock();
        if let Some(place) = configs.iter().position(|known| is_it(&known.kind))
            && let Some(until) = configs.get_mut(..=place)
        {
            until.rotate_right(1);
            if let Some(known) = until.first() {
                return Arc::clone(&known.config);
            }
        }
        let mut config = if asks { self.unjudged.clone() } else { self.judged.clone() };
        config.client_auth_cert_resolver = Arc::new(Resolver(identity.cloned()));
        let sessions = Arc::new(Sessions::new());
        config.resumption = Resumption::store(Arc::clone(&sessions) as _);
        let config = Arc::new(config);
        configs.truncate(KINDS - 1);
        let kind = Kind { port, asks, identity: identity.cloned() };
        configs.insert(0, Configured { kind, config: Arc::clone(&config), sessions });
        config
    }

    /// The server wants a certificate of the client, and whoever was asked has none: no connection to it is resumed.
    pub(super) fn declined(&self, port: u16, server: &ServerName<'static>) {
        let declined = Kind { port, asks: true, identity: None };
        if let Some(known) = self.configs.lock().iter().find(|known| known.kind == declined) {
            known.sessions.keep_none_of(server);
        }
    }

    /// The roots that decide where nobody is asked.
    pub(super) fn roots(&self) -> &RootCertificates {
        &self.roots
    }

    /// With this in place of what the context makes where rustls judges.
    #[cfg(test)]
    pub(super) fn of(config: ClientConfig) -> Self {
        let roots = RootCertificates::webpki();
        Self { roots, judged: config.clone(), unjudged: config, configs: Shared::default() }
    }
}

impl fmt::Debug for TlsContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TlsContext").field("roots", &self.roots).finish_non_exhaustive()
    }
}
