//! Compares `urlsession` with other WebSocket clients, and guards what it costs.
//!
//! A server of its own ([`server`]), the same workloads ([`workload`]) for every client ([`clients`]), each run a process of
//! its own, started in turns.

pub mod clients;
pub mod command_line;
pub mod comparison;
pub mod files;
pub mod job;
pub mod json;
pub mod meter;
pub mod payload;
pub mod process;
pub mod server;
pub mod tls;
pub mod workload;

use std::fmt::Display;

/// Ends the process: what it measures is worth nothing any more. A panic would not do, since clients that call back catch
/// those.
pub fn fail(why: impl Display) -> ! {
    eprintln!("failed: {why}");
    std::process::exit(1)
}
