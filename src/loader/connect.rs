//! From `resume()` to a secured connection: the look-up, the addresses in turn, the TLS handshake.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use url::Host;

use super::end::{Cause, connect_error, resolve_error};
use super::output::Raw;
use super::tls::{Received, TlsStream};
use super::{Action, Env, Linger, Loader, Mark, Next, Stage, TLS_OUTPUT_BUDGET, Timer, Tls};
use crate::foundation::{ErrorCode, ErrorStage, UrlError};

/// How many addresses of one host are tried.
const ADDRESSES: usize = 64;

/// The addresses of a host, tried one after the other.
pub struct Connecting {
    address: SocketAddr,
    remaining: VecDeque<SocketAddr>,
    /// What the failure is, if no other address does better.
    failure: Option<UrlError>,
}

impl Connecting {
    /// The address whose turn it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Loader {
    /// Before [`start`](Self::start): there is a delegate, who is asked about redirects and challenges.
    pub fn set_has_delegate(&mut self) {
        self.has_delegate = true;
    }

    /// The first `resume()`. `tls`: how `wss` is secured, or why it cannot be.
    pub fn start(&mut self, env: &mut Env<'_>, tls: Result<Tls, UrlError>) {
        if !matches!(self.stage, Stage::Created) || self.is_ended() {
            return;
        }
        self.timeline.mark(Mark::FetchStart, env.now);
        // A request that cannot be sent fails before anything is done for it.
        match self.prepare(env).and(tls) {
            Ok(tls) => self.prepared.get_or_insert_default().tls_config = tls,
            Err(error) => return self.end(env, Cause::Failed(error), Linger::No),
        }
        self.timers.start(Timer::Resource, env.now, self.settings.common.resource_timeout);
        self.start_clock(Timer::Request, env.now, self.settings.request_timeout());
        self.resolve(env);
    }

    /// The reactor cannot run this task.
    pub fn fail(&mut self, env: &mut Env<'_>, error: UrlError) {
        self.end(env, Cause::Failed(error), Linger::No);
    }

    pub(super) fn resolve(&mut self, env: &mut Env<'_>) {
        let url = &self.settings.request.url;
        let port = url.port_or_known_default().unwrap_or_default();
        match url.host() {
            Some(Host::Domain(_)) => {
                self.timeline.mark(Mark::LookupStart, env.now);
                self.next = Some(Next::Resolve);
                self.stage = Stage::Resolving;
            }
            Some(Host::Ipv4(address)) => self.connect(env, SocketAddr::from((address, port)), VecDeque::new()),
            Some(Host::Ipv6(address)) => self.connect(env, SocketAddr::from((address, port)), VecDeque::new()),
            None => {
                let error = UrlError::new(ErrorCode::UnsupportedUrl, ErrorStage::Request, "the address has no host");
                self.end(env, Cause::Failed(error), Linger::No);
            }
        }
    }

    /// [`Action::Resolve`] for the host of the address.
    pub(super) fn look_up(&self) -> Option<Action> {
        let url = &self.settings.request.url;
        match url.host() {
            Some(Host::Domain(host)) => {
                let port = url.port_or_known_default().unwrap_or_default();
                Some(Action::Resolve { host: host.to_owned(), port })
            }
            _ => None,
        }
    }

    /// The answer to [`Action::Resolve`].
    pub fn resolved(&mut self, env: &mut Env<'_>, answer: io::Result<Vec<SocketAddr>>) {
        if !matches!(self.stage, Stage::Resolving) {
            return;
        }
        self.timeline.mark(Mark::LookupEnd, env.now);
        let host = self.settings.request.url.host_str().unwrap_or_default();
        match answer {
            Ok(addresses) => {
                let mut addresses = VecDeque::from(addresses);
                addresses.truncate(ADDRESSES);
                if let Some(first) = addresses.pop_front() {
                    self.connect(env, first, addresses);
                } else {
                    let error = resolve_error(io::Error::new(io::ErrorKind::NotFound, "it has no address"), host);
                    self.lose(env, error);
                }
            }
            Err(error) => {
                let error = resolve_error(error, host);
                self.lose(env, error);
            }
        }
    }

    fn connect(&mut self, env: &mut Env<'_>, address: SocketAddr, remaining: VecDeque<SocketAddr>) {
        self.timeline.mark_first(Mark::ConnectStart, env.now);
        self.next = Some(Next::Connect);
        self.stage = Stage::Connecting(Box::new(Connecting { address, remaining, failure: None }));
    }

    /// [`Action::Connect`] failed; the next address is tried.
    pub fn connect_failed(&mut self, env: &mut Env<'_>, error: io::Error) {
        let Stage::Connecting(connecting) = &mut self.stage else { return };
        let error = connect_error(error, &connecting.address.to_string());
        // An address that answers says more than one that no route leads to.
        match &connecting.failure {
            Some(failure) if failure.code() != ErrorCode::NotConnectedToInternet => {}
            _ => connecting.failure = Some(error.clone()),
        }
        if let Some(address) = connecting.remaining.pop_front() {
            connecting.address = address;
            self.next = Some(Next::Connect);
        } else {
            let failure = connecting.failure.take().unwrap_or(error);
            self.lose(env, failure);
        }
    }

    /// [`Action::Connect`] succeeded.
    pub fn connected(&mut self, env: &mut Env<'_>, local: Option<SocketAddr>, remote: Option<SocketAddr>) {
        if !matches!(self.stage, Stage::Connecting(_)) {
            return;
        }
        if let Some(underway) = self.timeline.underway() {
            underway.local_address = local;
            underway.remote_address = remote;
        }
        let Some(config) = self.prepared.as_mut().and_then(|prepared| prepared.tls_config.take()) else {
            self.timeline.mark(Mark::ConnectEnd, env.now);
            return self.begin_upgrade(env);
        };
        self.timeline.mark(Mark::SecureStart, env.now);
        let host = self.settings.request.url.host_str();
        match host.map(|host| TlsStream::new(config, host.trim_matches(['[', ']']))) {
            Some(Ok(tls)) => {
                self.tls = Some(Box::new(tls));
                self.stage = Stage::Securing;
            }
            Some(Err(error)) => self.lose(env, error),
            None => {}
        }
    }

    /// Bytes of a `wss` task: the TLS handshake, then what it protects.
    pub(super) fn receive_sealed(&mut self, env: &mut Env<'_>, mut input: &mut [u8]) {
        self.restart_request_clock(env.now);
        // What is handed on may end the task and give up the connection, and nothing comes after that.
        while let Some(mut tls) = self.tls.take() {
            let received = tls.received(&mut input, &mut |plaintext| self.process(env, plaintext));
            if let Stage::Closed = self.stage {
                return;
            }
            self.tls = Some(tls);
            match received {
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
        if let (Some(tls), Some(underway)) = (&self.tls, self.timeline.underway()) {
            underway.tls_version = tls.protocol_version();
            underway.cipher_suite = tls.cipher_suite();
        }
        self.timeline.mark(Mark::SecureEnd, env.now);
        self.timeline.mark(Mark::ConnectEnd, env.now);
        self.begin_upgrade(env);
    }

    /// The alert that says why goes out, then the socket closes.
    fn tls_failed(&mut self, env: &mut Env<'_>, error: UrlError) {
        match self.stage {
            Stage::Answered(_) | Stage::Lingering { .. } | Stage::Closed => return self.end_of_stream(env),
            // What the server did wrong before that counts.
            _ if self.fault().is_some() => return self.give_up(env),
            _ => {}
        }
        let cause = self.cancelled_with().unwrap_or(Cause::Failed(error));
        self.outgoing = Default::default();
        self.end(env, cause, Linger::UntilWritten);
    }

    /// Puts into `raw` what TLS has to say: records of the handshake, alerts, and frames once the socket is open.
    pub(super) fn seal(&mut self, env: &mut Env<'_>) {
        let frames = if self.may_send_frames() { self.outgoing.take(TLS_OUTPUT_BUDGET, env.supply) } else { None };
        let lingering = matches!(self.stage, Stage::Lingering { .. });
        let Some(tls) = &mut self.tls else { return };
        if let Some(mut frames) = frames {
            let sealed = tls.send(frames.len(), frames.slices());
            if sealed.is_ok() {
                frames.advance(frames.len());
            }
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
