//! How long a robot waits after an answer that was not final. Pure; the waits live in memory only.

use crate::codes::{Class, Wait};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// The shortest wait: full jitter alone would allow none at all.
const SHORTEST: Duration = Duration::from_millis(200);

/// The wait before attempt `attempts + 1`, where `attempts` answers of this kind came in a row (1 for the first).
/// `jitter` is even over 0..1.
///
/// Waits that are not the robot's own, such as a throttled application's, are zero: the pace has them.
#[must_use]
pub fn delay(class: Class, attempts: u32, jitter: f64) -> Duration {
    let grown = |from: Duration, to: Duration| {
        from.saturating_mul(1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX).max(1)).min(to)
    };
    match class.rule().wait {
        Wait::Seconds => grown(SECOND, 5 * MINUTE).mul_f64(jitter).max(SHORTEST),
        // One that is refused for what its application may not do is asked for again less often than others are tried.
        Wait::Minutes => spread(grown(MINUTE, 10 * MINUTE), jitter),
        Wait::Hour => spread(60 * MINUTE, jitter),
        Wait::Nothing => Duration::ZERO,
    }
}

/// `wait` give or take a tenth, so that what failed together does not come back together.
fn spread(wait: Duration, jitter: f64) -> Duration {
    wait.mul_f64(0.9 + 0.2 * jitter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_grow_from_a_second_to_five_minutes() {
        let longest: Vec<u64> = (1..12).map(|n| delay(Class::Retry, n, 1.0).as_secs()).collect();
        assert_eq!(longest, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(delay(Class::Retry, u32::MAX, 1.0), 5 * MINUTE);
        assert_eq!(delay(Class::Retry, 1, 0.0), SHORTEST);
        assert_eq!(delay(Class::Retry, 5, 0.5), 8 * SECOND);
    }

    #[test]
    fn unknown_and_later_take_minutes_and_what_a_person_must_mend_an_hour() {
        for class in [Class::Unknown, Class::Later, Class::Permission, Class::Plan] {
            let middle: Vec<u64> = (1..7).map(|n| delay(class, n, 0.5).as_secs()).collect();
            assert_eq!(middle, [60, 120, 240, 480, 600, 600]);
        }
        for class in [Class::Invalid, Class::RobotPermission] {
            assert!(delay(class, 1, 0.0) >= 54 * MINUTE && delay(class, 9, 1.0) <= 66 * MINUTE);
        }
    }

    #[test]
    fn what_is_the_applications_is_not_waited_for_by_the_robot() {
        for class in [Class::Throttled, Class::Credentials, Class::Expired] {
            assert_eq!(delay(class, 3, 0.5), Duration::ZERO);
        }
    }
}
