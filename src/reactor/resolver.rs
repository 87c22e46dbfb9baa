//! Looks up the addresses of hosts, on threads of its own: the system's look-up blocks.
//!
//! Each look-up has a thread while it runs, so that one that hangs holds up nobody else; those who ask for the same host
//! at the same time share one. Who asks is held weakly: a task that ends is let go at once, and nothing waits for a
//! look-up that hangs.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use dns_lookup::{AddrInfoHints, LookupErrorKind, SockType, getaddrinfo};
use parking_lot::Mutex;
use slab::Slab;

use super::client::Client;
use super::{Command, Shared};

/// How many look-ups run at the same time. The next one waits for the end of another.
const THREADS: usize = 256;

/// The stack of a thread: what macOS gives one that asks for nothing, so `getaddrinfo` and what it calls live with it.
const STACK: usize = 512 * 1024;

/// How long after its begin a look-up is shared with those who ask for the same host. One that is older may hang for a
/// reason that is no more.
const SHARED_FOR: Duration = Duration::from_secs(1);

/// How many addresses of one host are taken.
const ADDRESSES: usize = 256;

/// What is known of a host: its addresses, with port 0; or why there are none. Of the kind
/// [`NotFound`](ErrorKind::NotFound) where the name is unknown or has no address,
/// [`NetworkUnreachable`](ErrorKind::NetworkUnreachable) where nobody could be asked, and of any other else.
pub type Answer = io::Result<Vec<SocketAddr>>;

/// Somebody who waits for addresses.
pub trait Asker: Send + 'static {
    /// Whether there is nobody left to ask whether they wait. Called under the resolver's lock.
    fn is_gone(&self) -> bool;

    /// Whether it still waits. Called without a lock, as is [`tell`](Self::tell).
    fn waits(&self) -> bool;

    /// The answer, with the port that was asked for.
    fn tell(self, answer: Answer);
}

/// A task that waits for addresses.
pub struct AskingTask {
    client: Weak<dyn Client>,
    reactor: Weak<Shared>,
    /// Which of its look-ups it is.
    look_up: u32,
}

impl AskingTask {
    /// The answer is a command to the reactor, if the task still waits for it.
    pub fn new(client: &Arc<dyn Client>, reactor: &Arc<Shared>, look_up: u32) -> Self {
        Self { client: Arc::downgrade(client), reactor: Arc::downgrade(reactor), look_up }
    }
}

impl Asker for AskingTask {
    fn is_gone(&self) -> bool {
        self.client.strong_count() == 0
    }

    fn waits(&self) -> bool {
        self.client.upgrade().is_some_and(|client| client.connection().is_known())
    }

    fn tell(self, answer: Answer) {
        // A reactor that has nothing to do any more is not started again for it.
        if self.waits()
            && let Some(reactor) = self.reactor.upgrade()
        {
            reactor.notify(Command::Resolved(self.client, self.look_up, answer));
        }
    }
}

/// Look-ups of one reactor.
pub struct Resolver<A = AskingTask> {
    state: Mutex<State<A>>,
    look_up: Box<dyn Fn(&str) -> Answer + Send + Sync>,
}

struct State<A> {
    /// Those that run and those that wait for a thread.
    look_ups: Slab<LookUp<A>>,
    /// Of each host, the one that began last, or will.
    latest: HashMap<Arc<str>, usize>,
    /// Those that wait for a thread.
    queue: VecDeque<usize>,
    threads: usize,
}

struct LookUp<A> {
    host: Arc<str>,
    begun: Option<Instant>,
    /// Who waits, with the port.
    askers: Vec<(A, u16)>,
}

impl<A: Asker> Default for Resolver<A> {
    fn default() -> Self {
        Self::new(system)
    }
}

impl<A: Asker> Resolver<A> {
    /// `look_up`: what finds the addresses of a host, and takes its time.
    fn new(look_up: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let state = State { look_ups: Slab::new(), latest: HashMap::new(), queue: VecDeque::new(), threads: 0 };
        Self { state: Mutex::new(state), look_up: Box::new(look_up) }
    }

    /// Asks for the addresses of `host`.
    pub fn ask(self: &Arc<Self>, asker: A, host: &str, port: u16) {
        self.ask_at(Instant::now(), asker, host, port);
    }

    fn ask_at(self: &Arc<Self>, now: Instant, asker: A, host: &str, port: u16) {
        let mut state = self.state.lock();
        if !state.add(now, host, asker, port) || state.threads >= THREADS {
            return;
        }
        let resolver = Arc::clone(self);
        let thread = thread::Builder::new().name("urlsession-resolver".to_owned()).stack_size(STACK);
        match thread.spawn(move || resolver.run()) {
            Ok(_) => state.threads += 1,
            Err(error) if state.threads == 0 => {
                let mut askers = Vec::new();
                while let Some(key) = state.queue.pop_front() {
                    askers.append(&mut state.remove(key));
                }
                drop(state);
                tell(askers, &Err(error));
            }
            // One of those that run takes it.
            Err(_) => {}
        }
    }

    /// One look-up after the other, until none waits.
    fn run(&self) {
        while let Some((key, host)) = self.begin() {
            let answer = catch_unwind(AssertUnwindSafe(|| (self.look_up)(&host)));
            let answer = answer.unwrap_or_else(|_| Err(io::Error::other("the look-up of the system failed")));
            let askers = self.state.lock().remove(key);
            tell(askers, &answer);
        }
    }

    /// The next look-up that somebody waits for; if there is none, the thread is counted out.
    fn begin(&self) -> Option<(usize, Arc<str>)> {
        loop {
            let (key, mut askers) = {
                let mut state = self.state.lock();
                let Some((key, look_up)) = state.next() else {
                    state.threads -= 1;
                    return None;
                };
                (key, std::mem::take(&mut look_up.askers))
            };
            // A task that was cancelled may be kept by the program. What is left of one may go here, too.
            askers.retain(|(asker, _)| catch_unwind(AssertUnwindSafe(|| asker.waits())).unwrap_or(false));
            let mut state = self.state.lock();
            let Some(look_up) = state.look_ups.get_mut(key) else { continue };
            // Some may have come meanwhile.
            askers.append(&mut look_up.askers);
            look_up.askers = askers;
            if look_up.askers.is_empty() {
                state.remove(key);
                continue;
            }
            look_up.begun = Some(Instant::now());
            return Some((key, Arc::clone(&look_up.host)));
        }
    }
}

impl<A: Asker> State<A> {
    /// Adds who asks to the look-up of the host, or a look-up to the queue; whether it did that.
    fn add(&mut self, now: Instant, host: &str, asker: A, port: u16) -> bool {
        if let Some(look_up) = self.latest.get(host).and_then(|key| self.look_ups.get_mut(*key))
            && look_up.begun.is_none_or(|begun| now.saturating_duration_since(begun) < SHARED_FOR)
        {
            if look_up.askers.len() == look_up.askers.capacity() {
                look_up.askers.retain(|(asker, _)| !asker.is_gone());
            }
            look_up.askers.push((asker, port));
            return false;
        }
        if self.queue.len() == self.queue.capacity() {
            self.thin_out();
        }
        let host: Arc<str> = host.into();
        let key = self.look_ups.insert(LookUp { host: Arc::clone(&host), begun: None, askers: vec![(asker, port)] });
        self.latest.insert(host, key);
        self.queue.push_back(key);
        true
    }

    /// Forgets look-ups that nobody can be told of: the queue is as long as there are tasks, while others hang.
    fn thin_out(&mut self) {
        for key in std::mem::take(&mut self.queue) {
            if self.look_ups.get(key).is_some_and(|look_up| look_up.askers.iter().all(|(asker, _)| asker.is_gone())) {
                self.remove(key);
            } else {
                self.queue.push_back(key);
            }
        }
    }

    /// Takes the first look-up from the queue.
    fn next(&mut self) -> Option<(usize, &mut LookUp<A>)> {
        let key = self.queue.pop_front()?;
        Some((key, self.look_ups.get_mut(key)?))
    }

    /// Ends a look-up; who waits for it.
    fn remove(&mut self, key: usize) -> Vec<(A, u16)> {
        let Some(look_up) = self.look_ups.try_remove(key) else { return Vec::new() };
        if self.latest.get(&look_up.host) == Some(&key) {
            self.latest.remove(&look_up.host);
        }
        if self.look_ups.is_empty() {
            // What a rush has left.
            (self.look_ups, self.latest) = (Slab::new(), HashMap::new());
            self.queue = VecDeque::new();
        }
        look_up.askers
    }
}

/// Gives everybody the answer. What the end of a task throws ends here.
fn tell<A: Asker>(askers: Vec<(A, u16)>, answer: &Answer) {
    for (asker, port) in askers {
        let answer = match answer {
            Ok(addresses) => Ok(addresses.iter().map(|address| with_port(*address, port)).collect()),
            Err(error) => Err(error
                .raw_os_error()
                .map_or_else(|| io::Error::new(error.kind(), error.to_string()), io::Error::from_raw_os_error)),
        };
        let _ = catch_unwind(AssertUnwindSafe(|| asker.tell(answer)));
    }
}

fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

/// What the system knows of a host: its file of hosts, the DNS, and whatever else it asks. The scope of an address of
/// the own link (RFC 4007) comes with it.
fn system(host: &str) -> Answer {
    let hints = AddrInfoHints { socktype: SockType::Stream.into(), ..AddrInfoHints::default() };
    let found = getaddrinfo(Some(host), None, Some(hints)).map_err(|error| failure(error.kind(), error.into()))?;
    let mut addresses = Vec::new();
    // Those of other families than IP's are none to connect to.
    for address in found.filter_map(Result::ok).map(|found| found.sockaddr).take(ADDRESSES) {
        // glibc has one twice where the file of hosts says so.
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// What the code of `getaddrinfo` (RFC 3493 §6.1) says: there is no such name, nobody can be asked now, or else.
fn failure(kind: LookupErrorKind, error: io::Error) -> io::Error {
    let kind = match kind {
        LookupErrorKind::NoName | LookupErrorKind::NoData => ErrorKind::NotFound,
        LookupErrorKind::Again => ErrorKind::NetworkUnreachable,
        LookupErrorKind::Memory => ErrorKind::OutOfMemory,
        LookupErrorKind::System | LookupErrorKind::IO => match error.kind() {
            ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::TimedOut => ErrorKind::NetworkUnreachable,
            _ => return error,
        },
        _ => ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

#[cfg(test)]
mod tests;
