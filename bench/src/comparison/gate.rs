//! Fails when this crate costs more than it may: instructions and allocations for a message against a file of budgets.
//!
//! ```text
//! # percent of instructions, and allocations, beyond the budget that are no failure
//! tolerance 10 0.1
//! # client, workload, instructions and allocations for a message
//! urlsession flood 1000 3
//! ```

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use super::exact;
use super::figures::digits;
use crate::clients::Client;
use crate::fail;
use crate::process::Server;
use crate::workload::Workload;

/// The contents of the file.
#[derive(Debug, Default)]
struct Budgets {
    /// Percent of instructions.
    percent: f64,
    /// Allocations.
    allocations: f64,
    lines: Vec<Budget>,
}

/// What one client may cost in one workload.
#[derive(Debug)]
struct Budget {
    client: &'static Client,
    workload: &'static Workload,
    instructions: f64,
    allocations: f64,
}

/// Measures, prints, and fails above a budget.
pub fn run(server: &Server, file: &Path) -> ExitCode {
    let budgets = fs::read_to_string(file).map_err(|error| error.to_string()).and_then(|text| Budgets::parse(&text));
    let budgets = budgets.unwrap_or_else(|error| fail(format_args!("{}: {error}", file.display())));
    let counter = exact::counting_binary().unwrap_or_else(|error| fail(error));
    let mut within = true;
    println!("{:<24}{:>32}{:>32}", "", "instructions (budget)", "allocations (budget)");
    for budget in &budgets.lines {
        let (client, workload) = (budget.client, budget.workload);
        let instructions = exact::instructions(server, client, workload).unwrap_or_else(|error| fail(error));
        let allocations = exact::allocations(server, client, workload, &counter).unwrap_or_else(|error| fail(error));
        let fits = instructions <= budget.instructions * (1. + budgets.percent / 100.)
            && allocations <= budget.allocations + budgets.allocations;
        within &= fits;
        let name = format!("{} {}", client.name, workload.name);
        let instructions = format!("{} ({})", digits(instructions), digits(budget.instructions));
        let allocations = format!("{} ({})", digits(allocations), digits(budget.allocations));
        println!("{name:<24}{instructions:>32}{allocations:>32}{}", if fits { "" } else { "  TOO MUCH" });
    }
    if within { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Budgets {
    fn parse(text: &str) -> Result<Self, String> {
        let mut budgets = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let number = |text: &str| text.parse::<f64>().map_err(|error| format!("{line}: {error}"));
            match *line.split_whitespace().collect::<Vec<_>>().as_slice() {
                ["tolerance", percent, allocations] => {
                    (budgets.percent, budgets.allocations) = (number(percent)?, number(allocations)?);
                }
                [client, workload, instructions, allocations] => budgets.lines.push(Budget {
                    client: Client::named(client).ok_or_else(|| format!("there is no client {client}"))?,
                    workload: Workload::named(workload).ok_or_else(|| format!("there is no workload {workload}"))?,
                    instructions: number(instructions)?,
                    allocations: number(allocations)?,
                }),
                _ => return Err(format!("a line that means nothing: {line}")),
            }
        }
        Ok(budgets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_budgets() {
        let text = "# words\ntolerance 10 0.1\n\n  urlsession flood 1000 3\nimmediate rtt 5000 7.5\n";
        let budgets = Budgets::parse(text).unwrap();
        assert_eq!((budgets.percent, budgets.allocations), (10., 0.1));
        assert_eq!(budgets.lines.len(), 2);
        assert_eq!(budgets.lines[1].allocations, 7.5);
        for wrong in ["urlsession flood", "nobody flood 1 1", "urlsession flood x 1"] {
            assert!(Budgets::parse(wrong).is_err(), "{wrong}");
        }
    }
}
