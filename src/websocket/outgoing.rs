//! Messages in, frames out: what waits to be written, and who overtakes whom. RFC 6455 §5.4, §5.5, §6.1; RFC 7692 §6.1.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::mem;

use super::compressor::Compressed;
use super::frame::{self, CONTROL_PAYLOAD, Kind, Opcode};
use super::output::{CHUNK, Content, FrameKind, Frames, LongMessage, Output, Part, Parts};
use super::supply::Supply;
use crate::foundation::{CloseCode, Message};

/// From this length on a message stays in its own memory. A shorter one is copied in among its neighbours.
const LONG: usize = 16 * 1024;
/// How many pongs wait to be written before it is a flood.
const PONGS: usize = 16;

/// What waits to be written.
///
/// Messages and [`ping`](Self::ping)s leave in the order of the calls. A pong, an [`urgent_ping`](Self::urgent_ping) and
/// [`close_now`](Self::close_now) overtake everything that has not begun to leave. An empty one owns no memory but itself.
///
/// There is at most one `Output` out at a time; what was written of it counts when it is given back.
#[derive(Default)]
pub struct Outgoing {
    /// What waits besides the tail; there is none where nothing does.
    queue: Option<Box<Queue>>,
    /// The frames of short messages behind all parts of the queue.
    tail: Vec<u8>,
    /// Whether an [`Output`] is out.
    is_out: bool,
    pushed: u64,
    written: u64,
}

#[derive(Default)]
struct Queue {
    /// The oldest first. Only the first may have been begun, and that may be a control frame.
    parts: VecDeque<Part>,
    /// The payloads of the pongs, the oldest first; of a flood the latest only.
    pongs: VecDeque<Vec<u8>>,
    /// More than [`PONGS`] waited at a time, and not all has been written since.
    flooded: bool,
    /// The payload of the latest urgent ping.
    urgent_ping: Option<Vec<u8>>,
    closing: Closing,
}

/// How far the sending of the Close is. The payload is kept until its frame has begun to leave.
#[derive(Default)]
enum Closing {
    #[default]
    NotAsked,
    AfterMessages(Vec<u8>),
    Now(Vec<u8>),
    /// The frame is the first part.
    Begun,
    Written,
}

static NOT_ASKED: Closing = Closing::NotAsked;

impl Queue {
    fn is_default(&self) -> bool {
        self.has_nothing() && !self.flooded && matches!(self.closing, Closing::NotAsked)
    }

    fn has_nothing(&self) -> bool {
        self.parts.is_empty() && self.pongs.is_empty() && self.urgent_ping.is_none()
    }
}

impl Outgoing {
    /// A message. Returns the position of its end among the data: the message is written once [`written`](Self::written)
    /// reaches that. Behind a Close the message is dropped, and the position is one that is never reached.
    #[inline]
    pub fn push(&mut self, message: Message, supply: &mut Supply) -> u64 {
        let (opcode, payload) = match message {
            Message::Data(payload) => (Opcode::Binary, payload),
            Message::String(payload) => (Opcode::Text, payload.into_bytes()),
        };
        if !matches!(self.closing(), Closing::NotAsked) {
            return u64::MAX;
        }
        if payload.len() < LONG {
            self.push_frame(opcode, &payload, supply);
        } else {
            self.push_long(opcode.into(), payload);
        }
        self.pushed
    }

    /// As [`push`](Self::push), of a message that is compressed.
    pub fn push_compressed(&mut self, message: Compressed, supply: &mut Supply) -> u64 {
        if !matches!(self.closing(), Closing::NotAsked) {
            return u64::MAX;
        }
        let kind = Kind::compressed(if message.is_text { Opcode::Text } else { Opcode::Binary });
        if message.payload.len() < LONG {
            self.push_frame(kind, &message.payload, supply);
            supply.keep_compressed(message);
        } else {
            let mut payload = message.payload;
            // It may wait for long, in more memory than it fills.
            if payload.capacity() - payload.len() > payload.len() / 4 {
                payload.shrink_to_fit();
            }
            self.push_long(kind, payload);
        }
        self.pushed
    }

    fn push_long(&mut self, kind: Kind, payload: Vec<u8>) {
        self.pushed += LongMessage::size(payload.len());
        self.end_tail();
        self.queue().parts.push_back(Part::Long(LongMessage::new(kind, payload)));
    }

    /// A ping in line with the messages. Its payload has at most 125 bytes (more is cut off).
    pub fn ping(&mut self, payload: &[u8], supply: &mut Supply) {
        if matches!(self.closing(), Closing::NotAsked) {
            self.push_frame(Opcode::Ping, cut_control(payload), supply);
        }
    }

    /// A ping that overtakes, of at most 125 bytes (more is cut off). It replaces one that has not begun to leave.
    pub fn urgent_ping(&mut self, payload: &[u8]) {
        if !self.is_closed() {
            self.queue().urgent_ping = Some(cut_control(payload).to_vec());
        }
    }

    /// A pong, of at most 125 bytes (more is cut off). Where more pings come than can be answered, it replaces all that have
    /// not begun to leave: only the latest ping needs its answer (§5.5.3), and a flood of them costs no more than one.
    pub fn pong(&mut self, mut payload: Vec<u8>) {
        if !self.is_closed() {
            payload.truncate(CONTROL_PAYLOAD);
            let queue = self.queue();
            queue.flooded |= queue.pongs.len() >= PONGS;
            if queue.flooded {
                queue.pongs.clear();
            }
            queue.pongs.push_back(payload);
        }
    }

    /// A Close behind everything that was pushed before; what is pushed later is dropped. The first Close wins.
    ///
    /// `None`, and a code that must not be on the wire, make an empty Close. A reason of more than 123 bytes is cut at the
    /// boundary of a character.
    pub fn close_after_messages(&mut self, code: Option<CloseCode>, reason: &[u8]) {
        if matches!(self.closing(), Closing::NotAsked) {
            self.queue().closing = Closing::AfterMessages(frame::close_payload(code, reason));
        }
    }

    /// A Close at the end of the frame that is on its way; everything that has not begun to leave is dropped. It takes the
    /// place of a [`close_after_messages`](Self::close_after_messages) that has not begun to leave.
    pub fn close_now(&mut self, code: Option<CloseCode>, reason: &[u8]) {
        if matches!(self.closing(), Closing::NotAsked | Closing::AfterMessages(_)) {
            self.queue().closing = Closing::Now(frame::close_payload(code, reason));
            self.drop_data();
        }
    }

    /// Takes what is to be written next, about `budget` bytes, but one part at least. `None` while an output is out, and
    /// where nothing waits.
    ///
    /// In this order: what was begun, the control frames that overtake, then messages as they were pushed.
    #[inline]
    pub fn take(&mut self, budget: usize, supply: &mut Supply) -> Option<Output> {
        if self.is_out {
            return None;
        }
        if self.queue.is_some() {
            return self.take_parts(budget, supply);
        }
        let tail = mem::take(&mut self.tail);
        self.is_out = !tail.is_empty();
        self.is_out.then(|| Output::from(Content::Tail(Frames::data(tail))))
    }

    fn take_parts(&mut self, budget: usize, supply: &mut Supply) -> Option<Output> {
        let mut parts = supply.parts();
        self.gather(&mut parts, budget, supply);
        self.release();
        self.is_out = !parts.is_empty();
        if self.is_out {
            return Some(Content::Parts(parts).into());
        }
        supply.keep_parts(parts);
        None
    }

    /// Gives back what was taken. What is left of it leaves first the next time; what of it has not begun to leave is
    /// treated as if it had never been taken.
    #[inline]
    pub fn give_back(&mut self, output: Output, supply: &mut Supply) {
        self.is_out = false;
        match output.content {
            Content::Tail(frames) if frames.len() == 0 => {
                self.written += frames.written as u64;
                supply.keep_chunk(frames.bytes);
                if self.queue.is_some() {
                    self.settle();
                }
            }
            Content::Tail(frames) => {
                self.written += frames.written as u64;
                self.take_back(Part::Frames(frames));
                self.settle();
            }
            Content::Parts(parts) => self.give_back_parts(parts, supply),
        }
    }

    fn give_back_parts(&mut self, mut parts: Box<Parts>, supply: &mut Supply) {
        self.written += parts.data_written;
        if parts.close_written {
            // Nothing follows a Close: §5.5.1.
            self.drop_all(Closing::Written);
            return supply.keep_parts(parts);
        }
        if let Some(message) = parts.unfinished.take() {
            self.queue().parts.push_front(Part::Long(message));
        }
        while let Some(part) = parts.pop() {
            self.take_back(part);
        }
        supply.keep_parts(parts);
        self.settle();
    }

    /// What is left of an output stands where it belongs.
    fn settle(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.flooded &= !queue.pongs.is_empty();
        }
        if matches!(self.closing(), Closing::Now(_)) {
            self.drop_data();
        }
        self.release();
    }

    /// How far the data has been written: the bytes of messages and of pings in line with them, headers included, of the
    /// outputs that were given back.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Whether nothing waits and no output is out.
    pub fn is_empty(&self) -> bool {
        !self.is_out
            && self.tail.is_empty()
            && self.queue.as_ref().is_none_or(|queue| queue.has_nothing())
            && matches!(self.closing(), Closing::NotAsked | Closing::Written)
    }

    /// Whether there is certainly nothing to take: a glance, which need not see that there is nothing.
    #[inline]
    pub fn is_still(&self) -> bool {
        self.tail.is_empty() && self.queue.is_none()
    }

    /// Whether all of a Close has been written. Nothing is sent after it.
    pub fn close_is_written(&self) -> bool {
        matches!(self.closing(), Closing::Written)
    }

    /// Whether a Close is on the wire, in part at least.
    fn is_closed(&self) -> bool {
        matches!(self.closing(), Closing::Begun | Closing::Written)
    }

    fn closing(&self) -> &Closing {
        self.queue.as_ref().map_or(&NOT_ASKED, |queue| &queue.closing)
    }

    fn queue(&mut self) -> &mut Queue {
        self.queue.get_or_insert_default()
    }

    #[inline]
    fn push_frame(&mut self, kind: impl Into<Kind>, payload: &[u8], supply: &mut Supply) {
        let size = frame::frame_size(payload.len());
        if self.tail.capacity() - self.tail.len() < size {
            self.make_room(size, supply);
        }
        frame::append_frame(&mut self.tail, kind, payload, supply.random.mask_key());
        self.pushed += size as u64;
    }

    /// Room in the tail for so many bytes more, which are fewer than a chunk.
    #[inline(never)]
    fn make_room(&mut self, size: usize, supply: &mut Supply) {
        if self.tail.len() + size > CHUNK {
            self.end_tail();
            self.tail = supply.chunk();
            // What filled one buffer fills another.
            return self.tail.reserve_exact(CHUNK);
        }
        if self.tail.capacity() == 0 {
            self.tail = supply.chunk();
        }
        let length = self.tail.len();
        if self.tail.capacity() - length < size {
            // A few messages cost little, and many no more than they fill.
            let capacity = (2 * length).clamp(length + size, CHUNK);
            self.tail.reserve_exact(capacity - length);
        }
    }

    /// Makes a part of the tail, so that something can stand behind it.
    fn end_tail(&mut self) {
        if let Some(tail) = self.take_tail() {
            self.queue().parts.push_back(tail);
        }
    }

    fn take_tail(&mut self) -> Option<Part> {
        let bytes = mem::take(&mut self.tail);
        (!bytes.is_empty()).then(|| Part::Frames(Frames::data(bytes)))
    }

    fn gather(&mut self, output: &mut Parts, budget: usize, supply: &mut Supply) {
        let Some(queue) = &mut self.queue else { return };
        let mut may_follow = true;
        if queue.parts.front().is_some_and(Part::is_begun)
            && let Some(begun) = queue.parts.pop_front()
        {
            may_follow = !matches!(&begun, Part::Long(message) if !message.is_last_fragment());
            output.push(begun);
        }
        for payload in mem::take(&mut queue.pongs) {
            output.push(control(FrameKind::Pong, &payload, supply));
        }
        if let Some(payload) = queue.urgent_ping.take() {
            output.push(control(FrameKind::Ping, &payload, supply));
        }
        if let Closing::Now(payload) = &queue.closing {
            output.push(control(FrameKind::Close, payload, supply));
            return;
        }
        while may_follow && (output.len() < budget || output.is_empty()) {
            let next = self.queue.as_mut().and_then(|queue| queue.parts.pop_front());
            let Some(mut part) = next.or_else(|| self.take_tail()) else {
                if let Closing::AfterMessages(payload) = self.closing() {
                    output.push(control(FrameKind::Close, payload, supply));
                }
                return;
            };
            if let Part::Long(message) = &mut part {
                message.prepare(&mut supply.random);
                // The rest of the message is in its memory, which is out with this fragment.
                may_follow = message.is_last_fragment();
            }
            output.push(part);
        }
    }

    fn take_back(&mut self, part: Part) {
        if part.is_begun() {
            if matches!(&part, Part::Frames(Frames { kind: FrameKind::Close, .. })) {
                // Nothing follows it, whatever was asked for meanwhile.
                self.drop_all(Closing::Begun);
            }
            self.queue().parts.push_front(part);
            return;
        }
        let queue = self.queue();
        match part {
            Part::Frames(Frames { kind: FrameKind::Pong, bytes, .. }) => {
                // Behind it stand those that came meanwhile.
                if queue.pongs.is_empty() || (!queue.flooded && queue.pongs.len() < PONGS) {
                    queue.pongs.push_front(frame::control_payload(&bytes));
                }
            }
            Part::Frames(Frames { kind: FrameKind::Ping, bytes, .. }) => {
                queue.urgent_ping.get_or_insert_with(|| frame::control_payload(&bytes));
            }
            // `closing` still has what it says.
            Part::Frames(Frames { kind: FrameKind::Close, .. }) => {}
            part => queue.parts.push_front(part),
        }
    }

    /// Gives up everything; the Close is as far as `closing` says.
    fn drop_all(&mut self, closing: Closing) {
        self.tail = Vec::new();
        self.queue = Some(Box::new(Queue { closing, ..Queue::default() }));
    }

    /// Gives up everything but the frame that is begun.
    fn drop_data(&mut self) {
        self.tail = Vec::new();
        let parts = &mut self.queue().parts;
        parts.truncate(1);
        if let Some(part) = parts.pop_front().and_then(Part::cut_behind_frame) {
            parts.push_front(part);
        }
        self.release();
    }

    /// Gives the memory of the queue back when it is empty.
    fn release(&mut self) {
        if let Some(queue) = &mut self.queue {
            if queue.is_default() {
                self.queue = None;
            } else if queue.parts.is_empty() {
                queue.parts = VecDeque::new();
            }
        }
    }
}

impl fmt::Debug for Outgoing {
    /// Shows nothing of what the messages say.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Outgoing")
            .field("pushed", &self.pushed)
            .field("written", &self.written)
            .field("is_out", &self.is_out)
            .field("close_is_written", &self.close_is_written())
            .finish_non_exhaustive()
    }
}

fn cut_control(payload: &[u8]) -> &[u8] {
    payload.get(..CONTROL_PAYLOAD).unwrap_or(payload)
}

/// A part of one control frame.
fn control(kind: FrameKind, payload: &[u8], supply: &mut Supply) -> Part {
    let opcode = match kind {
        FrameKind::Pong => Opcode::Pong,
        FrameKind::Close => Opcode::Close,
        FrameKind::Data | FrameKind::Ping => Opcode::Ping,
    };
    let mut bytes = Vec::with_capacity(frame::frame_size(payload.len()));
    frame::append_frame(&mut bytes, opcode, payload, supply.random.mask_key());
    Part::Frames(Frames { bytes, written: 0, kind })
}

#[cfg(test)]
mod tests;
