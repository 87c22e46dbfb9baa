//! The HTTP exchange that opens the WebSocket: RFC 6455 §4.1.

use std::time::Duration;

use url::Url;

use super::challenges::{Asker, Challenged};
use super::end::Cause;
use super::question::Subject;
use super::trace::origin;
use super::{Env, Event, Linger, Loader, Mark, Stage, Timer, TraceStep};
use crate::foundation::{ErrorCode, ErrorStage, HttpUrlResponse, UrlError, UrlRequest};
use crate::http::{self, BodyReader, HeadParser, Offer, OpeningHead, ResponseHead};

/// The request is on its way, or the answer is.
pub struct Upgrading {
    parser: HeadParser,
    offer: Offer,
    /// Nothing of the answer has come.
    pub(super) is_untouched: bool,
}

/// The answer did not open the socket; what the server has to say with it is read.
pub struct Answered {
    pub(super) head: ResponseHead,
    pub(super) body: BodyReader,
    pub(super) step: Step,
    /// The next request may go out on the same connection.
    pub(super) may_stay: bool,
    /// Nothing more is read of it.
    pub(super) is_over: bool,
    /// Whose answer it is.
    pub(super) asker: Asker,
}

/// What comes after such an answer.
pub enum Step {
    /// The end of the task, for this reason.
    End(String),
    /// The delegate's reply: where a redirect leads, …
    AskRedirect(Box<UrlRequest>),
    /// …or what to make of a challenge.
    AskChallenge(Box<Challenged>),
    /// The next request, which is made.
    GoOn,
}

/// How many redirects a task follows.
const REDIRECTS: usize = 20;

/// How long the rest of an answer is waited for, so that the next request can go out on the same connection.
const DRAIN: Duration = Duration::from_secs(1);

impl Answered {
    /// The delegate is asked, and the task waits.
    pub(super) fn asks(&self) -> bool {
        matches!(self.step, Step::AskRedirect(_) | Step::AskChallenge(_))
    }

    /// Whether what is left of the answer, or the end of the connection behind it, is to be read.
    pub(super) fn wants_read(&self) -> bool {
        !self.is_over && (!self.body.is_complete() || self.body.may_leave_connection())
    }
}

impl Loader {
    /// The connection stands, and the server may be told what is wanted.
    pub(super) fn begin_upgrade(&mut self, env: &mut Env<'_>) {
        let Some(underway) = self.timeline.underway() else { return };
        let Some((nonce, upgrade)) = underway.upgrade.take() else { return };
        underway.nonce = Some(nonce);
        underway.request_bytes = upgrade.head.len();
        self.timeline.mark(Mark::RequestStart, env.now);
        env.traces.step(|| TraceStep::Requested { origin: origin(&self.settings.request.url) });
        if let Err(error) = self.say(upgrade.head.into_bytes()) {
            return self.lose(env, error);
        }
        let (parser, offer) = (HeadParser::default(), upgrade.offer);
        self.stage = Stage::Upgrading(Box::new(Upgrading { parser, offer, is_untouched: true }));
    }

    /// A part of the answer's head came.
    pub(super) fn read_head(&mut self, env: &mut Env<'_>, input: &mut &[u8]) {
        let is_sent = self.raw_is_empty();
        let Stage::Upgrading(upgrading) = &mut self.stage else { return };
        upgrading.is_untouched = false;
        if is_sent {
            // Whoever writes the request may say so after the answer has come.
            self.timeline.mark_first(Mark::RequestEnd, env.now);
        }
        self.timeline.mark_first(Mark::ResponseStart, env.now);
        match upgrading.parser.parse(input) {
            Ok(None) => {}
            Ok(Some(head)) => self.decide(env, head),
            Err(error) => {
                // Nothing behind it means anything, also where the end has to wait for bytes that are with the reactor.
                *input = &[];
                let reason = format!("the server's answer cannot be read: {error}");
                self.lose(env, UrlError::new(ErrorCode::CannotParseResponse, ErrorStage::Upgrade, reason));
            }
        }
    }

    /// A head is whole: what becomes of the task.
    fn decide(&mut self, env: &mut Env<'_>, head: ResponseHead) {
        let Stage::Upgrading(upgrading) = &mut self.stage else { return };
        env.traces.step(|| TraceStep::Answered { status: head.status_code, of_proxy: false });
        if let Some(underway) = self.timeline.underway() {
            underway.response_bytes += head.bytes;
        }
        if (100..200).contains(&head.status_code) && head.status_code != 101 {
            return env
                .events
                .push(Event::Informational(head.to_response(self.settings.request.url.clone(), Vec::new())));
        }
        self.timeline.mark(Mark::ResponseEnd, env.now);
        // Whoever is told of the answer finds them.
        self.settings.store_cookies(&head);
        match upgrading.offer.check(&head) {
            Ok(accepted) => {
                self.challenge_is_over(&head, true, Asker::Server);
                self.forget_authentication();
                let heads = &self.settings.common.heads;
                let mark = head.bytes as u64;
                let head = heads.share_made(mark, &head, |known, head| known.is_of(head), OpeningHead::new);
                self.timeline.opened(head, self.settings.epoch);
                self.opened(env, accepted);
            }
            Err(reason) => self.answered(env, head, reason),
        }
    }

    /// The socket does not open with this answer, for that reason.
    fn answered(&mut self, env: &mut Env<'_>, head: ResponseHead, reason: String) {
        let status = head.status_code;
        let redirect = http::redirect(&self.settings.request, &head);
        if status != 401 {
            self.challenge_is_over(&head, redirect.is_some(), Asker::Server);
        }
        self.take_answer(head, reason, Asker::Server);
        let is_reused = self.timeline.underway().is_some_and(|underway| underway.is_reused);
        match redirect {
            // RFC 9110 §15.5.9: the server has waited too long for a request, and has not seen this one.
            None if status == 408 && is_reused => {
                if self.begin_hop(env, None) {
                    self.will_go_on(env, false);
                }
            }
            Some(redirect) => self.redirected(env, redirect),
            None if status == 401 => self.challenged(env, Asker::Server),
            None => self.stand(env, None),
        }
    }

    /// The head of such an answer came.
    pub(super) fn take_answer(&mut self, head: ResponseHead, reason: String, asker: Asker) {
        let body = BodyReader::new(&head);
        self.timers.cancel(Timer::Request);
        let response = head.to_response(self.answers_url(asker), Vec::new());
        if let Some(underway) = self.timeline.underway() {
            underway.refusal = Some(response);
        }
        // Not all of the request need have been read: once there is an answer, it does not matter what could not be written.
        let may_stay = !self.forget_broken();
        self.timers.cancel(Timer::Rest);
        let step = Step::End(reason);
        self.stage = Stage::Answered(Box::new(Answered { head, body, step, may_stay, is_over: false, asker }));
    }

    /// Whose answer it is: the server's, or the proxy's.
    fn answers_url(&self, asker: Asker) -> Url {
        let proxy = self.proxy().filter(|_| asker == Asker::Proxy).and_then(|proxy| proxy.url());
        proxy.unwrap_or_else(|| self.settings.request.url.clone())
    }

    /// The answer is the final one, for this reason or the one that is known; the task ends when the rest of it is read.
    pub(super) fn stand(&mut self, env: &mut Env<'_>, reason: Option<String>) {
        let Stage::Answered(answered) = &mut self.stage else { return };
        match reason {
            Some(reason) => answered.step = Step::End(reason),
            None if matches!(answered.step, Step::End(_)) => {}
            None => {
                let status = answered.head.status_code;
                answered.step = Step::End(match answered.asker {
                    Asker::Server => format!("the server answered {status}, not 101"),
                    Asker::Proxy => format!("it answered {status} to CONNECT"),
                });
            }
        }
        if answered.body.is_complete() || answered.is_over {
            return self.refuse(env);
        }
        self.start_clock(Timer::Rest, env.now, self.settings.common.options.close_timeout);
    }

    /// The server sends the task elsewhere, if that can be understood.
    fn redirected(&mut self, env: &mut Env<'_>, redirect: Result<UrlRequest, String>) {
        let new_request = match redirect {
            Ok(new_request) => new_request,
            Err(reason) => return self.stand(env, Some(reason)),
        };
        if self.detour().redirects >= REDIRECTS {
            let reason = format!("the server sends the task elsewhere again, after {REDIRECTS} redirects");
            let error = UrlError::new(ErrorCode::HttpTooManyRedirects, ErrorStage::Upgrade, reason);
            return self.fail_answered(env, error.with_failing_url(&new_request.url));
        }
        let Stage::Answered(answered) = &mut self.stage else { return };
        if !self.has_delegate {
            return self.follow(env, new_request, None);
        }
        answered.step = Step::AskRedirect(Box::new(new_request.clone()));
        if let Some(response) = self.timeline.response(&self.settings) {
            self.ask(env, Subject::Redirect { response, new_request });
        }
    }

    /// Goes on with `request`, which a delegate gave instead of what was `proposed` to it, or which nobody was asked about.
    pub(super) fn follow(&mut self, env: &mut Env<'_>, request: UrlRequest, proposed: Option<&UrlRequest>) {
        let from = &self.settings.request.url;
        // Whoever made the request, or chose where it goes, knows what it does; who added to the query need not.
        let is_own = proposed.is_some_and(|proposed| {
            let is_there = http::is_same_origin(&request.url, &proposed.url);
            !request.is_proposed() || !is_there || request.url.path() != proposed.url.path()
        });
        if http::is_downgrade(from, &request.url) && !is_own {
            let reason = "the server sends the task from wss to ws";
            let error = UrlError::new(ErrorCode::SecureConnectionFailed, ErrorStage::Upgrade, reason);
            return self.fail_answered(env, error.with_failing_url(&request.url));
        }
        let request = match proposed {
            Some(proposed) => http::redirected(request, &self.settings.request, proposed),
            None => request,
        };
        env.traces.step(|| TraceStep::Redirected { origin: origin(&request.url) });
        let stays = http::is_same_origin(from, &request.url);
        if self.begin_hop(env, Some(request)) {
            self.will_go_on(env, stays);
        }
    }

    /// The next request is made. `stays`: it goes to the same origin.
    pub(super) fn will_go_on(&mut self, env: &mut Env<'_>, stays: bool) {
        let Stage::Answered(answered) = &mut self.stage else { return };
        answered.step = Step::GoOn;
        answered.may_stay &= stays;
        self.start_clock(Timer::Rest, env.now, DRAIN);
    }

    /// The answer ends the task, with an error of its own; the rest of it is not waited for.
    pub(super) fn fail_answered(&mut self, env: &mut Env<'_>, error: UrlError) {
        let error = self.named(match self.timeline.response(&self.settings) {
            Some(response) => error.with_response(response),
            None => error,
        });
        let cause = self.cancelled_with().unwrap_or(Cause::Failed(error));
        self.end(env, cause, Linger::No);
    }

    /// The answer is the final one, and the rest of it is read.
    pub(super) fn is_refused(&self) -> bool {
        matches!(&self.stage, Stage::Answered(answered) if matches!(answered.step, Step::End(_)))
    }

    /// The connection is of no use for another request.
    pub(super) fn answer_is_lost(&mut self) {
        if let Stage::Answered(answered) = &mut self.stage {
            answered.may_stay = false;
        }
    }

    /// Nothing more comes of the answer, or nothing more is waited for.
    pub(super) fn answer_is_over(&mut self, env: &mut Env<'_>) {
        let Stage::Answered(answered) = &mut self.stage else { return };
        answered.is_over = true;
        match answered.step {
            Step::End(_) => self.refuse(env),
            Step::GoOn => self.settle(env),
            Step::AskRedirect(_) | Step::AskChallenge(_) => {}
        }
    }

    /// The refusal is read as far as it is kept; the task ends with it.
    pub(super) fn refuse(&mut self, env: &mut Env<'_>) {
        // The end may be known already, and wait.
        let is_due = !self.is_ended() && !self.has_pending_end();
        let Stage::Answered(answered) = &mut self.stage else { return };
        let Step::End(reason) = &mut answered.step else { return };
        if !is_due {
            return;
        }
        let (reason, asker) = (std::mem::take(reason), answered.asker);
        let url = self.answers_url(asker);
        let Stage::Answered(answered) = &mut self.stage else { return };
        let body = std::mem::replace(&mut answered.body, BodyReader::new(&answered.head)).into_body();
        let response = answered.head.to_response(url, body);
        if let Some(underway) = self.timeline.underway() {
            underway.refusal = Some(response.clone());
        }
        if asker == Asker::Server {
            self.timeline.mark(Mark::ResponseEnd, env.now);
        }
        let error = self.named(refusal(response, reason));
        let cause = self.cancelled_with().unwrap_or(Cause::Failed(error));
        self.end(env, cause, Linger::No);
    }
}

/// Why a server's answer did not open the WebSocket.
fn refusal(response: HttpUrlResponse, reason: String) -> UrlError {
    UrlError::new(ErrorCode::BadServerResponse, ErrorStage::Upgrade, reason).with_response(response)
}
