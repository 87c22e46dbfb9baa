//! The sends of a task whose handlers have not been called: one entry each, in the order of the calls.

use std::collections::VecDeque;
use std::fmt;

use super::event::Event;
use super::spare::Spare;
use crate::foundation::{Completion, UrlError};

/// How many sends share a piece of memory: a long line grows, and gives back what has drained, without moving the others.
const CHUNK: usize = 1024;

/// How many sends are told of together, at least: fewer are not worth the memory that goes with them.
pub(super) const TOGETHER: usize = 8;

/// An entry of the line: a handler and 8 bytes, for there may be a million. What does not fit is kept aside, in [`Aside`].
pub struct Send {
    handler: Completion<()>,
    extent: Extent,
}

/// In one word, for an entry is moved as a whole: payload bytes, and how far behind the message before it the message ends,
/// among the positions of the frames; or [`WAITS`] or [`ASIDE`].
#[derive(Clone, Copy)]
struct Extent(u64);

impl Extent {
    #[inline]
    fn new(bytes: u32, distance: u32) -> Self {
        Self(u64::from(distance) << 32 | u64::from(bytes))
    }

    #[inline]
    fn bytes(self) -> usize {
        self.0 as u32 as usize
    }

    #[inline]
    fn distance(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// The task is not open yet; the message waits to be framed.
const WAITS: u32 = u32::MAX;
/// The next of [`Line::aside`] says what becomes of it.
const ASIDE: u32 = u32::MAX - 1;

/// What becomes of a send that does not fit in its entry.
enum Aside {
    /// It will not be sent; the handler waits for those before it.
    Failed(UrlError),
    /// A message of gigabytes, or one behind a Close; it ends at the position, which is none where it is not framed yet.
    Far { bytes: usize, position: Option<u64> },
}

/// Handlers of sends, first called first.
#[derive(Default)]
pub struct Sends {
    line: Option<Box<Line>>,
    /// Payload bytes of the messages that were handed to the kernel.
    sent: u64,
}

/// The sends that wait. There is one while a send waits.
#[derive(Default)]
pub struct Line {
    /// The chunk that sends leave, and, where there is no other, join.
    front: VecDeque<Send>,
    /// The chunks behind it. Sends join the last.
    chunks: VecDeque<Vec<Send>>,
    /// Of the entries that say [`ASIDE`], in their order.
    aside: VecDeque<Aside>,
    /// Payload bytes of the entries that have not failed.
    buffered: usize,
    /// Where the message ended that left last.
    left: u64,
    /// Where the message ends that was framed last.
    last: u64,
    /// There are, or were, entries that say [`WAITS`].
    waits: bool,
}

/// Sends that were handed to the kernel: their handlers are called with `Ok`.
#[derive(Default)]
pub struct SentBatch(VecDeque<Send>);

impl SentBatch {
    /// The next handler to call.
    #[inline]
    pub fn pop(&mut self) -> Option<Completion<()>> {
        self.0.pop_front().map(|send| send.handler)
    }

    /// How many handlers are left.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no handler is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_list(self) -> VecDeque<Send> {
        self.0
    }
}

impl fmt::Debug for SentBatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("SentBatch").field(&self.len()).finish()
    }
}

impl Line {
    /// An empty line whose first message begins behind `position`.
    fn new(position: u64, spare: &mut Spare) -> Box<Self> {
        let mut line = spare.line();
        (line.left, line.last, line.waits) = (position, position, false);
        line
    }

    #[inline(always)]
    fn push(&mut self, send: Send) {
        if self.chunks.is_empty() && self.front.len() < CHUNK {
            self.front.push_back(send);
        } else {
            self.push_behind(send);
        }
    }

    fn push_behind(&mut self, send: Send) {
        if let Some(last) = self.chunks.back_mut().filter(|last| last.len() < CHUNK) {
            last.push(send);
        } else {
            let mut chunk = Vec::with_capacity(CHUNK);
            chunk.push(send);
            self.chunks.push_back(chunk);
        }
    }

    fn push_aside(&mut self, aside: Aside, handler: Completion<()>) {
        self.aside.push_back(aside);
        self.push(Send { handler, extent: Extent::new(0, ASIDE) });
    }

    fn pop(&mut self) -> Option<Send> {
        let send = self.front.pop_front()?;
        if self.front.is_empty()
            && let Some(chunk) = self.chunks.pop_front()
        {
            self.front = chunk.into();
        }
        Some(send)
    }

    fn is_empty(&self) -> bool {
        self.front.is_empty()
    }

    /// How much memory it has besides itself and the list in front.
    fn is_plain(&self) -> bool {
        self.chunks.capacity() == 0 && self.aside.capacity() == 0
    }

    /// Whether the frames up to `position` let all of it go, and nothing in it has to be looked at for that.
    #[inline]
    fn leaves_at_once(&self, position: u64) -> bool {
        self.last <= position && self.chunks.is_empty() && self.aside.is_empty() && !self.waits
    }

    /// Takes all of the list in front, and the bytes of its messages, if the frames up to `position` let it go.
    fn leaves_together(&mut self, position: u64, spare: &mut Spare) -> Option<(SentBatch, usize)> {
        if self.front.len() < TOGETHER || !self.aside.is_empty() {
            return None;
        }
        let (mut end, mut bytes) = (self.left, 0usize);
        for send in &self.front {
            if send.extent.distance() >= ASIDE {
                return None;
            }
            end += u64::from(send.extent.distance());
            bytes += send.extent.bytes();
        }
        if end > position {
            return None;
        }
        self.left = end;
        self.buffered -= bytes;
        let next = self.chunks.pop_front().map_or_else(|| spare.list(), VecDeque::from);
        Some((SentBatch(std::mem::replace(&mut self.front, next)), bytes))
    }

    /// Takes the first send if the frames up to `position` let it go: its handler, and how many bytes were sent or why not.
    fn leaves(&mut self, position: u64) -> Option<(Completion<()>, Result<usize, UrlError>)> {
        let extent = self.front.front()?.extent;
        let distance = extent.distance();
        let (bytes, end) = match (distance, self.aside.front()) {
            (WAITS, _) => return None,
            (ASIDE, Some(Aside::Failed(_))) => {
                let Some(Aside::Failed(error)) = self.aside.pop_front() else { return None };
                return self.pop().map(|send| (send.handler, Err(error)));
            }
            (ASIDE, Some(Aside::Far { bytes, position })) => (*bytes, (*position)?),
            (ASIDE, None) => return None,
            (distance, _) => (extent.bytes(), self.left + u64::from(distance)),
        };
        if end > position {
            return None;
        }
        if distance == ASIDE {
            self.aside.pop_front();
        }
        self.left = end;
        self.buffered -= bytes;
        self.pop().map(|send| (send.handler, Ok(bytes)))
    }
}

impl Sends {
    /// A message that is not framed yet.
    pub fn waits(&mut self, bytes: usize, handler: Completion<()>, spare: &mut Spare) {
        let line = self.line.get_or_insert_with(|| Line::new(0, spare));
        line.waits = true;
        line.buffered += bytes;
        match u32::try_from(bytes) {
            Ok(bytes) => line.push(Send { handler, extent: Extent::new(bytes, WAITS) }),
            Err(_) => line.push_aside(Aside::Far { bytes, position: None }, handler),
        }
    }

    /// A message whose frames end at `position`.
    #[inline]
    pub fn framed(&mut self, bytes: usize, position: u64, handler: Completion<()>, spare: &mut Spare) {
        let line = self.line.get_or_insert_with(|| Line::new(position, spare));
        line.buffered += bytes;
        // Wraps for a position that is never reached, which is far from all others.
        let distance = position.wrapping_sub(line.last);
        match (u32::try_from(bytes), u32::try_from(distance)) {
            (Ok(bytes), Ok(distance)) if distance < ASIDE => {
                line.last = position;
                line.push(Send { handler, extent: Extent::new(bytes, distance) });
            }
            _ => {
                if position != u64::MAX {
                    line.last = position;
                }
                line.push_aside(Aside::Far { bytes, position: Some(position) }, handler);
            }
        }
    }

    /// A message that is refused; its handler keeps its place.
    pub fn refused(&mut self, error: UrlError, handler: Completion<()>, events: &mut Vec<Event>) {
        match &mut self.line {
            Some(line) => line.push_aside(Aside::Failed(error), handler),
            None => events.push(Event::Sent(handler, Err(error))),
        }
    }

    /// The messages that waited are framed now, in order; each ends at the next of `positions`.
    pub fn positioned(&mut self, positions: impl IntoIterator<Item = u64>, spare: &mut Spare) {
        let Some(before) = self.line.take() else { return };
        let Line { front, chunks, aside, .. } = *before;
        let mut aside = aside.into_iter();
        let mut positions = positions.into_iter();
        for Send { handler, extent } in front.into_iter().chain(chunks.into_iter().flatten()) {
            let bytes = match (extent, if extent.distance() == ASIDE { aside.next() } else { None }) {
                (_, Some(Aside::Failed(error))) => {
                    self.line.get_or_insert_with(|| Line::new(0, spare)).push_aside(Aside::Failed(error), handler);
                    continue;
                }
                (_, Some(Aside::Far { bytes, .. })) => bytes,
                (extent, None) => extent.bytes(),
            };
            match positions.next() {
                Some(position) => self.framed(bytes, position, handler, spare),
                None => self.waits(bytes, handler, spare),
            }
        }
    }

    /// Frames up to `position` were handed to the kernel.
    #[inline]
    pub fn written(&mut self, position: u64, events: &mut Vec<Event>, spare: &mut Spare) {
        let Some(line) = &mut self.line else { return };
        if line.leaves_at_once(position) {
            self.sent += std::mem::take(&mut line.buffered) as u64;
            line.left = line.last;
            if line.front.len() < TOGETHER {
                events.extend(line.front.drain(..).map(|send| Event::Sent(send.handler, Ok(()))));
            } else {
                events.push(Event::AllSent(SentBatch(std::mem::replace(&mut line.front, spare.list()))));
            }
        }
        while let Some((sent, bytes)) = line.leaves_together(position, spare) {
            self.sent += bytes as u64;
            events.push(Event::AllSent(sent));
        }
        while let Some((handler, result)) = line.leaves(position) {
            self.sent += *result.as_ref().unwrap_or(&0) as u64;
            events.push(Event::Sent(handler, result.map(drop)));
        }
        if let Some(line) = self.line.take_if(|line| line.is_empty())
            && line.is_plain()
        {
            spare.keep_line(line);
        }
    }

    /// Nothing is sent any more.
    pub fn fail(&mut self, error: &UrlError, events: &mut Vec<Event>) {
        let Some(line) = self.line.take() else { return };
        let Line { front, chunks, aside, .. } = *line;
        let mut aside = aside.into_iter();
        for Send { handler, extent } in front.into_iter().chain(chunks.into_iter().flatten()) {
            let error = match if extent.distance() == ASIDE { aside.next() } else { None } {
                Some(Aside::Failed(error)) => error,
                _ => error.clone(),
            };
            events.push(Event::Sent(handler, Err(error)));
        }
    }

    /// Payload bytes that were given to `send` and not yet written.
    pub fn buffered(&self) -> usize {
        self.line.as_ref().map_or(0, |line| line.buffered)
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
                match event {
                    Event::Sent(handler, result) => handler.call(result),
                    Event::AllSent(mut sent) => {
                        while let Some(handler) = sent.pop() {
                            handler.call(Ok(()));
                        }
                    }
                    other => panic!("{other:?}"),
                }
            }
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    #[test]
    fn handlers_are_called_in_the_order_of_the_calls() {
        let (mut sends, log, mut events) = (Sends::default(), Log::default(), Vec::new());
        let mut spare = Spare::default();
        sends.refused(error(ErrorCode::NoBufferSpace), log.handler(0), &mut events);
        assert_eq!(log.run(&mut events), [(0, 55)]);
        sends.framed(10, 16, log.handler(1), &mut spare);
        sends.refused(error(ErrorCode::NoBufferSpace), log.handler(2), &mut events);
        sends.framed(20, 42, log.handler(3), &mut spare);
        assert_eq!((sends.buffered(), sends.sent()), (30, 0));
        sends.written(15, &mut events, &mut spare);
        assert_eq!(log.run(&mut events), []);
        sends.written(16, &mut events, &mut spare);
        assert_eq!(log.run(&mut events), [(1, 0), (2, 55)]);
        assert_eq!((sends.buffered(), sends.sent()), (20, 10));
        sends.written(42, &mut events, &mut spare);
        assert_eq!(log.run(&mut events), [(3, 0)]);
        assert_eq!((sends.buffered(), sends.sent()), (0, 30));
    }

    #[test]
    fn messages_from_before_the_opening_wait_for_their_positions() {
        let (mut sends, log, mut events) = (Sends::default(), Log::default(), Vec::new());
        let mut spare = Spare::default();
        sends.waits(1, log.handler(0), &mut spare);
        sends.refused(error(ErrorCode::NoBufferSpace), log.handler(1), &mut events);
        sends.waits(2, log.handler(2), &mut spare);
        sends.waits(3, log.handler(3), &mut spare);
        sends.written(u64::MAX, &mut events, &mut spare);
        assert_eq!(log.run(&mut events), []);
        sends.positioned([7, 15], &mut spare);
        sends.written(15, &mut events, &mut spare);
        assert_eq!(log.run(&mut events), [(0, 0), (1, 55), (2, 0)]);
        assert_eq!((sends.buffered(), sends.sent()), (3, 3));
    }

    #[test]
    fn at_the_end_all_fail_and_what_was_refused_keeps_its_reason() {
        let (mut sends, log, mut events) = (Sends::default(), Log::default(), Vec::new());
        let mut spare = Spare::default();
        sends.framed(10, 16, log.handler(0), &mut spare);
        sends.refused(error(ErrorCode::NoBufferSpace), log.handler(1), &mut events);
        sends.waits(5, log.handler(2), &mut spare);
        sends.fail(&error(ErrorCode::Cancelled), &mut events);
        assert_eq!(log.run(&mut events), [(0, -999), (1, 55), (2, -999)]);
        assert_eq!((sends.buffered(), sends.sent()), (0, 0));
        sends.written(u64::MAX, &mut events, &mut spare);
        assert_eq!(log.run(&mut events), []);
    }

    #[test]
    fn a_long_line_keeps_its_order_and_gives_its_memory_back() {
        let (mut sends, log, mut events) = (Sends::default(), Log::default(), Vec::new());
        let mut spare = Spare::default();
        let count = 5 * CHUNK + 7;
        let mut position = 1 << 40;
        let mut half = 0;
        for number in 0..count {
            // A ping, a message of gigabytes, and a refusal stand between them now and then.
            position += 134 + if number % 1000 == 0 { u64::from(u32::MAX) } else { 0 };
            sends.framed(128, position, log.handler(number), &mut spare);
            half = if number == 3 * CHUNK { position } else { half };
            if number % 1500 == 0 {
                sends.refused(error(ErrorCode::NoBufferSpace), log.handler(count + number), &mut events);
            }
        }
        let chunks = |sends: &Sends| sends.line.as_ref().map_or(0, |line| 1 + line.chunks.len());
        assert_eq!((chunks(&sends), sends.buffered()), (6, 128 * count));
        sends.written(half, &mut events, &mut spare);
        assert_eq!((chunks(&sends), sends.buffered()), (3, 128 * (count - 3 * CHUNK - 1)));
        sends.written(position, &mut events, &mut spare);
        assert!(sends.line.is_none() && sends.sent() == 128 * count as u64);
        let mut expected = Vec::new();
        for number in 0..count {
            expected.push((number, 0));
            if number % 1500 == 0 {
                expected.push((count + number, 55));
            }
        }
        assert!(log.run(&mut events) == expected);
    }

    #[test]
    fn what_comes_behind_a_close_is_never_written() {
        let (mut sends, log, mut events) = (Sends::default(), Log::default(), Vec::new());
        let mut spare = Spare::default();
        sends.framed(1, 7, log.handler(0), &mut spare);
        sends.framed(2, u64::MAX, log.handler(1), &mut spare);
        sends.framed(3, u64::MAX, log.handler(2), &mut spare);
        sends.written(u64::MAX - 1, &mut events, &mut spare);
        assert_eq!(log.run(&mut events), [(0, 0)]);
        sends.fail(&error(ErrorCode::Cancelled), &mut events);
        assert_eq!(log.run(&mut events), [(1, -999), (2, -999)]);
    }

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn an_entry_is_small() {
        assert_eq!(size_of::<Send>(), size_of::<Completion<()>>() + 8);
        assert_eq!(size_of::<Sends>(), 16);
    }
}
