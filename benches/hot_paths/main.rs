//! What the storeys below the reactor cost, without a socket: a figure for each thing that is done per byte, per message or
//! per deadline. (Against other clients, and over sockets, it is `bench/` that compares.)
//!
//! ```text
//! cargo bench                        # all of them
//! cargo bench -- decode              # those whose names have this in them
//! cargo bench -- --save-baseline a   # and later: cargo bench -- --baseline a
//! cargo bench -- --test              # each once, to see that they run
//! ```

#![allow(missing_docs, reason = "criterion's macros make public functions")]

mod decode;
mod encode;
mod head;
mod mask;
mod samples;
mod timers;
mod utf8;

use std::time::Duration;

use criterion::Criterion;

criterion::criterion_group! {
    name = hot_paths;
    // All that is measured is short and uses no memory that is cold: a second of it says enough.
    config = Criterion::default()
        .sample_size(40)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .without_plots();
    targets = mask::benches, utf8::benches, decode::benches, encode::benches, head::benches, timers::benches
}
criterion::criterion_main!(hot_paths);
