//! The addresses of a host, raced: RFC 8305 §4 and §5.
//!
//! One attempt begins 250 ms after the other, or at once where one fails, and the first connection that stands wins. So one
//! address that does not answer never costs more than those 250 ms.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::foundation::{ErrorCode, UrlError};

/// How many addresses of one host are tried.
const ADDRESSES: usize = 64;

/// How long an attempt has the field for itself: the Connection Attempt Delay that RFC 8305 §8 recommends.
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// A race under way.
#[derive(Debug, Default)]
pub struct Race {
    /// Those that have not started, in the order of their turns.
    waiting: VecDeque<SocketAddr>,
    /// Those that run.
    running: Vec<(u32, SocketAddr)>,
    /// How many have started.
    started: u32,
    /// What the failure is, if no other address does better.
    failure: Option<UrlError>,
}

impl Race {
    /// Of these addresses, in the resolver's order. Families alternate, IPv6 first.
    pub fn new(addresses: Vec<SocketAddr>) -> Self {
        let mut distinct = Vec::with_capacity(addresses.len().min(ADDRESSES));
        for address in addresses {
            if distinct.len() < ADDRESSES && !distinct.contains(&address) {
                distinct.push(address);
            }
        }
        let (six, four): (VecDeque<_>, VecDeque<_>) = distinct.into_iter().partition(SocketAddr::is_ipv6);
        let (mut families, mut waiting) = ([six, four], VecDeque::new());
        while families.iter().any(|family| !family.is_empty()) {
            waiting.extend(families.iter_mut().filter_map(VecDeque::pop_front));
        }
        Self { waiting, ..Self::default() }
    }

    /// The next address starts, with this number.
    pub fn start(&mut self) -> Option<(u32, SocketAddr)> {
        let address = self.waiting.pop_front()?;
        let number = self.started;
        self.started = self.started.wrapping_add(1);
        self.running.push((number, address));
        Some((number, address))
    }

    /// Whether some have not started.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whose turn is next.
    pub fn next_waiting(&self) -> Option<SocketAddr> {
        self.waiting.front().copied()
    }

    /// Whether this one runs.
    pub fn is_running(&self, number: u32) -> bool {
        self.running.iter().any(|(running, _)| *running == number)
    }

    /// This one is out. What it was, if it ran.
    pub fn remove(&mut self, number: u32) -> Option<SocketAddr> {
        let position = self.running.iter().position(|(running, _)| *running == number)?;
        Some(self.running.swap_remove(position).1)
    }

    /// One of them failed like this. An address that answers says more than one that no route leads to; of several, the last
    /// has the word.
    pub fn failed(&mut self, error: UrlError) {
        let is_better = self.failure.as_ref().is_none_or(|failure| {
            failure.code() == ErrorCode::NotConnectedToInternet || error.code() != ErrorCode::NotConnectedToInternet
        });
        if is_better {
            self.failure = Some(error);
        }
    }

    /// The failure, once nobody is left.
    pub fn take_failure(&mut self) -> Option<UrlError> {
        if self.waiting.is_empty() && self.running.is_empty() { self.failure.take() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foundation::ErrorStage;

    fn address(text: &str) -> SocketAddr {
        if text.contains(':') { format!("[{text}]:1") } else { format!("{text}:1") }.parse().unwrap()
    }

    #[test]
    fn families_alternate_and_ipv6_begins() {
        let table = [
            ("", ""),
            ("1.1.1.1", "1.1.1.1"),
            ("::1 ::2", "::1 ::2"),
            ("1.1.1.1 2.2.2.2 ::1", "::1 1.1.1.1 2.2.2.2"),
            ("::1 ::2 ::3 1.1.1.1 2.2.2.2", "::1 1.1.1.1 ::2 2.2.2.2 ::3"),
            // Each once.
            ("::1 1.1.1.1 ::1 1.1.1.1", "::1 1.1.1.1"),
        ];
        for (given, expected) in table {
            let mut race = Race::new(given.split_whitespace().map(address).collect());
            let order: Vec<_> = std::iter::from_fn(|| race.start()).map(|(_, address)| address).collect();
            assert_eq!(order, expected.split_whitespace().map(address).collect::<Vec<_>>(), "{given}");
        }
    }

    #[test]
    fn no_more_than_64_are_tried() {
        let mut race = Race::new((0..1000).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect());
        assert_eq!(std::iter::from_fn(|| race.start()).count(), ADDRESSES);
    }

    #[test]
    fn the_failure_is_the_one_that_says_most() {
        let error = |code, reason: &'static str| UrlError::new(code, ErrorStage::Connect, reason);
        let table = [(["r1", "r2"], "r2"), (["n1", "r2"], "r2"), (["r1", "n2"], "r1"), (["n1", "n2"], "n2")];
        for (failures, expected) in table {
            let mut race = Race::new(vec![address("::1"), address("::2")]);
            for failure in failures {
                assert!(race.take_failure().is_none(), "somebody is left");
                let (number, started) = race.start().unwrap();
                assert!(race.is_running(number));
                assert_eq!(race.remove(number), Some(started));
                assert_eq!(race.remove(number), None);
                let code = match failure.starts_with('n') {
                    true => ErrorCode::NotConnectedToInternet,
                    false => ErrorCode::CannotConnectToHost,
                };
                race.failed(error(code, failure));
            }
            assert_eq!(race.take_failure().unwrap().reason(), expected);
        }
    }
}
