//! Memory that is lent to tasks while they are busy, so that an idle one keeps none and a busy one asks the allocator for
//! none.

use std::collections::VecDeque;
use std::fmt;

use super::sends::{Line, Send, SentBatch};
use crate::foundation::Bundle;

/// How many bundles are kept, of some 64 KiB each.
const BUNDLES: usize = 4;

/// How many lists of sends are kept, of some 40 KiB each.
const LISTS: usize = 2;

/// What a thread lends, and what a task has emptied since it last gave back.
#[derive(Default)]
pub struct Spare {
    bundles: Vec<Bundle>,
    line: Option<Box<Line>>,
    lists: Vec<VecDeque<Send>>,
}

impl Spare {
    /// Whether there is nothing that a task could have emptied.
    pub fn is_empty(&self) -> bool {
        self.bundles.is_empty() && self.lists.is_empty()
    }

    /// An empty bundle.
    pub fn bundle(&mut self) -> Bundle {
        self.bundles.pop().unwrap_or_default()
    }

    /// Keeps a bundle that is not needed any more.
    pub fn keep_bundle(&mut self, mut bundle: Bundle) {
        if self.bundles.len() < BUNDLES && bundle.has_memory() {
            bundle.clear();
            self.bundles.push(bundle);
        }
    }

    pub(super) fn line(&mut self) -> Box<Line> {
        self.line.take().unwrap_or_default()
    }

    pub(super) fn keep_line(&mut self, line: Box<Line>) {
        self.line = Some(line);
    }

    pub(super) fn list(&mut self) -> VecDeque<Send> {
        self.lists.pop().unwrap_or_default()
    }

    /// Keeps the memory of sends whose handlers were called.
    pub fn keep_sent(&mut self, sent: SentBatch) {
        let list = sent.into_list();
        if self.lists.len() < LISTS && list.is_empty() && list.capacity() > 0 {
            self.lists.push(list);
        }
    }

    /// Takes over what `other` has, as far as it is worth keeping.
    pub fn append(&mut self, other: &mut Self) {
        if other.is_empty() {
            return;
        }
        self.bundles.append(&mut other.bundles);
        self.bundles.truncate(BUNDLES);
        self.lists.append(&mut other.lists);
        self.lists.truncate(LISTS);
    }
}

impl fmt::Debug for Spare {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Spare")
            .field("bundles", &self.bundles.len())
            .field("lists", &self.lists.len())
            .finish_non_exhaustive()
    }
}
