//! What permessage-deflate (RFC 7692) means for a task: which messages go compressed, who compresses them, and what is
//! inflated when.
//!
//! Compressing takes a thousand times as long as framing. So the task's lock need not be held for it: a caller of `send` takes
//! the [`Compression`] out, compresses, and comes back with an [`Outbound`].

use std::collections::VecDeque;
use std::sync::Arc;

use super::timeline::BodyBytes;
use super::{Env, Loader, Stage};
use crate::foundation::{Completion, DeflateParameters, Message, WebSocketOptions};
use crate::websocket::{Compressed, Compressor, Contexts, Decoder, Inflation, Supply};

/// Of the messages that were sent before the socket was open, so many bytes are compressed when it is. That is done by the
/// reactor's thread, for which others wait.
pub const WAITING: usize = 256 * 1024;

/// Room for so many messages that are not written yet is kept.
const UNWRITTEN: usize = 4;

/// What the task keeps where compression was negotiated.
pub struct Deflation {
    contexts: Arc<Contexts>,
    /// The base-2 logarithm of this side's window.
    window_bits: u8,
    /// This side begins each message anew.
    no_context_takeover: bool,
    /// Messages with fewer bytes go as they are.
    threshold: usize,
    /// Remembers the messages before, once there were any, if this side refers to them.
    compressor: Option<Box<Compressor>>,
    /// A [`Compression`] is out. Nothing else is compressed meanwhile: the message that it is for comes next.
    is_out: bool,
    /// The messages that are compressed and not written: where each ends among the frames, and by how much it became smaller.
    unwritten: VecDeque<(u64, i64)>,
    /// By how much the messages that were written became smaller.
    saved: i64,
    /// By how much the messages that were received were smaller before they were inflated.
    grown: i64,
    /// What was read and not looked at, and how much of it is done with.
    held: (Vec<u8>, usize),
    /// Behind that nothing comes: TLS has ended.
    held_ends: bool,
}

/// What a message is compressed with, away from the task.
#[derive(Debug)]
pub struct Compression {
    contexts: Arc<Contexts>,
    window_bits: u8,
    no_context_takeover: bool,
    compressor: Option<Box<Compressor>>,
}

/// A message as it goes out.
#[derive(Debug)]
pub enum Outbound {
    /// As it was given.
    Plain(Message),
    Compressed(Compressed),
}

impl Deflation {
    fn new(contexts: &Arc<Contexts>, parameters: DeflateParameters, options: &WebSocketOptions) -> Self {
        let threshold = match parameters.client_max_window_bits {
            // There is no such compressor: `Compressor::new`. To send nothing compressed is always allowed (RFC 7692 §6).
            ..9 => usize::MAX,
            _ => options.compression_threshold.max(1),
        };
        Self {
            contexts: Arc::clone(contexts),
            window_bits: parameters.client_max_window_bits,
            no_context_takeover: parameters.client_no_context_takeover,
            threshold,
            compressor: None,
            is_out: false,
            unwritten: VecDeque::new(),
            saved: 0,
            grown: 0,
            held: (Vec::new(), 0),
            held_ends: false,
        }
    }

    /// What is needed to compress one message.
    fn compression(&mut self) -> Compression {
        self.is_out = true;
        Compression {
            contexts: Arc::clone(&self.contexts),
            window_bits: self.window_bits,
            no_context_takeover: self.no_context_takeover,
            compressor: self.compressor.take(),
        }
    }

    /// Frames up to `position` were handed to the kernel.
    pub fn written(&mut self, position: u64) {
        while let Some(&(end, saved)) = self.unwritten.front()
            && end <= position
        {
            self.saved += saved;
            self.unwritten.pop_front();
        }
        if self.unwritten.is_empty() && self.unwritten.capacity() > UNWRITTEN {
            self.unwritten = VecDeque::new();
        }
    }
}

impl Compression {
    /// Compresses `message`, if it gets smaller, or if the next ones are to refer to it. Takes a while: about 10 ns a byte.
    pub fn run(&mut self, message: Message, supply: &mut Supply) -> Outbound {
        let mut compressor = self.compressor.take().unwrap_or_else(|| self.contexts.compressor(self.window_bits));
        // Where that fails, the next message has a new one, which refers to nothing.
        let Some(compressed) = compressor.compress(&message, supply) else { return Outbound::Plain(message) };
        if !self.no_context_takeover {
            // The compressor takes it that the server has seen what it has seen.
            self.compressor = Some(compressor);
            return Outbound::Compressed(compressed);
        }
        self.contexts.keep_compressor(compressor);
        if compressed.len() < message.len() {
            return Outbound::Compressed(compressed);
        }
        supply.keep_compressed(compressed);
        Outbound::Plain(message)
    }
}

impl Loader {
    /// The socket is open: what reads its frames.
    pub(super) fn decoder(&mut self, parameters: Option<DeflateParameters>) -> Decoder {
        let Some(parameters) = parameters else { return Decoder::new(self.maximum_message_size) };
        let common = &self.settings.common;
        self.deflation = Some(Box::new(Deflation::new(&common.contexts, parameters, &common.options)));
        let inflation = Inflation::new(Arc::clone(&common.contexts), parameters.server_no_context_takeover);
        Decoder::with_inflation(self.maximum_message_size, inflation)
    }

    /// Whether a message of so many bytes goes compressed, on an open socket.
    #[inline]
    pub fn compresses(&self, bytes: usize) -> bool {
        self.deflation.as_ref().is_some_and(|deflation| bytes >= deflation.threshold)
    }

    /// What a message of so many bytes is compressed with, to be given back with
    /// [`send_compressed`](Self::send_compressed). `None`: it is for [`send`](Self::send), which refuses it, or knows better.
    pub fn begin_compression(&mut self, bytes: usize) -> Option<Compression> {
        let is_open = matches!(self.stage, Stage::Open(_)) && self.ending.is_none();
        if !is_open || !self.compresses(bytes) || self.send_queue_is_full_for(bytes) {
            return None;
        }
        let deflation = self.deflation.as_mut().filter(|deflation| !deflation.is_out);
        deflation.map(|deflation| deflation.compression())
    }

    /// `send` of a message of `bytes` bytes that was compressed.
    pub fn send_compressed(
        &mut self,
        env: &mut Env<'_>,
        bytes: usize,
        outbound: Outbound,
        compression: Compression,
        handler: Completion<()>,
    ) {
        if let Some(deflation) = &mut self.deflation {
            deflation.is_out = false;
        }
        if let Some(error) = self.refuses_send(bytes) {
            // The server will not see it. So the compressor that has is let go, and the next refers to nothing.
            return self.sends.refused(error, handler, env.events);
        }
        let position = match self.has_pending_end() {
            true => u64::MAX,
            false => self.push_outbound(env, bytes, outbound, compression),
        };
        self.sends.framed(bytes, position, handler, env.spare);
    }

    /// A message that was sent before the socket was open. `budget`: how much may still be compressed.
    pub(super) fn push_waiting(&mut self, env: &mut Env<'_>, message: Message, budget: &mut usize) -> u64 {
        let bytes = message.len();
        match &mut self.deflation {
            Some(deflation) if bytes >= deflation.threshold && bytes <= *budget => {
                *budget -= bytes;
                let mut compression = deflation.compression();
                let outbound = compression.run(message, env.supply);
                deflation.is_out = false;
                self.push_outbound(env, bytes, outbound, compression)
            }
            _ => self.outgoing.push(message, env.supply),
        }
    }

    fn push_outbound(&mut self, env: &mut Env<'_>, bytes: usize, outbound: Outbound, compression: Compression) -> u64 {
        let compressed = match outbound {
            Outbound::Plain(message) => return self.outgoing.push(message, env.supply),
            Outbound::Compressed(compressed) => compressed,
        };
        let saved = bytes as i64 - compressed.len() as i64;
        let position = self.outgoing.push_compressed(compressed, env.supply);
        if let Some(deflation) = &mut self.deflation {
            deflation.compressor = compression.compressor;
            deflation.unwritten.push_back((position, saved));
        }
        position
    }

    /// Bytes are about to come in, which may be many records of TLS, or those that were held.
    #[inline]
    pub(super) fn begin_reading(&mut self) {
        if let (Some(_), Stage::Open(decoder)) = (&self.deflation, &mut self.stage) {
            decoder.begin_reading();
        }
    }

    /// A message is told that was compressed. `before` and `after`: what [`Decoder::inflated`] told before and after it.
    pub(super) fn note_inflated(&mut self, before: (u64, u64), after: (u64, u64)) {
        if let Some(deflation) = &mut self.deflation {
            let (compressed, out) = (after.0 - before.0, after.1 - before.1);
            deflation.grown += out as i64 - compressed as i64;
        }
    }

    /// Frames came. They are looked at, or kept for [`read_held`](Self::read_held).
    pub(super) fn read_or_hold(&mut self, env: &mut Env<'_>, mut input: &[u8]) {
        let is_enough = matches!(&self.stage, Stage::Open(decoder) if decoder.has_enough());
        if !is_enough && !self.has_held() {
            self.read_frames(env, &mut input);
        }
        if let (Stage::Open(_), Some(deflation), false) = (&self.stage, &mut self.deflation, input.is_empty()) {
            deflation.held.0.extend_from_slice(input);
            self.set_pong_clock(env.now);
        }
    }

    /// Whether something was read that is not looked at yet. Until it is, the socket is not read.
    #[inline]
    pub fn has_held(&self) -> bool {
        self.deflation.as_ref().is_some_and(|deflation| !deflation.held.0.is_empty())
    }

    /// How many bytes were read and are not looked at yet.
    pub(super) fn held(&self) -> usize {
        self.deflation.as_ref().map_or(0, |deflation| deflation.held.0.len() - deflation.held.1)
    }

    /// TLS has ended. What was read before that comes first; false where nothing was.
    pub(super) fn ends_behind_held(&mut self) -> bool {
        match &mut self.deflation {
            Some(deflation) if !deflation.held.0.is_empty() => {
                deflation.held_ends = true;
                true
            }
            _ => false,
        }
    }

    /// Goes on with what was read, where [`wants_read`](Self::wants_read).
    pub fn read_held(&mut self, env: &mut Env<'_>) {
        self.begin_reading();
        let Some(deflation) = &mut self.deflation else { return };
        let ends = deflation.held_ends;
        let (held, start) = std::mem::take(&mut deflation.held);
        let mut input = held.get(start..).unwrap_or_default();
        self.read_frames(env, &mut input);
        if let (Stage::Open(_), Some(deflation), false) = (&self.stage, &mut self.deflation, input.is_empty()) {
            let start = held.len() - input.len();
            deflation.held = (held, start);
        } else if ends {
            self.end_of_stream(env);
        } else {
            self.set_pong_clock(env.now);
        }
    }

    /// The task has ended.
    pub(super) fn end_deflation(&mut self) {
        if let Some(Deflation { contexts, compressor: Some(compressor), .. }) =
            self.deflation.take().map(|boxed| *boxed)
        {
            contexts.keep_compressor(compressor);
        }
    }

    /// What the metrics tell of messages.
    pub(super) fn body_bytes(&self) -> BodyBytes {
        let (saved, grown) = self.deflation.as_ref().map_or((0, 0), |deflation| (deflation.saved, deflation.grown));
        let (before_encoding, after_decoding) = self.byte_counts();
        BodyBytes {
            before_encoding,
            sent: before_encoding.saturating_add_signed(-saved),
            received: after_decoding.saturating_add_signed(-grown),
            after_decoding,
        }
    }
}
