//! What a task goes through besides one request and its answer: redirects and challenges, each of which leads to another
//! request, on the same connection where the server leaves it and on a new one where not.

use std::mem;
use std::sync::Arc;

use super::challenges::{Asker, Authentication};
use super::end::Cause;
use super::timeline::Underway;
use super::upgrade::Step;
use super::{Env, Linger, Loader, Mark, Stage, Timer};
use crate::foundation::{UrlError, UrlRequest};
use crate::http::{self, Added};

/// How much of the heads of answers before the last is kept for the metrics, in bytes; of those beyond, no response is shown.
const HEADS: usize = 256 * 1024;

/// There is one where the first answer did not settle the task.
#[derive(Default)]
pub struct Detour {
    /// What the caller asked for, once a redirect has changed it.
    original: Option<Arc<UrlRequest>>,
    /// The requests before the current one, for the metrics.
    hops: Vec<Hop>,
    /// The bytes of the heads that came with them.
    kept: usize,
    /// How many redirects were followed.
    pub(super) redirects: usize,
    /// One of them led to another origin.
    led_away: bool,
    /// How many questions were asked.
    pub(super) questions: u32,
    /// Until the socket is open, or the task has ended.
    pub(super) authentication: Option<Box<Authentication>>,
}

/// A request that did not open the socket, and how it was answered.
pub struct Hop {
    pub request: Arc<UrlRequest>,
    pub underway: Box<Underway>,
}

impl Detour {
    /// There is nothing to be kept once the socket is open.
    fn is_trivial(&self) -> bool {
        self.original.is_none() && self.hops.is_empty()
    }

    /// What the metrics are made from.
    pub fn take_hops(&mut self) -> (Vec<Hop>, usize) {
        (mem::take(&mut self.hops), self.redirects)
    }
}

impl Loader {
    /// `original_request`.
    pub fn original_request(&self) -> &Arc<UrlRequest> {
        let original = self.detour.as_ref().and_then(|detour| detour.original.as_ref());
        original.unwrap_or(&self.settings.request)
    }

    pub(super) fn detour(&mut self) -> &mut Detour {
        self.detour.get_or_insert_default()
    }

    /// No more challenges come: no password is kept for them.
    pub(super) fn forget_authentication(&mut self) {
        if let Some(detour) = &mut self.detour {
            detour.authentication = None;
            if detour.is_trivial() {
                self.detour = None;
            }
        }
    }

    pub(super) fn was_led_away(&self) -> bool {
        self.detour.as_ref().is_some_and(|detour| detour.led_away)
    }

    /// The current request was answered, or the connection lost before it was; the next is `redirected`, or the same once more.
    /// Where it cannot be sent the task ends, and the result is false.
    pub(super) fn begin_hop(&mut self, env: &mut Env<'_>, redirected: Option<UrlRequest>) -> bool {
        let underway = self.timeline.next();
        let request = Arc::clone(&self.settings.request);
        if let Some(mut redirected) = redirected {
            redirected.set_proposed(false);
            let led_away = !http::is_same_origin(&request.url, &redirected.url);
            let detour = self.detour();
            detour.original.get_or_insert_with(|| Arc::clone(&request));
            detour.redirects += 1;
            detour.led_away |= led_away;
            if led_away {
                if let Some(authentication) = &mut detour.authentication {
                    authentication.forget_attempt();
                }
                self.leave_way();
            }
            self.settings.request = Arc::new(redirected);
        }
        if let Some(mut underway) = underway {
            let detour = self.detour();
            detour.kept += underway.response_bytes;
            if detour.kept > HEADS {
                underway.refusal = None;
            }
            detour.hops.push(Hop { request, underway });
        }
        self.timeline.mark(Mark::FetchStart, env.now);
        match self.prepare(env) {
            Ok(()) => true,
            Err(error) => {
                self.cannot_go_on(env, error);
                false
            }
        }
    }

    /// There is no next request, or no connection for it.
    fn cannot_go_on(&mut self, env: &mut Env<'_>, error: UrlError) {
        let cause = self.cancelled_with().unwrap_or(Cause::Failed(error));
        self.end(env, cause, Linger::No);
    }

    /// Makes the current request.
    pub(super) fn prepare(&mut self, env: &mut Env<'_>) -> Result<(), UrlError> {
        let nonce = env.supply.random.bytes::<16>();
        let cookies = self.settings.cookies_to_send();
        let authorization = self.authorization(env, Asker::Server)?;
        let led_away = self.was_led_away();
        let added = Added {
            cookies: cookies.as_ref().map(|cookies| cookies.as_str()),
            authorization: authorization.as_deref(),
            led_away,
        };
        let common = &self.settings.common;
        let upgrade = http::upgrade(&self.settings.request, &common.additional_headers, &common.options, added, nonce)?;
        if let Some(underway) = self.timeline.underway() {
            underway.cookies = cookies;
            underway.authorization = authorization.map(|authorization| authorization.len());
            underway.led_away = led_away;
            underway.upgrade = Some((nonce, upgrade));
        }
        Ok(())
    }

    /// What comes next on the way to the open socket, if it need not wait for anything.
    #[inline]
    pub(super) fn settle(&mut self, env: &mut Env<'_>) {
        match self.stage {
            Stage::Answered(_) => self.go_on(env),
            Stage::Tunnelling(_) => self.go_beyond(env),
            _ => {}
        }
    }

    /// The next request is made, and goes out if the answer to the last is read, or need not be.
    #[cold]
    fn go_on(&mut self, env: &mut Env<'_>) {
        let Stage::Answered(answered) = &self.stage else { return };
        if !matches!(answered.step, Step::GoOn) || self.is_ended() || self.has_pending_end() {
            return;
        }
        let may_stay = answered.may_stay && !answered.is_over;
        if may_stay && self.output_is_out {
            // Whoever writes the last request is about to say how that went.
            return;
        }
        if !may_stay || !self.raw_is_empty() {
            return self.reconnect(env);
        }
        if answered.body.leaves_connection() {
            match answered.asker {
                Asker::Server => self.go_on_here(env),
                Asker::Proxy => self.ask_proxy_again(env),
            }
        } else if !answered.body.may_leave_connection() {
            self.reconnect(env);
        }
    }

    /// On the same connection: what is known of that, the metrics of each request have.
    fn go_on_here(&mut self, env: &mut Env<'_>) {
        self.timers.cancel(Timer::Rest);
        let before = self.detour.as_mut().and_then(|detour| detour.hops.last_mut());
        if let (Some(before), Some(underway)) = (before, self.timeline.underway()) {
            underway.is_reused = true;
            underway.is_proxied = before.underway.is_proxied;
            underway.local_address = before.underway.local_address;
            underway.remote_address = before.underway.remote_address;
            underway.tls_version = before.underway.tls_version;
            underway.cipher_suite = before.underway.cipher_suite;
        }
        self.start_clock(Timer::Request, env.now, self.settings.request_timeout());
        self.begin_upgrade(env);
    }

    /// The connection that was kept from an earlier request was lost before the server said anything to this one: it had
    /// closed it meanwhile (RFC 9112 §9.3.1). Whether the task goes on with a new one.
    pub(super) fn tries_again(&mut self, env: &mut Env<'_>) -> bool {
        let is_reused = match &self.stage {
            Stage::Upgrading(upgrading) if upgrading.is_untouched => {
                self.timeline.underway().is_some_and(|underway| underway.is_reused)
            }
            Stage::Tunnelling(tunnelling) if tunnelling.is_untouched() => {
                self.proxied().is_some_and(|proxied| proxied.is_reused)
            }
            _ => false,
        };
        if !is_reused || self.has_pending_end() {
            return false;
        }
        // A proxy was asked, and the request has not left yet.
        if self.proxy().is_some() || self.begin_hop(env, None) {
            self.reconnect(env);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::time::{Instant, SystemTime};

    use url::Url;

    use super::super::{Action, Common, Event, Question, Reply, Settings, Spare, Traces};
    use super::*;
    use crate::foundation::{
        AuthChallengeDisposition, CredentialPersistence, Random, SessionConfiguration, UrlCredential,
    };
    use crate::http::Proxies;
    use crate::loader::Epoch;
    use crate::websocket::Supply;

    /// A task whose steps a test makes.
    struct Walk {
        loader: Loader,
        supply: Supply,
        spare: Spare,
        events: Vec<Event>,
    }

    impl Walk {
        fn step(&mut self, step: impl FnOnce(&mut Loader, &mut Env<'_>)) {
            let Self { loader, supply, spare, events } = self;
            step(loader, &mut Env { now: Instant::now(), supply, spare, events, traces: &mut Traces::default() });
        }

        /// Connected, and asked by a 401 behind which the connection ends.
        fn asked() -> (Self, Arc<Question>) {
            let request = Arc::new(UrlRequest::new(Url::parse("ws://192.0.2.1/").unwrap()));
            let common = Arc::new(Common::new(&SessionConfiguration::ephemeral(), Proxies::new(None, |_| None)));
            let epoch = Epoch { instant: Instant::now(), date: SystemTime::now() };
            let mut loader = Loader::new(Settings { request, common, epoch }, 1024);
            loader.set_has_delegate(false);
            let supply = Supply::new(Random::new(|bytes| bytes.fill(7)));
            let mut walk = Self { loader, supply, spare: Spare::default(), events: Vec::new() };
            walk.step(|loader, env| loader.start(env, None));
            assert!(matches!(walk.loader.next_action(), Some(Action::Connect { attempt: 0, .. })));
            walk.step(|loader, env| loader.connected(env, 0, None, None));
            let head = "HTTP/1.0 401 Unauthorized\r\nWWW-Authenticate: Basic realm=r\r\nContent-Length: 9\r\n\r\n";
            walk.step(|loader, env| loader.receive(env, &mut head.as_bytes().to_vec()));
            let Some(Event::Question(question)) = walk.events.pop() else { panic!("{:?}", walk.events) };
            (walk, question)
        }
    }

    /// A server that leads a task about fills no memory.
    #[test]
    fn heads_are_kept_up_to_a_limit() {
        let (mut walk, question) = Walk::asked();
        let credential = UrlCredential::new("me", "secret", CredentialPersistence::None);
        let reply = Reply::Challenge(AuthChallengeDisposition::UseCredential, Some(credential));
        walk.step(|loader, env| loader.reply(env, question.number, reply));
        walk.loader.has_delegate = false;
        assert!(matches!(walk.loader.next_action(), Some(Action::Disconnect)));
        assert!(matches!(walk.loader.next_action(), Some(Action::Connect { attempt: 0, .. })));
        walk.step(|loader, env| loader.connected(env, 0, None, None));
        let filler = "x".repeat(60_000);
        let head = format!("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\nX: {filler}\r\n\r\n");
        for _ in 0..10 {
            // The request is written.
            let mut written = None;
            walk.step(|loader, env| written = loader.take_output(env));
            let mut output = written.unwrap();
            output.advance(usize::MAX / 2);
            walk.step(|loader, env| loader.give_back(env, output));
            walk.step(|loader, env| loader.receive(env, &mut head.clone().into_bytes()));
        }
        let detour = walk.loader.detour.as_ref().unwrap();
        let shown = detour.hops.iter().filter(|hop| hop.underway.refusal.is_some()).count();
        assert_eq!((detour.hops.len(), shown), (11, 5), "the 401, and four of the ten");
    }

    /// The reply comes on another thread than the end of the connection, and may be quicker.
    #[test]
    fn the_end_of_a_connection_that_was_left_ends_nothing() {
        for broken in [false, true] {
            let (mut walk, question) = Walk::asked();
            let credential = UrlCredential::new("me", "secret", CredentialPersistence::None);
            let reply = Reply::Challenge(AuthChallengeDisposition::UseCredential, Some(credential));
            walk.step(|loader, env| loader.reply(env, question.number, reply));
            walk.step(|loader, env| match broken {
                true => loader.read_failed(env, ErrorKind::ConnectionReset.into()),
                false => loader.end_of_stream(env),
            });
            walk.step(|loader, env| loader.receive(env, &mut b"HTTP/1.1 500 No\r\n\r\n".to_vec()));
            assert!(walk.events.is_empty(), "{:?}", walk.events);
            assert!(matches!(walk.loader.next_action(), Some(Action::Disconnect)));
            assert!(matches!(walk.loader.next_action(), Some(Action::Connect { attempt: 0, .. })));
            walk.step(|loader, env| loader.connected(env, 0, None, None));
            assert!(matches!(walk.loader.stage, Stage::Upgrading(_)));
        }
    }
}
