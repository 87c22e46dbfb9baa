//! What waits for user code: the callbacks of one task, in the order in which they are told.
//!
//! Events come in from the loader; one callback at a time goes out to the delegate queue. Messages wait here for a
//! receive, and the end waits behind them; nothing else waits for a receive. What fails because of the end comes when the messages that
//! have a receive are told, whether or not others still wait for one.

mod callback;
mod receives;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

pub use callback::Callback;
use receives::{Receive, Receives};

use super::event::{End, Event};
use super::question::Question;
use super::sends::SentBatch;
use super::spare::Spare;
use crate::foundation::{Bundle, Completion, Message, UrlError};

/// What an unread message costs besides its payload: a peer that sends empty messages is stopped, too.
const MESSAGE_OVERHEAD: usize = 64;

/// How many receives are remembered that took a message which had been given back.
const RETAKEN: usize = 64;

/// Room for how many callbacks, and for how many messages, is kept.
const PLACES_KEPT: usize = 1024;

/// The number of receives that are never withdrawn and give nothing back.
const FOR_GOOD: u64 = u64::MAX;

/// How much is read ahead where a message may have any size.
const DEFAULT_READ_AHEAD: usize = 1024 * 1024;

enum Item {
    Message(Message),
    /// At least one.
    Messages(Bundle),
    End(Box<End>),
}

/// What is told before all else.
enum Prompt {
    One(Callback),
    /// At least one.
    AllSent(SentBatch),
}

impl Prompt {
    fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::AllSent(sent) => sent.len(),
        }
    }
}

/// How far the end has been told.
#[derive(Default)]
enum Telling {
    #[default]
    /// There is no end, or it waits behind messages.
    NotYet,
    /// What failed before this step is told first, and nothing that failed since: a handler that asks again whenever it
    /// fails cannot hold the end back.
    Step { step: Step, end: Box<End>, due: Option<usize> },
    /// Everything is told; later calls fail with this.
    Told(UrlError),
}

/// A part of the end.
#[derive(Clone, Copy)]
enum Step {
    Close,
    Metrics,
    Complete,
}

/// The mailbox of one task.
pub struct Mailbox {
    prompt: VecDeque<Prompt>,
    seldom: Option<Box<Seldom>>,
    /// The end is known; it stands in `stream`, or is told.
    ended: bool,
    /// The server broke the protocol behind the messages in `stream`, and the road waits to hear that they are told.
    fault: bool,
    /// A handler was told of the end.
    showed_end: bool,
    /// A message was taken since the session last looked.
    taken: bool,
    /// Messages that nobody took are not wanted any more.
    discarding: bool,
    /// How many messages went to receives that may be withdrawn, and are neither [taken](Self::taken) nor given back.
    held: u32,
    stream: VecDeque<Item>,
    /// How many messages came, and how many of them left `stream`.
    arrived: u64,
    departed: u64,
    receives: Receives,
    next_receive: u64,
    /// Memory that was emptied by a turn.
    spare: Spare,
    /// Bytes of the messages in `stream`, with their overhead.
    unread: usize,
    read_ahead: usize,
    /// Reading was stopped because of `unread`.
    stopped: bool,
}

/// What an open task has seldom, and an idle one never.
#[derive(Default)]
struct Seldom {
    /// Pongs, each with the number of messages that came before it.
    pongs: VecDeque<(u64, Callback)>,
    /// What fails because of the end.
    failures: VecDeque<Callback>,
    /// Messages that a receive took and whose receiver was gone, by the number of that receive: first of all.
    returned: BTreeMap<u64, Message>,
    /// Receives that took such a message, with the number that it keeps its place by if it comes back again.
    retaken: BTreeMap<u64, u64>,
    telling: Telling,
}

impl Seldom {
    fn is_default(&self) -> bool {
        self.pongs.is_empty()
            && self.failures.is_empty()
            && self.returned.is_empty()
            && self.retaken.is_empty()
            && matches!(self.telling, Telling::NotYet)
    }
}

impl Default for Mailbox {
    fn default() -> Self {
        Self {
            prompt: VecDeque::new(),
            seldom: None,
            ended: false,
            fault: false,
            showed_end: false,
            taken: false,
            discarding: false,
            held: 0,
            stream: VecDeque::new(),
            arrived: 0,
            departed: 0,
            receives: Receives::default(),
            next_receive: 0,
            spare: Spare::default(),
            unread: 0,
            read_ahead: DEFAULT_READ_AHEAD,
            stopped: false,
        }
    }
}

impl Mailbox {
    fn seldom(&mut self) -> &mut Seldom {
        self.seldom.get_or_insert_default()
    }

    fn telling(&self) -> &Telling {
        self.seldom.as_ref().map_or(&Telling::NotYet, |seldom| &seldom.telling)
    }

    fn pongs(&self) -> usize {
        self.seldom.as_ref().map_or(0, |seldom| seldom.pongs.len())
    }

    fn failures(&self) -> usize {
        self.seldom.as_ref().map_or(0, |seldom| seldom.failures.len())
    }

    fn returned(&self) -> usize {
        self.seldom.as_ref().map_or(0, |seldom| seldom.returned.len())
    }

    /// Takes what happened.
    pub fn deliver(&mut self, event: Event) {
        match event {
            Event::Message(_) | Event::Messages(_) if self.discarding => {}
            Event::Messages(messages) => {
                self.unread += messages.bytes() + messages.len() * MESSAGE_OVERHEAD;
                self.arrived += messages.len() as u64;
                self.stream.push_back(Item::Messages(messages));
            }
            Event::Message(message) => {
                self.unread += message.len() + MESSAGE_OVERHEAD;
                self.arrived += 1;
                self.stream.push_back(Item::Message(message));
            }
            Event::Sent(handler, result) => self.answer(Callback::Sent(handler, result)),
            Event::AllSent(mut sent) if self.ended => {
                while let Some(handler) = sent.pop() {
                    self.answer(Callback::Sent(handler, Ok(())));
                }
            }
            Event::AllSent(sent) => self.prompt.push_back(Prompt::AllSent(sent)),
            Event::Pong(handler, result) => self.answer(Callback::Pong(handler, result)),
            Event::Open { protocol } => self.prompt.push_back(Prompt::One(Callback::Open(protocol))),
            Event::Question(question) => self.ask(question, 0),
            Event::WaitingForConnectivity => self.prompt.push_back(Prompt::One(Callback::WaitingForConnectivity)),
            Event::Informational(response) => self.prompt.push_back(Prompt::One(Callback::Informational(response))),
            Event::End(end) => {
                self.ended = true;
                self.stream.push_back(Item::End(end));
            }
            Event::Fault => self.fault = true,
            Event::DiscardUnread => self.discard_unread(),
            // Whoever takes messages, or waits for one, gets those that came.
            Event::UnreadDue if std::mem::take(&mut self.taken) => {}
            Event::UnreadDue if !self.receives.is_empty() && !self.is_held_back() => {}
            Event::UnreadDue => self.discard_unread(),
        }
    }

    /// A question to a delegate, which so many have passed on. Once the task has ended nobody is asked.
    pub fn ask(&mut self, question: Arc<Question>, passed_on: usize) {
        if !self.ended {
            self.prompt.push_back(Prompt::One(Callback::Question(question, passed_on)));
        }
    }

    /// A receive waits for the next message. Nobody withdraws it.
    pub fn receive_for_good(&mut self, handler: Completion<Message>) {
        if let Some(receive) = self.after_end(Receive { number: FOR_GOOD, handler }) {
            self.receives.push_back(receive);
        }
    }

    /// A receive waits for the next message; its number, which its handler may know. It may be withdrawn.
    pub fn receive(&mut self, handler: impl FnOnce(u64) -> Completion<Message>) -> u64 {
        let number = self.next_receive;
        self.next_receive += 1;
        let receive = Receive { number, handler: handler(number) };
        if let Some(receive) = self.after_end(receive) {
            self.receives.push_back(receive);
        }
        number
    }

    /// A receive that is asked for when the end is being told fails with what later calls fail with.
    fn after_end(&mut self, receive: Receive) -> Option<Receive> {
        let error = match self.telling() {
            Telling::NotYet => return Some(receive),
            Telling::Step { end, .. } => end.later.clone(),
            Telling::Told(error) => error.clone(),
        };
        self.seldom().failures.push_back(Callback::Received(receive, Err(error)));
        None
    }

    /// As [`receive_for_good`](Self::receive_for_good), for a receive that was asked for before all others that wait.
    pub fn receive_first(&mut self, handler: Completion<Message>) {
        if let Some(receive) = self.after_end(Receive { number: FOR_GOOD, handler }) {
            self.receives.push_front(receive);
        }
    }

    /// Whether a receive that is asked for now has its place behind others: one waits, or the end is being told, and all
    /// fail in the order of their calls.
    pub fn has_receive(&self) -> bool {
        !self.receives.is_empty() || !matches!(self.telling(), Telling::NotYet)
    }

    /// A receive that nobody waits for any more is taken back, if it still waits. The caller drops it.
    pub fn withdraw_receive(&mut self, number: u64) -> Option<Receive> {
        self.receives.remove(number)
    }

    /// The program has a message that went to a receive that may be withdrawn: it does not come back.
    pub fn taken(&mut self) {
        self.held = self.held.saturating_sub(1);
        self.taken = true;
    }

    /// Puts a message back in front of those that wait: whoever took it is gone. Once the end is told, nobody can take it.
    pub fn give_back(&mut self, receive: u64, message: Message) {
        self.held = self.held.saturating_sub(1);
        if matches!(self.telling(), Telling::NotYet) && !self.discarding {
            self.unread += message.len() + MESSAGE_OVERHEAD;
            let seldom = self.seldom();
            let place = seldom.retaken.remove(&receive).unwrap_or(receive);
            seldom.returned.insert(place, message);
        }
    }

    /// The next call of user code; `None`: nothing can be told now.
    #[allow(clippy::should_implement_trait, reason = "a mailbox that has nothing now may have something later")]
    pub fn next(&mut self) -> Option<Callback> {
        if let Some(callback) = self.prompt() {
            return Some(callback);
        }
        if let Some(pong) = self.pong() {
            return Some(pong);
        }
        if let Telling::NotYet = self.telling() {
            if self.fault && (self.receives.is_empty() || !self.has_message()) {
                self.fault = false;
                return Some(Callback::Fault);
            }
            if self.has_message() {
                if self.receives.is_empty() {
                    return self.failure();
                }
                if let Some((place, message)) = self.seldom.as_mut().and_then(|seldom| seldom.returned.pop_first()) {
                    self.retake(place);
                    return self.received(message);
                }
            }
            if self.is_held_back() {
                return self.failure();
            }
            let item = self.stream.pop_front();
            give_memory_back(&mut self.stream);
            match item {
                Some(Item::Message(message)) => {
                    self.departed += 1;
                    return self.received(message);
                }
                Some(Item::Messages(mut messages)) => {
                    let message = messages.pop();
                    self.take_back_bundle(messages);
                    self.departed += 1;
                    return message.and_then(|message| self.received(message));
                }
                Some(Item::End(end)) => self.begin_end(end),
                None => return None,
            }
        }
        self.tell_end()
    }

    /// Moves callbacks into `batch`, up to `most`, as [`next`](Self::next) would give them one by one. What user code does
    /// meanwhile cannot change those, but for the first: where the end begins, or anything else that does depend on it,
    /// the batch ends before that. So it does before a receive that may be withdrawn.
    pub fn next_batch(&mut self, batch: &mut VecDeque<Callback>, most: usize) {
        while batch.len() < most {
            let settled = !self.prompt.is_empty()
                || self.pong_is_due()
                || (self.has_message() && !self.receives.is_empty() && matches!(self.telling(), Telling::NotYet));
            if !settled && !batch.is_empty() {
                return;
            }
            if self.receives.first.as_ref().is_some_and(|receive| receive.number != FOR_GOOD) && !batch.is_empty() {
                return;
            }
            let Some(callback) = self.next() else { return };
            batch.push_back(callback);
            if !settled {
                return;
            }
        }
    }

    /// Puts back what was taken by [`next_batch`](Self::next_batch) and not told, in front of everything else. Messages that
    /// are not wanted any more are dropped, and their receives wait again.
    pub fn put_back(&mut self, batch: &mut VecDeque<Callback>) {
        while let Some(callback) = batch.pop_back() {
            match callback {
                Callback::Received(receive, Ok(_)) if self.discarding => self.receives.push_front(receive),
                callback => self.prompt.push_front(Prompt::One(callback)),
            }
        }
    }

    /// Lends out the messages that are next and came together, for receives that are asked for one by one. Nothing where
    /// something else is to be told before them. They count as unread until they come back, or come back as taken.
    pub fn lend(&mut self) -> Option<Bundle> {
        let plain = self.prompt.is_empty() && self.pongs() == 0 && self.returned() == 0;
        if !plain || !self.receives.is_empty() || !matches!(self.telling(), Telling::NotYet) {
            return None;
        }
        match self.stream.front_mut() {
            Some(Item::Messages(messages)) => {
                let messages = std::mem::take(messages);
                self.stream.pop_front();
                Some(messages)
            }
            _ => None,
        }
    }

    /// Takes back what was lent, which was `count` messages with so many bytes: those that are gone were told.
    pub fn take_back(&mut self, messages: Bundle, count: usize, bytes: usize) {
        let taken = count.saturating_sub(messages.len());
        if taken > 0 {
            self.taken = true;
            self.departed = self.arrived.min(self.departed + taken as u64);
            let bytes = bytes.saturating_sub(messages.bytes());
            self.unread = self.unread.saturating_sub(bytes + taken * MESSAGE_OVERHEAD);
        }
        self.take_back_bundle(messages);
    }

    /// Memory that was emptied; an idle task is to keep none.
    pub fn spare(&mut self) -> &mut Spare {
        &mut self.spare
    }

    /// All of that memory, if there is any.
    pub fn take_spare(&mut self) -> Option<Spare> {
        (!self.spare.is_empty()).then(|| std::mem::take(&mut self.spare))
    }

    /// The sends that are to be told of next, if they are and are many.
    pub fn take_sent(&mut self) -> Option<SentBatch> {
        let Some(Prompt::AllSent(sent)) = self.prompt.front_mut() else { return None };
        let sent = std::mem::take(sent);
        self.prompt.pop_front();
        give_memory_back(&mut self.prompt);
        Some(sent)
    }

    /// Takes back what [`take_sent`](Self::take_sent) gave.
    pub fn put_back_sent(&mut self, sent: SentBatch) {
        if sent.is_empty() {
            self.spare.keep_sent(sent);
        } else {
            self.prompt.push_front(Prompt::AllSent(sent));
        }
    }

    fn take_back_bundle(&mut self, messages: Bundle) {
        if !messages.is_empty() && !self.discarding {
            self.stream.push_front(Item::Messages(messages));
        } else {
            self.spare.keep_bundle(messages);
        }
    }

    /// Whether [`next`](Self::next) has something.
    pub fn has_next(&self) -> bool {
        if !self.prompt.is_empty() || self.pongs() > 0 || self.failures() > 0 {
            return true;
        }
        match self.telling() {
            Telling::NotYet if self.has_message() => self.fault || !self.receives.is_empty(),
            Telling::NotYet => self.fault || !(self.stream.is_empty() || self.is_held_back()),
            Telling::Step { .. } => true,
            Telling::Told(_) => false,
        }
    }

    /// How many callbacks [`next`](Self::next) would give out now, one after the other.
    pub fn waiting(&self) -> usize {
        let prompt = self.prompt.iter().map(Prompt::len).sum::<usize>();
        let in_stream = usize::try_from(self.arrived - self.departed).unwrap_or(usize::MAX);
        let end = usize::from(self.ended && !self.holds_end());
        let messages = self.returned() + in_stream + end;
        let told = match self.telling() {
            Telling::NotYet => messages.min(self.receives.len() + end),
            Telling::Step { .. } => 1,
            Telling::Told(_) => 0,
        };
        prompt + self.pongs() + self.failures() + told
    }

    /// Whether a handler was told of the end: the task reads `Completed`.
    pub fn is_ending(&self) -> bool {
        self.showed_end || !matches!(self.telling(), Telling::NotYet)
    }

    /// Whether `did_complete_with_error` has been given out.
    pub fn is_told(&self) -> bool {
        matches!(self.telling(), Telling::Told(_))
    }

    /// How much is read ahead: one message of the largest size, 1 MiB where there is no largest (0).
    pub fn set_maximum_message_size(&mut self, bytes: usize) {
        self.read_ahead = if bytes == 0 { DEFAULT_READ_AHEAD } else { bytes };
    }

    /// Whether more may be read from the socket. Where not, [`must_read_on`](Self::must_read_on) says when it may again.
    pub fn may_read_on(&mut self) -> bool {
        self.stopped |= self.unread >= self.read_ahead;
        !self.stopped
    }

    /// Whether reading was stopped and may go on: half of what may be unread is free again.
    pub fn must_read_on(&mut self) -> bool {
        if !self.stopped || self.unread > self.read_ahead / 2 {
            return false;
        }
        self.stopped = false;
        true
    }

    /// Whether a message may still come back. The end keeps its place behind it.
    fn holds_end(&self) -> bool {
        self.held > 0 && !self.discarding
    }

    /// Whether the end would be next, but for a message that may still come back.
    fn is_held_back(&self) -> bool {
        self.holds_end() && self.returned() == 0 && matches!(self.stream.front(), Some(Item::End(_)))
    }

    /// Whether a message is next.
    pub fn has_message(&self) -> bool {
        self.returned() > 0 || matches!(self.stream.front(), Some(Item::Message(_) | Item::Messages(_)))
    }

    /// Whether anything is here: a message, or what [`next`](Self::next) has.
    pub fn has_more(&self) -> bool {
        self.has_message() || self.has_next()
    }

    /// The result of a send or a ping. Those of one kind keep the order of their calls: behind the end, all wait there.
    fn answer(&mut self, callback: Callback) {
        if self.ended {
            self.seldom().failures.push_back(callback);
        } else if let Callback::Pong(..) = callback {
            let place = self.arrived;
            self.seldom().pongs.push_back((place, callback));
        } else {
            self.prompt.push_back(Prompt::One(callback));
        }
    }

    fn prompt(&mut self) -> Option<Callback> {
        let prompt = self.prompt.pop_front()?;
        // Many tasks do nothing but wait once they are open; and what a million sends took is not kept.
        let last = self.prompt.is_empty() && matches!(prompt, Prompt::One(Callback::Open(_)));
        if last {
            self.prompt = VecDeque::new();
        }
        give_memory_back(&mut self.prompt);
        match prompt {
            Prompt::One(callback) => Some(callback),
            Prompt::AllSent(mut sent) => {
                let handler = sent.pop();
                self.put_back_sent(sent);
                handler.map(|handler| Callback::Sent(handler, Ok(())))
            }
        }
    }

    /// A pong is told behind the messages that came before it, but waits for none that nobody receives.
    fn pong(&mut self) -> Option<Callback> {
        let (messages, _) = self.seldom.as_ref()?.pongs.front()?;
        if *messages > self.departed && self.has_message() && !self.receives.is_empty() {
            return None;
        }
        let (_, pong) = self.seldom().pongs.pop_front()?;
        self.seldom.take_if(|seldom| seldom.is_default());
        Some(pong)
    }

    /// The next pong has no message before it, so that no receive can change its place any more.
    fn pong_is_due(&self) -> bool {
        let pong = self.seldom.as_ref().and_then(|seldom| seldom.pongs.front());
        pong.is_some_and(|(messages, _)| *messages <= self.departed)
    }

    fn received(&mut self, message: Message) -> Option<Callback> {
        self.unread = self.unread.saturating_sub(message.len() + MESSAGE_OVERHEAD);
        let receive = self.receives.pop_front()?;
        match receive.number {
            FOR_GOOD => self.taken = true,
            // It is taken when the program has it.
            _ => self.held = self.held.saturating_add(1),
        }
        Some(Callback::Received(receive, Ok(message)))
    }

    /// The next receive takes a message that came back. Which of them are never given back is not known: the oldest are
    /// forgotten.
    fn retake(&mut self, place: u64) {
        let first = self.receives.first.as_ref().filter(|receive| receive.number != FOR_GOOD);
        let number = first.map(|receive| receive.number);
        let retaken = &mut self.seldom().retaken;
        if let Some(number) = number {
            retaken.insert(number, place);
        }
        if retaken.len() > RETAKEN {
            retaken.pop_first();
        }
    }

    fn discard_unread(&mut self) {
        self.discarding = true;
        if let Some(seldom) = &mut self.seldom {
            seldom.returned.clear();
        }
        self.stream.retain(|item| !matches!(item, Item::Message(_) | Item::Messages(_)));
        self.departed = self.arrived;
        self.unread = 0;
        // Those that a turn took and put back again.
        let is_message = |prompt: &Prompt| matches!(prompt, Prompt::One(Callback::Received(_, Ok(_))));
        if self.prompt.iter().any(is_message) {
            for prompt in std::mem::take(&mut self.prompt).into_iter().rev() {
                match prompt {
                    Prompt::One(Callback::Received(receive, Ok(_))) => self.receives.push_front(receive),
                    prompt => self.prompt.push_front(prompt),
                }
            }
        }
    }

    fn failure(&mut self) -> Option<Callback> {
        let failure = self.seldom.as_mut().and_then(|seldom| seldom.failures.pop_front());
        self.showed_end |= failure.is_some();
        failure
    }

    /// Every message before the end is told: the receives that wait fail with what waited.
    fn begin_end(&mut self, end: Box<End>) {
        let Receives { first, others } = std::mem::take(&mut self.receives);
        let failures = first.into_iter().chain(others);
        let failures = failures.map(|receive| Callback::Received(receive, Err(end.waiting.clone())));
        self.seldom().failures.extend(failures);
        self.seldom().telling = Telling::Step { step: Step::Close, end, due: None };
    }

    /// The end of a task, a step at a time: what waits fails, the close, the metrics, the completion.
    fn tell_end(&mut self) -> Option<Callback> {
        loop {
            let seldom = self.seldom.as_deref_mut()?;
            let Telling::Step { step, end, due } = &mut seldom.telling else { return self.failure() };
            let due = due.get_or_insert(seldom.failures.len());
            if *due > 0 {
                *due -= 1;
                return self.failure();
            }
            let (callback, next) = match step {
                Step::Close => (end.close.take().map(|(code, reason)| Callback::Close(code, reason)), Step::Metrics),
                Step::Metrics => (end.metrics.take().map(Callback::Metrics), Step::Complete),
                Step::Complete => {
                    let (error, later) = (end.error.take(), end.later.clone());
                    seldom.telling = Telling::Told(later);
                    return Some(Callback::Complete(error));
                }
            };
            self.telling_step(next);
            if callback.is_some() {
                return callback;
            }
        }
    }

    fn telling_step(&mut self, next: Step) {
        if let Telling::Step { step, due, .. } = &mut self.seldom().telling {
            *step = next;
            *due = None;
        }
    }
}

/// What a million callbacks took is not kept for the next few.
fn give_memory_back<T>(emptied: &mut VecDeque<T>) {
    if emptied.is_empty() && emptied.capacity() > PLACES_KEPT {
        *emptied = VecDeque::new();
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Mailbox")
            .field("prompt", &self.prompt.len())
            .field("stream", &self.stream.len())
            .field("receives", &self.receives.len())
            .field("unread", &self.unread)
            .field("told", &self.is_told())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
