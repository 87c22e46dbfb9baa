//! When to try again, and when to leave it.

use std::time::Duration;

use super::connection_end::ConnectionEnd;
use crate::reactor::system_random;

/// How long a socket is open before it counts as one that works.
const STABLE: Duration = Duration::from_secs(10);

/// Beyond Apple: decides whether a [`Reconnector`](crate::Reconnector) tries again, and when. A function from an end to a delay
/// is one. [`ExponentialBackoff`] is the default.
///
/// Called on the session's delegate queue, between the callbacks of the [`ReconnectorDelegate`](crate::ReconnectorDelegate).
/// Where it panics, the reconnector stops.
pub trait ReconnectionPolicy: Send + Sync + 'static {
    /// How long to wait before the next task is made; `None`: no further one.
    fn delay(&self, end: &ConnectionEnd) -> Option<Duration>;

    /// Whether a socket that was open so long has worked: failures are counted from the last that did. By default 10 s or more.
    fn is_stable(&self, was_open: Duration) -> bool {
        was_open >= STABLE
    }
}

impl<F: Fn(&ConnectionEnd) -> Option<Duration> + Send + Sync + 'static> ReconnectionPolicy for F {
    fn delay(&self, end: &ConnectionEnd) -> Option<Duration> {
        self(end)
    }
}

/// Beyond Apple: waits longer after each failure in a row, up to a limit, and never as long as others do.
///
/// The wait after the first failure is `initial_delay`, after each further one `multiplier` times as long, and at most
/// `maximum_delay`; of that, `jitter` is left to chance. Where the server refused with a `Retry-After`, this comes on top, so
/// that nobody comes too early and not all come at once.
///
/// ```
/// use std::time::Duration;
///
/// use urlsession::ExponentialBackoff;
///
/// let mut policy = ExponentialBackoff::default();
/// policy.maximum_delay = Duration::from_secs(5);
/// policy.maximum_attempts = Some(20);
/// // A server that says 404 while it starts.
/// policy.is_worth_another_try = |end| {
///     end.is_transient() || end.response.as_ref().is_some_and(|response| response.status_code() == 404)
/// };
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExponentialBackoff {
    /// The wait after the first failure: 500 ms.
    pub initial_delay: Duration,
    /// How much longer each wait is than the one before: 2.0. Below 0, and no number, count as 1.
    pub multiplier: f64,
    /// The longest wait, without `Retry-After`: 30 s.
    pub maximum_delay: Duration,
    /// How much of the wait is left to chance, from 0.0, none, to 1.0, all of it: 0.5, so that each waits between half
    /// of it and all of it.
    pub jitter: f64,
    /// The longest wait that a `Retry-After` may ask for: 5 minutes. A longer one is cut.
    pub maximum_retry_after: Duration,
    /// After how many failures in a row it stops: `None`, never. 1: the first is the last.
    pub maximum_attempts: Option<u32>,
    /// How long a socket is open before failures are counted anew: 10 s. A server that takes every connection and drops
    /// it at once is no better than one that takes none.
    pub stable_after: Duration,
    /// Which ends are worth another try: [`ConnectionEnd::is_transient`].
    pub is_worth_another_try: fn(&ConnectionEnd) -> bool,
}

impl Default for ExponentialBackoff {
    fn default() -> Self {
        Self {
            initial_delay: Duration::from_millis(500),
            multiplier: 2.0,
            maximum_delay: Duration::from_secs(30),
            jitter: 0.5,
            maximum_retry_after: Duration::from_secs(5 * 60),
            maximum_attempts: None,
            stable_after: STABLE,
            is_worth_another_try: ConnectionEnd::is_transient,
        }
    }
}

impl ReconnectionPolicy for ExponentialBackoff {
    fn delay(&self, end: &ConnectionEnd) -> Option<Duration> {
        self.delay_with(end, || fraction(system_random().bytes()))
    }

    fn is_stable(&self, was_open: Duration) -> bool {
        was_open >= self.stable_after
    }
}

impl ExponentialBackoff {
    /// `chance`: from 0 up to 1.
    fn delay_with(&self, end: &ConnectionEnd, chance: impl FnOnce() -> f64) -> Option<Duration> {
        if !(self.is_worth_another_try)(end) || self.maximum_attempts.is_some_and(|most| end.failures >= most) {
            return None;
        }
        let asked = end.retry_after().unwrap_or_default().min(self.maximum_retry_after);
        let jitter = if self.jitter.is_nan() { 0.0 } else { self.jitter.clamp(0.0, 1.0) };
        let wait = times(self.wait(end.failures), 1.0 - jitter * chance());
        Some(asked.saturating_add(wait))
    }

    /// The longest wait after so many failures.
    fn wait(&self, failures: u32) -> Duration {
        let multiplier = if self.multiplier >= 0.0 { self.multiplier } else { 1.0 };
        let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
        times(self.initial_delay, multiplier.powi(exponent)).min(self.maximum_delay)
    }
}

/// What is too long to be told is as long as can be told; nothing stays nothing.
fn times(duration: Duration, factor: f64) -> Duration {
    if duration.is_zero() {
        return duration;
    }
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

/// From 0 up to 1, of 53 bits.
fn fraction(bytes: [u8; 8]) -> f64 {
    (u64::from_be_bytes(bytes) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::super::connection_end::tests::{closed, failed, refused};
    use super::*;
    use crate::foundation::ErrorCode;

    fn lost(failures: u32) -> ConnectionEnd {
        ConnectionEnd { failures, ..failed(ErrorCode::NetworkConnectionLost) }
    }

    fn milliseconds(policy: &ExponentialBackoff, end: &ConnectionEnd, chance: f64) -> Option<u128> {
        policy.delay_with(end, || chance).map(|delay| delay.as_millis())
    }

    #[test]
    fn waits_grow_up_to_the_limit_and_chance_takes_up_to_half() {
        let policy = ExponentialBackoff::default();
        let table = [
            (0, 0.0, 500),
            (1, 0.0, 500),
            (1, 0.5, 375),
            (1, 1.0, 250),
            (2, 0.0, 1_000),
            (3, 0.0, 2_000),
            (4, 1.0, 2_000),
            (6, 0.0, 16_000),
            (7, 0.0, 30_000),
            (8, 1.0, 15_000),
            (2_000, 0.0, 30_000),
            (u32::MAX, 1.0, 15_000),
        ];
        for (failures, chance, expected) in table {
            assert_eq!(milliseconds(&policy, &lost(failures), chance), Some(expected), "{failures}, {chance}");
        }
        let with = |jitter| ExponentialBackoff { jitter, ..ExponentialBackoff::default() };
        for (jitter, expected) in [(0.0, 500), (1.0, 0), (0.25, 375), (-1.0, 500), (7.0, 0), (f64::NAN, 500)] {
            assert_eq!(milliseconds(&with(jitter), &lost(1), 1.0), Some(expected), "{jitter}");
        }
    }

    #[test]
    fn no_number_is_too_large_or_none() {
        let policy = |initial_delay, multiplier, maximum_delay| ExponentialBackoff {
            initial_delay,
            multiplier,
            maximum_delay,
            jitter: 0.0,
            ..ExponentialBackoff::default()
        };
        let (second, most) = (Duration::from_secs(1), Duration::MAX);
        let table = [
            (policy(second, f64::NAN, most), 9, second),
            (policy(second, -2.0, most), 9, second),
            (policy(second, f64::INFINITY, most), 1, second),
            (policy(second, f64::INFINITY, most), 2, most),
            (policy(second, f64::MAX, most), 3, most),
            (policy(second, 1e9, Duration::from_secs(60)), u32::MAX, Duration::from_secs(60)),
            (policy(second, 0.5, most), 2, second / 2),
            (policy(second, 0.5, most), u32::MAX, Duration::ZERO),
            (policy(second, 0.0, most), 2, Duration::ZERO),
            (policy(Duration::ZERO, f64::INFINITY, most), 2, Duration::ZERO),
            (policy(Duration::ZERO, 2.0, most), u32::MAX, Duration::ZERO),
            (policy(most, 2.0, most), 5, most),
            (policy(most, 2.0, second), 1, second),
            (policy(second, 2.0, Duration::ZERO), 5, Duration::ZERO),
        ];
        for (policy, failures, expected) in table {
            let told = policy.delay_with(&lost(failures), || 0.5);
            assert_eq!(told, Some(expected), "{policy:?} {failures}");
        }
        let long = ExponentialBackoff { initial_delay: most, maximum_delay: most, ..ExponentialBackoff::default() };
        assert!(long.delay_with(&lost(1), || 0.5).unwrap() < most);
        let forever = ExponentialBackoff { maximum_retry_after: most, jitter: 0.0, ..long };
        let end = refused(503, &[("Retry-After", "99999999999999999999999")]);
        assert_eq!(forever.delay_with(&end, || 0.5), Some(most));
    }

    #[test]
    fn retry_after_comes_on_top_and_is_cut() {
        let policy = ExponentialBackoff::default();
        let after = |seconds: &str| refused(503, &[("Retry-After", seconds)]);
        for (seconds, expected) in
            [("0", 500), ("7", 7_500), ("300", 300_500), ("301", 300_500), ("99999999999999999999", 300_500)]
        {
            assert_eq!(milliseconds(&policy, &after(seconds), 0.0), Some(expected), "{seconds}");
        }
        assert_eq!(milliseconds(&policy, &refused(404, &[("Retry-After", "1")]), 0.0), None);
    }

    #[test]
    fn what_ends_it() {
        let policy = ExponentialBackoff { maximum_attempts: Some(3), ..ExponentialBackoff::default() };
        assert_eq!([1, 2, 3, 4].map(|count| policy.delay(&lost(count)).is_some()), [true, true, false, false]);
        let none = ExponentialBackoff { maximum_attempts: Some(0), ..ExponentialBackoff::default() };
        assert_eq!(none.delay(&lost(1)), None);
        let policy = ExponentialBackoff::default();
        assert!(policy.delay(&lost(u32::MAX)).is_some());
        assert_eq!(policy.delay(&closed(1000)), None);
        let stubborn = ExponentialBackoff { is_worth_another_try: |_| true, ..policy };
        assert!(stubborn.delay(&closed(1000)).is_some());
        assert_eq!([9_999, 10_000].map(|open| stubborn.is_stable(Duration::from_millis(open))), [false, true]);
    }

    #[test]
    fn chance_is_spread_evenly() {
        assert_eq!([fraction([0; 8]), fraction([0x80, 0, 0, 0, 0, 0, 0, 0])], [0.0, 0.5]);
        assert!(fraction([0xff; 8]) < 1.0);
        let policy = ExponentialBackoff::default();
        let delays: Vec<u128> = (0..400).map(|_| policy.delay(&lost(1)).unwrap().as_micros()).collect();
        assert!(delays.iter().all(|delay| (250_000..=500_000).contains(delay)));
        // None of the five parts stays empty, but for a chance of one in 10^37.
        for part in 0..5 {
            let (from, to) = (250_000 + part * 50_000, 300_000 + part * 50_000);
            assert!(delays.iter().any(|delay| (from..to).contains(delay)), "{from}");
        }
    }
}
