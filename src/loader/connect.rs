//! From `resume()` to a secured connection: the look-up, the addresses, the TLS handshake.

use std::io;
use std::net::SocketAddr;

use url::Host;

use super::end::{Cause, connect_error, resolve_error};
use super::output::{Raw, TLS_OUTPUT_BUDGET};
use super::race::{ATTEMPT_DELAY, Race};
use super::tls::{Received, Server, TlsStream};
use super::trace::origin;
use super::{Action, Env, Linger, Loader, Mark, Next, Stage, Timer, TraceStep};
use crate::foundation::{ErrorCode, ErrorStage, ProxyKind, UrlError};

impl Loader {
    /// Before [`start`](Self::start): there is a delegate, who is asked about redirects and challenges. `asks_trust`: about
    /// certificates, too.
    pub fn set_has_delegate(&mut self, asks_trust: bool) {
        self.has_delegate = true;
        self.asks_trust = asks_trust;
    }

    /// The first `resume()`. `flaw`: why the task cannot run.
    pub fn start(&mut self, env: &mut Env<'_>, flaw: Option<UrlError>) {
        if !matches!(self.stage, Stage::Created) || self.is_ended() {
            return;
        }
        self.timeline.mark(Mark::FetchStart, env.now);
        env.traces.step(|| TraceStep::Resumed { origin: origin(&self.settings.request.url) });
        // A request that cannot be sent fails before anything is done for it.
        let prepared = self.prepare(env).and_then(|()| match flaw {
            Some(flaw) => Err(flaw),
            None if self.settings.is_secure() => self.settings.common.tls().map(drop),
            None => Ok(()),
        });
        if let Err(error) = prepared {
            return self.end(env, Cause::Failed(error), Linger::No);
        }
        self.timers.start(Timer::Resource, env.now, self.settings.common.resource_timeout);
        self.start_clock(Timer::Request, env.now, self.settings.request_timeout());
        self.set_out(env);
    }

    /// The reactor cannot run this task.
    pub fn fail(&mut self, env: &mut Env<'_>, error: UrlError) {
        self.end(env, Cause::Failed(error), Linger::No);
    }

    pub(super) fn resolve(&mut self, env: &mut Env<'_>) {
        match self.destination() {
            Some((Host::Domain(host), _)) => {
                self.timeline.mark(Mark::LookupStart, env.now);
                env.traces.step(|| TraceStep::Resolving { host });
                self.next = Some(Next::Resolve);
                self.stage = Stage::Resolving;
            }
            Some((Host::Ipv4(address), port)) => self.connect(env, vec![SocketAddr::from((address, port))]),
            Some((Host::Ipv6(address), port)) => self.connect(env, vec![SocketAddr::from((address, port))]),
            None => {
                let error = UrlError::new(ErrorCode::UnsupportedUrl, ErrorStage::Request, "the address has no host");
                self.end(env, Cause::Failed(error), Linger::No);
            }
        }
    }

    /// [`Action::Resolve`] for the host of the address, or the proxy's.
    pub(super) fn look_up(&mut self) -> Option<Action> {
        match self.destination()? {
            (Host::Domain(host), port) => {
                let way = self.way();
                way.look_ups = way.look_ups.wrapping_add(1);
                Some(Action::Resolve { look_up: way.look_ups, host, port })
            }
            _ => None,
        }
    }

    /// The answer to [`Action::Resolve`]. One to a look-up of a way that was left says nothing: it is another host's.
    pub fn resolved(&mut self, env: &mut Env<'_>, look_up: u32, answer: io::Result<Vec<SocketAddr>>) {
        if !matches!(self.stage, Stage::Resolving) || self.next.is_some() || look_up != self.way().look_ups {
            return;
        }
        self.timeline.mark(Mark::LookupEnd, env.now);
        let error = match answer {
            Ok(addresses) if !addresses.is_empty() => {
                env.traces.step(|| TraceStep::Resolved { addresses: addresses.len() });
                return self.connect(env, addresses);
            }
            Ok(_) => io::Error::new(io::ErrorKind::NotFound, "it has no address"),
            Err(error) => error,
        };
        let host = self.destination().map(|(host, _)| host.to_string()).unwrap_or_default();
        self.lose(env, resolve_error(error, &host));
    }

    fn connect(&mut self, env: &mut Env<'_>, addresses: Vec<SocketAddr>) {
        self.timeline.mark(Mark::ConnectStart, env.now);
        self.stage = Stage::Connecting(Box::new(Race::new(addresses)));
        self.attempt(env);
    }

    /// The next address has its turn, and those behind it have theirs when its time is over.
    pub(super) fn attempt(&mut self, env: &mut Env<'_>) {
        let Stage::Connecting(race) = &self.stage else { return };
        if let Some(address) = race.next_waiting() {
            env.traces.step(|| TraceStep::Connecting { address });
            // What is to be left first is left first.
            self.next.get_or_insert(Next::Connect);
            self.start_clock(Timer::Attempt, env.now, ATTEMPT_DELAY);
        }
    }

    /// [`Action::Connect`] for the address whose turn it is.
    pub(super) fn next_attempt(&mut self) -> Option<Action> {
        let Stage::Connecting(race) = &mut self.stage else { return None };
        let (attempt, address) = race.start()?;
        if !race.has_waiting() {
            self.timers.cancel(Timer::Attempt);
        }
        Some(Action::Connect { attempt, address })
    }

    /// Whether the connection of that attempt is what the task waits for.
    pub fn awaits_connection(&self, attempt: u32) -> bool {
        matches!(&self.stage, Stage::Connecting(race) if race.is_running(attempt))
    }

    /// [`Action::Connect`] failed; another address has its turn at once.
    pub fn connect_failed(&mut self, env: &mut Env<'_>, attempt: u32, error: io::Error) {
        let Stage::Connecting(race) = &mut self.stage else { return };
        let Some(address) = race.remove(attempt) else { return };
        let error = connect_error(error, address);
        env.traces.step(|| TraceStep::ConnectFailed { address, error: error.raw_code() });
        race.failed(error);
        match race.take_failure() {
            Some(failure) => self.lose(env, failure),
            None => self.attempt(env),
        }
    }

    /// [`Action::Connect`] succeeded.
    pub fn connected(
        &mut self,
        env: &mut Env<'_>,
        attempt: u32,
        local: Option<SocketAddr>,
        remote: Option<SocketAddr>,
    ) {
        if !self.awaits_connection(attempt) {
            return;
        }
        self.next = None;
        self.timers.cancel(Timer::Attempt);
        env.traces.step(|| TraceStep::Connected { address: remote });
        if let Some(underway) = self.timeline.underway() {
            underway.local_address = local;
            underway.remote_address = remote;
        }
        match self.proxy().map(|proxy| proxy.kind()) {
            Some(ProxyKind::HttpsConnect) => self.secure(env),
            Some(ProxyKind::HttpConnect | ProxyKind::SocksV5) => self.ask_proxy(env),
            None => self.reached(env),
        }
    }

    /// The other end of the connection is the server.
    pub(super) fn reached(&mut self, env: &mut Env<'_>) {
        if self.settings.is_secure() {
            self.timeline.mark(Mark::SecureStart, env.now);
            return self.secure(env);
        }
        self.timeline.mark(Mark::ConnectEnd, env.now);
        self.begin_upgrade(env);
    }

    /// The TLS handshake begins, with the proxy or with the server.
    fn secure(&mut self, env: &mut Env<'_>) {
        let Some((host, port)) = self.destination() else { return };
        env.traces.step(|| TraceStep::Securing { host: host.to_string() });
        let is_at_proxy = self.proxy().is_some();
        let way = self.way();
        let identity = way.identity.take_if(|_| way.identity_is_for_proxy == is_at_proxy);
        way.told_identity.clone_from(&identity);
        let through = self.tls.take();
        let stream = self.settings.common.tls().and_then(|context| {
            TlsStream::new(Server {
                context: &context,
                host: &host.to_string(),
                port,
                asks: self.asks_trust,
                identity,
                through,
            })
        });
        match stream {
            Ok(stream) => {
                self.tls = Some(Box::new(stream));
                self.stage = Stage::Securing;
            }
            Err(error) => self.lose(env, error),
        }
    }

    /// Bytes of a `wss` task: the TLS handshake, then what it protects.
    pub(super) fn receive_sealed(&mut self, env: &mut Env<'_>, mut input: &mut [u8]) {
        self.restart_request_clock(env.now);
        // What is handed on may end the task and give up the connection, and nothing comes after that.
        while let Some(mut tls) = self.tls.take() {
            let received = tls.received(&mut input, &mut |plaintext| self.process(env, plaintext));
            if let Stage::Closed | Stage::Resolving | Stage::Waiting | Stage::Connecting(_) = self.stage {
                return;
            }
            self.tls = Some(tls);
            match received {
                Ok(Received::Presented) => return self.presented(env),
                Ok(Received::Secured) => self.secured(env),
                Ok(Received::All) => return,
                Ok(Received::Closed) if self.ends_behind_held() => return,
                Ok(Received::Closed) => return self.end_of_stream(env),
                // Nothing can be sent any more; what the server sent before is still looked at.
                Err(error) if self.ends_behind_held() => return self.break_off(env, error),
                Err(error) => return self.tls_failed(env, error),
            }
        }
    }

    /// The TLS handshake is complete.
    fn secured(&mut self, env: &mut Env<'_>) {
        if let Some(tls) = &self.tls {
            let (version, cipher_suite) = (tls.protocol_version(), tls.cipher_suite());
            env.traces.step(|| TraceStep::Secured { version, cipher_suite });
        }
        if self.proxy().is_some() {
            return self.ask_proxy(env);
        }
        if let (Some(tls), Some(underway)) = (&self.tls, self.timeline.underway()) {
            underway.tls_version = tls.protocol_version();
            underway.cipher_suite = tls.cipher_suite();
        }
        self.timeline.mark(Mark::SecureEnd, env.now);
        self.timeline.mark(Mark::ConnectEnd, env.now);
        self.begin_upgrade(env);
    }

    /// The alert that says why goes out, then the socket closes.
    pub(super) fn tls_failed(&mut self, env: &mut Env<'_>, error: UrlError) {
        match self.stage {
            Stage::Answered(_) | Stage::Lingering { .. } | Stage::Closed => return self.end_of_stream(env),
            // What the server did wrong before that counts.
            _ if self.fault().is_some() => return self.give_up(env),
            _ => {}
        }
        let error = self.named(error);
        if self.goes_another_way(env) {
            return;
        }
        let cause = self.cancelled_with().unwrap_or(Cause::Failed(error));
        self.outgoing = Default::default();
        self.end(env, cause, Linger::UntilWritten);
    }

    /// Hands bytes to the other end: of TLS, or of the connection.
    pub(super) fn say(&mut self, bytes: Vec<u8>) -> Result<(), UrlError> {
        match &mut self.tls {
            Some(tls) => tls.send(bytes.len(), std::iter::once(bytes.as_slice())),
            None => {
                match &mut self.raw {
                    Some(raw) => raw.bytes.extend_from_slice(&bytes),
                    None => self.raw = Some(Box::new(Raw { bytes, written: 0 })),
                }
                Ok(())
            }
        }
    }

    /// Puts into `raw` what TLS has to say: records of the handshake, alerts, and frames once the socket is open.
    pub(super) fn seal(&mut self, env: &mut Env<'_>) {
        let frames = if self.may_send_frames() { self.outgoing.take(TLS_OUTPUT_BUDGET, env.supply) } else { None };
        let lingering = matches!(self.stage, Stage::Lingering { .. });
        let Some(tls) = &mut self.tls else { return };
        if let Some(mut frames) = frames {
            self.frame_trace.lend(&mut frames);
            let sealed = tls.send(frames.len(), frames.slices());
            if sealed.is_ok() {
                frames.advance(frames.len());
            }
            self.frame_trace.take_back(&mut frames, env.traces);
            self.outgoing.give_back(frames, env.supply);
            tls.sealed = self.outgoing.written();
            if let Err(error) = sealed {
                self.tls_failed(env, error);
            }
        } else if lingering {
            tls.close();
        }
        let raw = self.raw.get_or_insert_default();
        **raw = Raw::default();
        if let Some(tls) = &mut self.tls {
            tls.output(&mut raw.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Instant, SystemTime};

    use url::Url;

    use super::super::{Common, Epoch, Settings, Spare, Traces};
    use super::*;
    use crate::foundation::{ClientIdentity, ProxyConfiguration, Random, SessionConfiguration, UrlRequest};
    use crate::http::Proxies;
    use crate::websocket::Supply;

    /// Where it was too late for a certificate on one connection, the next is made with it.
    #[test]
    fn a_certificate_of_the_clients_is_for_whom_it_was_chosen_for() {
        let key = rcgen::generate_simple_self_signed(vec!["client.test".to_owned()]).unwrap();
        let (chain, key) = (key.cert.pem(), key.signing_key.serialize_pem());
        let identity = ClientIdentity::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        for is_for_proxy in [false, true] {
            let proxies = ["192.0.2.1", "192.0.2.2"].map(|address| ProxyConfiguration::https_connect(address, 443));
            let common = Common::new(&SessionConfiguration::ephemeral(), Proxies::new(Some(&proxies), |_| None));
            let epoch = Epoch { instant: Instant::now(), date: SystemTime::now() };
            let request = Arc::new(UrlRequest::new(Url::parse("wss://192.0.2.9/").unwrap()));
            let mut loader = Loader::new(Settings { request, common: Arc::new(common), epoch }, 1024);
            let mut supply = Supply::new(Random::new(|bytes| bytes.fill(7)));
            let (mut spare, mut events) = (Spare::default(), Vec::new());
            let env = &mut Env {
                now: epoch.instant,
                supply: &mut supply,
                spare: &mut spare,
                events: &mut events,
                traces: &mut Traces::default(),
            };
            loader.start(env, None);
            let way = loader.way();
            (way.identity, way.identity_is_for_proxy) = (Some(identity.clone()), is_for_proxy);

            loader.secure(env);
            assert_eq!(loader.way().told_identity.is_some(), is_for_proxy, "the proxy is told");
            if is_for_proxy {
                // This time the proxy fails, and another has its turn.
                loader.way().identity = Some(identity.clone());
                assert!(loader.goes_another_way(env));
                assert!(loader.way().identity.is_none(), "the next proxy would be told");
                continue;
            }
            loader.tls = None;
            loader.tunnel_stands();
            loader.secure(env);
            assert!(loader.way().told_identity.as_ref() == Some(&identity) && loader.way().identity.is_none());
        }
    }
}
