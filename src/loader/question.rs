//! What a delegate is asked on the way to the open socket, and what it may reply.

use std::sync::Arc;

use super::upgrade::Step;
use super::{Env, Event, Loader, Stage, TraceStep};
use crate::foundation::{
    AuthChallengeDisposition, AuthenticationChallenge, AuthenticationMethod, HttpUrlResponse, UrlCredential, UrlRequest,
};

/// A question. The task waits until it is [answered](super::Loader::reply) or has ended.
#[derive(Debug)]
pub struct Question {
    /// Which of the task's questions it is: a reply to an earlier one says nothing any more.
    pub number: u32,
    /// What it is about.
    pub subject: Subject,
}

/// What a question is about.
#[derive(Debug)]
pub enum Subject {
    /// `will_perform_http_redirection`.
    Redirect {
        /// The answer that leads elsewhere.
        response: HttpUrlResponse,
        /// The request that would follow it.
        new_request: UrlRequest,
    },
    /// `task_did_receive_challenge`, or for a connection's challenge `did_receive_challenge`.
    Challenge(AuthenticationChallenge),
}

impl Subject {
    /// What it is about, in a word.
    fn name(&self) -> &'static str {
        let Self::Challenge(challenge) = self else { return "redirect" };
        match challenge.protection_space().authentication_method() {
            AuthenticationMethod::Default | AuthenticationMethod::HtmlForm => "challenge",
            AuthenticationMethod::HttpBasic => "Basic",
            AuthenticationMethod::HttpDigest => "Digest",
            AuthenticationMethod::Ntlm => "NTLM",
            AuthenticationMethod::Negotiate => "Negotiate",
            AuthenticationMethod::ClientCertificate => "client certificate",
            AuthenticationMethod::ServerTrust => "server trust",
        }
    }
}

/// What a delegate replies.
#[derive(Debug)]
pub enum Reply {
    /// Nobody has an opinion.
    Default,
    /// To go on with this request, or to take the redirect for the final answer.
    Redirect(Option<UrlRequest>),
    /// What to make of the challenge, and with which credential.
    Challenge(AuthChallengeDisposition, Option<UrlCredential>),
}

impl Loader {
    /// Asks the delegate; the task stands still until it replies.
    pub(super) fn ask(&mut self, env: &mut Env<'_>, subject: Subject) {
        let detour = self.detour();
        detour.questions = detour.questions.wrapping_add(1);
        let number = detour.questions;
        env.traces.step(|| TraceStep::Asking { about: subject.name() });
        env.events.push(Event::Question(Arc::new(Question { number, subject })));
    }

    /// Whether the task waits for the reply to this question.
    pub fn waits_for_reply(&self, number: u32) -> bool {
        let is_last = self.detour.as_ref().is_some_and(|detour| detour.questions == number);
        let asks = match &self.stage {
            Stage::Answered(answered) => answered.asks(),
            Stage::Presented(_) => true,
            _ => false,
        };
        is_last && asks && !self.is_ended()
    }

    /// A delegate's reply to the question of that number. One that comes too late does nothing.
    pub fn reply(&mut self, env: &mut Env<'_>, number: u32, reply: Reply) {
        if !self.waits_for_reply(number) || self.has_pending_end() {
            return;
        }
        if let Stage::Presented(_) = self.stage {
            return self.presented_answered(env, reply);
        }
        let Stage::Answered(answered) = &mut self.stage else { return };
        match std::mem::replace(&mut answered.step, Step::GoOn) {
            Step::AskRedirect(proposed) => match reply {
                Reply::Redirect(None) => {
                    let status = answered.head.status_code;
                    self.stand(env, Some(format!("the server answered {status}, which the delegate did not follow")));
                }
                Reply::Redirect(Some(request)) => self.follow(env, request, Some(&proposed)),
                Reply::Default | Reply::Challenge(..) => self.follow(env, *proposed, None),
            },
            Step::AskChallenge(challenged) => self.challenge_answered(env, *challenged, reply),
            step => answered.step = step,
        }
        self.settle(env);
    }
}
