//! The deadlines of one task. The reactor wakes the loader at the earliest; nothing here costs anything per message.

use std::time::{Duration, Instant};

/// A deadline whose clock can stand still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    #[default]
    Off,
    Running(Instant),
    /// What was left when it was stopped.
    Stopped(Duration),
}

impl Clock {
    /// A deadline so far away that no clock shows it is none.
    pub fn after(now: Instant, delay: Duration) -> Self {
        now.checked_add(delay).map_or(Self::Off, Self::Running)
    }

    pub fn stop(&mut self, now: Instant) {
        if let Self::Running(deadline) = *self {
            *self = Self::Stopped(deadline.saturating_duration_since(now));
        }
    }

    pub fn go_on(&mut self, now: Instant) {
        if let Self::Stopped(left) = *self {
            *self = Self::after(now, left);
        }
    }

    pub fn is_off(self) -> bool {
        self == Self::Off
    }

    fn deadline(self) -> Option<Instant> {
        match self {
            Self::Running(deadline) => Some(deadline),
            Self::Off | Self::Stopped(_) => None,
        }
    }
}

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// `timeout_interval_for_resource`.
    Resource,
    /// `timeout_interval_for_request`.
    Request,
    /// `close_timeout` after `cancel_with`: the server did not answer the Close.
    Close,
    /// The body of a refusal, or the rest of what a broken connection holds, is waited for no longer.
    Rest,
    /// The server did not close TCP after the end.
    Linger,
    /// `close_timeout` after the end, or what leads to it, is known: messages before it were not taken.
    Unread,
    /// `ping_interval`.
    Ping,
    /// `pong_timeout`.
    Pong,
    /// The next address of a host has its turn.
    Attempt,
    /// The network was missing; perhaps there is one by now.
    Connectivity,
}

const TIMERS: usize = 10;

/// The deadlines of one task.
#[derive(Debug, Default)]
pub struct Timers {
    /// [`Timer::Resource`], which never stands still: the only one that runs while the socket is open and nothing happens.
    resource: Option<Instant>,
    /// The others, while one of them is on.
    others: Option<Box<Others>>,
}

#[derive(Debug, Default)]
struct Others {
    clocks: [Clock; TIMERS],
    /// The earliest deadline of them.
    next: Option<Instant>,
}

impl Others {
    fn change(&mut self, timer: Timer, change: impl FnOnce(&mut Clock)) {
        let clock = &mut self.clocks[timer as usize];
        let before = clock.deadline();
        change(clock);
        let after = clock.deadline();
        if after.is_some_and(|deadline| self.next.is_none_or(|next| deadline <= next)) {
            self.next = after;
        } else if before.is_some() && before == self.next {
            self.next = self.clocks.iter().filter_map(|clock| clock.deadline()).min();
        }
    }
}

impl Timers {
    /// Starts, or starts again.
    pub fn start(&mut self, timer: Timer, now: Instant, delay: Duration) {
        self.set(timer, Clock::after(now, delay));
    }

    /// A deadline is none any more.
    pub fn cancel(&mut self, timer: Timer) {
        self.set(timer, Clock::Off);
    }

    /// Starts this one; there is no other any more.
    pub fn start_only(&mut self, timer: Timer, now: Instant, delay: Duration) {
        self.resource = None;
        if let Some(others) = &mut self.others {
            **others = Default::default();
        }
        self.start(timer, now, delay);
    }

    /// A clock stands still.
    pub fn stop(&mut self, timer: Timer, now: Instant) {
        if let Some(others) = &mut self.others {
            others.change(timer, |clock| clock.stop(now));
        }
    }

    /// A clock that stood still runs on.
    pub fn go_on(&mut self, timer: Timer, now: Instant) {
        if let Some(others) = &mut self.others {
            others.change(timer, |clock| clock.go_on(now));
        }
    }

    /// Whether its clock runs or stands still.
    pub fn is_on(&self, timer: Timer) -> bool {
        !self.clock(timer).is_off()
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Instant> {
        let others = self.others.as_ref().and_then(|others| others.next);
        others.into_iter().chain(self.resource).min()
    }

    /// Takes the deadlines that have passed.
    pub fn take_expired(&mut self, now: Instant) -> impl Iterator<Item = Timer> + use<> {
        use Timer::{Attempt, Close, Connectivity, Linger, Ping, Pong, Request, Resource, Rest, Unread};
        let all = [Resource, Request, Attempt, Connectivity, Close, Rest, Linger, Unread, Pong, Ping];
        let expired = all.map(|timer| {
            let deadline = self.clock(timer).deadline()?;
            (deadline <= now).then(|| {
                self.cancel(timer);
                timer
            })
        });
        expired.into_iter().flatten()
    }

    fn clock(&self, timer: Timer) -> Clock {
        match (timer, &self.others) {
            (Timer::Resource, _) => self.resource.map_or(Clock::Off, Clock::Running),
            (_, Some(others)) => others.clocks[timer as usize],
            (_, None) => Clock::Off,
        }
    }

    fn set(&mut self, timer: Timer, clock: Clock) {
        if timer == Timer::Resource {
            self.resource = clock.deadline();
        } else if !clock.is_off() {
            self.others.get_or_insert_default().change(timer, |before| *before = clock);
        } else if let Some(others) = &mut self.others {
            others.change(timer, |before| *before = clock);
            if others.next.is_none() && others.clocks.iter().all(|clock| clock.is_off()) {
                self.others = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_clock_keeps_what_is_left() {
        let start = Instant::now();
        let seconds = |number| start + Duration::from_secs(number);
        let mut timers = Timers::default();
        timers.start(Timer::Request, start, Duration::from_secs(10));
        timers.start(Timer::Resource, start, Duration::MAX);
        assert_eq!(timers.next(), Some(seconds(10)));
        timers.stop(Timer::Request, seconds(4));
        assert_eq!(timers.next(), None);
        assert_eq!(timers.take_expired(seconds(100)).count(), 0);
        timers.go_on(Timer::Request, seconds(100));
        assert_eq!(timers.next(), Some(seconds(106)));
        assert_eq!(timers.take_expired(seconds(105)).count(), 0);
        assert_eq!(timers.take_expired(seconds(106)).collect::<Vec<_>>(), [Timer::Request]);
        assert_eq!(timers.take_expired(seconds(106)).count(), 0);
        assert!(!timers.is_on(Timer::Request));
    }
}
