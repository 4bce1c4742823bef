//! When the next call may start: one pace for each SDKAppID and command.
//!
//! Pure: time comes in as the duration since the process started. Starts are evenly spaced and a little under the
//! quota, so that network jitter cannot put one call too many into a second.

use std::time::Duration;

/// The part of the quota that is used. With [`CATCH_UP`] the most starts in any second are
/// `floor((1 s + CATCH_UP) * MARGIN * rate) + 1`, which is at most `rate` for every rate from 1 to 200.
const MARGIN: f64 = 0.985;

/// How far behind its schedule a start may be and still keep the next one on it: timers wake late.
const CATCH_UP: Duration = Duration::from_millis(10);

/// After a throttle answer the pace is left alone for this long, before it halves again or recovers by a step.
const STEP: Duration = Duration::from_secs(1);

/// The steps from nothing to the full pace.
const STEPS: f64 = 20.0;

/// The pace never falls below one call a second.
const SLOWEST: f64 = 1.0;

/// A schedule of starts.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Calls a second that are allowed.
    limit: u32,
    /// Calls a second at the moment; under the limit after a throttle answer.
    rate: f64,
    /// When the next call may start.
    next: Duration,
    /// When the rate last changed because of an answer, or recovered by a step.
    changed: Duration,
}

impl Pace {
    /// A pace of at most `limit` calls a second.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        let limit = limit.max(1);
        Self { limit, rate: f64::from(limit), next: Duration::ZERO, changed: Duration::ZERO }
    }

    /// Changes the limit; a pace that is slowed down stays so.
    pub fn set_limit(&mut self, limit: u32) {
        let limit = limit.max(1);
        if limit != self.limit {
            let slowed = self.rate < f64::from(self.limit);
            self.limit = limit;
            self.rate = if slowed { self.rate.min(f64::from(limit)) } else { f64::from(limit) };
        }
    }

    /// When the next call may start.
    #[must_use]
    pub const fn next(&self) -> Duration {
        self.next
    }

    /// Calls a second at the moment.
    #[must_use]
    pub const fn rate(&self) -> f64 {
        self.rate
    }

    /// Takes the next start, if it may be now.
    pub fn take(&mut self, now: Duration) -> bool {
        if now < self.next {
            return false;
        }
        self.recover(now);
        let interval = Duration::from_secs_f64(1.0 / (self.rate * MARGIN));
        self.next = self.next.max(now.saturating_sub(CATCH_UP)) + interval;
        true
    }

    /// A call that started at `started` was throttled: halves the pace, once for all calls of the same moment.
    pub fn throttled(&mut self, started: Duration, now: Duration) {
        if started < self.changed {
            return;
        }
        self.rate = (self.rate / 2.0).max(SLOWEST);
        self.changed = now;
        // What is scheduled already was so at the old pace.
        self.next = self.next.max(now + Duration::from_secs_f64(1.0 / (self.rate * MARGIN)));
    }

    /// One step back towards the limit for each [`STEP`] since the last change.
    fn recover(&mut self, now: Duration) {
        let limit = f64::from(self.limit);
        while self.rate < limit && now.saturating_sub(self.changed) >= STEP {
            self.rate = (self.rate + limit / STEPS).min(limit);
            self.changed += STEP;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Starts within `span` when the caller looks every `tick`.
    fn starts(pace: &mut Pace, from: Duration, span: Duration, tick: Duration) -> Vec<Duration> {
        let mut now = from;
        let mut starts = Vec::new();
        while now < from + span {
            if pace.take(now) {
                starts.push(now);
            } else {
                now += tick;
            }
        }
        starts
    }

    fn most_in_a_second(starts: &[Duration]) -> usize {
        starts
            .iter()
            .enumerate()
            .map(|(at, first)| starts[at..].iter().take_while(|start| **start < *first + Duration::from_secs(1)).count())
            .max()
            .unwrap_or(0)
    }

    #[test]
    fn never_more_than_the_quota_in_any_second_and_little_less() {
        for limit in [1, 2, 3, 10, 50, 199, 200] {
            for tick in [MS, 3 * MS, 7 * MS, 12 * MS] {
                let starts = starts(&mut Pace::new(limit), 5000 * MS, 30_000 * MS, tick);
                let most = most_in_a_second(&starts);
                assert!(most <= limit as usize, "{most} starts in a second of {limit}, looking every {tick:?}");
                if tick < CATCH_UP {
                    let least = f64::from(limit) * 30.0 * 0.98 - 1.0;
                    assert!(starts.len() as f64 >= least, "{} starts of {limit} each {tick:?}", starts.len());
                }
            }
        }
    }

    #[test]
    fn a_long_rest_is_no_credit() {
        let mut pace = Pace::new(200);
        assert!(pace.take(Duration::ZERO));
        let starts = starts(&mut pace, Duration::from_secs(3600), 1000 * MS, MS);
        assert!(starts.len() <= 200);
        assert!(starts[3] > starts[0], "four starts at once after a rest");
    }

    #[test]
    fn a_throttle_answer_halves_once_and_the_pace_recovers_by_steps() {
        let mut pace = Pace::new(200);
        let now = Duration::from_secs(10);
        for _ in 0..50 {
            pace.throttled(now - 5 * MS, now);
        }
        assert!((pace.rate() - 100.0).abs() < 1e-9, "{}", pace.rate());
        pace.throttled(now + 1500 * MS, now + 1500 * MS);
        assert!((pace.rate() - 50.0).abs() < 1e-9);
        let mut before = pace.rate();
        for second in 3..18 {
            pace.take(now + Duration::from_secs(second));
            assert!(pace.rate() >= before && pace.rate() - before <= 20.0 + 1e-9);
            before = pace.rate();
        }
        pace.take(now + Duration::from_secs(40));
        assert!((pace.rate() - 200.0).abs() < 1e-9);
    }

    #[test]
    fn it_never_stops_altogether() {
        let mut pace = Pace::new(200);
        for second in 0..60 {
            pace.throttled(Duration::from_secs(second), Duration::from_secs(second));
        }
        assert!((pace.rate() - SLOWEST).abs() < 1e-9);
        assert!(pace.next() <= Duration::from_secs(61));
    }

    #[test]
    fn a_lower_limit_counts_at_once() {
        let mut pace = Pace::new(200);
        pace.set_limit(10);
        assert_eq!(starts(&mut pace, Duration::ZERO, 1000 * MS, MS).len(), 10);
        pace.throttled(Duration::from_secs(2), Duration::from_secs(2));
        pace.set_limit(200);
        assert!(pace.rate() < 10.0);
    }
}
