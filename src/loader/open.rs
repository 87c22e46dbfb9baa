//! The open WebSocket: messages both ways, pings, the closing handshake (RFC 6455 §5 to §7).

use std::io;

use super::deflation::WAITING;
use super::end::{Cause, Closed, io_error};
use super::{Completion, Env, Event, LINGER, Linger, Loader, Message, Stage, TICK, Timer, TraceStep, cancelled};
use crate::foundation::{Bundle, CloseCode, ErrorCode, ErrorStage, UrlError};
use crate::http::Accepted;
use crate::websocket::{Incoming, PayloadBuffer, Short, Violation, ViolationKind, cut_reason};

/// As many long messages as this are expected to come together, where two do.
const LONG: usize = 16;

/// `cancel_with` was called with these.
pub struct Closing {
    pub code: CloseCode,
    pub reason: Option<Vec<u8>>,
    /// What the server's Close said, once it came.
    pub answer: Option<Closed>,
}

impl Closing {
    /// What the Close frame holds: nothing, where the code may not be on the wire.
    fn frame(&self) -> (Option<CloseCode>, &[u8]) {
        match self.code.may_be_sent() {
            true => (Some(self.code), cut_reason(self.reason.as_deref().unwrap_or_default())),
            false => (None, &[]),
        }
    }
}

/// What was asked for before the socket was open.
pub enum Waiting {
    Message(Message),
    Ping(Completion<()>),
}

impl Loader {
    /// `send`: the message goes out behind those before it. A handler is always kept or answered.
    #[inline]
    pub fn send(&mut self, env: &mut Env<'_>, message: Message, handler: Completion<()>) {
        let bytes = message.len();
        if self.ending.is_some() || !matches!(self.stage, Stage::Open(_)) || self.send_queue_is_full_for(bytes) {
            return self.send_otherwise(env, message, handler);
        }
        if let Some(mut compression) = self.begin_compression(bytes) {
            let outbound = compression.run(message, env.supply);
            return self.send_compressed(env, bytes, outbound, compression, handler);
        }
        let position = self.outgoing.push(message, env.supply);
        self.sends.framed(bytes, position, handler, env.spare);
    }

    /// `send` where the task is not simply open.
    #[cold]
    fn send_otherwise(&mut self, env: &mut Env<'_>, message: Message, handler: Completion<()>) {
        let bytes = message.len();
        if let Some(error) = self.refuses_send(bytes) {
            return self.sends.refused(error, handler, env.events);
        }
        if let Stage::Open(_) = self.stage {
            // Where the end waits for bytes that are with the reactor, nothing leaves behind those.
            let position = if self.has_pending_end() { u64::MAX } else { self.outgoing.push(message, env.supply) };
            self.sends.framed(bytes, position, handler, env.spare);
        } else {
            self.prepared.get_or_insert_default().waiting.push_back(Waiting::Message(message));
            self.sends.waits(bytes, handler, env.spare);
        }
    }

    /// Why a message of so many bytes is not taken.
    pub(super) fn refuses_send(&self, bytes: usize) -> Option<UrlError> {
        if let Some(error) = self.refuses_calls() {
            return Some(error);
        }
        if !self.send_queue_is_full_for(bytes) {
            return None;
        }
        let limit = self.settings.common.options.maximum_send_queue.unwrap_or_default();
        let buffered = self.sends.buffered();
        let reason = format!(
            "a message of {bytes} bytes would pass maximum_send_queue: {buffered} of {limit} bytes wait to be sent"
        );
        let error = UrlError::new(ErrorCode::NoBufferSpace, ErrorStage::Open, reason);
        Some(error.with_failing_url(&self.settings.request.url))
    }

    /// `send_ping`.
    pub fn send_ping(&mut self, env: &mut Env<'_>, handler: Completion<()>) {
        if !self.is_ended() && (self.closing().is_some() || self.is_broken_off()) {
            // It fails behind those that still wait for their pong.
            self.ending_mut().late_pings.push(handler);
        } else if let Some(error) = self.refuses_calls() {
            env.events.push(Event::Pong(handler, Err(error)));
        } else if let Stage::Open(_) = self.stage {
            let payload = self.pings.send(Some(handler));
            self.outgoing.ping(payload.as_slice(), env.supply);
        } else {
            self.prepared.get_or_insert_default().waiting.push_back(Waiting::Ping(handler));
        }
    }

    /// `cancel_with`: what `send` took goes out, then the Close; the server has `close_timeout` to answer it.
    pub fn cancel_with(&mut self, env: &mut Env<'_>, code: CloseCode, reason: Option<&[u8]>) {
        if code == CloseCode::INVALID || self.is_ended() || self.closing().is_some() {
            return self.cancel(env);
        }
        env.events.push(Event::DiscardUnread);
        env.traces.step(|| TraceStep::Cancelled { code: Some(code) });
        self.ending_mut().closing = Some(Closing { code, reason: reason.map(<[u8]>::to_vec), answer: None });
        if self.fault().is_some() {
            return self.give_up(env);
        }
        let open = matches!(self.stage, Stage::Open(_));
        if matches!(self.stage, Stage::Created) || self.is_refused() || (!open && self.nothing_waits()) {
            return self.end_cancelled(env, Linger::No);
        }
        self.resume(env.now);
        self.timers.start(Timer::Close, env.now, self.settings.common.options.close_timeout);
        if open {
            self.send_close();
        }
    }

    /// The handshake is complete: what waited goes out.
    pub(super) fn opened(&mut self, env: &mut Env<'_>, accepted: Accepted) {
        self.timers.cancel(Timer::Request);
        env.traces.step(|| TraceStep::Open { compressed: accepted.deflate.is_some() });
        self.frame_trace.begin(env.traces);
        self.stage = Stage::Open(self.decoder(accepted.deflate));
        let mut positions = Vec::new();
        let mut budget = WAITING;
        for waiting in self.prepared.take().into_iter().flat_map(|prepared| prepared.waiting) {
            match waiting {
                Waiting::Message(message) => positions.push(self.push_waiting(env, message, &mut budget)),
                Waiting::Ping(handler) => {
                    let payload = self.pings.send(Some(handler));
                    self.outgoing.ping(payload.as_slice(), env.supply);
                }
            }
        }
        self.sends.positioned(positions, env.spare);
        if self.closing().is_some() {
            self.send_close();
        }
        if let Some(interval) = self.settings.common.options.ping_interval {
            self.timers.start(Timer::Ping, env.now, interval.max(TICK));
        }
        env.events.push(Event::Open { protocol: accepted.protocol });
    }

    /// Frames came. Some of them are left where the session is to be told of what came out of the others first.
    pub(super) fn read_frames(&mut self, env: &mut Env<'_>, input: &mut &[u8]) {
        let closing = self.closing().is_some();
        while let Stage::Open(decoder) = &mut self.stage {
            let (arrived, mut received) = (*input, 0);
            // Messages after our Close are dropped.
            let short = match closing {
                true => Ok(()),
                false => decoder.short_messages(input, |message| {
                    received += message.len() as u64;
                    bundle(env, message);
                }),
            };
            self.received += received;
            let before = decoder.inflated();
            let decoded = match short {
                // Nearly always there is nothing else.
                Ok(()) if input.is_empty() => return self.frame_trace.received(arrived, input, env.traces),
                Ok(()) => decoder.decode(input),
                Err(violation) => Err(violation),
            };
            self.frame_trace.received(arrived, input, env.traces);
            let (after, is_enough) = (decoder.inflated(), decoder.has_enough());
            // A text that is none was inflated, and is not told.
            if after != before && decoded.is_ok() && !closing {
                self.note_inflated(before, after);
            }
            match decoded {
                Ok(Some(incoming)) => self.incoming(env, incoming),
                Ok(None) if is_enough => return,
                Ok(None) => return *input = &[],
                Err(violation) => self.violated(env, violation),
            }
            if is_enough {
                return;
            }
        }
    }

    /// The rest of a large message can be read straight into it: its own buffer, or `None`.
    pub fn take_payload_buffer(&mut self) -> Option<PayloadBuffer> {
        match &mut self.stage {
            Stage::Open(decoder) if self.tls.is_none() => decoder.take_payload_buffer(),
            _ => None,
        }
    }

    /// Takes back the buffer with `count` more bytes in it.
    pub fn payload_received(&mut self, env: &mut Env<'_>, buffer: PayloadBuffer, count: usize) {
        let Stage::Open(decoder) = &mut self.stage else { return };
        self.frame_trace.received_payload(count);
        match decoder.payload_received(buffer, count) {
            Ok(Some(incoming)) => self.incoming(env, incoming),
            Ok(None) => {}
            Err(violation) => self.violated(env, violation),
        }
    }

    fn incoming(&mut self, env: &mut Env<'_>, incoming: Incoming) {
        match incoming {
            // Messages after our Close are dropped.
            Incoming::Message(_) if self.closing().is_some() => {}
            Incoming::Message(message) => {
                self.received += message.len() as u64;
                push_long(env, message);
            }
            Incoming::Ping(payload) => self.outgoing.pong(payload),
            Incoming::Pong(payload) => {
                self.pings.pong(&payload, env.events);
                if self.pings.is_empty() {
                    self.timers.cancel(Timer::Pong);
                } else if self.timers.is_on(Timer::Pong) {
                    self.timers.start(Timer::Pong, env.now, self.settings.common.options.pong_timeout);
                    self.set_pong_clock(env.now);
                }
            }
            Incoming::Close { code, reason } => self.server_closed(env, code, reason),
        }
    }

    /// The server's Close: it answers ours, or is echoed at once (§5.5.1).
    fn server_closed(&mut self, env: &mut Env<'_>, code: Option<CloseCode>, reason: Vec<u8>) {
        self.close_now(code);
        let closed = (code.unwrap_or(CloseCode::NO_STATUS_RECEIVED), reason);
        match self.ending.as_mut().and_then(|ending| ending.closing.as_mut()) {
            Some(closing) => {
                closing.answer = Some(closed);
                self.end_cancelled(env, Linger::Moment);
            }
            None => self.end(env, Cause::ServerClosed(closed), Linger::Moment),
        }
    }

    /// A Close with this code; after `cancel_with`, its own. One that has not left by now, behind messages that the server
    /// no longer reads, goes out without them.
    pub(super) fn close_now(&mut self, code: Option<CloseCode>) {
        // Named by itself: what it holds is lent to `outgoing`.
        let closing = self.ending.as_ref().and_then(|ending| ending.closing.as_ref());
        match closing.map(Closing::frame) {
            Some((code, reason)) => self.outgoing.close_now(code, reason),
            None => self.outgoing.close_now(code, &[]),
        }
    }

    /// The server broke the protocol, or its message is too long. Nothing more is read. The messages before it keep their
    /// place: what their handlers send still goes out, as it would if the bytes had come one by one.
    fn violated(&mut self, env: &mut Env<'_>, violation: Violation) {
        self.ending_mut().fault = Some(violation);
        if self.closing().is_some() {
            // No message is told any more.
            return self.give_up(env);
        }
        self.timers.start(Timer::Unread, env.now, self.settings.common.options.close_timeout);
        self.set_pong_clock(env.now);
        env.events.push(Event::Fault);
    }

    /// The messages before the server's fault are told, or nobody takes them: it is told so, and the task ends.
    pub fn give_up(&mut self, env: &mut Env<'_>) {
        let Some(violation) = self.ending.as_mut().and_then(|ending| ending.fault.take()) else { return };
        let close_code = violation.close_code();
        let code = match violation.kind() {
            ViolationKind::TooLong => ErrorCode::MessageTooLong,
            ViolationKind::Framing | ViolationKind::Text | ViolationKind::Compression => ErrorCode::ProtocolError,
        };
        let reason = violation.into_reason();
        self.outgoing.close_now(Some(close_code), cut_reason(reason.as_bytes()));
        let error = UrlError::new(code, ErrorStage::Open, reason);
        let cause = self.cancelled_with().unwrap_or(Cause::Failed(error));
        self.end(env, cause, Linger::Moment);
    }

    /// Writing to the socket failed. What the server sent before, its Close perhaps, is still read.
    pub fn write_failed(&mut self, env: &mut Env<'_>, error: io::Error) {
        match &self.stage {
            Stage::Lingering { .. } => return self.disconnect(),
            // A connection that was left.
            Stage::Created | Stage::Resolving | Stage::Waiting | Stage::Connecting(_) | Stage::Closed => return,
            _ if self.broken().is_some() => return,
            // It said what it had to say, perhaps before it had read all of the request.
            Stage::Answered(_) => {
                self.answer_is_lost();
                // It would be tried again and again.
                self.raw = None;
                return self.settle(env);
            }
            _ => {}
        }
        if self.tries_again(env) {
            return;
        }
        let error = io_error(error, self.error_stage());
        self.break_off(env, error);
    }

    /// Nothing more can be sent. What went wrong first counts.
    pub(super) fn break_off(&mut self, env: &mut Env<'_>, error: UrlError) {
        let error = error.with_failing_url(&self.settings.request.url);
        self.ending_mut().broken.get_or_insert(error);
        // After `cancel_with` they fail as cancelled, whatever became of the connection then.
        if let Some(error) = self.refuses_calls().filter(|_| self.is_broken_off()) {
            self.sends.fail(&error, env.events);
        }
        if !self.timers.is_on(Timer::Rest) {
            self.start_clock(Timer::Rest, env.now, LINGER);
        }
    }

    /// What a broken connection or a refusal still held did not come in time.
    pub(super) fn rest_timed_out(&mut self, env: &mut Env<'_>) {
        // What was read before is told as messages are taken.
        let held = self.held();
        if held > 0 && held < self.ending_mut().rest_held.replace(held).unwrap_or(usize::MAX) {
            return self.start_clock(Timer::Rest, env.now, self.settings.common.options.close_timeout.max(TICK));
        }
        // What the server sent before is not read because nobody takes what it sent before that.
        if !self.reading && !std::mem::replace(&mut self.ending_mut().rest_prolonged, true) {
            return self.start_clock(Timer::Rest, env.now, self.settings.common.options.close_timeout);
        }
        self.end_of_stream(env);
    }

    /// `ping_interval` has passed.
    pub(super) fn keep_alive(&mut self, env: &mut Env<'_>) {
        let options = &self.settings.common.options;
        let Some(interval) = options.ping_interval else { return };
        let pong_timeout = options.pong_timeout;
        if !matches!(self.stage, Stage::Open(_)) || self.closing().is_some() {
            return;
        }
        self.timers.start(Timer::Ping, env.now, interval.max(TICK));
        if self.suspended {
            return;
        }
        if self.pings.is_empty() {
            let payload = self.pings.send(None);
            self.outgoing.urgent_ping(payload.as_slice());
        }
        if !self.timers.is_on(Timer::Pong) {
            self.timers.start(Timer::Pong, env.now, pong_timeout);
            self.set_pong_clock(env.now);
        }
    }

    /// `pong_timeout` has passed. A ping that still waits behind bytes which do leave has not been unanswered so long.
    pub(super) fn pong_timed_out(&mut self, env: &mut Env<'_>) {
        let timeout = self.settings.common.options.pong_timeout;
        let progress = self.pings.progress().and_then(|written| written.checked_add(timeout));
        if let (Some(deadline), true) = (progress.filter(|deadline| *deadline > env.now), self.has_output()) {
            return self.timers.start(Timer::Pong, env.now, deadline - env.now);
        }
        self.time_out(env, format!("no pong came within {timeout:?} (pong_timeout)"));
    }

    /// The server did not answer our Close in time.
    pub(super) fn close_timed_out(&mut self, env: &mut Env<'_>) {
        self.end_cancelled(env, Linger::No);
    }

    /// The end of `cancel_with`.
    fn end_cancelled(&mut self, env: &mut Env<'_>, linger: Linger) {
        if let Some(cause) = self.cancelled_with() {
            self.end(env, cause, linger);
        }
    }

    fn send_close(&mut self) {
        let closing = self.ending.as_ref().and_then(|ending| ending.closing.as_ref());
        if let Some((code, reason)) = closing.map(Closing::frame) {
            self.outgoing.close_after_messages(code, reason);
        }
    }

    /// No pong will come: not for pings that went out, nor for those that wait to.
    pub(super) fn fail_pings(&mut self, error: &UrlError, events: &mut Vec<Event>) {
        self.pings.fail(error, events);
        let waiting = self.prepared.take().into_iter().flat_map(|prepared| prepared.waiting);
        let waiting = waiting.filter_map(|waiting| match waiting {
            Waiting::Ping(handler) => Some(handler),
            Waiting::Message(_) => None,
        });
        let late = self.ending.as_mut().map(|ending| std::mem::take(&mut ending.late_pings)).unwrap_or_default();
        for handler in waiting.chain(late) {
            events.push(Event::Pong(handler, Err(error.clone())));
        }
    }

    /// Nothing was asked for before the opening.
    fn nothing_waits(&self) -> bool {
        self.prepared.as_ref().is_none_or(|prepared| prepared.waiting.is_empty())
    }

    /// Why a call comes too late.
    fn refuses_calls(&self) -> Option<UrlError> {
        match (self.ended(), self.closing(), self.broken().filter(|_| self.is_broken_off())) {
            (Some(error), _, _) | (None, None, Some(error)) => Some(error.clone()),
            (None, Some(_), _) => Some(cancelled().with_failing_url(&self.settings.request.url)),
            (None, None, None) => None,
        }
    }
}

/// Tells a short message: with those before it, or in a new bundle.
#[inline]
fn bundle(env: &mut Env<'_>, message: Short<'_>) {
    if let Some(Event::Messages(bundle)) = env.events.last_mut()
        && push(bundle, message)
    {
        return;
    }
    push_new(env, message);
}

/// Tells a message that has its own memory: with the one before it, if that has, too.
fn push_long(env: &mut Env<'_>, message: Message) {
    let message = match env.events.last_mut() {
        Some(Event::Messages(bundle)) => bundle.push_long(message),
        Some(last @ Event::Message(_)) => {
            let before = std::mem::replace(last, Event::Messages(Bundle::of_long(Vec::with_capacity(LONG))));
            if let (Event::Message(before), Event::Messages(bundle)) = (before, last) {
                bundle.push_long(before);
                bundle.push_long(message);
            }
            None
        }
        _ => Some(message),
    };
    if let Some(message) = message {
        env.events.push(Event::Message(message));
    }
}

#[cold]
fn push_new(env: &mut Env<'_>, message: Short<'_>) {
    let mut bundle = env.spare.bundle();
    // An empty bundle takes a message of either kind.
    push(&mut bundle, message);
    env.events.push(Event::Messages(bundle));
}

#[inline]
fn push(bundle: &mut Bundle, message: Short<'_>) -> bool {
    match message {
        Short::Text(text) => bundle.push_text(text),
        Short::Data(data) => bundle.push_data(data),
    }
}
