//! A question to the delegates, and the handler that it comes with.
//!
//! Those who may answer are asked one after the other: whoever leaves the method at its default, or drops the handler without a
//! call, passes the question on, and at the end of the line stands the default. Each is asked in a callback of its own, for
//! the handler may be dropped anywhere.

use std::sync::Arc;
use std::thread;

use super::delegate::{Implemented, Method, implements};
use super::session_task::SessionTask;
use super::task::TaskShared;
use crate::foundation::{AuthChallengeDisposition, AuthenticationMethod};
use crate::loader::{Question, Reply, Subject};
use crate::reactor::guarded;

/// What a handler holds: the reply that the task waits for.
struct Pending {
    task: Arc<TaskShared>,
    question: Arc<Question>,
    /// How many have passed it on, once this one has.
    passed_on: usize,
    answered: bool,
}

impl Pending {
    fn reply(mut self, reply: Reply) {
        self.answered = true;
        self.task.connection.reply(&*self.task, self.question.number, reply);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        // Whoever judges a server and panics meanwhile has perhaps found the wrong one: that is no missing opinion.
        if thread::panicking() && asks_trust(&self.question.subject) {
            let reply = Reply::Challenge(AuthChallengeDisposition::RejectProtectionSpace, None);
            return self.task.connection.reply(&*self.task, self.question.number, reply);
        }
        self.task.pass_on(Arc::clone(&self.question), self.passed_on);
    }
}

fn asks_trust(subject: &Subject) -> bool {
    let Subject::Challenge(challenge) = subject else { return false };
    challenge.protection_space().authentication_method() == AuthenticationMethod::ServerTrust
}

/// Whose delegate is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Task,
    Session,
}

/// Who may answer, in order, and the method that asks them. What the connection asks for goes to the session first (reference
/// 2.12).
fn line(subject: &Subject) -> &'static [(Whose, Method)] {
    const REDIRECT: Method = Method::WillPerformHttpRedirection;
    const CHALLENGE: Method = Method::TaskDidReceiveChallenge;
    match subject {
        Subject::Redirect { .. } => &[(Whose::Task, REDIRECT), (Whose::Session, REDIRECT)],
        Subject::Challenge(challenge) => match challenge.protection_space().authentication_method() {
            AuthenticationMethod::Default
            | AuthenticationMethod::HtmlForm
            | AuthenticationMethod::HttpBasic
            | AuthenticationMethod::HttpDigest => &[(Whose::Task, CHALLENGE), (Whose::Session, CHALLENGE)],
            AuthenticationMethod::Ntlm
            | AuthenticationMethod::Negotiate
            | AuthenticationMethod::ClientCertificate
            | AuthenticationMethod::ServerTrust => {
                &[(Whose::Session, Method::DidReceiveChallenge), (Whose::Task, CHALLENGE), (Whose::Session, CHALLENGE)]
            }
        },
    }
}

impl TaskShared {
    /// Nobody has answered yet: the next in line is asked, in a callback of its own.
    fn pass_on(&self, question: Arc<Question>, passed_on: usize) {
        if self.connection.inspect(|loader| loader.waits_for_reply(question.number)) {
            self.put_question(question, passed_on);
        }
    }

    /// Asks the next in line.
    pub(super) fn ask(&self, question: Arc<Question>, passed_on: usize) {
        let Some(task) = self.myself() else { return };
        // It may have waited for its turn while the task was cancelled.
        if !self.connection.inspect(|loader| loader.waits_for_reply(question.number)) {
            return;
        }
        let next = line(&question.subject).iter().enumerate().skip(passed_on).find_map(|(place, &(whose, method))| {
            let delegate = match whose {
                Whose::Task => self.own_delegate(),
                Whose::Session => self.session.delegate_with(method),
            };
            Some((place, whose, method, delegate?))
        });
        let Some((place, whose, method, delegate)) = next else {
            return self.connection.reply(self, question.number, Reply::Default);
        };
        let pending =
            Pending { task: Arc::clone(&task), question: Arc::clone(&question), passed_on: place + 1, answered: false };
        let session = self.session.handle();
        let task = SessionTask { shared: task };
        let mut implemented = Implemented::Yes;
        guarded(|| {
            // Moved in here: it may be the last reference, and what its drop throws ends here, too.
            let delegate = delegate;
            implemented = implements(&*delegate, method, || match &question.subject {
                Subject::Redirect { response, new_request } => delegate.will_perform_http_redirection(
                    &session,
                    &task,
                    response,
                    new_request.clone(),
                    Box::new(move |request| pending.reply(Reply::Redirect(request))),
                ),
                Subject::Challenge(challenge) => {
                    let handler = Box::new(move |disposition, credential| {
                        pending.reply(Reply::Challenge(disposition, credential))
                    });
                    match method {
                        Method::DidReceiveChallenge => delegate.did_receive_challenge(&session, challenge, handler),
                        _ => delegate.task_did_receive_challenge(&session, &task, challenge, handler),
                    }
                }
            });
        });
        if implemented == Implemented::Never && whose == Whose::Session {
            self.session.delegate_lacks(method);
        }
    }
}
