//! The clock that the right to act is measured by.
//!
//! It goes on while the machine sleeps. `std::time::Instant` stands still then on Linux, so that a Lease which has expired
//! meanwhile would seem to be valid after the machine wakes up.

use roomrobot_core::right::Moment;
use std::time::Duration;

/// The present moment.
#[must_use]
pub fn now() -> Moment {
    Moment::new(since_start())
}

/// Since the machine has been started, the time that it has slept included.
#[cfg(target_os = "linux")]
fn since_start() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(time).unwrap_or_default()
}

/// Since this was first asked for: elsewhere only the kubectl plugin runs, which holds no Lease.
#[cfg(not(target_os = "linux"))]
fn since_start() -> Duration {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_on_and_counts_the_time_that_the_machine_has_slept() {
        let (first, up) = (now(), std::fs::read_to_string("/proc/uptime").unwrap());
        let second = now();
        assert!(first <= second);
        // The kernel tells the same: the time since the start, sleep included, in hundredths of a second.
        let up = Duration::from_secs_f64(up.split_whitespace().next().unwrap().parse().unwrap());
        let hundredth = Duration::from_millis(10);
        assert!(first.since_start() <= up + hundredth && up <= second.since_start() + hundredth, "{up:?}");
    }
}
