//! A delegate that writes down what it is told and asked, and replies as the test says.

#![allow(dead_code, reason = "each test file uses a part")]

use std::sync::{Arc, Condvar, Mutex, mpsc};

use urlsession::{
    AuthChallengeDisposition, AuthenticationChallenge, AuthenticationMethod, ChallengeHandler, CloseCode,
    HttpUrlResponse, OperationQueue, RedirectionHandler, SessionConfiguration, SessionDelegate, SessionTask,
    TaskDelegate, TaskMetrics, UrlCredential, UrlError, UrlRequest, UrlSession, WebSocketDelegate, WebSocketTask,
};

use super::{Events, PATIENCE, Recorder, recorder};

type OnRedirect = dyn Fn(&SessionTask, &HttpUrlResponse, UrlRequest, RedirectionHandler) + Send + Sync;
type OnChallenge = dyn Fn(&AuthenticationChallenge, ChallengeHandler) + Send + Sync;
type OnMetrics = dyn Fn(&TaskMetrics) + Send + Sync;

/// Replies of a delegate. It follows redirects, and leaves challenges to the default. Whether a server is trusted is noted only
/// where the test has a reply to it.
pub struct Guide {
    pub recorder: Arc<Recorder>,
    pub on_redirect: Box<OnRedirect>,
    pub on_challenge: Box<OnChallenge>,
    pub on_trust: Option<Box<OnChallenge>>,
    pub on_metrics: Box<OnMetrics>,
}

impl Guide {
    pub fn new() -> (Self, Events) {
        let (recorder, events) = recorder();
        let guide = Self {
            recorder,
            on_redirect: Box::new(|_, _, request, handler| handler(Some(request))),
            on_challenge: Box::new(|_, handler| handler(AuthChallengeDisposition::PerformDefaultHandling, None)),
            on_trust: None,
            on_metrics: Box::new(|_| {}),
        };
        (guide, events)
    }

    /// Replies to redirects.
    pub fn redirect(
        mut self,
        reply: impl Fn(&SessionTask, &HttpUrlResponse, UrlRequest, RedirectionHandler) + Send + Sync + 'static,
    ) -> Self {
        self.on_redirect = Box::new(reply);
        self
    }

    /// Replies to challenges.
    pub fn challenge(
        mut self,
        reply: impl Fn(&AuthenticationChallenge, ChallengeHandler) + Send + Sync + 'static,
    ) -> Self {
        self.on_challenge = Box::new(reply);
        self
    }

    /// Replies where a server's certificates are shown.
    pub fn trust(mut self, reply: impl Fn(&AuthenticationChallenge, ChallengeHandler) + Send + Sync + 'static) -> Self {
        self.on_trust = Some(Box::new(reply));
        self
    }

    /// Answers every challenge with this.
    pub fn credential(self, credential: UrlCredential) -> Self {
        self.challenge(move |_, handler| handler(AuthChallengeDisposition::UseCredential, Some(credential.clone())))
    }

    pub fn metrics(mut self, look: impl Fn(&TaskMetrics) + Send + Sync + 'static) -> Self {
        self.on_metrics = Box::new(look);
        self
    }

    /// Notes a challenge of `whose` and replies to it.
    fn challenged(&self, whose: &str, challenge: &AuthenticationChallenge, handler: ChallengeHandler) {
        if challenge.protection_space().authentication_method() != AuthenticationMethod::ServerTrust {
            self.recorder.note(format!("{whose}challenge {}", shown(challenge)));
            return (self.on_challenge)(challenge, handler);
        }
        match &self.on_trust {
            Some(reply) => {
                self.recorder.note(format!("{whose}challenge {}", shown(challenge)));
                reply(challenge, handler);
            }
            None => handler(AuthChallengeDisposition::PerformDefaultHandling, None),
        }
    }

    pub fn session(self, configuration: SessionConfiguration) -> UrlSession {
        self.session_on(configuration, None)
    }

    pub fn session_on(self, configuration: SessionConfiguration, queue: Option<OperationQueue>) -> UrlSession {
        UrlSession::with_delegate(configuration, Some(Arc::new(self)), queue)
    }
}

/// What a delegate was shown or told, for later.
pub struct Kept<T>(Arc<(Mutex<Vec<T>>, Condvar)>);

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Kept<T> {
    pub fn push(&self, value: T) {
        self.0.0.lock().unwrap().push(value);
        self.0.1.notify_all();
    }

    /// Everything so far, the first first; nothing of it is left.
    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.0.0.lock().unwrap())
    }

    /// Waits until there is something; the last of it.
    #[track_caller]
    pub fn wait(&self) -> T {
        let (values, changed) = &*self.0;
        let wait = changed.wait_timeout_while(values.lock().unwrap(), PATIENCE, |values| values.is_empty());
        wait.unwrap().0.pop().expect("it comes in time")
    }
}

/// Resumes the task and waits until it is open and has its message back, or has ended.
#[track_caller]
pub fn run(task: &WebSocketTask) -> Result<(), UrlError> {
    let (sender, receiver) = mpsc::channel();
    task.send("there and back", |_| {});
    task.receive(move |message| {
        let _ = sender.send(message);
    });
    task.resume();
    let message = receiver.recv_timeout(PATIENCE).expect("the task opens or ends")?;
    assert_eq!(message, "there and back".into());
    Ok(())
}

/// As it is written down: method, realm, failures, and who is proposed.
pub fn shown(challenge: &AuthenticationChallenge) -> String {
    let space = challenge.protection_space();
    let method = match space.authentication_method() {
        AuthenticationMethod::HttpBasic => "basic",
        AuthenticationMethod::HttpDigest => "digest",
        AuthenticationMethod::Ntlm => "ntlm",
        AuthenticationMethod::Negotiate => "negotiate",
        AuthenticationMethod::ServerTrust => "trust",
        AuthenticationMethod::ClientCertificate => "certificate",
        _ => "other",
    };
    let user = challenge.proposed_credential().and_then(UrlCredential::user);
    format!("{method} {} {} {}", space.realm().unwrap_or("-"), challenge.previous_failure_count(), user.unwrap_or("-"))
}

impl SessionDelegate for Guide {
    fn did_become_invalid_with_error(&self, session: &UrlSession, error: Option<&UrlError>) {
        self.recorder.did_become_invalid_with_error(session, error);
    }

    fn did_receive_challenge(&self, _: &UrlSession, challenge: &AuthenticationChallenge, handler: ChallengeHandler) {
        self.challenged("session ", challenge, handler);
    }
}

impl TaskDelegate for Guide {
    fn will_perform_http_redirection(
        &self,
        _: &UrlSession,
        task: &SessionTask,
        response: &HttpUrlResponse,
        new_request: UrlRequest,
        completion_handler: RedirectionHandler,
    ) {
        self.recorder.note(format!("redirect {} {}", response.status_code(), new_request.url.path()));
        (self.on_redirect)(task, response, new_request, completion_handler);
    }

    fn task_did_receive_challenge(
        &self,
        _: &UrlSession,
        _: &SessionTask,
        challenge: &AuthenticationChallenge,
        completion_handler: ChallengeHandler,
    ) {
        self.challenged("", challenge, completion_handler);
    }

    fn did_receive_informational_response(&self, session: &UrlSession, task: &SessionTask, response: &HttpUrlResponse) {
        self.recorder.did_receive_informational_response(session, task, response);
    }

    fn did_finish_collecting_metrics(&self, _: &UrlSession, _: &SessionTask, metrics: &TaskMetrics) {
        (self.on_metrics)(metrics);
    }

    fn did_complete_with_error(&self, session: &UrlSession, task: &SessionTask, error: Option<&UrlError>) {
        self.recorder.did_complete_with_error(session, task, error);
    }
}

impl WebSocketDelegate for Guide {
    fn did_open_with_protocol(&self, session: &UrlSession, task: &WebSocketTask, protocol: Option<&str>) {
        self.recorder.did_open_with_protocol(session, task, protocol);
    }

    fn did_close_with(&self, session: &UrlSession, task: &WebSocketTask, code: CloseCode, reason: Option<&[u8]>) {
        self.recorder.did_close_with(session, task, code, reason);
    }
}
