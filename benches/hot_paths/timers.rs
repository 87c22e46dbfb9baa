//! Deadlines: what a task does when one of its changes, and what the reactor does with those of 10,000 connections.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput};
use urlsession::internals::{Deadlines, Timer, Timers};

const CONNECTIONS: usize = 10_000;

/// How often each of them pings.
const INTERVAL: Duration = Duration::from_secs(20);

/// How far apart their turns are.
const STEP: Duration = Duration::from_millis(2);

pub fn benches(criterion: &mut Criterion) {
    task(criterion);
    reactor(criterion);
}

/// What the loader does when a deadline changes, and after every step: it asks for the earliest.
fn task(criterion: &mut Criterion) {
    let start = Instant::now();
    let mut group = criterion.benchmark_group("timers/task");
    group.throughput(Throughput::Elements(1));

    let idle = || {
        let mut timers = Timers::default();
        timers.start(Timer::Resource, start, Duration::from_secs(7 * 24 * 3600));
        timers
    };
    group.bench_function("idle/next", |bencher| {
        let timers = idle();
        bencher.iter(|| black_box(&timers).next());
    });
    group.bench_function("keep-alive/restart and next", |bencher| {
        let mut timers = idle();
        timers.start(Timer::Pong, start, INTERVAL);
        bencher.iter(|| {
            timers.start(Timer::Ping, black_box(start), INTERVAL);
            timers.next()
        });
    });
    group.bench_function("only one/start, cancel and next", |bencher| {
        let mut timers = idle();
        bencher.iter(|| {
            timers.start(Timer::Close, black_box(start), INTERVAL);
            timers.cancel(Timer::Close);
            timers.next()
        });
    });
    group.bench_function("keep-alive/expire and restart", |bencher| {
        let mut timers = idle();
        let mut now = start;
        timers.start(Timer::Ping, now, INTERVAL);
        bencher.iter(|| {
            now += Duration::from_micros(1);
            timers.start(Timer::Ping, now, Duration::ZERO);
            assert_eq!(timers.take_expired(now).count(), 1);
            timers.start(Timer::Ping, now, INTERVAL);
        });
    });
    group.finish();
}

/// The reactor's structure while each of the connections has a ping to send.
fn reactor(criterion: &mut Criterion) {
    let start = Instant::now();
    let mut group = criterion.benchmark_group("timers/10000 connections");
    group.throughput(Throughput::Elements(1));
    group.bench_function("next", |bencher| {
        let deadlines = armed(start);
        bencher.iter(|| black_box(&deadlines).next());
    });
    group.bench_function("expire and arm again", |bencher| {
        let mut deadlines = armed(start);
        let mut now = start;
        bencher.iter(|| {
            now += STEP;
            let token = deadlines.pop(now).unwrap();
            deadlines.insert(now, now + INTERVAL, token);
            deadlines.next()
        });
    });
    group.throughput(Throughput::Elements(2));
    group.bench_function("move one and back", |bencher| {
        let mut deadlines = armed(start);
        let mut token = 0;
        bencher.iter(|| {
            // All over the place.
            token = (token + 7919) % CONNECTIONS;
            let (deadline, other) = (deadline(start, token), deadline(start, token) + STEP / 2);
            deadlines.remove(deadline, token);
            deadlines.insert(start, other, token);
            deadlines.remove(other, token);
            deadlines.insert(start, deadline, token);
        });
    });
    group.throughput(Throughput::Elements(CONNECTIONS as u64));
    group.bench_function("all expire at once", |bencher| {
        let end = start + INTERVAL * 2;
        bencher.iter_batched_ref(
            || armed(start),
            |deadlines| {
                let mut count = 0;
                while deadlines.pop(end).is_some() {
                    count += 1;
                }
                assert_eq!(count, CONNECTIONS);
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn armed(start: Instant) -> Deadlines {
    let mut deadlines = Deadlines::default();
    for token in 0..CONNECTIONS {
        deadlines.insert(start, deadline(start, token), token);
    }
    deadlines
}

/// Their turns follow one another, a moment apart.
fn deadline(start: Instant, token: usize) -> Instant {
    start + STEP * (token as u32 + 1)
}
