//! The check of text: of a message that is one frame and came whole, and of one that comes in pieces.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use urlsession::internals::{Malformed, whole_characters, whole_text};

use crate::samples;

/// What one TCP segment on an Ethernet brings. It cuts characters in two.
const PIECE: usize = 1448;

pub fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("utf8");
    for (kind, text) in [("ascii", samples::ascii as fn(usize) -> String), ("multi-byte", samples::quarter_multi_byte)]
    {
        for length in [128, 16 * 1024, 1024 * 1024] {
            let text = text(length);
            group.throughput(Throughput::Bytes(length as u64));
            group.bench_function(BenchmarkId::new(format!("whole/{kind}"), length), |bencher| {
                bencher.iter(|| whole_text(black_box(text.as_bytes())).map(str::len));
            });
            group.bench_function(BenchmarkId::new(format!("pieces/{kind}"), length), |bencher| {
                bencher.iter(|| in_pieces(black_box(text.as_bytes())));
            });
        }
    }
    group.finish();
}

/// As a message checks what has arrived of it: the piece, and what was left over of the character before.
fn in_pieces(bytes: &[u8]) -> Result<usize, Malformed> {
    let (mut arrived, mut checked) = (0, 0);
    while arrived < bytes.len() {
        arrived = bytes.len().min(arrived + PIECE);
        checked += whole_characters(&bytes[checked..arrived])?;
    }
    Ok(checked)
}
