//! What stands in the way of the writes to one object, and when they are tried again. Pure.

use std::time::Duration;

/// The wait after the first failed write, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// The most characters that are kept of the words with which the API server refuses a write.
const MOST_WORDS: usize = 1000;

/// The wait after failed write number `failures` of an object: doubling, and spread by `jitter` over 0..1.
pub(crate) fn retry_delay(failures: u32, jitter: f64) -> Duration {
    let (first, longest) = RETRY;
    first.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(longest).mul_f64(0.5 + jitter / 2.0)
}

/// What is written to an object; each is tried again for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The finalizer, put on or taken off.
    Finalizer,
    /// The status.
    Status,
}

impl Part {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Finalizer, Self::Status];
}

/// The writes of one part that failed.
#[derive(Clone, Debug)]
struct Failures {
    /// How many in a row.
    count: u32,
    /// Not tried again before this time.
    not_before: Duration,
    /// With what words the cluster refuses it; a person has to act.
    refused: Option<Box<str>>,
}

impl Failures {
    const NONE: Self = Self { count: 0, not_before: Duration::ZERO, refused: None };
}

/// The failures of both parts; nearly no object has any.
#[derive(Clone, Debug, Default)]
pub struct WriteTrouble(Option<Box<[Failures; 2]>>);

impl WriteTrouble {
    fn of(&self, part: Part) -> &Failures {
        static NONE: Failures = Failures::NONE;
        self.0.as_deref().and_then(|both| both.get(part as usize)).unwrap_or(&NONE)
    }

    /// Changes the failures of `part`; what is as if nothing had failed is not kept.
    fn change<T>(&mut self, part: Part, change: impl FnOnce(&mut Failures) -> T) -> Option<T> {
        let both = self.0.get_or_insert_with(|| Box::new([Failures::NONE, Failures::NONE]));
        let result = both.get_mut(part as usize).map(change);
        self.0.take_if(|both| both.iter().all(|failures| failures.count == 0 && failures.refused.is_none()));
        result
    }

    /// Whether nothing stands in the way.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// How many writes of this part failed in a row.
    #[must_use]
    pub fn failures(&self, part: Part) -> u32 {
        self.of(part).count
    }

    /// No write of this part before this time.
    #[must_use]
    pub fn not_before(&self, part: Part) -> Duration {
        self.of(part).not_before
    }

    /// With what words the cluster refuses to write this part.
    #[must_use]
    pub fn refused(&self, part: Part) -> Option<&str> {
        self.of(part).refused.as_deref()
    }

    /// A write of this part failed.
    pub fn fail(&mut self, part: Part, now: Duration, jitter: f64) {
        self.change(part, |failures| {
            failures.count = failures.count.saturating_add(1);
            failures.not_before = now + retry_delay(failures.count, jitter);
        });
    }

    /// The cluster refused it, with these words. True where it did not before.
    pub fn refuse(&mut self, part: Part, words: &str) -> bool {
        let words: String = words.chars().take(MOST_WORDS).collect();
        self.change(part, |failures| failures.refused.replace(words.into()).is_none()).unwrap_or_default()
    }

    /// A write of this part got through, or none is needed any more.
    pub fn clear(&mut self, part: Part) {
        if !self.is_none() {
            self.change(part, |failures| *failures = Failures::NONE);
        }
    }

    /// What is to be written of this part now is something new: it is tried at once.
    pub fn renew(&mut self, part: Part) {
        if !self.is_none() {
            self.change(part, |failures| (failures.count, failures.not_before) = (0, Duration::ZERO));
        }
    }

    /// Whatever stood in the way may be gone.
    pub fn try_at_once(&mut self) {
        for failures in self.0.iter_mut().flat_map(|both| both.iter_mut()) {
            failures.not_before = Duration::ZERO;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_writes_wait_longer_each_time_up_to_half_a_minute() {
        assert_eq!(retry_delay(1, 1.0), Duration::from_millis(100));
        assert_eq!(retry_delay(3, 1.0), Duration::from_millis(400));
        assert_eq!(retry_delay(u32::MAX, 1.0), Duration::from_secs(30));
        assert_eq!(retry_delay(1, 0.0), Duration::from_millis(50));
    }

    #[test]
    fn each_part_is_tried_again_for_itself() {
        let mut trouble = WriteTrouble::default();
        let now = Duration::from_secs(10);
        trouble.fail(Part::Status, now, 1.0);
        trouble.fail(Part::Status, now, 1.0);
        assert_eq!((trouble.failures(Part::Status), trouble.failures(Part::Finalizer)), (2, 0));
        assert_eq!(trouble.not_before(Part::Status), now + Duration::from_millis(200));
        assert_eq!(trouble.not_before(Part::Finalizer), Duration::ZERO);
        assert!(trouble.refuse(Part::Finalizer, "a policy") && !trouble.refuse(Part::Finalizer, "another"));
        assert_eq!(
            (trouble.refused(Part::Finalizer), trouble.refused(Part::Status)),
            (Some("another"), None)
        );
        trouble.try_at_once();
        assert_eq!((trouble.failures(Part::Status), trouble.not_before(Part::Status)), (2, Duration::ZERO));
        trouble.clear(Part::Status);
        assert!(!trouble.is_none());
        trouble.clear(Part::Finalizer);
        assert!(trouble.is_none());
    }

    #[test]
    fn what_is_tried_anew_stands_in_nobody_s_way_unless_it_is_refused() {
        let mut trouble = WriteTrouble::default();
        trouble.fail(Part::Status, Duration::from_secs(10), 1.0);
        trouble.renew(Part::Status);
        assert!(trouble.is_none());
        trouble.refuse(Part::Status, "a policy");
        trouble.renew(Part::Status);
        assert_eq!(trouble.refused(Part::Status), Some("a policy"));
    }

    #[test]
    fn a_thousand_characters_of_a_refusal_are_kept() {
        let mut trouble = WriteTrouble::default();
        trouble.refuse(Part::Status, &"é".repeat(2000));
        assert_eq!(trouble.refused(Part::Status).map(|words| words.chars().count()), Some(1000));
    }
}
