//! Measures a phase of a client's process.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Allocations of the process so far. Only the counting binary counts.
pub static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
/// The bytes of those.
pub static ALLOCATED_BYTES: AtomicU64 = AtomicU64::new(0);

/// What a run measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Messages or connections of the measured phase.
    pub messages: u64,
    /// User and system time of all threads, in nanoseconds.
    pub cpu_ns: u64,
    /// Time that passed, in nanoseconds.
    pub wall_ns: u64,
    /// Allocations; 0 unless counted.
    pub allocations: u64,
    /// Bytes of those.
    pub allocated_bytes: u64,
    /// Half of the messages took less, in nanoseconds.
    pub median_ns: Option<u64>,
    /// 99 of 100 messages took less, in nanoseconds.
    pub p99_ns: Option<u64>,
    /// Resident bytes that came with the measured phase.
    pub resident: Option<i64>,
    /// Bytes of frames for a byte of messages, where those are compressed.
    pub wire: Option<f64>,
}

/// The beginning of a phase.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    cpu: Duration,
    wall: Instant,
    allocations: u64,
    allocated_bytes: u64,
}

impl Meter {
    /// A phase begins.
    pub fn start() -> Self {
        Self {
            allocations: ALLOCATIONS.load(Ordering::Relaxed),
            allocated_bytes: ALLOCATED_BYTES.load(Ordering::Relaxed),
            wall: Instant::now(),
            cpu: cpu_time(),
        }
    }

    /// It ends.
    pub fn stop(self, messages: u64) -> Report {
        let cpu = cpu_time();
        Report {
            messages,
            cpu_ns: nanoseconds(cpu - self.cpu),
            wall_ns: nanoseconds(self.wall.elapsed()),
            allocations: ALLOCATIONS.load(Ordering::Relaxed) - self.allocations,
            allocated_bytes: ALLOCATED_BYTES.load(Ordering::Relaxed) - self.allocated_bytes,
            ..Report::default()
        }
    }
}

/// How long each of the messages took.
#[derive(Debug)]
pub struct Latencies(Vec<u32>);

impl Latencies {
    /// Has room for `count`, so that a run allocates nothing for them.
    pub fn new(count: u64) -> Self {
        Self(Vec::with_capacity(usize::try_from(count).unwrap_or_default()))
    }

    /// One more.
    pub fn add(&mut self, latency: Duration) {
        self.0.push(u32::try_from(latency.as_nanos()).unwrap_or(u32::MAX));
    }

    /// Puts them into a report.
    pub fn tell(mut self, report: &mut Report) {
        self.0.sort_unstable();
        let at = |part: usize| self.0.get(self.0.len() * part / 100).map(|&latency| u64::from(latency));
        report.median_ns = at(50);
        report.p99_ns = at(99);
    }
}

/// User and system time of all threads of this process.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // The kernel's exact account of what `getrusage` shows as user and system time, in one figure.
    // SAFETY: `time` is a valid `timespec` for the kernel to write.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Bytes of this process that are in memory.
pub fn resident() -> i64 {
    let kilobytes = fs::read_to_string("/proc/self/smaps_rollup").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("Rss:"))?;
        line.trim().strip_suffix(" kB")?.parse::<i64>().ok()
    });
    kilobytes.unwrap_or_default() * 1024
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
