//! Frames in, messages out: what a received byte costs between the socket and the queue of what is told.

use std::hint::black_box;
use std::mem::MaybeUninit;

use criterion::{Criterion, Throughput};
use urlsession::internals::Decoder;

use crate::samples::{self, BINARY, FIRST, LAST, MIDDLE, TEXT, server_frame};

/// The size of the reactor's buffer, which a flood fills.
const BUFFER: usize = 64 * 1024;
const MEGABYTE: usize = 1024 * 1024;

pub fn benches(criterion: &mut Criterion) {
    let text = |length| samples::ascii(length).into_bytes();
    flood(criterion, "text/128", |out| server_frame(out, TEXT, &text(128)));
    flood(criterion, "multi-byte/128", |out| {
        server_frame(out, TEXT, samples::quarter_multi_byte(128).as_bytes());
    });
    flood(criterion, "binary/128", |out| server_frame(out, BINARY, &samples::binary(128)));
    flood(criterion, "text/16384", |out| server_frame(out, TEXT, &text(16 * 1024)));
    flood(criterion, "binary/16384", |out| server_frame(out, BINARY, &samples::binary(16 * 1024)));
    flood(criterion, "fragmented/16x1024", |out| {
        for number in 0..16 {
            let first = [FIRST, MIDDLE, LAST][usize::from(number > 0) + usize::from(number == 15)];
            server_frame(out, first, &samples::binary(1024));
        }
    });
    straddled(criterion);
    megabyte(criterion);
}

/// A buffer full of the same message again and again. Throughput: with the headers.
fn flood(criterion: &mut Criterion, name: &str, message: impl Fn(&mut Vec<u8>)) {
    let mut one = Vec::new();
    message(&mut one);
    let count = BUFFER / one.len();
    let bytes = one.repeat(count);
    let mut group = criterion.benchmark_group("decode/flood");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    let mut decoder = Decoder::new(0);
    group.bench_function(name, |bencher| {
        bencher.iter(|| assert_eq!(decode(&mut decoder, black_box(&bytes)), count));
    });
    group.finish();
}

/// Frames of 128 bytes each of which comes in two pieces, cut in its header or in its payload.
fn straddled(criterion: &mut Criterion) {
    let mut frame = Vec::new();
    server_frame(&mut frame, TEXT, samples::ascii(128).as_bytes());
    let mut group = criterion.benchmark_group("decode/straddled");
    group.throughput(Throughput::Bytes(frame.len() as u64));
    for (name, cut) in [("header", 1), ("payload", 64)] {
        let (front, back) = frame.split_at(cut);
        let mut decoder = Decoder::new(0);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                assert_eq!(decode(&mut decoder, black_box(front)), 0);
                assert_eq!(decode(&mut decoder, black_box(back)), 1);
            });
        });
    }
    group.finish();
}

/// A megabyte in one frame: through the buffer in its pieces, and after the first of them straight into its place.
fn megabyte(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode/1048576");
    for (kind, first, payload) in
        [("binary", BINARY, samples::binary(MEGABYTE)), ("text", TEXT, samples::ascii(MEGABYTE).into_bytes())]
    {
        let mut frame = Vec::new();
        server_frame(&mut frame, first, &payload);
        group.throughput(Throughput::Bytes(frame.len() as u64));
        let mut decoder = Decoder::new(0);
        group.bench_function(format!("{kind}/buffered"), |bencher| {
            bencher.iter(|| {
                let count: usize = black_box(&frame).chunks(BUFFER).map(|piece| decode(&mut decoder, piece)).sum();
                assert_eq!(count, 1);
            });
        });
        group.bench_function(format!("{kind}/direct"), |bencher| {
            bencher.iter(|| assert_eq!(read_directly(&mut decoder, black_box(&frame)), 1));
        });
    }
    group.finish();
}

/// How many messages there are in `bytes`.
fn decode(decoder: &mut Decoder, mut bytes: &[u8]) -> usize {
    let mut count = 0;
    loop {
        decoder
            .short_messages(&mut bytes, |message| {
                black_box(message);
                count += 1;
            })
            .unwrap();
        let Some(incoming) = decoder.decode(&mut bytes).unwrap() else { return count };
        black_box(incoming);
        count += 1;
    }
}

/// As the reactor reads a message of which much is missing. The copy is the kernel's.
fn read_directly(decoder: &mut Decoder, frame: &[u8]) -> usize {
    let (front, mut rest) = frame.split_at(4096);
    let mut count = decode(decoder, front);
    while let Some(mut buffer) = decoder.take_payload_buffer() {
        let vacancy = buffer.vacancy();
        let (front, after) = rest.split_at(vacancy.len().min(rest.len()));
        write(vacancy, front);
        // SAFETY: as many bytes of the vacancy were written just now.
        unsafe { buffer.assume_written(front.len()) };
        rest = after;
        count += usize::from(decoder.payload_received(buffer, front.len()).unwrap().is_some());
    }
    count + decode(decoder, rest)
}

fn write(vacancy: &mut [MaybeUninit<u8>], bytes: &[u8]) {
    for (place, byte) in vacancy.iter_mut().zip(bytes) {
        place.write(*byte);
    }
}
