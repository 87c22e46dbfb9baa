//! The processes of a comparison: the server on one core, a client on the other.

use std::cell::RefCell;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::fail;
use crate::meter::Report;
use crate::tls::ROOT_VARIABLE;
use crate::workload::{Security, Workload};

/// The core of clients.
pub const CLIENT_CORE: usize = 0;
/// The core of the server.
pub const SERVER_CORE: usize = 1;

/// A client that takes longer is stuck.
const LIMIT: Duration = Duration::from_secs(180);

/// What a client left.
#[derive(Debug)]
pub struct Finished {
    /// What it measured.
    pub report: Report,
    /// What it, or the tool that it ran under, wrote to the standard error.
    pub errors: String,
}

/// A server process; ends with the value.
#[derive(Debug)]
pub struct Server {
    process: RefCell<Child>,
    ports: [u16; 3],
    root: String,
}

impl Server {
    /// Starts one and waits until it listens.
    pub fn start() -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("server").stdout(Stdio::piped());
        tie(&mut command, SERVER_CORE);
        let mut process = command.spawn()?;
        let output = process.stdout.take().ok_or_else(|| io::Error::other("the server has no output"))?;
        let mut lines = BufReader::new(output).lines();
        let mut server = Self { process: RefCell::new(process), ports: [0; 3], root: String::new() };
        for port in &mut server.ports {
            let line = lines.next().ok_or_else(|| io::Error::other("the server says nothing"))??;
            *port = line.rsplit(' ').next().and_then(|port| port.parse().ok()).unwrap_or_default();
        }
        let line = lines.next().ok_or_else(|| io::Error::other("the server says no certificate"))??;
        server.root = line.split_once('=').map(|(_, root)| root.to_owned()).unwrap_or_default();
        Ok(server)
    }

    /// Where a workload's connections go.
    pub fn url(&self, workload: &Workload) -> String {
        let (scheme, port) = match workload.security {
            Security::Plain => ("ws", self.ports[0]),
            Security::Tls => ("wss", self.ports[1]),
            Security::TlsFull => ("wss", self.ports[2]),
        };
        format!("{scheme}://127.0.0.1:{port}")
    }

    /// Runs a client to its end.
    pub fn run(&self, mut client: Command) -> Result<Finished, String> {
        client.env(ROOT_VARIABLE, &self.root).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        tie(&mut client, CLIENT_CORE);
        let mut process = client.spawn().map_err(|error| format!("{client:?}: {error}"))?;
        let status = wait(&mut process).map_err(|error| error.to_string())?;
        let line = read(process.stdout.take())?;
        let errors = read(process.stderr.take())?;
        match status {
            Some(status) if status.success() => match serde_json::from_str(line.trim()) {
                Ok(report) => Ok(Finished { report, errors }),
                Err(error) => Err(format!("{line}: {error}")),
            },
            _ if matches!(self.process.borrow_mut().try_wait(), Ok(Some(_)) | Err(_)) => fail("the server is gone"),
            Some(status) => Err(format!("the client ended with {status}: {}", errors.trim())),
            None => Err(format!("the client was stuck for {} s: {}", LIMIT.as_secs(), errors.trim())),
        }
    }
}

/// Everything that an ended process left in a pipe. It is little: the pipe held all of it.
fn read(pipe: Option<impl Read>) -> Result<String, String> {
    let mut text = String::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_string(&mut text).map_err(|error| error.to_string())?;
    }
    Ok(text)
}

impl Drop for Server {
    fn drop(&mut self) {
        let process = self.process.get_mut();
        let _ = process.kill();
        let _ = process.wait();
    }
}

/// Waits for a process, and ends it if it is stuck.
fn wait(process: &mut Child) -> io::Result<Option<std::process::ExitStatus>> {
    let begin = Instant::now();
    while begin.elapsed() < LIMIT {
        if let Some(status) = process.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(Duration::from_millis(5));
    }
    process.kill()?;
    process.wait()?;
    Ok(None)
}

/// Keeps a process on one core, where the machine has several, and ends it with this one, however that ends.
fn tie(command: &mut Command, core: usize) {
    let several = thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
    // SAFETY: all zeros is an empty set of cores.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set has room for more cores than these.
    unsafe { libc::CPU_SET(core, &mut set) };
    let tie = move || {
        if several {
            // SAFETY: `set` is a valid set for the kernel to read. Where this fails the process runs anywhere.
            unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
        }
        // SAFETY: this only sets a number. Where it fails the process may outlive this one.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        Ok(())
    };
    // SAFETY: what runs between fork and exec is two system calls.
    unsafe { command.pre_exec(tie) };
}
