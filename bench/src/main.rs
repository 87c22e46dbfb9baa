//! See the crate's documentation.

use std::process::ExitCode;

fn main() -> ExitCode {
    urlsession_bench::command_line::main()
}
