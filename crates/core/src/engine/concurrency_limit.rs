//! How many writes may be under way at once: as many as the API server answers soon. Pure.
//!
//! A write beyond what the API server can do at once makes nothing quicker. It waits there, where nobody can pass it,
//! and a single deletion waits behind it.

use crate::min_rtt::MinRtt;
use std::time::Duration;

/// Answers within this time are soon enough, however quick the API server can be.
const LATENCY_TARGET: Duration = Duration::from_millis(25);

/// So are answers within this many times the quickest one: an API server that is far away is not a busy one.
const MAX_RTT_RATIO: u32 = 2;

/// The quickest answer counts for this long, and for as long again.
const MIN_RTT_OF: Duration = Duration::from_secs(10);

/// Never fewer than this: one that hangs must not keep the others waiting.
const LEAST: f64 = 4.0;

/// The most that one look takes away.
const SHRINK: f64 = 0.7;

/// A limit that follows the time of the answers.
#[derive(Debug)]
pub(super) struct ConcurrencyLimit {
    most: f64,
    size: f64,
    /// Answers since the last look, and the time that they took together.
    answers: u32,
    took: Duration,
    min_rtt: MinRtt,
}

impl ConcurrencyLimit {
    /// A limit of at most `most`.
    pub(super) fn new(most: usize) -> Self {
        let most = f64::from(u32::try_from(most).unwrap_or(u32::MAX));
        let min_rtt = MinRtt::within(MIN_RTT_OF);
        Self { most, size: LEAST.min(most), answers: 0, took: Duration::ZERO, min_rtt }
    }

    /// How many writes may be under way now.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to what was a usize")]
    pub(super) const fn size(&self) -> usize {
        self.size as usize
    }

    /// A write took `took` until `now`; it was `stored`, or failed somehow; others are `waiting` for their turn.
    pub(super) fn answered(&mut self, took: Duration, stored: bool, waiting: bool, now: Duration) {
        if !stored {
            // It waits longer each time by itself, and says nothing about the others.
            return;
        }
        self.min_rtt.learn(took, now);
        self.answers += 1;
        self.took += took;
        // As many as are under way, so that each look sees what followed from the one before.
        if f64::from(self.answers) < self.size {
            return;
        }
        let soon = LATENCY_TARGET.max(self.min_rtt.took().saturating_mul(MAX_RTT_RATIO)).as_secs_f64();
        let mean = self.took.as_secs_f64() / f64::from(self.answers);
        (self.answers, self.took) = (0, Duration::ZERO);
        if mean > soon {
            self.size = (self.size * (soon / mean).max(SHRINK)).max(LEAST.min(self.most));
        } else if waiting {
            self.size = (self.size + 1.0).min(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// An API server that needs `alone` for a write, and does `at_once` of them at a time: drains through it for `span`,
    /// and returns the writes that were done and the time that each took at the end.
    fn drain(
        limit: &mut ConcurrencyLimit,
        from: Duration,
        span: Duration,
        alone: Duration,
        at_once: u32,
    ) -> (u32, Duration) {
        let (mut now, mut done, mut took) = (from, 0, Duration::ZERO);
        while now < from + span {
            let under_way = u32::try_from(limit.size()).unwrap();
            let busy = under_way.div_ceil(at_once).max(1);
            took = alone * busy;
            now += took;
            for place in 0..under_way {
                // The first of them do not wait for the others.
                limit.answered(alone * (place / at_once + 1), true, true, now);
                done += 1;
            }
        }
        (done, took)
    }

    #[test]
    fn a_slow_api_server_is_used_fully_and_a_write_takes_little_longer_than_alone() {
        let mut limit = ConcurrencyLimit::new(32);
        let (done, took) = drain(&mut limit, Duration::ZERO, 20_000 * MS, 12 * MS, 2);
        let most = 20_000 / 12 * 2;
        // An odd number of writes leaves this API server idle for a part of its last round.
        assert!(done >= most * 94 / 100, "{done} of {most} writes");
        assert!(took <= 60 * MS, "a write takes {took:?}");
        assert!(limit.size() < 20, "{} under way", limit.size());
    }

    #[test]
    fn a_quick_api_server_gets_as_many_as_are_allowed() {
        let mut limit = ConcurrencyLimit::new(32);
        drain(&mut limit, Duration::ZERO, 2_000 * MS, 5 * MS, 64);
        assert_eq!(limit.size(), 32);
    }

    #[test]
    fn an_api_server_that_is_far_away_is_not_taken_for_a_busy_one() {
        let mut limit = ConcurrencyLimit::new(32);
        drain(&mut limit, Duration::ZERO, 30_000 * MS, 300 * MS, 64);
        assert_eq!(limit.size(), 32);
    }

    #[test]
    fn an_api_server_that_has_become_slow_is_pressed_less_and_used_again_when_it_is_quick() {
        let mut limit = ConcurrencyLimit::new(32);
        drain(&mut limit, Duration::ZERO, 2_000 * MS, 5 * MS, 64);
        drain(&mut limit, 2_000 * MS, 5_000 * MS, 40 * MS, 1);
        assert_eq!(limit.size(), 4, "as few as it ever gets");
        drain(&mut limit, 60_000 * MS, 2_000 * MS, 5 * MS, 64);
        assert_eq!(limit.size(), 32);
    }

    #[test]
    fn a_window_that_is_not_used_does_not_grow() {
        let mut limit = ConcurrencyLimit::new(32);
        for n in 0..1_000 {
            limit.answered(5 * MS, true, false, n * 100 * MS);
        }
        assert_eq!(limit.size(), 4);
    }

    /// An answer after just the time that is soon enough is soon enough.
    #[test]
    fn a_window_grows_by_one_with_each_round_of_answers() {
        let mut limit = ConcurrencyLimit::new(32);
        let mut sizes = Vec::new();
        for n in 0..9 {
            limit.answered(LATENCY_TARGET, true, true, n * LATENCY_TARGET);
            sizes.push(limit.size());
        }
        assert_eq!(sizes, [4, 4, 4, 5, 5, 5, 5, 5, 6]);
    }

    #[test]
    fn one_at_a_time_stays_one_at_a_time() {
        let mut limit = ConcurrencyLimit::new(1);
        assert_eq!(limit.size(), 1);
        drain(&mut limit, Duration::ZERO, 1_000 * MS, 5 * MS, 1);
        drain(&mut limit, 1_000 * MS, 5_000 * MS, 500 * MS, 1);
        assert_eq!(limit.size(), 1);
    }
}
