//! Messages of JSON as a feed has them: alike, but none like another. The same in every run.

/// So much more than a compressor can look back on (32 KiB) that no message is found as a copy of itself.
const TOTAL: usize = 1 << 20;
/// Of the largest messages.
const FEWEST: usize = 4;

const SYMBOLS: [(&str, u64); 6] = [
    ("BTC-USD", 6_412_350),
    ("ETH-EUR", 241_387),
    ("SOL-USD", 18_342),
    ("ADA-GBP", 4_551),
    ("XMR-EUR", 15_980),
    ("LTC-USD", 8_226),
];

const WORDS: [&str; 16] = [
    "the",
    "order",
    "was",
    "filled",
    "at",
    "market",
    "after",
    "a",
    "partial",
    "cancel",
    "by",
    "client",
    "request",
    "with",
    "no",
    "remainder",
];

/// Messages of exactly `size` bytes, to be sent in turn.
pub fn messages(size: usize) -> Vec<String> {
    let mut feed = Feed { random: 0, id: 48_213_377, time: 1_795_338_847_381 };
    (0..(TOTAL / size.max(1)).max(FEWEST)).map(|_| feed.message(size)).collect()
}

/// What goes from one record to the next.
struct Feed {
    random: u64,
    id: u64,
    /// In milliseconds.
    time: u64,
}

impl Feed {
    /// An array of as many records as fit, and a text that fills it up.
    fn message(&mut self, size: usize) -> String {
        let mut text = String::with_capacity(size);
        text.push('[');
        loop {
            let record = self.record();
            if text.len() + record.len() + r#","""]"#.len() > size {
                break;
            }
            text.push_str(&record);
            text.push(',');
        }
        text.push('"');
        let end = size - r#""]"#.len();
        while text.len() < end {
            let word = WORDS[self.below(WORDS.len() as u64) as usize];
            text.push_str(&word[..word.len().min(end - text.len())]);
            text.push_str(if text.len() < end { " " } else { "" });
        }
        text.push_str(r#""]"#);
        text
    }

    fn record(&mut self) -> String {
        self.id += 1 + self.below(5);
        self.time += self.below(400);
        let (symbol, price) = SYMBOLS[self.below(SYMBOLS.len() as u64) as usize];
        // Within a hundredth of the usual.
        let price = price - price / 100 + self.below(price / 50);
        let side = if self.below(2) == 0 { "buy" } else { "sell" };
        let (by, size) = (self.below(1 << 32), self.below(10_000));
        format!(
            r#"{{"id":{},"time":{},"by":"{by:08x}","symbol":"{symbol}","side":"{side}","price":{}.{:02},"size":0.{size:04}}}"#,
            self.id,
            self.time,
            price / 100,
            price % 100,
        )
    }

    /// A number below `end`, by SplitMix64.
    fn below(&mut self, end: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % end
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn makes_different_json_of_the_size() {
        for size in [128, 1024, 16 * 1024, 1 << 20] {
            let messages = messages(size);
            assert!(messages.len() >= FEWEST && messages.len() * size >= TOTAL);
            assert_eq!(messages.iter().collect::<HashSet<_>>().len(), messages.len(), "{size}");
            for message in &messages {
                assert_eq!(message.len(), size);
                let Value::Array(records) = serde_json::from_str(message).unwrap() else { panic!("{message}") };
                assert!(records[0].is_object(), "{message}");
            }
        }
    }

    #[test]
    fn is_the_same_in_every_run() {
        assert_eq!(messages(128)[..10], messages(128)[..10]);
    }
}
