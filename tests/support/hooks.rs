//! A delegate that brings every callback to one closure.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use urlsession::{
    CloseCode, HttpUrlResponse, SessionDelegate, SessionTask, TaskDelegate, TaskMetrics, UrlError, UrlSession,
    WebSocketDelegate, WebSocketTask,
};

use super::PATIENCE;

/// A callback of a delegate, with what it was told.
#[derive(Clone, Copy, Debug)]
pub enum Called<'a> {
    Create,
    Informational(&'a HttpUrlResponse),
    Open(Option<&'a str>),
    Close(CloseCode, Option<&'a [u8]>),
    Metrics(&'a TaskMetrics),
    Complete(Option<&'a UrlError>),
    Invalid(Option<&'a UrlError>),
}

impl Called<'_> {
    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Informational(_) => "informational",
            Self::Open(_) => "open",
            Self::Close(..) => "close",
            Self::Metrics(_) => "metrics",
            Self::Complete(_) => "complete",
            Self::Invalid(_) => "invalid",
        }
    }
}

/// The delegate; made by [`hooks`].
pub struct Hooks<F>(F);

/// A delegate whose every method calls `hook`. Only the callback of the session has no task.
pub fn hooks<F>(hook: F) -> Arc<Hooks<F>>
where
    F: Fn(&UrlSession, Option<&WebSocketTask>, Called<'_>) + Send + Sync + 'static,
{
    Arc::new(Hooks(hook))
}

impl<F> SessionDelegate for Hooks<F>
where
    F: Fn(&UrlSession, Option<&WebSocketTask>, Called<'_>) + Send + Sync + 'static,
{
    fn did_become_invalid_with_error(&self, session: &UrlSession, error: Option<&UrlError>) {
        (self.0)(session, None, Called::Invalid(error));
    }
}

impl<F> TaskDelegate for Hooks<F>
where
    F: Fn(&UrlSession, Option<&WebSocketTask>, Called<'_>) + Send + Sync + 'static,
{
    fn did_create_task(&self, session: &UrlSession, task: &SessionTask) {
        (self.0)(session, task.as_web_socket_task().as_ref(), Called::Create);
    }

    fn did_receive_informational_response(&self, session: &UrlSession, task: &SessionTask, response: &HttpUrlResponse) {
        (self.0)(session, task.as_web_socket_task().as_ref(), Called::Informational(response));
    }

    fn did_finish_collecting_metrics(&self, session: &UrlSession, task: &SessionTask, metrics: &TaskMetrics) {
        (self.0)(session, task.as_web_socket_task().as_ref(), Called::Metrics(metrics));
    }

    fn did_complete_with_error(&self, session: &UrlSession, task: &SessionTask, error: Option<&UrlError>) {
        (self.0)(session, task.as_web_socket_task().as_ref(), Called::Complete(error));
    }
}

impl<F> WebSocketDelegate for Hooks<F>
where
    F: Fn(&UrlSession, Option<&WebSocketTask>, Called<'_>) + Send + Sync + 'static,
{
    fn did_open_with_protocol(&self, session: &UrlSession, task: &WebSocketTask, protocol: Option<&str>) {
        (self.0)(session, Some(task), Called::Open(protocol));
    }

    fn did_close_with(&self, session: &UrlSession, task: &WebSocketTask, code: CloseCode, reason: Option<&[u8]>) {
        (self.0)(session, Some(task), Called::Close(code, reason));
    }
}

/// Looks again and again until `done`, for what tells of itself to nobody (counts of threads, of references).
#[track_caller]
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "in vain waited for: {what}");
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// Numbers that look random and repeat with their seed: SplitMix64.
pub struct Dice(pub u64);

impl Dice {
    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}
