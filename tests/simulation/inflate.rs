//! DEFLATE (RFC 1951) read once more, slowly: that a client refers no further back than was agreed, no implementation at hand
//! can tell.

/// What is taken off the end of a message (RFC 7692 §7.2.1).
pub const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The order in which the lengths of the codes of code lengths stand (RFC 1951 §3.2.7).
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Reads messages, and panics at what a client may not send.
pub struct Inflater {
    window: usize,
    /// No message refers to another.
    forgets: bool,
    history: Vec<u8>,
}

impl Inflater {
    pub fn new(window_bits: u8, forgets: bool) -> Self {
        Self { window: 1 << window_bits, forgets, history: Vec::new() }
    }

    /// A message (RFC 7692 §7.2.2).
    pub fn message(&mut self, payload: &[u8]) -> Vec<u8> {
        let input = [payload, &TAIL].concat();
        let mut bits = Bits { bytes: &input, at: 0 };
        let mut out = std::mem::take(&mut self.history);
        let start = out.len();
        while bits.at < input.len() * 8 {
            assert_eq!(bits.take(1), 0, "a final block, behind which nothing may come");
            match bits.take(2) {
                0 => stored(&mut bits, &mut out),
                1 => self.coded(&mut bits, &Code::fixed(), &Code::new(&[5; 30]), &mut out),
                2 => {
                    let (literals, distances) = codes(&mut bits);
                    self.coded(&mut bits, &literals, &distances, &mut out);
                }
                _ => panic!("a block of a type that there is not"),
            }
        }
        let message = out[start..].to_vec();
        if !self.forgets {
            out.drain(..out.len().saturating_sub(self.window));
            self.history = out;
        }
        message
    }

    fn coded(&self, bits: &mut Bits<'_>, literals: &Code, distances: &Code, out: &mut Vec<u8>) {
        loop {
            let length = match literals.next(bits) {
                literal @ 0..256 => {
                    out.push(literal as u8);
                    continue;
                }
                256 => return,
                285 => 258,
                symbol => {
                    let symbol = symbol - 257;
                    let extra = (symbol / 4).saturating_sub(1);
                    let base = if symbol < 8 { symbol } else { (4 + symbol % 4) << extra };
                    3 + base + bits.take(extra)
                }
            };
            let symbol = distances.next(bits);
            let extra = (symbol / 2).saturating_sub(1);
            let base = if symbol < 4 { symbol } else { (2 + symbol % 2) << extra };
            let distance = 1 + base + bits.take(extra);
            assert!(distance <= self.window, "a reference {distance} bytes back, the window has {}", self.window);
            assert!(distance <= out.len(), "a reference to what was before the beginning");
            for _ in 0..length {
                out.push(out[out.len() - distance]);
            }
        }
    }
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> usize {
        let mut value = 0;
        for index in 0..count {
            let byte = self.bytes.get(self.at / 8).expect("what was compressed is whole");
            value |= usize::from(byte >> (self.at % 8) & 1) << index;
            self.at += 1;
        }
        value
    }
}

fn stored(bits: &mut Bits<'_>, out: &mut Vec<u8>) {
    bits.at = bits.at.next_multiple_of(8);
    let length = bits.take(16);
    assert_eq!(bits.take(16), length ^ 0xffff, "a length and its complement");
    let start = bits.at / 8;
    out.extend_from_slice(bits.bytes.get(start..start + length).expect("what was compressed is whole"));
    bits.at += length * 8;
}

/// The codes of a block that brings its own.
fn codes(bits: &mut Bits<'_>) -> (Code, Code) {
    let literals = 257 + bits.take(5);
    let distances = 1 + bits.take(5);
    let mut lengths = [0; 19];
    for index in &ORDER[..4 + bits.take(4)] {
        lengths[*index] = bits.take(3);
    }
    let code = Code::new(&lengths);
    let mut lengths = Vec::new();
    while lengths.len() < literals + distances {
        let (length, count) = match code.next(bits) {
            16 => (lengths[lengths.len() - 1], 3 + bits.take(2)),
            17 => (0, 3 + bits.take(3)),
            18 => (0, 11 + bits.take(7)),
            length => (length, 1),
        };
        lengths.extend(std::iter::repeat_n(length, count));
    }
    assert_eq!(lengths.len(), literals + distances);
    (Code::new(&lengths[..literals]), Code::new(&lengths[literals..]))
}

/// A canonical Huffman code.
struct Code {
    /// How many symbols there are of each length.
    counts: [usize; 16],
    /// Ordered by length.
    symbols: Vec<usize>,
}

impl Code {
    fn new(lengths: &[usize]) -> Self {
        let mut counts = [0; 16];
        for length in lengths {
            counts[*length] += 1;
        }
        counts[0] = 0;
        let mut symbols: Vec<usize> = (0..lengths.len()).filter(|symbol| lengths[*symbol] > 0).collect();
        symbols.sort_by_key(|symbol| lengths[*symbol]);
        Self { counts, symbols }
    }

    fn fixed() -> Self {
        let length = |symbol| match symbol {
            0..144 | 280.. => 8,
            144..256 => 9,
            _ => 7,
        };
        Self::new(&(0..288).map(length).collect::<Vec<usize>>())
    }

    fn next(&self, bits: &mut Bits<'_>) -> usize {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in &self.counts[1..] {
            code |= bits.take(1);
            if code < first + count {
                return self.symbols[index + code - first];
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        panic!("a code that stands for nothing");
    }
}
