//! What a reader must know of the machine and of the libraries.

use std::fs;
use std::thread;

/// "2 cores of an Intel(R) Xeon(R) Processor, Linux 6.18".
pub fn describe() -> String {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let processor = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        line.split_once(": ").map(|(_, name)| name.to_owned())
    });
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel: Vec<&str> = kernel.trim().splitn(3, '.').take(2).collect();
    format!(
        "{cores} cores of {}, {} {}",
        processor.as_deref().unwrap_or("an unknown processor"),
        std::env::consts::OS,
        kernel.join(".")
    )
}

/// The version of a package that this was built with.
pub fn version(package: &str) -> Option<String> {
    let lock = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).ok()?;
    let mut lines = lock.lines().skip_while(|line| *line != format!("name = \"{package}\""));
    let version = lines.nth(1)?.strip_prefix("version = ")?;
    Some(version.trim_matches('"').to_owned())
}

/// The limit of open files of a process.
pub fn files() -> u64 {
    crate::files::raise_limit()
}
