//! What a delegate is asked on the way to the open socket, and what it may reply.

use crate::foundation::{
    AuthChallengeDisposition, AuthenticationChallenge, HttpUrlResponse, UrlCredential, UrlRequest,
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
