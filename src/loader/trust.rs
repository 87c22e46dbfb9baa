//! Whether the other end of TLS is to be trusted, and who the client is there: what only a delegate can say.
//!
//! Where one may be asked, the handshake stops when the certificates have been shown and their signature is checked, and goes on
//! with the reply; nothing of the client has left since then, not even the end of the handshake. Only who is trusted is told
//! who the client is. Where nobody is asked, or the delegate is known to have no opinion, the handshake decides by itself.

use super::end::Cause;
use super::question::{Reply, Subject};
use super::{Env, Linger, Loader, Stage, Timer};
use crate::foundation::{
    AuthChallengeDisposition, AuthenticationChallenge, AuthenticationMethod, ClientIdentity, ErrorCode, ErrorStage,
    ServerTrust, UrlError, UrlProtectionSpace,
};

/// What the delegate is asked about.
pub enum Presented {
    /// Whether this is the right server.
    Trust(ServerTrust),
    /// Which certificate it is to see.
    Identity,
}

impl Loader {
    /// The other end has shown its certificates.
    pub(super) fn presented(&mut self, env: &mut Env<'_>) {
        let Some(trust) = self.tls.as_ref().and_then(|tls| tls.trust()) else { return };
        self.timers.cancel(Timer::Request);
        self.stage = Stage::Presented(Box::new(Presented::Trust(trust.clone())));
        self.ask_about(env, AuthenticationMethod::ServerTrust, |space| space.with_server_trust(trust));
    }

    fn ask_about(
        &mut self,
        env: &mut Env<'_>,
        method: AuthenticationMethod,
        with: impl FnOnce(UrlProtectionSpace) -> UrlProtectionSpace,
    ) {
        let Some((host, port)) = self.destination() else { return };
        let host = host.to_string();
        let space = match self.proxy() {
            Some(proxy) => UrlProtectionSpace::of_proxy(proxy.kind(), &host, port, None, method),
            None => UrlProtectionSpace::new(&host, port, Some("https"), None, method),
        };
        let space = with(space.displayed());
        self.ask(env, Subject::Challenge(AuthenticationChallenge::new(space, None, 0, None, None)));
    }

    /// The delegate's reply.
    pub(super) fn presented_answered(&mut self, env: &mut Env<'_>, reply: Reply) {
        let Stage::Presented(presented) = &self.stage else { return };
        let (disposition, credential) = match reply {
            Reply::Challenge(disposition, credential) => (disposition, credential),
            Reply::Default | Reply::Redirect(_) => (AuthChallengeDisposition::PerformDefaultHandling, None),
        };
        if disposition == AuthChallengeDisposition::CancelAuthenticationChallenge {
            let reason = "the delegate cancelled the authentication";
            let error = self.named(UrlError::new(ErrorCode::Cancelled, ErrorStage::Cancel, reason));
            let cause = self.cancelled_with().unwrap_or(Cause::Failed(error));
            return self.end(env, cause, Linger::No);
        }
        let is_used = disposition == AuthChallengeDisposition::UseCredential;
        let credential = credential.filter(|_| is_used);
        match &**presented {
            Presented::Trust(trust) => {
                let is_trusted = credential.as_ref().and_then(|credential| credential.trust()).is_some_and(|chosen| {
                    // Another server's says nothing of this one.
                    chosen.host() == trust.host() && chosen.certificate_chain() == trust.certificate_chain()
                });
                let verdict = if is_trusted { Ok(()) } else { trust.evaluate() };
                let verdict = verdict.and_then(|()| match disposition {
                    AuthChallengeDisposition::RejectProtectionSpace => {
                        let reason = "the delegate does not trust the server's certificate";
                        Err(UrlError::new(ErrorCode::ServerCertificateUntrusted, ErrorStage::Tls, reason))
                    }
                    _ => Ok(()),
                });
                self.judged(env, verdict);
            }
            Presented::Identity => {
                let identity = credential.and_then(|credential| credential.identity().cloned());
                if let (None, Some(tls)) = (&identity, &self.tls) {
                    tls.declined();
                }
                self.go_on_secured(env, identity);
            }
        }
    }

    /// It is the right server, or not. The right one perhaps wants to know who the client is.
    fn judged(&mut self, env: &mut Env<'_>, verdict: Result<(), UrlError>) {
        let told = self.way().told_identity.clone();
        let Some(tls) = &mut self.tls else { return };
        if let Err(error) = verdict {
            tls.refuse();
            return self.tls_failed(env, error);
        }
        match tls.certificate_request() {
            Some(authorities) if told.is_none() => {
                self.stage = Stage::Presented(Box::new(Presented::Identity));
                let method = AuthenticationMethod::ClientCertificate;
                self.ask_about(env, method, |space| space.with_distinguished_names(authorities));
            }
            _ => self.go_on_secured(env, told),
        }
    }

    /// The handshake goes on.
    fn go_on_secured(&mut self, env: &mut Env<'_>, identity: Option<ClientIdentity>) {
        let Some(tls) = &mut self.tls else { return };
        self.stage = Stage::Securing;
        match tls.go_on(identity.clone()) {
            Ok(true) => {
                self.start_clock(Timer::Request, env.now, self.settings.request_timeout());
                self.receive_sealed(env, &mut []);
                self.settle(env);
            }
            // It is too late for a certificate on this connection.
            Ok(false) => {
                let is_at_proxy = self.proxy().is_some();
                let way = self.way();
                way.identity = identity;
                way.identity_is_for_proxy = is_at_proxy;
                self.reconnect(env);
            }
            Err(error) => self.tls_failed(env, error),
        }
    }
}
