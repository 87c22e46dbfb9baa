//! The frames of one write.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;

#[cfg(feature = "tracing")]
use super::follow::FrameFollower;
use super::frame::{self, EncodedHeader, Kind, Opcode};
use super::mask;
use super::supply::KEPT;
use crate::foundation::Random;

/// How much of a long message goes into one frame, so that control frames can go between the frames.
pub const FRAGMENT: usize = 1024 * 1024;
/// Short messages share a buffer up to this length.
pub const CHUNK: usize = 64 * 1024;

/// Frames on their way to the socket: taken from an [`Outgoing`](super::Outgoing), written as far as the socket goes, and
/// given back.
pub struct Output {
    pub(super) content: Content,
    /// Sees what is written.
    #[cfg(feature = "tracing")]
    pub follower: Option<Box<FrameFollower>>,
}

/// What there is to write.
pub(super) enum Content {
    /// Short messages, and nothing that overtakes them: nearly always.
    Tail(Frames),
    /// Anything.
    Parts(Box<Parts>),
}

/// Frames of every kind.
#[derive(Default)]
pub(super) struct Parts {
    /// Each has bytes left to write. Only the first may have been begun.
    parts: VecDeque<Part>,
    len: usize,
    /// How many bytes of messages were written.
    pub data_written: u64,
    /// A long message whose fragment was written and which goes on.
    pub unfinished: Option<LongMessage>,
    /// Whether all of a Close was written.
    pub close_written: bool,
    /// Buffers whose frames have left.
    emptied: Vec<Vec<u8>>,
}

impl From<Content> for Output {
    fn from(content: Content) -> Self {
        Self {
            content,
            #[cfg(feature = "tracing")]
            follower: None,
        }
    }
}

impl Output {
    /// What is left to write, in order, for a vectored write.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let (tail, parts) = match &self.content {
            Content::Tail(frames) => (Some(frames.rest()), None),
            Content::Parts(parts) => (None, Some(parts.parts.iter().flat_map(Part::slices))),
        };
        tail.into_iter().chain(parts.into_iter().flatten()).filter(|slice| !slice.is_empty())
    }

    /// What is left to write, where it certainly lies in one piece.
    #[inline]
    pub fn single(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Tail(frames) => Some(frames.rest()),
            Content::Parts(_) => None,
        }
    }

    /// The first `written` bytes of what was left are written.
    #[inline]
    pub fn advance(&mut self, written: usize) {
        #[cfg(feature = "tracing")]
        self.follow(written);
        match &mut self.content {
            Content::Tail(frames) => frames.written += written.min(frames.len()),
            Content::Parts(parts) => parts.advance(written),
        }
    }

    #[cfg(feature = "tracing")]
    fn follow(&mut self, written: usize) {
        let Some(mut follower) = self.follower.take() else { return };
        let mut rest = written;
        for slice in self.slices() {
            let count = rest.min(slice.len());
            follower.follow(slice.get(..count).unwrap_or_default());
            rest -= count;
            if rest == 0 {
                break;
            }
        }
        self.follower = Some(follower);
    }

    /// Whether all of it is written.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes are left to write.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.content {
            Content::Tail(frames) => frames.len(),
            Content::Parts(parts) => parts.len,
        }
    }
}

impl Parts {
    fn advance(&mut self, mut written: usize) {
        while let Some(part) = self.parts.front_mut() {
            let count = written.min(part.len());
            written -= count;
            self.len -= count;
            part.advance(count);
            if part.is_data() {
                self.data_written += count as u64;
            }
            if part.len() > 0 {
                return;
            }
            match self.parts.pop_front() {
                Some(Part::Long(message)) => self.unfinished = message.without_fragment(),
                Some(Part::Frames(Frames { kind: FrameKind::Close, .. })) => self.close_written = true,
                Some(Part::Frames(frames)) if frames.kind == FrameKind::Data && self.emptied.len() < KEPT => {
                    self.emptied.push(frames.bytes);
                }
                Some(Part::Frames(_)) | None => {}
            }
        }
    }

    pub fn push(&mut self, part: Part) {
        self.len += part.len();
        self.parts.push_back(part);
    }

    /// The last of what was not written.
    pub fn pop(&mut self) -> Option<Part> {
        let part = self.parts.pop_back()?;
        self.len -= part.len();
        Some(part)
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// The buffers whose frames have left. What was written is forgotten.
    pub fn take_emptied(&mut self) -> impl Iterator<Item = Vec<u8>> {
        self.parts.clear();
        (self.len, self.data_written, self.close_written) = (0, 0, false);
        self.unfinished = None;
        self.emptied.drain(..)
    }

    /// Whether its memory is worth keeping.
    pub fn is_small(&self) -> bool {
        self.parts.capacity() <= 64
    }
}

impl fmt::Debug for Output {
    /// Shows nothing of what the frames say.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Output").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// What waits in one piece and leaves in one piece.
pub enum Part {
    /// Frames in a buffer of their own.
    Frames(Frames),
    /// A long message, in the memory that it was given in.
    Long(LongMessage),
}

impl Part {
    /// How many bytes of its frames are left to write.
    pub fn len(&self) -> usize {
        match self {
            Self::Frames(frames) => frames.len(),
            Self::Long(message) => message.fragment.as_ref().map_or(0, |fragment| fragment.len() - fragment.written),
        }
    }

    /// Whether a part of it is written, so that it must go on before anything else.
    pub fn is_begun(&self) -> bool {
        match self {
            Self::Frames(frames) => frames.written > 0,
            Self::Long(message) => message.fragment.as_ref().is_some_and(|fragment| fragment.written > 0),
        }
    }

    /// Whether its bytes count for [`Outgoing::written`](super::Outgoing::written).
    fn is_data(&self) -> bool {
        matches!(self, Self::Long(_) | Self::Frames(Frames { kind: FrameKind::Data, .. }))
    }

    fn slices(&self) -> [&[u8]; 2] {
        match self {
            Self::Frames(frames) => [frames.rest(), &[]],
            Self::Long(message) => message.slices(),
        }
    }

    /// `count` is at most `len()`.
    fn advance(&mut self, count: usize) {
        match self {
            Self::Frames(frames) => frames.written += count,
            Self::Long(message) => {
                if let Some(fragment) = &mut message.fragment {
                    fragment.written += count;
                }
            }
        }
    }

    /// Gives up what comes behind the frame that is begun; `None` where none is.
    pub fn cut_behind_frame(self) -> Option<Self> {
        match self {
            Self::Frames(frames) => frames.cut_behind_frame().map(Self::Frames),
            // What follows its fragment is given up when the fragment has left.
            Self::Long(_) => self.is_begun().then_some(self),
        }
    }
}

/// Whole frames, masked.
pub struct Frames {
    /// The frames.
    pub bytes: Vec<u8>,
    /// How many bytes of them are written.
    pub written: usize,
    /// What they are.
    pub kind: FrameKind,
}

/// What frames are, where they are not all alike to the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Messages and pings, in the order of the calls.
    Data,
    /// One ping that overtakes.
    Ping,
    /// One pong that overtakes.
    Pong,
    /// The Close.
    Close,
}

impl Frames {
    /// Frames of messages, and of pings in line with them.
    pub fn data(bytes: Vec<u8>) -> Self {
        Self { bytes, written: 0, kind: FrameKind::Data }
    }

    /// How many bytes are left to write.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    fn cut_behind_frame(mut self) -> Option<Self> {
        let mut end = 0;
        while end < self.written {
            let frames = self.bytes.get(end..).unwrap_or_default();
            end += frame::first_frame_size(frames).unwrap_or(frames.len()).max(1);
        }
        self.bytes.truncate(end);
        (self.written < self.bytes.len()).then_some(self)
    }
}

/// A long message. Its payload stays where it is and is masked there, a fragment at a time and just before it leaves.
pub struct LongMessage {
    payload: Vec<u8>,
    /// Of the next fragment: a continuation from the second on.
    kind: Kind,
    /// The payload before this belongs to fragments that have left.
    start: usize,
    fragment: Option<Fragment>,
}

/// A frame of a long message: its header, then its part of the payload, which is masked.
struct Fragment {
    header: EncodedHeader,
    payload_len: usize,
    written: usize,
}

impl Fragment {
    fn len(&self) -> usize {
        self.header.as_slice().len() + self.payload_len
    }
}

impl LongMessage {
    /// A message none of which has left.
    pub fn new(kind: Kind, payload: Vec<u8>) -> Self {
        Self { payload, kind, start: 0, fragment: None }
    }

    /// How many bytes the frames of a message of `length` bytes have, headers included.
    pub fn size(length: usize) -> u64 {
        let last = match length % FRAGMENT {
            0 if length > 0 => 0,
            last => frame::frame_size(last),
        };
        (length / FRAGMENT) as u64 * frame::frame_size(FRAGMENT) as u64 + last as u64
    }

    /// Makes the next fragment ready to leave, if it is not.
    pub fn prepare(&mut self, random: &mut Random) {
        if self.fragment.is_some() {
            return;
        }
        let key = random.mask_key();
        let end = self.payload.len().min(self.start + FRAGMENT);
        let is_last = end == self.payload.len();
        let payload = self.payload.get_mut(self.start..end).unwrap_or_default();
        mask::mask(payload, key, 0);
        let header = EncodedHeader::new(is_last, self.kind, payload.len(), key);
        self.fragment = Some(Fragment { header, payload_len: payload.len(), written: 0 });
    }

    /// Whether nothing comes behind the fragment that is ready.
    pub fn is_last_fragment(&self) -> bool {
        self.fragment.as_ref().is_some_and(|fragment| self.start + fragment.payload_len >= self.payload.len())
    }

    /// The message behind its fragment, which has left; `None` where that was the last.
    fn without_fragment(mut self) -> Option<Self> {
        if self.is_last_fragment() {
            return None;
        }
        self.start += self.fragment.take()?.payload_len;
        self.kind = Opcode::Continuation.into();
        Some(self)
    }

    fn slices(&self) -> [&[u8]; 2] {
        let Some(Fragment { header, payload_len, written }) = &self.fragment else { return [&[], &[]] };
        let header = header.as_slice();
        let payload = self.payload.get(self.start..self.start + payload_len).unwrap_or_default();
        let of_payload = written.saturating_sub(header.len());
        [header.get(*written..).unwrap_or_default(), payload.get(of_payload..).unwrap_or_default()]
    }
}
