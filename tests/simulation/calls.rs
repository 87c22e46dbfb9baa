//! The calls that the caller of a run made, and what became of their handlers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use urlsession::{Message, UrlError};

use crate::peer::Plain;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Send,
    Receive,
    Ping,
}

/// What a handler was called with.
#[derive(Debug)]
pub enum Outcome {
    Done(Option<Plain>),
    Failed(UrlError),
    /// It was dropped and never called.
    Dropped,
}

type Log = Arc<Mutex<Vec<(Kind, usize, Outcome)>>>;

/// In a handler: it notes that it goes, whether or not it was called.
struct Token {
    log: Log,
    kind: Kind,
    index: usize,
    called: bool,
}

impl Token {
    fn call(mut self, outcome: Outcome) {
        self.called = true;
        self.log.lock().unwrap().push((self.kind, self.index, outcome));
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if !self.called {
            self.log.lock().unwrap().push((self.kind, self.index, Outcome::Dropped));
        }
    }
}

/// Hands out handlers, and gives back what they were called with.
#[derive(Default)]
pub struct Handlers {
    log: Log,
}

pub use urlsession::internals::Completion as Handler;

impl Handlers {
    pub fn unit(&self, kind: Kind, index: usize) -> Handler<()> {
        let token = self.token(kind, index);
        Handler::new(move |result: Result<(), UrlError>| {
            token.call(result.map_or_else(Outcome::Failed, |()| Outcome::Done(None)))
        })
    }

    pub fn message(&self, index: usize) -> Handler<Message> {
        let token = self.token(Kind::Receive, index);
        Handler::new(move |result: Result<Message, UrlError>| {
            token.call(result.map_or_else(Outcome::Failed, |message| Outcome::Done(Some(plain(message)))));
        })
    }

    fn token(&self, kind: Kind, index: usize) -> Token {
        Token { log: Arc::clone(&self.log), kind, index, called: false }
    }

    /// What happened since the last time.
    pub fn take(&self) -> Vec<(Kind, usize, Outcome)> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }
}

pub fn plain(message: Message) -> Plain {
    match message {
        Message::String(text) => (true, text.into_bytes()),
        Message::Data(data) => (false, data),
        _ => panic!("another kind of message"),
    }
}

pub fn message((text, payload): Plain) -> Message {
    if text { Message::String(String::from_utf8(payload).expect("text")) } else { Message::Data(payload) }
}

/// A call of `send`.
pub struct Sending {
    pub message: Plain,
    /// It has to fail, with this number.
    pub refused: Option<i32>,
}

/// The calls of one kind whose handlers have not been called, and how many there were.
#[derive(Default)]
pub struct Line {
    pub made: usize,
    waiting: VecDeque<usize>,
}

impl Line {
    /// A call; its index.
    pub fn call(&mut self) -> usize {
        self.made += 1;
        self.waiting.push_back(self.made - 1);
        self.made - 1
    }

    /// The handler of the call `index` was called: it must be the oldest.
    pub fn answered(&mut self, kind: Kind, index: usize) {
        let oldest = self.waiting.pop_front();
        assert_eq!(oldest, Some(index), "{kind:?} handlers are called once, in the order of their calls");
    }

    pub fn withdraw(&mut self, index: usize) {
        self.waiting.retain(|waiting| *waiting != index);
    }

    pub fn waiting(&self) -> &VecDeque<usize> {
        &self.waiting
    }
}
