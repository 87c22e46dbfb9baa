//! The figures of several runs: their median and their range.

use crate::meter::Report;
use crate::workload::{Unit, Workload};

/// The middle and the ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The middle one.
    pub median: f64,
    /// The smallest.
    pub low: f64,
    /// The largest.
    pub high: f64,
}

impl Range {
    /// `None` of nothing.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (&low, &high) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        Some(Self { median, low, high })
    }
}

/// The figure of a run, in the workload's unit.
pub fn figure(workload: &Workload, report: &Report) -> f64 {
    let messages = report.messages.max(1) as f64;
    match workload.unit {
        Unit::CpuNanoseconds => report.cpu_ns as f64 / messages,
        Unit::CpuMicroseconds => report.cpu_ns as f64 / messages / 1000.,
        Unit::Resident => report.resident.unwrap_or_default() as f64 / messages,
    }
}

/// A figure with about three digits.
pub fn digits(figure: f64) -> String {
    let decimals = match figure.abs() {
        0.0..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    format!("{figure:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_middle_and_the_ends() {
        assert_eq!(Range::of([]), None);
        assert_eq!(Range::of([3., 1., 2.]), Some(Range { median: 2., low: 1., high: 3. }));
        assert_eq!(Range::of([4., 1., 2., 3.]), Some(Range { median: 2.5, low: 1., high: 4. }));
    }

    #[test]
    fn rounds_by_size() {
        let table = [(0.123, "0.12"), (9.994, "9.99"), (12.34, "12.3"), (123.4, "123"), (4271., "4271")];
        for (figure, expected) in table {
            assert_eq!(digits(figure), expected);
        }
    }
}
