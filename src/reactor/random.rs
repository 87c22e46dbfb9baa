//! The operating system's random bytes, drawn in bulk, a pool for each thread.

use crate::foundation::Random;

/// A pool that is filled by the operating system's generator.
pub fn system_random() -> Random {
    Random::new(|bytes| {
        // A system that has no random bytes cannot open a WebSocket (RFC 6455 §10.3), and no system that Rust runs on
        // refuses them once it is up.
        getrandom::fill(bytes).expect("the operating system gives random bytes");
    })
}
