//! The comparison: every client, every workload, in turns; then exact counts, then scale; then the document.

mod document;
mod exact;
mod figures;
mod gate;
mod machine;
mod options;
mod plots;
mod scale;
mod timed;

use std::process::ExitCode;

pub use options::Options;

use crate::fail;
use crate::process::Server;

/// Everything that was measured.
struct Results {
    rows: Vec<timed::Row>,
    exact: Vec<exact::Row>,
    scale: Vec<scale::Row>,
}

/// Does what the options say.
pub fn run(options: &Options) -> ExitCode {
    crate::files::raise_limit();
    let server = Server::start().unwrap_or_else(|error| fail(format_args!("the server cannot be started: {error}")));
    if let Some(budgets) = &options.gate {
        return gate::run(&server, budgets);
    }
    let (rows, failures) = timed::run(&server, options);
    let mut results = Results { rows, exact: Vec::new(), scale: Vec::new() };
    if !options.quick {
        results.exact = exact::run(&server, options);
    }
    if options.is_complete() {
        results.scale = scale::run(&server, options.quick);
    }
    // Half a comparison is none.
    if options.write && failures == 0 {
        match document::write(options, &results) {
            Ok(path) => println!("written: {}", path.display()),
            Err(error) => fail(format_args!("the document cannot be written: {error}")),
        }
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
