//! The clock that the right to act is measured by.
//!
//! It goes on while the machine sleeps. `std::time::Instant` stands still then on Linux, so that a Lease which has expired
//! meanwhile would seem to be valid after the machine wakes up.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// A moment of this machine's clock. Those of two machines cannot be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// The moment this long after the clock began.
    #[must_use]
    pub const fn new(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// The present moment.
    #[must_use]
    pub fn now() -> Self {
        Self(since_start())
    }

    /// How long ago the clock began.
    #[must_use]
    pub const fn since_start(self) -> Duration {
        self.0
    }
}

/// Since the machine has been started, the time that it has slept included.
#[cfg(target_os = "linux")]
fn since_start() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
}

/// Since this was first asked for: elsewhere only the kubectl plugin runs, which holds no Lease.
#[cfg(not(target_os = "linux"))]
fn since_start() -> Duration {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}

/// Until when this process may act; shared with calls that are about to be sent. Without a limit, always.
#[derive(Clone, Debug, Default)]
pub struct Until(Arc<Mutex<Option<Moment>>>);

impl Until {
    /// From now on it may act until then.
    pub fn set(&self, until: Option<Moment>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// Whether it may not act any more.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.passed_at(Moment::now())
    }

    /// As [`Until::passed`], at the moment `now`.
    #[must_use]
    pub fn passed_at(&self, now: Moment) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| now >= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_on_and_counts_the_time_that_the_machine_has_slept() {
        let (first, up) = (Moment::now(), std::fs::read_to_string("/proc/uptime").unwrap());
        let second = Moment::now();
        assert!(first <= second);
        // The kernel tells the same: the time since the start, sleep included, in hundredths of a second.
        let up = Duration::from_secs_f64(up.split_whitespace().next().unwrap().parse().unwrap());
        let hundredth = Duration::from_millis(10);
        assert!(first.since_start() <= up + hundredth && up <= second.since_start() + hundredth, "{up:?}");
    }

    #[test]
    fn the_right_to_act_ends_when_its_clock_jumps_over_the_end() {
        let at = |seconds| Moment::new(Duration::from_secs(seconds));
        let until = Until::default();
        assert!(!until.passed_at(at(u64::MAX)), "without a Lease it never ends");
        until.set(Some(at(112)));
        let shared = until.clone();
        assert!(!shared.passed_at(at(100)));
        assert!(!shared.passed_at(at(111)));
        // The machine slept for an hour.
        assert!(shared.passed_at(at(3_711)));
        assert!(shared.passed_at(at(112)), "the end itself is too late");
        until.set(Some(at(4_000)));
        assert!(!shared.passed_at(at(3_711)));
    }
}
