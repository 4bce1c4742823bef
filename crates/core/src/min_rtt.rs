//! The time of the quickest of the last answers: how long a request takes where nothing holds it up. Pure.

use std::time::Duration;

/// The quickest answer of a span and of the one before, so that one which is long past does not count for ever.
#[derive(Clone, Debug)]
pub struct MinRtt {
    length: Duration,
    /// When this span began.
    since: Duration,
    /// The time of the quickest answer, and of how many it is: in this span, and in the one before.
    spans: [(Duration, u32); 2],
}

impl MinRtt {
    const NONE: (Duration, u32) = (Duration::MAX, 0);

    /// Nothing is known yet; an answer counts for `length`, and for as long again at most.
    #[must_use]
    pub const fn within(length: Duration) -> Self {
        Self { length, since: Duration::ZERO, spans: [Self::NONE; 2] }
    }

    /// An answer that came at `now` had taken `took`.
    pub fn learn(&mut self, took: Duration, now: Duration) {
        let age = now.saturating_sub(self.since);
        if age >= self.length {
            let [this, _] = self.spans;
            self.spans = [Self::NONE, if age < 2 * self.length { this } else { Self::NONE }];
            self.since = now;
        }
        let [(quickest, of), _] = &mut self.spans;
        *quickest = took.min(*quickest);
        *of += 1;
    }

    /// The time of the quickest answer; [`Duration::MAX`] where there was none.
    #[must_use]
    pub fn took(&self) -> Duration {
        let [(this, _), (before, _)] = self.spans;
        this.min(before)
    }

    /// Of how many answers it is the quickest.
    #[must_use]
    pub const fn of(&self) -> u32 {
        let [(_, this), (_, before)] = self.spans;
        this + before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_answer_counts_in_its_span_and_in_the_next() {
        let mut quickest = MinRtt::within(1000 * MS);
        assert_eq!((quickest.took(), quickest.of()), (Duration::MAX, 0));
        quickest.learn(30 * MS, 1000 * MS);
        quickest.learn(50 * MS, 1999 * MS);
        assert_eq!((quickest.took(), quickest.of()), (30 * MS, 2));
        quickest.learn(40 * MS, 2000 * MS);
        assert_eq!((quickest.took(), quickest.of()), (30 * MS, 3), "that of the span before");
        quickest.learn(60 * MS, 3000 * MS);
        assert_eq!((quickest.took(), quickest.of()), (40 * MS, 2), "which is forgotten then");
        quickest.learn(65 * MS, 5000 * MS);
        assert_eq!((quickest.took(), quickest.of()), (65 * MS, 1), "and both after a rest");
        quickest.learn(70 * MS, 9000 * MS);
        assert_eq!((quickest.took(), quickest.of()), (70 * MS, 1), "however long that was");
    }
}
