//! What a run does on a way that is not straight: questions and replies, and one connection after the other.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::sync::Arc;

use urlsession::internals::{Env, Loader, Question, Reply, Subject};
use urlsession::{AuthChallengeDisposition, AuthenticationMethod, CredentialPersistence, UrlCredential, UrlRequest};

use crate::course::{Asked, Course, Decision, OPEN, Replied, State, Wanted, is_same_origin, origin};
use crate::model::{Cause, Stage};
use crate::network::Network;
use crate::peer::{Fatal, Peer};
use crate::plan::{Address, Certificate, LookUp, Tls, fault};
use crate::way::Method;
use crate::wire::Reader;
use crate::world::{Tap, World, note};

/// How much of an answer is kept, and how much may be spent on its framing.
const KEPT: usize = 64 << 10;

/// What the delegate was asked, and has not replied to.
pub struct Pending {
    question: Arc<Question>,
    /// How many have passed it on.
    passed_on: usize,
    /// When it replies.
    pub at: u64,
}

/// Takes the first bytes of a text, and no more.
struct Start([u8; 40], usize);

impl Write for Start {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.0[self.1..];
        let count = room.len().min(text.len());
        room[..count].copy_from_slice(&text.as_bytes()[..count]);
        self.1 += count;
        if self.1 == self.0.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Where the loader says that it is.
pub fn stage(loader: &Loader) -> Stage {
    let mut start = Start([0; 40], 0);
    let _ = write!(start, "{loader:?}");
    let text = String::from_utf8_lossy(&start.0);
    match text.split('"').nth(1).expect("the stage") {
        "Created" => Stage::Created,
        "Resolving" => Stage::Resolving,
        "Waiting" => Stage::Waiting,
        "Connecting" => Stage::Connecting,
        "Securing" => Stage::Securing,
        "Upgrading" => Stage::Upgrading,
        "Answered" => Stage::Answered,
        "Open" => Stage::Open,
        _ => Stage::Over,
    }
}

impl World {
    /// Before bytes are looked at: whether the head of an answer is whole with them.
    pub fn take_up_read(&mut self) {
        if self.plan.tls.is_some() || self.model.stage != Stage::Upgrading {
            return;
        }
        if let State::Answered(answered) = &self.peer.course.state
            && self.model.read >= answered.head_end
        {
            self.take_up();
        }
    }

    /// The client read the head of the answer.
    pub fn take_up(&mut self) {
        let (answered, decision) = self.peer.course.take_up();
        self.decided(answered.status, answered.head_end, answered.body, &decision);
    }

    fn decided(&mut self, status: u16, head_end: usize, body: Vec<u8>, decision: &Decision) {
        note!(self, "  decided: {decision:?}");
        if self.model.broken.is_some() {
            self.situations.insert("answered, and the request could not be written");
        }
        self.model.heal();
        match decision {
            Decision::Ask => {}
            Decision::GoOn => self.model.going_on = Some(0),
            Decision::Stand => {
                self.peer.fatal = Some(Fatal::Refusal(status, body));
                self.peer.refusal_at = Some(head_end);
            }
            Decision::Fail(code, url) => {
                self.peer.fatal = Some(Fatal::Code(*code));
                self.failing_url.clone_from(url);
            }
        }
    }

    /// After a step: where the loader is now, and whether it may be there.
    pub fn look(&mut self, cause: Cause) {
        let (before, now) = (self.model.stage, stage(&self.loader));
        if self.plan.tls.is_some()
            && matches!(self.peer.course.state, State::Answered(_))
            && (now == Stage::Answered || (before == Stage::Upgrading && now.is_unconnected()))
        {
            self.take_up();
            if now.is_unconnected() {
                // It may have gone on here first, and lost the connection then.
                self.peer.course.unsure += 1;
            }
        }
        self.model.stage = now;
        if now == Stage::Answered {
            self.model.heal();
        }
        if matches!(before, Stage::Answered | Stage::Upgrading)
            && now == Stage::Upgrading
            && self.model.going_on.is_some()
        {
            self.stays();
        }
        if matches!(before, Stage::Answered | Stage::Upgrading) && now.is_unconnected() {
            self.leaves(before, cause);
        }
        self.look_for_missing(before, now);
        self.look_at_race(before, now);
        if now == Stage::Answered && self.plan.tls.is_none() {
            let (State::Asked(answered, _), false) = (&self.peer.course.state, self.peer.surplus) else { return };
            let most = answered.head_end + 2 * KEPT + self.largest_input;
            assert!(self.model.read <= most, "{} bytes of an answer are read", self.model.read - answered.head_end);
        }
    }

    /// The next request goes out on the same connection.
    fn stays(&mut self) {
        self.model.going_on = None;
        self.model.quiet = 0;
        (self.model.kept, self.model.untouched) = (true, true);
        self.situations.insert("went on, and stayed");
        if self.model.is_suspended() {
            self.situations.insert("went on while suspended");
        }
        let (before, from) = self.peer.course.before.as_ref().expect("an answer");
        assert!(before.keeps || self.peer.surplus, "the connection is of no use any more: {before:?}");
        assert_eq!(origin(from), origin(&self.peer.course.current.url), "a connection to another server");
        if self.plan.tls.is_none() {
            assert_eq!(self.model.read, before.end, "the answer is read to its end, and nothing behind it");
        }
    }

    /// The task leaves its connection for another.
    fn leaves(&mut self, before: Stage, cause: Cause) {
        self.model.quiet = 0;
        self.model.leaving = true;
        self.peer.is_left = true;
        let tls = self.plan.tls.is_some();
        if self.model.going_on.take().is_some() {
            self.situations.insert("went on, and left");
            let (answer, from) = self.peer.course.before.as_ref().expect("an answer");
            let may_stay = answer.keeps
                && origin(from) == origin(&self.peer.course.current.url)
                && answer.body.len() < KEPT
                && !tls
                && self.model.read == answer.end
                && !self.read_to_end
                && !self.is_out_or_was()
                && !self.peer.is_early()
                && self.network.write_fault.is_none()
                && self.network.up.end().is_none();
            assert!(!may_stay, "a connection is left that is of use: {cause:?}, {answer:?}");
            return;
        }
        assert_eq!(before, Stage::Upgrading, "nothing was decided, and the task goes on: {cause:?}");
        let lost = matches!(cause, Cause::EndOfStream | Cause::ReadFailed(_) | Cause::WriteFailed(_));
        assert!(tls || (lost && self.model.kept && self.model.untouched), "another connection after {cause:?}");
        self.situations.insert("a kept connection was lost");
        self.peer.course.again();
    }

    /// Something of the request is still with the writer.
    fn is_out_or_was(&self) -> bool {
        self.model.is_out || self.was_out
    }

    /// A connection that was kept may be lost: then the task makes another, and does not end.
    pub fn check_lost(&self, cause: Cause) {
        let lost = matches!(cause, Cause::EndOfStream | Cause::ReadFailed(_));
        let kept = self.model.kept && self.model.untouched && self.model.stage == Stage::Upgrading;
        assert!(!(lost && kept && self.plan.tls.is_none()), "a kept connection is lost, and the task ends");
    }

    /// The next connection, to where the current request goes.
    pub fn disconnected(&mut self) {
        assert!(std::mem::take(&mut self.model.leaving), "the task leaves its connection, and has no reason");
        let Self { peer, rng, plan, .. } = self;
        let url = peer.course.current.url.clone();
        note!(self, "the next connection goes to {url}");
        // A long chain is to reach its end.
        let calm = plan.clean || peer.course.is_long;
        let was_old = plan.tls.is_some_and(|tls| tls.old);
        let old = self.old_tls.unwrap_or(was_old);
        let bad = !calm && rng.one_in(20);
        let certificate = if bad { Certificate::Expired } else { Certificate::Good };
        plan.tls = (url.scheme() == "wss").then_some(Tls { old, certificate });
        plan.literal = url.domain().is_none();
        let rare = !calm && rng.one_in(12);
        plan.look_up = if rare {
            rng.pick(&[LookUp::Fails, LookUp::Breaks, LookUp::Nothing, LookUp::Hangs])
        } else {
            LookUp::Answers
        };
        plan.addresses = if calm || rng.one_in(2) { Address::works() } else { Address::several(false, rng) };
        let may_fault = !calm && plan.tls.is_none() && rng.one_in(6);
        plan.up_fault = (may_fault && rng.one_in(2)).then(|| fault(rng));
        plan.down_fault = (may_fault && plan.up_fault.is_none()).then(|| fault(rng));
        plan.write_fault = None;
        if !calm && rng.one_in(12) {
            self.missing.rounds = rng.within(1, 4);
        }
        let mut network = Network::new(plan.capacity, plan.grain);
        (network.up.fault, network.down.fault) = (plan.up_fault, plan.down_fault);
        let left = std::mem::replace(&mut self.network, network);
        if self.out.is_some() {
            self.situations.insert("left, and the writer writes");
            self.left = Some(left);
        }
        let mut peer = Peer::new(&self.plan, Course::new(&self.plan, &url), &mut self.rng);
        std::mem::swap(&mut peer.course, &mut self.peer.course);
        self.peer = peer;
        self.tap = Tap { reader: Reader::new(self.plan.deflate.strict()), ..Tap::default() };
        self.connected = false;
        (self.resolving, self.attempted) = (None, false);
        self.losers.clear();
        (self.read_to_end, self.hung_up, self.blocked) = (false, false, false);
        self.peer_at = self.model.now;
        self.model.read = 0;
        (self.model.kept, self.model.untouched) = (false, false);
    }

    /// The loader asks.
    pub fn asks(&mut self, question: &Arc<Question>) {
        if let State::Answered(_) = self.peer.course.state {
            assert!(self.plan.tls.is_some(), "a question about what is not read yet");
            self.take_up();
        }
        assert!(self.plan.way.has_delegate && !self.model.opened && self.model.ended.is_none());
        let course = &mut self.peer.course;
        course.questions += 1;
        assert_eq!(question.number, course.questions, "questions are counted");
        assert!(course.questions <= 20 + 5 * 26, "a task asks without end");
        let State::Asked(answered, asked) = &course.state else { panic!("nothing to ask: {:?}", course.state) };
        let at = &course.current.url;
        match (asked, &question.subject) {
            (Asked::Redirect(wanted), Subject::Redirect { response, new_request }) => {
                assert_eq!(response.status_code(), answered.status);
                assert_eq!(new_request.url, wanted.url);
                assert_eq!(fields(new_request), wanted.fields.iter().cloned().collect());
            }
            (Asked::Challenge(space, _), Subject::Challenge(challenge)) => {
                let asked = challenge.protection_space();
                assert_eq!(challenge.failure_response().map(|response| response.status_code()), Some(401));
                assert_eq!((Some(asked.host()), Some(asked.port())), (at.host_str(), at.port_or_known_default()));
                assert_eq!(asked.protocol(), Some(&*at.scheme().replace("ws", "http")));
                assert_eq!((method(asked.authentication_method()), asked.realm()), (space.1, space.2.as_deref()));
                assert_eq!(challenge.previous_failure_count(), course.failures(space), "failures");
                let proposed = challenge.proposed_credential().map(|credential| {
                    (credential.user().unwrap_or_default().to_owned(), credential.password().unwrap().to_owned())
                });
                let stored = course.stored_for(space).map(|(user, password, _)| (user, password));
                assert_eq!(proposed, stored, "what is proposed for {space:?}");
            }
            (asked, subject) => panic!("{subject:?} in place of {asked:?}"),
        }
        if let Some(pending) = &self.question {
            assert!(!self.loader.waits_for_reply(pending.question.number), "two questions at a time");
        }
    }

    /// The delegate is asked.
    pub fn is_asked(&mut self, question: Arc<Question>, passed_on: usize) {
        assert!(!self.model.told.open && !self.model.told.close && !self.model.told.metrics);
        // What it had before is not answered any more, or was.
        self.old_questions.extend(self.question.take().map(|pending| pending.question.number));
        let at = match self.rng.below(10) {
            0..5 => 0,
            5..9 => self.pause(),
            _ => self.rng.below(2 * self.plan.request_timeout as usize) as u64,
        };
        self.question = Some(Pending { question, passed_on, at: self.model.now + at });
        if at == 0 && self.rng.one_in(2) {
            self.replies();
        }
    }

    /// The delegate replies, or drops its handler.
    pub fn replies(&mut self) {
        if self.plan.way.is_mute {
            return;
        }
        if self.model.ended.is_none() && self.model.may_have_ended() {
            // Whether the end waits for the writer is known when that has come back.
            return;
        }
        let Some(Pending { question, passed_on, .. }) = self.question.take() else { return };
        let number = question.number;
        let waits = self.loader.waits_for_reply(number);
        if self.rng.one_in(6) && passed_on < 2 {
            note!(self, "the delegate passes question {number} on");
            if waits {
                self.mailbox.ask(question, passed_on + 1);
            }
            return;
        }
        let (reply, replied) = self.reply_to(&question.subject);
        note!(self, "the delegate replies to question {number}: {replied:?}");
        self.old_questions.push(number);
        if !waits || self.model.has_pending_cancel() {
            // The task ended, or is about to.
            return self.replies_too_late(number, reply);
        }
        if self.model.is_suspended() {
            self.situations.insert("a reply while suspended");
        }
        let (answered, decision) = self.peer.course.reply(replied);
        self.decided(answered.status, answered.head_end, answered.body, &decision);
        self.step(Cause::Reply, |loader, env| loader.reply(env, number, reply));
        assert!(!self.loader.waits_for_reply(number), "a question is answered once");
    }

    /// A reply to a question that is none any more.
    pub fn replies_late(&mut self) {
        let Some(number) = self.old_questions.pop() else { return };
        let reply = match self.rng.below(4) {
            0 => Reply::Default,
            1 => Reply::Redirect(None),
            2 => Reply::Challenge(AuthChallengeDisposition::CancelAuthenticationChallenge, None),
            _ => Reply::Challenge(AuthChallengeDisposition::PerformDefaultHandling, None),
        };
        note!(self, "too late: a reply to question {number}");
        self.replies_too_late(number, reply);
    }

    fn replies_too_late(&mut self, number: u32, reply: Reply) {
        self.situations.insert("a reply that was too late");
        self.changes_nothing(|loader, env| loader.reply(env, number, reply));
    }

    /// A step that comes too late.
    pub fn changes_nothing(&mut self, step: impl FnOnce(&mut Loader, &mut Env<'_>)) {
        let look = |loader: &Loader| {
            let asks = (loader.has_action(), loader.wants_read(), loader.has_no_output(), loader.is_ended());
            (loader.next_deadline(), asks, stage(loader), Arc::as_ptr(loader.request()))
        };
        // The limit may be another since the last step.
        self.hold_back();
        let before = look(&self.loader);
        let told = self.told;
        self.step(Cause::Other, step);
        assert_eq!((look(&self.loader), self.told), (before, told), "what comes too late changes nothing");
    }

    fn reply_to(&mut self, subject: &Subject) -> (Reply, Replied) {
        // A long chain is to reach its end.
        let clean = self.plan.clean || self.peer.course.is_long;
        let rare = |rng: &mut crate::rng::Rng, of: usize| !clean && rng.one_in(of);
        match subject {
            _ if self.rng.one_in(8) && (clean || matches!(subject, Subject::Redirect { .. })) => {
                // A clean run has somebody who knows, but for redirects.
                if matches!(subject, Subject::Redirect { .. }) {
                    return (Reply::Default, Replied::Default);
                }
                self.credential()
            }
            Subject::Redirect { .. } if rare(&mut self.rng, 12) => (Reply::Redirect(None), Replied::Stay),
            Subject::Redirect { new_request, .. } if self.rng.one_in(4) => {
                let mut wanted = self.peer.course.own(&mut self.rng);
                if self.rng.one_in(3) {
                    wanted.url.clone_from(&new_request.url);
                }
                (Reply::Redirect(Some(request(&wanted))), Replied::Follow(wanted, true))
            }
            Subject::Redirect { new_request, .. } => {
                let mut new_request = new_request.clone();
                let State::Asked(_, Asked::Redirect(wanted)) = &self.peer.course.state else {
                    return (Reply::Redirect(Some(new_request)), Replied::Default);
                };
                let mut wanted = wanted.clone();
                if self.rng.one_in(4) {
                    new_request.set_value("yes", "X-Changed");
                    wanted.fields.retain(|(name, _)| name != "x-changed");
                    wanted.fields.push(("x-changed".to_owned(), "yes".to_owned()));
                }
                let is_own = self.rng.one_in(6);
                if is_own {
                    new_request.url = self.peer.course.own(&mut self.rng).url;
                    let stayed = is_same_origin(&self.peer.course.current.url, &wanted.url);
                    wanted.url.clone_from(&new_request.url);
                    if stayed && !is_same_origin(&self.peer.course.current.url, &wanted.url) {
                        // What is still the caller's stays behind.
                        let from = &self.peer.course.current.fields;
                        wanted.fields.retain(|field| OPEN.contains(&&*field.0) || !from.contains(field));
                    }
                }
                (Reply::Redirect(Some(new_request)), Replied::Follow(wanted, is_own))
            }
            Subject::Challenge(_) => {
                use AuthChallengeDisposition::{
                    CancelAuthenticationChallenge, PerformDefaultHandling, RejectProtectionSpace, UseCredential,
                };
                match self.rng.below(24) {
                    0 if !clean => (Reply::Challenge(UseCredential, None), Replied::NoCredential),
                    1 if !clean => (Reply::Challenge(CancelAuthenticationChallenge, None), Replied::Cancel),
                    2 | 3 if !clean => (Reply::Challenge(RejectProtectionSpace, None), Replied::Reject),
                    4 if !clean => (Reply::Challenge(PerformDefaultHandling, None), Replied::Default),
                    5 if !clean => (Reply::Default, Replied::Default),
                    // What another handler would say.
                    6 if !clean => (Reply::Redirect(None), Replied::Default),
                    _ => self.credential(),
                }
            }
        }
    }

    fn credential(&mut self) -> (Reply, Replied) {
        let password = format!("pw{}", self.rng.below(100));
        let keeps = self.rng.one_in(2);
        let persistence = if keeps { CredentialPersistence::ForSession } else { CredentialPersistence::None };
        let credential = UrlCredential::new("bob", &password, persistence);
        let reply = Reply::Challenge(AuthChallengeDisposition::UseCredential, Some(credential));
        (reply, Replied::Credential("bob".to_owned(), password, keeps))
    }

    /// What the end says of the way.
    pub fn check_way(&mut self, transactions: usize, redirects: usize) {
        let course = &self.peer.course;
        assert_eq!(redirects, course.redirects, "redirect_count");
        assert!(redirects <= 20, "more than 20 redirects");
        let hops = course.hops..=course.hops + course.unsure;
        assert!(hops.contains(&transactions), "{transactions} transactions, there were {hops:?} requests");
    }
}

fn method(method: AuthenticationMethod) -> Method {
    match method {
        AuthenticationMethod::HttpBasic => Method::Basic,
        AuthenticationMethod::HttpDigest => Method::Digest,
        AuthenticationMethod::Ntlm => Method::Ntlm,
        AuthenticationMethod::Negotiate => Method::Negotiate,
        method => panic!("nobody asked for {method:?}"),
    }
}

fn fields(request: &UrlRequest) -> HashMap<String, String> {
    let fields = request.all_http_header_fields().into_iter();
    fields.map(|(name, value)| (name.to_ascii_lowercase(), value)).collect()
}

/// The request that a program makes.
pub fn request(wanted: &Wanted) -> UrlRequest {
    let mut request = UrlRequest::new(wanted.url.clone());
    for (name, value) in &wanted.fields {
        request.set_value(value, name);
    }
    request
}
