//! The receives that wait for messages.

use std::collections::VecDeque;
use std::fmt;

use crate::foundation::{Completion, Message};

/// A receive that waits for its message.
pub struct Receive {
    /// Counts the receives of a task, but for those that nobody withdraws.
    pub number: u64,
    /// What the message goes to.
    pub handler: Completion<Message>,
}

impl fmt::Debug for Receive {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Receive").field("number", &self.number).finish_non_exhaustive()
    }
}

/// The receives that wait, first asked for first. Nearly always there is one, which needs no memory of its own.
#[derive(Default)]
pub struct Receives {
    /// There is one where any waits.
    pub first: Option<Receive>,
    pub others: VecDeque<Receive>,
}

impl Receives {
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.len()
    }

    pub fn push_back(&mut self, receive: Receive) {
        match &self.first {
            None => self.first = Some(receive),
            Some(_) => self.others.push_back(receive),
        }
    }

    pub fn push_front(&mut self, receive: Receive) {
        if let Some(second) = self.first.replace(receive) {
            self.others.push_front(second);
        }
    }

    pub fn pop_front(&mut self) -> Option<Receive> {
        std::mem::replace(&mut self.first, self.others.pop_front())
    }

    pub fn remove(&mut self, number: u64) -> Option<Receive> {
        if self.first.as_ref().is_some_and(|receive| receive.number == number) {
            return self.pop_front();
        }
        let index = self.others.iter().position(|receive| receive.number == number)?;
        self.others.remove(index)
    }
}
