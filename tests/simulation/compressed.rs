//! What is done and checked because messages may be compressed: what was read is held, what is sent is compressed away from
//! the loader, and the bytes on the wire are others than those of the messages.

use urlsession::internals::{Env, Loader};

use crate::calls::{Handler, message};
use crate::model::Cause;
use crate::peer::Plain;
use crate::world::{World, note};

/// So many bytes may come out of what was read at a time, and the message that passes them.
const INFLATED: usize = 64 << 10;

/// Of the messages that wait for the opening, so many bytes are compressed.
const WAITING: usize = 256 << 10;

type Push = Box<dyn FnOnce(&mut Loader, &mut Env<'_>, Handler<()>)>;

/// A message that somebody compressed, and how it is given to the loader.
pub struct Pressed {
    message: Plain,
    push: Push,
    /// How many calls were left when that began.
    calls: usize,
}

impl World {
    /// As a thread that sends does it: where it is its turn, it takes what it compresses with, and comes back with the message.
    pub fn press(&mut self) {
        if self.pressed.is_some() {
            return;
        }
        let Some(plain) = self.to_press.pop_front() else { return };
        let Some(mut compression) = self.loader.begin_compression(plain.1.len()) else { return self.send_plain(plain) };
        note!(self, "compresses {} bytes", plain.1.len());
        let length = plain.1.len();
        let outbound = compression.run(message(plain.clone()), &mut self.supply);
        let push = move |loader: &mut Loader, env: &mut Env<'_>, handler| {
            loader.send_compressed(env, length, outbound, compression, handler);
        };
        self.pressed = Some(Pressed { message: plain, push: Box::new(push), calls: self.calls });
    }

    pub fn push_pressed(&mut self) {
        let Some(Pressed { message, push, calls }) = self.pressed.take() else { return };
        let handler = self.sends(message);
        let refused = self.model.sends.last().and_then(|send| send.refused);
        let all = [
            (self.calls != calls, "compressed, and calls come between"),
            (!self.to_press.is_empty(), "compressed, and another waits"),
            (refused == Some(55), "compressed, and refused: the queue is full"),
            (refused.is_some_and(|code| code != 55), "compressed, and refused: the task ends"),
        ];
        self.situations.extend(all.iter().filter(|(is, _)| *is).map(|(_, what)| what));
        self.step(Cause::Other, |loader, env| push(loader, env, handler));
        // Whoever waited is next.
        while self.pressed.is_none() && !self.to_press.is_empty() {
            self.press();
        }
    }

    /// What was read before, and not looked at.
    pub fn read_held(&mut self) {
        let calls = self.calls;
        self.others_call(4);
        if self.calls != calls {
            self.situations.insert("held, and a call comes between");
        }
        note!(self, "read what is held");
        self.step(Cause::Received, |loader, env| loader.read_held(env));
        self.check_read_ahead();
    }

    /// What is read and not looked at stays only where something may be compressed, and the task is open.
    pub fn check_held(&mut self) {
        if !self.loader.has_held() {
            return;
        }
        assert!(self.plan.deflate.agreed().is_some() && self.model.opened && self.model.ended.is_none());
        self.situations.insert("held");
        let down = &self.network.down;
        let all = [
            (!self.model.reading && self.model.closing.is_none(), "held under back-pressure"),
            (down.ready() > 0, "held, and more arrives"),
            (down.is_readable() && down.ready() == 0, "held, and the stream has ended"),
        ];
        self.situations.extend(all.iter().filter(|(is, _)| *is).map(|(_, what)| what));
    }

    /// No more is unread than what may be, and what one step may bring beyond that.
    pub fn check_read_ahead(&self) {
        if self.model.closing.is_some() {
            return;
        }
        let mut most = self.model.read_ahead() + self.given_back + 33 * self.largest_input + 64;
        if self.plan.deflate.agreed().is_some() {
            // What came out of compressed messages, and the one that is told because there was room.
            let (_, limit) = self.model.limits.unwrap();
            let largest = self.peer.sent.iter().map(|(_, payload)| payload.len()).max();
            most += INFLATED + limit.min(largest.unwrap_or(0));
        }
        assert!(self.model.unread <= most, "{} bytes are unread, {most} may be", self.model.unread);
    }

    /// Compressed is what was to be, and nothing else.
    pub fn check_wires(&self) {
        // What is sent while the fault of the server waits to be told goes as it is: nobody may read it.
        let late = self.model.fault.is_some();
        for (seen, wires) in [(&self.peer.seen, &self.peer.wires), (&self.tap.messages, &self.tap.wires)] {
            let mut budget = WAITING;
            for (index, ((text, payload), wire)) in seen.iter().zip(wires).enumerate() {
                // Of those that waited for the opening a part is compressed.
                let is_too_much = index < self.model.early && payload.len() > budget;
                assert!(!(is_too_much && wire.compressed), "message {index} of the client is compressed");
                if !is_too_much && payload.len() >= self.plan.deflate.threshold.max(1) {
                    budget = budget.saturating_sub(payload.len());
                }
                let late = late || is_too_much;
                let may_be = self.plan.deflate.may_be((*text, payload.len()), *wire, late);
                assert!(may_be, "message {index} of the client, {} bytes, is on the wire as {wire:?}", payload.len());
            }
        }
    }

    /// The metrics count what was told and handed to the kernel, and what that was on the wire.
    pub fn check_counts(&self) {
        let Some(metrics) = &self.model.metrics else { return };
        let received = &self.peer.sent[..self.model.received];
        let sum = |messages: &[Plain]| messages.iter().map(|(_, payload)| payload.len() as i64).sum::<i64>();
        assert_eq!(metrics.count_of_response_body_bytes_after_decoding, sum(received), "bytes that were told");
        let bytes = self.peer.sent_bytes[..self.model.received].iter().map(|bytes| *bytes as i64).sum::<i64>();
        assert_eq!(metrics.count_of_response_body_bytes_received, bytes, "bytes that were received");
        let good = self.model.sends_good;
        let sends = self.model.sends.iter().filter(|send| send.refused.is_none()).take(good);
        let sent: i64 = sends.map(|send| send.message.1.len() as i64).sum();
        assert_eq!(metrics.count_of_request_body_bytes_before_encoding, sent, "bytes that were sent");
        let wires = if self.plan.tls.is_none() { &self.tap.wires } else { &self.peer.wires };
        if let Some(wires) = wires.get(..good) {
            let bytes = wires.iter().map(|wire| wire.bytes as i64).sum::<i64>();
            assert_eq!(metrics.count_of_request_body_bytes_sent, bytes, "bytes that went out");
        }
    }
}
