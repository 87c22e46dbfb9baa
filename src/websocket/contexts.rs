//! The memory of compression, which is dear, lent to whoever needs it: RFC 7692 §7.2.
#![forbid(unsafe_code)]

use super::compressor::Compressor;
use super::inflater::{CHUNK, Inflater};
use crate::foundation::Pool;

/// How many of each are kept. They serve a message at a time and come back, so that a few are enough for many connections.
const KEPT: usize = 4;

/// What the connections of a reactor share: compressors and inflaters that remember nothing, and the chunks that messages are
/// inflated through. At most 1.3 MiB, and only what was needed before.
#[derive(Debug, Default)]
pub struct Contexts {
    compressors: Pool<Box<Compressor>, KEPT>,
    pub(super) inflaters: Pool<Box<Inflater>, KEPT>,
    chunks: Pool<Box<[u8]>, KEPT>,
}

impl Contexts {
    /// A compressor that remembers nothing, of this window.
    pub fn compressor(&self, window_bits: u8) -> Box<Compressor> {
        let kept = self.compressors.take(|compressor| compressor.window_bits() == window_bits);
        kept.unwrap_or_else(|| Box::new(Compressor::new(window_bits)))
    }

    /// A compressor that is not needed any more. What it remembers is forgotten.
    pub fn keep_compressor(&self, mut compressor: Box<Compressor>) {
        compressor.forget();
        self.compressors.put(compressor);
    }

    /// An inflater that remembers nothing.
    pub(super) fn inflater(&self) -> Box<Inflater> {
        self.inflaters.take(|_| true).unwrap_or_default()
    }

    /// An inflater that is not needed any more. What it remembers is forgotten.
    pub(super) fn keep_inflater(&self, mut inflater: Box<Inflater>) {
        inflater.forget();
        self.inflaters.put(inflater);
    }

    /// Runs with a chunk to inflate through.
    pub(super) fn with_chunk<R>(&self, run: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut chunk = self.chunks.take(|_| true).unwrap_or_else(|| vec![0; CHUNK].into_boxed_slice());
        let result = run(&mut chunk);
        self.chunks.put(chunk);
        result
    }
}
