//! Messages in, frames out: what a sent message costs between the call and the socket, its mask included.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput};
use urlsession::Message;
use urlsession::internals::{Outgoing, Random, Supply};

use crate::samples;

/// How much the loader takes at a time.
const BUDGET: usize = 1024 * 1024;

pub fn benches(criterion: &mut Criterion) {
    let text = Message::String(samples::ascii(128));
    batch(criterion, "text/128/x1", &text, 1);
    batch(criterion, "text/128/x64", &text, 64);
    batch(criterion, "text/128/x2048", &text, 2048);
    let binary = |length| Message::Data(samples::binary(length));
    batch(criterion, "binary/128/x64", &binary(128), 64);
    batch(criterion, "binary/16383/x16", &binary(16 * 1024 - 1), 16);
    batch(criterion, "binary/16384/x16", &binary(16 * 1024), 16);
    batch(criterion, "binary/1048576/x1", &binary(1024 * 1024), 1);
}

/// `count` messages that are pushed before the first is taken, until all are written. Throughput: payloads. The making of
/// the messages is not measured, their end is.
fn batch(criterion: &mut Criterion, name: &str, message: &Message, count: usize) {
    let length = match message {
        Message::String(text) => text.len(),
        Message::Data(data) => data.len(),
        _ => 0,
    };
    let mut state = 1u64;
    // Not a strong source: that one's cost, of 4 bytes for each frame, is left out.
    let mut supply = Supply::new(Random::new(move |bytes| {
        for word in bytes.chunks_mut(8) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
        }
    }));
    let mut outgoing = Outgoing::default();
    let size = if length * count > 256 * 1024 { BatchSize::PerIteration } else { BatchSize::SmallInput };
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Bytes((length * count) as u64));
    group.bench_function(name, |bencher| {
        bencher.iter_batched(
            || vec![message.clone(); count],
            |messages| {
                let mut last = 0;
                for message in messages {
                    last = outgoing.push(message, &mut supply);
                }
                while let Some(mut output) = outgoing.take(BUDGET, &mut supply) {
                    let written = output.slices().map(|slice| black_box(slice).len()).sum();
                    output.advance(written);
                    outgoing.give_back(output, &mut supply);
                }
                assert_eq!(outgoing.written(), last);
            },
            size,
        );
    });
    group.finish();
}
