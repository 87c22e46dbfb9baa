//! What of the ciphertext is kept until more comes.
#![forbid(unsafe_code)]

use crate::foundation::{ErrorCode, UrlError, failure};

/// The header of a record: its type, its version, the length of what follows (RFC 8446 §5.1).
const HEADER: usize = 5;

/// How much of an incomplete message of the handshake is kept, the headers of its records included.
const HANDSHAKE: usize = 64 * 1024;

/// The bytes that rustls is not done with. Mostly there are none: a read that ends within a record leaves that part of it,
/// and a message of the handshake that is cut into several records stays, as rustls left it, until its last one is there.
/// The memory is given back with the last byte.
#[derive(Default)]
pub struct Kept {
    bytes: Vec<u8>,
    /// So many bytes at the front are whole records, decrypted where they lie, of a message that is not whole. What is behind
    /// them is the beginning of a record.
    whole: usize,
    /// rustls was stopped on its way, and has not looked at all of it.
    is_paused: bool,
}

impl Kept {
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Finds where the last whole record of `records` ends. (When rustls has been at them, their headers may be overwritten.)
    pub fn measure(&mut self, records: &[u8]) {
        while let Some(rest) = records.get(self.whole..)
            && let Some(length) = record_len(rest)
            && length <= rest.len()
        {
            self.whole += length;
        }
    }

    /// rustls is done with so many bytes at the front of what was measured.
    pub fn done(&mut self, done: usize) {
        self.whole = self.whole.saturating_sub(done);
    }

    /// Keeps what rustls is not done with.
    ///
    /// # Errors
    ///
    /// A message of the handshake is too long.
    pub fn keep(&mut self, rest: &[u8]) -> Result<(), UrlError> {
        self.check()?;
        self.bytes = rest.to_vec();
        Ok(())
    }

    /// Keeps all that rustls has not looked at, whatever it is. What was measured at its front was measured; the rest is now.
    pub fn pause(&mut self, rest: Vec<u8>) {
        self.measure(&rest);
        self.is_paused = !rest.is_empty();
        self.bytes = rest;
    }

    /// Takes from `ciphertext` what the record at the end lacks. Whether there is something new for rustls to look at: a whole
    /// record, or the header of one, which may be refused before the rest is there.
    pub fn complete(&mut self, ciphertext: &mut &mut [u8]) -> bool {
        if std::mem::take(&mut self.is_paused) {
            return true;
        }
        let lacks = missing(self.begun());
        let count = lacks.min(ciphertext.len());
        let (taken, rest) = std::mem::take(ciphertext).split_at_mut(count);
        self.bytes.extend_from_slice(taken);
        *ciphertext = rest;
        if missing(self.begun()) == 0 {
            self.whole = self.bytes.len();
        }
        count == lacks
    }

    /// The record at the end.
    fn begun(&self) -> &[u8] {
        self.bytes.get(self.whole..).unwrap_or_default()
    }

    /// All of it, for rustls to work on.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Takes it back, but for the `done` bytes at the front.
    ///
    /// # Errors
    ///
    /// A message of the handshake is too long.
    pub fn put_back(&mut self, mut bytes: Vec<u8>, done: usize) -> Result<(), UrlError> {
        self.done(done);
        self.check()?;
        if done < bytes.len() {
            bytes.drain(..done);
            self.bytes = bytes;
        }
        Ok(())
    }

    /// The records that rustls has been at: while there are any, it expects to find them in front of what it is given.
    pub fn held(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.whole).unwrap_or_default()
    }

    /// How much memory is kept.
    #[cfg(test)]
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn check(&self) -> Result<(), UrlError> {
        if self.whole > HANDSHAKE {
            let reason = "the server sent too long a message of the handshake";
            return Err(failure(ErrorCode::SecureConnectionFailed, reason));
        }
        Ok(())
    }
}

/// How many bytes a record that begins so lacks; of one whose header is not there, how many that lacks.
fn missing(record: &[u8]) -> usize {
    match record_len(record) {
        Some(length) => length.saturating_sub(record.len()),
        None => HEADER.saturating_sub(record.len()),
    }
}

/// The length of a record, its header included, once that is there.
fn record_len(record: &[u8]) -> Option<usize> {
    let [_, _, _, high, low] = record.first_chunk::<HEADER>()?;
    Some(HEADER + usize::from(u16::from_be_bytes([*high, *low])))
}
