//! Unpredictable bytes, drawn in bulk, a pool for each thread: a cipher's stream whose keys are the operating system's.
//!
//! RFC 6455 §10.3 wants mask keys from a strong source. The system's own bytes cost a client that sends much more than all
//! of its framing, so they are the key of ChaCha20 (RFC 8439), and a new key is drawn again and again: soon enough that a
//! process that was forked does not share its keys for long.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};

use crate::foundation::Random;

/// How many pools are filled with one key.
const POOLS: u32 = 16;

/// A pool that is filled with the stream of a cipher, whose keys are drawn from the operating system's generator.
pub fn system_random() -> Random {
    let mut stream: Option<(ChaCha20Rng, u32)> = None;
    Random::new(move |bytes| {
        let (cipher, left) = match &mut stream {
            Some(stream) if stream.1 > 0 => stream,
            stream => stream.insert((ChaCha20Rng::from_seed(system_seed()), POOLS)),
        };
        *left -= 1;
        cipher.fill_bytes(bytes);
    })
}

fn system_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    // A system that has no random bytes cannot open a WebSocket (RFC 6455 §10.3), and no system that Rust runs on refuses
    // them once it is up.
    getrandom::fill(&mut seed).expect("the operating system gives random bytes");
    seed
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_key_comes_twice_within_a_key_of_the_cipher_or_behind_it() {
        let mut random = system_random();
        let mut other = system_random();
        // Of 16 bytes, none of which meet by chance.
        let all: HashSet<[u8; 16]> = (0..20_000).flat_map(|_| [random.bytes(), other.bytes()]).collect();
        assert_eq!(all.len(), 40_000);
    }
}
