//! A server's side of permessage-deflate, by another implementation of DEFLATE than the crate's.

#![allow(dead_code, reason = "each test file uses a part")]

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::{Peer, frame};

const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// What a server compresses and decompresses messages with, of which each may refer to those before.
pub struct Codec {
    compress: Compress,
    decompress: Decompress,
}

impl Default for Codec {
    fn default() -> Self {
        Self { compress: Compress::new(Compression::default(), false), decompress: Decompress::new(false) }
    }
}

impl Codec {
    /// The next message begins anew.
    pub fn forget(&mut self) {
        self.compress.reset();
    }

    pub fn compress(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(payload.len() + 64);
        let before = self.compress.total_in();
        loop {
            let taken = (self.compress.total_in() - before) as usize;
            self.compress.compress_vec(&payload[taken..], &mut out, FlushCompress::Sync).unwrap();
            if out.len() < out.capacity() {
                break;
            }
            out.reserve(1024);
        }
        assert!(out.ends_with(&TAIL));
        out.truncate(out.len() - TAIL.len());
        out
    }

    pub fn decompress(&mut self, payload: &[u8]) -> Vec<u8> {
        let input = [payload, &TAIL].concat();
        let mut out = Vec::with_capacity(1024);
        let before = self.decompress.total_in();
        loop {
            let (taken, made) = ((self.decompress.total_in() - before) as usize, out.len());
            self.decompress.decompress_vec(&input[taken..], &mut out, FlushDecompress::Sync).expect("it is compressed");
            if out.len() < out.capacity() && self.decompress.total_in() - before == input.len() as u64 {
                return out;
            }
            assert!(out.len() > made || out.len() == out.capacity(), "what was compressed is whole");
            out.reserve(out.len().max(1024));
        }
    }

    /// A compressed text in one frame.
    pub fn text(&mut self, text: &str) -> Vec<u8> {
        frame(0xc1, &self.compress(text.as_bytes()))
    }

    /// A compressed binary message in one frame.
    pub fn data(&mut self, data: &[u8]) -> Vec<u8> {
        frame(0xc2, &self.compress(data))
    }

    /// The client's next message, or `None` for its Close: whether it came compressed, its bytes on the wire, and what it is.
    pub fn read_message(&mut self, peer: &mut Peer) -> Option<Received> {
        let mut first = None;
        let mut payload = Vec::new();
        loop {
            let frame = peer.read_frame();
            match frame.opcode() {
                8 => return None,
                9 => peer.write(&super::frame(0x8a, &frame.payload)),
                10 => {}
                _ => {
                    let begins = first.is_none();
                    assert_eq!(begins, frame.opcode() != 0);
                    assert!(begins || frame.first & 0x70 == 0, "a continuation is not marked: RFC 7692 §6.1");
                    let first = *first.get_or_insert(frame.first);
                    payload.extend_from_slice(&frame.payload);
                    if frame.is_final() {
                        let compressed = first & 0x40 != 0;
                        let wire = payload.len();
                        let payload = if compressed { self.decompress(&payload) } else { payload };
                        return Some(Received { opcode: first & 0x0f, compressed, wire, payload });
                    }
                }
            }
        }
    }
}

/// A message of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub opcode: u8,
    pub compressed: bool,
    /// Its length on the wire.
    pub wire: usize,
    pub payload: Vec<u8>,
}

/// The header line of an answer that accepts the offer with these parameters.
pub fn accepts(parameters: &str) -> String {
    format!("Sec-WebSocket-Extensions: permessage-deflate{parameters}\r\n")
}
