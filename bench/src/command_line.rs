//! The command line: the comparison itself, and the processes that it starts.

use std::env;
use std::process::ExitCode;

use crate::clients::Client;
use crate::comparison::{self, Options};
use crate::job::Job;
use crate::workload::{Compression, Workload};
use crate::{fail, files, server};

const USAGE: &str = "\
Usage: urlsession-bench [--only WORKLOAD,...] [--clients CLIENT,...] [--rounds N] [--quick] [--no-write]
       urlsession-bench --gate FILE
       urlsession-bench server
       urlsession-bench client CLIENT WORKLOAD ws://127.0.0.1:PORT [COUNT]";

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["server"] => match server::run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(error),
        },
        ["client", client, workload, url, count @ ..] => {
            run_client(client, workload, url, count.first().copied());
            ExitCode::SUCCESS
        }
        options => match Options::parse(options) {
            Ok(options) => comparison::run(&options),
            Err(error) => fail(format_args!("{error}\n{USAGE}")),
        },
    }
}

/// Does a job and prints the report, a line of JSON.
fn run_client(client: &str, workload: &str, url: &str, count: Option<&str>) {
    files::raise_limit();
    let client = Client::named(client).unwrap_or_else(|| fail(format_args!("there is no client {client}")));
    let workload = Workload::named(workload).unwrap_or_else(|| fail(format_args!("there is no workload {workload}")));
    // Only the port counts: scheme, host and path follow from the workload.
    let port = url.trim_end_matches('/').rsplit(':').next().and_then(|port| port.parse().ok());
    let port = port.unwrap_or_else(|| fail(format_args!("{url} has no port")));
    let count = count
        .map_or(workload.count, |count| count.parse().unwrap_or_else(|error| fail(format_args!("{count}: {error}"))));
    if !client.can_do(workload) {
        fail(format_args!("{} cannot do {}", client.name, workload.name));
    }
    let job = Job::new(workload, port, count);
    let mut report = (client.run)(&job);
    if workload.compression != Compression::Off {
        report.wire = Some(job.wire().unwrap_or_else(|error| fail(error)));
    }
    match serde_json::to_string(&report) {
        Ok(line) => println!("{line}"),
        Err(error) => fail(error),
    }
}
