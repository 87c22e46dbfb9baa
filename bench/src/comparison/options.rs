//! What is compared, from the command line.

use std::path::PathBuf;

use crate::clients::{CLIENTS, Client};
use crate::workload::{Compression, WORKLOADS, Workload};

/// The options.
#[derive(Debug)]
pub struct Options {
    /// The rows.
    pub workloads: Vec<&'static Workload>,
    /// The columns.
    pub clients: Vec<&'static Client>,
    /// How often each client runs each workload.
    pub rounds: usize,
    /// Tiny counts: nothing is measured, everything runs.
    pub quick: bool,
    /// Whether the results become the document.
    pub write: bool,
    /// Only compare the exact costs of this crate with the budgets in a file.
    pub gate: Option<PathBuf>,
}

impl Options {
    /// From the arguments.
    pub fn parse(arguments: &[&str]) -> Result<Self, String> {
        let mut options = Self {
            workloads: WORKLOADS.iter().collect(),
            clients: CLIENTS.iter().collect(),
            rounds: 5,
            quick: false,
            write: true,
            gate: None,
        };
        let mut arguments = arguments.iter();
        while let Some(&option) = arguments.next() {
            let mut value = || arguments.next().copied().ok_or_else(|| format!("{option} needs a value"));
            match option {
                "--only" => options.workloads = workloads(value()?)?,
                "--clients" => options.clients = list(value()?, Client::named)?,
                "--rounds" => options.rounds = value()?.parse().map_err(|error| format!("--rounds: {error}"))?,
                "--gate" => options.gate = Some(value()?.into()),
                "--quick" => (options.quick, options.rounds) = (true, 1),
                "--no-write" => options.write = false,
                _ => return Err(format!("{option} is no option")),
            }
            // The document shows the whole comparison or nothing.
            options.write &= !matches!(option, "--only" | "--clients" | "--quick");
        }
        if options.rounds == 0 {
            return Err("--rounds: at least one".to_owned());
        }
        Ok(options)
    }

    /// Whether everything is compared.
    pub fn is_complete(&self) -> bool {
        self.workloads.len() == WORKLOADS.len() && self.clients.len() == CLIENTS.len()
    }
}

/// Workloads by their names; `deflate` is all that compress.
fn workloads(names: &str) -> Result<Vec<&'static Workload>, String> {
    if names == "deflate" {
        return Ok(WORKLOADS.iter().filter(|workload| workload.compression != Compression::Off).collect());
    }
    list(names, Workload::named)
}

/// Things by their names.
fn list<T>(names: &str, named: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
    names.split(',').map(|name| named(name).ok_or_else(|| format!("there is no {name}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_only_the_whole() {
        let table: [(&[&str], bool); 6] = [
            (&[], true),
            (&["--rounds", "3"], true),
            (&["--only", "rtt,flood"], false),
            (&["--only", "deflate"], false),
            (&["--quick"], false),
            (&["--no-write"], false),
        ];
        for (arguments, write) in table {
            assert_eq!(Options::parse(arguments).unwrap().write, write, "{arguments:?}");
        }
        for wrong in [&["--only", "nothing"][..], &["--rounds", "0"], &["--only"], &["fast"]] {
            assert!(Options::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
