//! The right to act: what the election tells, as inputs for the engine.
//!
//! Pure. One [`Until`] is shared with the calls that are about to be sent: what ends here ends there, too.

use crate::engine::{Before, Input};
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

    /// How long ago the clock began.
    #[must_use]
    pub const fn since_start(self) -> Duration {
        self.0
    }
}

/// Until when this process may act; shared with calls that are about to be sent. Without a limit, always.
#[derive(Clone, Debug, Default)]
pub struct Until(Arc<Mutex<Option<Moment>>>);

impl Until {
    /// From now on it may act until then.
    pub fn set(&self, until: Option<Moment>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// Whether it may not act any more at the moment `now`.
    #[must_use]
    pub fn passed_at(&self, now: Moment) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| now >= until)
    }
}

/// Where a replica stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Another replica leads, or nobody: also where this one led, and could not keep its Lease.
    Standby,
    /// This one leads.
    Leading {
        /// For this long at least.
        until: Moment,
        /// Who led before.
        before: Before,
        /// Counts up each time that this one has lost its Lease.
        term: u32,
    },
}

/// Until when this process may act.
#[derive(Debug, Default)]
pub struct Right {
    until: Until,
    /// How often the Lease had been lost when this process was last elected.
    term: u32,
}

impl Right {
    /// The end of the right, for calls that are about to be sent.
    #[must_use]
    pub fn until(&self) -> Until {
        self.until.clone()
    }

    /// Where nobody is elected, it never ends.
    pub fn take_for_ever(&mut self) -> Input {
        self.until.set(None);
        Input::Leading(Before::Unknown)
    }

    /// What follows from news of the election, for an engine that is `elected` or not.
    pub fn stand(&mut self, standing: Standing, elected: bool, now: Moment) -> Vec<Input> {
        match standing {
            Standing::Leading { until, before, term } => {
                // It may have lost the Lease and got it again before this was looked at.
                let lost = std::mem::replace(&mut self.term, term) != term && elected;
                self.until.set(Some(until));
                let leads = (!elected || lost).then_some(Input::Leading(before));
                lost.then_some(Input::Lost).into_iter().chain(leads).collect()
            }
            Standing::Standby => self.end(elected, now).into_iter().collect(),
        }
    }

    /// What follows from the time alone: a process that was stopped for a while wakes up here.
    pub fn pass(&mut self, elected: bool, now: Moment) -> Option<Input> {
        if self.until.passed_at(now) { self.end(elected, now) } else { None }
    }

    /// Another replica may act now.
    fn end(&mut self, elected: bool, now: Moment) -> Option<Input> {
        elected.then(|| {
            // For calls that are about to be sent, or wait for their connection.
            self.until.set(Some(now));
            Input::Lost
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::new(Duration::from_secs(seconds))
    }

    fn leading(until: u64, term: u32) -> Standing {
        Standing::Leading { until: at(until), before: Before::Finished, term }
    }

    #[test]
    fn who_leads_begins_once_and_goes_on_until_the_lease_ends() {
        let mut right = Right::default();
        let until = right.until();
        assert!(matches!(right.stand(leading(12, 0), false, at(1))[..], [Input::Leading(Before::Finished)]));
        assert!(right.stand(leading(16, 0), true, at(4)).is_empty(), "renewed");
        assert!(right.pass(true, at(15)).is_none() && !until.passed_at(at(15)));
        assert!(matches!(right.pass(true, at(16)), Some(Input::Lost)));
        assert!(right.pass(false, at(17)).is_none(), "told once");
        assert!(until.passed_at(at(16)));
    }

    #[test]
    fn a_lease_that_was_lost_and_got_again_meanwhile_begins_anew() {
        let mut right = Right::default();
        assert_eq!(right.stand(leading(12, 0), false, at(1)).len(), 1);
        assert!(matches!(right.stand(leading(40, 1), true, at(30))[..], [Input::Lost, Input::Leading(_)]));
    }

    #[test]
    fn a_lease_that_is_lost_ends_calls_at_once() {
        let mut right = Right::default();
        let until = right.until();
        assert_eq!(right.stand(leading(12, 0), false, at(1)).len(), 1);
        assert!(matches!(right.stand(Standing::Standby, true, at(2))[..], [Input::Lost]));
        assert!(until.passed_at(at(2)));
        assert!(right.stand(Standing::Standby, false, at(3)).is_empty());
    }

    #[test]
    fn without_an_election_the_right_never_ends() {
        let mut right = Right::default();
        assert!(matches!(right.take_for_ever(), Input::Leading(Before::Unknown)));
        assert!(right.pass(true, at(u64::MAX)).is_none());
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
