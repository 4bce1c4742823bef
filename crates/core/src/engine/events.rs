//! Which Events are published. They are best effort: beyond their budget the log line stands alone.

use std::time::Duration;

/// What an Event tells of, for its share of the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    /// A deletion that is over; thousands of them may come at once.
    Ended,
    /// What else goes as it should.
    News,
    /// What does not.
    Warning,
}

/// How many Events were published in this second.
#[derive(Debug, Default)]
pub(super) struct Events {
    used: [Budget; 3],
}

/// Ten Events a second.
#[derive(Clone, Copy, Debug, Default)]
struct Budget {
    second: u64,
    used: u32,
}

impl Budget {
    const EVENTS_PER_SECOND: u32 = 10;

    fn take(&mut self, now: Duration) -> bool {
        if self.second != now.as_secs() {
            *self = Self { second: now.as_secs(), used: 0 };
        }
        self.used += 1;
        self.used <= Self::EVENTS_PER_SECOND
    }
}

impl Events {
    /// Whether one more Event of this topic is published.
    pub(super) fn take(&mut self, topic: Topic, now: Duration) -> bool {
        self.used.get_mut(topic as usize).is_some_and(|budget| budget.take(now))
    }
}
