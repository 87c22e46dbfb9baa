//! The third part: how this crate's costs grow with what a session has to do.

use std::env;
use std::process::Command;

use super::figures::{digits, figure};
use super::machine;
use crate::clients::{CLIENTS, Client, Side};
use crate::meter::Report;
use crate::process::Server;
use crate::workload::{SCALE, Shape, Workload};

/// What this crate's clients did with one of the workloads; `None` where it was not run.
#[derive(Debug)]
pub struct Row {
    pub workload: &'static Workload,
    pub reports: Vec<Option<Report>>,
}

/// This crate's clients.
pub fn clients() -> impl Iterator<Item = &'static Client> {
    CLIENTS.iter().filter(|client| client.side == Side::Own)
}

/// Runs, and prints each row when it is done.
pub fn run(server: &Server, quick: bool) -> Vec<Row> {
    println!();
    let limit = machine::files();
    SCALE
        .iter()
        .map(|workload| {
            // What is not quick is what opens everything at once, whatever the count.
            let skipped = workload.files() > if quick { 2_000 } else { limit };
            let reports =
                clients().map(|client| if skipped { None } else { run_once(server, client, workload, quick) });
            let row = Row { workload, reports: reports.collect() };
            let cells = row.reports.iter().map(|report| format!("{:>40}", cell(workload, report.as_ref())));
            println!("{:<16}{}", workload.name, cells.collect::<String>());
            row
        })
        .collect()
}

fn run_once(server: &Server, client: &Client, workload: &Workload, quick: bool) -> Option<Report> {
    let mut command = Command::new(env::current_exe().ok()?);
    let count = if quick { workload.quick_count() } else { workload.count };
    command.args(["client", client.name, workload.name, &server.url(workload), &count.to_string()]);
    let report = server.run(command).map(|finished| finished.report);
    report.inspect_err(|error| eprintln!("{} {}: {error}", client.name, workload.name)).ok()
}

/// The figures of a run in words.
pub fn cell(workload: &Workload, report: Option<&Report>) -> String {
    let Some(report) = report else { return "not run".to_owned() };
    let resident = report.resident.unwrap_or_default() as f64;
    match workload.shape {
        Shape::Many { connections, .. } if connections < 1_000 => {
            format!("{} us for a message", digits(figure(workload, report)))
        }
        Shape::Many { connections, .. } => format!(
            "{} us for a message, {} B for a connection",
            digits(figure(workload, report)),
            digits(resident / connections as f64)
        ),
        Shape::Backlog { .. } if report.messages == 0 => "nothing had to wait".to_owned(),
        Shape::Backlog { size } => format!(
            "{} B above the payload for a message, of {} that waited",
            digits(resident / report.messages.max(1) as f64 - size as f64),
            report.messages
        ),
        _ => format!(
            "{} ms, {} us of CPU time for a task",
            digits(report.wall_ns as f64 / 1e6),
            digits(figure(workload, report))
        ),
    }
}
