//! The sends of a task whose handlers have not been called: one entry each, in the order of the calls.

use std::collections::VecDeque;

use super::event::Event;
use crate::foundation::{Completion, UrlError};

struct Send {
    handler: Completion<()>,
    bytes: usize,
    fate: Fate,
}

enum Fate {
    /// The task is not open yet; the message waits to be framed.
    Waiting,
    /// The message ends at this position of the frames.
    Position(u64),
    /// It will not be sent; the handler waits for those before it.
    Failed(UrlError),
}

/// Handlers of sends, first called first.
#[derive(Default)]
pub struct Sends {
    entries: VecDeque<Send>,
    /// Payload bytes of the entries that have not failed.
    buffered: usize,
    /// Payload bytes of the messages that were handed to the kernel.
    sent: u64,
}

impl Sends {
    /// A message that is not framed yet.
    pub fn waits(&mut self, bytes: usize, handler: Completion<()>) {
        self.buffered += bytes;
        self.entries.push_back(Send { handler, bytes, fate: Fate::Waiting });
    }

    /// A message whose frames end at `position`.
    pub fn framed(&mut self, bytes: usize, position: u64, handler: Completion<()>) {
        self.buffered += bytes;
        self.entries.push_back(Send { handler, bytes, fate: Fate::Position(position) });
    }

    /// A message that is refused; its handler keeps its place.
    pub fn refused(&mut self, error: UrlError, handler: Completion<()>, events: &mut Vec<Event>) {
        if self.entries.is_empty() {
            events.push(Event::Sent(handler, Err(error)));
        } else {
            self.entries.push_back(Send { handler, bytes: 0, fate: Fate::Failed(error) });
        }
    }

    /// The messages that waited are framed now, in order; each ends at the next of `positions`.
    pub fn positioned(&mut self, positions: impl IntoIterator<Item = u64>) {
        let mut positions = positions.into_iter();
        for send in self.entries.iter_mut().filter(|send| matches!(send.fate, Fate::Waiting)) {
            let Some(position) = positions.next() else { return };
            send.fate = Fate::Position(position);
        }
    }

    /// Frames up to `position` were handed to the kernel.
    pub fn written(&mut self, position: u64, events: &mut Vec<Event>) {
        while let Some(send) = self.entries.front() {
            match send.fate {
                Fate::Position(end) if end <= position => {}
                Fate::Failed(_) => {}
                _ => return,
            }
            let Some(Send { handler, bytes, fate }) = self.entries.pop_front() else { return };
            if let Fate::Failed(error) = fate {
                events.push(Event::Sent(handler, Err(error)));
            } else {
                self.buffered -= bytes;
                self.sent += bytes as u64;
                events.push(Event::Sent(handler, Ok(())));
            }
        }
    }

    /// Nothing is sent any more.
    pub fn fail(&mut self, error: &UrlError, events: &mut Vec<Event>) {
        self.buffered = 0;
        for Send { handler, fate, .. } in std::mem::take(&mut self.entries) {
            let error = if let Fate::Failed(error) = fate { error } else { error.clone() };
            events.push(Event::Sent(handler, Err(error)));
        }
    }

    /// Payload bytes that were given to `send` and not yet written.
    pub fn buffered(&self) -> usize {
        self.buffered
    }

    /// Payload bytes that were written.
    pub fn sent(&self) -> u64 {
        self.sent
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::foundation::{ErrorCode, ErrorStage};

    fn error(code: ErrorCode) -> UrlError {
        UrlError::new(code, ErrorStage::Open, "why")
    }

    /// Handlers that note their number and what they were called with: 0 for `Ok`.
    #[derive(Default)]
    struct Log(Arc<Mutex<Vec<(usize, i32)>>>);

    impl Log {
        fn handler(&self, number: usize) -> Completion<()> {
            let log = Arc::clone(&self.0);
            Completion::new(move |result: Result<(), UrlError>| {
                let code = result.map_or_else(|error| error.raw_code(), |()| 0);
                log.lock().unwrap().push((number, code));
            })
        }

        fn run(&self, events: &mut Vec<Event>) -> Vec<(usize, i32)> {
            for event in events.drain(..) {
                let Event::Sent(handler, result) = event else { panic!("{event:?}") };
                handler.call(result);
            }
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    #[test]
    fn handlers_are_called_in_the_order_of_the_calls() {
        let (mut sends, log, mut events) = (Sends::default(), Log::default(), Vec::new());
        sends.refused(error(ErrorCode::NoBufferSpace), log.handler(0), &mut events);
        assert_eq!(log.run(&mut events), [(0, 55)]);
        sends.framed(10, 16, log.handler(1));
        sends.refused(error(ErrorCode::NoBufferSpace), log.handler(2), &mut events);
        sends.framed(20, 42, log.handler(3));
        assert_eq!((sends.buffered(), sends.sent()), (30, 0));
        sends.written(15, &mut events);
        assert_eq!(log.run(&mut events), []);
        sends.written(16, &mut events);
        assert_eq!(log.run(&mut events), [(1, 0), (2, 55)]);
        assert_eq!((sends.buffered(), sends.sent()), (20, 10));
        sends.written(42, &mut events);
        assert_eq!(log.run(&mut events), [(3, 0)]);
        assert_eq!((sends.buffered(), sends.sent()), (0, 30));
    }

    #[test]
    fn messages_from_before_the_opening_wait_for_their_positions() {
        let (mut sends, log, mut events) = (Sends::default(), Log::default(), Vec::new());
        sends.waits(1, log.handler(0));
        sends.refused(error(ErrorCode::NoBufferSpace), log.handler(1), &mut events);
        sends.waits(2, log.handler(2));
        sends.waits(3, log.handler(3));
        sends.written(u64::MAX, &mut events);
        assert_eq!(log.run(&mut events), []);
        sends.positioned([7, 15]);
        sends.written(15, &mut events);
        assert_eq!(log.run(&mut events), [(0, 0), (1, 55), (2, 0)]);
        assert_eq!((sends.buffered(), sends.sent()), (3, 3));
    }

    #[test]
    fn at_the_end_all_fail_and_what_was_refused_keeps_its_reason() {
        let (mut sends, log, mut events) = (Sends::default(), Log::default(), Vec::new());
        sends.framed(10, 16, log.handler(0));
        sends.refused(error(ErrorCode::NoBufferSpace), log.handler(1), &mut events);
        sends.waits(5, log.handler(2));
        sends.fail(&error(ErrorCode::Cancelled), &mut events);
        assert_eq!(log.run(&mut events), [(0, -999), (1, 55), (2, -999)]);
        assert_eq!((sends.buffered(), sends.sent()), (0, 0));
        sends.written(u64::MAX, &mut events);
        assert_eq!(log.run(&mut events), []);
    }
}
