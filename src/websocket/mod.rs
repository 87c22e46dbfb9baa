//! The WebSocket protocol, RFC 6455, and its compression, RFC 7692, without I/O.
//!
//! **In**: the bytes that the server sent go into a [`Decoder`], in pieces of any size; whole messages and control frames
//! come out, or the [`Violation`] that ends the connection. Every rule of §5 is checked at the byte that shows it is
//! broken, and the memory of a message follows its bytes that have arrived, three times over at most.
//! A compressed message is inflated as it arrives, and no further than it may grow.
//!
//! **Out**: messages and control frames go into an [`Outgoing`]; masked frames come out as an [`Output`], a list of slices
//! for one vectored write. What could not be written goes back and leaves first the next time.
//!
//! | file | |
//! |---|---|
//! | `frame` | the header of a frame, both ways; the payload of a Close (§5.2, §5.5.1) |
//! | `mask` | the masking of client frames (§5.3) |
//! | `utf8` | the check of text that arrives in pieces (§8.1) |
//! | `compressor`, `inflater` | permessage-deflate (RFC 7692), both ways |
//! | `contexts` | the memory of compression, shared by many connections |
//! | `payload` | the bytes of a message that is still arriving |
//! | `decoder` | frames in, messages out |
//! | `outgoing` | messages in, frames out; who overtakes whom |
//! | `output` | the frames of one write |
//! | `follow` | the headers in a stream of frames, for whoever watches |
//! | `supply` | mask keys, and memory that is used again |
//! | `violation` | what a peer did that ends the connection (§7.1.7) |
//!
//! Nothing here knows of time, of the opening handshake, or of when the closing handshake is over.

mod compressor;
mod contexts;
mod decoder;
#[cfg(feature = "tracing")]
mod follow;
mod frame;
mod inflater;
mod mask;
mod outgoing;
mod output;
mod payload;
mod supply;
mod utf8;
mod violation;

pub use compressor::{Compressed, Compressor};
pub use contexts::Contexts;
pub use decoder::{Decoder, Incoming, Short};
#[cfg(feature = "tracing")]
pub use follow::{FrameFollower, FrameHead};
pub use frame::cut_reason;
pub use inflater::Inflation;
pub use outgoing::Outgoing;
pub use output::Output;
pub use payload::PayloadBuffer;
pub use supply::Supply;
pub use violation::{Violation, ViolationKind};
#[cfg(feature = "__internals")]
pub use {
    mask::extend_masked,
    utf8::{Malformed, whole_characters, whole_text},
};
