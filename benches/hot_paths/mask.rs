//! Copy and mask: what the payload of a frame costs on its way into the buffer that is written.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use urlsession::internals::extend_masked;

use crate::samples;

pub fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mask");
    for length in [16, 125, 1024, 16 * 1024, 1024 * 1024] {
        let payload = samples::binary(length);
        let mut out = Vec::with_capacity(length);
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(BenchmarkId::new("copy", length), |bencher| {
            bencher.iter(|| {
                out.clear();
                extend_masked(black_box(&mut out), black_box(&payload), black_box([0x37, 0xfa, 0x21, 0x3d]));
            });
        });
    }
    group.finish();
}
