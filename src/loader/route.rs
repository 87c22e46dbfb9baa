//! Which way a task goes to its server: straight or through a proxy, another where one fails, and again where the network is
//! missing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use url::Host;

use super::challenges::Authentication;
use super::end::Cause;
use super::{Env, Event, Linger, Loader, Next, Stage, Timer, TraceStep};
use crate::foundation::{ClientIdentity, ErrorCode, ProxyConfiguration, UrlError};

/// How long a missing network is left alone: this at first, twice as long each time, up to [`MISSING_LONGEST`].
const MISSING: Duration = Duration::from_millis(250);
const MISSING_LONGEST: Duration = Duration::from_secs(4);

/// The way to the server of the current request, until the socket is open.
#[derive(Default)]
pub struct Way {
    is_chosen: bool,
    /// There is a proxy on it…
    proxied: Option<Box<Proxied>>,
    /// …that asks who the client is.
    pub authentication: Option<Box<Authentication>>,
    /// Who the client is on the next connection, where that could not be told on the one before.
    pub identity: Option<ClientIdentity>,
    /// It is for the proxy, not for the server.
    pub identity_is_for_proxy: bool,
    /// Who it is on this one, where that is so.
    pub told_identity: Option<ClientIdentity>,
    /// How many look-ups were asked for.
    pub look_ups: u32,
    /// How often the network was missing.
    missed: u32,
}

/// A way through a proxy.
pub struct Proxied {
    proxy: Arc<ProxyConfiguration>,
    /// Those that are tried where it fails, in order.
    others: VecDeque<Arc<ProxyConfiguration>>,
    /// All that have failed may be passed by.
    allows_direct: bool,
    /// It leads on: at the other end of the connection is the server.
    stands: bool,
    /// It was asked before on this connection.
    pub is_reused: bool,
    /// No other was tried before it.
    pub is_first: bool,
}

impl Loader {
    /// The proxy that the task is at, if it has not led on to the server yet.
    pub(super) fn proxy(&self) -> Option<&Arc<ProxyConfiguration>> {
        let proxied = self.prepared.as_ref()?.way.proxied.as_ref()?;
        (!proxied.stands).then_some(&proxied.proxy)
    }

    pub(super) fn proxied(&mut self) -> Option<&mut Proxied> {
        self.prepared.as_mut()?.way.proxied.as_deref_mut()
    }

    pub(super) fn way(&mut self) -> &mut Way {
        &mut self.prepared.get_or_insert_default().way
    }

    /// The request goes to another origin than the one before.
    pub(super) fn leave_way(&mut self) {
        let way = self.way();
        way.is_chosen = false;
        way.identity = None;
    }

    /// From the look-up to a connection.
    pub(super) fn set_out(&mut self, env: &mut Env<'_>) {
        if !self.way().is_chosen
            && let Err(error) = self.choose_way()
        {
            return self.end(env, Cause::Failed(error), Linger::No);
        }
        let is_proxied = match self.proxied() {
            Some(proxied) => {
                proxied.stands = false;
                proxied.is_reused = false;
                env.traces.step(|| TraceStep::ThroughProxy { proxy: proxied.proxy.name() });
                true
            }
            None => false,
        };
        self.timeline.set_out(is_proxied);
        self.resolve(env);
    }

    fn choose_way(&mut self) -> Result<(), UrlError> {
        let mut proxies = VecDeque::from(self.settings.common.proxies.for_url(&self.settings.request.url)?);
        let proxied = proxies.pop_front().map(|proxy| {
            Box::new(Proxied {
                proxy,
                others: proxies,
                allows_direct: true,
                stands: false,
                is_reused: false,
                is_first: true,
            })
        });
        let way = self.way();
        way.proxied = proxied;
        way.authentication = None;
        way.is_chosen = true;
        Ok(())
    }

    /// The server's, or that of the proxy that is on the way to it; `None` where there is none.
    pub(super) fn destination(&self) -> Option<(Host<String>, u16)> {
        let Some(proxy) = self.proxy() else { return self.server() };
        let host = match proxy.host() {
            address if address.contains(':') => Host::parse(&format!("[{address}]")),
            host => Host::parse(host),
        };
        Some((host.ok()?, proxy.port()))
    }

    /// Host and port of the server.
    pub(super) fn server(&self) -> Option<(Host<String>, u16)> {
        let url = &self.settings.request.url;
        Some((url.host()?.to_owned(), url.port_or_known_default().unwrap_or_default()))
    }

    /// At a proxy, an error names it.
    pub(super) fn named(&self, error: UrlError) -> UrlError {
        match self.proxy() {
            Some(proxy) => error.at_proxy(&proxy.name()),
            None => error,
        }
    }

    /// The proxy has led on.
    pub(super) fn tunnel_stands(&mut self) {
        if let Some(proxied) = self.proxied() {
            proxied.stands = true;
        }
        // No password is kept for it.
        self.way().authentication = None;
    }

    /// The proxy is of no use: the next one has its turn, or none, if all that have failed may be passed by. Whether the task
    /// goes on.
    pub(super) fn goes_another_way(&mut self, env: &mut Env<'_>) -> bool {
        if self.proxy().is_none() || self.is_ended() || self.has_pending_end() || self.closing().is_some() {
            return false;
        }
        let Some(proxied) = self.proxied() else { return false };
        proxied.allows_direct &= proxied.proxy.allow_failover;
        proxied.is_first = false;
        match proxied.others.pop_front() {
            Some(next) => proxied.proxy = next,
            None if proxied.allows_direct => self.way().proxied = None,
            None => return false,
        }
        let way = self.way();
        way.authentication = None;
        if way.identity_is_for_proxy {
            // It was for this one.
            way.identity = None;
        }
        self.reconnect(env);
        true
    }

    /// The network is missing, not the server: whether the task waits for it. The delegate is told the first time.
    pub(super) fn waits_for_network(&mut self, env: &mut Env<'_>, error: &UrlError) -> bool {
        let is_missing = error.code() == ErrorCode::NotConnectedToInternet;
        let is_here = matches!(self.stage, Stage::Resolving | Stage::Connecting(_));
        let is_ending = self.closing().is_some() || self.has_pending_end();
        if !is_missing || !is_here || !self.settings.common.waits_for_connectivity || is_ending {
            return false;
        }
        let way = self.way();
        let delay = MISSING.saturating_mul(1 << way.missed.min(8)).min(MISSING_LONGEST);
        if way.missed == 0 {
            env.events.push(Event::WaitingForConnectivity);
        }
        way.missed = way.missed.saturating_add(1);
        self.timers.cancel(Timer::Request);
        self.timers.cancel(Timer::Attempt);
        self.start_clock(Timer::Connectivity, env.now, delay);
        env.traces.step(|| TraceStep::Waiting { delay });
        self.next = None;
        self.stage = Stage::Waiting;
        true
    }

    /// Perhaps there is a network by now.
    pub(super) fn look_for_network(&mut self, env: &mut Env<'_>) {
        if !matches!(self.stage, Stage::Waiting) {
            return;
        }
        // Every way may be passable again.
        self.way().is_chosen = false;
        self.start_clock(Timer::Request, env.now, self.settings.request_timeout());
        self.set_out(env);
    }

    /// On a new connection, from the look-up on.
    pub(super) fn reconnect(&mut self, env: &mut Env<'_>) {
        self.timers.cancel(Timer::Rest);
        self.timers.cancel(Timer::Attempt);
        self.forget_broken();
        self.tls = None;
        self.raw = None;
        self.output_is_stale |= self.output_is_out;
        self.start_clock(Timer::Request, env.now, self.settings.request_timeout());
        self.set_out(env);
        if matches!(self.stage, Stage::Resolving | Stage::Connecting(_)) {
            self.next = Some(Next::Reconnect);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::SocketAddr;
    use std::time::{Instant, SystemTime};

    use url::Url;

    use super::super::{Action, Common, Epoch, Reply, Settings, Spare, Traces};
    use super::*;
    use crate::foundation::{
        AuthChallengeDisposition, CredentialPersistence, Random, SessionConfiguration, UrlCredential, UrlRequest,
    };
    use crate::http::Proxies;
    use crate::websocket::Supply;

    /// A task that looks up the first of two proxies.
    fn with_proxies(second: &str, then: impl FnOnce(Loader, &mut Env<'_>)) {
        let proxies = [ProxyConfiguration::http_connect("first.test", 1), ProxyConfiguration::http_connect(second, 2)];
        let mut supply = Supply::new(Random::new(|bytes| bytes.fill(7)));
        let (mut spare, mut events, now) = (Spare::default(), Vec::new(), Instant::now());
        let env = &mut Env {
            now,
            supply: &mut supply,
            spare: &mut spare,
            events: &mut events,
            traces: &mut Traces::default(),
        };
        let request = Arc::new(UrlRequest::new(Url::parse("ws://server.test/").unwrap()));
        let configuration = SessionConfiguration::ephemeral();
        let common = Arc::new(Common::new(&configuration, Proxies::new(Some(&proxies), |_| None)));
        let epoch = Epoch { instant: now, date: SystemTime::UNIX_EPOCH };
        let mut loader = Loader::new(Settings { request, common, epoch }, 1024);
        loader.start(env, None);
        assert!(matches!(loader.next_action(), Some(Action::Resolve { .. })));
        then(loader, env);
    }

    /// Where the first of them is.
    fn addresses() -> Vec<SocketAddr> {
        [2, 3].map(|last| SocketAddr::from(([192, 0, 2, last], 1))).to_vec()
    }

    /// A loop that was held up finds several clocks at their end.
    #[test]
    fn the_next_proxy_has_a_connection_of_its_own_whatever_clock_ran_out_with_that_of_the_request() {
        with_proxies("192.0.2.1", |mut loader, env| {
            loader.resolved(env, 1, Ok(addresses()));
            assert!(matches!(loader.next_action(), Some(Action::Connect { attempt: 0, .. })));
            env.now += loader.settings.request_timeout();
            loader.handle_timeout(env);
            assert!(matches!(loader.next_action(), Some(Action::Disconnect)), "those to the first are left");
            let next = loader.next_action();
            assert!(matches!(&next, Some(Action::Connect { attempt: 0, address }) if address.port() == 2), "{next:?}");
            assert!(loader.next_action().is_none());
        });
    }

    /// What failed behind it is another matter.
    #[test]
    fn a_407_that_was_answered_is_not_the_response_of_a_task_that_fails_elsewhere() {
        with_proxies("192.0.2.1", |mut loader, env| {
            loader.set_has_delegate(false);
            loader.resolved(env, 1, Ok(addresses()));
            assert!(matches!(loader.next_action(), Some(Action::Connect { attempt: 0, .. })));
            loader.connected(env, 0, None, None);
            let refusal = "HTTP/1.0 407 Who\r\nProxy-Authenticate: Basic realm=r\r\nContent-Length: 0\r\n\r\n";
            loader.receive(env, &mut refusal.as_bytes().to_vec());
            assert_eq!(loader.response().map(|response| response.status_code()), Some(407));
            let Some(Event::Question(question)) = env.events.pop() else { panic!("{:?}", env.events) };
            let credential = UrlCredential::new("me", "secret", CredentialPersistence::None);
            let reply = Reply::Challenge(AuthChallengeDisposition::UseCredential, Some(credential));
            loader.reply(env, question.number, reply);
            assert!(matches!(loader.next_action(), Some(Action::Disconnect)));
            assert!(matches!(loader.next_action(), Some(Action::Resolve { .. })));
            loader.resolved(env, 2, Err(ErrorKind::NotFound.into()));
            assert!(matches!(loader.next_action(), Some(Action::Disconnect)));
            assert!(matches!(loader.next_action(), Some(Action::Connect { attempt: 0, .. })));
            loader.connect_failed(env, 0, ErrorKind::ConnectionRefused.into());
            assert!(loader.is_ended());
            assert_eq!(loader.response().map(|response| response.status_code()), None);
        });
    }

    /// A task that is suspended at the moment when it turns to the next proxy does not ask for it yet.
    #[test]
    fn the_answer_for_one_proxy_is_not_that_for_the_next() {
        with_proxies("second.test", |mut loader, env| {
            env.now += loader.settings.request_timeout();
            loader.handle_timeout(env);
            loader.suspend(env.now);
            loader.resolved(env, 1, Ok(addresses()));
            loader.resume(env.now);
            assert!(matches!(loader.next_action(), Some(Action::Disconnect)));
            let next = loader.next_action();
            assert!(matches!(&next, Some(Action::Resolve { host, .. }) if host == "second.test"), "{next:?}");
        });
    }
}
