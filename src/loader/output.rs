//! Bytes on their way to the socket: they are given out, and what could not be written comes back.

use std::io::IoSlice;

use super::{Env, Loader, Mark, Stage};
use crate::websocket;

/// How many bytes of frames are given out, or sealed by TLS, at a time.
const OUTPUT_BUDGET: usize = 1024 * 1024;
pub(super) const TLS_OUTPUT_BUDGET: usize = 64 * 1024;

/// Bytes that the reactor writes; the loader gives them out and takes back what could not be written.
#[derive(Debug)]
pub enum Output {
    /// The head of the upgrade, or TLS records.
    Raw(Box<Raw>),
    /// WebSocket frames.
    Frames(websocket::Output),
}

/// Bytes, and how many of them are written.
#[derive(Debug, Default)]
pub struct Raw {
    pub bytes: Vec<u8>,
    pub written: usize,
}

impl Raw {
    /// What is left to write.
    pub fn rest(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.written >= self.bytes.len()
    }
}

impl Output {
    /// What is left to write, in order, as much of it as `into` has places for; how many it took.
    pub fn slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        let mut put = |(place, slice): (&mut IoSlice<'a>, &'a [u8])| {
            *place = IoSlice::new(slice);
            count += 1;
        };
        match self {
            Self::Raw(raw) => into.iter_mut().zip(raw.bytes.get(raw.written..)).for_each(&mut put),
            Self::Frames(frames) => into.iter_mut().zip(frames.slices()).for_each(&mut put),
        }
        count
    }

    /// What is left to write, where it certainly lies in one piece.
    #[inline]
    pub fn single(&self) -> Option<&[u8]> {
        match self {
            Self::Raw(raw) => Some(raw.rest()),
            Self::Frames(frames) => frames.single(),
        }
    }

    /// `written` more bytes are in the kernel.
    #[inline]
    pub fn advance(&mut self, written: usize) {
        match self {
            Self::Raw(raw) => raw.written = raw.bytes.len().min(raw.written + written),
            Self::Frames(frames) => frames.advance(written),
        }
    }

    /// Whether all is written.
    #[inline]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Raw(raw) => raw.is_empty(),
            Self::Frames(frames) => frames.is_empty(),
        }
    }
}

impl Loader {
    /// Whether [`take_output`](Self::take_output) has certainly nothing to give.
    #[inline]
    pub fn has_no_output(&self) -> bool {
        self.outgoing.is_still() && self.raw.is_none() && self.tls.is_none()
    }

    /// Bytes for the socket. `None` while others are with the reactor.
    pub fn take_output(&mut self, env: &mut Env<'_>) -> Option<Output> {
        if self.output_is_out || self.broken().is_some() || self.is_still() || matches!(self.stage, Stage::Closed) {
            return None;
        }
        // What is left of the request is for a connection that is of no use any more.
        if matches!(&self.stage, Stage::Answered(answered) if !answered.may_stay) {
            return None;
        }
        let output = match (&self.raw, &self.tls) {
            (None, None) if self.may_send_frames() => self.take_frames(env)?,
            (None, None) => return None,
            _ => self.take_raw_output(env)?,
        };
        self.output_is_out = true;
        Some(output)
    }

    /// What goes out before all frames, and TLS.
    #[inline(never)]
    fn take_raw_output(&mut self, env: &mut Env<'_>) -> Option<Output> {
        if self.raw_is_empty() && self.tls.is_some() {
            self.seal(env);
        }
        match self.raw.take_if(|raw| !raw.is_empty()) {
            Some(raw) => Some(Output::Raw(raw)),
            None if self.tls.is_some() || !self.may_send_frames() => None,
            None => self.take_frames(env),
        }
    }

    #[inline]
    fn take_frames(&mut self, env: &mut Env<'_>) -> Option<Output> {
        let mut frames = self.outgoing.take(OUTPUT_BUDGET, env.supply)?;
        self.frame_trace.lend(&mut frames);
        Some(Output::Frames(frames))
    }

    /// Whether [`give_back`](Self::give_back) asks for the time. Of a task that is open and waits for no pong it does not.
    #[inline]
    pub fn asks_for_time(&self) -> bool {
        self.ending.is_some() || !self.pings.is_empty() || !matches!(self.stage, Stage::Open(_))
    }

    /// Whether what [`take_output`](Self::take_output) gave was for a connection that the task has left since: how its
    /// writing went says nothing.
    pub fn output_is_stale(&self) -> bool {
        self.output_is_stale
    }

    /// Takes back what [`take_output`](Self::take_output) gave, with what could not be written.
    pub fn give_back(&mut self, env: &mut Env<'_>, output: Output) {
        self.output_is_out = false;
        self.pings.progressed(env.now);
        match output {
            _ if std::mem::take(&mut self.output_is_stale) => {}
            Output::Raw(mut raw) if raw.is_empty() => {
                if let Stage::Upgrading(_) = self.stage {
                    self.timeline.mark_first(Mark::RequestEnd, env.now);
                }
                if self.tls.is_some() {
                    // For the next records; an idle connection keeps no buffer.
                    *raw = Raw::default();
                    self.raw.get_or_insert(raw);
                }
            }
            Output::Raw(mut raw) => {
                // What has come to be said meanwhile follows it.
                if let Some(next) = self.raw.take() {
                    raw.bytes.extend_from_slice(next.rest());
                }
                self.raw = Some(raw);
            }
            Output::Frames(mut frames) => {
                self.frame_trace.take_back(&mut frames, env.traces);
                self.outgoing.give_back(frames, env.supply);
            }
        }
        match self.tls.as_ref().map(|tls| tls.sealed) {
            None => self.written(self.outgoing.written(), env),
            Some(sealed) if self.raw_is_empty() => self.written(sealed, env),
            Some(_) => {}
        }
        if let Some((cause, linger)) = self.ending.as_mut().and_then(|ending| ending.pending_end.take()) {
            self.end_now(env, cause, linger);
        }
        match self.stage {
            Stage::Lingering { until_written: true } => {
                if self.has_said_all() {
                    self.disconnect();
                }
            }
            _ => self.settle(env),
        }
    }

    /// Frames up to `position` were handed to the kernel.
    #[inline]
    fn written(&mut self, position: u64, env: &mut Env<'_>) {
        self.sends.written(position, env.events, env.spare);
        if let Some(deflation) = &mut self.deflation {
            deflation.written(position);
        }
    }

    pub(super) fn raw_is_empty(&self) -> bool {
        self.raw.as_ref().is_none_or(|raw| raw.is_empty())
    }

    pub(super) fn may_send_frames(&self) -> bool {
        matches!(self.stage, Stage::Open(_) | Stage::Lingering { .. })
    }

    pub(super) fn has_output(&self) -> bool {
        !self.raw_is_empty() || !self.outgoing.is_empty() || self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Whether the last bytes of an ended task have left, the end of TLS included.
    pub(super) fn has_said_all(&mut self) -> bool {
        if let (Some(tls), true) = (&mut self.tls, self.outgoing.is_empty()) {
            tls.close();
        }
        !self.has_output()
    }
}
