//! The exchange with a proxy before it leads on to the server: CONNECT (RFC 9110 §9.3.6), or SOCKS (RFC 1928).
//!
//! What the proxy says is its own: an answer that refuses is shown as the proxy's, its cookies are not stored, and nothing that
//! is the server's (fields, cookies, credentials) has left before the tunnel stands. What comes behind the answer that opens the
//! tunnel is the server's: some refuse before they were asked.

use url::Host;

use super::challenges::Asker;
use super::end::Cause;
use super::{Env, Linger, Loader, Stage, Timer, TraceStep};
use crate::foundation::{ErrorCode, ErrorStage, ProxyKind, UrlError};
use crate::http::{self, HeadParser, ResponseHead, Socks, SocksStep};

/// How far the exchange is.
pub enum Tunnelling {
    /// CONNECT is on its way, or the answer is.
    Connect {
        parser: HeadParser,
        /// Nothing of the answer has come.
        is_untouched: bool,
    },
    Socks(Socks),
    /// The proxy leads on, once what was said to it is out of the way. The server has said this already.
    Open(Vec<u8>),
}

impl Tunnelling {
    pub fn wants_read(&self) -> bool {
        !matches!(self, Self::Open(_))
    }

    pub fn is_untouched(&self) -> bool {
        matches!(self, Self::Connect { is_untouched: true, .. })
    }
}

impl Loader {
    /// The connection to the proxy stands.
    pub(super) fn ask_proxy(&mut self, env: &mut Env<'_>) {
        let asked = match self.proxy().map(|proxy| proxy.kind()) {
            Some(ProxyKind::SocksV5) => self.begin_socks(),
            Some(ProxyKind::HttpConnect | ProxyKind::HttpsConnect) => self.begin_connect(env),
            None => return,
        };
        match asked {
            Ok((tunnelling, bytes)) => {
                self.stage = Stage::Tunnelling(Box::new(tunnelling));
                if let Err(error) = self.say(bytes) {
                    self.lose(env, error);
                }
            }
            Err(error) => self.fail_at_proxy(env, error),
        }
    }

    /// Once more on the same connection, with another answer to its challenge.
    pub(super) fn ask_proxy_again(&mut self, env: &mut Env<'_>) {
        self.timers.cancel(Timer::Rest);
        self.start_clock(Timer::Request, env.now, self.settings.request_timeout());
        if let Some(proxied) = self.proxied() {
            proxied.is_reused = true;
        }
        self.ask_proxy(env);
    }

    fn begin_connect(&mut self, env: &mut Env<'_>) -> Result<(Tunnelling, Vec<u8>), UrlError> {
        let authorization = self.authorization(env, Asker::Proxy)?;
        let (host, port) = self.server().ok_or_else(no_host)?;
        // Which proxy was meant by what was set by hand, nobody knows but for the first.
        let is_first = self.proxied().is_some_and(|proxied| proxied.is_first);
        let by_hand = self.settings.proxy_authorization().filter(|_| is_first);
        let authorization = authorization.as_deref().or(by_hand);
        let head = http::connect(borrowed(&host), port, authorization);
        Ok((Tunnelling::Connect { parser: HeadParser::default(), is_untouched: true }, head.into_bytes()))
    }

    fn begin_socks(&self) -> Result<(Tunnelling, Vec<u8>), UrlError> {
        let (host, port) = self.server().ok_or_else(no_host)?;
        let credential = self.proxy().and_then(|proxy| proxy.credential());
        let socks = Socks::new(borrowed(&host), port, credential)
            .map_err(|reason| UrlError::new(ErrorCode::BadUrl, ErrorStage::Proxy, reason))?;
        let greeting = socks.greeting().to_vec();
        Ok((Tunnelling::Socks(socks), greeting))
    }

    /// A part of the proxy's answer came.
    pub(super) fn read_proxy(&mut self, env: &mut Env<'_>, input: &mut &[u8]) {
        let Stage::Tunnelling(tunnelling) = &mut self.stage else { return };
        match &mut **tunnelling {
            Tunnelling::Connect { parser, is_untouched } => {
                *is_untouched = false;
                match parser.parse(input) {
                    Ok(None) => {}
                    Ok(Some(head)) => self.decide_tunnel(env, head),
                    Err(error) => {
                        *input = &[];
                        let reason = format!("its answer cannot be read: {error}");
                        self.lose(env, UrlError::new(ErrorCode::CannotParseResponse, ErrorStage::Proxy, reason));
                    }
                }
            }
            Tunnelling::Socks(socks) => match socks.received(input) {
                Ok(SocksStep::Read) => {}
                Ok(SocksStep::Send(next)) => {
                    if let Err(error) = self.say(next) {
                        self.lose(env, error);
                    }
                }
                Ok(SocksStep::Done) => **tunnelling = Tunnelling::Open(Vec::new()),
                Err(error) => {
                    *input = &[];
                    match error.is_answer() {
                        true => self.fail_at_proxy(env, error.to_url_error()),
                        false => self.lose(env, error.to_url_error()),
                    }
                }
            },
            // It is as much as one read brought: nothing more is read until the server is spoken to.
            Tunnelling::Open(early) => early.extend_from_slice(std::mem::take(input)),
        }
    }

    /// The head of an answer to CONNECT is whole.
    fn decide_tunnel(&mut self, env: &mut Env<'_>, head: ResponseHead) {
        let status = head.status_code;
        env.traces.step(|| TraceStep::Answered { status, of_proxy: true });
        if http::is_interim(&head) {
            return;
        }
        if http::is_tunnel(&head) {
            self.challenge_is_over(&head, true, Asker::Proxy);
            self.stage = Stage::Tunnelling(Box::new(Tunnelling::Open(Vec::new())));
            return;
        }
        if status != 407 {
            self.challenge_is_over(&head, false, Asker::Proxy);
        }
        self.take_answer(head, format!("it answered {status} to CONNECT"), Asker::Proxy);
        match status {
            407 => self.challenged(env, Asker::Proxy),
            _ => self.stand(env, None),
        }
    }

    /// The tunnel stands, and what was said to the proxy has left: from here on the server is spoken to.
    #[cold]
    pub(super) fn go_beyond(&mut self, env: &mut Env<'_>) {
        if self.output_is_out || !self.raw_is_empty() || self.is_ended() || self.has_pending_end() {
            return;
        }
        let Stage::Tunnelling(tunnelling) = &mut self.stage else { return };
        let Tunnelling::Open(early) = &mut **tunnelling else { return };
        let early = std::mem::take(early);
        self.tunnel_stands();
        env.traces.step(|| TraceStep::TunnelOpen);
        if let Some(underway) = self.timeline.underway() {
            // What the proxy asked for before is over.
            underway.refusal = None;
        }
        self.start_clock(Timer::Request, env.now, self.settings.request_timeout());
        self.reached(env);
        if early.is_empty() {
            return;
        }
        match self.stage {
            Stage::Upgrading(_) => {
                self.process(env, &early);
                self.settle(env);
            }
            _ => {
                let reason = "what the server sent before the handshake began is not TLS";
                self.lose(env, UrlError::new(ErrorCode::SecureConnectionFailed, ErrorStage::Tls, reason));
            }
        }
    }

    /// The proxy has answered, or cannot be asked, and no other would do better.
    pub(super) fn fail_at_proxy(&mut self, env: &mut Env<'_>, error: UrlError) {
        let error = self.named(error);
        let cause = self.cancelled_with().unwrap_or(Cause::Failed(error));
        self.end(env, cause, Linger::No);
    }
}

fn no_host() -> UrlError {
    UrlError::new(ErrorCode::UnsupportedUrl, ErrorStage::Request, "the address has no host")
}

fn borrowed(host: &Host<String>) -> Host<&str> {
    match host {
        Host::Domain(name) => Host::Domain(name),
        Host::Ipv4(address) => Host::Ipv4(*address),
        Host::Ipv6(address) => Host::Ipv6(*address),
    }
}
