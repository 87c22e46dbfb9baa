//! A network that is missing for a while: who is told, how often it is looked for, and which clocks stand still meanwhile.

use std::io::{self, ErrorKind};

use crate::model::Stage;
use crate::world::World;

/// The first pause, and the longest; each is twice as long as the one before.
const FIRST: u64 = 250;
const LONGEST: u64 = 4_000;

#[derive(Debug, Default)]
pub struct Missing {
    /// How often it will still be missing…
    pub rounds: usize,
    /// …and whether next time nobody can be asked for the addresses.
    pub at_look_up: bool,
    /// How often the task has waited for it.
    times: u32,
    /// How long it waits this time.
    waited: u64,
    /// The loader says so.
    said: bool,
    /// The delegate was told.
    pub told: bool,
}

impl Missing {
    pub fn new(rounds: usize) -> Self {
        Self { rounds, ..Self::default() }
    }

    /// Time goes by, of a task that waits and is not suspended.
    pub fn pass(&mut self, time: u64) {
        self.waited += time;
    }

    fn pause(&self) -> u64 {
        (FIRST << (self.times - 1).min(10)).min(LONGEST)
    }
}

/// How a network that is missing shows.
pub fn error(rng: &mut crate::rng::Rng) -> io::Error {
    rng.pick(&[ErrorKind::NetworkUnreachable, ErrorKind::NetworkDown]).into()
}

impl World {
    /// The way cannot go on here, with this number: whether the task waits for the network.
    pub fn is_missing(&self, code: Option<i32>) -> bool {
        code == Some(-1009) && self.plan.waits && self.model.closing.is_none() && !self.model.has_pending_cancel()
    }

    /// The loader says that it waits.
    pub fn says_missing(&mut self) {
        assert!(!std::mem::replace(&mut self.missing.said, true), "the delegate is told once");
        assert!(self.missing.times == 0 && self.is_missing(self.model.way_code));
    }

    /// After a step that may have found out that the network is missing.
    pub fn look_for_missing(&mut self, before: Stage, now: Stage) {
        let is_missing = self.is_missing(self.model.way_code);
        if before != Stage::Waiting && now == Stage::Waiting {
            assert!(is_missing, "the task waits for the network, which is there");
            assert!(self.missing.said, "the delegate is to be told");
            self.missing.times += 1;
            self.missing.waited = 0;
            self.model.quiet = 0;
            self.situations.insert(match before {
                Stage::Resolving => "missing: nobody can be asked for the addresses",
                _ => "missing: no address can be reached",
            });
            if self.missing.rounds > 0 {
                self.missing.rounds -= 1;
            }
            self.missing.at_look_up = self.rng.one_in(2);
        } else if is_missing {
            assert!(self.model.ended.is_none() && now.is_unconnected(), "the task is to wait for the network");
        }
        if before == Stage::Waiting && now != Stage::Waiting {
            if self.model.ended.is_some() {
                self.situations.insert("missing: the task ends");
                return;
            }
            assert!(
                now.is_unconnected() && self.missing.waited >= self.missing.pause(),
                "the network is looked for early"
            );
            self.model.quiet = 0;
        }
    }

    /// When everybody has looked at the clock.
    pub fn check_missing(&self) {
        if self.model.stage == Stage::Waiting && self.model.ended.is_none() {
            assert!(self.missing.waited < self.missing.pause(), "the network is to be looked for: {:?}", self.missing);
            assert!(!self.loader.has_action() && !self.connected && !self.loader.wants_read());
        }
    }
}
