//! The second part: what can be counted exactly, and hardly depends on the machine.
//!
//! Instructions (`valgrind --tool=callgrind`) and system calls (`strace -f -c`) are those of two runs of different length:
//! the difference, divided by the difference of their messages, leaves out everything that a run does once. Allocations are
//! counted around the measured phase, in a binary whose allocator counts.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Options;
use super::figures::digits;
use crate::clients::Client;
use crate::job::Job;
use crate::process::Server;
use crate::workload::Workload;

/// The workloads that are counted, and the messages of the two runs.
const COUNTED: [(&str, u64, u64); 9] = [
    ("rtt", 1_000, 3_000),
    ("pipe", 10_240, 30_720),
    ("pipe1", 5_120, 15_360),
    ("flood", 20_000, 60_000),
    ("flood16k", 1_000, 3_000),
    ("sink", 20_480, 61_440),
    ("sink1", 10_240, 30_720),
    ("flood1kdeflate", 2_000, 6_000),
    ("sink1kdeflate", 1_024, 3_072),
];

/// Counts for a message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub instructions: Option<f64>,
    pub system_calls: Option<f64>,
    pub allocations: Option<f64>,
}

/// The counts of the clients, in their order.
#[derive(Debug)]
pub struct Row {
    pub workload: &'static Workload,
    pub counts: Vec<Counts>,
}

/// Counts, and prints each row when it is done.
pub fn run(server: &Server, options: &Options) -> Vec<Row> {
    let counter = match counting_binary() {
        Ok(counter) => Some(counter),
        Err(error) => {
            eprintln!("allocations are not counted: {error}");
            None
        }
    };
    let mut rows = Vec::new();
    println!("\nfor a message: instructions / system calls / allocations");
    for &workload in options.workloads.iter().filter(|workload| lengths(workload).is_some()) {
        let counts: Vec<Counts> = options
            .clients
            .iter()
            .map(|client| {
                if client.can_do(workload) {
                    count(server, client, workload, counter.as_deref())
                } else {
                    Counts::default()
                }
            })
            .collect();
        let cells = counts.iter().map(|counts| {
            let part = |count: Option<f64>| count.map_or_else(|| "-".to_owned(), digits);
            let cell = [counts.instructions, counts.system_calls, counts.allocations].map(part).join(" / ");
            format!("{cell:>28}")
        });
        println!("{:<20}{}", workload.name, cells.collect::<String>());
        rows.push(Row { workload, counts });
    }
    rows
}

fn count(server: &Server, client: &Client, workload: &'static Workload, counter: Option<&Path>) -> Counts {
    Counts {
        instructions: told(instructions(server, client, workload), client, workload),
        system_calls: told(system_calls(server, client, workload), client, workload),
        allocations: counter.and_then(|counter| told(allocations(server, client, workload, counter), client, workload)),
    }
}

/// The messages of the two runs of a workload.
fn lengths(workload: &Workload) -> Option<(u64, u64)> {
    COUNTED.iter().find(|(name, ..)| *name == workload.name).map(|&(_, short, long)| (short, long))
}

fn told(count: Result<f64, String>, client: &Client, workload: &Workload) -> Option<f64> {
    count.inspect_err(|error| eprintln!("{} {}: {error}", client.name, workload.name)).ok()
}

/// Instructions for a message.
pub fn instructions(server: &Server, client: &Client, workload: &'static Workload) -> Result<f64, String> {
    difference(
        server,
        client,
        workload,
        &["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"],
        |errors| errors.lines().rev().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok()),
    )
}

/// System calls for a message.
fn system_calls(server: &Server, client: &Client, workload: &'static Workload) -> Result<f64, String> {
    difference(server, client, workload, &["strace", "-f", "-c"], |errors| {
        let total = errors.lines().rev().find(|line| line.ends_with(" total"))?;
        total.split_whitespace().nth(3)?.parse().ok()
    })
}

/// What a tool counts in two runs, by difference.
fn difference(
    server: &Server,
    client: &Client,
    workload: &'static Workload,
    tool: &[&str],
    count: impl Fn(&str) -> Option<f64>,
) -> Result<f64, String> {
    let (short, long) = lengths(workload).ok_or("this workload is not counted")?;
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let total = |messages: u64| {
        let mut command = Command::new(tool[0]);
        command.args(&tool[1..]).arg(&program);
        command.args(["client", client.name, workload.name, &server.url(workload), &messages.to_string()]);
        let finished = server.run(command)?;
        count(&finished.errors).ok_or_else(|| format!("{} tells no count: {}", tool[0], finished.errors))
    };
    // The warm-up is part of both.
    let messages = |count| {
        let job = Job::new(workload, 0, count);
        (job.count + job.warm) as f64
    };
    Ok((total(long)? - total(short)?) / (messages(long) - messages(short)))
}

/// Allocations for a message.
pub fn allocations(server: &Server, client: &Client, workload: &Workload, counter: &Path) -> Result<f64, String> {
    let (_, count) = lengths(workload).ok_or("this workload is not counted")?;
    let mut command = Command::new(counter);
    command.args(["client", client.name, workload.name, &server.url(workload), &count.to_string()]);
    let report = server.run(command)?.report;
    Ok(report.allocations as f64 / report.messages.max(1) as f64)
}

/// The binary with the allocator that counts, beside this one; built now if `cargo` runs this, so that it is as new.
pub fn counting_binary() -> Result<PathBuf, String> {
    let path = env::current_exe()
        .map_err(|error| error.to_string())?
        .with_file_name(format!("urlsession-bench-counting{}", env::consts::EXE_SUFFIX));
    if let Some(cargo) = env::var_os("CARGO") {
        let status = Command::new(cargo)
            .args(["build", "--quiet", "--package", "urlsession-bench", "--bin", "urlsession-bench-counting"])
            .args(["--profile", "bench", "--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
            .stdin(Stdio::null())
            .status()
            .map_err(|error| error.to_string())?;
        if !status.success() {
            return Err(format!("cargo ended with {status}"));
        }
    }
    if path.exists() { Ok(path) } else { Err(format!("{} is not built", path.display())) }
}
