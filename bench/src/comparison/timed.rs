//! The first part: time and memory, every client in turns.

use std::env;
use std::process::Command;

use super::Options;
use super::figures::{Range, digits, figure};
use crate::clients::{Client, Side};
use crate::meter::Report;
use crate::process::Server;
use crate::workload::{Compression, Workload};

/// What the clients did with one workload.
#[derive(Debug)]
pub struct Row {
    /// The workload.
    pub workload: &'static Workload,
    /// The reports of each client, in the order of the clients.
    pub reports: Vec<Vec<Report>>,
    /// Which of them are peers.
    peers: Vec<bool>,
}

impl Row {
    /// Without reports.
    pub fn new(workload: &'static Workload, clients: &[&Client]) -> Self {
        let peers = clients.iter().map(|client| client.side == Side::Peer).collect();
        Self { workload, reports: vec![Vec::new(); clients.len()], peers }
    }

    /// The range of a client's figures.
    pub fn range(&self, client: usize) -> Option<Range> {
        Range::of(self.reports[client].iter().map(|report| figure(self.workload, report)))
    }

    /// The peer with the lowest median, and that.
    pub fn best_peer(&self) -> Option<(usize, f64)> {
        let peers = (0..self.reports.len()).filter(|&client| self.peers[client]);
        peers
            .filter_map(|client| Some((client, self.range(client)?.median)))
            .min_by(|(_, one), (_, other)| one.total_cmp(other))
    }

    /// A client's bytes of frames for a byte of messages, where those are compressed.
    pub fn wire(&self, client: usize) -> Option<f64> {
        Some(Range::of(self.reports[client].iter().filter_map(|report| report.wire))?.median)
    }

    /// A client's median as a multiple of the best peer's.
    pub fn ratio(&self, client: usize) -> Option<f64> {
        Some(self.range(client)?.median / self.best_peer()?.1)
    }
}

/// Runs the workloads and prints each row when it is done. Also returns how many runs failed.
pub fn run(server: &Server, options: &Options) -> (Vec<Row>, usize) {
    let mut failures = 0;
    let mut rows = Vec::new();
    println!("{:<20}{}", "", options.clients.iter().map(|client| format!("{:>28}", client.name)).collect::<String>());
    for &workload in &options.workloads {
        let mut row = Row::new(workload, &options.clients);
        // In turns, so that whatever else the machine does hits everybody.
        for _ in 0..options.rounds {
            let clients = options.clients.iter().zip(&mut row.reports);
            for (client, reports) in clients.filter(|(client, _)| client.can_do(workload)) {
                match run_once(server, client, workload, options.quick) {
                    Ok(report) => reports.push(report),
                    Err(error) => {
                        failures += 1;
                        eprintln!("{} {}: {error}", client.name, workload.name);
                    }
                }
            }
        }
        print(&row);
        rows.push(row);
    }
    (rows, failures)
}

fn print(row: &Row) {
    let cells = (0..row.reports.len()).map(|client| {
        let Some(range) = row.range(client) else { return format!("{:>28}", "-") };
        let ratio = row.ratio(client).map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let (median, low, high) = (digits(range.median), digits(range.low), digits(range.high));
        format!("{:>28}", format!("{median} [{low}-{high}] {ratio:>6}"))
    });
    println!("{:<20}{}", row.workload.name, cells.collect::<String>());
    if row.workload.compression != Compression::Off {
        let cells = (0..row.reports.len()).map(|client| {
            let wire = row.wire(client).map_or_else(|| "-".to_owned(), |wire| format!("{wire:.4}"));
            format!("{wire:>28}")
        });
        println!("{:<20}{}", "  on the wire", cells.collect::<String>());
    }
}

fn run_once(server: &Server, client: &Client, workload: &Workload, quick: bool) -> Result<Report, String> {
    let mut command = Command::new(env::current_exe().map_err(|error| error.to_string())?);
    let count = if quick { workload.quick_count() } else { workload.count };
    command.args(["client", client.name, workload.name, &server.url(workload), &count.to_string()]);
    server.run(command).map(|finished| finished.report)
}
