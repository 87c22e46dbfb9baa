//! The sends of a task whose handlers have not been called: one entry each, in the order of the calls.

use std::collections::VecDeque;

use super::event::{Completion, Event};
use crate::foundation::UrlError;

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
