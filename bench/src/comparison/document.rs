//! Writes `docs/benchmarks.md` and its plots.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use super::exact::Counts;
use super::figures::{Range, digits};
use super::timed::Row;
use super::{Options, Results, exact, machine, plots, scale};
use crate::clients::Side;
use crate::workload::{Compression, Unit, Workload};

const INTRODUCTION: &str = "\
# Benchmarks

What this crate costs beside other WebSocket clients. Everything here is written by one command:

```sh
cargo run -p urlsession-bench --profile bench              # all of it, and this page; the machine should have nothing else to do
cargo run -p urlsession-bench --profile bench -- --only rtt,flood --clients urlsession,tungstenite --rounds 3
cargo run -p urlsession-bench --profile bench -- --only deflate --clients urlsession,yawc
cargo run -p urlsession-bench --profile bench -- --quick   # everything runs, nothing is measured
cargo run -p urlsession-bench --profile bench -- --gate bench/budgets.txt
```
";

const METHOD: &str = "
## Method

- One server process of its own ([`bench/src/server`](../bench/src/server)): raw frames on epoll, one thread, based on none of the
  clients. Everything goes over loopback.
- Each run is a process of its own, pinned to one core; the server has the other. Runs take turns (A B C A B C), and the
  tables show medians, and the smallest and the largest figure.
- CPU time is user and system time of the client's process, all its threads, around the measured phase, which comes after a
  warm-up; divided by the messages. A system call counts with everything that the kernel does in it, which on loopback is the
  receiver's share, too.
- Memory is the growth of resident memory by the connections of the measured phase, divided by those; a few hundred
  connections are open before.
- Every client checks each message's kind and length. All send the same messages and set `TCP_NODELAY`; TLS is rustls with ring.
- The peers are set up by their documentation for each workload: buffers, batches, SIMD; those on tokio have its
  current-thread runtime. `tungstenite` has a non-blocking `mio` loop for `many`.
- `urlsession` is this crate with its default serial delegate queue, `immediate` the same program with
  `OperationQueue::immediate()`. Both are written as a program would be: a handler asks for the next message.
- Nobody compresses but in the rows with `deflate`: there `permessage_deflate` is false, and the server declines.
- `rawtcp` moves the same bytes without any framing, and does not look at them. It is the floor, not a peer.
- Instructions are counted by `valgrind --tool=callgrind`, system calls by `strace -f -c`, each as the difference of two runs of
  different length; allocations by a counting allocator around the measured phase. Under these tools a client is slower
  than the server, and finds more to read at a time than it would otherwise.

## Read with care

- Two runs on one machine differ by 10 to 30 % in single cells. Where ranges overlap there is no difference.
- `pipe1` and `sink1` ask for a flush with every message. The peers do that, a system call each; this crate gathers what its
  handlers send and writes it when they are done.
- A client with a thread besides the caller's pays for changing between them; pinned to one core it cannot gain by them.
- Loopback has no latency and no loss. Nothing here says how a client does on a real network.
";

const COMPRESSION: &str = "
## Compression

permessage-deflate (RFC 7692), by the clients that have it. The messages are records of JSON from a seeded generator, the same for
everybody. They differ, and come again after 1 MiB (those of 1 MiB after four), which is far more than a compressor remembers.

- Every message is compressed: `compression_threshold` is 0. By default this crate leaves messages below 1 KiB as they are; `yawc`
  compresses all of them anyway.
- This crate compresses with zlib-rs at level 4 and memory level 5, which nobody can change. `yawc` has the feature `zlib`, which
  makes it use zlib-rs, too, faster than what it uses otherwise; its default level, 6; memory level 8; no pool, since there is
  one connection. `sink1kdeflatelevel` has it at level 4.
- The server has compressed what it sends beforehand, at level 6. It counts what it receives and does not decompress it.
- A client can buy time with bytes: the tables of CPU time and of bytes belong together.
";

/// Writes, and returns where.
pub fn write(options: &Options, results: &Results) -> Result<PathBuf, Box<dyn Error>> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let plots = docs.join("benchmarks");
    fs::create_dir_all(&plots)?;
    plots::draw(&plots, options, results)?;
    let path = docs.join("benchmarks.md");
    fs::write(&path, text(options, results)?)?;
    Ok(path.canonicalize()?)
}

fn text(options: &Options, results: &Results) -> Result<String, std::fmt::Error> {
    let mut text = INTRODUCTION.to_owned();
    writeln!(text, "\nMachine: {}. Medians of {} runs. Peers:", machine::describe(), options.rounds)?;
    let versions = options.clients.iter().filter(|client| client.side == Side::Peer).map(|client| {
        let version = machine::version(client.name);
        format!("{} {}", client.name, version.as_deref().unwrap_or("of an unknown version"))
    });
    writeln!(text, "{}.", versions.collect::<Vec<_>>().join(", "))?;
    for (name, title, _) in plots::BARS {
        writeln!(text, "\n![{title}](benchmarks/{name}.svg)")?;
    }
    let (plain, compressed): (Vec<&Row>, Vec<&Row>) =
        results.rows.iter().partition(|row| row.workload.compression == Compression::Off);
    ratios(&mut text, "## Ratios", options, &plain)?;
    figures(&mut text, "## Figures", options, &plain)?;
    latencies(&mut text, options, &plain)?;
    text.push_str(COMPRESSION);
    ratios(&mut text, "### Ratios", options, &compressed)?;
    figures(&mut text, "### Figures", options, &compressed)?;
    wire(&mut text, options, &compressed)?;
    counts(&mut text, options, &results.exact)?;
    growth(&mut text, &results.scale)?;
    workloads(&mut text, options)?;
    text.push_str(METHOD);
    Ok(text)
}

/// The clients that a table has columns for: those that can do any of its rows.
fn columns(options: &Options, rows: &[&Row]) -> Vec<usize> {
    let can_do = |client: usize| rows.iter().any(|row| options.clients[client].can_do(row.workload));
    (0..options.clients.len()).filter(|&client| can_do(client)).collect()
}

/// The head of a table whose columns end with clients.
fn head(text: &mut String, first: &[&str], options: &Options, columns: &[usize]) -> std::fmt::Result {
    let names = first.iter().copied().chain(columns.iter().map(|&client| options.clients[client].name));
    let names: Vec<&str> = names.collect();
    writeln!(text, "| {} |", names.join(" | "))?;
    writeln!(text, "|{}", "---|".repeat(names.len()))
}

fn unit(workload: &Workload) -> &'static str {
    match workload.unit {
        Unit::CpuNanoseconds => "ns",
        Unit::CpuMicroseconds => "us",
        Unit::Resident => "B",
    }
}

/// What is said of the rows that are no CPU time.
fn memory(rows: &[&Row]) -> &'static str {
    let any = rows.iter().any(|row| row.workload.unit == Unit::Resident);
    if any { " (`idle`: memory for a connection)" } else { "" }
}

fn ratios(text: &mut String, title: &str, options: &Options, rows: &[&Row]) -> std::fmt::Result {
    writeln!(
        text,
        "\n{title}\n\nTo the best peer of each row; less is better. CPU time for a message{}.\n",
        memory(rows)
    )?;
    let columns = columns(options, rows);
    head(text, &["workload", "best peer", "its figure"], options, &columns)?;
    for row in rows {
        let (best, figure) =
            row.best_peer().map_or(("-", f64::NAN), |(best, figure)| (options.clients[best].name, figure));
        write!(text, "| {} | {best} | {} {} |", row.workload.name, digits(figure), unit(row.workload))?;
        for &client in &columns {
            match row.ratio(client) {
                Some(ratio) => write!(text, " {ratio:.2} |")?,
                None => write!(text, " - |")?,
            }
        }
        writeln!(text)?;
    }
    Ok(())
}

fn figures(text: &mut String, title: &str, options: &Options, rows: &[&Row]) -> std::fmt::Result {
    writeln!(text, "\n{title}\n\nMedians, with the smallest and the largest.\n")?;
    let columns = columns(options, rows);
    head(text, &["workload", ""], options, &columns)?;
    for row in rows {
        write!(text, "| {} | {} |", row.workload.name, unit(row.workload))?;
        for &client in &columns {
            match row.range(client) {
                Some(Range { median, low, high }) => {
                    write!(text, " {} ({}–{}) |", digits(median), digits(low), digits(high))?;
                }
                None => write!(text, " - |")?,
            }
        }
        writeln!(text)?;
    }
    Ok(())
}

fn latencies(text: &mut String, options: &Options, rows: &[&Row]) -> std::fmt::Result {
    writeln!(text, "\n## Latency\n\nOf a ping-pong, in us: half of the messages took less / 99 of 100 took less.\n")?;
    head(text, &["workload"], options, &columns(options, rows))?;
    for row in rows.iter().filter(|row| matches!(row.workload.name, "rtt" | "rtttls")) {
        write!(text, "| {} |", row.workload.name)?;
        for reports in &row.reports {
            let median = Range::of(reports.iter().filter_map(|report| Some(report.median_ns? as f64 / 1000.)));
            let p99 = Range::of(reports.iter().filter_map(|report| Some(report.p99_ns? as f64 / 1000.)));
            match (median, p99) {
                (Some(median), Some(p99)) => write!(text, " {} / {} |", digits(median.median), digits(p99.median))?,
                _ => write!(text, " - |")?,
            }
        }
        writeln!(text)?;
    }
    Ok(())
}

fn wire(text: &mut String, options: &Options, rows: &[&Row]) -> std::fmt::Result {
    writeln!(
        text,
        "\n### Bytes on the wire\n\nOf frames, with their heads, for a byte of messages. The server chooses how much is received.\n"
    )?;
    let columns = columns(options, rows);
    head(text, &["workload"], options, &columns)?;
    for row in rows {
        write!(text, "| {} |", row.workload.name)?;
        for &client in &columns {
            match row.wire(client) {
                Some(wire) => write!(text, " {wire:.4} |")?,
                None => write!(text, " - |")?,
            }
        }
        writeln!(text)?;
    }
    Ok(())
}

fn counts(text: &mut String, options: &Options, rows: &[exact::Row]) -> std::fmt::Result {
    type Count = fn(&Counts) -> Option<f64>;
    let tables: [(&str, Count); 3] = [
        ("Instructions", |counts| counts.instructions),
        ("System calls", |counts| counts.system_calls),
        ("Allocations", |counts| counts.allocations),
    ];
    let all: Vec<usize> = (0..options.clients.len()).collect();
    writeln!(text, "\n## Counts\n\nFor a message.")?;
    for (title, count) in tables {
        writeln!(text, "\n### {title}\n")?;
        head(text, &["workload"], options, &all)?;
        for row in rows {
            write!(text, "| {} |", row.workload.name)?;
            for counts in &row.counts {
                write!(text, " {} |", count(counts).map_or_else(|| "-".to_owned(), digits))?;
            }
            writeln!(text)?;
        }
    }
    Ok(())
}

fn growth(text: &mut String, rows: &[scale::Row]) -> std::fmt::Result {
    writeln!(text, "\n## Scale\n\nThis crate alone, on one session, one run each.\n")?;
    let names: Vec<&str> = scale::clients().map(|client| client.name).collect();
    writeln!(text, "| | | {} |\n|---|---|{}", names.join(" | "), "---|".repeat(names.len()))?;
    for row in rows {
        let cells: Vec<String> = row.reports.iter().map(|report| scale::cell(row.workload, report.as_ref())).collect();
        writeln!(text, "| {} | {} | {} |", row.workload.name, row.workload.about, cells.join(" | "))?;
    }
    if rows.iter().any(|row| row.reports.iter().all(Option::is_none)) {
        writeln!(
            text,
            "\nWhat was not run needs more open files than the {} that this machine gives a process.",
            machine::files()
        )?;
    }
    writeln!(text, "\n![The cost of a message by connections](benchmarks/scale.svg)")
}

fn workloads(text: &mut String, options: &Options) -> std::fmt::Result {
    writeln!(text, "\n## Workloads\n\n| | | in a run |\n|---|---|---|")?;
    for workload in &options.workloads {
        writeln!(text, "| {} | {} | {} |", workload.name, workload.about, workload.count)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::Report;
    use crate::workload::SCALE;

    /// Results as if every client had cost more than the one before.
    fn results(options: &Options) -> Results {
        let report = |cost: usize| Report {
            messages: 1_000,
            cpu_ns: cost as u64 * 100_000,
            median_ns: Some(10_000),
            p99_ns: Some(20_000),
            resident: Some(1_000_000),
            wire: Some(0.25),
            ..Report::default()
        };
        let rows = options.workloads.iter().map(|workload| {
            let mut row = Row::new(workload, &options.clients);
            for (client, reports) in row.reports.iter_mut().enumerate() {
                reports.extend(options.clients[client].can_do(workload).then(|| report(client + 1)));
            }
            row
        });
        let counts = vec![Counts { instructions: Some(1234.), ..Counts::default() }; options.clients.len()];
        let scale = SCALE.iter().map(|workload| scale::Row { workload, reports: vec![Some(report(60)), None] });
        Results {
            rows: rows.collect(),
            exact: vec![exact::Row { workload: options.workloads[0], counts }],
            scale: scale.collect(),
        }
    }

    #[test]
    fn shows_everything() {
        let options = Options::parse(&[]).unwrap();
        let results = results(&options);
        let text = text(&options, &results).unwrap();
        for part in options.workloads.iter().map(|workload| workload.name) {
            assert!(text.contains(&format!("\n| {part} |")), "{part}");
        }
        let parts = [
            "| rtt | tungstenite | 0.40 us | 0.25 | 0.50 | 0.75 | 1.00 |",
            "\n### Ratios\n",
            "| sinkdeflate | yawc | 0.80 us | 0.12 | 0.25 | 1.00 |\n",
            "| sinkdeflate | 0.2500 | 0.2500 | 0.2500 |\n",
            "1234",
            "not run",
            "## Method",
        ];
        for part in parts {
            assert!(text.contains(part), "{part}");
        }
        let shown = plots::BARS.iter().flat_map(|(.., workloads)| workloads.iter()).count();
        let plain = options.workloads.iter().filter(|workload| workload.compression == Compression::Off).count();
        assert_eq!(shown, plain, "each workload without compression is in one plot");
    }

    #[test]
    fn says_the_levels_of_this_crate() {
        // Where this fails, the words about compression and `yawc`'s level for comparison are out of date.
        let source = include_str!("../../../src/websocket/compressor.rs");
        for line in ["const LEVEL: i32 = 4;", "const MEMORY_LEVEL: i32 = 5;"] {
            assert!(source.contains(line), "{line}");
        }
    }

    #[test]
    fn draws_the_plots() {
        let options = Options::parse(&[]).unwrap();
        let directory = std::env::temp_dir().join(format!("urlsession-bench-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let drawn = plots::draw(&directory, &options, &results(&options));
        let files: Vec<_> = fs::read_dir(&directory).unwrap().map(|file| file.unwrap().path()).collect();
        let drawings: Vec<String> = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
        if std::env::var_os("KEEP_PLOTS").is_none() {
            fs::remove_dir_all(&directory).unwrap();
        }
        drawn.unwrap();
        assert_eq!(drawings.len(), plots::BARS.len() + 1);
        assert!(drawings.iter().all(|drawing| drawing.contains("urlsession") && drawing.ends_with("</svg>\n")));
    }
}
