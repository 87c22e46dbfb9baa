//! permessage-deflate (RFC 7692) of a run: what is offered, what the server makes of it, and what it compresses with, which is
//! another implementation of DEFLATE than the crate's.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use crate::inflate::{Inflater, TAIL};
use crate::rng::Rng;
use crate::wire::{Inflate, frame};

/// A window as large as there is.
const MOST: u8 = 15;

/// The parameters of one side.
#[derive(Clone, Copy, Debug)]
pub struct Side {
    pub forgets: bool,
    /// `None`: it is not spoken of.
    pub bits: Option<u8>,
}

/// What the options of the session say, and what the server answers.
#[derive(Clone, Debug)]
pub struct Deflate {
    pub offers: bool,
    pub client: Side,
    pub server: Side,
    pub threshold: usize,
    /// `None`: the server declines. The client's parameters, then its own.
    pub answer: Option<(Side, Side)>,
}

/// What holds on the open socket.
#[derive(Clone, Copy, Debug)]
pub struct Agreed {
    pub client_forgets: bool,
    pub client_bits: u8,
    pub server_forgets: bool,
    pub server_bits: u8,
}

impl Deflate {
    pub fn new(rng: &mut Rng) -> Self {
        let offered = |rng: &mut Rng| Side {
            forgets: rng.one_in(8),
            bits: if rng.one_in(8) { Some(rng.pick(&[9, 10, 12])) } else { None },
        };
        let (client, server) = (offered(rng), offered(rng));
        let offers = !rng.one_in(8);
        let bits = |rng: &mut Rng| rng.pick(&[8, 9, 10, 15]);
        let answer = (
            Side { forgets: rng.one_in(4), bits: if rng.one_in(3) { Some(bits(rng)) } else { None } },
            Side { forgets: rng.one_in(4), bits: if rng.one_in(3) { Some(bits(rng)) } else { None } },
        );
        let within = |answer: Option<u8>, most: Option<u8>| answer.map(|bits| bits.min(most.unwrap_or(MOST)));
        let answer = (
            Side { forgets: answer.0.forgets, bits: within(answer.0.bits, client.bits) },
            // What was asked for has to be promised (§7.1.1.1, §7.1.2.1).
            Side {
                forgets: answer.1.forgets || server.forgets,
                bits: within(answer.1.bits, server.bits).or(server.bits),
            },
        );
        let accepts = offers && !rng.one_in(5);
        let threshold = rng.pick(&[0, 1, 1, 100, 1024, 1024, 1024]);
        Self { offers, client, server, threshold, answer: accepts.then_some(answer) }
    }

    /// The fields of the request that offer it.
    pub fn offer(&self) -> Option<String> {
        let mut offer = "permessage-deflate".to_owned();
        for (side, name) in
            [(self.server, "; server_no_context_takeover"), (self.client, "; client_no_context_takeover")]
        {
            offer += if side.forgets { name } else { "" };
        }
        if let Some(bits) = self.server.bits {
            offer += &format!("; server_max_window_bits={bits}");
        }
        offer += "; client_max_window_bits";
        if let Some(bits) = self.client.bits {
            offer += &format!("={bits}");
        }
        self.offers.then_some(offer)
    }

    /// The line of the answer that accepts it, or none.
    pub fn line(&self) -> String {
        let Some((client, server)) = self.answer else { return String::new() };
        let mut line = "Sec-WebSocket-Extensions: permessage-deflate".to_owned();
        for (side, name) in [(client, "client"), (server, "server")] {
            if side.forgets {
                line += &format!("; {name}_no_context_takeover");
            }
            if let Some(bits) = side.bits {
                line += &format!("; {name}_max_window_bits={bits}");
            }
        }
        line + "\r\n"
    }

    pub fn agreed(&self) -> Option<Agreed> {
        let (client, server) = self.answer?;
        Some(Agreed {
            // What a client says of itself holds, whatever is answered (§7.1.1.2, §7.1.2.2).
            client_forgets: client.forgets || self.client.forgets,
            client_bits: client.bits.or(self.client.bits).unwrap_or(MOST),
            server_forgets: server.forgets,
            server_bits: server.bits.unwrap_or(MOST),
        })
    }

    /// Whether messages of the client may be compressed: with a window of 8 bits nobody compresses.
    fn client(&self) -> Option<Agreed> {
        self.agreed().filter(|agreed| agreed.client_bits >= 9)
    }

    /// What reads what the client compressed, and sees how far back that refers; `None`: it may not compress.
    pub fn strict(&self) -> Option<Inflate> {
        let agreed = self.client()?;
        let mut inflater = Inflater::new(agreed.client_bits, agreed.client_forgets);
        Some(Box::new(move |payload| inflater.message(payload)))
    }

    /// As [`strict`](Self::strict), with the other implementation.
    pub fn other(&self) -> Option<Inflate> {
        let agreed = self.client()?;
        let mut decompress = Decompress::new(false);
        Some(Box::new(move |payload| {
            if agreed.client_forgets {
                decompress.reset(false);
            }
            inflated(&mut decompress, payload)
        }))
    }

    /// Whether a message may be on the wire like this. `late`: the server broke the protocol before it was sent.
    pub fn may_be(&self, (text, length): (bool, usize), wire: Wire, late: bool) -> bool {
        let Some(agreed) = self.client() else { return !wire.compressed };
        if length < self.threshold.max(1) {
            return !wire.compressed;
        }
        // What gets no smaller goes as it is, unless the next may refer to it.
        let smaller = wire.bytes < length;
        match wire.compressed {
            true => smaller || !agreed.client_forgets,
            false => late || (agreed.client_forgets && (!text || length < 300)),
        }
    }
}

/// How a message was on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    pub compressed: bool,
    /// The bytes of its frames, without their headers.
    pub bytes: usize,
}

fn inflated(decompress: &mut Decompress, payload: &[u8]) -> Vec<u8> {
    let input = [payload, &TAIL].concat();
    let mut out = Vec::with_capacity(1024);
    let before = decompress.total_in();
    loop {
        let (taken, made) = ((decompress.total_in() - before) as usize, out.len());
        decompress.decompress_vec(&input[taken..], &mut out, FlushDecompress::Sync).expect("it is compressed");
        if out.len() < out.capacity() && decompress.total_in() - before == input.len() as u64 {
            return out;
        }
        assert!(out.len() > made || out.len() == out.capacity(), "what was compressed is whole");
        out.reserve(out.len().max(1024));
    }
}

/// What the server compresses with.
pub struct Codec {
    compress: Compress,
    agreed: Agreed,
}

impl Codec {
    pub fn new(agreed: Agreed) -> Self {
        Self { compress: Compress::new(Compression::new(3), false), agreed }
    }

    /// A message; `finally`: with a final block, as some do (RFC 7692 §7.2.3.4).
    pub fn compress(&mut self, payload: &[u8], finally: bool) -> Vec<u8> {
        if payload.is_empty() {
            return vec![0x00];
        }
        if self.agreed.server_forgets {
            self.compress.reset();
        }
        let mut out = Vec::with_capacity(payload.len() + 64);
        if finally {
            self.put(payload, &mut out, FlushCompress::Finish);
            self.compress.reset();
            // An empty block, so that the message ends as others do.
            out.push(0x00);
            return out;
        }
        // The implementation knows one window. Where it has to be smaller, nothing refers to the part before.
        let (flush, window) = match self.agreed.server_bits {
            MOST => (FlushCompress::Sync, usize::MAX),
            bits => (FlushCompress::Full, 1 << bits),
        };
        for part in payload.chunks(window) {
            self.put(part, &mut out, flush);
        }
        assert!(out.ends_with(&TAIL));
        out.truncate(out.len() - TAIL.len());
        out
    }

    fn put(&mut self, payload: &[u8], out: &mut Vec<u8>, flush: FlushCompress) {
        let before = self.compress.total_in();
        loop {
            let taken = (self.compress.total_in() - before) as usize;
            self.compress.compress_vec(&payload[taken..], out, flush).unwrap();
            if out.len() < out.capacity() {
                return;
            }
            out.reserve(1024);
        }
    }
}

/// Answers that are wrong, whatever was offered.
pub const WRONG: [&str; 7] = [
    "permessage-deflate; client_max_window_bits",
    "permessage-deflate; client_max_window_bits=7",
    "permessage-deflate; server_max_window_bits=16",
    "permessage-deflate; server_no_context_takeover=1; server_max_window_bits=9",
    "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
    "permessage-deflate; window=15; server_no_context_takeover",
    "permessage-deflate; server_max_window_bits=9, permessage-deflate; server_max_window_bits=9",
];

/// A block without compression, and the empty one that ends a message.
fn stored(payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u16;
    [&[0x00][..], &length.to_le_bytes(), &(!length).to_le_bytes(), payload, &[0x00]].concat()
}

/// Something that RFC 7692 forbids a server, and the code of the Close that answers it.
pub fn violation(agreed: Option<Agreed>, rng: &mut Rng) -> (Vec<u8>, u16) {
    let half = "ab€".as_bytes().get(..4).unwrap_or_default();
    let mut all = vec![
        (frame(0xc9, b"x"), 1002),
        (frame(0xca, b""), 1002),
        (frame(0xc8, b""), 1002),
        ([frame(0x01, b""), frame(0xc0, b"")].concat(), 1002),
        ([frame(0x02, b""), frame(0x40, b""), frame(0x80, b"")].concat(), 1002),
        (frame(0xe2, &[0x00]), 1002),
        (frame(0xd1, &[0x00]), 1002),
    ];
    match agreed {
        None => all.extend([(frame(0xc1, &stored(b"")), 1002), (frame(0x42, &[0x00]), 1002)]),
        Some(agreed) => {
            all.extend([
                ([frame(0x41, &[]), frame(0xc0, &[0x00])].concat(), 1002),
                // A type of block that there is not.
                (frame(0xc2, &[0xff; 20]), 1007),
                ([frame(0x42, &[]), frame(0x00, &[0x07]), frame(0x80, &[0x07])].concat(), 1007),
                // A block that does not end.
                (frame(0xc2, &[0x00, 10, 0, !10, 0xff, 1, 2, 3]), 1007),
                (frame(0xc1, &stored(&[0xff])), 1007),
                (frame(0xc1, &stored(half)), 1007),
                ([frame(0x41, &stored(half)), frame(0x80, &stored(b"x"))].concat(), 1007),
            ]);
            if agreed.server_forgets {
                // In a code that is fixed, a copy of 3 bytes from 1 byte back, of a message that has just begun.
                all.push((frame(0xc2, &[0x02, 0x02, 0x00]), 1007));
            }
        }
    }
    all.swap_remove(rng.below(all.len()))
}
