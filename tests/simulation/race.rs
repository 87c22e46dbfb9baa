//! The addresses of a host, raced as RFC 8305 §4 and §5 say: which has its turn when, said once more, and what becomes of each.

use std::collections::{HashSet, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{Ipv6Addr, SocketAddr};

use crate::missing;
use crate::model::{Cause, Stage};
use crate::plan::{Address, Connect};
use crate::world::{World, note};

/// How long an attempt has the field for itself.
const DELAY: u64 = 250;

#[derive(Debug, Default)]
pub struct Race {
    /// Those whose turn is to come.
    waiting: VecDeque<SocketAddr>,
    running: Vec<Attempt>,
    started: u32,
    /// The next has its turn…
    is_due: bool,
    /// …or the last had it, so long before.
    since: u64,
    failures: Vec<(ErrorKind, bool)>,
}

/// An address that is tried.
#[derive(Debug)]
struct Attempt {
    number: u32,
    address: SocketAddr,
    /// When it is known what becomes of it; never, where it hangs.
    at: Option<u64>,
    result: Result<(), ErrorKind>,
}

impl Race {
    /// Families alternate, IPv6 first, each in the resolver's order; each address once.
    pub fn new(addresses: &[SocketAddr]) -> Self {
        let (mut seen, mut ranks) = (HashSet::new(), [0, 0]);
        let mut order: Vec<(usize, bool, SocketAddr)> = Vec::new();
        for address in addresses.iter().filter(|address| seen.insert(**address)) {
            let rank = &mut ranks[usize::from(address.is_ipv4())];
            order.push((*rank, address.is_ipv4(), *address));
            *rank += 1;
        }
        order.sort_by_key(|(rank, is_four, _)| (*rank, *is_four));
        let waiting: VecDeque<_> = order.into_iter().map(|(.., address)| address).collect();
        Self { is_due: !waiting.is_empty(), waiting, ..Self::default() }
    }

    /// Whether the turn of some is to come.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Time goes by, of a task that is not suspended.
    pub fn pass(&mut self, time: u64) {
        self.since += time;
        if self.since >= DELAY {
            self.has_turn();
        }
    }

    fn has_turn(&mut self) {
        if !self.waiting.is_empty() {
            (self.is_due, self.since) = (true, 0);
        }
    }

    fn start(&mut self) -> Option<(u32, SocketAddr)> {
        if !std::mem::take(&mut self.is_due) {
            return None;
        }
        let address = self.waiting.pop_front()?;
        self.started += 1;
        Some((self.started - 1, address))
    }

    /// When the next is known to stand or to have failed.
    pub fn next(&self) -> Option<u64> {
        self.running.iter().filter_map(|attempt| attempt.at).min()
    }

    /// Apple's number, once nobody is left: of those that were there to answer, the last says most.
    pub fn code(&self) -> Option<i32> {
        if !self.waiting.is_empty() || !self.running.is_empty() {
            return None;
        }
        let is_missing = |(kind, six): &(ErrorKind, bool)| match kind {
            ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => true,
            ErrorKind::AddrNotAvailable => *six,
            _ => false,
        };
        let (kind, _) = self.failures.iter().rfind(|failure| !is_missing(failure)).or_else(|| self.failures.last())?;
        Some(match kind {
            ErrorKind::TimedOut => -1001,
            _ if self.failures.iter().all(is_missing) => -1009,
            _ => -1004,
        })
    }
}

/// The address of this number in the plan, as the resolver tells it.
pub fn address(number: usize, six: bool, port: u16) -> SocketAddr {
    let last = u8::try_from(number + 1).unwrap();
    match six {
        true => (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()), port).into(),
        false => ([192, 0, 2, last], port).into(),
    }
}

impl World {
    /// An address is tried.
    pub fn begin_attempt(&mut self, number: u32, address: SocketAddr) {
        assert!(!self.connected, "a second connection");
        let race = self.race.as_mut().expect("addresses");
        assert_eq!(race.start(), Some((number, address)), "whose turn it is");
        let Address { connect, after, .. } = self.plan.address_of(&address);
        let at = self.model.now + after + self.plan.pause(&mut self.rng);
        let (at, result) = match connect {
            _ if self.missing.rounds > 0 => (Some(at), Err(missing::error(&mut self.rng).kind())),
            Connect::Works => (Some(at), Ok(())),
            Connect::Fails(kind) => (Some(at), Err(kind)),
            Connect::Hangs => (None, Ok(())),
        };
        let race = self.race.as_mut().expect("addresses");
        race.running.push(Attempt { number, address, at, result });
        if race.running.len() > 1 {
            self.situations.insert("raced: several addresses at the same time");
        }
    }

    /// What became of one of the attempts.
    pub fn finish_attempt(&mut self) {
        let now = self.model.now;
        let race = self.race.as_mut().expect("addresses");
        let over: Vec<usize> =
            (0..race.running.len()).filter(|index| race.running[*index].at.is_some_and(|at| at <= now)).collect();
        let Attempt { number, address, result, .. } = race.running.swap_remove(over[self.rng.below(over.len())]);
        note!(self, "attempt {number}, {address}: {result:?}");
        self.attempted = true;
        assert!(self.loader.awaits_connection(number));
        match result {
            Ok(()) => {
                let race = self.race.take().expect("addresses");
                if race.failures.is_empty() && number > 0 {
                    self.situations.insert("raced: a later address was quicker");
                }
                if self.model.is_suspended() {
                    self.situations.insert("raced: a connection while suspended");
                }
                if self.missing.told {
                    self.situations.insert("missing: the way was found in the end");
                }
                self.losers = race.running.iter().map(|attempt| attempt.number).collect();
                self.connected = true;
                self.step(Cause::Connected, |loader, env| loader.connected(env, number, None, Some(address)));
            }
            Err(kind) => {
                race.failures.push((kind, address.is_ipv6()));
                // The next has its turn at once.
                race.has_turn();
                self.model.way_code = race.code();
                self.step(Cause::ConnectFailed, |loader, env| loader.connect_failed(env, number, kind.into()));
                self.model.way_code = None;
            }
        }
    }

    /// What became of an attempt that lost, or of one of a way that was left: nobody wants to know.
    pub fn attempt_is_late(&mut self) {
        let Some(number) = self.losers.pop() else { return };
        self.situations.insert("raced: an answer that was too late");
        note!(self, "too late: attempt {number}");
        assert!(!self.loader.awaits_connection(number), "the task waits for a connection that was given up");
        let stands = self.rng.one_in(2);
        self.changes_nothing(|loader, env| match stands {
            true => loader.connected(env, number, None, None),
            false => loader.connect_failed(env, number, io::Error::from(ErrorKind::ConnectionRefused)),
        });
    }

    /// After a step: where the race is.
    pub fn look_at_race(&mut self, before: Stage, now: Stage) {
        let is_left = before != now || self.model.leaving;
        if now == Stage::Resolving && is_left {
            self.look_up_is_due = true;
        }
        if now != Stage::Connecting {
            // Those of a way that was left are given up when the reactor comes to it.
            let left = self.race.take().into_iter().flat_map(|race| race.running);
            self.losers.extend(left.map(|attempt| attempt.number));
        } else if is_left && self.race.is_none() {
            let addresses = match self.addresses.take() {
                Some(addresses) => addresses,
                None => vec![self.literal().expect("an address")],
            };
            self.race = Some(Race::new(&addresses));
        }
        self.check_race();
    }

    pub fn check_race(&self) {
        if self.model.stage == Stage::Resolving && self.model.ended.is_none() {
            let moves = !self.model.suspended && (self.look_up_is_due || self.model.leaving);
            assert_eq!(self.loader.has_action(), moves, "whether the addresses are looked up");
        }
        if let Some(race) = &self.race
            && self.model.ended.is_none()
        {
            let moves = !self.model.suspended && (race.is_due || self.model.leaving);
            assert_eq!(self.loader.has_action(), moves, "whether the next address has its turn: {race:?}");
        }
    }

    /// Where the current request goes, if that needs no look-up.
    fn literal(&self) -> Option<SocketAddr> {
        let host = self.peer.course.current.url.host_str()?;
        let ip = host.trim_matches(['[', ']']).parse().ok()?;
        Some(SocketAddr::new(ip, self.port()))
    }
}
