//! The comparison: every client, every workload, in turns.

use std::io;
use std::process::{Command, ExitCode};

use crate::clients::{CLIENTS, Client, Side};
use crate::fail;
use crate::meter::Report;
use crate::process::Server;
use crate::workload::{Unit, WORKLOADS, Workload};

/// What is compared.
#[derive(Debug)]
pub struct Options {
    workloads: Vec<&'static Workload>,
    clients: Vec<&'static Client>,
    rounds: usize,
}

impl Options {
    /// From the command line.
    pub fn parse(arguments: &[&str]) -> Result<Self, String> {
        let mut options = Self { workloads: WORKLOADS.iter().collect(), clients: CLIENTS.iter().collect(), rounds: 3 };
        let mut arguments = arguments.iter();
        while let Some(&option) = arguments.next() {
            let mut value = || arguments.next().copied().ok_or_else(|| format!("{option} needs a value"));
            match option {
                "--only" => options.workloads = list(value()?, Workload::named)?,
                "--clients" => options.clients = list(value()?, Client::named)?,
                "--rounds" => options.rounds = value()?.parse().map_err(|error| format!("--rounds: {error}"))?,
                _ => return Err(format!("{option} is no option")),
            }
        }
        Ok(options)
    }
}

/// Things by their names.
fn list<T>(names: &str, named: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
    names.split(',').map(|name| named(name).ok_or_else(|| format!("there is no {name}"))).collect()
}

/// Runs it and prints the table.
pub fn run(options: &Options) -> ExitCode {
    let server = Server::start().unwrap_or_else(|error| fail(format_args!("the server cannot be started: {error}")));
    println!("{:<16}{}", "", options.clients.iter().map(|client| format!("{:>26}", client.name)).collect::<String>());
    for &workload in &options.workloads {
        let mut figures = vec![Vec::new(); options.clients.len()];
        for _ in 0..options.rounds {
            for (client, figures) in options.clients.iter().zip(&mut figures) {
                match run_client(&server, client, workload) {
                    Ok(report) => figures.push(figure(workload, &report)),
                    Err(error) => eprintln!("{} {}: {error}", client.name, workload.name),
                }
            }
        }
        let best = options
            .clients
            .iter()
            .zip(&figures)
            .filter(|(client, _)| client.side == Side::Peer)
            .filter_map(|(_, figures)| median(figures))
            .min_by(f64::total_cmp);
        let cells = figures.iter().map(|figures| {
            let Some(median) = median(figures) else { return format!("{:>26}", "-") };
            let ratio = best.map_or_else(String::new, |best| format!("{:.2}", median / best));
            let (low, high) =
                (figures.iter().copied().fold(f64::MAX, f64::min), figures.iter().copied().fold(0., f64::max));
            format!("{:>26}", format!("{median:.1} [{low:.1}-{high:.1}] {ratio}"))
        });
        println!("{:<16}{}", workload.name, cells.collect::<String>());
    }
    ExitCode::SUCCESS
}

fn run_client(server: &Server, client: &Client, workload: &Workload) -> Result<Report, String> {
    let program = std::env::current_exe().map_err(|error: io::Error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(["client", client.name, workload.name, &server.url(workload)]);
    server.run(command)
}

fn figure(workload: &Workload, report: &Report) -> f64 {
    let messages = report.messages as f64;
    match workload.unit {
        Unit::CpuNanoseconds => report.cpu_ns as f64 / messages,
        Unit::CpuMicroseconds => report.cpu_ns as f64 / messages / 1000.,
        Unit::Resident => report.resident.unwrap_or_default() as f64 / messages,
    }
}

fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}
