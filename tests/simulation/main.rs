//! The road of a task under a seeded random network: no clock, no socket, no thread.
//!
//! Every run is made from a seed. It chooses a server, a network, a caller and what goes wrong with each (`plan`), then plays
//! reactor, session, kernel, server and caller in an order that it chooses too (`moves`), and asks at every step whether
//! what came out is what has to come out (`model`, `rest`): who is told what, in which order, with which error; what is on
//! the wire; how much memory waits; that it ends, in time, and stays ended.
//!
//! - `SIMULATION_SEED=n cargo test --test simulation` replays one run and prints all that happened in it.
//! - `SIMULATION_RANDOM=1` begins at a seed of its own, which it prints.
//! - `SIMULATION_RUNS=n` makes so many runs.

mod asked;
mod calls;
mod compressed;
mod course;
mod deflate;
mod directed;
mod inflate;
mod missing;
mod model;
mod moves;
mod network;
mod peer;
mod plan;
mod proxied;
mod race;
mod rest;
mod rng;
mod tls;
mod way;
mod wire;
mod world;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::process;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use world::{Trace, World};

const RUNS: u64 = 10_000;

/// How long one run may take; they take milliseconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// How many kinds of ends so many runs have at least: a simulation that only ever sees clean ends proves nothing.
const KINDS: usize = 40;

/// What happens to compressed messages, to addresses, and on the way to the open socket, in so many runs, each at least once.
const SITUATIONS: [&str; 30] = [
    "answered, and the request could not be written",
    "went on, and stayed",
    "went on, and left",
    "went on while suspended",
    "a kept connection was lost",
    "left, and the writer writes",
    "old output came back",
    "a reply while suspended",
    "a reply that was too late",
    "raced: several addresses at the same time",
    "raced: a later address was quicker",
    "raced: a connection while suspended",
    "raced: an answer that was too late",
    "raced: suspended while addresses wait",
    "missing: nobody can be asked for the addresses",
    "missing: no address can be reached",
    "missing: suspended meanwhile",
    "missing: the task ends",
    "missing: the way was found in the end",
    "held",
    "held under back-pressure",
    "held, and a call comes between",
    "held, and more arrives",
    "held, and the stream has ended",
    "compressed, and calls come between",
    "compressed, and another waits",
    "compressed, and refused: the queue is full",
    "compressed, and refused: the task ends",
    "a message came back behind the end",
    "a message that a receiver kept held the end up for too long",
];

/// One run; how it ended, in words, and which of the situations there were.
fn run(seed: u64, trace: Trace) -> (String, BTreeSet<&'static str>) {
    let mut world = World::new(seed, trace);
    world.run();
    world.check_end();
    (world.model.end_in_words(), world.situations)
}

/// A run that is written down; whether it passed, and what happened in it.
fn traced(seed: u64) -> (bool, Vec<String>) {
    let trace = Rc::new(RefCell::new(Vec::new()));
    let passed = panic::catch_unwind(AssertUnwindSafe(|| run(seed, Some(Rc::clone(&trace))))).is_ok();
    let lines = trace.take();
    (passed, lines)
}

fn variable(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is a number, not {value}")))
}

/// Ends the process, with the seed, where a run goes round in circles inside the crate.
struct Watch(Arc<AtomicU64>);

impl Watch {
    fn new() -> Self {
        let seed = Arc::new(AtomicU64::new(0));
        let watched = Arc::downgrade(&seed);
        thread::spawn(move || {
            let mut last = (u64::MAX, Instant::now());
            while let Some(seed) = watched.upgrade().map(|seed| seed.load(Ordering::Relaxed)) {
                if seed != last.0 {
                    last = (seed, Instant::now());
                } else if last.1.elapsed() > PATIENCE {
                    // Not captured, as what is printed is: nobody would see it.
                    let _ = writeln!(io::stderr(), "seed {seed} does not end");
                    process::abort();
                }
                thread::park_timeout(Duration::from_millis(100));
            }
        });
        Self(seed)
    }

    fn begins(&self, seed: u64) {
        self.0.store(seed, Ordering::Relaxed);
    }
}

#[test]
fn every_schedule_keeps_the_promises() {
    if let Some(seed) = variable("SIMULATION_SEED") {
        let (passed, lines) = traced(seed);
        println!("{}", lines.join("\n"));
        assert!(passed, "seed {seed} fails");
        return;
    }
    let base = match variable("SIMULATION_RANDOM") {
        Some(1..) => RandomState::new().hash_one(0) >> 16,
        _ => 0,
    };
    println!("seeds from {base}");
    let watch = Watch::new();
    let runs = variable("SIMULATION_RUNS").unwrap_or(RUNS);
    let mut ends = BTreeMap::new();
    let mut situations_of = BTreeMap::new();
    for seed in base..base + runs {
        watch.begins(seed);
        match panic::catch_unwind(|| run(seed, None)) {
            Ok((end, situations)) => {
                *ends.entry(end).or_insert(0) += 1;
                for situation in situations {
                    *situations_of.entry(situation).or_insert(0) += 1;
                }
            }
            Err(_) => {
                let (_, lines) = traced(seed);
                println!("{}", lines.join("\n"));
                panic!("seed {seed} fails after {} runs: SIMULATION_SEED={seed} replays it", seed - base);
            }
        }
    }
    for (end, count) in &ends {
        println!("{count:>6} {end}");
    }
    for situation in SITUATIONS {
        let count = situations_of.get(situation).copied().unwrap_or(0);
        println!("{count:>6} {situation}");
        assert!(runs < RUNS || count > 0, "no run has: {situation}");
    }
    assert!(runs < RUNS || ends.len() >= KINDS, "fewer kinds of ends than there should be: {}", ends.len());
}

#[test]
fn a_seed_is_one_run() {
    for seed in 0..200 {
        assert_eq!(traced(seed), traced(seed), "seed {seed}");
    }
}
